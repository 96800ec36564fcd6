//! Contiguous ranges of every topic, to its subscribers in a fixed order.
//!
//! Static members come first, by instance id, so that a restarted one gets its range back; the others follow by
//! member id. Topics with equal numbers of partitions and equal subscribers are split alike.

use std::collections::BTreeMap;

use highwater_types::Uuid;

use super::super::partitions::Partitions;
use super::{PartitionCounts, Subscriber};

pub(super) fn assign(subscribers: &[Subscriber], topics: &PartitionCounts) -> Vec<Partitions> {
    let mut order: Vec<usize> = (0..subscribers.len()).collect();
    order.sort_by(|left, right| sort_key(&subscribers[*left]).cmp(&sort_key(&subscribers[*right])));

    let mut readers: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
    for index in order {
        for topic in subscribers[index].topics.iter() {
            readers.entry(*topic).or_default().push(index);
        }
    }
    let mut targets = vec![Partitions::default(); subscribers.len()];
    for (topic, readers) in readers {
        let partitions = topics.get(&topic).copied().unwrap_or(0);
        let count = i32::try_from(readers.len()).unwrap_or(i32::MAX);
        let (each, extra) = (partitions / count, partitions % count);
        let mut next = 0;
        for (place, index) in readers.into_iter().enumerate() {
            let more = i32::from(i32::try_from(place).is_ok_and(|place| place < extra));
            for partition in next..next + each + more {
                targets[index].insert(topic, partition);
            }
            next += each + more;
        }
    }
    targets
}

fn sort_key(subscriber: &Subscriber) -> (bool, &str) {
    match &subscriber.instance_id {
        Some(instance_id) => (false, instance_id),
        None => (true, &subscriber.member_id),
    }
}
