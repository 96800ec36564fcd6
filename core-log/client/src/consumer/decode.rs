//! From fetched bytes to records: drops what lies before the position, control batches, and, when asked, records of
//! aborted transactions.

use std::collections::{HashSet, VecDeque};

use highwater_types::{
    Bytes, LeaderEpoch, Offset, ProducerId,
    record::{BatchError, DecodeLimits, Record, RecordBatch, batches},
};

use crate::IsolationLevel;

/// A transaction that was rolled back, as the broker tells it (semantic 40).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Aborted {
    pub(super) producer_id: ProducerId,
    pub(super) first_offset: Offset,
}

/// What one partition of a fetch contains.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) records: Vec<Record>,
    /// Where to read on; past gaps, control batches and aborted records.
    pub(super) next_offset: Offset,
    /// Epoch of the last batch passed, for checking the position after a change of leader.
    pub(super) epoch: Option<LeaderEpoch>,
    /// The batch that could not be read, behind `records`.
    pub(super) failure: Option<(Offset, BatchError)>,
}

/// Decodes `record_set`, fetched at `from`. Stops at the first batch that cannot be read.
pub(super) fn decode(
    record_set: Bytes,
    from: Offset,
    isolation: IsolationLevel,
    mut aborted: Vec<Aborted>,
    limits: DecodeLimits,
) -> Decoded {
    aborted.sort_by_key(|aborted| aborted.first_offset);
    let mut filter = AbortedFilter {
        upcoming: aborted.into(),
        open: HashSet::new(),
    };
    let mut decoded = Decoded {
        records: Vec::new(),
        next_offset: from,
        epoch: None,
        failure: None,
    };
    for batch in batches(record_set) {
        let read = batch
            .map_err(|error| (decoded.next_offset, error))
            .and_then(|batch| {
                read_batch(&batch, isolation, &mut filter, limits, &mut decoded)
                    .map_err(|error| (batch.header().base_offset, error))
            });
        if let Err(failure) = read {
            decoded.failure = Some(failure);
            break;
        }
    }
    decoded
}

fn read_batch(
    batch: &RecordBatch,
    isolation: IsolationLevel,
    filter: &mut AbortedFilter,
    limits: DecodeLimits,
    decoded: &mut Decoded,
) -> Result<(), BatchError> {
    let header = batch.header();
    if header.last_offset() < decoded.next_offset {
        return Ok(()); // a broker may begin with batches before the position
    }
    batch.verify_crc()?;
    let hidden = isolation == IsolationLevel::ReadCommitted && filter.hides(batch, limits)?;
    if !hidden && !header.is_control() {
        let from = decoded.next_offset;
        let mut records = batch.records(limits)?;
        // Only the first batch can begin before the position (semantic 44); the others move as one block.
        if records.first().is_some_and(|first| first.offset < from) {
            records.retain(|record| record.offset >= from);
        }
        if decoded.records.is_empty() {
            decoded.records = records;
        } else {
            decoded.records.append(&mut records);
        }
    }
    decoded.next_offset = header.next_offset();
    decoded.epoch = Some(header.partition_leader_epoch).filter(|epoch| epoch.get() >= 0);
    Ok(())
}

/// Follows aborted transactions through the log, from their first record to their marker.
struct AbortedFilter {
    upcoming: VecDeque<Aborted>,
    open: HashSet<ProducerId>,
}

impl AbortedFilter {
    fn hides(&mut self, batch: &RecordBatch, limits: DecodeLimits) -> Result<bool, BatchError> {
        let header = batch.header();
        while self
            .upcoming
            .front()
            .is_some_and(|aborted| aborted.first_offset <= header.last_offset())
        {
            self.open
                .extend(self.upcoming.pop_front().map(|aborted| aborted.producer_id));
        }
        let Some(producer_id) = header.producer_id else {
            return Ok(false);
        };
        if header.is_control() {
            if is_abort_marker(batch, limits)? {
                self.open.remove(&producer_id);
            }
            return Ok(true);
        }
        Ok(header.is_transactional() && self.open.contains(&producer_id))
    }
}

/// A marker's key is a version and a type, both 16 bits; type 0 ends a transaction by abort.
fn is_abort_marker(batch: &RecordBatch, limits: DecodeLimits) -> Result<bool, BatchError> {
    let records = batch.records(limits)?;
    let key = records.first().and_then(|record| record.key.as_deref());
    Ok(key.and_then(|key| key.get(2..4)) == Some(&[0, 0]))
}

#[cfg(test)]
mod tests {
    use highwater_types::{
        ProducerEpoch, Sequence, Timestamp,
        record::{BatchBuilder, BatchOptions, ProducerStamp},
    };

    use super::*;

