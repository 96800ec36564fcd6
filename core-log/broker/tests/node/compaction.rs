//! Compaction and retention as clients see them.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater_broker::{Limits, Node, NodeConfig};
use highwater_types::Timestamp;
use highwater_types::record::{BatchBuilder, BatchOptions, DecodeLimits, batches};
use highwater_wire::ErrorCode;
use highwater_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use highwater_wire::messages::fetch_response::PartitionData;
use highwater_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use highwater_wire::messages::{CreateTopicsRequest, IncrementalAlterConfigsRequest};

use crate::support::{Wire, fetch_request, now, produce_request, start_with};

const PATIENCE: Duration = Duration::from_secs(30);

async fn node(dir: &Path) -> (Node, SocketAddr) {
    let properties = [
        ("log.cleaner.backoff.ms", "20"),
        ("log.retention.check.interval.ms", "100"),
    ];
    start_with(dir, Limits::default(), &properties).await
}

async fn create(wire: &mut Wire, topic: &str, configs: &[(&str, &str)]) {
    let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
        name: (*name).into(),
        value: Some((*value).into()),
    });
    let topic = CreatableTopic {
        name: topic.into(),
        num_partitions: 1,
        replication_factor: 1,
        configs: configs.collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![topic],
        timeout_ms: 10_000,
        ..Default::default()
    };
    assert_eq!(wire.call(5, request).await.topics[0].error_code, 0);
}

async fn set(wire: &mut Wire, topic: &str, configs: &[(&str, &str)]) {
    set_on(wire, 2, topic, configs).await;
}

async fn set_on(wire: &mut Wire, resource_type: i8, name: &str, configs: &[(&str, &str)]) {
    let configs = configs.iter().map(|(name, value)| AlterableConfig {
        name: (*name).into(),
        config_operation: 0,
        value: Some((*value).into()),
    });
    let resource = AlterConfigsResource {
        resource_type,
        resource_name: name.into(),
        configs: configs.collect(),
    };
    let request = IncrementalAlterConfigsRequest {
        resources: vec![resource],
        validate_only: false,
    };
    assert_eq!(wire.call(1, request).await.responses[0].error_code, 0);
}

fn batch_of(at: Timestamp, entries: &[(&str, Option<String>)]) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for (key, value) in entries {
        builder.append(
            at,
            Some(key.as_bytes()),
            value.as_ref().map(String::as_bytes),
            &[],
        );
    }
    builder.build().unwrap()
}

async fn put(wire: &mut Wire, topic: &str, entries: &[(&str, Option<String>)]) -> i64 {
    let request = produce_request(topic, batch_of(now(), entries), -1);
    let answer = wire.call(9, request).await.responses[0].partition_responses[0].clone();
    assert_eq!(answer.error_code, 0);
    answer.base_offset
}

async fn fetch_at(wire: &mut Wire, topic: &str, from: i64) -> PartitionData {
    let mut request = fetch_request(topic, from);
    request.max_wait_ms = 0;
    wire.call(12, request).await.responses[0].partitions[0].clone()
}

/// `offset key=value` of everything a consumer gets from the start of the log to its end.
async fn consume(wire: &mut Wire, topic: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut from = fetch_at(wire, topic, i64::MAX).await.log_start_offset.max(0);
    loop {
        let data = fetch_at(wire, topic, from).await;
        assert_eq!(data.error_code, 0, "at {from}");
        if from >= data.high_watermark {
            return found;
        }
        let before = from;
        for batch in batches(data.records.unwrap()) {
            let batch = batch.unwrap();
            from = batch.header().next_offset().get();
            for record in batch.records(DecodeLimits::default()).unwrap() {
                let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
                let value = record.value.as_ref().map_or("-".to_owned(), text);
                found.push(format!(
                    "{} {}={value}",
                    record.offset,
                    text(&record.key.unwrap())
                ));
            }
        }
        assert!(
            from > before,
            "a consumer gets stuck at {before} of {}",
            data.high_watermark
        );
    }
}

