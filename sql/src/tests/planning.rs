//! What the log is asked for, and what is left to DataFusion.

use std::sync::atomic::Ordering::Relaxed;

use futures::StreamExt;

use super::*;

/// The lines of the physical plan.
async fn physical_plan(lab: &Lab, sql: &str) -> String {
    let rows = lab
        .engine
        .query(&format!("EXPLAIN {sql}"))
        .await
        .unwrap()
        .collect_rows()
        .await
        .unwrap();
    let mut lines = Vec::new();
    print::json_lines(&rows[0], &mut lines).unwrap();
    let lines = String::from_utf8(lines).unwrap();
    let line = lines.lines().find(|line| line.contains("physical_plan")).unwrap();
    let row: serde_json::Value = serde_json::from_str(line).unwrap();
    row["plan"].as_str().unwrap().trim_end().to_owned()
}

#[tokio::test]
async fn filters_projections_and_limits_reach_the_scan_and_leave_nothing_above_it() {
    let lab = Lab::new(prices()).await;
    let cases = [
        (
            "SELECT price FROM prices WHERE _partition = 0 AND _offset >= 1 AND _timestamp < '1970-01-01T00:00:03Z' LIMIT 5",
            "GlobalLimitExec: skip=0, fetch=5 \
             | TopicScanExec: topic=prices, partitions=[0: 1..4], columns=[price], _timestamp=..=2999, limit=5",
        ),
        // The time index moves the start; a partition without a record that young is left out.
        (
            "SELECT symbol FROM prices WHERE _timestamp >= '1970-01-01T00:00:03Z'",
            "TopicScanExec: topic=prices, partitions=[0: 2..4], columns=[symbol], _timestamp=3000..",
        ),
        ("SELECT symbol FROM prices WHERE _partition = 2", "EmptyExec"),
        (
            "SELECT symbol FROM prices WHERE _offset = 0 AND _offset = 1",
            "EmptyExec",
        ),
        (
            "SELECT symbol FROM prices WHERE _offset IN (0, 3) AND _partition = 0",
            "TopicScanExec: topic=prices, partitions=[0: 0..1 + 3..4], columns=[symbol]",
        ),
        // Within a partition rows come by offset: no sort.
        (
            "SELECT _offset FROM prices WHERE _partition = 0 ORDER BY _offset",
            "TopicScanExec: topic=prices, partitions=[0: 0..4], columns=[_offset]",
        ),
    ];
    for (sql, expected) in cases {
        let plan = physical_plan(&lab, sql).await;
        let plan: Vec<&str> = plan
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with("CooperativeExec"))
            .collect();
        assert_eq!(plan.join(" | "), expected, "{sql}");
    }
}

#[tokio::test]
async fn counting_asks_for_no_column() {
    let lab = Lab::new(prices()).await;
    let plan = physical_plan(&lab, "SELECT count(*) FROM prices").await;
    assert!(
        plan.contains("TopicScanExec: topic=prices, partitions=[0: 0..4, 1: 0..2], columns=[]"),
        "{plan}"
    );
}

#[tokio::test]
async fn a_limit_stops_reading() {
    let reader = MemoryReader::default();
    reader.create("t", 1);
    let value = format!(r#"{{"a":"{}"}}"#, "x".repeat(1_000));
    for _ in 0..1_000 {
        reader.append("t", 0, &[Row::new(1, "k", &value)]);
    }
    let lab = Lab::new(reader).await;
    lab.run("SELECT _offset FROM t LIMIT 1").await.unwrap();
    let before = lab.reader.fetched_bytes.load(Relaxed);
    lab.run("SELECT _offset FROM t LIMIT 3").await.unwrap();
    let read = lab.reader.fetched_bytes.load(Relaxed) - before;
    assert!(read < 100_000, "{read} bytes were read for three rows");
}

#[tokio::test]
async fn dropping_a_result_stops_the_reading() {
    let reader = MemoryReader::default();
    reader.create("t", 1);
    let value = format!(r#"{{"a":"{}"}}"#, "x".repeat(100_000));
    for _ in 0..400 {
        reader.append("t", 0, &[Row::new(1, "k", &value)]);
    }
    let lab = Lab::new(reader).await;
    let mut result = lab.engine.query("SELECT a FROM t").await.unwrap();
    result.next().await.unwrap().unwrap();
    drop(result);
    let stopped_at = lab.reader.fetches.load(Relaxed);
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    let later = lab.reader.fetches.load(Relaxed);
    assert!(
        later <= stopped_at + 1 && later < 8,
        "{stopped_at} fetches became {later}"
    );
}

#[tokio::test]
async fn rows_beyond_the_engine_s_limit_are_cut_with_a_warning() {
    let config = EngineConfig {
        max_rows: Some(2),
        target_partitions: 1,
        ..EngineConfig::default()
    };
    let lab = Lab::with(prices(), config).await;
    lab.check(
        "SELECT _offset FROM prices WHERE _partition = 0",
        "
+---------+
| _offset |
+---------+
| 0       |
| 1       |
+---------+
! the result ends here, at the limit of 2 rows
",
    )
    .await;
    lab.check(
        "SELECT _offset FROM prices WHERE _offset = 0",
        "+---------+\n| _offset |\n+---------+\n| 0       |\n| 0       |\n+---------+",
    )
    .await;
}

#[tokio::test]
async fn a_query_that_needs_more_memory_than_it_may_have_fails_and_says_so() {
    let reader = MemoryReader::default();
    reader.create("t", 1);
    for i in 0..200 {
        let rows: Vec<Row> = (0..100)
            .map(|j| Row::new(1, "k", &format!(r#"{{"a":"{i}-{j}-{}"}}"#, "x".repeat(200))))
            .collect();
        reader.append("t", 0, &rows);
    }
    let config = EngineConfig {
        memory_limit_bytes: 1024 * 1024,
        spill_limit_bytes: 0,
        target_partitions: 1,
        ..EngineConfig::default()
    };
    let lab = Lab::with(reader, config).await;
    let error = lab
        .error("SELECT a, count(*) FROM t GROUP BY a ORDER BY 2, 1")
        .await;
    assert!(error.starts_with("53200 Resources exhausted"), "{error}");
}
