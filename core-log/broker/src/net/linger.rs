//! Ends a connection so that the peer gets what was sent to it last.
//!
//! A socket that is closed while bytes of the peer lie in it unread resets the connection, and a reset takes from the
//! peer what it has not read yet: the answer that says why. So the node ends its side, and reads on without looking
//! until the peer has ended its own. Refuses: to do so for long, or for much.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::limits::{IDLE_READ_BYTES, LINGER_TIMEOUT, MAX_LINGER_BYTES};

/// Reads and forgets what the peer still sends, until it ends its side or is given up; the node's side has ended.
pub(crate) async fn linger<R: AsyncRead + Unpin>(read: &mut R) {
    // Who goes on is cut off; there is nobody to tell.
    let _ = timeout(LINGER_TIMEOUT, discard(read)).await;
}

/// Ends the node's side of a stream and lingers.
pub(crate) async fn let_go(mut stream: TcpStream) {
    if stream.shutdown().await.is_ok() {
        linger(&mut stream).await;
    }
}

/// Reads and forgets until the end of the stream, or until so much has come that it is not waited for any more.
pub(crate) async fn discard<R: AsyncRead + Unpin>(read: &mut R) {
    let mut buffer = vec![0; IDLE_READ_BYTES];
    let mut left = MAX_LINGER_BYTES;
    while left > 0 {
        match read.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(bytes) => left = left.saturating_sub(bytes),
        }
    }
}
