//! The BTC price pipeline, end to end.

fn main() {}
