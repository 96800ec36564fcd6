//! The records of consumer groups, in Kafka's formats: key versions 3 to 8 and 16 of `__consumer_offsets`.
//!
//! ```text
//! key  3 group                    GroupMetadata        epoch:i32 [tag 0 metadata_hash:i64]
//! key  4 group                    PartitionMetadata    written by Kafka before 4.1; only read, and ignored
//! key  5 group member             MemberMetadata       instance? rack? client host names[] regex? rebalance:i32
//!                                                      assignor? [tag 0 classic: session:i32 protocols[]]
//! key  6 group                    TargetMetadata       epoch:i32
//! key  7 group member             TargetMember         [topic:uuid partitions[]]
//! key  8 group member             CurrentAssignment    epoch:i32 previous:i32 state:i8 assigned[] revoking[]
//! key 16 group regex              RegularExpression    topics[] version:i64 timestamp:i64
//! ```
//!
//! Keys have fixed-width lengths, values are version 0 and flexible. A record without a value deletes.

use std::collections::BTreeSet;

use bytes::Bytes;
use bytestring::ByteString;
use highwater_types::Timestamp;

use super::group::{ClassicTerms, MemberState, partitions_from};
use super::partitions::Partitions;
use crate::effects::CoordinatorRecord;
use crate::records::codec::{Layout, Reader, Writer};
use crate::records::{EncodeError, ReplayError};

const GROUP_KEY: i16 = 3;
const PARTITION_METADATA_KEY: i16 = 4;
const MEMBER_KEY: i16 = 5;
const TARGET_EPOCH_KEY: i16 = 6;
const TARGET_KEY: i16 = 7;
const CURRENT_KEY: i16 = 8;
const REGEX_KEY: i16 = 16;
const VALUE_VERSION: i16 = 0;

/// What one record does to a group; `None` deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    Group(Option<GroupValue>),
    /// Of older coordinators; says nothing that is needed.
    SubscriptionMetadata,
    Member(ByteString, Option<MemberMetadata>),
    TargetEpoch(Option<i32>),
    Target(ByteString, Option<Partitions>),
    Current(ByteString, Option<CurrentAssignment>),
    Regex(ByteString, Option<BTreeSet<ByteString>>),
}

impl Change {
    /// Whether the record has no value.
    pub(crate) fn is_deletion(&self) -> bool {
        match self {
            Self::SubscriptionMetadata => false,
            Self::Group(value) => value.is_none(),
            Self::Member(_, value) => value.is_none(),
            Self::TargetEpoch(value) => value.is_none(),
            Self::Target(_, value) => value.is_none(),
            Self::Current(_, value) => value.is_none(),
            Self::Regex(_, value) => value.is_none(),
        }
    }
}

/// The group itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupValue {
    pub(crate) epoch: i32,
    pub(crate) metadata_hash: i64,
}

/// What a member says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MemberMetadata {
    pub(crate) instance_id: Option<ByteString>,
    pub(crate) rack_id: Option<ByteString>,
    pub(crate) client_id: ByteString,
    pub(crate) client_host: ByteString,
    pub(crate) topic_names: BTreeSet<ByteString>,
    /// Never empty.
    pub(crate) topic_regex: Option<ByteString>,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) server_assignor: Option<ByteString>,
    /// Set if the member speaks the classic protocol.
    pub(crate) classic: Option<ClassicTerms>,
}

/// What a member owns, and at which epoch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CurrentAssignment {
    pub(crate) epoch: i32,
    /// In case the answer that told the last epoch was lost.
    pub(crate) previous_epoch: i32,
    pub(crate) state: MemberState,
    pub(crate) assigned: Partitions,
    /// To be given up before the member may go on.
    pub(crate) revoking: Partitions,
}

