//! Scripts: events in, records and replies out, one text per case.
//!
//! [`script::check`] runs the unindented lines of a text and compares what comes out with the indented ones.
//! Set `UPDATE_EXPECT` to write what came out into the source. After every line the runner checks GRP-1 and
//! GRP-2, so each script is also a test of replay.

mod consumer;
mod hostile;
mod migration;
mod offsets;
mod random;
mod rebalance;
mod recovery;
mod script;
mod static_members;
