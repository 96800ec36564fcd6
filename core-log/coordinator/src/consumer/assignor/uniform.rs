//! Even numbers of partitions for all, moving as few as possible.
//!
//! If all members read the same topics, nobody gets more than one partition above anybody else. Otherwise every
//! partition goes to the least loaded of its readers, and then partitions move from a reader to another as long as
//! that one has at least two fewer.
//!
//! # Invariants
//! - Every partition of a topic that somebody reads is in exactly one target.
//! - A move makes the loads strictly more even, so balancing ends; [`MAX_ROUNDS`] ends it sooner.

use std::collections::{BTreeMap, BTreeSet};

use highwater_types::Uuid;

use super::super::partitions::Partitions;
use super::{PartitionCounts, Subscriber};

/// Rounds of balancing over all topics. One is enough for most subscriptions; overlapping ones roughly halve the
/// imbalance each time.
const MAX_ROUNDS: usize = 16;

pub(super) fn assign(subscribers: &[Subscriber], topics: &PartitionCounts) -> Vec<Partitions> {
    let Some(first) = subscribers.first() else {
        return Vec::new();
    };
    let is_homogeneous = subscribers.iter().all(|other| other.topics == first.topics);
    match is_homogeneous {
        true => assign_alike(subscribers, topics),
        false => assign_overlapping(subscribers, topics),
    }
}

/// Every partition that `subscribers` read and nobody has yet.
fn unassigned(topics: &PartitionCounts, taken: &Partitions) -> Vec<(Uuid, i32)> {
    let all = topics
        .iter()
        .flat_map(|(topic, count)| (0..*count).map(move |partition| (*topic, partition)));
    all.filter(|(topic, partition)| !taken.contains(*topic, *partition))
        .collect()
}

/// What the former target of a subscriber has that still exists and is read by it and is nobody else's.
fn keepable<'a>(
    subscriber: &'a Subscriber,
    topics: &'a PartitionCounts,
    taken: &'a Partitions,
) -> impl Iterator<Item = (Uuid, i32)> + 'a {
    subscriber.former.iter().filter(|(topic, partition)| {
        let exists = topics
            .get(topic)
            .is_some_and(|count| (0..*count).contains(partition));
        exists && subscriber.topics.contains(topic) && !taken.contains(*topic, *partition)
    })
}

fn assign_alike(subscribers: &[Subscriber], topics: &PartitionCounts) -> Vec<Partitions> {
    let read: PartitionCounts = subscribers
        .first()
        .map(|first| {
            let counts = first
                .topics
                .iter()
                .filter_map(|topic| Some((*topic, *topics.get(topic)?)));
            counts.collect()
        })
        .unwrap_or_default();
    let total: usize = read
        .values()
        .map(|count| usize::try_from(*count).unwrap_or(0))
        .sum();
    let least = total / subscribers.len();
    let mut extras = total % subscribers.len();

    let mut taken = Partitions::default();
    let mut targets = vec![Partitions::default(); subscribers.len()];
    for (target, subscriber) in targets.iter_mut().zip(subscribers) {
        let mut kept: Vec<_> = keepable(subscriber, &read, &taken).collect();
        let quota = match kept.len() > least && extras > 0 {
            true => {
                extras -= 1;
                least + 1
            }
            false => least,
        };
        kept.truncate(quota);
        for (topic, partition) in kept {
            taken.insert(topic, partition);
            target.insert(topic, partition);
        }
    }
    let mut left = unassigned(&read, &taken).into_iter();
    for target in &mut targets {
        let mut missing = least.saturating_sub(target.len());
        // One that kept an extra partition has its share; the extras left go to the others in order.
        if target.len() <= least && extras > 0 {
            extras -= 1;
            missing += 1;
        }
        for (topic, partition) in left.by_ref().take(missing) {
            target.insert(topic, partition);
        }
    }
    targets
}

fn assign_overlapping(subscribers: &[Subscriber], topics: &PartitionCounts) -> Vec<Partitions> {
    let mut readers: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
    for (index, subscriber) in subscribers.iter().enumerate() {
        for topic in subscriber.topics.iter() {
            readers.entry(*topic).or_default().push(index);
        }
    }
    let read: PartitionCounts = readers
        .keys()
        .filter_map(|topic| Some((*topic, *topics.get(topic)?)))
        .collect();
    let mut targets = vec![Partitions::default(); subscribers.len()];
    let mut loads = vec![0_usize; subscribers.len()];
    let mut taken = Partitions::default();
    for (index, subscriber) in subscribers.iter().enumerate() {
        let kept: Vec<_> = keepable(subscriber, &read, &taken).collect();
        loads[index] = kept.len();
        for (topic, partition) in kept {
            taken.insert(topic, partition);
            targets[index].insert(topic, partition);
        }
    }

    // Topics with few choices first, so that those with many can even things out.
    let mut order: Vec<Uuid> = read.keys().copied().collect();
    order.sort_by_key(|topic| (readers[topic].len(), *topic));
    for topic in &order {
        let mut by_load: BTreeSet<(usize, usize)> = readers[topic]
            .iter()
            .map(|index| (loads[*index], *index))
            .collect();
        for partition in 0..read[topic] {
            if taken.contains(*topic, partition) {
                continue;
            }
            let Some((load, index)) = by_load.pop_first() else {
                break;
            };
            targets[index].insert(*topic, partition);
            loads[index] = load + 1;
            by_load.insert((load + 1, index));
        }
    }
    for _ in 0..MAX_ROUNDS {
        let mut has_moved = false;
        for topic in &order {
            has_moved |= balance(*topic, &readers[topic], &mut targets, &mut loads);
        }
        if !has_moved {
            break;
        }
    }
    targets
}

/// Moves partitions of one topic from its most to its least loaded readers; whether any moved.
fn balance(topic: Uuid, readers: &[usize], targets: &mut [Partitions], loads: &mut [usize]) -> bool {
    let mut owned: BTreeMap<usize, Vec<i32>> = BTreeMap::new();
    for index in readers {
        let own: Vec<i32> = targets[*index]
            .topics()
            .find(|(id, _)| *id == topic)
            .map(|(_, partitions)| partitions.iter().copied().collect())
            .unwrap_or_default();
        owned.insert(*index, own);
    }
    let mut by_load: BTreeSet<(usize, usize)> = readers.iter().map(|index| (loads[*index], *index)).collect();
    let mut givers = by_load.clone();
    let mut has_moved = false;
    while let (Some((most, giver)), Some((least, taker))) = (givers.last().copied(), by_load.first().copied())
    {
        if most < least + 2 {
            break;
        }
        let Some(partition) = owned.get_mut(&giver).and_then(Vec::pop) else {
            // It is loaded by other topics.
            givers.remove(&(most, giver));
            continue;
        };
        targets[giver].remove(topic, partition);
        targets[taker].insert(topic, partition);
        for (set, index, from, to) in [
            (&mut by_load, giver, most, most - 1),
            (&mut givers, giver, most, most - 1),
        ] {
            set.remove(&(from, index));
            set.insert((to, index));
        }
        by_load.remove(&(least, taker));
        by_load.insert((least + 1, taker));
        if givers.remove(&(least, taker)) {
            givers.insert((least + 1, taker));
        }
        loads[giver] = most - 1;
        loads[taker] = least + 1;
        if let Some(own) = owned.get_mut(&taker) {
            own.push(partition);
        }
        has_moved = true;
    }
    has_moved
}
