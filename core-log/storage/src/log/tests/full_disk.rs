//! A disk without room: what is refused changes nothing, and everything works again once there is room.

use super::*;
use crate::testing::{Crash, FakeDisk};

fn config() -> Arc<LogConfig> {
    Arc::new(LogConfig {
        segment_bytes: 500,
        index_interval_bytes: 100,
        retention_ms: None,
        retention_bytes: Some(400),
        producer_snapshot_bytes: 1,
        ..LogConfig::default()
    })
}

fn open(disk: &FakeDisk, recovery_point: Offset) -> PartitionLog {
    let options = OpenOptions {
        clean_shutdown: false,
        recovery_point,
        log_start: Offset::ZERO,
        was_compacted: false,
        now: NOW,
        corruption: CorruptionPolicy::Refuse,
    };
    let dir = PathBuf::from("data/t-0");
    PartitionLog::open(disk.shared(), dir, config(), options)
        .unwrap()
        .0
}

/// Appends batch `at` of two records, as a producer does that repeats what was refused.
fn send(log: &mut PartitionLog, at: i32) -> Result<AppendInfo, AppendError> {
    let values = [format!("{at}a"), format!("{at}b")];
    let batch = stamped(NOW.get(), &[&values[0], &values[1]], producer(7, 0, at * 2));
    log.append_as_leader(batch, EPOCH, NOW)
}

#[test]
fn wherever_room_ends_nothing_is_lost_or_doubled_and_the_log_goes_on_when_there_is_some() {
    for capacity in (0..2_400).step_by(7) {
        let disk = FakeDisk::new();
        let mut log = open(&disk, Offset::ZERO);
        disk.set_capacity(Some(capacity));
        let mut sent = 0;
        let mut durable = Offset::ZERO;
        let refused = loop {
            match send(&mut log, sent) {
                Ok(info) => assert_eq!(info.base_offset.get(), i64::from(sent) * 2),
                Err(refused) => break refused,
            }
            sent += 1;
            if sent % 3 == 0 {
                durable = log.flush().unwrap_or(durable);
            }
        };
        assert!(matches!(refused, AppendError::Storage(_)), "{refused}");
        assert!(
            log.fence_reason().is_none(),
            "capacity {capacity}: {:?}",
            log.fence_reason()
        );
        assert_eq!(log.end_offset().get(), i64::from(sent) * 2);
        // Still full: reading works, and a kill now finds what was acknowledged.
        if sent > 0 {
            assert_eq!(read_all(&log).len(), sent as usize * 2);
        }
        for known in [Offset::ZERO, durable] {
            let after_kill = open(&disk.survivor(Crash::Kill), known);
            assert_eq!(after_kill.end_offset(), log.end_offset(), "capacity {capacity}");
            assert_eq!(after_kill.producers, log.producers, "capacity {capacity}");
        }
        send(&mut log, sent).expect_err("there is still no room");

        disk.set_capacity(None);
        for at in sent..sent + 10 {
            assert!(!send(&mut log, at).unwrap().duplicate);
        }
        let durable = log.flush().unwrap();
        let log = open(&disk.survivor(Crash::PowerCut { unsynced: 0 }), durable);
        let all = read_all(&log);
        assert_eq!(all.len(), (sent as usize + 10) * 2, "capacity {capacity}");
        for (at, (offset, value)) in all.iter().enumerate() {
            let letter = ["a", "b"][at % 2];
            assert_eq!(
                (*offset, value.as_str()),
                (at as i64, format!("{}{letter}", at / 2).as_str())
            );
        }
    }
}

#[test]
fn retention_gives_room_back_on_a_full_disk() {
    let disk = FakeDisk::new();
    let mut log = open(&disk, Offset::ZERO);
    for at in 0..12 {
        send(&mut log, at).unwrap();
    }
    disk.set_capacity(Some(disk.used_bytes()));
    send(&mut log, 12).expect_err("full");
    let freed = log.apply_retention(NOW, log.end_offset()).unwrap();
    assert!(freed.segments_deleted > 0);
    assert_eq!(send(&mut log, 12).unwrap().base_offset.get(), 24);
}

