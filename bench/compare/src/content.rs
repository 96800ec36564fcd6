//! Whether what comes back is what was sent: every record once, in the order of its partition, equal to the byte.
//!
//! Record `i` goes to partition `i % partitions`, so each partition must hold `p, p + partitions, ..` without a gap;
//! the filler of a record is a function of its number.

use anyhow::{Context, Result, ensure};
use highwater_bench_kit::payload::{Payloads, Stamp};

pub(crate) struct Checker {
    expected: Vec<u64>,
    payloads: Payloads,
    record_bytes: usize,
    records: u64,
}

impl Checker {
    pub(crate) fn new(record_bytes: usize, partitions: i32) -> Self {
        let partitions = u64::try_from(partitions).unwrap_or_default();
        Checker {
            expected: (0..partitions).collect(),
            payloads: Payloads::new(record_bytes),
            record_bytes,
            records: 0,
        }
    }

    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Takes the next record of a partition; gives its stamp.
    ///
    /// # Errors
    /// When it is not the one that must come next.
    pub(crate) fn take(&mut self, partition: i32, value: &[u8]) -> Result<Stamp> {
        let stamp = Stamp::read(value).context("a record came back that nobody sent")?;
        let partitions = self.expected.len() as u64;
        let expected = usize::try_from(partition)
            .ok()
            .and_then(|partition| self.expected.get_mut(partition))
            .with_context(|| format!("a record came back from partition {partition}, which has none"))?;
        ensure!(
            stamp.sequence == *expected,
            "partition {partition} gave record {} where {expected} belongs; the run does not count",
            stamp.sequence
        );
        ensure!(
            value.len() == self.record_bytes && self.payloads.made(stamp.sequence, value),
            "record {} of partition {partition} came back changed; the run does not count",
            stamp.sequence
        );
        *expected += partitions;
        self.records += 1;
        Ok(stamp)
    }
}

/// The partition of a record.
pub(crate) fn partition_of(sequence: u64, partitions: i32) -> i32 {
    (sequence % u64::from(partitions.unsigned_abs())) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_a_doubled_and_a_changed_record_are_noticed() {
        let mut payloads = Payloads::new(100);
        let values: Vec<_> = (0..6)
            .map(|sequence| {
                payloads.next(Stamp {
                    sequence,
                    intended_ns: 0,
                })
            })
            .collect();
        let replay = |order: &[usize]| -> Result<u64> {
            let mut checker = Checker::new(100, 2);
            for index in order {
                checker.take(partition_of(*index as u64, 2), &values[*index])?;
            }
            Ok(checker.records())
        };
        assert_eq!(
            replay(&[1, 0, 3, 5, 2, 4]).expect("partitions interleave freely"),
            6
        );
        assert!(replay(&[0, 4]).is_err());
        assert!(replay(&[0, 2, 2]).is_err());
        let mut checker = Checker::new(100, 2);
        let mut changed = values[0].to_vec();
        changed[50] ^= 1;
        assert!(checker.take(0, &changed).is_err());
        assert!(checker.take(0, &values[0][..99]).is_err());
        assert!(checker.take(2, &values[0]).is_err());
    }
}
