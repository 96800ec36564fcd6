//! Where and how much this process logs, and log levels that change while a node runs (KIP-412).
//!
//! A logger is a target of `tracing`: a module path, which counts for everything whose path begins like it. Its parts are
//! shown with dots between them, since Kafka's tools take no colons. What a
//! request sets is put behind the configured directives, where it wins over one for the same target; a more exact
//! configured one still wins over it, as in every logging system with a hierarchy. Nothing is written down.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use highwater_broker::{LogLevel, LogLevels, Logger, ROOT_LOGGER};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::config::LogFormat;
use crate::output;

/// What is offered besides `root`: our crates, the areas of those that log much, and the packages beneath whose words
/// are worth turning down or up. A test compares it with the sources.
const LOGGERS: [&str; 23] = [
    "highwater",
    "highwater_broker",
    "highwater_broker::background",
    "highwater_broker::cleaner",
    "highwater_broker::groups",
    "highwater_broker::handlers",
    "highwater_broker::log",
    "highwater_broker::metadata",
    "highwater_broker::net",
    "highwater_broker::node",
    "highwater_client",
    "highwater_client::consumer",
    "highwater_client::producer",
    "highwater_connect",
    "highwater_connector_binance",
    "highwater_connector_database",
    "highwater_connector_file",
    "highwater_sql",
    "highwater_storage",
    "highwater_storage::cleaner",
    "highwater_storage::log",
    "openraft",
    "sqlx",
];

/// Starts to log to standard error; gives what changes levels later.
pub(crate) fn start(directives: &str, format: LogFormat) -> Arc<dyn LogLevels> {
    let parsed = EnvFilter::builder().parse(directives);
    let (configured, filter) = match parsed {
        Ok(filter) => (directives, filter),
        Err(error) => {
            eprintln!("warning: --log {directives}: {error}; logging at info");
            ("info", EnvFilter::new("info"))
        }
    };
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let reload: Reload = match format {
        LogFormat::Json => {
            let log = log.json().flatten_event(true).with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
        }
        LogFormat::Text => {
            let is_colourful = output::is_colourful(&std::io::stderr());
            let log = log.with_ansi(is_colourful).with_filter_reloading();
            let handle = log.reload_handle();
            log.init();
            Box::new(move |filter| handle.reload(filter).map_err(|error| error.to_string()))
        }
    };
    Arc::new(Levels::new(configured, reload))
}

type Reload = Box<dyn Fn(EnvFilter) -> Result<(), String> + Send + Sync>;

/// The levels of this process.
struct Levels {
    configured: Vec<Directive>,
    /// As they were given, with what [`Directive`] leaves out.
    directives: String,
    changed: Mutex<BTreeMap<String, LogLevel>>,
    reload: Reload,
}

/// `target=level`; those about spans and fields are not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Directive {
    /// `None` for all targets without one.
    target: Option<String>,
    level: LogLevel,
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Levels")
            .field("directives", &self.directives)
            .finish_non_exhaustive()
    }
}

impl Levels {
    fn new(directives: &str, reload: Reload) -> Self {
        // What the filter makes of nothing at all.
        let directives = match directives.trim() {
            "" => "error",
            some => some,
        };
        Levels {
            configured: parse(directives),
            directives: directives.to_owned(),
            changed: Mutex::default(),
            reload,
        }
    }

    /// The level that counts for a logger: of the most exact directive about it, the last one.
    fn level(&self, logger: &str, changed: &BTreeMap<String, LogLevel>) -> LogLevel {
        let changed = changed.iter().map(|(target, level)| Directive {
            target: (target != ROOT_LOGGER).then(|| target.clone()),
            level: *level,
        });
        let counts = |directive: &Directive| match &directive.target {
            Some(target) => logger != ROOT_LOGGER && logger.starts_with(target.as_str()),
            None => true,
        };
        let all = self.configured.iter().cloned().chain(changed);
        all.filter(counts)
            .max_by_key(|directive| directive.target.as_ref().map_or(0, String::len))
            .map_or(LogLevel::Fatal, |directive| directive.level)
    }
}

impl LogLevels for Levels {
    fn loggers(&self) -> Vec<Logger> {
        let changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let names = LOGGERS.into_iter().chain([ROOT_LOGGER]);
        names
            .map(|name| Logger {
                name: shown(name),
                level: self.level(name, &changed),
            })
            .collect()
    }

    fn change(&self, levels: &[(String, Option<LogLevel>)]) -> Result<(), String> {
        let mut changed = self.changed.lock().unwrap_or_else(PoisonError::into_inner);
        let mut wanted = changed.clone();
        for (logger, level) in levels {
            let target = logger.replace('.', "::");
            match level {
                Some(level) => wanted.insert(target, *level),
                None => wanted.remove(&target),
            };
        }
        let mut directives = self.directives.clone();
        for (logger, level) in &wanted {
            directives.push(',');
            if logger != ROOT_LOGGER {
                directives.push_str(logger);
                directives.push('=');
            }
            directives.push_str(word(*level));
        }
        let filter = EnvFilter::builder().parse(&directives);
        let filter = filter.map_err(|error| format!("the log levels together cannot be used: {error}"))?;
        (self.reload)(filter)?;
        *changed = wanted;
        Ok(())
    }
}

/// The name of a target's logger.
fn shown(target: &str) -> String {
    target.replace("::", ".")
}

/// The word of `tracing` for a level.
fn word(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Fatal => "off",
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}

