//! Learning a topic's columns from its oldest and newest records.
//!
//! The oldest show what the topic once was, the newest what it has become; both ends are where a schema differs.
//! Later samples look only at what has been written since.

use std::sync::{Mutex, MutexGuard, PoisonError, atomic::Ordering::Relaxed};

use arrow::datatypes::{Field, FieldRef};
use futures::{StreamExt, TryStreamExt, stream};
use highwater_types::{
    Offset, TopicName, TopicPartition,
    record::{DecodeLimits, RecordView, batches},
};

use super::Relearned;
use crate::{
    columns::{TextOrBinary, TopicColumns, ValueFormat},
    json::kind::FieldKinds,
    limits,
    reader::{OffsetRanges, ReadError, TopicReader},
};

/// Reads of samples under way at a time.
const CONCURRENT_SAMPLES: usize = 8;

/// What has been learned about a topic.
#[derive(Debug, Default)]
pub(crate) struct Learner {
    seen: Mutex<Seen>,
    /// Values learned from because they did not fit; scans stop handing them in at some number.
    pub(crate) relearned: Relearned,
}

#[derive(Debug)]
struct Seen {
    fields: FieldKinds,
    objects: u64,
    other_values: u64,
    text: TextOrBinary,
    ranges: OffsetRanges,
}

impl Default for Seen {
    fn default() -> Self {
        Self {
            fields: FieldKinds::of_values(),
            objects: 0,
            other_values: 0,
            text: TextOrBinary::default(),
            ranges: OffsetRanges::new(),
        }
    }
}

impl Seen {
    fn record(&mut self, record: &RecordView<'_>) {
        self.text.keys_are_text &= record.key.is_none_or(is_text);
        for header in record.headers() {
            self.text.headers_are_text &= header.value.is_none_or(is_text);
        }
        if let Some(value) = record.value {
            self.value(value);
        }
    }

    fn value(&mut self, value: &[u8]) {
        self.text.values_are_text &= is_text(value);
        if self.fields.observe(value) {
            self.objects += 1;
        } else {
            self.other_values += 1;
        }
    }
}

fn is_text(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok()
}

impl Learner {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The columns by what is known. JSON it is when at least half of the values are objects.
    pub(crate) fn columns(&self) -> TopicColumns {
        let seen = self.seen();
        let format = if seen.objects > 0 && seen.objects >= seen.other_values {
            let field = |(name, kind): &(String, _)| -> FieldRef {
                let kind: &crate::json::kind::Kind = kind;
                Field::new(name, kind.data_type(), true).into()
            };
            ValueFormat::Json(seen.fields.fields.iter().map(field).collect())
        } else {
            ValueFormat::Whole
        };
        TopicColumns::new(&format, seen.text)
    }

    /// Whether a log with these offsets can be the one that was sampled before: logs grow and never lose partitions.
    pub(crate) fn continues(&self, ranges: &OffsetRanges) -> bool {
        let seen = self.seen();
        seen.ranges.iter().all(|(partition, before)| {
            ranges
                .get(partition)
                .is_some_and(|now| now.start >= before.start && now.end >= before.end)
        })
    }

    /// Learns from a value that did not fit.
    pub(crate) fn observe(&self, value: &[u8]) {
        self.seen().value(value);
    }

    /// Learns from records at both ends of each partition, or from those written since the last time.
    ///
    /// # Errors
    /// [`ReadError`] when the log cannot be read; records that cannot be decoded teach nothing.
    pub(crate) async fn sample(
        &self,
        reader: &dyn TopicReader,
        topic: &TopicName,
        ranges: OffsetRanges,
        records: usize,
    ) -> Result<(), ReadError> {
        let stretches = self.stretches(topic, &ranges, records);
        let reads = stretches.into_iter().map(|(at, from, to)| async move {
            match reader.fetch(&at, from, limits::SAMPLE_FETCH_BYTES).await {
                Ok(bytes) => Ok(Some((from, to, bytes))),
                // Retention was faster.
                Err(ReadError::OutOfRange { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        });
        // In order, since columns stand in the order in which their fields are first seen.
        let mut reads = stream::iter(reads).buffered(CONCURRENT_SAMPLES);
        while let Some(read) = reads.try_next().await? {
            if let Some((from, to, bytes)) = read {
                self.learn_from(from, to, bytes);
            }
        }
        self.seen().ranges = ranges;
        self.relearned.store(0, Relaxed);
        Ok(())
    }

    fn stretches(
        &self,
        topic: &TopicName,
        ranges: &OffsetRanges,
        records: usize,
    ) -> Vec<(TopicPartition, Offset, Offset)> {
        let seen = self.seen();
        let records = i64::try_from(records).unwrap_or(i64::MAX);
        // Spread over the topic when it has more partitions than are looked at.
        let step = ranges.len().div_ceil(limits::MAX_SAMPLED_PARTITIONS).max(1);
        let mut stretches = Vec::new();
        for (&partition, range) in ranges.iter().step_by(step) {
            let at = TopicPartition::new(topic.clone(), partition);
            let known = seen
                .ranges
                .get(&partition)
                .filter(|known| known.start < known.end);
            let from = known.map_or(range.start, |known| known.end.max(range.start));
            let newest = from.max(Offset::new(range.end.get().saturating_sub(records)));
            if known.is_none() && from < newest {
                let to = Offset::new(from.get().saturating_add(records)).min(newest);
                stretches.push((at.clone(), from, to));
            }
            if newest < range.end {
                stretches.push((at, newest, range.end));
            }
        }
        stretches
    }

    fn learn_from(&self, from: Offset, to: Offset, bytes: bytes::Bytes) {
        let mut seen = self.seen();
        for batch in batches(bytes)
            .map_while(Result::ok)
            .filter(|batch| !batch.header().is_control())
        {
            // A batch that cannot be decoded fails the query that reads it, with a better message.
            let Ok(decoded) = batch.decode(DecodeLimits::default()) else {
                continue;
            };
            for record in decoded.views().map_while(Result::ok) {
                if (from..to).contains(&record.offset) {
                    seen.record(&record);
                }
            }
        }
    }
}
