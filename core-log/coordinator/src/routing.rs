//! From group names to shards, and back from shards' answers to one response.

use std::collections::BTreeMap;

use highwater_types::PartitionId;
use highwater_wire::ResponseBody;

use crate::effects::GroupRequest;

/// The partition of `__consumer_offsets` that holds a group: Java's `String.hashCode` over UTF-16 units, made
/// non-negative as Kafka does, modulo the number of partitions. `partition_count` below 1 counts as 1.
pub fn partition_for_group(group_id: &str, partition_count: i32) -> PartitionId {
    let hash = group_id.encode_utf16().fold(0i32, |hash, unit| {
        hash.wrapping_mul(31).wrapping_add(i32::from(unit))
    });
    // The lowest integer has no positive twin; Kafka maps it to 0.
    let positive = hash.checked_abs().unwrap_or(0);
    PartitionId::new(positive % partition_count.max(1))
}

/// Where a request must go.
#[derive(Debug, Clone, PartialEq)]
pub enum Routed {
    /// One request per shard concerned. The answers of more than one are joined by [`merge_responses`].
    Shards(Vec<(PartitionId, GroupRequest)>),
    /// To every shard of this node (ListGroups).
    EveryShard(Box<GroupRequest>),
}

/// Splits a request into the parts that each shard must answer. A request that names no group goes to
/// partition 0, so that it is answered too.
pub fn route(request: GroupRequest, partition_count: i32) -> Routed {
    let to = |group: &str| partition_for_group(group, partition_count);
    let shards = match request {
        GroupRequest::List(_) => return Routed::EveryShard(Box::new(request)),
        GroupRequest::Join(ref r) => vec![(to(&r.group_id), request)],
        GroupRequest::Sync(ref r) => vec![(to(&r.group_id), request)],
        GroupRequest::Heartbeat(ref r) => vec![(to(&r.group_id), request)],
        GroupRequest::Leave(ref r) => vec![(to(&r.group_id), request)],
        GroupRequest::OffsetCommit(ref r) => vec![(to(&r.group_id), request)],
        GroupRequest::OffsetDelete(ref r) => vec![(to(&r.group_id), request)],
        GroupRequest::ConsumerHeartbeat(ref r) => vec![(to(&r.group_id), request)],
        GroupRequest::ConsumerDescribe(mut r) => {
            let parts = partition_by(std::mem::take(&mut r.group_ids), |group| to(group));
            parts
                .into_iter()
                .map(|(shard, groups)| {
                    let mut part = r.clone();
                    part.group_ids = groups;
                    (shard, GroupRequest::ConsumerDescribe(part))
                })
                .collect()
        }
        GroupRequest::OffsetFetch(mut r) if !r.groups.is_empty() => {
            let parts = partition_by(std::mem::take(&mut r.groups), |group| to(&group.group_id));
            parts
                .into_iter()
                .map(|(shard, groups)| {
                    let mut part = r.clone();
                    part.groups = groups;
                    (shard, GroupRequest::OffsetFetch(part))
                })
                .collect()
        }
        GroupRequest::OffsetFetch(ref r) => vec![(to(&r.group_id), request)],
        GroupRequest::Describe(mut r) => {
            let parts = partition_by(std::mem::take(&mut r.groups), |group| to(group));
            parts
                .into_iter()
                .map(|(shard, groups)| {
                    let mut part = r.clone();
                    part.groups = groups;
                    (shard, GroupRequest::Describe(part))
                })
                .collect()
        }
        GroupRequest::Delete(mut r) => {
            let parts = partition_by(std::mem::take(&mut r.groups_names), |group| to(group));
            parts
                .into_iter()
                .map(|(shard, groups)| {
                    let mut part = r.clone();
                    part.groups_names = groups;
                    (shard, GroupRequest::Delete(part))
                })
                .collect()
        }
    };
    Routed::Shards(shards)
}

