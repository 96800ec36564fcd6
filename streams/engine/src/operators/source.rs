//! The start of a stream: records are decoded once, when they arrive, and wait in one queue per topic.
//!
//! The task picks the queue whose head has the smallest timestamp (semantic row 57), so timestamps are extracted here.
//!
//! # Invariants
//! - `position` never passes a row that waits: it is the next waiting row's offset, or the end of what arrived.

use std::collections::VecDeque;

use bytes::Bytes;
use highwater_types::{
    Offset, PartitionId, Timestamp, TopicName,
    record::{Header, Record},
};

use crate::{
    drops::{DropCounters, DropReason},
    error::ProcessError,
    operator::{OutputRecord, Partitioning},
    options::{ErrorPolicy, TimestampContext, TimestampExtractor},
    row::{Chunk, Data, Row},
    serdes::{DynSerde, SerdeError},
};

/// Where a batch of records comes from and where side effects of decoding go.
pub(crate) struct SourceContext<'a> {
    pub(crate) partition: PartitionId,
    pub(crate) drops: &'a mut DropCounters,
    pub(crate) outputs: &'a mut Vec<OutputRecord>,
}

/// A source as its task sees it, types forgotten.
pub(crate) trait SourceNode: Send {
    fn add(
        &mut self,
        topic: usize,
        records: Vec<Record>,
        context: &mut SourceContext<'_>,
    ) -> Result<(), ProcessError>;
    fn head_timestamp(&self, topic: usize) -> Option<Timestamp>;
    /// Takes waiting rows of one topic up to the first that is later than `limit`.
    fn take_until(&mut self, topic: usize, limit: Option<Timestamp>) -> Option<(Chunk, usize)>;
    fn buffered(&self, topic: usize) -> usize;
    /// Next offset to read as far as this task is concerned; `None` before the first record.
    fn position(&self, topic: usize) -> Option<Offset>;
    fn set_position(&mut self, topic: usize, position: Offset);
}

struct Queue<K, V> {
    topic: TopicName,
    rows: Vec<Row<K, V>>,
    offsets: VecDeque<Offset>,
    end: Option<Offset>,
    partition_time: Option<Timestamp>,
}

pub(crate) struct Source<K, V> {
    queues: Vec<Queue<K, V>>,
    key: DynSerde<K>,
    value: DynSerde<V>,
    policy: ErrorPolicy,
    extractor: Option<TimestampExtractor<K, V>>,
}

impl<K: Data, V: Data> Source<K, V> {
    pub(crate) fn new(
        topics: &[TopicName],
        key: DynSerde<K>,
        value: DynSerde<V>,
        policy: ErrorPolicy,
        extractor: Option<TimestampExtractor<K, V>>,
    ) -> Self {
        let queues = topics.iter().map(|topic| Queue {
            topic: topic.clone(),
            rows: Vec::new(),
            offsets: VecDeque::new(),
            end: None,
            partition_time: None,
        });
        Self {
            queues: queues.collect(),
            key,
            value,
            policy,
            extractor,
        }
    }

    /// The row of a record, or `None` when it is left out and counted.
    fn decode(
        &self,
        topic: &TopicName,
        record: Record,
        partition_time: Option<Timestamp>,
        context: &mut SourceContext<'_>,
    ) -> Result<Option<Row<K, V>>, ProcessError> {
        let key = match decode_part(&self.key, record.key.as_ref()) {
            Ok(Some(key)) => key,
            Ok(None) => {
                context.drops.add(DropReason::NullKey, 1);
                return Ok(None);
            }
            Err(error) => return self.refuse(topic, record, "key", error, context),
        };
        let value = match decode_part(&self.value, record.value.as_ref()) {
            Ok(Some(value)) => value,
            Ok(None) => {
                context.drops.add(DropReason::NullValue, 1);
                return Ok(None);
            }
            Err(error) => return self.refuse(topic, record, "value", error, context),
        };
        let timestamp = match &self.extractor {
            None => Some(record.timestamp),
            Some(extract) => {
                let times = TimestampContext {
                    record: record.timestamp,
                    partition: partition_time,
                };
                extract(&key, &value, times)
            }
        };
        match timestamp {
            Some(timestamp) if timestamp.get() >= 0 => Ok(Some(Row {
                key,
                value,
                timestamp,
                headers: record.headers,
            })),
            Some(timestamp) => Err(ProcessError::NegativeTimestamp {
                topic: topic.clone(),
                partition: context.partition,
                offset: record.offset,
                timestamp_ms: timestamp.get(),
            }),
            None => {
                context.drops.add(DropReason::NegativeTimestamp, 1);
                Ok(None)
            }
        }
    }

