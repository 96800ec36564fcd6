//! What queries read.

use highwater_types::record::{BatchOptions, Compression, TimestampType};

use super::*;

#[tokio::test]
async fn value_fields_come_first_and_the_log_s_columns_last() {
    let lab = Lab::new(prices()).await;
    lab.check(
        "SELECT * FROM prices ORDER BY _timestamp LIMIT 2",
        "
+--------+---------+--------+-----------+------------------------+------+------------+---------+--------------------------+----------+
| symbol | price   | volume | closeTime | venue                  | _key | _partition | _offset | _timestamp               | _headers |
+--------+---------+--------+-----------+------------------------+------+------------+---------+--------------------------+----------+
| BTC    | 64000.1 | 2      | 1059      | {name: binance, id: 7} | BTC  | 0          | 0       | 1970-01-01T00:00:01Z     | []       |
| ETH    | 3000.0  | 40     | 1559      | {name: binance, id: 7} | ETH  | 1          | 0       | 1970-01-01T00:00:01.500Z | []       |
+--------+---------+--------+-----------+------------------------+------+------------+---------+--------------------------+----------+
",
    )
    .await;
}

#[tokio::test]
async fn aggregates_joins_and_nested_fields_work_as_in_any_sql() {
    let lab = Lab::new(prices()).await;
    lab.check(
        "SELECT symbol, max(price) AS high, sum(volume) AS volume, count(*) AS n FROM prices GROUP BY symbol ORDER BY 1",
        "
+--------+---------+--------+---+
| symbol | high    | volume | n |
+--------+---------+--------+---+
| BTC    | 64020.0 | 8      | 4 |
| ETH    | 3001.5  | 90     | 2 |
+--------+---------+--------+---+
",
    )
    .await;
    lab.check(
        "SELECT a.symbol, count(*) AS pairs FROM prices a JOIN highwater.public.prices b
         ON a.symbol = b.symbol AND a._offset < b._offset GROUP BY a.symbol ORDER BY 1",
        "
+--------+-------+
| symbol | pairs |
+--------+-------+
| BTC    | 6     |
| ETH    | 1     |
+--------+-------+
",
    )
    .await;
    lab.check(
        "SELECT DISTINCT venue['name'] AS venue, \"closeTime\" % 100 AS c FROM prices",
        "
+---------+----+
| venue   | c  |
+---------+----+
| binance | 59 |
+---------+----+
",
    )
    .await;
    lab.check(
        "SELECT date_bin(INTERVAL '2 seconds', _timestamp) AS bin, count(*) AS n FROM prices GROUP BY bin ORDER BY bin",
        "
+----------------------+---+
| bin                  | n |
+----------------------+---+
| 1970-01-01T00:00:00Z | 2 |
| 1970-01-01T00:00:02Z | 3 |
| 1970-01-01T00:00:04Z | 1 |
+----------------------+---+
",
    )
    .await;
}

#[tokio::test]
async fn filters_on_the_log_s_columns_cut_inside_batches() {
    let lab = Lab::new(prices()).await;
    let cases = [
        ("_partition = 1", "1:0 1:1"),
        ("_partition IN (0, 2) AND _offset >= 3", "0:3"),
        ("_offset = 1", "0:1 1:1"),
        ("_offset IN (0, 3)", "0:0 0:3 1:0"),
        ("_offset <> 1 AND _partition = 0", "0:0 0:2 0:3"),
        ("_offset BETWEEN 1 AND 2", "0:1 0:2 1:1"),
        ("_offset > 100", ""),
        ("_timestamp >= '1970-01-01T00:00:02.5Z'", "0:2 0:3 1:1"),
        ("_timestamp < '1970-01-01T00:00:01.5Z'", "0:0"),
        (
            "_timestamp BETWEEN '1970-01-01T00:00:01.5Z' AND to_timestamp_millis(2000)",
            "0:1 1:0",
        ),
        ("_timestamp > now()", ""),
        (
            "_timestamp > '1970-01-01T00:00:03Z' OR _timestamp = '1970-01-01T00:00:01Z'",
            "0:0 0:3",
        ),
        ("_offset = 1 AND symbol = 'ETH'", "1:1"),
        ("price > 64005 AND _timestamp < '1970-01-01T00:00:04Z'", "0:1"),
        ("_offset = 1 OR symbol = 'ETH'", "0:1 1:0 1:1"),
        ("NOT (_offset < 3)", "0:3"),
    ];
    for (filter, expected) in cases {
        let sql =
            format!("SELECT _partition, _offset FROM prices WHERE {filter} ORDER BY _partition, _offset");
        let rows = lab
            .engine
            .query(&sql)
            .await
            .unwrap()
            .collect_rows()
            .await
            .unwrap();
        let mut csv = Vec::new();
        for batch in &rows {
            print::csv(batch, &mut csv).unwrap();
        }
        let got = String::from_utf8(csv)
            .unwrap()
            .replace(',', ":")
            .replace('\n', " ");
        assert_eq!(got.trim(), expected, "{filter}");
    }
}

