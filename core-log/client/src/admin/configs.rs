//! Configurations of topics and brokers.

use std::collections::BTreeMap;

use highwater_types::{BrokerId, ByteString, TopicName};
use highwater_wire::{
    ApiKey,
    messages::{
        DescribeConfigsRequest, DescribeConfigsResponse, IncrementalAlterConfigsRequest,
        describe_configs_request::DescribeConfigsResource,
        describe_configs_response::DescribeConfigsResourceResult,
        incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig},
    },
};

use super::{Admin, Answers};
use crate::ClientError;

/// What has a configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConfigResource {
    /// A topic.
    Topic(TopicName),
    /// One broker.
    Broker(BrokerId),
    /// The default of all brokers.
    AllBrokers,
}

impl ConfigResource {
    fn code(&self) -> i8 {
        match self {
            Self::Topic(_) => 2,
            Self::Broker(_) | Self::AllBrokers => 4,
        }
    }

    fn name(&self) -> ByteString {
        match self {
            Self::Topic(topic) => topic.as_byte_string().clone(),
            Self::Broker(id) => id.to_string().into(),
            Self::AllBrokers => ByteString::new(),
        }
    }

    fn from_wire(code: i8, name: &ByteString) -> Option<Self> {
        match code {
            2 => TopicName::new(name.clone()).ok().map(Self::Topic),
            4 if name.is_empty() => Some(Self::AllBrokers),
            4 => name.parse().ok().map(|id| Self::Broker(BrokerId::new(id))),
            _ => None,
        }
    }
}

/// Where a value comes from (KIP-226).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// Set on this broker while it ran.
    DynamicBroker,
    /// Set on all brokers while they ran.
    DynamicDefaultBroker,
    /// From the broker's configuration file.
    StaticBroker,
    /// Nobody set it.
    Default,
    /// Something newer than this client.
    Other(i8),
}

impl ConfigSource {
    fn from_code(code: i8) -> Self {
        match code {
            1 => Self::Topic,
            2 => Self::DynamicBroker,
            3 => Self::DynamicDefaultBroker,
            4 => Self::StaticBroker,
            5 => Self::Default,
            other => Self::Other(other),
        }
    }
}

/// One configuration value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// Kafka's name of it.
    pub name: ByteString,
    /// The value; `None` for secrets and for what has none.
    pub value: Option<ByteString>,
    /// Where it comes from.
    pub source: ConfigSource,
    /// Whether it cannot be changed while brokers run.
    pub is_read_only: bool,
    /// Whether the value is a secret.
    pub is_sensitive: bool,
    /// What it means (v3+).
    pub documentation: Option<ByteString>,
}

/// A change to one configuration value (KIP-339).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigOp {
    /// Sets it.
    Set(ByteString),
    /// Goes back to the default.
    Delete,
    /// Adds to a list.
    Append(ByteString),
    /// Takes from a list.
    Subtract(ByteString),
}

impl Admin {
    /// All values of each resource.
    ///
    /// # Errors
    /// [`ClientError`] when no broker answers within `api_timeout`.
    pub async fn describe_configs(
        &self,
        resources: impl IntoIterator<Item = ConfigResource>,
    ) -> Result<Answers<ConfigResource, Vec<ConfigEntry>>, ClientError> {
        let (mut elsewhere, mut own) = (Vec::new(), BTreeMap::new());
        for resource in resources {
            match resource {
                ConfigResource::Broker(id) => drop(own.insert(id, resource)),
                other => elsewhere.push(other),
            }
        }
        let mut answers = Answers::new();
        if !elsewhere.is_empty() {
            collect(&mut answers, self.ask_any(describe(&elsewhere)).await?);
        }
        // Only the broker itself knows what its file says.
        for (id, resource) in own {
            let view = self.core.metadata.refresh_brokers().await?;
            let request = describe(std::slice::from_ref(&resource));
            let response = match view.brokers.get(&id) {
                Some(info) => {
                    self.core
                        .network
                        .broker(&info.address())
                        .await?
                        .call(request)
                        .await?
                }
                None => self.ask_any(request).await?,
            };
            collect(&mut answers, response);
        }
        Ok(answers)
    }

    /// Changes single values and leaves the others alone.
    ///
    /// # Errors
    /// [`ClientError`] when no broker answers within `api_timeout`.
    pub async fn incremental_alter_configs(
        &self,
        changes: impl IntoIterator<Item = (ConfigResource, Vec<(ByteString, ConfigOp)>)>,
    ) -> Result<Answers<ConfigResource, ()>, ClientError> {
        let resources = changes.into_iter().map(|(resource, ops)| AlterConfigsResource {
            resource_type: resource.code(),
            resource_name: resource.name(),
            configs: ops.into_iter().map(alterable).collect(),
        });
        let request = IncrementalAlterConfigsRequest {
            resources: resources.collect(),
            validate_only: false,
        };
        let response = self.ask_any(request).await?;
        let answers = response.responses.into_iter().filter_map(|r| {
            let resource = ConfigResource::from_wire(r.resource_type, &r.resource_name)?;
            let api = ApiKey::IncrementalAlterConfigs;
            let answer = ClientError::check(api, r.error_code, &r.resource_name, r.error_message);
            Some((resource, answer))
        });
        Ok(answers.collect())
    }
}

fn describe(resources: &[ConfigResource]) -> DescribeConfigsRequest {
    let resource = |resource: &ConfigResource| DescribeConfigsResource {
        resource_type: resource.code(),
        resource_name: resource.name(),
        configuration_keys: None,
    };
    DescribeConfigsRequest {
        resources: resources.iter().map(resource).collect(),
        include_documentation: true,
        ..Default::default()
    }
}

fn collect(answers: &mut Answers<ConfigResource, Vec<ConfigEntry>>, response: DescribeConfigsResponse) {
    for result in response.results {
        let Some(resource) = ConfigResource::from_wire(result.resource_type, &result.resource_name) else {
            continue;
        };
        let (code, message) = (result.error_code, result.error_message);
        let checked = ClientError::check(ApiKey::DescribeConfigs, code, &result.resource_name, message);
        let entries = result.configs.into_iter().map(entry);
        answers.insert(resource, checked.map(|()| entries.collect()));
    }
}

fn entry(config: DescribeConfigsResourceResult) -> ConfigEntry {
    ConfigEntry {
        name: config.name,
        value: config.value.filter(|_| !config.is_sensitive),
        source: ConfigSource::from_code(config.config_source),
        is_read_only: config.read_only,
        is_sensitive: config.is_sensitive,
        documentation: config.documentation,
    }
}

fn alterable((name, op): (ByteString, ConfigOp)) -> AlterableConfig {
    let (config_operation, value) = match op {
        ConfigOp::Set(value) => (0, Some(value)),
        ConfigOp::Delete => (1, None),
        ConfigOp::Append(value) => (2, Some(value)),
        ConfigOp::Subtract(value) => (3, Some(value)),
    };
    AlterableConfig {
        name,
        config_operation,
        value,
    }
}
