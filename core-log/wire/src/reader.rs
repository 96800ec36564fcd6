//! Reads one frame without copying and without trusting it.
//!
//! Strings, bytes and records are slices of the frame's own buffer. Refuses every length that reaches past the end,
//! every count whose elements could not fit, and arrays that together would take far more memory than the frame.
//!
//! # Invariants
//!
//! * `position <= end <= frame.len()`; a read moves `position` forward or fails.
//! * Memory for an array is reserved only after its count passed both the byte check and the heap budget.

use std::fmt;
use std::mem::size_of;
use std::ops::RangeInclusive;

use bytes::Bytes;
use bytestring::ByteString;
use uuid::Uuid;

use crate::tags::Tag;
use crate::{DecodeError, DecodeErrorKind, Form, Null};

/// Longest string on the wire, in bytes; Kafka keeps this limit in flexible versions too.
pub(crate) const MAX_STRING_BYTES: usize = i16::MAX as usize;

/// Memory for array elements that any frame may use, in bytes.
const BASE_HEAP_BUDGET_BYTES: usize = 1 << 20;

/// Memory for array elements per byte of frame. Elements of real messages take 3 to 16 times their wire size.
const HEAP_BUDGET_PER_FRAME_BYTE: usize = 16;

/// Cursor over the bytes of one frame (without its 4-byte length).
pub struct FrameReader {
    frame: Bytes,
    position: usize,
    /// End of what may be read now: of the frame, or of the tagged field being read.
    end: usize,
    heap_left_bytes: usize,
}

