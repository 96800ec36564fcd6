//! Functions that make long values.

use super::*;

#[tokio::test]
async fn hostile_99_texts_and_lists_that_would_fill_the_memory_are_refused_before_they_are_made() {
    let lab = Lab::new(prices()).await;
    for sql in [
        "SELECT length(repeat(repeat('x', 100000), 100000))",
        "SELECT repeat('x', 9223372036854775807)",
        "SELECT repeat(symbol, 1000000) FROM prices",
        "SELECT repeat(repeat(symbol, 1000), 1000) FROM prices",
        "SELECT lpad('x', 2000000000)",
        "SELECT lpad(symbol, 2000000000, 'ab') FROM prices",
        "SELECT rpad(symbol, 2000000000) FROM prices",
        "SELECT replace(repeat('x', 1000000), 'x', repeat('y', 1000000))",
        "SELECT replace(repeat(symbol, 100000), 'T', repeat('y', 1000)) FROM prices",
        "SELECT concat(repeat('x', 600000), repeat('x', 600000))",
        "SELECT repeat('x', 600000) || repeat('x', 600000)",
        "SELECT repeat(symbol, 200000) || repeat(symbol, 200000) FROM prices",
        "SELECT concat_ws(repeat('x', 600000), 'a', 'b', 'c')",
        "SELECT overlay(repeat('x', 600000) placing repeat('x', 600000) from 1)",
        "SELECT array_repeat(repeat('x', 1000000), 1000000)",
        "SELECT array_repeat(symbol, 1000000000) FROM prices",
        "SELECT cardinality(array_repeat(array_repeat(1, 1000000), 1000000))",
        "SELECT array_resize([1], 1000000000, 0)",
        "SELECT array_to_string(range(0, 1000000), repeat('x', 1000000))",
        "SELECT array_replace_all(array_repeat('a', 100000), 'a', repeat('x', 1000000))",
        "SELECT range(0, 100000000000)",
        "SELECT generate_series(0, 9223372036854775807)",
        "SELECT generate_series(TIMESTAMP '1970-01-01', TIMESTAMP '2200-01-01', INTERVAL '1 second')",
        "SELECT unnest(range(0, 1000000)), repeat('x', 1000000)",
        "SELECT unnest(range(0, 1000000 + _offset)), repeat(symbol, 1000) FROM prices",
        "SELECT * FROM (VALUES (repeat('x', 5000000000))) AS v",
        "SELECT count(*) FROM prices WHERE repeat(symbol, 1000000000) = 'x'",
        "SELECT symbol FROM prices ORDER BY repeat(symbol, 1000000000)",
        "WITH RECURSIVE r AS (SELECT 'xxxxxxxx' AS s UNION ALL SELECT s || s FROM r) SELECT max(length(s)) FROM r",
    ] {
        let refused = lab.error(sql).await;
        assert!(refused.starts_with("53200 "), "{sql}: {refused}");
        assert!(refused.contains("would make"), "{sql}: {refused}");
    }
    let refused = lab.error("SELECT repeat('x', 2000000)").await;
    assert!(
        refused.contains("repeat would make a text of about 2000000 bytes")
            && refused.contains("may have more than 1048576"),
        "{refused}"
    );
}

#[tokio::test]
async fn what_people_ask_of_such_functions_works_as_before() {
    let lab = Lab::new(prices()).await;
    for (sql, expected) in [
        (
            "SELECT lpad('7', 3, '0') AS a, rpad('x', 3, '-') AS b, repeat('ab', 3) AS c",
            "007 x-- ababab",
        ),
        (
            "SELECT 'a' || 'b' AS a, 'n' || 7 AS b, coalesce('a' || NULL, 'nothing') AS c",
            "ab n7 nothing",
        ),
        (
            "SELECT concat('a', NULL, 1) AS a, concat_ws('-', 'a', 'b') AS b",
            "a1 a-b",
        ),
        (
            "SELECT [1] || [2] AS a, range(0, 3) AS b, array_repeat('x', 2) AS c",
            "[1, 2] [0, 1, 2] [x, x]",
        ),
        (
            "SELECT min(symbol || '/' || lpad(symbol, 5, '.')) AS a FROM prices",
            "BTC/..BTC",
        ),
        (
            "SELECT count(*) AS a FROM (SELECT unnest(range(0, 1000000)))",
            "1000000",
        ),
        (
            "SELECT count(*) AS a, sum(u) AS b FROM (SELECT unnest(range(0, 1000)) AS u, repeat(symbol, 2000) AS r FROM prices)",
            "6000 2997000",
        ),
        (
            "SELECT count(*) AS a, max(length(p)) AS b FROM (SELECT lpad(value::varchar, 20, '0') AS p FROM \
          generate_series(1, 1000000))",
            "1000000 20",
        ),
        (
            "SELECT max(length(t)) AS a FROM (SELECT repeat('x', 1000000) AS t FROM generate_series(1, 1000))",
            "1000000",
        ),
    ] {
        let printed = lab
            .run(sql)
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"));
        let row: Vec<&str> = printed
            .lines()
            .nth(3)
            .unwrap_or_else(|| panic!("{sql}: {printed}"))
            .split('|')
            .map(str::trim)
            .filter(|cell| !cell.is_empty())
            .collect();
        assert_eq!(row.join(" "), expected, "{sql}");
    }
}

#[tokio::test]
async fn columns_keep_the_names_they_had_without_a_bound() {
    let lab = Lab::new(prices()).await;
    let result = lab
        .engine
        .query("SELECT symbol || '!', repeat(symbol, 2), concat(symbol, 'x') FROM prices GROUP BY 1, 2, 3")
        .await
        .unwrap();
    let schema = result.schema();
    let names: Vec<&str> = schema
        .fields()
        .iter()
        .map(|field| field.name().as_str())
        .collect();
    assert_eq!(
        names,
        [
            "prices.symbol || Utf8(\"!\")",
            "repeat(prices.symbol,Int64(2))",
            "concat(prices.symbol,Utf8(\"x\"))"
        ]
    );
}

#[tokio::test]
async fn long_constants_and_made_values_make_batches_small_and_sessions_cannot_make_them_huge() {
    let lab = Lab::new(prices()).await;
    let rows = async |sql: &str| -> Vec<usize> {
        let mut result = lab.engine.query(sql).await.unwrap();
        let batches = result.collect_rows().await.unwrap();
        batches.iter().map(|batch| batch.num_rows()).collect()
    };
    let long = rows("SELECT repeat('x', 1000000), value FROM generate_series(1, 600)").await;
    assert!(long.iter().all(|rows| *rows <= 67), "{long:?}");
    assert_eq!(long.iter().sum::<usize>(), 600);
    let joined = rows(
        "SELECT a.p FROM (SELECT repeat(symbol, 10) AS p FROM prices) a CROSS JOIN generate_series(1, 2000)",
    )
    .await;
    assert!(joined.iter().all(|rows| *rows <= 64 * 6), "{joined:?}");
    let session = lab.engine.session();
    session
        .query("SET datafusion.execution.batch_size = 100000000")
        .await
        .unwrap();
    let mut result = session
        .query("SELECT value FROM generate_series(1, 200000)")
        .await
        .unwrap();
    let batches = result.collect_rows().await.unwrap();
    assert!(batches.iter().all(|batch| batch.num_rows() <= 65_536));
}
