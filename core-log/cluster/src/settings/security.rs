//! How clients log in, as typed values. Only places of secrets are here, never secrets.

use super::Values;
use crate::config_defs::ConfigError;

/// Whether clients of a listener with TLS show a certificate (`ssl.client.auth`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked for one.
    Off,
    /// Who shows one must show a good one.
    Requested,
    /// Everybody must show a good one.
    Required,
}

/// What each listener can have of its own, as `listener.name.<listener, in small letters>.<key>`: how clients of it
/// log in and what its TLS is made of.
pub const LISTENER_CONFIGS: &[&str] = &[
    "connections.max.reauth.ms",
    "highwater.sasl.users.file",
    "highwater.ssl.key.location",
    "sasl.enabled.mechanisms",
    "sasl.oauthbearer.clock.skew.seconds",
    "sasl.oauthbearer.expected.audience",
    "sasl.oauthbearer.expected.issuer",
    "sasl.oauthbearer.jwks.endpoint.url",
    "sasl.oauthbearer.sub.claim.name",
    "sasl.server.max.receive.size",
    "ssl.client.auth",
    "ssl.keystore.location",
    "ssl.keystore.type",
    "ssl.truststore.location",
    "ssl.truststore.type",
];

/// The configs of a broker about TLS and SASL, each under Kafka's name.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the registry documents every key")]
pub struct SecuritySettings {
    pub connection_failed_authentication_delay_ms: u32,
    /// `None` keeps a login for ever, or until its token expires.
    pub connections_max_reauth_ms: Option<u64>,
    pub highwater_sasl_users_file: Option<String>,
    pub highwater_ssl_key_location: Option<String>,
    pub sasl_enabled_mechanisms: Vec<String>,
    pub sasl_oauthbearer_clock_skew_seconds: u32,
    /// Any audience if empty.
    pub sasl_oauthbearer_expected_audience: Vec<String>,
    pub sasl_oauthbearer_expected_issuer: Option<String>,
    pub sasl_oauthbearer_jwks_endpoint_url: Option<String>,
    pub sasl_oauthbearer_sub_claim_name: String,
    pub sasl_server_max_receive_size: u32,
    pub ssl_client_auth: ClientCertificates,
    pub ssl_keystore_location: Option<String>,
    pub ssl_truststore_location: Option<String>,
}

impl SecuritySettings {
    pub(super) fn read(values: &Values<'_>) -> Result<Self, ConfigError> {
        let text = |key| values.optional(key, Values::text);
        let audience = values.optional("sasl.oauthbearer.expected.audience", Values::list)?;
        Ok(Self {
            connection_failed_authentication_delay_ms: values
                .size("connection.failed.authentication.delay.ms")?,
            connections_max_reauth_ms: u64::try_from(values.long("connections.max.reauth.ms")?)
                .ok()
                .filter(|ms| *ms > 0),
            highwater_sasl_users_file: text("highwater.sasl.users.file")?,
            highwater_ssl_key_location: text("highwater.ssl.key.location")?,
            sasl_enabled_mechanisms: values.list("sasl.enabled.mechanisms")?,
            sasl_oauthbearer_clock_skew_seconds: values.size("sasl.oauthbearer.clock.skew.seconds")?,
            sasl_oauthbearer_expected_audience: audience.unwrap_or_default(),
            sasl_oauthbearer_expected_issuer: text("sasl.oauthbearer.expected.issuer")?,
            sasl_oauthbearer_jwks_endpoint_url: text("sasl.oauthbearer.jwks.endpoint.url")?,
            sasl_oauthbearer_sub_claim_name: values.text("sasl.oauthbearer.sub.claim.name")?,
            sasl_server_max_receive_size: values.size("sasl.server.max.receive.size")?,
            // The registry lets no other word through.
            ssl_client_auth: match values.text("ssl.client.auth")?.as_str() {
                "required" => ClientCertificates::Required,
                "requested" => ClientCertificates::Requested,
                _ => ClientCertificates::Off,
            },
            ssl_keystore_location: text("ssl.keystore.location")?,
            ssl_truststore_location: text("ssl.truststore.location")?,
        })
    }
}
