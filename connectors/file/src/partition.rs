//! The files of one topic-partition: append, roll, flush, and recovery from any crash in between.
//!
//! What a crash can leave, and what [`PartitionFiles::open`] makes of it (`next` and `bytes` as in the progress file):
//!
//! ```text
//! the open file is longer than `bytes`      cut back; the lines come again from offset `next`
//! another .open file, first offset < next   rolled, but not renamed yet: renamed now
//! another .open file, first offset >= next  begun after the last progress: removed, its lines come again
//! the open file is missing or too short     damage from outside (or power loss without fsync): refused, with advice
//! ```
//!
//! # Invariants
//! - The progress file never counts a byte that is not written (and, with `fsync`, not durable).
//! - Bytes that the progress file counts are never written again.
//! - After a failed write or sync this value refuses everything until it is opened again.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use highwater_connect_api::{Offset, TopicPartition};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::settings::FileSettings;

/// Lines are written in pieces of about this size.
const BUFFER_BYTES: usize = 1 << 20;

/// Why files cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileError {
    /// The system refused.
    #[error("cannot {action} {}", .path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Another task or process writes these files.
    #[error("{} is locked: another task or process writes these files", .path.display())]
    Locked {
        /// The lock file.
        path: PathBuf,
    },
    /// The progress file is damaged.
    #[error("{} cannot be read; restore it, or move the files of this partition away to begin anew", .path.display())]
    Progress {
        /// The progress file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The open file has lost lines.
    #[error(
        "{} has {found} bytes, but {recorded} were recorded; restore it, or move the files of this partition away to begin anew",
        .path.display()
    )]
    Shortened {
        /// The open file.
        path: PathBuf,
        /// What it has.
        found: u64,
        /// What it had.
        recorded: u64,
    },
    /// Offsets began again, so the topic is another one.
    #[error(
        "offset {offset} of {topic_partition} came after {next} was expected; was the topic deleted and created again? Move its files away"
    )]
    WentBack {
        /// The partition.
        topic_partition: TopicPartition,
        /// What came.
        offset: Offset,
        /// The lowest offset that could come.
        next: Offset,
    },
    /// A complete file of that name is there already.
    #[error("{} is there already, but was not written by this sink's progress; move it away", .path.display())]
    NameTaken {
        /// The file.
        path: PathBuf,
    },
    /// An earlier write failed.
    #[error("the files of {topic_partition} are closed after a failed write")]
    Fenced {
        /// The partition.
        topic_partition: TopicPartition,
    },
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> FileError + 'a {
    move |source| FileError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// The progress file's content, as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Progress {
    next_offset: i64,
    open: Option<OpenProgress>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct OpenProgress {
    first_offset: i64,
    bytes: u64,
    rows: u64,
    /// When its first line was written, in milliseconds since 1970.
    started_ms: u64,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    path: PathBuf,
    progress: OpenProgress,
    /// Whether its name may not be durable yet.
    is_new: bool,
}

/// See the module.
#[derive(Debug)]
pub struct PartitionFiles {
    topic_partition: TopicPartition,
    settings: FileSettings,
    open: Option<OpenFile>,
    buffer: Vec<u8>,
    /// Lowest offset that may come; `None` before the first ever.
    next: Option<Offset>,
    /// Whether the progress file is behind.
    is_dirty: bool,
    is_fenced: bool,
    _lock: File,
}

impl PartitionFiles {
    /// Takes the lock and repairs what a crash left.
    ///
    /// # Errors
    /// [`FileError`]; nothing was lost by trying.
    pub fn open(topic_partition: TopicPartition, settings: FileSettings) -> Result<Self, FileError> {
        let lock = lock(&path_of(&settings, &topic_partition, ".lock"))?;
        let progress = read_progress(&path_of(&settings, &topic_partition, ".progress"))?;
        let mut files = Self {
            open: None,
            buffer: Vec::new(),
            next: progress.as_ref().map(|p| Offset::new(p.next_offset)),
            is_dirty: false,
            is_fenced: false,
            _lock: lock,
            topic_partition,
            settings,
        };
        let open = progress.and_then(|progress| progress.open);
        files.tidy(open.as_ref().map(|open| open.first_offset))?;
        files.open = open.map(|open| files.reopen(open)).transpose()?;
        Ok(files)
    }

    /// The offset to go on at; `None` if nothing was ever written.
    pub fn next_offset(&self) -> Option<Offset> {
        self.next
    }