fn partition_by<T>(items: Vec<T>, to: impl Fn(&T) -> PartitionId) -> BTreeMap<PartitionId, Vec<T>> {
    let mut parts = BTreeMap::new();
    if items.is_empty() {
        parts.insert(PartitionId::new(0), Vec::new());
    }
    for item in items {
        parts.entry(to(&item)).or_insert_with(Vec::new).push(item);
    }
    parts
}

/// Joins the answers of several shards to the parts of one request. `None` only for no answers. Answers of
/// kinds that are never split are not joined: the first one stands.
pub fn merge_responses(responses: impl IntoIterator<Item = ResponseBody>) -> Option<ResponseBody> {
    responses.into_iter().reduce(|mut all, next| {
        match (&mut all, next) {
            (ResponseBody::DescribeGroups(all), ResponseBody::DescribeGroups(next)) => {
                all.groups.extend(next.groups);
            }
            (ResponseBody::ConsumerGroupDescribe(all), ResponseBody::ConsumerGroupDescribe(next)) => {
                all.groups.extend(next.groups);
            }
            (ResponseBody::DeleteGroups(all), ResponseBody::DeleteGroups(next)) => {
                all.results.extend(next.results);
            }
            (ResponseBody::OffsetFetch(all), ResponseBody::OffsetFetch(next)) => {
                all.groups.extend(next.groups)
            }
            (ResponseBody::ListGroups(all), ResponseBody::ListGroups(next)) => {
                if all.error_code == 0 {
                    all.error_code = next.error_code;
                }
                all.groups.extend(next.groups);
            }
            _ => {}
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use highwater_wire::messages::{DescribeGroupsRequest, DescribeGroupsResponse};

    use super::*;

    #[test]
    fn groups_land_where_kafka_puts_them() {
        // Java: "".hashCode() is 0, "a" is 97.
        assert_eq!(partition_for_group("", 50).get(), 0);
        assert_eq!(partition_for_group("a", 50).get(), 47);
        // The shortest well-known string that hashes to Integer.MIN_VALUE.
        assert_eq!(partition_for_group("polygenelubricants", 50).get(), 0);
        // Surrogate pairs count as two units: U+1F600 is D83D DE00, 55357 * 31 + 56832 = 1_772_899.
        assert_eq!(partition_for_group("\u{1F600}", 50).get(), 1_772_899 % 50);
        // "hello".hashCode() is 99_162_322.
        assert_eq!(partition_for_group("hello", 50).get(), 22);
        // "Hello World".hashCode() is -862_545_276.
        assert_eq!(partition_for_group("Hello World", 50).get(), 26);
    }

    #[test]
    fn a_request_about_many_groups_is_split_and_its_answers_joined() {
        let groups = ["a", "b", "a2"].map(bytestring::ByteString::from_static).to_vec();
        let request = DescribeGroupsRequest {
            groups,
            ..Default::default()
        };
        let Routed::Shards(parts) = route(GroupRequest::Describe(request), 2) else {
            panic!("describe goes to certain shards");
        };
        let named: Vec<_> = parts
            .iter()
            .map(|(shard, part)| match part {
                GroupRequest::Describe(part) => (shard.get(), part.groups.clone()),
                other => panic!("became {other:?}"),
            })
            .collect();
        // "a" is 97, "b" is 98, "a2" is 97 * 31 + 50 = 3057.
        assert_eq!(named, [(0, vec!["b".into()]), (1, vec!["a".into(), "a2".into()])]);

        let answer = |n: usize| {
            ResponseBody::DescribeGroups(DescribeGroupsResponse {
                groups: vec![Default::default(); n],
                ..Default::default()
            })
        };
        let Some(ResponseBody::DescribeGroups(merged)) = merge_responses([answer(1), answer(2)]) else {
            panic!("stays a describe response");
        };
        assert_eq!(merged.groups.len(), 3);
    }
}
