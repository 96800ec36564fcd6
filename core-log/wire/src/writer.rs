//! Writes one frame; record sets and large byte fields become shared segments instead of copies.
//!
//! Writing never fails half way: a value that the wire cannot carry is replaced by the nearest legal one (a long string
//! is cut at a character, null becomes empty) and remembered, so that [`FrameWriter::try_finish`] refuses the frame.

use std::collections::VecDeque;
use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use uuid::Uuid;

use crate::reader::MAX_STRING_BYTES;
use crate::tags::TagWriter;
use crate::{EncodeError, Form, Frame, LeftOut, Message, Null, Piece};

/// Byte fields from this size on are shared instead of copied.
const SHARE_FROM_BYTES: usize = 1024;

/// Size of the frame's length field.
const LENGTH_PREFIX_BYTES: usize = 4;

/// Largest length, count or frame: 31 bits.
const MAX_LENGTH: usize = i32::MAX as usize;

/// A part of the frame that is complete.
enum Chunk {
    Written(BytesMut),
    Shared(Bytes),
    /// Only in writers made by [`FrameWriter::leaving_out`].
    LeftOut(LeftOut),
}

/// A frame under construction.
#[derive(Default)]
pub struct FrameWriter {
    chunks: Vec<Chunk>,
    chunks_bytes: usize,
    tail: BytesMut,
    has_length_prefix: bool,
    /// Record sets to leave out, the next one first.
    left_out: VecDeque<LeftOut>,
    /// Record sets written so far.
    record_sets: usize,
    error: Option<EncodeError>,
}

