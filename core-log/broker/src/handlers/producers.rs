//! DescribeProducers: which producers a partition remembers (KIP-664).

use std::collections::BTreeSet;
use std::sync::Arc;

use bytestring::ByteString;
use highwater_types::{Offset, TopicName};
use highwater_wire::ErrorCode;
use highwater_wire::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use highwater_wire::messages::{DescribeProducersRequest, DescribeProducersResponse};

use super::NONE;
use crate::broker::Broker;
use crate::error::ApiError;

/// Answers every partition by itself; a partition named twice is answered once.
pub(crate) fn handle(broker: &Arc<Broker>, request: DescribeProducersRequest) -> DescribeProducersResponse {
    let mut answered: BTreeSet<(ByteString, i32)> = BTreeSet::new();
    let topics = request
        .topics
        .into_iter()
        .map(|topic| {
            let fresh = topic
                .partition_indexes
                .into_iter()
                .filter(|index| answered.insert((topic.name.clone(), *index)));
            let partitions = fresh.map(|index| describe(broker, &topic.name, index)).collect();
            TopicResponse {
                partitions,
                name: topic.name,
            }
        })
        .collect();
    DescribeProducersResponse {
        topics,
        ..Default::default()
    }
}

fn describe(broker: &Broker, topic: &ByteString, partition_index: i32) -> PartitionResponse {
    match producers(broker, topic, partition_index) {
        Ok(active_producers) => PartitionResponse {
            partition_index,
            active_producers,
            ..Default::default()
        },
        Err(error) => PartitionResponse {
            partition_index,
            error_code: error.code.code(),
            error_message: Some(error.message.into()),
            ..Default::default()
        },
    }
}

fn producers(
    broker: &Broker,
    topic: &ByteString,
    partition_index: i32,
) -> Result<Vec<ProducerState>, ApiError> {
    if let Err(error) = TopicName::new(topic.clone()) {
        return Err(ApiError::new(ErrorCode::InvalidTopicException, error.to_string()));
    }
    let partition = broker
        .partitions
        .find(topic, partition_index)
        .map_err(|error| match error.code {
            ErrorCode::UnknownTopicOrPartition => {
                let message = format!("there is no partition {partition_index} of '{topic}'");
                ApiError::new(error.code, message)
            }
            _ => error,
        })?;
    let found = partition.with_log(|log| log.active_producers())?;
    Ok(found
        .into_iter()
        .map(|producer| ProducerState {
            producer_id: producer.id.get(),
            producer_epoch: i32::from(producer.epoch.get()),
            last_sequence: producer.last_sequence.map_or(-1, |sequence| sequence.get()),
            last_timestamp: producer.last_timestamp.get(),
            coordinator_epoch: producer.coordinator_epoch.unwrap_or(-1),
            current_txn_start_offset: producer.transaction_start.map_or(NONE, Offset::get),
        })
        .collect())
}
