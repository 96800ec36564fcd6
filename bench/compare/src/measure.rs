//! What a run measured: figures, and the conditions under which they were measured.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use highwater_bench_kit::usage::{self, Cpu, MachineCpu};
use serde::Serialize;

use crate::pauses::Pauses;
use crate::timeline::Timeline;

/// Everything that is measured. The order is that of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Figure {
    RecordsPerS,
    MbPerS,
    ServerUsPerRecord,
    ServerUserUsPerRecord,
    ServerSystemUsPerRecord,
    ServerSPerGb,
    /// Cores that the server kept busy, and the client.
    ServerCores,
    ClientCores,
    P50Us,
    P99Us,
    P999Us,
    MaxUs,
    /// Of all records, those too that were on their way while the machine paused.
    P99OfAllUs,
    /// How long the machine paused.
    PausedMs,
    /// Percentiles of producing while a backlog is drained.
    AckP99Us,
    /// Bytes of batches, not of values.
    FetchedMbPerS,
    CopyMbPerS,
    PartOfCopyPercent,
    FirstProduceMs,
    CreateS,
    IdleCpuPercent,
    RestartMs,
    RestartKilledMs,
    RssIdleMb,
    RssEndMb,
    RssPeakMb,
}

/// One run's figures.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Run {
    pub(crate) figures: BTreeMap<Figure, f64>,
    pub(crate) seconds: f64,
    /// CPU of everything that is neither server nor client, in percent of the machine.
    pub(crate) foreign_percent: f64,
    /// CPU that the host gave to others, in percent of the machine.
    pub(crate) steal_percent: f64,
    /// Where an open-loop generator did not keep up: what it reached, in records per second.
    pub(crate) saturated_at: Option<f64>,
}

impl Run {
    pub(crate) fn with(mut self, figure: Figure, value: f64) -> Self {
        self.figures.insert(figure, value);
        self
    }

    /// Moves the throughput of a run out of the table: its rate was asked for, or it is told in another figure.
    pub(crate) fn without_rate(mut self) -> Self {
        self.figures.remove(&Figure::RecordsPerS);
        self.figures.remove(&Figure::MbPerS);
        self
    }

    /// Percentiles of the records that no pause of the machine held up, and beside them the p99 of all; `None` without
    /// records. Where pauses are not known, all records count.
    pub(crate) fn with_latency(self, timeline: &Timeline, pauses: Option<&Pauses>) -> Option<Self> {
        let latency = timeline.latency(pauses)?;
        let run = self
            .with(Figure::P50Us, latency.p50_us)
            .with(Figure::P99Us, latency.p99_us)
            .with(Figure::P999Us, latency.p999_us)
            .with(Figure::MaxUs, latency.max_us);
        run.with_pauses(timeline, pauses)
    }

    /// The p99 of producing while something else is measured, in the same way.
    pub(crate) fn with_ack_latency(self, timeline: &Timeline, pauses: Option<&Pauses>) -> Option<Self> {
        self.with(Figure::AckP99Us, timeline.latency(pauses)?.p99_us)
            .with_pauses(timeline, pauses)
    }

    fn with_pauses(self, timeline: &Timeline, pauses: Option<&Pauses>) -> Option<Self> {
        let Some(pauses) = pauses else {
            return Some(self);
        };
        let run = self
            .with(Figure::P99OfAllUs, timeline.latency(None)?.p99_us)
            .with(Figure::PausedMs, pauses.total().as_secs_f64() * 1e3);
        Some(run)
    }
}

/// Measures from `start` to `stop`.
#[derive(Debug)]
pub(crate) struct Meter {
    server: u32,
    server_before: Cpu,
    client_before: Cpu,
    /// Processes that are part of the method, such as spinners.
    helpers: Vec<u32>,
    helpers_before: f64,
    machine_before: MachineCpu,
    started: Instant,
}

impl Meter {
    pub(crate) fn start(server: u32) -> Result<Self> {
        Self::start_with(server, Vec::new())
    }

    pub(crate) fn start_with(server: u32, helpers: Vec<u32>) -> Result<Self> {
        Ok(Meter {
            server,
            server_before: usage::cpu_of(server)?,
            client_before: client()?,
            helpers_before: total_of(&helpers)?,
            helpers,
            machine_before: usage::machine()?,
            started: Instant::now(),
        })
    }

    /// Ends; the run moved `records` of `bytes` together.
    pub(crate) fn stop(self, records: u64, bytes: u64) -> Result<Run> {
        let seconds = self.started.elapsed().as_secs_f64();
        let machine = usage::machine()?;
        let server = usage::cpu_of(self.server)?.since(self.server_before);
        let client = client()?.since(self.client_before);
        let helpers_s = total_of(&self.helpers)? - self.helpers_before;
        let ours_s = server.total_s() + client.total_s() + helpers_s;
        let busy_s = machine.busy_s - self.machine_before.busy_s;
        let capacity_s = seconds * usage::cores() as f64;
        let per_record = |cpu_s: f64| cpu_s * 1e6 / records as f64;
        let run = Run {
            seconds,
            foreign_percent: (busy_s - ours_s).max(0.0) / capacity_s * 100.0,
            steal_percent: (machine.steal_s - self.machine_before.steal_s) / capacity_s * 100.0,
            ..Run::default()
        };
        Ok(run
            .with(Figure::RecordsPerS, records as f64 / seconds)
            .with(Figure::MbPerS, bytes as f64 / 1e6 / seconds)
            .with(Figure::ServerUsPerRecord, per_record(server.total_s()))
            .with(Figure::ServerUserUsPerRecord, per_record(server.user_s))
            .with(Figure::ServerSystemUsPerRecord, per_record(server.system_s))
            .with(Figure::ServerSPerGb, server.total_s() / (bytes as f64 / 1e9))
            .with(Figure::ServerCores, server.total_s() / seconds)
            .with(Figure::ClientCores, client.total_s() / seconds))
    }
}

/// This process and what it started and saw end.
fn client() -> Result<Cpu> {
    let own = usage::cpu_of(std::process::id())?;
    let ended = usage::ended_children()?;
    Ok(Cpu {
        user_s: own.user_s + ended.user_s,
        system_s: own.system_s + ended.system_s,
    })
}

fn total_of(processes: &[u32]) -> Result<f64> {
    let mut total_s = 0.0;
    for pid in processes {
        total_s += usage::cpu_of(*pid)?.total_s();
    }
    Ok(total_s)
}
