//! Benchmarks: produce, fetch, latency and the candle topology, each measured next to what bounds it.
//!
//! The broker runs in a process of its own, so that its CPU seconds are known apart from the client's: on a small
//! machine, where both share the cores, seconds of CPU per gigabyte compare brokers and megabytes per second do not.
//! Every run's records are counted and their order checked; a fast wrong run does not count.
//!
//! Reading order: `workloads.toml`, [`workloads`], [`plan`], [`produce`], [`fetch`], [`latency`], [`candles`],
//! [`measure`], [`report`].

mod candles;
mod child;
mod fetch;
mod latency;
mod measure;
mod plan;
mod produce;
mod report;
mod topics;
mod workloads;

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use highwater_bench_kit::usage;
use highwater_client::{Client, ClientConfig};
use highwater_embedded::{Embedded, EmbeddedConfig};
use serde_json::json;

use crate::{
    child::{Role, Server},
    plan::Plan,
    report::Row,
    workloads::Workloads,
};

/// What the shipped binaries use.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs in which a workload of a quick look is measured.
const QUICK_RUNS: usize = 1;

/// Measures Highwater on this machine and prints one table.
#[derive(Debug, Parser)]
#[command(name = "highwater-bench", disable_help_subcommand = true)]
struct Arguments {
    #[command(subcommand)]
    role: Option<Child>,
    /// Runs per workload; the table shows median and range
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// A tenth of the records, one run each: half a minute for everything
    #[arg(long)]
    quick: bool,
    /// Only workloads whose group and name contain this; may be given several times
    #[arg(long)]
    only: Vec<String>,
    /// Write every figure of every run to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Another table of workloads, in the form of bench/workloads.toml
    #[arg(long, value_name = "FILE")]
    workloads: Option<PathBuf>,
    /// Where logs are written while it runs
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// What this program does for itself in processes of their own.
#[derive(Debug, Subcommand)]
enum Child {
    /// A node on a free port of loopback, until standard input ends
    #[command(hide = true)]
    Serve {
        #[arg(long)]
        data_dir: PathBuf,
    },
    /// A sender of bytes on a free port of loopback, until standard input ends
    #[command(hide = true)]
    Stream,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    if let Some(Child::Stream) = arguments.role {
        return child::stream();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match &arguments.role {
        Some(Child::Serve { data_dir }) => runtime.block_on(child::serve(data_dir)),
        _ => runtime.block_on(bench(&arguments)),
    }
}

async fn bench(arguments: &Arguments) -> Result<()> {
    let started = Instant::now();
    let mut workloads = read_workloads(arguments)?;
    let mut plan = Plan {
        runs: arguments.runs.max(1),
        only: arguments.only.clone(),
    };
    if arguments.quick {
        workloads.shrink();
        plan.runs = QUICK_RUNS;
    }
    let machine = usage::machine_line();
    let directory = match &arguments.data_dir {
        Some(parent) => tempfile::tempdir_in(parent),
        None => tempfile::tempdir(),
    };
    let directory = directory.context("cannot make a directory for the logs; see --data-dir")?;

    let over_tcp = over_tcp(&plan, &mut workloads, directory.path()).await?;
    let (rows, broker_peak_mb) = over_tcp.unzip();
    let mut rows: Vec<Row> = rows.unwrap_or_default();
    rows.extend(embedded(&plan, &mut workloads, directory.path()).await?);
    rows.extend(candles_engine(&plan, &mut workloads).await);
    rows.extend(candles_end_to_end(&plan, &mut workloads, directory.path()).await?);
    ensure!(
        !rows.is_empty(),
        "no workload's group and name contain {:?}",
        plan.only
    );

    println!("{machine}; {:.0} s in all", started.elapsed().as_secs_f64());
    println!(
        "median [min .. max]; MB and GB are decimal and count values, or bytes on the wire for raw batches\n"
    );
    println!("{}", report::table(&rows));
    if let Some(peak_mb) = broker_peak_mb {
        println!("\nThe broker's process had at most {peak_mb:.0} MB resident.");
    }
    if let Some(path) = &arguments.json {
        let settings = json!({
            "runs": plan.runs, "quick": arguments.quick, "only": plan.only,
            "broker_peak_rss_mb": broker_peak_mb,
        });
        let document = report::document(&machine, settings, &rows);
        std::fs::write(path, serde_json::to_vec_pretty(&document)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    let failed = rows.iter().filter(|row| row.failure.is_some()).count();
    ensure!(failed == 0, "{failed} workloads failed");
    Ok(())
}

fn read_workloads(arguments: &Arguments) -> Result<Workloads> {
    let text = match &arguments.workloads {
        Some(path) => {
            Some(std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?)
        }
        None => None,
    };
    Ok(Workloads::parse(text.as_deref())?)
}

/// Everything that needs a broker in another process; also gives the most memory that the broker ever had, in MB.
async fn over_tcp(
    plan: &Plan,
    workloads: &mut Workloads,
    directory: &std::path::Path,
) -> Result<Option<(Vec<Row>, f64)>> {
    let produce = plan.select("produce", &mut workloads.produce);
    let fetch = plan.select("fetch", &mut workloads.fetch);
    let latency = plan.select("latency", &mut workloads.latency);
    if !(produce || fetch || latency) {
        return Ok(None);
    }
    let data_dir = directory.join("broker");
    let server = Server::start(Role::Broker { data_dir: &data_dir })?;
    let client = Client::connect(ClientConfig::new([server.address().to_string()])).await?;
    let mut rows = Vec::new();
    if produce {
        let measured = plan.rounds("produce", &workloads.produce, async |_, workload| {
            produce::run(&client, Some(server.pid()), workload).await
        });
        rows.extend(measured.await);
    }
    if fetch {
        rows.extend(fetch_rows(plan, workloads, &client, &server).await?);
    }
    if latency {
        let measured = plan.rounds("latency", &workloads.latency, async |_, workload| {
            latency::run(&client, server.pid(), workload).await
        });
        rows.extend(measured.await);
    }
    let peak_rss_mb = usage::peak_rss_mb(server.pid())?;
    Ok(Some((rows, peak_rss_mb)))
}

async fn fetch_rows(
    plan: &Plan,
    workloads: &Workloads,
    client: &Client,
    server: &Server,
) -> Result<Vec<Row>> {
    // Readers of the same records share a topic.
    let mut filled = HashMap::new();
    let mut topics = Vec::new();
    for workload in &workloads.fetch.workloads {
        let content = (
            workload.record_bytes,
            workload.partitions,
            workload.compression.to_string(),
            workload.records,
        );
        if !filled.contains_key(&content) {
            eprintln!("  fetch: writing {}", plan::Named::name(workload));
            filled.insert(content.clone(), fetch::prepare(client, workload).await?);
        }
        topics.push(filled[&content].clone());
    }
    let stream = Server::start(Role::Stream)?;
    let mut plain = Row::new("fetch", plan::Named::name(&workloads.loopback));
    let mut rows = plan
        .rounds("fetch", &workloads.fetch, async |at, workload| {
            if at == 0 {
                plain
                    .runs
                    .push(fetch::plain_copy(&stream, workloads.loopback).await?);
            }
            fetch::run(client, server.pid(), &topics[at], workload).await
        })
        .await;
    // The first one went with the warm-up round.
    plain.runs.drain(..1.min(plain.runs.len()));
    for row in &mut rows {
        let ratio = |figure: fn(&measure::Sample) -> Option<f64>| {
            // A short copy may have cost less than a tick.
            let plain = plain.median(figure).filter(|plain| *plain > 0.0)?;
            Some(row.median(figure)? / plain)
        };
        let ratios = ratio(measure::Sample::mb_per_s).zip(ratio(measure::Sample::server_s_per_gb));
        if let Some((speed, cpu)) = ratios {
            row.note = format!("{speed:.2} of plain TCP's MB/s, {cpu:.1} x its sender's CPU");
        }
    }
    for topic in filled.into_values() {
        topics::delete(client, &topic).await?;
    }
    rows.insert(0, plain);
    Ok(rows)
}

/// The broker in this process.
async fn embedded(plan: &Plan, workloads: &mut Workloads, directory: &std::path::Path) -> Result<Vec<Row>> {
    if !plan.select("embedded produce", &mut workloads.embedded_produce) {
        return Ok(Vec::new());
    }
    let embedded = Embedded::start(EmbeddedConfig::new(directory.join("embedded"))).await?;
    let client = embedded.client();
    let mut rows = plan
        .rounds(
            "embedded produce",
            &workloads.embedded_produce,
            async |_, workload| produce::run(&client, None, workload).await,
        )
        .await;
    for row in &mut rows {
        row.note = "client and broker together".to_owned();
    }
    drop(client);
    embedded.shutdown().await?;
    Ok(rows)
}

/// The candle topology without a broker.
async fn candles_engine(plan: &Plan, workloads: &mut Workloads) -> Vec<Row> {
    if !plan.select("candles, engine alone", &mut workloads.candles_engine) {
        return Vec::new();
    }
    let inputs = workloads.candles_engine.workloads.iter();
    let inputs: Vec<_> = inputs
        .map(|workload| Arc::new(candles::engine::prepare(workload)))
        .collect();
    let mut rows = plan
        .rounds(
            "candles, engine alone",
            &workloads.candles_engine,
            async |at, workload| candles::engine::run(workload, &inputs[at]).await,
        )
        .await;
    for row in &mut rows {
        row.note = "one thread, JSON in and out, memory store".to_owned();
    }
    rows
}

/// The candle topology on a node in this process.
async fn candles_end_to_end(
    plan: &Plan,
    workloads: &mut Workloads,
    directory: &std::path::Path,
) -> Result<Vec<Row>> {
    if !plan.select("candles, end to end", &mut workloads.candles_end_to_end) {
        return Ok(Vec::new());
    }
    let embedded = Embedded::start(EmbeddedConfig::new(directory.join("candles"))).await?;
    let client = embedded.client();
    let mut inputs = Vec::new();
    for workload in &workloads.candles_end_to_end.workloads {
        inputs.push(candles::end_to_end::prepare(&client, workload).await?);
    }
    let mut rows = plan
        .rounds(
            "candles, end to end",
            &workloads.candles_end_to_end,
            async |at, workload| candles::end_to_end::run(&client, directory, workload, &inputs[at]).await,
        )
        .await;
    for row in &mut rows {
        row.note = "node, client, RocksDB and one worker together".to_owned();
    }
    drop(client);
    embedded.shutdown().await?;
    Ok(rows)
}
