//! Kafka over TCP or TLS: length-prefixed frames, pipelined, answers matched in order and checked by correlation id
//! (semantic 6).
//!
//! One task writes, one reads. A caller encodes its own request and decodes its own answer, so that many callers
//! use many cores; the tasks only move bytes.
//!
//! # Invariants
//! - The order of `pending` is the order of frames on the wire: both are appended to under one lock.
//! - A connection with SASL is handed out only when it is authenticated, and while it is authenticated anew
//!   (KIP-368) nothing else is on its way.
//! - A response frame is refused before memory is reserved when it is longer than `max_response_bytes` (before
//!   authentication, than `limits::MAX_RESPONSE_BYTES_BEFORE_AUTHENTICATION`), and memory never runs more than `limits::READ_AHEAD_BYTES` ahead of the bytes that came.

use std::{
    collections::VecDeque,
    fmt,
    io::IoSlice,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::{Buf as _, Bytes, BytesMut};
use highwater_types::ByteString;
use highwater_wire::{
    ApiKey, ErrorCode, Frame, RequestBody, RequestHeader, ResponseBody, decode_response, encode_request,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

use super::{
    Connection, Transport, sasl,
    tls::{self, Tls},
};
use crate::{ClientConfig, ClientError, TransportError, limits, security::SaslConfig};

/// Connects over TCP, with TLS and SASL where the configuration says so.
#[derive(Debug, Clone)]
pub struct TcpTransport {
    client_id: ByteString,
    connect_timeout: Duration,
    request_timeout: Duration,
    max_response_bytes: usize,
    tls: Option<Tls>,
    sasl: Option<Arc<SaslConfig>>,
}

impl TcpTransport {
    /// Takes client id, timeouts, the response bound and the security from the configuration; reads the certificates
    /// that it names.
    ///
    /// # Errors
    /// [`ClientError::Security`].
    pub fn new(config: &ClientConfig) -> Result<Self, ClientError> {
        Ok(Self {
            client_id: config.client_id.clone(),
            connect_timeout: config.connect_timeout,
            request_timeout: config.request_timeout,
            max_response_bytes: config.max_response_bytes,
            tls: config.security.tls.as_ref().map(Tls::new).transpose()?,
            sasl: config.security.sasl.clone().map(Arc::new),
        })
    }

    /// A connection that has not been authenticated.
    async fn open(&self, address: &str) -> Result<TcpConnection, TransportError> {
        let failed = |source| TransportError::Connect {
            address: address.to_owned(),
            source: Arc::new(source),
        };
        let stream = TcpStream::connect(address).await.map_err(failed)?;
        // Requests are written whole; waiting for more bytes only adds latency.
        stream.set_nodelay(true).map_err(failed)?;
        Ok(match &self.tls {
            None => {
                let (reader, writer) = stream.into_split();
                TcpConnection::spawn(reader, writer, address, self)
            }
            Some(tls) => {
                let (reader, writer) = tokio::io::split(tls.handshake(address, stream).await?);
                TcpConnection::spawn(reader, writer, address, self)
            }
        })
    }

    async fn authenticate(
        &self,
        sasl: &SaslConfig,
        shared: &Shared,
    ) -> Result<Option<Duration>, TransportError> {
        let bare = Bare(shared);
        tokio::time::timeout(
            self.request_timeout,
            sasl::authenticate(sasl, &shared.address, &bare),
        )
        .await
        .unwrap_or_else(|_| {
            Err(TransportError::TimedOut {
                address: shared.address.clone(),
                api: ApiKey::SaslAuthenticate,
                timeout: self.request_timeout,
            })
        })
    }

    /// Authenticates again before each session ends, for as long as the connection lives.
    async fn renew_sessions(&self, sasl: &SaslConfig, shared: &Shared, mut lifetime: Duration) {
        loop {
            let wait = sasl::reauthenticate_after(lifetime).max(limits::MIN_REAUTHENTICATION_WAIT);
            tokio::time::sleep(wait).await;
            // All slots: what is under way is answered, and what comes waits.
            let all = u32::try_from(limits::MAX_IN_FLIGHT_PER_CONNECTION).unwrap_or(u32::MAX);
            let Ok(_quiet) = shared.slots.acquire_many(all).await else {
                return;
            };
            match self.authenticate(sasl, shared).await {
                Ok(Some(next)) => lifetime = next,
                Ok(None) => return,
                // Whether it is a refusal for good shows when the caller connects anew.
                Err(error) => return shared.close(shared.closed(format!("its session ended: {error}"))),
            }
        }
    }
}

#[async_trait]
impl Transport for TcpTransport {
    async fn connect(&self, address: &str) -> Result<Arc<dyn Connection>, TransportError> {
        let connection = tokio::time::timeout(self.connect_timeout, self.open(address))
            .await
            .map_err(|_| TransportError::Connect {
                address: address.to_owned(),
                source: Arc::new(std::io::ErrorKind::TimedOut.into()),
            })??;
        if let Some(sasl) = &self.sasl {
            let lifetime = self.authenticate(sasl, &connection.shared).await?;
            connection
                .shared
                .max_response_bytes
                .store(self.max_response_bytes, Ordering::Relaxed);
            if let Some(lifetime) = lifetime {
                let (transport, sasl, shared) = (self.clone(), sasl.clone(), connection.shared.clone());
                tokio::spawn(async move {
                    tokio::select! {
                        () = shared.cancel.cancelled() => {}
                        () = transport.renew_sessions(&sasl, &shared, lifetime) => {}
                    }
                });
            }
        }
        Ok(Arc::new(connection))
    }
}

/// A request on the wire whose answer has not come.
struct Pending {
    correlation_id: i32,
    reply: oneshot::Sender<Bytes>,
    _slot: Option<OwnedSemaphorePermit>,
}

/// A frame for the writer; a request without answer keeps its slot until it is written.
struct Outgoing {
    frame: Frame,
    _slot: Option<OwnedSemaphorePermit>,
}

struct Lane {
    pending: VecDeque<Pending>,
    writer: mpsc::Sender<Outgoing>,
    closed: Option<TransportError>,
}

struct Shared {
    address: String,
    client_id: ByteString,
    next_correlation_id: AtomicI32,
    max_response_bytes: AtomicUsize,
    /// Answers so far, for telling a listener that wants another protocol from a broker that goes away.
    answers: AtomicUsize,
    slots: Arc<Semaphore>,
    lane: Mutex<Lane>,
    cancel: CancellationToken,
}

impl Shared {
    fn lane(&self) -> std::sync::MutexGuard<'_, Lane> {
        self.lane.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn closed(&self, reason: impl Into<Arc<str>>) -> TransportError {
        TransportError::Closed {
            address: self.address.clone(),
            reason: reason.into(),
        }
    }

    /// Fails every waiting call; the first reason is kept.
    fn close(&self, reason: TransportError) {
        let mut lane = self.lane();
        if lane.closed.is_none() {
            lane.closed = Some(reason);
        }
        lane.pending.clear();
        drop(lane);
        self.cancel.cancel();
    }

    fn closed_error(&self) -> TransportError {
        let reason = self.lane().closed.clone();
        reason.unwrap_or_else(|| self.closed("dropped by this client"))
    }

    fn frame(&self, version: i16, body: &RequestBody) -> (i32, Frame) {
        let correlation_id = self.next_correlation_id.fetch_add(1, Ordering::Relaxed);
        let header = RequestHeader {
            api_key: body.api_key().as_i16(),
            api_version: version,
            correlation_id,
            client_id: Some(self.client_id.clone()),
        };
        (correlation_id, encode_request(&header, body))
    }

    async fn slot(&self) -> Result<OwnedSemaphorePermit, TransportError> {
        tokio::select! {
            biased;
            () = self.cancel.cancelled() => Err(self.closed_error()),
            slot = self.slots.clone().acquire_owned() => slot.map_err(|_| self.closed_error()),
        }
    }

    async fn exchange(
        &self,
        version: i16,
        body: RequestBody,
        slot: Option<OwnedSemaphorePermit>,
    ) -> Result<ResponseBody, TransportError> {
        let api = body.api_key();
        let (correlation_id, frame) = self.frame(version, &body);
        let (reply, answer) = oneshot::channel();
        {
            let mut lane = self.lane();
            let sent = lane.closed.is_none() && lane.writer.try_send(Outgoing { frame, _slot: None }).is_ok();
            if !sent {
                drop(lane);
                return Err(self.closed_error());
            }
            lane.pending.push_back(Pending {
                correlation_id,
                reply,
                _slot: slot,
            });
        }
        let frame = answer.await.map_err(|_| self.closed_error())?;
        decode_answer(api, version, frame).map_err(|source| TransportError::Decode {
            address: self.address.clone(),
            api,
            source: Arc::new(source),
        })
    }
}

struct TcpConnection {
    shared: Arc<Shared>,
}

impl fmt::Debug for TcpConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpConnection")
            .field("address", &self.shared.address)
            .finish_non_exhaustive()
    }
}

