//! What a partition remembers of its idempotent and transactional producers, and the rules on their batches.
//!
//! Derives only from the log: `apply` is the only way in, the leader's `check` changes nothing. Followers and
//! recovery apply without checking.
//!
//! # Invariants
//! - Per producer, the last five batches of its current epoch (semantic 33).
//! - `ongoing` holds exactly the producers whose transaction is open, by first offset.
//! - A producer with an open transaction is never forgotten.

pub(crate) mod snapshot;

use std::collections::{BTreeMap, HashMap};

use highwater_types::record::BatchHeader;
use highwater_types::record::control::TransactionResult;
use highwater_types::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

pub(crate) use snapshot::{decode_batches, decode_snapshot, encode_batches, encode_snapshot};

use crate::error::{AppendError, InvalidRecord};
use crate::txn_index::AbortedTransaction;

/// As many requests as an idempotent producer may have in flight.
const REMEMBERED_BATCHES: usize = 5;

/// A batch a producer wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchMemo {
    pub(crate) last_sequence: Sequence,
    pub(crate) last_offset: Offset,
    /// Last offset minus first.
    pub(crate) offset_delta: i32,
    pub(crate) timestamp: Timestamp,
}

impl BatchMemo {
    pub(crate) fn first_offset(&self) -> Offset {
        self.last_offset.advance_by(-i64::from(self.offset_delta))
    }

    fn first_sequence(&self) -> Sequence {
        // Sequences wrap at 2^31: going back by n is going forward by 2^31 - n, in two steps that fit.
        let forward = (i64::from(i32::MAX) + 1 - i64::from(self.offset_delta)).min(i64::from(i32::MAX));
        match self.offset_delta {
            0 => self.last_sequence,
            _ => self.last_sequence.advance_by(forward as i32),
        }
    }
}

/// A producer as administrators see it (KIP-664).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveProducer {
    /// The producer.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// The sequence of its last record, if it has written in this epoch.
    pub last_sequence: Option<Sequence>,
    /// When it last wrote.
    pub last_timestamp: Timestamp,
    /// The epoch of the coordinator that last ended a transaction of it.
    pub coordinator_epoch: Option<i32>,
    /// Where its open transaction begins.
    pub transaction_start: Option<Offset>,
}

/// What is known of one producer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ProducerEntry {
    pub(crate) epoch: ProducerEpoch,
    pub(crate) coordinator_epoch: Option<i32>,
    pub(crate) last_timestamp: Timestamp,
    pub(crate) transaction_start: Option<Offset>,
    /// Oldest first; at most five, all of `epoch`.
    pub(crate) batches: Vec<BatchMemo>,
}

impl ProducerEntry {
    fn new(epoch: ProducerEpoch, now: Timestamp) -> Self {
        Self {
            epoch,
            coordinator_epoch: None,
            last_timestamp: now,
            transaction_start: None,
            batches: Vec::new(),
        }
    }

    pub(crate) fn describe(&self, id: ProducerId) -> ActiveProducer {
        ActiveProducer {
            id,
            epoch: self.epoch,
            last_sequence: self.last_sequence(),
            last_timestamp: self.last_timestamp,
            coordinator_epoch: self.coordinator_epoch,
            transaction_start: self.transaction_start,
        }
    }

    fn last_sequence(&self) -> Option<Sequence> {
        self.batches.last().map(|batch| batch.last_sequence)
    }

    fn remember(&mut self, memo: BatchMemo) {
        if self.batches.len() == REMEMBERED_BATCHES {
            self.batches.remove(0);
        }
        self.batches.push(memo);
    }
}

/// Epoch and sequence of a producer's batch.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    id: ProducerId,
    epoch: ProducerEpoch,
    first: Sequence,
    last: Sequence,
}

/// What the leader does with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub(crate) enum Verdict {
    /// New.
    Append,
    /// Written before: answer what was answered then.
    Duplicate(BatchMemo),
}

/// A transaction marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) producer_id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
    pub(crate) coordinator_epoch: i32,
    pub(crate) result: TransactionResult,
}

/// The producers of one partition.
#[derive(Debug, Default, Clone)]
pub(crate) struct ProducerState {
    producers: HashMap<ProducerId, ProducerEntry>,
    ongoing: BTreeMap<Offset, ProducerId>,
    /// Ended transactions whose marker may still be above the high watermark: first offset -> marker offset.
    unreplicated: BTreeMap<Offset, Offset>,
    /// No producer is older: lets expiry do nothing when nothing can expire.
    oldest: Option<Timestamp>,
}