#[test]
fn a_flush_without_room_for_its_small_files_is_repeated() {
    let disk = FakeDisk::new();
    let mut log = open(&disk, Offset::ZERO);
    send(&mut log, 0).unwrap();
    disk.set_capacity(Some(disk.used_bytes()));
    log.flush().expect_err("no room for the epochs");
    assert_eq!(log.recovery_point(), Offset::ZERO);
    disk.set_capacity(None);
    assert_eq!(log.flush().unwrap(), Offset::new(2));
}

#[test]
fn preallocated_segments_are_cut_to_their_size_when_sealed_and_closed() {
    use std::os::unix::fs::MetadataExt;
    let mut bench = Bench::new(LogConfig {
        segment_bytes: 1 << 20,
        preallocate: true,
        ..LogConfig::default()
    });
    let mut log = bench.open();
    append(&mut log, &["a"]);
    let first = bench.path("00000000000000000000.log");
    let room = |path: &std::path::Path| std::fs::metadata(path).unwrap().blocks() * 512;
    assert!(room(&first) >= 1 << 20, "reserved");
    let large = "x".repeat(600_000);
    append(&mut log, &[&large]);
    append(&mut log, &[&large]);
    assert_eq!(log.segment_count(), 2);
    assert!(room(&first) < 700_000, "given back at the roll");
    let second = bench.path("00000000000000000002.log");
    assert!(room(&second) >= 1 << 20);
    bench.recovery_point = log.close().unwrap();
    assert!(room(&second) < 700_000, "given back at the close");
    let log = bench.try_open(true).unwrap().0;
    assert_eq!(read_all(&log).len(), 3);
}

#[test]
fn zeros_behind_the_last_batch_are_an_unwritten_tail() {
    let mut bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    append(&mut log, &["a"]);
    append(&mut log, &["b"]);
    bench.recovery_point = log.flush().unwrap();
    let size = log.size_bytes();
    drop(log);
    let path = bench.path("00000000000000000000.log");
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(1 << 20).unwrap();
    let (mut log, report) = bench.try_open(false).unwrap();
    assert_eq!(report.truncated_bytes, (1 << 20) - size);
    assert_eq!(append(&mut log, &["c"]).base_offset, Offset::new(2));
}

/// A file system of its own, gone again with the value.
struct SmallFileSystem(tempfile::TempDir);

impl SmallFileSystem {
    /// `None` where this process may not mount.
    fn mount(bytes: u64) -> Option<Self> {
        let at = tempfile::tempdir().unwrap();
        let size = format!("size={bytes}");
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(at.path())
            .output();
        mounted
            .is_ok_and(|done| done.status.success())
            .then_some(Self(at))
    }
}

impl Drop for SmallFileSystem {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(self.0.path()).output();
    }
}

#[test]
fn a_real_file_system_that_is_full_refuses_and_works_again_when_files_go() {
    let Some(small) = SmallFileSystem::mount(1 << 20) else {
        eprintln!("skipped: a_real_file_system_that_is_full: mounting a tmpfs is not permitted here");
        return;
    };
    let ballast = small.0.path().join("ballast");
    std::fs::write(&ballast, vec![1; 400_000]).unwrap();
    let options = OpenOptions {
        clean_shutdown: false,
        recovery_point: Offset::ZERO,
        log_start: Offset::ZERO,
        was_compacted: false,
        now: NOW,
        corruption: CorruptionPolicy::Refuse,
    };
    let dir = small.0.path().join("t-0");
    let config = Arc::new(LogConfig {
        segment_bytes: 100_000,
        retention_ms: None,
        ..LogConfig::default()
    });
    let open = || {
        PartitionLog::open(StdDisk::shared(), dir.clone(), Arc::clone(&config), options)
            .unwrap()
            .0
    };
    let mut log = open();
    let value = "x".repeat(10_000);
    let mut appended = 0;
    while log.append_as_leader(batch(&[&value]), EPOCH, NOW).is_ok() {
        appended += 1;
    }
    assert!((20..100).contains(&appended), "{appended}");
    let space = StdDisk.space(small.0.path()).unwrap();
    assert!(space.free_bytes < 20_000, "{space:?}");
    assert_eq!(read_all(&log).len(), appended);
    std::fs::remove_file(&ballast).unwrap();
    append(&mut log, &[&value]);
    log.flush().unwrap();
    drop(log);
    assert_eq!(read_all(&open()).len(), appended + 1);
}
