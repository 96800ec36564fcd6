//! One connection's way through SASL: a handshake that names the mechanism, tokens, and the same again later (KIP-368).
//!
//! ```text
//! waits for a handshake --handshake--> waits for the first token --token--> logged in, or asked something
//!                       <------------------------- answer that fits ------- asked something
//! ```
//! A token that does not fit ends the connection. Whoever has logged in may begin again, under the same mechanism and as
//! the same user; until that is done nothing else is served.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytestring::ByteString;
use highwater_cluster::Principal;
use highwater_wire::ErrorCode;
use highwater_wire::messages::{SaslHandshakeRequest, SaslHandshakeResponse};
use tokio::time::{Instant, sleep};

use super::failures::Refusal;
use super::mechanism::Mechanism;
use super::sasl::{Failed, LoggedIn, LoginTime, Sasl, Step, count};
use super::scram::Challenge;
use crate::broker::Broker;
use crate::net::connection::Peer;

/// Who has logged in may not begin again sooner, as in Kafka: logging in costs more than most requests.
const MIN_REAUTHENTICATION_INTERVAL: Duration = Duration::from_secs(1);

/// Handshakes from this version on are followed by tokens in SaslAuthenticate requests, older ones by bare tokens.
const FIRST_WITH_FRAMED_TOKENS: i16 = 1;

/// The state of one connection.
#[derive(Debug)]
pub(crate) struct Gate {
    sasl: Arc<Sasl>,
    address: IpAddr,
    listener: Arc<str>,
    /// Until when the first login must be done.
    deadline: Instant,
    state: State,
    session: Option<LoginSession>,
}

#[derive(Debug)]
enum State {
    /// For a handshake.
    Waits,
    Chosen(Exchange),
    Asked(Exchange, Box<Challenge>),
}

#[derive(Debug, Clone, Copy)]
struct Exchange {
    mechanism: Mechanism,
    is_framed: bool,
}

/// What a login has brought.
#[derive(Debug)]
struct LoginSession {
    mechanism: Mechanism,
    principal: Principal,
    since: Instant,
    expires_at: Option<Instant>,
}

/// What becomes of a token.
#[derive(Debug)]
pub(crate) enum Login {
    /// There was no handshake.
    OutOfTurn,
    Asks(Vec<u8>),
    Done {
        message: Vec<u8>,
        principal: Principal,
        lifetime: Option<Duration>,
    },
    /// With what the client may know.
    Refused(&'static str),
}

impl Gate {
    pub(crate) fn new(sasl: Arc<Sasl>, peer: &Peer, deadline: Instant) -> Self {
        Gate {
            sasl,
            address: peer.address.ip(),
            listener: Arc::clone(&peer.listener_name),
            deadline,
            state: State::Waits,
            session: None,
        }
    }

    /// Whether somebody has logged in and nothing of a further login is pending.
    pub(crate) fn is_open(&self) -> bool {
        self.session.is_some() && matches!(self.state, State::Waits)
    }

    /// Until when somebody must have logged in; `None` once they have.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.session.is_none().then_some(self.deadline)
    }

    /// How long whoever is refused waits for the answer, and then at most for the end of the connection.
    pub(crate) fn failure_delay(&self) -> Duration {
        self.sasl.failure_delay
    }

    /// Whether the login held long enough.
    pub(crate) fn has_expired(&self) -> bool {
        let expires_at = self.session.as_ref().and_then(|session| session.expires_at);
        expires_at.is_some_and(|at| Instant::now() >= at)
    }

    /// Whether what comes next is a token without a header.
    pub(crate) fn awaits_bare_token(&self) -> bool {
        match &self.state {
            State::Waits => false,
            State::Chosen(exchange) | State::Asked(exchange, _) => !exchange.is_framed,
        }
    }

    /// The largest request before the first login.
    pub(crate) fn max_receive_bytes(&self) -> usize {
        self.sasl.max_receive_bytes
    }

