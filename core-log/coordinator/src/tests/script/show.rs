//! Records and replies as one line each.

use std::fmt::Write as _;

use bytes::Bytes;
use bytestring::ByteString;
use highwater_types::Uuid;
use highwater_wire::messages::ConsumerProtocolAssignment;
use highwater_wire::messages::consumer_group_describe_response::Assignment;
use highwater_wire::{ErrorCode, FrameReader, Message, ResponseBody};

use crate::CoordinatorRecord;
use crate::consumer::records::{Change, decode};
use crate::records::codec::Reader;
use crate::records::{GroupMetadataValue, OffsetCommitValue, RecordKey};
use crate::subscription::subscribed_topics;

use super::topics::name_of;
use super::{SEED_PREFIX, WALL_ORIGIN};

pub(super) fn shorten(id: &str) -> String {
    match id.split_once(SEED_PREFIX) {
        Some((client, number)) => format!("{client}~{}", number.trim_start_matches('0')),
        None => id.to_owned(),
    }
}

fn show(bytes: &Bytes) -> String {
    if let Some(assignment) = show_assignment(bytes) {
        return assignment;
    }
    match subscribed_topics(bytes) {
        Ok(topics) => format!(
            "@{}",
            topics
                .iter()
                .map(|topic| topic.to_string())
                .collect::<Vec<_>>()
                .join("+")
        ),
        Err(_) => String::from_utf8_lossy(bytes).into_owned(),
    }
}

/// A consumer's assignment, if the bytes are one to the last.
fn show_assignment(bytes: &Bytes) -> Option<String> {
    let mut reader = FrameReader::new(bytes.clone());
    reader.i16().ok()?;
    let assignment = ConsumerProtocolAssignment::decode(&mut reader, 1).ok()?;
    reader.finish().ok()?;
    let topics = assignment.assigned_partitions.iter();
    let partitions = topics.flat_map(|topic| topic.partitions.iter().map(|p| format!("{}-{p}", topic.topic)));
    Some(format!("={}", partitions.collect::<Vec<_>>().join("+")))
}

fn show_partitions(partitions: impl Iterator<Item = (Uuid, i32)>) -> String {
    let named: Vec<_> = partitions
        .map(|(topic, partition)| format!("{}-{partition}", name_of(topic)))
        .collect();
    match named.is_empty() {
        true => "none".to_owned(),
        false => named.join(","),
    }
}

fn show_change(group_id: &str, change: &Change) -> String {
    let named = |names: &std::collections::BTreeSet<ByteString>| {
        names
            .iter()
            .map(|name| name.to_string())
            .collect::<Vec<_>>()
            .join(",")
    };
    let text = match change {
        Change::Group(Some(value)) => format!("epoch={}", value.epoch),
        Change::Group(None) => "consumer group deleted".to_owned(),
        Change::SubscriptionMetadata => "subscription metadata".to_owned(),
        Change::Member(member, None) => format!("member {} deleted", shorten(member)),
        Change::Member(member, Some(value)) => {
            let mut line = format!("member {}", shorten(member));
            if let Some(instance) = &value.instance_id {
                let _ = write!(line, "({instance})");
            }
            let names = match value.topic_names.is_empty() && value.topic_regex.is_none() {
                true => "nothing".to_owned(),
                false => named(&value.topic_names),
            };
            let _ = write!(line, " reads {names}");
            if let Some(regex) = &value.topic_regex {
                let _ = write!(line, " /{regex}/");
            }
            if let Some(classic) = &value.classic {
                let _ = write!(line, " classic {}", classic.protocols[0].0);
            }
            line
        }
        Change::TargetEpoch(Some(epoch)) => format!("target epoch={epoch}"),
        Change::TargetEpoch(None) => "target epoch deleted".to_owned(),
        Change::Target(member, Some(target)) => {
            format!("target {} = {}", shorten(member), show_partitions(target.iter()))
        }
        Change::Target(member, None) => format!("target {} deleted", shorten(member)),
        Change::Current(member, Some(current)) => {
            let mut line = format!(
                "current {} epoch={} {:?} {}",
                shorten(member),
                current.epoch,
                current.state,
                show_partitions(current.assigned.iter())
            );
            if !current.revoking.is_empty() {
                let _ = write!(line, " revoking {}", show_partitions(current.revoking.iter()));
            }
            line
        }
        Change::Current(member, None) => format!("current {} deleted", shorten(member)),
        Change::Regex(regex, Some(topics)) => format!("regex /{regex}/ = {}", named(topics)),
        Change::Regex(regex, None) => format!("regex /{regex}/ deleted"),
    };
    format!("record {group_id} {text}")
}

