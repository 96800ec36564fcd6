//! What can go wrong, one enum per moment: building a topology, planning it against topics, running it, keeping its state.
//!
//! Refuses text in place of fields: whoever catches an error can act on its parts.

use highwater_types::{InvalidTopicName, Offset, PartitionId, TopicName};

use crate::serdes::SerdeError;

/// Why a builder's streams do not make a topology. Nothing has run yet; the program is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopologyError {
    /// No stream was started.
    #[error("the topology has no source; start with StreamsBuilder::stream(topic, Consumed::with(..))")]
    Empty,
    /// A topic name that Kafka refuses, given or derived from an application or store name.
    #[error("operator `{operator}` cannot use topic `{topic}`: {source}")]
    TopicName {
        /// The operator that names the topic.
        operator: String,
        /// The refused name.
        topic: String,
        /// The broken rule.
        source: InvalidTopicName,
    },
    /// Two operators carry one explicit name.
    #[error("two operators are named `{name}`; give one of them another name")]
    DuplicateName {
        /// The name used twice.
        name: String,
    },
    /// Two operators would write one store.
    #[error(
        "two operators would own store `{store}`; name them apart with Materialized::as_store(\"...\") \
         (a counter in the name would tie state to the order of statements)"
    )]
    DuplicateStore {
        /// The store name used twice.
        store: String,
    },
    /// A key-dependent operator follows a change of the key, so rows travel through a topic, and nobody said how to write them.
    #[error("operator `{operator}` writes {part}s to a topic or store but no serde is known for them; {fix}")]
    MissingSerde {
        /// The operator that needs it.
        operator: String,
        /// `key` or `value`.
        part: &'static str,
        /// What to add where.
        fix: &'static str,
    },
    /// One topic is read twice with different options.
    #[error(
        "topic `{topic}` is read by two sources; keep the stream of the first in a variable and use it twice"
    )]
    TopicReadTwice {
        /// The topic.
        topic: String,
    },
    /// A window store that would forget windows still open (semantic row 27).
    #[error(
        "store `{store}` keeps {retention_ms} ms but its windows need {needed_ms} ms (size + grace); raise the retention"
    )]
    RetentionTooShort {
        /// The store.
        store: String,
        /// What was asked for.
        retention_ms: i64,
        /// Window size plus grace.
        needed_ms: i64,
    },
    /// A window with no length, or hops that leave gaps.
    #[error(
        "operator `{operator}` has windows of {size_ms} ms that advance by {advance_ms} ms; both must be at least 1 ms and the advance at most the size"
    )]
    WindowBounds {
        /// The operator.
        operator: String,
        /// Window length.
        size_ms: i64,
        /// Distance between window starts.
        advance_ms: i64,
    },
}

/// Why a topology cannot run over the topics that exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// A source topic is missing; sources are never created by the runtime (semantic row 12 says the same of sinks).
    #[error(
        "source topic `{topic}` does not exist; create it with the partitions you want, then start again"
    )]
    MissingTopic {
        /// The topic.
        topic: TopicName,
    },
    /// An internal topic exists with a count that no longer fits.
    #[error(
        "internal topic `{topic}` has {actual} partitions but the topology needs {needed}: its input was re-partitioned; \
         reset the application or restore the old count"
    )]
    InternalPartitionCount {
        /// The internal topic.
        topic: TopicName,
        /// What exists.
        actual: i32,
        /// What the plan asks for.
        needed: i32,
    },
}

/// Why a task stopped. The runtime decides whether to restart it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// Bytes of an input record are not what the serde expects, and the policy says to stop.
    #[error(
        "cannot read the {part} of {topic}-{partition} at offset {offset}: {source}; fix the serde, or choose ErrorPolicy::Skip or DeadLetter"
    )]
    Deserialize {
        /// Topic of the record.
        topic: TopicName,
        /// Its partition.
        partition: PartitionId,
        /// Its offset.
        offset: Offset,
        /// `key` or `value`.
        part: &'static str,
        /// What the serde said.
        source: SerdeError,
    },
    /// A value the program computed cannot be written.
    #[error("operator `{operator}` cannot write its {part}: {source}")]
    Serialize {
        /// The operator.
        operator: String,
        /// `key` or `value`.
        part: &'static str,
        /// What the serde said.
        source: SerdeError,
    },
    /// Bytes in a store are not what the operator wrote: the type changed without a new store name.
    #[error(
        "operator `{operator}` cannot read its own state in store `{store}`: {source}; if the type changed, give the store a new name"
    )]
    State {
        /// The operator.
        operator: String,
        /// The store.
        store: String,
        /// What the serde said.
        source: SerdeError,
    },
    /// A negative timestamp under the default extractor (semantic row 4).
    #[error(
        "record {topic}-{partition} at offset {offset} has timestamp {timestamp_ms}, before 1970; set a timestamp extractor with Consumed"
    )]
    NegativeTimestamp {
        /// Topic of the record.
        topic: TopicName,
        /// Its partition.
        partition: PartitionId,
        /// Its offset.
        offset: Offset,
        /// What it carries.
        timestamp_ms: i64,
    },
    /// A custom operator forwarded a chunk of another type than its child takes.
    #[error("operator `{operator}` takes {expected} but was handed {actual}")]
    ChunkType {
        /// The operator that was handed the chunk.
        operator: String,
        /// What it takes.
        expected: &'static str,
        /// What it got.
        actual: &'static str,
    },
    /// A topic that no source of the task reads.
    #[error("task {task} does not read topic `{topic}`")]
    UnknownTopic {
        /// The task.
        task: String,
        /// The topic.
        topic: TopicName,
    },
    /// A custom operator asked for a store that it was not given.
    #[error("operator `{operator}` has no store `{store}`; list it when adding the operator")]
    UnknownStore {
        /// The operator.
        operator: String,
        /// The store.
        store: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A custom operator's own error.
    #[error("operator `{operator}` failed: {source}")]
    Operator {
        /// The operator.
        operator: String,
        /// Its error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a store cannot answer or be brought back.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The medium under the store failed.
    #[error("store `{store}` failed to {action}: {source}")]
    Backend {
        /// The store.
        store: String,
        /// Verb phrase: `read`, `write a batch`, ...
        action: &'static str,
        /// The medium's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The checkpoint inside the store cannot be read.
    #[error(
        "the checkpoint of store `{store}` is not readable: {reason}; clear the store and restore it from its changelog"
    )]
    Checkpoint {
        /// The store.
        store: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store holds a commit that the other stores of its task, or the changelog, do not have.
    #[error(
        "store `{store}` stands at commit {store_commit} but the task can only be restored to commit {task_commit}; \
         clear the task's stores and restore them from their changelogs"
    )]
    Ahead {
        /// The store.
        store: String,
        /// Its commit.
        store_commit: u64,
        /// The latest commit that every store has.
        task_commit: u64,
    },
    /// A key range that ends before it starts, or a key that no window wrote.
    #[error("store `{store}` holds a malformed key of {length_bytes} bytes")]
    MalformedKey {
        /// The store.
        store: String,
        /// Length of the key.
        length_bytes: usize,
    },
}
