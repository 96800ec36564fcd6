//! Answers onto a byte stream: gathered while further requests lie in the buffer, written vectored.
//!
//! Record bytes go out as the segments they were read into, or straight from their files; nothing is copied together.
//! A peer that takes nothing for the write timeout is given up, and so is one that takes a trickle.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Duration;

use bytes::{Buf, Bytes};
use highwater_wire::{Frame, Piece};
use tokio::io::AsyncWriteExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout, timeout_at};

use super::outlet::{OutgoingFile, Outlet, Sent, write_before_file};
use super::send_buffer::SendBuffer;
use crate::dispatch::RecordsInFile;
use crate::limits::{
    Limits, MAX_BUFFERED_RESPONSE_BYTES, MAX_BUFFERED_RESPONSES, MAX_WRITE_SEGMENTS,
    MIN_DRAIN_BYTES_PER_SECOND,
};

/// Writes answers to `W` in the order they are pushed.
#[derive(Debug)]
pub(crate) struct ResponseSink<W> {
    io: W,
    buffer: SendBuffer,
    parts: VecDeque<Part>,
    responses: usize,
    bytes: usize,
    /// Memory and places of fetch answers, given back once they are written.
    held: Vec<OwnedSemaphorePermit>,
    write_timeout: Duration,
}

/// A part of an answer.
#[derive(Debug)]
enum Part {
    Bytes(Bytes),
    File(OutgoingFile),
}

/// What a flush has written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) bytes: usize,
    /// Bytes among them that went from a file to the socket.
    pub(crate) from_files: usize,
}

impl<W: Outlet> ResponseSink<W> {
    pub(crate) fn new(io: W, buffer: SendBuffer, limits: &Limits) -> Self {
        ResponseSink {
            io,
            buffer,
            parts: VecDeque::new(),
            responses: 0,
            bytes: 0,
            held: Vec::new(),
            write_timeout: limits.write_timeout,
        }
    }

    /// Queues one answer.
    pub(crate) fn push(&mut self, frame: Frame) {
        self.bytes += frame.len_bytes();
        self.responses += 1;
        self.parts
            .extend(frame.into_segments().into_iter().map(Part::Bytes));
    }

    /// Queues one answer that is no message of the protocol.
    pub(crate) fn push_bytes(&mut self, bytes: Bytes) {
        self.bytes += bytes.len();
        self.responses += 1;
        self.parts.push_back(Part::Bytes(bytes));
    }

    /// Queues one answer that has some of its record sets in files, in the order of the pieces.
    pub(crate) fn push_around(&mut self, pieces: Vec<Piece>, files: Vec<RecordsInFile>) {
        self.responses += 1;
        let mut files = files.into_iter();
        for piece in pieces {
            match piece {
                Piece::Bytes(bytes) => {
                    self.bytes += bytes.len();
                    self.parts.push_back(Part::Bytes(bytes));
                }
                Piece::LeftOut(place) => {
                    self.bytes += place.len_bytes;
                    let file = files.next().map(|file| OutgoingFile::new(file.range));
                    self.parts.extend(file.map(Part::File));
                }
            }
        }
    }

    /// Keeps what an answer holds until it is written.
    pub(crate) fn hold(&mut self, permit: Option<OwnedSemaphorePermit>) {
        self.held.extend(permit);
    }

    /// Whether so much is queued that it must be written before the next request is handled. Response memory
    /// is never held while more of it is waited for: connections could wait for each other in a circle.
    pub(crate) fn is_full(&self) -> bool {
        !self.held.is_empty()
            || self.responses >= MAX_BUFFERED_RESPONSES
            || self.bytes >= MAX_BUFFERED_RESPONSE_BYTES
    }

