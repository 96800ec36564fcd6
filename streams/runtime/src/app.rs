//! What the workers of one application in one process share.

use std::sync::{Arc, Mutex, PoisonError};

use highwater_client::{Admin, Client};
use highwater_streams_engine::Topology;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{StreamsConfig, StreamsError, state_dir::StateDir, stats::Counters};

/// How an application is (semantic row 69).
#[derive(Debug, Clone, Default)]
pub enum StreamsState {
    /// Workers are joining the group, or tasks are being restored.
    #[default]
    Rebalancing,
    /// All tasks of this process run.
    Running,
    /// `shutdown` was called; the last commit is under way.
    ShuttingDown,
    /// All tasks have ended in order.
    Stopped,
    /// A worker gave up; nothing runs any more.
    Failed(StreamsError),
}

impl StreamsState {
    /// Whether nothing will happen any more.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Stopped | Self::Failed(_))
    }

    /// One word, for logs and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Rebalancing => "rebalancing",
            Self::Running => "running",
            Self::ShuttingDown => "shutting down",
            Self::Stopped => "stopped",
            Self::Failed(_) => "failed",
        }
    }
}

/// Shared by workers, listeners and the handle.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) topology: Topology,
    pub(crate) config: StreamsConfig,
    pub(crate) client: Client,
    pub(crate) admin: Admin,
    pub(crate) state_dir: Arc<StateDir>,
    pub(crate) task_counts: Vec<i32>,
    pub(crate) counters: Counters,
    pub(crate) shutdown: CancellationToken,
    pub(crate) state: watch::Sender<StreamsState>,
    /// Per worker, whether all its tasks run.
    pub(crate) settled: Mutex<Vec<bool>>,
}

impl App {
    /// The application's name, as metrics and logs carry it.
    pub(crate) fn id(&self) -> &str {
        self.topology.application_id()
    }

    /// Takes note of how a worker is; the state follows from all of them.
    pub(crate) fn report(&self, worker: usize, settled: bool) {
        let all = {
            let mut workers = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
            workers[worker] = settled;
            workers.iter().all(|settled| *settled)
        };
        self.state.send_if_modified(|state| match (&*state, all) {
            (StreamsState::Rebalancing, true) => {
                *state = StreamsState::Running;
                true
            }
            (StreamsState::Running, false) => {
                *state = StreamsState::Rebalancing;
                true
            }
            _ => false,
        });
    }

    /// Moves on to a state from which nothing leads back.
    pub(crate) fn finish(&self, end: StreamsState) {
        self.state.send_if_modified(|state| {
            let moves = !state.is_final();
            if moves {
                *state = end;
            }
            moves
        });
    }
}
