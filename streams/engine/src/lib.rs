//! Stream processing as a library: a typed DSL, the topology it describes, and tasks that run it.
//!
//! ```
//! use std::time::Duration;
//! use highwater_streams_engine::{
//!     Consumed, Materialized, Produced, StreamsBuilder, TumblingWindows, serdes::{json, string},
//! };
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Clone, Serialize, Deserialize)]
//! struct Price { price: f64 }
//!
//! #[derive(Clone, Default, Serialize, Deserialize)]
//! struct Candle { open: Option<f64>, high: f64, low: f64, close: f64 }
//!
//! impl Candle {
//!     fn update(&mut self, price: &Price) {
//!         if self.open.is_none() {
//!             *self = Self { open: Some(price.price), high: price.price, low: price.price, close: price.price };
//!         }
//!         self.high = self.high.max(price.price);
//!         self.low = self.low.min(price.price);
//!         self.close = price.price;
//!     }
//! }
//!
//! let builder = StreamsBuilder::new();
//! builder
//!     .stream("btc_prices", Consumed::with(string(), json::<Price>()))
//!     .filter(|_, price| price.price > 0.0)
//!     .group_by_key()
//!     .windowed_by(TumblingWindows::of(Duration::from_secs(60)).grace(Duration::from_secs(10)))
//!     .aggregate(
//!         Candle::default,
//!         |_symbol, price, candle| candle.update(&price),
//!         Materialized::as_store("candles").with_value(json()),
//!     )
//!     .to_stream()
//!     .map(|window, candle| (window.key, candle))
//!     .to("candles", Produced::with(string(), json()));
//! let topology = builder.build("btc-pipeline")?;
//! println!("{}", topology.describe());
//! # Ok::<_, highwater_streams_engine::TopologyError>(())
//! ```
//!
//! This crate is pure: records, time and stores come in as values, and what is to be written comes out as values. It
//! reads no clock, file, network or environment and starts no threads. The runtime crate runs it against a cluster, the
//! [`TopologyTestDriver`] against nothing at all.
//!
//! # Invariants
//! - Restored state and input positions belong to one commit (see [`changelog`]): no input record counts twice.
//! - Names of stores and internal topics never depend on the order of statements (see [`KStream`]).
//! - Rows with one key of one task are processed in the order of their offsets.
//!
//! # Reading order
//! [`row`] and [`windows`] (what flows), [`serdes`], the DSL ([`KStream`]), [`operator`] (what runs), [`store`] and
//! [`changelog`] (what stays), [`topology`] and [`task`] (how it is run), [`test_driver`].

pub mod changelog;
pub mod drops;
mod dsl;
pub mod error;
mod graph;
pub mod operator;
mod operators;
pub mod options;
pub mod row;
pub mod serdes;
pub mod store;
pub mod task;
pub mod test_driver;
pub mod topology;
pub mod windows;

pub use drops::DropReason;
pub use dsl::{KGroupedStream, KStream, KTable, KeyEffect, StreamsBuilder, TimeWindowedKStream};
pub use error::{PlanError, ProcessError, StoreError, TopologyError};
pub use options::{Consumed, ErrorPolicy, Grouped, Materialized, Produced, TimestampContext};
pub use row::{Chunk, Row};
pub use test_driver::TopologyTestDriver;
pub use topology::Topology;
pub use windows::{Advance, EmitStrategy, HoppingWindows, TimeWindows, TumblingWindows, Window, Windowed};