    /// Writes everything queued.
    pub(crate) async fn flush(&mut self) -> std::io::Result<Written> {
        let mut written = Written::default();
        let slowest = Duration::from_secs((self.bytes / MIN_DRAIN_BYTES_PER_SECOND) as u64);
        let deadline = Instant::now() + self.write_timeout + slowest;
        if let Some(stream) = self.io.stream() {
            self.buffer.make_room(stream, self.bytes);
        }
        let (io, parts) = (&mut self.io, &mut self.parts);
        while !parts.is_empty() {
            let until = deadline.min(Instant::now() + self.write_timeout);
            let step = step(io, parts);
            let taken = timeout_at(until, step)
                .await
                .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
            written.bytes += taken.bytes;
            written.from_files += taken.from_files;
        }
        // What encryption holds back until it is told; a plain stream holds nothing.
        if self.responses > 0 {
            let until = deadline.min(Instant::now() + self.write_timeout);
            timeout_at(until, self.io.flush())
                .await
                .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
        }
        self.responses = 0;
        self.bytes = 0;
        self.held.clear();
        Ok(written)
    }

    /// Ends the stream cleanly.
    pub(crate) async fn close(&mut self) {
        // What was not written will not be; a peer that could not be written to is not waited for either.
        self.parts.clear();
        self.held.clear();
        // The peer may be gone already; there is nobody left to tell.
        let _ = timeout(self.write_timeout, self.io.shutdown()).await;
    }
}

/// Writes what the stream takes now of the bytes up to the next file, or of that file.
async fn step<W: Outlet>(io: &mut W, parts: &mut VecDeque<Part>) -> std::io::Result<Written> {
    if let Some(Part::File(file)) = parts.front_mut() {
        // On the heap, here and below: an idle connection does not have room for what only large answers need.
        let sent = Box::pin(file.send(io.stream())).await?;
        if file.is_done() {
            parts.pop_front();
        }
        return Ok(match sent {
            Sent::Bytes(bytes) => Written {
                bytes,
                from_files: bytes,
            },
            Sent::Read(bytes) => {
                parts.push_front(Part::Bytes(bytes));
                Written::default()
            }
        });
    }
    let mut slices = [IoSlice::new(&[]); MAX_WRITE_SEGMENTS];
    let mut count = 0;
    for (slice, part) in slices.iter_mut().zip(&*parts) {
        let Part::Bytes(bytes) = part else { break };
        *slice = IoSlice::new(bytes);
        count += 1;
    }
    let slices = &slices[..count];
    let taken = match parts.get(count) {
        Some(Part::File(_)) => Box::pin(write_before_file(io, slices)).await?,
        _ => io.write_vectored(slices).await?,
    };
    if taken == 0 {
        return Err(std::io::ErrorKind::WriteZero.into());
    }
    advance(parts, taken);
    Ok(Written {
        bytes: taken,
        from_files: 0,
    })
}

/// Drops so many bytes from the front.
fn advance(parts: &mut VecDeque<Part>, mut taken: usize) {
    while let Some(Part::Bytes(front)) = parts.front_mut() {
        if taken < front.len() {
            front.advance(taken);
            return;
        }
        taken -= front.len();
        parts.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, DuplexStream};
    use tokio::net::TcpStream;

    use super::*;
    use crate::net::send_buffer::SendBuffers;

    impl Outlet for DuplexStream {
        fn stream(&self) -> Option<&TcpStream> {
            None
        }
    }

    fn sink(io: DuplexStream, limits: &Limits) -> ResponseSink<DuplexStream> {
        ResponseSink::new(io, SendBuffers::new(limits.send_buffer).of_connection(), limits)
    }

    #[tokio::test]
    async fn segments_arrive_in_order_through_a_narrow_pipe() {
        let (near, mut far) = tokio::io::duplex(7);
        let mut sink = sink(near, &Limits::default());
        for part in 0..200_u8 {
            sink.parts.push_back(Part::Bytes(vec![part; 3].into()));
        }
        let reader = tokio::spawn(async move {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.map(|_| all)
        });
        assert_eq!(sink.flush().await.unwrap().bytes, 600);
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
        let mut sink = sink(near, &limits);
        sink.parts.push_back(Part::Bytes(vec![0; 1_000].into()));
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
        let mut sink = sink(near, &limits);
        sink.parts
            .push_back(Part::Bytes(Bytes::from_static(b"more than four bytes")));
        assert_eq!(
            sink.flush().await.unwrap_err().kind(),
            std::io::ErrorKind::TimedOut
        );
    }
}
