//! What administrators ask: topics, configs, elections, log directories, features, quorum, producers.

use std::time::{Duration, Instant};

use highwater_broker::{Limits, Node, Session, SessionInfo};
use highwater_wire::messages::alter_configs_request::{
    AlterConfigsResource as ReplacedResource, AlterableConfig as ReplacedConfig,
};
use highwater_wire::messages::create_partitions_request::CreatePartitionsTopic;
use highwater_wire::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use highwater_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use highwater_wire::messages::delete_topics_request::DeleteTopicState;
use highwater_wire::messages::describe_configs_request::DescribeConfigsResource;
use highwater_wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult,
};
use highwater_wire::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use highwater_wire::messages::metadata_request::MetadataRequestTopic;
use highwater_wire::messages::update_features_request::FeatureUpdateKey;
use highwater_wire::messages::{
    AlterConfigsRequest, AlterPartitionReassignmentsRequest, CreatePartitionsRequest, CreateTopicsRequest,
    CreateTopicsResponse, DeleteRecordsRequest, DeleteTopicsRequest, DescribeClusterRequest,
    DescribeConfigsRequest, DescribeLogDirsRequest, DescribeProducersRequest, DescribeQuorumRequest,
    DescribeTopicPartitionsRequest, ElectLeadersRequest, FetchRequest, IncrementalAlterConfigsRequest,
    ListConfigResourcesRequest, ListPartitionReassignmentsRequest, MetadataRequest, MetadataResponse,
    ProduceRequest, UpdateFeaturesRequest, alter_partition_reassignments_request, describe_log_dirs_request,
    describe_producers_request, describe_quorum_request, describe_topic_partitions_request,
    elect_leaders_request,
};
use highwater_wire::{ErrorCode, Request};
use uuid::Uuid;

use crate::support::{Wire, batch, fetch_request, produce_request, start, start_with};

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;
const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// A node spoken to in its own process, in the newest version of each request.
struct Admin {
    node: Node,
    session: Session,
    _dir: tempfile::TempDir,
}

impl Admin {
    async fn start(properties: &[(&str, &str)]) -> Admin {
        let dir = tempfile::tempdir().unwrap();
        let (node, _) = start_with(dir.path(), Limits::default(), properties).await;
        let session = node.session(SessionInfo::default());
        Admin {
            node,
            session,
            _dir: dir,
        }
    }

    async fn call<R: Request>(&self, version: i16, request: R) -> R::Response {
        let body = self.session.call(version, request.into()).await.unwrap().unwrap();
        match R::Response::try_from(body) {
            Ok(response) => response,
            Err(error) => panic!("{error}"),
        }
    }

    async fn create(&self, topics: Vec<CreatableTopic>, validate_only: bool) -> CreateTopicsResponse {
        let request = CreateTopicsRequest {
            topics,
            validate_only,
            ..Default::default()
        };
        self.call(7, request).await
    }

    /// Creates a topic and answers the code.
    async fn try_create(&self, topic: CreatableTopic) -> ErrorCode {
        code(self.create(vec![topic], false).await.topics[0].error_code)
    }

