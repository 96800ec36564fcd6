//! Opening, closing, retention, cutting, and files that are not what they should be.

use super::*;
use crate::error::{BadBatch, CorruptionEvidence};

fn fill(log: &mut PartitionLog, batches: i64) {
    for i in 0..batches {
        let options = producer(i % 3, 0, (i / 3) as i32);
        let value = format!("v{i}");
        log.append_as_leader(stamped(NOW.get() + i, &[&value], options), EPOCH, NOW)
            .unwrap();
    }
}

#[test]
fn a_closed_log_opens_without_reading_it_all_and_is_the_same() {
    let mut bench = Bench::new(small());
    let mut log = bench.open();
    fill(&mut log, 40);
    let (all, producers, end) = (read_all(&log), log.producers.clone(), log.end_offset());
    bench.recovery_point = log.close().unwrap();
    assert_eq!(bench.recovery_point, end);
    let (log, report) = bench.try_open(true).unwrap();
    assert_eq!(report.segments_scanned, 0);
    assert_eq!(report.producer_batches_replayed, 0);
    assert_eq!(read_all(&log), all);
    assert_eq!(log.producers, producers, "all five batches of each producer");
    assert_eq!(log.recovery_point(), end);
}

#[test]
fn a_reopened_log_continues_its_index_as_if_it_had_not_been_closed() {
    let steady = Bench::new(small());
    let mut log = steady.open();
    fill(&mut log, 30);
    log.close().unwrap();
    let mut stopped = Bench::new(small());
    let mut log = stopped.open();
    for i in 0..30 {
        let options = producer(i % 3, 0, (i / 3) as i32);
        let batch = stamped(NOW.get() + i, &[&format!("v{i}")], options);
        log.append_as_leader(batch, EPOCH, NOW).unwrap();
        stopped.recovery_point = log.close().unwrap();
        log = stopped.try_open(true).unwrap().0;
    }
    let index = |bench: &Bench| std::fs::read(bench.path("00000000000000000000.index")).unwrap();
    assert_eq!(index(&stopped), index(&steady));
}

#[test]
fn a_killed_log_loses_only_the_torn_tail() {
    let mut bench = Bench::new(small());
    let mut log = bench.open();
    fill(&mut log, 20);
    let (all, producers) = (read_all(&log), log.producers.clone());
    bench.recovery_point = log.flush().unwrap();
    let last = bench.path(&format!("{:020}.log", log.active_segment_base().get()));
    drop(log);
    let torn = batch(&["torn"]).bytes().clone();
    for cut in [1, 16, 60, 61, torn.len() - 1] {
        let mut bytes = std::fs::read(&last).unwrap();
        let whole = bytes.len();
        bytes.extend_from_slice(&torn[..cut]);
        std::fs::write(&last, bytes).unwrap();
        let (log, report) = bench.try_open(false).unwrap();
        assert_eq!(report.truncated_bytes, cut as u64);
        assert_eq!(std::fs::metadata(&last).unwrap().len(), whole as u64);
        assert_eq!(read_all(&log), all);
        assert_eq!(log.producers, producers);
    }
}

#[test]
fn a_flipped_bit_with_valid_batches_behind_it_refuses_the_partition() {
    let bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    fill(&mut log, 10);
    drop(log);
    let path = bench.path("00000000000000000000.log");
    let good = std::fs::read(&path).unwrap();
    for at in [8, 20, 70, 100, 200] {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        std::fs::write(&path, &bytes).unwrap();
        match bench.try_open(false).unwrap_err() {
            StorageError::CorruptLog {
                evidence: CorruptionEvidence::ValidBatchBehind(_),
                ..
            } => {}
            other => panic!("bit at {at}: {other}"),
        }
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "nothing was changed");
    }
}

