//! One run's figures: time, CPU of server and client, what else the machine did, latencies.

use std::time::Instant;

use anyhow::Result;
use highwater_bench_kit::{
    latencies::Latency,
    usage::{self, Cpu, MachineCpu},
};
use serde::Serialize;

/// What one run measured. `None` means that the run has no such figure.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Sample {
    pub(crate) seconds: f64,
    pub(crate) records: u64,
    /// Payload bytes, or bytes on the wire where nothing was decoded.
    pub(crate) bytes: u64,
    /// CPU seconds of the broker's process.
    pub(crate) server_user_s: Option<f64>,
    pub(crate) server_system_s: Option<f64>,
    /// CPU seconds of this process.
    pub(crate) client_user_s: f64,
    pub(crate) client_system_s: f64,
    /// CPU of everything else, in percent of the machine.
    pub(crate) foreign_percent: f64,
    /// CPU that the host gave to others, in percent of the machine.
    pub(crate) steal_percent: f64,
    pub(crate) latency: Option<Latency>,
    /// Where the generator did not keep up: what it reached, in records per second.
    pub(crate) saturated_at: Option<f64>,
}

impl Sample {
    pub(crate) fn records_per_s(&self) -> Option<f64> {
        (self.records > 0).then(|| self.records as f64 / self.seconds)
    }

    pub(crate) fn mb_per_s(&self) -> Option<f64> {
        (self.bytes > 0).then(|| self.bytes as f64 / 1e6 / self.seconds)
    }

    fn server_s(&self) -> Option<f64> {
        Some(self.server_user_s? + self.server_system_s?)
    }

    fn client_s(&self) -> f64 {
        self.client_user_s + self.client_system_s
    }

    fn per_gb(&self, cpu_s: f64) -> Option<f64> {
        (self.bytes > 0).then(|| cpu_s / (self.bytes as f64 / 1e9))
    }

    fn us_per_record(&self, cpu_s: f64) -> Option<f64> {
        (self.records > 0).then(|| cpu_s * 1e6 / self.records as f64)
    }

    pub(crate) fn server_s_per_gb(&self) -> Option<f64> {
        self.per_gb(self.server_s()?)
    }

    pub(crate) fn server_us_per_record(&self) -> Option<f64> {
        self.us_per_record(self.server_s()?)
    }

    pub(crate) fn client_s_per_gb(&self) -> Option<f64> {
        self.per_gb(self.client_s())
    }

    pub(crate) fn client_us_per_record(&self) -> Option<f64> {
        self.us_per_record(self.client_s())
    }
}

/// Measures from `start` to `stop`.
#[derive(Debug)]
pub(crate) struct Meter {
    server: Option<u32>,
    server_before: Cpu,
    client_before: Cpu,
    machine_before: MachineCpu,
    started: Instant,
}

impl Meter {
    /// Begins; `server` is the process of the broker, if that is another one.
    pub(crate) fn start(server: Option<u32>) -> Result<Self> {
        Ok(Meter {
            server,
            server_before: server.map(usage::cpu_of).transpose()?.unwrap_or_default(),
            client_before: usage::cpu_of(std::process::id())?,
            machine_before: usage::machine()?,
            started: Instant::now(),
        })
    }

    /// Ends; the run moved `records` and `bytes`.
    pub(crate) fn stop(self, records: u64, bytes: u64) -> Result<Sample> {
        let seconds = self.started.elapsed().as_secs_f64();
        let machine = usage::machine()?;
        let client = usage::cpu_of(std::process::id())?.since(self.client_before);
        let server = match self.server {
            Some(pid) => Some(usage::cpu_of(pid)?.since(self.server_before)),
            None => None,
        };
        let ours_s = client.total_s() + server.map_or(0.0, Cpu::total_s);
        let busy_s = machine.busy_s - self.machine_before.busy_s;
        let capacity_s = seconds * usage::cores() as f64;
        Ok(Sample {
            seconds,
            records,
            bytes,
            server_user_s: server.map(|cpu| cpu.user_s),
            server_system_s: server.map(|cpu| cpu.system_s),
            client_user_s: client.user_s,
            client_system_s: client.system_s,
            foreign_percent: (busy_s - ours_s).max(0.0) / capacity_s * 100.0,
            steal_percent: (machine.steal_s - self.machine_before.steal_s) / capacity_s * 100.0,
            latency: None,
            saturated_at: None,
        })
    }
}
