//! The door for callers in this process: request bodies in, response bodies out, no encoding.
//!
//! The handlers are those of the TCP connections, so every semantic is the same, but for one: whoever holds a session
//! runs the node, and may do everything whatever the access rules say. Concurrent calls on
//! one session run concurrently; a caller that needs order (produce requests of one producer) waits
//! for one call before the next or relies on the order in which the calls are first polled.

use std::future::poll_fn;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use bytestring::ByteString;
use futures::FutureExt;
use highwater_cluster::Principal;
use highwater_wire::{RequestBody, ResponseBody};
use tokio::time::Instant;

use crate::authorizer::Caller;
use crate::broker::Broker;
use crate::dispatch::{Answer, Reply, RequestContext};
use crate::versions;

/// Who opens a session.
#[derive(Debug, Clone, Default)]
pub struct SessionInfo {
    /// Shown by DescribeGroups and in logs.
    pub client_id: Option<ByteString>,
    /// The listener whose advertised addresses the answers carry; the first one if empty or unknown.
    pub listener_name: String,
}

/// A caller's door to a node in the same process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Session {
    broker: Arc<Broker>,
    context: RequestContext,
    silence: Arc<Silence>,
}

/// What a connection that is not read from is to a TCP client (KIP-219): calls wait, and keep their order.
#[derive(Debug, Default)]
struct Silence {
    until: Mutex<Option<Instant>>,
    /// Fair: whoever waits first is first to go on.
    turn: tokio::sync::Mutex<()>,
}

/// Why a session gave no answer. Over TCP the connection would have been closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionClosed {
    /// The node does not serve this version; ask ApiVersions first.
    #[error("{api} version {version} is not served by this node")]
    Unserved {
        /// Name of the request.
        api: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// The node is shutting down or gone.
    #[error("the node is shut down")]
    Stopped,
    /// A request without an answer (`acks=0`) failed.
    #[error("the request failed and has no answer that could say so")]
    Failed,
    /// A defect of the node; it is counted and logged there.
    #[error("the handler of {api} panicked")]
    Panicked {
        /// Name of the request.
        api: &'static str,
    },
}

impl Session {
    pub(crate) fn new(broker: Arc<Broker>, info: SessionInfo) -> Self {
        let context = RequestContext {
            client_id: info.client_id,
            principal: Principal::anonymous(),
            caller: Caller::Owner,
            client_host: ByteString::from_static("/127.0.0.1"),
            listener_name: info.listener_name.into(),
            is_connection: false,
            fetch_sessions: broker.fetch_sessions.owner(),
        };
        Session {
            broker,
            context,
            silence: Arc::default(),
        }
    }

    /// Whether the node has stopped, or is about to.
    pub fn is_closed(&self) -> bool {
        self.broker.stopping.is_cancelled()
    }

    /// Handles one request; `None` where the protocol has no answer.
    ///
    /// # Errors
    /// [`SessionClosed`] in the cases in which a TCP connection would be closed.
    pub async fn call(&self, version: i16, body: RequestBody) -> Result<Option<ResponseBody>, SessionClosed> {
        let key = body.api_key();
        let api = key.name();
        if self.is_closed() {
            return Err(SessionClosed::Stopped);
        }
        if !versions::find(key).is_some_and(|row| row.served().contains(&version)) {
            return Err(SessionClosed::Unserved { api, version });
        }
        let handled = self.in_turn(self.broker.serve(&self.context, version, body));
        let answer = AssertUnwindSafe(handled).catch_unwind().await;
        let Ok((Answer { reply, .. }, throttle)) = answer else {
            metrics::counter!("highwater_broker_handler_panics_total", "api" => api).increment(1);
            tracing::error!(api, version, "a request handler panicked");
            return Err(SessionClosed::Panicked { api });
        };
        if !throttle.is_zero() {
            *self.silence.until() = Some(Instant::now() + throttle);
        }
        match reply {
            Reply::Body(body) => Ok(Some(body)),
            Reply::Nothing => Ok(None),
            Reply::Close => Err(SessionClosed::Failed),
        }
    }
    /// Begins `work` when the session is not silent and everything that came before has begun.
    async fn in_turn<T>(&self, work: impl Future<Output = T>) -> T {
        if !self.broker.quotas.is_active() {
            return work.await;
        }
        let mut work = pin!(work);
        let turn = self.silence.turn.lock().await;
        loop {
            let until = *self.silence.until();
            let Some(until) = until.filter(|until| *until > Instant::now()) else {
                break;
            };
            tokio::select! {
                () = self.broker.stopping.cancelled() => break,
                () = tokio::time::sleep_until(until) => {}
            }
        }
        // Requests reach the logs when they are first polled, so the turn ends only after that.
        let first = poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await;
        drop(turn);
        match first {
            Poll::Ready(done) => done,
            Poll::Pending => work.await,
        }
    }
}

impl Silence {
    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
