//! The partitions of this node, kept in line with the metadata.
//!
//! [`PartitionTable::reconcile`] compares the latest image with the one applied before, opens logs of
//! partitions that are new here, hands changed settings on, and deletes what the metadata has removed:
//! renamed first, then, after a while, removed, so that a crash never leaves half a partition under its name.
//!
//! Invariants:
//! - requests find a partition only after its log is open, and never after its directory is touched for
//!   deletion;
//! - a partition that cannot be opened is known and refused (KAFKA_STORAGE_ERROR); the others serve. One that only
//!   lacked room on the disk is opened once there is some, see [`reopening`].

mod checkpoints;
mod reopening;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use highwater_cluster::{ConfigResource, ConfigView, MetadataImage, PartitionImage, TopicImage};
use highwater_storage::{DataDir, LogConfig, OffsetCheckpoint, RecoveryReport, StorageError};
use highwater_types::{BrokerId, PartitionId, TopicId, TopicName, TopicPartition, Uuid};
use highwater_wire::ErrorCode;

use self::reopening::Retry;
use super::closing::{self, on_threads};
use super::flusher::{FlushQueue, FlushThreads};
use super::graves::{Buried, Graves};
use super::partition::{Leadership, Partition};
use super::settings::{internal_log_config, log_config, producer_id_expiration_ms};
use crate::clock::Clock;
use crate::error::ApiError;

/// What the table knows about one partition of a topic.
#[derive(Debug, Clone)]
enum Slot {
    Led(Arc<Partition>),
    /// Another node leads it, or nobody.
    Elsewhere,
    /// Its log cannot be opened for want of room on the disk.
    NoRoom,
    /// Its log cannot be opened for another reason, which time does not mend.
    Failed,
}

#[derive(Debug)]
struct Topic {
    id: TopicId,
    slots: Vec<Slot>,
}

/// How logs are opened and closed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TableOptions {
    pub(crate) node_id: BrokerId,
    /// Threads that open and close logs.
    pub(crate) threads: usize,
    /// Threads that make logs durable.
    pub(crate) flush_threads: usize,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct PartitionTable {
    options: TableOptions,
    clock: Clock,
    /// Gone once the node has shut down.
    data_dir: RwLock<Option<DataDir>>,
    topics: RwLock<HashMap<TopicName, Topic>>,
    queue: Arc<FlushQueue>,
    graves: Graves,
    /// Gone once the node has shut down.
    flushing: Mutex<Option<FlushThreads>>,
    /// The image applied last; its lock lets one reconciliation run at a time.
    applied: Mutex<Arc<MetadataImage>>,
    /// When logs that found no room are tried again.
    retry: Mutex<Retry>,
    /// Held from the look at the logs until what was seen is written; after `data_dir`, before `topics`.
    checkpointing: Mutex<()>,
}

/// What opening logs came to, added up by the threads that do it.
#[derive(Debug, Default)]
struct OpenTotals {
    opened: AtomicUsize,
    failed: AtomicUsize,
    no_room: AtomicUsize,
    segments: AtomicUsize,
    segments_scanned: AtomicUsize,
    bytes_scanned: AtomicU64,
    truncated_bytes: AtomicU64,
}

impl OpenTotals {
    fn add(&self, report: &RecoveryReport) {
        self.opened.fetch_add(1, Ordering::Relaxed);
        self.segments.fetch_add(report.segments, Ordering::Relaxed);
        self.segments_scanned
            .fetch_add(report.segments_scanned, Ordering::Relaxed);
        self.bytes_scanned
            .fetch_add(report.bytes_scanned, Ordering::Relaxed);
        self.truncated_bytes
            .fetch_add(report.truncated_bytes, Ordering::Relaxed);
    }
}

/// How often a long opening of logs is told of.
const PROGRESS_MS: u64 = 5_000;

/// What logs are opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occasion {
    Start,
    Change,
    /// Some found no room before: as soon as one of them finds none again, the others need not try.
    Room,
}

/// A log to open.
struct Job {
    id: TopicPartition,
    topic_id: TopicId,
    is_internal: bool,
    config: Arc<LogConfig>,
    leadership: Leadership,
    /// It found no room before.
    waited: bool,
}

