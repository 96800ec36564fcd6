//! Configs as typed values: what the broker and its logs work with.
//!
//! Sentinels end here: "no limit" is `None`, and so is "never" for the flush keys.

mod security;

use std::collections::{BTreeMap, BTreeSet};

use highwater_types::record::{Codec, Compression, TimestampType};

use crate::{
    acl::Authorizer,
    config_defs::{ConfigError, ConfigValue},
    config_view::ResolvedConfig,
    principal::{Principal, PrincipalError},
};

pub use self::security::{ClientCertificates, LISTENER_CONFIGS, SecuritySettings};

/// What happens to the old data of a topic. Neither means that everything is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// Drop segments by age and size.
    pub delete: bool,
    /// Keep the latest record of each key.
    pub compact: bool,
}

/// The configs of one topic, each under Kafka's name.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the registry documents every key")]
pub struct TopicSettings {
    pub cleanup_policy: CleanupPolicy,
    pub compression_gzip_level: i32,
    pub compression_lz4_level: i32,
    /// `None` keeps what the producer sent.
    pub compression_type: Option<Compression>,
    pub compression_zstd_level: i32,
    pub delete_retention_ms: i64,
    pub file_delete_delay_ms: i64,
    /// `None` never syncs by count.
    pub flush_messages: Option<i64>,
    /// `None` never syncs by age.
    pub flush_ms: Option<i64>,
    pub index_interval_bytes: u32,
    pub max_compaction_lag_ms: i64,
    pub max_message_bytes: u32,
    pub message_timestamp_after_max_ms: i64,
    pub message_timestamp_before_max_ms: i64,
    pub message_timestamp_type: TimestampType,
    pub min_cleanable_dirty_ratio: f64,
    pub min_compaction_lag_ms: i64,
    pub min_insync_replicas: u32,
    pub preallocate: bool,
    /// `None` is no limit.
    pub retention_bytes: Option<i64>,
    /// `None` is no limit.
    pub retention_ms: Option<i64>,
    pub segment_bytes: u32,
    pub segment_index_bytes: u32,
    pub segment_jitter_ms: i64,
    pub segment_ms: i64,
    pub unclean_leader_election_enable: bool,
}

impl TopicSettings {
    pub(crate) fn from_resolved(configs: &[ResolvedConfig]) -> Result<Self, ConfigError> {
        let values = Values(configs);
        let policies = values.list("cleanup.policy")?;
        let has = |policy: &str| policies.iter().any(|item| item == policy);
        Ok(Self {
            cleanup_policy: CleanupPolicy {
                delete: has("delete"),
                compact: has("compact"),
            },
            compression_gzip_level: values.int("compression.gzip.level")?,
            compression_lz4_level: values.int("compression.lz4.level")?,
            compression_type: match values.text("compression.type")?.as_str() {
                "uncompressed" => Some(Compression::None),
                "gzip" => Some(Compression::Gzip),
                "snappy" => Some(Compression::Snappy),
                "lz4" => Some(Compression::Lz4),
                "zstd" => Some(Compression::Zstd),
                _ => None, // `producer`, the only other word the registry lets through
            },
            compression_zstd_level: values.int("compression.zstd.level")?,
            delete_retention_ms: values.long("delete.retention.ms")?,
            file_delete_delay_ms: values.long("file.delete.delay.ms")?,
            flush_messages: never(values.long("flush.messages")?),
            flush_ms: never(values.long("flush.ms")?),
            index_interval_bytes: values.size("index.interval.bytes")?,
            max_compaction_lag_ms: values.long("max.compaction.lag.ms")?,
            max_message_bytes: values.size("max.message.bytes")?,
            message_timestamp_after_max_ms: values.long("message.timestamp.after.max.ms")?,
            message_timestamp_before_max_ms: values.long("message.timestamp.before.max.ms")?,
            message_timestamp_type: match values.text("message.timestamp.type")?.as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime, // the only other word the registry lets through
            },
            min_cleanable_dirty_ratio: values.double("min.cleanable.dirty.ratio")?,
            min_compaction_lag_ms: values.long("min.compaction.lag.ms")?,
            min_insync_replicas: values.size("min.insync.replicas")?,
            preallocate: values.boolean("preallocate")?,
            retention_bytes: limit(values.long("retention.bytes")?),
            retention_ms: limit(values.long("retention.ms")?),
            segment_bytes: values.size("segment.bytes")?,
            segment_index_bytes: values.size("segment.index.bytes")?,
            segment_jitter_ms: values.long("segment.jitter.ms")?,
            segment_ms: values.long("segment.ms")?,
            unclean_leader_election_enable: values.boolean("unclean.leader.election.enable")?,
        })
    }

    /// How the topic's batches are to be compressed; `None` keeps what the producer sent.
    pub fn stored_codec(&self) -> Option<Codec> {
        self.compression_type.map(|compression| Codec {
            compression,
            level: match compression {
                Compression::Gzip => Some(self.compression_gzip_level).filter(|level| *level != -1),
                Compression::Zstd => Some(self.compression_zstd_level),
                Compression::None | Compression::Snappy | Compression::Lz4 => None,
            },
        })
    }
}

