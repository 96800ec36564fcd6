//! Record values that can be checked when they come back: a sequence number, a time, and filler that compresses to
//! about half.
//!
//! The filler is random and constant bytes in turn, out of a pool much larger than a batch, so that a codec finds no
//! repetition that real data would not have. Everything is a function of a fixed seed.

use bytes::{Bytes, BytesMut};

/// Bytes of sequence number and time in front of the filler.
pub const HEADER_BYTES: usize = 16;

const POOL_BYTES: usize = 4 << 20;
/// Runs of random and of constant bytes.
const RUN_BYTES: usize = 32;
/// Values are cut out of allocations of this size, so that making one costs a copy and little else.
const ARENA_BYTES: usize = 256 << 10;

/// SplitMix64: the next state and its output.
pub fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// What stands in front of the filler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Counts the records of a run from 0.
    pub sequence: u64,
    /// When the record was to be sent, in nanoseconds since the run began.
    pub intended_ns: u64,
}

impl Stamp {
    /// Reads the stamp of a value; `None` when the value is none of ours.
    pub fn read(value: &[u8]) -> Option<Self> {
        let (sequence, rest) = value.split_first_chunk()?;
        let intended_ns = rest.first_chunk()?;
        Some(Stamp {
            sequence: u64::from_le_bytes(*sequence),
            intended_ns: u64::from_le_bytes(*intended_ns),
        })
    }
}

/// Makes values of one size.
#[derive(Debug)]
pub struct Payloads {
    pool: Vec<u8>,
    arena: BytesMut,
    filler_bytes: usize,
    at: usize,
}

impl Payloads {
    /// Values of `record_bytes`, or of the stamp's size if that is more.
    pub fn new(record_bytes: usize) -> Self {
        let filler_bytes = record_bytes.saturating_sub(HEADER_BYTES);
        let mut pool = Vec::with_capacity(POOL_BYTES + filler_bytes + RUN_BYTES);
        let mut seed = 0;
        while pool.len() < POOL_BYTES + filler_bytes {
            for _ in 0..RUN_BYTES / 8 {
                pool.extend_from_slice(&split_mix(&mut seed).to_le_bytes());
            }
            pool.resize(pool.len() + RUN_BYTES, b'-');
        }
        Payloads {
            pool,
            arena: BytesMut::new(),
            filler_bytes,
            at: 0,
        }
    }

    /// Whether a value is, to the byte, the one that `next` gave for the same sequence, counted from 0.
    pub fn made(&self, sequence: u64, value: &[u8]) -> bool {
        let at = (u128::from(sequence) * self.filler_bytes as u128 % POOL_BYTES as u128) as usize;
        value.get(HEADER_BYTES..) == Some(&self.pool[at..at + self.filler_bytes])
    }

    /// The next value; its filler depends on how many came before, and on nothing else.
    pub fn next(&mut self, stamp: Stamp) -> Bytes {
        let needed = HEADER_BYTES + self.filler_bytes;
        if self.arena.capacity() < needed {
            self.arena = BytesMut::with_capacity(ARENA_BYTES.max(needed));
        }
        self.arena.extend_from_slice(&stamp.sequence.to_le_bytes());
        self.arena.extend_from_slice(&stamp.intended_ns.to_le_bytes());
        self.arena
            .extend_from_slice(&self.pool[self.at..self.at + self.filler_bytes]);
        self.at = (self.at + self.filler_bytes) % POOL_BYTES;
        self.arena.split().freeze()
    }
}

/// Follows the sequence numbers of one run as they come back, to prove that nothing is missing, doubled or out of order
/// within its partition.
#[derive(Debug, Default)]
pub struct Ledger {
    records: u64,
    sum: u128,
}

impl Ledger {
    /// Counts a record.
    pub fn add(&mut self, sequence: u64) {
        self.records += 1;
        self.sum += u128::from(sequence);
    }

    /// Adds what another reader counted.
    pub fn merge(&mut self, other: &Ledger) {
        self.records += other.records;
        self.sum += other.sum;
    }

    /// How many were counted.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Whether these are the sequences `0..records`, given that each partition's were strictly ascending.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self, records: u64) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.records == records,
            "{} of {records} records came back; the run does not count",
            self.records
        );
        let expected = u128::from(records) * u128::from(records.saturating_sub(1)) / 2;
        anyhow::ensure!(
            self.sum == expected,
            "{records} records came back, but not those that were sent; the run does not count"
        );
        Ok(())
    }
}

/// Checks the order within one partition.
#[derive(Debug, Default)]
pub struct PartitionOrder {
    next: u64,
}

impl PartitionOrder {
    /// Takes the next record of the partition; gives its stamp.
    ///
    /// # Errors
    /// When it is out of order or none of ours.
    pub fn take(&mut self, value: Option<&[u8]>, ledger: &mut Ledger) -> anyhow::Result<Stamp> {
        let stamp = value.and_then(Stamp::read);
        let stamp = stamp.ok_or_else(|| anyhow::anyhow!("a record came back that nobody sent"))?;
        anyhow::ensure!(
            stamp.sequence >= self.next,
            "record {} came after record {} of its partition; the run does not count",
            stamp.sequence,
            self.next - 1
        );
        self.next = stamp.sequence + 1;
        ledger.add(stamp.sequence);
        Ok(stamp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(sequence: u64) -> Stamp {
        Stamp {
            sequence,
            intended_ns: sequence * 7,
        }
    }

    #[test]
    fn values_have_their_size_and_give_their_stamp_back() {
        let mut payloads = Payloads::new(100);
        for sequence in 0..100_000 {
            let value = payloads.next(stamp(sequence));
            assert_eq!((value.len(), Stamp::read(&value)), (100, Some(stamp(sequence))));
        }
    }

    #[test]
    fn a_changed_byte_and_a_value_of_another_place_are_noticed() {
        let mut payloads = Payloads::new(1_000);
        let values: Vec<Bytes> = (0..10_000)
            .map(|sequence| payloads.next(stamp(sequence)))
            .collect();
        for (sequence, value) in (0..).zip(&values) {
            assert!(payloads.made(sequence, value));
            assert!(!payloads.made(sequence + 1, value));
        }
        let mut changed = values[5_000].to_vec();
        changed[999] ^= 1;
        assert!(!payloads.made(5_000, &changed));
    }

    #[test]
    fn a_missing_a_doubled_and_a_swapped_record_are_noticed() {
        let replay = |sequences: &[u64]| {
            let (mut ledger, mut order) = (Ledger::default(), PartitionOrder::default());
            let mut payloads = Payloads::new(20);
            for sequence in sequences {
                order.take(Some(&payloads.next(stamp(*sequence))), &mut ledger)?;
            }
            ledger.check(4)
        };
        assert!(replay(&[0, 1, 2, 3]).is_ok());
        assert!(replay(&[0, 1, 3]).is_err());
        assert!(replay(&[0, 1, 1, 3]).is_err());
        assert!(replay(&[0, 2, 1, 3]).is_err());
        assert!(replay(&[0, 1, 2, 4]).is_err());
    }
}
