//! Deleting from the front: by time, by size, and below the log start offset (semantics 21, 72).
//!
//! Whole segments only, oldest first, never past the high watermark (invariant 21).

use std::path::PathBuf;

use highwater_types::{Offset, Timestamp};

use super::PartitionLog;
use super::recovery::{bury_segment, remove_segment};
use crate::error::{At, StorageError};
use crate::segment::Sealed;

/// What a round of retention removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Retention {
    /// Segments deleted.
    pub segments_deleted: usize,
    /// Bytes of their `.log` files.
    pub bytes: u64,
    /// Files that are deleted but still there, for the caller to remove after `file.delete.delay.ms`.
    pub buried: Vec<PathBuf>,
}

impl PartitionLog {
    /// Moves the log start offset forward (DeleteRecords). The caller has bounded it by the high watermark
    /// (semantic 21) and writes the log-start checkpoint; files go with the next round of retention.
    ///
    /// # Errors
    /// [`StorageError::OffsetOutOfRange`] beyond the log's end. An offset below the start changes nothing.
    pub fn advance_start_offset(&mut self, offset: Offset) -> Result<Offset, StorageError> {
        if offset > self.end {
            return Err(StorageError::OffsetOutOfRange {
                offset,
                start: self.start,
                end: self.end,
            });
        }
        if offset > self.start {
            self.start = offset;
            self.epochs_changed |= self.epochs.truncate_start(offset);
        }
        Ok(self.start)
    }

    /// Deletes segments that are too old, too many, or below the log start offset. A log whose newest segment is
    /// too old as well gets an empty one first.
    ///
    /// # Errors
    /// What the disk refuses; the log is fenced then, and the next open removes what is left.
    pub fn apply_retention(
        &mut self,
        now: Timestamp,
        high_watermark: Offset,
    ) -> Result<Retention, StorageError> {
        self.producers.forget_replicated(high_watermark);
        self.check_fence()?;
        if self.active_is_expired(now, high_watermark)? {
            let result = self.roll(self.end);
            self.fencing_unless_full(result)?;
        }
        let mut excess = self.excess_bytes();
        let mut doomed = 0;
        while let Some(segment) = self.sealed.get(doomed) {
            let end = self
                .sealed
                .get(doomed + 1)
                .map_or(self.active.base_offset, |next| next.base_offset);
            let below_start = end <= self.start;
            let too_many = excess >= segment.size_bytes && excess > 0;
            let removable = below_start || too_many || self.is_expired(segment, now)?;
            if end > high_watermark || !removable {
                break;
            }
            excess = excess.saturating_sub(segment.size_bytes);
            doomed += 1;
        }
        let result = self.delete_front(doomed);
        self.fencing(result)
    }

    fn excess_bytes(&self) -> u64 {
        match self.config.retention_bytes {
            Some(limit) if self.config.delete_by_retention => self.size_bytes().saturating_sub(limit),
            _ => 0,
        }
    }

    fn is_expired(&self, segment: &Sealed, now: Timestamp) -> Result<bool, StorageError> {
        let Some(retention_ms) = self
            .config
            .retention_ms
            .filter(|_| self.config.delete_by_retention)
        else {
            return Ok(false);
        };
        // Compaction may leave a segment with nothing in it; it must not keep what lies behind it alive.
        if segment.size_bytes == 0 {
            return Ok(true);
        }
        // Without any timestamp, the file's age decides, as in Kafka.
        let newest = match segment.max_timestamp()? {
            Some(max) => max.timestamp,
            None if segment.modified_ms > 0 => Timestamp::new(segment.modified_ms),
            None => return Ok(false),
        };
        Ok(now.distance_from_ms(newest) > retention_ms)
    }

    fn active_is_expired(&self, now: Timestamp, high_watermark: Offset) -> Result<bool, StorageError> {
        let Some(retention_ms) = self
            .config
            .retention_ms
            .filter(|_| self.config.delete_by_retention)
        else {
            return Ok(false);
        };
        let newest = match self.active.index.max_timestamp() {
            Some(max) => Some(max.timestamp),
            None => self.active.first_append,
        };
        let expired = newest.is_some_and(|at| now.distance_from_ms(at) > retention_ms);
        Ok(self.active.size_bytes > 0 && expired && self.end <= high_watermark)
    }

    fn delete_front(&mut self, count: usize) -> Result<Retention, StorageError> {
        let mut done = Retention::default();
        if count == 0 {
            return Ok(done);
        }
        self.try_withdraw_swap()?;
        let new_first = self
            .sealed
            .get(count)
            .map_or(self.active.base_offset, |next| next.base_offset);
        // In memory first: no reader is led to a file that is about to go.
        let doomed: Vec<Sealed> = self.sealed.drain(..count).collect();
        self.start = self.start.max(new_first);
        self.epochs_changed |= self.epochs.truncate_start(self.start);
        for segment in doomed {
            self.unsynced.forget_file(&segment.file.path());
            match self.config.file_delete_delay_ms > 0 {
                true => bury_segment(&*self.disk, &self.dir, segment.base_offset, &mut done.buried)?,
                false => remove_segment(&*self.disk, &self.dir, segment.base_offset)?,
            }
            done.segments_deleted += 1;
            done.bytes += segment.size_bytes;
        }
        self.disk.sync_dir(&self.dir).at("sync", &self.dir)?;
        tracing::info!(
            dir = %self.dir.display(),
            segments = done.segments_deleted,
            bytes = done.bytes,
            log_start = %self.start,
            "deleted old segments"
        );
        Ok(done)
    }
}
