//! Answers onto a byte stream: gathered while further requests lie in the buffer, written vectored.
//!
//! Record bytes go out as the segments they were read into; nothing is copied together. A peer that
//! takes nothing for the write timeout is given up, and so is one that takes a trickle.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Duration;

use bytes::{Buf, Bytes};
use highwater_wire::Frame;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};

use crate::limits::{
    Limits, MAX_BUFFERED_RESPONSE_BYTES, MAX_BUFFERED_RESPONSES, MAX_WRITE_SEGMENTS,
    MIN_DRAIN_BYTES_PER_SECOND,
};

/// Writes answers to `W` in the order they are pushed.
#[derive(Debug)]
pub(crate) struct ResponseSink<W> {
    io: W,
    segments: VecDeque<Bytes>,
    responses: usize,
    bytes: usize,
    /// Memory of fetch answers, given back once they are written.
    held: Vec<OwnedSemaphorePermit>,
    write_timeout: Duration,
}

impl<W: AsyncWrite + Unpin> ResponseSink<W> {
    pub(crate) fn new(io: W, limits: &Limits) -> Self {
        ResponseSink {
            io,
            segments: VecDeque::new(),
            responses: 0,
            bytes: 0,
            held: Vec::new(),
            write_timeout: limits.write_timeout,
        }
    }

    /// Queues one answer.
    pub(crate) fn push(&mut self, frame: Frame, memory: Option<OwnedSemaphorePermit>) {
        self.bytes += frame.len_bytes();
        self.responses += 1;
        self.segments
            .extend(frame.segments().iter().filter(|part| !part.is_empty()).cloned());
        self.held.extend(memory);
    }

    /// Whether so much is queued that it must be written before the next request is handled. Response memory
    /// is never held while more of it is waited for: connections could wait for each other in a circle.
    pub(crate) fn is_full(&self) -> bool {
        !self.held.is_empty()
            || self.responses >= MAX_BUFFERED_RESPONSES
            || self.bytes >= MAX_BUFFERED_RESPONSE_BYTES
    }

    /// Writes everything queued; the number of bytes written.
    pub(crate) async fn flush(&mut self) -> std::io::Result<usize> {
        let mut written = 0;
        let slowest = Duration::from_secs((self.bytes / MIN_DRAIN_BYTES_PER_SECOND) as u64);
        let deadline = Instant::now() + self.write_timeout + slowest;
        while !self.segments.is_empty() {
            let mut slices = [IoSlice::new(&[]); MAX_WRITE_SEGMENTS];
            let count = self.segments.len().min(MAX_WRITE_SEGMENTS);
            for (slice, segment) in slices.iter_mut().zip(&self.segments) {
                *slice = IoSlice::new(segment);
            }
            let until = deadline.min(Instant::now() + self.write_timeout);
            let taken = timeout_at(until, self.io.write_vectored(&slices[..count]))
                .await
                .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
            if taken == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            written += taken;
            self.advance(taken);
        }
        self.responses = 0;
        self.bytes = 0;
        self.held.clear();
        Ok(written)
    }

    /// Ends the stream cleanly.
    pub(crate) async fn close(mut self) {
        // What was not written will not be; a peer that could not be written to is not waited for either.
        self.segments.clear();
        self.held.clear();
        // The peer may be gone already; there is nobody left to tell.
        let _ = timeout(self.write_timeout, self.io.shutdown()).await;
    }

    fn advance(&mut self, mut taken: usize) {
        while let Some(front) = self.segments.front_mut() {
            if taken < front.len() {
                front.advance(taken);
                return;
            }
            taken -= front.len();
            self.segments.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn segments_arrive_in_order_through_a_narrow_pipe() {
        let (near, mut far) = tokio::io::duplex(7);
        let mut sink = ResponseSink::new(near, &Limits::default());
        for part in 0..200_u8 {
            sink.segments.push_back(Bytes::from(vec![part; 3]));
        }
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.map(|_| all)
        });
        assert_eq!(sink.flush().await.unwrap(), 600);
        sink.close().await;
        let expected: Vec<u8> = (0..200_u8).flat_map(|part| [part; 3]).collect();
        assert_eq!(reader.await.unwrap().unwrap(), expected);
    }

    #[tokio::test]
    async fn hostile_67_peer_that_takes_a_trickle_is_given_up() {
        let (near, mut far) = tokio::io::duplex(1);
        let limits = Limits {
            write_timeout: Duration::from_millis(400),
            ..Limits::default()
        };
        let mut sink = ResponseSink::new(near, &limits);
        sink.segments.push_back(Bytes::from(vec![0; 1_000]));
        sink.bytes = 1_000;
        let trickle = tokio::spawn(async move {
            let mut byte = [0];
            while far.read(&mut byte).await.is_ok_and(|read| read > 0) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let failed = sink.flush().await.unwrap_err();
        assert_eq!(failed.kind(), std::io::ErrorKind::TimedOut);
        trickle.abort();
    }

    #[tokio::test]
    async fn hostile_67_peer_that_reads_nothing_is_given_up() {
        let (near, _far) = tokio::io::duplex(4);
        let limits = Limits {
            write_timeout: Duration::from_millis(20),
            ..Limits::default()
        };
        let mut sink = ResponseSink::new(near, &limits);
        sink.segments
            .push_back(Bytes::from_static(b"more than four bytes"));
        assert_eq!(
            sink.flush().await.unwrap_err().kind(),
            std::io::ErrorKind::TimedOut
        );
    }
}
