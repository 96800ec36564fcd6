//! ConsumerGroupDescribe, versions 0 and 1.

use bytestring::ByteString;
use highwater_wire::messages::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use highwater_wire::messages::{ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse};
use highwater_wire::{ErrorCode, ResponseBody};

use super::group::{ConsumerGroup, ConsumerMember};
use super::partitions::Partitions;
use super::settle::assignor_of;
use crate::effects::{Effects, RequestToken};
use crate::shard::{GROUP_OPERATIONS, GroupShard};
use crate::topics::Topics;

const CLASSIC_MEMBER: i8 = 0;
const CONSUMER_MEMBER: i8 = 1;

/// Refuses to describe any group.
pub(crate) fn error(request: ConsumerGroupDescribeRequest, code: ErrorCode) -> ResponseBody {
    let groups = request.group_ids.into_iter().map(|group_id| DescribedGroup {
        error_code: code.code(),
        group_id,
        ..Default::default()
    });
    ResponseBody::ConsumerGroupDescribe(ConsumerGroupDescribeResponse {
        groups: groups.collect(),
        ..Default::default()
    })
}

impl GroupShard {
    pub(crate) fn describe_consumer_groups(
        &self,
        token: RequestToken,
        request: ConsumerGroupDescribeRequest,
    ) -> Effects {
        let groups = request.group_ids.into_iter().map(|group_id| {
            let Some(group) = self.consumer_group(&group_id) else {
                return self.missing_one(group_id);
            };
            let mut described = self.describe_one(group_id, group);
            if request.include_authorized_operations {
                described.authorized_operations = GROUP_OPERATIONS;
            }
            described
        });
        let response = ConsumerGroupDescribeResponse {
            groups: groups.collect(),
            ..Default::default()
        };
        Effects::reply(token, ResponseBody::ConsumerGroupDescribe(response))
    }

    fn missing_one(&self, group_id: ByteString) -> DescribedGroup {
        let (error, message) = match self.live_group(&group_id) {
            _ if group_id.is_empty() => (ErrorCode::InvalidGroupId, "The group id is empty.".to_owned()),
            Some(_) => (
                ErrorCode::GroupIdNotFound,
                format!("Group {group_id} is not a consumer group."),
            ),
            None => (ErrorCode::GroupIdNotFound, format!("Group {group_id} not found.")),
        };
        DescribedGroup {
            error_code: error.code(),
            error_message: Some(message.into()),
            group_id,
            ..Default::default()
        }
    }

    fn describe_one(&self, group_id: ByteString, group: &ConsumerGroup) -> DescribedGroup {
        let topics = &*self.topics;
        let members = group
            .members()
            .map(|(member_id, member)| describe_member(member_id, member, &group.target(member_id), topics));
        DescribedGroup {
            group_id,
            group_state: ByteString::from_static(group.state_name()),
            group_epoch: group.epoch,
            assignment_epoch: group.target_epoch,
            assignor_name: ByteString::from_static(
                assignor_of(group, &self.config.consumer_assignors).name(),
            ),
            members: members.collect(),
            ..Default::default()
        }
    }
}

fn describe_member(
    member_id: &ByteString,
    member: &ConsumerMember,
    target: &Partitions,
    topics: &dyn Topics,
) -> Member {
    let metadata = &member.metadata;
    Member {
        member_id: member_id.clone(),
        instance_id: metadata.instance_id.clone(),
        rack_id: metadata.rack_id.clone(),
        member_epoch: member.current.epoch,
        client_id: metadata.client_id.clone(),
        client_host: metadata.client_host.clone(),
        subscribed_topic_names: metadata.topic_names.iter().cloned().collect(),
        // As Kafka tells it: empty where there is none.
        subscribed_topic_regex: Some(metadata.topic_regex.clone().unwrap_or_default()),
        assignment: named(&member.current.assigned, topics),
        target_assignment: named(target, topics),
        member_type: match member.is_classic() {
            true => CLASSIC_MEMBER,
            false => CONSUMER_MEMBER,
        },
    }
}

/// Topics that are gone have no name and are left out.
fn named(partitions: &Partitions, topics: &dyn Topics) -> Assignment {
    let known = partitions.topics().filter_map(|(topic_id, partitions)| {
        Some(TopicPartitions {
            topic_id,
            topic_name: topics.name_of(topic_id)?,
            partitions: partitions.iter().copied().collect(),
        })
    });
    Assignment {
        topic_partitions: known.collect(),
    }
}
