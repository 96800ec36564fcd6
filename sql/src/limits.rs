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

/// Longest text of a statement.
pub(crate) const MAX_STATEMENT_BYTES: usize = 1 << 20;
/// Words and operators that may follow one another without a comma, enclosing parentheses included: half of them can be
/// operators of one chain, each a level of recursion for whoever plans and evaluates it.
pub(crate) const MAX_CHAINED_WORDS: usize = 1_000;
/// Tables and queries that a statement may name: joined or named after one another they nest, whatever the text looks like.
pub(crate) const MAX_RELATIONS: usize = 200;
/// Stack that the deepest statement within these limits needs, with room to spare. Without optimisation a frame is many
/// times as large.
pub const STACK_BYTES: usize = if cfg!(debug_assertions) {
    64 << 20
} else {
    16 << 20
};
/// The same with what is named in WITH counted as often as it is used: the planner copies it each time.
pub(crate) const MAX_PLANNED_RELATIONS: u64 = 500;

/// Longest text that a function may make: a record of Kafka's default size.
pub(crate) const MAX_MADE_TEXT_BYTES: u64 = 1 << 20;
/// Largest list that a function may make: a million numbers.
pub(crate) const MAX_MADE_LIST_BYTES: u64 = 8 << 20;
/// What one call of a function may make for one batch; no memory pool counts it.
pub(crate) const MAX_CALL_BYTES: u64 = 64 << 20;
/// Rows of a batch that a session may ask for.
pub(crate) const MAX_BATCH_ROWS: usize = 65_536;
/// What the largest value of a plan may come to when every row of a batch has it; batches get as small as that asks for.
/// With values of up to 8 KiB they have their usual 8192 rows. Operators hold several batches at a time.
pub(crate) const VALUES_OF_A_BATCH_BYTES: u64 = 64 << 20;

const _: () = assert!(MAX_MADE_TEXT_BYTES <= MAX_CALL_BYTES && MAX_MADE_LIST_BYTES <= MAX_CALL_BYTES);
const _: () = assert!(MIN_FETCH_BYTES <= MAX_FETCH_BYTES);
const _: () = assert!(MAX_STRUCT_FIELDS <= MAX_COLUMNS);
