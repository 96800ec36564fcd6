//! Which value a config has, where it comes from, and what it would be otherwise (KIP-226, semantic 20).
//!
//! Order of precedence: the topic's or group's own, the broker's dynamic, all brokers' dynamic, the node's properties, the
//! table's default. For a topic's or group's key the last four are looked up under its broker synonyms.

use std::collections::BTreeMap;

use highwater_types::{BrokerId, TopicName};

use crate::{
    config_defs::{ConfigDef, ConfigError, ConfigScope, ConfigValue, Synonym},
    image::{ConfigResource, MetadataImage},
    settings::{BrokerSettings, LISTENER_CONFIGS, TopicSettings},
};

/// How keys begin that count for one listener, `listener.name.<listener>.<key>`.
const OF_LISTENER: &str = "listener.name.";

/// The properties a node was started with, all known and valid.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BrokerProperties {
    all: BTreeMap<String, String>,
    /// What counts for one listener and before the others, by its name in small letters.
    of_listeners: BTreeMap<String, BTreeMap<String, String>>,
}

impl BrokerProperties {
    /// Checks every key and value against the registry.
    ///
    /// # Errors
    /// The first key or value that the registry refuses.
    pub fn new(properties: BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let mut checked = Self::default();
        for (key, value) in properties {
            Self::check(&key, &value)?;
            match of_listener(&key) {
                Some((listener, key)) => {
                    let own = checked.of_listeners.entry(listener.to_owned()).or_default();
                    own.insert(key.to_owned(), value);
                }
                None => drop(checked.all.insert(key, value)),
            }
        }
        Ok(checked)
    }

    /// Checks one key, be it of the node or of one of its listeners, and its value.
    ///
    /// # Errors
    /// What the registry refuses.
    pub fn check(key: &str, value: &str) -> Result<(), ConfigError> {
        let of_all = match of_listener(key) {
            Some((_, of_all)) if LISTENER_CONFIGS.contains(&of_all) => of_all,
            Some((_, of_all)) => {
                return Err(ConfigError::NotOfAListener {
                    key: key.to_owned(),
                    of_all: of_all.to_owned(),
                });
            }
            None => key,
        };
        ConfigScope::Broker.find(of_all)?.parse(value).map(drop)
    }

    /// The value given for a key, for all listeners where it is about them.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.all.get(key).map(String::as_str)
    }

    /// Listeners that have properties of their own, in small letters.
    pub fn listeners(&self) -> impl Iterator<Item = &str> {
        self.of_listeners.keys().map(String::as_str)
    }

    /// The properties as they are for one listener; `None` if it has none of its own.
    pub fn of_listener(&self, name: &str) -> Option<Self> {
        let own = self.of_listeners.get(&name.to_lowercase())?;
        let mut all = self.all.clone();
        all.extend(own.iter().map(|(key, value)| (key.clone(), value.clone())));
        Some(Self {
            all,
            of_listeners: BTreeMap::new(),
        })
    }
}

/// The listener and the key of a property that counts for one listener.
fn of_listener(key: &str) -> Option<(&str, &str)> {
    key.strip_prefix(OF_LISTENER)?.split_once('.')
}

/// Where a value comes from, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConfigSource {
    /// Set on the topic (code 1).
    Topic,
    /// Set on this broker at run time (code 2).
    DynamicBroker,
    /// Set on all brokers at run time (code 3).
    DynamicDefaultBroker,
    /// Among the properties the node was started with (code 4).
    StaticBroker,
    /// From the registry (code 5).
    Default,
    /// Set on the subscription to client metrics (code 7).
    ClientMetrics,
    /// Set on the group (code 8).
    Group,
}

impl ConfigSource {
    /// The number DescribeConfigs uses.
    pub fn code(self) -> i8 {
        match self {
            ConfigSource::Topic => 1,
            ConfigSource::DynamicBroker => 2,
            ConfigSource::DynamicDefaultBroker => 3,
            ConfigSource::StaticBroker => 4,
            ConfigSource::Default => 5,
            ConfigSource::ClientMetrics => 7,
            ConfigSource::Group => 8,
        }
    }
}

