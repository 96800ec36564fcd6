//! Golden bytes of the snapshot, damaged snapshots, and the rules against a naive model.

use proptest::prelude::*;

use super::*;

fn entry(epoch: i16, batches: &[(i32, i64)]) -> ProducerEntry {
    ProducerEntry {
        epoch: ProducerEpoch::new(epoch),
        coordinator_epoch: None,
        last_timestamp: Timestamp::new(7),
        transaction_start: None,
        batches: batches
            .iter()
            .map(|(sequence, offset)| BatchMemo {
                last_sequence: Sequence::new(*sequence),
                last_offset: Offset::new(*offset),
                offset_delta: 2,
                timestamp: Timestamp::new(7),
            })
            .collect(),
    }
}

#[test]
fn a_snapshot_has_kafkas_bytes() {
    let mut state = ProducerState::default();
    let mut transactional = entry(1, &[(9, 20)]);
    transactional.coordinator_epoch = Some(3);
    transactional.transaction_start = Some(Offset::new(18));
    state.restore(ProducerId::new(5), transactional);
    let bytes = encode_snapshot(&state);
    let golden: &[&[u8]] = &[
        &[0, 1],
        &crc32c::crc32c(&bytes[6..]).to_be_bytes(),
        &[0, 0, 0, 1],
        &[0, 0, 0, 0, 0, 0, 0, 5],
        &[0, 1],
        &[0, 0, 0, 9],
        &[0, 0, 0, 0, 0, 0, 0, 20],
        &[0, 0, 0, 2],
        &[0, 0, 0, 0, 0, 0, 0, 7],
        &[0, 0, 0, 3],
        &[0, 0, 0, 0, 0, 0, 0, 18],
    ];
    assert_eq!(bytes, golden.concat());
    // The checksum itself, so that it cannot drift with the code that computes it.
    assert_eq!(bytes[2..6], SNAPSHOT_CRC.to_be_bytes());
    assert_eq!(decode_snapshot(&bytes).unwrap(), state);
}

/// CRC-32C of the golden bytes, computed bit by bit with the Castagnoli polynomial.
const SNAPSHOT_CRC: u32 = bitwise_crc32c(&[
    0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 5, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 2, 0, 0, 0, 0, 0,
    0, 0, 7, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 18,
]);

const fn bitwise_crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    let mut at = 0;
    while at < bytes.len() {
        crc ^= bytes[at] as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
            bit += 1;
        }
        at += 1;
    }
    !crc
}

fn restored(state: &ProducerState) -> ProducerState {
    let snapshot = encode_snapshot(state);
    let mut read = decode_snapshot(&snapshot).unwrap();
    if let Some(batches) = encode_batches(state, &snapshot) {
        decode_batches(&batches, &snapshot, &mut read).unwrap();
    }
    read
}

#[test]
fn the_second_file_keeps_all_five_batches_and_is_not_needed_to_read_the_first() {
    let mut state = ProducerState::default();
    state.restore(ProducerId::new(5), entry(1, &[(2, 2), (5, 5), (8, 8)]));
    state.restore(ProducerId::new(6), entry(0, &[(2, 11)]));
    assert_eq!(restored(&state), state);
    let snapshot = encode_snapshot(&state);
    assert_eq!(snapshot.len(), 6 + 4 + 2 * 46, "nothing of ours in Kafka's file");
    let read = decode_snapshot(&snapshot).unwrap();
    assert_eq!(
        read.producers[&ProducerId::new(5)].batches.len(),
        1,
        "as Kafka would keep it"
    );
}

#[test]
fn a_second_file_that_is_damaged_or_belongs_to_another_snapshot_changes_nothing() {
    let mut state = ProducerState::default();
    state.restore(ProducerId::new(5), entry(1, &[(2, 2), (5, 5)]));
    let snapshot = encode_snapshot(&state);
    let good = encode_batches(&state, &snapshot).unwrap();
    let one_batch_each = decode_snapshot(&snapshot).unwrap();
    let refused = |bytes: &[u8], snapshot: &[u8]| {
        let mut read = one_batch_each.clone();
        decode_batches(bytes, snapshot, &mut read).unwrap_err();
        assert_eq!(read, one_batch_each);
    };
    for cut in 0..good.len() {
        refused(&good[..cut], &snapshot);
    }
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        refused(&bad, &snapshot);
    }
    state.restore(ProducerId::new(5), entry(1, &[(2, 2), (6, 6)]));
    refused(&good, &encode_snapshot(&state));
    // A right checksum over a huge count must not reserve by it.
    let mut huge = good.clone();
    huge[10..14].copy_from_slice(&i32::MAX.to_be_bytes());
    let crc = crc32c::crc32c(&huge[6..]);
    huge[2..6].copy_from_slice(&crc.to_be_bytes());
    refused(&huge, &snapshot);
}

