//! [`GroupShard`]: the groups of one partition of `__consumer_offsets`.
//!
//! This file holds the door: routing of requests to groups, replay, loading, timers. What happens inside one
//! group is a [`turn::Turn`]. Durable state changes in [`GroupShard::replay`] only; a transition that must not
//! be seen before its record is written (a new assignment, a static member's takeover) is *staged* by `handle`
//! and installed when the record comes back, so that a failed append leaves the group as it was.
//!
//! # Invariants
//! - Before [`GroupShard::loaded`] every request is answered with COORDINATOR_LOAD_IN_PROGRESS (semantic 67),
//!   heartbeats with success, as Kafka does.
//! - Every group of the durable state has a live half while the shard is active. A live half without a durable
//!   one has members, or ids that were handed out.
//! - At most one transition is staged, and only until the next call.

mod admin;
mod join;
mod membership;
mod modern;
mod offsets;
mod sweep;
mod sync;
mod turn;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytestring::ByteString;
use highwater_wire::messages::{HeartbeatResponse, LeaveGroupResponse};
use highwater_wire::{ErrorCode, ResponseBody};

use crate::config::GroupConfig;
use crate::consumer;
use crate::consumer::group::ConsumerGroup;
use crate::durable::{DurableState, Replayed};
use crate::effects::{ClientContext, Effects, GroupRequest, Monotonic, Now, RequestToken};
use crate::group::LiveGroup;
use crate::limits;
use crate::records::{GroupMetadataValue, ReplayError};
use crate::timers::{TimerKey, Timers};
use crate::topics::{self, Topics};

use self::turn::Turn;

pub(crate) use self::admin::{GROUP_OPERATIONS, tombstone as group_tombstone};
pub(crate) use self::join::error as join_error;
pub(crate) use self::sync::error as sync_error;

/// The coordinator of all groups of one partition. See the crate's page for the host's part.
#[derive(Debug)]
pub struct GroupShard {
    pub(crate) config: GroupConfig,
    stage: Stage,
    durable: DurableState,
    live: BTreeMap<ByteString, LiveGroup>,
    timers: Timers,
    staged: Option<Staged>,
    /// The topics there are, for consumer groups.
    pub(crate) topics: Arc<dyn Topics>,
    /// Version of the topics that a consumer group's current epoch is known to agree with.
    pub(crate) seen_topics: BTreeMap<ByteString, u64>,
}

/// Whether the shard may answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Loading,
    Active,
}

/// The live group that a record stands for, waiting for that record.
#[derive(Debug)]
struct Staged {
    group_id: ByteString,
    record: GroupMetadataValue,
    next: LiveGroup,
}

impl GroupShard {
    /// A shard without groups that waits for its partition to be replayed.
    pub fn new(config: GroupConfig) -> Self {
        Self {
            config,
            stage: Stage::Loading,
            durable: DurableState::default(),
            live: BTreeMap::new(),
            timers: Timers::default(),
            staged: None,
            topics: topics::none(),
            seen_topics: BTreeMap::new(),
        }
    }

    /// The version of the topics this shard works with; see [`Topics::version`].
    pub fn topics_version(&self) -> u64 {
        self.topics.version()
    }

    /// Hands in the topics there are now. Consumer groups react at their members' next heartbeats.
    pub fn set_topics(&mut self, topics: Arc<dyn Topics>) {
        self.topics = topics;
    }

    /// What the replayed records say.
    pub fn durable(&self) -> &DurableState {
        &self.durable
    }

    /// Handles a request. The reply may be among these effects or come out of a later call.
    pub fn handle(
        &mut self,
        token: RequestToken,
        client: &ClientContext,
        request: GroupRequest,
        now: Now,
    ) -> Effects {
        self.staged = None;
        if self.stage == Stage::Loading {
            return Effects::reply(
                token,
                error_response(client, request, ErrorCode::CoordinatorLoadInProgress),
            );
        }
        match request {
            GroupRequest::Join(request) => self.join(token, client, request, now),
            GroupRequest::Sync(request) => self.sync(token, client, request, now),
            GroupRequest::Heartbeat(request) => self.heartbeat(token, request, now),
            GroupRequest::Leave(request) => self.leave(token, client, request, now),
            GroupRequest::OffsetCommit(request) => self.commit_offsets(token, client, request, now),
            GroupRequest::OffsetFetch(request) => self.fetch_offsets(token, client, request),
            GroupRequest::Describe(request) => self.describe(token, client, request),
            GroupRequest::List(request) => self.list(token, request),
            GroupRequest::Delete(request) => self.delete(token, request, now),
            GroupRequest::OffsetDelete(request) => self.delete_offsets(token, request),
            GroupRequest::ConsumerHeartbeat(request) => self.consumer_heartbeat(token, client, request, now),
            GroupRequest::ConsumerDescribe(request) => self.describe_consumer_groups(token, request),
        }
    }

