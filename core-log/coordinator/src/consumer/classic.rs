//! Members that speak JoinGroup, SyncGroup and Heartbeat inside a consumer group (KIP-848, online migration).
//!
//! The member epoch is their generation. A join is a heartbeat with a full subscription and never waits; the
//! assignment is fetched with SyncGroup; a heartbeat says REBALANCE_IN_PROGRESS whenever a join would bring the
//! member further. Nobody leads.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use highwater_wire::messages::leave_group_request::MemberIdentity;
use highwater_wire::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use highwater_wire::{ErrorCode, ResponseBody};

use super::draft::Draft;
use super::group::{ClassicTerms, ConsumerGroup, ConsumerMember, MemberState};
use super::heartbeat::{Refusal, replace, uuid_text};
use super::leave::remove;
use super::migrate;
use super::records::MemberMetadata;
use super::settle::settle;
use crate::effects::{ClientContext, Effects, Now, RequestToken};
use crate::group::MemberTerms;
use crate::limits;
use crate::shard::{GroupShard, fits, join_error, sync_error};
use crate::subscription::{CONSUMER_PROTOCOL_TYPE, decode_subscription, encode_assignment, owned_partitions};

/// From this version on a dynamic member gets its id first and joins with it (KIP-394).
const FIRST_JOIN_VERSION_WITH_MEMBER_ID_REQUIRED: i16 = 4;

impl GroupShard {
    pub(crate) fn classic_join(
        &mut self,
        token: RequestToken,
        client: &ClientContext,
        request: JoinGroupRequest,
        now: Now,
    ) -> Effects {
        let mut effects = Effects::default();
        let member_id = request.member_id.clone();
        let body = match self.classic_join_outcome(client, request, now, &mut effects) {
            Ok(response) => ResponseBody::JoinGroup(response),
            Err((code, assigned_id)) => {
                join_error(client.api_version, assigned_id.unwrap_or(member_id), code)
            }
        };
        effects.replies.push((token, body));
        effects
    }

    /// An error may come with the id that the member is to join with.
    fn classic_join_outcome(
        &mut self,
        client: &ClientContext,
        request: JoinGroupRequest,
        now: Now,
        effects: &mut Effects,
    ) -> Result<JoinGroupResponse, (ErrorCode, Option<ByteString>)> {
        let plain = |code| (code, None);
        let terms = MemberTerms::from_request(&request, client.api_version);
        self.check_join_terms(&request, &terms).map_err(plain)?;
        let group_id = &request.group_id;
        let Some(group) = self.consumer_group(group_id) else {
            return Err(plain(ErrorCode::UnknownMemberId));
        };
        if !supports(group, &request.protocol_type, &terms) {
            return Err(plain(ErrorCode::InconsistentGroupProtocol));
        }
        let is_unnamed = request.member_id.is_empty();
        let member_id = match is_unnamed {
            true => ByteString::from(uuid_text(client.member_id_seed)),
            false => request.member_id.clone(),
        };
        let instance_id = request.group_instance_id.as_ref();
        if is_unnamed
            && instance_id.is_none()
            && client.api_version >= FIRST_JOIN_VERSION_WITH_MEMBER_ID_REQUIRED
        {
            return Err((ErrorCode::MemberIdRequired, Some(member_id)));
        }
        let mut draft = Draft::new(group_id, group.clone(), now.wall);
        let before = admit(&mut draft, instance_id, &member_id, is_unnamed).map_err(plain)?;
        if before.is_none() && draft.group().member_count() >= self.config.consumer_max_group_size {
            return Err((ErrorCode::GroupMaxSizeReached, Some(ByteString::new())));
        }
        let (metadata, owned) = {
            let first = terms.protocols.first().map(|protocol| &protocol.metadata);
            let (_, subscription) = first
                .and_then(|metadata| decode_subscription(metadata).ok())
                .ok_or(plain(ErrorCode::InconsistentGroupProtocol))?;
            let owned = owned_partitions(&subscription, &*self.topics);
            if !subscription.topics.iter().all(fits) {
                return Err(plain(ErrorCode::InvalidRequest));
            }
            let metadata = MemberMetadata {
                instance_id: instance_id.cloned(),
                rack_id: subscription.rack_id,
                client_id: client.client_id.clone(),
                client_host: client.client_host.clone(),
                topic_names: subscription.topics.into_iter().collect(),
                topic_regex: None,
                rebalance_timeout_ms: terms.rebalance_timeout_ms,
                server_assignor: None,
                classic: Some(ClassicTerms {
                    session_timeout_ms: terms.session_timeout_ms,
                    protocols: terms
                        .protocols
                        .into_iter()
                        .map(|p| (p.name, p.metadata))
                        .collect(),
                }),
            };
            (metadata, owned)
        };
        self.check_consumer_memory(&draft, &member_id, &metadata)
            .map_err(|refusal| plain(refusal.code))?;
        let around = self.surroundings(group_id);
        let member = settle(&mut draft, &member_id, metadata, Some(&owned), around);
        let mut generation_id = member.current.epoch;
        let joined = draft.group().clone();
        self.finish_draft(group_id, draft, effects)
            .map_err(|refusal| plain(refusal.code))?;

        // A static member of the newer protocol may just have been the last one.
        if migrate::may_downgrade(&joined, None, &self.config)
            && self.downgrade_from(group_id, &joined, None, now, effects)
        {
            generation_id = joined.epoch;
        } else {
            self.cancel_rebalance_timer(group_id, &member_id);
            self.schedule_consumer_session(group_id, &member_id, &member, now);
            self.schedule_member_sync(group_id, &member_id, &member, now);
        }
        Ok(JoinGroupResponse {
            generation_id,
            protocol_type: Some(ByteString::from_static(CONSUMER_PROTOCOL_TYPE)),
            protocol_name: Some(first_protocol(&member).unwrap_or_default()),
            member_id,
            ..Default::default()
        })
    }