impl TcpConnection {
    fn spawn(
        reader: impl AsyncRead + Unpin + Send + 'static,
        writer: impl AsyncWrite + Unpin + Send + 'static,
        address: &str,
        transport: &TcpTransport,
    ) -> Self {
        // Every frame in the channel holds a slot, so the channel never fills before the slots run out.
        let (frames_in, frames) = mpsc::channel(limits::MAX_IN_FLIGHT_PER_CONNECTION);
        let max_response_bytes = match &transport.sasl {
            None => transport.max_response_bytes,
            Some(_) => limits::MAX_RESPONSE_BYTES_BEFORE_AUTHENTICATION,
        };
        let shared = Arc::new(Shared {
            address: address.to_owned(),
            client_id: transport.client_id.clone(),
            next_correlation_id: AtomicI32::new(0),
            max_response_bytes: AtomicUsize::new(max_response_bytes),
            answers: AtomicUsize::new(0),
            slots: Arc::new(Semaphore::new(limits::MAX_IN_FLIGHT_PER_CONNECTION)),
            lane: Mutex::new(Lane {
                pending: VecDeque::new(),
                writer: frames_in,
                closed: None,
            }),
            cancel: CancellationToken::new(),
        });
        let reading = shared.clone();
        tokio::spawn(async move {
            let cancel = reading.cancel.clone();
            tokio::select! {
                () = cancel.cancelled() => {}
                reason = read_frames(reader, &reading) => reading.close(reason),
            }
        });
        let writing = shared.clone();
        tokio::spawn(async move {
            let cancel = writing.cancel.clone();
            tokio::select! {
                () = cancel.cancelled() => {}
                reason = write_frames(writer, frames, &writing) => {
                    let _ = tokio::time::timeout(limits::WRITE_FAILURE_GRACE, cancel.cancelled()).await;
                    writing.close(reason);
                }
            }
        });
        Self { shared }
    }
}

