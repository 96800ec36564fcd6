//! Walking the batches of a segment file, in order, with as much trust as the caller has.
//!
//! Refuses: to go past the first batch that cannot be right. Telling a torn tail from damage in the middle is
//! [`valid_batch_behind`]'s work. Everything read here is untrusted: lengths are compared with the file before
//! anything is reserved.

use std::io;

use bytes::Bytes;
use highwater_types::record::{BatchHeader, HEADER_BYTES, RecordBatch};
use highwater_types::{LeaderEpoch, Offset};

use crate::disk::{DiskFile, read_up_to};
use crate::error::BadBatch;

const WINDOW_BYTES: usize = 64 * 1024;
/// Offsets of a segment are stored relative to its base in 31 bits.
const MAX_RELATIVE_OFFSET: i64 = i32::MAX as i64;

/// How much of each batch is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Depth {
    /// Headers only: for files that were closed or synced properly.
    Headers,
    /// Checksums as well.
    Checksums,
}

/// One step of a scan.
#[derive(Debug)]
pub(crate) enum Step {
    /// A batch, and where it begins.
    Batch(BatchHeader, u64),
    /// The end of the file, on a batch boundary.
    End,
    /// A batch that cannot be right, and where it begins.
    Bad(BadBatch, u64),
}

/// What must hold of the next batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Expect {
    /// First offset of the segment.
    pub(crate) base_offset: Offset,
    /// The next batch begins here or later.
    pub(crate) next_offset: Offset,
    /// Epochs do not fall below this one.
    pub(crate) epoch: LeaderEpoch,
}

impl Expect {
    /// At the beginning of a segment.
    pub(crate) fn segment(base_offset: Offset) -> Self {
        Self {
            base_offset,
            next_offset: base_offset,
            epoch: LeaderEpoch::UNKNOWN,
        }
    }
}

/// Reads batch after batch.
#[derive(Debug)]
pub(crate) struct Scanner<'a> {
    file: &'a dyn DiskFile,
    position: u64,
    end: u64,
    depth: Depth,
    expect: Expect,
    window: Vec<u8>,
    window_at: u64,
}

impl<'a> Scanner<'a> {
    /// A scan of `position..end` of a file.
    pub(crate) fn new(
        file: &'a dyn DiskFile,
        range: std::ops::Range<u64>,
        depth: Depth,
        expect: Expect,
    ) -> Self {
        Self {
            file,
            position: range.start,
            end: range.end,
            depth,
            expect,
            window: Vec::new(),
            window_at: 0,
        }
    }

    /// Where the next batch begins.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next batch.
    pub(crate) fn step(&mut self) -> io::Result<Step> {
        let available = self.end.saturating_sub(self.position);
        if available == 0 {
            return Ok(Step::End);
        }
        let at = self.position;
        let header = match BatchHeader::parse(self.view(at, HEADER_BYTES)?) {
            Ok(header) => header,
            Err(error) => return Ok(Step::Bad(error.into(), at)),
        };
        if let Err(bad) = self.check_place(&header, available) {
            return Ok(Step::Bad(bad, at));
        }
        let size = header.size_bytes();
        if self.depth == Depth::Checksums {
            let bytes = self.view(at, size)?;
            if let Err(bad) = check_crc(&header, bytes) {
                return Ok(Step::Bad(bad, at));
            }
        }
        self.position += size as u64;
        self.expect.next_offset = header.next_offset();
        self.expect.epoch = header.partition_leader_epoch;
        Ok(Step::Batch(header, at))
    }

    fn check_place(&self, header: &BatchHeader, available: u64) -> Result<(), BadBatch> {
        let Expect {
            base_offset,
            next_offset,
            epoch,
        } = self.expect;
        if header.base_offset < next_offset {
            return Err(BadBatch::OffsetBackwards {
                expected: next_offset,
                found: header.base_offset,
            });
        }
        if header.last_offset().distance_from(base_offset) > MAX_RELATIVE_OFFSET {
            return Err(BadBatch::OutsideSegment {
                base_offset,
                found: header.last_offset(),
            });
        }
        if header.partition_leader_epoch < epoch {
            return Err(BadBatch::EpochBackwards {
                previous: epoch,
                found: header.partition_leader_epoch,
            });
        }
        let claimed = header.size_bytes() as u64;
        if claimed > available {
            return Err(BadBatch::Incomplete {
                claimed_bytes: claimed,
                available_bytes: available,
            });
        }
        Ok(())
    }

