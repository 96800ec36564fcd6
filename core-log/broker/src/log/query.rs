//! Questions about a partition's offsets: by time, by epoch, its ends; and reads for replay.

use std::sync::Arc;

use bytes::Bytes;
use highwater_storage::{PartitionLog, ReadRequest};
use highwater_types::{LeaderEpoch, Offset, Timestamp};
use highwater_wire::ErrorCode;

use super::partition::Partition;
use crate::error::ApiError;

/// What ListOffsets asks (semantic 53).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OffsetQuery {
    Earliest,
    /// The high watermark.
    Latest,
    /// For readers of committed data.
    LastStable,
    MaxTimestamp,
    /// The last offset in a remote tier, which there is none of.
    LastTiered,
    AtOrAfter(Timestamp),
}

/// An offset with what is known about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FoundOffset {
    pub(crate) offset: Offset,
    /// Only for queries by time.
    pub(crate) timestamp: Option<Timestamp>,
    pub(crate) leader_epoch: Option<LeaderEpoch>,
}

/// Offsets for gauges.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Extent {
    pub(crate) start: Offset,
    pub(crate) high_watermark: Offset,
    pub(crate) size_bytes: u64,
}

impl Partition {
    /// Finds an offset. Queries by time read index and batch, on a thread that may wait for the disk.
    pub(crate) async fn find_offset(
        self: &Arc<Self>,
        query: OffsetQuery,
    ) -> Result<Option<FoundOffset>, ApiError> {
        if !matches!(query, OffsetQuery::MaxTimestamp | OffsetQuery::AtOrAfter(_)) {
            return self.find_now(query);
        }
        let partition = Arc::clone(self);
        let found = tokio::task::spawn_blocking(move || partition.find_now(query)).await;
        found.map_err(|_| ApiError::plain(ErrorCode::KafkaStorageError))?
    }

    fn find_now(&self, query: OffsetQuery) -> Result<Option<FoundOffset>, ApiError> {
        let high_watermark = self.high_watermark();
        let end = |log: &PartitionLog, offset| {
            let epoch = log.epoch_for_offset(offset).or_else(|| log.latest_epoch());
            Some(FoundOffset {
                offset,
                timestamp: None,
                leader_epoch: epoch,
            })
        };
        let found = self.with_log(|log| {
            Ok::<_, ApiError>(match query {
                OffsetQuery::Earliest => end(log, log.start_offset()),
                OffsetQuery::Latest => end(log, high_watermark),
                OffsetQuery::LastStable => end(log, log.last_stable_offset(high_watermark)),
                OffsetQuery::LastTiered => None,
                OffsetQuery::MaxTimestamp => log.offset_of_max_timestamp()?.map(by_time),
                OffsetQuery::AtOrAfter(at) => log.offset_for_timestamp(at)?.map(by_time),
            })
        })??;
        // What lies above the high watermark is not there yet for a client.
        Ok(found.filter(|found| found.timestamp.is_none() || found.offset < high_watermark))
    }

    /// Where an epoch, or the largest smaller one, ended (semantic 51).
    pub(crate) fn end_offset_for_epoch(
        &self,
        epoch: LeaderEpoch,
    ) -> Result<Option<(LeaderEpoch, Offset)>, ApiError> {
        self.with_log(|log| log.end_offset_for_epoch(epoch))
    }

    /// Where the log starts and where it ends for readers.
    pub(crate) fn bounds(&self) -> Result<(Offset, Offset), ApiError> {
        let high_watermark = self.high_watermark();
        self.with_log(|log| (log.start_offset(), high_watermark))
    }

    /// Offsets and size for gauges.
    pub(crate) fn extent(&self) -> Result<Extent, ApiError> {
        let high_watermark = self.high_watermark();
        self.with_log(|log| Extent {
            start: log.start_offset(),
            high_watermark,
            size_bytes: log.size_bytes(),
        })
    }

    /// Whether there is nothing to read.
    pub(crate) fn is_empty(&self) -> bool {
        self.bounds().is_ok_and(|(start, end)| start >= end)
    }

    /// Whole batches from `from` on, about `max_bytes` of them. Blocks.
    pub(crate) fn read_for_replay(&self, from: Offset, max_bytes: usize) -> Result<Bytes, ApiError> {
        let upto = self.high_watermark();
        let request = ReadRequest {
            from,
            upto,
            max_bytes,
            at_least_one_batch: true,
        };
        let plan = self.with_log(|log| log.plan_read(request))??;
        Ok(plan.execute()?)
    }
}

fn by_time(found: highwater_storage::TimestampOffset) -> FoundOffset {
    FoundOffset {
        offset: found.offset,
        timestamp: Some(found.timestamp),
        leader_epoch: found.leader_epoch,
    }
}
