//! The store that lives in memory: for tests, and for state that a changelog brings back quickly enough.

use std::{collections::BTreeMap, ops::Bound};

use bytes::Bytes;

use super::{KeyRange, StateStore, StoreBatch, Visitor};
use crate::error::StoreError;

/// An ordered map in memory. Empty after a restart, so the changelog is read from its start.
#[derive(Debug, Default)]
pub struct MemoryStore {
    entries: BTreeMap<Bytes, Bytes>,
    checkpoint: Option<Bytes>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }
}

impl StateStore for MemoryStore {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.entries.get(key).cloned())
    }

    fn scan(&self, range: &KeyRange, visit: &mut Visitor<'_>) -> Result<(), StoreError> {
        if let (Some(from), Some(to)) = (&range.from, &range.to)
            && from >= to
        {
            return Ok(());
        }
        let from = range.from.clone().map_or(Bound::Unbounded, Bound::Included);
        let to = range.to.clone().map_or(Bound::Unbounded, Bound::Excluded);
        for (key, value) in self.entries.range((from, to)) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn write(&mut self, batch: StoreBatch) -> Result<(), StoreError> {
        if let Some(bound) = batch.delete_below {
            self.entries = self.entries.split_off(&bound);
        }
        self.entries.extend(batch.puts);
        for key in batch.deletes {
            self.entries.remove(&key);
        }
        if batch.checkpoint.is_some() {
            self.checkpoint = batch.checkpoint;
        }
        Ok(())
    }

    fn checkpoint(&self) -> Result<Option<Bytes>, StoreError> {
        Ok(self.checkpoint.clone())
    }

    fn clear(&mut self) -> Result<(), StoreError> {
        self.entries.clear();
        self.checkpoint = None;
        Ok(())
    }
}

/// The suite that every [`StateStore`] must pass.
#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;

    fn keys(store: &dyn StateStore, range: &KeyRange) -> Vec<Bytes> {
        let mut keys = Vec::new();
        let visited = store.scan(range, &mut |key, _| {
            keys.push(Bytes::copy_from_slice(key));
            ControlFlow::Continue(())
        });
        visited.expect("memory does not fail");
        keys
    }

    #[test]
    fn a_batch_deletes_below_its_bound_then_puts_and_replaces_the_checkpoint() {
        let mut store = MemoryStore::new();
        let put = |key: &'static str| (Bytes::from(key), Bytes::from_static(b"v"));
        let first = StoreBatch {
            puts: vec![put("a"), put("b"), put("c")],
            checkpoint: Some(Bytes::from_static(b"1")),
            ..StoreBatch::default()
        };
        store.write(first).expect("memory does not fail");
        let second = StoreBatch {
            puts: vec![put("aa")],
            deletes: vec![Bytes::from_static(b"c")],
            delete_below: Some(Bytes::from_static(b"b")),
            checkpoint: None,
        };
        store.write(second).expect("memory does not fail");
        assert_eq!(keys(&store, &KeyRange::ALL), ["aa", "b"]);
        assert_eq!(
            store.checkpoint().expect("memory"),
            Some(Bytes::from_static(b"1"))
        );
        let nothing = KeyRange {
            from: Some(Bytes::from_static(b"z")),
            to: Some(Bytes::from_static(b"a")),
        };
        assert!(keys(&store, &nothing).is_empty());
        store.clear().expect("memory does not fail");
        assert_eq!(store.checkpoint().expect("memory"), None);
    }
}
