//! The same client inside the process and over TCP, on one node, with a restart in between.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use highwater_broker::TopicName;
use highwater_client::admin::NewTopic;
use highwater_client::{
    AutoOffsetReset, Client, ClientConfig, ConsumerConfig, PartitionRecords, ProducerConfig, ProducerRecord,
};
use highwater_embedded::{Embedded, EmbeddedConfig};

const RECORDS: usize = 2_000;

fn topic() -> TopicName {
    TopicName::new("prices").unwrap()
}

/// Offsets seen per partition, each in order and without gaps.
#[derive(Default)]
struct Seen(BTreeMap<i32, i64>);

impl Seen {
    fn take(&mut self, polled: &[PartitionRecords]) {
        for part in polled {
            let next = self.0.entry(part.topic_partition.partition.get()).or_default();
            for record in &part.records {
                assert_eq!(record.offset.get(), *next, "in order, nothing missing");
                *next += 1;
            }
        }
    }

    fn total(&self) -> usize {
        self.0.values().sum::<i64>() as usize
    }
}

async fn produce(client: &Client, records: usize) {
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let mut deliveries = Vec::new();
    for at in 0..records {
        let record = ProducerRecord::keyed(topic(), format!("key-{}", at % 50), format!("value-{at}"));
        deliveries.push(producer.send(record).await.unwrap());
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    producer.close().await;
}

async fn consume(client: &Client, group: &'static str, records: usize) -> Seen {
    let config = ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        enable_auto_commit: false,
        ..ConsumerConfig::in_group(group)
    };
    let consumer = client.consumer(config).unwrap();
    consumer.subscribe([topic()]).unwrap();
    let mut seen = Seen::default();
    let began = Instant::now();
    while seen.total() < records && began.elapsed() < Duration::from_secs(30) {
        seen.take(&consumer.poll(Duration::from_millis(200)).await.unwrap());
    }
    consumer.commit_consumed().await.unwrap();
    consumer.close().await;
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn records_written_inside_are_read_over_tcp_and_groups_go_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig::new(dir.path()).listen("127.0.0.1:0".parse().unwrap());
    let embedded = Embedded::start(config.clone()).await.unwrap();
    let inside = embedded.client();
    let created = inside
        .admin()
        .create_topics(vec![NewTopic::new(topic(), 3)])
        .await;
    created.unwrap();
    produce(&inside, RECORDS).await;
    assert_eq!(consume(&inside, "inside", RECORDS).await.total(), RECORDS);
    let address = embedded.kafka_addr().unwrap().to_string();
    let outside = Client::connect(ClientConfig::new([address])).await.unwrap();
    assert_eq!(consume(&outside, "outside", RECORDS).await.total(), RECORDS);
    drop(outside);
    embedded.shutdown().await.unwrap();

    let embedded = Embedded::start(config).await.unwrap();
    let inside = embedded.client();
    produce(&inside, 10).await;
    // The group committed everything, so it sees the new records only.
    let consumer = inside
        .consumer(ConsumerConfig {
            auto_offset_reset: AutoOffsetReset::Earliest,
            ..ConsumerConfig::in_group("outside")
        })
        .unwrap();
    consumer.subscribe([topic()]).unwrap();
    let (mut fresh, began) = (0, Instant::now());
    while fresh < 10 && began.elapsed() < Duration::from_secs(30) {
        let polled = consumer.poll(Duration::from_millis(200)).await.unwrap();
        fresh += polled.iter().map(|part| part.records.len()).sum::<usize>();
    }
    assert_eq!(fresh, 10);
    consumer.close().await;
    embedded.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_node_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let embedded = Embedded::start(EmbeddedConfig::new(dir.path())).await.unwrap();
    let refused = Embedded::start(EmbeddedConfig::new(dir.path()))
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("in use"), "{refused}");
    embedded.shutdown().await.unwrap();
}
