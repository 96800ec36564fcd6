//! The Postgres wire: psql, drivers and BI tools ask their questions here.
//!
//! Both query protocols, text and binary results, cancelling. Everyone who can connect may read every topic, so the
//! address belongs on the loopback unless the network in front of it is trusted.
//!
//! Refuses: being Postgres. What drivers say when they connect is answered so that they go on; the system tables of
//! pg_catalog are not imitated, and asking for them is an error that says what to ask instead.

use std::{fmt, io, net::SocketAddr, sync::Arc};

use pgwire::{
    api::{
        ConnectionManager, NoopHandler, PgWireServerHandlers,
        cancel::DefaultCancelHandler,
        query::{ExtendedQueryHandler, SimpleQueryHandler},
    },
    tokio::process_socket,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Engine, limits};

mod connection;
mod courtesy;
mod parameters;

use connection::Connection;

/// A listener of the Postgres wire. Dropping it stops it, as [`shutdown`](Self::shutdown) does without waiting.
pub struct PgServer {
    local_addr: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl fmt::Debug for PgServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgServer")
            .field("local_addr", &self.local_addr)
            .finish_non_exhaustive()
    }
}

impl PgServer {
    /// Listens on `addr` and answers with `engine`.
    ///
    /// # Errors
    /// When the address cannot be bound.
    pub async fn bind(addr: SocketAddr, engine: Engine) -> io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let local_addr = listener.local_addr()?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(accept(listener, engine, stop.clone(), tasks.clone()));
        Ok(Self {
            local_addr,
            stop,
            tasks,
        })
    }

    /// The address, with the port the system chose when 0 was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops listening, closes every connection, and waits until all of it has stopped.
    pub async fn shutdown(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for PgServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(listener: TcpListener, engine: Engine, stop: CancellationToken, tasks: TaskTracker) {
    let connections = Arc::new(Semaphore::new(limits::MAX_PG_CONNECTIONS));
    let cancels = Arc::new(ConnectionManager::new());
    loop {
        // Above the limit newcomers wait in the listener's backlog. The semaphore is never closed.
        let next = async {
            let slot = connections.clone().acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            next = next => next,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((socket, peer)) => {
                let handlers = Handlers::new(&engine, cancels.clone());
                let stop = stop.clone();
                tasks.spawn(async move {
                    let _slot = slot;
                    tokio::select! {
                        () = serve(socket, peer, handlers) => {}
                        () = stop.cancelled() => {}
                    }
                });
            }
            Err(error) => {
                // Out of file descriptors, or the peer was gone already: try again, but not in a hot loop.
                tracing::warn!(%error, "cannot accept a postgres connection");
                tokio::time::sleep(limits::EMPTY_FETCH_PAUSE).await;
            }
        }
    }
}

async fn serve(socket: TcpStream, peer: SocketAddr, handlers: Handlers) {
    // Without it each small answer waits for the acknowledgement of the one before.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    if let Err(error) = process_socket(socket, None, handlers).await {
        tracing::debug!(%peer, %error, "postgres connection ended");
    }
}

/// What one connection is served with.
struct Handlers {
    connection: Arc<Connection>,
    cancels: Arc<ConnectionManager>,
}

impl Handlers {
    fn new(engine: &Engine, cancels: Arc<ConnectionManager>) -> Self {
        Self {
            connection: Arc::new(Connection::new(engine, cancels.clone())),
            cancels,
        }
    }
}

impl PgWireServerHandlers for Handlers {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        self.connection.clone()
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        self.connection.clone()
    }

    fn startup_handler(&self) -> Arc<impl pgwire::api::auth::StartupHandler> {
        self.connection.clone()
    }

    fn error_handler(&self) -> Arc<impl pgwire::api::ErrorHandler> {
        Arc::new(NoopHandler)
    }

    fn cancel_handler(&self) -> Arc<impl pgwire::api::cancel::CancelHandler> {
        Arc::new(DefaultCancelHandler::new(self.cancels.clone()))
    }
}
