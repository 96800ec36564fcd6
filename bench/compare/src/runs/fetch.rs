//! Batches handed out as they are, next to what a socket carries; and a backlog drained while records come in.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use highwater_bench_kit::pace::wait_until;
use highwater_bench_kit::payload::{Payloads, Stamp};

use crate::client::{Receiver, Sender, TopicSpec, create_topics, delete_topics};
use crate::content::{Checker, partition_of};
use crate::measure::{Figure, Meter, Run};
use crate::pauses::Watch;
use crate::runs::fresh_topic;
use crate::system::Node;
use crate::timeline::Timeline;
use crate::wire::{FetchFrom, Raw};
use crate::workloads::{CatchUp, ClientSettings, RawFetch, due};

/// Arrivals due in this first part of a run are not counted.
const BEGINNING: Duration = Duration::from_millis(600);

/// What one write of the plain copy carries; the same as one read of the fetch brings at most.
const COPY_WRITE_BYTES: usize = 1 << 20;

/// Fills a topic for raw fetches.
pub(crate) fn fill(node: &Node, workload: &RawFetch, settings: &ClientSettings) -> Result<String> {
    let topic = fresh_topic("fetch");
    let records = workload.total_bytes / workload.record_bytes as u64;
    write(
        node,
        &topic,
        (workload.record_bytes, workload.partitions),
        records,
        settings,
    )?;
    // The first pass compares every batch with its checksum; the measured ones count.
    drain(node, &topic, workload, records, true)?;
    Ok(topic)
}

fn write(
    node: &Node,
    topic: &str,
    (record_bytes, partitions): (usize, i32),
    records: u64,
    settings: &ClientSettings,
) -> Result<()> {
    let spec = TopicSpec {
        partitions,
        durable: false,
    };
    create_topics(node.address(), &[topic.to_owned()], spec)?;
    let mut sender = Sender::new(node.address(), settings, "none")?;
    let mut payloads = Payloads::new(record_bytes);
    for sequence in 0..records {
        let value = payloads.next(Stamp {
            sequence,
            intended_ns: 0,
        });
        sender.send(topic, partition_of(sequence, partitions), &value)?;
    }
    sender.finish()
}

/// Reads the whole topic as batches, and right after it as many bytes through a plain socket.
pub(crate) fn run(node: &Node, topic: &str, workload: &RawFetch) -> Result<Run> {
    let records = workload.total_bytes / workload.record_bytes as u64;
    let meter = Meter::start(node.pid())?;
    let bytes = drain(node, topic, workload, records, false)?;
    let run = meter.stop(records, bytes)?;
    let copied = plain_copy(bytes)?;
    let fetched = run.figures.get(&Figure::MbPerS).copied().unwrap_or_default();
    Ok(run
        .without_rate()
        .with(Figure::FetchedMbPerS, fetched)
        .with(Figure::CopyMbPerS, copied)
        .with(Figure::PartOfCopyPercent, fetched / copied * 100.0))
}

fn drain(node: &Node, topic: &str, workload: &RawFetch, records: u64, check: bool) -> Result<u64> {
    let mut raw = Raw::connect(node.address())?;
    let mut from: Vec<FetchFrom> = (0..workload.partitions)
        .map(|partition| FetchFrom {
            partition,
            offset: 0,
            max_bytes: workload.partition_fetch_bytes,
        })
        .collect();
    let (mut bytes, mut seen) = (0, 0);
    while seen < records {
        let before = seen;
        for fetched in raw.fetch(topic, &from, check)? {
            let place = usize::try_from(fetched.partition)
                .ok()
                .and_then(|index| from.get_mut(index))
                .context("a partition was answered that nobody asked for")?;
            if fetched.bytes > 0 {
                place.offset = fetched.next_offset;
            }
            bytes += fetched.bytes;
            seen += fetched.records;
        }
        ensure!(
            seen > before,
            "{seen} of {records} records came and then none; the run does not count"
        );
    }
    ensure!(
        seen == records,
        "{seen} records came where {records} were sent; the run does not count"
    );
    let ends: u64 = from.iter().map(|from| from.offset.unsigned_abs()).sum();
    ensure!(
        ends == records,
        "offsets end at {ends} after {records} records; the run does not count"
    );
    Ok(bytes)
}

