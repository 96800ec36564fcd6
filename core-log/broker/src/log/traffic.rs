//! Bytes that went in and out of a partition since the node started; they end with the partition.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one partition.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

impl Traffic {
    /// A batch was appended.
    pub(crate) fn received(&self, bytes: usize) {
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Batches were given to a consumer.
    pub(crate) fn sent(&self, bytes: usize) {
        self.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Bytes in, bytes out.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (
            self.received_bytes.load(Ordering::Relaxed),
            self.sent_bytes.load(Ordering::Relaxed),
        )
    }
}
