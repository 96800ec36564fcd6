//! A sink task: a member of the group `connect-<name>` that decodes, puts, flushes and commits.
//!
//! The task and what it was given live in [`Core`], which the run and the group's listener share: partitions come and
//! go inside `poll`, and a partition is given up only after its records were flushed and their offsets committed.
//!
//! Each task is a static member of its group (`<name>-<task>`), so that a task that moves to another worker, or comes
//! back after a crash, goes on with the same partitions at once, and a zombie of it is fenced by the group.
//!
//! # Invariants
//! - Offsets are committed only after the `flush` behind the `put` of their records, and after their dead letters are
//!   acknowledged.
//! - Records of a partition are put in offset order; what the sink could not take yet is put again before anything
//!   newer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use highwater_client::{
    AutoOffsetReset, CommittedOffset, CommittedOffsets, Consumer, ConsumerConfig, CooperativeStickyAssignor,
    PartitionRecords, RebalanceListener,
};
use highwater_connect_api::{
    Converter, ConverterError, Data, RejectedRecord, SinkContext, SinkError, SinkRecord, SinkTask, TaskError,
};
use highwater_types::record::{DecodeLimits, Record};
use highwater_types::{Offset, TopicPartition};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::dead_letters::{DeadLetters, Reason};
use super::{Retry, TaskContext, TaskFailure, pause};
use crate::config::{ConnectorConfig, Topics};

/// Most records of one `put`.
const MAX_BATCH_RECORDS: usize = 2_000;
/// Longest wait for records: how soon a request to stop is seen.
const POLL_WAIT: Duration = Duration::from_millis(200);
const MAX_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(1);
/// Bytes to fetch when one raw record is read again.
const REFETCH_BYTES: usize = 1 << 20;

pub(crate) async fn run(context: &TaskContext, mut task: Box<dyn SinkTask>) -> Result<(), TaskFailure> {
    match start(context, &mut *task).await {
        Ok(true) => {}
        Ok(false) => {
            task.stop().await;
            return Ok(());
        }
        Err(failure) => {
            task.stop().await;
            return Err(failure);
        }
    }
    let parts = Arc::new(Parts::of(context));
    let core = Arc::new(Mutex::new(Core::new(task, context)));
    let outcome = consume(context, &parts, &core).await;
    core.lock().await.task.stop().await;
    outcome
}

async fn start(context: &TaskContext, task: &mut dyn SinkTask) -> Result<bool, TaskFailure> {
    let mut retry = Retry::new(context.config.retry, "start");
    loop {
        let sink_context = SinkContext {
            connector: context.id.connector.clone(),
            task: context.id.task,
        };
        match task.start(sink_context, &context.settings).await {
            Ok(()) => return Ok(true),
            Err(error) => {
                let wait = retry.after(context, error)?;
                if !pause(context, wait).await {
                    return Ok(false);
                }
            }
        }
    }
}

/// A copy of the context that the listener can own.
struct Parts(TaskContext);

impl Parts {
    fn of(context: &TaskContext) -> Self {
        Self(TaskContext {
            shared: context.shared.clone(),
            id: context.id.clone(),
            config: context.config.clone(),
            settings: context.settings.clone(),
            generation: context.generation,
            stop: context.stop.clone(),
            paused: context.paused.clone(),
        })
    }
}

/// The task, what it holds, and how far it has come.
struct Core {
    task: Box<dyn SinkTask>,
    open: BTreeSet<TopicPartition>,
    /// Decoded and not taken yet; `raw` goes with it, record by record.
    pending: Vec<SinkRecord>,
    raw: Vec<Record>,
    /// Passed over before being put: offsets that become committable with the pending records.
    consumed: BTreeMap<TopicPartition, Offset>,
    /// Taken: the next offsets, to be committed after a flush.
    put: BTreeMap<TopicPartition, Offset>,
    dead_letters: DeadLetters,
    /// Whether partitions are to be paused as they come.
    holding: bool,
    /// Nothing is to be done for partitions any more.
    closed: bool,
    failure: Option<TaskFailure>,
}

