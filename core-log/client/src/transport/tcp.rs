//! Kafka over TCP: length-prefixed frames, pipelined, answers matched in order and checked by correlation id
//! (semantic 6).
//!
//! One task writes, one reads. A caller encodes its own request and decodes its own answer, so that many callers
//! use many cores; the tasks only move bytes.
//!
//! # Invariants
//! - The order of `pending` is the order of frames on the wire: both are appended to under one lock.
//! - A response frame is refused before memory is reserved when it is longer than `max_response_bytes`, and memory
//!   never runs more than `limits::READ_AHEAD_BYTES` ahead of the bytes that came.

use std::{
    collections::VecDeque,
    fmt,
    io::IoSlice,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI32, Ordering},
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
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;

use super::{Connection, Transport};
use crate::{ClientConfig, TransportError, limits};

/// Connects over plain TCP.
#[derive(Debug, Clone)]
pub struct TcpTransport {
    client_id: ByteString,
    connect_timeout: Duration,
    max_response_bytes: usize,
}

impl TcpTransport {
    /// Takes client id, connect timeout and the response bound from the configuration.
    pub fn new(config: &ClientConfig) -> Self {
        Self {
            client_id: config.client_id.clone(),
            connect_timeout: config.connect_timeout,
            max_response_bytes: config.max_response_bytes,
        }
    }
}

#[async_trait]
impl Transport for TcpTransport {
    async fn connect(&self, address: &str) -> Result<Arc<dyn Connection>, TransportError> {
        let failed = |source| TransportError::Connect {
            address: address.to_owned(),
            source: Arc::new(source),
        };
        let stream = tokio::time::timeout(self.connect_timeout, TcpStream::connect(address))
            .await
            .map_err(|_| failed(std::io::ErrorKind::TimedOut.into()))?
            .map_err(failed)?;
        // Requests are written whole; waiting for more bytes only adds latency.
        stream.set_nodelay(true).map_err(failed)?;
        Ok(Arc::new(TcpConnection::spawn(stream, address, self)))
    }
}

/// A request on the wire whose answer has not come.
struct Pending {
    correlation_id: i32,
    reply: oneshot::Sender<Bytes>,
    _slot: OwnedSemaphorePermit,
}

/// A frame for the writer; a request without answer keeps its slot until it is written.
struct Outgoing {
    frame: Frame,
    _slot: Option<OwnedSemaphorePermit>,
}

struct Lane {
    pending: VecDeque<Pending>,
    writer: mpsc::Sender<Outgoing>,
    closed: Option<Arc<str>>,
}

struct Shared {
    address: String,
    lane: Mutex<Lane>,
    cancel: CancellationToken,
}

impl Shared {
    fn lane(&self) -> std::sync::MutexGuard<'_, Lane> {
        self.lane.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Fails every waiting call; the first reason is kept.
    fn close(&self, reason: &str) {
        let mut lane = self.lane();
        if lane.closed.is_none() {
            lane.closed = Some(reason.into());
        }
        lane.pending.clear();
        drop(lane);
        self.cancel.cancel();
    }

    fn closed_error(&self) -> TransportError {
        let reason = self
            .lane()
            .closed
            .clone()
            .unwrap_or_else(|| "dropped by this client".into());
        TransportError::Closed {
            address: self.address.clone(),
            reason,
        }
    }
}

struct TcpConnection {
    shared: Arc<Shared>,
    client_id: ByteString,
    next_correlation_id: AtomicI32,
    slots: Arc<Semaphore>,
}

impl fmt::Debug for TcpConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TcpConnection")
            .field("address", &self.shared.address)
            .finish_non_exhaustive()
    }
}

