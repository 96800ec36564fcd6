//! Compaction of the logs of this node: which log is next, how fast, and what people see of it.
//!
//! There are as many tasks as `log.cleaner.threads` says at the time. Each cleans the log that needs it most (one past
//! `max.compaction.lag.ms` or with tombstones whose time has come before all others, then the dirtiest), again and again,
//! and rests for `log.cleaner.backoff.ms` when none is dirty enough. Settings are read anew for every log, so that a change counts
//! at once. A log that cannot be cleaned is marked, said in the log and in a metric, and left alone: it grows, but
//! serves.

use std::sync::Arc;
use std::time::Duration;

use highwater_cluster::BrokerSettings;
use highwater_storage::{
    CleanError, Cleanable, Cleaner, CleanerOptions, CleaningPace, CleaningReport, CleaningRequest,
};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::Broker;
use crate::clock::Clock;
use crate::limits::CLEANER_RESERVE_BYTES;
use crate::log::partition::Partition;

/// The longest nap of a throttled cleaning: a shutdown waits no longer.
const MAX_NAP: Duration = Duration::from_millis(100);
/// Kafka allows buffers of no size; smaller writes than a page help nobody.
const MIN_IO_BUFFER_BYTES: usize = 4_096;
/// The shortest rest; Kafka allows 0, but a spinning task helps nobody.
const MIN_REST_MS: u64 = 10;

/// Starts the tasks.
pub(crate) fn start(broker: &Arc<Broker>, tasks: &TaskTracker) {
    describe_metrics();
    if !broker.settings.log_cleaner_enable {
        return;
    }
    tasks.spawn(keep_cleaners(Arc::clone(broker), tasks.clone()));
}

/// Starts and retires tasks, at first and whenever the metadata changes, until the node stops.
async fn keep_cleaners(broker: Arc<Broker>, tasks: TaskTracker) {
    let mut latest = broker.latest.clone();
    let mut cleaners: Vec<CancellationToken> = Vec::new();
    loop {
        latest.mark_unchanged();
        let wanted = threads(&settings(&broker));
        // One that is at work finishes its log.
        let retired = cleaners.drain(wanted.min(cleaners.len())..);
        retired.for_each(|cleaner| cleaner.cancel());
        while cleaners.len() < wanted {
            let retired = broker.stopping.child_token();
            tasks.spawn(run(Arc::clone(&broker), retired.clone()));
            cleaners.push(retired);
        }
        tokio::select! {
            () = broker.stopping.cancelled() => return,
            changed = latest.changed() => if changed.is_err() { return },
        }
    }
}

fn threads(settings: &BrokerSettings) -> usize {
    usize::try_from(settings.log_cleaner_threads).unwrap_or(1)
}

fn describe_metrics() {
    metrics::describe_counter!("highwater_cleaner_runs_total", "Logs cleaned, by result");
    metrics::describe_counter!(
        "highwater_cleaner_read_bytes_total",
        "Bytes that compaction has read"
    );
    metrics::describe_counter!(
        "highwater_cleaner_written_bytes_total",
        "Bytes that compaction has written"
    );
    metrics::describe_histogram!(
        "highwater_cleaner_duration_seconds",
        metrics::Unit::Seconds,
        "Duration of cleaning one log"
    );
    metrics::describe_gauge!(
        "highwater_cleaner_max_dirty_ratio",
        "Share of not yet compacted bytes in the dirtiest compacted log"
    );
    metrics::describe_gauge!(
        "highwater_cleaner_uncleanable_partitions",
        "Compacted logs that could not be cleaned and are left as they are"
    );
}

async fn run(broker: Arc<Broker>, retired: CancellationToken) {
    loop {
        let busy = Arc::clone(&broker);
        let cleaned = match tokio::task::spawn_blocking(move || clean_next(&busy)).await {
            Ok(cleaned) => cleaned,
            Err(error) => {
                tracing::error!(%error, "the log cleaner failed");
                false
            }
        };
        let rest = if cleaned { Duration::ZERO } else { rest(&broker) };
        tokio::select! {
            biased;
            () = retired.cancelled() => return,
            () = broker.cleaner_wake.notified() => {}
            () = tokio::time::sleep(rest) => {}
        }
    }
}

/// The settings of this moment; those of the start if somebody has stored what cannot be.
fn settings(broker: &Broker) -> BrokerSettings {
    let image = broker.image();
    let now = broker.configs(&image).broker_settings();
    now.unwrap_or_else(|_| broker.settings.clone())
}

fn rest(broker: &Broker) -> Duration {
    let backoff_ms = u64::try_from(settings(broker).log_cleaner_backoff_ms).unwrap_or(0);
    Duration::from_millis(backoff_ms.max(MIN_REST_MS))
}

/// Cleans the log that needs it most; says whether there may be more to do at once.
fn clean_next(broker: &Broker) -> bool {
    let Some((partition, cleanable)) = choose(broker) else {
        return false;
    };
    let Some(_turn) = partition.begin_cleaning() else {
        return true;
    };
    clean(broker, &partition, cleanable)
}

