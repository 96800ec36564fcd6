//! Reading from a partition: located under its lock, read outside of it.

use std::sync::PoisonError;

use bytes::Bytes;
use highwater_storage::{PartitionLog, ReadError, ReadOptions, ReadPlan, ReadRequest, Records};
use highwater_types::{LeaderEpoch, Offset, ProducerId};
use highwater_wire::ErrorCode;

use super::{Marks, Partition};
use crate::error::ApiError;
use crate::limits::MAX_INLINE_READ_BYTES;

/// Data that cannot be read is logged at most this often for each partition.
const REPORT_INTERVAL_MS: u64 = 60_000;

/// One partition's part of a fetch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FetchSpec {
    pub(crate) from: Offset,
    pub(crate) max_bytes: usize,
    pub(crate) read_committed: bool,
    pub(crate) current_leader_epoch: Option<LeaderEpoch>,
    pub(crate) last_fetched_epoch: Option<LeaderEpoch>,
}

/// A located read with everything its answer needs.
#[derive(Debug)]
pub(crate) struct FetchPlan {
    pub(crate) marks: Marks,
    /// Where the client's log leaves ours (KIP-595's fetch answer); nothing is read then.
    pub(crate) diverging: Option<(LeaderEpoch, Offset)>,
    /// For readers of committed data: who aborted from where, by first offset (semantic 40).
    pub(crate) aborted: Option<Vec<(ProducerId, Offset)>>,
    read: Option<ReadPlan>,
    is_cold: bool,
}

/// A read that cannot be: the code, and the offsets a client needs to find its way.
pub(crate) type FetchFailure = (ErrorCode, Option<Marks>);

impl Partition {
    /// Locates a read; reads nothing.
    pub(crate) fn plan_fetch(&self, spec: &FetchSpec) -> Result<FetchPlan, FetchFailure> {
        self.check_epoch(spec.current_leader_epoch)
            .map_err(|error| (error.code, None))?;
        let mut guard = self.lock().map_err(|error| (error.code, None))?;
        let log = guard.get();
        let marks = self.marks(log);
        let diverging = diverging(log, spec).map_err(|code| (code, Some(marks)))?;
        if let Some(diverging) = diverging {
            return Ok(FetchPlan {
                marks,
                diverging: Some(diverging),
                aborted: None,
                read: None,
                is_cold: false,
            });
        }
        let upto = if spec.read_committed {
            marks.last_stable
        } else {
            marks.high_watermark
        };
        let request = ReadRequest {
            from: spec.from,
            upto,
            max_bytes: spec.max_bytes,
            at_least_one_batch: false,
        };
        let failed = |error: ApiError| (error.code, Some(marks));
        let read = log.plan_read(request).map_err(|error| failed(error.into()))?;
        let aborted = match spec.read_committed {
            true if !read.is_empty() => {
                let found = log
                    .aborted_transactions(spec.from, upto)
                    .map_err(|error| failed(error.into()))?;
                Some(
                    found
                        .iter()
                        .map(|entry| (entry.producer_id, entry.first_offset))
                        .collect(),
                )
            }
            true => Some(Vec::new()),
            false => None,
        };
        let is_cold = spec.from < log.active_segment_base();
        let read = (!read.is_empty()).then_some(read);
        Ok(FetchPlan {
            marks,
            diverging: None,
            aborted,
            read,
            is_cold,
        })
    }

    /// Tells a person of data that cannot be read, once in a while: clients ask again and again. Time is the
    /// clock's monotonic one.
    pub(crate) fn report_unreadable(&self, error: &ReadError, now_ms: u64) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.is_some_and(|last| now_ms.saturating_sub(last) < REPORT_INTERVAL_MS) {
            return;
        }
        *reported = Some(now_ms);
        drop(reported);
        let (topic, partition) = (&self.id.topic, self.id.partition);
        match error {
            ReadError::Changed { path, position } => tracing::error!(
                %topic, %partition, path = %path.display(), position,
                "there is no batch where one must begin, the segment is damaged; restore it from a copy, or delete \
                 records up to the next segment"
            ),
            _ => tracing::error!(%topic, %partition, %error, "cannot read"),
        }
    }
}

impl FetchPlan {
    /// Bytes a read gives at most, but for the rule of the one whole batch.
    pub(crate) fn at_most_bytes(&self) -> usize {
        self.read.as_ref().map_or(0, ReadPlan::at_most_bytes)
    }

    /// Whether the data lies in a sealed segment: there is more behind what one read gives.
    pub(crate) fn is_behind(&self) -> bool {
        self.read.is_some() && self.is_cold
    }

    /// The limit in force.
    pub(crate) fn max_bytes(&self) -> usize {
        self.read.as_ref().map_or(0, ReadPlan::max_bytes)
    }

    /// Sets how much is read.
    pub(crate) fn limit(&mut self, max_bytes: usize, first_batch_whole: bool) {
        if let Some(read) = &mut self.read {
            read.limit(max_bytes, first_batch_whole);
        }
    }

    /// Whether the bytes lie in a file that can be sent.
    pub(crate) fn is_sendable(&self) -> bool {
        self.read.as_ref().is_some_and(ReadPlan::has_descriptor)
    }

    /// Reads, or finds the bytes in their file if there are at least `min_file_bytes`. On this thread if everything
    /// that has to be read lies in the page cache, which is asked; otherwise on a thread that may wait for the disk.
    /// So is what is asked for in vain: a file system that cannot tell, other than at the tail.
    ///
    /// # Errors
    /// [`ReadError::Changed`] for a log that was cut meanwhile, or is damaged: a new plan tells which.
    ///
    /// # Panics
    /// When the read panics.
    pub(crate) async fn read(&self, min_file_bytes: Option<usize>) -> Result<Records, ReadError> {
        let Some(plan) = &self.read else {
            return Ok(Records::Bytes(Bytes::new()));
        };
        let mut options = ReadOptions {
            min_file_bytes,
            waits: false,
        };
        let is_long = self.is_cold && min_file_bytes.is_none() && plan.max_bytes() > MAX_INLINE_READ_BYTES;
        if !is_long {
            match plan.fetch(options) {
                Err(ReadError::WouldWait) => {}
                other => return other,
            }
        }
        options.waits = true;
        let plan = plan.clone();
        match tokio::task::spawn_blocking(move || plan.fetch(options)).await {
            Ok(read) => read,
            Err(failed) => match failed.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime ends, and the connection with it.
                Err(_) => Ok(Records::Bytes(Bytes::new())),
            },
        }
    }
}

/// Whether the log a client has read parts from ours below its offset (Fetch v12, semantic 50).
///
/// # Errors
/// OFFSET_OUT_OF_RANGE for an epoch that this log has not seen, and for offsets that are gone.
fn diverging(log: &PartitionLog, spec: &FetchSpec) -> Result<Option<(LeaderEpoch, Offset)>, ErrorCode> {
    let Some(theirs) = spec.last_fetched_epoch else {
        return Ok(None);
    };
    let found = log.end_offset_for_epoch(theirs);
    let (epoch, end) = found.ok_or(ErrorCode::OffsetOutOfRange)?;
    if spec.from < log.start_offset() {
        return Err(ErrorCode::OffsetOutOfRange);
    }
    Ok((epoch < theirs || end < spec.from).then_some((epoch, end)))
}
