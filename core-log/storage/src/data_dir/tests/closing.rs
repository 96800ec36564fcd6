//! Many logs closed with one sync of the file system: crashes at every operation, and failures of that sync.

use std::collections::BTreeSet;

use super::*;
use crate::log::ClosingLog;

const PARTITIONS: i32 = 3;

/// How many records each log has that was acknowledged, and what was written down as durable.
#[derive(Debug, Default)]
struct Known {
    appended: Vec<i64>,
    is_clean: bool,
}

fn log_path(partition: i32) -> PathBuf {
    PathBuf::from(format!("data/my-orders-{partition}/00000000000000000000.log"))
}

/// Closes logs as an owner of many does; gives the ends of those that are durable.
fn close_together(
    dir: &DataDir,
    logs: Vec<PartitionLog>,
) -> Result<Vec<Result<i64, StorageError>>, StorageError> {
    let closing: Result<Vec<ClosingLog>, _> = logs.into_iter().map(PartitionLog::begin_close).collect();
    let mut closing = closing?;
    dir.sync_together_from(1, closing.iter_mut().map(ClosingLog::plan_mut));
    let finish = |log: ClosingLog| log.finish().map(Offset::get);
    Ok(closing.into_iter().map(finish).collect())
}

/// Opens, appends, flushes some, appends again, stops cleanly. Ends where the disk dies.
fn live(disk: &FakeDisk, known: &mut Known) -> Result<(), AppendError> {
    let options = DataDirOptions {
        corruption: CorruptionPolicy::Refuse,
    };
    let dir = DataDir::open(disk.shared(), PathBuf::from("data"), options)?;
    let mut logs = Vec::new();
    for partition in 0..PARTITIONS {
        let (mut log, _) = open_log(&dir, partition, 1)?;
        known.appended.push(0);
        try_append(&mut log)?;
        if partition > 0 {
            log.flush()?;
            try_append(&mut log)?;
        }
        known.appended[partition as usize] = log.end_offset().get();
        logs.push(log);
    }
    let mut points = OffsetMap::new();
    for (partition, end) in (0..).zip(close_together(&dir, logs)?) {
        points.insert(orders(partition), Offset::new(end?));
    }
    dir.write_checkpoint(OffsetCheckpoint::RecoveryPoint, &points)?;
    dir.mark_clean_shutdown(None)?;
    known.is_clean = true;
    Ok(())
}

fn check(disk: &FakeDisk, known: &Known, case: &str) {
    let dir = open(disk);
    assert!(dir.was_clean_shutdown() || !known.is_clean, "{case}");
    for (partition, appended) in (0..).zip(&known.appended) {
        let (log, _) = open_log(&dir, partition, 1).unwrap_or_else(|error| panic!("{case}: {error}"));
        if dir.was_clean_shutdown() {
            assert_eq!(
                log.end_offset().get(),
                *appended,
                "{case}: the marker promises all"
            );
        }
        let promised = dir.checkpointed(OffsetCheckpoint::RecoveryPoint, &orders(partition));
        assert!(log.end_offset() >= promised.unwrap_or(Offset::ZERO), "{case}");
    }
}

fn whole() -> FakeDisk {
    FakeDisk::new().with_whole_syncs()
}

#[test]
fn a_power_cut_at_any_operation_of_closing_together_leaves_no_marker_that_promises_too_much() {
    let healthy = whole();
    live(&healthy, &mut Known::default()).unwrap();
    let mut marked = 0;
    for operation in 1..=healthy.operations() + 1 {
        for tear in [Tear::Nothing, Tear::Half, Tear::Everything] {
            let (disk, mut known) = (whole(), Known::default());
            disk.die_at(operation, tear);
            assert_eq!(live(&disk, &mut known).is_err(), disk.is_dead());
            let all = disk.unsynced();
            for unsynced in BTreeSet::from([0, 1, 2, all / 2, all.saturating_sub(1), all]) {
                let survivor = disk.survivor(Crash::PowerCut { unsynced });
                marked += usize::from(survivor.content(Path::new("data/.kafka_cleanshutdown")).is_some());
                check(
                    &survivor,
                    &known,
                    &format!("power at {operation}, {tear:?}, kept {unsynced}"),
                );
            }
        }
    }
    assert!(marked > 0, "some cuts come after the marker");
}

#[test]
fn many_logs_close_with_one_sync_and_few_with_one_per_file() {
    let disk = whole();
    let dir = open(&disk);
    let log = |partition| {
        let (mut log, _) = open_log(&dir, partition, 1).unwrap();
        append(&mut log);
        log
    };
    let logs = (0..PARTITIONS).map(log).collect();
    let before = disk.syncs();
    let ends = close_together(&dir, logs).unwrap();
    assert!(ends.into_iter().all(|end| end.unwrap() == 1));
    assert_eq!(disk.syncs(), before + 1);

    let mut closing = log(PARTITIONS).begin_close().unwrap();
    dir.sync_together([closing.plan_mut()]);
    assert_eq!(
        disk.syncs(),
        before + 1,
        "other programs' files are not waited for"
    );
    closing.finish().unwrap();
    assert!(disk.syncs() > before + 1);
    let survivor = open(&disk.survivor(Crash::PowerCut { unsynced: 0 }));
    for partition in 0..=PARTITIONS {
        assert_eq!(
            open_log(&survivor, partition, 1).unwrap().0.end_offset(),
            Offset::new(1)
        );
    }
}

#[test]
fn a_file_that_the_system_could_not_store_is_found_out_behind_the_failed_sync_of_all() {
    let disk = whole();
    let dir = open(&disk);
    let logs = (0..PARTITIONS).map(|partition| {
        let (mut log, _) = open_log(&dir, partition, 1).unwrap();
        append(&mut log);
        log
    });
    let logs = logs.collect();
    disk.lose_writes(&log_path(1));
    let ends = close_together(&dir, logs).unwrap();
    let durable: Vec<bool> = ends.iter().map(Result::is_ok).collect();
    assert_eq!(durable, [true, false, true]);
    assert!(matches!(&ends[1], Err(StorageError::Io { path, .. }) if *path == log_path(1)));
}

#[test]
fn a_failed_sync_of_all_over_another_programs_file_costs_a_sync_per_file_and_nothing_else() {
    let disk = whole();
    let dir = open(&disk);
    let (mut log, _) = open_log(&dir, 0, 1).unwrap();
    append(&mut log);
    disk.fail_sync(disk.syncs() + 1);
    let ends = close_together(&dir, vec![log]).unwrap();
    assert!(ends.into_iter().all(|end| end.unwrap() == 1));
    let survivor = open(&disk.survivor(Crash::PowerCut { unsynced: 0 }));
    assert_eq!(open_log(&survivor, 0, 1).unwrap().0.end_offset(), Offset::new(1));
}
