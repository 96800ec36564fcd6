//! Reading: plan under the partition's lock, read outside of it.
//!
//! A read gives the bytes, or where they lie in a file ([`FileRange`]) so that they can be sent without passing
//! through memory of ours.
//!
//! # Invariants
//! - What a read gives begins with the batch that holds the offset asked for, whole (semantic 44), and ends with a
//!   whole batch below the upper bound.

use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use highwater_types::Offset;
use highwater_types::record::{BatchHeader, HEADER_BYTES};

use super::PartitionLog;
use super::locate::Located;
use crate::disk::{DiskFile, OpenMode, Patience, Patient, Unknown, read_vec};
use crate::error::{At, ReadError};
use crate::file_range::FileRange;
use crate::index::{self, Bounds, OffsetEntry, Place};
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

/// A read that has been planned. Holds its files open; needs no lock.
#[derive(Debug, Clone)]
pub struct ReadPlan {
    request: ReadRequest,
    /// Where to look, in order; empty when there is nothing to read.
    spans: Vec<Span>,
    slack_bytes: usize,
}

/// How the answer to a read is wanted.
#[derive(Debug, Clone, Copy)]
pub struct ReadOptions {
    /// Answers of this size and above may be given as ranges of a file; `None` for bytes in any case.
    pub min_file_bytes: Option<usize>,
    /// Whether to wait for the disk; if not, what is not in memory is [`ReadError::WouldWait`].
    pub waits: bool,
}

/// What a read gives: whole batches, or nothing.
#[derive(Debug)]
pub enum Records {
    /// The bytes.
    Bytes(Bytes),
    /// Where the bytes lie.
    File(FileRange),
}

impl Records {
    /// How many bytes.
    pub fn len_bytes(&self) -> usize {
        match self {
            Records::Bytes(bytes) => bytes.len(),
            Records::File(range) => range.len_bytes(),
        }
    }
}

/// A stretch of a segment.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub(super) segment: Arc<SegmentFile>,
    /// Open already, but for a segment that is only looked into if the one before it has nothing.
    handle: Option<Arc<dyn DiskFile>>,
    pub(super) base_offset: Offset,
    /// Above every offset of the stretch.
    pub(super) end_offset: Offset,
    /// From where to look for the offset; `None` if the index has to be asked.
    start: Option<Place>,
    pub(super) end: u64,
    /// Offset index of a sealed segment.
    pub(super) index: Option<Arc<dyn DiskFile>>,
    /// The last indexed batch within the limits, in the segment being written.
    pub(super) last_within: Option<OffsetEntry>,
    /// Whether new records are written to it: then what is read lies in memory as a rule.
    is_active: bool,
}

