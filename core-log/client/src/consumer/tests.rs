//! The consumer against the broker in memory: positions, resets, groups, rebalances.

use std::time::Duration;

use highwater_types::{
    LeaderEpoch, PartitionId, Timestamp,
    record::{BatchBuilder, BatchOptions, RecordBatch},
};
use highwater_wire::{ApiKey, ErrorCode};

use super::*;
use crate::{
    ProducerConfig, ProducerRecord, RoundRobinAssignor,
    mock::{Fault, MockBroker},
};

fn topic() -> TopicName {
    TopicName::new("t").expect("legal")
}

fn tp(index: i32) -> TopicPartition {
    TopicPartition::new(topic(), PartitionId::new(index))
}

fn from_the_beginning() -> ConsumerConfig {
    ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        fetch_max_wait: Duration::from_millis(50),
        heartbeat_interval: Duration::from_millis(20),
        ..ConsumerConfig::default()
    }
}

fn in_group(assignor: Arc<dyn Assignor>) -> ConsumerConfig {
    ConsumerConfig {
        group_id: Some("g".into()),
        assignors: vec![assignor],
        ..from_the_beginning()
    }
}

async fn fill(broker: &Arc<MockBroker>, values: std::ops::Range<u32>) {
    let producer = broker
        .client()
        .producer(ProducerConfig::default())
        .expect("starts");
    let partitions = broker.state().topics["t"].len() as u32;
    for value in values {
        let partition = Some(PartitionId::new((value % partitions) as i32));
        let record = ProducerRecord {
            partition,
            ..ProducerRecord::new(topic(), value.to_string())
        };
        drop(producer.send(record).await.expect("buffered"));
    }
    producer.close().await;
}

/// Polls until `count` values came, or two seconds have passed.
async fn read(consumer: &Consumer, count: usize) -> Vec<String> {
    let mut values = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(2);
    while values.len() < count && Instant::now() < deadline {
        for partition in consumer.poll(Duration::from_millis(20)).await.expect("polls") {
            let texts = partition
                .records
                .iter()
                .map(|r| r.value.clone().unwrap_or_default());
            values.extend(texts.map(|value| String::from_utf8_lossy(&value).into_owned()));
        }
    }
    values
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Polls both until each holds `counts` partitions.
async fn settle(a: &Consumer, b: &Consumer, counts: (usize, usize)) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while (a.assignment().len(), b.assignment().len()) != counts {
        assert!(
            Instant::now() < deadline,
            "a {:?}, b {:?}",
            a.assignment(),
            b.assignment()
        );
        let wait = Duration::from_millis(10);
        let (from_a, from_b) = tokio::join!(a.poll(wait), b.poll(wait));
        from_a.and(from_b).expect("polls");
    }
}

#[tokio::test]
async fn assigned_partitions_are_read_from_the_start_and_as_records_come() {
    let broker = MockBroker::new(&[("t", 1)]);
    fill(&broker, 0..10).await;
    let consumer = broker.client().consumer(from_the_beginning()).expect("starts");
    consumer.assign([tp(0)]).expect("assigns");
    assert_eq!(read(&consumer, 10).await, numbers(0..10));
    assert_eq!(consumer.lag(), BTreeMap::from([(tp(0), 0)]));
    fill(&broker, 10..12).await;
    assert_eq!(read(&consumer, 2).await, numbers(10..12));
    assert_eq!(consumer.position(&tp(0)).await.expect("known"), Offset::new(12));
}

#[tokio::test]
async fn the_latest_policy_starts_behind_what_is_there() {
    let broker = MockBroker::new(&[("t", 1)]);
    fill(&broker, 0..10).await;
    let config = ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Latest,
        ..from_the_beginning()
    };
    let consumer = broker.client().consumer(config).expect("starts");
    consumer.assign([tp(0)]).expect("assigns");
    assert_eq!(consumer.position(&tp(0)).await.expect("known"), Offset::new(10));
    fill(&broker, 10..11).await;
    assert_eq!(read(&consumer, 1).await, ["10"]);
}

