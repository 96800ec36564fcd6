//! What a shard's partition says: the last record of every key.
//!
//! Refuses every change that is not a record ([`DurableState::replay`]). Nothing about members that are just
//! joining, about timers or about connections is in here.
//!
//! # Invariants
//! - GRP-1: equal records in equal order give equal state, whoever replays them.
//! - A group without metadata, without a consumer group's records and without offsets is not in the map.

use std::collections::BTreeMap;

use bytes::Bytes;
use bytestring::ByteString;
use highwater_types::{LeaderEpoch, Offset, PartitionId, Timestamp};

use crate::consumer::group::ConsumerGroup;
use crate::consumer::records::{self as consumer, Change};
use crate::records::codec::Reader;
use crate::records::{
    GroupMetadataKey, GroupMetadataValue, OffsetCommitKey, OffsetCommitValue, RecordKey, ReplayError,
};

/// An offset as it was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    pub offset: Offset,
    pub leader_epoch: Option<LeaderEpoch>,
    pub metadata: ByteString,
    pub commit_timestamp: Timestamp,
    /// Set only by clients that name a retention of their own.
    pub expire_timestamp: Option<Timestamp>,
}

/// One group's records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DurableGroup {
    metadata: Option<GroupMetadataValue>,
    consumer: Option<ConsumerGroup>,
    offsets: BTreeMap<ByteString, BTreeMap<PartitionId, CommittedOffset>>,
    offset_count: usize,
}

/// All groups of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DurableState {
    groups: BTreeMap<ByteString, DurableGroup>,
}

/// What a replayed record was about.
#[derive(Debug)]
#[must_use]
pub(crate) enum Replayed {
    Offset { group: ByteString },
    Metadata { group: ByteString },
    Consumer { group: ByteString, is_deletion: bool },
}

impl DurableGroup {
    /// The group as of its last rebalance; `None` if only offsets were ever committed.
    pub fn metadata(&self) -> Option<&GroupMetadataValue> {
        self.metadata.as_ref()
    }

    /// The group as the newer protocol has it (KIP-848); `None` for a classic one.
    pub fn consumer(&self) -> Option<&ConsumerGroup> {
        self.consumer.as_ref()
    }

    /// How many members are on record.
    pub fn member_count(&self) -> usize {
        let classic = self
            .metadata
            .as_ref()
            .map_or(0, |metadata| metadata.members.len());
        self.consumer
            .as_ref()
            .map_or(classic, ConsumerGroup::member_count)
    }

    /// The committed offset of one partition.
    pub fn offset(&self, topic: &str, partition: PartitionId) -> Option<&CommittedOffset> {
        self.offsets.get(topic)?.get(&partition)
    }

    /// All committed offsets, by topic and partition.
    pub fn offsets(&self) -> &BTreeMap<ByteString, BTreeMap<PartitionId, CommittedOffset>> {
        &self.offsets
    }

    /// How many offsets are committed.
    pub fn offset_count(&self) -> usize {
        self.offset_count
    }

    fn is_vacant(&self) -> bool {
        self.metadata.is_none() && self.consumer.is_none() && self.offset_count == 0
    }

    fn put_offset(&mut self, topic: ByteString, partition: PartitionId, value: OffsetCommitValue) {
        let committed = CommittedOffset {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata,
            commit_timestamp: value.commit_timestamp,
            expire_timestamp: value.expire_timestamp,
        };
        if self
            .offsets
            .entry(topic)
            .or_default()
            .insert(partition, committed)
            .is_none()
        {
            self.offset_count += 1;
        }
    }

    fn remove_offset(&mut self, topic: &str, partition: PartitionId) {
        let Some(partitions) = self.offsets.get_mut(topic) else {
            return;
        };
        if partitions.remove(&partition).is_some() {
            self.offset_count -= 1;
        }
        if partitions.is_empty() {
            self.offsets.remove(topic);
        }
    }
}

impl DurableState {
    /// Groups by name.
    pub fn groups(&self) -> &BTreeMap<ByteString, DurableGroup> {
        &self.groups
    }

    /// One group.
    pub fn group(&self, group: &str) -> Option<&DurableGroup> {
        self.groups.get(group)
    }

    /// Takes one record. On an error nothing has changed.
    pub(crate) fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<Replayed, ReplayError> {
        let key = RecordKey::decode(Bytes::copy_from_slice(key))?;
        let value = value.map(Bytes::copy_from_slice);
        match key {
            RecordKey::OffsetCommit(OffsetCommitKey {
                group,
                topic,
                partition,
            }) => {
                match value.map(OffsetCommitValue::decode).transpose()? {
                    Some(value) => self.entry(&group).put_offset(topic, partition, value),
                    None => self.change_existing(&group, |state| state.remove_offset(&topic, partition)),
                }
                Ok(Replayed::Offset { group })
            }
            RecordKey::GroupMetadata(GroupMetadataKey { group }) => {
                match value.map(GroupMetadataValue::decode).transpose()? {
                    Some(value) => self.entry(&group).metadata = Some(value),
                    None => self.change_existing(&group, |state| state.metadata = None),
                }
                Ok(Replayed::Metadata { group })
            }
            RecordKey::Consumer { version, rest } => {
                let (group, change) = consumer::decode(version, &mut Reader::new(rest), value)?;
                let is_deletion = change.is_deletion();
                match change {
                    Change::Group(None) => self.change_existing(&group, |state| state.consumer = None),
                    Change::SubscriptionMetadata => {}
                    change if is_deletion => self.change_existing(&group, |state| {
                        if let Some(consumer) = &mut state.consumer {
                            consumer.apply(&change);
                        }
                    }),
                    change => self.entry(&group).consumer.get_or_insert_default().apply(&change),
                }
                Ok(Replayed::Consumer { group, is_deletion })
            }
        }
    }

    fn entry(&mut self, group: &ByteString) -> &mut DurableGroup {
        self.groups.entry(group.clone()).or_default()
    }

    fn change_existing(&mut self, group: &ByteString, change: impl FnOnce(&mut DurableGroup)) {
        if let Some(state) = self.groups.get_mut(group) {
            change(state);
            if state.is_vacant() {
                self.groups.remove(group);
            }
        }
    }
}
