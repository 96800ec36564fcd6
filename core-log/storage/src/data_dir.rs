//! A data directory: its lock, identity, clean-shutdown marker, offset checkpoints, and the partitions in it.
//!
//! ```text
//! <data dir>/.lock                             held while a process uses the directory
//!            meta.properties                   cluster, node and directory id
//!            node.secret                       what only this node knows, see [`NodeSecret`]
//!            .kafka_cleanshutdown              only between a clean shutdown and the next start
//!            recovery-point-offset-checkpoint  log-start-offset-checkpoint  replication-offset-checkpoint
//!            cleaner-offset-checkpoint
//!            <topic>-<partition>/              one per partition, with partition.metadata
//!            <topic>-<partition>.<uuid>-delete deleted; removed when its time has come, or at the next start
//!            <topic>-<partition>.<uuid>-stray  set aside, of another topic of that name; left alone
//! ```
//! # Invariants
//! - The clean-shutdown marker is gone, durably, before `open` returns: it never outlives a write (invariant 23).
//! - A checkpoint that cannot be read is never guessed: recovery points fall back to 0, which costs a scan.

mod secret;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use highwater_types::{Offset, PartitionId, Timestamp, TopicId, TopicName, TopicPartition};
use uuid::Uuid;

use crate::checkpoint::{self, MAX_FILE_BYTES, MetaProperties, OffsetMap};
use crate::config::LogConfig;
use crate::disk::{DirLock, Disk, EntryKind, FileSystem, OpenMode, empty, read_file, replace_file};
use crate::error::{At, FormatProblem, StorageError};
use crate::files::{self, FileKind};
use crate::log::{CorruptionPolicy, FlushPlan, OpenOptions, PartitionLog, RecoveryReport};

pub use self::secret::NodeSecret;

/// Below that, files are synced one by one: a sync of the file system also waits for what other programs have written
/// to it, which may be much.
const SYNCS_WORTH_A_WHOLE_ONE: usize = 256;
const LOCK: &str = ".lock";
pub(crate) const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";
pub(crate) const META_PROPERTIES: &str = "meta.properties";
pub(crate) const PARTITION_METADATA: &str = "partition.metadata";
const DELETE_SUFFIX: &str = "-delete";
const STRAY_SUFFIX: &str = "-stray";

/// Which offsets a checkpoint file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetCheckpoint {
    /// Everything below was durable.
    RecoveryPoint,
    /// Everything below was deleted.
    LogStart,
    /// High watermarks.
    HighWatermark,
    /// Everything below was compacted.
    Cleaner,
}

impl OffsetCheckpoint {
    const fn file_name(self) -> &'static str {
        match self {
            Self::RecoveryPoint => "recovery-point-offset-checkpoint",
            Self::LogStart => "log-start-offset-checkpoint",
            Self::HighWatermark => "replication-offset-checkpoint",
            Self::Cleaner => "cleaner-offset-checkpoint",
        }
    }
}

/// How to open a data directory.
#[derive(Debug, Clone, Copy)]
pub struct DataDirOptions {
    /// What to do with damaged partitions.
    pub corruption: CorruptionPolicy,
}

/// A partition found in a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundPartition {
    /// From the directory's name.
    pub partition: TopicPartition,
    /// From `partition.metadata`; `None` if it is not there (or cannot be read, see `problem`).
    pub topic_id: Option<TopicId>,
    /// Why `partition.metadata` cannot be read.
    pub problem: Option<FormatProblem>,
}

/// An open data directory; others are kept out until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    options: DataDirOptions,
    was_clean: bool,
    checkpoints: Mutex<Checkpoints>,
    /// Watched from before the first write on.
    file_system: Option<Box<dyn FileSystem>>,
    _lock: Box<dyn DirLock>,
}

/// What the checkpoints said when the directory was opened, of partitions that were not deleted since.
#[derive(Debug, Default)]
struct Checkpoints {
    recovery_points: OffsetMap,
    log_starts: OffsetMap,
    high_watermarks: OffsetMap,
    cleaned: OffsetMap,
}

impl Checkpoints {
    fn of(&self, which: OffsetCheckpoint) -> &OffsetMap {
        match which {
            OffsetCheckpoint::RecoveryPoint => &self.recovery_points,
            OffsetCheckpoint::LogStart => &self.log_starts,
            OffsetCheckpoint::HighWatermark => &self.high_watermarks,
            OffsetCheckpoint::Cleaner => &self.cleaned,
        }
    }

