//! `PartitionLog`: one partition's records on one disk.
//!
//! Reading order: this file (state and small questions), `log/append.rs`, `log/read.rs`, `log/recovery.rs`,
//! `log/replay.rs`, `log/flush.rs`, `log/retention.rs`, `log/truncate.rs`, `log/time.rs`.
//!
//! Refuses: to know requests, high watermarks of its own, clocks and threads. The owner serialises mutation; reads
//! are planned under its lock and executed outside.
//!
//! # Invariants
//! - `start_offset <= recovery_point.max(start) <= end_offset`; bases of segments grow strictly.
//! - After a failed write or sync nothing is written any more (invariant 22).
//! - Data below the recovery point is durable, and was so before the recovery point was reported.
//! - Leader epochs never fall from batch to batch (invariant 10).

mod append;
mod cleaning;
mod flush;
mod locate;
mod read;
mod recovery;
mod replay;
mod retention;
mod time;
mod truncate;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use highwater_types::{LeaderEpoch, Offset, Timestamp};

pub use append::{AppendInfo, EndTransaction};
pub use cleaning::Cleanable;
pub(crate) use cleaning::{CleaningPlan, Source};
pub use flush::{ClosingLog, FlushPlan};
pub use read::{ReadOptions, ReadPlan, ReadRequest, Records};
pub(crate) use recovery::remove_segment;
pub use recovery::{CorruptionPolicy, OpenOptions, RecoveryReport};
pub use retention::Retention;
pub use time::TimestampOffset;

use crate::config::LogConfig;
use crate::disk::{Disk, DiskFile, is_full, read_file};
use crate::error::{At, FenceReason, StorageError};
use crate::files::{self, FileKind};
use crate::leader_epochs::LeaderEpochs;
use crate::producer_state::{ActiveProducer, ProducerState};
use crate::segment::{Active, Sealed, SegmentFile};
use crate::txn_index::{self, AbortedTransaction};

#[cfg(test)]
mod tests;

/// The log of one partition.
#[derive(Debug)]
pub struct PartitionLog {
    disk: Arc<dyn Disk>,
    dir: Arc<Path>,
    config: Arc<LogConfig>,
    start: Offset,
    end: Offset,
    recovery_point: Offset,
    sealed: Vec<Sealed>,
    active: Active,
    epochs: LeaderEpochs,
    epochs_changed: bool,
    has_epoch_file: bool,
    producers: ProducerState,
    /// Whether any segment may have a transaction index; most logs never have one.
    has_txn_indexes: bool,
    /// Bytes appended since producers were written down, or as many as an open had to read for them.
    since_snapshot_bytes: u64,
    /// Producer snapshots within the active segment, oldest first; those at its borders are not among them.
    inner_snapshots: Vec<Offset>,
    /// What a flush must sync besides the active segment's log.
    unsynced: Unsynced,
    /// Nothing here was ever made durable, not even the directory's own name: creating a partition syncs nothing,
    /// its first flush does.
    place_unsynced: bool,
    /// When the oldest record above the recovery point was appended.
    unflushed_since: Option<Timestamp>,
    /// Counts truncations: a flush that began before one says nothing about what came after.
    truncations: u64,
    fence: Option<Arc<FenceReason>>,
    /// Everything below was compacted.
    cleaned_upto: Option<Offset>,
    /// When the next tombstones or markers may go, as the last cleaning saw it.
    next_horizon: Option<Timestamp>,
    /// Base of a cleaned segment that is about to be put in place.
    pending_swap: Option<Offset>,
    /// Keeps the segment read last open if no writer does, so that its readers do not open it per request.
    last_read: Mutex<Option<LastRead>>,
}

/// Files of a segment, held open.
#[derive(Debug)]
struct LastRead {
    log: Arc<dyn DiskFile>,
    /// Of a sealed one; the active one's is in memory.
    _index: Option<Arc<dyn DiskFile>>,
}

/// Files and names that are not durable yet. Every change gets a stamp, so that a flush clears what it has synced
/// and not what came while it was under way, and a flush that never ends clears nothing.
#[derive(Debug, Default)]
struct Unsynced {
    files: Vec<(PathBuf, u64)>,
    names: Option<u64>,
    stamp: u64,
}

