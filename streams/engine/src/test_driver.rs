//! Runs a topology without a broker, synchronously, one partition, a commit after every record (semantic row 78).
//!
//! ```
//! # use highwater_streams_engine::*;
//! # use highwater_streams_engine::serdes::*;
//! let builder = StreamsBuilder::new();
//! builder
//!     .stream("words", Consumed::with(string(), string()))
//!     .group_by(|_, word| word.clone(), Grouped::with(string(), string()))
//!     .count(Materialized::as_store("counts"))
//!     .to_stream()
//!     .to("counts", Produced::with(string(), i64()));
//! let driver = TopologyTestDriver::new(builder.build("wordcount")?)?;
//! let words = driver.input_topic("words", string(), string());
//! let counts = driver.output_topic("counts", string(), i64());
//! words.pipe("k1".to_owned(), "tide".to_owned(), 0)?;
//! words.pipe("k2".to_owned(), "tide".to_owned(), 1)?;
//! assert_eq!(counts.read_key_values(), [("tide".to_owned(), 1), ("tide".to_owned(), 2)]);
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! Every commit really goes through changelog records, so [`TopologyTestDriver::restart`] is a crash with full restore.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    marker::PhantomData,
};

use bytes::Bytes;
use highwater_types::{
    Offset, PartitionId, Timestamp, TopicName,
    record::{Header, Record},
};

use crate::{
    drops::DropReason,
    error::ProcessError,
    operator::OutputRecord,
    serdes::{Serde, SerdeError},
    store::{KeyRange, MemoryStore, StoredValue, window_store_key},
    task::{Task, TaskId},
    topology::Topology,
};

/// One partition, all topics, all tasks.
pub struct TopologyTestDriver {
    state: RefCell<State>,
}

struct State {
    topology: Topology,
    tasks: Vec<Task>,
    now: Timestamp,
    ends: BTreeMap<TopicName, i64>,
    committed: BTreeMap<TopicName, Offset>,
    outputs: BTreeMap<TopicName, VecDeque<OutputRecord>>,
    changelogs: BTreeMap<TopicName, Vec<Record>>,
}

impl std::fmt::Debug for TopologyTestDriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TopologyTestDriver").finish_non_exhaustive()
    }
}

impl TopologyTestDriver {
    /// Starts all tasks with empty stores; the wall clock stands at 0.
    ///
    /// # Errors
    /// What an operator's `init` says.
    pub fn new(topology: Topology) -> Result<Self, ProcessError> {
        let mut state = State {
            topology,
            tasks: Vec::new(),
            now: Timestamp::new(0),
            ends: BTreeMap::new(),
            committed: BTreeMap::new(),
            outputs: BTreeMap::new(),
            changelogs: BTreeMap::new(),
        };
        state.start()?;
        Ok(Self {
            state: RefCell::new(state),
        })
    }

    /// A topic to write to.
    ///
    /// # Panics
    /// For a name that no topic can have; so do the other methods that take one.
    pub fn input_topic<K, V>(
        &self,
        topic: &str,
        key: impl Serde<K>,
        value: impl Serde<V>,
    ) -> TestInputTopic<'_, K, V> {
        TestInputTopic {
            driver: self,
            topic: legal(topic),
            key: Box::new(key),
            value: Box::new(value),
        }
    }

    /// A topic to read from.
    pub fn output_topic<K, V>(
        &self,
        topic: &str,
        key: impl Serde<K>,
        value: impl Serde<V>,
    ) -> TestOutputTopic<'_, K, V> {
        TestOutputTopic {
            driver: self,
            topic: legal(topic),
            key: Box::new(key),
            value: Box::new(value),
        }
    }

    /// A store to ask. Window stores are asked with [`TestStore::get_window`].
    pub fn store<K, V>(&self, store: &str, key: impl Serde<K>, value: impl Serde<V>) -> TestStore<'_, K, V> {
        TestStore {
            driver: self,
            store: store.to_owned(),
            key: Box::new(key),
            value: Box::new(value),
            types: PhantomData,
        }
    }

    /// Moves the wall clock and lets operators act on it.
    ///
    /// # Errors
    /// The first [`ProcessError`].
    pub fn advance_wall_clock(&self, by: std::time::Duration) -> Result<(), ProcessError> {
        let mut state = self.state.borrow_mut();
        state.now = state.now.advance_by_ms(crate::windows::duration_ms(by));
        let now = state.now;
        for task in &mut state.tasks {
            task.punctuate(now)?;
        }
        state.settle()
    }

    /// Kills all tasks and brings them back with nothing but their changelogs.
    ///
    /// # Errors
    /// What restoring says.
    pub fn restart(&self) -> Result<(), ProcessError> {
        let mut state = self.state.borrow_mut();
        state.tasks.clear();
        state.start()
    }

    /// How many records all operators left out for one reason since the last start.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        let state = self.state.borrow();
        let drops = state.tasks.iter().flat_map(Task::drops);
        drops
            .filter(|(_, counted, _)| *counted == reason)
            .map(|(_, _, count)| count)
            .sum()
    }

    /// Raw records of a changelog topic, markers included.
    pub fn changelog(&self, topic: &str) -> Vec<Record> {
        let state = self.state.borrow();
        state.changelogs.get(topic).cloned().unwrap_or_default()
    }

    /// Pipes raw bytes, for records that no serde would write.
    ///
    /// # Errors
    /// The first [`ProcessError`].
    pub fn pipe_raw(
        &self,
        topic: &str,
        key: Option<Bytes>,
        value: Option<Bytes>,
        timestamp: Timestamp,
    ) -> Result<(), ProcessError> {
        let mut state = self.state.borrow_mut();
        state.append(&legal(topic), key, value, timestamp, Vec::new())?;
        state.settle()
    }
}

