//! The log's side of compaction: what could be cleaned, and the exchange of segments.
//!
//! A swap is announced under the lock, decided on disk outside of it, and carried out under it again. Whatever
//! removes segments in between (a cut, retention) withdraws the swap first, so that a crash cannot bring back what
//! was removed.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, PoisonError};

use highwater_types::record::{BatchHeader, HEADER_BYTES};
use highwater_types::{Offset, ProducerId, Timestamp};

use super::PartitionLog;
use super::recovery::remove_segment;
use crate::cleaner::{CleanedGroup, CleaningRequest, LastOfProducer, discard_swap, settle_swap};
use crate::config::LogConfig;
use crate::disk::{Disk, DiskFile, OpenMode, read_file, read_up_to};
use crate::error::{At, StorageError};
use crate::files::{self, FileKind};
use crate::index::TIME_ENTRY_BYTES;
use crate::segment::{Sealed, SegmentFile};
use crate::txn_index::{self, AbortedTransaction};

/// Offsets of a segment are stored relative to its base in 31 bits.
const MAX_RELATIVE_OFFSET: i64 = i32::MAX as i64;

/// The most segments that become one at once: their files are open while they are exchanged.
const MAX_GROUP: usize = 100;

/// How much of a log is clean, and whether it wants cleaning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cleanable {
    /// Where the dirty section begins.
    pub first_dirty: Offset,
    /// Where it ends: nothing from here on may be touched yet.
    pub upto: Offset,
    /// Bytes in front of the dirty section.
    pub clean_bytes: u64,
    /// Bytes of the dirty section.
    pub dirty_bytes: u64,
    /// Something waits longer than `max.compaction.lag.ms`, or a tombstone's time has come.
    pub is_overdue: bool,
    /// Overdue, or dirtier than `min.cleanable.dirty.ratio`.
    pub is_due: bool,
}

impl Cleanable {
    /// Share of the bytes that is dirty, 0 to 1.
    pub fn dirty_ratio(&self) -> f64 {
        match self.clean_bytes + self.dirty_bytes {
            0 => 0.0,
            all => self.dirty_bytes as f64 / all as f64,
        }
    }
}

/// A segment to be cleaned.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) base: Offset,
    /// Where the next segment begins.
    pub(crate) end: Offset,
    pub(crate) size_bytes: u64,
    pub(crate) file: Arc<SegmentFile>,
    modified_ms: i64,
}

/// What a cleaning works on; a picture of the log at one moment.
#[derive(Debug)]
pub(crate) struct CleaningPlan {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: Arc<Path>,
    pub(crate) config: Arc<LogConfig>,
    pub(crate) request: CleaningRequest,
    pub(crate) first_dirty: Offset,
    pub(crate) upto: Offset,
    /// Every segment below `upto`.
    pub(crate) sources: Vec<Source>,
    pub(crate) producers: HashMap<ProducerId, LastOfProducer>,
    pub(crate) truncations: u64,
    /// Aborted transactions whose marker lies above `upto`.
    aborted_above: Vec<AbortedTransaction>,
}

impl CleaningPlan {
    /// Aborted transactions that touch the segments to be cleaned.
    pub(crate) fn read_aborted(&mut self) -> Result<Vec<AbortedTransaction>, StorageError> {
        let mut found = std::mem::take(&mut self.aborted_above);
        for source in &self.sources {
            let read = read_txn_index(&*self.disk, &self.dir, source.base, source.end)?;
            found.extend(read.unwrap_or_default());
        }
        Ok(found)
    }

