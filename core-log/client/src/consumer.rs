//! Reading records: partitions by group membership or by choice, fetched ahead in the background, given out by poll.
//!
//! # Invariants
//! - Records of a partition come in offset order, each once per assignment unless a seek goes back.
//! - The rebalance listener runs inside `poll`, `unsubscribe` or `close` and nowhere else.
//!
//! Reading order: [`ConsumerConfig`], [`Consumer`], `positions` (what is read and how far), `fetcher`, `decode`,
//! `group` and `coordinator` (membership and offsets), `assignor`, `protocol`.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use highwater_types::{
    ByteString, Offset, TopicName, TopicPartition,
    record::{DecodeLimits, Record},
};
use tokio::{sync::Notify, task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{ClientError, ClusterView, ConsumeError, IsolationLevel, client::ClientCore, limits};

pub mod assignor;
pub(crate) mod coordinator;
mod decode;
mod fetcher;
mod group;
mod positions;
pub(crate) mod protocol;

use assignor::{Assignor, CooperativeStickyAssignor, RangeAssignor, RebalanceProtocol};
use coordinator::{CommittedOffset, CommittedOffsets, Coordinator};
use group::{Event, GroupBoard};
use positions::{Positions, ResetTo};

/// `auto.offset.reset`: where a partition starts that has no committed offset, or one outside the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AutoOffsetReset {
    /// The first record in the log.
    Earliest,
    /// The end of the log. Kafka's default.
    #[default]
    Latest,
    /// An error from poll.
    None,
}

/// Settings of a consumer; `Default` gives Kafka's.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// `group.id`; needed for `subscribe` and for commits.
    pub group_id: Option<ByteString>,
    /// `group.instance.id`: makes a static member, whose restart moves no partitions (KIP-345).
    pub group_instance_id: Option<ByteString>,
    /// `partition.assignment.strategy`, best liked first. The group cooperates only if all of them do.
    pub assignors: Vec<Arc<dyn Assignor>>,
    /// Told about partitions coming and going.
    pub listener: Option<Arc<dyn RebalanceListener>>,
    /// `session.timeout.ms`: silence after which the coordinator drops this member.
    pub session_timeout: Duration,
    /// `heartbeat.interval.ms`.
    pub heartbeat_interval: Duration,
    /// `max.poll.interval.ms`: a caller that polls less often than this loses its partitions.
    pub max_poll_interval: Duration,
    /// `auto.offset.reset`.
    pub auto_offset_reset: AutoOffsetReset,
    /// `isolation.level`.
    pub isolation_level: IsolationLevel,
    /// `enable.auto.commit`: commit what earlier polls gave out, at intervals, before giving partitions up, and at
    /// the end.
    pub enable_auto_commit: bool,
    /// `auto.commit.interval.ms`.
    pub auto_commit_interval: Duration,
    /// `max.poll.records`.
    pub max_poll_records: usize,
    /// `fetch.min.bytes`.
    pub fetch_min_bytes: usize,
    /// `fetch.max.bytes` per request, a soft limit (semantic 43).
    pub fetch_max_bytes: usize,
    /// `fetch.max.wait.ms`: how long a broker may wait for `fetch_min_bytes`.
    pub fetch_max_wait: Duration,
    /// `max.partition.fetch.bytes`, a soft limit (semantic 43).
    pub max_partition_fetch_bytes: usize,
    /// No fetch is started while more than this is buffered and not yet polled.
    pub max_buffered_bytes: usize,
    /// `client.rack`.
    pub rack_id: Option<ByteString>,
    /// How far a compressed batch may grow.
    pub decode_limits: DecodeLimits,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        Self {
            group_id: None,
            group_instance_id: None,
            assignors: vec![Arc::new(RangeAssignor), Arc::new(CooperativeStickyAssignor)],
            listener: None,
            session_timeout: Duration::from_secs(45),
            heartbeat_interval: Duration::from_secs(3),
            max_poll_interval: Duration::from_secs(300),
            auto_offset_reset: AutoOffsetReset::Latest,
            isolation_level: IsolationLevel::ReadUncommitted,
            enable_auto_commit: true,
            auto_commit_interval: Duration::from_secs(5),
            max_poll_records: 500,
            fetch_min_bytes: 1,
            fetch_max_bytes: 50 << 20,
            fetch_max_wait: Duration::from_millis(500),
            max_partition_fetch_bytes: 1 << 20,
            max_buffered_bytes: 64 << 20,
            rack_id: None,
            decode_limits: DecodeLimits::default(),
        }
    }
}

