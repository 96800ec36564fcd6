//! What this consumer reads and how far it is: one state per assigned partition. No IO here; the fetcher asks what to
//! do and reports what came, poll takes records out.
//!
//! # Invariants
//! - `position` is what poll has given out; `fetch_from` runs ahead of it by what is buffered.
//! - Every assignment and seek gives a partition a new token; what was asked under an older token is dropped, so a
//!   fetch that was under way can never bring back records from before a seek.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use highwater_types::{
    LeaderEpoch, Offset, TopicPartition,
    record::{BatchError, Record},
};
use tokio::time::Instant;

use super::{AutoOffsetReset, PartitionRecords};
use crate::{ConsumeError, limits};

/// Marks what was asked for under which state of the partition.
pub(super) type Token = u64;

/// How far along a partition is in finding its position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Ask the group for its committed offset.
    Committed,
    /// Ask the broker for the end of the log that the policy names.
    Reset(ResetTo),
    /// Known.
    Known,
    /// Not to be found without help; the error has been reported and a seek clears it.
    Stuck,
}

/// Where a partition without position starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResetTo {
    Beginning,
    End,
}

impl AutoOffsetReset {
    fn target(self) -> Option<ResetTo> {
        match self {
            Self::Earliest => Some(ResetTo::Beginning),
            Self::Latest => Some(ResetTo::End),
            Self::None => None,
        }
    }
}

/// Decoded records that wait to be polled.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) records: Vec<Record>,
    /// Where the position is after all of it.
    pub(super) next_offset: Offset,
    pub(super) epoch: Option<LeaderEpoch>,
    pub(super) size_bytes: usize,
    pub(super) failure: Option<(Offset, BatchError)>,
}

#[derive(Debug)]
struct Partition {
    token: Token,
    place: Place,
    position: Offset,
    position_epoch: Option<LeaderEpoch>,
    fetch_from: Offset,
    /// The leader epoch under which the position was last found to be part of the log (KIP-320).
    validated: Option<LeaderEpoch>,
    paused: bool,
    busy: bool,
    not_before: Option<Instant>,
    chunks: VecDeque<Chunk>,
    high_watermark: Option<Offset>,
    last_stable_offset: Option<Offset>,
}

impl Partition {
    fn new(token: Token, place: Place) -> Self {
        Self {
            token,
            place,
            position: Offset::ZERO,
            position_epoch: None,
            fetch_from: Offset::ZERO,
            validated: None,
            paused: false,
            busy: false,
            not_before: None,
            chunks: VecDeque::new(),
            high_watermark: None,
            last_stable_offset: None,
        }
    }

    fn is_due(&self, now: Instant) -> bool {
        !self.busy && self.not_before.is_none_or(|at| at <= now)
    }
}

/// Something the fetcher should ask for.
#[derive(Debug, Clone)]
pub(super) struct Wanted<T> {
    pub(super) tp: TopicPartition,
    pub(super) token: Token,
    pub(super) what: T,
}

/// A position to check against the log of a new leader.
#[derive(Debug, Clone, Copy)]
pub(super) struct Check {
    pub(super) position: Offset,
    pub(super) position_epoch: LeaderEpoch,
    pub(super) leader_epoch: LeaderEpoch,
}

/// All partitions of a consumer.
#[derive(Debug)]
pub(super) struct Positions {
    partitions: BTreeMap<TopicPartition, Partition>,
    next_token: Token,
    reset: AutoOffsetReset,
    start: Place,
    buffered_bytes: usize,
    /// Where the next poll begins, so that no partition starves behind a busy one.
    turn: Option<TopicPartition>,
}

impl Positions {
    /// `has_group` says whether committed offsets exist to start from.
    pub(super) fn new(reset: AutoOffsetReset, has_group: bool) -> Self {
        let start = match reset.target() {
            _ if has_group => Place::Committed,
            Some(target) => Place::Reset(target),
            None => Place::Stuck,
        };
        Self {
            partitions: BTreeMap::new(),
            next_token: 0,
            reset,
            start,
            buffered_bytes: 0,
            turn: None,
        }
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        self.next_token
    }

