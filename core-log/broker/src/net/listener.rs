//! Accepts connections on one listener until the node drains.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::{self, Peer};
use crate::broker::Broker;

/// Pause after a failed accept: out of file handles does not get better by spinning.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(100);

/// Open connections over all listeners of a node.
#[derive(Debug, Default)]
pub(crate) struct ConnectionCount(AtomicUsize);

struct Counted(Arc<ConnectionCount>);

impl ConnectionCount {
    fn enter(self: &Arc<Self>, max: usize) -> Option<Counted> {
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        let entered = Counted(Arc::clone(self));
        metrics::gauge!("highwater_broker_connections").set((before + 1) as f64);
        (before < max).then_some(entered)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let before = self.0.0.fetch_sub(1, Ordering::Relaxed);
        metrics::gauge!("highwater_broker_connections").set((before - 1) as f64);
    }
}

/// Everything one accept loop needs.
#[derive(Debug)]
pub(crate) struct Acceptor {
    pub(crate) broker: Arc<Broker>,
    pub(crate) listener: TcpListener,
    pub(crate) listener_name: Arc<str>,
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

    fn start(&self, stream: TcpStream, address: std::net::SocketAddr) {
        let Some(counted) = self.connections.enter(self.broker.limits.max_connections) else {
            metrics::counter!("highwater_broker_connections_refused_total").increment(1);
            tracing::debug!(peer = %address, "too many connections, closing the newest");
            return;
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(peer = %address, %error, "cannot set nodelay");
        }
        let peer = Peer {
            address,
            listener_name: Arc::clone(&self.listener_name),
        };
        let broker = Arc::clone(&self.broker);
        let draining = self.draining.clone();
        self.tasks.spawn(async move {
            let _counted = counted;
            connection::serve(broker, stream, peer, draining).await;
        });
    }
}