    /// Appends a line, without its line end, and rolls as the settings say.
    ///
    /// # Errors
    /// [`FileError`]; nothing more is taken then, until the files are opened again.
    pub fn append(&mut self, offset: Offset, line: &[u8], now_ms: u64) -> Result<(), FileError> {
        self.guarded(|files| {
            files.advance_to(offset)?;
            let line_bytes = line.len() as u64 + 1;
            if files.must_roll(line_bytes, now_ms) {
                files.roll()?;
            }
            if files.open.is_none() {
                files.open = Some(files.create(offset, now_ms)?);
            }
            files.buffer.extend_from_slice(line);
            files.buffer.push(b'\n');
            if let Some(open) = &mut files.open {
                open.progress.bytes += line_bytes;
                open.progress.rows += 1;
            }
            files.next = Some(offset.next());
            files.is_dirty = true;
            if files.buffer.len() >= BUFFER_BYTES {
                files.write_out()?;
            }
            Ok(())
        })
    }

    /// Passes an offset over that gets no line.
    ///
    /// # Errors
    /// As [`PartitionFiles::append`].
    pub fn skip(&mut self, offset: Offset) -> Result<(), FileError> {
        self.guarded(|files| {
            files.advance_to(offset)?;
            files.next = Some(offset.next());
            files.is_dirty = true;
            Ok(())
        })
    }

    /// Makes everything appended so far count, and rolls a file that is old enough.
    ///
    /// # Errors
    /// As [`PartitionFiles::append`].
    pub fn flush(&mut self, now_ms: u64) -> Result<(), FileError> {
        self.guarded(|files| {
            if files.must_roll(0, now_ms) {
                return files.roll();
            }
            if files.is_dirty {
                files.write_out()?;
                files.sync_open()?;
                files.record()?;
            }
            Ok(())
        })
    }

    fn guarded(&mut self, work: impl FnOnce(&mut Self) -> Result<(), FileError>) -> Result<(), FileError> {
        if self.is_fenced {
            let topic_partition = self.topic_partition.clone();
            return Err(FileError::Fenced { topic_partition });
        }
        let outcome = work(self);
        self.is_fenced = outcome.is_err();
        outcome
    }

    fn advance_to(&self, offset: Offset) -> Result<(), FileError> {
        match self.next {
            Some(next) if offset < next => Err(FileError::WentBack {
                topic_partition: self.topic_partition.clone(),
                offset,
                next,
            }),
            _ => Ok(()),
        }
    }

    fn must_roll(&self, more_bytes: u64, now_ms: u64) -> bool {
        let Some(OpenFile { progress, .. }) = &self.open else {
            return false;
        };
        let age = Duration::from_millis(now_ms.saturating_sub(progress.started_ms));
        progress.bytes + more_bytes > self.settings.roll_bytes
            || self.settings.roll_rows.is_some_and(|rows| progress.rows >= rows)
            || age >= self.settings.roll_interval
    }

    fn path(&self, suffix: &str) -> PathBuf {
        path_of(&self.settings, &self.topic_partition, suffix)
    }

    fn rolled_path(&self, first_offset: i64) -> PathBuf {
        self.path(&format!("-{first_offset:020}.jsonl"))
    }

    fn open_path(&self, first_offset: i64) -> PathBuf {
        self.path(&format!("-{first_offset:020}.jsonl.open"))
    }

    fn create(&self, offset: Offset, now_ms: u64) -> Result<OpenFile, FileError> {
        let rolled = self.rolled_path(offset.get());
        if rolled.try_exists().map_err(io_error("look for", &rolled))? {
            return Err(FileError::NameTaken { path: rolled });
        }
        let path = self.open_path(offset.get());
        let file = File::create_new(&path).map_err(io_error("create", &path))?;
        Ok(OpenFile {
            file,
            path,
            progress: OpenProgress {
                first_offset: offset.get(),
                bytes: 0,
                rows: 0,
                started_ms: now_ms,
            },
            is_new: true,
        })
    }

