//! A batch on its way and the promise to the records in it.
//!
//! # Invariants
//! - A [`Completion`] resolves exactly once, when every part of its batch has been settled; a batch that was split
//!   settles in parts.
//! - The records of a batch never change after it was sealed; only who it says it is from (the stamp) does.

use std::sync::{Arc, Mutex};

use futures::{FutureExt as _, future::Shared};
use highwater_types::{
    Bytes, Offset, Sequence, Timestamp,
    record::{BatchBuilder, BatchError, BatchOptions, Compression, DecodeLimits, ProducerStamp, RecordBatch},
};
use tokio::{sync::oneshot, time::Instant};

use crate::{ClientError, ProduceError};

/// Where a record stands in the log, as far as the broker told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Acked {
    pub(super) offset: Option<Offset>,
    pub(super) log_append_time: Option<Timestamp>,
}

/// How records `first_index..first_index + count` of a batch fared.
#[derive(Debug)]
struct Part {
    first_index: i32,
    count: i32,
    result: Result<Acked, ProduceError>,
}

/// How a batch fared.
#[derive(Debug)]
pub(super) struct Outcome {
    parts: Vec<Part>,
}

impl Outcome {
    /// The fate of one record.
    pub(super) fn of(&self, index: i32) -> Result<Acked, ProduceError> {
        let part = self
            .parts
            .iter()
            .find(|part| (part.first_index..part.first_index + part.count).contains(&index));
        let part = part.ok_or(ProduceError::Closed)?;
        let acked = part.result.clone()?;
        let offset = acked
            .offset
            .map(|base| base.advance_by(i64::from(index - part.first_index)));
        Ok(Acked { offset, ..acked })
    }
}

pub(super) type OutcomeFuture = Shared<oneshot::Receiver<Arc<Outcome>>>;

/// The sending side of [`OutcomeFuture`].
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) id: u64,
    state: Mutex<CompletionState>,
}

#[derive(Debug)]
struct CompletionState {
    open_parts: usize,
    parts: Vec<Part>,
    resolve: Option<oneshot::Sender<Arc<Outcome>>>,
}

impl Completion {
    fn new(id: u64) -> (Arc<Self>, OutcomeFuture) {
        let (resolve, outcome) = oneshot::channel();
        let state = CompletionState {
            open_parts: 1,
            parts: Vec::new(),
            resolve: Some(resolve),
        };
        (
            Arc::new(Self {
                id,
                state: Mutex::new(state),
            }),
            outcome.shared(),
        )
    }

    fn state(&self) -> std::sync::MutexGuard<'_, CompletionState> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Settles a part; true when it was the last one.
    fn settle(&self, part: Part) -> bool {
        let mut state = self.state();
        state.parts.push(part);
        state.open_parts -= 1;
        let resolved = if state.open_parts == 0 {
            state.resolve.take()
        } else {
            None
        };
        match resolved {
            Some(resolve) => {
                // Nobody may be waiting; the outcome is then of no interest.
                let _ = resolve.send(Arc::new(Outcome {
                    parts: std::mem::take(&mut state.parts),
                }));
                true
            }
            None => false,
        }
    }
}

#[derive(Debug)]
enum Body {
    Open(BatchBuilder),
    Built(Bytes),
}

/// Records for one partition that travel together.
#[derive(Debug)]
pub(super) struct Batch {
    body: Body,
    completion: Arc<Completion>,
    first_index: i32,
    record_count: i32,
    /// Bytes of the producer's buffer that the records hold.
    pub(super) charged_bytes: usize,
    pub(super) created_at: Instant,
    /// Place among the batches of the partition, given when it is first taken for sending.
    pub(super) order: Option<u64>,
    pub(super) stamp: Option<ProducerStamp>,
    pub(super) attempts: u32,
    /// Whether an attempt ended without an answer, so that the records may be in the log.
    pub(super) in_doubt: bool,
    pub(super) last_error: Option<ClientError>,
}

fn options(compression: Compression) -> BatchOptions {
    BatchOptions {
        compression,
        ..BatchOptions::default()
    }
}

impl Batch {
    pub(super) fn open(completion_id: u64, compression: Compression) -> (Self, OutcomeFuture) {
        let (completion, outcome) = Completion::new(completion_id);
        (
            Self::around(
                BatchBuilder::new(options(compression)),
                completion,
                0,
                Instant::now(),
            ),
            outcome,
        )
    }

