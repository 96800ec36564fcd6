//! SQL over topics through DataFusion, and the Postgres wire.
//!
//! A topic is a table: the fields of its JSON values, learned from samples or declared, then `_key`, `_partition`,
//! `_offset`, `_timestamp` and `_headers`. A query pins the offsets of every partition when it is planned, so it
//! reads a snapshot and ends. Filters on partition, offset and timestamp are answered by the log; only the asked
//! fields are decoded. Names keep their case, and topics with a dash or dot are written in double quotes.
//!
//! Refuses: writing, and reading anything but topics. DataFusion stays behind this crate; what leaves it are Arrow's
//! record batches.
//!
//! ```no_run
//! # async fn example(client: highwater_client::Client) -> Result<(), Box<dyn std::error::Error>> {
//! use highwater_sql::{Engine, EngineConfig, print};
//!
//! let engine = Engine::new(client, EngineConfig::default()).await?;
//! let mut result = engine.query("SELECT symbol, max(price) FROM btc_prices GROUP BY symbol").await?;
//! let rows = result.collect_rows().await?;
//! println!("{}", print::table(result.schema(), &rows)?);
//! # Ok(())
//! # }
//! ```
//!
//! Planning and evaluation recurse as deep as a statement's expressions; what is too deep or too large is refused before it
//! is planned. Where an engine serves people one does not know, let it run on threads with at least
//! [`STACK_BYTES`] of stack: an overflow ends the process.
//! Functions that make long values are bounded by what their arguments say they will make.
//!
//! # Reading order
//! `engine` (statements), `bounded` (what functions may make), `catalog` (topics as tables), `table` and `pushdown` (planning), `scan` (reading),
//! `json` (values), `reader` (the seam to the log), `pgwire` (the door for psql and BI tools).

mod limits;

mod bounded;
mod catalog;
mod columns;
mod complexity;
mod config;
mod declare;
mod engine;
mod error;
mod hint;
mod json;
mod pushdown;
mod ranges;
mod reader;
mod report;
mod result;
mod scan;
mod statement;
mod table;

pub mod pgwire;
pub mod print;

pub use crate::pgwire::PgServer;
pub use arrow;
pub use config::{EngineConfig, Misfits};
pub use engine::{CATALOG, Engine, Prepared, SCHEMA, Session};
pub use error::{LogError, SqlError};
pub use limits::STACK_BYTES;
pub use result::QueryResult;

#[cfg(test)]
mod tests;
