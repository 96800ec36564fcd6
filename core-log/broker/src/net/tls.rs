//! The two halves of a TLS connection, each as the reading and the writing side of a connection want it.
//!
//! One half reads while the other does nothing, and the reverse: the lock is never waited for.

use std::io::{self, BufRead, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::frames::Readable;
use super::outlet::Outlet;

type Shared = Arc<Mutex<TlsStream<TcpStream>>>;

/// The reading side.
#[derive(Debug)]
pub(crate) struct TlsReadHalf(Shared);

/// The writing side. Nothing goes from a file into it but through memory, where it is encrypted.
#[derive(Debug)]
pub(crate) struct TlsWriteHalf(Shared);

pub(crate) fn split(stream: TlsStream<TcpStream>) -> (TlsReadHalf, TlsWriteHalf) {
    let shared = Arc::new(Mutex::new(stream));
    (TlsReadHalf(Arc::clone(&shared)), TlsWriteHalf(shared))
}

fn lock(shared: &Shared) -> MutexGuard<'_, TlsStream<TcpStream>> {
    // A panic in the session ends this connection; nobody else sees its state.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Readable for TlsReadHalf {
    async fn readable(&self) -> io::Result<()> {
        std::future::poll_fn(|context| {
            let mut stream = lock(&self.0);
            let (socket, session) = stream.get_mut();
            // Decrypted bytes that lie here, or the end of the stream, are found by a read at once.
            let is_empty = match session.reader().fill_buf() {
                Ok(_) => false,
                Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            };
            if is_empty {
                ready!(socket.poll_read_ready(context))?;
            }
            Poll::Ready(Ok(()))
        })
        .await
    }
}

impl AsyncRead for TlsReadHalf {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_read(context, buffer)
    }
}

impl AsyncWrite for TlsWriteHalf {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *lock(&self.0)).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *lock(&self.0)).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.0)).poll_shutdown(context)
    }
}

impl Outlet for TlsWriteHalf {
    fn stream(&self) -> Option<&TcpStream> {
        None
    }
}