/// Position and size only: frames are large, and what they carry does not belong in logs.
impl fmt::Debug for FrameReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameReader")
            .field("position", &self.position)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl FrameReader {
    /// Reads `frame` with a heap budget of 1 MiB plus 16 bytes per byte of frame.
    pub fn new(frame: Bytes) -> FrameReader {
        let budget_bytes = frame
            .len()
            .saturating_mul(HEAP_BUDGET_PER_FRAME_BYTE)
            .saturating_add(BASE_HEAP_BUDGET_BYTES);
        FrameReader::with_heap_budget(frame, budget_bytes)
    }

    /// Reads `frame`; all arrays together may take `budget_bytes` of memory.
    pub fn with_heap_budget(frame: Bytes, budget_bytes: usize) -> FrameReader {
        let end = frame.len();
        FrameReader {
            frame,
            position: 0,
            end,
            heap_left_bytes: budget_bytes,
        }
    }

    /// How far the frame has been read, in bytes.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.end - self.position
    }

    /// Says that the message is complete: [`DecodeErrorKind::TrailingBytes`] if bytes are left.
    pub fn finish(&self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(self.error(DecodeErrorKind::TrailingBytes { left })),
        }
    }

    /// Refuses a version of `message` that the codec does not cover.
    pub(crate) fn check_version(
        &self,
        message: &'static str,
        version: i16,
        covered: RangeInclusive<i16>,
    ) -> Result<(), DecodeError> {
        if covered.contains(&version) {
            return Ok(());
        }
        let (first, last) = covered.into_inner();
        Err(self.error(DecodeErrorKind::UnsupportedVersion {
            message,
            version,
            first,
            last,
        }))
    }

    fn error(&self, kind: DecodeErrorKind) -> DecodeError {
        DecodeError {
            kind,
            field: None,
            position: self.position,
        }
    }

    fn error_at(&self, position: usize, kind: DecodeErrorKind) -> DecodeError {
        DecodeError {
            kind,
            field: None,
            position,
        }
    }

    fn require(&self, needed: usize) -> Result<(), DecodeError> {
        let left = self.remaining();
        if needed <= left {
            Ok(())
        } else {
            Err(self.error(DecodeErrorKind::Truncated { needed, left }))
        }
    }

    fn array_of<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.require(N)?;
        let mut out = [0; N];
        out.copy_from_slice(&self.frame[self.position..self.position + N]);
        self.position += N;
        Ok(out)
    }

    /// The next `length` bytes, sharing the frame's buffer.
    pub fn take(&mut self, length: usize) -> Result<Bytes, DecodeError> {
        self.require(length)?;
        let taken = self.frame.slice(self.position..self.position + length);
        self.position += length;
        Ok(taken)
    }

    /// Any byte but zero is true, as in Kafka.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.i8()? != 0)
    }

    /// int8.
    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        self.array_of().map(i8::from_be_bytes)
    }

    /// int16.
    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        self.array_of().map(i16::from_be_bytes)
    }

    /// uint16.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array_of().map(u16::from_be_bytes)
    }

    /// int32.
    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        self.array_of().map(i32::from_be_bytes)
    }

    /// int64.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array_of().map(i64::from_be_bytes)
    }

    /// float64.
    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        self.array_of().map(f64::from_be_bytes)
    }

    /// uuid, 16 bytes.
    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        self.array_of().map(Uuid::from_bytes)
    }

    /// Unsigned varint of at most 32 bits in at most 5 bytes.
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let start = self.position;
        let mut value = 0u32;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.array_of::<1>()?[0];
            if shift == 28 && byte > 0x0f {
                return Err(self.error_at(start, DecodeErrorKind::VarintOverflow));
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.error_at(start, DecodeErrorKind::VarintOverflow))
    }

    /// A classic length: -1 is null, less is an error.
    fn classic_length(&mut self, length: i64, start: usize) -> Result<Option<usize>, DecodeError> {
        match usize::try_from(length) {
            Ok(length) => Ok(Some(length)),
            Err(_) if length == -1 => Ok(None),
            Err(_) => Err(self.error_at(start, DecodeErrorKind::NegativeLength { length })),
        }
    }

    /// A length plus one as varint: 0 is null.
    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok(self
            .unsigned_varint()?
            .checked_sub(1)
            .map(|length| length as usize))
    }

    /// Length of bytes, records or an array.
    fn long_length(&mut self, form: Form) -> Result<Option<usize>, DecodeError> {
        let start = self.position;
        match form {
            Form::Compact => self.compact_length(),
            Form::Classic => {
                let length = self.i32()?;
                self.classic_length(i64::from(length), start)
            }
        }
    }

    fn refuse_null<T>(&self, start: usize, null: Null, value: Option<T>) -> Result<Option<T>, DecodeError> {
        match (value, null) {
            (None, Null::Refused) => Err(self.error_at(start, DecodeErrorKind::NullNotAllowed)),
            (value, _) => Ok(value),
        }
    }

    fn never_null<T>(&self, start: usize, value: Option<T>) -> Result<T, DecodeError> {
        value.ok_or_else(|| self.error_at(start, DecodeErrorKind::NullNotAllowed))
    }

    /// A string that is never null.
    pub fn string(&mut self, form: Form) -> Result<ByteString, DecodeError> {
        let start = self.position;
        let value = self.nullable_string(Null::Allowed, form)?;
        self.never_null(start, value)
    }

    /// A string or null.
    pub fn nullable_string(&mut self, null: Null, form: Form) -> Result<Option<ByteString>, DecodeError> {
        let start = self.position;
        let length = match form {
            Form::Compact => self.compact_length()?,
            Form::Classic => {
                let length = self.i16()?;
                self.classic_length(i64::from(length), start)?
            }
        };
        let Some(length) = self.refuse_null(start, null, length)? else {
            return Ok(None);
        };
        if length > MAX_STRING_BYTES {
            return Err(self.error_at(start, DecodeErrorKind::StringTooLong { length }));
        }
        let bytes = self.take(length)?;
        match ByteString::try_from(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => Err(self.error_at(start, DecodeErrorKind::InvalidUtf8)),
        }
    }

    /// Bytes that are never null, sharing the frame's buffer.
    pub fn bytes(&mut self, form: Form) -> Result<Bytes, DecodeError> {
        let start = self.position;
        let value = self.nullable_bytes(Null::Allowed, form)?;
        self.never_null(start, value)
    }

    /// Bytes or null, sharing the frame's buffer.
    pub fn nullable_bytes(&mut self, null: Null, form: Form) -> Result<Option<Bytes>, DecodeError> {
        let start = self.position;
        let length = self.long_length(form)?;
        match self.refuse_null(start, null, length)? {
            Some(length) => self.take(length).map(Some),
            None => Ok(None),
        }
    }

    /// A struct or null: one byte says which, negative for null, in classic and flexible versions alike.
    pub fn nullable_struct<T>(
        &mut self,
        null: Null,
        mut decode: impl FnMut(&mut FrameReader) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        let start = self.position;
        let present = (self.i8()? >= 0).then_some(());
        match self.refuse_null(start, null, present)? {
            Some(()) => decode(self).map(Some),
            None => Ok(None),
        }
    }

    /// A record set that is never null, sharing the frame's buffer; nothing inside is looked at.
    pub fn records(&mut self, form: Form) -> Result<Bytes, DecodeError> {
        self.bytes(form)
    }

    /// A record set or null, sharing the frame's buffer; nothing inside is looked at.
    pub fn nullable_records(&mut self, null: Null, form: Form) -> Result<Option<Bytes>, DecodeError> {
        self.nullable_bytes(null, form)
    }

    /// An array that is never null. `least_bytes` is the fewest bytes an element can take.
    pub fn array<T>(
        &mut self,
        least_bytes: usize,
        form: Form,
        element: impl FnMut(&mut FrameReader) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let start = self.position;
        let value = self.nullable_array(least_bytes, Null::Allowed, form, element)?;
        self.never_null(start, value)
    }

    /// An array or null. `least_bytes` is the fewest bytes an element can take.
    pub fn nullable_array<T>(
        &mut self,
        least_bytes: usize,
        null: Null,
        form: Form,
        mut element: impl FnMut(&mut FrameReader) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let start = self.position;
        let count = self.long_length(form)?;
        let Some(count) = self.refuse_null(start, null, count)? else {
            return Ok(None);
        };
        let left = self.remaining();
        if count > left / least_bytes.max(1) {
            return Err(self.error_at(start, DecodeErrorKind::CountTooLarge { count, left }));
        }
        self.charge_heap(start, count.saturating_mul(size_of::<T>()))?;
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(element(self)?);
        }
        Ok(Some(items))
    }

    fn charge_heap(&mut self, start: usize, wanted: usize) -> Result<(), DecodeError> {
        let left = self.heap_left_bytes;
        match left.checked_sub(wanted) {
            Some(rest) => {
                self.heap_left_bytes = rest;
                Ok(())
            }
            None => Err(self.error_at(start, DecodeErrorKind::HeapBudgetExceeded { wanted, left })),
        }
    }

    /// A tagged section (KIP-482). `field` reads the value of a tag it knows, confined to that tag's bytes, or says
    /// [`Tag::Unknown`] without reading; unknown values are skipped. A repeated tag overwrites, as in Kafka.
    pub fn tags(
        &mut self,
        mut field: impl FnMut(&mut FrameReader, u32) -> Result<Tag, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.unsigned_varint()?;
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()? as usize;
            self.require(size)?;
            let outer_end = self.end;
            let value_end = self.position + size;
            self.end = value_end;
            let outcome = field(self, tag);
            let left = self.remaining();
            self.end = outer_end;
            match outcome? {
                Tag::Unknown => self.position = value_end,
                Tag::Known if left == 0 => {}
                Tag::Known => return Err(self.error(DecodeErrorKind::TagTooLong { tag, left })),
            }
        }
        Ok(())
    }

    /// A tagged section in which no tag is known.
    pub fn skip_tags(&mut self) -> Result<(), DecodeError> {
        self.tags(|_, _| Ok(Tag::Unknown))
    }
}