impl TcpConnection {
    fn spawn(stream: TcpStream, address: &str, transport: &TcpTransport) -> Self {
        // Every frame in the channel holds a slot, so the channel never fills before the slots run out.
        let (writer, frames) = mpsc::channel(limits::MAX_IN_FLIGHT_PER_CONNECTION);
        let shared = Arc::new(Shared {
            address: address.to_owned(),
            lane: Mutex::new(Lane {
                pending: VecDeque::new(),
                writer,
                closed: None,
            }),
            cancel: CancellationToken::new(),
        });
        let (read_half, write_half) = stream.into_split();
        let reading = shared.clone();
        let max_response_bytes = transport.max_response_bytes;
        tokio::spawn(async move {
            let cancel = reading.cancel.clone();
            tokio::select! {
                () = cancel.cancelled() => {}
                reason = read_frames(read_half, &reading, max_response_bytes) => reading.close(&reason),
            }
        });
        let writing = shared.clone();
        tokio::spawn(async move {
            let cancel = writing.cancel.clone();
            tokio::select! {
                () = cancel.cancelled() => {}
                reason = write_frames(write_half, frames) => writing.close(&reason),
            }
        });
        Self {
            shared,
            client_id: transport.client_id.clone(),
            next_correlation_id: AtomicI32::new(0),
            slots: Arc::new(Semaphore::new(limits::MAX_IN_FLIGHT_PER_CONNECTION)),
        }
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
            () = self.shared.cancel.cancelled() => Err(self.shared.closed_error()),
            slot = self.slots.clone().acquire_owned() => slot.map_err(|_| self.shared.closed_error()),
        }
    }
}

#[async_trait]
impl Connection for TcpConnection {
    async fn call(&self, version: i16, body: RequestBody) -> Result<ResponseBody, TransportError> {
        let slot = self.slot().await?;
        let api = body.api_key();
        let (correlation_id, frame) = self.frame(version, &body);
        let (reply, answer) = oneshot::channel();
        {
            let mut lane = self.shared.lane();
            let sent = lane.closed.is_none() && lane.writer.try_send(Outgoing { frame, _slot: None }).is_ok();
            if !sent {
                drop(lane);
                return Err(self.shared.closed_error());
            }
            lane.pending.push_back(Pending {
                correlation_id,
                reply,
                _slot: slot,
            });
        }
        let frame = answer.await.map_err(|_| self.shared.closed_error())?;
        decode_answer(api, version, frame).map_err(|source| TransportError::Decode {
            address: self.shared.address.clone(),
            api,
            source: Arc::new(source),
        })
    }

    async fn send_without_reply(&self, version: i16, body: RequestBody) -> Result<(), TransportError> {
        let slot = self.slot().await?;
        let (_, frame) = self.frame(version, &body);
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
        self.shared.close("closed by this client");
    }
}

impl Drop for TcpConnection {
    fn drop(&mut self) {
        self.shared.cancel.cancel();
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
async fn read_frames(mut stream: OwnedReadHalf, shared: &Shared, max_response_bytes: usize) -> String {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(length) = buffer.first_chunk::<4>().map(|raw| i32::from_be_bytes(*raw)) {
            let length = match usize::try_from(length) {
                Ok(length) if (4..=max_response_bytes).contains(&length) => length,
                _ => {
                    return format!(
                        "response frame of {length} bytes; allowed are 4 to {max_response_bytes}"
                    );
                }
            };
            if buffer.len() < 4 + length {
                buffer.reserve((4 + length - buffer.len()).min(limits::READ_AHEAD_BYTES));
                break;
            }
            buffer.advance(4);
            let frame = buffer.split_to(length).freeze();
            if let Err(reason) = deliver(shared, frame) {
                return reason;
            }
        }
        if buffer.capacity() == buffer.len() {
            buffer.reserve(16 << 10);
        }
        match stream.read_buf(&mut buffer).await {
            Ok(0) => return "the broker closed it".to_owned(),
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
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
async fn write_frames(mut stream: OwnedWriteHalf, mut frames: mpsc::Receiver<Outgoing>) -> String {
    let mut batch = Vec::with_capacity(limits::MAX_IN_FLIGHT_PER_CONNECTION);
    let mut segments: VecDeque<Bytes> = VecDeque::new();
    loop {
        if frames
            .recv_many(&mut batch, limits::MAX_IN_FLIGHT_PER_CONNECTION)
            .await
            == 0
        {
            return "dropped by this client".to_owned();
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
            return error.to_string();
        }
        batch.clear();
    }
}

async fn write_segments(stream: &mut OwnedWriteHalf, segments: &mut VecDeque<Bytes>) -> std::io::Result<()> {
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
    Ok(())
}

#[cfg(test)]
mod tests;
