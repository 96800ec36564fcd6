//! The exchanges against a broker in memory that answers as it is told.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use highwater_wire::messages::{ApiVersionsResponse, api_versions_response::ApiVersion};

use super::*;
use crate::security::{ScramHash, Secret};

/// Answers to SaslAuthenticate in order, and what was asked.
#[derive(Default)]
struct Script {
    handshake: SaslHandshakeResponse,
    answers: VecDeque<SaslAuthenticateResponse>,
    asked: Vec<(i16, RequestBody)>,
    /// The highest SaslAuthenticate; `None` for a broker without SASL.
    authenticate_max: Option<i16>,
}

struct Scripted(Mutex<Script>);

impl Scripted {
    fn new(answers: impl IntoIterator<Item = SaslAuthenticateResponse>) -> Self {
        Self(Mutex::new(Script {
            answers: answers.into_iter().collect(),
            authenticate_max: Some(2),
            ..Script::default()
        }))
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.0.lock().expect("not poisoned")
    }

    /// The bytes of each SaslAuthenticate.
    fn told(&self) -> Vec<Bytes> {
        let script = self.script();
        let told = script.asked.iter().filter_map(|(_, body)| match body {
            RequestBody::SaslAuthenticate(request) => Some(request.auth_bytes.clone()),
            _ => None,
        });
        told.collect()
    }

    async fn authenticate(&self, config: &SaslConfig) -> Result<Option<Duration>, TransportError> {
        authenticate(config, "broker:9092", self).await
    }
}

#[async_trait]
impl Connection for Scripted {
    async fn call(&self, version: i16, body: RequestBody) -> Result<ResponseBody, TransportError> {
        let mut script = self.script();
        let answer = match &body {
            RequestBody::ApiVersions(_) => {
                let key = |api: ApiKey, max_version| ApiVersion {
                    api_key: api.as_i16(),
                    min_version: 0,
                    max_version,
                };
                let authenticate = script
                    .authenticate_max
                    .map(|max| key(ApiKey::SaslAuthenticate, max));
                ApiVersionsResponse {
                    api_keys: authenticate
                        .into_iter()
                        .chain([key(ApiKey::SaslHandshake, 1)])
                        .collect(),
                    ..Default::default()
                }
                .into()
            }
            RequestBody::SaslHandshake(_) => script.handshake.clone().into(),
            RequestBody::SaslAuthenticate(_) => script.answers.pop_front().expect("an answer is left").into(),
            other => panic!("{} before authentication", other.api_key().name()),
        };
        script.asked.push((version, body));
        Ok(answer)
    }

    async fn send_without_reply(&self, _: i16, body: RequestBody) -> Result<(), TransportError> {
        panic!("{} before authentication", body.api_key().name())
    }

    fn is_closed(&self) -> bool {
        false
    }
}

fn says(auth_bytes: &'static [u8]) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse {
        auth_bytes: Bytes::from_static(auth_bytes),
        ..Default::default()
    }
}

fn refuses(words: &'static str) -> SaslAuthenticateResponse {
    SaslAuthenticateResponse {
        error_code: ErrorCode::SaslAuthenticationFailed.code(),
        error_message: Some(ByteString::from_static(words)),
        ..Default::default()
    }
}

fn login() -> Login {
    Login {
        username: "alice".to_owned(),
        password: Secret::new("alice-secret"),
    }
}

fn bearer(token: &str) -> SaslConfig {
    SaslConfig::OAuthBearer(Token::Static(Secret::new(token)))
}

#[tokio::test]
async fn plain_tells_name_and_password_once_and_learns_the_life_of_the_session() {
    let accepted = SaslAuthenticateResponse {
        session_lifetime_ms: 5000,
        ..Default::default()
    };
    let broker = Scripted::new([accepted]);
    let lifetime = broker
        .authenticate(&SaslConfig::Plain(login()))
        .await
        .expect("accepted");
    assert_eq!(lifetime, Some(Duration::from_secs(5)));
    assert_eq!(broker.told(), ["\0alice\0alice-secret"]);
    let versions: Vec<i16> = broker
        .script()
        .asked
        .iter()
        .map(|(version, _)| *version)
        .collect();
    assert_eq!(
        versions,
        [3, 1, 2],
        "ApiVersions, SaslHandshake, SaslAuthenticate"
    );
}

