//! How long logs take to come back. Writes gigabytes, so it runs only when asked, with optimisation:
//!
//! ```text
//! cargo test --release -p highwater-storage --test recovery_speed -- --ignored --nocapture --test-threads=1
//! ```
//! `RECOVERY_DIR` names the directory to write to (default: the system's temporary one), `RECOVERY_GIB` how much
//! (default 10). Everything is removed again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater_storage::{
    ClosingLog, CorruptionPolicy, DataDir, DataDirOptions, LogConfig, OffsetCheckpoint, OffsetMap,
    PartitionLog, StdDisk,
};
use highwater_types::record::{BatchBuilder, BatchOptions, ProducerStamp, RecordBatch};
use highwater_types::{
    LeaderEpoch, Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicName,
    TopicPartition,
};

const NOW: Timestamp = Timestamp::new(1_000_000);
/// As a node opens logs, with `num.recovery.threads.per.data.dir=2`.
const THREADS: usize = 2;

fn id(index: usize) -> TopicPartition {
    TopicPartition {
        topic: TopicName::new("recovery").unwrap(),
        partition: PartitionId::new(index as i32),
    }
}

fn batch(sequence: i32) -> Bytes {
    batch_of(16, sequence)
}

fn batch_of(records: usize, sequence: i32) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        producer: Some(ProducerStamp {
            id: ProducerId::new(1),
            epoch: ProducerEpoch::new(0),
            base_sequence: Some(Sequence::new(sequence)),
        }),
        ..BatchOptions::default()
    });
    let value = [b'x'; 1000];
    for _ in 0..records {
        builder.append(NOW, None, Some(&value), &[]);
    }
    builder.build().unwrap()
}

/// Appends 16 KiB batches until the log has so many bytes; syncs where a node would, at each roll.
fn fill(log: &mut PartitionLog, bytes: u64) {
    let mut sequence = 0;
    while log.size_bytes() < bytes {
        let (batch, _) = RecordBatch::parse(batch(sequence)).unwrap();
        let info = log.append_as_leader(batch, LeaderEpoch::new(0), NOW).unwrap();
        sequence += 16;
        if info.rolled {
            log.flush().unwrap();
        }
    }
}

/// Runs `work` for every partition on a few threads.
fn each(partitions: usize, work: impl Fn(usize) + Sync) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= partitions {
                        break;
                    }
                    work(index);
                }
            });
        }
    });
}

fn data_dir(path: &Path) -> DataDir {
    let options = DataDirOptions {
        corruption: CorruptionPolicy::Refuse,
    };
    DataDir::open(StdDisk::shared(), path.to_owned(), options).unwrap()
}

struct Start {
    took: Duration,
    bytes_scanned: u64,
    points: OffsetMap,
}

/// Opens every log as a start does. With `close`, stops cleanly afterwards.
fn start(path: &Path, partitions: usize, close: bool) -> Start {
    let config = Arc::new(LogConfig::default());
    let began = Instant::now();
    let dir = data_dir(path);
    let scanned = AtomicU64::new(0);
    let logs: Vec<Mutex<Option<PartitionLog>>> = (0..partitions).map(|_| Default::default()).collect();
    each(partitions, |index| {
        let (log, report) = dir
            .open_partition(&id(index), None, Arc::clone(&config), NOW)
            .unwrap();
        scanned.fetch_add(report.bytes_scanned, Ordering::Relaxed);
        *logs[index].lock().unwrap() = Some(log);
    });
    let took = began.elapsed();
    let logs = logs.into_iter().map(|log| log.into_inner().unwrap().unwrap());
    let points: OffsetMap = logs
        .enumerate()
        .map(|(index, log)| {
            let point = if close {
                log.close().unwrap()
            } else {
                log.recovery_point()
            };
            (id(index), point)
        })
        .collect();
    if close {
        dir.write_checkpoint(OffsetCheckpoint::RecoveryPoint, &points)
            .unwrap();
        dir.mark_clean_shutdown(None).unwrap();
    }
    Start {
        took,
        bytes_scanned: scanned.into_inner(),
        points,
    }
}

fn measure(partitions: usize) {
    let gib: u64 = std::env::var("RECOVERY_GIB").map_or(10, |gib| gib.parse().unwrap());
    let home = std::env::var("RECOVERY_DIR").map_or_else(|_| std::env::temp_dir(), PathBuf::from);
    let home = tempfile::tempdir_in(home).unwrap();
    let path = home.path().join("data");
    let total = gib << 30;
    let config = Arc::new(LogConfig::default());
    {
        let dir = data_dir(&path);
        let points = Mutex::new(OffsetMap::new());
        each(partitions, |index| {
            let (mut log, _) = dir
                .open_partition(&id(index), None, Arc::clone(&config), NOW)
                .unwrap();
            fill(&mut log, total / partitions as u64);
            points.lock().unwrap().insert(id(index), log.recovery_point());
        });
        dir.write_checkpoint(OffsetCheckpoint::RecoveryPoint, &points.into_inner().unwrap())
            .unwrap();
    }
    let tell = |what: &str, start: &Start| {
        println!(
            "{partitions} partitions, {gib} GiB, {what}: {:.2} s, {} MiB scanned",
            start.took.as_secs_f64(),
            start.bytes_scanned >> 20
        );
    };
    tell(
        "killed before any checkpoint but those of rolls",
        &start(&path, partitions, false),
    );
    tell("the same again, then closed", &start(&path, partitions, true));
    let clean = start(&path, partitions, false);
    tell("stopped cleanly", &clean);
    // A checkpoint after all of it: what a node that was idle for two minutes before the kill has.
    let dir = data_dir(&path);
    dir.write_checkpoint(OffsetCheckpoint::RecoveryPoint, &clean.points)
        .unwrap();
    drop(dir);
    let after = start(&path, partitions, false);
    tell("killed after a checkpoint", &after);
    assert!(clean.points.values().all(|end| *end > Offset::ZERO));
}

