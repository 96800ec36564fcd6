//! A script of everything a log does, killed at every operation, with every tear, by kill and by power cut.
//!
//! After each crash: the log opens; what was durable is there; after a kill, what was acknowledged is there; nothing
//! half-written is read; producer state equals what a replay of the log gives; a producer that repeats what was under
//! way finds it written once; appending goes on.

use std::collections::BTreeSet;

use highwater_types::record::control::TransactionResult;

use super::*;
use crate::disk::FailStopDisk;
use crate::testing::{Crash, FakeDisk, Tear};

const DIR: &str = "data/t-0";

/// What the owner of a log knows when the lights go out.
#[derive(Debug, Default, Clone)]
struct Known {
    /// Checkpointed recovery point.
    recovery_point: i64,
    /// Checkpointed log start.
    log_start: i64,
    /// Values by offset, for every append that was acknowledged. Markers are `None`.
    acknowledged: Vec<Option<String>>,
    /// The append under way, which may or may not be there.
    in_flight: Vec<Option<String>>,
    /// What its producer sends again, not having heard of it: producer, first sequence, transactional.
    retry: Option<(i64, i32, bool)>,
    /// Set while a cut is under way: the log may end anywhere from here on.
    cut_to: Option<usize>,
}

fn config() -> Arc<LogConfig> {
    Arc::new(LogConfig {
        segment_bytes: 420,
        index_interval_bytes: 100,
        retention_ms: None,
        retention_bytes: Some(250),
        file_delete_delay_ms: 60_000,
        producer_snapshot_bytes: 1,
        ..LogConfig::default()
    })
}

fn open(disk: &FakeDisk, known: &Known, clean: bool) -> Result<PartitionLog, StorageError> {
    open_on(disk.shared(), known, clean)
}

fn open_on(disk: Arc<dyn Disk>, known: &Known, clean: bool) -> Result<PartitionLog, StorageError> {
    let options = OpenOptions {
        clean_shutdown: clean,
        recovery_point: Offset::new(known.recovery_point),
        log_start: Offset::new(known.log_start),
        was_compacted: false,
        now: NOW,
        corruption: CorruptionPolicy::Refuse,
    };
    PartitionLog::open(disk, PathBuf::from(DIR), config(), options).map(|(log, _)| log)
}

struct Script {
    log: PartitionLog,
    known: Known,
    sequences: [i32; 3],
}

impl Script {
    fn append(&mut self, id: usize, transactional: bool, values: &[&str]) -> Result<(), AppendError> {
        let options = BatchOptions {
            is_transactional: transactional,
            ..producer(id as i64, 0, self.sequences[id])
        };
        let batch = stamped(NOW.get(), values, options);
        self.known.in_flight = values.iter().map(|value| Some((*value).to_owned())).collect();
        self.known.retry = Some((id as i64, self.sequences[id], transactional));
        self.log.append_as_leader(batch, EPOCH, NOW)?;
        self.sequences[id] += values.len() as i32;
        self.acknowledge();
        Ok(())
    }

    fn end(&mut self, id: i64, result: TransactionResult) -> Result<(), AppendError> {
        let order = EndTransaction {
            producer_id: ProducerId::new(id),
            producer_epoch: ProducerEpoch::new(0),
            coordinator_epoch: 0,
            result,
        };
        self.known.in_flight = vec![None];
        self.known.retry = None;
        self.log.append_end_transaction(order, EPOCH, NOW)?;
        self.acknowledge();
        Ok(())
    }

    /// DeleteRecords as the owner does it: durable first, then the checkpoint.
    fn delete_before(&mut self, offset: i64) -> Result<(), StorageError> {
        self.flush()?;
        self.log.advance_start_offset(Offset::new(offset))?;
        self.known.log_start = self.log.durable_start_offset().get();
        assert_eq!(self.known.log_start, offset);
        Ok(())
    }

    fn acknowledge(&mut self) {
        self.known.retry = None;
        let done = std::mem::take(&mut self.known.in_flight);
        self.known.acknowledged.extend(done);
    }

    fn flush(&mut self) -> Result<(), StorageError> {
        self.known.recovery_point = self.log.flush()?.get();
        Ok(())
    }

    fn cut(&mut self, to: i64) -> Result<(), StorageError> {
        // As the contract says: the checkpoint first.
        self.known.recovery_point = self.known.recovery_point.min(to);
        self.known.cut_to = Some(to as usize);
        self.log.truncate_to(Offset::new(to))?;
        self.known.acknowledged.truncate(to as usize);
        self.known.cut_to = None;
        Ok(())
    }

