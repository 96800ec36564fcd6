//! The suites that drive built programs from outside: real clients, real kills, hostile bytes.
//!
//! Tests that need something from outside the project live in the modules `python`, `node`, `kcat`, `postgres` and
//! `kafka`, marked `#[ignore]` with what they need; `cargo xtask test` provides it and runs them. The rest needs
//! only the built binaries.

mod contract;
mod crash;
mod demo;
mod hostile;
mod kafka;
mod kcat;
mod node;
mod postgres;
mod python;
mod scenarios;
mod support;
