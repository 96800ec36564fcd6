//! Partitions for records without a key: stay on one until a batch is full, then draw another (KIP-794), so that
//! few records still make large batches.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use highwater_types::{PartitionId, TopicName};
use rand::RngExt as _;

use crate::metadata::TopicMetadata;

#[derive(Debug, Clone, Copy)]
struct Current {
    partition: PartitionId,
    sent_bytes: usize,
}

#[derive(Debug)]
pub(super) struct StickyPartitions {
    switch_bytes: usize,
    current: Mutex<HashMap<TopicName, Current>>,
}

impl StickyPartitions {
    pub(super) fn new(switch_bytes: usize) -> Self {
        Self {
            switch_bytes,
            current: Mutex::default(),
        }
    }

    fn current(&self) -> MutexGuard<'_, HashMap<TopicName, Current>> {
        self.current
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The partition for the next `size_bytes` of `topic`; one with a leader, if any has.
    pub(super) fn choose(&self, topic: &TopicMetadata, size_bytes: usize) -> PartitionId {
        let mut current = self.current();
        if let Some(chosen) = current.get_mut(&topic.name) {
            let usable = topic
                .partition(chosen.partition)
                .is_some_and(|p| p.leader.is_some());
            if usable && chosen.sent_bytes < self.switch_bytes {
                chosen.sent_bytes += size_bytes;
                return chosen.partition;
            }
        }
        let previous = current.get(&topic.name).map(|chosen| chosen.partition);
        let partition = draw(topic, previous);
        current.insert(
            topic.name.clone(),
            Current {
                partition,
                sent_bytes: size_bytes,
            },
        );
        partition
    }
}

fn draw(topic: &TopicMetadata, previous: Option<PartitionId>) -> PartitionId {
    let led: Vec<PartitionId> = topic
        .partitions
        .iter()
        .filter(|p| p.leader.is_some())
        .map(|p| p.partition)
        .collect();
    let others: Vec<PartitionId> = led.iter().copied().filter(|p| Some(*p) != previous).collect();
    let pool = if others.is_empty() { led } else { others };
    match pool.len() {
        0 => PartitionId::new(0), // nobody leads; the batch waits for a leader
        count => pool[rand::rng().random_range(0..count)],
    }
}

#[cfg(test)]
mod tests {
    use highwater_types::BrokerId;

    use super::*;
    use crate::metadata::PartitionMetadata;

    fn topic(led: &[bool]) -> TopicMetadata {
        let partitions = led.iter().zip(0..).map(|(led, index)| PartitionMetadata {
            partition: PartitionId::new(index),
            leader: led.then(|| BrokerId::new(1)),
            leader_epoch: None,
            replicas: Vec::new(),
            isr: Vec::new(),
        });
        TopicMetadata {
            name: TopicName::new("t").expect("legal"),
            id: None,
            is_internal: false,
            partitions: partitions.collect(),
        }
    }

    #[test]
    fn a_partition_is_kept_until_a_batch_is_full_and_then_changed() {
        let sticky = StickyPartitions::new(100);
        let topic = topic(&[true, true]);
        let first = sticky.choose(&topic, 60);
        assert_eq!(sticky.choose(&topic, 60), first, "60 of 100 bytes sent");
        assert_ne!(sticky.choose(&topic, 60), first, "120 of 100 bytes sent");
    }

    #[test]
    fn partitions_without_a_leader_are_passed_over() {
        let sticky = StickyPartitions::new(1);
        let topic = topic(&[false, true, false]);
        for _ in 0..20 {
            assert_eq!(sticky.choose(&topic, 10), PartitionId::new(1));
        }
    }
}
