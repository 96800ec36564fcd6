//! Runs a client's scenario program against nodes of its own, a plain one and a secured one, and reports each scenario.
//!
//! `tests/clients/SCENARIOS.md` says which scenarios each client has; this file reads its table and refuses a
//! program that leaves one out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::secured::Secured;
use crate::support::{Dev, Watched};

const DOCUMENT: &str = include_str!("../clients/SCENARIOS.md");
const CLIENTS: &str = include_str!("../../docs/clients.md");
/// Twice what a program needs on two crowded cores.
const LIMIT: Duration = Duration::from_secs(180);

/// The scenarios marked `yes` in the column of `client`, in whichever table has it.
fn wanted(client: &str) -> Result<Vec<&'static str>> {
    let cells = |line: &'static str| -> Option<Vec<&'static str>> {
        let row = line.strip_prefix('|')?.strip_suffix('|')?;
        Some(row.split('|').map(str::trim).collect())
    };
    let mut lines = DOCUMENT.lines();
    let column = lines
        .find_map(|line| cells(line)?.iter().position(|name| *name == client))
        .with_context(|| format!("SCENARIOS.md has no column `{client}`"))?;
    let names: Vec<&str> = lines
        .map_while(cells)
        .filter(|row| row.get(column) == Some(&"yes"))
        .map(|row| row[0])
        .collect();
    ensure!(!names.is_empty(), "SCENARIOS.md asks nothing of `{client}`");
    Ok(names)
}

/// Runs `program BOOTSTRAP SCENARIO...`; every scenario must say `ok`. The program finds the node's files in the
/// folder `HIGHWATER_TEST_DATA_DIR`, the listeners of the secured node in `HIGHWATER_TEST_SASL_SSL` and the like.
pub(crate) fn run(client: &str, program: &mut Command) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data_dir = folder.path().join("data");
    let node = Dev::start(&data_dir)?;
    let secured = Secured::start(folder.path())?;
    secured.told_to(program);
    let wanted = wanted(client)?;
    let errors = folder.path().join("stderr");
    program
        .arg(node.kafka.to_string())
        .args(&wanted)
        .env("HIGHWATER_TEST_DATA_DIR", &data_dir)
        .stderr(File::create(&errors)?);
    let started = Instant::now();
    let mut process = Watched::start(program)?;
    let code = process.wait(LIMIT)?;
    let outcomes = outcomes(&process.seen);
    report(client, &process.seen, started.elapsed())?;
    check_version(client, &process.seen)?;
    let broken: Vec<String> = wanted
        .iter()
        .filter(|name| outcomes.get(**name) != Some(&None))
        .map(|name| match outcomes.get(*name) {
            Some(Some(why)) => format!("{name}: {why}"),
            _ => format!("{name}: not reported"),
        })
        .collect();
    if !broken.is_empty() || code != 0 {
        bail!(
            "{client} ended with {code}; {} of {} scenarios broken:\n  {}\n{}",
            broken.len(),
            wanted.len(),
            broken.join("\n  "),
            std::fs::read_to_string(&errors)?
        );
    }
    secured.stop()?;
    node.stop()
}

/// `docs/clients.md` names the version that runs.
fn check_version(client: &str, lines: &[String]) -> Result<()> {
    let version = lines
        .iter()
        .find_map(|line| line.strip_prefix("client ")?.strip_prefix(client))
        .and_then(|rest| rest.split_whitespace().next())
        .with_context(|| format!("the program of {client} does not tell its version"))?;
    ensure!(
        CLIENTS.contains(&format!("| {version} ")),
        "docs/clients.md does not name {version}, the version of {client} that was tested"
    );
    Ok(())
}

/// What each scenario came to: nothing, or why it failed.
fn outcomes(lines: &[String]) -> BTreeMap<&str, Option<&str>> {
    lines
        .iter()
        .filter_map(|line| match line.split_once(' ')? {
            ("ok", name) => Some((name, None)),
            ("FAIL", rest) => rest.split_once(": ").map(|(name, why)| (name, Some(why))),
            _ => None,
        })
        .collect()
}

/// One line per scenario, past the test harness, which hides what a passing test prints.
fn report(client: &str, lines: &[String], took: Duration) -> Result<()> {
    let version = lines.iter().find_map(|line| line.strip_prefix("client "));
    let mut text = format!("{} in {:.1} s\n", version.unwrap_or(client), took.as_secs_f64());
    for line in lines
        .iter()
        .filter(|line| line.starts_with("ok ") || line.starts_with("FAIL "))
    {
        text.push_str(&format!("  {client}: {line}\n"));
    }
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(())
}
