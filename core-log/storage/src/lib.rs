//! Partition logs on disk: segments, indexes, producer state, recovery, retention.
//!
//! Files are Kafka's, byte for byte (D2): record batch v2 segments, sparse offset and time indexes, transaction
//! indexes, producer snapshots, leader-epoch and offset checkpoints, `partition.metadata`, `meta.properties`.
//!
//! Reading order: [`Disk`], [`LogConfig`], [`PartitionLog`], [`DataDir`], [`StorageError`].
//!
//! Refuses: requests and responses, clocks (time comes in), threads (the owner brings them), async.
//!
//! # Invariants
//! - The only door to files is [`Disk`].
//! - What was reported durable survives a crash at any point; what was written half is never read.
//! - After a failed write or sync a log takes no writes until it is opened again.
//! - Files found on disk are untrusted: none makes this crate panic or reserve memory by a number it contains.

mod checkpoint;
mod cleaner;
mod config;
mod data_dir;
mod disk;
mod error;
mod fields;
mod file_range;
mod files;
mod index;
pub mod inspect;
mod leader_epochs;
mod log;
mod producer_state;
mod scan;
mod segment;
mod txn_index;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use checkpoint::{MetaProperties, OffsetMap};
pub use cleaner::{
    CleanError, Cleaner, CleanerOptions, CleaningPace, CleaningReport, CleaningRequest, LogAccess,
};
pub use config::{FlushPolicy, LogConfig};
pub use data_dir::{DataDir, DataDirOptions, FoundPartition, NodeSecret, OffsetCheckpoint};
pub use disk::{
    DirEntry, DirLock, Disk, DiskFailure, DiskFile, EntryKind, FailStopDisk, FileInfo, FileSystem, OpenMode,
    Space, StdDisk,
};
pub use error::{
    AppendError, BadBatch, CorruptionEvidence, FenceReason, FormatProblem, InvalidRecord, ReadError,
    StorageError,
};
pub use file_range::{FileRange, Step};
pub use log::{
    AppendInfo, Cleanable, ClosingLog, CorruptionPolicy, EndTransaction, FlushPlan, OpenOptions,
    PartitionLog, ReadOptions, ReadPlan, ReadRequest, Records, RecoveryReport, Retention, TimestampOffset,
};
pub use producer_state::ActiveProducer;
pub use txn_index::AbortedTransaction;