    fn around(
        builder: BatchBuilder,
        completion: Arc<Completion>,
        first_index: i32,
        created_at: Instant,
    ) -> Self {
        Self {
            record_count: i32::try_from(builder.record_count()).unwrap_or(i32::MAX),
            body: Body::Open(builder),
            completion,
            first_index,
            charged_bytes: 0,
            created_at,
            order: None,
            stamp: None,
            attempts: 0,
            in_doubt: false,
            last_error: None,
        }
    }

    /// The builder and the number the next record gets, while the batch takes records.
    pub(super) fn builder(&mut self) -> Option<&mut BatchBuilder> {
        match &mut self.body {
            Body::Open(builder) if self.order.is_none() => Some(builder),
            Body::Open(_) | Body::Built(_) => None,
        }
    }

    /// Counts a record that was appended to the builder; gives its index for [`Outcome::of`].
    pub(super) fn count_record(&mut self, charged_bytes: usize) -> i32 {
        let index = self.first_index + self.record_count;
        self.record_count += 1;
        self.charged_bytes += charged_bytes;
        index
    }

    pub(super) fn record_count(&self) -> i32 {
        self.record_count
    }

    /// What repeats are sorted by; halves of a split batch share their order.
    pub(super) fn place(&self) -> Option<(u64, i32)> {
        self.order.map(|order| (order, self.first_index))
    }

    pub(super) fn completion_id(&self) -> u64 {
        self.completion.id
    }

    /// Bytes the batch takes in a request; an upper bound until it is built.
    pub(super) fn size_bytes(&self) -> usize {
        match &self.body {
            Body::Open(builder) => builder.estimated_size_bytes(),
            Body::Built(bytes) => bytes.len(),
        }
    }

    /// Sequence the record after this batch has.
    pub(super) fn next_sequence(&self) -> Option<Sequence> {
        self.stamp?
            .base_sequence
            .map(|base| base.advance_by(self.record_count))
    }

    /// The finished bytes with the current stamp; built the first time, shared afterwards.
    pub(super) fn build(&mut self) -> Result<Bytes, BatchError> {
        let built = match &mut self.body {
            Body::Built(bytes) => return Ok(bytes.clone()),
            Body::Open(builder) => {
                let mut builder = std::mem::replace(builder, BatchBuilder::new(BatchOptions::default()));
                builder.set_producer(self.stamp);
                builder.build()?
            }
        };
        self.body = Body::Built(built.clone());
        Ok(built)
    }

    /// Takes the stamp away, so that the batch can be sent under another epoch and sequence.
    pub(super) fn unstamp(&mut self) -> Result<(), BatchError> {
        self.stamp = None;
        if let Body::Built(bytes) = &self.body {
            let batch = parse(bytes)?;
            let mut builder = BatchBuilder::new(options(batch.header().compression()));
            for record in batch.records(limits())? {
                let (key, value) = (record.key.as_deref(), record.value.as_deref());
                builder.append(record.timestamp, key, value, &record.headers);
            }
            self.body = Body::Open(builder);
        }
        Ok(())
    }

    /// Two halves with consecutive sequences, for a broker that finds the whole too large (semantic 27).
    pub(super) fn split(mut self) -> Result<[Self; 2], Box<(Self, BatchError)>> {
        let records = match self.build().and_then(|bytes| parse(&bytes)) {
            Ok(batch) => batch
                .records(limits())
                .map(|records| (batch.header().compression(), records)),
            Err(error) => Err(error),
        };
        let (compression, records) = match records {
            Ok(records) => records,
            Err(error) => return Err(Box::new((self, error))),
        };
        let (first, second) = records.split_at(records.len() / 2);
        let mut halves = [first, second].map(|records| {
            let mut builder = BatchBuilder::new(options(compression));
            for record in records {
                let (key, value) = (record.key.as_deref(), record.value.as_deref());
                builder.append(record.timestamp, key, value, &record.headers);
            }
            Self::around(
                builder,
                self.completion.clone(),
                self.first_index,
                self.created_at,
            )
        });
        self.completion.state().open_parts += 1;
        halves[1].first_index += halves[0].record_count;
        halves[0].charged_bytes = self.charged_bytes / 2;
        halves[1].charged_bytes = self.charged_bytes - halves[0].charged_bytes;
        halves[0].stamp = self.stamp;
        halves[1].stamp = self.stamp.map(|stamp| ProducerStamp {
            base_sequence: halves[0].next_sequence(),
            ..stamp
        });
        for half in &mut halves {
            half.order = self.order;
            half.attempts = self.attempts;
        }
        Ok(halves)
    }

