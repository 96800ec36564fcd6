//! `cargo xtask demo` and `cargo xtask bench`: build a program, then become it.

use std::process::Command;

use anyhow::{Context, Result};

use crate::environment;
use crate::process::{become_program, cargo, project_root, step, target_dir};

/// Becomes the BTC pipeline with the given options.
fn run_program(arguments: &[String]) -> Result<()> {
    let program = target_dir().join("debug/btc-pipeline");
    let mut command = Command::new(&program);
    command.current_dir(project_root()).args(arguments);
    become_program(&mut command).with_context(|| format!("cannot run {}", program.display()))
}

/// `cargo xtask demo`.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    step("checking what the build needs", environment::for_building)?;
    step(
        "building the pipeline (the first time takes a while: RocksDB and DataFusion)",
        || crate::process::run(&mut cargo(&["build", "--package", "btc-pipeline"])),
    )?;
    println!();
    run_program(arguments)
}

/// `cargo xtask bench`.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    step("checking what the build needs", environment::for_building)?;
    step("building the benchmarks in release mode", || {
        crate::process::run(&mut cargo(&[
            "build",
            "--release",
            "--package",
            "highwater-bench",
        ]))
    })?;
    let program = target_dir().join("release/highwater-bench");
    let mut command = Command::new(&program);
    command.current_dir(project_root()).args(arguments);
    become_program(&mut command).with_context(|| format!("cannot run {}", program.display()))
}
