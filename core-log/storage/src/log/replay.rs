//! What a log knows beyond its batches, brought back at open and after a cut: leader epochs, producers, and the
//! transaction indexes of segments that were read anew. Files are a start; the batches behind them decide.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use highwater_types::record::{BatchHeader, RecordBatch};
use highwater_types::{LeaderEpoch, Offset};

use super::PartitionLog;
use super::append::parse_marker;
use crate::disk::{Disk, DiskFile, OpenMode, read_file};
use crate::error::{At, FormatProblem, StorageError};
use crate::files::{self, FileKind};
use crate::leader_epochs::{self, LeaderEpochs};
use crate::producer_state::{Marker, ProducerState, decode_batches, decode_snapshot};
use crate::scan::{Depth, Expect, Scanner, Step};
use crate::segment::SegmentFile;
use crate::txn_index::{self, AbortedTransaction};

/// No producer snapshot or epoch file of ours is larger.
const MAX_STATE_FILE_BYTES: u64 = 1 << 30;

impl PartitionLog {
    /// Loads the epoch checkpoint, brings it in line with the log, and rebuilds it from the batches if it is lost.
    pub(super) fn load_epochs(&mut self, scanned: &[(LeaderEpoch, Offset)]) -> Result<(), StorageError> {
        let path = self.dir.join(leader_epochs::FILE_NAME);
        let read = read_state_file(&*self.disk, &path)?;
        self.has_epoch_file = read.is_some();
        let loaded = match read.map(|bytes| bytes.and_then(|bytes| LeaderEpochs::decode(&bytes))) {
            Some(Ok(epochs)) => Some(epochs),
            Some(Err(problem)) => {
                tracing::warn!(path = %path.display(), %problem, "leader epochs are rebuilt from the log");
                None
            }
            None => None,
        };
        let known = loaded.is_some();
        self.epochs = loaded.unwrap_or_default();
        self.epochs_changed = !known && self.end > self.start;
        if self.epochs.last_start().is_some_and(|last| last > self.end) {
            self.epochs_changed |= self.epochs.truncate_end(self.end);
        }
        if known {
            for (epoch, start) in scanned {
                self.epochs_changed |= self.epochs.assign(*epoch, *start);
            }
        } else {
            let mut rebuilt = LeaderEpochs::default();
            self.replay(self.start, |step| {
                rebuilt.assign(step.header.partition_leader_epoch, step.header.base_offset);
            })?;
            self.epochs = rebuilt;
        }
        self.epochs_changed |= self.epochs.truncate_start(self.start);
        Ok(())
    }

