//! The two sparse indexes of a segment, in Kafka's format, and the lookups in them.
//!
//! ```text
//! <base>.index      8 bytes each: i32 offset relative to the base, i32 position in the .log
//! <base>.timeindex 12 bytes each: i64 timestamp, i32 offset relative to the base
//! ```
//! An offset entry names the *last* offset of the batch that begins at its position; a time entry names the
//! largest timestamp so far and the last offset of the batch that reached it. Both grow strictly.
//!
//! The active segment keeps its entries in memory and writes them out on flush, roll and close; sealed segments are
//! searched on disk, so that they cost no memory. Files are a hint: what they say is checked against the log by
//! whoever follows it, and a file that cannot be right is rebuilt from the log.

use std::io;

use highwater_types::{Offset, Timestamp};

use crate::disk::{DiskFile, read_exact_at};

/// Bytes of an offset entry.
pub(crate) const OFFSET_ENTRY_BYTES: u64 = 8;
/// Bytes of a time entry.
pub(crate) const TIME_ENTRY_BYTES: u64 = 12;

/// One entry of the offset index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OffsetEntry {
    /// Last offset of the batch, relative to the segment's base.
    pub(crate) relative_offset: u32,
    /// Where the batch begins.
    pub(crate) position: u32,
}

/// One entry of the time index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimeEntry {
    /// Largest timestamp up to and including the batch.
    pub(crate) timestamp: Timestamp,
    /// Last offset of the batch, relative to the segment's base.
    pub(crate) relative_offset: u32,
}

impl OffsetEntry {
    fn encode(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.relative_offset.to_be_bytes());
        bytes[4..].copy_from_slice(&self.position.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8; 8]) -> Self {
        let [a, b, c, d, e, f, g, h] = *bytes;
        Self {
            relative_offset: u32::from_be_bytes([a, b, c, d]),
            position: u32::from_be_bytes([e, f, g, h]),
        }
    }
}

impl TimeEntry {
    fn encode(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.timestamp.get().to_be_bytes());
        bytes[8..].copy_from_slice(&self.relative_offset.to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8; 12]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = *bytes;
        Self {
            timestamp: Timestamp::new(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
            relative_offset: u32::from_be_bytes([i, j, k, l]),
        }
    }
}

/// Timestamp and offset of the record (or batch) with the largest timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MaxTimestamp {
    pub(crate) timestamp: Timestamp,
    /// Last offset of the batch that holds it.
    pub(crate) offset: Offset,
}

/// What the indexes need to know of an appended batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Indexed {
    pub(crate) last_offset: Offset,
    pub(crate) max_timestamp: Timestamp,
    pub(crate) position: u32,
    pub(crate) size_bytes: u32,
}

/// The indexes of the segment being written.
#[derive(Debug, Default)]
pub(crate) struct SparseIndex {
    offsets: Vec<OffsetEntry>,
    times: Vec<TimeEntry>,
    /// Entries that are in the files already.
    written_offsets: usize,
    written_times: usize,
    bytes_since_entry: u32,
    max: Option<MaxTimestamp>,
}

impl SparseIndex {
    /// Takes note of a batch that has been written.
    pub(crate) fn append(&mut self, base: Offset, batch: Indexed, interval_bytes: u32) {
        let later = self.max.is_none_or(|max| batch.max_timestamp > max.timestamp);
        if later && batch.max_timestamp.get() >= 0 {
            self.max = Some(MaxTimestamp {
                timestamp: batch.max_timestamp,
                offset: batch.last_offset,
            });
        }
        if self.bytes_since_entry > interval_bytes {
            self.offsets.push(OffsetEntry {
                relative_offset: relative(base, batch.last_offset),
                position: batch.position,
            });
            self.push_max_time(base);
            self.bytes_since_entry = 0;
        }
        self.bytes_since_entry = self.bytes_since_entry.saturating_add(batch.size_bytes);
    }

    fn push_max_time(&mut self, base: Offset) {
        let Some(max) = self.max else { return };
        if self
            .times
            .last()
            .is_none_or(|last| max.timestamp > last.timestamp)
        {
            self.times.push(TimeEntry {
                timestamp: max.timestamp,
                relative_offset: relative(base, max.offset),
            });
        }
    }

    /// Adds the entry that lets a sealed segment's largest timestamp be read from its time index.
    pub(crate) fn seal(&mut self, base: Offset) {
        self.push_max_time(base);
    }

    /// Largest timestamp so far.
    pub(crate) fn max_timestamp(&self) -> Option<MaxTimestamp> {
        self.max
    }

    /// Bytes of the larger of the two files, were they written now.
    pub(crate) fn larger_file_bytes(&self) -> u64 {
        (self.offsets.len() as u64 * OFFSET_ENTRY_BYTES).max(self.times.len() as u64 * TIME_ENTRY_BYTES)
    }

