//! SyncGroup, versions 0 to 5: the leader hands in the assignment, everybody fetches a share.
//!
//! Semantic 62: followers wait for the leader; bytes come back exactly as the leader gave them. Semantic 60:
//! protocol type and name are checked from version 5 on (KIP-559). The assignment becomes visible, and the
//! group stable, when its record is written (GRP-3).

use std::collections::BTreeMap;

use bytes::Bytes;
use bytestring::ByteString;
use highwater_wire::messages::{SyncGroupRequest, SyncGroupResponse};
use highwater_wire::{ErrorCode, ResponseBody};

use crate::effects::{ClientContext, Effects, Now, RequestToken};
use crate::group::{LiveGroup, Phase, Waiting};

use super::turn::{Turn, metadata_record};
use super::{GroupShard, Staged};

/// From this version on members name the protocol that they believe was chosen.
const FIRST_VERSION_WITH_PROTOCOL: i16 = 5;

/// An error answer.
pub(crate) fn error(error: ErrorCode) -> ResponseBody {
    ResponseBody::SyncGroup(SyncGroupResponse {
        error_code: error.code(),
        ..Default::default()
    })
}

fn assignment_response(group: &LiveGroup, member_id: &str) -> ResponseBody {
    let assignment = group
        .member(member_id)
        .map_or_else(Bytes::new, |member| member.assignment.clone());
    ResponseBody::SyncGroup(SyncGroupResponse {
        error_code: ErrorCode::None.code(),
        protocol_type: group.protocol_type.clone(),
        protocol_name: group.protocol_name.clone(),
        assignment,
        ..Default::default()
    })
}

impl GroupShard {
    pub(super) fn sync(
        &mut self,
        token: RequestToken,
        client: &ClientContext,
        request: SyncGroupRequest,
        now: Now,
    ) -> Effects {
        // From version 5 on both must be named (KIP-559); Kafka asks this before anything else.
        let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
        if client.api_version >= FIRST_VERSION_WITH_PROTOCOL && !names_protocol {
            return Effects::reply(token, error(ErrorCode::InconsistentGroupProtocol));
        }
        if request.group_id.is_empty() {
            return Effects::reply(token, error(ErrorCode::InvalidGroupId));
        }
        if self.consumer_group(&request.group_id).is_some() {
            return self.classic_sync(token, &request, now);
        }
        if !self.live.contains_key(&request.group_id) {
            return Effects::reply(token, error(ErrorCode::UnknownMemberId));
        }
        let waiting = Waiting {
            token,
            api_version: client.api_version,
        };
        let mut effects = Effects::default();
        self.turn(&request.group_id, now, &mut effects, |turn| {
            turn.sync(&request, waiting)
        });
        effects
    }
}

impl Turn<'_> {
    fn sync(&mut self, request: &SyncGroupRequest, waiting: Waiting) {
        if let Err(code) = self.check_sync(request) {
            return self.reply(waiting, error(code));
        }
        let member_id = &request.member_id;
        match self.group.phase {
            Phase::Empty => self.reply(waiting, error(ErrorCode::UnknownMemberId)),
            Phase::PreparingRebalance { .. } => self.reply(waiting, error(ErrorCode::RebalanceInProgress)),
            Phase::CompletingRebalance => {
                let superseded = self
                    .group
                    .member_mut(member_id)
                    .and_then(|member| member.set_syncing(waiting));
                if let Some(given_up) = superseded {
                    self.reply(given_up, error(ErrorCode::RebalanceInProgress));
                }
                self.settle_sync_timer();
                if self.group.is_leader(member_id) {
                    self.assign(request);
                }
            }
            Phase::Stable => {
                if let Some(member) = self.group.member_mut(member_id) {
                    member.owes_sync = false;
                }
                self.settle_sync_timer();
                let body = assignment_response(self.group, member_id);
                self.reply(waiting, body);
                self.renew_session(member_id);
            }
        }
    }

    fn check_sync(&self, request: &SyncGroupRequest) -> Result<(), ErrorCode> {
        self.group
            .validate_member(&request.member_id, request.group_instance_id.as_ref())?;
        if !self
            .group
            .is_generation_of(&request.member_id, request.generation_id)
        {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |named: &Option<ByteString>, ours: &Option<ByteString>| match (named, ours) {
            (Some(named), Some(ours)) => named != ours,
            (None, _) | (_, None) => false,
        };
        if differs(&request.protocol_type, &self.group.protocol_type)
            || differs(&request.protocol_name, &self.group.protocol_name)
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    /// The leader's assignment: stage the stable group, write its record, answer all who wait. Shares of
    /// strangers are ignored (hostile input 72), members the leader forgot get an empty one.
    fn assign(&mut self, request: &SyncGroupRequest) {
        let mut shares: BTreeMap<&ByteString, &Bytes> = BTreeMap::new();
        for share in &request.assignments {
            shares.insert(&share.member_id, &share.assignment);
        }
        let waiting: Vec<_> = self
            .group
            .members_mut()
            .filter_map(|(member_id, member)| {
                member.take_syncing().map(|waiting| (member_id.clone(), waiting))
            })
            .collect();

        let mut next = self.group.clone();
        for (member_id, member) in next.members_mut() {
            member.assignment = shares
                .get(member_id)
                .map_or_else(Bytes::new, |share| Bytes::clone(share));
        }
        next.phase = Phase::Stable;
        next.state_since = Some(self.now.wall);
        let value = next.to_record(self.now.wall);
        let Ok(record) = metadata_record(self.group_id, &value) else {
            for (_, waiting) in waiting {
                self.reply(waiting, error(ErrorCode::UnknownServerError));
            }
            return;
        };
        self.effects.records.push(record);
        for (member_id, waiting) in waiting {
            let body = assignment_response(&next, &member_id);
            self.reply(waiting, body);
            self.renew_session(&member_id);
        }
        *self.staged = Some(Staged {
            group_id: self.group_id.clone(),
            record: value,
            next,
        });
    }
}
