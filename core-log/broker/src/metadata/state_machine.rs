//! The image as Raft's state machine, and its snapshots.
//!
//! The image lives in memory; what survives a restart is the latest snapshot and the log behind it. Whoever reads the
//! image after a restart waits until the log is replayed (see [`super::RaftQuorum::start`]).
//!
//! # Invariants
//! - The watched image changes once per batch of entries, after all of them are replayed (METAQ-2).
//! - A snapshot on disk is never replaced by an older one.

use std::{
    fmt, io,
    io::Cursor,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use highwater_cluster::{MetadataImage, MetadataRecord};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder, storage::RaftStateMachine};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    MetadataError,
    files::MetadataDir,
    raft_types::{
        Applied, Entry, LogId, Snapshot, SnapshotMeta, StorageError, StorageIOError, StoredMembership,
        TypeConfig,
    },
    room::Work,
};

const FILE: &str = "snapshot";

/// What a snapshot transports: an image as records.
#[derive(Debug, Serialize, Deserialize)]
struct SnapshotBody {
    version: u64,
    records: Vec<MetadataRecord>,
}

/// The state machine.
#[derive(Debug)]
pub(super) struct StateMachine {
    store: SnapshotStore,
    applied: Option<LogId>,
    membership: StoredMembership,
    image: watch::Sender<Arc<MetadataImage>>,
}

/// The snapshot file; clones share its lock, so that writers take turns.
#[derive(Debug, Clone)]
struct SnapshotStore {
    dir: MetadataDir,
    latest: Arc<Mutex<Option<SnapshotMeta>>>,
}

/// The state of one moment, to be written while later entries are applied.
#[derive(Debug)]
pub(super) struct SnapshotBuilder {
    store: SnapshotStore,
    meta: SnapshotMeta,
    image: Arc<MetadataImage>,
}

impl SnapshotStore {
    fn latest(&self) -> MutexGuard<'_, Option<SnapshotMeta>> {
        // The value is replaced as a whole after the file was, so a panic elsewhere leaves it true.
        self.latest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file: what the snapshot covers, and its body.
    fn read(&self) -> Result<Option<(SnapshotMeta, Vec<u8>)>, MetadataError> {
        let Some(bytes) = self.dir.read(FILE)? else {
            return Ok(None);
        };
        let frames = self.dir.frames(FILE, &bytes)?;
        let [meta, body] = &frames[..] else {
            return Err(self.dir.damaged(FILE, 0, "two frames were expected"));
        };
        let meta = self.dir.decode(FILE, &bytes, meta.clone())?;
        Ok(Some((meta, bytes[body.clone()].to_vec())))
    }

    /// Writes the file, unless it holds something newer.
    fn write(&self, meta: SnapshotMeta, body: &SnapshotBody) -> Result<(), MetadataError> {
        let mut latest = self.latest();
        if latest
            .as_ref()
            .is_some_and(|latest| latest.last_log_id > meta.last_log_id)
        {
            return Ok(());
        }
        let mut bytes = Vec::new();
        self.dir.encode(FILE, &meta, &mut bytes)?;
        self.dir.encode(FILE, body, &mut bytes)?;
        self.dir.replace(FILE, &bytes)?;
        *latest = Some(meta);
        Ok(())
    }

    fn decode_body(&self, body: &[u8]) -> Result<(SnapshotBody, MetadataImage), MetadataError> {
        let damaged = |problem: &dyn fmt::Display| self.dir.damaged(FILE, 0, problem);
        let body: SnapshotBody = serde_json::from_slice(body).map_err(|error| damaged(&error))?;
        let image = MetadataImage::restore(body.version, &body.records).map_err(|error| damaged(&error))?;
        Ok((body, image))
    }
}

impl StateMachine {
    /// The state of the latest snapshot. Blocking.
    pub(super) fn open(dir: MetadataDir) -> Result<Self, MetadataError> {
        let store = SnapshotStore {
            dir,
            latest: Arc::default(),
        };
        let (mut applied, mut membership) = (None, StoredMembership::default());
        let mut image = MetadataImage::default();
        if let Some((meta, body)) = store.read()? {
            (_, image) = store.decode_body(&body)?;
            applied = meta.last_log_id;
            membership = meta.last_membership.clone();
            *store.latest() = Some(meta);
        }
        Ok(Self {
            store,
            applied,
            membership,
            image: watch::Sender::new(Arc::new(image)),
        })
    }

    /// The image, and word of every later one.
    pub(super) fn image(&self) -> watch::Receiver<Arc<MetadataImage>> {
        self.image.subscribe()
    }

    fn replay(image: &mut Arc<MetadataImage>, entry: &Entry) -> Applied {
        let EntryPayload::Normal(proposal) = &entry.payload else {
            return Applied::Version(image.version());
        };
        match image.apply(&proposal.records) {
            Ok(next) => {
                *image = Arc::new(next);
                Applied::Version(image.version())
            }
            Err(refused) => Applied::Refused {
                reason: refused.to_string(),
            },
        }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Applied>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let before = Arc::clone(&self.image.borrow());
        let mut image = Arc::clone(&before);
        let mut answers = Vec::new();
        for entry in entries {
            self.applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = &entry.payload {
                self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
            }
            answers.push(Self::replay(&mut image, &entry));
        }
        if !Arc::ptr_eq(&before, &image) {
            self.image.send_replace(image);
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let image = Arc::clone(&self.image.borrow());
        let place = self
            .applied
            .map_or("none".to_owned(), |applied| applied.to_string());
        SnapshotBuilder {
            store: self.store.clone(),
            meta: SnapshotMeta {
                last_log_id: self.applied,
                last_membership: self.membership.clone(),
                // The same place in the log always means the same content.
                snapshot_id: place,
            },
            image,
        }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Cursor<Vec<u8>>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Cursor<Vec<u8>>>,
    ) -> Result<(), StorageError> {
        let (store, stored_meta) = (self.store.clone(), meta.clone());
        let installed = blocking(move || {
            let (body, image) = store.decode_body(&snapshot.into_inner())?;
            store.write(stored_meta, &body)?;
            Ok(image)
        });
        let image = installed
            .await
            .map_err(|error| StorageIOError::write_snapshot(Some(meta.signature()), &error))?;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.image.send_replace(Arc::new(image));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        let store = self.store.clone();
        let read = blocking(move || {
            let _writers_wait = store.latest();
            store.read()
        });
        let read = read
            .await
            .map_err(|error| StorageIOError::read_snapshot(None, &error))?;
        Ok(read.map(|(meta, body)| Snapshot {
            meta,
            snapshot: Box::new(Cursor::new(body)),
        }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let (store, meta, image) = (self.store.clone(), self.meta.clone(), Arc::clone(&self.image));
        let built = blocking(move || {
            let body = SnapshotBody {
                version: image.version(),
                records: image.records(),
            };
            let room = store.dir.room().clone();
            room.patiently(Work::Snapshot, || store.write(meta.clone(), &body))?;
            let encoded = serde_json::to_vec(&body);
            encoded.map_err(|error| store.dir.damaged(FILE, 0, error))
        });
        let body = built
            .await
            .map_err(|error| StorageIOError::write_snapshot(Some(self.meta.signature()), &error))?;
        Ok(Snapshot {
            meta: self.meta.clone(),
            snapshot: Box::new(Cursor::new(body)),
        })
    }
}

/// Runs file work where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MetadataError> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
        .map_err(io::Error::other)
}