#[tokio::test]
async fn seeking_goes_anywhere_and_pausing_holds_records_back() {
    let broker = MockBroker::new(&[("t", 1)]);
    fill(&broker, 0..10).await;
    let consumer = broker.client().consumer(from_the_beginning()).expect("starts");
    consumer.assign([tp(0)]).expect("assigns");
    read(&consumer, 10).await;
    consumer.seek(&tp(0), Offset::new(7)).expect("assigned");
    consumer.pause(&[tp(0)]).expect("assigned");
    assert!(
        consumer
            .poll(Duration::from_millis(30))
            .await
            .expect("polls")
            .is_empty()
    );
    consumer.resume(&[tp(0)]).expect("assigned");
    assert_eq!(read(&consumer, 3).await, numbers(7..10));
    consumer.seek_to_beginning(&[tp(0)]).expect("assigned");
    assert_eq!(read(&consumer, 10).await, numbers(0..10));
    assert!(matches!(
        consumer.seek(&tp(1), Offset::ZERO),
        Err(ConsumeError::NotAssigned { .. })
    ));
}

#[tokio::test]
async fn a_position_outside_the_log_follows_the_policy() {
    let broker = MockBroker::new(&[("t", 1)]);
    fill(&broker, 0..10).await;
    {
        let mut state = broker.state();
        let log = &mut state.topics.get_mut("t").expect("there")[0];
        log.start = 4;
    }
    let consumer = broker.client().consumer(from_the_beginning()).expect("starts");
    consumer.assign([tp(0)]).expect("assigns");
    consumer.seek(&tp(0), Offset::new(2)).expect("assigned");
    assert_eq!(read(&consumer, 6).await, numbers(4..10));

    let config = ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::None,
        ..from_the_beginning()
    };
    let consumer = broker.client().consumer(config).expect("starts");
    consumer.assign([tp(0)]).expect("assigns");
    consumer.seek(&tp(0), Offset::new(99)).expect("assigned");
    let error = consumer.poll(Duration::from_secs(2)).await.expect_err("outside");
    assert!(matches!(error, ConsumeError::OffsetOutOfRange { offset, .. } if offset == Offset::new(99)));
    consumer.seek(&tp(0), Offset::new(9)).expect("assigned");
    assert_eq!(read(&consumer, 1).await, ["9"], "a seek gets it going again");
}

#[tokio::test]
async fn broken_connections_and_moved_leaders_are_not_noticed_by_the_caller() {
    let broker = MockBroker::new(&[("t", 1)]);
    for fault in [
        Fault::Lost,
        Fault::LostAnswer,
        Fault::Refuse(ErrorCode::NotLeaderOrFollower),
    ] {
        broker.fail_next(ApiKey::Fetch, fault);
    }
    let consumer = broker.client().consumer(from_the_beginning()).expect("starts");
    consumer.assign([tp(0)]).expect("assigns");
    fill(&broker, 0..10).await;
    assert_eq!(read(&consumer, 10).await, numbers(0..10));
}

/// KIP-320: the new leader does not have the last records this consumer read, but others in their place.
#[tokio::test]
async fn a_truncated_log_is_read_again_from_where_histories_part() {
    let broker = MockBroker::new(&[("t", 1)]);
    fill(&broker, 0..3).await;
    fill(&broker, 3..5).await;
    let consumer = broker.client().consumer(from_the_beginning()).expect("starts");
    consumer.assign([tp(0)]).expect("assigns");
    assert_eq!(read(&consumer, 5).await, numbers(0..5));
    {
        let mut state = broker.state();
        let log = &mut state.topics.get_mut("t").expect("there")[0];
        log.leader_epoch = 1;
        log.batches.retain(|b| {
            RecordBatch::parse(b.clone())
                .expect("ours")
                .0
                .header()
                .last_offset()
                .get()
                < 3
        });
        let mut builder = BatchBuilder::new(BatchOptions {
            base_offset: Offset::new(3),
            leader_epoch: LeaderEpoch::new(1),
            ..Default::default()
        });
        for value in ["other 3", "other 4", "other 5"] {
            builder.append(Timestamp::new(0), None, Some(value.as_bytes()), &[]);
        }
        log.batches.push(builder.build().expect("builds"));
        log.end = 6;
    }
    broker.touch();
    assert_eq!(read(&consumer, 3).await, ["other 3", "other 4", "other 5"]);
}

