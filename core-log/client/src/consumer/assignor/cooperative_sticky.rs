//! `cooperative-sticky`: as even as the subscriptions allow, moving as little as that takes, and never giving a
//! partition to one member while another still reads it (KIP-54, KIP-429).
//!
//! # Invariants
//! - No partition is assigned in a round in which any other member claims to own it: the owner revokes it, and the
//!   next round assigns it.
//! - After the moves have settled, no member could take a partition from another one and still have no more than it.

use std::collections::{BTreeMap, BTreeSet};

use highwater_types::{ByteString, TopicPartition};

use super::{
    Assignor, MemberAssignment, MemberSubscription, PartitionCounts, RebalanceProtocol, into_assignments,
    partitions_of, sorted,
};

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct CooperativeStickyAssignor;

impl Assignor for CooperativeStickyAssignor {
    fn name(&self) -> &str {
        "cooperative-sticky"
    }

    fn protocol(&self) -> RebalanceProtocol {
        RebalanceProtocol::Cooperative
    }

    fn assign(&self, cluster: &PartitionCounts, members: &[MemberSubscription]) -> Vec<MemberAssignment> {
        let owners = owners(cluster, members);
        let mut plan = Plan::new(cluster, sorted(members));
        plan.keep(&owners);
        plan.place_rest();
        plan.balance();
        let mut given = plan.into_given();
        for (member_id, partitions) in &mut given {
            partitions.retain(|tp| {
                owners
                    .get(tp)
                    .is_none_or(|claims| claims.iter().all(|claim| claim.member_id == *member_id))
            });
        }
        into_assignments(members, given)
    }
}

/// Who claims each partition; the claim of the latest generation first.
fn owners<'a>(
    cluster: &PartitionCounts,
    members: &'a [MemberSubscription],
) -> BTreeMap<TopicPartition, Vec<&'a MemberSubscription>> {
    let mut owners: BTreeMap<TopicPartition, Vec<&MemberSubscription>> = BTreeMap::new();
    for member in members {
        for tp in &member.owned_partitions {
            let exists = cluster
                .get(&tp.topic)
                .is_some_and(|count| u32::try_from(tp.partition.get()).is_ok_and(|index| index < *count));
            if exists {
                owners.entry(tp.clone()).or_default().push(member);
            }
        }
    }
    for claims in owners.values_mut() {
        claims.sort_by_key(|member| std::cmp::Reverse(member.generation));
    }
    owners
}

struct Plan<'a> {
    members: Vec<&'a MemberSubscription>,
    given: Vec<BTreeSet<TopicPartition>>,
    unplaced: BTreeSet<TopicPartition>,
}

impl<'a> Plan<'a> {
    fn new(cluster: &PartitionCounts, members: Vec<&'a MemberSubscription>) -> Self {
        let unplaced = cluster
            .iter()
            .flat_map(|(topic, count)| partitions_of(topic, *count))
            .collect();
        Self {
            given: vec![BTreeSet::new(); members.len()],
            members,
            unplaced,
        }
    }

    /// Leaves partitions with their owners. Two claims of the same generation contradict each other and neither
    /// counts.
    fn keep(&mut self, owners: &BTreeMap<TopicPartition, Vec<&MemberSubscription>>) {
        for (tp, claims) in owners {
            let contradiction = claims.len() > 1 && claims[0].generation == claims[1].generation;
            let owner = claims
                .first()
                .filter(|owner| !contradiction && owner.wants(&tp.topic));
            let index = owner.and_then(|o| self.members.iter().position(|m| m.member_id == o.member_id));
            if let Some(index) = index {
                self.unplaced.remove(tp);
                self.given[index].insert(tp.clone());
            }
        }
    }

    /// Gives what nobody has to whoever has least; topics that few want first, so that the others can even out.
    fn place_rest(&mut self) {
        let mut rest: Vec<_> = std::mem::take(&mut self.unplaced).into_iter().collect();
        rest.sort_by_cached_key(|tp| {
            (
                self.members.iter().filter(|m| m.wants(&tp.topic)).count(),
                tp.clone(),
            )
        });
        for tp in rest {
            if let Some(index) = self.least_loaded(&tp) {
                self.given[index].insert(tp);
            }
        }
    }

    fn least_loaded(&self, tp: &TopicPartition) -> Option<usize> {
        let takers = (0..self.members.len()).filter(|index| self.members[*index].wants(&tp.topic));
        takers.min_by_key(|index| self.given[*index].len())
    }

    /// Moves partitions from the fullest members while that makes the distribution more even. Every move lowers the
    /// sum of squares of the loads, so this ends.
    fn balance(&mut self) {
        loop {
            let mut moved = false;
            let mut fullest: Vec<usize> = (0..self.members.len()).collect();
            fullest.sort_by_key(|index| std::cmp::Reverse(self.given[*index].len()));
            for from in fullest {
                for tp in self.given[from].iter().rev().cloned().collect::<Vec<_>>() {
                    let Some(to) = self.least_loaded(&tp) else {
                        continue;
                    };
                    if self.given[to].len() + 1 < self.given[from].len() {
                        self.given[from].remove(&tp);
                        self.given[to].insert(tp);
                        moved = true;
                    }
                }
            }
            if !moved {
                return;
            }
        }
    }

