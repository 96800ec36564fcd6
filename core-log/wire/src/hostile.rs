//! Bytes that no honest peer sends. Numbers in test names are those of the list of hostile inputs.
//!
//! Claims made here: an error and never a panic; nothing is reserved for what the frame cannot hold; nothing is stored
//! for what is not known.

use bytes::Bytes;
use proptest::prelude::*;

use crate::messages::leave_group_request::{LeaveGroupRequest, MemberIdentity};
use crate::messages::{
    ApiVersionsRequest, CreateTopicsRequest, DeleteGroupsRequest, FetchRequest, HeartbeatRequest,
    MetadataRequest, for_each_message,
};
use crate::sample::{Sample, Sampler};
use crate::{
    ApiKey, DecodeErrorKind, Form, FrameReader, FrameWriter, Message, Null, RequestBody, RequestHeader,
    ResponseBody,
};

/// Why `bytes` are no `M`.
fn refusal<M: Message + std::fmt::Debug>(bytes: &[u8], version: i16) -> DecodeErrorKind {
    let mut reader = FrameReader::new(Bytes::copy_from_slice(bytes));
    M::decode(&mut reader, version)
        .and_then(|value| reader.finish().map(|()| value))
        .unwrap_err()
        .kind
}

fn encode<M: Message>(value: &M, version: i16) -> Vec<u8> {
    let mut writer = FrameWriter::new();
    value.encode(&mut writer, version);
    writer.finish().into_bytes().to_vec()
}

#[test]
fn hostile_23_array_count_of_two_billion_in_a_four_byte_body_is_refused_before_reserving() {
    let count = i32::MAX as usize;
    let refused = DecodeErrorKind::CountTooLarge { count, left: 0 };
    assert_eq!(refusal::<MetadataRequest>(&i32::MAX.to_be_bytes(), 4), refused);
    // The heap budget is asked only after the byte check: with none at all the answer is the same.
    let mut reader = FrameReader::with_heap_budget(Bytes::copy_from_slice(&i32::MAX.to_be_bytes()), 0);
    assert_eq!(MetadataRequest::decode(&mut reader, 4).unwrap_err().kind, refused);
}

#[test]
fn hostile_23_negative_array_count_is_null_or_refused() {
    assert_eq!(
        refusal::<MetadataRequest>(&(-2i32).to_be_bytes(), 1),
        DecodeErrorKind::NegativeLength { length: -2 }
    );
    assert_eq!(
        refusal::<MetadataRequest>(&(-1i32).to_be_bytes(), 0),
        DecodeErrorKind::NullNotAllowed
    );
    let mut reader = FrameReader::new(Bytes::copy_from_slice(&(-1i32).to_be_bytes()));
    assert_eq!(MetadataRequest::decode(&mut reader, 1).unwrap().topics, None);
}

#[test]
fn hostile_23_count_is_checked_against_the_least_size_of_its_elements() {
    // 12 bytes hold at most three int32, so a count of four cannot be honest.
    let mut reader = FrameReader::new(Bytes::from_static(&[
        0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3,
    ]));
    let error = reader.array(4, Form::Classic, |r| r.i32()).unwrap_err();
    assert_eq!(error.kind, DecodeErrorKind::CountTooLarge { count: 4, left: 12 });
}

#[test]
fn hostile_24_compact_count_beyond_32_bits_is_refused() {
    for bytes in [[0xff, 0xff, 0xff, 0xff, 0x1f], [0xff, 0xff, 0xff, 0xff, 0xff]] {
        assert_eq!(
            refusal::<DeleteGroupsRequest>(&bytes, 2),
            DecodeErrorKind::VarintOverflow
        );
    }
    let most = refusal::<DeleteGroupsRequest>(&[0xff, 0xff, 0xff, 0xff, 0x0f], 2);
    assert_eq!(
        most,
        DecodeErrorKind::CountTooLarge {
            count: u32::MAX as usize - 1,
            left: 0
        }
    );
}

#[test]
fn hostile_25_arrays_that_would_outgrow_their_frame_are_refused() {
    // A member of three bytes takes twenty times as much memory.
    let members = vec![MemberIdentity::default(); 1_000_000];
    let bytes = encode(
        &LeaveGroupRequest {
            members,
            ..Default::default()
        },
        4,
    );
    assert!(matches!(
        refusal::<LeaveGroupRequest>(&bytes, 4),
        DecodeErrorKind::HeapBudgetExceeded { .. }
    ));
}

#[test]
fn hostile_25_nested_counts_share_one_budget() {
    let mut writer = FrameWriter::new();
    writer.put_array(&[(); 100], Form::Compact, |w, ()| {
        w.put_array(&[1i8; 100], Form::Compact, |w, item| w.put_i8(*item))
    });
    let frame = writer.finish().into_bytes();
    let read = |budget_bytes| {
        let mut reader = FrameReader::with_heap_budget(frame.clone(), budget_bytes);
        reader.array(1, Form::Compact, |r| r.array(1, Form::Compact, |r| r.i8()))
    };
    let outer_bytes = 100 * size_of::<Vec<i8>>();
    assert_eq!(read(outer_bytes + 10_000).unwrap().len(), 100);
    let kind = read(outer_bytes + 9_999).unwrap_err().kind;
    assert_eq!(
        kind,
        DecodeErrorKind::HeapBudgetExceeded {
            wanted: 100,
            left: 99
        }
    );
}

