//! DescribeConfigs, AlterConfigs, IncrementalAlterConfigs (semantic 20, KIP-133, KIP-226, KIP-339).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytestring::ByteString;
use highwater_cluster::config_defs::ConfigType;
use highwater_cluster::decide::{
    self, AlterError, ConfigChange, ConfigOperation, ConfigReplacement, Outcome, RequestedResource,
};
use highwater_cluster::{
    ConfigError, ConfigResource, GroupBounds, MetadataImage, MetadataRecord, ResolvedConfig,
};
use highwater_types::TopicName;
use highwater_wire::ErrorCode;
use highwater_wire::messages::describe_configs_request::DescribeConfigsResource;
use highwater_wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use highwater_wire::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, alter_configs_response,
    incremental_alter_configs_request, incremental_alter_configs_response,
};

use super::logger_configs;
use crate::broker::Broker;
use crate::error::ApiError;

/// Kinds of resources, as requests number them.
pub(crate) const TOPIC: i8 = 2;
pub(crate) const BROKER: i8 = 4;
pub(crate) const BROKER_LOGGER: i8 = 8;
pub(crate) const CLIENT_METRICS: i8 = 16;
pub(crate) const GROUP: i8 = 32;

/// Every config of every resource, with where its value comes from.
pub(crate) fn describe(broker: &Arc<Broker>, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let image = broker.image();
    let detail = Detail {
        synonyms: request.include_synonyms,
        documentation: request.include_documentation,
    };
    let mut answered = BTreeSet::new();
    let results = request
        .resources
        .into_iter()
        // A resource named again and again would make a long answer out of a short request.
        .filter(|resource| answered.insert((resource.resource_type, resource.resource_name.clone())))
        .map(|resource| match rows(broker, &image, &resource, detail) {
            Ok(configs) => described(resource, configs),
            Err(error) => DescribeConfigsResult {
                error_code: error.code.code(),
                error_message: Some(error.message.into()),
                resource_type: resource.resource_type,
                resource_name: resource.resource_name,
                configs: Vec::new(),
            },
        })
        .collect();
    DescribeConfigsResponse {
        results,
        ..Default::default()
    }
}

#[derive(Clone, Copy)]
struct Detail {
    synonyms: bool,
    documentation: bool,
}

fn resolve(
    broker: &Broker,
    image: &MetadataImage,
    resource: &DescribeConfigsResource,
) -> Result<Vec<ResolvedConfig>, ApiError> {
    let requested = requested(resource.resource_type, &resource.resource_name)?;
    if let RequestedResource::Topic(name) = &requested {
        TopicName::new(name.as_str())
            .map_err(|error| ApiError::new(ErrorCode::InvalidTopicException, error.to_string()))?;
    }
    let view = broker.configs(image);
    match requested.find(image)? {
        ConfigResource::Topic(name) => Ok(view.topic(&name)),
        ConfigResource::Group(name) => Ok(view.group(&name)),
        ConfigResource::ClientMetrics(name) => Ok(view.client_metrics(&name)),
        ConfigResource::AllBrokers => Ok(view.all_brokers()),
        ConfigResource::Broker(id) if id == broker.node_id => Ok(view.broker()),
        ConfigResource::Broker(id) => {
            let message = format!("ask broker {id} itself; this is broker {}", broker.node_id);
            Err(ApiError::new(ErrorCode::InvalidRequest, message))
        }
    }
}

fn rows(
    broker: &Broker,
    image: &MetadataImage,
    resource: &DescribeConfigsResource,
    detail: Detail,
) -> Result<Vec<DescribeConfigsResourceResult>, ApiError> {
    if resource.resource_type == BROKER_LOGGER {
        return logger_configs::describe(broker, &resource.resource_name);
    }
    let configs = resolve(broker, image, resource)?.into_iter();
    Ok(configs.map(|config| row(config, detail)).collect())
}

fn described(
    resource: DescribeConfigsResource,
    mut configs: Vec<DescribeConfigsResourceResult>,
) -> DescribeConfigsResult {
    let wanted: BTreeSet<_> = resource
        .configuration_keys
        .unwrap_or_default()
        .into_iter()
        .collect();
    configs.retain(|config| wanted.is_empty() || wanted.contains(&config.name));
    DescribeConfigsResult {
        error_code: ErrorCode::None.code(),
        error_message: None,
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        configs,
    }
}