impl PartitionLog {
    /// Plans a read. Costs no disk access at the tail of a log that is written, at most the opening of two files
    /// elsewhere.
    ///
    /// # Errors
    /// [`ReadError::OffsetOutOfRange`] below the log start or above the log end (semantic 47); a file that cannot be
    /// opened.
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
        plan.spans.push(self.sealed_span(at, request)?);
        // If the offset lies in a gap at the end of this segment, its data begins in the next one that has any:
        // compaction leaves gaps, and segments without a batch.
        let next = (at + 1..self.sealed.len()).find(|next| self.sealed[*next].size_bytes > 0);
        plan.spans.push(match next {
            Some(next) => Span {
                segment: Arc::clone(&self.sealed[next].file),
                handle: None,
                base_offset: self.sealed[next].base_offset,
                end_offset: self.base_behind(next),
                start: Some(Place::default()),
                end: self.sealed[next].size_bytes,
                index: None,
                last_within: None,
                is_active: false,
            },
            None => self.active_span(ReadRequest {
                from: self.active.base_offset,
                ..request
            }),
        });
        Ok(plan)
    }

    /// Base of the segment behind a sealed one.
    fn base_behind(&self, sealed: usize) -> Offset {
        let next = self.sealed.get(sealed + 1);
        next.map_or(self.active.base_offset, |next| next.base_offset)
    }

    fn sealed_span(&self, at: usize, request: ReadRequest) -> Result<Span, ReadError> {
        let sealed = &self.sealed[at];
        let handle = sealed.file.handle(OpenMode::Read)?;
        let start = match request.from <= sealed.base_offset {
            true => Some(Place::default()),
            false => sealed.file.next_place(request.from),
        };
        // Opened here: once a cleaned segment has the name, it is the index of another file.
        let index = match (sealed.file.index_handle(), start) {
            (Ok(index), _) => Some(index),
            (Err(error), None) => return Err(error.into()),
            // It would only have saved time.
            (Err(_), Some(_)) => None,
        };
        self.keep_open(&handle, index.as_ref());
        Ok(Span {
            segment: Arc::clone(&sealed.file),
            handle: Some(handle),
            base_offset: sealed.base_offset,
            end_offset: self.base_behind(at),
            start,
            end: sealed.size_bytes,
            index,
            last_within: None,
            is_active: false,
        })
    }

    /// The active segment of a log that nobody writes: its file stays open for the next read. One that cannot be opened
    /// is reported by whoever reads it.
    fn open_active(&self) -> Option<Arc<dyn DiskFile>> {
        if self.active.size_bytes == 0 {
            return None;
        }
        let handle = self.active.file.handle(OpenMode::Read).ok()?;
        self.keep_open(&handle, None);
        Some(handle)
    }

    fn active_span(&self, request: ReadRequest) -> Span {
        let active = &self.active;
        let position = active.position_for_offset(request.from);
        let bounds = Bounds {
            position: position.saturating_add(request.max_bytes as u64),
            upto: request.upto,
        };
        Span {
            segment: Arc::clone(&active.file),
            handle: active.handle.clone().or_else(|| self.open_active()),
            base_offset: active.base_offset,
            end_offset: self.end,
            start: Some(Place { position, slot: 0 }),
            end: active.size_bytes,
            index: None,
            last_within: active.index.last_within(active.base_offset, bounds),
            is_active: true,
        }
    }
}

impl ReadPlan {
    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// Bytes this read cannot exceed but for the rule of the one whole batch, found without reading: exact at the
    /// tail, where the reader's next batch is the last one; elsewhere more.
    pub fn at_most_bytes(&self) -> usize {
        let left = |span: &Span| span.end.saturating_sub(span.start.unwrap_or_default().position);
        let bytes: u64 = self.spans.iter().map(left).sum();
        usize::try_from(bytes).unwrap_or(usize::MAX)
    }

    /// The soft limit in force.
    pub fn max_bytes(&self) -> usize {
        self.request.max_bytes
    }

    /// The same read with other limits. Raising the soft limit, or lowering it by much, makes the read dearer than one
    /// planned with it.
    pub fn limit(&mut self, max_bytes: usize, at_least_one_batch: bool) {
        self.request.max_bytes = max_bytes;
        self.request.at_least_one_batch = at_least_one_batch;
    }

    /// Whether the answer may be found as a range of a file, sizes left aside.
    pub fn has_descriptor(&self) -> bool {
        let file = self.spans.first().and_then(|span| span.handle.as_ref());
        file.is_some_and(|file| file.descriptor().is_some())
    }

    /// Reads, waiting for the disk. The answer is empty, or whole batches (semantics 43, 44, 45).
    ///
    /// # Errors
    /// [`ReadError::Changed`] when the log was cut or cleaned since the plan was made, and what the disk refuses.
    pub fn execute(&self) -> Result<Bytes, ReadError> {
        self.execute_with(Patience::Waits)
    }

    fn execute_with(&self, patience: Patience) -> Result<Bytes, ReadError> {
        if self.can_be_nothing_only() {
            return Ok(Bytes::new());
        }
        for span in &self.spans {
            let bytes = span.read(&self.request, self.slack_bytes, patience)?;
            match bytes {
                Found::Batches(bytes) => return Ok(bytes),
                Found::TooLarge => return Ok(Bytes::new()),
                Found::Nothing => {}
            }
        }
        Ok(Bytes::new())
    }

