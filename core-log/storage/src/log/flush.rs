//! Making appended data durable, with the sync itself outside the partition's lock (section 2.2).
//!
//! `begin_flush` (under the lock) -> `FlushPlan::execute` (anywhere) -> `finish_flush` (under the lock). Appends
//! go on in between; the recovery point moves to what the plan covered.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_types::{Offset, Timestamp};

use super::PartitionLog;
use super::replay::remove_snapshot;
use crate::config::FlushPolicy;
use crate::data_dir::PARTITION_METADATA;
use crate::disk::{Disk, DiskFile, OpenMode, empty, is_full, replace_file_unsynced_name};
use crate::error::{At, StorageError};
use crate::files::{self, FileKind};
use crate::leader_epochs;
use crate::producer_state::{encode_batches, encode_snapshot};

/// With so many producers, producer snapshots are written half as often.
const PRODUCERS_PER_SNAPSHOT_BYTES: u64 = 4096;

/// Files to sync, and what is durable once they are.
#[derive(Debug)]
#[must_use = "a plan does nothing until it is executed and finished"]
pub struct FlushPlan {
    disk: Arc<dyn Disk>,
    dir: Arc<Path>,
    upto: Offset,
    truncations: u64,
    active: Option<(PathBuf, Arc<dyn DiskFile>)>,
    others: Vec<PathBuf>,
    sync_names: bool,
    sync_place: bool,
    /// Changes up to this stamp are covered.
    stamp: u64,
    /// A sync of the whole file system has done it.
    is_done: bool,
}

/// A log that has written everything that makes the next open quick, and may not have synced it yet.
#[derive(Debug)]
#[must_use = "nothing is durable before it is finished"]
pub struct ClosingLog {
    log: PartitionLog,
    plan: FlushPlan,
}

impl ClosingLog {
    /// Log start offset.
    pub fn start_offset(&self) -> Offset {
        self.log.start_offset()
    }

    /// What is to be synced.
    pub fn plan_mut(&mut self) -> &mut FlushPlan {
        &mut self.plan
    }

    /// Makes everything durable that is not yet, and gives the log end offset.
    ///
    /// # Errors
    /// As [`PartitionLog::flush`]; the shutdown is not clean then and the marker must not be written.
    pub fn finish(mut self) -> Result<Offset, StorageError> {
        let outcome = self.plan.execute();
        self.log.finish_flush(&self.plan, outcome)
    }
}

impl FlushPlan {
    /// Log end offset when the plan was made: everything below is durable once it has been executed.
    pub fn upto(&self) -> Offset {
        self.upto
    }

    /// The partition's directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// How many syncs executing it takes.
    pub(crate) fn sync_count(&self) -> usize {
        let place = if self.sync_place { 3 } else { 0 };
        self.others.len() + usize::from(self.active.is_some()) + usize::from(self.sync_names) + place
    }

    /// A sync of the file system that the directory lies on has made durable what this is about. It began after the
    /// plan was made, and succeeded.
    pub(crate) fn done(&mut self) {
        self.is_done = true;
    }

    /// Syncs, unless [`DataDir::sync_together`](crate::DataDir::sync_together) has done it. Blocks; belongs on a
    /// thread of its own.
    ///
    /// # Errors
    /// The first sync that fails. Pass it to `finish_flush`, which fences the log; never execute again.
    pub fn execute(&self) -> Result<(), StorageError> {
        if self.is_done {
            return Ok(());
        }
        for path in &self.others {
            match self.disk.open(path, OpenMode::Read) {
                Ok(file) => file.sync_data().at("sync", path)?,
                // Retention or truncation has removed it since: nothing left to keep.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => {
                    return Err(StorageError::Io {
                        action: "open",
                        path: path.clone(),
                        source,
                    });
                }
            }
        }
        if let Some((path, file)) = &self.active {
            file.sync_data().at("sync", path)?;
        }
        if self.sync_names {
            self.disk.sync_dir(&self.dir).at("sync", &self.dir)?;
        }
        if self.sync_place {
            sync_place(&*self.disk, &self.dir)?;
        }
        Ok(())
    }
}

