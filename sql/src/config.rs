//! What an engine is started with.

use std::time::Duration;

/// What becomes of a value that is not a JSON object, or does not fit its column, in a topic read as JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Misfits {
    /// The row, or the cell, is NULL; the query's [warnings](crate::QueryResult::warnings) count it.
    #[default]
    Null,
    /// The query fails and names topic, partition and offset.
    Fail,
}

/// Settings of an [`Engine`](crate::Engine).
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Memory one query may hold, in bytes. Sorts, joins and aggregates spill to the temporary directory when they
    /// reach it; what cannot spill fails with SQLSTATE 53200.
    pub memory_limit_bytes: usize,
    /// Bytes one query may spill to the temporary directory; 0 forbids it.
    pub spill_limit_bytes: u64,
    /// Rows a query may return; the result ends there and says so in its warnings. `None` is no limit.
    pub max_rows: Option<usize>,
    /// Records looked at on either end of each partition to learn a topic's columns.
    pub schema_sample_records: usize,
    /// How long a learned schema is taken as current.
    pub schema_ttl: Duration,
    /// What becomes of values that do not fit.
    pub misfits: Misfits,
    /// Threads' worth of work a plan is cut into above the scans.
    pub target_partitions: usize,
    /// `CREATE TABLE … WITH (topic = '…')` statements that hold from the start.
    pub declared_tables: Vec<String>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            memory_limit_bytes: 512 * 1024 * 1024,
            spill_limit_bytes: 4 * 1024 * 1024 * 1024,
            max_rows: None,
            schema_sample_records: 100,
            schema_ttl: Duration::from_secs(5),
            misfits: Misfits::Null,
            target_partitions: std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8)),
            declared_tables: Vec::new(),
        }
    }
}