    /// Tells every record of this batch its fate; true when nothing of the original batch is left.
    pub(super) fn settle(&self, result: Result<Acked, ProduceError>) -> bool {
        self.completion.settle(Part {
            first_index: self.first_index,
            count: self.record_count,
            result,
        })
    }
}

fn parse(bytes: &Bytes) -> Result<RecordBatch, BatchError> {
    RecordBatch::parse(bytes.clone()).map(|(batch, _)| batch)
}

/// Our own batches are bounded by the buffer, not by what a stranger may send.
fn limits() -> DecodeLimits {
    DecodeLimits {
        max_decompressed_bytes: i32::MAX as usize,
        max_ratio: usize::MAX,
    }
}

#[cfg(test)]
mod tests {
    use highwater_types::{ProducerEpoch, ProducerId};

    use super::*;

    fn batch_of(values: &[&[u8]]) -> (Batch, OutcomeFuture) {
        let (mut batch, outcome) = Batch::open(1, Compression::Lz4);
        for value in values {
            let builder = batch.builder().expect("open");
            builder.append(Timestamp::new(7), None, Some(value), &[]);
            batch.count_record(value.len());
        }
        (batch, outcome)
    }

    fn stamp(epoch: i16, sequence: i32) -> Option<ProducerStamp> {
        Some(ProducerStamp {
            id: ProducerId::new(9),
            epoch: ProducerEpoch::new(epoch),
            base_sequence: Some(Sequence::new(sequence)),
        })
    }

    fn values(batch: &mut Batch) -> Vec<Bytes> {
        let parsed = parse(&batch.build().expect("builds")).expect("parses");
        parsed.verify_crc().expect("intact");
        parsed
            .records(limits())
            .expect("decodes")
            .into_iter()
            .filter_map(|r| r.value)
            .collect()
    }

    #[test]
    fn a_split_batch_resolves_once_with_the_offsets_of_both_halves() {
        let (mut batch, outcome) = batch_of(&[b"a", b"b", b"c"]);
        batch.stamp = stamp(0, 10);
        let [mut first, mut second] = batch.split().expect("splits");
        assert_eq!(
            (values(&mut first), values(&mut second)),
            (vec!["a".into()], vec!["b".into(), "c".into()])
        );
        assert_eq!(second.stamp, stamp(0, 11), "sequences go on across the halves");

        let at = |offset| {
            Ok(Acked {
                offset: Some(Offset::new(offset)),
                log_append_time: None,
            })
        };
        assert!(!second.settle(at(40)));
        assert!(outcome.clone().now_or_never().is_none(), "one half is open");
        assert!(first.settle(at(30)));
        let outcome = outcome.now_or_never().expect("resolved").expect("sent");
        let offsets: Vec<_> = (0..3)
            .map(|i| outcome.of(i).expect("acked").offset.map(Offset::get))
            .collect();
        assert_eq!(offsets, [Some(30), Some(40), Some(41)]);
    }

    #[test]
    fn a_built_batch_can_change_its_stamp_and_keeps_its_records() {
        let (mut batch, _outcome) = batch_of(&[b"a", b"b"]);
        batch.stamp = stamp(0, 5);
        let before = parse(&batch.build().expect("builds")).expect("parses");
        assert_eq!(before.header().base_sequence, Some(Sequence::new(5)));
        batch.unstamp().expect("decodes");
        batch.stamp = stamp(1, 0);
        let after = parse(&batch.build().expect("builds")).expect("parses");
        assert_eq!(after.header().producer_epoch, Some(ProducerEpoch::new(1)));
        assert_eq!(after.header().base_sequence, Some(Sequence::ZERO));
        assert_eq!(values(&mut batch), ["a", "b"]);
    }
}
