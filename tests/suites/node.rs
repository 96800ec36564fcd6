//! KafkaJS, as its users run it.

use std::process::Command;

use anyhow::Result;

use crate::scenarios;
use crate::support::{Dev, project_root, run_to_end};

#[test]
#[ignore = "needs Node.js and KafkaJS"]
fn the_kafkajs_tutorial_works_unchanged() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Dev::start(folder.path())?;
    let program = project_root().join("tests/clients/node/tutorial.js");
    let output = run_to_end(
        Command::new("node")
            .arg(program)
            .arg(node.kafka.to_string())
            .arg("200"),
    )?;
    assert!(output.contains("read all 200"), "{output}");
    node.stop()
}

#[test]
#[ignore = "needs Node.js and KafkaJS"]
fn kafkajs_carries_out_its_scenarios() -> Result<()> {
    let program = project_root().join("tests/clients/node/scenarios.js");
    scenarios::run("KafkaJS", Command::new("node").arg(program))
}
