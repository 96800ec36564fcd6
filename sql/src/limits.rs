//! Every bound of this crate, in one place, with its reason.

use std::time::Duration;

/// Bytes asked for in one read while a schema is sampled: enough for a hundred records of 2 KiB.
pub(crate) const SAMPLE_FETCH_BYTES: usize = 256 * 1024;
/// Partitions of a topic that are sampled; more would make the first query on a wide topic wait.
pub(crate) const MAX_SAMPLED_PARTITIONS: usize = 16;
/// Columns taken from JSON objects. Beyond it the object is a map in disguise, and a table of it helps nobody.
pub(crate) const MAX_COLUMNS: usize = 1_000;
/// Fields of a nested object that become a struct; more, and the object is shown as JSON text.
pub(crate) const MAX_STRUCT_FIELDS: usize = 100;
/// Levels of nesting that become structs and lists; what lies deeper is shown as JSON text.
pub(crate) const MAX_NESTING: usize = 4;
/// Values that did not fit a sampled schema and are looked at again, per scan, to widen it for the next query.
pub(crate) const MAX_RELEARNED_VALUES: u64 = 200;

/// Most bytes asked for in one read of a scan.
pub(crate) const MAX_FETCH_BYTES: usize = 4 * 1024 * 1024;
/// Least bytes asked for in one read, however many partitions share the budget.
pub(crate) const MIN_FETCH_BYTES: usize = 64 * 1024;
/// What all partitions of a scan hold in fetched bytes together, as a share of the query's memory.
pub(crate) const FETCH_SHARE_OF_MEMORY: usize = 4;

/// How long a broker may wait for data; records below the high watermark are there, so it answers at once.
pub(crate) const FETCH_WAIT: Duration = Duration::from_millis(500);
/// Reads in a row that may bring nothing below the pinned end before the scan gives up.
pub(crate) const MAX_EMPTY_FETCHES: u32 = 10;
/// Pause between such reads.
pub(crate) const EMPTY_FETCH_PAUSE: Duration = Duration::from_millis(20);

/// How long the list of topics is taken as current.
pub(crate) const TOPIC_LIST_TTL: Duration = Duration::from_secs(1);

/// Connections of the Postgres wire served at a time; a BI tool opens a handful.
pub(crate) const MAX_PG_CONNECTIONS: usize = 256;

const _: () = assert!(MIN_FETCH_BYTES <= MAX_FETCH_BYTES);
const _: () = assert!(MAX_STRUCT_FIELDS <= MAX_COLUMNS);
