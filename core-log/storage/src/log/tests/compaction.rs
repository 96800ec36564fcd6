//! Compaction: what stays, what goes and when, and what readers, cuts and restarts see of it.

mod crash;
mod model;

use std::cell::{Cell, RefCell};

use highwater_types::record::control::TransactionResult;
use highwater_types::record::{BatchHeader, Compression};

use super::*;
use crate::cleaner::{
    CleanError, Cleaner, CleanerOptions, CleaningPace, CleaningReport, CleaningRequest, LogAccess,
};

/// A log, and what somebody else does to it between two turns of the cleaner.
struct Shared<'a> {
    log: RefCell<PartitionLog>,
    turns: Cell<usize>,
    disturb: &'a dyn Fn(usize, &mut PartitionLog),
}

impl LogAccess for Shared<'_> {
    fn with_log<T>(&self, use_log: impl FnOnce(&mut PartitionLog) -> T) -> Option<T> {
        self.turns.set(self.turns.get() + 1);
        let mut log = self.log.borrow_mut();
        (self.disturb)(self.turns.get(), &mut log);
        Some(use_log(&mut log))
    }
}

struct Free;

impl CleaningPace for Free {
    fn is_cancelled(&self) -> bool {
        false
    }
    fn moved(&mut self, _bytes: u64) {}
}

const OPTIONS: CleanerOptions = CleanerOptions {
    dedupe_buffer_bytes: 1 << 20,
    load_factor: 0.9,
    io_buffer_bytes: 512,
};

fn clean_as(
    log: PartitionLog,
    now: Timestamp,
    options: CleanerOptions,
    disturb: &dyn Fn(usize, &mut PartitionLog),
) -> (PartitionLog, Result<Option<CleaningReport>, CleanError>) {
    let shared = Shared {
        log: RefCell::new(log),
        turns: Cell::new(0),
        disturb,
    };
    let request = CleaningRequest {
        high_watermark: Offset::new(i64::MAX),
        now,
        reserve_bytes: 0,
    };
    let outcome = Cleaner::new(options).clean(&shared, request, &mut Free);
    (shared.log.into_inner(), outcome)
}

fn clean(log: PartitionLog, now: Timestamp) -> (PartitionLog, Option<CleaningReport>) {
    let (log, outcome) = clean_as(log, now, OPTIONS, &|_, _| {});
    (log, outcome.unwrap())
}

fn compacted() -> LogConfig {
    LogConfig {
        segment_bytes: 400,
        index_interval_bytes: 100,
        compact: true,
        require_keys: true,
        delete_by_retention: false,
        delete_retention_ms: 1_000,
        ..LogConfig::default()
    }
}

type Pair<'a> = (&'a str, Option<&'a str>);

