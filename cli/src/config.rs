//! The node's configuration: one table of keys, a file, the environment, and what is made of them.
//!
//! Reading order: [`settings`] (the table), [`mod@file`] (TOML with line numbers), this file (precedence and typed
//! values), [`machine`] (whether this machine can run it), [`mod@reference`] (the documented file).
//!
//! Precedence: the environment, the file, the default. Refuses unknown keys and variables (with the nearest name) and
//! values that cannot be meant; all problems are reported at once.
//!
//! Invariant: a key exists if and only if it is in [`settings::SETTINGS`] or in Kafka's registry of broker configs.

pub(crate) mod file;
pub(crate) mod listeners;
pub(crate) mod machine;
pub(crate) mod reference;
pub(crate) mod settings;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use highwater_broker::{BrokerId, Limits, ListenerConfig};
use highwater_cluster::config_defs::{BROKER_CONFIGS, nearest};
use highwater_cluster::{BrokerProperties, ConfigView, MetadataImage};

use self::file::Entry;
use self::settings::{SETTINGS, SettingDef};

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// What a node is told: every key has its value.
#[derive(Debug, Clone)]
pub(crate) struct ServerConfig {
    pub(crate) data_dir: PathBuf,
    pub(crate) connectors: Vec<PathBuf>,
    pub(crate) kafka: Vec<ListenerConfig>,
    pub(crate) http: SocketAddr,
    pub(crate) connect: SocketAddr,
    pub(crate) sql: SocketAddr,
    pub(crate) log_level: String,
    pub(crate) log_format: LogFormat,
    pub(crate) limits: Limits,
    /// Kafka's broker properties that somebody has set.
    pub(crate) properties: BTreeMap<String, String>,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    Default,
    Line(usize),
    Variable(String),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::Line(line) => write!(f, "line {line}"),
            Source::Variable(name) => f.write_str(name),
        }
    }
}

/// A key with the value that counts.
#[derive(Debug, Clone)]
pub(crate) struct Resolved {
    /// `section.key`, or a property's name.
    pub(crate) name: String,
    /// Nothing where the key has no default and nobody set it.
    pub(crate) value: Option<String>,
    pub(crate) source: Source,
    /// Shown by `check-config` even when nobody set it.
    pub(crate) is_setting: bool,
}

/// Something wrong with a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// `highwater.toml:7`, or the name of a variable.
    pub(crate) place: String,
    pub(crate) message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the configuration cannot be used:\n  {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n  "))]
pub(crate) struct InvalidConfig(pub(crate) Vec<Problem>);

/// What was found: a configuration, or problems.
pub(crate) struct Loaded {
    pub(crate) resolved: Vec<Resolved>,
    pub(crate) problems: Vec<Problem>,
    config: Option<ServerConfig>,
}

impl Loaded {
    /// The configuration, if nothing is wrong with it.
    pub(crate) fn into_config(self) -> Result<ServerConfig, InvalidConfig> {
        match self.config {
            Some(config) if self.problems.is_empty() => Ok(config),
            _ => Err(InvalidConfig(self.problems)),
        }
    }

    pub(crate) fn config(&self) -> Option<&ServerConfig> {
        self.config.as_ref()
    }
}

/// Reads a file and the environment.
pub(crate) fn load(path: &Path, environment: &BTreeMap<String, String>) -> Loaded {
    match std::fs::read_to_string(path) {
        Ok(text) => from_text(&path.display().to_string(), &text, environment),
        Err(error) => Loaded {
            resolved: Vec::new(),
            problems: vec![Problem {
                place: path.display().to_string(),
                message: format!("cannot be read: {error}"),
            }],
            config: None,
        },
    }
}

/// The variables of this process that are meant for a node.
pub(crate) fn process_environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| name.starts_with("HIGHWATER_"))
        .collect()
}

/// As [`load`], with the file's text at hand.
pub(crate) fn from_text(place: &str, text: &str, environment: &BTreeMap<String, String>) -> Loaded {
    let mut found = Finder::new(place);
    for entry in file::entries(place, text, &mut found.problems) {
        found.take_entry(entry);
    }
    for (name, value) in environment {
        found.take_variable(name, value);
    }
    found.finish()
}

/// A value on its way to its key.
struct Given {
    value: String,
    source: Source,
}

struct Finder<'a> {
    place: &'a str,
    settings: BTreeMap<&'static str, Given>,
    properties: BTreeMap<String, Given>,
    problems: Vec<Problem>,
}

impl<'a> Finder<'a> {
    fn new(place: &'a str) -> Self {
        Self {
            place,
            settings: BTreeMap::new(),
            properties: BTreeMap::new(),
            problems: Vec::new(),
        }
    }

    fn at(&self, source: &Source) -> String {
        match source {
            Source::Default => self.place.to_owned(),
            Source::Line(line) => format!("{}:{line}", self.place),
            Source::Variable(name) => name.clone(),
        }
    }

