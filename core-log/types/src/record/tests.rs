//! Batches as a whole: known bytes, round trips through every codec, and what strangers may send.
//!
//! The known bytes come from a writer in another language that was made from the format's description alone.

mod hostile;

use bytes::Bytes;
use proptest::prelude::*;

use super::{control::*, *};
use crate::ids::{LeaderEpoch, ProducerEpoch, ProducerId, Sequence};

/// Three records from producer 4000, transactional, stamped at offset 42 by leader epoch 7.
const GOLDEN: &str = "000000000000002a\
    00000051\
    00000007\
    02\
    ef4d0ee4\
    0010\
    00000002\
    0000018bcfe56800\
    0000018bcfe5692c\
    0000000000000fa0\
    0001\
    00000009\
    00000003\
    20000000026b0476310402680278026801\
    0c0009020100\
    00\
    0e00d80404000100";

/// A commit marker of coordinator epoch 5 at offset 100.
const GOLDEN_COMMIT: &str = "000000000000006400000042000000030\
    2b254ca7e0030000000000000018bcfe568000000018bcfe568000000000000000fa00001ffffffff00000001\
    2000000008000000010c00000000000500";

fn unhex(text: &str) -> Bytes {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hex digits");
    (0..text.len()).step_by(2).map(digit).collect()
}

fn producer(base_sequence: i32) -> Option<ProducerStamp> {
    Some(ProducerStamp {
        id: ProducerId::new(4000),
        epoch: ProducerEpoch::new(1),
        base_sequence: Some(Sequence::new(base_sequence)),
    })
}

fn golden_builder() -> BatchBuilder {
    let mut builder = BatchBuilder::new(BatchOptions {
        producer: producer(9),
        is_transactional: true,
        base_offset: Offset::new(42),
        leader_epoch: LeaderEpoch::new(7),
        ..BatchOptions::default()
    });
    let at = |ms: i64| Timestamp::new(1_700_000_000_000 + ms);
    let twice = [
        Header::new("h", Some(Bytes::from_static(b"x"))),
        Header::new("h", None),
    ];
    builder.append(at(0), Some(b"k"), Some(b"v1"), &twice);
    builder.append(at(-5), None, Some(b""), &[]);
    builder.append(at(300), Some(b""), None, &[]);
    builder
}

fn whole(bytes: impl Into<Bytes>) -> RecordBatch {
    let (batch, rest) = RecordBatch::parse(bytes.into()).expect("a whole batch");
    assert!(rest.is_empty());
    batch
}

#[test]
fn a_batch_is_written_with_its_known_bytes() {
    let builder = golden_builder();
    assert_eq!(builder.record_count(), 3);
    assert_eq!(builder.estimated_size_bytes(), 93);
    assert_eq!(builder.build(), Ok(unhex(GOLDEN)));
}

#[test]
fn the_known_bytes_of_a_batch_are_read() {
    let batch = whole(unhex(GOLDEN));
    assert_eq!(batch.verify_crc(), Ok(()));
    let header = *batch.header();
    assert_eq!(header.base_offset, Offset::new(42));
    assert_eq!(header.last_offset(), Offset::new(44));
    assert_eq!(header.next_offset(), Offset::new(45));
    assert_eq!(header.size_bytes(), 93);
    assert_eq!(header.partition_leader_epoch, LeaderEpoch::new(7));
    assert_eq!(header.max_timestamp, Timestamp::new(1_700_000_000_300));
    assert_eq!(header.producer_id, Some(ProducerId::new(4000)));
    assert_eq!(header.producer_epoch, Some(ProducerEpoch::new(1)));
    assert_eq!(header.base_sequence, Some(Sequence::new(9)));
    assert_eq!(header.last_sequence(), Some(Sequence::new(11)));
    assert_eq!(header.compression(), Compression::None);
    assert_eq!(header.timestamp_type(), TimestampType::CreateTime);
    assert!(header.is_transactional() && !header.is_control());
    assert_eq!(header.delete_horizon(), None);
    assert_eq!(header.check_from_producer(), Ok(()));

    let records = batch.records(DecodeLimits::default()).expect("sound records");
    let timestamps: Vec<_> = records
        .iter()
        .map(|r| r.timestamp.get() - 1_700_000_000_000)
        .collect();
    assert_eq!(timestamps, [0, -5, 300]);
    assert_eq!(records[0].key.as_deref(), Some(&b"k"[..]));
    assert_eq!(
        records[0].headers[0],
        Header::new("h", Some(Bytes::from_static(b"x")))
    );
    assert_eq!(
        records[0].headers[1],
        Header::new("h", None),
        "duplicates and nulls stay (semantic 31)"
    );
    assert_eq!(
        (records[1].key.as_deref(), records[1].value.as_deref()),
        (None, Some(&b""[..]))
    );
    assert_eq!(
        (records[2].key.as_deref(), records[2].value.as_deref()),
        (Some(&b""[..]), None)
    );
    assert_eq!(records[2].offset, Offset::new(44));
}

