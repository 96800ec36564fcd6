//! Produce: one batch per partition, checked by its header and CRC, appended where the request is handled.
//!
//! No record is decoded here. All appends happen before the first await: requests that are first polled in some
//! order reach the logs in that order, on connections and in sessions alike.

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use highwater_storage::{AppendError, InvalidRecord};
use highwater_types::record::{Compression, RecordBatch};
use highwater_types::{Offset, Timestamp};
use highwater_wire::messages::produce_request::PartitionProduceData;
use highwater_wire::messages::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use highwater_wire::messages::{ProduceRequest, ProduceResponse};
use highwater_wire::{ErrorCode, ResponseBody};

use super::NONE;
use crate::broker::Broker;
use crate::dispatch::Reply;
use crate::error::ApiError;
use crate::log::partition::{AppendFailure, Appended, Partition};

/// zstd batches need a client that knows zstd on the way out as well (KIP-110).
const FIRST_WITH_ZSTD: i16 = 7;

/// Appends every partition's batch, waits until the log's flush policy is met, and answers.
pub(crate) async fn handle(broker: &Arc<Broker>, version: i16, request: ProduceRequest) -> Reply {
    let acks = request.acks;
    let now = broker.clock.wall();
    let mut failed = false;
    let mut unsynced: Vec<(Arc<Partition>, Offset)> = Vec::new();
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let mut partition_responses = Vec::with_capacity(topic.partition_data.len());
        for data in topic.partition_data {
            let index = data.index;
            let outcome = append(broker, &topic.name, data, Attempt { version, acks, now });
            failed |= outcome.is_err();
            partition_responses.push(match outcome {
                Ok((partition, appended)) => {
                    if appended.sync_before_ack && acks != 0 {
                        unsynced.push((partition, appended.next_offset));
                    }
                    success(index, &appended)
                }
                Err(refused) => refusal(index, refused),
            });
        }
        responses.push(TopicProduceResponse {
            name: topic.name,
            partition_responses,
            ..Default::default()
        });
    }
    if acks == 0 {
        // Semantic 22: nobody waits for an answer, and the only way to say "failed" is to close.
        return if failed { Reply::Close } else { Reply::Nothing };
    }
    for (partition, upto) in unsynced {
        if let Err(error) = partition.synced(upto).await {
            fail_partition(&mut responses, &partition, error);
        }
    }
    Reply::Body(ResponseBody::Produce(ProduceResponse {
        responses,
        ..Default::default()
    }))
}

#[derive(Clone, Copy)]
struct Attempt {
    version: i16,
    acks: i16,
    now: Timestamp,
}

/// Why a batch was refused; with the records at fault where single records are (KIP-467).
struct Refused {
    error: ApiError,
    records: Vec<BatchIndexAndErrorMessage>,
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Refused {
            error,
            records: Vec::new(),
        }
    }
}

impl From<AppendFailure> for Refused {
    fn from(error: AppendFailure) -> Self {
        let keyless = match &error {
            AppendFailure::Refused(AppendError::InvalidRecord(InvalidRecord::MissingKeys { indexes })) => {
                indexes.as_slice()
            }
            _ => &[],
        };
        let records = keyless.iter().map(|index| BatchIndexAndErrorMessage {
            batch_index: i32::try_from(*index).unwrap_or(i32::MAX),
            batch_index_error_message: Some("a compacted topic needs a key in every record".into()),
        });
        Refused {
            records: records.collect(),
            error: error.into(),
        }
    }
}

fn append(
    broker: &Broker,
    topic: &ByteString,
    data: PartitionProduceData,
    attempt: Attempt,
) -> Result<(Arc<Partition>, Appended), Refused> {
    if !matches!(attempt.acks, -1..=1) {
        let message = format!("acks is {}; it must be -1 (all), 0 or 1", attempt.acks);
        return Err(ApiError::new(ErrorCode::InvalidRequiredAcks, message).into());
    }
    let partition = broker.partitions.find(topic, data.index)?;
    if partition.is_internal() {
        let message = format!("'{topic}' belongs to the cluster itself; clients cannot write to it");
        return Err(ApiError::new(ErrorCode::InvalidTopicException, message).into());
    }
    let batch = only_batch(data.records.unwrap_or_default(), attempt.version)?;
    if attempt.acks == -1 {
        partition.require_in_sync()?;
    }
    let bytes = batch.bytes().len();
    let appended = partition.append(batch, attempt.now)?;
    broker.telemetry.appended_bytes.increment(bytes as u64);
    Ok((partition, appended))
}

/// The one batch of a partition (semantics 24, 26, 28).
fn only_batch(records: Bytes, version: i16) -> Result<RecordBatch, ApiError> {
    let (batch, rest) = RecordBatch::parse(records).map_err(ApiError::from)?;
    if !rest.is_empty() {
        let message = "a produce request carries exactly one record batch per partition";
        return Err(ApiError::new(ErrorCode::InvalidRecord, message));
    }
    let header = batch.header();
    if header.is_transactional() {
        let message = "the partition is not part of a transaction of this producer";
        return Err(ApiError::new(ErrorCode::InvalidTxnState, message));
    }
    if header.compression() == Compression::Zstd && version < FIRST_WITH_ZSTD {
        let message = "zstd needs Produce version 7 or later";
        return Err(ApiError::new(ErrorCode::UnsupportedCompressionType, message));
    }
    Ok(batch)
}

fn success(index: i32, appended: &Appended) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        base_offset: appended.base_offset.get(),
        log_append_time_ms: appended.log_append_time.map_or(NONE, Timestamp::get),
        log_start_offset: appended.log_start_offset.get(),
        ..Default::default()
    }
}

fn refusal(index: i32, refused: Refused) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        error_code: refused.error.code.code(),
        base_offset: NONE,
        record_errors: refused.records,
        error_message: Some(refused.error.message.into()),
        ..Default::default()
    }
}

/// A batch that was appended but could not be made durable is not acknowledged.
fn fail_partition(responses: &mut [TopicProduceResponse], partition: &Partition, error: ApiError) {
    let id = partition.id();
    let topic = responses
        .iter_mut()
        .filter(|topic| topic.name == id.topic.as_str());
    for response in topic.flat_map(|topic| &mut topic.partition_responses) {
        if response.index == id.partition.get() {
            *response = refusal(response.index, error.clone().into());
        }
    }
}