pub(super) fn show_record(record: &CoordinatorRecord) -> String {
    match (
        RecordKey::decode(record.key.clone()).unwrap(),
        record.value.clone(),
    ) {
        (RecordKey::OffsetCommit(key), None) => {
            format!("record {} {}-{} deleted", key.group, key.topic, key.partition)
        }
        (RecordKey::OffsetCommit(key), Some(value)) => {
            let value = OffsetCommitValue::decode(value).unwrap();
            let mut line = format!(
                "record {} {}-{} = {}",
                key.group, key.topic, key.partition, value.offset
            );
            if let Some(epoch) = value.leader_epoch {
                let _ = write!(line, " epoch={epoch}");
            }
            if !value.metadata.is_empty() {
                let _ = write!(line, " metadata={}", abbreviated(&value.metadata));
            }
            if let Some(expiry) = value.expire_timestamp {
                let _ = write!(line, " expires={}", expiry.get() - WALL_ORIGIN);
            }
            line
        }
        (RecordKey::Consumer { version, rest }, value) => {
            let (group_id, change) = decode(version, &mut Reader::new(rest), value).unwrap();
            show_change(&group_id, &change)
        }
        (RecordKey::GroupMetadata(key), None) => format!("record {} deleted", key.group),
        (RecordKey::GroupMetadata(key), Some(value)) => {
            let value = GroupMetadataValue::decode(value).unwrap();
            let members: Vec<_> = value
                .members
                .iter()
                .map(|member| {
                    let instance = member.group_instance_id.as_ref().map(|id| format!("({id})"));
                    let id = shorten(&member.member_id);
                    format!(
                        "{id}{}={}",
                        instance.unwrap_or_default(),
                        show(&member.assignment)
                    )
                })
                .collect();
            let protocol = value.protocol.as_deref().unwrap_or("-");
            format!(
                "record {} gen={} {}/{protocol} leader={} [{}]",
                key.group,
                value.generation,
                value.protocol_type,
                value.leader.as_deref().map_or_else(|| "-".into(), shorten),
                members.join(" "),
            )
        }
    }
}

fn abbreviated(text: &str) -> String {
    if text.len() > 40 {
        format!("<{} bytes>", text.len())
    } else {
        text.to_owned()
    }
}

fn error(code: i16) -> String {
    format!("{:?}", ErrorCode::from_code(code))
}

