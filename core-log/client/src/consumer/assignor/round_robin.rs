//! Kafka's `roundrobin`: all partitions of all topics in a row, dealt out like cards.

use std::collections::BTreeMap;

use super::{
    Assignor, MemberAssignment, MemberSubscription, PartitionCounts, RebalanceProtocol, into_assignments,
    partitions_of, sorted,
};

/// See the module.
#[derive(Debug, Clone, Copy, Default)]
pub struct RoundRobinAssignor;

impl Assignor for RoundRobinAssignor {
    fn name(&self) -> &str {
        "roundrobin"
    }

    fn protocol(&self) -> RebalanceProtocol {
        RebalanceProtocol::Eager
    }

    fn assign(&self, cluster: &PartitionCounts, members: &[MemberSubscription]) -> Vec<MemberAssignment> {
        let takers = sorted(members);
        let mut given: BTreeMap<_, Vec<_>> = BTreeMap::new();
        let mut turn = 0;
        for (topic, count) in cluster {
            for tp in partitions_of(topic, *count) {
                // At most one round without a taker: then nobody wants the topic.
                let taker = (0..takers.len())
                    .map(|step| (turn + step) % takers.len())
                    .find(|index| takers[*index].wants(topic));
                let Some(index) = taker else { break };
                given.entry(takers[index].member_id.clone()).or_default().push(tp);
                turn = (index + 1) % takers.len();
            }
        }
        into_assignments(members, given)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::testing::*, *};

    #[test]
    fn partitions_are_dealt_across_topics() {
        let members = [member("a", &["t", "u"]), member("b", &["t", "u"])];
        let given = RoundRobinAssignor.assign(&counts(&[("t", 3), ("u", 3)]), &members);
        assert_eq!(print(&given), "a: t-0 t-2 u-1\nb: t-1 u-0 u-2");
    }

    /// The example in the documentation of Kafka's own assignor.
    #[test]
    fn members_that_do_not_want_a_topic_are_passed_over() {
        let members = [
            member("c0", &["t0"]),
            member("c1", &["t0", "t1"]),
            member("c2", &["t0", "t1", "t2"]),
        ];
        let given = RoundRobinAssignor.assign(&counts(&[("t0", 1), ("t1", 2), ("t2", 3)]), &members);
        assert_eq!(print(&given), "c0: t0-0\nc1: t1-0\nc2: t1-1 t2-0 t2-1 t2-2");
    }
}
