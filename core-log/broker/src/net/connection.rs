//! One connection: requests are read, handled and answered strictly in order (semantic 6).
//!
//! A client may pipeline: answers to requests that already lie in the buffer leave in one write. A
//! request that waits (a long-polled fetch, a join) holds back everything behind it, as in Kafka.
//!
//! Refuses, by closing: unknown keys and versions, ApiVersions excepted (semantics 1 and 5), bodies
//! that do not decode, and on a listener with SASL everything but ApiVersions and the login before
//! somebody has logged in (semantic 4). A panic while handling closes this connection only, and is counted.

mod login;

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures::FutureExt;
use highwater_cluster::Principal;
use highwater_wire::{
    ApiKey, DecodeError, FrameReader, LeftOut, RequestBody, RequestHeader, ResponseBody, encode_response,
    encode_response_around,
};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::{FallibleAccept, TlsStream};
use tokio_util::sync::CancellationToken;

use super::frames::{Admission, FrameError, FrameSource, FrameStart, Frames, InFrame, Readable};
use super::linger::{discard, let_go, linger};
use super::outlet::Outlet;
use super::responses::ResponseSink;
use super::tls;
use crate::auth::{self, Gate, ListenerSecurity};
use crate::broker::Broker;
use crate::dispatch::{Answer, Reply, RequestContext};
use crate::handlers::api_versions;
use crate::limits::{
    MAX_API_VERSIONS_FRAME_BYTES, MAX_FIRST_FRAME_BYTES, MAX_LOGIN_FRAME_BYTES, MAX_PLAIN_FRAME_BYTES,
};
use crate::versions;

/// Who is at the other end, and by which listener they came in.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) listener_name: Arc<str>,
}

