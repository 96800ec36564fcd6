//! Counters and histograms of request handling, made once so that the hot path only adds to them.
//!
//! The handles belong to the recorder that is installed when the node starts. Names and help are those of
//! [`crate::metric_defs`].

use std::time::Duration;

use highwater_wire::{ApiKey, ErrorCode, ResponseBody};
use metrics::{Counter, Gauge, Histogram};

use crate::metric_defs;
use crate::versions::TABLE;

/// Handles of every metric that is touched per request.
#[derive(Debug)]
pub(crate) struct Telemetry {
    apis: Vec<ApiMetrics>,
    pub(crate) bytes_in: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) appended_bytes: Counter,
    pub(crate) fetched_bytes: Counter,
    pub(crate) sendfile_bytes: Counter,
    waiting: Gauge,
}

#[derive(Debug)]
struct ApiMetrics {
    requests: Counter,
    duration: Histogram,
}

/// Counts a waiting fetch until it is dropped.
#[derive(Debug)]
pub(crate) struct Waiting(Gauge);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

impl Telemetry {
    pub(crate) fn new() -> Self {
        metric_defs::describe(metric_defs::EVENTS);
        let apis = TABLE
            .iter()
            .map(|row| ApiMetrics {
                requests: metrics::counter!("highwater_broker_requests_total", "api" => row.key.name()),
                duration: metrics::histogram!(
                    "highwater_broker_request_duration_seconds", "api" => row.key.name()
                ),
            })
            .collect();
        // Alerts compare with zero, so the series that matter are there before anything happens.
        for limit in ["max.connections", "max.connections.per.ip"] {
            metrics::counter!("highwater_broker_connections_refused_total", "limit" => limit).increment(0);
        }
        metrics::gauge!("highwater_broker_connections").set(0.0);
        let waiting = metrics::gauge!("highwater_broker_fetches_waiting");
        waiting.set(0.0);
        Telemetry {
            apis,
            bytes_in: metrics::counter!("highwater_broker_network_received_bytes_total"),
            bytes_out: metrics::counter!("highwater_broker_network_sent_bytes_total"),
            appended_bytes: metrics::counter!("highwater_broker_appended_bytes_total"),
            fetched_bytes: metrics::counter!("highwater_broker_fetched_bytes_total"),
            sendfile_bytes: metrics::counter!("highwater_broker_sendfile_bytes_total"),
            waiting,
        }
    }

    /// Notes one handled request.
    pub(crate) fn request(&self, key: ApiKey, took: Duration) {
        if let Some(at) = TABLE.iter().position(|row| row.key == key) {
            self.apis[at].requests.increment(1);
            self.apis[at].duration.record(took);
        }
    }

    /// Notes the error codes of an answer. Codes this crate cannot produce do not occur, so the series are few.
    pub(crate) fn errors(&self, body: &ResponseBody) {
        let api = body.api_key().name();
        body.visit_error_codes(&mut |code| {
            if code != ErrorCode::None.code() {
                let error = ErrorCode::from_code(code).kafka_name();
                metrics::counter!("highwater_broker_request_errors_total", "api" => api, "error" => error)
                    .increment(1);
            }
        });
    }

    /// A fetch begins to wait; it waits until the guard is dropped.
    pub(crate) fn waiting(&self) -> Waiting {
        self.waiting.increment(1.0);
        Waiting(self.waiting.clone())
    }
}
