//! A cleaning killed at every operation, with every tear, by kill and by power cut: no key that survives it is lost,
//! nothing that was removed on purpose comes back, and the next cleaning goes through.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::testing::{Crash, FakeDisk, Tear};

const DIR: &str = "data/t-0";
const LATER: Timestamp = NOW.advance_by_ms(2_000);

fn open(disk: &FakeDisk, recovery_point: i64) -> PartitionLog {
    let options = OpenOptions {
        clean_shutdown: false,
        recovery_point: Offset::new(recovery_point),
        log_start: Offset::ZERO,
        was_compacted: false,
        now: NOW,
        corruption: CorruptionPolicy::Refuse,
    };
    let config = Arc::new(LogConfig {
        segment_bytes: 700,
        ..compacted()
    });
    PartitionLog::open(disk.shared(), PathBuf::from(DIR), config, options)
        .unwrap()
        .0
}

/// Updates, tombstones, idempotent producers, an aborted and a committed transaction; cleaned once, so that the next
/// cleaning has tombstones and markers to remove; then more of the same.
fn history() -> (FakeDisk, i64) {
    let disk = FakeDisk::new();
    let mut log = open(&disk, 0);
    for round in 0..2 {
        for value in 0..8 {
            let key = format!("k{}", value % 3);
            put_as(
                &mut log,
                &[(&key, Some(&format!("{round}-{value}")))],
                producer(1, 0, round * 8 + value),
            );
        }
        put_as(
            &mut log,
            &[("k0", Some("void")), ("v", Some("void"))],
            transactional(2, round * 2),
        );
        end_transaction(&mut log, 2, TransactionResult::Abort);
        put_as(
            &mut log,
            &[("t", Some(&format!("{round}")))],
            transactional(3, round),
        );
        end_transaction(&mut log, 3, TransactionResult::Commit);
        put(&mut log, &[("gone", Some("x")), ("stays", Some("x"))]);
        put(&mut log, &[("gone", None)]);
        seal(&mut log);
        if round == 0 {
            log = clean(log, NOW).0;
        }
    }
    put(&mut log, &[("active", Some("1"))]);
    let recovery_point = log.flush().unwrap();
    (disk.survivor(Crash::Kill), recovery_point.get())
}

/// Cleans until the disk dies.
fn clean_until(disk: &FakeDisk, recovery_point: i64, operation: Option<(u64, Tear)>) {
    let log = open(disk, recovery_point);
    if let Some((at, tear)) = operation {
        disk.die_at(disk.operations() + at, tear);
    }
    let (_, outcome) = clean_as(log, LATER, OPTIONS, &|_, _| {});
    assert_eq!(outcome.is_err(), disk.is_dead(), "{outcome:?}");
}

fn check(disk: &FakeDisk, recovery_point: i64, expected: &BTreeMap<String, String>, case: &str) {
    let log = open(disk, recovery_point);
    assert_eq!(&fold(&log), expected, "{case}");
    assert_eq!(
        log.last_stable_offset(log.end),
        log.end,
        "{case}: no transaction is open"
    );
    for entry in disk.shared().list(Path::new(DIR)).unwrap() {
        let staged = entry.name.ends_with(".cleaned") || entry.name.ends_with(".swap");
        assert!(!staged, "{case}: {} is left", entry.name);
    }
    let end = log.end_offset();
    let (log, _) = clean(log, LATER);
    assert_eq!(&fold(&log), expected, "{case}, cleaned");
    let (mut log, _) = clean(log, LATER.advance_by_ms(2_000));
    assert_eq!(&fold(&log), expected, "{case}, cleaned twice");
    assert!(
        !contents(&log).iter().any(|line| line.ends_with("=-")),
        "{case}: the tombstones' time has come"
    );
    let info = log.append_as_leader(pairs(&[("k1", Some("new"))], producer(1, 0, 16)), EPOCH, NOW);
    assert_eq!(info.unwrap().base_offset, end, "{case}");
}

