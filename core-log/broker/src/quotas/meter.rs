//! The arithmetic of quotas, with the time as an argument: a sliding window for rates, a token bucket for bursts.
//!
//! Both average and wait as Kafka does for the same settings, so that a quota means the same here (KIP-13, KIP-599).
//!
//! Invariants:
//! - a window keeps at most [`WindowConfig::samples`] + 1 samples, whatever is recorded;
//! - amounts are never negative; a bucket never holds more than a burst.

use std::collections::VecDeque;

/// How far back a meter looks: `quota.window.num` samples of `quota.window.size.seconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowConfig {
    pub(crate) samples: usize,
    pub(crate) sample_ms: u64,
}

impl WindowConfig {
    /// The time over which a rate is an average. The newest sample is still filling, so it does not count whole.
    pub(crate) fn averaged_ms(self) -> u64 {
        (self.samples.max(2) as u64 - 1) * self.sample_ms
    }

    fn kept_ms(self) -> u64 {
        self.samples as u64 * self.sample_ms
    }
}

/// What was used lately.
#[derive(Debug, Default)]
pub(crate) struct SlidingRate {
    samples: VecDeque<Sample>,
}

#[derive(Debug)]
struct Sample {
    start_ms: u64,
    amount: f64,
}

impl SlidingRate {
    /// Notes a use.
    pub(crate) fn record(&mut self, amount: f64, now_ms: u64, window: WindowConfig) {
        self.forget(now_ms, window);
        match self.samples.back_mut() {
            Some(newest) if now_ms < newest.start_ms.saturating_add(window.sample_ms) => {
                newest.amount += amount
            }
            _ => self.samples.push_back(Sample {
                start_ms: now_ms,
                amount,
            }),
        }
    }

    /// Takes back a use that was noted last and then did not happen.
    pub(crate) fn take_back(&mut self, amount: f64) {
        if let Some(newest) = self.samples.back_mut() {
            newest.amount = (newest.amount - amount).max(0.0);
        }
    }

    /// Whether a use that was just noted is the only one in the window.
    pub(crate) fn is_only(&self, amount: f64) -> bool {
        self.samples.iter().map(|sample| sample.amount).sum::<f64>() <= amount
    }

    /// How long nothing may be used until the average is down to `limit` per second.
    pub(crate) fn throttle_ms(&mut self, limit: f64, now_ms: u64, window: WindowConfig) -> u64 {
        self.forget(now_ms, window);
        let total: f64 = self.samples.iter().map(|sample| sample.amount).sum();
        let since_oldest = self
            .samples
            .front()
            .map_or(0, |oldest| now_ms.saturating_sub(oldest.start_ms));
        let averaged_ms = since_oldest.max(window.averaged_ms()) as f64;
        // total / (averaged + throttle) = limit
        let throttle = total / limit * 1_000.0 - averaged_ms;
        // A float beyond the range saturates; below zero it is zero.
        throttle.round() as u64
    }

    /// Whether everything noted has been forgotten by now.
    pub(crate) fn is_idle(&self, now_ms: u64, window: WindowConfig) -> bool {
        self.samples
            .back()
            .is_none_or(|newest| newest.start_ms.saturating_add(window.kept_ms()) <= now_ms)
    }

    fn forget(&mut self, now_ms: u64, window: WindowConfig) {
        while self
            .samples
            .front()
            .is_some_and(|oldest| oldest.start_ms.saturating_add(window.kept_ms()) <= now_ms)
        {
            self.samples.pop_front();
        }
    }
}

/// Room for a burst, refilled at the quota's rate; may be overdrawn by the use that empties it.
#[derive(Debug, Default)]
pub(crate) struct TokenBucket {
    /// What was taken and is not refilled yet; above the burst when overdrawn.
    taken: f64,
    refilled_ms: u64,
    /// When everything taken is refilled.
    full_ms: u64,
}

