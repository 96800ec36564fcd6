//! The table of metrics: every name the broker exposes, with type, labels and help.
//!
//! The one place where a metric is described. Counters and histograms of the hot path go through the `metrics`
//! facade and take their help from here ([`describe`]); everything that is a property of the present state is
//! written from it at each scrape (see `exposition`), so what no longer exists is no longer shown.
//! `docs/metrics.md` is generated from this table.
//!
//! Invariants: names are unique, units come last, counters end in `_total`. Names that begin with `kafka_` are
//! kafka_exporter's, so that its dashboards and alerts work as they are.

/// What a metric's numbers mean over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows while the process lives.
    Counter,
    /// The value of this moment.
    Gauge,
    /// Observations counted in buckets.
    Histogram,
}

impl MetricKind {
    /// Prometheus' word.
    pub const fn word(self) -> &'static str {
        match self {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        }
    }
}

/// One metric: a row of the table.
#[derive(Debug, Clone, Copy)]
pub struct MetricDef {
    /// The name, unit last.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// What the series are told apart by.
    pub labels: &'static [&'static str],
    /// One sentence.
    pub help: &'static str,
}

/// A counter's row.
pub const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> MetricDef {
    let kind = MetricKind::Counter;
    MetricDef {
        name,
        kind,
        labels,
        help,
    }
}

/// A gauge's row.
pub const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> MetricDef {
    let kind = MetricKind::Gauge;
    MetricDef {
        name,
        kind,
        labels,
        help,
    }
}

/// A histogram's row.
pub const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> MetricDef {
    let kind = MetricKind::Histogram;
    MetricDef {
        name,
        kind,
        labels,
        help,
    }
}

const TOPIC: &[&str] = &["topic"];
const PARTITION: &[&str] = &["topic", "partition"];
const GROUP_TOPIC: &[&str] = &["consumergroup", "topic"];
const GROUP_PARTITION: &[&str] = &["consumergroup", "topic", "partition"];

/// What is counted as it happens, through the `metrics` facade.
#[rustfmt::skip]
pub const EVENTS: &[MetricDef] = &[
    counter("highwater_broker_requests_total", &["api"], "Requests handled."),
    counter("highwater_broker_request_errors_total", &["api", "error"],
        "Error codes inside answers, by Kafka's name of the error; one answer may carry several."),
    histogram("highwater_broker_request_duration_seconds", &["api"],
        "From a whole frame to its answer, the wait of long polls and group joins included."),
    counter("highwater_broker_handler_panics_total", &["api"], "Defects: requests whose handler panicked."),
    counter("highwater_broker_authorization_denials_total", &["api"],
        "What clients asked for and access rules (ACLs) did not allow, one for each resource; see the log for who and what."),
    counter("highwater_broker_network_received_bytes_total", &[], "Bytes of requests read from sockets."),
    counter("highwater_broker_network_sent_bytes_total", &[], "Bytes of answers written to sockets."),
    counter("highwater_broker_appended_bytes_total", &[], "Bytes of record batches that producers appended."),
    counter("highwater_broker_fetched_bytes_total", &[], "Bytes of record batches handed to consumers."),
    counter("highwater_broker_sendfile_bytes_total", &[],
        "Bytes of record batches that went from the page cache to a socket without a copy; the rest was read first."),
    gauge("highwater_broker_connections", &[], "Open client connections."),
    counter("highwater_broker_connections_refused_total", &["limit"], "Connections closed as soon as they were accepted."),
    counter("highwater_broker_connections_closed_total", &["reason"],
        "Connections that the node ended, or that ended in the middle of a request."),
    counter("highwater_broker_authentication_total", &["mechanism", "result"],
        "Logins of clients by SASL mechanism, and TLS handshakes as mechanism TLS, that were ok or failed."),
    gauge("highwater_broker_fetches_waiting", &[], "Fetches that wait for data (the size of the fetch purgatory)."),
    counter("highwater_broker_fetch_sessions_evicted_total", &[], "Fetch sessions that made room for others."),
    counter("highwater_log_flushes_total", &[], "Syncs of logs."),
    histogram("highwater_log_flush_duration_seconds", &[], "How long making a log durable takes: one fsync and its bookkeeping."),
    counter("highwater_log_flush_failures_total", &[], "Syncs that the disk refused."),
    gauge("highwater_log_open_duration_seconds", &[], "How long opening logs took, the last time some were opened."),
    counter("highwater_log_holes_total", &[],
        "Places in the middle of logs, found when they were opened, where a segment was lost or emptied; the log names them."),
    gauge("highwater_disk_refusing_writes", &[], "1 while producers are refused because the disk is nearly full."),
    gauge("highwater_disk_failed", &[], "1 once the disk of the data directory has failed; the node stops then."),
    gauge("highwater_cleaner_max_dirty_ratio", &[], "The largest share of a compacted log that is not compacted yet."),
    gauge("highwater_cleaner_uncleanable_partitions", &[], "Partitions whose compaction has failed for good."),
    counter("highwater_cleaner_runs_total", &["result"], "Compactions of a partition."),
    counter("highwater_cleaner_read_bytes_total", &[], "Bytes that compaction read."),
    counter("highwater_cleaner_written_bytes_total", &[], "Bytes that compaction wrote."),
    histogram("highwater_cleaner_duration_seconds", &[], "How long compacting one partition took."),
];

