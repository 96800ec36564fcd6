//! Which brokers hold the replicas of new partitions.

use std::collections::BTreeMap;

use highwater_types::BrokerId;

use super::topics::TopicError;
use crate::{image::MetadataImage, record::MetadataRecord};

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
    /// The most partitions that one broker holds (`max.partitions.per.broker`).
    pub max_partitions_per_broker: usize,
}

/// How many partitions each broker holds: those of the image, and those decided since.
#[derive(Debug)]
pub(super) struct BrokerLoad {
    partitions: BTreeMap<i32, usize>,
    limit: usize,
}

impl BrokerLoad {
    pub(super) fn new(image: &MetadataImage, placement: PlacementContext<'_>) -> Self {
        let mut partitions = BTreeMap::new();
        let replicas = image
            .topics()
            .flat_map(|topic| &topic.partitions)
            .flat_map(|partition| &partition.replicas);
        for broker_id in replicas {
            *partitions.entry(broker_id.get()).or_default() += 1;
        }
        let limit = placement.max_partitions_per_broker;
        BrokerLoad { partitions, limit }
    }

    /// Adds the partitions of `records`; when that is too much for a broker, nothing is added.
    ///
    /// # Errors
    /// [`TopicError::BrokerFull`].
    pub(super) fn add(&mut self, records: &[MetadataRecord]) -> Result<(), TopicError> {
        let mut more: BTreeMap<i32, usize> = BTreeMap::new();
        for record in records {
            if let MetadataRecord::Partition(partition) = record {
                for broker_id in &partition.replicas {
                    *more.entry(*broker_id).or_default() += 1;
                }
            }
        }
        let held = |broker_id| self.partitions.get(broker_id).copied().unwrap_or(0);
        let full = more
            .iter()
            .find(|(broker_id, more)| held(broker_id) + **more > self.limit);
        if let Some((&broker_id, &wanted)) = full {
            return Err(TopicError::BrokerFull {
                broker_id: BrokerId::new(broker_id),
                held: held(&broker_id),
                wanted,
                limit: self.limit,
            });
        }
        for (broker_id, more) in more {
            *self.partitions.entry(broker_id).or_default() += more;
        }
        Ok(())
    }
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
            max_partitions_per_broker: 100,
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
            let placed = PlacementContext { brokers: &brokers, seed, max_partitions_per_broker: 1_000 }.place(0, count, factor);
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
