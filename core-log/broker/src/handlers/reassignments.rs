//! AlterPartitionReassignments and ListPartitionReassignments (KIP-455).
//!
//! Replicas stay where they are: a reassignment to the replicas a partition has is done at once, any other one is
//! refused, and none is ever under way.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytestring::ByteString;
use highwater_cluster::MetadataImage;
use highwater_types::{BrokerId, PartitionId};
use highwater_wire::ErrorCode;
use highwater_wire::messages::alter_partition_reassignments_request::ReassignablePartition;
use highwater_wire::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use highwater_wire::messages::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
    ListPartitionReassignmentsResponse,
};

use crate::broker::Broker;
use crate::error::ApiError;

/// Answers every partition by itself.
pub(crate) fn alter(
    broker: &Arc<Broker>,
    request: AlterPartitionReassignmentsRequest,
) -> AlterPartitionReassignmentsResponse {
    let image = broker.image();
    let rule = Rule {
        image: &image,
        allow_factor_change: request.allow_replication_factor_change,
    };
    let responses = request
        .topics
        .into_iter()
        .map(|topic| ReassignableTopicResponse {
            partitions: topic
                .partitions
                .into_iter()
                .map(|wanted| answer(wanted.partition_index, rule.check(&topic.name, &wanted)))
                .collect(),
            name: topic.name,
        })
        .collect();
    AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        error_message: None,
        responses,
        ..Default::default()
    }
}

struct Rule<'a> {
    image: &'a MetadataImage,
    allow_factor_change: bool,
}

impl Rule<'_> {
    fn check(&self, topic: &ByteString, wanted: &ReassignablePartition) -> Result<(), ApiError> {
        let index = PartitionId::new(wanted.partition_index);
        let partition = self.image.partition(topic, index).ok_or_else(|| {
            let message = format!("topic '{topic}' has no partition {index}");
            ApiError::new(ErrorCode::UnknownTopicOrPartition, message)
        })?;
        let Some(replicas) = &wanted.replicas else {
            return Err(ApiError::plain(ErrorCode::NoReassignmentInProgress));
        };
        let refused = |message: String| Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
        let distinct: BTreeSet<i32> = replicas.iter().copied().collect();
        if replicas.is_empty() {
            return refused("a partition needs at least one replica".to_owned());
        }
        if distinct.len() < replicas.len() {
            return refused(format!("replicas {replicas:?} name a broker twice"));
        }
        let unknown = |id: &&i32| !self.image.brokers().contains_key(&BrokerId::new(**id));
        if let Some(unknown) = replicas.iter().find(unknown) {
            return refused(format!("no broker {unknown} is registered"));
        }
        let current: Vec<i32> = partition.replicas.iter().map(|id| id.get()).collect();
        if !self.allow_factor_change && current.len() != replicas.len() {
            let message = format!(
                "the partition has {} replicas, not {}",
                current.len(),
                replicas.len()
            );
            return Err(ApiError::new(ErrorCode::InvalidReplicationFactor, message));
        }
        if *replicas != current {
            return refused(format!("replicas cannot be moved yet; they are on {current:?}"));
        }
        Ok(())
    }
}

fn answer(partition_index: i32, result: Result<(), ApiError>) -> ReassignablePartitionResponse {
    let (code, message) = match result {
        Ok(()) => (ErrorCode::None, None),
        Err(error) => (error.code, Some(error.message.into())),
    };
    ReassignablePartitionResponse {
        partition_index,
        error_code: code.code(),
        error_message: message,
    }
}

/// None is under way.
pub(crate) fn list() -> ListPartitionReassignmentsResponse {
    ListPartitionReassignmentsResponse {
        error_message: None,
        ..Default::default()
    }
}
