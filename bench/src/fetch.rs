//! How fast records are read back, next to what a socket carries without a broker.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use highwater_bench_kit::payload::{Ledger, PartitionOrder};
use highwater_client::{AutoOffsetReset, Client, ConsumerConfig};
use highwater_types::{Offset, TopicName, TopicPartition};
use tokio::task::JoinSet;

use crate::{
    child::Server,
    measure::{Meter, Sample},
    plan::Named,
    produce,
    topics::{self, READ_BYTES},
    workloads::{FetchWorkload, LoopbackWorkload, Reader, size},
};

/// How long a reader waits for records that are in the log.
const PATIENCE: Duration = Duration::from_secs(10);
/// Records that one poll may give out; as many as the streams runtime asks for.
const POLL_RECORDS: usize = 10_000;

impl Named for FetchWorkload {
    fn name(&self) -> String {
        let reader = match self.reader {
            Reader::Raw => "raw batches",
            Reader::Consumer => "consumer",
        };
        format!("{} {} {reader}", size(self.record_bytes), self.compression)
    }
}

/// Writes what a workload reads, and checks that it is there.
pub(crate) async fn prepare(client: &Client, workload: &FetchWorkload) -> Result<TopicName> {
    let topic = topics::create(client, "fetch", workload.partitions).await?;
    let producer = produce::producer(client, workload.compression)?;
    produce::fill(&producer, &topic, workload.record_bytes, workload.records).await?;
    producer.close().await;
    topics::verify(client, &topic, workload.partitions, workload.records).await?;
    Ok(topic)
}

/// One run over what `prepare` wrote.
pub(crate) async fn run(
    client: &Client,
    server: u32,
    topic: &TopicName,
    workload: &FetchWorkload,
) -> Result<Sample> {
    match workload.reader {
        Reader::Raw => raw(client, server, topic, workload).await,
        Reader::Consumer => consumer(client, server, topic, workload).await,
    }
}

async fn raw(client: &Client, server: u32, topic: &TopicName, workload: &FetchWorkload) -> Result<Sample> {
    let meter = Meter::start(Some(server))?;
    let mut readers = JoinSet::new();
    for partition in topics::partitions_of(topic, workload.partitions) {
        readers.spawn(read_batches(client.clone(), partition));
    }
    let (mut records, mut bytes) = (0, 0);
    while let Some(read) = readers.join_next().await {
        let (partition_records, partition_bytes) = read??;
        records += partition_records;
        bytes += partition_bytes;
    }
    let sample = meter.stop(workload.records, bytes)?;
    ensure!(
        records == workload.records,
        "{records} of {} records came back; the run does not count",
        workload.records
    );
    Ok(sample)
}

/// Reads a partition to its end; gives records and bytes. Batches must follow each other without a gap.
async fn read_batches(client: Client, partition: TopicPartition) -> Result<(u64, u64)> {
    let (mut records, mut bytes) = (0, 0);
    let mut from = Offset::ZERO;
    loop {
        let fetched = client
            .fetch_batches(&partition, from, READ_BYTES, Duration::ZERO)
            .await?;
        bytes += fetched.batches.len() as u64;
        for batch in fetched.iter() {
            let batch = batch?;
            let header = batch.header();
            ensure!(
                header.base_offset == from,
                "{partition} has no batch at offset {from}"
            );
            records += u64::try_from(header.record_count)?;
            from = header.next_offset();
        }
        if from >= fetched.high_watermark {
            return Ok((records, bytes));
        }
        ensure!(
            !fetched.batches.is_empty(),
            "{partition} ends at {from}, before its high watermark"
        );
    }
}

async fn consumer(
    client: &Client,
    server: u32,
    topic: &TopicName,
    workload: &FetchWorkload,
) -> Result<Sample> {
    let partitions = topics::partitions_of(topic, workload.partitions);
    let config = ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        max_poll_records: POLL_RECORDS,
        ..ConsumerConfig::default()
    };
    let meter = Meter::start(Some(server))?;
    let consumer = client.consumer(config)?;
    consumer.assign(partitions.clone())?;
    let wanted = workload.records;
    // On a thread of the runtime, where the client's own tasks are.
    let reading = tokio::spawn(async move {
        let mut orders: Vec<PartitionOrder> = partitions.iter().map(|_| PartitionOrder::default()).collect();
        let mut ledger = Ledger::default();
        while ledger.records() < wanted {
            let polled = consumer.poll(PATIENCE).await?;
            ensure!(
                !polled.is_empty(),
                "no record for {PATIENCE:?}; {} of {wanted} came",
                ledger.records()
            );
            for part in polled {
                let order = usize::try_from(part.topic_partition.partition.get())
                    .ok()
                    .and_then(|partition| orders.get_mut(partition))
                    .context("records of a partition that nobody asked for")?;
                for record in &part.records {
                    order.take(record.value.as_deref(), &mut ledger)?;
                }
            }
        }
        Ok((ledger, consumer))
    });
    let (ledger, consumer) = reading.await??;
    let sample = meter.stop(wanted, wanted * workload.record_bytes as u64)?;
    ledger.check(wanted)?;
    consumer.close().await;
    Ok(sample)
}

impl Named for LoopbackWorkload {
    fn name(&self) -> String {
        format!("plain TCP, {} writes", size(self.write_bytes))
    }
}

/// One run of a plain copy: what [`run`] is compared with.
pub(crate) async fn plain_copy(stream: &Server, workload: LoopbackWorkload) -> Result<Sample> {
    let meter = Meter::start(Some(stream.pid()))?;
    let address = stream.address();
    let read = tokio::task::spawn_blocking(move || read_plain(address, workload)).await??;
    ensure!(
        read == workload.total_bytes,
        "{read} of {} bytes came through the socket",
        workload.total_bytes
    );
    meter.stop(0, read)
}

fn read_plain(address: SocketAddr, workload: LoopbackWorkload) -> Result<u64> {
    let mut connection = TcpStream::connect(address)?;
    connection.write_all(&(workload.write_bytes as u64).to_le_bytes())?;
    connection.write_all(&workload.total_bytes.to_le_bytes())?;
    let mut buffer = vec![0; workload.write_bytes];
    let mut bytes = 0;
    loop {
        match connection.read(&mut buffer)? {
            0 => return Ok(bytes),
            read => bytes += read as u64,
        }
    }
}