#[tokio::test]
async fn a_group_commits_and_its_next_member_goes_on_there() {
    let broker = MockBroker::new(&[("t", 2)]);
    fill(&broker, 0..10).await;
    let consumer = broker
        .client()
        .consumer(in_group(Arc::new(RangeAssignor)))
        .expect("starts");
    consumer.subscribe([topic()]).expect("subscribes");
    assert_eq!(read(&consumer, 10).await.len(), 10);
    consumer.close().await;
    assert_eq!(
        (broker.committed("g", "t", 0), broker.committed("g", "t", 1)),
        (Some(5), Some(5))
    );
    assert_eq!(broker.member_count("g"), 0, "it has left");

    fill(&broker, 10..12).await;
    let consumer = broker
        .client()
        .consumer(in_group(Arc::new(RangeAssignor)))
        .expect("starts");
    consumer.subscribe([topic()]).expect("subscribes");
    let mut values = read(&consumer, 2).await;
    values.sort();
    assert_eq!(values, numbers(10..12));
}

/// Notes what it is told, as `+0 1` and `-0`.
#[derive(Debug, Default)]
struct Notes(Mutex<Vec<String>>);

impl Notes {
    fn note(&self, sign: &str, partitions: &[TopicPartition]) {
        let indexes: Vec<String> = partitions.iter().map(|tp| tp.partition.to_string()).collect();
        self.0
            .lock()
            .expect("no panic inside")
            .push(format!("{sign}{}", indexes.join(" ")));
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("no panic inside"))
    }
}

#[async_trait]
impl RebalanceListener for Notes {
    async fn partitions_revoked(&self, partitions: &[TopicPartition]) {
        self.note("-", partitions);
    }
    async fn partitions_assigned(&self, partitions: &[TopicPartition]) {
        self.note("+", partitions);
    }
    async fn partitions_lost(&self, partitions: &[TopicPartition]) {
        self.note("lost ", partitions);
    }
}

async fn rebalance_notes(assignor: Arc<dyn Assignor>) -> Vec<String> {
    let broker = MockBroker::new(&[("t", 4)]);
    let notes = Arc::new(Notes::default());
    let config = ConsumerConfig {
        listener: Some(notes.clone()),
        ..in_group(assignor.clone())
    };
    let client = broker.client();
    let a = client.consumer(config).expect("starts");
    a.subscribe([topic()]).expect("subscribes");
    let b = client.consumer(in_group(assignor)).expect("starts");
    settle(&a, &b, (4, 0)).await;
    b.subscribe([topic()]).expect("subscribes");
    settle(&a, &b, (2, 2)).await;
    b.close().await;
    let c = client.consumer(from_the_beginning()).expect("starts");
    settle(&a, &c, (4, 0)).await;
    notes.take()
}

#[tokio::test]
async fn eager_members_give_everything_up_for_every_rebalance() {
    let notes = rebalance_notes(Arc::new(RoundRobinAssignor)).await;
    assert_eq!(notes, ["+0 1 2 3", "-0 1 2 3", "+0 2", "-0 2", "+0 1 2 3"]);
}

#[tokio::test]
async fn cooperative_members_give_up_only_what_moves() {
    let mut notes = rebalance_notes(Arc::new(CooperativeStickyAssignor)).await;
    notes.retain(|note| note != "+");
    assert_eq!(notes, ["+0 1 2 3", "-2 3", "+2 3"]);
}

