//! The background task that finds positions and keeps a bounded amount of decoded records ready, so that poll seldom
//! waits for the network.
//!
//! # Invariants
//! - At most [`FETCHES_PER_BROKER`] fetches per broker are under way, each on its own connection: while one waits at
//!   the broker for idle partitions, another can bring records of busy ones.
//! - What was asked under an old token of a partition is dropped by [`Positions`](super::positions::Positions).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use highwater_types::{ByteString, LeaderEpoch, Offset, ProducerId, TopicName, TopicPartition};
use highwater_wire::{
    ApiKey, ErrorCode,
    messages::{
        FetchRequest, FetchResponse, OffsetForLeaderEpochRequest,
        fetch_request::{FetchPartition, FetchTopic},
        fetch_response::PartitionData,
        offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic},
    },
};
use tokio::time::Instant;

use super::{
    Shared,
    decode::{Aborted, decode},
    positions::{Check, Chunk, ResetTo, Wanted},
};
use crate::{
    ClientError, ConsumeError, OffsetSpec,
    batches::is_stale_leader,
    metadata::{BrokerInfo, ClusterView},
    network::Network,
};

/// Fetches under way per broker.
const FETCHES_PER_BROKER: usize = 2;

/// How often an otherwise idle fetcher looks around; changes of what to read wake it earlier.
const IDLE_CHECK: Duration = Duration::from_secs(30);

pub(super) async fn run(shared: Arc<Shared>) {
    let lanes = std::array::from_fn(|_| shared.core.network.separate());
    let mut fetcher = Fetcher {
        lanes,
        busy_lanes: HashMap::new(),
        refreshing: false,
        pending: FuturesUnordered::new(),
        shared: shared.clone(),
    };
    tokio::select! {
        () = shared.closed.cancelled() => {}
        () = fetcher.run() => {}
    }
}

/// A partition to fetch and the epoch of its leader.
type Fetchable = (Wanted<Offset>, Option<LeaderEpoch>);

/// Something that was asked for and has ended.
enum Done {
    Committed(Vec<Wanted<()>>, Result<super::CommittedOffsets, ClientError>),
    Reset(
        Vec<Wanted<ResetTo>>,
        Result<BTreeMap<TopicPartition, crate::ListedOffset>, ClientError>,
    ),
    Checked(
        Vec<Wanted<Check>>,
        Result<Vec<(TopicPartition, ErrorCode, Option<Offset>)>, ClientError>,
    ),
    Fetched {
        address: String,
        lane: usize,
        asked: Vec<Wanted<Offset>>,
        answer: Result<FetchResponse, ClientError>,
    },
    Refreshed,
}

struct Fetcher {
    shared: Arc<Shared>,
    lanes: [Network; FETCHES_PER_BROKER],
    /// Which lanes to a broker have a fetch under way.
    busy_lanes: HashMap<String, [bool; FETCHES_PER_BROKER]>,
    refreshing: bool,
    pending: FuturesUnordered<BoxFuture<'static, Done>>,
}

