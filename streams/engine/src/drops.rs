//! Records that an operator leaves out, counted by reason so that a late record is never mistaken for a broken one
//! (semantic row 91).

use std::fmt;

/// Why a record went no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// No key where one is needed (row 18). `optional(serde)` gives null keys a meaning.
    NullKey,
    /// No value where one is needed (row 19).
    NullValue,
    /// Its window had closed by stream time and grace (row 26).
    Late,
    /// Its window had already left the store (row 27).
    Expired,
    /// Bytes that the serde refuses, under a policy that goes on (row 66).
    Malformed,
    /// A negative time, under an extractor that skips (row 4).
    NegativeTimestamp,
}

impl DropReason {
    /// All reasons, in the order of their counters.
    pub const ALL: [Self; 6] = [
        Self::NullKey,
        Self::NullValue,
        Self::Late,
        Self::Expired,
        Self::Malformed,
        Self::NegativeTimestamp,
    ];

    /// The word used in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NullKey => "null_key",
            Self::NullValue => "null_value",
            Self::Late => "late",
            Self::Expired => "expired",
            Self::Malformed => "malformed",
            Self::NegativeTimestamp => "negative_timestamp",
        }
    }
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Counters of one operator of one task, since the task was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DropCounters([u64; DropReason::ALL.len()]);

impl DropCounters {
    /// Counts `records` more.
    #[inline]
    pub fn add(&mut self, reason: DropReason, records: u64) {
        self.0[reason as usize] += records;
    }

    /// How many were dropped for one reason.
    pub fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// How many were dropped at all.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}
