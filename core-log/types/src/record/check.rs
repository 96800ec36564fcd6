//! Judging a batch of a producer to the last record, before it meets a lock (semantic 26).
//!
//! A reader trusts that offsets are consecutive and that every length leads to the next record; whoever stores a
//! batch that lies breaks every consumer of the partition. So the broker walks over all records once, keys and
//! values skipped, compressed bodies decompressed into a buffer that is used again for the next batch.
//!
//! # Invariants
//! - A [`CheckedBatch`] has the CRC it says, and a header a producer may send. Unless its records were left alone
//!   (no [`RecordFacts`]) they fill its body exactly, with offset deltas 0 to n-1, and the header's largest timestamp is theirs.

use bytes::{Bytes, BytesMut};

use super::{
    BatchError, BatchHeader, Codec, Compression, DecodeLimits, RecordBatch,
    attributes::CODEC_MASK,
    batch::write_crc,
    builder::check_size,
    compression::{compress_into, decompress_into},
    decode::RecordViews,
    header::{HEADER_BYTES, LOG_OVERHEAD_BYTES, MAX_TIMESTAMP_AT},
};
use crate::ids::Timestamp;

/// What a record without a time carries.
const NO_TIMESTAMP: Timestamp = Timestamp::new(-1);

/// How far a batch is judged, and within which bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckOptions {
    /// Bounds of decompression.
    pub limits: DecodeLimits,
    /// Whether the records of compressed batches are walked over as well.
    pub decompress: bool,
}

/// What a check learned from the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordFacts {
    /// Each of them has a key.
    pub all_keyed: bool,
    /// The smallest and the largest timestamp; `None` when no record has one. Records without (-1) do not count.
    pub timestamps: Option<(Timestamp, Timestamp)>,
    /// Bytes of all of them, uncompressed.
    pub body_bytes: usize,
}

/// A batch that a leader may append as far as the batch alone can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedBatch {
    batch: RecordBatch,
    facts: Option<RecordFacts>,
}

impl CheckedBatch {
    /// Judges `batch`; `buffer` is for a decompressed body, its content does not matter. No allocation happens per
    /// record.
    ///
    /// A largest timestamp in the header that is not that of the records is put right, as in Kafka: indexes and
    /// retention go by it.
    ///
    /// # Errors
    /// [`BatchError::CrcMismatch`] first: only what arrived as it was sent can be built wrongly. Then
    /// [`BatchError::RefusedFromProducer`], and what the walk over the records refuses.
    pub fn from_producer(
        batch: RecordBatch,
        options: CheckOptions,
        buffer: &mut Vec<u8>,
    ) -> Result<Self, BatchError> {
        batch.verify_crc()?;
        batch.header().check_from_producer()?;
        let compressed = &batch.bytes()[HEADER_BYTES..];
        let facts = match batch.header().compression() {
            Compression::None => walk(&batch, compressed)?,
            _ if !options.decompress => return Ok(Self { batch, facts: None }),
            codec => {
                decompress_into(codec, compressed, options.limits, buffer)?;
                walk(&batch, buffer)?
            }
        };
        let largest = facts.timestamps.map_or(NO_TIMESTAMP, |(_, largest)| largest);
        let batch = match batch.header().max_timestamp == largest {
            true => batch,
            false => with_max_timestamp(batch, largest),
        };
        let facts = Some(facts);
        Ok(Self { batch, facts })
    }