    /// Applies the policy to a record whose bytes the serde refuses (semantic rows 66 and 67).
    fn refuse(
        &self,
        topic: &TopicName,
        record: Record,
        part: &'static str,
        source: SerdeError,
        context: &mut SourceContext<'_>,
    ) -> Result<Option<Row<K, V>>, ProcessError> {
        match &self.policy {
            ErrorPolicy::Fail => {
                return Err(ProcessError::Deserialize {
                    topic: topic.clone(),
                    partition: context.partition,
                    offset: record.offset,
                    part,
                    source,
                });
            }
            ErrorPolicy::Skip => {}
            ErrorPolicy::DeadLetter { topic: dead_letters } => {
                let letter = dead_letter(dead_letters, topic, context.partition, record, part, &source);
                context.outputs.push(letter);
            }
        }
        context.drops.add(DropReason::Malformed, 1);
        Ok(None)
    }
}

fn decode_part<T: 'static>(serde: &DynSerde<T>, bytes: Option<&Bytes>) -> Result<Option<T>, SerdeError> {
    match bytes {
        Some(bytes) => serde.deserialize(bytes).map(Some),
        None => Ok(serde.null()),
    }
}

/// The raw record under headers that say what happened, named as KIP-1034 names them.
fn dead_letter(
    to: &TopicName,
    from: &TopicName,
    partition: PartitionId,
    mut record: Record,
    part: &str,
    error: &SerdeError,
) -> OutputRecord {
    let texts = [
        ("__streams.errors.exception", format!("deserialize {part}")),
        ("__streams.errors.message", error.to_string()),
        ("__streams.errors.topic", from.to_string()),
        ("__streams.errors.partition", partition.to_string()),
        ("__streams.errors.offset", record.offset.to_string()),
    ];
    let headers =
        texts.map(|(key, text)| Header::new(Bytes::from_static(key.as_bytes()), Some(Bytes::from(text))));
    record.headers.extend(headers);
    OutputRecord {
        topic: to.clone(),
        partitioning: Partitioning::ByKey,
        key: record.key,
        value: record.value,
        timestamp: record.timestamp,
        headers: record.headers,
    }
}

impl<K: Data, V: Data> SourceNode for Source<K, V> {
    fn add(
        &mut self,
        topic: usize,
        records: Vec<Record>,
        context: &mut SourceContext<'_>,
    ) -> Result<(), ProcessError> {
        let name = self.queues[topic].topic.clone();
        let mut time = self.queues[topic].partition_time;
        let mut end = self.queues[topic].end;
        let mut rows = Vec::with_capacity(records.len());
        for record in records {
            let offset = record.offset;
            // A rebalance may hand over records again; what lies before the position is done.
            if end.is_some_and(|end| offset < end) {
                continue;
            }
            end = Some(offset.next());
            if let Some(row) = self.decode(&name, record, time, context)? {
                time = time.max(Some(row.timestamp));
                rows.push((row, offset));
            }
        }
        let queue = &mut self.queues[topic];
        queue.end = end;
        queue.partition_time = time;
        queue.rows.reserve(rows.len());
        for (row, offset) in rows {
            queue.rows.push(row);
            queue.offsets.push_back(offset);
        }
        Ok(())
    }

    fn head_timestamp(&self, topic: usize) -> Option<Timestamp> {
        self.queues[topic].rows.first().map(|row| row.timestamp)
    }

    fn take_until(&mut self, topic: usize, limit: Option<Timestamp>) -> Option<(Chunk, usize)> {
        let queue = &mut self.queues[topic];
        let count = match limit {
            None => queue.rows.len(),
            // At least one, so that equal heads make progress.
            Some(limit) => {
                let run = queue.rows.iter().take_while(|row| row.timestamp <= limit).count();
                run.max(1).min(queue.rows.len())
            }
        };
        if count == 0 {
            return None;
        }
        let rest = queue.rows.split_off(count);
        let rows = std::mem::replace(&mut queue.rows, rest);
        queue.offsets.drain(..count);
        Some((Chunk::new(rows), count))
    }

    fn buffered(&self, topic: usize) -> usize {
        self.queues[topic].rows.len()
    }

    fn position(&self, topic: usize) -> Option<Offset> {
        let queue = &self.queues[topic];
        queue.offsets.front().copied().or(queue.end)
    }

    fn set_position(&mut self, topic: usize, position: Offset) {
        self.queues[topic].end = Some(position);
    }
}
