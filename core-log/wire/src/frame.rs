//! A finished message as the pieces that a vectored write takes, and those that come from elsewhere.

use std::fmt;

use bytes::{Bytes, BytesMut};

/// Bytes of one request or response. Record sets are segments of their own that share the buffer they came in.
#[derive(Clone, Default)]
pub struct Frame {
    segments: Vec<Bytes>,
    len_bytes: usize,
}

/// Sizes only: frames are large, and what they carry does not belong in logs.
impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("len_bytes", &self.len_bytes)
            .field("segments", &self.segments.len())
            .finish()
    }
}

impl Frame {
    pub(crate) fn from_segments(segments: Vec<Bytes>) -> Frame {
        let len_bytes = segments.iter().map(Bytes::len).sum();
        Frame { segments, len_bytes }
    }

    /// Size of all segments together, in bytes.
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// The pieces in order; none is empty.
    pub fn segments(&self) -> &[Bytes] {
        &self.segments
    }

    /// The pieces in order, given away.
    pub fn into_segments(self) -> Vec<Bytes> {
        self.segments
    }

    /// All pieces as one buffer; copies unless there is only one.
    pub fn into_bytes(mut self) -> Bytes {
        if self.segments.len() <= 1 {
            return self.segments.pop().unwrap_or_default();
        }
        let mut joined = BytesMut::with_capacity(self.len_bytes);
        for segment in &self.segments {
            joined.extend_from_slice(segment);
        }
        joined.freeze()
    }
}

/// A record set of a response whose bytes are not in the message: whoever sends the frame has them somewhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut {
    /// Which one: record sets are counted from 0 in the order of the message, null ones left out of account.
    pub record_set: usize,
    /// How many bytes it has.
    pub len_bytes: usize,
}

/// A part of a frame some of whose record sets are elsewhere.
#[derive(Clone, PartialEq, Eq)]
pub enum Piece {
    /// Bytes at hand; never empty.
    Bytes(Bytes),
    /// The place of a record set that was left out.
    LeftOut(LeftOut),
}

/// Sizes only, as for [`Frame`].
impl fmt::Debug for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Piece::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Piece::LeftOut(left_out) => left_out.fmt(f),
        }
    }
}
