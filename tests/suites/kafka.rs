//! The client library, and SQL over it, against Apache Kafka itself.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use highwater_client::{
    AutoOffsetReset, Client, ClientConfig, ConsumerConfig, ProducerConfig, ProducerRecord, admin::NewTopic,
};
use highwater_types::{TopicName, record::Compression};

use crate::support::{Watched, program, project_root, provided, run_to_end};

/// Starts a single-node Apache Kafka on a free port.
fn start_kafka(folder: &Path) -> Result<(Watched, String)> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new("bash");
    command
        .arg(project_root().join("tests/kafka/run-kafka.sh"))
        .arg(folder)
        .arg(port.to_string())
        .env("KAFKA_JARS", provided("HIGHWATER_TEST_KAFKA_LIBS")?);
    let mut kafka = Watched::start(&mut command)?;
    kafka.wait_for("READY from Apache Kafka", Duration::from_secs(120), |line| {
        line.contains("READY")
    })?;
    Ok((kafka, format!("127.0.0.1:{port}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java, Maven and Apache Kafka"]
async fn our_client_and_sql_work_on_apache_kafka() -> Result<()> {
    const RECORDS: usize = 1_000;
    let folder = tempfile::tempdir()?;
    let (mut kafka, bootstrap) = tokio::task::block_in_place(|| start_kafka(folder.path()))?;
    let client = Client::connect(ClientConfig::new([bootstrap.clone()])).await?;
    let topic = TopicName::new("from-highwater")?;
    for (_, answer) in client
        .admin()
        .create_topics([NewTopic::new(topic.clone(), 3)])
        .await?
    {
        answer?;
    }
    let consumer = client.consumer(ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        ..ConsumerConfig::in_group("highwater-readers")
    })?;
    consumer.subscribe([topic.clone()])?;
    let codecs = Compression::ALL;
    for compression in codecs {
        let producer = client.producer(ProducerConfig {
            compression,
            ..ProducerConfig::default()
        })?;
        let mut deliveries = Vec::new();
        for number in 0..RECORDS {
            let record =
                ProducerRecord::keyed(topic.clone(), format!("{compression}-{number}"), vec![b'x'; 100]);
            deliveries.push(producer.send(record).await?);
        }
        for delivery in deliveries {
            delivery.await.with_context(|| format!("{compression}"))?;
        }
        producer.close().await;
    }
    let mut keys = std::collections::BTreeSet::new();
    let mut polls = 0;
    while keys.len() < RECORDS * codecs.len() {
        for record in consumer
            .poll(Duration::from_secs(1))
            .await?
            .iter()
            .flat_map(|partition| &partition.records)
        {
            keys.insert(record.key.clone().context("a key")?);
        }
        polls += 1;
        ensure!(
            polls < 60,
            "{} of {} records came",
            keys.len(),
            RECORDS * codecs.len()
        );
    }
    consumer.close().await;
    tokio::task::block_in_place(|| {
        let mut sql = program("highwater")?;
        sql.args([
            "sql",
            "-o",
            "json",
            "--bootstrap",
            &bootstrap,
            "SELECT count(*) AS n FROM \"from-highwater\"",
        ]);
        let rows: serde_json::Value = serde_json::from_str(&run_to_end(&mut sql)?)?;
        assert_eq!(rows, serde_json::json!([{ "n": RECORDS * codecs.len() }]));
        kafka.signal("TERM")?;
        kafka.wait(Duration::from_secs(60)).map(drop)
    })
}
