//! The table of workloads, as `compare.toml` has it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// The table that is built in.
const BUILT_IN: &str = include_str!("../compare.toml");

/// What a quick look divides records and seconds by.
const QUICK: u64 = 10;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Workloads {
    #[serde(default)]
    pub(crate) memory: Memory,
    pub(crate) settings: BTreeMap<String, ClientSettings>,
    pub(crate) throughput: ThroughputGroup,
    pub(crate) latency: LatencyGroup,
    pub(crate) durable: DurableGroup,
    pub(crate) fetch: FetchGroup,
    pub(crate) catch_up: CatchUpGroup,
    pub(crate) java: JavaGroup,
    pub(crate) start: StartGroup,
    pub(crate) partitions: PartitionsGroup,
}

/// What is done to the machine's memory before a run.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Memory {
    /// Touched and given back before each run that writes much.
    pub(crate) touched_bytes: u64,
}

/// What a librdkafka producer is told.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ClientSettings {
    pub(crate) linger_ms: u32,
    pub(crate) batch_bytes: u32,
    pub(crate) batch_records: u32,
    pub(crate) acks: String,
    pub(crate) idempotent: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ThroughputGroup {
    /// How long each system works before anything is counted: a virtual machine compiles what it runs often.
    pub(crate) warm_up_s: u64,
    pub(crate) workloads: Vec<Throughput>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Throughput {
    pub(crate) record_bytes: usize,
    pub(crate) compression: String,
    pub(crate) partitions: i32,
    pub(crate) records: u64,
    pub(crate) settings: String,
    /// Server on the first core, client on the second.
    #[serde(default)]
    pub(crate) pinned: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LatencyGroup {
    pub(crate) workloads: Vec<Latency>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Latency {
    pub(crate) record_bytes: usize,
    pub(crate) rate: u64,
    pub(crate) seconds: u64,
    pub(crate) settings: String,
    /// Two processes of the lowest priority keep the cores awake, so that waking them is no part of the figure.
    #[serde(default)]
    pub(crate) spinners: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct DurableGroup {
    pub(crate) throughput: Vec<Throughput>,
    pub(crate) latency: Vec<Latency>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FetchGroup {
    pub(crate) workloads: Vec<RawFetch>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawFetch {
    pub(crate) record_bytes: usize,
    pub(crate) partitions: i32,
    pub(crate) total_bytes: u64,
    pub(crate) partition_fetch_bytes: i32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CatchUpGroup {
    pub(crate) workloads: Vec<CatchUp>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CatchUp {
    pub(crate) record_bytes: usize,
    pub(crate) partitions: i32,
    pub(crate) backlog_records: u64,
    pub(crate) rate: u64,
    pub(crate) settings: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JavaGroup {
    pub(crate) workloads: Vec<JavaTool>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JavaTool {
    pub(crate) tool: Tool,
    pub(crate) record_bytes: usize,
    pub(crate) records: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Tool {
    Producer,
    Consumer,
    EndToEnd,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct StartGroup {
    pub(crate) runs: usize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PartitionsGroup {
    /// How long the idle node is watched.
    pub(crate) idle_s: u64,
    pub(crate) workloads: Vec<Partitions>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Partitions {
    pub(crate) topics: i32,
    pub(crate) partitions_per_topic: i32,
}

impl Workloads {
    /// The table of `file`, or the one that is built in; a quick look shortens it.
    pub(crate) fn read(file: Option<&std::path::Path>, quick: bool) -> Result<Self> {
        let text = match file {
            Some(file) => {
                std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?
            }
            None => BUILT_IN.to_owned(),
        };
        let mut workloads: Workloads = toml::from_str(&text).context("the table of workloads")?;
        workloads.check_settings()?;
        if quick {
            workloads.shorten();
        }
        Ok(workloads)
    }

    /// The settings that a workload names.
    pub(crate) fn settings(&self, name: &str) -> Result<&ClientSettings> {
        self.settings
            .get(name)
            .with_context(|| format!("the table of workloads has no [settings.{name}]"))
    }

    fn check_settings(&self) -> Result<()> {
        let throughput = self.throughput.workloads.iter().chain(&self.durable.throughput);
        let latency = self.latency.workloads.iter().chain(&self.durable.latency);
        let named = throughput
            .map(|workload| &workload.settings)
            .chain(latency.map(|workload| &workload.settings))
            .chain(self.catch_up.workloads.iter().map(|workload| &workload.settings));
        for name in named {
            self.settings(name)?;
        }
        ensure!(self.partitions.idle_s > 0, "[partitions] idle_s must be above 0");
        Ok(())
    }

    fn shorten(&mut self) {
        self.memory.touched_bytes /= QUICK;
        self.throughput.warm_up_s = self.throughput.warm_up_s.min(3);
        let throughput = self.throughput.workloads.iter_mut();
        for workload in throughput.chain(&mut self.durable.throughput) {
            workload.records = (workload.records / QUICK).max(1);
        }
        let latency = self.latency.workloads.iter_mut();
        for workload in latency.chain(&mut self.durable.latency) {
            workload.seconds = workload.seconds.min(2);
        }
        for workload in &mut self.fetch.workloads {
            workload.total_bytes /= QUICK;
        }
        for workload in &mut self.catch_up.workloads {
            workload.backlog_records /= QUICK;
        }
        for workload in &mut self.java.workloads {
            workload.records = (workload.records / QUICK).max(1);
        }
        self.start.runs = self.start.runs.min(2);
        self.partitions.idle_s = self.partitions.idle_s.min(5);
        // The largest takes minutes whatever is left out.
        self.partitions.workloads.truncate(1);
    }
}

impl Throughput {
    pub(crate) fn name(&self) -> String {
        let pinned = if self.pinned { ", a core each" } else { "" };
        format!(
            "{} {} ({}){pinned}",
            size(self.record_bytes),
            self.compression,
            self.settings
        )
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.records * self.record_bytes as u64
    }
}

impl Latency {
    pub(crate) fn name(&self) -> String {
        let spinners = if self.spinners { ", cores kept awake" } else { "" };
        format!(
            "{} at {}/s{spinners}",
            size(self.record_bytes),
            grouped(self.rate)
        )
    }

    pub(crate) fn records(&self) -> u64 {
        self.rate * self.seconds
    }

    /// When a record is due, since the start.
    pub(crate) fn due(&self, sequence: u64) -> Duration {
        due(sequence, self.rate)
    }
}

/// When the record `sequence` is due at a rate per second, without drift.
pub(crate) fn due(sequence: u64, rate: u64) -> Duration {
    Duration::from_nanos((u128::from(sequence) * 1_000_000_000 / u128::from(rate)) as u64)
}

impl Partitions {
    pub(crate) fn count(&self) -> i32 {
        self.topics * self.partitions_per_topic
    }
}

/// `100 B`, `1 KiB`.
pub(crate) fn size(bytes: usize) -> String {
    if bytes >= 1_024 && bytes.is_multiple_of(1_024) {
        format!("{} KiB", bytes / 1_024)
    } else {
        format!("{bytes} B")
    }
}

/// `10,000`.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_table_reads_and_its_settings_exist() {
        let workloads = Workloads::read(None, false).expect("the built-in table");
        assert!(workloads.throughput.workloads.len() >= 6);
        assert!(Workloads::read(None, true).is_ok());
    }

    #[test]
    fn records_are_due_evenly_and_without_drift() {
        assert_eq!(due(0, 3), Duration::ZERO);
        assert_eq!(due(3_000, 3), Duration::from_secs(1_000));
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(1), "1");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(12_345_678), "12,345,678");
    }
}
