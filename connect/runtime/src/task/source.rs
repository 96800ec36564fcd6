//! A source task: poll, convert, produce, and store source offsets once the records are in the log.
//!
//! At least once: offsets follow the acknowledged records, so a crash in between repeats records and loses none. A
//! transactional producer would put both into one transaction; `Transit::store` is where that goes.
//!
//! # Invariants
//! - A source offset is stored only after its record, and every earlier one of its source partition, is acknowledged.
//! - `committed` tells the task only what is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use highwater_client::{
    ProduceError, Producer, ProducerConfig, ProducerRecord, RecordMetadata, admin::NewTopic,
};
use highwater_connect_api::{
    ConverterError, SourceContext, SourceOffset, SourcePartition, SourceRecord, SourceTask, TaskError,
    TopicName,
};
use tokio::time::Instant;

use super::ledger::{Ledger, Ticket};
use super::{Retry, TaskContext, TaskFailure, pause};
use crate::config::{SourceTopic, Topics};
use crate::log::ensure_topic;

/// Records on their way to the log before the task is polled again.
const MAX_IN_FLIGHT: usize = 10_000;

type InFlight = FuturesUnordered<BoxFuture<'static, (Ticket, Result<RecordMetadata, ProduceError>)>>;

pub(crate) async fn run(context: &TaskContext, mut task: Box<dyn SourceTask>) -> Result<(), TaskFailure> {
    let started = start(context, &mut *task).await;
    let outcome = match started {
        Ok(true) => {
            let mut run = SourceRun::new(context, &mut *task)?;
            let outcome = run.work().await;
            // Also after a failure: what is acknowledged need not be read again.
            let finished = run.finish().await;
            outcome.and(finished)
        }
        Ok(false) => Ok(()),
        Err(failure) => Err(failure),
    };
    task.stop().await;
    outcome
}

/// Starts the task at its stored offsets; false when asked to stop before that worked.
async fn start(context: &TaskContext, task: &mut dyn SourceTask) -> Result<bool, TaskFailure> {
    let mut retry = Retry::new(context.config.retry, "start");
    loop {
        let source_context = SourceContext {
            connector: context.id.connector.clone(),
            task: context.id.task,
            offsets: context.shared.source_offsets(&context.id.connector).await?,
        };
        match task.start(source_context, &context.settings).await {
            Ok(()) => return Ok(true),
            Err(error) => {
                let wait = retry.after(context, error)?;
                if !pause(context, wait).await {
                    return Ok(false);
                }
            }
        }
    }
}

struct SourceRun<'a> {
    context: &'a TaskContext,
    task: &'a mut dyn SourceTask,
    topic: SourceTopic,
    producer: Producer,
    transit: Transit<'a>,
    ready_topics: BTreeSet<TopicName>,
    retry: Retry,
}

/// Records between the task and the log, apart from the task so that both can be waited for at once.
struct Transit<'a> {
    context: &'a TaskContext,
    in_flight: InFlight,
    ledger: Ledger,
    /// Storable, and not known to be stored.
    unstored: BTreeMap<SourcePartition, SourceOffset>,
    /// Stored, and the task not told yet.
    stored: BTreeMap<SourcePartition, SourceOffset>,
    next_store: Instant,
    /// Counts records; kept, because looking a counter up costs more than counting.
    written: metrics::Counter,
}

enum Polled {
    Records(Result<Vec<SourceRecord>, TaskError>),
    Stop,
}

impl<'a> SourceRun<'a> {
    fn new(context: &'a TaskContext, task: &'a mut dyn SourceTask) -> Result<Self, TaskFailure> {
        let topic = match &context.config.topics {
            Topics::Source(topic) => topic.clone(),
            Topics::Sink(_) => SourceTopic::default(), // A source never has these.
        };
        let producer = context
            .shared
            .client
            .producer(ProducerConfig::default())
            .map_err(ProduceError::from)?;
        Ok(Self {
            context,
            task,
            topic,
            producer,
            transit: Transit {
                context,
                in_flight: InFlight::new(),
                ledger: Ledger::default(),
                unstored: BTreeMap::new(),
                stored: BTreeMap::new(),
                next_store: Instant::now() + context.shared.config.flush_interval,
                written: context.counter("highwater_connect_source_written_records_total"),
            },
            ready_topics: BTreeSet::new(),
            retry: Retry::new(context.config.retry, "poll"),
        })
    }

