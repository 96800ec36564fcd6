//! The registry of configuration keys: one table each for topics, brokers, groups and subscriptions to client metrics.
//!
//! Names, types, defaults and bounds are Kafka's (4.x), so that habits, files and tools carry over; the descriptions are
//! our own. Everything that validates, lists or documents a key loops over these tables: CreateTopics, DescribeConfigs,
//! the AlterConfigs family, a node's property file.
//!
//! Refuses: unknown keys (with a suggestion), values of the wrong type, values out of bounds. Keys of features that do
//! not exist here (tiered storage, ZooKeeper) are unknown keys.
//!
//! Invariants: names are unique within a table; every default passes its own check; every synonym of a topic's or group's
//! key is a row of the broker table. A test loops over the tables for each of them.

use std::collections::BTreeSet;

mod broker;
mod client_metrics;
mod group;
mod suggest;
mod topic;

pub use self::{
    broker::BROKER_CONFIGS, client_metrics::CLIENT_METRICS_CONFIGS, group::GROUP_CONFIGS, suggest::nearest,
    topic::TOPIC_CONFIGS,
};

/// How a value is written, with Kafka's type names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConfigType {
    /// `true` or `false`, in any case.
    Boolean,
    /// Any text.
    String,
    /// A signed number of 32 bits.
    Int,
    /// A signed number of 64 bits.
    Long,
    /// A floating-point number.
    Double,
    /// Items separated by commas; the only type that takes append and subtract.
    List,
}

/// What a value must satisfy beyond its type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Check {
    /// Everything the type can hold.
    Any,
    /// A number not below this one.
    AtLeast(i64),
    /// A number within these bounds, both included.
    Between(i64, i64),
    /// This number, or one within the bounds, both included.
    ExactlyOrBetween(i64, i64, i64),
    /// A fraction of 0 to 1, both included.
    Fraction,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A list whose items are among these words.
    EachOneOf(&'static [&'static str]),
    /// A list of bounded size.
    Items {
        /// How many items at most.
        most: usize,
        /// How long one may be.
        most_bytes: usize,
    },
    /// A list of `attribute=pattern` items about clients.
    ClientPatterns,
}

/// Whether a key can change while the broker runs. Topic keys always can.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpdateMode {
    /// Fixed by the properties the node was started with.
    ReadOnly,
    /// Changeable for one broker or for all of them (KIP-226).
    ClusterWide,
}

/// The kind of thing that a table describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConfigScope {
    /// Keys of one topic.
    Topic,
    /// Keys of a broker, or of all brokers.
    Broker,
    /// Keys of one consumer group.
    Group,
    /// Keys of one subscription to the metrics of clients.
    ClientMetrics,
}

impl ConfigScope {
    /// The word used in messages.
    pub fn noun(self) -> &'static str {
        match self {
            ConfigScope::Topic => "topic",
            ConfigScope::Broker => "broker",
            ConfigScope::Group => "group",
            ConfigScope::ClientMetrics => "client metrics",
        }
    }

    /// The table of this scope, sorted by name.
    pub fn table(self) -> &'static [ConfigDef] {
        match self {
            ConfigScope::Topic => TOPIC_CONFIGS,
            ConfigScope::Broker => BROKER_CONFIGS,
            ConfigScope::Group => GROUP_CONFIGS,
            ConfigScope::ClientMetrics => CLIENT_METRICS_CONFIGS,
        }
    }

    /// The row of a key.
    ///
    /// # Errors
    /// [`ConfigError::UnknownKey`], with the closest known key if one is close.
    pub fn find(self, key: &str) -> Result<&'static ConfigDef, ConfigError> {
        let row = self.table().iter().find(|row| row.name == key);
        row.ok_or_else(|| ConfigError::UnknownKey {
            scope: self,
            key: key.to_owned(),
            suggestion: suggest::closest(self, key),
        })
    }
}

/// A broker key that stands in for a topic's or group's key when that does not set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Synonym {
    /// The broker key.
    pub name: &'static str,
    /// What one unit of the broker key is in units of the other key: 3,600,000 for hours against milliseconds.
    pub factor: i64,
}

impl Synonym {
    /// A broker key with the same unit.
    const fn same(name: &'static str) -> Self {
        Self { name, factor: 1 }
    }
}

