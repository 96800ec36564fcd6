//! What a produce request may say, and what becomes of each thing it says.

use bytes::Bytes;
use highwater_types::record::{
    BatchBuilder, BatchOptions, Compression, Header, ProducerStamp, batches, patch_base_offset_and_epoch,
};
use highwater_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp, Uuid};
use highwater_wire::ErrorCode;
use highwater_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use highwater_wire::messages::produce_response::PartitionProduceResponse;

use crate::support::{
    Wire, batch, edited, fetch_request, now, produce_request, records, start, start_with, values,
};

const ATTRIBUTES_AT: usize = 21;
const LAST_DELTA_AT: usize = 23;
const COUNT_AT: usize = 57;

fn put<const N: usize>(at: usize, field: [u8; N]) -> Bytes {
    edited(&batch(&["a", "b"]), |bytes| {
        bytes[at..at + N].copy_from_slice(&field);
    })
}

fn stamped(id: i64, epoch: i16, sequence: i32, count: usize) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        producer: Some(ProducerStamp {
            id: ProducerId::new(id),
            epoch: ProducerEpoch::new(epoch),
            base_sequence: Some(Sequence::new(sequence)),
        }),
        ..BatchOptions::default()
    });
    for _ in 0..count {
        builder.append(now(), Some(b"k"), Some(b"v"), &[]);
    }
    builder.build().unwrap()
}

fn compressed(compression: Compression, value: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions {
        compression,
        ..BatchOptions::default()
    });
    builder.append(now(), Some(b"k"), Some(value), &[]);
    builder.build().unwrap()
}