    fn problem(&mut self, source: &Source, message: String) {
        let place = self.at(source);
        self.problems.push(Problem { place, message });
    }

    fn take_entry(&mut self, entry: Entry) {
        let source = Source::Line(entry.line);
        if entry.section == settings::PROPERTIES {
            return self.take_property(entry.key, entry.value, source);
        }
        match settings::find(&entry.section, &entry.key) {
            Ok(def) => self.take(def, entry.value, source),
            Err(message) => self.problem(&source, message),
        }
    }

    /// `HIGHWATER_<SECTION>_<KEY>`; other variables of ours (HIGHWATER_LOG, ...) are not about this.
    fn take_variable(&mut self, name: &str, value: &str) {
        let source = Source::Variable(name.to_owned());
        if let Some(property) = name.strip_prefix("HIGHWATER_PROPERTY_") {
            let key = property.to_ascii_lowercase().replace('_', ".");
            return self.take_property(key, value.to_owned(), source);
        }
        if let Some(def) = SETTINGS.iter().find(|def| def.variable() == name) {
            return self.take(def, value.to_owned(), source);
        }
        let sections = settings::sections();
        let is_ours = { sections }.any(|section| {
            name.strip_prefix("HIGHWATER_")
                .and_then(|rest| rest.strip_prefix(section.to_ascii_uppercase().as_str()))
                .is_some_and(|rest| rest.starts_with('_'))
        });
        if is_ours {
            let known: Vec<String> = SETTINGS.iter().map(SettingDef::variable).collect();
            let hint = nearest(name, known.iter().map(String::as_str));
            let hint = hint
                .map(|name| format!("; did you mean {name}?"))
                .unwrap_or_default();
            self.problem(&source, format!("no key has this variable{hint}"));
        }
    }

    fn take(&mut self, def: &'static SettingDef, value: String, source: Source) {
        match def.kind.check(&value) {
            Ok(()) => {
                self.settings.insert(def.name, Given { value, source });
            }
            Err(expected) => {
                self.problem(
                    &source,
                    format!("{} cannot be '{value}': expected {expected}", def.name),
                );
            }
        }
    }

    fn take_property(&mut self, key: String, value: String, source: Source) {
        match BrokerProperties::check(&key, &value) {
            Ok(()) => {
                self.properties.insert(key, Given { value, source });
            }
            Err(error) => self.problem(&source, error.to_string()),
        }
    }

    fn finish(mut self) -> Loaded {
        let mut resolved = Vec::new();
        for def in SETTINGS {
            let given = self.settings.get(def.name);
            if given.is_none() && def.is_required {
                let message = format!(
                    "{} is missing; set it in [{}] or as {}",
                    def.name,
                    def.section(),
                    def.variable()
                );
                self.problems.push(Problem {
                    place: self.place.to_owned(),
                    message,
                });
            }
            resolved.push(Resolved {
                name: def.name.to_owned(),
                value: given
                    .map(|given| given.value.clone())
                    .or(def.default.map(str::to_owned)),
                source: given.map_or(Source::Default, |given| given.source.clone()),
                is_setting: true,
            });
        }
        self.check_properties_together();
        for def in BROKER_CONFIGS {
            let given = self.properties.get(def.name);
            resolved.push(Resolved {
                name: def.name.to_owned(),
                value: given
                    .map(|given| given.value.clone())
                    .or(def.default.map(str::to_owned)),
                source: given.map_or(Source::Default, |given| given.source.clone()),
                is_setting: false,
            });
        }
        // Those of single listeners.
        let of_all = |key: &str| BROKER_CONFIGS.iter().any(|def| def.name == key);
        let others = self.properties.iter().filter(|(key, _)| !of_all(key));
        resolved.extend(others.map(|(key, given)| Resolved {
            name: key.clone(),
            value: Some(given.value.clone()),
            source: given.source.clone(),
            is_setting: false,
        }));
        if self.problems.is_empty()
            && let Err(message) = listeners_of(&resolved)
        {
            self.problem(&Source::Default, message);
        }
        let config = if self.problems.is_empty() {
            self.build(&resolved)
        } else {
            None
        };
        Loaded {
            resolved,
            problems: self.problems,
            config,
        }
    }

    /// Values that are fine one by one may contradict each other.
    fn check_properties_together(&mut self) {
        let values = self
            .properties
            .iter()
            .map(|(key, given)| (key.clone(), given.value.clone()));
        let checked = BrokerProperties::new(values.collect()).and_then(|properties| {
            let view = ConfigView {
                image: &MetadataImage::default(),
                broker_id: BrokerId::new(1),
                properties: &properties,
            };
            view.broker_settings().map(drop)
        });
        if let Err(error) = checked {
            self.problem(&Source::Default, error.to_string());
        }
    }

