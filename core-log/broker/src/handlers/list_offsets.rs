//! ListOffsets: offsets by time, and the two ends of a partition (semantic 53).

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
/// KIP-734.
const FIRST_WITH_MAX_TIMESTAMP: i16 = 7;
const READ_COMMITTED: i8 = 1;

/// Answers every partition by itself.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    version: i16,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let read_committed = request.isolation_level == READ_COMMITTED;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let query = query(version, wanted.timestamp, read_committed);
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

fn query(version: i16, timestamp: i64, read_committed: bool) -> Result<OffsetQuery, ApiError> {
    match timestamp {
        LATEST if read_committed => Ok(OffsetQuery::LastStable),
        LATEST => Ok(OffsetQuery::Latest),
        EARLIEST => Ok(OffsetQuery::Earliest),
        MAX_TIMESTAMP if version >= FIRST_WITH_MAX_TIMESTAMP => Ok(OffsetQuery::MaxTimestamp),
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
