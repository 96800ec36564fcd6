//! ConsumerGroupHeartbeat, versions 0 and 1: joining, staying, telling what one owns, learning what one should.

use std::sync::Arc;

use bytestring::ByteString;
use highwater_wire::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use highwater_wire::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use highwater_wire::{ErrorCode, ResponseBody};

use super::draft::Draft;
use super::group::{ConsumerGroup, ConsumerMember, MemberState, partitions_from};
use super::partitions::Partitions;
use super::records::{CurrentAssignment, MemberMetadata};
use super::settle::{Surroundings, settle};
use super::{JOINING_EPOCH, LEAVING_EPOCH, STATIC_LEAVING_EPOCH, migrate, regexes};
use crate::config::GroupConfig;
use crate::effects::{ClientContext, Effects, Now, RequestToken};
use crate::limits;
use crate::shard::{GroupShard, fits};

/// Why a request is refused: the code and a sentence for the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    pub(crate) fn unknown_member(member_id: &str) -> Self {
        Self::new(
            ErrorCode::UnknownMemberId,
            format!("member {member_id} is not in the group; join it"),
        )
    }

    pub(crate) fn unencodable() -> Self {
        Self::new(
            ErrorCode::UnknownServerError,
            "the group's records cannot be written",
        )
    }

    pub(crate) fn into_heartbeat(self) -> ResponseBody {
        ResponseBody::ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse {
            error_code: self.code.code(),
            error_message: Some(self.message.into()),
            ..Default::default()
        })
    }
}

/// An error answer.
pub(crate) fn error(code: ErrorCode) -> ResponseBody {
    ResponseBody::ConsumerGroupHeartbeat(ConsumerGroupHeartbeatResponse {
        error_code: code.code(),
        ..Default::default()
    })
}

impl GroupShard {
    pub(crate) fn consumer_heartbeat(
        &mut self,
        token: RequestToken,
        client: &ClientContext,
        request: ConsumerGroupHeartbeatRequest,
        now: Now,
    ) -> Effects {
        let mut effects = Effects::default();
        let checked = check(&request, client.api_version, &self.config);
        let outcome = checked.and_then(|()| match request.member_epoch {
            LEAVING_EPOCH | STATIC_LEAVING_EPOCH => self.consumer_leave(&request, now, &mut effects),
            _ => self.consumer_stay(client, request, now, &mut effects),
        });
        let body = match outcome {
            Ok(response) => ResponseBody::ConsumerGroupHeartbeat(response),
            Err(refusal) => refusal.into_heartbeat(),
        };
        effects.replies.push((token, body));
        effects
    }

    fn consumer_stay(
        &mut self,
        client: &ClientContext,
        request: ConsumerGroupHeartbeatRequest,
        now: Now,
        effects: &mut Effects,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let is_joining = request.member_epoch == JOINING_EPOCH;
        let group_id = request.group_id.clone();
        let mut draft = self.consumer_draft(&group_id, is_joining, now)?;
        let member_id = match request.member_id.is_empty() {
            true => ByteString::from(uuid_text(client.member_id_seed)),
            false => request.member_id.clone(),
        };
        let group = draft.group();
        if group.member(&member_id).is_none() && group.member_count() >= self.config.consumer_max_group_size {
            return Err(Refusal::new(
                ErrorCode::GroupMaxSizeReached,
                format!(
                    "the group has {} members, as many as it may",
                    group.member_count()
                ),
            ));
        }
        let owned = request.topic_partitions.as_ref().map(|topics| {
            partitions_from(
                topics
                    .iter()
                    .map(|topic| (topic.topic_id, topic.partitions.iter().copied())),
            )
        });
        let before = admit(&mut draft, &request, &member_id, owned.as_ref())?;
        let metadata = updated_metadata(before.as_deref(), client, &request);
        self.check_consumer_memory(&draft, &member_id, &metadata)?;

        let around = self.surroundings(&group_id);
        let owned_before = before.map(|member| member.current.assigned.clone());
        let member = settle(&mut draft, &member_id, metadata, owned.as_ref(), around);
        let is_full_request = is_joining
            || (request.rebalance_timeout_ms != -1
                && (request.subscribed_topic_names.is_some() || request.subscribed_topic_regex.is_some())
                && request.topic_partitions.is_some());
        let tells_assignment = is_full_request || owned_before.as_ref() != Some(&member.current.assigned);
        let response = ConsumerGroupHeartbeatResponse {
            member_id: Some(member_id.clone()),
            member_epoch: member.current.epoch,
            heartbeat_interval_ms: self
                .config
                .heartbeat_interval_ms(self.topics.group_settings(&group_id)),
            assignment: tells_assignment.then(|| assignment_of(&member)),
            ..Default::default()
        };
        self.finish_draft(&group_id, draft, effects)?;
        self.schedule_consumer_timers(&group_id, &member_id, &member, now);
        Ok(response)
    }