    /// Every value has passed its check, so nothing here fails but a defect of the table.
    fn build(&self, resolved: &[Resolved]) -> Option<ServerConfig> {
        let text = |name: &str| {
            let found = resolved.iter().find(|resolved| resolved.name == name)?;
            found.value.as_deref()
        };
        let address = |name: &str| text(name)?.parse::<SocketAddr>().ok();
        let bytes = |name: &str| text(name)?.parse::<usize>().ok();
        let time = |name: &str| text(name)?.parse().ok().map(Duration::from_millis);
        let limits = Limits {
            request_memory_bytes: bytes("limits.request_memory_bytes")?,
            response_memory_bytes: bytes("limits.response_memory_bytes")?,
            slow_frame_timeout: time("limits.slow_frame_timeout_ms")?,
            write_timeout: time("limits.write_timeout_ms")?,
            drain_timeout: time("limits.drain_timeout_ms")?,
            ..Limits::default()
        };
        let properties = self
            .properties
            .iter()
            .map(|(key, given)| (key.clone(), given.value.clone()));
        Some(ServerConfig {
            data_dir: text("node.data_dir")?.into(),
            connectors: settings::items(text("node.connectors")?)
                .map(PathBuf::from)
                .collect(),
            kafka: listeners_of(resolved).ok()?,
            http: address("listeners.http")?,
            connect: address("listeners.connect")?,
            sql: address("listeners.sql")?,
            log_level: text("logging.level")?.to_owned(),
            log_format: match text("logging.format")? {
                "json" => LogFormat::Json,
                _ => LogFormat::Text,
            },
            limits,
            properties: properties.collect(),
        })
    }
}

fn listeners_of(resolved: &[Resolved]) -> Result<Vec<ListenerConfig>, String> {
    let text = |name: &str| {
        let found = resolved.iter().find(|resolved| resolved.name == name)?;
        found.value.as_deref()
    };
    listeners::build(
        text("listeners.kafka").unwrap_or_default(),
        text("listeners.advertised"),
        text("listeners.protocols"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
        let environment = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let loaded = from_text("hw.toml", text, &environment.collect());
        loaded.problems.iter().map(ToString::to_string).collect()
    }

    const LEAST: &str = "[node]\ndata_dir = \"/data\"\n";

    #[test]
    fn every_problem_has_its_line_and_the_nearest_name() {
        let text = "[node]\ndata_dri = \"/data\"\n[listener]\nkafka = \"0.0.0.0:9092\"\n[listeners]\nhttp = \"9\"\n\
                    [properties]\n\"log.retention.hour\" = 1\nnum.partitions = \"many\"\n";
        assert_eq!(
            problems(text, &[]),
            [
                "hw.toml:2: unknown key 'data_dri' in [node]; did you mean 'data_dir'?",
                "hw.toml:4: unknown section [listener]; did you mean [listeners]?",
                "hw.toml:6: listeners.http cannot be '9': expected an address and a port, such as 127.0.0.1:8080",
                "hw.toml:8: unknown broker config 'log.retention.hour'; did you mean 'log.retention.hours'?",
                "hw.toml:9: config 'num.partitions' cannot be 'many': expected a whole number of 32 bits, at least 1",
                "hw.toml: node.data_dir is missing; set it in [node] or as HIGHWATER_NODE_DATA_DIR",
            ]
        );
    }

    #[test]
    fn text_that_is_not_toml_is_refused_with_its_line() {
        let found = problems("[node]\ndata_dir = \n", &[]);
        assert!(found[0].starts_with("hw.toml:2: "), "{found:?}");
    }

    #[test]
    fn the_environment_wins_over_the_file_and_unknown_variables_of_ours_are_refused() {
        let text = format!("{LEAST}[listeners]\nkafka = \"0.0.0.0:1\"\n");
        let environment = BTreeMap::from(
            [
                ("HIGHWATER_LISTENERS_KAFKA", "0.0.0.0:2"),
                ("HIGHWATER_PROPERTY_NUM_PARTITIONS", "7"),
                ("HIGHWATER_LOG", "debug"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let config = from_text("hw.toml", &text, &environment).into_config().unwrap();
        assert_eq!(config.kafka[0].bind.port(), 2);
        assert_eq!(config.properties["num.partitions"], "7");
        assert_eq!(
            problems(LEAST, &[("HIGHWATER_LISTENERS_KAFAK", "x")]),
            ["HIGHWATER_LISTENERS_KAFAK: no key has this variable; did you mean HIGHWATER_LISTENERS_KAFKA?"]
        );
    }

    #[test]
    fn defaults_are_those_of_the_code() {
        let config = from_text("hw.toml", LEAST, &BTreeMap::new())
            .into_config()
            .unwrap();
        let limits = Limits::default();
        assert_eq!(config.limits.request_memory_bytes, limits.request_memory_bytes);
        assert_eq!(config.limits.response_memory_bytes, limits.response_memory_bytes);
        assert_eq!(config.limits.slow_frame_timeout, limits.slow_frame_timeout);
        assert_eq!(config.limits.write_timeout, limits.write_timeout);
        assert_eq!(config.limits.drain_timeout, limits.drain_timeout);
        assert_eq!(config.log_format, LogFormat::Text);
    }
}