    async fn metadata(&self, version: i16, names: &[&str]) -> MetadataResponse {
        let topics = names.iter().map(|name| MetadataRequestTopic {
            name: Some((*name).into()),
            ..Default::default()
        });
        let request = MetadataRequest {
            topics: Some(topics.collect()),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        self.call(version, request).await
    }

    async fn describe(&self, resource_type: i8, name: &str) -> DescribeConfigsResult {
        let resource = DescribeConfigsResource {
            resource_type,
            resource_name: name.into(),
            configuration_keys: None,
        };
        let request = DescribeConfigsRequest {
            resources: vec![resource],
            include_synonyms: true,
            include_documentation: true,
        };
        self.call(4, request).await.results.remove(0)
    }

    async fn config(&self, resource_type: i8, name: &str, key: &str) -> DescribeConfigsResourceResult {
        let described = self.describe(resource_type, name).await;
        let found = described.configs.into_iter().find(|config| config.name == key);
        found.unwrap_or_else(|| panic!("{key} is not described"))
    }

    /// One incremental operation; answers the code.
    async fn alter(
        &self,
        resource_type: i8,
        name: &str,
        operations: &[(&str, i8, Option<&str>)],
    ) -> ErrorCode {
        let configs = operations.iter().map(|(key, operation, value)| AlterableConfig {
            name: (*key).into(),
            config_operation: *operation,
            value: value.map(Into::into),
        });
        let resource = AlterConfigsResource {
            resource_type,
            resource_name: name.into(),
            configs: configs.collect(),
        };
        let request = IncrementalAlterConfigsRequest {
            resources: vec![resource],
            validate_only: false,
        };
        code(self.call(1, request).await.responses[0].error_code)
    }

    async fn produce(&self, topic: &str, acks: i16) -> ErrorCode {
        let request: ProduceRequest = produce_request(topic, batch(&["v"]), acks);
        let response = self.call(9, request).await;
        code(response.responses[0].partition_responses[0].error_code)
    }

    async fn delete_records(&self, topic: &str, offset: i64) -> (ErrorCode, i64) {
        let partition = DeleteRecordsPartition {
            partition_index: 0,
            offset,
        };
        let topic = DeleteRecordsTopic {
            name: topic.into(),
            partitions: vec![partition],
        };
        let request = DeleteRecordsRequest {
            topics: vec![topic],
            timeout_ms: 1_000,
        };
        let answer = self.call(2, request).await.topics.remove(0).partitions.remove(0);
        (code(answer.error_code), answer.low_watermark)
    }

    async fn delete_topic(&self, name: Option<&str>, topic_id: Uuid) -> ErrorCode {
        let state = DeleteTopicState {
            name: name.map(Into::into),
            topic_id,
        };
        let request = DeleteTopicsRequest {
            topics: vec![state],
            ..Default::default()
        };
        code(self.call(6, request).await.responses[0].error_code)
    }
}

fn code(raw: i16) -> ErrorCode {
    ErrorCode::from_code(raw)
}

fn topic(name: &str) -> CreatableTopic {
    CreatableTopic {
        name: name.into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    }
}

fn topic_with(name: &str, key: &str, value: &str) -> CreatableTopic {
    CreatableTopic {
        configs: vec![CreatableTopicConfig {
            name: key.into(),
            value: Some(value.into()),
        }],
        ..topic(name)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_12_null_means_every_topic_and_an_empty_list_none_but_in_version_0() {
    let admin = Admin::start(&[]).await;
    admin.create(vec![topic("a"), topic("b")], false).await;
    for (version, topics, expected) in [
        (12, None, 2),
        (1, None, 2),
        (12, Some(vec![]), 0),
        (1, Some(vec![]), 0),
        (0, Some(vec![]), 2),
    ] {
        let request = MetadataRequest {
            topics,
            ..Default::default()
        };
        assert_eq!(
            admin.call(version, request).await.topics.len(),
            expected,
            "version {version}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_13_metadata_creates_topics_only_where_client_and_broker_allow_it() {
    let admin = Admin::start(&[]).await;
    assert_eq!(
        admin.produce("by-produce", 1).await,
        ErrorCode::UnknownTopicOrPartition
    );
    let asked = admin.metadata(12, &["forbidden"]).await;
    assert_eq!(
        code(asked.topics[0].error_code),
        ErrorCode::UnknownTopicOrPartition
    );
    // Version 3 cannot say so, and always allows it.
    admin.metadata(3, &["allowed"]).await;
    let again = admin.metadata(12, &["allowed", "forbidden", "by-produce"]).await;
    let codes: Vec<_> = again.topics.iter().map(|topic| code(topic.error_code)).collect();
    assert_eq!(
        codes,
        [
            ErrorCode::None,
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::UnknownTopicOrPartition
        ]
    );

    let closed = Admin::start(&[("auto.create.topics.enable", "false")]).await;
    closed.metadata(3, &["allowed"]).await;
    let asked = closed.metadata(12, &["allowed"]).await;
    assert_eq!(
        code(asked.topics[0].error_code),
        ErrorCode::UnknownTopicOrPartition
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_14_illegal_names_are_refused_echoed_and_not_created() {
    let admin = Admin::start(&[]).await;
    let long = "x".repeat(250);
    for name in ["", ".", "..", "a/b", "a b", "ä", &long] {
        let asked = admin.metadata(3, &[name]).await;
        assert_eq!(
            code(asked.topics[0].error_code),
            ErrorCode::InvalidTopicException,
            "{name}"
        );
        assert_eq!(asked.topics[0].name.as_deref(), Some(name));
        assert_eq!(
            admin.try_create(topic(name)).await,
            ErrorCode::InvalidTopicException,
            "{name}"
        );
    }
    assert_eq!(admin.try_create(topic(&long[..249])).await, ErrorCode::None);
    assert_eq!(admin.try_create(topic("under_score")).await, ErrorCode::None);
    assert_eq!(
        admin.try_create(topic("under.score")).await,
        ErrorCode::InvalidTopicException
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_15_addresses_are_those_of_the_listener_and_the_cluster_id_is_stable() {
    let dir = tempfile::tempdir().unwrap();
    let mut ids = std::collections::BTreeSet::new();
    for _ in 0..2 {
        let config = highwater_broker::NodeConfig::new(dir.path())
            .listen("ONE", "127.0.0.1:0".parse().unwrap())
            .listen("TWO", "127.0.0.1:0".parse().unwrap());
        let node = Node::start(config).await.unwrap();
        for name in ["ONE", "TWO"] {
            let address = node.listener_addr(name).unwrap();
            let metadata = Wire::connect(address)
                .await
                .call(12, MetadataRequest::default())
                .await;
            assert_eq!(metadata.brokers.len(), 1);
            assert_eq!(metadata.brokers[0].port, i32::from(address.port()));
            assert_eq!(metadata.controller_id, metadata.brokers[0].node_id);
            ids.insert(metadata.cluster_id);
        }
        node.shutdown().await.unwrap();
    }
    assert_eq!(ids.len(), 1, "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_16_the_leader_epoch_never_goes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut last = 0;
    for _ in 0..3 {
        let (node, address) = start(dir.path()).await;
        let epoch = Wire::connect(address).await.metadata("t").await.topics[0].partitions[0].leader_epoch;
        assert!(epoch >= last, "{epoch} after {last}");
        last = epoch;
        node.shutdown().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_17_operations_are_told_only_to_those_who_ask() {
    let admin = Admin::start(&[]).await;
    admin.create(vec![topic("t")], false).await;
    for asked in [false, true] {
        let request = MetadataRequest {
            topics: None,
            include_topic_authorized_operations: asked,
            include_cluster_authorized_operations: asked,
            ..Default::default()
        };
        let metadata = admin.call(10, request).await;
        let told = [
            metadata.topics[0].topic_authorized_operations,
            metadata.cluster_authorized_operations,
        ];
        assert_eq!(told.map(|bits| bits != i32::MIN), [asked; 2]);
        let request = DescribeClusterRequest {
            include_cluster_authorized_operations: asked,
            ..Default::default()
        };
        let cluster = admin.call(2, request).await;
        assert_eq!(cluster.cluster_authorized_operations != i32::MIN, asked);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_18_create_topics_answers_each_topic_of_a_mixed_request() {
    let admin = Admin::start(&[("num.partitions", "3")]).await;
    admin.create(vec![topic("exists")], false).await;
    let by_hand = |name: &str, ids: &[i32]| CreatableTopic {
        num_partitions: -1,
        replication_factor: -1,
        assignments: vec![CreatableReplicaAssignment {
            partition_index: 0,
            broker_ids: ids.to_vec(),
        }],
        ..topic(name)
    };
    let with = |name: &str, num_partitions, replication_factor| CreatableTopic {
        num_partitions,
        replication_factor,
        ..topic(name)
    };
    let both = CreatableTopic {
        num_partitions: 1,
        ..by_hand("both", &[1])
    };
    let cases = [
        (with("defaults", -1, -1), ErrorCode::None),
        (topic("exists"), ErrorCode::TopicAlreadyExists),
        (with("none", 0, 1), ErrorCode::InvalidPartitions),
        (with("negative", -2, 1), ErrorCode::InvalidPartitions),
        (with("replicas", 1, 2), ErrorCode::InvalidReplicationFactor),
        (
            topic_with("config", "retention.ms", "soon"),
            ErrorCode::InvalidConfig,
        ),
        (both, ErrorCode::InvalidRequest),
        (by_hand("manual", &[1]), ErrorCode::None),
        (topic("twice"), ErrorCode::InvalidRequest),
    ];
    let mut topics: Vec<_> = cases.iter().map(|(topic, _)| topic.clone()).collect();
    topics.push(topic("twice"));

    for validate_only in [true, false] {
        let created = admin.create(topics.clone(), validate_only).await.topics;
        assert_eq!(created.len(), cases.len());
        for (created, (asked, expected)) in created.iter().zip(&cases) {
            assert_eq!(
                (&created.name, code(created.error_code)),
                (&asked.name, *expected)
            );
            assert_eq!(
                created.error_message.is_some(),
                *expected != ErrorCode::None,
                "{}",
                asked.name
            );
        }
        assert_eq!((created[0].num_partitions, created[0].replication_factor), (3, 1));
        assert!(
            created[0]
                .configs
                .as_ref()
                .is_some_and(|configs| configs.len() > 20)
        );
        assert_eq!(created[0].topic_id.is_nil(), validate_only);
        let exists = admin.metadata(12, &["defaults"]).await.topics[0].error_code == 0;
        assert_eq!(exists, !validate_only);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_19_new_partitions_show_at_once_and_topics_never_shrink() {
    let admin = Admin::start(&[]).await;
    admin.create(vec![topic("t")], false).await;
    let grow = async |count: i32, validate_only: bool| {
        let wanted = |name: &str| CreatePartitionsTopic {
            name: name.into(),
            count,
            assignments: None,
        };
        let request = CreatePartitionsRequest {
            topics: vec![wanted("t"), wanted("nobody")],
            validate_only,
            ..Default::default()
        };
        let results = admin.call(3, request).await.results;
        assert_eq!(code(results[1].error_code), ErrorCode::UnknownTopicOrPartition);
        let count = admin.metadata(12, &["t"]).await.topics[0].partitions.len();
        (code(results[0].error_code), count)
    };
    assert_eq!(grow(4, true).await, (ErrorCode::None, 1));
    assert_eq!(grow(4, false).await, (ErrorCode::None, 4));
    assert_eq!(grow(4, false).await, (ErrorCode::InvalidPartitions, 4));
    assert_eq!(grow(2, false).await, (ErrorCode::InvalidPartitions, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_20_configs_are_described_with_source_and_synonyms_and_take_effect_at_once() {
    let admin = Admin::start(&[("log.retention.hours", "2")]).await;
    admin.create(vec![topic("t")], false).await;
    let key = "retention.ms";
    let source = async || {
        let config = admin.config(TOPIC, "t", key).await;
        assert!(config.documentation.is_some_and(|text| !text.is_empty()));
        assert_eq!(
            (config.config_type, config.read_only, config.is_sensitive),
            (5, false, false)
        );
        let value = config.value.unwrap().to_string();
        (value, config.config_source, config.synonyms.len())
    };
    // In hours among the node's properties; the registry's default is another synonym.
    assert_eq!(source().await, ("7200000".into(), 4, 2));
    assert_eq!(
        admin
            .alter(BROKER, "", &[("log.retention.ms", SET, Some("3000"))])
            .await,
        ErrorCode::None
    );
    assert_eq!(source().await, ("3000".into(), 3, 3));
    assert_eq!(
        admin
            .alter(BROKER, "1", &[("log.retention.ms", SET, Some("4000"))])
            .await,
        ErrorCode::None
    );
    assert_eq!(source().await, ("4000".into(), 2, 4));
    assert_eq!(
        admin.alter(TOPIC, "t", &[(key, SET, Some("5000"))]).await,
        ErrorCode::None
    );
    assert_eq!(source().await, ("5000".into(), 1, 5));
    assert_eq!(
        admin.alter(TOPIC, "t", &[(key, DELETE, None)]).await,
        ErrorCode::None
    );
    assert_eq!(source().await, ("4000".into(), 2, 4));

    // Lists take and lose items; what is left empty is an empty list, not the default.
    let policy = async || {
        admin
            .config(TOPIC, "t", "cleanup.policy")
            .await
            .value
            .unwrap()
            .to_string()
    };
    admin
        .alter(TOPIC, "t", &[("cleanup.policy", APPEND, Some("compact"))])
        .await;
    assert_eq!(policy().await, "delete,compact");
    admin
        .alter(TOPIC, "t", &[("cleanup.policy", SUBTRACT, Some("delete"))])
        .await;
    assert_eq!(policy().await, "compact");
    assert_eq!(
        admin.alter(TOPIC, "t", &[(key, APPEND, Some("1"))]).await,
        ErrorCode::InvalidConfig
    );

    // The whole set is replaced: the policy returns to its default.
    let resource = ReplacedResource {
        resource_type: TOPIC,
        resource_name: "t".into(),
        configs: vec![ReplacedConfig {
            name: "min.insync.replicas".into(),
            value: Some("2".into()),
        }],
    };
    let mut request = AlterConfigsRequest {
        resources: vec![resource],
        validate_only: true,
    };
    assert_eq!(admin.call(2, request.clone()).await.responses[0].error_code, 0);
    assert_eq!(policy().await, "compact", "validated only");
    assert_eq!(admin.produce("t", -1).await, ErrorCode::None);
    request.validate_only = false;
    assert_eq!(admin.call(2, request).await.responses[0].error_code, 0);
    assert_eq!(policy().await, "delete");
    assert_eq!(
        admin.produce("t", -1).await,
        ErrorCode::NotEnoughReplicas,
        "in force at once"
    );
    assert_eq!(admin.produce("t", 1).await, ErrorCode::None);
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_20_each_resource_has_its_own_error() {
    let admin = Admin::start(&[]).await;
    for (resource_type, name, expected) in [
        (TOPIC, "nobody", ErrorCode::UnknownTopicOrPartition),
        (TOPIC, "no/name", ErrorCode::InvalidTopicException),
        (BROKER, "7", ErrorCode::InvalidRequest),
        (BROKER, "one", ErrorCode::InvalidRequest),
        (BROKER, "1", ErrorCode::None),
        (BROKER, "", ErrorCode::None),
        (8, "1", ErrorCode::InvalidRequest),
        (16, "sub", ErrorCode::InvalidRequest),
        (32, "group", ErrorCode::InvalidRequest),
        (99, "", ErrorCode::InvalidRequest),
    ] {
        let described = admin.describe(resource_type, name).await;
        assert_eq!(code(described.error_code), expected, "{resource_type} {name}");
        assert_eq!(described.error_message.is_some(), expected != ErrorCode::None);
    }
    let port = admin.config(BROKER, "1", "num.partitions").await;
    assert!(port.read_only);
    assert_eq!(
        admin
            .alter(BROKER, "1", &[("num.partitions", SET, Some("2"))])
            .await,
        ErrorCode::InvalidRequest
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_21_delete_records_moves_the_start_up_to_the_high_watermark() {
    let admin = Admin::start(&[]).await;
    let compacted = topic_with("compacted", "cleanup.policy", "compact");
    admin.create(vec![topic("t"), compacted], false).await;
    for _ in 0..3 {
        assert_eq!(admin.produce("t", 1).await, ErrorCode::None);
    }
    assert_eq!(admin.delete_records("t", 1).await, (ErrorCode::None, 1));
    assert_eq!(
        admin.delete_records("t", 0).await,
        (ErrorCode::None, 1),
        "never back"
    );
    assert_eq!(admin.delete_records("t", -1).await, (ErrorCode::None, 3));
    assert_eq!(
        admin.delete_records("compacted", -1).await.0,
        ErrorCode::PolicyViolation
    );
    assert_eq!(
        admin.delete_records("nobody", 0).await.0,
        ErrorCode::UnknownTopicOrPartition
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_83_records_beyond_the_high_watermark_cannot_be_deleted() {
    let admin = Admin::start(&[]).await;
    admin.create(vec![topic("t")], false).await;
    admin.produce("t", 1).await;
    for offset in [2, i64::MAX, -2, i64::MIN] {
        assert_eq!(
            admin.delete_records("t", offset).await.0,
            ErrorCode::OffsetOutOfRange,
            "{offset}"
        );
    }
    let request: FetchRequest = fetch_request("t", 0);
    let fetched = admin.call(12, request).await;
    assert_eq!(fetched.responses[0].partitions[0].log_start_offset, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_described_page_by_page() {
    let admin = Admin::start(&[]).await;
    let wide = |name: &str, num_partitions| CreatableTopic {
        num_partitions,
        ..topic(name)
    };
    admin
        .create(vec![wide("b", 5), wide("a", 3), wide("c", 1)], false)
        .await;
    let page = async |names: &[&str], limit: i32, cursor: Option<(&str, i32)>| {
        let named = names
            .iter()
            .map(|name| describe_topic_partitions_request::TopicRequest { name: (*name).into() });
        let request = DescribeTopicPartitionsRequest {
            topics: named.collect(),
            response_partition_limit: limit,
            cursor: cursor.map(
                |(topic, partition_index)| describe_topic_partitions_request::Cursor {
                    topic_name: topic.into(),
                    partition_index,
                },
            ),
        };
        let response = admin.call(0, request).await;
        let rows: Vec<String> = response
            .topics
            .iter()
            .map(|topic| {
                let indexes: Vec<_> = topic.partitions.iter().map(|row| row.partition_index).collect();
                format!(
                    "{} {} {indexes:?}",
                    topic.name.as_deref().unwrap(),
                    topic.error_code
                )
            })
            .collect();
        let next = response
            .next_cursor
            .map(|cursor| (cursor.topic_name.to_string(), cursor.partition_index));
        (rows.join(", "), next)
    };
    assert_eq!(
        page(&[], 4, None).await,
        ("a 0 [0, 1, 2], b 0 [0]".into(), Some(("b".into(), 1)))
    );
    assert_eq!(
        page(&[], 4, Some(("b", 1))).await,
        ("b 0 [1, 2, 3, 4]".into(), Some(("c".into(), 0)))
    );
    assert_eq!(page(&[], 4, Some(("c", 0))).await, ("c 0 [0]".into(), None));
    assert_eq!(
        page(&["c", "zz", "c", "a", "no/name"], 2_000, None).await,
        ("a 0 [0, 1, 2], c 0 [0], no/name 17 [], zz 3 []".into(), None)
    );
    // The topic of the cursor is gone: the page begins after it.
    assert_eq!(page(&[], 1, Some(("bb", 3))).await, ("c 0 [0]".into(), None));
    // A limit of nothing is one, a partition that is negative an error.
    assert_eq!(
        page(&["a"], 0, None).await,
        ("a 0 [0]".into(), Some(("a".into(), 1)))
    );
    assert_eq!(page(&["a"], 9, Some(("a", -1))).await, ("a 42 []".into(), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn no_partition_of_one_node_needs_an_election() {
    let admin = Admin::start(&[]).await;
    admin.create(vec![topic("t")], false).await;
    let elect = async |version, request| admin.call::<ElectLeadersRequest>(version, request).await;
    let named = |topic: &str, partitions: &[i32]| elect_leaders_request::TopicPartitions {
        topic: topic.into(),
        partitions: partitions.to_vec(),
    };
    for election_type in [0, 1] {
        let request = ElectLeadersRequest {
            election_type,
            topic_partitions: Some(vec![named("t", &[0, 9, 0]), named("nobody", &[0])]),
            ..Default::default()
        };
        let response = elect(2, request).await;
        let codes: Vec<_> = response
            .replica_election_results
            .iter()
            .flat_map(|topic| {
                topic
                    .partition_result
                    .iter()
                    .map(|row| (topic.topic.to_string(), code(row.error_code)))
            })
            .collect();
        assert_eq!(
            codes,
            [
                ("nobody".into(), ErrorCode::UnknownTopicOrPartition),
                ("t".into(), ErrorCode::ElectionNotNeeded),
                ("t".into(), ErrorCode::UnknownTopicOrPartition),
            ]
        );
    }
    let all = ElectLeadersRequest {
        topic_partitions: None,
        ..Default::default()
    };
    let response = elect(2, all).await;
    assert_eq!(
        (response.error_code, response.replica_election_results.len()),
        (0, 0)
    );
    let strange = ElectLeadersRequest {
        election_type: 7,
        ..Default::default()
    };
    assert_eq!(
        code(elect(1, strange).await.error_code),
        ErrorCode::InvalidRequest
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn log_dirs_tell_the_sizes_of_the_logs() {
    let admin = Admin::start(&[]).await;
    admin.create(vec![topic("t"), topic("u")], false).await;
    admin.produce("t", 1).await;
    let named = |topic: &str| describe_log_dirs_request::DescribableLogDirTopic {
        topic: topic.into(),
        partitions: vec![0, 0, 5],
    };
    let request = DescribeLogDirsRequest {
        topics: Some(vec![named("t"), named("t"), named("nobody")]),
    };
    let described = admin.call(4, request).await;
    assert_eq!(described.results.len(), 1);
    let result = &described.results[0];
    assert!(std::path::Path::new(result.log_dir.as_ref() as &str).is_absolute());
    assert!(0 < result.usable_bytes && result.usable_bytes <= result.total_bytes);
    assert_eq!(result.topics.len(), 1);
    assert_eq!(result.topics[0].partitions.len(), 1);
    assert!(result.topics[0].partitions[0].partition_size > 60);
    assert_eq!(result.topics[0].partitions[0].offset_lag, 0);
    let all = admin.call(4, DescribeLogDirsRequest { topics: None }).await;
    assert_eq!(all.results[0].topics.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_stay_where_they_are() {
    use alter_partition_reassignments_request::{ReassignablePartition, ReassignableTopic};
    let admin = Admin::start(&[]).await;
    admin.create(vec![topic("t")], false).await;
    for (name, replicas, expected) in [
        ("t", Some(vec![1]), ErrorCode::None),
        ("t", Some(vec![]), ErrorCode::InvalidReplicaAssignment),
        ("t", Some(vec![1, 1]), ErrorCode::InvalidReplicaAssignment),
        ("t", Some(vec![2]), ErrorCode::InvalidReplicaAssignment),
        ("t", None, ErrorCode::NoReassignmentInProgress),
        ("nobody", Some(vec![1]), ErrorCode::UnknownTopicOrPartition),
    ] {
        let partition = ReassignablePartition {
            partition_index: 0,
            replicas: replicas.clone(),
        };
        let topic = ReassignableTopic {
            name: name.into(),
            partitions: vec![partition],
        };
        let request = AlterPartitionReassignmentsRequest {
            topics: vec![topic],
            ..Default::default()
        };
        let answer = admin.call(1, request).await;
        let row = &answer.responses[0].partitions[0];
        assert_eq!(code(row.error_code), expected, "{name} {replicas:?}");
        assert_eq!(row.error_message.is_some(), expected != ErrorCode::None);
    }
    let listed = admin.call(0, ListPartitionReassignmentsRequest::default()).await;
    assert_eq!((listed.error_code, listed.topics.len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_quorum_is_this_node_and_moves_with_each_change() {
    let admin = Admin::start(&[]).await;
    let describe = async |name: &str| {
        let partition = describe_quorum_request::PartitionData { partition_index: 0 };
        let topic = describe_quorum_request::TopicData {
            topic_name: name.into(),
            partitions: vec![partition],
        };
        let request = DescribeQuorumRequest { topics: vec![topic] };
        let mut response = admin.call(2, request).await;
        assert_eq!(response.nodes.len(), 1);
        response.topics.remove(0).partitions.remove(0)
    };
    let before = describe("__cluster_metadata").await;
    assert_eq!(
        (before.error_code, before.leader_id, before.current_voters.len()),
        (0, 1, 1)
    );
    assert!(before.high_watermark > 0 && before.leader_epoch > 0);
    assert_eq!(before.current_voters[0].log_end_offset, before.high_watermark);
    admin.create(vec![topic("t")], false).await;
    assert!(describe("__cluster_metadata").await.high_watermark > before.high_watermark);
    assert_eq!(
        code(describe("t").await.error_code),
        ErrorCode::UnknownTopicOrPartition
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn features_move_only_within_what_is_supported() {
    let admin = Admin::start(&[]).await;
    let update = async |version: i16, feature: &str, max_version_level: i16, upgrade_type: i8| {
        let key = FeatureUpdateKey {
            feature: feature.into(),
            max_version_level,
            upgrade_type,
            ..Default::default()
        };
        let request = UpdateFeaturesRequest {
            feature_updates: vec![key],
            ..Default::default()
        };
        let response = admin.call(version, request).await;
        (code(response.error_code), response.results.len())
    };
    assert_eq!(update(1, "metadata.version", 1, 1).await, (ErrorCode::None, 1));
    for (feature, level, upgrade_type, expected) in [
        ("metadata.version", 99, 1, ErrorCode::InvalidUpdateVersion),
        ("metadata.version", 0, 3, ErrorCode::InvalidUpdateVersion),
        ("metadata.version", -1, 2, ErrorCode::InvalidUpdateVersion),
        ("no.such", 1, 1, ErrorCode::InvalidUpdateVersion),
        ("metadata.version", 1, 9, ErrorCode::InvalidRequest),
    ] {
        assert_eq!(
            update(2, feature, level, upgrade_type).await.0,
            expected,
            "{feature} {level}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn producers_of_a_partition_are_listed() {
    let admin = Admin::start(&[]).await;
    admin.create(vec![topic("t")], false).await;
    let stamped = crate::support::stamped_batch(&["a", "b"], 42, 3, 0);
    let produced = admin.call(9, produce_request("t", stamped, 1)).await;
    assert_eq!(produced.responses[0].partition_responses[0].error_code, 0);
    let topics = ["t", "nobody"].map(|name| describe_producers_request::TopicRequest {
        name: name.into(),
        partition_indexes: vec![0, 0],
    });
    let described = admin
        .call(
            0,
            DescribeProducersRequest {
                topics: topics.into(),
            },
        )
        .await;
    let known = &described.topics[0].partitions;
    assert_eq!(known.len(), 1, "a partition named twice is answered once");
    let producer = &known[0].active_producers[0];
    assert_eq!(
        (
            producer.producer_id,
            producer.producer_epoch,
            producer.last_sequence
        ),
        (42, 3, 1)
    );
    assert_eq!(
        (producer.coordinator_epoch, producer.current_txn_start_offset),
        (-1, -1)
    );
    assert!(producer.last_timestamp > 0);
    let unknown = &described.topics[1].partitions[0];
    assert_eq!(code(unknown.error_code), ErrorCode::UnknownTopicOrPartition);
}

#[tokio::test(flavor = "multi_thread")]
async fn config_resources_are_listed_by_kind() {
    let admin = Admin::start(&[]).await;
    admin.create(vec![topic("t")], false).await;
    let list = async |version: i16, resource_types: &[i8]| {
        let request = ListConfigResourcesRequest {
            resource_types: resource_types.to_vec(),
        };
        let response = admin.call(version, request).await;
        let rows: Vec<_> = response
            .config_resources
            .iter()
            .map(|row| (row.resource_name.to_string(), row.resource_type))
            .collect();
        (code(response.error_code), rows)
    };
    assert_eq!(list(0, &[]).await, (ErrorCode::None, vec![]));
    assert_eq!(
        list(1, &[TOPIC]).await,
        (ErrorCode::None, vec![("t".into(), TOPIC)])
    );
    assert_eq!(list(1, &[]).await.1.len(), 3);
    assert_eq!(list(1, &[77]).await.0, ErrorCode::UnsupportedVersion);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_36_topics_are_deleted_by_name_or_by_id_never_by_both_or_neither() {
    let admin = Admin::start(&[]).await;
    let created = admin.create(vec![topic("t"), topic("u")], false).await.topics;
    let id = created[0].topic_id;
    assert_eq!(admin.delete_topic(Some("u"), id).await, ErrorCode::InvalidRequest);
    assert_eq!(
        admin.delete_topic(None, Uuid::nil()).await,
        ErrorCode::InvalidRequest
    );
    assert_eq!(
        admin.delete_topic(None, Uuid::from_u128(7)).await,
        ErrorCode::UnknownTopicId
    );
    assert_eq!(admin.delete_topic(None, id).await, ErrorCode::None);
    assert_eq!(admin.delete_topic(None, id).await, ErrorCode::UnknownTopicId);
    let left = admin.metadata(12, &["t", "u"]).await;
    assert_eq!(
        left.topics
            .iter()
            .map(|topic| topic.error_code)
            .collect::<Vec<_>>(),
        [3, 0]
    );
    // Whoever deletes by name and by id at once names the topic twice, and deletes nothing.
    let states =
        [(Some("u"), Uuid::nil()), (None, created[1].topic_id)].map(|(name, topic_id)| DeleteTopicState {
            name: name.map(Into::into),
            topic_id,
        });
    let request = DeleteTopicsRequest {
        topics: states.into(),
        ..Default::default()
    };
    let answers = admin.call(6, request).await.responses;
    assert!(
        answers
            .iter()
            .all(|answer| code(answer.error_code) == ErrorCode::InvalidRequest)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_80_impossible_topics_are_refused() {
    let admin = Admin::start(&[("max.partitions.per.broker", "100")]).await;
    let with = |num_partitions, replication_factor| CreatableTopic {
        num_partitions,
        replication_factor,
        ..topic("t")
    };
    let by_hand = |rows: &[(i32, &[i32])]| CreatableTopic {
        num_partitions: -1,
        replication_factor: -1,
        assignments: rows
            .iter()
            .map(|(partition_index, ids)| CreatableReplicaAssignment {
                partition_index: *partition_index,
                broker_ids: ids.to_vec(),
            })
            .collect(),
        ..topic("t")
    };
    for (wanted, expected) in [
        (with(1_000_000, 1), ErrorCode::PolicyViolation),
        (with(i32::MAX, 1), ErrorCode::PolicyViolation),
        (with(101, 1), ErrorCode::PolicyViolation),
        (with(i32::MIN, 1), ErrorCode::InvalidPartitions),
        (with(1, i16::MAX), ErrorCode::InvalidReplicationFactor),
        (with(1, 0), ErrorCode::InvalidReplicationFactor),
        (with(1, i16::MIN), ErrorCode::InvalidReplicationFactor),
        (by_hand(&[(0, &[1, 1])]), ErrorCode::InvalidReplicaAssignment),
        (by_hand(&[(0, &[2])]), ErrorCode::InvalidReplicaAssignment),
        (by_hand(&[(0, &[-1])]), ErrorCode::InvalidReplicaAssignment),
        (by_hand(&[(0, &[])]), ErrorCode::InvalidReplicaAssignment),
        (by_hand(&[(1, &[1])]), ErrorCode::InvalidReplicaAssignment),
        (
            by_hand(&[(0, &[1]), (0, &[1])]),
            ErrorCode::InvalidReplicaAssignment,
        ),
        (by_hand(&[(-1, &[1])]), ErrorCode::InvalidReplicaAssignment),
    ] {
        assert_eq!(admin.try_create(wanted.clone()).await, expected, "{wanted:?}");
    }
    assert_eq!(admin.try_create(with(100, 1)).await, ErrorCode::None);
    assert_eq!(
        admin.try_create(topic("one-more")).await,
        ErrorCode::PolicyViolation
    );
    assert_eq!(admin.delete_topic(Some("t"), Uuid::nil()).await, ErrorCode::None);
    assert_eq!(admin.try_create(topic("one-more")).await, ErrorCode::None);
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_81_a_storm_of_creations_and_deletions_leaves_nothing_behind() {
    let admin = Admin::start(&[]).await;
    let storm = (0..4).map(|worker| {
        let admin = &admin;
        async move {
            for round in 0..10 {
                // Two workers share a name, so that some of this fails; none of it may do harm.
                let name = format!("storm-{}-{}", worker / 2, round % 3);
                admin.try_create(topic(&name)).await;
                admin.produce(&name, 1).await;
                admin.delete_topic(Some(&name), Uuid::nil()).await;
            }
        }
    });
    futures::future::join_all(storm).await;
    let request = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    assert_eq!(admin.call(12, request).await.topics.len(), 0);
    let left: Vec<_> = std::fs::read_dir(admin._dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("storm"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    admin.node.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_82_senseless_configs_are_refused() {
    let admin = Admin::start(&[]).await;
    let huge = "9".repeat(40_000);
    for (key, value) in [
        ("no.such.config", "1"),
        ("(a+)+$", "x"),
        ("retention.ms", "-2"),
        ("retention.ms", "1e3"),
        ("retention.ms", &huge),
        ("segment.bytes", "0"),
        ("segment.bytes", "2147483648"),
        ("max.message.bytes", "-1"),
        ("min.cleanable.dirty.ratio", "NaN"),
        ("min.cleanable.dirty.ratio", "inf"),
        ("min.cleanable.dirty.ratio", "-0.1"),
        ("min.insync.replicas", "0"),
        ("preallocate", "yes"),
        ("cleanup.policy", "shred"),
        ("cleanup.policy", "delete,delete"),
        ("compression.type", "rar"),
    ] {
        let wanted = topic_with("t", key, value);
        assert_eq!(admin.try_create(wanted).await, ErrorCode::InvalidConfig, "{key}");
    }
    assert_eq!(admin.try_create(topic("t")).await, ErrorCode::None);
    for (operations, expected) in [
        (vec![("retention.ms", SET, None)], ErrorCode::InvalidRequest),
        (vec![("retention.ms", 9, Some("1"))], ErrorCode::InvalidRequest),
        (
            vec![("retention.ms", SET, Some("1")), ("retention.ms", DELETE, None)],
            ErrorCode::InvalidRequest,
        ),
        (
            vec![("retention.ms", SET, Some("7")), ("segment.ms", SET, Some("0"))],
            ErrorCode::InvalidConfig,
        ),
    ] {
        assert_eq!(
            admin.alter(TOPIC, "t", &operations).await,
            expected,
            "{operations:?}"
        );
    }
    let retention = admin.config(TOPIC, "t", "retention.ms").await;
    assert_eq!(
        retention.config_source, 5,
        "a resource changes as a whole or not at all"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_86_log_levels_cannot_be_changed_and_line_breaks_change_nothing() {
    let admin = Admin::start(&[]).await;
    let forged = "INFO\n2026-01-01 ERROR forged line";
    assert_eq!(
        admin.alter(8, "1", &[("root", SET, Some(forged))]).await,
        ErrorCode::InvalidRequest
    );
    assert_eq!(
        admin
            .alter(TOPIC, "t\nforged", &[("retention.ms", SET, Some("1"))])
            .await,
        ErrorCode::UnknownTopicOrPartition
    );
    assert_eq!(
        admin
            .alter(BROKER, "1", &[("log.retention.ms\r\n", SET, Some(forged))])
            .await,
        ErrorCode::InvalidConfig
    );
    assert_eq!(
        admin.try_create(topic("line\nbreak")).await,
        ErrorCode::InvalidTopicException
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_88_a_short_question_gets_no_endless_answer() {
    const TIMES: usize = 50_000;
    let admin = Admin::start(&[]).await;
    let wide = CreatableTopic {
        num_partitions: 100,
        ..topic("t")
    };
    admin.create(vec![wide], false).await;
    let began = Instant::now();

    let resource = DescribeConfigsResource {
        resource_type: BROKER,
        resource_name: "1".into(),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource; TIMES],
        include_documentation: true,
        ..Default::default()
    };
    assert_eq!(admin.call(4, request).await.results.len(), 1);

    let named = MetadataRequestTopic {
        name: Some("t".into()),
        ..Default::default()
    };
    let request = MetadataRequest {
        topics: Some(vec![named; TIMES]),
        ..Default::default()
    };
    assert_eq!(admin.call(12, request).await.topics.len(), 1);

    let named = describe_log_dirs_request::DescribableLogDirTopic {
        topic: "t".into(),
        partitions: vec![0; 10],
    };
    let request = DescribeLogDirsRequest {
        topics: Some(vec![named; TIMES / 10]),
    };
    let described = admin.call(4, request).await;
    assert_eq!(described.results[0].topics[0].partitions.len(), 1);

    let named = describe_topic_partitions_request::TopicRequest { name: "t".into() };
    let request = DescribeTopicPartitionsRequest {
        topics: vec![named; TIMES],
        response_partition_limit: i32::MAX,
        ..Default::default()
    };
    assert_eq!(admin.call(0, request).await.topics.len(), 1);
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_34_a_hundred_thousand_topics_in_one_metadata_request() {
    const TOPICS: usize = 100_000;
    let admin = Admin::start(&[]).await;
    let named = (0..TOPICS).map(|number| MetadataRequestTopic {
        name: Some(format!("t{number}").into()),
        ..Default::default()
    });
    let mut request = MetadataRequest {
        topics: Some(named.collect()),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    let asked = admin.call(12, request.clone()).await;
    assert_eq!(asked.topics.len(), TOPICS);
    assert!(asked.topics.iter().all(|topic| topic.error_code == 3));
    // Those who may create topics create a few at a time.
    request.allow_auto_topic_creation = true;
    let asked = admin.call(12, request).await;
    let created = asked.topics.iter().filter(|topic| topic.error_code == 0).count();
    assert!((1..=1_000).contains(&created), "{created}");
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_35_topic_names_that_are_paths_or_look_alike_are_no_topics() {
    let admin = Admin::start(&[]).await;
    let long = "l".repeat(32_000);
    for name in [
        "",
        ".",
        "..",
        "../up",
        "/etc",
        "a\\b",
        "a\0b",
        "a%2fb",
        "топик",
        "a\u{200b}b",
        &long,
    ] {
        assert_eq!(
            admin.try_create(topic(name)).await,
            ErrorCode::InvalidTopicException,
            "{name:?}"
        );
    }
    assert_eq!(admin.try_create(topic("metric.name")).await, ErrorCode::None);
    assert_eq!(
        admin.try_create(topic("metric_name")).await,
        ErrorCode::InvalidTopicException,
        "names of metrics collide"
    );
    assert_eq!(
        admin.try_create(topic("Metric.name")).await,
        ErrorCode::None,
        "case matters"
    );
}
