//! What the system holds of a connection's answers while the client has not taken them.
//!
//! Whoever reads much wants much of it there: the kernel wakes a sender when a third of its buffer is free, and with a small
//! one both sides go to sleep for every few packets. But it is memory that a client occupies by not reading. So all
//! connections begin with little, and the first ones to be sent a large answer get room for one.

use std::io;
use std::sync::Arc;

use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{
    LARGE_SEND_BUFFER_BYTES, LARGE_SEND_BUFFERS, MIN_SENT_ANSWER_BYTES, SEND_BUFFER_BYTES, SendBufferLimit,
};

/// The buffers of all connections.
#[derive(Debug)]
pub(crate) struct SendBuffers {
    limit: SendBufferLimit,
    places: Arc<Semaphore>,
}

impl SendBuffers {
    pub(crate) fn new(limit: SendBufferLimit) -> Self {
        SendBuffers {
            limit,
            places: Arc::new(Semaphore::new(LARGE_SEND_BUFFERS)),
        }
    }

    /// Gives a new connection what it begins with.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn settle(&self, stream: &TcpStream) -> io::Result<()> {
        let bytes = match self.limit {
            SendBufferLimit::Grows => SEND_BUFFER_BYTES,
            SendBufferLimit::Fixed(bytes) => bytes,
            SendBufferLimit::System => return Ok(()),
        };
        SockRef::from(stream).set_send_buffer_size(bytes)
    }

    /// The buffer of a connection that was settled.
    pub(crate) fn of_connection(&self) -> SendBuffer {
        let places = (self.limit == SendBufferLimit::Grows).then(|| Arc::clone(&self.places));
        SendBuffer { places, _place: None }
    }
}

/// The buffer of one connection.
#[derive(Debug)]
pub(crate) struct SendBuffer {
    /// Where there may be a place; `None` once this has one, or if it stays as it is.
    places: Option<Arc<Semaphore>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl SendBuffer {
    /// Makes room for an answer of so many bytes, if it is a large one and there is a place.
    pub(crate) fn make_room(&mut self, stream: &TcpStream, answer_bytes: usize) {
        if answer_bytes < MIN_SENT_ANSWER_BYTES {
            return;
        }
        let Some(places) = self.places.take() else {
            return;
        };
        match Arc::clone(&places).try_acquire_owned() {
            Ok(place) => {
                self._place = Some(place);
                if let Err(error) = SockRef::from(stream).set_send_buffer_size(LARGE_SEND_BUFFER_BYTES) {
                    tracing::debug!(%error, "cannot enlarge a send buffer");
                }
            }
            // One may come free before the next answer.
            Err(_) => self.places = Some(places),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn connection(buffers: &SendBuffers) -> (TcpStream, SendBuffer) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        buffers.settle(&stream).unwrap();
        (stream, buffers.of_connection())
    }

    fn bytes(stream: &TcpStream) -> usize {
        SockRef::from(stream).send_buffer_size().unwrap()
    }

    #[tokio::test]
    async fn readers_of_large_answers_get_room_while_there_are_places() {
        let buffers = SendBuffers {
            limit: SendBufferLimit::Grows,
            places: Arc::new(Semaphore::new(1)),
        };
        let (stream, mut buffer) = connection(&buffers).await;
        let (other_stream, mut other) = connection(&buffers).await;
        let little = bytes(&stream);
        buffer.make_room(&stream, MIN_SENT_ANSWER_BYTES - 1);
        assert_eq!(bytes(&stream), little);
        buffer.make_room(&stream, MIN_SENT_ANSWER_BYTES);
        assert!(bytes(&stream) > little);
        other.make_room(&other_stream, MIN_SENT_ANSWER_BYTES);
        assert_eq!(bytes(&other_stream), little, "there is one place");
        drop(buffer);
        other.make_room(&other_stream, MIN_SENT_ANSWER_BYTES);
        assert_eq!(bytes(&other_stream), bytes(&stream), "it came free");
    }

    #[tokio::test]
    async fn a_size_that_was_asked_for_stays() {
        let buffers = SendBuffers::new(SendBufferLimit::Fixed(64 * 1024));
        let (stream, mut buffer) = connection(&buffers).await;
        let asked = bytes(&stream);
        buffer.make_room(&stream, MIN_SENT_ANSWER_BYTES);
        assert_eq!(bytes(&stream), asked);
        assert_eq!(buffers.places.available_permits(), LARGE_SEND_BUFFERS);
    }
}
