//! A consumer group and its members, as their records say.
//!
//! Refuses every change that is not a [`Change`](super::records::Change).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use highwater_types::Uuid;

use super::partitions::Partitions;
use super::records::{Change, CurrentAssignment, MemberMetadata};
use super::{LEAVING_EPOCH, STATIC_LEAVING_EPOCH};

/// Where a member stands on its way to its target assignment. The numbers are those of the records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum MemberState {
    /// Owns what it was told, at its epoch.
    #[default]
    Stable,
    /// Must give up partitions before it may go on to the next epoch.
    UnrevokedPartitions,
    /// Has all of its target that is free; the rest is still with others.
    UnreleasedPartitions,
    /// Written by a newer coordinator: the member must start over.
    Unknown,
}

/// What a member of the classic protocol keeps on record beside the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClassicTerms {
    pub(crate) session_timeout_ms: i32,
    /// Assignors the member offers, with its metadata for each, in its order of preference.
    pub(crate) protocols: Vec<(ByteString, Bytes)>,
}

/// A member of a consumer group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ConsumerMember {
    pub(crate) metadata: MemberMetadata,
    pub(crate) current: CurrentAssignment,
}

impl ConsumerMember {
    /// Whether the member speaks JoinGroup and SyncGroup.
    pub(crate) fn is_classic(&self) -> bool {
        self.metadata.classic.is_some()
    }

    /// A static member that said it would be back.
    pub(crate) fn is_away(&self) -> bool {
        self.current.epoch == STATIC_LEAVING_EPOCH
    }

    pub(crate) fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.current.state == MemberState::Stable && self.current.epoch == epoch
    }

    /// What the member's subscription costs in memory.
    pub(crate) fn subscription_bytes(&self) -> usize {
        self.metadata.subscription_bytes()
    }
}

/// A consumer group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumerGroup {
    /// Grows with every change of members, subscriptions or topics.
    pub(crate) epoch: i32,
    /// Stands for the topics the current epoch was made with.
    pub(crate) metadata_hash: i64,
    /// The group epoch the targets were computed for.
    pub(crate) target_epoch: i32,
    pub(crate) members: BTreeMap<ByteString, Arc<ConsumerMember>>,
    pub(crate) targets: BTreeMap<ByteString, Arc<Partitions>>,
    /// Topics that match a subscribed regular expression, as of the last look.
    pub(crate) regexes: BTreeMap<ByteString, BTreeSet<ByteString>>,
    static_members: BTreeMap<ByteString, ByteString>,
    subscription_bytes: usize,
}

impl ConsumerGroup {
    pub(crate) fn members(&self) -> impl ExactSizeIterator<Item = (&ByteString, &Arc<ConsumerMember>)> {
        self.members.iter()
    }

    /// How many members the group has.
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    pub(crate) fn member(&self, member_id: &str) -> Option<&Arc<ConsumerMember>> {
        self.members.get(member_id)
    }

    pub(crate) fn static_member(&self, instance_id: &str) -> Option<&ByteString> {
        self.static_members.get(instance_id)
    }

    pub(crate) fn target(&self, member_id: &str) -> Arc<Partitions> {
        self.targets.get(member_id).cloned().unwrap_or_default()
    }

    pub(crate) fn subscription_bytes(&self) -> usize {
        self.subscription_bytes
    }

