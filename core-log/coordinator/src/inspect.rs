//! The records of `__consumer_offsets` for people: named values instead of structs.
//!
//! Refuses: nothing; what cannot be read is described as that.

use bytes::Bytes;
use bytestring::ByteString;

use crate::consumer::partitions::Partitions;
use crate::consumer::records::{self as consumer_records, Change, CurrentAssignment, MemberMetadata};
use crate::records::codec::Reader;
use crate::records::{GroupMetadataValue, OffsetCommitValue, RecordKey};
use crate::subscription::subscribed_topics;

/// One record of a group, or why it cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// `commit`, `group`, `member`; of the newer groups `consumer_group`, `consumer_member`, `target_epoch`,
    /// `target_assignment`, `current_assignment`, `topic_regex`; or `unreadable`.
    pub kind: &'static str,
    /// Values by name, in reading order.
    pub fields: Vec<(&'static str, String)>,
}

/// What a record of `__consumer_offsets` says: the record itself, and for a group one row more per member.
pub fn describe(key: &Bytes, value: Option<&Bytes>) -> Vec<Described> {
    let decoded = match RecordKey::decode(key.clone()) {
        Ok(decoded) => decoded,
        Err(error) => return vec![unreadable(error.to_string())],
    };
    match decoded {
        RecordKey::OffsetCommit(key) => {
            let names = vec![
                ("group", key.group.to_string()),
                ("topic", key.topic.to_string()),
                ("partition", key.partition.to_string()),
            ];
            vec![commit(names, value)]
        }
        RecordKey::GroupMetadata(key) => group(key.group.to_string(), value),
        RecordKey::Consumer { version, rest } => vec![consumer(version, rest, value)],
    }
}

fn unreadable(why: String) -> Described {
    Described {
        kind: "unreadable",
        fields: vec![("why", why)],
    }
}

