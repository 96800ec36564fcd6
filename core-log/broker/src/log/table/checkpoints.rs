//! The files that say of all logs at once what the next start would otherwise have to find out.
//!
//! Invariant: when a topic is made, no checkpoint on disk speaks of an earlier one of its name, unless the disk has refused
//! to write it anew, which is logged and tried again with the next one. A log start or a recovery point of other
//! records would hide some of the new ones, or vouch for what was never synced.

use std::sync::{Arc, PoisonError};

use highwater_storage::{DataDir, OffsetCheckpoint, OffsetMap};
use highwater_types::{Offset, PartitionId, TopicName, TopicPartition};

use super::{Partition, PartitionTable, Slot, Topic};

/// Those that say how a log is opened.
const OF_LOGS: [OffsetCheckpoint; 3] = [
    OffsetCheckpoint::RecoveryPoint,
    OffsetCheckpoint::LogStart,
    OffsetCheckpoint::Cleaner,
];

impl PartitionTable {
    /// Writes down everything that makes the next start quick: recovery points and log starts.
    pub(crate) fn checkpoint(&self) {
        self.write(&[OffsetCheckpoint::RecoveryPoint, OffsetCheckpoint::LogStart]);
    }

    /// Writes down where logs start.
    pub(crate) fn checkpoint_log_starts(&self) {
        self.write(&[OffsetCheckpoint::LogStart]);
    }

    /// Writes down how far logs are compacted.
    pub(crate) fn checkpoint_cleaned(&self) {
        self.write(&[OffsetCheckpoint::Cleaner]);
    }

    /// Writes down the high watermarks.
    pub(crate) fn checkpoint_high_watermarks(&self) {
        self.write(&[OffsetCheckpoint::HighWatermark]);
    }

    /// Whether there was anything to go by when logs were opened.
    pub(super) fn has_checkpoints(data_dir: &DataDir) -> bool {
        OF_LOGS.iter().any(|which| data_dir.has_checkpoint(*which))
    }

    /// Writes down all that says how logs are opened.
    pub(super) fn checkpoint_in(&self, data_dir: &DataDir) {
        self.write_in(data_dir, &OF_LOGS);
    }

    fn write(&self, checkpoints: &[OffsetCheckpoint]) {
        let data_dir = self.data_dir.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(data_dir) = data_dir.as_ref() {
            self.write_in(data_dir, checkpoints);
        }
    }

    fn write_in(&self, data_dir: &DataDir, checkpoints: &[OffsetCheckpoint]) {
        // What was seen before a deletion must not be written after what was seen behind it.
        let _turn = self.checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
        for which in checkpoints.iter().copied() {
            let of_log =
                |partition: &Arc<Partition>| Some((partition.id().clone(), offset(partition, which)?));
            let mut offsets: OffsetMap = self.all().iter().filter_map(of_log).collect();
            self.add_unopened(data_dir, which, &mut offsets);
            if let Err(error) = data_dir.write_checkpoint(which, &offsets) {
                tracing::error!(?which, %error, "cannot write a checkpoint");
            }
        }
    }

    /// What was known of the logs that are here but not open. What it says of them must outlive them: without a
    /// recovery point, damage would look like an interrupted write.
    pub(super) fn add_unopened(&self, data_dir: &DataDir, which: OffsetCheckpoint, offsets: &mut OffsetMap) {
        for id in self.unopened() {
            if let Some(known) = data_dir.checkpointed(which, &id) {
                offsets.insert(id, known);
            }
        }
    }

    fn unopened(&self) -> Vec<TopicPartition> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let of_topic = |(name, topic): (&TopicName, &Topic)| {
            let name = name.clone();
            let closed = (0..)
                .zip(&topic.slots)
                .filter(|(_, slot)| !matches!(slot, Slot::Led(_)));
            let ids =
                closed.map(move |(index, _)| TopicPartition::new(name.clone(), PartitionId::new(index)));
            ids.collect::<Vec<_>>()
        };
        topics.iter().flat_map(of_topic).collect()
    }
}

/// What a checkpoint says of an open log.
fn offset(partition: &Partition, which: OffsetCheckpoint) -> Option<Offset> {
    match which {
        OffsetCheckpoint::RecoveryPoint => partition.with_log(|log| log.recovery_point()).ok(),
        OffsetCheckpoint::LogStart => partition.with_log(|log| log.durable_start_offset()).ok(),
        OffsetCheckpoint::Cleaner => partition.with_log(|log| log.cleaned_upto()).ok().flatten(),
        OffsetCheckpoint::HighWatermark => Some(partition.high_watermark()),
    }
}
