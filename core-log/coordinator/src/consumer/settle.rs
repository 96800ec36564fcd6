//! What every arrival of a member leads to: new epoch if something changed, new target if the epoch is new, and a
//! step of the member towards its target.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytestring::ByteString;
use highwater_types::Uuid;

use super::assignor::{AssignorKind, PartitionCounts, Subscriber};
use super::draft::Draft;
use super::group::{ConsumerGroup, ConsumerMember};
use super::partitions::Partitions;
use super::reconcile::{Goal, reconcile};
use super::records::{Change, MemberMetadata};
use super::regexes;
use crate::topics::Topics;

/// What the rules need to know beside the group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Surroundings<'a> {
    pub(crate) topics: &'a dyn Topics,
    /// In the operator's order; the first is the default.
    pub(crate) assignors: &'a [AssignorKind],
    /// The topics may have changed since the group looked at them last.
    pub(crate) look_at_topics: bool,
}

/// Takes what a member says about itself, moves group and member on, and gives back the member.
pub(crate) fn settle(
    draft: &mut Draft<'_>,
    member_id: &ByteString,
    metadata: MemberMetadata,
    owned: Option<&Partitions>,
    around: Surroundings<'_>,
) -> Arc<ConsumerMember> {
    let before = draft.group().member(member_id).cloned();
    let is_new_subscription = before.as_ref().is_none_or(|before| {
        before.metadata.topic_names != metadata.topic_names
            || before.metadata.topic_regex != metadata.topic_regex
    });
    if before.is_none_or(|before| before.metadata != metadata) {
        draft.write(Change::Member(member_id.clone(), Some(metadata)));
    }
    if is_new_subscription || around.look_at_topics {
        regexes::refresh(draft, around.topics);
        let hash = metadata_hash(draft.group(), around.topics);
        if is_new_subscription || hash != draft.group().metadata_hash {
            draft.bump_epoch(hash);
        }
    }
    if draft.group().epoch > draft.group().target_epoch {
        retarget(draft, around);
    }
    step(draft, member_id, owned)
}

/// Moves a member towards its target.
fn step(draft: &mut Draft<'_>, member_id: &ByteString, owned: Option<&Partitions>) -> Arc<ConsumerMember> {
    let group = draft.group();
    let member = group.member(member_id).cloned().unwrap_or_default();
    let target = group.target(member_id);
    let goal = Goal {
        epoch: group.target_epoch,
        target: &target,
        owned,
    };
    let next = reconcile(&member.current, &goal, || group.held_by_others(member_id));
    if next != member.current {
        draft.write(Change::Current(member_id.clone(), Some(next)));
    }
    draft.group().member(member_id).cloned().unwrap_or_default()
}

/// Computes targets for the current epoch and writes those that changed.
fn retarget(draft: &mut Draft<'_>, around: Surroundings<'_>) {
    let group = draft.group();
    let counts: PartitionCounts = group
        .subscribed_topics()
        .into_iter()
        .filter_map(|name| around.topics.by_name(name))
        .map(|facts| (facts.id, facts.partition_count))
        .collect();
    // Members mostly read the same; one set then serves all of them.
    let mut shared: BTreeMap<BTreeSet<&ByteString>, Arc<BTreeSet<Uuid>>> = BTreeMap::new();
    let subscribers: Vec<Subscriber> = group
        .members()
        .map(|(member_id, member)| {
            let names: BTreeSet<&ByteString> = group.topics_of(member).collect();
            let topics = shared.entry(names).or_insert_with_key(|names| {
                let ids = names.iter().filter_map(|name| around.topics.by_name(name));
                Arc::new(ids.map(|facts| facts.id).collect())
            });
            Subscriber {
                member_id: member_id.clone(),
                instance_id: member.metadata.instance_id.clone(),
                topics: Arc::clone(topics),
                former: group.target(member_id),
            }
        })
        .collect();
    let targets = assignor_of(group, around.assignors).assign(&subscribers, &counts);
    let epoch = group.epoch;
    for (subscriber, target) in subscribers.into_iter().zip(targets) {
        let is_known = draft.group().targets.contains_key(&subscriber.member_id);
        if !is_known || target != *subscriber.former {
            draft.write(Change::Target(subscriber.member_id, Some(target)));
        }
    }
    draft.write(Change::TargetEpoch(Some(epoch)));
}

/// The assignor most members ask for, else the operator's first.
pub(crate) fn assignor_of(group: &ConsumerGroup, assignors: &[AssignorKind]) -> AssignorKind {
    let votes = |kind: AssignorKind| {
        let asking = group.members().filter(|(_, member)| {
            let asked = member.metadata.server_assignor.as_deref();
            asked.and_then(AssignorKind::from_name) == Some(kind)
        });
        asking.count()
    };
    let mut best = (assignors.first().copied().unwrap_or(AssignorKind::Uniform), 0);
    for kind in assignors {
        let count = votes(*kind);
        if count > best.1 {
            best = (*kind, count);
        }
    }
    best.0
}

/// Stands for the topics that the group reads: FNV-1a over names, ids and numbers of partitions; 0 without topics.
pub(crate) fn metadata_hash(group: &ConsumerGroup, topics: &dyn Topics) -> i64 {
    let mut hash: Option<u64> = None;
    for name in group.subscribed_topics() {
        let Some(facts) = topics.by_name(name) else {
            continue;
        };
        let bytes = name
            .bytes()
            .chain([0])
            .chain(*facts.id.as_bytes())
            .chain(facts.partition_count.to_be_bytes());
        let start = hash.unwrap_or(0xcbf2_9ce4_8422_2325);
        hash = Some(bytes.fold(start, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        }));
    }
    hash.map_or(0, |hash| i64::from_be_bytes(hash.to_be_bytes()))
}