fn commit(mut fields: Vec<(&'static str, String)>, value: Option<&Bytes>) -> Described {
    let Some(value) = value else {
        fields.push(("deleted", "true".to_owned()));
        return Described {
            kind: "commit",
            fields,
        };
    };
    match OffsetCommitValue::decode(value.clone()) {
        Ok(value) => {
            fields.push(("offset", value.offset.to_string()));
            if let Some(epoch) = value.leader_epoch {
                fields.push(("leader_epoch", epoch.to_string()));
            }
            fields.push(("metadata", value.metadata.to_string()));
            fields.push(("commit_timestamp", value.commit_timestamp.to_string()));
            if let Some(expires) = value.expire_timestamp {
                fields.push(("expire_timestamp", expires.to_string()));
            }
            Described {
                kind: "commit",
                fields,
            }
        }
        Err(error) => unreadable(error.to_string()),
    }
}

fn group(name: String, value: Option<&Bytes>) -> Vec<Described> {
    let mut fields = vec![("group", name.clone())];
    let Some(value) = value else {
        fields.push(("deleted", "true".to_owned()));
        return vec![Described {
            kind: "group",
            fields,
        }];
    };
    let value = match GroupMetadataValue::decode(value.clone()) {
        Ok(value) => value,
        Err(error) => return vec![unreadable(error.to_string())],
    };
    fields.push(("protocol_type", value.protocol_type.to_string()));
    fields.push(("generation", value.generation.to_string()));
    fields.push(("protocol", text(value.protocol)));
    fields.push(("leader", text(value.leader)));
    fields.push(("members", value.members.len().to_string()));
    let mut rows = vec![Described {
        kind: "group",
        fields,
    }];
    for member in value.members {
        let topics = subscribed_topics(&member.subscription).map(|topics| {
            let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
            topics.join(",")
        });
        rows.push(Described {
            kind: "member",
            fields: vec![
                ("group", name.clone()),
                ("member_id", member.member_id.to_string()),
                ("group_instance_id", text(member.group_instance_id)),
                ("client_id", member.client_id.to_string()),
                ("client_host", member.client_host.to_string()),
                ("session_timeout_ms", member.session_timeout_ms.to_string()),
                ("rebalance_timeout_ms", member.rebalance_timeout_ms.to_string()),
                ("topics", topics.unwrap_or_else(|_| "unknown".to_owned())),
                ("assignment_bytes", member.assignment.len().to_string()),
            ],
        });
    }
    rows
}

type Fields = Vec<(&'static str, String)>;

/// A record of a consumer group (KIP-848).
fn consumer(version: i16, key: Bytes, value: Option<&Bytes>) -> Described {
    let decoded = consumer_records::decode(version, &mut Reader::new(key), value.cloned());
    let (group, change) = match decoded {
        Ok(decoded) => decoded,
        Err(error) => return unreadable(error.to_string()),
    };
    let is_deletion = change.is_deletion();
    let (kind, fields) = of_change(change);
    let mut all = vec![("group", group.to_string())];
    all.extend(fields);
    if is_deletion {
        all.push(("deleted", "true".to_owned()));
    }
    Described { kind, fields: all }
}

fn of_change(change: Change) -> (&'static str, Fields) {
    let member = |id: ByteString, rest: Option<Fields>| {
        let mut fields = vec![("member_id", id.to_string())];
        fields.extend(rest.unwrap_or_default());
        fields
    };
    match change {
        Change::Group(value) => {
            let fields = value.map(|value| {
                vec![
                    ("epoch", value.epoch.to_string()),
                    ("metadata_hash", value.metadata_hash.to_string()),
                ]
            });
            ("consumer_group", fields.unwrap_or_default())
        }
        Change::SubscriptionMetadata => ("subscription_metadata", Vec::new()),
        Change::Member(id, value) => ("consumer_member", member(id, value.map(member_fields))),
        Change::TargetEpoch(epoch) => {
            let fields = epoch.map(|epoch| vec![("assignment_epoch", epoch.to_string())]);
            ("target_epoch", fields.unwrap_or_default())
        }
        Change::Target(id, value) => {
            let fields = value.map(|partitions| vec![("partitions", listed(&partitions))]);
            ("target_assignment", member(id, fields))
        }
        Change::Current(id, value) => ("current_assignment", member(id, value.map(current_fields))),
        Change::Regex(regex, topics) => {
            let mut fields = vec![("regex", regex.to_string())];
            fields.extend(topics.map(|topics| ("topics", joined(topics.iter()))));
            ("topic_regex", fields)
        }
    }
}

fn member_fields(value: MemberMetadata) -> Fields {
    let mut fields = vec![
        ("group_instance_id", text(value.instance_id)),
        ("rack_id", text(value.rack_id)),
        ("client_id", value.client_id.to_string()),
        ("client_host", value.client_host.to_string()),
        ("topics", joined(value.topic_names.iter())),
        ("topic_regex", text(value.topic_regex)),
        ("rebalance_timeout_ms", value.rebalance_timeout_ms.to_string()),
        ("server_assignor", text(value.server_assignor)),
    ];
    if let Some(classic) = value.classic {
        let names = classic.protocols.iter().map(|(name, _)| name);
        fields.push((
            "classic_session_timeout_ms",
            classic.session_timeout_ms.to_string(),
        ));
        fields.push(("classic_protocols", joined(names)));
    }
    fields
}

fn current_fields(value: CurrentAssignment) -> Fields {
    vec![
        ("member_epoch", value.epoch.to_string()),
        ("previous_member_epoch", value.previous_epoch.to_string()),
        ("state", format!("{:?}", value.state)),
        ("assigned", listed(&value.assigned)),
        ("revoking", listed(&value.revoking)),
    ]
}

fn joined<'a>(names: impl Iterator<Item = &'a ByteString>) -> String {
    let names: Vec<&str> = names.map(|name| &**name).collect();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(","),
    }
}

/// `<topic id>:0,1,2;<topic id>:0`.
fn listed(partitions: &Partitions) -> String {
    let topics: Vec<String> = partitions
        .topics()
        .map(|(topic, partitions)| {
            let numbers: Vec<String> = partitions.iter().map(i32::to_string).collect();
            format!("{topic}:{}", numbers.join(","))
        })
        .collect();
    match topics.is_empty() {
        true => "none".to_owned(),
        false => topics.join(";"),
    }
}