    /// Kafka's name of the group's state.
    pub fn state_name(&self) -> &'static str {
        if self.members.is_empty() {
            "Empty"
        } else if self.epoch > self.target_epoch {
            "Assigning"
        } else if self
            .members
            .values()
            .all(|member| member.is_reconciled_to(self.target_epoch))
        {
            "Stable"
        } else {
            "Reconciling"
        }
    }

    /// The topics a member reads: those it names and those its expression matches.
    pub(crate) fn topics_of<'a>(
        &'a self,
        member: &'a ConsumerMember,
    ) -> impl Iterator<Item = &'a ByteString> {
        let matched = member
            .metadata
            .topic_regex
            .as_ref()
            .and_then(|regex| self.regexes.get(regex));
        member
            .metadata
            .topic_names
            .iter()
            .chain(matched.into_iter().flatten())
    }

    /// The topics any member reads.
    pub(crate) fn subscribed_topics(&self) -> BTreeSet<&ByteString> {
        self.members
            .values()
            .flat_map(|member| self.topics_of(member))
            .collect()
    }

    pub(crate) fn is_subscribed(&self, topic: &str) -> bool {
        self.members
            .values()
            .any(|member| self.topics_of(member).any(|name| name == topic))
    }

    pub(crate) fn regexes_in_use(&self) -> BTreeSet<&ByteString> {
        self.members
            .values()
            .filter_map(|member| member.metadata.topic_regex.as_ref())
            .collect()
    }

    /// Partitions that some member other than `except` still has or must still give up.
    pub(crate) fn held_by_others(&self, except: &str) -> Partitions {
        let others = self.members.iter().filter(|(member_id, _)| *member_id != except);
        others
            .flat_map(|(_, member)| {
                member
                    .current
                    .assigned
                    .iter()
                    .chain(member.current.revoking.iter())
            })
            .collect()
    }

    /// Whether all members but `except` speak the classic protocol, and there is one.
    pub(crate) fn is_classic_without(&self, except: Option<&str>) -> bool {
        let mut rest = self
            .members
            .iter()
            .filter(|(member_id, _)| Some(member_id.as_ref() as &str) != except)
            .peekable();
        rest.peek().is_some() && rest.all(|(_, member)| member.is_classic())
    }

    /// Applies one change. Changes of members that are not there make them, deletions of what is gone do nothing:
    /// a compacted log may hold either.
    pub(crate) fn apply(&mut self, change: &Change) {
        match change {
            Change::Group(Some(value)) => {
                self.epoch = value.epoch;
                self.metadata_hash = value.metadata_hash;
            }
            Change::Group(None) => *self = Self::default(),
            Change::SubscriptionMetadata => {}
            Change::Member(member_id, Some(metadata)) => {
                let current = self.members.get(member_id).map(|member| member.current.clone());
                let metadata = metadata.clone();
                self.put(
                    member_id,
                    ConsumerMember {
                        metadata,
                        current: current.unwrap_or_default(),
                    },
                );
            }
            Change::Member(member_id, None) => self.remove(member_id),
            Change::TargetEpoch(epoch) => self.target_epoch = epoch.unwrap_or(LEAVING_EPOCH).max(0),
            Change::Target(member_id, Some(partitions)) => {
                self.targets
                    .insert(member_id.clone(), Arc::new(partitions.clone()));
            }
            Change::Target(member_id, None) => {
                self.targets.remove(member_id);
            }
            Change::Current(member_id, Some(current)) => {
                let metadata = self.members.get(member_id).map(|member| member.metadata.clone());
                let current = current.clone();
                self.put(
                    member_id,
                    ConsumerMember {
                        metadata: metadata.unwrap_or_default(),
                        current,
                    },
                );
            }
            Change::Current(member_id, None) => {
                if let Some(member) = self.members.get_mut(member_id) {
                    Arc::make_mut(member).current = CurrentAssignment::default();
                }
            }
            Change::Regex(regex, Some(topics)) => {
                self.regexes.insert(regex.clone(), topics.clone());
            }
            Change::Regex(regex, None) => {
                self.regexes.remove(regex);
            }
        }
    }

    fn put(&mut self, member_id: &ByteString, member: ConsumerMember) {
        self.remove(member_id);
        self.subscription_bytes += member.subscription_bytes();
        if let Some(instance_id) = &member.metadata.instance_id {
            self.static_members.insert(instance_id.clone(), member_id.clone());
        }
        self.members.insert(member_id.clone(), Arc::new(member));
    }

    fn remove(&mut self, member_id: &ByteString) {
        let Some(member) = self.members.remove(member_id) else {
            return;
        };
        self.subscription_bytes -= member.subscription_bytes();
        if let Some(instance_id) = &member.metadata.instance_id
            && self.static_members.get(instance_id) == Some(member_id)
        {
            self.static_members.remove(instance_id);
        }
    }
}

/// Partitions as records and requests list them; what is listed twice counts once.
pub(crate) fn partitions_from<I, P>(topics: I) -> Partitions
where
    I: IntoIterator<Item = (Uuid, P)>,
    P: IntoIterator<Item = i32>,
{
    topics
        .into_iter()
        .flat_map(|(topic, partitions)| partitions.into_iter().map(move |partition| (topic, partition)))
        .collect()
}
