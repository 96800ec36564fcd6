//! One partition on this node: its log under one lock, its high watermark, who waits on it.
//!
//! The lock is held for the few microseconds of an append into the page cache or of planning a read; reads
//! and syncs happen outside of it. On one node everything appended is replicated, so the high watermark
//! follows the log end; whoever reads goes by the high watermark, not by the log end.
//!
//! Invariants:
//! - the high watermark never goes back and never lies above the log end;
//! - waiting fetches are woken after the lock is released (see [`crate::purgatory`]);
//! - a partition that is gone (deleted, shut down, or left mid-change by a panic) refuses every request.

mod fetching;
mod flushing;

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, TryLockError};

use highwater_cluster::TopicSettings;
use highwater_storage::{
    AppendError, AppendInfo, Cleanable, FlushPolicy, LogAccess, LogConfig, PartitionLog, Retention,
    StorageError,
};
use highwater_types::record::{CheckedBatch, Codec, RecordBatch};
use highwater_types::{LeaderEpoch, Offset, Timestamp, TopicPartition};
use highwater_wire::ErrorCode;

pub(crate) use self::fetching::{FetchFailure, FetchPlan, FetchSpec};
use self::flushing::Flushing;
use super::flusher::FlushQueue;
use super::traffic::Traffic;
use crate::error::ApiError;
use crate::purgatory::WaitList;

/// What the metadata says about a partition led here.
#[derive(Debug, Clone)]
pub(crate) struct Leadership {
    pub(crate) epoch: LeaderEpoch,
    pub(crate) in_sync: usize,
    pub(crate) settings: Arc<TopicSettings>,
}

/// A partition led by this node.
#[derive(Debug)]
pub(crate) struct Partition {
    id: TopicPartition,
    is_internal: bool,
    log: Mutex<Option<PartitionLog>>,
    leadership: RwLock<Leadership>,
    high_watermark: AtomicI64,
    waiting: Arc<WaitList>,
    queue: Arc<FlushQueue>,
    flushing: Mutex<Flushing>,
    durable_upto: AtomicI64,
    /// Whether the queue will look at this partition when `flush.ms` are over.
    is_timed: AtomicBool,
    traffic: Traffic,
    /// A cleaner thread works on it.
    cleaning: AtomicBool,
    /// Compaction has failed for good: the log is left as it is.
    uncleanable: AtomicBool,
    /// When it was last logged that data here cannot be read.
    reported: Mutex<Option<u64>>,
}

/// Offsets of a partition at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(crate) log_start: Offset,
    pub(crate) high_watermark: Offset,
    pub(crate) last_stable: Offset,
}

/// What became of a batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Appended {
    pub(crate) base_offset: Offset,
    pub(crate) next_offset: Offset,
    pub(crate) log_append_time: Option<Timestamp>,
    pub(crate) log_start_offset: Offset,
    /// The topic's flush policy asks for a sync before the acknowledgement.
    pub(crate) sync_before_ack: bool,
}

/// Why a batch was not appended.
#[derive(Debug)]
pub(crate) enum AppendFailure {
    /// The partition is not (or no longer) here.
    Gone(ApiError),
    Refused(AppendError),
}

impl From<AppendFailure> for ApiError {
    fn from(failure: AppendFailure) -> Self {
        match failure {
            AppendFailure::Gone(error) => error,
            AppendFailure::Refused(error) => error.into(),
        }
    }
}

impl Partition {
    pub(crate) fn new(
        id: TopicPartition,
        is_internal: bool,
        log: PartitionLog,
        leadership: Leadership,
        queue: Arc<FlushQueue>,
    ) -> Self {
        Partition {
            id,
            is_internal,
            high_watermark: AtomicI64::new(log.end_offset().get()),
            durable_upto: AtomicI64::new(log.recovery_point().get()),
            log: Mutex::new(Some(log)),
            leadership: RwLock::new(leadership),
            waiting: Arc::default(),
            queue,
            flushing: Mutex::default(),
            is_timed: AtomicBool::new(false),
            traffic: Traffic::default(),
            cleaning: AtomicBool::new(false),
            uncleanable: AtomicBool::new(false),
            reported: Mutex::default(),
        }
    }