    /// When [`GroupShard::handle_timeout`] must be called next.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        self.timers.next().map(Monotonic::get)
    }

    /// Fires due timers up to and including the first one that has effects: what concerns different groups
    /// never shares the fate of one append. Call again while a deadline is due.
    pub fn handle_timeout(&mut self, now: Now) -> Effects {
        self.staged = None;
        let mut effects = Effects::default();
        while effects.records.is_empty() && effects.replies.is_empty() {
            let Some(key) = self.timers.pop_due(now.monotonic) else {
                break;
            };
            match key {
                TimerKey::OffsetSweep => self.sweep(now, &mut effects),
                TimerKey::Session { group, member } if self.consumer_group(&group).is_some() => {
                    self.expire_consumer_session(&group, &member, now, &mut effects);
                }
                TimerKey::Rebalance { group, member } | TimerKey::MemberSync { group, member } => {
                    self.expire_rebalance(&group, &member, now, &mut effects);
                }
                TimerKey::Session { group, member } => {
                    self.turn(&group, now, &mut effects, |turn| turn.expire_session(&member));
                }
                TimerKey::Join { group } => self.turn(&group, now, &mut effects, |turn| turn.expire_join()),
                TimerKey::Sync { group } => self.turn(&group, now, &mut effects, |turn| turn.expire_sync()),
            }
        }
        effects
    }

    /// Takes back a record, from the log at start or just appended. The only way durable state changes.
    ///
    /// # Errors
    /// The record is not one of ours or is damaged; nothing has changed, the host goes on with the next one.
    pub fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), ReplayError> {
        let replayed = self.durable.replay(key, value)?;
        match (self.stage, replayed) {
            (Stage::Loading, _) => {}
            (Stage::Active, Replayed::Offset { group }) => self.follow_offsets(group),
            (Stage::Active, Replayed::Metadata { group }) => self.follow_metadata(group),
            (Stage::Active, Replayed::Consumer { group, is_deletion }) => {
                self.follow_consumer(group, is_deletion);
            }
        }
        Ok(())
    }

    /// The partition was replayed to its end: serve. Members of loaded groups get a fresh session each and need
    /// not join again (semantic 67).
    pub fn loaded(&mut self, now: Now) {
        self.stage = Stage::Active;
        self.live.clear();
        self.timers.clear();
        for (group_id, durable) in self.durable.groups() {
            let group = match (durable.consumer(), durable.metadata()) {
                (None, Some(metadata)) => LiveGroup::from_record(metadata),
                (Some(_), _) | (None, None) => LiveGroup::empty(),
            };
            for (member_id, member) in group.members() {
                let key = TimerKey::Session {
                    group: group_id.clone(),
                    member: member_id.clone(),
                };
                self.timers
                    .schedule(key, now.monotonic.after_ms(member.session_timeout()));
            }
            self.live.insert(group_id.clone(), group);
        }
        self.restore_consumer_timers(now);
        let interval_ms = self.config.offsets_retention_check_interval_ms;
        self.timers
            .schedule(TimerKey::OffsetSweep, now.monotonic.after_ms(interval_ms));
    }

    /// The partition moves to another node: everybody who waits is sent there. The shard answers nothing more
    /// until it is loaded again.
    pub fn unload(&mut self) -> Vec<(RequestToken, ResponseBody)> {
        let mut replies = Vec::new();
        for (_, mut group) in std::mem::take(&mut self.live) {
            let ids: Vec<_> = group.members().keys().cloned().collect();
            for member_id in ids {
                let Some((joining, syncing)) =
                    group.remove(&member_id).map(crate::group::Member::into_waiting)
                else {
                    continue;
                };
                if let Some(waiting) = joining {
                    let body = join::error(waiting.api_version, member_id, ErrorCode::NotCoordinator);
                    replies.push((waiting.token, body));
                }
                if let Some(waiting) = syncing {
                    replies.push((waiting.token, sync::error(ErrorCode::NotCoordinator)));
                }
            }
        }
        self.stage = Stage::Loading;
        self.durable = DurableState::default();
        self.timers.clear();
        self.staged = None;
        self.seen_topics.clear();
        replies
    }

    /// Lets one group act, and forgets it afterwards if nothing of it is left.
    fn turn(
        &mut self,
        group_id: &ByteString,
        now: Now,
        effects: &mut Effects,
        act: impl FnOnce(&mut Turn<'_>),
    ) {
        let Some(group) = self.live.get_mut(group_id) else {
            return;
        };
        act(&mut Turn {
            group_id,
            group,
            timers: &mut self.timers,
            staged: &mut self.staged,
            config: &self.config,
            now,
            effects,
        });
        if effects.records.is_empty() {
            self.forget_if_deserted(group_id);
        }
    }

    fn forget_if_deserted(&mut self, group_id: &ByteString) {
        let deserted = self.live.get(group_id).is_some_and(LiveGroup::is_deserted);
        if deserted && self.durable.group(group_id).is_none() {
            self.live.remove(group_id);
        }
    }

    fn follow_offsets(&mut self, group_id: ByteString) {
        if self.durable.group(&group_id).is_some() {
            self.live.entry(group_id).or_insert_with(LiveGroup::empty);
        } else {
            self.forget_if_deserted(&group_id);
        }
    }

    fn follow_metadata(&mut self, group_id: ByteString) {
        let durable = self.durable.group(&group_id);
        let Some(record) = durable.and_then(|durable| durable.metadata()) else {
            // Deleted; offsets may outlive the group's metadata.
            match durable {
                Some(_) => self.live.insert(group_id, LiveGroup::empty()),
                None => self.live.remove(&group_id),
            };
            return;
        };
        let staged = self
            .staged
            .take_if(|staged| staged.group_id == group_id && staged.record == *record);
        if let Some(staged) = staged {
            self.live.insert(group_id, staged.next);
            return;
        }
        // A group that became empty is ahead of its record already. Anything else was not written by this
        // shard's own calls; the record is right then.
        let is_ours = self
            .live
            .get(&group_id)
            .is_some_and(|live| live.generation == record.generation);
        if !is_ours {
            self.live.insert(group_id, LiveGroup::from_record(record));
        }
    }

    #[cfg(test)]
    pub(crate) fn live_groups(&self) -> &BTreeMap<ByteString, LiveGroup> {
        &self.live
    }

    /// What the subscriptions of all groups cost in memory.
    pub(crate) fn subscription_bytes(&self) -> usize {
        let classic: usize = self.live.values().map(LiveGroup::subscription_bytes).sum();
        let groups = self.durable.groups().values();
        let modern = groups.filter_map(|group| group.consumer().map(ConsumerGroup::subscription_bytes));
        classic + modern.sum::<usize>()
    }
}

