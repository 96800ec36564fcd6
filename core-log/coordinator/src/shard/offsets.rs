//! OffsetCommit, OffsetFetch and OffsetDelete.
//!
//! Semantic 64 (who may commit when, size of metadata), 65 (what a fetch answers), 69 (commits are accepted
//! while a rebalance is prepared). Whether a topic exists is the host's to check. There are no transactional
//! commits here, so every offset is stable and `require_stable` asks for nothing more (semantic 42).

use std::collections::BTreeMap;

use bytes::Bytes;
use bytestring::ByteString;
use highwater_types::{LeaderEpoch, Offset, PartitionId, Timestamp};
use highwater_wire::messages::offset_commit_request::OffsetCommitRequestPartition;
use highwater_wire::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use highwater_wire::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use highwater_wire::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use highwater_wire::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse,
};
use highwater_wire::{ErrorCode, ResponseBody};

use crate::consumer::group::{ConsumerGroup, ConsumerMember};
use crate::durable::{CommittedOffset, DurableGroup};
use crate::effects::{ClientContext, CoordinatorRecord, Effects, Now, RequestToken};
use crate::group::{LiveGroup, Phase};
use crate::records::{EncodeError, OffsetCommitKey, OffsetCommitValue, RecordKey};

use super::{GroupShard, fits};

/// From this version on OffsetFetch asks for several groups (KIP-709).
const FIRST_FETCH_VERSION_WITH_GROUPS: i16 = 8;
/// From this version on an OffsetFetch error stands beside the topics, not in each partition.
const FIRST_FETCH_VERSION_WITH_ERROR: i16 = 2;
/// From this version on a commit to a group that is gone says so.
const FIRST_COMMIT_VERSION_WITH_GROUP_ID_NOT_FOUND: i16 = 9;
/// Members of the newer protocol commit with their epoch from this version on (KIP-848).
const FIRST_COMMIT_VERSION_WITH_MEMBER_EPOCH: i16 = 9;
/// "No retention of its own" in OffsetCommit v2-4.
const DEFAULT_RETENTION: i64 = -1;
/// What a fetch answers for a partition without a commit (semantic 65).
const NO_OFFSET: i64 = -1;
const NO_LEADER_EPOCH: i32 = -1;

/// Refuses every partition of a commit.
pub(super) fn commit_error(request: &OffsetCommitRequest, error: ErrorCode) -> ResponseBody {
    commit_response(request, |_, _| error)
}

fn commit_response(
    request: &OffsetCommitRequest,
    mut outcome: impl FnMut(&ByteString, &OffsetCommitRequestPartition) -> ErrorCode,
) -> ResponseBody {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic
            .partitions
            .iter()
            .map(|partition| OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: outcome(&topic.name, partition).code(),
            });
        OffsetCommitResponseTopic {
            name: topic.name.clone(),
            partitions: partitions.collect(),
        }
    });
    let topics = topics.collect();
    ResponseBody::OffsetCommit(OffsetCommitResponse {
        topics,
        ..Default::default()
    })
}

/// Refuses a whole fetch, in the place where the version has its error.
pub(super) fn fetch_error(api_version: i16, request: OffsetFetchRequest, error: ErrorCode) -> ResponseBody {
    let mut response = OffsetFetchResponse::default();
    if api_version >= FIRST_FETCH_VERSION_WITH_GROUPS {
        let groups = request.groups.into_iter().map(|group| OffsetFetchResponseGroup {
            group_id: group.group_id,
            error_code: error.code(),
            ..Default::default()
        });
        response.groups = groups.collect();
    } else if api_version >= FIRST_FETCH_VERSION_WITH_ERROR {
        response.error_code = error.code();
    } else {
        let topics = request
            .topics
            .unwrap_or_default()
            .into_iter()
            .map(|topic| OffsetFetchResponseTopic {
                name: topic.name,
                partitions: topic
                    .partition_indexes
                    .into_iter()
                    .map(|index| single(fetched(index, None, error)))
                    .collect(),
            });
        response.topics = topics.collect();
    }
    ResponseBody::OffsetFetch(response)
}