impl Unsynced {
    fn file(&mut self, path: PathBuf) {
        self.stamp += 1;
        match self.files.iter_mut().find(|(known, _)| *known == path) {
            Some((_, stamp)) => *stamp = self.stamp,
            None => self.files.push((path, self.stamp)),
        }
    }

    fn names(&mut self) {
        self.stamp += 1;
        self.names = Some(self.stamp);
    }

    fn forget_file(&mut self, path: &Path) {
        self.files.retain(|(known, _)| known != path);
    }

    /// Everything up to a stamp is durable.
    fn synced(&mut self, upto: u64) {
        self.files.retain(|(_, stamp)| *stamp > upto);
        self.names = self.names.filter(|stamp| *stamp > upto);
    }
}

impl PartitionLog {
    /// The partition's directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The settings in force.
    pub fn config(&self) -> &Arc<LogConfig> {
        &self.config
    }

    /// New settings, in force from the next operation on.
    pub fn set_config(&mut self, config: Arc<LogConfig>) {
        self.config = config;
    }

    /// Log start offset: everything below is gone.
    pub fn start_offset(&self) -> Offset {
        self.start
    }

    /// The start offset as far as it may be written down: a start above everything durable could be found above the
    /// end of the log after a power cut.
    pub fn durable_start_offset(&self) -> Offset {
        let first = self
            .sealed
            .first()
            .map_or(self.active.base_offset, |segment| segment.base_offset);
        self.start.min(self.recovery_point.max(first))
    }

    /// Log end offset: what the next record will get.
    pub fn end_offset(&self) -> Offset {
        self.end
    }

    /// Everything below is durable.
    pub fn recovery_point(&self) -> Offset {
        self.recovery_point
    }

    /// Bytes of all `.log` files.
    pub fn size_bytes(&self) -> u64 {
        self.sealed.iter().map(|segment| segment.size_bytes).sum::<u64>() + self.active.size_bytes
    }

    /// How many segments there are.
    pub fn segment_count(&self) -> usize {
        self.sealed.len() + 1
    }

    /// First offset of the segment being written.
    pub fn active_segment_base(&self) -> Offset {
        self.active.base_offset
    }

    /// Producers remembered.
    pub fn producer_count(&self) -> usize {
        self.producers.len()
    }

    /// The producers remembered, by id.
    pub fn active_producers(&self) -> Vec<ActiveProducer> {
        let entries = self.producers.entries().into_iter();
        entries.map(|(id, entry)| entry.describe(id)).collect()
    }