fn level(word: &str) -> Option<LogLevel> {
    let filter: LevelFilter = word.trim().parse().ok()?;
    LogLevel::ALL
        .into_iter()
        .find(|level| self::word(*level) == filter.to_string())
}

fn parse(directives: &str) -> Vec<Directive> {
    let mut depth = 0_usize;
    let parts = directives.split(|letter| {
        match letter {
            '[' | '{' => depth += 1,
            ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter == ',' && depth == 0
    });
    parts
        .map(str::trim)
        .filter(|part| !part.is_empty() && !part.contains('['))
        .filter_map(|part| match part.split_once('=') {
            Some((target, word)) => Some((Some(target), level(word)?)),
            None => match level(part) {
                Some(level) => Some((None, level)),
                // A target alone: everything of it.
                None => Some((Some(part), LogLevel::Trace)),
            },
        })
        .map(|(target, level)| Directive {
            target: target.map(str::to_owned),
            level,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    fn levels(directives: &str) -> (Levels, Arc<Mutex<String>>) {
        let installed = Arc::new(Mutex::new(String::new()));
        let seen = Arc::clone(&installed);
        let reload: Reload = Box::new(move |filter| {
            *seen.lock().unwrap() = filter.to_string();
            Ok(())
        });
        (Levels::new(directives, reload), installed)
    }

    fn of(levels: &Levels, name: &str) -> LogLevel {
        let all = levels.loggers();
        all.iter().find(|logger| logger.name == name).unwrap().level
    }

    #[test]
    fn loggers_have_the_levels_of_the_most_exact_directive() {
        let directives = "info,openraft=warn,highwater_broker=off,highwater_broker::net,[span{a=1,b}]=trace";
        let (levels, _) = levels(directives);
        for (name, level) in [
            ("root", LogLevel::Info),
            ("openraft", LogLevel::Warn),
            ("sqlx", LogLevel::Info),
            ("highwater_broker", LogLevel::Fatal),
            ("highwater_broker.log", LogLevel::Fatal),
            ("highwater_broker.net", LogLevel::Trace),
            ("highwater_storage", LogLevel::Info),
        ] {
            assert_eq!(of(&levels, name), level, "{name}");
        }
    }

    #[test]
    fn without_a_directive_for_all_the_rest_is_silent_and_without_any_only_errors_are_shown() {
        assert_eq!(of(&levels("sqlx=warn").0, "root"), LogLevel::Fatal);
        assert_eq!(of(&levels(" ").0, "root"), LogLevel::Error);
    }

    #[test]
    fn what_is_set_counts_until_it_is_deleted() {
        let (levels, installed) = levels("info,sqlx=warn");
        let set = |name: &str, level| levels.change(&[(name.to_owned(), level)]).unwrap();
        set("sqlx", Some(LogLevel::Trace));
        set("root", Some(LogLevel::Fatal));
        set("highwater_storage", Some(LogLevel::Debug));
        set("highwater_broker.net", Some(LogLevel::Warn));
        assert_eq!(of(&levels, "sqlx"), LogLevel::Trace);
        assert_eq!(of(&levels, "highwater_client"), LogLevel::Fatal);
        assert_eq!(of(&levels, "highwater_storage.log"), LogLevel::Debug);
        assert_eq!(of(&levels, "highwater_broker.net"), LogLevel::Warn);
        let now = installed.lock().unwrap().clone();
        for part in [
            "sqlx=trace",
            "highwater_storage=debug",
            "highwater_broker::net=warn",
            "off",
        ] {
            assert!(now.contains(part), "{now}");
        }
        assert!(!now.contains("sqlx=warn"), "{now}");
        set("sqlx", None);
        set("root", Some(LogLevel::Warn));
        assert_eq!(of(&levels, "sqlx"), LogLevel::Warn);
        assert_eq!(of(&levels, "openraft"), LogLevel::Warn);
    }

    #[test]
    fn what_cannot_be_installed_changes_nothing() {
        let refuse: Reload = Box::new(|_| Err("gone".into()));
        let levels = Levels::new("info", refuse);
        let refused = levels.change(&[("sqlx".into(), Some(LogLevel::Trace))]);
        assert_eq!(refused, Err("gone".to_owned()));
        assert_eq!(of(&levels, "sqlx"), LogLevel::Info);
    }

    /// Source files below a folder, except those of tests.
    fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    #[test]
    fn every_module_that_logs_in_a_node_has_a_logger() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let crates = [
            ("cli", "highwater"),
            ("core-log/broker", "highwater_broker"),
            ("core-log/client", "highwater_client"),
            ("core-log/storage", "highwater_storage"),
            ("connect/runtime", "highwater_connect"),
            ("connectors/binance", "highwater_connector_binance"),
            ("connectors/database", "highwater_connector_database"),
            ("connectors/file", "highwater_connector_file"),
            ("sql", "highwater_sql"),
        ];
        let mut areas = std::collections::BTreeSet::new();
        for (folder, name) in crates {
            assert!(LOGGERS.contains(&name), "{name}");
            let source = root.join(folder).join("src");
            let mut files = Vec::new();
            sources(&source, &mut files);
            let logs = files
                .iter()
                .filter(|file| std::fs::read_to_string(file).unwrap().contains("tracing::"));
            for file in logs {
                let inner = file.strip_prefix(&source).unwrap().with_extension("");
                let area = inner.components().next().unwrap().as_os_str().to_string_lossy();
                areas.insert(format!("{name}::{area}"));
            }
        }
        for logger in LOGGERS.iter().filter(|logger| logger.contains("::")) {
            assert!(areas.contains(*logger), "nothing logs as {logger}");
        }
    }
}
