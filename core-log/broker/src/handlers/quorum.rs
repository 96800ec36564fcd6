//! DescribeQuorum: who votes on the metadata and how far they are (KIP-595, KIP-836, KIP-853).

use std::sync::Arc;

use highwater_types::BrokerId;
use highwater_wire::ErrorCode;
use highwater_wire::messages::describe_quorum_response::{
    Listener, Node, PartitionData, ReplicaState, TopicData,
};
use highwater_wire::messages::{DescribeQuorumRequest, DescribeQuorumResponse};

use crate::broker::Broker;
use crate::metadata::{QuorumStatus, VoterStatus};

/// Kafka's name of the metadata log, which is no topic here.
const METADATA_TOPIC: &str = "__cluster_metadata";

/// No leader and no time, in answers.
const NONE: i32 = -1;

/// The state of the metadata log; any other partition is unknown.
pub(crate) fn handle(broker: &Arc<Broker>, request: DescribeQuorumRequest) -> DescribeQuorumResponse {
    let status = broker.metadata.status();
    let now_ms = broker.clock.wall().get();
    let topics = request.topics.into_iter().map(|topic| TopicData {
        partitions: topic
            .partitions
            .iter()
            .map(
                |wanted| match (topic.topic_name.as_ref(), wanted.partition_index) {
                    (METADATA_TOPIC, 0) => described(&status, now_ms),
                    (_, index) => unknown(index),
                },
            )
            .collect(),
        topic_name: topic.topic_name,
    });
    DescribeQuorumResponse {
        error_message: None,
        topics: topics.collect(),
        nodes: nodes(broker, &status),
        ..Default::default()
    }
}

fn unknown(partition_index: i32) -> PartitionData {
    PartitionData {
        partition_index,
        error_code: ErrorCode::UnknownTopicOrPartition.code(),
        error_message: Some("only partition 0 of __cluster_metadata has a quorum".into()),
        ..Default::default()
    }
}

fn described(status: &QuorumStatus, now_ms: i64) -> PartitionData {
    let offset = |index: u64| i64::try_from(index).unwrap_or(i64::MAX);
    let state = |voter: &VoterStatus| ReplicaState {
        replica_id: voter.broker_id.get(),
        log_end_offset: offset(voter.end_index),
        last_fetch_timestamp: if voter.is_leader { now_ms } else { NONE.into() },
        last_caught_up_timestamp: if voter.is_leader { now_ms } else { NONE.into() },
        ..Default::default()
    };
    PartitionData {
        error_code: ErrorCode::None.code(),
        error_message: None,
        leader_id: status.leader.map_or(NONE, BrokerId::get),
        leader_epoch: i32::try_from(status.term).unwrap_or(i32::MAX),
        high_watermark: offset(status.committed_index),
        current_voters: status.voters.iter().map(state).collect(),
        ..Default::default()
    }
}

/// The addresses of the voters: those of the brokers they run in.
fn nodes(broker: &Broker, status: &QuorumStatus) -> Vec<Node> {
    let image = broker.image();
    let known = status.voters.iter().filter_map(|voter| {
        image
            .brokers()
            .get(&voter.broker_id)
            .map(|broker| (voter.broker_id, broker))
    });
    known
        .map(|(id, broker)| Node {
            node_id: id.get(),
            listeners: broker
                .endpoints
                .iter()
                .map(|endpoint| Listener {
                    name: endpoint.listener.as_str().into(),
                    host: endpoint.host.as_str().into(),
                    port: endpoint.port,
                })
                .collect(),
        })
        .collect()
}
