//! A node: listeners, request handlers, purgatory, group coordination, metadata quorum.
//!
//! This crate runs the pure crates and the storage against the world: it owns sockets, threads, timers and
//! the clock. [`Node::start`] brings a broker up; clients reach it over TCP or, in the same process, through a
//! [`Session`]. Both ways lead to the same handlers.
//!
//! Refuses: transactions (not served yet), tiered storage, message formats before v2.
//!
//! # Invariants
//! - What a client can make a node hold is bounded, and the bounds are in [`limits`].
//! - Requests of one connection are answered in order; a panic while handling closes that connection only.
//! - An answer leaves after what it promises: committed metadata, appended (and, where the topic says so,
//!   synced) records, replayed group state.
//!
//! # Reading order
//! [`config`], [`limits`], `node`, `broker`, `net` (framing), `auth` (TLS and SASL), `versions`, `dispatch`, `handlers`, `log`
//! (partitions), `purgatory`, `groups`, `controller` and `metadata`, `background`.

pub mod config;
pub mod limits;
pub mod log_levels;
pub mod metric_defs;

#[cfg(feature = "testing")]
pub mod testing;

mod auth;
mod authorizer;
mod background;
mod broker;
mod cleaner;
mod clock;
mod controller;
mod dispatch;
mod error;
mod exposition;
mod features;
mod fetch_sessions;
mod gauges;
mod groups;
mod handlers;
mod log;
mod metadata;
mod net;
mod node;
mod producer_ids;
mod purgatory;
mod quotas;
mod scram_keys;
mod seldom;
mod session;
mod telemetry;
mod throttle;
mod versions;
mod watch;

pub use auth::{SecurityByListener, SecurityError, check_security};
pub use config::{ListenerConfig, NodeConfig, SecurityProtocol, UnknownProtocol};
pub use error::{MetadataError, NodeError, ProposeError};
pub use exposition::{Exposition, Family};
pub use limits::Limits;
pub use log_levels::{LogLevel, LogLevels, Logger, ROOT_LOGGER};
pub use metadata::inspect::{METADATA_FILES, inspect_metadata};
pub use node::Node;
pub use session::{Session, SessionClosed, SessionInfo};

// What the signatures above are made of, for crates that depend on nothing below the broker.
pub use highwater_storage::{Disk, DiskFailure, StdDisk};
pub use highwater_types::{BrokerId, TopicName};
pub use highwater_wire::{RequestBody, ResponseBody};