    /// A partition of this name that comes later is another one.
    fn forget(&mut self, partition: &TopicPartition) {
        let Checkpoints {
            recovery_points,
            log_starts,
            high_watermarks,
            cleaned,
        } = self;
        for offsets in [recovery_points, log_starts, high_watermarks, cleaned] {
            offsets.remove(partition);
        }
    }
}

impl DataDir {
    /// Locks a directory (creating it if need be), reads its checkpoints, removes the clean-shutdown marker and
    /// the rests of interrupted deletions.
    ///
    /// # Errors
    /// [`StorageError::DirectoryInUse`], and what the disk refuses. Checkpoints that cannot be read are logged and
    /// count as empty, which costs a recovery of all partitions.
    pub fn open(disk: Arc<dyn Disk>, path: PathBuf, options: DataDirOptions) -> Result<Self, StorageError> {
        disk.create_dir_all(&path).at("create", &path)?;
        let lock_path = path.join(LOCK);
        let lock = match disk.lock(&lock_path) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return Err(StorageError::DirectoryInUse { path });
            }
            other => other.at("lock", &lock_path)?,
        };
        let file_system = disk.file_system(&path);
        let marker = path.join(CLEAN_SHUTDOWN);
        let mut was_clean = disk.info(&marker).at("inspect", &marker)?.is_some();
        if was_clean {
            disk.remove_file(&marker).at("remove", &marker)?;
            disk.sync_dir(&path).at("sync", &path)?;
        }
        let recovery_points = read_offsets(&*disk, &path, OffsetCheckpoint::RecoveryPoint)?;
        // Without recovery points nobody can say what the marker covered.
        was_clean &= recovery_points.is_some();
        let read = |which| Ok(read_offsets(&*disk, &path, which)?.unwrap_or_default());
        let checkpoints = Mutex::new(Checkpoints {
            recovery_points: recovery_points.unwrap_or_default(),
            log_starts: read(OffsetCheckpoint::LogStart)?,
            high_watermarks: read(OffsetCheckpoint::HighWatermark)?,
            cleaned: read(OffsetCheckpoint::Cleaner)?,
        });
        let dir = Self {
            checkpoints,
            disk,
            path,
            options,
            was_clean,
            file_system,
            _lock: lock,
        };
        dir.remove_interrupted_deletions()?;
        Ok(dir)
    }

    /// The door to the files.
    pub fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the last shutdown was clean.
    pub fn was_clean_shutdown(&self) -> bool {
        self.was_clean
    }

    fn checkpoints(&self) -> MutexGuard<'_, Checkpoints> {
        // Maps are whole after every statement that can panic.
        self.checkpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a checkpoint said of a partition when the directory was opened; `None` once it was deleted.
    pub fn checkpointed(&self, which: OffsetCheckpoint, partition: &TopicPartition) -> Option<Offset> {
        self.checkpoints().of(which).get(partition).copied()
    }

    /// Whether a checkpoint said anything when the directory was opened.
    pub fn has_checkpoint(&self, which: OffsetCheckpoint) -> bool {
        !self.checkpoints().of(which).is_empty()
    }

    /// High watermark of a partition as of the last checkpoint.
    pub fn high_watermark(&self, partition: &TopicPartition) -> Option<Offset> {
        self.checkpointed(OffsetCheckpoint::HighWatermark, partition)
    }

    /// Reads `meta.properties`; `None` for a new directory.
    ///
    /// # Errors
    /// A file that is not one.
    pub fn meta_properties(&self) -> Result<Option<MetaProperties>, StorageError> {
        let path = self.path.join(META_PROPERTIES);
        let Some(bytes) = read_file(&*self.disk, &path, MAX_FILE_BYTES).at("read", &path)? else {
            return Ok(None);
        };
        MetaProperties::decode(&bytes)
            .map(Some)
            .map_err(|problem| StorageError::Malformed {
                path,
                kind: "meta.properties",
                problem,
            })
    }

    /// Writes `meta.properties`.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn write_meta_properties(&self, meta: &MetaProperties) -> Result<(), StorageError> {
        let path = self.path.join(META_PROPERTIES);
        replace_file(&*self.disk, &path, &meta.encode()).at("write", &path)
    }

    /// The partitions in this directory; names that are no partition are left alone, and so are links, wherever they
    /// lead.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn partitions(&self) -> Result<Vec<FoundPartition>, StorageError> {
        let mut found = Vec::new();
        for entry in self.disk.list(&self.path).at("list", &self.path)? {
            let partition = parse_partition_dir(&entry.name);
            if entry.kind != EntryKind::Directory {
                if partition.is_some() || entry.kind == EntryKind::Other {
                    tracing::warn!(dir = %self.path.display(), name = entry.name, kind = ?entry.kind,
                        "not a partition's directory, left alone; links are not followed");
                }
                continue;
            }
            let Some(partition) = partition else { continue };
            let path = self.path.join(&entry.name).join(PARTITION_METADATA);
            let bytes = match read_file(&*self.disk, &path, MAX_FILE_BYTES) {
                Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Some(Vec::new()),
                other => other.at("read", &path)?,
            };
            let (topic_id, problem) = match bytes.map(|bytes| checkpoint::decode_partition_metadata(&bytes)) {
                Some(Ok(id)) => (Some(id), None),
                Some(Err(problem)) => (None, Some(problem)),
                None => (None, None),
            };
            found.push(FoundPartition {
                partition,
                topic_id,
                problem,
            });
        }
        found.sort_unstable_by(|a, b| a.partition.cmp(&b.partition));
        Ok(found)
    }

    /// Opens the log of a partition, creating it if it is not there. Writes `partition.metadata` where missing. What
    /// it creates is durable after the log's first flush, not before: an empty partition has nothing to lose.
    ///
    /// # Errors
    /// [`StorageError::TopicIdMismatch`] if the directory belongs to another topic (invariant 17),
    /// [`StorageError::NotADirectory`] if it is a link or a file, and what [`PartitionLog::open`] refuses.
    pub fn open_partition(
        &self,
        partition: &TopicPartition,
        topic_id: Option<TopicId>,
        config: Arc<LogConfig>,
        now: Timestamp,
    ) -> Result<(PartitionLog, RecoveryReport), StorageError> {
        let dir = self.partition_dir(partition);
        let found = self.disk.kind(&dir).at("inspect", &dir)?;
        let is_new = match found {
            None => true,
            Some(EntryKind::Directory) => self.was_never_opened(&dir)?,
            Some(found) => return Err(StorageError::NotADirectory { path: dir, found }),
        };
        if found.is_none() {
            self.disk.create_dir_all(&dir).at("create", &dir)?;
        }
        if let Some(topic_id) = topic_id {
            self.check_topic_id(&dir, topic_id)?;
        }
        if is_new {
            // What they say of its name is about an earlier partition.
            self.checkpoints().forget(partition);
        }
        let at = |which| self.checkpointed(which, partition).unwrap_or(Offset::ZERO);
        let cleaned = self.checkpointed(OffsetCheckpoint::Cleaner, partition);
        let (mut log, report) = PartitionLog::open(
            Arc::clone(&self.disk),
            dir,
            config,
            OpenOptions {
                clean_shutdown: self.was_clean,
                recovery_point: at(OffsetCheckpoint::RecoveryPoint),
                log_start: at(OffsetCheckpoint::LogStart),
                was_compacted: cleaned.is_some(),
                now,
                corruption: self.options.corruption,
            },
        )?;
        if let Some(cleaned) = cleaned {
            log.set_cleaned_upto(cleaned);
        }
        Ok((log, report))
    }

    /// Whether a directory was made and then, perhaps for want of room, not even given its `partition.metadata`. What
    /// checkpoints say of its name is about an earlier topic.
    fn was_never_opened(&self, dir: &Path) -> Result<bool, StorageError> {
        let entries = self.disk.list(dir).at("list", dir)?;
        if entries.iter().any(|entry| entry.name != PARTITION_METADATA) {
            return Ok(false);
        }
        let path = dir.join(PARTITION_METADATA);
        let bytes = read_file(&*self.disk, &path, MAX_FILE_BYTES).at("read", &path)?;
        Ok(bytes.is_none_or(|bytes| checkpoint::decode_partition_metadata(&bytes).is_err()))
    }

    fn check_topic_id(&self, dir: &Path, expected: TopicId) -> Result<(), StorageError> {
        let path = dir.join(PARTITION_METADATA);
        let bytes = match read_file(&*self.disk, &path, MAX_FILE_BYTES) {
            // Far too long, which is not what a power cut leaves.
            Err(error) if error.kind() == std::io::ErrorKind::InvalidData => Some(vec![0]),
            other => other.at("read", &path)?,
        };
        let found = bytes.map(|bytes| match checkpoint::decode_partition_metadata(&bytes) {
            Ok(id) => Ok(id),
            Err(problem) => Err((problem, bytes)),
        });
        match found {
            Some(Ok(found)) if found == expected => Ok(()),
            Some(Ok(found)) => Err(StorageError::TopicIdMismatch {
                path: dir.to_owned(),
                expected,
                found,
            }),
            // A power cut before the first flush leaves an empty file, or a part of it beside no records.
            Some(Err((problem, bytes))) if !bytes.is_empty() && self.has_records(dir)? => {
                Err(StorageError::Malformed {
                    path,
                    kind: PARTITION_METADATA,
                    problem,
                })
            }
            Some(Err(_)) => {
                tracing::warn!(path = %path.display(), topic_id = %expected,
                    "a power cut has left this file empty or torn, it is written again");
                self.write_topic_id(&path, expected).at("write", &path)
            }
            None => self.write_topic_id(&path, expected).at("write", &path),
        }
    }

    fn has_records(&self, dir: &Path) -> Result<bool, StorageError> {
        for entry in self.disk.list(dir).at("list", dir)? {
            if let Some((_, FileKind::Log)) = files::parse(&entry.name) {
                let path = dir.join(&entry.name);
                let info = self.disk.info(&path).at("inspect", &path)?;
                if info.is_some_and(|info| info.len_bytes > 0) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Not synced: the log's first flush does that.
    fn write_topic_id(&self, path: &Path, id: TopicId) -> std::io::Result<()> {
        let file = self.disk.open(path, OpenMode::Create)?;
        empty(&*file)?;
        file.write_all_at(&[&checkpoint::encode_partition_metadata(id)], 0)
    }

    /// Deletes a partition: renamed first, so that a crash never leaves half of it under its name. Drop its log
    /// before; `unique` names the grave.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn delete_partition(&self, partition: &TopicPartition, unique: Uuid) -> Result<(), StorageError> {
        match self.rename(partition, unique, DELETE_SUFFIX)? {
            Some(grave) => self.disk.remove_dir_all(&grave).at("remove", &grave),
            None => Ok(()),
        }
    }

    /// As [`delete_partition`](Self::delete_partition), but the files stay until the next start or until the caller
    /// removes the directory this gives.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn bury_partition(
        &self,
        partition: &TopicPartition,
        unique: Uuid,
    ) -> Result<Option<PathBuf>, StorageError> {
        self.rename(partition, unique, DELETE_SUFFIX)
    }

    /// Moves a partition's directory out of the way, for people to look at; says where it is now, if there was one.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn set_aside(
        &self,
        partition: &TopicPartition,
        unique: Uuid,
    ) -> Result<Option<PathBuf>, StorageError> {
        self.rename(partition, unique, STRAY_SUFFIX)
    }

    fn rename(
        &self,
        partition: &TopicPartition,
        unique: Uuid,
        suffix: &str,
    ) -> Result<Option<PathBuf>, StorageError> {
        let dir = self.partition_dir(partition);
        let simple = unique.simple();
        // Kafka's form. The name is shortened so that the longest topic still gives a legal file name.
        let name = dir_name(partition);
        let kept = &name[..name.len().min(255 - 1 - 32 - suffix.len())];
        let renamed = self.path.join(format!("{kept}.{simple}{suffix}"));
        match self.disk.rename(&dir, &renamed) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other.at("rename", &dir)?,
        }
        self.disk.sync_dir(&self.path).at("sync", &self.path)?;
        self.checkpoints().forget(partition);
        Ok(Some(renamed))
    }

    fn remove_interrupted_deletions(&self) -> Result<(), StorageError> {
        for entry in self.disk.list(&self.path).at("list", &self.path)? {
            let is_grave = entry.kind == EntryKind::Directory && is_grave(&entry.name);
            if is_grave {
                let path = self.path.join(&entry.name);
                self.disk.remove_dir_all(&path).at("remove", &path)?;
            }
        }
        Ok(())
    }

    /// Writes a checkpoint of all partitions, as one step and durable.
    ///
    /// Recovery points may only be written when they are true: after the flush that reported them, and lowered
    /// before a log is cut.
    ///
    /// # Errors
    /// What the disk refuses; the old file stays then.
    pub fn write_checkpoint(&self, which: OffsetCheckpoint, offsets: &OffsetMap) -> Result<(), StorageError> {
        let path = self.path.join(which.file_name());
        replace_file(&*self.disk, &path, &checkpoint::encode_offsets(offsets)).at("write", &path)
    }

    /// Makes durable what many plans are about with one sync of the file system; executing them then does nothing.
    /// Where they are few, where that cannot be done or where it fails, they stay as they are and sync file by file
    /// when executed, which tells whose file it was. Blocks.
    pub fn sync_together<'a>(&self, plans: impl IntoIterator<Item = &'a mut FlushPlan>) {
        self.sync_together_from(SYNCS_WORTH_A_WHOLE_ONE, plans);
    }

    fn sync_together_from<'a>(&self, least: usize, plans: impl IntoIterator<Item = &'a mut FlushPlan>) {
        let Some(file_system) = &self.file_system else {
            return;
        };
        let plans = plans.into_iter().filter(|plan| file_system.holds(plan.dir()));
        let plans: Vec<&mut FlushPlan> = plans.collect();
        if plans.iter().map(|plan| plan.sync_count()).sum::<usize>() < least {
            return;
        }
        match file_system.sync() {
            Ok(()) => plans.into_iter().for_each(FlushPlan::done),
            Err(error) => tracing::warn!(dir = %self.path.display(), %error,
                "cannot sync the file system as a whole, syncing file by file"),
        }
    }

    /// Ends a clean shutdown: call when every log has been closed and the checkpoints are written.
    ///
    /// # Errors
    /// What the disk refuses; the next start recovers then.
    pub fn mark_clean_shutdown(self, broker_epoch: Option<i64>) -> Result<(), StorageError> {
        let path = self.path.join(CLEAN_SHUTDOWN);
        replace_file(
            &*self.disk,
            &path,
            &checkpoint::encode_clean_shutdown(broker_epoch),
        )
        .at("write", &path)
    }

    /// Where a partition lies.
    pub fn partition_dir(&self, partition: &TopicPartition) -> PathBuf {
        self.path.join(dir_name(partition))
    }
}

