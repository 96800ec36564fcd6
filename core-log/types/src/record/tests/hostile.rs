//! What strangers may send in a Produce request or leave in a log; numbers are those of the list of hostile inputs.

use super::*;

/// The golden batch with `edit` done to it and the CRC made right again, as an attacker would.
fn edited(edit: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = unhex(GOLDEN).to_vec();
    edit(&mut bytes);
    if bytes.len() >= 61 {
        let batch_length = (bytes.len() - 12) as i32;
        bytes[8..12].copy_from_slice(&batch_length.to_be_bytes());
        super::batch::write_crc(&mut bytes);
    }
    bytes.into()
}

fn put<const N: usize>(at: usize, field: [u8; N]) -> Bytes {
    edited(|bytes| bytes[at..at + N].copy_from_slice(&field))
}

/// A batch of `count` records whose body is given byte by byte.
fn with_body(count: i32, codec: u8, body: &[u8]) -> RecordBatch {
    whole(edited(|bytes| {
        bytes.truncate(61);
        bytes[22] = codec;
        bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        bytes.extend_from_slice(body);
    }))
}

fn refusal(batch: &RecordBatch) -> BatchError {
    assert_eq!(batch.verify_crc(), Ok(()));
    let limits = DecodeLimits::default();
    let owned = batch.records(limits).expect_err("the records should be refused");
    if let Ok(decoded) = batch.decode(limits) {
        let borrowed = decoded.views().find_map(Result::err);
        assert_eq!(borrowed.as_ref(), Some(&owned), "both walks refuse alike");
    }
    owned
}

fn problem(body: &[u8]) -> RecordProblem {
    match refusal(&with_body(1, 0, body)) {
        BatchError::Record { problem, .. } => problem,
        other => panic!("expected a broken record, got {other}"),
    }
}

#[test]
fn hostile_39_foreign_magics_are_refused_even_when_shorter_than_our_header() {
    for magic in [0_u8, 1, 3, 255] {
        let bytes = put(16, [magic]);
        let error = BatchError::UnsupportedMagic {
            magic: magic as i8,
            base_offset: 42,
        };
        assert_eq!(RecordBatch::parse(bytes.clone()).err(), Some(error.clone()));
        assert_eq!(BatchHeader::parse(&bytes[..26]), Err(error));
    }
}

#[test]
fn hostile_40_any_changed_bit_behind_the_crc_field_is_noticed() {
    let golden = unhex(GOLDEN);
    for at in 17..golden.len() {
        let mut bytes = golden.to_vec();
        bytes[at] ^= 0x80;
        if let Ok((batch, _)) = RecordBatch::parse(bytes.into()) {
            assert!(
                matches!(batch.verify_crc(), Err(BatchError::CrcMismatch { .. })),
                "byte {at}"
            );
        }
    }
}

#[test]
fn hostile_41_batch_lengths_other_than_the_data_are_refused() {
    let golden = unhex(GOLDEN);
    let with_length = |length: i32| {
        let mut bytes = golden.to_vec();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        RecordBatch::parse(bytes.into())
    };
    for length in [i32::MIN, -1, 0, 48] {
        let error = BatchError::InvalidBatchLength {
            batch_length: length,
            base_offset: 42,
        };
        assert_eq!(with_length(length).err(), Some(error));
    }
    for length in [82, i32::MAX] {
        let error = BatchError::Truncated {
            needed_bytes: length as usize + 12,
            available_bytes: 93,
        };
        assert_eq!(with_length(length).err(), Some(error));
    }
    let (short, rest) = with_length(80).expect("a length of 80 leaves one byte behind");
    assert_eq!(rest.len(), 1);
    assert!(short.verify_crc().is_err());
    for cut in 0..golden.len() {
        let cut_short = RecordBatch::parse(golden.slice(..cut));
        assert!(
            matches!(cut_short, Err(BatchError::Truncated { .. })),
            "cut at {cut}"
        );
    }
}

#[test]
fn hostile_42_record_counts_other_than_the_records_are_refused() {
    for count in [-1_i32, i32::MIN] {
        let parsed = RecordBatch::parse(put(57, count.to_be_bytes()));
        assert!(matches!(parsed, Err(BatchError::InvalidCounts { .. })), "{count}");
    }
    let trailing = |record_count, left_bytes| BatchError::TrailingBytes {
        base_offset: 42,
        record_count,
        left_bytes,
    };
    assert_eq!(refusal(&whole(put(57, 0_i32.to_be_bytes()))), trailing(0, 32));
    assert_eq!(refusal(&whole(put(57, 2_i32.to_be_bytes()))), trailing(2, 8));
    for count in [4, i32::MAX] {
        let batch = whole(put(57, count.to_be_bytes()));
        assert!(matches!(
            refusal(&batch),
            BatchError::Record {
                index: 3,
                problem: RecordProblem::BadNumber,
                ..
            }
        ));
        assert!(batch.header().check_from_producer().is_err());
    }
    let none = whole(put(57, 0_i32.to_be_bytes()));
    let refused = none.header().check_from_producer();
    assert_eq!(
        refused,
        Err(BatchError::RefusedFromProducer {
            refusal: ProducerRefusal::NoRecords
        })
    );
}