/// Whether a string from a client fits into a record.
pub(crate) fn fits(string: &ByteString) -> bool {
    string.len() <= limits::MAX_STRING_BYTES
}

/// The answer to a request that cannot be looked at.
fn error_response(client: &ClientContext, request: GroupRequest, error: ErrorCode) -> ResponseBody {
    match request {
        GroupRequest::Join(r) => join::error(client.api_version, r.member_id, error),
        GroupRequest::Sync(_) => sync::error(error),
        // The member is not to blame and has no reason to join again.
        GroupRequest::Heartbeat(_) => ResponseBody::Heartbeat(HeartbeatResponse::default()),
        GroupRequest::Leave(_) => ResponseBody::LeaveGroup(LeaveGroupResponse {
            error_code: error.code(),
            ..Default::default()
        }),
        GroupRequest::OffsetCommit(r) => offsets::commit_error(&r, error),
        GroupRequest::OffsetFetch(r) => offsets::fetch_error(client.api_version, r, error),
        GroupRequest::Describe(r) => admin::describe_error(r, error),
        GroupRequest::List(_) => admin::list_error(error),
        GroupRequest::Delete(r) => admin::delete_error(r, error),
        GroupRequest::OffsetDelete(_) => offsets::delete_error(error),
        GroupRequest::ConsumerHeartbeat(_) => consumer::heartbeat::error(error),
        GroupRequest::ConsumerDescribe(r) => consumer::describe::error(r, error),
    }
}
