//! One fetch's look at its partitions, again and again until there is enough.
//!
//! A look first locates every partition's read and adds up how much there can be, without touching a file; only a
//! look that can satisfy the request reads. What was read decides: the sum before is an upper bound.
//!
//! Large record sets of a TCP client are not read at all: the answer says where they lie, and the connection sends them
//! from there. They hold no memory, but places of which the node has a fixed number; without one the bytes are read.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_storage::{FileRange, ReadError, Records};
use highwater_types::Offset;
use highwater_types::record::{Compression, batches};
use highwater_wire::ErrorCode;
use highwater_wire::messages::FetchRequest;
use highwater_wire::messages::fetch_response::{AbortedTransaction, EpochEndOffset, PartitionData};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::super::{NONE, known_epoch};
use super::READ_COMMITTED;
use crate::broker::Broker;
use crate::error::ApiError;
use crate::fetch_sessions::{PartitionKey, TopicKey, Wanted};
use crate::limits::{
    FIRST_BATCH_BYTES, MAX_FETCH_BYTES, MAX_FETCH_WAIT, MIN_SENT_ANSWER_BYTES, MIN_SENT_FILE_BYTES,
};
use crate::log::partition::{FetchFailure, FetchPlan, FetchSpec, Marks, Partition};
use crate::purgatory::{Registration, Waiter};

/// One partition of the request: where it lives, or why it cannot be read.
pub(super) struct Target {
    index: i32,
    partition: Result<Arc<Partition>, ErrorCode>,
    wanted: Wanted,
}

/// What one look at the partitions brought.
pub(super) struct Gathered {
    /// One for each target, in order.
    pub(super) partitions: Vec<PartitionAnswer>,
    pub(super) bytes: usize,
    pub(super) memory: Option<OwnedSemaphorePermit>,
    /// Places for the record sets that are to be sent from their files.
    pub(super) places: Option<OwnedSemaphorePermit>,
    /// Answered at once, however little there is.
    is_urgent: bool,
}

/// What one partition is answered with.
pub(super) struct PartitionAnswer {
    pub(super) data: PartitionData,
    /// Where the records lie, if they are not in the data.
    pub(super) file: Option<FileRange>,
}

impl PartitionAnswer {
    pub(super) fn record_bytes(&self) -> usize {
        match &self.file {
            Some(range) => range.len_bytes(),
            None => self.data.records.as_ref().map_or(0, Bytes::len),
        }
    }
}

impl From<PartitionData> for PartitionAnswer {
    fn from(data: PartitionData) -> Self {
        PartitionAnswer { data, file: None }
    }
}

/// What is kept free for an answer before anything is read.
#[derive(Default)]
struct Reserved {
    memory: Option<OwnedSemaphorePermit>,
    places: Option<OwnedSemaphorePermit>,
    /// For each target whether it has one of the places.
    may_send: Vec<bool>,
}

/// Every partition's read, located.
struct Located {
    plans: Vec<Result<FetchPlan, FetchFailure>>,
    at_most_bytes: usize,
    is_urgent: bool,
}

/// How one partition of a request is read.
#[derive(Debug, Clone, Copy)]
struct Reading {
    /// Bytes that the request still has room for.
    left: usize,
    first_batch_whole: bool,
    read_committed: bool,
    /// Records may be left in their file.
    may_send: bool,
    /// Monotonic.
    now_ms: u64,
}

/// What the version and the head of a request say about all of its partitions.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestFacts {
    /// What every partition is answered with.
    pub(super) refusal: Option<ErrorCode>,
    /// Whether the client reads zstd (KIP-110).
    pub(super) knows_zstd: bool,
    /// Whether who writes the answer can send from files.
    pub(super) sends_files: bool,
}

/// A fetch while it is in work.
pub(super) struct Poll {
    targets: Vec<Target>,
    read_committed: bool,
    knows_zstd: bool,
    sends_files: bool,
    max_bytes: usize,
    min_bytes: usize,
    max_wait: Duration,
}

