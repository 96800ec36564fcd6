//! Compaction of `__consumer_offsets`: very many commits stay few records, and groups of both protocols are what they
//! were, after a stop and after a kill.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use highwater_broker::{Node, NodeConfig, NodeError};
use highwater_storage::StorageError;
use highwater_wire::messages::consumer_group_describe_response::DescribedGroup as ConsumerGroup;
use highwater_wire::messages::describe_groups_response::DescribedGroup;
use highwater_wire::messages::join_group_request::JoinGroupRequestProtocol;
use highwater_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use highwater_wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use highwater_wire::messages::sync_group_request::SyncGroupRequestAssignment;
use highwater_wire::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, DeleteGroupsRequest, DescribeGroupsRequest,
    HeartbeatRequest, JoinGroupRequest, OffsetCommitRequest, OffsetFetchRequest, SyncGroupRequest,
};

use crate::groups::find;
use crate::support::Wire;

const PARTITIONS: i32 = 20;
const ROUNDS: i64 = 150;
const SEGMENT_BYTES: u64 = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

const PROPERTIES: &[(&str, &str)] = &[
    ("group.initial.rebalance.delay.ms", "0"),
    // Members must still be there when a busy machine comes back to them.
    ("group.max.session.timeout.ms", "1800000"),
    ("group.consumer.max.session.timeout.ms", "600000"),
    ("group.consumer.session.timeout.ms", "600000"),
    ("offsets.topic.num.partitions", "1"),
    ("offsets.topic.segment.bytes", "1048576"),
    ("log.cleaner.backoff.ms", "10"),
    ("log.cleaner.min.cleanable.ratio", "0.1"),
];

/// Starts a node. One that was dropped may hold the directory until its last task has ended.
async fn start(dir: &Path) -> (Node, Wire) {
    let config = || {
        let listening = NodeConfig::new(dir).listen("PLAINTEXT", "127.0.0.1:0".parse().unwrap());
        PROPERTIES
            .iter()
            .fold(listening, |config, (key, value)| config.property(*key, *value))
    };
    let started = async {
        loop {
            match Node::start(config()).await {
                Err(NodeError::Storage {
                    source: StorageError::DirectoryInUse { .. },
                    ..
                }) => tokio::time::sleep(Duration::from_millis(20)).await,
                other => return other.unwrap(),
            }
        }
    };
    let node = tokio::time::timeout(PATIENCE, started)
        .await
        .expect("the directory is free");
    let wire = Wire::connect(node.listener_addr("PLAINTEXT").unwrap()).await;
    (node, wire)
}

/// A classic group with one member.
#[derive(Debug)]
struct Classic {
    member_id: String,
    generation_id: i32,
}

async fn form_classic(wire: &mut Wire, group: &str) -> Classic {
    let join = |member_id: &str| JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 600_000,
        rebalance_timeout_ms: 600_000,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol {
            name: "range".into(),
            metadata: Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff"),
        }],
        ..Default::default()
    };
    let pending = wire.call(9, join("")).await;
    let joined = wire.call(9, join(&pending.member_id)).await;
    assert_eq!(joined.error_code, 0, "{joined:?}");
    let sync = SyncGroupRequest {
        group_id: group.into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: joined.protocol_type.clone(),
        protocol_name: joined.protocol_name.clone(),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: joined.member_id.clone(),
            assignment: Bytes::from_static(b"yours"),
        }],
        ..Default::default()
    };
    assert_eq!(wire.call(5, sync).await.error_code, 0);
    Classic {
        member_id: joined.member_id.to_string(),
        generation_id: joined.generation_id,
    }
}

fn heartbeat(group: &str, member: &str, member_epoch: i32) -> ConsumerGroupHeartbeatRequest {
    let is_joining = member_epoch == 0;
    ConsumerGroupHeartbeatRequest {
        group_id: group.into(),
        member_id: member.into(),
        member_epoch,
        rebalance_timeout_ms: if is_joining { 600_000 } else { -1 },
        subscribed_topic_names: is_joining.then(|| vec!["t".into()]),
        topic_partitions: is_joining.then(Vec::new),
        ..Default::default()
    }
}

/// Text of a kibibyte, so that segments are soon full.
fn metadata(group: &str, offset: i64) -> String {
    format!("{:-<1024}", format!("{group} {offset} "))
}

/// Commits one offset for every partition of `t`; who commits is a member id and its generation or epoch.
async fn commit(wire: &mut Wire, group: &str, member: (&str, i32), offset: i64) {
    let partition = |partition_index| OffsetCommitRequestPartition {
        partition_index,
        committed_offset: offset + i64::from(partition_index),
        committed_metadata: Some(metadata(group, offset).into()),
        ..Default::default()
    };
    let request = OffsetCommitRequest {
        group_id: group.into(),
        member_id: member.0.into(),
        generation_id_or_member_epoch: member.1,
        topics: vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: (0..PARTITIONS).map(partition).collect(),
        }],
        ..Default::default()
    };
    let answer = wire.call(9, request).await;
    assert!(
        answer.topics[0].partitions.iter().all(|row| row.error_code == 0),
        "{answer:?}"
    );
}

/// Offset and metadata of every partition.
async fn committed(wire: &mut Wire, group: &str) -> BTreeMap<i32, (i64, String)> {
    let request = OffsetFetchRequest {
        groups: vec![OffsetFetchRequestGroup {
            group_id: group.into(),
            topics: Some(vec![OffsetFetchRequestTopics {
                name: "t".into(),
                partition_indexes: (0..PARTITIONS).collect(),
            }]),
            ..Default::default()
        }],
        ..Default::default()
    };
    let answer = wire.call(8, request).await.groups.remove(0);
    assert_eq!(answer.error_code, 0, "{answer:?}");
    let rows = answer.topics.into_iter().flat_map(|topic| topic.partitions);
    rows.map(|row| {
        let metadata = row.metadata.map(|text| text.to_string());
        (
            row.partition_index,
            (row.committed_offset, metadata.unwrap_or_default()),
        )
    })
    .collect()
}