impl Core {
    fn new(task: Box<dyn SinkTask>, context: &TaskContext) -> Self {
        Self {
            task,
            open: BTreeSet::new(),
            pending: Vec::new(),
            raw: Vec::new(),
            consumed: BTreeMap::new(),
            put: BTreeMap::new(),
            dead_letters: DeadLetters::new(context),
            holding: false,
            closed: false,
            failure: None,
        }
    }

    /// Decodes what was polled; what cannot be decoded is buried or fails the task.
    async fn take(
        &mut self,
        context: &TaskContext,
        polled: Vec<PartitionRecords>,
    ) -> Result<(), TaskFailure> {
        for PartitionRecords {
            topic_partition,
            records,
            ..
        } in polled
        {
            context.count("highwater_connect_sink_read_records_total", records.len());
            for record in records {
                let next = record.offset.next();
                match decode(context, &topic_partition, &record) {
                    Ok((key, value)) => {
                        self.pending.push(SinkRecord {
                            topic_partition: topic_partition.clone(),
                            offset: record.offset,
                            timestamp: record.timestamp,
                            key,
                            value,
                            headers: record.headers.clone(),
                        });
                        self.raw.push(record);
                    }
                    Err(undecodable) => {
                        self.give_up_record(context, &topic_partition, &record, *undecodable)
                            .await?;
                    }
                }
                self.consumed.insert(topic_partition.clone(), next);
            }
        }
        Ok(())
    }

    async fn give_up_record(
        &mut self,
        context: &TaskContext,
        from: &TopicPartition,
        record: &Record,
        bad: BadRecord,
    ) -> Result<(), TaskFailure> {
        if !context.config.errors.tolerates_bad_records {
            return Err(bad.failure);
        }
        self.dead_letters.bury(context, from, record, &bad.reason).await
    }

    /// Puts what is pending. The error is what the task said about the whole batch.
    async fn put(&mut self, context: &TaskContext) -> Result<Result<(), TaskError>, TaskFailure> {
        let rejected = match self.pending.is_empty() {
            true => Vec::new(),
            false => {
                let started = Instant::now();
                let outcome = self.task.put(&self.pending).await;
                metrics::histogram!(
                    "highwater_connect_sink_put_duration_seconds",
                    "connector" => context.id.connector.clone()
                )
                .record(started.elapsed().as_secs_f64());
                match outcome {
                    Ok(()) => Vec::new(),
                    Err(SinkError::Rejected(rejected)) => rejected,
                    Err(SinkError::Task(error)) => return Ok(Err(error)),
                    Err(error) => return Ok(Err(TaskError::retriable(error))),
                }
            }
        };
        for rejected in &rejected {
            let is_it = |record: &&SinkRecord| {
                record.offset == rejected.offset && record.topic_partition == rejected.topic_partition
            };
            let index = self.pending.iter().position(|record| is_it(&record));
            let raw = index.and_then(|index| self.raw.get(index)).cloned();
            let raw = raw.ok_or_else(|| unknown(rejected))?;
            self.give_up_record(
                context,
                &rejected.topic_partition,
                &raw,
                refused(context, rejected),
            )
            .await?;
        }
        let taken = self.pending.len() - rejected.len().min(self.pending.len());
        context.count("highwater_connect_sink_sent_records_total", taken);
        self.pending.clear();
        self.raw.clear();
        self.put.append(&mut self.consumed);
        Ok(Ok(()))
    }

