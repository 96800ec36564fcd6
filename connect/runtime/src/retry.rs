//! When to try again: a batch that a target could not take just now, and a task that failed.
//!
//! Both are pure: elapsed times and a random number come in, a wait comes out.

use std::collections::VecDeque;
use std::time::Duration;

/// `[retry]`: how to treat what a task calls retriable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How long to go on before the task fails; zero means no second attempt.
    pub max_elapsed: Duration,
    /// The first wait; each further one is twice as long.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
    /// Whether waits are shortened by a random part of up to half, so that tasks do not retry in step.
    pub jitter: bool,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_elapsed: Duration::from_secs(600),
            initial: Duration::from_millis(300),
            max: Duration::from_secs(60),
            jitter: true,
        }
    }
}

impl RetryPolicy {
    /// How long to wait after the `attempt`-th failure in a row (from 1), `elapsed` after the first one; `None` when
    /// it is time to give up. `retry_after` is what the outside system asked for and is never undercut. `random` is
    /// uniform in `0.0..1.0`.
    pub fn wait(
        &self,
        attempt: u32,
        elapsed: Duration,
        retry_after: Option<Duration>,
        random: f64,
    ) -> Option<Duration> {
        if elapsed >= self.max_elapsed {
            return None;
        }
        let mut wait = backoff(self.initial, self.max, attempt);
        if self.jitter {
            wait = wait.mul_f64(1.0 - random.clamp(0.0, 1.0) / 2.0);
        }
        Some(wait.max(retry_after.unwrap_or_default()))
    }
}

/// Doubles from `initial` to `max`.
fn backoff(initial: Duration, max: Duration, attempt: u32) -> Duration {
    let factor = 1u32.checked_shl(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    initial.saturating_mul(factor.max(1)).min(max)
}

/// `[errors] on_task_failure`: whether and when a failed task starts again. Kafka Connect never restarts one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Most restarts within `window`; zero means never.
    pub max_restarts: u32,
    /// Wait before the first restart; each further one within the window is twice as long.
    pub initial: Duration,
    /// The longest wait.
    pub max: Duration,
    /// Restarts longer ago than this no longer count.
    pub window: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            max_restarts: 10,
            initial: Duration::from_secs(1),
            max: Duration::from_secs(60),
            window: Duration::from_secs(3_600),
        }
    }
}

/// The restarts of one task so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestartHistory {
    /// Moments of restarts, as time since some fixed start.
    restarts: VecDeque<Duration>,
}

impl RestartHistory {
    /// How long to wait before starting a task that failed `now`, or `None` if it stays failed. Counts as a restart.
    pub fn next(&mut self, policy: &RestartPolicy, now: Duration) -> Option<Duration> {
        while self
            .restarts
            .front()
            .is_some_and(|at| now.saturating_sub(*at) >= policy.window)
        {
            self.restarts.pop_front();
        }
        let count = u32::try_from(self.restarts.len()).unwrap_or(u32::MAX);
        if count >= policy.max_restarts {
            return None;
        }
        self.restarts.push_back(now);
        Some(backoff(policy.initial, policy.max, count + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn waits_double_up_to_the_longest_and_end_after_max_elapsed() {
        let policy = RetryPolicy {
            max_elapsed: secs(100),
            initial: secs(1),
            max: secs(8),
            jitter: false,
        };
        let waits: Vec<_> = (1..=6)
            .map(|attempt| policy.wait(attempt, secs(0), None, 0.5))
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 8, 8].map(|s| Some(secs(s))));
        assert_eq!(policy.wait(200, secs(99), None, 0.5), Some(secs(8)));
        assert_eq!(policy.wait(3, secs(100), None, 0.5), None);
    }

    #[test]
    fn what_the_target_asks_for_is_never_undercut() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.wait(1, secs(0), Some(secs(90)), 0.9), Some(secs(90)));
        let jittered = policy.wait(1, secs(0), Some(secs(0)), 1.0);
        assert_eq!(jittered, Some(Duration::from_millis(150)));
    }

    #[test]
    fn a_task_restarts_until_the_window_is_full_and_again_when_it_has_passed() {
        let policy = RestartPolicy {
            max_restarts: 2,
            initial: secs(1),
            max: secs(60),
            window: secs(100),
        };
        let mut history = RestartHistory::default();
        assert_eq!(history.next(&policy, secs(0)), Some(secs(1)));
        assert_eq!(history.next(&policy, secs(10)), Some(secs(2)));
        assert_eq!(history.next(&policy, secs(20)), None);
        assert_eq!(history.next(&policy, secs(100)), Some(secs(2)));
    }

    #[test]
    fn a_task_that_must_not_restart_stays_failed() {
        let policy = RestartPolicy {
            max_restarts: 0,
            ..RestartPolicy::default()
        };
        assert_eq!(RestartHistory::default().next(&policy, secs(0)), None);
    }
}
