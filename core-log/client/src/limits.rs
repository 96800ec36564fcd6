//! Every bound of the client in one place, with its reason.
//!
//! A broker is as untrusted as any other peer: what it claims about sizes is checked against these before memory is
//! reserved (lesson of CVE-2026-10142: clients must bound server input too).

use std::{ops::RangeInclusive, time::Duration};

/// Largest response frame taken from a broker. Kafka's own fetch ceiling is 55 MiB; one oversized batch may come on
/// top of it (semantic 43), so that a consumer is never stuck behind a record its broker accepted.
pub(crate) const MAX_RESPONSE_BYTES: usize = 256 << 20;

/// Largest response frame from a broker that has not accepted this client yet. The longest thing it may say until then
/// is the list of its versions, of some 2 KiB.
pub(crate) const MAX_RESPONSE_BYTES_BEFORE_AUTHENTICATION: usize = 64 << 10;

/// Rounds of hashing that a broker may ask for. RFC 7677 has 4,096 as the least; the most takes about half a second.
pub(crate) const SCRAM_ITERATIONS: RangeInclusive<u32> = 4_096..=600_000;

/// A message of SCRAM: nonces, a salt, a number, a hash.
pub(crate) const MAX_SCRAM_MESSAGE_BYTES: usize = 8 << 10;

/// How much of a broker's own words an error repeats.
pub(crate) const MAX_QUOTED_CHARS: usize = 300;

/// A file of settings, certificates or a token; all authorities of a system are 250 KiB.
pub(crate) const MAX_SMALL_FILE_BYTES: u64 = 4 << 20;

/// Shortest wait before a session is renewed, whatever its life: a broker that gives a millisecond is not followed.
pub(crate) const MIN_REAUTHENTICATION_WAIT: Duration = Duration::from_millis(100);

/// After a write has failed the reader may still find out why, such as a refusal that the broker sent first.
pub(crate) const WRITE_FAILURE_GRACE: Duration = Duration::from_millis(500);

/// Memory is reserved for at most this much of a frame ahead of what has arrived, so that a claimed 256 MiB costs
/// only what the peer really sends.
pub(crate) const READ_AHEAD_BYTES: usize = 256 << 10;

/// Requests on one connection that wait for an answer; further callers wait their turn.
pub(crate) const MAX_IN_FLIGHT_PER_CONNECTION: usize = 64;

/// Idempotent batches in flight per partition; the broker remembers exactly that many (semantic 33).
pub(crate) const MAX_IN_FLIGHT_PER_PARTITION: usize = 5;

/// Connections one client keeps for raw batch reads, over all brokers.
pub(crate) const MAX_RAW_FETCHES: usize = 16;

/// Least time between two metadata refreshes forced by errors.
pub(crate) const METADATA_REFRESH_BACKOFF: Duration = Duration::from_millis(50);

/// Fetched and decoded, not yet polled: chunks per partition, so that one slow reader cannot hold everything.
pub(crate) const MAX_BUFFERED_CHUNKS_PER_PARTITION: usize = 2;

/// How long closing waits for group leave and final commits.
pub(crate) const CLOSE_TIMEOUT: Duration = Duration::from_secs(30);

const _: () = assert!(MAX_RESPONSE_BYTES_BEFORE_AUTHENTICATION < MAX_RESPONSE_BYTES);
const _: () = assert!(READ_AHEAD_BYTES < MAX_RESPONSE_BYTES);
const _: () = assert!(MAX_IN_FLIGHT_PER_PARTITION <= MAX_IN_FLIGHT_PER_CONNECTION);
