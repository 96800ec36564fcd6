//! The producer against the broker in memory: order, repeats, sequences, splitting, limits.

use std::time::Duration;

use futures::future::join_all;
use highwater_types::{ProducerEpoch, TopicName, record::RecordBatch};
use highwater_wire::{ApiKey, ErrorCode};

use super::*;
use crate::mock::{Fault, MockBroker};

fn topic() -> TopicName {
    TopicName::new("t").expect("legal")
}

/// One record per batch, so that every record is a request of its own.
fn one_by_one() -> ProducerConfig {
    ProducerConfig {
        batch_bytes: 1,
        linger: Duration::ZERO,
        ..ProducerConfig::default()
    }
}

async fn send_numbers(producer: &Producer, numbers: std::ops::Range<u32>) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for number in numbers {
        let record = ProducerRecord::new(topic(), number.to_string());
        deliveries.push(producer.send(record).await.expect("buffered"));
    }
    deliveries
}

async fn offsets(deliveries: Vec<Delivery>) -> Vec<i64> {
    let results = join_all(deliveries).await;
    results
        .into_iter()
        .map(|r| r.expect("written").offset.expect("told").get())
        .collect()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn records_are_acknowledged_with_their_offsets_and_batched() {
    let broker = MockBroker::new(&[("t", 1)]);
    let producer = broker
        .client()
        .producer(ProducerConfig::default())
        .expect("starts");
    let deliveries = send_numbers(&producer, 0..100).await;
    producer.flush().await;
    assert_eq!(offsets(deliveries).await, (0..100).collect::<Vec<i64>>());
    assert_eq!(broker.values("t", 0), numbers(0..100));
    assert!(broker.asked(ApiKey::Produce) < 20, "lingering makes batches");
    producer.close().await;
}

#[tokio::test]
async fn equal_keys_go_to_the_partition_kafka_chooses() {
    let broker = MockBroker::new(&[("t", 10)]);
    let producer = broker.client().producer(one_by_one()).expect("starts");
    let delivery = producer
        .send(ProducerRecord::keyed(topic(), "21", "v"))
        .await
        .expect("buffered");
    assert_eq!(delivery.await.expect("written").partition, PartitionId::new(0));
}

/// A broken connection leaves the fate of a batch open; with sequences repeating it is harmless either way.
#[tokio::test]
async fn repeats_after_lost_connections_keep_order_and_write_once() {
    for fault in [Fault::Lost, Fault::LostAnswer] {
        let broker = MockBroker::new(&[("t", 1)]);
        let producer = broker.client().producer(one_by_one()).expect("starts");
        assert_eq!(offsets(send_numbers(&producer, 0..1).await).await, [0]);
        broker.fail_next(ApiKey::Produce, fault);
        broker.fail_next(ApiKey::Produce, fault);
        let deliveries = send_numbers(&producer, 1..20).await;
        assert_eq!(
            offsets(deliveries).await,
            (1..20).collect::<Vec<i64>>(),
            "{fault:?}"
        );
        assert_eq!(broker.values("t", 0), numbers(0..20), "{fault:?}");
    }
}

#[tokio::test]
async fn a_batch_refused_for_now_does_not_let_later_ones_pass() {
    for code in [ErrorCode::NotLeaderOrFollower, ErrorCode::NotEnoughReplicas] {
        let broker = MockBroker::new(&[("t", 1)]);
        let producer = broker.client().producer(one_by_one()).expect("starts");
        broker.fail_next(ApiKey::Produce, Fault::Refuse(code));
        let deliveries = send_numbers(&producer, 0..20).await;
        offsets(deliveries).await;
        assert_eq!(broker.values("t", 0), numbers(0..20), "{code:?}");
    }
}

#[tokio::test]
async fn without_idempotence_order_is_kept_too() {
    let broker = MockBroker::new(&[("t", 1)]);
    let config = ProducerConfig {
        idempotence: false,
        ..one_by_one()
    };
    let producer = broker.client().producer(config).expect("starts");
    broker.fail_next(ApiKey::Produce, Fault::Refuse(ErrorCode::NotLeaderOrFollower));
    offsets(send_numbers(&producer, 0..20).await).await;
    assert_eq!(broker.values("t", 0), numbers(0..20));
    assert_eq!(broker.asked(ApiKey::InitProducerId), 0);
}

#[tokio::test]
async fn a_duplicate_the_broker_remembers_counts_as_written() {
    let broker = MockBroker::new(&[("t", 1)]);
    let producer = broker.client().producer(one_by_one()).expect("starts");
    broker.fail_next(
        ApiKey::Produce,
        Fault::DoneBut(ErrorCode::DuplicateSequenceNumber),
    );
    let delivery = send_numbers(&producer, 0..1).await.remove(0);
    assert_eq!(
        delivery.await.expect("written").offset,
        None,
        "the broker did not tell where"
    );
    assert_eq!(broker.values("t", 0), ["0"]);
}

/// After a batch failed for good the broker misses its sequence; the partition goes on under the next epoch.
#[tokio::test]
async fn a_sequence_gap_is_closed_by_a_new_epoch() {
    let broker = MockBroker::new(&[("t", 1)]);
    let producer = broker.client().producer(one_by_one()).expect("starts");
    offsets(send_numbers(&producer, 0..2).await).await;
    broker.fail_next(
        ApiKey::Produce,
        Fault::Refuse(ErrorCode::OutOfOrderSequenceNumber),
    );
    offsets(send_numbers(&producer, 2..6).await).await;
    assert_eq!(broker.values("t", 0), numbers(0..6));
    let last = broker.state().topics["t"][0]
        .batches
        .last()
        .cloned()
        .expect("written");
    let header = *RecordBatch::parse(last).expect("parses").0.header();
    assert_eq!(header.producer_epoch, Some(ProducerEpoch::new(1)));
}

#[tokio::test]
async fn a_record_refused_for_good_fails_alone() {
    let broker = MockBroker::new(&[("t", 1)]);
    let producer = broker.client().producer(one_by_one()).expect("starts");
    broker.fail_next(ApiKey::Produce, Fault::Refuse(ErrorCode::InvalidRecord));
    let mut deliveries = send_numbers(&producer, 0..5).await;
    let refused = deliveries.remove(0).await.expect_err("refused");
    assert_eq!(refused.code(), Some(ErrorCode::InvalidRecord));
    offsets(deliveries).await;
    assert_eq!(broker.values("t", 0), numbers(1..5));
}

#[tokio::test]
async fn a_batch_too_large_for_the_broker_is_split_until_it_fits() {
    let broker = MockBroker::new(&[("t", 1)]);
    broker.state().max_message_bytes = 700;
    let producer = broker
        .client()
        .producer(ProducerConfig::default())
        .expect("starts");
    let deliveries = send_numbers(&producer, 0..300).await;
    producer.flush().await;
    assert_eq!(offsets(deliveries).await, (0..300).collect::<Vec<i64>>());
    assert_eq!(broker.values("t", 0), numbers(0..300));

    let record = ProducerRecord::new(topic(), vec![b'x'; 800]);
    let delivery = producer.send(record).await.expect("buffered");
    producer.flush().await;
    assert!(
        matches!(delivery.await, Err(ProduceError::RecordTooLarge { .. })),
        "one record cannot be split"
    );
    assert_eq!(offsets(send_numbers(&producer, 300..301).await).await, [300]);
}

#[tokio::test]
async fn a_full_buffer_makes_send_wait_and_then_fail() {
    let broker = MockBroker::new(&[("t", 1)]);
    for _ in 0..1000 {
        broker.fail_next(ApiKey::Produce, Fault::Refuse(ErrorCode::NotEnoughReplicas));
    }
    let config = ProducerConfig {
        max_buffered_bytes: 1000,
        batch_bytes: 500,
        max_block: Duration::from_millis(50),
        ..ProducerConfig::default()
    };
    let producer = broker.client().producer(config).expect("starts");
    let record = || ProducerRecord::new(topic(), vec![b'x'; 600]);
    let _first = producer.send(record()).await.expect("buffered");
    assert!(matches!(
        producer.send(record()).await,
        Err(ProduceError::BufferFull { .. })
    ));
    let large = ProducerRecord::new(topic(), vec![b'x'; 2000]);
    assert!(matches!(
        producer.send(large).await,
        Err(ProduceError::RecordTooLarge { .. })
    ));
}

#[tokio::test]
async fn a_record_nobody_acknowledges_fails_after_the_delivery_timeout() {
    let broker = MockBroker::new(&[("t", 1)]);
    for _ in 0..1000 {
        broker.fail_next(ApiKey::Produce, Fault::Refuse(ErrorCode::NotEnoughReplicas));
    }
    let config = ProducerConfig {
        delivery_timeout: Duration::from_millis(80),
        ..one_by_one()
    };
    let producer = broker.client().producer(config).expect("starts");
    let delivery = send_numbers(&producer, 0..1).await.remove(0);
    let failed = delivery.await.expect_err("never acknowledged");
    assert!(
        matches!(failed, ProduceError::DeliveryTimedOut { source: Some(_), .. }),
        "{failed}"
    );
}

#[tokio::test]
async fn a_topic_that_does_not_exist_is_reported_and_one_that_appears_is_found() {
    let broker = MockBroker::new(&[]);
    let config = ProducerConfig {
        max_block: Duration::from_millis(100),
        ..one_by_one()
    };
    let producer = broker.client().producer(config).expect("starts");
    let failed = producer
        .send(ProducerRecord::new(topic(), "v"))
        .await
        .expect_err("no such topic");
    assert!(matches!(failed, ProduceError::Metadata { .. }));
    broker
        .state()
        .topics
        .insert("t".to_owned(), vec![Default::default()]);
    assert_eq!(offsets(send_numbers(&producer, 0..1).await).await, [0]);
}

#[tokio::test]
async fn a_topic_that_is_not_for_this_client_fails_at_once_and_is_found_when_that_changes() {
    let broker = MockBroker::new(&[("t", 1)]);
    broker.state().denied.insert("t".to_owned());
    let config = ProducerConfig {
        max_block: Duration::from_secs(3_600),
        ..one_by_one()
    };
    let client = broker.client();
    let producer = client.producer(config).expect("starts");
    let failed = producer
        .send(ProducerRecord::new(topic(), "v"))
        .await
        .expect_err("not allowed");
    assert!(
        matches!(&failed, ProduceError::Metadata { source, .. } if source.code() == Some(ErrorCode::TopicAuthorizationFailed)),
        "{failed:?}"
    );
    let described = client.admin().describe_topics([topic()]).await.expect("answered");
    let refused = described
        .into_iter()
        .next()
        .expect("one topic")
        .1
        .expect_err("not allowed");
    assert_eq!(refused.code(), Some(ErrorCode::TopicAuthorizationFailed));
    broker.state().denied.clear();
    assert_eq!(offsets(send_numbers(&producer, 0..1).await).await, [0]);
}

#[tokio::test]
async fn closing_sends_what_is_buffered_and_refuses_the_rest() {
    let broker = MockBroker::new(&[("t", 1)]);
    let config = ProducerConfig {
        linger: Duration::from_secs(100),
        ..ProducerConfig::default()
    };
    let producer = broker.client().producer(config).expect("starts");
    let deliveries = send_numbers(&producer, 0..3).await;
    let other = producer.clone();
    producer.close().await;
    assert_eq!(offsets(deliveries).await, [0, 1, 2]);
    assert!(matches!(
        other.send(ProducerRecord::new(topic(), "x")).await,
        Err(ProduceError::Closed)
    ));
}

#[tokio::test]
async fn acks_zero_does_not_wait_for_an_answer() {
    let broker = MockBroker::new(&[("t", 1)]);
    let config = ProducerConfig {
        acks: Acks::None,
        ..one_by_one()
    };
    let producer = broker.client().producer(config).expect("starts");
    let delivery = send_numbers(&producer, 0..1).await.remove(0);
    assert_eq!(delivery.await.expect("sent").offset, None);
    assert_eq!(broker.values("t", 0), ["0"]);
}
