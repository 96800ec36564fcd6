//! Writing batches: records are encoded once into one buffer behind room for the header; the CRC comes last.
//!
//! Refuses: choosing offsets other than consecutive ones from the base offset, and empty batches.
//!
//! # Invariants
//! - `count` records stand in `buffer[HEADER_BYTES..]`, with offset deltas 0 to `count - 1`.

use bytes::Bytes;

use super::{
    BatchError, Compression, Header, TimestampType,
    attributes::{CONTROL, LOG_APPEND_TIME, TRANSACTIONAL},
    batch::write_crc,
    compression::compress_into,
    header::{
        ATTRIBUTES_AT, BASE_SEQUENCE_AT, BASE_TIMESTAMP_AT, BATCH_LENGTH_AT, HEADER_BYTES,
        LAST_OFFSET_DELTA_AT, LEADER_EPOCH_AT, LOG_OVERHEAD_BYTES, MAGIC, MAGIC_AT, MAX_TIMESTAMP_AT,
        PRODUCER_EPOCH_AT, PRODUCER_ID_AT, RECORD_COUNT_AT,
    },
    varint,
};
use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// Who writes an idempotent or transactional batch (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerStamp {
    /// The id the cluster gave.
    pub id: ProducerId,
    /// The incarnation of that id.
    pub epoch: ProducerEpoch,
    /// Sequence of the first record; `None` only in control batches.
    pub base_sequence: Option<Sequence>,
}

/// What a batch is written with, besides its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchOptions {
    /// How the body is compressed.
    pub compression: Compression,
    /// Whose clock the timestamps come from; producers always write [`TimestampType::CreateTime`].
    pub timestamp_type: TimestampType,
    /// Set by idempotent and transactional producers.
    pub producer: Option<ProducerStamp>,
    /// Whether the batch belongs to a transaction.
    pub is_transactional: bool,
    /// Whether the batch carries a marker of the log itself.
    pub is_control: bool,
    /// Offset of the first record; producers write [`Offset::ZERO`].
    pub base_offset: Offset,
    /// Epoch of the appending leader; producers write [`LeaderEpoch::UNKNOWN`].
    pub leader_epoch: LeaderEpoch,
}

/// What a plain producer writes: uncompressed, its own timestamps, no idempotence, not yet stamped by a leader.
impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            compression: Compression::None,
            timestamp_type: TimestampType::CreateTime,
            producer: None,
            is_transactional: false,
            is_control: false,
            base_offset: Offset::ZERO,
            leader_epoch: LeaderEpoch::UNKNOWN,
        }
    }
}

/// Collects records into one batch.
///
/// ```
/// use highwater_types::{Timestamp, record::{BatchBuilder, BatchOptions, DecodeLimits, RecordBatch}};
///
/// let mut builder = BatchBuilder::new(BatchOptions::default());
/// builder.append(Timestamp::new(1_000), Some(b"BTCUSDT"), Some(b"64000.10"), &[]);
/// let (batch, rest) = RecordBatch::parse(builder.build()?)?;
/// assert!(rest.is_empty());
/// assert_eq!(batch.records(DecodeLimits::default())?[0].value.as_deref(), Some(&b"64000.10"[..]));
/// # Ok::<(), highwater_types::record::BatchError>(())
/// ```
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    options: BatchOptions,
    buffer: Vec<u8>,
    count: usize,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
}

/// Length, attributes, timestamp delta, offset delta and key length of a record at their longest.
const PREFIX_BYTES: usize = varint::MAX_I32_BYTES * 3 + varint::MAX_I64_BYTES + 1;

impl BatchBuilder {
    /// An empty batch.
    pub fn new(options: BatchOptions) -> Self {
        Self::with_capacity(options, 0)
    }

    /// An empty batch with room for `body_bytes` of records, so that the buffer need not grow.
    pub fn with_capacity(options: BatchOptions, body_bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(HEADER_BYTES + body_bytes);
        buffer.resize(HEADER_BYTES, 0);
        Self {
            options,
            buffer,
            count: 0,
            base_timestamp: Timestamp::new(0),
            max_timestamp: Timestamp::new(0),
        }
    }

    /// Adds one record; its offset is the base offset plus the number of records before it.
    ///
    /// Null and empty stay different, headers keep order and duplicates (semantic 31). Records that together pass
    /// 2 GiB make [`build`](Self::build) fail.
    pub fn append(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) {
        if self.count == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        // A difference beyond 64 bits wraps, and the reader's sum wraps back.
        let timestamp_delta = timestamp.get().wrapping_sub(self.base_timestamp.get());
        let offset_delta = self.count as i64;
        let key_length = length_or_null(key.map(<[u8]>::len));
        let value_length = length_or_null(value.map(<[u8]>::len));

        let record_bytes = 1
            + varint::len(timestamp_delta)
            + varint::len(offset_delta)
            + field_bytes(key.map(<[u8]>::len))
            + field_bytes(value.map(<[u8]>::len))
            + headers_bytes(headers);

        let mut prefix = [0_u8; PREFIX_BYTES];
        let mut at = varint::put(&mut prefix, 0, record_bytes as i64);
        at += 1; // attributes, unused and zero
        at = varint::put(&mut prefix, at, timestamp_delta);
        at = varint::put(&mut prefix, at, offset_delta);
        at = varint::put(&mut prefix, at, key_length);

        self.buffer.reserve(record_bytes + varint::MAX_I32_BYTES);
        self.buffer.extend_from_slice(&prefix[..at]);
        self.buffer.extend_from_slice(key.unwrap_or_default());
        put_varint(&mut self.buffer, value_length);
        self.buffer.extend_from_slice(value.unwrap_or_default());
        put_varint(&mut self.buffer, headers.len() as i64);
        for header in headers {
            put_varint(&mut self.buffer, header.key.len() as i64);
            self.buffer.extend_from_slice(&header.key);
            put_varint(
                &mut self.buffer,
                length_or_null(header.value.as_ref().map(Bytes::len)),
            );
            self.buffer
                .extend_from_slice(header.value.as_deref().unwrap_or_default());
        }
        self.count += 1;
    }