#[test]
fn hostile_43_offset_deltas_that_repeat_fall_or_pass_the_last_one_are_refused() {
    assert!(matches!(
        RecordBatch::parse(put(23, (-1_i32).to_be_bytes())),
        Err(BatchError::InvalidCounts { .. })
    ));
    let bad = |batch: &RecordBatch| match refusal(batch) {
        BatchError::Record {
            problem: RecordProblem::BadOffsetDelta { delta, least, last },
            ..
        } => (delta, least, last),
        other => panic!("expected a bad delta, got {other}"),
    };
    assert_eq!(bad(&whole(put(23, 1_i32.to_be_bytes()))), (2, 2, 1));
    // The delta of the second record stands at byte 81.
    assert_eq!(bad(&whole(put(81, [0]))), (0, 1, 2), "repeats");
    assert_eq!(bad(&whole(put(81, [1]))), (-1, 1, 2), "falls");
    assert_eq!(
        bad(&whole(put(81, [4]))),
        (2, 3, 2),
        "leaves no room for the third"
    );
}

#[test]
fn hostile_44_a_base_offset_that_overflows_is_refused_and_a_negative_one_only_restamped() {
    for base in [i64::MAX, i64::MAX - 2] {
        let parsed = RecordBatch::parse(put(0, base.to_be_bytes()));
        assert!(matches!(parsed, Err(BatchError::InvalidCounts { .. })), "{base}");
    }
    assert!(RecordBatch::parse(put(0, (i64::MAX - 3).to_be_bytes())).is_ok());
    assert!(RecordBatch::parse(put(0, (-7_i64).to_be_bytes())).is_ok());
}

#[test]
fn hostile_45_unknown_codecs_are_refused_and_unknown_bits_kept() {
    for id in [5_u8, 6, 7] {
        let error = BatchError::UnknownCodec { id, base_offset: 42 };
        assert_eq!(RecordBatch::parse(put(22, [id])).err(), Some(error));
    }
    assert_eq!(whole(put(21, [0xff, 0x80])).header().attributes, 0xff80);
}

#[test]
fn hostile_46_47_48_control_batches_and_half_stamps_are_refused_from_producers() {
    let refused = |bytes: Bytes| match whole(bytes).header().check_from_producer() {
        Err(BatchError::RefusedFromProducer { refusal }) => Some(refusal),
        _ => None,
    };
    assert_eq!(refused(put(22, [0x30])), Some(ProducerRefusal::Control));
    let no_id = put(43, (-1_i64).to_be_bytes());
    assert_eq!(
        refused(no_id),
        Some(ProducerRefusal::TransactionalWithoutProducer)
    );
    let no_epoch = put(51, (-1_i16).to_be_bytes());
    assert_eq!(refused(no_epoch), Some(ProducerRefusal::IncompleteProducer));
    for sequence in [-1_i32, i32::MIN] {
        let no_sequence = put(53, sequence.to_be_bytes());
        assert_eq!(refused(no_sequence), Some(ProducerRefusal::IncompleteProducer));
    }
}

#[test]
fn hostile_50_extreme_timestamps_do_not_overflow() {
    for base in [0, -1, i64::MIN, i64::MAX] {
        let batch = whole(put(27, i64::to_be_bytes(base)));
        let records = batch.records(DecodeLimits::default()).expect("sound records");
        assert_eq!(records[0].timestamp.get(), base);
    }
}

