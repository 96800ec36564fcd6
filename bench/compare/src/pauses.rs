//! When the machine itself stood still.
//!
//! The host of a virtual machine may stop all its cores for tens of milliseconds, and then a p99 tells of the host and not
//! of the server. Such pauses show in no counter of the guest. So on each core a process of real-time priority, which
//! nothing on the machine can keep from running, sleeps for a millisecond at a time and tells when it wakes late; when all
//! cores were late at once, it was the machine.

use std::io::{BufRead, BufReader, Write};
use std::ops::Range;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use highwater_bench_kit::pace;
use highwater_bench_kit::usage;

/// The argument that makes this program watch the core it runs on.
pub(crate) const WATCH: &str = "watch";
/// The priority of the watchers among the real-time ones; the lowest is above all others.
const PRIORITY: &str = "1";
const NAP: Duration = Duration::from_millis(1);
/// Waking up later than this is told. The kernel's own work on a core takes less.
const LATE: Duration = Duration::from_millis(2);
/// A pause of all cores that is shorter than this is none: it may be two interrupts.
const SHORTEST: Duration = Duration::from_millis(3);

/// A span of time of the clock that never goes back, in nanoseconds.
type Span = Range<u64>;

/// Watches all cores until it is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    watchers: Vec<Child>,
    /// When each core did not run.
    late: Vec<Arc<Mutex<Vec<Span>>>>,
    /// The same moment on both clocks.
    origin: (Instant, u64),
}

impl Watch {
    /// Needs the right to real-time priorities.
    pub(crate) fn start() -> Result<Self> {
        let mut watch = Watch {
            watchers: Vec::new(),
            late: Vec::new(),
            origin: (Instant::now(), now_ns()?),
        };
        for core in 0..usage::cores() {
            watch.add(core)?;
        }
        Ok(watch)
    }

    fn add(&mut self, core: usize) -> Result<()> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut child = Command::new("taskset")
            .args(["-c", &core.to_string(), "chrt", "-f", PRIORITY])
            .arg(&program)
            .arg(WATCH)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run taskset and chrt, which place a process on a core and raise its priority (on Debian: util-linux)")?;
        let lines = child.stdout.take().context("a watcher has no output")?;
        self.watchers.push(child);
        let mut lines = BufReader::new(lines);
        let mut first = String::new();
        lines.read_line(&mut first)?;
        ensure!(
            first.trim() == WATCH,
            "real-time priority is refused: `chrt -f {PRIORITY}` needs root or CAP_SYS_NICE"
        );
        let late = Arc::default();
        self.late.push(Arc::clone(&late));
        std::thread::spawn(move || collect(lines, &late));
        Ok(())
    }

    pub(crate) fn pids(&self) -> Vec<u32> {
        self.watchers.iter().map(Child::id).collect()
    }

    /// The pauses until now, as time since `start`. Waits for news that are on their way.
    pub(crate) fn since(&self, start: Instant) -> Pauses {
        std::thread::sleep(NAP * 20);
        let (instant, ns) = self.origin;
        let start_ns = ns + nanos(start.saturating_duration_since(instant));
        let late = self.late.iter().map(|late| {
            let spans = late.lock().unwrap_or_else(PoisonError::into_inner);
            spans.clone()
        });
        Pauses::of(late, start_ns)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for child in &mut self.watchers {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn collect(lines: BufReader<ChildStdout>, late: &Mutex<Vec<Span>>) {
    for line in lines.lines().map_while(Result::ok) {
        if let Some((from, until)) = line.split_once(' ')
            && let (Ok(from), Ok(until)) = (from.parse(), until.parse())
        {
            late.lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(from..until);
        }
    }
}

/// Tells when this core did not run, until nobody listens.
pub(crate) fn watch() -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{WATCH}")?;
    output.flush()?;
    let parent = std::os::unix::process::parent_id();
    while std::os::unix::process::parent_id() == parent {
        let due = now_ns()? + nanos(NAP);
        pace::wait_until(Instant::now() + NAP);
        let woken = now_ns()?;
        if woken.saturating_sub(due) >= nanos(LATE) {
            writeln!(output, "{due} {woken}")?;
            output.flush()?;
        }
    }
    Ok(())
}

/// Spans of one run, from its start, in which no core ran.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Pauses(Vec<Range<Duration>>);

impl Pauses {
    /// Of the late spans of each core, the parts which all have.
    fn of(mut late: impl Iterator<Item = Vec<Span>>, start_ns: u64) -> Self {
        let Some(first) = late.next() else {
            return Pauses::default();
        };
        let common = late.fold(first, |common, other| both(&common, &other));
        let since = |ns: u64| Duration::from_nanos(ns.saturating_sub(start_ns));
        let spans = common
            .into_iter()
            .filter(|span| span.end - span.start >= nanos(SHORTEST) && span.end > start_ns);
        Pauses(spans.map(|span| since(span.start)..since(span.end)).collect())
    }

    /// Whether the machine paused between these two moments.
    pub(crate) fn touch(&self, from: Duration, until: Duration) -> bool {
        // Sorted, so everything before this index ended before.
        let next = self.0.partition_point(|pause| pause.end <= from);
        self.0.get(next).is_some_and(|pause| pause.start < until)
    }

    /// From and until so many milliseconds after the start.
    #[cfg(test)]
    pub(crate) fn at(ms: &[Range<u64>]) -> Self {
        let span = |span: &Range<u64>| Duration::from_millis(span.start)..Duration::from_millis(span.end);
        Pauses(ms.iter().map(span).collect())
    }

    /// All of them together.
    pub(crate) fn total(&self) -> Duration {
        self.0.iter().map(|pause| pause.end - pause.start).sum()
    }
}

/// Where spans of both overlap; both are sorted.
fn both(one: &[Span], other: &[Span]) -> Vec<Span> {
    let mut common = Vec::new();
    let (mut left, mut right) = (one.iter().peekable(), other.iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let overlap = a.start.max(b.start)..a.end.min(b.end);
        let left_ends_first = a.end < b.end;
        if !overlap.is_empty() {
            common.push(overlap);
        }
        if left_ends_first {
            left.next();
        } else {
            right.next();
        }
    }
    common
}

fn now_ns() -> Result<u64> {
    Ok(nanos(pace::monotonic()?))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn ms(range: Range<u64>) -> Span {
        range.start * MS..range.end * MS
    }

    #[test]
    fn the_machine_paused_where_all_cores_were_late_for_long_enough() {
        let cores = [
            vec![ms(0..10), ms(100..150), ms(200..210), ms(300..310)],
            vec![ms(90..120), ms(130..160), ms(208..220), ms(311..320)],
        ];
        let pauses = Pauses::of(cores.into_iter(), 100 * MS);
        assert_eq!(pauses, Pauses::at(&[0..20, 30..50]));
        assert_eq!(pauses.total(), Duration::from_millis(40));
    }

    #[test]
    fn what_was_on_its_way_during_a_pause_is_known() {
        let pauses = Pauses::at(&[10..20, 40..50]);
        let touch = |from, until| pauses.touch(Duration::from_millis(from), Duration::from_millis(until));
        assert!(touch(5, 11) && touch(12, 13) && touch(19, 30) && touch(5, 60) && touch(49, 55));
        assert!(!touch(0, 10) && !touch(20, 40) && !touch(50, 60));
    }
}