    fn run(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        self.append(0, false, &["a", "b"])?;
        self.append(1, true, &["c"])?;
        self.flush()?;
        self.append(2, true, &["d", "e", "f"])?;
        self.end(1, TransactionResult::Abort)?;
        self.append(1, true, &["g"])?;
        for value in ["h", "i", "j", "k"] {
            self.append(0, false, &[value, value])?;
        }
        self.flush()?;
        self.end(2, TransactionResult::Commit)?;
        self.append(0, false, &["l"])?;
        self.log.assign_epoch(LeaderEpoch::new(0));
        self.cut(14)?;
        // What was cut has not happened for producer 0.
        self.sequences[0] -= 3;
        self.append(2, true, &["m", "n"])?;
        self.delete_before(7)?;
        self.append(0, false, &["after deleting"])?;
        self.log.apply_retention(NOW, self.log.end_offset())?;
        self.append(1, true, &["o"])?;
        self.end(1, TransactionResult::Abort)?;
        self.flush()?;
        self.append(2, true, &["p"])?;
        self.log.advance_start_offset(self.log.end_offset())?;
        self.known.log_start = self.log.durable_start_offset().get();
        assert!(self.log.durable_start_offset() < self.log.start_offset());
        self.append(0, false, &["q"])?;
        Ok(())
    }
}

/// Runs the script on a disk that dies at an operation; gives what was known then.
fn run_until(disk: &FakeDisk, operation: Option<(u64, Tear)>) -> Known {
    if let Some((at, tear)) = operation {
        disk.die_at(at, tear);
    }
    let (known, failed) = run_on(disk.shared());
    assert_eq!(failed, disk.is_dead());
    known
}

/// Runs the script until something fails or the log is closed; gives what was known then, and whether it failed.
fn run_on(disk: Arc<dyn Disk>) -> (Known, bool) {
    let known = Known::default();
    let mut script = match open_on(disk, &known, false) {
        Ok(log) => Script {
            log,
            known,
            sequences: [0; 3],
        },
        Err(_) => return (known, true),
    };
    if script.run().is_err() {
        script
            .log
            .append_as_leader(batch(&["x"]), EPOCH, NOW)
            .expect_err("nothing is written behind a failure");
        return (script.known, true);
    }
    match script.log.close() {
        Ok(end) => {
            script.known.recovery_point = end.get();
            (script.known, false)
        }
        Err(_) => (script.known, true),
    }
}

fn values(log: &PartitionLog) -> Vec<(usize, Option<String>)> {
    let mut found = Vec::new();
    let mut from = log.start_offset();
    while from < log.end_offset() {
        let got = read(log, request(from.get(), i64::MAX));
        assert!(!got.is_empty(), "nothing at {from} of {}", log.end_offset());
        for batch in batches(got) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            for record in batch.records(DecodeLimits::default()).unwrap() {
                let value = (!batch.header().is_control())
                    .then(|| String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap());
                found.push((record.offset.get() as usize, value));
                from = record.offset.next();
            }
        }
    }
    found
}

fn check(disk: &FakeDisk, known: &Known, kill: bool, case: &str) {
    let log = open(disk, known, false).unwrap_or_else(|error| panic!("{case}: {error}"));
    let end = log.end_offset().get();
    assert!(
        end >= known.recovery_point,
        "{case}: durable data is gone, end {end}, {known:?}"
    );
    if kill && known.cut_to.is_none() {
        assert!(
            end >= known.acknowledged.len() as i64,
            "{case}: acknowledged data is gone after a kill"
        );
    }
    let history: Vec<_> = known
        .acknowledged
        .iter()
        .chain(&known.in_flight)
        .cloned()
        .collect();
    for (offset, value) in values(&log) {
        assert_eq!(history.get(offset), Some(&value), "{case}: offset {offset}");
    }
    assert!(log.start_offset().get() <= end);
    assert!(
        log.start_offset().get() >= known.log_start,
        "{case}: deleted records are back"
    );
    let whole = known.cut_to.is_none() && end >= known.acknowledged.len() as i64;
    let log = if whole { check_retry(log, known, case) } else { log };
    check_state(disk, known, log, case);
}

/// A producer that never heard of its last batch sends it again: it is there once, where it was or behind the rest.
fn check_retry(mut log: PartitionLog, known: &Known, case: &str) -> PartitionLog {
    let Some((id, sequence, is_transactional)) = known.retry else {
        return log;
    };
    let values: Vec<&str> = known.in_flight.iter().flatten().map(String::as_str).collect();
    let options = BatchOptions {
        is_transactional,
        ..producer(id, 0, sequence)
    };
    let was_there = log.end_offset().get() > known.acknowledged.len() as i64;
    let info = log
        .append_as_leader(stamped(NOW.get(), &values, options), EPOCH, NOW)
        .unwrap_or_else(|error| panic!("{case}: retry: {error}"));
    assert_eq!(info.duplicate, was_there, "{case}");
    assert_eq!(info.base_offset.get(), known.acknowledged.len() as i64, "{case}");
    log
}

