//! What a plugin's settings are, and what is wrong with some: every problem, under its key.

use std::collections::BTreeMap;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use highwater_connect_api::{ConfigKey, ConfigProblem, Kind};
use serde_json::{Value, json};

use super::{Answer, RestError, object, ok};
use crate::config::{ConnectorConfig, flat};
use crate::plugins::Plugin;
use crate::worker::Worker;

fn known<'a>(worker: &'a Worker, name: &str) -> Result<&'a Plugin, RestError> {
    let missing = || RestError::new(StatusCode::NOT_FOUND, format!("there is no plugin `{name}`"));
    worker.plugins().get(name).ok_or_else(missing)
}

/// Kafka's names of value types.
fn type_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Duration | Kind::Size | Kind::Choice(_) | Kind::Table => "STRING",
        Kind::Password => "PASSWORD",
        Kind::Boolean => "BOOLEAN",
        Kind::Integer { .. } => "LONG",
        Kind::List => "LIST",
    }
}

fn definition(order: usize, key: &ConfigKey) -> Value {
    json!({
        "name": format!("settings.{}", key.name),
        "type": type_name(key.kind),
        "required": key.required,
        "default_value": key.default,
        "importance": if key.required { "HIGH" } else { "MEDIUM" },
        "documentation": key.doc,
        "group": "settings",
        "order": order,
        "width": "MEDIUM",
        "display_name": key.name,
        "dependents": [],
    })
}

pub(super) async fn definitions(State(worker): State<Worker>, Path(plugin): Path<String>) -> Answer {
    let keys = known(&worker, &plugin)?.config().keys;
    ok(&keys
        .iter()
        .enumerate()
        .map(|(order, key)| definition(order, key))
        .collect())
}

pub(super) async fn validate(State(worker): State<Worker>, Path(name): Path<String>, body: Bytes) -> Answer {
    let plugin = known(&worker, &name)?;
    let mut document = flat::from_flat("validated", &object(&body)?, None);
    let class = document.0.entry("plugin").or_insert_with(|| name.clone().into());
    if class.as_str() != Some(&name) {
        let message = format!("the configuration is for {class}, but the path for `{name}`");
        return Err(RestError::new(StatusCode::BAD_REQUEST, message));
    }
    let resolved = ConnectorConfig::resolve(&document, worker.plugins(), &worker.config().environment);
    let problems = resolved.err().map(|error| error.problems).unwrap_or_default();
    let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for ConfigProblem { key, message } in problems {
        by_key.entry(key).or_default().push(message);
    }
    let error_count = by_key.len();
    let shown = flat::to_flat(&document, worker.plugins());
    let mut configs = Vec::new();
    for (order, key) in plugin.config().keys.iter().enumerate() {
        let path = format!("settings.{}", key.name);
        let errors = by_key.remove(&path).unwrap_or_default();
        configs.push(json!({
            "definition": definition(order, key),
            "value": value(&path, shown.get(&path), recommended(key.kind), errors),
        }));
    }
    // What is left is about the connector itself, or about keys that do not exist.
    for (key, errors) in by_key {
        let definition = json!({ "name": key, "type": "STRING", "required": false, "default_value": null,
            "importance": "HIGH", "documentation": "", "group": "connector", "order": 0, "width": "MEDIUM",
            "display_name": key, "dependents": [] });
        let value = value(&key, shown.get(&key), &[], errors);
        configs.push(json!({ "definition": definition, "value": value }));
    }
    ok(&json!({
        "name": name,
        "error_count": error_count,
        "groups": ["connector", "settings"],
        "configs": configs,
    }))
}

fn recommended(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Choice(words) => words,
        _ => &[],
    }
}

fn value(name: &str, value: Option<&String>, recommended: &[&str], errors: Vec<String>) -> Value {
    json!({
        "name": name,
        "value": value,
        "recommended_values": recommended,
        "errors": errors,
        "visible": true,
    })
}
