//! Finding where the batches of an answer begin and end without reading them.
//!
//! The index leads to the neighbourhood of both ends, and batch headers from there to the ends themselves. What lies
//! between is not looked at: damage there is found by the reader's checksum, and by us when it comes back for the
//! very batch.

use std::io::ErrorKind;
use std::ops::Range;

use highwater_types::record::{BatchHeader, HEADER_BYTES};

use super::read::{ReadRequest, Span};
use crate::disk::{DiskFile, Patience, Patient, read_exact_at};
use crate::error::{At, ReadError};
use crate::index::{self, Bounds, Place};

/// Batches smaller than this are looked at a page at a time.
const SMALL_BATCH_BYTES: usize = 1024;
/// Bytes read in one step where batches are small.
const CHUNK_BYTES: usize = 4096;

/// Outcome of looking into one span.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Located {
    /// Whole batches.
    Range(Range<u64>),
    /// The first batch is over the limit and need not be given.
    TooLarge,
    /// No batch at or behind the offset.
    Nothing,
}

impl Span {
    /// Finds the whole batches that answer `request`, reading headers only.
    pub(super) fn locate(
        &self,
        file: &dyn DiskFile,
        request: &ReadRequest,
        patience: Patience,
    ) -> Result<Located, ReadError> {
        let start = self.start(request.from, patience)?;
        self.with_second_try(start.position, |position| {
            let start = match position {
                0 => Place::default(),
                _ => start,
            };
            self.locate_from(&mut Headers::new(self, file, patience), start, request)
        })
    }

    fn locate_from(
        &self,
        headers: &mut Headers<'_>,
        start: Place,
        request: &ReadRequest,
    ) -> Result<Located, ReadError> {
        let Some((begin, first)) = self.first_batch(headers, start.position, request)? else {
            return Ok(Located::Nothing);
        };
        let behind_first = begin + first.size_bytes() as u64;
        if first.size_bytes() > request.max_bytes {
            return Ok(match request.at_least_one_batch {
                true => Located::Range(begin..behind_first),
                false => Located::TooLarge,
            });
        }
        let bounds = Bounds {
            position: begin.saturating_add(request.max_bytes as u64),
            upto: request.upto,
        };
        let mut place = Place {
            position: behind_first,
            slot: start.slot,
        };
        if self.end <= bounds.position && self.end_offset <= request.upto {
            place.position = self.end;
            self.segment.note_next(self.end_offset, place);
            return Ok(Located::Range(begin..self.end));
        }
        if let Some(jump) = self.jump(headers, start.slot, bounds)?
            && jump.position > behind_first
        {
            place = jump;
        }
        // Damage ends the answer here: who reads on meets it at the very batch.
        while let Some(header) = headers.at(place.position)? {
            let next = place.position + header.size_bytes() as u64;
            if next > bounds.position || header.base_offset >= request.upto {
                self.segment.note_next(header.base_offset, place);
                break;
            }
            place.position = next;
        }
        Ok(Located::Range(begin..place.position))
    }

    /// The batch that holds the offset, or the first one behind it.
    fn first_batch(
        &self,
        headers: &mut Headers<'_>,
        start: u64,
        request: &ReadRequest,
    ) -> Result<Option<(u64, BatchHeader)>, ReadError> {
        let mut position = start;
        while self.end.saturating_sub(position) >= HEADER_BYTES as u64 {
            let header = headers.at(position)?.ok_or_else(|| self.changed(position))?;
            // An index leads to a batch at or before the offset, or it is wrong.
            if position == start && position > 0 && header.base_offset > request.from {
                return Err(self.changed(position));
            }
            if header.base_offset >= request.upto {
                return Ok(None);
            }
            if header.last_offset() >= request.from {
                return Ok(Some((position, header)));
            }
            position += header.size_bytes() as u64;
        }
        Ok(None)
    }

    /// Where the last indexed batch within the bounds begins, if the log bears the index out.
    fn jump(&self, headers: &mut Headers<'_>, slot: u64, bounds: Bounds) -> Result<Option<Place>, ReadError> {
        let found = match &self.index {
            Some(file) => {
                let file = Patient {
                    file: &**file,
                    patience: headers.patience,
                };
                index::last_within_file(&file, self.base_offset, slot, bounds)
                    .at("read", &self.segment.index_path())?
            }
            None => self.last_within.map(|entry| (slot, entry)),
        };
        let Some((slot, entry)) = found else {
            return Ok(None);
        };
        let position = u64::from(entry.position);
        let offset = self.base_offset.advance_by(i64::from(entry.relative_offset));
        let is_borne_out = position <= bounds.position
            && headers
                .at(position)?
                .is_some_and(|header| header.last_offset() == offset);
        Ok(is_borne_out.then_some(Place { position, slot }))
    }
}

/// Reads batch headers, a page at a time where batches are small.
struct Headers<'a> {
    span: &'a Span,
    file: &'a dyn DiskFile,
    patience: Patience,
    chunk: Vec<u8>,
    chunk_at: u64,
    are_small: bool,
}

impl<'a> Headers<'a> {
    fn new(span: &'a Span, file: &'a dyn DiskFile, patience: Patience) -> Self {
        Self {
            span,
            file,
            patience,
            chunk: Vec::new(),
            chunk_at: 0,
            are_small: false,
        }
    }

    /// The header at a position; `None` where no whole batch of the span begins.
    fn at(&mut self, position: u64) -> Result<Option<BatchHeader>, ReadError> {
        let left = self.span.end.saturating_sub(position);
        if left < HEADER_BYTES as u64 {
            return Ok(None);
        }
        let begin = position.checked_sub(self.chunk_at).map(|begin| begin as usize);
        let known = begin.and_then(|begin| self.chunk.get(begin..begin.checked_add(HEADER_BYTES)?));
        let header = match known {
            Some(known) => BatchHeader::parse(known),
            None => BatchHeader::parse(self.read(position, left)?),
        };
        let Ok(header) = header else { return Ok(None) };
        let size = header.size_bytes();
        self.are_small = size < SMALL_BATCH_BYTES;
        let is_inside = header.base_offset >= self.span.base_offset && size as u64 <= left;
        Ok(is_inside.then_some(header))
    }

    fn read(&mut self, position: u64, left: u64) -> Result<&[u8], ReadError> {
        let want = match self.are_small {
            true => left.min(CHUNK_BYTES as u64) as usize,
            false => HEADER_BYTES,
        };
        let file = Patient {
            file: self.file,
            patience: self.patience,
        };
        self.chunk_at = position;
        self.chunk.resize(want, 0);
        match read_exact_at(&file, &mut self.chunk, position) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Err(self.span.changed(position)),
            other => {
                other.at("read", &self.span.segment.path())?;
                Ok(&self.chunk)
            }
        }
    }
}
