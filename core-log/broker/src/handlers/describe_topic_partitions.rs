//! DescribeTopicPartitions: topics a page at a time, in the order of their names (KIP-966).

use std::collections::BTreeSet;
use std::sync::Arc;

use bytestring::ByteString;
use highwater_cluster::{AclOperation, MetadataImage, PartitionImage, Resource, TopicImage};
use highwater_types::{BrokerId, TopicName};
use highwater_wire::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use highwater_wire::messages::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, describe_topic_partitions_request,
};
use highwater_wire::{ApiKey, ErrorCode};

use crate::authorizer::Access;
use crate::broker::Broker;
use crate::dispatch::RequestContext;
use crate::limits::MAX_DESCRIBED_PARTITIONS;

/// No leader, in answers.
const NO_LEADER: i32 = -1;

/// Where a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Position {
    topic: ByteString,
    partition: usize,
}

/// Answers from the latest image, from the cursor on, until the page is full.
pub(crate) fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let image = broker.image();
    let access = broker.access(context, ApiKey::DescribeTopicPartitions);
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let named: BTreeSet<ByteString> = request.topics.into_iter().map(|topic| topic.name).collect();
    let start = match request.cursor.as_ref().map(position) {
        Some(Some(start)) => Some(start),
        Some(None) => return refuse_cursor(named),
        None => None,
    };
    let is_all = named.is_empty();
    // A cursor is a place in the list it came with.
    if !is_all && start.as_ref().is_some_and(|start| !named.contains(&start.topic)) {
        return refuse_cursor(named);
    }
    let names: Vec<ByteString> = match is_all {
        true => image
            .topics()
            .map(|topic| topic.name.as_byte_string())
            .filter(|name| access.sees(AclOperation::Describe, Resource::topic(name)))
            .cloned()
            .collect(),
        false => named.into_iter().collect(),
    };
    let mut page = Page {
        image: &image,
        access: &access,
        left: limit.clamp(1, MAX_DESCRIBED_PARTITIONS),
        response: DescribeTopicPartitionsResponse::default(),
    };
    let from_start = names
        .into_iter()
        .filter(|name| start.as_ref().is_none_or(|start| *name >= start.topic));
    for name in from_start {
        let first = match &start {
            Some(start) if start.topic == name => start.partition,
            _ => 0,
        };
        if !page.add(name, first) {
            break;
        }
    }
    page.response
}

fn position(cursor: &describe_topic_partitions_request::Cursor) -> Option<Position> {
    Some(Position {
        topic: cursor.topic_name.clone(),
        partition: usize::try_from(cursor.partition_index).ok()?,
    })
}

/// The response has no error of its own, so each topic of the request carries it.
fn refuse_cursor(names: BTreeSet<ByteString>) -> DescribeTopicPartitionsResponse {
    DescribeTopicPartitionsResponse {
        topics: names
            .into_iter()
            .map(|name| failed(name, ErrorCode::InvalidRequest))
            .collect(),
        ..Default::default()
    }
}

struct Page<'a> {
    image: &'a MetadataImage,
    access: &'a Access<'a>,
    left: usize,
    response: DescribeTopicPartitionsResponse,
}

impl Page<'_> {
    /// Adds a topic, or what of it fits; whether there is room for more.
    fn add(&mut self, name: ByteString, first: usize) -> bool {
        if self.left == 0 {
            self.response.next_cursor = Some(cursor(name, first));
            return false;
        }
        let may = self.access.may(AclOperation::Describe, Resource::topic(&name));
        let Some(topic) = self.image.topic(&name).filter(|_| may) else {
            let error = match TopicName::new(name.clone()) {
                _ if !may => ErrorCode::TopicAuthorizationFailed,
                Ok(_) => ErrorCode::UnknownTopicOrPartition,
                Err(_) => ErrorCode::InvalidTopicException,
            };
            // An error costs as much room as a partition, so that a page is bounded by its limit.
            self.left -= 1;
            let mut topic = failed(name.clone(), error);
            if may {
                // What somebody may do with a topic of this name, as Kafka tells it.
                topic.topic_authorized_operations = self.access.operations(Resource::topic(&name));
            }
            self.response.topics.push(topic);
            return true;
        };
        let partitions = topic.partitions.iter().enumerate().skip(first).take(self.left);
        let rows: Vec<_> = partitions
            .map(|(index, partition)| row(index, partition))
            .collect();
        let next = first + rows.len();
        // A topic whose last page is empty costs room too.
        self.left -= rows.len().clamp(1, self.left);
        let operations = self.access.operations(Resource::topic(&name));
        self.response.topics.push(described(topic, rows, operations));
        let is_whole = next >= topic.partitions.len();
        if !is_whole {
            self.response.next_cursor = Some(cursor(name, next));
        }
        is_whole
    }
}

fn cursor(topic_name: ByteString, partition: usize) -> Cursor {
    Cursor {
        topic_name,
        partition_index: i32::try_from(partition).unwrap_or(i32::MAX),
    }
}

fn described(
    topic: &TopicImage,
    partitions: Vec<DescribeTopicPartitionsResponsePartition>,
    topic_authorized_operations: i32,
) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::None.code(),
        name: Some(topic.name.as_byte_string().clone()),
        topic_id: topic.id.get(),
        is_internal: topic.is_internal(),
        partitions,
        topic_authorized_operations,
    }
}

fn failed(name: ByteString, error: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: error.code(),
        name: Some(name),
        ..Default::default()
    }
}

fn row(index: usize, partition: &PartitionImage) -> DescribeTopicPartitionsResponsePartition {
    let ids = |brokers: &[BrokerId]| brokers.iter().map(|id| id.get()).collect();
    let error = match partition.leader {
        Some(_) => ErrorCode::None,
        None => ErrorCode::LeaderNotAvailable,
    };
    DescribeTopicPartitionsResponsePartition {
        error_code: error.code(),
        partition_index: i32::try_from(index).unwrap_or(i32::MAX),
        leader_id: partition.leader.map_or(NO_LEADER, BrokerId::get),
        leader_epoch: partition.leader_epoch.get(),
        replica_nodes: ids(&partition.replicas),
        isr_nodes: ids(&partition.isr),
        // Nobody is eligible beyond those in sync.
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        offline_replicas: Vec::new(),
    }
}