impl ConsumerConfig {
    /// Kafka's defaults in a group.
    pub fn in_group(group_id: impl Into<ByteString>) -> Self {
        Self {
            group_id: Some(group_id.into()),
            ..Self::default()
        }
    }

    fn protocol(&self) -> RebalanceProtocol {
        let cooperative =
            |assignor: &Arc<dyn Assignor>| assignor.protocol() == RebalanceProtocol::Cooperative;
        if self.assignors.iter().all(cooperative) {
            RebalanceProtocol::Cooperative
        } else {
            RebalanceProtocol::Eager
        }
    }

    fn check(&self) -> Result<(), ClientError> {
        let refuse = |name, value: String, problem| Err(ClientError::InvalidConfig { name, value, problem });
        if self.assignors.is_empty() {
            return refuse(
                "partition.assignment.strategy",
                "[]".to_owned(),
                "name at least one assignor",
            );
        }
        if self.heartbeat_interval >= self.session_timeout {
            let value = format!("{:?}", self.heartbeat_interval);
            return refuse("heartbeat.interval.ms", value, "use less than session.timeout.ms");
        }
        if self.max_poll_records == 0 {
            return refuse("max.poll.records", "0".to_owned(), "use 1 or more");
        }
        Ok(())
    }
}

/// Learns about partitions coming and going, inside `poll`. Offsets of revoked partitions can still be committed in
/// `partitions_revoked`, those of lost ones cannot.
#[async_trait]
pub trait RebalanceListener: std::fmt::Debug + Send + Sync + 'static {
    /// These are given up now. Auto-commit has happened already. May be called again if the poll was cancelled.
    async fn partitions_revoked(&self, partitions: &[TopicPartition]);
    /// These are new; seeking them here decides where they start.
    async fn partitions_assigned(&self, partitions: &[TopicPartition]);
    /// These belong to somebody else already.
    async fn partitions_lost(&self, partitions: &[TopicPartition]) {
        self.partitions_revoked(partitions).await;
    }
}

/// Records of one partition, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionRecords {
    /// Where they come from.
    pub topic_partition: TopicPartition,
    /// At least one.
    pub records: Vec<Record>,
    /// One past the last record every in-sync replica has, as of the fetch.
    pub high_watermark: Option<Offset>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Unset,
    Subscribed,
    Assigned,
}

/// What the caller's side and the background tasks share.
#[derive(Debug)]
struct Shared {
    core: Arc<ClientCore>,
    config: Arc<ConsumerConfig>,
    coordinator: Option<Arc<Coordinator>>,
    group: GroupBoard,
    positions: Mutex<Positions>,
    errors: Mutex<VecDeque<ConsumeError>>,
    told: Mutex<Told>,
    /// Wakes poll: records, an error, or an event of the group.
    ready: Notify,
    /// Wakes the fetcher: something else is to be read.
    work: Notify,
    /// Wakes whoever waits for a position.
    progress: Notify,
    closed: CancellationToken,
}

/// Refusals that poll has returned or will return, so that each is told once.
#[derive(Debug, Default)]
struct Told {
    /// Topics that the cluster does not show.
    hidden: BTreeSet<TopicName>,
    /// Topics that it shows and does not give records of.
    unreadable: BTreeSet<TopicName>,
}

