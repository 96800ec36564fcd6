//! What hostile administrators send.

use highwater_broker::LogLevels;

use super::loggers::{LOGGER, start_with_levels};
use super::*;

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
    let admin = Admin::start(&[("log.segment.delete.delay.ms", "0")]).await;
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
        ("cleanup.policy", "delete,shred"),
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
async fn hostile_86_log_levels_where_the_node_has_none_and_line_breaks_change_nothing() {
    let admin = Admin::start(&[]).await;
    let forged = "INFO\n2026-01-01 ERROR forged line";
    assert_eq!(
        admin.alter(LOGGER, "1", &[("root", SET, Some("DEBUG"))]).await,
        ErrorCode::InvalidRequest
    );
    assert_eq!(
        admin.describe(LOGGER, "1").await.error_code,
        ErrorCode::InvalidRequest.code()
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
async fn hostile_86_loggers_and_levels_with_control_characters_are_refused_and_quoted() {
    let (admin, levels) = start_with_levels().await;
    let before = levels.loggers();
    for (logger, level) in [
        ("root", "INFO\n2026-01-01 ERROR forged line"),
        ("root", "INFO\u{1b}[2J"),
        ("root\n", "INFO"),
        ("net,root=off", "INFO"),
        ("net=trace,openraft", "INFO"),
        ("", "INFO"),
    ] {
        let resource = AlterConfigsResource {
            resource_type: LOGGER,
            resource_name: "1".into(),
            configs: vec![AlterableConfig {
                name: logger.into(),
                config_operation: SET,
                value: Some(level.into()),
            }],
        };
        let request = IncrementalAlterConfigsRequest {
            resources: vec![resource],
            ..Default::default()
        };
        let refused = admin.call(1, request).await.responses.remove(0);
        assert_eq!(refused.error_code, ErrorCode::InvalidConfig.code(), "{logger:?}");
        let message = refused.error_message.unwrap();
        assert!(!message.chars().any(char::is_control), "{message:?}");
    }
    assert_eq!(levels.loggers(), before);
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
