//! TLS as a client: rustls with ring, the authorities and the identity that the configuration names.
//!
//! # Invariants
//! - A broker's certificate must always lead to a trusted authority; only the check of its name can be turned off.

use std::{io, sync::Arc};

use rustls::{
    AlertDescription, CertificateError, DigitallySignedStruct, Error as TlsError, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    ClientError, TransportError,
    security::{Pem, TlsConfig, read_small_file},
};

/// Makes TLS of TCP connections.
#[derive(Clone)]
pub(super) struct Tls {
    connector: TlsConnector,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads what the configuration names.
    ///
    /// # Errors
    /// [`ClientError::Security`] when a file cannot be read or does not hold what it should.
    pub(super) fn new(config: &TlsConfig) -> Result<Self, ClientError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = verifier(config, provider.clone())?;
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid("security.protocol", error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match &config.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let chain = certificates("ssl.keystore.certificate.chain", &identity.certificate_chain)?;
                let key = private_key("ssl.keystore.key", &identity.key)?;
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    invalid(
                        "ssl.keystore.key",
                        format!("does not go with the certificate: {error}"),
                    )
                })?
            }
        };
        Ok(Self {
            connector: TlsConnector::from(Arc::new(config)),
        })
    }

    /// The handshake with the broker at `address`.
    pub(super) async fn handshake(
        &self,
        address: &str,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, TransportError> {
        let name = server_name(address).map_err(|source| TransportError::Connect {
            address: address.to_owned(),
            source: Arc::new(source),
        })?;
        self.connector
            .connect(name, stream)
            .await
            .map_err(|error| handshake_failure(address, error))
    }
}

/// The name that the certificate must hold: the host without its port, an IPv6 address without its brackets.
fn server_name(address: &str) -> io::Result<ServerName<'static>> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host
        .strip_prefix('[')
        .and_then(|h| h.strip_suffix(']'))
        .unwrap_or(host);
    ServerName::try_from(host.to_owned()).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

fn invalid(name: &'static str, problem: String) -> ClientError {
    ClientError::Security { name, problem }
}

fn verifier(
    config: &TlsConfig,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, ClientError> {
    const NAME: &str = "ssl.truststore.location";
    let roots = match &config.truststore {
        Some(pem) => given_roots(NAME, pem)?,
        None => system_roots(NAME)?,
    };
    let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| invalid(NAME, error.to_string()))?;
    Ok(if config.verify_hostname {
        inner
    } else {
        Arc::new(AnyName { inner })
    })
}

fn given_roots(name: &'static str, pem: &Pem) -> Result<RootCertStore, ClientError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(name, pem)? {
        roots.add(certificate).map_err(|error| {
            invalid(
                name,
                format!("{} holds a certificate that cannot be used: {error}", place(pem)),
            )
        })?;
    }
    Ok(roots)
}

fn system_roots(name: &'static str) -> Result<RootCertStore, ClientError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Systems carry some authorities that no library of today can read; the others do.
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let why = found
            .errors
            .first()
            .map(|error| format!(" ({error})"))
            .unwrap_or_default();
        return Err(invalid(
            name,
            format!("this system has no trusted authorities{why}; name a PEM file of them"),
        ));
    }
    Ok(roots)
}

fn place(pem: &Pem) -> String {
    match pem {
        Pem::File(path) => path.display().to_string(),
        Pem::Text(_) => "the text given".to_owned(),
    }
}

fn bytes(name: &'static str, pem: &Pem) -> Result<Vec<u8>, ClientError> {
    let bytes = match pem {
        Pem::Text(text) => text.reveal().as_bytes().to_vec(),
        Pem::File(path) => {
            read_small_file(path).map_err(|error| invalid(name, format!("{}: {error}", place(pem))))?
        }
    };
    // What Java keeps: JKS begins with FEEDFEED, PKCS#12 is a DER sequence.
    if bytes.starts_with(&[0xfe, 0xed, 0xfe, 0xed]) || bytes.starts_with(&[0x30, 0x82]) {
        return Err(invalid(
            name,
            format!(
                "{} is a Java or PKCS#12 store; export what it holds as PEM: `keytool -exportcert -rfc` for \
                 certificates, `openssl pkcs12 -nodes` for a key",
                place(pem)
            ),
        ));
    }
    Ok(bytes)
}

