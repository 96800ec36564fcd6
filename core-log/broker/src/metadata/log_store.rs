//! Raft's log and vote on disk.
//!
//! Appends go to the end of one file; truncation and purging, which are rare, write the file anew. Entries that are not
//! purged stay in memory as well: Raft reads each of them right after appending it.
//!
//! # Invariants
//! - Writes happen one after another, votes among them: each is durable before its call returns, so no later write can
//!   overtake it, and callbacks fire in order.
//! - Indexes have no holes, not even across a restart.
//! - After a failed write the store refuses every further one (METAQ-3). One that only lacked room is no failure: it
//!   left nothing that counts, and is done over.

use std::{
    collections::VecDeque,
    fmt::Debug,
    io,
    ops::{Bound, RangeBounds},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use highwater_storage::{DiskFile, OpenMode};
use openraft::{LogState, OptionalSend, RaftLogReader, storage::LogFlushed, storage::RaftLogStorage};
use serde::{Deserialize, Serialize};

use super::{
    MetadataError,
    files::{MetadataDir, io_error},
    raft_types::{Entry, LogId, StorageError, StorageIOError, TypeConfig, Vote},
    room::Work,
};

/// Room that is kept behind the end of the log, some thousand changes: on a disk that others have filled to the last
/// byte, topics can still be deleted and their retention shortened.
const RESERVE_BYTES: u64 = 256 * 1024;

const LOG: &str = "log";
const VOTE: &str = "vote";

/// The first frame of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    /// The last entry that is gone because a snapshot covers it.
    purged: Option<LogId>,
}

/// The store; clones share it.
#[derive(Debug, Clone)]
pub(super) struct LogStore {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    dir: MetadataDir,
    file: Arc<dyn DiskFile>,
    end_bytes: u64,
    /// How far the file has room.
    reserved_bytes: u64,
    purged: Option<LogId>,
    entries: VecDeque<Entry>,
    vote: Option<Vote>,
    fenced: bool,
}

impl LogStore {
    /// Opens the log, dropping the end of an append that a crash interrupted. Blocking.
    pub(super) fn open(dir: MetadataDir) -> Result<Self, MetadataError> {
        let vote = dir.read_value(VOTE)?;
        let bytes = match dir.read(LOG)? {
            Some(bytes) => bytes,
            // The log is made before the first vote.
            None if vote.is_some() => {
                return Err(dir.damaged(LOG, 0, "the file is not there, though there is a vote"));
            }
            None => {
                dir.replace_value(LOG, &Head { purged: None })?;
                dir.read(LOG)?.unwrap_or_default()
            }
        };
        let mut frames = dir.frames(LOG, &bytes)?.into_iter();
        let head = frames
            .next()
            .ok_or_else(|| dir.damaged(LOG, 0, "the head is missing"))?;
        let mut end = head.end;
        let Head { purged } = dir.decode(LOG, &bytes, head)?;
        let mut entries = VecDeque::new();
        for frame in frames {
            end = frame.end;
            entries.extend(dir.decode::<Vec<Entry>>(LOG, &bytes, frame)?);
        }
        let path = dir.file(LOG);
        let file = dir
            .disk()
            .open(&path, OpenMode::CreatePrivate)
            .map_err(io_error("opening", &path))?;
        if end < bytes.len() {
            let dropped_bytes = bytes.len() - end;
            tracing::info!(dropped_bytes, "dropping the interrupted end of the metadata log");
            let cut = file.set_len(end as u64).and_then(|()| file.sync_data());
            cut.map_err(io_error("cutting", &path))?;
        }
        let mut state = State {
            dir,
            file,
            end_bytes: end as u64,
            reserved_bytes: 0,
            purged,
            entries,
            vote,
            fenced: false,
        };
        state.check_order(state.purged, state.entries.iter())?;
        state.reserve();
        Ok(Self {
            state: Arc::new(Mutex::new(state)),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Runs a write where it may block, until the disk has room for it. A write that fails otherwise is the last one.
    async fn write(
        &self,
        mut work: impl FnMut(&mut State) -> Result<(), MetadataError> + Send + 'static,
    ) -> io::Result<()> {
        let state = Arc::clone(&self.state);
        let task = tokio::task::spawn_blocking(move || {
            let room = lock(&state).dir.room().clone();
            // The lock is not held in between: readers of the log do not wait for room.
            room.patiently(Work::Log, || lock(&state).fenced_unless_done(&mut work))
                .map_err(io::Error::other)
        });
        task.await.map_err(io::Error::other)?
    }
}

/// The fence covers what poisoning would: a write that did not finish.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn fenced_unless_done(
        &mut self,
        work: &mut impl FnMut(&mut Self) -> Result<(), MetadataError>,
    ) -> Result<(), MetadataError> {
        if self.fenced {
            let refused =
                io::Error::other("the metadata log refuses writes since one failed; restart the node");
            return Err(io_error("writing", &self.dir.file(LOG))(refused));
        }
        // Fenced until proven sound: a panic on the way leaves it fenced too.
        self.fenced = true;
        let done = work(self);
        self.fenced = done.as_ref().is_err_and(|error| !error.is_for_want_of_room());
        done
    }

    /// A reserve is a comfort: without one, changes wait for room.
    fn reserve(&mut self) {
        if self.reserved_bytes >= self.end_bytes + RESERVE_BYTES / 2 {
            return;
        }
        match self.file.preallocate(self.end_bytes + RESERVE_BYTES) {
            Ok(()) => self.reserved_bytes = self.end_bytes + RESERVE_BYTES,
            Err(error) => tracing::debug!(%error, "no room for a reserve behind the metadata log"),
        }
    }

    fn last(&self) -> Option<LogId> {
        self.entries.back().map(|entry| entry.log_id).or(self.purged)
    }

    /// Entries follow each other without holes, after `before`. A log that never held any may begin anywhere.
    fn check_order<'a>(
        &self,
        before: Option<LogId>,
        entries: impl Iterator<Item = &'a Entry>,
    ) -> Result<(), MetadataError> {
        let mut expected = before.map(|before| before.index + 1);
        for entry in entries {
            let index = entry.log_id.index;
            if let Some(expected) = expected.filter(|expected| *expected != index) {
                let problem = format!("entry {index} stands where {expected} belongs");
                return Err(self.dir.damaged(LOG, 0, problem));
            }
            expected = Some(index + 1);
        }
        Ok(())
    }