/// Consumes again and again until it sees what it should.
async fn consume_until(wire: &mut Wire, topic: &str, expected: &[String]) {
    let mut seen = Vec::new();
    let wait = async {
        loop {
            seen = consume(wire, topic).await;
            if seen == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, wait).await.is_err() {
        panic!("after {PATIENCE:?}: {seen:?} instead of {expected:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_71_a_compacted_topic_ends_up_with_the_latest_values_and_tombstones_vanish() {
    let dir = tempfile::tempdir().unwrap();
    let (first, address) = node(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    let configs = [
        ("cleanup.policy", "compact"),
        // Seals the last segment without another append.
        ("max.compaction.lag.ms", "1"),
        ("delete.retention.ms", "86400000"),
    ];
    create(&mut wire, "latest", &configs).await;
    for round in 0..20 {
        let entries: Vec<_> = ["a", "b", "c"]
            .map(|key| (key, Some(format!("{key}{round}"))))
            .into();
        put(&mut wire, "latest", &entries).await;
    }
    assert_eq!(put(&mut wire, "latest", &[("a", None)]).await, 60);
    let cleaned = ["58 b=b19", "59 c=c19", "60 a=-"].map(String::from);
    consume_until(&mut wire, "latest", &cleaned).await;
    // The retention of tombstones counts at once when it is altered, for those that are cleaned from then on.
    set(&mut wire, "latest", &[("delete.retention.ms", "0")]).await;
    assert_eq!(
        put(&mut wire, "latest", &[("b", None), ("d", Some("d".to_owned()))]).await,
        61
    );
    let later = ["59 c=c19", "60 a=-", "62 d=d"].map(String::from);
    consume_until(&mut wire, "latest", &later).await;
    first.shutdown().await.unwrap();

    let checkpoint = std::fs::read_to_string(dir.path().join("cleaner-offset-checkpoint")).unwrap();
    assert!(
        checkpoint.lines().any(|line| line == "latest 0 63"),
        "{checkpoint}"
    );
    let (second, address) = node(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    assert_eq!(consume(&mut wire, "latest").await, later);
    assert_eq!(
        put(&mut wire, "latest", &[("c", Some("new".to_owned()))]).await,
        63
    );
    let last = ["60 a=-", "62 d=d", "63 c=new"].map(String::from);
    consume_until(&mut wire, "latest", &last).await;
    second.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_node_had_sealed_is_compacted_without_another_record() {
    let dir = tempfile::tempdir().unwrap();
    let (killed, address) = node(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    create(&mut wire, "rests", &[("segment.bytes", "1048576")]).await;
    // Some twenty to a segment: two are sealed, the rest is in the active one.
    for value in 0..60 {
        let value = format!("{value:0>50000}");
        put(&mut wire, "rests", &[("k", Some(value))]).await;
    }
    assert_eq!(consume(&mut wire, "rests").await.len(), 60);
    drop(killed);
    // It lets go of the directory when its last task ends.
    assert!(wire.is_closed_by_node().await);
    let config = NodeConfig::new(dir.path())
        .listen("PLAINTEXT", "127.0.0.1:0".parse().unwrap())
        .property("log.cleaner.backoff.ms", "20");
    let began = Instant::now();
    let second = loop {
        match Node::start(config.clone()).await {
            Ok(second) => break second,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let mut wire = Wire::connect(second.listener_addr("PLAINTEXT").unwrap()).await;
    set(&mut wire, "rests", &[("cleanup.policy", "compact")]).await;
    let compacted = async {
        while consume(&mut wire, "rests").await.len() > 25 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, compacted).await.unwrap();
    second.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_becomes_compacted_is_compacted_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = node(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    create(&mut wire, "late", &[("max.compaction.lag.ms", "1")]).await;
    for value in 0..5 {
        put(&mut wire, "late", &[("k", Some(value.to_string()))]).await;
    }
    assert_eq!(consume(&mut wire, "late").await.len(), 5);
    set(&mut wire, "late", &[("cleanup.policy", "compact")]).await;
    consume_until(&mut wire, "late", &["4 k=4".to_owned()]).await;
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn more_cleaner_threads_come_at_once_and_none_pause_compaction() {
    let dir = tempfile::tempdir().unwrap();
    let properties = [("log.cleaner.backoff.ms", "20"), ("log.cleaner.threads", "0")];
    let (node, address) = start_with(dir.path(), Limits::default(), &properties).await;
    let mut wire = Wire::connect(address).await;
    let configs = [("cleanup.policy", "compact"), ("max.compaction.lag.ms", "1")];
    create(&mut wire, "paused", &configs).await;
    for (threads, last) in [("3", 4), ("0", 9), ("1", 14)] {
        for value in last - 4..=last {
            put(&mut wire, "paused", &[("k", Some(value.to_string()))]).await;
        }
        set_on(&mut wire, 4, "1", &[("log.cleaner.threads", threads)]).await;
        if threads != "0" {
            consume_until(&mut wire, "paused", &[format!("{last} k={last}")]).await;
        }
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_72_retention_moves_the_log_start_and_a_reader_below_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = node(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    create(&mut wire, "old", &[("retention.ms", "-1")]).await;
    create(
        &mut wire,
        "kept",
        &[("cleanup.policy", "compact"), ("retention.ms", "1000")],
    )
    .await;
    let long_ago = Timestamp::new(now().get() - 3_600_000);
    for topic in ["old", "kept"] {
        let records = batch_of(long_ago, &[("k", Some("v".to_owned()))]);
        let answer = wire.call(9, produce_request(topic, records, -1)).await;
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(consume(&mut wire, "old").await.len(), 1, "kept for ever");
    set(&mut wire, "old", &[("retention.ms", "1000")]).await;
    let gone = async {
        loop {
            let data = fetch_at(&mut wire, "old", 0).await;
            if data.error_code != 0 {
                return data;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let data = tokio::time::timeout(PATIENCE, gone)
        .await
        .expect("retention deletes the record");
    // Not silence: the client resets its position by its own policy.
    assert_eq!(data.error_code, ErrorCode::OffsetOutOfRange.code());
    assert_eq!((data.log_start_offset, data.high_watermark), (1, 1));
    assert_eq!(put(&mut wire, "old", &[("k", Some("new".to_owned()))]).await, 1);
    assert_eq!(
        consume(&mut wire, "kept").await.len(),
        1,
        "compaction alone keeps the latest for ever"
    );
    node.shutdown().await.unwrap();
}
