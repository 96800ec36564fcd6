//! Whole files and flat maps in, every problem or a configuration out.

use async_trait::async_trait;
use highwater_connect_api::{
    ConfigDef, ConfigKey, ConfigProblem, Kind, Settings, SinkContext, SinkError, SinkPlugin, SinkRecord,
    SinkTask, SourceContext, SourcePlugin, SourceRecord, SourceTask, TaskError,
};
use serde_json::json;

use super::*;

const KEYS: &[ConfigKey] = &[
    ConfigKey {
        name: "url",
        kind: Kind::Password,
        default: None,
        required: true,
        doc: "where to",
    },
    ConfigKey {
        name: "rows",
        kind: Kind::Integer { min: 1, max: 100 },
        default: Some("10"),
        required: false,
        doc: "rows per batch",
    },
    ConfigKey {
        name: "symbols",
        kind: Kind::List,
        default: None,
        required: false,
        doc: "what to read",
    },
];

struct Fixed;

#[async_trait]
impl SourcePlugin for Fixed {
    fn name(&self) -> &'static str {
        "ticker"
    }
    fn about(&self) -> &'static str {
        "Reads."
    }
    fn config(&self) -> ConfigDef {
        ConfigDef { keys: KEYS }
    }
    fn check(&self, settings: &Settings) -> Vec<ConfigProblem> {
        let empty = settings.text("url").is_some_and(str::is_empty);
        let problem = ConfigProblem {
            key: "url".to_owned(),
            message: "is empty".to_owned(),
        };
        empty.then_some(problem).into_iter().collect()
    }
    async fn task_settings(&self, settings: &Settings, _: usize) -> Result<Vec<Settings>, TaskError> {
        Ok(vec![settings.clone()])
    }
    fn task(&self) -> Box<dyn SourceTask> {
        Box::new(Fixed)
    }
}

#[async_trait]
impl SourceTask for Fixed {
    async fn start(&mut self, _: SourceContext, _: &Settings) -> Result<(), TaskError> {
        Ok(())
    }
    async fn poll(&mut self) -> Result<Vec<SourceRecord>, TaskError> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl SinkPlugin for Fixed {
    fn name(&self) -> &'static str {
        "table"
    }
    fn about(&self) -> &'static str {
        "Writes."
    }
    fn config(&self) -> ConfigDef {
        ConfigDef { keys: KEYS }
    }
    fn task(&self) -> Box<dyn SinkTask> {
        Box::new(Fixed)
    }
}

#[async_trait]
impl SinkTask for Fixed {
    async fn start(&mut self, _: SinkContext, _: &Settings) -> Result<(), TaskError> {
        Ok(())
    }
    async fn put(&mut self, _: &[SinkRecord]) -> Result<(), SinkError> {
        Ok(())
    }
    async fn flush(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

fn plugins() -> Plugins {
    Plugins::new().source(Fixed).sink(Fixed)
}

fn environment() -> Environment {
    Environment::new(|name| match name {
        "ROWS" => Some("7".to_owned()),
        "SECRET" => Some("hunter2".to_owned()),
        _ => None,
    })
}

fn resolve(text: &str) -> Result<ConnectorConfig, ConfigError> {
    let file = toml_file::TomlFile::parse(text).expect("TOML");
    ConnectorConfig::resolve(&file.document, &plugins(), &environment())
}

#[test]
fn a_small_file_gets_the_documented_defaults() {
    let config = resolve(
        "name = \"p\"\nplugin = \"ticker\"\n[settings]\nurl = \"http://x/${SECRET}\"\nrows = \"${ROWS}\"\n\
         symbols = \"A, B\"\n[topic]\nname = \"prices\"\npartitions = 3\nconfig = { \"retention.ms\" = 5 }\n",
    )
    .expect("valid");
    assert_eq!(
        (config.tasks_max, config.initial_state),
        (1, TargetState::Running)
    );
    assert_eq!((config.key, config.value), (Converter::String, Converter::Json));
    assert_eq!(config.retry, RetryPolicy::default());
    assert_eq!(config.errors.restart, RestartPolicy::default());
    assert!(!config.errors.tolerates_bad_records && config.errors.context_headers);
    // Placeholders are filled in and then read as what the plugin declares.
    let expected = json!({ "url": "http://x/hunter2", "rows": 7, "symbols": ["A", "B"] });
    assert_eq!(Value::Object(config.settings.0), expected);
    let Topics::Source(topic) = config.topics else {
        panic!("a source");
    };
    assert_eq!(topic.name.expect("named").as_str(), "prices");
    assert_eq!(
        topic.config,
        BTreeMap::from([("retention.ms".to_owned(), "5".to_owned())])
    );
}

#[test]
fn every_problem_of_every_file_is_reported_with_file_line_key_and_a_way_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
    write(
        "a.toml",
        "plugin = \"tabel\"\ntask_max = 2\n\n[settings]\nurl = \"${NOPE}\"\n\n[retry]\ninitial = \"10\"\n",
    );
    write(
        "b.toml",
        "plugin = \"table\"\ntopics = [\"a b\"]\n[settings]\nrows = 1000\nurll = \"x\"\n\
         [errors]\ndead_letter_topic = \"dlq\"\n[[transform]]\ntype = \"x\"\n",
    );
    write(
        "c.toml",
        "name = \"b\"\nplugin = \"ticker\"\n[settings]\nurl = \"x\"\n",
    );
    write("d.toml", "name = \n");
    write("notes.txt", "not a connector");
    let report = check(&[dir.path().to_owned()], &plugins(), &environment());
    let directory = format!("{}{}", dir.path().display(), std::path::MAIN_SEPARATOR);
    let lines: Vec<String> = report
        .problems
        .iter()
        .map(|problem| problem.to_string().replace(&directory, ""))
        .collect();
    // Where a message is another crate's, only its beginning is expected.
    let expected = [
        "a.toml:5: `settings.url` needs the environment variable NOPE; set it, or give a default with ${NOPE:-...}",
        "a.toml:2: `task_max` is not a key of a connector; did you mean `tasks_max`?",
        "a.toml:1: `plugin` there is no plugin `tabel`; did you mean `table`?",
        "a.toml:8: `retry.initial` `10` is no duration; write a whole number and a unit, such as 250ms, 10s, 5m, 1h or 7d",
        "b.toml:8: `transform` is not a key of a connector; known are name, plugin, tasks_max, state, settings, topic, topics, format, retry, errors",
        "b.toml:3: `settings.url` is missing; where to",
        "b.toml:4: `settings.rows` is 1000, outside 1 to 100",
        "b.toml:5: `settings.urll` is not a setting; did you mean `url`?",
        "b.toml:2: `topics` ",
        "b.toml:7: `errors.dead_letter_topic` has no effect unless tolerance = \"all\"",
        "c.toml:1: `name` `b` is also the name in b.toml",
        "d.toml:1: ",
    ];
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{line}\ninstead of\n{expected}");
    }
    assert!(report.connectors.is_empty() && !report.is_ok());
}

