//! The records of `__consumer_offsets`, in Kafka's formats, byte for byte.
//!
//! A key begins with a two-byte version that also tells its kind: 0 and 1 are a committed offset, 2 is a
//! group's metadata; a record without a value deletes what the key names. Values begin with a version of their
//! own. The layouts are Kafka's message schemas of the same names; integers are big-endian.
//!
//! ```text
//! OffsetCommitKey v0-1      version:i16 group:str topic:str partition:i32
//! OffsetCommitValue v0-4    version:i16 offset:i64 [3+ leader_epoch:i32] metadata:str commit_ts:i64 [1 expire_ts:i64]
//! GroupMetadataKey v2       version:i16 group:str
//! GroupMetadataValue v0-4   version:i16 protocol_type:str generation:i32 protocol:str? leader:str?
//!                           [2+ state_ts:i64] members:[ member_id:str [3+ instance_id:str?] client_id:str
//!                           client_host:str [1+ rebalance_timeout:i32] session_timeout:i32
//!                           subscription:bytes assignment:bytes ]
//! ```
//!
//! Version 4 of both values is flexible: compact strings, bytes and arrays, tagged fields at the end of each
//! struct. We write what Kafka writes today: v3, and v1 for a commit that carries its own expiry; v4 can be
//! written too. All versions are read. Unknown tagged fields are skipped. The records of consumer groups (KIP-848)
//! are in `consumer::records`.
//!
//! # Invariants
//! - Decoding never panics and reserves nothing that the bytes at hand do not pay for.
//! - `decode(encode(x)) == x` for every version that has all the fields of `x`.

pub(crate) mod codec;

use bytes::Bytes;
use bytestring::ByteString;
use highwater_types::{GenerationId, LeaderEpoch, Offset, PartitionId, Timestamp};

use self::codec::{Layout, Reader, Writer};
use crate::consumer::records::is_consumer_key;

/// Names what a record is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordKey {
    /// Key versions 0 and 1.
    OffsetCommit(OffsetCommitKey),
    /// Key version 2.
    GroupMetadata(GroupMetadataKey),
    /// Key versions 3 to 8 and 16: a consumer group's (KIP-848). What stands behind the version is not read yet.
    Consumer { version: i16, rest: Bytes },
}

/// Key of a committed offset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OffsetCommitKey {
    pub group: ByteString,
    pub topic: ByteString,
    pub partition: PartitionId,
}

/// Key of a group's metadata.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupMetadataKey {
    pub group: ByteString,
}

/// A committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommitValue {
    /// Verbatim what the client committed.
    pub offset: Offset,
    /// From version 3 on (KIP-320).
    pub leader_epoch: Option<LeaderEpoch>,
    /// Verbatim what the client committed; null was turned into an empty string.
    pub metadata: ByteString,
    pub commit_timestamp: Timestamp,
    /// Only version 1: the commit named its own retention (OffsetCommit v2-4).
    pub expire_timestamp: Option<Timestamp>,
}

/// A group as it stands at the end of a rebalance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMetadataValue {
    /// Empty for a group that never had members.
    pub protocol_type: ByteString,
    pub generation: GenerationId,
    pub protocol: Option<ByteString>,
    pub leader: Option<ByteString>,
    /// When the group came into its state; from version 2 on.
    pub current_state_timestamp: Option<Timestamp>,
    pub members: Vec<MemberMetadata>,
}

/// One member in [`GroupMetadataValue`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberMetadata {
    pub member_id: ByteString,
    /// Static membership (KIP-345); from version 3 on.
    pub group_instance_id: Option<ByteString>,
    pub client_id: ByteString,
    pub client_host: ByteString,
    /// From version 1 on; -1 means "as the session timeout".
    pub rebalance_timeout_ms: i32,
    pub session_timeout_ms: i32,
    /// The member's metadata for the chosen protocol.
    pub subscription: Bytes,
    pub assignment: Bytes,
}

/// A record cannot be written because a string or byte field does not fit its length prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field {field} of a group record has {length_bytes} bytes, more than its length prefix can tell")]
pub struct EncodeError {
    pub field: &'static str,
    pub length_bytes: usize,
}

