//! Writing records: buffered per partition, sent in batches by one task per producer, acknowledged one by one.
//!
//! Idempotent by default: a record is written once and in order even when requests are repeated (KIP-98).
//!
//! # Invariants
//! - Records that one task sends to one partition are written in that order, retries included.
//! - Every record's [`Delivery`] resolves: written, refused, or not acknowledged within `delivery_timeout`.
//! - Bytes handed over and not yet resolved never pass `max_buffered_bytes`; `send` waits instead.
//!
//! Reading order: [`ProducerConfig`], [`Producer`], `accumulator` (what waits), `sequencing` (what order means),
//! `sender` (what is done with it).

use std::{
    num::NonZeroU32,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll},
    time::Duration,
};

use futures::future::join_all;
use highwater_types::{
    Bytes, Offset, PartitionId, Timestamp, TopicName, TopicPartition,
    partitioner::partition_for_key,
    record::{Compression, Header},
};
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    ClientError, ProduceError,
    client::{ClientCore, Retry},
    clock, limits,
    metadata::TopicMetadata,
};

mod accumulator;
mod batch;
mod sender;
mod sticky;

use accumulator::Accumulator;
use batch::OutcomeFuture;
use sticky::StickyPartitions;

/// How many replicas must have a record before it counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Acks {
    /// None: the broker does not even answer (semantic 22). Offsets stay unknown, losses unnoticed.
    None,
    /// The leader.
    Leader,
    /// All in-sync replicas. Kafka's default.
    #[default]
    All,
}

impl Acks {
    fn code(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// Settings of a producer; `Default` gives those of Kafka 4 except where a field says otherwise.
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// `acks`.
    pub acks: Acks,
    /// `enable.idempotence`; takes effect with [`Acks::All`] only, as in Kafka.
    pub idempotence: bool,
    /// `compression.type`.
    pub compression: Compression,
    /// `batch.size`, before compression. 64 KiB instead of Kafka's 16 KiB: a broker spends about a third less time
    /// per byte on them.
    pub batch_bytes: usize,
    /// `linger.ms`: how long a batch that is not full waits for more records.
    pub linger: Duration,
    /// `buffer.memory`.
    pub max_buffered_bytes: usize,
    /// `max.block.ms`: how long `send` waits for buffer space or metadata.
    pub max_block: Duration,
    /// `max.request.size`: how much one request carries. A single larger batch is still sent alone.
    pub max_request_bytes: usize,
    /// `max.in.flight.requests.per.connection`, at most 5 when idempotent.
    pub max_in_flight: usize,
    /// `delivery.timeout.ms`: from `send` to the last moment an acknowledgement counts.
    pub delivery_timeout: Duration,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            idempotence: true,
            compression: Compression::None,
            batch_bytes: 64 << 10,
            linger: Duration::from_millis(5),
            max_buffered_bytes: 32 << 20,
            max_block: Duration::from_secs(60),
            max_request_bytes: 1 << 20,
            max_in_flight: limits::MAX_IN_FLIGHT_PER_PARTITION,
            delivery_timeout: Duration::from_secs(120),
        }
    }
}

impl ProducerConfig {
    fn check(&self) -> Result<(), ClientError> {
        let refuse = |name, value: usize, problem| {
            Err(ClientError::InvalidConfig {
                name,
                value: value.to_string(),
                problem,
            })
        };
        if self.max_in_flight == 0 {
            return refuse("max.in.flight.requests.per.connection", 0, "use 1 or more");
        }
        if self.is_idempotent() && self.max_in_flight > limits::MAX_IN_FLIGHT_PER_PARTITION {
            let problem = "an idempotent producer may have at most 5 requests in flight";
            return refuse(
                "max.in.flight.requests.per.connection",
                self.max_in_flight,
                problem,
            );
        }
        if self.batch_bytes > self.max_buffered_bytes {
            return refuse("batch.size", self.batch_bytes, "use no more than buffer.memory");
        }
        if self.max_buffered_bytes > Semaphore::MAX_PERMITS.min(u32::MAX as usize) {
            return refuse("buffer.memory", self.max_buffered_bytes, "use less than 4 GiB");
        }
        Ok(())
    }

    fn is_idempotent(&self) -> bool {
        self.idempotence && self.acks == Acks::All
    }
}

/// A record to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerRecord {
    /// Where to.
    pub topic: TopicName,
    /// Which partition; `None` lets the key decide, or the producer when there is no key.
    pub partition: Option<PartitionId>,
    /// The key; equal keys go to the same partition.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone in compacted topics.
    pub value: Option<Bytes>,
    /// Headers, in order.
    pub headers: Vec<Header>,
    /// When it happened; `None` means now.
    pub timestamp: Option<Timestamp>,
}

