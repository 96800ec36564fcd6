//! The settings of consumer groups, under Kafka's names and with Kafka's defaults.

use std::ops::RangeInclusive;

use crate::consumer::assignor::AssignorKind;
use crate::consumer::migrate::MigrationPolicy;
use crate::limits;
use crate::topics::GroupSettings;

/// Settings of every group of a shard. Fields name the Kafka setting they stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms` (6 s).
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms` (30 min).
    pub max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms` (3 s): how long the first member of an empty group waits for others
    /// (KIP-134). 0 starts at once.
    pub initial_rebalance_delay_ms: u64,
    /// How long a new member may wait in its first join before it is taken for dead (5 min, fixed in Kafka).
    pub new_member_join_timeout_ms: u64,
    /// `group.max.size`, counting members and those told to come back with an id.
    pub max_group_size: usize,
    /// Groups of one shard; joins and commits that would create one more are refused.
    pub max_groups: usize,
    /// Subscription bytes of one group.
    pub max_subscription_bytes_per_group: usize,
    /// Subscription bytes of all groups of one shard.
    pub max_subscription_bytes_per_shard: usize,
    /// Committed offsets of one group.
    pub max_offsets_per_group: usize,
    /// `offset.metadata.max.bytes` (4096), counted as Kafka does in UTF-16 units.
    pub offset_metadata_max_units: usize,
    /// `offsets.retention.minutes` in ms (7 days, KIP-211).
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms` (10 min).
    pub offsets_retention_check_interval_ms: u64,
    /// `group.consumer.session.timeout.ms` (45 s): how long a member of a consumer group may be silent.
    pub consumer_session_timeout_ms: u64,
    /// `group.consumer.heartbeat.interval.ms` (5 s): how often its members are told to send a heartbeat.
    pub consumer_heartbeat_interval_ms: i32,
    /// `group.consumer.min.session.timeout.ms` to `group.consumer.max.session.timeout.ms`: what is set for a group counts
    /// within these bounds.
    pub consumer_session_timeout_bounds_ms: RangeInclusive<u64>,
    /// `group.consumer.min.heartbeat.interval.ms` to `group.consumer.max.heartbeat.interval.ms`, the same.
    pub consumer_heartbeat_interval_bounds_ms: RangeInclusive<i32>,
    /// `group.consumer.max.size`.
    pub consumer_max_group_size: usize,
    /// `group.consumer.assignors`; the first one is the default. Never empty.
    pub consumer_assignors: Vec<AssignorKind>,
    /// `group.consumer.migration.policy`.
    pub migration_policy: MigrationPolicy,
}

impl GroupConfig {
    /// How long a member of a consumer group may be silent.
    pub(crate) fn session_timeout_ms(&self, set: GroupSettings) -> u64 {
        let bounds = &self.consumer_session_timeout_bounds_ms;
        let own = set.session_timeout_ms;
        own.map_or(self.consumer_session_timeout_ms, |ms| {
            ms.min(*bounds.end()).max(*bounds.start())
        })
    }

    /// How often its members are told to send a heartbeat.
    pub(crate) fn heartbeat_interval_ms(&self, set: GroupSettings) -> i32 {
        let bounds = &self.consumer_heartbeat_interval_bounds_ms;
        let own = set.heartbeat_interval_ms;
        own.map_or(self.consumer_heartbeat_interval_ms, |ms| {
            ms.min(*bounds.end()).max(*bounds.start())
        })
    }
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 30 * 60 * 1_000,
            initial_rebalance_delay_ms: 3_000,
            new_member_join_timeout_ms: 5 * 60 * 1_000,
            max_group_size: limits::DEFAULT_GROUP_MAX_SIZE,
            max_groups: limits::DEFAULT_MAX_GROUPS,
            max_subscription_bytes_per_group: limits::DEFAULT_MAX_SUBSCRIPTION_BYTES_PER_GROUP,
            max_subscription_bytes_per_shard: limits::DEFAULT_MAX_SUBSCRIPTION_BYTES_PER_SHARD,
            max_offsets_per_group: limits::DEFAULT_MAX_OFFSETS_PER_GROUP,
            offset_metadata_max_units: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60 * 1_000,
            offsets_retention_check_interval_ms: 10 * 60 * 1_000,
            consumer_session_timeout_ms: 45_000,
            consumer_heartbeat_interval_ms: 5_000,
            consumer_session_timeout_bounds_ms: 45_000..=60_000,
            consumer_heartbeat_interval_bounds_ms: 5_000..=15_000,
            consumer_max_group_size: limits::DEFAULT_GROUP_MAX_SIZE,
            consumer_assignors: vec![AssignorKind::Uniform, AssignorKind::Range],
            migration_policy: MigrationPolicy::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_for_a_group_counts_within_the_bounds_of_the_broker_and_nothing_set_is_the_brokers_own() {
        let config = GroupConfig {
            consumer_session_timeout_bounds_ms: 10_000..=60_000,
            consumer_heartbeat_interval_bounds_ms: 1_000..=15_000,
            ..GroupConfig::default()
        };
        let told = |session_timeout_ms, heartbeat_interval_ms| {
            let set = GroupSettings {
                session_timeout_ms,
                heartbeat_interval_ms,
            };
            (config.session_timeout_ms(set), config.heartbeat_interval_ms(set))
        };
        assert_eq!(told(None, None), (45_000, 5_000));
        assert_eq!(told(Some(20_000), Some(2_000)), (20_000, 2_000));
        // The broker's bounds may have changed since.
        assert_eq!(told(Some(1), Some(1)), (10_000, 1_000));
        assert_eq!(told(Some(u64::MAX), Some(i32::MAX)), (60_000, 15_000));
    }
}
