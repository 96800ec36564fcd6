//! Tagged sections of flexible versions (KIP-482).

use crate::FrameWriter;

/// What a decoder made of a tagged field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    /// The value was read.
    Known,
    /// Nothing was read; the value is to be skipped.
    Unknown,
}

/// A tagged section under construction; tags must be put in ascending order.
#[derive(Debug, Default)]
pub struct TagWriter {
    count: u32,
    fields: FrameWriter,
}

impl TagWriter {
    /// An empty section; takes no memory until a tag is put.
    pub fn new() -> TagWriter {
        TagWriter::default()
    }

    /// Adds one field whose value `value` writes.
    pub fn put(&mut self, tag: u32, value: impl FnOnce(&mut FrameWriter)) {
        let mut content = FrameWriter::new();
        value(&mut content);
        self.count += 1;
        self.fields.put_unsigned_varint(tag);
        self.fields.put_length_varint(content.len_bytes());
        self.fields.append(content);
    }

    pub(crate) fn into_parts(self) -> (u32, FrameWriter) {
        (self.count, self.fields)
    }
}
