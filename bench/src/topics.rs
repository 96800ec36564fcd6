//! Topics of single runs: made fresh, checked to the last record, and deleted.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use highwater_bench_kit::payload::{Ledger, PartitionOrder};
use highwater_client::{Client, admin::NewTopic};
use highwater_types::{Offset, PartitionId, TopicName, TopicPartition, record::DecodeLimits};
use tokio::task::JoinSet;

/// What one read of a partition asks for.
pub(crate) const READ_BYTES: usize = 1 << 20;

/// A topic's setting that keeps records whatever time they say they are from; simulated prices are from the past.
pub(crate) const KEEP: (&str, &str) = ("retention.ms", "-1");

/// Makes a topic that no other run has.
pub(crate) async fn create(client: &Client, purpose: &str, partitions: i32) -> Result<TopicName> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let topic = TopicName::new(format!("{purpose}-{number}"))?;
    let new = NewTopic::new(topic.clone(), partitions).config(KEEP.0, KEEP.1);
    for (topic, answer) in client.admin().create_topics([new]).await? {
        answer.with_context(|| format!("cannot create topic {topic}"))?;
    }
    client.metadata(std::slice::from_ref(&topic)).await?;
    Ok(topic)
}

/// Deletes a topic, so that the next run has the disk to itself.
pub(crate) async fn delete(client: &Client, topic: &TopicName) -> Result<()> {
    for (topic, answer) in client.admin().delete_topics([topic.clone()]).await? {
        answer.with_context(|| format!("cannot delete topic {topic}"))?;
    }
    Ok(())
}

/// Its partitions.
pub(crate) fn partitions_of(topic: &TopicName, partitions: i32) -> Vec<TopicPartition> {
    (0..partitions)
        .map(|partition| TopicPartition::new(topic.clone(), PartitionId::new(partition)))
        .collect()
}

/// Reads a topic back and proves that it holds the stamped records `0..records`, each once, in order within its
/// partition.
pub(crate) async fn verify(client: &Client, topic: &TopicName, partitions: i32, records: u64) -> Result<()> {
    let mut readers = JoinSet::new();
    for partition in partitions_of(topic, partitions) {
        readers.spawn(read_back(client.clone(), partition));
    }
    let mut ledger = Ledger::default();
    while let Some(read) = readers.join_next().await {
        ledger.merge(&read??);
    }
    ledger.check(records)
}

async fn read_back(client: Client, partition: TopicPartition) -> Result<Ledger> {
    let (mut ledger, mut order) = (Ledger::default(), PartitionOrder::default());
    let mut from = Offset::ZERO;
    loop {
        let fetched = client
            .fetch_batches(&partition, from, READ_BYTES, Duration::ZERO)
            .await?;
        for batch in fetched.iter() {
            let batch = batch?;
            batch.verify_crc()?;
            for record in batch.records(DecodeLimits::default())? {
                ensure!(
                    record.offset == from,
                    "{partition} has no record at offset {from}"
                );
                order.take(record.value.as_deref(), &mut ledger)?;
                from = from.next();
            }
        }
        if from >= fetched.high_watermark {
            return Ok(ledger);
        }
        ensure!(
            !fetched.batches.is_empty(),
            "{partition} ends at {from}, before its high watermark"
        );
    }
}
