//! The two traits between this client and a broker. TCP, with TLS and SASL, is one implementation ([`tcp`]); a broker in the same
//! process hands the structs straight to its handlers and is another.
//!
//! # Invariants
//! - Requests that one task starts (polls for the first time) one after another on a connection reach the broker in
//!   that order; the producer relies on it to keep batches of a partition in sequence.
//! - After `is_closed` has turned true it stays so, and every waiting call has ended with an error.

use std::{fmt, sync::Arc};

use async_trait::async_trait;
use highwater_wire::{RequestBody, ResponseBody};

use crate::TransportError;

mod sasl;
pub mod tcp;
mod tls;

/// Makes connections to brokers.
#[async_trait]
pub trait Transport: fmt::Debug + Send + Sync + 'static {
    /// Connects to `address`, a `host:port` from the bootstrap list or from the cluster's metadata.
    ///
    /// # Errors
    /// [`TransportError::Connect`].
    async fn connect(&self, address: &str) -> Result<Arc<dyn Connection>, TransportError>;
}

/// One connection to one broker; many calls may be under way at once.
#[async_trait]
pub trait Connection: Send + Sync {
    /// Sends a request in the given version and waits for its answer. Dropping the future forgets the answer, not
    /// the request.
    ///
    /// # Errors
    /// [`TransportError`] when the connection ends first or the answer cannot be read.
    async fn call(&self, version: i16, body: RequestBody) -> Result<ResponseBody, TransportError>;

    /// Sends a request that the broker does not answer (`acks=0`, semantic 22).
    ///
    /// # Errors
    /// [`TransportError`] when the connection has ended.
    async fn send_without_reply(&self, version: i16, body: RequestBody) -> Result<(), TransportError>;

    /// Whether the connection can no longer be used.
    fn is_closed(&self) -> bool;

    /// Ends the connection, e.g. because an answer is overdue and everything behind it would be too.
    fn close(&self) {}
}
