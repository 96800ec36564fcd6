//! One run of one task: from its start to its end, whatever happens.
//!
//! Reading order: [`TaskContext`], [`run`], [`TaskFailure`], `source`, `sink`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use highwater_client::{ConsumeError, ProduceError};
use highwater_connect_api::{ConverterError, Settings, TaskError, TopicPartition};
use highwater_types::Offset;
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::ConnectorConfig;
use crate::log::LogError;
use crate::plugins::Plugin;
use crate::retry::RetryPolicy;
use crate::status::{RunState, Subject};
use crate::worker::{WorkerError, shared::Shared};

pub(crate) mod dead_letters;
pub(crate) mod ledger;
pub(crate) mod sink;
pub(crate) mod source;

/// Names a task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct TaskId {
    pub(crate) connector: String,
    pub(crate) task: usize,
}

/// Everything a run needs.
pub(crate) struct TaskContext {
    pub(crate) shared: Arc<Shared>,
    pub(crate) id: TaskId,
    pub(crate) config: ConnectorConfig,
    /// The task's share, placeholders filled in.
    pub(crate) settings: Settings,
    /// Epoch of the slot's claim.
    pub(crate) generation: i64,
    /// Asks the run to flush and end.
    pub(crate) stop: CancellationToken,
    pub(crate) paused: watch::Receiver<bool>,
}

impl TaskContext {
    pub(crate) fn is_paused(&self) -> bool {
        *self.paused.borrow()
    }

    pub(crate) async fn report(&self, state: RunState, trace: Option<String>) {
        let subject = Subject::Task(self.id.connector.clone(), self.id.task);
        self.shared.report(&subject, state, trace, self.generation).await;
    }

    pub(crate) async fn report_activity(&self) {
        let state = match self.is_paused() {
            true => RunState::Paused,
            false => RunState::Running,
        };
        self.report(state, None).await;
    }

    pub(crate) fn counter(&self, metric: &'static str) -> metrics::Counter {
        let labels = [
            ("connector", self.id.connector.clone()),
            ("task", self.id.task.to_string()),
        ];
        metrics::counter!(metric, &labels)
    }

