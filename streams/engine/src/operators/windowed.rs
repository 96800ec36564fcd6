//! Aggregates per key and window.
//!
//! Stream time is the largest event time this operator has seen; a window closes when its end is no later than stream
//! time minus grace, judged row by row (semantic row 26). Both survive a restart: they are kept with the commit.
//!
//! # Invariants
//! - `open` is sorted by window start.
//! - A window is dropped from memory only when closed and clean, so a row never meets an empty stand-in for it.
//! - A window that `closed_until_ms` covers has spoken its last and takes no more rows.

use std::{marker::PhantomData, ops::ControlFlow, sync::Arc};

use highwater_types::Timestamp;

use super::{aggregate::GroupCodec, groups::Groups};
use crate::{
    changelog::OperatorProgress,
    drops::DropReason,
    error::ProcessError,
    operator::{Operator, OperatorContext},
    row::{Chunk, Data, Key, Row},
    store::{KeyRange, StoreHandle, split_window_store_key, window_store_key},
    windows::{EmitStrategy, TimeWindows, Windowed, duration_ms},
};

struct OpenWindow<K, A> {
    start_ms: i64,
    groups: Groups<K, A>,
    /// Whether the store may hold groups that memory does not.
    stored: bool,
    emitted: bool,
}

struct OpenWindows<K, A> {
    windows: Vec<OpenWindow<K, A>>,
    /// Where the previous row's window was; rows of one batch mostly share a window.
    recent: usize,
    /// Windows that start at or before this may be in the store.
    stored_until_ms: i64,
}

impl<K: Key, A> OpenWindows<K, A> {
    #[inline]
    fn at(&mut self, start_ms: i64) -> &mut OpenWindow<K, A> {
        if self
            .windows
            .get(self.recent)
            .is_none_or(|window| window.start_ms != start_ms)
        {
            let found = self
                .windows
                .binary_search_by_key(&start_ms, |window| window.start_ms);
            self.recent = found.unwrap_or_else(|at| {
                let window = OpenWindow {
                    start_ms,
                    groups: Groups::new(),
                    stored: start_ms <= self.stored_until_ms,
                    emitted: false,
                };
                self.windows.insert(at, window);
                at
            });
        }
        &mut self.windows[self.recent]
    }
}

pub(crate) struct WindowedAggregate<K, V, A, C, U> {
    codec: GroupCodec<K, A>,
    windows: TimeWindows,
    emit: EmitStrategy,
    create: Arc<C>,
    update: Arc<U>,
    max_cached_groups: usize,
    open: OpenWindows<K, A>,
    progress: OperatorProgress,
    last_row_at: Option<Timestamp>,
    rows: PhantomData<fn(V)>,
}

/// What the constructor needs besides the closures.
pub(crate) struct WindowedOptions<K, A> {
    pub(crate) codec: GroupCodec<K, A>,
    pub(crate) windows: TimeWindows,
    pub(crate) emit: EmitStrategy,
    pub(crate) max_cached_groups: usize,
}

