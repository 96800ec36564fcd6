//! Stores on disk: one RocksDB for all stores of a process, so that one block cache and one set of write buffers bound
//! the memory (Kafka Streams opens a database per store and partition, each with its own).
//!
//! ```text
//! data key        'd' store-name NUL partition (4 bytes BE) store-key
//! checkpoint key  'c' store-name NUL partition (4 bytes BE)
//! ```
//!
//! Store names are parts of topic names and so have no NUL. Values are what the engine writes.
//!
//! Writes go through RocksDB's own log without a sync: a killed process loses nothing, and after a power failure
//! RocksDB comes back at some earlier batch, whose checkpoint is in the same batch. Whatever is then missing comes from
//! the changelog.
//!
//! # Invariants
//! - A data batch and its checkpoint are one write.

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use highwater_streams_engine::{
    StoreError,
    store::{KeyRange, StateStore, StoreBatch, StoreSpec, Visitor},
};
use highwater_types::PartitionId;
use rocksdb::{BlockBasedOptions, Cache, DB, IteratorMode, Options, ReadOptions, WriteBatch};

use crate::{StreamsConfig, StreamsError};

/// Bits per key of the bloom filters: about 1 % of lookups of absent keys touch a block.
const BLOOM_BITS_PER_KEY: f64 = 10.0;

/// The database of a process. Cloning shares it.
#[derive(Clone)]
pub(crate) struct RocksStores {
    db: Arc<DB>,
}

impl std::fmt::Debug for RocksStores {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksStores")
            .field("path", &self.db.path())
            .finish()
    }
}

impl RocksStores {
    pub(crate) fn open(path: &Path, config: &StreamsConfig) -> Result<Self, StreamsError> {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache(config.block_cache_bytes));
        blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&blocks);
        options.set_db_write_buffer_size(config.write_buffer_bytes);
        // Half, so that one buffer fills while another is written out.
        options.set_write_buffer_size(config.write_buffer_bytes / 2);
        options.set_max_total_wal_size(2 * config.write_buffer_bytes as u64);
        options.set_keep_log_file_num(2);
        let db = DB::open(&options, path).map_err(|error| StreamsError::OpenStores {
            path: PathBuf::from(path),
            reason: error.to_string(),
        })?;
        Ok(Self { db: Arc::new(db) })
    }

    pub(crate) fn store(&self, spec: &StoreSpec, partition: PartitionId) -> RocksStore {
        let key = |kind: u8| {
            let mut key = vec![kind];
            key.extend_from_slice(spec.name.as_bytes());
            key.push(0);
            key.extend_from_slice(&partition.get().to_be_bytes());
            key
        };
        RocksStore {
            db: self.db.clone(),
            name: spec.name.clone(),
            prefix: key(b'd'),
            checkpoint: key(b'c'),
        }
    }

    /// Whether there is state of this store and partition: the reason to prefer this process for the task.
    pub(crate) fn has(&self, store: &str, partition: PartitionId) -> bool {
        let spec = StoreSpec::new(store, highwater_streams_engine::store::StoreKind::KeyValue);
        // An unreadable checkpoint shows when the task is opened; here it only costs the preference.
        matches!(self.store(&spec, partition).checkpoint(), Ok(Some(_)))
    }
}

/// One store of one task.
pub(crate) struct RocksStore {
    db: Arc<DB>,
    name: String,
    prefix: Vec<u8>,
    checkpoint: Vec<u8>,
}

impl RocksStore {
    fn key(&self, key: &[u8]) -> Vec<u8> {
        [&self.prefix, key].concat()
    }

    /// First key after all keys of this store.
    fn end(&self) -> Vec<u8> {
        let mut end = self.prefix.clone();
        // The first byte is 'd', so carrying never runs over.
        for byte in end.iter_mut().rev() {
            *byte = byte.wrapping_add(1);
            if *byte != 0 {
                break;
            }
        }
        end
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(rocksdb::Error) -> StoreError {
        let store = self.name.clone();
        move |source| StoreError::Backend {
            store,
            action,
            source: Box::new(source),
        }
    }
}

impl StateStore for RocksStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self.db.get_pinned(self.key(key)).map_err(self.failed("read"))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn scan(&self, range: &KeyRange, visit: &mut Visitor<'_>) -> Result<(), StoreError> {
        let from = self.key(range.from.as_deref().unwrap_or_default());
        let to = range.to.as_ref().map_or_else(|| self.end(), |to| self.key(to));
        if from >= to {
            return Ok(());
        }
        let mut options = ReadOptions::default();
        options.set_iterate_lower_bound(from);
        options.set_iterate_upper_bound(to);
        for entry in self.db.iterator_opt(IteratorMode::Start, options) {
            let (key, value) = entry.map_err(self.failed("scan"))?;
            if let ControlFlow::Break(()) = visit(&key[self.prefix.len()..], &value) {
                break;
            }
        }
        Ok(())
    }

