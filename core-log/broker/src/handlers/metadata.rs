//! Metadata: brokers, topics, partitions and their leaders; creates topics on the way where a client
//! and the broker allow it (semantics 12 to 16).

use std::collections::HashSet;
use std::sync::Arc;

use bytestring::ByteString;
use highwater_cluster::{AclOperation, MetadataImage, PartitionImage, Resource, TopicImage};
use highwater_types::{BrokerId, TopicId, TopicName};
use highwater_wire::messages::metadata_request::MetadataRequestTopic;
use highwater_wire::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use highwater_wire::messages::{MetadataRequest, MetadataResponse};
use highwater_wire::{ApiKey, ErrorCode};

use crate::authorizer::Access;
use crate::broker::Broker;
use crate::dispatch::RequestContext;
use crate::limits::MAX_AUTO_CREATED_TOPICS;

/// From this version on a request says whether topics may be created; older ones always allow it.
const FIRST_WITH_CREATION_FLAG: i16 = 4;

/// Versions 10 and 11 carry topic ids in requests, but only 12 and above look topics up by them (KIP-516).
const FIRST_WITH_TOPIC_IDS: i16 = 12;

/// No leader, in answers.
const NO_LEADER: i32 = -1;

/// Answers from the latest image.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    version: i16,
    request: MetadataRequest,
) -> MetadataResponse {
    let wanted = match request.topics {
        // Semantic 12: in version 0 an empty list means every topic, later only null does.
        Some(topics) if version == 0 && topics.is_empty() => None,
        other => other.map(each_once),
    };
    let access = broker.access(context, ApiKey::Metadata);
    let mut forbidden = HashSet::new();
    if version < FIRST_WITH_CREATION_FLAG || request.allow_auto_topic_creation {
        forbidden = create_missing(broker, &access, wanted.as_deref().unwrap_or_default()).await;
    }
    let image = broker.image();
    let mut topics: Vec<_> = match &wanted {
        None => image
            .topics()
            .filter(|topic| access.sees(AclOperation::Describe, Resource::topic(topic.name.as_str())))
            .map(|topic| describe(topic))
            .collect(),
        Some(topics) => topics
            .iter()
            .map(|topic| match &topic.name {
                Some(name) if forbidden.contains(name) => denied(version, topic),
                Some(_) | None => answer(&image, &access, version, topic),
            })
            .collect(),
    };
    if request.include_topic_authorized_operations {
        for topic in topics
            .iter_mut()
            .filter(|topic| topic.error_code == ErrorCode::None.code())
        {
            let name = topic.name.as_deref().unwrap_or_default();
            topic.topic_authorized_operations = access.operations(Resource::topic(name));
        }
    }
    let mut response = MetadataResponse {
        brokers: brokers(broker, &image, context),
        cluster_id: image.cluster_id().map(ByteString::from),
        controller_id: broker.node_id.get(),
        topics,
        ..Default::default()
    };
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = access.cluster_operations();
    }
    response
}

/// A topic named again and again would make a long answer out of a short request.
fn each_once(mut topics: Vec<MetadataRequestTopic>) -> Vec<MetadataRequestTopic> {
    let mut seen = HashSet::with_capacity(topics.len());
    topics.retain(|topic| seen.insert((topic.name.clone(), topic.topic_id)));
    topics
}

/// Creates the named topics that do not exist. What fails shows in the answer: the topic is unknown. Answers the names
/// of those that the client may describe but not create.
async fn create_missing(
    broker: &Arc<Broker>,
    access: &Access<'_>,
    wanted: &[MetadataRequestTopic],
) -> HashSet<ByteString> {
    let mut forbidden = HashSet::new();
    if !broker.settings.auto_create_topics_enable {
        return forbidden;
    }
    let image = broker.image();
    let named = wanted.iter().filter(|topic| topic.topic_id.is_nil());
    let mut missing: Vec<TopicName> = named
        .filter_map(|topic| topic.name.clone())
        .filter(|name| image.topic(name).is_none())
        .filter(|name| access.sees(AclOperation::Describe, Resource::topic(name)))
        .filter_map(|name| TopicName::new(name).ok())
        .collect();
    if !missing.is_empty() && !access.sees(AclOperation::Create, Resource::CLUSTER) {
        missing.retain(|name| {
            let may = access.may(AclOperation::Create, Resource::topic(name.as_str()));
            if !may {
                forbidden.insert(name.as_byte_string().clone());
            }
            may
        });
    }
    missing.truncate(MAX_AUTO_CREATED_TOPICS);
    if !missing.is_empty() {
        for (name, failure) in broker.auto_create_topics(missing).await {
            tracing::debug!(topic = %name, error = failure.message, "cannot create a topic on demand");
        }
    }
    forbidden
}