    pub(crate) fn count(&self, metric: &'static str, more: usize) {
        self.counter(metric).increment(more as u64);
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskEnd {
    /// As asked.
    Stopped,
    /// By itself; the failure has been reported.
    Failed,
    /// It did not stop in time.
    Dropped,
}

/// Why a run failed.
#[derive(Debug, Error)]
pub(crate) enum TaskFailure {
    #[error("{stage} failed")]
    Task { stage: &'static str, source: TaskError },
    #[error("{stage} failed {attempts} times in {elapsed:?}, longer than retry.max_elapsed")]
    Exhausted {
        stage: &'static str,
        attempts: u32,
        elapsed: Duration,
        source: TaskError,
    },
    #[error("the {part} of a record of the source cannot be written to {topic}")]
    Encode {
        part: &'static str,
        topic: String,
        source: ConverterError,
    },
    #[error(
        "the {part} at {topic_partition} offset {offset} cannot be read; set errors.tolerance = \"all\" to pass over such records"
    )]
    Decode {
        part: &'static str,
        topic_partition: TopicPartition,
        offset: Offset,
        source: ConverterError,
    },
    #[error(
        "the sink refused the record at {topic_partition} offset {offset}: {reason}; set errors.tolerance = \"all\" to pass over such records"
    )]
    Rejected {
        topic_partition: TopicPartition,
        offset: Offset,
        reason: String,
    },
    #[error(
        "the sink refused {topic_partition} offset {offset}, which it was not given; this is a bug of the plugin"
    )]
    UnknownRejected {
        topic_partition: TopicPartition,
        offset: Offset,
    },
    #[error("a record names no topic and the connector has none; set `name` under [topic]")]
    NoTopic,
    #[error("a record cannot be written")]
    Produce(#[from] ProduceError),
    #[error("records cannot be read")]
    Consume(#[from] ConsumeError),
    #[error("offsets cannot be stored")]
    Store(#[from] WorkerError),
    #[error("a topic cannot be used")]
    Topic(#[from] LogError),
}

/// An error and everything behind it in one line. Sources that an error repeats are left out.
pub(crate) fn trace(error: &dyn std::error::Error) -> String {
    let mut trace = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let text = error.to_string();
        if !trace.ends_with(&text) {
            trace.push_str(": ");
            trace.push_str(&text);
        }
        source = error.source();
    }
    trace
}

/// Runs a task to its end and reports its failure, if it fails. A panic of a plugin is a failure.
pub(crate) async fn run(context: TaskContext, abort: CancellationToken) -> TaskEnd {
    let work = AssertUnwindSafe(work(&context)).catch_unwind();
    let outcome = tokio::select! {
        outcome = work => outcome,
        () = abort.cancelled() => return TaskEnd::Dropped,
    };
    let trace = match outcome {
        Ok(Ok(())) => return TaskEnd::Stopped,
        Ok(Err(failure)) => trace(&failure),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            format!("the plugin panicked: {}", text.unwrap_or("no message"))
        }
    };
    let TaskId { connector, task } = &context.id;
    tracing::warn!(%connector, task, error = %trace, "task failed");
    context.count("highwater_connect_task_failures_total", 1);
    context.report(RunState::Failed, Some(trace)).await;
    TaskEnd::Failed
}

async fn work(context: &TaskContext) -> Result<(), TaskFailure> {
    match context.shared.plugins.get(&context.config.plugin) {
        Some(Plugin::Source(plugin)) => source::run(context, plugin.task()).await,
        Some(Plugin::Sink(plugin)) => sink::run(context, plugin.task()).await,
        None => Ok(()), // The configuration was resolved with these very plugins.
    }
}

/// Failures in a row of one operation.
#[derive(Debug)]
pub(crate) struct Retry {
    policy: RetryPolicy,
    stage: &'static str,
    attempts: u32,
    since: Option<Instant>,
}

impl Retry {
    pub(crate) fn new(policy: RetryPolicy, stage: &'static str) -> Self {
        Self {
            policy,
            stage,
            attempts: 0,
            since: None,
        }
    }

    /// How long to wait after this failure, or that it is the last one.
    pub(crate) fn after(
        &mut self,
        context: &TaskContext,
        source: TaskError,
    ) -> Result<Duration, TaskFailure> {
        let stage = self.stage;
        let TaskError::Retriable { retry_after, .. } = &source else {
            return Err(TaskFailure::Task { stage, source });
        };
        self.attempts = self.attempts.saturating_add(1);
        let elapsed = self.since.get_or_insert_with(Instant::now).elapsed();
        let wait = self
            .policy
            .wait(self.attempts, elapsed, *retry_after, rand::random());
        let Some(wait) = wait else {
            let attempts = self.attempts;
            return Err(TaskFailure::Exhausted {
                stage,
                attempts,
                elapsed,
                source,
            });
        };
        let TaskId { connector, task } = &context.id;
        tracing::info!(%connector, task, stage, error = %source, ?wait, "will try again");
        context.count("highwater_connect_retries_total", 1);
        Ok(wait)
    }

    pub(crate) fn succeeded(&mut self) {
        self.attempts = 0;
        self.since = None;
    }
}

/// Waits, unless the run is asked to stop meanwhile; false then.
pub(crate) async fn pause(context: &TaskContext, wait: Duration) -> bool {
    tokio::select! {
        () = context.stop.cancelled() => false,
        () = tokio::time::sleep(wait) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_names_every_cause_once() {
        let failure = TaskFailure::Task {
            stage: "poll",
            source: TaskError::fatal("the key is wrong", "give another one"),
        };
        assert_eq!(trace(&failure), "poll failed: the key is wrong; give another one");
    }
}
