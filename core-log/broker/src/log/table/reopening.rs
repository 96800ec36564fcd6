//! Logs that could not be opened because the disk was full: they are opened once it has room, without a restart.
//!
//! A log that is damaged or refused is not tried again here; time does not mend it.
//!
//! Invariant: a full disk is not stormed. Whoever finds no room ends the round for the others, and the next round
//! waits: ten times as long as this one took (a log may have to be read before it turns out that its index finds no
//! room), and where the disk has no more free bytes than it had, at least [`NO_NEWS_MS`].

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use highwater_cluster::{ConfigView, MetadataImage, TopicImage};

use highwater_storage::{DataDir, FoundPartition};
use highwater_types::{TopicId, TopicPartition, Uuid};

use super::{Buried, Occasion, PartitionTable, Slot};

/// Wait without more free bytes: room may also come as inodes or as a quota, of which nobody tells.
const NO_NEWS_MS: u64 = 5_000;

/// Default of `file.delete.delay.ms`: what a deleted topic had set is gone with it, and there is no log that knows it.
const DELETE_DELAY_MS: i64 = 60_000;

/// A round takes at most this part of the time while none succeeds.
const PATIENCE: u64 = 10;

/// When to try again.
#[derive(Debug, Default)]
pub(super) struct Retry {
    refused: Option<Refused>,
}

/// The last round in which there was no room.
#[derive(Debug)]
struct Refused {
    at_ms: u64,
    took_ms: u64,
    free_bytes: u64,
}

impl Retry {
    fn is_due(&self, now_ms: u64, free_bytes: u64) -> bool {
        self.refused.as_ref().is_none_or(|refused| {
            let waited_ms = now_ms.saturating_sub(refused.at_ms);
            let has_news = free_bytes > refused.free_bytes;
            waited_ms >= refused.took_ms.saturating_mul(PATIENCE) && (has_news || waited_ms >= NO_NEWS_MS)
        })
    }
}

impl PartitionTable {
    /// The image applied last.
    pub(crate) fn applied(&self) -> Arc<MetadataImage> {
        Arc::clone(&self.applied.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Partitions that are led here and wait for room on the disk.
    pub(crate) fn waiting_count(&self) -> usize {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let slots = topics.values().flat_map(|topic| &topic.slots);
        slots.filter(|slot| matches!(slot, Slot::NoRoom)).count()
    }

    /// Opens logs that found no room before, if that may have changed; says whether any was opened. `image` is the one
    /// applied last: if it no longer is, nothing is done until the next call. Blocks on the disk, takes turns with
    /// [`reconcile`](Self::reconcile).
    pub(crate) fn reopen(
        &self,
        image: &Arc<MetadataImage>,
        configs: &ConfigView<'_>,
        free_bytes: u64,
    ) -> bool {
        if self.waiting_count() == 0 {
            return false;
        }
        let applied = self.applied.lock().unwrap_or_else(PoisonError::into_inner);
        let data_dir = self.data_dir.read().unwrap_or_else(PoisonError::into_inner);
        let Some(data_dir) = data_dir.as_ref().filter(|_| Arc::ptr_eq(&applied, image)) else {
            return false;
        };
        let mut retry = self.retry.lock().unwrap_or_else(PoisonError::into_inner);
        let began_ms = self.clock.monotonic_ms();
        if !retry.is_due(began_ms, free_bytes) {
            return false;
        }
        let mut jobs = Vec::new();
        for topic in image.topics().filter(|topic| self.waits(topic)) {
            self.apply(topic, configs, &mut jobs);
        }
        jobs.retain(|job| job.waited);
        let totals = self.open_all(&jobs, data_dir, Occasion::Room);
        let at_ms = self.clock.monotonic_ms();
        retry.refused = (totals.no_room.load(Ordering::Relaxed) > 0).then(|| Refused {
            at_ms,
            took_ms: at_ms.saturating_sub(began_ms),
            free_bytes,
        });
        totals.opened.load(Ordering::Relaxed) > 0
    }

    /// Removes what is on disk of deleted partitions that waited for room: their topic was perhaps deleted to make some.
    pub(super) fn remove_waiting(&self, waiting: &[(TopicPartition, TopicId)], data_dir: &DataDir) {
        if waiting.is_empty() {
            return;
        }
        let found = data_dir.partitions().unwrap_or_else(|error| {
            tracing::error!(%error, "cannot look for the files of deleted partitions");
            Vec::new()
        });
        for (id, topic_id) in waiting {
            // What lies there may be an older namesake's that there was no room to set aside.
            let is_ours = |dir: &&FoundPartition| {
                dir.partition == *id
                    && dir.problem.is_none()
                    && dir.topic_id.is_none_or(|found| found == *topic_id)
            };
            if !found.iter().any(|dir| is_ours(&dir)) {
                continue;
            }
            match data_dir.bury_partition(id, Uuid::new_v4()) {
                Ok(grave) => {
                    let now_ms = self.clock.monotonic_ms();
                    self.graves
                        .bury(grave.map(Buried::Partition), now_ms, DELETE_DELAY_MS);
                }
                Err(error) => tracing::error!(topic = %id.topic, partition = %id.partition, %error,
                    "cannot remove the files of a deleted partition"),
            }
        }
    }

    fn waits(&self, topic: &TopicImage) -> bool {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let known = topics.get(&topic.name);
        known.is_some_and(|known| known.slots.iter().any(|slot| matches!(slot, Slot::NoRoom)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_round_waits_for_more_room_or_a_while_and_longer_after_a_long_one() {
        let free_bytes = 100;
        let mut retry = Retry::default();
        assert!(retry.is_due(0, free_bytes), "nothing was refused");
        retry.refused = Some(Refused {
            at_ms: 1_000,
            took_ms: 0,
            free_bytes,
        });
        assert!(!retry.is_due(5_999, free_bytes));
        assert!(retry.is_due(6_000, free_bytes), "perhaps there are inodes again");
        assert!(retry.is_due(1_000, free_bytes + 1));
        retry.refused = Some(Refused {
            at_ms: 1_000,
            took_ms: 2_000,
            free_bytes,
        });
        assert!(!retry.is_due(20_999, free_bytes + 1));
        assert!(retry.is_due(21_000, free_bytes));
    }
}