impl ProducerRecord {
    /// A record with a value and nothing else.
    pub fn new(topic: TopicName, value: impl Into<Bytes>) -> Self {
        let value = Some(value.into());
        Self {
            topic,
            partition: None,
            key: None,
            value,
            headers: Vec::new(),
            timestamp: None,
        }
    }

    /// A record with key and value.
    pub fn keyed(topic: TopicName, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        Self {
            key: Some(key.into()),
            ..Self::new(topic, value)
        }
    }

    /// What the record takes in the buffer: its bytes and the most its varints can need.
    fn charged_bytes(&self) -> usize {
        const OVERHEAD: usize = 32;
        let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = self
            .headers
            .iter()
            .map(|h| h.key.len() + length(&h.value) + 10)
            .sum::<usize>();
        OVERHEAD + length(&self.key) + length(&self.value) + headers
    }
}

/// Where an acknowledged record stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordMetadata {
    /// Its topic.
    pub topic: TopicName,
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset; `None` with [`Acks::None`], and for a repeat that the broker recognised too late to remember the
    /// first one's place.
    pub offset: Option<Offset>,
    /// Its timestamp as the log has it.
    pub timestamp: Timestamp,
}

/// Resolves when the record is acknowledged or given up. Dropping it does not take the record back.
#[derive(Debug)]
#[must_use = "a record may fail; await the delivery or flush the producer"]
pub struct Delivery {
    outcome: OutcomeFuture,
    index: i32,
    topic_partition: TopicPartition,
    timestamp: Timestamp,
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, ProduceError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Poll::Ready(outcome) = Pin::new(&mut self.outcome).poll(cx) else {
            return Poll::Pending;
        };
        let acked = outcome
            .map_err(|_| ProduceError::Closed)
            .and_then(|outcome| outcome.of(self.index));
        Poll::Ready(acked.map(|acked| RecordMetadata {
            topic: self.topic_partition.topic.clone(),
            partition: self.topic_partition.partition,
            offset: acked.offset,
            timestamp: acked.log_append_time.unwrap_or(self.timestamp),
        }))
    }
}

/// Writes records. Cloning shares the buffer and the connections; when the last clone is dropped, what is buffered
/// is still sent in the background, while [`Producer::close`] waits for it.
#[derive(Debug, Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

/// What callers and the sender task share.
#[derive(Debug)]
struct Shared {
    core: Arc<ClientCore>,
    config: ProducerConfig,
    accumulator: Mutex<Accumulator>,
    buffer: Semaphore,
    wake: Notify,
    /// Set when the sender task has ended.
    stopped: CancellationToken,
}

impl Shared {
    fn accumulator(&self) -> MutexGuard<'_, Accumulator> {
        self.accumulator
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    sticky: StickyPartitions,
    abandon: CancellationToken,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.accumulator().close();
        self.shared.wake.notify_one();
    }
}

impl Producer {
    pub(crate) fn start(core: Arc<ClientCore>, config: ProducerConfig) -> Result<Self, ClientError> {
        config.check()?;
        let shared = Arc::new(Shared {
            accumulator: Mutex::new(Accumulator::new(&config)),
            buffer: Semaphore::new(config.max_buffered_bytes),
            wake: Notify::new(),
            stopped: CancellationToken::new(),
            core,
            config,
        });
        let abandon = CancellationToken::new();
        tokio::spawn(sender::run(shared.clone(), abandon.clone()));
        let sticky = StickyPartitions::new(shared.config.batch_bytes);
        Ok(Self {
            handle: Arc::new(Handle {
                shared,
                sticky,
                abandon,
            }),
        })
    }

    /// Buffers a record; waits only for buffer space and, the first time, for the topic's metadata.
    ///
    /// # Errors
    /// [`ProduceError::BufferFull`], [`ProduceError::Metadata`] after `max_block`; [`ProduceError::RecordTooLarge`];
    /// [`ProduceError::Closed`].
    pub async fn send(&self, record: ProducerRecord) -> Result<Delivery, ProduceError> {
        let shared = &self.handle.shared;
        let charged_bytes = record.charged_bytes();
        if charged_bytes > shared.config.max_buffered_bytes {
            return Err(ProduceError::RecordTooLarge {
                topic: record.topic,
                size_bytes: charged_bytes,
            });
        }
        let topic = match shared.core.metadata.cached(&record.topic) {
            Some(topic) => topic,
            None => self.wait_for_topic(&record.topic).await?,
        };
        let partition = self.partition(&record, &topic, charged_bytes)?;
        self.reserve(charged_bytes).await?;
        let timestamp = record.timestamp.unwrap_or_else(clock::wall_now);
        let tp = TopicPartition::new(record.topic.clone(), partition);
        let appended = shared
            .accumulator()
            .append(&tp, timestamp, &record, charged_bytes);
        let Some(appended) = appended else {
            shared.buffer.add_permits(charged_bytes);
            return Err(ProduceError::Closed);
        };
        if appended.wake_sender {
            shared.wake.notify_one();
        }
        Ok(Delivery {
            outcome: appended.outcome,
            index: appended.index,
            topic_partition: tp,
            timestamp,
        })
    }

