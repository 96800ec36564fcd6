//! Which source offsets may be stored: those whose record, and every earlier record of the same source partition, is
//! in the log or dropped on purpose.
//!
//! # Invariants
//! - Offsets of a source partition become storable in the order in which their records were submitted.
//! - A slow source partition holds back no other.

use std::collections::{BTreeMap, VecDeque};

use highwater_connect_api::{SourceOffset, SourcePartition};

/// Names one submitted record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ticket {
    partition: SourcePartition,
    number: u64,
}

#[derive(Debug, Default)]
struct Queue {
    /// Number of the record at the front.
    first: u64,
    waiting: VecDeque<(SourceOffset, bool)>,
}

/// Records under way, per source partition.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    queues: BTreeMap<SourcePartition, Queue>,
}

impl Ledger {
    /// A record is on its way.
    pub(crate) fn submit(&mut self, partition: SourcePartition, offset: SourceOffset) -> Ticket {
        let queue = self.queues.entry(partition.clone()).or_default();
        let number = queue.first + queue.waiting.len() as u64;
        queue.waiting.push_back((offset, false));
        Ticket { partition, number }
    }

    /// The record is in the log, or will never be and nobody minds.
    pub(crate) fn settle(&mut self, ticket: &Ticket) {
        let Some(queue) = self.queues.get_mut(&ticket.partition) else {
            return;
        };
        let index = ticket
            .number
            .checked_sub(queue.first)
            .and_then(|index| usize::try_from(index).ok());
        if let Some((_, settled)) = index.and_then(|index| queue.waiting.get_mut(index)) {
            *settled = true;
        }
    }

    /// The offsets that have become storable since the last call.
    pub(crate) fn take_storable(&mut self) -> BTreeMap<SourcePartition, SourceOffset> {
        let mut storable = BTreeMap::new();
        for (partition, queue) in &mut self.queues {
            let mut last = None;
            while queue.waiting.front().is_some_and(|(_, settled)| *settled) {
                last = queue.waiting.pop_front();
                queue.first += 1;
            }
            if let Some((offset, _)) = last {
                storable.insert(partition.clone(), offset);
            }
        }
        storable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(name: &str) -> SourcePartition {
        SourcePartition::of("symbol", name)
    }

    fn storable(ledger: &mut Ledger) -> Vec<(String, i64)> {
        ledger
            .take_storable()
            .into_iter()
            .map(|(partition, offset)| (partition.0["symbol"].clone(), offset.integer("at").expect("set")))
            .collect()
    }

    #[test]
    fn an_offset_waits_for_every_earlier_record_of_its_partition_only() {
        let mut ledger = Ledger::default();
        let mut submit = |name: &str, at: i64| ledger.submit(partition(name), SourceOffset::of("at", at));
        let (a1, a2, a3) = (submit("a", 1), submit("a", 2), submit("a", 3));
        let b1 = submit("b", 1);

        ledger.settle(&a2);
        ledger.settle(&b1);
        assert_eq!(storable(&mut ledger), [("b".to_owned(), 1)]);

        ledger.settle(&a1);
        assert_eq!(storable(&mut ledger), [("a".to_owned(), 2)]);
        assert_eq!(storable(&mut ledger), []);

        ledger.settle(&a3);
        let a4 = ledger.submit(partition("a"), SourceOffset::of("at", 4));
        ledger.settle(&a4);
        assert_eq!(storable(&mut ledger), [("a".to_owned(), 4)]);
    }

    #[test]
    fn settling_twice_or_late_changes_nothing() {
        let mut ledger = Ledger::default();
        let first = ledger.submit(partition("a"), SourceOffset::of("at", 1));
        ledger.settle(&first);
        assert_eq!(storable(&mut ledger).len(), 1);
        ledger.submit(partition("a"), SourceOffset::of("at", 2));
        ledger.settle(&first);
        assert_eq!(storable(&mut ledger), []);
    }
}
