//! Negotiation with the broker in memory.

use highwater_types::{Offset, PartitionId, TopicName, TopicPartition};
use highwater_wire::ErrorCode;

use super::*;
use crate::{
    ProducerConfig, ProducerRecord,
    mock::{Fault, MockBroker},
};

async fn write_one(broker: &Arc<MockBroker>) -> Result<(), crate::ProduceError> {
    let producer = broker.client().producer(ProducerConfig::default())?;
    let topic = TopicName::new("t").expect("legal");
    let delivery = producer.send(ProducerRecord::new(topic, "v")).await?;
    delivery.await.map(drop)
}

fn versions(broker: &MockBroker, api: ApiKey) -> Vec<i16> {
    broker
        .state()
        .asked
        .iter()
        .filter(|(asked, _)| *asked == api)
        .map(|(_, version)| *version)
        .collect()
}

#[tokio::test]
async fn a_broker_that_does_not_know_version_3_is_asked_again_in_version_0() {
    let broker = MockBroker::new(&[("t", 1)]);
    broker.state().refuses_api_versions_3 = true;
    write_one(&broker).await.expect("written");
    assert_eq!(versions(&broker, ApiKey::ApiVersions)[..2], [3, 0]);
}

/// Kafka 4 advertises Produce from 0 (KAFKA-18659), an old broker ends at 5.
#[tokio::test]
async fn the_highest_common_version_is_used() {
    for (offered, used) in [((0, 13), 11), ((0, 5), 5), ((3, 3), 3)] {
        let broker = MockBroker::new(&[("t", 1)]);
        broker
            .state()
            .offered
            .push((ApiKey::Produce, offered.0, offered.1));
        write_one(&broker).await.expect("written");
        assert_eq!(versions(&broker, ApiKey::Produce), [used]);
    }
}

#[tokio::test]
async fn an_api_without_a_common_version_is_an_error_at_once() {
    let broker = MockBroker::new(&[("t", 1)]);
    broker.state().offered.push((ApiKey::Produce, 0, 2));
    let error = write_one(&broker).await.expect_err("too old");
    assert!(error.to_string().contains("no version of Produce"), "{error}");
}

#[tokio::test]
async fn raw_reads_survive_a_lost_connection_and_tell_what_is_outside_the_log() {
    let broker = MockBroker::new(&[("t", 1)]);
    write_one(&broker).await.expect("written");
    broker.fail_next(ApiKey::Fetch, Fault::Lost);
    let client = broker.client();
    let tp = TopicPartition::new(TopicName::new("t").expect("legal"), PartitionId::new(0));
    let wait = Duration::from_millis(10);
    let fetched = client
        .fetch_batches(&tp, Offset::ZERO, 1000, wait)
        .await
        .expect("read");
    assert_eq!(
        (fetched.iter().count(), fetched.high_watermark),
        (1, Offset::new(1))
    );
    let error = client
        .fetch_batches(&tp, Offset::new(9), 1000, wait)
        .await
        .expect_err("outside");
    assert_eq!(error.code(), Some(ErrorCode::OffsetOutOfRange));
}
