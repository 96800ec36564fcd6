//! Latencies of one run, and the percentiles that are shown of them.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies from a microsecond to a minute, to three digits.
const HIGHEST_US: u64 = 60_000_000;
const DIGITS: u8 = 3;

/// Percentiles in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Latency {
    pub p50_us: f64,
    pub p99_us: f64,
    pub p999_us: f64,
    pub max_us: f64,
}

/// Latencies of one run.
#[derive(Debug)]
pub struct Latencies(Histogram<u64>);

impl Latencies {
    /// None yet.
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, HIGHEST_US, DIGITS);
        Latencies(histogram.expect("the bounds are constants that it accepts"))
    }

    /// Counts one; below a microsecond counts as one, above a minute as a minute.
    pub fn record(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(HIGHEST_US);
        self.0.saturating_record(us.max(1));
    }

    /// `None` when nothing was counted.
    pub fn percentiles(&self) -> Option<Latency> {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64;
        (!self.0.is_empty()).then(|| Latency {
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: self.0.max() as f64,
        })
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}
