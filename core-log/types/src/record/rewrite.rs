//! Rewriting a batch of a log with fewer records, as compaction does (semantic 70, KIP-534).
//!
//! A rewritten batch takes the place of the one it came from: same base offset, same last offset delta, same producer
//! and sequence, same codec. What changes is the body, the count, the timestamps and the CRC. Readers that go on at
//! "last offset + 1" therefore never get stuck on records that vanished at a batch's end.
//!
//! Refuses: deciding which records stay.
//!
//! # Invariants
//! - `header().last_offset()` and `header().base_offset` of the result equal those of the original.
//! - A delete horizon, once there, stays what it was.

use bytes::Bytes;

use super::{
    BatchError, BatchHeader, Compression, DecodedBatch, RecordView, TimestampType,
    attributes::{CODEC_MASK, DELETE_HORIZON},
    batch::write_crc,
    builder::{check_size, field_bytes, length_or_null, put_varint},
    compression::compress_into,
    header::{HEADER_BYTES, LOG_OVERHEAD_BYTES},
    varint,
};
use crate::ids::Timestamp;

/// Base timestamp of a batch that has none.
const NO_TIMESTAMP: Timestamp = Timestamp::new(-1);

impl DecodedBatch {
    /// The batch with only the records for which `keep` says so, in order.
    ///
    /// `delete_horizon` is when its tombstones or markers may go; a horizon that the batch has already wins. Without
    /// any kept record the result is [`BatchHeader::emptied`].
    ///
    /// # Errors
    /// [`BatchError`] for records that cannot be read, and for a body that no longer fits a batch.
    pub fn retain(
        &self,
        delete_horizon: Option<Timestamp>,
        mut keep: impl FnMut(&RecordView<'_>) -> bool,
    ) -> Result<Bytes, BatchError> {
        let original = self.header();
        let horizon = original.delete_horizon().or(delete_horizon);
        let mut body = Body::new(original, horizon, self.body().len());
        for record in self.views() {
            let record = record?;
            if keep(&record) {
                body.push(&record);
            }
        }
        body.finish()
    }
}

impl BatchHeader {
    /// The batch without any record: what stays in the log when compaction removes the last of them but a producer's
    /// sequence, or the end of the cleaned stretch, must not be forgotten. Uncompressed and without delete horizon,
    /// as Kafka writes it.
    pub fn emptied(&self) -> Bytes {
        let header = Self {
            batch_length: (HEADER_BYTES - LOG_OVERHEAD_BYTES) as i32,
            attributes: self.attributes & !CODEC_MASK & !DELETE_HORIZON,
            base_timestamp: NO_TIMESTAMP,
            record_count: 0,
            ..*self
        };
        let mut batch = header.to_bytes().to_vec();
        write_crc(&mut batch);
        Bytes::from(batch)
    }
}

/// A body that grows record by record.
struct Body<'a> {
    original: &'a BatchHeader,
    horizon: Option<Timestamp>,
    buffer: Vec<u8>,
    count: i32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
}

impl<'a> Body<'a> {
    fn new(original: &'a BatchHeader, horizon: Option<Timestamp>, body_bytes: usize) -> Self {
        let mut buffer = Vec::with_capacity(HEADER_BYTES + body_bytes);
        buffer.resize(HEADER_BYTES, 0);
        Self {
            original,
            horizon,
            buffer,
            count: 0,
            base_timestamp: horizon.unwrap_or(NO_TIMESTAMP),
            max_timestamp: NO_TIMESTAMP,
        }
    }

    fn push(&mut self, record: &RecordView<'_>) {
        if self.count == 0 && self.horizon.is_none() {
            self.base_timestamp = record.timestamp;
        }
        self.max_timestamp = match self.count {
            0 => record.timestamp,
            _ => self.max_timestamp.max(record.timestamp),
        };
        // A difference beyond 64 bits wraps, and the reader's sum wraps back.
        let timestamp_delta = record.timestamp.get().wrapping_sub(self.base_timestamp.get());
        let offset_delta = record.offset.distance_from(self.original.base_offset);
        let (headers, header_count) = record.headers().encoded();
        let record_bytes = 1
            + varint::len(timestamp_delta)
            + varint::len(offset_delta)
            + field_bytes(record.key.map(<[u8]>::len))
            + field_bytes(record.value.map(<[u8]>::len))
            + varint::len(i64::from(header_count))
            + headers.len();
        let out = &mut self.buffer;
        put_varint(out, record_bytes as i64);
        out.push(0); // attributes, unused and zero
        put_varint(out, timestamp_delta);
        put_varint(out, offset_delta);
        for field in [record.key, record.value] {
            put_varint(out, length_or_null(field.map(<[u8]>::len)));
            out.extend_from_slice(field.unwrap_or_default());
        }
        put_varint(out, i64::from(header_count));
        out.extend_from_slice(headers);
        self.count += 1;
    }

