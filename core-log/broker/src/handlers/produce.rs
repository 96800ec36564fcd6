//! Produce: one batch per partition, checked to its last record, appended where the request is handled.
//!
//! All checks of a batch alone happen before the partition's lock is taken (see [`check`]). All appends happen before the first await: requests that are first polled in some
//! order reach the logs in that order, on connections and in sessions alike.

mod check;

use std::sync::Arc;

use bytes::Bytes;
use bytestring::ByteString;
use futures::future::join_all;
use highwater_cluster::MetadataImage;
use highwater_storage::{AppendError, InvalidRecord};
use highwater_types::record::{BatchError, Compression, RecordBatch};
use highwater_types::{Offset, Timestamp};
use highwater_wire::messages::produce_request::PartitionProduceData;
use highwater_wire::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use highwater_wire::messages::{ProduceRequest, ProduceResponse};
use highwater_wire::{ErrorCode, ResponseBody};

use super::leader_hints::LeaderHints;
use super::{NONE, TopicRef};
use crate::broker::Broker;
use crate::dispatch::{Reply, RequestContext};
use crate::error::ApiError;
use crate::log::partition::{AppendFailure, Appended, Partition};

/// zstd batches need a client that knows zstd on the way out as well (KIP-110).
const FIRST_WITH_ZSTD: i16 = 7;

/// From this version on topics are named by id only (KIP-516).
const FIRST_WITH_TOPIC_IDS: i16 = 13;

/// Appends every partition's batch, waits until the log's flush policy is met, and answers.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    version: i16,
    request: ProduceRequest,
) -> Reply {
    let acks = request.acks;
    let image = broker.image();
    let attempt = Attempt {
        version,
        acks,
        now: broker.clock.wall(),
        is_connection: context.is_connection,
        image: &image,
    };
    let mut failed = false;
    let mut unsynced: Vec<(Arc<Partition>, Offset)> = Vec::new();
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for topic in request.topic_data {
        let mut partition_responses = Vec::with_capacity(topic.partition_data.len());
        let named = match version < FIRST_WITH_TOPIC_IDS {
            true => TopicRef::Name(&topic.name),
            false => TopicRef::Id(topic.topic_id),
        };
        for data in topic.partition_data {
            let index = data.index;
            let outcome = append(broker, named, data, attempt);
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
            topic_id: topic.topic_id,
            partition_responses,
        });
    }
    if acks == 0 {
        // Semantic 22: nobody waits for an answer, and the only way to say "failed" is to close.
        return if failed { Reply::Close } else { Reply::Nothing };
    }
    // All are asked before the first is waited for, so that they are synced side by side.
    let waits = unsynced.iter().map(|(partition, upto)| partition.synced(*upto));
    let outcomes = join_all(waits).await;
    for ((partition, _), outcome) in unsynced.iter().zip(outcomes) {
        if let Err(error) = outcome {
            fail_partition(&image, &mut responses, partition, &error);
        }
    }
    // Only a refusal can be for want of leadership: the common case names nobody.
    let node_endpoints = match failed {
        true => name_leaders(broker, context, version, &mut responses),
        false => Vec::new(),
    };
    Reply::Body(ResponseBody::Produce(ProduceResponse {
        responses,
        node_endpoints,
        ..Default::default()
    }))
}

/// Adds who leads the partitions that are not led here (semantic 32); tells where those nodes are.
fn name_leaders(
    broker: &Broker,
    context: &RequestContext,
    version: i16,
    responses: &mut [TopicProduceResponse],
) -> Vec<NodeEndpoint> {
    let image = broker.image();
    let mut hints = LeaderHints::default();
    for topic in responses {
        let named = match version < FIRST_WITH_TOPIC_IDS {
            true => TopicRef::Name(&topic.name),
            false => TopicRef::Id(topic.topic_id),
        };
        for response in &mut topic.partition_responses {
            let hint = hints.hint(response.error_code, &image, named, response.index);
            response.current_leader = hint.map_or_else(Default::default, |hint| LeaderIdAndEpoch {
                leader_id: hint.leader_id,
                leader_epoch: hint.leader_epoch,
            });
        }
    }
    let endpoints = hints.endpoints(broker, &image, context).into_iter();
    endpoints
        .map(|address| NodeEndpoint {
            node_id: address.id.get(),
            host: address.host,
            port: address.port,
            rack: address.rack,
        })
        .collect()
}

