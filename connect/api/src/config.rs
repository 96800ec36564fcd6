//! Settings of a plugin: declared in a table, checked all at once, then read into the plugin's own struct.
//!
//! Invariants: a check reports every problem, not the first; an unknown key is a problem with a suggestion;
//! the value of a [`Kind::Password`] never appears in a message.

use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

use crate::units::{parse_duration, parse_size_bytes};

/// What a setting holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// Text that no answer, log line or error may repeat.
    Password,
    /// `true` or `false`.
    Boolean,
    /// A whole number in the given range, both ends included.
    Integer {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// A duration such as `"10s"`.
    Duration,
    /// A size such as `"64MiB"`.
    Size,
    /// A list of texts.
    List,
    /// One of the given words.
    Choice(&'static [&'static str]),
    /// A table of texts.
    Table,
}

/// One setting of a plugin.
#[derive(Debug, Clone, Copy)]
pub struct ConfigKey {
    /// The key as written in TOML.
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// The default as written in TOML, or `None` if there is none.
    pub default: Option<&'static str>,
    /// Whether it must be given.
    pub required: bool,
    /// One sentence for people: what it does, with its unit.
    pub doc: &'static str,
}

/// All settings of a plugin, in the order in which people should read them.
#[derive(Debug, Clone, Copy)]
pub struct ConfigDef {
    /// The settings.
    pub keys: &'static [ConfigKey],
}

/// One thing that is wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigProblem {
    /// The key it is about.
    pub key: String,
    /// What is wrong and how to mend it.
    pub message: String,
}

/// Why settings cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The settings do not have the shape that the plugin reads.
    #[error("the settings do not fit the plugin: {0}")]
    Shape(#[from] serde_json::Error),
}

/// The `[settings]` of one connector, or of one task of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Settings(pub serde_json::Map<String, Value>);

impl Settings {
    /// Settings from a JSON object; anything else is empty settings.
    pub fn from_json(value: Value) -> Self {
        match value {
            Value::Object(map) => Self(map),
            _ => Self::default(),
        }
    }

    /// A text setting.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(Value::as_str)
    }

    /// These settings with `key` set to `value`: how a plugin gives each task its share.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0.insert(key.to_owned(), value.into());
        self
    }

    /// Reads the settings into the plugin's own struct.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, SettingsError> {
        Ok(serde_json::from_value(Value::Object(self.0.clone()))?)
    }
}

impl ConfigDef {
    /// The definition of `name`.
    pub fn key(&self, name: &str) -> Option<&'static ConfigKey> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// Every problem of `settings`, in the order of the table, then the unknown keys.
    pub fn check(&self, settings: &Settings) -> Vec<ConfigProblem> {
        let mut problems = Vec::new();
        for key in self.keys {
            match settings.0.get(key.name) {
                None if key.required => problems.push(ConfigProblem {
                    key: key.name.to_owned(),
                    message: format!("is missing; {}", key.doc),
                }),
                None => {}
                Some(value) => problems.extend(key.complaint(value).map(|message| ConfigProblem {
                    key: key.name.to_owned(),
                    message,
                })),
            }
        }
        let names: Vec<&str> = self.keys.iter().map(|key| key.name).collect();
        for unknown in settings.0.keys().filter(|name| self.key(name).is_none()) {
            let hint = match closest(unknown, &names) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("known are {}", names.join(", ")),
            };
            problems.push(ConfigProblem {
                key: unknown.clone(),
                message: format!("is not a setting; {hint}"),
            });
        }
        problems
    }

    /// The settings with the values of passwords replaced, for answers and logs.
    pub fn masked(&self, settings: &Settings) -> Settings {
        let mut masked = settings.clone();
        for key in self.keys.iter().filter(|key| key.kind == Kind::Password) {
            if let Some(value) = masked.0.get_mut(key.name) {
                *value = Value::String("********".to_owned());
            }
        }
        masked
    }
}

