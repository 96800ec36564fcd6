//! Questions to the stores of this process (semantic rows 70 to 72): keys, windows, ranges.
//!
//! Answers show what the last commit had. Only tasks that run here are asked; which process holds a key is for the
//! caller to find out.

use std::{num::NonZeroU32, ops::ControlFlow, sync::Arc};

use bytes::Bytes;
use highwater_streams_engine::{
    ProcessError, StoreError, Window, Windowed,
    serdes::Serde,
    store::{KeyRange, StoreKind, StoredValue, split_window_store_key, window_store_key},
};
use highwater_types::{PartitionId, Timestamp, partitioner::partition_for_key};
use tokio::sync::Mutex;

use crate::{StreamsError, app::App, worker::TaskSet};

/// A typed look into one store.
pub struct StoreView<K, V> {
    app: Arc<App>,
    workers: Vec<Arc<Mutex<TaskSet>>>,
    store: String,
    key: Arc<dyn Serde<K>>,
    value: Arc<dyn Serde<V>>,
}

impl<K, V> std::fmt::Debug for StoreView<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreView")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// A value with the event time of its last change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored<V> {
    /// The value.
    pub value: V,
    /// Its time.
    pub timestamp: Timestamp,
}

impl<K: 'static, V: 'static> StoreView<K, V> {
    pub(crate) fn new(
        app: Arc<App>,
        workers: Vec<Arc<Mutex<TaskSet>>>,
        store: String,
        key: Arc<dyn Serde<K>>,
        value: Arc<dyn Serde<V>>,
    ) -> Self {
        Self {
            app,
            workers,
            store,
            key,
            value,
        }
    }

    /// The value of a key in a key-value store.
    ///
    /// # Errors
    /// [`StreamsError::StoreNotHere`] when the key belongs to a task of another process or one that is being restored;
    /// [`StreamsError::Task`] when the store fails or the serdes do not fit.
    pub async fn get(&self, key: &K) -> Result<Option<Stored<V>>, StreamsError> {
        let key = self.key_bytes(key)?;
        self.find(&key, &key).await
    }

    /// The value of a key in the window that starts at `start`.
    ///
    /// # Errors
    /// As [`StoreView::get`].
    pub async fn get_window(&self, key: &K, start: Timestamp) -> Result<Option<Stored<V>>, StreamsError> {
        let key = self.key_bytes(key)?;
        self.find(&key, &window_store_key(start.get(), &key)).await
    }

    /// Up to `limit` entries of a key-value store, in the order of their key bytes within each task.
    ///
    /// # Errors
    /// [`StreamsError::Task`] when a store fails or the serdes do not fit.
    pub async fn all(&self, limit: usize) -> Result<Vec<(K, Stored<V>)>, StreamsError> {
        let found = self.scan(&KeyRange::ALL, limit).await?;
        found
            .into_iter()
            .map(|(key, stored)| Ok((self.read_key(&key)?, self.read_value(stored)?)))
            .collect()
    }

    /// Up to `limit` windows that start in `from..to`, oldest first within each task.
    ///
    /// # Errors
    /// As [`StoreView::all`].
    pub async fn windows(
        &self,
        from: Timestamp,
        to: Timestamp,
        size: std::time::Duration,
        limit: usize,
    ) -> Result<Vec<(Windowed<K>, Stored<V>)>, StreamsError> {
        let size_ms = i64::try_from(size.as_millis()).unwrap_or(i64::MAX);
        let found = self.scan(&KeyRange::windows(from.get(), to.get()), limit).await?;
        let mut windows = Vec::with_capacity(found.len());
        for (store_key, stored) in found {
            let Some((start_ms, key)) = split_window_store_key(&store_key) else {
                continue;
            };
            let start = Timestamp::new(start_ms);
            let window = Window {
                start,
                end: start.advance_by_ms(size_ms),
            };
            let key = self.read_key(&Bytes::copy_from_slice(key))?;
            windows.push((Windowed { key, window }, self.read_value(stored)?));
        }
        Ok(windows)
    }

    async fn find(&self, key: &[u8], store_key: &[u8]) -> Result<Option<Stored<V>>, StreamsError> {
        let owner = self.owner(key);
        let mut owner_is_here = false;
        for worker in &self.workers {
            let set = worker.lock().await;
            for task in set.running() {
                let Some(store) = task.store(&self.store) else {
                    continue;
                };
                owner_is_here |= owner == Some(task.id().partition);
                // Other partitions are asked, too: a producer may have its own idea of where keys go.
                let found = store.get(store_key).map_err(|error| self.failed(error))?;
                if let Some(stored) = found {
                    return self.read_value(stored).map(Some);
                }
            }
        }
        match owner_is_here {
            true => Ok(None),
            false => Err(StreamsError::StoreNotHere {
                store: self.store.clone(),
            }),
        }
    }

    async fn scan(&self, range: &KeyRange, limit: usize) -> Result<Vec<(Bytes, StoredValue)>, StreamsError> {
        let mut found = Vec::new();
        for worker in &self.workers {
            let set = worker.lock().await;
            for store in set.running().filter_map(|task| task.store(&self.store)) {
                if found.len() >= limit {
                    return Ok(found);
                }
                let scanned = store.scan(range, &mut |key, stored| {
                    found.push((Bytes::copy_from_slice(key), stored));
                    match found.len() < limit {
                        true => ControlFlow::Continue(()),
                        false => ControlFlow::Break(()),
                    }
                });
                scanned.map_err(|error| self.failed(error))?;
            }
        }
        Ok(found)
    }

    /// The partition that Kafka's default partitioner gives this key.
    fn owner(&self, key: &[u8]) -> Option<PartitionId> {
        let sub_topology = self.app.topology.sub_topology_of_store(&self.store)?;
        let tasks = u32::try_from(*self.app.task_counts.get(sub_topology)?).ok()?;
        Some(partition_for_key(key, NonZeroU32::new(tasks)?))
    }

    /// Whether the store has windows; `None` when the topology has no such store.
    pub fn is_windowed(&self) -> Option<bool> {
        let stores = self
            .app
            .topology
            .sub_topologies()
            .iter()
            .flat_map(|sub| &sub.stores);
        let spec = stores.into_iter().find(|spec| spec.name == self.store)?;
        Some(matches!(spec.kind, StoreKind::Window { .. }))
    }

    fn key_bytes(&self, key: &K) -> Result<Bytes, StreamsError> {
        let bytes = self.key.serialize(key).map_err(|source| {
            let (operator, part) = ("store query".to_owned(), "key");
            StreamsError::task(
                &self.store,
                ProcessError::Serialize {
                    operator,
                    part,
                    source,
                },
            )
        })?;
        Ok(bytes.unwrap_or_default())
    }

    fn read_key(&self, bytes: &Bytes) -> Result<K, StreamsError> {
        self.key
            .deserialize(bytes)
            .map_err(|source| self.unreadable(source))
    }

    fn read_value(&self, stored: StoredValue) -> Result<Stored<V>, StreamsError> {
        let value = self
            .value
            .deserialize(&stored.value)
            .map_err(|source| self.unreadable(source))?;
        Ok(Stored {
            value,
            timestamp: stored.timestamp,
        })
    }

    fn unreadable(&self, source: highwater_streams_engine::serdes::SerdeError) -> StreamsError {
        let error = ProcessError::State {
            operator: "store query".to_owned(),
            store: self.store.clone(),
            source,
        };
        StreamsError::task(&self.store, error)
    }

    fn failed(&self, error: StoreError) -> StreamsError {
        StreamsError::store(&self.store, error)
    }
}