pub(crate) const KAFKA_BROKERS: MetricDef = gauge("kafka_brokers", &[], "Brokers of the cluster.");
pub(crate) const KAFKA_BROKER_INFO: MetricDef = gauge(
    "kafka_broker_info",
    &["id", "address"],
    "1 for each broker, with its address.",
);
pub(crate) const KAFKA_TOPIC_PARTITIONS: MetricDef =
    gauge("kafka_topic_partitions", TOPIC, "Partitions of the topic.");
pub(crate) const KAFKA_CURRENT_OFFSET: MetricDef = gauge(
    "kafka_topic_partition_current_offset",
    PARTITION,
    "The offset that the next readable record will get (the high watermark).",
);
pub(crate) const KAFKA_OLDEST_OFFSET: MetricDef = gauge(
    "kafka_topic_partition_oldest_offset",
    PARTITION,
    "The first offset that is still there.",
);
pub(crate) const KAFKA_LEADER: MetricDef = gauge(
    "kafka_topic_partition_leader",
    PARTITION,
    "Id of the broker that leads the partition, -1 if none does.",
);
pub(crate) const KAFKA_LEADER_IS_PREFERRED: MetricDef = gauge(
    "kafka_topic_partition_leader_is_preferred",
    PARTITION,
    "1 if the first replica leads the partition.",
);
pub(crate) const KAFKA_REPLICAS: MetricDef = gauge(
    "kafka_topic_partition_replicas",
    PARTITION,
    "Replicas of the partition.",
);
pub(crate) const KAFKA_IN_SYNC: MetricDef = gauge(
    "kafka_topic_partition_in_sync_replica",
    PARTITION,
    "Replicas of the partition that are in sync.",
);
pub(crate) const KAFKA_UNDER_REPLICATED: MetricDef = gauge(
    "kafka_topic_partition_under_replicated_partition",
    PARTITION,
    "1 if fewer replicas are in sync than there are.",
);
pub(crate) const KAFKA_GROUP_MEMBERS: MetricDef = gauge(
    "kafka_consumergroup_members",
    &["consumergroup"],
    "Members of the consumer group.",
);
pub(crate) const KAFKA_GROUP_OFFSET: MetricDef = gauge(
    "kafka_consumergroup_current_offset",
    GROUP_PARTITION,
    "The offset the group has committed.",
);
pub(crate) const KAFKA_GROUP_OFFSET_SUM: MetricDef = gauge(
    "kafka_consumergroup_current_offset_sum",
    GROUP_TOPIC,
    "The group's committed offsets, summed over the topic.",
);
pub(crate) const KAFKA_GROUP_LAG: MetricDef = gauge(
    "kafka_consumergroup_lag",
    GROUP_PARTITION,
    "Records between the group's committed offset and the end.",
);
pub(crate) const KAFKA_GROUP_LAG_SUM: MetricDef = gauge(
    "kafka_consumergroup_lag_sum",
    GROUP_TOPIC,
    "The group's lag, summed over the topic.",
);
pub(crate) const TOPIC_RECEIVED: MetricDef = counter(
    "highwater_topic_received_bytes_total",
    TOPIC,
    "Bytes of record batches appended to the topic since the node started.",
);
pub(crate) const TOPIC_SENT: MetricDef = counter(
    "highwater_topic_sent_bytes_total",
    TOPIC,
    "Bytes of record batches read from the topic since the node started.",
);
pub(crate) const TOPIC_SIZE: MetricDef = gauge(
    "highwater_topic_size_bytes",
    TOPIC,
    "Bytes of the topic's logs here.",
);
pub(crate) const PARTITION_SIZE: MetricDef = gauge(
    "highwater_partition_size_bytes",
    PARTITION,
    "Bytes of the partition's log here.",
);
pub(crate) const PARTITIONS: MetricDef = gauge(
    "highwater_broker_partitions",
    &["state"],
    "Partitions of this node: online ones serve, the log of a failed one cannot be used.",
);
pub(crate) const REQUEST_MEMORY: MetricDef = gauge(
    "highwater_broker_request_memory_bytes",
    &[],
    "Memory reserved for requests that are read or handled.",
);
pub(crate) const REQUEST_MEMORY_LIMIT: MetricDef = gauge(
    "highwater_broker_request_memory_limit_bytes",
    &[],
    "The most memory for requests; reading waits when it is reached.",
);
pub(crate) const RESPONSE_MEMORY: MetricDef = gauge(
    "highwater_broker_response_memory_bytes",
    &[],
    "Memory reserved for fetch answers that are not yet written.",
);
pub(crate) const RESPONSE_MEMORY_LIMIT: MetricDef = gauge(
    "highwater_broker_response_memory_limit_bytes",
    &[],
    "The most memory for fetch answers; fetches wait when it is reached.",
);
pub(crate) const FETCH_SESSIONS: MetricDef = gauge(
    "highwater_broker_fetch_sessions",
    &[],
    "Fetch sessions that consumers hold open (KIP-227).",
);
pub(crate) const FETCH_SESSION_PARTITIONS: MetricDef = gauge(
    "highwater_broker_fetch_session_partitions",
    &[],
    "Partitions remembered for fetch sessions.",
);
pub(crate) const RECOVERY: MetricDef = gauge(
    "highwater_broker_recovery_duration_seconds",
    &[],
    "How long the last start took to open and recover all logs.",
);
pub(crate) const DISK_FREE: MetricDef = gauge(
    "highwater_data_dir_free_bytes",
    &["path"],
    "Bytes of the data directory's file system that the node may still use.",
);
pub(crate) const DISK_TOTAL: MetricDef = gauge(
    "highwater_data_dir_size_bytes",
    &["path"],
    "Size of the data directory's file system.",
);
pub(crate) const OMITTED: MetricDef = gauge(
    "highwater_metrics_partitions_omitted",
    &[],
    "Partitions that have no series of their own because there are too many.",
);

