//! What every rule of a group needs at hand, and the steps of a rebalance that all requests share.
//!
//! # Invariants
//! - Whoever waits is answered before its place is given up (GRP-2).
//! - A phase has its timer: Join while preparing, Sync while members owe a SyncGroup.

use bytestring::ByteString;
use highwater_wire::{ErrorCode, ResponseBody};

use crate::config::GroupConfig;
use crate::effects::{CoordinatorRecord, Effects, Now};
use crate::group::{InitialDelay, LiveGroup, Member, Phase, Waiting};
use crate::records::{
    EncodeError, GroupMetadataKey, GroupMetadataValue, GroupMetadataValueVersion, RecordKey,
};
use crate::timers::{TimerKey, Timers};

use super::{Staged, join, sync};

/// One group's turn to act.
pub(super) struct Turn<'a> {
    pub(super) group_id: &'a ByteString,
    pub(super) group: &'a mut LiveGroup,
    pub(super) timers: &'a mut Timers,
    pub(super) staged: &'a mut Option<Staged>,
    pub(super) config: &'a GroupConfig,
    pub(super) now: Now,
    pub(super) effects: &'a mut Effects,
}

/// The record that says what `value` says.
pub(super) fn metadata_record(
    group_id: &ByteString,
    value: &GroupMetadataValue,
) -> Result<CoordinatorRecord, EncodeError> {
    let key = RecordKey::GroupMetadata(GroupMetadataKey {
        group: group_id.clone(),
    });
    Ok(CoordinatorRecord {
        key: key.encode()?,
        value: Some(value.encode(GroupMetadataValueVersion::V3)?),
    })
}

