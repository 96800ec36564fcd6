//! Doing something at its moment, to a few microseconds.

use std::time::{Duration, Instant};

/// Sleeping may end this much late, so the rest of a wait is spun.
const SPIN: Duration = Duration::from_micros(100);

/// Sleeps, then spins. Blocks its thread.
pub fn wait_until(moment: Instant) {
    let left = moment.saturating_duration_since(Instant::now());
    if left > SPIN {
        std::thread::sleep(left - SPIN);
    }
    while Instant::now() < moment {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_ends_at_the_moment_and_not_before() {
        let moment = Instant::now() + Duration::from_millis(2);
        wait_until(moment);
        assert!(Instant::now() >= moment);
        wait_until(moment);
    }
}
