//! A worker: a thread with a consumer, a producer and the tasks that the group gave it.
//!
//! Each turn polls, feeds the tasks, runs them, sends what they put out, commits when it is time, and brings the state of
//! new tasks a step further. Rebalances are served inside the poll (see `listener`).
//!
//! # Invariants
//! - Tasks are touched only under the lock of their [`TaskSet`]: by the worker outside `poll`, by its listener inside.
//! - A failure throws all tasks of the worker away; they are opened again from their last commit.

mod commit;
mod listener;
mod restore;
mod tasks;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use highwater_client::{Consumer, ConsumerConfig, Producer, ProducerConfig};
use tokio::{sync::Mutex, time::Instant};

pub(crate) use tasks::TaskSet;

use crate::{StreamsError, app::App, assignor::TaskAssignor, clock};
use commit::Committer;
use listener::TaskListener;

/// How often operators are given the wall clock.
const PUNCTUATE_INTERVAL: Duration = Duration::from_millis(100);
/// How long one step of restoring may keep the other tasks waiting.
const RESTORE_SLICE: Duration = Duration::from_millis(200);

/// How long a worker that ends waits for a rebalance to let its offsets through.
const LAST_COMMIT_TIMEOUT: Duration = Duration::from_secs(5);
const LAST_COMMIT_PAUSE: Duration = Duration::from_millis(20);

/// What the handle sees of a worker.
#[derive(Debug, Clone)]
pub(crate) struct WorkerHandle {
    pub(crate) tasks: Arc<Mutex<TaskSet>>,
    /// Set once the consumer exists; gone when the worker has ended.
    pub(crate) consumer: Arc<std::sync::OnceLock<Weak<Consumer>>>,
}

impl WorkerHandle {
    pub(crate) fn new() -> Self {
        Self {
            tasks: Arc::new(Mutex::new(TaskSet::default())),
            consumer: Arc::default(),
        }
    }
}

pub(crate) struct Worker {
    index: usize,
    app: Arc<App>,
    handle: WorkerHandle,
    consumer: Arc<Consumer>,
    committer: Arc<Committer>,
    next_commit: Instant,
    next_punctuate: Instant,
    failures: u32,
}

impl Worker {
    /// Starts consumer and producer; must run inside the runtime.
    pub(crate) fn start(index: usize, app: Arc<App>, handle: WorkerHandle) -> Result<Self, StreamsError> {
        let config = &app.config;
        let producer = ProducerConfig {
            compression: config.compression,
            ..ProducerConfig::default()
        };
        let producer: Producer = app
            .client
            .producer(producer)
            .map_err(StreamsError::client("start a producer"))?;
        let committer = Arc::new(Committer::new(app.clone(), producer, handle.consumer.clone()));
        let listener = TaskListener {
            app: app.clone(),
            tasks: handle.tasks.clone(),
            committer: committer.clone(),
            consumer: handle.consumer.clone(),
        };
        let assignor = TaskAssignor::new(&app.topology, app.task_counts.clone(), app.state_dir.clone());
        let consumer = app.client.consumer(ConsumerConfig {
            assignors: vec![Arc::new(assignor)],
            listener: Some(Arc::new(listener)),
            group_instance_id: config
                .group_instance_id
                .as_ref()
                .map(|id| format!("{id}-{index}").into()),
            session_timeout: config.session_timeout,
            heartbeat_interval: config.heartbeat_interval,
            auto_offset_reset: config.auto_offset_reset,
            enable_auto_commit: false,
            max_poll_records: config.max_poll_records,
            ..ConsumerConfig::in_group(app.id().to_owned())
        })?;
        let consumer = Arc::new(consumer);
        // The cell is fresh, so this is the first and only time.
        let _ = handle.consumer.set(Arc::downgrade(&consumer));
        consumer.subscribe(app.topology.source_topics())?;
        let now = Instant::now();
        Ok(Self {
            index,
            app,
            handle,
            consumer,
            committer,
            next_commit: now,
            next_punctuate: now,
            failures: 0,
        })
    }

