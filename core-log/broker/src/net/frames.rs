//! Requests off a byte stream: a 4-byte length, then that many bytes, handed on as one buffer.
//!
//! Refuses: lengths below a request header or above `socket.request.max.bytes` (semantic 8), frames
//! that do not finish in time, frames cut off by the end of the stream.
//!
//! Invariants:
//! - a claimed length reserves at most [`FIRST_READ_BYTES`]; every further reservation is at most
//!   [`READ_GROWTH`] times what has arrived already;
//! - bytes are taken from the node-wide budget before room for them is allocated, and go back when the
//!   request has been handled;
//! - a connection that waits for budget waits within the frame's deadline, so that half-read frames
//!   which together hold the whole budget give it up again.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout, timeout_at};

use crate::limits::{
    COPY_FRAME_BYTES, FIRST_READ_BYTES, IDLE_READ_BYTES, Limits, MIN_FRAME_BYTES, READ_GROWTH,
};

const PREFIX_BYTES: usize = 4;

/// Length, key and version: enough to tell whether the rest is worth reading.
const START_BYTES: usize = 8;

/// How a request begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameStart {
    pub(crate) api_key: i16,
    pub(crate) api_version: i16,
    /// Nothing has been read on this connection before.
    pub(crate) is_first: bool,
}

/// What is expected of a peer at this point of its connection.
#[derive(Debug, Clone)]
pub(crate) struct Admission {
    pub(crate) frames: Frames,
    /// The largest frame of all.
    pub(crate) max_frame_bytes: usize,
    /// Where memory for frames comes from.
    pub(crate) budget: Arc<Semaphore>,
}

/// What frames look like.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Frames {
    /// Requests, with the size of the largest that may begin so; `None` when none may.
    Requests(fn(FrameStart) -> Option<usize>),
    /// SASL tokens, which have no header.
    Tokens,
}

/// A stream that can be waited for before there is room to read into: idle connections hold no buffer.
pub(crate) trait Readable: AsyncRead + Unpin {
    /// Returns when a read is worth trying.
    fn readable(&self) -> impl Future<Output = std::io::Result<()>> + Send;
}

impl Readable for OwnedReadHalf {
    async fn readable(&self) -> std::io::Result<()> {
        OwnedReadHalf::readable(self).await
    }
}

const _: () = assert!(START_BYTES <= PREFIX_BYTES + MIN_FRAME_BYTES);

/// A request as it lay on the wire, without its length, and the memory it occupies.
#[derive(Debug)]
pub(crate) struct InFrame {
    pub(crate) bytes: Bytes,
    pub(crate) memory: OwnedSemaphorePermit,
}

/// Why no further frame can be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("frame length {length} is outside {MIN_FRAME_BYTES}..={max}; the peer may not speak Kafka")]
    Length { length: i32, max: usize },
    #[error("api key {} version {} is not served", .0.api_key, .0.api_version)]
    Unserved(FrameStart),
    #[error("the frame was cut off after {have} of its bytes")]
    Truncated { have: usize },
    #[error("the frame was not complete after {waited:?}")]
    TooSlow { waited: Duration },
    #[error("no request for {idle:?}")]
    Idle { idle: Duration },
    #[error("the node is shutting down")]
    Closing,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl FrameError {
    /// A word for the counter of closed connections.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            FrameError::Length { .. } => "frame_length",
            FrameError::Unserved(_) => "unserved_version",
            FrameError::Truncated { .. } => "truncated",
            FrameError::TooSlow { .. } => "slow_frame",
            FrameError::Idle { .. } => "idle",
            FrameError::Closing => "shutdown",
            FrameError::Io(_) => "io",
        }
    }
}

/// Reads frames from `R`.
#[derive(Debug)]
pub(crate) struct FrameSource<R> {
    io: R,
    buffer: BytesMut,
    admission: Admission,
    is_first: bool,
    idle_timeout: Duration,
    slow_frame_timeout: Duration,
}

impl<R: Readable> FrameSource<R> {
    pub(crate) fn new(io: R, admission: Admission, limits: &Limits) -> Self {
        FrameSource {
            io,
            buffer: BytesMut::new(),
            admission,
            is_first: true,
            idle_timeout: limits.idle_timeout,
            slow_frame_timeout: limits.slow_frame_timeout,
        }
    }

    /// The stream itself, when no further frame is wanted.
    pub(crate) fn stream(&mut self) -> &mut R {
        self.buffer = BytesMut::new();
        &mut self.io
    }

    /// Expects something else from here on.
    pub(crate) fn expect(&mut self, admission: Admission) {
        self.admission = admission;
    }

    /// Whether a whole frame already lies in the buffer, so that [`FrameSource::next`] needs no read.
    pub(crate) fn has_frame(&self) -> bool {
        match self.claimed_length() {
            Some(length) => {
                usize::try_from(length).is_ok_and(|length| self.buffer.len() >= PREFIX_BYTES + length)
            }
            None => false,
        }
    }