#[test]
fn damaged_snapshots_are_refused_whatever_they_claim() {
    let mut state = ProducerState::default();
    state.restore(ProducerId::new(5), entry(1, &[(2, 2), (5, 5)]));
    let good = encode_snapshot(&state);
    for cut in 0..good.len() {
        assert!(decode_snapshot(&good[..cut]).is_err(), "cut at {cut}");
    }
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        assert!(decode_snapshot(&bad).is_err(), "bit at {at}");
    }
    // A right checksum over a huge count must not reserve by it.
    let mut huge = good;
    huge[6..10].copy_from_slice(&i32::MAX.to_be_bytes());
    let crc = crc32c::crc32c(&huge[6..]);
    huge[2..6].copy_from_slice(&crc.to_be_bytes());
    assert!(decode_snapshot(&huge).is_err());
}

#[test]
fn first_sequences_are_found_across_the_wrap() {
    let memo = |last, delta| BatchMemo {
        last_sequence: Sequence::new(last),
        last_offset: Offset::new(100),
        offset_delta: delta,
        timestamp: Timestamp::new(0),
    };
    assert_eq!(memo(5, 5).first_sequence(), Sequence::ZERO);
    assert_eq!(memo(0, 2).first_sequence(), Sequence::new(i32::MAX - 1));
    assert_eq!(memo(7, 0).first_sequence(), Sequence::new(7));
}

fn header(id: i64, epoch: i16, sequence: i32, count: i32, base: i64) -> BatchHeader {
    use highwater_types::record::{BatchBuilder, BatchOptions, ProducerStamp};
    let mut builder = BatchBuilder::new(BatchOptions {
        producer: Some(ProducerStamp {
            id: ProducerId::new(id),
            epoch: ProducerEpoch::new(epoch),
            base_sequence: Some(Sequence::new(sequence)),
        }),
        base_offset: Offset::new(base),
        ..BatchOptions::default()
    });
    for _ in 0..count {
        builder.append(Timestamp::new(0), None, None, &[]);
    }
    BatchHeader::parse(&builder.build().unwrap()).unwrap()
}

/// First sequence, last sequence, first offset.
type Sent = (i32, i32, i64);

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// The naive model keeps every batch of the current epoch and looks at the last five.
    #[test]
    fn verdicts_agree_with_a_naive_model(steps in prop::collection::vec((0_i16..3, 0_i32..12, 1_i32..4), 1..60)) {
        let mut state = ProducerState::default();
        let mut model: Option<(i16, Vec<Sent>)> = None;
        let mut end = 0_i64;
        for (epoch, sequence, count) in steps {
            let batch = header(1, epoch, sequence, count, end);
            let last = sequence + count - 1;
            let expected = match &model {
                None => Ok(None),
                Some((current, _)) if epoch < *current => Err(()),
                Some((current, _)) if epoch > *current => if sequence == 0 { Ok(None) } else { Err(()) },
                Some((_, batches)) => {
                    let repeated = batches.iter().rev().take(5).find(|known| (known.0, known.1) == (sequence, last));
                    match (repeated, batches.last()) {
                        (Some(known), _) => Ok(Some(known.2)),
                        (None, Some(newest)) if newest.1 + 1 == sequence => Ok(None),
                        _ => Err(()),
                    }
                }
            };
            let verdict = state.check(&batch);
            match (expected, verdict) {
                (Err(()), Err(_)) => {}
                (Ok(Some(offset)), Ok(Verdict::Duplicate(memo))) => prop_assert_eq!(memo.first_offset().get(), offset),
                (Ok(None), Ok(Verdict::Append)) => {
                    state.apply(&batch);
                    match &mut model {
                        Some((current, batches)) if *current == epoch => batches.push((sequence, last, end)),
                        _ => model = Some((epoch, vec![(sequence, last, end)])),
                    }
                    end += i64::from(count);
                }
                (expected, verdict) => prop_assert!(false, "expected {expected:?}, got {verdict:?}"),
            }
            prop_assert_eq!(&restored(&state), &state);
        }
    }
}