impl MemberMetadata {
    pub(crate) fn subscription_bytes(&self) -> usize {
        let names: usize = self.topic_names.iter().map(|name| name.len()).sum();
        let protocols = self.classic.iter().flat_map(|classic| &classic.protocols);
        let protocols: usize = protocols
            .map(|(name, metadata)| name.len() + metadata.len())
            .sum();
        names + protocols + self.topic_regex.as_ref().map_or(0, |regex| regex.len())
    }
}

impl MemberState {
    fn number(self) -> i8 {
        match self {
            Self::Stable => 0,
            Self::UnrevokedPartitions => 1,
            Self::UnreleasedPartitions => 2,
            Self::Unknown => 127,
        }
    }

    fn from_number(number: i8) -> Self {
        match number {
            0 => Self::Stable,
            1 => Self::UnrevokedPartitions,
            2 => Self::UnreleasedPartitions,
            _ => Self::Unknown,
        }
    }
}

/// Whether a key of this version belongs to a consumer group.
pub(crate) fn is_consumer_key(version: i16) -> bool {
    matches!(version, GROUP_KEY..=CURRENT_KEY | REGEX_KEY)
}

/// The record of a change.
pub(crate) fn encode(
    group_id: &ByteString,
    change: &Change,
    now: Timestamp,
) -> Result<CoordinatorRecord, EncodeError> {
    let mut key = Writer::new(Layout::Fixed);
    let (version, name) = match change {
        Change::Group(_) => (GROUP_KEY, None),
        Change::SubscriptionMetadata => (PARTITION_METADATA_KEY, None),
        Change::Member(member_id, _) => (MEMBER_KEY, Some(member_id)),
        Change::TargetEpoch(_) => (TARGET_EPOCH_KEY, None),
        Change::Target(member_id, _) => (TARGET_KEY, Some(member_id)),
        Change::Current(member_id, _) => (CURRENT_KEY, Some(member_id)),
        Change::Regex(regex, _) => (REGEX_KEY, Some(regex)),
    };
    key.i16(version);
    key.string("groupId", group_id)?;
    if let Some(name) = name {
        key.string("memberId", name)?;
    }
    Ok(CoordinatorRecord {
        key: key.finish(),
        value: encode_value(change, now)?,
    })
}

fn encode_value(change: &Change, now: Timestamp) -> Result<Option<Bytes>, EncodeError> {
    let mut w = Writer::new(Layout::Flexible);
    w.i16(VALUE_VERSION);
    match change {
        Change::Group(Some(value)) => {
            w.i32(value.epoch);
            let hash = (value.metadata_hash != 0).then(|| {
                let bytes = Bytes::copy_from_slice(&value.metadata_hash.to_be_bytes());
                (0, bytes)
            });
            w.end_struct_with(hash)?;
        }
        Change::Member(_, Some(metadata)) => encode_member(&mut w, metadata)?,
        Change::TargetEpoch(Some(epoch)) => {
            w.i32(*epoch);
            w.end_struct();
        }
        Change::Target(_, Some(partitions)) => {
            encode_partitions(&mut w, partitions)?;
            w.end_struct();
        }
        Change::Current(_, Some(current)) => {
            w.i32(current.epoch);
            w.i32(current.previous_epoch);
            w.i8(current.state.number());
            encode_partitions(&mut w, &current.assigned)?;
            encode_partitions(&mut w, &current.revoking)?;
            w.end_struct();
        }
        Change::Regex(_, Some(topics)) => {
            encode_strings(&mut w, "topics", topics)?;
            w.i64(0);
            w.i64(now.get());
            w.end_struct();
        }
        Change::SubscriptionMetadata
        | Change::Group(None)
        | Change::Member(_, None)
        | Change::TargetEpoch(None)
        | Change::Target(_, None)
        | Change::Current(_, None)
        | Change::Regex(_, None) => return Ok(None),
    }
    Ok(Some(w.finish()))
}

