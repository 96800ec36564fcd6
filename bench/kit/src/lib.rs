//! What the benchmark programs share: payloads that prove themselves, CPU seconds of processes, percentiles.
//!
//! It knows no broker and no client, so that the program that compares systems does not build ours to measure it.

pub mod latencies;
pub mod pace;
pub mod payload;
pub mod spread;
pub mod usage;