    /// Entries that a snapshot covers already are not stored again.
    fn append(&mut self, entries: &[Entry]) -> Result<(), MetadataError> {
        let is_new = |entry: &&Entry| self.purged.is_none_or(|purged| entry.log_id.index > purged.index);
        let entries: Vec<Entry> = entries.iter().filter(is_new).cloned().collect();
        if entries.is_empty() {
            return Ok(());
        }
        self.check_order(self.last(), entries.iter())?;
        let mut frame = Vec::new();
        self.dir.encode(LOG, &entries, &mut frame)?;
        self.reserve();
        // A sync that lacks room may have lost the pages it was about, and is a failure like any other.
        let written = self.file.write_all_at(&[&frame], self.end_bytes).and_then(|()| {
            self.file
                .sync_data()
                .map_err(|error| io::Error::other(error.to_string()))
        });
        written.map_err(io_error("appending to", &self.dir.file(LOG)))?;
        self.end_bytes += frame.len() as u64;
        self.entries.extend(entries);
        Ok(())
    }

    /// Writes the file anew with these entries.
    fn rewrite(&mut self, purged: Option<LogId>, entries: VecDeque<Entry>) -> Result<(), MetadataError> {
        let mut bytes = Vec::new();
        self.dir.encode(LOG, &Head { purged }, &mut bytes)?;
        if !entries.is_empty() {
            self.dir.encode(LOG, &entries, &mut bytes)?;
        }
        self.dir.replace(LOG, &bytes)?;
        let path = self.dir.file(LOG);
        self.file = self
            .dir
            .disk()
            .open(&path, OpenMode::CreatePrivate)
            .map_err(io_error("opening", &path))?;
        self.end_bytes = bytes.len() as u64;
        self.reserved_bytes = 0;
        self.purged = purged;
        self.entries = entries;
        self.reserve();
        Ok(())
    }

    fn truncate_from(&mut self, index: u64) -> Result<(), MetadataError> {
        let kept = self
            .entries
            .iter()
            .take_while(|entry| entry.log_id.index < index)
            .cloned()
            .collect();
        self.rewrite(self.purged, kept)
    }

    fn purge_up_to(&mut self, log_id: LogId) -> Result<(), MetadataError> {
        let kept = self
            .entries
            .iter()
            .skip_while(|entry| entry.log_id.index <= log_id.index)
            .cloned()
            .collect();
        self.rewrite(self.purged.max(Some(log_id)), kept)
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let state = self.lock();
        let first = state.entries.front().map_or(0, |entry| entry.log_id.index);
        let start = match range.start_bound() {
            Bound::Included(&start) => start,
            Bound::Excluded(&start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&end) => end.saturating_add(1),
            Bound::Excluded(&end) => end,
            Bound::Unbounded => u64::MAX,
        };
        // Indexes have no holes, so positions are differences; both fit, as they are clamped to the length.
        let position = |index: u64| index.saturating_sub(first).min(state.entries.len() as u64) as usize;
        let (start, end) = (position(start), position(end));
        Ok(state.entries.range(start..end.max(start)).cloned().collect())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let state = self.lock();
        Ok(LogState {
            last_purged_log_id: state.purged,
            last_log_id: state.last(),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let vote = *vote;
        let saved = self.write(move |state| {
            state.dir.replace_value(VOTE, &vote)?;
            state.vote = Some(vote);
            Ok(())
        });
        saved
            .await
            .map_err(|error| StorageIOError::write_vote(&error).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        Ok(self.lock().vote)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        match self.write(move |state| state.append(&entries)).await {
            Ok(()) => {
                callback.log_io_completed(Ok(()));
                Ok(())
            }
            Err(error) => {
                let failed = StorageIOError::write_logs(&error).into();
                callback.log_io_completed(Err(error));
                Err(failed)
            }
        }
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let truncated = self.write(move |state| state.truncate_from(log_id.index)).await;
        truncated.map_err(|error| StorageIOError::write_logs(&error).into())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let purged = self.write(move |state| state.purge_up_to(log_id)).await;
        purged.map_err(|error| StorageIOError::write_logs(&error).into())
    }
}
