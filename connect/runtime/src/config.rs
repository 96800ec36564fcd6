//! What a connector is: read from a [`Document`], checked as a whole, every problem reported.
//!
//! A document is what a person wrote, with its `${VAR}` placeholders; it is what the config topic and the REST
//! answers hold. A [`ConnectorConfig`] is what runs: placeholders resolved, texts turned into what the schema
//! wants. Resolving happens only on the worker that runs the task, so that no secret leaves it.
//!
//! ```toml
//! name = "btc-prices"                 # the file's stem if left out
//! plugin = "binance"                  # decides whether this is a source or a sink
//! tasks_max = 2
//! state = "running"                   # running | paused | stopped; at the first start only
//!
//! [settings]                          # the plugin's own
//! symbols = ["BTCUSDT"]
//! base_url = "${BINANCE_URL:-https://data-api.binance.vision}"
//!
//! [topic]                             # of a source; a sink has `topics = ["a", "b"]` at the top instead
//! name = "btc_prices"
//! partitions = 3
//! config = { "retention.ms" = "86400000" }
//!
//! [format]
//! key = "string"                      # json | string | bytes
//! value = "json"
//!
//! [retry]                             # of what a task reports as retriable
//! max_elapsed = "10m"
//! initial = "300ms"
//! max = "60s"
//!
//! [errors]
//! tolerance = "all"                   # none | all: what a bad record does
//! dead_letter_topic = "dlq.prices"    # sinks only
//! context_headers = true
//! on_task_failure = { restart = "backoff", initial = "1s", max = "60s", max_restarts = 10, window = "1h" }
//! ```
//!
//! # Invariants
//! - Reading reports every problem, not the first; an unknown key is a problem with a suggestion.
//! - Interpolation happens after parsing, in strings only, so a value can never become structure.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater_connect_api::{ConfigProblem, Converter, Settings, TopicName};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::plugins::{Plugin, Plugins};
use crate::retry::{RestartPolicy, RetryPolicy};

pub mod check;
pub mod flat;
pub mod interpolate;
mod reader;
pub mod toml_file;

pub use check::{ConnectorFile, Problem, Report, check};
pub use interpolate::{Environment, process_environment};

use reader::Reader;
pub(crate) use reader::coerced;

/// Most tasks one connector may ask for.
pub const MAX_TASKS: i64 = 1_024;

const TOP_KEYS: &[&str] = &[
    "name",
    "plugin",
    "tasks_max",
    "state",
    "settings",
    "topic",
    "topics",
    "format",
    "retry",
    "errors",
];

/// A connector as a person wrote it, placeholders unresolved.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Document(pub Map<String, Value>);

impl Document {
    /// The connector's name, or an empty text when there is none.
    pub fn name(&self) -> &str {
        self.text("name")
    }

    /// The plugin's name, or an empty text when there is none.
    pub fn plugin(&self) -> &str {
        self.text("plugin")
    }

    fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// The `[settings]`.
    pub fn settings(&self) -> Settings {
        Settings::from_json(self.0.get("settings").cloned().unwrap_or_default())
    }
}

/// What is to be done with a connector; survives restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TargetState {
    /// Its tasks move data.
    #[default]
    Running,
    /// Its tasks keep their resources and wait.
    Paused,
    /// It has no tasks.
    Stopped,
}

/// A connector that can run.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectorConfig {
    /// Its name.
    pub name: String,
    /// Its plugin.
    pub plugin: String,
    /// Most tasks it may be split into.
    pub tasks_max: usize,
    /// Its state when it is created.
    pub initial_state: TargetState,
    /// The plugin's settings.
    pub settings: Settings,
    /// Which topics it writes or reads.
    pub topics: Topics,
    /// Reads and writes keys.
    pub key: Converter,
    /// Reads and writes values.
    pub value: Converter,
    /// How long and how often to try again.
    pub retry: RetryPolicy,
    /// What bad records and failed tasks lead to.
    pub errors: ErrorPolicy,
}

