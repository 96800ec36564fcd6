//! TLS on a listener: which certificate it shows, which ones it asks for, and whom they name.
//!
//! TLS 1.2 and 1.3 as rustls has them with ring; there is nothing to choose, so nothing can be chosen badly. Refuses
//! (hostile 92): certificates that are expired, not valid yet or from an unknown authority; chains longer than a
//! handshake message of 64 KiB; renegotiation, which does not exist here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_cluster::{ClientCertificates, Principal, SecuritySettings};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{RootCertStore, ServerConfig};
use webpki::EndEntityCert;

use super::name::{self, NoName};
use super::reloaded::Reloaded;
use super::{SecurityError, reloaded};
use crate::config::{ListenerConfig, SecurityProtocol};

/// The setting that names the certificate chain.
const CHAIN: &str = "ssl.keystore.location";
/// The setting that names the private key, if it is a file of its own.
const KEY: &str = "highwater.ssl.key.location";
/// The setting that names the authorities of clients.
const AUTHORITIES: &str = "ssl.truststore.location";

/// What a listener's TLS is made of.
#[derive(Debug, Clone)]
struct Files {
    chain: PathBuf,
    key: Option<PathBuf>,
    clients: ClientCertificates,
    authorities: Option<PathBuf>,
}

/// Reads the files of a listener with TLS, now and whenever they change.
///
/// # Errors
/// [`SecurityError`].
pub(crate) fn of_listener(
    listener: &ListenerConfig,
    settings: &SecuritySettings,
) -> Result<Reloaded<ServerConfig>, SecurityError> {
    let missing = |setting, why| SecurityError::Missing {
        listener: listener.name.clone(),
        setting,
        why,
    };
    let chain = settings.ssl_keystore_location.as_ref();
    let chain = chain.ok_or_else(|| missing(CHAIN, "the certificate that clients are shown"))?;
    // As in Kafka: who logs in is not asked for a certificate, too.
    let clients = match listener.protocol {
        SecurityProtocol::Ssl => settings.ssl_client_auth,
        SecurityProtocol::Plaintext | SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl => {
            ClientCertificates::Off
        }
    };
    let authorities = settings.ssl_truststore_location.as_ref().map(PathBuf::from);
    if clients != ClientCertificates::Off && authorities.is_none() {
        return Err(missing(AUTHORITIES, "whose certificates clients may show"));
    }
    let files = Files {
        chain: chain.into(),
        key: settings.highwater_ssl_key_location.as_ref().map(PathBuf::from),
        clients,
        authorities: authorities.filter(|_| clients != ClientCertificates::Off),
    };
    let watched = [
        Some(files.chain.clone()),
        files.key.clone(),
        files.authorities.clone(),
    ];
    Reloaded::new(watched.into_iter().flatten().collect(), move || files.config())
}

impl Files {
    fn config(&self) -> Result<ServerConfig, SecurityError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain_pem = reloaded::read(CHAIN, &self.chain)?;
        let chain = certificates(CHAIN, &self.chain, &chain_pem)?;
        let (setting, path, key_pem) = match &self.key {
            Some(path) => (KEY, path, reloaded::read(KEY, path)?),
            None => (CHAIN, &self.chain, chain_pem),
        };
        let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|_| {
            let problem =
                "holds no private key in PEM form, of PKCS#8, PKCS#1 or SEC1 and without a password";
            invalid(setting, path, problem)
        })?;
        let verifier = self.verifier(&provider)?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| invalid(CHAIN, &self.chain, error))?;
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        builder
            .with_single_cert(chain, key)
            .map_err(|error| invalid(CHAIN, &self.chain, format!("and its key cannot be used: {error}")))
    }

    fn verifier(
        &self,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<Arc<dyn ClientCertVerifier>>, SecurityError> {
        let Some(path) = &self.authorities else {
            return Ok(None);
        };
        let pem = reloaded::read(AUTHORITIES, path)?;
        let mut roots = RootCertStore::empty();
        for certificate in certificates(AUTHORITIES, path, &pem)? {
            roots.add(certificate).map_err(|error| {
                invalid(
                    AUTHORITIES,
                    path,
                    format!("has an authority that cannot be used: {error}"),
                )
            })?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
        let builder = match self.clients {
            ClientCertificates::Requested => builder.allow_unauthenticated(),
            ClientCertificates::Required | ClientCertificates::Off => builder,
        };
        let verifier = builder
            .build()
            .map_err(|error| invalid(AUTHORITIES, path, error))?;
        Ok(Some(verifier))
    }
}

fn certificates(
    setting: &'static str,
    path: &Path,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, SecurityError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) | Err(_) => Err(invalid(setting, path, "holds no certificate in PEM form")),
    }
}

fn invalid(setting: &'static str, path: &Path, problem: impl ToString) -> SecurityError {
    SecurityError::Invalid {
        setting,
        path: path.to_path_buf(),
        problem: problem.to_string(),
    }
}

/// Whom a client's certificate names; it has been found good. Nobody in particular if it showed none.
pub(crate) fn principal(shown: Option<&[CertificateDer<'_>]>) -> Result<Principal, NoName> {
    let Some(certificate) = shown.and_then(<[_]>::first) else {
        return Ok(Principal::anonymous());
    };
    let certificate = EndEntityCert::try_from(certificate).map_err(|_| NoName)?;
    Ok(Principal::user(name::text(certificate.subject())?))
}
