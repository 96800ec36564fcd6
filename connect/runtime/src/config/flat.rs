//! The flat map of texts that Kafka Connect's REST API exchanges, to a [`Document`] and back.
//!
//! A key is the dotted path in the TOML form: `plugin`, `tasks_max`, `topics`, `topic.name`, `topic.partitions`,
//! `topic.config.cleanup.policy`, `format.value`, `retry.max_elapsed`, `errors.on_task_failure.max_restarts`,
//! `settings.<key>`. Kafka's `connector.class` and `tasks.max` stand for `plugin` and `tasks_max`. Lists are written
//! `a,b`, or as a JSON array when an item has a comma. Values that are no texts are taken as they are.
//!
//! # Invariants
//! - Passwords leave only masked; a masked password that comes back means "as it was".

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Document;
use crate::plugins::Plugins;

/// What a password looks like to everyone.
pub const MASK: &str = "********";

/// A document from the flat form. `name` is the one of the request's path or body; `current` is what the connector
/// has now, from which masked passwords are taken.
pub fn from_flat(name: &str, flat: &Map<String, Value>, current: Option<&Document>) -> Document {
    let mut document = Map::new();
    for (key, value) in flat {
        insert(&mut document, &path(key), value.clone());
    }
    document
        .entry("name")
        .or_insert_with(|| Value::String(name.to_owned()));
    let mut document = Document(document);
    if let Some(current) = current {
        restore_masked(&mut document, current);
    }
    document
}

/// Splits a key where its tables end: below `topic.config` and one level into `settings`, dots belong to the name.
fn path(key: &str) -> Vec<String> {
    let owned = |parts: &[&str]| parts.iter().map(|part| (*part).to_owned()).collect();
    match key {
        "connector.class" => return owned(&["plugin"]),
        "tasks.max" => return owned(&["tasks_max"]),
        _ => {}
    }
    for table in ["topic.config.", "errors.on_task_failure."] {
        if let Some(rest) = key.strip_prefix(table) {
            let mut parts: Vec<String> = table
                .trim_end_matches('.')
                .split('.')
                .map(str::to_owned)
                .collect();
            parts.push(rest.to_owned());
            return parts;
        }
    }
    if let Some(rest) = key.strip_prefix("settings.") {
        return match rest.split_once('.') {
            Some((setting, inner)) => owned(&["settings", setting, inner]),
            None => owned(&["settings", rest]),
        };
    }
    match key.split_once('.') {
        Some((section @ ("topic" | "format" | "retry" | "errors"), rest)) => owned(&[section, rest]),
        _ => owned(&[key]),
    }
}

fn insert(table: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            table.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let inner = table
                .entry(first.clone())
                .or_insert_with(|| Value::Object(Map::new()));
            // A text where a table belongs stays, and the check names it.
            if let Value::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

fn restore_masked(document: &mut Document, current: &Document) {
    let before = current.settings();
    let Some(Value::Object(settings)) = document.0.get_mut("settings") else {
        return;
    };
    for (key, value) in settings {
        if let (Some(MASK), Some(known)) = (value.as_str(), before.0.get(key)) {
            *value = known.clone();
        }
    }
}

/// The document with passwords masked.
pub fn masked(document: &Document, plugins: &Plugins) -> Document {
    let mut masked = document.clone();
    if let Some(plugin) = plugins.get(document.plugin())
        && let Some(Value::Object(settings)) = masked.0.get_mut("settings")
    {
        let hidden = plugin
            .config()
            .masked(&highwater_connect_api::Settings(std::mem::take(settings)));
        *settings = hidden.0;
    }
    masked
}

/// The flat form, passwords masked, placeholders as they were written.
pub fn to_flat(document: &Document, plugins: &Plugins) -> BTreeMap<String, String> {
    let mut flat = BTreeMap::new();
    for (key, value) in &masked(document, plugins).0 {
        flatten(key, value, &mut flat);
    }
    if let Some(plugin) = flat.remove("plugin") {
        flat.insert("connector.class".to_owned(), plugin);
    }
    if let Some(tasks) = flat.remove("tasks_max") {
        flat.insert("tasks.max".to_owned(), tasks);
    }
    flat
}

fn flatten(path: &str, value: &Value, flat: &mut BTreeMap<String, String>) {
    let text = match value {
        Value::Object(table) => {
            for (key, value) in table {
                flatten(&format!("{path}.{key}"), value, flat);
            }
            return;
        }
        Value::String(text) => text.clone(),
        Value::Array(items) => list(items).unwrap_or_else(|| value.to_string()),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
    };
    flat.insert(path.to_owned(), text);
}

fn list(items: &[Value]) -> Option<String> {
    let plain = |item: &'_ Value| {
        let text = item.as_str()?;
        (!text.contains(',') && text.trim() == text && !text.is_empty()).then(|| text.to_owned())
    };
    let texts: Vec<String> = items.iter().map(plain).collect::<Option<_>>()?;
    let joined = texts.join(",");
    (!joined.starts_with('[')).then_some(joined)
}
