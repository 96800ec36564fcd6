//! What scheduler, tasks and REST share: the client, the internal topics and the tables made of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use highwater_client::{Client, Producer, ProducerConfig, ProducerRecord, RecordMetadata};
use highwater_connect_api::{SourceOffset, SourcePartition};
use highwater_types::{PartitionId, TopicName};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::{WorkerConfig, WorkerError, to_json};
use crate::log::{FollowedTopic, LogError, partitions_of};
use crate::plugins::Plugins;
use crate::state::ConfigState;
use crate::status::{RunState, Status, StatusTable, Subject};

type OffsetTable = BTreeMap<String, BTreeMap<SourcePartition, SourceOffset>>;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) client: Client,
    pub(crate) plugins: Plugins,
    pub(crate) config: WorkerConfig,
    /// Writes the internal topics and dead letters.
    pub(crate) producer: Producer,
    /// Something in the config log has changed.
    pub(crate) changed: Arc<Notify>,
    /// Partitions of the slots topic.
    pub(crate) slot_count: u32,
    /// Held while slots are chosen, until the choice can be read in the log.
    pub(crate) choosing_slots: tokio::sync::Mutex<()>,
    /// Ends the readers of the internal topics.
    pub(crate) stop: CancellationToken,
    state: Arc<Mutex<ConfigState>>,
    status: Arc<Mutex<StatusTable>>,
    offsets: Arc<Mutex<OffsetTable>>,
    config_log: FollowedTopic,
    offset_log: FollowedTopic,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Shared {
    /// Follows the internal topics and reads them to their ends.
    pub(crate) async fn start(
        client: Client,
        plugins: Plugins,
        config: WorkerConfig,
    ) -> Result<Arc<Self>, WorkerError> {
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard(); // An early return must not leave readers behind.
        let changed = Arc::new(Notify::new());
        let state: Arc<Mutex<ConfigState>> = Arc::default();
        let status: Arc<Mutex<StatusTable>> = Arc::default();
        let offsets: Arc<Mutex<OffsetTable>> = Arc::default();

        let (table, notify) = (state.clone(), changed.clone());
        let config_log = FollowedTopic::start(
            &client,
            config.config_topic.clone(),
            stop.clone(),
            move |_, record| {
                let key = record
                    .key
                    .as_deref()
                    .map(String::from_utf8_lossy)
                    .unwrap_or_default();
                if let Err(error) = lock(&table).apply(record.offset, &key, record.value.as_deref()) {
                    tracing::warn!(%error, offset = %record.offset, "config record passed over");
                }
                notify.notify_one();
            },
        )
        .await?;
        if config_log.partition_count() != 1 {
            let (topic, found) = (config.config_topic.clone(), config_log.partition_count());
            return Err(LogError::Partitions {
                topic,
                found,
                needed: 1,
            }
            .into());
        }
        let table = status.clone();
        let status_log = FollowedTopic::start(
            &client,
            config.status_topic.clone(),
            stop.clone(),
            move |_, record| {
                lock(&table).apply(record.key.as_deref().unwrap_or_default(), record.value.as_deref());
            },
        )
        .await?;
        let table = offsets.clone();
        let offset_log = FollowedTopic::start(
            &client,
            config.offset_topic.clone(),
            stop.clone(),
            move |_, record| {
                apply_offset(&mut lock(&table), record.key.as_deref(), record.value.as_deref());
            },
        )
        .await?;
        config_log.read_to_end().await?;
        status_log.read_to_end().await?;
        lock(&state).take_restarts(); // Everything starts anew anyway.
        let slots = partitions_of(&client, &config.slots_topic).await?;
        let producer = client.producer(ProducerConfig {
            linger: Duration::ZERO,
            ..ProducerConfig::default()
        })?;
        guard.disarm();
        Ok(Arc::new(Self {
            client,
            plugins,
            config,
            producer,
            changed,
            slot_count: u32::try_from(slots.len()).unwrap_or(u32::MAX),
            choosing_slots: tokio::sync::Mutex::default(),
            stop,
            state,
            status,
            offsets,
            config_log,
            offset_log,
        }))
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, ConfigState> {
        lock(&self.state)
    }

    pub(crate) fn status(&self) -> MutexGuard<'_, StatusTable> {
        lock(&self.status)
    }

    /// Stored offsets of a source, after reading everything stored so far.
    pub(crate) async fn source_offsets(
        &self,
        connector: &str,
    ) -> Result<BTreeMap<SourcePartition, SourceOffset>, LogError> {
        self.offset_log.read_to_end().await?;
        Ok(lock(&self.offsets).get(connector).cloned().unwrap_or_default())
    }

    /// Writes one record to the config log and waits until this worker has read it back.
    pub(crate) async fn write_config<T: Serialize>(
        &self,
        key: &str,
        value: Option<&T>,
    ) -> Result<(), WorkerError> {
        let value = value.map(to_json).transpose()?;
        let topic = &self.config.config_topic;
        let metadata = self.write(topic, key.to_owned(), value).await?;
        match metadata.offset {
            Some(offset) => self.config_log.wait_past(offset).await?,
            None => self.config_log.read_to_end().await?,
        }
        Ok(())
    }

    /// Writes one record and waits until it is acknowledged.
    pub(crate) async fn write(
        &self,
        topic: &TopicName,
        key: impl Into<Bytes>,
        value: Option<Vec<u8>>,
    ) -> Result<RecordMetadata, LogError> {
        let record = ProducerRecord {
            topic: topic.clone(),
            partition: None,
            key: Some(key.into()),
            value: value.map(Bytes::from),
            headers: Vec::new(),
            timestamp: None,
        };
        let failed = |source| LogError::produce(topic, source);
        let delivery = self.producer.send(record).await.map_err(failed)?;
        delivery.await.map_err(failed)
    }

    /// Waits until the record at `offset` of the config log has been applied.
    pub(crate) async fn config_applied(&self, offset: highwater_types::Offset) -> Result<(), LogError> {
        self.config_log.wait_past(offset).await
    }

    /// Reports what became of something; a failure to report is only logged.
    pub(crate) async fn report(
        &self,
        subject: &Subject,
        state: RunState,
        trace: Option<String>,
        generation: i64,
    ) {
        let status = Status {
            state,
            worker_id: self.config.worker_id.clone(),
            trace,
            generation,
        };
        let written = match to_json(&status) {
            Ok(value) => {
                self.write(&self.config.status_topic, subject.key(), Some(value))
                    .await
            }
            Err(error) => return tracing::warn!(?subject, %error, "status report cannot be written"),
        };
        if let Err(error) = written {
            tracing::warn!(?subject, %error, "status report was lost");
        }
    }

    /// Forgets all reports about a connector that is gone.
    pub(crate) async fn forget_status(&self, connector: &str) {
        let subjects = self.status().subjects_of(connector);
        for subject in subjects {
            let written = self.write(&self.config.status_topic, subject.key(), None).await;
            if let Err(error) = written {
                tracing::warn!(?subject, %error, "status report was not removed");
            }
        }
    }

    /// Stores source offsets and waits until they are acknowledged.
    pub(crate) async fn store_offsets(
        &self,
        connector: &str,
        offsets: &BTreeMap<SourcePartition, SourceOffset>,
    ) -> Result<(), WorkerError> {
        let topic = &self.config.offset_topic;
        let failed = |source| LogError::produce(topic, source);
        let mut deliveries = Vec::with_capacity(offsets.len());
        for (partition, offset) in offsets {
            let record = ProducerRecord {
                topic: topic.clone(),
                partition: None,
                key: Some(to_json(&(connector, partition))?.into()),
                value: Some(to_json(offset)?.into()),
                headers: Vec::new(),
                timestamp: None,
            };
            deliveries.push(self.producer.send(record).await.map_err(failed)?);
        }
        for delivery in deliveries {
            delivery.await.map_err(failed)?;
        }
        Ok(())
    }

    pub(crate) fn slot_of(partition: PartitionId) -> u32 {
        u32::try_from(partition.get()).unwrap_or(0) // partitions are not negative
    }
}

