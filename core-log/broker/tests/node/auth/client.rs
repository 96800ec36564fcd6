//! A node that asks for logins, and a client's side of them.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use highwater_broker::{Node, NodeConfig, SecurityProtocol};
use highwater_wire::messages::{
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::support::Wire;

pub(crate) const USER: &str = "tim";
pub(crate) const PASSWORD: &str = "pencil";

/// A node with one listener that asks for logins by all mechanisms of passwords, and [`USER`] and `tom` as its users.
pub(crate) async fn start(
    dir: &Path,
    protocol: SecurityProtocol,
    properties: &[(&str, &str)],
) -> (Node, SocketAddr) {
    let users = dir.join("users.toml");
    let text = format!(
        "[[user]]\nname = \"{USER}\"\npassword = \"{PASSWORD}\"\n[[user]]\nname = \"tom\"\npassword = \"secret\"\n"
    );
    std::fs::write(&users, text).unwrap();
    let mut config = NodeConfig::new(dir.join("data"))
        .listen_with(protocol, "127.0.0.1:0".parse().unwrap())
        .property("highwater.sasl.users.file", users.display().to_string())
        .property("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512")
        .property("connection.failed.authentication.delay.ms", "0");
    for (name, value) in properties {
        config = config.property(*name, *value);
    }
    let node = Node::start(config).await.unwrap();
    let address = node.listener_addr(protocol.name()).unwrap();
    (node, address)
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) async fn handshake(&mut self, mechanism: &str) -> SaslHandshakeResponse {
        let mechanism = mechanism.into();
        self.call(1, SaslHandshakeRequest { mechanism }).await
    }

    pub(crate) async fn token(&mut self, token: impl Into<Bytes>) -> SaslAuthenticateResponse {
        let auth_bytes = token.into();
        self.call(2, SaslAuthenticateRequest { auth_bytes }).await
    }

    /// Handshake and token of PLAIN.
    pub(crate) async fn log_in(&mut self, user: &str, password: &str) -> SaslAuthenticateResponse {
        assert_eq!(self.handshake("PLAIN").await.error_code, 0);
        self.token(format!("\0{user}\0{password}")).await
    }
}
