//! Errors, one enum per family: opening and keeping a log, appending, reading.
//!
//! Each says what, where and what to do; none carries a lower error as text.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use highwater_types::record::BatchError;
use highwater_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId};

use crate::disk::{EntryKind, is_full};

/// What can go wrong while opening, flushing, truncating or cleaning a log or a data directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The disk refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, a short verb phrase.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The disk's answer.
        source: io::Error,
    },
    /// A batch in the middle of a log is damaged: behind it lie valid batches, or it was durable already.
    /// Nothing has been changed on disk.
    #[error(
        "{} is damaged at byte {position}, where offset {expected_offset} should be ({problem}), and this is not an \
         interrupted write: {evidence}; restore the partition from a replica or a backup, or open it with the \
         truncating corruption policy, which loses everything from offset {expected_offset} on",
        path.display()
    )]
    CorruptLog {
        /// The segment.
        path: PathBuf,
        /// Where the damaged batch begins, in bytes.
        position: u64,
        /// The offset expected there.
        expected_offset: Offset,
        /// What is wrong with the batch.
        problem: BadBatch,
        /// Why it is no torn tail.
        evidence: CorruptionEvidence,
    },
    /// Two segments claim the same offsets.
    #[error(
        "segment {} begins at offset {base_offset} but the segment before it ends at {previous_end}; move the \
         stray file away and open again",
        path.display()
    )]
    OverlappingSegments {
        /// The later segment.
        path: PathBuf,
        /// Its first offset.
        base_offset: Offset,
        /// Where the earlier one ends.
        previous_end: Offset,
    },
    /// The log-start checkpoint names an offset the log does not reach, though it is only written once the log does.
    #[error(
        "log {} ends at offset {end}, below its start offset {start} from log-start-offset-checkpoint: durable records \
         are missing or the checkpoint is damaged; restore the partition, or take its line out of the checkpoint to \
         serve what is there, deleted records included",
        dir.display()
    )]
    StartBeyondEnd {
        /// The partition's directory.
        dir: PathBuf,
        /// From the checkpoint.
        start: Offset,
        /// Where the log ends.
        end: Offset,
    },
    /// A checkpoint or metadata file that cannot be read as what its name says.
    #[error("{} is not a valid {kind}: {problem}; delete it or restore it from a backup", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Which format was expected.
        kind: &'static str,
        /// What is wrong with it.
        problem: FormatProblem,
    },
    /// An earlier write or sync failed; nothing is trusted until the log is opened again (invariant 22).
    #[error("log {} takes no writes since {} failed; open the partition again", dir.display(), failure.action)]
    Fenced {
        /// The partition's directory.
        dir: PathBuf,
        /// The first failure.
        failure: Arc<FenceReason>,
    },
    /// An offset that the operation cannot reach.
    #[error("offset {offset} is outside {start}..={end}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// Smallest legal one.
        start: Offset,
        /// Largest legal one.
        end: Offset,
    },
    /// Another process uses the data directory.
    #[error("data directory {} is in use by another process; stop it or use another directory", path.display())]
    DirectoryInUse {
        /// The directory.
        path: PathBuf,
    },
    /// The directory of a partition belongs to another topic of the same name (invariant 17).
    #[error(
        "{} belongs to topic id {found}, not {expected}; move it away before the partition is opened",
        path.display()
    )]
    TopicIdMismatch {
        /// The partition's directory.
        path: PathBuf,
        /// The id asked for.
        expected: TopicId,
        /// The id on disk.
        found: TopicId,
    },
    /// The name of a partition's directory stands for something else.
    #[error(
        "{} is {}, not a partition's directory; move the directory itself to this name (to have it on another file \
         system, mount that there), or remove what is there to begin the partition anew",
        path.display(),
        match found { EntryKind::File => "a file", _ => "a symbolic link or a special file, which is never followed" }
    )]
    NotADirectory {
        /// The name.
        path: PathBuf,
        /// What it stands for.
        found: EntryKind,
    },
    /// A batch could not be read as one while looking for a timestamp.
    #[error("batch at offset {base_offset} of {} cannot be decoded: {source}", path.display())]
    UnreadableBatch {
        /// The segment.
        path: PathBuf,
        /// Where the batch begins.
        base_offset: Offset,
        /// What is wrong with it.
        source: BatchError,
    },
}

impl StorageError {
    /// Whether only room on the disk was missing: the same may succeed once there is some.
    pub fn is_for_want_of_room(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source))
    }
}

/// The failure after which a log refuses writes.
#[derive(Debug)]
pub struct FenceReason {
    /// What failed.
    pub action: &'static str,
    /// On which file.
    pub path: PathBuf,
    /// How.
    pub kind: io::ErrorKind,
    /// The system's error number, where there is one.
    pub os_error: Option<i32>,
}

