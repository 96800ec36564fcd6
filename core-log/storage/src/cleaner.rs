//! Log compaction: keeps the latest record of every key (semantics 70, 71; KIP-58, KIP-354, KIP-534).
//!
//! Two passes, as in Kafka. The first reads the dirty section, what was written since the last cleaning, and notes
//! the latest offset of every key in an [`OffsetMap`]. The second copies the log from its start up to the end of that
//! section, segment group by segment group, without the records that the map shows to be superseded, and puts each
//! copy in place of its originals (`cleaner/swap.rs`). Reading order: this file, `cleaner/filter.rs` (what stays),
//! `cleaner/offset_map.rs`, `cleaner/transactions.rs`, `cleaner/output.rs`, `cleaner/swap.rs`; the log's side is
//! `log/cleaning.rs`.
//!
//! Refuses: choosing which log to clean, clocks and threads. The log's lock is taken for the plan and for each
//! exchange of segments, never over a read or a copy.
//!
//! # Invariants
//! - Offsets never change; a record goes only if a later one of its key is durable, or it was aborted, or it is a
//!   tombstone whose horizon has passed, or it has no key.
//! - Only whole segments below the active one, the last stable offset, the recovery point and the compaction lag are
//!   touched.
//! - A reader that has planned its read before an exchange reads the old segment to its end.

mod filter;
mod offset_map;
mod output;
mod swap;
mod transactions;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_types::record::{BatchError, RecordBatch};
use highwater_types::{Offset, Timestamp};

use self::filter::{Counts, Filter, Verdict};
use self::offset_map::OffsetMap;
use self::output::{Output, Written};
use self::transactions::{Aborted, Traversed};
use crate::disk::{DiskFile, OpenMode, is_full};
use crate::error::{At, CorruptionEvidence, StorageError};
use crate::index::MaxTimestamp;
use crate::log::{CleaningPlan, PartitionLog, Source};
use crate::scan::{Depth, Expect, Scanner, Step};

pub(crate) use self::filter::LastOfProducer;
pub(crate) use self::swap::{discard as discard_swap, finish_interrupted, settle as settle_swap};

/// Why a log was not cleaned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CleanError {
    /// The owner asked to stop.
    #[error("cleaning was interrupted")]
    Interrupted,
    /// The log was cut, deleted or closed while it was read; the next round begins anew.
    #[error("the log changed while it was cleaned")]
    Overtaken,
    /// The copy would not fit.
    #[error(
        "cleaning {} needs {needed_bytes} bytes for a copy, the disk has {available_bytes} to spare; free some space",
        dir.display()
    )]
    NoSpace {
        /// The partition's directory.
        dir: PathBuf,
        /// Size of the segments to copy.
        needed_bytes: u64,
        /// What may be used.
        available_bytes: u64,
    },
    /// Recompressed batches have outgrown a segment.
    #[error("{} would pass 2 GiB; lower segment.bytes of the topic", path.display())]
    OutputTooLarge {
        /// The file being written.
        path: PathBuf,
    },
    /// A batch could not be written anew.
    #[error("batch at offset {base_offset} of {} cannot be rewritten: {source}", path.display())]
    Rewrite {
        /// The segment it stands in.
        path: PathBuf,
        /// Where it begins.
        base_offset: Offset,
        /// Why not.
        source: BatchError,
    },
    /// The disk, or a damaged batch on it.
    #[error(transparent)]
    Storage(StorageError),
}

impl CleanError {
    /// Whether a later attempt may succeed without anybody doing anything about the partition.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Interrupted | Self::Overtaken | Self::NoSpace { .. } => true,
            Self::Storage(StorageError::Io { source, .. }) => is_full(source),
            Self::Storage(_) | Self::OutputTooLarge { .. } | Self::Rewrite { .. } => false,
        }
    }
}

impl From<StorageError> for CleanError {
    fn from(error: StorageError) -> Self {
        match error {
            // Retention, a cut or the topic's deletion took a file away under our hands.
            StorageError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Self::Overtaken
            }
            other => Self::Storage(other),
        }
    }
}

/// How fast a cleaning may go, and whether it should go on.
pub trait CleaningPace {
    /// Asked before every batch; `true` ends the cleaning with [`CleanError::Interrupted`].
    fn is_cancelled(&self) -> bool;
    /// So many bytes were read or written; may sleep.
    fn moved(&mut self, bytes: u64);
}

