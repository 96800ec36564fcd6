//! CreateTopics, DeleteTopics, CreatePartitions: one outcome per topic, committed together
//! (semantics 18 and 19).

use std::sync::Arc;

use bytestring::ByteString;
use highwater_cluster::decide::{
    self, CreatedTopic, DeletedTopic, DeletionPolicy, ManualAssignment, NewPartitions, NewTopic, Outcome,
    PlacementContext, TopicError, TopicSelector,
};
use highwater_cluster::{MetadataImage, ResolvedConfig};
use highwater_types::{BrokerId, TopicId};
use highwater_wire::ErrorCode;
use highwater_wire::messages::create_partitions_request::CreatePartitionsTopic;
use highwater_wire::messages::create_partitions_response::CreatePartitionsTopicResult;
use highwater_wire::messages::create_topics_request::CreatableTopic;
use highwater_wire::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use highwater_wire::messages::delete_topics_response::DeletableTopicResult;
use highwater_wire::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse,
};

use crate::broker::Broker;
use crate::controller::{Decision, alive, fresh_topic_id, seed};
use crate::error::ApiError;

/// From this version on DeleteTopics names topics in structs, by name or by identity.
const FIRST_DELETION_BY_ID: i16 = 6;

/// Creates topics, or only says whether it would.
pub(crate) async fn create(broker: &Arc<Broker>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let topics: Vec<NewTopic> = request.topics.iter().map(new_topic).collect();
    let decided = match request.validate_only {
        true => Ok(broker.decide_topics(&broker.image(), &topics).0),
        false => broker.commit(|image| broker.decide_topics(image, &topics)).await,
    };
    let topics = match decided {
        Ok(outcomes) => outcomes
            .into_iter()
            .map(|outcome| {
                let name = ByteString::from(outcome.subject);
                match outcome.result {
                    Ok(created) => created_result(broker, name, &created),
                    Err(error) => refused_result(name, error.into()),
                }
            })
            .collect(),
        Err(error) => request
            .topics
            .into_iter()
            .map(|topic| refused_result(topic.name, error.clone()))
            .collect(),
    };
    CreateTopicsResponse {
        topics,
        ..Default::default()
    }
}

fn new_topic(wanted: &CreatableTopic) -> NewTopic {
    NewTopic {
        name: wanted.name.to_string(),
        topic_id: fresh_topic_id(),
        // -1 leaves a count to the broker (KIP-464).
        partitions: (wanted.num_partitions != -1).then_some(wanted.num_partitions),
        replication_factor: (wanted.replication_factor != -1).then_some(wanted.replication_factor),
        assignments: wanted
            .assignments
            .iter()
            .map(|assignment| ManualAssignment {
                partition: assignment.partition_index,
                replicas: assignment.broker_ids.iter().copied().map(BrokerId::new).collect(),
            })
            .collect(),
        configs: wanted
            .configs
            .iter()
            .map(|config| {
                (
                    config.name.to_string(),
                    config.value.as_ref().map(ByteString::to_string),
                )
            })
            .collect(),
    }
}

fn created_result(broker: &Broker, name: ByteString, created: &CreatedTopic) -> CreatableTopicResult {
    let image = broker.image();
    let configs = broker.configs(&image).topic_with(&created.configs);
    CreatableTopicResult {
        name,
        topic_id: created.topic_id.get(),
        error_message: None,
        num_partitions: created.partitions,
        replication_factor: created.replication_factor,
        configs: Some(configs.into_iter().map(created_config).collect()),
        ..Default::default()
    }
}

fn created_config(config: ResolvedConfig) -> CreatableTopicConfigs {
    CreatableTopicConfigs {
        name: config.def.name.into(),
        read_only: config.is_read_only(),
        config_source: config.source.code(),
        is_sensitive: false,
        value: config.value.map(ByteString::from),
    }
}

fn refused_result(name: ByteString, error: ApiError) -> CreatableTopicResult {
    CreatableTopicResult {
        name,
        error_code: error.code.code(),
        error_message: Some(error.message.into()),
        configs: None,
        ..Default::default()
    }
}