fn pairs(entries: &[Pair<'_>], options: BatchOptions) -> RecordBatch {
    let mut builder = BatchBuilder::new(options);
    for (key, value) in entries {
        builder.append(NOW, Some(key.as_bytes()), value.map(str::as_bytes), &[]);
    }
    RecordBatch::parse(builder.build().unwrap()).unwrap().0
}

fn put(log: &mut PartitionLog, entries: &[Pair<'_>]) {
    put_as(log, entries, BatchOptions::default());
}

fn put_as(log: &mut PartitionLog, entries: &[Pair<'_>], options: BatchOptions) {
    log.append_as_leader(pairs(entries, options), EPOCH, NOW).unwrap();
}

/// Seals and syncs everything, so that all of it may be cleaned.
fn seal(log: &mut PartitionLog) {
    if log.end > log.active.base_offset {
        log.roll(log.end).unwrap();
    }
    log.flush().unwrap();
}

/// Headers of every batch in the log.
fn headers(log: &PartitionLog) -> Vec<BatchHeader> {
    let mut found = Vec::new();
    let mut from = log.start_offset();
    while from < log.end_offset() {
        let got = read(log, request(from.get(), i64::MAX));
        if got.is_empty() {
            break;
        }
        for batch in batches(got) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            from = batch.header().next_offset();
            found.push(*batch.header());
        }
    }
    found
}

/// `offset key=value` of every record that a reader starting at `from` gets.
fn contents_from(log: &PartitionLog, mut from: Offset) -> Vec<String> {
    let first = from;
    let mut found = Vec::new();
    while from < log.end_offset() {
        let got = read(
            log,
            ReadRequest {
                max_bytes: 1,
                ..request(from.get(), i64::MAX)
            },
        );
        if got.is_empty() {
            break;
        }
        for batch in batches(got) {
            let batch = batch.unwrap();
            from = batch.header().next_offset();
            if batch.header().is_control() {
                continue;
            }
            for record in batch.records(DecodeLimits::default()).unwrap() {
                let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
                let value = record.value.as_ref().map_or("-".to_owned(), text);
                if record.offset >= first {
                    found.push(format!(
                        "{} {}={value}",
                        record.offset,
                        text(&record.key.unwrap())
                    ));
                }
            }
        }
    }
    found
}

fn contents(log: &PartitionLog) -> Vec<String> {
    contents_from(log, log.start_offset())
}

fn end_transaction(log: &mut PartitionLog, id: i64, result: TransactionResult) {
    let order = EndTransaction {
        producer_id: ProducerId::new(id),
        producer_epoch: ProducerEpoch::new(0),
        coordinator_epoch: 0,
        result,
    };
    log.append_end_transaction(order, EPOCH, NOW).unwrap();
}

fn transactional(id: i64, sequence: i32) -> BatchOptions {
    BatchOptions {
        is_transactional: true,
        ..producer(id, 0, sequence)
    }
}

fn no_stray_files(bench: &Bench) {
    for entry in std::fs::read_dir(bench.dir.path().join("t-0")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.ends_with(".cleaned") && !name.ends_with(".swap"), "{name}");
    }
}

#[test]
fn semantic_70_compaction_keeps_offsets_and_the_last_offset_delta_of_a_batch_whose_last_records_vanish() {
    let bench = Bench::new(compacted());
    let mut log = bench.open();
    put(&mut log, &[("a", Some("1")), ("b", Some("1")), ("c", Some("1"))]);
    put(&mut log, &[("b", Some("2")), ("c", Some("2"))]);
    put_as(
        &mut log,
        &[("d", Some("1")), ("c", Some("3"))],
        BatchOptions {
            compression: Compression::Lz4,
            ..BatchOptions::default()
        },
    );
    seal(&mut log);
    put(&mut log, &[("a", Some("active"))]);
    let (log, report) = clean(log, NOW);
    let report = report.unwrap();
    assert_eq!(contents(&log), ["0 a=1", "3 b=2", "5 d=1", "6 c=3", "7 a=active"]);
    let spans: Vec<_> = headers(&log)
        .iter()
        .map(|header| (header.base_offset.get(), header.last_offset().get()))
        .collect();
    assert_eq!(spans, [(0, 2), (3, 4), (5, 6), (7, 7)]);
    assert_eq!(headers(&log)[2].compression(), Compression::Lz4);
    assert_eq!((report.from, report.upto), (Offset::ZERO, Offset::new(7)));
    assert_eq!(
        (report.keys, report.records_before, report.records_after),
        (4, 7, 4)
    );
    // A reader in the gap goes on with the next record that is there.
    for (from, first) in [
        (0, "0 a=1"),
        (1, "3 b=2"),
        (2, "3 b=2"),
        (4, "5 d=1"),
        (6, "6 c=3"),
    ] {
        assert_eq!(contents_from(&log, Offset::new(from))[0], first, "from {from}");
    }
    no_stray_files(&bench);
    let (_, again) = clean(log, NOW);
    assert_eq!(again, None, "nothing is dirty any more");
}

#[test]
fn semantic_70_an_emptied_batch_stays_while_it_holds_a_live_producers_last_sequence() {
    let mut bench = Bench::new(compacted());
    let mut log = bench.open();
    put_as(&mut log, &[("a", Some("1")), ("a", Some("2"))], producer(5, 0, 0));
    put_as(&mut log, &[("a", Some("3"))], producer(5, 0, 2));
    put(&mut log, &[("a", Some("4"))]);
    seal(&mut log);
    put(&mut log, &[("b", Some("1"))]);
    let (log, _) = clean(log, NOW);
    assert_eq!(contents(&log), ["3 a=4", "4 b=1"]);
    let kept: Vec<_> = headers(&log)
        .iter()
        .map(|header| (header.base_offset.get(), header.record_count))
        .collect();
    assert_eq!(
        kept,
        [(2, 0), (3, 1), (4, 1)],
        "the first batch is gone, the second is empty"
    );
    // From the batches alone, without any snapshot.
    bench.recovery_point = log.recovery_point();
    drop(log);
    for entry in std::fs::read_dir(bench.dir.path().join("t-0")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|kind| kind == "snapshot") {
            std::fs::remove_file(path).unwrap();
        }
    }
    let mut log = bench.open();
    let again = log
        .append_as_leader(pairs(&[("a", Some("3"))], producer(5, 0, 2)), EPOCH, NOW)
        .unwrap();
    assert!(again.duplicate && again.base_offset == Offset::new(2));
    put_as(&mut log, &[("a", Some("5"))], producer(5, 0, 3));
}

