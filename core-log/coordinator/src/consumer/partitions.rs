//! A set of partitions by topic id, as assignments and owned partitions are given.

use std::collections::{BTreeMap, BTreeSet};

use highwater_types::Uuid;

/// Partitions by topic id. Equal sets compare equal: a topic without partitions is not in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Partitions {
    by_topic: BTreeMap<Uuid, BTreeSet<i32>>,
}

impl Partitions {
    /// Adds one partition.
    pub(crate) fn insert(&mut self, topic: Uuid, partition: i32) -> bool {
        self.by_topic.entry(topic).or_default().insert(partition)
    }

    pub(crate) fn remove(&mut self, topic: Uuid, partition: i32) -> bool {
        let Some(partitions) = self.by_topic.get_mut(&topic) else {
            return false;
        };
        let removed = partitions.remove(&partition);
        if partitions.is_empty() {
            self.by_topic.remove(&topic);
        }
        removed
    }

    /// Whether the partition is in the set.
    pub(crate) fn contains(&self, topic: Uuid, partition: i32) -> bool {
        self.by_topic
            .get(&topic)
            .is_some_and(|partitions| partitions.contains(&partition))
    }

    /// Whether the set is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    /// How many partitions are in the set.
    pub(crate) fn len(&self) -> usize {
        self.by_topic.values().map(BTreeSet::len).sum()
    }

    /// Every partition, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Uuid, i32)> + '_ {
        self.by_topic
            .iter()
            .flat_map(|(topic, partitions)| partitions.iter().map(|partition| (*topic, *partition)))
    }

    /// Topics with their partitions, ascending.
    pub(crate) fn topics(&self) -> impl ExactSizeIterator<Item = (Uuid, &BTreeSet<i32>)> {
        self.by_topic
            .iter()
            .map(|(topic, partitions)| (*topic, partitions))
    }

    pub(crate) fn is_subset_of(&self, other: &Partitions) -> bool {
        self.iter()
            .all(|(topic, partition)| other.contains(topic, partition))
    }

    pub(crate) fn is_disjoint_from(&self, other: &Partitions) -> bool {
        !self
            .iter()
            .any(|(topic, partition)| other.contains(topic, partition))
    }
}

impl FromIterator<(Uuid, i32)> for Partitions {
    fn from_iter<I: IntoIterator<Item = (Uuid, i32)>>(items: I) -> Self {
        let mut set = Self::default();
        for (topic, partition) in items {
            set.insert(topic, partition);
        }
        set
    }
}
