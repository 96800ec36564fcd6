//! Signed tokens (RFC 7515, RFC 7519) and the keys they are checked with (RFC 7517).
//!
//! Pure: the time comes in as an argument. What a key can be used for is decided by the key, never by the token: there
//! are no algorithms with shared secrets here and no `none`, so neither can be smuggled in (hostile 91). Nothing of a
//! token is believed before its signature is checked.
//!
//! Refuses: tokens without an end, from before their beginning, of another issuer or for another audience, without a
//! subject, with critical extensions, encrypted ones.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use ring::signature::{self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{SecurityError, reloaded};

/// The setting that says where the keys are.
pub(crate) const JWKS_URL: &str = "sasl.oauthbearer.jwks.endpoint.url";

/// The most keys of a set; a token without a key id is tried with all of them.
const MAX_KEYS: usize = 64;

/// The longest name of a user.
const MAX_SUBJECT_BYTES: usize = 1024;

/// Why a token is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadToken {
    #[error("it is no signed JSON web token")]
    NoToken,
    #[error("it is signed in a way that is not accepted, or not signed at all")]
    Algorithm,
    #[error("no key of the key set fits it")]
    NoKey,
    #[error("its signature is wrong")]
    Signature,
    #[error("its claims cannot be read, or exp is not among them")]
    Claims,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    TooEarly,
    #[error("it comes from another issuer")]
    Issuer,
    #[error("it is meant for somebody else")]
    Audience,
    #[error("it does not name a user")]
    Subject,
}

/// What tokens must claim.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) issuer: Option<String>,
    /// Any if empty.
    pub(crate) audience: Vec<String>,
    pub(crate) subject_claim: String,
    pub(crate) skew_ms: i64,
}

/// What a good token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bearer {
    pub(crate) user: String,
    /// Milliseconds since 1970.
    pub(crate) expires_at_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Algorithm::Rs256,
            "RS384" => Algorithm::Rs384,
            "RS512" => Algorithm::Rs512,
            "PS256" => Algorithm::Ps256,
            "PS384" => Algorithm::Ps384,
            "PS512" => Algorithm::Ps512,
            "ES256" => Algorithm::Es256,
            "ES384" => Algorithm::Es384,
            "EdDSA" => Algorithm::EdDsa,
            _ => return None,
        })
    }

    fn of_rsa(self) -> Option<&'static RsaParameters> {
        Some(match self {
            Algorithm::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Algorithm::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Algorithm::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Algorithm::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Algorithm::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Algorithm::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => return None,
        })
    }
}

enum PublicKey {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
    Ed25519(Vec<u8>),
}

struct Key {
    id: Option<String>,
    /// The one algorithm it is for, if it says so.
    algorithm: Option<Algorithm>,
    public: PublicKey,
}

/// The keys of an issuer.
pub(crate) struct KeySet(Vec<Key>);

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet").field("keys", &self.0.len()).finish()
    }
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<Value>,
}

/// The file that a `file:` URL names.
///
/// # Errors
/// [`SecurityError::Setting`] for anything else: a node does not fetch what it trusts from the network.
pub(crate) fn file_of(url: &str) -> Result<PathBuf, SecurityError> {
    let path = url
        .strip_prefix("file:")
        .map(|path| match path.strip_prefix("//") {
            Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
            None => path,
        });
    match path {
        Some(path) if path.starts_with('/') => Ok(PathBuf::from(path)),
        _ => Err(SecurityError::Setting {
            setting: JWKS_URL,
            problem:
                "is no URL of a file, such as file:///etc/highwater/jwks.json; keys are not fetched from the \
                      network"
                    .to_owned(),
        }),
    }
}

impl KeySet {
    /// Reads a key set; keys that are for something else, or of unknown kinds, are left out.
    ///
    /// # Errors
    /// [`SecurityError`], also if no key is left: tokens are never accepted unchecked (CVE-2026-110985).
    pub(crate) fn read(path: &Path) -> Result<Self, SecurityError> {
        let bytes = reloaded::read(JWKS_URL, path)?;
        Self::parse(&bytes).map_err(|problem| SecurityError::Invalid {
            setting: JWKS_URL,
            path: path.to_path_buf(),
            problem: problem.to_owned(),
        })
    }

    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let document: Document = serde_json::from_slice(bytes).map_err(|_| "is no JSON web key set")?;
        let keys: Vec<Key> = document.keys.into_iter().filter_map(Key::of).collect();
        match keys.len() {
            0 => Err("holds no key for signatures of RSA (2048 bits and more), P-256, P-384 or Ed25519"),
            1..=MAX_KEYS => Ok(KeySet(keys)),
            _ => Err("holds more than 64 keys"),
        }
    }

    /// Believes a token, or does not.
    pub(crate) fn verify(&self, token: &str, rules: &Rules, now_ms: i64) -> Result<Bearer, BadToken> {
        let mut parts = token.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(BadToken::NoToken);
        };
        let decoded = |part: &str| BASE64_URL.decode(part).map_err(|_| BadToken::NoToken);
        let signed = token
            .get(..header.len() + 1 + payload.len())
            .ok_or(BadToken::NoToken)?;
        let header: Header = serde_json::from_slice(&decoded(header)?).map_err(|_| BadToken::NoToken)?;
        let algorithm = Algorithm::from_name(&header.alg).ok_or(BadToken::Algorithm)?;
        if header.crit.is_some() {
            return Err(BadToken::Algorithm);
        }
        let signature = decoded(signature)?;
        let mut fitting = self
            .0
            .iter()
            .filter(|key| key.fits(&header, algorithm))
            .peekable();
        if fitting.peek().is_none() {
            return Err(BadToken::NoKey);
        }
        if !fitting.any(|key| key.public.verifies(algorithm, signed.as_bytes(), &signature)) {
            return Err(BadToken::Signature);
        }
        let claims: Map<String, Value> =
            serde_json::from_slice(&decoded(payload)?).map_err(|_| BadToken::Claims)?;
        rules.check(&claims, now_ms)
    }
}

