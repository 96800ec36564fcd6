//! What becomes of each batch: copied as it is, written anew with fewer records, or dropped (semantics 70, 71).
//!
//! Rules, in order:
//! - beyond what the offset map covers, everything stays;
//! - data of aborted transactions goes; a marker goes once its data is gone and its horizon has passed;
//! - of each key only the latest record stays; a tombstone goes when the horizon of its batch has passed;
//! - a batch left without records stays, empty, while it holds the last sequence of a live producer, or the end of
//!   the cleaned stretch; otherwise it goes.
//!
//! The horizon is set when a batch with tombstones, or a marker without data, is first cleaned: then everything a
//! tombstone shadows has just been removed, and readers have `delete.retention.ms` to learn of it (KIP-534).

use std::collections::HashMap;

use bytes::Bytes;
use highwater_types::record::control::ControlType;
use highwater_types::record::{BatchError, BatchHeader, DecodeLimits, DecodedBatch, RecordBatch, RecordView};
use highwater_types::{Offset, ProducerEpoch, ProducerId, Timestamp};

use super::offset_map::OffsetMap;
use super::transactions::{Aborted, Traversed};
use crate::txn_index::AbortedTransaction;

/// What a live producer wrote last.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastOfProducer {
    pub(crate) epoch: ProducerEpoch,
    /// Last offset of its last batch; `None` when only a marker is known of it.
    pub(crate) last_data_offset: Option<Offset>,
}

/// What becomes of a batch.
#[derive(Debug)]
pub(super) enum Verdict {
    Copy,
    Rewrite(Bytes),
    Drop,
}

/// Numbers for the report.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Counts {
    pub(super) records_read: u64,
    pub(super) records_kept: u64,
    pub(super) tombstones_removed: u64,
    pub(super) without_key: u64,
    pub(super) undecodable_batches: u64,
}

/// Decides about the batches of one cleaning, which come in the order of the log.
#[derive(Debug)]
pub(super) struct Filter<'a> {
    pub(super) map: &'a OffsetMap,
    /// Last offset the map covers.
    pub(super) covered: Offset,
    /// End of the last batch the map covers.
    pub(super) covered_end: Option<Offset>,
    pub(super) aborted: Aborted,
    pub(super) traversed: Traversed,
    pub(super) producers: HashMap<ProducerId, LastOfProducer>,
    pub(super) now: Timestamp,
    pub(super) delete_retention_ms: i64,
    pub(super) counts: Counts,
    /// Earliest horizon among what stays.
    pub(super) next_horizon: Option<Timestamp>,
    /// Entries for the transaction index of the segment being written.
    pub(super) index_entries: Vec<AbortedTransaction>,
}

