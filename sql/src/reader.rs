//! The seam between SQL and the log: what a query needs to know and read, and nothing else.
//!
//! Refuses: creating topics. A misspelt table name must stay an error, so names are checked against the list of
//! topics before any other question about them is asked.

use std::{collections::BTreeMap, fmt::Debug, ops::Range};

use async_trait::async_trait;
use bytes::Bytes;
use highwater_types::{Offset, PartitionId, Timestamp, TopicName, TopicPartition};

mod client;
#[cfg(test)]
pub(crate) mod memory;

pub(crate) use client::ClientReader;

/// Why the log could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ReadError {
    /// The offset asked for is no longer, or not yet, in the log.
    #[error("offset {offset} of {topic_partition} is not in the log (any more)")]
    OutOfRange {
        /// Which log.
        topic_partition: TopicPartition,
        /// The offset asked for.
        offset: Offset,
    },
    /// The topic went away between planning and reading.
    #[error("topic {topic} does not exist")]
    NoSuchTopic {
        /// Its name.
        topic: TopicName,
    },
    /// What the client says.
    #[error(transparent)]
    Client(#[from] highwater_client::ClientError),
}

/// Offsets that are in the log: from the log start to, not including, the high watermark.
pub(crate) type OffsetRanges = BTreeMap<PartitionId, Range<Offset>>;

/// Reads topics for queries.
#[async_trait]
pub(crate) trait TopicReader: Debug + Send + Sync + 'static {
    /// Every topic, internal ones included.
    async fn topics(&self) -> Result<Vec<TopicName>, ReadError>;

    /// Partitions of an existing topic, with the offsets they hold now.
    async fn offset_ranges(&self, topic: &TopicName) -> Result<OffsetRanges, ReadError>;

    /// First offset whose record is at or after `at`, per partition; `None` where no record is that young.
    async fn offsets_for_timestamp(
        &self,
        topic: &TopicName,
        partitions: &[PartitionId],
        at: Timestamp,
    ) -> Result<BTreeMap<PartitionId, Option<Offset>>, ReadError>;

    /// Whole record batches of which the first holds `from` or, in a compacted log, what follows it. At least one
    /// batch when there is any, whatever `max_bytes` says; empty at the end of the log.
    async fn fetch(
        &self,
        topic_partition: &TopicPartition,
        from: Offset,
        max_bytes: usize,
    ) -> Result<Bytes, ReadError>;
}