#[test]
fn uncompressed_records_share_the_buffer_they_came_in() {
    let batch = whole(unhex(GOLDEN));
    let value = batch.records(DecodeLimits::default()).expect("sound")[0]
        .value
        .clone()
        .expect("a value");
    assert!(batch.bytes().as_ptr_range().contains(&value.as_ptr()));
}

#[test]
fn a_commit_marker_has_its_known_bytes() {
    let marker = EndTransactionMarker { coordinator_epoch: 5 };
    let options = BatchOptions {
        producer: producer(77),
        base_offset: Offset::new(100),
        leader_epoch: LeaderEpoch::new(3),
        ..BatchOptions::default()
    };
    let bytes = marker
        .to_batch(
            TransactionResult::Commit,
            Timestamp::new(1_700_000_000_000),
            options,
        )
        .expect("a marker fits");
    assert_eq!(bytes, unhex(GOLDEN_COMMIT));

    let batch = whole(bytes);
    assert!(batch.header().is_control());
    assert_eq!(batch.header().base_sequence, None);
    let records = batch.records(DecodeLimits::default()).expect("sound");
    let key = records[0].key.as_deref().expect("a key");
    assert_eq!(ControlType::parse_key(key), Ok(ControlType::Commit));
    let value = records[0].value.as_deref().expect("a value");
    assert_eq!(EndTransactionMarker::parse(value), Ok(marker));
}

/// Semantic 25: offset and epoch lie outside the CRC.
#[test]
fn stamping_offset_and_epoch_leaves_the_crc_right() {
    let mut bytes = unhex(GOLDEN).to_vec();
    patch_base_offset_and_epoch(&mut bytes, Offset::new(1_000_000), LeaderEpoch::new(12));
    let batch = whole(bytes);
    assert_eq!(batch.verify_crc(), Ok(()));
    assert_eq!(batch.header().base_offset, Offset::new(1_000_000));
    assert_eq!(batch.header().partition_leader_epoch, LeaderEpoch::new(12));
    let records = batch.records(DecodeLimits::default()).expect("sound");
    assert_eq!(records[2].offset, Offset::new(1_000_002));
}

/// Semantic 25: the append time changes attributes and largest timestamp, thus the CRC.
#[test]
fn log_append_time_holds_for_every_record_and_the_crc_follows() {
    let mut bytes = unhex(GOLDEN).to_vec();
    set_log_append_time(&mut bytes, Timestamp::new(5));
    let batch = whole(bytes);
    assert_eq!(batch.verify_crc(), Ok(()));
    assert_ne!(batch.header().crc, 0xef4d_0ee4);
    assert_eq!(batch.header().timestamp_type(), TimestampType::LogAppendTime);
    assert!(batch.header().is_transactional(), "other attributes stay");
    let records = batch.records(DecodeLimits::default()).expect("sound");
    assert!(records.iter().all(|r| r.timestamp == Timestamp::new(5)));
}

/// KIP-534: with the flag set, the base timestamp is the horizon and deltas count from it.
#[test]
fn the_delete_horizon_stands_in_for_the_base_timestamp() {
    let mut bytes = unhex(GOLDEN).to_vec();
    bytes[22] |= 0x40;
    let batch = whole(bytes);
    let base = Timestamp::new(1_700_000_000_000);
    assert_eq!(batch.header().delete_horizon(), Some(base));
    assert_eq!(
        batch.records(DecodeLimits::default()).expect("sound")[0].timestamp,
        base
    );
}

/// A log loses records to compaction, not offsets: gaps and an absent last record are fine for readers.
#[test]
fn a_compacted_batch_is_read_but_not_taken_from_a_producer() {
    let mut bytes = unhex(GOLDEN).to_vec();
    bytes.drain(78..85); // the second record
    let batch_length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&batch_length.to_be_bytes());
    bytes[57..61].copy_from_slice(&2_i32.to_be_bytes());
    let batch = whole(bytes);
    let records = batch.records(DecodeLimits::default()).expect("sound");
    let offsets: Vec<_> = records.iter().map(|r| r.offset.get()).collect();
    assert_eq!(offsets, [42, 44]);
    assert_eq!(
        batch.header().check_from_producer(),
        Err(BatchError::RefusedFromProducer {
            refusal: ProducerRefusal::CountMismatch {
                record_count: 2,
                last_offset_delta: 2
            }
        })
    );
}

