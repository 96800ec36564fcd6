//! Settings of a running application. Names follow Kafka Streams where it has the setting.

use std::{path::PathBuf, time::Duration};

use highwater_client::AutoOffsetReset;
use highwater_types::record::Compression;

/// How to run a topology. The consumer group and the prefix of internal topics is the topology's application id.
#[derive(Debug, Clone)]
pub struct StreamsConfig {
    /// `state.dir`: where stores live; one process at a time. `None` keeps all stores in memory, to be restored from
    /// their changelogs at every start.
    pub state_dir: Option<PathBuf>,
    /// `num.stream.threads`: threads that own tasks.
    pub workers: usize,
    /// `commit.interval.ms`: how often results are forwarded and positions committed. 200 ms instead of Kafka's 30 s:
    /// a commit appends only what changed and does not touch the disk of the stores.
    pub commit_interval: Duration,
    /// How often what commits have produced moves into the stores on disk.
    pub store_flush_interval: Duration,
    /// Moves it earlier once this many bytes wait, over all stores of a worker.
    pub max_unflushed_bytes: usize,
    /// Commits early once this many groups of a worker have changed.
    pub max_dirty_groups: usize,
    /// Memory of the one block cache that all stores on disk share.
    pub block_cache_bytes: usize,
    /// Memory of the write buffers that all stores on disk share.
    pub write_buffer_bytes: usize,
    /// `auto.offset.reset` of source topics without a position: earliest, as in Kafka Streams.
    pub auto_offset_reset: AutoOffsetReset,
    /// `replication.factor` of internal topics; `None` leaves it to the broker.
    pub replication_factor: Option<i16>,
    /// How long to wait for missing source topics before giving up.
    pub source_topics_timeout: Duration,
    /// `max.task.idle.ms`: how long a task waits for an empty input that the broker has records of (row 58).
    pub max_task_idle: Duration,
    /// `repartition.purge.interval.ms`.
    pub repartition_purge_interval: Duration,
    /// `compression.type` of outputs, changelogs and repartition topics.
    pub compression: Compression,
    /// `max.poll.records` of each worker: the size of the batches that operators see.
    pub max_poll_records: usize,
    /// `group.instance.id`: makes workers static members (KIP-345, row 88), so that a process that comes back within the
    /// session time-out has its tasks again at once. One that leaves for good keeps them until the time-out.
    pub group_instance_id: Option<String>,
    /// `session.timeout.ms`: how long the group waits for a process that died.
    pub session_timeout: Duration,
    /// `heartbeat.interval.ms`.
    pub heartbeat_interval: Duration,
    /// What happens when a worker fails.
    pub restart: RestartPolicy,
}

impl Default for StreamsConfig {
    fn default() -> Self {
        Self {
            state_dir: None,
            workers: 1,
            commit_interval: Duration::from_millis(200),
            store_flush_interval: Duration::from_secs(5),
            max_unflushed_bytes: 64 << 20,
            max_dirty_groups: 200_000,
            block_cache_bytes: 64 << 20,
            write_buffer_bytes: 64 << 20,
            auto_offset_reset: AutoOffsetReset::Earliest,
            replication_factor: None,
            source_topics_timeout: Duration::from_secs(60),
            max_task_idle: Duration::from_secs(1),
            repartition_purge_interval: Duration::from_secs(30),
            compression: Compression::None,
            max_poll_records: 10_000,
            group_instance_id: None,
            session_timeout: Duration::from_secs(10),
            heartbeat_interval: Duration::from_secs(1),
            restart: RestartPolicy::default(),
        }
    }
}

impl StreamsConfig {
    /// The defaults, with stores on disk.
    pub fn in_dir(state_dir: impl Into<PathBuf>) -> Self {
        Self {
            state_dir: Some(state_dir.into()),
            ..Self::default()
        }
    }
}

/// Failed tasks are opened again from their last commit, which costs a restore of the changelogs' tails and nothing
/// else. (Kafka Streams ends the thread instead.)
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Failures in a row, without a commit in between, after which the application stops with the error.
    pub max_failures: u32,
    /// Wait after the first failure; doubles with each further one.
    pub backoff: Duration,
    /// The longest wait.
    pub max_backoff: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            max_failures: 10,
            backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(10),
        }
    }
}

impl RestartPolicy {
    /// How long to wait after the `failures`-th failure in a row; `None` to stop.
    pub(crate) fn wait_after(&self, failures: u32) -> Option<Duration> {
        if failures > self.max_failures {
            return None;
        }
        let doubled = self
            .backoff
            .saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1)));
        Some(doubled.min(self.max_backoff))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_then_it_is_over() {
        let policy = RestartPolicy {
            max_failures: 3,
            backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(3),
        };
        let waits: Vec<_> = (1..=4).map(|failures| policy.wait_after(failures)).collect();
        let seconds = |s| Some(Duration::from_secs(s));
        assert_eq!(waits, [seconds(1), seconds(2), seconds(3), None]);
    }
}
