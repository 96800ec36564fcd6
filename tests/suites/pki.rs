//! Certificates and tokens for one test: an authority, the broker's, a client's; an issuer of tokens and its keys.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, PublicKeyData, SigningKey,
};
use serde_json::{Value, json};

/// Files of one authority in a folder: `ca.pem`; for broker and client the certificate (`.crt`), the key (`.key`), and
/// both in one (`.pem`), which is how Kafka's tools want them. Beside them `jwks.json` with the keys of an issuer, its
/// `token` for alice, and `strange-token` of another issuer.
pub(crate) struct Pki {
    folder: PathBuf,
}

impl Pki {
    pub(crate) fn create(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let mut params = CertificateParams::new(Vec::<String>::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = named("Test Authority");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        std::fs::write(folder.join("ca.pem"), authority.pem())?;
        for (file, name) in [("broker", "localhost"), ("client", "alice")] {
            let key = KeyPair::generate()?;
            let mut params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
            params.distinguished_name = named(name);
            let certificate = params.signed_by(&key, &authority)?.pem();
            let key = key.serialize_pem();
            std::fs::write(
                folder.join(file).with_extension("pem"),
                format!("{key}{certificate}"),
            )?;
            std::fs::write(folder.join(file).with_extension("crt"), certificate)?;
            std::fs::write(folder.join(file).with_extension("key"), key)?;
        }
        let (issuer, stranger) = (KeyPair::generate()?, KeyPair::generate()?);
        std::fs::write(folder.join("jwks.json"), key_set(&issuer).to_string())?;
        std::fs::write(folder.join("token"), token(&claims()?, Some(&issuer))?)?;
        std::fs::write(folder.join("strange-token"), token(&claims()?, Some(&stranger))?)?;
        Ok(Self {
            folder: folder.to_owned(),
        })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Alice, for an hour.
pub(crate) fn claims() -> Result<Value> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(json!({ "sub": "alice", "iat": now, "exp": now + 3600 }))
}

/// A JSON web token, signed by nobody if there is no issuer, as Kafka's own login module makes them for trying out.
pub(crate) fn token(claims: &Value, issuer: Option<&KeyPair>) -> Result<String> {
    let encoded = |value: &Value| BASE64_URL.encode(value.to_string());
    let header = json!({ "alg": if issuer.is_some() { "ES256" } else { "none" } });
    let signed = format!("{}.{}", encoded(&header), encoded(claims));
    let signature = match issuer {
        Some(issuer) => fixed_length(&issuer.sign(signed.as_bytes())?),
        None => Vec::new(),
    };
    Ok(format!("{signed}.{}", BASE64_URL.encode(signature)))
}

/// Certificates carry a signature as a sequence of two integers in DER, tokens as two numbers of 32 bytes.
fn fixed_length(der: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = der.get(2..).unwrap_or_default();
    while let [_, length, after @ ..] = rest {
        let (number, tail) = after.split_at(usize::from(*length).min(after.len()));
        let digits = &number[number.len().saturating_sub(32)..];
        out.resize(out.len() + 32 - digits.len(), 0);
        out.extend_from_slice(digits);
        rest = tail;
    }
    out
}

fn key_set(issuer: &KeyPair) -> Value {
    // An uncompressed point: a byte that says so, then both coordinates.
    let (x, y) = issuer.der_bytes()[1..].split_at(32);
    let coordinate = |bytes| BASE64_URL.encode(bytes);
    json!({ "keys": [{ "kty": "EC", "crv": "P-256", "use": "sig", "x": coordinate(x), "y": coordinate(y) }] })
}

fn named(common_name: &str) -> rcgen::DistinguishedName {
    let mut name = rcgen::DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}