impl Shared {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Lets poll tell of those of `topics` that the cluster refuses to show, each once until it is shown.
    fn tell_hidden<'a>(&self, view: &ClusterView, topics: impl IntoIterator<Item = &'a TopicName>) {
        let mut told = self.told();
        let mut failures = Vec::new();
        for topic in topics {
            let refusal = view.refusal_code(topic);
            match refusal.and_then(|code| ConsumeError::of_topic(topic, code)) {
                Some(error) if told.hidden.insert(topic.clone()) => failures.push(error),
                Some(_) => {}
                None => drop(told.hidden.remove(topic)),
            }
        }
        drop(told);
        self.report(failures);
    }

    fn positions(&self) -> MutexGuard<'_, Positions> {
        self.positions
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn errors(&self) -> MutexGuard<'_, VecDeque<ConsumeError>> {
        self.errors
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Lets poll return these.
    fn report(&self, failures: impl IntoIterator<Item = ConsumeError>) {
        const MAX_ERRORS: usize = 64; // a caller that does not poll sees the first ones
        let mut errors = self.errors();
        let before = errors.len();
        for failure in failures {
            let is_repeated = failure.is_refusal() && {
                let words = failure.to_string();
                errors.iter().any(|known| known.to_string() == words)
            };
            if !is_repeated {
                errors.push_back(failure);
            }
        }
        errors.truncate(MAX_ERRORS);
        if errors.len() > before {
            self.ready.notify_one();
        }
    }

    fn consumed(&self) -> CommittedOffsets {
        let consumed = self.positions().consumed();
        let committed = |(offset, leader_epoch): (Offset, _)| CommittedOffset {
            leader_epoch,
            ..offset.into()
        };
        consumed
            .into_iter()
            .map(|(tp, position)| (tp, committed(position)))
            .collect()
    }
}

/// What only one poll at a time touches.
#[derive(Debug)]
struct Turn {
    event: Option<Event>,
    next_auto_commit: Instant,
}

/// Reads records. One caller polls; everything else may be called from anywhere. Dropping it stops reading and
/// leaves the group in the background, [`Consumer::close`] also commits and waits.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    mode: Mutex<Mode>,
    turn: tokio::sync::Mutex<Turn>,
    auto_committing: Arc<AtomicBool>,
    group_task: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.closed.cancel();
    }
}

impl Consumer {
    pub(crate) fn start(core: Arc<ClientCore>, config: ConsumerConfig) -> Result<Self, ConsumeError> {
        config.check()?;
        let coordinator = config.group_id.clone().map(|group| {
            Arc::new(Coordinator::new(
                core.clone(),
                group,
                config.group_instance_id.clone(),
            ))
        });
        let shared = Arc::new(Shared {
            group: GroupBoard::new(),
            positions: Mutex::new(Positions::new(config.auto_offset_reset, coordinator.is_some())),
            errors: Mutex::default(),
            told: Mutex::default(),
            ready: Notify::new(),
            work: Notify::new(),
            progress: Notify::new(),
            closed: CancellationToken::new(),
            coordinator: coordinator.clone(),
            core,
            config: Arc::new(config),
        });
        tokio::spawn(fetcher::run(shared.clone()));
        let group_task = coordinator.map(|coordinator| tokio::spawn(group::run(shared.clone(), coordinator)));
        let next_auto_commit = Instant::now() + shared.config.auto_commit_interval;
        Ok(Self {
            shared,
            mode: Mutex::new(Mode::Unset),
            turn: tokio::sync::Mutex::new(Turn {
                event: None,
                next_auto_commit,
            }),
            auto_committing: Arc::default(),
            group_task: Mutex::new(group_task),
        })
    }

    fn enter(&self, wanted: Mode) -> Result<(), ConsumeError> {
        let mut mode = self.mode.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if *mode != Mode::Unset && *mode != wanted {
            return Err(ConsumeError::MixedSubscription);
        }
        *mode = wanted;
        Ok(())
    }

    fn coordinator(&self, operation: &'static str) -> Result<&Arc<Coordinator>, ConsumeError> {
        self.shared
            .coordinator
            .as_ref()
            .ok_or(ConsumeError::NoGroup { operation })
    }