    /// The next frame; `None` when the peer has closed between frames.
    pub(crate) async fn next(&mut self) -> Result<Option<InFrame>, FrameError> {
        if self.buffer.is_empty() {
            let idle = self.idle_timeout;
            // What a connection holds while nothing comes is this, without a buffer.
            self.buffer = BytesMut::new();
            let read = timeout(idle, async {
                self.io.readable().await?;
                self.fill(IDLE_READ_BYTES).await
            })
            .await;
            if read.map_err(|_| FrameError::Idle { idle })?? == 0 {
                return Ok(None);
            }
        }
        let began = Instant::now();
        self.fill_to(PREFIX_BYTES, began).await?;
        let length = self.checked_length(self.admission.max_frame_bytes)?;
        if let Frames::Requests(admit) = self.admission.frames {
            self.fill_to(START_BYTES, began).await?;
            let start = self.start();
            let limit = admit(start).ok_or(FrameError::Unserved(start))?;
            self.checked_length(self.admission.max_frame_bytes.min(limit))?;
        }
        self.is_first = false;
        let seconds_for_length = (length >> 20) as u64;
        let deadline = began + self.slow_frame_timeout + Duration::from_secs(seconds_for_length);
        match timeout_at(deadline, self.body(length)).await {
            Ok(frame) => frame.map(Some),
            Err(_) => Err(FrameError::TooSlow {
                waited: began.elapsed(),
            }),
        }
    }

    /// Reads until `bytes` of a frame are there; no frame is shorter than what this is asked for.
    async fn fill_to(&mut self, bytes: usize, began: Instant) -> Result<(), FrameError> {
        while self.buffer.len() < bytes {
            let deadline = began + self.slow_frame_timeout;
            let read = timeout_at(deadline, self.fill(IDLE_READ_BYTES)).await;
            let slow = |_| FrameError::TooSlow {
                waited: began.elapsed(),
            };
            if read.map_err(slow)?? == 0 {
                return Err(FrameError::Truncated {
                    have: self.buffer.len(),
                });
            }
        }
        Ok(())
    }

    fn start(&self) -> FrameStart {
        let mut bytes = &self.buffer[PREFIX_BYTES..START_BYTES];
        FrameStart {
            api_key: bytes.get_i16(),
            api_version: bytes.get_i16(),
            is_first: self.is_first,
        }
    }

    fn claimed_length(&self) -> Option<i32> {
        (self.buffer.len() >= PREFIX_BYTES).then(|| (&self.buffer[..PREFIX_BYTES]).get_i32())
    }

    fn checked_length(&self, max: usize) -> Result<usize, FrameError> {
        let length = self.claimed_length().unwrap_or(0);
        let min = match self.admission.frames {
            Frames::Requests(_) => MIN_FRAME_BYTES,
            Frames::Tokens => 0,
        };
        match usize::try_from(length) {
            Ok(bytes) if (min..=max).contains(&bytes) => Ok(bytes),
            Ok(_) | Err(_) => Err(FrameError::Length { length, max }),
        }
    }

    async fn body(&mut self, length: usize) -> Result<InFrame, FrameError> {
        let total = PREFIX_BYTES + length;
        let mut memory = self.reserve(total.min(FIRST_READ_BYTES)).await?;
        while memory.num_permits() < total || self.buffer.len() < total {
            let allowed = memory.num_permits();
            if self.buffer.len() >= allowed {
                memory.merge(self.reserve((total - allowed).min(allowed * READ_GROWTH)).await?);
            } else if self.fill(allowed - self.buffer.len()).await? == 0 {
                return Err(FrameError::Truncated {
                    have: self.buffer.len(),
                });
            }
        }
        self.buffer.advance(PREFIX_BYTES);
        let bytes = if length <= COPY_FRAME_BYTES {
            let copied = Bytes::copy_from_slice(&self.buffer[..length]);
            self.buffer.advance(length);
            copied
        } else {
            self.buffer.split_to(length).freeze()
        };
        Ok(InFrame { bytes, memory })
    }

    async fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit, FrameError> {
        // Frames are shorter than 2^31, so the number always fits.
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        Arc::clone(&self.admission.budget)
            .acquire_many_owned(permits)
            .await
            .map_err(|_| FrameError::Closing)
    }

