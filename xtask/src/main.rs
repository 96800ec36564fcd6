//! The door for developers: every task of the project behind `cargo xtask`.
//!
//! Each task works from any state of a fresh Debian machine: it installs what it needs, says what it
//! installs, and then runs. It has no heavy dependencies, so that it builds in seconds.

mod arrows;
mod claims;
mod compare;
mod demo;
mod environment;
mod fuzz;
mod process;
mod suites;
mod tidy;

use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
The door for developers.

Usage: cargo xtask <task> [options]

Tasks:
  demo    Run the BTC price pipeline end to end, everything embedded
            --duration 60s     how long it runs before it ends by itself
            --data-dir DIR     where the log, the stores and the results live
            --offline          use the local stand-in for Binance without trying the real API
            --postgres URL     write the candles to PostgreSQL instead of SQLite
  test    Run everything that CI runs: format, lints, arrows, all suites
            --only FILTER      only the Rust tests and suites whose name contains FILTER
  verify  The read-only checks alone: format, arrows, tidiness, lints, documentation
  fix     Format the code and apply the lints' suggestions
  fuzz    Run every fuzz target under libFuzzer
            --target NAME      only this one
            --seconds N        how long for each (default 60)
  arrows  Check the dependency arrows between crates
  claims  Rewrite the tables in docs/ that say which numbered rules are proved by tests
  tidy    Print the largest files and the house rules that the compiler cannot check
  bench   Build in release mode and print the benchmarks' table; arguments go to the bench program
  bench kafka
          Apache Kafka and Highwater in turn, as one table of ratios; needs Java and Maven
            --quick            a look, not a measurement
            --only PART        only workloads whose group and name contain PART
            --runs N           alternating runs per workload
            --json FILE        where every run is written
  setup   Install what demo and test need, and nothing else
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let task = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    match task.as_str() {
        "demo" => demo::run(&rest),
        "test" => suites::run_task(&rest),
        "verify" => suites::verify(),
        "fix" => suites::fix(),
        "fuzz" => fuzz::run_task(&rest),
        "arrows" => arrows::check(),
        "claims" => claims::fix(&tidy::sources()?),
        "tidy" => tidy::check(),
        "bench" => match rest.split_first() {
            Some((kafka, rest)) if kafka == "kafka" => compare::bench(rest),
            _ => demo::bench(&rest),
        },
        "setup" => environment::for_tests().map(drop),
        "" | "help" | "-h" | "--help" => {
            print!("{HELP}");
            Ok(())
        }
        unknown => bail!("there is no task `{unknown}`; `cargo xtask help` lists them"),
    }
}