    /// The group to change: the consumer group there is, a new one, or what becomes of the classic group.
    fn consumer_draft<'a>(
        &self,
        group_id: &'a ByteString,
        may_create: bool,
        now: Now,
    ) -> Result<Draft<'a>, Refusal> {
        if let Some(group) = self.consumer_group(group_id) {
            return Ok(Draft::new(group_id, group.clone(), now.wall));
        }
        let not_found = || {
            Refusal::new(
                ErrorCode::GroupIdNotFound,
                format!("group {group_id} is not a consumer group"),
            )
        };
        if !may_create {
            return Err(not_found());
        }
        let Some(live) = self.live_group(group_id) else {
            return match self.has_room_for_a_group() {
                true => Ok(Draft::new(group_id, ConsumerGroup::default(), now.wall)),
                false => Err(Refusal::new(
                    ErrorCode::GroupMaxSizeReached,
                    "the coordinator has as many groups as it may",
                )),
            };
        };
        migrate::upgrade(
            group_id,
            live,
            self.durable_group(group_id),
            self.around_of_migration(),
            now.wall,
        )
        .ok_or_else(not_found)
    }

    /// Bounds on what subscriptions may cost (GRP-4, hostile inputs 69 and 73).
    pub(crate) fn check_consumer_memory(
        &self,
        draft: &Draft<'_>,
        member_id: &ByteString,
        metadata: &MemberMetadata,
    ) -> Result<(), Refusal> {
        let group = draft.group();
        let freed = group
            .member(member_id)
            .map_or(0, |member| member.subscription_bytes());
        let in_group = group.subscription_bytes() - freed + metadata.subscription_bytes();
        let before = self
            .consumer_group(draft.group_id())
            .map_or(0, ConsumerGroup::subscription_bytes);
        let in_shard = self.subscription_bytes() - before + in_group;
        let mut regexes = group.regexes_in_use();
        regexes.extend(&metadata.topic_regex);
        let fits = in_group <= self.config.max_subscription_bytes_per_group
            && in_shard <= self.config.max_subscription_bytes_per_shard
            && regexes.len() <= limits::MAX_REGEXES_PER_GROUP;
        match fits {
            true => Ok(()),
            false => Err(Refusal::new(
                ErrorCode::GroupMaxSizeReached,
                "the subscriptions of the group's members are as large as they may be",
            )),
        }
    }

    pub(crate) fn surroundings(&self, group_id: &str) -> Surroundings<'_> {
        Surroundings {
            topics: &*self.topics,
            assignors: &self.config.consumer_assignors,
            look_at_topics: self.seen_topics.get(group_id) != Some(&self.topics.version()),
        }
    }
}

/// A UUID's 128 bits in Kafka's spelling: URL-safe base 64 without padding.
pub(crate) fn uuid_text(bits: u128) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digit = |place: u32| {
        // 22 digits of 6 bits hold 132 bits; the last one has four zeroes at its end.
        let value = match 122_u32.checked_sub(place * 6) {
            Some(shift) => (bits >> shift) & 0x3f,
            None => (bits << 4) & 0x3f,
        };
        char::from(DIGITS[usize::try_from(value).unwrap_or(0)])
    };
    (0..22).map(digit).collect()
}

