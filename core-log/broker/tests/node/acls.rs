//! Access rules: made, found, removed, kept, and what they let a client do and see.

use highwater_broker::{Limits, Session};
use highwater_types::Uuid;
use highwater_wire::ErrorCode;
use highwater_wire::messages::create_acls_request::AclCreation;
use highwater_wire::messages::create_topics_request::CreatableTopic;
use highwater_wire::messages::delete_acls_request::DeleteAclsFilter;
use highwater_wire::messages::delete_topics_request::DeleteTopicState;
use highwater_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use highwater_wire::messages::metadata_request::MetadataRequestTopic;
use highwater_wire::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use highwater_wire::messages::{
    ConsumerGroupHeartbeatRequest, CreateAclsRequest, CreateTopicsRequest, DeleteAclsRequest,
    DeleteTopicsRequest, DescribeAclsRequest, DescribeClusterRequest, DescribeGroupsRequest, FetchRequest,
    InitProducerIdRequest, MetadataRequest, OffsetFetchRequest,
};

use crate::authorization::{STANDARD_AUTHORIZER, guarded, make_group, make_topic, own};
use crate::support::{Wire, batch, edited, produce_request, start_with};

const TOPIC: i8 = 2;
const GROUP: i8 = 3;
const CLUSTER: i8 = 4;
const LITERAL: i8 = 3;
const PREFIXED: i8 = 4;
const ALL: i8 = 2;
const READ: i8 = 3;
const WRITE: i8 = 4;
const CREATE: i8 = 5;
const DELETE: i8 = 6;
const DESCRIBE: i8 = 8;
const DENY: i8 = 2;
const ALLOW: i8 = 3;

const ME: &str = "User:ANONYMOUS";
const DENIED: i16 = ErrorCode::TopicAuthorizationFailed.code();

/// A rule that allows one operation with the resource of one name.
pub(crate) fn creation(principal: &str, resource_type: i8, name: &str, operation: i8) -> AclCreation {
    AclCreation {
        resource_type,
        resource_name: name.into(),
        resource_pattern_type: LITERAL,
        principal: principal.into(),
        host: "*".into(),
        operation,
        permission_type: ALLOW,
    }
}

/// Makes rules as the node's owner.
pub(crate) async fn allow(owner: &Session, creations: Vec<AclCreation>) {
    let answer = own(owner, 3, CreateAclsRequest { creations }).await;
    for result in answer.results {
        assert_eq!(result.error_code, 0, "{:?}", result.error_message);
    }
}

fn all() -> DescribeAclsRequest {
    DescribeAclsRequest {
        resource_type_filter: 1,
        pattern_type_filter: 1,
        operation: 1,
        permission_type: 1,
        resource_name_filter: None,
        principal_filter: None,
        host_filter: None,
    }
}

