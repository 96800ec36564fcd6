//! The HTTP port: metrics for Prometheus, health for supervisors.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use highwater_embedded::Embedded;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

/// Upper bounds of the latency histograms, in seconds: from a cached fetch to a long poll.
const LATENCY_BUCKETS_S: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// The running HTTP port.
pub(crate) struct HttpServer {
    pub(crate) address: SocketAddr,
    ready: Arc<AtomicBool>,
    stop: CancellationToken,
}

struct Shared {
    metrics: PrometheusHandle,
    node: Arc<Embedded>,
    ready: Arc<AtomicBool>,
}

/// Installs the recorder that every crate's metrics go to. Once per process.
pub(crate) fn install_recorder() -> Result<PrometheusHandle> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("duration_seconds".to_owned()), LATENCY_BUCKETS_S)?
        .install_recorder()
        .context("cannot install the metrics recorder")
}

impl HttpServer {
    pub(crate) async fn start(
        bind: SocketAddr,
        metrics: PrometheusHandle,
        node: Arc<Embedded>,
    ) -> Result<Self> {
        let listener = tokio::net::TcpListener::bind(bind)
            .await
            .with_context(|| format!("cannot listen on {bind} (--http)"))?;
        let address = listener.local_addr()?;
        let ready = Arc::new(AtomicBool::new(false));
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            metrics,
            node,
            ready: Arc::clone(&ready),
        });
        let app = Router::new()
            .route("/", get(index))
            .route("/metrics", get(scrape))
            .route("/health", get(async || "alive\n"))
            .route("/ready", get(readiness))
            .with_state(shared);
        let stopped = stop.clone().cancelled_owned();
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, app).with_graceful_shutdown(stopped).await {
                tracing::error!(%error, "the http port stopped");
            }
        });
        Ok(Self { address, ready, stop })
    }

    /// From now on `/ready` says so.
    pub(crate) fn set_ready(&self) {
        self.ready.store(true, Ordering::Release);
    }

    pub(crate) fn shutdown(&self) {
        self.ready.store(false, Ordering::Release);
        self.stop.cancel();
    }
}

async fn index() -> &'static str {
    "highwater\n  /metrics  for Prometheus\n  /health   the process is alive\n  /ready    the node serves\n"
}

async fn scrape(State(shared): State<Arc<Shared>>) -> Response {
    shared.node.node().record_gauges();
    shared.metrics.run_upkeep();
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        shared.metrics.render(),
    )
        .into_response()
}

async fn readiness(State(shared): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    if shared.ready.load(Ordering::Acquire) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "starting or stopping\n")
    }
}
