//! Where consumer groups (KIP-848) meet the shard: their records, timers and the classic groups they come from and
//! may become.

use bytestring::ByteString;
use highwater_wire::ErrorCode;

use crate::config::GroupConfig;
use crate::consumer::draft::Draft;
use crate::consumer::group::{ConsumerGroup, ConsumerMember, MemberState};
use crate::consumer::heartbeat::Refusal;
use crate::consumer::migrate;
use crate::durable::DurableGroup;
use crate::effects::{Effects, Now};
use crate::group::{LiveGroup, SHORTEST_TIMEOUT_MS};
use crate::timers::TimerKey;
use crate::topics::Topics;

use super::turn::{Turn, metadata_record};
use super::{GroupShard, Staged, join, sync};

impl GroupShard {
    pub(crate) fn consumer_group(&self, group_id: &str) -> Option<&ConsumerGroup> {
        self.durable.group(group_id)?.consumer()
    }

    pub(crate) fn live_group(&self, group_id: &str) -> Option<&LiveGroup> {
        self.live.get(group_id)
    }

    pub(crate) fn durable_group(&self, group_id: &str) -> Option<&DurableGroup> {
        self.durable.group(group_id)
    }

    pub(crate) fn has_room_for_a_group(&self) -> bool {
        self.live.len() < self.config.max_groups
    }

    pub(crate) fn around_of_migration(&self) -> (&GroupConfig, &dyn Topics) {
        (&self.config, &*self.topics)
    }

    /// Hands the draft's records over. Members of a classic group that becomes a consumer group are told to join
    /// again: nothing is left of the rebalance they wait for.
    pub(crate) fn finish_draft(
        &mut self,
        group_id: &ByteString,
        draft: Draft<'_>,
        effects: &mut Effects,
    ) -> Result<(), Refusal> {
        let records = draft.into_records().map_err(|_| Refusal::unencodable())?;
        if records.is_empty() {
            self.seen_topics.insert(group_id.clone(), self.topics.version());
            return Ok(());
        }
        effects.records.extend(records);
        if let Some(live) = self.live.get_mut(group_id) {
            let ids: Vec<_> = live.members().keys().cloned().collect();
            for member_id in ids {
                if let Some(waiting) = live.take_joining(&member_id) {
                    let body = join::error(
                        waiting.api_version,
                        member_id.clone(),
                        ErrorCode::RebalanceInProgress,
                    );
                    effects.replies.push((waiting.token, body));
                }
                let syncing = live
                    .member_mut(&member_id)
                    .and_then(|member| member.take_syncing());
                if let Some(waiting) = syncing {
                    effects
                        .replies
                        .push((waiting.token, sync::error(ErrorCode::RebalanceInProgress)));
                }
            }
        }
        Ok(())
    }

    /// Makes the group classic, without `leaving`; `false` if that cannot be.
    pub(crate) fn downgrade(
        &mut self,
        group_id: &ByteString,
        leaving: Option<&ByteString>,
        now: Now,
        effects: &mut Effects,
    ) -> bool {
        let Some(group) = self.consumer_group(group_id).cloned() else {
            return false;
        };
        self.downgrade_from(group_id, &group, leaving, now, effects)
    }

    /// As [`GroupShard::downgrade`], of a group whose last records are among `effects`.
    pub(crate) fn downgrade_from(
        &mut self,
        group_id: &ByteString,
        group: &ConsumerGroup,
        leaving: Option<&ByteString>,
        now: Now,
        effects: &mut Effects,
    ) -> bool {
        let Some(mut next) = migrate::downgraded(group, leaving, &*self.topics, now.wall) else {
            return false;
        };
        let value = next.to_record(now.wall);
        let mut draft = Draft::new(group_id, group.clone(), now.wall);
        draft.remove_group();
        let (Ok(tombstones), Ok(record)) = (draft.into_records(), metadata_record(group_id, &value)) else {
            return false;
        };
        effects.records.extend(tombstones);
        effects.records.push(record);
        for (member_id, member) in next.members() {
            let key = TimerKey::Session {
                group: group_id.clone(),
                member: member_id.clone(),
            };
            self.timers
                .schedule(key, now.monotonic.after_ms(member.session_timeout()));
        }
        // The assignments are from another time: the members are to join and make their own.
        Turn {
            group_id,
            group: &mut next,
            timers: &mut self.timers,
            staged: &mut None,
            config: &self.config,
            now,
            effects,
        }
        .prepare_rebalance();
        self.staged = Some(Staged {
            group_id: group_id.clone(),
            record: value,
            next,
        });
        true
    }

