//! Membership in a consumer group: one background task that joins, syncs, heartbeats and leaves. What concerns the
//! caller's code (giving partitions up, taking them over) is handed to poll, which runs the listener there, as
//! Kafka's consumer does.
//!
//! ```text
//!   idle --first poll--> joining --JoinGroup--> syncing --SyncGroup--> taking over --done--> stable
//!    ^                    ^                                               |                    |
//!    |                    +------- cooperative: something was given up ---+                    |
//!    |                    +------- rebalance, lost membership, other topics -------------------+
//!    +------------- nothing subscribed, polled too seldom ------------------------------------+
//! ```
//!
//! # Invariants
//! - Heartbeats go out in every state that has a generation, also while the caller is slow to poll, so that a
//!   membership is lost only by `max_poll_interval` or silence of the coordinator.
//! - Under the eager protocol no partition is held while joining; under the cooperative one only what was assigned
//!   by the last generation this member saw.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use highwater_types::{ByteString, Bytes, GenerationId, TopicName, TopicPartition};
use highwater_wire::{
    ApiKey, ErrorCode,
    messages::{
        HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, SyncGroupRequest,
        join_group_request::JoinGroupRequestProtocol, leave_group_request::MemberIdentity,
        sync_group_request::SyncGroupRequestAssignment,
    },
};
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use super::{
    Shared,
    assignor::{Assignor, MemberSubscription, PartitionCounts, RebalanceProtocol},
    coordinator::{Coordinator, Identity, is_coordinator_trouble},
    protocol,
};
use crate::{ClientError, ConsumeError, TransportError, backoff::Backoff, metadata::ClusterView};

/// Extra time for the answer of a join beyond what the coordinator may hold it back.
const JOIN_GRACE: Duration = Duration::from_secs(5);

/// What poll has to do for the group.
#[derive(Debug)]
pub(super) enum Event {
    /// Give up everything before joining (eager).
    Revoke { done: oneshot::Sender<()> },
    /// Everything was taken away already.
    Lose { done: oneshot::Sender<()> },
    /// This is what to read now; answers whether anything was given up.
    Assign {
        partitions: Vec<TopicPartition>,
        done: oneshot::Sender<bool>,
    },
}

/// What poll and the group task share.
#[derive(Debug)]
pub(super) struct GroupBoard {
    state: Mutex<BoardState>,
    /// Wakes the group task.
    changed: Notify,
}

#[derive(Debug)]
struct BoardState {
    topics: Vec<TopicName>,
    topics_version: u64,
    last_poll: Option<Instant>,
    polling: bool,
    event: Option<Event>,
}

impl GroupBoard {
    pub(super) fn new() -> Self {
        let state = BoardState {
            topics: Vec::new(),
            topics_version: 0,
            last_poll: None,
            polling: false,
            event: None,
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, BoardState> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn subscribe(&self, topics: Vec<TopicName>) {
        let mut state = self.state();
        state.topics = topics;
        state.topics_version += 1;
        drop(state);
        self.changed.notify_one();
    }

    pub(super) fn topics(&self) -> Vec<TopicName> {
        self.state().topics.clone()
    }

    /// Poll begins; the guard ends it. A poll that is under way counts as polling all the time.
    pub(super) fn begin_poll(&self) -> PollGuard<'_> {
        let mut state = self.state();
        let first = state.last_poll.is_none();
        state.last_poll = Some(Instant::now());
        state.polling = true;
        drop(state);
        if first {
            self.changed.notify_one();
        }
        PollGuard { board: self }
    }

    pub(super) fn take_event(&self) -> Option<Event> {
        self.state().event.take()
    }

    fn post(&self, event: Event) {
        self.state().event = Some(event);
    }

    /// How long the caller has not polled.
    fn idle_for(&self) -> Option<Duration> {
        let state = self.state();
        if state.polling {
            Some(Duration::ZERO)
        } else {
            state.last_poll.map(|at| at.elapsed())
        }
    }
}

#[derive(Debug)]
pub(super) struct PollGuard<'a> {
    board: &'a GroupBoard,
}

impl Drop for PollGuard<'_> {
    fn drop(&mut self) {
        let mut state = self.board.state();
        state.polling = false;
        state.last_poll = Some(Instant::now());
    }
}

/// Why a membership episode ended.
#[derive(Debug)]
enum End {
    /// Join again with what we have.
    Rejoin,
    /// The coordinator does not know us in this generation any more.
    Lost { code: ErrorCode },
    /// Nothing is subscribed any more.
    Unsubscribed,
    /// The caller stopped polling.
    Idle,
    /// No use in going on.
    Fatal(ConsumeError),
}

