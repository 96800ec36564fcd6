//! Topics in memory for tests: real record batches, built and read as those of a log are.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use highwater_types::{
    Offset, PartitionId, Timestamp, TopicName, TopicPartition,
    record::{BatchBuilder, BatchOptions, Compression, DecodeLimits, Header, RecordBatch, batches},
};

use super::{OffsetRanges, ReadError, TopicReader};

/// A record to be written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Row {
    pub(crate) at_ms: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<Header>,
}

impl Row {
    pub(crate) fn new(at_ms: i64, key: &str, value: &str) -> Self {
        Self {
            at_ms,
            key: Some(key.into()),
            value: Some(value.into()),
            headers: Vec::new(),
        }
    }
}

#[derive(Debug, Default, Clone)]
struct Log {
    start: i64,
    end: i64,
    batches: Vec<RecordBatch>,
}

/// The topics.
#[derive(Debug, Default)]
pub(crate) struct MemoryReader {
    logs: Mutex<BTreeMap<TopicName, Vec<Log>>>,
    pub(crate) fetches: AtomicU64,
    pub(crate) fetched_bytes: AtomicU64,
    pub(crate) compression: Option<Compression>,
}

impl MemoryReader {
    pub(crate) fn create(&self, topic: &str, partitions: usize) {
        let topic = TopicName::new(topic).unwrap();
        self.logs
            .lock()
            .unwrap()
            .insert(topic, vec![Log::default(); partitions]);
    }

    /// Appends one batch.
    pub(crate) fn append(&self, topic: &str, partition: usize, rows: &[Row]) {
        self.append_with(topic, partition, rows, BatchOptions::default());
    }

    pub(crate) fn append_with(&self, topic: &str, partition: usize, rows: &[Row], options: BatchOptions) {
        let mut logs = self.logs.lock().unwrap();
        let log = &mut logs.get_mut(topic).unwrap()[partition];
        let mut builder = BatchBuilder::new(BatchOptions {
            base_offset: Offset::new(log.end),
            compression: self.compression.unwrap_or(Compression::None),
            ..options
        });
        for row in rows {
            builder.append(
                Timestamp::new(row.at_ms),
                row.key.as_deref(),
                row.value.as_deref(),
                &row.headers,
            );
        }
        let (batch, _) = RecordBatch::parse(builder.build().unwrap()).unwrap();
        log.end = batch.header().next_offset().get();
        log.batches.push(batch);
    }

    /// What retention does: whole batches before `start` go.
    pub(crate) fn expire(&self, topic: &str, partition: usize, start: i64) {
        let mut logs = self.logs.lock().unwrap();
        let log = &mut logs.get_mut(topic).unwrap()[partition];
        log.start = start;
        log.batches
            .retain(|batch| batch.header().next_offset().get() > start);
    }

    /// What compaction may do: a batch goes and leaves a hole.
    pub(crate) fn punch(&self, topic: &str, partition: usize, batch: usize) {
        self.logs.lock().unwrap().get_mut(topic).unwrap()[partition]
            .batches
            .remove(batch);
    }

    /// What must never happen: a byte of a batch turns.
    pub(crate) fn corrupt(&self, topic: &str, partition: usize, batch: usize) {
        let mut logs = self.logs.lock().unwrap();
        let slot = &mut logs.get_mut(topic).unwrap()[partition].batches[batch];
        let mut bytes = BytesMut::from(&slot.bytes()[..]);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        *slot = RecordBatch::parse(bytes.freeze()).unwrap().0;
    }

    fn with_log<T>(&self, at: &TopicPartition, f: impl FnOnce(&Log) -> T) -> Result<T, ReadError> {
        let logs = self.logs.lock().unwrap();
        let log = logs
            .get(&at.topic)
            .and_then(|logs| logs.get(at.partition.get() as usize));
        log.map(f).ok_or_else(|| ReadError::NoSuchTopic {
            topic: at.topic.clone(),
        })
    }
}

#[async_trait]
impl TopicReader for MemoryReader {
    async fn topics(&self) -> Result<Vec<TopicName>, ReadError> {
        Ok(self.logs.lock().unwrap().keys().cloned().collect())
    }

    async fn offset_ranges(&self, topic: &TopicName) -> Result<OffsetRanges, ReadError> {
        let logs = self.logs.lock().unwrap();
        let logs = logs
            .get(topic)
            .ok_or_else(|| ReadError::NoSuchTopic { topic: topic.clone() })?;
        let range = |(index, log): (usize, &Log)| {
            (
                PartitionId::new(index as i32),
                Offset::new(log.start)..Offset::new(log.end),
            )
        };
        Ok(logs.iter().enumerate().map(range).collect())
    }

    async fn offsets_for_timestamp(
        &self,
        topic: &TopicName,
        partitions: &[PartitionId],
        at: Timestamp,
    ) -> Result<BTreeMap<PartitionId, Option<Offset>>, ReadError> {
        let mut found = BTreeMap::new();
        for &partition in partitions {
            let first = self.with_log(&TopicPartition::new(topic.clone(), partition), |log| {
                let records = log
                    .batches
                    .iter()
                    .flat_map(|batch| batch.records(DecodeLimits::default()).unwrap());
                records
                    .filter(|record| record.timestamp >= at && record.offset.get() >= log.start)
                    .map(|record| record.offset)
                    .next()
            })?;
            found.insert(partition, first);
        }
        Ok(found)
    }

    async fn fetch(&self, at: &TopicPartition, from: Offset, max_bytes: usize) -> Result<Bytes, ReadError> {
        self.fetches.fetch_add(1, Relaxed);
        tokio::task::yield_now().await;
        let fetched = self.with_log(at, |log| {
            if from.get() < log.start || from.get() > log.end {
                return None;
            }
            let mut set = BytesMut::new();
            for batch in log
                .batches
                .iter()
                .filter(|batch| batch.header().next_offset() > from)
            {
                if !set.is_empty() && set.len() + batch.bytes().len() > max_bytes {
                    break;
                }
                set.extend_from_slice(batch.bytes());
            }
            Some(set.freeze())
        })?;
        let out_of_range = || ReadError::OutOfRange {
            topic_partition: at.clone(),
            offset: from,
        };
        let bytes = fetched.ok_or_else(out_of_range)?;
        debug_assert!(batches(bytes.clone()).all(|batch| batch.is_ok()));
        self.fetched_bytes.fetch_add(bytes.len() as u64, Relaxed);
        Ok(bytes)
    }
}
