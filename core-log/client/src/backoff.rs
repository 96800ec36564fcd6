//! How long to wait before the next attempt: exponential, capped, with jitter (KIP-580), so that a thousand clients
//! do not come back in the same millisecond.

use std::time::Duration;

use rand::RngExt as _;

/// Grows from `initial` by doubling up to `max`; every wait is varied by a fifth either way.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    initial: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(initial: Duration, max: Duration) -> Self {
        Self {
            initial,
            max,
            failures: 0,
        }
    }

    /// Counts a failure and says how long to wait after it.
    pub(crate) fn next_wait(&mut self) -> Duration {
        let wait = wait_after(self.failures, self.initial, self.max);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// The wait after a failure that `earlier_failures` preceded.
pub(crate) fn wait_after(earlier_failures: u32, initial: Duration, max: Duration) -> Duration {
    let factor = 1u32 << earlier_failures.min(20);
    let wait = initial.saturating_mul(factor).min(max);
    wait.mul_f64(rand::rng().random_range(0.8..1.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_start_over_after_success() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        let waits: Vec<u128> = (0..6).map(|_| backoff.next_wait().as_millis()).collect();
        for (wait, middle) in waits.iter().zip([100, 200, 400, 800, 1000, 1000]) {
            assert!(
                (middle * 8 / 10..=middle * 12 / 10).contains(wait),
                "{wait} around {middle}"
            );
        }
        backoff.reset();
        assert!(backoff.next_wait() <= Duration::from_millis(120));
    }
}
