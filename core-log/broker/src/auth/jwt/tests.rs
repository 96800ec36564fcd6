//! Honest tokens of each kind of key, and the tricks that are known.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::json;

use super::*;

/// A key of RSA made with openssl, and what it signed: `{"alg":"RS256","kid":"rsa"}`, `{"sub":"tim","exp":2000}`.
const RSA_MODULUS: &str = "lj-Nw-2P5GgavJNMCGPJEqnt26nfwMp3BGOuPRtsM3LkStsxZmUm3pqjoqOC69_DmzHdKRvyw66QaHsr9ckny08q5T-_UBSSxjDb\
    NiXFzF_gmkrQibRAyifiMLlo-_TW2hwcBWJ1AB2ViPpvinR1TH5Jy7OnPkyjL6LiRohD6aA7ktBGKqhwop_gKO6OxFMqkZBbg1_K\
    lmjPp7aoZKuNbB2kKuQnebbVXOx6HGNzhAFzCsZhAgd0ZsusViqpfZdONJIvbqkjk_V0T71UB_6NmdA_GMmFJF3KoSdN5aXL2FrT\
    9ANQK2S572eVbzVt1BYvUCzetjtyQlbHFGzDa9298Q";
const RSA_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.eyJzdWIiOiJ0aW0iLCJleHAiOjIwMDB9.UcQ8JSKI8fL46cKitNsMCisNm6rfTA\
    Jg0gCBOhED2yNoruJrGzhjK2TdcD6auDuRGz6yF0N41IoQTSyCFozDbR0O_Nt6vfP33vRB90WGf9jnLOoa0rlYHP6YobezdQYnw_\
    mJlydsi6I_0IqSklrtG08QVSyI6ot2BUlMFbo-5pf_AaWXM0OaYkuIBJ2eMUQk2p-zNKK0Mg-E94ZiK8TPoxVxlXaF3EYUu0tX8t\
    ePRUNCDvqRsUdTjlfoMXKl2lC7EBkR5Gh-jiWU0WwIx5ozTK0UpmINihq96kkhpIkLpZaG0LSItfkV_trXMLK-MSYCz5QEcUjTSQ\
    omtO5rEnRBBg";

const NOW_MS: i64 = 1_000_000;

fn rules() -> Rules {
    Rules {
        issuer: None,
        audience: Vec::new(),
        subject_claim: "sub".to_owned(),
        skew_ms: 30_000,
    }
}

/// Two keys of an issuer, and the public halves as a set, with the one of RSA.
struct Issuer {
    p256: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
    keys: KeySet,
}

impl Issuer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let p256 = EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).unwrap();
        let document = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        let ed25519 = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
        let point = p256.public_key().as_ref();
        let set = json!({ "keys": [
            { "kty": "oct", "kid": "shared", "k": "AAAA" },
            { "kty": "RSA", "kid": "rsa", "use": "sig", "alg": "RS256", "n": RSA_MODULUS, "e": "AQAB" },
            { "kty": "EC", "kid": "p256", "crv": "P-256", "x": encoded(&point[1..33]), "y": encoded(&point[33..]) },
            { "kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": encoded(ed25519.public_key().as_ref()) },
        ] });
        let keys = KeySet::parse(set.to_string().as_bytes()).unwrap();
        assert_eq!(keys.0.len(), 3);
        Issuer { p256, ed25519, keys }
    }

    /// A token signed with the key of P-256.
    fn token(&self, header: &Value, claims: &Value) -> String {
        let signed = unsigned(header, claims);
        let signature = self.p256.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
        format!("{signed}.{}", encoded(signature.as_ref()))
    }

    fn verify(&self, token: &str) -> Result<Bearer, BadToken> {
        self.keys.verify(token, &rules(), NOW_MS)
    }

    fn claims(&self, claims: Value) -> Result<Bearer, BadToken> {
        self.verify(&self.token(&json!({ "alg": "ES256" }), &claims))
    }
}

fn encoded(bytes: &[u8]) -> String {
    BASE64_URL.encode(bytes)
}

