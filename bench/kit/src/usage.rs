//! What processes and the machine have used: CPU seconds and memory, as Linux tells them under `/proc`.
//!
//! Refuses: systems without `/proc`. A throughput without its CPU seconds compares nothing on a small machine.

use std::fs;

use anyhow::{Context, Result};

/// Ticks per second of the times under `/proc`: USER_HZ, the same on every Linux that this runs on.
const TICKS_PER_S: f64 = 100.0;

/// CPU seconds used since a process began.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Cpu {
    /// In its own code.
    pub user_s: f64,
    /// In the kernel on its behalf.
    pub system_s: f64,
}

impl Cpu {
    /// Both.
    pub fn total_s(self) -> f64 {
        self.user_s + self.system_s
    }

    /// What was used after an earlier look.
    pub fn since(self, earlier: Cpu) -> Cpu {
        Cpu {
            user_s: self.user_s - earlier.user_s,
            system_s: self.system_s - earlier.system_s,
        }
    }
}

/// CPU seconds of a process, ended threads included.
pub fn cpu_of(pid: u32) -> Result<Cpu> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("cannot read {path}; this needs Linux"))?;
    parse_stat(&stat).with_context(|| format!("{path} has no CPU times"))
}

/// Fields 14 and 15 are user and system time. The second field, the program's name, may contain anything, so counting
/// starts behind its closing bracket.
fn parse_stat(stat: &str) -> Option<Cpu> {
    parse_times(stat, 11)
}

/// Two times, the first of them `skip` fields behind the name.
fn parse_times(stat: &str, skip: usize) -> Option<Cpu> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(skip);
    let mut seconds = || Some(fields.next()?.parse::<f64>().ok()? / TICKS_PER_S);
    Some(Cpu {
        user_s: seconds()?,
        system_s: seconds()?,
    })
}

/// CPU seconds of the children of this process that have ended.
pub fn ended_children() -> Result<Cpu> {
    let stat = fs::read_to_string("/proc/self/stat").context("cannot read /proc/self/stat")?;
    parse_times(&stat, 13).context("/proc/self/stat has no CPU times of children")
}

/// The most memory a process ever had resident, in MB.
pub fn peak_rss_mb(pid: u32) -> Result<f64> {
    status_mb(pid, "VmHWM:")
}

/// The memory a process has resident, in MB.
pub fn rss_mb(pid: u32) -> Result<f64> {
    status_mb(pid, "VmRSS:")
}

fn status_mb(pid: u32, key: &str) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix(key))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok())
        .with_context(|| format!("{path} has no {key}"))?;
    Ok(kib * 1024.0 / 1e6)
}

/// CPU seconds of the whole machine that were not idle, and those that the host took away.
#[derive(Debug, Clone, Copy)]
pub struct MachineCpu {
    /// Neither idle nor waiting nor stolen.
    pub busy_s: f64,
    /// What the host gave to others.
    pub steal_s: f64,
}

/// CPU seconds of the machine since it started.
pub fn machine() -> Result<MachineCpu> {
    let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
    parse_machine(&stat).context("/proc/stat has no line for all CPUs")
}

/// The line is `cpu user nice system idle iowait irq softirq steal ..`.
fn parse_machine(stat: &str) -> Option<MachineCpu> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    let fields = line.split_ascii_whitespace().map(str::parse::<f64>);
    let fields = fields.collect::<Result<Vec<_>, _>>().ok()?;
    let at = |field: usize| fields.get(field).copied();
    let busy = [0, 1, 2, 5, 6].into_iter().filter_map(at).sum::<f64>();
    Some(MachineCpu {
        busy_s: busy / TICKS_PER_S,
        steal_s: at(7)? / TICKS_PER_S,
    })
}

/// Memory that programs can have without anything being given up that is in use.
pub fn available_memory_bytes() -> Result<u64> {
    let path = "/proc/meminfo";
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    memory_info(&text, "MemAvailable:").with_context(|| format!("{path} has no MemAvailable"))
}

/// A line of `/proc/meminfo`, in bytes.
fn memory_info(text: &str, key: &str) -> Option<u64> {
    let mut values = text.lines().filter_map(|line| line.strip_prefix(key));
    let kib: u64 = values.next()?.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib * 1024)
}

/// One line about where this ran.
pub fn machine_line() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu_info = read("/proc/cpuinfo");
    let model = cpu_info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
        .map_or("unknown CPU", |(_, model)| model.trim());
    let memory_bytes = memory_info(&read("/proc/meminfo"), "MemTotal:").unwrap_or_default();
    format!(
        "{} x {model}, {:.0} GB, Linux {}, load {}",
        cores(),
        memory_bytes as f64 / 1e9,
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg")
            .split_ascii_whitespace()
            .take(3)
            .collect::<Vec<_>>()
            .join(" "),
    )
}

/// Cores of the machine, whichever of them this process may use.
pub fn cores() -> usize {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let of_one_core = |line: &&str| {
        line.strip_prefix("cpu")
            .is_some_and(|rest| rest.starts_with(|digit: char| digit.is_ascii_digit()))
    };
    stat.lines().filter(of_one_core).count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_with_brackets_and_spaces_in_its_name_does_not_shift_the_fields() {
        let stat = "42 (a) b (c)) S 1 42 42 0 -1 4194304 1 2 3 4 250 150 7 8 20 0 5 0 99";
        let expected = Cpu {
            user_s: 2.5,
            system_s: 1.5,
        };
        assert_eq!(parse_stat(stat), Some(expected));
    }

    #[test]
    fn idle_waiting_and_stolen_time_is_not_busy() {
        let machine =
            parse_machine("cpu  100 200 300 9999 9999 400 500 600 7 8\ncpu0 1\n").expect("the line");
        assert_eq!((machine.busy_s, machine.steal_s), (15.0, 6.0));
    }

    #[test]
    fn this_process_has_used_memory() {
        assert!(peak_rss_mb(std::process::id()).expect("Linux") > 0.0);
    }
}