    /// Works until the shutdown, or until failures in a row exceed the policy.
    pub(crate) async fn run(mut self) -> Result<(), StreamsError> {
        let shutdown = self.app.shutdown.clone();
        let mut outcome = Ok(());
        while !shutdown.is_cancelled() {
            if let Err(error) = self.turn().await {
                self.failures += 1;
                // Without one of its inputs an application would make wrong results of the others.
                let is_refused = matches!(&error, StreamsError::Consume(error) if error.is_refusal());
                let wait = self.app.config.restart.wait_after(self.failures);
                let Some(wait) = wait.filter(|_| !is_refused) else {
                    outcome = Err(error);
                    break;
                };
                let error = error.chain();
                tracing::warn!(
                    application = self.app.id(),
                    worker = self.index,
                    error,
                    ?wait,
                    "tasks start over"
                );
                crate::stats::add(
                    &self.app.counters.failures,
                    "highwater_streams_failures_total",
                    self.app.id(),
                    1,
                );
                self.start_over().await;
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = shutdown.cancelled() => {}
                }
            }
        }
        self.close(outcome.is_ok()).await;
        outcome
    }

    async fn turn(&mut self) -> Result<(), StreamsError> {
        let shutdown = self.app.shutdown.clone();
        let wait = self.poll_wait().await;
        let polled = tokio::select! {
            polled = self.consumer.poll(wait) => polled?,
            () = shutdown.cancelled() => return Ok(()),
        };
        let tasks = self.handle.tasks.clone();
        let mut set = tasks.lock().await;
        let now = clock::wall_now();
        for records in polled {
            set.add_records(records)?;
        }
        set.wait_for_lagging_inputs(&self.consumer, &self.app.config);
        let rows = set.process(now)?;
        if Instant::now() >= self.next_punctuate {
            self.next_punctuate = Instant::now() + PUNCTUATE_INTERVAL;
            set.punctuate(now)?;
        }
        crate::stats::add(
            &self.app.counters.records_in,
            "highwater_streams_records_in_total",
            self.app.id(),
            rows as u64,
        );
        self.committer.send_outputs(&mut set).await?;
        if Instant::now() >= self.next_commit || set.dirty_groups() > self.app.config.max_dirty_groups {
            self.next_commit = Instant::now() + self.app.config.commit_interval;
            if self.committer.commit(&mut set, None, now).await? {
                self.failures = 0;
            }
        }
        self.app.report(self.index, set.is_settled());
        drop(set);
        self.restore(Instant::now() + RESTORE_SLICE).await
    }

    /// Until the next commit or punctuation is due; not at all while state is on its way.
    async fn poll_wait(&self) -> Duration {
        let set = self.handle.tasks.lock().await;
        if set.is_restoring() {
            return Duration::ZERO;
        }
        let due = self.next_commit.min(self.next_punctuate);
        due.saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1))
    }

    async fn start_over(&self) {
        let mut set = self.handle.tasks.lock().await;
        set.start_over(&self.app, &self.consumer);
        self.app.report(self.index, false);
    }

    /// Commits what is done. While a rebalance is under way the group refuses offsets, so it is helped to its end first.
    async fn last_commit(&self) -> Result<(), StreamsError> {
        let deadline = Instant::now() + LAST_COMMIT_TIMEOUT;
        loop {
            let mut set = self.handle.tasks.lock().await;
            self.committer.commit(&mut set, None, clock::wall_now()).await?;
            if !set.has_uncommitted_offsets() || Instant::now() >= deadline {
                return Ok(());
            }
            drop(set);
            self.consumer.pause(&self.consumer.assignment())?;
            self.consumer.poll(LAST_COMMIT_PAUSE).await?;
        }
    }

    async fn close(self, orderly: bool) {
        if orderly && let Err(error) = self.last_commit().await {
            let error = error.chain();
            tracing::warn!(
                application = self.app.id(),
                error,
                "last commit failed; it is repeated after the restart"
            );
        }
        let mut set = self.handle.tasks.lock().await;
        if orderly {
            set.flush_stores_logged(self.app.id());
        }
        set.clear();
        drop(set);
        match Arc::try_unwrap(self.consumer) {
            Ok(consumer) => consumer.close().await,
            // Somebody is just asking for the lag; dropping it leaves the group in the background.
            Err(consumer) => drop(consumer),
        }
    }
}