#[async_trait]
impl Connection for TcpConnection {
    async fn call(&self, version: i16, body: RequestBody) -> Result<ResponseBody, TransportError> {
        let slot = self.shared.slot().await?;
        self.shared.exchange(version, body, Some(slot)).await
    }

    async fn send_without_reply(&self, version: i16, body: RequestBody) -> Result<(), TransportError> {
        let slot = self.shared.slot().await?;
        let (_, frame) = self.shared.frame(version, &body);
        let lane = self.shared.lane();
        let sent = lane.closed.is_none()
            && lane
                .writer
                .try_send(Outgoing {
                    frame,
                    _slot: Some(slot),
                })
                .is_ok();
        drop(lane);
        if sent {
            Ok(())
        } else {
            Err(self.shared.closed_error())
        }
    }

    fn is_closed(&self) -> bool {
        self.shared.cancel.is_cancelled()
    }

    fn close(&self) {
        self.shared.close(self.shared.closed("closed by this client"));
    }
}

impl Drop for TcpConnection {
    fn drop(&mut self) {
        self.shared.cancel.cancel();
    }
}

/// A connection as whoever authenticates it uses it: nobody else has it, or all its slots are held.
struct Bare<'a>(&'a Shared);

#[async_trait]
impl Connection for Bare<'_> {
    async fn call(&self, version: i16, body: RequestBody) -> Result<ResponseBody, TransportError> {
        self.0.exchange(version, body, None).await
    }

    async fn send_without_reply(&self, _: i16, body: RequestBody) -> Result<(), TransportError> {
        Err(self.0.closed(format!(
            "{} cannot be part of an authentication",
            body.api_key().name()
        )))
    }

    fn is_closed(&self) -> bool {
        self.0.cancel.is_cancelled()
    }
}

/// A broker that does not know the ApiVersions version answers in version 0, error code first (semantic 1).
fn decode_answer(
    api: ApiKey,
    version: i16,
    frame: Bytes,
) -> Result<ResponseBody, highwater_wire::DecodeError> {
    let unsupported = ErrorCode::UnsupportedVersion.code().to_be_bytes();
    let version = if api == ApiKey::ApiVersions && frame.get(4..6) == Some(&unsupported[..]) {
        0
    } else {
        version
    };
    decode_response(api, version, frame).map(|(_, body)| body)
}

