//! Requests about topics and their records.

use bytestring::ByteString;
use highwater_cluster::{AclOperation, MetadataImage, Resource, ResourceType};
use highwater_types::TopicId;
use highwater_types::record::BatchHeader;
use highwater_wire::ErrorCode;
use highwater_wire::messages::create_partitions_response::CreatePartitionsTopicResult;
use highwater_wire::messages::create_topics_response::CreatableTopicResult;
use highwater_wire::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use highwater_wire::messages::delete_topics_response::DeletableTopicResult;
use highwater_wire::messages::describe_producers_response::{PartitionResponse, TopicResponse};
use highwater_wire::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use highwater_wire::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use highwater_wire::messages::produce_request::TopicProduceData;
use highwater_wire::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use highwater_wire::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    DeleteRecordsRequest, DeleteRecordsResponse, DeleteTopicsRequest, DeleteTopicsResponse,
    DescribeProducersRequest, DescribeProducersResponse, InitProducerIdRequest, InitProducerIdResponse,
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    ProduceRequest, ProduceResponse,
};

use super::{Access, Verdict, code, refusal};
use crate::dispatch::Reply;

/// From this version on Produce names topics by id only (KIP-516).
const FIRST_PRODUCE_WITH_TOPIC_IDS: i16 = 13;

/// From this version on DeleteTopics names topics in structs, by name or by identity.
const FIRST_DELETION_BY_ID: i16 = 6;

/// No offset, no producer id, no count.
const NONE: i64 = -1;

const TOPIC_DENIED: i16 = ErrorCode::TopicAuthorizationFailed.code();

impl Access<'_> {
    fn may_topic(&self, operation: AclOperation, name: &str) -> bool {
        self.may(operation, Resource::topic(name))
    }
}

/// Takes out of a list what may not be done.
fn take_denied<T>(items: &mut Vec<T>, mut is_allowed: impl FnMut(&T) -> bool) -> Vec<T> {
    let (allowed, denied) = std::mem::take(items)
        .into_iter()
        .partition(|item| is_allowed(item));
    *items = allowed;
    denied
}

/// The name of a topic that a request names by id, if there is one of that id.
fn name_of(image: Option<&MetadataImage>, id: uuid::Uuid) -> Option<ByteString> {
    let topic = image?.topic_by_id(TopicId::new(id))?;
    Some(topic.name.as_byte_string().clone())
}

/// Write on each topic; for transactional records, as their batches say and not the request (CVE-2018-17196), Write on
/// the transactional id. Sequences need nothing more since Kafka 3.0 (KIP-679).
pub(super) fn produce(access: &Access<'_>, version: i16, mut request: ProduceRequest) -> Verdict {
    let id = request.transactional_id.clone();
    let may_transact = || {
        id.as_deref()
            .is_some_and(|id| access.may(AclOperation::Write, Resource::transactional_id(id)))
    };
    let denied = match is_transactional(&request) && !may_transact() {
        true => {
            let all = std::mem::take(&mut request.topic_data);
            denied_produce(all, code(ResourceType::TransactionalId))
        }
        false => {
            let denied = take_denied(&mut request.topic_data, |topic| {
                let name = match version < FIRST_PRODUCE_WITH_TOPIC_IDS {
                    true => Some(topic.name.clone()),
                    false => name_of(access.image(), topic.topic_id),
                };
                // An id nobody has is for the handler to refuse.
                name.is_none_or(|name| access.may_topic(AclOperation::Write, &name))
            });
            denied_produce(denied, ErrorCode::TopicAuthorizationFailed)
        }
    };
    if denied.is_empty() {
        return Verdict::all(request);
    }
    if request.acks == 0 {
        // Nobody waits for an answer, and the only way to say "failed" is to close (semantic 22).
        return Verdict::Serve(
            request.into(),
            Some(Box::new(|_: &Access<'_>, reply: &mut Reply| {
                *reply = Reply::Close
            })),
        );
    }
    Verdict::then(request, |_, response: &mut ProduceResponse| {
        response.responses.extend(denied);
    })
}

