//! A node on a free port, and a client that speaks frames.

use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use highwater_broker::{Limits, Node, NodeConfig};
use highwater_storage::testing::FakeDisk;
use highwater_types::record::{BatchBuilder, BatchOptions, DecodeLimits, ProducerStamp, Record, batches};
use highwater_types::{ProducerEpoch, ProducerId, Sequence, Timestamp, Uuid};
use highwater_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use highwater_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use highwater_wire::messages::fetch_response::PartitionData;
use highwater_wire::messages::metadata_request::MetadataRequestTopic;
use highwater_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use highwater_wire::messages::produce_response::PartitionProduceResponse;
use highwater_wire::messages::{
    CreateTopicsRequest, FetchRequest, MetadataRequest, MetadataResponse, ProduceRequest,
};
use highwater_wire::{
    ApiKey, Request, RequestBody, RequestHeader, ResponseBody, decode_response, encode_request,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) async fn start(dir: &Path) -> (Node, SocketAddr) {
    start_with(dir, Limits::default(), &[]).await
}

pub(crate) async fn start_with(
    dir: &Path,
    limits: Limits,
    properties: &[(&str, &str)],
) -> (Node, SocketAddr) {
    let mut config = NodeConfig::new(dir).listen("PLAINTEXT", "127.0.0.1:0".parse().unwrap());
    config.limits = limits;
    for (key, value) in properties {
        config = config.property(*key, *value);
    }
    let node = Node::start(config).await.unwrap();
    let address = node.listener_addr("PLAINTEXT").unwrap();
    (node, address)
}

/// A node on a disk that the test has under control.
pub(crate) async fn start_on(disk: &FakeDisk, properties: &[(&str, &str)]) -> (Node, SocketAddr) {
    let mut config = NodeConfig::new("/data").listen("PLAINTEXT", "127.0.0.1:0".parse().unwrap());
    config.disk = disk.shared();
    for (key, value) in properties {
        config = config.property(*key, *value);
    }
    let node = Node::start(config).await.unwrap();
    let address = node.listener_addr("PLAINTEXT").unwrap();
    (node, address)
}

/// A connection that sends requests and reads answers in order.
pub(crate) struct Wire<S = TcpStream> {
    pub(crate) stream: S,
    next_id: i32,
    pending: std::collections::VecDeque<(i32, ApiKey, i16)>,
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Wire::over(TcpStream::connect(address).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn over(stream: S) -> Self {
        Wire {
            stream,
            next_id: 0,
            pending: Default::default(),
        }
    }

    pub(crate) async fn send(&mut self, version: i16, body: impl Into<RequestBody>) {
        let body = body.into();
        let key = body.api_key();
        self.next_id += 1;
        let header = RequestHeader::new(key, version, self.next_id, Some("wire-test".into()));
        self.stream
            .write_all(&encode_request(&header, &body).into_bytes())
            .await
            .unwrap();
        // A TLS stream may keep the end of what it was given until it is told, or given more.
        self.stream.flush().await.unwrap();
        self.pending.push_back((self.next_id, key, version));
    }

    /// A request that gets no answer.
    pub(crate) async fn send_without_answer(&mut self, version: i16, body: impl Into<RequestBody>) {
        self.send(version, body).await;
        self.pending.pop_back();
    }

    /// ApiVersions in a version that nobody has yet.
    pub(crate) async fn send_unknown_api_versions(&mut self) {
        self.next_id += 1;
        let mut frame = Vec::new();
        frame.extend_from_slice(&12_i32.to_be_bytes());
        frame.extend_from_slice(&18_i16.to_be_bytes());
        frame.extend_from_slice(&99_i16.to_be_bytes());
        frame.extend_from_slice(&self.next_id.to_be_bytes());
        frame.extend_from_slice(&[0xff, 0xff, 0xff, 0xff]);
        self.stream.write_all(&frame).await.unwrap();
        self.pending.push_back((self.next_id, ApiKey::ApiVersions, 0));
    }

    /// The answer to the oldest request; panics if another one's comes first.
    pub(crate) async fn receive(&mut self) -> ResponseBody {
        let (id, key, version) = self.pending.pop_front().unwrap();
        let frame = self.read_frame().await.expect("the connection is open");
        let (correlation_id, body) = decode_response(key, version, frame).unwrap();
        assert_eq!(correlation_id, id, "answers come in order");
        body
    }

    pub(crate) async fn read_frame(&mut self) -> Option<Bytes> {
        let length = self.stream.read_i32().await.ok()?;
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut frame).await.ok()?;
        Some(frame.into())
    }

