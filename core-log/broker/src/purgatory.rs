//! Where a long-polled fetch waits, and how an append wakes it.
//!
//! A waiting fetch makes one [`Waiter`] with the number of bytes it still lacks and registers it with
//! every partition it names. An append adds its bytes to the waiters of its partition and wakes those
//! that now have enough; anything that could change an answer (deletion, truncation, shutdown) wakes
//! all. Nothing is ever re-read on a timer (semantic 46).
//!
//! Invariants:
//! - the fetch registers before it looks at the log a last time, and an append looks at the
//!   registrations after it has released the log: one of the two always sees the other;
//! - dropping a [`Registration`] removes the waiter, so a closed connection leaves nothing behind.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// One waiting fetch.
#[derive(Debug)]
pub(crate) struct Waiter {
    notify: Notify,
    missing_bytes: AtomicI64,
}

impl Waiter {
    /// A waiter that any append wakes, until [`Waiter::raise`] says how much is missing.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Waiter {
            notify: Notify::new(),
            missing_bytes: AtomicI64::new(1),
        })
    }

    /// Before a look at the logs: any append from now on wakes.
    pub(crate) fn arm(&self) {
        self.missing_bytes.store(1, Ordering::Relaxed);
    }

    /// After the look: only `missing_bytes` of appends wake. What was appended during the look has
    /// woken already or counts, so nothing is lost; at worst the fetch looks once too often.
    pub(crate) fn raise(&self, missing_bytes: usize) {
        let missing_bytes = i64::try_from(missing_bytes).unwrap_or(i64::MAX);
        self.missing_bytes
            .fetch_add(missing_bytes.saturating_sub(1), Ordering::Relaxed);
    }

    /// Waits until enough bytes were appended or something else happened to a partition.
    pub(crate) async fn woken(&self) {
        self.notify.notified().await;
    }

    fn add(&self, bytes: i64) {
        let before = self.missing_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if before - bytes <= 0 {
            // `notify_one` stores a permit, so a fetch between two looks is not missed.
            self.notify.notify_one();
        }
    }
}

/// The fetches waiting on one partition.
#[derive(Debug, Default)]
pub(crate) struct WaitList {
    count: AtomicUsize,
    waiters: Mutex<Vec<Arc<Waiter>>>,
}

impl WaitList {
    /// Adds `waiter` until the returned registration is dropped.
    pub(crate) fn register(self: &Arc<Self>, waiter: &Arc<Waiter>) -> Registration {
        let mut waiters = self.lock();
        waiters.push(Arc::clone(waiter));
        self.count.store(waiters.len(), Ordering::Release);
        Registration {
            list: Arc::clone(self),
            waiter: Arc::clone(waiter),
        }
    }

    /// Tells the waiters that `bytes` more can be read. Costs one load when nobody waits.
    pub(crate) fn appended(&self, bytes: usize) {
        if self.count.load(Ordering::Acquire) == 0 {
            return;
        }
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        for waiter in self.lock().iter() {
            waiter.add(bytes);
        }
    }

    /// Wakes every waiter, whatever it lacks.
    pub(crate) fn wake_all(&self) {
        for waiter in self.lock().iter() {
            waiter.notify.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Waiter>>> {
        // The list is valid after every statement, so a panic elsewhere does not spoil it.
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps a waiter in a partition's list.
#[derive(Debug)]
#[must_use = "dropping it ends the wait on this partition"]
pub(crate) struct Registration {
    list: Arc<WaitList>,
    waiter: Arc<Waiter>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut waiters = self.list.lock();
        if let Some(at) = waiters.iter().position(|other| Arc::ptr_eq(other, &self.waiter)) {
            waiters.swap_remove(at);
        }
        self.list.count.store(waiters.len(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn wakes(waiter: &Waiter) -> bool {
        tokio::time::timeout(Duration::from_millis(20), waiter.woken())
            .await
            .is_ok()
    }

    #[tokio::test]
    async fn waiter_wakes_only_when_enough_bytes_came() {
        let list = Arc::new(WaitList::default());
        let waiter = Waiter::new();
        waiter.raise(100);
        let _registration = list.register(&waiter);
        list.appended(60);
        assert!(!wakes(&waiter).await);
        list.appended(40);
        assert!(wakes(&waiter).await);
    }

    #[tokio::test]
    async fn bytes_of_several_partitions_add_up() {
        let (one, two) = (Arc::new(WaitList::default()), Arc::new(WaitList::default()));
        let waiter = Waiter::new();
        waiter.raise(10);
        let _first = one.register(&waiter);
        let _second = two.register(&waiter);
        one.appended(5);
        two.appended(5);
        assert!(wakes(&waiter).await);
    }

    #[tokio::test]
    async fn dropped_registration_leaves_no_waiter() {
        let list = Arc::new(WaitList::default());
        let waiter = Waiter::new();
        drop(list.register(&waiter));
        list.appended(5);
        list.wake_all();
        assert!(!wakes(&waiter).await);
        assert!(list.lock().is_empty());
    }
}
