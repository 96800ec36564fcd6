//! The client's transport over a session: structs go in, structs come out.
//!
//! # Invariants
//! - Produce requests reach the log when they are first polled, so the order in which a task starts them is
//!   the order in the log, as the transport's contract asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use highwater_broker::{RequestBody, ResponseBody, Session, SessionClosed};
use highwater_client::{Connection, Transport, TransportError};

/// Connects every address to one node in this process.
#[derive(Debug, Clone)]
pub struct SessionTransport {
    session: Session,
}

impl SessionTransport {
    /// A transport into the node that the session belongs to.
    pub fn new(session: Session) -> Self {
        SessionTransport { session }
    }
}

#[async_trait]
impl Transport for SessionTransport {
    async fn connect(&self, address: &str) -> Result<Arc<dyn Connection>, TransportError> {
        if self.session.is_closed() {
            let source = std::io::Error::new(std::io::ErrorKind::ConnectionRefused, SessionClosed::Stopped);
            return Err(TransportError::Connect {
                address: address.to_owned(),
                source: Arc::new(source),
            });
        }
        let session = self.session.clone();
        Ok(Arc::new(SessionConnection {
            session,
            address: address.to_owned(),
            closed: AtomicBool::new(false),
        }))
    }
}

struct SessionConnection {
    session: Session,
    address: String,
    closed: AtomicBool,
}

impl SessionConnection {
    /// What would have closed a TCP connection closes this one.
    fn fail(&self, reason: &str) -> TransportError {
        self.closed.store(true, Ordering::Release);
        TransportError::Closed {
            address: self.address.clone(),
            reason: reason.into(),
        }
    }

    async fn exchange(
        &self,
        version: i16,
        body: RequestBody,
    ) -> Result<Option<ResponseBody>, TransportError> {
        if self.is_closed() {
            return Err(self.fail("the connection was closed before"));
        }
        self.session
            .call(version, body)
            .await
            .map_err(|closed| self.fail(&closed.to_string()))
    }
}

#[async_trait]
impl Connection for SessionConnection {
    async fn call(&self, version: i16, body: RequestBody) -> Result<ResponseBody, TransportError> {
        let answer = self.exchange(version, body).await?;
        answer.ok_or_else(|| self.fail("the request has no answer"))
    }

    async fn send_without_reply(&self, version: i16, body: RequestBody) -> Result<(), TransportError> {
        self.exchange(version, body).await.map(|_| ())
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire) || self.session.is_closed()
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}
