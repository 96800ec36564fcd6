//! A broker in memory for tests of this crate: logs, producer sequences, one group coordinator, and faults on order.
//! It follows Kafka's rules where the client's correctness depends on them, and keeps a list of what it was asked.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use highwater_types::{
    Bytes, LeaderEpoch, Offset,
    record::{RecordBatch, batches, patch_base_offset_and_epoch},
};
use highwater_wire::{ApiKey, ErrorCode, RequestBody, ResponseBody, messages::*};
use tokio::{sync::Notify, time::Instant};

use crate::{Client, ClientConfig, Connection, Transport, TransportError};

mod groups;

use groups::Group;

pub(crate) const ADDRESS: &str = "mock:9092";

/// What happens to one request instead of the usual.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection breaks before the broker has done anything.
    Lost,
    /// The broker does its work, then the connection breaks.
    LostAnswer,
    /// Every partition of a Produce or Fetch gets this code and nothing is done.
    Refuse(ErrorCode),
    /// The broker does its work and then answers this code for every partition.
    DoneBut(ErrorCode),
}

/// First sequence, last sequence and offset of batches.
type Window = VecDeque<(i32, i32, i64)>;

#[derive(Debug, Default)]
pub(crate) struct Log {
    pub(crate) batches: Vec<Bytes>,
    pub(crate) start: i64,
    pub(crate) end: i64,
    pub(crate) leader_epoch: i32,
    /// Per producer id: its epoch and its last five batches.
    producers: HashMap<i64, (i16, Window)>,
}

impl Log {
    fn append(&mut self, batch: &RecordBatch) -> Result<i64, ErrorCode> {
        let header = batch.header();
        batch.verify_crc().map_err(|_| ErrorCode::CorruptMessage)?;
        if let (Some(id), Some(epoch), Some(first)) =
            (header.producer_id, header.producer_epoch, header.base_sequence)
        {
            let last = first.advance_by(header.last_offset_delta).get();
            let (known_epoch, window) = self
                .producers
                .entry(id.get())
                .or_insert((epoch.get(), VecDeque::new()));
            if epoch.get() < *known_epoch {
                return Err(ErrorCode::InvalidProducerEpoch);
            }
            if epoch.get() > *known_epoch {
                if first.get() != 0 {
                    return Err(ErrorCode::OutOfOrderSequenceNumber);
                }
                *known_epoch = epoch.get();
                window.clear();
            }
            if let Some((.., offset)) = window.iter().find(|(f, l, _)| (*f, *l) == (first.get(), last)) {
                return Ok(*offset);
            }
            if window.back().is_some_and(|(_, l, _)| l + 1 != first.get()) {
                return Err(ErrorCode::OutOfOrderSequenceNumber);
            }
            window.push_back((first.get(), last, self.end));
            if window.len() > 5 {
                window.pop_front();
            }
        }
        let base = self.end;
        let mut bytes = batch.bytes().to_vec();
        patch_base_offset_and_epoch(&mut bytes, Offset::new(base), LeaderEpoch::new(self.leader_epoch));
        self.batches.push(bytes.into());
        self.end += i64::from(header.last_offset_delta) + 1;
        Ok(base)
    }

    fn read(&self, from: i64, max_bytes: usize) -> Bytes {
        let mut out = Vec::new();
        for bytes in &self.batches {
            let (batch, _) = RecordBatch::parse(bytes.clone()).expect("our own batch");
            let fits = out.is_empty() || out.len() + bytes.len() <= max_bytes;
            if batch.header().last_offset().get() >= from && fits {
                out.extend_from_slice(bytes);
            }
        }
        out.into()
    }

    /// Values in the log, in order.
    pub(crate) fn values(&self) -> Vec<String> {
        let records = self.batches.iter().flat_map(|bytes| {
            let batch = RecordBatch::parse(bytes.clone()).expect("our own batch").0;
            batch.records(Default::default()).expect("decodes")
        });
        records
            .map(|r| String::from_utf8_lossy(r.value.as_deref().unwrap_or_default()).into_owned())
            .collect()
    }
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) topics: BTreeMap<String, Vec<Log>>,
    /// Topics that the client may not see.
    pub(crate) denied: BTreeSet<String>,
    groups: BTreeMap<String, Group>,
    faults: VecDeque<(ApiKey, Fault)>,
    pub(crate) asked: Vec<(ApiKey, i16)>,
    pub(crate) max_message_bytes: usize,
    /// What ApiVersions offers instead of everything the codec has.
    pub(crate) offered: Vec<(ApiKey, i16, i16)>,
    pub(crate) refuses_api_versions_3: bool,
    next_producer_id: i64,
    next_member: u32,
}

#[derive(Debug)]
pub(crate) struct MockBroker {
    state: Mutex<State>,
    changed: Notify,
}

