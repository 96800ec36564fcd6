//! Kafka's own performance tools, as they are in its jars: a second opinion from a client that is not librdkafka.

use std::net::SocketAddr;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::client::{TopicSpec, create_topics, delete_topics};
use crate::measure::{Figure, Meter, Run};
use crate::runs::fresh_topic;
use crate::system::{Node, Programs};
use crate::workloads::{JavaTool, Tool, size};

/// The tools' own heap.
const JVM: &[&str] = &["-Xms512m", "-Xmx512m", "-XX:+UseG1GC"];
const PARTITIONS: i32 = 4;

impl JavaTool {
    pub(crate) fn name(&self) -> String {
        let tool = match self.tool {
            Tool::Producer => "ProducerPerformance",
            Tool::Consumer => "ConsumerPerformance",
            Tool::EndToEnd => "EndToEndLatency",
        };
        format!("{tool} {}", size(self.record_bytes))
    }
}

/// One run of a tool on a topic of its own.
pub(crate) fn run(node: &Node, programs: &Programs, workload: &JavaTool) -> Result<Run> {
    let topic = fresh_topic("java");
    let spec = TopicSpec {
        partitions: if workload.tool == Tool::EndToEnd {
            1
        } else {
            PARTITIONS
        },
        durable: false,
    };
    create_topics(node.address(), std::slice::from_ref(&topic), spec)?;
    if workload.tool == Tool::Consumer {
        output_of(&mut producer(node.address(), programs, &topic, workload))?;
    }
    let mut command = match workload.tool {
        Tool::Producer => producer(node.address(), programs, &topic, workload),
        Tool::Consumer => consumer(node.address(), programs, &topic, workload),
        Tool::EndToEnd => end_to_end(node.address(), programs, &topic, workload),
    };
    let meter = Meter::start(node.pid())?;
    let output = output_of(&mut command)?;
    let run = meter.stop(workload.records, workload.records * workload.record_bytes as u64)?;
    delete_topics(node.address(), &[&topic])?;
    read(run, workload, &output)
        .with_context(|| format!("{} printed something else: {output}", workload.name()))
}

fn tool(programs: &Programs, class: &str) -> Command {
    let mut command = programs.java(JVM);
    command.arg(format!("org.apache.kafka.tools.{class}"));
    command
}

fn producer(address: SocketAddr, programs: &Programs, topic: &str, workload: &JavaTool) -> Command {
    let mut command = tool(programs, "ProducerPerformance");
    command
        .args(["--topic", topic, "--throughput", "-1"])
        .args(["--num-records", &workload.records.to_string()])
        .args(["--record-size", &workload.record_bytes.to_string()])
        .arg("--producer-props")
        .arg(format!("bootstrap.servers={address}"));
    command
}

fn consumer(address: SocketAddr, programs: &Programs, topic: &str, workload: &JavaTool) -> Command {
    let mut command = tool(programs, "ConsumerPerformance");
    command
        .args(["--topic", topic, "--hide-header", "--timeout", "60000"])
        .args(["--messages", &workload.records.to_string()])
        .arg("--bootstrap-server")
        .arg(address.to_string());
    command
}

fn end_to_end(address: SocketAddr, programs: &Programs, topic: &str, workload: &JavaTool) -> Command {
    let mut command = tool(programs, "EndToEndLatency");
    command
        .arg(address.to_string())
        .arg(topic)
        .arg(workload.records.to_string())
        .arg("all")
        .arg(workload.record_bytes.to_string());
    command
}

fn output_of(command: &mut Command) -> Result<String> {
    let output = command.output().context("cannot start java")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{command:?} ended with {}: {text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

/// Takes the figures out of what a tool printed; the time of the process itself, which is mostly the start of a
/// virtual machine, is not one of them.
fn read(run: Run, workload: &JavaTool, output: &str) -> Option<Run> {
    let run = run.without_rate();
    match workload.tool {
        Tool::Producer => {
            let last = output.lines().rfind(|line| line.contains(" records sent, "))?;
            let per_s = last.split(" records/sec").next()?.rsplit(", ").next()?;
            // Its percentiles are those of a queue that is always full; they compare nothing.
            Some(run.with(Figure::RecordsPerS, per_s.trim().parse().ok()?))
        }
        Tool::Consumer => {
            let fields: Vec<&str> = output
                .lines()
                .rfind(|line| line.contains(", "))?
                .split(", ")
                .collect();
            let read: f64 = fields.get(4)?.parse().ok()?;
            // Without the time in which a consumer group forms.
            let per_s: f64 = fields.get(9)?.trim().parse().ok()?;
            (read >= workload.records as f64).then(|| run.with(Figure::RecordsPerS, per_s))
        }
        Tool::EndToEnd => {
            let line = output.lines().rfind(|line| line.contains("50th ="))?;
            let ms = |what: &str| -> Option<f64> {
                line.split(what).nth(1)?.split(',').next()?.trim().parse().ok()
            };
            Some(
                run.with(Figure::P50Us, ms("50th =")? * 1e3)
                    .with(Figure::P99Us, ms("99th =")? * 1e3)
                    .with(Figure::P999Us, ms("99.9th =")? * 1e3),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(tool: Tool, records: u64, output: &str) -> Option<Vec<(Figure, f64)>> {
        let workload = JavaTool {
            tool,
            record_bytes: 100,
            records,
        };
        Some(
            read(Run::default(), &workload, output)?
                .figures
                .into_iter()
                .collect(),
        )
    }

    #[test]
    fn the_last_line_of_a_producer_is_read() {
        let output = "1 records sent, 5.0 records/sec (0.1 MB/sec), 1.0 ms avg latency, 2.0 ms max latency.\n\
            1000 records sent, 2500.5 records/sec (2.4 MB/sec), 1.20 ms avg latency, 30.00 ms max latency, \
            1 ms 50th, 2 ms 95th, 7 ms 99th, 9 ms 99.9th.\n";
        assert_eq!(
            figures(Tool::Producer, 1_000, output),
            Some(vec![(Figure::RecordsPerS, 2_500.5)])
        );
    }

    #[test]
    fn a_consumer_that_read_too_little_has_no_figures() {
        let output = "2026-01-01 00:00:00:000, 2026-01-01 00:00:01:000, 9.5, 9.5, 1000, 1000.0, 400, 600, 15.9, 1666.7\n";
        assert_eq!(
            figures(Tool::Consumer, 1_000, output),
            Some(vec![(Figure::RecordsPerS, 1_666.7)])
        );
        assert_eq!(figures(Tool::Consumer, 1_001, output), None);
    }

    #[test]
    fn percentiles_of_end_to_end_are_read() {
        let output = "Avg latency: 0.41 ms\n\nPercentiles: 50th = 0, 99th = 1, 99.9th = 5\n";
        let expected = vec![
            (Figure::P50Us, 0.0),
            (Figure::P99Us, 1_000.0),
            (Figure::P999Us, 5_000.0),
        ];
        assert_eq!(figures(Tool::EndToEnd, 10, output), Some(expected));
    }
}
