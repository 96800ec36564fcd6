//! Aborted transactions of a segment, in Kafka's `.txnindex` format.
//!
//! ```text
//! 34 bytes each: i16 version 0, i64 producer id, i64 first offset, i64 last offset, i64 last stable offset
//! ```
//! An entry lies in the segment that holds the abort marker. Few transactions abort, so entries are read from the
//! file when a read_committed reader asks, and nothing is kept in memory.

use highwater_types::{Offset, ProducerId};

use crate::error::FormatProblem;

/// Bytes of an entry.
pub(crate) const ENTRY_BYTES: usize = 34;

/// One aborted transaction: readers of committed data drop the producer's transactional records from the first
/// offset up to its next marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Who wrote it.
    pub producer_id: ProducerId,
    /// Its first record.
    pub first_offset: Offset,
    /// The abort marker.
    pub last_offset: Offset,
    /// Last stable offset once the marker was written: nothing below it is undecided.
    pub last_stable_offset: Offset,
}

impl AbortedTransaction {
    /// The entry's bytes.
    pub(crate) fn encode(&self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[2..10].copy_from_slice(&self.producer_id.get().to_be_bytes());
        bytes[10..18].copy_from_slice(&self.first_offset.get().to_be_bytes());
        bytes[18..26].copy_from_slice(&self.last_offset.get().to_be_bytes());
        bytes[26..].copy_from_slice(&self.last_stable_offset.get().to_be_bytes());
        bytes
    }

    fn decode(bytes: &[u8; ENTRY_BYTES]) -> Result<Self, FormatProblem> {
        let mut reader = crate::fields::Fields::new(bytes);
        let version = reader.i16()?;
        if version != 0 {
            return Err(FormatProblem::Version(version.to_string()));
        }
        Ok(Self {
            producer_id: ProducerId::new(reader.i64()?),
            first_offset: Offset::new(reader.i64()?),
            last_offset: Offset::new(reader.i64()?),
            last_stable_offset: Offset::new(reader.i64()?),
        })
    }
}

/// Reads a whole file. Last offsets grow, and lie in the segment `base..end`.
pub(crate) fn decode(
    bytes: &[u8],
    base: Offset,
    end: Offset,
) -> Result<Vec<AbortedTransaction>, FormatProblem> {
    let (chunks, rest) = bytes.as_chunks::<ENTRY_BYTES>();
    if !rest.is_empty() {
        return Err(FormatProblem::Short(bytes.len()));
    }
    let mut entries: Vec<AbortedTransaction> = Vec::with_capacity(chunks.len());
    for chunk in chunks {
        let entry = AbortedTransaction::decode(chunk)?;
        let after_previous = entries
            .last()
            .is_none_or(|last| last.last_offset < entry.last_offset);
        let inside = base <= entry.last_offset && entry.last_offset < end;
        if !after_previous || !inside || entry.first_offset > entry.last_offset {
            return Err(FormatProblem::Order(entries.len()));
        }
        entries.push(entry);
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aborted(first: i64, last: i64) -> AbortedTransaction {
        AbortedTransaction {
            producer_id: ProducerId::new(5),
            first_offset: Offset::new(first),
            last_offset: Offset::new(last),
            last_stable_offset: Offset::new(last + 1),
        }
    }

    #[test]
    fn entries_have_kafkas_bytes() {
        let bytes = aborted(10, 20).encode();
        let mut golden = vec![0, 0];
        for field in [5_u8, 10, 20, 21] {
            golden.extend([0, 0, 0, 0, 0, 0, 0, field]);
        }
        assert_eq!(bytes[..], golden[..]);
        assert_eq!(
            decode(&bytes, Offset::ZERO, Offset::new(21)).unwrap(),
            [aborted(10, 20)]
        );
    }

    #[test]
    fn damaged_files_are_refused() {
        let good = [aborted(10, 20).encode(), aborted(15, 30).encode()].concat();
        let read = |bytes: &[u8]| decode(bytes, Offset::new(5), Offset::new(40));
        assert_eq!(read(&good).unwrap().len(), 2);
        assert!(read(&good[..40]).is_err(), "cut short");
        assert!(read(&[0; 34]).is_err(), "zeros lie outside the segment");
        assert!(
            decode(&good, Offset::new(100), Offset::new(200)).is_err(),
            "of another segment"
        );
        let reversed = [aborted(15, 30).encode(), aborted(10, 20).encode()].concat();
        assert!(read(&reversed).is_err(), "out of order");
    }
}
