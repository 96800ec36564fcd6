//! `cargo xtask bench kafka`: Apache Kafka and Highwater side by side, with what that needs.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, anyhow};

use crate::environment;
use crate::process::{become_program, cargo, project_root, run, step, target_dir};

/// Names the jars, as for `tests/kafka/run-kafka.sh`.
const JARS: &str = "KAFKA_JARS";

/// Builds the node and the program that compares, fetches Kafka, and becomes the program.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    let is_given = |option: &str| arguments.iter().any(|argument| argument.starts_with(option));
    let jars = if is_given("--kafka-jars") {
        None
    } else {
        Some(step("fetching Apache Kafka", kafka_jars)?)
    };
    let mut build = vec![
        "build",
        "--release",
        "--workspace",
        "--bin",
        "highwater-bench-compare",
    ];
    if !is_given("--highwater") {
        step("checking what the build needs", environment::for_building)?;
        build.extend(["--bin", "highwater"]);
    }
    step(
        "building in release mode (the node takes a while the first time)",
        || run(&mut cargo(&build)),
    )?;
    let program = target_dir().join("release/highwater-bench-compare");
    let mut command = Command::new(&program);
    command.current_dir(project_root()).args(arguments);
    if let Some(jars) = jars {
        command.arg("--kafka-jars").arg(jars);
    }
    if !is_given("--highwater") {
        command
            .arg("--highwater")
            .arg(target_dir().join("release/highwater"));
    }
    become_program(&mut command).with_context(|| format!("cannot run {}", program.display()))
}

/// The folder that the environment names, or one that is filled through Maven.
fn kafka_jars() -> Result<PathBuf> {
    if let Some(jars) = std::env::var_os(JARS) {
        return Ok(PathBuf::from(jars));
    }
    environment::kafka_for_bench().map_err(|reason| {
        anyhow!(
            "Apache Kafka cannot be had: {reason}. It needs Java 17 or later and Maven (on Debian: apt-get install \
             openjdk-17-jre-headless maven); or name a folder with its jars in {JARS}"
        )
    })
}