/// Deletes topics by name or identity.
pub(crate) async fn delete(
    broker: &Arc<Broker>,
    version: i16,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let selectors: Vec<TopicSelector> = match version >= FIRST_DELETION_BY_ID {
        true => request
            .topics
            .iter()
            .map(|topic| match &topic.name {
                Some(name) => TopicSelector::Name(name.to_string()),
                None => TopicSelector::Id(TopicId::new(topic.topic_id)),
            })
            .collect(),
        false => request
            .topic_names
            .iter()
            .map(|name| TopicSelector::Name(name.to_string()))
            .collect(),
    };
    let policy = match broker.settings.delete_topic_enable {
        true => DeletionPolicy::Allowed,
        false => DeletionPolicy::Disabled,
    };
    let decide = |image: &MetadataImage| {
        let outcomes = decide::delete_topics(image, &selectors, policy);
        let gone = outcomes.iter().filter_map(|outcome| outcome.result.as_ref().ok());
        let records = gone.flat_map(|topic| topic.records.clone()).collect();
        (outcomes, records)
    };
    let responses = match broker.commit(decide).await {
        Ok(outcomes) => outcomes
            .into_iter()
            .map(|outcome| deletion(outcome.subject, outcome.result.map_err(ApiError::from)))
            .collect(),
        Err(error) => selectors
            .into_iter()
            .map(|selector| deletion(selector, Err(error.clone())))
            .collect(),
    };
    DeleteTopicsResponse {
        responses,
        ..Default::default()
    }
}

fn deletion(subject: TopicSelector, result: Result<DeletedTopic, ApiError>) -> DeletableTopicResult {
    let (name, topic_id) = match subject {
        TopicSelector::Name(name) => (Some(name.into()), Default::default()),
        TopicSelector::Id(id) => (None, id.get()),
    };
    match result {
        Ok(deleted) => DeletableTopicResult {
            name: Some(deleted.name.into_byte_string()),
            topic_id: deleted.topic_id.get(),
            ..Default::default()
        },
        Err(error) => DeletableTopicResult {
            name,
            topic_id,
            error_code: error.code.code(),
            error_message: Some(error.message.into()),
        },
    }
}

/// Adds partitions, or only says whether it would.
pub(crate) async fn create_partitions(
    broker: &Arc<Broker>,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let wanted: Vec<NewPartitions> = request.topics.iter().map(new_partitions).collect();
    let decide = |image: &MetadataImage| decide_partitions(image, &wanted);
    let decided = match request.validate_only {
        true => Ok(decide(&broker.image()).0),
        false => broker.commit(decide).await,
    };
    let results = match decided {
        Ok(outcomes) => outcomes
            .into_iter()
            .map(|outcome| growth(outcome.subject.into(), outcome.result.map_err(ApiError::from)))
            .collect(),
        Err(error) => request
            .topics
            .into_iter()
            .map(|topic| growth(topic.name, Err(error.clone())))
            .collect(),
    };
    CreatePartitionsResponse {
        results,
        ..Default::default()
    }
}

fn decide_partitions(
    image: &MetadataImage,
    wanted: &[NewPartitions],
) -> Decision<Vec<Outcome<String, (), TopicError>>> {
    let brokers = alive(image);
    let placement = PlacementContext {
        brokers: &brokers,
        seed: seed(),
    };
    let mut records = Vec::new();
    let outcomes = decide::create_partitions(image, wanted, placement)
        .into_iter()
        .map(|outcome| Outcome {
            subject: outcome.subject,
            result: outcome.result.map(|more| records.extend(more)),
        })
        .collect();
    (outcomes, records)
}

fn new_partitions(wanted: &CreatePartitionsTopic) -> NewPartitions {
    let by_hand = wanted.assignments.as_ref().map(|assignments| {
        let replicas = |ids: &[i32]| ids.iter().copied().map(BrokerId::new).collect();
        assignments
            .iter()
            .map(|assignment| replicas(&assignment.broker_ids))
            .collect()
    });
    NewPartitions {
        topic: wanted.name.to_string(),
        total: wanted.count,
        assignments: by_hand,
    }
}

fn growth(name: ByteString, result: Result<(), ApiError>) -> CreatePartitionsTopicResult {
    match result {
        Ok(()) => CreatePartitionsTopicResult {
            name,
            error_code: ErrorCode::None.code(),
            error_message: None,
        },
        Err(error) => CreatePartitionsTopicResult {
            name,
            error_code: error.code.code(),
            error_message: Some(error.message.into()),
        },
    }
}