    pub(super) fn assigned(&self) -> Vec<TopicPartition> {
        self.partitions.keys().cloned().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.partitions.is_empty()
    }

    pub(super) fn paused(&self) -> Vec<TopicPartition> {
        self.partitions
            .iter()
            .filter(|(_, p)| p.paused)
            .map(|(tp, _)| tp.clone())
            .collect()
    }

    pub(super) fn add(&mut self, added: impl IntoIterator<Item = TopicPartition>) {
        for tp in added {
            let partition = Partition::new(self.token(), self.start);
            self.partitions.entry(tp).or_insert(partition);
        }
    }

    pub(super) fn remove<'a>(&mut self, removed: impl IntoIterator<Item = &'a TopicPartition>) {
        for tp in removed {
            if let Some(partition) = self.partitions.remove(tp) {
                self.release(&partition.chunks);
            }
        }
    }

    /// Keeps the state of partitions that stay.
    pub(super) fn replace(&mut self, partitions: BTreeSet<TopicPartition>) {
        let gone: Vec<_> = self
            .partitions
            .keys()
            .filter(|tp| !partitions.contains(*tp))
            .cloned()
            .collect();
        self.remove(&gone);
        self.add(partitions);
    }

    fn release(&mut self, chunks: &VecDeque<Chunk>) {
        self.buffered_bytes -= chunks.iter().map(|chunk| chunk.size_bytes).sum::<usize>();
    }

    fn get_mut(&mut self, tp: &TopicPartition) -> Result<&mut Partition, ConsumeError> {
        self.partitions
            .get_mut(tp)
            .ok_or_else(|| ConsumeError::NotAssigned {
                topic_partition: tp.clone(),
            })
    }

    fn restart(&mut self, tp: &TopicPartition, place: Place) -> Result<&mut Partition, ConsumeError> {
        let token = self.token();
        let partition = self.get_mut(tp)?;
        partition.token = token;
        partition.place = place;
        partition.busy = false;
        partition.not_before = None;
        partition.position_epoch = None;
        partition.validated = None;
        let chunks = std::mem::take(&mut partition.chunks);
        self.release(&chunks);
        self.get_mut(tp)
    }

    pub(super) fn seek(&mut self, tp: &TopicPartition, offset: Offset) -> Result<(), ConsumeError> {
        let partition = self.restart(tp, Place::Known)?;
        partition.position = offset;
        partition.fetch_from = offset;
        Ok(())
    }

    pub(super) fn seek_to(&mut self, tp: &TopicPartition, target: ResetTo) -> Result<(), ConsumeError> {
        self.restart(tp, Place::Reset(target)).map(|_| ())
    }

    pub(super) fn set_paused(&mut self, tp: &TopicPartition, paused: bool) -> Result<(), ConsumeError> {
        self.get_mut(tp)?.paused = paused;
        Ok(())
    }

    /// The position, or `None` while it is being looked up.
    pub(super) fn position(&self, tp: &TopicPartition) -> Result<Option<Offset>, ConsumeError> {
        match self.partitions.get(tp) {
            Some(partition) => Ok((partition.place == Place::Known).then_some(partition.position)),
            None => Err(ConsumeError::NotAssigned {
                topic_partition: tp.clone(),
            }),
        }
    }

    /// Known positions with the epoch of the last record before them, for committing.
    pub(super) fn consumed(&self) -> BTreeMap<TopicPartition, (Offset, Option<LeaderEpoch>)> {
        let known = self.partitions.iter().filter(|(_, p)| p.place == Place::Known);
        known
            .map(|(tp, p)| (tp.clone(), (p.position, p.position_epoch)))
            .collect()
    }

    /// Records between position and the end that this consumer may read, where the end is known.
    pub(super) fn lag(&self) -> BTreeMap<TopicPartition, i64> {
        let lag = |p: &Partition| {
            let end = p.last_stable_offset.or(p.high_watermark)?;
            (p.place == Place::Known).then(|| end.distance_from(p.position).max(0))
        };
        self.partitions
            .iter()
            .filter_map(|(tp, p)| Some((tp.clone(), lag(p)?)))
            .collect()
    }

    // What to ask for. Everything given out is marked busy until it is reported on.

    pub(super) fn wants_committed(&mut self, now: Instant) -> Vec<Wanted<()>> {
        self.claim(now, |p| (p.place == Place::Committed).then_some(()))
    }

    pub(super) fn wants_reset(&mut self, now: Instant) -> Vec<Wanted<ResetTo>> {
        self.claim(now, |p| match p.place {
            Place::Reset(target) => Some(target),
            Place::Committed | Place::Known | Place::Stuck => None,
        })
    }

    /// Positions whose leader has changed since they were last known to be good. `leader_epoch` gives the current
    /// one, when the cluster tells it.
    pub(super) fn wants_check(
        &mut self,
        now: Instant,
        leader_epoch: impl Fn(&TopicPartition) -> Option<LeaderEpoch>,
    ) -> Vec<Wanted<Check>> {
        let mut wanted = Vec::new();
        for (tp, p) in &mut self.partitions {
            let Some(leader_epoch) = leader_epoch(tp).filter(|_| p.place == Place::Known) else {
                continue;
            };
            if p.validated == Some(leader_epoch) {
                continue;
            }
            let Some(position_epoch) = p.position_epoch.filter(|_| p.is_due(now)) else {
                if p.position_epoch.is_none() {
                    p.validated = Some(leader_epoch); // nothing read yet that could have been cut away
                }
                continue;
            };
            p.busy = true;
            let what = Check {
                position: p.position,
                position_epoch,
                leader_epoch,
            };
            wanted.push(Wanted {
                tp: tp.clone(),
                token: p.token,
                what,
            });
        }
        wanted
    }

    /// Partitions with room for more, and the offset to fetch next. Not marked busy; see [`Positions::begin_fetch`].
    pub(super) fn fetchable(&self, now: Instant, max_buffered_bytes: usize) -> Vec<Wanted<Offset>> {
        if self.buffered_bytes >= max_buffered_bytes {
            return Vec::new();
        }
        let room = |p: &Partition| {
            p.chunks.len() < limits::MAX_BUFFERED_CHUNKS_PER_PARTITION
                && p.chunks.back().is_none_or(|chunk| chunk.failure.is_none())
        };
        let ready = self
            .partitions
            .iter()
            .filter(|(_, p)| p.place == Place::Known && !p.paused && p.is_due(now) && room(p));
        ready
            .map(|(tp, p)| Wanted {
                tp: tp.clone(),
                token: p.token,
                what: p.fetch_from,
            })
            .collect()
    }

    pub(super) fn begin_fetch(&mut self, tp: &TopicPartition) {
        if let Some(partition) = self.partitions.get_mut(tp) {
            partition.busy = true;
        }
    }

    /// When a partition that waits after an error may be asked about again.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.partitions
            .values()
            .filter(|p| !p.busy)
            .filter_map(|p| p.not_before)
            .min()
    }

    fn claim<T>(&mut self, now: Instant, want: impl Fn(&Partition) -> Option<T>) -> Vec<Wanted<T>> {
        let mut wanted = Vec::new();
        for (tp, p) in &mut self.partitions {
            if let Some(what) = want(p).filter(|_| p.is_due(now)) {
                p.busy = true;
                wanted.push(Wanted {
                    tp: tp.clone(),
                    token: p.token,
                    what,
                });
            }
        }
        wanted
    }

    // What came.

    /// The partition, if it is still in the state in which it was asked about.
    fn current(&mut self, tp: &TopicPartition, token: Token) -> Option<&mut Partition> {
        let partition = self.partitions.get_mut(tp).filter(|p| p.token == token)?;
        partition.busy = false;
        Some(partition)
    }

    /// The group's committed offset; `None` sends the partition to its reset policy.
    pub(super) fn found_committed(
        &mut self,
        tp: &TopicPartition,
        token: Token,
        committed: Option<(Offset, Option<LeaderEpoch>)>,
    ) -> Result<(), ConsumeError> {
        let reset = self.reset;
        let Some(partition) = self.current(tp, token) else {
            return Ok(());
        };
        match (committed, reset.target()) {
            (Some((offset, epoch)), _) => {
                partition.place = Place::Known;
                partition.position = offset;
                partition.fetch_from = offset;
                partition.position_epoch = epoch;
            }
            (None, Some(target)) => partition.place = Place::Reset(target),
            (None, None) => {
                partition.place = Place::Stuck;
                return Err(ConsumeError::NoOffset {
                    topic_partition: tp.clone(),
                });
            }
        }
        Ok(())
    }

    pub(super) fn found_reset(
        &mut self,
        tp: &TopicPartition,
        token: Token,
        offset: Offset,
        epoch: Option<LeaderEpoch>,
    ) {
        if let Some(partition) = self.current(tp, token) {
            partition.place = Place::Known;
            partition.position = offset;
            partition.fetch_from = offset;
            partition.position_epoch = epoch;
        }
    }

    /// The log of the new leader ends the position's epoch at `end_offset`; below the position means it was cut.
    pub(super) fn checked(
        &mut self,
        tp: &TopicPartition,
        token: Token,
        check: Check,
        end_offset: Offset,
    ) -> Result<(), ConsumeError> {
        let reset = self.reset;
        let Some(partition) = self.current(tp, token) else {
            return Ok(());
        };
        partition.validated = Some(check.leader_epoch);
        if end_offset >= check.position {
            return Ok(());
        }
        tracing::warn!(partition = %tp, position = %check.position, %end_offset, "log was truncated");
        let offset = check.position;
        if reset == AutoOffsetReset::None {
            self.restart(tp, Place::Stuck)?;
            return Err(ConsumeError::LogTruncated {
                topic_partition: tp.clone(),
                offset,
                end_offset,
            });
        }
        self.seek(tp, end_offset)
    }

    /// The position is outside the log.
    pub(super) fn out_of_range(&mut self, tp: &TopicPartition, token: Token) -> Result<(), ConsumeError> {
        let target = self.reset.target();
        let Some(partition) = self.current(tp, token) else {
            return Ok(());
        };
        if !partition.chunks.is_empty() {
            return Ok(()); // what was fetched ahead is still good; asked again when it is read
        }
        let offset = partition.fetch_from;
        tracing::info!(partition = %tp, %offset, "position outside the log");
        match target {
            Some(target) => self.restart(tp, Place::Reset(target)).map(|_| ()),
            None => {
                partition.place = Place::Stuck;
                Err(ConsumeError::OffsetOutOfRange {
                    topic_partition: tp.clone(),
                    offset,
                })
            }
        }
    }

    pub(super) fn fetched_ends(
        &mut self,
        tp: &TopicPartition,
        token: Token,
        high_watermark: Offset,
        last_stable_offset: Option<Offset>,
    ) {
        if let Some(partition) = self.current(tp, token) {
            partition.high_watermark = Some(high_watermark);
            partition.last_stable_offset = last_stable_offset;
        }
    }

    pub(super) fn fetched(&mut self, tp: &TopicPartition, token: Token, chunk: Chunk) {
        let size_bytes = chunk.size_bytes;
        if let Some(partition) = self.current(tp, token) {
            partition.fetch_from = chunk.next_offset;
            partition.chunks.push_back(chunk);
            self.buffered_bytes += size_bytes;
        }
    }

    /// Nothing came; ask again at `not_before`.
    pub(super) fn postponed(&mut self, tp: &TopicPartition, token: Token, not_before: Option<Instant>) {
        if let Some(partition) = self.current(tp, token) {
            partition.not_before = not_before;
        }
    }

    // Taking records out.

    /// Up to `max_records`, from each partition in turn; moves positions past them.
    pub(super) fn take(&mut self, max_records: usize) -> Result<Vec<PartitionRecords>, ConsumeError> {
        let ready = |(_, p): &(&TopicPartition, &Partition)| !p.paused && !p.chunks.is_empty();
        let mut order: Vec<_> = self
            .partitions
            .iter()
            .filter(ready)
            .map(|(tp, _)| tp.clone())
            .collect();
        let first = order
            .iter()
            .position(|tp| Some(tp) > self.turn.as_ref())
            .unwrap_or(0);
        order.rotate_left(first);
        let mut taken: Vec<PartitionRecords> = Vec::new();
        let mut room = max_records;
        for tp in order {
            if room == 0 {
                break;
            }
            let records = match self.take_from(&tp, room) {
                Ok(records) => records,
                // Records of other partitions go first; the error comes again with the next poll.
                Err(error) => {
                    if taken.is_empty() {
                        return Err(error);
                    } else {
                        break;
                    }
                }
            };
            if !records.is_empty() {
                room -= records.len();
                let high_watermark = self.partitions.get(&tp).and_then(|p| p.high_watermark);
                self.turn = Some(tp.clone());
                taken.push(PartitionRecords {
                    topic_partition: tp,
                    records,
                    high_watermark,
                });
            }
        }
        Ok(taken)
    }

    fn take_from(&mut self, tp: &TopicPartition, room: usize) -> Result<Vec<Record>, ConsumeError> {
        let Some(partition) = self.partitions.get_mut(tp) else {
            return Ok(Vec::new());
        };
        let mut taken = Vec::new();
        while let Some(chunk) = partition.chunks.front_mut() {
            let room_left = room - taken.len();
            if chunk.records.len() > room_left {
                let rest = chunk.records.split_off(room_left);
                taken.append(&mut std::mem::replace(&mut chunk.records, rest));
                partition.position = taken
                    .last()
                    .map_or(partition.position, |last: &Record| last.offset.next());
                break;
            }
            if taken.is_empty() {
                taken = std::mem::take(&mut chunk.records);
            } else {
                taken.append(&mut chunk.records);
            }
            partition.position = chunk.next_offset;
            partition.position_epoch = chunk.epoch.or(partition.position_epoch);
            self.buffered_bytes -= std::mem::take(&mut chunk.size_bytes);
            if let Some((offset, source)) = &chunk.failure {
                let (offset, source) = (*offset, source.clone());
                if taken.is_empty() {
                    return Err(ConsumeError::CorruptBatch {
                        topic_partition: tp.clone(),
                        offset,
                        source,
                    });
                }
                break;
            }
            partition.chunks.pop_front();
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use highwater_types::{PartitionId, Timestamp, TopicName};

    use super::*;

    fn tp(index: i32) -> TopicPartition {
        TopicPartition::new(TopicName::new("t").expect("legal"), PartitionId::new(index))
    }

    fn chunk(offsets: std::ops::Range<i64>) -> Chunk {
        let record = |offset| Record {
            offset: Offset::new(offset),
            timestamp: Timestamp::new(0),
            key: None,
            value: None,
            headers: Vec::new(),
        };
        Chunk {
            records: offsets.clone().map(record).collect(),
            next_offset: Offset::new(offsets.end),
            epoch: None,
            size_bytes: 10,
            failure: None,
        }
    }

    /// Assigned at offset 0 with the given chunks fetched.
    fn positions(partitions: &[(i32, &[(i64, i64)])]) -> Positions {
        let mut positions = Positions::new(AutoOffsetReset::Earliest, false);
        positions.add(partitions.iter().map(|(index, _)| tp(*index)));
        for wanted in positions.wants_reset(Instant::now()) {
            positions.found_reset(&wanted.tp, wanted.token, Offset::ZERO, None);
        }
        for (index, chunks) in partitions {
            for (first, end) in *chunks {
                let token = positions.partitions[&tp(*index)].token;
                positions.fetched(&tp(*index), token, chunk(*first..*end));
            }
        }
        positions
    }

    fn take(positions: &mut Positions, max: usize) -> Vec<(i32, Vec<i64>)> {
        let taken = positions.take(max).expect("readable");
        let offsets = |r: &PartitionRecords| r.records.iter().map(|r| r.offset.get()).collect();
        taken
            .iter()
            .map(|r| (r.topic_partition.partition.get(), offsets(r)))
            .collect()
    }

    #[test]
    fn a_poll_takes_no_more_than_asked_and_goes_on_where_it_stopped() {
        let mut positions = positions(&[(0, &[(0, 3), (3, 5)])]);
        assert_eq!(take(&mut positions, 2), [(0, vec![0, 1])]);
        assert_eq!(
            positions.position(&tp(0)).expect("assigned"),
            Some(Offset::new(2))
        );
        assert_eq!(take(&mut positions, 10), [(0, vec![2, 3, 4])]);
        assert_eq!(positions.buffered_bytes, 0);
    }

    #[test]
    fn polls_take_turns_between_partitions() {
        let mut positions = positions(&[(0, &[(0, 4)]), (1, &[(0, 4)])]);
        assert_eq!(take(&mut positions, 2), [(0, vec![0, 1])]);
        assert_eq!(take(&mut positions, 2), [(1, vec![0, 1])]);
        assert_eq!(take(&mut positions, 2), [(0, vec![2, 3])]);
    }

    #[test]
    fn a_fetch_from_before_a_seek_is_dropped() {
        let mut positions = positions(&[(0, &[])]);
        let wanted = positions.fetchable(Instant::now(), 1000).remove(0);
        positions.begin_fetch(&wanted.tp);
        positions.seek(&tp(0), Offset::new(40)).expect("assigned");
        positions.fetched(&tp(0), wanted.token, chunk(0..3));
        assert!(take(&mut positions, 10).is_empty());
        assert_eq!(positions.fetchable(Instant::now(), 1000)[0].what, Offset::new(40));
    }

    #[test]
    fn a_position_that_was_cut_away_follows_the_policy_or_is_reported() {
        for (reset, expected) in [
            (AutoOffsetReset::Earliest, Some(Offset::new(7))),
            (AutoOffsetReset::None, None),
        ] {
            let mut positions = Positions::new(reset, true);
            positions.add([tp(0)]);
            let wanted = positions.wants_committed(Instant::now()).remove(0);
            let committed = Some((Offset::new(10), Some(LeaderEpoch::new(2))));
            positions
                .found_committed(&tp(0), wanted.token, committed)
                .expect("found");
            let check = positions
                .wants_check(Instant::now(), |_| Some(LeaderEpoch::new(3)))
                .remove(0);
            let outcome = positions.checked(&tp(0), check.token, check.what, Offset::new(7));
            assert_eq!(outcome.is_ok(), expected.is_some());
            assert_eq!(positions.position(&tp(0)).expect("assigned"), expected);
        }
    }

    #[test]
    fn a_corrupt_batch_is_reported_by_every_poll_until_a_seek() {
        let mut positions = positions(&[(0, &[(0, 2)])]);
        let token = positions.partitions[&tp(0)].token;
        let failure = Some((Offset::new(2), BatchError::NoRecords));
        positions.fetched(
            &tp(0),
            token,
            Chunk {
                failure,
                ..chunk(2..2)
            },
        );
        assert_eq!(take(&mut positions, 10), [(0, vec![0, 1])]);
        for _ in 0..2 {
            assert!(matches!(
                positions.take(10),
                Err(ConsumeError::CorruptBatch { .. })
            ));
        }
        positions.seek(&tp(0), Offset::new(3)).expect("assigned");
        assert!(take(&mut positions, 10).is_empty());
        assert_eq!(positions.fetchable(Instant::now(), 1000)[0].what, Offset::new(3));
    }

    #[test]
    fn a_full_buffer_stops_fetching() {
        let mut positions = positions(&[(0, &[(0, 1)]), (1, &[])]);
        assert_eq!(positions.fetchable(Instant::now(), 11).len(), 2);
        assert!(positions.fetchable(Instant::now(), 10).is_empty());
        take(&mut positions, 10);
        assert_eq!(positions.fetchable(Instant::now(), 10).len(), 2);
    }
}