/// One of the places a value was found in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SynonymValue {
    /// The key under which it was found: the config's own or that of a broker synonym.
    pub name: &'static str,
    /// The value as written there, in that key's unit.
    pub value: String,
    /// The place.
    pub source: ConfigSource,
}

/// A config with the value that counts.
#[derive(Debug, Clone, PartialEq)]
pub struct ResolvedConfig {
    /// The row of the registry.
    pub def: &'static ConfigDef,
    /// The value, in this key's unit; nothing when the key defers to another one and nobody set it.
    pub value: Option<String>,
    /// Where it comes from.
    pub source: ConfigSource,
    /// Every place with a value, the one that counts first.
    pub synonyms: Vec<SynonymValue>,
}

impl ResolvedConfig {
    /// Whether DescribeConfigs marks it read-only.
    pub fn is_read_only(&self) -> bool {
        self.def.update == crate::config_defs::UpdateMode::ReadOnly
    }
}

/// Configs as one broker sees them at one version of the metadata.
#[derive(Debug, Clone, Copy)]
pub struct ConfigView<'a> {
    /// The metadata.
    pub image: &'a MetadataImage,
    /// The broker.
    pub broker_id: BrokerId,
    /// What it was started with.
    pub properties: &'a BrokerProperties,
}

impl ConfigView<'_> {
    /// Every config of a topic. A topic that does not exist has the defaults of one that does.
    pub fn topic(&self, topic: &TopicName) -> Vec<ResolvedConfig> {
        self.topic_with(self.image.configs(&ConfigResource::Topic(topic.clone())))
    }

    /// Every config of a topic that has these values of its own: what CreateTopics answers before the topic exists.
    pub fn topic_with(&self, overrides: &BTreeMap<String, String>) -> Vec<ResolvedConfig> {
        let rows = ConfigScope::Topic.table().iter();
        rows.map(|def| {
            let own = overrides.get(def.name).map(|value| (ConfigSource::Topic, value));
            self.resolve(def, own, def.synonyms)
        })
        .collect()
    }

    /// Every config of a consumer group, whether or not there is one of this name.
    pub fn group(&self, group: &str) -> Vec<ResolvedConfig> {
        self.of_resource(&ConfigResource::Group(group.to_owned()), ConfigSource::Group)
    }

    /// Every config of a subscription to client metrics, whether or not there is one of this name.
    pub fn client_metrics(&self, name: &str) -> Vec<ResolvedConfig> {
        let resource = ConfigResource::ClientMetrics(name.to_owned());
        self.of_resource(&resource, ConfigSource::ClientMetrics)
    }

    fn of_resource(&self, resource: &ConfigResource, source: ConfigSource) -> Vec<ResolvedConfig> {
        let set = self.image.configs(resource);
        let rows = resource.scope().table().iter();
        rows.map(|def| {
            let own = set.get(def.name).map(|value| (source, value));
            self.resolve(def, own, def.synonyms)
        })
        .collect()
    }

    /// Every config of this broker.
    pub fn broker(&self) -> Vec<ResolvedConfig> {
        let rows = ConfigScope::Broker.table().iter();
        rows.map(|def| self.broker_config(def)).collect()
    }

    fn broker_config(&self, def: &'static ConfigDef) -> ResolvedConfig {
        let own_name = Synonym {
            name: def.name,
            factor: 1,
        };
        self.resolve(def, None, &[own_name])
    }

    /// A number of this broker, for who needs no other config; `None` when nobody sets one.
    ///
    /// # Errors
    /// [`ConfigError`] for a key that is unknown, and when the value no longer passes the registry's check.
    pub fn broker_number(&self, key: &str) -> Result<Option<i64>, ConfigError> {
        let config = self.broker_config(ConfigScope::Broker.find(key)?);
        match &config.value {
            Some(value) if config.source != ConfigSource::Default => match config.def.parse(value)? {
                ConfigValue::Int(number) => Ok(Some(i64::from(number))),
                ConfigValue::Long(number) => Ok(Some(number)),
                ConfigValue::Boolean(_)
                | ConfigValue::String(_)
                | ConfigValue::Double(_)
                | ConfigValue::List(_) => Ok(None),
            },
            Some(_) | None => Ok(None),
        }
    }

    /// What is set on all brokers at run time, and nothing else: the answer for a broker resource without a name.
    pub fn all_brokers(&self) -> Vec<ResolvedConfig> {
        let set = self.image.configs(&ConfigResource::AllBrokers);
        let known = set
            .iter()
            .filter_map(|(key, value)| Some((ConfigScope::Broker.find(key).ok()?, value)));
        known
            .map(|(def, value)| {
                let (name, source) = (def.name, ConfigSource::DynamicDefaultBroker);
                let synonyms = vec![SynonymValue {
                    name,
                    value: value.clone(),
                    source,
                }];
                ResolvedConfig {
                    def,
                    value: Some(value.clone()),
                    source,
                    synonyms,
                }
            })
            .collect()
    }

    /// A topic's configs as typed values.
    ///
    /// # Errors
    /// [`ConfigError`] when a stored value no longer passes the registry's check.
    pub fn topic_settings(&self, topic: &TopicName) -> Result<TopicSettings, ConfigError> {
        TopicSettings::from_resolved(&self.topic(topic))
    }

    /// This broker's configs as typed values.
    ///
    /// # Errors
    /// [`ConfigError`] when a stored value no longer passes the registry's check.
    pub fn broker_settings(&self) -> Result<BrokerSettings, ConfigError> {
        BrokerSettings::from_resolved(&self.broker())
    }

    /// Places are searched one after the other, each for all names, as Kafka does: a property file that sets
    /// `log.retention.hours` yields to a dynamic `log.retention.ms` and to nothing else.
    fn resolve(
        &self,
        def: &'static ConfigDef,
        own: Option<(ConfigSource, &String)>,
        names: &[Synonym],
    ) -> ResolvedConfig {
        let this_broker = self.image.configs(&ConfigResource::Broker(self.broker_id));
        let all_brokers = self.image.configs(&ConfigResource::AllBrokers);
        let mut found: Vec<(SynonymValue, i64)> = Vec::new();
        if let Some((source, value)) = own {
            let own = SynonymValue {
                name: def.name,
                value: value.clone(),
                source,
            };
            found.push((own, 1));
        }
        let places = [
            (ConfigSource::DynamicBroker, this_broker),
            (ConfigSource::DynamicDefaultBroker, all_brokers),
            (ConfigSource::StaticBroker, &self.properties.all),
        ];
        for (source, values) in places {
            found.extend(names.iter().filter_map(|synonym| {
                let value = values.get(synonym.name)?.clone();
                Some((
                    SynonymValue {
                        name: synonym.name,
                        value,
                        source,
                    },
                    synonym.factor,
                ))
            }));
        }
        found.extend(names.iter().filter_map(|synonym| {
            let default = ConfigScope::Broker.find(synonym.name).ok()?.default?;
            let (name, value, source) = (synonym.name, default.to_owned(), ConfigSource::Default);
            Some((SynonymValue { name, value, source }, synonym.factor))
        }));
        let winner = found.first();
        ResolvedConfig {
            def,
            value: winner
                .map(|(found, factor)| scaled(&found.value, *factor))
                .or(def.default.map(str::to_owned)),
            source: winner.map_or(ConfigSource::Default, |(found, _)| found.source),
            synonyms: found.into_iter().map(|(found, _)| found).collect(),
        }
    }
}

