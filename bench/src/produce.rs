//! How fast records are written and acknowledged.

use std::time::{Duration, Instant};

use anyhow::Result;
use highwater_bench_kit::{
    latencies::Latencies,
    payload::{Payloads, Stamp},
};
use highwater_client::{Client, ProduceError, Producer, ProducerConfig, ProducerRecord};
use highwater_types::{TopicName, record::Compression};
use tokio::task::JoinSet;

use crate::{
    measure::{Meter, Sample},
    plan::Named,
    topics,
    workloads::{ProduceWorkload, size},
};

/// How many records of a run have their acknowledgement timed.
const TIMED_RECORDS: u64 = 1_000;

impl Named for ProduceWorkload {
    fn name(&self) -> String {
        format!("{} {}", size(self.record_bytes), self.compression)
    }
}

/// One run: as many records as the client takes, flushed, then read back. `server` is the broker's process, if that is
/// another one.
pub(crate) async fn run(client: &Client, server: Option<u32>, workload: &ProduceWorkload) -> Result<Sample> {
    let topic = topics::create(client, "produce", workload.partitions).await?;
    let producer = producer(client, workload.compression)?;
    producer.partition_count(&topic).await?;
    let meter = Meter::start(server)?;
    let latencies = fill(&producer, &topic, workload.record_bytes, workload.records).await?;
    let bytes = workload.records * workload.record_bytes as u64;
    let sample = meter.stop(workload.records, bytes)?;
    producer.close().await;
    topics::verify(client, &topic, workload.partitions, workload.records).await?;
    topics::delete(client, &topic).await?;
    Ok(Sample {
        latency: latencies.percentiles(),
        ..sample
    })
}

pub(crate) fn producer(client: &Client, compression: Compression) -> Result<Producer> {
    let config = ProducerConfig {
        compression,
        ..ProducerConfig::default()
    };
    Ok(client.producer(config)?)
}

/// Writes stamped records and waits until all are acknowledged; gives the times some of them took for that.
pub(crate) async fn fill(
    producer: &Producer,
    topic: &TopicName,
    record_bytes: usize,
    records: u64,
) -> Result<Latencies> {
    // On a thread of the runtime, where the client's own tasks are.
    let (producer, topic) = (producer.clone(), topic.clone());
    tokio::spawn(async move {
        let mut timed = JoinSet::new();
        let mut payloads = Payloads::new(record_bytes);
        let every = (records / TIMED_RECORDS).max(1);
        for sequence in 0..records {
            let stamp = Stamp {
                sequence,
                intended_ns: 0,
            };
            let record = ProducerRecord::new(topic.clone(), payloads.next(stamp));
            // Reading the clock for every record would cost a tenth of what the client does with it.
            let sent = (sequence % every == 0).then(Instant::now);
            let delivery = producer.send(record).await?;
            if let Some(sent) = sent {
                timed.spawn(async move { delivery.await.map(|_| sent.elapsed()) });
            }
        }
        producer.flush().await;
        let mut latencies = Latencies::new();
        while let Some(timed) = timed.join_next().await {
            let latency: Result<Duration, ProduceError> = timed?;
            latencies.record(latency?);
        }
        Ok(latencies)
    })
    .await?
}