#[test]
fn damage_below_the_recovery_point_refuses_the_partition_even_at_the_end() {
    let mut bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    fill(&mut log, 3);
    bench.recovery_point = log.flush().unwrap();
    drop(log);
    let path = bench.path("00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    match bench.try_open(false).unwrap_err() {
        StorageError::CorruptLog {
            evidence,
            problem,
            expected_offset,
            ..
        } => {
            assert_eq!(evidence, CorruptionEvidence::BelowRecoveryPoint(Offset::new(3)));
            assert_eq!(expected_offset, Offset::new(2));
            assert!(matches!(problem, BadBatch::Header(_)));
        }
        other => panic!("{other}"),
    }
}

#[test]
fn index_files_of_any_content_are_survived() {
    let mut bench = Bench::new(small());
    let mut log = bench.open();
    fill(&mut log, 60);
    let all = read_all(&log);
    bench.recovery_point = log.close().unwrap();
    let other = {
        let bench = Bench::new(small());
        let mut log = bench.open();
        for i in 0..20 {
            append(&mut log, &[&"y".repeat(i * 7), "z"]);
        }
        log.close().unwrap();
        std::fs::read(bench.path("00000000000000000000.index")).unwrap()
    };
    let names: Vec<PathBuf> = std::fs::read_dir(bench.dir.path().join("t-0"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|kind| kind == "index" || kind == "timeindex")
        })
        .collect();
    for clean in [true, false] {
        for damage in 0..6 {
            for path in &names {
                let good = std::fs::read(path).unwrap();
                let bad = match damage {
                    0 => Vec::new(),
                    1 => good[..good.len() / 2].to_vec(),
                    2 => vec![0; good.len()],
                    3 => good.iter().map(|byte| byte ^ 0x11).collect(),
                    4 => other.clone(),
                    _ => vec![0xff; 24_000],
                };
                std::fs::write(path, bad).unwrap();
            }
            let (log, _) = bench.try_open(clean).unwrap();
            assert_eq!(read_all(&log), all, "clean {clean}, damage {damage}");
            let _ = log.offset_for_timestamp(Timestamp::new(NOW.get() + 17));
            bench.recovery_point = log.close().unwrap();
        }
    }
}

#[test]
fn snapshots_and_epochs_of_any_content_are_survived() {
    let mut bench = Bench::new(small());
    let mut log = bench.open();
    fill(&mut log, 40);
    log.append_as_leader(batch(&["x"]), LeaderEpoch::new(4), NOW)
        .unwrap();
    let (producers, epoch) = (log.producers.clone(), log.end_offset_for_epoch(EPOCH));
    bench.recovery_point = log.close().unwrap();
    for damage in 0..4 {
        for entry in std::fs::read_dir(bench.dir.path().join("t-0")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let is_state = [".snapshot", ".batches"].iter().any(|kind| name.ends_with(kind));
            if !is_state && name != leader_epochs_name() {
                continue;
            }
            let good = std::fs::read(&path).unwrap();
            let bad = match damage {
                0 => Vec::new(),
                1 => good[..good.len() / 2].to_vec(),
                2 => vec![0; good.len()],
                _ => good.iter().map(|byte| byte ^ 0x08).collect(),
            };
            std::fs::write(&path, bad).unwrap();
        }
        let (log, _) = bench.try_open(true).unwrap();
        assert_eq!(log.producers, producers, "damage {damage}");
        assert_eq!(log.end_offset_for_epoch(EPOCH), epoch);
        assert_eq!(log.latest_epoch(), Some(LeaderEpoch::new(4)));
        bench.recovery_point = log.close().unwrap();
    }
}

fn leader_epochs_name() -> &'static str {
    crate::leader_epochs::FILE_NAME
}

#[test]
fn foreign_files_and_links_are_left_alone() {
    let bench = Bench::new(small());
    let mut log = bench.open();
    append(&mut log, &["a"]);
    drop(log);
    for name in [
        "notes.txt",
        "1.log",
        "00000000000000000009.log.bak",
        "99999999999999999999.log",
    ] {
        std::fs::write(bench.path(name), "mine").unwrap();
    }
    std::os::unix::fs::symlink("/dev/zero", bench.path("00000000000000000005.log")).unwrap();
    std::fs::write(bench.path("00000000000000000007.index"), "left over").unwrap();
    let log = bench.open();
    assert_eq!(read_all(&log), [(0, "a".into())]);
    assert!(bench.path("notes.txt").try_exists().unwrap());
    assert!(
        !bench.path("00000000000000000007.index").try_exists().unwrap(),
        "an index without a log goes"
    );
}