impl PartialEq for ProducerState {
    /// Equal in what the log says; `unreplicated` and `oldest` depend on when one asked.
    fn eq(&self, other: &Self) -> bool {
        self.producers == other.producers && self.ongoing == other.ongoing
    }
}

impl ProducerState {
    /// First offset of a producer's open transaction.
    pub(crate) fn transaction_start(&self, id: ProducerId) -> Option<Offset> {
        self.producers.get(&id)?.transaction_start
    }

    /// How many producers are remembered.
    pub(crate) fn len(&self) -> usize {
        self.producers.len()
    }

    /// All entries, by producer id.
    pub(crate) fn entries(&self) -> Vec<(ProducerId, &ProducerEntry)> {
        let mut entries: Vec<_> = self.producers.iter().map(|(id, entry)| (*id, entry)).collect();
        entries.sort_unstable_by_key(|(id, _)| *id);
        entries
    }

    /// Puts an entry from a snapshot in place.
    pub(crate) fn restore(&mut self, id: ProducerId, entry: ProducerEntry) {
        if let Some(start) = entry.transaction_start {
            self.ongoing.insert(start, id);
        }
        self.note_age(entry.last_timestamp);
        self.producers.insert(id, entry);
    }

    /// Rules on a batch from a client (semantics 33-35); changes nothing.
    pub(crate) fn check(&self, header: &BatchHeader) -> Result<Verdict, AppendError> {
        let Some(stamp) = stamp(header).map_err(AppendError::InvalidRecord)? else {
            return Ok(Verdict::Append);
        };
        let Some(entry) = self.producers.get(&stamp.id) else {
            return Ok(Verdict::Append);
        };
        if stamp.epoch < entry.epoch {
            return Err(AppendError::InvalidProducerEpoch {
                producer_id: stamp.id,
                current: entry.epoch,
                found: stamp.epoch,
            });
        }
        if stamp.epoch == entry.epoch {
            let repeated = entry
                .batches
                .iter()
                .find(|memo| memo.last_sequence == stamp.last && memo.first_sequence() == stamp.first);
            if let Some(memo) = repeated {
                return Ok(Verdict::Duplicate(*memo));
            }
        }
        let expected = match entry.last_sequence() {
            Some(last) if stamp.epoch == entry.epoch => last.advance_by(1),
            _ => Sequence::ZERO,
        };
        if stamp.first != expected {
            return Err(AppendError::OutOfOrderSequence {
                producer_id: stamp.id,
                epoch: stamp.epoch,
                expected,
                found: stamp.first,
            });
        }
        if entry.transaction_start.is_some() && !header.is_transactional() {
            return Err(AppendError::InvalidTxnState {
                producer_id: stamp.id,
            });
        }
        Ok(Verdict::Append)
    }

    /// Rules on a marker from a transaction coordinator; changes nothing.
    pub(crate) fn check_marker(&self, marker: &Marker) -> Result<(), AppendError> {
        let Some(entry) = self.producers.get(&marker.producer_id) else {
            return Ok(());
        };
        if marker.epoch < entry.epoch {
            return Err(AppendError::InvalidProducerEpoch {
                producer_id: marker.producer_id,
                current: entry.epoch,
                found: marker.epoch,
            });
        }
        match entry.coordinator_epoch {
            Some(current) if marker.coordinator_epoch < current => Err(AppendError::CoordinatorFenced {
                current,
                found: marker.coordinator_epoch,
            }),
            _ => Ok(()),
        }
    }

    /// A data batch is in the log.
    pub(crate) fn apply(&mut self, header: &BatchHeader) {
        let Ok(Some(stamp)) = stamp(header) else { return };
        let timestamp = header.max_timestamp;
        self.note_age(timestamp);
        let entry = self
            .producers
            .entry(stamp.id)
            .or_insert_with(|| ProducerEntry::new(stamp.epoch, timestamp));
        if entry.epoch != stamp.epoch {
            entry.epoch = stamp.epoch;
            entry.batches.clear();
        }
        entry.last_timestamp = timestamp;
        entry.remember(BatchMemo {
            last_sequence: stamp.last,
            last_offset: header.last_offset(),
            offset_delta: header.last_offset_delta,
            timestamp,
        });
        if header.is_transactional() && entry.transaction_start.is_none() {
            entry.transaction_start = Some(header.base_offset);
            self.ongoing.insert(header.base_offset, stamp.id);
        }
    }

