//! What producers wrote, written down within the segment being written: what a kill leaves to be read for their sake.

use highwater_types::record::control::TransactionResult::{Abort, Commit};

use super::transactions::{end, send};
use super::*;

/// Every flush writes producers down.
fn config() -> LogConfig {
    LogConfig {
        producer_snapshot_bytes: 1,
        index_interval_bytes: 100,
        ..LogConfig::default()
    }
}

/// Offsets of the producer snapshots there are.
fn snapshots(bench: &Bench) -> Vec<i64> {
    let mut offsets: Vec<i64> = std::fs::read_dir(bench.path(""))
        .unwrap()
        .filter_map(|entry| {
            let name = entry.unwrap().file_name();
            name.to_str()?.strip_suffix(".snapshot")?.parse().ok()
        })
        .collect();
    offsets.sort_unstable();
    offsets
}

/// Everything that is derived from the batches and decides about requests.
fn derived(
    log: &PartitionLog,
) -> (
    crate::producer_state::ProducerState,
    Vec<AbortedTransaction>,
    Offset,
) {
    let aborted = log.aborted_transactions(Offset::ZERO, log.end_offset()).unwrap();
    let stable = log.last_stable_offset(log.end_offset());
    (log.producers.clone(), aborted, stable)
}

/// A log with aborted transactions on both sides of its recovery point, 7, and one open across it.
fn across_the_recovery_point(bench: &mut Bench) -> PartitionLog {
    let mut log = bench.open();
    send(&mut log, 1, 0);
    send(&mut log, 2, 0);
    end(&mut log, 1, Abort);
    bench.recovery_point = log.flush().unwrap();
    send(&mut log, 1, 1);
    end(&mut log, 2, Abort);
    send(&mut log, 3, 0);
    send(&mut log, 3, 1);
    bench.recovery_point = log.flush().unwrap();
    end(&mut log, 1, Abort);
    send(&mut log, 2, 1);
    end(&mut log, 2, Commit);
    log
}

#[test]
fn a_kill_leaves_only_what_came_after_the_recovery_point_to_be_replayed() {
    let mut bench = Bench::new(config());
    let mut log = across_the_recovery_point(&mut bench);
    let known = derived(&log);
    assert_eq!(known.1.len(), 3);
    // Beyond the recovery point that is known after the kill.
    log.flush().unwrap();
    drop(log);
    assert_eq!(snapshots(&bench), [3, 7, 10]);

    for _ in 0..2 {
        let (log, report) = bench.try_open(false).unwrap();
        assert_eq!(report.producer_batches_replayed, 3);
        assert_eq!(derived(&log), known);
        assert_eq!(
            snapshots(&bench),
            [7],
            "the one in use stays, what is above is not trusted"
        );
    }
}

#[test]
fn the_first_flush_after_a_kill_writes_producers_down_again() {
    let mut bench = Bench::new(config());
    let known = derived(&across_the_recovery_point(&mut bench));
    let mut log = bench.open();
    bench.recovery_point = log.flush().unwrap();
    drop(log);
    assert_eq!(snapshots(&bench), [7, 10]);
    let (log, report) = bench.try_open(false).unwrap();
    assert_eq!(report.producer_batches_replayed, 0);
    assert_eq!(derived(&log), known);
}

#[test]
fn a_damaged_snapshot_or_transaction_index_costs_a_longer_replay_and_nothing_else() {
    for (name, replayed) in [
        ("00000000000000000007.snapshot", 7),
        ("00000000000000000007.batches", 7),
        ("00000000000000000000.txnindex", 10),
    ] {
        for at in [0, 12, 21] {
            let mut bench = Bench::new(config());
            let known = derived(&across_the_recovery_point(&mut bench));
            let path = bench.path(name);
            let mut bytes = std::fs::read(&path).unwrap();
            let at = at.min(bytes.len() - 1);
            bytes[at] ^= 0x55;
            std::fs::write(&path, bytes).unwrap();
            let (log, report) = bench.try_open(false).unwrap();
            assert_eq!(derived(&log), known, "{name} at {at}");
            assert!(
                report.producer_batches_replayed <= replayed,
                "{name} at {at}: {report:?}"
            );
        }
    }
}

#[test]
fn a_torn_end_of_the_transaction_index_is_written_anew() {
    for garbage in [&[0u8; 20][..], &[0; 34], &[0xff; 50]] {
        let mut bench = Bench::new(config());
        let known = derived(&across_the_recovery_point(&mut bench));
        let path = bench.path("00000000000000000000.txnindex");
        let mut bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 3 * 34);
        bytes.truncate(2 * 34);
        bytes.extend(garbage);
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(derived(&bench.open()), known, "{garbage:?}");
    }
}

#[test]
fn a_new_segment_leaves_the_snapshots_at_borders() {
    let bench = Bench::new(LogConfig {
        segment_bytes: 400,
        ..config()
    });
    let mut log = bench.open();
    for i in 0..12 {
        log.append_as_leader(stamped(NOW.get(), &["x"], producer(1, 0, i)), EPOCH, NOW)
            .unwrap();
        log.flush().unwrap();
    }
    let borders: Vec<i64> = log
        .sealed
        .iter()
        .map(|segment| segment.base_offset.get())
        .collect();
    assert!(borders.len() > 1);
    let active = log.active_segment_base().get();
    let kept = snapshots(&bench);
    let below: Vec<i64> = kept.iter().copied().filter(|offset| *offset <= active).collect();
    assert_eq!(below, [&borders[1..], &[active]].concat());
    assert!(kept.len() > below.len(), "those within the active segment");
}

#[test]
fn snapshots_are_as_rare_as_told_and_rarer_with_a_crowd() {
    let bench = Bench::new(LogConfig {
        producer_snapshot_bytes: 400,
        ..LogConfig::default()
    });
    let mut log = bench.open();
    let mut at = 0;
    let mut write = |log: &mut PartitionLog, batches: i32| {
        for _ in 0..batches {
            let batch = stamped(NOW.get(), &["x"], producer(1, 0, at));
            log.append_as_leader(batch, EPOCH, NOW).unwrap();
            log.flush().unwrap();
            at += 1;
        }
    };
    write(&mut log, 20);
    let sparse = snapshots(&bench).len();
    assert!((2..=5).contains(&sparse), "{sparse}");
    for id in 2..2 + 4096 * 5 {
        let batch = stamped(NOW.get(), &["x"], producer(id, 0, 0));
        log.append_as_leader(batch, EPOCH, NOW).unwrap();
    }
    log.flush().unwrap();
    let before = snapshots(&bench).len();
    write(&mut log, 20);
    assert_eq!(snapshots(&bench).len(), before, "six times as rare");
}