    async fn work(&mut self) -> Result<(), TaskFailure> {
        self.context.report_activity().await;
        while !self.context.stop.is_cancelled() {
            if self.context.is_paused() && !self.wait_while_paused().await? {
                break;
            }
            self.tell_committed().await?;
            match self.transit.poll(self.task).await? {
                Polled::Stop => break,
                Polled::Records(Ok(records)) => {
                    self.retry.succeeded();
                    self.context
                        .count("highwater_connect_source_polled_records_total", records.len());
                    for record in records {
                        self.submit(record).await?;
                    }
                }
                Polled::Records(Err(error)) => {
                    let wait = self.retry.after(self.context, error)?;
                    if !self.transit.rest(wait).await? {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// False when asked to stop.
    async fn wait_while_paused(&mut self) -> Result<bool, TaskFailure> {
        self.context.report_activity().await;
        let mut paused = self.context.paused.clone();
        while *paused.borrow_and_update() {
            self.producer.flush().await;
            self.transit.drain().await?;
            self.tell_committed().await?;
            tokio::select! {
                () = self.context.stop.cancelled() => return Ok(false),
                changed = paused.changed() => if changed.is_err() { return Ok(false) },
            }
        }
        self.context.report_activity().await;
        Ok(true)
    }

    async fn tell_committed(&mut self) -> Result<(), TaskFailure> {
        let stored = std::mem::take(&mut self.transit.stored);
        if stored.is_empty() {
            return Ok(());
        }
        match self.task.committed(&stored).await {
            Ok(()) => Ok(()),
            Err(error @ TaskError::Retriable { .. }) => {
                // Told again, with newer offsets, after the next store.
                tracing::info!(connector = %self.context.id.connector, %error, "source did not take the commit");
                for (partition, offset) in stored {
                    self.transit.stored.entry(partition).or_insert(offset);
                }
                Ok(())
            }
            Err(source) => Err(TaskFailure::Task {
                stage: "commit",
                source,
            }),
        }
    }

    async fn submit(&mut self, record: SourceRecord) -> Result<(), TaskFailure> {
        let topic = record.topic.or_else(|| self.topic.name.clone());
        let topic = topic.ok_or(TaskFailure::NoTopic)?;
        if !self.ready_topics.contains(&topic) {
            self.create(&topic).await?;
        }
        let ticket = self
            .transit
            .ledger
            .submit(record.source_partition, record.source_offset);
        let config = &self.context.config;
        let key = encoded("key", config.key.encode(&record.key), &topic);
        let value = encoded("value", config.value.encode(&record.value), &topic);
        let (key, value) = match (key, value) {
            (Ok(key), Ok(value)) => (key, value),
            (Err(failure), _) | (_, Err(failure)) => return self.transit.pass_over(&ticket, failure),
        };
        let sent = self
            .producer
            .send(ProducerRecord {
                topic,
                partition: record.partition,
                key,
                value,
                headers: record.headers,
                timestamp: record.timestamp,
            })
            .await;
        match sent {
            Ok(delivery) => {
                let settled = async move { (ticket, delivery.await) };
                self.transit.in_flight.push(Box::pin(settled));
                while self.transit.in_flight.len() >= MAX_IN_FLIGHT {
                    self.transit.settle_next().await?;
                }
                Ok(())
            }
            Err(error) => self.transit.undelivered(&ticket, error),
        }
    }

    async fn create(&mut self, topic: &TopicName) -> Result<(), TaskFailure> {
        let configs = self.topic.config.iter();
        let new = NewTopic {
            name: topic.clone(),
            partitions: self.topic.partitions,
            replication_factor: None,
            configs: configs
                .map(|(k, v)| (k.as_str().into(), v.as_str().into()))
                .collect(),
        };
        ensure_topic(&self.context.shared.client, new).await?;
        self.ready_topics.insert(topic.clone());
        Ok(())
    }

    /// Waits for everything under way, stores offsets and tells the task.
    async fn finish(&mut self) -> Result<(), TaskFailure> {
        self.producer.flush().await;
        self.transit.drain().await?;
        self.tell_committed().await
    }
}

fn encoded<T>(
    part: &'static str,
    outcome: Result<T, ConverterError>,
    topic: &TopicName,
) -> Result<T, TaskFailure> {
    outcome.map_err(|source| TaskFailure::Encode {
        part,
        topic: topic.to_string(),
        source,
    })
}

impl Transit<'_> {
    /// Polls the task while acknowledgements are taken and offsets stored.
    async fn poll(&mut self, task: &mut dyn SourceTask) -> Result<Polled, TaskFailure> {
        let stop = self.context.stop.clone();
        let mut poll = pin!(task.poll());
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(Polled::Stop),
                records = &mut poll => return Ok(Polled::Records(records)),
                moved = self.step() => moved?,
            }
        }
    }

    /// Waits while acknowledgements are taken and offsets stored; false when asked to stop.
    async fn rest(&mut self, wait: Duration) -> Result<bool, TaskFailure> {
        let stop = self.context.stop.clone();
        let until = Instant::now() + wait;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(false),
                () = tokio::time::sleep_until(until) => return Ok(true),
                moved = self.step() => moved?,
            }
        }
    }