    /// The leader epoch of the newest records, or one that has been announced since.
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.epochs.latest()
    }

    /// The leader epoch the record at an offset was written in.
    pub fn epoch_for_offset(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.epochs.epoch_for(offset)
    }

    /// End offset of an epoch, or of the largest smaller one (semantic 51).
    pub fn end_offset_for_epoch(&self, epoch: LeaderEpoch) -> Option<(LeaderEpoch, Offset)> {
        self.epochs.end_offset_for(epoch, self.end)
    }

    /// A new leader begins at the end of this log, before its first record. Written to disk with the next flush.
    pub fn assign_epoch(&mut self, epoch: LeaderEpoch) {
        self.epochs_changed |= self.epochs.assign(epoch, self.end);
    }

    /// Last stable offset: where read_committed stops (semantic 40, section 3.4). Never above the high watermark;
    /// a transaction counts as open until its marker is below the high watermark.
    pub fn last_stable_offset(&self, high_watermark: Offset) -> Offset {
        let high_watermark = high_watermark.min(self.end);
        match self.producers.first_unstable(high_watermark) {
            Some(first) => first.max(self.start).min(high_watermark),
            None => high_watermark,
        }
    }

    /// Lets the log forget ended transactions below the high watermark. Call when it advances past markers;
    /// answers do not depend on it, memory does.
    pub fn high_watermark_advanced(&mut self, high_watermark: Offset) {
        self.producers.forget_replicated(high_watermark);
    }

    /// Whether this producer has an open transaction here, and where it began.
    pub fn open_transaction(&self, producer_id: highwater_types::ProducerId) -> Option<Offset> {
        self.producers.transaction_start(producer_id)
    }

    /// Aborted transactions that overlap `from..upto`, by first offset (semantic 40).
    ///
    /// # Errors
    /// An index file that cannot be read.
    pub fn aborted_transactions(
        &self,
        from: Offset,
        upto: Offset,
    ) -> Result<Vec<AbortedTransaction>, StorageError> {
        if !self.has_txn_indexes {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        let first = self
            .sealed
            .partition_point(|segment| segment.base_offset <= from)
            .saturating_sub(1);
        let later = self.sealed.iter().skip(first).map(|segment| segment.base_offset);
        let mut bases: Vec<Offset> = later.chain([self.active.base_offset]).collect();
        bases.push(self.end);
        for pair in bases.windows(2) {
            let [base, end] = [pair[0], pair[1]];
            let mut complete = false;
            for entry in self.read_txn_index(base, end)? {
                if entry.last_offset >= from && entry.first_offset < upto {
                    found.push(entry);
                }
                complete |= entry.last_stable_offset >= upto;
            }
            if complete {
                break;
            }
        }
        found.sort_unstable_by_key(|entry| entry.first_offset);
        Ok(found)
    }

    fn read_txn_index(&self, base: Offset, end: Offset) -> Result<Vec<AbortedTransaction>, StorageError> {
        let path = files::path(&self.dir, base, FileKind::TxnIndex);
        let limit = u64::from(u32::MAX);
        let Some(bytes) = read_file(&*self.disk, &path, limit).at("read", &path)? else {
            return Ok(Vec::new());
        };
        txn_index::decode(&bytes, base, end).map_err(|problem| StorageError::Malformed {
            path,
            kind: "transaction index",
            problem,
        })
    }

    /// Forgets producers idle for `producer.id.expiration.ms` (semantic 36); says how many.
    pub fn expire_producers(&mut self, now: Timestamp) -> usize {
        self.producers.expire(now, self.config.producer_id_expiration_ms)
    }

    /// Closes the files of a log nobody has used for a while; they are opened again when needed.
    pub fn release_files(&mut self) {
        self.active.handle = None;
        *self.last_read.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Why the log takes no writes, if it does not.
    pub fn fence_reason(&self) -> Option<&Arc<FenceReason>> {
        self.fence.as_ref()
    }

    fn keep_open(&self, log: &Arc<dyn DiskFile>, index: Option<&Arc<dyn DiskFile>>) {
        let mut last_read = self.last_read.lock().unwrap_or_else(PoisonError::into_inner);
        if last_read.as_ref().is_none_or(|last| !Arc::ptr_eq(&last.log, log)) {
            *last_read = Some(LastRead {
                log: Arc::clone(log),
                _index: index.cloned(),
            });
        }
    }

    fn segment_file(&self, base: Offset) -> Arc<SegmentFile> {
        Arc::new(SegmentFile::new(
            Arc::clone(&self.disk),
            Arc::clone(&self.dir),
            base,
        ))
    }

    fn check_fence(&self) -> Result<(), StorageError> {
        match &self.fence {
            Some(failure) => Err(StorageError::Fenced {
                dir: self.dir.to_path_buf(),
                failure: Arc::clone(failure),
            }),
            None => Ok(()),
        }
    }

    /// As [`Self::fencing`] for a change that a full disk has left undone: that alone fences nothing, since the same
    /// may work once there is room.
    fn fencing_unless_full<T>(&mut self, result: Result<T, StorageError>) -> Result<T, StorageError> {
        match result {
            Err(StorageError::Io { action, path, source }) if is_full(&source) => {
                Err(StorageError::Io { action, path, source })
            }
            other => self.fencing(other),
        }
    }

    /// Passes a result of a write or sync on; a failure fences the log.
    fn fencing<T>(&mut self, result: Result<T, StorageError>) -> Result<T, StorageError> {
        if let Err(StorageError::Io { action, path, source }) = &result
            && self.fence.is_none()
        {
            self.fence = Some(Arc::new(FenceReason {
                action,
                path: path.clone(),
                kind: source.kind(),
                os_error: source.raw_os_error(),
            }));
        }
        result
    }
}