fn row(config: ResolvedConfig, detail: Detail) -> DescribeConfigsResourceResult {
    let synonyms = config.synonyms.iter().filter(|_| detail.synonyms);
    DescribeConfigsResourceResult {
        name: config.def.name.into(),
        read_only: config.is_read_only(),
        config_source: config.source.code(),
        is_sensitive: false,
        synonyms: synonyms
            .map(|synonym| DescribeConfigsSynonym {
                name: synonym.name.into(),
                value: Some(synonym.value.as_str().into()),
                source: synonym.source.code(),
            })
            .collect(),
        config_type: type_code(config.def.config_type),
        documentation: detail.documentation.then(|| config.def.doc.into()),
        value: config.value.map(ByteString::from),
    }
}

fn type_code(config_type: ConfigType) -> i8 {
    match config_type {
        ConfigType::Boolean => 1,
        ConfigType::String => 2,
        ConfigType::Int => 3,
        ConfigType::Long => 5,
        ConfigType::Double => 6,
        ConfigType::List => 7,
    }
}

fn requested(resource_type: i8, name: &str) -> Result<RequestedResource, ApiError> {
    match resource_type {
        TOPIC => Ok(RequestedResource::Topic(name.to_owned())),
        BROKER => Ok(RequestedResource::Broker(name.to_owned())),
        // Levels are no metadata; what is not replaced comes another way.
        BROKER_LOGGER => Err(logger_configs::not_replaceable()),
        GROUP => Ok(RequestedResource::Group(name.to_owned())),
        CLIENT_METRICS => Ok(RequestedResource::ClientMetrics(name.to_owned())),
        other => {
            let message = format!(
                "no resource is of type {other}; use topic (2), broker (4), loggers of a broker (8), client metrics \
                 (16) or group (32)"
            );
            Err(ApiError::new(ErrorCode::InvalidRequest, message))
        }
    }
}

/// A resource of a request with what became of it.
type Altered = (i8, ByteString, Result<(), ApiError>);

/// Sets, deletes, appends, subtracts.
pub(crate) async fn alter(
    broker: &Arc<Broker>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let (loggers, others): (Vec<_>, Vec<_>) = request
        .resources
        .into_iter()
        .partition(|resource| resource.resource_type == BROKER_LOGGER);
    let mut altered = alter_loggers(broker, &loggers, request.validate_only);
    let changes = others.into_iter().map(|resource| {
        let (kind, name) = (resource.resource_type, resource.resource_name);
        let change = requested(kind, &name).and_then(|requested| {
            let operations: Result<_, ApiError> = resource.configs.into_iter().map(operation).collect();
            Ok(ConfigChange {
                resource: requested,
                operations: operations?,
            })
        });
        (kind, name, change)
    });
    let bounds = GroupBounds::of(&broker.settings);
    let decide = |image: &_, changes: &[_]| decide::incremental_alter_configs(image, changes, &bounds);
    altered.extend(commit(broker, changes.collect(), request.validate_only, decide).await);
    let responses = altered
        .into_iter()
        .map(|(resource_type, resource_name, result)| {
            let (error_code, error_message) = code_and_message(result);
            incremental_alter_configs_response::AlterConfigsResourceResponse {
                error_code,
                error_message,
                resource_type,
                resource_name,
            }
        })
        .collect();
    IncrementalAlterConfigsResponse {
        responses,
        ..Default::default()
    }
}

fn alter_loggers(
    broker: &Broker,
    resources: &[incremental_alter_configs_request::AlterConfigsResource],
    validate_only: bool,
) -> Vec<Altered> {
    let mut times: BTreeMap<&ByteString, usize> = BTreeMap::new();
    for resource in resources {
        *times.entry(&resource.resource_name).or_default() += 1;
    }
    let mut altered = Vec::new();
    for resource in resources {
        let name = &resource.resource_name;
        let result = match times.remove(name) {
            Some(1) => logger_configs::alter(broker, name, &resource.configs, validate_only),
            Some(_) => Err(AlterError::DuplicateInRequest.into()),
            // Answered at its first mention.
            None => continue,
        };
        altered.push((BROKER_LOGGER, name.clone(), result));
    }
    altered
}

