//! Reads one table of a document and notes every problem under its dotted key.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use highwater_connect_api::{ConfigDef, ConfigProblem, Kind, config::closest, units::parse_duration};
use serde_json::{Map, Value};

pub(super) struct Reader<'a> {
    section: &'a str,
    table: &'a Map<String, Value>,
    problems: &'a mut Vec<ConfigProblem>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        section: &'a str,
        table: &'a Map<String, Value>,
        problems: &'a mut Vec<ConfigProblem>,
    ) -> Self {
        Self {
            section,
            table,
            problems,
        }
    }

    fn path(&self, key: &str) -> String {
        match self.section {
            "" => key.to_owned(),
            section => format!("{section}.{key}"),
        }
    }

    fn complain(&mut self, key: &str, message: impl Into<String>) {
        let key = self.path(key);
        self.problems.push(ConfigProblem {
            key,
            message: message.into(),
        });
    }

    pub(super) fn text(&mut self, key: &str) -> Option<String> {
        match self.table.get(key)? {
            Value::String(text) => Some(text.clone()),
            _ => {
                self.complain(key, "must be a text");
                None
            }
        }
    }

    pub(super) fn required_text(&mut self, key: &str, what: &str) -> Option<String> {
        if !self.table.contains_key(key) {
            self.complain(key, format!("is missing; it says {what}"));
        }
        self.text(key)
    }

    pub(super) fn integer(&mut self, key: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let value = coerced_integer(self.table.get(key)?);
        match value.as_i64() {
            Some(number) if range.contains(&number) => Some(number),
            _ => {
                let (min, max) = range.into_inner();
                self.complain(key, format!("must be a whole number from {min} to {max}"));
                None
            }
        }
    }

    pub(super) fn boolean(&mut self, key: &str) -> Option<bool> {
        match coerced_boolean(self.table.get(key)?) {
            Value::Bool(flag) => Some(flag),
            _ => {
                self.complain(key, "must be true or false");
                None
            }
        }
    }

    pub(super) fn duration(&mut self, key: &str) -> Option<Duration> {
        let text = self.text(key)?;
        match parse_duration(&text) {
            Ok(duration) => Some(duration),
            Err(error) => {
                self.complain(key, error.to_string());
                None
            }
        }
    }

    pub(super) fn choice(&mut self, key: &str, words: &[&'static str]) -> Option<&'static str> {
        let text = self.text(key)?;
        let chosen = words.iter().find(|word| **word == text);
        if chosen.is_none() {
            self.complain(key, format!("is `{text}`; choose from {}", words.join(", ")));
        }
        chosen.copied()
    }

    pub(super) fn list(&mut self, key: &str) -> Option<Vec<String>> {
        let value = coerced_list(self.table.get(key)?);
        let texts = value.as_array().and_then(|items| {
            items
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
        });
        if texts.is_none() {
            self.complain(key, "must be a list of texts");
        }
        texts
    }

    pub(super) fn table(&mut self, key: &str) -> Map<String, Value> {
        match self.table.get(key) {
            None => Map::new(),
            Some(Value::Object(table)) => table.clone(),
            Some(_) => {
                self.complain(key, "must be a table");
                Map::new()
            }
        }
    }

    /// A table whose values are texts; numbers and booleans are taken as their texts.
    pub(super) fn texts(&mut self, key: &str) -> BTreeMap<String, String> {
        let mut texts = BTreeMap::new();
        for (name, value) in self.table(key) {
            match value {
                Value::String(text) => {
                    texts.insert(name, text);
                }
                Value::Number(_) | Value::Bool(_) => {
                    texts.insert(name, value.to_string());
                }
                _ => self.complain(&format!("{key}.{name}"), "must be a text"),
            }
        }
        texts
    }

    pub(super) fn refuse_unknown(&mut self, known: &[&str]) {
        for key in self.table.keys().filter(|key| !known.contains(&key.as_str())) {
            let hint = match closest(key, known) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are {}", known.join(", ")),
            };
            let path = self.path(key);
            self.problems.push(ConfigProblem {
                key: path,
                message: format!("is not a key of a connector; {hint}"),
            });
        }
    }
}

/// Texts turned into what the schema wants: a placeholder can only ever be a text, and so can every value of the
/// flat form. What does not fit stays as it is, for the check to name.
pub(crate) fn coerced(def: ConfigDef, mut settings: Map<String, Value>) -> Map<String, Value> {
    for key in def.keys {
        if let Some(value) = settings.get_mut(key.name) {
            *value = match key.kind {
                Kind::Integer { .. } => coerced_integer(value),
                Kind::Boolean => coerced_boolean(value),
                Kind::List => coerced_list(value),
                Kind::Text | Kind::Password | Kind::Duration | Kind::Size | Kind::Choice(_) | Kind::Table => {
                    continue;
                }
            };
        }
    }
    settings
}

fn coerced_integer(value: &Value) -> Value {
    match value.as_str().and_then(|text| text.trim().parse::<i64>().ok()) {
        Some(number) => number.into(),
        None => value.clone(),
    }
}

fn coerced_boolean(value: &Value) -> Value {
    match value.as_str() {
        Some("true") => true.into(),
        Some("false") => false.into(),
        _ => value.clone(),
    }
}

/// `a, b` or a JSON array, written as one text.
fn coerced_list(value: &Value) -> Value {
    let Some(text) = value.as_str() else {
        return value.clone();
    };
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).unwrap_or_else(|_| value.clone());
    }
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .collect()
}