    async fn fill(&mut self, room: usize) -> std::io::Result<usize> {
        self.buffer.reserve(room);
        self.io.read_buf(&mut self.buffer).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    const BUDGET: usize = 8 * 1024 * 1024;

    impl Readable for tokio::io::DuplexStream {
        async fn readable(&self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn admission() -> Admission {
        Admission {
            frames: Frames::Requests(|_| Some(usize::MAX)),
            max_frame_bytes: limits().max_frame_bytes,
            budget: Arc::new(Semaphore::new(BUDGET)),
        }
    }

    fn limits() -> Limits {
        Limits {
            max_frame_bytes: 4 * 1024 * 1024,
            slow_frame_timeout: Duration::from_millis(50),
            idle_timeout: Duration::from_millis(50),
            ..Limits::default()
        }
    }

    fn source(capacity: usize) -> (tokio::io::DuplexStream, FrameSource<tokio::io::DuplexStream>) {
        let (near, far) = tokio::io::duplex(capacity);
        (near, FrameSource::new(far, admission(), &limits()))
    }

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut bytes = (body.len() as i32).to_be_bytes().to_vec();
        bytes.extend_from_slice(body);
        bytes
    }

    #[tokio::test]
    async fn semantic_06_pipelined_frames_come_out_in_order_and_give_their_memory_back() {
        let (mut peer, mut source) = source(1024);
        peer.write_all(&[frame(b"first frame"), frame(b"second frame")].concat())
            .await
            .unwrap();
        let first = source.next().await.unwrap().unwrap();
        assert!(source.has_frame());
        let second = source.next().await.unwrap().unwrap();
        assert_eq!(
            (&first.bytes[..], &second.bytes[..]),
            (&b"first frame"[..], &b"second frame"[..])
        );
        drop((first, second, peer));
        assert!(source.next().await.unwrap().is_none());
        assert_eq!(source.admission.budget.available_permits(), BUDGET);
    }

    #[tokio::test]
    async fn hostile_02_05_a_claimed_length_costs_only_what_arrived() {
        let (mut peer, mut source) = source(1024);
        peer.write_all(&(3 * 1024 * 1024_i32).to_be_bytes())
            .await
            .unwrap();
        peer.write_all(&[0; 100]).await.unwrap();
        let failed = source.next().await.unwrap_err();
        assert!(matches!(failed, FrameError::TooSlow { .. }), "{failed}");
        assert!(
            source.buffer.capacity() <= FIRST_READ_BYTES * 2,
            "{}",
            source.buffer.capacity()
        );
        assert_eq!(source.admission.budget.available_permits(), BUDGET);
    }

    #[tokio::test]
    async fn a_frame_is_judged_by_its_first_bytes_before_the_rest_is_read() {
        let (mut peer, mut source) = source(1024);
        source.admission.frames = Frames::Requests(|start| match (start.api_key, start.is_first) {
            (7, true) => Some(100),
            (7, false) => Some(2_000_000),
            _ => None,
        });
        let begin = |length: i32, key: i16| [&length.to_be_bytes()[..], &key.to_be_bytes(), &[0, 3]].concat();
        peer.write_all(&begin(10, 7)).await.unwrap();
        peer.write_all(&[0; 6]).await.unwrap();
        assert_eq!(source.next().await.unwrap().unwrap().bytes.len(), 10);
        // What was too long for a first frame is not for a later one; nothing of its body has come.
        peer.write_all(&begin(2_000_001, 7)).await.unwrap();
        let failed = source.next().await.unwrap_err();
        assert!(
            matches!(failed, FrameError::Length { max: 2_000_000, .. }),
            "{failed}"
        );
        let (mut peer, mut source) = super::tests::source(1024);
        source.admission.frames = Frames::Requests(|start| (start.api_key == 7).then_some(100));
        peer.write_all(&begin(1_000_000, 8)).await.unwrap();
        let failed = source.next().await.unwrap_err();
        assert!(
            matches!(failed, FrameError::Unserved(start) if start.api_version == 3),
            "{failed}"
        );
    }

    #[tokio::test]
    async fn large_frame_is_read_whole() {
        let (mut peer, mut source) = source(64 * 1024);
        let body: Vec<u8> = (0..3_500_000_u32).map(|at| at as u8).collect();
        let sent = frame(&body);
        let writer = tokio::spawn(async move { peer.write_all(&sent).await });
        let got = source.next().await.unwrap().unwrap();
        assert_eq!(&got.bytes[..], &body[..]);
        writer.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn hostile_01_02_03_impossible_lengths_are_refused_before_anything_is_reserved() {
        for length in [-1, 0, 3, 4 * 1024 * 1024 + 1, i32::MAX, i32::MIN] {
            let (mut peer, mut source) = source(1024);
            peer.write_all(&length.to_be_bytes()).await.unwrap();
            let failed = source.next().await.unwrap_err();
            assert!(matches!(failed, FrameError::Length { .. }), "{length}: {failed}");
        }
    }

    #[tokio::test]
    async fn hostile_05_half_a_frame_then_end_of_stream_is_an_error_and_silence_is_idle() {
        let (mut peer, mut cut) = source(1024);
        peer.write_all(&frame(b"0123456789")[..9]).await.unwrap();
        drop(peer);
        assert!(matches!(
            cut.next().await.unwrap_err(),
            FrameError::Truncated { .. }
        ));
        let (_peer, mut silent) = source(1024);
        assert!(matches!(
            silent.next().await.unwrap_err(),
            FrameError::Idle { .. }
        ));
    }
}
