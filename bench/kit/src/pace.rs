//! Doing something at its moment, without taking a core for the waiting.
//!
//! Whoever spins until the moment comes has a core of its own, and where there are two, everybody else shares the other:
//! what is measured then is their queue. So a wait sleeps to its end, and a wake-up that comes late counts as latency.

use std::time::Instant;

/// Linux lets a thread's timers end 50 µs late unless it asks.
#[cfg(target_os = "linux")]
const TIMER_SLACK_NS: std::ffi::c_ulong = 1;

thread_local! {
    static FINE_TIMERS: () = ask_for_fine_timers();
}

/// Sleeps. Blocks its thread.
pub fn wait_until(moment: Instant) {
    FINE_TIMERS.with(|()| ());
    let left = moment.saturating_duration_since(Instant::now());
    if !left.is_zero() {
        std::thread::sleep(left);
    }
}

#[cfg(target_os = "linux")]
fn ask_for_fine_timers() {
    // Without it waits end a little later, which the latencies show.
    let _ = nix::sys::prctl::set_timerslack(TIMER_SLACK_NS);
}

#[cfg(not(target_os = "linux"))]
fn ask_for_fine_timers() {}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn waiting_ends_at_the_moment_and_not_before() {
        let moment = Instant::now() + Duration::from_millis(2);
        wait_until(moment);
        assert!(Instant::now() >= moment);
        wait_until(moment);
    }
}
