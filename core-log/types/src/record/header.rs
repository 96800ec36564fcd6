//! The 61 bytes in front of every batch.
//!
//! Refuses: checking the CRC (that needs the body; see `RecordBatch::verify_crc`) and judging whether a producer
//! may write such a batch (see `BatchHeader::check_from_producer`).
//!
//! # Invariants
//! - The length covers the header, the codec is known, count and last delta are 0 or more, and the offset after the
//!   last one fits an `i64`.

use super::{
    BatchError, Compression, ProducerRefusal, TimestampType,
    attributes::{CODEC_MASK, CONTROL, DELETE_HORIZON, LOG_APPEND_TIME, TRANSACTIONAL},
};
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// Bytes of a batch header.
pub const HEADER_BYTES: usize = 61;
/// Bytes in front of what the length field counts: base offset and the length itself.
pub const LOG_OVERHEAD_BYTES: usize = 12;
/// The format version this system reads and writes.
pub const MAGIC: i8 = 2;

pub(super) const BATCH_LENGTH_AT: usize = 8;
pub(super) const LEADER_EPOCH_AT: usize = 12;
pub(super) const MAGIC_AT: usize = 16;
pub(super) const CRC_AT: usize = 17;
pub(super) const ATTRIBUTES_AT: usize = 21;
pub(super) const LAST_OFFSET_DELTA_AT: usize = 23;
pub(super) const BASE_TIMESTAMP_AT: usize = 27;
pub(super) const MAX_TIMESTAMP_AT: usize = 35;
pub(super) const PRODUCER_ID_AT: usize = 43;
pub(super) const PRODUCER_EPOCH_AT: usize = 51;
pub(super) const BASE_SEQUENCE_AT: usize = 53;
pub(super) const RECORD_COUNT_AT: usize = 57;

/// The fields of a batch header, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record the batch was written with; compaction keeps it even if that record is gone.
    pub base_offset: Offset,
    /// Bytes after the length field.
    pub batch_length: i32,
    /// Epoch of the leader that appended the batch; [`LeaderEpoch::UNKNOWN`] when it comes from a producer.
    pub partition_leader_epoch: LeaderEpoch,
    /// Format version, always [`MAGIC`].
    pub magic: i8,
    /// CRC-32C the batch carries, not checked yet.
    pub crc: u32,
    /// All attribute bits, unknown ones included.
    pub attributes: u16,
    /// Offset of the last record minus the base offset, as the batch was written.
    pub last_offset_delta: i32,
    /// What timestamp deltas count from; equals the delete horizon when that flag is set.
    pub base_timestamp: Timestamp,
    /// Largest timestamp in the batch, or the append time of all of it.
    pub max_timestamp: Timestamp,
    /// Set when the producer is idempotent.
    pub producer_id: Option<ProducerId>,
    /// Set when the producer is idempotent.
    pub producer_epoch: Option<ProducerEpoch>,
    /// Sequence of the first record, when the producer is idempotent.
    pub base_sequence: Option<Sequence>,
    /// Records in the body; may be below `last_offset_delta + 1` after compaction.
    pub record_count: i32,
}

fn array_at<const N: usize>(header: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&header[at..at + N]);
    out
}

fn i32_at(header: &[u8; HEADER_BYTES], at: usize) -> i32 {
    i32::from_be_bytes(array_at(header, at))
}

fn i64_at(header: &[u8; HEADER_BYTES], at: usize) -> i64 {
    i64::from_be_bytes(array_at(header, at))
}

impl BatchHeader {
    /// Decodes the first 61 bytes of `batch`; neither the CRC nor the body is looked at.
    ///
    /// # Errors
    /// [`BatchError`] for too few bytes, a foreign magic, a length below the header's, an unknown codec, and counts
    /// or offsets that cannot be. Foreign magics are told apart as soon as 17 bytes are there, since messages of
    /// the old formats may be shorter than our header.
    pub fn parse(batch: &[u8]) -> Result<Self, BatchError> {
        if let (Some(&magic), Some(offset)) = (batch.get(MAGIC_AT), batch.first_chunk::<8>())
            && magic as i8 != MAGIC
        {
            return Err(BatchError::UnsupportedMagic {
                magic: magic as i8,
                base_offset: i64::from_be_bytes(*offset),
            });
        }
        let raw = batch.first_chunk::<HEADER_BYTES>().ok_or(BatchError::Truncated {
            needed_bytes: HEADER_BYTES,
            available_bytes: batch.len(),
        })?;
        let unless_negative = |raw: i64| (raw >= 0).then_some(raw);
        let header = Self {
            base_offset: Offset::new(i64_at(raw, 0)),
            batch_length: i32_at(raw, BATCH_LENGTH_AT),
            partition_leader_epoch: LeaderEpoch::new(i32_at(raw, LEADER_EPOCH_AT)),
            magic: raw[MAGIC_AT] as i8,
            crc: u32::from_be_bytes(array_at(raw, CRC_AT)),
            attributes: u16::from_be_bytes(array_at(raw, ATTRIBUTES_AT)),
            last_offset_delta: i32_at(raw, LAST_OFFSET_DELTA_AT),
            base_timestamp: Timestamp::new(i64_at(raw, BASE_TIMESTAMP_AT)),
            max_timestamp: Timestamp::new(i64_at(raw, MAX_TIMESTAMP_AT)),
            producer_id: unless_negative(i64_at(raw, PRODUCER_ID_AT)).map(ProducerId::new),
            producer_epoch: Some(i16::from_be_bytes(array_at(raw, PRODUCER_EPOCH_AT)))
                .filter(|raw| *raw >= 0)
                .map(ProducerEpoch::new),
            base_sequence: Some(i32_at(raw, BASE_SEQUENCE_AT))
                .filter(|raw| *raw >= 0)
                .map(Sequence::new),
            record_count: i32_at(raw, RECORD_COUNT_AT),
        };
        header.check_arithmetic()?;
        Ok(header)
    }

