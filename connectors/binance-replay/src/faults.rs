//! Faults a test or a demonstration can ask for.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

/// What goes wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// 429: the rate limit is broken.
    RateLimited {
        /// The `Retry-After` header, in seconds.
        retry_after_s: u64,
    },
    /// 418: banned for having gone on after 429.
    Banned {
        /// The `Retry-After` header, in seconds.
        retry_after_s: u64,
    },
    /// 451: not served in this part of the world.
    Restricted,
    /// A server error with the given status.
    ServerError(u16),
    /// The answer takes this long.
    Silence(Duration),
    /// A body that is no JSON.
    Malformed,
}

/// Faults waiting for the next requests, first in first out.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    pending: Mutex<VecDeque<Fault>>,
}

impl Faults {
    pub(crate) fn add(&self, fault: &Fault, times: usize) {
        let mut pending = self.lock();
        for _ in 0..times {
            pending.push_back(fault.clone());
        }
    }

    pub(crate) fn next(&self) -> Option<Fault> {
        self.lock().pop_front()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Fault>> {
        // A panic elsewhere leaves the queue whole: every change of it is a single push or pop.
        self.pending
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Fault {
    /// The answer in place of the real one; `None` when the real one still follows.
    pub(crate) async fn answer(self) -> Option<Response> {
        match self {
            Self::RateLimited { retry_after_s } => Some(limited(
                StatusCode::TOO_MANY_REQUESTS,
                retry_after_s,
                "Too much request weight used; current limit is 6000 request weight per 1 MINUTE.",
            )),
            Self::Banned { retry_after_s } => Some(limited(
                StatusCode::IM_A_TEAPOT,
                retry_after_s,
                "Way too much request weight used; IP banned.",
            )),
            Self::Restricted => Some(error_body(
                StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS,
                0,
                "Service unavailable from a restricted location.",
            )),
            Self::ServerError(status) => Some(
                (
                    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
                    "",
                )
                    .into_response(),
            ),
            Self::Silence(length) => {
                tokio::time::sleep(length).await;
                None
            }
            Self::Malformed => Some((StatusCode::OK, "[{\"symbol\":\"BTCUS").into_response()),
        }
    }
}

/// An error in the exchange's own shape.
pub(crate) fn error_body(status: StatusCode, code: i32, message: &str) -> Response {
    (
        status,
        axum::Json(serde_json::json!({ "code": code, "msg": message })),
    )
        .into_response()
}

fn limited(status: StatusCode, retry_after_s: u64, message: &str) -> Response {
    let mut response = error_body(status, -1003, message);
    response.headers_mut().insert("retry-after", retry_after_s.into());
    response
}
