//! Apache Kafka and Highwater in turn on this machine, driven by the same clients, as one table of ratios.
//!
//! Both run as processes of their own with the same properties; while one is measured the other one is stopped by a
//! signal, and runs alternate. What separates servers on a small machine, where client and server share the cores, is
//! CPU seconds; a throughput mostly compares clients. Every record that comes back is compared with what was sent; a
//! fast wrong run does not count.
//!
//! Reading order: `compare.toml`, [`workloads`], [`session`], [`system`], [`runs`], [`client`], [`wire`], [`measure`], [`timeline`],
//! [`pauses`], [`report`].

mod client;
mod content;
mod measure;
mod memory;
mod pauses;
mod report;
mod runs;
mod session;
mod system;
mod timeline;
mod wire;
mod workloads;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use highwater_bench_kit::usage;
use serde_json::json;

use crate::pauses::Watch;
use crate::session::{Plan, Session};
use crate::system::{JVM, PROPERTIES, Programs};
use crate::workloads::Workloads;

/// Measures Apache Kafka and Highwater on this machine and prints one table.
#[derive(Debug, Parser)]
#[command(name = "highwater-bench-compare", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Child>,
    /// Alternating runs per workload and system; the table shows median and range
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// A tenth of the records, one run each, hardly any warm-up: a look, not a measurement
    #[arg(long)]
    quick: bool,
    /// Only workloads whose group and name contain this, such as `latency` or `produce: 1 KiB`; may be given several times
    #[arg(long)]
    only: Vec<String>,
    /// Write every figure of every run to this file
    #[arg(long, value_name = "FILE", default_value = "compare.json")]
    json: PathBuf,
    /// Another table of workloads, in the form of bench/compare/compare.toml
    #[arg(long, value_name = "FILE")]
    workloads: Option<PathBuf>,
    /// Where both systems keep their data while they run
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The folder with Apache Kafka's jars
    #[arg(long, value_name = "DIR", env = "KAFKA_JARS")]
    kafka_jars: PathBuf,
    /// The node to measure
    #[arg(long, value_name = "FILE")]
    highwater: PathBuf,
    /// A further property for Kafka, such as num.io.threads=2; may be given several times
    #[arg(long = "kafka-set", value_name = "NAME=VALUE")]
    kafka_properties: Vec<String>,
    /// A run beside which others used more of the machine than this is repeated, twice at most, and the quietest counts
    #[arg(long, value_name = "PERCENT", default_value_t = 5.0)]
    max_foreign: f64,
}

/// What this program does for itself in processes of their own.
#[derive(Debug, Clone, Copy, Subcommand)]
enum Child {
    /// Keeps a core awake until it is killed
    #[command(hide = true)]
    Spin,
    /// Tells when its core does not run
    #[command(hide = true)]
    Watch,
}

fn main() -> ExitCode {
    // These need nothing that is required of everybody else.
    let outcome = match std::env::args().nth(1).as_deref() {
        Some("spin") => spin(),
        Some(pauses::WATCH) => pauses::watch(),
        _ => run(Arguments::parse()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Spins until it is killed, or until it has lost its parent.
fn spin() -> ! {
    let parent = std::os::unix::process::parent_id();
    loop {
        for _ in 0..1_000_000 {
            std::hint::spin_loop();
        }
        if std::os::unix::process::parent_id() != parent {
            std::process::exit(0);
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let programs = Programs {
        kafka_jars: arguments.kafka_jars,
        highwater: std::path::absolute(arguments.highwater)?,
        kafka_properties: arguments.kafka_properties,
    };
    programs.check()?;
    let workloads = Workloads::read(arguments.workloads.as_deref(), arguments.quick)?;
    let parent = match arguments.data_dir {
        Some(dir) => {
            std::fs::create_dir_all(&dir)?;
            tempfile::tempdir_in(dir)
        }
        None => tempfile::tempdir(),
    }
    .context("cannot make a folder for the data")?;
    let machine = usage::machine_line();
    let settings = json!({
        "kafka": programs.kafka_version(), "jvm": JVM,
        "properties": PROPERTIES.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>(),
        "kafka_properties": programs.kafka_properties,
        "librdkafka": rdkafka::util::get_rdkafka_version().1,
        "touched_bytes": workloads.memory.touched_bytes, "clients": workloads.settings, "runs": arguments.runs, "quick": arguments.quick,
        "max_foreign_percent": arguments.max_foreign,
    });
    println!("{machine}");
    println!("{}", serde_json::to_string_pretty(&settings)?);
    if let Err(error) = Watch::start() {
        println!("pauses of the machine count as latency, since they are not seen: {error:#}");
    }
    let mut session = Session::new(
        &programs,
        &workloads,
        parent.path(),
        Plan {
            runs: if arguments.quick { 1 } else { arguments.runs.max(1) },
            only: arguments.only,
            max_foreign_percent: arguments.max_foreign,
            repeats: if arguments.quick { 0 } else { 2 },
        },
    );
    let complete = session.measure_all();
    // What was measured before something broke is worth its time.
    let outcomes = session.outcomes();
    let document = report::document(&machine, settings, outcomes);
    std::fs::write(&arguments.json, serde_json::to_vec_pretty(&document)?)
        .with_context(|| format!("cannot write {}", arguments.json.display()))?;
    println!("\n{}", report::table(outcomes));
    println!("\nevery run is in {}", arguments.json.display());
    complete
}