    pub(crate) fn classic_sync(
        &mut self,
        token: RequestToken,
        request: &SyncGroupRequest,
        now: Now,
    ) -> Effects {
        let body = match self.classic_sync_outcome(request, now) {
            Ok(assignment) => ResponseBody::SyncGroup(SyncGroupResponse {
                protocol_type: request.protocol_type.clone(),
                protocol_name: request.protocol_name.clone(),
                assignment,
                ..Default::default()
            }),
            Err(code) => sync_error(code),
        };
        Effects::reply(token, body)
    }

    fn classic_sync_outcome(&mut self, request: &SyncGroupRequest, now: Now) -> Result<Bytes, ErrorCode> {
        let group_id = &request.group_id;
        let group = self.consumer_group(group_id).ok_or(ErrorCode::UnknownMemberId)?;
        let member = classic_member(group, &request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != member.current.epoch {
            return Err(ErrorCode::IllegalGeneration);
        }
        let is_other =
            |named: &Option<ByteString>, ours: &str| named.as_ref().is_some_and(|named| named != ours);
        let protocol = first_protocol(&member).unwrap_or_default();
        if is_other(&request.protocol_type, CONSUMER_PROTOCOL_TYPE)
            || is_other(&request.protocol_name, &protocol)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        // One that gives up partitions has joined already; it comes to its assignment first.
        if group.epoch > member.current.epoch && member.current.state != MemberState::UnrevokedPartitions {
            self.schedule_rebalance_timer(group_id, &request.member_id, &member, now);
            return Err(ErrorCode::RebalanceInProgress);
        }
        let classic = member.metadata.classic.as_ref();
        let first = classic.and_then(|classic| classic.protocols.first());
        let version = first
            .and_then(|(_, metadata)| decode_subscription(metadata).ok())
            .map_or(0, |(version, _)| version);
        let assignment = encode_assignment(version, &member.current.assigned, &*self.topics)
            .ok_or(ErrorCode::UnknownServerError)?;
        self.cancel_member_sync(group_id, &request.member_id);
        self.schedule_consumer_session(group_id, &request.member_id, &member, now);
        Ok(assignment)
    }

    pub(crate) fn classic_heartbeat(
        &mut self,
        request: &HeartbeatRequest,
        now: Now,
    ) -> Result<(), ErrorCode> {
        let group_id = &request.group_id;
        let group = self.consumer_group(group_id).ok_or(ErrorCode::UnknownMemberId)?;
        let member = classic_member(group, &request.member_id, request.group_instance_id.as_ref())?;
        if request.generation_id != member.current.epoch {
            return Err(ErrorCode::IllegalGeneration);
        }
        let should_join = match member.current.state {
            _ if member.current.epoch < group.epoch => true,
            MemberState::UnrevokedPartitions | MemberState::Unknown => true,
            MemberState::UnreleasedPartitions => {
                let held = group.held_by_others(&request.member_id);
                let target = group.target(&request.member_id);
                let mut missing = target
                    .iter()
                    .filter(|(topic, partition)| !member.current.assigned.contains(*topic, *partition));
                !missing.any(|(topic, partition)| held.contains(topic, partition))
            }
            MemberState::Stable => false,
        };
        self.schedule_consumer_session(group_id, &request.member_id, &member, now);
        match should_join {
            false => Ok(()),
            true => {
                self.schedule_rebalance_timer(group_id, &request.member_id, &member, now);
                Err(ErrorCode::RebalanceInProgress)
            }
        }
    }

    /// LeaveGroup on a consumer group, one outcome per identity, in order. It is how a classic member leaves, and how
    /// an administrator removes any member, of either protocol.
    pub(crate) fn classic_leave(
        &mut self,
        group_id: &ByteString,
        leaving: &[MemberIdentity],
        now: Now,
        effects: &mut Effects,
    ) -> Vec<ErrorCode> {
        let Some(group) = self.consumer_group(group_id) else {
            return vec![ErrorCode::UnknownMemberId; leaving.len()];
        };
        let mut draft = Draft::new(group_id, group.clone(), now.wall);
        let mut gone: Vec<ByteString> = Vec::new();
        let mut outcomes = Vec::new();
        for identity in leaving {
            let owner = match (&identity.group_instance_id, identity.member_id.is_empty()) {
                // An administrator removes a static member by its instance id alone.
                (Some(instance_id), true) => group.static_member(instance_id).cloned().unwrap_or_default(),
                _ => identity.member_id.clone(),
            };
            outcomes.push(
                match member_of(group, &owner, identity.group_instance_id.as_ref()) {
                    Ok(_) if !gone.contains(&owner) => {
                        gone.push(owner);
                        ErrorCode::None
                    }
                    Ok(_) => ErrorCode::UnknownMemberId,
                    Err(code) => code,
                },
            );
        }
        if gone.is_empty() {
            return outcomes;
        }
        let is_newer = |id: &ByteString| group.member(id).is_some_and(|member| !member.is_classic());
        let newer_left = gone.iter().any(is_newer);
        remove(&mut draft, &gone, &*self.topics);
        let remaining = draft.group().clone();
        // Tombstones of what is on record fit into records.
        let is_done = self.finish_draft(group_id, draft, effects).is_ok();
        if is_done && newer_left && migrate::may_downgrade(&remaining, None, &self.config) {
            self.downgrade_from(group_id, &remaining, None, now, effects);
        }
        outcomes
    }

    /// What can be said against a join's fields whatever the group (see `shard::join`).
    fn check_join_terms(&self, request: &JoinGroupRequest, terms: &MemberTerms) -> Result<(), ErrorCode> {
        let strings = [&request.member_id, &request.protocol_type];
        let instance_id = request.group_instance_id.as_ref();
        let names = terms.protocols.iter().map(|protocol| &protocol.name);
        if !strings.into_iter().chain(instance_id).chain(names).all(fits)
            || request.protocols.len() > limits::MAX_PROTOCOLS_PER_MEMBER
        {
            return Err(ErrorCode::InvalidRequest);
        }
        let allowed = self.config.min_session_timeout_ms..=self.config.max_session_timeout_ms;
        match allowed.contains(&request.session_timeout_ms) {
            true => Ok(()),
            false => Err(ErrorCode::InvalidSessionTimeout),
        }
    }
}

/// Whether the classic members would still have a protocol in common.
fn supports(group: &ConsumerGroup, protocol_type: &str, terms: &MemberTerms) -> bool {
    let classics: Vec<_> = group
        .members()
        .filter_map(|(_, member)| member.metadata.classic.as_ref())
        .collect();
    protocol_type == CONSUMER_PROTOCOL_TYPE
        && terms.protocols.iter().any(|offered| {
            let offers =
                |classic: &&ClassicTerms| classic.protocols.iter().any(|(name, _)| *name == offered.name);
            classics.iter().all(offers)
        })
}

/// The member that joins, if it was there; a static one under a new id takes the former one's place.
fn admit(
    draft: &mut Draft<'_>,
    instance_id: Option<&ByteString>,
    member_id: &ByteString,
    is_unnamed: bool,
) -> Result<Option<Arc<ConsumerMember>>, ErrorCode> {
    let Some(instance_id) = instance_id else {
        return Ok(draft.group().member(member_id).cloned());
    };
    let holder = draft.group().static_member(instance_id).cloned();
    match holder.and_then(|id| Some((draft.group().member(&id).cloned()?, id))) {
        None if is_unnamed => Ok(None),
        None => Err(ErrorCode::UnknownMemberId),
        Some((member, id)) if id == *member_id => Ok(Some(member)),
        Some((member, id)) if is_unnamed => Ok(Some(replace(draft, &id, &member, member_id))),
        Some(_) => Err(ErrorCode::FencedInstanceId),
    }
}

/// A member by id, or by instance id and id, that speaks the classic protocol.
fn classic_member(
    group: &ConsumerGroup,
    member_id: &str,
    instance_id: Option<&ByteString>,
) -> Result<Arc<ConsumerMember>, ErrorCode> {
    let member = member_of(group, member_id, instance_id)?;
    match member.is_classic() {
        true => Ok(member),
        false => Err(ErrorCode::UnknownMemberId),
    }
}

/// A member by id, or by instance id and id.
fn member_of(
    group: &ConsumerGroup,
    member_id: &str,
    instance_id: Option<&ByteString>,
) -> Result<Arc<ConsumerMember>, ErrorCode> {
    if let Some(instance_id) = instance_id {
        match group.static_member(instance_id) {
            None => return Err(ErrorCode::UnknownMemberId),
            Some(owner) if *owner != *member_id => return Err(ErrorCode::FencedInstanceId),
            Some(_) => {}
        }
    }
    group.member(member_id).cloned().ok_or(ErrorCode::UnknownMemberId)
}

/// The assignor a classic member is told the group uses: its own first choice, since the coordinator assigns.
fn first_protocol(member: &ConsumerMember) -> Option<ByteString> {
    let (name, _) = member.metadata.classic.as_ref()?.protocols.first()?;
    Some(name.clone())
}

impl From<Refusal> for ErrorCode {
    fn from(refusal: Refusal) -> Self {
        refusal.code
    }
}
