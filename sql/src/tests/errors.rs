//! What is refused, and whether the message helps.

use super::*;

#[tokio::test]
async fn statements_that_write_are_refused_with_a_reason() {
    let lab = Lab::new(prices()).await;
    let statements = [
        "INSERT INTO prices VALUES (1)",
        "UPDATE prices SET price = 1",
        "DELETE FROM prices",
        "TRUNCATE prices",
        "COPY prices TO '/tmp/x.csv'",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "CREATE VIEW v AS SELECT 1",
        "CREATE SCHEMA s",
        "CREATE DATABASE d",
        "CREATE FUNCTION f() RETURNS INT RETURN 1",
        "DROP TABLE prices",
        "DROP SCHEMA public",
        "ALTER TABLE prices ADD COLUMN x INT",
        "BEGIN",
        "EXPLAIN INSERT INTO prices VALUES (1)",
        "SET datafusion.runtime.memory_limit = '100G'",
        "SET datafusion.catalog.location = '/etc'",
    ];
    for statement in statements {
        let error = lab.error(statement).await;
        assert!(
            error.starts_with("0A000 ") && error.contains(" is refused: "),
            "{statement}: {error}"
        );
    }
    assert_eq!(
        lab.error("insert into prices values (1)").await,
        "0A000 INSERT is refused: SQL reads topics and does not write them; use `highwater produce`, a producer or a \
         source connector"
    );
    // Where the parser's tree shows a query, the plan shows what it is.
    let error = lab
        .error("WITH x AS (SELECT 1) INSERT INTO prices SELECT * FROM x")
        .await;
    assert!(!error.starts_with("XX"), "{error}");
}

#[tokio::test]
async fn mistakes_in_names_come_with_a_hint_and_the_sqlstate_of_postgres() {
    let reader = prices();
    reader.create("my-topic", 1);
    reader.create("orders.v1", 1);
    let lab = Lab::new(reader).await;
    lab.engine.tables().await.unwrap();
    let cases = [
        (
            "SELECT * FROM my-topic",
            "42601",
            "write \"my-topic\" in double quotes",
        ),
        (
            "SELECT * FROM orders.v1",
            "42P01",
            "write \"orders.v1\" in double quotes",
        ),
        ("SELECT * FROM Prices", "42P01", "there is a topic prices"),
        ("SELECT * FROM pricse", "42P01", "there is a topic prices"),
        (
            "SELECT * FROM nothing_like_it",
            "42P01",
            "SHOW TABLES lists the topics",
        ),
        ("SELECT prize FROM prices", "42703", "price"),
        ("SELEC 1", "42601", "SELEC"),
        ("SELECT 1 / 0", "22012", "Divide by zero"),
        ("SELECT CAST('x' AS INT)", "22P02", "'x'"),
        ("", "42601", "no statement"),
        ("SELECT 1; SELECT 2", "42601", "2 statements"),
        ("CREATE TABLE t AS SELECT 1", "42P16", "nowhere to write"),
        ("CREATE TABLE t (a INTERVAL)", "42P16", "not read as"),
        (
            "CREATE TABLE t (a INT) WITH (tpoic = 'x')",
            "42P16",
            "option tpoic is not known",
        ),
        ("CREATE TABLE t (_offset INT)", "42P16", "is there by itself"),
    ];
    for (sql, state, words) in cases {
        let error = lab.error(sql).await;
        assert!(
            error.starts_with(state) && error.contains(words),
            "{sql}: {error}"
        );
    }
    lab.run("SELECT * FROM \"my-topic\", highwater.public.\"orders.v1\"")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_broken_batch_fails_the_query_and_says_where_it_is() {
    let reader = prices();
    reader.corrupt("prices", 0, 1);
    let lab = Lab::new(reader).await;
    lab.run("SELECT price FROM prices WHERE _offset < 2")
        .await
        .unwrap();
    let error = lab.error("SELECT price FROM prices").await;
    assert!(
        error.starts_with("XX001 a record batch of prices-0 at or after offset 2 is broken"),
        "{error}"
    );
}

#[tokio::test]
async fn a_log_that_became_shorter_fails_the_query() {
    let lab = Lab::new(prices()).await;
    let mut result = lab.engine.query("SELECT price FROM prices").await.unwrap();
    lab.reader.create("prices", 3);
    let error = result.collect_rows().await.unwrap_err();
    assert_eq!(error.sqlstate(), "40001", "{error}");
}
