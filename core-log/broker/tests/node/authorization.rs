//! Every API against a client that may do nothing: what it is told, and what it is not.

use std::net::SocketAddr;

use bytes::Bytes;
use highwater_broker::{Limits, Node, SecurityProtocol, Session, SessionInfo};
use highwater_types::Uuid;
use highwater_wire::messages::create_topics_request::CreatableTopic;
use highwater_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use highwater_wire::messages::*;
use highwater_wire::{ApiKey, ErrorCode, Request, RequestBody, ResponseBody};

use crate::auth::client as auth;
use crate::support::{Wire, batch, fetch_request, produce_request, start_with};

pub(crate) const STANDARD_AUTHORIZER: (&str, &str) = (
    "authorizer.class.name",
    "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
);

/// A node that allows nobody anything, its address and its owner's door.
pub(crate) async fn guarded(dir: &std::path::Path, more: &[(&str, &str)]) -> (Node, SocketAddr, Session) {
    let mut properties = vec![STANDARD_AUTHORIZER];
    properties.extend(more);
    let (node, address) = start_with(dir, Limits::default(), &properties).await;
    let owner = node.session(SessionInfo::default());
    (node, address, owner)
}

pub(crate) async fn own<R: Request>(owner: &Session, version: i16, request: R) -> R::Response {
    let answer = owner.call(version, request.into()).await.unwrap().unwrap();
    match R::Response::try_from(answer) {
        Ok(response) => response,
        Err(error) => panic!("{error}"),
    }
}

/// A topic with one partition, made by the node's owner.
pub(crate) async fn make_topic(owner: &Session, name: &str) -> Uuid {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![topic],
        ..Default::default()
    };
    let created = own(owner, 7, request).await.topics.remove(0);
    assert_eq!(created.error_code, 0, "{:?}", created.error_message);
    created.topic_id
}

/// A group that has committed an offset of a topic.
pub(crate) async fn make_group(owner: &Session, group: &str, topic: &str) {
    let find = FindCoordinatorRequest {
        coordinator_keys: vec![group.into()],
        ..Default::default()
    };
    assert_eq!(own(owner, 4, find).await.coordinators[0].error_code, 0);
    let topic = OffsetCommitRequestTopic {
        name: topic.into(),
        partitions: vec![OffsetCommitRequestPartition {
            committed_offset: 0,
            committed_metadata: None,
            ..Default::default()
        }],
    };
    let commit = OffsetCommitRequest {
        group_id: group.into(),
        topics: vec![topic],
        ..Default::default()
    };
    let committed = own(owner, 8, commit).await;
    assert_eq!(committed.topics[0].partitions[0].error_code, 0);
}

/// What a client without any rights gets.
enum Expected {
    /// This error, and nothing else.
    Error(ErrorCode),
    /// An answer without what it may not see.
    Nothing,
    /// An answer as everybody gets it.
    Open,
}

const TOPIC: Expected = Expected::Error(ErrorCode::TopicAuthorizationFailed);
const GROUP: Expected = Expected::Error(ErrorCode::GroupAuthorizationFailed);
const CLUSTER: Expected = Expected::Error(ErrorCode::ClusterAuthorizationFailed);