/// Whether a file of this name holds one offset per partition.
pub(crate) fn is_offset_checkpoint(name: &str) -> bool {
    let all = [
        OffsetCheckpoint::RecoveryPoint,
        OffsetCheckpoint::LogStart,
        OffsetCheckpoint::HighWatermark,
    ];
    all.iter().any(|which| which.file_name() == name)
}

fn dir_name(partition: &TopicPartition) -> String {
    format!("{}-{}", partition.topic.as_str(), partition.partition)
}

fn parse_partition_dir(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    // One spelling per partition: "t-01" is not "t-1".
    let number: i32 = partition
        .parse()
        .ok()
        .filter(|number: &i32| number.to_string() == partition)?;
    let topic = TopicName::new(topic.to_owned()).ok()?;
    (number >= 0).then_some(TopicPartition {
        topic,
        partition: PartitionId::new(number),
    })
}

fn is_grave(name: &str) -> bool {
    name.strip_suffix(DELETE_SUFFIX)
        .and_then(|rest| rest.rsplit_once('.'))
        .is_some_and(|(_, id)| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn read_offsets(
    disk: &dyn Disk,
    dir: &Path,
    which: OffsetCheckpoint,
) -> Result<Option<OffsetMap>, StorageError> {
    let path = dir.join(which.file_name());
    let bytes = match read_file(disk, &path, MAX_FILE_BYTES) {
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            tracing::warn!(path = %path.display(), "checkpoint is too large to be one and is ignored");
            return Ok(None);
        }
        other => other.at("read", &path)?,
    };
    let Some(bytes) = bytes else { return Ok(None) };
    match checkpoint::decode_offsets(&bytes) {
        Ok(offsets) => Ok(Some(offsets)),
        Err(problem) => {
            tracing::warn!(path = %path.display(), %problem, "checkpoint cannot be read and is ignored");
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests;
