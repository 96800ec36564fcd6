//! Reading: plan under the partition's lock, read outside of it.
//!
//! # Invariants
//! - What a read gives begins with the batch that holds the offset asked for, whole (semantic 44), and ends with a
//!   whole batch below the upper bound.

use std::sync::Arc;

use bytes::Bytes;
use highwater_types::Offset;
use highwater_types::record::{BatchHeader, HEADER_BYTES};

use super::PartitionLog;
use crate::disk::{DiskFile, OpenMode, read_vec};
use crate::error::{At, ReadError};
use crate::segment::SegmentFile;

/// What to read.
#[derive(Debug, Clone, Copy)]
pub struct ReadRequest {
    /// First offset wanted.
    pub from: Offset,
    /// Exclusive: high watermark, last stable offset or log end.
    pub upto: Offset,
    /// Soft limit (semantic 43).
    pub max_bytes: usize,
    /// Give one batch even if it is larger than `max_bytes`.
    pub at_least_one_batch: bool,
}

/// A read that has been located. Holds its file open; needs no lock.
#[derive(Debug, Clone)]
pub struct ReadPlan {
    request: ReadRequest,
    /// Where to look, in order; empty when there is nothing to read.
    spans: Vec<Span>,
    slack_bytes: usize,
}

/// A stretch of a segment.
#[derive(Debug, Clone)]
struct Span {
    segment: Arc<SegmentFile>,
    /// Open already when the segment is the one being written.
    handle: Option<Arc<dyn DiskFile>>,
    base_offset: Offset,
    position: u64,
    end: u64,
}

impl PartitionLog {
    /// Locates a read. Costs no disk access at the tail, an index search elsewhere.
    ///
    /// # Errors
    /// [`ReadError::OffsetOutOfRange`] below the log start or above the log end (semantic 47); an index that cannot
    /// be read.
    pub fn plan_read(&self, request: ReadRequest) -> Result<ReadPlan, ReadError> {
        let (start, end) = (self.start_offset(), self.end_offset());
        if request.from < start || request.from > end {
            return Err(ReadError::OffsetOutOfRange {
                offset: request.from,
                start,
                end,
            });
        }
        let mut plan = ReadPlan {
            request,
            spans: Vec::new(),
            slack_bytes: self.config.index_interval_bytes as usize,
        };
        if request.from >= request.upto.min(end) {
            return Ok(plan);
        }
        let sealed = self
            .sealed
            .partition_point(|segment| segment.base_offset <= request.from);
        if sealed == self.sealed.len() && request.from >= self.active.base_offset {
            plan.spans.push(self.active_span(request));
            return Ok(plan);
        }
        // A log start above zero may lie before the first segment's base only by mistake; begin there then.
        let at = sealed.saturating_sub(1);
        let segment = &self.sealed[at];
        let handle = segment.file.handle(OpenMode::Read)?;
        self.keep_open(&handle);
        plan.spans.push(Span {
            segment: Arc::clone(&segment.file),
            handle: Some(handle),
            base_offset: segment.base_offset,
            position: segment.position_for_offset(request.from)?,
            end: segment.size_bytes,
        });
        // If the offset lies in a gap at the end of this segment, its data begins in the next one that has any:
        // compaction leaves gaps, and segments without a batch.
        let next = self.sealed[at + 1..].iter().find(|next| next.size_bytes > 0);
        plan.spans.push(match next {
            Some(next) => Span {
                segment: Arc::clone(&next.file),
                handle: None,
                base_offset: next.base_offset,
                position: 0,
                end: next.size_bytes,
            },
            None => self.active_span(ReadRequest {
                from: self.active.base_offset,
                ..request
            }),
        });
        Ok(plan)
    }

    fn active_span(&self, request: ReadRequest) -> Span {
        let active = &self.active;
        Span {
            segment: Arc::clone(&active.file),
            handle: active.handle.clone(),
            base_offset: active.base_offset,
            position: active.position_for_offset(request.from),
            end: active.size_bytes,
        }
    }
}

