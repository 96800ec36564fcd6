//! Every bound of a node in one place, with the reason for its size.
//!
//! Whatever a client can make grow has its limit here: frames, connections, buffered answers,
//! waiting requests, partitions. The defaults follow Kafka where Kafka has the setting.
//!
//! Invariants (checked when the crate compiles, or by `Limits::checked` for values from outside):
//! the smallest useful frame fits the limit, one largest frame fits the node-wide budget, and one
//! reading step is never larger than a frame.

use std::time::Duration;

/// Largest frame, as Kafka's `socket.request.max.bytes`.
pub const MAX_FRAME_BYTES: usize = 100 * 1024 * 1024;

/// The fixed part of every request header: key, version, correlation id.
pub const MIN_FRAME_BYTES: usize = 8;

/// Largest first frame of a connection, but for a produce request: who has not said anything sensible yet is not
/// listened to for long.
pub const MAX_FIRST_FRAME_BYTES: usize = 1024 * 1024;

/// Largest frame of an ApiVersions request, which is served before anything is known of a client.
pub const MAX_API_VERSIONS_FRAME_BYTES: usize = 64 * 1024;

/// Largest frame of a request that belongs to a login, as Kafka's `sasl.server.max.receive.size`.
pub const MAX_LOGIN_FRAME_BYTES: usize = 512 * 1024;

/// Bytes of requests being read of clients that have not logged in, over the node. They have no part in the memory of
/// those who have (CVE-2022-34917).
pub const LOGIN_MEMORY_BYTES: usize = 64 * 1024 * 1024;

/// Largest frame of any request that carries no records; the largest honest ones are assignments of huge groups.
pub const MAX_PLAIN_FRAME_BYTES: usize = 32 * 1024 * 1024;

/// A peer must take an answer at least this fast, or it is closed: a trickle would hold the answer's memory for ever.
pub const MIN_DRAIN_BYTES_PER_SECOND: usize = 256 * 1024;

/// What a connection may reserve on a claimed frame length alone: a hundred silent peers that each
/// announce the largest frame cost a few megabytes.
pub const FIRST_READ_BYTES: usize = 64 * 1024;

/// How many times what has arrived may be reserved next. A producer's default largest request is
/// 1 MiB, so the usual frame is moved once, when it is a sixteenth of its size.
pub const READ_GROWTH: usize = 16;

/// Free room kept in a connection's read buffer between frames: one read takes many small requests.
pub const IDLE_READ_BYTES: usize = 8 * 1024;

/// How long a connection that the node has ended waits for its peer to end it, too, so that nothing is taken back that
/// was sent last. A round trip to the other side of the world is a third of it.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(1);

/// As much is read and forgotten meanwhile of what the peer had already sent: what is under way in one direction of a
/// usual connection, not a large request.
pub const MAX_LINGER_BYTES: usize = 1024 * 1024;

/// Frames up to this size are copied out of the read buffer: what a group keeps of a small request must not
/// keep the buffer of a whole connection alive.
pub const COPY_FRAME_BYTES: usize = 4 * 1024;

/// Bytes of requests being read or handled, over all connections of a node.
pub const REQUEST_MEMORY_BYTES: usize = 512 * 1024 * 1024;

/// Bytes of fetch answers that are read from logs but not yet written to sockets, over the node.
pub const RESPONSE_MEMORY_BYTES: usize = 512 * 1024 * 1024;

/// The most one fetch answers, as Kafka's `fetch.max.bytes` on the broker (55 MiB).
pub const MAX_FETCH_BYTES: usize = 55 * 1024 * 1024;

/// Answers gathered for one vectored write while further requests already lie in the buffer.
pub const MAX_BUFFERED_RESPONSES: usize = 64;

/// Bytes of answers gathered before they are written whatever else waits.
pub const MAX_BUFFERED_RESPONSE_BYTES: usize = 1024 * 1024;

/// Answers of this size and above are sent from files. Bytes that stay in a processor's cache between the read and the
/// write are copied for less than it costs to hand over their pages one by one. Measured over loopback with one
/// partition, CPU of the server per GB, copied and sent: 128 KiB 0.22 and 0.25 s, 256 KiB 0.19 and 0.22 s, at best 0.16
/// both; 512 KiB and 1 MiB 0.19 and 0.13 s.
pub const MIN_SENT_ANSWER_BYTES: usize = 256 * 1024;

/// Record bytes of a partition from this size on are sent from the file, in such an answer. Finding both ends of them and
/// the calls to send them take 3 µs more than reading, which is what a copy of 64 KiB through a cold cache takes more.
pub const MIN_SENT_FILE_BYTES: usize = 64 * 1024;

/// Stretches of files that wait to be sent or are being sent, over the node: each may hold a file open that nobody
/// else does. Who finds no place is answered from memory.
pub const MAX_SENT_FILES: usize = 1024;