#[test]
fn semantic_71_a_tombstone_stays_for_delete_retention_after_it_was_first_cleaned() {
    let bench = Bench::new(compacted());
    let mut log = bench.open();
    put(&mut log, &[("a", Some("1")), ("b", Some("1"))]);
    put(&mut log, &[("a", None)]);
    seal(&mut log);
    // Long after it was written, the tombstone is new to the cleaner: its time begins now.
    let first = NOW.advance_by_ms(50_000);
    let (log, report) = clean(log, first);
    assert_eq!(contents(&log), ["1 b=1", "2 a=-"]);
    let horizon = first.advance_by_ms(1_000);
    assert_eq!(report.unwrap().next_horizon, Some(horizon));
    assert_eq!(headers(&log)[1].delete_horizon(), Some(horizon));
    assert!(
        !log.cleanable(horizon.advance_by_ms(-1), log.end_offset())
            .unwrap()
            .is_due
    );
    let (log, early) = clean(log, horizon.advance_by_ms(-1));
    assert_eq!(early, None);
    // Its time alone makes the log due, without a single new record.
    assert!(log.cleanable(horizon, log.end_offset()).unwrap().is_due);
    let (log, report) = clean(log, horizon);
    assert_eq!(contents(&log), ["1 b=1"]);
    assert_eq!(report.unwrap().tombstones_removed, 1);
    let last = *headers(&log).last().unwrap();
    assert_eq!(
        (last.next_offset(), last.record_count),
        (log.end_offset(), 0),
        "readers reach the end"
    );
    assert!(
        !log.cleanable(horizon.advance_by_ms(9_999), log.end_offset())
            .unwrap()
            .is_due
    );
}

#[test]
fn semantic_71_the_active_segment_and_young_records_are_not_compacted_and_old_ones_must_be() {
    let mut bench = Bench::new(LogConfig {
        min_compaction_lag_ms: 100,
        ..compacted()
    });
    bench.config.min_cleanable_dirty_ppm = 1_000_000;
    let mut log = bench.open();
    put(&mut log, &[("a", Some("1")), ("a", Some("2"))]);
    let later = NOW.advance_by_ms(99);
    assert_eq!(
        log.cleanable(later, log.end_offset()).unwrap().dirty_bytes,
        0,
        "active"
    );
    seal(&mut log);
    assert_eq!(
        log.cleanable(later, log.end_offset()).unwrap().dirty_bytes,
        0,
        "young"
    );
    let later = NOW.advance_by_ms(100);
    let cleanable = log.cleanable(later, log.end_offset()).unwrap();
    assert!(cleanable.dirty_bytes > 0 && cleanable.dirty_ratio() == 1.0);
    assert!(!cleanable.is_due, "not dirtier than all of it");
    log.set_config(Arc::new(LogConfig {
        max_compaction_lag_ms: 1_000,
        ..bench.config.clone()
    }));
    assert!(
        !log.cleanable(NOW.advance_by_ms(1_000), log.end_offset())
            .unwrap()
            .is_due
    );
    assert!(
        log.cleanable(NOW.advance_by_ms(1_001), log.end_offset())
            .unwrap()
            .is_due
    );
    // An idle log seals its last segment when its records have waited too long.
    put(&mut log, &[("a", Some("3"))]);
    let end = log.end_offset();
    assert!(!log.roll_for_compaction(NOW.advance_by_ms(1_000), end).unwrap());
    assert!(log.roll_for_compaction(NOW.advance_by_ms(1_001), end).unwrap());
    assert_eq!(log.active_segment_base(), end);
}

