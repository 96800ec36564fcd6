//! What an application has done, counted for its owner and for Prometheus.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use highwater_streams_engine::{DropReason, task::Task};

/// Counters of a process, shared by its workers.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) records_in: AtomicU64,
    pub(crate) records_out: AtomicU64,
    pub(crate) changelog_records: AtomicU64,
    pub(crate) restored_records: AtomicU64,
    pub(crate) commits: AtomicU64,
    pub(crate) failures: AtomicU64,
    dropped: Mutex<BTreeMap<(String, DropReason), u64>>,
}

/// Counts since the application started in this process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamsMetrics {
    /// Rows that went into tasks.
    pub records_in: u64,
    /// Records sent to output and repartition topics.
    pub records_out: u64,
    /// Changed groups written to changelogs.
    pub changelog_records: u64,
    /// Records read from changelogs to restore state.
    pub restored_records: u64,
    /// Commits of tasks.
    pub commits: u64,
    /// Times a worker's tasks were opened again after an error.
    pub failures: u64,
    /// Records left out, by operator and reason (semantic row 91).
    pub dropped: BTreeMap<(String, DropReason), u64>,
    /// Tasks that run, and tasks that are being restored.
    pub running_tasks: usize,
    /// Tasks whose state is on its way.
    pub restoring_tasks: usize,
}

pub(crate) fn add(counter: &AtomicU64, name: &'static str, application: &str, count: u64) {
    if count > 0 {
        counter.fetch_add(count, Ordering::Relaxed);
        metrics::counter!(name, "application" => application.to_owned()).increment(count);
    }
}

impl Counters {
    /// Adds what a task dropped since it was last asked; `seen` remembers what was counted.
    pub(crate) fn add_drops(
        &self,
        application: &str,
        task: &Task,
        seen: &mut BTreeMap<(String, DropReason), u64>,
    ) {
        for (operator, reason, count) in task.drops() {
            let counted = seen.entry((operator.to_owned(), reason)).or_insert(0);
            let fresh = count - *counted;
            if fresh == 0 {
                continue;
            }
            if *counted == 0 {
                // Once per task and reason; the counters tell the rest.
                tracing::warn!(application, task = %task.id(), operator, reason = %reason, "records dropped");
            }
            *counted = count;
            let mut dropped = self.dropped.lock().unwrap_or_else(PoisonError::into_inner);
            *dropped.entry((operator.to_owned(), reason)).or_insert(0) += fresh;
            metrics::counter!(
                "highwater_streams_dropped_records_total",
                "application" => application.to_owned(),
                "operator" => operator.to_owned(),
                "reason" => reason.as_str(),
            )
            .increment(fresh);
        }
    }

    pub(crate) fn snapshot(&self) -> StreamsMetrics {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StreamsMetrics {
            records_in: read(&self.records_in),
            records_out: read(&self.records_out),
            changelog_records: read(&self.changelog_records),
            restored_records: read(&self.restored_records),
            commits: read(&self.commits),
            failures: read(&self.failures),
            dropped: self
                .dropped
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            running_tasks: 0,
            restoring_tasks: 0,
        }
    }
}
