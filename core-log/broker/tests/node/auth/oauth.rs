//! OAUTHBEARER over the wire.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64_URL;
use highwater_broker::SecurityProtocol;
use highwater_wire::ErrorCode;
use highwater_wire::messages::{MetadataRequest, SaslAuthenticateResponse};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::json;

use super::certificates::write;
use super::client::start;
use crate::support::{Wire, now};

struct Issuer(Ed25519KeyPair);

impl Issuer {
    fn new() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Issuer(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
    }

    fn keys(&self) -> String {
        let x = BASE64_URL.encode(self.0.public_key().as_ref());
        json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": "k", "x": x }] }).to_string()
    }

    /// A token that ends so many milliseconds from now.
    fn token(&self, user: &str, left_ms: i64) -> String {
        let header = BASE64_URL.encode(json!({ "alg": "EdDSA", "kid": "k" }).to_string());
        let exp = (now().get() + left_ms) as f64 / 1000.0;
        let claims = json!({ "sub": user, "exp": exp, "aud": ["kafka"], "iss": "us" });
        let signed = format!("{header}.{}", BASE64_URL.encode(claims.to_string()));
        format!("{signed}.{}", BASE64_URL.encode(self.0.sign(signed.as_bytes())))
    }
}

async fn log_in(wire: &mut Wire, token: &str) -> SaslAuthenticateResponse {
    assert_eq!(wire.handshake("OAUTHBEARER").await.error_code, 0);
    wire.token(format!("n,,\x01auth=Bearer {token}\x01\x01")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_11_hostile_91_a_token_logs_in_for_as_long_as_it_is_good() {
    let dir = tempfile::tempdir().unwrap();
    let (issuer, foreign) = (Issuer::new(), Issuer::new());
    let keys = write(dir.path(), "jwks.json", &issuer.keys());
    let url = format!("file://{}", keys.display());
    let properties = [
        ("sasl.enabled.mechanisms", "OAUTHBEARER"),
        ("sasl.oauthbearer.jwks.endpoint.url", url.as_str()),
        ("sasl.oauthbearer.expected.audience", "kafka"),
        ("sasl.oauthbearer.expected.issuer", "us"),
    ];
    let (node, address) = start(dir.path(), SecurityProtocol::SaslPlaintext, &properties).await;
    let mut long = Wire::connect(address).await;
    let answer = log_in(&mut long, &issuer.token("tim", 3_600_000)).await;
    assert_eq!(answer.error_code, 0);
    assert!((1..=3_600_000).contains(&answer.session_lifetime_ms));
    long.create("t", 1, &[]).await;
    let mut short = Wire::connect(address).await;
    assert_eq!(
        log_in(&mut short, &issuer.token("tim", 1_100)).await.error_code,
        0
    );
    for (bad, told) in [
        (
            foreign.token("tim", 3_600_000),
            "Authentication failed: the token is not accepted",
        ),
        (
            issuer.token("tim", -60_000),
            "Authentication failed: the token has expired",
        ),
        (
            "a.b.c".to_owned(),
            "Authentication failed: the token is not accepted",
        ),
    ] {
        let mut wire = Wire::connect(address).await;
        let answer = log_in(&mut wire, &bad).await;
        assert_eq!(answer.error_code, ErrorCode::SaslAuthenticationFailed.code());
        assert_eq!(answer.error_message.as_deref(), Some(told));
        assert!(wire.is_closed_by_node().await);
    }
    // The property says nothing of a bound, the token does.
    tokio::time::sleep(std::time::Duration::from_millis(1_200)).await;
    short.send(12, MetadataRequest::default()).await;
    assert!(short.read_frame().await.is_none());
    // As somebody else, later.
    let other = log_in(&mut long, &issuer.token("tom", 3_600_000)).await;
    assert_eq!(other.error_code, ErrorCode::SaslAuthenticationFailed.code());
    node.shutdown().await.unwrap();
}
