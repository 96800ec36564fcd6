//! Topologies on a real node: repartitions, rebalances, restarts, and processes killed in the middle of their work.

use std::{
    collections::BTreeMap,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use highwater_client::{
    AutoOffsetReset, Client, ClientConfig, ConsumerConfig, ProducerConfig, ProducerRecord,
    admin::{AclBinding, AclOperation, AclPermission, NewTopic, PatternType, ResourceType},
};
use highwater_embedded::{Embedded, EmbeddedConfig};
use highwater_streams::{
    Streams, StreamsConfig,
    engine::{
        Consumed, Grouped, Materialized, Produced, StreamsBuilder, Topology, TumblingWindows,
        serdes::{Serde, i64, string},
    },
};
use highwater_types::{Bytes, Timestamp, TopicName};

type AnyError = Box<dyn std::error::Error + Send + Sync>;
type TestResult = Result<(), AnyError>;

const PARTITIONS: i32 = 3;
const PATIENCE: Duration = Duration::from_secs(60);
/// Set for the process that a test starts and kills.
const CHILD_BROKER: &str = "STREAMS_TEST_BROKER";
const CHILD_STATE: &str = "STREAMS_TEST_STATE";

fn topic(name: &str) -> TopicName {
    TopicName::new(name).expect("legal")
}

/// Sums the values of each key, through a repartition topic.
fn sums() -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream("numbers", Consumed::with(string(), i64()))
        .group_by(
            |key, _| key.clone(),
            Grouped::with(string(), i64()).named("by-digit"),
        )
        .reduce(|sum, number| *sum += number, Materialized::as_store("sums"))
        .to_stream()
        .to("sums", Produced::with(string(), i64()));
    builder.build("summing").expect("a sound topology")
}

/// Sums the values of each key; without a repartition, a replay after a crash changes nothing but repeats outputs.
fn direct_sums() -> Topology {
    let builder = StreamsBuilder::new();
    builder
        .stream("numbers", Consumed::with(string(), i64()))
        .group_by_key()
        .reduce(|sum, number| *sum += number, Materialized::as_store("sums"))
        .to_stream()
        .to("sums", Produced::with(string(), i64()));
    builder.build("summing").expect("a sound topology")
}

async fn create_topics(client: &Client, names: &[&str]) -> TestResult {
    let new = names.iter().map(|name| NewTopic::new(topic(name), PARTITIONS));
    for (_, created) in client.admin().create_topics(new).await? {
        created?;
    }
    Ok(())
}

async fn produce(client: &Client, numbers: std::ops::Range<i64>) -> TestResult {
    let producer = client.producer(ProducerConfig::default())?;
    let mut deliveries = Vec::new();
    for number in numbers {
        let record = ProducerRecord {
            timestamp: Some(Timestamp::new(number)),
            ..ProducerRecord::keyed(
                topic("numbers"),
                format!("k{}", number % 10),
                Bytes::copy_from_slice(&number.to_be_bytes()),
            )
        };
        deliveries.push(producer.send(record).await?);
    }
    for delivery in deliveries {
        delivery.await?;
    }
    producer.close().await;
    Ok(())
}

/// Sum of each last digit over `0..end`.
fn expected_sums(end: i64) -> BTreeMap<String, i64> {
    let mut sums = BTreeMap::new();
    for number in 0..end {
        *sums.entry(format!("k{}", number % 10)).or_insert(0) += number;
    }
    sums
}

/// Reads a topic of sums until the latest values are as expected; fails at once when a sum is too large, since sums
/// only grow.
async fn until_sums(client: &Client, end: i64) -> TestResult {
    let expected = expected_sums(end);
    let consumer = client.consumer(ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        ..ConsumerConfig::default()
    })?;
    let partitions = (0..PARTITIONS).map(|partition| {
        highwater_types::TopicPartition::new(topic("sums"), highwater_types::PartitionId::new(partition))
    });
    consumer.assign(partitions)?;
    let mut sums: BTreeMap<String, i64> = BTreeMap::new();
    let deadline = Instant::now() + PATIENCE;
    while sums != expected {
        if Instant::now() > deadline {
            return Err(format!("sums stay at {sums:?} instead of {expected:?}").into());
        }
        for polled in consumer.poll(Duration::from_millis(200)).await? {
            for record in polled.records {
                let key = string().deserialize(&record.key.unwrap_or_default())?;
                let sum = i64().deserialize(&record.value.unwrap_or_default())?;
                let limit = expected.get(&key).copied().unwrap_or(0);
                if sum > limit {
                    return Err(format!("{key} has {sum}, more than {limit}: a record counted twice").into());
                }
                sums.insert(key, sum);
            }
        }
    }
    Ok(())
}