/// A value in the unit of the topic key. Below zero means "no limit" whatever the unit, so it does not scale.
fn scaled(value: &str, factor: i64) -> String {
    match value.trim().parse::<i64>() {
        Ok(number) if factor != 1 && number < 0 => "-1".to_owned(),
        Ok(number) if factor != 1 => number.saturating_mul(factor).to_string(),
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{ConfigRecord, ConfigResourceName, MetadataRecord, TopicRecord};

    fn properties(entries: &[(&str, &str)]) -> BrokerProperties {
        let entries = entries
            .iter()
            .map(|(key, value)| (key.to_string(), value.to_string()));
        BrokerProperties::new(entries.collect()).unwrap()
    }

    fn image(configs: &[(ConfigResourceName, &str, &str)]) -> MetadataImage {
        let topic = TopicRecord {
            topic_id: highwater_types::Uuid::from_u128(1),
            name: "prices".into(),
        };
        let mut records = vec![MetadataRecord::Topic(topic)];
        records.extend(configs.iter().map(|(resource, key, value)| {
            let (key, value) = (key.to_string(), Some(value.to_string()));
            MetadataRecord::Config(ConfigRecord {
                resource: resource.clone(),
                key,
                value,
            })
        }));
        MetadataImage::default().apply(&records).unwrap()
    }

    fn retention(image: &MetadataImage, properties: &BrokerProperties) -> String {
        let view = ConfigView {
            image,
            broker_id: BrokerId::new(1),
            properties,
        };
        let all = view.topic(&TopicName::new("prices").unwrap());
        let found = all
            .into_iter()
            .find(|config| config.def.name == "retention.ms")
            .unwrap();
        let places = found
            .synonyms
            .iter()
            .map(|place| format!("{:?} {}={}", place.source, place.name, place.value));
        format!(
            "{} <- {}",
            found.value.unwrap(),
            places.collect::<Vec<_>>().join(", ")
        )
    }

    #[test]
    fn what_is_said_for_one_listener_counts_before_what_is_said_for_all() {
        let properties = |pairs: &[(&str, &str)]| {
            let owned = pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            BrokerProperties::new(owned.collect())
        };
        let given = properties(&[
            ("sasl.enabled.mechanisms", "SCRAM-SHA-512"),
            ("ssl.client.auth", "required"),
            ("listener.name.outside.sasl.enabled.mechanisms", "PLAIN"),
        ])
        .unwrap();
        assert_eq!(given.get("sasl.enabled.mechanisms"), Some("SCRAM-SHA-512"));
        assert_eq!(given.listeners().collect::<Vec<_>>(), ["outside"]);
        let outside = given.of_listener("OUTSIDE").unwrap();
        assert_eq!(outside.get("sasl.enabled.mechanisms"), Some("PLAIN"));
        assert_eq!(outside.get("ssl.client.auth"), Some("required"));
        assert_eq!(given.of_listener("INSIDE"), None);
        for key in LISTENER_CONFIGS {
            ConfigScope::Broker.find(key).unwrap();
        }
        for (key, value, expected) in [
            ("listener.name.a.ssl.client.auth", "perhaps", "'perhaps'"),
            (
                "listener.name.a.num.partitions",
                "1",
                "'num.partitions' is no config that one listener",
            ),
            ("listener.name.a", "1", "unknown broker config"),
        ] {
            let refused = properties(&[(key, value)]).unwrap_err().to_string();
            assert!(refused.contains(expected), "{refused}");
        }
    }

    #[test]
    fn a_default_comes_through_its_synonym_and_unit() {
        assert_eq!(
            retention(&image(&[]), &properties(&[])),
            "604800000 <- Default log.retention.hours=168"
        );
        let forever = properties(&[("log.retention.hours", "-1")]);
        assert_eq!(
            retention(&image(&[]), &forever),
            "-1 <- StaticBroker log.retention.hours=-1, Default log.retention.hours=168"
        );
    }

    #[test]
    fn the_topic_wins_over_dynamic_over_static_over_default() {
        let static_minutes = properties(&[("log.retention.hours", "1"), ("log.retention.minutes", "2")]);
        let dynamic = [
            (ConfigResourceName::AllBrokers, "log.retention.ms", "3"),
            (ConfigResourceName::Broker(1), "log.retention.ms", "4"),
            (ConfigResourceName::Broker(2), "log.retention.ms", "5"),
            (ConfigResourceName::Topic("prices".into()), "retention.ms", "6"),
        ];
        assert_eq!(
            retention(&image(&dynamic), &static_minutes),
            "6 <- Topic retention.ms=6, DynamicBroker log.retention.ms=4, DynamicDefaultBroker log.retention.ms=3, \
             StaticBroker log.retention.minutes=2, StaticBroker log.retention.hours=1, \
             Default log.retention.hours=168"
        );
        assert!(retention(&image(&[]), &static_minutes).starts_with("120000 <- "));
    }

    #[test]
    fn a_number_of_one_broker_wins_over_that_of_all_and_over_its_properties() {
        const KEY: &str = "max.connections";
        let numbers = |configs: &[(ConfigResourceName, &str, &str)], given: &[(&str, &str)]| {
            let (image, properties) = (image(configs), properties(given));
            let view = ConfigView {
                image: &image,
                broker_id: BrokerId::new(1),
                properties: &properties,
            };
            view.broker_number(KEY)
        };
        let all = (ConfigResourceName::AllBrokers, KEY, "3");
        let own = (ConfigResourceName::Broker(1), KEY, "4");
        let other = (ConfigResourceName::Broker(2), KEY, "5");
        let wrong = (ConfigResourceName::Broker(1), KEY, "-1");
        assert_eq!(numbers(&[], &[]), Ok(None));
        assert_eq!(numbers(std::slice::from_ref(&other), &[(KEY, "2")]), Ok(Some(2)));
        assert_eq!(numbers(std::slice::from_ref(&all), &[(KEY, "2")]), Ok(Some(3)));
        assert_eq!(numbers(&[other, own, all], &[(KEY, "2")]), Ok(Some(4)));
        assert!(numbers(&[wrong], &[]).is_err());
    }

    #[test]
    fn a_node_is_told_about_misspelt_properties() {
        let misspelt = BTreeMap::from([("num.partition".to_owned(), "3".to_owned())]);
        let refused = BrokerProperties::new(misspelt).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "unknown broker config 'num.partition'; did you mean 'num.partitions'?"
        );
    }

    #[test]
    fn every_resolved_config_makes_typed_settings() {
        let (image, properties) = (image(&[]), properties(&[("offsets.retention.minutes", "7")]));
        let view = ConfigView {
            image: &image,
            broker_id: BrokerId::new(1),
            properties: &properties,
        };
        let topic = view.topic_settings(&TopicName::new("prices").unwrap()).unwrap();
        assert_eq!(topic.retention_ms, Some(604_800_000));
        assert_eq!(topic.retention_bytes, None);
        assert_eq!(topic.flush_messages, None);
        assert_eq!(topic.segment_bytes, 1 << 30);
        assert!(topic.cleanup_policy.delete && !topic.cleanup_policy.compact);
        let broker = view.broker_settings().unwrap();
        assert_eq!(broker.offsets_retention_ms, 7 * 60_000);
        assert_eq!(broker.offsets_topic_partitions, 50);
    }

    #[test]
    fn a_groups_own_value_wins_over_that_of_the_brokers() {
        let own = [(
            ConfigResourceName::Group("g".into()),
            "consumer.heartbeat.interval.ms",
            "6000",
        )];
        let (image, properties) = (
            image(&own),
            properties(&[("group.consumer.session.timeout.ms", "50000")]),
        );
        let view = ConfigView {
            image: &image,
            broker_id: BrokerId::new(1),
            properties: &properties,
        };
        let shown = |group: &str| -> Vec<String> {
            let configs = view.group(group).into_iter();
            configs
                .map(|config| format!("{} {}", config.value.unwrap(), config.source.code()))
                .collect()
        };
        assert_eq!(shown("g"), ["6000 8", "50000 4"]);
        assert_eq!(shown("other"), ["5000 5", "50000 4"]);
        assert_eq!(image.configured_groups().collect::<Vec<_>>(), ["g"]);
    }

    #[test]
    fn broker_settings_that_contradict_each_other_are_refused() {
        let refusal = |given: &[(&str, &str)]| {
            let (image, properties) = (image(&[]), properties(given));
            let view = ConfigView {
                image: &image,
                broker_id: BrokerId::new(1),
                properties: &properties,
            };
            view.broker_settings().unwrap_err().to_string()
        };
        assert_eq!(
            refusal(&[("group.consumer.session.timeout.ms", "44999")]),
            "config 'group.consumer.min.session.timeout.ms' (45000) must not exceed \
             'group.consumer.session.timeout.ms' (44999)"
        );
        assert_eq!(
            refusal(&[("group.max.session.timeout.ms", "5")]),
            "config 'group.min.session.timeout.ms' (6000) must not exceed 'group.max.session.timeout.ms' (5)"
        );
        assert_eq!(
            refusal(&[("queued.max.request.bytes", "1000000")]),
            "config 'socket.request.max.bytes' (104857600) must not exceed 'queued.max.request.bytes' (1000000)"
        );
    }
}
