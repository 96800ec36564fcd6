//! Fetch: a long poll over the partitions a request names.
//!
//! A request that finds too little waits in the [purgatory](crate::purgatory) until appends bring what it
//! lacks (semantic 46), and only then looks again. Bytes go out as they lie in the segments. Sessions (KIP-227) are never granted: every answer carries
//! session id 0, and clients go on with full fetches (semantic 48).
//!
//! Invariants: the first non-empty partition gives at least one whole batch whatever the limits say
//! (semantic 43); bytes are reserved from the node's response memory before they are read.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use highwater_types::Offset;
use highwater_wire::messages::fetch_request::FetchPartition;
use highwater_wire::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, PartitionData,
};
use highwater_wire::messages::{FetchRequest, FetchResponse};
use highwater_wire::{ErrorCode, ResponseBody};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::{NONE, known_epoch};
use crate::broker::Broker;
use crate::dispatch::{Answer, Reply};
use crate::limits::{MAX_FETCH_BYTES, MAX_FETCH_WAIT};
use crate::log::partition::{FetchPlan, FetchSpec, Marks, Partition};
use crate::purgatory::{Registration, Waiter};

/// Sessions can only be ended or begun, never continued: none is ever granted.
const SESSION_FINAL_EPOCH: i32 = -1;
const SESSION_INITIAL_EPOCH: i32 = 0;

const READ_COMMITTED: i8 = 1;

/// Waits until there is enough to answer, then answers.
pub(crate) async fn handle(broker: &Arc<Broker>, request: FetchRequest) -> Answer {
    if let Some(error) = session_error(&request) {
        let response = FetchResponse {
            error_code: error.code(),
            ..Default::default()
        };
        return Reply::Body(ResponseBody::Fetch(response)).into();
    }
    let poll = Poll::new(broker, &request);
    let Gathered {
        partitions,
        bytes,
        memory,
        ..
    } = poll.wait(broker).await;
    broker.telemetry.fetched_bytes.increment(bytes as u64);
    let response = FetchResponse {
        responses: by_topic(&request, partitions),
        ..Default::default()
    };
    Answer {
        reply: Reply::Body(ResponseBody::Fetch(response)),
        memory,
    }
}

fn session_error(request: &FetchRequest) -> Option<ErrorCode> {
    match (request.session_id, request.session_epoch) {
        (_, SESSION_FINAL_EPOCH | SESSION_INITIAL_EPOCH) => None,
        (0, _) => Some(ErrorCode::InvalidFetchSessionEpoch),
        (_, _) => Some(ErrorCode::FetchSessionIdNotFound),
    }
}

/// One partition of the request: where it lives, or why it cannot be read.
struct Target {
    partition: Result<Arc<Partition>, ErrorCode>,
    spec: FetchSpec,
}

/// What one look at the partitions brought.
struct Gathered {
    partitions: Vec<PartitionData>,
    bytes: usize,
    /// An error or a diverging epoch, which is answered at once.
    is_urgent: bool,
    memory: Option<OwnedSemaphorePermit>,
}

struct Poll {
    targets: Vec<Target>,
    max_bytes: usize,
    min_bytes: usize,
    max_wait: Duration,
}

