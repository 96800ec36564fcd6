//! Benchmarks: produce, fetch and the candle topology.

fn main() {}