/// Reads until the connection ends; gives the reason.
async fn read_frames(mut stream: impl AsyncRead + Unpin, shared: &Shared) -> TransportError {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(length) = buffer.first_chunk::<4>().map(|raw| i32::from_be_bytes(*raw)) {
            let max_response_bytes = shared.max_response_bytes.load(Ordering::Relaxed);
            let length = match usize::try_from(length) {
                Ok(length) if (4..=max_response_bytes).contains(&length) => length,
                _ => return shared.closed(impossible_length(length, max_response_bytes)),
            };
            if buffer.len() < 4 + length {
                buffer.reserve((4 + length - buffer.len()).min(limits::READ_AHEAD_BYTES));
                break;
            }
            buffer.advance(4);
            let frame = buffer.split_to(length).freeze();
            if let Err(reason) = deliver(shared, frame) {
                return shared.closed(reason);
            }
        }
        if buffer.capacity() == buffer.len() {
            buffer.reserve(16 << 10);
        }
        match stream.read_buf(&mut buffer).await {
            Ok(0) => return shared.closed(hung_up(shared.answers.load(Ordering::Relaxed))),
            Ok(_) => {}
            Err(error) => return tls::failure(&shared.address, error),
        }
    }
}

fn impossible_length(length: i32, max_response_bytes: usize) -> String {
    /// What an alert of TLS 1.x looks like as a length.
    const TLS_ALERT: i32 = 0x1503_0000;
    if length & !0xffff == TLS_ALERT {
        return "the broker answers in TLS; set security.protocol=SSL, or SASL_SSL".to_owned();
    }
    format!("response frame of {length} bytes; allowed are 4 to {max_response_bytes}")
}

/// A listener with TLS does not understand a request at all, one with SASL answers what versions there are and then
/// hangs up.
fn hung_up(answers: usize) -> &'static str {
    match answers {
        0 | 1 => {
            "the broker closed it; if it does so each time, its listener may want TLS or SASL (security.protocol)"
        }
        _ => "the broker closed it",
    }
}

fn deliver(shared: &Shared, frame: Bytes) -> Result<(), String> {
    let Some(correlation_id) = frame.first_chunk::<4>().map(|raw| i32::from_be_bytes(*raw)) else {
        return Err("response without correlation id".to_owned());
    };
    let pending = shared.lane().pending.pop_front();
    match pending {
        Some(pending) if pending.correlation_id == correlation_id => {
            // The caller may have given up waiting; its answer is then dropped here.
            let _ = pending.reply.send(frame);
            shared.answers.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
        Some(pending) => Err(format!(
            "response {correlation_id} came where {} was due",
            pending.correlation_id
        )),
        None => Err(format!("response {correlation_id} answers no request")),
    }
}

/// Writes until the connection ends; frames that are waiting go out together.
async fn write_frames(
    mut stream: impl AsyncWrite + Unpin,
    mut frames: mpsc::Receiver<Outgoing>,
    shared: &Shared,
) -> TransportError {
    let mut batch = Vec::with_capacity(limits::MAX_IN_FLIGHT_PER_CONNECTION);
    let mut segments: VecDeque<Bytes> = VecDeque::new();
    loop {
        if frames
            .recv_many(&mut batch, limits::MAX_IN_FLIGHT_PER_CONNECTION)
            .await
            == 0
        {
            return shared.closed("dropped by this client");
        }
        for outgoing in &batch {
            segments.extend(
                outgoing
                    .frame
                    .segments()
                    .iter()
                    .filter(|s| !s.is_empty())
                    .cloned(),
            );
        }
        if let Err(error) = write_segments(&mut stream, &mut segments).await {
            return tls::failure(&shared.address, error);
        }
        batch.clear();
    }
}

async fn write_segments(
    stream: &mut (impl AsyncWrite + Unpin),
    segments: &mut VecDeque<Bytes>,
) -> std::io::Result<()> {
    const MAX_SLICES: usize = 64;
    while !segments.is_empty() {
        let slices: Vec<IoSlice<'_>> = segments
            .iter()
            .take(MAX_SLICES)
            .map(|s| IoSlice::new(s))
            .collect();
        let mut written = stream.write_vectored(&slices).await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        while let Some(first) = segments.front_mut() {
            if written < first.len() {
                first.advance(written);
                break;
            }
            written -= first.len();
            segments.pop_front();
        }
    }
    // TLS keeps what it has encrypted until it is asked; TCP keeps nothing.
    stream.flush().await
}

#[cfg(test)]
mod tests;
