//! Reading the records of a decompressed body.
//!
//! Two ways over the same bytes: [`RecordViews`] borrows and allocates nothing, for brokers and other passers-by;
//! [`Records`] gives out owned records whose parts share the body's buffer, for clients.
//!
//! Refuses: skipping what is broken. The first problem comes out as an error and ends the walk.
//!
//! # Invariants
//! - Every length is compared with the bytes left before it is used, and every record ends where its length says.
//! - Offset deltas grow and stay within the header's last one; exactly the header's count of records fill the body.
//!   So where count and last delta agree, the deltas are 0 to n-1 (semantic 26).

use std::ops::Range;

use bytes::Bytes;

use super::{BatchError, BatchHeader, Header, Record, RecordProblem, TimestampType, varint};
use crate::ids::{Offset, Timestamp};

/// Bytes of the smallest record: seven fields of one byte each.
const MIN_RECORD_BYTES: usize = 7;
/// Bytes of the smallest header: two lengths.
const MIN_HEADER_BYTES: usize = 2;

/// A batch whose body is at hand uncompressed.
#[derive(Debug, Clone)]
pub struct DecodedBatch {
    header: BatchHeader,
    body: Bytes,
}

impl DecodedBatch {
    pub(super) const fn new(header: BatchHeader, body: Bytes) -> Self {
        Self { header, body }
    }

    /// The header of the batch.
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The encoded records, uncompressed.
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// Walks over the records without allocating.
    pub fn views(&self) -> RecordViews<'_> {
        RecordViews::over(&self.header, &self.body)
    }

    /// Walks over the records, giving out owned ones that share the body.
    pub fn into_records(self) -> Records {
        Records {
            walk: Walk::new(&self.header),
            body: self.body,
        }
    }
}

/// A record that borrows from its batch.
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'a> {
    /// Where the record stands in its partition, once the batch is stamped.
    pub offset: Offset,
    /// When it was made or appended.
    pub timestamp: Timestamp,
    /// The key; null differs from empty.
    pub key: Option<&'a [u8]>,
    /// The value; null differs from empty.
    pub value: Option<&'a [u8]>,
    headers: HeaderViews<'a>,
}

impl<'a> RecordView<'a> {
    /// The headers in order, duplicates kept.
    pub const fn headers(&self) -> HeaderViews<'a> {
        self.headers
    }
}

/// A header that borrows from its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderView<'a> {
    /// The name, as bytes.
    pub key: &'a [u8],
    /// The value; null differs from empty.
    pub value: Option<&'a [u8]>,
}

/// The headers of one [`RecordView`]; they have been checked when the record was read.
#[derive(Debug, Clone, Copy)]
pub struct HeaderViews<'a> {
    bytes: &'a [u8],
    left: u32,
}

impl<'a> HeaderViews<'a> {
    /// The headers left as they stand in the batch, and how many they are.
    pub(super) const fn encoded(&self) -> (&'a [u8], u32) {
        (self.bytes, self.left)
    }
}

impl<'a> Iterator for HeaderViews<'a> {
    type Item = HeaderView<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let mut cursor = Cursor::new(self.bytes, 0..self.bytes.len());
        // Neither can fail: reading the record has walked over these very bytes.
        let key = cursor.field().ok()??;
        let value = cursor.field().ok()?;
        let view = HeaderView {
            key: &self.bytes[key],
            value: value.map(|range| &self.bytes[range]),
        };
        self.bytes = &self.bytes[cursor.at..];
        Some(view)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for HeaderViews<'_> {}

/// Borrowing walk over the records of a batch, see [`DecodedBatch::views`].
#[derive(Debug, Clone)]
pub struct RecordViews<'a> {
    body: &'a [u8],
    walk: Walk,
}

impl<'a> RecordViews<'a> {
    /// Walks over an uncompressed body.
    pub(super) fn over(header: &BatchHeader, body: &'a [u8]) -> Self {
        Self {
            body,
            walk: Walk::new(header),
        }
    }
}

