//! Runs topologies against a cluster: workers, stores on disk, changelogs, restore, queries.
//!
//! ```no_run
//! use highwater_client::{Client, ClientConfig};
//! use highwater_streams::{Streams, StreamsConfig, engine::{Consumed, Produced, StreamsBuilder, serdes::string}};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let builder = StreamsBuilder::new();
//! builder
//!     .stream("lines", Consumed::with(string(), string()))
//!     .filter(|_, line| !line.is_empty())
//!     .to("non-empty", Produced::with(string(), string()));
//! let client = Client::connect(ClientConfig::new(["localhost:9092"])).await?;
//! let streams = Streams::start(builder.build("lines-app")?, client, StreamsConfig::in_dir("state")).await?;
//! streams.running().await?;
//! // ...
//! streams.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! The log is reached through the client alone, so the same program runs embedded, on Highwater and on Apache Kafka.
//!
//! # What holds
//! - At least once: no acknowledged input record is left out. Outputs may repeat after a crash.
//! - State is exact all the same: it is restored to a commit together with the input positions of that commit, so no
//!   input record counts twice in an aggregate (see [`engine::changelog`]). Rows that travel through a repartition topic
//!   are outputs of the task before it and may repeat there after a crash, like any output. Two processes that both believe to own a task, which
//!   the group allows for the length of a session time-out, can still harm each other until transactions fence them.
//! - A killed process finds its stores again and reads only the tails of their changelogs.
//! - A failed task is opened again from its last commit; only failures in a row stop the application.
//!
//! It refuses to create or re-partition topics that are not its own.
//!
//! # Reading order
//! [`StreamsConfig`], [`Streams`], `topics`, `assignor`, `state_dir` and `rocks`, `worker` with `tasks`, `commit` and
//! `restore`, [`StoreView`].

mod app;
mod assignor;
mod clock;
mod config;
mod error;
mod query;
mod rocks;
mod state_dir;
mod stats;
mod streams;
mod topics;
mod worker;

pub use app::StreamsState;
pub use config::{RestartPolicy, StreamsConfig};
pub use error::StreamsError;
pub use query::{StoreView, Stored};
pub use stats::StreamsMetrics;
pub use streams::Streams;

/// The DSL and everything pure.
pub use highwater_streams_engine as engine;
