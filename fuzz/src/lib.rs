//! Fuzz targets: every decoder of bytes that come from outside, each with the claims that must hold for any input.
//!
//! A target panics when a claim is broken; that is all a fuzzer needs. The same functions run in two ways: under
//! libFuzzer with coverage feedback (`cargo xtask fuzz`), and over the committed corpus in every ordinary test run.
//! An input that once broke a claim is kept under `corpus/<target>/` for good.
//!
//! Refuses: targets for other people's decoders (TOML, JSON, HTTP); their authors fuzz them.

mod seeds;
mod targets;

pub use seeds::seeds;
pub use targets::{TARGETS, Target, target};
