//! Consumer groups of the newer protocol (KIP-848) and groups of a thousand members, on a whole node.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use highwater_broker::{Limits, Session, SessionInfo};
use highwater_wire::messages::create_partitions_request::CreatePartitionsTopic;
use highwater_wire::messages::join_group_request::JoinGroupRequestProtocol;
use highwater_wire::messages::leave_group_request::MemberIdentity;
use highwater_wire::messages::metadata_request::MetadataRequestTopic;
use highwater_wire::messages::sync_group_request::SyncGroupRequestAssignment;
use highwater_wire::messages::{
    ApiVersionsRequest, ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest,
    ConsumerGroupHeartbeatResponse, CreatePartitionsRequest, HeartbeatRequest, JoinGroupRequest,
    JoinGroupResponse, LeaveGroupRequest, MetadataRequest, SyncGroupRequest,
};
use highwater_wire::{ErrorCode, Request};

use crate::groups::{PROPERTIES, find};
use crate::support::{Wire, start_with};

fn joining(group: &str, member: &str, topic: &str) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: group.into(),
        member_id: member.into(),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec![topic.into()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    }
}

fn staying(group: &str, member: &str, member_epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: group.into(),
        member_id: member.into(),
        member_epoch,
        ..Default::default()
    }
}

fn owned(response: &ConsumerGroupHeartbeatResponse) -> Vec<i32> {
    let assignment = response.assignment.as_ref().expect("an assignment is told");
    let topics = assignment.topic_partitions.iter();
    topics
        .flat_map(|topic| topic.partitions.iter().copied())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_67_a_consumer_group_forms_follows_the_topic_and_its_members_go_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start_with(dir.path(), Limits::default(), PROPERTIES).await;
    let mut wire = Wire::connect(address).await;
    let versions = ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1".into(),
    };
    let versions = wire.call(4, versions).await;
    let feature = versions
        .finalized_features
        .iter()
        .find(|row| row.name == "group.version");
    assert_eq!(feature.map(|row| row.max_version_level), Some(1));

    wire.metadata("t").await;
    find(&mut wire, "g").await;
    let joined = wire.call(1, joining("g", "a", "t")).await;
    assert_eq!((joined.error_code, joined.member_epoch), (0, 1), "{joined:?}");
    assert_eq!(owned(&joined), [0]);
    // The member knows an id and asks for the name; Java sends an empty name beside the id.
    let asked = MetadataRequestTopic {
        topic_id: joined.assignment.as_ref().unwrap().topic_partitions[0].topic_id,
        name: Some("".into()),
    };
    let request = MetadataRequest {
        topics: Some(vec![asked]),
        ..Default::default()
    };
    let named = wire.call(12, request).await;
    assert_eq!(named.topics[0].name.as_deref(), Some("t"), "{named:?}");

    let grown = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: "t".into(),
            count: 3,
            assignments: None,
        }],
        timeout_ms: 5_000,
        ..Default::default()
    };
    assert_eq!(wire.call(2, grown).await.results[0].error_code, 0);
    let told = wire.call(1, staying("g", "a", 1)).await;
    assert_eq!((told.member_epoch, owned(&told)), (2, vec![0, 1, 2]));
    node.shutdown().await.unwrap();

    let (node, address) = start_with(dir.path(), Limits::default(), PROPERTIES).await;
    let mut wire = Wire::connect(address).await;
    find(&mut wire, "g").await;
    let still = wire.call(1, staying("g", "a", 2)).await;
    assert_eq!(
        (still.error_code, still.member_epoch),
        (0, 2),
        "members outlive the restart"
    );
    let described = wire
        .call(
            1,
            ConsumerGroupDescribeRequest {
                group_ids: vec!["g".into(), "nobody".into()],
                ..Default::default()
            },
        )
        .await;
    let known = described
        .groups
        .iter()
        .find(|group| group.group_id == "g")
        .unwrap();
    assert_eq!(
        (known.group_state.as_ref() as &str, known.group_epoch),
        ("Stable", 2)
    );
    assert_eq!(known.members[0].assignment.topic_partitions[0].topic_name, "t");
    let unknown = described
        .groups
        .iter()
        .find(|group| group.group_id == "nobody")
        .unwrap();
    assert_eq!(unknown.error_code, ErrorCode::GroupIdNotFound.code());
    let left = wire.call(1, staying("g", "a", -1)).await;
    assert_eq!(left.error_code, 0);
    node.write_metrics(&mut highwater_broker::Exposition::default());
    node.shutdown().await.unwrap();
}

