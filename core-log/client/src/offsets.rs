//! Offsets by time or place (ListOffsets), for the consumer's reset policy and for admin.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::future::join_all;
use highwater_types::{LeaderEpoch, Offset, PartitionId, Timestamp, TopicName, TopicPartition};
use highwater_wire::{
    ApiKey,
    messages::{
        ListOffsetsRequest,
        list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    },
};

use crate::{
    ClientError,
    client::{ClientCore, Retry},
};

/// Whether records of undecided and aborted transactions are seen (semantic 40).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IsolationLevel {
    /// Everything up to the high watermark. Kafka's default.
    #[default]
    ReadUncommitted,
    /// Only records outside transactions and of committed ones, up to the last stable offset.
    ReadCommitted,
}

impl IsolationLevel {
    pub(crate) fn code(self) -> i8 {
        match self {
            Self::ReadUncommitted => 0,
            Self::ReadCommitted => 1,
        }
    }
}

/// Which offset of a partition is asked for (semantic 53).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The first one in the log.
    Earliest,
    /// The one after the last readable record.
    Latest,
    /// That of the record with the largest timestamp (ListOffsets v7+).
    MaxTimestamp,
    /// That of the first record at or after this time.
    Timestamp(Timestamp),
}

impl OffsetSpec {
    fn code(self) -> i64 {
        match self {
            Self::Latest => -1,
            Self::Earliest => -2,
            Self::MaxTimestamp => -3,
            Self::Timestamp(at) => at.get().max(0), // below 0 the number would mean one of the above
        }
    }
}

/// An offset that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset; `None` when no record is that young.
    pub offset: Option<Offset>,
    /// The record's time, for time queries.
    pub timestamp: Option<Timestamp>,
    /// Epoch of the leader that wrote the record (v4+).
    pub leader_epoch: Option<LeaderEpoch>,
}

type Wanted = BTreeMap<TopicPartition, OffsetSpec>;
type Answers = Vec<(TopicPartition, Result<ListedOffset, ClientError>)>;

impl ClientCore {
    /// One answer per wanted partition, or the error of one that stayed unanswerable until `api_timeout`.
    pub(crate) async fn list_offsets(
        self: &Arc<Self>,
        mut wanted: Wanted,
        isolation: IsolationLevel,
    ) -> Result<BTreeMap<TopicPartition, ListedOffset>, ClientError> {
        let mut found = BTreeMap::new();
        let mut retry = Retry::new(&self.config);
        loop {
            let mut failure = None;
            for (tp, answer) in self.list_offsets_once(&wanted, isolation).await {
                match answer {
                    Ok(listed) => {
                        wanted.remove(&tp);
                        found.insert(tp, listed);
                    }
                    Err(error) if error.is_retriable() => failure = failure.or(Some(error)),
                    Err(error) => return Err(error),
                }
            }
            let Some(error) = failure else { return Ok(found) };
            retry.pause(error).await?;
            let mut topics: Vec<TopicName> = wanted.keys().map(|tp| tp.topic.clone()).collect();
            topics.dedup();
            // A failure to refresh shows in the next attempt.
            let _ = self.metadata.refresh(&topics).await;
        }
    }

    async fn list_offsets_once(self: &Arc<Self>, wanted: &Wanted, isolation: IsolationLevel) -> Answers {
        let mut answers = Answers::new();
        let mut by_leader: HashMap<String, Vec<(TopicPartition, OffsetSpec, Option<LeaderEpoch>)>> =
            HashMap::new();
        for (tp, spec) in wanted {
            match self.leader(tp).await {
                Ok((leader, epoch)) => {
                    by_leader
                        .entry(leader.address())
                        .or_default()
                        .push((tp.clone(), *spec, epoch));
                }
                Err(error) => answers.push((tp.clone(), Err(error))),
            }
        }
        let asked = by_leader
            .into_iter()
            .map(|(address, parts)| self.ask_leader(address, parts, isolation));
        answers.extend(join_all(asked).await.into_iter().flatten());
        answers
    }

    async fn ask_leader(
        &self,
        address: String,
        parts: Vec<(TopicPartition, OffsetSpec, Option<LeaderEpoch>)>,
        isolation: IsolationLevel,
    ) -> Answers {
        const API: ApiKey = ApiKey::ListOffsets;
        let mut topics: BTreeMap<TopicName, Vec<ListOffsetsPartition>> = BTreeMap::new();
        for (tp, spec, epoch) in &parts {
            topics
                .entry(tp.topic.clone())
                .or_default()
                .push(ListOffsetsPartition {
                    partition_index: tp.partition.get(),
                    current_leader_epoch: epoch.map_or(-1, |epoch| epoch.get()),
                    timestamp: spec.code(),
                });
        }
        let topics = topics.into_iter().map(|(name, partitions)| ListOffsetsTopic {
            name: name.into_byte_string(),
            partitions,
        });
        let request = ListOffsetsRequest {
            replica_id: -1, // a consumer
            isolation_level: isolation.code(),
            topics: topics.collect(),
            timeout_ms: i32::try_from(self.config.request_timeout.as_millis()).unwrap_or(i32::MAX),
        };
        let response = match self.network.broker(&address).await {
            Ok(broker) => broker.call_with_wait(request, Duration::ZERO).await,
            Err(error) => Err(error),
        };
        let response = match response {
            Ok(response) => response,
            Err(error) => {
                return parts
                    .into_iter()
                    .map(|(tp, ..)| (tp, Err(error.clone())))
                    .collect();
            }
        };
        let mut listed: HashMap<(String, PartitionId), Result<ListedOffset, ClientError>> = HashMap::new();
        for topic in response.topics {
            for p in topic.partitions {
                let answer = ClientError::check(
                    API,
                    p.error_code,
                    format!("{}-{}", topic.name, p.partition_index),
                    None,
                )
                .map(|()| ListedOffset {
                    offset: (p.offset >= 0).then(|| Offset::new(p.offset)),
                    timestamp: (p.timestamp >= 0).then(|| Timestamp::new(p.timestamp)),
                    leader_epoch: (p.leader_epoch >= 0).then(|| LeaderEpoch::new(p.leader_epoch)),
                });
                listed.insert(
                    (topic.name.to_string(), PartitionId::new(p.partition_index)),
                    answer,
                );
            }
        }
        parts
            .into_iter()
            .map(|(tp, ..)| {
                let answer = listed
                    .remove(&(tp.topic.to_string(), tp.partition))
                    .unwrap_or_else(|| {
                        Err(ClientError::IncompleteResponse {
                            api: API,
                            missing: tp.to_string(),
                        })
                    });
                (tp, answer)
            })
            .collect()
    }
}
