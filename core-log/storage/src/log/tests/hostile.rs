//! Files of a partition that are not what they were (hostile inputs 103 to 106): whatever stands in them, the records
//! that are there are served, and no byte of a log is given up.

use std::collections::BTreeMap;
use std::path::Path;

use highwater_types::record::control::TransactionResult;

use super::*;

/// Every way a file is spoiled, by name.
fn damages(good: &[u8], other: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut bad = vec![
        ("emptied".to_owned(), Vec::new()),
        ("zeroed".to_owned(), vec![0; good.len()]),
        ("filled with ones".to_owned(), vec![0xff; good.len()]),
        ("grown by zeros".to_owned(), [good, &[0; 500]].concat()),
        ("of another partition".to_owned(), other.to_vec()),
        (
            "noise".to_owned(),
            (0..997_u32).map(|at| (at * 131 % 251) as u8).collect(),
        ),
    ];
    for cut in [1, good.len() / 3, good.len().saturating_sub(1)] {
        bad.push((format!("cut to {cut}"), good[..cut.min(good.len())].to_vec()));
    }
    let step = (good.len() / 60).max(1);
    for at in (0..good.len()).step_by(step) {
        let mut flipped = good.to_vec();
        flipped[at] ^= 1 << (at % 8);
        bad.push((format!("bit flipped at {at}"), flipped));
    }
    for at in (0..good.len().saturating_sub(4)).step_by(step * 2) {
        let mut huge = good.to_vec();
        huge[at..at + 4].copy_from_slice(&i32::MAX.to_be_bytes());
        bad.push((format!("huge number at {at}"), huge));
    }
    bad
}

/// A log with several segments, several producers, two epochs, aborted transactions; closed.
fn filled(values: &str) -> Bench {
    let mut bench = Bench::new(LogConfig {
        segment_bytes: 1200,
        index_interval_bytes: 200,
        ..LogConfig::default()
    });
    let mut log = bench.open();
    for round in 0..8 {
        for id in 0..2 {
            let options = BatchOptions {
                is_transactional: true,
                ..producer(id, 0, round * 2)
            };
            log.append_as_leader(
                stamped(NOW.get() + i64::from(round), &[values, "y"], options),
                EPOCH,
                NOW,
            )
            .unwrap();
        }
        for id in 0..2 {
            let order = EndTransaction {
                producer_id: ProducerId::new(id),
                producer_epoch: ProducerEpoch::new(0),
                coordinator_epoch: 0,
                result: match id {
                    0 => TransactionResult::Abort,
                    _ => TransactionResult::Commit,
                },
            };
            log.append_end_transaction(order, EPOCH, NOW).unwrap();
        }
    }
    log.append_as_leader(batch(&["last"]), LeaderEpoch::new(4), NOW)
        .unwrap();
    bench.recovery_point = log.close().unwrap();
    bench
}

fn files_of(bench: &Bench) -> BTreeMap<String, Vec<u8>> {
    std::fs::read_dir(bench.dir.path().join("t-0"))
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (
                entry.file_name().into_string().unwrap(),
                std::fs::read(entry.path()).unwrap(),
            )
        })
        .collect()
}

fn restore(bench: &Bench, files: &BTreeMap<String, Vec<u8>>) {
    let dir = bench.dir.path().join("t-0");
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::create_dir(&dir).unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.join(name), bytes).unwrap();
    }
}

/// Values with markers left out.
fn all_values(log: &PartitionLog) -> Vec<(i64, String)> {
    read_all(log)
        .into_iter()
        .filter(|(_, value)| value.is_ascii())
        .collect()
}

/// Damages every file of one kind in every way, after a clean stop and after a kill.
fn survives(kind: &str, check: impl Fn(&PartitionLog, &PartitionLog, &str)) {
    let bench = filled("value");
    let others = files_of(&filled("some other, longer value"));
    let good = files_of(&bench);
    let reference = bench.try_open(true).unwrap().0;
    let (logs, all) = (
        |files: &BTreeMap<String, Vec<u8>>| -> Vec<Vec<u8>> {
            let logs = files.iter().filter(|(name, _)| name.ends_with(".log"));
            logs.map(|(_, bytes)| bytes.clone()).collect()
        },
        all_values(&reference),
    );
    let mut met = 0;
    for (name, bytes) in good.iter().filter(|(name, _)| name.ends_with(kind)) {
        let foreign = others.iter().find(|(other, _)| other.ends_with(kind));
        for (damage, bad) in damages(bytes, foreign.map_or(&[][..], |(_, bytes)| bytes)) {
            for clean in [true, false] {
                let case = format!("{name} {damage}, clean {clean}");
                restore(&bench, &good);
                std::fs::write(bench.path(name), &bad).unwrap();
                let (log, _) = bench
                    .try_open(clean)
                    .unwrap_or_else(|error| panic!("{case}: {error}"));
                assert_eq!(all_values(&log), all, "{case}");
                assert_eq!(logs(&files_of(&bench)), logs(&good), "{case}: a log was changed");
                // Whatever it answers, it answers.
                let _ = log.offset_for_timestamp(Timestamp::new(NOW.get() + 3));
                check(&log, &reference, &case);
                met += 1;
            }
        }
    }
    assert!(met > 20, "{kind}: {met} cases");
}

