//! Changing configs (semantic 20): one by one (KIP-339), or as a whole.

use std::collections::BTreeMap;

use highwater_types::{BrokerId, TopicName};

use super::{Outcome, by_key};
use crate::{
    config_defs::{ConfigDef, ConfigError, ConfigScope, ConfigType, UpdateMode, split_list},
    image::{ConfigResource, MetadataImage},
    record::{ConfigRecord, MetadataRecord},
    settings::GroupBounds,
};

/// A resource as a request names it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestedResource {
    /// A topic, by name as given.
    Topic(String),
    /// A broker, by number as given; no text at all means all brokers (KIP-226).
    Broker(String),
    /// A consumer group, which need not exist.
    Group(String),
    /// A subscription to the metrics of clients, by name.
    ClientMetrics(String),
}

/// Groups with configs of their own: whoever may change configs may name groups that do not exist.
const MAX_CONFIGURED_GROUPS: usize = 10_000;

/// Longest name of a group that may have configs.
const MAX_GROUP_NAME_BYTES: usize = 1_024;

/// Subscriptions to client metrics: each costs memory on every broker.
const MAX_SUBSCRIPTIONS: usize = 1_000;

/// Longest name of a subscription.
const MAX_SUBSCRIPTION_NAME_BYTES: usize = 1_024;

/// One operation on one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigOperation {
    /// Gives the key a value; `None` is what a request without a value carries, and is refused.
    Set(Option<String>),
    /// Returns the key to its default.
    Delete,
    /// Adds items to a list, leaving out those that are in it.
    Append(Option<String>),
    /// Takes items out of a list.
    Subtract(Option<String>),
}

/// Operations on one resource (IncrementalAlterConfigs).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    /// The resource.
    pub resource: RequestedResource,
    /// What to do with which key; each key once.
    pub operations: Vec<(String, ConfigOperation)>,
}

/// All configs that one resource shall have (AlterConfigs); keys that are not mentioned return to their defaults.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigReplacement {
    /// The resource.
    pub resource: RequestedResource,
    /// The keys and their values; each key once.
    pub configs: Vec<(String, Option<String>)>,
}

/// Why configs were not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AlterError {
    /// A key or value was refused: INVALID_CONFIG (40), or what the config's error says.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No topic of that name: UNKNOWN_TOPIC_OR_PARTITION (3).
    #[error("no topic is named '{name}'")]
    UnknownTopic {
        /// The name as given.
        name: String,
    },
    /// No broker of that number, or no number: INVALID_REQUEST (42).
    #[error("'{name}' is no registered broker; use a broker's number, or nothing for all brokers")]
    UnknownBroker {
        /// The text as given.
        name: String,
    },
    /// No name, or one that is too long: INVALID_REQUEST (42).
    #[error(
        "configs belong to a group of 1 to {MAX_GROUP_NAME_BYTES} bytes; groups have no default of their own"
    )]
    InvalidGroup,
    /// Too many groups have configs: POLICY_VIOLATION (44).
    #[error("{MAX_CONFIGURED_GROUPS} groups have configs, as many as may; delete some first")]
    TooManyGroups,
    /// No name, one that is too long, or one that cannot be shown: INVALID_REQUEST (42).
    #[error(
        "a subscription to client metrics has a name of 1 to {MAX_SUBSCRIPTION_NAME_BYTES} bytes without control \
         characters"
    )]
    InvalidSubscription,
    /// Too many subscriptions: POLICY_VIOLATION (44).
    #[error(
        "there are {MAX_SUBSCRIPTIONS} subscriptions to client metrics, as many as may; delete some first"
    )]
    TooManySubscriptions,
    /// The resource is named more than once: INVALID_REQUEST (42).
    #[error("the request names this resource more than once")]
    DuplicateInRequest,
}

impl RequestedResource {
    /// The resource of that name.
    ///
    /// # Errors
    /// [`AlterError::UnknownTopic`], [`AlterError::UnknownBroker`], [`AlterError::InvalidGroup`],
    /// [`AlterError::InvalidSubscription`].
    pub fn find(&self, image: &MetadataImage) -> Result<ConfigResource, AlterError> {
        match self {
            RequestedResource::Topic(name) => {
                let topic = image
                    .topic(name)
                    .ok_or_else(|| AlterError::UnknownTopic { name: name.clone() })?;
                Ok(ConfigResource::Topic(topic.name.clone()))
            }
            RequestedResource::Broker(name) if name.is_empty() => Ok(ConfigResource::AllBrokers),
            RequestedResource::Broker(name) => {
                let id = name
                    .parse()
                    .ok()
                    .map(BrokerId::new)
                    .filter(|id| image.brokers().contains_key(id));
                id.map(ConfigResource::Broker)
                    .ok_or_else(|| AlterError::UnknownBroker { name: name.clone() })
            }
            RequestedResource::Group(name) => match name.len() {
                1..=MAX_GROUP_NAME_BYTES => Ok(ConfigResource::Group(name.clone())),
                _ => Err(AlterError::InvalidGroup),
            },
            RequestedResource::ClientMetrics(name) => match name.len() {
                1..=MAX_SUBSCRIPTION_NAME_BYTES if !name.chars().any(char::is_control) => {
                    Ok(ConfigResource::ClientMetrics(name.clone()))
                }
                _ => Err(AlterError::InvalidSubscription),
            },
        }
    }
}

