//! How a client proves who it is and makes sure whom it talks to: TLS and SASL, with the names of Kafka's clients.
//!
//! # Invariants
//! - A password, token or key is in no `Debug` output and in no error.
//! - The name in a broker's certificate is checked unless that is turned off by name.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use crate::limits;

/// What protects the connections. `Default` is plain TCP without authentication (`PLAINTEXT`).
#[derive(Debug, Clone, Default)]
pub struct SecurityConfig {
    /// Set for `SSL` and `SASL_SSL`.
    pub tls: Option<TlsConfig>,
    /// Set for `SASL_PLAINTEXT` and `SASL_SSL`.
    pub sasl: Option<SaslConfig>,
}

impl SecurityConfig {
    /// `security.protocol`: what the two settings amount to.
    pub const fn protocol(&self) -> &'static str {
        match (&self.tls, &self.sasl) {
            (None, None) => "PLAINTEXT",
            (Some(_), None) => "SSL",
            (None, Some(_)) => "SASL_PLAINTEXT",
            (Some(_), Some(_)) => "SASL_SSL",
        }
    }
}

/// TLS 1.2 or 1.3, with or without a certificate of this client's own.
#[derive(Debug, Clone)]
pub struct TlsConfig {
    /// `ssl.truststore.location` or `ssl.truststore.certificates`: the authorities that may vouch for a broker.
    /// `None` stands for those of the system.
    pub truststore: Option<Pem>,
    /// `ssl.keystore.*`: who this client is, for brokers with `ssl.client.auth`.
    pub identity: Option<ClientIdentity>,
    /// `ssl.endpoint.identification.algorithm`: whether the broker's certificate must hold the name that was
    /// connected to. Without it, whoever has any certificate of a trusted authority can pose as the broker.
    pub verify_hostname: bool,
}

impl Default for TlsConfig {
    fn default() -> Self {
        Self {
            truststore: None,
            identity: None,
            verify_hostname: true,
        }
    }
}

/// A client certificate and its key; both may be in one PEM file.
#[derive(Debug, Clone)]
pub struct ClientIdentity {
    /// The certificate, then those that vouch for it.
    pub certificate_chain: Pem,
    /// The private key, not encrypted.
    pub key: Pem,
}

/// Something in PEM form.
#[derive(Debug, Clone)]
pub enum Pem {
    /// In a file, read once when the client is made.
    File(PathBuf),
    /// As text.
    Text(Secret),
}

/// Who this client is, and how it proves it.
#[derive(Debug, Clone)]
pub enum SaslConfig {
    /// `PLAIN`: the password itself is sent; for use with TLS.
    Plain(Login),
    /// `SCRAM-SHA-256`, `SCRAM-SHA-512`: both sides prove that they know the password, and neither tells it.
    Scram(ScramHash, Login),
    /// `OAUTHBEARER`: whoever holds the token is let in; for use with TLS.
    OAuthBearer(Token),
}

impl SaslConfig {
    /// `sasl.mechanism`.
    pub const fn mechanism(&self) -> &'static str {
        match self {
            Self::Plain(_) => "PLAIN",
            Self::Scram(hash, _) => hash.mechanism(),
            Self::OAuthBearer(_) => "OAUTHBEARER",
        }
    }
}

/// A name and a password.
#[derive(Debug, Clone)]
pub struct Login {
    /// `sasl.username`.
    pub username: String,
    /// `sasl.password`.
    pub password: Secret,
}

/// The hash of a SCRAM mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScramHash {
    /// `SCRAM-SHA-256`.
    Sha256,
    /// `SCRAM-SHA-512`.
    Sha512,
}

impl ScramHash {
    /// `sasl.mechanism`.
    pub const fn mechanism(self) -> &'static str {
        match self {
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }
}

/// Where a bearer token comes from.
#[derive(Debug, Clone)]
pub enum Token {
    /// The same one each time.
    Static(Secret),
    /// A file, read anew for every authentication, so that whatever renews tokens only has to write it.
    File(PathBuf),
}

/// Text that no `Debug` output shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` to itself.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hidden")
    }
}

/// Reads a file that is small if it is what it should be.
pub(crate) fn read_small_file(path: &Path) -> io::Result<Vec<u8>> {
    let size = std::fs::metadata(path)?.len();
    if size > limits::MAX_SMALL_FILE_BYTES {
        return Err(io::Error::other(format!(
            "{size} bytes are too many; {} are allowed",
            limits::MAX_SMALL_FILE_BYTES
        )));
    }
    std::fs::read(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_in_no_debug_output() {
        let login = Login {
            username: "alice".to_owned(),
            password: Secret::new("alice-secret"),
        };
        let config = SecurityConfig {
            tls: Some(TlsConfig {
                truststore: Some(Pem::Text(Secret::new("PEM text"))),
                ..TlsConfig::default()
            }),
            sasl: Some(SaslConfig::Scram(ScramHash::Sha512, login)),
        };
        let shown = format!("{config:?}");
        assert!(
            shown.contains("alice\"") && !shown.contains("secret") && !shown.contains("PEM text"),
            "{shown}"
        );
        assert_eq!(config.protocol(), "SASL_SSL");
    }
}