#[tokio::test]
async fn every_codec_reads_the_same() {
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let mut reader = MemoryReader::default();
        reader.compression = Some(codec);
        reader.create("t", 1);
        reader.append(
            "t",
            0,
            &[Row::new(1, "k", r#"{"a":1}"#), Row::new(2, "k", r#"{"a":2}"#)],
        );
        let lab = Lab::new(reader).await;
        lab.check("SELECT sum(a) AS s FROM t", "+---+\n| s |\n+---+\n| 3 |\n+---+")
            .await;
    }
}

#[tokio::test]
async fn counting_counts_records_and_not_offsets() {
    let reader = prices();
    reader.append_with(
        "prices",
        2,
        &[Row::new(1, "marker", "")],
        BatchOptions {
            is_control: true,
            is_transactional: true,
            producer: Some(highwater_types::record::ProducerStamp {
                id: highwater_types::ProducerId::new(1),
                epoch: highwater_types::ProducerEpoch::new(0),
                base_sequence: None,
            }),
            ..BatchOptions::default()
        },
    );
    reader.append(
        "prices",
        2,
        &[Row::new(9_000, "SOL", "{}"), Row::new(9_001, "SOL", "{}")],
    );
    reader.append("prices", 2, &[Row::new(9_002, "SOL", "{}")]);
    reader.punch("prices", 2, 1);
    let lab = Lab::new(reader).await;
    lab.check(
        "SELECT count(*) AS n FROM prices",
        "+---+\n| n |\n+---+\n| 7 |\n+---+",
    )
    .await;
    lab.check(
        "SELECT count(*) AS n FROM prices WHERE _partition = 0 AND _offset > 0",
        "+---+\n| n |\n+---+\n| 3 |\n+---+",
    )
    .await;
    lab.check(
        "SELECT _partition, min(_offset) AS lo, max(_offset) AS hi FROM prices GROUP BY _partition ORDER BY 1",
        "
+------------+----+----+
| _partition | lo | hi |
+------------+----+----+
| 0          | 0  | 3  |
| 1          | 0  | 1  |
| 2          | 3  | 3  |
+------------+----+----+
",
    )
    .await;
}

#[tokio::test]
async fn a_query_reads_the_snapshot_it_was_planned_on() {
    let lab = Lab::new(prices()).await;
    let mut result = lab
        .engine
        .query("SELECT count(*) AS n FROM prices")
        .await
        .unwrap();
    lab.reader.append("prices", 0, &[Row::new(5_000, "BTC", "{}")]);
    let rows = result.collect_rows().await.unwrap();
    assert!(print::table(result.schema(), &rows).unwrap().contains("| 6 |"));
    assert!(
        lab.run("SELECT count(*) FROM prices")
            .await
            .unwrap()
            .contains("| 7 ")
    );
}

#[tokio::test]
async fn records_that_expire_while_a_query_reads_are_passed_over_with_a_warning() {
    let lab = Lab::new(prices()).await;
    let mut result = lab
        .engine
        .query("SELECT _offset FROM prices WHERE _partition = 0 ORDER BY _offset")
        .await
        .unwrap();
    lab.reader.expire("prices", 0, 2);
    let rows = result.collect_rows().await.unwrap();
    assert_eq!(rows.iter().map(|batch| batch.num_rows()).sum::<usize>(), 2);
    assert_eq!(
        result.warnings(),
        ["2 offsets left the log while the query was reading; first: prices-0"]
    );
}

#[tokio::test]
async fn hostile_101_values_that_do_not_fit_are_null_with_a_warning_and_widen_the_schema_for_the_next_query()
{
    let reader = MemoryReader::default();
    reader.create("t", 1);
    let rows: Vec<Row> = (0..10)
        .map(|i| Row::new(i, "k", &format!(r#"{{"a":{i}}}"#)))
        .collect();
    reader.append("t", 0, &rows[..5]);
    reader.append(
        "t",
        0,
        &[
            Row::new(5, "k", r#"{"a":0.5}"#),
            Row::new(6, "k", "{oops"),
            Row::new(7, "k", "[1]"),
        ],
    );
    reader.append("t", 0, &rows[5..]);
    // A sample of one record at either end does not see the middle.
    let config = EngineConfig {
        schema_sample_records: 1,
        target_partitions: 1,
        ..EngineConfig::default()
    };
    let lab = Lab::with(reader, config).await;
    lab.check(
        "SELECT sum(a) AS s, count(a) AS n FROM t",
        "
+----+----+
| s  | n  |
+----+----+
| 45 | 10 |
+----+----+
! 2 values are not a JSON object and shown as NULL; first: t-0 offset 6: key must be a string at line 1 column 2
! 1 value did not fit the column's type and is shown as NULL; first: t-0 offset 5: a = 0.5. A sampled schema has learned them by now: run the query again. A declared one needs another type.
",
    )
    .await;
    lab.check(
        "SELECT sum(a) AS s, count(a) AS n FROM t WHERE _offset < 6",
        "+------+---+\n| s    | n |\n+------+---+\n| 10.5 | 6 |\n+------+---+",
    )
    .await;
}

#[tokio::test]
async fn keys_values_and_headers_that_are_no_text_are_binary() {
    let reader = MemoryReader::default();
    reader.create("raw", 1);
    reader.append(
        "raw",
        0,
        &[
            Row {
                at_ms: 1,
                key: Some(vec![0, 255]),
                value: Some(b"plain text".to_vec()),
                headers: vec![header("trace", Some(b"abc")), header("trace", None)],
            },
            Row {
                at_ms: 2,
                key: None,
                value: None,
                headers: vec![header("bytes", Some(&[255]))],
            },
        ],
    );
    let lab = Lab::new(reader).await;
    lab.check(
        "SELECT _value, _key, _headers FROM raw",
        "
+------------+------+------------------------------------------------------+
| _value     | _key | _headers                                             |
+------------+------+------------------------------------------------------+
| plain text | 00ff | [{key: trace, value: 616263}, {key: trace, value: }] |
|            |      | [{key: bytes, value: ff}]                            |
+------------+------+------------------------------------------------------+
",
    )
    .await;
}

#[tokio::test]
async fn time_of_append_is_the_timestamp_where_the_topic_says_so() {
    let reader = MemoryReader::default();
    reader.create("t", 1);
    let options = BatchOptions {
        timestamp_type: TimestampType::LogAppendTime,
        ..BatchOptions::default()
    };
    reader.append_with(
        "t",
        0,
        &[
            Row::new(1_000, "k", "{\"a\":1}"),
            Row::new(5_000, "k", "{\"a\":2}"),
        ],
        options,
    );
    let lab = Lab::new(reader).await;
    lab.check(
        "SELECT a FROM t WHERE _timestamp >= '1970-01-01T00:00:05Z'",
        "+---+\n| a |\n+---+\n| 1 |\n| 2 |\n+---+",
    )
    .await;
}

#[tokio::test]
async fn a_large_topic_is_read_in_many_fetches_without_losing_or_repeating_a_row() {
    let reader = MemoryReader::default();
    reader.create("big", 4);
    let filler = "x".repeat(200);
    for batch in 0..400_i64 {
        let rows: Vec<Row> = (0..50)
            .map(|i| {
                Row::new(
                    batch,
                    "k",
                    &format!(r#"{{"n":{},"filler":"{filler}"}}"#, batch * 50 + i),
                )
            })
            .collect();
        reader.append("big", (batch % 4) as usize, &rows);
    }
    let config = EngineConfig {
        memory_limit_bytes: 16 * 1024 * 1024,
        ..EngineConfig::default()
    };
    let lab = Lab::with(reader, config).await;
    lab.check(
        "SELECT count(*) AS n, count(DISTINCT n) AS d, min(n) AS lo, max(n) AS hi, sum(length(filler)) AS l FROM big",
        "
+-------+-------+----+-------+---------+
| n     | d     | lo | hi    | l       |
+-------+-------+----+-------+---------+
| 20000 | 20000 | 0  | 19999 | 4000000 |
+-------+-------+----+-------+---------+
",
    )
    .await;
    let fetches = lab.reader.fetches.load(std::sync::atomic::Ordering::Relaxed);
    assert!(
        fetches > 8,
        "{fetches} fetches are too few to have tested anything"
    );
}