    /// Loads the newest snapshot that holds, and replays the batches behind it. Transaction indexes from
    /// `rebuild_txn_from` on are written anew, as far as they are not known to be right. Says how many batches were
    /// replayed.
    ///
    /// Worked case: the active segment begins at 100, the recovery point is 180, killed at 250, snapshots at 100, 170
    /// and 230. The one at 230 may tell of what another life of the log had there, and is removed. The one at 170 was
    /// made durable before the recovery point came to 180, and with it the aborted transactions below 170: their
    /// entries stay, what 170..250 aborted is found again.
    pub(super) fn load_producers(
        &mut self,
        snapshots: &[Offset],
        rebuild_txn_from: Option<Offset>,
    ) -> Result<u64, StorageError> {
        let base = self.active.base_offset;
        let bound = match rebuild_txn_from {
            Some(from) if from == base => self.recovery_point.min(self.end).max(base),
            // To find again what aborted, producers must be known as of where the rebuilding begins.
            Some(from) => from,
            None => self.end,
        };
        let mut from = self
            .sealed
            .first()
            .map_or(self.active.base_offset, |first| first.base_offset);
        self.producers = ProducerState::default();
        let mut loaded = None;
        for offset in snapshots.iter().rev() {
            if *offset > bound {
                continue;
            }
            if let Some(state) = self.load_snapshot(*offset)? {
                let is_inner = rebuild_txn_from.is_some() && *offset > base;
                if is_inner && !self.cut_txn_index(base, *offset)? {
                    continue;
                }
                self.producers = state;
                from = *offset;
                loaded = Some(*offset);
                break;
            }
            remove_snapshot(&*self.disk, &self.dir, *offset)?;
            self.unsynced.names();
        }
        self.remove_stale_snapshots(snapshots, loaded)?;
        if let Some(rebuild_from) = rebuild_txn_from
            && from <= base
        {
            self.remove_txn_indexes(rebuild_from)?;
        }
        let mut replayed = 0;
        let mut replayed_bytes = 0;
        let mut producers = std::mem::take(&mut self.producers);
        let mut aborted: Vec<(Offset, AbortedTransaction)> = Vec::new();
        self.replay(from, |step| {
            replayed += 1;
            replayed_bytes += step.header.size_bytes() as u64;
            match step.marker {
                Some(marker) => {
                    let header = step.header;
                    let entry = producers.apply_marker(&marker, header.last_offset(), header.max_timestamp);
                    aborted.extend(entry.map(|entry| (step.segment, entry)));
                }
                None if step.header.is_control() => {}
                None => producers.apply(step.header),
            }
        })?;
        self.producers = producers;
        self.since_snapshot_bytes = replayed_bytes;
        if let Some(rebuild_from) = rebuild_txn_from {
            for (segment, entry) in aborted {
                if segment >= rebuild_from {
                    self.append_to_txn_index(segment, &entry.encode())?;
                }
            }
        }
        Ok(replayed)
    }

    /// Reads a snapshot with what lies beside it; `None`, and a line in the log, if it does not hold.
    fn load_snapshot(&self, offset: Offset) -> Result<Option<ProducerState>, StorageError> {
        let path = files::path(&self.dir, offset, FileKind::ProducerSnapshot);
        let skipped = |path: &Path, problem: FormatProblem| {
            tracing::warn!(path = %path.display(), %problem, "producer snapshot is skipped");
            Ok(None)
        };
        let bytes = match read_state_file(&*self.disk, &path)? {
            Some(Ok(bytes)) => bytes,
            Some(Err(problem)) => return skipped(&path, problem),
            None => return Ok(None),
        };
        let mut state = match decode_snapshot(&bytes) {
            Ok(state) => state,
            Err(problem) => return skipped(&path, problem),
        };
        if state.len() == 0 {
            return Ok(Some(state));
        }
        let path = files::path(&self.dir, offset, FileKind::ProducerBatches);
        let problem = match read_state_file(&*self.disk, &path)? {
            Some(Ok(batches)) => match decode_batches(&batches, &bytes, &mut state) {
                Ok(()) => return Ok(Some(state)),
                Err(problem) => problem,
            },
            Some(Err(problem)) => problem,
            // Both files of a durable snapshot of ours are durable: this one is Kafka's own.
            None if offset <= self.recovery_point => return Ok(Some(state)),
            None => FormatProblem::Missing("the file of batches beside it"),
        };
        skipped(&path, problem)
    }

    /// Keeps the snapshots at segment borders and the one in use. One above the end is of another history; one
    /// between recovery point and end may be, if its removal was lost in a power cut.
    fn remove_stale_snapshots(
        &mut self,
        snapshots: &[Offset],
        in_use: Option<Offset>,
    ) -> Result<(), StorageError> {
        self.inner_snapshots.clear();
        for offset in snapshots {
            let at_border = *offset == self.active.base_offset
                || self
                    .sealed
                    .binary_search_by_key(offset, |segment| segment.base_offset)
                    .is_ok();
            if *offset <= self.end && (at_border || Some(*offset) == in_use) {
                if *offset > self.active.base_offset {
                    self.inner_snapshots.push(*offset);
                }
                continue;
            }
            remove_snapshot(&*self.disk, &self.dir, *offset)?;
            self.unsynced.names();
        }
        Ok(())
    }