#[test]
fn a_record_set_is_cut_into_batches_and_a_cut_tail_is_dropped() {
    let one = unhex(GOLDEN);
    let set = [&one[..], &one[..], &one[..50]].concat();
    let found: Vec<_> = batches(set.into())
        .collect::<Result<_, _>>()
        .expect("sound batches");
    assert_eq!(found.len(), 2);
    assert_eq!(found[1].bytes(), &one);

    let mut foreign = one.to_vec();
    foreign[16] = 1;
    let mut found = batches([&one[..], &foreign].concat().into());
    assert!(matches!(found.next(), Some(Ok(_))));
    assert_eq!(
        found.next(),
        Some(Err(BatchError::UnsupportedMagic {
            magic: 1,
            base_offset: 42
        }))
    );
    assert_eq!(found.next(), None);
}

#[test]
fn header_names_need_not_be_text() {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let odd = Header::new(Bytes::from_static(b"\xff\xfe"), Some(Bytes::new()));
    builder.append(Timestamp::new(1), None, None, std::slice::from_ref(&odd));
    let records = whole(builder.build().expect("fits")).records(DecodeLimits::default());
    assert_eq!(records.expect("sound")[0].headers, std::slice::from_ref(&odd));
    assert_eq!(odd.key_str(), None);
    assert_eq!(Header::new("trace", None).key_str(), Some("trace"));
}

#[test]
fn a_batch_without_records_cannot_be_built() {
    assert_eq!(
        BatchBuilder::new(BatchOptions::default()).build(),
        Err(BatchError::NoRecords)
    );
}

type Field = Option<Vec<u8>>;

fn field() -> impl Strategy<Value = Field> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200))
}

fn headers() -> impl Strategy<Value = Vec<Header>> {
    let header = ("[a-c]{0,2}", field()).prop_map(|(key, value)| Header::new(key, value.map(Bytes::from)));
    proptest::collection::vec(header, 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever goes in comes out again in every codec, borrowed and owned alike; sizes and bounds hold.
    #[test]
    fn records_survive_every_codec(
        input in proptest::collection::vec((any::<i64>(), field(), field(), headers()), 1..40),
        codec in proptest::sample::select(Compression::ALL.to_vec()),
        base_offset in 0..i64::MAX / 2,
    ) {
        let mut builder = BatchBuilder::new(BatchOptions {
            compression: codec,
            base_offset: Offset::new(base_offset),
            ..BatchOptions::default()
        });
        for (timestamp, key, value, headers) in &input {
            let before = builder.estimated_size_bytes();
            builder.append(Timestamp::new(*timestamp), key.as_deref(), value.as_deref(), headers);
            let bound = BatchBuilder::record_size_bound(key.as_deref(), value.as_deref(), headers);
            prop_assert!(builder.estimated_size_bytes() - before <= bound);
        }
        let estimate = builder.estimated_size_bytes();
        let batch = whole(builder.build().expect("fits"));
        prop_assert!(codec != Compression::None || batch.bytes().len() == estimate);
        prop_assert_eq!(batch.verify_crc(), Ok(()));
        prop_assert_eq!(batch.header().compression(), codec);
        prop_assert_eq!(batch.header().check_from_producer(), Ok(()));
        let max = input.iter().map(|(timestamp, ..)| *timestamp).max();
        prop_assert_eq!(Some(batch.header().max_timestamp.get()), max);

        let decoded = batch.decode(DecodeLimits::default()).expect("sound");
        let views: Vec<_> = decoded.views().collect::<Result<_, _>>().expect("sound");
        let records = batch.records(DecodeLimits::default()).expect("sound");
        prop_assert_eq!(records.len(), input.len());
        prop_assert_eq!(views.len(), input.len());
        for (i, (timestamp, key, value, headers)) in input.iter().enumerate() {
            let (record, view) = (&records[i], &views[i]);
            prop_assert_eq!(record.offset.get(), base_offset + i as i64);
            prop_assert_eq!(record.timestamp.get(), *timestamp);
            prop_assert_eq!(record.key.as_deref(), key.as_deref());
            prop_assert_eq!(record.value.as_deref(), value.as_deref());
            prop_assert_eq!(&record.headers, headers);
            prop_assert_eq!((view.offset, view.timestamp), (record.offset, record.timestamp));
            prop_assert_eq!((view.key, view.value), (key.as_deref(), value.as_deref()));
            let seen: Vec<_> = view.headers().map(|h| (h.key.to_vec(), h.value.map(<[u8]>::to_vec))).collect();
            let sent: Vec<_> = headers.iter().map(|h| (h.key.to_vec(), h.value.as_ref().map(|v| v.to_vec()))).collect();
            prop_assert_eq!(seen, sent);
        }
    }
}
