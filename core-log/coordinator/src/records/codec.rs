//! Reading and writing the primitive fields of group records.
//!
//! Kept apart from the wire codec because these are bytes on disk: their layout may never follow a change of
//! the protocol. Refuses to panic on any input and to reserve by a length it has only been told.

use bytes::{BufMut, Bytes, BytesMut};
use bytestring::ByteString;
use highwater_types::Uuid;

use super::{EncodeError, ReplayError};

/// How lengths are written: Kafka's classic fixed widths, or the flexible versions' varints and tagged fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    Fixed,
    Flexible,
}

/// The first flexible version of both values.
const FIRST_FLEXIBLE_VERSION: i16 = 4;

pub(crate) struct Writer {
    bytes: BytesMut,
    layout: Layout,
}

impl Writer {
    pub(crate) fn new(layout: Layout) -> Self {
        Self {
            bytes: BytesMut::with_capacity(64),
            layout,
        }
    }

    pub(crate) fn i8(&mut self, value: i8) {
        self.bytes.put_i8(value);
    }

    pub(crate) fn i16(&mut self, value: i16) {
        self.bytes.put_i16(value);
    }

    pub(crate) fn uuid(&mut self, value: Uuid) {
        self.bytes.put_slice(value.as_bytes());
    }

    pub(crate) fn i32(&mut self, value: i32) {
        self.bytes.put_i32(value);
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.bytes.put_i64(value);
    }

    pub(crate) fn string(&mut self, field: &'static str, value: &ByteString) -> Result<(), EncodeError> {
        // The flexible layout could carry more, but readers of every version refuse longer strings.
        let length = i16::try_from(value.len()).map_err(|_| too_long(field, value.len()))?;
        match self.layout {
            Layout::Fixed => self.bytes.put_i16(length),
            Layout::Flexible => self.unsigned_varint(length.unsigned_abs() as u32 + 1),
        }
        self.bytes.put_slice(value.as_bytes());
        Ok(())
    }

    pub(crate) fn nullable_string(
        &mut self,
        field: &'static str,
        value: Option<&ByteString>,
    ) -> Result<(), EncodeError> {
        match (value, self.layout) {
            (Some(value), _) => self.string(field, value)?,
            (None, Layout::Fixed) => self.bytes.put_i16(-1),
            (None, Layout::Flexible) => self.unsigned_varint(0),
        }
        Ok(())
    }

    pub(crate) fn bytes(&mut self, field: &'static str, value: &Bytes) -> Result<(), EncodeError> {
        self.length(field, value.len())?;
        self.bytes.put_slice(value);
        Ok(())
    }

    pub(crate) fn array_length(&mut self, field: &'static str, count: usize) -> Result<(), EncodeError> {
        self.length(field, count)
    }

    /// Bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &Bytes) {
        self.bytes.put_slice(bytes);
    }

    /// Ends a struct: the flexible layout has a (here empty) list of tagged fields there.
    pub(crate) fn end_struct(&mut self) {
        match self.layout {
            Layout::Fixed => {}
            Layout::Flexible => self.unsigned_varint(0),
        }
    }

    /// Ends a struct of the flexible layout with at most one tagged field: its number and its bytes.
    pub(crate) fn end_struct_with(&mut self, tagged: Option<(u32, Bytes)>) -> Result<(), EncodeError> {
        let Some((tag, bytes)) = tagged else {
            self.end_struct();
            return Ok(());
        };
        let size = u32::try_from(bytes.len()).map_err(|_| too_long("tagged field", bytes.len()))?;
        self.unsigned_varint(1);
        self.unsigned_varint(tag);
        self.unsigned_varint(size);
        self.bytes.put_slice(&bytes);
        Ok(())
    }

    pub(crate) fn finish(self) -> Bytes {
        self.bytes.freeze()
    }

    fn length(&mut self, field: &'static str, length: usize) -> Result<(), EncodeError> {
        let signed = i32::try_from(length).map_err(|_| too_long(field, length))?;
        match self.layout {
            Layout::Fixed => self.bytes.put_i32(signed),
            Layout::Flexible => self.unsigned_varint(signed.unsigned_abs() + 1),
        }
        Ok(())
    }

    fn unsigned_varint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.put_u8((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.put_u8(value as u8);
    }
}

fn too_long(field: &'static str, length_bytes: usize) -> EncodeError {
    EncodeError { field, length_bytes }
}