impl Turn<'_> {
    pub(super) fn reply(&mut self, waiting: Waiting, body: ResponseBody) {
        self.effects.replies.push((waiting.token, body));
    }

    pub(super) fn reply_join_error(&mut self, waiting: Waiting, member_id: ByteString, error: ErrorCode) {
        self.reply(waiting, join::error(waiting.api_version, member_id, error));
    }

    /// Answers whatever a member that is gone was waiting for.
    pub(super) fn dismiss(&mut self, member: Member, error: ErrorCode) {
        let (joining, syncing) = member.into_waiting();
        if let Some(waiting) = joining {
            self.reply_join_error(waiting, ByteString::new(), error);
        }
        if let Some(waiting) = syncing {
            self.reply(waiting, sync::error(error));
        }
    }

    fn join_key(&self) -> TimerKey {
        TimerKey::Join {
            group: self.group_id.clone(),
        }
    }

    fn sync_key(&self) -> TimerKey {
        TimerKey::Sync {
            group: self.group_id.clone(),
        }
    }

    fn session_key(&self, member_id: &ByteString) -> TimerKey {
        TimerKey::Session {
            group: self.group_id.clone(),
            member: member_id.clone(),
        }
    }

    pub(super) fn schedule_session(&mut self, member_id: &ByteString, timeout_ms: u64) {
        let deadline = self.now.monotonic.after_ms(timeout_ms);
        self.timers.schedule(self.session_key(member_id), deadline);
    }

    pub(super) fn cancel_session(&mut self, member_id: &ByteString) {
        self.timers.cancel(&self.session_key(member_id));
    }

    /// A sign of life: the session begins anew.
    pub(super) fn renew_session(&mut self, member_id: &ByteString) {
        if let Some(timeout_ms) = self.group.member(member_id).map(Member::session_timeout) {
            self.schedule_session(member_id, timeout_ms);
        }
    }

    /// Stops waiting for SyncGroup requests if none is owed any more.
    pub(super) fn settle_sync_timer(&mut self) {
        if !self.group.owes_sync() {
            self.timers.cancel(&self.sync_key());
        }
    }

    /// Starts a rebalance, or moves the one under way along.
    pub(super) fn rebalance(&mut self) {
        match self.group.phase {
            Phase::Empty | Phase::CompletingRebalance | Phase::Stable => self.prepare_rebalance(),
            Phase::PreparingRebalance { .. } => self.complete_join_if_all_are_here(),
        }
    }

    /// Enters PreparingRebalance. The first members of an empty group wait for others (semantic 59).
    pub(super) fn prepare_rebalance(&mut self) {
        let was_empty = match self.group.phase {
            Phase::Empty => true,
            Phase::CompletingRebalance => {
                self.send_back_syncing_members();
                false
            }
            Phase::Stable | Phase::PreparingRebalance { .. } => false,
        };
        for (_, member) in self.group.members_mut() {
            member.owes_sync = false;
        }
        self.settle_sync_timer();

        self.group.state_since = Some(self.now.wall);
        let delay_ms = self.config.initial_rebalance_delay_ms;
        if was_empty && delay_ms > 0 {
            let remaining_ms = self.group.rebalance_timeout_ms().saturating_sub(delay_ms);
            self.wait_for_more_members(InitialDelay {
                delay_ms,
                remaining_ms,
                member_arrived: false,
            });
        } else {
            self.group.phase = Phase::PreparingRebalance { initial: None };
            if self.group.has_everyone_joined() {
                self.complete_join();
            } else {
                self.schedule_join_deadline();
            }
        }
    }

    fn wait_for_more_members(&mut self, delay: InitialDelay) {
        self.group.phase = Phase::PreparingRebalance { initial: Some(delay) };
        let deadline = self.now.monotonic.after_ms(delay.delay_ms);
        self.timers.schedule(self.join_key(), deadline);
    }

    fn schedule_join_deadline(&mut self) {
        let deadline = self.now.monotonic.after_ms(self.group.rebalance_timeout_ms());
        self.timers.schedule(self.join_key(), deadline);
    }

    /// The leader's assignment will not come for this generation: followers must join again (semantic 62).
    fn send_back_syncing_members(&mut self) {
        let syncing: Vec<_> = self
            .group
            .members_mut()
            .filter_map(|(member_id, member)| {
                member.assignment.clear();
                member.take_syncing().map(|waiting| (member_id.clone(), waiting))
            })
            .collect();
        for (member_id, waiting) in syncing {
            self.reply(waiting, sync::error(ErrorCode::RebalanceInProgress));
            self.renew_session(&member_id);
        }
    }

    /// Ends the join phase early when there is nobody left to wait for; the initial delay runs its course.
    pub(super) fn complete_join_if_all_are_here(&mut self) {
        match self.group.phase {
            Phase::PreparingRebalance { initial: None } if self.group.has_everyone_joined() => {
                self.complete_join();
            }
            Phase::PreparingRebalance { .. } | Phase::Empty | Phase::CompletingRebalance | Phase::Stable => {}
        }
    }

    /// The Join timer fired: extend the initial delay if someone arrived during it, else end the join phase.
    pub(super) fn expire_join(&mut self) {
        match self.group.phase {
            Phase::PreparingRebalance { initial: Some(delay) }
                if delay.member_arrived && delay.remaining_ms > 0 =>
            {
                let next_ms = self.config.initial_rebalance_delay_ms.min(delay.remaining_ms);
                self.wait_for_more_members(InitialDelay {
                    delay_ms: next_ms,
                    remaining_ms: delay.remaining_ms.saturating_sub(delay.delay_ms),
                    member_arrived: false,
                });
            }
            Phase::PreparingRebalance { .. } => self.complete_join(),
            Phase::Empty | Phase::CompletingRebalance | Phase::Stable => {}
        }
    }

    /// Ends the join phase: members that did not come are dropped, not the group (semantic 58). Static members
    /// keep their place until their session ends.
    fn complete_join(&mut self) {
        self.timers.cancel(&self.join_key());
        let absent: Vec<_> = self
            .group
            .members()
            .iter()
            .filter(|(_, member)| !member.is_joining() && member.instance_id.is_none())
            .map(|(member_id, _)| member_id.clone())
            .collect();
        for member_id in absent {
            self.cancel_session(&member_id);
            if let Some(member) = self.group.remove(&member_id) {
                self.dismiss(member, ErrorCode::UnknownMemberId);
            }
        }

        if !self.group.elect_joined_leader() && !self.group.members().is_empty() {
            // Only static members, and none of them is here: give them another round.
            self.group.phase = Phase::PreparingRebalance { initial: None };
            self.schedule_join_deadline();
            return;
        }
        self.group.begin_generation(self.now.wall);
        if self.group.members().is_empty() {
            self.write_empty_group();
        } else {
            self.announce_generation();
        }
    }

    /// Tells every member the new generation, and the leader who the members are (semantic 60).
    fn announce_generation(&mut self) {
        let ids: Vec<_> = self.group.members().keys().cloned().collect();
        for member_id in ids {
            if let Some(waiting) = self.group.take_joining(&member_id) {
                let body = join::current_generation(self.group, &member_id, waiting.api_version);
                self.reply(waiting, body);
            }
            if let Some(member) = self.group.member_mut(&member_id) {
                member.is_new = false;
                member.owes_sync = true;
            }
            self.renew_session(&member_id);
        }
        let deadline = self.now.monotonic.after_ms(self.group.rebalance_timeout_ms());
        self.timers.schedule(self.sync_key(), deadline);
    }

    /// The offsets of the group begin to age from this record on (semantic 68).
    fn write_empty_group(&mut self) {
        let value = self.group.to_record(self.now.wall);
        // The protocol type was in a record or a bounded request before; if it did not fit, the group goes on
        // without the record, as if the append had failed.
        if let Ok(record) = metadata_record(self.group_id, &value) {
            self.effects.records.push(record);
        }
    }

    /// The Sync timer fired: members that joined but never asked for their assignment are dropped.
    pub(super) fn expire_sync(&mut self) {
        match self.group.phase {
            Phase::Empty | Phase::PreparingRebalance { .. } => return,
            Phase::CompletingRebalance | Phase::Stable => {}
        }
        let late: Vec<_> = self
            .group
            .members()
            .iter()
            .filter(|(_, member)| member.owes_sync)
            .map(|(member_id, _)| member_id.clone())
            .collect();
        if late.is_empty() {
            return;
        }
        for member_id in late {
            self.cancel_session(&member_id);
            if let Some(member) = self.group.remove(&member_id) {
                self.dismiss(member, ErrorCode::UnknownMemberId);
            }
        }
        self.prepare_rebalance();
    }
}