/// Bytes of a file sent in one step. A thread that serves others too is kept for a tenth of a millisecond.
pub const SEND_STEP_BYTES: usize = 1024 * 1024;

/// What the system holds of a connection's answers: the default of Kafka's `socket.send.buffer.bytes`, a bound of the
/// kernel's memory, which would else be megabytes for each slow reader.
pub const SEND_BUFFER_BYTES: usize = 100 * 1024;

/// The same once a connection was sent a large answer, of [`MIN_SENT_ANSWER_BYTES`] and more. A reader of 4 MiB at a time over
/// loopback, MB/s and CPU of the server per GB: 100 KiB 1410 and 0.19 s, 512 KiB 2150 and 0.09 s, 1 MiB 2260 and 0.08 s,
/// 2 and 4 MiB and the system's choice 2250 and 0.07 s.
pub const LARGE_SEND_BUFFER_BYTES: usize = 1024 * 1024;

/// Connections that have such a buffer at a time. The kernel counts twice what it is asked for: 512 MiB together, most of
/// which are pages of files that are in memory anyway.
pub const LARGE_SEND_BUFFERS: usize = 256;

/// Bytes of a file read in one step where it cannot be sent as it lies.
pub const COPY_STEP_BYTES: usize = 256 * 1024;

/// The most read from sealed segments, their pages being in memory, on a thread that serves others too.
pub const MAX_INLINE_READ_BYTES: usize = 1024 * 1024;

/// Segments handed to one vectored write; the kernel takes 1024 at most.
pub const MAX_WRITE_SEGMENTS: usize = 64;

/// Connections of a node.
pub const MAX_CONNECTIONS: usize = 10_000;

/// What is reserved for the first batch of a fetch whatever limits the client names: a batch of the default
/// `message.max.bytes` (semantic 43).
pub const FIRST_BATCH_BYTES: usize = 1_048_588;

/// Longest wait a fetch may ask for; a longer one is answered, empty, after this time.
pub const MAX_FETCH_WAIT: Duration = Duration::from_secs(5 * 60);

/// Partitions that all incremental fetch sessions of a node remember together: some 200 bytes each.
pub const MAX_FETCH_SESSION_PARTITIONS: usize = 400_000;

/// Incremental fetch sessions of one connection; clients use one per connection.
pub const MAX_FETCH_SESSIONS_PER_CONNECTION: usize = 8;

/// A fetch session is safe from others for this long after its last use, or, if it is the smaller one, after its
/// creation (Kafka's `min.incremental.fetch.session.eviction.ms`).
pub const FETCH_SESSION_MIN_EVICTION_MS: u64 = 2 * 60 * 1000;

/// Topics created by one Metadata request that names topics nobody has.
pub const MAX_AUTO_CREATED_TOPICS: usize = 100;

/// Group requests waiting for an answer (joins, syncs) over one offsets partition.
pub const MAX_PENDING_GROUP_REQUESTS: usize = 100_000;

/// Partitions that get series of their own at a scrape: ten lines each, a few megabytes of text.
pub const MAX_PARTITION_SERIES: usize = 20_000;

/// What a thread that handles produce requests keeps of its buffer for decompressed bodies between two batches.
pub const KEPT_DECOMPRESSION_BYTES: usize = 4 * 1024 * 1024;

/// A body larger than this is compressed only after the thread's other work was given away: the slowest codec takes
/// about a millisecond for so many bytes.
pub const MAX_INLINE_COMPRESSION_BYTES: usize = 32 * 1024;

/// Bytes of an offsets partition read in one step when its groups are loaded.
pub const GROUP_LOAD_BYTES: usize = 1024 * 1024;

/// Room that compaction leaves on a disk: whoever writes records comes first.
pub const CLEANER_RESERVE_BYTES: u64 = 64 << 20;

/// Threads that make logs durable. Syncs at the same time share a commit of the file system's journal: 64 files one
/// after another take 300 ms on a slow disk, side by side 30.
pub const FLUSH_THREADS: usize = 16;

/// Partitions in one answer to DescribeTopicPartitions, as Kafka's `max.request.partition.size.limit`.
pub const MAX_DESCRIBED_PARTITIONS: usize = 2_000;

/// Clients, users and addresses whose use is measured apart against quotas; the rest is measured together. A meter is a
/// few hundred bytes.
pub const MAX_METERS: usize = 10_000;

/// Longest user name or client id that is measured apart, so that the table of meters stays within megabytes.
pub const MAX_TRACKED_NAME_BYTES: usize = 256;

/// Longest silence asked of a client for a quota. Below the idle timeout, so that nobody is closed for waiting as told;
/// what is above the quota even so is waited for again after the next request.
pub const MAX_THROTTLE: Duration = Duration::from_secs(5 * 60);