/// What a generation gave us.
struct Joined {
    generation: GenerationId,
    /// The topics the leader distributed, with their sizes; empty for followers.
    distributed: Option<PartitionCounts>,
    topics_version: u64,
}

pub(super) async fn run(shared: Arc<Shared>, coordinator: Arc<Coordinator>) {
    let backoff = Backoff::new(
        shared.core.config.retry_backoff,
        shared.core.config.retry_backoff_max,
    );
    let closed = shared.closed.clone();
    let mut member = Membership {
        shared,
        coordinator,
        member_id: ByteString::new(),
        generation: None,
        backoff,
    };
    tokio::select! {
        () = closed.cancelled() => {}
        () = member.run() => {}
    }
    member.leave("the consumer is closing").await;
}

struct Membership {
    shared: Arc<Shared>,
    coordinator: Arc<Coordinator>,
    member_id: ByteString,
    generation: Option<GenerationId>,
    backoff: Backoff,
}

impl Membership {
    async fn run(&mut self) {
        loop {
            self.wait_until_wanted().await;
            match self.episode().await {
                End::Rejoin => {}
                End::Lost { code } => self.lose(code).await,
                End::Unsubscribed => self.leave("nothing is subscribed").await,
                End::Idle => self.leave_idle().await,
                End::Fatal(error) => {
                    // Access is given and taken while members run; whoever goes on polling is let in then.
                    let may_pass = error.is_refusal();
                    tracing::debug!(group = %self.coordinator.group_id(), %error, "group membership ended");
                    self.shared.report([error]);
                    self.post(|done| Event::Lose { done }).await;
                    self.forget_membership();
                    let pause = self.shared.core.config.retry_backoff_max;
                    tokio::select! {
                        () = self.wait_for_other_topics() => {}
                        () = tokio::time::sleep(pause), if may_pass => {}
                    }
                }
            }
        }
    }

    async fn wait_until_wanted(&self) {
        loop {
            {
                let state = self.shared.group.state();
                if !state.topics.is_empty() && state.last_poll.is_some() {
                    return;
                }
            }
            self.shared.group.changed.notified().await;
        }
    }

    async fn wait_for_other_topics(&self) {
        let version = self.shared.group.state().topics_version;
        while self.shared.group.state().topics_version == version {
            self.shared.group.changed.notified().await;
        }
    }

    /// From joining to the end of the generation.
    async fn episode(&mut self) -> End {
        match self.join_and_sync().await {
            Ok(joined) => self.stable(joined).await,
            Err(end) => end,
        }
    }

    async fn join_and_sync(&mut self) -> Result<Joined, End> {
        if self.shared.config.protocol() == RebalanceProtocol::Eager && !self.shared.positions().is_empty() {
            self.with_heartbeats(self.post(|done| Event::Revoke { done }))
                .await;
        }
        let (topics, topics_version) = {
            let state = self.shared.group.state();
            (state.topics.clone(), state.topics_version)
        };
        if topics.is_empty() {
            return Err(End::Unsubscribed);
        }
        // Whoever does not lead would never learn that some of its topics are not for it. A failure to ask shows in
        // what follows.
        if let Ok(view) = self.shared.core.metadata.ensure(&topics).await {
            self.shared.tell_hidden(&view, &topics);
        }
        let response = self.join(&topics).await?;
        let generation = GenerationId::new(response.generation_id);
        self.member_id = response.member_id.clone();
        self.generation = Some(generation);
        let assignor = self.chosen(&response)?;
        let leads = response.leader == response.member_id && !response.skip_assignment;
        let (distributed, assignments) = match leads {
            true => {
                let (counts, assignments) = self.distribute(&*assignor, &response).await?;
                (Some(counts), assignments)
            }
            false => (None, Vec::new()),
        };
        let assignment = self.sync(&response, assignments).await?;
        self.coordinator.set_identity(Some(Identity {
            member_id: self.member_id.clone(),
            generation,
        }));
        self.backoff.reset();
        let decoded = protocol::decode_assignment(self.member_id.clone(), assignment);
        let assignment = decoded.map_err(|source| self.undecodable(ApiKey::SyncGroup, source))?;
        tracing::info!(
            group = %self.coordinator.group_id(), %generation, partitions = assignment.partitions.len(),
            "partitions assigned"
        );
        assignor.on_assignment(&assignment, generation);
        let partitions = assignment.partitions;
        let revoked = self
            .with_heartbeats(self.post(|done| Event::Assign { partitions, done }))
            .await;
        if revoked.unwrap_or(false) && self.shared.config.protocol() == RebalanceProtocol::Cooperative {
            return Err(End::Rejoin);
        }
        Ok(Joined {
            generation,
            distributed,
            topics_version,
        })
    }

