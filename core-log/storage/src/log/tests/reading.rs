//! Semantics 43 to 47, and 53.

use super::*;

#[test]
fn semantic_44_an_offset_inside_a_batch_gives_the_whole_batch() {
    let bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    append(&mut log, &["a", "b", "c"]);
    append(&mut log, &["d"]);
    let got = records(read(&log, request(1, 4)));
    assert_eq!(
        got.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(),
        [0, 1, 2, 3]
    );
}

#[test]
fn nothing_at_or_above_the_upper_bound_is_given() {
    let bench = Bench::new(small());
    let mut log = bench.open();
    for value in ["a", "b", "c", "d"] {
        append(&mut log, &[value]);
    }
    assert_eq!(
        records(read(&log, request(1, 3))),
        [(1, "b".into()), (2, "c".into())]
    );
    assert!(
        read(&log, request(3, 3)).is_empty(),
        "at the high watermark: empty, no error"
    );
    assert!(
        read(&log, request(4, 10)).is_empty(),
        "at the log end: empty, no error"
    );
}

#[test]
fn semantic_43_one_batch_is_given_even_over_the_limit_but_only_when_asked() {
    let bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    let large = "x".repeat(10_000);
    append(&mut log, &["small"]);
    append(&mut log, &[&large]);
    append(&mut log, &["last"]);
    let limited = |at_least_one_batch| ReadRequest {
        max_bytes: 10,
        at_least_one_batch,
        ..request(1, 3)
    };
    assert_eq!(records(read(&log, limited(true))), [(1, large)]);
    assert!(read(&log, limited(false)).is_empty());
    let two = ReadRequest {
        max_bytes: 200,
        ..request(0, 3)
    };
    assert_eq!(
        records(read(&log, two)),
        [(0, "small".into())],
        "stops before the batch that is over"
    );
}

#[test]
fn semantic_47_offsets_outside_the_log_are_out_of_range() {
    let bench = Bench::new(LogConfig::default());
    let mut log = bench.open();
    append(&mut log, &["a", "b", "c"]);
    log.advance_start_offset(Offset::new(1)).unwrap();
    for offset in [0, 4] {
        let error = log.plan_read(request(offset, 3)).unwrap_err();
        assert!(
            matches!(error, ReadError::OffsetOutOfRange { start, end, .. } if start.get() == 1 && end.get() == 3),
            "{error}"
        );
    }
}

#[test]
fn every_offset_of_many_segments_is_found() {
    let bench = Bench::new(small());
    let mut log = bench.open();
    for i in 0..100 {
        append(&mut log, &[&format!("a{i}"), &format!("b{i}")]);
    }
    assert!(log.segment_count() > 5);
    for offset in 0..200 {
        let got = records(read(
            &log,
            ReadRequest {
                max_bytes: 1,
                ..request(offset, 200)
            },
        ));
        assert_eq!(got[(offset % 2) as usize].0, offset);
    }
    assert_eq!(read_all(&log).len(), 200);
}

#[test]
fn a_plan_made_before_later_appends_and_a_roll_still_reads_what_it_saw() {
    let bench = Bench::new(small());
    let mut log = bench.open();
    append(&mut log, &["a"]);
    let plan = log.plan_read(request(0, 1)).unwrap();
    for _ in 0..30 {
        append(&mut log, &["more"]);
    }
    assert_eq!(records(plan.execute().unwrap()), [(0, "a".into())]);
}

#[test]
fn a_damaged_index_costs_time_and_not_data() {
    let bench = Bench::new(small());
    let mut log = bench.open();
    for i in 0..60 {
        append(&mut log, &[&format!("{i}")]);
    }
    let index = bench.path("00000000000000000000.index");
    let mut bytes = std::fs::read(&index).unwrap();
    for byte in bytes.iter_mut().skip(7).step_by(8) {
        *byte ^= 0x15;
    }
    std::fs::write(&index, bytes).unwrap();
    assert_eq!(read_all(&log).len(), 60);
}

#[test]
fn semantic_53_times_are_found_to_the_record() {
    let bench = Bench::new(small());
    let mut log = bench.open();
    for i in 0..50 {
        // Three records a millisecond apart, batches ten apart.
        let at = NOW.get() + i * 10;
        log.append_as_leader(batch_at(at, &["a", "b", "c"]), EPOCH, NOW)
            .unwrap();
    }
    assert!(log.segment_count() > 3);
    let find = |at: i64| {
        log.offset_for_timestamp(Timestamp::new(NOW.get() + at))
            .unwrap()
            .map(|found| (found.offset.get(), found.timestamp.get() - NOW.get()))
    };
    assert_eq!(find(-5), Some((0, 0)));
    for batch in 0..50 {
        let at = batch * 10;
        assert_eq!(find(at), Some((batch * 3, at)));
        assert_eq!(find(at + 2), Some((batch * 3 + 2, at + 2)), "inside a batch");
    }
    assert_eq!(find(3), Some((3, 10)), "between batches: the next one");
    assert_eq!(find(493), None);
    let newest = log.offset_of_max_timestamp().unwrap().unwrap();
    assert_eq!((newest.offset.get(), newest.leader_epoch), (149, Some(EPOCH)));
}

#[test]
fn a_time_lookup_never_answers_below_the_log_start() {
    let bench = Bench::new(small());
    let mut log = bench.open();
    for i in 0..30 {
        log.append_as_leader(batch_at(NOW.get() + i, &["v"]), EPOCH, NOW)
            .unwrap();
    }
    log.advance_start_offset(Offset::new(17)).unwrap();
    let found = log.offset_for_timestamp(Timestamp::new(0)).unwrap().unwrap();
    assert_eq!(found.offset, Offset::new(17));
}
