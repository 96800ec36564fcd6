//! SQL over a node in this process: the client's reading, end to end.

use std::time::Duration;

use futures::StreamExt;
use highwater_client::{ProducerConfig, ProducerRecord, admin::NewTopic};
use highwater_embedded::{Embedded, EmbeddedConfig};
use highwater_sql::{Engine, EngineConfig, print};
use highwater_types::{PartitionId, Timestamp, TopicName};

async fn rows(engine: &Engine, sql: &str) -> String {
    let mut result = engine
        .query(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error}"));
    let mut csv = Vec::new();
    while let Some(batch) = result.next().await {
        print::csv(&batch.unwrap(), &mut csv).unwrap();
    }
    assert_eq!(result.warnings(), [""; 0], "{sql}");
    String::from_utf8(csv).unwrap().trim_end().replace('\n', " ")
}

#[tokio::test]
async fn a_topic_of_a_real_node_answers_as_a_table() {
    let data = tempfile::tempdir().unwrap();
    let embedded = Embedded::start(EmbeddedConfig::new(data.path())).await.unwrap();
    let client = embedded.client().clone();
    let topic = TopicName::new("btc-prices").unwrap();
    client
        .admin()
        .create_topics(vec![NewTopic::new(topic.clone(), 3)])
        .await
        .unwrap();
    let producer = client.producer(ProducerConfig::default()).unwrap();
    let mut deliveries = Vec::new();
    for n in 0..3_000_i64 {
        let value = format!(r#"{{"n":{n},"price":{}.5,"symbol":"S{}"}}"#, n * 2, n % 7);
        let record = ProducerRecord {
            partition: Some(PartitionId::new((n % 3) as i32)),
            timestamp: Some(Timestamp::new(1_000_000 + n)),
            ..ProducerRecord::keyed(topic.clone(), format!("k{n}"), value)
        };
        deliveries.push(producer.send(record).await.unwrap());
    }
    futures::future::try_join_all(deliveries).await.unwrap();

    let engine = Engine::new(client.clone(), EngineConfig::default())
        .await
        .unwrap();
    assert_eq!(engine.tables().await.unwrap(), ["btc-prices"]);
    let cases = [
        (
            "SELECT count(*), count(DISTINCT n), sum(n), max(price) FROM \"btc-prices\"",
            "3000,3000,4498500,5998.5",
        ),
        (
            "SELECT _partition, count(*) FROM \"btc-prices\" GROUP BY 1 ORDER BY 1",
            "0,1000 1,1000 2,1000",
        ),
        (
            "SELECT n, _key FROM \"btc-prices\" WHERE _partition = 1 AND _offset = 999",
            "2998,k2998",
        ),
        (
            "SELECT min(n), count(*) FROM \"btc-prices\" WHERE _timestamp >= to_timestamp_millis(1002990)",
            "2990,10",
        ),
        (
            "SELECT symbol, count(*) FROM \"btc-prices\" GROUP BY symbol ORDER BY 1 LIMIT 2",
            "S0,429 S1,429",
        ),
    ];
    for (sql, expected) in cases {
        assert_eq!(rows(&engine, sql).await, expected, "{sql}");
    }

    // What is written later is in the next query, and a name that is no topic creates none.
    let late = producer
        .send(ProducerRecord::keyed(topic, "late", r#"{"n":-1}"#))
        .await
        .unwrap();
    late.await.unwrap();
    assert_eq!(rows(&engine, "SELECT min(n) FROM \"btc-prices\"").await, "-1");
    let error = engine.query("SELECT * FROM btc_prices").await.unwrap_err();
    assert!(
        error.to_string().contains("there is a topic btc-prices"),
        "{error}"
    );
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(engine.tables().await.unwrap(), ["btc-prices"]);

    producer.close().await;
    embedded.shutdown().await.unwrap();
}