fn legal(topic: &str) -> TopicName {
    TopicName::new(topic).expect("a test names topics that can exist")
}

impl State {
    fn start(&mut self) -> Result<(), ProcessError> {
        for sub_topology in 0..self.topology.sub_topologies().len() {
            let id = TaskId {
                sub_topology,
                partition: PartitionId::new(0),
            };
            let mut task = Task::open(&self.topology, id, &mut |_| Ok(Box::new(MemoryStore::new())))?;
            for spec in &self.topology.sub_topologies()[sub_topology].stores {
                let changelog = self.topology.changelog_topic(&spec.name);
                if let Some(records) = changelog.and_then(|topic| self.changelogs.get(topic)) {
                    task.restore(&spec.name, records.clone())?;
                }
            }
            for (topic, offset) in &self.committed {
                if task.input_topics().any(|own| own == topic) {
                    task.set_position(topic, *offset)?;
                }
            }
            task.finish_restore(self.now)?;
            self.tasks.push(task);
        }
        Ok(())
    }

    fn append(
        &mut self,
        topic: &TopicName,
        key: Option<Bytes>,
        value: Option<Bytes>,
        timestamp: Timestamp,
        headers: Vec<Header>,
    ) -> Result<(), ProcessError> {
        let end = self.ends.entry(topic.clone()).or_insert(0);
        let record = Record {
            offset: Offset::new(*end),
            timestamp,
            key,
            value,
            headers,
        };
        *end += 1;
        for task in &mut self.tasks {
            if task.input_topics().any(|own| own == topic) {
                task.add_records(topic, vec![record.clone()])?;
            }
        }
        Ok(())
    }

    /// Processes and commits until nothing moves, feeding what tasks write to tasks that read it.
    fn settle(&mut self) -> Result<(), ProcessError> {
        loop {
            let mut outputs = Vec::new();
            for at in 0..self.tasks.len() {
                self.tasks[at].process(self.now)?;
                outputs.extend(self.commit(at)?);
            }
            if outputs.is_empty() {
                return Ok(());
            }
            for record in outputs {
                self.outputs
                    .entry(record.topic.clone())
                    .or_default()
                    .push_back(record.clone());
                self.append(
                    &record.topic,
                    record.key,
                    record.value,
                    record.timestamp,
                    record.headers,
                )?;
            }
        }
    }

    fn commit(&mut self, at: usize) -> Result<Vec<OutputRecord>, ProcessError> {
        let Some(commit) = self.tasks[at].commit(self.now)? else {
            return Ok(Vec::new());
        };
        let mut ends = BTreeMap::new();
        for batch in commit.changelogs {
            let log = self.changelogs.entry(batch.topic).or_default();
            for record in batch.records {
                log.push(Record {
                    offset: Offset::new(log.len() as i64),
                    timestamp: record.timestamp,
                    key: Some(record.key),
                    value: record.value,
                    headers: record.headers,
                });
            }
            ends.insert(batch.store, Offset::new(log.len() as i64));
        }
        self.committed.extend(commit.positions);
        self.tasks[at].acknowledge(ends);
        self.tasks[at].flush_stores()?;
        Ok(commit.outputs)
    }
}

/// Writes typed records to one topic.
pub struct TestInputTopic<'a, K, V> {
    driver: &'a TopologyTestDriver,
    topic: TopicName,
    key: Box<dyn Serde<K>>,
    value: Box<dyn Serde<V>>,
}

