//! Record bytes where they lie: a stretch of a segment's file that can be sent without being read.
//!
//! Refuses: sockets (whoever sends brings the call), bytes that were taken back.
//!
//! # Invariants
//! - What is sent are the bytes that were located. Retention and compaction leave the file behind, which the range
//!   holds open; a log that is cut first makes its ranges refuse, and waits for those in the middle of a step. Pages
//!   that a socket holds already are out of reach: a cut may zero the rest of the last page it keeps, and later
//!   records may fill it, so a reader of records that are cut away can see them damaged (their checksums say so) or
//!   replaced. Only records above the high watermark, which no reader is given, are cut but in an unclean election.

use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::disk::{DiskFile, Unknown, is_resident, read_vec};
use crate::segment::SegmentFile;

/// Distance of the reads that bring a file's pages into memory.
const PAGE_BYTES: usize = 4096;

/// A stretch of a segment's file. Holds the file open, and no memory.
#[derive(Debug, Clone)]
pub struct FileRange {
    segment: Arc<SegmentFile>,
    file: Arc<dyn DiskFile>,
    left: Range<u64>,
}

/// One step of sending: so many bytes of a file from a position on.
#[derive(Debug)]
pub struct Step<'a> {
    /// The file.
    pub file: BorrowedFd<'a>,
    /// Where to begin.
    pub position: u64,
    /// The most to send.
    pub max_bytes: usize,
}

impl FileRange {
    pub(crate) fn new(segment: Arc<SegmentFile>, file: Arc<dyn DiskFile>, left: Range<u64>) -> Self {
        Self { segment, file, left }
    }

    /// Bytes that are still to be sent.
    pub fn len_bytes(&self) -> usize {
        usize::try_from(self.left.end - self.left.start).unwrap_or(usize::MAX)
    }

    /// Whether everything was sent.
    pub fn is_empty(&self) -> bool {
        self.left.is_empty()
    }

    /// Where the next byte lies, for the log: file and position.
    pub fn place(&self) -> (PathBuf, u64) {
        (self.segment.path(), self.left.start)
    }

    fn next(&self, max_bytes: usize) -> Range<u64> {
        self.left.start
            ..self
                .left
                .end
                .min(self.left.start.saturating_add(max_bytes as u64))
    }

    /// Whether the next bytes can be sent without waiting for the disk, as far as can be told.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before the range does, and what the disk refuses.
    pub fn is_resident(&self, max_bytes: usize) -> io::Result<bool> {
        is_resident(&*self.file, self.next(max_bytes), Unknown::IsAway)
    }

    /// Waits until the next bytes lie in memory, one byte of each page being copied.
    ///
    /// # Errors
    /// What the disk refuses.
    pub fn bring_in(&self, max_bytes: usize) -> io::Result<()> {
        for position in self.next(max_bytes).step_by(PAGE_BYTES) {
            match self.file.read_at(&mut [0], position) {
                // Who sends meets the end of the file too.
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends the next bytes with `send`, which says how many it has sent, and moves on behind them. The bytes cannot
    /// be taken back while `send` runs, so it must not wait for anything but the disk.
    ///
    /// # Errors
    /// `UnexpectedEof` if the bytes are there no more, and what `send` refuses.
    pub fn send(
        &mut self,
        max_bytes: usize,
        send: impl FnOnce(Step<'_>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let next = self.next(max_bytes);
        let _uncut = self.segment.uncut().ok_or(ErrorKind::UnexpectedEof)?;
        let file = self.file.descriptor().ok_or(ErrorKind::Unsupported)?;
        let sent = send(Step {
            file,
            position: next.start,
            max_bytes: (next.end - next.start) as usize,
        })?;
        if sent == 0 && !next.is_empty() {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.left.start = next.end.min(next.start + sent as u64);
        Ok(sent)
    }

    /// Reads the next bytes, for when they cannot be sent as they lie, and moves on behind them.
    ///
    /// # Errors
    /// `UnexpectedEof` if the bytes are there no more, and what the disk refuses.
    pub fn read(&mut self, max_bytes: usize) -> io::Result<Bytes> {
        let next = self.next(max_bytes);
        let want = (next.end - next.start) as usize;
        let _uncut = self.segment.uncut().ok_or(ErrorKind::UnexpectedEof)?;
        let bytes = read_vec(&*self.file, want, next.start)?;
        if bytes.len() < want {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.left.start = next.end;
        Ok(bytes.into())
    }
}
