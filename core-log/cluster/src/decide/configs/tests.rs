//! Requests as structs, outcomes as text.

use highwater_types::Uuid;

use super::*;
use crate::record::{BrokerRecord, ConfigResourceName, TopicRecord};

const BOUNDS: GroupBounds = GroupBounds {
    heartbeat_interval_ms: 5_000,
    min_heartbeat_interval_ms: 1_000,
    max_heartbeat_interval_ms: 50_000,
    session_timeout_ms: 45_000,
    min_session_timeout_ms: 10_000,
    max_session_timeout_ms: 60_000,
};

fn image() -> MetadataImage {
    let broker = BrokerRecord {
        broker_id: 1,
        incarnation_id: Uuid::from_u128(1),
        broker_epoch: 1,
        endpoints: vec![],
        rack: None,
    };
    let config = |key: &str, value: &str| {
        let resource = ConfigResourceName::Topic("prices".into());
        MetadataRecord::Config(ConfigRecord {
            resource,
            key: key.into(),
            value: Some(value.into()),
        })
    };
    let records = [
        MetadataRecord::Broker(broker),
        MetadataRecord::Topic(TopicRecord {
            topic_id: Uuid::from_u128(7),
            name: "prices".into(),
        }),
        config("retention.ms", "1000"),
        config("segment.ms", "500"),
    ];
    MetadataImage::default().apply(&records).unwrap()
}

fn topic() -> RequestedResource {
    RequestedResource::Topic("prices".into())
}

fn value(text: &str) -> Option<String> {
    Some(text.to_owned())
}

/// The resource's configs after the change, or the refusal.
fn after(outcomes: Vec<Outcome<RequestedResource, Vec<MetadataRecord>, AlterError>>) -> String {
    assert_eq!(outcomes.len(), 1);
    let outcome = &outcomes[0];
    match &outcome.result {
        Err(error) => error.to_string(),
        Ok(records) => {
            let changed = image().apply(records).unwrap();
            let resource = outcome.subject.find(&changed).unwrap();
            let configs = changed
                .configs(&resource)
                .iter()
                .map(|(key, value)| format!("{key}={value}"));
            format!(
                "{} record(s): {}",
                records.len(),
                configs.collect::<Vec<_>>().join(" ")
            )
        }
    }
}

fn change(resource: RequestedResource, operations: &[(&str, ConfigOperation)]) -> String {
    let operations = operations
        .iter()
        .map(|(key, operation)| (key.to_string(), operation.clone()))
        .collect();
    after(incremental_alter_configs(
        &image(),
        &[ConfigChange { resource, operations }],
        &BOUNDS,
    ))
}