impl Poll {
    pub(super) fn new(
        broker: &Broker,
        request: &FetchRequest,
        asked: &[(PartitionKey, Wanted)],
        forbidden: &HashSet<TopicKey>,
        facts: RequestFacts,
    ) -> Self {
        let image = broker.image();
        let targets = asked
            .iter()
            .map(|asked| {
                let is_forbidden = !forbidden.is_empty() && forbidden.contains(&asked.0.topic);
                let denial = is_forbidden.then_some(ErrorCode::TopicAuthorizationFailed);
                super::target(broker, &image, asked, facts.refusal.or(denial))
            })
            .collect();
        let broker_max = usize::try_from(broker.settings.fetch_max_bytes).unwrap_or(usize::MAX);
        let max_bytes = usize::try_from(request.max_bytes)
            .unwrap_or(0)
            .min(broker_max)
            .min(MAX_FETCH_BYTES);
        let max_wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
        Poll {
            targets,
            read_committed: request.isolation_level == READ_COMMITTED,
            knows_zstd: facts.knows_zstd,
            // What a client cannot read is found by looking at every batch.
            sends_files: facts.sends_files && facts.knows_zstd,
            max_bytes,
            min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
            max_wait: max_wait.min(MAX_FETCH_WAIT),
        }
    }

    /// What to answer with: enough bytes, something urgent, or whatever the time has brought (semantic 46).
    pub(super) async fn wait(&self, broker: &Broker) -> Gathered {
        let located = self.locate();
        let answers_at_once = self.max_wait.is_zero() || self.targets.is_empty();
        if answers_at_once || self.can_be_enough(&located) {
            let gathered = self.gather(broker, located).await;
            if answers_at_once || self.is_enough(&gathered) {
                return gathered;
            }
        }
        let deadline = Instant::now() + self.max_wait;
        let _waiting = broker.telemetry.waiting();
        let waiter = Waiter::new();
        let _registrations = self.register(&waiter);
        loop {
            // Any append from here on wakes; what is still missing is only known after the look.
            waiter.arm();
            let located = self.locate();
            let mut at_most_bytes = located.at_most_bytes;
            if self.can_be_enough(&located) {
                let gathered = self.gather(broker, located).await;
                if self.is_enough(&gathered) {
                    return gathered;
                }
                at_most_bytes = gathered.bytes;
            }
            waiter.raise(self.min_bytes.saturating_sub(at_most_bytes));
            tokio::select! {
                () = waiter.woken() => {}
                () = tokio::time::sleep_until(deadline) => break,
                () = broker.stopping.cancelled() => break,
            }
        }
        self.gather(broker, self.locate()).await
    }

    /// Notes what each partition gave.
    pub(super) fn count(&self, answers: &[PartitionAnswer]) {
        for (target, answer) in self.targets.iter().zip(answers) {
            if let Ok(partition) = &target.partition {
                partition.traffic().sent(answer.record_bytes());
            }
        }
    }

    fn register(&self, waiter: &Arc<Waiter>) -> Vec<Registration> {
        let found = self
            .targets
            .iter()
            .filter_map(|target| target.partition.as_ref().ok());
        found
            .map(|partition| partition.waiting().register(waiter))
            .collect()
    }

    fn can_be_enough(&self, located: &Located) -> bool {
        located.is_urgent || located.at_most_bytes >= self.min_bytes
    }

    fn is_enough(&self, gathered: &Gathered) -> bool {
        gathered.is_urgent || gathered.bytes >= self.min_bytes
    }

    /// Locates every read, which costs no disk access at the tail of a log.
    fn locate(&self) -> Located {
        let plans: Vec<_> = self
            .targets
            .iter()
            .map(|target| target.plan(target.max_bytes().min(self.max_bytes), self.read_committed))
            .collect();
        let bytes = plans.iter().map(|plan| match plan {
            Ok(plan) => plan.at_most_bytes(),
            Err(_) => 0,
        });
        let at_most_bytes = bytes.fold(0, usize::saturating_add);
        let is_urgent = plans.iter().any(|plan| match plan {
            // A reader behind the tail has more to come than one read shows.
            Ok(plan) => plan.diverging.is_some() || plan.is_behind(),
            Err(_) => true,
        });
        Located {
            plans,
            at_most_bytes,
            is_urgent,
        }
    }