    /// Reads these topics together with the other members of the group. Replaces an earlier subscription.
    ///
    /// # Errors
    /// [`ConsumeError::NoGroup`], [`ConsumeError::MixedSubscription`].
    pub fn subscribe(&self, topics: impl IntoIterator<Item = TopicName>) -> Result<(), ConsumeError> {
        self.coordinator("subscribe")?;
        self.enter(Mode::Subscribed)?;
        let topics: BTreeSet<TopicName> = topics.into_iter().collect();
        *self.shared.told() = Told::default();
        self.shared.group.subscribe(topics.into_iter().collect());
        Ok(())
    }

    /// Reads exactly these partitions, without a group. Replaces an earlier assignment; partitions that stay keep
    /// their positions.
    ///
    /// # Errors
    /// [`ConsumeError::MixedSubscription`].
    pub fn assign(&self, partitions: impl IntoIterator<Item = TopicPartition>) -> Result<(), ConsumeError> {
        self.enter(Mode::Assigned)?;
        *self.shared.told() = Told::default();
        self.shared.positions().replace(partitions.into_iter().collect());
        self.shared.work.notify_one();
        Ok(())
    }

    /// Gives everything up; afterwards `subscribe` and `assign` are both possible again.
    pub async fn unsubscribe(&self) {
        let mut turn = self.turn.lock().await;
        turn.event = None;
        drop(self.shared.group.take_event());
        self.give_up_everything().await;
        self.shared.group.subscribe(Vec::new());
        *self.mode.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Mode::Unset;
    }

    /// Topics of the subscription.
    pub fn subscription(&self) -> Vec<TopicName> {
        self.shared.group.topics()
    }