    fn reopen(&self, progress: OpenProgress) -> Result<OpenFile, FileError> {
        let path = self.open_path(progress.first_offset);
        let opened = OpenOptions::new().read(true).write(true).open(&path);
        let mut file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let recorded = progress.bytes;
                return Err(FileError::Shortened {
                    path,
                    found: 0,
                    recorded,
                });
            }
            opened => opened.map_err(io_error("open", &path))?,
        };
        let found = file.metadata().map_err(io_error("measure", &path))?.len();
        if found < progress.bytes {
            let recorded = progress.bytes;
            return Err(FileError::Shortened {
                path,
                found,
                recorded,
            });
        }
        file.set_len(progress.bytes).map_err(io_error("cut", &path))?;
        file.seek(SeekFrom::End(0)).map_err(io_error("seek in", &path))?;
        Ok(OpenFile {
            file,
            path,
            progress,
            is_new: false,
        })
    }

    /// Finishes or removes open files other than the recorded one.
    fn tidy(&self, recorded: Option<i64>) -> Result<(), FileError> {
        let directory = &self.settings.directory;
        let prefix = format!("{}-", self.topic_partition);
        let entries = fs::read_dir(directory).map_err(io_error("list", directory))?;
        for entry in entries {
            let path = entry.map_err(io_error("list", directory))?.path();
            let Some(first_offset) = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(|name| name.strip_prefix(&prefix))
                .and_then(|rest| rest.strip_suffix(".jsonl.open"))
                .filter(|digits| digits.len() == 20)
                .and_then(|digits| digits.parse::<i64>().ok())
            else {
                continue;
            };
            if Some(first_offset) == recorded {
                continue;
            }
            if self.next.is_some_and(|next| first_offset < next.get()) {
                let rolled = self.rolled_path(first_offset);
                fs::rename(&path, &rolled).map_err(io_error("rename", &path))?;
            } else {
                fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
        }
        self.sync_directory()
    }

    fn write_out(&mut self) -> Result<(), FileError> {
        if let Some(open) = &mut self.open {
            open.file
                .write_all(&self.buffer)
                .map_err(io_error("write", &open.path))?;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Makes the open file's bytes and name durable.
    fn sync_open(&mut self) -> Result<(), FileError> {
        if !self.settings.fsync {
            return Ok(());
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        open.file.sync_data().map_err(io_error("sync", &open.path))?;
        if std::mem::take(&mut open.is_new) {
            self.sync_directory()?;
        }
        Ok(())
    }

    /// Replaces the progress file.
    fn record(&mut self) -> Result<(), FileError> {
        let Some(next) = self.next else { return Ok(()) };
        let progress = Progress {
            next_offset: next.get(),
            open: self.open.as_ref().map(|open| open.progress.clone()),
        };
        let path = self.path(".progress");
        let new = self.path(".progress.new");
        let text = serde_json::to_vec(&progress).map_err(|source| FileError::Progress {
            path: path.clone(),
            source,
        })?;
        let mut file = File::create(&new).map_err(io_error("create", &new))?;
        file.write_all(&text).map_err(io_error("write", &new))?;
        if self.settings.fsync {
            file.sync_data().map_err(io_error("sync", &new))?;
        }
        drop(file);
        fs::rename(&new, &path).map_err(io_error("replace", &path))?;
        self.is_dirty = false;
        self.sync_directory()
    }

    /// Completes the open file. Progress first: a complete file that still has its open name is recognised.
    fn roll(&mut self) -> Result<(), FileError> {
        self.write_out()?;
        self.sync_open()?;
        let Some(open) = self.open.take() else {
            return Ok(());
        };
        self.record()?;
        let rolled = self.rolled_path(open.progress.first_offset);
        fs::rename(&open.path, &rolled).map_err(io_error("rename", &open.path))?;
        tracing::info!(
            topic = %self.topic_partition.topic, partition = %self.topic_partition.partition,
            file = %rolled.display(), rows = open.progress.rows, size_bytes = open.progress.bytes, "file complete"
        );
        self.sync_directory()
    }

    fn sync_directory(&self) -> Result<(), FileError> {
        if !self.settings.fsync || !cfg!(unix) {
            return Ok(()); // Elsewhere a directory cannot be opened as a file.
        }
        let directory = &self.settings.directory;
        let handle = File::open(directory).map_err(io_error("open", directory))?;
        handle.sync_all().map_err(io_error("sync", directory))
    }
}

fn path_of(settings: &FileSettings, topic_partition: &TopicPartition, suffix: &str) -> PathBuf {
    settings.directory.join(format!("{topic_partition}{suffix}"))
}

fn lock(path: &Path) -> Result<File, FileError> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    let file = options.open(path).map_err(io_error("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(FileError::Locked {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(io_error("lock", path)(source)),
    }
}

fn read_progress(path: &Path) -> Result<Option<Progress>, FileError> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|source| FileError::Progress {
                path: path.to_owned(),
                source,
            }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", path)(error)),
    }
}

#[cfg(test)]
mod tests;
