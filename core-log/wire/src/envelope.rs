//! Header and body together: whole frames with their 4-byte length.

use bytes::Bytes;

use crate::header::{decode_response_header, encode_response_header};
use crate::{
    ApiKey, DecodeError, EncodeError, Frame, FrameReader, FrameWriter, RequestBody, RequestHeader,
    ResponseBody,
};

/// A request frame, length included. The key of the frame is the body's, whatever the header says.
///
/// What the version cannot carry goes out as the nearest legal value: a string is cut at 32767 bytes, null where there
/// is none becomes empty. [`try_encode_request`] refuses instead.
pub fn encode_request(header: &RequestHeader, body: &RequestBody) -> Frame {
    write_request(header, body).finish()
}

/// A request frame, length included.
///
/// # Errors
///
/// The codec does not cover the version, or a value cannot be written faithfully.
pub fn try_encode_request(header: &RequestHeader, body: &RequestBody) -> Result<Frame, EncodeError> {
    check_version(body.api_key(), header.api_version)?;
    write_request(header, body).try_finish()
}

/// A response frame, length included; `key` and `version` are those of the request it answers.
///
/// What the version cannot carry goes out as the nearest legal value, as in [`encode_request`].
pub fn encode_response(key: ApiKey, version: i16, correlation_id: i32, body: &ResponseBody) -> Frame {
    write_response(key, version, correlation_id, body).finish()
}

/// A response frame, length included.
///
/// # Errors
///
/// The codec does not cover the version, or a value cannot be written faithfully.
pub fn try_encode_response(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    body: &ResponseBody,
) -> Result<Frame, EncodeError> {
    check_version(key, version)?;
    write_response(key, version, correlation_id, body).try_finish()
}

/// Reads a response to a request of `key` and `version`; gives its correlation id and body.
///
/// Bytes after the body are ignored, as Kafka's clients do.
///
/// # Errors
///
/// The bytes are not such a response, or the codec does not cover the version.
pub fn decode_response(
    key: ApiKey,
    version: i16,
    frame_without_length: Bytes,
) -> Result<(i32, ResponseBody), DecodeError> {
    let mut reader = FrameReader::new(frame_without_length);
    let correlation_id = decode_response_header(key, version, &mut reader)?;
    let body = ResponseBody::decode(key, version, &mut reader)?;
    Ok((correlation_id, body))
}

fn write_request(header: &RequestHeader, body: &RequestBody) -> FrameWriter {
    let mut writer = FrameWriter::with_length_prefix();
    let header = RequestHeader {
        api_key: body.api_key().as_i16(),
        ..header.clone()
    };
    header.encode(&mut writer);
    body.encode(&mut writer, header.api_version);
    writer
}

fn write_response(key: ApiKey, version: i16, correlation_id: i32, body: &ResponseBody) -> FrameWriter {
    let mut writer = FrameWriter::with_length_prefix();
    encode_response_header(key, version, correlation_id, &mut writer);
    body.encode(&mut writer, version);
    writer
}

fn check_version(key: ApiKey, version: i16) -> Result<(), EncodeError> {
    let covered = key.codec_versions();
    if covered.contains(&version) {
        return Ok(());
    }
    let (first, last) = covered.into_inner();
    Err(EncodeError::UnsupportedVersion {
        key,
        version,
        first,
        last,
    })
}
