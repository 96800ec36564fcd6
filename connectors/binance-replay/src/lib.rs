//! A local stand-in for Binance's spot market-data API: the same paths, shapes, headers and error bodies, fed
//! by a seeded price process. It is not Binance and says so in its `server` header and its log line.
//!
//! Time can run faster than real time: the exchange's clock starts at a given moment and advances at a given
//! speed. The same seed gives the same price for a symbol at a moment, whenever and in whatever order it is
//! asked for, so that tests can check what they read. On request time waits for its clients
//! ([`Replay::wait_for_clients`]).
//!
//! Faults can be injected ([`Replay::inject`]): rate limits with `Retry-After`, bans, geo blocks, server errors,
//! silence and malformed bodies, each for a number of requests.
//!
//! # Invariants
//! - A price never depends on the clock of this machine, only on seed, symbol and exchange time.
//! - A kline's open, high, low and close are those of the prices at the whole seconds it covers.
//!
//! Reading order: [`process`] (prices), `clock` (the exchange's time), [`server`] (HTTP), [`faults`].

mod clock;
pub mod faults;
pub mod process;
pub mod server;

pub use faults::Fault;
pub use process::PriceProcess;
pub use server::{Replay, ReplayConfig};
