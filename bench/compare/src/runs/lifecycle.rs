//! Starting, being idle, having very many partitions, being stopped and being killed.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use highwater_bench_kit::usage;

use crate::client::{Receiver, Sender, TopicSpec, create_topics};
use crate::measure::{Figure, Run};
use crate::system::{Home, Life, Node, Programs, System};
use crate::workloads::{ClientSettings, Partitions};

/// A server that has just started or created something still has things to do.
const SETTLE: Duration = Duration::from_secs(3);
const TOPIC: &str = "start";

/// Starts a system again and again on a directory with one topic; measures from the start of the process to the first
/// acknowledged record, and the memory of a node that has done nothing else.
pub(crate) fn starts(system: System, programs: &Programs, parent: &Path, runs: usize) -> Result<Vec<Run>> {
    let home = Home::prepare(system, programs, parent, Life::Restarts)?;
    let node = home.start()?;
    let spec = TopicSpec {
        partitions: 1,
        durable: false,
    };
    create_topics(home.address(), &[TOPIC.to_owned()], spec)?;
    node.stop()?;
    let mut measured = Vec::new();
    for _ in 0..runs {
        let machine_before = usage::machine()?;
        let began = Instant::now();
        let mut node = home.spawn()?;
        let took = node.wait_until(|raw| raw.produce_one(TOPIC, 0))?;
        let own_s = usage::cpu_of(node.pid())?.total_s();
        let seconds = began.elapsed().as_secs_f64();
        let busy_s = usage::machine()?.busy_s - machine_before.busy_s;
        let foreign_s = (busy_s - own_s).max(0.0);
        std::thread::sleep(SETTLE);
        let run = Run {
            seconds,
            foreign_percent: foreign_s / (seconds * usage::cores() as f64) * 100.0,
            ..Run::default()
        };
        measured.push(
            run.with(Figure::FirstProduceMs, milliseconds(took))
                .with(Figure::RssIdleMb, usage::rss_mb(node.pid())?),
        );
        node.stop()?;
    }
    Ok(measured)
}

/// Creates very many partitions, writes a record to each, is idle, and is restarted both ways.
pub(crate) fn partitions(
    system: System,
    programs: &Programs,
    parent: &Path,
    (workload, settings): (&Partitions, &ClientSettings),
    idle: Duration,
) -> Result<Run> {
    let topics: Vec<String> = (0..workload.topics)
        .map(|number| format!("many-{number}"))
        .collect();
    let last = topics.last().context("a workload of no topics")?;
    let last_partition = workload.partitions_per_topic - 1;
    let home = Home::prepare(system, programs, parent, Life::Restarts)?;
    let node = home.start()?;

    let began = Instant::now();
    let spec = TopicSpec {
        partitions: workload.partitions_per_topic,
        durable: false,
    };
    create_topics(home.address(), &topics, spec)?;
    let created = began.elapsed();
    write_to_each(&node, &topics, workload, settings)?;

    std::thread::sleep(SETTLE);
    let run = watch_idle(&node, idle)?
        .with(Figure::CreateS, created.as_secs_f64())
        .with(Figure::RssIdleMb, usage::rss_mb(node.pid())?);
    node.stop()?;

    let mut node = home.spawn()?;
    let restarted = node.wait_until(|raw| raw.produce_one(last, last_partition))?;
    // What was written since must be found again too.
    node.kill()?;
    let mut node = home.spawn()?;
    let recovered = node.wait_until(|raw| raw.produce_one(last, last_partition))?;
    read_from_each(&node, &topics, workload)?;
    let peak_mb = usage::peak_rss_mb(node.pid())?;
    node.stop()?;
    Ok(run
        .with(Figure::RestartMs, milliseconds(restarted))
        .with(Figure::RestartKilledMs, milliseconds(recovered))
        .with(Figure::RssPeakMb, peak_mb))
}

fn write_to_each(
    node: &Node,
    topics: &[String],
    workload: &Partitions,
    settings: &ClientSettings,
) -> Result<()> {
    let mut sender = Sender::new(node.address(), settings, "none")?;
    for topic in topics {
        for partition in 0..workload.partitions_per_topic {
            sender.send(topic, partition, b"one")?;
        }
    }
    sender.finish()
}

/// One record of each partition, and the two that the restarts wrote to the last one.
fn read_from_each(node: &Node, topics: &[String], workload: &Partitions) -> Result<()> {
    let receiver = Receiver::new(node.address(), topics, workload.partitions_per_topic)?;
    let expected = workload.count() + 2;
    let mut first_ones = 0;
    for _ in 0..expected {
        receiver.next(|_, value| {
            first_ones += i32::from(value == b"one");
            Ok(())
        })?;
    }
    ensure!(
        first_ones == workload.count(),
        "{first_ones} of {} partitions gave their record back after the crash; the run does not count",
        workload.count()
    );
    Ok(())
}

/// CPU of a server that nobody talks to.
fn watch_idle(node: &Node, idle: Duration) -> Result<Run> {
    let machine_before = usage::machine()?;
    let before = usage::cpu_of(node.pid())?;
    let began = Instant::now();
    std::thread::sleep(idle);
    let seconds = began.elapsed().as_secs_f64();
    let own_s = usage::cpu_of(node.pid())?.since(before).total_s();
    let machine = usage::machine()?;
    let capacity_s = seconds * usage::cores() as f64;
    let run = Run {
        seconds,
        foreign_percent: (machine.busy_s - machine_before.busy_s - own_s).max(0.0) / capacity_s * 100.0,
        steal_percent: (machine.steal_s - machine_before.steal_s) / capacity_s * 100.0,
        ..Run::default()
    };
    Ok(run.with(Figure::IdleCpuPercent, own_s / seconds * 100.0))
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