    /// Whether the transaction index of a segment can be right: each entry must name an abort marker of its producer.
    pub(super) fn check_txn_index(&self, base: Offset) -> Result<Result<(), FormatProblem>, StorageError> {
        let at = self.sealed.partition_point(|segment| segment.base_offset <= base);
        let end = match self.sealed.get(at) {
            Some(next) => next.base_offset,
            None if base < self.active.base_offset => self.active.base_offset,
            None => self.end,
        };
        let path = files::path(&self.dir, base, FileKind::TxnIndex);
        let entries = match read_state_file(&*self.disk, &path)? {
            Some(bytes) => bytes.and_then(|bytes| txn_index::decode(&bytes, base, end)),
            None => return Ok(Ok(())),
        };
        let entries = match entries {
            Ok(entries) => entries,
            Err(problem) => return Ok(Err(problem)),
        };
        for (index, entry) in entries.iter().enumerate() {
            if !self.is_abort_of(entry)? {
                return Ok(Err(FormatProblem::Order(index)));
            }
        }
        Ok(Ok(()))
    }

    /// Cuts the transaction index of the active segment back to what was aborted below `upto`, up to where it is
    /// durable. `false` if any of it cannot be right, the end that is cut off included: then nobody knows where the
    /// damage begins, and it is not touched.
    fn cut_txn_index(&mut self, base: Offset, upto: Offset) -> Result<bool, StorageError> {
        let path = files::path(&self.dir, base, FileKind::TxnIndex);
        if let Err(problem) = self.check_txn_index(base)? {
            tracing::info!(path = %path.display(), %problem, "transaction index is rebuilt from the log");
            return Ok(false);
        }
        let entries = self.read_txn_index(base, self.end)?;
        let kept = entries.partition_point(|entry| entry.last_offset < upto);
        if kept < entries.len() {
            let file = self.disk.open(&path, OpenMode::Write).at("open", &path)?;
            let kept_bytes = (kept * txn_index::ENTRY_BYTES) as u64;
            file.set_len(kept_bytes).at("truncate", &path)?;
            self.unsynced.file(path);
        }
        Ok(true)
    }

    fn is_abort_of(&self, entry: &AbortedTransaction) -> Result<bool, StorageError> {
        let at = self
            .sealed
            .partition_point(|segment| segment.base_offset <= entry.last_offset);
        let in_active = entry.last_offset >= self.active.base_offset;
        let (file, base, position, size) = match at.checked_sub(1).and_then(|at| self.sealed.get(at)) {
            Some(sealed) if !in_active => {
                let position = sealed.position_for_offset(entry.last_offset)?;
                (&sealed.file, sealed.base_offset, position, sealed.size_bytes)
            }
            _ => {
                let position = self.active.position_for_offset(entry.last_offset);
                let active = &self.active;
                (&active.file, active.base_offset, position, active.size_bytes)
            }
        };
        let mut found = false;
        let bounded = Bounded {
            file,
            segment: base,
            range: position..size,
            from: entry.last_offset,
        };
        self.replay_segment(&bounded, &mut |step| {
            let is_marker = step.header.producer_id == Some(entry.producer_id) && step.marker.is_some();
            found |= is_marker && step.header.last_offset() == entry.last_offset;
            false
        })?;
        Ok(found)
    }

    pub(super) fn remove_txn_indexes(&mut self, from: Offset) -> Result<(), StorageError> {
        let sealed = self.sealed.iter().map(|segment| segment.base_offset);
        for base in sealed
            .chain([self.active.base_offset])
            .filter(|base| *base >= from)
        {
            let path = files::path(&self.dir, base, FileKind::TxnIndex);
            if self.disk.info(&path).at("inspect", &path)?.is_some() {
                self.disk.remove_file(&path).at("remove", &path)?;
                self.unsynced.names();
            }
        }
        Ok(())
    }