fn aborted(log: &PartitionLog) -> Vec<AbortedTransaction> {
    log.aborted_transactions(log.start_offset(), log.end_offset())
        .unwrap()
}

#[test]
fn hostile_103_offset_indexes() {
    survives(".index", |log, reference, case| {
        assert_eq!(log.producers, reference.producers, "{case}")
    });
}

#[test]
fn hostile_103_time_indexes() {
    survives(".timeindex", |log, reference, case| {
        assert_eq!(aborted(log), aborted(reference), "{case}")
    });
}

#[test]
fn hostile_103_transaction_indexes() {
    survives(".txnindex", |log, reference, case| {
        let ids = |log: &PartitionLog| -> Vec<_> {
            aborted(log)
                .iter()
                .map(|entry| (entry.producer_id, entry.last_offset))
                .collect()
        };
        // An entry cut off whole leaves a file that is right in itself.
        let missing = case.contains("emptied") || case.contains("cut to");
        assert!(missing || ids(log) == ids(reference), "{case}");
    });
}

#[test]
fn hostile_103_producer_snapshots() {
    survives(".snapshot", |log, reference, case| {
        assert_eq!(log.producers, reference.producers, "{case}")
    });
}

#[test]
fn hostile_103_producer_batches() {
    survives(".batches", |log, reference, case| {
        assert_eq!(log.producers, reference.producers, "{case}")
    });
}

#[test]
fn hostile_103_leader_epochs() {
    survives("leader-epoch-checkpoint", |log, _, case| {
        assert!(log.latest_epoch().is_some(), "{case}");
    });
}

#[test]
fn hostile_104_segment_names_that_are_none_are_left_alone() {
    let bench = filled("value");
    let all = all_values(&bench.try_open(true).unwrap().0);
    let names = [
        "1.log",
        "-0000000000000000001.log",
        "99999999999999999999.log",
        "0000000000000000000x.log",
        "00000000000000000000.LOG",
        "00000000000000000000.log.bak",
        "00000000000000000000",
        ".log",
        "\u{1F980}.log",
    ];
    for name in names {
        std::fs::write(bench.path(name), [0xff; 100]).unwrap();
    }
    for clean in [true, false] {
        assert_eq!(all_values(&bench.try_open(clean).unwrap().0), all);
    }
    for name in names {
        assert_eq!(std::fs::read(bench.path(name)).unwrap(), [0xff; 100], "{name}");
    }
}

#[test]
fn hostile_105_links_devices_and_directories_are_neither_followed_nor_removed() {
    let bench = filled("value");
    let all = all_values(&bench.try_open(true).unwrap().0);
    let outside = tempfile::tempdir().unwrap();
    let target = outside.path().join("target");
    std::fs::write(&target, "not ours").unwrap();
    let dir = bench.dir.path().join("t-0");
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, dir.join(name)).unwrap();
    link(&target, "00000000000000099999.log");
    link(&target, "00000000000000099999.snapshot");
    link(Path::new("/dev/zero"), "00000000000000088888.log");
    link(Path::new("nowhere"), "00000000000000077777.index");
    std::fs::create_dir(dir.join("00000000000000066666.log")).unwrap();
    for clean in [true, false] {
        assert_eq!(all_values(&bench.try_open(clean).unwrap().0), all);
    }
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "not ours");
    assert!(dir.join("00000000000000066666.log").is_dir());
}

#[test]
fn hostile_106_a_clock_in_the_far_past_changes_nothing() {
    let bench = filled("value");
    let all = all_values(&bench.try_open(true).unwrap().0);
    for now in [i64::MIN, -1, 0, 1] {
        let now = Timestamp::new(now);
        let options = OpenOptions {
            clean_shutdown: false,
            recovery_point: bench.recovery_point,
            log_start: Offset::ZERO,
            was_compacted: false,
            now,
            corruption: CorruptionPolicy::Refuse,
        };
        let dir = bench.dir.path().join("t-0");
        let config = Arc::new(bench.config.clone());
        let (mut log, _) = PartitionLog::open(Arc::clone(&bench.disk), dir, config, options).unwrap();
        assert_eq!(
            log.apply_retention(now, log.end_offset()).unwrap(),
            Retention::default()
        );
        assert_eq!(log.expire_producers(now), 0);
        assert!(!log.flush_due(now));
        assert_eq!(all_values(&log), all);
    }
}

