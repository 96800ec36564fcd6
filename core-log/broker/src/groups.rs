//! Hosts the group shards: one pure [`GroupShard`] per partition of `__consumer_offsets` led here.
//!
//! A shard and its partition's log change together under one lock: the request is handled, its records
//! are appended as one batch, replayed, and only then are the replies sent. A failed append changes
//! nothing durable and answers with the log's error. Each shard has one timer task, which sleeps until
//! the shard's next deadline.
//!
//! Invariants:
//! - every token given to a shard has a waiting caller or one that has gone; replies to the gone are dropped;
//! - a shard says that it is loading until its partition has been replayed; replay happens beside the lock.

mod load;
mod refusal;
mod topics;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use futures::future::join_all;
use highwater_cluster::MetadataImage;
use highwater_coordinator::{
    ClientContext, Effects, GroupConfig, GroupRequest, GroupShard, Monotonic, Now, RequestToken, Routed,
    Topics, merge_responses, route,
};
use highwater_types::record::{BatchBuilder, BatchOptions, RecordBatch};
use highwater_types::{PartitionId, Timestamp, TopicName};
use highwater_wire::{ErrorCode, ResponseBody};
use tokio::sync::{Notify, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::Clock;
use crate::error::ApiError;
use crate::limits::MAX_PENDING_GROUP_REQUESTS;
use crate::log::partition::Partition;

use self::topics::ImageTopics;

pub(crate) use refusal::{refuse, refused_offsets};

/// The topic that holds the groups.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// Every shard of this node.
#[derive(Debug)]
pub(crate) struct GroupHost {
    config: GroupConfig,
    clock: Clock,
    latest: watch::Receiver<Arc<MetadataImage>>,
    shards: RwLock<BTreeMap<PartitionId, Arc<ShardHost>>>,
    tasks: TaskTracker,
    stopping: CancellationToken,
}

#[derive(Debug)]
struct ShardHost {
    partition: Arc<Partition>,
    config: GroupConfig,
    clock: Clock,
    latest: watch::Receiver<Arc<MetadataImage>>,
    state: Mutex<ShardState>,
    /// Wakes the timer task when a deadline moved before the one it sleeps for.
    earlier: Notify,
    /// The deadline the timer task sleeps for.
    armed_ms: AtomicU64,
    /// Ends the timer task when the shard is unloaded.
    gone: CancellationToken,
}

#[derive(Debug)]
struct ShardState {
    shard: GroupShard,
    waiting: HashMap<u64, oneshot::Sender<ResponseBody>>,
    last_token: u64,
}

impl GroupHost {
    pub(crate) fn new(
        config: GroupConfig,
        clock: Clock,
        latest: watch::Receiver<Arc<MetadataImage>>,
        stopping: CancellationToken,
    ) -> Self {
        GroupHost {
            config,
            clock,
            latest,
            shards: RwLock::default(),
            tasks: TaskTracker::new(),
            stopping,
        }
    }

    /// Brings the shards in line with the partitions of the offsets topic that are led here: starts
    /// loading new ones, unloads those that are gone. Needs a runtime.
    pub(crate) fn reconcile(&self, led: &[Arc<Partition>]) {
        let mut shards = self.shards.write().unwrap_or_else(PoisonError::into_inner);
        let leaving: Vec<PartitionId> = shards
            .iter()
            .filter(|(_, host)| {
                !led.iter()
                    .any(|partition| Arc::ptr_eq(partition, &host.partition))
            })
            .map(|(id, _)| *id)
            .collect();
        for id in leaving {
            if let Some(host) = shards.remove(&id) {
                host.unload();
            }
        }
        for partition in led {
            let id = partition.id().partition;
            shards
                .entry(id)
                .or_insert_with(|| self.start(Arc::clone(partition)));
        }
    }

    fn start(&self, partition: Arc<Partition>) -> Arc<ShardHost> {
        let host = Arc::new(ShardHost {
            partition,
            config: self.config.clone(),
            clock: self.clock,
            latest: self.latest.clone(),
            state: Mutex::new(ShardState {
                shard: GroupShard::new(self.config.clone()),
                waiting: HashMap::new(),
                last_token: 0,
            }),
            earlier: Notify::new(),
            armed_ms: AtomicU64::new(u64::MAX),
            gone: self.stopping.child_token(),
        });
        if host.partition.is_empty() {
            // Nothing to replay: the first member of the first group need not wait for a thread.
            host.load();
        } else {
            let loading = Arc::clone(&host);
            self.tasks.spawn_blocking(move || loading.load());
        }
        self.tasks.spawn(Arc::clone(&host).run_timer());
        host
    }

    /// Routes a request to its shards, waits for their answers and joins them.
    /// `partition_count` is that of the offsets topic, 0 while it does not exist.
    pub(crate) async fn call(
        &self,
        client: &ClientContext,
        request: GroupRequest,
        partition_count: i32,
    ) -> ResponseBody {
        if partition_count == 0 && !matches!(request, GroupRequest::List(_)) {
            return refuse(&request, ErrorCode::NotCoordinator);
        }
        let original = request.clone();
        let parts: Vec<(Option<Arc<ShardHost>>, GroupRequest)> = {
            let shards = self.shards.read().unwrap_or_else(PoisonError::into_inner);
            match route(request, partition_count) {
                Routed::Shards(parts) => parts
                    .into_iter()
                    .map(|(id, part)| (shards.get(&id).cloned(), part))
                    .collect(),
                Routed::EveryShard(part) => shards
                    .values()
                    .map(|host| (Some(Arc::clone(host)), GroupRequest::clone(&part)))
                    .collect(),
            }
        };
        let answers = parts.into_iter().map(|(host, part)| async move {
            match host {
                Some(host) => host.call(client, part).await,
                None => refuse(&part, ErrorCode::NotCoordinator),
            }
        });
        let answers = join_all(answers).await;
        merge_responses(answers).unwrap_or_else(|| refuse(&original, ErrorCode::None))
    }

    /// Drops what groups have committed for deleted topics.
    pub(crate) fn forget_topics(&self, gone: &[TopicName]) {
        for host in self.hosts() {
            let mut state = host.lock();
            loop {
                let is_gone = |topic: &str| gone.iter().any(|name| name.as_str() == topic);
                let effects = state.shard.forget_topics(is_gone);
                // A failed append is logged, and would fail again.
                if effects.records.is_empty() || !host.carry_out(&mut state, effects, host.clock.wall()) {
                    break;
                }
            }
        }
    }

    /// Lets `look` see every shard; for gauges. One that is still loading is empty.
    pub(crate) fn for_each_shard(&self, mut look: impl FnMut(&GroupShard)) {
        for host in self.hosts() {
            look(&host.lock().shard);
        }
    }

    fn hosts(&self) -> Vec<Arc<ShardHost>> {
        self.shards
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// Waits for the timer and loading tasks, once the node is stopping.
    pub(crate) async fn stopped(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl ShardHost {
    fn lock(&self) -> MutexGuard<'_, ShardState> {
        // A panic while a request was handled answers that request by closing its connection. Durable
        // state only changes in `replay`, record by record as the log has it, so going on is sound.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Now {
        Now {
            monotonic: Monotonic::new(self.clock.monotonic_ms()),
            wall: self.clock.wall(),
        }
    }

    async fn call(&self, client: &ClientContext, request: GroupRequest) -> ResponseBody {
        let on_loss = refuse(&request, ErrorCode::NotCoordinator);
        let answer = {
            let mut state = self.lock();
            if state.waiting.len() >= MAX_PENDING_GROUP_REQUESTS {
                state.waiting.retain(|_, caller| !caller.is_closed());
                if state.waiting.len() >= MAX_PENDING_GROUP_REQUESTS {
                    return refuse(&request, ErrorCode::CoordinatorNotAvailable);
                }
            }
            let now = self.now();
            let (send, answer) = oneshot::channel();
            state.last_token += 1;
            let token = state.last_token;
            state.waiting.insert(token, send);
            self.look_at_topics(&mut state);
            let effects = state.shard.handle(RequestToken::new(token), client, request, now);
            self.carry_out(&mut state, effects, now.wall);
            self.arm(&state);
            answer
        };
        tokio::select! {
            answer = answer => answer.unwrap_or(on_loss),
            () = self.gone.cancelled() => on_loss,
        }
    }

    /// Shows the shard the latest topics. Cheap while they have not changed.
    fn look_at_topics(&self, state: &mut ShardState) {
        let known = state.shard.topics_version();
        let topics = ImageTopics(Arc::clone(&self.latest.borrow()));
        if topics.version() != known {
            state.shard.set_topics(Arc::new(topics));
        }
    }

    /// Appends, replays, replies; whether the records were appended.
    fn carry_out(&self, state: &mut ShardState, effects: Effects, now: Timestamp) -> bool {
        if !effects.records.is_empty()
            && let Err(error) = self.append(&effects, now)
        {
            tracing::warn!(partition = %self.partition.id().partition, error = error.message,
                "cannot write group records");
            state.send(effects.fail(error.code));
            return false;
        }
        for record in &effects.records {
            if let Err(error) = state.shard.replay(&record.key, record.value.as_deref()) {
                tracing::error!(partition = %self.partition.id().partition, %error,
                    "the group coordinator wrote a record that it cannot read back");
            }
        }
        state.send(effects.replies);
        true
    }

    fn append(&self, effects: &Effects, now: Timestamp) -> Result<(), ApiError> {
        let mut batch = BatchBuilder::new(BatchOptions::default());
        for record in &effects.records {
            batch.append(now, Some(&record.key), record.value.as_deref(), &[]);
        }
        let bytes = batch.build()?;
        let (batch, _) = RecordBatch::parse(bytes)?;
        self.partition.append(batch, now)?;
        Ok(())
    }

    /// Tells the timer task about a deadline before the one it sleeps for.
    fn arm(&self, state: &ShardState) {
        let next = state.shard.next_deadline_ms().unwrap_or(u64::MAX);
        if next < self.armed_ms.load(Ordering::Acquire) {
            self.earlier.notify_one();
        }
    }

    async fn run_timer(self: Arc<Self>) {
        loop {
            let next = {
                let state = self.lock();
                let next = state.shard.next_deadline_ms();
                self.armed_ms.store(next.unwrap_or(u64::MAX), Ordering::Release);
                next
            };
            let sleep = async {
                match next {
                    Some(at) => tokio::time::sleep_until(self.clock.instant_at(at).into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.gone.cancelled() => return,
                () = self.earlier.notified() => {}
                () = sleep => self.tick(),
            }
        }
    }

    fn tick(&self) {
        let mut state = self.lock();
        let now = self.now();
        self.look_at_topics(&mut state);
        let effects = state.shard.handle_timeout(now);
        self.carry_out(&mut state, effects, now.wall);
    }

    fn unload(&self) {
        let mut state = self.lock();
        let replies = state.shard.unload();
        state.send(replies);
        self.gone.cancel();
    }
}

impl ShardState {
    fn send(&mut self, replies: Vec<(RequestToken, ResponseBody)>) {
        for (token, body) in replies {
            if let Some(caller) = self.waiting.remove(&token.get()) {
                // The caller may have gone; its answer goes with it.
                let _ = caller.send(body);
            }
        }
    }
}
