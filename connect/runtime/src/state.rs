//! The config log, replayed: connectors, what is to be done with them, their tasks, and who owns which slot.
//!
//! Keys of the log (one partition, compacted; values are JSON):
//!
//! ```text
//! connector-<name>     the document, or null = deleted
//! target-state-<name>  {"state": "running" | "paused" | "stopped"}
//! tasks-<name>         {"config": <offset of the document>, "tasks": [{"slot": n, "settings": {...}}]}
//! restart-<name>       {"tasks": [n, ...] | null, "only_failed": bool}
//! claim-<slot>         {"worker": id} or {"released": <offset of the claim>}
//! ```
//!
//! All tasks of a connector are one record, so that compaction can never leave half a set.
//!
//! # Invariants
//! - A plan counts only for the very document it was made from.
//! - A claim's epoch is its offset in this log: a later owner has a larger one, for ever, also after the group
//!   forgot its generations. A release frees only the claim it names.

use std::collections::BTreeMap;

use highwater_connect_api::{Offset, Settings};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::config::{Document, TargetState};

const CONNECTOR: &str = "connector-";
const TARGET: &str = "target-state-";
const TASKS: &str = "tasks-";
const RESTART: &str = "restart-";
const CLAIM: &str = "claim-";

pub(crate) fn connector_key(name: &str) -> String {
    format!("{CONNECTOR}{name}")
}

pub(crate) fn target_key(name: &str) -> String {
    format!("{TARGET}{name}")
}

pub(crate) fn tasks_key(name: &str) -> String {
    format!("{TASKS}{name}")
}

pub(crate) fn restart_key(name: &str) -> String {
    format!("{RESTART}{name}")
}

pub(crate) fn claim_key(slot: u32) -> String {
    format!("{CLAIM}{slot}")
}

/// A record of the log that nobody can read. It is passed over.
#[derive(Debug, Error)]
pub(crate) enum StateError {
    #[error("key `{key}` is unknown")]
    Key { key: String },
    #[error("value of `{key}` cannot be read: {source}")]
    Value { key: String, source: serde_json::Error },
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct TargetRecord {
    pub(crate) state: TargetState,
}

/// The tasks of a connector, as planned from one version of its document.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlanRecord {
    pub(crate) config: i64,
    pub(crate) tasks: Vec<PlannedTask>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlannedTask {
    pub(crate) slot: u32,
    pub(crate) settings: serde_json::Map<String, serde_json::Value>,
}

impl PlannedTask {
    pub(crate) fn settings(&self) -> Settings {
        Settings(self.settings.clone())
    }
}

/// Which tasks to start anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartRequest {
    /// The tasks, or `None` for all.
    pub tasks: Option<Vec<usize>>,
    /// Whether those that did not fail stay as they are.
    pub only_failed: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClaimRecord {
    Worker(String),
    Released(i64),
}

/// Who owns a slot, since which record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) worker: String,
    pub(crate) epoch: Offset,
}

/// A plan and where it stands in the log.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    pub(crate) version: Offset,
    pub(crate) record: PlanRecord,
}

/// A connector as the log has it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct ConnectorEntry<'a> {
    pub(crate) document: &'a Document,
    /// Where the document stands in the log.
    pub(crate) version: Offset,
    pub(crate) target: TargetState,
    /// The plan made from this very document.
    pub(crate) plan: Option<&'a Plan>,
}

#[derive(Debug, Default)]
pub(crate) struct ConfigState {
    documents: BTreeMap<String, (Offset, Document)>,
    targets: BTreeMap<String, TargetState>,
    plans: BTreeMap<String, Plan>,
    claims: BTreeMap<u32, Claim>,
    restarts: Vec<(String, RestartRequest)>,
}

impl ConfigState {
    /// Replays one record.
    pub(crate) fn apply(
        &mut self,
        offset: Offset,
        key: &str,
        value: Option<&[u8]>,
    ) -> Result<(), StateError> {
        if let Some(name) = key.strip_prefix(CONNECTOR) {
            match parse::<Document>(key, value)? {
                Some(document) => {
                    self.documents.insert(name.to_owned(), (offset, document));
                }
                None => {
                    self.documents.remove(name);
                }
            }
        } else if let Some(name) = key.strip_prefix(TARGET) {
            put(
                &mut self.targets,
                name,
                parse::<TargetRecord>(key, value)?.map(|record| record.state),
            );
        } else if let Some(name) = key.strip_prefix(TASKS) {
            let plan = parse::<PlanRecord>(key, value)?.map(|record| Plan {
                version: offset,
                record,
            });
            put(&mut self.plans, name, plan);
        } else if let Some(name) = key.strip_prefix(RESTART) {
            let request = parse::<RestartRequest>(key, value)?;
            self.restarts
                .extend(request.map(|request| (name.to_owned(), request)));
        } else if let Some(slot) = key.strip_prefix(CLAIM).and_then(|slot| slot.parse().ok()) {
            self.apply_claim(offset, slot, parse::<ClaimRecord>(key, value)?);
        } else {
            return Err(StateError::Key { key: key.to_owned() });
        }
        Ok(())
    }

