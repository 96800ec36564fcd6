//! Whole batches: splitting a record set into them, checking them, and stamping them in place.
//!
//! Refuses: copying. A [`RecordBatch`] is a window on the buffer it was parsed from.
//!
//! # Invariants
//! - `bytes().len() == header().size_bytes()`.

use bytes::Bytes;

use super::{
    BatchError, BatchHeader, Compression, DecodeLimits, DecodedBatch, Record,
    attributes::LOG_APPEND_TIME,
    compression::decompress,
    header::{ATTRIBUTES_AT, CRC_AT, HEADER_BYTES, LEADER_EPOCH_AT, MAX_TIMESTAMP_AT},
};
use crate::ids::{LeaderEpoch, Offset, Timestamp};

/// One batch: its decoded header and its bytes, shared with the buffer they came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordBatch {
    header: BatchHeader,
    bytes: Bytes,
}

impl RecordBatch {
    /// Cuts the first batch off `bytes` and gives it with the rest. The CRC is not checked.
    ///
    /// # Errors
    /// What [`BatchHeader::parse`] refuses, and [`BatchError::Truncated`] when the batch claims more bytes than
    /// there are.
    pub fn parse(mut bytes: Bytes) -> Result<(Self, Bytes), BatchError> {
        let header = BatchHeader::parse(&bytes)?;
        if bytes.len() < header.size_bytes() {
            return Err(BatchError::Truncated {
                needed_bytes: header.size_bytes(),
                available_bytes: bytes.len(),
            });
        }
        let rest = bytes.split_off(header.size_bytes());
        Ok((Self { header, bytes }, rest))
    }

    /// A batch of these bytes, which its header describes.
    pub(super) fn written(header: BatchHeader, bytes: Bytes) -> Self {
        debug_assert_eq!(BatchHeader::parse(&bytes).as_ref(), Ok(&header));
        Self { header, bytes }
    }

    /// The decoded header.
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The whole batch as it stands in the log.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Gives the whole batch away.
    pub fn into_bytes(self) -> Bytes {
        self.bytes
    }

    /// The bytes after the header, still compressed.
    pub fn body(&self) -> Bytes {
        self.bytes.slice(HEADER_BYTES..)
    }

    /// Compares the stored CRC-32C with that of the bytes from the attributes to the end (semantic 25).
    ///
    /// # Errors
    /// [`BatchError::CrcMismatch`].
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let computed = crc32c::crc32c(&self.bytes[ATTRIBUTES_AT..]);
        if computed == self.header.crc {
            return Ok(());
        }
        Err(BatchError::CrcMismatch {
            base_offset: self.header.base_offset.get(),
            stored: self.header.crc,
            computed,
        })
    }

    /// Decompresses the body, if need be. The CRC is not checked; without compression nothing is copied.
    ///
    /// # Errors
    /// [`BatchError::Decompress`], and [`BatchError::DecompressedTooLarge`] past the limits.
    pub fn decode(&self, limits: DecodeLimits) -> Result<DecodedBatch, BatchError> {
        let body = match self.header.compression() {
            Compression::None => self.body(),
            codec => decompress(codec, &self.bytes[HEADER_BYTES..], limits)?,
        };
        Ok(DecodedBatch::new(self.header, body))
    }

    /// Every record, sharing one buffer. The CRC is not checked.
    ///
    /// Counts and deltas must agree with the header, whether or not the log was compacted (semantic 26).
    ///
    /// # Errors
    /// What [`decode`](Self::decode) refuses, and [`BatchError::Record`] or [`BatchError::TrailingBytes`].
    pub fn records(&self, limits: DecodeLimits) -> Result<Vec<Record>, BatchError> {
        self.decode(limits)?.into_records().collect_all()
    }
}

/// Iterates over the batches of a record set, see [`batches`].
#[derive(Debug, Clone)]
pub struct Batches {
    rest: Bytes,
}

/// The batches of a fetched record set, or of a stretch of a log file, in order and without CRC checks.
///
/// A last batch that is cut short ends the iteration silently: a broker may cut anywhere (KIP-74). Anything else
/// that is wrong comes out once as an error and ends it.
pub fn batches(record_set: Bytes) -> Batches {
    Batches { rest: record_set }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        match RecordBatch::parse(std::mem::take(&mut self.rest)) {
            Ok((batch, rest)) => {
                self.rest = rest;
                Some(Ok(batch))
            }
            Err(BatchError::Truncated { .. }) => None,
            Err(error) => Some(Err(error)),
        }
    }
}

impl std::iter::FusedIterator for Batches {}

/// Stamps where a batch stands and which leader put it there; both lie outside the CRC (semantic 25).
///
/// # Panics
/// When `batch` is shorter than a header: parse it first.
pub fn patch_base_offset_and_epoch(batch: &mut [u8], base_offset: Offset, epoch: LeaderEpoch) {
    let header = header_mut(batch);
    header[..8].copy_from_slice(&base_offset.get().to_be_bytes());
    header[LEADER_EPOCH_AT..LEADER_EPOCH_AT + 4].copy_from_slice(&epoch.get().to_be_bytes());
}

/// Gives every record of one whole batch the time of its append: sets the timestamp type and the largest timestamp
/// and computes the CRC anew (semantic 25). Record bytes stay as they are.
///
/// # Panics
/// When `batch` is shorter than a header: parse it first.
pub fn set_log_append_time(batch: &mut [u8], now: Timestamp) {
    let header = header_mut(batch);
    // The flag lives in the low byte of the two.
    header[ATTRIBUTES_AT + 1] |= LOG_APPEND_TIME as u8;
    header[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&now.get().to_be_bytes());
    write_crc(batch);
}

/// Computes the CRC of a whole batch, stores it, and tells it.
pub(super) fn write_crc(batch: &mut [u8]) -> u32 {
    let crc = crc32c::crc32c(&batch[ATTRIBUTES_AT..]);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    crc
}

fn header_mut(batch: &mut [u8]) -> &mut [u8; HEADER_BYTES] {
    batch
        .first_chunk_mut()
        .expect("callers stamp batches that parsed, which have a whole header")
}
