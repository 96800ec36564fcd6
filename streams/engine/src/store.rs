//! State: what a store must offer, and the layouts, overlay and changelog rules that the engine puts over it.
//!
//! A [`StateStore`] is an ordered map of bytes with one atomic batch write that carries a checkpoint. Key-value and
//! window stores are layouts over it, not two kinds of storage:
//!
//! ```text
//! key-value   store key = key                         changelog key = key
//! window      store key = start (8 bytes BE) + key    changelog key = key + start (8 bytes BE)
//! both        store value = timestamp (8 bytes BE) + value; the changelog carries it as the record's timestamp
//! ```
//!
//! Window keys lie in time order, so that expiry is one range delete and closing a window one range scan.
//!
//! State has three clocks: operators keep hot groups in memory; a commit turns dirty groups into changelog deltas and
//! leaves their bytes in the [`StoreHandle`]'s overlay; the overlay reaches the store when the runtime says so, in one
//! batch together with the `Checkpoint` it stands for.
//!
//! # Invariants
//! - A store's content is always exactly the state after the commit that its checkpoint names (the one exception,
//!   described at [`changelog`](crate::changelog), heals by restoring again).

mod handle;
mod memory;

use std::{collections::BTreeMap, ops::ControlFlow};

use bytes::{BufMut, Bytes, BytesMut};

pub use handle::{StoreHandle, StoredValue};
pub use memory::MemoryStore;

use crate::error::StoreError;

/// How long past its retention a window changelog is kept by the log (semantic row 45).
pub const CHANGELOG_EXTRA_RETENTION_MS: i64 = 24 * 60 * 60 * 1000;

/// Keys from `from` (inclusive) up to `to` (exclusive); `None` means no bound on that side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyRange {
    /// First key inside.
    pub from: Option<Bytes>,
    /// First key outside.
    pub to: Option<Bytes>,
}

impl KeyRange {
    /// Every key.
    pub const ALL: Self = Self { from: None, to: None };

    /// All keys of windows that start in `start_ms..end_ms` (store keys, time first).
    pub fn windows(start_ms: i64, end_ms: i64) -> Self {
        Self {
            from: Some(Bytes::copy_from_slice(&start_ms.max(0).to_be_bytes())),
            to: Some(Bytes::copy_from_slice(&end_ms.max(0).to_be_bytes())),
        }
    }

    /// Whether `key` lies inside.
    pub fn contains(&self, key: &[u8]) -> bool {
        self.from.as_ref().is_none_or(|from| key >= &from[..])
            && self.to.as_ref().is_none_or(|to| key < &to[..])
    }
}

/// What one atomic write carries.
#[derive(Debug, Clone, Default)]
pub struct StoreBatch {
    /// Entries to set; no key twice.
    pub puts: Vec<(Bytes, Bytes)>,
    /// Keys to remove; none of them in `puts`.
    pub deletes: Vec<Bytes>,
    /// Removes every key below this one, before the puts take effect.
    pub delete_below: Option<Bytes>,
    /// Replaces the checkpoint, when given.
    pub checkpoint: Option<Bytes>,
}

/// Shown each entry of a scan, key then value; breaking ends the scan.
pub type Visitor<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Makes or opens the store of a declaration.
pub type OpenStore<'a> = dyn FnMut(&StoreSpec) -> Result<Box<dyn StateStore>, StoreError> + 'a;

/// An ordered map of bytes that a task owns. Implementations: [`MemoryStore`], and RocksDB in the runtime.
pub trait StateStore: Send {
    /// The value of a key.
    ///
    /// # Errors
    /// [`StoreError::Backend`] when the medium fails; so do all methods.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// Visits entries in key order until the visitor breaks.
    fn scan(&self, range: &KeyRange, visit: &mut Visitor<'_>) -> Result<(), StoreError>;

    /// Applies a batch: all of it or, after a crash, nothing of it. It need not be durable on return; what was lost is
    /// restored from the changelog.
    fn write(&mut self, batch: StoreBatch) -> Result<(), StoreError>;

    /// The checkpoint of the last batch that carried one.
    fn checkpoint(&self) -> Result<Option<Bytes>, StoreError>;

    /// Removes all entries and the checkpoint.
    fn clear(&mut self) -> Result<(), StoreError>;
}

/// How keys are laid out and how long entries live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreKind {
    /// One entry per key, kept until deleted.
    KeyValue,
    /// One entry per key and window start.
    Window {
        /// Entries are dropped when their window starts more than this before stream time.
        retention_ms: i64,
    },
}

