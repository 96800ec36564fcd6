//! Who leads instead: what Produce and Fetch add to an answer that sends a client elsewhere (KIP-951, semantic 32).

use std::collections::BTreeSet;

use highwater_cluster::MetadataImage;
use highwater_types::{BrokerId, PartitionId};
use highwater_wire::ErrorCode;

use super::TopicRef;
use crate::broker::{Address, Broker};
use crate::dispatch::RequestContext;

/// The leader of one partition, as the metadata has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeaderHint {
    pub(super) leader_id: i32,
    pub(super) leader_epoch: i32,
}

/// Collects the leaders an answer names.
#[derive(Debug, Default)]
pub(super) struct LeaderHints {
    nodes: BTreeSet<BrokerId>,
}

impl LeaderHints {
    /// The leader to name beside `code`, if the code says that it is another one than the client thinks.
    pub(super) fn hint(
        &mut self,
        code: i16,
        image: &MetadataImage,
        topic: TopicRef<'_>,
        partition: i32,
    ) -> Option<LeaderHint> {
        let sends_elsewhere =
            [ErrorCode::NotLeaderOrFollower, ErrorCode::FencedLeaderEpoch].map(ErrorCode::code);
        if !sends_elsewhere.contains(&code) {
            return None;
        }
        let found = image.partition(topic.name(image)?, PartitionId::new(partition))?;
        let leader = found.leader?;
        self.nodes.insert(leader);
        Some(LeaderHint {
            leader_id: leader.get(),
            leader_epoch: found.leader_epoch.get(),
        })
    }

    /// Where the leaders named so far are reached.
    pub(super) fn endpoints(
        &self,
        broker: &Broker,
        image: &MetadataImage,
        context: &RequestContext,
    ) -> Vec<Address> {
        if self.nodes.is_empty() {
            return Vec::new();
        }
        let mut addresses = broker.addresses(image, &context.listener_name);
        addresses.retain(|address| self.nodes.contains(&address.id));
        addresses
    }
}

#[cfg(test)]
mod tests {
    use highwater_cluster::{BrokerRecord, EndpointRecord, MetadataRecord, PartitionRecord, TopicRecord};
    use highwater_types::Uuid;
    use highwater_types::record::{BatchBuilder, BatchOptions};
    use highwater_types::{Timestamp, TopicId};
    use highwater_wire::messages::fetch_request::{FetchPartition, FetchTopic};
    use highwater_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
    use highwater_wire::messages::{FetchRequest, FetchResponse, ProduceRequest, ProduceResponse};
    use highwater_wire::{RequestBody, ResponseBody, decode_response, encode_response};

    use super::*;
    use crate::{Node, NodeConfig, Session, SessionInfo};

    const ELSEWHERE: Uuid = Uuid::from_u128(0xe15e);
    const HERE: Uuid = Uuid::from_u128(0x4e4e);

    /// A node with two topics of one partition: one is led here in epoch 3, one by node 2 in epoch 5.
    async fn cluster() -> (Node, Session, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let config = NodeConfig::new(dir.path()).listen("PLAINTEXT", "127.0.0.1:0".parse().unwrap());
        let node = Node::start(config).await.unwrap();
        let other = BrokerRecord {
            broker_id: 2,
            incarnation_id: Uuid::from_u128(2),
            broker_epoch: 1_000,
            endpoints: vec![EndpointRecord {
                listener: "PLAINTEXT".into(),
                host: "other.example".into(),
                port: 9_099,
            }],
            rack: Some("r2".into()),
        };
        let topic = |name: &str, topic_id: Uuid| {
            let name = name.to_owned();
            MetadataRecord::Topic(TopicRecord { topic_id, name })
        };
        let led_by = |topic_id: Uuid, leader: i32, leader_epoch: i32| {
            MetadataRecord::Partition(PartitionRecord {
                topic_id,
                partition: 0,
                replicas: vec![leader],
                isr: vec![leader],
                leader: Some(leader),
                leader_epoch,
                partition_epoch: 0,
            })
        };
        let records = vec![
            MetadataRecord::Broker(other),
            topic("elsewhere", ELSEWHERE),
            led_by(ELSEWHERE, 2, 5),
            topic("here", HERE),
            led_by(HERE, 1, 3),
        ];
        node.broker()
            .commit(|image| {
                let is_new = image.topic_by_id(TopicId::new(HERE)).is_none();
                ((), if is_new { records.clone() } else { Vec::new() })
            })
            .await
            .unwrap();
        let session = node.session(SessionInfo::default());
        (node, session, dir)
    }

    fn produce() -> ProduceRequest {
        let mut builder = BatchBuilder::new(BatchOptions::default());
        builder.append(Timestamp::new(-1), None, Some(b"v"), &[]);
        let records = Some(builder.build().unwrap());
        let to = |name: &str, topic_id: Uuid| TopicProduceData {
            name: name.to_owned().into(),
            topic_id,
            partition_data: vec![PartitionProduceData {
                index: 0,
                records: records.clone(),
            }],
        };
        ProduceRequest {
            acks: 1,
            timeout_ms: 1_000,
            topic_data: vec![to("elsewhere", ELSEWHERE), to("here", HERE)],
            ..Default::default()
        }
    }

