//! The sink against a real SQLite file: upserts, tables that grow, records that do not fit.

use highwater_connect_api::{
    Data, Offset, PartitionId, Settings, SinkContext, SinkError, SinkPlugin, SinkRecord, SinkTask, Timestamp,
    TopicName, TopicPartition,
};
use highwater_connector_database::DatabaseSink;
use serde_json::{Value, json};
use sqlx::Row as _;

fn record(offset: i64, value: Value) -> SinkRecord {
    SinkRecord {
        topic_partition: TopicPartition::new(TopicName::new("candles").expect("legal"), PartitionId::new(0)),
        offset: Offset::new(offset),
        timestamp: Timestamp::new(0),
        key: Data::text("k"),
        value: Data::Json(value),
        headers: Vec::new(),
    }
}

async fn sink(folder: &tempfile::TempDir, more: Value) -> (Box<dyn SinkTask>, String) {
    let url = format!("sqlite:{}", folder.path().join("out.db").display());
    let mut settings = json!({ "url": url, "pk_fields": ["symbol", "minute"] });
    for (key, value) in more.as_object().expect("an object") {
        settings[key] = value.clone();
    }
    let settings = Settings::from_json(settings);
    assert_eq!(DatabaseSink.config().check(&settings), []);
    assert_eq!(DatabaseSink.check(&settings), []);
    let mut task = DatabaseSink.task();
    task.start(SinkContext::default(), &settings)
        .await
        .expect("it opens");
    (task, url)
}

async fn rows(url: &str, sql: &'static str) -> Vec<(String, i64, f64)> {
    let pool = sqlx::SqlitePool::connect(url).await.expect("the file is there");
    let rows = sqlx::query(sql)
        .fetch_all(&pool)
        .await
        .expect("the table is there");
    rows.iter()
        .map(|row| (row.get(0), row.get(1), row.get(2)))
        .collect()
}

#[tokio::test]
async fn a_redelivered_batch_leaves_one_row_per_key_with_the_last_values() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut task, url) = sink(&folder, json!({})).await;
    let batch = [
        record(0, json!({ "symbol": "BTC", "minute": 1, "close": 10.5 })),
        record(1, json!({ "symbol": "BTC", "minute": 1, "close": 11.5 })),
        record(2, json!({ "symbol": "BTC", "minute": 2, "close": 12 })),
    ];
    task.put(&batch).await.expect("written");
    task.put(&batch).await.expect("written again");
    task.flush().await.expect("durable");
    task.stop().await;
    let rows = rows(&url, "select symbol, minute, close from candles order by minute").await;
    assert_eq!(rows, [("BTC".to_owned(), 1, 11.5), ("BTC".to_owned(), 2, 12.0)]);
}

#[tokio::test]
async fn a_new_field_becomes_a_column_and_an_absent_one_keeps_its_value() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut task, url) = sink(&folder, json!({})).await;
    task.put(&[record(0, json!({ "symbol": "BTC", "minute": 1, "close": 1.5 }))])
        .await
        .expect("written");
    task.put(&[record(1, json!({ "symbol": "BTC", "minute": 1, "volume": 7.5 }))])
        .await
        .expect("widened");
    task.stop().await;
    let close = rows(&url, "select symbol, minute, close from candles").await;
    let volume = rows(&url, "select symbol, minute, volume from candles").await;
    assert_eq!((close[0].2, volume[0].2), (1.5, 7.5));
}

#[tokio::test]
async fn a_record_that_does_not_fit_is_rejected_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut task, url) = sink(&folder, json!({})).await;
    let batch = [
        record(0, json!({ "symbol": "BTC", "minute": 1, "close": 1.5 })),
        record(1, json!({ "minute": 2, "close": 2.5 })),
        record(2, json!({ "symbol": "BTC", "minute": 3, "close": 3.5 })),
    ];
    let error = task.put(&batch).await.expect_err("one has no key");
    assert!(
        matches!(&error, SinkError::Rejected(rejected) if rejected.len() == 1 && rejected[0].offset == Offset::new(1))
    );
    task.stop().await;
    assert_eq!(
        rows(&url, "select symbol, minute, close from candles")
            .await
            .len(),
        2
    );
}

#[tokio::test]
async fn a_missing_table_is_named_when_it_may_not_be_created() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut task, _) = sink(&folder, json!({ "auto_create": false })).await;
    let error = task
        .put(&[record(0, json!({ "symbol": "BTC", "minute": 1 }))])
        .await
        .expect_err("no table");
    assert!(error.to_string().contains("no table candles"), "{error}");
    assert!(error.to_string().contains("auto_create"), "{error}");
}

#[tokio::test]
async fn names_with_quotes_and_statements_in_them_are_only_names() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut task, url) = sink(&folder, json!({})).await;
    let hostile = "x\"); drop table candles; --";
    task.put(&[record(0, json!({ "symbol": "BTC", "minute": 1, hostile: 1.5 }))])
        .await
        .expect("only a name");
    task.stop().await;
    assert_eq!(
        rows(
            &url,
            "select symbol, minute, \"x\"\"); drop table candles; --\" from candles"
        )
        .await[0]
            .2,
        1.5
    );
}