/// Derived state equals what the batches alone give; then life goes on.
fn check_state(disk: &FakeDisk, known: &Known, mut log: PartitionLog, case: &str) {
    let producers = log.producers.clone();
    let aborted = |log: &PartitionLog| {
        log.aborted_transactions(log.start_offset(), log.end_offset())
            .unwrap()
    };
    let before = aborted(&log);
    if log.start_offset() == Offset::ZERO {
        log.remove_txn_indexes(Offset::ZERO).unwrap();
        log.load_producers(&[], Some(Offset::ZERO)).unwrap();
        assert_eq!(log.producers, producers, "{case}: snapshot against replay");
        assert_eq!(aborted(&log), before, "{case}");
    }
    let end = log.end_offset();
    if log.start_offset() < end {
        let values = values(&log);
        assert_eq!(
            values.last().map(|(offset, _)| *offset as i64),
            Some(end.get() - 1),
            "{case}"
        );
    }
    let info = log
        .append_as_leader(batch(&["after the crash"]), EPOCH, NOW)
        .unwrap();
    assert_eq!(info.base_offset, end, "{case}");
    let mut again = known.clone();
    again.recovery_point = log.close().unwrap().get();
    let log = open(&disk.survivor(Crash::PowerCut { unsynced: 0 }), &again, true)
        .unwrap_or_else(|error| panic!("{case}, closed: {error}"));
    assert_eq!(log.end_offset(), end.next(), "{case}: closed means durable");
    assert_eq!(
        values(&log).last().unwrap().1.as_deref(),
        Some("after the crash"),
        "{case}"
    );
    assert_eq!(log.producers, producers, "{case}");
}

#[test]
fn the_script_runs_through_on_a_healthy_disk() {
    let disk = FakeDisk::new();
    let known = run_until(&disk, None);
    check(&disk.survivor(Crash::Kill), &known, true, "healthy");
    let log = open(&disk.survivor(Crash::Kill), &known, false).unwrap();
    assert!(
        log.segment_count() > 1 && log.start_offset() > Offset::ZERO,
        "the script rolls and deletes"
    );
}

#[test]
fn a_kill_at_any_operation_loses_nothing_acknowledged() {
    let healthy = FakeDisk::new();
    run_until(&healthy, None);
    for operation in 1..=healthy.operations() {
        for tear in [
            Tear::Nothing,
            Tear::Bytes(1),
            Tear::Bytes(16),
            Tear::Bytes(61),
            Tear::Half,
            Tear::Everything,
        ] {
            let disk = FakeDisk::new();
            let known = run_until(&disk, Some((operation, tear)));
            check(
                &disk.survivor(Crash::Kill),
                &known,
                true,
                &format!("kill at {operation}, {tear:?}"),
            );
        }
    }
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_durable() {
    let healthy = FakeDisk::new();
    run_until(&healthy, None);
    for operation in 1..=healthy.operations() {
        for tear in [Tear::Nothing, Tear::Half, Tear::Everything] {
            let disk = FakeDisk::new();
            let known = run_until(&disk, Some((operation, tear)));
            let all = disk.unsynced();
            for unsynced in BTreeSet::from([0, 1, 2, all / 2, all.saturating_sub(1), all]) {
                let survivor = disk.survivor(Crash::PowerCut { unsynced });
                check(
                    &survivor,
                    &known,
                    false,
                    &format!("power at {operation}, {tear:?}, kept {unsynced}"),
                );
            }
        }
    }
}

#[test]
fn any_change_or_sync_that_fails_ends_all_changes_and_loses_nothing() {
    let healthy = FakeDisk::new();
    run_until(&healthy, None);
    for operation in 1..=healthy.operations() {
        let disk = FakeDisk::new();
        disk.fail_operation(operation, 5);
        let case = format!("operation {operation} fails");
        let (known, failed) = run_on(Arc::new(FailStopDisk::new(disk.shared(), |_| {})));
        assert!(failed, "{case} unnoticed");
        assert_eq!(disk.operations(), operation, "{case}: the disk is left alone");
        check(&disk.survivor(Crash::Kill), &known, true, &case);
        check(
            &disk.survivor(Crash::PowerCut { unsynced: 0 }),
            &known,
            false,
            &case,
        );
    }
}

#[test]
fn after_any_failed_sync_the_log_takes_no_more_writes() {
    let healthy = FakeDisk::new();
    run_until(&healthy, None);
    assert!(healthy.syncs() > 5);
    for sync in 1..=healthy.syncs() {
        let disk = FakeDisk::new();
        disk.fail_sync(sync);
        let mut script = Script {
            log: open(&disk, &Known::default(), false).unwrap(),
            known: Known::default(),
            sequences: [0; 3],
        };
        if script.run().is_ok() {
            // One of the syncs of closing.
            script.log.close().expect_err("a failed sync is told");
            continue;
        }
        let before = disk.operations();
        assert!(
            script.log.flush().is_err(),
            "sync {sync}: no second sync is trusted"
        );
        let retried = script.log.append_as_leader(batch(&["x"]), EPOCH, NOW);
        assert!(matches!(retried, Err(AppendError::Fenced(_))), "sync {sync}");
        assert_eq!(disk.operations(), before, "sync {sync}: the disk is left alone");
    }
}