impl Filter<'_> {
    /// # Errors
    /// A batch that cannot be written anew.
    pub(super) fn judge(&mut self, batch: &RecordBatch) -> Result<Verdict, BatchError> {
        let header = batch.header();
        let verdict = match header.is_control() {
            true => self.judge_control(batch)?,
            false => self.judge_data(batch)?,
        };
        let horizon = match &verdict {
            Verdict::Copy => header.delete_horizon(),
            Verdict::Rewrite(bytes) => BatchHeader::parse(bytes)?.delete_horizon(),
            Verdict::Drop => None,
        };
        // One that had passed before has done its work: what it still stands on is values.
        let is_pending = header.delete_horizon().is_none_or(|known| known > self.now);
        if let Some(horizon) = horizon.filter(|_| is_pending) {
            self.next_horizon = Some(self.next_horizon.map_or(horizon, |known| known.min(horizon)));
        }
        Ok(verdict)
    }

    fn horizon_passed(&self, header: &BatchHeader) -> bool {
        header.delete_horizon().is_some_and(|horizon| horizon <= self.now)
    }

    fn new_horizon(&self) -> Timestamp {
        self.now.advance_by_ms(self.delete_retention_ms)
    }

    fn is_covered(&self, header: &BatchHeader) -> bool {
        header.last_offset() <= self.covered
    }

    fn judge_control(&mut self, batch: &RecordBatch) -> Result<Verdict, BatchError> {
        let header = batch.header();
        let is_unused = match (control_type(batch), header.producer_id) {
            // Its transaction is gone already.
            (Control::Empty, _) => true,
            (Control::EndOfTransaction, Some(producer)) => {
                let has_data = self.traversed.marker(producer);
                if has_data {
                    let entry = Traversed::index_entry(&self.aborted, header);
                    self.index_entries.extend(entry);
                }
                !has_data
            }
            (Control::EndOfTransaction | Control::Other, _) => false,
        };
        self.counts.records_read += header.record_count as u64;
        if !is_unused || !self.is_covered(header) {
            self.counts.records_kept += header.record_count as u64;
            return Ok(Verdict::Copy);
        }
        if header.record_count == 0 || self.horizon_passed(header) {
            return Ok(self.without_records(header));
        }
        self.counts.records_kept += header.record_count as u64;
        if header.delete_horizon().is_some() {
            return Ok(Verdict::Copy);
        }
        let decoded = batch.decode(DecodeLimits::default())?;
        decoded
            .retain(Some(self.new_horizon()), |_| true)
            .map(Verdict::Rewrite)
    }

    fn judge_data(&mut self, batch: &RecordBatch) -> Result<Verdict, BatchError> {
        let header = batch.header();
        self.traversed.data(header);
        let count = header.record_count as u64;
        self.counts.records_read += count;
        if header.base_offset > self.covered {
            self.counts.records_kept += count;
            return Ok(Verdict::Copy);
        }
        if count == 0 || (self.is_covered(header) && self.aborted.is_aborted(header)) {
            return Ok(self.without_records(header));
        }
        let decoded = match batch.decode(DecodeLimits::default()) {
            Ok(decoded) => decoded,
            Err(error) => return Ok(self.undecodable(header, &error)),
        };
        let choice = match self.choose(&decoded) {
            Ok(choice) => choice,
            Err(error) => return Ok(self.undecodable(header, &error)),
        };
        self.counts.records_kept += choice.kept;
        self.counts.tombstones_removed += choice.tombstones_removed;
        self.counts.without_key += choice.without_key;
        if choice.kept == 0 {
            return Ok(self.without_records(header));
        }
        // A batch that the map covers only in part is cleaned again, and gets its horizon then.
        let sets_horizon =
            choice.has_tombstone && header.delete_horizon().is_none() && self.is_covered(header);
        if choice.kept == count && !sets_horizon {
            return Ok(Verdict::Copy);
        }
        let horizon = sets_horizon.then(|| self.new_horizon());
        let mut keep = choice.keep.iter();
        decoded
            .retain(horizon, |_| keep.next().copied().unwrap_or(true))
            .map(Verdict::Rewrite)
    }

    fn choose(&self, decoded: &DecodedBatch) -> Result<Choice, BatchError> {
        let tombstones_stay = !self.horizon_passed(decoded.header());
        let mut choice = Choice::default();
        for record in decoded.views() {
            let record = record?;
            let fate = self.fate(&record, tombstones_stay);
            choice.keep.push(fate == Fate::Kept);
            match fate {
                Fate::Kept => {
                    choice.kept += 1;
                    choice.has_tombstone |= record.value.is_none();
                }
                Fate::Superseded => {}
                Fate::ExpiredTombstone => choice.tombstones_removed += 1,
                Fate::WithoutKey => choice.without_key += 1,
            }
        }
        Ok(choice)
    }

    fn fate(&self, record: &RecordView<'_>, tombstones_stay: bool) -> Fate {
        if record.offset > self.covered {
            return Fate::Kept;
        }
        match record.key {
            None => Fate::WithoutKey,
            Some(key) if self.map.get(key).is_some_and(|latest| latest > record.offset) => Fate::Superseded,
            Some(_) if record.value.is_none() && !tombstones_stay => Fate::ExpiredTombstone,
            Some(_) => Fate::Kept,
        }
    }

    /// A topic that was not compacted may hold what nobody can read; it is not ours to lose.
    fn undecodable(&mut self, header: &BatchHeader, error: &BatchError) -> Verdict {
        tracing::warn!(base_offset = %header.base_offset, %error, "batch cannot be decoded and is kept as it is");
        self.counts.undecodable_batches += 1;
        self.counts.records_kept += header.record_count as u64;
        Verdict::Copy
    }

    fn without_records(&self, header: &BatchHeader) -> Verdict {
        let is_last_of_producer = header
            .producer_id
            .and_then(|id| self.producers.get(&id))
            .is_some_and(|last| match last.last_data_offset {
                Some(offset) => header.last_offset() == offset,
                None => header.is_control() && header.producer_epoch == Some(last.epoch),
            });
        if !is_last_of_producer && Some(header.next_offset()) != self.covered_end {
            return Verdict::Drop;
        }
        match header.record_count {
            0 => Verdict::Copy,
            _ => Verdict::Rewrite(header.emptied()),
        }
    }
}

#[derive(Debug, Default)]
struct Choice {
    keep: Vec<bool>,
    kept: u64,
    has_tombstone: bool,
    tombstones_removed: u64,
    without_key: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Superseded,
    ExpiredTombstone,
    WithoutKey,
}

enum Control {
    Empty,
    EndOfTransaction,
    Other,
}

fn control_type(batch: &RecordBatch) -> Control {
    if batch.header().record_count == 0 {
        return Control::Empty;
    }
    let read = || {
        let decoded = batch.decode(DecodeLimits::default()).ok()?;
        let record = decoded.views().next()?.ok()?;
        ControlType::parse_key(record.key?).ok()
    };
    match read() {
        Some(ControlType::Abort | ControlType::Commit) => Control::EndOfTransaction,
        _ => Control::Other,
    }
}
