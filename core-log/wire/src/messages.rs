//! Every message of the schema table: one module each, the top-level structs re-exported here.
//!
//! Struct and field names are those of Kafka's schema, fields in snake case. Nullable fields are `Option`; numbers that
//! mean "none" in Kafka (-1) stay numbers here, because this crate speaks the wire and nothing else.

#![allow(
    clippy::large_enum_variant,
    clippy::field_reassign_with_default,
    clippy::disallowed_macros,
    unused_variables,
    unused_mut,
    reason = "generated code treats every struct alike, and cargo says where it lies"
)]

/// What the generated modules use.
mod prelude {
    pub(super) use bytes::Bytes;
    pub(super) use bytestring::ByteString;
    pub(super) use uuid::Uuid;

    pub(super) use super::RecordsSummary;
    pub(super) use crate::error::InField;
    #[cfg(test)]
    pub(super) use crate::sample::{Sample, Sampler};
    pub(super) use crate::{DecodeError, Form, FrameReader, FrameWriter, Message, Null, Tag, TagWriter};
}

use std::ops::RangeInclusive;

use crate::{DecodeError, FrameReader, FrameWriter, Message, Request, UnexpectedBody};

/// A record set in `Debug` output: its size, not its bytes.
struct RecordsSummary<'a>(&'a Option<bytes::Bytes>);

impl std::fmt::Debug for RecordsSummary<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(records) => write!(f, "{} bytes", records.len()),
            None => f.write_str("None"),
        }
    }
}

include!(concat!(env!("OUT_DIR"), "/messages.rs"));
