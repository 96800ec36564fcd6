//! Members that go: by their own word, by silence, or because they did not give up partitions in time.

use bytestring::ByteString;
use highwater_wire::ErrorCode;
use highwater_wire::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};

use super::draft::Draft;
use super::group::MemberState;
use super::heartbeat::Refusal;
use super::partitions::Partitions;
use super::records::{Change, CurrentAssignment};
use super::settle::metadata_hash;
use super::{STATIC_LEAVING_EPOCH, migrate, regexes};
use crate::effects::{Effects, Now};
use crate::shard::GroupShard;
use crate::topics::Topics;

impl GroupShard {
    /// A heartbeat with epoch -1 or -2.
    pub(crate) fn consumer_leave(
        &mut self,
        request: &ConsumerGroupHeartbeatRequest,
        now: Now,
        effects: &mut Effects,
    ) -> Result<ConsumerGroupHeartbeatResponse, Refusal> {
        let group_id = &request.group_id;
        let Some(group) = self.consumer_group(group_id) else {
            return Err(Refusal::new(
                ErrorCode::GroupIdNotFound,
                format!("group {group_id} is not a consumer group"),
            ));
        };
        let member_id = match &request.instance_id {
            None => &request.member_id,
            Some(instance_id) => match group.static_member(instance_id) {
                Some(owner) if *owner == request.member_id => owner,
                Some(owner) => {
                    return Err(Refusal::new(
                        ErrorCode::FencedInstanceId,
                        format!("instance id {instance_id} was taken over by member {owner}"),
                    ));
                }
                None => return Err(Refusal::unknown_member(&request.member_id)),
            },
        };
        let Some(member) = group.member(member_id).cloned() else {
            return Err(Refusal::unknown_member(member_id));
        };
        let member_id = member_id.clone();
        if request.member_epoch == STATIC_LEAVING_EPOCH {
            let mut draft = Draft::new(group_id, group.clone(), now.wall);
            let away = CurrentAssignment {
                epoch: STATIC_LEAVING_EPOCH,
                revoking: Partitions::default(),
                ..member.current.clone()
            };
            draft.write(Change::Current(member_id.clone(), Some(away)));
            self.finish_draft(group_id, draft, effects)?;
        } else {
            self.fence(group_id, &member_id, now, effects)?;
        }
        Ok(ConsumerGroupHeartbeatResponse {
            member_id: Some(member_id),
            member_epoch: request.member_epoch,
            ..Default::default()
        })
    }

    /// Takes a member out. The next epoch gives its partitions to others; or the group becomes classic again, if
    /// the last member of the newer protocol is gone.
    pub(crate) fn fence(
        &mut self,
        group_id: &ByteString,
        member_id: &ByteString,
        now: Now,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let Some(group) = self.consumer_group(group_id) else {
            return Ok(());
        };
        let mut draft = Draft::new(group_id, group.clone(), now.wall);
        if migrate::may_downgrade(group, Some(member_id), &self.config)
            && self.downgrade(group_id, Some(member_id), now, effects)
        {
            return Ok(());
        }
        remove(&mut draft, std::slice::from_ref(member_id), &*self.topics);
        self.finish_draft(group_id, draft, effects)
    }

    /// The session of a member ended in silence.
    pub(crate) fn expire_consumer_session(
        &mut self,
        group_id: &ByteString,
        member_id: &ByteString,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(member) = self
            .consumer_group(group_id)
            .and_then(|group| group.member(member_id))
            .cloned()
        else {
            return;
        };
        // Should the append fail, the member is fenced another time.
        self.schedule_consumer_session(group_id, member_id, &member, now);
        // Tombstones of what is on record fit into records.
        let _ = self.fence(group_id, member_id, now, effects);
    }

    /// A member had its time to give up partitions, or (classic) to join or to ask for its assignment.
    pub(crate) fn expire_rebalance(
        &mut self,
        group_id: &ByteString,
        member_id: &ByteString,
        now: Now,
        effects: &mut Effects,
    ) {
        let Some(member) = self
            .consumer_group(group_id)
            .and_then(|group| group.member(member_id))
        else {
            return;
        };
        if member.is_classic() || member.current.state == MemberState::UnrevokedPartitions {
            let _ = self.fence(group_id, member_id, now, effects);
        }
    }
}

/// Removes members and begins the next epoch without them.
pub(crate) fn remove(draft: &mut Draft<'_>, member_ids: &[ByteString], topics: &dyn Topics) {
    for member_id in member_ids {
        draft.remove_member(member_id);
    }
    regexes::drop_unused(draft);
    let hash = metadata_hash(draft.group(), topics);
    draft.bump_epoch(hash);
}
