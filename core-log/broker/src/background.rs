//! What a node does on its own: retention, compaction, syncs that are due, checkpoints, following the metadata.
//!
//! Every task ends when the node stops; none of them holds a lock over a disk access that a request waits
//! for. Failures are logged here and tried again at the next turn.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval_at};
use tokio_util::task::TaskTracker;

use crate::auth;
use crate::broker::Broker;
use crate::cleaner;

/// How often logs are looked at for a sync that is due but was not asked for: settings that changed, records
/// without acknowledgement.
const FLUSH_LOOK: Duration = Duration::from_secs(1);

/// How often the disk is asked how much room it has, besides after so many bytes.
const SPACE_LOOK: Duration = Duration::from_millis(500);

/// How often high watermarks are written down, as Kafka's `replica.high.watermark.checkpoint.interval.ms`.
const HIGH_WATERMARK_CHECKPOINT: Duration = Duration::from_secs(5);

/// Starts every task.
pub(crate) fn start(broker: &Arc<Broker>, tasks: &TaskTracker) {
    let settings = &broker.settings;
    let retention = millis(settings.log_retention_check_interval_ms);
    let checkpoint = millis(i64::from(settings.log_flush_offset_checkpoint_interval_ms));
    every(broker, tasks, retention, apply_retention);
    every(broker, tasks, FLUSH_LOOK, flush_due);
    every(broker, tasks, SPACE_LOOK, |broker| {
        broker.space.look();
        broker.partitions.sweep(broker.space.is_short());
    });
    // Apart from the looks: opening a large log takes its time.
    every(broker, tasks, SPACE_LOOK, Broker::reopen);
    every(broker, tasks, checkpoint, checkpoint_logs);
    every(broker, tasks, HIGH_WATERMARK_CHECKPOINT, |broker| {
        broker.partitions.checkpoint_high_watermarks()
    });
    every(broker, tasks, auth::LOOK_EVERY, |broker| broker.security.look());
    tasks.spawn(follow_metadata(Arc::clone(broker)));
    cleaner::start(broker, tasks);
    tasks.spawn(crate::watch::run(Arc::clone(broker)));
}

fn millis(ms: i64) -> Duration {
    // Kafka allows 0 for some of these; a spinning task helps nobody.
    Duration::from_millis(u64::try_from(ms).unwrap_or(0).max(100))
}

/// Runs `work` on a thread that may wait for the disk, every `period`, until the node stops.
fn every(broker: &Arc<Broker>, tasks: &TaskTracker, period: Duration, work: fn(&Broker)) {
    let broker = Arc::clone(broker);
    tasks.spawn(async move {
        let mut ticks = interval_at(tokio::time::Instant::now() + period, period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = broker.stopping.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let busy = Arc::clone(&broker);
            if let Err(error) = tokio::task::spawn_blocking(move || work(&busy)).await {
                tracing::error!(%error, "a background task failed");
            }
        }
    });
}

/// Metadata may change without a request to this node: another node's decision, a replayed log.
async fn follow_metadata(broker: Arc<Broker>) {
    let mut latest = broker.latest.clone();
    loop {
        tokio::select! {
            () = broker.stopping.cancelled() => return,
            changed = latest.changed() => if changed.is_err() { return },
        }
        broker.reconcile_in_background().await;
    }
}

fn apply_retention(broker: &Broker) {
    let mut segments_deleted = 0;
    for partition in broker.partitions.all() {
        match broker.partitions.apply_retention(&partition) {
            Ok(deleted) => segments_deleted += deleted,
            Err(error) => {
                let id = partition.id();
                tracing::warn!(topic = %id.topic, partition = %id.partition, error = error.message,
                    "cannot apply retention");
            }
        }
    }
    if segments_deleted > 0 {
        tracing::info!(segments_deleted, "retention deleted segments");
        broker.partitions.checkpoint_log_starts();
    }
}

fn flush_due(broker: &Broker) {
    let now = broker.clock.wall();
    for partition in broker.partitions.all() {
        if partition.wants_flush(now) {
            partition.want_flush();
        }
    }
}

/// Writes recovery points down. Logs that have held records for a whole interval without a sync are synced as well,
/// whatever their topic says: the system has mostly written them by then, and what a start after a kill has to read
/// stays bounded by what came in during the last two intervals.
fn checkpoint_logs(broker: &Broker) {
    let interval_ms = i64::from(broker.settings.log_flush_offset_checkpoint_interval_ms);
    let now = broker.clock.wall();
    for partition in broker.partitions.all() {
        if partition.is_unflushed_for(interval_ms, now) {
            partition.want_flush();
        }
    }
    broker.partitions.checkpoint();
}
