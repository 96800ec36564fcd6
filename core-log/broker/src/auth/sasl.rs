//! What a node checks logins with: its mechanisms, users, and the price of failing.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use highwater_cluster::{MetadataImage, Principal, ScramMechanism, SecuritySettings};
use highwater_storage::NodeSecret;
use highwater_types::Timestamp;
use ring::rand::{SecureRandom, SystemRandom};

use super::SecurityError;
use super::failures::{Failures, Refusal};
use super::jwt::{self, Bearer, KeySet, Rules};
use super::mechanism::Mechanism;
use super::reloaded::Reloaded;
use super::scram::{Challenge, ClientFirst, Verifier};
use super::users::{NodeKey, Users};
use super::{oauth, plain};

/// The longest a login holds; a point in time that far away can be computed.
const FOREVER: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// Bytes of randomness in a nonce.
const NONCE_BYTES: usize = 24;

/// How clients of a node log in.
pub(crate) struct Sasl {
    mechanisms: Vec<Mechanism>,
    users: Option<Reloaded<Users>>,
    tokens: Option<Tokens>,
    key: Arc<NodeKey>,
    random: SystemRandom,
    pub(super) failures: Arc<Failures>,
    /// How long a failed login waits for its answer.
    pub(super) failure_delay: Duration,
    /// How long a login holds.
    max_session: Option<Duration>,
    /// The largest request before a login.
    pub(super) max_receive_bytes: usize,
}

impl fmt::Debug for Sasl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sasl")
            .field("mechanisms", &self.mechanisms)
            .field("users", &self.users)
            .finish_non_exhaustive()
    }
}

/// What tokens are checked with.
struct Tokens {
    keys: Reloaded<KeySet>,
    rules: Rules,
}

/// Somebody who has logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LoggedIn {
    pub(crate) principal: Principal,
    /// How long that holds from now on.
    pub(crate) lifetime: Option<Duration>,
}

/// What comes after a message of a client.
#[derive(Debug)]
pub(super) enum Step {
    /// The client is asked something.
    Ask {
        message: Vec<u8>,
        challenge: Box<Challenge>,
    },
    Done {
        message: Vec<u8>,
        who: LoggedIn,
    },
}

impl Sasl {
    /// Blocks on the disk, and on the making of credentials.
    ///
    /// # Errors
    /// Files that cannot be used.
    pub(crate) fn new(
        settings: &SecuritySettings,
        secret: &NodeSecret,
        failures: Arc<Failures>,
    ) -> Result<Self, SecurityError> {
        let key = Arc::new(NodeKey::new(secret));
        let enabled = settings.sasl_enabled_mechanisms.iter();
        let mechanisms: Vec<Mechanism> = enabled.filter_map(|name| Mechanism::from_name(name)).collect();
        let users = match &settings.highwater_sasl_users_file {
            Some(path) => {
                let (path, key) = (std::path::PathBuf::from(path), Arc::clone(&key));
                let scram: Vec<ScramMechanism> =
                    mechanisms.iter().filter_map(|found| found.scram()).collect();
                let load = {
                    let path = path.clone();
                    move || Users::read(&path, &key, &scram)
                };
                Some(Reloaded::new(vec![path], load)?)
            }
            None => None,
        };
        let tokens = match mechanisms.contains(&Mechanism::OAuthBearer) {
            true => Some(Tokens::new(settings)?),
            false => None,
        };
        let millis = |ms: u32| Duration::from_millis(ms.into());
        Ok(Sasl {
            mechanisms,
            users,
            tokens,
            key,
            random: SystemRandom::new(),
            failures,
            failure_delay: millis(settings.connection_failed_authentication_delay_ms),
            max_session: settings.connections_max_reauth_ms.map(Duration::from_millis),
            max_receive_bytes: usize::try_from(settings.sasl_server_max_receive_size).unwrap_or(usize::MAX),
        })
    }

