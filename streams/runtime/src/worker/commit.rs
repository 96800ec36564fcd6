//! Commits, at least once: outputs and changelog deltas first, then the markers that declare them whole, then the group's
//! offsets.
//!
//! ```text
//! outputs + deltas --acknowledged--> markers (state + input positions) --acknowledged--> group offsets --> stores, now and then
//! ```
//!
//! The order is what makes a crash harmless at any point: a marker exists only when everything it stands for is in the
//! log, so input that a marker counts has left its outputs behind, and input that no marker counts is read again over
//! state that does not contain it. Group offsets only serve tasks without state, and tools.
//!
//! Everything a commit writes passes through [`Committer`], in this order, per worker. Exactly-once replaces it by one
//! that writes outputs, deltas, markers and offsets in one transaction of the worker's producer; tasks, stores and
//! restore stay as they are.

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
    sync::{Arc, Mutex, OnceLock, PoisonError, Weak},
    time::Duration,
};

use highwater_client::{CommittedOffsets, ConsumeError, Consumer, Delivery, Producer, ProducerRecord};
use highwater_streams_engine::{
    changelog::ChangelogRecord,
    operator::{OutputRecord, Partitioning},
    task::{ChangelogBatch, TaskId},
};
use highwater_types::{
    Offset, PartitionId, Timestamp, TopicName, TopicPartition, partitioner::partition_for_key,
};
use tokio::time::Instant;

use super::tasks::TaskSet;
use crate::{StreamsError, app::App, stats};

/// Writes what tasks commit.
#[derive(Debug)]
pub(super) struct Committer {
    app: Arc<App>,
    producer: Producer,
    consumer: Arc<OnceLock<Weak<Consumer>>>,
    repartitions: BTreeSet<TopicName>,
    next_purge: Mutex<Instant>,
}

/// The last record of a changelog batch.
struct Marker {
    task: TaskId,
    store: String,
    topic: TopicName,
    partition: PartitionId,
    record: ChangelogRecord,
}

impl Committer {
    pub(super) fn new(app: Arc<App>, producer: Producer, consumer: Arc<OnceLock<Weak<Consumer>>>) -> Self {
        let repartitions = app.topology.repartition_topics().cloned().collect();
        let next_purge = Mutex::new(Instant::now() + app.config.repartition_purge_interval);
        Self {
            app,
            producer,
            consumer,
            repartitions,
            next_purge,
        }
    }

    /// Sends outputs that are ready; the next commit waits for their acknowledgements.
    pub(super) async fn send_outputs(&self, set: &mut TaskSet) -> Result<(), StreamsError> {
        let mut ready = Vec::new();
        for (_, slot) in set.running_mut() {
            ready.append(&mut slot.task.take_outputs());
        }
        self.send_all(ready, &mut set.deliveries).await
    }

    /// Commits the running tasks, or some of them. False when there was nothing to commit.
    pub(super) async fn commit(
        &self,
        set: &mut TaskSet,
        only: Option<&BTreeSet<TaskId>>,
        now: Timestamp,
    ) -> Result<bool, StreamsError> {
        let started = Instant::now();
        let mut commits = Vec::new();
        for (id, slot) in set.running_mut() {
            if only.is_none_or(|only| only.contains(&id)) {
                let commit = slot
                    .task
                    .commit(now)
                    .map_err(|error| StreamsError::task(id, error))?;
                commits.extend(commit.map(|commit| (id, commit)));
                self.app
                    .counters
                    .add_drops(self.app.id(), &slot.task, &mut slot.seen_drops);
            }
        }
        if commits.is_empty() {
            self.commit_offsets(set).await?;
            self.flush_stores_if_due(set)?;
            return Ok(false);
        }
        let mut markers = Vec::new();
        let mut ends: BTreeMap<TaskId, BTreeMap<String, Offset>> = BTreeMap::new();
        for (id, commit) in commits {
            ends.insert(id, BTreeMap::new());
            self.send_all(commit.outputs, &mut set.deliveries).await?;
            for batch in commit.changelogs {
                markers.extend(self.send_deltas(id, batch, &mut set.deliveries).await?);
            }
            set.offsets.extend(
                commit
                    .positions
                    .into_iter()
                    .map(|(topic, offset)| (TopicPartition::new(topic, id.partition), offset.into())),
            );
        }
        let read = self.read_of_repartitions(&set.offsets);
        self.acknowledged(&mut set.deliveries).await?;
        for (task, store, end) in self.send_markers(markers).await? {
            ends.entry(task).or_default().insert(store, end);
        }
        self.commit_offsets(set).await?;
        let committed = ends.len() as u64;
        for (id, ends) in ends {
            if let Some(slot) = set.slots.get_mut(&id) {
                slot.task.acknowledge(ends);
            }
        }
        stats::add(
            &self.app.counters.commits,
            "highwater_streams_commits_total",
            self.app.id(),
            committed,
        );
        metrics::histogram!("highwater_streams_commit_seconds", "application" => self.app.id().to_owned())
            .record(started.elapsed().as_secs_f64());
        self.flush_stores_if_due(set)?;
        self.purge_if_due(read);
        Ok(true)
    }

