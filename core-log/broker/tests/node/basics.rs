//! Metadata, produce, fetch, offsets, restart.

use std::time::{Duration, Instant};

use highwater_broker::{Limits, SessionInfo};
use highwater_wire::messages::create_partitions_request::CreatePartitionsTopic;
use highwater_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use highwater_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use highwater_wire::messages::delete_topics_request::DeleteTopicState;
use highwater_wire::messages::describe_configs_request::DescribeConfigsResource;
use highwater_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use highwater_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use highwater_wire::messages::{
    ApiVersionsRequest, CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest,
    DeleteTopicsRequest, DescribeConfigsRequest, IncrementalAlterConfigsRequest, InitProducerIdRequest,
    ListOffsetsRequest, MetadataRequest,
};
use highwater_wire::{ErrorCode, RequestBody, ResponseBody};

use crate::support::{Wire, batch, fetch_request, now, produce_request, records, start, start_with, values};

#[tokio::test(flavor = "multi_thread")]
async fn semantic_01_hostile_17_api_versions_lists_the_table_and_unknown_versions_get_the_version_0_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    let request = ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1.0".into(),
    };
    let response = wire.call(4, request.clone()).await;
    let produce = response.api_keys.iter().find(|row| row.api_key == 0).unwrap();
    assert_eq!(
        (response.error_code, produce.min_version, produce.max_version),
        (0, 0, 13)
    );

    wire.send_unknown_api_versions().await;
    let ResponseBody::ApiVersions(downgrade) = wire.receive().await else {
        panic!("another answer")
    };
    assert_eq!(downgrade.error_code, ErrorCode::UnsupportedVersion.code());
    assert_eq!(
        (downgrade.api_keys[0].api_key, downgrade.api_keys[0].max_version),
        (18, 4)
    );
    assert_eq!(wire.call(0, request).await.error_code, 0);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_an_auto_created_topic_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    assert_eq!(
        wire.produce("prices", &["x"]).await.error_code,
        ErrorCode::UnknownTopicOrPartition.code()
    );
    let metadata = wire.metadata("prices").await;
    let topic = &metadata.topics[0];
    assert_eq!(
        (topic.error_code, topic.partitions[0].leader_id),
        (0, metadata.brokers[0].node_id)
    );
    assert_eq!(metadata.brokers[0].port, i32::from(address.port()));
    let cluster_id = metadata.cluster_id.clone();

    assert_eq!(wire.produce("prices", &["a", "b"]).await.base_offset, 0);
    assert_eq!(wire.produce("prices", &["c"]).await.base_offset, 2);
    let fetched = wire.fetch("prices", 0).await;
    assert_eq!(
        (values(&fetched), fetched.high_watermark),
        (vec!["a".into(), "b".into(), "c".into()], 3)
    );
    // Inside a batch: the whole batch comes back (semantic 44).
    assert_eq!(values(&wire.fetch("prices", 1).await), ["a", "b", "c"]);
    assert_eq!(
        wire.fetch("prices", 4).await.error_code,
        ErrorCode::OffsetOutOfRange.code()
    );
    node.shutdown().await.unwrap();
    assert!(wire.is_closed_by_node().await);

    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    assert_eq!(values(&wire.fetch("prices", 0).await), ["a", "b", "c"]);
    assert_eq!(wire.produce("prices", &["d"]).await.base_offset, 3);
    assert_eq!(wire.metadata("prices").await.cluster_id, cluster_id);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_06_46_a_waiting_fetch_is_woken_by_the_append_and_holds_back_later_answers() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let (mut reader, mut writer) = (Wire::connect(address).await, Wire::connect(address).await);
    reader.metadata("t").await;
    let began = Instant::now();
    reader.send(12, fetch_request("t", 0)).await;
    reader.send(4, ApiVersionsRequest::default()).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    writer.produce("t", &["now"]).await;
    let ResponseBody::Fetch(fetched) = reader.receive().await else {
        panic!("the fetch is first")
    };
    assert_eq!(values(&fetched.responses[0].partitions[0]), ["now"]);
    assert!(matches!(reader.receive().await, ResponseBody::ApiVersions(_)));
    assert!(began.elapsed() < Duration::from_secs(3), "woken, not timed out");

    // Without data the wait ends in time, with an empty and not a null record set (semantic 45).
    let mut empty = fetch_request("t", 1);
    empty.max_wait_ms = 30;
    let response = reader.call(12, empty).await;
    assert_eq!(
        response.responses[0].partitions[0].records.as_deref(),
        Some(&[][..])
    );
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_22_24_acks_0_has_no_answer_and_bad_batches_are_refused_by_partition() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.metadata("t").await;
    wire.send_without_answer(9, produce_request("t", batch(&["quiet"]), 0))
        .await;
    assert_eq!(wire.produce("t", &["loud"]).await.base_offset, 1);

    let mut corrupt = batch(&["x"]).to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    let response = wire.call(9, produce_request("t", corrupt.into(), 1)).await;
    assert_eq!(
        response.responses[0].partition_responses[0].error_code,
        ErrorCode::CorruptMessage.code()
    );
    let two = [batch(&["x"]), batch(&["y"])].concat();
    let response = wire.call(9, produce_request("t", two.into(), 1)).await;
    assert_eq!(
        response.responses[0].partition_responses[0].error_code,
        ErrorCode::InvalidRecord.code()
    );
    let response = wire.call(9, produce_request("t", batch(&["x"]), 7)).await;
    assert_eq!(
        response.responses[0].partition_responses[0].error_code,
        ErrorCode::InvalidRequiredAcks.code()
    );
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn on_ack_durability_answers_after_the_sync() {
    let dir = tempfile::tempdir().unwrap();
    let properties = [("log.flush.interval.messages", "1")];
    let (node, address) = start_with(dir.path(), Limits::default(), &properties).await;
    let mut wire = Wire::connect(address).await;
    wire.metadata("durable").await;
    for at in 0..20 {
        assert_eq!(wire.produce("durable", &["x"]).await.base_offset, at);
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_created_grown_configured_and_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    let config = CreatableTopicConfig {
        name: "retention.ms".into(),
        value: Some("1000".into()),
    };
    let topic = CreatableTopic {
        name: "made".into(),
        num_partitions: 2,
        replication_factor: -1,
        configs: vec![config],
        ..Default::default()
    };
    let bad = CreatableTopic {
        name: "no/good".into(),
        ..topic.clone()
    };
    let request = CreateTopicsRequest {
        topics: vec![topic, bad],
        ..Default::default()
    };
    let created = wire.call(7, request.clone()).await.topics;
    assert_eq!((created[0].error_code, created[0].num_partitions), (0, 2));
    assert_eq!(created[1].error_code, ErrorCode::InvalidTopicException.code());
    assert_eq!(
        wire.call(7, request).await.topics[0].error_code,
        ErrorCode::TopicAlreadyExists.code()
    );

    let more = CreatePartitionsTopic {
        name: "made".into(),
        count: 3,
        assignments: None,
    };
    let grown = wire
        .call(
            3,
            CreatePartitionsRequest {
                topics: vec![more],
                ..Default::default()
            },
        )
        .await;
    assert_eq!(grown.results[0].error_code, 0);
    assert_eq!(wire.metadata("made").await.topics[0].partitions.len(), 3);

    let set = AlterableConfig {
        name: "cleanup.policy".into(),
        value: Some("compact".into()),
        config_operation: 0,
    };
    let resource = AlterConfigsResource {
        resource_type: 2,
        resource_name: "made".into(),
        configs: vec![set],
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![resource],
        validate_only: false,
    };
    assert_eq!(wire.call(1, request).await.responses[0].error_code, 0);
    let resource = DescribeConfigsResource {
        resource_type: 2,
        resource_name: "made".into(),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        ..Default::default()
    };
    let described = wire.call(4, request).await.results.remove(0);
    let value = |key: &str| {
        let found = described
            .configs
            .iter()
            .find(|config| config.name == key)
            .unwrap();
        (found.value.clone().unwrap().to_string(), found.config_source)
    };
    assert_eq!(value("cleanup.policy"), ("compact".into(), 1));
    assert_eq!(value("retention.ms"), ("1000".into(), 1));
    assert_eq!(value("segment.bytes"), ("1073741824".into(), 5));

    let gone = DeleteTopicState {
        name: Some("made".into()),
        ..Default::default()
    };
    let deleted = wire
        .call(
            6,
            DeleteTopicsRequest {
                topics: vec![gone],
                ..Default::default()
            },
        )
        .await;
    assert_eq!(deleted.responses[0].error_code, 0);
    let all = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    assert_eq!(wire.call(12, all).await.topics.len(), 0);
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert!(
        !left.iter().any(|name| name.to_string_lossy().starts_with("made-")
            && !name.to_string_lossy().ends_with("-delete")),
        "{left:?}"
    );
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_are_listed_by_time_and_records_deleted() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.metadata("t").await;
    let before = now().get();
    wire.produce("t", &["a", "b"]).await;
    let mut ask = async |timestamp: i64| {
        let partition = ListOffsetsPartition {
            timestamp,
            ..Default::default()
        };
        let topic = ListOffsetsTopic {
            name: "t".into(),
            partitions: vec![partition],
        };
        let request = ListOffsetsRequest {
            topics: vec![topic],
            ..Default::default()
        };
        wire.call(7, request).await.topics[0].partitions[0].offset
    };
    assert_eq!([ask(-1).await, ask(-2).await, ask(before).await], [2, 0, 0]);
    assert_eq!(ask(before + 60_000).await, -1);

    let partition = DeleteRecordsPartition {
        partition_index: 0,
        offset: 1,
    };
    let topic = DeleteRecordsTopic {
        name: "t".into(),
        partitions: vec![partition],
    };
    let request = DeleteRecordsRequest {
        topics: vec![topic],
        timeout_ms: 1_000,
    };
    let deleted = wire.call(2, request).await;
    assert_eq!(deleted.topics[0].partitions[0].low_watermark, 1);
    assert_eq!(
        wire.fetch("t", 0).await.error_code,
        ErrorCode::OffsetOutOfRange.code()
    );
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_37_producer_ids_are_never_given_twice_not_even_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut given = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let (node, address) = start(dir.path()).await;
        let mut wire = Wire::connect(address).await;
        for _ in 0..3 {
            let response = wire
                .call(
                    4,
                    InitProducerIdRequest {
                        transactional_id: None,
                        ..Default::default()
                    },
                )
                .await;
            assert_eq!((response.error_code, response.producer_epoch), (0, 0));
            assert!(
                given.insert(response.producer_id),
                "{} came twice",
                response.producer_id
            );
        }
        node.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_in_the_process_meets_the_same_log() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.metadata("t").await;
    let session = node.session(SessionInfo::default());
    let request = RequestBody::from(produce_request("t", batch(&["inside"]), -1));
    let Some(ResponseBody::Produce(produced)) = session.call(9, request).await.unwrap() else {
        panic!("produce has an answer")
    };
    assert_eq!(produced.responses[0].partition_responses[0].base_offset, 0);
    let fetched = wire.fetch("t", 0).await;
    assert_eq!(records(&fetched)[0].value.as_deref(), Some(&b"inside"[..]));
    let unserved = RequestBody::from(produce_request("t", batch(&["old"]), -1));
    assert!(session.call(2, unserved).await.is_err());
    node.shutdown().await.unwrap();
    assert!(
        session
            .call(4, RequestBody::from(ApiVersionsRequest::default()))
            .await
            .is_err()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_dropped_without_shutdown_lets_go_and_the_next_one_recovers() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.metadata("t").await;
    wire.produce("t", &["a", "b"]).await;
    drop(node);
    assert!(wire.is_closed_by_node().await);
    let config = highwater_broker::NodeConfig::new(dir.path());
    let began = Instant::now();
    let node = loop {
        match highwater_broker::Node::start(config.clone()).await {
            Ok(node) => break node,
            // The old node's tasks may need a moment to end.
            Err(error) => assert!(began.elapsed() < Duration::from_secs(10), "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let session = node.session(SessionInfo::default());
    let request = RequestBody::from(fetch_request("t", 0));
    let Some(ResponseBody::Fetch(fetched)) = session.call(12, request).await.unwrap() else {
        panic!("fetch has an answer")
    };
    assert_eq!(values(&fetched.responses[0].partitions[0]), ["a", "b"]);
    node.shutdown().await.unwrap();
}
