//! Log levels at run time (KIP-412): what a node's host may offer, and what it is asked.
//!
//! Refuses: to know how anything is logged. A node without the hook has no loggers to speak of.

use std::fmt;
use std::str::FromStr;

/// A level, with Kafka's names, the quietest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogLevel {
    /// Nothing is shown: no message is fatal here without being an error as well.
    Fatal,
    /// What a person should look at.
    Error,
    /// What a person should look at some day.
    Warn,
    /// What happens.
    Info,
    /// What happens, in detail.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Every level.
    pub const ALL: [LogLevel; 6] = [
        LogLevel::Fatal,
        LogLevel::Error,
        LogLevel::Warn,
        LogLevel::Info,
        LogLevel::Debug,
        LogLevel::Trace,
    ];

    /// Kafka's word for it.
    pub fn name(self) -> &'static str {
        match self {
            LogLevel::Fatal => "FATAL",
            LogLevel::Error => "ERROR",
            LogLevel::Warn => "WARN",
            LogLevel::Info => "INFO",
            LogLevel::Debug => "DEBUG",
            LogLevel::Trace => "TRACE",
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The word is none of Kafka's levels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("levels are FATAL, ERROR, WARN, INFO, DEBUG and TRACE")]
pub struct UnknownLogLevel;

impl FromStr for LogLevel {
    type Err = UnknownLogLevel;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        let found = LogLevel::ALL
            .into_iter()
            .find(|level| level.name().eq_ignore_ascii_case(word));
        found.ok_or(UnknownLogLevel)
    }
}

/// One logger and the level it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logger {
    /// Its name; [`ROOT_LOGGER`] is the one of everything that has no level of its own.
    pub name: String,
    /// What is shown of it: this level and all quieter ones.
    pub level: LogLevel,
}

/// The logger of everything that has no level of its own.
pub const ROOT_LOGGER: &str = "root";

/// Where the process that a node runs in logs to. Changes last until the process ends.
pub trait LogLevels: fmt::Debug + Send + Sync {
    /// Every logger there is, each with the level that counts for it.
    fn loggers(&self) -> Vec<Logger>;

    /// Gives loggers out of that list other levels, all of them or none; `None` takes back what was given before.
    ///
    /// # Errors
    /// Why nothing was changed, as a sentence.
    fn change(&self, levels: &[(String, Option<LogLevel>)]) -> Result<(), String>;
}