    fn flush_stores_if_due(&self, set: &mut TaskSet) -> Result<(), StreamsError> {
        let config = &self.app.config;
        let waited = set.last_flush.get_or_insert_with(Instant::now).elapsed();
        if waited >= config.store_flush_interval || set.unflushed_bytes() >= config.max_unflushed_bytes {
            set.flush_stores()?;
        }
        Ok(())
    }

    async fn send_all(
        &self,
        records: Vec<OutputRecord>,
        deliveries: &mut Vec<Delivery>,
    ) -> Result<(), StreamsError> {
        let count = records.len() as u64;
        for record in records {
            let partition = match record.partitioning {
                Partitioning::ByKey => None,
                Partitioning::Exactly(partition) => Some(partition),
                Partitioning::ByBytes(bytes) => {
                    let partitions = self.producer.partition_count(&record.topic).await?;
                    let partitions = u32::try_from(partitions).ok().and_then(NonZeroU32::new);
                    partitions.map(|partitions| partition_for_key(&bytes, partitions))
                }
            };
            let record = ProducerRecord {
                topic: record.topic,
                partition,
                key: record.key,
                value: record.value,
                headers: record.headers,
                timestamp: Some(record.timestamp),
            };
            deliveries.push(self.producer.send(record).await?);
        }
        stats::add(
            &self.app.counters.records_out,
            "highwater_streams_records_out_total",
            self.app.id(),
            count,
        );
        Ok(())
    }

    /// Sends a batch without its marker, which is given back.
    async fn send_deltas(
        &self,
        task: TaskId,
        batch: ChangelogBatch,
        deliveries: &mut Vec<Delivery>,
    ) -> Result<Option<Marker>, StreamsError> {
        let ChangelogBatch {
            store,
            topic,
            partition,
            mut records,
        } = batch;
        let Some(marker) = records.pop() else {
            return Ok(None);
        };
        let count = records.len() as u64;
        for record in records {
            let record = changelog_record(&topic, partition, record);
            deliveries.push(self.producer.send(record).await?);
        }
        let name = "highwater_streams_changelog_records_total";
        stats::add(&self.app.counters.changelog_records, name, self.app.id(), count);
        Ok(Some(Marker {
            task,
            store,
            topic,
            partition,
            record: marker,
        }))
    }

    /// Sends the markers; answers with the offset after each.
    async fn send_markers(
        &self,
        markers: Vec<Marker>,
    ) -> Result<Vec<(TaskId, String, Offset)>, StreamsError> {
        let mut sent = Vec::new();
        for marker in markers {
            let record = changelog_record(&marker.topic, marker.partition, marker.record);
            sent.push((marker.task, marker.store, self.producer.send(record).await?));
        }
        if !sent.is_empty() {
            self.producer.flush().await;
        }
        let mut ends = Vec::new();
        for (task, store, delivery) in sent {
            // A repeat that the broker recognised late has no offset; the store then keeps its older one.
            if let Some(offset) = delivery.await?.offset {
                ends.push((task, store, offset.next()));
            }
        }
        Ok(ends)
    }

    async fn acknowledged(&self, deliveries: &mut Vec<Delivery>) -> Result<(), StreamsError> {
        if deliveries.is_empty() {
            return Ok(());
        }
        self.producer.flush().await;
        for delivery in deliveries.drain(..) {
            delivery.await?;
        }
        Ok(())
    }

    /// Commits the group's offsets. Refused ones stay to be tried again with the next commit or when the task leaves, so
    /// that a rebalance in between does not make the next owner repeat what is done.
    async fn commit_offsets(&self, set: &mut TaskSet) -> Result<(), StreamsError> {
        let consumer = self.consumer.get().and_then(Weak::upgrade);
        let Some(consumer) = consumer.filter(|_| !set.offsets.is_empty()) else {
            return Ok(());
        };
        match consumer.commit(set.offsets.clone()).await {
            Ok(()) => {
                set.offsets.clear();
                Ok(())
            }
            Err(error @ ConsumeError::CommitRefused { .. }) => {
                tracing::debug!(application = self.app.id(), %error, "group offsets not committed yet");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn read_of_repartitions(&self, offsets: &CommittedOffsets) -> Vec<(TopicPartition, Option<Offset>)> {
        let read = offsets
            .iter()
            .filter(|(partition, _)| self.repartitions.contains(&partition.topic));
        read.map(|(partition, offset)| (partition.clone(), Some(offset.offset)))
            .collect()
    }

    /// Deletes what has been read of repartition topics (semantic row 46), in the background: nothing depends on it.
    fn purge_if_due(&self, before: Vec<(TopicPartition, Option<Offset>)>) {
        if before.is_empty() {
            return;
        }
        {
            let mut next = self.next_purge.lock().unwrap_or_else(PoisonError::into_inner);
            if Instant::now() < *next {
                return;
            }
            *next = Instant::now()
                + self
                    .app
                    .config
                    .repartition_purge_interval
                    .max(Duration::from_secs(1));
        }
        let admin = self.app.admin.clone();
        tokio::spawn(async move {
            if let Err(error) = admin.delete_records(before).await {
                tracing::debug!(%error, "repartition topics not purged");
            }
        });
    }
}

fn changelog_record(topic: &TopicName, partition: PartitionId, record: ChangelogRecord) -> ProducerRecord {
    ProducerRecord {
        topic: topic.clone(),
        partition: Some(partition),
        key: Some(record.key),
        value: record.value,
        headers: record.headers,
        timestamp: Some(record.timestamp),
    }
}
