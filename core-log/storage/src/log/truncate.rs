//! Cutting from the back: a replica gives up what the new leader does not have (invariant 9).
//!
//! The owner lowers the recovery point in its checkpoint *before* it cuts; otherwise a crash in between makes new
//! data below the old recovery point look durable.

use highwater_types::Offset;

use super::PartitionLog;
use super::flush::sync_place;
use super::recovery::remove_segment;
use super::replay::remove_snapshot;
use crate::error::{At, StorageError};
use crate::files::{self, FileKind};
use crate::index::{Indexed, SparseIndex};
use crate::producer_state::ProducerState;
use crate::scan::{Depth, Expect, Scanner, Step};
use crate::segment::Active;

impl PartitionLog {
    /// Removes every batch that holds `offset` or anything above it. Nothing happens at or beyond the log's end.
    /// The result is durable when this returns.
    ///
    /// # Errors
    /// [`StorageError::OffsetOutOfRange`] below the log start (then use [`Self::truncate_fully_and_start_at`]); a
    /// failing disk fences the log.
    pub fn truncate_to(&mut self, offset: Offset) -> Result<Offset, StorageError> {
        self.check_fence()?;
        if offset >= self.end {
            return Ok(self.end);
        }
        if offset < self.start {
            return Err(StorageError::OffsetOutOfRange {
                offset,
                start: self.start,
                end: self.end,
            });
        }
        self.try_withdraw_swap()?;
        self.truncations += 1;
        self.cleaned_upto = self.cleaned_upto.map(|upto| upto.min(offset));
        let result = self.truncate(offset);
        self.fencing(result)?;
        Ok(self.end)
    }

    /// Removes everything and begins anew at `offset`: the leader no longer has what this replica would need.
    ///
    /// # Errors
    /// A failing disk fences the log.
    pub fn truncate_fully_and_start_at(&mut self, offset: Offset) -> Result<(), StorageError> {
        self.check_fence()?;
        self.try_withdraw_swap()?;
        self.truncations += 1;
        self.cleaned_upto = None;
        let result = self.reset_to(offset);
        self.fencing(result)
    }

    pub(super) fn reset_to(&mut self, offset: Offset) -> Result<(), StorageError> {
        remove_segment(&*self.disk, &self.dir, self.active.base_offset)?;
        while let Some(segment) = self.sealed.pop() {
            remove_segment(&*self.disk, &self.dir, segment.base_offset)?;
        }
        self.remove_snapshots_above(Offset::new(-1))?;
        // Before the new file: together with old ones it would look like a log with a hole.
        self.disk.sync_dir(&self.dir).at("sync", &self.dir)?;
        self.active = Active::new(self.segment_file(offset));
        // The empty file says where the log begins even if the log-start checkpoint is lost.
        self.active.writer()?;
        self.disk.sync_dir(&self.dir).at("sync", &self.dir)?;
        if self.place_unsynced {
            sync_place(&*self.disk, &self.dir)?;
            self.place_unsynced = false;
        }
        self.start = offset;
        self.end = offset;
        self.recovery_point = offset;
        self.epochs = Default::default();
        self.epochs_changed = true;
        self.producers = ProducerState::default();
        self.unsynced = Default::default();
        Ok(())
    }

    fn truncate(&mut self, offset: Offset) -> Result<(), StorageError> {
        // Newest first: a crash in between leaves a log without holes.
        let mut removed = false;
        while offset < self.active.base_offset
            || (offset == self.active.base_offset && !self.sealed.is_empty())
        {
            let Some(previous) = self.sealed.pop() else { break };
            remove_segment(&*self.disk, &self.dir, self.active.base_offset)?;
            removed = true;
            self.active = Active::new(previous.file);
            self.active.size_bytes = previous.size_bytes;
        }
        if removed {
            // Before the segment in front is cut: the other order could leave a hole between the two.
            self.disk.sync_dir(&self.dir).at("sync", &self.dir)?;
        }
        self.rebuild_active(offset)?;
        self.unsynced.forget_file(&self.active.file.path());
        self.recovery_point = self.recovery_point.min(self.end);
        self.epochs_changed |= self.epochs.truncate_end(self.end);
        self.remove_snapshots_above(self.end)?;
        let snapshots = self.list_snapshots()?;
        self.load_producers(&snapshots, Some(self.active.base_offset))?;
        self.disk.sync_dir(&self.dir).at("sync", &self.dir)?;
        self.unsynced.names = None;
        Ok(())
    }

    /// Reads the last segment up to the cut, makes that its index, and cuts the files.
    fn rebuild_active(&mut self, offset: Offset) -> Result<(), StorageError> {
        let base = self.active.base_offset;
        let path = self.active.file.path();
        // Reads that are planned, and answers that are being sent, learn that their bytes were taken back: what is
        // appended later lies at the same positions.
        let mut cut = Active::new(self.segment_file(base));
        self.active.file.cut();
        let mut end = base;
        let file = cut.writer()?;
        let range = 0..self.active.size_bytes;
        let mut scanner = Scanner::new(&*file, range, Depth::Headers, Expect::segment(base));
        let mut index = SparseIndex::default();
        while let Step::Batch(header, position) = scanner.step().at("read", &path)? {
            if header.last_offset() >= offset {
                break;
            }
            if position == 0 {
                cut.first_timestamp = Some(header.max_timestamp).filter(|at| at.get() >= 0);
                cut.first_append = self.active.first_append.or(cut.first_timestamp);
            }
            let size_bytes = header.size_bytes();
            index.append(
                base,
                Indexed {
                    last_offset: header.last_offset(),
                    max_timestamp: header.max_timestamp,
                    position: position as u32,
                    size_bytes: size_bytes as u32,
                },
                self.config.index_interval_bytes,
            );
            cut.last_batch = Some((header.base_offset, position));
            cut.size_bytes = position + size_bytes as u64;
            end = header.next_offset();
        }
        cut.index = index;
        file.set_len(cut.size_bytes).at("truncate", &path)?;
        file.sync_data().at("sync", &path)?;
        self.active = cut;
        self.end = end;
        self.active.write_index()
    }

    fn list_snapshots(&self) -> Result<Vec<Offset>, StorageError> {
        let entries = self.disk.list(&self.dir).at("list", &self.dir)?;
        let mut offsets: Vec<Offset> = entries
            .iter()
            .filter_map(|entry| files::parse(&entry.name))
            .filter(|(_, kind)| *kind == FileKind::ProducerSnapshot)
            .map(|(offset, _)| offset)
            .collect();
        offsets.sort_unstable();
        Ok(offsets)
    }

    fn remove_snapshots_above(&mut self, end: Offset) -> Result<(), StorageError> {
        for offset in self.list_snapshots()?.into_iter().filter(|offset| *offset > end) {
            remove_snapshot(&*self.disk, &self.dir, offset)?;
        }
        Ok(())
    }
}
