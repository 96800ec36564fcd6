//! Which tables there are and what columns they have.

use super::*;

#[tokio::test]
async fn topics_are_tables_and_can_be_described() {
    let reader = prices();
    reader.create("my-topic", 1);
    reader.create("__consumer_offsets", 1);
    let lab = Lab::new(reader).await;
    lab.check(
        "SHOW TABLES",
        "
+------------+
| table_name |
+------------+
| my-topic   |
| prices     |
+------------+
",
    )
    .await;
    assert_eq!(lab.engine.tables().await.unwrap(), ["my-topic", "prices"]);
    let described = "
+-------------+------------------------------------------------------------+-------------+
| column_name | data_type                                                  | is_nullable |
+-------------+------------------------------------------------------------+-------------+
| symbol      | Utf8                                                       | YES         |
| price       | Float64                                                    | YES         |
| volume      | Int64                                                      | YES         |
| closeTime   | Int64                                                      | YES         |
| venue       | Struct(\"name\": Utf8, \"id\": Int64)                          | YES         |
| _key        | Utf8                                                       | YES         |
| _partition  | Int32                                                      | NO          |
| _offset     | Int64                                                      | NO          |
| _timestamp  | Timestamp(ms, \"UTC\")                                       | NO          |
| _headers    | List(non-null Struct(\"key\": non-null Utf8, \"value\": Utf8)) | NO          |
+-------------+------------------------------------------------------------+-------------+
";
    lab.check("DESCRIBE prices", described).await;
    lab.check("SHOW COLUMNS FROM prices", described).await;
    lab.check(
        "SELECT column_name FROM information_schema.columns WHERE table_name = 'my-topic'",
        "
+-------------+
| column_name |
+-------------+
| _value      |
| _key        |
| _partition  |
| _offset     |
| _timestamp  |
| _headers    |
+-------------+
",
    )
    .await;
    lab.check(
        "SELECT count(*) AS n FROM __consumer_offsets",
        "+---+\n| n |\n+---+\n| 0 |\n+---+",
    )
    .await;
}

#[tokio::test]
async fn new_topics_and_new_fields_are_picked_up() {
    let config = EngineConfig {
        schema_ttl: std::time::Duration::ZERO,
        ..EngineConfig::default()
    };
    let lab = Lab::with(prices(), config).await;
    lab.run("SELECT price FROM prices").await.unwrap();
    lab.reader.append(
        "prices",
        0,
        &[Row::new(9, "BTC", r#"{"price":1,"exchange":"kraken"}"#)],
    );
    lab.check(
        "SELECT exchange FROM prices WHERE exchange IS NOT NULL",
        "+----------+\n| exchange |\n+----------+\n| kraken   |\n+----------+",
    )
    .await;
    lab.reader.create("fresh", 1);
    lab.reader.append("fresh", 0, &[Row::new(1, "k", r#"{"a":1}"#)]);
    lab.check("SELECT a FROM fresh", "+---+\n| a |\n+---+\n| 1 |\n+---+")
        .await;
    // Deleted and created anew: what the old one taught is forgotten.
    lab.reader.create("prices", 1);
    lab.reader
        .append("prices", 0, &[Row::new(1, "k", r#"{"other":1}"#)]);
    let error = lab.error("SELECT price FROM prices").await;
    assert!(error.starts_with("42703 "), "{error}");
}

#[tokio::test]
async fn declared_tables_read_values_as_they_were_declared() {
    let lab = Lab::new(prices()).await;
    lab.run(
        "CREATE TABLE exact (price DECIMAL(10, 2), \"closeTime\" TIMESTAMP, missing DOUBLE, symbol VARCHAR NOT NULL)
         WITH (topic = 'prices')",
    )
    .await
    .unwrap();
    lab.check(
        "SELECT price, \"closeTime\", missing, symbol, _offset FROM exact WHERE _partition = 0 AND _offset < 2",
        "
+----------+--------------------------+---------+--------+---------+
| price    | closeTime                | missing | symbol | _offset |
+----------+--------------------------+---------+--------+---------+
| 64000.10 | 1970-01-01T00:00:01.059Z |         | BTC    | 0       |
| 64010.00 | 1970-01-01T00:00:02.059Z |         | BTC    | 1       |
+----------+--------------------------+---------+--------+---------+
",
    )
    .await;
    assert_eq!(lab.engine.tables().await.unwrap(), ["exact", "prices"]);
    lab.run("CREATE OR REPLACE TABLE exact (volume TINYINT) WITH (topic = prices, misfits = 'fail')")
        .await
        .unwrap();
    lab.check(
        "SELECT max(volume) AS v FROM exact",
        "+----+\n| v  |\n+----+\n| 50 |\n+----+",
    )
    .await;
    lab.reader
        .append("prices", 2, &[Row::new(1, "k", r#"{"volume":1000}"#)]);
    assert_eq!(
        lab.error("SELECT max(volume) FROM exact").await,
        "22P02 the value of prices-2 offset 0 has volume = 1000, which does not fit the column; misfits = 'null' \
         would show NULL instead"
    );
    lab.run("DROP TABLE exact").await.unwrap();
    assert_eq!(lab.engine.tables().await.unwrap(), ["prices"]);
}

#[tokio::test]
async fn tables_can_be_declared_in_the_configuration() {
    let declared = "CREATE TABLE p (price DOUBLE) WITH (topic = 'prices')".to_owned();
    let config = EngineConfig {
        declared_tables: vec![declared],
        ..EngineConfig::default()
    };
    let lab = Lab::with(prices(), config).await;
    lab.check(
        "SELECT max(price) AS m FROM p",
        "+---------+\n| m       |\n+---------+\n| 64020.0 |\n+---------+",
    )
    .await;
}
