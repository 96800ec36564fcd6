//! Reading the files of a data directory for people: every kind of file becomes rows of named values.
//!
//! [`files`] lists what there is to read, [`inspect`] reads one file and hands out its rows one by one, so that a
//! segment of a gigabyte costs one batch of memory. Nothing is written, locked or repaired; a node may be running.
//!
//! Refuses: to guess. What does not fit its format becomes a row of kind `problem` that says where and why, and
//! reading goes on where that is safe.
//!
//! # Invariants
//! - No bytes on disk make this panic or reserve memory by a number they contain.
//! - A file without a `problem` row is one that a node reads without complaint.

mod index;
mod segment;
mod small;

use std::path::{Path, PathBuf};

use bytes::Bytes;
use highwater_types::Offset;

use crate::checkpoint::MAX_FILE_BYTES;
use crate::data_dir;
use crate::disk::{Disk, DiskFile, EntryKind, OpenMode, read_up_to};
use crate::error::{At, StorageError};
use crate::files::{self, FileKind};
use crate::leader_epochs;

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// A number.
    Number(i64),
    /// Words.
    Text(String),
    /// Yes or no.
    Flag(bool),
    /// Bytes of a client.
    Bytes(Bytes),
    /// Not there.
    Nothing,
}

/// One thing found in a file: `batch`, `record`, `entry`, ..., or `problem`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What it is.
    pub kind: &'static str,
    /// Its values by name, in the order in which people read them.
    pub fields: Vec<(&'static str, Field)>,
}

/// Kind of the rows that report damage.
pub const PROBLEM: &str = "problem";

impl Row {
    fn new(kind: &'static str) -> Self {
        Self {
            kind,
            fields: Vec::new(),
        }
    }

    fn problem(message: impl Into<String>) -> Self {
        Self::new(PROBLEM).text("message", message)
    }

    fn number(mut self, name: &'static str, value: impl Into<i64>) -> Self {
        self.fields.push((name, Field::Number(value.into())));
        self
    }

    fn count(self, name: &'static str, value: usize) -> Self {
        self.number(name, i64::try_from(value).unwrap_or(i64::MAX))
    }

    fn maybe(mut self, name: &'static str, value: Option<impl Into<i64>>) -> Self {
        let field = value.map_or(Field::Nothing, |value| Field::Number(value.into()));
        self.fields.push((name, field));
        self
    }

    fn text(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.fields.push((name, Field::Text(value.into())));
        self
    }

    fn flag(mut self, name: &'static str, value: bool) -> Self {
        self.fields.push((name, Field::Flag(value)));
        self
    }

    fn bytes(mut self, name: &'static str, value: Option<Bytes>) -> Self {
        let field = value.map_or(Field::Nothing, Field::Bytes);
        self.fields.push((name, field));
        self
    }

    /// Whether the row reports damage.
    pub fn is_problem(&self) -> bool {
        self.kind == PROBLEM
    }

    /// The value of this name.
    pub fn get(&self, name: &str) -> Option<&Field> {
        self.fields
            .iter()
            .find(|(key, _)| *key == name)
            .map(|(_, field)| field)
    }
}

/// What is looked at.
#[derive(Debug, Clone, Copy)]
pub struct InspectOptions {
    /// Rows for the records of each batch, which are decompressed for that.
    pub records: bool,
    /// Decode every record even if no rows are wanted for them.
    pub deep: bool,
    /// Compare indexes with the segments they lie beside.
    pub verify_index: bool,
}

/// Kinds of files we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileType {
    /// `.log`
    Segment,
    /// `.index`
    OffsetIndex,
    /// `.timeindex`
    TimeIndex,
    /// `.txnindex`
    TransactionIndex,
    /// `.snapshot` beside a segment
    ProducerSnapshot,
    /// `.batches` beside a producer snapshot
    ProducerBatches,
    /// `leader-epoch-checkpoint`
    LeaderEpochs,
    /// The three offset checkpoints of a data directory.
    OffsetCheckpoint,
    /// `partition.metadata`
    PartitionMetadata,
    /// `meta.properties`
    MetaProperties,
    /// `.kafka_cleanshutdown`
    CleanShutdown,
}

