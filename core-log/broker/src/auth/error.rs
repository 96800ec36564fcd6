//! What keeps a listener from being protected as it was asked to be.

use std::path::PathBuf;

use highwater_cluster::ConfigError;

/// Why a node cannot protect its listeners. No message carries what a file holds.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecurityError {
    /// A listener needs a setting that is not there.
    #[error("listener '{listener}' needs {setting}: {why}")]
    Missing {
        /// The listener.
        listener: String,
        /// The setting.
        setting: &'static str,
        /// What it is for.
        why: &'static str,
    },
    /// A file cannot be read.
    #[error("{setting}: {} cannot be read: {source}", path.display())]
    Unreadable {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file does not hold what it should.
    #[error("{setting}: {} {problem}", path.display())]
    Invalid {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A setting cannot be used.
    #[error("{setting}: {problem}")]
    Setting {
        /// The setting.
        setting: &'static str,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// A setting is for a listener that is not there.
    #[error(
        "listener.name.{listener}.*: there is no listener of this name; the node has {}", known.join(", ")
    )]
    NoListener {
        /// The name, in small letters.
        listener: String,
        /// Those there are, in small letters.
        known: Vec<String>,
    },
    /// The settings of a listener contradict each other.
    #[error("listener '{listener}': {source}")]
    Config {
        /// The listener.
        listener: String,
        /// What is wrong.
        source: ConfigError,
    },
    /// The system gave no random bytes.
    #[error("the system gives no random bytes, without which nobody can log in safely")]
    NoRandomness,
}
