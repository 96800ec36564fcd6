//! ElectLeaders: gives leadership back to the preferred replica, or to any replica at all (KIP-183, KIP-460).
//!
//! On one node every partition is led by its only replica, so that no election is ever needed.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytestring::ByteString;
use highwater_cluster::{MetadataImage, PartitionImage};
use highwater_types::PartitionId;
use highwater_wire::ErrorCode;
use highwater_wire::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use highwater_wire::messages::{ElectLeadersRequest, ElectLeadersResponse};

use crate::broker::Broker;
use crate::error::ApiError;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Election {
    Preferred,
    Unclean,
}

/// Answers every partition by itself; without a list, only the partitions that need an election, as Kafka does.
pub(crate) fn handle(broker: &Arc<Broker>, request: ElectLeadersRequest) -> ElectLeadersResponse {
    let election = match request.election_type {
        0 => Election::Preferred,
        1 => Election::Unclean,
        _ => {
            return ElectLeadersResponse {
                error_code: ErrorCode::InvalidRequest.code(),
                ..Default::default()
            };
        }
    };
    let image = broker.image();
    let outcome = |topic: &str, partition: i32| match find(&image, topic, partition) {
        Ok(found) => elect(election, found),
        Err(error) => error,
    };
    let mut results: BTreeMap<ByteString, BTreeMap<i32, ApiError>> = BTreeMap::new();
    match request.topic_partitions {
        Some(topics) => {
            for topic in topics {
                let of_topic = results.entry(topic.topic.clone()).or_default();
                for partition in topic.partitions {
                    of_topic.insert(partition, outcome(&topic.topic, partition));
                }
            }
        }
        None => {
            for topic in image.topics() {
                for (partition, state) in (0..).zip(&topic.partitions) {
                    let outcome = elect(election, state);
                    if outcome.code != ErrorCode::ElectionNotNeeded {
                        let of_topic = results.entry(topic.name.as_byte_string().clone());
                        of_topic.or_default().insert(partition, outcome);
                    }
                }
            }
        }
    }
    ElectLeadersResponse {
        replica_election_results: results.into_iter().map(result).collect(),
        ..Default::default()
    }
}

fn find<'a>(image: &'a MetadataImage, topic: &str, partition: i32) -> Result<&'a PartitionImage, ApiError> {
    let missing = |what: String| ApiError::new(ErrorCode::UnknownTopicOrPartition, what);
    let found = image
        .topic(topic)
        .ok_or_else(|| missing(format!("no topic is named '{topic}'")))?;
    found
        .partition(PartitionId::new(partition))
        .ok_or_else(|| missing(format!("topic '{topic}' has no partition {partition}")))
}

/// What an election would bring: nothing while there is the leader that is wanted, and nobody to elect otherwise,
/// since every replica in sync that is alive already leads.
fn elect(election: Election, partition: &PartitionImage) -> ApiError {
    let preferred = partition.replicas.first().copied();
    match (election, partition.leader) {
        (Election::Preferred, leader) if leader.is_some() && leader == preferred => {
            ApiError::new(ErrorCode::ElectionNotNeeded, "the preferred replica leads")
        }
        (Election::Unclean, Some(_)) => {
            ApiError::new(ErrorCode::ElectionNotNeeded, "the partition has a leader")
        }
        (Election::Preferred, _) => ApiError::plain(ErrorCode::PreferredLeaderNotAvailable),
        (Election::Unclean, None) => ApiError::plain(ErrorCode::EligibleLeadersNotAvailable),
    }
}

fn result((topic, partitions): (ByteString, BTreeMap<i32, ApiError>)) -> ReplicaElectionResult {
    let partition_result = partitions
        .into_iter()
        .map(|(partition_id, outcome)| PartitionResult {
            partition_id,
            error_code: outcome.code.code(),
            error_message: Some(outcome.message.into()),
        })
        .collect();
    ReplicaElectionResult {
        topic,
        partition_result,
    }
}