/// Makes durable what the creation of a partition has only written: whose directory it is, and its name.
pub(super) fn sync_place(disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
    let metadata = dir.join(PARTITION_METADATA);
    match disk.open(&metadata, OpenMode::Read) {
        Ok(file) => file.sync_data().at("sync", &metadata)?,
        // A log without a topic's id.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => {
            return Err(StorageError::Io {
                action: "open",
                path: metadata,
                source,
            });
        }
    }
    disk.sync_dir(dir).at("sync", dir)?;
    match dir.parent() {
        Some(parent) => disk.sync_dir(parent).at("sync", parent),
        None => Ok(()),
    }
}

impl PartitionLog {
    /// Whether the flush policy asks for a flush now.
    pub fn flush_due(&self, now: Timestamp) -> bool {
        let unflushed = self.end.distance_from(self.recovery_point);
        match (self.config.flush, self.unflushed_since) {
            (_, None) | (FlushPolicy::Os, _) => false,
            (FlushPolicy::OnAck, Some(_)) => unflushed > 0,
            (FlushPolicy::Interval { messages, ms }, Some(since)) => {
                unflushed >= messages || now.distance_from_ms(since) >= ms
            }
        }
    }

    /// When the oldest record that is not durable was appended.
    pub fn unflushed_since(&self) -> Option<Timestamp> {
        self.unflushed_since
    }

    /// Writes index tails and the epoch checkpoint, and lists what must be synced.
    ///
    /// # Errors
    /// A fenced log, or a write that fails (which fences it).
    pub fn begin_flush(&mut self) -> Result<FlushPlan, StorageError> {
        self.check_fence()?;
        let result = self.write_small_files();
        self.fencing_unless_full(result)?;
        let result = self.write_inner_snapshot();
        self.fencing(result)?;
        let mut active = None;
        if self.active.size_bytes > 0 && self.recovery_point < self.end {
            let result = self.active.writer();
            let file = self.fencing(result)?;
            active = Some((self.active.file.path(), file));
        }
        // An empty log has nothing to lose with its name.
        let sync_place = self.place_unsynced && self.active.base_offset.max(self.end) > Offset::ZERO;
        Ok(FlushPlan {
            disk: Arc::clone(&self.disk),
            dir: Arc::clone(&self.dir),
            upto: self.end,
            truncations: self.truncations,
            active,
            others: self.unsynced.files.iter().map(|(path, _)| path.clone()).collect(),
            sync_names: self.unsynced.names.is_some() && !sync_place,
            sync_place,
            stamp: self.unsynced.stamp,
            is_done: false,
        })
    }

    fn write_small_files(&mut self) -> Result<(), StorageError> {
        if self.active.index.has_pending() {
            self.active.write_index()?;
        }
        if self.epochs_changed {
            self.write_epochs()?;
            self.epochs_changed = false;
            self.unsynced.names();
        }
        Ok(())
    }

    /// The first checkpoint has nothing to replace, and needs no sync of its own: torn by a crash, it says as little as
    /// none, and the epochs are in the batches.
    fn write_epochs(&mut self) -> Result<(), StorageError> {
        let path = self.dir.join(leader_epochs::FILE_NAME);
        let text = self.epochs.encode();
        if self.has_epoch_file {
            return replace_file_unsynced_name(&*self.disk, &path, &text).at("write", &path);
        }
        let file = self.disk.open(&path, OpenMode::Create).at("write", &path)?;
        empty(&*file).at("write", &path)?;
        file.write_all_at(&[&text], 0).at("write", &path)?;
        self.has_epoch_file = true;
        self.unsynced.file(path);
        Ok(())
    }

    /// Writes producers down as of the recovery point to come, when enough has been appended since that was done
    /// last: an open after a kill then need not read the segment from its beginning for them. A full disk is no
    /// reason not to flush.
    fn write_inner_snapshot(&mut self) -> Result<(), StorageError> {
        // So that with many producers, too, what is written for them stays a small part of what they write.
        let crowd = self.producers.len() as u64 / PRODUCERS_PER_SNAPSHOT_BYTES;
        let due_bytes = self.config.producer_snapshot_bytes.saturating_mul(1 + crowd);
        if self.since_snapshot_bytes < due_bytes || self.end <= self.active.base_offset {
            return Ok(());
        }
        match self.write_producer_snapshot(self.end) {
            Err(StorageError::Io { source, .. }) if is_full(&source) => {
                self.since_snapshot_bytes = 0;
                remove_snapshot(&*self.disk, &self.dir, self.end)
            }
            Ok(()) => {
                if self.inner_snapshots.last() != Some(&self.end) {
                    self.inner_snapshots.push(self.end);
                }
                Ok(())
            }
            failed => failed,
        }
    }