#[test]
fn hostile_26_string_beyond_the_frame_is_refused() {
    let kind = refusal::<HeartbeatRequest>(&[0x7f, 0xff, b'g'], 0);
    assert_eq!(
        kind,
        DecodeErrorKind::Truncated {
            needed: 32767,
            left: 1
        }
    );
    let kind = refusal::<HeartbeatRequest>(&[0xff, 0xfe], 0);
    assert_eq!(kind, DecodeErrorKind::NegativeLength { length: -2 });
    let kind = refusal::<HeartbeatRequest>(&[0xff, 0xff, 0x03], 4);
    assert_eq!(kind, DecodeErrorKind::StringTooLong { length: 65534 });
}

#[test]
fn hostile_27_a_million_unknown_tagged_fields_are_skipped_without_memory() {
    let mut writer = FrameWriter::new();
    writer.put_unsigned_varint(1_000_000);
    for tag in 1000..1_001_000 {
        writer.put_unsigned_varint(tag);
        writer.put_unsigned_varint(1);
        writer.put_i8(7);
    }
    let body = encode(&ApiVersionsRequest::default(), 3);
    let mut frame = body[..body.len() - 1].to_vec();
    frame.extend_from_slice(&writer.finish().into_bytes());

    let mut reader = FrameReader::with_heap_budget(Bytes::from(frame), 0);
    assert_eq!(
        ApiVersionsRequest::decode(&mut reader, 3).unwrap(),
        ApiVersionsRequest::default()
    );
    reader.finish().unwrap();
}

/// A FetchRequest v12 whose tagged section is `tags`.
fn fetch_with_tags(tags: &[u8]) -> Vec<u8> {
    let body = encode(&FetchRequest::default(), 12);
    [&body[..body.len() - 1], tags].concat()
}

#[test]
fn hostile_28_repeated_and_unsorted_tags_are_read_and_the_last_one_wins() {
    let bytes = fetch_with_tags(&[3, 9, 0, 0, 2, 2, b'a', 0, 2, 2, b'b']);
    let mut reader = FrameReader::new(Bytes::from(bytes));
    assert_eq!(
        FetchRequest::decode(&mut reader, 12)
            .unwrap()
            .cluster_id
            .as_deref(),
        Some("b")
    );
    reader.finish().unwrap();
}

