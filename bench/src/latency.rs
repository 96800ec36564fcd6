//! How long records take from their intended moment of sending to the consumer's hands, at fixed rates.
//!
//! Open loop: record `i` is due at `i / rate`, whatever became of the ones before. A stall therefore counts against
//! every record it delayed, also those that were not sent meanwhile. A generator that falls behind the asked rate gives
//! no percentiles, for they would be those of another rate.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use highwater_bench_kit::{
    latencies::Latencies,
    pace::wait_until,
    payload::{Ledger, PartitionOrder, Payloads, Stamp},
};
use highwater_client::{
    AutoOffsetReset, Client, Consumer, ConsumerConfig, Producer, ProducerConfig, ProducerRecord,
};
use highwater_types::TopicName;

use crate::{
    measure::{Meter, Sample},
    plan::Named,
    topics,
    workloads::{LatencyWorkload, grouped, size},
};

/// Below this part of the asked rate the run is saturated.
const REACHED: f64 = 0.995;
/// Records due in this first part of a run warm the path up and are not counted.
const WARM_UP: Duration = Duration::from_millis(200);
/// How long the consumer waits for a record that was sent.
const PATIENCE: Duration = Duration::from_secs(10);

impl Named for LatencyWorkload {
    fn name(&self) -> String {
        format!("{} at {}/s", size(self.record_bytes), grouped(self.rate))
    }
}

impl LatencyWorkload {
    fn records(&self) -> u64 {
        self.rate * self.seconds
    }

    /// When a record is due, since the start.
    fn due(&self, sequence: u64) -> Duration {
        Duration::from_nanos((u128::from(sequence) * 1_000_000_000 / u128::from(self.rate)) as u64)
    }
}

/// One run.
pub(crate) async fn run(client: &Client, server: u32, workload: &LatencyWorkload) -> Result<Sample> {
    let topic = topics::create(client, "latency", 1).await?;
    let producer = client.producer(ProducerConfig {
        linger: Duration::ZERO,
        ..ProducerConfig::default()
    })?;
    producer.partition_count(&topic).await?;
    let consumer = client.consumer(ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        ..ConsumerConfig::default()
    })?;
    consumer.assign(topics::partitions_of(&topic, 1))?;
    ensure!(
        consumer.poll(WARM_UP).await?.is_empty(),
        "a new topic has records"
    );

    let meter = Meter::start(Some(server))?;
    let started = Instant::now();
    let receiving = tokio::spawn(receive(consumer, started, workload.records()));
    let sending = {
        let (producer, topic, workload) = (producer.clone(), topic.clone(), workload.clone());
        let runtime = tokio::runtime::Handle::current();
        // A thread of its own: it spins.
        std::thread::spawn(move || runtime.block_on(send(&producer, &topic, &workload, started)))
    };
    let latencies = receiving.await??;
    let last_sent = sending.join().ok().context("the sending thread panicked")??;
    let bytes = workload.records() * workload.record_bytes as u64;
    let sample = meter.stop(workload.records(), bytes)?;
    producer.close().await;
    topics::delete(client, &topic).await?;

    let reached = (workload.records() - 1) as f64 / last_sent.as_secs_f64();
    let saturated = reached < workload.rate as f64 * REACHED;
    Ok(Sample {
        latency: latencies.percentiles().filter(|_| !saturated),
        saturated_at: saturated.then_some(reached),
        ..sample
    })
}

/// Sends every record at its time or, when late, at once; gives the time of the last one.
async fn send(
    producer: &Producer,
    topic: &TopicName,
    workload: &LatencyWorkload,
    started: Instant,
) -> Result<Duration> {
    let mut payloads = Payloads::new(workload.record_bytes);
    for sequence in 0..workload.records() {
        let due = workload.due(sequence);
        let stamp = Stamp {
            sequence,
            intended_ns: u64::try_from(due.as_nanos())?,
        };
        let record = ProducerRecord::new(topic.clone(), payloads.next(stamp));
        wait_until(started + due);
        // Whether it arrives is for the consumer to say.
        drop(producer.send(record).await?);
    }
    Ok(started.elapsed())
}

/// Takes all records, checks that none is missing or out of order, and measures how late each one is.
async fn receive(consumer: Consumer, started: Instant, records: u64) -> Result<Latencies> {
    let (mut ledger, mut order) = (Ledger::default(), PartitionOrder::default());
    let mut latencies = Latencies::new();
    while ledger.records() < records {
        let polled = consumer.poll(PATIENCE).await?;
        let received = started.elapsed();
        ensure!(
            !polled.is_empty(),
            "no record for {PATIENCE:?}; {} of {records} came",
            ledger.records()
        );
        for record in polled.iter().flat_map(|part| &part.records) {
            let stamp = order.take(record.value.as_deref(), &mut ledger)?;
            let intended = Duration::from_nanos(stamp.intended_ns);
            if intended >= WARM_UP {
                latencies.record(received.saturating_sub(intended));
            }
        }
    }
    ledger.check(records)?;
    consumer.close().await;
    Ok(latencies)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_due_evenly_and_without_drift() {
        let workload = LatencyWorkload {
            record_bytes: 100,
            rate: 3,
            seconds: 1_000,
        };
        assert_eq!(workload.due(0), Duration::ZERO);
        assert_eq!(workload.due(workload.records()), Duration::from_secs(1_000));
    }
}