#[tokio::test]
async fn an_expelled_member_loses_its_partitions_and_joins_again() {
    let broker = MockBroker::new(&[("t", 2)]);
    let notes = Arc::new(Notes::default());
    let config = ConsumerConfig {
        listener: Some(notes.clone()),
        ..in_group(Arc::new(RangeAssignor))
    };
    let consumer = broker.client().consumer(config).expect("starts");
    consumer.subscribe([topic()]).expect("subscribes");
    let idle = broker.client().consumer(from_the_beginning()).expect("starts");
    settle(&consumer, &idle, (2, 0)).await;
    broker.expel_members("g");
    settle(&consumer, &idle, (0, 0)).await;
    settle(&consumer, &idle, (2, 0)).await;
    assert_eq!(notes.take(), ["+0 1", "lost 0 1", "+0 1"]);
}

#[tokio::test]
async fn a_caller_that_stops_polling_leaves_the_group_and_comes_back() {
    let broker = MockBroker::new(&[("t", 1)]);
    let config = ConsumerConfig {
        max_poll_interval: Duration::from_millis(100),
        ..in_group(Arc::new(RangeAssignor))
    };
    let consumer = broker.client().consumer(config).expect("starts");
    consumer.subscribe([topic()]).expect("subscribes");
    let idle = broker.client().consumer(from_the_beginning()).expect("starts");
    settle(&consumer, &idle, (1, 0)).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(broker.member_count("g"), 0);
    fill(&broker, 0..1).await;
    assert_eq!(read(&consumer, 1).await, ["0"]);
}

#[tokio::test]
async fn new_partitions_of_a_topic_are_noticed_by_the_leader() {
    let broker = MockBroker::new(&[]);
    let consumer = broker
        .client()
        .consumer(in_group(Arc::new(RangeAssignor)))
        .expect("starts");
    consumer.subscribe([topic()]).expect("subscribes");
    assert!(
        consumer
            .poll(Duration::from_millis(60))
            .await
            .expect("polls")
            .is_empty()
    );
    broker
        .state()
        .topics
        .insert("t".to_owned(), vec![Default::default()]);
    fill(&broker, 0..1).await;
    assert_eq!(read(&consumer, 1).await, ["0"]);
}