/// One key: a row of the registry.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConfigDef {
    /// The key, in Kafka's spelling.
    pub name: &'static str,
    /// How the value is written.
    pub config_type: ConfigType,
    /// The value when nobody sets one; `None` defers to another key (`log.retention.ms` to `log.retention.minutes`).
    pub default: Option<&'static str>,
    /// What the value must satisfy.
    pub check: Check,
    /// Whether it can change at run time.
    pub update: UpdateMode,
    /// Broker keys that supply a topic's or group's default, first one wins; empty in the broker table.
    pub synonyms: &'static [Synonym],
    /// What it does, in one or two sentences.
    pub doc: &'static str,
}

/// A value that passed its check.
#[derive(Debug, Clone, PartialEq)]
pub enum ConfigValue {
    /// See [`ConfigType::Boolean`].
    Boolean(bool),
    /// See [`ConfigType::String`].
    String(String),
    /// See [`ConfigType::Int`].
    Int(i32),
    /// See [`ConfigType::Long`].
    Long(i64),
    /// See [`ConfigType::Double`].
    Double(f64),
    /// See [`ConfigType::List`].
    List(Vec<String>),
}

/// Why a key or a value was refused. Kafka answers INVALID_CONFIG (40) unless a variant says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No such key.
    #[error("unknown {} config '{key}'{}", scope.noun(), suggest::hint(*suggestion))]
    UnknownKey {
        /// The table that was searched.
        scope: ConfigScope,
        /// The key as given.
        key: String,
        /// The key that was probably meant.
        suggestion: Option<&'static str>,
    },
    /// The value does not parse or is out of bounds.
    #[error("config '{key}' cannot be '{value}': {expected}")]
    InvalidValue {
        /// The key.
        key: &'static str,
        /// The value as given.
        value: String,
        /// What would be accepted.
        expected: String,
    },
    /// A key that counts for the whole node was given for one listener.
    #[error(
        "config '{key}' cannot be: '{of_all}' is no config that one listener can have; those are {}",
        crate::settings::LISTENER_CONFIGS.join(", ")
    )]
    NotOfAListener {
        /// The key as given.
        key: String,
        /// Without the listener.
        of_all: String,
    },
    /// A value is required.
    #[error("config '{key}' needs a value; delete the key to return to its default")]
    NullValue {
        /// The key.
        key: &'static str,
    },
    /// Append or subtract on a key that holds no list.
    #[error("config '{key}' is no list, so append and subtract do not apply; set it instead")]
    NotAList {
        /// The key.
        key: &'static str,
    },
    /// The key is fixed at start. INVALID_REQUEST (42).
    #[error(
        "config '{key}' cannot change while the broker runs; set it in the node's properties and restart"
    )]
    ReadOnly {
        /// The key.
        key: &'static str,
    },
    /// The key occurs twice in one request. INVALID_REQUEST (42).
    #[error("config '{key}' occurs more than once for the same resource")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// Two keys contradict each other.
    #[error("config '{lower}' ({lower_value}) must not exceed '{upper}' ({upper_value})")]
    Contradiction {
        /// The key whose value is too large.
        lower: &'static str,
        /// Its value.
        lower_value: i64,
        /// The key that bounds it.
        upper: &'static str,
        /// The bound.
        upper_value: i64,
    },
    /// Two keys that may not even be equal contradict each other.
    #[error("config '{lower}' ({lower_value}) must be below '{upper}' ({upper_value})")]
    NotBelow {
        /// The key whose value is too large.
        lower: &'static str,
        /// Its value.
        lower_value: i64,
        /// The key that bounds it.
        upper: &'static str,
        /// The bound.
        upper_value: i64,
    },
}

impl ConfigDef {
    /// Parses and checks a value; blanks around it do not count.
    ///
    /// # Errors
    /// [`ConfigError::InvalidValue`].
    pub fn parse(&self, text: &str) -> Result<ConfigValue, ConfigError> {
        let trimmed = text.trim();
        let parsed = match self.config_type {
            ConfigType::Boolean if trimmed.eq_ignore_ascii_case("true") => Some(ConfigValue::Boolean(true)),
            ConfigType::Boolean if trimmed.eq_ignore_ascii_case("false") => Some(ConfigValue::Boolean(false)),
            ConfigType::Boolean => None,
            ConfigType::String => Some(ConfigValue::String(trimmed.to_owned())),
            ConfigType::Int => trimmed.parse().ok().map(ConfigValue::Int),
            ConfigType::Long => trimmed.parse().ok().map(ConfigValue::Long),
            ConfigType::Double => trimmed.parse().ok().map(ConfigValue::Double),
            ConfigType::List => Some(ConfigValue::List(split_list(trimmed))),
        };
        parsed
            .filter(|value| self.check.accepts(value))
            .ok_or_else(|| ConfigError::InvalidValue {
                key: self.name,
                value: text.to_owned(),
                expected: self.expected(),
            })
    }

