//! DeleteRecords: moves a partition's start forward (KIP-107, semantic 21).

use std::sync::Arc;

use bytestring::ByteString;
use highwater_types::Offset;
use highwater_wire::ErrorCode;
use highwater_wire::messages::delete_records_request::DeleteRecordsPartition;
use highwater_wire::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use highwater_wire::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::NONE;
use crate::broker::Broker;
use crate::error::ApiError;

/// The offset that stands for "everything up to the high watermark".
const TO_HIGH_WATERMARK: i64 = -1;

/// Answers every partition by itself.
pub(crate) async fn handle(broker: &Arc<Broker>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let answer = |topic: &ByteString, wanted: &DeleteRecordsPartition| {
        let (low_watermark, error_code) = match delete(broker, topic, wanted) {
            Ok(start) => (start.get(), ErrorCode::None),
            Err(error) => (NONE, error.code),
        };
        DeleteRecordsPartitionResult {
            partition_index: wanted.partition_index,
            low_watermark,
            error_code: error_code.code(),
        }
    };
    let topics = request
        .topics
        .iter()
        .map(|topic| DeleteRecordsTopicResult {
            name: topic.name.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|wanted| answer(&topic.name, wanted))
                .collect(),
        })
        .collect();
    broker.checkpoint_log_starts().await;
    DeleteRecordsResponse {
        topics,
        ..Default::default()
    }
}

fn delete(broker: &Broker, topic: &ByteString, wanted: &DeleteRecordsPartition) -> Result<Offset, ApiError> {
    let partition = broker.partitions.find(topic, wanted.partition_index)?;
    if partition.is_internal() {
        let message = format!("'{topic}' belongs to the cluster itself; its records stay");
        return Err(ApiError::new(ErrorCode::InvalidTopicException, message));
    }
    if !partition.is_deletable() {
        let message = format!("'{topic}' does not have cleanup.policy=delete");
        return Err(ApiError::new(ErrorCode::PolicyViolation, message));
    }
    let upto = match wanted.offset {
        TO_HIGH_WATERMARK => None,
        offset => Some(Offset::new(offset)),
    };
    partition.delete_before(upto)
}
