//! Authentication of a connection: SaslHandshake version 1, then the mechanism's messages in SaslAuthenticate
//! (KIP-43, KIP-152), and again when the broker limits the life of a session (KIP-368).
//!
//! # Invariants
//! - Nothing is sent before the broker has said which versions it speaks, and nothing else while an exchange is
//!   under way (the connection sees to that).
//! - What a broker says is bounded before it costs work ([`crate::limits`]) and shown in errors cut and in one line.

use std::time::Duration;

use highwater_types::{ByteString, Bytes};
use highwater_wire::{
    ApiKey, ErrorCode, RequestBody, ResponseBody,
    messages::{
        SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
    },
};

use super::Connection;
use crate::{
    TransportError, limits,
    security::{Login, SaslConfig, Token, read_small_file},
    versions::{VersionTable, ask_versions},
};

mod scram;

use scram::Scram;

/// SaslHandshake in version 0 is followed by bare tokens without frames of Kafka; this client wants frames.
const HANDSHAKE_VERSION: i16 = 1;

/// Authenticates `connection`; gives the life of the session where the broker limits it.
///
/// # Errors
/// [`TransportError::Authentication`] when the broker refuses or does not prove itself; what a lost connection gives.
pub(super) async fn authenticate(
    config: &SaslConfig,
    address: &str,
    connection: &dyn Connection,
) -> Result<Option<Duration>, TransportError> {
    let dialog = Dialog {
        address,
        mechanism: config.mechanism(),
        connection,
    };
    let version = dialog.authenticate_version().await?;
    dialog.handshake().await?;
    let (mut exchange, mut message) = Exchange::start(config).map_err(|problem| dialog.failed(problem))?;
    loop {
        let answer = dialog.send(version, message).await?;
        let (next, step) = exchange
            .answered(answer.auth_bytes)
            .await
            .map_err(|problem| dialog.failed(problem))?;
        match step {
            Step::Send(bytes) => (exchange, message) = (next, bytes),
            Step::Done => {
                let lifetime_ms = u64::try_from(answer.session_lifetime_ms).unwrap_or(0);
                return Ok((lifetime_ms > 0).then(|| Duration::from_millis(lifetime_ms)));
            }
        }
    }
}

/// Why an exchange failed, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    reason: String,
    fix: String,
}

impl Problem {
    fn new(reason: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            fix: fix.into(),
        }
    }

    /// The broker broke the rules of the mechanism; trusting it with more would be wrong.
    fn breach(reason: impl Into<String>) -> Self {
        Self::new(reason, "check that this is the broker you mean")
    }
}

/// The parties of an exchange, for its messages and errors.
struct Dialog<'a> {
    address: &'a str,
    mechanism: &'static str,
    connection: &'a dyn Connection,
}

impl Dialog<'_> {
    fn failed(&self, problem: Problem) -> TransportError {
        TransportError::Authentication {
            address: self.address.to_owned(),
            mechanism: self.mechanism,
            reason: problem.reason,
            fix: problem.fix,
        }
    }

    fn unexpected(&self, api: ApiKey) -> TransportError {
        TransportError::UnexpectedResponse {
            address: self.address.to_owned(),
            api,
        }
    }

    async fn authenticate_version(&self) -> Result<i16, TransportError> {
        let versions = ask_versions(self.connection)
            .await?
            .ok_or_else(|| self.unexpected(ApiKey::ApiVersions))?;
        let versions = VersionTable::negotiate(&versions);
        let handshake = versions.latest(ApiKey::SaslHandshake);
        match versions.latest(ApiKey::SaslAuthenticate) {
            Some(version) if handshake >= Some(HANDSHAKE_VERSION) => Ok(version),
            _ => Err(self.failed(Problem::new(
                "it does not speak SASL as Kafka 1.0 and later do",
                "set security.protocol=PLAINTEXT, or SSL, if its listeners do not authenticate",
            ))),
        }
    }

    async fn handshake(&self) -> Result<(), TransportError> {
        let request = SaslHandshakeRequest {
            mechanism: ByteString::from_static(self.mechanism),
        };
        let answer = self
            .connection
            .call(HANDSHAKE_VERSION, RequestBody::SaslHandshake(request))
            .await?;
        let ResponseBody::SaslHandshake(answer) = answer else {
            return Err(self.unexpected(ApiKey::SaslHandshake));
        };
        handshake_problem(&answer).map_or(Ok(()), |problem| Err(self.failed(problem)))
    }

    async fn send(
        &self,
        version: i16,
        auth_bytes: Bytes,
    ) -> Result<SaslAuthenticateResponse, TransportError> {
        let request = SaslAuthenticateRequest { auth_bytes };
        let answer = self
            .connection
            .call(version, RequestBody::SaslAuthenticate(request))
            .await?;
        let ResponseBody::SaslAuthenticate(answer) = answer else {
            return Err(self.unexpected(ApiKey::SaslAuthenticate));
        };
        match ErrorCode::from_code(answer.error_code) {
            ErrorCode::None => Ok(answer),
            code => {
                let said = answer.error_message.as_deref().map(quoted);
                let reason = said.unwrap_or_else(|| format!("{code:?}"));
                Err(self.failed(Problem::new(reason, credentials_fix(self.mechanism))))
            }
        }
    }
}

