//! From the words of a line to a request.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use highwater_wire::messages::consumer_group_heartbeat_request::TopicPartitions;
use highwater_wire::messages::join_group_request::JoinGroupRequestProtocol;
use highwater_wire::messages::leave_group_request::MemberIdentity;
use highwater_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use highwater_wire::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use highwater_wire::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use highwater_wire::messages::sync_group_request::SyncGroupRequestAssignment;
use highwater_wire::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, DeleteGroupsRequest, DescribeGroupsRequest,
    HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest,
};

use crate::GroupRequest;

use super::SEED_PREFIX;
use super::topics::{ScriptTopics, id_of};

/// The words of a line: names without `=`, and settings.
pub(super) struct Words<'a> {
    pub(super) names: Vec<&'a str>,
    pub(super) settings: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    pub(super) fn new(words: impl Iterator<Item = &'a str>) -> Self {
        let (settings, names): (Vec<_>, Vec<_>) = words.partition(|word| word.contains('='));
        Self {
            names,
            settings: settings
                .iter()
                .filter_map(|setting| setting.split_once('='))
                .collect(),
        }
    }

    pub(super) fn name(&self, index: usize) -> ByteString {
        ByteString::from(self.names.get(index).copied().unwrap_or(""))
    }

    pub(super) fn text(&self, key: &str) -> Option<ByteString> {
        self.settings.get(key).map(|value| expand(value))
    }

    pub(super) fn number<T: std::str::FromStr>(&self, key: &str, default: T) -> T {
        match self.settings.get(key) {
            Some(value) => value
                .parse()
                .unwrap_or_else(|_| panic!("{key}={value} is not a number of its kind")),
            None => default,
        }
    }

    /// `a:x,b:y` as pairs.
    fn pairs(&self, key: &str) -> Vec<(ByteString, Bytes)> {
        let list = self.settings.get(key).copied().unwrap_or("");
        let pairs = list.split(',').filter(|item| !item.is_empty()).map(|item| {
            let (name, value) = item.split_once(':').unwrap_or((item, ""));
            (expand(name), metadata(value))
        });
        pairs.collect()
    }

    pub(super) fn list(&self, key: &str) -> Vec<ByteString> {
        let list = self.settings.get(key).copied().unwrap_or("");
        list.split(',')
            .filter(|item| !item.is_empty())
            .map(expand)
            .collect()
    }

    /// `topic-3` words after the group, as topics with partitions.
    fn partitions(&self) -> Vec<(ByteString, i32)> {
        let named = self.names.iter().skip(1).map(|name| topic_partition(name));
        named.collect()
    }
}

fn topic_partition(name: &str) -> (ByteString, i32) {
    let (topic, partition) = name.rsplit_once('-').unwrap_or((name, "0"));
    (ByteString::from(topic), partition.parse().unwrap())
}

fn expand(word: &str) -> ByteString {
    match word.split_once('~') {
        Some((client, number)) => ByteString::from(format!("{client}{SEED_PREFIX}{number:0>12}")),
        None => ByteString::from(word),
    }
}

