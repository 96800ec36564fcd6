//! Semantics 39, 40, and section 3.4.

use highwater_types::record::control::TransactionResult;

use super::*;
use crate::txn_index::AbortedTransaction;

pub(super) fn send(log: &mut PartitionLog, id: i64, sequence: i32) -> Offset {
    let options = BatchOptions {
        is_transactional: true,
        ..producer(id, 0, sequence)
    };
    log.append_as_leader(stamped(NOW.get(), &["x"], options), EPOCH, NOW)
        .unwrap()
        .base_offset
}

pub(super) fn end(log: &mut PartitionLog, id: i64, result: TransactionResult) -> Offset {
    let order = EndTransaction {
        producer_id: ProducerId::new(id),
        producer_epoch: ProducerEpoch::new(0),
        coordinator_epoch: 1,
        result,
    };
    log.append_end_transaction(order, EPOCH, NOW).unwrap().base_offset
}

fn aborted(log: &PartitionLog, from: i64, upto: i64) -> Vec<(i64, i64)> {
    let found = log
        .aborted_transactions(Offset::new(from), Offset::new(upto))
        .unwrap();
    found
        .iter()
        .map(|entry| (entry.producer_id.get(), entry.first_offset.get()))
        .collect()
}

/// Offsets: 0 producer 1, 1 producer 2, 2 plain, 3 abort of 1, 4 producer 1 again, 5 commit of 2, 6 abort of 1.
fn interleaved(log: &mut PartitionLog) {
    send(log, 1, 0);
    send(log, 2, 0);
    append(log, &["plain"]);
    end(log, 1, TransactionResult::Abort);
    send(log, 1, 1);
    end(log, 2, TransactionResult::Commit);
    end(log, 1, TransactionResult::Abort);
}

#[test]
fn semantic_40_the_stable_offset_follows_the_oldest_open_transaction() {
    let bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    let stable = |log: &PartitionLog| log.last_stable_offset(log.end_offset()).get();
    append(&mut log, &["plain"]);
    assert_eq!(stable(&log), 1);
    send(&mut log, 1, 0);
    send(&mut log, 2, 0);
    append(&mut log, &["plain"]);
    assert_eq!(stable(&log), 1);
    end(&mut log, 1, TransactionResult::Commit);
    assert_eq!(stable(&log), 2);
    end(&mut log, 2, TransactionResult::Abort);
    assert_eq!(stable(&log), 6);
    assert_eq!(
        log.last_stable_offset(Offset::new(5)).get(),
        2,
        "the marker at 5 is not replicated"
    );
    log.high_watermark_advanced(Offset::new(6));
    assert_eq!(stable(&log), 6);
}

#[test]
fn semantic_40_readers_of_committed_data_learn_of_aborts_that_overlap() {
    let bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    interleaved(&mut log);
    assert_eq!(aborted(&log, 0, 7), [(1, 0), (1, 4)]);
    assert_eq!(aborted(&log, 0, 4), [(1, 0)], "the second begins at the bound");
    assert_eq!(aborted(&log, 4, 7), [(1, 4)], "the first ended below");
    assert_eq!(aborted(&log, 3, 7), [(1, 0), (1, 4)], "its marker is in range");
}

#[test]
fn aborts_are_known_again_after_a_kill_and_after_a_lost_index() {
    let bench = Bench::new(LogConfig {
        segment_bytes: 300,
        ..LogConfig::default()
    });
    let mut log = bench.open();
    interleaved(&mut log);
    send(&mut log, 7, 0);
    let before = log.producers.clone();
    assert!(log.segment_count() > 1);
    drop(log);
    for base in [0, 3, 6] {
        let _ = std::fs::write(bench.path(&format!("{base:020}.txnindex")), [1, 2, 3]);
    }
    let log = bench.open();
    assert_eq!(aborted(&log, 0, 8), [(1, 0), (1, 4)]);
    assert_eq!(log.producers, before);
    assert_eq!(log.last_stable_offset(log.end_offset()).get(), 7);
}

#[test]
fn markers_of_replaced_coordinators_and_producers_are_refused() {
    let bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    send(&mut log, 1, 0);
    let order = |producer_epoch, coordinator_epoch| EndTransaction {
        producer_id: ProducerId::new(1),
        producer_epoch: ProducerEpoch::new(producer_epoch),
        coordinator_epoch,
        result: TransactionResult::Abort,
    };
    log.append_end_transaction(order(3, 5), EPOCH, NOW).unwrap();
    let error = log.append_end_transaction(order(3, 4), EPOCH, NOW).unwrap_err();
    assert!(
        matches!(error, AppendError::CoordinatorFenced { current: 5, found: 4 }),
        "{error}"
    );
    let error = log.append_end_transaction(order(2, 5), EPOCH, NOW).unwrap_err();
    assert!(
        matches!(error, AppendError::InvalidProducerEpoch { .. }),
        "{error}"
    );
    let zombie = BatchOptions {
        is_transactional: true,
        ..producer(1, 0, 1)
    };
    let error = log
        .append_as_leader(stamped(0, &["x"], zombie), EPOCH, NOW)
        .unwrap_err();
    assert!(
        matches!(error, AppendError::InvalidProducerEpoch { .. }),
        "{error}"
    );
}

#[test]
fn a_plain_batch_inside_a_transaction_is_refused() {
    let bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    send(&mut log, 1, 0);
    let plain = stamped(0, &["x"], producer(1, 0, 1));
    let error = log.append_as_leader(plain, EPOCH, NOW).unwrap_err();
    assert!(matches!(error, AppendError::InvalidTxnState { .. }), "{error}");
}

#[test]
fn a_cut_reopens_the_transaction_whose_marker_is_gone() {
    let bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    interleaved(&mut log);
    log.truncate_to(Offset::new(5)).unwrap();
    assert_eq!(log.open_transaction(ProducerId::new(2)), Some(Offset::new(1)));
    assert_eq!(log.open_transaction(ProducerId::new(1)), Some(Offset::new(4)));
    assert_eq!(aborted(&log, 0, 5), [(1, 0)]);
}

#[test]
fn an_entry_carries_the_stable_offset_at_its_marker() {
    let bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    interleaved(&mut log);
    let found = log.aborted_transactions(Offset::ZERO, Offset::new(7)).unwrap();
    let expected = AbortedTransaction {
        producer_id: ProducerId::new(1),
        first_offset: Offset::new(0),
        last_offset: Offset::new(3),
        last_stable_offset: Offset::new(1),
    };
    assert_eq!(found[0], expected);
    assert_eq!(found[1].last_stable_offset, Offset::new(7));
}