impl Poll {
    fn new(broker: &Broker, request: &FetchRequest) -> Self {
        let read_committed = request.isolation_level == READ_COMMITTED;
        let targets = request
            .topics
            .iter()
            .flat_map(|topic| {
                topic
                    .partitions
                    .iter()
                    .map(move |partition| (&topic.topic, partition))
            })
            .map(|(topic, wanted)| Target {
                partition: broker
                    .partitions
                    .find(topic, wanted.partition)
                    .map_err(|error| error.code),
                spec: spec(wanted, read_committed),
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
            max_bytes,
            min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
            max_wait: max_wait.min(MAX_FETCH_WAIT),
        }
    }

    /// What to answer with: enough bytes, something urgent, or whatever the time has brought.
    async fn wait(&self, broker: &Broker) -> Gathered {
        let gathered = self.gather(broker).await;
        if self.max_wait.is_zero() || self.targets.is_empty() || self.is_enough(&gathered) {
            return gathered;
        }
        drop(gathered);
        let deadline = Instant::now() + self.max_wait;
        let waiter = Waiter::new();
        let _registrations = self.register(&waiter);
        loop {
            // Any append from here on wakes; what is still missing is only known after the look.
            waiter.arm();
            let gathered = self.gather(broker).await;
            if self.is_enough(&gathered) {
                return gathered;
            }
            waiter.raise(self.min_bytes.saturating_sub(gathered.bytes));
            drop(gathered);
            tokio::select! {
                () = waiter.woken() => {}
                () = tokio::time::sleep_until(deadline) => return self.gather(broker).await,
                () = broker.stopping.cancelled() => return self.gather(broker).await,
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

    fn is_enough(&self, gathered: &Gathered) -> bool {
        gathered.bytes >= self.min_bytes || gathered.is_urgent
    }

    /// Reads every partition in the order of the request (semantic 49), within the limits.
    async fn gather(&self, broker: &Broker) -> Gathered {
        let mut memory = self.reserve(broker).await;
        let mut gathered = Gathered {
            partitions: Vec::with_capacity(self.targets.len()),
            bytes: 0,
            is_urgent: false,
            memory: None,
        };
        for target in &self.targets {
            let left = self.max_bytes.saturating_sub(gathered.bytes);
            let data = target.read(left, gathered.bytes == 0).await;
            gathered.bytes += data.records.as_ref().map_or(0, Bytes::len);
            gathered.is_urgent |= data.error_code != ErrorCode::None.code()
                || data.diverging_epoch != EpochEndOffset::default();
            gathered.partitions.push(data);
        }
        if let Some(permit) = &mut memory {
            // More was reserved than the logs had; the rest goes back at once.
            let excess = permit.num_permits().saturating_sub(gathered.bytes);
            drop(permit.split(excess));
        }
        gathered.memory = memory;
        gathered
    }

    /// Takes the most that the partitions with data can give from the node's response memory. An idle poll
    /// takes nothing.
    async fn reserve(&self, broker: &Broker) -> Option<OwnedSemaphorePermit> {
        let limits = self
            .targets
            .iter()
            .filter(|target| target.has_data())
            .map(|target| target.spec.max_bytes);
        let most = limits.fold(0_usize, usize::saturating_add).min(self.max_bytes);
        let permits = u32::try_from(most.min(broker.limits.response_memory_bytes)).unwrap_or(u32::MAX);
        if permits == 0 {
            return None;
        }
        Arc::clone(&broker.response_memory)
            .acquire_many_owned(permits)
            .await
            .ok()
    }
}

impl Target {
    fn has_data(&self) -> bool {
        let plan = self
            .partition
            .as_ref()
            .ok()
            .and_then(|partition| partition.plan_fetch(&self.spec).ok());
        plan.is_some_and(|plan| plan.has_data())
    }

    async fn read(&self, left: usize, first_batch_whole: bool) -> PartitionData {
        let index = self.spec.index;
        let partition = match &self.partition {
            Ok(partition) => partition,
            Err(code) => return failed(index, *code, None),
        };
        let spec = FetchSpec {
            max_bytes: self.spec.max_bytes.min(left),
            first_batch_whole,
            ..self.spec
        };
        let plan = match partition.plan_fetch(&spec) {
            Ok(plan) => plan,
            Err((code, marks)) => return failed(index, code, marks),
        };
        match plan.read().await {
            Ok(records) => filled(index, &plan, records),
            Err(error) => failed(index, error.code, Some(plan.marks)),
        }
    }
}

fn spec(wanted: &FetchPartition, read_committed: bool) -> FetchSpec {
    FetchSpec {
        index: wanted.partition,
        from: Offset::new(wanted.fetch_offset),
        max_bytes: usize::try_from(wanted.partition_max_bytes).unwrap_or(0),
        first_batch_whole: true,
        read_committed,
        current_leader_epoch: known_epoch(wanted.current_leader_epoch),
        last_fetched_epoch: known_epoch(wanted.last_fetched_epoch),
    }
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

/// Groups the answers as the request grouped the questions.
fn by_topic(request: &FetchRequest, partitions: Vec<PartitionData>) -> Vec<FetchableTopicResponse> {
    let mut partitions = partitions.into_iter();
    request
        .topics
        .iter()
        .map(|topic| FetchableTopicResponse {
            topic: topic.topic.clone(),
            partitions: partitions.by_ref().take(topic.partitions.len()).collect(),
            ..Default::default()
        })
        .collect()
}
