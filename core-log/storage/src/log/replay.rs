//! What a log knows beyond its batches, brought back at open and after a cut: leader epochs, producers, and the
//! transaction indexes of segments that were read anew. Files are a start; the batches behind them decide.

use std::sync::Arc;

use highwater_types::record::{BatchHeader, RecordBatch};
use highwater_types::{LeaderEpoch, Offset};

use super::PartitionLog;
use super::append::parse_marker;
use crate::disk::{DiskFile, OpenMode, read_file};
use crate::error::{At, StorageError};
use crate::files::{self, FileKind};
use crate::leader_epochs::{self, LeaderEpochs};
use crate::producer_state::{Marker, ProducerState, decode_snapshot};
use crate::scan::{Depth, Expect, Scanner, Step};
use crate::segment::SegmentFile;
use crate::txn_index::AbortedTransaction;

/// No producer snapshot or epoch file of ours is larger.
const MAX_STATE_FILE_BYTES: u64 = 1 << 30;

impl PartitionLog {
    /// Loads the epoch checkpoint, brings it in line with the log, and rebuilds it from the batches if it is lost.
    pub(super) fn load_epochs(&mut self, scanned: &[(LeaderEpoch, Offset)]) -> Result<(), StorageError> {
        let path = self.dir.join(leader_epochs::FILE_NAME);
        let loaded = match read_file(&*self.disk, &path, MAX_STATE_FILE_BYTES).at("read", &path)? {
            Some(bytes) => match LeaderEpochs::decode(&bytes) {
                Ok(epochs) => Some(epochs),
                Err(problem) => {
                    tracing::warn!(path = %path.display(), %problem, "leader epochs are rebuilt from the log");
                    None
                }
            },
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
    /// `rebuild_txn_from` on are written anew. Says how many batches were replayed.
    pub(super) fn load_producers(
        &mut self,
        snapshots: &[Offset],
        rebuild_txn_from: Option<Offset>,
    ) -> Result<u64, StorageError> {
        let bound = match rebuild_txn_from {
            // To find again what aborted, producers must be known as of where the rebuilding begins.
            Some(from) => from,
            None => self.end,
        };
        let mut from = self
            .sealed
            .first()
            .map_or(self.active.base_offset, |first| first.base_offset);
        self.producers = ProducerState::default();
        for offset in snapshots.iter().rev() {
            let path = files::path(&self.dir, *offset, FileKind::ProducerSnapshot);
            if *offset > bound {
                continue;
            }
            let Some(bytes) = read_file(&*self.disk, &path, MAX_STATE_FILE_BYTES).at("read", &path)? else {
                continue;
            };
            match decode_snapshot(&bytes) {
                Ok(state) => {
                    self.producers = state;
                    from = *offset;
                    break;
                }
                Err(problem) => {
                    tracing::warn!(path = %path.display(), %problem, "producer snapshot is skipped");
                    self.disk.remove_file(&path).at("remove", &path)?;
                    self.unsynced.names();
                }
            }
        }
        self.remove_stale_snapshots(snapshots)?;
        if let Some(rebuild_from) = rebuild_txn_from {
            self.remove_txn_indexes(rebuild_from)?;
        }
        let mut replayed = 0;
        let mut producers = std::mem::take(&mut self.producers);
        let mut aborted: Vec<(Offset, AbortedTransaction)> = Vec::new();
        self.replay(from, |step| {
            replayed += 1;
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
        if let Some(rebuild_from) = rebuild_txn_from {
            for (segment, entry) in aborted {
                if segment >= rebuild_from {
                    self.append_to_txn_index(segment, &entry.encode())?;
                }
            }
        }
        Ok(replayed)
    }

    /// Keeps the snapshots at segment borders and the newest; one above the end is of another history.
    fn remove_stale_snapshots(&mut self, snapshots: &[Offset]) -> Result<(), StorageError> {
        let newest = snapshots
            .iter()
            .rev()
            .find(|offset| **offset <= self.end)
            .copied();
        for offset in snapshots {
            let at_border = *offset == self.active.base_offset
                || self
                    .sealed
                    .binary_search_by_key(offset, |segment| segment.base_offset)
                    .is_ok();
            if *offset <= self.end && (at_border || Some(*offset) == newest) {
                continue;
            }
            let path = files::path(&self.dir, *offset, FileKind::ProducerSnapshot);
            self.disk.remove_file(&path).at("remove", &path)?;
            self.unsynced.names();
        }
        Ok(())
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
        for (file, base, position, size) in spans {
            // A damaged index can lead anywhere: then the segment is read from its beginning.
            if !self.replay_segment(file, base, position..size, from, &mut visit)?
                && !self.replay_segment(file, base, 0..size, from, &mut visit)?
            {
                tracing::warn!(path = %file.path().display(), "batches behind a damaged one were not replayed");
            }
        }
        Ok(())
    }

    /// Says whether the walk reached the end of the range; has visited nothing if the first batch was bad.
    fn replay_segment(
        &self,
        file: &Arc<SegmentFile>,
        segment: Offset,
        range: std::ops::Range<u64>,
        from: Offset,
        visit: &mut impl FnMut(Replayed<'_>),
    ) -> Result<bool, StorageError> {
        let handle: Arc<dyn DiskFile> = file.handle(OpenMode::Read)?;
        let path = file.path();
        let begin = range.start;
        let mut scanner = Scanner::new(&*handle, range, Depth::Headers, Expect::segment(segment));
        loop {
            match scanner.step().at("read", &path)? {
                Step::Batch(header, position) => {
                    if position == begin && begin > 0 && header.base_offset > from {
                        return Ok(false);
                    }
                    if header.last_offset() < from {
                        continue;
                    }
                    let mut marker = None;
                    if header.is_control() {
                        let bytes = scanner.batch_bytes(&header, position).at("read", &path)?;
                        marker = RecordBatch::parse(bytes)
                            .ok()
                            .and_then(|(batch, _)| parse_marker(&batch));
                    }
                    visit(Replayed {
                        header: &header,
                        segment,
                        marker,
                    });
                }
                Step::End => return Ok(true),
                Step::Bad(_, position) => {
                    return if position == begin && begin > 0 {
                        Ok(false)
                    } else {
                        Ok(true)
                    };
                }
            }
        }
    }
}

/// A batch met while replaying.
struct Replayed<'a> {
    header: &'a BatchHeader,
    /// Base offset of its segment.
    segment: Offset,
    marker: Option<Marker>,
}
