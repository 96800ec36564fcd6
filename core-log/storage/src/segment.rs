//! One segment: a `.log` file, its indexes, and lookups in them.
//!
//! A sealed segment holds no file open and no index in memory; a reader opens what it needs, and readers of the
//! same moment share the handles. The active one keeps its sparse index in memory.
//!
//! Invariant: the bytes a reader is promised by a [`SegmentFile`] stay what they are. A log that is cut goes on with
//! another `SegmentFile` over the same name, and the old one refuses from then on ([`SegmentFile::cut`]).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, Weak};

use highwater_types::{Offset, Timestamp};

use crate::disk::{Disk, DiskFile, OpenMode};
use crate::error::{At, StorageError};
use crate::files::{self, FileKind};
use crate::index::{self, MaxTimestamp, Place, SparseIndex};
use crate::scan::{Depth, Expect, Scanner, Step};

/// The `.log` file of a segment, opened when needed.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    disk: Arc<dyn Disk>,
    dir: Arc<Path>,
    base_offset: Offset,
    open: Mutex<Option<Weak<dyn DiskFile>>>,
    /// Set when another file is about to take the name: planned reads go on in this one.
    pinned: OnceLock<Arc<dyn DiskFile>>,
    /// Whether bytes were taken back that a reader may have been promised.
    is_cut: RwLock<bool>,
    /// Only of segments that are read.
    readers: OnceLock<Box<Readers>>,
}

/// What readers of a segment leave to later ones.
#[derive(Debug, Default)]
struct Readers {
    /// The offset index of a sealed segment.
    index: Mutex<Option<Weak<dyn DiskFile>>>,
    /// Where they will probably go on, oldest first.
    next: Mutex<Vec<NextRead>>,
}

/// A reader that got everything below an offset finds the rest here.
#[derive(Debug, Clone, Copy)]
struct NextRead {
    from: Offset,
    place: Place,
}

/// Readers of one segment whose places are remembered.
const REMEMBERED_READS: usize = 8;

impl SegmentFile {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: Arc<Path>, base_offset: Offset) -> Self {
        Self {
            disk,
            dir,
            base_offset,
            open: Mutex::new(None),
            pinned: OnceLock::new(),
            is_cut: RwLock::new(false),
            readers: OnceLock::new(),
        }
    }

    /// From here on nothing is read through this any more. Returns when nobody is in the middle of it.
    pub(crate) fn cut(&self) {
        *self.is_cut.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Keeps the bytes from being taken back while it is held; `None` if they have been.
    pub(crate) fn uncut(&self) -> Option<RwLockReadGuard<'_, bool>> {
        let is_cut = self.is_cut.read().unwrap_or_else(PoisonError::into_inner);
        (!*is_cut).then_some(is_cut)
    }

    /// Remembers where a reader that comes back for `from` goes on.
    pub(crate) fn note_next(&self, from: Offset, place: Place) {
        let readers = self.readers.get_or_init(Box::default);
        let mut next_reads = readers.next.lock().unwrap_or_else(PoisonError::into_inner);
        if next_reads.iter().any(|next| next.from == from) {
            return;
        }
        if next_reads.len() >= REMEMBERED_READS {
            next_reads.remove(0);
        }
        next_reads.push(NextRead { from, place });
    }

    /// Where an earlier reader stopped before `from`.
    pub(crate) fn next_place(&self, from: Offset) -> Option<Place> {
        let readers = self.readers.get()?;
        let next_reads = readers.next.lock().unwrap_or_else(PoisonError::into_inner);
        let found = next_reads.iter().find(|next| next.from == from);
        found.map(|next| next.place)
    }

    /// The offset index of a sealed segment; stays open as long as someone holds what this gives.
    pub(crate) fn index_handle(&self) -> Result<Arc<dyn DiskFile>, StorageError> {
        let path = self.index_path();
        let readers = self.readers.get_or_init(Box::default);
        shared(&*self.disk, &readers.index, &path, OpenMode::Read)
    }

    /// Where the offset index lies.
    pub(crate) fn index_path(&self) -> PathBuf {
        files::path(&self.dir, self.base_offset, FileKind::OffsetIndex)
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> PathBuf {
        files::path(&self.dir, self.base_offset, FileKind::Log)
    }

    /// Whether nobody holds the file open.
    #[cfg(test)]
    pub(crate) fn is_closed(&self) -> bool {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.as_ref().and_then(Weak::upgrade).is_none()
    }

    /// Keeps this very file open for as long as somebody knows this segment, whatever happens to its name.
    pub(crate) fn pin(&self) -> Result<Arc<dyn DiskFile>, StorageError> {
        let file = self.handle(OpenMode::Read)?;
        Ok(Arc::clone(self.pinned.get_or_init(|| file)))
    }

    /// The file; stays open as long as someone holds what this gives.
    pub(crate) fn handle(&self, mode: OpenMode) -> Result<Arc<dyn DiskFile>, StorageError> {
        if let Some(file) = self.pinned.get() {
            return Ok(Arc::clone(file));
        }
        shared(&*self.disk, &self.open, &self.path(), mode)
    }
}

