//! Requests as structs, outcomes as text.

use std::fmt::Write;

use highwater_types::Uuid;

use super::*;
use crate::{
    config_view::{BrokerProperties, ConfigView},
    decide::{NewPartitions, create_partitions},
};

const BROKERS: [BrokerId; 3] = [BrokerId::new(1), BrokerId::new(2), BrokerId::new(3)];
const PLACEMENT: PlacementContext<'static> = PlacementContext {
    brokers: &BROKERS,
    seed: 0,
    max_partitions_per_broker: 100_000,
};

fn settings(properties: &[(&str, &str)]) -> BrokerSettings {
    let entries = properties
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()));
    let properties = BrokerProperties::new(entries.collect()).unwrap();
    let image = MetadataImage::default();
    let view = ConfigView {
        image: &image,
        broker_id: BrokerId::new(1),
        properties: &properties,
    };
    view.broker_settings().unwrap()
}

fn topic(name: &str) -> NewTopic {
    NewTopic {
        name: name.into(),
        topic_id: TopicId::new(Uuid::from_u128(
            name.bytes()
                .fold(1, |id: u128, byte| id.wrapping_mul(257) + u128::from(byte)),
        )),
        partitions: None,
        replication_factor: None,
        assignments: vec![],
        configs: vec![],
    }
}

fn assigned(name: &str, partitions: &[(i32, &[i32])]) -> NewTopic {
    let assignment = |&(partition, replicas): &(i32, &[i32])| {
        let replicas = replicas.iter().copied().map(BrokerId::new).collect();
        ManualAssignment { partition, replicas }
    };
    NewTopic {
        assignments: partitions.iter().map(assignment).collect(),
        ..topic(name)
    }
}

fn configured(name: &str, configs: &[(&str, Option<&str>)]) -> NewTopic {
    let configs = configs
        .iter()
        .map(|(key, value)| (key.to_string(), value.map(str::to_owned)));
    NewTopic {
        configs: configs.collect(),
        ..topic(name)
    }
}

/// Creates the topics that are accepted; every outcome becomes a line.
fn create(image: &mut MetadataImage, topics: &[NewTopic]) -> String {
    let mut lines = String::new();
    for outcome in create_topics(image, topics, PLACEMENT, &settings(&[("num.partitions", "2")])) {
        let line = match outcome.result {
            Err(error) => error.to_string(),
            Ok(created) => {
                *image = image.apply(&created.records).unwrap();
                let topic = image.topic(created.name.as_str()).unwrap();
                assert_eq!(
                    (topic.id, topic.partition_count()),
                    (created.topic_id, created.partitions)
                );
                let replicas = topic.partitions.iter().map(|partition| {
                    assert_eq!(partition.leader, partition.replicas.first().copied());
                    assert_eq!(partition.isr, partition.replicas);
                    let ids = partition.replicas.iter().map(BrokerId::to_string);
                    ids.collect::<Vec<_>>().join("-")
                });
                let replicas = replicas.collect::<Vec<_>>().join(" ");
                format!("{replicas} {:?}", created.configs)
            }
        };
        writeln!(lines, "{}: {line}", outcome.subject).unwrap();
    }
    lines
}

