//! The client library, and SQL over it, against Apache Kafka itself.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use highwater_client::{
    AutoOffsetReset, Client, ClientConfig, ClientError, ConsumerConfig, ProducerConfig, ProducerRecord,
    Properties, TcpTransport, Transport, TransportError, admin::NewTopic,
};
use highwater_types::{TopicName, record::Compression};
use highwater_wire::{RequestBody, messages::MetadataRequest};

use crate::pki::{self, Pki};
use crate::support::{Watched, program, project_root, provided, run_to_end};

/// Starts a single-node Apache Kafka on a free port; with `tls` it has the listeners that `run-kafka.sh` tells of.
fn start_kafka(folder: &Path, tls: Option<&Pki>) -> Result<(Watched, u16)> {
    let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new("bash");
    command
        .arg(project_root().join("tests/kafka/run-kafka.sh"))
        .arg(folder)
        .arg(port.to_string())
        .args(tls.map(Pki::folder))
        .env("KAFKA_JARS", provided("HIGHWATER_TEST_KAFKA_LIBS")?);
    let mut kafka = Watched::start(&mut command)?;
    kafka.wait_for("READY from Apache Kafka", Duration::from_secs(120), |line| {
        line.contains("READY")
    })?;
    Ok((kafka, port))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java, Maven and Apache Kafka"]
async fn our_client_and_sql_work_on_apache_kafka() -> Result<()> {
    const RECORDS: usize = 1_000;
    let folder = tempfile::tempdir()?;
    let (mut kafka, port) = tokio::task::block_in_place(|| start_kafka(folder.path(), None))?;
    let bootstrap = format!("127.0.0.1:{port}");
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

fn config(properties: &str) -> Result<ClientConfig> {
    let mut config = ClientConfig::default();
    config.apply(&Properties::parse(properties, &|_| None)?)?;
    Ok(config)
}

/// Admin, produce, a group's consume and commit, for longer than a session of the broker lasts.
async fn work(properties: &str, topic: &str) -> Result<()> {
    const LASTS: Duration = Duration::from_secs(5);
    let client = Client::connect(config(properties)?).await?;
    let topic = TopicName::new(topic.to_owned())?;
    for (_, answer) in client
        .admin()
        .create_topics([NewTopic::new(topic.clone(), 2)])
        .await?
    {
        answer?;
    }
    let producer = client.producer(ProducerConfig::default())?;
    let consumer = client.consumer(ConsumerConfig {
        auto_offset_reset: AutoOffsetReset::Earliest,
        ..ConsumerConfig::in_group(format!("{topic}-readers"))
    })?;
    consumer.subscribe([topic.clone()])?;
    let started = std::time::Instant::now();
    let (mut sent, mut read) = (0, 0);
    while started.elapsed() < LASTS || read < sent {
        if started.elapsed() < LASTS {
            let record = ProducerRecord::keyed(topic.clone(), format!("{sent}"), vec![b'x'; 100]);
            producer.send(record).await?.await?;
            sent += 1;
        }
        for partition in consumer.poll(Duration::from_millis(200)).await? {
            read += partition.records.len();
        }
        ensure!(
            started.elapsed() < Duration::from_secs(60),
            "{read} of {sent} records came"
        );
    }
    consumer.commit_consumed().await?;
    consumer.close().await;
    producer.close().await;
    Ok(())
}

/// One connection outlives two of the broker's sessions of four seconds: it is authenticated anew in between. A machine
/// that stands still for the tenth of a session that is left then loses it, so there are three tries.
async fn outlive_sessions(properties: &str) -> Result<()> {
    for _ in 0..2 {
        if call_for_ten_seconds(properties).await.is_ok() {
            return Ok(());
        }
    }
    call_for_ten_seconds(properties).await
}

async fn call_for_ten_seconds(properties: &str) -> Result<()> {
    let config = config(properties)?;
    let connection = TcpTransport::new(&config)?.connect(&config.bootstrap[0]).await?;
    let started = std::time::Instant::now();
    while started.elapsed() < Duration::from_secs(10) {
        let request = RequestBody::Metadata(MetadataRequest::default());
        connection.call(12, request).await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// The first error must come at once and for good.
async fn refused(properties: &str, expected: &[&str]) -> Result<()> {
    let error = Client::connect(config(properties)?)
        .await
        .err()
        .context("was not refused")?;
    let words = error.to_string();
    ensure!(!error.is_retriable(), "{words}");
    let is_refusal = matches!(
        error,
        ClientError::Transport(TransportError::Authentication { .. } | TransportError::Tls { .. })
    );
    ensure!(
        is_refusal && expected.iter().all(|part| words.contains(part)),
        "{words}"
    );
    ensure!(!words.contains("wrong-secret"), "{words}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs Java, Maven and Apache Kafka"]
async fn our_client_and_commands_work_on_a_secured_apache_kafka() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let pki = Pki::create(&folder.path().join("tls"))?;
    let (mut kafka, port) = tokio::task::block_in_place(|| start_kafka(folder.path(), Some(&pki)))?;
    let ca = pki.file("ca.pem").display().to_string();
    let plaintext = format!(
        "bootstrap.servers=127.0.0.1:{}\nsecurity.protocol=SASL_PLAINTEXT\n",
        port + 2
    );
    let sasl_ssl = format!(
        "bootstrap.servers=localhost:{}\nsecurity.protocol=SASL_SSL\nssl.truststore.location={ca}\n",
        port + 3
    );
    let ssl = format!(
        "bootstrap.servers=localhost:{}\nsecurity.protocol=SSL\nssl.truststore.location={ca}\n",
        port + 4
    );
    let password = |mechanism: &str, password: &str| {
        format!("sasl.mechanism={mechanism}\nsasl.username=alice\nsasl.password={password}\n")
    };
    let token = format!(
        "sasl.mechanism=OAUTHBEARER\nsasl.oauthbearer.token={}\n",
        pki::token(&pki::claims()?, None)?
    );
    let identity = format!("ssl.keystore.location={}\n", pki.file("client.pem").display());

    let mut ways = vec![(format!("{ssl}{identity}"), "ssl".to_owned())];
    for (listener, name) in [(&plaintext, "clear"), (&sasl_ssl, "tls")] {
        for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
            let way = format!("{listener}{}", password(mechanism, "alice-secret"));
            ways.push((way, format!("{name}-{mechanism}")));
        }
        ways.push((format!("{listener}{token}"), format!("{name}-OAUTHBEARER")));
    }
    // All at once: each mostly waits for the broker's sessions to end.
    let mut running = tokio::task::JoinSet::new();
    for (properties, topic) in ways {
        if topic != "ssl" {
            let properties = properties.clone();
            running.spawn(async move { outlive_sessions(&properties).await });
        }
        running.spawn(async move { work(&properties, &topic).await.with_context(|| topic) });
    }
    while let Some(done) = running.join_next().await {
        done??;
    }

    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let wrong = password(mechanism, "wrong-secret");
        refused(
            &format!("{sasl_ssl}{wrong}"),
            &[mechanism, "localhost:", "password"],
        )
        .await?;
    }
    let strange = Pki::create(&folder.path().join("strange"))?;
    let untrusted = ssl.replace(&ca, &strange.file("ca.pem").display().to_string());
    refused(&untrusted, &["ssl.truststore.location"]).await?;
    refused(&ssl, &["ssl.keystore"]).await?;

    tokio::task::block_in_place(|| {
        let file = folder.path().join("client.properties");
        let way = format!("{sasl_ssl}{}", password("SCRAM-SHA-512", "${env:ALICE}"));
        std::fs::write(&file, way)?;
        commands_work(&file)?;
        kafka.signal("TERM")?;
        kafka.wait(Duration::from_secs(60)).map(drop)
    })
}

/// The command line with nothing but the file.
fn commands_work(file: &Path) -> Result<()> {
    let highwater = |arguments: &[&str]| -> Result<Command> {
        let mut command = program("highwater")?;
        command
            .args(arguments)
            .arg("--command-config")
            .arg(file)
            .env("ALICE", "alice-secret");
        Ok(command)
    };
    run_to_end(&mut highwater(&["topic", "create", "secured"])?)?;
    let mut produce = highwater(&["produce", "secured"])?
        .stdin(Stdio::piped())
        .spawn()?;
    produce
        .stdin
        .take()
        .context("standard input")?
        .write_all(b"one\ntwo\n")?;
    ensure!(produce.wait()?.success(), "the producer failed");
    let rows = run_to_end(&mut highwater(&[
        "sql",
        "-o",
        "json",
        "SELECT count(*) AS n FROM secured",
    ])?)?;
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&rows)?,
        serde_json::json!([{ "n": 2 }])
    );
    let refused = highwater(&["topic", "list"])?
        .env("ALICE", "wrong-secret")
        .output()?;
    let words = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(
        !refused.status.success() && words.contains("SCRAM-SHA-512") && !words.contains("wrong-secret"),
        "{words}"
    );
    Ok(())
}
