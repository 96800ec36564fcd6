//! Judging the records of a batch on the thread that handles the request, outside of any lock (semantic 26).
//!
//! Each thread keeps one buffer for decompressed bodies: a body of a megabyte costs no allocation.

use std::cell::RefCell;

use highwater_storage::{AppendError, InvalidRecord};
use highwater_types::record::{BatchError, CheckOptions, CheckedBatch, DecodeLimits, RecordBatch};
use highwater_wire::ErrorCode;

use super::Refused;
use crate::error::ApiError;
use crate::limits::KEPT_DECOMPRESSION_BYTES;
use crate::log::partition::AppendFailure;

thread_local! {
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What the batch alone can tell about whether a producer may send it.
///
/// # Errors
/// CORRUPT_MESSAGE for bytes that were damaged on the way, INVALID_RECORD for those built wrongly, and
/// MESSAGE_TOO_LARGE, at which clients split, for a body that passes the limits of decompression.
pub(super) fn check(batch: RecordBatch, decompress: bool) -> Result<CheckedBatch, Refused> {
    let options = CheckOptions {
        limits: DecodeLimits::default(),
        decompress,
    };
    BUFFER.with_borrow_mut(|buffer| {
        let checked = CheckedBatch::from_producer(batch, options, buffer);
        if buffer.capacity() > KEPT_DECOMPRESSION_BYTES {
            *buffer = Vec::new();
        }
        checked.map_err(refused)
    })
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