    fn check_arithmetic(&self) -> Result<(), BatchError> {
        let base_offset = self.base_offset.get();
        if self.batch_length < (HEADER_BYTES - LOG_OVERHEAD_BYTES) as i32 {
            return Err(BatchError::InvalidBatchLength {
                batch_length: self.batch_length,
                base_offset,
            });
        }
        let codec = (self.attributes & CODEC_MASK) as u8;
        if Compression::from_id(codec).is_none() {
            return Err(BatchError::UnknownCodec {
                id: codec,
                base_offset,
            });
        }
        let next_fits = base_offset
            .checked_add(i64::from(self.last_offset_delta))
            .is_some_and(|last| last < i64::MAX);
        if self.last_offset_delta < 0 || self.record_count < 0 || !next_fits {
            return Err(BatchError::InvalidCounts {
                base_offset,
                last_offset_delta: self.last_offset_delta,
                record_count: self.record_count,
            });
        }
        Ok(())
    }

    /// The 61 bytes of this header, the CRC as it stands in it.
    pub(super) fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut raw = [0; HEADER_BYTES];
        let mut put = |at: usize, bytes: &[u8]| raw[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &self.base_offset.get().to_be_bytes());
        put(BATCH_LENGTH_AT, &self.batch_length.to_be_bytes());
        put(LEADER_EPOCH_AT, &self.partition_leader_epoch.get().to_be_bytes());
        put(MAGIC_AT, &self.magic.to_be_bytes());
        put(CRC_AT, &self.crc.to_be_bytes());
        put(ATTRIBUTES_AT, &self.attributes.to_be_bytes());
        put(LAST_OFFSET_DELTA_AT, &self.last_offset_delta.to_be_bytes());
        put(BASE_TIMESTAMP_AT, &self.base_timestamp.get().to_be_bytes());
        put(MAX_TIMESTAMP_AT, &self.max_timestamp.get().to_be_bytes());
        put(
            PRODUCER_ID_AT,
            &self.producer_id.map_or(-1, ProducerId::get).to_be_bytes(),
        );
        put(
            PRODUCER_EPOCH_AT,
            &self.producer_epoch.map_or(-1, ProducerEpoch::get).to_be_bytes(),
        );
        put(
            BASE_SEQUENCE_AT,
            &self.base_sequence.map_or(-1, Sequence::get).to_be_bytes(),
        );
        put(RECORD_COUNT_AT, &self.record_count.to_be_bytes());
        raw
    }

    /// Offset of the last record, as the batch was written.
    pub const fn last_offset(&self) -> Offset {
        self.base_offset.advance_by(self.last_offset_delta as i64)
    }

    /// Where the log goes on after this batch.
    pub const fn next_offset(&self) -> Offset {
        self.last_offset().next()
    }

    /// Bytes of the whole batch, from the base offset field to the end of the body.
    pub const fn size_bytes(&self) -> usize {
        self.batch_length as usize + LOG_OVERHEAD_BYTES
    }

    /// How the body is compressed.
    pub fn compression(&self) -> Compression {
        Compression::from_id((self.attributes & CODEC_MASK) as u8).unwrap_or(Compression::None) // parse refused the rest; fields set by hand count as uncompressed
    }

    /// Whose clock the timestamps come from.
    pub const fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    pub const fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    /// Whether the batch carries a marker for the log's own use; consumers skip it (semantic 39).
    pub const fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    /// When the tombstones and markers of a compacted batch may go (KIP-534); `None` before the first compaction.
    pub const fn delete_horizon(&self) -> Option<Timestamp> {
        if self.attributes & DELETE_HORIZON == 0 {
            None
        } else {
            Some(self.base_timestamp)
        }
    }

    /// Sequence of the last record, when the producer is idempotent.
    pub fn last_sequence(&self) -> Option<Sequence> {
        self.base_sequence
            .map(|base| base.advance_by(self.last_offset_delta))
    }

    /// The rules for a batch that comes from a producer, as far as the header tells (semantic 26): some records,
    /// consecutive offsets, no control batch, and a complete producer stamp or none.
    ///
    /// Together with a walk over the records, which makes deltas grow within the last one, this also proves that
    /// the deltas are 0 to n-1.
    ///
    /// # Errors
    /// [`BatchError::RefusedFromProducer`]; Kafka answers INVALID_RECORD (87).
    pub fn check_from_producer(&self) -> Result<(), BatchError> {
        let refusal = if self.record_count == 0 {
            ProducerRefusal::NoRecords
        } else if self.last_offset_delta != self.record_count - 1 {
            ProducerRefusal::CountMismatch {
                record_count: self.record_count,
                last_offset_delta: self.last_offset_delta,
            }
        } else if self.is_control() {
            ProducerRefusal::Control
        } else if self.producer_id.is_some()
            && (self.producer_epoch.is_none() || self.base_sequence.is_none())
        {
            ProducerRefusal::IncompleteProducer
        } else if self.producer_id.is_none() && self.is_transactional() {
            ProducerRefusal::TransactionalWithoutProducer
        } else {
            return Ok(());
        };
        Err(BatchError::RefusedFromProducer { refusal })
    }
}