/// The way to a log that others use as well.
pub trait LogAccess {
    /// Runs `use_log` under the log's lock; `None` if the log is gone.
    fn with_log<T>(&self, use_log: impl FnOnce(&mut PartitionLog) -> T) -> Option<T>;
}

/// Bounds of a [`Cleaner`].
#[derive(Debug, Clone, Copy)]
pub struct CleanerOptions {
    /// `log.cleaner.dedupe.buffer.size`: memory for the keys of a dirty section.
    pub dedupe_buffer_bytes: usize,
    /// `log.cleaner.io.buffer.load.factor`: how full that memory gets; fuller holds more keys and is slower.
    pub load_factor: f64,
    /// `log.cleaner.io.buffer.size`: bytes gathered before they are written to a cleaned segment.
    pub io_buffer_bytes: usize,
}

/// What the caller knows when a cleaning begins.
#[derive(Debug, Clone, Copy)]
pub struct CleaningRequest {
    /// Nothing at or above is touched.
    pub high_watermark: Offset,
    /// Wall time, for lags and horizons.
    pub now: Timestamp,
    /// Room that must stay free on the disk.
    pub reserve_bytes: u64,
}

/// What a cleaning did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleaningReport {
    /// Where the dirty section began.
    pub from: Offset,
    /// Everything below is clean now.
    pub upto: Offset,
    /// Keys in the dirty section.
    pub keys: u64,
    /// The keys did not fit: only a part of the dirty section was cleaned.
    pub map_was_full: bool,
    /// Read in both passes.
    pub bytes_read: u64,
    /// Written.
    pub bytes_written: u64,
    /// Size of the cleaned part of the log before.
    pub bytes_before: u64,
    /// And after.
    pub bytes_after: u64,
    /// Segments of that part before.
    pub segments_before: usize,
    /// And after.
    pub segments_after: usize,
    /// Records of that part before.
    pub records_before: u64,
    /// And after.
    pub records_after: u64,
    /// Deletions whose time had come.
    pub tombstones_removed: u64,
    /// Records without key, which compaction removes.
    pub records_without_key: u64,
    /// Batches that nobody can read and that were kept.
    pub undecodable_batches: u64,
    /// When the next tombstones or markers may go.
    pub next_horizon: Option<Timestamp>,
}

/// Cleans one log at a time. Holds no memory in between.
#[derive(Debug)]
pub struct Cleaner {
    map: OffsetMap,
    io_buffer_bytes: usize,
}

impl Cleaner {
    /// A cleaner within bounds.
    pub fn new(options: CleanerOptions) -> Self {
        Self {
            map: OffsetMap::new(options.dedupe_buffer_bytes, options.load_factor),
            io_buffer_bytes: options.io_buffer_bytes,
        }
    }

    /// Cleans a log; `None` when there is nothing to clean.
    ///
    /// # Errors
    /// [`CleanError`]. The log is as it was, or cleaned up to some segment; either way nothing is lost.
    pub fn clean(
        &mut self,
        log: &impl LogAccess,
        request: CleaningRequest,
        pace: &mut dyn CleaningPace,
    ) -> Result<Option<CleaningReport>, CleanError> {
        let plan = log
            .with_log(|log| log.plan_cleaning(request))
            .ok_or(CleanError::Overtaken)??;
        let Some(plan) = plan else { return Ok(None) };
        let report = self.run(log, plan, pace);
        self.map.clear();
        report.map(Some)
    }

    fn run(
        &mut self,
        log: &impl LogAccess,
        mut plan: CleaningPlan,
        pace: &mut dyn CleaningPace,
    ) -> Result<CleaningReport, CleanError> {
        let aborted = Aborted::new(plan.read_aborted()?);
        let covered = self.cover(&plan, &aborted, pace)?;
        let mut sources = plan.take_sources(covered.upto);
        let mut run = Run {
            filter: Filter {
                map: &self.map,
                covered: covered.last,
                covered_end: covered.end_of_last_batch,
                aborted,
                traversed: Traversed::default(),
                producers: std::mem::take(&mut plan.producers),
                now: plan.request.now,
                delete_retention_ms: plan.config.delete_retention_ms,
                counts: Counts::default(),
                next_horizon: None,
                index_entries: Vec::new(),
            },
            plan: &plan,
            io_buffer_bytes: self.io_buffer_bytes,
            tally: Tally {
                bytes_read: covered.bytes_read,
                ..Tally::default()
            },
        };
        while !sources.is_empty() {
            run.next_group(log, &mut sources, pace)?;
        }
        let (counts, tally, next_horizon) = (run.filter.counts, run.tally, run.filter.next_horizon);
        log.with_log(|log| log.note_cleaned(covered.upto, next_horizon, plan.truncations))
            .ok_or(CleanError::Overtaken)?;
        Ok(CleaningReport {
            from: plan.first_dirty,
            upto: covered.upto,
            keys: self.map.len() as u64,
            map_was_full: covered.map_was_full,
            bytes_read: tally.bytes_read,
            bytes_written: tally.bytes_written,
            bytes_before: tally.bytes_before,
            bytes_after: tally.bytes_after,
            segments_before: tally.segments_before,
            segments_after: tally.segments_after,
            records_before: counts.records_read,
            records_after: counts.records_kept,
            tombstones_removed: counts.tombstones_removed,
            records_without_key: counts.without_key,
            undecodable_batches: counts.undecodable_batches,
            next_horizon,
        })
    }