impl ConfigResource {
    /// The table its keys are in.
    pub fn scope(&self) -> ConfigScope {
        match self {
            ConfigResource::Topic(_) => ConfigScope::Topic,
            ConfigResource::Broker(_) | ConfigResource::AllBrokers => ConfigScope::Broker,
            ConfigResource::Group(_) => ConfigScope::Group,
            ConfigResource::ClientMetrics(_) => ConfigScope::ClientMetrics,
        }
    }

    /// The topic, if it is one.
    pub fn topic(&self) -> Option<&TopicName> {
        match self {
            ConfigResource::Topic(name) => Some(name),
            ConfigResource::Broker(_)
            | ConfigResource::AllBrokers
            | ConfigResource::Group(_)
            | ConfigResource::ClientMetrics(_) => None,
        }
    }
}

/// Decides about operations. One outcome per resource, in order of first mention; a resource changes as a whole or not
/// at all. Append and subtract work on the value of the resource itself, or on the registry's default when it has none.
pub fn incremental_alter_configs(
    image: &MetadataImage,
    changes: &[ConfigChange],
    groups: &GroupBounds,
) -> Vec<Outcome<RequestedResource, Vec<MetadataRecord>, AlterError>> {
    let mut together = Together::new(image, groups);
    let decide = |(subject, change): (RequestedResource, Option<&ConfigChange>)| {
        let decided = change.ok_or(AlterError::DuplicateInRequest).and_then(|change| {
            let resource = change.resource.find(image)?;
            let current = image.configs(&resource);
            let mut wanted = current.clone();
            let mut seen = std::collections::BTreeSet::new();
            for (key, operation) in &change.operations {
                if !seen.insert(key) {
                    return Err(ConfigError::DuplicateKey { key: key.clone() }.into());
                }
                // What nobody knows can be deleted: it may be left from a version that knew it.
                let is_unknown = resource.scope().find(key).is_err();
                if is_unknown && *operation == ConfigOperation::Delete {
                    wanted.remove(key);
                    continue;
                }
                let row = changeable(&resource, key)?;
                match operate(row, current.get(key).map(String::as_str), operation)? {
                    Some(value) => wanted.insert(key.clone(), value),
                    None => wanted.remove(key),
                };
            }
            together.check(&resource, current, &wanted)?;
            Ok(records_between(&resource, current, &wanted))
        });
        Outcome {
            subject,
            result: decided,
        }
    };
    by_key(changes, |change| change.resource.clone())
        .into_iter()
        .map(decide)
        .collect()
}

/// Decides about replacements. One outcome per resource, in order of first mention.
pub fn alter_configs(
    image: &MetadataImage,
    replacements: &[ConfigReplacement],
    groups: &GroupBounds,
) -> Vec<Outcome<RequestedResource, Vec<MetadataRecord>, AlterError>> {
    let mut together = Together::new(image, groups);
    let decide = |(subject, replacement): (RequestedResource, Option<&ConfigReplacement>)| {
        let decided = replacement
            .ok_or(AlterError::DuplicateInRequest)
            .and_then(|replacement| {
                let resource = replacement.resource.find(image)?;
                let mut wanted = BTreeMap::new();
                for (key, value) in &replacement.configs {
                    let row = changeable(&resource, key)?;
                    let value = checked(row, value.as_deref())?;
                    if wanted.insert(key.clone(), value).is_some() {
                        return Err(ConfigError::DuplicateKey { key: key.clone() }.into());
                    }
                }
                let current = image.configs(&resource);
                together.check(&resource, current, &wanted)?;
                Ok(records_between(&resource, current, &wanted))
            });
        Outcome {
            subject,
            result: decided,
        }
    };
    by_key(replacements, |replacement| replacement.resource.clone())
        .into_iter()
        .map(decide)
        .collect()
}