#[test]
fn operations_touch_only_the_keys_they_name() {
    use ConfigOperation::{Append, Delete, Set, Subtract};
    let lines = [
        change(
            topic(),
            &[("retention.ms", Set(value(" 5 "))), ("segment.ms", Delete)],
        ),
        change(topic(), &[("retention.ms", Set(value("1000")))]),
        change(topic(), &[("cleanup.policy", Append(value("compact,delete")))]),
        change(topic(), &[("cleanup.policy", Subtract(value("delete")))]),
        change(topic(), &[("retention.ms", Append(value("5")))]),
        change(topic(), &[("retention.ms", Set(None))]),
        change(topic(), &[("retention.ms", Delete), ("retention.ms", Delete)]),
        change(
            topic(),
            &[("retention.ms", Delete), ("segment.bytes", Set(value("12")))],
        ),
        change(
            topic(),
            &[
                ("max.compaction.lag.ms", Set(value("4"))),
                ("min.compaction.lag.ms", Set(value("5"))),
            ],
        ),
        change(
            topic(),
            &[("cleanup.policy", Set(value("delete , compact,delete")))],
        ),
        change(topic(), &[("of.another.version", Delete), ("segment.ms", Delete)]),
        change(topic(), &[("of.another.version", Set(value("5")))]),
        change(RequestedResource::Topic("nobody".into()), &[]),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r#"
        2 record(s): retention.ms=5
        0 record(s): retention.ms=1000 segment.ms=500
        1 record(s): cleanup.policy=delete,compact retention.ms=1000 segment.ms=500
        1 record(s): cleanup.policy= retention.ms=1000 segment.ms=500
        config 'retention.ms' is no list, so append and subtract do not apply; set it instead
        config 'retention.ms' needs a value; delete the key to return to its default
        config 'retention.ms' occurs more than once for the same resource
        config 'segment.bytes' cannot be '12': expected a whole number of 32 bits, at least 1048576
        config 'min.compaction.lag.ms' (5) must not exceed 'max.compaction.lag.ms' (4)
        1 record(s): cleanup.policy=delete,compact retention.ms=1000 segment.ms=500
        1 record(s): retention.ms=1000
        unknown topic config 'of.another.version'
        no topic is named 'nobody'
    "#);
}

#[test]
fn brokers_change_one_by_one_or_all_at_once() {
    let set = |name: &str, key: &str| {
        change(
            RequestedResource::Broker(name.into()),
            &[(key, ConfigOperation::Set(value("60000")))],
        )
    };
    let lines = [
        set("1", "log.retention.ms"),
        set("", "log.retention.ms"),
        set("2", "log.retention.ms"),
        set("one", "log.retention.ms"),
        set("1", "num.partitions"),
        set("", "retention.ms"),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r#"
        1 record(s): log.retention.ms=60000
        1 record(s): log.retention.ms=60000
        '2' is no registered broker; use a broker's number, or nothing for all brokers
        'one' is no registered broker; use a broker's number, or nothing for all brokers
        config 'num.partitions' cannot change while the broker runs; set it in the node's properties and restart
        unknown broker config 'retention.ms'; did you mean 'log.retention.ms'?
    "#);
}

#[test]
fn a_replacement_drops_what_it_does_not_mention() {
    let replace = |configs: &[(&str, Option<&str>)]| {
        let configs = configs
            .iter()
            .map(|(key, value)| (key.to_string(), value.map(str::to_owned)))
            .collect();
        after(alter_configs(
            &image(),
            &[ConfigReplacement {
                resource: topic(),
                configs,
            }],
            &BOUNDS,
        ))
    };
    let lines = [
        replace(&[("segment.ms", Some("500")), ("preallocate", Some("true"))]),
        replace(&[]),
        replace(&[("segment.ms", None)]),
        replace(&[("segment.m", Some("1"))]),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r#"
        2 record(s): preallocate=true segment.ms=500
        2 record(s): 
        config 'segment.ms' needs a value; delete the key to return to its default
        unknown topic config 'segment.m'; did you mean 'segment.ms'?
    "#);
}

#[test]
fn a_resource_named_twice_does_not_change() {
    let change = ConfigChange {
        resource: topic(),
        operations: vec![],
    };
    assert_eq!(
        after(incremental_alter_configs(
            &image(),
            &[change.clone(), change],
            &BOUNDS
        )),
        "the request names this resource more than once"
    );
}

#[test]
fn groups_choose_within_the_brokers_bounds_and_need_not_exist() {
    use ConfigOperation::Set;
    const SESSION: &str = "consumer.session.timeout.ms";
    const HEARTBEAT: &str = "consumer.heartbeat.interval.ms";
    let on = |group: &str, operations: &[(&str, &str)]| {
        let operations: Vec<_> = operations
            .iter()
            .map(|(key, text)| (*key, Set(value(text))))
            .collect();
        change(RequestedResource::Group(group.into()), &operations)
    };
    let lines = [
        on("g", &[(SESSION, "30000"), (HEARTBEAT, "29999")]),
        on("g", &[(SESSION, "9999")]),
        on("g", &[(SESSION, "60001")]),
        on("g", &[(HEARTBEAT, "999")]),
        on("g", &[(HEARTBEAT, "50001")]),
        on("g", &[(HEARTBEAT, "45000")]),
        on("g", &[(SESSION, "0")]),
        on("g", &[("group.consumer.session.timeout.ms", "45000")]),
        on("", &[(SESSION, "30000")]),
        on(&"g".repeat(2_000), &[]),
    ];
    insta::assert_snapshot!(lines.join("\n"), @r#"
        2 record(s): consumer.heartbeat.interval.ms=29999 consumer.session.timeout.ms=30000
        config 'group.consumer.min.session.timeout.ms' (10000) must not exceed 'consumer.session.timeout.ms' (9999)
        config 'consumer.session.timeout.ms' (60001) must not exceed 'group.consumer.max.session.timeout.ms' (60000)
        config 'group.consumer.min.heartbeat.interval.ms' (1000) must not exceed 'consumer.heartbeat.interval.ms' (999)
        config 'consumer.heartbeat.interval.ms' (50001) must not exceed 'group.consumer.max.heartbeat.interval.ms' (50000)
        config 'consumer.heartbeat.interval.ms' (45000) must be below 'consumer.session.timeout.ms' (45000)
        config 'consumer.session.timeout.ms' cannot be '0': expected a whole number of 32 bits, at least 1
        unknown group config 'group.consumer.session.timeout.ms'; did you mean 'consumer.session.timeout.ms'?
        configs belong to a group of 1 to 1024 bytes; groups have no default of their own
        configs belong to a group of 1 to 1024 bytes; groups have no default of their own
    "#);
}

#[test]
fn subscriptions_to_client_metrics_have_names_keys_and_a_limit() {
    let on = |name: String| ConfigChange {
        resource: RequestedResource::ClientMetrics(name),
        operations: vec![("interval.ms".to_owned(), ConfigOperation::Set(value("60000")))],
    };
    for name in ["", "line\nbreak", &"n".repeat(1_025)] {
        let outcomes = incremental_alter_configs(&image(), &[on(name.to_owned())], &BOUNDS);
        assert_eq!(
            outcomes[0].result,
            Err(AlterError::InvalidSubscription),
            "{name:.10}"
        );
    }
    let many: Vec<_> = (0..MAX_SUBSCRIPTIONS + 1)
        .map(|at| on(format!("s{at}")))
        .collect();
    let mut outcomes = incremental_alter_configs(&image(), &many, &BOUNDS);
    let last = outcomes.pop().unwrap();
    assert_eq!(last.result, Err(AlterError::TooManySubscriptions));
    let records = outcomes.into_iter().flat_map(|outcome| outcome.result.unwrap());
    let full = image().apply(&records.collect::<Vec<_>>()).unwrap();
    assert_eq!(full.client_metrics_subscriptions().count(), MAX_SUBSCRIPTIONS);
    let outcomes = incremental_alter_configs(&full, &[on("another".into()), on("s7".into())], &BOUNDS);
    assert_eq!(outcomes[0].result, Err(AlterError::TooManySubscriptions));
    assert_eq!(outcomes[1].result, Ok(vec![]));
}

#[test]
fn not_everybody_can_be_given_configs() {
    let on = |group: String| ConfigChange {
        resource: RequestedResource::Group(group),
        operations: vec![(
            "consumer.session.timeout.ms".to_owned(),
            ConfigOperation::Set(value("30000")),
        )],
    };
    let many: Vec<_> = (0..MAX_CONFIGURED_GROUPS + 1)
        .map(|at| on(format!("g{at}")))
        .collect();
    let mut outcomes = incremental_alter_configs(&image(), &many, &BOUNDS);
    let last = outcomes.pop().unwrap();
    assert_eq!(last.result, Err(AlterError::TooManyGroups));
    let records = outcomes.into_iter().flat_map(|outcome| outcome.result.unwrap());
    let full = image().apply(&records.collect::<Vec<_>>()).unwrap();
    let outcomes = incremental_alter_configs(&full, &[on("another".into()), on("g7".into())], &BOUNDS);
    assert_eq!(outcomes[0].result, Err(AlterError::TooManyGroups));
    assert_eq!(outcomes[1].result, Ok(vec![]));
}
