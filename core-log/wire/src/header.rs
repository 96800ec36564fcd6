//! Request and response headers.
//!
//! The version of a header follows from key and version, so both are read before anything else: a header with an unknown
//! key or an absurd version still decodes, and the broker decides what to do (semantics 1 and 5).

use bytestring::ByteString;

use crate::error::InField;
use crate::{ApiKey, DecodeError, Form, FrameReader, FrameWriter, Null};

/// What precedes every request. `api_key` and `api_version` are foreign numbers until checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// Number of the API; see [`RequestHeader::known_key`].
    pub api_key: i16,
    /// Version of the body.
    pub api_version: i16,
    /// Comes back in the response.
    pub correlation_id: i32,
    /// Name the client gives itself. Any text: escape it in logs.
    pub client_id: Option<ByteString>,
}

impl RequestHeader {
    /// A header for a request of `key`.
    pub fn new(
        key: ApiKey,
        api_version: i16,
        correlation_id: i32,
        client_id: Option<ByteString>,
    ) -> RequestHeader {
        RequestHeader {
            api_key: key.as_i16(),
            api_version,
            correlation_id,
            client_id,
        }
    }

    /// The API, if the codec knows it.
    pub fn known_key(&self) -> Option<ApiKey> {
        ApiKey::from_i16(self.api_key)
    }

    /// Reads a header. Unknown keys are read as header version 1; the tagged fields that may follow are not touched.
    ///
    /// # Errors
    ///
    /// The frame is shorter than its header, or the client id is not UTF-8.
    pub fn decode(r: &mut FrameReader) -> Result<RequestHeader, DecodeError> {
        let api_key = r.i16().in_field("RequestHeader.api_key")?;
        let api_version = r.i16().in_field("RequestHeader.api_version")?;
        let correlation_id = r.i32().in_field("RequestHeader.correlation_id")?;
        // The client id keeps its classic length in header version 2, so that any version can be parsed this far.
        let client_id = r
            .nullable_string(Null::Allowed, Form::Classic)
            .in_field("RequestHeader.client_id")?;
        let header = RequestHeader {
            api_key,
            api_version,
            correlation_id,
            client_id,
        };
        if header.version() == 2 {
            r.skip_tags().in_field("RequestHeader tags")?;
        }
        Ok(header)
    }

    /// Writes the header in the version that its key and version ask for.
    pub fn encode(&self, w: &mut FrameWriter) {
        w.put_i16(self.api_key);
        w.put_i16(self.api_version);
        w.put_i32(self.correlation_id);
        w.put_nullable_string(self.client_id.as_ref(), Null::Allowed, Form::Classic);
        if self.version() == 2 {
            w.put_no_tags();
        }
    }

    fn version(&self) -> i16 {
        self.known_key()
            .map_or(1, |key| key.request_header_version(self.api_version))
    }
}

/// Reads a response header of `key` and `version`; gives the correlation id.
pub(crate) fn decode_response_header(
    key: ApiKey,
    version: i16,
    r: &mut FrameReader,
) -> Result<i32, DecodeError> {
    let correlation_id = r.i32().in_field("ResponseHeader.correlation_id")?;
    if key.response_header_version(version) == 1 {
        r.skip_tags().in_field("ResponseHeader tags")?;
    }
    Ok(correlation_id)
}

/// Writes a response header of `key` and `version`.
pub(crate) fn encode_response_header(key: ApiKey, version: i16, correlation_id: i32, w: &mut FrameWriter) {
    w.put_i32(correlation_id);
    if key.response_header_version(version) == 1 {
        w.put_no_tags();
    }
}
