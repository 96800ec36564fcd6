//! The directory of an application's state: who may use it, who it belongs to, and the stores in it.
//!
//! ```text
//! <state_dir>/<application>/.lock        held while the process runs (semantic row 52)
//!                           process.id   identity across restarts, so that tasks come back to their state
//!                           rocksdb/     all stores
//! ```

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use highwater_streams_engine::{
    StoreError,
    store::{MemoryStore, StateStore, StoreSpec},
};
use highwater_types::{PartitionId, Uuid};

use crate::{StreamsConfig, StreamsError, rocks::RocksStores};

/// Where tasks find their stores.
#[derive(Debug)]
pub(crate) struct StateDir {
    process_id: Uuid,
    /// `None` when all stores are in memory, and after `close`.
    on_disk: Mutex<Option<OnDisk>>,
}

#[derive(Debug)]
struct OnDisk {
    rocks: RocksStores,
    /// Released by the system when the file is closed, also after a kill. Dropped after the database.
    _lock: File,
}

impl StateDir {
    pub(crate) fn open(application_id: &str, config: &StreamsConfig) -> Result<Self, StreamsError> {
        let Some(dir) = &config.state_dir else {
            return Ok(Self {
                process_id: Uuid::new_v4(),
                on_disk: Mutex::new(None),
            });
        };
        let dir = dir.join(application_id);
        fs::create_dir_all(&dir).map_err(unusable(&dir))?;
        let lock = lock(&dir)?;
        let process_id = process_id(&dir.join("process.id"))?;
        let rocks = RocksStores::open(&dir.join("rocksdb"), config)?;
        Ok(Self {
            process_id,
            on_disk: Mutex::new(Some(OnDisk { rocks, _lock: lock })),
        })
    }

    /// Lets go of the directory once tasks have dropped their stores, whoever still holds this value.
    pub(crate) fn close(&self) {
        drop(self.on_disk().take());
    }

    fn on_disk(&self) -> MutexGuard<'_, Option<OnDisk>> {
        self.on_disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn process_id(&self) -> Uuid {
        self.process_id
    }

    pub(crate) fn store(
        &self,
        spec: &StoreSpec,
        partition: PartitionId,
    ) -> Result<Box<dyn StateStore>, StoreError> {
        match &*self.on_disk() {
            Some(on_disk) if spec.persistent => Ok(Box::new(on_disk.rocks.store(spec, partition))),
            _ => Ok(Box::new(MemoryStore::new())),
        }
    }

    pub(crate) fn has_state(&self, store: &str, partition: PartitionId) -> bool {
        self.on_disk()
            .as_ref()
            .is_some_and(|on_disk| on_disk.rocks.has(store, partition))
    }
}

fn unusable(path: &Path) -> impl FnOnce(io::Error) -> StreamsError {
    let path = PathBuf::from(path);
    move |source| StreamsError::StateDir {
        path,
        source: Arc::new(source),
    }
}

fn lock(dir: &Path) -> Result<File, StreamsError> {
    let path = dir.join(".lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(unusable(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StreamsError::StateDirLocked {
            path: PathBuf::from(dir),
        }),
        Err(TryLockError::Error(error)) => Err(unusable(&path)(error)),
    }
}

fn process_id(path: &Path) -> Result<Uuid, StreamsError> {
    match fs::read_to_string(path) {
        // An unreadable id costs only the preference for tasks whose state is here.
        Ok(text) => match text.trim().parse() {
            Ok(id) => return Ok(id),
            Err(_) => tracing::warn!(path = %path.display(), "process id is not a UUID; taking a new one"),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unusable(path)(error)),
    }
    let id = Uuid::new_v4();
    fs::write(path, id.to_string()).map_err(unusable(path))?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_user_is_refused_and_the_identity_stays() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = StreamsConfig::in_dir(dir.path());
        let first = StateDir::open("app", &config).expect("opens");
        let id = first.process_id();
        assert!(matches!(
            StateDir::open("app", &config),
            Err(StreamsError::StateDirLocked { .. })
        ));
        drop(first);
        assert_eq!(
            StateDir::open("app", &config).expect("opens again").process_id(),
            id
        );
    }
}