impl<K, V> std::fmt::Debug for TestInputTopic<'_, K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TestInputTopic({})", self.topic)
    }
}

impl<K: 'static, V: 'static> TestInputTopic<'_, K, V> {
    /// Writes one record and runs everything that follows from it.
    ///
    /// # Errors
    /// The first [`ProcessError`].
    pub fn pipe(&self, key: K, value: V, timestamp_ms: i64) -> Result<(), ProcessError> {
        let unwritable = |part| {
            move |source: SerdeError| ProcessError::Serialize {
                operator: "test input".to_owned(),
                part,
                source,
            }
        };
        let key = self.key.serialize(&key).map_err(unwritable("key"))?;
        let value = self.value.serialize(&value).map_err(unwritable("value"))?;
        self.driver
            .pipe_raw(self.topic.as_str(), key, value, Timestamp::new(timestamp_ms))
    }
}

/// Reads typed records of one topic, each once.
pub struct TestOutputTopic<'a, K, V> {
    driver: &'a TopologyTestDriver,
    topic: TopicName,
    key: Box<dyn Serde<K>>,
    value: Box<dyn Serde<V>>,
}

impl<K, V> std::fmt::Debug for TestOutputTopic<'_, K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TestOutputTopic({})", self.topic)
    }
}

impl<K: 'static, V: 'static> TestOutputTopic<'_, K, V> {
    /// The next record as it was written.
    pub fn read_raw(&self) -> Option<OutputRecord> {
        let mut state = self.driver.state.borrow_mut();
        state.outputs.get_mut(&self.topic).and_then(VecDeque::pop_front)
    }

    /// The next record's key and value.
    ///
    /// # Panics
    /// When the serdes do not fit what was written, or key or value is null and they have no null.
    pub fn read(&self) -> Option<(K, V)> {
        let record = self.read_raw()?;
        let key = typed(&*self.key, record.key.as_ref()).expect("null key under a serde without null");
        let value =
            typed(&*self.value, record.value.as_ref()).expect("null value under a serde without null");
        Some((key, value))
    }

    /// All records that were not read yet.
    pub fn read_key_values(&self) -> Vec<(K, V)> {
        std::iter::from_fn(|| self.read()).collect()
    }
}

fn typed<T: 'static>(serde: &dyn Serde<T>, bytes: Option<&Bytes>) -> Option<T> {
    match bytes {
        Some(bytes) => Some(
            serde
                .deserialize(bytes)
                .expect("the test's serde reads what the topology wrote"),
        ),
        None => serde.null(),
    }
}

/// Asks one store.
pub struct TestStore<'a, K, V> {
    driver: &'a TopologyTestDriver,
    store: String,
    key: Box<dyn Serde<K>>,
    value: Box<dyn Serde<V>>,
    types: PhantomData<(K, V)>,
}

impl<K, V> std::fmt::Debug for TestStore<'_, K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TestStore({})", self.store)
    }
}

impl<K: 'static, V: 'static> TestStore<'_, K, V> {
    /// The value of a key in a key-value store.
    ///
    /// # Panics
    /// When there is no such store or the serdes do not fit; so do the other methods.
    pub fn get(&self, key: &K) -> Option<V> {
        self.value_at(&self.key_bytes(key))
    }

    /// The value of a key's window in a window store.
    pub fn get_window(&self, key: &K, start_ms: i64) -> Option<V> {
        self.value_at(&window_store_key(start_ms, &self.key_bytes(key)))
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        let state = self.driver.state.borrow();
        let store = state
            .tasks
            .iter()
            .find_map(|task| task.store(&self.store))
            .expect("the topology has this store");
        let mut entries = 0;
        let counted = store.scan(&KeyRange::ALL, &mut |_, _: StoredValue| {
            entries += 1;
            std::ops::ControlFlow::Continue(())
        });
        counted.expect("memory stores do not fail");
        entries
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn key_bytes(&self, key: &K) -> Bytes {
        self.key
            .serialize(key)
            .expect("the test's serde writes its keys")
            .unwrap_or_default()
    }

    fn value_at(&self, store_key: &[u8]) -> Option<V> {
        let state = self.driver.state.borrow();
        let store = state
            .tasks
            .iter()
            .find_map(|task| task.store(&self.store))
            .expect("the topology has this store");
        let stored = store.get(store_key).expect("memory stores do not fail")?;
        Some(
            self.value
                .deserialize(&stored.value)
                .expect("the test's serde reads what the operator wrote"),
        )
    }
}
