//! Accepts connections on one listener until the node drains.
//!
//! Refuses, by closing at once: connections above `max.connections` and above `max.connections.per.ip`, as they are
//! when a connection comes; lowering them closes none that is open. Each refusal is counted; one line in a while says
//! how many there were and which setting is the reason.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::congestion::Congestion;
use super::connection::{self, Peer};
use crate::auth::ListenerSecurity;
use crate::broker::Broker;
use crate::seldom::Seldom;

/// Pause after a failed accept: out of file handles does not get better by spinning.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Refusals are put into words at most this often.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Open connections over all listeners of a node.
#[derive(Debug)]
pub(crate) struct ConnectionCount {
    counts: Mutex<Counts>,
    refusals: Seldom,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Which limit a connection has met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    Node,
    Address,
}

impl Refusal {
    fn setting(self) -> &'static str {
        match self {
            Refusal::Node => "max.connections",
            Refusal::Address => "max.connections.per.ip",
        }
    }
}

/// How many connections there may be at this moment.
#[derive(Debug, Clone, Copy)]
struct ConnectionLimits {
    total: usize,
    per_address: usize,
}

impl ConnectionLimits {
    fn of(broker: &Broker) -> Self {
        let image = broker.image();
        let configs = broker.configs(&image);
        let set = |refusal: Refusal, otherwise: usize| {
            // What is stored has passed the registry's check.
            let set = configs.broker_number(refusal.setting()).unwrap_or_default();
            set.map_or(otherwise, |most| usize::try_from(most).unwrap_or(usize::MAX))
        };
        ConnectionLimits {
            // The node's own limits have passed no check.
            total: set(Refusal::Node, broker.limits.max_connections).max(1),
            per_address: set(Refusal::Address, broker.limits.max_connections_per_ip).max(1),
        }
    }
}

#[derive(Debug)]
struct Counted {
    counts: Arc<ConnectionCount>,
    address: IpAddr,
}

impl ConnectionCount {
    fn enter(self: &Arc<Self>, address: IpAddr, limits: ConnectionLimits) -> Result<Counted, Refusal> {
        let mut counts = self.lock();
        if counts.total >= limits.total {
            return Err(Refusal::Node);
        }
        let from_address = counts.by_address.get(&address).copied().unwrap_or(0);
        if from_address >= limits.per_address {
            return Err(Refusal::Address);
        }
        counts.by_address.insert(address, from_address + 1);
        counts.total += 1;
        metrics::gauge!("highwater_broker_connections").set(counts.total as f64);
        Ok(Counted {
            counts: Arc::clone(self),
            address,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Counts are whole after every statement that can panic.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for ConnectionCount {
    fn default() -> Self {
        ConnectionCount {
            counts: Mutex::default(),
            refusals: Seldom::every(REFUSAL_LOG_INTERVAL),
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        counts.total -= 1;
        metrics::gauge!("highwater_broker_connections").set(counts.total as f64);
        if let Some(from_address) = counts.by_address.get_mut(&self.address) {
            *from_address -= 1;
            if *from_address == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

/// Everything one accept loop needs.
#[derive(Debug)]
pub(crate) struct Acceptor {
    pub(crate) broker: Arc<Broker>,
    pub(crate) listener: TcpListener,
    pub(crate) congestion: Congestion,
    pub(crate) listener_name: Arc<str>,
    pub(crate) security: ListenerSecurity,
    pub(crate) connections: Arc<ConnectionCount>,
    pub(crate) tasks: TaskTracker,
    pub(crate) draining: CancellationToken,
}

impl Acceptor {
    /// Accepts until the node drains; every connection runs on a task of its own.
    pub(crate) async fn run(self) {
        loop {
            let accepted = tokio::select! {
                () = self.draining.cancelled() => return,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => self.start(stream, address),
                Err(error) => {
                    tracing::warn!(listener = %self.listener_name, %error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_BACKOFF).await;
                }
            }
        }
    }

    fn start(&self, stream: TcpStream, address: SocketAddr) {
        let limits = ConnectionLimits::of(&self.broker);
        let counted = match self.connections.enter(address.ip(), limits) {
            Ok(counted) => counted,
            Err(refusal) => return self.refuse(refusal, address),
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(peer = %address, %error, "cannot set nodelay");
        }
        if let Err(error) = self.broker.send_buffers.settle(&stream) {
            tracing::debug!(peer = %address, %error, "cannot set the send buffer");
        }
        if let Err(error) = self.congestion.settle(&stream, address) {
            tracing::debug!(peer = %address, %error, "cannot choose the congestion control");
        }
        let peer = Peer {
            address,
            listener_name: Arc::clone(&self.listener_name),
        };
        let broker = Arc::clone(&self.broker);
        let draining = self.draining.clone();
        let security = self.security.clone();
        let throttle = broker
            .quotas
            .connection(address.ip(), broker.clock.monotonic_ms());
        self.tasks.spawn(async move {
            let _counted = counted;
            if !throttle.is_zero() {
                metrics::counter!("highwater_broker_connections_refused_total").increment(1);
                tracing::debug!(peer = %address, ?throttle, "too many connections from one address");
                // Closing late keeps a client that connects again at once from spinning (KIP-612).
                tokio::select! {
                    () = draining.cancelled() => {}
                    () = tokio::time::sleep(throttle) => {}
                }
                return;
            }
            connection::serve(broker, stream, peer, security, draining).await;
        });
    }

    fn refuse(&self, refusal: Refusal, address: SocketAddr) {
        let setting = refusal.setting();
        metrics::counter!("highwater_broker_connections_refused_total", "limit" => setting).increment(1);
        if let Some(refused) = self.connections.refusals.note(self.broker.clock.monotonic_ms()) {
            tracing::warn!(
                latest = %address, listener = %self.listener_name, refused, setting,
                "too many connections, closing new ones; close idle clients or raise the setting"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_06_07_one_address_cannot_take_the_places_of_others() {
        let counts = Arc::<ConnectionCount>::default();
        let limits = ConnectionLimits {
            total: 3,
            per_address: 2,
        };
        let greedy: IpAddr = [10, 0, 0, 1].into();
        let other: IpAddr = [10, 0, 0, 2].into();
        let mut held: Vec<_> = (0..2).map(|_| counts.enter(greedy, limits).unwrap()).collect();
        assert_eq!(counts.enter(greedy, limits).unwrap_err(), Refusal::Address);
        held.push(counts.enter(other, limits).unwrap());
        assert_eq!(counts.enter(other, limits).unwrap_err(), Refusal::Node);
        held.clear();
        for _ in 0..100_000 {
            drop(counts.enter(greedy, limits).unwrap());
        }
        let counts = counts.lock();
        assert_eq!((counts.total, counts.by_address.len()), (0, 0));
    }
}
