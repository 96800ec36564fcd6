//! Placement: two workers share tasks, one goes, nothing is lost.

use super::plugins::{World, tally};
use super::*;

const SOURCE: &str = r#"
name = "numbers"
plugin = "counter"
tasks_max = 4
[settings]
streams = ["a", "b", "c", "d"]
count = 1500
[topic]
name = "numbers"
partitions = 4
"#;

const SINK: &str = r#"
name = "collected"
plugin = "collector"
tasks_max = 2
topics = ["numbers"]
"#;

async fn all_collected(world: &World, streams: usize, count: i64) -> BTreeMap<(String, i64), usize> {
    let expected = streams * usize::try_from(count).expect("positive");
    eventually("every number collected", async || {
        let seen = world.seen();
        let tally = tally(&seen.put);
        let all = tally.len() == expected && seen.flushed == seen.put.len();
        all.then_some(tally)
            .ok_or_else(|| format!("{} numbers", seen.put.len()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_worker_goes_its_tasks_move_and_every_record_arrives_once() {
    let cluster = Cluster::start().await;
    let world = World::default();
    let one = cluster.worker("one", &world).await;
    let two = cluster.worker("two", &world).await;
    let applied = one.apply(document(SINK)).await.expect("a sink");
    assert_eq!(applied, highwater_connect::Applied::Created);
    let _ = one.apply(document(SOURCE)).await.expect("a source");

    // Both workers tell the same story, and both have work.
    eventually("work on both workers", async || {
        let workers = running(&two, "numbers", 4).await;
        let both = workers.len() == 2;
        both.then_some(()).ok_or_else(|| format!("{workers:?}"))
    })
    .await;
    eventually("a first number", async || {
        let count = world.seen().put.len();
        (count > 0).then_some(()).ok_or_else(|| "none".to_owned())
    })
    .await;

    two.shutdown().await;
    eventually("all tasks on the worker that stays", async || {
        let workers = running(&one, "numbers", 4).await;
        let alone = workers.keys().eq(["one"]);
        alone.then_some(()).ok_or_else(|| format!("{workers:?}"))
    })
    .await;
    let tally = all_collected(&world, 4, 1500).await;
    assert!(
        tally.values().all(|times| *times == 1),
        "a clean stop repeats nothing"
    );

    let records = read_all(&cluster.client(), "numbers").await;
    assert_eq!(records.len(), 6_000, "nor do the sources");
    let mut timestamps: Vec<i64> = records.iter().map(|record| record.timestamp.get()).collect();
    timestamps.sort_unstable();
    assert_eq!(timestamps.first(), Some(&1_000_000), "event times are kept");
    let numbers = topic("numbers");
    let described = cluster.client().admin().describe_topics([numbers.clone()]).await;
    let described = described.expect("described");
    let partitions = described[&numbers].as_ref().map(|topic| topic.partitions.len());
    assert_eq!(
        partitions.ok(),
        Some(4),
        "the sink was there first, but the source creates the topic"
    );

    one.shutdown().await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_comes_back_goes_on_at_the_stored_offsets() {
    let cluster = Cluster::start().await;
    let world = World::default();
    let source = r#"
        name = "numbers"
        plugin = "counter"
        [settings]
        streams = ["a"]
        count = 100
        password = "${SECRET}"
        [topic]
        name = "numbers"
    "#;
    let worker = cluster.worker("one", &world).await;
    let _ = worker.apply(document(source)).await.expect("a source");
    eventually("the offset of the last record", async || {
        let offsets = worker
            .offsets("numbers")
            .await
            .map_err(|error| error.to_string())?;
        let highwater_connect::ConnectorOffsets::Source(offsets) = offsets else {
            return Err("a sink".to_owned());
        };
        let next = offsets.values().next().and_then(|offset| offset.integer("next"));
        (next == Some(100))
            .then_some(())
            .ok_or_else(|| format!("{next:?}"))
    })
    .await;
    worker.shutdown().await;
    assert_eq!(world.seen().starts, [BTreeMap::new()]);

    let worker = cluster.worker("two", &world).await;
    running(&worker, "numbers", 1).await;
    let unchanged = worker.apply(document(source)).await.expect("the same source");
    assert_eq!(unchanged, highwater_connect::Applied::Unchanged);
    let longer = source.replace("count = 100", "count = 110");
    let updated = worker.apply(document(&longer)).await.expect("more of it");
    assert_eq!(updated, highwater_connect::Applied::Updated);
    eventually("the new numbers", async || {
        let count = read_all(&cluster.client(), "numbers").await.len();
        (count == 110).then_some(()).ok_or_else(|| count.to_string())
    })
    .await;
    {
        let seen = world.seen();
        let stored = BTreeMap::from([("a".to_owned(), 100)]);
        assert_eq!(
            seen.starts[1..],
            [stored.clone(), stored],
            "one restart, one change"
        );
        assert_eq!(seen.passwords, ["hunter2".to_owned()].into());
    }
    // The placeholder's value is only ever in the task's hands.
    for name in [
        "_connect_configs_test",
        "_connect_status_test",
        "_connect_offsets_test",
    ] {
        for record in read_all(&cluster.client(), name).await {
            let value = record.value.unwrap_or_default();
            assert!(!String::from_utf8_lossy(&value).contains("hunter2"), "{name}");
        }
    }
    worker.shutdown().await;
    cluster.shutdown().await;
}

/// A worker in a runtime of its own, so that it can be killed like a process: nothing is flushed, nobody says goodbye.
struct Victim {
    runtime: Option<tokio::runtime::Runtime>,
}

impl Victim {
    async fn start(cluster: &Cluster, id: &str, world: &World) -> (Self, Worker) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let client = cluster
            .embedded
            .client_with(highwater_client::ClientConfig::default())
            .expect("a client");
        let (config, plugins) = (config(id), world.plugins());
        let worker = runtime.spawn(Worker::start(client, plugins, config));
        let worker = worker.await.expect("no panic").expect("a worker");
        let runtime = Some(runtime);
        (Self { runtime }, worker)
    }

    fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_worker_is_killed_the_other_takes_over_and_no_record_is_lost() {
    let cluster = Cluster::start().await;
    let world = World::default();
    let one = cluster.worker("one", &world).await;
    let (victim, two) = Victim::start(&cluster, "two", &world).await;
    let _ = one.apply(document(SINK)).await.expect("a sink");
    let _ = one.apply(document(SOURCE)).await.expect("a source");
    eventually("work on both workers", async || {
        let workers = running(&one, "numbers", 4).await;
        let both = workers.len() == 2;
        both.then_some(()).ok_or_else(|| format!("{workers:?}"))
    })
    .await;
    eventually("some numbers", async || {
        let count = world.seen().put.len();
        (count > 200).then_some(()).ok_or_else(|| count.to_string())
    })
    .await;
    victim.kill();
    drop(two);
    let workers = eventually("all tasks on the survivor", async || {
        let workers = running(&one, "numbers", 4).await;
        let alone = workers.keys().eq(["one"]);
        alone
            .then_some(workers.clone())
            .ok_or_else(|| format!("{workers:?}"))
    })
    .await;
    assert_eq!(workers["one"], 4);
    let tally = all_collected(&world, 4, 1500).await;
    // What was under way when it died comes again; what was stored before does not.
    let repeated: usize = tally.values().map(|times| times - 1).sum();
    assert!(repeated < 3_000, "{repeated} records came again");
    one.shutdown().await;
    cluster.shutdown().await;
}

/// A static member that comes back within its session time-out goes on without waiting for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_with_an_instance_id_goes_on_at_once() {
    let cluster = Cluster::start().await;
    let world = World::default();
    let client = || cluster.client();
    let named = |id: &str| WorkerConfig {
        instance_id: Some("the-one".to_owned()),
        session_timeout: Duration::from_secs(45),
        ..config(id)
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let started = runtime.spawn(Worker::start(client(), world.plugins(), named("before")));
    let worker = started.await.expect("no panic").expect("a worker");
    let _ = worker.apply(document(SINK)).await.expect("a sink");
    let _ = worker.apply(document(SOURCE)).await.expect("a source");
    running(&worker, "numbers", 4).await;
    running(&worker, "collected", 2).await;
    eventually("some numbers", async || {
        let count = world.seen().put.len();
        (count > 100).then_some(()).ok_or_else(|| count.to_string())
    })
    .await;
    runtime.shutdown_background();
    drop(worker);

    let began = Instant::now();
    let worker = Worker::start(client(), world.plugins(), named("after"))
        .await
        .expect("a worker");
    all_collected(&world, 4, 1500).await;
    let workers = running(&worker, "collected", 2).await;
    assert!(workers.keys().eq(["after"]), "{workers:?}");
    assert!(
        began.elapsed() < Duration::from_secs(40),
        "it waited for the session time-out"
    );
    worker.shutdown().await;
    cluster.shutdown().await;
}
