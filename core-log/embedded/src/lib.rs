//! A broker and a wired client in one process: no socket and no encoding of messages between them.
//!
//! [`Embedded::start`] starts a node; [`Embedded::client`] gives clients whose requests go straight to the
//! node's handlers. It is a transport, not a second broker: every semantic is that of TCP. A Kafka listener
//! can be opened beside it, so that other programs see the same topics.
//!
//! Refuses: nothing of its own; what the node refuses, it refuses here too.
//!
//! # Example
//! ```no_run
//! use highwater_broker::TopicName;
//! use highwater_client::{ProducerConfig, ProducerRecord};
//! use highwater_embedded::{Embedded, EmbeddedConfig};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let embedded = Embedded::start(EmbeddedConfig::new("./data")).await?;
//! let producer = embedded.client().producer(ProducerConfig::default())?;
//! let record = ProducerRecord::keyed(TopicName::new("prices")?, "BTCUSDT", "64000.10");
//! producer.send(record).await?.await?;
//! producer.close().await;
//! embedded.shutdown().await?;
//! # Ok(())
//! # }
//! ```

mod transport;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use highwater_broker::{
    Limits, ListenerConfig, LogLevels, Node, NodeConfig, NodeError, SecurityProtocol, SessionInfo,
};
use highwater_client::{Client, ClientConfig, ClientError};

pub use self::transport::SessionTransport;

/// Name of the listener that [`EmbeddedConfig::listen`] opens.
pub const KAFKA_LISTENER: &str = "PLAINTEXT";

/// What clients are given to connect to. The transport does not look at it.
const BOOTSTRAP: &str = "in-process:9092";

/// What an embedded node is started with.
#[derive(Debug, Clone)]
pub struct EmbeddedConfig {
    /// Where logs and metadata lie; made if it does not exist. One process at a time.
    pub data_dir: PathBuf,
    /// Where Kafka clients of other processes may connect; nowhere by default. Port 0 takes a free one.
    pub listeners: Vec<ListenerConfig>,
    /// Kafka's broker properties; unknown names and bad values are refused.
    pub properties: BTreeMap<String, String>,
    /// Bounds on what clients can make the node hold.
    pub limits: Limits,
    /// Where the process logs to, so that administrators can change levels; without it such requests are refused.
    pub log_levels: Option<Arc<dyn LogLevels>>,
}

impl EmbeddedConfig {
    /// A node with its data in `data_dir`, no listener, and groups that start at once instead of waiting
    /// three seconds for members that are not coming (`group.initial.rebalance.delay.ms` is 0).
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        let at_once = ("group.initial.rebalance.delay.ms".to_owned(), "0".to_owned());
        EmbeddedConfig {
            data_dir: data_dir.into(),
            listeners: Vec::new(),
            properties: BTreeMap::from([at_once]),
            limits: Limits::default(),
            log_levels: None,
        }
    }

    /// The same with a Kafka listener that everybody may use.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listeners.push(ListenerConfig {
            name: KAFKA_LISTENER.to_owned(),
            protocol: SecurityProtocol::Plaintext,
            bind: address,
            advertised: None,
        });
        self
    }

    fn node_config(self) -> NodeConfig {
        NodeConfig {
            listeners: self.listeners,
            properties: self.properties,
            limits: self.limits,
            log_levels: self.log_levels,
            ..NodeConfig::new(self.data_dir)
        }
    }
}

/// A node in this process with a client wired to it.
#[derive(Debug)]
pub struct Embedded {
    node: Node,
    client: Client,
}

/// Why an embedded node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// The node.
    #[error(transparent)]
    Node(#[from] NodeError),
    /// The client.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl Embedded {
    /// Starts a node and wires a client to it. When this returns, both serve.
    ///
    /// # Errors
    /// [`EmbeddedError`]; nothing is left running then.
    pub async fn start(config: EmbeddedConfig) -> Result<Self, EmbeddedError> {
        let node = Node::start(config.node_config()).await?;
        match wired(&node, ClientConfig::default()) {
            Ok(client) => Ok(Embedded { node, client }),
            Err(error) => {
                node.shutdown().await?;
                Err(error.into())
            }
        }
    }

    /// Waits until the node's disk fails and says how; see [`Node::failed`].
    pub async fn failed(&self) -> NodeError {
        self.node.failed().await
    }

    /// The client, with Kafka's defaults. Cheap to clone.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A client with settings of its own; its bootstrap addresses do not matter.
    ///
    /// # Errors
    /// [`ClientError::InvalidConfig`].
    pub fn client_with(&self, config: ClientConfig) -> Result<Client, ClientError> {
        wired(&self.node, config)
    }

    /// The transport itself, for roles that make their own client.
    pub fn transport(&self) -> Arc<SessionTransport> {
        Arc::new(SessionTransport::new(self.node.session(SessionInfo::default())))
    }

    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Where the listener of [`EmbeddedConfig::listen`] is bound, if there is one.
    pub fn kafka_addr(&self) -> Option<SocketAddr> {
        self.node.listener_addr(KAFKA_LISTENER)
    }

    /// Stops the node; see [`Node::shutdown`]. Producers and consumers should be closed before: what they
    /// still want is refused from here on.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn shutdown(self) -> Result<(), NodeError> {
        drop(self.client);
        self.node.shutdown().await
    }
}

fn wired(node: &Node, config: ClientConfig) -> Result<Client, ClientError> {
    let info = SessionInfo {
        client_id: Some(config.client_id.clone()),
        ..SessionInfo::default()
    };
    let transport = Arc::new(SessionTransport::new(node.session(info)));
    let bootstrap = vec![BOOTSTRAP.to_owned()];
    Client::with_transport(ClientConfig { bootstrap, ..config }, transport)
}