    /// Position from which a scan finds `target`.
    pub(crate) fn position_for_offset(&self, base: Offset, target: Offset) -> u64 {
        let target = target.distance_from(base);
        let after = self
            .offsets
            .partition_point(|entry| i64::from(entry.relative_offset) <= target);
        after
            .checked_sub(1)
            .map_or(0, |at| u64::from(self.offsets[at].position))
    }

    /// The last entry within `bounds`.
    pub(crate) fn last_within(&self, base: Offset, bounds: Bounds) -> Option<OffsetEntry> {
        let after = self.offsets.partition_point(|entry| bounds.hold(base, *entry));
        after.checked_sub(1).map(|at| self.offsets[at])
    }

    /// Offset from which a scan finds the first record at or after `target`.
    pub(crate) fn offset_for_time(&self, base: Offset, target: Timestamp) -> Offset {
        let after = self.times.partition_point(|entry| entry.timestamp <= target);
        match after.checked_sub(1) {
            Some(at) => base.advance_by(i64::from(self.times[at].relative_offset)),
            None => base,
        }
    }

    /// Largest timestamp of the entries, and where the last offset entry points: what a reopened segment knows.
    pub(crate) fn last_position(&self) -> u64 {
        self.offsets.last().map_or(0, |entry| u64::from(entry.position))
    }

    /// Entries not in the files yet, with the positions they belong at: offsets, times.
    pub(crate) fn pending(&self) -> (Pending, Pending) {
        let offsets = self.offsets[self.written_offsets..]
            .iter()
            .flat_map(|entry| entry.encode())
            .collect();
        let times = self.times[self.written_times..]
            .iter()
            .flat_map(|entry| entry.encode())
            .collect();
        (
            Pending {
                position: self.written_offsets as u64 * OFFSET_ENTRY_BYTES,
                bytes: offsets,
            },
            Pending {
                position: self.written_times as u64 * TIME_ENTRY_BYTES,
                bytes: times,
            },
        )
    }

    /// Whether `pending` has something.
    pub(crate) fn has_pending(&self) -> bool {
        self.written_offsets < self.offsets.len() || self.written_times < self.times.len()
    }

    /// The pending entries have been written.
    pub(crate) fn mark_written(&mut self) {
        self.written_offsets = self.offsets.len();
        self.written_times = self.times.len();
    }

    /// Restores the index of a reopened segment; `None` if the entries cannot be right for a segment that begins
    /// at `base`, and of which `log_bytes` are there.
    pub(crate) fn load(base: Offset, log_bytes: u64, offset_bytes: &[u8], time_bytes: &[u8]) -> Option<Self> {
        let (offset_chunks, offset_rest) = offset_bytes.as_chunks::<8>();
        let (time_chunks, time_rest) = time_bytes.as_chunks::<12>();
        if !offset_rest.is_empty() || !time_rest.is_empty() {
            return None;
        }
        let offsets: Vec<OffsetEntry> = offset_chunks.iter().map(OffsetEntry::decode).collect();
        let times: Vec<TimeEntry> = time_chunks.iter().map(TimeEntry::decode).collect();
        let offsets_grow =
            offsets.is_sorted_by(|a, b| a.relative_offset < b.relative_offset && a.position < b.position);
        let times_grow =
            times.is_sorted_by(|a, b| a.timestamp < b.timestamp && a.relative_offset < b.relative_offset);
        let inside = offsets
            .last()
            .is_none_or(|last| u64::from(last.position) < log_bytes)
            && offsets.first().is_none_or(|first| first.position > 0);
        if !offsets_grow || !times_grow || !inside {
            return None;
        }
        let max = times.last().map(|last| MaxTimestamp {
            timestamp: last.timestamp,
            offset: base.advance_by(i64::from(last.relative_offset)),
        });
        Some(Self {
            written_offsets: offsets.len(),
            written_times: times.len(),
            offsets,
            times,
            bytes_since_entry: 0,
            max,
        })
    }

    /// Forgets entries of `upto` and above: the log there has to be read anew. The files are cut with the next write.
    pub(crate) fn truncate(&mut self, base: Offset, upto: Offset) {
        let upto = upto.distance_from(base);
        self.offsets
            .retain(|entry| i64::from(entry.relative_offset) < upto);
        self.times.retain(|entry| i64::from(entry.relative_offset) < upto);
        self.written_offsets = self.written_offsets.min(self.offsets.len());
        self.written_times = self.written_times.min(self.times.len());
        self.max = self.times.last().map(|last| MaxTimestamp {
            timestamp: last.timestamp,
            offset: base.advance_by(i64::from(last.relative_offset)),
        });
    }

