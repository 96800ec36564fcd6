//! Tasks against changelogs that crashes have cut short, and inputs that must be merged by time.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use bytes::Bytes;
use highwater_types::{Offset, PartitionId, Timestamp, TopicName, record::Record};
use proptest::prelude::*;

use super::{CommitOutput, Task, TaskId};
use crate::{
    Consumed, Materialized, Produced, StreamsBuilder, Topology,
    serdes::{i64 as int, string},
    store::MemoryStore,
};

const NOW: Timestamp = Timestamp::new(1_000);

fn topic(name: &str) -> TopicName {
    TopicName::new(name).expect("legal")
}

/// Two stores over one input: a count, and a sum that skips odd numbers, so that commits touch them unevenly.
fn two_stores() -> Topology {
    let builder = StreamsBuilder::new();
    let input = builder.stream("in", Consumed::with(string(), int()));
    input.group_by_key().count(Materialized::as_store("count"));
    let even = input.filter(|_, number| number % 2 == 0).group_by_key();
    even.reduce(|sum, number| *sum += number, Materialized::as_store("sum"));
    builder.build("app").expect("a sound topology")
}

/// The log as a crash leaves it.
#[derive(Default)]
struct Log {
    changelogs: BTreeMap<String, Vec<Record>>,
}

impl Log {
    /// Appends the first `limit` records of a commit, store by store; all of them is an acknowledged commit.
    fn append(&mut self, commit: &CommitOutput, limit: usize) -> BTreeMap<String, Offset> {
        let mut left = limit;
        let mut ends = BTreeMap::new();
        for batch in &commit.changelogs {
            let log = self.changelogs.entry(batch.store.clone()).or_default();
            for record in batch.records.iter().take(left) {
                let offset = log.last().map_or(Offset::ZERO, |record| record.offset.next());
                log.push(Record {
                    offset,
                    timestamp: record.timestamp,
                    key: Some(record.key.clone()),
                    value: record.value.clone(),
                    headers: record.headers.clone(),
                });
            }
            left = left.saturating_sub(batch.records.len());
            let end = log.last().map_or(Offset::ZERO, |record| record.offset.next());
            ends.insert(batch.store.clone(), end);
        }
        ends
    }

    /// Keeps the newest record of each key, as compaction may at any time below the last segment.
    fn compact(&mut self, keep_last: usize) {
        for log in self.changelogs.values_mut() {
            let closed = log.len().saturating_sub(keep_last);
            let mut newest = BTreeMap::new();
            for record in &log[..closed] {
                newest.insert(record.key.clone(), record.offset);
            }
            let end = log
                .get(closed)
                .map_or(Offset::new(i64::MAX), |record| record.offset);
            log.retain(|record| record.offset >= end || newest[&record.key] == record.offset);
        }
    }

    fn open(&self, topology: &Topology) -> (Task, usize) {
        let id = TaskId {
            sub_topology: 0,
            partition: PartitionId::new(0),
        };
        let mut task =
            Task::open(topology, id, &mut |_| Ok(Box::new(MemoryStore::new()))).expect("memory stores open");
        for (store, records) in &self.changelogs {
            task.restore(store, records.clone()).expect("our own changelog");
        }
        let restored = task.finish_restore(NOW).expect("the stores agree");
        let position = restored.positions.first().map_or(0, |(_, offset)| offset.get());
        (task, position as usize)
    }
}

fn record(offset: usize, (key, number): (u8, i64)) -> Record {
    Record {
        offset: Offset::new(offset as i64),
        timestamp: Timestamp::new(offset as i64),
        key: Some(Bytes::from(key.to_string())),
        value: Some(Bytes::copy_from_slice(&number.to_be_bytes())),
        headers: Vec::new(),
    }
}

fn stored(task: &Task, store: &str, key: u8) -> Option<i64> {
    let store = task.store(store).expect("the topology has this store");
    let value = store
        .get(key.to_string().as_bytes())
        .expect("memory")
        .map(|stored| stored.value);
    value.map(|bytes| i64::from_be_bytes(bytes[..].try_into().expect("eight bytes")))
}

