//! The handle on a running application.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, Weak},
    thread,
    time::Duration,
};

use highwater_client::Client;
use highwater_streams_engine::{Topology, serdes::Serde};
use highwater_types::TopicPartition;
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
};
use tokio_util::sync::CancellationToken;

use crate::{
    StoreView, StreamsConfig, StreamsError, StreamsMetrics, StreamsState,
    app::App,
    state_dir::StateDir,
    stats::Counters,
    topics,
    worker::{Worker, WorkerHandle},
};

/// How long a shutdown waits for the last commit.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(60);

/// A topology at work. Dropping it asks the workers to end in order, without waiting for them.
#[derive(Debug)]
pub struct Streams {
    app: Arc<App>,
    workers: Vec<WorkerHandle>,
    ended: Vec<oneshot::Receiver<()>>,
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.app.shutdown.cancel();
    }
}

impl Streams {
    /// Creates the internal topics, joins the group named after the application, and returns while tasks are still
    /// being assigned and restored; see [`Streams::running`]. Must be called inside a tokio runtime that outlives it.
    ///
    /// # Errors
    /// [`StreamsError`] when the state directory, the topics or the configuration make it impossible.
    pub async fn start(
        topology: Topology,
        client: Client,
        config: StreamsConfig,
    ) -> Result<Self, StreamsError> {
        if config.workers == 0 {
            return Err(StreamsError::Config {
                name: "workers",
                problem: "use at least one",
            });
        }
        let state_dir = Arc::new(StateDir::open(topology.application_id(), &config)?);
        let admin = client.admin();
        let plan = topics::prepare(&topology, &admin, &config).await?;
        let app = Arc::new(App {
            topology,
            client,
            admin,
            state_dir,
            task_counts: plan.task_counts,
            counters: Counters::default(),
            shutdown: CancellationToken::new(),
            state: watch::Sender::new(StreamsState::Rebalancing),
            settled: Mutex::new(vec![false; config.workers]),
            config,
        });
        let mut streams = Self {
            workers: (0..app.config.workers).map(|_| WorkerHandle::new()).collect(),
            ended: Vec::new(),
            app,
        };
        for (index, worker) in streams.workers.iter().enumerate() {
            streams
                .ended
                .push(spawn(index, streams.app.clone(), worker.clone())?);
        }
        Ok(streams)
    }

    /// How it is now.
    pub fn state(&self) -> StreamsState {
        self.app.state.borrow().clone()
    }

    /// Follows the state.
    pub fn watch_state(&self) -> watch::Receiver<StreamsState> {
        self.app.state.subscribe()
    }

    /// Waits until all tasks that the group gave this process run.
    ///
    /// # Errors
    /// The error that stopped the application instead.
    pub async fn running(&self) -> Result<(), StreamsError> {
        self.wait_for(|state| matches!(state, StreamsState::Running))
            .await
    }

    /// Waits until the application has ended, by [`shutdown`](Self::shutdown) or by a failure.
    ///
    /// # Errors
    /// The failure.
    pub async fn ended(&self) -> Result<(), StreamsError> {
        self.wait_for(StreamsState::is_final).await
    }

    async fn wait_for(&self, wanted: impl Fn(&StreamsState) -> bool) -> Result<(), StreamsError> {
        let mut state = self.app.state.subscribe();
        let reached = state.wait_for(|state| wanted(state) || state.is_final()).await;
        match reached.as_deref() {
            Ok(StreamsState::Failed(error)) => Err(error.clone()),
            // The sender lives in `self.app`, so it is still there.
            _ => Ok(()),
        }
    }

    /// What has been done since the start, and how many tasks there are.
    pub async fn metrics(&self) -> StreamsMetrics {
        let mut metrics = self.app.counters.snapshot();
        for worker in &self.workers {
            let (running, restoring) = worker.tasks.lock().await.counts();
            metrics.running_tasks += running;
            metrics.restoring_tasks += restoring;
        }
        metrics
    }

    /// Records of the inputs that have not been read yet, by partition, as of the last fetch.
    pub fn lag(&self) -> BTreeMap<TopicPartition, i64> {
        let consumers = self
            .workers
            .iter()
            .filter_map(|worker| worker.consumer.get().and_then(Weak::upgrade));
        consumers.flat_map(|consumer| consumer.lag()).collect()
    }

    /// A store to ask: the committed values of the tasks that run in this process.
    pub fn store<K: 'static, V: 'static>(
        &self,
        store: impl Into<String>,
        key: impl Serde<K>,
        value: impl Serde<V>,
    ) -> StoreView<K, V> {
        let workers = self.workers.iter().map(|worker| worker.tasks.clone()).collect();
        StoreView::new(
            self.app.clone(),
            workers,
            store.into(),
            Arc::new(key),
            Arc::new(value),
        )
    }

    /// The topology.
    pub fn topology(&self) -> &Topology {
        &self.app.topology
    }

    /// Commits, moves state into the stores, leaves the group, and waits for all of it.
    ///
    /// # Errors
    /// The failure that had stopped it before, or [`StreamsError::ShutdownTimedOut`].
    pub async fn shutdown(mut self) -> Result<(), StreamsError> {
        self.app.state.send_if_modified(|state| {
            let moves = !state.is_final();
            if moves {
                *state = StreamsState::ShuttingDown;
            }
            moves
        });
        self.app.shutdown.cancel();
        let ended = std::mem::take(&mut self.ended);
        let all = futures::future::join_all(ended);
        if tokio::time::timeout(SHUTDOWN_TIMEOUT, all).await.is_err() {
            return Err(StreamsError::ShutdownTimedOut {
                timeout: SHUTDOWN_TIMEOUT,
            });
        }
        // Views on stores and the client's background tasks may live on; the directory is free all the same.
        self.app.state_dir.close();
        self.app.finish(StreamsState::Stopped);
        self.ended().await
    }
}

/// Runs a worker on a thread of its own: operators may compute for as long as they like without holding up connections
/// and heartbeats, which stay on the runtime.
fn spawn(index: usize, app: Arc<App>, handle: WorkerHandle) -> Result<oneshot::Receiver<()>, StreamsError> {
    let runtime = Handle::current();
    let (end, ended) = oneshot::channel();
    let name = format!("streams-{index}");
    let work = move || {
        let outcome = runtime.block_on(async {
            let worker = Worker::start(index, app.clone(), handle)?;
            worker.run().await
        });
        if let Err(error) = outcome {
            tracing::error!(
                application = app.id(),
                worker = index,
                error = error.chain(),
                "streams stopped"
            );
            app.finish(StreamsState::Failed(error));
            // The others cannot do its work for long: its tasks would fail there, too.
            app.shutdown.cancel();
        }
        drop(app);
        let _ = end.send(()); // nobody may be waiting
    };
    match thread::Builder::new().name(name).spawn(work) {
        Ok(_) => Ok(ended),
        Err(_) => Err(StreamsError::WorkerDied),
    }
}
