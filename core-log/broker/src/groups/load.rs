//! Loading: the log of an offsets partition, replayed from its start.

use highwater_coordinator::GroupShard;
use highwater_types::record::{DecodeLimits, batches};

use super::ShardHost;
use crate::error::ApiError;
use crate::limits::GROUP_LOAD_BYTES;

impl ShardHost {
    /// Replays the partition and opens the shard. Blocks. A log that cannot be read leaves the shard
    /// closed: its groups answer "loading" until a person has looked.
    pub(super) fn load(&self) {
        let started = self.clock.monotonic_ms();
        // Replayed beside the lock: callers are told "loading" meanwhile instead of waiting for it.
        let mut shard = GroupShard::new(self.config.clone());
        let replayed = self.replay_log(&mut shard);
        let mut state = self.lock();
        match replayed {
            Ok(records) => {
                let now = self.now();
                state.shard = shard;
                state.shard.loaded(now);
                let took_ms = self.clock.monotonic_ms() - started;
                tracing::debug!(partition = %self.partition.id().partition, records, took_ms, "groups loaded");
            }
            Err(error) => {
                tracing::error!(partition = %self.partition.id().partition, error = error.message,
                    "cannot load the groups of this partition");
            }
        }
        drop(state);
        self.earlier.notify_one();
    }

    fn replay_log(&self, shard: &mut GroupShard) -> Result<u64, ApiError> {
        let mut replayed = 0;
        let (mut next, end) = self.partition.bounds()?;
        while next < end {
            let bytes = self.partition.read_for_replay(next, GROUP_LOAD_BYTES)?;
            let before = next;
            for batch in batches(bytes) {
                let batch = batch?;
                next = batch.header().next_offset();
                if batch.header().is_control() {
                    continue;
                }
                for record in batch.records(DecodeLimits::default())? {
                    let Some(key) = record.key else { continue };
                    // Whatever lies in the topic must not keep the rest from loading.
                    match shard.replay(&key, record.value.as_deref()) {
                        Ok(()) => replayed += 1,
                        Err(error) => tracing::warn!(
                            partition = %self.partition.id().partition, offset = %record.offset, %error,
                            "skipping a group record that cannot be read"),
                    }
                }
            }
            if next == before {
                break;
            }
        }
        Ok(replayed)
    }
}