    /// The timers of a consumer group after loading: everybody gets a fresh session.
    pub(super) fn restore_consumer_timers(&mut self, now: Now) {
        let mut members = Vec::new();
        for (group_id, durable) in self.durable.groups() {
            for (member_id, member) in durable.consumer().into_iter().flat_map(ConsumerGroup::members) {
                members.push((group_id.clone(), member_id.clone(), member.clone()));
            }
        }
        for (group_id, member_id, member) in members {
            self.schedule_consumer_timers(&group_id, &member_id, &member, now);
        }
    }

    /// The session begins anew; while the member must give up partitions, so runs its time to do that.
    pub(crate) fn schedule_consumer_timers(
        &mut self,
        group_id: &ByteString,
        member_id: &ByteString,
        member: &ConsumerMember,
        now: Now,
    ) {
        self.schedule_consumer_session(group_id, member_id, member, now);
        match member.current.state {
            MemberState::UnrevokedPartitions => {
                self.schedule_rebalance_timer(group_id, member_id, member, now)
            }
            MemberState::Stable | MemberState::UnreleasedPartitions | MemberState::Unknown => {
                self.cancel_rebalance_timer(group_id, member_id);
            }
        }
    }

    pub(crate) fn schedule_consumer_session(
        &mut self,
        group_id: &ByteString,
        member_id: &ByteString,
        member: &ConsumerMember,
        now: Now,
    ) {
        let timeout_ms = match &member.metadata.classic {
            Some(classic) => waiting_ms(classic.session_timeout_ms),
            None => self
                .config
                .session_timeout_ms(self.topics.group_settings(group_id)),
        };
        let key = TimerKey::Session {
            group: group_id.clone(),
            member: member_id.clone(),
        };
        self.timers.schedule(key, now.monotonic.after_ms(timeout_ms));
    }

    /// Runs from its first call on.
    pub(crate) fn schedule_rebalance_timer(
        &mut self,
        group_id: &ByteString,
        member_id: &ByteString,
        member: &ConsumerMember,
        now: Now,
    ) {
        let key = rebalance_key(group_id, member_id);
        if !self.timers.is_scheduled(&key) {
            let timeout_ms = waiting_ms(member.metadata.rebalance_timeout_ms);
            self.timers.schedule(key, now.monotonic.after_ms(timeout_ms));
        }
    }

    pub(crate) fn cancel_rebalance_timer(&mut self, group_id: &ByteString, member_id: &ByteString) {
        self.timers.cancel(&rebalance_key(group_id, member_id));
    }

    pub(crate) fn schedule_member_sync(
        &mut self,
        group_id: &ByteString,
        member_id: &ByteString,
        member: &ConsumerMember,
        now: Now,
    ) {
        let timeout_ms = waiting_ms(member.metadata.rebalance_timeout_ms);
        self.timers
            .schedule(sync_key(group_id, member_id), now.monotonic.after_ms(timeout_ms));
    }

    pub(crate) fn cancel_member_sync(&mut self, group_id: &ByteString, member_id: &ByteString) {
        self.timers.cancel(&sync_key(group_id, member_id));
    }

    /// A record of a consumer group was replayed: what is volatile follows. A classic group makes way for one that
    /// is written, not for one that is being deleted to make way for it.
    pub(super) fn follow_consumer(&mut self, group_id: ByteString, is_deletion: bool) {
        if self.consumer_group(&group_id).is_some() {
            if is_deletion {
                return;
            }
            let is_classic = self.live.get(&group_id).is_none_or(|live| !live.is_deserted());
            if is_classic {
                self.live.insert(group_id, LiveGroup::empty());
            }
            return;
        }
        self.seen_topics.remove(&group_id);
        self.follow_offsets(group_id);
    }
}

/// A time that a record or a request names, never shorter than a round of waiting may be.
fn waiting_ms(named_ms: i32) -> u64 {
    u64::try_from(named_ms).unwrap_or(0).max(SHORTEST_TIMEOUT_MS)
}

fn rebalance_key(group_id: &ByteString, member_id: &ByteString) -> TimerKey {
    TimerKey::Rebalance {
        group: group_id.clone(),
        member: member_id.clone(),
    }
}

fn sync_key(group_id: &ByteString, member_id: &ByteString) -> TimerKey {
    TimerKey::MemberSync {
        group: group_id.clone(),
        member: member_id.clone(),
    }
}