fn is_transactional(request: &ProduceRequest) -> bool {
    let partitions = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    let mut headers = partitions.filter_map(|data| BatchHeader::parse(data.records.as_ref()?).ok());
    headers.any(|header| header.is_transactional())
}

fn denied_produce(topics: Vec<TopicProduceData>, error: ErrorCode) -> Vec<TopicProduceResponse> {
    let partition = |index: i32| PartitionProduceResponse {
        index,
        error_code: error.code(),
        base_offset: NONE,
        error_message: Some(error.message().into()),
        ..Default::default()
    };
    let topics = topics.into_iter();
    topics
        .map(|topic| TopicProduceResponse {
            name: topic.name,
            topic_id: topic.topic_id,
            partition_responses: topic
                .partition_data
                .iter()
                .map(|data| partition(data.index))
                .collect(),
        })
        .collect()
}

/// Describe on each topic.
pub(super) fn list_offsets(access: &Access<'_>, mut request: ListOffsetsRequest) -> Verdict {
    let denied = take_denied(&mut request.topics, |topic| {
        access.may_topic(AclOperation::Describe, &topic.name)
    });
    Verdict::then(request, |_, response: &mut ListOffsetsResponse| {
        let denied = denied.into_iter().map(|topic| ListOffsetsTopicResponse {
            name: topic.name,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| ListOffsetsPartitionResponse {
                    partition_index: partition.partition_index,
                    error_code: TOPIC_DENIED,
                    ..Default::default()
                })
                .collect(),
        });
        response.topics.extend(denied);
    })
}

/// ClusterAction, as replicas have it, or Describe on each topic.
pub(super) fn epochs(access: &Access<'_>, mut request: OffsetForLeaderEpochRequest) -> Verdict {
    if access.sees(AclOperation::ClusterAction, Resource::CLUSTER) {
        return Verdict::all(request);
    }
    let denied = take_denied(&mut request.topics, |topic| {
        access.may_topic(AclOperation::Describe, &topic.topic)
    });
    Verdict::then(request, |_, response: &mut OffsetForLeaderEpochResponse| {
        let denied = denied.into_iter().map(|topic| OffsetForLeaderTopicResult {
            topic: topic.topic,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| EpochEndOffset {
                    partition: partition.partition,
                    error_code: TOPIC_DENIED,
                    ..Default::default()
                })
                .collect(),
        });
        response.topics.extend(denied);
    })
}

/// Write on the transactional id; without one IdempotentWrite on the cluster, or Write on any topic (KIP-679).
pub(super) fn init_producer_id(access: &Access<'_>, request: InitProducerIdRequest) -> Verdict {
    let denied = match request.transactional_id.as_deref() {
        Some(id) => {
            let may = access.may(AclOperation::Write, Resource::transactional_id(id));
            (!may).then_some(ResourceType::TransactionalId)
        }
        None => {
            let may = access.may_somewhere(AclOperation::Write, ResourceType::Topic)
                || access.may(AclOperation::IdempotentWrite, Resource::CLUSTER);
            (!may).then_some(ResourceType::Cluster)
        }
    };
    match denied {
        None => Verdict::all(request),
        Some(denied) => Verdict::answer(InitProducerIdResponse {
            error_code: code(denied).code(),
            producer_id: NONE,
            producer_epoch: -1,
            ..Default::default()
        }),
    }
}

/// Create on the cluster or on each topic; the configs of a new topic are for who may describe them.
pub(super) fn create(access: &Access<'_>, mut request: CreateTopicsRequest) -> Verdict {
    let denied = match access.sees(AclOperation::Create, Resource::CLUSTER) {
        true => Vec::new(),
        false => take_denied(&mut request.topics, |topic| {
            access.may_topic(AclOperation::Create, &topic.name)
        }),
    };
    Verdict::then(request, |access, response: &mut CreateTopicsResponse| {
        let error = refusal(ResourceType::Topic);
        for topic in response.topics.iter_mut().filter(|topic| topic.error_code == 0) {
            if !access.sees(AclOperation::DescribeConfigs, Resource::topic(&topic.name)) {
                *topic = CreatableTopicResult {
                    name: topic.name.clone(),
                    topic_id: topic.topic_id,
                    topic_config_error_code: TOPIC_DENIED,
                    error_message: None,
                    configs: Some(Vec::new()),
                    ..Default::default()
                };
            }
        }
        let denied = denied.into_iter().map(|topic| CreatableTopicResult {
            name: topic.name,
            error_code: error.code.code(),
            error_message: Some(error.message.as_str().into()),
            configs: None,
            ..Default::default()
        });
        response.topics.extend(denied);
    })
}