    /// The batch the last offset entry names: its last offset and where it begins.
    pub(crate) fn last_entry(&self, base: Offset) -> Option<(Offset, u64)> {
        let last = self.offsets.last()?;
        let offset = base.advance_by(i64::from(last.relative_offset));
        Some((offset, u64::from(last.position)))
    }

    /// Takes note of the batch of the last entry, or of the first batch, without adding an entry: used while reopening.
    pub(crate) fn resume(&mut self, batch: Indexed) {
        if self.max.is_none_or(|max| batch.max_timestamp > max.timestamp) && batch.max_timestamp.get() >= 0 {
            self.max = Some(MaxTimestamp {
                timestamp: batch.max_timestamp,
                offset: batch.last_offset,
            });
        }
        self.bytes_since_entry = self.bytes_since_entry.saturating_add(batch.size_bytes);
    }

    /// The offset the time index's last entry names must lie below the segment's end.
    pub(crate) fn last_time_offset(&self, base: Offset) -> Option<Offset> {
        self.times
            .last()
            .map(|last| base.advance_by(i64::from(last.relative_offset)))
    }
}

/// Bytes for a file, and where they go.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) position: u64,
    pub(crate) bytes: Vec<u8>,
}

fn relative(base: Offset, offset: Offset) -> u32 {
    // Segments are rolled before an offset is further than i32::MAX from their base.
    u32::try_from(offset.distance_from(base)).expect("offsets of a segment lie within i32 of its base")
}

/// As [`SparseIndex::position_for_offset`], in the file of a sealed segment.
pub(crate) fn search_offset_file(file: &dyn DiskFile, base: Offset, target: Offset) -> io::Result<u64> {
    Ok(place_for_offset(file, base, target)?.position)
}

/// A position in a log from which to read on, and the first entry of the index that can matter from there on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) position: u64,
    pub(crate) slot: u64,
}

/// As [`search_offset_file`], with the place in the index.
pub(crate) fn place_for_offset(file: &dyn DiskFile, base: Offset, target: Offset) -> io::Result<Place> {
    let count = file.len_bytes()? / OFFSET_ENTRY_BYTES;
    let target = target.distance_from(base);
    let found = last_that(file, 0..count, |entry| i64::from(entry.relative_offset) <= target)?;
    Ok(found.map_or_else(Place::default, |(slot, entry)| Place {
        position: u64::from(entry.position),
        slot,
    }))
}

/// As [`SparseIndex::last_within`], in the file of a sealed segment; also the entry's place in it. Looks from `slot`
/// on, and first of all right behind it: the next answer ends a few hundred entries from where it begins.
pub(crate) fn last_within_file(
    file: &dyn DiskFile,
    base: Offset,
    slot: u64,
    bounds: Bounds,
) -> io::Result<Option<(u64, OffsetEntry)>> {
    let count = file.len_bytes()? / OFFSET_ENTRY_BYTES;
    let near = slot..count.min(slot.saturating_add(BLOCK_ENTRIES));
    let found = last_that(file, near.clone(), |entry| bounds.hold(base, entry))?;
    let goes_on = near.end < count && found.is_some_and(|(at, _)| at + 1 == near.end);
    if !goes_on {
        return Ok(found);
    }
    Ok(last_that(file, near.end..count, |entry| bounds.hold(base, entry))?.or(found))
}

/// What an answer may not go beyond.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// A batch begins here at the latest.
    pub(crate) position: u64,
    /// Exclusive.
    pub(crate) upto: Offset,
}

impl Bounds {
    fn hold(self, base: Offset, entry: OffsetEntry) -> bool {
        u64::from(entry.position) <= self.position
            && base.advance_by(i64::from(entry.relative_offset)) < self.upto
    }
}

/// Entries read in one step once a search is as narrow as this: a page of the file.
const BLOCK_ENTRIES: u64 = 4096 / OFFSET_ENTRY_BYTES;

/// The last entry of `slots` for which `holds`, which holds for all before it as well.
fn last_that(
    file: &dyn DiskFile,
    slots: std::ops::Range<u64>,
    holds: impl Fn(OffsetEntry) -> bool,
) -> io::Result<Option<(u64, OffsetEntry)>> {
    let (mut low, mut high) = (slots.start, slots.end);
    // What is looked for is not below `low` and not at or above `high`.
    while high.saturating_sub(low) > BLOCK_ENTRIES {
        let middle = low + (high - low) / 2;
        match holds(read_offset_entry(file, middle)?) {
            true => low = middle,
            false => high = middle,
        }
    }
    if high <= low {
        return Ok(None);
    }
    let mut block = [0; 4096];
    let bytes = &mut block[..((high - low) * OFFSET_ENTRY_BYTES) as usize];
    read_exact_at(file, bytes, low * OFFSET_ENTRY_BYTES)?;
    let (entries, _) = bytes.as_chunks::<8>();
    let after = entries.partition_point(|entry| holds(OffsetEntry::decode(entry)));
    Ok(after
        .checked_sub(1)
        .map(|at| (low + at as u64, OffsetEntry::decode(&entries[at]))))
}

