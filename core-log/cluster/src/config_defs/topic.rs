//! Topic keys.

use super::{
    Check::{self, *},
    ConfigDef,
    ConfigType::{self, *},
    Synonym, UpdateMode,
};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

const fn row(
    name: &'static str,
    config_type: ConfigType,
    default: &'static str,
    check: Check,
    synonyms: &'static [Synonym],
    doc: &'static str,
) -> ConfigDef {
    ConfigDef {
        name,
        config_type,
        default: Some(default),
        check,
        update: UpdateMode::ClusterWide,
        synonyms,
        doc,
    }
}

/// Every topic key, sorted by name.
#[rustfmt::skip]
pub const TOPIC_CONFIGS: &[ConfigDef] = &[
    row("cleanup.policy", List, "delete", EachOneOf(&["compact", "delete"]), &[Synonym::same("log.cleanup.policy")],
        "What happens to old data: delete drops segments by age and size, compact keeps the latest record of each key; both may be given. An empty list keeps everything."),
    row("compression.gzip.level", Int, "-1", ExactlyOrBetween(-1, 1, 9), &[Synonym::same("compression.gzip.level")],
        "The gzip level when the broker itself compresses with gzip; -1 is the library's default."),
    row("compression.lz4.level", Int, "9", Between(1, 17), &[Synonym::same("compression.lz4.level")],
        "The lz4 level when the broker itself compresses with lz4. Every level writes what level 9, the default, writes in Kafka: the fast encoder's blocks."),
    row("compression.type", String, "producer", OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), &[Synonym::same("compression.type")],
        "The codec of stored batches; producer keeps whatever the producer sent. The broker compresses anew what comes in another codec, which costs it the time of both codecs; the size limit counts before and after."),
    row("compression.zstd.level", Int, "3", Between(-131_072, 22), &[Synonym::same("compression.zstd.level")],
        "The zstd level when the broker itself compresses with zstd."),
    row("delete.retention.ms", Long, "86400000", AtLeast(0), &[Synonym::same("log.cleaner.delete.retention.ms")],
        "How long a tombstone of a compacted topic stays readable, so that a consumer starting at offset 0 still sees the deletion."),
    row("file.delete.delay.ms", Long, "60000", AtLeast(0), &[Synonym::same("log.segment.delete.delay.ms")],
        "How long files outlive the deletion of a segment by retention, or of the topic, under names that end in .deleted or -delete. They go at once while the disk is short of room, and at a restart."),
    row("flush.messages", Long, "9223372036854775807", AtLeast(1), &[Synonym::same("log.flush.interval.messages")],
        "Sync to disk after this many records; 1 makes every acknowledged record durable on its own, the default leaves it to the operating system and to replication."),
    row("flush.ms", Long, "9223372036854775807", AtLeast(0), &[Synonym::same("log.flush.interval.ms"), Synonym::same("log.flush.scheduler.interval.ms")],
        "Sync to disk when unsynced records are this old."),
    row("index.interval.bytes", Int, "4096", AtLeast(0), &[Synonym::same("log.index.interval.bytes")],
        "Bytes of log per entry of the offset index: smaller finds positions faster and makes larger indexes."),
    row("max.compaction.lag.ms", Long, "9223372036854775807", AtLeast(1), &[Synonym::same("log.cleaner.max.compaction.lag.ms")],
        "The longest a record of a compacted topic may wait for compaction."),
    row("max.message.bytes", Int, "1048588", AtLeast(0), &[Synonym::same("message.max.bytes")],
        "The largest record batch the topic accepts, after compression."),
    row("message.timestamp.after.max.ms", Long, "3600000", AtLeast(0), &[Synonym::same("log.message.timestamp.after.max.ms")],
        "How far a record's timestamp may lie ahead of the broker's clock; ignored with LogAppendTime."),
    row("message.timestamp.before.max.ms", Long, "9223372036854775807", AtLeast(0), &[Synonym::same("log.message.timestamp.before.max.ms")],
        "How far a record's timestamp may lie behind the broker's clock; ignored with LogAppendTime."),
    row("message.timestamp.type", String, "CreateTime", OneOf(&["CreateTime", "LogAppendTime"]), &[Synonym::same("log.message.timestamp.type")],
        "Whether a record carries the time its producer gave it or the time the broker appended it."),
    row("min.cleanable.dirty.ratio", Double, "0.5", Fraction, &[Synonym::same("log.cleaner.min.cleanable.ratio")],
        "The share of a log that must be uncompacted before compaction starts."),
    row("min.compaction.lag.ms", Long, "0", AtLeast(0), &[Synonym::same("log.cleaner.min.compaction.lag.ms")],
        "The shortest time a record of a compacted topic stays as it was written."),
    row("min.insync.replicas", Int, "1", AtLeast(1), &[Synonym::same("min.insync.replicas")],
        "In-sync replicas that must exist before a write with acks=all is accepted."),
    row("preallocate", Boolean, "false", Any, &[Synonym::same("log.preallocate")],
        "Reserve a new segment's whole size on disk when it is created."),
    row("retention.bytes", Long, "-1", AtLeast(-1), &[Synonym::same("log.retention.bytes")],
        "The size of a partition above which its oldest segments are deleted; -1 means no limit."),
    row("retention.ms", Long, "604800000", AtLeast(-1), &[
            Synonym::same("log.retention.ms"),
            Synonym { name: "log.retention.minutes", factor: MINUTE_MS },
            Synonym { name: "log.retention.hours", factor: HOUR_MS },
        ],
        "The age above which segments are deleted; -1 means no limit."),
    row("segment.bytes", Int, "1073741824", AtLeast(1024 * 1024), &[Synonym::same("log.segment.bytes")],
        "The size at which a new segment is started; retention and compaction work on whole closed segments."),
    row("segment.index.bytes", Int, "10485760", AtLeast(4), &[Synonym::same("log.index.size.max.bytes")],
        "The largest offset index of a segment; a full index starts a new segment."),
    row("segment.jitter.ms", Long, "0", AtLeast(0), &[
            Synonym::same("log.roll.jitter.ms"),
            Synonym { name: "log.roll.jitter.hours", factor: HOUR_MS },
        ],
        "The most that is taken off segment.ms, so that partitions do not all start segments at once."),
    row("segment.ms", Long, "604800000", AtLeast(1), &[
            Synonym::same("log.roll.ms"),
            Synonym { name: "log.roll.hours", factor: HOUR_MS },
        ],
        "The age at which a new segment is started even when the old one is not full."),
    row("unclean.leader.election.enable", Boolean, "false", Any, &[Synonym::same("unclean.leader.election.enable")],
        "Whether a replica that is not in sync may become leader when no other is left, at the price of losing records. Without effect while the node is the only one."),
];
