//! Finding offsets by time, to the record (semantic 53).

use std::sync::Arc;

use highwater_types::record::{BatchHeader, DecodeLimits, RecordBatch};
use highwater_types::{LeaderEpoch, Offset, Timestamp};

use super::PartitionLog;
use crate::disk::OpenMode;
use crate::error::{At, StorageError};
use crate::scan::{Depth, Expect, Scanner, Step};
use crate::segment::SegmentFile;

/// A record's time and place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampOffset {
    /// Its timestamp.
    pub timestamp: Timestamp,
    /// Its offset.
    pub offset: Offset,
    /// The leader epoch it was written in.
    pub leader_epoch: Option<LeaderEpoch>,
}

/// A segment to search.
struct Candidate {
    file: Arc<SegmentFile>,
    base_offset: Offset,
    /// First offset that may match, by the time index.
    from: Offset,
    position: u64,
    size_bytes: u64,
}

impl PartitionLog {
    /// The first record, by offset, whose timestamp is at or after `target`; `None` if there is none.
    /// Decodes one batch, reads at most an index interval and a batch of headers.
    ///
    /// # Errors
    /// What the disk refuses, or a batch that does not decode.
    pub fn offset_for_timestamp(&self, target: Timestamp) -> Result<Option<TimestampOffset>, StorageError> {
        self.first_record(|timestamp| timestamp >= target, target)
    }

    /// The first record that has the largest timestamp of the log (KIP-734, offset -3).
    ///
    /// # Errors
    /// As [`Self::offset_for_timestamp`].
    pub fn offset_of_max_timestamp(&self) -> Result<Option<TimestampOffset>, StorageError> {
        let mut largest: Option<Timestamp> = None;
        for segment in &self.sealed {
            largest = largest.max(segment.max_timestamp()?.map(|max| max.timestamp));
        }
        largest = largest.max(self.active.index.max_timestamp().map(|max| max.timestamp));
        let Some(target) = largest else { return Ok(None) };
        self.first_record(|timestamp| timestamp >= target, target)
    }

    fn first_record(
        &self,
        matches: impl Fn(Timestamp) -> bool,
        target: Timestamp,
    ) -> Result<Option<TimestampOffset>, StorageError> {
        let mut from_segment = self
            .sealed
            .partition_point(|segment| segment.base_offset <= self.start);
        from_segment = from_segment.saturating_sub(1);
        for segment in &self.sealed[from_segment.min(self.sealed.len())..] {
            if !segment.max_timestamp()?.is_some_and(|max| matches(max.timestamp)) {
                continue;
            }
            let from = segment.offset_for_time(target)?.max(self.start);
            let found = self.search(
                Candidate {
                    file: Arc::clone(&segment.file),
                    base_offset: segment.base_offset,
                    position: segment.position_for_offset(from)?,
                    from: self.start,
                    size_bytes: segment.size_bytes,
                },
                &matches,
            )?;
            if found.is_some() {
                return Ok(found);
            }
        }
        let active = &self.active;
        if !active
            .index
            .max_timestamp()
            .is_some_and(|max| matches(max.timestamp))
        {
            return Ok(None);
        }
        let from = active
            .index
            .offset_for_time(active.base_offset, target)
            .max(self.start);
        let candidate = Candidate {
            file: Arc::clone(&active.file),
            base_offset: active.base_offset,
            position: active.index.position_for_offset(active.base_offset, from),
            from: self.start,
            size_bytes: active.size_bytes,
        };
        self.search(candidate, &matches)
    }

    fn search(
        &self,
        candidate: Candidate,
        matches: &impl Fn(Timestamp) -> bool,
    ) -> Result<Option<TimestampOffset>, StorageError> {
        let handle = candidate.file.handle(OpenMode::Read)?;
        let path = candidate.file.path();
        let range = candidate.position..candidate.size_bytes;
        let mut scanner = Scanner::new(
            &*handle,
            range,
            Depth::Headers,
            Expect::segment(candidate.base_offset),
        );
        while let Step::Batch(header, position) = scanner.step().at("read", &path)? {
            if header.last_offset() < candidate.from || !matches(header.max_timestamp) {
                continue;
            }
            let bytes = scanner.batch_bytes(&header, position).at("read", &path)?;
            let found = self
                .search_batch(&header, bytes, candidate.from, matches)
                .map_err(|source| StorageError::UnreadableBatch {
                    path: path.clone(),
                    base_offset: header.base_offset,
                    source,
                })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn search_batch(
        &self,
        header: &BatchHeader,
        bytes: bytes::Bytes,
        from: Offset,
        matches: &impl Fn(Timestamp) -> bool,
    ) -> Result<Option<TimestampOffset>, highwater_types::record::BatchError> {
        let (batch, _) = RecordBatch::parse(bytes)?;
        let decoded = batch.decode(DecodeLimits::default())?;
        for record in decoded.views() {
            let record = record?;
            if record.offset >= from && matches(record.timestamp) {
                return Ok(Some(TimestampOffset {
                    timestamp: record.timestamp,
                    offset: record.offset,
                    leader_epoch: Some(header.partition_leader_epoch).filter(|epoch| epoch.get() >= 0),
                }));
            }
        }
        Ok(None)
    }
}