    /// Reads files again that have changed. Blocks on the disk.
    pub(crate) fn look(&self) {
        if let Some(users) = &self.users {
            users.look();
        }
        if let Some(tokens) = &self.tokens {
            tokens.keys.look();
        }
    }

    /// The mechanism of that name, if it may be used.
    pub(super) fn mechanism(&self, name: &str) -> Option<Mechanism> {
        Mechanism::from_name(name).filter(|mechanism| self.mechanisms.contains(mechanism))
    }

    /// Names of the mechanisms that may be used.
    pub(super) fn mechanism_names(&self) -> impl Iterator<Item = &'static str> {
        self.mechanisms.iter().map(|mechanism| mechanism.name())
    }

    /// Looks at the first message of a client.
    pub(super) fn begin(
        &self,
        mechanism: Mechanism,
        token: &[u8],
        now: &LoginTime<'_>,
    ) -> Result<Step, Refusal> {
        match mechanism {
            Mechanism::Plain => {
                let login = plain::parse(token)?;
                let users = self.users.as_ref().map(Reloaded::current).unwrap_or_default();
                match users.has(&self.key, login.user, login.password) {
                    true => Ok(self.done(login.user, Vec::new(), None)),
                    false => Err(Refusal::Credentials),
                }
            }
            Mechanism::OAuthBearer => {
                let login = oauth::parse(token)?;
                let tokens = self.tokens.as_ref().ok_or(Refusal::Credentials)?;
                let keys = tokens.keys.current();
                let wall_ms = now.wall.get();
                let Bearer { user, expires_at_ms } = keys
                    .verify(login.token, &tokens.rules, wall_ms)
                    .map_err(Refusal::Token)?;
                if login.authorization_id.is_some_and(|id| id != user) {
                    return Err(Refusal::OtherIdentity);
                }
                // What the skew allows beyond the end of a token is for the login, not for staying.
                let left_ms = u64::try_from(expires_at_ms.saturating_sub(wall_ms)).unwrap_or(0);
                Ok(self.done(&user, Vec::new(), Some(Duration::from_millis(left_ms))))
            }
            Mechanism::Scram(scram) => {
                let first = ClientFirst::parse(token)?;
                let verifier = self.verifier(scram, first.user(), now.image);
                let nonce = self.nonce()?;
                let challenge = Challenge::new(scram, first, verifier, &nonce);
                Ok(Step::Ask {
                    message: challenge.message().to_vec(),
                    challenge: Box::new(challenge),
                })
            }
        }
    }

    /// Looks at the answer to a challenge.
    pub(super) fn finish(&self, challenge: Challenge, token: &[u8]) -> Result<Step, Refusal> {
        let (user, message) = challenge.finish(token)?;
        Ok(self.done(&user, message.into_bytes(), None))
    }

    fn done(&self, user: &str, message: Vec<u8>, held: Option<Duration>) -> Step {
        let bounds = [held, self.max_session];
        Step::Done {
            message,
            who: LoggedIn {
                principal: Principal::user(user),
                lifetime: bounds
                    .into_iter()
                    .flatten()
                    .min()
                    .map(|lifetime| lifetime.min(FOREVER)),
            },
        }
    }

    fn verifier(&self, mechanism: ScramMechanism, user: &str, image: &MetadataImage) -> Verifier {
        let users = self.users.as_ref().map(Reloaded::current);
        verifier(image, users.as_deref(), &self.key, (user, mechanism))
    }

    fn nonce(&self) -> Result<String, Refusal> {
        let mut bytes = [0; NONCE_BYTES];
        // Without randomness nobody can log in safely.
        self.random.fill(&mut bytes).map_err(|_| Refusal::Credentials)?;
        Ok(STANDARD_NO_PAD.encode(bytes))
    }

    /// Notes a failed login, in a metric and once in a while in words.
    pub(super) fn failed(&self, address: IpAddr, listener: &str, failed: &Failed) {
        let Failed {
            mechanism,
            refusal,
            now_ms,
        } = failed;
        count(mechanism.name(), "failed");
        if let Some(failures) = self.failures.failed(address, *now_ms) {
            tracing::warn!(latest = %address, listener, %mechanism, %refusal, failures, "logins failed");
        }
    }
}