/// The configs of a broker that are not merely defaults of topic configs, each under Kafka's name (in milliseconds where
/// Kafka counts minutes).
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs, reason = "the registry documents every key")]
pub struct BrokerSettings {
    /// `None` lets everybody do everything.
    pub authorizer: Option<Authorizer>,
    pub auto_create_topics_enable: bool,
    /// `None` never closes an idle connection.
    pub connections_max_idle_ms: Option<i64>,
    pub controller_quota_window_num: u32,
    pub controller_quota_window_size_seconds: u32,
    pub default_replication_factor: i16,
    pub delete_topic_enable: bool,
    pub fetch_max_bytes: u32,
    pub group_consumer_assignors: Vec<String>,
    pub group_consumer_heartbeat_interval_ms: i32,
    pub group_consumer_max_heartbeat_interval_ms: i32,
    pub group_consumer_max_session_timeout_ms: u32,
    pub group_consumer_max_size: u32,
    pub group_consumer_migration_policy: String,
    pub group_consumer_min_heartbeat_interval_ms: i32,
    pub group_consumer_min_session_timeout_ms: u32,
    pub group_consumer_session_timeout_ms: u32,
    pub group_initial_rebalance_delay_ms: u32,
    pub group_max_session_timeout_ms: i32,
    pub group_max_size: u32,
    pub group_min_session_timeout_ms: i32,
    /// `None` leaves it to the broker.
    pub highwater_min_free_bytes: Option<u64>,
    pub highwater_validate_compressed_records: bool,
    pub log_cleaner_backoff_ms: i64,
    pub log_cleaner_dedupe_buffer_bytes: i64,
    pub log_cleaner_enable: bool,
    pub log_cleaner_io_buffer_load_factor: f64,
    pub log_cleaner_io_buffer_bytes: u32,
    pub log_cleaner_io_max_bytes_per_second: f64,
    pub log_cleaner_threads: u32,
    pub log_flush_offset_checkpoint_interval_ms: u32,
    pub log_flush_start_offset_checkpoint_interval_ms: u32,
    pub log_retention_check_interval_ms: i64,
    pub max_incremental_fetch_session_cache_slots: u32,
    pub max_partitions_per_broker: u32,
    pub num_partitions: i32,
    pub num_recovery_threads_per_data_dir: u32,
    pub offset_metadata_max_bytes: i32,
    pub offsets_retention_check_interval_ms: i64,
    pub offsets_retention_ms: i64,
    pub offsets_topic_partitions: i32,
    pub offsets_topic_replication_factor: i16,
    pub offsets_topic_segment_bytes: u32,
    /// `None` leaves it to the node's limits.
    pub queued_max_request_bytes: Option<i64>,
    pub quota_window_num: u32,
    pub quota_window_size_seconds: u32,
    /// How clients log in.
    pub security: SecuritySettings,
    pub socket_request_max_bytes: u32,
    /// `None` leaves it to the system.
    pub socket_send_buffer_bytes: Option<usize>,
}