    /// A value in the one spelling that is kept and described: `TRUE` is `true`, `+5` is `5`, ` a , b,a ` is `a,b`.
    ///
    /// # Errors
    /// [`ConfigError::InvalidValue`].
    pub fn canonical(&self, text: &str) -> Result<String, ConfigError> {
        Ok(match self.parse(text)? {
            ConfigValue::Boolean(value) => value.to_string(),
            ConfigValue::Int(value) => value.to_string(),
            ConfigValue::Long(value) => value.to_string(),
            ConfigValue::String(value) => value,
            ConfigValue::List(items) => items.join(","),
            // A fraction has many good spellings, and ours of a large number would be no better than the given one.
            ConfigValue::Double(_) => text.trim().to_owned(),
        })
    }

    /// What the key accepts, as the end of a sentence.
    pub fn expected(&self) -> String {
        let noun = match self.config_type {
            ConfigType::Boolean => "true or false",
            ConfigType::String => "text",
            ConfigType::Int => "a whole number of 32 bits",
            ConfigType::Long => "a whole number of 64 bits",
            ConfigType::Double => "a number",
            ConfigType::List => "a comma-separated list",
        };
        match self.check {
            Check::Any => format!("expected {noun}"),
            Check::AtLeast(min) => format!("expected {noun}, at least {min}"),
            Check::Between(min, max) => format!("expected {noun} from {min} to {max}"),
            Check::ExactlyOrBetween(only, min, max) => {
                format!("expected {only}, or {noun} from {min} to {max}")
            }
            Check::Fraction => "expected a number from 0 to 1".to_owned(),
            Check::OneOf(words) => format!("expected one of {}", words.join(", ")),
            Check::EachOneOf(words) => {
                format!("expected a comma-separated list out of {}", words.join(", "))
            }
            Check::Items { most, most_bytes } => {
                format!("expected {noun} of at most {most} items, none longer than {most_bytes} bytes")
            }
            Check::ClientPatterns => "expected client_id=PATTERN or the like, separated by commas; attributes are \
                                      those of KIP-714, patterns are regular expressions without look-around and \
                                      back-references, of at most 1024 bytes"
                .to_owned(),
        }
    }
}

impl Check {
    fn accepts(self, value: &ConfigValue) -> bool {
        let number = match value {
            ConfigValue::Int(number) => Some(i64::from(*number)),
            ConfigValue::Long(number) => Some(*number),
            ConfigValue::Boolean(_)
            | ConfigValue::String(_)
            | ConfigValue::Double(_)
            | ConfigValue::List(_) => None,
        };
        match (self, value) {
            (Check::Any, _) => true,
            (Check::AtLeast(min), _) => number.is_some_and(|number| number >= min),
            (Check::Between(min, max), _) => number.is_some_and(|number| (min..=max).contains(&number)),
            (Check::ExactlyOrBetween(only, min, max), _) => {
                number.is_some_and(|number| number == only || (min..=max).contains(&number))
            }
            (Check::Fraction, ConfigValue::Double(fraction)) => (0.0..=1.0).contains(fraction),
            (Check::OneOf(words), ConfigValue::String(word)) => words.contains(&word.as_str()),
            (Check::EachOneOf(words), ConfigValue::List(items)) => {
                items.iter().all(|item| words.contains(&item.as_str()))
            }
            (Check::Items { most, most_bytes }, ConfigValue::List(items)) => {
                items.len() <= most && items.iter().all(|item| item.len() <= most_bytes)
            }
            (Check::ClientPatterns, ConfigValue::List(items)) => client_metrics::are_patterns(items),
            (
                Check::Fraction
                | Check::OneOf(_)
                | Check::EachOneOf(_)
                | Check::Items { .. }
                | Check::ClientPatterns,
                _,
            ) => false,
        }
    }
}

