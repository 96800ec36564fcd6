//! `kill -9` under load: what was acknowledged is there afterwards, in order, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use highwater_client::{
    AutoOffsetReset, Client, ClientConfig, ConsumerConfig, ProducerConfig, ProducerRecord, admin::NewTopic,
};
use highwater_types::{PartitionId, TopicName, TopicPartition};

use crate::support::Dev;

const PARTITION: PartitionId = PartitionId::new(0);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_records_survive_repeated_kills_in_order_and_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let topic = TopicName::new("crash")?;
    let mut node = tokio::task::block_in_place(|| Dev::start(folder.path()))?;
    let kafka = node.kafka;
    let client = Client::connect(ClientConfig::new([kafka.to_string()])).await?;
    for (_, answer) in client
        .admin()
        .create_topics([NewTopic::new(topic.clone(), 1)])
        .await?
    {
        answer?;
    }
    let acknowledged = Arc::new(AtomicU64::new(0));
    let producing = tokio::spawn(produce_numbers(
        client.clone(),
        topic.clone(),
        Arc::clone(&acknowledged),
    ));
    for round in 1..=3u64 {
        // Let the load get going before each kill.
        let target = acknowledged.load(Ordering::Acquire) + 2_000 * round;
        while acknowledged.load(Ordering::Acquire) < target {
            anyhow::ensure!(!producing.is_finished(), "the producer gave up");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::task::block_in_place(|| node.kill())?;
        node = tokio::task::block_in_place(|| Dev::start_on(folder.path(), kafka, &[]))?;
    }
    let target = acknowledged.load(Ordering::Acquire) + 1_000;
    while acknowledged.load(Ordering::Acquire) < target {
        anyhow::ensure!(!producing.is_finished(), "the producer gave up");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    producing.abort();
    let _ = producing.await;
    let known = acknowledged.load(Ordering::Acquire);
    let read = read_numbers(kafka.to_string(), topic, known).await?;
    for (index, number) in read.iter().enumerate() {
        assert_eq!(
            *number, index as u64,
            "lost, repeated or out of order at index {index}"
        );
    }
    assert!(
        read.len() as u64 >= known,
        "{known} were acknowledged and {} are there",
        read.len()
    );
    tokio::task::block_in_place(|| node.stop())
}

/// Numbers from 0 in one partition, idempotent; counts those acknowledged without a gap.
async fn produce_numbers(client: Client, topic: TopicName, acknowledged: Arc<AtomicU64>) -> Result<()> {
    let producer = client.producer(ProducerConfig::default())?;
    let (sender, mut deliveries) = tokio::sync::mpsc::channel(500);
    let count = tokio::spawn(async move {
        while let Some(delivery) = deliveries.recv().await {
            let delivery: highwater_client::Delivery = delivery;
            delivery.await?;
            acknowledged.fetch_add(1, Ordering::AcqRel);
        }
        Ok::<_, highwater_client::ProduceError>(())
    });
    for number in 0u64.. {
        let mut record = ProducerRecord::new(topic.clone(), number.to_string());
        record.partition = Some(PARTITION);
        if sender.send(producer.send(record).await?).await.is_err() {
            break;
        }
    }
    count.await??;
    Ok(())
}

async fn read_numbers(bootstrap: String, topic: TopicName, at_least: u64) -> Result<Vec<u64>> {
    let client = Client::connect(ClientConfig::new([bootstrap])).await?;
    let config = ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        enable_auto_commit: false,
        max_poll_records: 10_000,
        ..ConsumerConfig::default()
    };
    let consumer = client.consumer(config)?;
    consumer.assign([TopicPartition::new(topic, PARTITION)])?;
    let mut numbers = Vec::new();
    let mut idle = 0;
    while (numbers.len() as u64) < at_least || idle < 2 {
        let polled = consumer.poll(Duration::from_secs(1)).await?;
        idle = if polled.is_empty() { idle + 1 } else { 0 };
        anyhow::ensure!(idle < 15, "{} of {at_least} records came", numbers.len());
        for record in polled.iter().flat_map(|partition| &partition.records) {
            let text = record.value.as_ref().context("a value")?;
            numbers.push(std::str::from_utf8(text)?.parse()?);
        }
    }
    Ok(numbers)
}