/// Reads fields off the front of a record; strings and bytes share the record's memory.
pub(crate) struct Reader {
    bytes: Bytes,
    position: usize,
    layout: Layout,
}

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self {
            bytes,
            position: 0,
            layout: Layout::Fixed,
        }
    }

    /// Reads the version of a value and switches to its layout.
    pub(crate) fn version(&mut self, kind: &'static str) -> Result<i16, ReplayError> {
        let version = self.i16("value version")?;
        if !(0..=FIRST_FLEXIBLE_VERSION).contains(&version) {
            return Err(ReplayError::UnknownValueVersion { kind, version });
        }
        if version == FIRST_FLEXIBLE_VERSION {
            self.layout = Layout::Flexible;
        }
        Ok(version)
    }

    /// Reads the version of a value whose version 0, the only one, is flexible.
    pub(crate) fn flexible_version(&mut self, kind: &'static str) -> Result<(), ReplayError> {
        let version = self.i16("value version")?;
        if version != 0 {
            return Err(ReplayError::UnknownValueVersion { kind, version });
        }
        self.layout = Layout::Flexible;
        Ok(())
    }

    pub(crate) fn i8(&mut self, field: &'static str) -> Result<i8, ReplayError> {
        self.array(field).map(i8::from_be_bytes)
    }

    pub(crate) fn uuid(&mut self, field: &'static str) -> Result<Uuid, ReplayError> {
        self.array(field).map(Uuid::from_bytes)
    }

    pub(crate) fn i16(&mut self, field: &'static str) -> Result<i16, ReplayError> {
        self.array(field).map(i16::from_be_bytes)
    }

    pub(crate) fn i32(&mut self, field: &'static str) -> Result<i32, ReplayError> {
        self.array(field).map(i32::from_be_bytes)
    }

    pub(crate) fn i64(&mut self, field: &'static str) -> Result<i64, ReplayError> {
        self.array(field).map(i64::from_be_bytes)
    }

    pub(crate) fn string(&mut self, field: &'static str) -> Result<ByteString, ReplayError> {
        let position = self.position;
        self.nullable_string(field)?
            .ok_or(ReplayError::UnexpectedNull { field, position })
    }

    pub(crate) fn nullable_string(&mut self, field: &'static str) -> Result<Option<ByteString>, ReplayError> {
        let length = match self.layout {
            Layout::Fixed => i64::from(self.i16(field)?),
            Layout::Flexible => i64::from(self.unsigned_varint(field)?) - 1,
        };
        let position = self.position;
        match self.slice(field, length)? {
            None => Ok(None),
            Some(bytes) => match ByteString::try_from(bytes) {
                Ok(string) => Ok(Some(string)),
                Err(_) => Err(ReplayError::NotUtf8 { field, position }),
            },
        }
    }

    pub(crate) fn bytes(&mut self, field: &'static str) -> Result<Bytes, ReplayError> {
        let position = self.position;
        let length = self.length(field)?;
        self.slice(field, length)?
            .ok_or(ReplayError::UnexpectedNull { field, position })
    }

    /// Number of elements that follow. At least one byte per element must be left.
    pub(crate) fn array_length(&mut self, field: &'static str) -> Result<usize, ReplayError> {
        let position = self.position;
        let length = self.length(field)?;
        match usize::try_from(length) {
            Ok(count) if count <= self.remaining() => Ok(count),
            Ok(_) => Err(ReplayError::Truncated { field, position }),
            Err(_) => Err(ReplayError::UnexpectedNull { field, position }),
        }
    }

    /// Skips the tagged fields that end a struct of the flexible layout.
    pub(crate) fn end_struct(&mut self) -> Result<(), ReplayError> {
        self.end_struct_with(|_, _| Ok(()))
    }

    /// Shows each tagged field that ends a struct of the flexible layout to `known`: its number and a reader of
    /// its bytes. What `known` does not read is skipped.
    pub(crate) fn end_struct_with(
        &mut self,
        mut known: impl FnMut(u32, &mut Reader) -> Result<(), ReplayError>,
    ) -> Result<(), ReplayError> {
        const FIELD: &str = "tagged fields";
        if self.layout == Layout::Fixed {
            return Ok(());
        }
        let count = self.unsigned_varint(FIELD)?;
        for _ in 0..count {
            let tag = self.unsigned_varint(FIELD)?;
            let size_bytes = i64::from(self.unsigned_varint(FIELD)?);
            let position = self.position;
            let bytes = self.slice(FIELD, size_bytes)?.unwrap_or_default();
            let mut inner = Reader {
                bytes,
                position: 0,
                layout: Layout::Flexible,
            };
            known(tag, &mut inner).map_err(|_| ReplayError::Truncated {
                field: FIELD,
                position,
            })?;
        }
        Ok(())
    }

    /// What was not read.
    pub(crate) fn into_rest(self) -> Bytes {
        self.bytes.slice(self.position..)
    }

    fn remaining(&self) -> usize {
        self.bytes.len() - self.position
    }

    fn length(&mut self, field: &'static str) -> Result<i64, ReplayError> {
        match self.layout {
            Layout::Fixed => Ok(i64::from(self.i32(field)?)),
            Layout::Flexible => Ok(i64::from(self.unsigned_varint(field)?) - 1),
        }
    }

    /// The next `length` bytes; -1 is null, anything lower or beyond the end an error.
    fn slice(&mut self, field: &'static str, length: i64) -> Result<Option<Bytes>, ReplayError> {
        if length == -1 {
            return Ok(None);
        }
        let start = self.position;
        match usize::try_from(length) {
            Ok(length) if length <= self.remaining() => {
                self.position = start + length;
                Ok(Some(self.bytes.slice(start..start + length)))
            }
            _ => Err(ReplayError::Truncated {
                field,
                position: start,
            }),
        }
    }

    fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], ReplayError> {
        let position = self.position;
        let Some(found) = self
            .bytes
            .get(position..)
            .and_then(|rest| rest.first_chunk::<N>())
        else {
            return Err(ReplayError::Truncated { field, position });
        };
        let found = *found;
        self.position = position + N;
        Ok(found)
    }

    fn unsigned_varint(&mut self, field: &'static str) -> Result<u32, ReplayError> {
        let start = self.position;
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array::<1>(field)?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| ReplayError::Truncated {
                    field,
                    position: start,
                });
            }
        }
        Err(ReplayError::Truncated {
            field,
            position: start,
        })
    }
}