/// Topics of a connector.
#[derive(Debug, Clone, PartialEq)]
pub enum Topics {
    /// Where a source writes.
    Source(SourceTopic),
    /// What a sink reads.
    Sink(Vec<TopicName>),
}

/// Where a source writes, and how the topic is created.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SourceTopic {
    /// The topic; `None` when every record of the plugin names its own.
    pub name: Option<TopicName>,
    /// Partitions if it must be created; `None` leaves it to the broker.
    pub partitions: Option<i32>,
    /// Topic configuration if it must be created.
    pub config: BTreeMap<String, String>,
}

/// `[errors]`.
#[derive(Debug, Clone, PartialEq)]
pub struct ErrorPolicy {
    /// Whether a bad record is passed over instead of failing the task.
    pub tolerates_bad_records: bool,
    /// Where bad records of a sink go.
    pub dead_letter_topic: Option<TopicName>,
    /// Whether dead letters carry `__connect.errors.*` headers.
    pub context_headers: bool,
    /// What happens to a failed task.
    pub restart: RestartPolicy,
}

/// Why a document is no connector.
#[derive(Debug, Error)]
#[error("connector configuration has {} problem(s): {}", .problems.len(), list(.problems))]
pub struct ConfigError {
    /// Everything that is wrong.
    pub problems: Vec<ConfigProblem>,
}

fn list(problems: &[ConfigProblem]) -> String {
    let lines: Vec<String> = problems
        .iter()
        .map(|problem| format!("`{}` {}", problem.key, problem.message))
        .collect();
    lines.join("; ")
}

impl ConnectorConfig {
    /// Resolves and checks a document.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem found.
    pub fn resolve(
        document: &Document,
        plugins: &Plugins,
        environment: &Environment,
    ) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let resolved = interpolate::document(document, environment, &mut problems);
        let config = Self::read(&resolved, plugins, &mut problems);
        match config {
            Some(config) if problems.is_empty() => Ok(config),
            _ => Err(ConfigError { problems }),
        }
    }

    fn read(document: &Document, plugins: &Plugins, problems: &mut Vec<ConfigProblem>) -> Option<Self> {
        let mut top = Reader::new("", &document.0, problems);
        let name = top.required_text("name", "how the connector is called everywhere");
        let plugin_name = top.required_text("plugin", "which plugin moves the data");
        let tasks_max = top.integer("tasks_max", 1..=MAX_TASKS).unwrap_or(1);
        let initial_state = match top.choice("state", &["running", "paused", "stopped"]) {
            Some("paused") => TargetState::Paused,
            Some("stopped") => TargetState::Stopped,
            _ => TargetState::Running,
        };
        let sink_topics = top.list("topics");
        let settings = top.table("settings");
        let (topic, format) = (top.table("topic"), top.table("format"));
        let (retry, errors) = (top.table("retry"), top.table("errors"));
        top.refuse_unknown(TOP_KEYS);

        let plugin = plugin_name
            .as_deref()
            .and_then(|name| known_plugin(name, plugins, problems));
        let settings = match plugin {
            Some(plugin) => read_settings(plugin, settings, problems),
            None => Settings(settings),
        };
        let is_sink = matches!(plugin, Some(Plugin::Sink(_)));
        let topics = match plugin {
            Some(Plugin::Sink(_)) => read_sink_topics(sink_topics, &document.0, problems),
            _ => read_source_topic(&topic, sink_topics.is_some() && plugin.is_some(), problems),
        };
        let (key, value) = read_format(&format, problems);
        let retry = read_retry(&retry, problems);
        let errors = read_errors(&errors, is_sink || plugin.is_none(), problems);
        Some(Self {
            name: checked_name(name?, problems),
            plugin: plugin_name?,
            tasks_max: usize::try_from(tasks_max).ok()?,
            initial_state,
            settings,
            topics,
            key,
            value,
            retry,
            errors,
        })
    }

    /// The consumer group of a sink's tasks, as Kafka Connect names it.
    pub fn sink_group(name: &str) -> String {
        format!("connect-{name}")
    }
}

