//! Reading through the client: over TCP or in process, a node of ours or any Kafka.

use std::{collections::BTreeMap, fmt};

use async_trait::async_trait;
use bytes::Bytes;
use highwater_client::{Client, ClientError, IsolationLevel, OffsetSpec};
use highwater_types::{Offset, PartitionId, Timestamp, TopicName, TopicPartition};

use super::{OffsetRanges, ReadError, TopicReader};
use crate::limits;

/// Kafka's error codes that mean something of their own here.
mod code {
    pub(super) const OFFSET_OUT_OF_RANGE: i16 = 1;
    pub(super) const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
}

/// Reads through a client.
pub(crate) struct ClientReader {
    client: Client,
}

impl ClientReader {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Partitions of a topic; asking does not create it.
    async fn partitions(&self, topic: &TopicName) -> Result<Vec<PartitionId>, ReadError> {
        let mut answers = self.client.admin().describe_topics([topic.clone()]).await?;
        match answers.remove(topic) {
            Some(Ok(described)) => {
                let count = i32::try_from(described.partitions.len()).unwrap_or(i32::MAX);
                Ok((0..count).map(PartitionId::new).collect())
            }
            Some(Err(error)) if has_code(&error, code::UNKNOWN_TOPIC_OR_PARTITION) => {
                Err(ReadError::NoSuchTopic { topic: topic.clone() })
            }
            Some(Err(error)) => Err(error.into()),
            None => Err(ReadError::NoSuchTopic { topic: topic.clone() }),
        }
    }

    async fn list(
        &self,
        topic: &TopicName,
        partitions: &[PartitionId],
        spec: OffsetSpec,
    ) -> Result<BTreeMap<PartitionId, Option<Offset>>, ReadError> {
        let wanted = partitions
            .iter()
            .map(|&partition| (TopicPartition::new(topic.clone(), partition), spec));
        let listed = self
            .client
            .admin()
            .list_offsets(wanted, IsolationLevel::ReadUncommitted)
            .await?;
        Ok(listed
            .into_iter()
            .map(|(at, listed)| (at.partition, listed.offset))
            .collect())
    }
}

fn has_code(error: &ClientError, code: i16) -> bool {
    error.code().is_some_and(|found| found.code() == code)
}

impl fmt::Debug for ClientReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientReader").finish_non_exhaustive()
    }
}

#[async_trait]
impl TopicReader for ClientReader {
    async fn topics(&self) -> Result<Vec<TopicName>, ReadError> {
        let topics = self.client.admin().list_topics().await?;
        Ok(topics.iter().map(|topic| topic.name.clone()).collect())
    }

    async fn offset_ranges(&self, topic: &TopicName) -> Result<OffsetRanges, ReadError> {
        let partitions = self.partitions(topic).await?;
        // The start first: retention moving it in between leaves a range that is too long, never one that is
        // the wrong way round.
        let starts = self.list(topic, &partitions, OffsetSpec::Earliest).await?;
        let mut ends = self.list(topic, &partitions, OffsetSpec::Latest).await?;
        let range = |(partition, start): (PartitionId, Option<Offset>)| {
            let start = start.unwrap_or(Offset::ZERO);
            let end = ends.remove(&partition).flatten().unwrap_or(start);
            (partition, start..end.max(start))
        };
        Ok(starts.into_iter().map(range).collect())
    }

    async fn offsets_for_timestamp(
        &self,
        topic: &TopicName,
        partitions: &[PartitionId],
        at: Timestamp,
    ) -> Result<BTreeMap<PartitionId, Option<Offset>>, ReadError> {
        self.list(topic, partitions, OffsetSpec::Timestamp(at)).await
    }

    async fn fetch(
        &self,
        topic_partition: &TopicPartition,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Bytes, ReadError> {
        match self
            .client
            .fetch_batches(topic_partition, from, max_bytes, limits::FETCH_WAIT)
            .await
        {
            Ok(fetched) => Ok(fetched.batches),
            Err(error) if has_code(&error, code::OFFSET_OUT_OF_RANGE) => Err(ReadError::OutOfRange {
                topic_partition: topic_partition.clone(),
                offset: from,
            }),
            Err(error) => Err(error.into()),
        }
    }
}