    fn apply_claim(&mut self, offset: Offset, slot: u32, record: Option<ClaimRecord>) {
        match record {
            Some(ClaimRecord::Worker(worker)) => {
                let epoch = offset;
                self.claims.insert(slot, Claim { worker, epoch });
            }
            Some(ClaimRecord::Released(epoch)) => {
                if self
                    .claims
                    .get(&slot)
                    .is_some_and(|claim| claim.epoch.get() == epoch)
                {
                    self.claims.remove(&slot);
                }
            }
            None => {
                self.claims.remove(&slot);
            }
        }
    }

    pub(crate) fn connector(&self, name: &str) -> Option<ConnectorEntry<'_>> {
        let (version, document) = self.documents.get(name)?;
        Some(ConnectorEntry {
            document,
            version: *version,
            target: self.targets.get(name).copied().unwrap_or_default(),
            plan: self
                .plans
                .get(name)
                .filter(|plan| plan.record.config == version.get()),
        })
    }

    pub(crate) fn connectors(&self) -> impl Iterator<Item = (&str, ConnectorEntry<'_>)> {
        self.documents
            .keys()
            .filter_map(|name| Some((name.as_str(), self.connector(name)?)))
    }

    /// Slots of the last plan, whichever document it was made from.
    pub(crate) fn last_slots(&self, name: &str) -> Vec<u32> {
        let tasks = self
            .plans
            .get(name)
            .into_iter()
            .flat_map(|plan| &plan.record.tasks);
        tasks.map(|task| task.slot).collect()
    }

    pub(crate) fn claim(&self, slot: u32) -> Option<&Claim> {
        self.claims.get(&slot)
    }

    /// Tasks per slot, those of `except` not counted.
    pub(crate) fn loads(&self, except: &str) -> BTreeMap<u32, usize> {
        let mut loads = BTreeMap::new();
        for (name, entry) in self.connectors() {
            let tasks = entry.plan.iter().flat_map(|plan| &plan.record.tasks);
            for task in tasks.filter(|_| name != except) {
                *loads.entry(task.slot).or_insert(0) += 1;
            }
        }
        loads
    }

    /// Restart requests read since the last call.
    pub(crate) fn take_restarts(&mut self) -> Vec<(String, RestartRequest)> {
        std::mem::take(&mut self.restarts)
    }
}

fn parse<T: serde::de::DeserializeOwned>(key: &str, value: Option<&[u8]>) -> Result<Option<T>, StateError> {
    value
        .map(serde_json::from_slice)
        .transpose()
        .map_err(|source| StateError::Value {
            key: key.to_owned(),
            source,
        })
}

fn put<T>(map: &mut BTreeMap<String, T>, name: &str, value: Option<T>) {
    match value {
        Some(value) => {
            map.insert(name.to_owned(), value);
        }
        None => {
            map.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn replay(records: &[(&str, serde_json::Value)]) -> ConfigState {
        let mut state = ConfigState::default();
        for (offset, (key, value)) in (0..).zip(records) {
            let bytes = (!value.is_null()).then(|| value.to_string().into_bytes());
            state
                .apply(Offset::new(offset), key, bytes.as_deref())
                .expect("readable");
        }
        state
    }

    fn plan_of(config: i64) -> serde_json::Value {
        json!({ "config": config, "tasks": [{ "slot": 3, "settings": {} }, { "slot": 5, "settings": {} }] })
    }

    #[test]
    fn a_plan_counts_only_for_the_document_it_was_made_from() {
        let state = replay(&[("connector-a", json!({})), ("tasks-a", plan_of(0))]);
        assert!(state.connector("a").expect("known").plan.is_some());
        assert_eq!(state.loads("b"), BTreeMap::from([(3, 1), (5, 1)]));
        assert_eq!(state.loads("a"), BTreeMap::new());

        let state = replay(&[
            ("connector-a", json!({})),
            ("tasks-a", plan_of(0)),
            ("connector-a", json!({ "tasks_max": 2 })),
        ]);
        assert!(state.connector("a").expect("known").plan.is_none());
    }

    #[test]
    fn the_compacted_log_gives_the_same_state_as_the_full_one() {
        // The target state stands before the document that compaction moved behind it.
        let state = replay(&[
            ("target-state-a", json!({ "state": "paused" })),
            ("connector-a", json!({})),
        ]);
        assert_eq!(state.connector("a").expect("known").target, TargetState::Paused);
    }

    #[test]
    fn a_release_frees_only_the_claim_it_names() {
        let claim = |worker: &str| json!({ "worker": worker });
        let state = replay(&[
            ("claim-7", claim("one")),
            ("claim-7", claim("two")),
            ("claim-7", json!({ "released": 0 })),
        ]);
        let owner = state.claim(7).expect("owned");
        assert_eq!((owner.worker.as_str(), owner.epoch.get()), ("two", 1));

        let state = replay(&[("claim-7", claim("one")), ("claim-7", json!({ "released": 0 }))]);
        assert_eq!(state.claim(7), None);
    }

    #[test]
    fn a_deleted_connector_is_gone_and_a_broken_record_is_an_error() {
        let mut state = replay(&[("connector-a", json!({})), ("connector-a", json!(null))]);
        assert!(state.connector("a").is_none());
        let error = state
            .apply(Offset::new(9), "tasks-a", Some(b"{"))
            .expect_err("broken");
        assert!(error.to_string().contains("tasks-a"), "{error}");
    }
}
