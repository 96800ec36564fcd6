//! Requests about consumer groups and what they commit.

use bytestring::ByteString;
use highwater_cluster::{AclOperation, Resource, ResourceType};
use highwater_coordinator::GroupRequest;
use highwater_types::TopicId;
use highwater_wire::messages::consumer_group_describe_response::DescribedGroup as DescribedConsumerGroup;
use highwater_wire::messages::delete_groups_response::DeletableGroupResult;
use highwater_wire::messages::describe_groups_response::DescribedGroup;
use highwater_wire::messages::find_coordinator_response::Coordinator;
use highwater_wire::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use highwater_wire::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use highwater_wire::messages::offset_fetch_request::OffsetFetchRequestTopics;
use highwater_wire::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use highwater_wire::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest,
    DescribeGroupsResponse, FindCoordinatorRequest, FindCoordinatorResponse, HeartbeatRequest,
    JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, ListGroupsResponse, OffsetCommitRequest,
    OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest, OffsetFetchResponse,
    SyncGroupRequest,
};
use highwater_wire::{ErrorCode, RequestBody};

use super::{Access, Verdict, code, refusal};
use crate::dispatch::Reply;
use crate::groups::{refuse, refused_offsets};

/// From this version on OffsetFetch asks about several groups.
const FIRST_FETCH_OF_GROUPS: i16 = 8;

/// From this version on FindCoordinator asks about several keys (KIP-699).
const FIRST_FIND_OF_SEVERAL: i16 = 4;

/// Key types of FindCoordinator.
const GROUP_KEY: i8 = 0;
const TRANSACTION_KEY: i8 = 1;

const NO_NODE: i32 = -1;

const TOPIC_DENIED: i16 = ErrorCode::TopicAuthorizationFailed.code();
const GROUP_DENIED: i16 = ErrorCode::GroupAuthorizationFailed.code();

impl Access<'_> {
    fn may_group(&self, operation: AclOperation, group: &str) -> bool {
        self.may(operation, Resource::group(group))
    }

    fn sees_topic(&self, name: &str) -> bool {
        self.sees(AclOperation::Describe, Resource::topic(name))
    }
}

/// What a member without Read on its group is answered.
fn denied_group(request: &GroupRequest) -> Verdict {
    Verdict::Answer(Reply::Body(refuse(request, ErrorCode::GroupAuthorizationFailed)))
}

/// Serves a member that may read its group; refuses any other as a coordinator would.
fn served_if<R: Into<RequestBody>>(is_allowed: bool, request: R, of_group: fn(R) -> GroupRequest) -> Verdict {
    match is_allowed {
        true => Verdict::all(request),
        false => denied_group(&of_group(request)),
    }
}

/// Read on the group.
pub(super) fn join(access: &Access<'_>, request: JoinGroupRequest) -> Verdict {
    let may = access.may_group(AclOperation::Read, &request.group_id);
    served_if(may, request, GroupRequest::Join)
}

/// Read on the group.
pub(super) fn sync(access: &Access<'_>, request: SyncGroupRequest) -> Verdict {
    let may = access.may_group(AclOperation::Read, &request.group_id);
    served_if(may, request, GroupRequest::Sync)
}

/// Read on the group.
pub(super) fn heartbeat(access: &Access<'_>, request: HeartbeatRequest) -> Verdict {
    let may = access.may_group(AclOperation::Read, &request.group_id);
    served_if(may, request, GroupRequest::Heartbeat)
}

/// Read on the group.
pub(super) fn leave(access: &Access<'_>, request: LeaveGroupRequest) -> Verdict {
    let may = access.may_group(AclOperation::Read, &request.group_id);
    served_if(may, request, GroupRequest::Leave)
}

/// Read on the group, Describe on each topic that is subscribed by name. Topics that an expression found, or another
/// member's subscription, are left out of the assignment unless the member may describe them.
pub(super) fn consumer_heartbeat(access: &Access<'_>, request: ConsumerGroupHeartbeatRequest) -> Verdict {
    if !access.may_group(AclOperation::Read, &request.group_id) {
        return denied_group(&GroupRequest::ConsumerHeartbeat(request));
    }
    let mut subscribed = request.subscribed_topic_names.iter().flatten();
    if subscribed.any(|name| !access.may(AclOperation::Describe, Resource::topic(name))) {
        let error = refusal(ResourceType::Topic);
        return Verdict::answer(ConsumerGroupHeartbeatResponse {
            error_code: error.code.code(),
            error_message: Some(error.message.into()),
            ..Default::default()
        });
    }
    Verdict::then(
        request,
        |access, response: &mut ConsumerGroupHeartbeatResponse| {
            let (Some(assignment), Some(image)) = (&mut response.assignment, access.image()) else {
                return;
            };
            assignment.topic_partitions.retain(|assigned| {
                let topic = image.topic_by_id(TopicId::new(assigned.topic_id));
                topic.is_none_or(|topic| access.sees_topic(topic.name.as_str()))
            });
        },
    )
}