    pub(crate) async fn call<R: Request>(&mut self, version: i16, request: R) -> R::Response {
        self.send(version, request).await;
        match R::Response::try_from(self.receive().await) {
            Ok(response) => response,
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn metadata(&mut self, topic: &str) -> MetadataResponse {
        let topic = MetadataRequestTopic {
            name: Some(topic.into()),
            ..Default::default()
        };
        self.call(
            12,
            MetadataRequest {
                topics: Some(vec![topic]),
                ..Default::default()
            },
        )
        .await
    }

    /// Creates a topic; gives its id.
    pub(crate) async fn create(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Uuid {
        let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
            name: (*name).into(),
            value: Some((*value).into()),
        };
        let topic = CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.iter().map(config).collect(),
            ..Default::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            ..Default::default()
        };
        let created = self.call(7, request).await.topics.remove(0);
        assert_eq!(created.error_code, 0, "{:?}", created.error_message);
        created.topic_id
    }

    /// Produces one batch as it is, to partition 0.
    pub(crate) async fn produce_batch(&mut self, topic: &str, records: Bytes) -> PartitionProduceResponse {
        let response = self.call(9, produce_request(topic, records, -1)).await;
        response.responses[0].partition_responses[0].clone()
    }

    pub(crate) async fn produce(&mut self, topic: &str, values: &[&str]) -> PartitionProduceResponse {
        let response = self.call(9, produce_request(topic, batch(values), -1)).await;
        response.responses[0].partition_responses[0].clone()
    }

    pub(crate) async fn fetch(&mut self, topic: &str, from: i64) -> PartitionData {
        let response = self.call(12, fetch_request(topic, from)).await;
        assert_eq!((response.error_code, response.session_id), (0, 0));
        response.responses[0].partitions[0].clone()
    }

    /// Whether the node ends this connection within a second, whatever it still sends.
    pub(crate) async fn is_closed_by_node(&mut self) -> bool {
        let ended = async {
            let mut rest = [0; 1024];
            while self.stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
        };
        tokio::time::timeout(std::time::Duration::from_secs(1), ended)
            .await
            .is_ok()
    }
}

pub(crate) fn batch(values: &[&str]) -> Bytes {
    let mut builder = BatchBuilder::new(BatchOptions::default());
    for value in values {
        builder.append(now(), Some(b"key"), Some(value.as_bytes()), &[]);
    }
    builder.build().unwrap()
}

/// A batch after `edit`, with its checksum made right again.
pub(crate) fn edited(batch: &Bytes, edit: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut bytes = batch.to_vec();
    edit(&mut bytes);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

/// The batch of an idempotent producer.
pub(crate) fn stamped_batch(values: &[&str], producer_id: i64, epoch: i16, sequence: i32) -> Bytes {
    let producer = ProducerStamp {
        id: ProducerId::new(producer_id),
        epoch: ProducerEpoch::new(epoch),
        base_sequence: Some(Sequence::new(sequence)),
    };
    let mut builder = BatchBuilder::new(BatchOptions {
        producer: Some(producer),
        ..BatchOptions::default()
    });
    for value in values {
        builder.append(now(), Some(b"key"), Some(value.as_bytes()), &[]);
    }
    builder.build().unwrap()
}

pub(crate) fn now() -> Timestamp {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Timestamp::new(now.as_millis() as i64)
}

pub(crate) fn produce_request(topic: &str, records: Bytes, acks: i16) -> ProduceRequest {
    let partition = PartitionProduceData {
        index: 0,
        records: Some(records),
    };
    let topic = TopicProduceData {
        name: topic.into(),
        partition_data: vec![partition],
        ..Default::default()
    };
    ProduceRequest {
        acks,
        timeout_ms: 1_000,
        topic_data: vec![topic],
        ..Default::default()
    }
}

pub(crate) fn fetch_request(topic: &str, from: i64) -> FetchRequest {
    let partition = FetchPartition {
        fetch_offset: from,
        partition_max_bytes: 1_048_576,
        ..Default::default()
    };
    let topic = FetchTopic {
        topic: topic.into(),
        partitions: vec![partition],
        ..Default::default()
    };
    FetchRequest {
        max_wait_ms: 5_000,
        min_bytes: 1,
        topics: vec![topic],
        ..Default::default()
    }
}

/// A fetch of several partitions of topics that are named once.
pub(crate) fn fetch_all(parts: &[(&str, i32, i64)]) -> FetchRequest {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for (topic, partition, from) in parts {
        if topics.last().is_none_or(|last| last.topic != *topic) {
            topics.push(FetchTopic {
                topic: (*topic).into(),
                ..Default::default()
            });
        }
        let partition = FetchPartition {
            partition: *partition,
            fetch_offset: *from,
            partition_max_bytes: 1_048_576,
            ..Default::default()
        };
        topics.last_mut().unwrap().partitions.push(partition);
    }
    FetchRequest {
        topics,
        min_bytes: 1,
        ..Default::default()
    }
}

pub(crate) fn records(data: &PartitionData) -> Vec<Record> {
    let sets = batches(data.records.clone().unwrap());
    sets.flat_map(|batch| batch.unwrap().records(DecodeLimits::default()).unwrap())
        .collect()
}

pub(crate) fn values(data: &PartitionData) -> Vec<String> {
    let text = |record: Record| String::from_utf8(record.value.unwrap().to_vec()).unwrap();
    records(data).into_iter().map(text).collect()
}