impl Fetcher {
    async fn run(&mut self) {
        loop {
            let wake_at = self.start_everything();
            let shared = self.shared.clone();
            tokio::select! {
                Some(done) = self.pending.next(), if !self.pending.is_empty() => self.handle(done),
                () = shared.work.notified() => {}
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
    }

    /// Starts whatever can be started; says when to look again.
    fn start_everything(&mut self) -> Instant {
        let now = Instant::now();
        let view = self.shared.core.metadata.view();
        let epoch = |tp: &TopicPartition| view.leader(tp).and_then(|(_, epoch)| epoch);
        let mut positions = self.shared.positions();
        let committed = positions.wants_committed(now);
        let resets = positions.wants_reset(now);
        let checks = positions.wants_check(now, epoch);
        let fetchable = positions.fetchable(now, self.shared.config.max_buffered_bytes);
        drop(positions);
        let mut hidden = BTreeSet::new();
        let committed = self.shown(&view, committed, &mut hidden);
        let resets = self.shown(&view, resets, &mut hidden);
        let checks = self.shown(&view, checks, &mut hidden);
        let fetchable = self.shown(&view, fetchable, &mut hidden);
        self.shared.tell_hidden(&view, &hidden);
        let due = self.shared.positions().next_due().filter(|due| *due > now);
        if !committed.is_empty() {
            self.look_up_committed(committed);
        }
        if !resets.is_empty() {
            self.look_up_resets(resets);
        }
        if !checks.is_empty() {
            self.check_positions(checks, &view);
        }
        self.fetch(fetchable, &view);
        // Access may have been given meanwhile.
        self.refresh(hidden);
        due.unwrap_or(now + IDLE_CHECK)
    }

    /// Leaves out what lies in topics that the cluster refuses to show, for a while: one of them is no reason not to
    /// read the others.
    fn shown<T>(
        &self,
        view: &ClusterView,
        mut wanted: Vec<Wanted<T>>,
        hidden: &mut BTreeSet<TopicName>,
    ) -> Vec<Wanted<T>> {
        let is_hidden = |tp: &TopicPartition| view.refusal_code(&tp.topic).is_some();
        if !wanted.iter().any(|wanted| is_hidden(&wanted.tp)) {
            return wanted;
        }
        let later = Some(self.much_later());
        let mut positions = self.shared.positions();
        wanted.retain(|wanted| {
            let is_hidden = is_hidden(&wanted.tp);
            if is_hidden {
                positions.postponed(&wanted.tp, wanted.token, later);
                hidden.insert(wanted.tp.topic.clone());
            }
            !is_hidden
        });
        wanted
    }

    fn look_up_committed(&mut self, wanted: Vec<Wanted<()>>) {
        let shared = self.shared.clone();
        let partitions: BTreeSet<_> = wanted.iter().map(|w| w.tp.clone()).collect();
        self.pending.push(
            async move {
                let answer = match &shared.coordinator {
                    Some(coordinator) => {
                        coordinator
                            .fetch_committed(Some(&partitions), shared.config.isolation_level)
                            .await
                    }
                    None => Ok(super::CommittedOffsets::new()),
                };
                Done::Committed(wanted, answer)
            }
            .boxed(),
        );
    }

    fn look_up_resets(&mut self, wanted: Vec<Wanted<ResetTo>>) {
        let shared = self.shared.clone();
        self.pending.push(
            async move {
                let specs = wanted.iter().map(|w| {
                    let spec = match w.what {
                        ResetTo::Beginning => OffsetSpec::Earliest,
                        ResetTo::End => OffsetSpec::Latest,
                    };
                    (w.tp.clone(), spec)
                });
                let isolation = shared.config.isolation_level;
                let answer = shared.core.list_offsets(specs.collect(), isolation).await;
                Done::Reset(wanted, answer)
            }
            .boxed(),
        );
    }

    fn check_positions(&mut self, wanted: Vec<Wanted<Check>>, view: &ClusterView) {
        let mut by_leader: HashMap<String, Vec<Wanted<Check>>> = HashMap::new();
        for check in wanted {
            match view.leader(&check.tp) {
                Some((leader, _)) => by_leader.entry(leader.address()).or_default().push(check),
                None => self
                    .shared
                    .positions()
                    .postponed(&check.tp, check.token, Some(self.later())),
            }
        }
        for (address, checks) in by_leader {
            let network = self.shared.core.network.clone();
            self.pending.push(
                async move {
                    let answer = ask_epoch_ends(&network, &address, &checks).await;
                    Done::Checked(checks, answer)
                }
                .boxed(),
            );
        }
    }

    fn fetch(&mut self, wanted: Vec<Wanted<Offset>>, view: &ClusterView) {
        let mut unled = BTreeSet::new();
        let mut by_leader: HashMap<&BrokerInfo, Vec<Fetchable>> = HashMap::new();
        for partition in wanted {
            match view.leader(&partition.tp) {
                Some((leader, epoch)) => by_leader.entry(leader).or_default().push((partition, epoch)),
                None => drop(unled.insert(partition.tp.topic.clone())),
            }
        }
        self.refresh(unled);
        for (leader, parts) in by_leader {
            let address = leader.address();
            let lanes = self.busy_lanes.entry(address.clone()).or_default();
            let Some(lane) = lanes.iter().position(|busy| !busy) else {
                continue;
            };
            lanes[lane] = true;
            self.start_fetch(address, lane, parts);
        }
    }

    fn start_fetch(&mut self, address: String, lane: usize, parts: Vec<Fetchable>) {
        let config = &self.shared.config;
        let max_wait = config.fetch_max_wait;
        let partition_max_bytes = i32::try_from(config.max_partition_fetch_bytes).unwrap_or(i32::MAX);
        let mut topics: BTreeMap<TopicName, Vec<FetchPartition>> = BTreeMap::new();
        let mut positions = self.shared.positions();
        for (wanted, epoch) in &parts {
            positions.begin_fetch(&wanted.tp);
            topics
                .entry(wanted.tp.topic.clone())
                .or_default()
                .push(FetchPartition {
                    partition: wanted.tp.partition.get(),
                    current_leader_epoch: epoch.map_or(-1, LeaderEpoch::get),
                    fetch_offset: wanted.what.get(),
                    partition_max_bytes,
                    ..Default::default()
                });
        }
        drop(positions);
        let topics = topics.into_iter().map(|(name, partitions)| FetchTopic {
            topic: name.into_byte_string(),
            partitions,
            ..Default::default()
        });
        let request = FetchRequest {
            max_wait_ms: i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: i32::try_from(config.fetch_min_bytes).unwrap_or(i32::MAX),
            max_bytes: i32::try_from(config.fetch_max_bytes).unwrap_or(i32::MAX),
            isolation_level: config.isolation_level.code(),
            rack_id: config.rack_id.clone().unwrap_or_default(),
            topics: topics.collect(),
            ..Default::default()
        };
        let network = self.lanes[lane].clone();
        let asked = parts.into_iter().map(|(wanted, _)| wanted).collect();
        self.pending.push(
            async move {
                let answer = match network.broker(&address).await {
                    Ok(broker) => broker.call_with_wait(request, max_wait).await,
                    Err(error) => Err(error),
                };
                Done::Fetched {
                    address,
                    lane,
                    asked,
                    answer,
                }
            }
            .boxed(),
        );
    }

    fn handle(&mut self, done: Done) {
        match done {
            Done::Committed(wanted, answer) => self.handle_committed(wanted, answer),
            Done::Reset(wanted, answer) => self.handle_resets(wanted, answer),
            Done::Checked(wanted, answer) => self.handle_checked(wanted, answer),
            Done::Fetched {
                address,
                lane,
                asked,
                answer,
            } => {
                if let Some(lanes) = self.busy_lanes.get_mut(&address) {
                    lanes[lane] = false;
                }
                self.handle_fetched(asked, answer);
            }
            Done::Refreshed => self.refreshing = false,
        }
        self.shared.progress.notify_waiters();
    }

    fn later(&self) -> Instant {
        Instant::now() + self.shared.core.config.retry_backoff
    }

    /// When to try again what is refused until somebody changes access rules.
    fn much_later(&self) -> Instant {
        Instant::now() + self.shared.core.config.retry_backoff_max
    }

    /// Whether an error about several partitions is one about topics that are not for this client. Looks them up, so
    /// that it is known which those are: they are told of, and the others asked about again.
    fn is_of_hidden_topics<T>(&mut self, error: &ClientError, wanted: &[Wanted<T>]) -> bool {
        let is_of_topics = matches!(
            error.code(),
            Some(ErrorCode::TopicAuthorizationFailed | ErrorCode::InvalidTopicException)
        );
        if is_of_topics {
            tracing::debug!(%error, "some of the topics are not for this client");
            self.refresh(wanted.iter().map(|wanted| wanted.tp.topic.clone()).collect());
        }
        is_of_topics
    }

    /// An error in a consumer's words.
    fn words(&self, error: ClientError) -> ConsumeError {
        match &self.shared.config.group_id {
            Some(group_id) => ConsumeError::of_group(group_id, error),
            None => error.into(),
        }
    }

    fn handle_committed(
        &mut self,
        wanted: Vec<Wanted<()>>,
        answer: Result<super::CommittedOffsets, ClientError>,
    ) {
        let is_told_otherwise = matches!(&answer, Err(error) if self.is_of_hidden_topics(error, &wanted));
        let later = self.later();
        let mut positions = self.shared.positions();
        let mut failures = Vec::new();
        match answer {
            Ok(committed) => {
                for w in wanted {
                    let found = committed.get(&w.tp).map(|c| (c.offset, c.leader_epoch));
                    failures.extend(positions.found_committed(&w.tp, w.token, found).err());
                }
            }
            Err(error) => {
                let error = self.words(error);
                let later = if error.is_refusal() {
                    self.much_later()
                } else {
                    later
                };
                for w in wanted {
                    positions.postponed(&w.tp, w.token, Some(later));
                }
                failures.extend(Some(error).filter(|_| !is_told_otherwise));
            }
        }
        drop(positions);
        self.shared.report(failures);
    }

    fn handle_resets(
        &mut self,
        wanted: Vec<Wanted<ResetTo>>,
        answer: Result<BTreeMap<TopicPartition, crate::ListedOffset>, ClientError>,
    ) {
        let is_told_otherwise = matches!(&answer, Err(error) if self.is_of_hidden_topics(error, &wanted));
        let later = self.later();
        let mut positions = self.shared.positions();
        let mut failures = Vec::new();
        match answer {
            Ok(listed) => {
                for w in wanted {
                    match listed.get(&w.tp).and_then(|l| Some((l.offset?, l.leader_epoch))) {
                        Some((offset, epoch)) => positions.found_reset(&w.tp, w.token, offset, epoch),
                        None => positions.postponed(&w.tp, w.token, Some(later)),
                    }
                }
            }
            Err(error) => {
                for w in wanted {
                    positions.postponed(&w.tp, w.token, Some(later));
                }
                failures.extend(Some(error.into()).filter(|_| !is_told_otherwise));
            }
        }
        drop(positions);
        self.shared.report(failures);
    }

    fn handle_checked(
        &mut self,
        wanted: Vec<Wanted<Check>>,
        answer: Result<Vec<(TopicPartition, ErrorCode, Option<Offset>)>, ClientError>,
    ) {
        let later = self.later();
        // A broker without this API cannot tell; its positions count as good, as before KIP-320.
        let cannot_tell = matches!(answer, Err(ClientError::UnsupportedApi { .. }));
        let ends = answer.unwrap_or_default();
        let mut stale = BTreeSet::new();
        let mut positions = self.shared.positions();
        let mut failures = Vec::new();
        for w in wanted {
            let end = ends
                .iter()
                .find(|(tp, ..)| *tp == w.tp)
                .map(|(_, code, end)| (*code, *end));
            match end {
                Some((ErrorCode::None, end)) => {
                    let end = end.unwrap_or(w.what.position);
                    failures.extend(positions.checked(&w.tp, w.token, w.what, end).err());
                }
                None if cannot_tell => {
                    failures.extend(positions.checked(&w.tp, w.token, w.what, w.what.position).err());
                }
                _ => {
                    stale.insert(w.tp.topic.clone());
                    positions.postponed(&w.tp, w.token, Some(later));
                }
            }
        }
        drop(positions);
        self.refresh(stale);
        self.shared.report(failures);
    }

    fn handle_fetched(&mut self, asked: Vec<Wanted<Offset>>, answer: Result<FetchResponse, ClientError>) {
        let mut answers: HashMap<(ByteString, i32), PartitionData> = HashMap::new();
        let failure = match answer {
            Ok(response) => {
                match ClientError::check(ApiKey::Fetch, response.error_code, "all partitions", None) {
                    Ok(()) => {
                        for topic in response.responses {
                            for partition in topic.partitions {
                                answers.insert((topic.topic.clone(), partition.partition_index), partition);
                            }
                        }
                        None
                    }
                    Err(error) => Some(error),
                }
            }
            Err(error) => Some(error),
        };
        let mut stale = BTreeSet::new();
        for wanted in asked {
            let key = (
                wanted.tp.topic.as_byte_string().clone(),
                wanted.tp.partition.get(),
            );
            let is_stale = match answers.remove(&key) {
                Some(data) => self.handle_partition(&wanted, data),
                None => {
                    let later = failure.is_some().then(|| self.later());
                    self.shared.positions().postponed(&wanted.tp, wanted.token, later);
                    failure.is_some()
                }
            };
            if is_stale {
                stale.insert(wanted.tp.topic);
            }
        }
        if let Some(error) = failure {
            tracing::debug!(%error, "fetch failed");
            if !error.is_retriable() {
                self.shared.report([error.into()]);
            }
        }
        self.refresh(stale);
    }

    /// Takes one partition's answer; true when its leader has to be looked up again.
    fn handle_partition(&self, wanted: &Wanted<Offset>, data: PartitionData) -> bool {
        let (tp, token) = (&wanted.tp, wanted.token);
        match ErrorCode::from_code(data.error_code) {
            ErrorCode::None => {
                self.shared.told().unreadable.remove(&tp.topic);
                self.handle_records(wanted, data);
                false
            }
            code @ (ErrorCode::TopicAuthorizationFailed | ErrorCode::InvalidTopicException) => {
                let later = self.much_later();
                self.shared.positions().postponed(tp, token, Some(later));
                let is_new = self.shared.told().unreadable.insert(tp.topic.clone());
                self.shared
                    .report(ConsumeError::of_topic(&tp.topic, code).filter(|_| is_new));
                false
            }
            ErrorCode::OffsetOutOfRange => {
                let outcome = self.shared.positions().out_of_range(tp, token);
                self.shared.report(outcome.err());
                false
            }
            code => {
                self.shared.positions().postponed(tp, token, Some(self.later()));
                if !code.is_retriable() && !is_stale_leader(code) {
                    self.shared
                        .report([ClientError::broker(ApiKey::Fetch, code, tp).into()]);
                } else {
                    tracing::debug!(partition = %tp, ?code, "fetch refused");
                }
                is_stale_leader(code)
            }
        }
    }

    fn handle_records(&self, wanted: &Wanted<Offset>, data: PartitionData) {
        let (tp, token) = (&wanted.tp, wanted.token);
        let high_watermark = Offset::new(data.high_watermark.max(0));
        let last_stable_offset = (data.last_stable_offset >= 0).then(|| Offset::new(data.last_stable_offset));
        let record_set = data.records.unwrap_or_default();
        let chunk = (!record_set.is_empty()).then(|| {
            let size_bytes = record_set.len();
            let aborted = data
                .aborted_transactions
                .unwrap_or_default()
                .into_iter()
                .map(|a| Aborted {
                    producer_id: ProducerId::new(a.producer_id),
                    first_offset: Offset::new(a.first_offset),
                });
            // Outside the lock: decompressing and decoding takes its time.
            let config = &self.shared.config;
            let isolation = config.isolation_level;
            let decoded = decode(
                record_set,
                wanted.what,
                isolation,
                aborted.collect(),
                config.decode_limits,
            );
            Chunk {
                records: decoded.records,
                next_offset: decoded.next_offset,
                epoch: decoded.epoch,
                size_bytes,
                failure: decoded.failure,
            }
        });
        let mut positions = self.shared.positions();
        positions.fetched_ends(tp, token, high_watermark, last_stable_offset);
        if let Some(chunk) = chunk {
            positions.fetched(tp, token, chunk);
            drop(positions);
            self.shared.ready.notify_one();
        }
    }

    /// Looks topics up again in the background.
    fn refresh(&mut self, topics: BTreeSet<TopicName>) {
        if topics.is_empty() || self.refreshing {
            return;
        }
        self.refreshing = true;
        let core = self.shared.core.clone();
        self.pending.push(
            async move {
                let topics: Vec<TopicName> = topics.into_iter().collect();
                let unled = match core.metadata.refresh(&topics).await {
                    Ok(view) => !topics.iter().all(|topic| view.topics.contains_key(topic)),
                    Err(_) => true,
                };
                if unled {
                    tokio::time::sleep(core.config.retry_backoff).await;
                }
                Done::Refreshed
            }
            .boxed(),
        );
    }
}

async fn ask_epoch_ends(
    network: &Network,
    address: &str,
    checks: &[Wanted<Check>],
) -> Result<Vec<(TopicPartition, ErrorCode, Option<Offset>)>, ClientError> {
    let mut topics: BTreeMap<&TopicName, Vec<OffsetForLeaderPartition>> = BTreeMap::new();
    for check in checks {
        topics
            .entry(&check.tp.topic)
            .or_default()
            .push(OffsetForLeaderPartition {
                partition: check.tp.partition.get(),
                current_leader_epoch: check.what.leader_epoch.get(),
                leader_epoch: check.what.position_epoch.get(),
            });
    }
    let topics = topics.into_iter().map(|(name, partitions)| OffsetForLeaderTopic {
        topic: name.as_byte_string().clone(),
        partitions,
    });
    let request = OffsetForLeaderEpochRequest {
        replica_id: -1, // a consumer
        topics: topics.collect(),
    };
    let response = network.broker(address).await?.call(request).await?;
    let mut ends = Vec::new();
    for topic in response.topics {
        let Ok(name) = TopicName::new(topic.topic) else {
            continue;
        };
        for p in topic.partitions {
            let tp = TopicPartition::new(name.clone(), highwater_types::PartitionId::new(p.partition));
            let end = (p.end_offset >= 0).then(|| Offset::new(p.end_offset));
            ends.push((tp, ErrorCode::from_code(p.error_code), end));
        }
    }
    Ok(ends)
}