    /// Sends everything buffered so far without lingering and waits until all of it is resolved. Whether each record
    /// was written is told by its [`Delivery`].
    pub async fn flush(&self) {
        let shared = &self.handle.shared;
        let waiting = shared.accumulator().begin_flush();
        let _end = FlushGuard { shared };
        shared.wake.notify_one();
        join_all(waiting).await;
    }

    /// Takes no more records, sends what is buffered and ends. Bounded by `delivery_timeout`.
    pub async fn close(self) {
        let shared = &self.handle.shared;
        shared.accumulator().close();
        shared.wake.notify_one();
        let grace = shared.config.delivery_timeout;
        if tokio::time::timeout(grace, shared.stopped.cancelled())
            .await
            .is_err()
        {
            self.handle.abandon.cancel();
            shared.stopped.cancelled().await;
        }
    }

    /// The partitions of a topic right now, for callers that choose partitions themselves.
    ///
    /// # Errors
    /// [`ProduceError::Metadata`] after `max_block`.
    pub async fn partition_count(&self, topic: &TopicName) -> Result<usize, ProduceError> {
        match self.handle.shared.core.metadata.cached(topic) {
            Some(topic) => Ok(topic.partitions.len()),
            None => Ok(self.wait_for_topic(topic).await?.partitions.len()),
        }
    }

    async fn wait_for_topic(&self, name: &TopicName) -> Result<Arc<TopicMetadata>, ProduceError> {
        let Shared { core, config, .. } = &*self.handle.shared;
        let mut retry = Retry::until(&core.config, Instant::now() + config.max_block);
        loop {
            let error = match core.metadata.refresh(std::slice::from_ref(name)).await {
                Ok(view) => match view.topics.get(name).filter(|topic| !topic.partitions.is_empty()) {
                    Some(topic) => return Ok(topic.clone()),
                    None => view
                        .refusal(name)
                        .unwrap_or_else(|| ClientError::UnknownPartition {
                            topic_partition: TopicPartition::new(name.clone(), PartitionId::new(0)),
                        }),
                },
                Err(error) => error,
            };
            let failed = |source| ProduceError::Metadata {
                topic: name.clone(),
                source: Box::new(source),
            };
            retry.pause(error).await.map_err(failed)?;
        }
    }

    fn partition(
        &self,
        record: &ProducerRecord,
        topic: &TopicMetadata,
        size_bytes: usize,
    ) -> Result<PartitionId, ProduceError> {
        if let Some(partition) = record.partition {
            return match topic.partition(partition) {
                Some(_) => Ok(partition),
                None => Err(ClientError::UnknownPartition {
                    topic_partition: TopicPartition::new(topic.name.clone(), partition),
                }
                .into()),
            };
        }
        let count = u32::try_from(topic.partitions.len())
            .ok()
            .and_then(NonZeroU32::new);
        match (&record.key, count) {
            (Some(key), Some(count)) => Ok(partition_for_key(key, count)),
            _ => Ok(self.handle.sticky.choose(topic, size_bytes)),
        }
    }

    async fn reserve(&self, bytes: usize) -> Result<(), ProduceError> {
        let Shared {
            buffer,
            config,
            stopped,
            ..
        } = &*self.handle.shared;
        // The configuration check keeps the buffer, and so every record in it, below 4 GiB.
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        if let Ok(reserved) = buffer.try_acquire_many(permits) {
            reserved.forget();
            return Ok(());
        }
        // Whatever is buffered has to leave before this record fits, so there is no point in lingering.
        drop(self.handle.shared.accumulator().begin_flush());
        let hurry = FlushGuard {
            shared: &self.handle.shared,
        };
        self.handle.shared.wake.notify_one();
        let reserved = tokio::select! {
            () = stopped.cancelled() => return Err(ProduceError::Closed),
            reserved = tokio::time::timeout(config.max_block, buffer.acquire_many(permits)) => reserved,
        };
        drop(hurry);
        match reserved {
            Ok(Ok(reserved)) => {
                reserved.forget();
                Ok(())
            }
            _ => Err(ProduceError::BufferFull {
                buffer_bytes: config.max_buffered_bytes,
                waited: config.max_block,
            }),
        }
    }
}

/// Lets batches linger again, even when whoever was in a hurry stops waiting.
struct FlushGuard<'a> {
    shared: &'a Shared,
}

impl Drop for FlushGuard<'_> {
    fn drop(&mut self) {
        self.shared.accumulator().end_flush();
    }
}

#[cfg(test)]
mod tests;