/// The authorizer, if one is named; users are checked even when none is, so that a mistake shows before it matters.
fn authorizer(values: &Values<'_>) -> Result<Option<Authorizer>, ConfigError> {
    let key = "super.users";
    let text = values.optional(key, Values::text)?.unwrap_or_default();
    let users = text.split(';').map(str::trim).filter(|user| !user.is_empty());
    let super_users: Result<BTreeSet<Principal>, ConfigError> = users
        .map(|user| {
            user.parse()
                .map_err(|error: PrincipalError| ConfigError::InvalidValue {
                    key,
                    value: text.clone(),
                    expected: error.to_string(),
                })
        })
        .collect();
    let authorizer = Authorizer {
        super_users: super_users?,
        allow_everyone_if_no_acl_found: values.boolean("allow.everyone.if.no.acl.found")?,
    };
    let class = values.optional("authorizer.class.name", Values::text)?;
    Ok(class.map(|_| authorizer))
}

impl BrokerSettings {
    pub(crate) fn from_resolved(configs: &[ResolvedConfig]) -> Result<Self, ConfigError> {
        let settings = Self::read(&Values(configs))?;
        settings.check_together()?;
        Ok(settings)
    }

    /// Refuses values that are fine one by one but contradict each other, as Kafka does at its start.
    fn check_together(&self) -> Result<(), ConfigError> {
        in_order(
            (
                "group.min.session.timeout.ms",
                self.group_min_session_timeout_ms.into(),
            ),
            (
                "group.max.session.timeout.ms",
                self.group_max_session_timeout_ms.into(),
            ),
        )?;
        if let Some(bytes) = self.queued_max_request_bytes {
            in_order(
                ("socket.request.max.bytes", self.socket_request_max_bytes.into()),
                ("queued.max.request.bytes", bytes),
            )?;
        }
        let groups = GroupBounds::of(self);
        groups.check_values(
            ("group.consumer.session.timeout.ms", groups.session_timeout_ms),
            (
                "group.consumer.heartbeat.interval.ms",
                groups.heartbeat_interval_ms,
            ),
        )
    }

    fn read(values: &Values<'_>) -> Result<Self, ConfigError> {
        Ok(Self {
            authorizer: authorizer(values)?,
            auto_create_topics_enable: values.boolean("auto.create.topics.enable")?,
            connections_max_idle_ms: limit(values.long("connections.max.idle.ms")?),
            controller_quota_window_num: values.size("controller.quota.window.num")?,
            controller_quota_window_size_seconds: values.size("controller.quota.window.size.seconds")?,
            default_replication_factor: values.replicas("default.replication.factor")?,
            delete_topic_enable: values.boolean("delete.topic.enable")?,
            fetch_max_bytes: values.size("fetch.max.bytes")?,
            group_consumer_assignors: values.list("group.consumer.assignors")?,
            group_consumer_heartbeat_interval_ms: values.int("group.consumer.heartbeat.interval.ms")?,
            group_consumer_max_heartbeat_interval_ms: values
                .int("group.consumer.max.heartbeat.interval.ms")?,
            group_consumer_max_session_timeout_ms: values.size("group.consumer.max.session.timeout.ms")?,
            group_consumer_max_size: values.size("group.consumer.max.size")?,
            group_consumer_migration_policy: values.text("group.consumer.migration.policy")?,
            group_consumer_min_heartbeat_interval_ms: values
                .int("group.consumer.min.heartbeat.interval.ms")?,
            group_consumer_min_session_timeout_ms: values.size("group.consumer.min.session.timeout.ms")?,
            group_consumer_session_timeout_ms: values.size("group.consumer.session.timeout.ms")?,
            group_initial_rebalance_delay_ms: values.size("group.initial.rebalance.delay.ms")?,
            group_max_session_timeout_ms: values.int("group.max.session.timeout.ms")?,
            group_max_size: values.size("group.max.size")?,
            group_min_session_timeout_ms: values.int("group.min.session.timeout.ms")?,
            highwater_min_free_bytes: limit(values.long("highwater.min.free.bytes")?)
                .and_then(|bytes| u64::try_from(bytes).ok()),
            highwater_validate_compressed_records: values.boolean("highwater.validate.compressed.records")?,
            log_cleaner_backoff_ms: values.long("log.cleaner.backoff.ms")?,
            log_cleaner_dedupe_buffer_bytes: values.long("log.cleaner.dedupe.buffer.size")?,
            log_cleaner_enable: values.boolean("log.cleaner.enable")?,
            log_cleaner_io_buffer_load_factor: values.double("log.cleaner.io.buffer.load.factor")?,
            log_cleaner_io_buffer_bytes: values.size("log.cleaner.io.buffer.size")?,
            log_cleaner_io_max_bytes_per_second: values.double("log.cleaner.io.max.bytes.per.second")?,
            log_cleaner_threads: values.size("log.cleaner.threads")?,
            log_flush_offset_checkpoint_interval_ms: values
                .size("log.flush.offset.checkpoint.interval.ms")?,
            log_flush_start_offset_checkpoint_interval_ms: values
                .size("log.flush.start.offset.checkpoint.interval.ms")?,
            log_retention_check_interval_ms: values.long("log.retention.check.interval.ms")?,
            max_incremental_fetch_session_cache_slots: values
                .size("max.incremental.fetch.session.cache.slots")?,
            max_partitions_per_broker: values.size("max.partitions.per.broker")?,
            num_partitions: values.int("num.partitions")?,
            num_recovery_threads_per_data_dir: values.size("num.recovery.threads.per.data.dir")?,
            offset_metadata_max_bytes: values.int("offset.metadata.max.bytes")?,
            offsets_retention_check_interval_ms: values.long("offsets.retention.check.interval.ms")?,
            offsets_retention_ms: i64::from(values.int("offsets.retention.minutes")?) * 60_000,
            offsets_topic_partitions: values.int("offsets.topic.num.partitions")?,
            offsets_topic_replication_factor: values.replicas("offsets.topic.replication.factor")?,
            offsets_topic_segment_bytes: values.size("offsets.topic.segment.bytes")?,
            queued_max_request_bytes: Some(values.long("queued.max.request.bytes")?)
                .filter(|bytes| *bytes > 0),
            quota_window_num: values.size("quota.window.num")?,
            quota_window_size_seconds: values.size("quota.window.size.seconds")?,
            security: SecuritySettings::read(values)?,
            socket_request_max_bytes: values.size("socket.request.max.bytes")?,
            socket_send_buffer_bytes: usize::try_from(values.int("socket.send.buffer.bytes")?).ok(),
        })
    }
}

