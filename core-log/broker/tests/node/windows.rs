//! What versions a node speaks, and how it says so.

use highwater_wire::messages::{ApiVersionsRequest, InitProducerIdRequest};
use highwater_wire::{ApiKey, ErrorCode, RequestHeader, encode_request};
use tokio::io::AsyncWriteExt;

use crate::support::{Wire, start, start_with};

fn software(name: &str) -> ApiVersionsRequest {
    ApiVersionsRequest {
        client_software_name: name.into(),
        client_software_version: "1.0".into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_01_the_data_path_is_advertised_as_by_kafka_4_1() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    for version in 0..=4 {
        let response = wire.call(version, software("test")).await;
        assert_eq!(response.error_code, 0);
        let window = |key: ApiKey| {
            let row = response
                .api_keys
                .iter()
                .find(|row| row.api_key == key.as_i16())
                .unwrap();
            (row.min_version, row.max_version)
        };
        assert_eq!(window(ApiKey::Produce), (0, 13));
        assert_eq!(window(ApiKey::Fetch), (4, 18));
        assert_eq!(window(ApiKey::ListOffsets), (1, 10));
        assert_eq!(window(ApiKey::Metadata), (0, 13));
        assert_eq!(window(ApiKey::ApiVersions), (0, 4));
        assert_eq!(window(ApiKey::InitProducerId), (0, 5));
        assert_eq!(window(ApiKey::OffsetForLeaderEpoch), (2, 4));
        // What is not served is not promised (semantic 40).
        let features = &response.finalized_features;
        assert!(
            features
                .iter()
                .all(|feature| feature.name != "transaction.version")
        );
        if version == 3 {
            assert!(
                response
                    .supported_features
                    .iter()
                    .all(|feature| feature.min_version > 0)
            );
        }
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_02_the_header_of_the_api_versions_answer_has_no_tags() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    for version in 0..=4 {
        let header = RequestHeader::new(ApiKey::ApiVersions, version, 77, None);
        let request = encode_request(&header, &software("test").into());
        wire.stream.write_all(&request.into_bytes()).await.unwrap();
        let frame = wire.read_frame().await.unwrap();
        // Correlation id, then at once the error code.
        assert_eq!(frame[..6], [0, 0, 0, 77, 0, 0], "version {version}");
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_03_a_malformed_software_name_is_an_invalid_request_and_the_connection_lives() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    for name in ["", "-dash", "two words", "dot.", "new\nline"] {
        let response = wire.call(3, software(name)).await;
        assert_eq!(response.error_code, ErrorCode::InvalidRequest.code(), "{name:?}");
    }
    assert_eq!(wire.call(3, software("apache-kafka-java")).await.error_code, 0);
    // Below version 3 there is no name to judge.
    assert_eq!(wire.call(2, software("-")).await.error_code, 0);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_05_56_hostile_15_16_22_what_is_not_served_closes_the_connection_unanswered() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let unserved: &[(i16, i16)] = &[
        (9_999, 0),
        (-1, 0),
        (i16::MIN, i16::MAX),
        // Message sets of the formats before v2, and the fetch that would ask for them (semantic 56).
        (0, 0),
        (0, 2),
        (1, 0),
        (1, 3),
        (0, 14),
        (1, 19),
        (3, -1),
        (3, i16::MAX),
        // Between brokers: LeaderAndIsr, ControlledShutdown, WriteTxnMarkers, Vote, AlterPartition, Envelope,
        // FetchSnapshot, BrokerRegistration, BrokerHeartbeat.
        (4, 0),
        (7, 0),
        (27, 1),
        (52, 0),
        (56, 0),
        (58, 0),
        (59, 0),
        (62, 0),
        (63, 0),
    ];
    for (key, version) in unserved {
        let mut wire = Wire::connect(address).await;
        let mut frame = 12_i32.to_be_bytes().to_vec();
        frame.extend_from_slice(&key.to_be_bytes());
        frame.extend_from_slice(&version.to_be_bytes());
        frame.extend_from_slice(&[0, 0, 0, 1, 0xff, 0xff, 0, 0]);
        wire.stream.write_all(&frame).await.unwrap();
        assert!(wire.read_frame().await.is_none(), "key {key} version {version}");
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_07_hostile_20_28_unknown_tags_are_skipped_and_correlation_ids_only_echoed() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    // Header v2 with a tag, body of ApiVersions v3 with two, one of them twice.
    let mut body = vec![0, 18, 0, 3, 0, 0, 0, 5, 0xff, 0xff, 1, 40, 2, 1, 2];
    body.extend_from_slice(&[2, b'a', 2, b'1', 3, 90, 1, 7, 91, 0, 90, 1, 7]);
    let frame = [&(body.len() as i32).to_be_bytes()[..], &body].concat();
    for _ in 0..2 {
        wire.stream.write_all(&frame).await.unwrap();
        assert_eq!(wire.read_frame().await.unwrap()[..6], [0, 0, 0, 5, 0, 0]);
    }
    assert_eq!(ApiKey::OffsetDelete.first_flexible_version(), None);
    assert_eq!(ApiKey::SaslHandshake.first_flexible_version(), None);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_08_hostile_02_03_a_frame_over_the_limit_closes_and_one_at_the_limit_does_not() {
    let dir = tempfile::tempdir().unwrap();
    let properties = [("socket.request.max.bytes", "1000")];
    let (node, address) = start_with(dir.path(), Default::default(), &properties).await;
    let frame = |length: usize| {
        let mut frame = (length as i32).to_be_bytes().to_vec();
        // ApiVersions v0 with a client id that fills the frame.
        frame.extend_from_slice(&[0, 18, 0, 0, 0, 0, 0, 1]);
        frame.extend_from_slice(&((length - 10) as i16).to_be_bytes());
        frame.resize(4 + length, b'x');
        frame
    };
    let mut wire = Wire::connect(address).await;
    wire.stream.write_all(&frame(1000)).await.unwrap();
    assert!(wire.read_frame().await.is_some());
    wire.stream.write_all(&frame(1001)).await.unwrap();
    assert!(wire.is_closed_by_node().await);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_37_ids_are_new_each_time_and_transactional_ids_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    let plain = InitProducerIdRequest {
        transactional_id: None,
        ..Default::default()
    };
    let mut last = -1;
    for version in 0..=5 {
        let given = wire.call(version, plain.clone()).await;
        assert_eq!((given.error_code, given.producer_epoch), (0, 0));
        assert!(given.producer_id > last, "version {version}");
        last = given.producer_id;
    }
    let again = InitProducerIdRequest {
        producer_id: last,
        producer_epoch: 0,
        ..plain.clone()
    };
    let given = wire.call(5, again.clone()).await;
    assert!(given.error_code == 0 && given.producer_id > last);
    let half = InitProducerIdRequest {
        producer_epoch: -1,
        ..again
    };
    let transactional = InitProducerIdRequest {
        transactional_id: Some("t".into()),
        transaction_timeout_ms: 1_000,
        ..plain
    };
    for refused in [half, transactional] {
        let answer = wire.call(5, refused).await;
        let expected = (ErrorCode::InvalidRequest.code(), -1, -1);
        assert_eq!(
            (answer.error_code, answer.producer_id, answer.producer_epoch),
            expected
        );
    }
    node.shutdown().await.unwrap();
}