/// A store as a topology declares it; every task of the sub-topology has its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSpec {
    /// Unique in the topology; part of the changelog's name.
    pub name: String,
    /// Layout.
    pub kind: StoreKind,
    /// On disk, or in memory only.
    pub persistent: bool,
    /// Whether a changelog topic backs it. Without one, state is as durable as the store.
    pub logged: bool,
    /// Topic configurations that override the derived ones.
    pub changelog_configs: BTreeMap<String, String>,
}

impl StoreSpec {
    /// A persistent, logged store.
    pub fn new(name: impl Into<String>, kind: StoreKind) -> Self {
        Self {
            name: name.into(),
            kind,
            persistent: true,
            logged: true,
            changelog_configs: BTreeMap::new(),
        }
    }

    /// What the changelog topic must be created with (semantic rows 44 and 45).
    pub fn changelog_topic_configs(&self) -> BTreeMap<String, String> {
        let mut configs = BTreeMap::new();
        match self.kind {
            StoreKind::KeyValue => {
                configs.insert("cleanup.policy".to_owned(), "compact".to_owned());
            }
            StoreKind::Window { retention_ms } => {
                configs.insert("cleanup.policy".to_owned(), "compact,delete".to_owned());
                let retention_ms = retention_ms.saturating_add(CHANGELOG_EXTRA_RETENTION_MS);
                configs.insert("retention.ms".to_owned(), retention_ms.to_string());
            }
        }
        configs.extend(self.changelog_configs.clone());
        configs
    }

    /// The changelog key of a store key.
    pub(crate) fn changelog_key(&self, store_key: &Bytes) -> Result<Bytes, StoreError> {
        match self.kind {
            StoreKind::KeyValue => Ok(store_key.clone()),
            StoreKind::Window { .. } => match store_key.split_first_chunk::<8>() {
                Some((start, key)) => Ok(joined(key, start)),
                None => Err(self.malformed(store_key)),
            },
        }
    }

    /// The store key of a changelog key.
    pub(crate) fn store_key(&self, changelog_key: &Bytes) -> Result<Bytes, StoreError> {
        match self.kind {
            StoreKind::KeyValue => Ok(changelog_key.clone()),
            StoreKind::Window { .. } => match changelog_key.split_last_chunk::<8>() {
                Some((key, start)) => Ok(joined(start, key)),
                None => Err(self.malformed(changelog_key)),
            },
        }
    }

    fn malformed(&self, key: &Bytes) -> StoreError {
        StoreError::MalformedKey {
            store: self.name.clone(),
            length_bytes: key.len(),
        }
    }
}

fn joined(first: &[u8], second: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(first.len() + second.len());
    bytes.put_slice(first);
    bytes.put_slice(second);
    bytes.freeze()
}

/// The store key of a window's group.
pub fn window_store_key(start_ms: i64, key: &[u8]) -> Bytes {
    joined(&start_ms.to_be_bytes(), key)
}

/// Splits the store key of a window's group into start and key.
pub fn split_window_store_key(store_key: &[u8]) -> Option<(i64, &[u8])> {
    let (start, key) = store_key.split_first_chunk::<8>()?;
    Some((i64::from_be_bytes(*start), key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_keys_lie_in_time_order_in_the_store_and_key_first_in_the_changelog() {
        let spec = StoreSpec::new("candles", StoreKind::Window { retention_ms: 1000 });
        let key = window_store_key(256, b"BTC");
        assert_eq!(&key[..], b"\0\0\0\0\0\0\x01\0BTC");
        let logged = spec.changelog_key(&key).expect("well-formed");
        assert_eq!(&logged[..], b"BTC\0\0\0\0\0\0\x01\0");
        assert_eq!(spec.store_key(&logged).expect("well-formed"), key);
        assert_eq!(split_window_store_key(&key), Some((256, &b"BTC"[..])));
        assert!(spec.store_key(&Bytes::from_static(b"short")).is_err());
    }

    #[test]
    fn changelogs_of_windows_expire_a_day_after_their_store() {
        let spec = StoreSpec::new("w", StoreKind::Window { retention_ms: 1000 });
        let configs = spec.changelog_topic_configs();
        assert_eq!(configs["cleanup.policy"], "compact,delete");
        assert_eq!(configs["retention.ms"], "86401000");
        let spec = StoreSpec::new("k", StoreKind::KeyValue);
        assert_eq!(spec.changelog_topic_configs()["cleanup.policy"], "compact");
    }
}
