//! Records as connectors see them: decoded data on one side, positions of the outside system on the other.

use std::collections::BTreeMap;

use bytes::Bytes;
use highwater_types::record::Header;
use highwater_types::{Offset, PartitionId, Timestamp, TopicName, TopicPartition};
use serde::{Deserialize, Serialize};

/// A key or a value, decoded. `Null` is a tombstone where a topic is compacted, and differs from empty.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Data {
    /// No data at all.
    #[default]
    Null,
    /// A JSON document: what schemaless connectors exchange.
    Json(serde_json::Value),
    /// Text that is not a JSON document.
    Text(String),
    /// Bytes that nobody decoded.
    Bytes(Bytes),
}

impl Data {
    /// Text data from anything that can become a string.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The JSON document, if this is one.
    pub fn as_json(&self) -> Option<&serde_json::Value> {
        match self {
            Self::Json(document) => Some(document),
            Self::Null | Self::Text(_) | Self::Bytes(_) => None,
        }
    }

    /// Whether this is the absence of data.
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

/// Which part of the outside system a record came from, such as one table, one file or one symbol.
///
/// Ordered, so that two equal partitions have one text form; values are JSON primitives (Connect's rule).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourcePartition(pub BTreeMap<String, String>);

impl SourcePartition {
    /// A partition named by one field.
    pub fn of(field: impl Into<String>, value: impl Into<String>) -> Self {
        Self(BTreeMap::from([(field.into(), value.into())]))
    }
}

/// How far a source partition was read; only its plugin understands it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceOffset(pub serde_json::Map<String, serde_json::Value>);

impl SourceOffset {
    /// An offset made of one field.
    pub fn of(field: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        Self(serde_json::Map::from_iter([(field.into(), value.into())]))
    }

    /// A whole number stored under `field`, if it is there.
    pub fn integer(&self, field: &str) -> Option<i64> {
        self.0.get(field).and_then(serde_json::Value::as_i64)
    }
}

/// One record from the outside, on its way into a topic.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceRecord {
    /// The topic, or `None` for the connector's configured one.
    pub topic: Option<TopicName>,
    /// The partition, or `None` to let the key decide.
    pub partition: Option<PartitionId>,
    /// The key.
    pub key: Data,
    /// The value.
    pub value: Data,
    /// Headers in order; the same key may stand more than once.
    pub headers: Vec<Header>,
    /// Event time, or `None` for the time of writing.
    pub timestamp: Option<Timestamp>,
    /// Where it came from.
    pub source_partition: SourcePartition,
    /// Where to go on after this record.
    pub source_offset: SourceOffset,
}

/// One record of a topic, on its way out.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkRecord {
    /// Topic and partition it was read from.
    pub topic_partition: TopicPartition,
    /// Its offset there.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// The key.
    pub key: Data,
    /// The value.
    pub value: Data,
    /// Headers in order; the same key may stand more than once.
    pub headers: Vec<Header>,
}

/// A record that the target will never take, and why.
#[derive(Debug, Clone, PartialEq)]
pub struct RejectedRecord {
    /// Topic and partition of the record.
    pub topic_partition: TopicPartition,
    /// Its offset.
    pub offset: Offset,
    /// Why, in words for the person who reads the dead-letter topic.
    pub reason: String,
}
