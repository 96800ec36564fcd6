//! One file per kind of run. Each takes a running node and gives the run's figures, or says why the run does not
//! count.

pub(crate) mod fetch;
pub(crate) mod java;
pub(crate) mod latency;
pub(crate) mod lifecycle;
pub(crate) mod throughput;

use std::sync::atomic::{AtomicU64, Ordering};

/// A topic name that no other run has.
pub(crate) fn fresh_topic(purpose: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{purpose}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}
