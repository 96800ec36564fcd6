//! Hot groups: one aggregate per key in memory, found by hash without allocating.
//!
//! # Invariants
//! - `index` holds exactly the positions of `groups`, by the hash of their key.
//! - A group is in `dirty` exactly when its `dirty` flag is set; dirty groups are never evicted.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::row::Key;

/// One key's aggregate.
#[derive(Debug)]
pub(crate) struct Group<K, A> {
    pub(crate) key: K,
    pub(crate) value: A,
    pub(crate) timestamp_ms: i64,
    dirty: bool,
    /// Changed since the commit before last; a second chance before eviction.
    hot: bool,
}

/// Groups of one window, or of a store without windows.
#[derive(Debug)]
pub(crate) struct Groups<K, A> {
    index: HashTable<u32>,
    groups: Vec<Group<K, A>>,
    dirty: Vec<u32>,
    hasher: DefaultHashBuilder,
}

impl<K: Key, A> Groups<K, A> {
    pub(crate) fn new() -> Self {
        Self {
            index: HashTable::new(),
            groups: Vec::new(),
            dirty: Vec::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    pub(crate) fn dirty_len(&self) -> usize {
        self.dirty.len()
    }

    fn position(&self, key: &K, hash: u64) -> Option<u32> {
        let groups = &self.groups;
        self.index
            .find(hash, |&at| groups[at as usize].key == *key)
            .copied()
    }

    /// Applies one row to its group. A key that is not in memory is asked for with `load`; one that is nowhere starts
    /// with `create`. The result's time is the larger of row and group (semantic row 19).
    #[inline]
    pub(crate) fn apply<V, E>(
        &mut self,
        key: K,
        value: V,
        timestamp_ms: i64,
        load: impl FnOnce(&K) -> Result<Option<(A, i64)>, E>,
        create: impl FnOnce(&K, V) -> A,
        update: impl FnOnce(&K, V, &mut A),
    ) -> Result<(), E> {
        let hash = self.hasher.hash_one(&key);
        let at = match self.position(&key, hash) {
            Some(at) => {
                let group = &mut self.groups[at as usize];
                update(&group.key, value, &mut group.value);
                group.timestamp_ms = group.timestamp_ms.max(timestamp_ms);
                at
            }
            None => match load(&key)? {
                Some((mut stored, stored_ms)) => {
                    update(&key, value, &mut stored);
                    self.insert(hash, key, stored, stored_ms.max(timestamp_ms))
                }
                None => {
                    let fresh = create(&key, value);
                    self.insert(hash, key, fresh, timestamp_ms)
                }
            },
        };
        let group = &mut self.groups[at as usize];
        if !group.dirty {
            group.dirty = true;
            group.hot = true;
            self.dirty.push(at);
        }
        Ok(())
    }

    /// Adds a clean group read from the store, unless memory has a newer one.
    pub(crate) fn add_stored(&mut self, key: K, value: A, timestamp_ms: i64) {
        let hash = self.hasher.hash_one(&key);
        if self.position(&key, hash).is_none() {
            self.insert(hash, key, value, timestamp_ms);
        }
    }

    fn insert(&mut self, hash: u64, key: K, value: A, timestamp_ms: i64) -> u32 {
        let at = u32::try_from(self.groups.len()).expect("commits and eviction keep groups far below 2^32");
        self.groups.push(Group {
            key,
            value,
            timestamp_ms,
            dirty: false,
            hot: false,
        });
        let (groups, hasher) = (&self.groups, &self.hasher);
        self.index
            .insert_unique(hash, at, |&at| hasher.hash_one(&groups[at as usize].key));
        at
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Group<K, A>> {
        self.groups.iter()
    }

    /// Groups that changed since they were last marked clean, in the order of their first change.
    pub(crate) fn dirty(&self) -> impl Iterator<Item = &Group<K, A>> {
        self.dirty.iter().map(|&at| &self.groups[at as usize])
    }

    pub(crate) fn mark_clean(&mut self) {
        for at in self.dirty.drain(..) {
            self.groups[at as usize].dirty = false;
        }
    }

    /// Drops groups that have not changed since the last eviction. Returns how many were dropped. Only between
    /// commits' flushes, when nothing is dirty.
    pub(crate) fn evict_cold(&mut self) -> usize {
        assert!(
            self.dirty.is_empty(),
            "eviction would lose changes that no store has"
        );
        let before = self.groups.len();
        self.groups.retain_mut(|group| std::mem::take(&mut group.hot));
        if self.groups.len() != before {
            self.index.clear();
            let (groups, hasher) = (&self.groups, &self.hasher);
            let hash_at = |at: &u32| hasher.hash_one(&groups[*at as usize].key);
            for at in 0..groups.len() as u32 {
                self.index.insert_unique(hash_at(&at), at, hash_at);
            }
        }
        before - self.groups.len()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, convert::Infallible};

    use proptest::prelude::*;

    use super::*;

    fn count(groups: &mut Groups<u8, u64>, store: &BTreeMap<u8, u64>, key: u8) {
        let load = |key: &u8| Ok::<_, Infallible>(store.get(key).map(|count| (*count, 0)));
        let Ok(()) = groups.apply(key, (), 0, load, |_, ()| 1, |_, (), count| *count += 1);
    }

    proptest! {
        /// Groups over a store, with evictions in between, against a plain map.
        #[test]
        fn counts_survive_any_mix_of_updates_flushes_and_evictions(
            steps in proptest::collection::vec((0u8..12, 0u8..4), 0..200),
        ) {
            let (mut groups, mut store, mut model) = (Groups::new(), BTreeMap::new(), BTreeMap::new());
            for (key, action) in steps {
                count(&mut groups, &store, key);
                *model.entry(key).or_insert(0) += 1;
                if action == 0 {
                    store.extend(groups.dirty().map(|group| (group.key, group.value)));
                    groups.mark_clean();
                    groups.evict_cold();
                }
            }
            store.extend(groups.dirty().map(|group| (group.key, group.value)));
            prop_assert_eq!(store, model);
        }
    }

    #[test]
    fn a_group_stays_for_one_eviction_after_it_changed() {
        let (mut groups, store) = (Groups::new(), BTreeMap::new());
        count(&mut groups, &store, 1);
        groups.mark_clean();
        assert_eq!((groups.evict_cold(), groups.len()), (0, 1));
        assert_eq!((groups.evict_cold(), groups.len()), (1, 0));
    }
}
