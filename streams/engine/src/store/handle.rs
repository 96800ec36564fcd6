//! A task's grip on one store: reads through an overlay of what the store does not have yet, collects changelog deltas,
//! and brings the store back from its changelog.

use std::{collections::BTreeSet, ops::ControlFlow};

use bytes::{BufMut, Bytes, BytesMut};
use hashbrown::HashMap;
use highwater_types::{Offset, Timestamp, record::Record};

use super::{KeyRange, StateStore, StoreBatch, StoreKind, StoreSpec};
use crate::{
    changelog::{ChangelogRecord, Checkpoint, CommitMarker, RESTORE_HOLD_RECORDS},
    error::StoreError,
};

/// Entries that a restore collects before it writes them.
const RESTORE_BATCH_ENTRIES: usize = 64 * 1024;

/// A value and the event time of its last change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredValue {
    /// The value's bytes.
    pub value: Bytes,
    /// Its time.
    pub timestamp: Timestamp,
}

impl StoredValue {
    fn encode(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(8 + self.value.len());
        bytes.put_i64(self.timestamp.get());
        bytes.put_slice(&self.value);
        bytes.freeze()
    }

    fn decode(bytes: &Bytes) -> Option<Self> {
        let timestamp = bytes.first_chunk::<8>()?;
        Some(Self {
            value: bytes.slice(8..),
            timestamp: Timestamp::new(i64::from_be_bytes(*timestamp)),
        })
    }
}

/// One store of one task.
pub struct StoreHandle {
    spec: StoreSpec,
    backing: Box<dyn StateStore>,
    /// What commits have produced and the store does not have; `None` deletes. Window expiry wins over it.
    overlay: HashMap<Bytes, Option<Bytes>>,
    overlay_bytes: usize,
    deltas: Vec<ChangelogRecord>,
    /// Windows that start before this are gone.
    expired_before_ms: i64,
    /// How much of the expiry the store has already been told.
    deleted_before_ms: i64,
    expired_writes: u64,
    checkpoint: Option<Checkpoint>,
    restore: Restore,
}

#[derive(Default)]
struct Restore {
    /// The newest whole commit, not yet applied: the other stores may not have it.
    held: Option<(CommitMarker, i64, Vec<Record>)>,
    /// Records after the newest marker.
    tail: Vec<Record>,
    batch: HashMap<Bytes, Option<Bytes>>,
}

impl std::fmt::Debug for StoreHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoreHandle")
            .field("spec", &self.spec)
            .field("overlay_entries", &self.overlay.len())
            .field("deltas", &self.deltas.len())
            .field("checkpoint", &self.checkpoint)
            .finish_non_exhaustive()
    }
}

impl StoreHandle {
    /// Opens a store and reads its checkpoint.
    pub(crate) fn open(spec: StoreSpec, backing: Box<dyn StateStore>) -> Result<Self, StoreError> {
        let mut handle = Self {
            spec,
            backing,
            overlay: HashMap::new(),
            overlay_bytes: 0,
            deltas: Vec::new(),
            expired_before_ms: 0,
            deleted_before_ms: 0,
            expired_writes: 0,
            checkpoint: None,
            restore: Restore::default(),
        };
        if let Some(bytes) = handle.backing.checkpoint()? {
            let checkpoint = Checkpoint::decode(&bytes).map_err(|reason| handle.bad_checkpoint(reason))?;
            handle.checkpoint = Some(checkpoint);
        }
        Ok(handle)
    }

    /// The declaration.
    pub fn spec(&self) -> &StoreSpec {
        &self.spec
    }

    /// The latest committed value of a store key.
    ///
    /// # Errors
    /// [`StoreError`] of the medium.
    pub fn get(&self, key: &[u8]) -> Result<Option<StoredValue>, StoreError> {
        if self.is_expired(key) {
            return Ok(None);
        }
        let bytes = match self.overlay.get(key) {
            Some(entry) => entry.clone(),
            None => self.backing.get(key)?,
        };
        Ok(bytes.and_then(|bytes| StoredValue::decode(&bytes)))
    }