async fn call<R: Request>(session: &Session, version: i16, request: R) -> R::Response {
    let body = session.call(version, request.into()).await.unwrap().unwrap();
    match R::Response::try_from(body) {
        Ok(response) => response,
        Err(error) => panic!("{error}"),
    }
}

const MEMBERS: usize = 1_000;

fn classic_join(member_id: &str) -> JoinGroupRequest {
    let protocol = JoinGroupRequestProtocol {
        name: "range".into(),
        metadata: Bytes::from_static(b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff"),
    };
    JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 60_000,
        rebalance_timeout_ms: 60_000,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![protocol],
        ..Default::default()
    }
}

/// All join, the leader shares out, all fetch their share.
async fn rebalance(session: &Session, member_ids: &[String]) -> Vec<JoinGroupResponse> {
    let joins = member_ids
        .iter()
        .map(|member_id| call(session, 9, classic_join(member_id)));
    let joined = join_all(joins).await;
    assert!(joined.iter().all(|join| join.error_code == 0));
    let lists: Vec<_> = joined.iter().filter(|join| !join.members.is_empty()).collect();
    assert_eq!(
        (lists.len(), lists[0].members.len()),
        (1, member_ids.len()),
        "one leader knows all"
    );
    let syncs = joined.iter().map(|join| {
        let assignments = join.members.iter().map(|member| SyncGroupRequestAssignment {
            member_id: member.member_id.clone(),
            assignment: Bytes::copy_from_slice(member.member_id.as_bytes()),
        });
        let request = SyncGroupRequest {
            group_id: "g".into(),
            generation_id: join.generation_id,
            member_id: join.member_id.clone(),
            protocol_type: join.protocol_type.clone(),
            protocol_name: join.protocol_name.clone(),
            assignments: assignments.collect(),
            ..Default::default()
        };
        call(session, 5, request)
    });
    for (sync, join) in join_all(syncs).await.into_iter().zip(&joined) {
        assert_eq!(
            (sync.error_code, &sync.assignment),
            (0, join.member_id.as_bytes())
        );
    }
    joined
}

#[tokio::test(flavor = "multi_thread")]
async fn a_classic_group_of_a_thousand_members_rebalances_in_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let properties = [
        ("group.initial.rebalance.delay.ms", "1000"),
        ("offsets.topic.num.partitions", "1"),
    ];
    let (node, address) = start_with(dir.path(), Limits::default(), &properties).await;
    let mut wire = Wire::connect(address).await;
    find(&mut wire, "g").await;
    let session = node.session(SessionInfo::default());
    let started = Instant::now();
    let pending = join_all((0..MEMBERS).map(|_| call(&session, 9, classic_join("")))).await;
    let mut ids: Vec<String> = pending.iter().map(|join| join.member_id.to_string()).collect();
    rebalance(&session, &ids).await;

    let gone = ids.pop().unwrap();
    let leave = LeaveGroupRequest {
        group_id: "g".into(),
        members: vec![MemberIdentity {
            member_id: gone.into(),
            ..Default::default()
        }],
        ..Default::default()
    };
    assert_eq!(call(&session, 5, leave).await.members[0].error_code, 0);
    let told = HeartbeatRequest {
        group_id: "g".into(),
        generation_id: 1,
        member_id: ids[0].as_str().into(),
        ..Default::default()
    };
    let told = call(&session, 4, told).await;
    assert_eq!(told.error_code, ErrorCode::RebalanceInProgress.code());
    let joined = rebalance(&session, &ids).await;
    assert!(joined.iter().all(|join| join.generation_id == 2));
    let took = started.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_group_of_a_thousand_members_assigns_every_partition_once() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start_with(dir.path(), Limits::default(), PROPERTIES).await;
    let mut wire = Wire::connect(address).await;
    wire.metadata("t").await;
    find(&mut wire, "g").await;
    let session = node.session(SessionInfo::default());
    let started = Instant::now();
    let names: Vec<String> = (0..MEMBERS).map(|number| format!("member-{number}")).collect();
    let joins = names
        .iter()
        .map(|name| call(&session, 1, joining("g", name, "t")));
    let joined = join_all(joins).await;
    assert!(joined.iter().all(|join| join.error_code == 0));
    let owners: usize = joined.iter().map(|join| owned(join).len()).sum();
    assert_eq!(owners, 1, "one partition, one owner");
    let leaves = names.iter().map(|name| call(&session, 1, staying("g", name, -1)));
    assert!(join_all(leaves).await.iter().all(|left| left.error_code == 0));
    let took = started.elapsed();
    assert!(took < Duration::from_secs(60), "{took:?}");
    node.shutdown().await.unwrap();
}
