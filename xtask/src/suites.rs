//! `cargo xtask test`: everything that CI runs, from any state, with one summary at the end.
//!
//! Rust tests run through `cargo test`. A test that needs something from outside (a Python or Node
//! client, PostgreSQL, Apache Kafka) is marked `#[ignore]` and named after what it needs, so that a bare
//! `cargo test` works anywhere; this task provides what is needed and runs it, or names it as skipped.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::environment::{self, TestEnvironment};
use crate::process::{cargo, run, run_quietly, step, target_dir};
use crate::{arrows, claims, fuzz, tidy};

/// Counts over all runners.
#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    skipped: Vec<String>,
    broken_runs: Vec<String>,
}

/// Tests with outside needs, by the module path that begins their names in the `highwater-tests` package.
const GROUPS: &[&str] = &[
    "python",
    "node",
    "go",
    "java",
    "kcat",
    "postgres",
    "prometheus",
    "kafka",
];

/// How long each fuzz target runs in a test run: enough to walk its seeds and some way beyond.
const FUZZ_SECONDS: u32 = 4;

/// The one binary of outside tests. The whole workspace is named so that features unify as in the build of
/// everything, and no heavy package is compiled a second time.
const SUITES: [&str; 7] = [
    "test",
    "--workspace",
    "--test",
    "suites",
    "--locked",
    "--no-fail-fast",
    "--",
];

/// The read-only checks.
pub(crate) fn verify() -> Result<()> {
    step("format", || run(&mut cargo(&["fmt", "--all", "--check"])))?;
    step("arrows", arrows::check)?;
    step("tidiness", tidy::check)?;
    step("what the build needs", environment::for_building)?;
    step("lints", || {
        run(&mut cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--quiet",
            "--",
            "--deny",
            "warnings",
        ]))
    })?;
    step("documentation", || {
        run(cargo(&["doc", "--workspace", "--no-deps", "--locked", "--quiet"])
            .env("RUSTDOCFLAGS", "--deny warnings"))
    })
}

/// Formats, applies what the lints suggest, and brings the tables of proved rules up to date.
pub(crate) fn fix() -> Result<()> {
    step("tables of proved rules", || claims::fix(&tidy::sources()?))?;
    step("format", || run(&mut cargo(&["fmt", "--all"])))?;
    step("lints", || {
        run(&mut cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--fix",
            "--allow-dirty",
            "--allow-staged",
        ]))
    })
}

/// All checks and all suites, or those whose names contain `filter`.
fn run_suites(filter: Option<&str>) -> Result<()> {
    let environment = step("what the tests need", environment::for_tests)?;
    verify()?;
    step("building everything", || {
        run(&mut cargo(&[
            "build",
            "--workspace",
            "--all-targets",
            "--locked",
            "--quiet",
        ]))
    })?;
    let mut tally = Tally::default();
    let mut rust_tests = cargo(&["test", "--workspace", "--locked", "--no-fail-fast"]);
    if let Some(filter) = filter {
        rust_tests.arg(filter);
    }
    println!("\n==> Rust tests");
    count(&mut rust_tests, "Rust tests", &mut tally)?;
    if filter.is_none_or(|filter| filter == "fuzz") {
        fuzz_briefly(&mut tally)?;
    }
    // `--only python::a_million` names a group's test; any other filter is about the Rust tests alone.
    for group in GROUPS
        .iter()
        .filter(|group| filter.is_none_or(|filter| filter.starts_with(**group)))
    {
        println!("\n==> {group} tests");
        match provide(group, &environment) {
            Ok(variables) => {
                let mut tests = outside_tests(group, filter);
                tests.envs(variables);
                count(&mut tests, group, &mut tally)?;
            }
            Err(reason) => skip(group, &reason, &mut tally)?,
        }
    }
    summarise(&tally)
}

/// `cargo xtask test [--only FILTER]`.
pub(crate) fn run_task(arguments: &[String]) -> Result<()> {
    match arguments {
        [] => run_suites(None),
        [only, filter] if only == "--only" => run_suites(Some(filter)),
        _ => bail!("usage: cargo xtask test [--only FILTER]"),
    }
}

/// Each fuzz target counts as one test.
fn fuzz_briefly(tally: &mut Tally) -> Result<()> {
    println!("\n==> fuzz targets, {FUZZ_SECONDS} s each");
    for (name, outcome) in fuzz::briefly(FUZZ_SECONDS)? {
        match outcome {
            Ok(()) => tally.passed += 1,
            Err(error) => {
                println!("{error:#}");
                tally.failed += 1;
                tally.broken_runs.push(format!("fuzz target {name}"));
            }
        }
    }
    Ok(())
}