/// What the brokers let groups choose for themselves, and what groups have that chose nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the registry documents every key")]
pub struct GroupBounds {
    pub heartbeat_interval_ms: i64,
    pub min_heartbeat_interval_ms: i64,
    pub max_heartbeat_interval_ms: i64,
    pub session_timeout_ms: i64,
    pub min_session_timeout_ms: i64,
    pub max_session_timeout_ms: i64,
}

/// A key and its value.
type Named = (&'static str, i64);

impl GroupBounds {
    /// The bounds that a broker's settings set.
    pub fn of(settings: &BrokerSettings) -> Self {
        Self {
            heartbeat_interval_ms: settings.group_consumer_heartbeat_interval_ms.into(),
            min_heartbeat_interval_ms: settings.group_consumer_min_heartbeat_interval_ms.into(),
            max_heartbeat_interval_ms: settings.group_consumer_max_heartbeat_interval_ms.into(),
            session_timeout_ms: settings.group_consumer_session_timeout_ms.into(),
            min_session_timeout_ms: settings.group_consumer_min_session_timeout_ms.into(),
            max_session_timeout_ms: settings.group_consumer_max_session_timeout_ms.into(),
        }
    }

    /// Whether a group may have these configs, which passed the registry's checks.
    pub(crate) fn check(&self, configs: &BTreeMap<String, String>) -> Result<(), ConfigError> {
        let value = |key: &'static str, default| {
            let set = configs.get(key).and_then(|value| value.parse().ok());
            (key, set.unwrap_or(default))
        };
        self.check_values(
            value("consumer.session.timeout.ms", self.session_timeout_ms),
            value("consumer.heartbeat.interval.ms", self.heartbeat_interval_ms),
        )
    }

    fn check_values(&self, session: Named, heartbeat: Named) -> Result<(), ConfigError> {
        in_order(
            (
                "group.consumer.min.session.timeout.ms",
                self.min_session_timeout_ms,
            ),
            session,
        )?;
        in_order(
            session,
            (
                "group.consumer.max.session.timeout.ms",
                self.max_session_timeout_ms,
            ),
        )?;
        let least = (
            "group.consumer.min.heartbeat.interval.ms",
            self.min_heartbeat_interval_ms,
        );
        in_order(least, heartbeat)?;
        let most = (
            "group.consumer.max.heartbeat.interval.ms",
            self.max_heartbeat_interval_ms,
        );
        in_order(heartbeat, most)?;
        if heartbeat.1 < session.1 {
            return Ok(());
        }
        Err(ConfigError::NotBelow {
            lower: heartbeat.0,
            lower_value: heartbeat.1,
            upper: session.0,
            upper_value: session.1,
        })
    }
}