impl<'a> Iterator for RecordViews<'a> {
    type Item = Result<RecordView<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let body = self.body;
        self.walk.next_with(body, |parts, cursor| {
            let from = cursor.at;
            for _ in 0..parts.header_count {
                cursor.header()?;
            }
            Ok(RecordView {
                offset: parts.offset,
                timestamp: parts.timestamp,
                key: parts.key.map(|range| &body[range]),
                value: parts.value.map(|range| &body[range]),
                headers: HeaderViews {
                    bytes: &body[from..cursor.at],
                    left: parts.header_count,
                },
            })
        })
    }
}

impl std::iter::FusedIterator for RecordViews<'_> {}

/// Owning walk over the records of a batch, see [`DecodedBatch::into_records`].
#[derive(Debug, Clone)]
pub struct Records {
    body: Bytes,
    walk: Walk,
}

impl Records {
    pub(super) fn collect_all(self) -> Result<Vec<Record>, BatchError> {
        // The count comes from outside; the body bounds it.
        let most = self.body.len() / MIN_RECORD_BYTES;
        let mut records = Vec::with_capacity(most.min(self.walk.left()));
        for record in self {
            records.push(record?);
        }
        Ok(records)
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let body = &self.body;
        self.walk.next_with(body, |parts, cursor| {
            let mut headers = Vec::with_capacity(parts.header_count as usize);
            for _ in 0..parts.header_count {
                let (key, value) = cursor.header()?;
                headers.push(Header {
                    key: body.slice(key),
                    value: value.map(|range| body.slice(range)),
                });
            }
            Ok(Record {
                offset: parts.offset,
                timestamp: parts.timestamp,
                key: parts.key.map(|range| body.slice(range)),
                value: parts.value.map(|range| body.slice(range)),
                headers,
            })
        })
    }
}

impl std::iter::FusedIterator for Records {}

/// What both walks share: where they stand and what the next record must fulfil.
#[derive(Debug, Clone)]
struct Walk {
    base_offset: Offset,
    base_timestamp: Timestamp,
    /// Set when all records have the time of their append.
    append_time: Option<Timestamp>,
    last_offset_delta: i32,
    record_count: i32,
    at: usize,
    index: i32,
    least_delta: i32,
    ended: bool,
}

/// The fields of a record in front of its headers; ranges are positions in the body.
struct Parts {
    offset: Offset,
    timestamp: Timestamp,
    key: Option<Range<usize>>,
    value: Option<Range<usize>>,
    header_count: u32,
}

impl Walk {
    fn new(header: &BatchHeader) -> Self {
        Self {
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            append_time: (header.timestamp_type() == TimestampType::LogAppendTime)
                .then_some(header.max_timestamp),
            last_offset_delta: header.last_offset_delta,
            record_count: header.record_count,
            at: 0,
            index: 0,
            least_delta: 0,
            ended: false,
        }
    }

    /// Records that the header still promises.
    fn left(&self) -> usize {
        usize::try_from(self.record_count - self.index).unwrap_or(0)
    }