#[test]
fn segments_roll_by_time_and_by_full_index() {
    let bench = Bench::new(LogConfig {
        segment_ms: 1000,
        ..LogConfig::default()
    });
    let mut log = bench.open();
    for at in [0, 1000, 1001, 1500] {
        log.append_as_leader(batch_at(NOW.get() + at, &["x"]), EPOCH, NOW)
            .unwrap();
    }
    assert_eq!((log.segment_count(), log.active_segment_base().get()), (2, 2));
    let full = LogConfig {
        segment_index_bytes: 24,
        index_interval_bytes: 1,
        ..LogConfig::default()
    };
    let bench = Bench::new(full);
    let mut log = bench.open();
    for _ in 0..8 {
        append(&mut log, &["x"]);
    }
    assert_eq!(
        log.segment_count(),
        2,
        "three entries of 8 bytes after four batches"
    );
}

#[test]
fn semantic_72_whole_segments_go_by_their_newest_record_but_never_past_the_high_watermark() {
    let bench = Bench::new(LogConfig {
        retention_ms: Some(100),
        ..small()
    });
    let mut log = bench.open();
    fill(&mut log, 40);
    let later = Timestamp::new(NOW.get() + 100_000);
    assert_eq!(
        log.apply_retention(NOW, log.end_offset()).unwrap(),
        Retention::default()
    );
    let second = log.sealed[1].base_offset;
    let done = log.apply_retention(later, second).unwrap();
    assert_eq!((done.segments_deleted, log.start_offset()), (1, second));
    log.apply_retention(later, log.end_offset()).unwrap();
    assert_eq!(
        (log.segment_count(), log.start_offset(), log.size_bytes()),
        (1, Offset::new(40), 0)
    );
    drop(log);
    let log = bench.open();
    assert_eq!(
        (log.start_offset(), log.end_offset()),
        (Offset::new(40), Offset::new(40)),
        "offsets go on"
    );
    assert_eq!(
        log.producer_count(),
        3,
        "producers outlive their records (semantic 36)"
    );
}

#[test]
fn files_of_deleted_segments_stay_under_another_name_when_they_may_and_a_new_start_removes_them() {
    let bench = Bench::new(LogConfig {
        retention_ms: Some(100),
        file_delete_delay_ms: 60_000,
        ..small()
    });
    let mut log = bench.open();
    fill(&mut log, 40);
    std::fs::write(bench.path("mine.deleted"), "").unwrap();
    let later = Timestamp::new(NOW.get() + 100_000);
    let done = log.apply_retention(later, log.end_offset()).unwrap();
    assert!(done.segments_deleted > 1);
    assert!(
        done.buried.len() >= 3 * done.segments_deleted,
        "{:?}",
        done.buried
    );
    for path in &done.buried {
        assert!(
            path.try_exists().unwrap() && path.to_string_lossy().ends_with(".deleted"),
            "{path:?}"
        );
        assert!(!path.with_extension("").try_exists().unwrap());
    }
    drop(log);
    let log = bench.open();
    assert_eq!(
        (log.start_offset(), log.end_offset()),
        (Offset::new(40), Offset::new(40))
    );
    assert!(done.buried.iter().all(|path| !path.try_exists().unwrap()));
    assert!(
        bench.path("mine.deleted").try_exists().unwrap(),
        "what is not ours stays"
    );
}