    /// The next acknowledgement, or the next store. Safe to drop: a store that was cut off is done again.
    async fn step(&mut self) -> Result<(), TaskFailure> {
        let next_store = self.next_store;
        tokio::select! {
            Some((ticket, outcome)) = self.in_flight.next(), if !self.in_flight.is_empty() => {
                self.settled(&ticket, outcome)?;
                // A batch is acknowledged as a whole: what is ready is taken without waiting for it one by one.
                while let Some(Some((ticket, outcome))) = self.in_flight.next().now_or_never() {
                    self.settled(&ticket, outcome)?;
                }
                Ok(())
            }
            () = tokio::time::sleep_until(next_store) => self.store().await,
        }
    }

    async fn settle_next(&mut self) -> Result<(), TaskFailure> {
        match self.in_flight.next().await {
            Some((ticket, outcome)) => self.settled(&ticket, outcome),
            None => Ok(()),
        }
    }

    fn settled(
        &mut self,
        ticket: &Ticket,
        outcome: Result<RecordMetadata, ProduceError>,
    ) -> Result<(), TaskFailure> {
        match outcome {
            Ok(_) => {
                self.written.increment(1);
                self.ledger.settle(ticket);
                Ok(())
            }
            Err(error) => self.undelivered(ticket, error),
        }
    }

    /// Only a record that is at fault itself may be passed over; anything else would lose data.
    fn undelivered(&mut self, ticket: &Ticket, error: ProduceError) -> Result<(), TaskFailure> {
        match error {
            error @ ProduceError::RecordTooLarge { .. } => self.pass_over(ticket, error.into()),
            error => Err(error.into()),
        }
    }

    fn pass_over(&mut self, ticket: &Ticket, failure: TaskFailure) -> Result<(), TaskFailure> {
        if !self.context.config.errors.tolerates_bad_records {
            return Err(failure);
        }
        let error = super::trace(&failure);
        tracing::warn!(connector = %self.context.id.connector, task = self.context.id.task, %error, "record passed over");
        self.context.count("highwater_connect_skipped_records_total", 1);
        self.ledger.settle(ticket);
        Ok(())
    }

    async fn store(&mut self) -> Result<(), TaskFailure> {
        self.next_store = Instant::now() + self.context.shared.config.flush_interval;
        self.unstored.extend(self.ledger.take_storable());
        if self.unstored.is_empty() {
            return Ok(());
        }
        let connector = &self.context.id.connector;
        self.context
            .shared
            .store_offsets(connector, &self.unstored)
            .await?;
        self.stored.extend(std::mem::take(&mut self.unstored));
        Ok(())
    }

    /// Waits for every acknowledgement and stores what became storable.
    async fn drain(&mut self) -> Result<(), TaskFailure> {
        let mut outcome = Ok(());
        while let Some((ticket, settled)) = self.in_flight.next().await {
            outcome = outcome.and(self.settled(&ticket, settled));
        }
        self.store().await?;
        outcome
    }
}
