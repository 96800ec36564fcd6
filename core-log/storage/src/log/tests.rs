//! The log on a real directory, and what several operations do together.

use bytes::Bytes;
use highwater_types::record::{
    BatchBuilder, BatchOptions, DecodeLimits, ProducerStamp, RecordBatch, TimestampType, batches,
};
use highwater_types::{ProducerEpoch, ProducerId, Sequence};

use super::*;
use crate::disk::StdDisk;
use crate::error::{AppendError, InvalidRecord, ReadError};

mod appending;
mod compaction;
mod crash;
mod full_disk;
mod hostile;
mod inner_snapshots;
mod lifecycle;
mod model;
mod ranges;
mod reading;
mod transactions;

/// Wall time of the tests.
pub(super) const NOW: Timestamp = Timestamp::new(1_000_000);
pub(super) const EPOCH: LeaderEpoch = LeaderEpoch::new(0);

/// A log in a directory of its own.
pub(super) struct Bench {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) dir: tempfile::TempDir,
    pub(super) config: LogConfig,
    pub(super) recovery_point: Offset,
    pub(super) log_start: Offset,
}

impl Bench {
    pub(super) fn new(config: LogConfig) -> Self {
        Self {
            disk: StdDisk::shared(),
            dir: tempfile::tempdir().unwrap(),
            config,
            recovery_point: Offset::ZERO,
            log_start: Offset::ZERO,
        }
    }

    pub(super) fn try_open(&self, clean: bool) -> Result<(PartitionLog, RecoveryReport), StorageError> {
        PartitionLog::open(
            Arc::clone(&self.disk),
            self.dir.path().join("t-0"),
            Arc::new(self.config.clone()),
            OpenOptions {
                clean_shutdown: clean,
                recovery_point: self.recovery_point,
                log_start: self.log_start,
                was_compacted: false,
                now: NOW,
                corruption: CorruptionPolicy::Refuse,
            },
        )
    }

    pub(super) fn open(&self) -> PartitionLog {
        self.try_open(false).unwrap().0
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("t-0").join(name)
    }
}

/// Small segments and a dense index.
pub(super) fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 1000,
        index_interval_bytes: 100,
        ..LogConfig::default()
    }
}

/// A batch of `values.len()` records, one millisecond apart from `at` on.
pub(super) fn batch_at(at: i64, values: &[&str]) -> RecordBatch {
    stamped(at, values, BatchOptions::default())
}

pub(super) fn batch(values: &[&str]) -> RecordBatch {
    batch_at(NOW.get(), values)
}

pub(super) fn stamped(at: i64, values: &[&str], options: BatchOptions) -> RecordBatch {
    let mut builder = BatchBuilder::new(options);
    for (i, value) in values.iter().enumerate() {
        builder.append(
            Timestamp::new(at + i as i64),
            Some(b"k"),
            Some(value.as_bytes()),
            &[],
        );
    }
    RecordBatch::parse(builder.build().unwrap()).unwrap().0
}

pub(super) fn producer(id: i64, epoch: i16, sequence: i32) -> BatchOptions {
    BatchOptions {
        producer: Some(ProducerStamp {
            id: ProducerId::new(id),
            epoch: ProducerEpoch::new(epoch),
            base_sequence: Some(Sequence::new(sequence)),
        }),
        ..BatchOptions::default()
    }
}

pub(super) fn append(log: &mut PartitionLog, values: &[&str]) -> AppendInfo {
    log.append_as_leader(batch(values), EPOCH, NOW).unwrap()
}

pub(super) fn request(from: i64, upto: i64) -> ReadRequest {
    ReadRequest {
        from: Offset::new(from),
        upto: Offset::new(upto),
        max_bytes: 1 << 20,
        at_least_one_batch: true,
    }
}

pub(super) fn read(log: &PartitionLog, request: ReadRequest) -> Bytes {
    log.plan_read(request).unwrap().execute().unwrap()
}

/// Offsets and values of a record set.
pub(super) fn records(bytes: Bytes) -> Vec<(i64, String)> {
    batches(bytes)
        .flat_map(|batch| {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            batch.records(DecodeLimits::default()).unwrap()
        })
        .map(|record| {
            let value = record.value.unwrap_or_default();
            (record.offset.get(), String::from_utf8_lossy(&value).into_owned())
        })
        .collect()
}

/// Everything a consumer that starts at the beginning gets.
pub(super) fn read_all(log: &PartitionLog) -> Vec<(i64, String)> {
    let mut all = Vec::new();
    let mut from = log.start_offset();
    while from < log.end_offset() {
        let got = records(read(log, request(from.get(), i64::MAX)));
        let last = got.last().expect("a read below the end gives something").0;
        all.extend(got.into_iter().filter(|(offset, _)| *offset >= from.get()));
        from = Offset::new(last + 1);
    }
    all
}
