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
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;

/// The running HTTP port.
pub(crate) struct HttpServer {
    pub(crate) address: SocketAddr,
    ready: Arc<AtomicBool>,
    stop: CancellationToken,
}

struct Shared {
    metrics: Metrics,
    node: Arc<Embedded>,
    ready: Arc<AtomicBool>,
}

impl HttpServer {
    pub(crate) async fn start(bind: SocketAddr, metrics: Metrics, node: Arc<Embedded>) -> Result<Self> {
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
            .route("/health", get(health))
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
    // Ten thousand partitions make megabytes of text: not on a thread that serves requests.
    let rendered = tokio::task::spawn_blocking(move || shared.metrics.render(shared.node.node())).await;
    match rendered {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// Restarting helps when this fails: the process is up, but its node is not.
async fn health(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    let is_over = shared.ready.load(Ordering::Acquire) && shared.node.node().is_stopping();
    match is_over {
        false => (StatusCode::OK, "alive\n".to_owned()),
        true => (
            StatusCode::SERVICE_UNAVAILABLE,
            "the node has stopped\n".to_owned(),
        ),
    }
}

/// Whether traffic should come here, and if not, why.
async fn readiness(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    let mut reasons = shared.node.node().troubles();
    if !shared.ready.load(Ordering::Acquire) {
        reasons.insert(0, "starting or stopping".to_owned());
    }
    if reasons.is_empty() {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n")
}