impl PartitionTable {
    /// # Errors
    /// Threads that cannot be started.
    pub(crate) fn new(data_dir: DataDir, options: TableOptions, clock: Clock) -> std::io::Result<Self> {
        let queue = FlushQueue::new(clock);
        Ok(PartitionTable {
            options,
            clock,
            graves: Graves::new(data_dir.disk()),
            data_dir: RwLock::new(Some(data_dir)),
            topics: RwLock::default(),
            flushing: Mutex::new(Some(FlushThreads::start(&queue, options.flush_threads)?)),
            queue,
            applied: Mutex::default(),
            retry: Mutex::default(),
            checkpointing: Mutex::default(),
        })
    }

    /// The partition, if this node leads it.
    pub(crate) fn find(&self, topic: &str, partition: i32) -> Result<Arc<Partition>, ApiError> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics
            .get(topic)
            .ok_or_else(|| ApiError::plain(ErrorCode::UnknownTopicOrPartition))?
            .find(partition)
    }

    /// The partition of the topic with this id, if this node leads it. A topic that was deleted and made again has
    /// another id than its namesake (semantic 52).
    pub(crate) fn find_by_id(
        &self,
        image: &MetadataImage,
        id: TopicId,
        partition: i32,
    ) -> Result<Arc<Partition>, ApiError> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let named = image.topic_by_id(id).and_then(|topic| topics.get(&topic.name));
        named
            .filter(|topic| topic.id == id)
            .ok_or_else(|| ApiError::plain(ErrorCode::UnknownTopicId))?
            .find(partition)
    }

    /// Every partition led here.
    pub(crate) fn all(&self) -> Vec<Arc<Partition>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics.values().flat_map(|topic| topic.led().cloned()).collect()
    }

    /// Partitions that are led here but whose logs cannot be used.
    pub(crate) fn failed_count(&self) -> usize {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let slots = topics.values().flat_map(|topic| &topic.slots);
        slots
            .filter(|slot| matches!(slot, Slot::NoRoom | Slot::Failed))
            .count()
    }

    /// The partitions of one topic that are led here.
    pub(crate) fn led_of(&self, topic: &str) -> Vec<Arc<Partition>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        topics
            .get(topic)
            .map(|topic| topic.led().cloned().collect())
            .unwrap_or_default()
    }

    /// Brings logs in line with `image`; answers the topics that are gone. Blocks on the disk; calls take turns.
    pub(crate) fn reconcile(&self, image: &Arc<MetadataImage>, configs: &ConfigView<'_>) -> Vec<TopicName> {
        let mut applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        if applied.version() >= image.version() && applied.version() > 0 {
            return Vec::new();
        }
        let data_dir = self.data_dir.read().unwrap_or_else(PoisonError::into_inner);
        let Some(data_dir) = data_dir.as_ref() else {
            return Vec::new();
        };
        let gone = self.remove_deleted(image, data_dir);
        if !gone.is_empty() {
            // Before topics of the same names can come: after a kill they would be taken for the old ones.
            self.checkpoint_in(data_dir);
        }
        let broker_configs_changed = self.broker_configs_changed(&applied, image);
        let mut jobs = Vec::new();
        for topic in image.topics() {
            if broker_configs_changed || has_changed(&applied, image, topic) {
                self.apply(topic, configs, &mut jobs);
            }
        }
        let occasion = match applied.version() {
            0 => Occasion::Start,
            _ => Occasion::Change,
        };
        self.open_all(&jobs, data_dir, occasion);
        if occasion == Occasion::Start && !data_dir.was_clean_shutdown() && Self::has_checkpoints(data_dir) {
            // The end may have come between a deletion and this.
            self.checkpoint_in(data_dir);
        }
        *applied = Arc::clone(image);
        gone
    }

    fn broker_configs_changed(&self, before: &MetadataImage, after: &MetadataImage) -> bool {
        let here = ConfigResource::Broker(self.options.node_id);
        let changed = |resource| before.configs(resource) != after.configs(resource);
        changed(&ConfigResource::AllBrokers) || changed(&here)
    }

    fn remove_deleted(&self, image: &MetadataImage, data_dir: &DataDir) -> Vec<TopicName> {
        let mut names = Vec::new();
        let (mut led, mut waiting) = (Vec::new(), Vec::new());
        self.topics
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|name, topic| {
                let lives = image
                    .topic(name.as_str())
                    .is_some_and(|image| image.id == topic.id);
                if !lives {
                    names.push(name.clone());
                    for (index, slot) in (0..).zip(topic.slots.drain(..)) {
                        let id = || TopicPartition::new(name.clone(), PartitionId::new(index));
                        match slot {
                            Slot::Led(partition) => led.push(partition),
                            Slot::NoRoom => waiting.push((id(), topic.id)),
                            Slot::Elsewhere | Slot::Failed => {}
                        }
                    }
                }
                lives
            });
        self.remove_waiting(&waiting, data_dir);
        for partition in led {
            drop(partition.take_log());
            let id = partition.id();
            match self.remove_partition(&partition, data_dir) {
                Ok(()) => tracing::info!(topic = %id.topic, partition = %id.partition, "partition deleted"),
                Err(error) => tracing::error!(topic = %id.topic, partition = %id.partition, %error,
                    "cannot remove the files of a deleted partition"),
            }
        }
        names
    }

    fn remove_partition(&self, partition: &Partition, data_dir: &DataDir) -> Result<(), StorageError> {
        let (id, unique) = (partition.id(), Uuid::new_v4());
        let delay_ms = partition.file_delete_delay_ms();
        if delay_ms <= 0 {
            return data_dir.delete_partition(id, unique);
        }
        let grave = data_dir.bury_partition(id, unique)?.map(Buried::Partition);
        self.graves.bury(grave, self.clock.monotonic_ms(), delay_ms);
        Ok(())
    }

    /// Deletes segments of a log that are past retention; says how many.
    pub(crate) fn apply_retention(&self, partition: &Partition) -> Result<usize, ApiError> {
        let retention = partition.apply_retention(self.clock.wall())?;
        let files = retention.buried.into_iter().map(Buried::File);
        self.graves
            .bury(files, self.clock.monotonic_ms(), partition.file_delete_delay_ms());
        Ok(retention.segments_deleted)
    }

    /// Removes deleted files whose time has come, or all of them. Blocks on the disk.
    pub(crate) fn sweep(&self, all: bool) {
        self.graves.sweep(self.clock.monotonic_ms(), all);
    }

    /// Hands a topic's state to its open partitions and lists the logs to open.
    fn apply(&self, topic: &TopicImage, configs: &ConfigView<'_>, jobs: &mut Vec<Job>) {
        let settings = match configs.topic_settings(&topic.name) {
            Ok(settings) => Arc::new(settings),
            Err(error) => {
                tracing::error!(topic = %topic.name, %error, "a stored config is invalid; the topic stays as it was");
                return;
            }
        };
        let expiration_ms = producer_id_expiration_ms(configs);
        let config = Arc::new(match topic.is_internal() {
            true => internal_log_config(&settings, expiration_ms),
            false => log_config(&settings, expiration_ms),
        });
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let known = match topics.entry(topic.name.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(fresh) => fresh.insert(Topic {
                id: topic.id,
                slots: Vec::new(),
            }),
        };
        known.slots.resize(topic.partitions.len(), Slot::Elsewhere);
        for (index, (slot, image)) in (0..).zip(known.slots.iter_mut().zip(&topic.partitions)) {
            let is_led = image.leader == Some(self.options.node_id);
            let leadership = leadership(image, &settings);
            match slot {
                Slot::Led(partition) => partition.lead(leadership, &config),
                Slot::Elsewhere | Slot::NoRoom | Slot::Failed if is_led => jobs.push(Job {
                    id: TopicPartition::new(topic.name.clone(), PartitionId::new(index)),
                    topic_id: topic.id,
                    is_internal: topic.is_internal(),
                    config: Arc::clone(&config),
                    leadership,
                    waited: matches!(slot, Slot::NoRoom),
                }),
                Slot::Elsewhere | Slot::NoRoom | Slot::Failed => {}
            }
        }
    }

    fn open_all(&self, jobs: &[Job], data_dir: &DataDir, occasion: Occasion) -> OpenTotals {
        let started = self.clock.instant();
        let next = AtomicUsize::new(0);
        let totals = OpenTotals::default();
        let told_ms = AtomicU64::new(0);
        let took_ms = || u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let work = || {
            while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                if occasion == Occasion::Room && totals.no_room.load(Ordering::Relaxed) > 0 {
                    return;
                }
                self.publish(job, self.open(job, data_dir, &totals));
                let (now_ms, last_ms) = (took_ms(), told_ms.load(Ordering::Relaxed));
                // One thread tells, and not too often.
                let may_tell = now_ms >= last_ms + PROGRESS_MS
                    && told_ms
                        .compare_exchange(last_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed)
                        .is_ok();
                if may_tell {
                    tracing::info!(
                        opened = totals.opened.load(Ordering::Relaxed),
                        of = jobs.len(),
                        bytes_scanned = totals.bytes_scanned.load(Ordering::Relaxed),
                        took_ms = now_ms,
                        "opening logs"
                    );
                }
            }
        };
        on_threads(self.options.threads.min(jobs.len()), work);
        if occasion == Occasion::Start {
            tell_start(data_dir, &totals, took_ms());
        }
        totals
    }

    fn open(&self, job: &Job, data_dir: &DataDir, totals: &OpenTotals) -> Slot {
        let now = self.clock.wall();
        let open = || data_dir.open_partition(&job.id, Some(job.topic_id), Arc::clone(&job.config), now);
        let opened = match open() {
            Err(StorageError::TopicIdMismatch { path, found, .. }) => {
                // An older topic of this name, whose deletion a crash has interrupted; or a file that says so.
                data_dir
                    .set_aside(&job.id, Uuid::new_v4())
                    .inspect(|aside| {
                        tracing::warn!(path = %path.display(), topic_id = %found, ?aside,
                            "a log of another topic of this name was set aside; remove it once nobody misses it");
                    })
                    .and_then(|_| open())
            }
            other => other,
        };
        match opened {
            Ok((mut log, report)) => {
                totals.add(&report);
                let holes = report.empty_segments + report.gaps;
                metrics::counter!("highwater_log_holes_total").increment(holes as u64);
                if report.truncated_bytes > 0 || report.below_recovery_point {
                    tracing::warn!(topic = %job.id.topic, partition = %job.id.partition, ?report, "log recovered");
                }
                if log.latest_epoch() < Some(job.leadership.epoch) {
                    log.assign_epoch(job.leadership.epoch);
                }
                // Found after a kill: only the next roll would ask for it, and until then nothing here is compacted.
                let has_unsynced_segments = log.recovery_point() < log.active_segment_base();
                let leadership = job.leadership.clone();
                let queue = Arc::clone(&self.queue);
                let partition = Partition::new(job.id.clone(), job.is_internal, log, leadership, queue);
                let partition = Arc::new(partition);
                if job.waited {
                    tracing::info!(topic = %job.id.topic, partition = %job.id.partition,
                        "there was room to open this log; the partition serves");
                }
                if has_unsynced_segments {
                    partition.want_flush();
                }
                Slot::Led(partition)
            }
            Err(error) if error.is_for_want_of_room() => {
                totals.failed.fetch_add(1, Ordering::Relaxed);
                totals.no_room.fetch_add(1, Ordering::Relaxed);
                // Once is enough: it may be tried many times.
                if !job.waited {
                    tracing::error!(topic = %job.id.topic, partition = %job.id.partition, %error,
                        "no room on the disk to open a log; this partition is refused until there is, the others \
                         serve");
                }
                Slot::NoRoom
            }
            Err(error) => {
                totals.failed.fetch_add(1, Ordering::Relaxed);
                tracing::error!(topic = %job.id.topic, partition = %job.id.partition, %error,
                    "cannot open a log; this partition is refused, the others serve");
                Slot::Failed
            }
        }
    }

    fn publish(&self, job: &Job, slot: Slot) {
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        let topic = topics
            .get_mut(&job.id.topic)
            .filter(|topic| topic.id == job.topic_id);
        let index = usize::try_from(job.id.partition.get()).ok();
        if let Some(place) = topic
            .zip(index)
            .and_then(|(topic, index)| topic.slots.get_mut(index))
        {
            *place = slot;
        }
    }

    /// Whether a log that should be open here is not.
    fn has_failed(&self) -> bool {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let mut slots = topics.values().flat_map(|topic| &topic.slots);
        slots.any(|slot| matches!(slot, Slot::NoRoom | Slot::Failed))
    }

    /// Closes every log, makes it durable, writes the checkpoints and, if all went well, the marker that
    /// lets the next start trust the files. Blocks. Afterwards every request is refused.
    pub(crate) fn close(&self, broker_epoch: Option<i64>) -> Result<(), StorageError> {
        self.checkpoint_high_watermarks();
        // The threads finish what they were asked for; closing syncs the rest.
        drop(
            self.flushing
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let Some(data_dir) = self
            .data_dir
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
        else {
            return Ok(());
        };
        let closed = closing::close(&self.all(), &data_dir, self.options.threads);
        let (mut ends, mut starts) = (closed.ends, closed.starts);
        self.add_unopened(&data_dir, OffsetCheckpoint::RecoveryPoint, &mut ends);
        self.add_unopened(&data_dir, OffsetCheckpoint::LogStart, &mut starts);
        data_dir.write_checkpoint(OffsetCheckpoint::RecoveryPoint, &ends)?;
        data_dir.write_checkpoint(OffsetCheckpoint::LogStart, &starts)?;
        if closed.failed == 0 && !self.has_failed() {
            data_dir.mark_clean_shutdown(broker_epoch)?;
        }
        Ok(())
    }

    /// Names partitions on disk that no topic of the metadata accounts for. They are left alone.
    pub(crate) fn report_strays(&self, image: &MetadataImage) {
        let data_dir = self.data_dir.read().unwrap_or_else(PoisonError::into_inner);
        let Some(Ok(found)) = data_dir.as_ref().map(DataDir::partitions) else {
            return;
        };
        for stray in found {
            let id = &stray.partition;
            if image.partition(id.topic.as_str(), id.partition).is_none() {
                tracing::warn!(topic = %id.topic, partition = %id.partition,
                    "a log on disk belongs to no known topic; move it away or remove it");
            }
        }
    }
}

