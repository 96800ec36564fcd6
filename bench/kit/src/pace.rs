//! Doing something at its moment, without taking a core for the waiting.
//!
//! Whoever spins until the moment comes has a core of its own, and where there are two, everybody else shares the other:
//! what is measured then is their queue. So a wait sleeps to its end, and a wake-up that comes late counts as latency.

use std::time::{Duration, Instant};

use anyhow::Result;
use nix::time::{ClockId, clock_gettime};

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

/// The clock of [`Instant`], which processes of one machine share: time since a moment that is the same for all of them.
pub fn monotonic() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_MONOTONIC)?.into())
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

    #[test]
    fn the_shared_clock_runs_as_instants_do() {
        let outer = Instant::now();
        let before = monotonic().expect("a clock");
        let inner = Instant::now();
        std::thread::sleep(Duration::from_millis(2));
        let inner = inner.elapsed();
        let passed = monotonic().expect("a clock") - before;
        assert!(
            inner <= passed && passed <= outer.elapsed(),
            "{inner:?}, {passed:?}"
        );
    }
}
