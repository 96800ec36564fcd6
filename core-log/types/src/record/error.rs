//! What can be wrong with a batch, in fields; one enum for reading and writing.

use super::Compression;

/// Why the bytes at hand are not a batch we can take.
///
/// Positions are in bytes from the start of the batch, or of its decompressed body for records.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// Fewer bytes than the batch claims; in a fetched record set this is legal for the last one (KIP-74).
    #[error("batch needs {needed_bytes} bytes, {available_bytes} are at hand; read more or drop the tail")]
    Truncated {
        /// Bytes the batch claims, or the header's size when not even that is there.
        needed_bytes: usize,
        /// Bytes at hand.
        available_bytes: usize,
    },
    /// A message format this system does not speak (0, 1 or garbage).
    #[error("batch at offset {base_offset} has magic {magic}; write format version 2 (Kafka 0.11 or later)")]
    UnsupportedMagic {
        /// The version byte.
        magic: i8,
        /// Offset the batch claims.
        base_offset: i64,
    },
    /// A batch length below the header's own size, or beyond what a length can be.
    #[error(
        "batch at offset {base_offset} claims {batch_length} bytes after its prefix; the header alone has 49"
    )]
    InvalidBatchLength {
        /// The length field.
        batch_length: i32,
        /// Offset the batch claims.
        base_offset: i64,
    },
    /// A codec id that Kafka has not defined.
    #[error("batch at offset {base_offset} uses codec id {id}; known are 0 to 4")]
    UnknownCodec {
        /// The id in the attributes.
        id: u8,
        /// Offset the batch claims.
        base_offset: i64,
    },
    /// Negative count or delta, or offsets beyond the last possible one.
    #[error(
        "batch at offset {base_offset} claims {record_count} records and last offset delta {last_offset_delta}; \
         both must be 0 or more and the offsets must fit 63 bits"
    )]
    InvalidCounts {
        /// Offset the batch claims.
        base_offset: i64,
        /// The last offset delta field.
        last_offset_delta: i32,
        /// The record count field.
        record_count: i32,
    },
    /// The checksum does not fit the bytes (semantic 25).
    #[error("batch at offset {base_offset} is corrupt: stored CRC {stored:#010x}, computed {computed:#010x}")]
    CrcMismatch {
        /// Offset the batch claims.
        base_offset: i64,
        /// The checksum the batch carries.
        stored: u32,
        /// The checksum of its bytes.
        computed: u32,
    },
    /// The compressed body cannot be read.
    #[error("{codec} body is broken: {problem}")]
    Decompress {
        /// The codec of the batch.
        codec: Compression,
        /// What the codec found.
        problem: String,
    },
    /// The body grows past a limit when decompressed: a bomb, or a limit set too low.
    #[error(
        "{codec} body of {compressed_bytes} bytes passes the limit of {limit_bytes} bytes decompressed; \
         send smaller batches or raise the limit"
    )]
    DecompressedTooLarge {
        /// The codec of the batch.
        codec: Compression,
        /// Bytes before decompression.
        compressed_bytes: usize,
        /// The limit that was passed, absolute or by ratio.
        limit_bytes: usize,
    },
    /// The body could not be compressed.
    #[error("{codec} failed to compress {body_bytes} bytes: {problem}")]
    Compress {
        /// The codec of the batch.
        codec: Compression,
        /// Bytes before compression.
        body_bytes: usize,
        /// What the codec reported.
        problem: String,
    },
    /// The batch would pass the size its length field can tell.
    #[error("batch of {size_bytes} bytes passes 2 GiB; build smaller batches")]
    BatchTooLarge {
        /// Bytes the batch would have.
        size_bytes: usize,
    },
    /// A batch needs at least one record to be written.
    #[error("a batch without records cannot be written; append one or drop it")]
    NoRecords,
    /// A record in the body is not as the format wants it.
    #[error(
        "record {index} of the batch at offset {base_offset} is broken at byte {position} of the body: {problem}"
    )]
    Record {
        /// Offset the batch claims.
        base_offset: i64,
        /// Which record of the batch, from 0.
        index: i32,
        /// Where in the decompressed body the trouble was seen.
        position: usize,
        /// What is wrong there.
        problem: RecordProblem,
    },
    /// Bytes are left after the last record.
    #[error("batch at offset {base_offset} has {left_bytes} bytes after its {record_count} records")]
    TrailingBytes {
        /// Offset the batch claims.
        base_offset: i64,
        /// The record count field.
        record_count: i32,
        /// Bytes after the last record.
        left_bytes: usize,
    },
    /// Well formed, but nothing a producer may send (semantic 26).
    #[error("batch cannot be taken from a producer: {refusal}")]
    RefusedFromProducer {
        /// The rule that is broken.
        refusal: ProducerRefusal,
    },
}

/// What is wrong with one record (hostile inputs 42, 43, 51 and 52).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordProblem {
    /// The body ends, or a number needs more bits than its field has.
    #[error("a number is cut off or too long")]
    BadNumber,
    /// A length below the smallest possible, or one that leads out of the record or body.
    #[error("length {length} does not fit the {available_bytes} bytes left")]
    BadLength {
        /// The length as read.
        length: i32,
        /// Bytes that are left for it.
        available_bytes: usize,
    },
    /// A negative count of headers, or more than the record's bytes can hold.
    #[error("{count} headers do not fit the {available_bytes} bytes left")]
    BadHeaderCount {
        /// The count as read.
        count: i32,
        /// Bytes that are left for them.
        available_bytes: usize,
    },
    /// The fields end before the record does.
    #[error("{left_bytes} bytes are left after the last header")]
    LeftOver {
        /// Bytes of the record that no field covers.
        left_bytes: usize,
    },
    /// Offset deltas must grow and stay within the batch's last one (semantic 26).
    #[error("offset delta {delta} is not between {least} and {last}")]
    BadOffsetDelta {
        /// The delta as read.
        delta: i32,
        /// One more than the delta before.
        least: i32,
        /// The batch's last offset delta.
        last: i32,
    },
}

/// Which rule for producers a batch breaks (semantic 26).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProducerRefusal {
    /// The batch has no records.
    #[error("it has no records")]
    NoRecords,
    /// Offsets must be consecutive, so count and last delta must agree.
    #[error("it claims {record_count} records but offsets up to delta {last_offset_delta}")]
    CountMismatch {
        /// The record count field.
        record_count: i32,
        /// The last offset delta field.
        last_offset_delta: i32,
    },
    /// Only the log itself writes control batches.
    #[error("control batches are written by brokers only")]
    Control,
    /// A producer id needs an epoch and a sequence of 0 or more.
    #[error("it has a producer id without epoch or sequence")]
    IncompleteProducer,
    /// A transaction belongs to a producer id.
    #[error("it is transactional but has no producer id")]
    TransactionalWithoutProducer,
}