#[test]
fn sources_and_sinks_refuse_each_others_keys() {
    let error = resolve(
        "name = \"p\"\nplugin = \"ticker\"\ntopics = [\"a\"]\n[settings]\nurl = \"x\"\n\
         [errors]\ntolerance = \"all\"\ndead_letter_topic = \"d\"\n",
    )
    .expect_err("a source");
    let keys: Vec<&str> = error.problems.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(keys, ["topics", "errors.dead_letter_topic"]);
    let error = resolve("name = \"p\"\nplugin = \"table\"\n[settings]\nurl = \"x\"\n[topic]\nname = \"t\"\n")
        .expect_err("a sink");
    let keys: Vec<&str> = error.problems.iter().map(|p| p.key.as_str()).collect();
    assert_eq!(keys, ["topic", "topics"]);
}

#[test]
fn the_plugins_own_check_speaks_when_the_table_is_satisfied() {
    let error = resolve("name = \"p\"\nplugin = \"ticker\"\n[settings]\nurl = \"\"\n").expect_err("empty");
    assert_eq!(error.problems[0].key, "settings.url");
    assert_eq!(error.problems[0].message, "is empty");
}

#[test]
fn the_flat_form_round_trips_and_never_shows_a_password() {
    let flat = json!({
        "connector.class": "table",
        "tasks.max": "2",
        "topics": "a,b",
        "settings.url": "${SECRET}",
        "settings.rows": "5",
        "errors.tolerance": "all",
        "errors.on_task_failure.max_restarts": "3",
    });
    let document = flat::from_flat("p", flat.as_object().expect("a map"), None);
    let config = ConnectorConfig::resolve(&document, &plugins(), &environment()).expect("valid");
    assert_eq!((config.name.as_str(), config.tasks_max), ("p", 2));
    assert_eq!(config.settings.0["rows"], 5);
    assert_eq!(config.errors.restart.max_restarts, 3);

    let shown = flat::to_flat(&document, &plugins());
    assert_eq!(shown["settings.url"], flat::MASK);
    assert_eq!(shown["topics"], "a,b");
    assert_eq!(shown["tasks.max"], "2");

    // What was shown can be sent back: the masked password stays what it was.
    let shown: Map<String, Value> = shown.into_iter().map(|(k, v)| (k, v.into())).collect();
    let again = flat::from_flat("p", &shown, Some(&document));
    let again = ConnectorConfig::resolve(&again, &plugins(), &environment()).expect("valid");
    assert_eq!(again, config);
}

#[test]
fn topic_configuration_keeps_the_dots_of_its_names() {
    let flat = json!({ "plugin": "ticker", "settings.url": "x", "topic.name": "t",
        "topic.config.cleanup.policy": "compact" });
    let document = flat::from_flat("p", flat.as_object().expect("a map"), None);
    let config = ConnectorConfig::resolve(&document, &plugins(), &environment()).expect("valid");
    let Topics::Source(topic) = config.topics else {
        panic!("a source");
    };
    assert_eq!(topic.config["cleanup.policy"], "compact");
    assert_eq!(
        flat::to_flat(&document, &plugins())["topic.config.cleanup.policy"],
        "compact"
    );
}
