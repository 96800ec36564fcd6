//! The workloads as data: what `workloads.toml` says, and how a quick run shrinks it.

use std::time::Duration;

use highwater_types::record::Compression;
use serde::Deserialize;

/// The built-in table; `--workloads` takes another one.
const BUILT_IN: &str = include_str!("../workloads.toml");

/// A quick run moves this part of the records.
const QUICK_PART: u64 = 10;

/// Everything a run of the program measures.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Workloads {
    pub(crate) produce: Group<ProduceWorkload>,
    pub(crate) embedded_produce: Group<ProduceWorkload>,
    pub(crate) fetch: Group<FetchWorkload>,
    pub(crate) loopback: LoopbackWorkload,
    pub(crate) latency: Group<LatencyWorkload>,
    pub(crate) candles_engine: Group<CandlesWorkload>,
    pub(crate) candles_end_to_end: Group<CandlesWorkload>,
}

/// Workloads that take turns, so that what else the machine does meets all of them alike.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Group<W> {
    budget_s: u64,
    pub(crate) workloads: Vec<W>,
}

impl<W> Group<W> {
    pub(crate) fn budget(&self) -> Duration {
        Duration::from_secs(self.budget_s)
    }
}

/// Records of one size into one topic.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProduceWorkload {
    pub(crate) record_bytes: usize,
    pub(crate) partitions: i32,
    #[serde(deserialize_with = "codec")]
    pub(crate) compression: Compression,
    pub(crate) records: u64,
}

/// How a topic is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Reader {
    /// Batches as the log has them; nothing is decoded.
    Raw,
    /// Records, through the consumer.
    Consumer,
}

/// Records of one size out of one topic.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FetchWorkload {
    pub(crate) record_bytes: usize,
    pub(crate) partitions: i32,
    #[serde(deserialize_with = "codec")]
    pub(crate) compression: Compression,
    pub(crate) records: u64,
    pub(crate) reader: Reader,
}

/// A plain copy through a socket.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoopbackWorkload {
    pub(crate) write_bytes: usize,
    pub(crate) total_bytes: u64,
}

/// Records at a fixed rate.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LatencyWorkload {
    pub(crate) record_bytes: usize,
    /// Records per second.
    pub(crate) rate: u64,
    pub(crate) seconds: u64,
}

/// Prices to be made into candles.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CandlesWorkload {
    pub(crate) keys: u64,
    pub(crate) records: u64,
    pub(crate) records_per_minute: u64,
}

fn codec<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Compression, D::Error> {
    let name = String::deserialize(deserializer)?;
    name.parse().map_err(serde::de::Error::custom)
}

impl Workloads {
    /// Reads a table; the built-in one when there is no `text`.
    pub(crate) fn parse(text: Option<&str>) -> Result<Self, toml::de::Error> {
        toml::from_str(text.unwrap_or(BUILT_IN))
    }

    /// Makes every workload small enough for a look of half a minute.
    pub(crate) fn shrink(&mut self) {
        let produce = self
            .produce
            .workloads
            .iter_mut()
            .chain(&mut self.embedded_produce.workloads)
            .map(|workload| &mut workload.records);
        let fetch = self
            .fetch
            .workloads
            .iter_mut()
            .map(|workload| &mut workload.records);
        let candles = self
            .candles_engine
            .workloads
            .iter_mut()
            .chain(&mut self.candles_end_to_end.workloads)
            .map(|workload| &mut workload.records);
        for records in produce.chain(fetch).chain(candles) {
            *records = (*records / QUICK_PART).max(1);
        }
        // Long enough for some ticks of CPU time.
        self.loopback.total_bytes /= 2;
        for latency in &mut self.latency.workloads {
            latency.seconds = 1;
        }
    }
}

/// A size as people write it: bytes below a kibibyte, whole kibibytes above.
pub(crate) fn size(bytes: usize) -> String {
    match bytes {
        bytes if bytes >= 1024 && bytes % 1024 == 0 => format!("{} KiB", bytes / 1024),
        bytes => format!("{bytes} B"),
    }
}

/// A count as people write it.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_table_reads_and_a_quick_run_keeps_every_workload() {
        let mut workloads = Workloads::parse(None).expect("the built-in table is sound");
        let full = workloads.produce.workloads[0].records;
        workloads.shrink();
        assert_eq!(workloads.produce.workloads[0].records, full / QUICK_PART);
        assert!(workloads.produce.workloads.iter().all(|it| it.records > 0));
    }

    #[test]
    fn a_misspelt_setting_is_refused() {
        let wrong = BUILT_IN.replacen("partitions", "partition", 1);
        let error = Workloads::parse(Some(&wrong)).expect_err("there is no such setting");
        assert!(error.to_string().contains("partition"), "{error}");
    }

    #[test]
    fn sizes_and_counts_are_written_for_people() {
        assert_eq!(
            (size(100), size(10_240)),
            ("100 B".to_owned(), "10 KiB".to_owned())
        );
        assert_eq!([7, 1_000, 1_234_567].map(grouped), ["7", "1,000", "1,234,567"]);
    }
}