    /// First pass: fills the map from the dirty section, as far as it has room.
    fn cover(
        &mut self,
        plan: &CleaningPlan,
        aborted: &Aborted,
        pace: &mut dyn CleaningPace,
    ) -> Result<Covered, CleanError> {
        self.map.clear();
        let before_dirty = plan.first_dirty.advance_by(-1);
        let mut covered = Covered {
            last: before_dirty,
            upto: plan.upto,
            end_of_last_batch: None,
            map_was_full: false,
            bytes_read: 0,
        };
        for source in plan.sources.iter().filter(|source| source.end > plan.first_dirty) {
            let file = source.file.handle(OpenMode::Read)?;
            let mut reader = Reader::new(source, &*file);
            while let Some(batch) = reader.next(pace)? {
                let header = *batch.header();
                covered.bytes_read += header.size_bytes() as u64;
                if header.last_offset() < plan.first_dirty {
                    continue;
                }
                let has_keys = !header.is_control() && header.record_count > 0;
                if has_keys
                    && !aborted.is_aborted(&header)
                    && let Err(full) = self.note_keys(&batch, plan.first_dirty)
                {
                    covered.stop_before(full.offset, plan.first_dirty);
                    tracing::debug!(
                        keys = self.map.len(),
                        capacity = self.map.capacity(),
                        "offset map is full"
                    );
                    return Ok(covered);
                }
                covered.last = header.last_offset();
                covered.end_of_last_batch = Some(header.next_offset());
            }
        }
        if covered.end_of_last_batch.is_none() {
            covered.end_of_last_batch = end_of_last_batch(&plan.sources)?;
        }
        // A gap at the end belongs to what is clean.
        covered.last = covered.last.max(plan.upto.advance_by(-1));
        Ok(covered)
    }

    /// Notes a batch's keys; an undecodable batch has none.
    fn note_keys(&mut self, batch: &RecordBatch, first_dirty: Offset) -> Result<(), FullAt> {
        let Ok(decoded) = batch.decode(Default::default()) else {
            return Ok(());
        };
        // A batch that breaks off in the middle is kept whole, so none of its keys may count.
        if decoded.views().any(|record| record.is_err()) {
            return Ok(());
        }
        for record in decoded
            .views()
            .flatten()
            .filter(|record| record.offset >= first_dirty)
        {
            if let Some(key) = record.key {
                self.map.put(key, record.offset).map_err(|_| FullAt {
                    offset: record.offset,
                })?;
            }
        }
        Ok(())
    }
}

/// Where the last batch of the segments ends. It stays, if only empty: were it dropped from the end of a log that
/// nobody appends to, readers would wait in front of a gap for ever (KAFKA-17076).
fn end_of_last_batch(sources: &[Source]) -> Result<Option<Offset>, CleanError> {
    for source in sources.iter().rev() {
        let file = source.file.handle(OpenMode::Read)?;
        let range = 0..source.size_bytes;
        let mut scanner = Scanner::new(&*file, range, Depth::Headers, Expect::segment(source.base));
        let mut end = None;
        while let Step::Batch(header, _) = scanner.step().at("read", &source.file.path())? {
            end = Some(header.next_offset());
        }
        if end.is_some() {
            return Ok(end);
        }
    }
    Ok(None)
}

/// The map had no room for the key of the record here.
struct FullAt {
    offset: Offset,
}