    /// Hands an event to poll and waits for it; `None` when the consumer went away meanwhile.
    fn post<T, F>(&self, event: F) -> impl Future<Output = Option<T>> + use<T, F>
    where
        F: FnOnce(oneshot::Sender<T>) -> Event,
    {
        let (done, answer) = oneshot::channel();
        self.shared.group.post(event(done));
        self.shared.ready.notify_one();
        async move { answer.await.ok() }
    }

    /// Waits for `work` while heartbeats keep the membership alive; what they answer shows in the next state.
    async fn with_heartbeats<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                outcome = &mut work => return outcome,
                () = tokio::time::sleep(self.shared.config.heartbeat_interval) => {
                    // A rebalance that begins meanwhile is answered by the next heartbeat, too.
                    let _ = self.heartbeat().await;
                }
            }
        }
    }

    async fn join(&mut self, topics: &[TopicName]) -> Result<JoinGroupResponse, End> {
        const API: ApiKey = ApiKey::JoinGroup;
        loop {
            let config = self.shared.config.clone();
            let ms = |duration: Duration| i32::try_from(duration.as_millis()).unwrap_or(i32::MAX);
            let request = JoinGroupRequest {
                group_id: self.coordinator.group_id().clone(),
                session_timeout_ms: ms(config.session_timeout),
                rebalance_timeout_ms: ms(config.max_poll_interval),
                member_id: self.member_id.clone(),
                group_instance_id: self.coordinator.group_instance_id(),
                protocol_type: protocol::PROTOCOL_TYPE,
                protocols: self.protocols(topics),
                ..Default::default()
            };
            let wait = config.max_poll_interval + JOIN_GRACE;
            let response = match self.coordinator.call(|_| request, wait).await {
                Ok(response) => response,
                Err(error) => {
                    self.retry(error).await?;
                    continue;
                }
            };
            match ErrorCode::from_code(response.error_code) {
                ErrorCode::None => return Ok(response),
                // The coordinator named us; now we may join (KIP-394).
                ErrorCode::MemberIdRequired => self.member_id = response.member_id,
                code => self.refused(API, code).await?,
            }
        }
    }

    /// One entry per assignor, best liked first.
    fn protocols(&self, topics: &[TopicName]) -> Vec<JoinGroupRequestProtocol> {
        let owned = self.shared.positions().assigned();
        let config = &self.shared.config;
        let entry = |assignor: &Arc<dyn Assignor>| JoinGroupRequestProtocol {
            name: assignor.name().into(),
            metadata: protocol::encode_subscription(&MemberSubscription {
                topics: topics.to_vec(),
                user_data: assignor.subscription_userdata(topics),
                owned_partitions: owned.clone(),
                generation: self.generation,
                rack_id: config.rack_id.clone(),
                ..Default::default()
            }),
        };
        config.assignors.iter().map(entry).collect()
    }

    fn chosen(&self, response: &JoinGroupResponse) -> Result<Arc<dyn Assignor>, End> {
        let name = response.protocol_name.clone().unwrap_or_default();
        let known = self
            .shared
            .config
            .assignors
            .iter()
            .find(|assignor| *assignor.name() == *name);
        known.cloned().ok_or_else(|| {
            let missing = format!("an assignor of this member; the group chose {name}");
            End::Fatal(
                ClientError::IncompleteResponse {
                    api: ApiKey::JoinGroup,
                    missing,
                }
                .into(),
            )
        })
    }

    /// The leader's work: everybody's topics, their sizes, the assignor.
    async fn distribute(
        &mut self,
        assignor: &dyn Assignor,
        response: &JoinGroupResponse,
    ) -> Result<(PartitionCounts, Vec<SyncGroupRequestAssignment>), End> {
        let members = response.members.iter().map(|member| {
            let (id, instance) = (member.member_id.clone(), member.group_instance_id.clone());
            protocol::decode_subscription(id, instance, member.metadata.clone())
        });
        let members: Vec<MemberSubscription> = members
            .collect::<Result<_, _>>()
            .map_err(|source| self.undecodable(ApiKey::JoinGroup, source))?;
        let mut topics: Vec<TopicName> = members.iter().flat_map(|m| m.topics.iter().cloned()).collect();
        topics.sort();
        topics.dedup();
        let view = loop {
            // Looked up now, not from the cache: a rebalance is often about a topic that has just appeared.
            match self.shared.core.metadata.refresh(&topics).await {
                Ok(view) => break view,
                Err(error) => self.retry(error).await?,
            }
        };
        let counts = partition_counts(&view, &topics);
        let assignments =
            assignor
                .assign(&counts, &members)
                .into_iter()
                .map(|assignment| SyncGroupRequestAssignment {
                    assignment: protocol::encode_assignment(&assignment),
                    member_id: assignment.member_id,
                });
        let assignments = assignments.collect();
        // Missing topics count as empty, so that their appearance is a change.
        let watched = topics.into_iter().map(|topic| {
            let count = counts.get(&topic).copied().unwrap_or(0);
            (topic, count)
        });
        Ok((watched.collect(), assignments))
    }

    async fn sync(
        &mut self,
        joined: &JoinGroupResponse,
        assignments: Vec<SyncGroupRequestAssignment>,
    ) -> Result<Bytes, End> {
        loop {
            let request = SyncGroupRequest {
                group_id: self.coordinator.group_id().clone(),
                generation_id: joined.generation_id,
                member_id: self.member_id.clone(),
                group_instance_id: self.coordinator.group_instance_id(),
                protocol_type: Some(protocol::PROTOCOL_TYPE),
                protocol_name: joined.protocol_name.clone(),
                assignments: assignments.clone(),
            };
            // Followers wait for their leader, who may take its share of the rebalance timeout.
            let wait = self.shared.config.max_poll_interval;
            match self.coordinator.call(|_| request, wait).await {
                Ok(response) => match ErrorCode::from_code(response.error_code) {
                    ErrorCode::None => return Ok(response.assignment),
                    ErrorCode::RebalanceInProgress => return Err(End::Rejoin),
                    code => self.refused(ApiKey::SyncGroup, code).await?,
                },
                Err(error) => self.retry(error).await?,
            }
        }
    }

    fn undecodable(&self, api: ApiKey, source: highwater_wire::DecodeError) -> End {
        let address = format!("group {}", self.coordinator.group_id());
        let error = TransportError::Decode {
            address,
            api,
            source: Arc::new(source),
        };
        End::Fatal(ClientError::from(error).into())
    }

    /// Waits before another attempt, or ends the episode.
    async fn retry(&mut self, error: ClientError) -> Result<(), End> {
        if !error.is_retriable() {
            let error = ConsumeError::of_group(self.coordinator.group_id(), error);
            return Err(End::Fatal(error));
        }
        let wait = self.backoff.next_wait();
        tracing::debug!(group = %self.coordinator.group_id(), %error, ?wait, "group request failed");
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Judges a refusal of join or sync: try again, or end the episode.
    async fn refused(&mut self, api: ApiKey, code: ErrorCode) -> Result<(), End> {
        match code {
            code if is_coordinator_trouble(code) => self.coordinator.forget(),
            ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration => return Err(End::Lost { code }),
            ErrorCode::FencedInstanceId => return Err(self.fenced()),
            _ => {}
        }
        self.retry(ClientError::broker(
            api,
            code,
            format!("group {}", self.coordinator.group_id()),
        ))
        .await
    }

    fn fenced(&self) -> End {
        End::Fatal(ConsumeError::Fenced {
            group_id: self.coordinator.group_id().clone(),
            instance_id: self.coordinator.group_instance_id().unwrap_or_default(),
        })
    }

    /// Heartbeats until something ends the generation.
    async fn stable(&mut self, joined: Joined) -> End {
        loop {
            tokio::select! {
                () = tokio::time::sleep(self.shared.config.heartbeat_interval) => {}
                () = self.shared.group.changed.notified() => {}
            }
            {
                let state = self.shared.group.state();
                if state.topics.is_empty() {
                    return End::Unsubscribed;
                }
                if state.topics_version != joined.topics_version {
                    return End::Rejoin;
                }
            }
            let max_poll_interval = self.shared.config.max_poll_interval;
            if self
                .shared
                .group
                .idle_for()
                .is_some_and(|idle| idle > max_poll_interval)
            {
                return End::Idle;
            }
            match self.heartbeat().await {
                Ok(ErrorCode::None) => {}
                Ok(ErrorCode::RebalanceInProgress) => return End::Rejoin,
                Ok(code @ (ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration)) => {
                    return End::Lost { code };
                }
                Ok(ErrorCode::FencedInstanceId) => return self.fenced(),
                Ok(ErrorCode::GroupAuthorizationFailed) => {
                    let group_id = self.coordinator.group_id().clone();
                    return End::Fatal(ConsumeError::GroupAuthorization { group_id });
                }
                Ok(code) if is_coordinator_trouble(code) => self.coordinator.forget(),
                Ok(code) => tracing::debug!(?code, generation = %joined.generation, "heartbeat refused"),
                Err(error) => tracing::debug!(%error, "heartbeat failed"),
            }
            if let Some(distributed) = &joined.distributed
                && self.topics_changed(distributed).await
            {
                return End::Rejoin;
            }
        }
    }

    /// Whether the topics this leader distributed have other sizes now. Those that did not exist are looked up with
    /// every heartbeat, the others as they age.
    async fn topics_changed(&self, distributed: &PartitionCounts) -> bool {
        let missing = distributed
            .iter()
            .filter(|(_, count)| **count == 0)
            .map(|(topic, _)| topic.clone());
        let missing: Vec<TopicName> = missing.collect();
        let topics: Vec<TopicName> = distributed.keys().cloned().collect();
        let view = match missing.is_empty() {
            true => self.shared.core.metadata.ensure(&topics).await,
            false => self.shared.core.metadata.refresh(&missing).await,
        };
        let Ok(view) = view else { return false };
        self.shared.tell_hidden(&view, &self.shared.group.topics());
        let counts = partition_counts(&view, &topics);
        // A topic that is gone for the moment is no reason to move partitions around.
        counts
            .iter()
            .any(|(topic, count)| distributed.get(topic) != Some(count))
    }

    async fn heartbeat(&self) -> Result<ErrorCode, ClientError> {
        let Some(generation) = self.generation else {
            return Ok(ErrorCode::None);
        };
        let request = HeartbeatRequest {
            group_id: self.coordinator.group_id().clone(),
            generation_id: generation.get(),
            member_id: self.member_id.clone(),
            group_instance_id: self.coordinator.group_instance_id(),
        };
        let response = self.coordinator.call(|_| request, Duration::ZERO).await?;
        Ok(ErrorCode::from_code(response.error_code))
    }

    async fn lose(&mut self, code: ErrorCode) {
        tracing::info!(group = %self.coordinator.group_id(), ?code, "membership lost, joining anew");
        let keeps_name = code == ErrorCode::IllegalGeneration;
        let member_id = self.member_id.clone();
        self.forget_membership();
        if keeps_name {
            self.member_id = member_id;
        }
        if !self.shared.positions().is_empty() {
            self.post(|done| Event::Lose { done }).await;
        }
    }

    fn forget_membership(&mut self) {
        self.member_id = ByteString::new();
        self.generation = None;
        self.coordinator.set_identity(None);
    }

    async fn leave_idle(&mut self) {
        let interval = self.shared.config.max_poll_interval;
        tracing::warn!(group = %self.coordinator.group_id(), ?interval, "not polled in time, leaving the group");
        self.leave("polled too seldom").await;
        // Ends when poll is called again, so the next episode begins with a caller that is back.
        self.post(|done| Event::Lose { done }).await;
    }

    /// Says goodbye, unless a static member only restarts (KIP-345). Nobody waits for the answer to matter.
    async fn leave(&mut self, reason: &'static str) {
        let is_static = self.coordinator.group_instance_id().is_some();
        if !self.member_id.is_empty() && !is_static {
            let (group_id, member_id) = (self.coordinator.group_id().clone(), self.member_id.clone());
            let request = |version: i16| {
                let mut request = LeaveGroupRequest {
                    group_id,
                    ..Default::default()
                };
                if version >= 3 {
                    let reason = Some(ByteString::from_static(reason));
                    request.members = vec![MemberIdentity {
                        member_id,
                        reason,
                        ..Default::default()
                    }];
                } else {
                    request.member_id = member_id;
                }
                request
            };
            if let Err(error) = self.coordinator.call_aside(request).await {
                tracing::debug!(%error, "leaving the group was not acknowledged");
            }
        }
        self.forget_membership();
    }
}

fn partition_counts(view: &ClusterView, topics: &[TopicName]) -> PartitionCounts {
    let count = |topic: &TopicName| {
        let partitions = view.topics.get(topic)?.partitions.len();
        Some((topic.clone(), u32::try_from(partitions).ok()?))
    };
    topics.iter().filter_map(count).collect::<BTreeMap<_, _>>()
}
