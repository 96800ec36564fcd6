//! From a topic's configs to the settings of its logs.

use highwater_cluster::TopicSettings;
use highwater_storage::{FlushPolicy, LogConfig};

/// The settings of a topic's logs. Producers are forgotten by a setting of the broker, not of the topic.
pub(crate) fn log_config(topic: &TopicSettings, producer_id_expiration_ms: i64) -> LogConfig {
    LogConfig {
        segment_bytes: topic.segment_bytes,
        segment_ms: topic.segment_ms,
        segment_index_bytes: topic.segment_index_bytes,
        index_interval_bytes: topic.index_interval_bytes,
        retention_ms: topic.retention_ms,
        retention_bytes: topic.retention_bytes.and_then(|bytes| u64::try_from(bytes).ok()),
        delete_by_retention: topic.cleanup_policy.delete,
        max_message_bytes: usize::try_from(topic.max_message_bytes).unwrap_or(usize::MAX),
        timestamp_type: topic.message_timestamp_type,
        timestamp_before_max_ms: topic.message_timestamp_before_max_ms,
        timestamp_after_max_ms: topic.message_timestamp_after_max_ms,
        require_keys: topic.cleanup_policy.compact,
        producer_id_expiration_ms,
        flush: flush_policy(topic.flush_messages, topic.flush_ms),
        preallocate: topic.preallocate,
        ..LogConfig::default()
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