/// What the last round has committed.
fn expected(group: &str, offset: i64) -> BTreeMap<i32, (i64, String)> {
    let row = |partition: i32| {
        (
            partition,
            (offset + i64::from(partition), metadata(group, offset)),
        )
    };
    (0..PARTITIONS).map(row).collect()
}

async fn describe_classic(wire: &mut Wire, group: &str) -> DescribedGroup {
    let request = DescribeGroupsRequest {
        groups: vec![group.into()],
        ..Default::default()
    };
    wire.call(5, request).await.groups.remove(0)
}

async fn describe_consumer(wire: &mut Wire, group: &str) -> ConsumerGroup {
    let request = ConsumerGroupDescribeRequest {
        group_ids: vec![group.into()],
        ..Default::default()
    };
    wire.call(1, request).await.groups.remove(0)
}

fn log_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir.join("__consumer_offsets-0")).unwrap();
    let logs = files.map(Result::unwrap).filter(|file| {
        file.path()
            .extension()
            .is_some_and(|extension| extension == "log")
    });
    // A file that compaction has just replaced has no size any more.
    logs.filter_map(|file| Some(file.metadata().ok()?.len())).sum()
}

/// Waits until the topic is no larger than what its groups need.
async fn compacted(dir: &Path, at_most_bytes: u64) {
    let wait = async {
        while log_bytes(dir) > at_most_bytes {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(PATIENCE, wait).await.is_err() {
        panic!("{} bytes, {at_most_bytes} wanted", log_bytes(dir));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_both_protocols_stay_few_bytes_and_survive_compaction_a_stop_and_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let (node, mut wire) = start(dir.path()).await;
    wire.create("t", PARTITIONS, &[]).await;
    for group in ["classic", "consumer", "simple", "gone"] {
        find(&mut wire, group).await;
    }
    let classic = form_classic(&mut wire, "classic").await;
    let joined = wire.call(1, heartbeat("consumer", "member-a", 0)).await;
    assert_eq!((joined.error_code, joined.member_epoch), (0, 1), "{joined:?}");
    // A second member comes and goes: its records are tombstones by the time the log is compacted.
    let other = wire.call(1, heartbeat("consumer", "member-b", 0)).await;
    assert_eq!(other.error_code, 0, "{other:?}");
    let left = wire.call(1, heartbeat("consumer", "member-b", -1)).await;
    assert_eq!(left.error_code, 0);
    let mut epoch = joined.member_epoch;
    let told = wire.call(1, heartbeat("consumer", "member-a", epoch)).await;
    assert_eq!(told.error_code, 0, "{told:?}");
    epoch = told.member_epoch;
    commit(&mut wire, "gone", ("", -1), 1).await;
    let request = DeleteGroupsRequest {
        groups_names: vec!["gone".into()],
    };
    assert_eq!(wire.call(2, request).await.results[0].error_code, 0);

    let mut written = 0;
    for round in 1..=ROUNDS {
        commit(
            &mut wire,
            "classic",
            (&classic.member_id, classic.generation_id),
            round * 100,
        )
        .await;
        commit(&mut wire, "consumer", ("member-a", epoch), round * 100).await;
        commit(&mut wire, "simple", ("", -1), round * 100).await;
        written += 3 * PARTITIONS as u64;
    }
    let described = (
        describe_classic(&mut wire, "classic").await,
        describe_consumer(&mut wire, "consumer").await,
    );
    assert_eq!(described.0.group_state, "Stable");
    assert_eq!(described.1.group_state, "Stable");
    // Three groups of twenty offsets take some 60 KiB; the active segment waits for its turn.
    assert!(
        written * 1024 > 8 * SEGMENT_BYTES,
        "{written} records are too few to prove anything"
    );
    let bound = 2 * SEGMENT_BYTES;
    compacted(dir.path(), bound).await;

    let mut node = Some(node);
    for is_clean in [true, false] {
        match node.take() {
            Some(node) if is_clean => node.shutdown().await.unwrap(),
            // As if the process were killed: nothing is closed, nothing marked.
            other => drop(other),
        }
        let (again, mut wire) = start(dir.path()).await;
        for group in ["classic", "consumer", "simple"] {
            find(&mut wire, group).await;
            assert_eq!(
                committed(&mut wire, group).await,
                expected(group, ROUNDS * 100),
                "{group}"
            );
        }
        assert!(committed(&mut wire, "gone").await.values().all(|row| row.0 == -1));
        assert_eq!(describe_classic(&mut wire, "gone").await.group_state, "Dead");
        assert_eq!(describe_classic(&mut wire, "classic").await, described.0);
        assert_eq!(describe_consumer(&mut wire, "consumer").await, described.1);
        // Members go on where they were.
        let beat = HeartbeatRequest {
            group_id: "classic".into(),
            generation_id: classic.generation_id,
            member_id: classic.member_id.as_str().into(),
            ..Default::default()
        };
        assert_eq!(wire.call(4, beat).await.error_code, 0);
        let beat = wire.call(1, heartbeat("consumer", "member-a", epoch)).await;
        assert_eq!((beat.error_code, beat.member_epoch), (0, epoch));
        commit(&mut wire, "consumer", ("member-a", epoch), ROUNDS * 100).await;
        node = Some(again);
    }
    assert!(log_bytes(dir.path()) <= bound + SEGMENT_BYTES);
    node.unwrap().shutdown().await.unwrap();
}