/// Replaces the whole set: what is not named returns to its default.
pub(crate) async fn replace(broker: &Arc<Broker>, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let replacements = request.resources.into_iter().map(|resource| {
        let (kind, name) = (resource.resource_type, resource.resource_name);
        let replacement = requested(kind, &name).map(|requested| ConfigReplacement {
            resource: requested,
            configs: resource
                .configs
                .into_iter()
                .map(|config| {
                    (
                        config.name.to_string(),
                        config.value.map(|value| value.to_string()),
                    )
                })
                .collect(),
        });
        (kind, name, replacement)
    });
    let bounds = GroupBounds::of(&broker.settings);
    let decide = |image: &_, changes: &[_]| decide::alter_configs(image, changes, &bounds);
    let altered = commit(broker, replacements.collect(), request.validate_only, decide).await;
    let responses = altered
        .into_iter()
        .map(|(resource_type, resource_name, result)| {
            let (error_code, error_message) = code_and_message(result);
            alter_configs_response::AlterConfigsResourceResponse {
                error_code,
                error_message,
                resource_type,
                resource_name,
            }
        })
        .collect();
    AlterConfigsResponse {
        responses,
        ..Default::default()
    }
}

fn operation(
    config: incremental_alter_configs_request::AlterableConfig,
) -> Result<(String, ConfigOperation), ApiError> {
    let value = config.value.map(|value| value.to_string());
    let operation = match config.config_operation {
        0 => ConfigOperation::Set(value),
        1 => ConfigOperation::Delete,
        2 => ConfigOperation::Append(value),
        3 => ConfigOperation::Subtract(value),
        other => {
            let message = format!("config operation {other} is unknown; use 0 (set) to 3 (subtract)");
            return Err(ApiError::new(ErrorCode::InvalidRequest, message));
        }
    };
    Ok((config.name.to_string(), operation))
}

/// Commits what can be decided; every resource of the request gets its answer, in order of first mention.
async fn commit<C: HasResource>(
    broker: &Arc<Broker>,
    items: Vec<(i8, ByteString, Result<C, ApiError>)>,
    validate_only: bool,
    decide: impl Fn(&MetadataImage, &[C]) -> Vec<Outcome<RequestedResource, Vec<MetadataRecord>, AlterError>>,
) -> Vec<Altered> {
    let mut answers: Vec<Altered> = Vec::new();
    let mut changes = Vec::new();
    for (kind, name, change) in items {
        match change {
            Ok(change) => changes.push(change),
            Err(error) => answers.push((kind, name, Err(error))),
        }
    }
    let on_image = |image: &MetadataImage| {
        let outcomes = decide(image, &changes);
        let good = outcomes.iter().filter_map(|outcome| outcome.result.as_ref().ok());
        let records = good.flatten().cloned().collect();
        (outcomes, records)
    };
    let decided = match validate_only {
        true => Ok(on_image(&broker.image()).0),
        false => broker.commit(on_image).await,
    };
    match decided {
        Ok(outcomes) => answers.extend(outcomes.into_iter().map(|outcome| {
            let (kind, name) = named(outcome.subject);
            let result = outcome.result.map(|_| ()).map_err(|error| refusal(kind, error));
            (kind, name, result)
        })),
        Err(error) => answers.extend(changes.iter().map(|change| {
            let (kind, name) = named(change.resource().clone());
            (kind, name, Err(error.clone()))
        })),
    }
    answers
}

/// The code is Kafka's: what is wrong with a broker's value, or with a subscription, is INVALID_REQUEST there.
fn refusal(kind: i8, error: AlterError) -> ApiError {
    let is_request = match &error {
        AlterError::Config(ConfigError::InvalidValue { .. }) => matches!(kind, BROKER | CLIENT_METRICS),
        AlterError::Config(_) => kind == CLIENT_METRICS,
        _ => false,
    };
    let error = ApiError::from(error);
    match is_request {
        true => ApiError::new(ErrorCode::InvalidRequest, error.message),
        false => error,
    }
}

trait HasResource {
    fn resource(&self) -> &RequestedResource;
}

impl HasResource for ConfigChange {
    fn resource(&self) -> &RequestedResource {
        &self.resource
    }
}

impl HasResource for ConfigReplacement {
    fn resource(&self) -> &RequestedResource {
        &self.resource
    }
}

fn named(resource: RequestedResource) -> (i8, ByteString) {
    match resource {
        RequestedResource::Topic(name) => (TOPIC, name.into()),
        RequestedResource::Broker(name) => (BROKER, name.into()),
        RequestedResource::Group(name) => (GROUP, name.into()),
        RequestedResource::ClientMetrics(name) => (CLIENT_METRICS, name.into()),
    }
}

fn code_and_message(result: Result<(), ApiError>) -> (i16, Option<ByteString>) {
    match result {
        Ok(()) => (ErrorCode::None.code(), None),
        Err(error) => (error.code.code(), Some(error.message.into())),
    }
}