#[derive(Clone, Copy)]
struct Attempt<'a> {
    version: i16,
    acks: i16,
    now: Timestamp,
    is_connection: bool,
    image: &'a MetadataImage,
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
        let (indexes, message) = match &error {
            AppendFailure::Refused(AppendError::InvalidRecord(InvalidRecord::MissingKeys { indexes })) => {
                let message = "a compacted topic needs a key in every record".to_owned();
                (indexes.as_slice(), message)
            }
            AppendFailure::Refused(AppendError::InvalidTimestamp {
                earliest,
                latest,
                indexes,
                ..
            }) => {
                let message = format!("the timestamp is not within {earliest}..={latest}");
                (indexes.as_slice(), message)
            }
            _ => (&[][..], String::new()),
        };
        let message = ByteString::from(message);
        let records = indexes.iter().map(|index| BatchIndexAndErrorMessage {
            batch_index: i32::try_from(*index).unwrap_or(i32::MAX),
            batch_index_error_message: Some(message.clone()),
        });
        Refused {
            records: records.collect(),
            error: error.into(),
        }
    }
}

fn append(
    broker: &Broker,
    topic: TopicRef<'_>,
    data: PartitionProduceData,
    attempt: Attempt<'_>,
) -> Result<(Arc<Partition>, Appended), Refused> {
    if !matches!(attempt.acks, -1..=1) {
        let message = format!("acks is {}; it must be -1 (all), 0 or 1", attempt.acks);
        return Err(ApiError::new(ErrorCode::InvalidRequiredAcks, message).into());
    }
    let partition = topic.partition(broker, attempt.image, data.index)?;
    if partition.is_internal() {
        let topic = &partition.id().topic;
        let message = format!("'{topic}' belongs to the cluster itself; clients cannot write to it");
        return Err(ApiError::new(ErrorCode::InvalidTopicException, message).into());
    }
    broker.space.require_room()?;
    let batch = only_batch(data.records.unwrap_or_default(), attempt.version)?;
    if attempt.acks == -1 {
        partition.require_in_sync()?;
    }
    let bytes = batch.bytes().len();
    partition.require_size(bytes).map_err(AppendFailure::Refused)?;
    let wanted = check::Wanted {
        walk_compressed: broker.settings.highwater_validate_compressed_records,
        codec: partition.stored_codec(),
        may_give_away: attempt.is_connection,
    };
    let batch = check::check(batch, wanted)?;
    let stored_bytes = batch.batch().bytes().len();
    let appended = partition.append_checked(batch, attempt.now)?;
    broker.space.appended(stored_bytes);
    broker.telemetry.appended_bytes.increment(bytes as u64);
    Ok((partition, appended))
}

/// The one batch of a partition (semantics 24, 26, 28).
fn only_batch(records: Bytes, version: i16) -> Result<RecordBatch, ApiError> {
    let refused = |error: BatchError| ApiError::new(batch_code(&error), error.to_string());
    let one_batch = "a produce request carries exactly one record batch per partition";
    if records.is_empty() {
        return Err(ApiError::new(ErrorCode::InvalidRecord, one_batch));
    }
    let (batch, rest) = RecordBatch::parse(records).map_err(refused)?;
    if !rest.is_empty() {
        return Err(ApiError::new(ErrorCode::InvalidRecord, one_batch));
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

/// CORRUPT_MESSAGE makes clients send the same bytes again, which helps only where the way may have damaged them;
/// what was built wrongly is INVALID_RECORD.
fn batch_code(error: &BatchError) -> ErrorCode {
    match error {
        BatchError::Truncated { .. } | BatchError::InvalidCounts { .. } => ErrorCode::InvalidRecord,
        BatchError::UnsupportedMagic { magic: 0 | 1, .. } => ErrorCode::InvalidRecord,
        BatchError::UnknownCodec { .. } => ErrorCode::UnsupportedCompressionType,
        _ => ErrorCode::CorruptMessage,
    }
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
fn fail_partition(
    image: &MetadataImage,
    responses: &mut [TopicProduceResponse],
    partition: &Partition,
    error: &ApiError,
) {
    let id = partition.id();
    let topic_id = image.topic(id.topic.as_str()).map(|topic| topic.id.get());
    let topic = responses
        .iter_mut()
        .filter(|topic| topic.name == id.topic.as_str() || Some(topic.topic_id) == topic_id);
    for response in topic.flat_map(|topic| &mut topic.partition_responses) {
        if response.index == id.partition.get() {
            *response = refusal(response.index, error.clone().into());
        }
    }
}
