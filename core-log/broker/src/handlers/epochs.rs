//! OffsetForLeaderEpoch: where an epoch ended, so that a client can tell whether its position still
//! lies on the log it was reading (KIP-320, semantic 51).

use std::sync::Arc;

use bytestring::ByteString;
use highwater_wire::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use highwater_wire::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use highwater_wire::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use crate::broker::Broker;
use crate::error::ApiError;

/// Answers every partition by itself.
pub(crate) fn handle(
    broker: &Arc<Broker>,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let answer = |topic: &ByteString, wanted: &OffsetForLeaderPartition| {
        let unknown = EpochEndOffset {
            partition: wanted.partition,
            ..Default::default()
        };
        match end_offset(broker, topic, wanted) {
            Ok(found) => found.unwrap_or(unknown),
            Err(error) => EpochEndOffset {
                error_code: error.code.code(),
                ..unknown
            },
        }
    };
    let topics = request
        .topics
        .iter()
        .map(|topic| OffsetForLeaderTopicResult {
            topic: topic.topic.clone(),
            partitions: topic
                .partitions
                .iter()
                .map(|wanted| answer(&topic.topic, wanted))
                .collect(),
        })
        .collect();
    OffsetForLeaderEpochResponse {
        topics,
        ..Default::default()
    }
}

fn end_offset(
    broker: &Broker,
    topic: &ByteString,
    wanted: &OffsetForLeaderPartition,
) -> Result<Option<EpochEndOffset>, ApiError> {
    let partition = broker.partitions.find(topic, wanted.partition)?;
    partition.check_epoch(super::known_epoch(wanted.current_leader_epoch))?;
    // Who knows no epoch learns no end.
    let Some(epoch) = super::known_epoch(wanted.leader_epoch) else {
        return Ok(None);
    };
    let found = partition.end_offset_for_epoch(epoch)?;
    Ok(found.map(|(epoch, end)| EpochEndOffset {
        partition: wanted.partition,
        leader_epoch: epoch.get(),
        end_offset: end.get(),
        ..Default::default()
    }))
}
