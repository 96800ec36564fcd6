//! Workers against an embedded broker: tasks move, records survive, poison goes to the dead-letter topic.

mod failures;
mod moving;
mod plugins;
mod rest;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use highwater_client::{AutoOffsetReset, Client, ConsumerConfig, OffsetSpec};
use highwater_connect::config::toml_file::TomlFile;
use highwater_connect::{Document, Environment, RunState, Worker, WorkerConfig};
use highwater_connect_api::{PartitionId, TopicName, TopicPartition};
use highwater_embedded::{Embedded, EmbeddedConfig};
use highwater_types::record::Record;
use tokio::time::Instant;

const PATIENCE: Duration = Duration::from_secs(60);

struct Cluster {
    embedded: Embedded,
    _directory: tempfile::TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = EmbeddedConfig::new(directory.path());
        let embedded = Embedded::start(config).await.expect("a node");
        Self {
            embedded,
            _directory: directory,
        }
    }

    fn client(&self) -> Client {
        self.embedded.client()
    }

    async fn worker(&self, id: &str, plugins: &plugins::World) -> Worker {
        Worker::start(self.client(), plugins.plugins(), config(id))
            .await
            .expect("a worker")
    }

    async fn shutdown(self) {
        self.embedded.shutdown().await.expect("a clean end");
    }
}

fn config(id: &str) -> WorkerConfig {
    WorkerConfig {
        worker_id: id.to_owned(),
        slots: 8,
        offset_partitions: 2,
        flush_interval: Duration::from_millis(100),
        session_timeout: Duration::from_secs(6),
        environment: Environment::new(|name| (name == "SECRET").then(|| "hunter2".to_owned())),
        ..WorkerConfig::new("test").expect("a legal name")
    }
}

fn document(toml: &str) -> Document {
    TomlFile::parse(toml).expect("TOML").document
}

fn topic(name: &str) -> TopicName {
    TopicName::new(name).expect("a legal name")
}

/// Asks until the answer is there.
async fn eventually<T: Debug>(what: &str, mut ask: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(now) if Instant::now() > deadline => panic!("{what} did not happen; now: {now}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(30)).await,
        }
    }
}

/// Waits until every task of a connector runs, and tells which worker runs how many.
async fn running(worker: &Worker, name: &str, tasks: usize) -> BTreeMap<String, usize> {
    eventually(&format!("{tasks} running tasks of {name}"), async || {
        let status = worker.status(name).map_err(|error| error.to_string())?;
        let mut workers = BTreeMap::new();
        for task in status.tasks.iter().filter(|task| task.state == RunState::Running) {
            *workers.entry(task.worker_id.clone()).or_insert(0) += 1;
        }
        match workers.values().sum::<usize>() == tasks {
            true => Ok(workers),
            false => Err(format!("{status:?}")),
        }
    })
    .await
}

/// Every record of a topic that is there now.
async fn read_all(client: &Client, name: &str) -> Vec<Record> {
    let name = topic(name);
    let described = client
        .admin()
        .describe_topics([name.clone()])
        .await
        .expect("described");
    let Some(Ok(metadata)) = described.into_values().next() else {
        return Vec::new();
    };
    let partition = |id: PartitionId| TopicPartition::new(name.clone(), id);
    let partitions: Vec<_> = metadata
        .partitions
        .iter()
        .map(|p| partition(p.partition))
        .collect();
    let latest = partitions.iter().map(|tp| (tp.clone(), OffsetSpec::Latest));
    let ends = client
        .admin()
        .list_offsets(latest, Default::default())
        .await
        .expect("ends");
    let expected: i64 = ends
        .values()
        .filter_map(|end| end.offset)
        .map(|end| end.get())
        .sum();
    let consumer = client
        .consumer(ConsumerConfig {
            auto_offset_reset: AutoOffsetReset::Earliest,
            ..ConsumerConfig::default()
        })
        .expect("a consumer");
    consumer.assign(partitions).expect("assigned");
    let mut records = Vec::new();
    while (records.len() as i64) < expected {
        for batch in consumer.poll(Duration::from_secs(1)).await.expect("polled") {
            records.extend(batch.records);
        }
    }
    consumer.close().await;
    records
}