/// What is read from the present state at each scrape.
pub const STATE: &[MetricDef] = &[
    KAFKA_BROKERS,
    KAFKA_BROKER_INFO,
    KAFKA_TOPIC_PARTITIONS,
    KAFKA_CURRENT_OFFSET,
    KAFKA_OLDEST_OFFSET,
    KAFKA_LEADER,
    KAFKA_LEADER_IS_PREFERRED,
    KAFKA_REPLICAS,
    KAFKA_IN_SYNC,
    KAFKA_UNDER_REPLICATED,
    KAFKA_GROUP_MEMBERS,
    KAFKA_GROUP_OFFSET,
    KAFKA_GROUP_OFFSET_SUM,
    KAFKA_GROUP_LAG,
    KAFKA_GROUP_LAG_SUM,
    TOPIC_RECEIVED,
    TOPIC_SENT,
    TOPIC_SIZE,
    PARTITION_SIZE,
    PARTITIONS,
    REQUEST_MEMORY,
    REQUEST_MEMORY_LIMIT,
    RESPONSE_MEMORY,
    RESPONSE_MEMORY_LIMIT,
    FETCH_SESSIONS,
    FETCH_SESSION_PARTITIONS,
    RECOVERY,
    DISK_FREE,
    DISK_TOTAL,
    OMITTED,
];

/// Gives the installed recorder the help of these metrics.
pub fn describe(table: &[MetricDef]) {
    for row in table {
        match row.kind {
            MetricKind::Counter => metrics::describe_counter!(row.name, row.help),
            MetricKind::Gauge => metrics::describe_gauge!(row.name, row.help),
            MetricKind::Histogram => metrics::describe_histogram!(row.name, row.help),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_carry_their_units() {
        let mut names = BTreeSet::new();
        for row in EVENTS.iter().chain(STATE) {
            assert!(names.insert(row.name), "{} occurs twice", row.name);
            assert!(row.help.ends_with('.'), "{} has no help", row.name);
            assert_eq!(
                row.kind == MetricKind::Counter,
                row.name.ends_with("_total"),
                "{}",
                row.name
            );
            if row.kind == MetricKind::Histogram {
                assert!(row.name.ends_with("_seconds"), "{}", row.name);
            }
        }
    }
}