/// A request of each API that asks about `secret`, in a version, and what comes of it. A new API needs a row here.
fn row(key: ApiKey) -> (i16, RequestBody, Expected) {
    use highwater_wire::messages as m;
    const NAME: &str = "secret";
    let topic_partitions = || vec![0];
    match key {
        ApiKey::Produce => (9, produce_request(NAME, batch(&["v"]), -1).into(), TOPIC),
        ApiKey::Fetch => (12, fetch_request(NAME, 0).into(), TOPIC),
        ApiKey::ListOffsets => {
            let partition = m::list_offsets_request::ListOffsetsPartition::default();
            let topic = m::list_offsets_request::ListOffsetsTopic {
                name: NAME.into(),
                partitions: vec![partition],
            };
            let request = ListOffsetsRequest {
                topics: vec![topic],
                ..Default::default()
            };
            (7, request.into(), TOPIC)
        }
        ApiKey::Metadata => {
            let topic = m::metadata_request::MetadataRequestTopic {
                name: Some(NAME.into()),
                ..Default::default()
            };
            let request = MetadataRequest {
                topics: Some(vec![topic]),
                ..Default::default()
            };
            (12, request.into(), TOPIC)
        }
        ApiKey::OffsetCommit => {
            let topic = OffsetCommitRequestTopic {
                name: NAME.into(),
                partitions: vec![OffsetCommitRequestPartition::default()],
            };
            let request = OffsetCommitRequest {
                group_id: NAME.into(),
                topics: vec![topic],
                ..Default::default()
            };
            (8, request.into(), GROUP)
        }
        ApiKey::OffsetFetch => {
            let group = m::offset_fetch_request::OffsetFetchRequestGroup {
                group_id: NAME.into(),
                topics: None,
                ..Default::default()
            };
            let request = OffsetFetchRequest {
                groups: vec![group],
                ..Default::default()
            };
            (8, request.into(), GROUP)
        }
        ApiKey::FindCoordinator => {
            let request = FindCoordinatorRequest {
                coordinator_keys: vec![NAME.into()],
                ..Default::default()
            };
            (4, request.into(), GROUP)
        }
        ApiKey::JoinGroup => (
            5,
            JoinGroupRequest {
                group_id: NAME.into(),
                ..Default::default()
            }
            .into(),
            GROUP,
        ),
        ApiKey::Heartbeat => (
            4,
            HeartbeatRequest {
                group_id: NAME.into(),
                ..Default::default()
            }
            .into(),
            GROUP,
        ),
        ApiKey::LeaveGroup => (
            5,
            LeaveGroupRequest {
                group_id: NAME.into(),
                ..Default::default()
            }
            .into(),
            GROUP,
        ),
        ApiKey::SyncGroup => (
            5,
            SyncGroupRequest {
                group_id: NAME.into(),
                ..Default::default()
            }
            .into(),
            GROUP,
        ),
        ApiKey::DescribeGroups => (
            5,
            DescribeGroupsRequest {
                groups: vec![NAME.into()],
                ..Default::default()
            }
            .into(),
            GROUP,
        ),
        ApiKey::ListGroups => (5, ListGroupsRequest::default().into(), Expected::Nothing),
        ApiKey::SaslHandshake => (1, SaslHandshakeRequest::default().into(), Expected::Open),
        ApiKey::SaslAuthenticate => (2, SaslAuthenticateRequest::default().into(), Expected::Open),
        ApiKey::ApiVersions => (3, ApiVersionsRequest::default().into(), Expected::Open),
        ApiKey::CreateTopics => {
            let topic = CreatableTopic {
                name: "new".into(),
                num_partitions: 1,
                replication_factor: 1,
                ..Default::default()
            };
            (
                7,
                CreateTopicsRequest {
                    topics: vec![topic],
                    ..Default::default()
                }
                .into(),
                TOPIC,
            )
        }
        ApiKey::DeleteTopics => {
            let request = DeleteTopicsRequest {
                topic_names: vec![NAME.into()],
                ..Default::default()
            };
            (5, request.into(), TOPIC)
        }
        ApiKey::DeleteRecords => {
            let partition = m::delete_records_request::DeleteRecordsPartition::default();
            let topic = m::delete_records_request::DeleteRecordsTopic {
                name: NAME.into(),
                partitions: vec![partition],
            };
            (
                2,
                DeleteRecordsRequest {
                    topics: vec![topic],
                    ..Default::default()
                }
                .into(),
                TOPIC,
            )
        }
        ApiKey::InitProducerId => {
            let request = InitProducerIdRequest {
                transactional_id: None,
                ..Default::default()
            };
            (4, request.into(), CLUSTER)
        }
        ApiKey::OffsetForLeaderEpoch => {
            let partition = m::offset_for_leader_epoch_request::OffsetForLeaderPartition::default();
            let topic = m::offset_for_leader_epoch_request::OffsetForLeaderTopic {
                topic: NAME.into(),
                partitions: vec![partition],
            };
            let request = OffsetForLeaderEpochRequest {
                topics: vec![topic],
                ..Default::default()
            };
            (4, request.into(), TOPIC)
        }
        ApiKey::DescribeAcls => {
            let request = DescribeAclsRequest {
                resource_type_filter: 1,
                pattern_type_filter: 1,
                operation: 1,
                permission_type: 1,
                ..Default::default()
            };
            (3, request.into(), CLUSTER)
        }
        ApiKey::CreateAcls => {
            let everything = crate::acls::creation("User:ANONYMOUS", 4, "kafka-cluster", 2);
            (
                3,
                CreateAclsRequest {
                    creations: vec![everything],
                }
                .into(),
                CLUSTER,
            )
        }
        ApiKey::DeleteAcls => {
            let filter = m::delete_acls_request::DeleteAclsFilter {
                resource_type_filter: 1,
                pattern_type_filter: 1,
                operation: 1,
                permission_type: 1,
                ..Default::default()
            };
            (
                3,
                DeleteAclsRequest {
                    filters: vec![filter],
                }
                .into(),
                CLUSTER,
            )
        }
        ApiKey::DescribeConfigs => {
            let resource = |resource_type, name: &str| m::describe_configs_request::DescribeConfigsResource {
                resource_type,
                resource_name: name.into(),
                configuration_keys: None,
            };
            let request = DescribeConfigsRequest {
                resources: vec![resource(2, NAME)],
                ..Default::default()
            };
            (4, request.into(), TOPIC)
        }
        ApiKey::AlterConfigs => {
            let resource = m::alter_configs_request::AlterConfigsResource {
                resource_type: 4,
                resource_name: "1".into(),
                ..Default::default()
            };
            (
                2,
                AlterConfigsRequest {
                    resources: vec![resource],
                    ..Default::default()
                }
                .into(),
                CLUSTER,
            )
        }
        ApiKey::IncrementalAlterConfigs => {
            let resource = m::incremental_alter_configs_request::AlterConfigsResource {
                resource_type: 32,
                resource_name: NAME.into(),
                ..Default::default()
            };
            let request = IncrementalAlterConfigsRequest {
                resources: vec![resource],
                ..Default::default()
            };
            (1, request.into(), GROUP)
        }
        ApiKey::AlterReplicaLogDirs => {
            let topic = m::alter_replica_log_dirs_request::AlterReplicaLogDirTopic {
                name: NAME.into(),
                partitions: topic_partitions(),
            };
            let dir = m::alter_replica_log_dirs_request::AlterReplicaLogDir {
                path: "/elsewhere".into(),
                topics: vec![topic],
            };
            (2, AlterReplicaLogDirsRequest { dirs: vec![dir] }.into(), CLUSTER)
        }
        ApiKey::DescribeLogDirs => (4, DescribeLogDirsRequest { topics: None }.into(), CLUSTER),
        ApiKey::CreatePartitions => {
            let topic = m::create_partitions_request::CreatePartitionsTopic {
                name: NAME.into(),
                count: 9,
                assignments: None,
            };
            (
                3,
                CreatePartitionsRequest {
                    topics: vec![topic],
                    ..Default::default()
                }
                .into(),
                TOPIC,
            )
        }
        ApiKey::DeleteGroups => (
            2,
            DeleteGroupsRequest {
                groups_names: vec![NAME.into()],
            }
            .into(),
            GROUP,
        ),
        ApiKey::ElectLeaders => (
            2,
            ElectLeadersRequest {
                topic_partitions: None,
                ..Default::default()
            }
            .into(),
            CLUSTER,
        ),
        ApiKey::AlterPartitionReassignments => {
            (1, AlterPartitionReassignmentsRequest::default().into(), CLUSTER)
        }
        ApiKey::ListPartitionReassignments => {
            (0, ListPartitionReassignmentsRequest::default().into(), CLUSTER)
        }
        ApiKey::OffsetDelete => (
            0,
            OffsetDeleteRequest {
                group_id: NAME.into(),
                ..Default::default()
            }
            .into(),
            GROUP,
        ),
        ApiKey::DescribeClientQuotas => (1, DescribeClientQuotasRequest::default().into(), CLUSTER),
        ApiKey::AlterClientQuotas => {
            let entry = m::alter_client_quotas_request::EntryData::default();
            (
                1,
                AlterClientQuotasRequest {
                    entries: vec![entry],
                    validate_only: false,
                }
                .into(),
                CLUSTER,
            )
        }
        ApiKey::DescribeUserScramCredentials => {
            (0, DescribeUserScramCredentialsRequest::default().into(), CLUSTER)
        }
        ApiKey::AlterUserScramCredentials => {
            let upsertion = m::alter_user_scram_credentials_request::ScramCredentialUpsertion {
                name: "admin".into(),
                mechanism: 1,
                iterations: 4096,
                salt: Bytes::from_static(b"salt"),
                salted_password: vec![0; 32].into(),
            };
            let request = AlterUserScramCredentialsRequest {
                upsertions: vec![upsertion],
                ..Default::default()
            };
            (0, request.into(), CLUSTER)
        }
        ApiKey::DescribeQuorum => (2, DescribeQuorumRequest::default().into(), CLUSTER),
        ApiKey::UpdateFeatures => (1, UpdateFeaturesRequest::default().into(), CLUSTER),
        ApiKey::DescribeCluster => {
            let request = DescribeClusterRequest {
                include_cluster_authorized_operations: true,
                ..Default::default()
            };
            (1, request.into(), Expected::Open)
        }
        ApiKey::DescribeProducers => {
            let topic = m::describe_producers_request::TopicRequest {
                name: NAME.into(),
                partition_indexes: topic_partitions(),
            };
            (0, DescribeProducersRequest { topics: vec![topic] }.into(), TOPIC)
        }
        ApiKey::ConsumerGroupHeartbeat => {
            let request = ConsumerGroupHeartbeatRequest {
                group_id: NAME.into(),
                ..Default::default()
            };
            (0, request.into(), GROUP)
        }
        ApiKey::ConsumerGroupDescribe => {
            let request = ConsumerGroupDescribeRequest {
                group_ids: vec![NAME.into()],
                ..Default::default()
            };
            (0, request.into(), GROUP)
        }
        ApiKey::ListConfigResources => (1, ListConfigResourcesRequest::default().into(), CLUSTER),
        ApiKey::DescribeTopicPartitions => {
            let request = DescribeTopicPartitionsRequest {
                response_partition_limit: 10,
                ..Default::default()
            };
            (0, request.into(), Expected::Nothing)
        }
    }
}