/// What is wrong with a batch found on disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BadBatch {
    /// The header cannot be.
    #[error("{0}")]
    Header(#[from] BatchError),
    /// The batch claims more bytes than the file has.
    #[error("batch claims {claimed_bytes} bytes, the file has {available_bytes} more")]
    Incomplete {
        /// Bytes the header claims.
        claimed_bytes: u64,
        /// Bytes left in the file.
        available_bytes: u64,
    },
    /// Offsets go backwards.
    #[error("base offset {found} is below the expected {expected}")]
    OffsetBackwards {
        /// What the log had reached.
        expected: Offset,
        /// What the batch claims.
        found: Offset,
    },
    /// Leader epochs go backwards (invariant 10).
    #[error("leader epoch {found} is below {previous}")]
    EpochBackwards {
        /// Epoch of the batch before.
        previous: LeaderEpoch,
        /// Epoch of this batch.
        found: LeaderEpoch,
    },
    /// An offset too far from the segment's base to be stored relative to it.
    #[error("offset {found} does not belong to the segment that begins at {base_offset}")]
    OutsideSegment {
        /// First offset of the segment.
        base_offset: Offset,
        /// Last offset of the batch.
        found: Offset,
    },
}

/// Why damage is taken for corruption rather than for an interrupted write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CorruptionEvidence {
    /// A whole valid batch lies behind the damage.
    #[error("a valid batch follows at offset {0}")]
    ValidBatchBehind(Offset),
    /// The bytes were made durable before.
    #[error("everything below offset {0} was durable")]
    BelowRecoveryPoint(Offset),
}

/// What is wrong with a small file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatProblem {
    /// Not UTF-8.
    #[error("not text")]
    NotText,
    /// Larger than any real one.
    #[error("larger than any real one")]
    TooLarge,
    /// The first line is another version.
    #[error("unknown version {0:?}")]
    Version(String),
    /// A line that does not parse.
    #[error("line {line} does not parse: {text:?}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// The line, cut to 80 characters.
        text: String,
    },
    /// The number of entries is not the one that was announced.
    #[error("{announced} entries are announced, {found} are there")]
    Count {
        /// From the file's head.
        announced: i64,
        /// Counted.
        found: i64,
    },
    /// Entries are out of order.
    #[error("entry {0} is out of order")]
    Order(usize),
    /// Checksum mismatch.
    #[error("stored CRC {stored:#010x}, computed {computed:#010x}")]
    Crc {
        /// In the file.
        stored: u32,
        /// Of the bytes.
        computed: u32,
    },
    /// Checksum mismatch, of bytes that not even a checksum is told of.
    #[error("its checksum does not fit")]
    Checksum,
    /// A key that must be there is not.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// Cut short.
    #[error("cut short at byte {0}")]
    Short(usize),
}