fn code(response: &PartitionProduceResponse) -> ErrorCode {
    ErrorCode::from_code(response.error_code)
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_22_hostile_37_acks_decide_whether_and_what_is_answered() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[]).await;
    for acks in [5, 2, -2, i16::MIN, i16::MAX] {
        let response = wire.call(9, produce_request("t", batch(&["x"]), acks)).await;
        let refused = &response.responses[0].partition_responses[0];
        assert_eq!(code(refused), ErrorCode::InvalidRequiredAcks, "{acks}");
    }
    // No answer to acks=0: the next answer is that of the next request.
    wire.send_without_answer(9, produce_request("t", batch(&["quiet"]), 0))
        .await;
    assert_eq!(wire.produce("t", &["loud"]).await.base_offset, 1);
    // And if it fails, the connection closes.
    wire.send_without_answer(9, produce_request("nobody", batch(&["x"]), 0))
        .await;
    assert!(wire.is_closed_by_node().await);
    let mut wire = Wire::connect(address).await;
    assert_eq!(values(&wire.fetch("t", 0).await), ["quiet", "loud"]);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_23_hostile_38_acks_all_needs_enough_replicas_and_an_answer_means_readable() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("strict", 1, &[("min.insync.replicas", "2")]).await;
    assert_eq!(
        code(&wire.produce("strict", &["x"]).await),
        ErrorCode::NotEnoughReplicas
    );
    // Refused before the append: acks=1 gets the first offset.
    let response = wire.call(9, produce_request("strict", batch(&["x"]), 1)).await;
    assert_eq!(response.responses[0].partition_responses[0].base_offset, 0);

    wire.create("t", 1, &[]).await;
    for (at, timeout_ms) in [(0, -1), (1, 0), (2, i32::MIN), (3, i32::MAX)] {
        let mut request = produce_request("t", batch(&["x"]), -1);
        request.timeout_ms = timeout_ms;
        let response = wire.call(9, request).await;
        assert_eq!(response.responses[0].partition_responses[0].base_offset, at);
        assert_eq!(wire.fetch("t", at).await.high_watermark, at + 1);
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_24_hostile_39_41_49_a_partition_gets_exactly_one_batch_of_format_2() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[]).await;
    let one = batch(&["x"]);
    let two = Bytes::from([&one[..], &one[..]].concat());
    let with_tail = Bytes::from([&one[..], b"tail"].concat());
    let longer = edited(&one, |bytes| {
        bytes[8..12].copy_from_slice(&1_000_i32.to_be_bytes())
    });
    let shorter = edited(&one, |bytes| bytes[8..12].copy_from_slice(&50_i32.to_be_bytes()));
    for refused in [Bytes::new(), two, with_tail, one.slice(..30), longer, shorter] {
        let response = wire.produce_batch("t", refused.clone()).await;
        let expected = [ErrorCode::InvalidRecord, ErrorCode::CorruptMessage];
        assert!(
            expected.contains(&code(&response)),
            "{response:?} for {refused:?}"
        );
        assert_eq!((response.base_offset, response.log_append_time_ms), (-1, -1));
    }
    let mut null = produce_request("t", Bytes::new(), -1);
    null.topic_data[0].partition_data[0].records = None;
    let response = wire.call(9, null).await;
    assert_eq!(
        code(&response.responses[0].partition_responses[0]),
        ErrorCode::InvalidRecord
    );
    for (magic, expected) in [
        (0, ErrorCode::InvalidRecord),
        (1, ErrorCode::InvalidRecord),
        (3, ErrorCode::CorruptMessage),
        (255, ErrorCode::CorruptMessage),
    ] {
        assert_eq!(code(&wire.produce_batch("t", put(16, [magic])).await), expected);
    }
    assert_eq!(wire.produce("t", &["x"]).await.base_offset, 0);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_25_hostile_40_44_the_broker_stamps_outside_the_checksum_and_checks_it() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[]).await;
    let mut broken = batch(&["x"]).to_vec();
    *broken.last_mut().unwrap() ^= 1;
    assert_eq!(
        code(&wire.produce_batch("t", broken.into()).await),
        ErrorCode::CorruptMessage
    );
    for offset in [0, 17, -1, i64::MIN] {
        let mut odd = batch(&["x"]).to_vec();
        patch_base_offset_and_epoch(&mut odd, Offset::new(offset), LeaderEpoch::new(9));
        assert_eq!(code(&wire.produce_batch("t", odd.into()).await), ErrorCode::None);
    }
    let fetched = wire.fetch("t", 0).await;
    let stored: Vec<_> = batches(fetched.records.unwrap()).map(Result::unwrap).collect();
    for (at, batch) in (0..).zip(&stored) {
        batch.verify_crc().unwrap();
        assert_eq!(batch.header().base_offset, Offset::new(at));
        assert_eq!(batch.header().partition_leader_epoch, LeaderEpoch::new(0));
    }
    assert_eq!(stored.len(), 4);

    // LogAppendTime lies inside: the checksum is made anew.
    wire.create("stamped", 1, &[("message.timestamp.type", "LogAppendTime")])
        .await;
    let answer = wire.produce("stamped", &["x"]).await;
    let fetched = wire.fetch("stamped", 0).await;
    let stored = batches(fetched.records.unwrap()).next().unwrap().unwrap();
    stored.verify_crc().unwrap();
    assert_eq!(stored.header().max_timestamp.get(), answer.log_append_time_ms);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_26_hostile_42_43_45_46_47_48_headers_that_cannot_be_are_invalid_records() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[]).await;
    let cases = [
        ("count above the records", put(COUNT_AT, 3_i32.to_be_bytes())),
        ("count 0", put(COUNT_AT, 0_i32.to_be_bytes())),
        ("count negative", put(COUNT_AT, (-1_i32).to_be_bytes())),
        ("count largest", put(COUNT_AT, i32::MAX.to_be_bytes())),
        ("last delta too large", put(LAST_DELTA_AT, 7_i32.to_be_bytes())),
        ("last delta negative", put(LAST_DELTA_AT, (-1_i32).to_be_bytes())),
        ("control", put(ATTRIBUTES_AT, 0x20_u16.to_be_bytes())),
        ("sequence without id", put(53, 0_i32.to_be_bytes())),
        ("id without epoch", put(43, 7_i64.to_be_bytes())),
    ];
    for (case, bytes) in cases {
        let response = wire.produce_batch("t", bytes).await;
        let is_harmless = case == "sequence without id" && response.error_code == 0;
        assert!(
            code(&response) == ErrorCode::InvalidRecord || is_harmless,
            "{case}: {response:?}"
        );
    }
    // A codec nobody has defined; a transaction that is none.
    let response = wire
        .produce_batch("t", put(ATTRIBUTES_AT, 7_u16.to_be_bytes()))
        .await;
    assert_eq!(code(&response), ErrorCode::UnsupportedCompressionType);
    let transactional = edited(&stamped(5, 0, 0, 1), |bytes| bytes[22] |= 0x10);
    let response = wire.produce_batch("t", transactional).await;
    assert_eq!(code(&response), ErrorCode::InvalidTxnState);
    // A transactional id around a batch that is in no transaction changes nothing.
    let mut request = produce_request("t", batch(&["x"]), -1);
    request.transactional_id = Some("t".into());
    let response = wire.call(9, request).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    node.shutdown().await.unwrap();
}