    /// Whether one of the segments has a transaction index.
    pub(crate) fn has_transaction_index(&self, sources: &[Source]) -> Result<bool, StorageError> {
        for source in sources {
            let path = files::path(&self.dir, source.base, FileKind::TxnIndex);
            if self.disk.info(&path).at("inspect", &path)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The segments that begin below `upto`, in order. The plan has none left.
    pub(crate) fn take_sources(&mut self, upto: Offset) -> VecDeque<Source> {
        self.sources
            .drain(..)
            .filter(|source| source.base < upto)
            .collect()
    }

    /// Whether a segment can be copied behind others into one that has `bytes` so far.
    pub(crate) fn fits(&self, group: &[Source], bytes: u64, next: &Source) -> bool {
        let bytes = bytes + next.size_bytes;
        let last_offset = next.end.advance_by(-1);
        group.len() < MAX_GROUP
            && bytes <= u64::from(self.config.segment_bytes)
            && index_bytes(&self.config, bytes) <= u64::from(self.config.segment_index_bytes)
            && last_offset.distance_from(group[0].base) <= MAX_RELATIVE_OFFSET
    }
}

/// The most that the larger index of a segment can take.
fn index_bytes(config: &LogConfig, segment_bytes: u64) -> u64 {
    segment_bytes / u64::from(config.index_interval_bytes.max(1)) * TIME_ENTRY_BYTES
}

impl PartitionLog {
    /// Everything below was compacted; `None` before the first cleaning. For `cleaner-offset-checkpoint`.
    pub fn cleaned_upto(&self) -> Option<Offset> {
        self.cleaned_upto
    }

    /// Takes over what the checkpoint says. An offset the log does not reach is of another history and is ignored.
    pub fn set_cleaned_upto(&mut self, offset: Offset) {
        if offset <= self.active.base_offset {
            self.cleaned_upto = Some(offset);
        } else {
            tracing::warn!(dir = %self.dir.display(), %offset, "cleaner checkpoint lies beyond the log, cleaning begins anew");
        }
    }

    /// Rolls a segment whose oldest record has waited for `max.compaction.lag.ms`: only sealed segments are cleaned,
    /// and without appends nothing else would seal it. Says whether it did.
    ///
    /// # Errors
    /// What the disk refuses; the log is fenced then.
    pub fn roll_for_compaction(
        &mut self,
        now: Timestamp,
        high_watermark: Offset,
    ) -> Result<bool, StorageError> {
        self.check_fence()?;
        let first = self.active.first_timestamp.or(self.active.first_append);
        let overdue = first.is_some_and(|first| self.is_past_max_lag(first, now));
        if !self.config.compact || !overdue || self.active.size_bytes == 0 || self.end > high_watermark {
            return Ok(false);
        }
        let result = self.roll(self.end);
        self.fencing_unless_full(result)?;
        Ok(true)
    }

    fn is_past_max_lag(&self, first: Timestamp, now: Timestamp) -> bool {
        let lag_ms = self.config.max_compaction_lag_ms;
        lag_ms < i64::MAX && now.distance_from_ms(first) > lag_ms
    }

    /// What cleaning could do here now. Touches the disk only for compaction lags.
    ///
    /// # Errors
    /// An index or segment that cannot be read.
    pub fn cleanable(&self, now: Timestamp, high_watermark: Offset) -> Result<Cleanable, StorageError> {
        let oldest = self
            .sealed
            .first()
            .map_or(self.active.base_offset, |first| first.base_offset);
        let first_dirty = self.cleaned_upto.unwrap_or(oldest).max(oldest);
        let upto = self
            .first_uncleanable(first_dirty, now, high_watermark)?
            .max(oldest);
        let first_dirty = first_dirty.min(upto);
        let (mut clean_bytes, mut dirty_bytes) = (0, 0);
        let mut is_overdue = self.next_horizon.is_some_and(|horizon| horizon <= now) && upto > oldest;
        let looks_at_lag = self.config.max_compaction_lag_ms < i64::MAX;
        for (segment, end) in self
            .sealed_with_ends()
            .filter(|(segment, _)| segment.base_offset < upto)
        {
            if end <= first_dirty {
                clean_bytes += segment.size_bytes;
                continue;
            }
            dirty_bytes += segment.size_bytes;
            if looks_at_lag && !is_overdue {
                let first = self.first_timestamp(segment)?;
                is_overdue = first.is_some_and(|first| self.is_past_max_lag(first, now));
            }
        }
        let all = u128::from(clean_bytes + dirty_bytes);
        let is_dirty =
            u128::from(dirty_bytes) * 1_000_000 > all * u128::from(self.config.min_cleanable_dirty_ppm);
        Ok(Cleanable {
            first_dirty,
            upto,
            clean_bytes,
            dirty_bytes,
            is_overdue,
            is_due: is_overdue || (dirty_bytes > 0 && is_dirty),
        })
    }

    /// Base of the first segment that must stay as it is: the active one, one that is not durable or not decided
    /// yet, or one whose newest record is younger than `min.compaction.lag.ms`.
    fn first_uncleanable(
        &self,
        first_dirty: Offset,
        now: Timestamp,
        high_watermark: Offset,
    ) -> Result<Offset, StorageError> {
        let bound = self
            .last_stable_offset(high_watermark)
            .min(self.recovery_point)
            .min(self.active.base_offset);
        let lag_ms = self.config.min_compaction_lag_ms;
        let mut upto = None;
        for (segment, end) in self.sealed_with_ends() {
            if end > bound {
                return Ok(segment.base_offset);
            }
            if lag_ms > 0 && end > first_dirty {
                let newest = segment.max_timestamp()?.map(|max| max.timestamp);
                if newest.is_some_and(|newest| now.distance_from_ms(newest) < lag_ms) {
                    return Ok(segment.base_offset);
                }
            }
            upto = Some(end);
        }
        Ok(upto.unwrap_or(self.active.base_offset))
    }

    fn sealed_with_ends(&self) -> impl Iterator<Item = (&Sealed, Offset)> {
        let ends = self.sealed.iter().skip(1).map(|next| next.base_offset);
        self.sealed.iter().zip(ends.chain([self.active.base_offset]))
    }

    /// Largest timestamp of a segment's first batch.
    fn first_timestamp(&self, segment: &Sealed) -> Result<Option<Timestamp>, StorageError> {
        if segment.size_bytes < HEADER_BYTES as u64 {
            return Ok(None);
        }
        let file = segment.file.handle(OpenMode::Read)?;
        let mut header = [0; HEADER_BYTES];
        read_up_to(&*file, &mut header, 0).at("read", &segment.file.path())?;
        let first = BatchHeader::parse(&header)
            .ok()
            .map(|header| header.max_timestamp);
        Ok(first.filter(|first| first.get() >= 0))
    }

    pub(crate) fn plan_cleaning(
        &self,
        request: CleaningRequest,
    ) -> Result<Option<CleaningPlan>, StorageError> {
        self.check_fence()?;
        let cleanable = self.cleanable(request.now, request.high_watermark)?;
        if cleanable.dirty_bytes == 0 && !cleanable.is_overdue {
            return Ok(None);
        }
        let Cleanable {
            first_dirty, upto, ..
        } = cleanable;
        let sources: Vec<Source> = self
            .sealed_with_ends()
            .filter(|(segment, _)| segment.base_offset < upto)
            .map(|(segment, end)| Source {
                base: segment.base_offset,
                end,
                size_bytes: segment.size_bytes,
                file: Arc::clone(&segment.file),
                modified_ms: segment.modified_ms,
            })
            .collect();
        if sources.is_empty() {
            return Ok(None);
        }
        let producers = self.producers.entries().into_iter();
        Ok(Some(CleaningPlan {
            disk: Arc::clone(&self.disk),
            dir: Arc::clone(&self.dir),
            config: Arc::clone(&self.config),
            request,
            first_dirty,
            upto,
            sources,
            producers: producers
                .map(|(id, entry)| {
                    let last = LastOfProducer {
                        epoch: entry.epoch,
                        last_data_offset: entry.batches.last().map(|memo| memo.last_offset),
                    };
                    (id, last)
                })
                .collect(),
            truncations: self.truncations,
            aborted_above: self.aborted_transactions(upto, self.end)?,
        }))
    }

    /// A cleaned segment is about to take the place of its sources. Says `false` when they are no longer all there.
    pub(crate) fn announce_swap(&mut self, group: &CleanedGroup<'_>) -> bool {
        let is_there = self.fence.is_none() && self.position_of(group).is_some();
        if is_there {
            self.pending_swap = Some(group.base());
        }
        is_there
    }

    /// Takes an announced swap back: what it would replace is about to change.
    pub(crate) fn withdraw_swap(&mut self) {
        if let Err(error) = self.try_withdraw_swap() {
            tracing::warn!(dir = %self.dir.display(), %error, "cannot remove a cleaned segment that came too late");
        }
    }

    pub(super) fn try_withdraw_swap(&mut self) -> Result<(), StorageError> {
        if let Some(base) = self.pending_swap {
            discard_swap(&*self.disk, &self.dir, base)?;
            self.disk.sync_dir(&self.dir).at("sync", &self.dir)?;
            self.pending_swap = None;
        }
        Ok(())
    }

    /// Puts a decided segment in the place of its sources; gives the old files, still open, to be dropped outside of
    /// the lock. `None` if the swap was withdrawn meanwhile.
    pub(crate) fn exchange(
        &mut self,
        group: &CleanedGroup<'_>,
    ) -> Result<Option<Vec<Arc<dyn DiskFile>>>, StorageError> {
        let Some(at) = self
            .position_of(group)
            .filter(|_| self.pending_swap == Some(group.base()))
        else {
            return Ok(None);
        };
        let result = self.carry_out(group, at);
        self.fencing(result).map(Some)
    }

    fn position_of(&self, group: &CleanedGroup<'_>) -> Option<usize> {
        // A cut segment that was sealed again is the same file with other content.
        if self.truncations != group.truncations {
            return None;
        }
        let at = self
            .sealed
            .binary_search_by_key(&group.base(), |segment| segment.base_offset)
            .ok()?;
        let here = self.sealed.get(at..at + group.sources.len())?;
        let same = here
            .iter()
            .zip(group.sources)
            .all(|(segment, source)| Arc::ptr_eq(&segment.file, &source.file));
        same.then_some(at)
    }

    fn carry_out(
        &mut self,
        group: &CleanedGroup<'_>,
        at: usize,
    ) -> Result<Vec<Arc<dyn DiskFile>>, StorageError> {
        let mut retired = Vec::with_capacity(group.sources.len());
        for source in group.sources {
            // Reads that are planned and not begun find the old file, whatever its name stands for by then.
            retired.push(source.file.pin()?);
        }
        for source in group.sources[1..].iter().rev() {
            self.unsynced.forget_file(&source.file.path());
            remove_segment(&*self.disk, &self.dir, source.base)?;
        }
        settle_swap(&*self.disk, &self.dir, group.base())?;
        self.unsynced.forget_file(&group.sources[0].file.path());
        let modified_ms = group.sources.iter().map(|source| source.modified_ms).max();
        let cleaned = Sealed::new(
            self.segment_file(group.base()),
            group.size_bytes,
            modified_ms.unwrap_or_default(),
        )
        .with_max_timestamp(group.max_timestamp);
        self.sealed.splice(at..at + group.sources.len(), [cleaned]);
        self.pending_swap = None;
        *self.last_read.get_mut().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(retired)
    }

    /// A cleaning is through.
    pub(crate) fn note_cleaned(&mut self, upto: Offset, next_horizon: Option<Timestamp>, truncations: u64) {
        self.next_horizon = next_horizon;
        if truncations != self.truncations {
            return;
        }
        let upto = upto.min(self.active.base_offset);
        self.cleaned_upto = Some(self.cleaned_upto.map_or(upto, |known| known.max(upto)));
    }
}

fn read_txn_index(
    disk: &dyn Disk,
    dir: &Path,
    base: Offset,
    end: Offset,
) -> Result<Option<Vec<AbortedTransaction>>, StorageError> {
    let path = files::path(dir, base, FileKind::TxnIndex);
    let Some(bytes) = read_file(disk, &path, u64::from(u32::MAX)).at("read", &path)? else {
        return Ok(None);
    };
    txn_index::decode(&bytes, base, end)
        .map(Some)
        .map_err(|problem| StorageError::Malformed {
            path,
            kind: "transaction index",
            problem,
        })
}
