//! The answer to a group request that no shard could answer.

use highwater_coordinator::GroupRequest;
use highwater_wire::messages::consumer_group_describe_response::DescribedGroup as DescribedConsumerGroup;
use highwater_wire::messages::delete_groups_response::DeletableGroupResult;
use highwater_wire::messages::describe_groups_response::DescribedGroup;
use highwater_wire::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use highwater_wire::messages::offset_fetch_request::OffsetFetchRequestTopic;
use highwater_wire::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use highwater_wire::messages::{
    ConsumerGroupDescribeResponse, ConsumerGroupHeartbeatResponse, DeleteGroupsResponse,
    DescribeGroupsResponse, HeartbeatResponse, JoinGroupResponse, LeaveGroupResponse, ListGroupsResponse,
    OffsetCommitResponse, OffsetDeleteResponse, OffsetFetchResponse, SyncGroupResponse,
};
use highwater_wire::{ErrorCode, ResponseBody};

/// A response of the request's kind that carries `code` wherever that kind puts errors.
pub(crate) fn refuse(request: &GroupRequest, code: ErrorCode) -> ResponseBody {
    let error_code = code.code();
    match request {
        GroupRequest::Join(r) => ResponseBody::JoinGroup(JoinGroupResponse {
            error_code,
            member_id: r.member_id.clone(),
            protocol_name: Some(Default::default()),
            ..Default::default()
        }),
        GroupRequest::Sync(_) => ResponseBody::SyncGroup(SyncGroupResponse {
            error_code,
            ..Default::default()
        }),
        GroupRequest::Heartbeat(_) => ResponseBody::Heartbeat(HeartbeatResponse {
            error_code,
            ..Default::default()
        }),
        GroupRequest::Leave(_) => ResponseBody::LeaveGroup(LeaveGroupResponse {
            error_code,
            ..Default::default()
        }),
        GroupRequest::OffsetCommit(r) => ResponseBody::OffsetCommit(OffsetCommitResponse {
            topics: r
                .topics
                .iter()
                .map(|topic| OffsetCommitResponseTopic {
                    name: topic.name.clone(),
                    partitions: topic
                        .partitions
                        .iter()
                        .map(|partition| OffsetCommitResponsePartition {
                            partition_index: partition.partition_index,
                            error_code,
                        })
                        .collect(),
                })
                .collect(),
            ..Default::default()
        }),
        GroupRequest::OffsetFetch(r) => ResponseBody::OffsetFetch(OffsetFetchResponse {
            error_code,
            // Version 1 has no error of its own, only those of partitions.
            topics: r
                .topics
                .iter()
                .flatten()
                .map(|topic| refused_offsets(topic, error_code))
                .collect(),
            groups: r
                .groups
                .iter()
                .map(|group| OffsetFetchResponseGroup {
                    group_id: group.group_id.clone(),
                    error_code,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }),
        GroupRequest::Describe(r) => ResponseBody::DescribeGroups(DescribeGroupsResponse {
            groups: r
                .groups
                .iter()
                .map(|group_id| DescribedGroup {
                    error_code,
                    group_id: group_id.clone(),
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        }),
        GroupRequest::List(_) => ResponseBody::ListGroups(ListGroupsResponse {
            error_code,
            ..Default::default()
        }),
        GroupRequest::Delete(r) => ResponseBody::DeleteGroups(DeleteGroupsResponse {
            results: r
                .groups_names
                .iter()
                .map(|group_id| DeletableGroupResult {
                    group_id: group_id.clone(),
                    error_code,
                })
                .collect(),
            ..Default::default()
        }),
        GroupRequest::ConsumerHeartbeat(_) => {
            ResponseBody::ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse {
                error_code,
                ..Default::default()
            })
        }
        GroupRequest::ConsumerDescribe(r) => {
            ResponseBody::ConsumerGroupDescribe(ConsumerGroupDescribeResponse {
                groups: r
                    .group_ids
                    .iter()
                    .map(|group_id| DescribedConsumerGroup {
                        error_code,
                        group_id: group_id.clone(),
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            })
        }
        GroupRequest::OffsetDelete(_) => ResponseBody::OffsetDelete(OffsetDeleteResponse {
            error_code,
            ..Default::default()
        }),
    }
}

/// A topic of OffsetFetch whose every partition carries the error.
pub(crate) fn refused_offsets(topic: &OffsetFetchRequestTopic, error_code: i16) -> OffsetFetchResponseTopic {
    OffsetFetchResponseTopic {
        name: topic.name.clone(),
        partitions: topic
            .partition_indexes
            .iter()
            .map(|index| OffsetFetchResponsePartition {
                partition_index: *index,
                committed_offset: -1,
                metadata: Some(Default::default()),
                error_code,
                ..Default::default()
            })
            .collect(),
    }
}