#[test]
fn counts_left_out_are_the_brokers() {
    let counted = NewTopic {
        partitions: Some(3),
        replication_factor: Some(2),
        ..topic("b")
    };
    let mut image = MetadataImage::default();
    let lines = create(
        &mut image,
        &[topic("a"), counted, assigned("c", &[(1, &[2, 3]), (0, &[3, 1])])],
    );
    insta::assert_snapshot!(lines, @r#"
        a: 1 2 {}
        b: 1-2 2-3 3-1 {}
        c: 3-1 2-3 {}
    "#);
}

#[test]
fn each_topic_of_a_mixed_request_gets_its_own_answer() {
    let mut image = MetadataImage::default();
    create(&mut image, &[topic("taken"), topic("x.y")]);
    let requests = [
        topic("fresh"),
        topic("taken"),
        topic("x_y"),
        topic("no/slash"),
        topic("__cluster_metadata"),
        topic("p.q"),
        topic("p_q"),
        topic("twice"),
        topic("twice"),
        NewTopic {
            partitions: Some(0),
            ..topic("none")
        },
        NewTopic {
            partitions: Some(-2),
            ..topic("fewer")
        },
        NewTopic {
            partitions: Some(10_001),
            ..topic("many")
        },
        NewTopic {
            replication_factor: Some(4),
            ..topic("wide")
        },
        NewTopic {
            replication_factor: Some(0),
            ..topic("narrow")
        },
        NewTopic {
            partitions: Some(1),
            ..assigned("both", &[(0, &[1])])
        },
        assigned("gap", &[(0, &[1]), (2, &[1])]),
        assigned("uneven", &[(0, &[1]), (1, &[1, 2])]),
        assigned("empty", &[(0, &[])]),
        assigned("repeat", &[(0, &[1, 1])]),
        assigned("stranger", &[(0, &[9])]),
        configured("typo", &[("retention", Some("1"))]),
        configured("null", &[("retention.ms", None)]),
        configured("dup", &[("retention.ms", Some("1")), ("retention.ms", Some("2"))]),
        configured(
            "odd",
            &[
                ("min.compaction.lag.ms", Some("5")),
                ("max.compaction.lag.ms", Some("4")),
            ],
        ),
    ];
    insta::assert_snapshot!(create(&mut image, &requests), @r#"
        fresh: 1 2 {}
        taken: topic 'taken' exists already
        x_y: topic 'x_y' collides with topic 'x.y': '.' and '_' count as the same in metric names
        no/slash: topic name has '/' at byte 2; use only a-z, A-Z, 0-9, '.', '_' and '-'
        __cluster_metadata: topic '__cluster_metadata' is the cluster's own metadata; choose another name
        p.q: 1 2 {}
        p_q: topic 'p_q' collides with topic 'p.q': '.' and '_' count as the same in metric names
        twice: the request names this topic more than once
        none: a topic cannot have 0 partitions; ask for 1 or more, or -1 for the broker's default
        fewer: a topic cannot have -2 partitions; ask for 1 or more, or -1 for the broker's default
        many: the request adds more than 10000 partitions; split it
        wide: replication factor 4 cannot be reached with 3 live broker(s); use 1 to 3
        narrow: replication factor 0 cannot be reached with 3 live broker(s); use 1 to 3
        both: replicas assigned by hand settle the counts; leave both at -1
        gap: partitions assigned by hand must be numbered from 0 without holes; 2 does not fit
        uneven: partition 1 is assigned 2 replicas where 1 are expected
        empty: partition 0 is assigned 0 replicas where 1 are expected
        repeat: partition 0 is assigned broker 1 twice
        stranger: partition 0 is assigned broker 9, which is not alive
        typo: unknown topic config 'retention'; did you mean 'retention.ms'?
        null: config 'retention.ms' needs a value; delete the key to return to its default
        dup: config 'retention.ms' occurs more than once for the same resource
        odd: config 'min.compaction.lag.ms' (5) must not exceed 'max.compaction.lag.ms' (4)
    "#);
}

#[test]
fn topics_are_deleted_by_name_or_id_but_not_by_both() {
    let mut image = MetadataImage::default();
    create(&mut image, &[topic("a"), topic("b"), topic("c"), topic("d")]);
    let id = |name: &str| TopicSelector::Id(topic(name).topic_id);
    let name = |name: &str| TopicSelector::Name(name.into());
    let selectors = [
        name("a"),
        id("b"),
        name("c"),
        id("c"),
        name("d"),
        name("d"),
        name("nobody"),
        name("nothing"),
        name("nothing"),
        TopicSelector::Id(TopicId::new(Uuid::from_u128(5))),
    ];
    let mut lines = String::new();
    for outcome in delete_topics(&image, &selectors, DeletionPolicy::Allowed) {
        let line = match outcome.result {
            Ok(deleted) => {
                image = image.apply(&deleted.records).unwrap();
                format!("deleted {}", deleted.name)
            }
            Err(error) => error.to_string(),
        };
        writeln!(lines, "{line}").unwrap();
    }
    insta::assert_snapshot!(lines, @r#"
        deleted a
        deleted b
        the request names this topic more than once
        the request names this topic more than once
        the request names this topic more than once
        no topic is named 'nobody'
        the request names this topic more than once
        no topic has the id 00000000-0000-0000-0000-000000000005
    "#);
    assert_eq!(
        image
            .topics()
            .map(|topic| topic.name.as_str())
            .collect::<Vec<_>>(),
        ["c", "d"]
    );

    let disabled = delete_topics(&image, &[name("c")], DeletionPolicy::Disabled);
    assert_eq!(disabled[0].result, Err(TopicError::DeletionDisabled));
}

#[test]
fn a_topic_grows_and_never_shrinks() {
    let mut image = MetadataImage::default();
    let two = NewTopic {
        partitions: Some(2),
        replication_factor: Some(2),
        ..topic("a")
    };
    create(&mut image, &[two]);
    let grow = |topic: &str, total, assignments: Option<&[&[i32]]>| {
        let ids = |replicas: &&[i32]| replicas.iter().copied().map(BrokerId::new).collect();
        let assignments = assignments.map(|assignments| assignments.iter().map(ids).collect());
        NewPartitions {
            topic: topic.into(),
            total,
            assignments,
        }
    };
    let requests = [
        grow("a", 4, None),
        grow("a", 3, Some(&[&[2, 3]])),
        grow("a", 2, None),
        grow("a", 1, None),
        grow("a", i32::MAX, None),
        grow("a", 4, Some(&[&[1, 2]])),
        grow("a", 3, Some(&[&[1]])),
        grow("nobody", 3, None),
    ];
    let mut lines = String::new();
    for request in requests {
        let outcomes = create_partitions(&image, &[request], PLACEMENT);
        let line = match &outcomes[0].result {
            Ok(records) => {
                let grown = image.apply(records).unwrap();
                format!(
                    "{:?}",
                    &grown
                        .topic("a")
                        .unwrap()
                        .partitions
                        .iter()
                        .map(|p| &p.replicas)
                        .collect::<Vec<_>>()[2..]
                )
            }
            Err(error) => error.to_string(),
        };
        writeln!(lines, "{line}").unwrap();
    }
    insta::assert_snapshot!(lines, @r#"
        [[BrokerId(3), BrokerId(1)], [BrokerId(1), BrokerId(3)]]
        [[BrokerId(2), BrokerId(3)]]
        the topic has 2 partitions and can only grow, not go to 2
        the topic has 2 partitions and can only grow, not go to 1
        the request adds more than 10000 partitions; split it
        2 new partitions need as many assignments, not 1
        partition 2 is assigned 1 replicas where 2 are expected
        no topic is named 'nobody'
    "#);
    let twice = create_partitions(&image, &[grow("a", 3, None), grow("a", 4, None)], PLACEMENT);
    assert_eq!(twice.len(), 1);
    assert_eq!(twice[0].result, Err(TopicError::DuplicateInRequest));
}