    pub(crate) fn id(&self) -> &TopicPartition {
        &self.id
    }

    /// Bytes in and out.
    pub(crate) fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// Whether the topic is one of the broker's own.
    pub(crate) fn is_internal(&self) -> bool {
        self.is_internal
    }

    /// Whether the topic drops old data.
    pub(crate) fn is_deletable(&self) -> bool {
        self.leadership().settings.cleanup_policy.delete
    }

    /// The fetches waiting here.
    pub(crate) fn waiting(&self) -> &Arc<WaitList> {
        &self.waiting
    }

    pub(crate) fn high_watermark(&self) -> Offset {
        Offset::new(self.high_watermark.load(Ordering::Acquire))
    }

    fn leadership(&self) -> Leadership {
        self.leadership
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn gone(&self) -> ApiError {
        let message = format!(
            "{} partition {} is not led by this node",
            self.id.topic, self.id.partition
        );
        ApiError::new(ErrorCode::NotLeaderOrFollower, message)
    }

    /// The log, while there is one. A lock that a panic has poisoned guards a log in an unknown state: it is
    /// not used again before the node restarts and recovers it.
    fn lock(&self) -> Result<OpenLog<'_>, ApiError> {
        let guard = self.log.lock().map_err(|_| {
            let message = "the log was left in the middle of a change; restart the node";
            ApiError::new(ErrorCode::KafkaStorageError, message)
        })?;
        match guard.is_some() {
            true => Ok(OpenLog(guard)),
            false => Err(self.gone()),
        }
    }

    /// Runs `use_log` under the lock.
    pub(crate) fn with_log<T>(&self, use_log: impl FnOnce(&mut PartitionLog) -> T) -> Result<T, ApiError> {
        Ok(use_log(self.lock()?.get()))
    }

    /// Whether a write or sync has failed, or a change was left half-way: records are refused until the node restarts.
    pub(crate) fn is_fenced(&self) -> bool {
        match self.log.try_lock() {
            Ok(log) => log.as_ref().is_some_and(|log| log.fence_reason().is_some()),
            Err(TryLockError::Poisoned(_)) => true,
            Err(TryLockError::WouldBlock) => false,
        }
    }

    /// Takes over what the metadata says now.
    pub(crate) fn lead(&self, leadership: Leadership, config: &Arc<LogConfig>) {
        let is_new_epoch = leadership.epoch > self.leadership().epoch;
        let changed = self.with_log(|log| {
            if log.config() != config {
                log.set_config(Arc::clone(config));
            }
            if log.latest_epoch() < Some(leadership.epoch) {
                log.assign_epoch(leadership.epoch);
            }
        });
        if let Err(error) = changed {
            tracing::debug!(topic = %self.id.topic, partition = %self.id.partition, error = error.message,
                "settings arrived for a partition that is gone");
        }
        *self.leadership.write().unwrap_or_else(PoisonError::into_inner) = leadership;
        if is_new_epoch {
            // Who waits with the old epoch is to learn of the new one (semantic 46).
            self.waiting.wake_all();
        }
    }

    /// Refuses writes with `acks=all` while too few replicas are in sync (semantic 23).
    pub(crate) fn require_in_sync(&self) -> Result<(), ApiError> {
        let leadership = self.leadership.read().unwrap_or_else(PoisonError::into_inner);
        let needed = usize::try_from(leadership.settings.min_insync_replicas).unwrap_or(usize::MAX);
        if leadership.in_sync >= needed {
            return Ok(());
        }
        let have = leadership.in_sync;
        let message = format!("{have} replicas are in sync, min.insync.replicas asks for {needed}");
        Err(ApiError::new(ErrorCode::NotEnoughReplicas, message))
    }

