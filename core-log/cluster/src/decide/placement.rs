//! Which brokers hold the replicas of new partitions.

use highwater_types::BrokerId;

/// A partition's replicas as an administrator chose them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManualAssignment {
    /// The partition's index.
    pub partition: i32,
    /// Its replicas, preferred leader first.
    pub replicas: Vec<BrokerId>,
}

/// What placing replicas needs besides the image.
#[derive(Debug, Clone, Copy)]
pub struct PlacementContext<'a> {
    /// The brokers that are alive, in ascending order.
    pub brokers: &'a [BrokerId],
    /// Any number: topics with different seeds begin on different brokers.
    pub seed: u64,
}

impl PlacementContext<'_> {
    /// Replicas for the partitions `first..first + count`: leaders go round the brokers, and the gap between a leader
    /// and its followers grows with every round, so that a dead broker's load spreads over all others.
    ///
    /// With brokers 0 to 3 and two replicas: 0-1, 1-2, 2-3, 3-0, then 0-2, 1-3, 2-0, 3-1, and so on.
    ///
    /// Needs `1 <= replication_factor <= brokers.len()`; the callers refuse everything else.
    pub(super) fn place(&self, first: usize, count: usize, replication_factor: usize) -> Vec<Vec<BrokerId>> {
        let brokers = self.brokers.len();
        assert!(
            (1..=brokers).contains(&replication_factor),
            "more replicas than brokers"
        );
        // Both remainders are below the number of brokers, so they fit.
        let start = (self.seed % brokers as u64) as usize;
        let place_one = |partition: usize| {
            let leader = (start + partition) % brokers;
            let round = partition / brokers;
            let followers = (0..replication_factor - 1).map(|follower| {
                let gap = 1 + (round + follower) % (brokers - 1);
                (leader + gap) % brokers
            });
            std::iter::once(leader)
                .chain(followers)
                .map(|index| self.brokers[index])
                .collect()
        };
        (first..first + count).map(place_one).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_broker_holds_everything() {
        let brokers = [BrokerId::new(7)];
        let placed = PlacementContext {
            brokers: &brokers,
            seed: 5,
        }
        .place(0, 2, 1);
        assert_eq!(placed, vec![vec![BrokerId::new(7)], vec![BrokerId::new(7)]]);
    }

    proptest! {
        #[test]
        fn replicas_are_distinct_and_leaders_balanced(
            brokers in 1_i32..9, factor in 1_usize..9, count in 1_usize..40, seed: u64
        ) {
            prop_assume!(factor <= brokers as usize);
            let brokers: Vec<_> = (0..brokers).map(BrokerId::new).collect();
            let placed = PlacementContext { brokers: &brokers, seed }.place(0, count, factor);
            let mut leads = vec![0_usize; brokers.len()];
            for replicas in &placed {
                let distinct: std::collections::BTreeSet<_> = replicas.iter().collect();
                prop_assert_eq!(distinct.len(), factor);
                leads[replicas[0].get() as usize] += 1;
            }
            prop_assert!(leads.iter().max().unwrap() - leads.iter().min().unwrap() <= 1);
        }
    }
}