#[test]
fn hostile_51_record_lengths_negative_overlong_or_short_are_refused() {
    let bad_length = |length, available_bytes| RecordProblem::BadLength {
        length,
        available_bytes,
    };
    assert_eq!(problem(&[]), RecordProblem::BadNumber);
    assert_eq!(
        problem(&[0x01, 0, 0, 0, 1, 1, 0]),
        bad_length(-1, 6),
        "record length -1"
    );
    assert_eq!(
        problem(&[0x0e, 0, 0, 0, 1, 1, 0]),
        bad_length(7, 6),
        "record past the body"
    );
    assert_eq!(
        problem(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00, 0]),
        RecordProblem::BadNumber,
        "six bytes"
    );
    assert_eq!(
        problem(&[0x00, 0, 0, 0, 1, 1, 0]),
        RecordProblem::BadNumber,
        "no room for attributes"
    );
    assert_eq!(
        problem(&[0x0c, 0, 0, 0, 3, 1, 0]),
        bad_length(-2, 2),
        "key length -2"
    );
    assert_eq!(
        problem(&[0x0c, 0, 0, 0, 1, 8, 0]),
        bad_length(4, 1),
        "value past the record"
    );
    assert_eq!(
        problem(&[0x0e, 0, 0, 0, 1, 1, 0, 9]),
        RecordProblem::LeftOver { left_bytes: 1 }
    );
    // A value may not reach into the next record, even though the body has the bytes.
    let two = [0x0c, 0, 0, 0, 1, 4, 0, 0x0c, 0, 0, 2, 1, 1, 0];
    assert!(matches!(
        refusal(&with_body(2, 0, &two)),
        BatchError::Record { index: 0, .. }
    ));
}

#[test]
fn hostile_52_header_counts_beyond_the_record_are_refused() {
    let bad_count = |count, available_bytes| RecordProblem::BadHeaderCount {
        count,
        available_bytes,
    };
    assert_eq!(problem(&[0x0c, 0, 0, 0, 1, 1, 1]), bad_count(-1, 0));
    assert_eq!(problem(&[0x0c, 0, 0, 0, 1, 1, 2]), bad_count(1, 0));
    let billion = [0x14, 0, 0, 0, 1, 1, 0x80, 0xa8, 0xd6, 0xb9, 0x07];
    assert_eq!(problem(&billion), bad_count(1_000_000_000, 0));
    let null_key = [0x10, 0, 0, 0, 1, 1, 2, 1, 1];
    assert_eq!(
        problem(&null_key),
        RecordProblem::BadLength {
            length: -1,
            available_bytes: 1
        }
    );
}

fn compressed(codec: Compression, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    compression::compress_into(codec, body, &mut out).expect("compresses");
    out
}

const CODECS: [Compression; 4] = [
    Compression::Gzip,
    Compression::Snappy,
    Compression::Lz4,
    Compression::Zstd,
];

