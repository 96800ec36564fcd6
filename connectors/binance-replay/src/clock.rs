//! The exchange's time: as fast as wanted, and on request no further than its clients follow.
//!
//! Pure: real time comes in as an argument.
//!
//! # Invariants
//! - It never goes back.

use std::time::{Duration, Instant};

/// The exchange's time and how it runs.
#[derive(Debug)]
pub(crate) struct Clock {
    /// The exchange's time, in milliseconds since the epoch, when real time was `at`. A fraction, so that many small
    /// steps lose nothing.
    time_ms: f64,
    at: Instant,
    /// Exchange seconds per second.
    speed: f64,
    /// How long it runs on after `at`; `None` for ever.
    patience: Option<Duration>,
}

impl Clock {
    pub(crate) fn new(start_time_ms: i64, speed: f64, now: Instant) -> Self {
        Self {
            time_ms: start_time_ms as f64,
            at: now,
            speed,
            patience: None,
        }
    }

    /// The exchange's time, in milliseconds since the epoch.
    pub(crate) fn time_ms(&self, now: Instant) -> i64 {
        self.exact_ms(now) as i64
    }

    /// Somebody asks: whatever patience was used up is there again.
    pub(crate) fn asked(&mut self, now: Instant) {
        self.time_ms = self.exact_ms(now);
        self.at = now;
    }

    pub(crate) fn wait_for_clients(&mut self, patience: Duration, now: Instant) {
        self.asked(now);
        self.patience = Some(patience);
    }

    fn exact_ms(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at);
        let passed = self.patience.map_or(passed, |patience| passed.min(patience));
        self.time_ms + passed.as_secs_f64() * self.speed * 1_000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START_MS: i64 = 1_700_000_000_000;
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn time_runs_at_its_speed_however_often_it_is_asked() {
        let begin = Instant::now();
        let mut clock = Clock::new(START_MS, 60.0, begin);
        for step in 1..=1_000 {
            clock.asked(begin + SECOND * step / 1_000);
        }
        assert_eq!(clock.time_ms(begin + SECOND * 2), START_MS + 120_000);
    }

    #[test]
    fn time_stands_still_for_a_client_that_is_late_and_then_runs_on() {
        let begin = Instant::now();
        let mut clock = Clock::new(START_MS, 60.0, begin);
        clock.wait_for_clients(SECOND / 2, begin);
        assert_eq!(clock.time_ms(begin + SECOND * 10), START_MS + 30_000);
        clock.asked(begin + SECOND * 10);
        assert_eq!(clock.time_ms(begin + SECOND * 10), START_MS + 30_000);
        assert_eq!(clock.time_ms(begin + SECOND * 10 + SECOND / 4), START_MS + 45_000);
    }
}
