//! The suites that drive built programs from outside: real clients, real kills, hostile bytes.
//!
//! Tests that need something from outside the project live in the modules `python`, `node`, `go`, `java`,
//! `kcat`, `postgres`, `prometheus` and `kafka`, marked `#[ignore]` with what they need; `cargo xtask test` provides it and
//! runs them. The rest needs
//! only the built binaries.

mod access;
mod compaction;
mod contract;
mod crash;
mod demo;
mod go;
mod hostile;
mod java;
mod kafka;
mod kcat;
mod node;
mod operating;
mod pki;
mod postgres;
mod prometheus;
mod python;
mod scenarios;
mod secured;
mod support;
mod surface;
