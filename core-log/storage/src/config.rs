//! What a partition log can be told, under Kafka's names and with Kafka's defaults.
//!
//! Refuses: deciding when to sync. The policy is kept here for whoever schedules flushes.

use highwater_types::record::TimestampType;

/// When appended data is made durable (D7). The log itself never syncs on append; the broker's flush
/// scheduler asks `PartitionLog::flush_due`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlushPolicy {
    /// Left to the operating system: survives a killed process, not a power cut. Kafka's default.
    Os,
    /// Before every acknowledgement, shared by all appends of the moment.
    OnAck,
    /// After so many records or milliseconds (`flush.messages`, `flush.ms`).
    Interval {
        /// Records appended since the last flush.
        messages: i64,
        /// Age of the oldest unflushed record.
        ms: i64,
    },
}

/// Settings of one log. Share one `Arc` per topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment never grows over this.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment that spans more time is rolled.
    pub segment_ms: i64,
    /// `segment.jitter.ms`: at most so much is taken off `segment.ms`, another part of it for each segment.
    pub segment_jitter_ms: i64,
    /// `segment.index.bytes`: a segment whose index reaches this is rolled.
    pub segment_index_bytes: u32,
    /// `index.interval.bytes`: distance between index entries.
    pub index_interval_bytes: u32,
    /// `retention.ms`; `None` keeps for ever.
    pub retention_ms: Option<i64>,
    /// `retention.bytes`; `None` is unlimited.
    pub retention_bytes: Option<u64>,
    /// Whether `cleanup.policy` contains `delete`; without it time and size remove nothing.
    pub delete_by_retention: bool,
    /// `file.delete.delay.ms`: above zero, what retention deletes is renamed only, and whoever applies retention
    /// removes it when the time has come.
    pub file_delete_delay_ms: i64,
    /// `max.message.bytes`, the largest batch with its header.
    pub max_message_bytes: usize,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`.
    pub timestamp_after_max_ms: i64,
    /// Compacted topics: decode each batch and refuse records without key (semantic 30).
    pub require_keys: bool,
    /// `cleanup.policy` contains `compact`.
    pub compact: bool,
    /// `min.cleanable.dirty.ratio` in parts per million.
    pub min_cleanable_dirty_ppm: u32,
    /// `min.compaction.lag.ms`.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`; the largest number means never.
    pub max_compaction_lag_ms: i64,
    /// `delete.retention.ms`: how long tombstones and markers stay once what they are about is gone.
    pub delete_retention_ms: i64,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration_ms: i64,
    /// Most producers remembered per partition; beyond it the longest idle ones are forgotten.
    pub max_producer_ids: usize,
    /// A flush writes down what is known of producers once so many bytes have come since it was done last, more with
    /// many producers: what an open after a kill reads for their sake, besides what it checks anyway.
    pub producer_snapshot_bytes: u64,
    /// When appended data is made durable.
    pub flush: FlushPolicy,
    /// `preallocate`: a new segment reserves all the room it may need; what it did not need goes back when it is
    /// sealed or closed.
    pub preallocate: bool,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self {
            segment_bytes: 1 << 30,
            segment_ms: 7 * 24 * 3_600_000,
            segment_jitter_ms: 0,
            segment_index_bytes: 10 << 20,
            index_interval_bytes: 4096,
            retention_ms: Some(7 * 24 * 3_600_000),
            retention_bytes: None,
            delete_by_retention: true,
            file_delete_delay_ms: 0,
            max_message_bytes: 1_048_588,
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            require_keys: false,
            compact: false,
            min_cleanable_dirty_ppm: 500_000,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            delete_retention_ms: 24 * 3_600_000,
            producer_id_expiration_ms: 24 * 3_600_000,
            max_producer_ids: 100_000,
            producer_snapshot_bytes: 64 << 20,
            flush: FlushPolicy::Os,
            preallocate: false,
        }
    }
}