/// MB per second of a plain copy over loopback: one thread writes, another reads.
fn plain_copy(bytes: u64) -> Result<f64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || -> Result<()> {
            let (mut stream, _) = listener.accept()?;
            let chunk = vec![b'-'; COPY_WRITE_BYTES];
            let mut left = bytes;
            while left > 0 {
                let now = usize::try_from(left).unwrap_or(usize::MAX).min(chunk.len());
                stream.write_all(&chunk[..now])?;
                left -= now as u64;
            }
            Ok(())
        });
        let mut stream = TcpStream::connect(address)?;
        let mut buffer = vec![0; COPY_WRITE_BYTES];
        let began = Instant::now();
        let mut read = 0;
        while read < bytes {
            match stream.read(&mut buffer)? {
                0 => break,
                now => read += now as u64,
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        sending
            .join()
            .map_err(|_| anyhow!("the copying thread panicked"))??;
        ensure!(
            read == bytes,
            "{read} of {bytes} bytes came through the plain copy"
        );
        Ok(bytes as f64 / 1e6 / seconds)
    })
}

/// Drains a backlog while records come in at a fixed rate, and says how late those were acknowledged.
pub(crate) fn catch_up(node: &Node, workload: &CatchUp, settings: &ClientSettings) -> Result<Run> {
    let (backlog, incoming) = (fresh_topic("backlog"), fresh_topic("incoming"));
    let shape = (workload.record_bytes, workload.partitions);
    write(node, &backlog, shape, workload.backlog_records, settings)?;
    let spec = TopicSpec {
        partitions: 1,
        durable: false,
    };
    create_topics(node.address(), std::slice::from_ref(&incoming), spec)?;
    let stop = AtomicBool::new(false);
    // Without the right to watch, pauses count as latency.
    let watch = Watch::start().ok();
    let (run, (start, acknowledged)) = std::thread::scope(|scope| {
        let arriving = scope.spawn(|| arrive(node, &incoming, workload, settings, &stop));
        let drained = drain_decoded(node, &backlog, workload, watch.as_ref());
        stop.store(true, Ordering::Relaxed);
        let acknowledged = arriving
            .join()
            .map_err(|_| anyhow!("the arriving thread panicked"))?;
        Ok::<_, anyhow::Error>((drained?, acknowledged?))
    })?;
    delete_topics(node.address(), &[&backlog, &incoming])?;
    let pauses = watch.map(|watch| watch.since(start));
    // A short backlog is drained before anything counts.
    let measured = run.clone().with_ack_latency(&acknowledged, pauses.as_ref());
    Ok(measured.unwrap_or(run))
}

fn drain_decoded(node: &Node, topic: &str, workload: &CatchUp, watch: Option<&Watch>) -> Result<Run> {
    let mut checker = Checker::new(workload.record_bytes, workload.partitions);
    let helpers = watch.map(Watch::pids).unwrap_or_default();
    let meter = Meter::start_with(node.pid(), helpers)?;
    let receiver = Receiver::new(node.address(), &[topic.to_owned()], workload.partitions)?;
    while checker.records() < workload.backlog_records {
        receiver.next(|partition, value| checker.take(partition, value))?;
    }
    let bytes = workload.backlog_records * workload.record_bytes as u64;
    meter.stop(workload.backlog_records, bytes)
}

/// Sends at a rate until told to stop; measures how long after its moment each record is acknowledged, from the start that it
/// gives.
fn arrive(
    node: &Node,
    topic: &str,
    workload: &CatchUp,
    settings: &ClientSettings,
    stop: &AtomicBool,
) -> Result<(Instant, Timeline)> {
    let mut sender = Sender::new(node.address(), settings, "none")?;
    sender.warm(node.address(), topic)?;
    let mut payloads = Payloads::new(workload.record_bytes);
    let start = Instant::now();
    let mut sequence = 0;
    let mut timeline = Timeline::of(workload.rate);
    while !stop.load(Ordering::Relaxed) {
        let at = due(sequence, workload.rate);
        let value = payloads.next(Stamp {
            sequence,
            intended_ns: 0,
        });
        wait_until(start + at);
        sender.send(topic, 0, &value)?;
        sequence += 1;
        sender.note_acknowledged(|nth| {
            let due = due(nth, workload.rate);
            if due >= BEGINNING {
                timeline.note(due, start.elapsed());
            }
        });
    }
    sender.finish()?;
    Ok((start, timeline))
}