/// A topic that the client may not know of, whether it exists or not.
fn denied(version: i16, wanted: &MetadataRequestTopic) -> MetadataResponseTopic {
    failed(version, wanted, ErrorCode::TopicAuthorizationFailed)
}

fn failed(version: i16, wanted: &MetadataRequestTopic, error: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic {
        error_code: error.code(),
        // No name is legal in an answer from version 12 on.
        name: match version < FIRST_WITH_TOPIC_IDS {
            true => Some(wanted.name.clone().unwrap_or_default()),
            false => wanted.name.clone(),
        },
        topic_id: wanted.topic_id,
        ..Default::default()
    }
}

fn answer(
    image: &MetadataImage,
    access: &Access<'_>,
    version: i16,
    wanted: &MetadataRequestTopic,
) -> MetadataResponseTopic {
    let failed = |error| failed(version, wanted, error);
    let may = |name: &str| access.may(AclOperation::Describe, Resource::topic(name));
    if version < FIRST_WITH_TOPIC_IDS && (wanted.name.is_none() || !wanted.topic_id.is_nil()) {
        return failed(ErrorCode::InvalidRequest);
    }
    // An id decides whatever the name: Java's consumer of the newer group protocol sends an empty one beside it.
    let name = match &wanted.name {
        Some(name) if wanted.topic_id.is_nil() => name,
        Some(_) | None => {
            let nameless = |error| MetadataResponseTopic {
                name: None,
                ..failed(error)
            };
            return match image.topic_by_id(TopicId::new(wanted.topic_id)) {
                Some(topic) if may(topic.name.as_str()) => describe(topic),
                Some(_) => nameless(ErrorCode::TopicAuthorizationFailed),
                None => nameless(ErrorCode::UnknownTopicId),
            };
        }
    };
    if !may(name) {
        return denied(version, wanted);
    }
    match image.topic(name) {
        Some(topic) => describe(topic),
        None if TopicName::new(name.clone()).is_err() => failed(ErrorCode::InvalidTopicException),
        None => failed(ErrorCode::UnknownTopicOrPartition),
    }
}

fn describe(topic: &TopicImage) -> MetadataResponseTopic {
    MetadataResponseTopic {
        name: Some(topic.name.as_byte_string().clone()),
        topic_id: topic.id.get(),
        is_internal: topic.is_internal(),
        partitions: (0..)
            .zip(&topic.partitions)
            .map(|(index, partition)| row(index, partition))
            .collect(),
        ..Default::default()
    }
}

fn row(partition_index: i32, partition: &PartitionImage) -> MetadataResponsePartition {
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|id| id.get()).collect();
    let error = match partition.leader {
        Some(_) => ErrorCode::None,
        None => ErrorCode::LeaderNotAvailable,
    };
    MetadataResponsePartition {
        error_code: error.code(),
        partition_index,
        leader_id: partition.leader.map_or(NO_LEADER, BrokerId::get),
        leader_epoch: partition.leader_epoch.get(),
        replica_nodes: ids(&partition.replicas),
        isr_nodes: ids(&partition.isr),
        ..Default::default()
    }
}

fn brokers(broker: &Broker, image: &MetadataImage, context: &RequestContext) -> Vec<MetadataResponseBroker> {
    let found = broker.addresses(image, &context.listener_name);
    found
        .into_iter()
        .map(|address| MetadataResponseBroker {
            node_id: address.id.get(),
            host: address.host,
            port: address.port,
            rack: address.rack,
        })
        .collect()
}
