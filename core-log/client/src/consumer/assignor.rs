//! Who reads what: the contract of an assignor and the three that Kafka's users expect.
//!
//! The group's leader runs the assignor the group agreed on over everybody's subscription. Assignors are pure:
//! the same input gives the same assignment, on every member.

use std::{collections::BTreeMap, fmt};

use highwater_types::{ByteString, Bytes, GenerationId, PartitionId, TopicName, TopicPartition};

mod cooperative_sticky;
mod range;
mod round_robin;

pub use cooperative_sticky::CooperativeStickyAssignor;
pub use range::RangeAssignor;
pub use round_robin::RoundRobinAssignor;

/// What members do with their partitions while the group rebalances (KIP-429).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RebalanceProtocol {
    /// Everybody gives up everything first.
    Eager,
    /// Members keep what they have and give up only what moves; what moved is assigned in a second round.
    Cooperative,
}

/// How many partitions each subscribed topic has; topics that do not exist are missing.
pub type PartitionCounts = BTreeMap<TopicName, u32>;

/// What one member of the group asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberSubscription {
    /// Its id in this generation.
    pub member_id: ByteString,
    /// Its lasting name, when it is a static member (KIP-345).
    pub group_instance_id: Option<ByteString>,
    /// Topics it wants.
    pub topics: Vec<TopicName>,
    /// What its assignor told ([`Assignor::subscription_userdata`]).
    pub user_data: Option<Bytes>,
    /// Partitions it still holds (subscription v1+).
    pub owned_partitions: Vec<TopicPartition>,
    /// The generation in which it got them (v2+).
    pub generation: Option<GenerationId>,
    /// Its rack (v3+).
    pub rack_id: Option<ByteString>,
}

impl MemberSubscription {
    pub(crate) fn wants(&self, topic: &TopicName) -> bool {
        self.topics.contains(topic)
    }

    /// Static members first, by their lasting name, so that restarts do not move partitions.
    fn sort_key(&self) -> (bool, &ByteString) {
        match &self.group_instance_id {
            Some(instance) => (false, instance),
            None => (true, &self.member_id),
        }
    }
}

/// What one member gets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MemberAssignment {
    /// Who.
    pub member_id: ByteString,
    /// What to read.
    pub partitions: Vec<TopicPartition>,
    /// What the leader's assignor tells the member's.
    pub user_data: Option<Bytes>,
}

/// Distributes partitions over members.
pub trait Assignor: fmt::Debug + Send + Sync + 'static {
    /// The name members agree on; all members of a group must mean the same thing by it.
    fn name(&self) -> &str;

    /// What members do during a rebalance.
    fn protocol(&self) -> RebalanceProtocol;

    /// What this member wants to tell the leader's assignor.
    fn subscription_userdata(&self, topics: &[TopicName]) -> Option<Bytes> {
        let _ = topics;
        None
    }

    /// Distributes all partitions of the subscribed topics. Members left out get nothing; with
    /// [`RebalanceProtocol::Cooperative`] a partition that another member still owns must be left out.
    fn assign(&self, cluster: &PartitionCounts, members: &[MemberSubscription]) -> Vec<MemberAssignment>;

    /// Learns what this member got.
    fn on_assignment(&self, assignment: &MemberAssignment, generation: GenerationId) {
        let _ = (assignment, generation);
    }
}

/// Members in the order every assignor here serves them.
fn sorted(members: &[MemberSubscription]) -> Vec<&MemberSubscription> {
    let mut members: Vec<_> = members.iter().collect();
    members.sort_by(|a, b| a.sort_key().cmp(&b.sort_key()));
    members
}

fn partitions_of(topic: &TopicName, count: u32) -> impl Iterator<Item = TopicPartition> + use<'_> {
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    (0..count).map(move |index| TopicPartition::new(topic.clone(), PartitionId::new(index)))
}

fn into_assignments(
    members: &[MemberSubscription],
    mut given: BTreeMap<ByteString, Vec<TopicPartition>>,
) -> Vec<MemberAssignment> {
    let assignments = members.iter().map(|member| {
        let mut partitions = given.remove(&member.member_id).unwrap_or_default();
        partitions.sort();
        MemberAssignment {
            member_id: member.member_id.clone(),
            partitions,
            user_data: None,
        }
    });
    assignments.collect()
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    pub(crate) fn topic(name: &str) -> TopicName {
        TopicName::new(name).expect("legal")
    }

    pub(crate) fn counts(topics: &[(&str, u32)]) -> PartitionCounts {
        topics.iter().map(|(name, count)| (topic(name), *count)).collect()
    }

    pub(crate) fn member(id: &str, topics: &[&str]) -> MemberSubscription {
        MemberSubscription {
            member_id: id.into(),
            topics: topics.iter().map(|name| topic(name)).collect(),
            ..Default::default()
        }
    }

    /// One line per member: `a: t0-0 t0-1`.
    pub(crate) fn print(assignments: &[MemberAssignment]) -> String {
        let mut lines: Vec<String> = assignments
            .iter()
            .map(|a| {
                let partitions: Vec<String> = a.partitions.iter().map(ToString::to_string).collect();
                format!("{}: {}", a.member_id, partitions.join(" "))
            })
            .collect();
        lines.sort();
        lines.join("\n")
    }
}