impl ConfigKey {
    /// A setting that must be given.
    pub const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self {
            name,
            kind,
            default: None,
            required: true,
            doc,
        }
    }

    /// A setting that may be left out.
    pub const fn optional(name: &'static str, kind: Kind, doc: &'static str) -> Self {
        Self {
            name,
            kind,
            default: None,
            required: false,
            doc,
        }
    }

    /// The same setting with a default, as written in TOML.
    #[must_use]
    pub const fn with_default(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }

    fn complaint(&self, value: &Value) -> Option<String> {
        match self.kind {
            Kind::Text | Kind::Password => (!value.is_string()).then(|| "must be a text".to_owned()),
            Kind::Boolean => (!value.is_boolean()).then(|| "must be true or false".to_owned()),
            Kind::Integer { min, max } => match value.as_i64() {
                Some(number) if (min..=max).contains(&number) => None,
                Some(number) => Some(format!("is {number}, outside {min} to {max}")),
                None => Some(format!("must be a whole number from {min} to {max}")),
            },
            Kind::Duration => text_complaint(value, "duration", |text| parse_duration(text).err()),
            Kind::Size => text_complaint(value, "size", |text| parse_size_bytes(text).err()),
            Kind::List => match value.as_array() {
                Some(items) if items.iter().all(Value::is_string) => None,
                _ => Some("must be a list of texts".to_owned()),
            },
            Kind::Choice(words) => match value.as_str() {
                Some(word) if words.contains(&word) => None,
                Some(word) => Some(format!("is `{word}`; choose from {}", words.join(", "))),
                None => Some(format!("must be one of {}", words.join(", "))),
            },
            Kind::Table => match value.as_object() {
                Some(table) if table.values().all(Value::is_string) => None,
                _ => Some("must be a table of texts".to_owned()),
            },
        }
    }
}

fn text_complaint<E: ToString>(
    value: &Value,
    what: &str,
    error: impl FnOnce(&str) -> Option<E>,
) -> Option<String> {
    match value.as_str() {
        Some(text) => error(text).map(|error| error.to_string()),
        None => Some(format!(
            "must be a {what} written as text, such as \"10s\" or \"64MiB\""
        )),
    }
}

/// The candidate nearest to `word`, if one is near enough to be a slip of the hand.
pub fn closest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    candidates
        .iter()
        .map(|candidate| (edit_distance(word, candidate), *candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len() / 4)
        .map(|(_, candidate)| candidate)
}

fn edit_distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[right.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const DEF: ConfigDef = ConfigDef {
        keys: &[
            ConfigKey {
                name: "url",
                kind: Kind::Password,
                default: None,
                required: true,
                doc: "the database",
            },
            ConfigKey {
                name: "batch_rows",
                kind: Kind::Integer { min: 1, max: 10_000 },
                default: Some("500"),
                required: false,
                doc: "rows per statement",
            },
            ConfigKey {
                name: "wait",
                kind: Kind::Duration,
                default: None,
                required: false,
                doc: "how long",
            },
        ],
    };

    #[test]
    fn every_problem_is_reported_at_once_with_a_suggestion() {
        let settings = Settings::from_json(json!({ "batch_row": 5, "wait": "soon", "batch_rows": 0 }));
        let problems: Vec<String> = DEF
            .check(&settings)
            .into_iter()
            .map(|p| format!("{} {}", p.key, p.message))
            .collect();
        assert_eq!(
            problems,
            [
                "url is missing; the database",
                "batch_rows is 0, outside 1 to 10000",
                "wait `soon` is no duration; write a whole number and a unit, such as 250ms, 10s, 5m, 1h or 7d",
                "batch_row is not a setting; did you mean `batch_rows`?",
            ]
        );
    }

    #[test]
    fn a_password_is_masked_in_what_people_see() {
        let settings = Settings::from_json(json!({ "url": "postgres://user:secret@db/prices" }));
        assert_eq!(DEF.masked(&settings).text("url"), Some("********"));
    }

    #[test]
    fn a_word_far_from_every_key_gets_no_suggestion() {
        assert_eq!(closest("zzzzzz", &["url", "batch_rows"]), None);
        assert_eq!(closest("urll", &["url", "batch_rows"]), Some("url"));
    }
}