fn errors_of(body: &ResponseBody) -> Vec<ErrorCode> {
    let mut codes = Vec::new();
    body.visit_error_codes(&mut |code| codes.push(ErrorCode::from_code(code)));
    codes.retain(|code| *code != ErrorCode::None);
    codes.dedup();
    codes
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_without_rights_is_refused_by_every_api_or_sees_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address, owner) = guarded(dir.path(), &[]).await;
    make_topic(&owner, "secret").await;
    make_group(&owner, "secret", "secret").await;
    let before = node.image();

    let mut wire = Wire::connect(address).await;
    let served = wire.call(2, ApiVersionsRequest::default()).await.api_keys;
    let served: Vec<ApiKey> = served
        .iter()
        .map(|api| ApiKey::from_i16(api.api_key).unwrap())
        .collect();
    assert!(served.len() >= 45, "{served:?}");
    for key in served {
        let (version, body, expected) = row(key);
        if matches!(key, ApiKey::SaslHandshake | ApiKey::SaslAuthenticate) {
            // Who logs in has no rights yet.
            continue;
        }
        wire.send(version, body).await;
        let answer = wire.receive().await;
        let errors = errors_of(&answer);
        match expected {
            Expected::Error(code) => assert_eq!(errors, [code], "{key:?}: {answer:?}"),
            Expected::Nothing => {
                assert!(errors.is_empty(), "{key:?}: {answer:?}");
                assert!(!format!("{answer:?}").contains("secret"), "{key:?}: {answer:?}");
            }
            Expected::Open => {}
        }
        if let ResponseBody::DescribeCluster(response) = answer {
            assert_eq!(response.cluster_authorized_operations, 0);
        }
    }
    assert_eq!(node.image().records(), before.records(), "nothing was changed");

    // The owner of the node may do all of it, and so may whoever is a super user.
    let described = own(&owner, 5, ListGroupsRequest::default()).await;
    assert_eq!(described.groups.len(), 1);
    node.shutdown().await.unwrap();
    let (node, address, _) = guarded(dir.path(), &[("super.users", "User:admin;User:ANONYMOUS")]).await;
    let mut wire = Wire::connect(address).await;
    let (version, body, _) = row(ApiKey::ListGroups);
    wire.send(version, body).await;
    assert!(format!("{:?}", wire.receive().await).contains("secret"));
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_rules_about_a_resource_everybody_may_where_the_cluster_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address, owner) = guarded(dir.path(), &[("allow.everyone.if.no.acl.found", "true")]).await;
    make_topic(&owner, "open").await;
    make_topic(&owner, "ruled").await;
    let rule = crate::acls::creation("User:ann", 2, "ruled", 3);
    crate::acls::allow(&owner, vec![rule]).await;
    let mut wire = Wire::connect(address).await;
    assert_eq!(wire.produce("open", &["v"]).await.error_code, 0);
    assert_eq!(
        wire.produce("ruled", &["v"]).await.error_code,
        ErrorCode::TopicAuthorizationFailed.code()
    );
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_logs_in_may_do_what_the_rules_allow_that_user() {
    let dir = tempfile::tempdir().unwrap();
    let properties = [STANDARD_AUTHORIZER, ("super.users", "User:tom")];
    let (node, address) = auth::start(dir.path(), SecurityProtocol::SaslPlaintext, &properties).await;
    let mut admin = Wire::connect(address).await;
    assert_eq!(admin.log_in("tom", "secret").await.error_code, 0);
    admin.create("prices", 1, &[]).await;
    admin.create("orders", 1, &[]).await;
    let creations = vec![crate::acls::creation("User:tim", 2, "prices", 4)];
    let made = admin.call(3, CreateAclsRequest { creations }).await;
    assert_eq!(made.results[0].error_code, 0);

    let mut user = Wire::connect(address).await;
    assert_eq!(user.log_in(auth::USER, auth::PASSWORD).await.error_code, 0);
    let denied = ErrorCode::TopicAuthorizationFailed.code();
    assert_eq!(user.produce("prices", &["v"]).await.error_code, 0);
    assert_eq!(user.fetch("prices", 0).await.error_code, denied);
    assert_eq!(user.produce("orders", &["v"]).await.error_code, denied);
    assert_eq!(admin.fetch("prices", 0).await.error_code, 0);
    node.shutdown().await.unwrap();
}
