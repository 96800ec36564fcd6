//! The candle topology end to end on an embedded node: consumer, task, RocksDB store, changelog, output topic and
//! commits, all in this process.

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use highwater_client::{Client, IsolationLevel, OffsetSpec, ProducerRecord};
use highwater_streams::{Streams, StreamsConfig};
use highwater_types::{
    ByteString, Offset, Timestamp, TopicName, TopicPartition,
    record::{Compression, DecodeLimits},
};

use super::{Candles, Names, STORE, ticks, topology};
use crate::{
    measure::{Meter, Sample},
    produce, topics,
    workloads::CandlesWorkload,
};

/// Partitions of input and output, and so tasks; one worker has them all.
const PARTITIONS: i32 = 2;
/// How often the end is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The input in the log, and the candles it must become.
#[derive(Debug)]
pub(crate) struct Input {
    topic: TopicName,
    bytes: u64,
    expected: Candles,
    /// Where each partition ends.
    ends: Vec<(TopicPartition, Offset)>,
}

/// Writes the input once for all runs.
pub(crate) async fn prepare(client: &Client, workload: &CandlesWorkload) -> Result<Input> {
    let topic = topics::create(client, "prices", PARTITIONS).await?;
    let producer = produce::producer(client, Compression::None)?;
    let mut bytes = 0;
    for tick in ticks(workload) {
        bytes += (tick.key.len() + tick.value.len()) as u64;
        let record = ProducerRecord {
            timestamp: Some(Timestamp::new(tick.event_time_ms)),
            ..ProducerRecord::keyed(topic.clone(), tick.key, tick.value)
        };
        // What is lost shows in the ends below.
        drop(producer.send(record).await?);
    }
    producer.close().await;
    let wanted = topics::partitions_of(&topic, PARTITIONS).into_iter();
    let listed = client
        .admin()
        .list_offsets(
            wanted.map(|it| (it, OffsetSpec::Latest)),
            IsolationLevel::ReadUncommitted,
        )
        .await?;
    let ends = listed.into_iter().map(|(partition, listed)| {
        let end = listed.offset.with_context(|| format!("{partition} has no end"))?;
        Ok((partition, end))
    });
    let ends = ends.collect::<Result<Vec<_>>>()?;
    let written: i64 = ends.iter().map(|(_, end)| end.get()).sum();
    ensure!(
        u64::try_from(written)? == workload.records,
        "{written} of {} prices were written",
        workload.records
    );
    Ok(Input {
        topic,
        bytes,
        expected: Candles::expected(workload),
        ends,
    })
}

/// One run: from the start of the application to the commit that covers the last price.
pub(crate) async fn run(
    client: &Client,
    directory: &Path,
    workload: &CandlesWorkload,
    input: &Input,
) -> Result<Sample> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let application = format!("bench-candles-{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let output = topics::create(client, "candles", PARTITIONS).await?;
    let names = Names {
        application: &application,
        prices: input.topic.as_str(),
        candles: output.as_str(),
    };
    let topology = topology(names)?;
    let changelogs: Vec<TopicName> = topology.changelog_topic(STORE).cloned().into_iter().collect();
    let group = ByteString::from(application.as_str());
    let state_dir = directory.join(&application);
    let config = StreamsConfig::in_dir(&state_dir);

    let meter = Meter::start(None)?;
    let streams = Streams::start(topology, client.clone(), config).await?;
    let done = tokio::select! {
        done = committed(client, &group, &input.ends) => done,
        ended = streams.ended() => {
            ended?;
            Err(anyhow::anyhow!("the application ended before its input did"))
        }
    };
    let sample = meter.stop(workload.records, input.bytes)?;
    streams.shutdown().await?;
    done?;

    let mut candles = Candles::default();
    for partition in topics::partitions_of(&output, PARTITIONS) {
        read_candles(client, &partition, &mut candles).await?;
    }
    candles.check(&input.expected)?;
    topics::delete(client, &output).await?;
    for changelog in &changelogs {
        topics::delete(client, changelog).await?;
    }
    std::fs::remove_dir_all(&state_dir).with_context(|| format!("cannot remove {}", state_dir.display()))?;
    Ok(sample)
}

/// Waits until the group has committed all of the input. Outputs are acknowledged before positions are committed.
async fn committed(client: &Client, group: &ByteString, ends: &[(TopicPartition, Offset)]) -> Result<()> {
    let admin = client.admin();
    loop {
        let offsets = admin.list_group_offsets(group).await?;
        let reached = |(partition, end): &(TopicPartition, Offset)| {
            offsets
                .get(partition)
                .is_some_and(|committed| committed.offset >= *end)
        };
        if ends.iter().all(reached) {
            return Ok(());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn read_candles(client: &Client, partition: &TopicPartition, candles: &mut Candles) -> Result<()> {
    let mut from = Offset::ZERO;
    loop {
        let fetched = client
            .fetch_batches(partition, from, topics::READ_BYTES, Duration::ZERO)
            .await?;
        for batch in fetched.iter() {
            for record in batch?.records(DecodeLimits::default())? {
                candles.take(record.key.as_deref(), record.value.as_deref())?;
                from = record.offset.next();
            }
        }
        if from >= fetched.high_watermark {
            return Ok(());
        }
        ensure!(
            !fetched.batches.is_empty(),
            "{partition} ends at {from}, before its high watermark"
        );
    }
}
