//! What waits to be sent, per partition, and the order it must be sent in. No IO here: callers append, the sender
//! takes and gives back.
//!
//! # Invariants
//! - A queue is ordered: batches that were taken before (they have an `order`) stand in front, ascending.
//! - With idempotence, sequences of a partition follow the order of batches without a gap, until a batch fails for
//!   good; the broker then refuses the next one and the partition starts over under a new epoch.
//! - While a batch of a partition is to be repeated, nothing else of that partition is taken until all that is in
//!   flight has come back, so that repeats keep their order (semantic 34).

use std::collections::{HashMap, VecDeque};

use highwater_types::{
    ProducerEpoch, ProducerId, Sequence, Timestamp, TopicPartition,
    record::{BatchBuilder, Compression, ProducerStamp},
};
use tokio::time::Instant;

use super::{
    ProducerConfig, ProducerRecord,
    batch::{Batch, OutcomeFuture},
};

/// Where an appended record went.
pub(super) struct Appended {
    pub(super) outcome: OutcomeFuture,
    pub(super) index: i32,
    pub(super) wake_sender: bool,
}

/// Who writes to a partition at the moment.
#[derive(Debug, Clone, Copy)]
struct Identity {
    id: ProducerId,
    epoch: ProducerEpoch,
    next_sequence: Sequence,
    /// Whether the broker has taken a batch of it. Before, it accepts any first sequence (semantic 34), so a second
    /// batch in flight could pass the first.
    confirmed: bool,
}

/// Whether the records of a batch that is done with are in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Written,
    NotWritten,
    Unknown,
}

/// One partition's batches.
#[derive(Debug, Default)]
pub(super) struct PartitionQueue {
    batches: VecDeque<Batch>,
    open_outcome: Option<OutcomeFuture>,
    /// Orders of the batches in flight, ascending.
    in_flight: Vec<u64>,
    next_order: u64,
    identity: Option<Identity>,
    /// The sequence is broken; when nothing is in flight any more the partition starts over under a new epoch.
    reset_pending: bool,
    /// The epochs of the id have run out; the next take asks for another id.
    id_used_up: bool,
    not_before: Option<Instant>,
}

/// Whether and when a partition has something to send.
pub(super) enum Readiness {
    Ready,
    At(Instant),
    Blocked,
}

/// What was found when a batch of an idempotent partition was refused for its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SequenceBreak {
    /// An earlier batch is not written yet; repeating in order cures it.
    EarlierUnresolved,
    /// Nothing of ours is missing before it: the partition has to start over.
    StateLost,
}

impl PartitionQueue {
    fn readiness(&self, limits: &Limits, now: Instant, hurry: bool) -> Readiness {
        let Some(first) = self.batches.front() else {
            return Readiness::Blocked;
        };
        let repeating = first.order.is_some() || self.reset_pending;
        let unconfirmed = limits.idempotent && !self.identity.is_some_and(|identity| identity.confirmed);
        let max_in_flight = if unconfirmed { 1 } else { limits.max_in_flight };
        if self.in_flight.len() >= max_in_flight || (repeating && !self.in_flight.is_empty()) {
            return Readiness::Blocked; // a completion wakes the sender
        }
        if let Some(at) = self.not_before.filter(|at| *at > now) {
            return Readiness::At(at);
        }
        let full = self.batches.len() > 1 || first.size_bytes() >= limits.batch_bytes;
        let lingered = first.created_at + limits.linger;
        if first.order.is_some() || hurry || full || lingered <= now {
            Readiness::Ready
        } else {
            Readiness::At(lingered)
        }
    }

    fn push_back_in_order(&mut self, batch: Batch) {
        let at = self
            .batches
            .iter()
            .position(|other| match (other.place(), batch.place()) {
                (Some(other), Some(own)) => other > own,
                (None, _) => true,
                (Some(_), None) => false,
            });
        self.batches.insert(at.unwrap_or(self.batches.len()), batch);
    }

    fn landed(&mut self, order: Option<u64>) {
        self.in_flight.retain(|in_flight| Some(*in_flight) != order);
    }

    /// Starts over under the next epoch once nothing is in flight. Gives the batches that could not be decoded.
    fn reset_if_settled(&mut self) -> Vec<Batch> {
        if !self.reset_pending || !self.in_flight.is_empty() {
            return Vec::new();
        }
        self.reset_pending = false;
        self.identity = self.identity.and_then(|identity| {
            Some(Identity {
                epoch: identity.epoch.next()?,
                next_sequence: Sequence::ZERO,
                confirmed: false,
                ..identity
            })
        });
        self.id_used_up = self.identity.is_none();
        let mut broken = Vec::new();
        for mut batch in std::mem::take(&mut self.batches) {
            match batch.unstamp() {
                Ok(()) => self.batches.push_back(batch),
                Err(_) => broken.push(batch),
            }
        }
        broken
    }
}