#[test]
fn hostile_54_bodies_that_grow_past_the_absolute_limit_are_refused() {
    let limits = DecodeLimits {
        max_decompressed_bytes: 100_000,
        max_ratio: usize::MAX,
    };
    for codec in CODECS {
        let fits = with_body(1, codec.id(), &compressed(codec, &[7; 100_000]));
        assert_eq!(fits.decode(limits).expect("just fits").body().len(), 100_000);
        let bomb = with_body(1, codec.id(), &compressed(codec, &[7; 100_001]));
        let error = bomb.decode(limits).expect_err("one byte too many");
        assert!(
            matches!(
                error,
                BatchError::DecompressedTooLarge {
                    limit_bytes: 100_000,
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn hostile_54_bodies_that_grow_past_the_ratio_are_refused() {
    let limits = DecodeLimits {
        max_ratio: 10,
        ..DecodeLimits::default()
    };
    for codec in CODECS {
        let bomb = with_body(1, codec.id(), &compressed(codec, &vec![0; 8 * 1024 * 1024]));
        let error = bomb.decode(limits).expect_err("grows far more than tenfold");
        assert!(
            matches!(error, BatchError::DecompressedTooLarge { .. }),
            "{codec}: {error}"
        );
    }
    let bomb = with_body(
        1,
        Compression::Zstd.id(),
        &compressed(Compression::Zstd, &vec![0; 32 * 1024 * 1024]),
    );
    assert!(
        bomb.decode(DecodeLimits::default()).is_err(),
        "more than 8192 times its size"
    );
}

#[test]
fn hostile_54_streams_one_behind_the_other_are_one_stream_and_limited_together() {
    let body = |byte: u8| vec![byte; 60_000];
    let limits = DecodeLimits {
        max_decompressed_bytes: 100_000,
        ..DecodeLimits::default()
    };
    for codec in CODECS {
        let two = [compressed(codec, &body(1)), compressed(codec, &body(2))].concat();
        let batch = with_body(1, codec.id(), &two);
        let decoded = batch.decode(DecodeLimits::default()).expect("two streams");
        assert_eq!(decoded.body(), &[body(1), body(2)].concat(), "{codec}");
        let error = batch.decode(limits).expect_err("together too large");
        assert!(
            matches!(error, BatchError::DecompressedTooLarge { .. }),
            "{codec}: {error}"
        );
    }
}

#[test]
fn hostile_54_streams_cut_short_anywhere_are_refused() {
    // Incompressible enough to give every codec several blocks or symbols.
    let body: Vec<u8> = (0..70_000_u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    for codec in CODECS {
        let stream = compressed(codec, &body);
        let step = stream.len() / 97;
        let block_ends = [stream.len() - 1, stream.len() - 4];
        for cut in (1..stream.len()).step_by(step).chain(block_ends) {
            let batch = with_body(1, codec.id(), &stream[..cut]);
            let whole_blocks = codec == Compression::Snappy && batch.decode(DecodeLimits::default()).is_ok();
            // A snappy-java stream has no end mark; ending behind its header is the one cut it cannot notice.
            assert!(!whole_blocks || cut == 16, "{codec} cut at {cut}");
            if codec != Compression::Snappy {
                let error = batch.decode(DecodeLimits::default()).expect_err("cut short");
                assert!(
                    matches!(error, BatchError::Decompress { .. }),
                    "{codec} cut at {cut}: {error}"
                );
            }
        }
    }
}

#[test]
fn hostile_54_raw_snappy_is_read_as_librdkafka_writes_it() {
    // Length 7, a literal of 7 bytes: one record without key and value.
    let raw = [7, 6 << 2, 0x0c, 0, 0, 0, 1, 1, 0];
    let records = with_body(1, 2, &raw)
        .records(DecodeLimits::default())
        .expect("raw snappy");
    assert_eq!(records.len(), 1);
}

#[test]
fn hostile_54_snappy_is_written_in_blocks_behind_the_header_of_snappy_java() {
    let stream = compressed(Compression::Snappy, &[0x0c, 0, 0, 0, 1, 1, 0]);
    let expected = unhex(
        "82534e4150505900000000010000000100000009\
        07180c000000010100",
    );
    assert_eq!(stream, expected);
}

#[test]
fn hostile_54_snappy_lengths_beyond_the_data_are_refused_without_allocating() {
    let header = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
    for length in [0x8000_0000_u32, u32::MAX, 100] {
        let body = [&header[..], &length.to_be_bytes(), &[1, 2, 3]].concat();
        assert!(matches!(
            refusal(&with_body(1, 2, &body)),
            BatchError::Decompress { .. }
        ));
    }
    // A raw stream that claims 2^32-1 bytes, and a block inside the framing that does.
    let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
    let framed = [&header[..], &6_u32.to_be_bytes(), &claim].concat();
    for body in [&claim[..], &framed] {
        assert!(matches!(
            refusal(&with_body(1, 2, body)),
            BatchError::DecompressedTooLarge { .. }
        ));
    }
}

#[test]
fn hostile_54_a_zstd_frame_with_a_giant_window_is_refused() {
    // Magic, no content size, window descriptor 0xa8 = 2^31 bytes, an empty last block.
    let frame = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa8, 0x01, 0x00, 0x00];
    assert!(matches!(
        refusal(&with_body(1, 4, &frame)),
        BatchError::Decompress { .. }
    ));
}

#[test]
fn hostile_54_garbage_behind_a_stream_is_refused() {
    for codec in CODECS {
        let mut stream = compressed(codec, &[0x0c, 0, 0, 0, 1, 1, 0]);
        stream.extend_from_slice(b"garbage");
        let batch = with_body(1, codec.id(), &stream);
        assert!(
            matches!(refusal(&batch), BatchError::Decompress { .. }),
            "{codec}"
        );
    }
}

proptest! {
    /// No bytes whatever make the reader panic, in any codec.
    #[test]
    fn random_bodies_are_read_or_refused(
        body in proptest::collection::vec(any::<u8>(), 0..300),
        codec in 0_u8..5,
        count in 1..5_i32,
    ) {
        let batch = with_body(count, codec, &body);
        if let Ok(records) = batch.records(DecodeLimits::default()) {
            prop_assert_eq!(records.len(), count as usize);
        }
    }

    /// Nor do sound batches with some bytes changed.
    #[test]
    fn damaged_batches_are_read_or_refused(
        damage in proptest::collection::vec((0..93_usize, any::<u8>()), 1..4),
    ) {
        let mut bytes = unhex(GOLDEN).to_vec();
        for (at, byte) in damage {
            bytes[at] = byte;
        }
        for batch in batches(bytes.into()).flatten() {
            if let Ok(records) = batch.records(DecodeLimits::default()) {
                prop_assert_eq!(records.len(), batch.header().record_count as usize);
            }
        }
    }
}
