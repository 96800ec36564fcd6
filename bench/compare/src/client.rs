//! The client of both systems: librdkafka, told the same things.
//!
//! What is set beside a workload's settings: no Nagle delay, a queue that holds a second of records, and no pause of a
//! second when the consumer's queue is full (librdkafka's default, which would measure the pause).

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{ClientContext, DefaultClientContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::workloads::ClientSettings;

/// How long anything may take to be acknowledged or to arrive.
pub(crate) const PATIENCE: Duration = Duration::from_secs(180);
/// Topics that one request creates: Kafka's controller refuses more than 10,000 records at once.
const TOPICS_PER_REQUEST: usize = 20;
/// Sent records between two looks at what was acknowledged.
const SENDS_PER_POLL: u64 = 1_000;

fn base(address: SocketAddr) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address.to_string())
        .set("client.id", "compare")
        .set("broker.address.family", "v4")
        .set("socket.nagle.disable", "true");
    config
}

/// What a topic is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TopicSpec {
    pub(crate) partitions: i32,
    /// Every acknowledgement waits for the disk.
    pub(crate) durable: bool,
}

/// Creates topics and waits until every partition has a leader.
pub(crate) fn create_topics(address: SocketAddr, names: &[String], spec: TopicSpec) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = base(address).create()?;
    let options = AdminOptions::new()
        .request_timeout(Some(PATIENCE))
        .operation_timeout(Some(PATIENCE));
    for names in names.chunks(TOPICS_PER_REQUEST) {
        let topics: Vec<NewTopic<'_>> = names
            .iter()
            .map(|name| {
                let topic = NewTopic::new(name, spec.partitions, TopicReplication::Fixed(1));
                if spec.durable {
                    topic.set("flush.messages", "1")
                } else {
                    topic
                }
            })
            .collect();
        for created in block_on(admin.create_topics(&topics, &options))? {
            if let Err((name, error)) = created {
                bail!("cannot create topic {name}: {error}");
            }
        }
    }
    let partitions = names.len() * usize::try_from(spec.partitions)?;
    wait_for_leaders(&admin, names, partitions)
}

fn wait_for_leaders(
    admin: &AdminClient<DefaultClientContext>,
    names: &[String],
    partitions: usize,
) -> Result<()> {
    let began = Instant::now();
    loop {
        let only = if let [name] = names {
            Some(name.as_str())
        } else {
            None
        };
        let metadata = admin.inner().fetch_metadata(only, PATIENCE)?;
        let led: usize = metadata
            .topics()
            .iter()
            .filter(|topic| names.iter().any(|name| name == topic.name()))
            .map(|topic| {
                topic
                    .partitions()
                    .iter()
                    .filter(|part| part.leader() >= 0)
                    .count()
            })
            .sum();
        if led == partitions {
            return Ok(());
        }
        ensure!(
            began.elapsed() < PATIENCE,
            "{led} of {partitions} partitions have a leader after {PATIENCE:?}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Deletes topics, so that the next run has the disk to itself.
pub(crate) fn delete_topics(address: SocketAddr, names: &[&str]) -> Result<()> {
    let admin: AdminClient<DefaultClientContext> = base(address).create()?;
    let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
    for deleted in block_on(admin.delete_topics(names, &options))? {
        if let Err((name, error)) = deleted {
            bail!("cannot delete topic {name}: {error}");
        }
    }
    Ok(())
}

/// What became of the records.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    acknowledged: AtomicU64,
    failed: AtomicU64,
    first_error: Mutex<Option<String>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                if let Ok(mut first) = self.first_error.lock() {
                    first.get_or_insert_with(|| error.to_string());
                }
            }
        }
    }
}

/// A producer that counts what was acknowledged.
pub(crate) struct Sender {
    producer: BaseProducer<Deliveries>,
    sent: u64,
    noted: u64,
}

impl Sender {
    pub(crate) fn new(address: SocketAddr, settings: &ClientSettings, compression: &str) -> Result<Self> {
        let mut config = base(address);
        config
            .set("linger.ms", settings.linger_ms.to_string())
            .set("batch.size", settings.batch_bytes.to_string())
            .set("batch.num.messages", settings.batch_records.to_string())
            .set("acks", &settings.acks)
            .set("enable.idempotence", settings.idempotent.to_string())
            .set("compression.type", compression)
            .set("queue.buffering.max.messages", "1000000")
            .set("queue.buffering.max.kbytes", "524288");
        let producer = config.create_with_context(Deliveries::default())?;
        Ok(Sender {
            producer,
            sent: 0,
            noted: 0,
        })
    }