/// Waits until each application runs so many tasks.
async fn until_running(wanted: &[(&Streams, usize)]) -> TestResult {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut running = Vec::new();
        for (streams, _) in wanted {
            running.push(streams.metrics().await.running_tasks);
        }
        if wanted.iter().map(|(_, tasks)| *tasks).eq(running.iter().copied()) {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(format!("running tasks stay at {running:?}").into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn config(dir: &tempfile::TempDir) -> StreamsConfig {
    StreamsConfig {
        commit_interval: Duration::from_millis(20),
        session_timeout: Duration::from_secs(6),
        heartbeat_interval: Duration::from_millis(200),
        ..StreamsConfig::in_dir(dir.path())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sums_survive_an_orderly_restart_without_reading_their_changelogs_again() -> TestResult {
    let (log, state) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let node = Embedded::start(EmbeddedConfig::new(log.path())).await?;
    create_topics(&node.client(), &["numbers", "sums"]).await?;
    produce(&node.client(), 0..3_000).await?;

    let two_workers = StreamsConfig {
        workers: 2,
        ..config(&state)
    };
    let streams = Streams::start(sums(), node.client(), two_workers).await?;
    until_sums(&node.client(), 3_000).await?;
    until_running(&[(&streams, 2 * PARTITIONS as usize)]).await?;
    let store = streams.store("sums", string(), i64());
    let sum = store.get(&"k7".to_owned()).await?.map(|stored| stored.value);
    assert_eq!(sum, expected_sums(3_000).get("k7").copied());
    assert_eq!(store.all(100).await?.len(), 10);
    streams.shutdown().await?;

    produce(&node.client(), 3_000..4_000).await?;
    let streams = Streams::start(sums(), node.client(), config(&state)).await?;
    until_sums(&node.client(), 4_000).await?;
    assert_eq!(
        streams.metrics().await.restored_records,
        0,
        "everything was in the stores"
    );
    streams.shutdown().await?;
    node.shutdown().await?;
    Ok(())
}

/// A rule for whoever connects without a login.
fn anybody(resource_type: ResourceType, name: &'static str, operation: AclOperation) -> AclBinding {
    AclBinding {
        resource_type,
        name: name.into(),
        pattern: PatternType::Literal,
        principal: "User:ANONYMOUS".into(),
        host: "*".into(),
        operation,
        permission: AclPermission::Allow,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_topic_that_is_not_for_the_application_ends_it_with_an_error_that_names_it() -> TestResult {
    let (log, state) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut guarded = EmbeddedConfig::new(log.path()).listen("127.0.0.1:0".parse()?);
    let authorizer = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
    guarded
        .properties
        .insert("authorizer.class.name".to_owned(), authorizer.to_owned());
    let node = Embedded::start(guarded).await?;
    create_topics(&node.client(), &["numbers", "sums"]).await?;
    let address = node.kafka_addr().ok_or("a listener")?.to_string();
    let outside = Client::connect(ClientConfig::new([address])).await?;
    let allow = async |rules: Vec<AclBinding>| -> TestResult {
        for (_, answer) in node.client().admin().create_acls(rules).await? {
            answer?;
        }
        Ok(())
    };

    // What may not be seen is not waited for.
    let refused = Streams::start(direct_sums(), outside.clone(), config(&state)).await;
    let words = chain(&refused.err().ok_or("nothing was allowed")?);
    assert!(
        words.contains("see a source topic") && words.contains("numbers"),
        "{words}"
    );

    // What may be seen but not read ends the application instead of leaving it without an input.
    allow(vec![
        anybody(ResourceType::Topic, "*", AclOperation::Describe),
        anybody(ResourceType::Topic, "*", AclOperation::Create),
        anybody(ResourceType::Group, "*", AclOperation::Read),
    ])
    .await?;
    let streams = Streams::start(direct_sums(), outside, config(&state)).await?;
    let ended = tokio::time::timeout(PATIENCE, streams.ended())
        .await?
        .err()
        .ok_or("it went on")?;
    let words = chain(&ended);
    assert!(words.contains("topic numbers is not for this client"), "{words}");
    drop(streams.shutdown().await);
    node.shutdown().await?;
    Ok(())
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(&format!(": {error}"));
        cause = error.source();
    }
    words
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_takes_its_share_and_a_leaver_s_tasks_move_with_their_state() -> TestResult {
    let (log, first_state, second_state) = (tempfile::tempdir()?, tempfile::tempdir()?, tempfile::tempdir()?);
    let node = Embedded::start(EmbeddedConfig::new(log.path())).await?;
    create_topics(&node.client(), &["numbers", "sums"]).await?;
    produce(&node.client(), 0..1_000).await?;
    let first = Streams::start(sums(), node.client(), config(&first_state)).await?;
    until_sums(&node.client(), 1_000).await?;

    let second = Streams::start(sums(), node.client(), config(&second_state)).await?;
    until_running(&[(&first, 3), (&second, 3)]).await?;
    produce(&node.client(), 1_000..2_000).await?;
    until_sums(&node.client(), 2_000).await?;
    first.shutdown().await?;
    produce(&node.client(), 2_000..3_000).await?;
    until_sums(&node.client(), 3_000).await?;
    assert!(
        second.metrics().await.restored_records > 0,
        "state came through the changelogs"
    );
    second.shutdown().await?;
    node.shutdown().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_can_be_asked_for_and_late_records_are_counted() -> TestResult {
    let log = tempfile::tempdir()?;
    let node = Embedded::start(EmbeddedConfig::new(log.path())).await?;
    create_topics(&node.client(), &["numbers"]).await?;
    let minute = Duration::from_millis(100);
    let builder = StreamsBuilder::new();
    builder
        .stream("numbers", Consumed::with(string(), i64()))
        .group_by(
            |_, _| "all".to_owned(),
            Grouped::with(string(), i64()).named("all").partitions(1),
        )
        .windowed_by(TumblingWindows::of(minute))
        .count(
            Materialized::as_store("counts")
                .retention(Duration::from_secs(3600))
                .in_memory(),
        );
    let streams = Streams::start(
        builder.build("counting")?,
        node.client(),
        StreamsConfig::default(),
    )
    .await?;
    produce(&node.client(), 0..500).await?;
    let store = streams.store("counts", string(), i64());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let windows = store
            .windows(Timestamp::new(0), Timestamp::new(1_000), minute, 10)
            .await?;
        let metrics = streams.metrics().await;
        let counted: i64 = windows.iter().map(|(_, stored)| stored.value).sum();
        let late: u64 = metrics.dropped.values().sum();
        // Partitions of the input are read one after another, so some records may be late; none are lost unseen.
        if counted + late as i64 == 500 {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "{counted} counted and {late} late of 500"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    streams.shutdown().await?;
    node.shutdown().await?;
    Ok(())
}

/// Not a test by itself: what the killed process of the next test runs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child_process() -> TestResult {
    let (Ok(broker), Ok(state)) = (std::env::var(CHILD_BROKER), std::env::var(CHILD_STATE)) else {
        return Ok(());
    };
    let client = Client::connect(ClientConfig::new([broker])).await?;
    let config = StreamsConfig {
        commit_interval: Duration::from_millis(20),
        store_flush_interval: Duration::from_millis(150),
        session_timeout: Duration::from_secs(6),
        heartbeat_interval: Duration::from_millis(200),
        group_instance_id: Some("the-child".to_owned()),
        ..StreamsConfig::in_dir(state)
    };
    let streams = Streams::start(direct_sums(), client, config).await?;
    streams.ended().await?;
    Ok(())
}

fn spawn_child(broker: &str, state: &std::path::Path) -> std::io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(["--exact", "child_process", "--nocapture"])
        .env(CHILD_BROKER, broker)
        .env(CHILD_STATE, state)
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_processes_leave_exact_sums() -> TestResult {
    let (log, state) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let listen = EmbeddedConfig::new(log.path()).listen("127.0.0.1:0".parse()?);
    let node = Embedded::start(listen).await?;
    let broker = node.kafka_addr().ok_or("no listener")?.to_string();
    create_topics(&node.client(), &["numbers", "sums"]).await?;
    let mut end = 0;
    for life_ms in [900, 1_300, 1_100] {
        let mut child = spawn_child(&broker, state.path())?;
        // Work keeps arriving, so that the process dies in the middle of a commit or between two.
        let death = Instant::now() + Duration::from_millis(life_ms);
        while Instant::now() < death {
            produce(&node.client(), end..end + 100).await?;
            end += 100;
        }
        child.kill()?;
        child.wait()?;
    }
    let mut child = spawn_child(&broker, state.path())?;
    let mut outcome = until_sums(&node.client(), end).await;
    // What was counted twice would show here at the latest.
    if outcome.is_ok() {
        produce(&node.client(), end..end + 100).await?;
        outcome = until_sums(&node.client(), end + 100).await;
    }
    child.kill()?;
    child.wait()?;
    outcome?;
    node.shutdown().await?;
    Ok(())
}