fn metadata(word: &str) -> Bytes {
    if let Some(partitions) = word.strip_prefix('=') {
        return assignment(partitions);
    }
    let Some(topics) = word.strip_prefix('@') else {
        return Bytes::copy_from_slice(word.as_bytes());
    };
    let topics: Vec<_> = topics.split('+').collect();
    let mut bytes = BytesMut::new();
    bytes.put_i16(0);
    bytes.put_i32(topics.len() as i32);
    for topic in topics {
        bytes.put_i16(topic.len() as i16);
        bytes.put_slice(topic.as_bytes());
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

/// `=t-0+t-1`: a consumer's assignment.
fn assignment(partitions: &str) -> Bytes {
    let mut by_topic: BTreeMap<ByteString, Vec<i32>> = BTreeMap::new();
    for name in partitions.split('+').filter(|name| !name.is_empty()) {
        let (topic, partition) = topic_partition(name);
        by_topic.entry(topic).or_default().push(partition);
    }
    let mut bytes = BytesMut::new();
    bytes.put_i16(1);
    bytes.put_i32(by_topic.len() as i32);
    for (topic, partitions) in by_topic {
        bytes.put_i16(topic.len() as i16);
        bytes.put_slice(topic.as_bytes());
        bytes.put_i32(partitions.len() as i32);
        for partition in partitions {
            bytes.put_i32(partition);
        }
    }
    bytes.put_i32(-1);
    bytes.freeze()
}

pub(super) fn request(verb: &str, words: &Words<'_>, topics: &ScriptTopics) -> (i16, GroupRequest) {
    let group_id = words.name(0);
    let member_id = words.text("member").unwrap_or_default();
    let group_instance_id = words.text("instance");
    let generation_id = words.number("gen", -1);
    match verb {
        "join" => {
            let mut protocols = words.pairs("protocols");
            if !words.settings.contains_key("protocols") {
                protocols.push((ByteString::from_static("range"), metadata("@t")));
            }
            let request = JoinGroupRequest {
                group_id,
                session_timeout_ms: words.number("session", 10_000),
                rebalance_timeout_ms: words.number("rebalance", 60_000),
                member_id,
                group_instance_id,
                protocol_type: words.text("type").unwrap_or(ByteString::from_static("consumer")),
                protocols: protocols
                    .into_iter()
                    .map(|(name, metadata)| JoinGroupRequestProtocol { name, metadata })
                    .collect(),
                ..Default::default()
            };
            (9, GroupRequest::Join(request))
        }
        "sync" => {
            let assignments = words
                .pairs("assign")
                .into_iter()
                .map(|(member_id, assignment)| SyncGroupRequestAssignment {
                    member_id,
                    assignment,
                })
                .collect();
            let request = SyncGroupRequest {
                group_id,
                generation_id,
                member_id,
                group_instance_id,
                protocol_type: words.text("type"),
                protocol_name: words.text("name"),
                assignments,
            };
            let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
            (if names_protocol { 5 } else { 4 }, GroupRequest::Sync(request))
        }
        "heartbeat" => {
            let request = HeartbeatRequest {
                group_id,
                generation_id,
                member_id,
                group_instance_id,
            };
            (4, GroupRequest::Heartbeat(request))
        }
        "leave" => {
            let identity = |word: ByteString| match word.strip_prefix('@') {
                Some(instance) => MemberIdentity {
                    group_instance_id: Some(instance.into()),
                    ..Default::default()
                },
                None => MemberIdentity {
                    member_id: word,
                    ..Default::default()
                },
            };
            let members = words.list("members").into_iter().map(identity).collect();
            (
                5,
                GroupRequest::Leave(LeaveGroupRequest {
                    group_id,
                    member_id,
                    members,
                }),
            )
        }
        "commit" => (
            9,
            GroupRequest::OffsetCommit(commit_request(words, group_id, member_id, generation_id)),
        ),
        "fetch" => {
            let all = words.names.contains(&"all");
            let asked = || words.partitions().into_iter();
            let request = OffsetFetchRequest {
                topics: (!all).then(|| {
                    asked()
                        .map(|(name, partition)| OffsetFetchRequestTopic {
                            name,
                            partition_indexes: vec![partition],
                        })
                        .collect()
                }),
                groups: vec![OffsetFetchRequestGroup {
                    group_id: group_id.clone(),
                    topics: (!all).then(|| {
                        asked()
                            .map(|(name, partition)| OffsetFetchRequestTopics {
                                name,
                                partition_indexes: vec![partition],
                            })
                            .collect()
                    }),
                    member_id: words.text("member"),
                    member_epoch: words.number("epoch", -1),
                }],
                group_id,
                require_stable: words.number("require_stable", false),
            };
            (9, GroupRequest::OffsetFetch(request))
        }
        "describe" => {
            let groups = words.names.iter().map(|name| ByteString::from(*name)).collect();
            (
                6,
                GroupRequest::Describe(DescribeGroupsRequest {
                    groups,
                    ..Default::default()
                }),
            )
        }
        "list" => {
            let request = ListGroupsRequest {
                states_filter: words.list("states"),
                types_filter: words.list("types"),
            };
            (5, GroupRequest::List(request))
        }
        "delete" => {
            let groups_names = words.names.iter().map(|name| ByteString::from(*name)).collect();
            (2, GroupRequest::Delete(DeleteGroupsRequest { groups_names }))
        }
        "ch" => (
            1,
            GroupRequest::ConsumerHeartbeat(consumer_heartbeat(words, topics)),
        ),
        "cdescribe" => {
            let group_ids = words.names.iter().map(|name| ByteString::from(*name)).collect();
            (
                1,
                GroupRequest::ConsumerDescribe(ConsumerGroupDescribeRequest {
                    group_ids,
                    ..Default::default()
                }),
            )
        }
        "offset-delete" => {
            let topics = words
                .partitions()
                .into_iter()
                .map(|(name, partition)| OffsetDeleteRequestTopic {
                    name,
                    partitions: vec![OffsetDeleteRequestPartition {
                        partition_index: partition,
                    }],
                });
            (
                0,
                GroupRequest::OffsetDelete(OffsetDeleteRequest {
                    group_id,
                    topics: topics.collect(),
                }),
            )
        }
        _ => panic!("no such event: {verb}"),
    }
}

/// One that joins (`epoch=0`) must say that it owns nothing, in how much time it can give up partitions, and what it
/// reads.
fn consumer_heartbeat(words: &Words<'_>, topics: &ScriptTopics) -> ConsumerGroupHeartbeatRequest {
    let member_epoch = words.number("epoch", 0);
    let is_joining = member_epoch == 0;
    let owned = words.settings.get("owned").map(|_| {
        let named = words.list("owned").into_iter().filter(|name| *name != "none");
        let mut listed: Vec<TopicPartitions> = Vec::new();
        for name in named {
            let (topic, partition) = topic_partition(&name);
            let topic_id = id_of(&topic, topics);
            match listed.iter_mut().find(|topic| topic.topic_id == topic_id) {
                Some(topic) => topic.partitions.push(partition),
                None => listed.push(TopicPartitions {
                    topic_id,
                    partitions: vec![partition],
                }),
            }
        }
        listed
    });
    let names = words.settings.get("topics").map(|_| words.list("topics"));
    ConsumerGroupHeartbeatRequest {
        group_id: words.name(0),
        member_id: words.text("member").unwrap_or_default(),
        member_epoch,
        instance_id: words.text("instance"),
        rack_id: words.text("rack"),
        rebalance_timeout_ms: words.number("rebalance", if is_joining { 60_000 } else { -1 }),
        subscribed_topic_names: names,
        subscribed_topic_regex: words.text("regex"),
        server_assignor: words.text("assignor"),
        topic_partitions: owned.or_else(|| is_joining.then(Vec::new)),
    }
}

/// `t-0=5/metadata` settings; `metadata*4097` repeats a letter.
fn commit_request(
    words: &Words<'_>,
    group_id: ByteString,
    member_id: ByteString,
    generation: i32,
) -> OffsetCommitRequest {
    let offsets = words.settings.iter().filter(|(key, _)| key.contains('-'));
    let topics = offsets.map(|(key, value)| {
        let (name, partition_index) = topic_partition(key);
        let (offset, note) = value.split_once('/').unwrap_or((value, ""));
        let committed_metadata = match note.split_once('*') {
            Some((text, times)) => text.repeat(times.parse().unwrap()),
            None => note.to_owned(),
        };
        OffsetCommitRequestTopic {
            name,
            partitions: vec![OffsetCommitRequestPartition {
                partition_index,
                committed_offset: offset.parse().unwrap(),
                committed_leader_epoch: words.number("epoch", -1),
                committed_metadata: (!note.is_empty()).then(|| committed_metadata.into()),
            }],
        }
    });
    OffsetCommitRequest {
        group_id,
        generation_id_or_member_epoch: generation,
        member_id,
        group_instance_id: words.text("instance"),
        retention_time_ms: words.number("retention_ms", -1),
        topics: topics.collect(),
    }
}
