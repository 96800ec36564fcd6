//! DescribeGroups, ListGroups and DeleteGroups.
//!
//! Semantic 68: an unknown group is described as Dead without an error up to version 5 and with
//! GROUP_ID_NOT_FOUND from version 6 on (KIP-1043); a group with members cannot be deleted.

use bytes::Bytes;
use bytestring::ByteString;
use highwater_wire::messages::delete_groups_response::DeletableGroupResult;
use highwater_wire::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use highwater_wire::messages::list_groups_response::ListedGroup;
use highwater_wire::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    ListGroupsRequest, ListGroupsResponse,
};
use highwater_wire::{ErrorCode, ResponseBody};

use crate::consumer::draft::Draft;
use crate::effects::{ClientContext, CoordinatorRecord, Effects, Now, RequestToken};
use crate::group::{LiveGroup, Phase};
use crate::records::{EncodeError, GroupMetadataKey, RecordKey};
use crate::subscription::CONSUMER_PROTOCOL_TYPE;

use super::{GroupShard, offsets};

/// From this version on DescribeGroups names a group that does not exist as an error.
const FIRST_DESCRIBE_VERSION_WITH_NOT_FOUND: i16 = 6;
const CLASSIC: &str = "classic";
/// Groups of the newer protocol (KIP-848).
const CONSUMER: &str = "consumer";
/// What one may do to a group, as bits (KIP-430). Without authorization that is everything: read, delete, describe,
/// describe and alter configs.
pub(crate) const GROUP_OPERATIONS: i32 = (1 << 3) | (1 << 6) | (1 << 8) | (1 << 10) | (1 << 11);
const DEAD: &str = "Dead";

/// Refuses to describe any group.
pub(super) fn describe_error(request: DescribeGroupsRequest, error: ErrorCode) -> ResponseBody {
    let groups = request.groups.into_iter().map(|group_id| DescribedGroup {
        group_id,
        error_code: error.code(),
        ..Default::default()
    });
    ResponseBody::DescribeGroups(DescribeGroupsResponse {
        groups: groups.collect(),
        ..Default::default()
    })
}

/// Refuses to list groups.
pub(super) fn list_error(error: ErrorCode) -> ResponseBody {
    ResponseBody::ListGroups(ListGroupsResponse {
        error_code: error.code(),
        ..Default::default()
    })
}

/// Refuses to delete any group.
pub(super) fn delete_error(request: DeleteGroupsRequest, error: ErrorCode) -> ResponseBody {
    let results = request
        .groups_names
        .into_iter()
        .map(|group_id| DeletableGroupResult {
            group_id,
            error_code: error.code(),
        });
    ResponseBody::DeleteGroups(DeleteGroupsResponse {
        results: results.collect(),
        ..Default::default()
    })
}

/// The record that forgets a group's metadata.
pub(crate) fn tombstone(group_id: &ByteString) -> Result<CoordinatorRecord, EncodeError> {
    let key = RecordKey::GroupMetadata(GroupMetadataKey {
        group: group_id.clone(),
    });
    Ok(CoordinatorRecord {
        key: key.encode()?,
        value: None,
    })
}

impl GroupShard {
    pub(super) fn describe(
        &self,
        token: RequestToken,
        client: &ClientContext,
        request: DescribeGroupsRequest,
    ) -> Effects {
        let groups = request
            .groups
            .into_iter()
            .map(|group_id| match self.live.get(&group_id) {
                _ if self.consumer_group(&group_id).is_some() => {
                    let message = format!("Group {group_id} is not a classic group.");
                    dead_group(group_id, client.api_version, message)
                }
                Some(group) => {
                    let mut described = describe_group(group_id, group);
                    if request.include_authorized_operations {
                        described.authorized_operations = GROUP_OPERATIONS;
                    }
                    described
                }
                None => {
                    let message = format!("Group {group_id} not found.");
                    dead_group(group_id, client.api_version, message)
                }
            });
        let response = DescribeGroupsResponse {
            groups: groups.collect(),
            ..Default::default()
        };
        Effects::reply(token, ResponseBody::DescribeGroups(response))
    }

