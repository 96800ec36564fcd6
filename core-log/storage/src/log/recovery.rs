//! Opening a log: what is on disk decides, checkpoints and indexes only save work.
//!
//! After a clean shutdown only the stretch behind the last index entry is read. After a kill, what lies above the
//! recovery point is read with checksums: whole segments, or the last one from the index entry below the point on;
//! indexes are rebuilt there. The first batch that does not hold is a torn tail if nothing valid lies behind it and nothing there was durable: it is cut off.
//! Otherwise the partition is refused, untouched (section 2.4).
//!
//! Worked case: offsets 0..=9 durable (recovery point 10), 10..=14 written, killed while writing 15. The file ends
//! with half a batch at 15; nothing valid behind it: cut, the log ends at 15. Had a bit of the batch at 12 flipped,
//! the batch at 13 would be valid behind it: refused, since cutting would lose 13 and 14.

mod gaps;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use highwater_types::record::BatchHeader;
use highwater_types::{LeaderEpoch, Offset, Timestamp};

use super::{PartitionLog, Unsynced};
use crate::cleaner::finish_interrupted;
use crate::config::LogConfig;
use crate::disk::{Disk, EntryKind, FileInfo, OpenMode, read_file};
use crate::error::{At, BadBatch, CorruptionEvidence, StorageError};
use crate::files::{self, FileKind};
use crate::index::{Indexed, SparseIndex};
use crate::leader_epochs::LeaderEpochs;
use crate::producer_state::ProducerState;
use crate::scan::{Depth, Expect, Scanner, Step, valid_batch_behind};
use crate::segment::{Active, Sealed, SegmentFile};

/// What to do with damage that is no torn tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CorruptionPolicy {
    /// Refuse the partition and change nothing.
    Refuse,
    /// Cut the log at the damage and lose what lies behind: for an operator who has decided so.
    TruncateAtDamage,
}

/// What the owner of the data directory knows about a log before opening it.
#[derive(Debug, Clone, Copy)]
pub struct OpenOptions {
    /// The marker was there: files are as they were closed.
    pub clean_shutdown: bool,
    /// From the checkpoint: everything below was durable. Lower it there before cutting a log.
    pub recovery_point: Offset,
    /// From the checkpoint: everything below was deleted.
    pub log_start: Offset,
    /// From the checkpoint: it was compacted once, so that offsets may be missing by right.
    pub was_compacted: bool,
    /// Wall time, for what has no timestamp.
    pub now: Timestamp,
    /// What to do with damage that is no torn tail.
    pub corruption: CorruptionPolicy,
}

/// Which path an open took (section 2.5, rule 3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments found.
    pub segments: usize,
    /// Segments read in full with checksums.
    pub segments_scanned: usize,
    /// Bytes of `.log` files read with checksums.
    pub bytes_scanned: u64,
    /// Sealed segments whose index files were missing or impossible.
    pub indexes_rebuilt: usize,
    /// Segments without a byte that others follow, in a log that was never compacted: what they held is gone.
    pub empty_segments: usize,
    /// Places between two segments where offsets are missing, in a log that was never compacted.
    pub gaps: usize,
    /// Bytes of torn tail that were cut off.
    pub truncated_bytes: u64,
    /// The log ends below its recovery point: durable data is missing, or a cut was not followed by a checkpoint.
    pub below_recovery_point: bool,
    /// Batches read to bring producer state up to date.
    pub producer_batches_replayed: u64,
}

/// A segment as found.
#[derive(Debug, Clone, Copy)]
struct Found {
    base: Offset,
    info: FileInfo,
}

/// What reading a segment told.
struct Scanned {
    index: SparseIndex,
    end: Offset,
    size_bytes: u64,
    first_timestamp: Option<Timestamp>,
    last_batch: Option<(Offset, u64)>,
    epochs: Vec<(LeaderEpoch, Offset)>,
    bad: Option<(BadBatch, u64)>,
}

impl Scanned {
    /// Takes note of a batch that holds; the index is the caller's.
    fn note(&mut self, header: &BatchHeader, position: u64) {
        self.last_batch = Some((header.base_offset, position));
        self.end = header.next_offset();
        let epoch = header.partition_leader_epoch;
        if self.epochs.last().is_none_or(|(last, _)| *last < epoch) {
            self.epochs.push((epoch, header.base_offset));
        }
    }
}

/// Contents of a segment's two index files.
struct IndexFiles {
    offsets: Vec<u8>,
    times: Vec<u8>,
}