fn handshake_problem(answer: &SaslHandshakeResponse) -> Option<Problem> {
    let offered: Vec<String> = answer.mechanisms.iter().take(10).map(|m| quoted(m)).collect();
    match ErrorCode::from_code(answer.error_code) {
        ErrorCode::None => None,
        ErrorCode::UnsupportedSaslMechanism => Some(Problem::new(
            "it does not offer this mechanism",
            format!("set sasl.mechanism to one it offers: {}", offered.join(", ")),
        )),
        ErrorCode::IllegalSaslState => Some(Problem::new(
            "this listener does not authenticate",
            "use the port of its SASL listener, or set security.protocol=PLAINTEXT, or SSL",
        )),
        code => Some(Problem::new(
            format!("SaslHandshake refused: {code:?}"),
            "the broker's log says why",
        )),
    }
}

fn credentials_fix(mechanism: &str) -> &'static str {
    match mechanism {
        "OAUTHBEARER" => "check that the token is for this cluster and has not expired",
        _ => "check the user name and the password (sasl.jaas.config, or sasl.username and sasl.password)",
    }
}

/// What a broker says, fit for a log: no line breaks, not longer than a few lines.
fn quoted(said: &str) -> String {
    let said = said.chars().take(limits::MAX_QUOTED_CHARS);
    said.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// What follows an answer of the broker.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Send(Bytes),
    Done,
}

/// The client's side of a mechanism, between two messages.
#[derive(Debug)]
enum Exchange {
    Plain,
    Scram(Box<Scram>),
    OAuthBearer,
    /// The broker has refused the token and is owed a last message (RFC 7628, 3.2.3).
    OAuthRefused {
        said: String,
    },
}

impl Exchange {
    fn start(config: &SaslConfig) -> Result<(Self, Bytes), Problem> {
        match config {
            SaslConfig::Plain(login) => Ok((Self::Plain, plain_message(login)?)),
            SaslConfig::Scram(hash, login) => {
                let (scram, message) = Scram::start(*hash, login, &scram::nonce());
                Ok((Self::Scram(Box::new(scram)), message))
            }
            SaslConfig::OAuthBearer(token) => {
                let token = read_token(token)?;
                Ok((
                    Self::OAuthBearer,
                    format!("n,,\u{1}auth=Bearer {token}\u{1}\u{1}").into(),
                ))
            }
        }
    }

    async fn answered(self, said: Bytes) -> Result<(Self, Step), Problem> {
        match self {
            Self::Plain => Ok((self, Step::Done)),
            Self::Scram(mut scram) => {
                // Deriving the key takes as long as the broker's iterations say; other tasks go on meanwhile.
                let answered = tokio::task::spawn_blocking(move || {
                    let step = scram.answered(&said)?;
                    Ok((Self::Scram(scram), step))
                });
                answered
                    .await
                    .unwrap_or_else(|_| Err(Problem::new("this program is ending", "start it again")))
            }
            Self::OAuthBearer if said.is_empty() => Ok((self, Step::Done)),
            Self::OAuthBearer => {
                let said = quoted(&String::from_utf8_lossy(&said));
                Ok((
                    Self::OAuthRefused { said },
                    Step::Send(Bytes::from_static(b"\x01")),
                ))
            }
            Self::OAuthRefused { said } => Err(Problem::new(said, credentials_fix("OAUTHBEARER"))),
        }
    }
}

/// RFC 4616. The authorization identity stays empty: this client never acts for another user.
fn plain_message(login: &Login) -> Result<Bytes, Problem> {
    let (username, password) = (&login.username, login.password.reveal());
    if username.contains('\0') || password.contains('\0') {
        return Err(Problem::new(
            "the user name or the password holds a NUL, which PLAIN cannot carry",
            "choose a SCRAM mechanism or other credentials",
        ));
    }
    Ok(format!("\0{username}\0{password}").into())
}

/// The token now, checked to be one (RFC 6750, 2.1), because anything else could end the message early.
fn read_token(token: &Token) -> Result<String, Problem> {
    let (text, place) = match token {
        Token::Static(secret) => (secret.reveal().to_owned(), "the token given".to_owned()),
        Token::File(path) => {
            let place = format!("the token file {}", path.display());
            let text = read_small_file(path)
                .and_then(|bytes| String::from_utf8(bytes).map_err(std::io::Error::other))
                .map_err(|error| {
                    Problem::new(format!("{place} cannot be read: {error}"), "put a token there")
                })?;
            (text, place)
        }
    };
    let token = text.trim();
    let is_token_char = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    if token.is_empty() || !token.chars().all(is_token_char) {
        return Err(Problem::new(
            format!("{place} is not a bearer token"),
            "it is one word of letters, digits and -._~+/=",
        ));
    }
    Ok(token.to_owned())
}

/// When to authenticate again: late in the session's life, and not all clients at once.
pub(super) fn reauthenticate_after(lifetime: Duration) -> Duration {
    use rand::RngExt as _;
    lifetime.mul_f64(rand::rng().random_range(0.85..0.95))
}

#[cfg(test)]
mod tests;