#[test]
fn hostile_29_tag_sizes_that_do_not_fit_are_refused() {
    let beyond = fetch_with_tags(&[1, 9, 200, 1, 0]);
    assert_eq!(
        refusal::<FetchRequest>(&beyond, 12),
        DecodeErrorKind::Truncated { needed: 200, left: 1 }
    );
    let longer_than_value = fetch_with_tags(&[1, 0, 3, 2, b'a', 0]);
    assert_eq!(
        refusal::<FetchRequest>(&longer_than_value, 12),
        DecodeErrorKind::TagTooLong { tag: 0, left: 1 }
    );
    // The value may not read past its tag, even where the frame goes on.
    let shorter_than_value = fetch_with_tags(&[1, 0, 2, 9, b'a', 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(
        refusal::<FetchRequest>(&shorter_than_value, 12),
        DecodeErrorKind::Truncated { needed: 8, left: 1 }
    );
}

#[test]
fn hostile_30_null_where_there_is_none_is_refused_and_names_the_field() {
    let mut reader = FrameReader::new(Bytes::from_static(&[0xff, 0xff]));
    let error = HeartbeatRequest::decode(&mut reader, 0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "HeartbeatRequest.group_id at byte 0: null is not allowed in this version"
    );
    assert_eq!(
        refusal::<CreateTopicsRequest>(&[0], 5),
        DecodeErrorKind::NullNotAllowed
    );
    // Null became legal for the topic name in v10.
    assert_eq!(
        refusal::<MetadataRequest>(&[2, 0, 0, 1, 0, 0, 0], 9),
        DecodeErrorKind::NullNotAllowed
    );
}

#[test]
fn hostile_31_bytes_after_the_message_are_reported_by_finish() {
    let mut bytes = encode(&ApiVersionsRequest::default(), 0);
    bytes.extend_from_slice(b"more");
    assert_eq!(
        refusal::<ApiVersionsRequest>(&bytes, 0),
        DecodeErrorKind::TrailingBytes { left: 4 }
    );
}

#[test]
fn hostile_16_versions_outside_the_codec_are_refused_by_the_body_but_not_by_the_header() {
    for version in [-1, i16::MIN, 14, i16::MAX] {
        let kind = refusal::<MetadataRequest>(&[], version);
        assert_eq!(
            kind,
            DecodeErrorKind::UnsupportedVersion {
                message: "MetadataRequest",
                version,
                first: 0,
                last: 13
            }
        );
        for api_key in [-1, 3, 18, 9999] {
            let sent = RequestHeader {
                api_key,
                api_version: version,
                correlation_id: 5,
                client_id: None,
            };
            let mut writer = FrameWriter::new();
            sent.encode(&mut writer);
            let mut reader = FrameReader::new(writer.finish().into_bytes());
            assert_eq!(RequestHeader::decode(&mut reader).unwrap(), sent);
            reader.finish().unwrap();
        }
    }
}

#[test]
fn hostile_19_client_id_of_odd_text_is_kept_and_of_no_text_is_refused() {
    let header = |client_id: &[u8]| {
        let length = i16::try_from(client_id.len()).unwrap().to_be_bytes();
        let bytes = [&[0, 3, 0, 1, 0, 0, 0, 9][..], &length, client_id].concat();
        RequestHeader::decode(&mut FrameReader::new(Bytes::from(bytes)))
    };
    assert_eq!(header(b"a\0b\nc").unwrap().client_id.as_deref(), Some("a\0b\nc"));
    assert_eq!(header(&[b'x'; 32767]).unwrap().client_id.unwrap().len(), 32767);
    let error = header(&[b'a', 0xff]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "RequestHeader.client_id at byte 8: the string is not UTF-8"
    );
}

#[test]
fn frame_shorter_than_its_header_is_refused() {
    let header = RequestHeader::new(ApiKey::Metadata, 12, 77, Some("me".into()));
    let mut writer = FrameWriter::new();
    header.encode(&mut writer);
    let whole = writer.finish().into_bytes();
    for length in 0..whole.len() {
        let error = RequestHeader::decode(&mut FrameReader::new(whole.slice(..length))).unwrap_err();
        assert!(
            matches!(error.kind, DecodeErrorKind::Truncated { .. }),
            "{length}: {error}"
        );
    }
    assert_eq!(
        RequestHeader::decode(&mut FrameReader::new(whole)).unwrap(),
        header
    );
}

/// A message that was cut off anywhere is refused: there is no prefix that passes for a whole.
fn every_prefix_is_refused<M: Message + Sample>(versions: std::ops::RangeInclusive<i16>) {
    for version in versions {
        let whole = Bytes::from(encode(&M::sample(&mut Sampler::new(11), version), version));
        for length in 0..whole.len() {
            assert!(
                M::decode(&mut FrameReader::new(whole.slice(..length)), version).is_err(),
                "{version} {length}"
            );
        }
    }
}

macro_rules! check_prefixes {
    ($(($module:ident, $name:ident, $versions:expr))*) => {
        #[test]
        fn every_message_cut_anywhere_is_refused() {
            $(every_prefix_is_refused::<crate::messages::$name>($versions);)*
        }
    };
}

for_each_message!(check_prefixes);

/// Whatever `bytes` are, reading them as any message ends, and what it gives can be written.
fn survive(key: ApiKey, version: i16, bytes: &Bytes) {
    if let Ok(body) = RequestBody::decode(key, version, &mut FrameReader::new(bytes.clone())) {
        body.encode(&mut FrameWriter::new(), version);
    }
    if let Ok(body) = ResponseBody::decode(key, version, &mut FrameReader::new(bytes.clone())) {
        body.encode(&mut FrameWriter::new(), version);
    }
}

proptest! {
    #[test]
    fn hostile_14_random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let bytes = Bytes::from(bytes);
        let _ = RequestHeader::decode(&mut FrameReader::new(bytes.clone()));
        for key in ApiKey::ALL {
            for version in key.codec_versions() {
                survive(key, version, &bytes);
            }
        }
    }

    #[test]
    fn hostile_14_damaged_messages_never_panic(seed in any::<u64>(), at in any::<prop::sample::Index>(), flip in 1u8..) {
        for version in ApiKey::Fetch.codec_versions() {
            let request = FetchRequest::sample(&mut Sampler::new(seed), version);
            let mut bytes = encode(&request, version);
            let index = at.index(bytes.len());
            bytes[index] ^= flip;
            survive(ApiKey::Fetch, version, &Bytes::from(bytes));
        }
    }

    #[test]
    fn varints_come_back(value in any::<u32>()) {
        let mut writer = FrameWriter::new();
        writer.put_unsigned_varint(value);
        let bytes = writer.finish().into_bytes();
        prop_assert!(bytes.len() <= 5);
        let mut reader = FrameReader::new(bytes);
        prop_assert_eq!(reader.unsigned_varint().unwrap(), value);
        reader.finish().unwrap();
    }
}

#[test]
fn null_and_empty_stay_apart_in_both_forms() {
    for form in [Form::Classic, Form::Compact] {
        for value in [None, Some(Bytes::new()), Some(Bytes::from_static(b"x"))] {
            let mut writer = FrameWriter::new();
            writer.put_nullable_records(value.as_ref(), Null::Allowed, form);
            let mut reader = FrameReader::new(writer.finish().into_bytes());
            assert_eq!(reader.nullable_records(Null::Allowed, form).unwrap(), value);
        }
    }
}