fn problem(key: impl Into<String>, message: impl Into<String>) -> ConfigProblem {
    ConfigProblem {
        key: key.into(),
        message: message.into(),
    }
}

/// Names become parts of topic keys, group names, paths of URLs and metric labels.
fn checked_name(name: String, problems: &mut Vec<ConfigProblem>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    // Paths of URLs made of dots alone are never sent as they are.
    let is_path = name == "." || name == "..";
    if name.is_empty() || name.len() > 200 || !name.chars().all(plain) || is_path {
        problems.push(problem(
            "name",
            format!("is `{name}`; use 1 to 200 letters, digits, `-`, `_` and `.`, and not dots alone"),
        ));
    }
    name
}

fn known_plugin<'a>(
    name: &str,
    plugins: &'a Plugins,
    problems: &mut Vec<ConfigProblem>,
) -> Option<&'a Plugin> {
    let found = plugins.get(name);
    if found.is_none() {
        let names = plugins.names();
        let hint = match highwater_connect_api::config::closest(name, &names) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("known are {}", names.join(", ")),
        };
        problems.push(problem("plugin", format!("there is no plugin `{name}`; {hint}")));
    }
    found
}

fn read_settings(
    plugin: &Plugin,
    settings: Map<String, Value>,
    problems: &mut Vec<ConfigProblem>,
) -> Settings {
    let def = plugin.config();
    let settings = Settings(reader::coerced(def, settings));
    let mut found = def.check(&settings);
    if found.is_empty() {
        // The plugin's own check may rely on every value having its declared kind.
        found = plugin.check(&settings);
    }
    problems.extend(
        found
            .into_iter()
            .map(|p| problem(format!("settings.{}", p.key), p.message)),
    );
    settings
}

fn topic_name(key: &str, name: &str, problems: &mut Vec<ConfigProblem>) -> Option<TopicName> {
    TopicName::new(name)
        .map_err(|error| problems.push(problem(key, error.to_string())))
        .ok()
}

fn read_sink_topics(
    topics: Option<Vec<String>>,
    document: &Map<String, Value>,
    problems: &mut Vec<ConfigProblem>,
) -> Topics {
    if document.contains_key("topic") {
        problems.push(problem(
            "topic",
            "is for sources; a sink names what it reads with topics = [\"...\"]",
        ));
    }
    let topics = topics.unwrap_or_default();
    if topics.is_empty() {
        problems.push(problem(
            "topics",
            "is missing; name the topics that the sink reads",
        ));
    }
    let names = topics
        .iter()
        .filter_map(|name| topic_name("topics", name, problems));
    Topics::Sink(names.collect())
}

fn read_source_topic(
    table: &Map<String, Value>,
    has_sink_topics: bool,
    problems: &mut Vec<ConfigProblem>,
) -> Topics {
    if has_sink_topics {
        problems.push(problem(
            "topics",
            "is for sinks; a source writes to the `name` under [topic]",
        ));
    }
    let mut reader = Reader::new("topic", table, problems);
    let name = reader.text("name");
    let partitions = reader
        .integer("partitions", 1..=100_000)
        .and_then(|n| i32::try_from(n).ok());
    let config = reader.texts("config");
    reader.refuse_unknown(&["name", "partitions", "config"]);
    let name = name.and_then(|name| topic_name("topic.name", &name, problems));
    Topics::Source(SourceTopic {
        name,
        partitions,
        config,
    })
}

