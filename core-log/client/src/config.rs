//! Settings every role shares. Names follow Kafka's client configuration; `Default` gives Kafka's defaults.

use std::time::Duration;

use highwater_types::ByteString;

use crate::{limits, security::SecurityConfig};

/// How to reach the cluster. `Default` has no bootstrap address and must be given one.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// `bootstrap.servers`: host:port of brokers to ask first.
    pub bootstrap: Vec<String>,
    /// `client.id`: how the brokers' logs name this client.
    pub client_id: ByteString,
    /// `request.timeout.ms`: how long an answer may take, beyond the time a request asks the broker to wait.
    pub request_timeout: Duration,
    /// `socket.connection.setup.timeout.ms`.
    pub connect_timeout: Duration,
    /// `reconnect.backoff.ms`: wait after a first failed connection.
    pub reconnect_backoff: Duration,
    /// `reconnect.backoff.max.ms`.
    pub reconnect_backoff_max: Duration,
    /// `retry.backoff.ms`: wait after a first failed request.
    pub retry_backoff: Duration,
    /// `retry.backoff.max.ms`.
    pub retry_backoff_max: Duration,
    /// `default.api.timeout.ms`: how long an operation may retry before it gives up.
    pub api_timeout: Duration,
    /// `metadata.max.age.ms`: after this long topics are looked up again without being asked.
    pub metadata_max_age: Duration,
    /// `allow.auto.create.topics`: whether asking for a topic by producing or subscribing may create it.
    pub allow_auto_create_topics: bool,
    /// `security.protocol` and what belongs to it.
    pub security: SecurityConfig,
    /// Largest response frame taken from a broker, in bytes.
    pub max_response_bytes: usize,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            bootstrap: Vec::new(),
            client_id: ByteString::from_static("highwater"),
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            reconnect_backoff: Duration::from_millis(50),
            reconnect_backoff_max: Duration::from_secs(1),
            retry_backoff: Duration::from_millis(100),
            retry_backoff_max: Duration::from_secs(1),
            api_timeout: Duration::from_secs(60),
            metadata_max_age: Duration::from_secs(300),
            allow_auto_create_topics: true,
            security: SecurityConfig::default(),
            max_response_bytes: limits::MAX_RESPONSE_BYTES,
        }
    }
}

impl ClientConfig {
    /// Kafka's defaults with these bootstrap addresses (`host:port`).
    pub fn new<A: Into<String>>(bootstrap: impl IntoIterator<Item = A>) -> Self {
        Self {
            bootstrap: bootstrap.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }
}