    /// A marker is in the log, at `offset`. Gives what belongs into the transaction index, if it aborted something.
    pub(crate) fn apply_marker(
        &mut self,
        marker: &Marker,
        offset: Offset,
        timestamp: Timestamp,
    ) -> Option<AbortedTransaction> {
        self.note_age(timestamp);
        let entry = self
            .producers
            .entry(marker.producer_id)
            .or_insert_with(|| ProducerEntry::new(marker.epoch, timestamp));
        if entry.epoch != marker.epoch {
            entry.epoch = marker.epoch;
            entry.batches.clear();
        }
        entry.coordinator_epoch = Some(marker.coordinator_epoch);
        entry.last_timestamp = timestamp;
        let first_offset = entry.transaction_start.take()?;
        self.ongoing.remove(&first_offset);
        self.unreplicated.insert(first_offset, offset);
        (marker.result == TransactionResult::Abort).then(|| AbortedTransaction {
            producer_id: marker.producer_id,
            first_offset,
            last_offset: offset,
            last_stable_offset: self.first_ongoing().unwrap_or(offset.next()),
        })
    }

    /// First offset of the oldest open transaction.
    pub(crate) fn first_ongoing(&self) -> Option<Offset> {
        self.ongoing.first_key_value().map(|(first, _)| *first)
    }

    /// First offset that readers of committed data cannot pass yet, seen from a high watermark.
    pub(crate) fn first_unstable(&self, high_watermark: Offset) -> Option<Offset> {
        let undecided = self
            .unreplicated
            .iter()
            .find(|(_, marker)| **marker >= high_watermark)
            .map(|(first, _)| *first);
        match (undecided, self.first_ongoing()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// Markers below the high watermark are decided for good.
    pub(crate) fn forget_replicated(&mut self, high_watermark: Offset) {
        self.unreplicated.retain(|_, marker| *marker >= high_watermark);
    }

    fn note_age(&mut self, timestamp: Timestamp) {
        self.oldest = Some(self.oldest.map_or(timestamp, |oldest| oldest.min(timestamp)));
    }

    /// Forgets producers that have been idle for `expiration_ms` (semantic 36). Does nothing when none can be.
    pub(crate) fn expire(&mut self, now: Timestamp, expiration_ms: i64) -> usize {
        let expired = |at: Timestamp| now.distance_from_ms(at) >= expiration_ms;
        if !self.oldest.is_some_and(expired) {
            return 0;
        }
        let before = self.producers.len();
        self.producers
            .retain(|_, entry| entry.transaction_start.is_some() || !expired(entry.last_timestamp));
        self.oldest = self.producers.values().map(|entry| entry.last_timestamp).min();
        before - self.producers.len()
    }

    /// Forgets the longest idle tenth when there are more than `limit`: a client that makes a producer per message
    /// must not eat the broker's memory (hostile input 56).
    pub(crate) fn enforce_limit(&mut self, limit: usize) {
        if self.producers.len() <= limit {
            return;
        }
        let mut idle: Vec<_> = self
            .producers
            .iter()
            .filter(|(_, entry)| entry.transaction_start.is_none())
            .map(|(id, entry)| (entry.last_timestamp, *id))
            .collect();
        idle.sort_unstable();
        let excess = self.producers.len() - limit + limit / 10;
        for (_, id) in idle.into_iter().take(excess) {
            self.producers.remove(&id);
        }
    }
}

/// Reads a batch's producer fields; all or none must be there (hostile input 48).
fn stamp(header: &BatchHeader) -> Result<Option<Stamp>, InvalidRecord> {
    match (header.producer_id, header.producer_epoch, header.base_sequence) {
        (Some(id), Some(epoch), Some(first)) => Ok(Some(Stamp {
            id,
            epoch,
            first,
            last: first.advance_by(header.last_offset_delta),
        })),
        (None, _, _) if header.is_transactional() => Err(InvalidRecord::TransactionalWithoutProducer),
        // Without an id, epoch and sequence mean nothing.
        (None, _, _) => Ok(None),
        (Some(_), _, _) => Err(InvalidRecord::IncompleteProducer),
    }
}

#[cfg(test)]
mod tests;