#[derive(Debug)]
struct Limits {
    batch_bytes: usize,
    linger: std::time::Duration,
    max_in_flight: usize,
    idempotent: bool,
    compression: Compression,
}

/// All partitions.
#[derive(Debug)]
pub(super) struct Accumulator {
    limits: Limits,
    queues: HashMap<TopicPartition, PartitionQueue>,
    next_completion: u64,
    incomplete: HashMap<u64, OutcomeFuture>,
    producer: Option<(ProducerId, ProducerEpoch)>,
    flushes: usize,
    closed: bool,
}

/// What [`Accumulator::take`] gives.
pub(super) enum Taken {
    Batch(Box<Batch>),
    /// An idempotent partition needs a producer id first.
    NeedsProducerId,
    Nothing,
}

impl Accumulator {
    pub(super) fn new(config: &ProducerConfig) -> Self {
        let idempotent = config.is_idempotent();
        Self {
            limits: Limits {
                batch_bytes: config.batch_bytes,
                linger: config.linger,
                // Without sequences a repeat would pass the batches behind it, so there is only one at a time.
                max_in_flight: if idempotent { config.max_in_flight } else { 1 },
                idempotent,
                compression: config.compression,
            },
            queues: HashMap::new(),
            next_completion: 0,
            incomplete: HashMap::new(),
            producer: None,
            flushes: 0,
            closed: false,
        }
    }

    /// Adds a record; `None` when the producer is closed.
    pub(super) fn append(
        &mut self,
        tp: &TopicPartition,
        timestamp: Timestamp,
        record: &ProducerRecord,
        charged_bytes: usize,
    ) -> Option<Appended> {
        if self.closed {
            return None;
        }
        if !self.queues.contains_key(tp) {
            self.queues.insert(tp.clone(), PartitionQueue::default());
        }
        let queue = self.queues.get_mut(tp)?;
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let record_bytes = BatchBuilder::record_size_bound(key, value, &record.headers);
        let room = self.limits.batch_bytes;
        let fits = queue
            .batches
            .back_mut()
            .and_then(Batch::builder)
            .is_some_and(|builder| builder.estimated_size_bytes() + record_bytes <= room);
        let outcome = match queue.open_outcome.clone().filter(|_| fits) {
            Some(outcome) => outcome,
            None => {
                let (batch, outcome) = Batch::open(self.next_completion, self.limits.compression);
                self.incomplete.insert(self.next_completion, outcome.clone());
                self.next_completion += 1;
                queue.batches.push_back(batch);
                queue.open_outcome = Some(outcome.clone());
                outcome
            }
        };
        let batch = queue.batches.back_mut()?;
        let builder = batch.builder()?;
        let opened = builder.record_count() == 0;
        builder.append(timestamp, key, value, &record.headers);
        let full = builder.estimated_size_bytes() >= room;
        let index = batch.count_record(charged_bytes);
        Some(Appended {
            outcome,
            index,
            wake_sender: opened || full,
        })
    }

    /// Partitions with something to send, the one that waited longest first, and when to look again.
    pub(super) fn ready(&self, now: Instant) -> (Vec<TopicPartition>, Option<Instant>) {
        let hurry = self.flushes > 0 || self.closed;
        let mut ready = Vec::new();
        let mut next: Option<Instant> = None;
        for (tp, queue) in &self.queues {
            match queue.readiness(&self.limits, now, hurry) {
                Readiness::Ready => {
                    let created_at = queue.batches.front().map(|batch| batch.created_at);
                    ready.push((created_at, tp));
                }
                Readiness::At(at) => next = Some(next.map_or(at, |next| next.min(at))),
                Readiness::Blocked => {}
            }
        }
        ready.sort_by_key(|(created_at, _)| *created_at);
        (ready.into_iter().map(|(_, tp)| tp.clone()).collect(), next)
    }

    /// Size of the partition's next batch, for filling a request.
    pub(super) fn next_size_bytes(&self, tp: &TopicPartition) -> usize {
        self.queues
            .get(tp)
            .and_then(|queue| queue.batches.front())
            .map_or(0, Batch::size_bytes)
    }

    /// Sets the id that partitions start with from now on.
    pub(super) fn set_producer(&mut self, id: ProducerId, epoch: ProducerEpoch) {
        self.producer = Some((id, epoch));
    }

