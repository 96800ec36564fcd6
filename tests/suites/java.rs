//! The Java client and Kafka's command-line tools, as their users run them.

use std::process::Command;

use anyhow::Result;

use crate::scenarios;
use crate::support::provided;

/// A Java program of `tests/clients/java`, with settings that start fast and stay small.
fn program(class: &str) -> Result<Command> {
    let classes = provided("HIGHWATER_TEST_JAVA_CLASSES")?;
    let libraries = provided("HIGHWATER_TEST_KAFKA_LIBS")?;
    let mut command = Command::new("java");
    command
        .args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m"])
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error")
        .arg("-cp")
        .arg(format!("{}:{}/*", classes.display(), libraries.display()))
        .arg(class);
    Ok(command)
}

#[test]
#[ignore = "needs Java and Maven"]
fn the_java_client_carries_out_its_scenarios() -> Result<()> {
    scenarios::run("Java", &mut program("Scenarios")?)
}

#[test]
#[ignore = "needs Java and Maven"]
fn kafkas_own_tools_carry_out_their_scenarios() -> Result<()> {
    scenarios::run("Kafka's tools", &mut program("Tools")?)
}