impl Key {
    fn of(entry: Entry) -> Option<Self> {
        if entry.purpose.is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let bytes = |text: Option<String>| BASE64_URL.decode(text?.trim_end_matches('=')).ok();
        let public = match (entry.kty.as_str(), entry.crv.as_deref()) {
            ("RSA", _) => {
                let modulus = without_zeros(bytes(entry.n)?);
                let exponent = without_zeros(bytes(entry.e)?);
                if modulus.len() < 256 || exponent.is_empty() {
                    return None;
                }
                PublicKey::Rsa { modulus, exponent }
            }
            ("EC", Some("P-256")) => PublicKey::P256(point(bytes(entry.x)?, bytes(entry.y)?, 32)?),
            ("EC", Some("P-384")) => PublicKey::P384(point(bytes(entry.x)?, bytes(entry.y)?, 48)?),
            ("OKP", Some("Ed25519")) => PublicKey::Ed25519(bytes(entry.x)?),
            _ => return None,
        };
        let algorithm = match entry.alg.as_deref() {
            // A key for another algorithm is for no signature that counts here.
            Some(name) => Some(Algorithm::from_name(name)?),
            None => None,
        };
        Some(Key {
            id: entry.kid,
            algorithm,
            public,
        })
    }

    fn fits(&self, header: &Header, algorithm: Algorithm) -> bool {
        let is_named = header.kid.is_none() || header.kid == self.id;
        is_named && self.algorithm.is_none_or(|own| own == algorithm) && self.public.is_for(algorithm)
    }
}

fn without_zeros(bytes: Vec<u8>) -> Vec<u8> {
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes[zeros..].to_vec()
}

/// A point in the form that signatures are checked with.
fn point(x: Vec<u8>, y: Vec<u8>, len_bytes: usize) -> Option<Vec<u8>> {
    let is_fine = x.len() == len_bytes && y.len() == len_bytes;
    is_fine.then(|| [&[4][..], &x, &y].concat())
}

impl PublicKey {
    fn is_for(&self, algorithm: Algorithm) -> bool {
        match self {
            PublicKey::Rsa { .. } => algorithm.of_rsa().is_some(),
            PublicKey::P256(_) => algorithm == Algorithm::Es256,
            PublicKey::P384(_) => algorithm == Algorithm::Es384,
            PublicKey::Ed25519(_) => algorithm == Algorithm::EdDsa,
        }
    }

    fn verifies(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        let verified =
            match self {
                PublicKey::Rsa { modulus, exponent } => match algorithm.of_rsa() {
                    Some(parameters) => RsaPublicKeyComponents {
                        n: modulus,
                        e: exponent,
                    }
                    .verify(parameters, signed, signature),
                    None => return false,
                },
                PublicKey::P256(point) => UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                    .verify(signed, signature),
                PublicKey::P384(point) => UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point)
                    .verify(signed, signature),
                PublicKey::Ed25519(key) => {
                    UnparsedPublicKey::new(&signature::ED25519, key).verify(signed, signature)
                }
            };
        verified.is_ok()
    }
}

impl Rules {
    fn check(&self, claims: &Map<String, Value>, now_ms: i64) -> Result<Bearer, BadToken> {
        let expires_at_ms = time(claims, "exp")?.ok_or(BadToken::Claims)?;
        if now_ms >= expires_at_ms.saturating_add(self.skew_ms) {
            return Err(BadToken::Expired);
        }
        for beginning in ["nbf", "iat"] {
            let from_ms = time(claims, beginning)?;
            if from_ms.is_some_and(|from_ms| now_ms.saturating_add(self.skew_ms) < from_ms) {
                return Err(BadToken::TooEarly);
            }
        }
        if let Some(issuer) = &self.issuer
            && claims.get("iss").and_then(Value::as_str) != Some(issuer)
        {
            return Err(BadToken::Issuer);
        }
        if !self.audience.is_empty() && !self.is_meant(claims.get("aud")) {
            return Err(BadToken::Audience);
        }
        let subject = claims.get(&self.subject_claim).and_then(Value::as_str);
        let user = subject.filter(|user| {
            !user.is_empty() && user.len() <= MAX_SUBJECT_BYTES && !user.contains(char::is_control)
        });
        Ok(Bearer {
            user: user.ok_or(BadToken::Subject)?.to_owned(),
            expires_at_ms,
        })
    }

    fn is_meant(&self, audience: Option<&Value>) -> bool {
        let is_us = |value: &Value| {
            value
                .as_str()
                .is_some_and(|name| self.audience.iter().any(|us| us == name))
        };
        match audience {
            Some(Value::Array(several)) => several.iter().any(is_us),
            Some(one) => is_us(one),
            None => false,
        }
    }
}

/// A time of a claim in milliseconds; `None` if there is no such claim.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, BadToken> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let seconds = value
        .as_f64()
        .filter(|seconds| seconds.is_finite() && *seconds >= 0.0);
    // What is beyond all times is for ever, whichever way it is rounded.
    Ok(Some((seconds.ok_or(BadToken::Claims)? * 1000.0) as i64))
}

#[cfg(test)]
mod tests;
