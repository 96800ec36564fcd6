//! Gauges under kafka_exporter's names, so that its dashboards work as they are; set when somebody looks.

use std::collections::HashMap;

use highwater_cluster::MetadataImage;
use highwater_types::PartitionId;
use metrics::gauge;

use crate::broker::Broker;
use crate::log::query::Extent;

/// Offsets of the partitions led here.
type Extents = HashMap<(String, PartitionId), Extent>;

/// Sets every gauge from the state of this moment.
pub(crate) fn record(broker: &Broker) {
    let image = broker.image();
    record_brokers(&image);
    record_topics(&image);
    let extents = record_partitions(broker);
    record_groups(broker, &extents);
    record_fetch_sessions(broker);
}

fn record_fetch_sessions(broker: &Broker) {
    let counts = broker.fetch_sessions.counts();
    gauge!("highwater_broker_fetch_sessions").set(counts.sessions as f64);
    gauge!("highwater_broker_fetch_session_partitions").set(counts.partitions as f64);
}

fn record_brokers(image: &MetadataImage) {
    gauge!("kafka_brokers").set(image.brokers().len() as f64);
    for (id, broker) in image.brokers() {
        if let Some(endpoint) = broker.endpoints.first() {
            let address = format!("{}:{}", endpoint.host, endpoint.port);
            gauge!("kafka_broker_info", "id" => id.to_string(), "address" => address).set(1.0);
        }
    }
}

fn record_topics(image: &MetadataImage) {
    for topic in image.topics() {
        let name = topic.name.as_str().to_owned();
        gauge!("kafka_topic_partitions", "topic" => name.clone()).set(f64::from(topic.partition_count()));
        for (index, partition) in topic.partitions.iter().enumerate() {
            let labels = [("topic", name.clone()), ("partition", index.to_string())];
            let leader = partition.leader.map_or(-1.0, |leader| f64::from(leader.get()));
            let is_preferred =
                partition.leader.is_some() && partition.leader == partition.replicas.first().copied();
            let is_under_replicated = partition.isr.len() < partition.replicas.len();
            gauge!("kafka_topic_partition_leader", &labels).set(leader);
            gauge!("kafka_topic_partition_leader_is_preferred", &labels)
                .set(f64::from(u8::from(is_preferred)));
            gauge!("kafka_topic_partition_replicas", &labels).set(partition.replicas.len() as f64);
            gauge!("kafka_topic_partition_in_sync_replica", &labels).set(partition.isr.len() as f64);
            gauge!("kafka_topic_partition_under_replicated_partition", &labels)
                .set(f64::from(u8::from(is_under_replicated)));
        }
    }
}

fn record_partitions(broker: &Broker) -> Extents {
    let mut extents = Extents::new();
    for partition in broker.partitions.all() {
        let Ok(extent) = partition.extent() else { continue };
        let id = partition.id();
        let topic = id.topic.as_str().to_owned();
        let labels = [("topic", topic.clone()), ("partition", id.partition.to_string())];
        gauge!("kafka_topic_partition_current_offset", &labels).set(extent.high_watermark.get() as f64);
        gauge!("kafka_topic_partition_oldest_offset", &labels).set(extent.start.get() as f64);
        gauge!("kafka_log_log_size", &labels).set(extent.size_bytes as f64);
        extents.insert((topic, id.partition), extent);
    }
    extents
}

fn record_groups(broker: &Broker, extents: &Extents) {
    broker.groups.for_each_shard(|shard| {
        for (group_id, group) in shard.durable().groups() {
            let group_label = group_id.to_string();
            let members = group.member_count();
            gauge!("kafka_consumergroup_members", "consumergroup" => group_label.clone()).set(members as f64);
            for (topic, partitions) in group.offsets() {
                let topic_labels = [
                    ("consumergroup", group_label.clone()),
                    ("topic", topic.to_string()),
                ];
                let (mut offset_sum, mut lag_sum) = (0, 0);
                for (partition, committed) in partitions {
                    let end = extents
                        .get(&(topic.to_string(), *partition))
                        .map(|extent| extent.high_watermark);
                    let lag = end.map_or(0, |end| end.distance_from(committed.offset).max(0));
                    offset_sum += committed.offset.get();
                    lag_sum += lag;
                    let labels = [
                        ("consumergroup", group_label.clone()),
                        ("topic", topic.to_string()),
                        ("partition", partition.to_string()),
                    ];
                    gauge!("kafka_consumergroup_current_offset", &labels).set(committed.offset.get() as f64);
                    gauge!("kafka_consumergroup_lag", &labels).set(lag as f64);
                }
                gauge!("kafka_consumergroup_current_offset_sum", &topic_labels).set(offset_sum as f64);
                gauge!("kafka_consumergroup_lag_sum", &topic_labels).set(lag_sum as f64);
            }
        }
    });
}