/// Makes the system forget what it holds of a directory's files, so that the next reader waits for the disk. Without
/// GNU's `dd` nothing is forgotten, and the figures are those of a warm start.
fn forget_files(dir: &Path) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let _ = std::process::Command::new("dd")
            .arg(format!("of={}", path.display()))
            .args([
                "oflag=nocache",
                "conv=notrunc,fdatasync",
                "count=0",
                "status=none",
            ])
            .status();
    }
}

/// One gigabyte in the segment being written, synced now and then as a node syncs a log that is in use, and a kill
/// some megabytes behind the last sync.
#[test]
#[ignore = "writes a gigabyte"]
fn one_active_segment_that_was_synced_now_and_then() {
    const STEP_BYTES: u64 = 24 << 20;
    let home = std::env::var("RECOVERY_DIR").map_or_else(|_| std::env::temp_dir(), PathBuf::from);
    let home = tempfile::tempdir_in(home).unwrap();
    let path = home.path().join("data");
    {
        let dir = data_dir(&path);
        let (mut log, _) = dir.open_partition(&id(0), None, Arc::default(), NOW).unwrap();
        let mut sequence = 0;
        let mut synced = 0;
        while log.size_bytes() < (1 << 30) - (1 << 20) {
            let (batch, _) = RecordBatch::parse(batch(sequence)).unwrap();
            log.append_as_leader(batch, LeaderEpoch::new(0), NOW).unwrap();
            sequence += 16;
            if log.size_bytes() - synced >= STEP_BYTES {
                log.flush().unwrap();
                synced = log.size_bytes();
            }
        }
        assert_eq!(log.segment_count(), 1);
        let point = OffsetMap::from([(id(0), log.recovery_point())]);
        dir.write_checkpoint(OffsetCheckpoint::RecoveryPoint, &point)
            .unwrap();
    }
    for files in ["on disk only", "in the page cache"] {
        if files == "on disk only" {
            forget_files(&path.join("recovery-0"));
        }
        let dir = data_dir(&path);
        let began = Instant::now();
        let (log, report) = dir.open_partition(&id(0), None, Arc::default(), NOW).unwrap();
        println!(
            "1 GiB in one segment, {files}: {:.3} s, {} MiB scanned, {} of {} batches replayed for producers",
            began.elapsed().as_secs_f64(),
            report.bytes_scanned >> 20,
            report.producer_batches_replayed,
            log.end_offset().get() / 16,
        );
        assert_eq!(log.producer_count(), 1);
    }
}

#[test]
#[ignore = "writes ten gigabytes"]
fn one_partition_of_large_segments() {
    measure(1);
}

#[test]
#[ignore = "writes ten gigabytes"]
fn a_thousand_partitions() {
    measure(1_000);
}

#[test]
#[ignore = "writes ten gigabytes"]
fn ten_thousand_partitions() {
    measure(10_000);
}

/// Ten thousand partitions that were used a little, and a clean stop: one sync per file, and one for all of them.
#[test]
#[ignore = "syncs sixty thousand files"]
fn a_clean_stop_of_ten_thousand_used_partitions() {
    const PARTITIONS: usize = 10_000;
    for together in [false, true] {
        let home = std::env::var("RECOVERY_DIR").map_or_else(|_| std::env::temp_dir(), PathBuf::from);
        let home = tempfile::tempdir_in(home).unwrap();
        for life in ["new", "known"] {
            let dir = data_dir(&home.path().join("data"));
            let open = |index| {
                dir.open_partition(&id(index), None, Arc::default(), NOW)
                    .unwrap()
                    .0
            };
            let mut logs: Vec<PartitionLog> = (0..PARTITIONS).map(open).collect();
            // What came before is not part of it.
            let _ = std::process::Command::new("sync").status();
            for log in &mut logs {
                let sequence = i32::try_from(log.end_offset().get()).unwrap();
                let (batch, _) = RecordBatch::parse(batch_of(1, sequence)).unwrap();
                log.append_as_leader(batch, LeaderEpoch::new(0), NOW).unwrap();
            }
            let logs: Vec<_> = logs.into_iter().map(|log| Mutex::new(Some(log))).collect();
            let began = Instant::now();
            let closing: Vec<_> = logs.iter().map(|_| Mutex::new(None)).collect();
            each(PARTITIONS, |index| {
                let log = logs[index].lock().unwrap().take().unwrap();
                *closing[index].lock().unwrap() = Some(log.begin_close().unwrap());
            });
            let written = began.elapsed();
            let mut closing: Vec<_> = closing
                .into_iter()
                .map(|log| log.into_inner().unwrap().unwrap())
                .collect();
            if together {
                dir.sync_together(closing.iter_mut().map(ClosingLog::plan_mut));
            }
            let synced = began.elapsed();
            let closing: Vec<_> = closing.into_iter().map(|log| Mutex::new(Some(log))).collect();
            each(PARTITIONS, |index| {
                closing[index].lock().unwrap().take().unwrap().finish().unwrap();
            });
            let closed = began.elapsed();
            println!(
                "{PARTITIONS} {life} partitions, {}: written after {:.2} s, synced after {:.2} s, closed after {:.2} s",
                if together { "together" } else { "one by one" },
                written.as_secs_f64(),
                synced.as_secs_f64(),
                closed.as_secs_f64()
            );
        }
    }
}