/// The items of a list value: trimmed, empty ones and repeats dropped (KIP-1161).
pub fn split_list(text: &str) -> Vec<String> {
    let mut seen = BTreeSet::new();
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty() && seen.insert(*item))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPES: [ConfigScope; 4] = [
        ConfigScope::Topic,
        ConfigScope::Broker,
        ConfigScope::Group,
        ConfigScope::ClientMetrics,
    ];

    #[test]
    fn tables_are_sorted_and_free_of_duplicates() {
        for scope in SCOPES {
            for pair in scope.table().windows(2) {
                assert!(
                    pair[0].name < pair[1].name,
                    "{} before {}",
                    pair[0].name,
                    pair[1].name
                );
            }
        }
    }

    #[test]
    fn every_default_passes_its_own_check() {
        for row in SCOPES.iter().flat_map(|scope| scope.table()) {
            if let Some(default) = row.default {
                row.parse(default).unwrap_or_else(|error| panic!("{error}"));
            }
            assert!(row.doc.ends_with('.'), "{} has no doc sentence", row.name);
        }
    }

    #[test]
    fn every_synonym_is_a_broker_key_and_agrees_with_the_default_of_the_topic_or_group() {
        for topic_key in TOPIC_CONFIGS.iter().chain(GROUP_CONFIGS) {
            assert!(topic_key.default.is_some(), "{} has no default", topic_key.name);
            for synonym in topic_key.synonyms {
                let broker_key = ConfigScope::Broker.find(synonym.name).unwrap();
                let Some(default) = broker_key.default else {
                    continue;
                };
                if synonym.factor == 1 {
                    assert_eq!(Some(default), topic_key.default, "{}", topic_key.name);
                } else {
                    let units: i64 = default.parse().unwrap();
                    assert_eq!(
                        (units * synonym.factor).to_string(),
                        topic_key.default.unwrap(),
                        "{}",
                        topic_key.name
                    );
                }
            }
        }
    }

    #[test]
    fn unknown_keys_name_the_key_that_was_meant() {
        let message = |scope: ConfigScope, key| scope.find(key).unwrap_err().to_string();
        assert_eq!(
            message(ConfigScope::Topic, "retention.m"),
            "unknown topic config 'retention.m'; did you mean 'retention.ms'?"
        );
        assert_eq!(
            message(ConfigScope::Topic, "log.segment.bytes"),
            "unknown topic config 'log.segment.bytes'; did you mean 'segment.bytes'?"
        );
        assert_eq!(
            message(ConfigScope::Broker, "retention.ms"),
            "unknown broker config 'retention.ms'; did you mean 'log.retention.ms'?"
        );
        assert_eq!(
            message(ConfigScope::Topic, "colour"),
            "unknown topic config 'colour'"
        );
    }

    #[test]
    fn values_are_refused_with_what_would_be_accepted() {
        let refusal = |key, value| {
            let row = ConfigScope::Topic.find(key).unwrap();
            row.parse(value).unwrap_err().to_string()
        };
        assert_eq!(
            refusal("retention.ms", "-2"),
            "config 'retention.ms' cannot be '-2': expected a whole number of 64 bits, at least -1"
        );
        assert_eq!(
            refusal("cleanup.policy", "compact,compress"),
            "config 'cleanup.policy' cannot be 'compact,compress': \
             expected a comma-separated list out of compact, delete"
        );
        assert_eq!(
            refusal("min.cleanable.dirty.ratio", "NaN"),
            "config 'min.cleanable.dirty.ratio' cannot be 'NaN': expected a number from 0 to 1"
        );
        assert_eq!(
            refusal("preallocate", "yes"),
            "config 'preallocate' cannot be 'yes': expected true or false"
        );
    }

    #[test]
    fn lists_are_trimmed_and_repeats_count_once() {
        let row = ConfigScope::Topic.find("cleanup.policy").unwrap();
        let parsed = row.parse(" compact , delete,,compact ").unwrap();
        assert_eq!(parsed, ConfigValue::List(vec!["compact".into(), "delete".into()]));
    }

    #[test]
    fn values_are_kept_in_one_spelling() {
        let kept = |key, text| ConfigScope::Topic.find(key).unwrap().canonical(text).unwrap();
        assert_eq!(kept("preallocate", " TRUE "), "true");
        assert_eq!(kept("retention.ms", "+005"), "5");
        assert_eq!(kept("max.message.bytes", " 12 "), "12");
        assert_eq!(
            kept("cleanup.policy", "delete , compact,delete"),
            "delete,compact"
        );
        assert_eq!(kept("cleanup.policy", ""), "");
        assert_eq!(kept("min.cleanable.dirty.ratio", " 0.50 "), "0.50");
        assert_eq!(kept("compression.type", " gzip "), "gzip");
    }
}
