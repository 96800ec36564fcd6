//! What a scrape shows of the present state: kafka_exporter's families under its names, and our own.
//!
//! Nothing is kept between scrapes except counters that live in their partitions, so the series of a deleted topic
//! or group end with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use highwater_cluster::MetadataImage;
use highwater_storage::StdDisk;
use highwater_types::PartitionId;

use crate::broker::Broker;
use crate::exposition::Exposition;
use crate::limits::MAX_PARTITION_SERIES;
use crate::log::partition::Partition;
use crate::metric_defs as defs;

/// Writes every family of [`defs::STATE`].
pub(crate) fn record(broker: &Broker, out: &mut Exposition) {
    let image = broker.image();
    record_brokers(&image, out);
    record_topics(&image, out);
    let rows = partition_rows(broker);
    record_partitions(&rows, out);
    record_traffic(&rows, out);
    record_groups(broker, &rows, out);
    record_node(broker, rows.len(), out);
}

fn record_brokers(image: &MetadataImage, out: &mut Exposition) {
    out.single(&defs::KAFKA_BROKERS, image.brokers().len() as f64);
    let mut family = out.family(&defs::KAFKA_BROKER_INFO);
    for (id, broker) in image.brokers() {
        if let Some(endpoint) = broker.endpoints.first() {
            let address = format!("{}:{}", endpoint.host, endpoint.port);
            family.sample(&[&id.to_string(), &address], 1.0);
        }
    }
}

/// What the metadata says of one partition.
struct Replicated<'a> {
    topic: &'a str,
    partition: String,
    leader: f64,
    is_preferred: bool,
    replicas: usize,
    in_sync: usize,
}

fn record_topics(image: &MetadataImage, out: &mut Exposition) {
    let mut family = out.family(&defs::KAFKA_TOPIC_PARTITIONS);
    for topic in image.topics() {
        family.sample(&[topic.name.as_str()], f64::from(topic.partition_count()));
    }
    let partitions = image.topics().flat_map(|topic| {
        let name = topic.name.as_str();
        topic
            .partitions
            .iter()
            .enumerate()
            .map(move |(index, partition)| Replicated {
                topic: name,
                partition: index.to_string(),
                // The exporter's sentinel for "no leader".
                leader: partition.leader.map_or(-1.0, |leader| f64::from(leader.get())),
                is_preferred: partition.leader.is_some()
                    && partition.leader == partition.replicas.first().copied(),
                replicas: partition.replicas.len(),
                in_sync: partition.isr.len(),
            })
    });
    let partitions: Vec<Replicated<'_>> = partitions.take(MAX_PARTITION_SERIES).collect();
    let flag = |set: bool| f64::from(u8::from(set));
    let mut write = |def, value: &dyn Fn(&Replicated<'_>) -> f64| {
        let mut family = out.family(def);
        for row in &partitions {
            family.sample(&[row.topic, &row.partition], value(row));
        }
    };
    write(&defs::KAFKA_LEADER, &|row| row.leader);
    write(&defs::KAFKA_LEADER_IS_PREFERRED, &|row| flag(row.is_preferred));
    write(&defs::KAFKA_REPLICAS, &|row| row.replicas as f64);
    write(&defs::KAFKA_IN_SYNC, &|row| row.in_sync as f64);
    write(&defs::KAFKA_UNDER_REPLICATED, &|row| {
        flag(row.in_sync < row.replicas)
    });
}

/// What a log led here says.
struct Row {
    partition: Arc<Partition>,
    index: String,
    start: i64,
    high_watermark: i64,
    size_bytes: u64,
}

/// Led partitions by topic and number.
type Rows = BTreeMap<(String, PartitionId), Row>;

fn partition_rows(broker: &Broker) -> Rows {
    let mut rows = Rows::new();
    for partition in broker.partitions.all() {
        // A partition that fails or goes away at this moment has no offsets to show.
        let Ok(extent) = partition.extent() else { continue };
        let id = partition.id().clone();
        let row = Row {
            partition,
            index: id.partition.to_string(),
            start: extent.start.get(),
            high_watermark: extent.high_watermark.get(),
            size_bytes: extent.size_bytes,
        };
        rows.insert((id.topic.as_str().to_owned(), id.partition), row);
    }
    rows
}

fn record_partitions(rows: &Rows, out: &mut Exposition) {
    let mut write = |def, value: &dyn Fn(&Row) -> f64| {
        let mut family = out.family(def);
        for ((topic, _), row) in rows.iter().take(MAX_PARTITION_SERIES) {
            family.sample(&[topic, &row.index], value(row));
        }
    };
    write(&defs::KAFKA_CURRENT_OFFSET, &|row| row.high_watermark as f64);
    write(&defs::KAFKA_OLDEST_OFFSET, &|row| row.start as f64);
    write(&defs::PARTITION_SIZE, &|row| row.size_bytes as f64);
    out.single(
        &defs::OMITTED,
        rows.len().saturating_sub(MAX_PARTITION_SERIES) as f64,
    );
}

