//! Judging the records of a batch on the thread that handles the request, outside of any lock (semantic 26), and
//! compressing it anew where the topic's codec is another one.
//!
//! Each thread keeps one buffer for decompressed bodies: a body of a megabyte costs no allocation.

use std::cell::RefCell;

use highwater_storage::{AppendError, InvalidRecord};
use highwater_types::record::{BatchError, CheckOptions, CheckedBatch, Codec, DecodeLimits, RecordBatch};
use highwater_wire::ErrorCode;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::Refused;
use crate::error::ApiError;
use crate::limits::{KEPT_DECOMPRESSION_BYTES, MAX_INLINE_COMPRESSION_BYTES};
use crate::log::partition::AppendFailure;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What is to become of a batch before it meets its log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted {
    /// Walk over the records of compressed batches as well.
    pub(super) walk_compressed: bool,
    /// How the topic's batches are compressed; `None` keeps what the producer sent.
    pub(super) codec: Option<Codec>,
    /// Whether the thread's other work may be given away while this takes long. Not where a caller of ours decides
    /// which runtime, and what kind of task, this runs in.
    pub(super) may_give_away: bool,
}

/// What the batch alone can tell about whether a producer may send it; the batch in the topic's codec.
///
/// # Errors
/// CORRUPT_MESSAGE for bytes that were damaged on the way, INVALID_RECORD for those built wrongly, and
/// MESSAGE_TOO_LARGE, at which clients split, for a body that passes the limits of decompression.
pub(super) fn check(batch: RecordBatch, wanted: Wanted) -> Result<CheckedBatch, Refused> {
    let sent = batch.header().compression();
    let other = wanted.codec.filter(|codec| codec.compression != sent);
    let options = CheckOptions {
        limits: DecodeLimits::default(),
        decompress: wanted.walk_compressed || other.is_some(),
    };
    BUFFER.with_borrow_mut(|buffer| {
        let checked = CheckedBatch::from_producer(batch, options, buffer);
        let checked = match (checked, other) {
            (Ok(checked), Some(codec)) => recompress(checked, codec, wanted.may_give_away, buffer),
            (checked, _) => checked,
        };
        if buffer.capacity() > KEPT_DECOMPRESSION_BYTES {
            *buffer = Vec::new();
        }
        checked.map_err(refused)
    })
}

/// Compresses anew, in place: handing the batch to another thread and waiting would let a later request overtake this
/// one on its way to the log. A long compression makes the runtime give this thread's other work away first.
fn recompress(
    checked: CheckedBatch,
    codec: Codec,
    may_give_away: bool,
    body: &[u8],
) -> Result<CheckedBatch, BatchError> {
    let is_long = checked
        .facts()
        .is_some_and(|facts| facts.body_bytes > MAX_INLINE_COMPRESSION_BYTES);
    let can_give_away = may_give_away
        && Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    match is_long && can_give_away {
        true => tokio::task::block_in_place(|| checked.recompressed(codec, body)),
        false => checked.recompressed(codec, body),
    }
}

fn refused(error: BatchError) -> Refused {
    let refused = match error {
        BatchError::DecompressedTooLarge { .. } => {
            return ApiError::new(ErrorCode::MessageTooLarge, error.to_string()).into();
        }
        BatchError::CrcMismatch { .. } => AppendError::CorruptMessage(error),
        BatchError::RefusedFromProducer { .. } => AppendError::InvalidRecord(InvalidRecord::Refused(error)),
        _ => AppendError::InvalidRecord(InvalidRecord::Undecodable(error)),
    };
    AppendFailure::Refused(refused).into()
}