/// Delete on each topic; whoever names one by id and may not describe it does not learn its name.
pub(super) fn delete(access: &Access<'_>, version: i16, mut request: DeleteTopicsRequest) -> Verdict {
    let mut denied: Vec<DeletableTopicResult> = Vec::new();
    let mut deny = |name: Option<ByteString>, topic_id| {
        let error = refusal(ResourceType::Topic);
        denied.push(DeletableTopicResult {
            name,
            topic_id,
            error_code: error.code.code(),
            error_message: Some(error.message.into()),
        });
    };
    if version >= FIRST_DELETION_BY_ID {
        request.topics.retain(|topic| {
            let by_id = name_of(access.image(), topic.topic_id);
            let Some(name) = by_id.as_ref().or(topic.name.as_ref()) else {
                // Neither a topic of that id nor a name: the handler says so.
                return true;
            };
            if access.may_topic(AclOperation::Delete, name) {
                return true;
            }
            let is_hidden = by_id.is_some() && !access.sees(AclOperation::Describe, Resource::topic(name));
            deny((!is_hidden).then(|| name.clone()), topic.topic_id);
            false
        });
    } else {
        request.topic_names.retain(|name| {
            let may = access.may_topic(AclOperation::Delete, name);
            if !may {
                deny(Some(name.clone()), Default::default());
            }
            may
        });
    }
    Verdict::then(request, |_, response: &mut DeleteTopicsResponse| {
        response.responses.extend(denied);
    })
}

/// Alter on each topic.
pub(super) fn create_partitions(access: &Access<'_>, mut request: CreatePartitionsRequest) -> Verdict {
    let denied = take_denied(&mut request.topics, |topic| {
        access.may_topic(AclOperation::Alter, &topic.name)
    });
    Verdict::then(request, |_, response: &mut CreatePartitionsResponse| {
        let denied = denied.into_iter().map(|topic| {
            let error = refusal(ResourceType::Topic);
            CreatePartitionsTopicResult {
                name: topic.name,
                error_code: error.code.code(),
                error_message: Some(error.message.into()),
            }
        });
        response.results.extend(denied);
    })
}

/// Delete on each topic.
pub(super) fn delete_records(access: &Access<'_>, mut request: DeleteRecordsRequest) -> Verdict {
    let denied = take_denied(&mut request.topics, |topic| {
        access.may_topic(AclOperation::Delete, &topic.name)
    });
    Verdict::then(request, |_, response: &mut DeleteRecordsResponse| {
        let denied = denied.into_iter().map(|topic| DeleteRecordsTopicResult {
            name: topic.name,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| DeleteRecordsPartitionResult {
                    partition_index: partition.partition_index,
                    low_watermark: NONE,
                    error_code: TOPIC_DENIED,
                })
                .collect(),
        });
        response.topics.extend(denied);
    })
}

/// Read on each topic.
pub(super) fn describe_producers(access: &Access<'_>, mut request: DescribeProducersRequest) -> Verdict {
    let denied = take_denied(&mut request.topics, |topic| {
        access.may_topic(AclOperation::Read, &topic.name)
    });
    Verdict::then(request, |_, response: &mut DescribeProducersResponse| {
        let denied = denied.into_iter().map(|topic| TopicResponse {
            partitions: topic
                .partition_indexes
                .iter()
                .map(|partition_index| PartitionResponse {
                    partition_index: *partition_index,
                    error_code: TOPIC_DENIED,
                    error_message: Some(refusal(ResourceType::Topic).message.into()),
                    ..Default::default()
                })
                .collect(),
            name: topic.name,
        });
        response.topics.extend(denied);
    })
}
