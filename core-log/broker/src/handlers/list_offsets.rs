//! ListOffsets: offsets by time, and the two ends of a partition (semantic 53).

use std::collections::HashSet;
use std::sync::Arc;

use bytestring::ByteString;
use highwater_types::Timestamp;
use highwater_wire::ErrorCode;
use highwater_wire::messages::list_offsets_request::ListOffsetsPartition;
use highwater_wire::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use highwater_wire::messages::{ListOffsetsRequest, ListOffsetsResponse};

use crate::broker::Broker;
use crate::error::ApiError;
use crate::log::query::{FoundOffset, OffsetQuery};

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
/// KIP-734.
const FIRST_WITH_MAX_TIMESTAMP: i16 = 7;
/// KIP-405: on a node without a remote tier all that is there is local.
const FIRST_WITH_EARLIEST_LOCAL: i16 = 8;
/// KIP-1005.
const FIRST_WITH_LATEST_TIERED: i16 = 9;
const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;

/// Answers every partition by itself.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    version: i16,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let isolation_level = request.isolation_level;
    let repeated = repeated(&request);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let is_repeated = repeated.contains(&(topic.name.clone(), wanted.partition_index));
            let query = match is_repeated {
                true => Err(ApiError::new(
                    ErrorCode::InvalidRequest,
                    "the request names the partition twice",
                )),
                false => query(version, wanted.timestamp, isolation_level),
            };
            partitions.push(match find(broker, &topic.name, &wanted, query).await {
                Ok(found) => answer(wanted.partition_index, found),
                Err(error) => ListOffsetsPartitionResponse {
                    partition_index: wanted.partition_index,
                    error_code: error.code.code(),
                    ..Default::default()
                },
            });
        }
        topics.push(ListOffsetsTopicResponse {
            name: topic.name,
            partitions,
        });
    }
    ListOffsetsResponse {
        topics,
        ..Default::default()
    }
}

/// Partitions the request names more than once: there is no telling which answer would be meant.
fn repeated(request: &ListOffsetsRequest) -> HashSet<(ByteString, i32)> {
    let mut seen = HashSet::new();
    let mut repeated = HashSet::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            let key = (topic.name.clone(), partition.partition_index);
            if !seen.insert(key.clone()) {
                repeated.insert(key);
            }
        }
    }
    repeated
}

fn query(version: i16, timestamp: i64, isolation_level: i8) -> Result<OffsetQuery, ApiError> {
    if !matches!(isolation_level, READ_UNCOMMITTED | READ_COMMITTED) {
        let message = format!("isolation level {isolation_level} has no meaning");
        return Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    match timestamp {
        LATEST if isolation_level == READ_COMMITTED => Ok(OffsetQuery::LastStable),
        LATEST => Ok(OffsetQuery::Latest),
        EARLIEST => Ok(OffsetQuery::Earliest),
        MAX_TIMESTAMP if version >= FIRST_WITH_MAX_TIMESTAMP => Ok(OffsetQuery::MaxTimestamp),
        EARLIEST_LOCAL if version >= FIRST_WITH_EARLIEST_LOCAL => Ok(OffsetQuery::Earliest),
        LATEST_TIERED if version >= FIRST_WITH_LATEST_TIERED => Ok(OffsetQuery::LastTiered),
        at if at >= 0 => Ok(OffsetQuery::AtOrAfter(Timestamp::new(at))),
        other => {
            let message = format!("timestamp {other} has no meaning in ListOffsets version {version}");
            Err(ApiError::new(ErrorCode::UnsupportedVersion, message))
        }
    }
}

async fn find(
    broker: &Broker,
    topic: &ByteString,
    wanted: &ListOffsetsPartition,
    query: Result<OffsetQuery, ApiError>,
) -> Result<Option<FoundOffset>, ApiError> {
    let partition = broker.partitions.find(topic, wanted.partition_index)?;
    partition.check_epoch(super::known_epoch(wanted.current_leader_epoch))?;
    partition.find_offset(query?).await
}

fn answer(partition_index: i32, found: Option<FoundOffset>) -> ListOffsetsPartitionResponse {
    let nothing = ListOffsetsPartitionResponse {
        partition_index,
        ..Default::default()
    };
    let Some(found) = found else { return nothing };
    ListOffsetsPartitionResponse {
        timestamp: found.timestamp.map_or(nothing.timestamp, Timestamp::get),
        offset: found.offset.get(),
        leader_epoch: found
            .leader_epoch
            .map_or(nothing.leader_epoch, |epoch| epoch.get()),
        ..nothing
    }
}