/// Why an append was refused. Each variant stands for one Kafka error code.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// CORRUPT_MESSAGE (2): header or checksum do not hold (semantic 25).
    #[error("corrupt batch: {0}")]
    CorruptMessage(#[from] BatchError),
    /// INVALID_RECORD (87): the batch breaks a rule for producers (semantics 24, 26, 30).
    #[error("invalid batch: {0}")]
    InvalidRecord(InvalidRecord),
    /// MESSAGE_TOO_LARGE (10), semantic 27.
    #[error(
        "batch of {size_bytes} bytes is over max.message.bytes {limit_bytes}; split it or raise the limit"
    )]
    MessageTooLarge {
        /// The batch.
        size_bytes: usize,
        /// `max.message.bytes`.
        limit_bytes: usize,
    },
    /// RECORD_LIST_TOO_LARGE (18), semantic 27.
    #[error(
        "batch of {size_bytes} bytes does not fit a segment of {segment_bytes}; split it or raise segment.bytes"
    )]
    RecordListTooLarge {
        /// The batch.
        size_bytes: usize,
        /// `segment.bytes`.
        segment_bytes: u32,
    },
    /// INVALID_TIMESTAMP (32), semantic 29.
    #[error("timestamp {timestamp} is not within {earliest}..={latest}")]
    InvalidTimestamp {
        /// From the batch.
        timestamp: Timestamp,
        /// Smallest legal one.
        earliest: Timestamp,
        /// Largest legal one.
        latest: Timestamp,
        /// Places within the batch of the first records outside; empty when the records were not looked at.
        indexes: Vec<u32>,
    },
    /// OUT_OF_ORDER_SEQUENCE_NUMBER (45), semantic 34.
    #[error("producer {producer_id} epoch {epoch} sent sequence {found}, expected {expected}")]
    OutOfOrderSequence {
        /// The producer.
        producer_id: ProducerId,
        /// Its epoch.
        epoch: ProducerEpoch,
        /// The sequence that would have fitted.
        expected: Sequence,
        /// The one that came.
        found: Sequence,
    },
    /// INVALID_PRODUCER_EPOCH (47), semantic 35.
    #[error("producer {producer_id} wrote with epoch {found}, the current one is {current}")]
    InvalidProducerEpoch {
        /// The producer.
        producer_id: ProducerId,
        /// The largest epoch seen.
        current: ProducerEpoch,
        /// The one that came.
        found: ProducerEpoch,
    },
    /// TRANSACTION_COORDINATOR_FENCED (52): a marker of a coordinator that has been replaced.
    #[error("marker of coordinator epoch {found}, the current one is {current}")]
    CoordinatorFenced {
        /// The largest epoch seen.
        current: i32,
        /// The one that came.
        found: i32,
    },
    /// INVALID_TXN_STATE (48): a plain write of a producer whose transaction is open.
    #[error("producer {producer_id} has an open transaction and sent a batch outside of it")]
    InvalidTxnState {
        /// The producer.
        producer_id: ProducerId,
    },
    /// FENCED_LEADER_EPOCH (74): the appending leader has been replaced.
    #[error("append with leader epoch {found}, the log is at {current}")]
    StaleLeaderEpoch {
        /// Latest epoch in the log.
        current: LeaderEpoch,
        /// Epoch of the append.
        found: LeaderEpoch,
    },
    /// A replicated batch does not continue the log: UNKNOWN_SERVER_ERROR, the fetcher must look again.
    #[error("replicated batch begins at offset {found}, the log ends at {log_end}")]
    NotContinuing {
        /// Where the log ends.
        log_end: Offset,
        /// First offset of the batch.
        found: Offset,
    },
    /// KAFKA_STORAGE_ERROR (56): an earlier write or sync failed (invariant 22).
    #[error("log takes no writes since {} {} failed; open the partition again", .0.action, .0.path.display())]
    Fenced(Arc<FenceReason>),
    /// KAFKA_STORAGE_ERROR (56): this write failed; the log is fenced now.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// The rule a batch from a producer breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidRecord {
    /// A rule on every batch of a producer: counts, control bit, producer fields (semantic 26).
    #[error(transparent)]
    Refused(BatchError),
    /// More records than the bytes can hold.
    #[error("it claims {record_count} records in {body_bytes} bytes")]
    TooManyRecords {
        /// Of the header.
        record_count: i32,
        /// Bytes behind the header.
        body_bytes: usize,
    },
    /// A producer id without epoch or sequence (hostile input 48).
    #[error("producer id, epoch and sequence must come together")]
    IncompleteProducer,
    /// Transactional without a producer id.
    #[error("it is transactional but has no producer id")]
    TransactionalWithoutProducer,
    /// A compacted topic got records without key (semantic 30); indexes inside the batch.
    #[error("records {indexes:?} have no key, which a compacted topic needs")]
    MissingKeys {
        /// Which records, counted from 0; at most the first 100.
        indexes: Vec<u32>,
    },
    /// Records do not decode.
    #[error("its records cannot be decoded: {0}")]
    Undecodable(BatchError),
    /// The segment's offsets are used up; cannot happen below 2^63 records.
    #[error("the offsets of this log are used up")]
    OffsetsExhausted,
}

impl StorageError {
    /// What the disk said, if that is the reason.
    pub(crate) fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            StorageError::Io { source, .. } => Some(source.kind()),
            _ => None,
        }
    }
}

/// Why a read was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// OFFSET_OUT_OF_RANGE (1): below the log start or above the log end (semantic 47).
    #[error("offset {offset} is outside {start}..={end}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: Offset,
        /// Log start offset.
        start: Offset,
        /// Log end offset.
        end: Offset,
    },
    /// The bytes are no longer what the plan saw (truncated or deleted meanwhile): plan again.
    #[error("{} changed under the read at byte {position}; plan the read again", path.display())]
    Changed {
        /// The segment.
        path: PathBuf,
        /// Where the read stumbled.
        position: u64,
    },
    /// What is wanted does not lie in memory, and the read was not to wait for the disk: read again, and wait.
    #[error("the records are not in memory")]
    WouldWait,
    /// The disk refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Adds the place to a disk's answer.
pub(crate) trait At<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, StorageError>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T, StorageError> {
        self.map_err(|source| StorageError::Io {
            action,
            path: path.to_owned(),
            source,
        })
    }
}