    /// Refuses what the topic's limit would refuse, before more is done with it (semantic 27).
    pub(crate) fn require_size(&self, size_bytes: usize) -> Result<(), AppendError> {
        let leadership = self.leadership.read().unwrap_or_else(PoisonError::into_inner);
        let limit_bytes = usize::try_from(leadership.settings.max_message_bytes).unwrap_or(usize::MAX);
        if size_bytes <= limit_bytes {
            return Ok(());
        }
        Err(AppendError::MessageTooLarge {
            size_bytes,
            limit_bytes,
        })
    }

    /// What batches are compressed with here; `None` keeps what the producer sent (`compression.type`).
    pub(crate) fn stored_codec(&self) -> Option<Codec> {
        let leadership = self.leadership.read().unwrap_or_else(PoisonError::into_inner);
        leadership.settings.stored_codec()
    }

    /// Compares the leader epoch a client knows with ours (semantic 50).
    pub(crate) fn check_epoch(&self, known: Option<LeaderEpoch>) -> Result<(), ApiError> {
        let ours = self
            .leadership
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .epoch;
        match known {
            Some(theirs) if theirs < ours => Err(ApiError::plain(ErrorCode::FencedLeaderEpoch)),
            Some(theirs) if theirs > ours => Err(ApiError::plain(ErrorCode::UnknownLeaderEpoch)),
            Some(_) | None => Ok(()),
        }
    }

    /// Appends one batch of a client and wakes who waits for it.
    pub(crate) fn append_checked(
        self: &Arc<Self>,
        batch: CheckedBatch,
        now: Timestamp,
    ) -> Result<Appended, AppendFailure> {
        let bytes = batch.batch().bytes().len();
        self.append_with(bytes, now, |log, epoch| log.append_checked(batch, epoch, now))
    }

    /// As [`append_checked`](Self::append_checked), for what this node has built.
    pub(crate) fn append(
        self: &Arc<Self>,
        batch: RecordBatch,
        now: Timestamp,
    ) -> Result<Appended, AppendFailure> {
        let bytes = batch.bytes().len();
        self.append_with(bytes, now, |log, epoch| log.append_as_leader(batch, epoch, now))
    }

    fn append_with(
        self: &Arc<Self>,
        bytes: usize,
        now: Timestamp,
        append: impl FnOnce(&mut PartitionLog, LeaderEpoch) -> Result<AppendInfo, AppendError>,
    ) -> Result<Appended, AppendFailure> {
        let epoch = self
            .leadership
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .epoch;
        let mut log = self.lock().map_err(AppendFailure::Gone)?;
        let info = append(log.get(), epoch).map_err(AppendFailure::Refused)?;
        let end = log.get().end_offset();
        let policy = log.get().config().flush;
        let is_due = matches!(policy, FlushPolicy::Interval { .. }) && log.get().flush_due(now);
        self.high_watermark.store(end.get(), Ordering::Release);
        drop(log);
        if info.rolled || is_due {
            self.want_flush();
        } else if let FlushPolicy::Interval { ms, .. } = policy {
            self.flush_within(ms);
        }
        if !info.duplicate {
            self.traffic.received(bytes);
            self.waiting.appended(bytes);
        }
        Ok(Appended {
            base_offset: info.base_offset,
            next_offset: info.last_offset.next(),
            log_append_time: info.log_append_time,
            log_start_offset: info.log_start_offset,
            sync_before_ack: policy == FlushPolicy::OnAck,
        })
    }

    fn marks(&self, log: &PartitionLog) -> Marks {
        let high_watermark = self.high_watermark();
        Marks {
            log_start: log.start_offset(),
            high_watermark,
            last_stable: log.last_stable_offset(high_watermark),
        }
    }