/// The file that somebody holds open already, or a new one.
fn shared(
    disk: &dyn Disk,
    slot: &Mutex<Option<Weak<dyn DiskFile>>>,
    path: &Path,
    mode: OpenMode,
) -> Result<Arc<dyn DiskFile>, StorageError> {
    // A poisoned lock only means that another reader panicked; the slot is still a handle or none.
    let mut open = slot.lock().unwrap_or_else(PoisonError::into_inner);
    if mode == OpenMode::Read
        && let Some(file) = open.as_ref().and_then(Weak::upgrade)
    {
        return Ok(file);
    }
    let file = disk.open(path, mode).at("open", path)?;
    *open = Some(Arc::downgrade(&file));
    Ok(file)
}

/// A segment that is no longer written.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) base_offset: Offset,
    pub(crate) size_bytes: u64,
    pub(crate) file: Arc<SegmentFile>,
    /// Read from the time index when first needed.
    max_timestamp: Mutex<Option<Option<MaxTimestamp>>>,
    pub(crate) modified_ms: i64,
}

impl Sealed {
    pub(crate) fn new(file: Arc<SegmentFile>, size_bytes: u64, modified_ms: i64) -> Self {
        Self {
            base_offset: file.base_offset,
            size_bytes,
            file,
            max_timestamp: Mutex::new(None),
            modified_ms,
        }
    }

    /// As [`Self::new`], with the largest timestamp at hand.
    pub(crate) fn with_max_timestamp(mut self, max: Option<MaxTimestamp>) -> Self {
        self.max_timestamp = Mutex::new(Some(max));
        self
    }

    fn index(&self, kind: FileKind) -> Result<(PathBuf, Arc<dyn DiskFile>), StorageError> {
        let path = files::path(&self.file.dir, self.base_offset, kind);
        let file = self.file.disk.open(&path, OpenMode::Read).at("open", &path)?;
        Ok((path, file))
    }

    /// Largest timestamp, `None` when no record has one.
    pub(crate) fn max_timestamp(&self) -> Result<Option<MaxTimestamp>, StorageError> {
        let mut known = self.max_timestamp.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(max) = *known {
            return Ok(max);
        }
        let max = match self.indexed_max_timestamp()? {
            Indexed::Right(max) => Some(max),
            Indexed::Wrong => self.scanned_max_timestamp()?,
        };
        *known = Some(max);
        Ok(max)
    }

    /// Last entry of the time index, if the batch it names bears it out: retention deletes by it.
    fn indexed_max_timestamp(&self) -> Result<Indexed, StorageError> {
        let (path, file) = self.index(FileKind::TimeIndex)?;
        let Some(entry) = index::last_time_entry(&*file).at("read", &path)? else {
            return Ok(Indexed::Wrong);
        };
        let offset = self.base_offset.advance_by(i64::from(entry.relative_offset));
        let position = self.position_for_offset(offset)?;
        let handle = self.file.handle(OpenMode::Read)?;
        let mut scanner = self.headers(&*handle, position);
        while let Step::Batch(header, _) = scanner.step().at("read", &self.file.path())? {
            if header.last_offset() >= offset {
                let right = header.last_offset() == offset && header.max_timestamp == entry.timestamp;
                return Ok(match right {
                    true => Indexed::Right(MaxTimestamp {
                        timestamp: entry.timestamp,
                        offset,
                    }),
                    false => Indexed::Wrong,
                });
            }
        }
        Ok(Indexed::Wrong)
    }

