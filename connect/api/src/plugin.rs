//! The traits a plugin implements, and the words in which a task reports what happened.
//!
//! Life of a source task: `start` -> `poll` ... -> `stop`. Life of a sink task: `start` -> `open` ->
//! `put` ... `flush` ... -> `close` -> `stop`. The runtime calls one method of a task at a time. It may drop the
//! future of `poll` when the task is asked to stop: what `poll` returned is delivered, what it was still
//! fetching is fetched again from the last committed offset.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use highwater_types::{Offset, TopicPartition};
use thiserror::Error;

use crate::config::{ConfigDef, ConfigProblem, Settings};
use crate::record::{RejectedRecord, SinkRecord, SourceOffset, SourcePartition, SourceRecord};

/// Why a task could not do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TaskError {
    /// It may work later: a time-out, a dropped connection, a rate limit. The runtime waits and asks again.
    #[error("{reason}")]
    Retriable {
        /// What happened.
        reason: String,
        /// How long the outside system asked to be left alone; `None` leaves it to the retry policy.
        retry_after: Option<Duration>,
    },
    /// It will not work until a person changes something. The task fails and says so.
    #[error("{reason}; {hint}")]
    Fatal {
        /// What happened.
        reason: String,
        /// What the person can do about it.
        hint: String,
    },
}

impl TaskError {
    /// An error that the retry policy handles.
    pub fn retriable(reason: impl ToString) -> Self {
        Self::Retriable {
            reason: reason.to_string(),
            retry_after: None,
        }
    }

    /// An error that a person must handle, with advice.
    pub fn fatal(reason: impl ToString, hint: impl Into<String>) -> Self {
        Self::Fatal {
            reason: reason.to_string(),
            hint: hint.into(),
        }
    }
}

/// Why a sink could not take a batch.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SinkError {
    /// The whole batch: nothing of it counts as written, and a retry gets the same records again.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// Some records will never be taken; all others of the batch were. The runtime sends them to the
    /// dead-letter topic, or fails the task, as the connector's configuration says.
    #[error("{} records were refused, the first: {}", .0.len(), .0.first().map_or("", |r| r.reason.as_str()))]
    Rejected(Vec<RejectedRecord>),
}

/// What the runtime tells a source task when it starts it.
#[derive(Debug, Clone, Default)]
pub struct SourceContext {
    /// The connector's name, for log fields.
    pub connector: String,
    /// The task's number, from 0.
    pub task: usize,
    /// How far each source partition was read, as last committed. Partitions never read are absent.
    pub offsets: BTreeMap<SourcePartition, SourceOffset>,
}

/// What the runtime tells a sink task when it starts it.
#[derive(Debug, Clone, Default)]
pub struct SinkContext {
    /// The connector's name, for log fields.
    pub connector: String,
    /// The task's number, from 0.
    pub task: usize,
}

/// A kind of source, as registered with a worker under its name.
#[async_trait]
pub trait SourcePlugin: Send + Sync {
    /// The name that configurations use, such as `binance`.
    fn name(&self) -> &'static str;

    /// One sentence for people.
    fn about(&self) -> &'static str;

    /// The plugin's settings.
    fn config(&self) -> ConfigDef;

    /// Problems that the table of settings cannot express, such as two settings that exclude each other.
    fn check(&self, _settings: &Settings) -> Vec<ConfigProblem> {
        Vec::new()
    }

    /// Splits the job into the settings of at most `tasks_max` tasks; it may return fewer.
    async fn task_settings(&self, settings: &Settings, tasks_max: usize) -> Result<Vec<Settings>, TaskError>;

    /// A task, not yet started.
    fn task(&self) -> Box<dyn SourceTask>;
}

/// Reads from the outside.
#[async_trait]
pub trait SourceTask: Send {
    /// Connects and takes up the work where the offsets of `context` left it.
    async fn start(&mut self, context: SourceContext, settings: &Settings) -> Result<(), TaskError>;

    /// Waits for records and returns them, or returns none when there is nothing new for a while.
    async fn poll(&mut self) -> Result<Vec<SourceRecord>, TaskError>;

    /// Everything up to these offsets is durable in the log: the place to acknowledge upstream.
    async fn committed(
        &mut self,
        _offsets: &BTreeMap<SourcePartition, SourceOffset>,
    ) -> Result<(), TaskError> {
        Ok(())
    }

    /// Lets go of everything.
    async fn stop(&mut self) {}
}

/// A kind of sink, as registered with a worker under its name.
#[async_trait]
pub trait SinkPlugin: Send + Sync {
    /// The name that configurations use, such as `database`.
    fn name(&self) -> &'static str;

    /// One sentence for people.
    fn about(&self) -> &'static str;

    /// The plugin's settings.
    fn config(&self) -> ConfigDef;

    /// Problems that the table of settings cannot express.
    fn check(&self, _settings: &Settings) -> Vec<ConfigProblem> {
        Vec::new()
    }

    /// A task, not yet started.
    fn task(&self) -> Box<dyn SinkTask>;
}

/// Writes to the outside.
#[async_trait]
pub trait SinkTask: Send {
    /// Connects.
    async fn start(&mut self, context: SinkContext, settings: &Settings) -> Result<(), TaskError>;

    /// Takes over partitions. A sink that keeps offsets in its target, in the transaction of the data, returns
    /// where each partition goes on; the others go on at the group's committed offsets.
    async fn open(
        &mut self,
        _partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Offset>, TaskError> {
        Ok(BTreeMap::new())
    }

    /// Takes a batch, in offset order within each partition. `Ok` means taken, not yet durable.
    async fn put(&mut self, records: &[SinkRecord]) -> Result<(), SinkError>;

    /// Makes everything taken so far durable in the target; afterwards the runtime commits the offsets.
    async fn flush(&mut self) -> Result<(), SinkError>;

    /// Gives partitions up; the runtime has flushed before.
    async fn close(&mut self, _partitions: &[TopicPartition]) -> Result<(), TaskError> {
        Ok(())
    }

    /// Lets go of everything.
    async fn stop(&mut self) {}
}