    /// The batch with its body compressed by `codec`; everything else stays, but for length and CRC (`compression.type`
    /// of a topic). `buffer` is the one that [`from_producer`](Self::from_producer) has decompressed the body into.
    ///
    /// # Errors
    /// [`BatchError::Compress`], and [`BatchError::BatchTooLarge`] past 2 GiB.
    ///
    /// # Panics
    /// When the records of a compressed batch were not walked over, or `buffer` does not hold them.
    pub fn recompressed(self, codec: Codec, buffer: &[u8]) -> Result<Self, BatchError> {
        let header = *self.batch.header();
        let body = match header.compression() {
            Compression::None => &self.batch.bytes()[HEADER_BYTES..],
            _ => buffer,
        };
        assert_eq!(
            self.facts.map(|facts| facts.body_bytes),
            Some(body.len()),
            "the buffer holds the body that was walked over"
        );
        let mut bytes = Vec::with_capacity(match codec.compression {
            Compression::None => HEADER_BYTES + body.len(),
            _ => HEADER_BYTES + body.len() / 2,
        });
        bytes.resize(HEADER_BYTES, 0);
        compress_into(codec, body, &mut bytes)?;
        check_size(bytes.len())?;
        let mut header = BatchHeader {
            // `check_size` has compared it with i32::MAX.
            batch_length: (bytes.len() - LOG_OVERHEAD_BYTES) as i32,
            attributes: header.attributes & !CODEC_MASK | u16::from(codec.compression.id()),
            ..header
        };
        bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
        header.crc = write_crc(&mut bytes);
        Ok(Self {
            batch: RecordBatch::written(header, Bytes::from(bytes)),
            facts: self.facts,
        })
    }

    /// The batch.
    pub const fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// What is known of its records; `None` when nobody looked at them.
    pub const fn facts(&self) -> Option<RecordFacts> {
        self.facts
    }

    /// Gives the batch away.
    pub fn into_batch(self) -> RecordBatch {
        self.batch
    }
}

/// Count and last delta agree already, so deltas that grow within them are consecutive.
fn walk(batch: &RecordBatch, body: &[u8]) -> Result<RecordFacts, BatchError> {
    let mut all_keyed = true;
    let (mut smallest, mut largest) = (Timestamp::new(i64::MAX), Timestamp::new(i64::MIN));
    for record in RecordViews::over(batch.header(), body) {
        let record = record?;
        all_keyed &= record.key.is_some();
        if record.timestamp != NO_TIMESTAMP {
            smallest = smallest.min(record.timestamp);
            largest = largest.max(record.timestamp);
        }
    }
    Ok(RecordFacts {
        all_keyed,
        timestamps: (smallest <= largest).then_some((smallest, largest)),
        body_bytes: body.len(),
    })
}