#[test]
fn what_is_not_durable_or_not_decided_is_not_cleaned() {
    let bench = Bench::new(compacted());
    let mut log = bench.open();
    put(&mut log, &[("a", Some("1")), ("a", Some("2"))]);
    log.roll(log.end).unwrap();
    assert_eq!(log.cleanable(NOW, log.end).unwrap().dirty_bytes, 0, "not synced");
    log.flush().unwrap();
    assert!(log.cleanable(NOW, log.end).unwrap().dirty_bytes > 0);
    assert_eq!(
        log.cleanable(NOW, Offset::new(1)).unwrap().dirty_bytes,
        0,
        "above the high watermark"
    );
    put_as(&mut log, &[("a", Some("3"))], transactional(1, 0));
    seal(&mut log);
    assert_eq!(
        log.cleanable(NOW, log.end).unwrap().upto,
        Offset::new(2),
        "open transaction"
    );
    end_transaction(&mut log, 1, TransactionResult::Commit);
    seal(&mut log);
    assert_eq!(log.cleanable(NOW, log.end).unwrap().upto, log.end);
}

#[test]
fn aborted_data_goes_first_its_marker_when_the_horizon_has_passed_and_committed_data_counts() {
    let mut bench = Bench::new(compacted());
    let mut log = bench.open();
    put(&mut log, &[("a", Some("old")), ("b", Some("old"))]);
    put_as(&mut log, &[("a", Some("aborted"))], transactional(1, 0));
    put_as(&mut log, &[("b", Some("committed"))], transactional(2, 0));
    end_transaction(&mut log, 1, TransactionResult::Abort);
    end_transaction(&mut log, 2, TransactionResult::Commit);
    // Both producers go on, so neither needs its old batches for its sequence.
    put_as(&mut log, &[("c", Some("1"))], transactional(1, 1));
    put_as(&mut log, &[("c", Some("2"))], transactional(2, 1));
    end_transaction(&mut log, 1, TransactionResult::Commit);
    end_transaction(&mut log, 2, TransactionResult::Commit);
    seal(&mut log);
    let markers = |log: &PartitionLog| headers(log).iter().filter(|header| header.is_control()).count();
    let (log, _) = clean(log, NOW);
    assert_eq!(contents(&log), ["0 a=old", "3 b=committed", "7 c=2"]);
    assert_eq!(
        markers(&log),
        4,
        "a marker outlives its data by a cleaning and the horizon"
    );
    assert_eq!(log.aborted_transactions(Offset::ZERO, log.end).unwrap().len(), 1);
    let dirty = |mut log: PartitionLog, value| {
        put(&mut log, &[("d", Some(value))]);
        seal(&mut log);
        log
    };
    let (log, _) = clean(dirty(log, "1"), NOW);
    assert!(
        log.aborted_transactions(Offset::ZERO, log.end)
            .unwrap()
            .is_empty()
    );
    assert_eq!(markers(&log), 4);
    let (log, _) = clean(dirty(log, "2"), NOW.advance_by_ms(1_000));
    assert_eq!(
        markers(&log),
        3,
        "only the marker of the aborted transaction was without data"
    );
    // Reading the whole log anew finds no transaction open.
    bench.recovery_point = Offset::ZERO;
    drop(log);
    let log = bench.open();
    assert_eq!(log.last_stable_offset(log.end), log.end);
    assert_eq!(contents(&log), ["0 a=old", "3 b=committed", "7 c=2", "11 d=2"]);
}

