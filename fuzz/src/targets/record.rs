//! Record batches.

use bytes::Bytes;
use highwater_types::record::{
    BatchBuilder, BatchOptions, Compression, DecodeLimits, HEADER_BYTES, LOG_OVERHEAD_BYTES, Record,
    RecordBatch, batches as record_batches,
};

use super::Pieces;

/// Where the checksum lies in a batch, and where the bytes it covers begin.
const CRC_AT: usize = 17;
const CHECKED_FROM: usize = 21;

/// Small, so that a bomb costs the fuzzer little and the limit is tried often.
const LIMITS: DecodeLimits = DecodeLimits {
    max_decompressed_bytes: 4 * 1024 * 1024,
    max_ratio: 8192,
};

/// A record set. Every batch gets its right length and checksum first, since no fuzzer guesses those.
pub(super) fn batches(input: &[u8]) {
    let mut bytes = input.to_vec();
    mend(&mut bytes);
    let bytes = Bytes::from(bytes);
    let mut total = 0;
    for batch in record_batches(bytes.clone()) {
        let Ok(batch) = batch else { break };
        total += batch.bytes().len();
        look_into(&batch);
    }
    assert!(total <= bytes.len(), "batches cover no more than the record set");
}

/// Makes the first batch say the length that is there, and carry the checksum of its bytes.
fn mend(bytes: &mut [u8]) {
    if bytes.len() < HEADER_BYTES {
        return;
    }
    let length = i32::try_from(bytes.len() - LOG_OVERHEAD_BYTES).expect("inputs are small");
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    let crc = crc32c::crc32c(&bytes[CHECKED_FROM..]);
    bytes[CRC_AT..CHECKED_FROM].copy_from_slice(&crc.to_be_bytes());
}

fn look_into(batch: &RecordBatch) {
    let header = batch.header();
    let accepted = header.check_from_producer().is_ok();
    if batch.verify_crc().is_err() {
        return;
    }
    let Ok(decoded) = batch.decode(LIMITS) else { return };
    assert!(decoded.body().len() <= LIMITS.max_decompressed_bytes);
    let by_view = decoded
        .views()
        .collect::<Result<Vec<_>, _>>()
        .map(|views| views.len());
    let Ok(records) = batch.records(LIMITS) else {
        assert!(by_view.is_err(), "views and records refuse the same batches");
        return;
    };
    assert_eq!(by_view.expect("records decode, so views do"), records.len());
    assert_eq!(
        usize::try_from(header.record_count).expect("not negative"),
        records.len()
    );
    if accepted && !records.is_empty() {
        round_trip(&records);
    }
}

/// Records written again are the same records.
fn round_trip(records: &[Record]) {
    let base = records[0].offset;
    let mut builder = BatchBuilder::new(BatchOptions {
        base_offset: base,
        ..BatchOptions::default()
    });
    for record in records {
        builder.append(
            record.timestamp,
            record.key.as_deref(),
            record.value.as_deref(),
            &record.headers,
        );
    }
    let Ok(bytes) = builder.build() else { return };
    let (batch, rest) = RecordBatch::parse(bytes).expect("our own batch parses");
    assert!(rest.is_empty());
    let again = batch.records(LIMITS).expect("our own batch decodes");
    for (before, after) in records.iter().zip(&again) {
        assert_eq!(
            (&before.key, &before.value, &before.headers),
            (&after.key, &after.value, &after.headers)
        );
        assert_eq!(before.timestamp, after.timestamp);
    }
}

/// The first byte chooses the codec, the rest is the compressed body of an otherwise honest batch.
pub(super) fn decompression(input: &[u8]) {
    let mut pieces = Pieces::new(input);
    let codecs = [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];
    let codec = codecs[usize::from(pieces.byte()) % codecs.len()];
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(highwater_types::Timestamp::new(1), None, Some(b"1"), &[]);
    let mut batch = builder.build().expect("one small record").to_vec();
    batch[22] = codec.id();
    batch.truncate(HEADER_BYTES);
    batch.extend_from_slice(pieces.rest());
    mend(&mut batch);
    let (batch, _) = RecordBatch::parse(batch.into()).expect("length and magic are right");
    if let Ok(decoded) = batch.decode(LIMITS) {
        assert!(decoded.body().len() <= LIMITS.max_decompressed_bytes);
    }
}