fn encode_member(w: &mut Writer, metadata: &MemberMetadata) -> Result<(), EncodeError> {
    w.nullable_string("instanceId", metadata.instance_id.as_ref())?;
    w.nullable_string("rackId", metadata.rack_id.as_ref())?;
    w.string("clientId", &metadata.client_id)?;
    w.string("clientHost", &metadata.client_host)?;
    encode_strings(w, "subscribedTopicNames", &metadata.topic_names)?;
    w.nullable_string("subscribedTopicRegex", metadata.topic_regex.as_ref())?;
    w.i32(metadata.rebalance_timeout_ms);
    w.nullable_string("serverAssignor", metadata.server_assignor.as_ref())?;
    let classic = match &metadata.classic {
        None => None,
        Some(classic) => {
            let mut inner = Writer::new(Layout::Flexible);
            // A struct that may be null begins with a byte that says that it is there.
            inner.i8(1);
            inner.i32(classic.session_timeout_ms);
            inner.array_length("supportedProtocols", classic.protocols.len())?;
            for (name, metadata) in &classic.protocols {
                inner.string("name", name)?;
                inner.bytes("metadata", metadata)?;
                inner.end_struct();
            }
            inner.end_struct();
            Some((0, inner.finish()))
        }
    };
    w.end_struct_with(classic)
}

fn encode_strings(
    w: &mut Writer,
    field: &'static str,
    strings: &BTreeSet<ByteString>,
) -> Result<(), EncodeError> {
    w.array_length(field, strings.len())?;
    strings.iter().try_for_each(|string| w.string(field, string))
}

fn encode_partitions(w: &mut Writer, partitions: &Partitions) -> Result<(), EncodeError> {
    w.array_length("topicPartitions", partitions.topics().len())?;
    for (topic, partitions) in partitions.topics() {
        w.uuid(topic);
        w.array_length("partitions", partitions.len())?;
        for partition in partitions {
            w.i32(*partition);
        }
        w.end_struct();
    }
    Ok(())
}

/// Reads a record whose key is of version `version`; `key` stands behind that version.
pub(crate) fn decode(
    version: i16,
    key: &mut Reader,
    value: Option<Bytes>,
) -> Result<(ByteString, Change), ReplayError> {
    let group_id = key.string("groupId")?;
    let change = match version {
        GROUP_KEY => Change::Group(value.map(decode_group).transpose()?),
        PARTITION_METADATA_KEY => Change::SubscriptionMetadata,
        MEMBER_KEY => Change::Member(key.string("memberId")?, value.map(decode_member).transpose()?),
        TARGET_EPOCH_KEY => Change::TargetEpoch(value.map(decode_target_epoch).transpose()?),
        TARGET_KEY => Change::Target(key.string("memberId")?, value.map(decode_target).transpose()?),
        CURRENT_KEY => Change::Current(key.string("memberId")?, value.map(decode_current).transpose()?),
        REGEX_KEY => Change::Regex(
            key.string("regularExpression")?,
            value.map(decode_regex).transpose()?,
        ),
        version => return Err(ReplayError::UnknownKeyVersion { version }),
    };
    Ok((group_id, change))
}

fn decode_group(bytes: Bytes) -> Result<GroupValue, ReplayError> {
    let mut r = Reader::new(bytes);
    r.flexible_version("ConsumerGroupMetadataValue")?;
    let epoch = r.i32("epoch")?;
    let mut metadata_hash = 0;
    r.end_struct_with(|tag, inner| {
        if tag == 0 {
            metadata_hash = inner.i64("metadataHash")?;
        }
        Ok(())
    })?;
    Ok(GroupValue { epoch, metadata_hash })
}