    /// Sets who writes the batch. A producer knows the sequence only when it sends, after the records are there.
    pub const fn set_producer(&mut self, producer: Option<ProducerStamp>) {
        self.options.producer = producer;
    }

    /// Records so far.
    pub const fn record_count(&self) -> usize {
        self.count
    }

    /// Bytes of the batch if it were built now without compression: exact when uncompressed, else the worst case
    /// for any data that compresses at all.
    pub const fn estimated_size_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes that a record can add at most, wherever in a batch it comes to stand.
    pub fn record_size_bound(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header]) -> usize {
        PREFIX_BYTES
            + varint::MAX_I32_BYTES
            + key.map_or(0, <[u8]>::len)
            + value.map_or(0, <[u8]>::len)
            + headers_bytes(headers)
    }

    /// Finishes the batch: compresses the body, writes the header and, over all of it, the CRC.
    ///
    /// # Errors
    /// [`BatchError::NoRecords`], [`BatchError::BatchTooLarge`] past 2 GiB, [`BatchError::Compress`].
    pub fn build(mut self) -> Result<Bytes, BatchError> {
        if self.count == 0 {
            return Err(BatchError::NoRecords);
        }
        // Before compression: past this size, lengths and deltas inside the records do not fit their fields.
        check_size(self.buffer.len())?;
        let mut batch = std::mem::take(&mut self.buffer);
        if self.options.compression != Compression::None {
            let body = &batch[HEADER_BYTES..];
            let mut compressed = Vec::with_capacity(HEADER_BYTES + body.len() / 2);
            compressed.resize(HEADER_BYTES, 0);
            compress_into(self.options.compression, body, &mut compressed)?;
            check_size(compressed.len())?;
            batch = compressed;
        }
        self.write_header(&mut batch);
        write_crc(&mut batch);
        Ok(Bytes::from(batch))
    }

    /// Writes everything but the CRC.
    fn write_header(&self, batch: &mut [u8]) {
        let options = &self.options;
        let mut attributes = u16::from(options.compression.id());
        if options.timestamp_type == TimestampType::LogAppendTime {
            attributes |= LOG_APPEND_TIME;
        }
        if options.is_transactional {
            attributes |= TRANSACTIONAL;
        }
        if options.is_control {
            attributes |= CONTROL;
        }
        let producer = options.producer;
        let sequence = producer.and_then(|p| p.base_sequence);
        // `build` has compared the size with i32::MAX, and a record takes more than one byte.
        let batch_length = (batch.len() - LOG_OVERHEAD_BYTES) as i32;
        let count = self.count as i32;

        put_at(batch, 0, options.base_offset.get().to_be_bytes());
        put_at(batch, BATCH_LENGTH_AT, batch_length.to_be_bytes());
        put_at(batch, LEADER_EPOCH_AT, options.leader_epoch.get().to_be_bytes());
        put_at(batch, MAGIC_AT, MAGIC.to_be_bytes());
        put_at(batch, ATTRIBUTES_AT, attributes.to_be_bytes());
        put_at(batch, LAST_OFFSET_DELTA_AT, (count - 1).to_be_bytes());
        put_at(batch, BASE_TIMESTAMP_AT, self.base_timestamp.get().to_be_bytes());
        put_at(batch, MAX_TIMESTAMP_AT, self.max_timestamp.get().to_be_bytes());
        put_at(
            batch,
            PRODUCER_ID_AT,
            producer.map_or(-1, |p| p.id.get()).to_be_bytes(),
        );
        put_at(
            batch,
            PRODUCER_EPOCH_AT,
            producer.map_or(-1, |p| p.epoch.get()).to_be_bytes(),
        );
        put_at(
            batch,
            BASE_SEQUENCE_AT,
            sequence.map_or(-1, Sequence::get).to_be_bytes(),
        );
        put_at(batch, RECORD_COUNT_AT, count.to_be_bytes());
    }
}

fn put_at<const N: usize>(batch: &mut [u8], at: usize, bytes: [u8; N]) {
    batch[at..at + N].copy_from_slice(&bytes);
}

pub(super) const fn check_size(size_bytes: usize) -> Result<(), BatchError> {
    if size_bytes - LOG_OVERHEAD_BYTES > i32::MAX as usize {
        return Err(BatchError::BatchTooLarge { size_bytes });
    }
    Ok(())
}

/// A length as a record writes it, null being -1.
pub(super) const fn length_or_null(length: Option<usize>) -> i64 {
    match length {
        Some(length) => length as i64,
        None => -1,
    }
}

/// Bytes of a nullable field with its length in front.
pub(super) const fn field_bytes(length: Option<usize>) -> usize {
    match length {
        Some(length) => varint::len(length as i64) + length,
        None => 1,
    }
}

fn headers_bytes(headers: &[Header]) -> usize {
    let count = varint::len(headers.len() as i64);
    headers.iter().fold(count, |sum, header| {
        sum + field_bytes(Some(header.key.len())) + field_bytes(header.value.as_ref().map(Bytes::len))
    })
}

#[inline]
pub(super) fn put_varint(buffer: &mut Vec<u8>, value: i64) {
    let mut bytes = [0_u8; varint::MAX_I64_BYTES];
    let end = varint::put(&mut bytes, 0, value);
    buffer.extend_from_slice(&bytes[..end]);
}
