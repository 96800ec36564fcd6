//! The process as Prometheus' own client libraries describe it, from /proc. Elsewhere than on Linux: nothing.

use std::time::{SystemTime, UNIX_EPOCH};

use highwater_broker::Exposition;
use highwater_broker::metric_defs::{MetricDef, counter, gauge};

pub(super) const CPU: MetricDef = counter(
    "process_cpu_seconds_total",
    &[],
    "CPU time of the process, user and system.",
);
pub(super) const RESIDENT: MetricDef = gauge("process_resident_memory_bytes", &[], "Resident memory.");
pub(super) const VIRTUAL: MetricDef = gauge("process_virtual_memory_bytes", &[], "Virtual memory.");
pub(super) const OPEN_FDS: MetricDef = gauge("process_open_fds", &[], "Open file descriptors.");
pub(super) const MAX_FDS: MetricDef =
    gauge("process_max_fds", &[], "The most file descriptors (soft limit).");
pub(super) const THREADS: MetricDef = gauge("process_threads", &[], "Threads.");
pub(super) const START_TIME: MetricDef = gauge(
    "process_start_time_seconds",
    &[],
    "When the process was started, since the epoch.",
);

/// What /proc counts CPU time in: fixed for every Linux that programs see, whatever the kernel's own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Writes what can be read.
pub(super) fn write(out: &mut Exposition, started: SystemTime) {
    let since_epoch = started.duration_since(UNIX_EPOCH).unwrap_or_default();
    out.single(&START_TIME, since_epoch.as_secs_f64());
    let read = |name: &str| std::fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    if let Some(seconds) = cpu_seconds(&read("stat")) {
        out.single(&CPU, seconds);
    }
    let status = read("status");
    for (def, name, unit) in [
        (&RESIDENT, "VmRSS:", 1024.0),
        (&VIRTUAL, "VmSize:", 1024.0),
        (&THREADS, "Threads:", 1.0),
    ] {
        if let Some(value) = field(&status, name) {
            out.single(def, value * unit);
        }
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        // One of them is the listing itself.
        out.single(&OPEN_FDS, open.count().saturating_sub(1) as f64);
    }
    if let Some(max) = max_files(&read("limits")) {
        out.single(&MAX_FDS, max as f64);
    }
}

/// Fields 14 and 15; the second one, the program's name, may hold anything but is closed by the last parenthesis.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

fn field(status: &str, name: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// The soft limit of open files in the text of /proc/self/limits; `None` also where there is no limit.
fn max_files(limits: &str) -> Option<u64> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_found_behind_any_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 100 1 1";
        assert_eq!(cpu_seconds(stat), Some(3.0));
        assert_eq!(cpu_seconds("nonsense"), None);
    }

    #[test]
    fn the_soft_limit_of_files_is_read() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 1048576              files\n";
        assert_eq!(max_files(limits), Some(1024));
    }
}
