//! CreateTopics, DeleteTopics, CreatePartitions: one outcome per topic, committed together
//! (semantics 18 and 19).

use std::sync::Arc;

use bytestring::ByteString;
use highwater_cluster::decide::{
    self, CreatedTopic, DeletedTopic, DeletionPolicy, ManualAssignment, NewPartitions, NewTopic, Outcome,
    PlacementContext, TopicError, TopicSelector,
};
use highwater_cluster::{MetadataImage, ResolvedConfig};
use highwater_types::{BrokerId, TopicId, Uuid};
use highwater_wire::ErrorCode;
use highwater_wire::messages::create_partitions_request::CreatePartitionsTopic;
use highwater_wire::messages::create_partitions_response::CreatePartitionsTopicResult;
use highwater_wire::messages::create_topics_request::CreatableTopic;
use highwater_wire::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use highwater_wire::messages::delete_topics_request::DeleteTopicState;
use highwater_wire::messages::delete_topics_response::DeletableTopicResult;
use highwater_wire::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteTopicsRequest, DeleteTopicsResponse,
};

use crate::broker::Broker;
use crate::controller::{Decision, alive, fresh_topic_id, seed};
use crate::dispatch::RequestContext;
use crate::error::ApiError;
use crate::quotas::Mutations;
use crate::throttle::whole_ms;

/// From this version on DeleteTopics names topics in structs, by name or by identity.
const FIRST_DELETION_BY_ID: i16 = 6;

/// From this version on a client knows THROTTLING_QUOTA_EXCEEDED (KIP-599); older ones are only slowed down.
const FIRST_CREATION_REFUSED: i16 = 6;
/// See [`FIRST_CREATION_REFUSED`].
const FIRST_DELETION_REFUSED: i16 = 5;
/// See [`FIRST_CREATION_REFUSED`].
const FIRST_GROWTH_REFUSED: i16 = 3;

/// What a client's quota lets through of a request, when it has one.
struct Admitted<'a> {
    mutations: Option<Mutations<'a>>,
    refuses: bool,
}

impl<'a> Admitted<'a> {
    fn new(broker: &'a Broker, context: &'a RequestContext, refuses: bool) -> Self {
        let now_ms = broker.clock.monotonic_ms();
        Admitted {
            mutations: broker.quotas.mutations(context.quota_client(), now_ms),
            refuses,
        }
    }

    /// Takes `partitions` from the quota; whether the change may be made.
    fn admits(&self, partitions: usize) -> bool {
        let Some(mutations) = &self.mutations else {
            return true;
        };
        if self.refuses {
            return mutations.admit(partitions);
        }
        mutations.take(partitions);
        true
    }

    fn throttle_time_ms(&self) -> i32 {
        self.mutations
            .as_ref()
            .map_or(0, |mutations| whole_ms(mutations.throttle()))
    }
}

fn above_quota() -> ApiError {
    let message = "the client's controller_mutation_rate is used up; try again after the throttle time";
    ApiError::new(ErrorCode::ThrottlingQuotaExceeded, message)
}