#[tokio::test]
async fn a_commit_of_a_member_the_group_forgot_is_refused() {
    let broker = MockBroker::new(&[("t", 1)]);
    let config = ConsumerConfig {
        heartbeat_interval: Duration::from_secs(3),
        ..in_group(Arc::new(RangeAssignor))
    };
    let client = broker.client();
    let consumer = client.consumer(config).expect("starts");
    consumer.subscribe([topic()]).expect("subscribes");
    let idle = client.consumer(from_the_beginning()).expect("starts");
    settle(&consumer, &idle, (1, 0)).await;
    broker.expel_members("g");
    let offsets = CommittedOffsets::from([(tp(0), Offset::new(1).into())]);
    let error = consumer.commit(offsets).await.expect_err("refused");
    assert!(
        matches!(
            error,
            ConsumeError::CommitRefused {
                code: ErrorCode::UnknownMemberId,
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn subscribing_and_assigning_do_not_mix() {
    let broker = MockBroker::new(&[("t", 1)]);
    let consumer = broker
        .client()
        .consumer(in_group(Arc::new(RangeAssignor)))
        .expect("starts");
    consumer.subscribe([topic()]).expect("subscribes");
    assert!(matches!(
        consumer.assign([tp(0)]),
        Err(ConsumeError::MixedSubscription)
    ));
    consumer.unsubscribe().await;
    consumer.assign([tp(0)]).expect("assigns");

    let without_group = broker.client().consumer(from_the_beginning()).expect("starts");
    assert!(matches!(
        without_group.subscribe([topic()]),
        Err(ConsumeError::NoGroup { .. })
    ));
}

fn secret() -> TopicName {
    TopicName::new("secret").expect("legal")
}

/// Polls until `count` values came, or two seconds have passed; also gives the errors.
async fn read_over_errors(consumer: &Consumer, count: usize) -> (Vec<String>, Vec<ConsumeError>) {
    let (mut values, mut errors) = (Vec::new(), Vec::new());
    let deadline = Instant::now() + Duration::from_secs(2);
    while values.len() < count && Instant::now() < deadline {
        match consumer.poll(Duration::from_millis(20)).await {
            Ok(polled) => {
                let records = polled.into_iter().flat_map(|partition| partition.records);
                let texts = records.map(|record| record.value.unwrap_or_default());
                values.extend(texts.map(|value| String::from_utf8_lossy(&value).into_owned()));
            }
            Err(error) => errors.push(error),
        }
    }
    (values, errors)
}

#[tokio::test]
async fn a_topic_that_is_not_for_this_client_is_an_error_once_and_the_others_are_read() {
    for subscribes in [true, false] {
        let broker = MockBroker::new(&[("t", 1), ("secret", 1)]);
        fill(&broker, 0..10).await;
        broker.state().denied.insert("secret".to_owned());
        let consumer = broker
            .client()
            .consumer(in_group(Arc::new(RoundRobinAssignor)))
            .expect("starts");
        match subscribes {
            true => consumer.subscribe([topic(), secret()]).expect("subscribes"),
            false => {
                let hidden = TopicPartition::new(secret(), PartitionId::new(0));
                consumer.assign([tp(0), hidden]).expect("assigns");
            }
        }
        let (values, mut errors) = read_over_errors(&consumer, 10).await;
        assert_eq!(values, numbers(0..10));
        fill(&broker, 10..20).await;
        let (values, later) = read_over_errors(&consumer, 10).await;
        assert_eq!(values, numbers(10..20));
        errors.extend(later);
        assert!(
            matches!(errors.as_slice(), [ConsumeError::TopicAuthorization { topic }] if *topic == secret()),
            "{errors:?}"
        );
        // Whoever goes on polling reads it as soon as that is allowed.
        broker.state().denied.clear();
        let deadline = Instant::now() + Duration::from_secs(5);
        while consumer.lag().len() < 2 {
            consumer.poll(Duration::from_millis(10)).await.expect("polls");
            assert!(Instant::now() < deadline, "{:?}", consumer.lag());
        }
        consumer.close().await;
    }
}

#[tokio::test]
async fn a_topic_that_may_be_seen_but_not_read_is_an_error_once() {
    let broker = MockBroker::new(&[("t", 1)]);
    fill(&broker, 0..10).await;
    let consumer = broker.client().consumer(from_the_beginning()).expect("starts");
    let refusal = || Fault::Refuse(ErrorCode::TopicAuthorizationFailed);
    for _ in 0..3 {
        broker.fail_next(ApiKey::Fetch, refusal());
    }
    consumer.assign([tp(0)]).expect("assigns");
    let (values, errors) = read_over_errors(&consumer, 10).await;
    assert_eq!(values, numbers(0..10));
    assert!(
        matches!(errors.as_slice(), [ConsumeError::TopicAuthorization { topic: named }] if *named == topic()),
        "{errors:?}"
    );
}

#[tokio::test]
async fn a_group_that_is_not_for_this_client_is_an_error_and_joined_when_that_changes() {
    let broker = MockBroker::new(&[("t", 1)]);
    fill(&broker, 0..10).await;
    let refusal = Fault::Refuse(ErrorCode::GroupAuthorizationFailed);
    broker.fail_next(ApiKey::JoinGroup, refusal);
    let consumer = broker
        .client()
        .consumer(in_group(Arc::new(RoundRobinAssignor)))
        .expect("starts");
    consumer.subscribe([topic()]).expect("subscribes");
    let (values, errors) = read_over_errors(&consumer, 10).await;
    assert_eq!(values, numbers(0..10));
    assert!(
        matches!(errors.as_slice(), [ConsumeError::GroupAuthorization { group_id }] if &**group_id == "g"),
        "{errors:?}"
    );
}