    /// Partitions being read.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.positions().assigned()
    }

    /// Records that are ready, or the first ones to come within `max_wait`; nothing when none came. Also runs the
    /// rebalance listener and auto-commit, so it must be called at least every `max_poll_interval`.
    ///
    /// # Errors
    /// [`ConsumeError`]; polling goes on afterwards unless the error says what to do first.
    pub async fn poll(&self, max_wait: Duration) -> Result<Vec<PartitionRecords>, ConsumeError> {
        let deadline = Instant::now() + max_wait;
        let mut turn = self.turn.lock().await;
        let _polling = self.shared.group.begin_poll();
        self.auto_commit_if_due(&mut turn);
        loop {
            self.serve_group(&mut turn).await;
            if self.shared.closed.is_cancelled() {
                return Err(ConsumeError::Closed);
            }
            if let Some(error) = self.shared.errors().pop_front() {
                return Err(error);
            }
            let taken = self
                .shared
                .positions()
                .take(self.shared.config.max_poll_records)?;
            // Control batches move positions without records, so there may be room to fetch either way.
            self.shared.work.notify_one();
            if !taken.is_empty() {
                return Ok(taken);
            }
            let waited = tokio::time::timeout_at(deadline, self.shared.ready.notified()).await;
            if waited.is_err() {
                return Ok(Vec::new());
            }
        }
    }

    /// Runs what the group asks for. An event stays until it is done, also over a poll that was cancelled.
    async fn serve_group(&self, turn: &mut Turn) {
        loop {
            if turn.event.is_none() {
                turn.event = self.shared.group.take_event();
            }
            match &turn.event {
                None => return,
                Some(Event::Revoke { .. }) => self.give_up_everything().await,
                Some(Event::Lose { .. }) => self.lose_everything().await,
                Some(Event::Assign { partitions, .. }) => {
                    // An assignment that was under way when the caller unsubscribed is not taken over.
                    let unsubscribed = self.shared.group.topics().is_empty();
                    let revoked = self.take_over(if unsubscribed { &[] } else { partitions }).await;
                    if let Some(Event::Assign { done, .. }) = turn.event.take() {
                        let _ = done.send(revoked); // the group task may have ended
                    }
                    continue;
                }
            }
            if let Some(Event::Revoke { done } | Event::Lose { done }) = turn.event.take() {
                let _ = done.send(()); // the group task may have ended
            }
        }
    }

    async fn give_up_everything(&self) {
        let partitions = self.assignment();
        self.give_up(&partitions).await;
    }

    async fn give_up(&self, partitions: &[TopicPartition]) {
        if partitions.is_empty() {
            return;
        }
        if self.shared.config.enable_auto_commit {
            self.auto_commit_now(Some(partitions)).await;
        }
        if let Some(listener) = &self.shared.config.listener {
            listener.partitions_revoked(partitions).await;
        }
        self.shared.positions().remove(partitions);
    }

    async fn lose_everything(&self) {
        let partitions = self.assignment();
        if let Some(listener) = self
            .shared
            .config
            .listener
            .as_ref()
            .filter(|_| !partitions.is_empty())
        {
            listener.partitions_lost(&partitions).await;
        }
        self.shared.positions().remove(&partitions);
    }

    /// Makes `assigned` what is read; true when something had to be given up for it.
    async fn take_over(&self, assigned: &[TopicPartition]) -> bool {
        let owned: BTreeSet<TopicPartition> = self.assignment().into_iter().collect();
        let assigned: BTreeSet<TopicPartition> = assigned.iter().cloned().collect();
        let revoked: Vec<TopicPartition> = owned.difference(&assigned).cloned().collect();
        let added: Vec<TopicPartition> = assigned.difference(&owned).cloned().collect();
        self.give_up(&revoked).await;
        self.shared.positions().add(added.iter().cloned());
        if let Some(listener) = &self.shared.config.listener {
            listener.partitions_assigned(&added).await;
        }
        self.shared.work.notify_one();
        !revoked.is_empty()
    }

    fn auto_commit_if_due(&self, turn: &mut Turn) {
        let config = &self.shared.config;
        let Some(coordinator) = self
            .shared
            .coordinator
            .clone()
            .filter(|_| config.enable_auto_commit)
        else {
            return;
        };
        let now = Instant::now();
        if now < turn.next_auto_commit || self.auto_committing.swap(true, Ordering::AcqRel) {
            return;
        }
        turn.next_auto_commit = now + config.auto_commit_interval;
        let (offsets, committing) = (self.shared.consumed(), self.auto_committing.clone());
        // In the background: a slow coordinator does not hold up records.
        tokio::spawn(async move {
            if let Err(error) = coordinator.commit(&offsets).await {
                tracing::debug!(group = %coordinator.group_id(), %error, "auto-commit failed");
            }
            committing.store(false, Ordering::Release);
        });
    }

    async fn auto_commit_now(&self, only: Option<&[TopicPartition]>) {
        let Some(coordinator) = &self.shared.coordinator else {
            return;
        };
        let mut offsets = self.shared.consumed();
        if let Some(only) = only {
            offsets.retain(|tp, _| only.contains(tp));
        }
        if let Err(error) = coordinator.commit(&offsets).await {
            tracing::warn!(group = %coordinator.group_id(), %error, "final auto-commit failed");
        }
    }

    /// Commits offsets of the group: for each partition the next record to read.
    ///
    /// # Errors
    /// [`ConsumeError::CommitRefused`] when the group moved on, [`ConsumeError::NoGroup`], [`ConsumeError::Client`]
    /// after `api_timeout`.
    pub async fn commit(&self, offsets: CommittedOffsets) -> Result<(), ConsumeError> {
        self.coordinator("commit")?.commit(&offsets).await
    }

    /// Commits the positions, that is, everything poll has given out.
    ///
    /// # Errors
    /// As [`Consumer::commit`].
    pub async fn commit_consumed(&self) -> Result<(), ConsumeError> {
        let offsets = self.shared.consumed();
        self.commit(offsets).await
    }

    /// The group's committed offsets; partitions without one are missing.
    ///
    /// # Errors
    /// [`ConsumeError::NoGroup`], [`ConsumeError::Client`] after `api_timeout`.
    pub async fn committed(
        &self,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<CommittedOffsets, ConsumeError> {
        let partitions = partitions.into_iter().collect();
        let isolation = self.shared.config.isolation_level;
        let coordinator = self.coordinator("committed")?;
        Ok(coordinator.fetch_committed(Some(&partitions), isolation).await?)
    }

    /// Makes `offset` the next record of the partition to read.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn seek(&self, partition: &TopicPartition, offset: Offset) -> Result<(), ConsumeError> {
        self.shared.positions().seek(partition, offset)?;
        self.shared.work.notify_one();
        self.shared.progress.notify_waiters();
        Ok(())
    }

    /// Goes to the first record in the log.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn seek_to_beginning(&self, partitions: &[TopicPartition]) -> Result<(), ConsumeError> {
        self.seek_to(partitions, ResetTo::Beginning)
    }

    /// Goes behind the last readable record.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn seek_to_end(&self, partitions: &[TopicPartition]) -> Result<(), ConsumeError> {
        self.seek_to(partitions, ResetTo::End)
    }

    fn seek_to(&self, partitions: &[TopicPartition], target: ResetTo) -> Result<(), ConsumeError> {
        let mut positions = self.shared.positions();
        partitions
            .iter()
            .try_for_each(|tp| positions.seek_to(tp, target))?;
        drop(positions);
        self.shared.work.notify_one();
        Ok(())
    }

    /// Stops giving out records of these partitions until `resume`.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn pause(&self, partitions: &[TopicPartition]) -> Result<(), ConsumeError> {
        let mut positions = self.shared.positions();
        partitions
            .iter()
            .try_for_each(|tp| positions.set_paused(tp, true))
    }

    /// Goes on after `pause`; what was fetched before is still there.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`].
    pub fn resume(&self, partitions: &[TopicPartition]) -> Result<(), ConsumeError> {
        let mut positions = self.shared.positions();
        partitions
            .iter()
            .try_for_each(|tp| positions.set_paused(tp, false))?;
        drop(positions);
        self.shared.work.notify_one();
        self.shared.ready.notify_one();
        Ok(())
    }

    /// Partitions that are paused.
    pub fn paused(&self) -> Vec<TopicPartition> {
        self.shared.positions().paused()
    }

    /// The next record to be given out; waits while it is being looked up.
    ///
    /// # Errors
    /// [`ConsumeError::NotAssigned`], [`ConsumeError::PositionTimedOut`] after `api_timeout`.
    pub async fn position(&self, partition: &TopicPartition) -> Result<Offset, ConsumeError> {
        let timeout = self.shared.core.config.api_timeout;
        let deadline = Instant::now() + timeout;
        loop {
            let progress = self.shared.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            if let Some(offset) = self.shared.positions().position(partition)? {
                return Ok(offset);
            }
            if tokio::time::timeout_at(deadline, progress).await.is_err() {
                let topic_partition = partition.clone();
                return Err(ConsumeError::PositionTimedOut {
                    topic_partition,
                    timeout,
                });
            }
        }
    }

    /// Records between position and the end of what may be read, as of the last fetch; partitions not fetched yet
    /// are missing.
    pub fn lag(&self) -> BTreeMap<TopicPartition, i64> {
        self.shared.positions().lag()
    }

    /// Commits (if auto-commit is on), runs the listener, leaves the group and waits for that.
    pub async fn close(self) {
        let mut turn = self.turn.lock().await;
        turn.event = None;
        let closing = async {
            self.give_up_everything().await;
            self.shared.closed.cancel();
            let task = self
                .group_task
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .take();
            if let Some(task) = task {
                let _ = task.await; // a panic there has been reported by the runtime
            }
        };
        if tokio::time::timeout(limits::CLOSE_TIMEOUT, closing)
            .await
            .is_err()
        {
            tracing::warn!("consumer did not leave its group in time");
        }
    }
}

#[cfg(test)]
mod tests;