fn certificates(name: &'static str, pem: &Pem) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes(name, pem)?).collect();
    let found = found.map_err(|error| invalid(name, format!("{} is not PEM: {error}", place(pem))))?;
    if found.is_empty() {
        return Err(invalid(
            name,
            format!("{} holds no certificate (BEGIN CERTIFICATE)", place(pem)),
        ));
    }
    Ok(found)
}

fn private_key(name: &'static str, pem: &Pem) -> Result<PrivateKeyDer<'static>, ClientError> {
    let bytes = bytes(name, pem)?;
    const ENCRYPTED: &[u8] = b"BEGIN ENCRYPTED PRIVATE KEY";
    if bytes.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED) {
        return Err(invalid(
            name,
            format!(
                "{} holds an encrypted key; decrypt it with `openssl pkcs8 -in KEY -out PLAINKEY` and protect the file",
                place(pem)
            ),
        ));
    }
    PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|error| invalid(name, format!("{} holds no private key: {error}", place(pem))))
}

/// Checks everything but the name.
#[derive(Debug)]
struct AnyName {
    inner: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let checked =
            self.inner
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        match checked {
            // The name is checked last: all else is well.
            Err(TlsError::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn handshake_failure(address: &str, error: io::Error) -> TransportError {
    match tls_error(&error) {
        Some(cause) => {
            let fix = fix(cause);
            refused(address, fix, error)
        }
        // A listener without TLS takes a ClientHello for a frame of impossible length and hangs up. So does a
        // broker that is going down, so this may be tried again.
        None => TransportError::Closed {
            address: address.to_owned(),
            reason: format!(
                "it ended the TLS handshake ({error}); is this the port of an SSL or SASL_SSL listener?"
            )
            .into(),
        },
    }
}

/// What a failure on an established connection means: with TLS 1.3 a broker refuses a client's certificate, or
/// misses one, only after the client's handshake is done.
pub(super) fn failure(address: &str, error: io::Error) -> TransportError {
    match tls_error(&error) {
        Some(cause @ TlsError::AlertReceived(alert)) if is_about_identity(*alert) => {
            let fix = fix(cause);
            refused(address, fix, error)
        }
        _ => TransportError::Closed {
            address: address.to_owned(),
            reason: error.to_string().into(),
        },
    }
}

fn refused(address: &str, fix: &'static str, error: io::Error) -> TransportError {
    TransportError::Tls {
        address: address.to_owned(),
        fix,
        source: Arc::new(error),
    }
}

fn tls_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}

const fn is_about_identity(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::NoCertificate
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
            | AlertDescription::DecryptError
            | AlertDescription::HandshakeFailure
    )
}

fn fix(cause: &TlsError) -> &'static str {
    match cause {
        TlsError::InvalidCertificate(problem) => match problem {
            // A bad signature is that of another authority of the same name.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "name the PEM file of the authority that signed its certificate in ssl.truststore.location"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "connect by a name that its certificate holds, or, where whoever can answer is trusted, set \
                 ssl.endpoint.identification.algorithm to nothing"
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => {
                "renew its certificate, or set the clock of this machine right"
            }
            _ => "give the broker another certificate",
        },
        TlsError::InvalidMessage(_) => {
            "it does not answer in TLS; use the port of its SSL or SASL_SSL listener, or set security.protocol to \
             PLAINTEXT or SASL_PLAINTEXT"
        }
        TlsError::AlertReceived(alert) if is_about_identity(*alert) => {
            "it wants a certificate of this client that it trusts; set ssl.keystore.certificate.chain and \
             ssl.keystore.key, or ssl.keystore.location"
        }
        TlsError::AlertReceived(AlertDescription::ProtocolVersion) | TlsError::PeerIncompatible(_) => {
            "the broker must offer TLS 1.2 or 1.3"
        }
        _ => "check that this is the broker you mean",
    }
}

#[cfg(test)]
mod tests;
