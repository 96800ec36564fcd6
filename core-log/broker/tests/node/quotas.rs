//! Client quotas: who is asked to be silent is not read from until the time is over.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use highwater_broker::{Limits, Node};
use highwater_wire::messages::alter_client_quotas_request::{EntityData, EntryData, OpData};
use highwater_wire::messages::create_topics_request::CreatableTopic;
use highwater_wire::messages::describe_client_quotas_request::ComponentData;
use highwater_wire::messages::{
    AlterClientQuotasRequest, ApiVersionsRequest, CreateTopicsRequest, DescribeClientQuotasRequest,
    FetchRequest, MetadataRequest,
};
use highwater_wire::{ErrorCode, ResponseBody};

use crate::support::{Wire, batch, fetch_request, produce_request, start_with, values};

/// Averages over one second, so that a test does not wait long.
const SHORT_WINDOW: [(&str, &str); 1] = [("quota.window.num", "2")];

const RATE: f64 = 20_000.0;

async fn node(dir: &tempfile::TempDir, properties: &[(&str, &str)]) -> (Node, SocketAddr) {
    start_with(dir.path(), Limits::default(), properties).await
}

fn entry(entity: &[(&str, Option<&str>)], key: &str, limit: Option<f64>) -> EntryData {
    let part = |(entity_type, name): &(&str, Option<&str>)| EntityData {
        entity_type: (*entity_type).into(),
        entity_name: name.map(Into::into),
    };
    EntryData {
        entity: entity.iter().map(part).collect(),
        ops: vec![OpData {
            key: key.into(),
            value: limit.unwrap_or(0.0),
            remove: limit.is_none(),
        }],
    }
}

/// Sets one limit for the client that `Wire` is; answers the code.
async fn limit(wire: &mut Wire, entity: &[(&str, Option<&str>)], key: &str, limit: Option<f64>) -> ErrorCode {
    let request = AlterClientQuotasRequest {
        entries: vec![entry(entity, key, limit)],
        validate_only: false,
    };
    ErrorCode::from_code(wire.call(1, request).await.entries[0].error_code)
}

const THIS_CLIENT: &[(&str, Option<&str>)] = &[("client-id", Some("wire-test"))];

