//! Random histories: whatever is cleaned, cut off by a restart or read from anywhere, what the log says stays.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::testing::FakeDisk;

#[derive(Debug, Clone)]
enum Step {
    /// Who writes (0 is nobody), and keys with values; an even value is a tombstone.
    Append(u8, Vec<(u8, u8)>),
    End(u8, bool),
    Roll,
    Clean,
    Wait(u16),
    Restart(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        14 => (0_u8..5, prop::collection::vec((0_u8..6, any::<u8>()), 1..5)).prop_map(|(who, what)| Step::Append(who, what)),
        4 => (3_u8..5, any::<bool>()).prop_map(|(who, commit)| Step::End(who, commit)),
        2 => Just(Step::Roll),
        3 => Just(Step::Clean),
        1 => (0_u16..1500).prop_map(Step::Wait),
        1 => any::<bool>().prop_map(Step::Restart),
    ]
}

/// What was written at an offset, for readers of everything.
type History = BTreeMap<i64, String>;

fn text(key: u8, offset: i64) -> String {
    // Values of different lengths, so that segments and batches differ.
    format!("{key}-{offset}-{}", "x".repeat((offset % 40) as usize))
}

/// Every record in the log stands where it was written, in order, from wherever one starts.
fn check_readers(log: &PartitionLog, history: &History) -> Result<(), TestCaseError> {
    let all = contents(log);
    let offset = |line: &String| line.split(' ').next().unwrap().parse::<i64>().unwrap();
    for line in &all {
        prop_assert_eq!(history.get(&offset(line)), Some(line));
    }
    prop_assert!(all.iter().map(offset).is_sorted_by(|a, b| a < b));
    for from in 0..=log.end_offset().get() {
        let expected: Vec<String> = all.iter().filter(|line| offset(line) >= from).cloned().collect();
        prop_assert_eq!(contents_from(log, Offset::new(from)), expected, "from {}", from);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn cleaning_changes_nothing_that_a_reader_of_the_latest_values_sees(
        steps in prop::collection::vec(step(), 1..90),
        codec in 0_u8..5,
    ) {
        let compression = Compression::from_id(codec).unwrap();
        let mut bench = Bench::new(LogConfig { segment_bytes: 600, ..compacted() });
        bench.disk = FakeDisk::new().shared();
        let mut log = bench.open();
        let mut history = History::new();
        let mut sequences = [0; 5];
        let mut open = [false; 5];
        let mut now = NOW;
        for step in steps {
            match step {
                Step::Append(who, what) => {
                    let base = log.end_offset().get();
                    let mut options = match who {
                        0 => BatchOptions::default(),
                        1 | 2 => producer(i64::from(who), 0, sequences[usize::from(who)]),
                        _ => transactional(i64::from(who), sequences[usize::from(who)]),
                    };
                    options.compression = compression;
                    let entries: Vec<(String, Option<String>)> = (base..).zip(&what)
                        .map(|(offset, (key, value))| (format!("k{key}"), (value % 2 == 1).then(|| text(*key, offset))))
                        .collect();
                    let pairs: Vec<Pair<'_>> = entries.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
                    put_as(&mut log, &pairs, options);
                    for (offset, (key, value)) in (base..).zip(&entries) {
                        history.insert(offset, format!("{offset} {key}={}", value.as_deref().unwrap_or("-")));
                    }
                    sequences[usize::from(who)] += what.len() as i32;
                    open[usize::from(who)] |= who > 2;
                }
                Step::End(who, commit) => {
                    if std::mem::take(&mut open[usize::from(who)]) {
                        let result = if commit { TransactionResult::Commit } else { TransactionResult::Abort };
                        end_transaction(&mut log, i64::from(who), result);
                    }
                }
                Step::Roll => seal(&mut log),
                Step::Wait(ms) => now = now.advance_by_ms(i64::from(ms)),
                Step::Clean => {
                    log.flush().unwrap();
                    let (before, producers, end) = (fold(&log), log.producers.clone(), log.end_offset());
                    let stable = log.last_stable_offset(end);
                    log = clean(log, now).0;
                    prop_assert_eq!(fold(&log), before);
                    prop_assert_eq!(&log.producers, &producers);
                    prop_assert_eq!((log.end_offset(), log.last_stable_offset(end)), (end, stable));
                    check_readers(&log, &history)?;
                }
                Step::Restart(clean_shutdown) => {
                    let before = (fold(&log), contents(&log), log.end_offset());
                    let stable = log.last_stable_offset(log.end_offset());
                    let open_before: Vec<_> = (3..5).map(|id| log.open_transaction(ProducerId::new(id))).collect();
                    bench.recovery_point = log.flush().unwrap();
                    if clean_shutdown {
                        bench.recovery_point = log.close().unwrap();
                    } else {
                        drop(log);
                    }
                    log = bench.try_open(clean_shutdown).unwrap().0;
                    prop_assert_eq!((fold(&log), contents(&log), log.end_offset()), before);
                    prop_assert_eq!(log.last_stable_offset(log.end_offset()), stable);
                    let open_after: Vec<_> = (3..5).map(|id| log.open_transaction(ProducerId::new(id))).collect();
                    prop_assert_eq!(open_before, open_after);
                    // Every producer goes on where it was: the appends that follow would be refused otherwise.
                }
            }
        }
    }
}