    /// Walks over the batches from the one that holds `from` on, reading headers, and control batches whole.
    fn replay(&self, from: Offset, mut visit: impl FnMut(Replayed<'_>)) -> Result<(), StorageError> {
        let first = self
            .sealed
            .partition_point(|segment| segment.base_offset <= from)
            .saturating_sub(1);
        let sealed = self.sealed.iter().skip(first);
        let mut spans: Vec<(&Arc<SegmentFile>, Offset, u64, u64)> = Vec::new();
        for segment in sealed {
            let position = match segment.base_offset <= from {
                true => segment.position_for_offset(from)?,
                false => 0,
            };
            spans.push((&segment.file, segment.base_offset, position, segment.size_bytes));
        }
        let active = &self.active;
        if active.size_bytes > 0 {
            let position = match active.base_offset <= from {
                true => active.position_for_offset(from),
                false => 0,
            };
            spans.push((&active.file, active.base_offset, position, active.size_bytes));
        }
        let mut visit = |step: Replayed<'_>| {
            visit(step);
            true
        };
        for (file, segment, position, size) in spans {
            let mut stretch = Bounded {
                file,
                segment,
                range: position..size,
                from,
            };
            if self.replay_segment(&stretch, &mut visit)? {
                continue;
            }
            // A damaged index can lead anywhere: then the segment is read from its beginning.
            stretch.range.start = 0;
            if !self.replay_segment(&stretch, &mut visit)? {
                tracing::warn!(path = %file.path().display(), "batches behind a damaged one were not replayed");
            }
        }
        Ok(())
    }

    /// Visits batches until `visit` says no more. Says whether the walk got to its end; has visited nothing if the
    /// first batch was bad.
    fn replay_segment(
        &self,
        stretch: &Bounded<'_>,
        visit: &mut impl FnMut(Replayed<'_>) -> bool,
    ) -> Result<bool, StorageError> {
        let handle: Arc<dyn DiskFile> = stretch.file.handle(OpenMode::Read)?;
        let path = stretch.file.path();
        let begin = stretch.range.start;
        let expect = Expect::segment(stretch.segment);
        let mut scanner = Scanner::new(&*handle, stretch.range.clone(), Depth::Headers, expect);
        loop {
            match scanner.step().at("read", &path)? {
                Step::Batch(header, position) => {
                    if position == begin && begin > 0 && header.base_offset > stretch.from {
                        return Ok(false);
                    }
                    if header.last_offset() < stretch.from {
                        continue;
                    }
                    let mut marker = None;
                    if header.is_control() {
                        let bytes = scanner.batch_bytes(&header, position).at("read", &path)?;
                        marker = RecordBatch::parse(bytes)
                            .ok()
                            .and_then(|(batch, _)| parse_marker(&batch));
                    }
                    let more = visit(Replayed {
                        header: &header,
                        segment: stretch.segment,
                        marker,
                    });
                    if !more {
                        return Ok(true);
                    }
                }
                Step::End => return Ok(true),
                Step::Bad(_, position) => return Ok(!(position == begin && begin > 0)),
            }
        }
    }
}

/// A stretch of a segment to walk over, from the batch that holds `from` on.
struct Bounded<'a> {
    file: &'a Arc<SegmentFile>,
    /// Base offset of the segment.
    segment: Offset,
    range: Range<u64>,
    from: Offset,
}

/// Removes both files of a snapshot.
pub(super) fn remove_snapshot(disk: &dyn Disk, dir: &Path, offset: Offset) -> Result<(), StorageError> {
    for kind in [FileKind::ProducerSnapshot, FileKind::ProducerBatches] {
        let path = files::path(dir, offset, kind);
        disk.remove_file(&path).at("remove", &path)?;
    }
    Ok(())
}

/// Reads a small file of state; one that is larger than any of ours is as good as damaged.
fn read_state_file(
    disk: &dyn Disk,
    path: &Path,
) -> Result<Option<Result<Vec<u8>, FormatProblem>>, StorageError> {
    match read_file(disk, path, MAX_STATE_FILE_BYTES) {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Ok(Some(Err(FormatProblem::TooLarge)))
        }
        other => Ok(other.at("read", path)?.map(Ok)),
    }
}

/// A batch met while replaying.
struct Replayed<'a> {
    header: &'a BatchHeader,
    /// Base offset of its segment.
    segment: Offset,
    marker: Option<Marker>,
}
