//! Aggregates per key: hot groups in memory, the store asked only for cold ones, one update per group and commit.

use std::{marker::PhantomData, sync::Arc};

use bytes::Bytes;
use highwater_types::Timestamp;

use super::groups::Groups;
use crate::{
    error::ProcessError,
    operator::{Operator, OperatorContext},
    row::{Chunk, Data, Key, Row},
    serdes::DynSerde,
    store::{StoreHandle, StoredValue},
};

/// How groups of an operator become bytes of its store.
pub(crate) struct GroupCodec<K, A> {
    pub(crate) operator: String,
    pub(crate) store: String,
    pub(crate) key: DynSerde<K>,
    pub(crate) value: DynSerde<A>,
}

impl<K, A> Clone for GroupCodec<K, A> {
    fn clone(&self) -> Self {
        Self {
            operator: self.operator.clone(),
            store: self.store.clone(),
            key: self.key.clone(),
            value: self.value.clone(),
        }
    }
}

impl<K: 'static, A: 'static> GroupCodec<K, A> {
    /// Null and empty keys share an entry; grouping serdes that have no null never meet the difference.
    pub(crate) fn key_bytes(&self, key: &K) -> Result<Bytes, ProcessError> {
        let bytes = self
            .key
            .serialize(key)
            .map_err(|source| self.unwritable("key", source))?;
        Ok(bytes.unwrap_or_default())
    }

    pub(crate) fn value_bytes(&self, value: &A) -> Result<Option<Bytes>, ProcessError> {
        self.value
            .serialize(value)
            .map_err(|source| self.unwritable("value", source))
    }

    pub(crate) fn key_of(&self, bytes: &[u8]) -> Result<K, ProcessError> {
        let bytes = Bytes::copy_from_slice(bytes);
        self.key
            .deserialize(&bytes)
            .map_err(|source| self.unreadable(source))
    }

    pub(crate) fn value_of(&self, stored: &StoredValue) -> Result<A, ProcessError> {
        self.value
            .deserialize(&stored.value)
            .map_err(|source| self.unreadable(source))
    }

    pub(crate) fn load(
        &self,
        store: &StoreHandle,
        store_key: &[u8],
    ) -> Result<Option<(A, i64)>, ProcessError> {
        match store.get(store_key)? {
            Some(stored) => Ok(Some((self.value_of(&stored)?, stored.timestamp.get()))),
            None => Ok(None),
        }
    }

    fn unwritable(&self, part: &'static str, source: crate::serdes::SerdeError) -> ProcessError {
        ProcessError::Serialize {
            operator: self.operator.clone(),
            part,
            source,
        }
    }

    fn unreadable(&self, source: crate::serdes::SerdeError) -> ProcessError {
        ProcessError::State {
            operator: self.operator.clone(),
            store: self.store.clone(),
            source,
        }
    }
}

/// `create` starts a group from its first row, `update` takes the others.
pub(crate) struct Aggregate<K, V, A, C, U> {
    codec: GroupCodec<K, A>,
    create: Arc<C>,
    update: Arc<U>,
    groups: Groups<K, A>,
    max_cached_groups: usize,
    rows: PhantomData<fn(V)>,
}

impl<K: Key, V, A, C, U> Aggregate<K, V, A, C, U> {
    pub(crate) fn new(
        codec: GroupCodec<K, A>,
        create: Arc<C>,
        update: Arc<U>,
        max_cached_groups: usize,
    ) -> Self {
        Self {
            codec,
            create,
            update,
            groups: Groups::new(),
            max_cached_groups,
            rows: PhantomData,
        }
    }
}

impl<K, V, A, C, U> Operator for Aggregate<K, V, A, C, U>
where
    K: Key,
    V: Data,
    A: Data,
    C: Fn(&K, V) -> A + Send + Sync,
    U: Fn(&K, V, &mut A) + Send + Sync,
{
    fn process(&mut self, chunk: Chunk, context: &mut OperatorContext<'_>) -> Result<(), ProcessError> {
        let rows: Vec<Row<K, V>> = context.take(chunk)?;
        let store = context.store(&self.codec.store)?;
        let codec = &self.codec;
        for row in rows {
            self.groups.apply(
                row.key,
                row.value,
                row.timestamp.get(),
                |key| codec.load(store, &codec.key_bytes(key)?),
                &*self.create,
                &*self.update,
            )?;
        }
        Ok(())
    }

    fn flush(&mut self, context: &mut OperatorContext<'_>) -> Result<(), ProcessError> {
        let mut rows = Vec::with_capacity(self.groups.dirty_len());
        let store = context.store(&self.codec.store)?;
        for group in self.groups.dirty() {
            let timestamp = Timestamp::new(group.timestamp_ms);
            store.put(
                self.codec.key_bytes(&group.key)?,
                self.codec.value_bytes(&group.value)?,
                timestamp,
            )?;
            rows.push(Row {
                key: group.key.clone(),
                value: group.value.clone(),
                timestamp,
                headers: Vec::new(),
            });
        }
        self.groups.mark_clean();
        if self.groups.len() > self.max_cached_groups {
            self.groups.evict_cold();
        }
        if !rows.is_empty() {
            context.forward(Chunk::new(rows));
        }
        Ok(())
    }

    fn dirty_groups(&self) -> usize {
        self.groups.dirty_len()
    }
}