fn text(value: Option<ByteString>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use highwater_types::{LeaderEpoch, Offset, PartitionId, Timestamp, Uuid};

    use super::*;
    use crate::consumer::group::ClassicTerms;
    use crate::consumer::records::GroupValue;
    use crate::records::{OffsetCommitKey, OffsetCommitValueVersion};

    fn shown(rows: &[Described]) -> Vec<String> {
        let row = |row: &Described| {
            let fields: Vec<String> = row
                .fields
                .iter()
                .map(|(name, value)| format!("{name}={value}"))
                .collect();
            format!("{} {}", row.kind, fields.join(" "))
        };
        rows.iter().map(row).collect()
    }

    #[test]
    fn commits_and_their_deletion_are_named() {
        let key = RecordKey::OffsetCommit(OffsetCommitKey {
            group: "g".into(),
            topic: "t".into(),
            partition: PartitionId::new(3),
        });
        let value = OffsetCommitValue {
            offset: Offset::new(42),
            leader_epoch: Some(LeaderEpoch::new(1)),
            metadata: "note".into(),
            commit_timestamp: Timestamp::new(7),
            expire_timestamp: None,
        };
        let (key, value) = (
            key.encode().unwrap(),
            value.encode(OffsetCommitValueVersion::V3).unwrap(),
        );
        assert_eq!(
            shown(&describe(&key, Some(&value))),
            ["commit group=g topic=t partition=3 offset=42 leader_epoch=1 metadata=note commit_timestamp=7"]
        );
        assert_eq!(
            shown(&describe(&key, None)),
            ["commit group=g topic=t partition=3 deleted=true"]
        );
    }

    #[test]
    fn every_record_of_a_consumer_group_and_its_deletion_are_named() {
        let set = |numbers: &[i32]| -> Partitions {
            let topic = Uuid::from_u64_pair(0, 1);
            numbers.iter().map(|number| (topic, *number)).collect()
        };
        let (member, regex) = (ByteString::from("m"), ByteString::from("a.*"));
        let topics = || [ByteString::from("a1"), ByteString::from("a2")].into();
        let group = GroupValue {
            epoch: 7,
            metadata_hash: 9,
        };
        let metadata = MemberMetadata {
            client_id: "c".into(),
            client_host: "/h".into(),
            topic_names: topics(),
            topic_regex: Some(regex.clone()),
            rebalance_timeout_ms: 300,
            classic: Some(ClassicTerms {
                session_timeout_ms: 45,
                protocols: vec![("range".into(), Bytes::from_static(b"x"))],
            }),
            ..MemberMetadata::default()
        };
        let current = CurrentAssignment {
            epoch: 7,
            previous_epoch: 6,
            assigned: set(&[0, 1]),
            ..CurrentAssignment::default()
        };
        let id = "00000000-0000-0000-0000-000000000001";
        let changes = [
            (Change::Group(Some(group)), "consumer_group group=g epoch=7 metadata_hash=9".to_owned()),
            (Change::Group(None), "consumer_group group=g deleted=true".to_owned()),
            (
                Change::Member(member.clone(), Some(metadata)),
                "consumer_member group=g member_id=m group_instance_id=none rack_id=none client_id=c client_host=/h \
                 topics=a1,a2 topic_regex=a.* rebalance_timeout_ms=300 server_assignor=none \
                 classic_session_timeout_ms=45 classic_protocols=range"
                    .to_owned(),
            ),
            (
                Change::Member(member.clone(), None),
                "consumer_member group=g member_id=m deleted=true".to_owned(),
            ),
            (Change::TargetEpoch(Some(7)), "target_epoch group=g assignment_epoch=7".to_owned()),
            (Change::TargetEpoch(None), "target_epoch group=g deleted=true".to_owned()),
            (
                Change::Target(member.clone(), Some(set(&[2]))),
                format!("target_assignment group=g member_id=m partitions={id}:2"),
            ),
            (
                Change::Current(member, Some(current)),
                format!(
                    "current_assignment group=g member_id=m member_epoch=7 previous_member_epoch=6 state=Stable \
                     assigned={id}:0,1 revoking=none"
                ),
            ),
            (
                Change::Regex(regex.clone(), Some(topics())),
                "topic_regex group=g regex=a.* topics=a1,a2".to_owned(),
            ),
            (Change::Regex(regex, None), "topic_regex group=g regex=a.* deleted=true".to_owned()),
        ];
        for (change, expected) in changes {
            let record = consumer_records::encode(&"g".into(), &change, Timestamp::new(1)).unwrap();
            assert_eq!(shown(&describe(&record.key, record.value.as_ref())), [expected]);
        }
        let cut = describe(&Bytes::from_static(b"\0\x05\0\x01g"), None);
        assert_eq!(cut[0].kind, "unreadable");
    }

    #[test]
    fn bytes_that_are_no_record_are_unreadable() {
        for key in [&b""[..], b"\x00\x01", b"\x00\x63abc", b"\x00\x01\x7f\xff"] {
            let rows = describe(&Bytes::copy_from_slice(key), Some(&Bytes::from_static(b"\x00")));
            assert_eq!(rows[0].kind, "unreadable", "{key:?}");
        }
    }
}
