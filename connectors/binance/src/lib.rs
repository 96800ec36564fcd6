//! Source of Binance spot prices and klines, polled over HTTP.
//!
//! Every record is keyed by symbol and carries the exchange's own time. One request asks for all symbols of a
//! task; klines are paged from the last one stored, so that nothing is missed while the connector was away, and
//! only closed klines are emitted. Rate limits are respected before they are hit: at the configured share of
//! the used weight the task slows down, and `Retry-After` is honoured to the second.
//!
//! What it refuses: to go on hot where the exchange said no. 451 (not served from here) and unknown symbols are
//! fatal, with advice; 429, 418, 5xx, time-outs and malformed answers are retriable.
//!
//! Reading order: [`settings`], [`source`] (plugin and task), [`api`] (requests and their failures), [`records`].

pub mod api;
pub mod records;
pub mod settings;
pub mod source;

pub use settings::BinanceSettings;
pub use source::BinanceSource;