/// The opening of one log.
struct Opening<'a> {
    disk: Arc<dyn Disk>,
    dir: Arc<Path>,
    config: Arc<LogConfig>,
    options: &'a OpenOptions,
    report: RecoveryReport,
    /// Epochs found by scanning, for a checkpoint that is behind or lost.
    epochs: Vec<(LeaderEpoch, Offset)>,
    snapshots: Vec<Offset>,
    names_changed: bool,
    /// Transaction indexes of these segments are rebuilt while producers are replayed.
    scanned_from: Option<Offset>,
    /// Segments that have a transaction index.
    txn_indexes: Vec<Offset>,
}

impl PartitionLog {
    /// Opens the log in `dir`, which is created if it does not exist. A new log creates no file yet.
    ///
    /// # Errors
    /// [`StorageError::CorruptLog`] for damage that is no torn tail, and what the disk refuses.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        config: Arc<LogConfig>,
        options: OpenOptions,
    ) -> Result<(Self, RecoveryReport), StorageError> {
        disk.create_dir_all(&dir).at("create", &dir)?;
        let mut opening = Opening {
            disk,
            dir: Arc::from(dir),
            config,
            options: &options,
            report: RecoveryReport::default(),
            epochs: Vec::new(),
            snapshots: Vec::new(),
            names_changed: false,
            scanned_from: None,
            txn_indexes: Vec::new(),
        };
        let found = opening.list()?;
        let (sealed, active, end) = opening.segments(found)?;
        opening.finish(sealed, active, end)
    }
}

