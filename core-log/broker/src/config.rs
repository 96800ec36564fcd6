//! What a node is started with.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use highwater_storage::{Disk, StdDisk};
use highwater_types::BrokerId;

use crate::limits::Limits;
use crate::log_levels::LogLevels;

/// What protects a listener, by Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SecurityProtocol {
    /// Nothing: everybody is `User:ANONYMOUS`, and what is said can be read on the way.
    #[default]
    Plaintext,
    /// TLS; a client's certificate, if it is asked for, names the user.
    Ssl,
    /// Clients log in; what is said can be read on the way.
    SaslPlaintext,
    /// Clients log in under TLS.
    SaslSsl,
}

/// A word that names no security protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no security protocol; there are PLAINTEXT, SSL, SASL_PLAINTEXT and SASL_SSL")]
pub struct UnknownProtocol(String);

impl SecurityProtocol {
    /// All of them.
    pub const ALL: [SecurityProtocol; 4] = [
        SecurityProtocol::Plaintext,
        SecurityProtocol::Ssl,
        SecurityProtocol::SaslPlaintext,
        SecurityProtocol::SaslSsl,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            SecurityProtocol::Plaintext => "PLAINTEXT",
            SecurityProtocol::Ssl => "SSL",
            SecurityProtocol::SaslPlaintext => "SASL_PLAINTEXT",
            SecurityProtocol::SaslSsl => "SASL_SSL",
        }
    }

    /// Whether clients log in.
    pub const fn has_sasl(self) -> bool {
        matches!(self, SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl)
    }

    /// Whether connections are encrypted.
    pub const fn has_tls(self) -> bool {
        matches!(self, SecurityProtocol::Ssl | SecurityProtocol::SaslSsl)
    }
}

impl FromStr for SecurityProtocol {
    type Err = UnknownProtocol;

    fn from_str(word: &str) -> Result<Self, UnknownProtocol> {
        Self::ALL
            .into_iter()
            .find(|protocol| protocol.name() == word)
            .ok_or_else(|| UnknownProtocol(word.to_owned()))
    }
}

/// One place where clients come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerConfig {
    /// Its name, unique in the node: `PLAINTEXT`, `INTERNAL`, ...
    pub name: String,
    /// What protects it. What that needs (files, mechanisms) is among the node's properties.
    pub protocol: SecurityProtocol,
    /// Where to listen; port 0 takes a free one.
    pub bind: SocketAddr,
    /// Host and port that clients are told. Without it they are told where the listener is bound, or
    /// `localhost` when that is every address of the machine.
    pub advertised: Option<(String, u16)>,
}

/// Everything a node is started with.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The broker's id, unique in the cluster and kept over restarts.
    pub node_id: BrokerId,
    /// Where logs and metadata lie; made if it does not exist. One process at a time.
    pub data_dir: PathBuf,
    /// Where clients come in; none for a node that is only used in its own process.
    pub listeners: Vec<ListenerConfig>,
    /// Kafka's broker properties, such as `num.partitions`; unknown names and bad values are refused.
    pub properties: BTreeMap<String, String>,
    /// Bounds on what clients can make the node hold.
    pub limits: Limits,
    /// Where the files are: the machine's disk, or one that a test has under control.
    pub disk: Arc<dyn Disk>,
    /// Where the process logs to, so that administrators can change levels; without it such requests are refused.
    pub log_levels: Option<Arc<dyn LogLevels>>,
}

impl NodeConfig {
    /// A node 1 with its data in `data_dir`, no listener and Kafka's defaults.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        NodeConfig {
            node_id: BrokerId::new(1),
            data_dir: data_dir.into(),
            listeners: Vec::new(),
            properties: BTreeMap::new(),
            limits: Limits::default(),
            disk: StdDisk::shared(),
            log_levels: None,
        }
    }

    /// The same with one more listener.
    #[must_use]
    pub fn listen(mut self, name: impl Into<String>, bind: SocketAddr) -> Self {
        self.listeners.push(ListenerConfig {
            name: name.into(),
            protocol: SecurityProtocol::Plaintext,
            bind,
            advertised: None,
        });
        self
    }

    /// The same with one more listener, named after what protects it.
    #[must_use]
    pub fn listen_with(mut self, protocol: SecurityProtocol, bind: SocketAddr) -> Self {
        self.listeners.push(ListenerConfig {
            name: protocol.name().to_owned(),
            protocol,
            bind,
            advertised: None,
        });
        self
    }

    /// The same with one more property.
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.properties.insert(name.into(), value.into());
        self
    }
}

impl ListenerConfig {
    /// Host and port for clients, now that `bound` is known.
    pub(crate) fn advertised_at(&self, bound: SocketAddr) -> (String, u16) {
        if let Some((host, port)) = &self.advertised {
            // Port 0 in the advertised address means "whatever was bound".
            return (host.clone(), if *port == 0 { bound.port() } else { *port });
        }
        let host = match bound.ip() {
            ip if ip.is_unspecified() => "localhost".to_owned(),
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => ip.to_string(),
        };
        (host, bound.port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_an_address_they_can_connect_to() {
        let at = |bind: &str, advertised: Option<(&str, u16)>| {
            let advertised = advertised.map(|(host, port)| (host.to_owned(), port));
            let listener = ListenerConfig {
                name: "L".into(),
                protocol: SecurityProtocol::default(),
                bind: bind.parse().unwrap(),
                advertised,
            };
            listener.advertised_at("0.0.0.0:41".parse().unwrap())
        };
        assert_eq!(at("0.0.0.0:0", None), ("localhost".to_owned(), 41));
        assert_eq!(
            at("0.0.0.0:0", Some(("broker-1", 9092))),
            ("broker-1".to_owned(), 9092)
        );
        assert_eq!(
            at("0.0.0.0:0", Some(("broker-1", 0))),
            ("broker-1".to_owned(), 41)
        );
    }
}