pub(super) fn show_reply(body: &ResponseBody) -> String {
    match body {
        ResponseBody::JoinGroup(r) if r.error_code != 0 => {
            format!("{} member={}", error(r.error_code), shorten(&r.member_id))
        }
        ResponseBody::JoinGroup(r) => {
            let members: Vec<_> = r
                .members
                .iter()
                .map(|member| format!("{}:{}", shorten(&member.member_id), show(&member.metadata)))
                .collect();
            let mut line = format!(
                "joined gen={} {}/{} member={} leader={}",
                r.generation_id,
                r.protocol_type.as_deref().unwrap_or("-"),
                r.protocol_name.as_deref().unwrap_or("-"),
                shorten(&r.member_id),
                shorten(&r.leader),
            );
            if !members.is_empty() {
                let _ = write!(line, " [{}]", members.join(" "));
            }
            if r.skip_assignment {
                line.push_str(" skip-assignment");
            }
            line
        }
        ResponseBody::SyncGroup(r) if r.error_code != 0 => error(r.error_code),
        ResponseBody::SyncGroup(r) => format!(
            "synced {}/{} assignment={}",
            r.protocol_type.as_deref().unwrap_or("-"),
            r.protocol_name.as_deref().unwrap_or("-"),
            show(&r.assignment),
        ),
        ResponseBody::Heartbeat(r) => error(r.error_code),
        ResponseBody::ConsumerGroupHeartbeat(r) if r.error_code != 0 => error(r.error_code),
        ResponseBody::ConsumerGroupHeartbeat(r) => {
            let member = shorten(r.member_id.as_deref().unwrap_or_default());
            let mut line = format!("member={member} epoch={}", r.member_epoch);
            if let Some(assignment) = &r.assignment {
                let topics = assignment.topic_partitions.iter();
                let partitions = topics.flat_map(|topic| {
                    topic
                        .partitions
                        .iter()
                        .map(|partition| (topic.topic_id, *partition))
                });
                let _ = write!(line, " owns {}", show_partitions(partitions));
            }
            line
        }
        ResponseBody::ConsumerGroupDescribe(r) => {
            let groups = r.groups.iter().map(|group| {
                let members = group.members.iter().map(|member| {
                    let count = |assignment: &Assignment| -> usize {
                        assignment
                            .topic_partitions
                            .iter()
                            .map(|topic| topic.partitions.len())
                            .sum()
                    };
                    format!(
                        " {}:epoch={} type={} owns {} of {}",
                        shorten(&member.member_id),
                        member.member_epoch,
                        member.member_type,
                        count(&member.assignment),
                        count(&member.target_assignment),
                    )
                });
                format!(
                    "{} {} {} epoch={}/{} {}{}",
                    group.group_id,
                    error(group.error_code),
                    group.group_state,
                    group.assignment_epoch,
                    group.group_epoch,
                    group.assignor_name,
                    members.collect::<String>(),
                )
            });
            groups.collect::<Vec<_>>().join(", ")
        }
        ResponseBody::LeaveGroup(r) => {
            let members = r.members.iter().map(|member| {
                let instance = member.group_instance_id.as_ref().map(|id| format!("@{id}"));
                let id = instance.unwrap_or_else(|| shorten(&member.member_id));
                format!(" {id}:{}", error(member.error_code))
            });
            format!("{}{}", error(r.error_code), members.collect::<String>())
        }
        ResponseBody::OffsetCommit(r) => {
            let partitions = r.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|partition| {
                    format!(
                        "{}-{}:{}",
                        topic.name,
                        partition.partition_index,
                        error(partition.error_code)
                    )
                })
            });
            partitions.collect::<Vec<_>>().join(" ")
        }
        ResponseBody::OffsetFetch(r) => show_fetch(r),
        ResponseBody::DescribeGroups(r) => {
            let groups = r.groups.iter().map(|group| {
                let members = group.members.iter().map(|member| {
                    format!(
                        " {}:{}={}",
                        shorten(&member.member_id),
                        show(&member.member_metadata),
                        show(&member.member_assignment),
                    )
                });
                let state = if group.group_state.is_empty() {
                    "-"
                } else {
                    &*group.group_state
                };
                format!(
                    "{} {} {state} {}/{}{}",
                    group.group_id,
                    error(group.error_code),
                    group.protocol_type,
                    group.protocol_data,
                    members.collect::<String>(),
                )
            });
            groups.collect::<Vec<_>>().join(", ")
        }
        ResponseBody::ListGroups(r) => {
            let groups = r.groups.iter().map(|group| {
                format!(
                    " {}:{}:{}:{}",
                    group.group_id, group.protocol_type, group.group_state, group.group_type
                )
            });
            format!("{}{}", error(r.error_code), groups.collect::<String>())
        }
        ResponseBody::DeleteGroups(r) => {
            let results = r
                .results
                .iter()
                .map(|result| format!("{}:{}", result.group_id, error(result.error_code)));
            results.collect::<Vec<_>>().join(" ")
        }
        ResponseBody::OffsetDelete(r) => {
            let partitions = r.topics.iter().flat_map(|topic| {
                topic.partitions.iter().map(|partition| {
                    format!(
                        " {}-{}:{}",
                        topic.name,
                        partition.partition_index,
                        error(partition.error_code)
                    )
                })
            });
            format!("{}{}", error(r.error_code), partitions.collect::<String>())
        }
        other => panic!("not a group's reply: {other:?}"),
    }
}

fn show_fetch(r: &highwater_wire::messages::OffsetFetchResponse) -> String {
    let show = |topic: &ByteString,
                partition: i32,
                offset: i64,
                epoch: i32,
                text: Option<&ByteString>,
                code: i16| {
        let text = text.map_or_else(|| "null".into(), |text| abbreviated(text));
        format!(" {topic}-{partition}={offset}/{epoch}/{text}:{}", error(code))
    };
    let mut line = error(r.error_code);
    for topic in &r.topics {
        for p in &topic.partitions {
            let text = p.metadata.as_ref();
            line.push_str(&show(
                &topic.name,
                p.partition_index,
                p.committed_offset,
                p.committed_leader_epoch,
                text,
                p.error_code,
            ));
        }
    }
    for group in &r.groups {
        let _ = write!(line, " {}:{}", group.group_id, error(group.error_code));
        for topic in &group.topics {
            for p in &topic.partitions {
                let text = p.metadata.as_ref();
                line.push_str(&show(
                    &topic.name,
                    p.partition_index,
                    p.committed_offset,
                    p.committed_leader_epoch,
                    text,
                    p.error_code,
                ));
            }
        }
    }
    line
}