/// As [`SparseIndex::offset_for_time`], in the file of a sealed segment.
pub(crate) fn search_time_file(file: &dyn DiskFile, base: Offset, target: Timestamp) -> io::Result<Offset> {
    let count = file.len_bytes()? / TIME_ENTRY_BYTES;
    let after = partition_point(count, |at| Ok(read_time_entry(file, at)?.timestamp <= target))?;
    match after.checked_sub(1) {
        Some(at) => Ok(base.advance_by(i64::from(read_time_entry(file, at)?.relative_offset))),
        None => Ok(base),
    }
}

/// Last entry of the time index of a sealed segment: its largest timestamp.
pub(crate) fn last_time_entry(file: &dyn DiskFile) -> io::Result<Option<TimeEntry>> {
    match (file.len_bytes()? / TIME_ENTRY_BYTES).checked_sub(1) {
        Some(at) => read_time_entry(file, at).map(Some),
        None => Ok(None),
    }
}

fn read_offset_entry(file: &dyn DiskFile, at: u64) -> io::Result<OffsetEntry> {
    let mut bytes = [0; OFFSET_ENTRY_BYTES as usize];
    read_exact_at(file, &mut bytes, at * OFFSET_ENTRY_BYTES)?;
    Ok(OffsetEntry::decode(&bytes))
}

fn read_time_entry(file: &dyn DiskFile, at: u64) -> io::Result<TimeEntry> {
    let mut bytes = [0; TIME_ENTRY_BYTES as usize];
    read_exact_at(file, &mut bytes, at * TIME_ENTRY_BYTES)?;
    Ok(TimeEntry::decode(&bytes))
}

fn partition_point(count: u64, mut below: impl FnMut(u64) -> io::Result<bool>) -> io::Result<u64> {
    let (mut low, mut high) = (0, count);
    while low < high {
        let middle = low + (high - low) / 2;
        if below(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(last: i64, ts: i64, position: u32) -> Indexed {
        Indexed {
            last_offset: Offset::new(last),
            max_timestamp: Timestamp::new(ts),
            position,
            size_bytes: 100,
        }
    }

    /// Three batches of 100 bytes at offsets 1000..1009, 1010..1019, 1020..1029; an entry every 50 bytes.
    fn three() -> SparseIndex {
        let mut index = SparseIndex::default();
        index.append(Offset::new(1000), batch(1009, 500, 0), 50);
        index.append(Offset::new(1000), batch(1019, 400, 100), 50);
        index.append(Offset::new(1000), batch(1029, 600, 200), 50);
        index
    }

    #[test]
    fn files_have_kafkas_bytes() {
        let mut index = three();
        index.seal(Offset::new(1000));
        let (offsets, times) = index.pending();
        assert_eq!(
            offsets.bytes,
            [0, 0, 0, 19, 0, 0, 0, 100, 0, 0, 0, 29, 0, 0, 0, 200]
        );
        assert_eq!(
            times.bytes,
            [
                0, 0, 0, 0, 0, 0, 1, 244, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 2, 88, 0, 0, 0, 29
            ]
        );
    }

    #[test]
    fn lookups_give_a_position_at_or_before_the_target() {
        let index = three();
        let base = Offset::new(1000);
        let at = |offset| index.position_for_offset(base, Offset::new(offset));
        assert_eq!(
            (at(1000), at(1018), at(1019), at(1028), at(1029), at(5000)),
            (0, 0, 100, 100, 200, 200)
        );
        let time = |ts| index.offset_for_time(base, Timestamp::new(ts)).get();
        assert_eq!(
            (time(499), time(500), time(599), time(600)),
            (1000, 1009, 1009, 1029)
        );
    }

    #[test]
    fn a_loaded_index_equals_the_written_one_and_garbage_is_refused() {
        let index = three();
        let (offsets, times) = index.pending();
        let base = Offset::new(1000);
        let loaded = SparseIndex::load(base, 300, &offsets.bytes, &times.bytes).unwrap();
        assert_eq!(loaded.offsets, index.offsets);
        assert_eq!(loaded.times, index.times);
        assert!(!loaded.has_pending());
        assert!(
            SparseIndex::load(base, 300, &offsets.bytes[1..], &times.bytes).is_none(),
            "odd size"
        );
        assert!(
            SparseIndex::load(base, 200, &offsets.bytes, &times.bytes).is_none(),
            "beyond the log"
        );
        assert!(
            SparseIndex::load(base, 300, &[0; 16], &times.bytes).is_none(),
            "zeros"
        );
    }
}
