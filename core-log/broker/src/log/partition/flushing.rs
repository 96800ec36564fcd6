//! A partition on its way to the disk: at most one place in the queue, one sync for all who wait (group commit).

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use highwater_storage::PartitionLog;
use highwater_types::{Offset, Timestamp};
use tokio::sync::oneshot;

use super::Partition;
use crate::error::ApiError;

/// A longer `flush.ms` is no wish to flush.
const MAX_FLUSH_MS: i64 = 7 * 24 * 3_600_000;

/// Where a partition is on its way to the disk.
#[derive(Debug, Default)]
pub(super) struct Flushing {
    turn: Turn,
    pub(super) waiting: Vec<SyncWait>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Turn {
    #[default]
    Idle,
    Queued,
    Running,
    /// Something came that the sync under way may not cover.
    RunningAndWanted,
}

/// An acknowledgement that waits for everything below `upto` to be durable.
#[derive(Debug)]
pub(super) struct SyncWait {
    upto: Offset,
    done: oneshot::Sender<Result<(), ApiError>>,
}

impl Partition {
    /// Waits until everything below `upto` is durable: one sync for all who wait (group commit).
    pub(crate) async fn synced(self: &Arc<Self>, upto: Offset) -> Result<(), ApiError> {
        if self.durable_upto.load(Ordering::Acquire) >= upto.get() {
            return Ok(());
        }
        let (done, durable) = oneshot::channel();
        self.flushing().waiting.push(SyncWait { upto, done });
        self.want_flush();
        durable.await.unwrap_or_else(|_| Err(self.gone()))
    }

    pub(super) fn flushing(&self) -> MutexGuard<'_, Flushing> {
        // Held for moves between lists only, none of which can panic half way.
        self.flushing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a sync that covers everything appended so far. Does not wait.
    pub(crate) fn want_flush(self: &Arc<Self>) {
        {
            let mut flushing = self.flushing();
            flushing.turn = match flushing.turn {
                Turn::Idle => Turn::Queued,
                Turn::Queued => return,
                Turn::Running | Turn::RunningAndWanted => {
                    flushing.turn = Turn::RunningAndWanted;
                    return;
                }
            };
        }
        if !self.queue.push(Arc::clone(self)) {
            // The node stops: closing makes the log durable, but nobody is told before.
            let mut flushing = self.flushing();
            flushing.turn = Turn::Idle;
            flushing.waiting.clear();
        }
    }

    /// Makes sure that the queue looks here within so many milliseconds.
    pub(super) fn flush_within(self: &Arc<Self>, ms: i64) {
        let delay = u64::try_from(ms).unwrap_or(0);
        if ms < MAX_FLUSH_MS && !self.is_timed.swap(true, Ordering::Relaxed) {
            self.queue.push_later(self, Duration::from_millis(delay));
        }
    }

    /// The queue looks here, as asked.
    pub(in crate::log) fn flush_time_has_come(self: &Arc<Self>) {
        self.is_timed.store(false, Ordering::Relaxed);
        self.want_flush();
    }

    /// One turn of a flushing thread: syncs, answers who waited, queues again if need be. Gives what failed.
    pub(in crate::log) fn flush_turn(self: &Arc<Self>) -> Option<ApiError> {
        self.flushing().turn = Turn::Running;
        let outcome = self.flush();
        // An offset that is no longer in the log will never be durable.
        let end = self.with_log(|log| log.end_offset());
        let mut flushing = self.flushing();
        let (answered, waiting) = std::mem::take(&mut flushing.waiting)
            .into_iter()
            .partition(|wait| match (&outcome, &end) {
                (Ok(durable), Ok(end)) => wait.upto <= *durable || wait.upto > *end,
                _ => true,
            });
        flushing.waiting = waiting;
        let again = flushing.turn == Turn::RunningAndWanted || !flushing.waiting.is_empty();
        flushing.turn = Turn::Idle;
        drop(flushing);
        let answered: Vec<SyncWait> = answered;
        for wait in answered {
            let answer = match &outcome {
                Ok(durable) if wait.upto <= *durable => Ok(()),
                Ok(_) => Err(self.gone()),
                Err(error) => Err(error.clone()),
            };
            // Whoever waited may have gone.
            let _ = wait.done.send(answer);
        }
        if again && outcome.is_ok() {
            self.want_flush();
        }
        outcome.err()
    }

    /// Whether the flush policy asks for a sync.
    pub(crate) fn wants_flush(&self, now: Timestamp) -> bool {
        self.with_log(|log| log.flush_due(now)).unwrap_or(false)
    }

    /// Whether something has not been durable for so long.
    pub(crate) fn is_unflushed_for(&self, ms: i64, now: Timestamp) -> bool {
        self.with_log(|log| {
            log.unflushed_since()
                .is_some_and(|since| now.distance_from_ms(since) >= ms)
        })
        .unwrap_or(false)
    }

    /// Makes everything appended so far durable. Blocks, but not under the lock.
    pub(crate) fn flush(&self) -> Result<Offset, ApiError> {
        let plan = self.with_log(PartitionLog::begin_flush)??;
        let outcome = plan.execute();
        let durable = self.with_log(|log| log.finish_flush(&plan, outcome))??;
        self.durable_upto.fetch_max(durable.get(), Ordering::AcqRel);
        Ok(durable)
    }
}