/// Size only: frames are large, and what they carry does not belong in logs.
impl fmt::Debug for FrameWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameWriter")
            .field("len_bytes", &self.len_bytes())
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl FrameWriter {
    /// Writes without the 4-byte length, for bodies on their own.
    pub fn new() -> FrameWriter {
        FrameWriter::default()
    }

    /// Leaves room for the 4-byte length, which finishing fills in.
    pub fn with_length_prefix() -> FrameWriter {
        let mut writer = FrameWriter {
            has_length_prefix: true,
            ..FrameWriter::default()
        };
        writer.tail.reserve(256);
        writer.tail.put_i32(0);
        writer
    }

    /// Leaves out these record sets, named in ascending order: their lengths are written, their bytes are not.
    pub(crate) fn leaving_out(mut self, left_out: &[LeftOut]) -> FrameWriter {
        self.left_out = left_out.iter().copied().collect();
        self
    }

    /// Bytes written so far, with the room for the length.
    pub fn len_bytes(&self) -> usize {
        self.chunks_bytes + self.tail.len()
    }

    /// The frame. What could not be written faithfully went out as the nearest legal value.
    pub fn finish(self) -> Frame {
        let pieces = self.into_pieces().into_iter();
        let segments = pieces.filter_map(|piece| match piece {
            Piece::Bytes(bytes) => Some(bytes),
            // A writer that leaves record sets out is finished by `into_pieces`.
            Piece::LeftOut(_) => None,
        });
        Frame::from_segments(segments.collect())
    }

    /// As [`FrameWriter::finish`], with the places of what was left out.
    pub(crate) fn into_pieces(mut self) -> Vec<Piece> {
        self.seal_tail();
        if self.has_length_prefix {
            let length = i32::try_from(self.chunks_bytes - LENGTH_PREFIX_BYTES).unwrap_or(i32::MAX);
            if let Some(Chunk::Written(first)) = self.chunks.first_mut() {
                first[..LENGTH_PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
            }
        }
        let pieces = self.chunks.into_iter().map(|chunk| match chunk {
            Chunk::Written(bytes) => Piece::Bytes(bytes.freeze()),
            Chunk::Shared(bytes) => Piece::Bytes(bytes),
            Chunk::LeftOut(left_out) => Piece::LeftOut(left_out),
        });
        pieces.collect()
    }

    /// The frame, or the first value that could not be written faithfully.
    pub fn try_finish(mut self) -> Result<Frame, EncodeError> {
        let length = self.len_bytes();
        if length > MAX_LENGTH {
            self.fail(EncodeError::TooLarge { length });
        }
        match self.error.take() {
            Some(error) => Err(error),
            None => Ok(self.finish()),
        }
    }

    fn fail(&mut self, error: EncodeError) {
        self.error.get_or_insert(error);
    }

    fn seal_tail(&mut self) {
        if !self.tail.is_empty() {
            let written = self.tail.split();
            self.chunks_bytes += written.len();
            self.chunks.push(Chunk::Written(written));
        }
    }

    fn share(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.seal_tail();
            self.chunks_bytes += bytes.len();
            self.chunks.push(Chunk::Shared(bytes));
        }
    }

    fn leave_out(&mut self, left_out: LeftOut) {
        if left_out.len_bytes > 0 {
            self.seal_tail();
            self.chunks_bytes += left_out.len_bytes;
            self.chunks.push(Chunk::LeftOut(left_out));
        }
    }

    /// Adds what another writer holds.
    pub(crate) fn append(&mut self, other: FrameWriter) {
        for chunk in other.chunks {
            match chunk {
                Chunk::Written(bytes) => self.tail.extend_from_slice(&bytes),
                Chunk::Shared(bytes) => self.share(bytes),
                Chunk::LeftOut(left_out) => self.leave_out(left_out),
            }
        }
        self.tail.extend_from_slice(&other.tail);
        if let Some(error) = other.error {
            self.fail(error);
        }
    }

    /// bool.
    pub fn put_bool(&mut self, value: bool) {
        self.tail.put_i8(i8::from(value));
    }

    /// int8.
    pub fn put_i8(&mut self, value: i8) {
        self.tail.put_i8(value);
    }

    /// int16.
    pub fn put_i16(&mut self, value: i16) {
        self.tail.put_i16(value);
    }

    /// uint16.
    pub fn put_u16(&mut self, value: u16) {
        self.tail.put_u16(value);
    }

    /// int32.
    pub fn put_i32(&mut self, value: i32) {
        self.tail.put_i32(value);
    }

    /// int64.
    pub fn put_i64(&mut self, value: i64) {
        self.tail.put_i64(value);
    }

    /// float64.
    pub fn put_f64(&mut self, value: f64) {
        self.tail.put_f64(value);
    }

    /// uuid, 16 bytes.
    pub fn put_uuid(&mut self, value: Uuid) {
        self.tail.put_slice(value.as_bytes());
    }

    /// Unsigned varint, 1 to 5 bytes.
    pub fn put_unsigned_varint(&mut self, mut value: u32) {
        while value > 0x7f {
            self.tail.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.tail.put_u8(value as u8);
    }

    /// A length as varint, for the size of a tagged field.
    pub(crate) fn put_length_varint(&mut self, length: usize) {
        let length = self.bounded(length);
        self.put_unsigned_varint(length as u32);
    }

    fn bounded(&mut self, length: usize) -> usize {
        if length > MAX_LENGTH {
            self.fail(EncodeError::TooLarge { length });
        }
        length.min(MAX_LENGTH)
    }

    /// Length of bytes, records or an array; `None` is null.
    fn put_long_length(&mut self, length: Option<usize>, form: Form) {
        let length = length.map(|length| self.bounded(length));
        match (form, length) {
            (Form::Classic, None) => self.put_i32(-1),
            (Form::Classic, Some(length)) => self.put_i32(length as i32),
            (Form::Compact, None) => self.put_unsigned_varint(0),
            (Form::Compact, Some(length)) => self.put_unsigned_varint(length as u32 + 1),
        }
    }

    /// A string that is never null.
    pub fn put_string(&mut self, value: &ByteString, form: Form) {
        let text = self.legal_string(value);
        match form {
            Form::Classic => self.put_i16(text.len() as i16),
            Form::Compact => self.put_unsigned_varint(text.len() as u32 + 1),
        }
        self.tail.put_slice(text.as_bytes());
    }

    fn legal_string<'a>(&mut self, value: &'a str) -> &'a str {
        if value.len() <= MAX_STRING_BYTES {
            return value;
        }
        self.fail(EncodeError::StringTooLong { length: value.len() });
        &value[..value.floor_char_boundary(MAX_STRING_BYTES)]
    }

    /// A string or null.
    pub fn put_nullable_string(&mut self, value: Option<&ByteString>, null: Null, form: Form) {
        match (self.legal_null(value, null), form) {
            (Ok(value), _) => self.put_string(value.unwrap_or(&ByteString::new()), form),
            (Err(WireNull), Form::Classic) => self.put_i16(-1),
            (Err(WireNull), Form::Compact) => self.put_unsigned_varint(0),
        }
    }

    /// The value to write: `Ok(None)` stands for empty in place of a null that the version does not have.
    fn legal_null<T>(&mut self, value: Option<T>, null: Null) -> Result<Option<T>, WireNull> {
        match (value, null) {
            (None, Null::Allowed) => Err(WireNull),
            (None, Null::Refused) => {
                self.fail(EncodeError::NullNotAllowed);
                Ok(None)
            }
            (value, _) => Ok(value),
        }
    }

    /// A struct or null: one byte, 1 or -1, then the struct if there is one.
    pub fn put_nullable_struct<T: Message + Default>(&mut self, value: Option<&T>, null: Null, version: i16) {
        match self.legal_null(value, null) {
            Ok(value) => {
                self.put_i8(1);
                match value {
                    Some(value) => value.encode(self, version),
                    None => T::default().encode(self, version),
                }
            }
            Err(WireNull) => self.put_i8(-1),
        }
    }

    /// Bytes that are never null; large ones are shared.
    pub fn put_bytes(&mut self, value: &Bytes, form: Form) {
        self.put_long_length(Some(value.len()), form);
        if value.len() >= SHARE_FROM_BYTES {
            self.share(value.clone());
        } else {
            self.tail.put_slice(value);
        }
    }

    /// Bytes or null; large ones are shared.
    pub fn put_nullable_bytes(&mut self, value: Option<&Bytes>, null: Null, form: Form) {
        match self.legal_null(value, null) {
            Ok(value) => self.put_bytes(value.unwrap_or(&Bytes::new()), form),
            Err(WireNull) => self.put_long_length(None, form),
        }
    }

    /// A record set that is never null; always shared, never copied.
    pub fn put_records(&mut self, value: &Bytes, form: Form) {
        let record_set = self.record_sets;
        self.record_sets += 1;
        if let Some(left_out) = self.left_out.pop_front_if(|next| next.record_set == record_set) {
            self.put_long_length(Some(left_out.len_bytes), form);
            self.leave_out(left_out);
            return;
        }
        self.put_long_length(Some(value.len()), form);
        self.share(value.clone());
    }

    /// A record set or null; always shared, never copied.
    pub fn put_nullable_records(&mut self, value: Option<&Bytes>, null: Null, form: Form) {
        match self.legal_null(value, null) {
            Ok(value) => self.put_records(value.unwrap_or(&Bytes::new()), form),
            Err(WireNull) => self.put_long_length(None, form),
        }
    }

    /// An array that is never null.
    pub fn put_array<T>(&mut self, items: &[T], form: Form, mut element: impl FnMut(&mut FrameWriter, &T)) {
        self.put_long_length(Some(items.len()), form);
        for item in items {
            element(self, item);
        }
    }

    /// An array or null.
    pub fn put_nullable_array<T>(
        &mut self,
        items: Option<&[T]>,
        null: Null,
        form: Form,
        element: impl FnMut(&mut FrameWriter, &T),
    ) {
        match self.legal_null(items, null) {
            Ok(items) => self.put_array(items.unwrap_or_default(), form, element),
            Err(WireNull) => self.put_long_length(None, form),
        }
    }

    /// The tagged section of a struct.
    pub fn put_tags(&mut self, tags: TagWriter) {
        let (count, fields) = tags.into_parts();
        self.put_unsigned_varint(count);
        self.append(fields);
    }

    /// The tagged section of a struct that has no tagged fields.
    pub fn put_no_tags(&mut self) {
        self.put_unsigned_varint(0);
    }
}

/// Null is what goes on the wire.
struct WireNull;