    fn write(&mut self, batch: StoreBatch) -> Result<(), StoreError> {
        let mut write = WriteBatch::default();
        if let Some(bound) = &batch.delete_below {
            write.delete_range(self.prefix.clone(), self.key(bound));
        }
        for (key, value) in &batch.puts {
            write.put(self.key(key), value);
        }
        for key in &batch.deletes {
            write.delete(self.key(key));
        }
        if let Some(checkpoint) = &batch.checkpoint {
            write.put(&self.checkpoint, checkpoint);
        }
        self.db.write(write).map_err(self.failed("write a batch"))
    }

    fn checkpoint(&self) -> Result<Option<Bytes>, StoreError> {
        let value = self
            .db
            .get_pinned(&self.checkpoint)
            .map_err(self.failed("read the checkpoint"))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn clear(&mut self) -> Result<(), StoreError> {
        let mut write = WriteBatch::default();
        write.delete_range(self.prefix.clone(), self.end());
        write.delete(&self.checkpoint);
        self.db.write(write).map_err(self.failed("clear"))
    }
}

#[cfg(test)]
mod tests {
    use highwater_streams_engine::store::StoreKind;

    use super::*;

    fn keys(store: &RocksStore, range: &KeyRange) -> Vec<Bytes> {
        let mut keys = Vec::new();
        let visited = store.scan(range, &mut |key, _| {
            keys.push(Bytes::copy_from_slice(key));
            ControlFlow::Continue(())
        });
        visited.expect("scans");
        keys
    }

    fn put(key: &'static [u8]) -> (Bytes, Bytes) {
        (Bytes::from_static(key), Bytes::from_static(b"v"))
    }

    #[test]
    fn stores_and_partitions_of_one_database_do_not_see_each_other() {
        let dir = tempfile::tempdir().expect("a directory");
        let stores = RocksStores::open(dir.path(), &StreamsConfig::default()).expect("opens");
        let spec = |name: &str| StoreSpec::new(name, StoreKind::KeyValue);
        // Partition 255 borders on 256, and "a" on "a.b".
        let mut own = stores.store(&spec("a"), PartitionId::new(255));
        let mut next = stores.store(&spec("a"), PartitionId::new(256));
        let mut other = stores.store(&spec("a.b"), PartitionId::new(255));
        for store in [&mut own, &mut next, &mut other] {
            let batch = StoreBatch {
                puts: vec![put(b""), put(b"\xff\xff"), put(b"k")],
                checkpoint: Some(Bytes::from_static(b"1")),
                ..StoreBatch::default()
            };
            store.write(batch).expect("writes");
        }
        assert_eq!(keys(&own, &KeyRange::ALL), [&b""[..], b"k", b"\xff\xff"]);
        own.clear().expect("clears");
        assert!(keys(&own, &KeyRange::ALL).is_empty());
        assert_eq!(own.checkpoint().expect("reads"), None);
        assert_eq!(keys(&next, &KeyRange::ALL).len(), 3);
        assert_eq!(keys(&other, &KeyRange::ALL).len(), 3);
        assert!(stores.has("a.b", PartitionId::new(255)) && !stores.has("a", PartitionId::new(255)));
    }

    #[test]
    fn a_batch_deletes_below_its_bound_and_survives_reopening() {
        let dir = tempfile::tempdir().expect("a directory");
        let spec = StoreSpec::new("s", StoreKind::KeyValue);
        {
            let stores = RocksStores::open(dir.path(), &StreamsConfig::default()).expect("opens");
            let mut store = stores.store(&spec, PartitionId::new(0));
            let first = StoreBatch {
                puts: vec![put(b"a"), put(b"b"), put(b"c")],
                ..StoreBatch::default()
            };
            store.write(first).expect("writes");
            let second = StoreBatch {
                puts: vec![put(b"aa")],
                deletes: vec![Bytes::from_static(b"c")],
                delete_below: Some(Bytes::from_static(b"b")),
                checkpoint: None,
            };
            store.write(second).expect("writes");
        }
        let stores = RocksStores::open(dir.path(), &StreamsConfig::default()).expect("opens again");
        let store = stores.store(&spec, PartitionId::new(0));
        assert_eq!(keys(&store, &KeyRange::ALL), ["aa", "b"]);
    }
}
