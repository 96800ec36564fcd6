//! What became of connectors and tasks, as their workers report it in the status topic.
//!
//! # Invariants
//! - A report of an older generation never replaces one of a newer: the last words of a worker that lost its slot
//!   cannot hide what the new owner says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A connector or one of its tasks.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Subject {
    Connector(String),
    Task(String, usize),
}

impl Subject {
    pub(crate) fn key(&self) -> String {
        match self {
            Self::Connector(name) => format!("status-connector-{name}"),
            Self::Task(name, task) => format!("status-task-{name}-{task}"),
        }
    }

    fn parse(key: &str) -> Option<Self> {
        if let Some(name) = key.strip_prefix("status-connector-") {
            return Some(Self::Connector(name.to_owned()));
        }
        let (name, task) = key.strip_prefix("status-task-")?.rsplit_once('-')?;
        Some(Self::Task(name.to_owned(), task.parse().ok()?))
    }
}

/// The states that Kafka Connect's tools know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RunState {
    /// No worker runs it.
    Unassigned,
    /// It moves data.
    Running,
    /// It keeps its resources and waits.
    Paused,
    /// It has no tasks, on request.
    Stopped,
    /// It failed; `trace` says why.
    Failed,
}

/// One report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What it does.
    pub state: RunState,
    /// Which worker says so.
    pub worker_id: String,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<String>,
    /// Epoch of the slot's claim under which it runs.
    pub generation: i64,
}

#[derive(Debug, Default)]
pub(crate) struct StatusTable {
    reports: BTreeMap<Subject, Status>,
}

impl StatusTable {
    /// Takes one record of the status topic; unreadable ones are passed over.
    pub(crate) fn apply(&mut self, key: &[u8], value: Option<&[u8]>) {
        let Some(subject) = std::str::from_utf8(key).ok().and_then(Subject::parse) else {
            return;
        };
        let Some(value) = value else {
            self.reports.remove(&subject);
            return;
        };
        let Ok(status) = serde_json::from_slice::<Status>(value) else {
            tracing::warn!(?subject, "unreadable status report");
            return;
        };
        let newer = |known: &Status| known.generation > status.generation;
        if !self.reports.get(&subject).is_some_and(newer) {
            self.reports.insert(subject, status);
        }
    }

    pub(crate) fn get(&self, subject: &Subject) -> Option<&Status> {
        self.reports.get(subject)
    }

    /// Everything reported about one connector.
    pub(crate) fn subjects_of(&self, connector: &str) -> Vec<Subject> {
        let of = |subject: &&Subject| match subject {
            Subject::Connector(name) | Subject::Task(name, _) => name == connector,
        };
        self.reports.keys().filter(of).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(state: RunState, generation: i64) -> Vec<u8> {
        let status = Status {
            state,
            worker_id: format!("worker of {generation}"),
            trace: None,
            generation,
        };
        serde_json::to_vec(&status).expect("plain data")
    }

    #[test]
    fn a_late_report_of_a_worker_that_lost_the_task_changes_nothing() {
        let mut table = StatusTable::default();
        let subject = Subject::Task("my-prices-1".to_owned(), 3);
        let key = subject.key();
        table.apply(key.as_bytes(), Some(&report(RunState::Running, 10)));
        table.apply(key.as_bytes(), Some(&report(RunState::Failed, 12)));
        table.apply(key.as_bytes(), Some(&report(RunState::Running, 10)));
        assert_eq!(table.get(&subject).map(|s| s.state), Some(RunState::Failed));
        table.apply(key.as_bytes(), None);
        assert_eq!(table.get(&subject), None);
    }
}