/// Why a connection ended, other than by the peer closing it.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("api key {key} version {version} is not served")]
    Unserved { key: i16, version: i16 },
    #[error("request does not decode: {0}")]
    Malformed(#[from] DecodeError),
    #[error("the handler of {api} panicked")]
    Panicked { api: &'static str },
    #[error("{api} before a login")]
    NotLoggedIn { api: &'static str },
    #[error("nobody logged in in time")]
    LoginTooSlow,
    #[error("the login failed")]
    LoginRefused,
    /// As [`Ended::LoginRefused`], and the client is told.
    #[error("the login failed")]
    LoginAnswered,
    #[error("the login held long enough and was not renewed")]
    SessionExpired,
    #[error("the request could not be answered but by closing")]
    ByHandler,
    #[error("write failed: {0}")]
    Write(std::io::Error),
}

impl Ended {
    fn reason(&self) -> &'static str {
        match self {
            Ended::Frame(error) => error.reason(),
            Ended::Unserved { .. } => "unserved_version",
            Ended::Malformed(_) => "malformed",
            Ended::Panicked { .. } => "panic",
            Ended::NotLoggedIn { .. } => "not_logged_in",
            Ended::LoginTooSlow => "slow_login",
            Ended::LoginRefused | Ended::LoginAnswered => "login_refused",
            Ended::SessionExpired => "session_expired",
            Ended::ByHandler => "handler",
            Ended::Write(_) => "write",
        }
    }
}

/// Serves one connection to its end.
pub(crate) async fn serve(
    broker: Arc<Broker>,
    stream: TcpStream,
    peer: Peer,
    security: ListenerSecurity,
    draining: CancellationToken,
) {
    let ListenerSecurity { tls, sasl } = security;
    let gate = sasl.map(|sasl| {
        let deadline = Instant::now() + broker.limits.slow_frame_timeout;
        Box::new(Gate::new(sasl, &peer, deadline))
    });
    let mut context = RequestContext::for_connection(&broker, &peer);
    let Some(tls) = tls else {
        let (read, write) = stream.into_split();
        let mut connection = Connection::new(broker, Halves { read, write }, context, gate);
        connection.serve(&peer, &draining).await;
        return;
    };
    // On the heap: a connection without TLS does not have room for the state of one with it.
    let encrypted = Box::pin(async move {
        let accepting = TlsAcceptor::from(tls.current()).accept(stream);
        drop(tls);
        let accepting = accepting.into_fallible();
        let Some((stream, principal)) = shake_hands(&broker, &peer, accepting, &draining).await else {
            return;
        };
        context.principal = principal;
        let (read, write) = tls::split(stream);
        let mut connection = Connection::new(broker, Halves { read, write }, context, gate);
        connection.serve(&peer, &draining).await;
    });
    encrypted.await;
}

/// Failed handshakes are put into words at most this often.
pub(crate) const HANDSHAKE_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The handshake of TLS, which has as much time as a first frame (hostile 10); also who the client is.
async fn shake_hands(
    broker: &Broker,
    peer: &Peer,
    accepting: FallibleAccept<TcpStream>,
    draining: &CancellationToken,
) -> Option<(TlsStream<TcpStream>, Principal)> {
    let accepted = tokio::select! {
        () = draining.cancelled() => return None,
        accepted = timeout(broker.limits.slow_frame_timeout, accepting) => accepted,
    };
    let count_failure = || {
        auth::count("TLS", "failed");
        metrics::counter!("highwater_broker_connections_closed_total", "reason" => "tls_handshake")
            .increment(1);
    };
    let refused = |reason: &dyn std::fmt::Display| {
        count_failure();
        let (latest, listener) = (peer.address, &peer.listener_name);
        match broker.failed_handshakes.note(broker.clock.monotonic_ms()) {
            Some(failures) => tracing::warn!(
                %latest, %listener, %reason, failures,
                "no TLS connection came about; does the client speak TLS, and does it know the node's authority?"
            ),
            None => tracing::debug!(%latest, %listener, %reason, "no TLS connection came about"),
        }
        None
    };
    // As a probe that connects and closes does, every few seconds: counted, and no warning.
    let has_left = |error: &std::io::Error| error.kind() == std::io::ErrorKind::UnexpectedEof;
    // What is wrong has been told to the client by an alert, if it speaks TLS at all.
    let let_go = async |stream| {
        tokio::select! {
            () = draining.cancelled() => {}
            () = let_go(stream) => {}
        }
    };
    let stream = match accepted {
        Ok(Ok(stream)) => stream,
        Ok(Err((error, _))) if has_left(&error) => {
            count_failure();
            return None;
        }
        Ok(Err((error, stream))) => {
            let none = refused(&error);
            let_go(stream).await;
            return none;
        }
        Err(_) => return refused(&"it took too long"),
    };
    match auth::principal(stream.get_ref().1.peer_certificates()) {
        Ok(principal) => {
            auth::count("TLS", "ok");
            Some((stream, principal))
        }
        Err(error) => refused(&error),
    }
}

/// The two directions of a connection.
struct Halves<R, W> {
    read: R,
    write: W,
}

struct Connection<R, W> {
    broker: Arc<Broker>,
    context: RequestContext,
    source: FrameSource<R>,
    sink: ResponseSink<W>,
    /// How long nothing is read after the answers queued so far (KIP-219).
    throttle: Duration,
    /// Where clients log in; on the heap, since most connections have none.
    gate: Option<Box<Gate>>,
}

impl<R: Readable, W: Outlet> Connection<R, W> {
    fn new(
        broker: Arc<Broker>,
        halves: Halves<R, W>,
        context: RequestContext,
        gate: Option<Box<Gate>>,
    ) -> Self {
        let admission = match &gate {
            None => Admission::of_requests(&broker),
            Some(gate) => Admission::of_login(&broker, gate),
        };
        Connection {
            source: FrameSource::new(halves.read, admission, &broker.limits),
            sink: ResponseSink::new(halves.write, broker.send_buffers.of_connection(), &broker.limits),
            context,
            broker,
            throttle: Duration::ZERO,
            gate,
        }
    }

    /// Runs to the end. By reference: a future that owned the connection would hold it twice.
    async fn serve(&mut self, peer: &Peer, draining: &CancellationToken) {
        let Err(ended) = self.run(draining).await else {
            return self.sink.close().await;
        };
        let reason = ended.reason();
        metrics::counter!("highwater_broker_connections_closed_total", "reason" => reason).increment(1);
        tracing::debug!(peer = %peer.address, listener = %peer.listener_name, %ended, "connection closed");
        // On the heap: most connections are ended by the peer.
        Box::pin(self.take_leave(&ended, draining)).await;
    }

    /// Sends what is still owed and ends the connection in a way that lets the peer read it.
    async fn take_leave(&mut self, ended: &Ended, draining: &CancellationToken) {
        // Answers of earlier requests are owed before the door closes.
        let is_written = !matches!(ended, Ended::Write(_)) && self.flush().await.is_ok();
        // Who has been idle has read what there was long ago.
        if !is_written || matches!(ended, Ended::Frame(FrameError::Idle { .. })) {
            return self.sink.close().await;
        }
        let leaving = async {
            if let (Ended::LoginAnswered, Some(gate)) = (ended, &self.gate) {
                // Clients that find the end of the stream right behind the answer may report the end and never look
                // at the answer, which has the reason. They leave by themselves when they have read it.
                let _ = timeout(gate.failure_delay(), discard(self.source.stream())).await;
            }
            self.sink.close().await;
            linger(self.source.stream()).await;
        };
        tokio::select! {
            () = draining.cancelled() => self.sink.close().await,
            () = leaving => {}
        }
    }

    async fn run(&mut self, draining: &CancellationToken) -> Result<(), Ended> {
        loop {
            if self.sink.is_full() || !self.source.has_frame() {
                self.flush().await?;
            }
            let buffered = self.source.has_frame();
            let frame = tokio::select! {
                biased;
                () = draining.cancelled(), if !buffered => None,
                frame = next(&mut self.source, self.gate.as_deref()) => frame?,
            };
            let Some(frame) = frame else {
                return self.flush().await;
            };
            self.broker.telemetry.bytes_in.increment(frame.bytes.len() as u64);
            self.handle(frame).await?;
            self.keep_silent(draining).await?;
        }
    }

    /// Sends what is owed, then reads nothing for as long as the last answer told the client (semantic 10).
    async fn keep_silent(&mut self, draining: &CancellationToken) -> Result<(), Ended> {
        let throttle = std::mem::take(&mut self.throttle);
        if throttle.is_zero() {
            return Ok(());
        }
        self.flush().await?;
        tokio::select! {
            () = draining.cancelled() => {}
            () = tokio::time::sleep(throttle) => {}
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Ended> {
        let written = self.sink.flush().await.map_err(Ended::Write)?;
        self.broker.telemetry.bytes_out.increment(written.bytes as u64);
        self.broker
            .telemetry
            .sendfile_bytes
            .increment(written.from_files as u64);
        Ok(())
    }

    async fn handle(&mut self, frame: InFrame) -> Result<(), Ended> {
        let InFrame { bytes, memory } = frame;
        if self.gate.as_ref().is_some_and(|gate| gate.awaits_bare_token()) {
            return Box::pin(self.bare_token(bytes)).await;
        }
        let request = match decode(bytes)? {
            Decoded::Request(request) => request,
            Decoded::UnknownApiVersions { correlation_id } => {
                let body = ResponseBody::ApiVersions(api_versions::unsupported());
                self.sink
                    .push(encode_response(ApiKey::ApiVersions, 0, correlation_id, &body));
                return Ok(());
            }
        };
        let Request { key, header, body } = request;
        let version = header.api_version;
        if let Some(gate) = &self.gate {
            if matches!(key, ApiKey::SaslHandshake | ApiKey::SaslAuthenticate) {
                return Box::pin(self.login(&header, body)).await;
            }
            if !gate.is_open() && key != ApiKey::ApiVersions {
                return Err(Ended::NotLoggedIn { api: key.name() });
            }
            if gate.has_expired() {
                return Err(Ended::SessionExpired);
            }
        }
        self.context.client_id = header.client_id;
        // On the heap: what a connection holds while it is idle does not have room for a handler's state.
        let handled = Box::pin(self.broker.serve(&self.context, version, body));
        let answer = AssertUnwindSafe(handled).catch_unwind().await;
        drop(memory);
        let Ok((Answer { reply, memory, files }, throttle)) = answer else {
            metrics::counter!("highwater_broker_handler_panics_total", "api" => key.name()).increment(1);
            tracing::error!(api = key.name(), version, "a request handler panicked");
            return Err(Ended::Panicked { api: key.name() });
        };
        self.throttle = throttle;
        match reply {
            Reply::Body(body) => {
                let id = header.correlation_id;
                if files.ranges.is_empty() {
                    self.sink.push(encode_response(key, version, id, &body));
                } else {
                    let left_out = files.ranges.iter().map(|file| LeftOut {
                        record_set: file.record_set,
                        len_bytes: file.range.len_bytes(),
                    });
                    let left_out: Vec<LeftOut> = left_out.collect();
                    let pieces = encode_response_around(key, version, id, &body, &left_out);
                    self.sink.push_around(pieces, files.ranges);
                }
                self.sink.hold(memory);
                self.sink.hold(files.places);
                Ok(())
            }
            Reply::Nothing => Ok(()),
            Reply::Close => Err(Ended::ByHandler),
        }
    }
}

/// The next frame; a client that has to log in has so much time for all of it.
async fn next<R: Readable>(
    source: &mut FrameSource<R>,
    gate: Option<&Gate>,
) -> Result<Option<InFrame>, Ended> {
    let Some(deadline) = gate.and_then(Gate::deadline) else {
        return Ok(source.next().await?);
    };
    if Instant::now() >= deadline {
        // Whoever always has a further frame ready would never be waited for.
        return Err(Ended::LoginTooSlow);
    }
    match timeout_at(deadline, source.next()).await {
        Ok(frame) => frame.map_err(|error| match error {
            FrameError::Unserved(start) => match ApiKey::from_i16(start.api_key) {
                Some(api) if versions::find(api).is_some() && !is_of_login(api) => {
                    Ended::NotLoggedIn { api: api.name() }
                }
                _ => error.into(),
            },
            _ => error.into(),
        }),
        Err(_) => Err(Ended::LoginTooSlow),
    }
}

impl Admission {
    /// Of clients that may ask for anything.
    fn of_requests(broker: &Broker) -> Self {
        Admission {
            frames: Frames::Requests(frame_limit),
            max_frame_bytes: broker.limits.max_frame_bytes,
            budget: Arc::clone(&broker.request_memory),
        }
    }

    /// Of clients that have not logged in yet.
    fn of_login(broker: &Broker, gate: &Gate) -> Self {
        let frames = match gate.awaits_bare_token() {
            true => Frames::Tokens,
            false => Frames::Requests(|start| {
                let key = ApiKey::from_i16(start.api_key)?;
                if is_of_login(key) {
                    frame_limit(start)
                } else {
                    None
                }
            }),
        };
        Admission {
            frames,
            max_frame_bytes: broker.limits.max_frame_bytes.min(gate.max_receive_bytes()),
            budget: Arc::clone(&broker.login_memory),
        }
    }
}

/// What may be asked before a login.
fn is_of_login(key: ApiKey) -> bool {
    matches!(
        key,
        ApiKey::ApiVersions | ApiKey::SaslHandshake | ApiKey::SaslAuthenticate
    )
}

/// How long a frame may be, judged by how it begins; `None` for what is not served (semantic 5).
fn frame_limit(start: FrameStart) -> Option<usize> {
    let key = ApiKey::from_i16(start.api_key)?;
    let row = versions::find(key)?;
    if key == ApiKey::ApiVersions {
        // Versions we do not know are answered too (semantic 1).
        return Some(MAX_API_VERSIONS_FRAME_BYTES);
    }
    let is_served = row.served().contains(&start.api_version);
    is_served.then_some(match key {
        ApiKey::Produce => usize::MAX,
        ApiKey::SaslHandshake => MAX_API_VERSIONS_FRAME_BYTES,
        ApiKey::SaslAuthenticate => MAX_LOGIN_FRAME_BYTES,
        _ if start.is_first => MAX_FIRST_FRAME_BYTES,
        _ => MAX_PLAIN_FRAME_BYTES,
    })
}

struct Request {
    key: ApiKey,
    header: RequestHeader,
    body: RequestBody,
}

#[expect(
    clippy::large_enum_variant,
    reason = "the large variant is the usual one and lives for one request"
)]
enum Decoded {
    Request(Request),
    /// ApiVersions in a version we do not know: answered in version 0 whatever follows (semantic 1).
    UnknownApiVersions {
        correlation_id: i32,
    },
}

fn decode(bytes: Bytes) -> Result<Decoded, Ended> {
    // Frames shorter than these eight bytes were refused when their length was read.
    let mut fixed = &bytes[..];
    let (key, version, correlation_id) = (fixed.get_i16(), fixed.get_i16(), fixed.get_i32());
    let api_key = ApiKey::from_i16(key).ok_or(Ended::Unserved { key, version })?;
    let row = versions::find(api_key).ok_or(Ended::Unserved { key, version })?;
    if !row.served().contains(&version) {
        return match api_key == ApiKey::ApiVersions {
            true => Ok(Decoded::UnknownApiVersions { correlation_id }),
            false => Err(Ended::Unserved { key, version }),
        };
    }
    let mut reader = FrameReader::new(bytes);
    let header = RequestHeader::decode(&mut reader)?;
    let body = RequestBody::decode(api_key, version, &mut reader)?;
    Ok(Decoded::Request(Request {
        key: api_key,
        header,
        body,
    }))
}

#[cfg(test)]
mod tests;
