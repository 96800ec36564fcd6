//! Where answers go: bytes from memory, and stretches of files that never come here.
//!
//! Refuses: waiting for the disk on a thread that serves others. Pages that are not in memory are brought in by a
//! thread that may wait; on the way from there to the socket they may be given up again, which costs a wait, rarely.

use std::io::{self, ErrorKind, IoSlice};

use bytes::Bytes;
use highwater_storage::FileRange;
#[cfg(target_os = "linux")]
use socket2::SockRef;
#[cfg(target_os = "linux")]
use tokio::io::Interest;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedWriteHalf;

use crate::limits::{COPY_STEP_BYTES, SEND_STEP_BYTES};

/// A stream of answers.
pub(crate) trait Outlet: AsyncWrite + Unpin {
    /// The connection, if stretches of files may go into it from the kernel's hands.
    fn stream(&self) -> Option<&TcpStream>;
}

impl Outlet for OwnedWriteHalf {
    fn stream(&self) -> Option<&TcpStream> {
        Some(self.as_ref())
    }
}

/// Tells the kernel that more follows at once, so that it does not send a packet for a few bytes.
#[cfg(target_os = "linux")]
const MSG_MORE: i32 = 0x8000;

/// Writes what the stream takes now of bytes that a file follows at once.
pub(crate) async fn write_before_file<W: Outlet>(io: &mut W, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    #[cfg(target_os = "linux")]
    if let Some(stream) = io.stream() {
        let send = || SockRef::from(stream).send_vectored_with_flags(slices, MSG_MORE);
        return stream.async_io(Interest::WRITABLE, send).await;
    }
    io.write_vectored(slices).await
}

/// A stretch of a file on its way out.
#[derive(Debug)]
pub(crate) struct OutgoingFile {
    range: FileRange,
    /// Bytes from the front on that were found in memory and not sent yet.
    resident_bytes: usize,
}

/// What became of a step.
#[derive(Debug)]
pub(crate) enum Sent {
    /// So many bytes are on their way.
    Bytes(usize),
    /// The system does not send from such a file, or into such a stream: these bytes are next.
    Read(Bytes),
}

impl OutgoingFile {
    pub(crate) fn new(range: FileRange) -> Self {
        OutgoingFile {
            range,
            resident_bytes: 0,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.range.is_empty()
    }

    /// Sends what the stream takes now, at most [`SEND_STEP_BYTES`]; waits until it takes something.
    ///
    /// # Errors
    /// `UnexpectedEof` if the bytes are in the log no more; what the disk and the peer refuse.
    pub(crate) async fn send(&mut self, stream: Option<&TcpStream>) -> io::Result<Sent> {
        let sent = match stream {
            Some(stream) => self.send_into(stream).await,
            None => Err(ErrorKind::Unsupported.into()),
        };
        match sent {
            Ok(bytes) => Ok(Sent::Bytes(bytes)),
            Err(error) if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::InvalidInput) => {
                Ok(Sent::Read(self.read().await?))
            }
            Err(error) => {
                if error.kind() == ErrorKind::UnexpectedEof {
                    let (path, position) = self.range.place();
                    tracing::warn!(
                        path = %path.display(), position,
                        "records are gone from a segment while they are sent, the connection is closed"
                    );
                }
                Err(error)
            }
        }
    }

    async fn send_into(&mut self, stream: &TcpStream) -> io::Result<usize> {
        if self.resident_bytes == 0 {
            if !self.range.is_resident(SEND_STEP_BYTES)? {
                self.bring_in().await?;
            }
            self.resident_bytes = SEND_STEP_BYTES.min(self.range.len_bytes());
        }
        let sent = sendfile(stream, &mut self.range, self.resident_bytes).await?;
        self.resident_bytes = self.resident_bytes.saturating_sub(sent);
        Ok(sent)
    }

    async fn bring_in(&self) -> io::Result<()> {
        let range = self.range.clone();
        let read = tokio::task::spawn_blocking(move || range.bring_in(SEND_STEP_BYTES));
        read.await.map_err(io::Error::other)?
    }

    async fn read(&mut self) -> io::Result<Bytes> {
        let mut range = self.range.clone();
        let read = tokio::task::spawn_blocking(move || {
            let bytes = range.read(COPY_STEP_BYTES)?;
            Ok::<_, io::Error>((range, bytes))
        });
        let (range, bytes) = read.await.map_err(io::Error::other)??;
        self.range = range;
        Ok(bytes)
    }
}

#[cfg(target_os = "linux")]
async fn sendfile(stream: &TcpStream, range: &mut FileRange, max_bytes: usize) -> io::Result<usize> {
    let send = || {
        range.send(max_bytes, |step| {
            let mut position = step.position;
            Ok(rustix::fs::sendfile(
                stream,
                step.file,
                Some(&mut position),
                step.max_bytes,
            )?)
        })
    };
    stream.async_io(Interest::WRITABLE, send).await
}

#[cfg(not(target_os = "linux"))]
async fn sendfile(_stream: &TcpStream, _range: &mut FileRange, _max_bytes: usize) -> io::Result<usize> {
    Err(ErrorKind::Unsupported.into())
}