    /// Makes everything put durable and commits its offsets. The error is what the task said.
    async fn flush(
        &mut self,
        context: &TaskContext,
        consumer: &Consumer,
    ) -> Result<Result<(), TaskError>, TaskFailure> {
        if self.open.is_empty() {
            return Ok(Ok(()));
        }
        // Also with nothing new: a sink may have work that only time brings, such as completing an old file.
        match self.task.flush().await {
            Ok(()) => {}
            Err(SinkError::Rejected(rejected)) => {
                for rejected in &rejected {
                    let raw = read_again(context, rejected).await?;
                    self.give_up_record(
                        context,
                        &rejected.topic_partition,
                        &raw,
                        refused(context, rejected),
                    )
                    .await?;
                }
            }
            Err(SinkError::Task(error)) => return Ok(Err(error)),
            Err(error) => return Ok(Err(TaskError::retriable(error))),
        }
        if self.put.is_empty() {
            return Ok(Ok(()));
        }
        let offsets: CommittedOffsets = self
            .put
            .iter()
            .map(|(tp, offset)| (tp.clone(), CommittedOffset::from(*offset)))
            .collect();
        match consumer.commit(offsets).await {
            Ok(()) => self.put.clear(),
            // The group is being rebalanced; the offsets go with the next commit, or the records come again.
            Err(highwater_client::ConsumeError::CommitRefused { code, .. }) => {
                tracing::info!(connector = %context.id.connector, task = context.id.task, ?code, "commit refused");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Ok(()))
    }

    fn forget(&mut self, partitions: &[TopicPartition]) {
        let mut kept_raw = Vec::new();
        let mut kept = Vec::new();
        for (record, raw) in self.pending.drain(..).zip(self.raw.drain(..)) {
            if !partitions.contains(&record.topic_partition) {
                kept.push(record);
                kept_raw.push(raw);
            }
        }
        (self.pending, self.raw) = (kept, kept_raw);
        for partition in partitions {
            self.open.remove(partition);
            self.consumed.remove(partition);
            self.put.remove(partition);
        }
    }
}

/// A record that will not be put, and why.
struct BadRecord {
    reason: Reason,
    failure: TaskFailure,
}

fn decode(
    context: &TaskContext,
    topic_partition: &TopicPartition,
    record: &Record,
) -> Result<(Data, Data), Box<BadRecord>> {
    let bad = |part, stage, converter: Converter| {
        move |source: ConverterError| {
            Box::new(BadRecord {
                reason: Reason {
                    stage,
                    class: format!("{converter:?}").to_lowercase(),
                    exception: "ConverterError",
                    message: source.to_string(),
                },
                failure: TaskFailure::Decode {
                    part,
                    topic_partition: topic_partition.clone(),
                    offset: record.offset,
                    source,
                },
            })
        }
    };
    let config = &context.config;
    let key = config.key.decode(record.key.as_ref());
    let key = key.map_err(bad("key", "KEY_CONVERTER", config.key))?;
    let value = config.value.decode(record.value.as_ref());
    let value = value.map_err(bad("value", "VALUE_CONVERTER", config.value))?;
    Ok((key, value))
}

fn refused(context: &TaskContext, rejected: &RejectedRecord) -> BadRecord {
    BadRecord {
        reason: Reason {
            stage: "TASK_PUT",
            class: context.config.plugin.clone(),
            exception: "RejectedRecord",
            message: rejected.reason.clone(),
        },
        failure: TaskFailure::Rejected {
            topic_partition: rejected.topic_partition.clone(),
            offset: rejected.offset,
            reason: rejected.reason.clone(),
        },
    }
}

fn unknown(rejected: &RejectedRecord) -> TaskFailure {
    TaskFailure::UnknownRejected {
        topic_partition: rejected.topic_partition.clone(),
        offset: rejected.offset,
    }
}

/// Fetches the raw record that a flush refused; it was put some time ago and its bytes are no longer kept.
async fn read_again(context: &TaskContext, rejected: &RejectedRecord) -> Result<Record, TaskFailure> {
    let (tp, offset) = (&rejected.topic_partition, rejected.offset);
    let client = &context.shared.client;
    let fetched = client
        .fetch_batches(tp, offset, REFETCH_BYTES, Duration::ZERO)
        .await;
    let fetched = fetched.map_err(highwater_client::ConsumeError::from)?;
    let records = fetched
        .iter()
        .filter_map(Result::ok)
        .filter_map(|batch| batch.records(DecodeLimits::default()).ok());
    let mut records = records.flatten();
    records
        .find(|record| record.offset == offset)
        .ok_or_else(|| unknown(rejected))
}

struct Listener {
    parts: Arc<Parts>,
    core: Arc<Mutex<Core>>,
    consumer: Arc<std::sync::OnceLock<Weak<Consumer>>>,
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Listener of {:?}", self.parts.0.id)
    }
}

impl Listener {
    fn consumer(&self) -> Option<Arc<Consumer>> {
        self.consumer.get()?.upgrade()
    }