/// How far the map reaches.
struct Covered {
    /// Last offset whose key, if it has one, is in the map.
    last: Offset,
    /// Where the log is clean up to once the second pass is through.
    upto: Offset,
    end_of_last_batch: Option<Offset>,
    map_was_full: bool,
    bytes_read: u64,
}

impl Covered {
    fn stop_before(&mut self, offset: Offset, first_dirty: Offset) {
        self.last = offset.advance_by(-1).max(first_dirty.advance_by(-1));
        self.upto = offset;
        self.map_was_full = true;
    }
}

/// Reads the batches of a source, checksums and all.
struct Reader<'a> {
    source: &'a Source,
    path: PathBuf,
    scanner: Scanner<'a>,
}

impl<'a> Reader<'a> {
    fn new(source: &'a Source, file: &'a dyn DiskFile) -> Self {
        let expect = Expect::segment(source.base);
        Self {
            source,
            path: source.file.path(),
            scanner: Scanner::new(file, 0..source.size_bytes, Depth::Checksums, expect),
        }
    }

    fn next(&mut self, pace: &mut dyn CleaningPace) -> Result<Option<RecordBatch>, CleanError> {
        if pace.is_cancelled() {
            return Err(CleanError::Interrupted);
        }
        match self.scanner.step().at("read", &self.path)? {
            Step::End => Ok(None),
            Step::Batch(header, position) => {
                let bytes = self
                    .scanner
                    .batch_bytes(&header, position)
                    .at("read", &self.path)?;
                pace.moved(bytes.len() as u64);
                let parsed = RecordBatch::parse(bytes).map_err(|source| CleanError::Rewrite {
                    path: self.path.clone(),
                    base_offset: header.base_offset,
                    source,
                })?;
                Ok(Some(parsed.0))
            }
            Step::Bad(problem, position) => Err(CleanError::Storage(StorageError::CorruptLog {
                path: self.path.clone(),
                position,
                expected_offset: self.source.base,
                problem,
                evidence: CorruptionEvidence::BelowRecoveryPoint(self.source.end),
            })),
        }
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    bytes_read: u64,
    bytes_written: u64,
    bytes_before: u64,
    bytes_after: u64,
    segments_before: usize,
    segments_after: usize,
}

/// The second pass.
struct Run<'a> {
    filter: Filter<'a>,
    plan: &'a CleaningPlan,
    io_buffer_bytes: usize,
    tally: Tally,
}

/// A cleaned segment that waits for its place in the log.
#[derive(Debug)]
pub(crate) struct CleanedGroup<'a> {
    pub(crate) sources: &'a [Source],
    pub(crate) size_bytes: u64,
    pub(crate) max_timestamp: Option<MaxTimestamp>,
    /// How often the log had been cut when the sources were listed.
    pub(crate) truncations: u64,
}

impl CleanedGroup<'_> {
    pub(crate) fn base(&self) -> Offset {
        self.sources[0].base
    }
}