fn unsigned(header: &Value, claims: &Value) -> String {
    format!(
        "{}.{}",
        encoded(header.to_string().as_bytes()),
        encoded(claims.to_string().as_bytes())
    )
}

#[test]
fn tokens_of_every_kind_of_key_are_believed() {
    let issuer = Issuer::new();
    let tim = Bearer {
        user: "tim".to_owned(),
        expires_at_ms: 2_000_000,
    };
    assert_eq!(issuer.verify(RSA_TOKEN).unwrap(), tim);
    let claims = json!({ "sub": "tim", "exp": 2_000 });
    for header in [
        json!({ "alg": "ES256" }),
        json!({ "alg": "ES256", "kid": "p256", "typ": "JWT" }),
    ] {
        assert_eq!(issuer.verify(&issuer.token(&header, &claims)).unwrap(), tim);
    }
    let signed = unsigned(&json!({ "alg": "EdDSA", "kid": "ed" }), &claims);
    let signature = issuer.ed25519.sign(signed.as_bytes());
    let token = format!("{signed}.{}", encoded(signature.as_ref()));
    assert_eq!(issuer.verify(&token).unwrap(), tim);
}

#[test]
fn hostile_91_algorithms_cannot_be_chosen_by_the_token() {
    let issuer = Issuer::new();
    let claims = json!({ "sub": "root", "exp": 2_000 });
    for name in ["none", "None", "NONE", "", "HS256", "HS512", "RS1", "ES256K"] {
        let unsigned = unsigned(&json!({ "alg": name }), &claims);
        assert_eq!(
            issuer.verify(&format!("{unsigned}.")).unwrap_err(),
            BadToken::Algorithm,
            "{name}"
        );
    }
    // The public key as a shared secret.
    let signed = unsigned(&json!({ "alg": "HS256", "kid": "rsa" }), &claims);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, RSA_MODULUS.as_bytes());
    let tag = ring::hmac::sign(&key, signed.as_bytes());
    let token = format!("{signed}.{}", encoded(tag.as_ref()));
    assert_eq!(issuer.verify(&token).unwrap_err(), BadToken::Algorithm);
    // A key for one algorithm under the name of another, and one of another kind.
    for header in [
        json!({ "alg": "RS512", "kid": "rsa" }),
        json!({ "alg": "PS256", "kid": "rsa" }),
        json!({ "alg": "ES256", "kid": "rsa" }),
        json!({ "alg": "RS256", "kid": "p256" }),
        json!({ "alg": "ES256", "kid": "shared" }),
        json!({ "alg": "ES256", "kid": "unknown" }),
        json!({ "alg": "ES384" }),
    ] {
        assert_eq!(
            issuer.verify(&issuer.token(&header, &claims)).unwrap_err(),
            BadToken::NoKey,
            "{header}"
        );
    }
    let critical = json!({ "alg": "ES256", "crit": ["b64"], "b64": false });
    assert_eq!(
        issuer.verify(&issuer.token(&critical, &claims)).unwrap_err(),
        BadToken::Algorithm
    );
    // A key that the token brings along.
    let own = json!({ "alg": "EdDSA", "jwk": { "kty": "OKP", "crv": "Ed25519", "x": "AAAA" } });
    assert_eq!(
        issuer.verify(&issuer.token(&own, &claims)).unwrap_err(),
        BadToken::Signature
    );
}

#[test]
fn hostile_91_a_token_that_was_changed_anywhere_is_not_believed() {
    let issuer = Issuer::new();
    for at in 0..RSA_TOKEN.len() {
        let mut bytes = RSA_TOKEN.as_bytes().to_vec();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(issuer.verify(&changed).is_err(), "{at}");
    }
    let (signed, signature) = RSA_TOKEN.rsplit_once('.').unwrap();
    for bad in [
        "",
        ".",
        "..",
        "...",
        "a.b.c",
        signed,
        &format!("{RSA_TOKEN}."),
        &format!("{signed}.{signature}.x"),
    ] {
        assert!(issuer.verify(bad).is_err(), "{bad}");
    }
    assert_eq!(
        issuer.verify(&format!("{signed}.")).unwrap_err(),
        BadToken::Signature
    );
}

