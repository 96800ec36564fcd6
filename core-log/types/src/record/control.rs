//! Control records: the marks a log's own machinery leaves in it. Consumers skip them, yet each takes an offset
//! (semantic 39).
//!
//! ```text
//! key     version (2 bytes), type (2 bytes)
//! value   commit and abort:  version (2), coordinator epoch (4)
//!         leader change:     version (2), leader id (4), voters, granting voters, tagged fields
//! ```
//!
//! Refuses to guess: a type or version it does not know is told apart from a broken one, since newer writers may
//! leave marks that older readers must step over.

use bytes::Bytes;

use super::{BatchBuilder, BatchError, BatchOptions, ProducerStamp};
use crate::ids::{BrokerId, Timestamp};

/// What a control record marks; numbers are Kafka's and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ControlType {
    /// The producer's transaction is void (KIP-98).
    Abort,
    /// The producer's transaction holds (KIP-98).
    Commit,
    /// A new leader of a quorum (KIP-595).
    LeaderChange,
    /// First record of a snapshot (KIP-630).
    SnapshotHeader,
    /// Last record of a snapshot (KIP-630).
    SnapshotFooter,
    /// Version of the quorum's protocol (KIP-853).
    QuorumVersion,
    /// Members of the quorum (KIP-853).
    QuorumVoters,
    /// A mark of a newer writer; to be stepped over.
    Unknown(i16),
}

/// Why a key or value is no control record we can read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The bytes end early, or a count or number does not fit them.
    #[error("control record {part} of {length_bytes} bytes is cut short or malformed")]
    Malformed {
        /// Key or value.
        part: &'static str,
        /// Bytes at hand.
        length_bytes: usize,
    },
    /// A negative version.
    #[error("control record {part} has version {version}; versions start at 0")]
    BadVersion {
        /// Key or value.
        part: &'static str,
        /// The version as read.
        version: i16,
    },
}

impl ControlType {
    const fn from_id(id: i16) -> Self {
        match id {
            0 => Self::Abort,
            1 => Self::Commit,
            2 => Self::LeaderChange,
            3 => Self::SnapshotHeader,
            4 => Self::SnapshotFooter,
            5 => Self::QuorumVersion,
            6 => Self::QuorumVoters,
            other => Self::Unknown(other),
        }
    }

    /// The number in the record's key.
    pub const fn id(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::LeaderChange => 2,
            Self::SnapshotHeader => 3,
            Self::SnapshotFooter => 4,
            Self::QuorumVersion => 5,
            Self::QuorumVoters => 6,
            Self::Unknown(id) => id,
        }
    }

    /// The key of a control record of this type.
    pub fn key(self) -> [u8; 4] {
        let [high, low] = self.id().to_be_bytes();
        [0, 0, high, low]
    }

    /// Reads the key of a control record. Versions above 0 only append fields, so they are read as version 0.
    ///
    /// # Errors
    /// [`ControlError`] when the key is short or its version negative.
    pub fn parse_key(key: &[u8]) -> Result<Self, ControlError> {
        let &[v1, v2, t1, t2] = key.first_chunk().ok_or(malformed("key", key))?;
        check_version("key", i16::from_be_bytes([v1, v2]))?;
        Ok(Self::from_id(i16::from_be_bytes([t1, t2])))
    }
}

const fn malformed(part: &'static str, bytes: &[u8]) -> ControlError {
    ControlError::Malformed {
        part,
        length_bytes: bytes.len(),
    }
}

const fn check_version(part: &'static str, version: i16) -> Result<(), ControlError> {
    if version < 0 {
        return Err(ControlError::BadVersion { part, version });
    }
    Ok(())
}

/// How a transaction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TransactionResult {
    /// Its records are void.
    Abort,
    /// Its records hold.
    Commit,
}

/// Value of a commit or abort marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndTransactionMarker {
    /// Epoch of the coordinator that decided; an older one is fenced.
    pub coordinator_epoch: i32,
}

impl EndTransactionMarker {
    /// The value, version 0.
    pub fn to_value(self) -> [u8; 6] {
        let mut value = [0; 6];
        value[2..].copy_from_slice(&self.coordinator_epoch.to_be_bytes());
        value
    }

    /// Reads the value; later versions only append fields.
    ///
    /// # Errors
    /// [`ControlError`] when the value is short or its version negative.
    pub fn parse(value: &[u8]) -> Result<Self, ControlError> {
        let &[v1, v2, ref epoch @ ..] = value.first_chunk::<6>().ok_or(malformed("value", value))?;
        check_version("value", i16::from_be_bytes([v1, v2]))?;
        Ok(Self {
            coordinator_epoch: i32::from_be_bytes(*epoch),
        })
    }

    /// The whole batch of a marker: one record, transactional, without a sequence, and stamped with the producer
    /// whose transaction it ends. `options` gives the producer, the base offset and the leader epoch.
    ///
    /// # Errors
    /// None in practice: one small record always fits.
    pub fn to_batch(
        self,
        result: TransactionResult,
        now: Timestamp,
        options: BatchOptions,
    ) -> Result<Bytes, BatchError> {
        let kind = match result {
            TransactionResult::Abort => ControlType::Abort,
            TransactionResult::Commit => ControlType::Commit,
        };
        let mut builder = BatchBuilder::new(BatchOptions {
            is_control: true,
            is_transactional: true,
            producer: options.producer.map(|producer| ProducerStamp {
                base_sequence: None,
                ..producer
            }),
            ..options
        });
        builder.append(now, Some(&kind.key()), Some(&self.to_value()), &[]);
        builder.build()
    }
}

