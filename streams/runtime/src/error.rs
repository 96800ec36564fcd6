//! Why an application cannot start, or stopped.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use highwater_client::{ClientError, ConsumeError, ProduceError};
use highwater_streams_engine::{PlanError, ProcessError, StoreError};
use highwater_types::TopicPartition;

/// What went wrong. Cheap to clone, because everybody who waits for the end is told.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StreamsError {
    /// The cluster could not be asked.
    #[error("cannot {action}")]
    Client {
        /// Verb phrase.
        action: &'static str,
        /// The client's error.
        #[source]
        source: ClientError,
    },
    /// The topology does not fit the topics.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Reading input failed.
    #[error("cannot read input")]
    Consume(#[from] ConsumeError),
    /// Writing outputs or changelogs failed.
    #[error("cannot write outputs or changelogs")]
    Produce(#[from] ProduceError),
    /// A task stopped.
    #[error("task {task} stopped")]
    Task {
        /// Sub-topology and partition, `0_3`.
        task: String,
        /// Why.
        #[source]
        source: Arc<ProcessError>,
    },
    /// A changelog cannot be read.
    #[error("cannot restore from {changelog}: {reason}")]
    Changelog {
        /// The changelog's partition.
        changelog: TopicPartition,
        /// What is wrong with its bytes.
        reason: String,
    },
    /// Another process, or another application object, uses the state directory.
    #[error("state directory {} is in use by another process; give each process its own", .path.display())]
    StateDirLocked {
        /// The directory.
        path: PathBuf,
    },
    /// The state directory cannot be used.
    #[error("cannot use state directory {}", .path.display())]
    StateDir {
        /// The directory, or the file in it.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: Arc<io::Error>,
    },
    /// The stores on disk cannot be opened.
    #[error("cannot open the stores in {}: {reason}", .path.display())]
    OpenStores {
        /// The database's directory.
        path: PathBuf,
        /// What RocksDB says.
        reason: String,
    },
    /// A setting that cannot work.
    #[error("{name} cannot work: {problem}")]
    Config {
        /// The field of the configuration.
        name: &'static str,
        /// What to do about it.
        problem: &'static str,
    },
    /// A worker thread could not be started or died.
    #[error("a worker thread ended unexpectedly")]
    WorkerDied,
    /// A store is asked for that no task of this process holds at the moment.
    #[error(
        "no task of this process holds store `{store}` for that key; ask another process, or again after the rebalance"
    )]
    StoreNotHere {
        /// The store.
        store: String,
    },
    /// The shutdown did not end in time.
    #[error("shutdown took longer than {timeout:?}; tasks were abandoned, their last commit stands")]
    ShutdownTimedOut {
        /// How long it was waited for.
        timeout: Duration,
    },
}

impl StreamsError {
    pub(crate) fn client(action: &'static str) -> impl FnOnce(ClientError) -> Self {
        move |source| Self::Client { action, source }
    }

    pub(crate) fn task(task: impl ToString, source: impl Into<ProcessError>) -> Self {
        Self::Task {
            task: task.to_string(),
            source: Arc::new(source.into()),
        }
    }

    pub(crate) fn store(task: impl ToString, source: StoreError) -> Self {
        Self::task(task, source)
    }

    /// The error with its causes, for logs and people.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
}