/// Refuses a deletion of offsets.
pub(super) fn delete_error(error: ErrorCode) -> ResponseBody {
    ResponseBody::OffsetDelete(OffsetDeleteResponse {
        error_code: error.code(),
        ..Default::default()
    })
}

/// The record that forgets a committed offset.
pub(super) fn tombstone(
    group: &ByteString,
    topic: &ByteString,
    partition: PartitionId,
) -> Result<CoordinatorRecord, EncodeError> {
    Ok(CoordinatorRecord {
        key: offset_key(group, topic, partition)?,
        value: None,
    })
}

fn offset_key(group: &ByteString, topic: &ByteString, partition: PartitionId) -> Result<Bytes, EncodeError> {
    let key = OffsetCommitKey {
        group: group.clone(),
        topic: topic.clone(),
        partition,
    };
    RecordKey::OffsetCommit(key).encode()
}

fn fetched(
    partition: i32,
    committed: Option<&CommittedOffset>,
    error: ErrorCode,
) -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        partition_index: partition,
        committed_offset: committed.map_or(NO_OFFSET, |committed| committed.offset.get()),
        committed_leader_epoch: committed
            .and_then(|committed| committed.leader_epoch)
            .map_or(NO_LEADER_EPOCH, LeaderEpoch::get),
        metadata: Some(committed.map_or_else(ByteString::new, |committed| committed.metadata.clone())),
        error_code: error.code(),
    }
}

/// The same answer in the struct of the versions that ask for one group.
fn single(partition: OffsetFetchResponsePartitions) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
    }
}

impl GroupShard {
    pub(super) fn commit_offsets(
        &mut self,
        token: RequestToken,
        client: &ClientContext,
        request: OffsetCommitRequest,
        now: Now,
    ) -> Effects {
        if let Err(code) = self.check_commit(client, &request) {
            return Effects::reply(token, commit_error(&request, code));
        }
        let mut effects = Effects::default();
        if self.consumer_group(&request.group_id).is_none() {
            self.turn(&request.group_id, now, &mut effects, |turn| {
                turn.renew_session(&request.member_id)
            });
        }

        let durable = self.durable.group(&request.group_id);
        let room = self.config.max_offsets_per_group;
        let mut room = room.saturating_sub(durable.map_or(0, DurableGroup::offset_count));
        let max_units = self.config.offset_metadata_max_units;
        let records = &mut effects.records;
        let body = commit_response(&request, |topic, partition| {
            let is_new = durable
                .and_then(|group| group.offset(topic, PartitionId::new(partition.partition_index)))
                .is_none();
            if is_metadata_too_large(partition.committed_metadata.as_ref(), max_units) {
                return ErrorCode::OffsetMetadataTooLarge;
            }
            if is_new && room == 0 {
                return ErrorCode::PolicyViolation;
            }
            match offset_record(&request, topic, partition, now.wall) {
                Ok(record) => {
                    room -= usize::from(is_new);
                    records.push(record);
                    ErrorCode::None
                }
                Err(_) => ErrorCode::InvalidRequest,
            }
        });
        effects.replies.push((token, body));
        effects
    }

    /// Who may commit, and when (semantic 64).
    fn check_commit(&self, client: &ClientContext, request: &OffsetCommitRequest) -> Result<(), ErrorCode> {
        if !fits(&request.group_id) {
            return Err(ErrorCode::InvalidGroupId);
        }
        let generation = request.generation_id_or_member_epoch;
        if let Some(group) = self.consumer_group(&request.group_id) {
            return check_consumer_commit(group, client.api_version, request);
        }
        let Some(group) = self.live.get(&request.group_id) else {
            return match generation {
                ..0 if self.live.len() < self.config.max_groups => Ok(()),
                ..0 => Err(ErrorCode::PolicyViolation),
                0.. if client.api_version >= FIRST_COMMIT_VERSION_WITH_GROUP_ID_NOT_FOUND => {
                    Err(ErrorCode::GroupIdNotFound)
                }
                0.. => Err(ErrorCode::IllegalGeneration),
            };
        };
        if generation < 0 && group.phase == Phase::Empty {
            return Ok(());
        }
        let instance_id = request.group_instance_id.as_ref();
        if generation < 0 && request.member_id.is_empty() && instance_id.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        group.validate_member(&request.member_id, instance_id)?;
        if !group.is_generation_of(&request.member_id, generation) {
            return Err(ErrorCode::IllegalGeneration);
        }
        match group.phase {
            Phase::CompletingRebalance => Err(ErrorCode::RebalanceInProgress),
            Phase::Empty | Phase::PreparingRebalance { .. } | Phase::Stable => Ok(()),
        }
    }