#[test]
fn a_log_start_above_the_end_refuses_the_partition_and_removes_nothing() {
    let mut bench = filled("value");
    let before = files_of(&bench);
    bench.log_start = bench.recovery_point.advance_by(1);
    for clean in [true, false] {
        let refused = bench.try_open(clean).unwrap_err();
        assert!(
            matches!(refused, StorageError::StartBeyondEnd { .. }),
            "{refused}"
        );
    }
    assert_eq!(files_of(&bench), before);
}

#[test]
fn a_segment_in_the_middle_that_was_emptied_is_told_and_what_is_around_it_is_served() {
    let bench = filled("value");
    let (log, report) = bench.try_open(true).unwrap();
    let (before, base) = (all_values(&log), log.sealed[1].base_offset.get());
    let next = log.active_segment_base().get();
    assert_eq!(report.empty_segments, 0);
    drop(log);
    std::fs::write(bench.path(&format!("{base:020}.log")), b"").unwrap();
    for clean in [true, false] {
        let (log, report) = bench.try_open(clean).unwrap();
        assert_eq!(report.empty_segments, 1);
        assert_eq!(log.end_offset(), bench.recovery_point);
        let around = before
            .iter()
            .filter(|(offset, _)| *offset < base || *offset >= next);
        assert_eq!(all_values(&log), around.cloned().collect::<Vec<_>>());
    }
}

#[test]
fn a_segment_in_the_middle_that_was_removed_is_told_unless_the_log_was_compacted() {
    let mut bench = filled("value");
    let (log, report) = bench.try_open(true).unwrap();
    let (before, base) = (all_values(&log), log.sealed[1].base_offset);
    let next = log.active_segment_base();
    assert_eq!(report.gaps, 0);
    drop(log);
    for kind in ["log", "index", "timeindex", "txnindex"] {
        let _ = std::fs::remove_file(bench.path(&format!("{:020}.{kind}", base.get())));
    }
    let durable = bench.recovery_point;
    // Trusted after a clean stop, trusted after a kill, and read in full.
    for (clean, recovery_point) in [(true, durable), (false, durable), (false, Offset::ZERO)] {
        bench.recovery_point = recovery_point;
        let (log, report) = bench.try_open(clean).unwrap();
        assert_eq!((report.gaps, report.empty_segments), (1, 0), "{recovery_point}");
        assert_eq!(log.end_offset(), durable);
        let around = before
            .iter()
            .filter(|(offset, _)| !(base.get()..next.get()).contains(offset));
        assert_eq!(all_values(&log), around.cloned().collect::<Vec<_>>());
    }
    bench.recovery_point = durable;
    bench.log_start = next;
    assert_eq!(bench.try_open(true).unwrap().1.gaps, 0, "deleted by right");
    bench.log_start = Offset::ZERO;
    bench.config.compact = true;
    assert_eq!(bench.try_open(true).unwrap().1.gaps, 0, "perhaps compacted away");
}

#[test]
fn after_a_kill_only_the_stretch_above_the_recovery_point_is_read() {
    let mut bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    let value = "x".repeat(1000);
    for _ in 0..100 {
        append(&mut log, &[&value]);
    }
    bench.recovery_point = log.flush().unwrap();
    for _ in 0..10 {
        append(&mut log, &[&value]);
    }
    let (all, index) = (read_all(&log), bench.path("00000000000000000000.index"));
    drop(log);
    let (log, report) = bench.try_open(false).unwrap();
    assert_eq!((report.segments_scanned, read_all(&log)), (0, all.clone()));
    assert!(report.bytes_scanned < 17_000, "{report:?}");
    assert_eq!(log.recovery_point(), bench.recovery_point);
    log.close().unwrap();
    // The index is the one that a log which was never killed has.
    let entries = std::fs::read(&index).unwrap();
    let steady = Bench::new(LogConfig::default());
    let mut log = steady.open();
    for _ in 0..110 {
        append(&mut log, &[&value]);
    }
    log.close().unwrap();
    assert_eq!(
        entries,
        std::fs::read(steady.path("00000000000000000000.index")).unwrap()
    );
    // Without an index the segment is read in full.
    std::fs::remove_file(&index).unwrap();
    let (log, report) = bench.try_open(false).unwrap();
    assert_eq!((report.segments_scanned, read_all(&log)), (1, all));
}
