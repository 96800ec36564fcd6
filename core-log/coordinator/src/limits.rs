//! Every bound of this crate in one place, with its reason (GRP-4).
//!
//! What an operator may tune lives in [`GroupConfig`](crate::GroupConfig) and takes its default from here; the
//! rest are properties of the formats or guards that no honest client meets.

/// Longest string the records can carry: a two-byte signed length (Kafka's non-flexible strings).
pub const MAX_STRING_BYTES: usize = i16::MAX as usize;

/// How much of a client id goes into a generated member id, so that the id stays far below
/// [`MAX_STRING_BYTES`] whatever the client calls itself.
pub const MAX_CLIENT_ID_BYTES_IN_MEMBER_ID: usize = 255;

/// Protocols (assignors) one member may offer. Clients offer one to four.
pub const MAX_PROTOCOLS_PER_MEMBER: usize = 64;

/// Members plus pending members of one group. Kafka has no limit unless `group.max.size` is set; ten thousand
/// is beyond any known group and keeps a rebalance below a second.
pub const DEFAULT_GROUP_MAX_SIZE: usize = 10_000;

/// Groups of one shard, counting those that only hold offsets.
pub const DEFAULT_MAX_GROUPS: usize = 100_000;

/// Subscriptions that the members of one group may hold together, in bytes.
pub const DEFAULT_MAX_SUBSCRIPTION_BYTES_PER_GROUP: usize = 64 * 1024 * 1024;

/// Subscriptions that all groups of one shard may hold together, in bytes.
pub const DEFAULT_MAX_SUBSCRIPTION_BYTES_PER_SHARD: usize = 256 * 1024 * 1024;

/// Committed offsets of one group. A commit of a hundred thousand partitions is legal.
pub const DEFAULT_MAX_OFFSETS_PER_GROUP: usize = 1_000_000;

/// Tombstones of one expiry sweep; the rest follows in the next call, so that one batch stays small.
pub const MAX_RECORDS_PER_SWEEP: usize = 1_000;

/// Length of a subscribed regular expression. Topic names have at most 249 bytes.
pub const MAX_REGEX_BYTES: usize = 1_024;

/// Memory of one compiled expression, and of its cache while it runs.
pub const MAX_REGEX_PROGRAM_BYTES: usize = 256 * 1024;

/// Different expressions in one group: all are matched against all topics when topics change.
pub const MAX_REGEXES_PER_GROUP: usize = 64;

const _: () = assert!(MAX_CLIENT_ID_BYTES_IN_MEMBER_ID + 37 < MAX_STRING_BYTES);
const _: () = assert!(DEFAULT_MAX_SUBSCRIPTION_BYTES_PER_GROUP <= DEFAULT_MAX_SUBSCRIPTION_BYTES_PER_SHARD);
const _: () = assert!(MAX_RECORDS_PER_SWEEP > 0);