#[derive(Default)]
struct TopicSum {
    received_bytes: u64,
    sent_bytes: u64,
    size_bytes: u64,
}

fn record_traffic(rows: &Rows, out: &mut Exposition) {
    let mut topics: BTreeMap<&str, TopicSum> = BTreeMap::new();
    for ((topic, _), row) in rows {
        let (received_bytes, sent_bytes) = row.partition.traffic().totals();
        let sum = topics.entry(topic).or_default();
        sum.received_bytes += received_bytes;
        sum.sent_bytes += sent_bytes;
        sum.size_bytes += row.size_bytes;
    }
    let mut write = |def, value: &dyn Fn(&TopicSum) -> u64| {
        let mut family = out.family(def);
        for (topic, sum) in topics.iter().take(MAX_PARTITION_SERIES) {
            family.sample(&[topic], value(sum) as f64);
        }
    };
    write(&defs::TOPIC_RECEIVED, &|sum| sum.received_bytes);
    write(&defs::TOPIC_SENT, &|sum| sum.sent_bytes);
    write(&defs::TOPIC_SIZE, &|sum| sum.size_bytes);
}

struct Commit {
    group: String,
    topic: String,
    partition: String,
    offset: i64,
    lag: i64,
}

fn record_groups(broker: &Broker, rows: &Rows, out: &mut Exposition) {
    let mut members = Vec::new();
    let mut commits = Vec::new();
    broker.groups.for_each_shard(|shard| {
        for (group_id, group) in shard.durable().groups() {
            members.push((group_id.to_string(), group.member_count()));
            for (topic, partitions) in group.offsets() {
                for (partition, committed) in partitions {
                    let end = rows.get(&(topic.to_string(), *partition));
                    let offset = committed.offset.get();
                    commits.push(Commit {
                        group: group_id.to_string(),
                        topic: topic.to_string(),
                        partition: partition.to_string(),
                        offset,
                        lag: end.map_or(0, |row| row.high_watermark.saturating_sub(offset).max(0)),
                    });
                }
            }
        }
    });
    let mut family = out.family(&defs::KAFKA_GROUP_MEMBERS);
    for (group, count) in &members {
        family.sample(&[group], *count as f64);
    }
    let mut sums: BTreeMap<(&str, &str), (i64, i64)> = BTreeMap::new();
    for commit in &commits {
        let sum = sums.entry((&commit.group, &commit.topic)).or_default();
        sum.0 = sum.0.saturating_add(commit.offset);
        sum.1 = sum.1.saturating_add(commit.lag);
    }
    let mut write = |def, value: &dyn Fn(&Commit) -> i64| {
        let mut family = out.family(def);
        for commit in commits.iter().take(MAX_PARTITION_SERIES) {
            family.sample(
                &[&commit.group, &commit.topic, &commit.partition],
                value(commit) as f64,
            );
        }
    };
    write(&defs::KAFKA_GROUP_OFFSET, &|commit| commit.offset);
    write(&defs::KAFKA_GROUP_LAG, &|commit| commit.lag);
    let mut family = out.family(&defs::KAFKA_GROUP_OFFSET_SUM);
    for ((group, topic), (offset, _)) in &sums {
        family.sample(&[group, topic], *offset as f64);
    }
    let mut family = out.family(&defs::KAFKA_GROUP_LAG_SUM);
    for ((group, topic), (_, lag)) in &sums {
        family.sample(&[group, topic], *lag as f64);
    }
}

fn record_node(broker: &Broker, online: usize, out: &mut Exposition) {
    let mut family = out.family(&defs::PARTITIONS);
    family.sample(&["online"], online as f64);
    family.sample(&["failed"], broker.partitions.failed_count() as f64);
    let limits = &broker.limits;
    let used = |limit: usize, free: usize| limit.saturating_sub(free) as f64;
    out.single(
        &defs::REQUEST_MEMORY,
        used(
            limits.request_memory_bytes,
            broker.request_memory.available_permits(),
        ),
    );
    out.single(&defs::REQUEST_MEMORY_LIMIT, limits.request_memory_bytes as f64);
    out.single(
        &defs::RESPONSE_MEMORY,
        used(
            limits.response_memory_bytes,
            broker.response_memory.available_permits(),
        ),
    );
    out.single(&defs::RESPONSE_MEMORY_LIMIT, limits.response_memory_bytes as f64);
    let sessions = broker.fetch_sessions.counts();
    out.single(&defs::FETCH_SESSIONS, sessions.sessions as f64);
    out.single(&defs::FETCH_SESSION_PARTITIONS, sessions.partitions as f64);
    if let Some(took) = broker.recovery_took.get() {
        out.single(&defs::RECOVERY, took.as_secs_f64());
    }
    if let Ok(space) = StdDisk::shared().space(&broker.data_dir) {
        let path = broker.data_dir.display().to_string();
        out.family(&defs::DISK_FREE)
            .sample(&[&path], space.free_bytes as f64);
        out.family(&defs::DISK_TOTAL)
            .sample(&[&path], space.total_bytes as f64);
    }
}
