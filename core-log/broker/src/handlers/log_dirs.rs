//! DescribeLogDirs and AlterReplicaLogDirs: where the logs lie and how large they are (KIP-113, KIP-827).
//!
//! A node has one data directory, so that a replica can only stay where it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytestring::ByteString;
use highwater_storage::{Space, StdDisk};
use highwater_wire::ErrorCode;
use highwater_wire::messages::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use highwater_wire::messages::describe_log_dirs_request::DescribableLogDirTopic;
use highwater_wire::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use highwater_wire::messages::{
    AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse, DescribeLogDirsRequest, DescribeLogDirsResponse,
};

use crate::broker::Broker;
use crate::log::partition::Partition;

/// What stands for a size nobody knows.
const UNKNOWN: i64 = -1;

/// Sizes of the named partitions, or of all; each once, and those that are not here left out, as in Kafka.
pub(crate) async fn describe(
    broker: &Arc<Broker>,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let partitions = match request.topics {
        None => broker.partitions.all(),
        Some(topics) => named(broker, topics),
    };
    let mut topics: BTreeMap<ByteString, BTreeMap<i32, DescribeLogDirsPartition>> = BTreeMap::new();
    for partition in partitions {
        let Ok(extent) = partition.extent() else { continue };
        let id = partition.id();
        let partition_index = id.partition.get();
        let row = DescribeLogDirsPartition {
            partition_index,
            partition_size: i64::try_from(extent.size_bytes).unwrap_or(i64::MAX),
            // A leader's log is never behind its own high watermark.
            offset_lag: 0,
            is_future_key: false,
        };
        let of_topic = topics.entry(id.topic.as_byte_string().clone()).or_default();
        of_topic.insert(partition_index, row);
    }
    let topics = topics.into_iter().map(|(name, partitions)| DescribeLogDirsTopic {
        name,
        partitions: partitions.into_values().collect(),
    });
    let space = space(broker).await;
    let bytes = |raw: u64| i64::try_from(raw).unwrap_or(i64::MAX);
    let (total_bytes, usable_bytes) = space.map_or((UNKNOWN, UNKNOWN), |space| {
        (bytes(space.total_bytes), bytes(space.free_bytes))
    });
    DescribeLogDirsResponse {
        results: vec![DescribeLogDirsResult {
            error_code: ErrorCode::None.code(),
            log_dir: log_dir(broker),
            topics: topics.collect(),
            total_bytes,
            usable_bytes,
        }],
        ..Default::default()
    }
}

fn named(broker: &Broker, topics: Vec<DescribableLogDirTopic>) -> Vec<Arc<Partition>> {
    let wanted: BTreeSet<(ByteString, i32)> = topics
        .into_iter()
        .flat_map(|topic| {
            let name = topic.topic;
            topic
                .partitions
                .into_iter()
                .map(move |index| (name.clone(), index))
        })
        .collect();
    wanted
        .iter()
        .filter_map(|(topic, partition)| broker.partitions.find(topic, *partition).ok())
        .collect()
}

/// Room on the file system of the logs, if the system tells.
async fn space(broker: &Arc<Broker>) -> Option<Space> {
    let broker = Arc::clone(broker);
    let asked = tokio::task::spawn_blocking(move || StdDisk::shared().space(&broker.data_dir)).await;
    asked.ok()?.ok()
}

fn log_dir(broker: &Broker) -> ByteString {
    let path = std::path::absolute(&broker.data_dir).unwrap_or_else(|_| broker.data_dir.clone());
    path.display().to_string().into()
}

/// Moving to the directory a replica is in does nothing; there is no other one.
pub(crate) fn alter(
    broker: &Arc<Broker>,
    request: AlterReplicaLogDirsRequest,
) -> AlterReplicaLogDirsResponse {
    let here = log_dir(broker);
    let mut results: BTreeMap<ByteString, BTreeMap<i32, ErrorCode>> = BTreeMap::new();
    for dir in request.dirs {
        let is_here = dir.path == here;
        for topic in dir.topics {
            let of_topic = results.entry(topic.name.clone()).or_default();
            for partition in topic.partitions {
                let outcome = match broker.partitions.find(&topic.name, partition) {
                    _ if !is_here => ErrorCode::LogDirNotFound,
                    Ok(_) => ErrorCode::None,
                    Err(error) => error.code,
                };
                of_topic.insert(partition, outcome);
            }
        }
    }
    let results = results
        .into_iter()
        .map(|(topic_name, partitions)| AlterReplicaLogDirTopicResult {
            topic_name,
            partitions: partitions
                .into_iter()
                .map(|(partition_index, outcome)| AlterReplicaLogDirPartitionResult {
                    partition_index,
                    error_code: outcome.code(),
                })
                .collect(),
        })
        .collect();
    AlterReplicaLogDirsResponse {
        results,
        ..Default::default()
    }
}