    /// Reads the record at hand and lets `finish` read its headers and make the item.
    #[inline]
    fn next_with<T>(
        &mut self,
        body: &[u8],
        finish: impl FnOnce(Parts, &mut Cursor<'_>) -> Result<T, RecordProblem>,
    ) -> Option<Result<T, BatchError>> {
        if self.ended {
            return None;
        }
        if self.index >= self.record_count {
            self.ended = true;
            return self.trailing(body.len()).map(Err);
        }
        let mut cursor = Cursor::new(body, self.at..body.len());
        match self.read(&mut cursor, finish) {
            Ok(item) => {
                self.at = cursor.at;
                self.index += 1;
                Some(Ok(item))
            }
            Err(problem) => {
                self.ended = true;
                Some(Err(BatchError::Record {
                    base_offset: self.base_offset.get(),
                    index: self.index,
                    position: cursor.at,
                    problem,
                }))
            }
        }
    }

    #[inline]
    fn read<T>(
        &mut self,
        cursor: &mut Cursor<'_>,
        finish: impl FnOnce(Parts, &mut Cursor<'_>) -> Result<T, RecordProblem>,
    ) -> Result<T, RecordProblem> {
        let length = cursor.i32()?;
        let record_bytes = cursor.bounded(length)?;
        let body_end = cursor.end;
        cursor.end = cursor.at + record_bytes;

        cursor.skip_attributes()?;
        let timestamp_delta = cursor.i64()?;
        let delta = cursor.i32()?;
        if delta < self.least_delta || delta > self.last_offset_delta {
            return Err(RecordProblem::BadOffsetDelta {
                delta,
                least: self.least_delta,
                last: self.last_offset_delta,
            });
        }
        let key = cursor.field()?;
        let value = cursor.field()?;
        let header_count = cursor.header_count()?;
        let parts = Parts {
            offset: self.base_offset.advance_by(i64::from(delta)),
            // The writer's difference may have wrapped, so does the sum, as in Java.
            timestamp: self.append_time.unwrap_or(Timestamp::new(
                self.base_timestamp.get().wrapping_add(timestamp_delta),
            )),
            key,
            value,
            header_count,
        };
        let item = finish(parts, cursor)?;
        if cursor.at != cursor.end {
            return Err(RecordProblem::LeftOver {
                left_bytes: cursor.end - cursor.at,
            });
        }
        cursor.end = body_end;
        // Saturating matters for a delta of 2^31-1 only, which ends the batch anyway.
        self.least_delta = delta.saturating_add(1);
        Ok(item)
    }

    fn trailing(&self, body_bytes: usize) -> Option<BatchError> {
        let left_bytes = body_bytes - self.at;
        (left_bytes > 0).then_some(BatchError::TrailingBytes {
            base_offset: self.base_offset.get(),
            record_count: self.record_count,
            left_bytes,
        })
    }
}

/// A position in a body that never passes `end`.
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    const fn new(bytes: &'a [u8], window: Range<usize>) -> Self {
        Self {
            bytes,
            at: window.start,
            end: window.end,
        }
    }

    #[inline]
    fn i32(&mut self) -> Result<i32, RecordProblem> {
        varint::get_i32(&self.bytes[..self.end], &mut self.at).ok_or(RecordProblem::BadNumber)
    }

    #[inline]
    fn i64(&mut self) -> Result<i64, RecordProblem> {
        varint::get_i64(&self.bytes[..self.end], &mut self.at).ok_or(RecordProblem::BadNumber)
    }

    /// The attributes of a record mean nothing yet; any value is taken, as Java takes it.
    #[inline]
    fn skip_attributes(&mut self) -> Result<(), RecordProblem> {
        if self.at >= self.end {
            return Err(RecordProblem::BadNumber);
        }
        self.at += 1;
        Ok(())
    }

    /// A length of 0 or more that the bytes left can bear out.
    #[inline]
    fn bounded(&self, length: i32) -> Result<usize, RecordProblem> {
        let available_bytes = self.end - self.at;
        match usize::try_from(length) {
            Ok(bytes) if bytes <= available_bytes => Ok(bytes),
            _ => Err(RecordProblem::BadLength {
                length,
                available_bytes,
            }),
        }
    }

    /// A nullable field with its length in front.
    #[inline]
    fn field(&mut self) -> Result<Option<Range<usize>>, RecordProblem> {
        let length = self.i32()?;
        if length == -1 {
            return Ok(None);
        }
        let bytes = self.bounded(length)?;
        let from = self.at;
        self.at += bytes;
        Ok(Some(from..self.at))
    }

    #[inline]
    fn header_count(&mut self) -> Result<u32, RecordProblem> {
        let count = self.i32()?;
        let available_bytes = self.end - self.at;
        match u32::try_from(count) {
            Ok(fits) if fits as usize <= available_bytes / MIN_HEADER_BYTES => Ok(fits),
            _ => Err(RecordProblem::BadHeaderCount {
                count,
                available_bytes,
            }),
        }
    }

    fn header(&mut self) -> Result<(Range<usize>, Option<Range<usize>>), RecordProblem> {
        let key = self.field()?.ok_or(RecordProblem::BadLength {
            length: -1,
            available_bytes: self.end - self.at,
        })?;
        Ok((key, self.field()?))
    }
}