#[test]
fn hostile_91_claims_that_are_missing_over_foreign_or_odd_are_refused() {
    let issuer = Issuer::new();
    let refused = |claims: Value, expected| assert_eq!(issuer.claims(claims).unwrap_err(), expected);
    refused(json!({ "sub": "tim" }), BadToken::Claims);
    refused(json!({ "sub": "tim", "exp": "2000" }), BadToken::Claims);
    refused(json!({ "sub": "tim", "exp": null }), BadToken::Claims);
    refused(json!({ "sub": "tim", "exp": -1 }), BadToken::Claims);
    refused(json!(["sub", "tim"]), BadToken::Claims);
    refused(json!({ "sub": "tim", "exp": 970 }), BadToken::Expired);
    issuer.claims(json!({ "sub": "tim", "exp": 971 })).unwrap();
    issuer.claims(json!({ "sub": "tim", "exp": 1e300 })).unwrap();
    refused(
        json!({ "sub": "tim", "exp": 2_000, "nbf": 1_031 }),
        BadToken::TooEarly,
    );
    refused(
        json!({ "sub": "tim", "exp": 2_000, "iat": 1_031 }),
        BadToken::TooEarly,
    );
    issuer
        .claims(json!({ "sub": "tim", "exp": 2_000, "nbf": 1_030, "iat": 1.5 }))
        .unwrap();
    for subject in [
        json!(null),
        json!(7),
        json!(""),
        json!("a\nb"),
        json!("x".repeat(MAX_SUBJECT_BYTES + 1)),
    ] {
        refused(json!({ "sub": subject, "exp": 2_000 }), BadToken::Subject);
    }
    refused(json!({ "exp": 2_000 }), BadToken::Subject);
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let header = json!({ "alg": "ES256" }).to_string();
    let signed = format!("{}.{}", encoded(header.as_bytes()), encoded(deep.as_bytes()));
    let signature = issuer.p256.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    let token = format!("{signed}.{}", encoded(signature.as_ref()));
    assert_eq!(issuer.verify(&token).unwrap_err(), BadToken::Claims);

    let strict = Rules {
        issuer: Some("us".to_owned()),
        audience: vec!["kafka".to_owned()],
        ..rules()
    };
    let verify = |claims: Value| {
        let token = issuer.token(&json!({ "alg": "ES256" }), &claims);
        issuer.keys.verify(&token, &strict, NOW_MS)
    };
    for (audience, is_fine) in [
        (json!("kafka"), true),
        (json!(["other", "kafka"]), true),
        (json!("Kafka"), false),
        (json!([["kafka"]]), false),
        (json!(null), false),
    ] {
        let outcome = verify(json!({ "sub": "tim", "exp": 2_000, "iss": "us", "aud": audience }));
        assert_eq!(outcome.is_ok(), is_fine, "{audience}");
    }
    for name in [json!("them"), json!(null), json!(["us"])] {
        let outcome = verify(json!({ "sub": "tim", "exp": 2_000, "iss": name, "aud": "kafka" }));
        assert_eq!(outcome.unwrap_err(), BadToken::Issuer);
    }
}

#[test]
fn hostile_91_key_sets_without_a_usable_key_are_refused() {
    for bad in [
        "",
        "{}",
        "[]",
        r#"{"keys":[]}"#,
        r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#,
        r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#,
        r#"{"keys":[{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}]}"#,
        r#"{"keys":[{"kty":"RSA","alg":"RSA-OAEP","n":"x","e":"AQAB"}]}"#,
    ] {
        assert!(KeySet::parse(bad.as_bytes()).is_err(), "{bad}");
    }
    for bad in [
        "",
        "https://idp/keys",
        "http://idp/keys",
        "file:keys",
        "file://host/keys",
        "/etc/keys",
    ] {
        assert!(file_of(bad).is_err(), "{bad}");
    }
    for good in ["file:/etc/keys", "file:///etc/keys", "file://localhost/etc/keys"] {
        assert_eq!(file_of(good).unwrap(), PathBuf::from("/etc/keys"));
    }
}