/// Key: `[connector, {source partition}]`; value: the source offset, or null = forgotten.
fn apply_offset(table: &mut OffsetTable, key: Option<&[u8]>, value: Option<&[u8]>) {
    let parsed = key.map(serde_json::from_slice::<(String, SourcePartition)>);
    let Some(Ok((connector, partition))) = parsed else {
        return tracing::warn!("unreadable key in the offset topic passed over");
    };
    let offsets = table.entry(connector).or_default();
    match value.map(serde_json::from_slice::<Value>) {
        Some(Ok(Value::Object(offset))) => {
            offsets.insert(partition, SourceOffset(offset));
        }
        Some(_) => tracing::warn!(?partition, "unreadable source offset passed over"),
        None => {
            offsets.remove(&partition);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_offsets_are_kept_per_connector_and_forgotten_by_null() {
        let mut table = OffsetTable::default();
        let key = to_json(&("a", SourcePartition::of("symbol", "BTC"))).expect("plain data");
        apply_offset(&mut table, Some(&key), Some(b"{\"at\":5}"));
        apply_offset(&mut table, Some(&key), Some(b"broken"));
        apply_offset(&mut table, Some(b"broken"), Some(b"{}"));
        let stored = table["a"][&SourcePartition::of("symbol", "BTC")].integer("at");
        assert_eq!(stored, Some(5));
        apply_offset(&mut table, Some(&key), None);
        assert!(table["a"].is_empty());
    }
}
