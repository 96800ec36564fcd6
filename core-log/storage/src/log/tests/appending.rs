//! Semantics 25 to 30 and 33 to 36.

use super::*;

fn refusal(log: &mut PartitionLog, batch: RecordBatch) -> AppendError {
    let before = log.end_offset();
    let error = log.append_as_leader(batch, EPOCH, NOW).unwrap_err();
    assert_eq!(log.end_offset(), before, "a refused batch changes nothing");
    error
}

#[test]
fn semantic_25_the_leader_gives_offsets_and_epoch_whether_or_not_it_owns_the_buffer() {
    let bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    let shared = batch(&["a", "b"]);
    let keep = shared.bytes().clone();
    for (batch, base) in [(batch(&["x"]), 0), (shared, 1)] {
        let info = log.append_as_leader(batch, LeaderEpoch::new(7), NOW).unwrap();
        assert_eq!(info.base_offset, Offset::new(base));
    }
    let all: Vec<_> = batches(read(&log, request(0, 3))).map(Result::unwrap).collect();
    assert_eq!(all[1].header().base_offset, Offset::new(1));
    assert!(
        all.iter()
            .all(|batch| batch.header().partition_leader_epoch == LeaderEpoch::new(7))
    );
    assert_eq!(
        keep[16..],
        all[1].bytes()[16..],
        "the rest is byte for byte what came"
    );
    assert_eq!(log.latest_epoch(), Some(LeaderEpoch::new(7)));
}

#[test]
fn semantic_25_hostile_40_a_flipped_bit_is_refused() {
    let bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    let mut bytes = batch(&["a"]).bytes().to_vec();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let (broken, _) = RecordBatch::parse(Bytes::from(bytes)).unwrap();
    assert!(matches!(
        refusal(&mut log, broken),
        AppendError::CorruptMessage(_)
    ));
}

#[test]
fn semantic_26_control_batches_of_clients_are_refused() {
    let bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    let control = BatchOptions {
        is_control: true,
        ..BatchOptions::default()
    };
    let error = refusal(&mut log, stamped(0, &["x"], control));
    assert!(
        matches!(error, AppendError::InvalidRecord(InvalidRecord::Refused(_))),
        "{error}"
    );
}

#[test]
fn semantic_27_sizes_over_the_limits_have_different_errors() {
    let config = LogConfig {
        max_message_bytes: 500,
        segment_bytes: 300,
        ..LogConfig::default()
    };
    let bench = Bench::new(config);
    let mut log = bench.open();
    let sized = |bytes: usize| batch(&[&"x".repeat(bytes)]);
    let overhead = sized(300).bytes().len() - 300;
    assert!(matches!(
        refusal(&mut log, sized(501 - overhead)),
        AppendError::MessageTooLarge { .. }
    ));
    assert!(matches!(
        refusal(&mut log, sized(301 - overhead)),
        AppendError::RecordListTooLarge { .. }
    ));
    log.append_as_leader(sized(300 - overhead), EPOCH, NOW).unwrap();
}

#[test]
fn semantic_29_timestamps_too_far_from_now_are_refused() {
    let config = LogConfig {
        timestamp_before_max_ms: 1000,
        timestamp_after_max_ms: 100,
        ..LogConfig::default()
    };
    let bench = Bench::new(config);
    let mut log = bench.open();
    for at in [-1001, 101] {
        let error = refusal(&mut log, batch_at(NOW.get() + at, &["x"]));
        assert!(matches!(error, AppendError::InvalidTimestamp { .. }), "{error}");
    }
    for at in [-1000, 100] {
        log.append_as_leader(batch_at(NOW.get() + at, &["x"]), EPOCH, NOW)
            .unwrap();
    }
}

#[test]
fn semantic_25_29_log_append_time_replaces_the_clients_time_and_keeps_the_checksum_right() {
    let config = LogConfig {
        timestamp_type: TimestampType::LogAppendTime,
        ..LogConfig::default()
    };
    let bench = Bench::new(config);
    let mut log = bench.open();
    let shared = batch_at(5, &["a"]);
    let _held = shared.bytes().clone();
    for batch in [batch_at(5, &["b"]), shared] {
        let info = log.append_as_leader(batch, EPOCH, NOW).unwrap();
        assert_eq!(info.log_append_time, Some(NOW));
    }
    for batch in batches(read(&log, request(0, 2))) {
        let batch = batch.unwrap();
        batch.verify_crc().unwrap();
        assert_eq!(batch.records(DecodeLimits::default()).unwrap()[0].timestamp, NOW);
    }
}

