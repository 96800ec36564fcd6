//! Kafka requests and responses: one schema table, a bounded zero-copy codec.
//!
//! The table in `schema/` says which fields a message has in which version; `build.rs` turns it into one struct and one
//! straight-line codec per message. This crate never opens a socket and never looks inside record batches: record sets
//! go through as [`bytes::Bytes`], uncopied in both directions.
//!
//! # Invariants
//!
//! * Decoding foreign bytes never panics. A length or count is checked against the bytes left before memory is
//!   reserved, and all arrays of a message together stay within a heap budget proportional to the frame.
//! * Depth of nesting is fixed by the schema; unknown tagged fields are skipped, never stored (KIP-482).
//! * A field that does not exist in a version is not written, and reads as Kafka's default.
//! * Every message in every version gives the same bytes as an independent implementation (tested).
//!
//! # Reading order
//!
//! [`messages`] (generated structs, [`ApiKey`], [`RequestBody`], [`ResponseBody`]), [`Message`], [`FrameReader`],
//! [`FrameWriter`] and [`Frame`], [`RequestHeader`], [`encode_request`], [`encode_response`], [`decode_response`],
//! [`encode_response_around`] for record sets that never pass through memory, [`ErrorCode`].
//!
//! # Example
//!
//! ```
//! use highwater_wire::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};
//! use highwater_wire::{FrameReader, Request, RequestBody, RequestHeader, encode_request};
//!
//! let topic = MetadataRequestTopic { name: Some("prices".into()), ..Default::default() };
//! let body = RequestBody::from(MetadataRequest { topics: Some(vec![topic]), ..Default::default() });
//! let header = RequestHeader::new(MetadataRequest::KEY, 12, 7, Some("docs".into()));
//! let frame = encode_request(&header, &body).into_bytes();
//!
//! let mut reader = FrameReader::new(frame.slice(4..));
//! let header = RequestHeader::decode(&mut reader)?;
//! let decoded = RequestBody::decode(header.known_key().unwrap(), header.api_version, &mut reader)?;
//! reader.finish()?;
//! assert_eq!(decoded, body);
//! # Ok::<(), highwater_wire::DecodeError>(())
//! ```

mod api_key;
mod envelope;
mod error;
mod error_code;
mod form;
mod frame;
mod header;
mod message;
mod reader;
mod tags;
mod writer;

pub mod messages;

pub use api_key::ApiKey;
pub use envelope::{
    decode_response, encode_request, encode_response, encode_response_around, try_encode_request,
    try_encode_response,
};
pub use error::{DecodeError, DecodeErrorKind, EncodeError, UnexpectedBody};
pub use error_code::ErrorCode;
pub use form::{Form, Null};
pub use frame::{Frame, LeftOut, Piece};
pub use header::RequestHeader;
pub use message::{Message, Request};
pub use messages::{RequestBody, ResponseBody};
pub use reader::FrameReader;
pub use tags::{Tag, TagWriter};
pub use writer::FrameWriter;

#[cfg(test)]
mod differential;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod schema_table;