    /// Connects, learns of the topic and sends a record to a topic beside it, so that none of this is part of what is
    /// measured: an idempotent producer of librdkafka asks for its id when it starts, and where no connection is up at that
    /// moment it asks again after half a second, up to twice on a quick server.
    pub(crate) fn warm(&mut self, address: SocketAddr, topic: &str) -> Result<()> {
        let beside = format!("{topic}-warm");
        let spec = TopicSpec {
            partitions: 1,
            durable: false,
        };
        create_topics(address, std::slice::from_ref(&beside), spec)?;
        self.producer.client().fetch_metadata(Some(topic), PATIENCE)?;
        self.send(&beside, 0, b"warm")?;
        self.finish()?;
        self.producer.context().acknowledged.store(0, Ordering::Relaxed);
        self.sent = 0;
        Ok(())
    }

    /// Sends; waits while the queue is full.
    pub(crate) fn send(&mut self, topic: &str, partition: i32, value: &[u8]) -> Result<()> {
        let began = Instant::now();
        let mut record = BaseRecord::<(), [u8]>::to(topic)
            .partition(partition)
            .payload(value);
        loop {
            match self.producer.send(record) {
                Ok(()) => break,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    ensure!(
                        began.elapsed() < PATIENCE,
                        "the producer's queue is full for {PATIENCE:?}"
                    );
                    self.producer.poll(Duration::from_millis(1));
                    record = back;
                }
                Err((error, _)) => return Err(error).context("cannot send a record"),
            }
        }
        self.sent += 1;
        if self.sent.is_multiple_of(SENDS_PER_POLL) {
            self.serve();
        }
        Ok(())
    }

    /// Takes acknowledgements that are there.
    pub(crate) fn serve(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Tells of every record that was acknowledged since the last call, by its number. Right for a single partition, whose
    /// records are acknowledged in order.
    pub(crate) fn note_acknowledged(&mut self, mut note: impl FnMut(u64)) {
        self.serve();
        let acknowledged = self.producer.context().acknowledged.load(Ordering::Relaxed);
        (self.noted..acknowledged).for_each(&mut note);
        self.noted = acknowledged;
    }

    /// Waits for every acknowledgement.
    ///
    /// # Errors
    /// When a record was not acknowledged.
    pub(crate) fn finish(&self) -> Result<()> {
        self.producer
            .flush(PATIENCE)
            .context("not all records were acknowledged")?;
        self.serve();
        let deliveries = self.producer.context();
        let acknowledged = deliveries.acknowledged.load(Ordering::Relaxed);
        let first_error = deliveries.first_error.lock().ok().and_then(|first| first.clone());
        ensure!(
            acknowledged == self.sent,
            "{acknowledged} of {} records were acknowledged ({} failed, the first with: {}); the run does not count",
            self.sent,
            deliveries.failed.load(Ordering::Relaxed),
            first_error.as_deref().unwrap_or("nothing")
        );
        Ok(())
    }
}

/// A consumer at the beginning of all partitions of some topics.
pub(crate) struct Receiver {
    consumer: BaseConsumer,
}

impl Receiver {
    /// Assigned, but nothing is asked for before the first `next`.
    pub(crate) fn new(address: SocketAddr, topics: &[String], partitions: i32) -> Result<Self> {
        let mut config = base(address);
        config
            .set("group.id", "compare")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "error")
            .set("fetch.wait.max.ms", "500")
            .set("fetch.queue.backoff.ms", "1")
            .set("queued.max.messages.kbytes", "131072");
        let consumer: BaseConsumer = config.create()?;
        let mut assignment = TopicPartitionList::new();
        for topic in topics {
            for partition in 0..partitions {
                assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
            }
        }
        if let [topic] = topics {
            consumer.fetch_metadata(Some(topic), PATIENCE)?;
        }
        consumer.assign(&assignment)?;
        Ok(Receiver { consumer })
    }

    /// Hands the next record to `take`.
    pub(crate) fn next<T>(&self, take: impl FnOnce(i32, &[u8]) -> Result<T>) -> Result<T> {
        let polled = self.consumer.poll(PATIENCE);
        let message = polled.with_context(|| format!("no record for {PATIENCE:?}"))??;
        take(message.partition(), message.payload().unwrap_or_default())
    }
}