impl MockBroker {
    pub(crate) fn new(topics: &[(&str, usize)]) -> Arc<Self> {
        let logs = |count| (0..count).map(|_| Log::default()).collect();
        let topics = topics
            .iter()
            .map(|(name, count)| ((*name).to_owned(), logs(*count)));
        let state = State {
            topics: topics.collect(),
            max_message_bytes: 1 << 20,
            ..State::default()
        };
        Arc::new(Self {
            state: Mutex::new(state),
            changed: Notify::new(),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no test panics while holding it")
    }

    /// The next request of this kind fares like this; several faults are used up in order.
    pub(crate) fn fail_next(&self, api: ApiKey, fault: Fault) {
        self.state().faults.push_back((api, fault));
    }

    /// Lets waiting fetches look again after a test changed the state.
    pub(crate) fn touch(&self) {
        self.changed.notify_waiters();
    }

    pub(crate) fn values(&self, topic: &str, partition: usize) -> Vec<String> {
        self.state().topics[topic][partition].values()
    }

    pub(crate) fn asked(&self, api: ApiKey) -> usize {
        self.state()
            .asked
            .iter()
            .filter(|(asked, _)| *asked == api)
            .count()
    }

    /// A client with short waits.
    pub(crate) fn client(self: &Arc<Self>) -> Client {
        let config = ClientConfig {
            request_timeout: Duration::from_secs(5),
            reconnect_backoff: Duration::from_millis(1),
            retry_backoff: Duration::from_millis(2),
            retry_backoff_max: Duration::from_millis(20),
            api_timeout: Duration::from_secs(5),
            ..ClientConfig::new([ADDRESS])
        };
        Client::with_transport(config, Arc::new(MockTransport(self.clone()))).expect("a good configuration")
    }

    fn take_fault(&self, api: ApiKey) -> Option<Fault> {
        let mut state = self.state();
        let at = state.faults.iter().position(|(wanted, _)| *wanted == api)?;
        state.faults.remove(at).map(|(_, fault)| fault)
    }

    async fn handle(&self, version: i16, body: RequestBody, fault: Option<Fault>) -> ResponseBody {
        let refuse = match fault {
            Some(Fault::Refuse(code)) => Some((code, false)),
            Some(Fault::DoneBut(code)) => Some((code, true)),
            Some(Fault::Lost | Fault::LostAnswer) | None => None,
        };
        match body {
            RequestBody::ApiVersions(_) => self.api_versions(version).into(),
            RequestBody::Metadata(request) => self.metadata(&request).into(),
            RequestBody::InitProducerId(_) => {
                let mut state = self.state();
                state.next_producer_id += 1;
                InitProducerIdResponse {
                    producer_id: state.next_producer_id,
                    ..Default::default()
                }
                .into()
            }
            RequestBody::Produce(request) => self.produce(request, refuse).into(),
            RequestBody::Fetch(request) => self.fetch(request, refuse.map(|(code, _)| code)).await.into(),
            RequestBody::ListOffsets(request) => self.list_offsets(request).into(),
            RequestBody::OffsetForLeaderEpoch(request) => self.epoch_ends(request).into(),
            RequestBody::FindCoordinator(request) => find_coordinator(&request).into(),
            RequestBody::JoinGroup(_) if refuse.is_some() => JoinGroupResponse {
                error_code: refuse.map_or(0, |(code, _)| code.code()),
                ..Default::default()
            }
            .into(),
            body => self.handle_group(version, body).await,
        }
    }

    fn api_versions(&self, version: i16) -> ApiVersionsResponse {
        let state = self.state();
        if version == 3 && state.refuses_api_versions_3 {
            let error_code = ErrorCode::UnsupportedVersion.code();
            return ApiVersionsResponse {
                error_code,
                ..Default::default()
            };
        }
        let offered = ApiKey::ALL.iter().map(|api| {
            let special = state.offered.iter().find(|(offered, ..)| offered == api);
            let all = (*api, *api.codec_versions().start(), *api.codec_versions().end());
            let (_, min_version, max_version) = special.copied().unwrap_or(all);
            api_versions_response::ApiVersion {
                api_key: api.as_i16(),
                min_version,
                max_version,
            }
        });
        ApiVersionsResponse {
            api_keys: offered.collect(),
            ..Default::default()
        }
    }

    fn metadata(&self, request: &MetadataRequest) -> MetadataResponse {
        let state = self.state();
        let names: Vec<String> = match &request.topics {
            Some(topics) => topics
                .iter()
                .filter_map(|t| t.name.as_ref())
                .map(ToString::to_string)
                .collect(),
            None => state.topics.keys().cloned().collect(),
        };
        let topics = names.into_iter().map(|name| {
            let is_denied = state.denied.contains(&name);
            let logs = state.topics.get(&name).filter(|_| !is_denied);
            let code = match logs {
                Some(_) => ErrorCode::None,
                None if is_denied => ErrorCode::TopicAuthorizationFailed,
                None => ErrorCode::UnknownTopicOrPartition,
            };
            let partition = |(index, log): (usize, &Log)| metadata_response::MetadataResponsePartition {
                partition_index: index as i32,
                leader_id: 1,
                leader_epoch: log.leader_epoch,
                replica_nodes: vec![1],
                isr_nodes: vec![1],
                ..Default::default()
            };
            metadata_response::MetadataResponseTopic {
                error_code: code.code(),
                name: Some(name.into()),
                partitions: logs.into_iter().flatten().enumerate().map(partition).collect(),
                ..Default::default()
            }
        });
        MetadataResponse {
            brokers: vec![metadata_response::MetadataResponseBroker {
                node_id: 1,
                host: "mock".into(),
                port: 9092,
                rack: None,
            }],
            controller_id: 1,
            topics: topics.collect(),
            ..Default::default()
        }
    }

    fn produce(&self, request: ProduceRequest, refuse: Option<(ErrorCode, bool)>) -> ProduceResponse {
        let mut state = self.state();
        let max_message_bytes = state.max_message_bytes;
        let responses = request.topic_data.into_iter().map(|topic| {
            let mut logs = state.topics.get_mut(topic.name.as_ref() as &str);
            let partition_responses = topic.partition_data.into_iter().map(|data| {
                let log = logs.as_mut().and_then(|logs| logs.get_mut(data.index as usize));
                let outcome = match (log, refuse) {
                    (_, Some((code, false))) => Err(code),
                    (None, _) => Err(ErrorCode::UnknownTopicOrPartition),
                    (Some(log), _) => append_all(log, data.records.unwrap_or_default(), max_message_bytes),
                };
                let outcome = match (outcome, refuse) {
                    (Ok(_), Some((code, true))) => Err(code),
                    (outcome, _) => outcome,
                };
                produce_response::PartitionProduceResponse {
                    index: data.index,
                    error_code: outcome.err().unwrap_or(ErrorCode::None).code(),
                    base_offset: outcome.unwrap_or(-1),
                    ..Default::default()
                }
            });
            let partition_responses = partition_responses.collect();
            produce_response::TopicProduceResponse {
                name: topic.name,
                partition_responses,
                ..Default::default()
            }
        });
        let responses = responses.collect();
        drop(state);
        self.changed.notify_waiters();
        ProduceResponse {
            responses,
            ..Default::default()
        }
    }

    async fn fetch(&self, request: FetchRequest, refuse: Option<ErrorCode>) -> FetchResponse {
        let deadline = Instant::now() + Duration::from_millis(request.max_wait_ms.max(0) as u64);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (response, answer_now) = self.fetch_now(&request, refuse);
            if answer_now || tokio::time::timeout_at(deadline, changed).await.is_err() {
                return response;
            }
        }
    }

    fn fetch_now(&self, request: &FetchRequest, refuse: Option<ErrorCode>) -> (FetchResponse, bool) {
        let state = self.state();
        let mut answer_now = false;
        let responses = request.topics.iter().map(|topic| {
            let logs = state.topics.get(topic.topic.as_ref() as &str);
            let partitions = topic.partitions.iter().map(|p| {
                let log = logs.and_then(|logs| logs.get(p.partition as usize));
                let code = match (refuse, log) {
                    (Some(code), _) => code,
                    (None, None) => ErrorCode::UnknownTopicOrPartition,
                    (None, Some(log)) if p.fetch_offset < log.start || p.fetch_offset > log.end => {
                        ErrorCode::OffsetOutOfRange
                    }
                    (None, Some(log)) if p.current_leader_epoch < log.leader_epoch => {
                        ErrorCode::FencedLeaderEpoch
                    }
                    (None, Some(_)) => ErrorCode::None,
                };
                let read = log.filter(|_| code == ErrorCode::None);
                let records = read.map(|log| log.read(p.fetch_offset, p.partition_max_bytes as usize));
                answer_now |= code != ErrorCode::None || records.as_ref().is_some_and(|r| !r.is_empty());
                fetch_response::PartitionData {
                    partition_index: p.partition,
                    error_code: code.code(),
                    high_watermark: log.map_or(-1, |log| log.end),
                    last_stable_offset: log.map_or(-1, |log| log.end),
                    log_start_offset: log.map_or(-1, |log| log.start),
                    records: Some(records.unwrap_or_default()),
                    ..Default::default()
                }
            });
            let partitions = partitions.collect();
            fetch_response::FetchableTopicResponse {
                topic: topic.topic.clone(),
                partitions,
                ..Default::default()
            }
        });
        let responses = responses.collect();
        (
            FetchResponse {
                responses,
                ..Default::default()
            },
            answer_now,
        )
    }

    fn list_offsets(&self, request: ListOffsetsRequest) -> ListOffsetsResponse {
        let state = self.state();
        let topics = request.topics.into_iter().map(|topic| {
            let logs = &state.topics[topic.name.as_ref() as &str];
            let partitions = topic.partitions.into_iter().map(|p| {
                let log = &logs[p.partition_index as usize];
                let offset = if p.timestamp == -2 { log.start } else { log.end };
                list_offsets_response::ListOffsetsPartitionResponse {
                    partition_index: p.partition_index,
                    offset,
                    leader_epoch: log.leader_epoch,
                    ..Default::default()
                }
            });
            let partitions = partitions.collect();
            list_offsets_response::ListOffsetsTopicResponse {
                name: topic.name,
                partitions,
            }
        });
        ListOffsetsResponse {
            topics: topics.collect(),
            ..Default::default()
        }
    }

    /// Ends of epochs, from the batches in the log.
    fn epoch_ends(&self, request: OffsetForLeaderEpochRequest) -> OffsetForLeaderEpochResponse {
        let state = self.state();
        let topics = request.topics.into_iter().map(|topic| {
            let logs = &state.topics[topic.topic.as_ref() as &str];
            let partitions = topic.partitions.into_iter().map(|p| {
                let log = &logs[p.partition as usize];
                let headers = log.batches.iter().flat_map(|b| batches(b.clone()).flatten());
                let of_epoch = headers.filter(|b| b.header().partition_leader_epoch.get() <= p.leader_epoch);
                let end = of_epoch
                    .map(|b| b.header().next_offset().get())
                    .last()
                    .unwrap_or(0);
                offset_for_leader_epoch_response::EpochEndOffset {
                    partition: p.partition,
                    leader_epoch: p.leader_epoch,
                    end_offset: end,
                    ..Default::default()
                }
            });
            let partitions = partitions.collect();
            offset_for_leader_epoch_response::OffsetForLeaderTopicResult {
                topic: topic.topic,
                partitions,
            }
        });
        OffsetForLeaderEpochResponse {
            topics: topics.collect(),
            ..Default::default()
        }
    }
}

fn append_all(log: &mut Log, records: Bytes, max_message_bytes: usize) -> Result<i64, ErrorCode> {
    let sent: Vec<_> = batches(records)
        .collect::<Result<_, _>>()
        .map_err(|_| ErrorCode::CorruptMessage)?;
    match &sent[..] {
        [batch] if batch.bytes().len() > max_message_bytes => Err(ErrorCode::MessageTooLarge),
        [batch] => log.append(batch),
        _ => Err(ErrorCode::InvalidRecord), // exactly one batch per partition (semantic 24)
    }
}

fn find_coordinator(request: &FindCoordinatorRequest) -> FindCoordinatorResponse {
    let coordinator = |key: &highwater_types::ByteString| find_coordinator_response::Coordinator {
        key: key.clone(),
        node_id: 1,
        host: "mock".into(),
        port: 9092,
        ..Default::default()
    };
    FindCoordinatorResponse {
        node_id: 1,
        host: "mock".into(),
        port: 9092,
        coordinators: request.coordinator_keys.iter().map(coordinator).collect(),
        ..Default::default()
    }
}

#[derive(Debug)]
struct MockTransport(Arc<MockBroker>);

#[async_trait]
impl Transport for MockTransport {
    async fn connect(&self, address: &str) -> Result<Arc<dyn Connection>, TransportError> {
        assert_eq!(address, ADDRESS);
        Ok(Arc::new(MockConnection {
            broker: self.0.clone(),
            closed: AtomicBool::new(false),
        }))
    }
}

struct MockConnection {
    broker: Arc<MockBroker>,
    closed: AtomicBool,
}

impl MockConnection {
    fn lose(&self) -> TransportError {
        self.closed.store(true, Ordering::Release);
        TransportError::Closed {
            address: ADDRESS.to_owned(),
            reason: "the test wants it so".into(),
        }
    }
}

#[async_trait]
impl Connection for MockConnection {
    async fn call(&self, version: i16, body: RequestBody) -> Result<ResponseBody, TransportError> {
        let api = body.api_key();
        assert!(
            api.codec_versions().contains(&version),
            "{} v{version}",
            api.name()
        );
        if self.is_closed() {
            return Err(self.lose());
        }
        self.broker.state().asked.push((api, version));
        let fault = self.broker.take_fault(api);
        if fault == Some(Fault::Lost) {
            return Err(self.lose());
        }
        let response = self.broker.handle(version, body, fault).await;
        if fault == Some(Fault::LostAnswer) {
            Err(self.lose())
        } else {
            Ok(response)
        }
    }

    async fn send_without_reply(&self, version: i16, body: RequestBody) -> Result<(), TransportError> {
        self.call(version, body).await.map(drop)
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}
