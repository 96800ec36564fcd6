//! An internal topic, followed from its first record on and kept as a table in memory by whoever applies its records.
//!
//! # Invariants
//! - Records of a partition are applied once, in order.
//! - After [`FollowedTopic::read_to_end`] everything that was in the topic when it was called has been applied.

use std::collections::BTreeMap;
use std::time::Duration;

use highwater_client::{
    AutoOffsetReset, Client, ClientError, ConsumeError, ConsumerConfig, IsolationLevel, OffsetSpec,
    ProduceError, admin::NewTopic,
};
use highwater_types::record::Record;
use highwater_types::{Offset, PartitionId, TopicName, TopicPartition};
use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long catching up may take before it counts as failed.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
const POLL_WAIT: Duration = Duration::from_secs(1);
const ERROR_PAUSE: Duration = Duration::from_secs(1);
/// TOPIC_ALREADY_EXISTS.
const ALREADY_EXISTS: i16 = 36;

/// Why an internal topic could not be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LogError {
    /// Asking the cluster failed.
    #[error("topic {topic} cannot be used")]
    Client {
        /// The topic.
        topic: TopicName,
        /// What the client says.
        #[source]
        source: Box<ClientError>,
    },
    /// Reading failed.
    #[error("topic {topic} cannot be read")]
    Consume {
        /// The topic.
        topic: TopicName,
        /// What the client says.
        #[source]
        source: Box<ConsumeError>,
    },
    /// Writing failed.
    #[error("topic {topic} cannot be written")]
    Produce {
        /// The topic.
        topic: TopicName,
        /// What the client says.
        #[source]
        source: Box<ProduceError>,
    },
    /// The end was not reached in time.
    #[error("topic {topic} was not read to its end within {timeout:?}; is the cluster overloaded?")]
    TimedOut {
        /// The topic.
        topic: TopicName,
        /// The time that passed.
        timeout: Duration,
    },
    /// The topic has another shape than the worker needs.
    #[error("topic {topic} has {found} partitions, but needs {needed}; name another topic or delete it")]
    Partitions {
        /// The topic.
        topic: TopicName,
        /// How many it has.
        found: usize,
        /// How many it must have.
        needed: usize,
    },
    /// The worker is stopping.
    #[error("the worker is stopping")]
    Stopping,
}

impl LogError {
    fn client(topic: &TopicName, source: ClientError) -> Self {
        Self::Client {
            topic: topic.clone(),
            source: Box::new(source),
        }
    }

    pub(crate) fn produce(topic: &TopicName, source: ProduceError) -> Self {
        Self::Produce {
            topic: topic.clone(),
            source: Box::new(source),
        }
    }
}

/// Creates a topic unless it exists.
pub(crate) async fn ensure_topic(client: &Client, topic: NewTopic) -> Result<(), LogError> {
    let name = topic.name.clone();
    let failed = |source| LogError::client(&name, source);
    let described = client
        .admin()
        .describe_topics([name.clone()])
        .await
        .map_err(failed)?;
    if described.get(&name).is_some_and(Result::is_ok) {
        return Ok(());
    }
    let answers = client.admin().create_topics([topic]).await.map_err(failed)?;
    match answers.into_values().next() {
        Some(Err(error)) if !is_already_there(&error) => Err(failed(error)),
        _ => Ok(()),
    }
}

fn is_already_there(error: &ClientError) -> bool {
    error.code().is_some_and(|code| code.code() == ALREADY_EXISTS)
}

/// See the module.
#[derive(Debug)]
pub(crate) struct FollowedTopic {
    client: Client,
    topic: TopicName,
    partitions: Vec<TopicPartition>,
    applied: watch::Receiver<BTreeMap<TopicPartition, Offset>>,
}

impl FollowedTopic {
    /// Follows a topic until `stop`; `apply` gets every record.
    pub(crate) async fn start(
        client: &Client,
        topic: TopicName,
        stop: CancellationToken,
        apply: impl FnMut(PartitionId, &Record) + Send + 'static,
    ) -> Result<Self, LogError> {
        let unreadable = |source| LogError::Consume {
            topic: topic.clone(),
            source: Box::new(source),
        };
        let partitions = partitions_of(client, &topic).await?;
        let consumer = client
            .consumer(ConsumerConfig {
                auto_offset_reset: AutoOffsetReset::Earliest,
                enable_auto_commit: false,
                ..ConsumerConfig::default()
            })
            .map_err(unreadable)?;
        consumer.assign(partitions.iter().cloned()).map_err(unreadable)?;
        let (progress, applied) = watch::channel(BTreeMap::new());
        tokio::spawn(follow(consumer, topic.clone(), stop, progress, apply));
        Ok(Self {
            client: client.clone(),
            topic,
            partitions,
            applied,
        })
    }