#[test]
fn jitter_lets_segments_roll_earlier_each_at_a_time_of_its_own() {
    let rolled_at = |jitter_ms: i64| -> Vec<i64> {
        let bench = Bench::new(LogConfig {
            segment_ms: 1_000,
            segment_jitter_ms: jitter_ms,
            timestamp_after_max_ms: i64::MAX,
            ..LogConfig::default()
        });
        let mut log = bench.open();
        let mut ages = Vec::new();
        let mut began = NOW.get();
        for at in (0..20_000).step_by(10) {
            let at = NOW.get() + at;
            let info = log.append_as_leader(batch_at(at, &["x"]), EPOCH, NOW).unwrap();
            if info.rolled {
                ages.push(at - began);
                began = at;
            }
        }
        ages
    };
    assert!(rolled_at(0).iter().all(|age| *age == 1_010));
    let ages = rolled_at(600);
    assert!(ages.iter().all(|age| (400..=1_010).contains(age)), "{ages:?}");
    let different: std::collections::BTreeSet<_> = ages.iter().collect();
    assert!(different.len() > ages.len() / 2, "{ages:?}");
    assert_eq!(ages, rolled_at(600), "the same each time");
    assert!(rolled_at(i64::MAX).iter().all(|age| (0..=1_010).contains(age)));
}

#[test]
fn a_damaged_time_index_does_not_make_retention_delete_young_segments() {
    let mut bench = Bench::new(LogConfig {
        retention_ms: Some(100),
        ..small()
    });
    let mut log = bench.open();
    fill(&mut log, 40);
    bench.recovery_point = log.close().unwrap();
    for entry in std::fs::read_dir(bench.dir.path().join("t-0")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "timeindex") {
            let len = std::fs::metadata(&path).unwrap().len() as usize;
            std::fs::write(&path, vec![0; len]).unwrap();
        }
    }
    let (mut log, _) = bench.try_open(true).unwrap();
    assert_eq!(
        log.apply_retention(NOW, log.end_offset()).unwrap(),
        Retention::default()
    );
    assert_eq!(
        log.offset_for_timestamp(NOW).unwrap().unwrap().offset,
        Offset::ZERO
    );
}

#[test]
fn semantic_72_size_retention_keeps_at_least_the_limit() {
    let bench = Bench::new(LogConfig {
        retention_bytes: Some(2500),
        retention_ms: None,
        ..small()
    });
    let mut log = bench.open();
    fill(&mut log, 80);
    let before = log.size_bytes();
    let done = log.apply_retention(NOW, log.end_offset()).unwrap();
    assert_eq!(before - log.size_bytes(), done.bytes);
    assert!((2500..3500).contains(&log.size_bytes()), "{}", log.size_bytes());
}

#[test]
fn a_clock_in_the_far_past_deletes_nothing() {
    let bench = Bench::new(LogConfig {
        retention_ms: Some(1),
        ..small()
    });
    let mut log = bench.open();
    fill(&mut log, 40);
    for now in [i64::MIN, -1, 0, 1] {
        assert_eq!(
            log.apply_retention(Timestamp::new(now), log.end_offset())
                .unwrap(),
            Retention::default()
        );
    }
}

#[test]
fn records_from_the_future_are_kept_and_append_times_are_not_fooled_by_them() {
    for (timestamp_type, stays) in [
        (TimestampType::CreateTime, true),
        (TimestampType::LogAppendTime, false),
    ] {
        let bench = Bench::new(LogConfig {
            retention_ms: Some(100),
            timestamp_after_max_ms: i64::MAX,
            timestamp_type,
            ..small()
        });
        let mut log = bench.open();
        for _ in 0..20 {
            log.append_as_leader(batch_at(i64::MAX - 1, &["far ahead"]), EPOCH, NOW)
                .unwrap();
        }
        log.apply_retention(NOW.advance_by_ms(101), log.end_offset())
            .unwrap();
        assert_eq!(log.size_bytes() > 0, stays, "{timestamp_type}");
    }
}

#[test]
fn without_delete_in_the_policy_neither_time_nor_size_removes_anything() {
    let bench = Bench::new(LogConfig {
        retention_ms: Some(1),
        retention_bytes: Some(1),
        delete_by_retention: false,
        compact: true,
        ..small()
    });
    let mut log = bench.open();
    fill(&mut log, 40);
    let done = log
        .apply_retention(Timestamp::new(i64::MAX), log.end_offset())
        .unwrap();
    assert_eq!(done, Retention::default());
}