#[test]
fn a_commit_that_only_some_changelogs_have_is_discarded_everywhere_and_repaired() {
    let topology = two_stores();
    let mut log = Log::default();
    let (mut task, _) = log.open(&topology);
    task.add_records(&topic("in"), vec![record(0, (1, 2))])
        .expect("readable");
    task.process(NOW).expect("processes");
    let commit = task
        .commit(NOW)
        .expect("commits")
        .expect("has something to commit");
    let ends = log.append(&commit, usize::MAX);
    task.acknowledge(ends);
    task.add_records(&topic("in"), vec![record(1, (1, 4))])
        .expect("readable");
    task.process(NOW).expect("processes");
    let torn = task
        .commit(NOW)
        .expect("commits")
        .expect("has something to commit");
    // The whole of "count", marker included, and nothing of "sum".
    log.append(&torn, 2);

    let (mut task, position) = log.open(&topology);
    assert_eq!(position, 1, "input goes on after the commit that both have");
    assert_eq!(
        (stored(&task, "count", 1), stored(&task, "sum", 1)),
        (Some(1), Some(2))
    );
    let repair = task
        .commit(NOW)
        .expect("commits")
        .expect("the discarded key is repaired even without input");
    assert_eq!(repair.commit, 2);
    let count = &repair.changelogs[0];
    assert_eq!(
        (count.store.as_str(), count.records.len()),
        ("count", 2),
        "the key, then the marker"
    );
    assert_eq!(count.records[0].value.as_deref(), Some(&1_i64.to_be_bytes()[..]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    /// Any input, cut into commits of any size; crashes tear any commit at any record; compaction strikes at any time.
    /// In the end every record counts exactly once.
    #[test]
    fn aggregates_are_exact_whatever_crashes_leave_of_commits(
        input in proptest::collection::vec((0u8..4, 0i64..10), 1..40),
        steps in proptest::collection::vec((1usize..6, 0usize..14, 0u8..4), 1..30),
    ) {
        let topology = two_stores();
        let mut log = Log::default();
        let (mut task, mut position) = log.open(&topology);
        // After the scripted steps, everything left goes through in one commit.
        let finish = (input.len(), usize::MAX, 1);
        for (size, torn_at, action) in steps.into_iter().chain([finish]) {
            let until = input.len().min(position + size);
            let records = (position..until).map(|at| record(at, input[at])).collect();
            task.add_records(&topic("in"), records).expect("readable");
            task.process(NOW).expect("processes");
            position = until;
            let Some(commit) = task.commit(NOW).expect("commits") else { continue };
            if action == 0 {
                log.append(&commit, torn_at);
                (task, position) = log.open(&topology);
            } else {
                let ends = log.append(&commit, usize::MAX);
                task.acknowledge(ends);
                if action == 2 {
                    log.compact(3);
                }
                if action == 3 {
                    task.flush_stores().expect("memory");
                }
            }
        }
        for key in 0..4 {
            let own = || input.iter().filter(|(at, _)| *at == key).map(|(_, number)| *number);
            let even: Vec<i64> = own().filter(|number| number % 2 == 0).collect();
            prop_assert_eq!(stored(&task, "count", key).unwrap_or(0), own().count() as i64);
            prop_assert_eq!(stored(&task, "sum", key), (!even.is_empty()).then(|| even.iter().sum()));
        }
    }
}

#[test]
fn row_57_inputs_are_merged_by_time_and_row_58_an_empty_one_is_waited_for() {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let builder = StreamsBuilder::new();
    let streams = builder.streams(["a", "b"], Consumed::with(string(), int()));
    streams.to("out", Produced::with(string(), int()));
    let topology = builder.build("app").expect("a sound topology");
    let (mut task, _) = Log::default().open(&topology);
    let at = |offset: usize, time: i64| Record {
        timestamp: Timestamp::new(time),
        ..record(offset, (0, time))
    };
    let run = |task: &mut Task| {
        task.process(NOW).expect("processes");
        let outputs = task.take_outputs();
        seen.borrow_mut()
            .extend(outputs.into_iter().map(|record| record.timestamp.get()));
    };
    task.expect_more(&topic("b"), true).expect("an input");
    task.add_records(&topic("a"), vec![at(0, 1), at(1, 5), at(2, 4), at(3, 9)])
        .expect("readable");
    run(&mut task);
    assert!(seen.borrow().is_empty(), "b may still bring older records");
    task.add_records(&topic("b"), vec![at(0, 2), at(1, 6)])
        .expect("readable");
    task.expect_more(&topic("b"), false).expect("an input");
    run(&mut task);
    // 4 waits behind 5: order inside a partition is never changed.
    assert_eq!(*seen.borrow(), [1, 2, 5, 4, 6, 9]);
    assert_eq!(task.position(&topic("a")), Some(Offset::new(4)));
}