    pub(super) fn fetch_offsets(
        &self,
        token: RequestToken,
        client: &ClientContext,
        request: OffsetFetchRequest,
    ) -> Effects {
        let mut response = OffsetFetchResponse::default();
        if client.api_version >= FIRST_FETCH_VERSION_WITH_GROUPS {
            for group in request.groups {
                let asked = group.topics.map(|topics| {
                    topics
                        .into_iter()
                        .map(|t| (t.name, t.partition_indexes))
                        .collect()
                });
                let refused = self.consumer_group(&group.group_id).and_then(|found| {
                    check_consumer_fetch(found, group.member_id.as_ref(), group.member_epoch).err()
                });
                if let Some(error) = refused {
                    response.groups.push(OffsetFetchResponseGroup {
                        group_id: group.group_id,
                        error_code: error.code(),
                        ..Default::default()
                    });
                    continue;
                }
                let topics = self.committed(&group.group_id, asked).into_iter();
                response.groups.push(OffsetFetchResponseGroup {
                    group_id: group.group_id,
                    topics: topics
                        .map(|(name, partitions)| OffsetFetchResponseTopics { name, partitions })
                        .collect(),
                    error_code: ErrorCode::None.code(),
                });
            }
        } else {
            let asked = request.topics.map(|topics| {
                topics
                    .into_iter()
                    .map(|t| (t.name, t.partition_indexes))
                    .collect()
            });
            for (name, partitions) in self.committed(&request.group_id, asked) {
                let partitions = partitions.into_iter().map(single).collect();
                response
                    .topics
                    .push(OffsetFetchResponseTopic { name, partitions });
            }
        }
        Effects::reply(token, ResponseBody::OffsetFetch(response))
    }

    /// The committed offsets of the partitions asked for, or of all.
    fn committed(
        &self,
        group_id: &ByteString,
        asked: Option<Vec<(ByteString, Vec<i32>)>>,
    ) -> Vec<(ByteString, Vec<OffsetFetchResponsePartitions>)> {
        let durable = self.durable.group(group_id);
        let Some(asked) = asked else {
            let nothing = BTreeMap::new();
            let all = durable.map_or(&nothing, DurableGroup::offsets);
            let topics = all.iter().map(|(topic, partitions)| {
                let answers = partitions
                    .iter()
                    .map(|(partition, committed)| fetched(partition.get(), Some(committed), ErrorCode::None));
                (topic.clone(), answers.collect())
            });
            return topics.collect();
        };
        let topics = asked.into_iter().map(|(topic, partitions)| {
            let answers = partitions.into_iter().map(|partition| {
                let committed = durable.and_then(|group| group.offset(&topic, PartitionId::new(partition)));
                fetched(partition, committed, ErrorCode::None)
            });
            let answers = answers.collect();
            (topic, answers)
        });
        topics.collect()
    }

    pub(super) fn delete_offsets(&self, token: RequestToken, request: OffsetDeleteRequest) -> Effects {
        if request.group_id.is_empty() {
            return Effects::reply(token, delete_error(ErrorCode::InvalidGroupId));
        }
        let Some(group) = self.live.get(&request.group_id) else {
            return Effects::reply(token, delete_error(ErrorCode::GroupIdNotFound));
        };
        let consumer = self.consumer_group(&request.group_id);
        if consumer.is_none() && !may_delete_offsets(group) {
            return Effects::reply(token, delete_error(ErrorCode::NonEmptyGroup));
        }
        let durable = self.durable.group(&request.group_id);
        let mut effects = Effects::default();
        let mut response = OffsetDeleteResponse::default();
        for topic in request.topics {
            let is_subscribed = match consumer {
                Some(consumer) => consumer.is_subscribed(&topic.name),
                None => group.is_subscribed(&topic.name),
            };
            let mut partitions = Vec::new();
            for partition in topic.partitions {
                let index = PartitionId::new(partition.partition_index);
                let error = if is_subscribed {
                    ErrorCode::GroupSubscribedToTopic
                } else {
                    ErrorCode::None
                };
                let is_committed = durable.is_some_and(|group| group.offset(&topic.name, index).is_some());
                if is_committed && !is_subscribed {
                    // The topic's name came out of a record, so it fits into one.
                    effects
                        .records
                        .extend(tombstone(&request.group_id, &topic.name, index));
                }
                partitions.push(OffsetDeleteResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: error.code(),
                });
            }
            response.topics.push(OffsetDeleteResponseTopic {
                name: topic.name,
                partitions,
            });
        }
        effects
            .replies
            .push((token, ResponseBody::OffsetDelete(response)));
        effects
    }
}