/// Creates topics, or only says whether it would.
pub(crate) async fn create(
    broker: &Arc<Broker>,
    context: &RequestContext,
    version: i16,
    request: CreateTopicsRequest,
) -> CreateTopicsResponse {
    let mut topics: Vec<NewTopic> = request.topics.iter().map(new_topic).collect();
    let admitted = Admitted::new(broker, context, version >= FIRST_CREATION_REFUSED);
    let mut results = Vec::with_capacity(topics.len());
    if admitted.mutations.is_some() && !request.validate_only {
        let outcomes = broker.decide_topics(&broker.image(), &topics).0;
        for (name, created) in outcomes
            .into_iter()
            .filter_map(|outcome| Some((outcome.subject, outcome.result.ok()?)))
        {
            if !admitted.admits(usize::try_from(created.partitions).unwrap_or(0)) {
                topics.retain(|topic| topic.name != name);
                results.push(refused_result(name.into(), above_quota()));
            }
        }
    }
    let decided = match request.validate_only {
        true => Ok(broker.decide_topics(&broker.image(), &topics).0),
        false => broker.commit(|image| broker.decide_topics(image, &topics)).await,
    };
    match decided {
        Ok(outcomes) => results.extend(outcomes.into_iter().map(|outcome| {
            let name = ByteString::from(outcome.subject);
            match outcome.result {
                Ok(created) => created_result(broker, name, &created, request.validate_only),
                Err(error) => refused_result(name, error.into()),
            }
        })),
        Err(error) => results.extend(
            topics
                .into_iter()
                .map(|topic| refused_result(topic.name.into(), error.clone())),
        ),
    }
    CreateTopicsResponse {
        throttle_time_ms: admitted.throttle_time_ms(),
        topics: results,
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

fn created_result(
    broker: &Broker,
    name: ByteString,
    created: &CreatedTopic,
    validate_only: bool,
) -> CreatableTopicResult {
    let image = broker.image();
    let configs = broker.configs(&image).topic_with(&created.configs);
    CreatableTopicResult {
        name,
        // A topic that does not come to be has no identity.
        topic_id: match validate_only {
            true => Uuid::nil(),
            false => created.topic_id.get(),
        },
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
    context: &RequestContext,
    version: i16,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let mut responses = Vec::new();
    let mut selectors = Vec::new();
    if version >= FIRST_DELETION_BY_ID {
        for topic in request.topics {
            match selector(&topic) {
                Ok(selector) => selectors.push(selector),
                Err(error) => responses.push(refused_deletion(topic.name, topic.topic_id, error)),
            }
        }
    } else {
        let names = request.topic_names.iter();
        selectors.extend(names.map(|name| TopicSelector::Name(name.to_string())));
    }
    let policy = match broker.settings.delete_topic_enable {
        true => DeletionPolicy::Allowed,
        false => DeletionPolicy::Disabled,
    };
    let admitted = Admitted::new(broker, context, version >= FIRST_DELETION_REFUSED);
    if admitted.mutations.is_some() {
        let image = broker.image();
        for outcome in decide::delete_topics(&image, &selectors, policy) {
            let Ok(deleted) = outcome.result else { continue };
            let partitions = image
                .topic(deleted.name.as_str())
                .map_or(0, |topic| topic.partitions.len());
            if !admitted.admits(partitions) {
                selectors.retain(|selector| *selector != outcome.subject);
                responses.push(deletion(outcome.subject, Err(above_quota())));
            }
        }
    }
    let decide = |image: &MetadataImage| {
        let outcomes = decide::delete_topics(image, &selectors, policy);
        let gone = outcomes.iter().filter_map(|outcome| outcome.result.as_ref().ok());
        let records = gone.flat_map(|topic| topic.records.clone()).collect();
        (outcomes, records)
    };
    match broker.commit(decide).await {
        Ok(outcomes) => responses.extend(
            outcomes
                .into_iter()
                .map(|outcome| deletion(outcome.subject, outcome.result.map_err(ApiError::from))),
        ),
        Err(error) => responses.extend(
            selectors
                .into_iter()
                .map(|selector| deletion(selector, Err(error.clone()))),
        ),
    }
    DeleteTopicsResponse {
        throttle_time_ms: admitted.throttle_time_ms(),
        responses,
    }
}

/// Either a name or an identity, not both and not neither.
fn selector(topic: &DeleteTopicState) -> Result<TopicSelector, ApiError> {
    match (&topic.name, topic.topic_id.is_nil()) {
        (Some(name), true) => Ok(TopicSelector::Name(name.to_string())),
        (None, false) => Ok(TopicSelector::Id(TopicId::new(topic.topic_id))),
        (Some(_), false) => {
            let message = "a topic is named by its name or by its id, not by both";
            Err(ApiError::new(ErrorCode::InvalidRequest, message))
        }
        (None, true) => {
            let message = "a topic is named by its name or by its id; both are missing";
            Err(ApiError::new(ErrorCode::InvalidRequest, message))
        }
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
        Err(error) => refused_deletion(name, topic_id, error),
    }
}

fn refused_deletion(name: Option<ByteString>, topic_id: Uuid, error: ApiError) -> DeletableTopicResult {
    DeletableTopicResult {
        name,
        topic_id,
        error_code: error.code.code(),
        error_message: Some(error.message.into()),
    }
}

/// Adds partitions, or only says whether it would.
pub(crate) async fn create_partitions(
    broker: &Arc<Broker>,
    context: &RequestContext,
    version: i16,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut wanted: Vec<NewPartitions> = request.topics.iter().map(new_partitions).collect();
    let limit = broker.max_partitions_per_broker();
    let admitted = Admitted::new(broker, context, version >= FIRST_GROWTH_REFUSED);
    let mut results = Vec::with_capacity(wanted.len());
    if admitted.mutations.is_some() && !request.validate_only {
        let image = broker.image();
        for outcome in decide_partitions(&image, &wanted, limit).0 {
            if let Ok(more) = outcome.result
                && !admitted.admits(more)
            {
                wanted.retain(|wanted| wanted.topic != outcome.subject);
                results.push(growth(outcome.subject.into(), Err(above_quota())));
            }
        }
    }
    let decide = |image: &MetadataImage| decide_partitions(image, &wanted, limit);
    let decided = match request.validate_only {
        true => Ok(decide(&broker.image()).0),
        false => broker.commit(decide).await,
    };
    match decided {
        Ok(outcomes) => results.extend(outcomes.into_iter().map(|outcome| {
            let result = outcome.result.map(|_| ()).map_err(ApiError::from);
            growth(outcome.subject.into(), result)
        })),
        Err(error) => results.extend(
            wanted
                .into_iter()
                .map(|wanted| growth(wanted.topic.into(), Err(error.clone()))),
        ),
    }
    CreatePartitionsResponse {
        throttle_time_ms: admitted.throttle_time_ms(),
        results,
    }
}

/// The outcomes say how many partitions are new.
fn decide_partitions(
    image: &MetadataImage,
    wanted: &[NewPartitions],
    max_partitions_per_broker: usize,
) -> Decision<Vec<Outcome<String, usize, TopicError>>> {
    let brokers = alive(image);
    let placement = PlacementContext {
        brokers: &brokers,
        seed: seed(),
        max_partitions_per_broker,
    };
    let mut records = Vec::new();
    let outcomes = decide::create_partitions(image, wanted, placement)
        .into_iter()
        .map(|outcome| Outcome {
            subject: outcome.subject,
            result: outcome.result.map(|more| {
                let count = more.len();
                records.extend(more);
                count
            }),
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
