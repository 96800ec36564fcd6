//! Metadata: brokers, topics, partitions and their leaders; creates topics on the way where a client
//! and the broker allow it (semantics 12 to 16).

use std::collections::HashSet;
use std::sync::Arc;

use bytestring::ByteString;
use highwater_cluster::{MetadataImage, PartitionImage, TopicImage};
use highwater_types::{BrokerId, TopicId, TopicName};
use highwater_wire::ErrorCode;
use highwater_wire::messages::metadata_request::MetadataRequestTopic;
use highwater_wire::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use highwater_wire::messages::{MetadataRequest, MetadataResponse};

use super::{ALL_CLUSTER_OPERATIONS, ALL_TOPIC_OPERATIONS};
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
    if version < FIRST_WITH_CREATION_FLAG || request.allow_auto_topic_creation {
        create_missing(broker, wanted.as_deref().unwrap_or_default()).await;
    }
    let image = broker.image();
    let mut topics: Vec<_> = match &wanted {
        None => image.topics().map(|topic| describe(topic)).collect(),
        Some(topics) => topics
            .iter()
            .map(|topic| answer(&image, version, topic))
            .collect(),
    };
    if request.include_topic_authorized_operations {
        for topic in topics
            .iter_mut()
            .filter(|topic| topic.error_code == ErrorCode::None.code())
        {
            topic.topic_authorized_operations = ALL_TOPIC_OPERATIONS;
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
        response.cluster_authorized_operations = ALL_CLUSTER_OPERATIONS;
    }
    response
}

/// A topic named again and again would make a long answer out of a short request.
fn each_once(mut topics: Vec<MetadataRequestTopic>) -> Vec<MetadataRequestTopic> {
    let mut seen = HashSet::with_capacity(topics.len());
    topics.retain(|topic| seen.insert((topic.name.clone(), topic.topic_id)));
    topics
}

/// Creates the named topics that do not exist. What fails shows in the answer: the topic is unknown.
async fn create_missing(broker: &Arc<Broker>, wanted: &[MetadataRequestTopic]) {
    if !broker.settings.auto_create_topics_enable {
        return;
    }
    let image = broker.image();
    let missing: Vec<TopicName> = wanted
        .iter()
        .filter(|topic| topic.topic_id.is_nil())
        .filter_map(|topic| topic.name.clone())
        .filter(|name| image.topic(name).is_none())
        .filter_map(|name| TopicName::new(name).ok())
        .take(MAX_AUTO_CREATED_TOPICS)
        .collect();
    if missing.is_empty() {
        return;
    }
    for (name, failure) in broker.auto_create_topics(missing).await {
        tracing::debug!(topic = %name, error = failure.message, "cannot create a topic on demand");
    }
}

fn answer(image: &MetadataImage, version: i16, wanted: &MetadataRequestTopic) -> MetadataResponseTopic {
    let failed = |error: ErrorCode| MetadataResponseTopic {
        error_code: error.code(),
        // No name is legal in an answer from version 12 on.
        name: match version < FIRST_WITH_TOPIC_IDS {
            true => Some(wanted.name.clone().unwrap_or_default()),
            false => wanted.name.clone(),
        },
        topic_id: wanted.topic_id,
        ..Default::default()
    };
    if version < FIRST_WITH_TOPIC_IDS && (wanted.name.is_none() || !wanted.topic_id.is_nil()) {
        return failed(ErrorCode::InvalidRequest);
    }
    // An id decides whatever the name: Java's consumer of the newer group protocol sends an empty one beside it.
    let name = match &wanted.name {
        Some(name) if wanted.topic_id.is_nil() => name,
        Some(_) | None => {
            let unknown = || MetadataResponseTopic {
                name: None,
                ..failed(ErrorCode::UnknownTopicId)
            };
            let found = image.topic_by_id(TopicId::new(wanted.topic_id));
            return found.map_or_else(unknown, |topic| describe(topic));
        }
    };
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
