//! Ids, positions, record batches, compression and partitioning: the vocabulary that every other crate speaks.
//!
//! This crate is pure. It reads no clock, no file, no network, no environment and draws no random numbers;
//! `clippy.toml` beside it bans the calls. Bytes that come from outside never make it panic and never make it
//! reserve more memory than the caller's [`DecodeLimits`](record::DecodeLimits) allow.
//!
//! # Invariants
//! - An id or position never turns into a bare integer by itself: `new` and `get` are the only doors.
//! - A [`TopicName`] is always legal. A parsed [`BatchHeader`](record::BatchHeader) always has a known codec, a
//!   non-negative count and offsets that do not overflow.
//!
//! # Reading order
//! [`ids`], [`topic`], [`record`] (format version 2 of Kafka), [`partitioner`], [`scram`].

pub mod ids;
pub mod partitioner;
pub mod record;
pub mod scram;
pub mod topic;

pub use ids::{
    BrokerId, GenerationId, LeaderEpoch, Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, Timestamp,
    TopicId,
};
pub use topic::{InvalidTopicName, TopicName, TopicPartition};

pub use bytes::Bytes;
pub use bytestring::ByteString;
pub use uuid::Uuid;