const _: () = assert!(MIN_FRAME_BYTES < FIRST_READ_BYTES);
const _: () = assert!(FIRST_READ_BYTES <= MAX_FRAME_BYTES);
const _: () = assert!(MAX_LOGIN_FRAME_BYTES * 2 <= LOGIN_MEMORY_BYTES);
const _: () = assert!(MAX_API_VERSIONS_FRAME_BYTES <= MAX_FIRST_FRAME_BYTES);
const _: () =
    assert!(MAX_FIRST_FRAME_BYTES <= MAX_PLAIN_FRAME_BYTES && MAX_PLAIN_FRAME_BYTES <= MAX_FRAME_BYTES);
const _: () = assert!(IDLE_READ_BYTES <= FIRST_READ_BYTES);
const _: () = assert!(COPY_FRAME_BYTES <= IDLE_READ_BYTES);
// A length prefix is a signed 32-bit number, and so is a semaphore's request.
const _: () = assert!(MAX_FRAME_BYTES < i32::MAX as usize);
// One connection with the largest frame must be able to finish alone.
const _: () = assert!(MAX_FRAME_BYTES * 2 <= REQUEST_MEMORY_BYTES);
const _: () = assert!(REQUEST_MEMORY_BYTES <= u32::MAX as usize);
const _: () = assert!(MAX_FETCH_BYTES * 2 <= RESPONSE_MEMORY_BYTES);
const _: () = assert!(RESPONSE_MEMORY_BYTES <= u32::MAX as usize);
const _: () = assert!(MAX_WRITE_SEGMENTS <= 1024);
const _: () = assert!(MIN_SENT_FILE_BYTES <= MIN_SENT_ANSWER_BYTES);
const _: () = assert!(MIN_SENT_ANSWER_BYTES <= SEND_STEP_BYTES);

/// What the system may hold of one connection's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendBufferLimit {
    /// [`SEND_BUFFER_BYTES`]; [`LARGE_SEND_BUFFER_BYTES`] for the first [`LARGE_SEND_BUFFERS`] that are sent large answers.
    Grows,
    /// So many bytes.
    Fixed(usize),
    /// What the system thinks right.
    System,
}

/// The bounds that a deployment may change. Everything else is a constant of this module.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest accepted frame in bytes; overridden by `socket.request.max.bytes`.
    pub max_frame_bytes: usize,
    /// Bytes of requests being read or handled at a time, over the node; overridden by `queued.max.request.bytes`.
    pub request_memory_bytes: usize,
    /// What the system holds of answers that a client has not taken, for each connection; overridden by
    /// `socket.send.buffer.bytes`.
    pub send_buffer: SendBufferLimit,
    /// Bytes of fetch answers held at a time, over the node.
    pub response_memory_bytes: usize,
    /// Open connections over all listeners; overridden by `max.connections`, also at run time.
    pub max_connections: usize,
    /// Open connections from one address; overridden by `max.connections.per.ip`, also at run time.
    pub max_connections_per_ip: usize,
    /// A connection without a request for this long is closed with a clean end of stream
    /// (semantic 9); overridden by `connections.max.idle.ms`.
    pub idle_timeout: Duration,
    /// A frame that has begun must make progress, and the memory it needs must come free, within
    /// this time; each mebibyte of its length adds one second.
    pub slow_frame_timeout: Duration,
    /// A peer that takes no byte of an answer for this long is closed.
    pub write_timeout: Duration,
    /// How long a shutdown waits for connections to finish what they are doing.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_frame_bytes: MAX_FRAME_BYTES,
            request_memory_bytes: REQUEST_MEMORY_BYTES,
            send_buffer: SendBufferLimit::Grows,
            response_memory_bytes: RESPONSE_MEMORY_BYTES,
            max_connections: MAX_CONNECTIONS,
            max_connections_per_ip: usize::MAX,
            idle_timeout: Duration::from_secs(10 * 60),
            slow_frame_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

impl Limits {
    /// These limits with every value brought into the range the code relies on.
    pub(crate) fn checked(mut self) -> Self {
        self.max_frame_bytes = self.max_frame_bytes.clamp(MIN_FRAME_BYTES, MAX_FRAME_BYTES * 10);
        self.request_memory_bytes = self
            .request_memory_bytes
            .clamp(self.max_frame_bytes, u32::MAX as usize);
        self.response_memory_bytes = self
            .response_memory_bytes
            .clamp(MAX_FETCH_BYTES, u32::MAX as usize);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budget_smaller_than_a_frame_is_raised_to_one_frame() {
        let limits = Limits {
            request_memory_bytes: 1,
            ..Limits::default()
        }
        .checked();
        assert_eq!(limits.request_memory_bytes, limits.max_frame_bytes);
    }
}
