//! Writing one cleaned segment beside the log: batches, indexes, transaction index, everything synced.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_types::record::BatchHeader;
use highwater_types::{Offset, Timestamp};

use super::swap::{self, CLEANED, staged};
use super::{CleanError, CleaningPace};
use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::At;
use crate::files::FileKind;
use crate::index::{Indexed, MaxTimestamp, SparseIndex};
use crate::txn_index::AbortedTransaction;

/// So much is written between two syncs, lest one large sync stalls everybody else's.
const SYNC_EVERY_BYTES: u64 = 64 << 20;
/// Positions are stored in 31 bits.
const MAX_SEGMENT_BYTES: u64 = i32::MAX as u64;

/// A segment under way. Dropped unfinished, its files stay until `discard` or the next open.
#[derive(Debug)]
pub(super) struct Output {
    disk: Arc<dyn Disk>,
    dir: Arc<Path>,
    base: Offset,
    index_interval_bytes: u32,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    buffer: Vec<u8>,
    /// As full as it gets before it is written out.
    buffer_bytes: usize,
    written_bytes: u64,
    unsynced_bytes: u64,
    index: SparseIndex,
    transactions: Vec<u8>,
}

/// What a finished segment is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    pub(super) size_bytes: u64,
    pub(super) max_timestamp: Option<MaxTimestamp>,
}

impl Output {
    pub(super) fn create(
        disk: &Arc<dyn Disk>,
        dir: &Arc<Path>,
        base: Offset,
        index_interval_bytes: u32,
        buffer_bytes: usize,
    ) -> Result<Self, CleanError> {
        // What an earlier attempt may have left must not show through.
        swap::discard(&**disk, dir, base)?;
        let path = staged(dir, base, FileKind::Log, CLEANED);
        let file = disk.open(&path, OpenMode::Create).at("open", &path)?;
        Ok(Self {
            disk: Arc::clone(disk),
            dir: Arc::clone(dir),
            base,
            index_interval_bytes,
            path,
            file,
            buffer: Vec::with_capacity(buffer_bytes),
            buffer_bytes,
            written_bytes: 0,
            unsynced_bytes: 0,
            index: SparseIndex::default(),
            transactions: Vec::new(),
        })
    }

    /// Bytes so far.
    pub(super) fn size_bytes(&self) -> u64 {
        self.written_bytes + self.buffer.len() as u64
    }

    pub(super) fn batch(
        &mut self,
        header: &BatchHeader,
        bytes: &[u8],
        pace: &mut dyn CleaningPace,
    ) -> Result<(), CleanError> {
        let position = self.size_bytes();
        if position + bytes.len() as u64 > MAX_SEGMENT_BYTES {
            return Err(CleanError::OutputTooLarge {
                path: self.path.clone(),
            });
        }
        let max_timestamp = match header.record_count {
            // No record has it any more.
            0 => Timestamp::new(-1),
            _ => header.max_timestamp,
        };
        self.index.append(
            self.base,
            Indexed {
                last_offset: header.last_offset(),
                max_timestamp,
                position: position as u32,
                size_bytes: bytes.len() as u32,
            },
            self.index_interval_bytes,
        );
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= self.buffer_bytes {
            self.write_out(pace)?;
        }
        Ok(())
    }

    pub(super) fn aborted(&mut self, entries: &mut Vec<AbortedTransaction>) {
        for entry in entries.drain(..) {
            self.transactions.extend(entry.encode());
        }
    }

    fn write_out(&mut self, pace: &mut dyn CleaningPace) -> Result<(), CleanError> {
        let bytes = self.buffer.len() as u64;
        self.file
            .write_all_at(&[&self.buffer], self.written_bytes)
            .at("write", &self.path)?;
        self.buffer.clear();
        self.written_bytes += bytes;
        self.unsynced_bytes += bytes;
        if self.unsynced_bytes >= SYNC_EVERY_BYTES {
            self.file.sync_data().at("sync", &self.path)?;
            self.unsynced_bytes = 0;
        }
        pace.moved(bytes);
        Ok(())
    }

    /// Writes the rest and makes every file durable under its `.cleaned` name.
    pub(super) fn finish(
        mut self,
        with_transactions: bool,
        pace: &mut dyn CleaningPace,
    ) -> Result<Written, CleanError> {
        if !self.buffer.is_empty() {
            self.write_out(pace)?;
        }
        self.file.sync_data().at("sync", &self.path)?;
        self.index.seal(self.base);
        let (offsets, times) = self.index.pending();
        self.small_file(FileKind::OffsetIndex, &offsets.bytes)?;
        self.small_file(FileKind::TimeIndex, &times.bytes)?;
        // An empty one takes the place of the old one, whose entries point at what is no longer there.
        if with_transactions || !self.transactions.is_empty() {
            self.small_file(FileKind::TxnIndex, &self.transactions)?;
        }
        Ok(Written {
            size_bytes: self.written_bytes,
            max_timestamp: self.index.max_timestamp(),
        })
    }

    fn small_file(&self, kind: FileKind, bytes: &[u8]) -> Result<(), CleanError> {
        let path = staged(&self.dir, self.base, kind, CLEANED);
        let file = self.disk.open(&path, OpenMode::Create).at("open", &path)?;
        if !bytes.is_empty() {
            file.write_all_at(&[bytes], 0).at("write", &path)?;
        }
        file.sync_data().at("sync", &path)?;
        Ok(())
    }
}
