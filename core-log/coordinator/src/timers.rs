//! Timers as data: which deadline comes next, and for whom.
//!
//! Refuses to know what time it is. Deadlines are monotonic milliseconds as the host counts them.
//!
//! # Invariants
//! - One deadline per key; setting it again replaces it.
//! - Equal deadlines fire in the order of their keys, so that the same events give the same effects.

use std::collections::{BTreeMap, BTreeSet};

use bytestring::ByteString;

use crate::effects::Monotonic;

/// What a deadline is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TimerKey {
    /// A member, or a member id that was handed out, has been silent for too long.
    Session { group: ByteString, member: ByteString },
    /// The join phase of a rebalance ends, or its initial delay.
    Join { group: ByteString },
    /// Members had their time to fetch their assignment.
    Sync { group: ByteString },
    /// A member of a consumer group had its time to give up partitions, or to join again.
    Rebalance { group: ByteString, member: ByteString },
    /// A classic member of a consumer group had its time to ask for its assignment.
    MemberSync { group: ByteString, member: ByteString },
    /// Time to look for expired offsets.
    OffsetSweep,
}

/// A set of deadlines ordered by time.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_key: BTreeMap<TimerKey, Monotonic>,
    by_deadline: BTreeSet<(Monotonic, TimerKey)>,
}

impl Timers {
    /// Sets the deadline of `key`, replacing an earlier one.
    pub(crate) fn schedule(&mut self, key: TimerKey, deadline: Monotonic) {
        if let Some(previous) = self.by_key.insert(key.clone(), deadline) {
            let removed = self.by_deadline.remove(&(previous, key.clone()));
            assert!(removed, "timer {key:?} was in one index only");
        }
        self.by_deadline.insert((deadline, key));
    }

    /// Forgets `key`; nothing happens if it has no deadline.
    pub(crate) fn cancel(&mut self, key: &TimerKey) {
        if let Some(deadline) = self.by_key.remove(key) {
            let removed = self.by_deadline.remove(&(deadline, key.clone()));
            assert!(removed, "timer {key:?} was in one index only");
        }
    }

    pub(crate) fn is_scheduled(&self, key: &TimerKey) -> bool {
        self.by_key.contains_key(key)
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Monotonic> {
        self.by_deadline.first().map(|(deadline, _)| *deadline)
    }

    /// Takes the earliest timer whose deadline is at or before `now`.
    pub(crate) fn pop_due(&mut self, now: Monotonic) -> Option<TimerKey> {
        if self.next()? > now {
            return None;
        }
        let (_, key) = self.by_deadline.pop_first()?;
        self.by_key.remove(&key);
        Some(key)
    }

    pub(crate) fn clear(&mut self) {
        self.by_key.clear();
        self.by_deadline.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(member: &'static str) -> TimerKey {
        TimerKey::Session {
            group: ByteString::from_static("g"),
            member: ByteString::from_static(member),
        }
    }

    #[test]
    fn a_rescheduled_timer_fires_once_at_its_new_time() {
        let mut timers = Timers::default();
        timers.schedule(session("a"), Monotonic::new(10));
        timers.schedule(session("a"), Monotonic::new(30));
        timers.schedule(session("b"), Monotonic::new(20));
        timers.schedule(TimerKey::OffsetSweep, Monotonic::new(25));
        timers.cancel(&TimerKey::OffsetSweep);

        assert_eq!(timers.next(), Some(Monotonic::new(20)));
        assert_eq!(timers.pop_due(Monotonic::new(19)), None);
        assert_eq!(timers.pop_due(Monotonic::new(40)), Some(session("b")));
        assert_eq!(timers.pop_due(Monotonic::new(40)), Some(session("a")));
        assert_eq!(timers.pop_due(Monotonic::new(40)), None);
        assert_eq!(timers.next(), None);
    }
}
