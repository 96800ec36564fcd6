//! Splits connectors into tasks and chooses their slots. Done by the owner of slot [`SLOT`] only.
//!
//! # Invariants
//! - No value of a placeholder is written to the log: what a plugin passes on unchanged is written as the placeholder.

use std::sync::Arc;
use std::time::Duration;

use highwater_connect_api::{Settings, TaskError};
use highwater_types::Offset;
use serde_json::{Map, Value};
use thiserror::Error;

use super::WorkerError;
use super::shared::Shared;
use crate::config::interpolate::escaped;
use crate::config::{ConfigError, ConnectorConfig, Document};
use crate::plugins::Plugin;
use crate::slots;
use crate::state::{self, PlanRecord, PlannedTask};

/// Whoever owns this slot plans.
pub(crate) const SLOT: u32 = 0;

/// How long a plugin may take to split its job; it may ask the outside system.
const SPLIT_TIMEOUT: Duration = Duration::from_secs(60);

/// Why a connector could not be planned.
#[derive(Debug, Error)]
pub(crate) enum PlanError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("the plugin cannot split the job: {0}")]
    Split(#[from] TaskError),
    #[error("the plugin did not split the job within {SPLIT_TIMEOUT:?}")]
    TimedOut,
    #[error("the plugin made {found} tasks, but tasks_max is {most}; this is a bug of the plugin")]
    TooMany { found: usize, most: usize },
    #[error("the plan cannot be written")]
    Write(#[from] WorkerError),
}

/// Plans a connector from the document at `version` of the config log, unless that is no longer the newest.
pub(super) async fn plan(
    shared: Arc<Shared>,
    name: String,
    version: Offset,
    document: Document,
) -> Result<(), PlanError> {
    let config = ConnectorConfig::resolve(&document, &shared.plugins, &shared.config.environment)?;
    let settings = split(&shared, &config, &document.settings()).await?;
    let _choosing = shared.choosing_slots.lock().await;
    let chosen = {
        let state = shared.state();
        if state
            .connector(&name)
            .is_none_or(|entry| entry.version != version)
        {
            return Ok(()); // A newer document will be planned.
        }
        let mut kept = state.last_slots(&name);
        kept.retain(|slot| *slot < shared.slot_count);
        kept.truncate(settings.len());
        let mut loads = state.loads(&name);
        for slot in &kept {
            *loads.entry(*slot).or_insert(0) += 1;
        }
        let more = settings.len() - kept.len();
        kept.extend(slots::choose(shared.slot_count, &loads, more));
        kept
    };
    let tasks = chosen
        .into_iter()
        .zip(settings)
        .map(|(slot, settings)| PlannedTask {
            slot,
            settings: settings.0,
        });
    let record = PlanRecord {
        config: version.get(),
        tasks: tasks.collect(),
    };
    tracing::info!(connector = %name, tasks = record.tasks.len(), "connector planned");
    shared
        .write_config(&state::tasks_key(&name), Some(&record))
        .await?;
    Ok(())
}

/// Settings of each task, placeholders unresolved.
async fn split(
    shared: &Shared,
    config: &ConnectorConfig,
    written: &Settings,
) -> Result<Vec<Settings>, PlanError> {
    let Some(Plugin::Source(plugin)) = shared.plugins.get(&config.plugin) else {
        // Tasks of a sink share its topics as members of one consumer group.
        return Ok(vec![written.clone(); config.tasks_max]);
    };
    let split = plugin.task_settings(&config.settings, config.tasks_max);
    let tasks = tokio::time::timeout(SPLIT_TIMEOUT, split)
        .await
        .map_err(|_| PlanError::TimedOut)??;
    if tasks.len() > config.tasks_max {
        let (found, most) = (tasks.len(), config.tasks_max);
        return Err(PlanError::TooMany { found, most });
    }
    Ok(tasks
        .into_iter()
        .map(|task| unresolved(task, &config.settings, written))
        .collect())
}

/// Puts placeholders back: a value that equals the resolved setting is written as the person wrote it, every other
/// one so that interpolation leaves it alone.
fn unresolved(task: Settings, resolved: &Settings, written: &Settings) -> Settings {
    let restored = task.0.into_iter().map(|(key, value)| {
        let value = match written.0.get(&key) {
            Some(original) if resolved.0.get(&key) == Some(&value) => original.clone(),
            _ => escape(value),
        };
        (key, value)
    });
    Settings(restored.collect())
}

fn escape(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(escaped(&text)),
        Value::Array(items) => items.into_iter().map(escape).collect(),
        Value::Object(table) => {
            let table: Map<String, Value> = table.into_iter().map(|(k, v)| (k, escape(v))).collect();
            Value::Object(table)
        }
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_)) => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_plugin_passes_on_goes_to_the_log_as_the_placeholder_it_was() {
        let written =
            Settings::from_json(json!({ "password": "${SECRET}", "symbols": ["A", "B"], "n": "${N}" }));
        let resolved = Settings::from_json(json!({ "password": "hunter2", "symbols": ["A", "B"], "n": 5 }));
        let task = resolved.clone().with("symbols", vec!["A$"]).with("share", 1);
        assert_eq!(
            unresolved(task, &resolved, &written),
            Settings::from_json(
                json!({ "password": "${SECRET}", "symbols": ["A$$"], "n": "${N}", "share": 1 })
            )
        );
    }
}
