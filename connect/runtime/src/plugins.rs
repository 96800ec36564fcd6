//! The plugins a worker knows, by the names that configurations use.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use highwater_connect_api::{ConfigDef, ConfigProblem, Settings, SinkPlugin, SourcePlugin};

/// A source or a sink.
#[derive(Clone)]
pub enum Plugin {
    /// Reads from the outside.
    Source(Arc<dyn SourcePlugin>),
    /// Writes to the outside.
    Sink(Arc<dyn SinkPlugin>),
}

impl Plugin {
    /// The name that configurations use.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Source(plugin) => plugin.name(),
            Self::Sink(plugin) => plugin.name(),
        }
    }

    /// One sentence for people.
    pub fn about(&self) -> &'static str {
        match self {
            Self::Source(plugin) => plugin.about(),
            Self::Sink(plugin) => plugin.about(),
        }
    }

    /// `source` or `sink`, as the REST answers spell it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Source(_) => "source",
            Self::Sink(_) => "sink",
        }
    }

    /// The plugin's settings.
    pub fn config(&self) -> ConfigDef {
        match self {
            Self::Source(plugin) => plugin.config(),
            Self::Sink(plugin) => plugin.config(),
        }
    }

    pub(crate) fn check(&self, settings: &Settings) -> Vec<ConfigProblem> {
        match self {
            Self::Source(plugin) => plugin.check(settings),
            Self::Sink(plugin) => plugin.check(settings),
        }
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), self.name())
    }
}

/// Every plugin of a worker.
#[derive(Debug, Clone, Default)]
pub struct Plugins {
    by_name: BTreeMap<&'static str, Plugin>,
}

impl Plugins {
    /// No plugins yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a source; one of the same name is replaced.
    #[must_use]
    pub fn source(mut self, plugin: impl SourcePlugin + 'static) -> Self {
        self.by_name
            .insert(plugin.name(), Plugin::Source(Arc::new(plugin)));
        self
    }

    /// Adds a sink; one of the same name is replaced.
    #[must_use]
    pub fn sink(mut self, plugin: impl SinkPlugin + 'static) -> Self {
        self.by_name.insert(plugin.name(), Plugin::Sink(Arc::new(plugin)));
        self
    }

    /// The plugin called `name`.
    pub fn get(&self, name: &str) -> Option<&Plugin> {
        self.by_name.get(name)
    }

    /// All plugins, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Plugin> {
        self.by_name.values()
    }

    pub(crate) fn names(&self) -> Vec<&'static str> {
        self.by_name.keys().copied().collect()
    }
}