impl Opening<'_> {
    /// Segments in order; removes what an interrupted operation left behind. Foreign names stay untouched.
    fn list(&mut self) -> Result<Vec<Found>, StorageError> {
        let mut logs = BTreeMap::new();
        let mut others = Vec::new();
        let mut batches = Vec::new();
        finish_interrupted(&*self.disk, &self.dir)?;
        for entry in self.disk.list(&self.dir).at("list", &self.dir)? {
            if entry.kind != EntryKind::File {
                tracing::warn!(dir = %self.dir.display(), name = entry.name, kind = ?entry.kind,
                    "not a file of this log, left alone");
                continue;
            }
            if entry.name.ends_with(".tmp") || files::is_deleted(&entry.name) {
                let path = self.dir.join(&entry.name);
                self.disk.remove_file(&path).at("remove", &path)?;
                continue;
            }
            match files::parse(&entry.name) {
                Some((base, FileKind::Log)) => {
                    let path = self.dir.join(&entry.name);
                    if let Some(info) = self.disk.info(&path).at("inspect", &path)? {
                        logs.insert(base, Found { base, info });
                    }
                }
                Some((base, FileKind::ProducerSnapshot)) => self.snapshots.push(base),
                Some((base, FileKind::ProducerBatches)) => batches.push(base),
                Some((base, kind)) => others.push((base, kind)),
                None if files::is_known(&entry.name) => {}
                None => tracing::warn!(dir = %self.dir.display(), name = entry.name,
                    "not a file of this log, left alone"),
            }
        }
        self.txn_indexes = others
            .iter()
            .filter(|(base, kind)| *kind == FileKind::TxnIndex && logs.contains_key(base))
            .map(|(base, _)| *base)
            .collect();
        let orphans = others.into_iter().filter(|(base, _)| !logs.contains_key(base));
        let lone_batches = batches.into_iter().filter(|base| !self.snapshots.contains(base));
        let lone_batches = lone_batches.map(|base| (base, FileKind::ProducerBatches));
        for (base, kind) in orphans.chain(lone_batches).collect::<Vec<_>>() {
            let path = files::path(&self.dir, base, kind);
            self.disk.remove_file(&path).at("remove", &path)?;
            self.names_changed = true;
        }
        self.snapshots.sort_unstable();
        Ok(logs.into_values().collect())
    }

    /// Checks or scans every segment, cuts a torn tail.
    fn segments(&mut self, found: Vec<Found>) -> Result<(Vec<Sealed>, Active, Offset), StorageError> {
        self.report.segments = found.len();
        let mut sealed = Vec::with_capacity(found.len().saturating_sub(1));
        let mut expect_epoch = LeaderEpoch::UNKNOWN;
        let mut end = found.first().map_or(self.options.log_start, |first| first.base);
        for (at, segment) in found.iter().enumerate() {
            let file = self.segment_file(segment.base);
            if segment.base < end {
                return Err(StorageError::OverlappingSegments {
                    path: file.path(),
                    base_offset: segment.base,
                    previous_end: end,
                });
            }
            let Some(next) = found.get(at + 1) else {
                let scanned = self.last_segment(segment, &file, expect_epoch)?;
                end = scanned.end;
                let active = self.active(segment, file, scanned);
                return Ok((sealed, active, end));
            };
            let trusted = self.options.clean_shutdown || next.base <= self.options.recovery_point;
            if trusted {
                self.check_index_files(segment, &file)?;
                self.check_gap(segment, &file, None, next.base)?;
                sealed.push(Sealed::new(
                    file,
                    segment.info.len_bytes,
                    segment.info.modified_ms,
                ));
                // Its last record lies somewhere below the next segment.
                end = segment.base;
                continue;
            }
            let mut scanned = self.scan(segment, &file, expect_epoch)?;
            expect_epoch = scanned.epochs.last().map_or(expect_epoch, |(epoch, _)| *epoch);
            end = scanned.end;
            if scanned.bad.is_some() {
                let later = &found[at + 1..];
                self.cut(segment, &file, &mut scanned, later)?;
                let active = self.active(segment, file, scanned);
                return Ok((sealed, active, end));
            }
            self.check_gap(segment, &file, Some(end), next.base)?;
            let size_bytes = scanned.size_bytes;
            let max = scanned.index.max_timestamp();
            self.write_index_files(segment.base, scanned.index)?;
            sealed.push(Sealed::new(file, size_bytes, segment.info.modified_ms).with_max_timestamp(max));
        }
        // No segment at all: a new log.
        let base = self.options.log_start;
        Ok((sealed, Active::new(self.segment_file(base)), base))
    }

    fn last_segment(
        &mut self,
        segment: &Found,
        file: &Arc<SegmentFile>,
        epoch: LeaderEpoch,
    ) -> Result<Scanned, StorageError> {
        let resumed = self.resume(segment, file)?;
        if !self.options.clean_shutdown {
            self.scanned_from.get_or_insert(segment.base);
        }
        let mut scanned = match resumed {
            Some(scanned) => scanned,
            None => self.scan(segment, file, epoch)?,
        };
        if scanned.bad.is_some() {
            self.cut(segment, file, &mut scanned, &[])?;
        }
        Ok(scanned)
    }

    /// Reads only what lies behind the last index entry that can be trusted: any after a clean shutdown, those below
    /// the recovery point after a kill. `None` if something is odd and the segment must be read in full.
    fn resume(&mut self, segment: &Found, file: &Arc<SegmentFile>) -> Result<Option<Scanned>, StorageError> {
        let (base, clean) = (segment.base, self.options.clean_shutdown);
        if segment.info.len_bytes == 0 {
            return Ok(Some(empty(base)));
        }
        if !clean && self.options.recovery_point <= base {
            return Ok(None);
        }
        let Some(IndexFiles { offsets, times }) = self.read_index_files(base)? else {
            return Ok(None);
        };
        let Some(mut index) = SparseIndex::load(base, segment.info.len_bytes, &offsets, &times) else {
            return Ok(None);
        };
        if !clean {
            index.truncate(base, self.options.recovery_point);
        }
        let handle = file.handle(OpenMode::Read)?;
        let path = file.path();
        let whole = 0..segment.info.len_bytes;
        let mut first = Scanner::new(&*handle, whole, Depth::Headers, Expect::segment(base));
        let Step::Batch(first, _) = first.step().at("read", &path)? else {
            return Ok(None);
        };
        let range = index.last_position()..segment.info.len_bytes;
        let mut scanner = Scanner::new(&*handle, range.clone(), Depth::Checksums, Expect::segment(base));
        let mut scanned = Scanned {
            first_timestamp: known_time(first.max_timestamp),
            ..empty(base)
        };
        let indexed_last = index.last_entry(base).map(|(last, _)| last);
        loop {
            match scanner.step().at("read", &path)? {
                Step::Batch(header, position) if position == range.start => {
                    if indexed_last.is_some_and(|last| last != header.last_offset()) {
                        return Ok(None);
                    }
                    index.resume(indexed(&header, position));
                    scanned.note(&header, position);
                }
                Step::Batch(header, position) => {
                    index.append(base, indexed(&header, position), self.config.index_interval_bytes);
                    scanned.note(&header, position);
                }
                Step::End => break,
                Step::Bad(..) if clean || scanner.position() == range.start => return Ok(None),
                Step::Bad(bad, position) => {
                    scanned.bad = Some((bad, position));
                    break;
                }
            }
        }
        let beyond = index
            .last_time_offset(base)
            .is_some_and(|last| last >= scanned.end);
        if beyond {
            return Ok(None);
        }
        scanned.size_bytes = scanner.position();
        self.report.bytes_scanned += scanned.size_bytes - range.start;
        scanned.index = index;
        self.epochs.extend(&scanned.epochs);
        Ok(Some(scanned))
    }

    /// Reads a segment in full, with checksums.
    fn scan(
        &mut self,
        segment: &Found,
        file: &Arc<SegmentFile>,
        epoch: LeaderEpoch,
    ) -> Result<Scanned, StorageError> {
        self.report.segments_scanned += 1;
        self.scanned_from.get_or_insert(segment.base);
        let handle = file.handle(OpenMode::Read)?;
        let path = file.path();
        let expect = Expect {
            epoch,
            ..Expect::segment(segment.base)
        };
        let mut scanner = Scanner::new(&*handle, 0..segment.info.len_bytes, Depth::Checksums, expect);
        let mut scanned = empty(segment.base);
        loop {
            match scanner.step().at("read", &path)? {
                Step::Batch(header, position) => {
                    if position == 0 {
                        scanned.first_timestamp = known_time(header.max_timestamp);
                    }
                    let interval = self.config.index_interval_bytes;
                    scanned
                        .index
                        .append(segment.base, indexed(&header, position), interval);
                    scanned.note(&header, position);
                }
                Step::End => break,
                Step::Bad(bad, position) => {
                    scanned.bad = Some((bad, position));
                    break;
                }
            }
        }
        scanned.size_bytes = scanner.position();
        self.report.bytes_scanned += scanned.size_bytes;
        self.epochs.extend(&scanned.epochs);
        Ok(scanned)
    }

    /// Cuts a segment at the first batch that does not hold, and removes later ones; refuses if that is damage and
    /// not a torn tail.
    fn cut(
        &mut self,
        segment: &Found,
        file: &Arc<SegmentFile>,
        scanned: &mut Scanned,
        later: &[Found],
    ) -> Result<(), StorageError> {
        let Some((problem, position)) = scanned.bad.take() else {
            return Ok(());
        };
        let path = file.path();
        if let Some(evidence) = self.evidence(segment, file, scanned.end, position, later)? {
            if self.options.corruption == CorruptionPolicy::Refuse {
                return Err(StorageError::CorruptLog {
                    path,
                    position,
                    expected_offset: scanned.end,
                    problem,
                    evidence,
                });
            }
            tracing::warn!(path = %path.display(), position, %problem, %evidence, "cutting a damaged log as told");
        } else {
            let bytes = segment.info.len_bytes - position;
            tracing::warn!(path = %path.display(), position, offset = %scanned.end, bytes, %problem,
                "cutting off an interrupted write; nothing behind it holds and nothing of it was durable");
        }
        // Newest first: a crash in between leaves a log without holes.
        for segment in later.iter().rev() {
            self.report.truncated_bytes += segment.info.len_bytes;
            remove_segment(&*self.disk, &self.dir, segment.base)?;
        }
        if !later.is_empty() {
            self.disk.sync_dir(&self.dir).at("sync", &self.dir)?;
        }
        self.report.truncated_bytes += segment.info.len_bytes - position;
        let writer = file.handle(OpenMode::Write)?;
        writer.set_len(position).at("truncate", &path)?;
        writer.sync_data().at("sync", &path)
    }

    fn evidence(
        &self,
        segment: &Found,
        file: &Arc<SegmentFile>,
        expected: Offset,
        position: u64,
        later: &[Found],
    ) -> Result<Option<CorruptionEvidence>, StorageError> {
        if expected < self.options.recovery_point {
            return Ok(Some(CorruptionEvidence::BelowRecoveryPoint(
                self.options.recovery_point,
            )));
        }
        let handle = file.handle(OpenMode::Read)?;
        // A batch that follows the damaged one has a higher offset than the one expected at the damage.
        let behind = valid_batch_behind(&*handle, position + 1..segment.info.len_bytes, expected)
            .at("read", &file.path())?;
        if let Some(offset) = behind {
            return Ok(Some(CorruptionEvidence::ValidBatchBehind(offset)));
        }
        for segment in later {
            let file = self.segment_file(segment.base);
            let handle = file.handle(OpenMode::Read)?;
            let behind =
                valid_batch_behind(&*handle, 0..segment.info.len_bytes, expected).at("read", &file.path())?;
            if let Some(offset) = behind {
                return Ok(Some(CorruptionEvidence::ValidBatchBehind(offset)));
            }
        }
        Ok(None)
    }

    fn active(&self, segment: &Found, file: Arc<SegmentFile>, scanned: Scanned) -> Active {
        let mut active = Active::new(file);
        active.base_offset = segment.base;
        active.size_bytes = scanned.size_bytes;
        active.index = scanned.index;
        active.first_timestamp = scanned.first_timestamp;
        active.first_append = (scanned.size_bytes > 0).then_some(self.options.now);
        active.last_batch = scanned.last_batch;
        active
    }

    /// Looks whether the index files of a sealed segment can be right, and rebuilds them if not. Entries are not
    /// compared with the log: a wrong one is noticed by the reader who follows it.
    fn check_index_files(&mut self, segment: &Found, file: &Arc<SegmentFile>) -> Result<(), StorageError> {
        let mut right = true;
        for (kind, entry_bytes) in [
            (FileKind::OffsetIndex, crate::index::OFFSET_ENTRY_BYTES),
            (FileKind::TimeIndex, crate::index::TIME_ENTRY_BYTES),
        ] {
            let path = files::path(&self.dir, segment.base, kind);
            let info = self.disk.info(&path).at("inspect", &path)?;
            right &= info.is_some_and(|info| info.len_bytes % entry_bytes == 0);
        }
        if right {
            return Ok(());
        }
        self.report.indexes_rebuilt += 1;
        let scanned = self.scan(segment, file, LeaderEpoch::UNKNOWN)?;
        if let Some((problem, position)) = scanned.bad {
            return Err(StorageError::CorruptLog {
                path: file.path(),
                position,
                expected_offset: scanned.end,
                problem,
                evidence: CorruptionEvidence::BelowRecoveryPoint(self.options.recovery_point),
            });
        }
        self.write_index_files(segment.base, scanned.index)
    }

    fn read_index_files(&self, base: Offset) -> Result<Option<IndexFiles>, StorageError> {
        let read = |kind| {
            let path = files::path(&self.dir, base, kind);
            read_file(&*self.disk, &path, u64::from(u32::MAX)).at("read", &path)
        };
        let files = read(FileKind::OffsetIndex)?.zip(read(FileKind::TimeIndex)?);
        Ok(files.map(|(offsets, times)| IndexFiles { offsets, times }))
    }

    fn write_index_files(&mut self, base: Offset, mut index: SparseIndex) -> Result<(), StorageError> {
        index.seal(base);
        let (offsets, times) = index.pending();
        for (kind, pending) in [(FileKind::OffsetIndex, offsets), (FileKind::TimeIndex, times)] {
            let path = files::path(&self.dir, base, kind);
            crate::disk::replace_file_unsynced_name(&*self.disk, &path, &pending.bytes).at("write", &path)?;
        }
        self.names_changed = true;
        Ok(())
    }

    fn finish(
        mut self,
        sealed: Vec<Sealed>,
        active: Active,
        end: Offset,
    ) -> Result<(PartitionLog, RecoveryReport), StorageError> {
        let first = sealed
            .first()
            .map_or(active.base_offset, |segment| segment.base_offset);
        let start = self.options.log_start.max(first);
        self.report.below_recovery_point = self.report.segments > 0 && end < self.options.recovery_point;
        let mut log = PartitionLog {
            disk: Arc::clone(&self.disk),
            dir: Arc::clone(&self.dir),
            config: Arc::clone(&self.config),
            start: start.min(end),
            end,
            // Everything an unclean open has read is only as durable as the checkpoint says.
            recovery_point: match self.options.clean_shutdown {
                true => end,
                false => self.options.recovery_point.min(end),
            },
            sealed,
            active,
            epochs: LeaderEpochs::default(),
            epochs_changed: false,
            has_epoch_file: true,
            producers: ProducerState::default(),
            has_txn_indexes: !self.txn_indexes.is_empty(),
            since_snapshot_bytes: 0,
            inner_snapshots: Vec::new(),
            unsynced: Unsynced::default(),
            place_unsynced: self.options.recovery_point == Offset::ZERO,
            unflushed_since: None,
            truncations: 0,
            fence: None,
            cleaned_upto: None,
            next_horizon: None,
            pending_swap: None,
            last_read: Mutex::new(None),
        };
        if self.names_changed {
            log.unsynced.names();
        }
        self.unsynced_after_kill(&mut log);
        if start > end && self.options.corruption == CorruptionPolicy::Refuse && self.report.segments > 0 {
            return Err(StorageError::StartBeyondEnd {
                dir: log.dir.to_path_buf(),
                start,
                end,
            });
        }
        if start > end {
            // Everything below was deleted on purpose, and the tail above was lost: begin anew at the start.
            tracing::warn!(
                dir = %log.dir.display(), %start, %end,
                "log ends below its start offset, everything in it was deleted: beginning anew at the start"
            );
            log.reset_to(start)?;
        }
        log.load_epochs(&self.epochs)?;
        self.check_txn_indexes(&log)?;
        self.report.producer_batches_replayed = log.load_producers(&self.snapshots, self.scanned_from)?;
        log.release_files();
        Ok((log, self.report))
    }

    /// Transaction indexes that cannot be right are rebuilt with all behind them.
    fn check_txn_indexes(&mut self, log: &PartitionLog) -> Result<(), StorageError> {
        self.txn_indexes.sort_unstable();
        for base in self.txn_indexes.clone() {
            if self.scanned_from.is_some_and(|from| from <= base) {
                return Ok(());
            }
            if let Err(problem) = log.check_txn_index(base)? {
                let path = files::path(&self.dir, base, FileKind::TxnIndex);
                tracing::warn!(path = %path.display(), %problem, "transaction index is rebuilt from the log");
                self.report.indexes_rebuilt += 1;
                self.scanned_from = Some(base);
            }
        }
        Ok(())
    }

    /// After a kill, the log files above the recovery point may be in the page cache only: the next flush syncs
    /// them even if nothing is appended.
    fn unsynced_after_kill(&self, log: &mut PartitionLog) {
        if log.recovery_point >= log.end {
            return;
        }
        log.unflushed_since = Some(self.options.now);
        log.unsynced.names();
        let sealed = log
            .sealed
            .iter()
            .zip(log.sealed.iter().skip(1).map(|next| next.base_offset));
        let last = log.sealed.last().map(|last| (last, log.active.base_offset));
        let paths: Vec<PathBuf> = sealed
            .chain(last)
            .filter(|(_, end)| *end > log.recovery_point)
            .map(|(segment, _)| segment.file.path())
            .collect();
        paths.into_iter().for_each(|path| log.unsynced.file(path));
    }

    fn segment_file(&self, base: Offset) -> Arc<SegmentFile> {
        Arc::new(SegmentFile::new(
            Arc::clone(&self.disk),
            Arc::clone(&self.dir),
            base,
        ))
    }
}