#[test]
fn semantic_30_a_topic_that_needs_keys_names_the_records_without() {
    let bench = Bench::new(LogConfig {
        require_keys: true,
        ..LogConfig::default()
    });
    let mut log = bench.open();
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(NOW, Some(b"k"), Some(b"v"), &[]);
    builder.append(NOW, None, Some(b"v"), &[]);
    let (keyless, _) = RecordBatch::parse(builder.build().unwrap()).unwrap();
    match refusal(&mut log, keyless) {
        AppendError::InvalidRecord(InvalidRecord::MissingKeys { indexes }) => assert_eq!(indexes, [1]),
        other => panic!("{other}"),
    }
    append(&mut log, &["with key"]);
}

#[test]
fn semantic_33_a_repeated_batch_gets_the_original_offsets_for_five_batches() {
    let bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    let send = |log: &mut PartitionLog, sequence| {
        log.append_as_leader(stamped(0, &["a", "b"], producer(9, 0, sequence)), EPOCH, NOW)
    };
    for i in 0..6 {
        send(&mut log, i * 2).unwrap();
    }
    for i in 1..6 {
        let info = send(&mut log, i * 2).unwrap();
        assert!(info.duplicate);
        assert_eq!(info.base_offset, Offset::new(i64::from(i) * 2));
    }
    assert!(
        matches!(
            send(&mut log, 0).unwrap_err(),
            AppendError::OutOfOrderSequence { .. }
        ),
        "the sixth last"
    );
    assert!(
        matches!(
            send(&mut log, 14).unwrap_err(),
            AppendError::OutOfOrderSequence { .. }
        ),
        "a gap"
    );
    assert_eq!(log.end_offset(), Offset::new(12));
}

#[test]
fn semantic_34_35_epochs_of_producers_only_grow_and_begin_at_sequence_zero() {
    let bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    let send = |log: &mut PartitionLog, epoch, sequence| {
        log.append_as_leader(stamped(0, &["a"], producer(9, epoch, sequence)), EPOCH, NOW)
    };
    send(&mut log, 1, 40).expect("an unknown producer may begin anywhere");
    assert!(matches!(
        send(&mut log, 2, 41).unwrap_err(),
        AppendError::OutOfOrderSequence { .. }
    ));
    send(&mut log, 2, 0).unwrap();
    assert!(matches!(
        send(&mut log, 1, 41).unwrap_err(),
        AppendError::InvalidProducerEpoch { .. }
    ));
}

#[test]
fn semantic_34_sequences_wrap_and_are_recognised_again() {
    let bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    let send = |log: &mut PartitionLog, sequence| {
        log.append_as_leader(stamped(0, &["a", "b", "c"], producer(9, 0, sequence)), EPOCH, NOW)
            .unwrap()
    };
    send(&mut log, i32::MAX - 1);
    assert!(send(&mut log, i32::MAX - 1).duplicate, "MAX-1, MAX, 0");
    assert!(!send(&mut log, 1).duplicate);
}

#[test]
fn an_older_leader_cannot_append() {
    let bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    log.assign_epoch(LeaderEpoch::new(3));
    let error = log
        .append_as_leader(batch(&["x"]), LeaderEpoch::new(2), NOW)
        .unwrap_err();
    assert!(matches!(error, AppendError::StaleLeaderEpoch { .. }));
}

#[test]
fn a_follower_takes_bytes_as_they_are_and_skips_what_it_has() {
    let bench = Bench::new(LogConfig::default());
    let mut leader = bench.open();
    append(&mut leader, &["a", "b"]);
    leader
        .append_as_leader(stamped(0, &["c"], producer(1, 0, 5)), LeaderEpoch::new(2), NOW)
        .unwrap();
    let bytes = read(&leader, request(0, 3));
    let other = Bench::new(LogConfig::default());
    let mut follower = other.open();
    for round in [false, true] {
        for batch in batches(bytes.clone()) {
            let info = follower.append_as_follower(batch.unwrap(), NOW).unwrap();
            assert_eq!(info.duplicate, round);
        }
    }
    assert_eq!(read(&follower, request(0, 3)), bytes);
    assert_eq!(follower.producers, leader.producers);
    assert_eq!(follower.latest_epoch(), Some(LeaderEpoch::new(2)));
}

#[test]
fn hostile_56_the_longest_idle_producers_give_way_when_there_are_too_many() {
    let bench = Bench::new(LogConfig {
        max_producer_ids: 100,
        ..LogConfig::default()
    });
    let mut log = bench.open();
    for id in 0..1000 {
        log.append_as_leader(stamped(id, &["a"], producer(id, 0, 0)), EPOCH, NOW)
            .unwrap();
    }
    assert!(log.producer_count() <= 100, "{}", log.producer_count());
    let error = log
        .append_as_leader(stamped(0, &["a"], producer(999, 0, 7)), EPOCH, NOW)
        .unwrap_err();
    assert!(
        matches!(error, AppendError::OutOfOrderSequence { .. }),
        "the newest is remembered"
    );
}