#[test]
fn small_segments_are_merged_up_to_the_segment_size_and_survive_a_restart() {
    let mut bench = Bench::new(compacted());
    let mut log = bench.open();
    for value in 0..60 {
        let key = format!("k{}", value % 7);
        put(&mut log, &[(&key, Some(&value.to_string()))]);
    }
    seal(&mut log);
    let before = log.segment_count();
    let (log, report) = clean(log, NOW);
    let report = report.unwrap();
    assert!(before > 8 && log.segment_count() < before);
    assert!(log.sealed.iter().all(|segment| segment.size_bytes <= 400));
    assert_eq!(report.segments_after + 1, log.segment_count());
    assert_eq!(report.bytes_after + log.active.size_bytes, log.size_bytes());
    let expected: Vec<String> = (53..60)
        .map(|value| format!("{value} k{}={value}", value % 7))
        .collect();
    assert_eq!(contents(&log), expected);
    for from in 0..60 {
        let left = contents_from(&log, Offset::new(from));
        assert_eq!(left.len() as i64, (60 - from).min(7), "from {from}");
    }
    for clean_shutdown in [true, false] {
        bench.recovery_point = Offset::ZERO;
        let log = bench.try_open(clean_shutdown).unwrap().0;
        assert_eq!(contents(&log), expected);
        assert_eq!(
            (log.start_offset(), log.end_offset()),
            (Offset::ZERO, Offset::new(60))
        );
    }
}

#[test]
fn a_read_planned_before_an_exchange_sees_the_old_segments_whole() {
    let bench = Bench::new(compacted());
    let mut log = bench.open();
    // Too long for two of them to fit into one segment.
    let long = "x".repeat(250);
    put(&mut log, &[("a", Some(&long))]);
    put(&mut log, &[("b", Some("1"))]);
    seal(&mut log);
    put(&mut log, &[("b", Some("2"))]);
    put(&mut log, &[("c", Some("1"))]);
    seal(&mut log);
    let (mut log, _) = clean(log, NOW);
    assert_eq!(log.segment_count(), 3);
    // Offset 1 is a gap at the end of the first segment: the second is opened only when the plan is executed.
    let plans: Vec<_> = (0..2)
        .map(|from| log.plan_read(request(from, i64::MAX)).unwrap())
        .collect();
    put(&mut log, &[("a", Some("3")), ("b", Some("3")), ("c", Some("3"))]);
    seal(&mut log);
    let (log, _) = clean(log, NOW);
    assert_eq!(contents(&log), ["4 a=3", "5 b=3", "6 c=3"]);
    let seen = plans.iter().map(|plan| records(plan.execute().unwrap())[0].0);
    assert_eq!(seen.collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn a_dirty_section_with_more_keys_than_memory_is_cleaned_in_several_rounds() {
    let bench = Bench::new(LogConfig {
        segment_bytes: 4_000,
        ..compacted()
    });
    let mut log = bench.open();
    let keys: Vec<String> = (0..3_000).map(|key| format!("key-{key}")).collect();
    for round in ["1", "2"] {
        for some in keys.chunks(50) {
            let entries: Vec<_> = some.iter().map(|key| (key.as_str(), Some(round))).collect();
            put(&mut log, &entries);
        }
    }
    seal(&mut log);
    let few = CleanerOptions {
        dedupe_buffer_bytes: 0,
        ..OPTIONS
    };
    let mut rounds = 0;
    loop {
        let (next, outcome) = clean_as(log, NOW, few, &|_, _| {});
        log = next;
        let Some(report) = outcome.unwrap() else { break };
        assert_eq!(log.cleaned_upto(), Some(report.upto));
        rounds += 1;
    }
    assert!(rounds > 3, "{rounds}");
    let expected: Vec<String> = (0..3_000)
        .map(|key| format!("{} key-{key}=2", 3_000 + key))
        .collect();
    assert_eq!(contents(&log), expected);
}

#[test]
fn a_cut_or_retention_in_the_middle_of_a_cleaning_wins() {
    let cut = |log: &mut PartitionLog| {
        log.truncate_to(Offset::new(2)).unwrap();
        // The cut segment is written on and sealed again: the same file, with another content.
        put(log, &[("x", Some("1"))]);
        seal(log);
    };
    let delete = |log: &mut PartitionLog| {
        log.advance_start_offset(Offset::new(18)).unwrap();
        log.apply_retention(NOW, log.end_offset()).unwrap();
    };
    type Way<'a> = (&'a dyn Fn(&mut PartitionLog), &'a [&'a str]);
    let ways: [Way<'_>; 2] = [
        (&cut, &["0 a=0", "1 a=1", "2 x=1"]),
        (&delete, &["18 a=18", "19 a=19"]),
    ];
    for (disturb, expected) in ways {
        // Before the swap is announced, before it is carried out, and before the cleaning is noted.
        for turn in 2..=4 {
            let mut bench = Bench::new(compacted());
            let mut log = bench.open();
            for value in 0..20 {
                put(&mut log, &[("a", Some(&value.to_string()))]);
            }
            seal(&mut log);
            let (log, outcome) = clean_as(log, NOW, OPTIONS, &|now, log| {
                if now == turn {
                    disturb(log);
                    // Were the power cut here, the next open would put a decided segment in place.
                    let decided = log.dir().join("00000000000000000000.log.swap");
                    assert!(!decided.try_exists().unwrap(), "turn {turn}");
                }
            });
            let seen = contents(&log);
            if turn < 4 {
                assert!(
                    matches!(outcome, Err(CleanError::Overtaken)),
                    "turn {turn}: {outcome:?}"
                );
                assert_eq!(seen, expected, "turn {turn}");
            }
            let is_noted = turn == 4 && log.end_offset() == Offset::new(20);
            assert_eq!(log.cleaned_upto().is_some(), is_noted, "turn {turn}");
            no_stray_files(&bench);
            bench.log_start = log.start_offset();
            bench.recovery_point = Offset::ZERO;
            drop(log);
            assert_eq!(contents(&bench.open()), seen, "turn {turn}: nothing comes back");
        }
    }
}