fn forget(name: &str) -> DeleteAclsRequest {
    let filter = DeleteAclsFilter {
        resource_type_filter: 1,
        resource_name_filter: Some(name.into()),
        pattern_type_filter: 1,
        operation: 1,
        permission_type: 1,
        principal_filter: None,
        host_filter: None,
    };
    DeleteAclsRequest {
        filters: vec![filter],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_authorizer_everything_is_allowed_and_rules_are_answered_with_security_disabled() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address) = start_with(dir.path(), Limits::default(), &[]).await;
    let mut wire = Wire::connect(address).await;
    let disabled = ErrorCode::SecurityDisabled.code();
    assert_eq!(wire.call(3, all()).await.error_code, disabled);
    let creations = vec![creation(ME, TOPIC, "t", READ)];
    assert_eq!(
        wire.call(3, CreateAclsRequest { creations }).await.results[0].error_code,
        disabled
    );
    assert_eq!(
        wire.call(3, forget("t")).await.filter_results[0].error_code,
        disabled
    );
    let request = DescribeClusterRequest {
        include_cluster_authorized_operations: true,
        ..Default::default()
    };
    let cluster = wire.call(0, request).await;
    assert_eq!(cluster.cluster_authorized_operations, 0b1_1111_1010_0000);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_made_once_found_removed_and_kept_over_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let (node, _, owner) = guarded(dir.path(), &[]).await;
    let prefixed = AclCreation {
        resource_pattern_type: PREFIXED,
        ..creation("User:bob", TOPIC, "pri", ALL)
    };
    let creations = vec![
        creation("User:ann", TOPIC, "prices", READ),
        creation("User:ann", TOPIC, "prices", READ),
        AclCreation {
            host: "10.0.0.1".into(),
            permission_type: DENY,
            ..creation("User:*", TOPIC, "prices", WRITE)
        },
        prefixed,
        creation("User:ann", CLUSTER, "kafka-cluster", CREATE),
    ];
    allow(&owner, creations).await;
    node.shutdown().await.unwrap();

    let (node, _, owner) = guarded(dir.path(), &[]).await;
    let found = own(&owner, 3, all()).await;
    let shown: Vec<_> = found
        .resources
        .iter()
        .map(|resource| {
            let acls = resource.acls.iter();
            let acls = acls.map(|acl| (&*acl.principal, &*acl.host, acl.operation, acl.permission_type));
            (
                &*resource.resource_name,
                resource.pattern_type,
                acls.collect::<Vec<_>>(),
            )
        })
        .collect();
    let prices = vec![
        ("User:*", "10.0.0.1", WRITE, DENY),
        ("User:ann", "*", READ, ALLOW),
    ];
    let expected = [
        ("pri", PREFIXED, vec![("User:bob", "*", ALL, ALLOW)]),
        ("prices", LITERAL, prices),
        ("kafka-cluster", LITERAL, vec![("User:ann", "*", CREATE, ALLOW)]),
    ];
    assert_eq!(shown, expected);

    let removed = own(&owner, 3, forget("prices")).await;
    assert_eq!(removed.filter_results[0].matching_acls.len(), 2);
    assert_eq!(
        own(&owner, 3, forget("prices")).await.filter_results[0]
            .matching_acls
            .len(),
        0
    );
    assert_eq!(own(&owner, 3, all()).await.resources.len(), 2);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_84_rules_that_are_none_are_refused_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address, _) = guarded(dir.path(), &[("super.users", ME)]).await;
    let mut wire = Wire::connect(address).await;
    let good = || creation("User:*", TOPIC, "*", READ);
    let creations = vec![
        good(),
        AclCreation {
            operation: 1,
            ..good()
        },
        AclCreation {
            operation: 99,
            ..good()
        },
        AclCreation {
            resource_pattern_type: 2,
            ..good()
        },
        AclCreation {
            resource_type: 1,
            ..good()
        },
        AclCreation {
            permission_type: 0,
            ..good()
        },
        AclCreation {
            principal: "*".into(),
            ..good()
        },
        AclCreation {
            resource_name: "".into(),
            ..good()
        },
        AclCreation {
            host: "a\nb".into(),
            ..good()
        },
        creation("User:ann", CLUSTER, "*", ALL),
    ];
    let answer = wire.call(3, CreateAclsRequest { creations }).await;
    let codes: Vec<_> = answer
        .results
        .iter()
        .map(|result| ErrorCode::from_code(result.error_code))
        .collect();
    assert_eq!(codes[0], ErrorCode::None);
    assert!(
        codes[1..].iter().all(|code| *code == ErrorCode::InvalidRequest),
        "{codes:?}"
    );

    let unknown = DescribeAclsRequest {
        operation: 0,
        ..all()
    };
    assert_eq!(
        wire.call(3, unknown).await.error_code,
        ErrorCode::InvalidRequest.code()
    );
    assert_eq!(wire.call(3, all()).await.resources.len(), 1);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_described_is_as_if_it_were_not_there() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address, owner) = guarded(dir.path(), &[]).await;
    let hidden = make_topic(&owner, "hidden").await;
    make_topic(&owner, "seen").await;
    make_group(&owner, "mine", "seen").await;
    make_group(&owner, "mine", "hidden").await;
    allow(
        &owner,
        vec![
            creation(ME, TOPIC, "seen", READ),
            creation(ME, GROUP, "mine", DESCRIBE),
        ],
    )
    .await;
    let mut wire = Wire::connect(address).await;

    let everything = MetadataRequest {
        topics: None,
        include_topic_authorized_operations: true,
        ..Default::default()
    };
    let answer = wire.call(12, everything).await;
    let topics: Vec<_> = answer
        .topics
        .iter()
        .map(|topic| topic.name.as_deref().unwrap())
        .collect();
    assert_eq!(topics, ["seen"]);
    assert_eq!(
        answer.topics[0].topic_authorized_operations,
        (1 << READ) | (1 << DESCRIBE)
    );

    // A topic that exists and one that does not give the same answer, but for the name.
    let named = |name: &str| MetadataRequestTopic {
        name: Some(name.into()),
        ..Default::default()
    };
    let request = MetadataRequest {
        topics: Some(vec![named("hidden"), named("absent")]),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    for topic in wire.call(12, request).await.topics {
        assert_eq!(
            (topic.error_code, topic.topic_id, topic.partitions.len()),
            (DENIED, Uuid::nil(), 0)
        );
    }
    let by_id = MetadataRequestTopic {
        name: None,
        topic_id: hidden,
    };
    let request = MetadataRequest {
        topics: Some(vec![by_id]),
        ..Default::default()
    };
    let topic = wire.call(12, request).await.topics.remove(0);
    assert_eq!((topic.error_code, topic.name), (DENIED, None));

    let deletion = DeleteTopicState {
        name: None,
        topic_id: hidden,
    };
    let request = DeleteTopicsRequest {
        topics: vec![deletion],
        ..Default::default()
    };
    let refused = wire.call(6, request).await.responses.remove(0);
    assert_eq!((refused.error_code, refused.name), (DENIED, None));

    // All that a group has committed is what the client may see of it; what it names is refused.
    let group = |topics| OffsetFetchRequestGroup {
        group_id: "mine".into(),
        topics,
        ..Default::default()
    };
    let request = OffsetFetchRequest {
        groups: vec![group(None)],
        ..Default::default()
    };
    let mut answer = wire.call(8, request).await;
    let topics: Vec<_> = answer.groups[0].topics.iter().map(|topic| &*topic.name).collect();
    assert_eq!(topics, ["seen"]);
    let of_hidden = OffsetFetchRequestTopics {
        name: "hidden".into(),
        partition_indexes: vec![0],
    };
    let request = OffsetFetchRequest {
        groups: vec![group(Some(vec![of_hidden]))],
        ..Default::default()
    };
    answer = wire.call(8, request).await;
    let partition = &answer.groups[0].topics[0].partitions[0];
    assert_eq!((partition.error_code, partition.committed_offset), (DENIED, -1));

    let request = DescribeGroupsRequest {
        groups: vec!["mine".into()],
        include_authorized_operations: true,
    };
    let described = wire.call(5, request).await.groups.remove(0);
    assert_eq!(
        (described.error_code, described.authorized_operations),
        (0, 1 << DESCRIBE)
    );
    assert!(node.image().topic("absent").is_none() && node.image().topic("hidden").is_some());
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn prefixes_allow_denials_win_and_both_hold_from_the_next_request_on() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address, owner) = guarded(dir.path(), &[]).await;
    for topic in ["app-one", "app-two", "other"] {
        make_topic(&owner, topic).await;
    }
    let prefixed = AclCreation {
        resource_pattern_type: PREFIXED,
        ..creation("User:*", TOPIC, "app-", ALL)
    };
    allow(&owner, vec![prefixed]).await;
    let mut wire = Wire::connect(address).await;
    assert_eq!(wire.produce("app-one", &["v"]).await.error_code, 0);
    assert_eq!(wire.produce("other", &["v"]).await.error_code, DENIED);

    // A fetch session goes on, with the refusal in the place of the partition.
    let fetched = |topic: &str| FetchTopic {
        topic: topic.into(),
        partitions: vec![FetchPartition {
            partition_max_bytes: 1_000,
            ..Default::default()
        }],
        ..Default::default()
    };
    let first = FetchRequest {
        max_bytes: 1_000_000,
        session_epoch: 0,
        topics: vec![fetched("app-one"), fetched("other")],
        ..Default::default()
    };
    let answer = wire.call(12, first).await;
    let code = |at: usize| answer.responses[at].partitions[0].error_code;
    assert_eq!((code(0), code(1)), (0, DENIED));
    let denial = AclCreation {
        permission_type: DENY,
        ..creation(ME, TOPIC, "app-one", READ)
    };
    allow(&owner, vec![denial]).await;
    let next = FetchRequest {
        max_bytes: 1_000_000,
        session_id: answer.session_id,
        session_epoch: 1,
        ..Default::default()
    };
    let answer = wire.call(12, next).await;
    let told: Vec<_> = answer
        .responses
        .iter()
        .map(|topic| (&*topic.topic, topic.partitions[0].error_code))
        .collect();
    assert!(told.contains(&("app-one", DENIED)), "{told:?}");
    assert_eq!(
        wire.produce("app-one", &["v"]).await.error_code,
        0,
        "only reading is denied"
    );

    // Removed, the denial is gone as if it had never been (CVE-2024-27309).
    own(&owner, 3, forget("app-one")).await;
    assert_eq!(wire.fetch("app-one", 0).await.error_code, 0);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_are_judged_by_their_batches_and_told_by_closing_where_there_is_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address, owner) = guarded(dir.path(), &[]).await;
    make_topic(&owner, "mine").await;
    make_topic(&owner, "theirs").await;
    let mut wire = Wire::connect(address).await;
    let init = || InitProducerIdRequest {
        transactional_id: None,
        ..Default::default()
    };
    let refused = wire.call(4, init()).await;
    assert_eq!(refused.error_code, ErrorCode::ClusterAuthorizationFailed.code());
    allow(&owner, vec![creation(ME, TOPIC, "mine", WRITE)]).await;
    assert_eq!(
        wire.call(4, init()).await.error_code,
        0,
        "whoever writes somewhere may count (KIP-679)"
    );
    let transactional = InitProducerIdRequest {
        transactional_id: Some("t".into()),
        ..Default::default()
    };
    let refused = wire.call(4, transactional).await;
    assert_eq!(
        refused.error_code,
        ErrorCode::TransactionalIdAuthorizationFailed.code()
    );

    // The request says nothing of a transaction, its batch does (CVE-2018-17196).
    const ATTRIBUTES_LOW: usize = 22;
    let smuggled = edited(&batch(&["v"]), |bytes| bytes[ATTRIBUTES_LOW] |= 0x10);
    let answer = wire.produce_batch("mine", smuggled).await;
    assert_eq!(
        answer.error_code,
        ErrorCode::TransactionalIdAuthorizationFailed.code()
    );

    wire.send_without_answer(9, produce_request("theirs", batch(&["v"]), 0))
        .await;
    assert!(wire.is_closed_by_node().await);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_by_who_may_and_their_configs_shown_to_who_may_see_them() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address, owner) = guarded(dir.path(), &[]).await;
    allow(
        &owner,
        vec![
            creation(ME, TOPIC, "mine", CREATE),
            creation(ME, TOPIC, "asked-for", DESCRIBE),
        ],
    )
    .await;
    let mut wire = Wire::connect(address).await;
    let topic = |name: &str| CreatableTopic {
        name: name.into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![topic("mine"), topic("theirs")],
        ..Default::default()
    };
    let answer = wire.call(7, request).await;
    let mine = &answer.topics[0];
    assert_eq!(
        (mine.error_code, mine.topic_config_error_code, mine.num_partitions),
        (0, DENIED, -1)
    );
    assert_eq!(answer.topics[1].error_code, DENIED);

    // Describing does not make a topic by asking for it.
    let asked = wire.metadata("asked-for").await.topics.remove(0);
    assert_eq!(asked.error_code, DENIED);
    assert!(node.image().topic("asked-for").is_none());
    allow(&owner, vec![creation(ME, CLUSTER, "kafka-cluster", CREATE)]).await;
    assert_eq!(wire.metadata("asked-for").await.topics[0].error_code, 0);
    let request = DeleteTopicsRequest {
        topic_names: vec!["mine".into()],
        ..Default::default()
    };
    assert_eq!(
        wire.call(5, request.clone()).await.responses[0].error_code,
        DENIED
    );
    allow(&owner, vec![creation(ME, TOPIC, "mine", DELETE)]).await;
    assert_eq!(wire.call(5, request).await.responses[0].error_code, 0);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_is_assigned_what_it_may_describe() {
    let dir = tempfile::tempdir().unwrap();
    let (node, address, owner) = guarded(dir.path(), &[]).await;
    let seen = make_topic(&owner, "app-seen").await;
    make_topic(&owner, "app-hidden").await;
    make_group(&owner, "other", "app-seen").await;
    allow(
        &owner,
        vec![
            creation(ME, GROUP, "g", READ),
            creation(ME, TOPIC, "app-seen", READ),
        ],
    )
    .await;
    let mut wire = Wire::connect(address).await;
    let join = || ConsumerGroupHeartbeatRequest {
        group_id: "g".into(),
        member_id: "3fa85f64-5717-4562-b3fc-2c963f66afa6".into(),
        rebalance_timeout_ms: 10_000,
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    };
    let named = ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: Some(vec!["app-seen".into(), "app-hidden".into()]),
        ..join()
    };
    assert_eq!(wire.call(1, named).await.error_code, DENIED);
    let matched = ConsumerGroupHeartbeatRequest {
        subscribed_topic_regex: Some("app-.*".into()),
        ..join()
    };
    let joined = wire.call(1, matched).await;
    assert_eq!(joined.error_code, 0, "{:?}", joined.error_message);
    let assigned = joined.assignment.unwrap().topic_partitions;
    let ids: Vec<_> = assigned.iter().map(|topic| topic.topic_id).collect();
    assert_eq!(ids, [seen]);
    node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_super_user_that_is_no_principal_is_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let (name, value) = STANDARD_AUTHORIZER;
    let config = highwater_broker::NodeConfig::new(dir.path())
        .property(name, value)
        .property("super.users", "User:admin;bob");
    let refused = highwater_broker::Node::start(config)
        .await
        .unwrap_err()
        .to_string();
    assert!(
        refused.contains("super.users") && refused.contains("User:alice"),
        "{refused}"
    );
}
