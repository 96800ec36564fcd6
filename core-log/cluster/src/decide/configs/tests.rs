//! Requests as structs, outcomes as text.

use highwater_types::Uuid;

use super::*;
use crate::record::{BrokerRecord, ConfigResourceName, TopicRecord};

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
        after(incremental_alter_configs(&image(), &[change.clone(), change])),
        "the request names this resource more than once"
    );
}
