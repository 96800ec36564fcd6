//! Semantics 12 to 21: metadata, topics, configs, deleted records.

use super::*;

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
    admin.create(vec![topic("t")], false).await;
    for (resource_type, name, expected) in [
        (TOPIC, "nobody", ErrorCode::UnknownTopicOrPartition),
        (TOPIC, "no/name", ErrorCode::InvalidTopicException),
        (BROKER, "7", ErrorCode::InvalidRequest),
        (BROKER, "one", ErrorCode::InvalidRequest),
        (BROKER, "1", ErrorCode::None),
        (BROKER, "", ErrorCode::None),
        (8, "1", ErrorCode::InvalidRequest),
        (16, "sub", ErrorCode::None),
        (16, "", ErrorCode::InvalidRequest),
        (32, "group", ErrorCode::None),
        (32, "", ErrorCode::InvalidRequest),
        (99, "", ErrorCode::InvalidRequest),
    ] {
        let described = admin.describe(resource_type, name).await;
        assert_eq!(code(described.error_code), expected, "{resource_type} {name}");
        assert_eq!(described.error_message.is_some(), expected != ErrorCode::None);
    }
    // A value that cannot be is the config's fault with a topic, the request's with a broker.
    for (resource_type, name, key, expected) in [
        (TOPIC, "t", "retention.ms", ErrorCode::InvalidConfig),
        (BROKER, "1", "log.retention.ms", ErrorCode::InvalidRequest),
        (BROKER, "", "log.retention.ms", ErrorCode::InvalidRequest),
        (16, "sub", "interval.ms", ErrorCode::InvalidRequest),
        (16, "sub", "interval", ErrorCode::InvalidRequest),
        (
            32,
            "group",
            "consumer.session.timeout.ms",
            ErrorCode::InvalidConfig,
        ),
    ] {
        let altered = admin
            .alter(resource_type, name, &[(key, SET, Some("1 day"))])
            .await;
        assert_eq!(altered, expected, "{resource_type} {name} {key}");
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
