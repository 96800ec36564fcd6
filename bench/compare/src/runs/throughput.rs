//! Producing as fast as the client can, and reading back what was produced.

use std::time::{Duration, Instant};

use anyhow::Result;
use highwater_bench_kit::payload::{Payloads, Stamp};

use crate::client::{Receiver, Sender, TopicSpec, create_topics, delete_topics};
use crate::content::{Checker, partition_of};
use crate::measure::{Meter, Run};
use crate::runs::fresh_topic;
use crate::system::{Node, place};
use crate::workloads::{ClientSettings, Throughput};

/// What a warm-up writes and reads again and again.
const WARM_UP_RECORDS: u64 = 200_000;

/// Both halves of a run.
#[derive(Debug)]
pub(crate) struct ProduceAndConsume {
    pub(crate) produce: Run,
    pub(crate) consume: Run,
}

/// One run on a topic of its own.
pub(crate) fn run(
    node: &Node,
    workload: &Throughput,
    settings: &ClientSettings,
    durable: bool,
) -> Result<ProduceAndConsume> {
    if workload.pinned {
        node.place("0")?;
        place(std::process::id(), "1")?;
    }
    let outcome = produce_and_consume(node, workload, settings, durable);
    if workload.pinned {
        let all = format!("0-{}", highwater_bench_kit::usage::cores() - 1);
        node.place(&all)?;
        place(std::process::id(), &all)?;
    }
    outcome
}

fn produce_and_consume(
    node: &Node,
    workload: &Throughput,
    settings: &ClientSettings,
    durable: bool,
) -> Result<ProduceAndConsume> {
    let topic = fresh_topic("throughput");
    let spec = TopicSpec {
        partitions: workload.partitions,
        durable,
    };
    create_topics(node.address(), std::slice::from_ref(&topic), spec)?;
    let produce = produce(node, &topic, workload, settings)?;
    let consume = consume(node, &topic, workload)?;
    delete_topics(node.address(), &[&topic])?;
    Ok(ProduceAndConsume { produce, consume })
}

fn produce(node: &Node, topic: &str, workload: &Throughput, settings: &ClientSettings) -> Result<Run> {
    let mut sender = Sender::new(node.address(), settings, &workload.compression)?;
    sender.warm(node.address(), topic)?;
    let mut payloads = Payloads::new(workload.record_bytes);
    let meter = Meter::start(node.pid())?;
    for sequence in 0..workload.records {
        let value = payloads.next(Stamp {
            sequence,
            intended_ns: 0,
        });
        sender.send(topic, partition_of(sequence, workload.partitions), &value)?;
    }
    sender.finish()?;
    meter.stop(workload.records, workload.bytes())
}

fn consume(node: &Node, topic: &str, workload: &Throughput) -> Result<Run> {
    let mut checker = Checker::new(workload.record_bytes, workload.partitions);
    let meter = Meter::start(node.pid())?;
    let receiver = Receiver::new(node.address(), &[topic.to_owned()], workload.partitions)?;
    while checker.records() < workload.records {
        receiver.next(|partition, value| checker.take(partition, value))?;
    }
    meter.stop(workload.records, workload.bytes())
}

/// Works a server for a while, so that what it compiles while running is compiled.
pub(crate) fn warm_up(node: &Node, duration: Duration, settings: &ClientSettings) -> Result<()> {
    let began = Instant::now();
    let mut compressions = ["none", "lz4"].into_iter().cycle();
    while began.elapsed() < duration {
        let workload = Throughput {
            record_bytes: 512,
            compression: compressions.next().unwrap_or("none").to_owned(),
            partitions: 4,
            records: WARM_UP_RECORDS,
            settings: String::new(),
            pinned: false,
        };
        produce_and_consume(node, &workload, settings, false)?;
    }
    Ok(())
}