/// Read on the group and on each topic.
pub(super) fn commit(access: &Access<'_>, mut request: OffsetCommitRequest) -> Verdict {
    if !access.may_group(AclOperation::Read, &request.group_id) {
        return denied_group(&GroupRequest::OffsetCommit(request));
    }
    let (allowed, denied): (Vec<_>, Vec<_>) = std::mem::take(&mut request.topics)
        .into_iter()
        .partition(|topic| access.may(AclOperation::Read, Resource::topic(&topic.name)));
    let denied: Vec<_> = denied
        .into_iter()
        .map(|topic| OffsetCommitResponseTopic {
            name: topic.name,
            partitions: topic
                .partitions
                .iter()
                .map(|partition| OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: TOPIC_DENIED,
                })
                .collect(),
        })
        .collect();
    if allowed.is_empty() && !denied.is_empty() {
        return Verdict::answer(OffsetCommitResponse {
            topics: denied,
            ..Default::default()
        });
    }
    request.topics = allowed;
    Verdict::then(request, |_, response: &mut OffsetCommitResponse| {
        response.topics.extend(denied);
    })
}

/// Describe on each group and topic; of all topics of a group, those that may be described.
pub(super) fn fetch_offsets(access: &Access<'_>, version: i16, request: OffsetFetchRequest) -> Verdict {
    match version < FIRST_FETCH_OF_GROUPS {
        true => fetch_offsets_of_group(access, request),
        false => fetch_offsets_of_groups(access, request),
    }
}

fn fetch_offsets_of_group(access: &Access<'_>, mut request: OffsetFetchRequest) -> Verdict {
    if !access.may_group(AclOperation::Describe, &request.group_id) {
        return denied_group(&GroupRequest::OffsetFetch(request));
    }
    let mut denied = Vec::new();
    if let Some(topics) = &mut request.topics {
        topics.retain(|topic| {
            let may = access.may(AclOperation::Describe, Resource::topic(&topic.name));
            if !may {
                denied.push(refused_offsets(topic, TOPIC_DENIED));
            }
            may
        });
    }
    Verdict::then(request, |access, response: &mut OffsetFetchResponse| {
        response.topics.retain(|topic| access.sees_topic(&topic.name));
        response.topics.extend(denied);
    })
}

fn fetch_offsets_of_groups(access: &Access<'_>, mut request: OffsetFetchRequest) -> Verdict {
    let mut denied_groups = Vec::new();
    let mut denied_topics: Vec<(ByteString, OffsetFetchResponseTopics)> = Vec::new();
    request.groups.retain_mut(|group| {
        if !access.may_group(AclOperation::Describe, &group.group_id) {
            denied_groups.push(OffsetFetchResponseGroup {
                group_id: group.group_id.clone(),
                error_code: GROUP_DENIED,
                ..Default::default()
            });
            return false;
        }
        if let Some(topics) = &mut group.topics {
            topics.retain(|topic| {
                let may = access.may(AclOperation::Describe, Resource::topic(&topic.name));
                if !may {
                    denied_topics.push((group.group_id.clone(), denied_offsets(topic)));
                }
                may
            });
        }
        true
    });
    Verdict::then(request, move |access, response: &mut OffsetFetchResponse| {
        for group in &mut response.groups {
            group.topics.retain(|topic| access.sees_topic(&topic.name));
            if group.error_code == ErrorCode::None.code() {
                let mine = denied_topics.extract_if(.., |(id, _)| *id == group.group_id);
                group.topics.extend(mine.map(|(_, topic)| topic));
            }
        }
        response.groups.extend(denied_groups);
    })
}

fn denied_offsets(topic: &OffsetFetchRequestTopics) -> OffsetFetchResponseTopics {
    OffsetFetchResponseTopics {
        name: topic.name.clone(),
        partitions: topic
            .partition_indexes
            .iter()
            .map(|index| OffsetFetchResponsePartitions {
                partition_index: *index,
                committed_offset: -1,
                metadata: Some(ByteString::new()),
                error_code: TOPIC_DENIED,
                ..Default::default()
            })
            .collect(),
    }
}

/// Delete on the group, Read on each topic.
pub(super) fn delete_offsets(access: &Access<'_>, mut request: OffsetDeleteRequest) -> Verdict {
    if !access.may_group(AclOperation::Delete, &request.group_id) {
        return denied_group(&GroupRequest::OffsetDelete(request));
    }
    let (allowed, denied): (Vec<_>, Vec<_>) = std::mem::take(&mut request.topics)
        .into_iter()
        .partition(|topic| access.may(AclOperation::Read, Resource::topic(&topic.name)));
    request.topics = allowed;
    Verdict::then(request, |_, response: &mut OffsetDeleteResponse| {
        if response.error_code != ErrorCode::None.code() {
            return;
        }
        let denied = denied.into_iter().map(|topic| OffsetDeleteResponseTopic {
            partitions: topic
                .partitions
                .iter()
                .map(|partition| OffsetDeleteResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: TOPIC_DENIED,
                })
                .collect(),
            name: topic.name,
        });
        response.topics.extend(denied);
    })
}

