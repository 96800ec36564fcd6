//! From a topic's configs to the settings of its logs.

use highwater_cluster::{ConfigView, TopicSettings};
use highwater_storage::{FlushPolicy, LogConfig};

/// How long producers are remembered, in the brokers' present settings.
pub(crate) fn producer_id_expiration_ms(configs: &ConfigView<'_>) -> i64 {
    let set = configs
        .broker_number("producer.id.expiration.ms")
        .unwrap_or_else(|error| {
            tracing::error!(%error, "a stored config is invalid; its default counts");
            None
        });
    set.unwrap_or(LogConfig::default().producer_id_expiration_ms)
}

/// The settings of a topic's logs. Producers are forgotten by a setting of the broker, not of the topic.
pub(crate) fn log_config(topic: &TopicSettings, producer_id_expiration_ms: i64) -> LogConfig {
    LogConfig {
        segment_bytes: topic.segment_bytes,
        segment_ms: segment_ms(topic),
        segment_jitter_ms: topic.segment_jitter_ms,
        segment_index_bytes: topic.segment_index_bytes,
        index_interval_bytes: topic.index_interval_bytes,
        retention_ms: topic.retention_ms,
        retention_bytes: topic.retention_bytes.and_then(|bytes| u64::try_from(bytes).ok()),
        delete_by_retention: topic.cleanup_policy.delete,
        file_delete_delay_ms: topic.file_delete_delay_ms,
        max_message_bytes: usize::try_from(topic.max_message_bytes).unwrap_or(usize::MAX),
        timestamp_type: topic.message_timestamp_type,
        timestamp_before_max_ms: topic.message_timestamp_before_max_ms,
        timestamp_after_max_ms: topic.message_timestamp_after_max_ms,
        require_keys: topic.cleanup_policy.compact,
        compact: topic.cleanup_policy.compact,
        min_cleanable_dirty_ppm: (topic.min_cleanable_dirty_ratio * 1e6) as u32,
        min_compaction_lag_ms: topic.min_compaction_lag_ms,
        max_compaction_lag_ms: topic.max_compaction_lag_ms,
        delete_retention_ms: topic.delete_retention_ms,
        producer_id_expiration_ms,
        flush: flush_policy(topic.flush_messages, topic.flush_ms),
        preallocate: topic.preallocate,
        ..LogConfig::default()
    }
}

/// The settings of a topic of the broker's own: only compaction removes anything from it, whatever somebody has set.
pub(crate) fn internal_log_config(topic: &TopicSettings, producer_id_expiration_ms: i64) -> LogConfig {
    LogConfig {
        compact: true,
        require_keys: true,
        delete_by_retention: false,
        ..log_config(topic, producer_id_expiration_ms)
    }
}

/// Only sealed segments are compacted, so a segment lives no longer than a record may wait for it (KIP-354).
fn segment_ms(topic: &TopicSettings) -> i64 {
    match topic.cleanup_policy.compact {
        true => topic.segment_ms.min(topic.max_compaction_lag_ms),
        false => topic.segment_ms,
    }
}

/// `flush.messages=1` means that no acknowledgement leaves before its data is durable (D7).
fn flush_policy(messages: Option<i64>, ms: Option<i64>) -> FlushPolicy {
    match (messages, ms) {
        (Some(1), _) | (_, Some(0)) => FlushPolicy::OnAck,
        (None, None) => FlushPolicy::Os,
        (messages, ms) => FlushPolicy::Interval {
            messages: messages.unwrap_or(i64::MAX),
            ms: ms.unwrap_or(i64::MAX),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flush_keys_choose_the_durability_of_a_topic() {
        assert_eq!(flush_policy(None, None), FlushPolicy::Os);
        assert_eq!(flush_policy(Some(1), None), FlushPolicy::OnAck);
        assert_eq!(flush_policy(None, Some(0)), FlushPolicy::OnAck);
        let every_second = FlushPolicy::Interval {
            messages: i64::MAX,
            ms: 1_000,
        };
        assert_eq!(flush_policy(None, Some(1_000)), every_second);
    }
}