#[tokio::test]
async fn a_wrong_password_is_an_error_that_names_broker_mechanism_and_fix_and_no_secret() {
    let broker = Scripted::new([refuses("Authentication failed:\nInvalid username or password")]);
    let error = broker
        .authenticate(&SaslConfig::Plain(login()))
        .await
        .expect_err("refused");
    assert!(!error.is_retriable());
    let words = error.to_string();
    for part in [
        "broker:9092",
        "PLAIN",
        "failed: Invalid username",
        "sasl.jaas.config",
    ] {
        assert!(words.contains(part), "{words}");
    }
    assert!(
        !words.contains("alice-secret") && !words.contains('\n'),
        "{words}"
    );
}

#[tokio::test]
async fn a_mechanism_the_broker_lacks_is_answered_with_those_it_has() {
    let broker = Scripted::new([]);
    broker.script().handshake = SaslHandshakeResponse {
        error_code: ErrorCode::UnsupportedSaslMechanism.code(),
        mechanisms: vec![
            ByteString::from_static("PLAIN"),
            ByteString::from_static("SCRAM-SHA-512"),
        ],
    };
    let error = broker
        .authenticate(&SaslConfig::Scram(ScramHash::Sha256, login()))
        .await
        .expect_err("refused");
    assert!(
        error.to_string().contains("one it offers: PLAIN, SCRAM-SHA-512"),
        "{error}"
    );
    assert!(
        broker.told().is_empty(),
        "nothing is told to a broker that does not take it"
    );
}

#[tokio::test]
async fn brokers_and_listeners_without_sasl_are_told_apart_from_wrong_passwords() {
    let broker = Scripted::new([]);
    broker.script().authenticate_max = None;
    let error = broker
        .authenticate(&SaslConfig::Plain(login()))
        .await
        .expect_err("no SASL");
    assert!(error.to_string().contains("does not speak SASL"), "{error}");

    let broker = Scripted::new([]);
    broker.script().handshake.error_code = ErrorCode::IllegalSaslState.code();
    let error = broker
        .authenticate(&SaslConfig::Plain(login()))
        .await
        .expect_err("no SASL");
    assert!(
        error.to_string().contains("listener does not authenticate"),
        "{error}"
    );
}

/// A broker that knows nothing but says yes to everything must not be believed.
#[tokio::test]
async fn a_broker_that_skips_its_part_of_scram_is_refused() {
    for answers in [vec![says(b"")], vec![says(b"v=abcd")]] {
        let broker = Scripted::new(answers);
        let error = broker
            .authenticate(&SaslConfig::Scram(ScramHash::Sha512, login()))
            .await
            .expect_err("refused");
        assert!(error.to_string().contains("the broker you mean"), "{error}");
        assert_eq!(broker.told().len(), 1, "no proof is given away");
    }
}

#[tokio::test]
async fn a_refused_token_ends_as_the_standard_says_and_shows_why() {
    let broker = Scripted::new([says(br#"{"status":"invalid_token"}"#), refuses("failed")]);
    let error = broker
        .authenticate(&bearer("abc.def.ghi"))
        .await
        .expect_err("refused");
    assert_eq!(
        broker.told(),
        ["n,,\u{1}auth=Bearer abc.def.ghi\u{1}\u{1}", "\u{1}"]
    );
    assert!(
        !error.is_retriable() && !error.to_string().contains("abc.def"),
        "{error}"
    );

    let broker = Scripted::new([says(br#"{"status":"invalid_token"}"#), says(b"")]);
    let error = broker.authenticate(&bearer("abc")).await.expect_err("refused");
    assert!(error.to_string().contains("invalid_token"), "{error}");
}

#[tokio::test]
async fn what_is_no_token_never_leaves() {
    for token in ["", "two words", "a\u{1}auth=Bearer b"] {
        let broker = Scripted::new([]);
        broker.authenticate(&bearer(token)).await.expect_err("refused");
        assert!(broker.told().is_empty());
    }
}

#[tokio::test]
async fn a_token_file_is_read_for_each_authentication() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    let config = SaslConfig::OAuthBearer(Token::File(path.clone()));
    let broker = Scripted::new([says(b""), says(b"")]);
    let error = broker.authenticate(&config).await.expect_err("no file yet");
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    for token in ["first", "second"] {
        std::fs::write(&path, format!("{token}\n")).expect("written");
        broker.authenticate(&config).await.expect("accepted");
    }
    assert_eq!(
        broker.told(),
        [
            "n,,\u{1}auth=Bearer first\u{1}\u{1}",
            "n,,\u{1}auth=Bearer second\u{1}\u{1}"
        ]
    );
}

#[test]
fn sessions_are_renewed_late_but_before_they_end() {
    let lifetime = Duration::from_secs(100);
    for _ in 0..100 {
        let wait = reauthenticate_after(lifetime);
        assert!((85.0..95.0).contains(&wait.as_secs_f64()), "{wait:?}");
    }
}
