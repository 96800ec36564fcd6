//! Runs connectors: configuration, task placement, offsets, retries, dead letters, REST.
//!
//! Connectors are written in TOML ([`config`]) or sent to the REST server ([`rest`]). A [`Worker`] keeps them in a
//! compacted topic and runs their tasks; workers of one group share them. There is no leader, no second protocol and
//! no disk: a task is placed by the consumer-group assignment of a partition, its slot, and everything a worker must
//! remember is a record of a topic.
//!
//! It refuses to know any connector: plugins are handed in ([`Plugins`]), and reach the log only through here.
//!
//! # Invariants
//! - Source: an offset is stored only after its record is acknowledged. Sink: an offset is committed only after the
//!   flush behind it. So records may be repeated after a crash, and none is lost.
//! - Configurations travel with their placeholders; a secret is resolved only where its task runs.
//!
//! Main types in reading order: [`config::Document`], [`ConnectorConfig`], [`Plugins`], [`WorkerConfig`],
//! [`Worker`], [`RestServer`]; inside: `state` (the config log), `worker::scheduler`, `task::source`, `task::sink`.

pub mod config;
pub mod plugins;
pub mod rest;
pub mod retry;
pub mod worker;

mod log;
mod slots;
mod state;
mod status;
mod task;

pub use config::{ConnectorConfig, Document, Environment, TargetState, check, process_environment};
pub use log::LogError;
pub use plugins::{Plugin, Plugins};
pub use rest::RestServer;
pub use state::RestartRequest;
pub use status::{RunState, Status};
pub use worker::{
    Applied, ConnectorInfo, ConnectorOffsets, ConnectorStatus, Worker, WorkerConfig, WorkerError,
};