impl ReadPlan {
    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Bytes this read cannot exceed but for the rule of the one whole batch, found without reading: exact at the
    /// tail, where the reader's next batch is the last one; elsewhere up to an index interval more.
    pub fn at_most_bytes(&self) -> usize {
        let bytes: u64 = self
            .spans
            .iter()
            .map(|span| span.end.saturating_sub(span.position))
            .sum();
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// The same read with other limits.
    pub fn limit(&mut self, max_bytes: usize, at_least_one_batch: bool) {
        self.request.max_bytes = max_bytes;
        self.request.at_least_one_batch = at_least_one_batch;
    }

    /// Reads. The answer is empty, or whole batches (semantics 43, 44, 45).
    ///
    /// # Errors
    /// [`ReadError::Changed`] when the log was cut or cleaned since the plan was made, and what the disk refuses.
    pub fn execute(&self) -> Result<Bytes, ReadError> {
        for span in &self.spans {
            let bytes = span.read(&self.request, self.slack_bytes)?;
            match bytes {
                Found::Batches(bytes) => return Ok(bytes),
                Found::TooLarge => return Ok(Bytes::new()),
                Found::Nothing => {}
            }
        }
        Ok(Bytes::new())
    }
}

/// Outcome of looking into one span.
enum Found {
    Batches(Bytes),
    /// The first batch is over the limit and need not be given.
    TooLarge,
    /// No batch at or behind the offset.
    Nothing,
}

impl Span {
    fn read(&self, request: &ReadRequest, slack_bytes: usize) -> Result<Found, ReadError> {
        let handle = match &self.handle {
            Some(handle) => Arc::clone(handle),
            None => self.segment.handle(OpenMode::Read)?,
        };
        match self.read_from(&*handle, self.position, request, slack_bytes) {
            // A damaged index can point anywhere: look again from the beginning, which is always a batch.
            Err(ReadError::Changed { .. }) if self.position > 0 => {
                let found = self.read_from(&*handle, 0, request, slack_bytes)?;
                tracing::warn!(
                    path = %self.segment.path().display(),
                    position = self.position,
                    "index does not lead to a batch, the segment was read from its beginning"
                );
                Ok(found)
            }
            other => other,
        }
    }

    fn read_from(
        &self,
        file: &dyn DiskFile,
        position: u64,
        request: &ReadRequest,
        slack_bytes: usize,
    ) -> Result<Found, ReadError> {
        let mut at = position;
        let mut want = request
            .max_bytes
            .saturating_add(slack_bytes)
            .saturating_add(HEADER_BYTES);
        loop {
            let window = self.window(file, at, want)?;
            match self.cut(&window, at, request)? {
                Cut::Done(range) if range.is_empty() => return Ok(Found::Nothing),
                Cut::Done(range) => return Ok(Found::Batches(Bytes::from(window).slice(range))),
                Cut::TooLarge => return Ok(Found::TooLarge),
                Cut::Again { position, .. } if position >= self.end => return Ok(Found::Nothing),
                Cut::Again { position, bytes } => {
                    at = position;
                    want = bytes.max(request.max_bytes.min(want));
                }
            }
        }
    }

    fn window(&self, file: &dyn DiskFile, at: u64, want: usize) -> Result<Vec<u8>, ReadError> {
        let left = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let want = left.min(want);
        let window = read_vec(file, want, at).at("read", &self.segment.path())?;
        if window.len() < want {
            return Err(self.changed(at + window.len() as u64));
        }
        Ok(window)
    }

    fn changed(&self, position: u64) -> ReadError {
        ReadError::Changed {
            path: self.segment.path(),
            position,
        }
    }

    /// Walks the batch headers of a window that begins at `at`: skips batches below the offset, takes whole ones.
    fn cut(&self, window: &[u8], at: u64, request: &ReadRequest) -> Result<Cut, ReadError> {
        let mut cursor = 0;
        let mut taken: Option<std::ops::Range<usize>> = None;
        loop {
            let rest = &window[cursor..];
            let position = at + cursor as u64;
            if rest.len() < HEADER_BYTES {
                let more = (self.end - position) as usize;
                return Ok(match taken {
                    Some(range) => Cut::Done(range),
                    None if more < HEADER_BYTES => Cut::Done(0..0),
                    None => Cut::Again {
                        position,
                        bytes: HEADER_BYTES,
                    },
                });
            }
            let Ok(header) = BatchHeader::parse(rest) else {
                // What stands before the damage is given: who reads on meets it at the very batch.
                return taken.map_or_else(|| Err(self.changed(position)), |range| Ok(Cut::Done(range)));
            };
            let size = header.size_bytes();
            // An index leads to a batch at or before the offset, or it is wrong.
            let led_too_far =
                cursor == 0 && at > 0 && at == self.position && header.base_offset > request.from;
            if header.base_offset < self.base_offset || size as u64 > self.end - position || led_too_far {
                return taken.map_or_else(|| Err(self.changed(position)), |range| Ok(Cut::Done(range)));
            }
            if header.base_offset >= request.upto {
                return Ok(Cut::Done(taken.unwrap_or(0..0)));
            }
            if header.last_offset() < request.from {
                cursor += size;
                if cursor > window.len() {
                    return Ok(Cut::Again {
                        position: at + cursor as u64,
                        bytes: HEADER_BYTES,
                    });
                }
                continue;
            }
            let begin = taken.as_ref().map_or(cursor, |range| range.start);
            let end = cursor + size;
            if end - begin > request.max_bytes && (taken.is_some() || !request.at_least_one_batch) {
                return Ok(taken.map_or(Cut::TooLarge, Cut::Done));
            }
            if end > window.len() {
                return Ok(match taken {
                    Some(range) => Cut::Done(range),
                    None => Cut::Again {
                        position,
                        bytes: size,
                    },
                });
            }
            taken = Some(begin..end);
            cursor = end;
        }
    }
}

/// What a walk over a window came to.
enum Cut {
    /// These bytes of the window; empty when there are none.
    Done(std::ops::Range<usize>),
    TooLarge,
    /// Read on from here, at least so many bytes.
    Again {
        position: u64,
        bytes: usize,
    },
}
