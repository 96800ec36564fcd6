//! The log against a vector of batches.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Append(Vec<u16>),
    Truncate(u16),
    AdvanceStart(u16),
    Retention,
    Flush,
    Kill,
    Close,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => prop::collection::vec(0_u16..300, 1..5).prop_map(Step::Append),
        1 => any::<u16>().prop_map(Step::Truncate),
        1 => any::<u16>().prop_map(Step::AdvanceStart),
        1 => Just(Step::Retention),
        2 => Just(Step::Flush),
        1 => Just(Step::Kill),
        1 => Just(Step::Close),
    ]
}

/// One record in the model.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    batch_start: i64,
    batch_end: i64,
    timestamp: i64,
    value: String,
}

fn between(pick: u16, low: i64, high: i64) -> i64 {
    low + i64::from(pick) % (high - low + 1)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_does_what_a_vector_does(steps in prop::collection::vec(step(), 1..60)) {
        let mut bench = Bench::new(LogConfig { retention_bytes: Some(3000), retention_ms: None, ..small() });
        // In memory: this test syncs more than a shared disk can bear.
        bench.disk = crate::testing::FakeDisk::new().shared();
        let mut log = bench.open();
        let mut model: Vec<Entry> = Vec::new();
        let mut clock = NOW.get();
        for step in steps {
            match step {
                Step::Append(sizes) => {
                    let values: Vec<String> = sizes.iter().map(|size| "v".repeat(usize::from(*size))).collect();
                    if values.iter().map(String::len).sum::<usize>() > 800 {
                        continue;
                    }
                    let values: Vec<&str> = values.iter().map(String::as_str).collect();
                    let start = model.len() as i64;
                    let info = log.append_as_leader(batch_at(clock, &values), EPOCH, NOW).unwrap();
                    prop_assert_eq!(info.base_offset.get(), start);
                    for (i, value) in values.iter().enumerate() {
                        model.push(Entry {
                            batch_start: start,
                            batch_end: start + values.len() as i64 - 1,
                            timestamp: clock + i as i64,
                            value: (*value).to_owned(),
                        });
                    }
                    clock += 3;
                }
                Step::Truncate(pick) => {
                    let to = between(pick, log.start_offset().get(), log.end_offset().get());
                    let end = model.get(to as usize).map_or(to, |entry| entry.batch_start);
                    if end < log.start_offset().get() {
                        continue;
                    }
                    prop_assert_eq!(log.truncate_to(Offset::new(to)).unwrap().get(), end);
                    model.truncate(end as usize);
                    bench.recovery_point = bench.recovery_point.min(log.end_offset());
                }
                Step::AdvanceStart(pick) => {
                    let to = between(pick, log.start_offset().get(), log.end_offset().get());
                    log.advance_start_offset(Offset::new(to)).unwrap();
                }
                Step::Retention => {
                    log.apply_retention(NOW, log.end_offset()).unwrap();
                }
                Step::Flush => bench.recovery_point = log.flush().unwrap(),
                Step::Kill => {
                    bench.log_start = log.start_offset();
                    drop(log);
                    log = bench.try_open(false).unwrap().0;
                }
                Step::Close => {
                    bench.log_start = log.start_offset();
                    bench.recovery_point = log.close().unwrap();
                    log = bench.try_open(true).unwrap().0;
                }
            }
            prop_assert_eq!(log.end_offset().get(), model.len() as i64);
            prop_assert!(log.start_offset() <= log.end_offset());
            let start = log.start_offset().get();
            let expected: Vec<_> =
                model.iter().enumerate().skip(start as usize).map(|(at, entry)| (at as i64, entry.value.clone())).collect();
            prop_assert_eq!(read_all(&log), expected);
        }
        let start = log.start_offset().get();
        for at in [NOW.get(), (NOW.get() + clock) / 2, clock - 1, clock + 100] {
            let found = log.offset_for_timestamp(Timestamp::new(at)).unwrap();
            let expected = model.iter().enumerate().skip(start as usize).find(|(_, entry)| entry.timestamp >= at);
            prop_assert_eq!(found.map(|found| found.offset.get()), expected.map(|(offset, _)| offset as i64));
        }
        for offset in start..model.len() as i64 {
            let got = records(read(&log, ReadRequest { max_bytes: 1, ..request(offset, i64::MAX) }));
            prop_assert_eq!(got[0].0, model[offset as usize].batch_start);
            prop_assert_eq!(got.last().unwrap().0, model[offset as usize].batch_end);
        }
    }
}