fn decode_member(bytes: Bytes) -> Result<MemberMetadata, ReplayError> {
    let mut r = Reader::new(bytes);
    r.flexible_version("ConsumerGroupMemberMetadataValue")?;
    let mut metadata = MemberMetadata {
        instance_id: r.nullable_string("instanceId")?,
        rack_id: r.nullable_string("rackId")?,
        client_id: r.string("clientId")?,
        client_host: r.string("clientHost")?,
        topic_names: decode_strings(&mut r, "subscribedTopicNames")?,
        topic_regex: r
            .nullable_string("subscribedTopicRegex")?
            .filter(|regex| !regex.is_empty()),
        rebalance_timeout_ms: r.i32("rebalanceTimeoutMs")?,
        server_assignor: r.nullable_string("serverAssignor")?,
        classic: None,
    };
    r.end_struct_with(|tag, inner| {
        if tag == 0 {
            metadata.classic = decode_classic(inner)?;
        }
        Ok(())
    })?;
    Ok(metadata)
}

fn decode_classic(r: &mut Reader) -> Result<Option<ClassicTerms>, ReplayError> {
    if r.i8("classicMemberMetadata")? < 0 {
        return Ok(None);
    }
    let session_timeout_ms = r.i32("sessionTimeoutMs")?;
    let count = r.array_length("supportedProtocols")?;
    let mut protocols = Vec::new();
    for _ in 0..count {
        protocols.push((r.string("name")?, r.bytes("metadata")?));
        r.end_struct()?;
    }
    r.end_struct()?;
    Ok(Some(ClassicTerms {
        session_timeout_ms,
        protocols,
    }))
}

fn decode_target_epoch(bytes: Bytes) -> Result<i32, ReplayError> {
    let mut r = Reader::new(bytes);
    r.flexible_version("ConsumerGroupTargetAssignmentMetadataValue")?;
    let epoch = r.i32("assignmentEpoch")?;
    r.end_struct()?;
    Ok(epoch)
}

fn decode_target(bytes: Bytes) -> Result<Partitions, ReplayError> {
    let mut r = Reader::new(bytes);
    r.flexible_version("ConsumerGroupTargetAssignmentMemberValue")?;
    let partitions = decode_partitions(&mut r)?;
    r.end_struct()?;
    Ok(partitions)
}

fn decode_current(bytes: Bytes) -> Result<CurrentAssignment, ReplayError> {
    let mut r = Reader::new(bytes);
    r.flexible_version("ConsumerGroupCurrentMemberAssignmentValue")?;
    let current = CurrentAssignment {
        epoch: r.i32("memberEpoch")?,
        previous_epoch: r.i32("previousMemberEpoch")?,
        state: MemberState::from_number(r.i8("state")?),
        assigned: decode_partitions(&mut r)?,
        revoking: decode_partitions(&mut r)?,
    };
    r.end_struct()?;
    Ok(current)
}

fn decode_regex(bytes: Bytes) -> Result<BTreeSet<ByteString>, ReplayError> {
    let mut r = Reader::new(bytes);
    r.flexible_version("ConsumerGroupRegularExpressionValue")?;
    let topics = decode_strings(&mut r, "topics")?;
    r.i64("version")?;
    r.i64("timestamp")?;
    r.end_struct()?;
    Ok(topics)
}

fn decode_strings(r: &mut Reader, field: &'static str) -> Result<BTreeSet<ByteString>, ReplayError> {
    let count = r.array_length(field)?;
    let mut strings = BTreeSet::new();
    for _ in 0..count {
        strings.insert(r.string(field)?);
    }
    Ok(strings)
}

fn decode_partitions(r: &mut Reader) -> Result<Partitions, ReplayError> {
    let count = r.array_length("topicPartitions")?;
    let mut topics = Vec::new();
    for _ in 0..count {
        let topic = r.uuid("topicId")?;
        let count = r.array_length("partitions")?;
        let mut partitions = Vec::new();
        for _ in 0..count {
            partitions.push(r.i32("partition")?);
        }
        r.end_struct()?;
        topics.push((topic, partitions));
    }
    Ok(partitions_from(topics))
}

#[cfg(test)]
mod tests;
