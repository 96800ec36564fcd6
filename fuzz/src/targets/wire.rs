//! Frames and the payloads inside them.

use bytes::Bytes;
use highwater_wire::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use highwater_wire::{
    ApiKey, FrameReader, FrameWriter, Message, RequestBody, RequestHeader, ResponseBody, decode_response,
    encode_response,
};

use super::Pieces;

/// A request frame as the broker reads it. What decodes is written and read again: both texts must agree, or a proxy
/// or a log of requests would change their meaning.
pub(super) fn request(input: &[u8]) {
    let mut reader = FrameReader::new(Bytes::copy_from_slice(input));
    let Ok(header) = RequestHeader::decode(&mut reader) else {
        return;
    };
    let Some(key) = header.known_key() else { return };
    if !key.codec_versions().contains(&header.api_version) {
        return;
    }
    let version = header.api_version;
    let Ok(body) = RequestBody::decode(key, version, &mut reader) else {
        return;
    };
    let written = write_request(&body, version);
    let mut reader = FrameReader::new(written.clone());
    let again = RequestBody::decode(key, version, &mut reader).expect("what we wrote decodes");
    reader.finish().expect("what we wrote has nothing behind it");
    assert_eq!(write_request(&again, version), written, "{key:?} v{version}");
}

fn write_request(body: &RequestBody, version: i16) -> Bytes {
    let mut writer = FrameWriter::new();
    body.encode(&mut writer, version);
    writer.finish().into_bytes()
}

/// A response frame as our client reads it; the first two bytes choose key and version.
pub(super) fn response(input: &[u8]) {
    let mut pieces = Pieces::new(input);
    let key = ApiKey::ALL[usize::from(pieces.byte()) % ApiKey::ALL.len()];
    let versions = key.codec_versions();
    let count = i16::from(pieces.byte()) % (versions.end() - versions.start() + 1);
    let version = versions.start() + count;
    let Ok((correlation_id, body)) = decode_response(key, version, Bytes::copy_from_slice(pieces.rest()))
    else {
        return;
    };
    let written = write_response(key, version, correlation_id, &body);
    let (same_id, again) = decode_response(key, version, written.slice(4..)).expect("what we wrote decodes");
    assert_eq!(same_id, correlation_id);
    assert_eq!(
        write_response(key, version, correlation_id, &again),
        written,
        "{key:?} v{version}"
    );
}

fn write_response(key: ApiKey, version: i16, correlation_id: i32, body: &ResponseBody) -> Bytes {
    encode_response(key, version, correlation_id, body).into_bytes()
}

/// Subscription or assignment, in any version.
pub(super) fn consumer_protocol(input: &[u8]) {
    let mut pieces = Pieces::new(input);
    let is_subscription = pieces.byte().is_multiple_of(2);
    let version = i16::from(pieces.byte() % 4);
    let body = Bytes::copy_from_slice(pieces.rest());
    if is_subscription {
        same_again::<ConsumerProtocolSubscription>(body, version);
    } else {
        same_again::<ConsumerProtocolAssignment>(body, version);
    }
}

fn same_again<M: Message + PartialEq + std::fmt::Debug>(body: Bytes, version: i16) {
    let Ok(value) = M::decode(&mut FrameReader::new(body), version) else {
        return;
    };
    let mut writer = FrameWriter::new();
    value.encode(&mut writer, version);
    let again = M::decode(&mut FrameReader::new(writer.finish().into_bytes()), version);
    assert_eq!(again.expect("what we wrote decodes"), value);
}