#[test]
fn a_crash_at_any_operation_of_a_cleaning_loses_no_surviving_key() {
    let (history, recovery_point) = history();
    let expected = fold(&open(&history.survivor(Crash::Kill), recovery_point));
    assert_eq!(expected.len(), 6, "{expected:?}");
    let healthy = history.survivor(Crash::Kill);
    drop(open(&healthy, recovery_point));
    let before = healthy.operations();
    clean_until(&healthy, recovery_point, None);
    let operations = healthy.operations() - before;
    assert!(operations > 30, "{operations}");
    check(
        &healthy.survivor(Crash::Kill),
        recovery_point,
        &expected,
        "healthy",
    );
    for operation in 1..=operations {
        for tear in [Tear::Nothing, Tear::Half, Tear::Everything] {
            let disk = history.survivor(Crash::Kill);
            clean_until(&disk, recovery_point, Some((operation, tear)));
            let case = format!("{operation} of {operations}, {tear:?}");
            check(
                &disk.survivor(Crash::Kill),
                recovery_point,
                &expected,
                &format!("kill at {case}"),
            );
            let all = disk.unsynced();
            for unsynced in BTreeSet::from([0, 1, 2, all / 2, all.saturating_sub(1), all]) {
                let survivor = disk.survivor(Crash::PowerCut { unsynced });
                check(
                    &survivor,
                    recovery_point,
                    &expected,
                    &format!("power at {case}, kept {unsynced}"),
                );
            }
        }
    }
}

#[test]
fn a_crash_while_an_interrupted_swap_is_finished_loses_nothing_either() {
    let (history, recovery_point) = history();
    let expected = fold(&open(&history.survivor(Crash::Kill), recovery_point));
    let mut met = 0;
    for operation in 1.. {
        let disk = history.survivor(Crash::Kill);
        clean_until(&disk, recovery_point, Some((operation, Tear::Everything)));
        if !disk.is_dead() {
            break;
        }
        let interrupted = disk.survivor(Crash::Kill);
        let decided = Path::new(DIR).join("00000000000000000000.log.swap");
        if interrupted.content(&decided).is_none() {
            continue;
        }
        met += 1;
        for again in 1..=4 {
            let disk = interrupted.survivor(Crash::Kill);
            disk.die_at(again, Tear::Everything);
            let options = OpenOptions {
                clean_shutdown: false,
                recovery_point: Offset::new(recovery_point),
                log_start: Offset::ZERO,
                was_compacted: false,
                now: NOW,
                corruption: CorruptionPolicy::Refuse,
            };
            let opened =
                PartitionLog::open(disk.shared(), PathBuf::from(DIR), Arc::new(compacted()), options);
            drop(opened);
            let case = format!("crash {operation}, then {again} in the open");
            check(&disk.survivor(Crash::Kill), recovery_point, &expected, &case);
        }
    }
    assert!(met > 2, "{met}");
}

#[test]
fn after_an_error_at_any_operation_the_log_is_as_it_was_or_fenced_and_the_next_open_has_everything() {
    let (history, recovery_point) = history();
    let expected = fold(&open(&history.survivor(Crash::Kill), recovery_point));
    let mut fenced = 0;
    for operation in 1.. {
        let disk = history.survivor(Crash::Kill);
        let log = open(&disk, recovery_point);
        let failing = disk.operations() + operation;
        disk.fail_operation(failing, 5);
        let (log, outcome) = clean_as(log, LATER, OPTIONS, &|_, _| {});
        if disk.operations() < failing {
            break;
        }
        let error = outcome.expect_err("what is not done must not be reported as done");
        assert!(!error.is_transient(), "{operation}: {error}");
        match log.fence_reason() {
            Some(_) => fenced += 1,
            None => assert_eq!(fold(&log), expected, "{operation}"),
        }
        drop(log);
        check(
            &disk.survivor(Crash::Kill),
            recovery_point,
            &expected,
            &format!("error at {operation}"),
        );
    }
    assert!(fenced > 2, "the exchange itself cannot be taken back: {fenced}");
}

#[test]
fn a_disk_without_room_for_the_copy_postpones_the_cleaning_and_a_full_one_ends_it_unharmed() {
    let (history, recovery_point) = history();
    let expected = fold(&open(&history.survivor(Crash::Kill), recovery_point));
    let disk = history.survivor(Crash::Kill);
    let log = open(&disk, recovery_point);
    let used = disk.shared().space(Path::new(DIR)).unwrap();
    let used_bytes = used.total_bytes - used.free_bytes;
    let mut postponed = 0;
    let mut log = Some(log);
    for room in (0..3_000).step_by(100) {
        disk.set_capacity(Some(used_bytes + room));
        let (same, outcome) = clean_as(log.take().unwrap(), LATER, OPTIONS, &|_, _| {});
        assert!(same.fence_reason().is_none(), "{room}");
        assert_eq!(fold(&same), expected, "{room}");
        log = Some(same);
        match outcome {
            Ok(_) => break,
            Err(error) => assert!(error.is_transient(), "{room}: {error}"),
        }
        postponed += 1;
    }
    assert!(postponed > 2, "{postponed}");
    disk.set_capacity(None);
    check(
        &disk.survivor(Crash::Kill),
        recovery_point,
        &expected,
        "after all",
    );
}