    fn scanned_max_timestamp(&self) -> Result<Option<MaxTimestamp>, StorageError> {
        let handle = self.file.handle(OpenMode::Read)?;
        let mut scanner = self.headers(&*handle, 0);
        let mut max: Option<MaxTimestamp> = None;
        while let Step::Batch(header, _) = scanner.step().at("read", &self.file.path())? {
            let timestamp = header.max_timestamp;
            let has_records = header.record_count > 0;
            if has_records && timestamp.get() >= 0 && max.is_none_or(|max| timestamp > max.timestamp) {
                max = Some(MaxTimestamp {
                    timestamp,
                    offset: header.last_offset(),
                });
            }
        }
        Ok(max)
    }

    fn headers<'a>(&self, file: &'a dyn DiskFile, position: u64) -> Scanner<'a> {
        Scanner::new(
            file,
            position..self.size_bytes,
            Depth::Headers,
            Expect::segment(self.base_offset),
        )
    }

    pub(crate) fn position_for_offset(&self, target: Offset) -> Result<u64, StorageError> {
        // The first batch needs no index.
        if target == self.base_offset {
            return Ok(0);
        }
        let (path, file) = (self.file.index_path(), self.file.index_handle()?);
        index::search_offset_file(&*file, self.base_offset, target).at("read", &path)
    }

    pub(crate) fn offset_for_time(&self, target: Timestamp) -> Result<Offset, StorageError> {
        let (path, file) = self.index(FileKind::TimeIndex)?;
        index::search_time_file(&*file, self.base_offset, target).at("read", &path)
    }
}

/// What a time index says of the largest timestamp.
enum Indexed {
    Right(MaxTimestamp),
    /// Nothing, or something the log does not bear out.
    Wrong,
}

/// The segment being written.
#[derive(Debug)]
pub(crate) struct Active {
    pub(crate) base_offset: Offset,
    pub(crate) size_bytes: u64,
    pub(crate) file: Arc<SegmentFile>,
    /// Open for writing, from the first append on.
    pub(crate) handle: Option<Arc<dyn DiskFile>>,
    pub(crate) index: SparseIndex,
    /// Largest timestamp of the first batch: the segment's age counts from here.
    pub(crate) first_timestamp: Option<Timestamp>,
    /// When the first batch was appended or found, for batches without timestamp.
    pub(crate) first_append: Option<Timestamp>,
    /// First offset and position of the last batch: what a reader at the tail wants.
    pub(crate) last_batch: Option<(Offset, u64)>,
}

impl Active {
    /// An empty segment; its file is not created yet.
    pub(crate) fn new(file: Arc<SegmentFile>) -> Self {
        Self {
            base_offset: file.base_offset,
            size_bytes: 0,
            file,
            handle: None,
            index: SparseIndex::default(),
            first_timestamp: None,
            first_append: None,
            last_batch: None,
        }
    }

    /// The file for writing.
    pub(crate) fn writer(&mut self) -> Result<Arc<dyn DiskFile>, StorageError> {
        if let Some(handle) = &self.handle {
            return Ok(Arc::clone(handle));
        }
        let handle = self.file.handle(OpenMode::Create)?;
        self.handle = Some(Arc::clone(&handle));
        Ok(handle)
    }

    pub(crate) fn position_for_offset(&self, target: Offset) -> u64 {
        match self.last_batch {
            Some((base, position)) if base <= target => position,
            _ => self.index.position_for_offset(self.base_offset, target),
        }
    }

    /// Writes the index entries that are only in memory. `sync` when the segment is about to be trusted.
    pub(crate) fn write_index(&mut self) -> Result<(), StorageError> {
        let (offsets, times) = self.index.pending();
        for (kind, pending) in [(FileKind::OffsetIndex, offsets), (FileKind::TimeIndex, times)] {
            let path = files::path(&self.file.dir, self.base_offset, kind);
            write_at(&*self.file.disk, &path, pending.position, &pending.bytes).at("write", &path)?;
        }
        self.index.mark_written();
        Ok(())
    }
}

/// Writes the tail of a small file, which ends with it.
fn write_at(disk: &dyn Disk, path: &Path, position: u64, bytes: &[u8]) -> io::Result<()> {
    let file = disk.open(path, OpenMode::Create)?;
    // Entries beyond belong to an earlier life of the segment.
    if file.len_bytes()? != position {
        file.set_len(position)?;
    }
    if !bytes.is_empty() {
        file.write_all_at(&[bytes], position)?;
    }
    Ok(())
}