/// Describe on each group; who asks is told what may be done with it.
pub(super) fn describe(access: &Access<'_>, mut request: DescribeGroupsRequest) -> Verdict {
    let mut denied = Vec::new();
    request.groups.retain(|group_id| {
        let may = access.may_group(AclOperation::Describe, group_id);
        if !may {
            denied.push(DescribedGroup {
                error_code: GROUP_DENIED,
                group_id: group_id.clone(),
                ..Default::default()
            });
        }
        may
    });
    let tells = request.include_authorized_operations;
    Verdict::then(request, move |access, response: &mut DescribeGroupsResponse| {
        let good = response
            .groups
            .iter_mut()
            .filter(|group| tells && group.error_code == 0);
        for group in good {
            group.authorized_operations = access.operations(Resource::group(&group.group_id));
        }
        response.groups.extend(denied);
    })
}

/// Describe on each group and on every topic that its members have (Kafka 4.0); who asks is told what may be done.
pub(super) fn consumer_describe(access: &Access<'_>, mut request: ConsumerGroupDescribeRequest) -> Verdict {
    let mut denied = Vec::new();
    request.group_ids.retain(|group_id| {
        let may = access.may_group(AclOperation::Describe, group_id);
        if !may {
            denied.push(described_denied(group_id.clone(), code(ResourceType::Group)));
        }
        may
    });
    let tells = request.include_authorized_operations;
    Verdict::then(
        request,
        move |access, response: &mut ConsumerGroupDescribeResponse| {
            for group in response.groups.iter_mut().filter(|group| group.error_code == 0) {
                let members = group.members.iter();
                let mut topics = members.flat_map(|member| {
                    let assigned = member.assignment.topic_partitions.iter();
                    let assigned = assigned.chain(&member.target_assignment.topic_partitions);
                    assigned
                        .map(|topic| &topic.topic_name)
                        .chain(&member.subscribed_topic_names)
                });
                if topics.any(|name| !access.sees_topic(name)) {
                    *group = described_denied(group.group_id.clone(), code(ResourceType::Topic));
                } else if tells {
                    group.authorized_operations = access.operations(Resource::group(&group.group_id));
                }
            }
            response.groups.extend(denied);
        },
    )
}

fn described_denied(group_id: ByteString, error: ErrorCode) -> DescribedConsumerGroup {
    DescribedConsumerGroup {
        error_code: error.code(),
        error_message: Some(error.message().into()),
        group_id,
        ..Default::default()
    }
}

/// Describe on the cluster, or the groups that may be described.
pub(super) fn list(access: &Access<'_>, request: ListGroupsRequest) -> Verdict {
    if access.sees(AclOperation::Describe, Resource::CLUSTER) {
        return Verdict::all(request);
    }
    Verdict::then(request, |access, response: &mut ListGroupsResponse| {
        response
            .groups
            .retain(|group| access.sees(AclOperation::Describe, Resource::group(&group.group_id)));
    })
}

/// Delete on each group.
pub(super) fn delete(access: &Access<'_>, mut request: DeleteGroupsRequest) -> Verdict {
    let mut denied = Vec::new();
    request.groups_names.retain(|group_id| {
        let may = access.may_group(AclOperation::Delete, group_id);
        if !may {
            denied.push(DeletableGroupResult {
                group_id: group_id.clone(),
                error_code: GROUP_DENIED,
            });
        }
        may
    });
    Verdict::then(request, |_, response: &mut DeleteGroupsResponse| {
        response.results.extend(denied);
    })
}

/// Describe on each group, or transactional id.
pub(super) fn find_coordinator(
    access: &Access<'_>,
    version: i16,
    mut request: FindCoordinatorRequest,
) -> Verdict {
    let key_type = request.key_type;
    // Keys of other types are for the handler to refuse.
    let denied_key = |key: &str| match key_type {
        GROUP_KEY => (!access.may_group(AclOperation::Describe, key)).then(|| refusal(ResourceType::Group)),
        TRANSACTION_KEY => (!access.may(AclOperation::Describe, Resource::transactional_id(key)))
            .then(|| refusal(ResourceType::TransactionalId)),
        _ => None,
    };
    if version < FIRST_FIND_OF_SEVERAL {
        return match denied_key(&request.key) {
            None => Verdict::all(request),
            Some(error) => Verdict::answer(FindCoordinatorResponse {
                error_code: error.code.code(),
                error_message: Some(error.message.into()),
                node_id: NO_NODE,
                port: NO_NODE,
                ..Default::default()
            }),
        };
    }
    let mut denied = Vec::new();
    request.coordinator_keys.retain(|key| {
        let error = denied_key(key);
        let may = error.is_none();
        denied.extend(error.map(|error| Coordinator {
            key: key.clone(),
            node_id: NO_NODE,
            port: NO_NODE,
            error_code: error.code.code(),
            error_message: Some(error.message.into()),
            ..Default::default()
        }));
        may
    });
    if request.coordinator_keys.is_empty() && !denied.is_empty() {
        // The handler would make the topic that holds the groups.
        return Verdict::answer(FindCoordinatorResponse {
            coordinators: denied,
            ..Default::default()
        });
    }
    Verdict::then(request, |_, response: &mut FindCoordinatorResponse| {
        response.coordinators.extend(denied);
    })
}
