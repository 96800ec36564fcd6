//! Heartbeat, LeaveGroup and silence.
//!
//! Semantic 63: a heartbeat tells of a rebalance only while the group prepares one. Semantic 66: LeaveGroup
//! takes a list from version 3 on.

use bytestring::ByteString;
use highwater_wire::messages::leave_group_request::MemberIdentity;
use highwater_wire::messages::leave_group_response::MemberResponse;
use highwater_wire::messages::{HeartbeatRequest, HeartbeatResponse, LeaveGroupRequest, LeaveGroupResponse};
use highwater_wire::{ErrorCode, ResponseBody};

use crate::effects::{ClientContext, Effects, Now, RequestToken};
use crate::group::{Member, Phase};

use super::GroupShard;
use super::turn::Turn;

/// From this version on LeaveGroup names several members and answers for each (KIP-345).
const FIRST_VERSION_WITH_MEMBER_LIST: i16 = 3;

impl GroupShard {
    pub(super) fn heartbeat(&mut self, token: RequestToken, request: HeartbeatRequest, now: Now) -> Effects {
        let mut code = match request.group_id.is_empty() {
            true => ErrorCode::InvalidGroupId,
            false => ErrorCode::UnknownMemberId,
        };
        let mut effects = Effects::default();
        if self.consumer_group(&request.group_id).is_some() {
            code = self
                .classic_heartbeat(&request, now)
                .err()
                .unwrap_or(ErrorCode::None);
        } else {
            self.turn(&request.group_id, now, &mut effects, |turn| {
                code = turn.heartbeat(&request).err().unwrap_or(ErrorCode::None);
            });
        }
        let response = HeartbeatResponse {
            error_code: code.code(),
            ..Default::default()
        };
        effects.replies.push((token, ResponseBody::Heartbeat(response)));
        effects
    }

    pub(super) fn leave(
        &mut self,
        token: RequestToken,
        client: &ClientContext,
        request: LeaveGroupRequest,
        now: Now,
    ) -> Effects {
        let is_list = client.api_version >= FIRST_VERSION_WITH_MEMBER_LIST;
        let leaving = match is_list {
            true => request.members,
            false => vec![MemberIdentity {
                member_id: request.member_id,
                ..Default::default()
            }],
        };
        let mut response = LeaveGroupResponse::default();
        let mut effects = Effects::default();
        if request.group_id.is_empty() {
            response.error_code = ErrorCode::InvalidGroupId.code();
        } else {
            let mut outcomes = vec![ErrorCode::UnknownMemberId; leaving.len()];
            if self.consumer_group(&request.group_id).is_some() {
                outcomes = self.classic_leave(&request.group_id, &leaving, now, &mut effects);
            } else {
                self.turn(&request.group_id, now, &mut effects, |turn| {
                    outcomes = turn.leave(&leaving)
                });
            }
            if is_list {
                let answers = leaving
                    .into_iter()
                    .zip(outcomes)
                    .map(|(member, outcome)| MemberResponse {
                        member_id: member.member_id,
                        group_instance_id: member.group_instance_id,
                        error_code: outcome.code(),
                    });
                response.members = answers.collect();
            } else {
                response.error_code = outcomes.first().copied().unwrap_or(ErrorCode::None).code();
            }
        }
        effects.replies.push((token, ResponseBody::LeaveGroup(response)));
        effects
    }
}

impl Turn<'_> {
    fn heartbeat(&mut self, request: &HeartbeatRequest) -> Result<(), ErrorCode> {
        self.group
            .validate_member(&request.member_id, request.group_instance_id.as_ref())?;
        if !self
            .group
            .is_generation_of(&request.member_id, request.generation_id)
        {
            return Err(ErrorCode::IllegalGeneration);
        }
        self.renew_session(&request.member_id);
        match self.group.phase {
            Phase::Empty => Err(ErrorCode::UnknownMemberId),
            Phase::PreparingRebalance { .. } => Err(ErrorCode::RebalanceInProgress),
            Phase::CompletingRebalance | Phase::Stable => Ok(()),
        }
    }

    /// Takes members out and rebalances the rest once. One outcome per identity, in order.
    fn leave(&mut self, leaving: &[MemberIdentity]) -> Vec<ErrorCode> {
        let outcomes: Vec<_> = leaving
            .iter()
            .map(|identity| self.leave_one(identity).err().unwrap_or(ErrorCode::None))
            .collect();
        if outcomes.contains(&ErrorCode::None) {
            self.rebalance_after_loss();
        }
        outcomes
    }

    fn leave_one(&mut self, identity: &MemberIdentity) -> Result<(), ErrorCode> {
        let instance_id = identity.group_instance_id.as_ref();
        let member_id = if identity.member_id.is_empty() {
            // An administrator removes a static member by its instance id alone.
            let owner = instance_id.and_then(|instance_id| self.group.static_member(instance_id));
            owner.cloned().ok_or(ErrorCode::UnknownMemberId)?
        } else if self.group.remove_pending(&identity.member_id) {
            self.cancel_session(&identity.member_id);
            return Ok(());
        } else {
            self.group.validate_member(&identity.member_id, instance_id)?;
            identity.member_id.clone()
        };
        self.cancel_session(&member_id);
        if let Some(member) = self.group.remove(&member_id) {
            self.dismiss(member, ErrorCode::UnknownMemberId);
        }
        Ok(())
    }

    fn rebalance_after_loss(&mut self) {
        match self.group.phase {
            // Only an id that had been handed out is gone.
            Phase::Empty => {}
            Phase::PreparingRebalance { .. } => self.complete_join_if_all_are_here(),
            Phase::CompletingRebalance | Phase::Stable => self.prepare_rebalance(),
        }
    }

    /// The session timer of a member, or of an id that was handed out, fired.
    pub(super) fn expire_session(&mut self, member_id: &ByteString) {
        if self.group.remove_pending(member_id) {
            return self.complete_join_if_all_are_here();
        }
        if self.group.member(member_id).is_none_or(Member::is_excused) {
            return;
        }
        if let Some(member) = self.group.remove(member_id) {
            self.dismiss(member, ErrorCode::UnknownMemberId);
            self.rebalance_after_loss();
        }
    }
}