    /// Answers a handshake. One that names no mechanism of this node leaves the gate as it is (semantic 11).
    pub(crate) fn handshake(
        &mut self,
        version: i16,
        request: &SaslHandshakeRequest,
    ) -> SaslHandshakeResponse {
        let error_code = match self.choose(version, &request.mechanism) {
            Ok(exchange) => {
                self.state = State::Chosen(exchange);
                ErrorCode::None
            }
            Err(code) => code,
        };
        SaslHandshakeResponse {
            error_code: error_code.code(),
            mechanisms: self.sasl.mechanism_names().map(ByteString::from_static).collect(),
        }
    }

    fn choose(&self, version: i16, name: &str) -> Result<Exchange, ErrorCode> {
        if !matches!(self.state, State::Waits) {
            return Err(ErrorCode::IllegalSaslState);
        }
        let mechanism = self
            .sasl
            .mechanism(name)
            .ok_or(ErrorCode::UnsupportedSaslMechanism)?;
        if let Some(session) = &self.session
            && (session.mechanism != mechanism || session.since.elapsed() < MIN_REAUTHENTICATION_INTERVAL)
        {
            return Err(ErrorCode::IllegalSaslState);
        }
        Ok(Exchange {
            mechanism,
            is_framed: version >= FIRST_WITH_FRAMED_TOKENS,
        })
    }

    /// Looks at a token. Takes its time if the login fails, or if too many from the same address did.
    pub(crate) async fn token(&mut self, broker: &Broker, token: &[u8]) -> Login {
        let (exchange, challenge) = match std::mem::replace(&mut self.state, State::Waits) {
            State::Waits => return Login::OutOfTurn,
            State::Chosen(exchange) => (exchange, None),
            State::Asked(exchange, challenge) => (exchange, Some(challenge)),
        };
        let mechanism = exchange.mechanism;
        let step = match self.turn(broker).await {
            Ok(()) => match challenge {
                None => {
                    let now = LoginTime {
                        image: &broker.image(),
                        wall: broker.clock.wall(),
                    };
                    self.sasl.begin(mechanism, token, &now)
                }
                Some(challenge) => self.sasl.finish(*challenge, token),
            },
            Err(refusal) => Err(refusal),
        };
        let refusal = match step {
            Ok(Step::Ask { message, challenge }) => {
                self.state = State::Asked(exchange, challenge);
                return Login::Asks(message);
            }
            Ok(Step::Done { message, who }) => match self.enter(mechanism, who) {
                Ok((principal, lifetime)) => {
                    return Login::Done {
                        message,
                        principal,
                        lifetime,
                    };
                }
                Err(refusal) => refusal,
            },
            Err(refusal) => refusal,
        };
        let failed = Failed {
            mechanism,
            refusal,
            now_ms: broker.clock.monotonic_ms(),
        };
        self.sasl.failed(self.address, &self.listener, &failed);
        wait(broker, self.sasl.failure_delay).await;
        Login::Refused(refusal.told())
    }

    fn enter(
        &mut self,
        mechanism: Mechanism,
        who: LoggedIn,
    ) -> Result<(Principal, Option<Duration>), Refusal> {
        let LoggedIn { principal, lifetime } = who;
        if let Some(session) = &self.session
            && session.principal != principal
        {
            return Err(Refusal::PrincipalChanged);
        }
        count(mechanism.name(), "ok");
        let since = Instant::now();
        self.session = Some(LoginSession {
            mechanism,
            principal: principal.clone(),
            since,
            expires_at: lifetime.map(|lifetime| since + lifetime),
        });
        Ok((principal, lifetime))
    }

    /// Waits until a login from this address may be looked at.
    async fn turn(&self, broker: &Broker) -> Result<(), Refusal> {
        loop {
            let now_ms = broker.clock.monotonic_ms();
            let pause = self
                .sasl
                .failures
                .wait(self.address, now_ms)
                .ok_or(Refusal::TooMany)?;
            if pause.is_zero() {
                return Ok(());
            }
            wait(broker, pause).await;
            if broker.stopping.is_cancelled() {
                return Err(Refusal::TooMany);
            }
        }
    }
}

/// Lets time pass, but not while the node stops.
async fn wait(broker: &Broker, time: Duration) {
    tokio::select! {
        () = broker.stopping.cancelled() => {}
        () = sleep(time) => {}
    }
}