#[tokio::test(flavor = "multi_thread")]
async fn semantic_10_a_producer_above_its_quota_is_answered_at_once_and_then_not_read_from() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = node(&dir, &SHORT_WINDOW).await;
    let mut wire = Wire::connect(address).await;
    let mut other = Wire::connect(address).await;
    wire.metadata("t").await;
    assert_eq!(
        limit(&mut wire, THIS_CLIENT, "producer_byte_rate", Some(RATE)).await,
        ErrorCode::None
    );

    // Three seconds' worth within an average of one: two seconds of silence.
    let records = batch(&["v".repeat(60_000).as_str()]);
    let sent = Instant::now();
    wire.send(9, produce_request("t", records, 1)).await;
    wire.send(4, ApiVersionsRequest::default()).await;
    let ResponseBody::Produce(produced) = wire.receive().await else {
        panic!("the produce is first")
    };
    let answered = sent.elapsed();
    assert_eq!(produced.responses[0].partition_responses[0].error_code, 0);
    let throttle = Duration::from_millis(u64::try_from(produced.throttle_time_ms).unwrap());
    assert!((1_900..=2_200).contains(&throttle.as_millis()), "{throttle:?}");
    assert!(answered < throttle, "answered at once, not after {answered:?}");

    // The next request lies in the socket until the time is over; other clients are served meanwhile.
    other.metadata("t").await;
    assert!(
        sent.elapsed() < throttle,
        "another connection waited: {:?}",
        sent.elapsed()
    );
    wire.receive().await;
    let silent = sent.elapsed();
    assert!(silent >= throttle, "read again after {silent:?} of {throttle:?}");

    assert_eq!(
        limit(&mut wire, THIS_CLIENT, "producer_byte_rate", None).await,
        ErrorCode::None
    );
    let records = batch(&["v".repeat(60_000).as_str()]);
    assert_eq!(
        wire.call(9, produce_request("t", records, 1))
            .await
            .throttle_time_ms,
        0
    );
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_10_records_that_are_sent_from_their_file_count_against_the_quota() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = node(&dir, &SHORT_WINDOW).await;
    let mut wire = Wire::connect(address).await;
    wire.metadata("t").await;
    let value = "v".repeat(600_000);
    wire.produce("t", &[&value]).await;
    limit(&mut wire, THIS_CLIENT, "consumer_byte_rate", Some(400_000.0)).await;
    let answer = wire.call(12, fetch_request("t", 0)).await;
    assert!(values(&answer.responses[0].partitions[0]) == [value]);
    assert!(answer.throttle_time_ms > 0);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_10_a_consumer_above_its_quota_gets_an_empty_answer_and_the_data_later() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = node(&dir, &SHORT_WINDOW).await;
    let mut wire = Wire::connect(address).await;
    wire.metadata("t").await;
    let value = "v".repeat(15_000);
    for _ in 0..2 {
        wire.produce("t", &[&value]).await;
    }
    limit(&mut wire, THIS_CLIENT, "consumer_byte_rate", Some(RATE)).await;
    let one_batch = |from: i64| FetchRequest {
        max_bytes: 16_000,
        ..fetch_request("t", from)
    };
    let first = wire.call(12, one_batch(0)).await;
    assert_eq!(
        (
            first.throttle_time_ms,
            values(&first.responses[0].partitions[0]).len()
        ),
        (0, 1)
    );
    let second = wire.call(12, one_batch(1)).await;
    assert_eq!(
        (second.error_code, second.responses.len()),
        (0, 0),
        "an answer without data"
    );
    assert!(second.throttle_time_ms > 0);
    // Asked again and again it stays silent as long as it said each time, and in the end gives the data.
    let mut throttle_time_ms = second.throttle_time_ms;
    let data = loop {
        let waited = Instant::now();
        let next = wire.call(12, one_batch(1)).await;
        let silent = waited.elapsed();
        // The node's timer began when it answered, a moment before the answer was read here.
        assert!(
            silent.as_millis() + 50 >= throttle_time_ms as u128,
            "{silent:?} of {throttle_time_ms}"
        );
        match next.responses.first() {
            Some(topic) => break values(&topic.partitions[0]),
            None => throttle_time_ms = next.throttle_time_ms,
        }
        assert!(
            throttle_time_ms > 0,
            "an answer without data and without a reason"
        );
    };
    assert_eq!(data, [value]);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_of_handlers_is_limited_and_waiting_is_free() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = node(&dir, &SHORT_WINDOW).await;
    let mut wire = Wire::connect(address).await;
    wire.metadata("t").await;
    // Half a thread: a long poll spends nothing of it.
    limit(&mut wire, THIS_CLIENT, "request_percentage", Some(50.0)).await;
    let mut poll = fetch_request("t", 0);
    poll.max_wait_ms = 1_200;
    assert_eq!(wire.call(12, poll).await.throttle_time_ms, 0);
    limit(&mut wire, THIS_CLIENT, "request_percentage", Some(1e-9)).await;
    let metadata = wire.call(12, MetadataRequest::default()).await;
    assert!(
        (1..=1_000).contains(&metadata.throttle_time_ms),
        "{}",
        metadata.throttle_time_ms
    );
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_topics_above_their_quota_are_refused_or_slowed_down() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = node(&dir, &[("controller.quota.window.num", "1")]).await;
    let mut wire = Wire::connect(address).await;
    limit(&mut wire, THIS_CLIENT, "controller_mutation_rate", Some(10.0)).await;
    let topic = |name: &str, num_partitions| CreatableTopic {
        name: name.into(),
        num_partitions,
        replication_factor: 1,
        ..Default::default()
    };
    let request = |names: [&str; 2]| CreateTopicsRequest {
        topics: vec![topic(names[0], 14), topic(names[1], 1)],
        ..Default::default()
    };
    let created = wire.call(7, request(["a", "b"])).await;
    let mut codes: Vec<_> = created.topics.iter().map(|topic| topic.error_code).collect();
    codes.sort_unstable();
    assert_eq!(codes, [0, ErrorCode::ThrottlingQuotaExceeded.code()]);
    assert!(
        (1..=400).contains(&created.throttle_time_ms),
        "{}",
        created.throttle_time_ms
    );
    // Clients that do not know the refusal are slowed down only.
    let created = wire.call(5, request(["c", "d"])).await;
    assert!(created.topics.iter().all(|topic| topic.error_code == 0));
    assert!(created.throttle_time_ms > 0);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_above_the_rate_of_their_address_are_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = node(&dir, &[]).await;
    let mut wire = Wire::connect(address).await;
    let set = limit(&mut wire, &[("ip", None)], "connection_creation_rate", Some(1.0)).await;
    assert_eq!(set, ErrorCode::None);
    // Ten in ten seconds are fine; so many more within them are not.
    let mut wires = Vec::new();
    for _ in 0..40 {
        wires.push(Wire::connect(address).await);
    }
    wires[0].metadata("t").await;
    let mut last = wires.pop().unwrap();
    let closed = tokio::time::timeout(Duration::from_secs(10), last.read_frame()).await;
    assert_eq!(closed.unwrap(), None);
    wire.metadata("t").await;
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_validated_described_and_survive_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (first, address) = node(&dir, &[]).await;
    let mut wire = Wire::connect(address).await;
    let pair: &[(&str, Option<&str>)] = &[("user", None), ("client-id", Some("app"))];
    assert_eq!(
        limit(&mut wire, pair, "producer_byte_rate", Some(1e6)).await,
        ErrorCode::None
    );
    for (entity, key, value) in [
        (pair, "producer_byte_rate", 0.0),
        (pair, "producer_byte_rate", f64::NAN),
        (pair, "producer_byte_rate", f64::INFINITY),
        (pair, "no_such_rate", 1.0),
        (&[][..], "producer_byte_rate", 1.0),
        (&[("group", None)][..], "producer_byte_rate", 1.0),
    ] {
        assert_eq!(
            limit(&mut wire, entity, key, Some(value)).await,
            ErrorCode::InvalidRequest,
            "{entity:?} {key} {value}"
        );
    }
    let validated = AlterClientQuotasRequest {
        entries: vec![entry(THIS_CLIENT, "producer_byte_rate", Some(1.0))],
        validate_only: true,
    };
    assert_eq!(wire.call(1, validated).await.entries[0].error_code, 0);
    first.shutdown().await.unwrap();

    let (second, address) = node(&dir, &[]).await;
    let mut wire = Wire::connect(address).await;
    let mut ask = async |entity_type: &str, match_type: i8, name: Option<&str>| {
        let request = DescribeClientQuotasRequest {
            components: vec![ComponentData {
                entity_type: entity_type.into(),
                match_type,
                match_name: name.map(Into::into),
            }],
            strict: false,
        };
        let response = wire.call(1, request).await;
        let entries = response.entries.unwrap_or_default();
        (ErrorCode::from_code(response.error_code), entries)
    };
    let (code, entries) = ask("client-id", 0, Some("app")).await;
    assert_eq!((code, entries.len()), (ErrorCode::None, 1));
    let names: Vec<_> = entries[0]
        .entity
        .iter()
        .map(|part| part.entity_name.as_deref())
        .collect();
    assert_eq!(names, [None, Some("app")]);
    assert_eq!(
        (&*entries[0].values[0].key, entries[0].values[0].value),
        ("producer_byte_rate", 1e6)
    );
    assert_eq!(ask("user", 1, None).await.1.len(), 1);
    assert_eq!(ask("ip", 2, None).await, (ErrorCode::None, vec![]));
    assert_eq!(ask("user", 0, None).await.0, ErrorCode::InvalidRequest);
    assert_eq!(ask("group", 2, None).await.0, ErrorCode::UnsupportedVersion);
    second.shutdown().await.unwrap();
}