/// A batch of two records whose second one has offset delta 2 instead of 1.
fn with_a_skipped_delta(compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    builder.append(now(), None, None, &[]);
    builder.append(now(), None, None, &[]);
    let honest = builder.build().unwrap();
    let mut body = honest[61..].to_vec();
    // Two records of a length and six bytes each; the delta is the third of the six, zigzag.
    assert_eq!((body.len(), body[10]), (14, 2));
    body[10] = 4;
    let packed = match compression {
        Compression::None => body,
        // One raw block: the length, then a literal of 14 bytes.
        Compression::Snappy => [&[14, 13 << 2], &body[..]].concat(),
        other => panic!("{other} is proven where batches are checked"),
    };
    let mut bytes = honest[..61].to_vec();
    bytes.extend_from_slice(&packed);
    let length = (bytes.len() - 12) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[ATTRIBUTES_AT + 1] = compression.id();
    edited(&Bytes::from(bytes), |_| {})
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_26_records_that_belie_their_header_are_invalid_records() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[]).await;
    for compression in [Compression::None, Compression::Snappy] {
        let response = wire.produce_batch("t", with_a_skipped_delta(compression)).await;
        assert_eq!(code(&response), ErrorCode::InvalidRecord, "{response:?}");
        let message = response.error_message.unwrap();
        assert!(message.contains("offset delta 2"), "{message}");
    }
    // A bomb: clients split at this code, and the rest of the node goes on.
    let bomb = compressed(Compression::Zstd, &vec![0; 65 << 20]);
    let response = wire.produce_batch("t", bomb).await;
    assert_eq!(code(&response), ErrorCode::MessageTooLarge, "{response:?}");
    // What was damaged on the way is worth sending again, whatever it holds.
    let mut damaged = with_a_skipped_delta(Compression::None).to_vec();
    damaged[70] ^= 1;
    let response = wire.produce_batch("t", damaged.into()).await;
    assert_eq!(code(&response), ErrorCode::CorruptMessage);
    assert_eq!(wire.produce("t", &["x"]).await.base_offset, 0);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_27_hostile_55_a_batch_too_large_is_refused_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    let small = batch(&["small"]);
    let limit = small.len().to_string();
    wire.create("t", 2, &[("max.message.bytes", &limit)]).await;
    let large = batch(&["larger"]);
    let data = |index, records: &Bytes| PartitionProduceData {
        index,
        records: Some(records.clone()),
    };
    let mut request = produce_request("t", small.clone(), -1);
    request.topic_data[0].partition_data = vec![data(0, &large), data(1, &small)];
    let response = wire.call(9, request).await;
    let answers = &response.responses[0].partition_responses;
    assert_eq!(code(&answers[0]), ErrorCode::MessageTooLarge);
    assert_eq!((answers[1].error_code, answers[1].base_offset), (0, 0));

    let sizes = [("max.message.bytes", "5000000"), ("segment.bytes", "1048576")];
    wire.create("wide", 1, &sizes).await;
    let over_a_segment = compressed(Compression::None, &vec![7; 2_000_000]);
    let response = wire.produce_batch("wide", over_a_segment).await;
    assert_eq!(code(&response), ErrorCode::RecordListTooLarge);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_28_zstd_needs_produce_7_and_fetch_10_and_bytes_stay_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[]).await;
    let zstd = compressed(Compression::Zstd, b"text");
    let response = wire.call(6, produce_request("t", zstd.clone(), -1)).await;
    assert_eq!(
        code(&response.responses[0].partition_responses[0]),
        ErrorCode::UnsupportedCompressionType
    );
    let response = wire.call(7, produce_request("t", zstd.clone(), -1)).await;
    assert_eq!(response.responses[0].partition_responses[0].error_code, 0);
    let old = wire.call(9, fetch_request("t", 0)).await;
    let old = &old.responses[0].partitions[0];
    assert_eq!(old.error_code, ErrorCode::UnsupportedCompressionType.code());
    let new = wire.call(10, fetch_request("t", 0)).await;
    let stored = new.responses[0].partitions[0].records.clone().unwrap();
    assert_eq!(stored[16..], zstd[16..]);
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4] {
        let response = wire
            .call(3, produce_request("t", compressed(codec, b"text"), -1))
            .await;
        assert_eq!(
            response.responses[0].partition_responses[0].error_code, 0,
            "{codec}"
        );
    }
    let all = wire.call(4, fetch_request("t", 1)).await;
    assert_eq!(records(&all.responses[0].partitions[0]).len(), 3);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_29_hostile_50_times_far_from_now_are_refused_where_the_clients_time_counts() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[("message.timestamp.before.max.ms", "1000")])
        .await;
    wire.create("stamped", 1, &[("message.timestamp.type", "LogAppendTime")])
        .await;
    let at = |timestamp: i64| {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.append(Timestamp::new(timestamp), Some(b"k"), Some(b"v"), &[]);
        builder.build().unwrap()
    };
    let day_ms = 86_400_000;
    for timestamp in [0, now().get() - day_ms, now().get() + day_ms, i64::MAX] {
        let response = wire.produce_batch("t", at(timestamp)).await;
        assert_eq!(code(&response), ErrorCode::InvalidTimestamp, "{timestamp}");
        let response = wire.produce_batch("stamped", at(timestamp)).await;
        assert_eq!(code(&response), ErrorCode::None, "{timestamp}");
        assert!((now().get() - response.log_append_time_ms).abs() < day_ms);
    }
    // No time at all is no time far away.
    for timestamp in [-1, now().get()] {
        let response = wire.produce_batch("t", at(timestamp)).await;
        assert_eq!((response.error_code, response.log_append_time_ms), (0, -1));
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_29_every_records_time_counts_and_those_outside_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    let minute = [("message.timestamp.before.max.ms", "60000")];
    wire.create("t", 1, &minute).await;
    let hour_ms = 3_600_000;
    for compression in Compression::ALL {
        // First and last are fine, and so is what the header tells.
        let times = [0, -hour_ms, 0, -1 - now().get(), -hour_ms, 0].map(|ms| now().get() + ms);
        let mut builder = BatchBuilder::new(BatchOptions {
            compression,
            ..BatchOptions::default()
        });
        for time in times {
            builder.append(Timestamp::new(time.max(-1)), Some(b"k"), Some(b"v"), &[]);
        }
        let response = wire.produce_batch("t", builder.build().unwrap()).await;
        assert_eq!(code(&response), ErrorCode::InvalidTimestamp, "{compression}");
        let named = response.record_errors.iter().map(|error| error.batch_index);
        assert_eq!(named.collect::<Vec<_>>(), [1, 4], "{compression}");
        assert!(response.record_errors[0].batch_index_error_message.is_some());
        assert!(response.error_message.is_some());
    }
    assert_eq!(wire.produce("t", &["good"]).await.base_offset, 0);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_30_hostile_53_records_without_key_are_named_and_the_whole_batch_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("compacted", 1, &[("cleanup.policy", "compact")])
        .await;
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for key in [Some(&b"k"[..]), None, Some(b""), None] {
        builder.append(now(), key, Some(b"v"), &[]);
    }
    let mixed = builder.build().unwrap();
    let response = wire.produce_batch("compacted", mixed.clone()).await;
    assert_eq!(code(&response), ErrorCode::InvalidRecord);
    let named: Vec<i32> = response
        .record_errors
        .iter()
        .map(|error| error.batch_index)
        .collect();
    assert_eq!(named, [1, 3]);
    assert!(response.record_errors[0].batch_index_error_message.is_some());
    assert!(response.error_message.is_some());
    // Version 7 has no room for them; the code stays.
    let old = wire.call(7, produce_request("compacted", mixed, -1)).await;
    assert_eq!(
        code(&old.responses[0].partition_responses[0]),
        ErrorCode::InvalidRecord
    );
    assert_eq!(wire.produce("compacted", &["good"]).await.base_offset, 0);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_31_null_and_empty_stay_apart_and_headers_stay_a_list() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[]).await;
    let headers = [
        Header::new("same", Some("1".into())),
        Header::new("other", None),
        Header::new("same", Some(Bytes::new())),
        Header::new("same", Some("1".into())),
    ];
    let mut builder = BatchBuilder::new(BatchOptions::default());
    let fields = [
        (None, None),
        (Some(&b""[..]), Some(&b""[..])),
        (None, Some(&b"v"[..])),
    ];
    for (key, value) in fields {
        builder.append(now(), key, value, &headers);
    }
    wire.produce_batch("t", builder.build().unwrap()).await;
    let read = records(&wire.fetch("t", 0).await);
    for (record, (key, value)) in read.iter().zip(fields) {
        assert_eq!((record.key.as_deref(), record.value.as_deref()), (key, value));
        assert_eq!(record.headers, headers);
    }
    assert_eq!(read.len(), 3);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_33_34_35_hostile_57_repeats_succeed_gaps_and_older_epochs_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[]).await;
    for at in 0..6 {
        let answer = wire.produce_batch("t", stamped(7, 0, at * 2, 2)).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, i64::from(at) * 2));
    }
    // The last five are known again, with their offsets; the one before is out of order.
    for at in 1..6 {
        let answer = wire.produce_batch("t", stamped(7, 0, at * 2, 2)).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, i64::from(at) * 2));
    }
    let codes = [
        (stamped(7, 0, 0, 2), ErrorCode::OutOfOrderSequenceNumber),
        (stamped(7, 0, 14, 1), ErrorCode::OutOfOrderSequenceNumber),
        (stamped(7, 0, 10, 1), ErrorCode::OutOfOrderSequenceNumber),
        (stamped(7, 1, 3, 1), ErrorCode::OutOfOrderSequenceNumber),
        (stamped(7, 1, 0, 1), ErrorCode::None),
        (stamped(7, 0, 12, 1), ErrorCode::InvalidProducerEpoch),
        // Nothing is known of this one: any sequence is a beginning.
        (stamped(8, 4, 99, 1), ErrorCode::None),
    ];
    for (bytes, expected) in codes {
        assert_eq!(code(&wire.produce_batch("t", bytes).await), expected);
    }
    // The sequence after the largest is 0.
    assert_eq!(
        code(&wire.produce_batch("t", stamped(9, 0, i32::MAX, 1)).await),
        ErrorCode::None
    );
    assert_eq!(
        code(&wire.produce_batch("t", stamped(9, 0, 0, 1)).await),
        ErrorCode::None
    );
    assert_eq!(wire.fetch("t", 0).await.high_watermark, 16);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_36_what_is_known_of_a_producer_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[]).await;
    wire.produce_batch("t", stamped(7, 3, 0, 2)).await;
    node.shutdown().await.unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    let answer = wire.produce_batch("t", stamped(7, 3, 0, 2)).await;
    assert_eq!((answer.error_code, answer.base_offset), (0, 0));
    assert_eq!(
        code(&wire.produce_batch("t", stamped(7, 3, 5, 1)).await),
        ErrorCode::OutOfOrderSequenceNumber
    );
    assert_eq!(wire.produce_batch("t", stamped(7, 3, 2, 1)).await.base_offset, 2);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_52_hostile_36_topics_named_by_id_are_found_by_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    let id = wire.create("t", 1, &[]).await;
    let to = |topic_id: Uuid, index| {
        let mut request = produce_request("", batch(&["x"]), -1);
        request.topic_data[0].topic_id = topic_id;
        request.topic_data[0].partition_data[0].index = index;
        request
    };
    let cases = [
        (id, 0, ErrorCode::None),
        (id, 5, ErrorCode::UnknownTopicOrPartition),
        (id, -1, ErrorCode::UnknownTopicOrPartition),
        (Uuid::new_v4(), 0, ErrorCode::UnknownTopicId),
        (Uuid::nil(), 0, ErrorCode::UnknownTopicId),
    ];
    for (topic_id, index, expected) in cases {
        let response = wire.call(13, to(topic_id, index)).await;
        assert_eq!(response.responses[0].topic_id, topic_id);
        assert_eq!(code(&response.responses[0].partition_responses[0]), expected);
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_33_a_partition_named_twice_is_served_twice_and_58_internal_topics_are_closed() {
    let dir = tempfile::tempdir().unwrap();
    let properties = [("offsets.topic.num.partitions", "1")];
    let (node, address) = start_with(dir.path(), Default::default(), &properties).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[]).await;
    let mut request = produce_request("t", batch(&["x"]), -1);
    let again: TopicProduceData = request.topic_data[0].clone();
    request.topic_data.push(again);
    let response = wire.call(9, request).await;
    let offsets = response
        .responses
        .iter()
        .map(|topic| topic.partition_responses[0].base_offset);
    assert_eq!(offsets.collect::<Vec<_>>(), [0, 1]);

    // Looking for a coordinator makes the topic of the groups.
    let find = highwater_wire::messages::FindCoordinatorRequest {
        key: "group".into(),
        ..Default::default()
    };
    wire.call(3, find).await;
    for topic in ["__consumer_offsets", "__transaction_state", "__cluster_metadata"] {
        for acks in [-1, 1] {
            let garbage = produce_request(topic, batch(&["garbage"]), acks);
            let response = wire.call(9, garbage).await;
            let refused = code(&response.responses[0].partition_responses[0]);
            let expected = [
                ErrorCode::InvalidTopicException,
                ErrorCode::UnknownTopicOrPartition,
            ];
            assert!(expected.contains(&refused), "{topic}: {refused:?}");
        }
    }
    node.shutdown().await.unwrap();
    start(dir.path()).await.0.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_56_a_producer_id_per_message_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[]).await;
    for id in 0..2_000 {
        assert_eq!(
            code(&wire.produce_batch("t", stamped(id, 0, 0, 1)).await),
            ErrorCode::None
        );
    }
    assert_eq!(wire.produce("t", &["x"]).await.base_offset, 2_000);
    node.shutdown().await.unwrap();
}
