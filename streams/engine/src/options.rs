//! What a caller says about a source, a sink, a store or a repartition: serdes, names, policies.
//!
//! Every option has a safe default except serdes, which are given or inherited from the stream.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use highwater_types::{Timestamp, TopicName};

use crate::{
    serdes::{DynSerde, Serde},
    windows::duration_ms,
};

/// What to do with an input record that the serdes refuse (semantic row 66).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ErrorPolicy {
    /// Stop the task with an error that names the record.
    #[default]
    Fail,
    /// Count it and go on.
    Skip,
    /// Write the raw record to a topic, with headers that name the error, topic, partition and offset (KIP-1034), and
    /// go on. The topic must exist.
    DeadLetter {
        /// The topic.
        topic: TopicName,
    },
}

/// Times that an extractor may choose from (semantic row 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampContext {
    /// The record's own time.
    pub record: Timestamp,
    /// The largest time extracted from this partition so far.
    pub partition: Option<Timestamp>,
}

/// Event time of a record; `None` leaves the record out and counts it.
pub type TimestampExtractor<K, V> = Arc<dyn Fn(&K, &V, TimestampContext) -> Option<Timestamp> + Send + Sync>;

/// How to read a topic.
pub struct Consumed<K, V> {
    pub(crate) key: DynSerde<K>,
    pub(crate) value: DynSerde<V>,
    pub(crate) name: Option<String>,
    pub(crate) policy: ErrorPolicy,
    pub(crate) extractor: Option<TimestampExtractor<K, V>>,
}

impl<K, V> Consumed<K, V> {
    /// Reads keys and values with these serdes.
    pub fn with(key: impl Serde<K>, value: impl Serde<V>) -> Self {
        Self {
            key: Arc::new(key),
            value: Arc::new(value),
            name: None,
            policy: ErrorPolicy::default(),
            extractor: None,
        }
    }

    /// Names the source.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// What to do with records that the serdes refuse.
    #[must_use]
    pub fn on_error(mut self, policy: ErrorPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Takes event time from the record's content instead of its timestamp.
    #[must_use]
    pub fn with_timestamp_extractor(
        mut self,
        extract: impl Fn(&K, &V, TimestampContext) -> Option<Timestamp> + Send + Sync + 'static,
    ) -> Self {
        self.extractor = Some(Arc::new(extract));
        self
    }
}

/// How to write a topic.
pub struct Produced<K, V> {
    pub(crate) key: DynSerde<K>,
    pub(crate) value: DynSerde<V>,
    pub(crate) name: Option<String>,
}

impl<K, V> Produced<K, V> {
    /// Writes keys and values with these serdes.
    pub fn with(key: impl Serde<K>, value: impl Serde<V>) -> Self {
        Self {
            key: Arc::new(key),
            value: Arc::new(value),
            name: None,
        }
    }

    /// Names the sink.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }
}

/// How rows travel when a grouping changes their key: serdes and name of the repartition topic (semantic row 46).
pub struct Grouped<K, V> {
    pub(crate) key: DynSerde<K>,
    pub(crate) value: DynSerde<V>,
    pub(crate) name: Option<String>,
    pub(crate) partitions: Option<i32>,
}

impl<K, V> Grouped<K, V> {
    /// Writes and reads rows with these serdes, if they have to travel.
    pub fn with(key: impl Serde<K>, value: impl Serde<V>) -> Self {
        Self {
            key: Arc::new(key),
            value: Arc::new(value),
            name: None,
            partitions: None,
        }
    }

    /// The middle of the topic's name, `<application>-<name>-repartition`.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// How many partitions the topic has, and thereby how many tasks follow; else as many as the input (row 41).
    #[must_use]
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = Some(partitions);
        self
    }
}

/// Where and how an aggregate is kept.
pub struct Materialized<K, V> {
    pub(crate) name: Option<String>,
    pub(crate) key: Option<DynSerde<K>>,
    pub(crate) value: Option<DynSerde<V>>,
    pub(crate) retention_ms: Option<i64>,
    pub(crate) in_memory: bool,
    pub(crate) logged: bool,
    pub(crate) changelog_configs: BTreeMap<String, String>,
    pub(crate) max_cached_groups: usize,
}

/// Groups of one operator of one task that stay in memory after a commit, unless told otherwise.
pub const DEFAULT_MAX_CACHED_GROUPS: usize = 500_000;

impl<K, V> Default for Materialized<K, V> {
    fn default() -> Self {
        Self {
            name: None,
            key: None,
            value: None,
            retention_ms: None,
            in_memory: false,
            logged: true,
            changelog_configs: BTreeMap::new(),
            max_cached_groups: DEFAULT_MAX_CACHED_GROUPS,
        }
    }
}

impl<K, V> Materialized<K, V> {
    /// Names the store, and thereby its changelog. State follows the name through every change of the topology.
    pub fn as_store(name: impl Into<String>) -> Self {
        Self {
            name: Some(name.into()),
            ..Self::default()
        }
    }

    /// Leaves the name to the content of the topology: topics, key changes, window, kind of aggregate.
    pub fn unnamed() -> Self {
        Self::default()
    }

    /// How keys are written; else as the stream was read.
    #[must_use]
    pub fn with_key(mut self, serde: impl Serde<K>) -> Self {
        self.key = Some(Arc::new(serde));
        self
    }

    /// How values are written.
    #[must_use]
    pub fn with_value(mut self, serde: impl Serde<V>) -> Self {
        self.value = Some(Arc::new(serde));
        self
    }

    /// How long windows can be asked for after they started; at least size plus grace (semantic row 27).
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention_ms = Some(duration_ms(retention));
        self
    }

    /// Keeps the store in memory; its changelog brings it back.
    #[must_use]
    pub fn in_memory(mut self) -> Self {
        self.in_memory = true;
        self
    }

    /// No changelog: state is then as durable as the local disk.
    #[must_use]
    pub fn without_changelog(mut self) -> Self {
        self.logged = false;
        self
    }

    /// Overrides a configuration of the changelog topic.
    #[must_use]
    pub fn changelog_config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.changelog_configs.insert(name.into(), value.into());
        self
    }

    /// How many groups of one task may stay in memory between commits; colder ones are read from the store.
    #[must_use]
    pub fn max_cached_groups(mut self, groups: usize) -> Self {
        self.max_cached_groups = groups;
        self
    }
}

macro_rules! debug_without_serdes {
    ($($name:ident),*) => {$(
        impl<K, V> fmt::Debug for $name<K, V> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("name", &self.name).finish_non_exhaustive()
            }
        }
    )*};
}

debug_without_serdes!(Consumed, Produced, Grouped, Materialized);
