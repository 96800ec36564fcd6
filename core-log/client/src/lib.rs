//! The Kafka client of Highwater: producer, consumer with group membership, admin, and raw batch reads, over TCP or
//! straight into a broker in the same process.
//!
//! Works against Highwater and against Apache Kafka (2.1 and later) alike: versions are negotiated per broker. It is
//! the only way in which streams, connectors and SQL reach the log, and nothing in it knows which broker it talks to.
//!
//! It refuses to trust a broker: frames, counts and decompressed sizes are bounded (`limits`), and a broker that
//! answers out of turn is disconnected.
//!
//! # Reading order
//! [`Transport`] and [`Connection`], `network` (connections of a role, versions), `metadata`, [`Client`],
//! [`producer`], [`consumer`], [`admin`], `batches`.
//!
//! # Example
//! ```no_run
//! use std::time::Duration;
//! use highwater_client::{Client, ClientConfig, ConsumerConfig, ProducerConfig, ProducerRecord};
//! use highwater_types::TopicName;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::connect(ClientConfig::new(["localhost:9092"])).await?;
//! let prices = TopicName::new("prices")?;
//!
//! let producer = client.producer(ProducerConfig::default())?;
//! let delivery = producer.send(ProducerRecord::keyed(prices.clone(), "BTCUSDT", "64000.10")).await?;
//! println!("written at {:?}", delivery.await?.offset);
//!
//! let consumer = client.consumer(ConsumerConfig::in_group("readers"))?;
//! consumer.subscribe([prices])?;
//! for partition in consumer.poll(Duration::from_secs(1)).await? {
//!     println!("{}: {} records", partition.topic_partition, partition.records.len());
//! }
//! consumer.close().await;
//! producer.close().await;
//! # Ok(())
//! # }
//! ```

pub mod transport;

mod backoff;
mod batches;
mod client;
mod clock;
mod config;
mod error;
mod limits;
mod metadata;
mod network;
mod offsets;
mod versions;

pub mod properties;
pub mod security;

pub mod admin;
pub mod consumer;
pub mod producer;

#[cfg(test)]
mod mock;

pub use admin::Admin;
pub use batches::FetchedBatches;
pub use client::Client;
pub use config::ClientConfig;
pub use consumer::{
    AutoOffsetReset, Consumer, ConsumerConfig, PartitionRecords, RebalanceListener,
    assignor::{
        Assignor, CooperativeStickyAssignor, MemberAssignment, MemberSubscription, PartitionCounts,
        RangeAssignor, RebalanceProtocol, RoundRobinAssignor,
    },
    coordinator::{CommittedOffset, CommittedOffsets},
};
pub use error::{ClientError, ConsumeError, ProduceError, TransportError};
pub use metadata::{BrokerInfo, ClusterView, PartitionMetadata, TopicMetadata};
pub use offsets::{IsolationLevel, ListedOffset, OffsetSpec};
pub use producer::{Acks, Delivery, Producer, ProducerConfig, ProducerRecord, RecordMetadata};
pub use properties::{Properties, PropertiesError};
pub use security::SecurityConfig;
pub use transport::{Connection, Transport, tcp::TcpTransport};
