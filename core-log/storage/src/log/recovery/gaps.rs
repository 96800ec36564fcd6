//! Offsets that are missing between one segment and the next: a file that was lost or removed by hand.
//!
//! Readers pass over them as over records that were compacted away, so somebody should be told. In a log that was never
//! compacted, a segment ends where the next one begins: it is rolled at the offset it has reached, aborted transactions
//! and markers included. In one that was, the last records of a segment may be gone by right, and segments are merged, so
//! nothing can be told there.
//!
//! Refuses: reading more of a trusted segment than what lies behind its last index entry, or, with an index too sparse
//! for that, more than [`MAX_BATCHES`]; damage there is for the reader who meets it.

use highwater_types::Offset;

use super::{Found, Opening};
use crate::disk::{OpenMode, read_exact_at};
use crate::error::{At, StorageError};
use crate::files::{self, FileKind};
use crate::index::{OFFSET_ENTRY_BYTES, OffsetEntry};
use crate::scan::{Depth, Expect, Scanner, Step};
use crate::segment::SegmentFile;

/// With the usual index interval (4 KiB), no more batches than that lie behind an entry.
const MAX_BATCHES: usize = 128;

impl Opening<'_> {
    /// Tells of what is missing between a segment and the next one, which begins at `next`. `end` is where the segment
    /// ends, if it has been read.
    pub(super) fn check_gap(
        &mut self,
        segment: &Found,
        file: &SegmentFile,
        end: Option<Offset>,
        next: Offset,
    ) -> Result<(), StorageError> {
        // What was deleted by right may have gone in any order.
        if self.config.compact || self.options.was_compacted || next <= self.options.log_start {
            return Ok(());
        }
        if segment.info.len_bytes == 0 {
            self.report.empty_segments += 1;
            tracing::error!(path = %file.path().display(),
                "a segment in the middle of a log is empty: what it held is gone, and readers pass over it; restore it \
                 from a copy");
            return Ok(());
        }
        let end = match end {
            None => self.end_of_trusted(segment, file)?,
            known => known,
        };
        if let Some(end) = end.filter(|end| *end < next) {
            self.report.gaps += 1;
            tracing::error!(dir = %self.dir.display(), first_missing = %end, next_segment = %next,
                missing_offsets = next.distance_from(end),
                "offsets are missing in the middle of a log: the segment that held them was lost or removed, and readers \
                 pass over them; restore it from a copy");
        }
        Ok(())
    }

    /// Where a segment ends whose index files look right; `None` where that cannot be told cheaply.
    fn end_of_trusted(&self, segment: &Found, file: &SegmentFile) -> Result<Option<Offset>, StorageError> {
        let indexed = self.last_indexed(segment)?;
        let position = indexed.map_or(0, |entry| u64::from(entry.position));
        let handle = file.handle(OpenMode::Read)?;
        let range = position..segment.info.len_bytes;
        let mut scanner = Scanner::new(&*handle, range, Depth::Headers, Expect::segment(segment.base));
        let mut end = None;
        for _ in 0..MAX_BATCHES {
            match scanner.step().at("read", &file.path())? {
                Step::Batch(header, at) => {
                    let expected = indexed.filter(|_| at == position);
                    let relative = header.last_offset().distance_from(segment.base);
                    if expected.is_some_and(|entry| i64::from(entry.relative_offset) != relative) {
                        return Ok(None);
                    }
                    end = Some(header.next_offset());
                }
                Step::End => return Ok(end),
                Step::Bad(..) => return Ok(None),
            }
        }
        Ok(None)
    }

    fn last_indexed(&self, segment: &Found) -> Result<Option<OffsetEntry>, StorageError> {
        let path = files::path(&self.dir, segment.base, FileKind::OffsetIndex);
        let file = self.disk.open(&path, OpenMode::Read).at("open", &path)?;
        let count = file.len_bytes().at("inspect", &path)? / OFFSET_ENTRY_BYTES;
        let Some(last) = count.checked_sub(1) else {
            return Ok(None);
        };
        let mut bytes = [0; 8];
        read_exact_at(&*file, &mut bytes, last * OFFSET_ENTRY_BYTES).at("read", &path)?;
        Ok(Some(OffsetEntry::decode(&bytes)))
    }
}
