//! Rolling JSONL files as a sink, exactly once: a crash neither repeats nor loses a line.
//!
//! Every topic-partition has its own files in one directory:
//!
//! ```text
//! prices-0-00000000000000000000.jsonl        rolled: complete, never touched again
//! prices-0-00000000000000004711.jsonl.open   being written; renamed when it is rolled
//! prices-0.progress                          next offset, and how much of the open file counts
//! prices-0.lock                              held by the task that writes
//! ```
//!
//! The progress file is the truth. `flush` makes the data durable and then replaces the progress file in one step;
//! `open` cuts the open file back to what the progress file says and tells the runtime to go on at its next offset.
//! With `fsync = false` this holds for a killed process, not for a machine that loses power.
//!
//! Reading order: [`settings`], [`partition`] (the files of one partition), [`sink`].

pub mod partition;
pub mod settings;
pub mod sink;

pub use settings::FileSettings;
pub use sink::FileSink;