    /// Moves the start forward to `upto`, or to the high watermark; answers where the log starts now
    /// (semantic 21).
    pub(crate) fn delete_before(&self, upto: Option<Offset>) -> Result<Offset, ApiError> {
        let high_watermark = self.high_watermark();
        let upto = upto.unwrap_or(high_watermark);
        if upto > high_watermark || upto < Offset::ZERO {
            let message = format!("offset {upto} is not within 0..={high_watermark}");
            return Err(ApiError::new(ErrorCode::OffsetOutOfRange, message));
        }
        // What is written down as deleted must not outlive what is written down as there.
        if self.with_log(|log| log.recovery_point() < upto)? {
            self.flush()?;
        }
        let start = self.with_log(|log| -> Result<Offset, StorageError> {
            log.advance_start_offset(upto)?;
            Ok(log.start_offset())
        })??;
        self.waiting.wake_all();
        Ok(start)
    }

    /// How long deleted files stay (`file.delete.delay.ms`).
    pub(crate) fn file_delete_delay_ms(&self) -> i64 {
        self.leadership().settings.file_delete_delay_ms
    }

    /// Deletes segments that are past retention; their files may only be renamed so far.
    pub(crate) fn apply_retention(&self, now: Timestamp) -> Result<Retention, ApiError> {
        let high_watermark = self.high_watermark();
        Ok(self.with_log(|log| {
            log.expire_producers(now);
            log.apply_retention(now, high_watermark)
        })??)
    }

    /// What compaction could do here now; `None` for a log that is not compacted, is being cleaned, or cannot be.
    /// Seals, and syncs, a last segment that nobody writes to and that has waited long enough. Blocks.
    pub(crate) fn cleanable(&self, now: Timestamp) -> Result<Option<Cleanable>, ApiError> {
        if self.cleaning.load(Ordering::Acquire) || self.is_uncleanable() {
            return Ok(None);
        }
        let high_watermark = self.high_watermark();
        let is_sealed = self.with_log(|log| match log.config().compact {
            true => log.roll_for_compaction(now, high_watermark).map(Some),
            false => Ok(None),
        })??;
        let Some(is_sealed) = is_sealed else {
            return Ok(None);
        };
        if is_sealed {
            self.flush()?;
        }
        Ok(Some(self.with_log(|log| log.cleanable(now, high_watermark))??))
    }

    /// Reserves the log for one cleaning; `None` if another thread has it.
    pub(crate) fn begin_cleaning(&self) -> Option<CleaningTurn<'_>> {
        let is_free = !self.cleaning.swap(true, Ordering::AcqRel);
        is_free.then_some(CleaningTurn(self))
    }

    /// No more attempts until the partition is opened again.
    pub(crate) fn mark_uncleanable(&self) {
        self.uncleanable.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_uncleanable(&self) -> bool {
        self.uncleanable.load(Ordering::Relaxed)
    }

    /// Takes the log out: every later request is refused, every waiting fetch is woken to learn of it.
    pub(crate) fn take_log(&self) -> Option<PartitionLog> {
        // A poisoned log is not closed cleanly; dropping it here leaves it to recovery.
        let log = self.log.lock().ok().and_then(|mut log| log.take());
        self.waiting.wake_all();
        // Acknowledgements that wait for a sync learn that there will be none.
        self.flushing().waiting.clear();
        log
    }
}

/// Keeps other cleaner threads from a log until it is dropped.
#[derive(Debug)]
pub(crate) struct CleaningTurn<'a>(&'a Partition);

impl Drop for CleaningTurn<'_> {
    fn drop(&mut self) {
        self.0.cleaning.store(false, Ordering::Release);
    }
}

impl LogAccess for Partition {
    fn with_log<T>(&self, use_log: impl FnOnce(&mut PartitionLog) -> T) -> Option<T> {
        Partition::with_log(self, use_log).ok()
    }
}

/// The log under its lock.
struct OpenLog<'a>(MutexGuard<'a, Option<PartitionLog>>);

impl OpenLog<'_> {
    fn get(&mut self) -> &mut PartitionLog {
        self.0
            .as_mut()
            .expect("checked when the lock was taken, and only the lock's holder takes it out")
    }
}