fn changeable(resource: &ConfigResource, key: &str) -> Result<&'static ConfigDef, ConfigError> {
    let row = resource.scope().find(key)?;
    match row.update {
        UpdateMode::ClusterWide => Ok(row),
        UpdateMode::ReadOnly => Err(ConfigError::ReadOnly { key: row.name }),
    }
}

fn checked(row: &'static ConfigDef, value: Option<&str>) -> Result<String, ConfigError> {
    row.canonical(value.ok_or(ConfigError::NullValue { key: row.name })?)
}

/// The value after one operation; `None` returns to the default.
fn operate(
    row: &'static ConfigDef,
    current: Option<&str>,
    operation: &ConfigOperation,
) -> Result<Option<String>, ConfigError> {
    let items = |value: &Option<String>| match (row.config_type, value) {
        (ConfigType::List, Some(value)) => Ok(split_list(value)),
        (ConfigType::List, None) => Err(ConfigError::NullValue { key: row.name }),
        _ => Err(ConfigError::NotAList { key: row.name }),
    };
    let mut list = split_list(current.or(row.default).unwrap_or_default());
    match operation {
        ConfigOperation::Set(value) => return checked(row, value.as_deref()).map(Some),
        ConfigOperation::Delete => return Ok(None),
        ConfigOperation::Append(value) => {
            for item in items(value)? {
                if !list.contains(&item) {
                    list.push(item);
                }
            }
        }
        ConfigOperation::Subtract(value) => {
            let gone = items(value)?;
            list.retain(|item| !gone.contains(item));
        }
    }
    checked(row, Some(&list.join(","))).map(Some)
}

/// Refuses configs that are fine one by one but not together, or not beside those of others.
struct Together<'a> {
    groups: &'a GroupBounds,
    /// Groups that may still get their first config.
    groups_left: usize,
    /// Subscriptions to client metrics that may still be made.
    subscriptions_left: usize,
}

impl<'a> Together<'a> {
    fn new(image: &MetadataImage, groups: &'a GroupBounds) -> Self {
        Self {
            groups,
            groups_left: MAX_CONFIGURED_GROUPS.saturating_sub(image.configured_groups().count()),
            subscriptions_left: MAX_SUBSCRIPTIONS
                .saturating_sub(image.client_metrics_subscriptions().count()),
        }
    }

    fn check(
        &mut self,
        resource: &ConfigResource,
        current: &BTreeMap<String, String>,
        wanted: &BTreeMap<String, String>,
    ) -> Result<(), AlterError> {
        match resource {
            ConfigResource::Topic(_) => check_together(wanted)?,
            ConfigResource::Group(_) => {
                self.groups.check(wanted)?;
                if current.is_empty() && !wanted.is_empty() {
                    let left = self.groups_left.checked_sub(1);
                    self.groups_left = left.ok_or(AlterError::TooManyGroups)?;
                }
            }
            ConfigResource::ClientMetrics(_) => {
                if current.is_empty() && !wanted.is_empty() {
                    let left = self.subscriptions_left.checked_sub(1);
                    self.subscriptions_left = left.ok_or(AlterError::TooManySubscriptions)?;
                }
            }
            ConfigResource::Broker(_) | ConfigResource::AllBrokers => {}
        }
        Ok(())
    }
}

/// What turns one set of configs into another; nothing for keys that stay.
fn records_between(
    resource: &ConfigResource,
    current: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
) -> Vec<MetadataRecord> {
    let record = |key: &String, value: Option<&String>| {
        let (resource, key, value) = (resource.stored_name(), key.clone(), value.cloned());
        MetadataRecord::Config(ConfigRecord { resource, key, value })
    };
    let gone = current
        .keys()
        .filter(|key| !wanted.contains_key(*key))
        .map(|key| record(key, None));
    let changed = wanted
        .iter()
        .filter(|(key, value)| current.get(*key) != Some(*value));
    gone.chain(changed.map(|(key, value)| record(key, Some(value))))
        .collect()
}

/// Refuses topic configs that are fine one by one but contradict each other.
pub(super) fn check_together(configs: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    const LOWER: &str = "min.compaction.lag.ms";
    const UPPER: &str = "max.compaction.lag.ms";
    let number = |key: &str| configs.get(key).and_then(|value| value.parse::<i64>().ok());
    let (lower_value, upper_value) = (number(LOWER).unwrap_or(0), number(UPPER).unwrap_or(i64::MAX));
    if lower_value <= upper_value {
        return Ok(());
    }
    Err(ConfigError::Contradiction {
        lower: LOWER,
        lower_value,
        upper: UPPER,
        upper_value,
    })
}

#[cfg(test)]
mod tests;