impl TokenBucket {
    /// Takes tokens, possibly more than there are; how long until the bucket is no longer overdrawn.
    pub(crate) fn take(&mut self, amount: f64, limit: f64, now_ms: u64, window: WindowConfig) -> u64 {
        self.refill(limit, now_ms);
        self.taken += amount;
        self.full_ms = now_ms.saturating_add((self.taken / limit * 1_000.0).ceil() as u64);
        self.overdrawn_ms(limit, window)
    }

    /// How long until the bucket is no longer overdrawn; 0 if something can be taken now.
    pub(crate) fn throttle_ms(&mut self, limit: f64, now_ms: u64, window: WindowConfig) -> u64 {
        self.refill(limit, now_ms);
        self.overdrawn_ms(limit, window)
    }

    /// Whether the bucket is as full as a new one.
    pub(crate) fn is_idle(&self, now_ms: u64) -> bool {
        self.full_ms <= now_ms
    }

    fn refill(&mut self, limit: f64, now_ms: u64) {
        let elapsed_ms = now_ms.saturating_sub(self.refilled_ms);
        self.taken = (self.taken - limit * elapsed_ms as f64 / 1_000.0).max(0.0);
        self.refilled_ms = now_ms;
    }

    fn overdrawn_ms(&self, limit: f64, window: WindowConfig) -> u64 {
        let burst = limit * window.kept_ms() as f64 / 1_000.0;
        ((self.taken - burst) / limit * 1_000.0).round() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: WindowConfig = WindowConfig {
        samples: 11,
        sample_ms: 1_000,
    };

    #[test]
    fn a_rate_at_the_limit_is_not_throttled_and_one_above_it_waits_until_the_average_is_down() {
        let mut rate = SlidingRate::default();
        rate.record(10_000.0, 0, WINDOW);
        assert_eq!(
            rate.throttle_ms(1_000.0, 0, WINDOW),
            0,
            "ten seconds' worth at once"
        );
        rate.record(500.0, 0, WINDOW);
        assert_eq!(rate.throttle_ms(1_000.0, 0, WINDOW), 500);
        rate.take_back(500.0);
        assert_eq!(rate.throttle_ms(1_000.0, 0, WINDOW), 0);
    }

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let mut rate = SlidingRate::default();
        rate.record(1e9, 0, WINDOW);
        assert!(rate.throttle_ms(1.0, 10_999, WINDOW) > 0);
        assert!(!rate.is_idle(10_999, WINDOW));
        assert_eq!(rate.throttle_ms(1.0, 11_000, WINDOW), 0);
        assert!(rate.is_idle(11_000, WINDOW));
    }

    #[test]
    fn whoever_waits_as_told_gets_the_limit_over_time_and_samples_stay_few() {
        let mut rate = SlidingRate::default();
        let (mut now_ms, mut used) = (0, 0.0);
        while now_ms < 120_000 {
            rate.record(300.0, now_ms, WINDOW);
            used += 300.0;
            now_ms += rate.throttle_ms(1_000.0, now_ms, WINDOW).max(1);
            assert!(rate.samples.len() <= WINDOW.samples + 1);
        }
        let per_second = used / (now_ms as f64 / 1_000.0);
        assert!((1_000.0..1_120.0).contains(&per_second), "{per_second}");
    }

    #[test]
    fn a_throttle_beyond_all_bounds_saturates() {
        let mut rate = SlidingRate::default();
        rate.record(f64::MAX, 0, WINDOW);
        assert_eq!(rate.throttle_ms(1e-300, 0, WINDOW), u64::MAX);
    }

    #[test]
    fn a_bucket_lets_a_burst_through_then_refuses_until_it_is_refilled() {
        let mut bucket = TokenBucket::default();
        assert_eq!(bucket.take(22.0, 2.0, 0, WINDOW), 0, "eleven seconds' worth");
        assert_eq!(bucket.take(10.0, 2.0, 0, WINDOW), 5_000);
        assert_eq!(bucket.throttle_ms(2.0, 2_000, WINDOW), 3_000);
        assert_eq!(bucket.throttle_ms(2.0, 5_000, WINDOW), 0);
        assert!(!bucket.is_idle(15_999) && bucket.is_idle(16_000));
    }
}