    struct Spec {
        base_offset: i64,
        producer: Option<i64>,
        control: Option<u8>,
        values: &'static [&'static str],
    }

    fn batch(spec: &Spec) -> Bytes {
        let stamp = |id| ProducerStamp {
            id: ProducerId::new(id),
            epoch: ProducerEpoch::new(0),
            base_sequence: spec.control.is_none().then(|| Sequence::new(0)),
        };
        let mut builder = BatchBuilder::new(BatchOptions {
            base_offset: Offset::new(spec.base_offset),
            leader_epoch: LeaderEpoch::new(3),
            producer: spec.producer.map(stamp),
            is_transactional: spec.producer.is_some(),
            is_control: spec.control.is_some(),
            ..Default::default()
        });
        if let Some(kind) = spec.control {
            builder.append(Timestamp::new(0), Some(&[0, 0, 0, kind]), Some(b""), &[]);
        }
        for value in spec.values {
            builder.append(Timestamp::new(0), None, Some(value.as_bytes()), &[]);
        }
        builder.build().expect("builds")
    }

    fn log(specs: &[Spec]) -> Bytes {
        specs.iter().flat_map(batch).collect::<Vec<u8>>().into()
    }

    fn plain(base_offset: i64, values: &'static [&'static str]) -> Spec {
        Spec {
            base_offset,
            producer: None,
            control: None,
            values,
        }
    }

    fn print(decoded: &Decoded) -> String {
        let line = |r: &Record| {
            format!(
                "{}={}",
                r.offset,
                String::from_utf8_lossy(r.value.as_deref().unwrap_or(b""))
            )
        };
        let records: Vec<String> = decoded.records.iter().map(line).collect();
        format!("{} next {}", records.join(" "), decoded.next_offset)
    }

    fn read(bytes: Bytes, from: i64, isolation: IsolationLevel, aborted: &[(i64, i64)]) -> String {
        let aborted = aborted.iter().map(|(id, first)| Aborted {
            producer_id: ProducerId::new(*id),
            first_offset: Offset::new(*first),
        });
        print(&decode(
            bytes,
            Offset::new(from),
            isolation,
            aborted.collect(),
            DecodeLimits::default(),
        ))
    }

    /// Semantic 44: the broker returns the whole batch around the offset.
    #[test]
    fn records_before_the_position_are_dropped() {
        let bytes = log(&[plain(0, &["a", "b", "c"]), plain(3, &["d"])]);
        assert_eq!(
            read(bytes.clone(), 1, IsolationLevel::ReadUncommitted, &[]),
            "1=b 2=c 3=d next 4"
        );
        assert_eq!(read(bytes, 3, IsolationLevel::ReadUncommitted, &[]), "3=d next 4");
    }

    #[test]
    fn a_batch_cut_by_the_size_limit_is_left_for_the_next_fetch() {
        let bytes = log(&[plain(0, &["a"]), plain(1, &["b"])]);
        let cut = bytes.slice(..bytes.len() - 1);
        assert_eq!(read(cut, 0, IsolationLevel::ReadUncommitted, &[]), "0=a next 1");
    }

    #[test]
    fn aborted_transactions_and_markers_are_hidden_from_committed_reads_only() {
        let specs = [
            Spec {
                base_offset: 0,
                producer: Some(7),
                control: None,
                values: &["gone"],
            },
            Spec {
                base_offset: 1,
                producer: Some(8),
                control: None,
                values: &["kept"],
            },
            Spec {
                base_offset: 2,
                producer: Some(7),
                control: Some(0),
                values: &[],
            },
            Spec {
                base_offset: 3,
                producer: Some(8),
                control: Some(1),
                values: &[],
            },
            Spec {
                base_offset: 4,
                producer: Some(7),
                control: None,
                values: &["again"],
            },
            Spec {
                base_offset: 5,
                producer: Some(7),
                control: Some(1),
                values: &[],
            },
        ];
        let bytes = log(&specs);
        assert_eq!(
            read(bytes.clone(), 0, IsolationLevel::ReadCommitted, &[(7, 0)]),
            "1=kept 4=again next 6"
        );
        assert_eq!(
            read(bytes, 0, IsolationLevel::ReadUncommitted, &[]),
            "0=gone 1=kept 4=again next 6",
            "markers are never records"
        );
    }

    #[test]
    fn aborted_transactions_in_any_order_are_all_hidden() {
        let bytes = log(&[
            Spec {
                base_offset: 0,
                producer: Some(1),
                control: None,
                values: &["x"],
            },
            Spec {
                base_offset: 1,
                producer: Some(2),
                control: None,
                values: &["y"],
            },
            plain(2, &["z"]),
        ]);
        assert_eq!(
            read(bytes, 0, IsolationLevel::ReadCommitted, &[(2, 1), (1, 0)]),
            "2=z next 3"
        );
    }

    #[test]
    fn a_corrupt_batch_is_reported_after_the_good_ones_before_it() {
        let mut bytes = log(&[plain(0, &["a"]), plain(1, &["b"])]).to_vec();
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        let decoded = decode(
            bytes.into(),
            Offset::ZERO,
            IsolationLevel::ReadUncommitted,
            Vec::new(),
            DecodeLimits::default(),
        );
        assert_eq!(print(&decoded), "0=a next 1");
        assert!(
            matches!(decoded.failure, Some((offset, BatchError::CrcMismatch { .. })) if offset == Offset::new(1))
        );
    }
}
