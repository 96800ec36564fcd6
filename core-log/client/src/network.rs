//! Connections to brokers as a role (a producer, a consumer's fetcher, its group membership) uses them: one per
//! address, made on demand, versions negotiated, waits between failed attempts.
//!
//! Each role owns a [`Network`], because a broker answers a connection strictly in order (semantic 6): a heartbeat
//! must not stand in line behind a long-polled fetch or a join.
//!
//! # Invariants
//! - At most one connection attempt per address is under way.
//! - A request that timed out takes its connection with it: everything behind it would be late too.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use highwater_wire::{ApiKey, Request};
use tokio::time::Instant;

use crate::{
    ClientConfig, ClientError, TransportError,
    backoff::Backoff,
    transport::{Connection, Transport},
    versions::{VersionTable, ask_versions},
};

/// A connection whose versions are known.
pub(crate) struct Broker {
    address: String,
    connection: Arc<dyn Connection>,
    versions: VersionTable,
    request_timeout: Duration,
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Broker {
    /// Sends `request` in the highest common version; the answer may take `request_timeout`.
    pub(crate) async fn call<R: Request>(&self, request: R) -> Result<R::Response, ClientError> {
        self.call_with_wait(request, Duration::ZERO).await
    }

    /// The same for a request that asks the broker to wait up to `broker_wait` before it answers.
    pub(crate) async fn call_with_wait<R: Request>(
        &self,
        request: R,
        broker_wait: Duration,
    ) -> Result<R::Response, ClientError> {
        let version = self.version(R::KEY)?;
        self.call_version(version, request, broker_wait).await
    }

    pub(crate) async fn call_version<R: Request>(
        &self,
        version: i16,
        request: R,
        broker_wait: Duration,
    ) -> Result<R::Response, ClientError> {
        let timeout = self.request_timeout.saturating_add(broker_wait);
        let call = self.connection.call(version, request.into());
        let Ok(answer) = tokio::time::timeout(timeout, call).await else {
            self.connection.close();
            return Err(TransportError::TimedOut {
                address: self.address.clone(),
                api: R::KEY,
                timeout,
            }
            .into());
        };
        R::Response::try_from(answer?).map_err(|_| {
            TransportError::UnexpectedResponse {
                address: self.address.clone(),
                api: R::KEY,
            }
            .into()
        })
    }

    pub(crate) async fn send_without_reply<R: Request>(&self, request: R) -> Result<(), ClientError> {
        let version = self.version(R::KEY)?;
        Ok(self
            .connection
            .send_without_reply(version, request.into())
            .await?)
    }

    /// The version `call` would use.
    pub(crate) fn version(&self, api: ApiKey) -> Result<i16, ClientError> {
        self.versions
            .latest(api)
            .ok_or_else(|| ClientError::UnsupportedApi {
                address: self.address.clone(),
                api,
            })
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.connection.is_closed()
    }
}

struct Slot {
    broker: Option<Arc<Broker>>,
    backoff: Backoff,
    not_before: Option<Instant>,
}

/// The connections of one role.
#[derive(Clone)]
pub(crate) struct Network {
    transport: Arc<dyn Transport>,
    config: Arc<ClientConfig>,
    slots: Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<Slot>>>>>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("transport", &self.transport)
            .finish_non_exhaustive()
    }
}

impl Network {
    pub(crate) fn new(transport: Arc<dyn Transport>, config: Arc<ClientConfig>) -> Self {
        Self {
            transport,
            config,
            slots: Arc::default(),
        }
    }

    /// A network of its own with the same transport and settings.
    pub(crate) fn separate(&self) -> Self {
        Self::new(self.transport.clone(), self.config.clone())
    }

    pub(crate) fn transport(&self) -> Arc<dyn Transport> {
        self.transport.clone()
    }

    pub(crate) fn config(&self) -> &Arc<ClientConfig> {
        &self.config
    }

    /// The connection to `address`, made now if there is none. Waits out the backoff after failed attempts.
    pub(crate) async fn broker(&self, address: &str) -> Result<Arc<Broker>, ClientError> {
        let slot = self.slot(address);
        let mut slot = slot.lock().await;
        if let Some(broker) = slot.broker.as_ref().filter(|broker| !broker.is_closed()) {
            return Ok(broker.clone());
        }
        slot.broker = None;
        if let Some(not_before) = slot.not_before {
            tokio::time::sleep_until(not_before).await;
        }
        match self.connect(address).await {
            Ok(broker) => {
                slot.backoff.reset();
                slot.not_before = None;
                slot.broker = Some(broker.clone());
                Ok(broker)
            }
            Err(error) => {
                let wait = slot.backoff.next_wait();
                slot.not_before = Some(Instant::now() + wait);
                tracing::debug!(address, %error, ?wait, "connection attempt failed");
                Err(error)
            }
        }
    }

    fn slot(&self, address: &str) -> Arc<tokio::sync::Mutex<Slot>> {
        let mut slots = self.slots.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(slot) = slots.get(address) {
            return slot.clone();
        }
        let backoff = Backoff::new(self.config.reconnect_backoff, self.config.reconnect_backoff_max);
        let slot = Arc::new(tokio::sync::Mutex::new(Slot {
            broker: None,
            backoff,
            not_before: None,
        }));
        slots.insert(address.to_owned(), slot.clone());
        slot
    }

    async fn connect(&self, address: &str) -> Result<Arc<Broker>, ClientError> {
        let connection = self.transport.connect(address).await?;
        let asked = tokio::time::timeout(self.config.request_timeout, ask_versions(&*connection)).await;
        let Ok(response) = asked else {
            connection.close();
            return Err(TransportError::TimedOut {
                address: address.to_owned(),
                api: ApiKey::ApiVersions,
                timeout: self.config.request_timeout,
            }
            .into());
        };
        let response = response?.ok_or_else(|| TransportError::UnexpectedResponse {
            address: address.to_owned(),
            api: ApiKey::ApiVersions,
        })?;
        ClientError::check(ApiKey::ApiVersions, response.error_code, address, None)?;
        Ok(Arc::new(Broker {
            address: address.to_owned(),
            connection,
            versions: VersionTable::negotiate(&response),
            request_timeout: self.config.request_timeout,
        }))
    }
}

#[cfg(test)]
mod tests;
