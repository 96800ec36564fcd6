//! How long records take from their intended moment of sending to the consumer's hands, at a fixed rate.
//!
//! Open loop: record `i` is due at `i / rate`, whatever became of the ones before, so a stall counts against every
//! record it delayed. A generator that falls behind the asked rate gives no percentiles, for they would be those of
//! another rate.

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use highwater_bench_kit::pace::wait_until;
use highwater_bench_kit::payload::{Payloads, Stamp};

use crate::client::{Receiver, Sender, TopicSpec, create_topics, delete_topics};
use crate::content::Checker;
use crate::measure::{Meter, Run};
use crate::pauses::Watch;
use crate::runs::fresh_topic;
use crate::system::Node;
use crate::timeline::Timeline;
use crate::workloads::{ClientSettings, Latency};

/// Below this part of the asked rate the run is saturated.
const REACHED: f64 = 0.995;
/// Records due in this first part of a run warm the path up and are not counted.
const WARM_UP: Duration = Duration::from_millis(500);
/// From starting the consumer to the first record's moment.
const LEAD: Duration = Duration::from_millis(300);

/// One run on a topic of its own.
pub(crate) fn run(node: &Node, workload: &Latency, settings: &ClientSettings, durable: bool) -> Result<Run> {
    let topic = fresh_topic("latency");
    let spec = TopicSpec {
        partitions: 1,
        durable,
    };
    create_topics(node.address(), std::slice::from_ref(&topic), spec)?;
    let mut sender = Sender::new(node.address(), settings, "none")?;
    sender.warm(node.address(), &topic)?;
    let receiver = Receiver::new(node.address(), std::slice::from_ref(&topic), 1)?;
    let spinners = workload.spinners.then(Spinners::start).transpose()?;
    // Without the right to watch, pauses count as latency.
    let watch = Watch::start().ok();
    let mut helpers = spinners.as_ref().map(Spinners::pids).unwrap_or_default();
    helpers.extend(watch.iter().flat_map(Watch::pids));

    let start = Instant::now() + LEAD;
    let meter = Meter::start_with(node.pid(), helpers)?;
    let stop = AtomicBool::new(false);
    let (timeline, last_sent) = std::thread::scope(|scope| {
        let receiving = scope.spawn(|| receive(&receiver, start, workload, &stop));
        let sending = send(&mut sender, &topic, workload, start, &stop);
        let received = receiving
            .join()
            .map_err(|_| anyhow!("the receiving thread panicked"))?;
        Ok::<_, anyhow::Error>((received?, sending?))
    })?;
    let bytes = workload.records() * workload.record_bytes as u64;
    let run = meter.stop(workload.records(), bytes)?.without_rate();
    let pauses = watch.map(|watch| watch.since(start));
    sender.finish()?;
    drop(spinners);
    delete_topics(node.address(), &[&topic])?;

    let reached = (workload.records() - 1) as f64 / last_sent.as_secs_f64();
    if reached < workload.rate as f64 * REACHED {
        return Ok(Run {
            saturated_at: Some(reached),
            ..run
        });
    }
    run.with_latency(&timeline, pauses.as_ref())
        .context("the run was shorter than its warm-up")
}

/// Sends every record at its moment or, when late, at once; gives when the last one went.
fn send(
    sender: &mut Sender,
    topic: &str,
    workload: &Latency,
    start: Instant,
    stop: &AtomicBool,
) -> Result<Duration> {
    let mut payloads = Payloads::new(workload.record_bytes);
    // Acknowledgements are taken about every millisecond.
    let per_serve = (workload.rate / 1_000).max(1);
    for sequence in 0..workload.records() {
        let due = workload.due(sequence);
        let intended_ns = u64::try_from(due.as_nanos())?;
        let value = payloads.next(Stamp {
            sequence,
            intended_ns,
        });
        wait_until(start + due);
        if let Err(error) = sender.send(topic, 0, &value) {
            stop.store(true, Ordering::Relaxed);
            return Err(error);
        }
        if sequence.is_multiple_of(per_serve) {
            sender.serve();
        }
    }
    Ok(start.elapsed())
}

/// Takes all records, checks them, and measures how late each one is.
fn receive(receiver: &Receiver, start: Instant, workload: &Latency, stop: &AtomicBool) -> Result<Timeline> {
    let mut checker = Checker::new(workload.record_bytes, 1);
    let mut timeline = Timeline::of(workload.records());
    while checker.records() < workload.records() && !stop.load(Ordering::Relaxed) {
        let stamp = receiver.next(|partition, value| checker.take(partition, value))?;
        let intended = Duration::from_nanos(stamp.intended_ns);
        if intended >= WARM_UP {
            timeline.note(intended, start.elapsed());
        }
    }
    Ok(timeline)
}

/// Processes of the lowest priority, one for each core, that never let it sleep.
#[derive(Debug)]
struct Spinners(Vec<Child>);

impl Spinners {
    fn start() -> Result<Self> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut spinners = Spinners(Vec::new());
        for _ in 0..highwater_bench_kit::usage::cores() {
            let child = Command::new("nice")
                .args(["-n", "19"])
                .arg(&program)
                .arg("spin")
                .stdin(Stdio::piped())
                .spawn()
                .context("cannot start nice")?;
            spinners.0.push(child);
        }
        Ok(spinners)
    }

    fn pids(&self) -> Vec<u32> {
        self.0.iter().map(Child::id).collect()
    }
}

impl Drop for Spinners {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
