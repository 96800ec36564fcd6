//! Records and record batches, format version 2 of Kafka ("magic 2"), to the byte.
//!
//! A batch is a 61-byte header and a body of records; the body may be compressed as a whole.
//!
//! ```text
//! offset  bytes  field
//!      0      8  base offset              outside the CRC: the leader stamps it
//!      8      4  batch length             bytes that follow this field
//!     12      4  partition leader epoch   outside the CRC
//!     16      1  magic                    always 2
//!     17      4  CRC-32C                  of everything from byte 21 to the end
//!     21      2  attributes               0-2 codec, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon
//!     23      4  last offset delta
//!     27      8  base timestamp           or the delete horizon, when attribute bit 6 is set
//!     35      8  max timestamp
//!     43      8  producer id              -1 = none
//!     51      2  producer epoch           -1 = none
//!     53      4  base sequence            -1 = none
//!     57      4  record count
//!     61         records, or one compressed stream of them
//! ```
//!
//! A record is `length, attributes (1 byte, unused), timestamp delta, offset delta, key length, key, value length,
//! value, header count, headers`, where all lengths and deltas are zigzag varints and length -1 means null.
//!
//! Refuses magic 0 and 1 (removed by KIP-724 from the log), unknown codecs, and every length or count that the
//! bytes at hand do not bear out.
//!
//! # Invariants
//! - Null and empty keys, values and header values stay different; headers keep order and duplicates (semantic 31).
//! - Nothing here allocates by a number read from outside before comparing it with the bytes at hand.

mod attributes;
mod batch;
mod builder;
mod check;
mod compression;
pub mod control;
mod decode;
mod error;
mod header;
mod rewrite;
mod varint;

use bytes::Bytes;

use crate::ids::{Offset, Timestamp};

pub use attributes::{Compression, TimestampType, UnknownCompression};
pub use batch::{Batches, RecordBatch, batches, patch_base_offset_and_epoch, set_log_append_time};
pub use builder::{BatchBuilder, BatchOptions, ProducerStamp};
pub use check::{CheckOptions, CheckedBatch, RecordFacts};
pub use compression::{Codec, DecodeLimits, RATIO_FREE_BYTES};
pub use decode::{DecodedBatch, HeaderView, HeaderViews, RecordView, RecordViews, Records};
pub use error::{BatchError, ProducerRefusal, RecordProblem};
pub use header::{BatchHeader, HEADER_BYTES, LOG_OVERHEAD_BYTES, MAGIC};

/// A named value that travels with a record (KIP-82). Neither order nor duplicates are lost, and the key need not
/// be UTF-8 although Kafka's own clients write it so.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Header {
    /// The name, as bytes.
    pub key: Bytes,
    /// The value; null differs from empty.
    pub value: Option<Bytes>,
}

impl Header {
    /// Names a value.
    pub fn new(key: impl Into<Bytes>, value: Option<Bytes>) -> Self {
        Self {
            key: key.into(),
            value,
        }
    }

    /// The name as text, or `None` when it is not UTF-8.
    pub fn key_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.key).ok()
    }
}

/// One record as a reader sees it. Key, value and headers share one buffer with the rest of their batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where the record stands in its partition.
    pub offset: Offset,
    /// When it was made, or appended, as the topic's timestamp type says.
    pub timestamp: Timestamp,
    /// The key; null differs from empty.
    pub key: Option<Bytes>,
    /// The value; null is a tombstone in compacted topics.
    pub value: Option<Bytes>,
    /// Headers in the order they were written, duplicates kept.
    pub headers: Vec<Header>,
}

#[cfg(test)]
mod tests;