impl Topic {
    fn find(&self, partition: i32) -> Result<Arc<Partition>, ApiError> {
        match usize::try_from(partition)
            .ok()
            .and_then(|index| self.slots.get(index))
        {
            Some(Slot::Led(partition)) => Ok(Arc::clone(partition)),
            Some(Slot::Elsewhere) => Err(ApiError::plain(ErrorCode::NotLeaderOrFollower)),
            Some(Slot::NoRoom) => {
                let message =
                    "the broker's disk had no room to open the partition's log; it is opened once there is";
                Err(ApiError::new(ErrorCode::KafkaStorageError, message))
            }
            Some(Slot::Failed) => {
                let message = "the partition's log cannot be opened; see the broker's log";
                Err(ApiError::new(ErrorCode::KafkaStorageError, message))
            }
            None => Err(ApiError::plain(ErrorCode::UnknownTopicOrPartition)),
        }
    }

    fn led(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.slots.iter().filter_map(|slot| {
            if let Slot::Led(led) = slot {
                Some(led)
            } else {
                None
            }
        })
    }
}

fn tell_start(data_dir: &DataDir, totals: &OpenTotals, took_ms: u64) {
    let path = match data_dir.was_clean_shutdown() {
        true => "clean shutdown",
        false => "recovery",
    };
    let count = |number: &AtomicUsize| number.load(Ordering::Relaxed);
    let bytes = |number: &AtomicU64| number.load(Ordering::Relaxed);
    tracing::info!(dir = %data_dir.path().display(), path, took_ms, opened = count(&totals.opened),
        failed = count(&totals.failed), segments = count(&totals.segments),
        segments_scanned = count(&totals.segments_scanned), bytes_scanned = bytes(&totals.bytes_scanned),
        truncated_bytes = bytes(&totals.truncated_bytes), "logs opened");
    metrics::gauge!("highwater_log_open_duration_seconds").set(took_ms as f64 / 1000.0);
}

fn leadership(image: &PartitionImage, settings: &Arc<highwater_cluster::TopicSettings>) -> Leadership {
    Leadership {
        epoch: image.leader_epoch,
        in_sync: image.isr.len(),
        settings: Arc::clone(settings),
    }
}

fn has_changed(before: &MetadataImage, after: &MetadataImage, topic: &Arc<TopicImage>) -> bool {
    let resource = ConfigResource::Topic(topic.name.clone());
    let same_topic = before
        .topic(topic.name.as_str())
        .is_some_and(|known| Arc::ptr_eq(known, topic));
    !same_topic || before.configs(&resource) != after.configs(&resource)
}