    /// Visits committed entries in key order, overlay and store merged.
    ///
    /// # Errors
    /// [`StoreError`] of the medium.
    pub fn scan(
        &self,
        range: &KeyRange,
        visit: &mut dyn FnMut(&[u8], StoredValue) -> ControlFlow<()>,
    ) -> Result<(), StoreError> {
        let mut fresh: Vec<_> = self
            .overlay
            .iter()
            .filter(|(key, _)| range.contains(key))
            .collect();
        fresh.sort_unstable_by(|a, b| a.0.cmp(b.0));
        let mut fresh = fresh.into_iter().peekable();
        let mut show = |key: &[u8], bytes: Bytes| {
            if self.is_expired(key) {
                return ControlFlow::Continue(());
            }
            StoredValue::decode(&bytes).map_or(ControlFlow::Continue(()), |value| visit(key, value))
        };
        let mut stopped = ControlFlow::Continue(());
        self.backing.scan(range, &mut |key, value| {
            while let Some((earlier, entry)) = fresh.next_if(|(fresh, _)| fresh[..] < *key) {
                if let Some(bytes) = entry {
                    stopped = show(earlier, bytes.clone());
                    if stopped.is_break() {
                        return stopped;
                    }
                }
            }
            stopped = match fresh.next_if(|(fresh, _)| fresh[..] == *key) {
                Some((_, Some(bytes))) => show(key, bytes.clone()),
                Some((_, None)) => ControlFlow::Continue(()),
                None => show(key, Bytes::copy_from_slice(value)),
            };
            stopped
        })?;
        if stopped.is_continue() {
            for (key, entry) in fresh {
                if let Some(bytes) = entry
                    && show(key, bytes.clone()).is_break()
                {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Sets a store key for the commit under way; `None` deletes. Meant to be called once per dirty group and commit:
    /// each call makes one changelog record.
    ///
    /// # Errors
    /// [`StoreError::MalformedKey`] for a window store's key without a start.
    pub fn put(&mut self, key: Bytes, value: Option<Bytes>, timestamp: Timestamp) -> Result<(), StoreError> {
        if self.is_expired(&key) {
            self.expired_writes += 1;
            return Ok(());
        }
        let stored = value.map(|value| StoredValue { value, timestamp }.encode());
        if self.spec.logged {
            self.deltas.push(ChangelogRecord {
                key: self.spec.changelog_key(&key)?,
                value: stored.as_ref().map(|bytes| bytes.slice(8..)),
                timestamp,
                headers: Vec::new(),
            });
        }
        self.overlay_bytes += key.len() + stored.as_ref().map_or(0, Bytes::len);
        self.overlay.insert(key, stored);
        Ok(())
    }

    /// Tells a window store how far stream time has come; windows past the retention disappear. The log forgets them
    /// by its own retention, so no deltas are written.
    pub fn expire(&mut self, stream_time_ms: i64) {
        if let StoreKind::Window { retention_ms } = self.spec.kind {
            self.expired_before_ms = self
                .expired_before_ms
                .max(stream_time_ms.saturating_sub(retention_ms));
        }
    }

    /// Writes that were ignored because their window had expired (semantic row 27), since the last time asked.
    pub fn take_expired_writes(&mut self) -> u64 {
        std::mem::take(&mut self.expired_writes)
    }

    /// Bytes that wait for the store; the runtime flushes when they grow large.
    pub fn unflushed_bytes(&self) -> usize {
        self.overlay_bytes
    }

    /// The first changelog offset that the store does not have.
    pub fn restore_from(&self) -> Option<Offset> {
        let checkpoint = self.checkpoint.as_ref()?;
        checkpoint.changelog_offset.map(Offset::new)
    }

    pub(crate) fn checkpoint(&self) -> Option<&Checkpoint> {
        self.checkpoint.as_ref()
    }

    pub(crate) fn has_deltas(&self) -> bool {
        !self.deltas.is_empty()
    }

    pub(crate) fn take_deltas(&mut self) -> Vec<ChangelogRecord> {
        std::mem::take(&mut self.deltas)
    }

    /// Moves the overlay into the store, as the state after the checkpoint's commit.
    pub(crate) fn flush(&mut self, checkpoint: Checkpoint) -> Result<(), StoreError> {
        let mut batch = StoreBatch {
            checkpoint: Some(checkpoint.encode()),
            ..StoreBatch::default()
        };
        if self.expired_before_ms > self.deleted_before_ms {
            self.deleted_before_ms = self.expired_before_ms;
            batch.delete_below = Some(Bytes::copy_from_slice(&self.expired_before_ms.to_be_bytes()));
        }
        let bound = batch.delete_below.clone().unwrap_or_default();
        for (key, value) in self.overlay.drain().filter(|(key, _)| key >= &bound) {
            match value {
                Some(value) => batch.puts.push((key, value)),
                None => batch.deletes.push(key),
            }
        }
        self.overlay_bytes = 0;
        // RocksDB takes sorted runs faster, and batches become the same for the same input.
        batch.puts.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        batch.deletes.sort_unstable();
        self.backing.write(batch)?;
        self.checkpoint = Some(checkpoint);
        Ok(())
    }

    /// Forgets everything, so that the changelog is restored from its start.
    pub(crate) fn clear(&mut self) -> Result<(), StoreError> {
        self.backing.clear()?;
        self.overlay.clear();
        self.overlay_bytes = 0;
        self.deltas.clear();
        self.checkpoint = None;
        self.restore = Restore::default();
        self.expired_before_ms = 0;
        self.deleted_before_ms = 0;
        Ok(())
    }

    /// Takes changelog records in offset order, from [`restore_from`](Self::restore_from) on.
    pub(crate) fn restore(&mut self, records: Vec<Record>) -> Result<(), StoreError> {
        for record in records {
            match CommitMarker::of_record(&record) {
                None => self.restore.tail.push(record),
                Some(Err(reason)) => return Err(self.bad_checkpoint(reason)),
                Some(Ok(marker)) => self.hold(marker, record.offset.next().get())?,
            }
        }
        if self.restore.tail.len() > RESTORE_HOLD_RECORDS {
            self.apply_held()?;
            let newer = self.restore.tail.split_off(RESTORE_HOLD_RECORDS / 2);
            let older = std::mem::replace(&mut self.restore.tail, newer);
            self.apply(older, None)?;
        }
        Ok(())
    }

    /// A marker makes the records before it a whole commit. The commit before it is then known to be everywhere, unless
    /// the marker repeats its number: then that one was torn, discarded by a restore, and this one stands in its place.
    fn hold(&mut self, marker: CommitMarker, next_offset: i64) -> Result<(), StoreError> {
        let mut records = Vec::new();
        match self.restore.held.take() {
            Some((torn, _, its_records)) if torn.commit >= marker.commit => records = its_records,
            held => {
                self.restore.held = held;
                self.apply_held()?;
            }
        }
        records.append(&mut self.restore.tail);
        self.restore.held = Some((marker, next_offset, records));
        Ok(())
    }

    /// The newest commit that this store could resume at; 0 when it knows of none.
    pub(crate) fn restorable_commit(&self) -> u64 {
        match (&self.restore.held, &self.checkpoint) {
            (Some((marker, ..)), _) => marker.commit,
            (None, Some(checkpoint)) => checkpoint.marker.commit,
            (None, None) => 0,
        }
    }

    /// The marker of [`restorable_commit`](Self::restorable_commit).
    pub(crate) fn restorable_marker(&self) -> Option<&CommitMarker> {
        match (&self.restore.held, &self.checkpoint) {
            (Some((marker, ..)), _) => Some(marker),
            (None, checkpoint) => checkpoint.as_ref().map(|checkpoint| &checkpoint.marker),
        }
    }

    /// Ends a restore at `commit`: what lies beyond is discarded, and its keys are queued for repair.
    pub(crate) fn finish_restore(&mut self, commit: u64) -> Result<(), StoreError> {
        let mut discarded = std::mem::take(&mut self.restore.tail);
        match self.restore.held.take() {
            Some(held) if held.0.commit <= commit => {
                self.restore.held = Some(held);
                self.apply_held()?;
            }
            Some((_, _, records)) => discarded.extend(records),
            None => {}
        }
        self.write_restored(None)?;
        if let Some(checkpoint) = &self.checkpoint
            && checkpoint.marker.commit > commit
        {
            return Err(StoreError::Ahead {
                store: self.spec.name.clone(),
                store_commit: checkpoint.marker.commit,
                task_commit: commit,
            });
        }
        let keys: BTreeSet<Bytes> = discarded.into_iter().filter_map(|record| record.key).collect();
        for key in keys {
            let stored = self.get(&self.spec.store_key(&key)?)?;
            self.deltas.push(ChangelogRecord {
                key,
                timestamp: stored
                    .as_ref()
                    .map_or(Timestamp::new(0), |stored| stored.timestamp),
                value: stored.map(|stored| stored.value),
                headers: Vec::new(),
            });
        }
        Ok(())
    }

    fn apply_held(&mut self) -> Result<(), StoreError> {
        match self.restore.held.take() {
            Some((marker, next_offset, records)) => {
                let checkpoint = Checkpoint {
                    changelog_offset: Some(next_offset),
                    marker,
                };
                self.apply(records, Some(checkpoint))
            }
            None => Ok(()),
        }
    }

    fn apply(&mut self, records: Vec<Record>, checkpoint: Option<Checkpoint>) -> Result<(), StoreError> {
        for record in records {
            let Some(key) = record.key else { continue };
            let timestamp = record.timestamp;
            let value = record
                .value
                .map(|value| StoredValue { value, timestamp }.encode());
            self.restore.batch.insert(self.spec.store_key(&key)?, value);
        }
        if let Some(checkpoint) = checkpoint {
            let stream_times = checkpoint.marker.progress.get(&self.spec.name);
            let stream_time = stream_times.and_then(|progress| progress.stream_time_ms);
            if let Some(stream_time) = stream_time {
                self.expire(stream_time);
            }
            self.checkpoint = Some(checkpoint);
            if self.restore.batch.len() >= RESTORE_BATCH_ENTRIES {
                self.write_restored(self.checkpoint.clone())?;
            }
        } else {
            self.write_restored(None)?;
        }
        Ok(())
    }

    fn write_restored(&mut self, checkpoint: Option<Checkpoint>) -> Result<(), StoreError> {
        let checkpoint = checkpoint.or_else(|| self.checkpoint.clone());
        let mut batch = StoreBatch {
            checkpoint: checkpoint.as_ref().map(Checkpoint::encode),
            ..StoreBatch::default()
        };
        for (key, value) in std::mem::take(&mut self.restore.batch) {
            match value {
                Some(value) if !self.is_expired(&key) => batch.puts.push((key, value)),
                Some(_) | None => batch.deletes.push(key),
            }
        }
        batch.puts.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        batch.deletes.sort_unstable();
        self.backing.write(batch)
    }

    fn is_expired(&self, store_key: &[u8]) -> bool {
        matches!(self.spec.kind, StoreKind::Window { .. })
            && super::split_window_store_key(store_key)
                .is_some_and(|(start, _)| start < self.expired_before_ms)
    }

    fn bad_checkpoint(&self, reason: String) -> StoreError {
        StoreError::Checkpoint {
            store: self.spec.name.clone(),
            reason,
        }
    }
}