#[test]
fn a_moved_start_survives_with_its_checkpoint_and_frees_segments_below() {
    let mut bench = Bench::new(small());
    let mut log = bench.open();
    fill(&mut log, 40);
    log.advance_start_offset(Offset::new(23)).unwrap();
    assert!(log.advance_start_offset(Offset::new(41)).is_err());
    assert_eq!(
        log.advance_start_offset(Offset::new(3)).unwrap(),
        Offset::new(23),
        "never back"
    );
    let removed = log.apply_retention(NOW, log.end_offset()).unwrap();
    assert!(removed.segments_deleted > 0);
    bench.log_start = log.start_offset();
    drop(log);
    let log = bench.open();
    assert_eq!(log.start_offset(), Offset::new(23));
    assert_eq!(read_all(&log)[0].0, 23);
}

#[test]
fn cutting_leaves_the_log_as_it_was_then() {
    for cut in [0, 1, 7, 13, 20, 39, 40] {
        let bench = Bench::new(small());
        let mut log = bench.open();
        fill(&mut log, 40);
        log.truncate_to(Offset::new(cut)).unwrap();
        let reference = Bench::new(small());
        let mut expected = reference.open();
        fill(&mut expected, cut);
        assert_eq!(read_all(&log), read_all(&expected), "cut at {cut}");
        assert_eq!(log.producers, expected.producers, "cut at {cut}");
        assert!(log.recovery_point() <= log.end_offset());
        append(&mut log, &["after"]);
        drop(log);
        let reopened = bench.open();
        assert_eq!(read_all(&reopened).last().unwrap(), &(cut, "after".to_owned()));
    }
}

#[test]
fn a_cut_inside_a_batch_removes_the_whole_batch() {
    let bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    append(&mut log, &["a", "b"]);
    append(&mut log, &["c", "d"]);
    assert_eq!(log.truncate_to(Offset::new(3)).unwrap(), Offset::new(2));
}

#[test]
fn a_new_start_is_found_again_without_any_checkpoint() {
    let bench = Bench::new(small());
    let mut log = bench.open();
    fill(&mut log, 40);
    log.truncate_fully_and_start_at(Offset::new(1000)).unwrap();
    assert_eq!(
        (log.start_offset(), log.end_offset()),
        (Offset::new(1000), Offset::new(1000))
    );
    drop(log);
    let mut log = bench.open();
    assert_eq!(append(&mut log, &["x"]).base_offset, Offset::new(1000));
}

#[test]
fn semantic_36_idle_producers_expire_and_those_in_a_transaction_do_not() {
    let bench = Bench::new(LogConfig {
        producer_id_expiration_ms: 1000,
        ..LogConfig::default()
    });
    let mut log = bench.open();
    fill(&mut log, 3);
    super::transactions::send(&mut log, 9, 0);
    assert_eq!(log.expire_producers(Timestamp::new(NOW.get() + 999)), 0);
    assert_eq!(log.expire_producers(Timestamp::new(NOW.get() + 2000)), 3);
    assert_eq!(log.producer_count(), 1);
}

#[test]
fn a_flush_that_began_before_a_cut_says_nothing_about_what_came_after() {
    let bench = Bench::new(small());
    let mut log = bench.open();
    fill(&mut log, 9);
    let plan = log.begin_flush().unwrap();
    let outcome = plan.execute();
    log.truncate_to(Offset::new(3)).unwrap();
    append(&mut log, &["other"]);
    assert!(log.finish_flush(&plan, outcome).unwrap() <= Offset::new(3));
    assert_eq!(log.flush().unwrap(), Offset::new(4));
}

#[test]
fn an_idle_log_is_small_and_holds_no_file_open() {
    let bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    append(&mut log, &["x"]);
    log.release_files();
    assert!(size_of::<PartitionLog>() < 1024, "{}", size_of::<PartitionLog>());
    assert!(log.active.file.is_closed());
    assert_eq!(read_all(&log).len(), 1);
    append(&mut log, &["y"]);
    assert_eq!(read_all(&log).len(), 2);
}
