//! A script of everything a log does, killed at every operation, with every tear, by kill and by power cut.
//!
//! After each crash: the log opens; what was durable is there; after a kill, what was acknowledged is there; nothing
//! half-written is read; producer state equals what a replay of the log gives; appending goes on.

use std::collections::BTreeSet;

use highwater_types::record::control::TransactionResult;

use super::*;
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
    /// Set while a cut is under way: the log may end anywhere from here on.
    cut_to: Option<usize>,
}

fn config() -> Arc<LogConfig> {
    Arc::new(LogConfig {
        segment_bytes: 420,
        index_interval_bytes: 100,
        retention_ms: None,
        retention_bytes: Some(250),
        ..LogConfig::default()
    })
}

fn open(disk: &FakeDisk, known: &Known, clean: bool) -> Result<PartitionLog, StorageError> {
    let options = OpenOptions {
        clean_shutdown: clean,
        recovery_point: Offset::new(known.recovery_point),
        log_start: Offset::new(known.log_start),
        now: NOW,
        corruption: CorruptionPolicy::Refuse,
    };
    PartitionLog::open(disk.shared(), PathBuf::from(DIR), config(), options).map(|(log, _)| log)
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
        self.log.append_end_transaction(order, EPOCH, NOW)?;
        self.acknowledge();
        Ok(())
    }

    fn acknowledge(&mut self) {
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
        self.log.apply_retention(NOW, self.log.end_offset())?;
        self.append(1, true, &["o"])?;
        self.end(1, TransactionResult::Abort)?;
        self.flush()?;
        self.append(2, true, &["p"])?;
        Ok(())
    }
}

/// Runs the script on a disk that dies at an operation; gives what was known then.
fn run_until(disk: &FakeDisk, operation: Option<(u64, Tear)>) -> Known {
    if let Some((at, tear)) = operation {
        disk.die_at(at, tear);
    }
    let known = Known::default();
    let mut script = match open(disk, &known, false) {
        Ok(log) => Script {
            log,
            known,
            sequences: [0; 3],
        },
        Err(_) => return known,
    };
    let outcome = script.run();
    assert_eq!(outcome.is_err(), disk.is_dead(), "{outcome:?}");
    if disk.is_dead() {
        assert!(script.log.append_as_leader(batch(&["x"]), EPOCH, NOW).is_err());
    }
    script.known
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
    check_state(disk, known, log, case);
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
            panic!("sync {sync} failed unnoticed");
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
