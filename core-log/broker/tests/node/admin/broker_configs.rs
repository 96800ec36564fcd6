//! Configs of brokers (resource type 4) that change while the node runs: what may be set, where it is told to come from,
//! and that it counts at once.

use highwater_wire::messages::DescribeProducersRequest;
use highwater_wire::messages::describe_producers_request::TopicRequest;

use super::*;
use crate::support::{produce_request, stamped_batch};

#[tokio::test(flavor = "multi_thread")]
async fn a_brokers_own_value_counts_before_that_of_all_and_is_told_with_the_others() {
    let admin = Admin::start(&[("max.connections", "30")]).await;
    let shown = async || {
        let config = admin.config(BROKER, "1", "max.connections").await;
        let synonyms = config.synonyms.iter();
        let places: Vec<_> = synonyms
            .map(|place| format!("{}:{}", place.source, place.value.as_deref().unwrap_or_default()))
            .collect();
        (config.read_only, config.config_source, places.join(" "))
    };
    assert_eq!(shown().await, (false, 4, "4:30 5:10000".into()));
    for (name, value) in [("", "20"), ("1", "10")] {
        let set = [("max.connections", SET, Some(value))];
        assert_eq!(admin.alter(BROKER, name, &set).await, ErrorCode::None);
    }
    assert_eq!(shown().await, (false, 2, "2:10 3:20 4:30 5:10000".into()));
    let deleted = [("max.connections", DELETE, None)];
    assert_eq!(admin.alter(BROKER, "1", &deleted).await, ErrorCode::None);
    assert_eq!(shown().await, (false, 3, "3:20 4:30 5:10000".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn values_that_a_running_broker_cannot_have_are_refused() {
    let admin = Admin::start(&[]).await;
    let cases = [
        ("max.connections", "1000", "0"),
        ("max.connections.per.ip", "1000", "0"),
        ("producer.id.expiration.ms", "1", "0"),
        ("log.cleaner.threads", "2", "257"),
        ("num.recovery.threads.per.data.dir", "4", "2147483647"),
    ];
    for name in ["", "1"] {
        for (key, good, bad) in cases {
            let good = admin.alter(BROKER, name, &[(key, SET, Some(good))]).await;
            assert_eq!(good, ErrorCode::None, "{name:?} {key}");
            let bad = admin.alter(BROKER, name, &[(key, SET, Some(bad))]).await;
            assert_eq!(bad, ErrorCode::InvalidRequest, "{name:?} {key}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn semantic_36_a_shorter_memory_of_producers_counts_for_open_logs() {
    let admin = Admin::start(&[("log.retention.check.interval.ms", "100")]).await;
    admin.create(vec![topic("t")], false).await;
    let request = produce_request("t", stamped_batch(&["v"], 7, 0, 0), -1);
    let written = admin.call(9, request).await;
    assert_eq!(written.responses[0].partition_responses[0].error_code, 0);
    let known = async || {
        let request = DescribeProducersRequest {
            topics: vec![TopicRequest {
                name: "t".into(),
                partition_indexes: vec![0],
            }],
        };
        let described = admin.call(0, request).await;
        described.topics[0].partitions[0].active_producers.len()
    };
    assert_eq!(known().await, 1);
    let set = [("producer.id.expiration.ms", SET, Some("1"))];
    assert_eq!(admin.alter(BROKER, "", &set).await, ErrorCode::None);
    let deadline = Instant::now() + Duration::from_secs(20);
    while known().await > 0 {
        assert!(Instant::now() < deadline, "the producer is still known");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