/// A login that failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) mechanism: Mechanism,
    pub(super) refusal: Refusal,
    pub(super) now_ms: u64,
}

/// When a login is looked at.
#[derive(Debug)]
pub(super) struct LoginTime<'a> {
    pub(super) image: &'a MetadataImage,
    pub(super) wall: Timestamp,
}

impl Tokens {
    fn new(settings: &SecuritySettings) -> Result<Self, SecurityError> {
        let url = settings.sasl_oauthbearer_jwks_endpoint_url.as_deref();
        let path = jwt::file_of(url.unwrap_or_default())?;
        let of_file = path.clone();
        let keys = Reloaded::new(vec![path], move || KeySet::read(&of_file))?;
        let rules = Rules {
            issuer: settings.sasl_oauthbearer_expected_issuer.clone(),
            audience: settings.sasl_oauthbearer_expected_audience.clone(),
            subject_claim: settings.sasl_oauthbearer_sub_claim_name.clone(),
            skew_ms: i64::from(settings.sasl_oauthbearer_clock_skew_seconds) * 1000,
        };
        Ok(Tokens { keys, rules })
    }
}

/// What SCRAM checks a proof with. What the metadata says counts before the users file.
fn verifier(
    image: &MetadataImage,
    users: Option<&Users>,
    key: &NodeKey,
    (user, mechanism): (&str, ScramMechanism),
) -> Verifier {
    // Made whether it is needed or not, so that the time tells nothing.
    let made_up = key.made_up(mechanism, user);
    let of_metadata = image.scram_credential(user, mechanism);
    let known = of_metadata.or_else(|| users?.scram(user, mechanism));
    Verifier {
        is_known: known.is_some(),
        credential: known.cloned().unwrap_or(made_up),
    }
}

/// Counts a login.
pub(crate) fn count(mechanism: &'static str, result: &'static str) {
    metrics::counter!("highwater_broker_authentication_total", "mechanism" => mechanism, "result" => result)
        .increment(1);
}

#[cfg(test)]
mod tests {
    use highwater_cluster::{
        MetadataRecord, ScramCredentialRecord, ScramMechanismName, SecretBytes, StoredScramCredential,
    };

    use super::*;

    #[test]
    fn a_credential_of_the_metadata_counts_before_the_file_and_the_file_before_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        let user = |name: &str| format!("[[user]]\nname = \"{name}\"\npassword = \"pencil\"\n");
        std::fs::write(&path, format!("{}{}", user("tim"), user("tom"))).unwrap();
        let key = NodeKey::new(&NodeSecret::new([1; NodeSecret::BYTES]));
        let users = Users::read(&path, &key, &ScramMechanism::ALL).unwrap();
        let stored = |len| SecretBytes(vec![9; len]);
        let record = MetadataRecord::ScramCredential(ScramCredentialRecord {
            user: "tim".into(),
            mechanism: ScramMechanismName::Sha512,
            credential: Some(StoredScramCredential {
                iterations: 8192,
                salt: stored(20),
                stored_key: stored(64),
                server_key: stored(64),
            }),
        });
        let image = MetadataImage::default().apply(&[record]).unwrap();
        let verifier = |user, mechanism| verifier(&image, Some(&users), &key, (user, mechanism));
        let of_metadata = verifier("tim", ScramMechanism::Sha512);
        assert_eq!(
            (of_metadata.is_known, of_metadata.credential.iterations),
            (true, 8192)
        );
        let of_file = verifier("tim", ScramMechanism::Sha256);
        assert_eq!((of_file.is_known, of_file.credential.iterations), (true, 4096));
        assert!(verifier("tom", ScramMechanism::Sha512).is_known);
        assert!(!verifier("nobody", ScramMechanism::Sha512).is_known);
    }
}
