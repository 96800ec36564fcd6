//! A consumer group over the wire: find, join, sync, commit, and all of it again after a restart.

use highwater_broker::{Exposition, Limits, Node};
use highwater_wire::ErrorCode;
use highwater_wire::messages::join_group_request::JoinGroupRequestProtocol;
use highwater_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use highwater_wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use highwater_wire::messages::offset_fetch_response::OffsetFetchResponseGroup;
use highwater_wire::messages::sync_group_request::SyncGroupRequestAssignment;
use highwater_wire::messages::{
    DeleteTopicsRequest, DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest, OffsetFetchRequest,
    SyncGroupRequest,
};

use crate::support::{Wire, start_with};

pub(crate) const PROPERTIES: &[(&str, &str)] = &[
    ("group.initial.rebalance.delay.ms", "0"),
    ("offsets.topic.num.partitions", "3"),
];

pub(crate) async fn find(wire: &mut Wire, group: &str) {
    let request = FindCoordinatorRequest {
        coordinator_keys: vec![group.into()],
        ..Default::default()
    };
    let response = wire.call(4, request).await;
    assert_eq!(response.coordinators[0].error_code, 0, "{response:?}");
    // The coordinator may still read its records, and says so: clients ask again, and so do we.
    while offsets_of(wire, group).await.error_code == ErrorCode::CoordinatorLoadInProgress.code() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn join(wire: &mut Wire, group: &str, member_id: &str) -> JoinGroupResponse {
    let protocol = JoinGroupRequestProtocol {
        name: "range".into(),
        metadata: bytes::Bytes::from_static(b"topics"),
    };
    let request = JoinGroupRequest {
        group_id: group.into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
        ..Default::default()
    };
    wire.call(9, request).await
}

async fn committed(wire: &mut Wire, group: &str) -> i64 {
    let group = offsets_of(wire, group).await;
    assert_eq!(group.error_code, 0);
    group.topics[0].partitions[0].committed_offset
}

async fn offsets_of(wire: &mut Wire, group: &str) -> OffsetFetchResponseGroup {
    let topic = OffsetFetchRequestTopics {
        name: "t".into(),
        partition_indexes: vec![0],
    };
    let group = OffsetFetchRequestGroup {
        group_id: group.into(),
        topics: Some(vec![topic]),
        ..Default::default()
    };
    let request = OffsetFetchRequest {
        groups: vec![group],
        ..Default::default()
    };
    let mut response = wire.call(8, request).await;
    response.groups.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_67_a_group_forms_commits_and_its_members_go_on_at_their_generation_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start_with(dir.path(), Limits::default(), PROPERTIES).await;
    let mut wire = Wire::connect(address).await;
    wire.metadata("t").await;
    let early = join(&mut wire, "g", "").await;
    assert_eq!(
        early.error_code,
        ErrorCode::NotCoordinator.code(),
        "nobody asked for a coordinator yet"
    );
    find(&mut wire, "g").await;
    let pending = join(&mut wire, "g", "").await;
    assert_eq!(pending.error_code, ErrorCode::MemberIdRequired.code());
    let joined = join(&mut wire, "g", &pending.member_id).await;
    assert_eq!((joined.error_code, joined.members.len()), (0, 1));
    assert_eq!(joined.leader, joined.member_id);

    let sync = SyncGroupRequest {
        group_id: "g".into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: Some("consumer".into()),
        protocol_name: Some("range".into()),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: joined.member_id.clone(),
            assignment: bytes::Bytes::from_static(b"yours"),
        }],
        ..Default::default()
    };
    let synced = wire.call(5, sync).await;
    assert_eq!((synced.error_code, &synced.assignment[..]), (0, &b"yours"[..]));

    let offset = |partition_index, committed_offset| OffsetCommitRequestPartition {
        partition_index,
        committed_offset,
        ..Default::default()
    };
    let commit = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: joined.generation_id,
        member_id: joined.member_id.clone(),
        topics: vec![OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![offset(0, 42), offset(7, 1)],
        }],
        ..Default::default()
    };
    let answer = wire.call(8, commit).await;
    let codes: Vec<_> = answer.topics[0]
        .partitions
        .iter()
        .map(|p| (p.partition_index, p.error_code))
        .collect();
    assert_eq!(codes, [(0, 0), (7, ErrorCode::UnknownTopicOrPartition.code())]);
    assert_eq!(committed(&mut wire, "g").await, 42);
    node.shutdown().await.unwrap();

    let (node, address) = start_with(dir.path(), Limits::default(), PROPERTIES).await;
    let mut wire = Wire::connect(address).await;
    find(&mut wire, "g").await;
    assert_eq!(committed(&mut wire, "g").await, 42);
    let heartbeat = HeartbeatRequest {
        group_id: "g".into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        ..Default::default()
    };
    assert_eq!(
        wire.call(4, heartbeat).await.error_code,
        0,
        "members outlive the restart"
    );
    let listed = wire.call(5, ListGroupsRequest::default()).await;
    assert_eq!(
        listed
            .groups
            .iter()
            .map(|group| group.group_id.to_string())
            .collect::<Vec<_>>(),
        ["g"]
    );
    let described = wire
        .call(
            5,
            DescribeGroupsRequest {
                groups: vec!["g".into()],
                ..Default::default()
            },
        )
        .await;
    assert_eq!(described.groups[0].group_state, "Stable");
    let leave = LeaveGroupRequest {
        group_id: "g".into(),
        members: vec![highwater_wire::messages::leave_group_request::MemberIdentity {
            member_id: joined.member_id,
            ..Default::default()
        }],
        ..Default::default()
    };
    assert_eq!(wire.call(5, leave).await.error_code, 0);
    let mut scrape = Exposition::default();
    node.write_metrics(&mut scrape);
    let scrape = scrape.into_text();
    assert!(
        scrape.contains("kafka_consumergroup_members{consumergroup=\"g\"} 0\n"),
        "{scrape}"
    );
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_made_anew_does_not_inherit_committed_offsets() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start_with(dir.path(), Limits::default(), PROPERTIES).await;
    let mut wire = Wire::connect(address).await;
    wire.metadata("t").await;
    find(&mut wire, "g").await;
    let partition = OffsetCommitRequestPartition {
        committed_offset: 5,
        ..Default::default()
    };
    let topic = OffsetCommitRequestTopic {
        name: "t".into(),
        partitions: vec![partition],
    };
    let commit = OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    assert_eq!(wire.call(8, commit).await.topics[0].partitions[0].error_code, 0);
    assert_eq!(committed(&mut wire, "g").await, 5);
    let shown = |node: &Node| {
        let mut scrape = Exposition::default();
        node.write_metrics(&mut scrape);
        scrape
            .into_text()
            .lines()
            .filter(|line| line.contains("topic=\"t\""))
            .count()
    };
    assert!(shown(&node) > 10);
    let gone = DeleteTopicsRequest {
        topic_names: vec!["t".into()],
        ..Default::default()
    };
    assert_eq!(wire.call(5, gone).await.responses[0].error_code, 0);
    assert_eq!(shown(&node), 0, "series of a deleted topic end with it");
    wire.metadata("t").await;
    assert_eq!(committed(&mut wire, "g").await, -1);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_is_answered_when_all_of_it_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start_with(dir.path(), Limits::default(), PROPERTIES).await;
    let mut wire = Wire::connect(address).await;
    wire.metadata("t").await;
    find(&mut wire, "g").await;
    // Two tasks bring the logs in line with the metadata; whichever comes second must wait for the other.
    for round in 0..30 {
        wire.metadata("t").await;
        let topic = OffsetCommitRequestTopic {
            name: "t".into(),
            partitions: vec![OffsetCommitRequestPartition {
                committed_offset: i64::from(round),
                ..Default::default()
            }],
        };
        let commit = OffsetCommitRequest {
            group_id: "g".into(),
            generation_id_or_member_epoch: -1,
            topics: vec![topic],
            ..Default::default()
        };
        assert_eq!(wire.call(8, commit).await.topics[0].partitions[0].error_code, 0);
        assert_eq!(
            committed(&mut wire, "g").await,
            i64::from(round),
            "what the topic before had committed is forgotten, and nothing of this one"
        );
        let gone = DeleteTopicsRequest {
            topic_names: vec!["t".into()],
            ..Default::default()
        };
        assert_eq!(wire.call(5, gone).await.responses[0].error_code, 0);
        assert_eq!(committed(&mut wire, "g").await, -1, "round {round}");
    }
    node.shutdown().await.unwrap();
}
