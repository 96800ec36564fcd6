//! The Python clients, as their users run them.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::scenarios;
use crate::support::{Dev, Watched, project_root, provided, run_to_end};

const CODECS: &[&str] = &["none", "gzip", "snappy", "lz4", "zstd"];

fn python(script: &str) -> Result<Command> {
    let mut command = Command::new(provided("HIGHWATER_TEST_PYTHON")?);
    command
        .arg("-u")
        .arg(project_root().join("tests/clients/python").join(script));
    Ok(command)
}

#[test]
#[ignore = "needs kafka-python"]
fn the_kafka_python_tutorial_works_unchanged() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Dev::start(folder.path())?;
    let output = run_to_end(python("tutorial.py")?.arg(node.kafka.to_string()).arg("100"))?;
    assert!(output.contains("read all 100"), "{output}");
    node.stop()
}

#[test]
#[ignore = "needs confluent-kafka"]
fn confluent_kafka_carries_out_its_scenarios() -> Result<()> {
    scenarios::run("confluent-kafka", &mut python("confluent.py")?)
}

#[test]
#[ignore = "needs kafka-python"]
fn kafka_python_carries_out_its_scenarios() -> Result<()> {
    scenarios::run("kafka-python", &mut python("kafka_python.py")?)
}

/// A million records with each codec, with a kill between writing and reading.
#[test]
#[ignore = "needs confluent-kafka"]
fn a_million_records_survive_every_codec_and_a_restart() -> Result<()> {
    const PER_CODEC: &str = "1000000";
    let folder = tempfile::tempdir()?;
    let node = Dev::start(folder.path())?;
    let kafka = node.kafka;
    for codec in CODECS {
        run_to_end(&mut node.cli(&[
            "topic",
            "create",
            &format!("million-{codec}"),
            "--partitions",
            "3",
        ])?)?;
    }
    let run = |verb: &str| -> Result<String> {
        run_to_end(
            python("million.py")?
                .args([verb, &kafka.to_string(), PER_CODEC])
                .args(CODECS),
        )
    };
    let written = run("produce")?;
    node.kill()?;
    let node = Dev::start_on(folder.path(), kafka, &[])?;
    let read = run("consume")?;
    assert_eq!(written, read);
    assert_eq!(written.lines().count(), CODECS.len());
    node.stop()
}

#[test]
#[ignore = "needs confluent-kafka"]
fn a_killed_group_member_is_replaced_within_the_session_timeout_and_no_record_is_missed() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Dev::start(folder.path())?;
    run_to_end(&mut node.cli(&["topic", "create", "shared", "--partitions", "3"])?)?;
    let member = || -> Result<Watched> {
        Watched::start(python("member.py")?.args([&node.kafka.to_string(), "sharers", "shared"]))
    };
    let mut first = member()?;
    first.wait_for("assignment", Duration::from_secs(30), |line| {
        line.starts_with("assigned")
    })?;
    let mut second = member()?;
    second.wait_for("assignment", Duration::from_secs(30), |line| {
        line.starts_with("assigned") && line != "assigned []"
    })?;
    produce_numbers(&node, 0..300)?;
    std::thread::sleep(Duration::from_secs(2));
    second.kill()?;
    let killed = Instant::now();
    produce_numbers(&node, 300..600)?;
    let mut records = BTreeMap::new();
    while records.len() < 600 && killed.elapsed() < Duration::from_secs(30) {
        for line in first.drain().iter().chain(second.seen.iter()) {
            if let Some(["record", _, _, value]) = line.split(' ').collect::<Vec<_>>().get(..4) {
                records.insert((*value).to_owned(), ());
            }
        }
        second.drain();
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(records.len(), 600, "records were missed");
    assert!(
        killed.elapsed() < Duration::from_secs(15),
        "takeover took {:?}",
        killed.elapsed()
    );
    node.stop()
}

fn produce_numbers(node: &Dev, numbers: std::ops::Range<u32>) -> Result<()> {
    use std::io::Write;
    let mut produce = node.cli(&["produce", "shared", "--key-separator", "|"])?;
    let mut child = produce
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()?;
    let mut input = child.stdin.take().context("standard input")?;
    for number in numbers {
        writeln!(input, "key-{number}|{number}")?;
    }
    drop(input);
    anyhow::ensure!(child.wait()?.success(), "the producer failed");
    Ok(())
}