fn outside_tests(group: &str, filter: Option<&str>) -> Command {
    let mut tests = cargo(&SUITES);
    tests
        .arg("--ignored")
        .arg(filter.map_or_else(|| format!("{group}::"), str::to_owned));
    tests
}

/// The environment variables through which a group's tests find what they need.
fn provide(group: &str, environment: &TestEnvironment) -> Result<Vec<(&'static str, String)>, String> {
    let path = |path: &std::path::PathBuf| path.display().to_string();
    match group {
        "python" => environment
            .python
            .as_ref()
            .map(|p| vec![("HIGHWATER_TEST_PYTHON", path(p))])
            .map_err(Clone::clone),
        "node" => environment
            .node_modules
            .as_ref()
            .map(|p| vec![("NODE_PATH", path(p))])
            .map_err(Clone::clone),
        "go" => environment
            .go_programs
            .as_ref()
            .map(|p| vec![("HIGHWATER_TEST_GO_BIN", path(p))])
            .map_err(Clone::clone),
        "java" => match (&environment.kafka_libs, &environment.java_classes) {
            (Ok(libs), Ok(classes)) => Ok(vec![
                ("HIGHWATER_TEST_KAFKA_LIBS", path(libs)),
                ("HIGHWATER_TEST_JAVA_CLASSES", path(classes)),
            ]),
            (Err(reason), _) | (_, Err(reason)) => Err(reason.clone()),
        },
        "postgres" => environment
            .postgres_bin
            .as_ref()
            .map(|p| vec![("HIGHWATER_TEST_POSTGRES_BIN", path(p))])
            .map_err(Clone::clone),
        "prometheus" => environment
            .prometheus_bin
            .as_ref()
            .map(|p| vec![("HIGHWATER_TEST_PROMETHEUS_BIN", path(p))])
            .map_err(Clone::clone),
        "kafka" => environment
            .kafka_libs
            .as_ref()
            .map(|p| vec![("HIGHWATER_TEST_KAFKA_LIBS", path(p))])
            .map_err(Clone::clone),
        "kcat" => environment.kcat.clone().map(|()| Vec::new()),
        other => Err(format!("nothing provides for `{other}`")),
    }
}

/// Names every test of a group that cannot run here.
fn skip(group: &str, reason: &str, tally: &mut Tally) -> Result<()> {
    let listing = run_quietly(
        cargo(&SUITES)
            .args(["--ignored", "--list"])
            .arg(format!("{group}::")),
    )?;
    for name in listing.lines().filter_map(|line| line.strip_suffix(": test")) {
        println!("skipped: {name} ({reason})");
        tally.skipped.push(format!("{name} ({reason})"));
    }
    Ok(())
}

/// Runs a `cargo test`, shows its output as it comes, and adds up its result lines.
fn count(command: &mut Command, what: &str, tally: &mut Tally) -> Result<()> {
    command.env("HIGHWATER_TEST_BIN_DIR", target_dir().join("debug"));
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {what}"))?;
    let output = child.stdout.take().context("the test runner has no output")?;
    for line in BufReader::new(output).lines() {
        let line = line?;
        println!("{line}");
        if let Some(counts) = line.strip_prefix("test result: ") {
            tally.passed += number_before(counts, " passed");
            tally.failed += number_before(counts, " failed");
        }
    }
    if !child.wait()?.success() {
        tally.broken_runs.push(what.to_owned());
    }
    Ok(())
}

fn number_before(text: &str, word: &str) -> u64 {
    text.find(word)
        .and_then(|end| text[..end].rsplit(|c: char| !c.is_ascii_digit()).next())
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

fn summarise(tally: &Tally) -> Result<()> {
    println!();
    for name in &tally.skipped {
        println!("skipped: {name}");
    }
    for name in &tally.broken_runs {
        println!("failed: {name}");
    }
    // A run can break without a failed test (it did not build, or it crashed): never call that success.
    let failed = tally.failed.max(tally.broken_runs.len() as u64);
    println!(
        "{} passed, {} failed, {} skipped",
        tally.passed,
        failed,
        tally.skipped.len()
    );
    if failed > 0 {
        bail!("{failed} failed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_added_up() {
        let line = "ok. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out";
        assert_eq!(number_before(line, " passed"), 12);
        assert_eq!(number_before(line, " failed"), 3);
        assert_eq!(number_before(line, " unheard of"), 0);
    }

    #[test]
    fn a_broken_run_without_failed_tests_is_a_failure() {
        let tally = Tally {
            passed: 5,
            broken_runs: vec!["Rust tests".to_owned()],
            ..Tally::default()
        };
        assert!(summarise(&tally).is_err());
    }
}
