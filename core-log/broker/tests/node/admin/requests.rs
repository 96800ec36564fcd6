//! Requests of administrators beyond topics and configs: pages of topics, elections, log directories, reassignments, the
//! quorum, features, producers, config resources.

use super::*;

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
                let is_told = topic.topic_authorized_operations != i32::MIN;
                // A request that is refused as a whole tells nothing of its topics.
                let is_refused = code(topic.error_code) == ErrorCode::InvalidRequest;
                assert_ne!(is_told, is_refused, "what may be done with {:?}", topic.name);
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
    // A cursor belongs to the list that it came with.
    assert_eq!(
        page(&["c", "a"], 9, Some(("b", 0))).await,
        ("a 42 [], c 42 []".into(), None)
    );
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
        ("metadata.version", 1, 9, ErrorCode::InvalidUpdateVersion),
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
    let topics = ["t", "nobody", "no/name"].map(|name| describe_producers_request::TopicRequest {
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
    let illegal = &described.topics[2].partitions[0];
    assert_eq!(code(illegal.error_code), ErrorCode::InvalidTopicException);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoints_of_controllers_are_not_told_here_and_other_kinds_do_not_exist() {
    let admin = Admin::start(&[]).await;
    for (endpoint_type, expected, brokers) in [
        (1, ErrorCode::None, 1),
        (2, ErrorCode::MismatchedEndpointType, 0),
        (3, ErrorCode::UnsupportedEndpointType, 0),
    ] {
        let request = DescribeClusterRequest {
            endpoint_type,
            ..Default::default()
        };
        let response = admin.call(1, request).await;
        assert_eq!(code(response.error_code), expected);
        assert_eq!(response.brokers.len(), brokers);
        assert_eq!(response.controller_id == -1, brokers == 0);
    }
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
