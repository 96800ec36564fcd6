//! Counters and histograms of request handling, made once so that the hot path only adds to them.
//!
//! The handles belong to the recorder that is installed when the node starts.

use std::time::Duration;

use highwater_wire::ApiKey;
use metrics::{Counter, Histogram};

use crate::versions::TABLE;

/// Handles of every metric that is touched per request.
#[derive(Debug)]
pub(crate) struct Telemetry {
    apis: Vec<ApiMetrics>,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) appended_bytes: Counter,
    pub(crate) fetched_bytes: Counter,
}

#[derive(Debug)]
struct ApiMetrics {
    requests: Counter,
    duration: Histogram,
}

impl Telemetry {
    pub(crate) fn new() -> Self {
        metrics::describe_counter!("highwater_broker_requests_total", "Requests handled, by api");
        metrics::describe_histogram!(
            "highwater_broker_request_duration_seconds",
            metrics::Unit::Seconds,
            "From a whole frame to its answer, waiting included, by api"
        );
        let apis = TABLE
            .iter()
            .map(|row| ApiMetrics {
                requests: metrics::counter!("highwater_broker_requests_total", "api" => row.key.name()),
                duration: metrics::histogram!(
                    "highwater_broker_request_duration_seconds", "api" => row.key.name()
                ),
            })
            .collect();
        Telemetry {
            apis,
            bytes_in: metrics::counter!("highwater_broker_network_received_bytes_total"),
            bytes_out: metrics::counter!("highwater_broker_network_sent_bytes_total"),
            appended_bytes: metrics::counter!("highwater_broker_appended_bytes_total"),
            fetched_bytes: metrics::counter!("highwater_broker_fetched_bytes_total"),
        }
    }

    /// Notes one handled request.
    pub(crate) fn request(&self, key: ApiKey, took: Duration) {
        if let Some(at) = TABLE.iter().position(|row| row.key == key) {
            self.apis[at].requests.increment(1);
            self.apis[at].duration.record(took);
        }
    }
}