#[test]
fn a_damaged_batch_stops_the_cleaning_and_loses_nothing() {
    let bench = Bench::new(compacted());
    let mut log = bench.open();
    for value in ["1", "2", "3"] {
        put(&mut log, &[("a", Some(value))]);
    }
    seal(&mut log);
    let path = bench.path("00000000000000000000.log");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (log, outcome) = clean_as(log, NOW, OPTIONS, &|_, _| {});
    let error = outcome.unwrap_err();
    assert!(!error.is_transient(), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert!(log.fence_reason().is_none(), "the log goes on");
    no_stray_files(&bench);
}

#[test]
fn records_without_key_go_and_batches_nobody_can_read_stay() {
    let bench = Bench::new(LogConfig {
        require_keys: false,
        ..compacted()
    });
    let mut log = bench.open();
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(NOW, None, Some(b"no key"), &[]);
    builder.append(NOW, Some(b"a"), Some(b"1"), &[]);
    log.append_as_leader(
        RecordBatch::parse(builder.build().unwrap()).unwrap().0,
        EPOCH,
        NOW,
    )
    .unwrap();
    // A body that is no lz4 stream, under a right checksum.
    let mut bytes = pairs(&[("a", Some("2"))], BatchOptions::default())
        .into_bytes()
        .to_vec();
    bytes[22] |= Compression::Lz4.id();
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    log.append_as_leader(RecordBatch::parse(Bytes::from(bytes)).unwrap().0, EPOCH, NOW)
        .unwrap();
    put(&mut log, &[("b", Some("1"))]);
    seal(&mut log);
    let (log, report) = clean(log, NOW);
    let report = report.unwrap();
    assert_eq!((report.records_without_key, report.undecodable_batches), (1, 1));
    let counts: Vec<_> = headers(&log).iter().map(|header| header.record_count).collect();
    assert_eq!(counts, [1, 1, 1]);
}

/// What a reader of committed data makes of the log: the latest value of every key that has one.
fn fold(log: &PartitionLog) -> std::collections::BTreeMap<String, String> {
    let stable = log.last_stable_offset(log.end_offset());
    let aborted = log
        .aborted_transactions(log.start_offset(), log.end_offset())
        .unwrap();
    let mut state = std::collections::BTreeMap::new();
    let mut from = log.start_offset();
    while from < stable {
        let got = read(log, request(from.get(), stable.get()));
        assert!(!got.is_empty(), "nothing at {from} below {stable}");
        for batch in batches(got) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            let header = batch.header();
            from = header.next_offset();
            let is_void = aborted.iter().any(|entry| {
                header.is_transactional()
                    && Some(entry.producer_id) == header.producer_id
                    && (entry.first_offset..=entry.last_offset).contains(&header.base_offset)
            });
            if header.is_control() || is_void {
                continue;
            }
            for record in batch.records(DecodeLimits::default()).unwrap() {
                let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
                let key = text(record.key.unwrap());
                match record.value {
                    Some(value) => state.insert(key, text(value)),
                    None => state.remove(&key),
                };
            }
        }
    }
    state
}