impl<K, V, A, C, U> WindowedAggregate<K, V, A, C, U>
where
    K: Key,
    V: Data,
    A: Data,
    C: Fn(&K, V) -> A + Send + Sync,
    U: Fn(&K, V, &mut A) + Send + Sync,
{
    pub(crate) fn new(options: WindowedOptions<K, A>, create: Arc<C>, update: Arc<U>) -> Self {
        Self {
            codec: options.codec,
            windows: options.windows,
            emit: options.emit,
            create,
            update,
            max_cached_groups: options.max_cached_groups,
            open: OpenWindows {
                windows: Vec::new(),
                recent: 0,
                stored_until_ms: i64::MIN,
            },
            progress: OperatorProgress::default(),
            last_row_at: None,
            rows: PhantomData,
        }
    }

    /// Windows that end at or before this are closed.
    #[inline]
    fn close_time(&self) -> i64 {
        let by_time = self
            .progress
            .stream_time_ms
            .map(|time| time.saturating_sub(self.windows.grace_ms));
        by_time.max(self.progress.closed_until_ms).unwrap_or(i64::MIN)
    }

    #[inline]
    fn apply(
        &mut self,
        start_ms: i64,
        key: K,
        value: V,
        timestamp_ms: i64,
        store: &StoreHandle,
    ) -> Result<(), ProcessError> {
        let codec = &self.codec;
        let window = self.open.at(start_ms);
        let stored = window.stored;
        let load = |key: &K| match stored {
            true => codec.load(store, &window_store_key(start_ms, &codec.key_bytes(key)?)),
            false => Ok(None),
        };
        window
            .groups
            .apply(key, value, timestamp_ms, load, &*self.create, &*self.update)
    }

    /// Puts one row into each of its windows that are still open; returns in how many it came too late.
    #[inline]
    fn add(&mut self, row: Row<K, V>, store: &StoreHandle) -> Result<u64, ProcessError> {
        let timestamp_ms = row.timestamp.get();
        self.progress.stream_time_ms = self.progress.stream_time_ms.max(Some(timestamp_ms));
        let close_time = self.close_time();
        let mut late = 0;
        let mut start_ms = self.windows.first_start(timestamp_ms);
        // All but the last window get copies; tumbling windows have only the last.
        while start_ms.saturating_add(self.windows.advance_ms) <= timestamp_ms {
            if start_ms.saturating_add(self.windows.size_ms) > close_time {
                self.apply(start_ms, row.key.clone(), row.value.clone(), timestamp_ms, store)?;
            } else {
                late += 1;
            }
            start_ms += self.windows.advance_ms;
        }
        if start_ms.saturating_add(self.windows.size_ms) > close_time {
            self.apply(start_ms, row.key, row.value, timestamp_ms, store)?;
        } else {
            late += 1;
        }
        Ok(late)
    }

    fn emits_on_close(&self) -> bool {
        matches!(self.emit, EmitStrategy::OnWindowClose { .. })
    }

    /// Forwards the final results of windows that end by `close_time`, oldest first, and remembers how far it got, so
    /// that a restart neither repeats nor skips a window.
    fn emit_until(&mut self, close_time: i64, context: &mut OperatorContext<'_>) -> Result<(), ProcessError> {
        if Some(close_time) <= self.progress.closed_until_ms {
            return Ok(());
        }
        let mut rows = Vec::new();
        for window in &mut self.open.windows {
            let span = self.windows.window_at(window.start_ms);
            if span.end.get() > close_time || window.emitted {
                continue;
            }
            if window.stored {
                let store = context.store(&self.codec.store)?;
                load_window(&self.codec, store, window)?;
            }
            window.emitted = true;
            rows.extend(window.groups.iter().map(|group| Row {
                key: Windowed {
                    key: group.key.clone(),
                    window: span,
                },
                value: group.value.clone(),
                timestamp: Timestamp::new(group.timestamp_ms),
                headers: Vec::new(),
            }));
        }
        self.progress.closed_until_ms = Some(close_time);
        if !rows.is_empty() {
            context.forward(Chunk::new(rows));
        }
        Ok(())
    }

    /// Takes down the windows that the store holds and that have not spoken their last.
    fn find_stored_windows(&mut self, store: &StoreHandle) -> Result<(), ProcessError> {
        let closed_until_ms = self.progress.closed_until_ms.unwrap_or(0);
        let mut from_ms = closed_until_ms
            .saturating_sub(self.windows.size_ms)
            .saturating_add(1)
            .max(0);
        loop {
            let mut found = None;
            store.scan(&KeyRange::windows(from_ms, i64::MAX), &mut |key, _| {
                found = split_window_store_key(key).map(|(start_ms, _)| start_ms);
                ControlFlow::Break(())
            })?;
            let Some(start_ms) = found else { return Ok(()) };
            self.open.at(start_ms).stored = true;
            from_ms = start_ms.saturating_add(1);
        }
    }
}

