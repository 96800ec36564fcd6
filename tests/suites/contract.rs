//! What other programs rely on: the `dev` command, its ports, its signals, and the commands around it.

use std::io::Write;
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::support::{Dev, program, run_to_end};

#[test]
fn a_node_says_ready_serves_every_port_and_stops_cleanly_on_sigterm() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Dev::start(folder.path())?;
    assert!(Dev::get(node.http, "/health")?.contains("alive"));
    assert!(Dev::get(node.http, "/ready")?.contains("ready"));
    assert!(Dev::get(node.http, "/metrics")?.contains("kafka_brokers"));
    assert!(Dev::get(node.connect, "/connector-plugins")?.contains("binance"));
    std::net::TcpStream::connect(node.sql).context("the SQL port")?;
    node.stop()
}

#[test]
fn records_written_by_one_command_are_read_by_another_and_answer_sql() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Dev::start(folder.path())?;
    run_to_end(&mut node.cli(&["topic", "create", "prices", "--partitions", "3"])?)?;
    let mut produce = node.cli(&["produce", "prices", "--key-separator", "|"])?;
    let mut child = produce.stdin(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    let mut input = child.stdin.take().context("standard input")?;
    for number in 0..100 {
        let symbol = if number % 2 == 0 { "BTCUSDT" } else { "ETHUSDT" };
        writeln!(input, "{symbol}|{{\"symbol\":\"{symbol}\",\"price\":{number}.5}}")?;
    }
    drop(input);
    assert!(child.wait()?.success());
    let read = run_to_end(&mut node.cli(&[
        "consume",
        "prices",
        "--from-beginning",
        "--exit-at-end",
        "-o",
        "json",
    ])?)?;
    assert_eq!(read.lines().count(), 100);
    let answer = run_to_end(&mut node.cli(&[
        "sql",
        "-o",
        "json",
        "SELECT symbol, count(*) AS n, max(price) AS top FROM prices GROUP BY symbol ORDER BY symbol",
    ])?)?;
    let rows: serde_json::Value = serde_json::from_str(&answer).with_context(|| answer.clone())?;
    assert_eq!(
        rows,
        serde_json::json!([
            { "symbol": "BTCUSDT", "n": 50, "top": 98.5 },
            { "symbol": "ETHUSDT", "n": 50, "top": 99.5 },
        ])
    );
    node.stop()
}

#[test]
fn topics_and_groups_can_be_looked_at_changed_and_deleted() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Dev::start(folder.path())?;
    let cli = |arguments: &[&str]| -> Result<String> { run_to_end(&mut node.cli(arguments)?) };
    cli(&[
        "topic",
        "create",
        "orders",
        "--partitions",
        "2",
        "--config",
        "retention.ms=3600000",
    ])?;
    assert!(cli(&["topic", "describe", "orders"])?.contains("retention.ms"));
    cli(&[
        "topic",
        "alter",
        "orders",
        "--partitions",
        "4",
        "--set",
        "retention.ms=7200000",
    ])?;
    let described = cli(&["topic", "describe", "orders"])?;
    assert!(described.contains("7200000"), "{described}");
    let listed = cli(&["topic", "list", "-o", "json"])?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    assert_eq!(
        listed,
        serde_json::json!([{ "name": "orders", "partitions": 4, "replicas": 1 }])
    );
    cli(&[
        "group", "reset", "readers", "--topic", "orders", "--to", "earliest",
    ])?;
    assert!(cli(&["group", "list"])?.contains("readers"));
    assert!(cli(&["group", "describe", "readers"])?.contains("orders"));
    cli(&["group", "delete", "readers"])?;
    cli(&["topic", "delete", "orders"])?;
    assert!(!cli(&["topic", "list"])?.contains("orders"));
    node.stop()
}

#[test]
fn a_command_without_a_node_says_what_to_do() -> Result<()> {
    let unused = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let answer = program("highwater")?
        .args(["topic", "list", "--bootstrap", &unused.to_string()])
        .stdin(Stdio::null())
        .output()?;
    let words = String::from_utf8_lossy(&answer.stderr).into_owned();
    assert!(!answer.status.success());
    assert!(words.contains("highwater dev"), "{words}");
    Ok(())
}

#[test]
fn a_taken_port_and_a_locked_data_folder_are_named_in_the_error() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Dev::start(folder.path())?;
    let any = "127.0.0.1:0";
    let second = program("highwater")?
        .args([
            "dev",
            "--kafka",
            any,
            "--http",
            any,
            "--connect",
            any,
            "--sql",
            any,
            "--data-dir",
        ])
        .arg(folder.path())
        .stdin(Stdio::null())
        .output()?;
    let words = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(!second.status.success());
    assert!(words.contains("lock") || words.contains("in use"), "{words}");
    node.stop()
}
