//! The Go clients, as their users run them.

use std::process::Command;

use anyhow::Result;

use crate::scenarios;
use crate::support::provided;

fn program(name: &str) -> Result<Command> {
    Ok(Command::new(provided("HIGHWATER_TEST_GO_BIN")?.join(name)))
}

#[test]
#[ignore = "needs Go and franz-go"]
fn franz_go_carries_out_its_scenarios() -> Result<()> {
    scenarios::run("franz-go", &mut program("franz")?)
}

#[test]
#[ignore = "needs Go and sarama"]
fn sarama_carries_out_its_scenarios() -> Result<()> {
    scenarios::run("sarama", &mut program("sarama")?)
}