    fn fetch(topic_id: Uuid, current_leader_epoch: i32) -> FetchRequest {
        let name = if topic_id == HERE { "here" } else { "elsewhere" };
        FetchRequest {
            max_bytes: 1_000,
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic: name.into(),
                topic_id,
                partitions: vec![FetchPartition {
                    current_leader_epoch,
                    partition_max_bytes: 1_000,
                    ..Default::default()
                }],
            }],
            ..Default::default()
        }
    }

    /// The answer as a client reads it.
    async fn answer(session: &Session, version: i16, request: impl Into<RequestBody>) -> ResponseBody {
        let request = request.into();
        let key = request.api_key();
        let body = session.call(version, request).await.unwrap().unwrap();
        let frame = encode_response(key, version, 7, &body).into_bytes();
        decode_response(key, version, frame.slice(4..)).unwrap().1
    }

    async fn produced(session: &Session, version: i16) -> ProduceResponse {
        let answer = answer(session, version, produce()).await;
        ProduceResponse::try_from(answer).unwrap_or_else(|error| panic!("{error}"))
    }

    async fn fetched(session: &Session, version: i16, request: FetchRequest) -> FetchResponse {
        let answer = answer(session, version, request).await;
        FetchResponse::try_from(answer).unwrap_or_else(|error| panic!("{error}"))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn semantic_32_a_produce_to_another_nodes_partition_is_told_who_leads_it_and_where() {
        let (node, session, _dir) = cluster().await;
        for version in [9, 10, 12, 13] {
            let answer = produced(&session, version).await;
            let [elsewhere, here] = [0, 1].map(|at| &answer.responses[at].partition_responses[0]);
            assert_eq!(
                elsewhere.error_code,
                ErrorCode::NotLeaderOrFollower.code(),
                "{version}"
            );
            assert_eq!(here.error_code, 0, "{version}");
            assert_eq!(here.current_leader.leader_id, -1);
            let leader = &elsewhere.current_leader;
            let nodes: Vec<_> = answer
                .node_endpoints
                .iter()
                .map(|node| (node.node_id, &*node.host, node.port, node.rack.as_deref()))
                .collect();
            match version {
                9 => assert_eq!((leader.leader_id, nodes), (-1, vec![])),
                _ => {
                    assert_eq!((leader.leader_id, leader.leader_epoch), (2, 5));
                    assert_eq!(nodes, [(2, "other.example", 9_099, Some("r2"))]);
                }
            }
        }
        node.shutdown().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn semantic_32_a_fetch_from_another_nodes_partition_is_told_who_leads_it_and_where() {
        let (node, session, _dir) = cluster().await;
        for version in [12, 15, 16, 17] {
            let answer = fetched(&session, version, fetch(ELSEWHERE, 5)).await;
            let partition = &answer.responses[0].partitions[0];
            assert_eq!(
                partition.error_code,
                ErrorCode::NotLeaderOrFollower.code(),
                "{version}"
            );
            let told = (
                partition.current_leader.leader_id,
                partition.current_leader.leader_epoch,
            );
            let nodes: Vec<_> = answer
                .node_endpoints
                .iter()
                .map(|node| (node.node_id, &*node.host, node.port, node.rack.as_deref()))
                .collect();
            match version {
                ..16 => assert_eq!((told, nodes), ((-1, -1), vec![])),
                _ => {
                    assert_eq!(told, (2, 5));
                    assert_eq!(nodes, [(2, "other.example", 9_099, Some("r2"))]);
                }
            }
        }
        node.shutdown().await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn semantic_32_an_old_leader_epoch_is_answered_with_the_new_one_and_a_newer_one_is_not() {
        let (node, session, _dir) = cluster().await;
        let partition = async |epoch: i32| {
            let answer = fetched(&session, 17, fetch(HERE, epoch)).await;
            let partition = answer.responses[0].partitions[0].clone();
            let leader = (
                partition.current_leader.leader_id,
                partition.current_leader.leader_epoch,
            );
            let nodes: Vec<i32> = answer.node_endpoints.iter().map(|node| node.node_id).collect();
            (ErrorCode::from_code(partition.error_code), leader, nodes)
        };
        assert_eq!(
            partition(2).await,
            (ErrorCode::FencedLeaderEpoch, (1, 3), vec![1])
        );
        assert_eq!(
            partition(4).await,
            (ErrorCode::UnknownLeaderEpoch, (-1, -1), vec![])
        );
        assert_eq!(partition(3).await, (ErrorCode::None, (-1, -1), vec![]));
        node.shutdown().await.unwrap();
    }
}