    pub(crate) fn partition_count(&self) -> usize {
        self.partitions.len()
    }

    /// Waits until everything that is in the topic now has been applied.
    pub(crate) async fn read_to_end(&self) -> Result<(), LogError> {
        let admin = self.client.admin();
        let list = async |spec| {
            let wanted = self.partitions.iter().map(|tp| (tp.clone(), spec));
            admin
                .list_offsets(wanted, IsolationLevel::ReadUncommitted)
                .await
                .map_err(|source| LogError::client(&self.topic, source))
        };
        let ends = list(OffsetSpec::Latest).await?;
        let starts = list(OffsetSpec::Earliest).await?;
        let needed = ends.into_iter().filter_map(|(tp, listed)| {
            let (end, start) = (listed.offset?, starts.get(&tp)?.offset?);
            (end > start).then_some((tp, end))
        });
        self.wait_for(&needed.collect()).await
    }

    /// Waits until the first `next` offsets not yet applied are these or later ones.
    pub(crate) async fn wait_for(&self, next: &BTreeMap<TopicPartition, Offset>) -> Result<(), LogError> {
        let mut applied = self.applied.clone();
        let reached = |applied: &BTreeMap<TopicPartition, Offset>| {
            next.iter()
                .all(|(tp, next)| applied.get(tp).is_some_and(|at| at >= next))
        };
        match tokio::time::timeout(READ_TIMEOUT, applied.wait_for(reached)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(LogError::Stopping),
            Err(_) => Err(LogError::TimedOut {
                topic: self.topic.clone(),
                timeout: READ_TIMEOUT,
            }),
        }
    }

    /// Waits until the record at `offset` of the only partition has been applied.
    pub(crate) async fn wait_past(&self, offset: Offset) -> Result<(), LogError> {
        let next = self.partitions.iter().map(|tp| (tp.clone(), offset.next()));
        self.wait_for(&next.collect()).await
    }
}

/// A topic that was created a moment ago may not be known everywhere yet.
pub(crate) async fn partitions_of(
    client: &Client,
    topic: &TopicName,
) -> Result<Vec<TopicPartition>, LogError> {
    const ATTEMPTS: u32 = 50;
    const PAUSE: Duration = Duration::from_millis(100);
    let mut attempt = 0;
    loop {
        attempt += 1;
        let described = client.admin().describe_topics([topic.clone()]).await;
        let answer = described.and_then(|answers| answers.into_values().next().transpose());
        match answer {
            Ok(Some(metadata)) if !metadata.partitions.is_empty() => {
                let partition = |id| TopicPartition::new(topic.clone(), id);
                return Ok(metadata
                    .partitions
                    .iter()
                    .map(|p| partition(p.partition))
                    .collect());
            }
            Err(source) if attempt == ATTEMPTS => {
                return Err(LogError::client(topic, source));
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

async fn follow(
    consumer: highwater_client::Consumer,
    topic: TopicName,
    stop: CancellationToken,
    progress: watch::Sender<BTreeMap<TopicPartition, Offset>>,
    mut apply: impl FnMut(PartitionId, &Record) + Send + 'static,
) {
    loop {
        let polled = tokio::select! {
            () = stop.cancelled() => break,
            polled = consumer.poll(POLL_WAIT) => polled,
        };
        match polled {
            Ok(batches) => {
                for batch in &batches {
                    for record in &batch.records {
                        apply(batch.topic_partition.partition, record);
                    }
                }
                progress.send_modify(|applied| {
                    for batch in batches {
                        if let Some(last) = batch.records.last() {
                            applied.insert(batch.topic_partition, last.offset.next());
                        }
                    }
                });
            }
            Err(error) => {
                tracing::error!(%topic, %error, "internal topic cannot be read, trying again");
                tokio::time::sleep(ERROR_PAUSE).await;
            }
        }
    }
    consumer.close().await;
}