/// A record cannot be read. The record is skipped; the state is as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// A kind of record that other coordinators write (share and streams groups).
    #[error("unknown key version {version} of a group record; skip the record")]
    UnknownKeyVersion { version: i16 },
    /// A value version of the future.
    #[error("unknown version {version} of {kind}; skip the record")]
    UnknownValueVersion { kind: &'static str, version: i16 },
    /// The bytes end inside a field, or a length is negative or beyond the end.
    #[error("field {field} of a group record runs past its end at byte {position}")]
    Truncated { field: &'static str, position: usize },
    /// A string is not UTF-8.
    #[error("field {field} of a group record is not UTF-8 at byte {position}")]
    NotUtf8 { field: &'static str, position: usize },
    /// A null where the format allows none.
    #[error("field {field} of a group record is null at byte {position}")]
    UnexpectedNull { field: &'static str, position: usize },
}

/// Versions in which a committed offset can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetCommitValueVersion {
    /// With an expiry of its own, without a leader epoch.
    V1,
    V3,
    /// The first flexible version.
    V4,
}

/// Versions in which a group's metadata can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupMetadataValueVersion {
    V3,
    /// The first flexible version.
    V4,
}

const OFFSET_COMMIT_KEY_VERSION: i16 = 1;
const GROUP_METADATA_KEY_VERSION: i16 = 2;
const NO_TIMESTAMP: i64 = -1;
const NO_LEADER_EPOCH: i32 = -1;

impl RecordKey {
    /// Kafka's bytes of the key.
    pub fn encode(&self) -> Result<Bytes, EncodeError> {
        let mut w = Writer::new(Layout::Fixed);
        match self {
            Self::OffsetCommit(key) => {
                w.i16(OFFSET_COMMIT_KEY_VERSION);
                w.string("group", &key.group)?;
                w.string("topic", &key.topic)?;
                w.i32(key.partition.get());
            }
            Self::GroupMetadata(key) => {
                w.i16(GROUP_METADATA_KEY_VERSION);
                w.string("group", &key.group)?;
            }
            Self::Consumer { version, rest } => {
                w.i16(*version);
                w.raw(rest);
            }
        }
        Ok(w.finish())
    }

    /// Reads a key; versions of other kinds of groups are [`ReplayError::UnknownKeyVersion`].
    pub fn decode(bytes: Bytes) -> Result<Self, ReplayError> {
        let mut r = Reader::new(bytes);
        match r.i16("key version")? {
            0 | 1 => Ok(Self::OffsetCommit(OffsetCommitKey {
                group: r.string("group")?,
                topic: r.string("topic")?,
                partition: PartitionId::new(r.i32("partition")?),
            })),
            2 => Ok(Self::GroupMetadata(GroupMetadataKey {
                group: r.string("group")?,
            })),
            version if is_consumer_key(version) => Ok(Self::Consumer {
                version,
                rest: r.into_rest(),
            }),
            version => Err(ReplayError::UnknownKeyVersion { version }),
        }
    }
}

impl OffsetCommitValue {
    /// The version Kafka would choose for this value.
    pub fn preferred_version(&self) -> OffsetCommitValueVersion {
        if self.expire_timestamp.is_some() {
            OffsetCommitValueVersion::V1
        } else {
            OffsetCommitValueVersion::V3
        }
    }

    /// Kafka's bytes of the value. Version 1 drops the leader epoch, the others the expiry.
    pub fn encode(&self, version: OffsetCommitValueVersion) -> Result<Bytes, EncodeError> {
        let (number, layout) = match version {
            OffsetCommitValueVersion::V1 => (1, Layout::Fixed),
            OffsetCommitValueVersion::V3 => (3, Layout::Fixed),
            OffsetCommitValueVersion::V4 => (4, Layout::Flexible),
        };
        let mut w = Writer::new(layout);
        w.i16(number);
        w.i64(self.offset.get());
        if number >= 3 {
            w.i32(self.leader_epoch.map_or(NO_LEADER_EPOCH, LeaderEpoch::get));
        }
        w.string("metadata", &self.metadata)?;
        w.i64(self.commit_timestamp.get());
        if number == 1 {
            w.i64(self.expire_timestamp.map_or(NO_TIMESTAMP, Timestamp::get));
        }
        w.end_struct();
        Ok(w.finish())
    }

    /// Reads versions 0 to 4.
    pub fn decode(bytes: Bytes) -> Result<Self, ReplayError> {
        let mut r = Reader::new(bytes);
        let version = r.version("OffsetCommitValue")?;
        let offset = Offset::new(r.i64("offset")?);
        let leader_epoch = if version >= 3 {
            r.i32("leaderEpoch")?
        } else {
            NO_LEADER_EPOCH
        };
        let metadata = r.string("metadata")?;
        let commit_timestamp = Timestamp::new(r.i64("commitTimestamp")?);
        let expire_timestamp = if version == 1 {
            r.i64("expireTimestamp")?
        } else {
            NO_TIMESTAMP
        };
        r.end_struct()?;
        Ok(Self {
            offset,
            leader_epoch: (leader_epoch != NO_LEADER_EPOCH).then(|| LeaderEpoch::new(leader_epoch)),
            metadata,
            commit_timestamp,
            expire_timestamp: known_timestamp(expire_timestamp),
        })
    }
}

impl GroupMetadataValue {
    /// Kafka's bytes of the value.
    pub fn encode(&self, version: GroupMetadataValueVersion) -> Result<Bytes, EncodeError> {
        let (number, layout) = match version {
            GroupMetadataValueVersion::V3 => (3, Layout::Fixed),
            GroupMetadataValueVersion::V4 => (4, Layout::Flexible),
        };
        let mut w = Writer::new(layout);
        w.i16(number);
        w.string("protocolType", &self.protocol_type)?;
        w.i32(self.generation.get());
        w.nullable_string("protocol", self.protocol.as_ref())?;
        w.nullable_string("leader", self.leader.as_ref())?;
        w.i64(self.current_state_timestamp.map_or(NO_TIMESTAMP, Timestamp::get));
        w.array_length("members", self.members.len())?;
        for member in &self.members {
            w.string("memberId", &member.member_id)?;
            w.nullable_string("groupInstanceId", member.group_instance_id.as_ref())?;
            w.string("clientId", &member.client_id)?;
            w.string("clientHost", &member.client_host)?;
            w.i32(member.rebalance_timeout_ms);
            w.i32(member.session_timeout_ms);
            w.bytes("subscription", &member.subscription)?;
            w.bytes("assignment", &member.assignment)?;
            w.end_struct();
        }
        w.end_struct();
        Ok(w.finish())
    }

    /// Reads versions 0 to 4.
    pub fn decode(bytes: Bytes) -> Result<Self, ReplayError> {
        let mut r = Reader::new(bytes);
        let version = r.version("GroupMetadataValue")?;
        let protocol_type = r.string("protocolType")?;
        let generation = GenerationId::new(r.i32("generation")?);
        let protocol = r.nullable_string("protocol")?;
        let leader = r.nullable_string("leader")?;
        let current_state_timestamp = if version >= 2 {
            r.i64("currentStateTimestamp")?
        } else {
            NO_TIMESTAMP
        };
        let count = r.array_length("members")?;
        let mut members = Vec::new();
        for _ in 0..count {
            members.push(decode_member(&mut r, version)?);
        }
        r.end_struct()?;
        Ok(Self {
            protocol_type,
            generation,
            protocol,
            leader,
            current_state_timestamp: known_timestamp(current_state_timestamp),
            members,
        })
    }
}

fn decode_member(r: &mut Reader, version: i16) -> Result<MemberMetadata, ReplayError> {
    let member = MemberMetadata {
        member_id: r.string("memberId")?,
        group_instance_id: if version >= 3 {
            r.nullable_string("groupInstanceId")?
        } else {
            None
        },
        client_id: r.string("clientId")?,
        client_host: r.string("clientHost")?,
        rebalance_timeout_ms: if version >= 1 {
            r.i32("rebalanceTimeout")?
        } else {
            -1
        },
        session_timeout_ms: r.i32("sessionTimeout")?,
        subscription: r.bytes("subscription")?,
        assignment: r.bytes("assignment")?,
    };
    r.end_struct()?;
    Ok(member)
}

fn known_timestamp(raw: i64) -> Option<Timestamp> {
    (raw != NO_TIMESTAMP).then(|| Timestamp::new(raw))
}

#[cfg(test)]
mod tests;