/// What a request must have whatever the group looks like.
fn check(
    request: &ConsumerGroupHeartbeatRequest,
    api_version: i16,
    config: &GroupConfig,
) -> Result<(), Refusal> {
    let invalid = |message: &str| Err(Refusal::new(ErrorCode::InvalidRequest, message));
    let is_blank = |text: &ByteString| text.trim().is_empty();
    if is_blank(&request.group_id) || !fits(&request.group_id) {
        return invalid("GroupId can't be empty.");
    }
    let optional = [&request.instance_id, &request.rack_id, &request.server_assignor];
    let strings = optional.into_iter().flatten();
    let named_place = [&request.instance_id, &request.rack_id];
    if named_place.into_iter().flatten().any(is_blank) {
        return invalid("InstanceId and RackId can't be empty.");
    }
    let names = request.subscribed_topic_names.iter().flatten();
    let regex = request.subscribed_topic_regex.iter();
    if !strings
        .chain(names)
        .chain(regex)
        .chain([&request.member_id])
        .all(fits)
    {
        return invalid("a string is longer than a record can hold");
    }
    match request.member_epoch {
        JOINING_EPOCH => {
            if request.rebalance_timeout_ms < 0 {
                return invalid("RebalanceTimeoutMs must be provided in first request.");
            }
            if request
                .topic_partitions
                .as_ref()
                .is_none_or(|topics| !topics.is_empty())
            {
                return invalid("TopicPartitions must be empty when (re-)joining.");
            }
            // An empty list or expression is a member that waits for topics: what a client sends that matches names
            // with a pattern of its own and finds none yet.
            if request.subscribed_topic_names.is_none() && request.subscribed_topic_regex.is_none() {
                return invalid(
                    "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
                );
            }
            // From version 1 on clients make their own id (KIP-1082).
            if api_version >= 1 && is_blank(&request.member_id) {
                return invalid("MemberId can't be empty.");
            }
        }
        1.. | LEAVING_EPOCH if is_blank(&request.member_id) => return invalid("MemberId can't be empty."),
        STATIC_LEAVING_EPOCH if is_blank(&request.member_id) => return invalid("MemberId can't be empty."),
        STATIC_LEAVING_EPOCH if request.instance_id.is_none() => return invalid("InstanceId can't be null."),
        STATIC_LEAVING_EPOCH.. => {}
        _ => return invalid("MemberEpoch is invalid."),
    }
    if let Some(regex) = request
        .subscribed_topic_regex
        .as_ref()
        .filter(|regex| !regex.is_empty())
    {
        regexes::compile(regex)
            .map_err(|message| Refusal::new(ErrorCode::InvalidRegularExpression, message))?;
    }
    let is_offered = |name: &ByteString| config.consumer_assignors.iter().any(|kind| *name == kind.name());
    match &request.server_assignor {
        Some(name) if !is_offered(name) => {
            let offered: Vec<_> = config.consumer_assignors.iter().map(|kind| kind.name()).collect();
            Err(Refusal::new(
                ErrorCode::UnsupportedAssignor,
                format!(
                    "ServerAssignor {name} is not supported. Supported assignors: {}.",
                    offered.join(", ")
                ),
            ))
        }
        _ => Ok(()),
    }
}

/// Finds the member, fences it, or makes room for it. `None` for a new one.
fn admit(
    draft: &mut Draft<'_>,
    request: &ConsumerGroupHeartbeatRequest,
    member_id: &ByteString,
    owned: Option<&Partitions>,
) -> Result<Option<Arc<ConsumerMember>>, Refusal> {
    let is_joining = request.member_epoch == JOINING_EPOCH;
    let Some(instance_id) = &request.instance_id else {
        return match draft.group().member(member_id).cloned() {
            None if is_joining => Ok(None),
            None => Err(Refusal::unknown_member(member_id)),
            Some(member) if is_joining => Ok(Some(restart(draft, member_id, &member))),
            Some(member) => check_epoch(&member, request.member_epoch, owned).map(|()| Some(member)),
        };
    };
    let holder = draft.group().static_member(instance_id).cloned();
    let existing = holder.and_then(|id| Some((draft.group().member(&id).cloned()?, id)));
    match existing {
        None if is_joining => Ok(None),
        None => Err(Refusal::new(
            ErrorCode::UnknownMemberId,
            format!("instance id {instance_id} is not in the group; join it"),
        )),
        Some((member, id)) if is_joining => {
            if id == *member_id {
                return Ok(Some(restart(draft, member_id, &member)));
            }
            // One that speaks the classic protocol cannot say that it leaves: the newcomer takes over.
            if !member.is_classic() && !member.is_away() {
                return Err(Refusal::new(
                    ErrorCode::UnreleasedInstanceId,
                    format!("instance id {instance_id} is in use by member {id}"),
                ));
            }
            Ok(Some(replace(draft, &id, &member, member_id)))
        }
        Some((_, id)) if id != *member_id => Err(Refusal::new(
            ErrorCode::FencedInstanceId,
            format!("instance id {instance_id} was taken over by member {id}"),
        )),
        Some((member, _)) => check_epoch(&member, request.member_epoch, owned).map(|()| Some(member)),
    }
}