    /// Reads every partition in the order of the request (semantic 49), within the limits.
    async fn gather(&self, broker: &Broker, located: Located) -> Gathered {
        let mut reserved = self.reserve(broker, &located).await;
        let mut gathered = Gathered {
            partitions: Vec::with_capacity(self.targets.len()),
            bytes: 0,
            memory: None,
            places: None,
            is_urgent: false,
        };
        let (mut bytes_in_memory, mut files) = (0, 0);
        for ((target, plan), may_send) in self.targets.iter().zip(located.plans).zip(reserved.may_send) {
            let left = self.max_bytes.saturating_sub(gathered.bytes);
            let behind = plan.as_ref().is_ok_and(FetchPlan::is_behind);
            let reading = Reading {
                left,
                first_batch_whole: gathered.bytes == 0,
                read_committed: self.read_committed,
                may_send,
                now_ms: broker.clock.monotonic_ms(),
            };
            let mut answer = target.read(plan, reading).await;
            if !self.knows_zstd && has_zstd(&answer.data) {
                answer = failed(target.index, ErrorCode::UnsupportedCompressionType, None).into();
            }
            let bytes = answer.record_bytes();
            match &answer.file {
                Some(_) => files += 1,
                None => bytes_in_memory += bytes,
            }
            gathered.bytes += bytes;
            gathered.is_urgent |= answer.data.error_code != ErrorCode::None.code()
                || answer.data.diverging_epoch != EpochEndOffset::default()
                || behind && bytes > 0;
            gathered.partitions.push(answer);
        }
        // More was reserved than the logs had; the rest goes back at once.
        give_back(&mut reserved.memory, bytes_in_memory);
        give_back(&mut reserved.places, files);
        gathered.memory = reserved.memory;
        gathered.places = reserved.places;
        gathered
    }

    /// Takes places for the record sets that may be sent from their files, and of the node's response memory the most
    /// that the other partitions with data can give. An idle poll takes nothing.
    async fn reserve(&self, broker: &Broker, located: &Located) -> Reserved {
        let mut reserved = Reserved::default();
        let mut most: Vec<usize> = Vec::with_capacity(self.targets.len());
        let mut has_data = false;
        for (target, plan) in self.targets.iter().zip(&located.plans) {
            let limit = target.max_bytes().min(self.max_bytes);
            let bytes = plan.as_ref().map_or(0, FetchPlan::at_most_bytes);
            let bytes = match has_data {
                // The first batch may be larger than the limits (semantic 43).
                false => bytes.min(limit.max(FIRST_BATCH_BYTES)),
                true => bytes.min(limit),
            };
            has_data |= bytes > 0;
            most.push(bytes);
            let is_sendable = bytes >= MIN_SENT_FILE_BYTES && plan.as_ref().is_ok_and(FetchPlan::is_sendable);
            reserved.may_send.push(self.sends_files && is_sendable);
        }
        let total = most.iter().copied().fold(0, usize::saturating_add);
        if total.min(self.max_bytes.max(FIRST_BATCH_BYTES)) < MIN_SENT_ANSWER_BYTES {
            reserved.may_send.fill(false);
        }
        let wanted = reserved.may_send.iter().filter(|may_send| **may_send).count();
        if wanted > 0 {
            let places = u32::try_from(wanted).unwrap_or(u32::MAX);
            let places = Arc::clone(&broker.sent_files).try_acquire_many_owned(places);
            reserved.places = places.ok();
        }
        if reserved.places.is_none() {
            reserved.may_send.fill(false);
        }
        let in_memory = most
            .iter()
            .zip(&reserved.may_send)
            .map(|(bytes, may_send)| match may_send {
                // What turns out to be smaller than expected is read after all.
                true => MIN_SENT_FILE_BYTES,
                false => *bytes,
            });
        let most = in_memory.fold(0, usize::saturating_add);
        let most = most.min(self.max_bytes.max(FIRST_BATCH_BYTES));
        let permits = u32::try_from(most.min(broker.limits.response_memory_bytes)).unwrap_or(u32::MAX);
        if permits > 0 {
            let memory = Arc::clone(&broker.response_memory).acquire_many_owned(permits);
            reserved.memory = memory.await.ok();
        }
        reserved
    }
}

/// Keeps `needed` of what was reserved.
fn give_back(reserved: &mut Option<OwnedSemaphorePermit>, needed: usize) {
    if let Some(permit) = reserved {
        let excess = permit.num_permits().saturating_sub(needed);
        drop(permit.split(excess));
    }
    if reserved.as_ref().is_some_and(|permit| permit.num_permits() == 0) {
        *reserved = None;
    }
}