fn in_order(lower: Named, upper: Named) -> Result<(), ConfigError> {
    if lower.1 <= upper.1 {
        return Ok(());
    }
    Err(ConfigError::Contradiction {
        lower: lower.0,
        lower_value: lower.1,
        upper: upper.0,
        upper_value: upper.1,
    })
}

/// Kafka writes "no limit" as any negative number.
fn limit(value: i64) -> Option<i64> {
    (value >= 0).then_some(value)
}

/// Kafka writes "never" as the largest number.
fn never(value: i64) -> Option<i64> {
    (value != i64::MAX).then_some(value)
}

/// Resolved configs by name and type.
struct Values<'a>(&'a [ResolvedConfig]);

impl Values<'_> {
    /// The parsed value. A key without any value, or of another type than asked for, is a mistake in this file that the
    /// tests of this crate cannot miss: every key is read by one constructor.
    fn parsed(&self, key: &'static str) -> Result<ConfigValue, ConfigError> {
        let found = self
            .0
            .iter()
            .find(|config| config.def.name == key)
            .ok_or(ConfigError::NullValue { key })?;
        found
            .def
            .parse(found.value.as_deref().ok_or(ConfigError::NullValue { key })?)
    }

    fn read<T>(
        &self,
        key: &'static str,
        convert: impl Fn(&ConfigValue) -> Option<T>,
    ) -> Result<T, ConfigError> {
        let value = self.parsed(key)?;
        convert(&value).ok_or_else(|| ConfigError::InvalidValue {
            key,
            value: format!("{value:?}"),
            expected: "expected a value that fits the setting".to_owned(),
        })
    }

    fn long(&self, key: &'static str) -> Result<i64, ConfigError> {
        self.read(key, |value| match value {
            ConfigValue::Int(number) => Some(i64::from(*number)),
            ConfigValue::Long(number) => Some(*number),
            ConfigValue::Boolean(_)
            | ConfigValue::String(_)
            | ConfigValue::Double(_)
            | ConfigValue::List(_) => None,
        })
    }

    fn int(&self, key: &'static str) -> Result<i32, ConfigError> {
        self.read(key, |value| {
            if let ConfigValue::Int(number) = value {
                Some(*number)
            } else {
                None
            }
        })
    }

    fn size(&self, key: &'static str) -> Result<u32, ConfigError> {
        self.read(key, |value| {
            if let ConfigValue::Int(number) = value {
                u32::try_from(*number).ok()
            } else {
                None
            }
        })
    }

    /// Requests carry a replication factor in 16 bits.
    fn replicas(&self, key: &'static str) -> Result<i16, ConfigError> {
        self.read(key, |value| {
            if let ConfigValue::Int(number) = value {
                i16::try_from(*number).ok()
            } else {
                None
            }
        })
    }

    fn boolean(&self, key: &'static str) -> Result<bool, ConfigError> {
        self.read(key, |value| {
            if let ConfigValue::Boolean(flag) = value {
                Some(*flag)
            } else {
                None
            }
        })
    }

    fn double(&self, key: &'static str) -> Result<f64, ConfigError> {
        self.read(key, |value| {
            if let ConfigValue::Double(number) = value {
                Some(*number)
            } else {
                None
            }
        })
    }

    fn text(&self, key: &'static str) -> Result<String, ConfigError> {
        self.read(key, |value| {
            if let ConfigValue::String(text) = value {
                Some(text.clone())
            } else {
                None
            }
        })
    }

    /// A value of a key that may have none.
    fn optional<T>(
        &self,
        key: &'static str,
        read: impl Fn(&Self, &'static str) -> Result<T, ConfigError>,
    ) -> Result<Option<T>, ConfigError> {
        match read(self, key) {
            Ok(value) => Ok(Some(value)),
            Err(ConfigError::NullValue { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, key: &'static str) -> Result<Vec<String>, ConfigError> {
        self.read(key, |value| {
            if let ConfigValue::List(items) = value {
                Some(items.clone())
            } else {
                None
            }
        })
    }
}