/// The log that needs cleaning most, if one does.
fn choose(broker: &Broker) -> Option<(Arc<Partition>, Cleanable)> {
    let now = broker.clock.wall();
    let (mut max_ratio, mut uncleanable) = (0_f64, 0_u32);
    let mut chosen: Option<(Arc<Partition>, Cleanable)> = None;
    for partition in broker.partitions.all() {
        uncleanable += u32::from(partition.is_uncleanable());
        let cleanable = match partition.cleanable(now) {
            Ok(Some(cleanable)) => cleanable,
            Ok(None) => continue,
            Err(error) => {
                let id = partition.id();
                tracing::debug!(topic = %id.topic, partition = %id.partition, error = error.message,
                    "cannot tell whether a log wants cleaning");
                continue;
            }
        };
        max_ratio = max_ratio.max(cleanable.dirty_ratio());
        let urgency = |cleanable: &Cleanable| (cleanable.is_overdue, cleanable.dirty_ratio());
        let is_first = chosen
            .as_ref()
            .is_none_or(|(_, best)| urgency(&cleanable) > urgency(best));
        if cleanable.is_due && is_first {
            chosen = Some((partition, cleanable));
        }
    }
    metrics::gauge!("highwater_cleaner_max_dirty_ratio").set(max_ratio);
    metrics::gauge!("highwater_cleaner_uncleanable_partitions").set(f64::from(uncleanable));
    chosen
}

fn clean(broker: &Broker, partition: &Arc<Partition>, cleanable: Cleanable) -> bool {
    let settings = settings(broker);
    let threads = threads(&settings).max(1);
    let memory = usize::try_from(settings.log_cleaner_dedupe_buffer_bytes).unwrap_or(usize::MAX);
    let io_buffer = usize::try_from(settings.log_cleaner_io_buffer_bytes).unwrap_or(0);
    let mut cleaner = Cleaner::new(CleanerOptions {
        dedupe_buffer_bytes: memory / threads,
        load_factor: settings.log_cleaner_io_buffer_load_factor,
        io_buffer_bytes: (io_buffer / threads).max(MIN_IO_BUFFER_BYTES),
    });
    let request = CleaningRequest {
        high_watermark: partition.high_watermark(),
        now: broker.clock.wall(),
        reserve_bytes: CLEANER_RESERVE_BYTES,
    };
    let started_ms = broker.clock.monotonic_ms();
    let mut pace = Pace {
        broker,
        clock: broker.clock,
        bytes_per_second: settings.log_cleaner_io_max_bytes_per_second,
        started_ms,
        moved_bytes: 0,
    };
    let outcome = cleaner.clean(&**partition, request, &mut pace);
    let took = Duration::from_millis(broker.clock.monotonic_ms() - started_ms);
    match outcome {
        Ok(Some(report)) => {
            broker.partitions.checkpoint_cleaned();
            count("cleaned");
            tell(partition, &cleanable, &report, took);
            true
        }
        Ok(None) => false,
        Err(error) => {
            give_up(partition, &error);
            false
        }
    }
}

fn count(result: &'static str) {
    metrics::counter!("highwater_cleaner_runs_total", "result" => result).increment(1);
}

fn tell(partition: &Partition, cleanable: &Cleanable, report: &CleaningReport, took: Duration) {
    metrics::counter!("highwater_cleaner_read_bytes_total").increment(report.bytes_read);
    metrics::counter!("highwater_cleaner_written_bytes_total").increment(report.bytes_written);
    metrics::histogram!("highwater_cleaner_duration_seconds").record(took);
    let id = partition.id();
    tracing::info!(
        topic = %id.topic,
        partition = %id.partition,
        dirty_percent = (cleanable.dirty_ratio() * 100.0).round(),
        dirty_from = %report.from,
        clean_upto = %report.upto,
        keys = report.keys,
        records_before = report.records_before,
        records_after = report.records_after,
        bytes_before = report.bytes_before,
        bytes_after = report.bytes_after,
        segments_before = report.segments_before,
        segments_after = report.segments_after,
        tombstones_removed = report.tombstones_removed,
        took_ms = took.as_millis() as u64,
        "log compacted"
    );
    if report.records_without_key > 0 {
        tracing::warn!(topic = %id.topic, partition = %id.partition, records = report.records_without_key,
            "compaction removed records without key; the topic was not compacted when they were written");
    }
}

fn give_up(partition: &Partition, error: &CleanError) {
    let id = partition.id();
    match error {
        CleanError::Interrupted | CleanError::Overtaken => {
            count("interrupted");
            tracing::debug!(topic = %id.topic, partition = %id.partition, %error, "a log is cleaned later");
        }
        error if error.is_transient() => {
            count("postponed");
            tracing::warn!(topic = %id.topic, partition = %id.partition, %error, "a log is cleaned later");
        }
        error => {
            count("failed");
            partition.mark_uncleanable();
            tracing::error!(topic = %id.topic, partition = %id.partition, %error,
                "a log cannot be compacted and is left as it is until the node restarts");
        }
    }
}

/// Keeps within `log.cleaner.io.max.bytes.per.second` and ends when the node does.
struct Pace<'a> {
    broker: &'a Broker,
    clock: Clock,
    bytes_per_second: f64,
    started_ms: u64,
    moved_bytes: u64,
}

impl CleaningPace for Pace<'_> {
    fn is_cancelled(&self) -> bool {
        self.broker.stopping.is_cancelled()
    }

    fn moved(&mut self, bytes: u64) {
        self.moved_bytes += bytes;
        let due_ms = self.moved_bytes as f64 / self.bytes_per_second.max(1.0) * 1_000.0;
        // With the default, a limit nobody can reach, the clock is not even looked at.
        while due_ms >= 1.0 && !self.is_cancelled() {
            let ahead_ms = due_ms - (self.clock.monotonic_ms() - self.started_ms) as f64;
            if ahead_ms < 1.0 {
                return;
            }
            std::thread::sleep(Duration::from_millis(ahead_ms as u64).min(MAX_NAP));
        }
    }
}
