//! `cargo xtask fuzz`: every fuzz target under libFuzzer for a while.
//!
//! Works on the stable compiler: coverage instrumentation is asked of LLVM by flags, libFuzzer itself comes with the
//! `libfuzzer-sys` package. The instrumented build has a target folder of its own, so that no other build is disturbed.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::environment;
use crate::process::{cargo, project_root, run, run_quietly, step, target_dir};

/// What makes LLVM count edges and compared values, for the code of this project and its dependencies alike.
const COVERAGE_FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares";

/// Long enough to walk the seeds and some way beyond; nightly runs ask for more.
const DEFAULT_SECONDS: u32 = 60;

/// Enough for a panic's message, its place and what libFuzzer adds.
const LINES_OF_A_FINDING: usize = 40;

/// What a run was asked for.
struct Wanted {
    target: Option<String>,
    seconds: u32,
}

/// `cargo xtask fuzz [--target NAME] [--seconds N]`.
pub(crate) fn run_task(arguments: &[String]) -> Result<()> {
    let wanted = parse(arguments)?;
    let program = build()?;
    let names = target_names()?;
    let chosen: Vec<&String> = names
        .iter()
        .filter(|name| wanted.target.as_ref().is_none_or(|target| target == *name))
        .collect();
    if chosen.is_empty() {
        bail!("there is no such target; there are: {}", names.join(", "));
    }
    for name in chosen {
        step(&format!("fuzzing {name} for {} s", wanted.seconds), || {
            fuzz(&program, name, wanted.seconds)
        })?;
    }
    Ok(())
}

/// Every target for `seconds`, as part of a test run: the names, each with what broke.
pub(crate) fn briefly(seconds: u32) -> Result<Vec<(String, Result<()>)>> {
    let program = build()?;
    Ok(target_names()?
        .into_iter()
        .map(|name| {
            let outcome = fuzz(&program, &name, seconds);
            (name, outcome)
        })
        .collect())
}

fn parse(arguments: &[String]) -> Result<Wanted> {
    let mut wanted = Wanted {
        target: None,
        seconds: DEFAULT_SECONDS,
    };
    let mut rest = arguments.iter();
    while let Some(option) = rest.next() {
        match (option.as_str(), rest.next()) {
            ("--target", Some(name)) => wanted.target = Some(name.clone()),
            ("--seconds", Some(seconds)) => {
                wanted.seconds = seconds
                    .parse()
                    .with_context(|| format!("`--seconds {seconds}` is no number of seconds"))?;
            }
            _ => bail!("usage: cargo xtask fuzz [--target NAME] [--seconds N]"),
        }
    }
    Ok(wanted)
}

fn build() -> Result<PathBuf> {
    step("what the build needs", environment::for_building)?;
    let folder = target_dir().join("fuzz");
    let host = host_triple()?;
    step("building the fuzz targets", || {
        run(
            cargo(&["build", "--package", "highwater-fuzz", "--features", "libfuzzer"])
                .args(["--profile", "fuzz", "--locked", "--quiet", "--target", &host])
                .env("CARGO_TARGET_DIR", &folder)
                .env("RUSTFLAGS", COVERAGE_FLAGS),
        )
    })?;
    Ok(folder.join(host).join("fuzz").join("highwater-fuzz"))
}

/// Build scripts and macros are told from the code under test by naming the target, even when it is this machine.
fn host_triple() -> Result<String> {
    let text = run_quietly(Command::new("rustc").arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say its host")?.to_owned())
}

/// The targets, from the table in the source: asking the program would mean linking it twice.
fn target_names() -> Result<Vec<String>> {
    let path = project_root().join("fuzz/src/targets.rs");
    let source = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("name: \"")?.strip_suffix("\","))
        .map(str::to_owned)
        .collect())
}

fn fuzz(program: &Path, name: &str, seconds: u32) -> Result<()> {
    let work = target_dir().join("fuzz");
    let grown = work.join("corpus").join(name);
    let findings = work.join("findings").join(name);
    for folder in [&grown, &findings] {
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    let mut command = Command::new(program);
    command
        .arg(&grown)
        .args(kept_corpus(name))
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .args([
            "-timeout=10",
            "-rss_limit_mb=2048",
            "-max_len=65536",
            "-print_final_stats=1",
        ])
        .env("HIGHWATER_FUZZ_TARGET", name)
        .env("HIGHWATER_FUZZ_SEEDS", &grown);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", program.display()))?;
    // libFuzzer tells everything on the error stream, a line for each new path: the end of it is what matters.
    let told = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let lines: Vec<&str> = told.lines().collect();
        bail!(
            "{}\n\nfuzz target {name} broke a claim ({}): the input is in {}; keep it under fuzz/corpus/{name}/",
            lines[lines.len().saturating_sub(LINES_OF_A_FINDING)..].join("\n"),
            output.status,
            findings.display(),
        );
    }
    let runs = told
        .lines()
        .find_map(|line| line.strip_prefix("stat::number_of_executed_units: "))
        .unwrap_or("?");
    let edges = told
        .lines()
        .rev()
        .find_map(|line| line.split_once("cov: ")?.1.split(' ').next())
        .unwrap_or("?");
    println!("    {name}: {runs} inputs, {edges} edges, nothing broke");
    Ok(())
}

/// Inputs that once broke a claim, if this target has any.
fn kept_corpus(name: &str) -> Option<PathBuf> {
    let folder = project_root().join("fuzz/corpus").join(name);
    folder.is_dir().then_some(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn target_names_are_those_of_the_table() {
        let names = target_names().unwrap();
        assert!(names.contains(&"wire_request".to_owned()), "{names:?}");
        assert!(names.len() >= 9, "{names:?}");
    }

    #[test]
    fn options_are_read_and_nonsense_is_refused() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let wanted = parse(&words("--target wire_request --seconds 3")).unwrap();
        assert_eq!(
            (wanted.target.as_deref(), wanted.seconds),
            (Some("wire_request"), 3)
        );
        assert!(parse(&words("--seconds soon")).is_err());
        assert!(parse(&words("--target")).is_err());
    }
}
