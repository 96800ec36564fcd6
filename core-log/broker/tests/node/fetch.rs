//! What a fetch, an offset query and an epoch query give.

use std::time::{Duration, Instant};

use bytes::Bytes;
use highwater_types::Uuid;
use highwater_types::record::batches;
use highwater_wire::ErrorCode;
use highwater_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use highwater_wire::messages::list_offsets_response::ListOffsetsPartitionResponse;
use highwater_wire::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use highwater_wire::messages::{
    DeleteTopicsRequest, FetchRequest, ListOffsetsRequest, OffsetForLeaderEpochRequest, ProduceRequest,
    delete_topics_request::DeleteTopicState,
};

use crate::support::{
    Wire, batch, fetch_all, fetch_request, now, produce_request, records, start, start_with, values,
};

/// Bytes of each partition's records, in the order of the answer.
async fn sizes(wire: &mut Wire, request: FetchRequest) -> Vec<usize> {
    let response = wire.call(12, request).await;
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|data| data.records.as_ref().map_or(0, Bytes::len))
        .collect()
}

fn to_partition(index: i32, records: Bytes) -> ProduceRequest {
    let mut request = produce_request("t", records, -1);
    request.topic_data[0].partition_data[0].index = index;
    request
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_43_45_hostile_59_the_first_partition_with_data_gives_a_whole_batch_whatever_the_limits() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 3, &[]).await;
    let one = batch(&["a batch of its own"]);
    for partition in [1, 2] {
        wire.call(9, to_partition(partition, one.clone())).await;
    }
    let request = || fetch_all(&[("t", 0, 0), ("t", 1, 0), ("t", 2, 0)]);
    for limit in [0, -1, 1, i32::MIN] {
        let by_request = FetchRequest {
            max_bytes: limit,
            ..request()
        };
        assert_eq!(sizes(&mut wire, by_request).await, [0, one.len(), 0], "{limit}");
        let mut by_partition = request();
        for partition in &mut by_partition.topics[0].partitions {
            partition.partition_max_bytes = limit;
        }
        assert_eq!(sizes(&mut wire, by_partition).await, [0, one.len(), 0], "{limit}");
    }
    // Empty is a record set of no bytes, never null.
    let response = wire.call(4, request()).await;
    assert_eq!(response.responses[0].partitions[0].records, Some(Bytes::new()));
    let odd = FetchRequest {
        max_bytes: i32::MAX,
        min_bytes: i32::MAX,
        max_wait_ms: -1,
        ..request()
    };
    assert_eq!(sizes(&mut wire, odd).await, [0, one.len(), one.len()]);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_44_55_an_offset_inside_a_batch_gives_all_of_it_and_offsets_begin_at_0() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[]).await;
    let empty = wire.fetch("t", 0);
    // Nothing of the metadata's own log takes offsets of a topic.
    assert_eq!(empty_marks(empty.await), (0, 0, 0));
    wire.produce("t", &["a", "b", "c"]).await;
    for from in 0..3 {
        assert_eq!(values(&wire.fetch("t", from).await), ["a", "b", "c"], "{from}");
    }
    node.shutdown().await.unwrap();
}