/// Value of a leader change mark, without the directory ids that version 1 adds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderChange {
    /// The new leader.
    pub leader: BrokerId,
    /// Who could vote.
    pub voters: Vec<BrokerId>,
    /// Who voted for the leader.
    pub granting_voters: Vec<BrokerId>,
}

impl LeaderChange {
    /// The value, version 0, in Kafka's flexible encoding.
    pub fn to_value(&self) -> Vec<u8> {
        let mut value = vec![0, 0];
        value.extend_from_slice(&self.leader.get().to_be_bytes());
        for voters in [&self.voters, &self.granting_voters] {
            put_unsigned(&mut value, voters.len() + 1);
            for voter in voters {
                value.extend_from_slice(&voter.get().to_be_bytes());
                value.push(0); // no tagged fields
            }
        }
        value.push(0);
        value
    }

    /// Reads versions 0 and 1; tagged fields are skipped.
    ///
    /// # Errors
    /// [`ControlError`] when the value is cut short, a count passes its bytes, or the version is negative.
    pub fn parse(value: &[u8]) -> Result<Self, ControlError> {
        let short = || malformed("value", value);
        let mut reader = ValueReader { rest: value };
        let version = i16::from_be_bytes(reader.array().ok_or_else(short)?);
        check_version("value", version)?;
        let id_bytes = if version == 0 { 0 } else { 16 };
        let leader = BrokerId::new(i32::from_be_bytes(reader.array().ok_or_else(short)?));
        Ok(Self {
            leader,
            voters: reader.voters(id_bytes).ok_or_else(short)?,
            granting_voters: reader.voters(id_bytes).ok_or_else(short)?,
        })
    }
}

fn put_unsigned(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

struct ValueReader<'a> {
    rest: &'a [u8],
}

impl<'a> ValueReader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*head)
    }

    fn skip(&mut self, bytes: usize) -> Option<()> {
        self.rest = self.rest.get(bytes..)?;
        Some(())
    }

    fn unsigned(&mut self) -> Option<usize> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return usize::try_from(value).ok();
            }
        }
        None
    }

    fn tagged_fields(&mut self) -> Option<()> {
        for _ in 0..self.unsigned()? {
            self.unsigned()?;
            let bytes = self.unsigned()?;
            self.skip(bytes)?;
        }
        Some(())
    }

    /// An array of voters; grows with the bytes read, not with the count claimed.
    fn voters(&mut self, id_bytes: usize) -> Option<Vec<BrokerId>> {
        let count = self.unsigned()?.checked_sub(1)?;
        let mut voters = Vec::new();
        for _ in 0..count {
            voters.push(BrokerId::new(i32::from_be_bytes(self.array()?)));
            self.skip(id_bytes)?;
            self.tagged_fields()?;
        }
        Some(voters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_type_lead_back_to_it_even_unknown_ones() {
        for id in 0..9 {
            let kind = ControlType::from_id(id);
            assert_eq!(kind.id(), id);
            assert_eq!(ControlType::parse_key(&kind.key()), Ok(kind));
        }
        assert_eq!(ControlType::from_id(8), ControlType::Unknown(8));
        assert_eq!(ControlType::Commit.key(), [0, 0, 0, 1]);
    }

    #[test]
    fn later_versions_are_read_and_negative_or_short_ones_refused() {
        assert_eq!(
            ControlType::parse_key(&[0, 3, 0, 0, 9, 9]),
            Ok(ControlType::Abort)
        );
        let version = |version| ControlError::BadVersion { part: "key", version };
        assert_eq!(ControlType::parse_key(&[0xff, 0xff, 0, 0]), Err(version(-1)));
        assert_eq!(
            ControlType::parse_key(&[0, 0, 0]),
            Err(ControlError::Malformed {
                part: "key",
                length_bytes: 3
            })
        );
        assert_eq!(
            EndTransactionMarker::parse(&[0, 0, 0, 0, 5]),
            Err(ControlError::Malformed {
                part: "value",
                length_bytes: 5
            })
        );
        let marker = EndTransactionMarker { coordinator_epoch: 5 };
        assert_eq!(EndTransactionMarker::parse(&marker.to_value()), Ok(marker));
    }

    #[test]
    fn a_leader_change_has_the_bytes_of_kafkas_schema_and_comes_back() {
        let change = LeaderChange {
            leader: BrokerId::new(2),
            voters: vec![BrokerId::new(1), BrokerId::new(2)],
            granting_voters: vec![BrokerId::new(2)],
        };
        let bytes = [
            0, 0, 0, 0, 0, 2, // version, leader
            3, 0, 0, 0, 1, 0, 0, 0, 0, 2, 0, // two voters
            2, 0, 0, 0, 2, 0, // one of them granting
            0, // no tagged fields
        ];
        assert_eq!(change.to_value(), bytes);
        assert_eq!(LeaderChange::parse(&bytes), Ok(change));
        for cut in 0..bytes.len() - 1 {
            assert!(LeaderChange::parse(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        let many_voters = [0, 0, 0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff, 0x0f];
        assert!(LeaderChange::parse(&many_voters).is_err());
    }
}