/// Copies the batch if somebody else holds its bytes.
fn with_max_timestamp(batch: RecordBatch, max_timestamp: Timestamp) -> RecordBatch {
    let mut header = *batch.header();
    header.max_timestamp = max_timestamp;
    let mut bytes = BytesMut::from(batch.into_bytes());
    bytes[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&max_timestamp.get().to_be_bytes());
    header.crc = write_crc(&mut bytes);
    RecordBatch::written(header, bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::header::{ATTRIBUTES_AT, BATCH_LENGTH_AT, LAST_OFFSET_DELTA_AT, RECORD_COUNT_AT};
    use crate::record::{
        BatchBuilder, BatchOptions, Header, ProducerRefusal, ProducerStamp, RecordProblem, TimestampType,
        varint,
    };
    use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};

    const OPTIONS: CheckOptions = CheckOptions {
        limits: DecodeLimits {
            max_decompressed_bytes: 1 << 20,
            max_ratio: 8192,
        },
        decompress: true,
    };

    /// A record as a liar may write it.
    #[derive(Clone)]
    struct Lie {
        delta: i64,
        key_length: i64,
        value_length: i64,
        header_count: i64,
        length_more: i64,
    }

    type Edit = fn(&mut Lie);

    fn honest(delta: i64) -> Lie {
        Lie {
            delta,
            key_length: 1,
            value_length: 5,
            header_count: 1,
            length_more: 0,
        }
    }

    fn encode(record: &Lie, body: &mut Vec<u8>) {
        let put = |out: &mut Vec<u8>, value: i64| {
            let mut number = [0; varint::MAX_I64_BYTES];
            let length = varint::put(&mut number, 0, value);
            out.extend_from_slice(&number[..length]);
        };
        let mut inner = vec![0];
        put(&mut inner, 0);
        put(&mut inner, record.delta);
        put(&mut inner, record.key_length);
        inner.extend_from_slice(b"k");
        put(&mut inner, record.value_length);
        inner.extend_from_slice(b"value");
        put(&mut inner, record.header_count);
        put(&mut inner, 1);
        inner.extend_from_slice(b"h");
        put(&mut inner, -1);
        put(body, inner.len() as i64 + record.length_more);
        body.extend_from_slice(&inner);
    }

    /// A batch of these records whose header claims `count` of them, with a right CRC.
    fn batch(codec: Compression, records: &[Lie], count: i32) -> RecordBatch {
        let mut body = Vec::new();
        for record in records {
            encode(record, &mut body);
        }
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.append(Timestamp::new(1), None, None, &[]);
        let mut bytes = builder.build().unwrap().to_vec();
        bytes.truncate(HEADER_BYTES);
        compress_into(codec, &body, &mut bytes).unwrap();
        let length = (bytes.len() - LOG_OVERHEAD_BYTES) as i32;
        bytes[BATCH_LENGTH_AT..BATCH_LENGTH_AT + 4].copy_from_slice(&length.to_be_bytes());
        bytes[ATTRIBUTES_AT + 1] = codec.id();
        bytes[RECORD_COUNT_AT..RECORD_COUNT_AT + 4].copy_from_slice(&count.to_be_bytes());
        bytes[LAST_OFFSET_DELTA_AT..LAST_OFFSET_DELTA_AT + 4].copy_from_slice(&(count - 1).to_be_bytes());
        write_crc(&mut bytes);
        RecordBatch::parse(Bytes::from(bytes)).unwrap().0
    }

    fn check(codec: Compression, records: &[Lie], count: i32) -> Result<CheckedBatch, BatchError> {
        CheckedBatch::from_producer(batch(codec, records, count), OPTIONS, &mut Vec::new())
    }

    fn problem(result: Result<CheckedBatch, BatchError>) -> (i32, RecordProblem) {
        match result.unwrap_err() {
            BatchError::Record { index, problem, .. } => (index, problem),
            other => panic!("not a problem of a record: {other}"),
        }
    }

    #[test]
    fn semantic_26_honest_batches_pass_in_every_codec_and_the_buffer_is_used_again() {
        let mut buffer = Vec::new();
        for codec in Compression::ALL {
            let mut records: Vec<_> = (0..300).map(honest).collect();
            let all = batch(codec, &records, 300);
            let checked = CheckedBatch::from_producer(all.clone(), OPTIONS, &mut buffer).unwrap();
            assert!(checked.facts().unwrap().all_keyed, "{codec}");
            assert_eq!(checked.into_batch(), all);
            records.truncate(1);
            CheckedBatch::from_producer(batch(codec, &records, 1), OPTIONS, &mut buffer).unwrap();
        }
        let mut builder = BatchBuilder::new(BatchOptions::default());
        let header = Header::new("h", None);
        builder.append(Timestamp::new(1), None, Some(b"v"), &[header]);
        let (plain, _) = RecordBatch::parse(builder.build().unwrap()).unwrap();
        let checked = CheckedBatch::from_producer(plain, OPTIONS, &mut buffer).unwrap();
        assert!(!checked.facts().unwrap().all_keyed);
        assert_eq!(checked.batch().header().base_offset, Offset::ZERO);
    }

    #[test]
    fn semantic_26_skipped_repeated_and_reversed_deltas_are_refused_in_every_codec() {
        for codec in Compression::ALL {
            for deltas in [[0, 2, 3], [0, 0, 1], [1, 2, 3], [0, 2, 1], [0, 1, 1], [0, 1, -1]] {
                let records = deltas.map(honest);
                let (_, problem) = problem(check(codec, &records, 3));
                assert!(
                    matches!(problem, RecordProblem::BadOffsetDelta { .. }),
                    "{codec} {deltas:?}: {problem}"
                );
            }
        }
    }

    #[test]
    fn semantic_26_counts_one_off_are_refused_in_every_codec() {
        let records = [0, 1, 2].map(honest);
        for codec in Compression::ALL {
            let less = check(codec, &records, 2).unwrap_err();
            assert!(
                matches!(less, BatchError::TrailingBytes { record_count: 2, .. }),
                "{codec}: {less}"
            );
            assert_eq!(problem(check(codec, &records, 4)), (3, RecordProblem::BadNumber));
            let none = BatchError::RefusedFromProducer {
                refusal: ProducerRefusal::NoRecords,
            };
            let mut empty = batch(codec, &records, 1).into_bytes().to_vec();
            empty[RECORD_COUNT_AT..RECORD_COUNT_AT + 4].fill(0);
            write_crc(&mut empty);
            let (empty, _) = RecordBatch::parse(Bytes::from(empty)).unwrap();
            assert_eq!(
                CheckedBatch::from_producer(empty, OPTIONS, &mut Vec::new()),
                Err(none)
            );
        }
    }

    #[test]
    fn semantic_26_lengths_that_lie_are_refused_in_every_codec() {
        let lies: [(&str, Edit); 8] = [
            ("key length -2", |lie| lie.key_length = -2),
            ("value length -7", |lie| lie.value_length = -7),
            ("value past the record", |lie| lie.value_length = 500),
            ("header count -1", |lie| lie.header_count = -1),
            ("one header more", |lie| lie.header_count = 2),
            ("one header less", |lie| lie.header_count = 0),
            ("record shorter", |lie| lie.length_more = -1),
            ("record longer", |lie| lie.length_more = 1),
        ];
        for codec in Compression::ALL {
            for (name, lie) in lies {
                let mut records = [0, 1, 2].map(honest);
                lie(&mut records[1]);
                let (index, found) = problem(check(codec, &records, 3));
                assert!(
                    (1..=2).contains(&index),
                    "{codec}, {name}: {found} in record {index}"
                );
            }
            let mut negative = [0, 1].map(honest);
            negative[0].length_more = -100;
            let (index, found) = problem(check(codec, &negative, 2));
            assert!(
                matches!(found, RecordProblem::BadLength { length: ..0, .. }),
                "{found}"
            );
            assert_eq!(index, 0);
        }
    }

    #[test]
    fn damage_on_the_way_is_told_from_what_was_built_wrongly() {
        let liar = batch(Compression::None, &[honest(3)], 1);
        let mut bytes = liar.into_bytes().to_vec();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        let (damaged, _) = RecordBatch::parse(Bytes::from(bytes)).unwrap();
        let refused = CheckedBatch::from_producer(damaged, OPTIONS, &mut Vec::new()).unwrap_err();
        assert!(matches!(refused, BatchError::CrcMismatch { .. }), "{refused}");
    }

    #[test]
    fn without_decompression_records_of_compressed_batches_stay_unseen() {
        let options = CheckOptions {
            decompress: false,
            ..OPTIONS
        };
        let lying = batch(Compression::Lz4, &[honest(7)], 1);
        let checked = CheckedBatch::from_producer(lying, options, &mut Vec::new()).unwrap();
        assert_eq!(checked.facts(), None);
        let plain = batch(Compression::None, &[honest(7)], 1);
        CheckedBatch::from_producer(plain, options, &mut Vec::new()).unwrap_err();
    }

    fn busy(compression: Compression) -> RecordBatch {
        let mut builder = BatchBuilder::new(BatchOptions {
            compression,
            timestamp_type: TimestampType::CreateTime,
            producer: Some(ProducerStamp {
                id: ProducerId::new(7),
                epoch: ProducerEpoch::new(3),
                base_sequence: Some(Sequence::new(40)),
            }),
            is_transactional: true,
            is_control: false,
            base_offset: Offset::new(9),
            leader_epoch: LeaderEpoch::new(2),
        });
        let headers = [Header::new("h", None), Header::new("h", Some("v".into()))];
        let value = [b'v'; 400];
        for (at, key) in [Some(&b"k"[..]), None, Some(b"")].into_iter().enumerate() {
            builder.append(Timestamp::new(1_000 - at as i64), key, Some(&value), &headers);
            builder.append(Timestamp::new(2_000), key, None, &[]);
        }
        RecordBatch::parse(builder.build().unwrap()).unwrap().0
    }

    #[test]
    fn recompressing_changes_the_codec_and_nothing_else() {
        let limits = DecodeLimits::default();
        let mut buffer = Vec::new();
        for from in Compression::ALL {
            for to in Compression::ALL {
                let original = busy(from);
                let checked = CheckedBatch::from_producer(original.clone(), OPTIONS, &mut buffer).unwrap();
                let facts = checked.facts();
                let new = checked.recompressed(Codec::from(to), &buffer).unwrap();
                assert_eq!(new.facts(), facts);
                let new = new.into_batch();
                new.verify_crc().unwrap();
                let (reparsed, rest) = RecordBatch::parse(new.bytes().clone()).unwrap();
                assert_eq!((&reparsed, rest.len()), (&new, 0));
                assert_eq!(new.records(limits).unwrap(), original.records(limits).unwrap());
                let back = BatchHeader {
                    batch_length: original.header().batch_length,
                    crc: original.header().crc,
                    attributes: new.header().attributes & !CODEC_MASK | u16::from(from.id()),
                    ..*new.header()
                };
                assert_eq!((&back, new.header().compression()), (original.header(), to));
            }
        }
    }

    #[test]
    fn a_higher_level_makes_a_smaller_body() {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        let mut word = 1_u32;
        for _ in 0..4_000 {
            word = word.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let value = format!("price={} side={}", word >> 22, word >> 31);
            builder.append(Timestamp::new(1), None, Some(value.as_bytes()), &[]);
        }
        let (batch, _) = RecordBatch::parse(builder.build().unwrap()).unwrap();
        let checked = CheckedBatch::from_producer(batch, OPTIONS, &mut Vec::new()).unwrap();
        for (compression, low, high) in [(Compression::Gzip, 1, 9), (Compression::Zstd, -100, 19)] {
            let size = |level| {
                let codec = Codec {
                    compression,
                    level: Some(level),
                };
                let made = checked.clone().recompressed(codec, &[]).unwrap();
                made.batch().decode(DecodeLimits::default()).unwrap();
                made.batch().bytes().len()
            };
            assert!(size(high) < size(low), "{compression}");
        }
    }

    #[test]
    #[should_panic = "the buffer holds the body that was walked over"]
    fn recompressing_what_was_not_walked_over_is_a_mistake_of_the_caller() {
        let options = CheckOptions {
            decompress: false,
            ..OPTIONS
        };
        let unseen = CheckedBatch::from_producer(busy(Compression::Lz4), options, &mut Vec::new()).unwrap();
        let _ = unseen.recompressed(Codec::from(Compression::Gzip), &[]);
    }

    #[test]
    fn semantic_29_the_records_times_are_told_and_a_wrong_largest_one_is_put_right() {
        for codec in Compression::ALL {
            let honest = busy(codec);
            let mut bytes = honest.bytes().to_vec();
            bytes[MAX_TIMESTAMP_AT..MAX_TIMESTAMP_AT + 8].copy_from_slice(&i64::MAX.to_be_bytes());
            write_crc(&mut bytes);
            let (lying, _) = RecordBatch::parse(Bytes::from(bytes)).unwrap();
            let held = lying.bytes().clone();
            let checked = CheckedBatch::from_producer(lying, OPTIONS, &mut Vec::new()).unwrap();
            let range = (Timestamp::new(998), Timestamp::new(2_000));
            assert_eq!(checked.facts().unwrap().timestamps, Some(range));
            assert_eq!(checked.batch(), &honest, "{codec}");
            assert_ne!(held, *honest.bytes());
        }
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.append(NO_TIMESTAMP, None, None, &[]);
        let (timeless, _) = RecordBatch::parse(builder.build().unwrap()).unwrap();
        let checked = CheckedBatch::from_producer(timeless.clone(), OPTIONS, &mut Vec::new()).unwrap();
        assert_eq!(checked.facts().unwrap().timestamps, None);
        assert_eq!(checked.into_batch(), timeless);
    }
}
