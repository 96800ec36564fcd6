//! The one door to the real clock. Everything else in the crate asks a [`Clock`].

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use highwater_types::Timestamp;

/// Wall time for records and retention, monotonic time for timeouts; the two never mix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Clock {
            started: Instant::now(),
        }
    }

    /// Wall time; a clock set before 1970 reads as 0.
    pub(crate) fn wall(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::new(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    /// Milliseconds since this clock was made; never goes backwards.
    pub(crate) fn monotonic_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The present, for measuring how long something took.
    pub(crate) fn instant(&self) -> Instant {
        Instant::now()
    }

    /// The instant at which [`Clock::monotonic_ms`] reads `at_ms`.
    pub(crate) fn instant_at(&self, at_ms: u64) -> Instant {
        self.started + std::time::Duration::from_millis(at_ms)
    }
}