/// Who may commit for a consumer group (KIP-848): nobody's commit while it is empty, else a member at its epoch.
fn check_consumer_commit(
    group: &ConsumerGroup,
    api_version: i16,
    request: &OffsetCommitRequest,
) -> Result<(), ErrorCode> {
    let epoch = request.generation_id_or_member_epoch;
    if epoch < 0 && group.member_count() == 0 {
        return Ok(());
    }
    let member = group
        .member(&request.member_id)
        .ok_or(ErrorCode::UnknownMemberId)?;
    if !member.is_classic() && api_version < FIRST_COMMIT_VERSION_WITH_MEMBER_EPOCH {
        return Err(ErrorCode::UnsupportedVersion);
    }
    check_member_epoch(member, epoch)
}

/// Who may ask for a consumer group's offsets: anybody who does not claim to be a member, else one at its epoch.
fn check_consumer_fetch(
    group: &ConsumerGroup,
    member_id: Option<&ByteString>,
    epoch: i32,
) -> Result<(), ErrorCode> {
    let Some(member_id) = member_id else {
        return match epoch {
            ..0 => Ok(()),
            0.. => Err(ErrorCode::UnknownMemberId),
        };
    };
    let member = group.member(member_id).ok_or(ErrorCode::UnknownMemberId)?;
    check_member_epoch(member, epoch)
}

fn check_member_epoch(member: &ConsumerMember, epoch: i32) -> Result<(), ErrorCode> {
    match (epoch == member.current.epoch, member.is_classic()) {
        (true, _) => Ok(()),
        (false, true) => Err(ErrorCode::IllegalGeneration),
        (false, false) => Err(ErrorCode::StaleMemberEpoch),
    }
}

/// Live groups may lose offsets only if it is known which topics they read (KIP-496).
fn may_delete_offsets(group: &LiveGroup) -> bool {
    match group.phase {
        Phase::Empty => true,
        Phase::PreparingRebalance { .. } | Phase::CompletingRebalance | Phase::Stable => {
            group.is_consumer_group()
        }
    }
}

/// Kafka counts the characters of a Java string: UTF-16 units, never more than bytes.
fn is_metadata_too_large(metadata: Option<&ByteString>, max_units: usize) -> bool {
    metadata.is_some_and(|text| text.len() > max_units && text.encode_utf16().count() > max_units)
}

fn offset_record(
    request: &OffsetCommitRequest,
    topic: &ByteString,
    partition: &OffsetCommitRequestPartition,
    now: Timestamp,
) -> Result<CoordinatorRecord, EncodeError> {
    let retention_ms = request.retention_time_ms;
    let leader_epoch = partition.committed_leader_epoch;
    let value = OffsetCommitValue {
        offset: Offset::new(partition.committed_offset),
        leader_epoch: (leader_epoch >= 0).then(|| LeaderEpoch::new(leader_epoch)),
        metadata: partition.committed_metadata.clone().unwrap_or_default(),
        commit_timestamp: now,
        expire_timestamp: (retention_ms != DEFAULT_RETENTION)
            .then(|| Timestamp::new(now.get().saturating_add(retention_ms))),
    };
    Ok(CoordinatorRecord {
        key: offset_key(
            &request.group_id,
            topic,
            PartitionId::new(partition.partition_index),
        )?,
        value: Some(value.encode(value.preferred_version())?),
    })
}