    pub(super) fn list(&self, token: RequestToken, request: ListGroupsRequest) -> Effects {
        let allows = |filter: &[ByteString], value: &str| {
            filter.is_empty() || filter.iter().any(|allowed| allowed.eq_ignore_ascii_case(value))
        };
        let mut response = ListGroupsResponse::default();
        for (group_id, group) in &self.live {
            let (group_type, state, protocol_type) = match self.consumer_group(group_id) {
                Some(consumer) => {
                    let protocol_type = ByteString::from_static(CONSUMER_PROTOCOL_TYPE);
                    (CONSUMER, consumer.state_name(), protocol_type)
                }
                None => (
                    CLASSIC,
                    group.phase.name(),
                    group.protocol_type.clone().unwrap_or_default(),
                ),
            };
            if allows(&request.types_filter, group_type) && allows(&request.states_filter, state) {
                response.groups.push(ListedGroup {
                    group_id: group_id.clone(),
                    protocol_type,
                    group_state: ByteString::from_static(state),
                    group_type: ByteString::from_static(group_type),
                });
            }
        }
        Effects::reply(token, ResponseBody::ListGroups(response))
    }

    pub(super) fn delete(&mut self, token: RequestToken, request: DeleteGroupsRequest, now: Now) -> Effects {
        let mut effects = Effects::default();
        let mut response = DeleteGroupsResponse::default();
        for group_id in request.groups_names {
            let has_consumers = self
                .consumer_group(&group_id)
                .is_some_and(|group| group.member_count() > 0);
            let error = match self.live.get(&group_id).map(|group| group.phase) {
                _ if has_consumers => ErrorCode::NonEmptyGroup,
                None => ErrorCode::GroupIdNotFound,
                Some(Phase::Empty) => {
                    self.delete_group(&group_id, now, &mut effects);
                    ErrorCode::None
                }
                Some(Phase::PreparingRebalance { .. } | Phase::CompletingRebalance | Phase::Stable) => {
                    ErrorCode::NonEmptyGroup
                }
            };
            response.results.push(DeletableGroupResult {
                group_id,
                error_code: error.code(),
            });
        }
        effects
            .replies
            .push((token, ResponseBody::DeleteGroups(response)));
        effects
    }

    /// Tombstones for all that a group has on record; a group that only handed out member ids goes at once.
    fn delete_group(&mut self, group_id: &ByteString, now: Now, effects: &mut Effects) {
        let Some(durable) = self.durable.group(group_id) else {
            self.live.remove(group_id);
            return;
        };
        // What is on record fits into records.
        for (topic, partitions) in durable.offsets() {
            let keys = partitions.keys();
            effects
                .records
                .extend(keys.flat_map(|key| offsets::tombstone(group_id, topic, *key)));
        }
        if durable.metadata().is_some() {
            effects.records.extend(tombstone(group_id));
        }
        if let Some(consumer) = durable.consumer() {
            let mut draft = Draft::new(group_id, consumer.clone(), now.wall);
            draft.remove_group();
            effects.records.extend(draft.into_records().unwrap_or_default());
        }
    }
}

fn describe_group(group_id: ByteString, group: &LiveGroup) -> DescribedGroup {
    // Only a stable group has metadata and assignments that belong together.
    let chosen = match group.phase {
        Phase::Stable => group.protocol_name.clone(),
        Phase::Empty | Phase::PreparingRebalance { .. } | Phase::CompletingRebalance => None,
    };
    let members = group
        .members()
        .iter()
        .map(|(member_id, member)| DescribedGroupMember {
            member_id: member_id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            member_metadata: chosen
                .as_deref()
                .map_or_else(Bytes::new, |name| member.metadata(name)),
            member_assignment: match chosen {
                Some(_) => member.assignment.clone(),
                None => Bytes::new(),
            },
        });
    DescribedGroup {
        error_code: ErrorCode::None.code(),
        group_state: ByteString::from_static(group.phase.name()),
        protocol_type: group.protocol_type.clone().unwrap_or_default(),
        members: members.collect(),
        protocol_data: chosen.unwrap_or_default(),
        group_id,
        ..Default::default()
    }
}

fn dead_group(group_id: ByteString, api_version: i16, message: String) -> DescribedGroup {
    let (error, error_message) = match api_version >= FIRST_DESCRIBE_VERSION_WITH_NOT_FOUND {
        true => (ErrorCode::GroupIdNotFound, Some(ByteString::from(message))),
        false => (ErrorCode::None, None),
    };
    DescribedGroup {
        error_code: error.code(),
        error_message,
        group_id,
        group_state: ByteString::from_static(DEAD),
        ..Default::default()
    }
}
