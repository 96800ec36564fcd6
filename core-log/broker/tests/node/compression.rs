//! Topics with a codec of their own: `compression.type` and its levels.

use bytes::Bytes;
use highwater_broker::Limits;
use highwater_types::record::{
    BatchBuilder, BatchOptions, Compression, DecodeLimits, Header, ProducerStamp, RecordBatch, batches,
};
use highwater_types::{ProducerEpoch, ProducerId, Sequence, Timestamp};
use highwater_wire::ErrorCode;

use crate::support::{Wire, fetch_request, now, produce_request, start, start_with};

/// Much that compresses well, headers and nulls, by an idempotent producer.
fn sent(compression: Compression, sequence: i32, value: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        compression,
        producer: Some(ProducerStamp {
            id: ProducerId::new(7),
            epoch: ProducerEpoch::new(2),
            base_sequence: Some(Sequence::new(sequence)),
        }),
        ..BatchOptions::default()
    });
    let headers = [Header::new("h", None), Header::new("h", Some("v".into()))];
    builder.append(Timestamp::new(now().get() - 5), Some(b"k"), Some(value), &headers);
    builder.append(now(), None, Some(value), &[]);
    builder.append(Timestamp::new(now().get() - 9), Some(b""), None, &[]);
    builder.build().unwrap()
}

fn parse(bytes: Bytes) -> RecordBatch {
    RecordBatch::parse(bytes).unwrap().0
}

async fn stored(wire: &mut Wire, topic: &str) -> Vec<RecordBatch> {
    let answer = wire.call(12, fetch_request(topic, 0)).await;
    let data = answer.responses[0].partitions[0].records.clone().unwrap();
    batches(data).map(Result::unwrap).collect()
}

const WORDS: [(&str, Compression); 5] = [
    ("uncompressed", Compression::None),
    ("gzip", Compression::Gzip),
    ("snappy", Compression::Snappy),
    ("lz4", Compression::Lz4),
    ("zstd", Compression::Zstd),
];

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_stored_in_the_topics_codec_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    let limits = DecodeLimits::default();
    for (word, wanted) in WORDS {
        wire.create(word, 1, &[("compression.type", word)]).await;
        // The last value is long enough for the runtime to be told.
        let batches: Vec<_> = Compression::ALL
            .into_iter()
            .enumerate()
            .map(|(at, codec)| sent(codec, 3 * at as i32, &[b'x'; 400].repeat(1 + at * 60)))
            .collect();
        for (at, batch) in batches.iter().enumerate() {
            let response = wire.produce_batch(word, batch.clone()).await;
            assert_eq!((response.error_code, response.base_offset), (0, 3 * at as i64));
        }
        // A repeat is known by its sequence, whatever its bytes have become.
        let repeat = wire.produce_batch(word, batches[4].clone()).await;
        assert_eq!((repeat.error_code, repeat.base_offset), (0, 12));
        let stored = stored(&mut wire, word).await;
        assert_eq!(stored.len(), batches.len());
        for (stored, sent) in stored.iter().zip(batches) {
            let sent = parse(sent);
            stored.verify_crc().unwrap();
            let (ours, theirs) = (stored.header(), sent.header());
            assert_eq!(ours.compression(), wanted);
            if theirs.compression() == wanted {
                assert_eq!(stored.bytes()[16..], sent.bytes()[16..], "{word}: not touched");
            }
            assert_eq!(
                (ours.producer_id, ours.producer_epoch, ours.base_sequence),
                (theirs.producer_id, theirs.producer_epoch, theirs.base_sequence)
            );
            assert_eq!(ours.max_timestamp, theirs.max_timestamp);
            let shift = ours.base_offset.get();
            let mut records = stored.records(limits).unwrap();
            for (record, at) in records.iter_mut().zip(0..) {
                assert_eq!(record.offset.get(), shift + at);
                record.offset = highwater_types::Offset::new(at);
            }
            assert_eq!(records, sent.records(limits).unwrap());
        }
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_codec_is_the_default_of_topics_and_append_time_applies_to_what_is_recompressed() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start_with(dir.path(), Limits::default(), &[("compression.type", "zstd")]).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[("message.timestamp.type", "LogAppendTime")])
        .await;
    wire.create("own", 1, &[("compression.type", "producer")]).await;
    let batch = sent(Compression::Gzip, 0, b"text");
    let response = wire.produce_batch("t", batch.clone()).await;
    assert!(response.log_append_time_ms > 0);
    wire.produce_batch("own", batch.clone()).await;
    let stamped = &stored(&mut wire, "t").await[0];
    stamped.verify_crc().unwrap();
    assert_eq!(stamped.header().compression(), Compression::Zstd);
    for record in stamped.records(DecodeLimits::default()).unwrap() {
        assert_eq!(record.timestamp.get(), response.log_append_time_ms);
    }
    let kept = &stored(&mut wire, "own").await[0];
    assert_eq!(kept.bytes()[16..], batch[16..]);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_27_the_size_limit_counts_before_and_after_recompression() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    let limit = ("max.message.bytes", "10000");
    wire.create("plain", 1, &[limit, ("compression.type", "uncompressed")])
        .await;
    wire.create("packed", 1, &[limit, ("compression.type", "gzip")])
        .await;
    let large = vec![b'x'; 20_000];
    let packed = sent(Compression::Zstd, 0, &large);
    let unpacked = sent(Compression::None, 0, &large);
    assert!(packed.len() < 10_000);
    for (topic, batch, expected) in [
        ("plain", &packed, ErrorCode::MessageTooLarge),
        ("packed", &unpacked, ErrorCode::MessageTooLarge),
        ("packed", &packed, ErrorCode::None),
    ] {
        let response = wire.produce_batch(topic, batch.clone()).await;
        assert_eq!(response.error_code, expected.code(), "{topic}");
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_54_a_bomb_is_refused_where_it_would_be_recompressed_even_without_validation() {
    let dir = tempfile::tempdir().unwrap();
    let unseen = [("highwater.validate.compressed.records", "false")];
    let (node, address) = start_with(dir.path(), Limits::default(), &unseen).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[("compression.type", "lz4")]).await;
    let bomb = sent(Compression::Zstd, 0, &vec![0; 40 << 20]);
    assert!(bomb.len() < 1 << 20);
    let response = wire.produce_batch("t", bomb).await;
    assert_eq!(response.error_code, ErrorCode::MessageTooLarge.code());
    let honest = sent(Compression::Zstd, 0, b"v");
    let response = wire.call(9, produce_request("t", honest, 1)).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    assert_eq!(
        stored(&mut wire, "t").await[0].header().compression(),
        Compression::Lz4
    );
    node.shutdown().await.unwrap();
}