    /// Whole bytes of a batch that `step` gave.
    pub(crate) fn batch_bytes(&mut self, header: &BatchHeader, position: u64) -> io::Result<Bytes> {
        let size = header.size_bytes();
        Ok(Bytes::copy_from_slice(self.view(position, size)?))
    }

    /// Up to `len` bytes from `position`, fewer at the end of the range.
    fn view(&mut self, position: u64, len: usize) -> io::Result<&[u8]> {
        let len = len.min(usize::try_from(self.end - position).unwrap_or(usize::MAX));
        let window_end = self.window_at + self.window.len() as u64;
        if position < self.window_at || position + len as u64 > window_end {
            let left = usize::try_from(self.end - position).unwrap_or(usize::MAX);
            self.window.resize(len.max(WINDOW_BYTES).min(left), 0);
            let read = read_up_to(self.file, &mut self.window, position)?;
            self.window.truncate(read);
            self.window_at = position;
        }
        let from = (position - self.window_at) as usize;
        let to = (from + len).min(self.window.len());
        Ok(&self.window[from..to])
    }
}

fn check_crc(header: &BatchHeader, bytes: &[u8]) -> Result<(), BadBatch> {
    // The CRC begins after itself, at byte 21.
    let computed = crc32c::crc32c(bytes.get(21..).unwrap_or_default());
    if bytes.len() == header.size_bytes() && computed == header.crc {
        return Ok(());
    }
    Err(BadBatch::Header(
        highwater_types::record::BatchError::CrcMismatch {
            base_offset: header.base_offset.get(),
            stored: header.crc,
            computed,
        },
    ))
}

/// First whole batch with a valid checksum behind `position` whose offset is above `above`, within
/// `position..end` of the file: evidence that the damage at `position` is no torn tail.
///
/// Every byte is tried, since a damaged length cannot be trusted to lead to the next batch.
pub(crate) fn valid_batch_behind(
    file: &dyn DiskFile,
    range: std::ops::Range<u64>,
    above: Offset,
) -> io::Result<Option<Offset>> {
    let mut chunk = vec![0; WINDOW_BYTES];
    let mut at = range.start;
    while at + HEADER_BYTES as u64 <= range.end {
        let want = usize::try_from(range.end - at)
            .unwrap_or(usize::MAX)
            .min(chunk.len());
        let read = read_up_to(file, &mut chunk[..want], at)?;
        if read < HEADER_BYTES {
            break;
        }
        // Zeros are what a file system leaves where a length got ahead of its data.
        let is_blank = chunk[..read].iter().all(|byte| *byte == 0);
        let starts = if is_blank { 0 } else { read - HEADER_BYTES + 1 };
        for start in 0..starts {
            let position = at + start as u64;
            if let Some(offset) = candidate(file, &chunk[start..read], position..range.end, above)? {
                return Ok(Some(offset));
            }
        }
        at += (read - HEADER_BYTES + 1) as u64;
    }
    Ok(None)
}

fn candidate(
    file: &dyn DiskFile,
    head: &[u8],
    range: std::ops::Range<u64>,
    above: Offset,
) -> io::Result<Option<Offset>> {
    // The magic byte first: it rejects nearly every position for one comparison.
    if head[16] != 2 {
        return Ok(None);
    }
    let Ok(header) = BatchHeader::parse(head) else {
        return Ok(None);
    };
    let distance = header.base_offset.distance_from(above);
    let size = header.size_bytes();
    if distance <= 0 || distance > MAX_RELATIVE_OFFSET || size as u64 > range.end - range.start {
        return Ok(None);
    }
    let mut bytes = vec![0; size];
    let read = read_up_to(file, &mut bytes, range.start)?;
    let whole = read == size
        && RecordBatch::parse(Bytes::from(bytes)).is_ok_and(|(batch, _)| batch.verify_crc().is_ok());
    Ok(whole.then_some(header.base_offset))
}