    async fn open(
        &self,
        core: &mut Core,
        consumer: &Consumer,
        partitions: &[TopicPartition],
    ) -> Result<(), TaskFailure> {
        let context = &self.parts.0;
        let mut retry = Retry::new(context.config.retry, "open");
        let starts = loop {
            match core.task.open(partitions).await {
                Ok(starts) => break starts,
                Err(error) => {
                    let wait = retry.after(context, error)?;
                    if !pause(context, wait).await {
                        return Ok(());
                    }
                }
            }
        };
        for (partition, offset) in &starts {
            consumer.seek(partition, *offset)?;
        }
        core.open.extend(partitions.iter().cloned());
        if core.holding || context.is_paused() {
            consumer.pause(partitions)?;
        }
        Ok(())
    }

    /// Flushes with retries, for as long as the run may take to stop.
    async fn flush(&self, core: &mut Core, consumer: &Consumer) -> Result<(), TaskFailure> {
        let context = &self.parts.0;
        let deadline = Instant::now() + context.shared.config.task_stop_timeout;
        let mut retry = Retry::new(context.config.retry, "flush");
        while let Err(error) = core.flush(context, consumer).await? {
            let wait = retry.after(context, error)?;
            if Instant::now() + wait > deadline {
                tracing::warn!(
                    connector = %context.id.connector, task = context.id.task,
                    "partitions are given up without a flush; their last records will come again"
                );
                return Ok(());
            }
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    async fn close(&self, partitions: &[TopicPartition], may_commit: bool) {
        let mut core = self.core.lock().await;
        if core.closed {
            return;
        }
        let mut outcome = Ok(());
        if may_commit && let Some(consumer) = self.consumer() {
            outcome = self.flush(&mut core, &consumer).await;
        }
        core.forget(partitions);
        let closed = core.task.close(partitions).await;
        let closed = closed.map_err(|source| TaskFailure::Task {
            stage: "close",
            source,
        });
        if let Err(failure) = outcome.and(closed) {
            core.failure.get_or_insert(failure);
        }
    }
}

#[async_trait]
impl RebalanceListener for Listener {
    async fn partitions_revoked(&self, partitions: &[TopicPartition]) {
        self.close(partitions, true).await;
    }

    async fn partitions_lost(&self, partitions: &[TopicPartition]) {
        self.close(partitions, false).await;
    }

    async fn partitions_assigned(&self, partitions: &[TopicPartition]) {
        let Some(consumer) = self.consumer().filter(|_| !partitions.is_empty()) else {
            return;
        };
        let mut core = self.core.lock().await;
        if core.closed {
            return;
        }
        if let Err(failure) = self.open(&mut core, &consumer, partitions).await {
            core.failure.get_or_insert(failure);
        }
    }
}

async fn consume(
    context: &TaskContext,
    parts: &Arc<Parts>,
    core: &Arc<Mutex<Core>>,
) -> Result<(), TaskFailure> {
    let Topics::Sink(topics) = &context.config.topics else {
        return Ok(()); // A sink always has these.
    };
    let consumer_slot = Arc::new(std::sync::OnceLock::new());
    let listener = Arc::new(Listener {
        parts: parts.clone(),
        core: core.clone(),
        consumer: consumer_slot.clone(),
    });
    let name = &context.id.connector;
    let consumer = Arc::new(context.shared.client.consumer(ConsumerConfig {
        group_instance_id: Some(format!("{name}-{}", context.id.task).into()),
        assignors: vec![Arc::new(CooperativeStickyAssignor)],
        listener: Some(listener.clone()),
        session_timeout: context.shared.config.session_timeout,
        // Topics that do not exist yet are looked for with every heartbeat.
        heartbeat_interval: MAX_HEARTBEAT_INTERVAL.min(context.shared.config.session_timeout / 4),
        auto_offset_reset: AutoOffsetReset::Earliest,
        enable_auto_commit: false,
        max_poll_records: MAX_BATCH_RECORDS,
        ..ConsumerConfig::in_group(ConnectorConfig::sink_group(name))
    })?);
    // Set once, here, before the first poll.
    let _ = consumer_slot.set(Arc::downgrade(&consumer));
    consumer.subscribe(topics.iter().cloned())?;
    context.report_activity().await;
    let mut sink = SinkRun {
        context,
        core,
        consumer: &consumer,
        retry: Retry::new(context.config.retry, "put"),
        flush_retry: Retry::new(context.config.retry, "flush"),
        next_flush: Instant::now() + context.shared.config.flush_interval,
        held_until: None,
        was_paused: context.is_paused(),
    };
    let outcome = sink.work().await;
    let finished = finish(&listener, core, &consumer, outcome.is_ok()).await;
    // Only the listener's short-lived handles could still be there, and no poll is under way.
    if let Some(consumer) = Arc::into_inner(consumer) {
        consumer.close().await;
    }
    outcome.and(finished)
}

/// The last flush and the end of all partitions.
async fn finish(
    listener: &Listener,
    core: &Mutex<Core>,
    consumer: &Consumer,
    may_commit: bool,
) -> Result<(), TaskFailure> {
    let mut core = core.lock().await;
    let mut outcome = Ok(());
    if may_commit {
        outcome = listener.flush(&mut core, consumer).await;
    }
    let open: Vec<TopicPartition> = core.open.iter().cloned().collect();
    core.forget(&open);
    core.closed = true;
    if !open.is_empty() {
        let closed = core.task.close(&open).await;
        outcome = outcome.and(closed.map_err(|source| TaskFailure::Task {
            stage: "close",
            source,
        }));
    }
    outcome
}

struct SinkRun<'a> {
    context: &'a TaskContext,
    core: &'a Mutex<Core>,
    consumer: &'a Consumer,
    retry: Retry,
    flush_retry: Retry,
    next_flush: Instant,
    /// The sink could not take the pending records; they are put again then.
    held_until: Option<Instant>,
    was_paused: bool,
}

impl SinkRun<'_> {
    async fn work(&mut self) -> Result<(), TaskFailure> {
        while !self.context.stop.is_cancelled() {
            self.follow_pause().await?;
            let now = Instant::now();
            let until_held = self.held_until.map(|until| until.saturating_duration_since(now));
            let until_flush = self.next_flush.saturating_duration_since(now);
            let wait = POLL_WAIT.min(until_flush).min(until_held.unwrap_or(POLL_WAIT));
            let polled = self.consumer.poll(wait).await?;
            let mut core = self.core.lock().await;
            if let Some(failure) = core.failure.take() {
                return Err(failure);
            }
            core.take(self.context, polled).await?;
            let now = Instant::now();
            if self.held_until.is_none_or(|until| until <= now) {
                let outcome = core.put(self.context).await?;
                self.after_put(&mut core, outcome)?;
            }
            if now >= self.next_flush {
                let outcome = core.flush(self.context, self.consumer).await?;
                self.after_flush(outcome)?;
            }
        }
        Ok(())
    }