fn empty_marks(data: highwater_wire::messages::fetch_response::PartitionData) -> (i64, i64, i64) {
    (
        data.log_start_offset,
        data.last_stable_offset,
        data.high_watermark,
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_46_a_fetch_waits_for_min_bytes_over_all_partitions_and_not_longer() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let (mut reader, mut writer) = (Wire::connect(address).await, Wire::connect(address).await);
    reader.create("t", 3, &[]).await;
    let one = batch(&["x"]);
    let waiting = |min_batches: usize| FetchRequest {
        min_bytes: (min_batches * one.len()) as i32,
        max_wait_ms: 20_000,
        ..fetch_all(&[("t", 0, 0), ("t", 1, 0), ("t", 2, 0)])
    };
    // Two of three batches are not enough; the third one, in yet another partition, is.
    let began = Instant::now();
    reader.send(12, waiting(3)).await;
    for partition in 0..3 {
        tokio::time::sleep(Duration::from_millis(30)).await;
        let mut byte = [0];
        let quiet = tokio::time::timeout(Duration::from_millis(30), reader.stream.peek(&mut byte));
        assert!(quiet.await.is_err());
        writer.call(9, to_partition(partition, one.clone())).await;
    }
    let highwater_wire::ResponseBody::Fetch(response) = reader.receive().await else {
        panic!("a fetch is answered")
    };
    assert!(began.elapsed() < Duration::from_secs(10));
    let partitions = &response.responses[0].partitions;
    assert!(
        partitions
            .iter()
            .all(|data| data.records.as_ref().unwrap().len() == one.len())
    );

    // At once: no time to wait, nothing asked, enough there, or an error in any partition.
    let mut at_once = [waiting(9), waiting(9), waiting(1), waiting(9)];
    at_once[0].max_wait_ms = 0;
    at_once[1].topics.clear();
    at_once[3].topics[0].partitions[2].fetch_offset = 77;
    for request in at_once {
        let began = Instant::now();
        reader.call(12, request).await;
        assert!(began.elapsed() < Duration::from_secs(5));
    }
    // And a topic that goes away while the fetch waits.
    reader.send(12, waiting(9)).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let gone = DeleteTopicState {
        name: Some("t".into()),
        ..Default::default()
    };
    let request = DeleteTopicsRequest {
        topics: vec![gone],
        timeout_ms: 1_000,
        ..Default::default()
    };
    writer.call(6, request).await;
    let answered = tokio::time::timeout(Duration::from_secs(5), reader.receive()).await;
    let highwater_wire::ResponseBody::Fetch(response) = answered.unwrap() else {
        panic!("a fetch is answered")
    };
    assert_ne!(response.responses[0].partitions[0].error_code, 0);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_46_a_reader_behind_the_tail_never_waits_for_data_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    let sizes_of_topic = [("segment.bytes", "1048576"), ("max.message.bytes", "1048576")];
    wire.create("t", 1, &sizes_of_topic).await;
    let value = "x".repeat(500_000);
    for _ in 0..5 {
        wire.produce("t", &[&value]).await;
    }
    // The rest of the first segment is one batch, less than what is asked for; the log has more.
    let began = Instant::now();
    let request = FetchRequest {
        min_bytes: 900_000,
        max_wait_ms: 20_000,
        ..fetch_all(&[("t", 0, 1)])
    };
    assert!(sizes(&mut wire, request).await[0] > 0);
    assert!(began.elapsed() < Duration::from_secs(5));
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_47_hostile_61_only_offsets_outside_the_log_are_out_of_range() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[]).await;
    wire.produce("t", &["a", "b"]).await;
    for outside in [3, i64::MAX, -1, -2, i64::MIN] {
        let data = wire.fetch("t", outside).await;
        assert_eq!(data.error_code, ErrorCode::OffsetOutOfRange.code(), "{outside}");
        assert_eq!((data.log_start_offset, data.high_watermark), (0, 2));
    }
    let mut at_the_end = fetch_request("t", 2);
    at_the_end.max_wait_ms = 50;
    let began = Instant::now();
    let data = wire
        .call(12, at_the_end)
        .await
        .responses
        .remove(0)
        .partitions
        .remove(0);
    assert!(began.elapsed() >= Duration::from_millis(50), "it waits");
    assert_eq!((data.error_code, data.records.unwrap().len()), (0, 0));
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_40_without_transactions_committed_readers_see_all_and_no_aborts() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[]).await;
    wire.produce("t", &["a", "b"]).await;
    for (isolation_level, aborted) in [(1, Some(0)), (0, None)] {
        for from in [0, 2] {
            let mut request = fetch_all(&[("t", 0, from)]);
            request.isolation_level = isolation_level;
            let data = wire
                .call(12, request)
                .await
                .responses
                .remove(0)
                .partitions
                .remove(0);
            assert_eq!((data.last_stable_offset, data.high_watermark), (2, 2));
            assert_eq!(data.aborted_transactions.as_ref().map(Vec::len), aborted);
            assert_eq!(records(&data).len(), 2 - from as usize);
        }
        assert_eq!(list(&mut wire, 7, isolation_level, -1).await.offset, 2);
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_50_hostile_64_leader_epochs_of_clients_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[]).await;
    wire.produce("t", &["a", "b"]).await;
    let ours = wire.metadata("t").await.topics[0].partitions[0].leader_epoch;
    for (epoch, expected) in [
        (-1, ErrorCode::None),
        (ours, ErrorCode::None),
        (ours + 1, ErrorCode::UnknownLeaderEpoch),
        (i32::MAX, ErrorCode::UnknownLeaderEpoch),
    ] {
        let mut request = fetch_all(&[("t", 0, 0)]);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        let data = wire
            .call(12, request)
            .await
            .responses
            .remove(0)
            .partitions
            .remove(0);
        assert_eq!(ErrorCode::from_code(data.error_code), expected, "{epoch}");
    }
    // Records of an epoch nobody has led in yet cannot have come from here (KIP-595): told at once.
    let mut request = fetch_all(&[("t", 0, 2)]);
    request.max_wait_ms = 20_000;
    request.topics[0].partitions[0].last_fetched_epoch = ours + 5;
    let began = Instant::now();
    let data = wire
        .call(12, request)
        .await
        .responses
        .remove(0)
        .partitions
        .remove(0);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(data.error_code, ErrorCode::OffsetOutOfRange.code());
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_51_the_end_of_an_epoch_or_of_the_largest_smaller_one() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[]).await;
    wire.produce("t", &["a", "b"]).await;
    let ours = wire.metadata("t").await.topics[0].partitions[0].leader_epoch;
    for version in 2..=4 {
        let mut ask = async |leader_epoch: i32, partition: i32| {
            let partition = OffsetForLeaderPartition {
                partition,
                leader_epoch,
                ..Default::default()
            };
            let topic = OffsetForLeaderTopic {
                topic: "t".into(),
                partitions: vec![partition],
            };
            let request = OffsetForLeaderEpochRequest {
                topics: vec![topic],
                ..Default::default()
            };
            let answer = wire
                .call(version, request)
                .await
                .topics
                .remove(0)
                .partitions
                .remove(0);
            (answer.error_code, answer.leader_epoch, answer.end_offset)
        };
        assert_eq!(ask(ours, 0).await, (0, ours, 2));
        // Nobody has led in that epoch yet.
        assert_eq!(ask(ours + 3, 0).await, (0, -1, -1));
        // A client that knows no epoch is told no end, though all of the log is after it.
        assert_eq!(ask(-1, 0).await, (0, -1, -1));
        let unknown = ErrorCode::UnknownTopicOrPartition.code();
        assert_eq!(ask(ours, 9).await, (unknown, -1, -1));
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_52_hostile_36_a_topic_made_again_has_another_id() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    let old = wire.create("t", 1, &[]).await;
    wire.produce("t", &["old"]).await;
    let by_id = |topic_id: Uuid| {
        let mut request = fetch_all(&[("", 0, 0)]);
        request.topics[0].topic_id = topic_id;
        request
    };
    for version in 13..=18 {
        let mut response = wire.call(version, by_id(old)).await;
        assert_eq!(response.responses[0].topic_id, old);
        assert_eq!(
            values(&response.responses.remove(0).partitions.remove(0)),
            ["old"]
        );
    }
    let gone = DeleteTopicState {
        name: Some("t".into()),
        ..Default::default()
    };
    let request = DeleteTopicsRequest {
        topics: vec![gone],
        timeout_ms: 1_000,
        ..Default::default()
    };
    wire.call(6, request).await;
    let new = wire.create("t", 1, &[]).await;
    assert_ne!(new, old);
    for unknown in [old, Uuid::nil(), Uuid::new_v4()] {
        let response = wire.call(18, by_id(unknown)).await;
        let code = response.responses[0].partitions[0].error_code;
        assert_eq!(code, ErrorCode::UnknownTopicId.code());
    }
    assert_eq!(
        wire.call(18, by_id(new)).await.responses[0].partitions[0].error_code,
        0
    );
    node.shutdown().await.unwrap();
}