impl Target {
    pub(super) fn new(index: i32, partition: Result<Arc<Partition>, ErrorCode>, wanted: Wanted) -> Self {
        Target {
            index,
            partition,
            wanted,
        }
    }

    fn max_bytes(&self) -> usize {
        usize::try_from(self.wanted.max_bytes).unwrap_or(0)
    }

    fn plan(&self, max_bytes: usize, read_committed: bool) -> Result<FetchPlan, FetchFailure> {
        let partition = self.partition.as_ref().map_err(|code| (*code, None))?;
        partition.plan_fetch(&FetchSpec {
            from: Offset::new(self.wanted.fetch_offset),
            max_bytes,
            read_committed,
            current_leader_epoch: known_epoch(self.wanted.current_leader_epoch),
            last_fetched_epoch: known_epoch(self.wanted.last_fetched_epoch),
        })
    }

    async fn read(&self, plan: Result<FetchPlan, FetchFailure>, reading: Reading) -> PartitionAnswer {
        let max_bytes = self.max_bytes().min(reading.left);
        let plan = match plan {
            // Planned anew, since the index leads to the end of what was planned.
            Ok(plan) if reading.may_send && max_bytes < plan.max_bytes() => {
                self.plan(max_bytes, reading.read_committed)
            }
            other => other,
        };
        let (mut plan, mut read) = match plan {
            Ok(plan) => self.try_read(plan, reading).await,
            Err((code, marks)) => return failed(self.index, code, marks).into(),
        };
        if matches!(read, Err(ReadError::Changed { .. })) {
            // Either the log was cut under the read, and a new plan sees what is there now, or it is damaged.
            (plan, read) = match self.plan(max_bytes, reading.read_committed) {
                Ok(plan) => self.try_read(plan, reading).await,
                Err((code, marks)) => return failed(self.index, code, marks).into(),
            };
        }
        match read {
            Ok(Records::Bytes(records)) => filled(self.index, &plan, records).into(),
            Ok(Records::File(range)) => PartitionAnswer {
                data: filled(self.index, &plan, Bytes::new()),
                file: Some(range),
            },
            Err(error) => {
                if let Ok(partition) = &self.partition {
                    partition.report_unreadable(&error, reading.now_ms);
                }
                failed(self.index, ApiError::from(error).code, Some(plan.marks)).into()
            }
        }
    }

    async fn try_read(
        &self,
        mut plan: FetchPlan,
        reading: Reading,
    ) -> (FetchPlan, Result<Records, ReadError>) {
        plan.limit(self.max_bytes().min(reading.left), reading.first_batch_whole);
        let read = plan.read(reading.may_send.then_some(MIN_SENT_FILE_BYTES)).await;
        (plan, read)
    }
}

fn has_zstd(data: &PartitionData) -> bool {
    let found = batches(data.records.clone().unwrap_or_default());
    found
        .flatten()
        .any(|batch| batch.header().compression() == Compression::Zstd)
}

fn filled(index: i32, plan: &FetchPlan, records: Bytes) -> PartitionData {
    let aborted = plan.aborted.as_ref().map(|transactions| {
        let row = |transaction: &(highwater_types::ProducerId, Offset)| AbortedTransaction {
            producer_id: transaction.0.get(),
            first_offset: transaction.1.get(),
        };
        transactions.iter().map(row).collect()
    });
    let diverging = plan.diverging.map(|(epoch, end)| EpochEndOffset {
        epoch: epoch.get(),
        end_offset: end.get(),
    });
    PartitionData {
        partition_index: index,
        high_watermark: plan.marks.high_watermark.get(),
        last_stable_offset: plan.marks.last_stable.get(),
        log_start_offset: plan.marks.log_start.get(),
        diverging_epoch: diverging.unwrap_or_default(),
        aborted_transactions: aborted,
        // Empty, never null (semantic 45).
        records: Some(records),
        ..Default::default()
    }
}

fn failed(index: i32, code: ErrorCode, marks: Option<Marks>) -> PartitionData {
    PartitionData {
        partition_index: index,
        error_code: code.code(),
        high_watermark: marks.map_or(NONE, |marks| marks.high_watermark.get()),
        last_stable_offset: marks.map_or(NONE, |marks| marks.last_stable.get()),
        log_start_offset: marks.map_or(NONE, |marks| marks.log_start.get()),
        records: Some(Bytes::new()),
        ..Default::default()
    }
}