    fn after_put(&mut self, core: &mut Core, outcome: Result<(), TaskError>) -> Result<(), TaskFailure> {
        match outcome {
            Ok(()) => {
                self.retry.succeeded();
                if self.held_until.take().is_some() {
                    core.holding = false;
                    if !self.context.is_paused() {
                        self.consumer.resume(&self.consumer.assignment())?;
                    }
                }
            }
            Err(error) => {
                let wait = self.retry.after(self.context, error)?;
                self.held_until = Some(Instant::now() + wait);
                // Polling goes on, so that the group stays whole; it brings nothing new meanwhile.
                core.holding = true;
                self.consumer.pause(&self.consumer.assignment())?;
            }
        }
        Ok(())
    }

    fn after_flush(&mut self, outcome: Result<(), TaskError>) -> Result<(), TaskFailure> {
        let wait = match outcome {
            Ok(()) => {
                self.flush_retry.succeeded();
                self.context.shared.config.flush_interval
            }
            Err(error) => self.flush_retry.after(self.context, error)?,
        };
        self.next_flush = Instant::now() + wait;
        Ok(())
    }

    /// Pausing flushes and commits first, and keeps connections and partitions.
    async fn follow_pause(&mut self) -> Result<(), TaskFailure> {
        let is_paused = self.context.is_paused();
        if is_paused == self.was_paused {
            return Ok(());
        }
        self.was_paused = is_paused;
        let mut core = self.core.lock().await;
        if is_paused {
            self.consumer.pause(&self.consumer.assignment())?;
            let outcome = core.flush(self.context, self.consumer).await?;
            self.after_flush(outcome)?;
        } else if !core.holding {
            self.consumer.resume(&self.consumer.assignment())?;
        }
        drop(core);
        self.context.report_activity().await;
        Ok(())
    }
}