async fn list(
    wire: &mut Wire,
    version: i16,
    isolation_level: i8,
    timestamp: i64,
) -> ListOffsetsPartitionResponse {
    let partition = ListOffsetsPartition {
        timestamp,
        ..Default::default()
    };
    let topic = ListOffsetsTopic {
        name: "t".into(),
        partitions: vec![partition],
    };
    let request = ListOffsetsRequest {
        isolation_level,
        topics: vec![topic],
        ..Default::default()
    };
    wire.call(version, request)
        .await
        .topics
        .remove(0)
        .partitions
        .remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_53_54_hostile_65_66_offsets_by_time_to_the_record_and_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[]).await;
    let base = now().get() - 10_000;
    // One batch, times out of order: the first record at or after a time counts.
    use highwater_types::record::{BatchBuilder, BatchOptions};
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for delta in [0, 30, 10, 30] {
        builder.append(
            highwater_types::Timestamp::new(base + delta),
            Some(b"k"),
            None,
            &[],
        );
    }
    wire.produce_batch("t", builder.build().unwrap()).await;
    for version in 1..=10 {
        let expected = [
            (base - 5, 0),
            (base, 0),
            (base + 1, 1),
            (base + 30, 1),
            (base + 31, -1),
        ];
        for (timestamp, offset) in expected {
            let found = list(&mut wire, version, 0, timestamp).await;
            assert_eq!(
                (found.error_code, found.offset),
                (0, offset),
                "{version} {timestamp}"
            );
            if offset >= 0 && version >= 4 {
                assert!(found.leader_epoch >= 0);
            }
        }
        assert_eq!(list(&mut wire, version, 0, -1).await.offset, 4);
        assert_eq!(list(&mut wire, version, 0, -2).await.offset, 0);
        let named = [
            (-3, 7, (1, base + 30)),
            (-4, 8, (0, -1)),
            (-5, 9, (-1, -1)),
            (-6, 99, (-1, -1)),
        ];
        for (timestamp, first_version, (offset, time)) in named {
            let found = list(&mut wire, version, 0, timestamp).await;
            let expected = match version >= first_version {
                true => (0, offset, time),
                false => (ErrorCode::UnsupportedVersion.code(), -1, -1),
            };
            assert_eq!(
                (found.error_code, found.offset, found.timestamp),
                expected,
                "{version} {timestamp}"
            );
        }
        let negative = list(&mut wire, version, 0, i64::MIN).await;
        assert_eq!(negative.error_code, ErrorCode::UnsupportedVersion.code());
    }
    // An isolation level nobody has defined.
    let refused = list(&mut wire, 7, 2, -1).await;
    assert_eq!(refused.error_code, ErrorCode::InvalidRequest.code());
    let mut request = fetch_all(&[("t", 0, 0)]);
    request.isolation_level = 2;
    let response = wire.call(12, request).await;
    let code = response.responses[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::InvalidRequest.code());
    node.shutdown().await.unwrap();

    // After a restart the latest offset is known at once, and is not below what was told before.
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    assert_eq!(list(&mut wire, 7, 0, -1).await.offset, 4);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_33_60_partitions_named_twice_and_fetches_of_replicas() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start(dir.path()).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 1, &[]).await;
    wire.produce("t", &["x"]).await;
    let twice = fetch_all(&[("t", 0, 0), ("t", 0, 0)]);
    assert_eq!(sizes(&mut wire, twice).await.len(), 2);
    let mut topic = ListOffsetsTopic {
        name: "t".into(),
        partitions: vec![ListOffsetsPartition::default()],
    };
    topic.partitions.push(topic.partitions[0].clone());
    let request = ListOffsetsRequest {
        topics: vec![topic],
        ..Default::default()
    };
    for answer in &wire.call(7, request).await.topics[0].partitions {
        assert_eq!(answer.error_code, ErrorCode::InvalidRequest.code());
    }
    let mut replica = fetch_all(&[("t", 0, 0)]);
    replica.replica_id = 1;
    replica.replica_state.replica_id = 1;
    for version in [11, 12, 15, 18] {
        let mut request = replica.clone();
        request.topics[0].topic_id = Uuid::nil();
        let response = wire.call(version, request).await;
        let code = response.responses[0].partitions[0].error_code;
        assert_eq!(code, ErrorCode::NotLeaderOrFollower.code(), "{version}");
    }
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_sealed_segment_is_a_storage_error_of_its_partition_alone() {
    let dir = tempfile::tempdir().unwrap();
    let properties = [("log.segment.bytes", "1048576")];
    let (node, address) = start_with(dir.path(), Default::default(), &properties).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 2, &[]).await;
    let one = batch(&[&"x".repeat(300_000)]);
    for partition in [0, 1] {
        for _ in 0..5 {
            wire.call(9, to_partition(partition, one.clone())).await;
        }
    }
    // The second batch of the first segment becomes something else under the node's hands.
    let segment = dir.path().join("t-0/00000000000000000000.log");
    let mut bytes = std::fs::read(&segment).unwrap();
    bytes[one.len()..one.len() + 61].fill(0xff);
    std::fs::write(&segment, bytes).unwrap();
    let ask = |from| fetch_all(&[("t", 0, from), ("t", 1, from)]);
    // What stands in front of it is served. The damage comes along, since nobody here looks at the bytes of a large
    // answer; the reader cannot take it for a batch.
    let data = wire.fetch("t", 0).await;
    let mut read = batches(data.records.unwrap());
    assert_eq!(read.next().unwrap().unwrap().bytes().len(), one.len());
    assert!(read.next().is_none_or(|second| second.is_err()));
    for _ in 0..3 {
        let response = wire.call(12, ask(1)).await;
        let [damaged, whole] = &response.responses[0].partitions[..] else {
            panic!("two partitions were asked for: {response:?}");
        };
        assert_eq!(damaged.error_code, ErrorCode::KafkaStorageError.code());
        assert_eq!(damaged.high_watermark, 5);
        assert_eq!((whole.error_code, records(whole)[0].offset.get()), (0, 1));
    }
    // Behind the damaged segment everything is as it was.
    assert!(sizes(&mut wire, ask(3)).await[0] > 0);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_68_cold_reads_of_all_partitions_at_once_are_answered() {
    let dir = tempfile::tempdir().unwrap();
    let properties = [("log.segment.bytes", "1048576")];
    let (node, address) = start_with(dir.path(), Default::default(), &properties).await;
    let mut wire = Wire::connect(address).await;
    wire.create("t", 8, &[]).await;
    let value = "x".repeat(300_000);
    for partition in 0..8 {
        for _ in 0..5 {
            wire.call(9, to_partition(partition, batch(&[&value]))).await;
        }
    }
    let readers = (0..8).map(|at| async move {
        let mut reader = Wire::connect(address).await;
        let mut parts: Vec<_> = (0..8).map(|partition| ("t", partition, 0)).collect();
        parts.rotate_left(at);
        for _ in 0..5 {
            let sizes = sizes(&mut reader, fetch_all(&parts)).await;
            assert!(sizes.iter().all(|size| *size > 0), "{sizes:?}");
        }
    });
    futures::future::join_all(readers).await;
    node.shutdown().await.unwrap();
}
