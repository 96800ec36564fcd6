//! Latencies with the moments they belong to, so that those in which the machine paused can be told apart afterwards.

use std::time::Duration;

use highwater_bench_kit::latencies::{Latencies, Latency};

use crate::pauses::Pauses;

/// What one run saw, in no order.
#[derive(Debug)]
pub(crate) struct Timeline(Vec<Seen>);

#[derive(Debug, Clone, Copy)]
struct Seen {
    /// When the record was due, from the start of the run.
    due: Duration,
    latency: Duration,
}

impl Timeline {
    /// With room for so many records.
    pub(crate) fn of(records: u64) -> Self {
        Timeline(Vec::with_capacity(usize::try_from(records).unwrap_or(0)))
    }

    /// A record that was due at one moment was seen at another.
    pub(crate) fn note(&mut self, due: Duration, seen: Duration) {
        let latency = seen.saturating_sub(due);
        self.0.push(Seen { due, latency });
    }

    /// Of the records that were not on their way while the machine paused; `None` without any.
    pub(crate) fn latency(&self, pauses: Option<&Pauses>) -> Option<Latency> {
        let mut latencies = Latencies::new();
        for seen in &self.0 {
            if !pauses.is_some_and(|pauses| pauses.touch(seen.due, seen.due + seen.latency)) {
                latencies.record(seen.latency);
            }
        }
        latencies.percentiles()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_takes_the_records_out_that_it_held_up() {
        let ms = Duration::from_millis;
        let mut timeline = Timeline::of(3);
        timeline.note(ms(1), ms(2));
        timeline.note(ms(9), ms(50));
        timeline.note(ms(51), ms(54));
        let pauses = Pauses::at(&[10..49, 60..70]);
        let max_ms = |pauses| (timeline.latency(pauses).expect("records").max_us / 1e3).round();
        assert_eq!(max_ms(None), 41.0);
        assert_eq!(max_ms(Some(&pauses)), 3.0);
    }
}
