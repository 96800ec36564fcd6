//! Judging a batch of a producer to the last record, before it meets a lock (semantic 26).
//!
//! A reader trusts that offsets are consecutive and that every length leads to the next record; whoever stores a
//! batch that lies breaks every consumer of the partition. So the broker walks over all records once, keys and
//! values skipped, compressed bodies decompressed into a buffer that is used again for the next batch.
//!
//! # Invariants
//! - A [`CheckedBatch`] has the CRC it says, and a header a producer may send. Unless its records were left alone
//!   ([`RecordsSeen::Unseen`]) they fill its body exactly, with offset deltas 0 to n-1.

use super::{
    BatchError, Compression, DecodeLimits, HEADER_BYTES, RecordBatch, compression::decompress_into,
    decode::RecordViews,
};

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
pub enum RecordsSeen {
    /// Nobody looked at them.
    Unseen,
    /// They are as they should be, and each has a key.
    AllKeyed,
    /// They are as they should be, and at least one has no key.
    SomeKeyless,
}

/// A batch that a leader may append as far as the batch alone can tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedBatch {
    batch: RecordBatch,
    records: RecordsSeen,
}

impl CheckedBatch {
    /// Judges `batch`; `buffer` is for a decompressed body, its content does not matter. No allocation happens per
    /// record.
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
        let records = match batch.header().compression() {
            Compression::None => walk(&batch, compressed)?,
            _ if !options.decompress => RecordsSeen::Unseen,
            codec => {
                decompress_into(codec, compressed, options.limits, buffer)?;
                walk(&batch, buffer)?
            }
        };
        Ok(Self { batch, records })
    }

    /// The batch.
    pub const fn batch(&self) -> &RecordBatch {
        &self.batch
    }

    /// What is known of its records.
    pub const fn records_seen(&self) -> RecordsSeen {
        self.records
    }

    /// Gives the batch away.
    pub fn into_batch(self) -> RecordBatch {
        self.batch
    }
}

/// Count and last delta agree already, so deltas that grow within them are consecutive.
fn walk(batch: &RecordBatch, body: &[u8]) -> Result<RecordsSeen, BatchError> {
    let mut keyless = false;
    for record in RecordViews::over(batch.header(), body) {
        keyless |= record?.key.is_none();
    }
    Ok(match keyless {
        true => RecordsSeen::SomeKeyless,
        false => RecordsSeen::AllKeyed,
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::record::batch::write_crc;
    use crate::record::compression::compress_into;
    use crate::record::header::{
        ATTRIBUTES_AT, BATCH_LENGTH_AT, LAST_OFFSET_DELTA_AT, LOG_OVERHEAD_BYTES, RECORD_COUNT_AT,
    };
    use crate::record::{BatchBuilder, BatchOptions, Header, ProducerRefusal, RecordProblem, varint};
    use crate::{Offset, Timestamp};

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
            assert_eq!(checked.records_seen(), RecordsSeen::AllKeyed, "{codec}");
            assert_eq!(checked.into_batch(), all);
            records.truncate(1);
            CheckedBatch::from_producer(batch(codec, &records, 1), OPTIONS, &mut buffer).unwrap();
        }
        let mut builder = BatchBuilder::new(BatchOptions::default());
        let header = Header::new("h", None);
        builder.append(Timestamp::new(1), None, Some(b"v"), &[header]);
        let (plain, _) = RecordBatch::parse(builder.build().unwrap()).unwrap();
        let checked = CheckedBatch::from_producer(plain, OPTIONS, &mut buffer).unwrap();
        assert_eq!(checked.records_seen(), RecordsSeen::SomeKeyless);
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
        assert_eq!(checked.records_seen(), RecordsSeen::Unseen);
        let plain = batch(Compression::None, &[honest(7)], 1);
        CheckedBatch::from_producer(plain, options, &mut Vec::new()).unwrap_err();
    }
}