/// Completes a window's groups from the store; those in memory are newer and stay.
fn load_window<K: Key, A: Data>(
    codec: &GroupCodec<K, A>,
    store: &StoreHandle,
    window: &mut OpenWindow<K, A>,
) -> Result<(), ProcessError> {
    let mut failed = None;
    let range = KeyRange::windows(window.start_ms, window.start_ms.saturating_add(1));
    store.scan(&range, &mut |store_key, stored| {
        let Some((_, key)) = split_window_store_key(store_key) else {
            return ControlFlow::Continue(());
        };
        match codec
            .key_of(key)
            .and_then(|key| Ok((key, codec.value_of(&stored)?)))
        {
            Ok((key, value)) => {
                window.groups.add_stored(key, value, stored.timestamp.get());
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    window.stored = false;
    failed.map_or(Ok(()), Err)
}

impl<K, V, A, C, U> Operator for WindowedAggregate<K, V, A, C, U>
where
    K: Key,
    V: Data,
    A: Data,
    C: Fn(&K, V) -> A + Send + Sync,
    U: Fn(&K, V, &mut A) + Send + Sync,
{
    fn init(&mut self, context: &mut OperatorContext<'_>) -> Result<(), ProcessError> {
        let store = context.store(&self.codec.store)?;
        if store.checkpoint().is_none() {
            return Ok(());
        }
        // Later windows than stream time had reached cannot be in the store, so their groups are not asked for.
        self.open.stored_until_ms = self.progress.stream_time_ms.unwrap_or(i64::MAX);
        if let Some(stream_time_ms) = self.progress.stream_time_ms {
            store.expire(stream_time_ms);
        }
        if self.emits_on_close() {
            self.find_stored_windows(store)?;
        }
        Ok(())
    }

    fn process(&mut self, chunk: Chunk, context: &mut OperatorContext<'_>) -> Result<(), ProcessError> {
        let rows: Vec<Row<K, V>> = context.take(chunk)?;
        self.last_row_at = Some(context.now());
        let store = context.store(&self.codec.store)?;
        let mut late = 0;
        for row in rows {
            late += self.add(row, store)?;
        }
        if let Some(stream_time_ms) = self.progress.stream_time_ms {
            store.expire(stream_time_ms);
        }
        context.drop_records(DropReason::Late, late);
        if self.emits_on_close() {
            self.emit_until(self.close_time(), context)?;
        }
        Ok(())
    }

    fn punctuate(&mut self, context: &mut OperatorContext<'_>) -> Result<(), ProcessError> {
        let EmitStrategy::OnWindowClose {
            idle_timeout: Some(idle_timeout),
        } = self.emit
        else {
            return Ok(());
        };
        let now = context.now();
        let silence_ms = now.distance_from_ms(*self.last_row_at.get_or_insert(now));
        if let Some(stream_time_ms) = self.progress.stream_time_ms
            && silence_ms >= duration_ms(idle_timeout)
        {
            // Stream time itself stays what records made it; only windows close.
            let close_time = stream_time_ms.saturating_add(silence_ms) - self.windows.grace_ms;
            let ends = self.open.windows.iter().filter(|window| !window.emitted);
            let ends = ends.map(|window| window.start_ms.saturating_add(self.windows.size_ms));
            // Up to the last end that is due and no further: nothing is gained by refusing later windows.
            if let Some(due_ms) = ends.filter(|end_ms| *end_ms <= close_time).max() {
                self.emit_until(due_ms, context)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self, context: &mut OperatorContext<'_>) -> Result<(), ProcessError> {
        let mut rows = Vec::new();
        let forwards = !self.emits_on_close();
        let store = context.store(&self.codec.store)?;
        for window in &mut self.open.windows {
            let span = self.windows.window_at(window.start_ms);
            for group in window.groups.dirty() {
                let timestamp = Timestamp::new(group.timestamp_ms);
                let key = window_store_key(window.start_ms, &self.codec.key_bytes(&group.key)?);
                store.put(key, self.codec.value_bytes(&group.value)?, timestamp)?;
                if forwards {
                    rows.push(Row {
                        key: Windowed {
                            key: group.key.clone(),
                            window: span,
                        },
                        value: group.value.clone(),
                        timestamp,
                        headers: Vec::new(),
                    });
                }
            }
            window.groups.mark_clean();
        }
        let expired = store.take_expired_writes();
        context.drop_records(DropReason::Expired, expired);
        self.forget_closed();
        if !rows.is_empty() {
            context.forward(Chunk::new(rows));
        }
        Ok(())
    }

    fn dirty_groups(&self) -> usize {
        self.open
            .windows
            .iter()
            .map(|window| window.groups.dirty_len())
            .sum()
    }

    fn progress(&self) -> Option<(String, OperatorProgress)> {
        Some((self.codec.store.clone(), self.progress))
    }

    fn restore_progress(&mut self, progress: &OperatorProgress) {
        self.progress = *progress;
    }
}

impl<K: Key, V: Data, A: Data, C, U> WindowedAggregate<K, V, A, C, U>
where
    C: Fn(&K, V) -> A + Send + Sync,
    U: Fn(&K, V, &mut A) + Send + Sync,
{
    /// After a flush: closed windows leave memory, and so do cold groups of open ones when there are too many.
    fn forget_closed(&mut self) {
        let (close_time, size_ms) = (self.close_time(), self.windows.size_ms);
        let on_close = self.emits_on_close();
        self.open.windows.retain(|window| {
            let closed = window.start_ms.saturating_add(size_ms) <= close_time;
            !closed || (on_close && !window.emitted)
        });
        let cached: usize = self.open.windows.iter().map(|window| window.groups.len()).sum();
        if cached > self.max_cached_groups {
            for window in &mut self.open.windows {
                if window.groups.evict_cold() > 0 {
                    window.stored = true;
                }
            }
        }
    }
}
