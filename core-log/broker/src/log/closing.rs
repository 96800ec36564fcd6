//! Closing many logs: each writes what makes its next open quick, one sync covers all that can be covered so, and the
//! rest is synced file by file.
//!
//! Invariant: an end is reported only of a log that is durable up to it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use highwater_storage::{ClosingLog, DataDir, OffsetMap};
use highwater_types::TopicPartition;

use super::partition::Partition;

/// What became of the logs of a node.
#[derive(Debug, Default)]
pub(super) struct Closed {
    /// Ends of those that are closed, durable.
    pub(super) ends: OffsetMap,
    /// Where these start.
    pub(super) starts: OffsetMap,
    /// How many could not be closed; the log says why.
    pub(super) failed: usize,
}

/// Takes the logs out of partitions and closes them. Blocks.
pub(super) fn close(partitions: &[Arc<Partition>], data_dir: &DataDir, threads: usize) -> Closed {
    let closing = Mutex::new(Vec::with_capacity(partitions.len()));
    each(partitions.iter().collect(), threads, |partition| {
        if let Some(log) = begin(partition) {
            locked(&closing).push((partition.id(), log));
        }
    });
    let mut closing = closing.into_inner().unwrap_or_else(PoisonError::into_inner);
    data_dir.sync_together(closing.iter_mut().map(|(_, log)| log.plan_mut()));
    let closed = Mutex::new(Closed::default());
    each(closing, threads, |(id, log)| finish(id, log, &closed));
    let mut closed = closed.into_inner().unwrap_or_else(PoisonError::into_inner);
    closed.failed = partitions.len() - closed.ends.len();
    closed
}

fn begin(partition: &Partition) -> Option<ClosingLog> {
    let id = partition.id();
    match partition.take_log()?.begin_close() {
        Ok(log) => Some(log),
        Err(error) => {
            tracing::error!(topic = %id.topic, partition = %id.partition, %error, "cannot close a log");
            None
        }
    }
}

fn finish(id: &TopicPartition, log: ClosingLog, closed: &Mutex<Closed>) {
    let start = log.start_offset();
    match log.finish() {
        Ok(end) => {
            let mut closed = locked(closed);
            closed.starts.insert(id.clone(), start);
            closed.ends.insert(id.clone(), end);
        }
        Err(error) => {
            tracing::error!(topic = %id.topic, partition = %id.partition, %error, "cannot make a closed log durable");
        }
    }
}

fn locked<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Held for single insertions only.
    value.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does `work` with every item, on so many threads.
fn each<T: Send>(items: Vec<T>, threads: usize, work: impl Fn(T) + Sync) {
    let threads = threads.min(items.len());
    let items: Vec<Mutex<Option<T>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    let next = AtomicUsize::new(0);
    on_threads(threads, || {
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some(item) = locked(item).take() {
                work(item);
            }
        }
    });
}

/// Runs `work` on this thread and `threads - 1` others until all return.
pub(super) fn on_threads(threads: usize, work: impl Fn() + Sync) {
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(&work);
        }
        work();
    });
}