fn read_format(table: &Map<String, Value>, problems: &mut Vec<ConfigProblem>) -> (Converter, Converter) {
    let mut reader = Reader::new("format", table, problems);
    let names = &["json", "string", "bytes"];
    let key = reader.choice("key", names).unwrap_or("string");
    let value = reader.choice("value", names).unwrap_or("json");
    reader.refuse_unknown(&["key", "value"]);
    let named = |name, otherwise| Converter::named(name).unwrap_or(otherwise);
    (named(key, Converter::String), named(value, Converter::Json))
}

fn read_retry(table: &Map<String, Value>, problems: &mut Vec<ConfigProblem>) -> RetryPolicy {
    let default = RetryPolicy::default();
    let mut reader = Reader::new("retry", table, problems);
    let policy = RetryPolicy {
        max_elapsed: reader.duration("max_elapsed").unwrap_or(default.max_elapsed),
        initial: reader.duration("initial").unwrap_or(default.initial),
        max: reader.duration("max").unwrap_or(default.max),
        jitter: reader.boolean("jitter").unwrap_or(default.jitter),
    };
    reader.refuse_unknown(&["max_elapsed", "initial", "max", "jitter"]);
    check_backoff("retry", policy.initial, policy.max, problems);
    policy
}

fn check_backoff(section: &str, initial: Duration, max: Duration, problems: &mut Vec<ConfigProblem>) {
    if initial.is_zero() {
        problems.push(problem(
            format!("{section}.initial"),
            "must be longer than 0, or a failing target would be asked without a pause",
        ));
    }
    if max < initial {
        problems.push(problem(
            format!("{section}.max"),
            "must not be shorter than `initial`",
        ));
    }
}

fn read_errors(
    table: &Map<String, Value>,
    may_have_dead_letters: bool,
    problems: &mut Vec<ConfigProblem>,
) -> ErrorPolicy {
    let mut reader = Reader::new("errors", table, problems);
    let tolerance = reader.choice("tolerance", &["none", "all"]);
    let topic = reader.text("dead_letter_topic");
    let context_headers = reader.boolean("context_headers").unwrap_or(true);
    let on_failure = reader.table("on_task_failure");
    reader.refuse_unknown(&[
        "tolerance",
        "dead_letter_topic",
        "context_headers",
        "on_task_failure",
    ]);
    let tolerates_bad_records = tolerance == Some("all");
    if topic.is_some() && !may_have_dead_letters {
        let message = "is for sinks: a source has no raw record to keep; leave it out";
        problems.push(problem("errors.dead_letter_topic", message));
    } else if topic.is_some() && !tolerates_bad_records {
        let message = "has no effect unless tolerance = \"all\"";
        problems.push(problem("errors.dead_letter_topic", message));
    }
    ErrorPolicy {
        tolerates_bad_records,
        dead_letter_topic: topic.and_then(|name| topic_name("errors.dead_letter_topic", &name, problems)),
        context_headers,
        restart: read_restart(&on_failure, problems),
    }
}

fn read_restart(table: &Map<String, Value>, problems: &mut Vec<ConfigProblem>) -> RestartPolicy {
    const SECTION: &str = "errors.on_task_failure";
    let default = RestartPolicy::default();
    let mut reader = Reader::new(SECTION, table, problems);
    let restart = reader.choice("restart", &["backoff", "never"]);
    let max_restarts = reader
        .integer("max_restarts", 0..=1_000_000)
        .and_then(|count| u32::try_from(count).ok());
    let policy = RestartPolicy {
        max_restarts: match restart {
            Some("never") => 0,
            _ => max_restarts.unwrap_or(default.max_restarts),
        },
        initial: reader.duration("initial").unwrap_or(default.initial),
        max: reader.duration("max").unwrap_or(default.max),
        window: reader.duration("window").unwrap_or(default.window),
    };
    reader.refuse_unknown(&["restart", "initial", "max", "max_restarts", "window"]);
    check_backoff(SECTION, policy.initial, policy.max, problems);
    policy
}

#[cfg(test)]
mod tests;
