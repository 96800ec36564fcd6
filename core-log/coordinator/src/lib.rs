//! Consumer groups as a replayed state machine: the state of one partition of `__consumer_offsets`.
//!
//! [`GroupShard::handle`] takes a request and the time and answers with [`Effects`]: records to append and
//! replies to send. [`GroupShard::replay`] takes records back and is the only mutator of durable state, so that
//! failover is replay. The records are Kafka's own, byte for byte; Kafka's tools read them.
//!
//! This crate is pure: no clock, disk, network, environment, randomness or threads. Time, member-id seeds and
//! client addresses come in as values, and so does the list of topics ([`Topics`]), which consumer groups of the newer
//! protocol (KIP-848, `consumer`) need. It refuses share and streams groups and transactional offset commits.
//!
//! # The host's part
//! 1. Find the partition of a group with [`partition_for_group`], and give each shard only its own groups
//!    ([`route`] splits a request, [`merge_responses`] joins the answers).
//! 2. Under one lock per shard: `handle`, append `records` as one batch, `replay` each record. Send `replies`
//!    once these records and those of earlier calls are committed. If the append fails, send [`Effects::fail`]
//!    instead and replay nothing.
//! 3. Call [`GroupShard::handle_timeout`] whenever [`GroupShard::next_deadline_ms`] has come, in the same way,
//!    until it lies in the future.
//! 4. On becoming leader: `replay` the partition, then [`GroupShard::loaded`]. On losing it: send what
//!    [`GroupShard::unload`] returns and drop the shard.
//!
//! # Invariants
//! - GRP-1: the durable state equals a fresh replay of every record appended so far.
//! - GRP-2: each request token is answered exactly once, by `handle`, `handle_timeout`, `unload` or `fail`.
//! - GRP-3: a group's generation never goes down while the shard lives, unless the group is empty and changes its
//!   protocol, and an assignment is handed out only after the record that holds it.
//! - GRP-4: what a client can make a shard hold is bounded ([`limits`]).
//!
//! # Reading order
//! [`effects`], [`config`], [`limits`], [`records`], `durable`, `timers`, `group`, `shard`, [`topics`], `consumer`,
//! [`routing`].

pub mod config;
mod consumer;
mod durable;
pub mod effects;
mod group;
pub mod inspect;
pub mod limits;
pub mod records;
pub mod routing;
mod shard;
mod subscription;
#[cfg(test)]
mod tests;
mod timers;
pub mod topics;

pub use config::GroupConfig;
pub use consumer::assignor::AssignorKind;
pub use consumer::group::ConsumerGroup;
pub use consumer::migrate::{MigrationPolicy, UnknownMigrationPolicy};
pub use durable::{CommittedOffset, DurableGroup, DurableState};
pub use effects::{ClientContext, CoordinatorRecord, Effects, GroupRequest, Monotonic, Now, RequestToken};
pub use records::ReplayError;
pub use routing::{Routed, merge_responses, partition_for_group, route};
pub use shard::GroupShard;
pub use topics::{GroupSettings, TopicFacts, Topics};
