//! Windows of time: where they start, when they close.
//!
//! Windows are aligned to the epoch and half-open, `start..end` (semantic row 22). Which windows are still open is not
//! decided here but by the operator's own stream time (row 26).

use std::{fmt, time::Duration};

use highwater_types::Timestamp;

/// Milliseconds of a duration; more than an `i64` holds counts as its largest value.
pub(crate) fn duration_ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// A span of event time, `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Window {
    /// First instant inside.
    pub start: Timestamp,
    /// First instant after it.
    pub end: Timestamp,
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

/// A key together with the window that a result is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Windowed<K> {
    /// The grouping key.
    pub key: K,
    /// The window.
    pub window: Window,
}

/// Fixed-size windows: tumbling, or hopping when they advance by less than their size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeWindows {
    pub(crate) size_ms: i64,
    pub(crate) advance_ms: i64,
    pub(crate) grace_ms: i64,
}

/// Windows that follow one another without gap or overlap.
#[derive(Debug, Clone, Copy)]
pub struct TumblingWindows;

impl TumblingWindows {
    /// Windows of this size; no grace until [`TimeWindows::grace`] gives one (KIP-633).
    // A constructor of the general kind under the name people look for.
    #[allow(clippy::new_ret_no_self)]
    pub fn of(size: Duration) -> TimeWindows {
        let size_ms = duration_ms(size);
        TimeWindows {
            size_ms,
            advance_ms: size_ms,
            grace_ms: 0,
        }
    }
}

/// Windows that overlap: a record belongs to `ceil(size / advance)` of them.
#[derive(Debug, Clone, Copy)]
pub struct HoppingWindows;

impl HoppingWindows {
    /// Windows of this size, a new one every `advance`.
    pub fn of(size: Duration, advance: Advance) -> TimeWindows {
        TimeWindows {
            size_ms: duration_ms(size),
            advance_ms: duration_ms(advance.0),
            grace_ms: 0,
        }
    }
}

/// How far apart hopping windows start; a type of its own so that it is not mistaken for the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advance(Duration);

impl Advance {
    /// A new window every `step`.
    pub fn by(step: Duration) -> Self {
        Self(step)
    }
}

impl TimeWindows {
    /// How long after its end, in stream time, a window still takes late records.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace_ms = duration_ms(grace);
        self
    }

    /// The length of a window.
    pub fn size(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.size_ms).unwrap_or(0))
    }

    pub(crate) fn window_at(&self, start_ms: i64) -> Window {
        Window {
            start: Timestamp::new(start_ms),
            end: Timestamp::new(start_ms.saturating_add(self.size_ms)),
        }
    }

    /// Start of the earliest window that holds `timestamp_ms`; further ones follow every `advance`. Never before 0,
    /// as in Kafka.
    #[inline]
    pub(crate) fn first_start(&self, timestamp_ms: i64) -> i64 {
        let earliest = (timestamp_ms - self.size_ms + self.advance_ms).max(0);
        earliest / self.advance_ms * self.advance_ms
    }

    /// Readable and stable: part of derived store names.
    pub(crate) fn label(&self) -> String {
        if self.size_ms == self.advance_ms {
            format!("{}ms", self.size_ms)
        } else {
            format!("{}ms-every-{}ms", self.size_ms, self.advance_ms)
        }
    }
}

/// When a windowed aggregate speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EmitStrategy {
    /// Every group that changed, once per commit (semantic rows 28 and 48).
    #[default]
    OnUpdate,
    /// Each group once, after its window has closed (row 29). With `idle_timeout`, a silent input does not hold
    /// results back: after that much wall-clock silence, stream time is taken to run on with the wall clock, and what
    /// arrives later for a window closed so is late. Kafka has no such thing (row 31); without it, the last windows
    /// wait for the next record.
    OnWindowClose {
        /// Wall-clock silence after which windows close without records.
        idle_timeout: Option<Duration>,
    },
}

impl EmitStrategy {
    /// Final results only, driven by records alone as in Kafka.
    pub const fn on_window_close() -> Self {
        Self::OnWindowClose { idle_timeout: None }
    }

    /// Final results only, and also when the input falls silent.
    pub const fn on_window_close_or_idle(idle_timeout: Duration) -> Self {
        Self::OnWindowClose {
            idle_timeout: Some(idle_timeout),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn starts(windows: &TimeWindows, timestamp_ms: i64) -> Vec<i64> {
        let mut starts = Vec::new();
        let mut start = windows.first_start(timestamp_ms);
        while start <= timestamp_ms {
            starts.push(start);
            start += windows.advance_ms;
        }
        starts
    }

    #[test]
    fn a_record_on_the_edge_belongs_to_the_window_that_starts_there() {
        let windows = TumblingWindows::of(Duration::from_millis(10));
        assert_eq!(starts(&windows, 9), [0]);
        assert_eq!(starts(&windows, 10), [10]);
    }

    proptest! {
        /// Against brute force over every multiple of the advance.
        #[test]
        fn hopping_windows_are_exactly_those_that_hold_the_record(
            size in 1i64..50, step in 1i64..50, timestamp in 0i64..500,
        ) {
            let step = step.min(size);
            let windows = HoppingWindows::of(
                Duration::from_millis(size as u64),
                Advance::by(Duration::from_millis(step as u64)),
            );
            let brute: Vec<i64> = (0..=timestamp)
                .filter(|s| s % step == 0 && *s <= timestamp && timestamp < s + size)
                .collect();
            prop_assert_eq!(starts(&windows, timestamp), brute);
        }
    }
}