impl FileType {
    /// The kind of a file by its name.
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        if let Some((_, kind)) = files::parse(name) {
            return Some(match kind {
                FileKind::Log => Self::Segment,
                FileKind::OffsetIndex => Self::OffsetIndex,
                FileKind::TimeIndex => Self::TimeIndex,
                FileKind::TxnIndex => Self::TransactionIndex,
                FileKind::ProducerSnapshot => Self::ProducerSnapshot,
                FileKind::ProducerBatches => Self::ProducerBatches,
            });
        }
        match name {
            leader_epochs::FILE_NAME => Some(Self::LeaderEpochs),
            data_dir::PARTITION_METADATA => Some(Self::PartitionMetadata),
            data_dir::META_PROPERTIES => Some(Self::MetaProperties),
            data_dir::CLEAN_SHUTDOWN => Some(Self::CleanShutdown),
            _ if data_dir::is_offset_checkpoint(name) => Some(Self::OffsetCheckpoint),
            _ => None,
        }
    }

    /// The word for it.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Segment => "segment",
            Self::OffsetIndex => "offset index",
            Self::TimeIndex => "time index",
            Self::TransactionIndex => "transaction index",
            Self::ProducerSnapshot => "producer snapshot",
            Self::ProducerBatches => "producers' batches",
            Self::LeaderEpochs => "leader epochs",
            Self::OffsetCheckpoint => "offset checkpoint",
            Self::PartitionMetadata => "partition metadata",
            Self::MetaProperties => "meta properties",
            Self::CleanShutdown => "clean shutdown marker",
        }
    }
}

/// The files we know under a path, in the order of their names: itself, or what lies in a partition's or a data
/// directory.
///
/// # Errors
/// [`StorageError::Io`] when a directory cannot be listed.
pub fn files(disk: &dyn Disk, path: &Path) -> Result<Vec<PathBuf>, StorageError> {
    let mut found = Vec::new();
    collect(disk, path, 2, &mut found)?;
    found.sort();
    Ok(found)
}

fn collect(disk: &dyn Disk, path: &Path, depth: u8, found: &mut Vec<PathBuf>) -> Result<(), StorageError> {
    if disk.info(path).at("inspect", path)?.is_some() {
        found.push(path.to_owned());
        return Ok(());
    }
    for entry in disk.list(path).at("list", path)? {
        let inner = path.join(&entry.name);
        match entry.kind {
            EntryKind::File if FileType::of(&inner).is_some() => found.push(inner),
            EntryKind::Directory if depth > 1 => collect(disk, &inner, depth - 1, found)?,
            EntryKind::File | EntryKind::Directory | EntryKind::Other => {}
        }
    }
    Ok(())
}

/// Reads a file and gives its rows to `take`.
///
/// # Errors
/// [`StorageError::Io`] when the disk refuses. Damage is no error but a row.
pub fn inspect(
    disk: &dyn Disk,
    path: &Path,
    options: InspectOptions,
    take: &mut dyn FnMut(Row),
) -> Result<(), StorageError> {
    let Some(kind) = FileType::of(path) else {
        take(Row::problem(
            "not a file of a log or a data directory, by its name",
        ));
        return Ok(());
    };
    let file = disk.open(path, OpenMode::Read).at("open", path)?;
    let base = base_offset(path);
    match kind {
        FileType::Segment => segment::inspect(&*file, base, options, take).at("read", path),
        FileType::OffsetIndex | FileType::TimeIndex => {
            let bytes = whole(&*file, take).at("read", path)?;
            let log = match options.verify_index {
                true => log_beside(disk, path)?,
                false => None,
            };
            index::inspect(kind, &bytes, base, log.as_deref(), take).at("read", path)
        }
        _ => {
            let bytes = whole(&*file, take).at("read", path)?;
            small::inspect(kind, &bytes, base, take);
            Ok(())
        }
    }
}

fn base_offset(path: &Path) -> Offset {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    files::parse(name).map_or(Offset::ZERO, |(base, _)| base)
}

/// The segment that an index is for.
fn log_beside(disk: &dyn Disk, path: &Path) -> Result<Option<std::sync::Arc<dyn DiskFile>>, StorageError> {
    let log = path.with_extension("log");
    match disk.info(&log).at("inspect", &log)? {
        Some(_) => disk.open(&log, OpenMode::Read).at("open", &log).map(Some),
        None => Ok(None),
    }
}

/// All bytes of a file that is small by nature.
fn whole(file: &dyn DiskFile, take: &mut dyn FnMut(Row)) -> std::io::Result<Vec<u8>> {
    let length = file.len_bytes()?;
    if length > MAX_FILE_BYTES {
        take(Row::problem(format!(
            "{length} bytes, of which the first {MAX_FILE_BYTES} are read: no real file is as large"
        )));
    }
    let mut bytes = vec![0; usize::try_from(length.min(MAX_FILE_BYTES)).unwrap_or(0)];
    let read = read_up_to(file, &mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

#[cfg(test)]
mod tests;