/// The epoch must be the member's; or its last one, if the answer that told the new one may have been lost.
fn check_epoch(member: &ConsumerMember, received: i32, owned: Option<&Partitions>) -> Result<(), Refusal> {
    let current = &member.current;
    let is_repeat = received < current.epoch
        && received == current.previous_epoch
        && owned.is_some_and(|owned| owned.is_subset_of(&current.assigned));
    // A state of the future: only one that owns nothing can be moved on.
    let is_lost = current.state == MemberState::Unknown && owned.is_none_or(|owned| !owned.is_empty());
    match (received == current.epoch || is_repeat) && !is_lost {
        true => Ok(()),
        false => Err(Refusal::new(
            ErrorCode::FencedMemberEpoch,
            format!(
                "the member's epoch is {}, not {received}; give up all partitions and join again",
                current.epoch
            ),
        )),
    }
}

/// A member that joins anew under its own id has lost what it owned.
fn restart(draft: &mut Draft<'_>, member_id: &ByteString, member: &ConsumerMember) -> Arc<ConsumerMember> {
    use super::records::Change;
    if member.current != CurrentAssignment::default() {
        draft.write(Change::Current(
            member_id.clone(),
            Some(CurrentAssignment::default()),
        ));
    }
    draft.group().member(member_id).cloned().unwrap_or_default()
}

/// A static member under a new id takes over subscription, target and what the former one owned.
pub(crate) fn replace(
    draft: &mut Draft<'_>,
    old_id: &ByteString,
    old: &ConsumerMember,
    new_id: &ByteString,
) -> Arc<ConsumerMember> {
    use super::records::Change;
    let target = draft.group().target(old_id);
    draft.remove_member(old_id);
    draft.write(Change::Member(new_id.clone(), Some(old.metadata.clone())));
    draft.write(Change::Target(new_id.clone(), Some(Partitions::clone(&target))));
    let current = CurrentAssignment {
        epoch: 0,
        previous_epoch: 0,
        revoking: Partitions::default(),
        state: MemberState::Stable,
        assigned: old.current.assigned.clone(),
    };
    draft.write(Change::Current(new_id.clone(), Some(current)));
    draft.group().member(new_id).cloned().unwrap_or_default()
}

/// What the member said before, with what it says now. It speaks the consumer protocol now.
fn updated_metadata(
    before: Option<&ConsumerMember>,
    client: &ClientContext,
    request: &ConsumerGroupHeartbeatRequest,
) -> MemberMetadata {
    let mut metadata = before.map(|member| member.metadata.clone()).unwrap_or_default();
    if request.instance_id.is_some() {
        metadata.instance_id = request.instance_id.clone();
    }
    if request.rack_id.is_some() {
        metadata.rack_id = request.rack_id.clone();
    }
    if request.rebalance_timeout_ms >= 0 {
        metadata.rebalance_timeout_ms = request.rebalance_timeout_ms;
    }
    if request.server_assignor.is_some() {
        metadata.server_assignor = request.server_assignor.clone();
    }
    if let Some(names) = &request.subscribed_topic_names {
        metadata.topic_names = names.iter().cloned().collect();
    }
    if let Some(regex) = &request.subscribed_topic_regex {
        // The empty expression takes the subscription back.
        metadata.topic_regex = Some(regex.clone()).filter(|regex| !regex.is_empty());
    }
    metadata.client_id = client.client_id.clone();
    metadata.client_host = client.client_host.clone();
    metadata.classic = None;
    metadata
}

fn assignment_of(member: &ConsumerMember) -> Assignment {
    let topics = member.current.assigned.topics();
    Assignment {
        topic_partitions: topics
            .map(|(topic_id, partitions)| TopicPartitions {
                topic_id,
                partitions: partitions.iter().copied().collect(),
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_are_spelled_as_kafka_spells_uuids() {
        // org.apache.kafka.common.Uuid: the two halves 1 and 2 are "AAAAAAAAAAEAAAAAAAAAAg".
        assert_eq!(uuid_text((1 << 64) | 2), "AAAAAAAAAAEAAAAAAAAAAg");
        assert_eq!(uuid_text(u128::MAX), "_____________________w");
    }
}
