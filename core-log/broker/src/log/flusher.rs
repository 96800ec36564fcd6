//! Who makes logs durable: a few threads of one data directory that sync partitions side by side (section 2.2).
//!
//! A partition asks and is queued once, however many acknowledgements wait on it. What is appended until a thread
//! takes it rides along (group commit); what comes while it is being synced asks for one more turn. Nobody waits on
//! purpose: an idle thread syncs at once, and under load the queue itself gathers. Syncs of different files at the
//! same time share the file system's journal, which is why there are several threads.
//!
//! Invariants:
//! - a partition is synced by one thread at a time, never under the lock its appends take;
//! - every waiter is answered: durable, or the error of the sync that should have made it so;
//! - a wish made before the threads stop is carried out or refused, never forgotten.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use metrics::{Counter, Histogram};

use super::partition::Partition;
use crate::clock::Clock;

/// A sync that takes longer is worth a line in the log.
const SLOW: Duration = Duration::from_secs(1);

/// The queue that partitions know.
#[derive(Debug)]
pub(crate) struct FlushQueue {
    clock: Clock,
    state: Mutex<State>,
    work: Condvar,
    flushes: Counter,
    failures: Counter,
    duration: Histogram,
}

#[derive(Debug, Default)]
struct State {
    ready: VecDeque<Arc<Partition>>,
    /// Partitions to look at later, the earliest on top.
    timed: BinaryHeap<Timed>,
    stopping: bool,
}

#[derive(Debug)]
struct Timed {
    at: Instant,
    partition: Weak<Partition>,
}

impl Ord for Timed {
    fn cmp(&self, other: &Self) -> Ordering {
        other.at.cmp(&self.at)
    }
}

impl PartialOrd for Timed {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Timed {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Timed {}

impl FlushQueue {
    pub(crate) fn new(clock: Clock) -> Arc<Self> {
        metrics::describe_counter!("highwater_log_flushes_total", "Syncs of partitions' logs");
        metrics::describe_counter!(
            "highwater_log_flush_failures_total",
            "Syncs of partitions' logs that failed"
        );
        metrics::describe_histogram!(
            "highwater_log_flush_duration_seconds",
            metrics::Unit::Seconds,
            "How long a sync of a partition's log took"
        );
        Arc::new(FlushQueue {
            clock,
            state: Mutex::default(),
            work: Condvar::new(),
            flushes: metrics::counter!("highwater_log_flushes_total"),
            failures: metrics::counter!("highwater_log_flush_failures_total"),
            duration: metrics::histogram!("highwater_log_flush_duration_seconds"),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here can panic half way; a poisoned queue is a queue.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a partition. Called by the partition, which knows whether it is queued already. Says whether there
    /// is anyone left to take it.
    pub(super) fn push(&self, partition: Arc<Partition>) -> bool {
        let mut state = self.lock();
        if state.stopping {
            return false;
        }
        state.ready.push_back(partition);
        drop(state);
        self.work.notify_one();
        true
    }

    /// Queues a partition after a delay.
    pub(super) fn push_later(&self, partition: &Arc<Partition>, delay: Duration) {
        let mut state = self.lock();
        let at = self.clock.instant() + delay;
        let is_next = state.timed.peek().is_none_or(|next| at < next.at);
        state.timed.push(Timed {
            at,
            partition: Arc::downgrade(partition),
        });
        drop(state);
        if is_next {
            // One thread must sleep less long than it meant to.
            self.work.notify_one();
        }
    }

    /// Waits for a partition to sync; `None` when the threads are to end.
    fn next(&self) -> Option<Arc<Partition>> {
        let mut state = self.lock();
        loop {
            let now = self.clock.instant();
            while state.timed.peek().is_some_and(|next| next.at <= now) {
                let due = state.timed.pop().and_then(|due| due.partition.upgrade());
                if let Some(partition) = due {
                    // The partition queues itself, which takes this lock.
                    drop(state);
                    partition.flush_time_has_come();
                    state = self.lock();
                }
            }
            if let Some(partition) = state.ready.pop_front() {
                return Some(partition);
            }
            if state.stopping {
                return None;
            }
            let wait = state
                .timed
                .peek()
                .map(|next| next.at.saturating_duration_since(now));
            state = match wait {
                Some(wait) => {
                    let waited = self.work.wait_timeout(state, wait);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.work.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn run(&self) {
        while let Some(partition) = self.next() {
            let started = self.clock.instant();
            let failure = partition.flush_turn();
            let took = self.clock.instant().saturating_duration_since(started);
            self.flushes.increment(1);
            self.duration.record(took);
            let id = partition.id();
            if let Some(error) = failure {
                self.failures.increment(1);
                tracing::error!(topic = %id.topic, partition = %id.partition, error = error.message,
                    "cannot make a log durable");
            } else if took > SLOW {
                tracing::warn!(topic = %id.topic, partition = %id.partition, took_ms = took.as_millis() as u64,
                    "making a log durable took long; the disk is slow or busy");
            }
        }
    }
}

/// The threads of a queue; they end with it.
#[derive(Debug)]
pub(crate) struct FlushThreads {
    queue: Arc<FlushQueue>,
    threads: Vec<JoinHandle<()>>,
}

impl FlushThreads {
    /// Starts `count` threads.
    pub(crate) fn start(queue: &Arc<FlushQueue>, count: usize) -> std::io::Result<Self> {
        let mut started = FlushThreads {
            queue: Arc::clone(queue),
            threads: Vec::with_capacity(count),
        };
        for index in 0..count {
            let queue = Arc::clone(queue);
            let name = format!("flush-{index}");
            let thread = std::thread::Builder::new()
                .name(name)
                .spawn(move || queue.run())?;
            started.threads.push(thread);
        }
        Ok(started)
    }
}

impl Drop for FlushThreads {
    fn drop(&mut self) {
        self.queue.lock().stopping = true;
        self.queue.work.notify_all();
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that makes logs durable has panicked");
            }
        }
    }
}
