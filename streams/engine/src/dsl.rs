//! The typed DSL: streams, groups of rows, tables.
//!
//! A stream is a handle on a node of the builder's graph, cheap to clone; each method adds a node. Nothing runs until
//! [`StreamsBuilder::build`] has made a [`Topology`](crate::Topology) and a runtime or the test driver makes tasks of it.
//!
//! # Names
//! A node is called after its parent and itself (`btc_prices.filter`) unless `named`. A store or repartition topic
//! without a name is called after what its content depends on: topics, changes of the key, window, kind of aggregate.
//! So steps that leave keys alone may come and go without touching state, and two stores that would be called the same
//! are an error that asks for a name: no counter ever ties state to the order of statements.

mod builder;
mod grouped;
mod stream;
mod table;

pub use builder::StreamsBuilder;
pub use grouped::{KGroupedStream, TimeWindowedKStream};
pub use stream::{KStream, KeyEffect};
pub use table::KTable;
