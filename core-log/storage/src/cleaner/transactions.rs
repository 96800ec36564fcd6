//! What a cleaning knows of transactions: which batches were aborted, and which markers have nothing left to mark.
//!
//! A marker is needed as long as a batch of its transaction is in the log, also an empty one: without it, a replay
//! would take the transaction for open, and readers of committed data would stop there for ever.

use std::collections::{HashMap, HashSet};

use highwater_types::record::BatchHeader;
use highwater_types::{Offset, ProducerId};

use crate::txn_index::AbortedTransaction;

/// Aborted transactions by producer, each list by offset.
#[derive(Debug, Default)]
pub(super) struct Aborted(HashMap<ProducerId, Vec<AbortedTransaction>>);

impl Aborted {
    pub(super) fn new(entries: Vec<AbortedTransaction>) -> Self {
        let mut by_producer: HashMap<ProducerId, Vec<AbortedTransaction>> = HashMap::new();
        for entry in entries {
            by_producer.entry(entry.producer_id).or_default().push(entry);
        }
        for list in by_producer.values_mut() {
            list.sort_unstable_by_key(|entry| entry.first_offset);
        }
        Self(by_producer)
    }

    /// The aborted transaction that covers an offset of a producer.
    fn covering(&self, producer: ProducerId, offset: Offset) -> Option<&AbortedTransaction> {
        let list = self.0.get(&producer)?;
        let after = list.partition_point(|entry| entry.first_offset <= offset);
        let entry = list.get(after.checked_sub(1)?)?;
        (offset <= entry.last_offset).then_some(entry)
    }

    /// Whether a data batch belongs to a transaction that came to nothing.
    pub(super) fn is_aborted(&self, header: &BatchHeader) -> bool {
        header.is_transactional()
            && header
                .producer_id
                .is_some_and(|id| self.covering(id, header.base_offset).is_some())
    }
}

/// Walks along with a copy of the log, from its start.
#[derive(Debug, Default)]
pub(super) struct Traversed {
    /// Producers of whose current transaction a data batch was met.
    with_data: HashSet<ProducerId>,
}

impl Traversed {
    /// A data batch, kept or not.
    pub(super) fn data(&mut self, header: &BatchHeader) {
        if let Some(id) = header.producer_id.filter(|_| header.is_transactional()) {
            self.with_data.insert(id);
        }
    }

    /// A transaction marker; says whether data of its transaction was still there.
    pub(super) fn marker(&mut self, producer: ProducerId) -> bool {
        self.with_data.remove(&producer)
    }

    /// The entry of the transaction index that belongs to a marker that stays for its data.
    pub(super) fn index_entry(aborted: &Aborted, header: &BatchHeader) -> Option<AbortedTransaction> {
        let entry = aborted.covering(header.producer_id?, header.last_offset())?;
        (entry.last_offset == header.last_offset()).then_some(*entry)
    }
}
