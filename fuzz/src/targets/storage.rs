//! Files of a data directory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use highwater_storage::testing::FakeDisk;
use highwater_storage::{
    CorruptionPolicy, DataDir, DataDirOptions, Disk, LogConfig, OpenMode, PartitionLog, ReadRequest,
};
use highwater_types::record::{BatchBuilder, BatchOptions, RecordBatch, batches};
use highwater_types::{LeaderEpoch, Offset, PartitionId, Timestamp, TopicName, TopicPartition};

use super::Pieces;

pub(crate) const ROOT: &str = "/data";
const NOW: Timestamp = Timestamp::new(1_000_000);

/// What a file may be called: those of a partition, and those of the directory.
pub(crate) const IN_PARTITION: [&str; 14] = [
    "00000000000000000000.log",
    "00000000000000000000.index",
    "00000000000000000000.timeindex",
    "00000000000000000000.txnindex",
    "00000000000000000000.snapshot",
    "00000000000000000003.batches",
    "00000000000000000003.log",
    "00000000000000000003.index",
    "00000000000000000003.timeindex",
    "00000000000000000003.snapshot",
    "leader-epoch-checkpoint",
    "partition.metadata",
    "00000000000000000000.log.cleaned",
    "00000000000000000000.log.swap",
];
pub(crate) const IN_ROOT: [&str; 6] = [
    "recovery-point-offset-checkpoint",
    "log-start-offset-checkpoint",
    "replication-offset-checkpoint",
    "cleaner-offset-checkpoint",
    "meta.properties",
    ".kafka_cleanshutdown",
];

/// Files with any content. The directory opens or refuses; what opens can be read to its end, takes an append, reads
/// it back, and does so again after a clean close.
pub(super) fn files(input: &[u8]) {
    let disk = FakeDisk::new();
    let partition = TopicPartition {
        topic: TopicName::new("fuzz").expect("a legal name"),
        partition: PartitionId::new(0),
    };
    let policy = lay_out(&disk, input);
    let Some((dir, mut log)) = open(&disk, &partition, policy) else {
        return;
    };
    read_all(&log);
    let before = log.end_offset();
    if before.get() > i64::MAX / 2 {
        return;
    }
    let Ok(appended) = log.append_as_leader(one_record(), LeaderEpoch::new(i32::MAX), NOW) else {
        return;
    };
    assert_eq!(appended.base_offset, before, "an append goes to the end");
    assert_eq!(
        record_at(&log, before),
        Some(before),
        "what was appended is read back"
    );
    log.close().expect("a healthy disk closes");
    dir.mark_clean_shutdown(None)
        .expect("a healthy disk takes the marker");

    let (_dir, log) = open(&disk, &partition, policy).expect("what was closed cleanly opens");
    assert_eq!(log.end_offset(), before.next());
    assert_eq!(
        record_at(&log, before),
        Some(before),
        "and still holds the record"
    );
}

fn lay_out(disk: &FakeDisk, input: &[u8]) -> CorruptionPolicy {
    let mut pieces = Pieces::new(input);
    let policy = match pieces.byte() % 2 {
        0 => CorruptionPolicy::Refuse,
        _ => CorruptionPolicy::TruncateAtDamage,
    };
    let folder = Path::new(ROOT).join("fuzz-0");
    disk.create_dir_all(&folder).expect("a fake disk takes folders");
    while !pieces.is_empty() {
        let which = usize::from(pieces.byte()) % (IN_PARTITION.len() + IN_ROOT.len());
        let path = match IN_PARTITION.get(which) {
            Some(name) => folder.join(name),
            None => Path::new(ROOT).join(IN_ROOT[which - IN_PARTITION.len()]),
        };
        write(disk, &path, pieces.sized());
    }
    policy
}

fn write(disk: &FakeDisk, path: &Path, content: &[u8]) {
    let file = disk
        .open(path, OpenMode::Create)
        .expect("a fake disk takes files");
    file.set_len(0).expect("a fake file is cut");
    file.write_all_at(&[content], 0).expect("a fake file is written");
}

fn open(
    disk: &FakeDisk,
    partition: &TopicPartition,
    corruption: CorruptionPolicy,
) -> Option<(DataDir, PartitionLog)> {
    let dir = DataDir::open(disk.shared(), PathBuf::from(ROOT), DataDirOptions { corruption }).ok()?;
    let _ = dir.meta_properties();
    let _ = dir.partitions();
    let config = Arc::new(LogConfig {
        segment_bytes: 4096,
        ..LogConfig::default()
    });
    let (log, _) = dir.open_partition(partition, None, config, NOW).ok()?;
    Some((dir, log))
}

/// Walks the whole log by reads; every batch found moves on, so the walk ends.
fn read_all(log: &PartitionLog) {
    let mut from = log.start_offset();
    while from < log.end_offset() {
        let Some(bytes) = read(log, from, 512) else { return };
        let next = batches(bytes)
            .filter_map(Result::ok)
            .map(|batch| batch.header().next_offset())
            .last();
        match next {
            Some(next) if next > from => from = next,
            _ => return,
        }
    }
    let _ = log.offset_for_timestamp(Timestamp::new(5));
    let _ = log.offset_of_max_timestamp();
}

fn read(log: &PartitionLog, from: Offset, max_bytes: usize) -> Option<Bytes> {
    let plan = log
        .plan_read(ReadRequest {
            from,
            upto: log.end_offset(),
            max_bytes,
            at_least_one_batch: true,
        })
        .ok()?;
    plan.execute().ok()
}

/// The base offset of the batch that a read at `offset` gives.
fn record_at(log: &PartitionLog, offset: Offset) -> Option<Offset> {
    let bytes = read(log, offset, 512)?;
    let batch = batches(bytes).next()?.ok()?;
    Some(batch.header().base_offset)
}

fn one_record() -> RecordBatch {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(NOW, Some(b"key"), Some(b"value"), &[]);
    let (batch, _) = RecordBatch::parse(builder.build().expect("one small record")).expect("our own batch");
    batch
}