    /// Reads, or finds out where the answer lies. The answer is empty, or whole batches (semantics 43, 44, 45).
    ///
    /// # Errors
    /// [`ReadError::Changed`] when the log was cut or cleaned since the plan was made, [`ReadError::WouldWait`] if the
    /// options say not to wait, and what the disk refuses.
    pub fn fetch(&self, options: ReadOptions) -> Result<Records, ReadError> {
        // Bytes of the active segment were written lately; without an answer they are taken to be in memory.
        let is_tail = self.spans.iter().all(|span| span.is_active);
        let patience = match (options.waits, is_tail) {
            (true, _) => Patience::Waits,
            (false, true) => Patience::OnlyHere(Unknown::IsHere),
            (false, false) => Patience::OnlyHere(Unknown::IsAway),
        };
        let found = match options.min_file_bytes {
            Some(least) if self.at_most_bytes() >= least && self.has_descriptor() => {
                self.fetch_range(least, patience)
            }
            _ => self.execute_with(patience).map(Records::Bytes),
        };
        found.map_err(|error| match error {
            ReadError::Storage(error) if error.io_kind() == Some(ErrorKind::WouldBlock) => {
                ReadError::WouldWait
            }
            other => other,
        })
    }

    fn fetch_range(&self, least: usize, patience: Patience) -> Result<Records, ReadError> {
        let nothing = Ok(Records::Bytes(Bytes::new()));
        if self.can_be_nothing_only() {
            return nothing;
        }
        for span in &self.spans {
            let file = span.open()?;
            let _uncut = span.segment.uncut().ok_or_else(|| span.changed(0))?;
            let range = match span.locate(&*file, &self.request, patience)? {
                Located::Range(range) => range,
                Located::TooLarge => return nothing,
                Located::Nothing => continue,
            };
            if file.len_bytes().at("read", &span.segment.path())? < range.end {
                return Err(span.changed(range.start));
            }
            if ((range.end - range.start) as usize) < least {
                let file = Patient {
                    file: &*file,
                    patience,
                };
                let bytes = span.window(&file, range.start, (range.end - range.start) as usize)?;
                return Ok(Records::Bytes(bytes.into()));
            }
            return Ok(Records::File(FileRange::new(
                Arc::clone(&span.segment),
                file,
                range,
            )));
        }
        nothing
    }

    /// Whether the limits leave room for no batch at all.
    fn can_be_nothing_only(&self) -> bool {
        self.request.max_bytes < HEADER_BYTES && !self.request.at_least_one_batch
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
    fn open(&self) -> Result<Arc<dyn DiskFile>, ReadError> {
        match &self.handle {
            Some(handle) => Ok(Arc::clone(handle)),
            None => Ok(self.segment.handle(OpenMode::Read)?),
        }
    }

    /// From where to look for an offset.
    pub(super) fn start(&self, from: Offset, patience: Patience) -> Result<Place, ReadError> {
        match (self.start, &self.index) {
            (Some(place), _) => Ok(place),
            (None, Some(index)) => {
                let file = Patient {
                    file: &**index,
                    patience,
                };
                let found = index::place_for_offset(&file, self.base_offset, from);
                Ok(found.at("read", &self.segment.index_path())?)
            }
            (None, None) => Ok(Place::default()),
        }
    }

    fn read(
        &self,
        request: &ReadRequest,
        slack_bytes: usize,
        patience: Patience,
    ) -> Result<Found, ReadError> {
        let handle = self.open()?;
        let file = Patient {
            file: &*handle,
            patience,
        };
        let _uncut = self.segment.uncut().ok_or_else(|| self.changed(0))?;
        let start = self.start(request.from, patience)?.position;
        self.with_second_try(start, |position| {
            self.read_from(&file, position, request, slack_bytes)
        })
    }

    /// A damaged index can point anywhere: looks again from the beginning, which is always a batch.
    pub(super) fn with_second_try<T>(
        &self,
        position: u64,
        mut look: impl FnMut(u64) -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        match look(position) {
            Err(ReadError::Changed { .. }) if position > 0 => {
                let found = look(0)?;
                tracing::warn!(
                    path = %self.segment.path().display(),
                    position,
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
            match self.cut(&window, at, position, request)? {
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

    pub(super) fn changed(&self, position: u64) -> ReadError {
        ReadError::Changed {
            path: self.segment.path(),
            position,
        }
    }

    /// Walks the batch headers of a window that begins at `at`: skips batches below the offset, takes whole ones.
    /// `start` is where the index led to.
    fn cut(&self, window: &[u8], at: u64, start: u64, request: &ReadRequest) -> Result<Cut, ReadError> {
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
            let led_too_far = cursor == 0 && at > 0 && at == start && header.base_offset > request.from;
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