    /// Takes the partition's next batch for sending, in sequence.
    pub(super) fn take(&mut self, tp: &TopicPartition) -> Taken {
        let idempotent = self.limits.idempotent;
        let Some(queue) = self.queues.get_mut(tp) else {
            return Taken::Nothing;
        };
        if queue.batches.is_empty() {
            return Taken::Nothing;
        }
        if idempotent && queue.identity.is_none() {
            if std::mem::take(&mut queue.id_used_up) {
                self.producer = None;
            }
            let Some((id, epoch)) = self.producer else {
                return Taken::NeedsProducerId;
            };
            queue.identity = Some(Identity {
                id,
                epoch,
                next_sequence: Sequence::ZERO,
                confirmed: false,
            });
        }
        let Some(mut batch) = queue.batches.pop_front() else {
            return Taken::Nothing;
        };
        if queue.batches.is_empty() {
            queue.open_outcome = None;
        }
        let order = *batch.order.get_or_insert_with(|| {
            queue.next_order += 1;
            queue.next_order
        });
        if let Some(identity) = queue.identity.as_mut().filter(|_| batch.stamp.is_none()) {
            batch.stamp = Some(ProducerStamp {
                id: identity.id,
                epoch: identity.epoch,
                base_sequence: Some(identity.next_sequence),
            });
            identity.next_sequence = identity.next_sequence.advance_by(batch.record_count());
        }
        queue.in_flight.push(order);
        batch.attempts += 1;
        Taken::Batch(Box::new(batch))
    }

    /// Gives batches back to be sent again, not before `not_before`. Their turn in the order is kept.
    pub(super) fn give_back(
        &mut self,
        tp: &TopicPartition,
        batches: impl IntoIterator<Item = Batch>,
        not_before: Option<Instant>,
    ) -> Vec<Batch> {
        let Some(queue) = self.queues.get_mut(tp) else {
            return Vec::new();
        };
        for batch in batches {
            queue.landed(batch.order);
            queue.push_back_in_order(batch);
        }
        queue.not_before = queue.not_before.max(not_before);
        queue.reset_if_settled()
    }

    /// Notes that a batch is done with. A batch that was certainly not written leaves no gap when nothing was
    /// stamped after it. Gives batches that have to be failed.
    pub(super) fn finish(&mut self, tp: &TopicPartition, batch: &Batch, fate: Fate) -> Vec<Batch> {
        let Some(queue) = self.queues.get_mut(tp) else {
            return Vec::new();
        };
        queue.landed(batch.order);
        if let (Some(identity), Some(stamp)) = (&mut queue.identity, batch.stamp)
            && (identity.id, identity.epoch) == (stamp.id, stamp.epoch)
        {
            let was_last = Some(identity.next_sequence) == batch.next_sequence();
            match (fate, stamp.base_sequence) {
                (Fate::Written, _) => identity.confirmed = true,
                (Fate::NotWritten, Some(base)) if was_last => identity.next_sequence = base,
                (Fate::NotWritten | Fate::Unknown, _) => {}
            }
        }
        queue.reset_if_settled()
    }

    /// Judges a refused sequence.
    pub(super) fn judge_sequence(&self, tp: &TopicPartition, batch: &Batch) -> SequenceBreak {
        let Some(queue) = self.queues.get(tp) else {
            return SequenceBreak::StateLost;
        };
        let unresolved = queue.in_flight.iter().any(|order| Some(*order) < batch.order)
            || queue
                .batches
                .iter()
                .any(|other| other.order.is_some() && other.place() < batch.place());
        if unresolved || queue.reset_pending {
            SequenceBreak::EarlierUnresolved
        } else {
            SequenceBreak::StateLost
        }
    }

    /// Lets the partition start over under a new epoch as soon as nothing is in flight.
    pub(super) fn reset_sequence(&mut self, tp: &TopicPartition) {
        if let Some(queue) = self.queues.get_mut(tp) {
            queue.reset_pending = true;
        }
    }

    /// Removes the batches that waited past `created_before`.
    pub(super) fn expire(&mut self, created_before: Instant) -> Vec<(TopicPartition, Batch)> {
        let mut expired = Vec::new();
        for (tp, queue) in &mut self.queues {
            while queue
                .batches
                .front()
                .is_some_and(|batch| batch.created_at <= created_before)
            {
                expired.extend(queue.batches.pop_front().map(|batch| (tp.clone(), batch)));
            }
            if queue.batches.is_empty() {
                queue.open_outcome = None;
            }
        }
        expired
    }

    /// When the oldest waiting batch was created.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.queues
            .values()
            .filter_map(|queue| queue.batches.front())
            .map(|batch| batch.created_at)
            .min()
    }

    /// Removes everything that waits.
    pub(super) fn drain(&mut self) -> Vec<(TopicPartition, Batch)> {
        let mut drained = Vec::new();
        for (tp, queue) in &mut self.queues {
            queue.open_outcome = None;
            drained.extend(queue.batches.drain(..).map(|batch| (tp.clone(), batch)));
        }
        drained
    }

    pub(super) fn completed(&mut self, completion_id: u64) {
        self.incomplete.remove(&completion_id);
    }

    /// Stops lingering until [`end_flush`](Self::end_flush); gives what has to be waited for.
    pub(super) fn begin_flush(&mut self) -> Vec<OutcomeFuture> {
        self.flushes += 1;
        self.incomplete.values().cloned().collect()
    }

    pub(super) fn end_flush(&mut self) {
        self.flushes -= 1;
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Closed, and every record resolved.
    pub(super) fn is_finished(&self) -> bool {
        self.closed && self.incomplete.is_empty()
    }
}