    fn into_given(self) -> BTreeMap<ByteString, Vec<TopicPartition>> {
        let ids = self.members.into_iter().map(|member| member.member_id.clone());
        ids.zip(self.given.into_iter().map(|set| set.into_iter().collect()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use highwater_types::{GenerationId, PartitionId};

    use super::{super::testing::*, *};

    fn own(member: &mut MemberSubscription, generation: i32, name: &str, partitions: std::ops::Range<i32>) {
        member.generation = Some(GenerationId::new(generation));
        let partitions = partitions.map(|index| TopicPartition::new(topic(name), PartitionId::new(index)));
        member.owned_partitions.extend(partitions);
    }

    #[test]
    fn a_newcomer_gets_its_share_only_after_the_owner_let_go() {
        let cluster = counts(&[("t", 4)]);
        let (mut a, mut b) = (member("a", &["t"]), member("b", &["t"]));
        own(&mut a, 1, "t", 0..4);
        let first = CooperativeStickyAssignor.assign(&cluster, &[a.clone(), b.clone()]);
        assert_eq!(print(&first), "a: t-0 t-1\nb: ", "t-2 and t-3 are on their way");

        a.owned_partitions.truncate(2);
        b.generation = a.generation;
        let second = CooperativeStickyAssignor.assign(&cluster, &[a, b]);
        assert_eq!(print(&second), "a: t-0 t-1\nb: t-2 t-3");
    }

    #[test]
    fn the_partitions_of_a_member_that_left_spread_without_moving_others() {
        let (mut a, mut b) = (member("a", &["t"]), member("b", &["t"]));
        own(&mut a, 3, "t", 0..2);
        own(&mut b, 3, "t", 4..6);
        let given = CooperativeStickyAssignor.assign(&counts(&[("t", 6)]), &[a, b]);
        assert_eq!(print(&given), "a: t-0 t-1 t-2\nb: t-3 t-4 t-5");
    }

    #[test]
    fn an_older_claim_loses_and_equal_claims_cancel_out() {
        let (mut a, mut b) = (member("a", &["t"]), member("b", &["t"]));
        own(&mut a, 1, "t", 0..1);
        own(&mut b, 2, "t", 0..1);
        let given = CooperativeStickyAssignor.assign(&counts(&[("t", 1)]), &[a.clone(), b.clone()]);
        assert_eq!(
            print(&given),
            "a: \nb: ",
            "b keeps it, but only once a has let go"
        );

        a.generation = b.generation;
        let given = CooperativeStickyAssignor.assign(&counts(&[("t", 1)]), &[a, b]);
        assert_eq!(print(&given), "a: \nb: ", "both have to let go");
    }

    #[test]
    fn different_subscriptions_are_evened_out_as_far_as_they_allow() {
        let members = [member("a", &["t"]), member("b", &["t", "u"]), member("c", &["u"])];
        let given = CooperativeStickyAssignor.assign(&counts(&[("t", 3), ("u", 3)]), &members);
        let mut loads: Vec<usize> = given.iter().map(|g| g.partitions.len()).collect();
        loads.sort_unstable();
        assert_eq!(loads, [2, 2, 2], "{}", print(&given));
    }

    /// Every assignor gives every partition that somebody wants to exactly one member that wants it.
    #[test]
    fn assignments_are_complete_and_disjoint_for_every_assignor() {
        use super::super::{RangeAssignor, RoundRobinAssignor};
        let assignors: [&dyn Assignor; 3] = [&RangeAssignor, &RoundRobinAssignor, &CooperativeStickyAssignor];
        let cluster = counts(&[("t", 7), ("u", 1), ("v", 4)]);
        let members = [
            member("a", &["t", "u"]),
            member("b", &["u", "t"]),
            member("c", &["t"]),
            member("d", &["x"]),
        ];
        for assignor in assignors {
            let given = assignor.assign(&cluster, &members);
            let mut all: Vec<_> = given.iter().flat_map(|g| &g.partitions).collect();
            all.sort();
            let wanted: Vec<_> = partitions_of(&topic("t"), 7)
                .chain(partitions_of(&topic("u"), 1))
                .collect();
            assert_eq!(all, wanted.iter().collect::<Vec<_>>(), "{}", assignor.name());
            for g in &given {
                let member = members
                    .iter()
                    .find(|m| m.member_id == g.member_id)
                    .expect("a member");
                assert!(
                    g.partitions.iter().all(|tp| member.wants(&tp.topic)),
                    "{}",
                    assignor.name()
                );
            }
        }
    }
}