    /// Removes the producer snapshots within the active segment, which is about to be sealed at `border`: an open
    /// begins to read a sealed one at its beginning or not at all.
    pub(super) fn remove_inner_snapshots(&mut self, border: Offset) -> Result<(), StorageError> {
        let inner = std::mem::take(&mut self.inner_snapshots);
        for offset in inner.into_iter().filter(|offset| *offset != border) {
            remove_snapshot(&*self.disk, &self.dir, offset)?;
        }
        Ok(())
    }

    /// Takes note of an executed plan; gives the recovery point.
    ///
    /// A sync that fails for want of room fences as any other, unlike a write: where space is only reserved when pages
    /// are written back (NFS, thin volumes, copy-on-write), the pages it was about may be lost and are called clean
    /// afterwards, so that a second sync would succeed over the hole. Only reading the log again tells what is there.
    ///
    /// # Errors
    /// The failure that is passed in; the log is fenced then (invariant 22).
    pub fn finish_flush(
        &mut self,
        plan: &FlushPlan,
        outcome: Result<(), StorageError>,
    ) -> Result<Offset, StorageError> {
        self.fencing(outcome)?;
        self.check_fence()?;
        if plan.truncations == self.truncations {
            self.recovery_point = self.recovery_point.max(plan.upto);
            self.unsynced.synced(plan.stamp);
            self.place_unsynced &= !plan.sync_place;
            if self.recovery_point == self.end {
                self.unflushed_since = None;
            }
        }
        Ok(self.recovery_point)
    }

    /// Flushes at once, on this thread.
    ///
    /// # Errors
    /// As the three steps.
    pub fn flush(&mut self) -> Result<Offset, StorageError> {
        let plan = self.begin_flush()?;
        let outcome = plan.execute();
        self.finish_flush(&plan, outcome)
    }

    /// Writes everything that makes the next open quick, makes it durable, and gives the log end offset.
    ///
    /// # Errors
    /// As `flush`; the shutdown is not clean then and the marker must not be written.
    pub fn close(self) -> Result<Offset, StorageError> {
        self.begin_close()?.finish()
    }

    /// The part of [`Self::close`] that only writes, for owners of many logs, who sync them together.
    ///
    /// # Errors
    /// A fenced log, or a write that fails.
    pub fn begin_close(mut self) -> Result<ClosingLog, StorageError> {
        self.check_fence()?;
        self.active.index.seal(self.active.base_offset);
        self.give_back()?;
        if self.active.size_bytes > 0 {
            // Even without entries: files that are there say "this is all", missing ones ask for a scan.
            self.active.write_index()?;
            for kind in [FileKind::OffsetIndex, FileKind::TimeIndex] {
                self.unsynced
                    .file(files::path(&self.dir, self.active.base_offset, kind));
            }
        }
        // Also without producers: it says that nothing before it need be read for them.
        if self.end > self.active.base_offset {
            self.write_producer_snapshot(self.end)?;
        }
        let plan = self.begin_flush()?;
        Ok(ClosingLog { log: self, plan })
    }

    /// Writes the producer state as of `offset`, the log's end.
    pub(super) fn write_producer_snapshot(&mut self, offset: Offset) -> Result<(), StorageError> {
        // Torn by a crash, they fail their checksums and the snapshot before is used.
        let snapshot = encode_snapshot(&self.producers);
        let batches = encode_batches(&self.producers, &snapshot);
        for (kind, bytes) in [
            (FileKind::ProducerBatches, batches),
            (FileKind::ProducerSnapshot, Some(snapshot)),
        ] {
            let Some(bytes) = bytes else { continue };
            let path = files::path(&self.dir, offset, kind);
            let file = self.disk.open(&path, OpenMode::Create).at("open", &path)?;
            empty(&*file).at("write", &path)?;
            file.write_all_at(&[&bytes], 0).at("write", &path)?;
            self.unsynced.file(path);
        }
        self.unsynced.names();
        self.since_snapshot_bytes = 0;
        Ok(())
    }
}
