//! Raw batch reads: the bytes of one partition as the log has them, for callers that decode in bulk.
//!
//! Lanes of connections are lent to callers, so that a long poll of one does not delay another (semantic 6).

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use highwater_types::{
    Bytes, Offset, TopicPartition,
    record::{BatchError, RecordBatch},
};
use highwater_wire::{
    ApiKey, ErrorCode,
    messages::{
        FetchRequest, FetchResponse,
        fetch_request::{FetchPartition, FetchTopic},
        fetch_response::PartitionData,
    },
};
use tokio::sync::Semaphore;

use crate::{
    ClientError,
    client::{ClientCore, Retry},
    limits,
    network::Network,
};

/// What one raw read brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchedBatches {
    /// Whole batches one after another; a cut tail is possible with very old brokers and is passed over by
    /// [`FetchedBatches::iter`].
    pub batches: Bytes,
    /// One past the last record every in-sync replica has.
    pub high_watermark: Offset,
    /// One past the last record of a decided transaction; `None` when the broker does not tell it here.
    pub last_stable_offset: Option<Offset>,
    /// First offset still in the log; `None` from brokers that do not tell it (Fetch below v5).
    pub log_start: Option<Offset>,
}

impl FetchedBatches {
    /// The batches, zero copy. CRCs are not checked; see [`RecordBatch::verify_crc`].
    pub fn iter(&self) -> impl Iterator<Item = Result<RecordBatch, BatchError>> + use<> {
        highwater_types::record::batches(self.batches.clone())
    }
}

/// Connections for raw reads.
#[derive(Debug)]
pub(crate) struct RawFetcher {
    network: Network,
    idle: Mutex<Vec<Network>>,
    slots: Semaphore,
}

impl RawFetcher {
    pub(crate) fn new(network: Network) -> Self {
        Self {
            network,
            idle: Mutex::default(),
            slots: Semaphore::new(limits::MAX_RAW_FETCHES),
        }
    }

    pub(crate) async fn fetch(
        &self,
        core: &Arc<ClientCore>,
        tp: &TopicPartition,
        from: Offset,
        max_bytes: usize,
        max_wait: Duration,
    ) -> Result<FetchedBatches, ClientError> {
        // The semaphore is never closed; were it, reading without a bound would still be correct.
        let _slot = self.slots.acquire().await.ok();
        let lane = self.idle().pop().unwrap_or_else(|| self.network.separate());
        let mut retry = Retry::new(&core.config);
        let outcome = loop {
            match fetch_once(core, &lane, tp, from, max_bytes, max_wait).await {
                Ok(fetched) => break Ok(fetched),
                Err(error) => {
                    if let Err(error) = retry.pause(error).await {
                        break Err(error);
                    }
                    // The leader may have moved; a failure to learn it shows in the next attempt.
                    let _ = core.metadata.refresh(std::slice::from_ref(&tp.topic)).await;
                }
            }
        };
        self.idle().push(lane);
        outcome
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Network>> {
        self.idle.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

async fn fetch_once(
    core: &Arc<ClientCore>,
    lane: &Network,
    tp: &TopicPartition,
    from: Offset,
    max_bytes: usize,
    max_wait: Duration,
) -> Result<FetchedBatches, ClientError> {
    let (leader, epoch) = core.leader(tp).await?;
    let broker = lane.broker(&leader.address()).await?;
    let max_bytes = i32::try_from(max_bytes).unwrap_or(i32::MAX);
    let partition = FetchPartition {
        partition: tp.partition.get(),
        current_leader_epoch: epoch.map_or(-1, |epoch| epoch.get()),
        fetch_offset: from.get(),
        partition_max_bytes: max_bytes,
        ..Default::default()
    };
    let request = FetchRequest {
        max_wait_ms: i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX),
        min_bytes: 1,
        max_bytes,
        topics: vec![FetchTopic {
            topic: tp.topic.as_byte_string().clone(),
            partitions: vec![partition],
            ..Default::default()
        }],
        ..Default::default()
    };
    let response = broker.call_with_wait(request, max_wait).await?;
    let data = only_partition(response, tp)?;
    ClientError::check(ApiKey::Fetch, data.error_code, tp, None)?;
    let known = |raw: i64| (raw >= 0).then(|| Offset::new(raw));
    Ok(FetchedBatches {
        batches: data.records.unwrap_or_default(),
        high_watermark: Offset::new(data.high_watermark.max(0)),
        last_stable_offset: known(data.last_stable_offset),
        log_start: known(data.log_start_offset),
    })
}

fn only_partition(response: FetchResponse, tp: &TopicPartition) -> Result<PartitionData, ClientError> {
    ClientError::check(ApiKey::Fetch, response.error_code, tp, None)?;
    let mut partitions = response.responses.into_iter().flat_map(|topic| topic.partitions);
    partitions
        .find(|p| p.partition_index == tp.partition.get())
        .ok_or_else(|| ClientError::IncompleteResponse {
            api: ApiKey::Fetch,
            missing: tp.to_string(),
        })
}

/// Errors of a fetched partition that a fresh look at the metadata cures.
pub(crate) fn is_stale_leader(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotLeaderOrFollower
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch
            | ErrorCode::UnknownTopicOrPartition
            | ErrorCode::UnknownTopicId
            | ErrorCode::InconsistentTopicId
            | ErrorCode::ReplicaNotAvailable
            | ErrorCode::KafkaStorageError
            | ErrorCode::OffsetNotAvailable
    )
}
