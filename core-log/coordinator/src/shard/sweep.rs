//! Expiry of committed offsets, and of groups that have nothing left (KIP-211, semantic 68).
//!
//! | group | an offset expires |
//! |---|---|
//! | had members, now empty | 7 days after the group became empty |
//! | never had members | 7 days after the commit |
//! | stable consumers | 7 days after the commit, if no member reads the topic |
//! | consumer group (KIP-848) | 7 days after the commit, if no member reads the topic |
//! | any other | never |
//!
//! A commit that named its own retention (OffsetCommit v2-4) expires by that, under the same conditions.

use bytestring::ByteString;
use highwater_types::Timestamp;

use crate::consumer::draft::Draft;
use crate::durable::{CommittedOffset, DurableGroup};
use crate::effects::{CoordinatorRecord, Effects, Now};
use crate::group::{LiveGroup, Phase};
use crate::limits::MAX_RECORDS_PER_SWEEP;
use crate::timers::TimerKey;

use super::{GroupShard, admin, offsets};

/// From when on the retention of a group's offsets counts.
#[derive(Debug, Clone, Copy)]
enum Age {
    SinceEmpty(Timestamp),
    SinceCommit,
}

impl GroupShard {
    /// Writes tombstones for what has expired, as many as fit into one call, and sets the next sweep.
    pub(super) fn sweep(&mut self, now: Now, effects: &mut Effects) {
        for (group_id, durable) in self.durable.groups() {
            if effects.records.len() >= MAX_RECORDS_PER_SWEEP {
                break;
            }
            let Some(live) = self.live.get(group_id) else {
                continue;
            };
            let records = expired_records(
                group_id,
                durable,
                live,
                self.config.offsets_retention_ms,
                now.wall,
            );
            effects
                .records
                .extend(records.take(MAX_RECORDS_PER_SWEEP - effects.records.len()));
        }
        let is_done = effects.records.len() < MAX_RECORDS_PER_SWEEP;
        let delay_ms = if is_done {
            self.config.offsets_retention_check_interval_ms
        } else {
            1
        };
        self.timers
            .schedule(TimerKey::OffsetSweep, now.monotonic.after_ms(delay_ms));
    }
}

impl GroupShard {
    /// Tombstones for the offsets of topics that are gone, as many as fit into one call: call again until there
    /// are none. A topic made anew under the same name must not begin where the old one was left.
    pub fn forget_topics(&mut self, is_gone: impl Fn(&str) -> bool) -> Effects {
        self.staged = None;
        let mut effects = Effects::default();
        for (group_id, durable) in self.durable.groups() {
            let topics = durable.offsets().iter().filter(|(topic, _)| is_gone(topic));
            let keys = topics.flat_map(|(topic, partitions)| partitions.keys().map(move |key| (topic, *key)));
            // What is on record fits into records.
            let records = keys.flat_map(|(topic, partition)| offsets::tombstone(group_id, topic, partition));
            effects
                .records
                .extend(records.take(MAX_RECORDS_PER_SWEEP - effects.records.len()));
        }
        effects
    }
}

/// Tombstones of one group: expired offsets, then the group itself if nothing of it remains.
fn expired_records<'a>(
    group_id: &'a ByteString,
    durable: &'a DurableGroup,
    live: &'a LiveGroup,
    retention_ms: i64,
    now: Timestamp,
) -> impl Iterator<Item = CoordinatorRecord> + 'a {
    let consumer = durable.consumer();
    let age = match consumer {
        Some(_) => Some(Age::SinceCommit),
        None => age_rule(live),
    };
    let is_subscribed = move |topic: &str| match consumer {
        Some(consumer) => consumer.is_subscribed(topic),
        None => live.is_subscribed(topic),
    };
    let is_expired = move |committed: &CommittedOffset| {
        age.is_some_and(|age| match (committed.expire_timestamp, age) {
            (Some(expiry), _) => now >= expiry,
            (None, Age::SinceEmpty(since)) => elapsed_ms(since, now) >= retention_ms,
            (None, Age::SinceCommit) => elapsed_ms(committed.commit_timestamp, now) >= retention_ms,
        })
    };
    let all = durable
        .offsets()
        .iter()
        .flat_map(|(topic, partitions)| partitions.iter().map(move |(key, value)| (topic, *key, value)));
    let expired = all.filter(move |(topic, _, committed)| !is_subscribed(topic) && is_expired(committed));
    // Two passes over the offsets, so that the group's own tombstone comes only when all of them go.
    let expired_count = expired.clone().count();
    let is_vacant = live.is_deserted() && expired_count == durable.offset_count();
    let group_tombstone = (is_vacant && durable.metadata().is_some()).then(|| admin::tombstone(group_id));
    let consumer_tombstones = consumer
        .filter(|consumer| is_vacant && consumer.member_count() == 0)
        .map(|consumer| {
            let mut draft = Draft::new(group_id, consumer.clone(), now);
            draft.remove_group();
            draft.into_records().unwrap_or_default()
        });
    // What is on record fits into records.
    expired
        .flat_map(move |(topic, partition, _)| offsets::tombstone(group_id, topic, partition))
        .chain(group_tombstone.into_iter().flatten())
        .chain(consumer_tombstones.into_iter().flatten())
}

fn age_rule(live: &LiveGroup) -> Option<Age> {
    match live.phase {
        Phase::Empty if live.protocol_type.is_some() => {
            Some(live.state_since.map_or(Age::SinceCommit, Age::SinceEmpty))
        }
        Phase::Empty => Some(Age::SinceCommit),
        Phase::Stable => live.subscribed_topics().map(|_| Age::SinceCommit),
        Phase::PreparingRebalance { .. } | Phase::CompletingRebalance => None,
    }
}

fn elapsed_ms(since: Timestamp, now: Timestamp) -> i64 {
    now.get().saturating_sub(since.get())
}
