//! One type per kind of id and position, so that an offset is never added to an epoch by accident.
//!
//! Refuses: conversion from or to integers by `From`, `Deref` or comparison. `new` takes the raw number as Kafka
//! writes it, `get` gives it back, and arithmetic exists only under names that mean something.
//!
//! ```compile_fail
//! use highwater_types::{LeaderEpoch, Offset};
//! let _ = Offset::new(3) == LeaderEpoch::new(3); // different meanings do not compare
//! ```

use std::fmt;

use uuid::Uuid;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($raw:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name($raw);

        impl $name {
            /// Wraps the number as it stands on the wire or on disk; nothing is checked.
            #[inline]
            pub const fn new(raw: $raw) -> Self {
                Self(raw)
            }

            /// The number as it stands on the wire or on disk.
            #[inline]
            pub const fn get(self) -> $raw {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id! {
    /// Position of a record in its partition's log. Dense while a log is not compacted, never reused.
    Offset(i64)
}
id! {
    /// Index of a partition inside its topic, from 0.
    PartitionId(i32)
}
id! {
    /// Counts the leaders a partition has had; grows with every change of leader (KIP-101).
    LeaderEpoch(i32)
}
id! {
    /// Identity of an idempotent or transactional producer, handed out by the cluster (KIP-98).
    ProducerId(i64)
}
id! {
    /// Counts the incarnations of one producer id; an older one is fenced (KIP-98).
    ProducerEpoch(i16)
}
id! {
    /// Number of a record among those its producer wrote to one partition; wraps to 0 after 2^31-1 (semantic 34).
    Sequence(i32)
}
id! {
    /// Number of a broker in its cluster.
    BrokerId(i32)
}
id! {
    /// Counts the rebalances of a consumer group.
    GenerationId(i32)
}
id! {
    /// Wall time in milliseconds since the Unix epoch.
    Timestamp(i64)
}
id! {
    /// Identity of a topic that survives neither deletion nor re-creation under the same name (KIP-516).
    TopicId(Uuid)
}

impl Offset {
    /// The first position of every log.
    pub const ZERO: Self = Self(0);

    /// The position after this one; stays at the largest offset instead of wrapping.
    #[must_use]
    pub const fn next(self) -> Self {
        self.advance_by(1)
    }

    /// The position `records` further on (or back, when negative); stays within the range of offsets.
    #[must_use]
    pub const fn advance_by(self, records: i64) -> Self {
        Self(self.0.saturating_add(records))
    }

    /// How many positions lie between `earlier` and this one; negative when `earlier` is in fact later.
    pub const fn distance_from(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl LeaderEpoch {
    /// What a batch carries before a leader has stamped it; meaningful inside record batches only.
    pub const UNKNOWN: Self = Self(-1);

    /// The epoch of the next leader.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl ProducerEpoch {
    /// The epoch of the next incarnation, or `None` when the id is used up and a new one is needed.
    pub const fn next(self) -> Option<Self> {
        match self.0.checked_add(1) {
            Some(raw) => Some(Self(raw)),
            None => None,
        }
    }
}

impl Sequence {
    /// What a producer's first record to a partition carries.
    pub const ZERO: Self = Self(0);

    /// The sequence `records` further on. After 2^31-1 comes 0 (semantic 34).
    ///
    /// A negative count or a negative start is not a sequence; both are read as 0.
    #[must_use]
    pub const fn advance_by(self, records: i32) -> Self {
        let start = if self.0 < 0 { 0 } else { self.0 as i64 };
        let records = if records < 0 { 0 } else { records as i64 };
        // The mask is "modulo 2^31", and the sum of two such numbers fits an i64.
        Self(((start + records) & 0x7fff_ffff) as i32)
    }
}

impl GenerationId {
    /// The generation of the next rebalance.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl Timestamp {
    /// The time `ms` milliseconds later (or earlier, when negative); stays within the range of timestamps.
    #[must_use]
    pub const fn advance_by_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to this one; negative when `earlier` is in fact later.
    pub const fn distance_from_ms(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sequence_wraps_from_the_largest_to_zero() {
        assert_eq!(Sequence::new(i32::MAX).advance_by(1), Sequence::ZERO);
        assert_eq!(
            Sequence::new(i32::MAX - 1).advance_by(4),
            Sequence::new(2),
            "MAX-1, MAX, 0, 1, 2"
        );
        assert_eq!(Sequence::new(5).advance_by(3), Sequence::new(8));
        assert_eq!(
            Sequence::new(i32::MAX).advance_by(i32::MAX),
            Sequence::new(i32::MAX - 1)
        );
    }

    #[test]
    fn offsets_at_the_edge_stay_in_range() {
        assert_eq!(Offset::new(i64::MAX).next(), Offset::new(i64::MAX));
        assert_eq!(Offset::new(7).next(), Offset::new(8));
        assert_eq!(Offset::new(9).distance_from(Offset::new(4)), 5);
        assert_eq!(Offset::new(4).distance_from(Offset::new(9)), -5);
    }

    #[test]
    fn the_last_producer_epoch_has_no_next() {
        assert_eq!(ProducerEpoch::new(i16::MAX).next(), None);
        assert_eq!(ProducerEpoch::new(0).next(), Some(ProducerEpoch::new(1)));
    }

    #[test]
    fn ids_print_bare_for_people_and_named_for_debugging() {
        assert_eq!(Offset::new(42).to_string(), "42");
        assert_eq!(format!("{:?}", PartitionId::new(3)), "PartitionId(3)");
    }
}
