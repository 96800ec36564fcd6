//! Which leader epoch began at which offset (KIP-101), and its checkpoint text `leader-epoch-checkpoint`.
//!
//! # Invariants
//! - Epochs and start offsets grow strictly from entry to entry (invariant 10).
//! - No entry begins behind the end of the log.

use highwater_types::{LeaderEpoch, Offset};

use crate::error::FormatProblem;

/// Name of the file in a partition's directory.
pub(crate) const FILE_NAME: &str = "leader-epoch-checkpoint";

/// The epochs of one log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LeaderEpochs {
    entries: Vec<(LeaderEpoch, Offset)>,
}

impl LeaderEpochs {
    /// The latest epoch.
    pub(crate) fn latest(&self) -> Option<LeaderEpoch> {
        self.entries.last().map(|(epoch, _)| *epoch)
    }

    /// Epoch `epoch` begins at `start`. Older epochs and unknown ones change nothing; entries at or behind
    /// `start` held no record and give way. Says whether something changed.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> bool {
        if epoch.get() < 0 || self.latest().is_some_and(|latest| epoch <= latest) {
            return false;
        }
        while self.entries.last().is_some_and(|(_, begins)| *begins >= start) {
            self.entries.pop();
        }
        self.entries.push((epoch, start));
        true
    }

    /// The epoch an offset was written in.
    pub(crate) fn epoch_for(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.entries.partition_point(|(_, start)| *start <= offset);
        after.checked_sub(1).map(|at| self.entries[at].0)
    }

    /// Where `requested`, or else the largest epoch below it, ends (semantic 51). An epoch below all known ones
    /// ends where the first known begins; one above all known ones is unknown.
    pub(crate) fn end_offset_for(
        &self,
        requested: LeaderEpoch,
        log_end: Offset,
    ) -> Option<(LeaderEpoch, Offset)> {
        if self.latest()? == requested {
            return Some((requested, log_end));
        }
        let higher = self.entries.partition_point(|(epoch, _)| *epoch <= requested);
        let (_, end) = *self.entries.get(higher)?;
        let epoch = higher.checked_sub(1).map_or(requested, |at| self.entries[at].0);
        Some((epoch, end))
    }

    /// The log now ends at `end`: epochs that begin there or later have no records (KAFKA-10706).
    pub(crate) fn truncate_end(&mut self, end: Offset) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(_, start)| *start < end);
        self.entries.len() < before
    }

    /// The log now starts at `start`: the epoch it lies in begins there, earlier ones are gone.
    pub(crate) fn truncate_start(&mut self, start: Offset) -> bool {
        let after = self.entries.partition_point(|(_, begins)| *begins <= start);
        let Some(floor) = after.checked_sub(1) else {
            return false;
        };
        let changed = floor > 0 || self.entries[floor].1 < start;
        self.entries.drain(..floor);
        self.entries[0].1 = start;
        changed
    }

    /// The checkpoint text: version, count, one `epoch offset` per line.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut text = format!("0\n{}\n", self.entries.len());
        for (epoch, start) in &self.entries {
            text.push_str(&format!("{epoch} {start}\n"));
        }
        text.into_bytes()
    }

    /// Reads the checkpoint text.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, FormatProblem> {
        // Without the end of its line, a last number may be the beginning of a larger one.
        if !bytes.ends_with(b"\n") {
            return Err(FormatProblem::Short(bytes.len()));
        }
        let lines = crate::checkpoint::lines(bytes)?;
        let mut entries: Vec<(LeaderEpoch, Offset)> = Vec::new();
        for (number, line) in lines {
            let parsed = line.split_once(' ').and_then(|(epoch, start)| {
                let epoch: i32 = epoch.parse().ok().filter(|epoch| *epoch >= 0)?;
                let start: i64 = start.trim_end().parse().ok().filter(|start| *start >= 0)?;
                Some((LeaderEpoch::new(epoch), Offset::new(start)))
            });
            let entry = parsed.ok_or_else(|| crate::checkpoint::bad_line(number, line))?;
            if entries
                .last()
                .is_some_and(|last| last.0 >= entry.0 || last.1 >= entry.1)
            {
                return Err(FormatProblem::Order(entries.len()));
            }
            entries.push(entry);
        }
        Ok(Self { entries })
    }

    /// Epochs with their start offsets, oldest first.
    pub(crate) fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.entries
    }

    /// Where the last epoch begins.
    pub(crate) fn last_start(&self) -> Option<Offset> {
        self.entries.last().map(|(_, start)| *start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(entries: &[(i32, i64)]) -> LeaderEpochs {
        let mut epochs = LeaderEpochs::default();
        for (epoch, start) in entries {
            assert!(epochs.assign(LeaderEpoch::new(*epoch), Offset::new(*start)));
        }
        epochs
    }

    #[test]
    fn semantic_51_end_offsets_follow_kip_101() {
        let cache = epochs(&[(2, 10), (4, 20), (7, 30)]);
        let end = |epoch| {
            cache
                .end_offset_for(LeaderEpoch::new(epoch), Offset::new(50))
                .map(|(epoch, end)| (epoch.get(), end.get()))
        };
        assert_eq!(end(1), Some((1, 10)), "below the log: the next known start");
        assert_eq!(end(2), Some((2, 20)));
        assert_eq!(end(5), Some((4, 30)), "a gap: the largest smaller epoch");
        assert_eq!(end(7), Some((7, 50)), "the latest ends with the log");
        assert_eq!(end(8), None, "not known yet");
        assert_eq!(
            LeaderEpochs::default().end_offset_for(LeaderEpoch::new(0), Offset::ZERO),
            None
        );
    }

    #[test]
    fn epochs_without_records_give_way_and_older_ones_change_nothing() {
        let mut cache = epochs(&[(1, 0), (2, 10)]);
        assert!(!cache.assign(LeaderEpoch::new(2), Offset::new(12)));
        assert!(cache.assign(LeaderEpoch::new(3), Offset::new(10)));
        assert_eq!(cache, epochs(&[(1, 0), (3, 10)]));
        assert!(cache.truncate_end(Offset::new(10)));
        assert_eq!(cache, epochs(&[(1, 0)]));
    }

    #[test]
    fn moving_the_start_keeps_the_epoch_it_lies_in() {
        let mut cache = epochs(&[(1, 0), (2, 10), (3, 20)]);
        assert!(cache.truncate_start(Offset::new(15)));
        assert_eq!(cache, epochs(&[(2, 15), (3, 20)]));
    }

    #[test]
    fn the_checkpoint_has_kafkas_text_and_bad_text_is_refused() {
        let cache = epochs(&[(2, 10), (4, 20)]);
        assert_eq!(cache.encode(), b"0\n2\n2 10\n4 20\n");
        assert_eq!(LeaderEpochs::decode(&cache.encode()).unwrap(), cache);
        for bad in [
            "",
            "1\n0\n",
            "0\n3\n2 10\n4 20\n",
            "0\n2\n2 10\n4 2",
            "0\n2\n2 10\n4 20",
            "0\n2\n4 20\n2 10\n",
            "0\n1\n-1 3\n",
            "0\n1\nx\n",
            "0\n99999999999\n",
        ] {
            assert!(LeaderEpochs::decode(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }
}