impl Run<'_> {
    /// Cleans as many segments as fit into one. They are dropped at the end, and with them the room they took.
    fn next_group(
        &mut self,
        log: &impl LogAccess,
        sources: &mut VecDeque<Source>,
        pace: &mut dyn CleaningPace,
    ) -> Result<(), CleanError> {
        let base = sources.front().map_or(self.plan.upto, |first| first.base);
        self.check_space(sources)?;
        let mut group = Vec::new();
        let written = match self.copy(sources, &mut group, pace) {
            Ok(written) => written,
            Err(error) => {
                self.discard(base);
                return Err(error);
            }
        };
        let bytes_before: u64 = group.iter().map(|source| source.size_bytes).sum();
        let bytes_after = match written {
            Some(written) => {
                self.exchange(log, &group, written)?;
                written.size_bytes
            }
            // Not a byte would change.
            None => {
                self.discard(base);
                bytes_before
            }
        };
        self.tally.bytes_before += bytes_before;
        self.tally.segments_before += group.len();
        self.tally.bytes_after += bytes_after;
        self.tally.segments_after += 1;
        Ok(())
    }

    /// The copy must fit before the originals go.
    fn check_space(&self, sources: &VecDeque<Source>) -> Result<(), CleanError> {
        let dir = &self.plan.dir;
        let all: u64 = sources.iter().map(|source| source.size_bytes).sum();
        let largest = u64::from(self.plan.config.segment_bytes);
        let first = sources.front().map_or(0, |first| first.size_bytes);
        let needed_bytes = all.min(largest).max(first);
        let free_bytes = self.plan.disk.space(dir).at("measure", dir)?.free_bytes;
        let available_bytes = free_bytes.saturating_sub(self.plan.request.reserve_bytes);
        if needed_bytes > available_bytes {
            return Err(CleanError::NoSpace {
                dir: dir.to_path_buf(),
                needed_bytes,
                available_bytes,
            });
        }
        Ok(())
    }

    /// The next open would remove it too; until then it would only take room.
    fn discard(&self, base: Offset) {
        if let Err(problem) = swap::discard(&*self.plan.disk, &self.plan.dir, base) {
            tracing::debug!(%problem, "cannot remove the files of an unfinished cleaning");
        }
    }

    /// Copies what stays of the next segments into one, and says which those are; `None` when that is everything.
    fn copy(
        &mut self,
        sources: &mut VecDeque<Source>,
        group: &mut Vec<Source>,
        pace: &mut dyn CleaningPace,
    ) -> Result<Option<Written>, CleanError> {
        let plan = self.plan;
        let Some(first) = sources.pop_front() else {
            return Ok(None);
        };
        let interval = plan.config.index_interval_bytes;
        let mut output = Output::create(&plan.disk, &plan.dir, first.base, interval, self.io_buffer_bytes)?;
        let mut changed = self.copy_segment(&first, &mut output, pace)?;
        group.push(first);
        // What is left of a segment decides what else has room, so that one cleaning merges what it has emptied.
        while let Some(next) = sources.front()
            && plan.fits(group, output.size_bytes(), next)
            && let Some(next) = sources.pop_front()
        {
            self.copy_segment(&next, &mut output, pace)?;
            group.push(next);
            changed = true;
        }
        if !changed {
            return Ok(None);
        }
        let with_transactions = plan.has_transaction_index(group)?;
        let written = output.finish(with_transactions, pace)?;
        self.tally.bytes_written += written.size_bytes;
        Ok(Some(written))
    }

    /// Copies what stays of one segment; says whether that is less than all, or different.
    fn copy_segment(
        &mut self,
        source: &Source,
        output: &mut Output,
        pace: &mut dyn CleaningPace,
    ) -> Result<bool, CleanError> {
        let mut changed = false;
        let file = source.file.handle(OpenMode::Read)?;
        let mut reader = Reader::new(source, &*file);
        while let Some(batch) = reader.next(pace)? {
            self.tally.bytes_read += batch.bytes().len() as u64;
            let failed = |error| CleanError::Rewrite {
                path: source.file.path(),
                base_offset: batch.header().base_offset,
                source: error,
            };
            match self.filter.judge(&batch).map_err(failed)? {
                Verdict::Copy => output.batch(batch.header(), batch.bytes(), pace)?,
                Verdict::Rewrite(bytes) => {
                    changed = true;
                    let (new, _) = RecordBatch::parse(bytes).map_err(failed)?;
                    output.batch(new.header(), new.bytes(), pace)?;
                }
                Verdict::Drop => changed = true,
            }
            output.aborted(&mut self.filter.index_entries);
        }
        Ok(changed)
    }

    /// Puts the copy in the place of its sources.
    fn exchange(&self, log: &impl LogAccess, sources: &[Source], written: Written) -> Result<(), CleanError> {
        let (disk, dir): (_, &Path) = (&*self.plan.disk, &self.plan.dir);
        let group = CleanedGroup {
            sources,
            size_bytes: written.size_bytes,
            max_timestamp: written.max_timestamp,
            truncations: self.plan.truncations,
        };
        let base = group.base();
        if log.with_log(|log| log.announce_swap(&group)) != Some(true) {
            self.discard(base);
            return Err(CleanError::Overtaken);
        }
        let decided = swap::decide(disk, dir, base);
        if !matches!(decided, Ok(true)) {
            log.with_log(PartitionLog::withdraw_swap);
            self.discard(base);
            return Err(decided.err().map_or(CleanError::Overtaken, CleanError::from));
        }
        // From here on the copy may be all there is of some segments: it is only removed if the log says so.
        let retired: Vec<Arc<dyn DiskFile>> = match log.with_log(|log| log.exchange(&group)) {
            Some(exchanged) => exchanged?.ok_or_else(|| {
                self.discard(base);
                CleanError::Overtaken
            })?,
            None => return Err(CleanError::Overtaken),
        };
        disk.sync_dir(dir).at("sync", dir)?;
        // The last handle of a removed file frees its blocks, which takes a while: not under the log's lock.
        drop(retired);
        Ok(())
    }
}
