//! Header and body together: whole frames with their 4-byte length.

use bytes::Bytes;

use crate::header::{decode_response_header, encode_response_header};
use crate::{
    ApiKey, DecodeError, EncodeError, Frame, FrameReader, FrameWriter, LeftOut, Piece, RequestBody,
    RequestHeader, ResponseBody,
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

/// A response frame, length included, around record sets that come from elsewhere: their lengths are in the frame,
/// and their places are among its pieces. `left_out` is in ascending order; what those record sets hold in `body` is
/// not looked at.
pub fn encode_response_around(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    body: &ResponseBody,
    left_out: &[LeftOut],
) -> Vec<Piece> {
    let writer = FrameWriter::with_length_prefix().leaving_out(left_out);
    fill_response(writer, key, version, correlation_id, body).into_pieces()
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
    fill_response(
        FrameWriter::with_length_prefix(),
        key,
        version,
        correlation_id,
        body,
    )
}

fn fill_response(
    mut writer: FrameWriter,
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    body: &ResponseBody,
) -> FrameWriter {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::fetch_response::{FetchResponse, FetchableTopicResponse, PartitionData};
    use crate::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
    use crate::messages::{FindCoordinatorRequest, HeartbeatResponse, MetadataRequest};
    use crate::{Message, Request, UnexpectedBody};

    fn fetch_response(record_sets: &[Bytes]) -> ResponseBody {
        let partitions = record_sets
            .iter()
            .map(|records| PartitionData {
                records: Some(records.clone()),
                ..Default::default()
            })
            .collect();
        let topic = FetchableTopicResponse {
            topic: "prices".into(),
            partitions,
            ..Default::default()
        };
        FetchResponse {
            responses: vec![topic],
            ..Default::default()
        }
        .into()
    }

    fn is_same_memory(left: &Bytes, right: &Bytes) -> bool {
        left.as_ptr() == right.as_ptr() && left.len() == right.len()
    }

    #[test]
    fn record_sets_of_a_response_are_segments_of_their_own_and_not_copied() {
        let record_sets = [Bytes::from(vec![1; 100_000]), Bytes::from(vec![2; 10])];
        for version in ApiKey::Fetch.codec_versions() {
            let frame = encode_response(ApiKey::Fetch, version, 1, &fetch_response(&record_sets));
            for records in &record_sets {
                assert!(
                    frame
                        .segments()
                        .iter()
                        .any(|segment| is_same_memory(segment, records)),
                    "v{version}"
                );
            }
        }
    }

    #[test]
    fn a_frame_around_record_sets_that_are_elsewhere_has_the_bytes_of_the_whole_one() {
        let record_sets = [vec![1; 5000], vec![2; 10], vec![], vec![3; 3000]].map(Bytes::from);
        for version in ApiKey::Fetch.codec_versions() {
            let whole =
                encode_response(ApiKey::Fetch, version, 7, &fetch_response(&record_sets)).into_bytes();
            for elsewhere in [vec![], vec![0], vec![1, 3], vec![0, 2, 3], vec![0, 1, 2, 3]] {
                let left_out: Vec<LeftOut> = elsewhere
                    .iter()
                    .map(|at| LeftOut {
                        record_set: *at,
                        len_bytes: record_sets[*at].len(),
                    })
                    .collect();
                let mut at_hand = record_sets.clone();
                for at in &elsewhere {
                    at_hand[*at] = Bytes::new();
                }
                let body = fetch_response(&at_hand);
                let pieces = encode_response_around(ApiKey::Fetch, version, 7, &body, &left_out);
                let joined: Vec<u8> = pieces
                    .iter()
                    .flat_map(|piece| match piece {
                        Piece::Bytes(bytes) => bytes.clone(),
                        Piece::LeftOut(left_out) => record_sets[left_out.record_set].clone(),
                    })
                    .collect();
                assert_eq!(joined, whole, "v{version} {elsewhere:?}");
                let places = pieces.iter().filter(|piece| matches!(piece, Piece::LeftOut(_)));
                assert_eq!(
                    places.count(),
                    left_out.iter().filter(|out| out.len_bytes > 0).count()
                );
            }
        }
    }

    #[test]
    fn record_sets_of_a_request_are_slices_of_the_frame() {
        let partition = PartitionProduceData {
            index: 0,
            records: Some(Bytes::from(vec![7; 5000])),
        };
        let topic = TopicProduceData {
            name: "t".into(),
            partition_data: vec![partition],
            ..Default::default()
        };
        let body = ProduceRequest {
            topic_data: vec![topic],
            ..Default::default()
        }
        .into();
        let frame = encode_request(&RequestHeader::new(ApiKey::Produce, 9, 1, None), &body)
            .into_bytes()
            .slice(4..);

        let mut reader = FrameReader::new(frame.clone());
        RequestHeader::decode(&mut reader).unwrap();
        let request = ProduceRequest::decode(&mut reader, 9).unwrap();
        let records = request.topic_data[0].partition_data[0].records.as_ref().unwrap();
        assert!(frame.as_ptr_range().contains(&records.as_ptr()));
    }

    #[test]
    fn length_prefix_counts_what_follows_it_and_segments_are_never_empty() {
        let record_sets = [Bytes::from(vec![1; 3000]), Bytes::new()];
        let frame = encode_response(ApiKey::Fetch, 12, 1, &fetch_response(&record_sets));
        assert!(frame.segments().iter().all(|segment| !segment.is_empty()));
        let length_bytes = frame.len_bytes();
        let bytes = frame.into_bytes();
        assert_eq!(bytes.len(), length_bytes);
        assert_eq!(bytes[..4], (length_bytes as u32 - 4).to_be_bytes());
    }

    #[test]
    fn response_comes_back_with_its_correlation_id_in_every_version() {
        for version in ApiKey::Fetch.codec_versions() {
            let body = fetch_response(&[Bytes::from_static(b"records")]);
            let bytes = encode_response(ApiKey::Fetch, version, -9, &body).into_bytes();
            let (correlation_id, decoded) =
                decode_response(ApiKey::Fetch, version, bytes.slice(4..)).unwrap();
            assert_eq!(correlation_id, -9);
            let sets = |body| {
                FetchResponse::try_from(body)
                    .unwrap()
                    .responses
                    .remove(0)
                    .partitions
                    .remove(0)
                    .records
            };
            assert_eq!(sets(decoded), sets(body));
        }
    }

    #[test]
    fn headers_are_those_of_the_oracle() {
        use kafka_protocol::messages as theirs;
        use kafka_protocol::protocol::{Encodable, StrBytes};
        for key in ApiKey::ALL {
            for version in key.codec_versions() {
                let mut expected = bytes::BytesMut::new();
                theirs::RequestHeader::default()
                    .with_request_api_key(key.as_i16())
                    .with_request_api_version(version)
                    .with_correlation_id(0x0102_0304)
                    .with_client_id(Some(StrBytes::from_static_str("me")))
                    .encode(&mut expected, key.request_header_version(version))
                    .unwrap();
                let mut writer = FrameWriter::new();
                RequestHeader::new(key, version, 0x0102_0304, Some("me".into())).encode(&mut writer);
                assert_eq!(writer.finish().into_bytes(), expected, "{key:?} v{version}");

                let mut expected = bytes::BytesMut::new();
                theirs::ResponseHeader::default()
                    .with_correlation_id(-2)
                    .encode(&mut expected, key.response_header_version(version))
                    .unwrap();
                let mut writer = FrameWriter::new();
                encode_response_header(key, version, -2, &mut writer);
                assert_eq!(writer.finish().into_bytes(), expected, "{key:?} v{version}");
            }
        }
    }

    #[test]
    fn what_the_version_cannot_carry_is_cut_or_refused() {
        let key = "é".repeat(20_000);
        let body = RequestBody::from(FindCoordinatorRequest {
            key: key.into(),
            ..Default::default()
        });
        let header = RequestHeader::new(FindCoordinatorRequest::KEY, 0, 1, None);
        let refused = try_encode_request(&header, &body).unwrap_err();
        assert_eq!(refused, EncodeError::StringTooLong { length: 40_000 });
        let mut reader = FrameReader::new(encode_request(&header, &body).into_bytes().slice(4..));
        RequestHeader::decode(&mut reader).unwrap();
        assert_eq!(
            FindCoordinatorRequest::decode(&mut reader, 0).unwrap().key.len(),
            32_766
        );

        let all_topics = RequestBody::from(MetadataRequest {
            topics: None,
            ..Default::default()
        });
        let refused =
            try_encode_request(&RequestHeader::new(ApiKey::Metadata, 0, 1, None), &all_topics).unwrap_err();
        assert_eq!(refused, EncodeError::NullNotAllowed);
        let refused =
            try_encode_request(&RequestHeader::new(ApiKey::Metadata, 14, 1, None), &all_topics).unwrap_err();
        assert_eq!(refused.to_string(), "Metadata has versions 0 to 13, not 14");
    }

    #[test]
    fn body_of_another_api_is_named() {
        let body = ResponseBody::from(HeartbeatResponse::default());
        let error = FetchResponse::try_from(body).unwrap_err();
        assert_eq!(
            error,
            UnexpectedBody {
                expected: ApiKey::Fetch,
                actual: ApiKey::Heartbeat
            }
        );
    }

    #[test]
    fn secrets_and_record_bytes_are_not_in_debug_output() {
        let data = PartitionProduceData {
            index: 3,
            records: Some(Bytes::from_static(b"payload")),
        };
        assert_eq!(
            format!("{data:?}"),
            "PartitionProduceData { index: 3, records: 7 bytes }"
        );
        let auth_bytes = Bytes::from_static(b"\0user\0hunter2");
        let request = crate::messages::SaslAuthenticateRequest { auth_bytes };
        assert_eq!(
            format!("{request:?}"),
            "SaslAuthenticateRequest { auth_bytes: hidden }"
        );
    }
}
