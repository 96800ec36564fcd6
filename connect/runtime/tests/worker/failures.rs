//! Poison, outages, failed tasks.

use highwater_client::{ProducerConfig, ProducerRecord};
use highwater_connect::{ConnectorOffsets, TargetState};
use highwater_types::record::Header;

use super::plugins::{World, tally};
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_101_poison_goes_to_the_dead_letter_topic_and_the_rest_is_taken() {
    let cluster = Cluster::start().await;
    let world = World::default();
    world.seen().outages = 2;
    let producer = cluster
        .client()
        .producer(ProducerConfig::default())
        .expect("a producer");
    let values = ["{\"n\":1}", "{poison", "{\"refuse\":true}", "{\"n\":2}"];
    for value in values {
        let mut record = ProducerRecord::keyed(topic("input"), "k", value);
        record.partition = Some(PartitionId::new(0));
        record.headers.push(Header::new("own", None));
        producer
            .send(record)
            .await
            .expect("buffered")
            .await
            .expect("written");
    }
    let worker = cluster.worker("one", &world).await;
    let sink = r#"
        name = "picky"
        plugin = "collector"
        topics = ["input"]
        [retry]
        initial = "10ms"
        [errors]
        tolerance = "all"
        dead_letter_topic = "dlq"
    "#;
    let _ = worker.apply(document(sink)).await.expect("a sink");
    eventually("the commit behind all four", async || {
        let offsets = worker.offsets("picky").await.map_err(|error| error.to_string())?;
        let ConnectorOffsets::Sink(offsets) = offsets else {
            return Err("a source".to_owned());
        };
        let next = offsets.values().next().map(|offset| offset.get());
        (next == Some(4)).then_some(()).ok_or_else(|| format!("{next:?}"))
    })
    .await;
    {
        let seen = world.seen();
        let taken: Vec<i64> = seen.put.iter().filter_map(|value| value["n"].as_i64()).collect();
        assert_eq!(
            (taken, seen.outages),
            (vec![1, 2], 0),
            "in order, after the outage"
        );
    }
    let letters = read_all(&cluster.client(), "dlq").await;
    let header = |record: &Record, name: &str| {
        let found = record
            .headers
            .iter()
            .find(|header| header.key_str() == Some(name));
        let value = found.and_then(|header| header.value.clone()).unwrap_or_default();
        String::from_utf8(value.to_vec()).expect("UTF-8")
    };
    let told: Vec<_> = letters
        .iter()
        .map(|letter| {
            let field = |name: &str| header(letter, &format!("__connect.errors.{name}"));
            let value = String::from_utf8(letter.value.clone().unwrap_or_default().to_vec()).expect("UTF-8");
            (
                value,
                field("stage"),
                field("topic"),
                field("offset"),
                field("connector.name"),
            )
        })
        .collect();
    let expect = |value: &str, stage: &str, offset: &str| {
        let text = |text: &str| text.to_owned();
        (
            text(value),
            text(stage),
            text("input"),
            text(offset),
            text("picky"),
        )
    };
    assert_eq!(
        told,
        [
            expect("{poison", "VALUE_CONVERTER", "1"),
            expect("{\"refuse\":true}", "TASK_PUT", "2")
        ]
    );
    assert!(
        letters
            .iter()
            .all(|letter| letter.headers[0].key_str() == Some("own"))
    );
    assert_eq!(
        header(&letters[1], "__connect.errors.exception.message"),
        "not to my taste"
    );
    worker.shutdown().await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_task_says_why_and_starts_again_by_itself() {
    let cluster = Cluster::start().await;
    let world = World::default();
    let worker = cluster.worker("one", &world).await;
    let source = |restart: &str| {
        document(&format!(
            "name = \"fragile-{restart}\"\nplugin = \"counter\"\n[settings]\nstreams = [\"{restart}\"]\ncount = 200\n\
             fail_at = 77\n[topic]\nname = \"{restart}\"\n[errors]\n\
             on_task_failure = {{ restart = \"{restart}\", initial = \"50ms\" }}\n"
        ))
    };
    let _ = worker.apply(source("backoff")).await.expect("a source");
    let _ = worker.apply(source("never")).await.expect("another");
    eventually("every number in spite of the failure", async || {
        let records = read_all(&cluster.client(), "backoff").await;
        let values: Vec<serde_json::Value> = records
            .iter()
            .map(|record| serde_json::from_slice(record.value.as_deref().unwrap_or_default()).expect("JSON"))
            .collect();
        let count = tally(&values).len();
        (count == 200).then_some(()).ok_or_else(|| count.to_string())
    })
    .await;
    let failed = eventually("the failure of the other", async || {
        let status = worker
            .status("fragile-never")
            .map_err(|error| error.to_string())?;
        let task = status.tasks.first().cloned().ok_or("no task")?;
        let failed = task.state == RunState::Failed;
        failed.then_some(task.clone()).ok_or_else(|| format!("{task:?}"))
    })
    .await;
    assert_eq!(
        failed.trace.as_deref(),
        Some("poll failed: the counter broke; count again")
    );

    let all = highwater_connect::RestartRequest {
        tasks: None,
        only_failed: true,
    };
    worker.restart("fragile-never", all).await.expect("restarted");
    running(&worker, "fragile-never", 1).await;

    worker
        .set_target("fragile-never", TargetState::Paused)
        .await
        .expect("paused");
    eventually("a paused task", async || {
        let status = worker
            .status("fragile-never")
            .map_err(|error| error.to_string())?;
        let paused = status.tasks.iter().all(|task| task.state == RunState::Paused);
        paused.then_some(()).ok_or_else(|| format!("{status:?}"))
    })
    .await;
    worker
        .set_target("fragile-never", TargetState::Stopped)
        .await
        .expect("stopped");
    assert!(worker.status("fragile-never").expect("known").tasks.is_empty());
    worker
        .set_target("fragile-never", TargetState::Running)
        .await
        .expect("resumed");
    running(&worker, "fragile-never", 1).await;
    worker.delete("fragile-never").await.expect("deleted");
    assert_eq!(worker.connectors(), ["fragile-backoff"]);
    worker.shutdown().await;
    cluster.shutdown().await;
}