/// Removes all files of a segment, the log first: then the others are known to be leftovers. The other way round, a
/// crash in between could bring the segment back without its list of aborted transactions.
pub(crate) fn remove_segment(disk: &dyn Disk, dir: &Path, base: Offset) -> Result<(), StorageError> {
    for kind in FileKind::ALL {
        let path = files::path(dir, base, kind);
        disk.remove_file(&path).at("remove", &path)?;
    }
    Ok(())
}

/// As [`remove_segment`], but the files stay under other names, which are told; the next open removes them.
pub(crate) fn bury_segment(
    disk: &dyn Disk,
    dir: &Path,
    base: Offset,
    buried: &mut Vec<PathBuf>,
) -> Result<(), StorageError> {
    for kind in FileKind::ALL {
        let path = files::path(dir, base, kind);
        let grave = files::deleted(&path);
        match disk.rename(&path, &grave) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            other => other.at("rename", &path)?,
        }
        buried.push(grave);
    }
    Ok(())
}

fn empty(base: Offset) -> Scanned {
    Scanned {
        index: SparseIndex::default(),
        end: base,
        size_bytes: 0,
        first_timestamp: None,
        last_batch: None,
        epochs: Vec::new(),
        bad: None,
    }
}

fn known_time(timestamp: Timestamp) -> Option<Timestamp> {
    Some(timestamp).filter(|at| at.get() >= 0)
}

fn indexed(header: &BatchHeader, position: u64) -> Indexed {
    Indexed {
        last_offset: header.last_offset(),
        // Of a batch that compaction has emptied, no record has it any more.
        max_timestamp: match header.record_count {
            0 => Timestamp::new(-1),
            _ => header.max_timestamp,
        },
        position: u32::try_from(position).unwrap_or(u32::MAX),
        size_bytes: u32::try_from(header.size_bytes()).unwrap_or(u32::MAX),
    }
}