    fn finish(self) -> Result<Bytes, BatchError> {
        if self.count == 0 {
            return Ok(self.original.emptied());
        }
        check_size(self.buffer.len())?;
        let codec = self.original.compression();
        let mut batch = match codec {
            Compression::None => self.buffer,
            _ => {
                let body = &self.buffer[HEADER_BYTES..];
                let mut compressed = Vec::with_capacity(HEADER_BYTES + body.len() / 2);
                compressed.resize(HEADER_BYTES, 0);
                compress_into(codec, body, &mut compressed)?;
                check_size(compressed.len())?;
                compressed
            }
        };
        let header = BatchHeader {
            // `check_size` has compared it with i32::MAX.
            batch_length: (batch.len() - LOG_OVERHEAD_BYTES) as i32,
            attributes: match self.horizon {
                Some(_) => self.original.attributes | DELETE_HORIZON,
                None => self.original.attributes,
            },
            base_timestamp: self.base_timestamp,
            max_timestamp: match self.original.timestamp_type() {
                TimestampType::CreateTime => self.max_timestamp,
                TimestampType::LogAppendTime => self.original.max_timestamp,
            },
            record_count: self.count,
            ..*self.original
        };
        batch[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        write_crc(&mut batch);
        Ok(Bytes::from(batch))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
    use crate::record::{BatchBuilder, BatchOptions, DecodeLimits, Header, ProducerStamp, RecordBatch};

    const HORIZON: Timestamp = Timestamp::new(5_000);

    fn original(compression: Compression, timestamp_type: TimestampType) -> RecordBatch {
        let mut builder = BatchBuilder::new(BatchOptions {
            compression,
            timestamp_type,
            producer: Some(ProducerStamp {
                id: ProducerId::new(7),
                epoch: ProducerEpoch::new(3),
                base_sequence: Some(Sequence::new(40)),
            }),
            is_transactional: true,
            base_offset: Offset::new(100),
            leader_epoch: LeaderEpoch::new(9),
            ..BatchOptions::default()
        });
        let header = Header::new(&b"h"[..], None);
        builder.append(Timestamp::new(1_000), Some(b"a"), Some(b"1"), &[]);
        builder.append(
            Timestamp::new(3_000),
            Some(b"b"),
            None,
            std::slice::from_ref(&header),
        );
        builder.append(
            Timestamp::new(2_000),
            Some(b""),
            Some(b""),
            &[header.clone(), header],
        );
        builder.append(Timestamp::new(4_000), Some(b"c"), Some(b"3"), &[]);
        RecordBatch::parse(builder.build().unwrap()).unwrap().0
    }

    fn reparsed(bytes: Bytes) -> RecordBatch {
        let (batch, rest) = RecordBatch::parse(bytes).unwrap();
        assert!(rest.is_empty());
        batch.verify_crc().unwrap();
        batch
    }

    #[test]
    fn a_rewritten_batch_keeps_its_place_producer_and_codec_and_the_kept_records_unchanged() {
        for compression in Compression::ALL {
            let batch = original(compression, TimestampType::CreateTime);
            let all = batch.records(DecodeLimits::default()).unwrap();
            let decoded = batch.decode(DecodeLimits::default()).unwrap();
            for mask in 1_u8..16 {
                let kept = |offset: Offset| mask & (1 << (offset.get() - 100)) != 0;
                let horizon = mask.is_multiple_of(2).then_some(HORIZON);
                let new = reparsed(decoded.retain(horizon, |record| kept(record.offset)).unwrap());
                let expected: Vec<_> = all.iter().filter(|record| kept(record.offset)).cloned().collect();
                assert_eq!(
                    new.records(DecodeLimits::default()).unwrap(),
                    expected,
                    "{compression} {mask}"
                );
                let (before, after) = (batch.header(), new.header());
                assert_eq!(after.delete_horizon(), horizon);
                assert_eq!(
                    Some(after.max_timestamp),
                    expected.iter().map(|record| record.timestamp).max()
                );
                let same = BatchHeader {
                    batch_length: before.batch_length,
                    crc: before.crc,
                    attributes: before.attributes,
                    base_timestamp: before.base_timestamp,
                    max_timestamp: before.max_timestamp,
                    record_count: before.record_count,
                    ..*after
                };
                assert_eq!(&same, before);
                assert_eq!(after.attributes & !DELETE_HORIZON, before.attributes);
            }
        }
    }

    #[test]
    fn append_times_survive_and_a_horizon_is_set_only_once() {
        let batch = original(Compression::None, TimestampType::LogAppendTime);
        let decoded = batch.decode(DecodeLimits::default()).unwrap();
        let once = reparsed(
            decoded
                .retain(Some(HORIZON), |record| record.value.is_none())
                .unwrap(),
        );
        assert_eq!(once.header().max_timestamp, batch.header().max_timestamp);
        let records = once.records(DecodeLimits::default()).unwrap();
        assert_eq!(records[0].timestamp, batch.header().max_timestamp);
        let again = once.decode(DecodeLimits::default()).unwrap();
        let twice = reparsed(again.retain(Some(Timestamp::new(9_999)), |_| true).unwrap());
        assert_eq!(twice.header().delete_horizon(), Some(HORIZON));
        assert_eq!(twice.records(DecodeLimits::default()).unwrap(), records);
    }

    #[test]
    fn an_emptied_batch_has_kafkas_form_and_reads_as_no_records() {
        let batch = original(Compression::Zstd, TimestampType::CreateTime);
        let decoded = batch.decode(DecodeLimits::default()).unwrap();
        let empty = reparsed(decoded.retain(Some(HORIZON), |_| false).unwrap());
        assert_eq!(empty.bytes().len(), HEADER_BYTES);
        assert!(empty.records(DecodeLimits::default()).unwrap().is_empty());
        let header = empty.header();
        assert_eq!(header.base_timestamp, NO_TIMESTAMP);
        assert_eq!(header.max_timestamp, batch.header().max_timestamp);
        assert_eq!(header.last_offset(), Offset::new(103));
        assert_eq!(header.last_sequence(), batch.header().last_sequence());
        assert!(header.is_transactional() && header.delete_horizon().is_none());
        assert_eq!(header.compression(), Compression::None);
        assert_eq!(header.emptied(), *empty.bytes(), "emptying twice changes nothing");
    }
}
