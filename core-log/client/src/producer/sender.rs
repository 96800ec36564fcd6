//! The task that empties the accumulator: requests per leader, answers, repeats.
//!
//! # Invariants
//! - At most `max_in_flight` requests per broker are under way; requests to one broker are started in the order in
//!   which their batches were taken.
//! - A batch is in exactly one place: the accumulator, a request under way, or settled.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt as _, StreamExt as _, future::BoxFuture, stream::FuturesUnordered};
use highwater_types::{ByteString, Offset, ProducerEpoch, ProducerId, Timestamp, TopicName, TopicPartition};
use highwater_wire::{
    ApiKey, ErrorCode,
    messages::{
        InitProducerIdRequest, ProduceRequest, ProduceResponse,
        produce_request::{PartitionProduceData, TopicProduceData},
        produce_response::PartitionProduceResponse,
    },
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Acks, Shared,
    accumulator::{Fate, SequenceBreak, Taken},
    batch::{Acked, Batch},
};
use crate::{
    ClientError, ProduceError,
    backoff::{Backoff, wait_after},
    batches::is_stale_leader,
    network::Network,
};

/// How often an otherwise idle sender looks around; everything that matters wakes it earlier.
const IDLE_CHECK: Duration = Duration::from_secs(60);

/// Runs until the producer is closed and everything is resolved, or until `abandon`.
pub(super) async fn run(shared: Arc<Shared>, abandon: CancellationToken) {
    let stopped = shared.stopped.clone().drop_guard();
    let network = shared.core.network.separate();
    let mut sender = Sender {
        requests_under_way: HashMap::new(),
        pending: FuturesUnordered::new(),
        asking_id: false,
        refreshing: BTreeSet::new(),
        id_backoff: Backoff::new(
            shared.core.config.retry_backoff,
            shared.core.config.retry_backoff_max,
        ),
        network,
        shared: shared.clone(),
    };
    tokio::select! {
        () = abandon.cancelled() => tracing::debug!("producer closed with records unsent"),
        () = sender.run() => {}
    }
    // Whatever is left resolves as closed when it is dropped.
    drop(sender);
    drop(shared.accumulator().drain());
    drop(stopped);
}

type Sent = Vec<(TopicPartition, Batch)>;

enum Done {
    Produced {
        address: String,
        sent: Sent,
        answer: Result<Option<ProduceResponse>, ClientError>,
    },
    ProducerId(Result<(ProducerId, ProducerEpoch), ClientError>),
    Refreshed(Vec<TopicName>),
}

struct Sender {
    shared: Arc<Shared>,
    network: Network,
    pending: FuturesUnordered<BoxFuture<'static, Done>>,
    requests_under_way: HashMap<String, usize>,
    asking_id: bool,
    refreshing: BTreeSet<TopicName>,
    id_backoff: Backoff,
}

/// A request being filled.
#[derive(Default)]
struct Draft {
    sent: Sent,
    size_bytes: usize,
}

impl Sender {
    async fn run(&mut self) {
        loop {
            let next = self.dispatch();
            if self.shared.accumulator().is_finished() {
                return;
            }
            let wake_at = next.unwrap_or_else(|| Instant::now() + IDLE_CHECK);
            let shared = self.shared.clone();
            tokio::select! {
                Some(done) = self.pending.next(), if !self.pending.is_empty() => self.handle(done),
                () = shared.wake.notified() => {}
                () = tokio::time::sleep_until(wake_at) => {}
            }
        }
    }

    /// Starts every request that can be started; says when to look again.
    fn dispatch(&mut self) -> Option<Instant> {
        self.expire();
        loop {
            let (ready, next) = self.shared.accumulator().ready(Instant::now());
            let drafts = if ready.is_empty() {
                HashMap::new()
            } else {
                self.fill(&ready)
            };
            if drafts.is_empty() {
                let delivery_timeout = self.shared.config.delivery_timeout;
                let expiry = self
                    .shared
                    .accumulator()
                    .oldest()
                    .map(|created| created + delivery_timeout);
                return [next, expiry].into_iter().flatten().min();
            }
            for (address, draft) in drafts {
                self.start(address, draft);
            }
        }
    }

    /// Takes batches for every leader that can take another request.
    fn fill(&mut self, ready: &[TopicPartition]) -> HashMap<String, Draft> {
        let view = self.shared.core.metadata.view();
        let config = &self.shared.config;
        let mut drafts: HashMap<String, Draft> = HashMap::new();
        let mut unled = BTreeSet::new();
        let mut needs_id = false;
        let mut accumulator = self.shared.accumulator();
        for tp in ready {
            let Some((leader, _)) = view.leader(tp) else {
                unled.insert(tp.topic.clone());
                continue;
            };
            let address = leader.address();
            if self.requests_under_way.get(&address).copied().unwrap_or(0) >= config.max_in_flight {
                continue;
            }
            let size_bytes = accumulator.next_size_bytes(tp);
            let filled = drafts.get(&address).map_or(0, |draft| draft.size_bytes);
            if filled > 0 && filled + size_bytes > config.max_request_bytes {
                continue;
            }
            match accumulator.take(tp) {
                Taken::Batch(batch) => {
                    let draft = drafts.entry(address).or_default();
                    draft.size_bytes += size_bytes;
                    draft.sent.push((tp.clone(), *batch));
                }
                Taken::NeedsProducerId => needs_id = true,
                Taken::Nothing => {}
            }
        }
        drop(accumulator);
        if needs_id {
            self.ask_producer_id();
        }
        self.refresh(unled);
        drafts
    }

    fn start(&mut self, address: String, draft: Draft) {
        let mut sent = Sent::with_capacity(draft.sent.len());
        let mut topics: BTreeMap<TopicName, Vec<PartitionProduceData>> = BTreeMap::new();
        for (tp, mut batch) in draft.sent {
            match batch.build() {
                Ok(records) => {
                    topics
                        .entry(tp.topic.clone())
                        .or_default()
                        .push(PartitionProduceData {
                            index: tp.partition.get(),
                            records: Some(records),
                        });
                    sent.push((tp, batch));
                }
                Err(source) => {
                    let error = ProduceError::Encode {
                        topic_partition: tp.clone(),
                        source,
                    };
                    self.settle(&tp, batch, Err(error), Fate::NotWritten);
                }
            }
        }
        if sent.is_empty() {
            return;
        }
        let request_timeout = self.shared.core.config.request_timeout;
        let acks = self.shared.config.acks;
        let topic_data = topics.into_iter().map(|(name, partition_data)| TopicProduceData {
            name: name.into_byte_string(),
            partition_data,
            ..Default::default()
        });
        let request = ProduceRequest {
            acks: acks.code(),
            timeout_ms: i32::try_from(request_timeout.as_millis()).unwrap_or(i32::MAX),
            topic_data: topic_data.collect(),
            ..Default::default()
        };
        *self.requests_under_way.entry(address.clone()).or_default() += 1;
        let network = self.network.clone();
        self.pending.push(
            async move {
                let answer = match network.broker(&address).await {
                    Ok(broker) if acks == Acks::None => {
                        broker.send_without_reply(request).await.map(|()| None)
                    }
                    Ok(broker) => broker.call(request).await.map(Some),
                    Err(error) => Err(error),
                };
                Done::Produced {
                    address,
                    sent,
                    answer,
                }
            }
            .boxed(),
        );
    }

    fn handle(&mut self, done: Done) {
        match done {
            Done::Produced {
                address,
                sent,
                answer,
            } => {
                if let Some(count) = self.requests_under_way.get_mut(&address) {
                    *count -= 1;
                }
                match answer {
                    Ok(None) => {
                        for (tp, batch) in sent {
                            self.settle(
                                &tp,
                                batch,
                                Ok(Acked {
                                    offset: None,
                                    log_append_time: None,
                                }),
                                Fate::Written,
                            );
                        }
                    }
                    Ok(Some(response)) => self.handle_response(sent, response),
                    Err(error) => self.handle_failure(sent, &error),
                }
            }
            Done::ProducerId(answer) => self.handle_producer_id(answer),
            Done::Refreshed(topics) => {
                for topic in topics {
                    self.refreshing.remove(&topic);
                }
            }
        }
    }

    /// The request as a whole failed: nothing is known about its batches unless it was never sent.
    fn handle_failure(&mut self, sent: Sent, error: &ClientError) {
        use crate::TransportError::{Authentication, Connect, Tls};
        let never_sent = matches!(
            error,
            ClientError::Transport(Connect { .. } | Tls { .. } | Authentication { .. })
                | ClientError::UnsupportedApi { .. }
        );
        let fate = if never_sent {
            Fate::NotWritten
        } else {
            Fate::Unknown
        };
        self.refresh(sent.iter().map(|(tp, _)| tp.topic.clone()).collect());
        for (tp, mut batch) in sent {
            batch.in_doubt |= !never_sent;
            if error.is_retriable() {
                self.repeat(&tp, batch, error.clone());
            } else {
                self.settle(&tp, batch, Err(error.clone().into()), fate);
            }
        }
    }

    fn handle_response(&mut self, sent: Sent, response: ProduceResponse) {
        let mut answers: HashMap<(ByteString, i32), PartitionProduceResponse> = HashMap::new();
        for topic in response.responses {
            for partition in topic.partition_responses {
                answers.insert((topic.name.clone(), partition.index), partition);
            }
        }
        for (tp, mut batch) in sent {
            let key = (tp.topic.as_byte_string().clone(), tp.partition.get());
            match answers.remove(&key) {
                Some(answer) => self.handle_partition(&tp, batch, answer),
                None => {
                    batch.in_doubt = true;
                    let missing = tp.to_string();
                    self.repeat(
                        &tp,
                        batch,
                        ClientError::IncompleteResponse {
                            api: ApiKey::Produce,
                            missing,
                        },
                    );
                }
            }
        }
    }

    fn handle_partition(&mut self, tp: &TopicPartition, mut batch: Batch, answer: PartitionProduceResponse) {
        let code = ErrorCode::from_code(answer.error_code);
        let idempotent = batch.stamp.is_some();
        match code {
            ErrorCode::None => {
                let append_time = answer.log_append_time_ms;
                let acked = Acked {
                    offset: (answer.base_offset >= 0).then(|| Offset::new(answer.base_offset)),
                    log_append_time: (append_time >= 0).then(|| Timestamp::new(append_time)),
                };
                self.settle(tp, batch, Ok(acked), Fate::Written);
            }
            // Written by an earlier attempt, too long ago for the broker to remember where.
            ErrorCode::DuplicateSequenceNumber => {
                self.settle(
                    tp,
                    batch,
                    Ok(Acked {
                        offset: None,
                        log_append_time: None,
                    }),
                    Fate::Written,
                );
            }
            ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge if batch.record_count() > 1 => {
                self.split(tp, batch);
            }
            ErrorCode::OutOfOrderSequenceNumber if idempotent => self.handle_sequence_break(tp, batch),
            ErrorCode::UnknownProducerId | ErrorCode::InvalidProducerEpoch if idempotent => {
                self.start_over(tp, batch, code);
            }
            code if code.is_retriable() => {
                // In both cases the leader has the batch already.
                batch.in_doubt |= matches!(
                    code,
                    ErrorCode::RequestTimedOut | ErrorCode::NotEnoughReplicasAfterAppend
                );
                if is_stale_leader(code) {
                    self.refresh(BTreeSet::from([tp.topic.clone()]));
                }
                self.repeat(tp, batch, ClientError::broker(ApiKey::Produce, code, tp));
            }
            code => {
                let message = answer.error_message;
                let error = ProduceError::Refused {
                    topic_partition: tp.clone(),
                    code,
                    message,
                };
                self.settle(tp, batch, Err(error), Fate::NotWritten);
            }
        }
    }

    fn split(&mut self, tp: &TopicPartition, batch: Batch) {
        tracing::debug!(partition = %tp, records = batch.record_count(), "batch too large, splitting");
        match batch.split() {
            Ok(halves) => {
                let broken = self.shared.accumulator().give_back(tp, halves, None);
                self.fail_broken(tp, broken);
            }
            Err(failed) => {
                let (batch, source) = *failed;
                let error = ProduceError::Encode {
                    topic_partition: tp.clone(),
                    source,
                };
                self.settle(tp, batch, Err(error), Fate::NotWritten);
            }
        }
    }

    fn handle_sequence_break(&mut self, tp: &TopicPartition, batch: Batch) {
        let code = ErrorCode::OutOfOrderSequenceNumber;
        let judged = self.shared.accumulator().judge_sequence(tp, &batch);
        match judged {
            SequenceBreak::EarlierUnresolved => {
                let broken = self.shared.accumulator().give_back(tp, [batch], None);
                self.fail_broken(tp, broken);
            }
            // The broker remembers as many batches as can be in flight, so a batch it finds out of order is not in
            // the log, whatever earlier attempts did: writing it under a new epoch cannot write it twice.
            SequenceBreak::StateLost => {
                tracing::info!(partition = %tp, "sequence broken, going on under a new producer epoch");
                self.shared.accumulator().reset_sequence(tp);
                self.repeat(tp, batch, ClientError::broker(ApiKey::Produce, code, tp));
            }
        }
    }

    /// The broker has forgotten this producer, or knows a later epoch of it. A batch that may have been written
    /// before it forgot is given up; anything else is safe to write under a new epoch.
    fn start_over(&mut self, tp: &TopicPartition, batch: Batch, code: ErrorCode) {
        self.shared.accumulator().reset_sequence(tp);
        if batch.in_doubt {
            let error = ProduceError::Refused {
                topic_partition: tp.clone(),
                code,
                message: None,
            };
            self.settle(tp, batch, Err(error), Fate::Unknown);
        } else {
            self.repeat(tp, batch, ClientError::broker(ApiKey::Produce, code, tp));
        }
    }

    /// Queues a batch again, after a pause that grows with its attempts.
    fn repeat(&mut self, tp: &TopicPartition, mut batch: Batch, error: ClientError) {
        let config = &self.shared.core.config;
        let failures = batch.attempts.saturating_sub(1);
        let wait = wait_after(failures, config.retry_backoff, config.retry_backoff_max);
        tracing::debug!(partition = %tp, %error, ?wait, "will send batch again");
        batch.last_error = Some(error);
        let broken = self
            .shared
            .accumulator()
            .give_back(tp, [batch], Some(Instant::now() + wait));
        self.fail_broken(tp, broken);
    }

    fn fail_broken(&mut self, tp: &TopicPartition, broken: Vec<Batch>) {
        for batch in broken {
            // Our own bytes failed to decode; memory was damaged, so the records cannot be trusted either.
            tracing::error!(partition = %tp, "buffered batch cannot be read back");
            self.settle(tp, batch, Err(ProduceError::Closed), Fate::NotWritten);
        }
    }

    fn settle(&mut self, tp: &TopicPartition, batch: Batch, result: Result<Acked, ProduceError>, fate: Fate) {
        let result = result.map_err(|error| match error {
            ProduceError::Refused {
                code: ErrorCode::MessageTooLarge,
                ..
            } => ProduceError::RecordTooLarge {
                topic: tp.topic.clone(),
                size_bytes: batch.size_bytes(),
            },
            error => error,
        });
        let mut accumulator = self.shared.accumulator();
        let broken = accumulator.finish(tp, &batch, fate);
        if batch.settle(result) {
            accumulator.completed(batch.completion_id());
        }
        drop(accumulator);
        self.shared.buffer.add_permits(batch.charged_bytes);
        self.fail_broken(tp, broken);
    }

    fn expire(&mut self) {
        let timeout = self.shared.config.delivery_timeout;
        let Some(created_before) = Instant::now().checked_sub(timeout) else {
            return;
        };
        let expired = self.shared.accumulator().expire(created_before);
        for (tp, mut batch) in expired {
            let source = batch.last_error.take().map(Box::new);
            let error = ProduceError::DeliveryTimedOut {
                topic_partition: tp.clone(),
                timeout,
                source,
            };
            self.settle(&tp, batch, Err(error), Fate::Unknown);
        }
    }

    /// Looks topics up again in the background, each at most once at a time.
    fn refresh(&mut self, topics: BTreeSet<TopicName>) {
        let topics: Vec<TopicName> = topics
            .into_iter()
            .filter(|t| self.refreshing.insert(t.clone()))
            .collect();
        if topics.is_empty() {
            return;
        }
        let core = self.shared.core.clone();
        self.pending.push(
            async move {
                if let Err(error) = core.metadata.refresh(&topics).await {
                    tracing::debug!(%error, "metadata refresh failed");
                    tokio::time::sleep(core.config.retry_backoff).await;
                }
                Done::Refreshed(topics)
            }
            .boxed(),
        );
    }

    fn ask_producer_id(&mut self) {
        if std::mem::replace(&mut self.asking_id, true) {
            return;
        }
        let core = self.shared.core.clone();
        self.pending
            .push(async move { Done::ProducerId(init_producer_id(&core).await) }.boxed());
    }

    fn handle_producer_id(&mut self, answer: Result<(ProducerId, ProducerEpoch), ClientError>) {
        match answer {
            Ok((id, epoch)) => {
                tracing::debug!(%id, %epoch, "idempotent producer ready");
                self.asking_id = false;
                self.id_backoff.reset();
                self.shared.accumulator().set_producer(id, epoch);
            }
            Err(error) if error.is_retriable() => {
                let wait = self.id_backoff.next_wait();
                tracing::debug!(%error, ?wait, "no producer id yet");
                let core = self.shared.core.clone();
                self.pending.push(
                    async move {
                        tokio::time::sleep(wait).await;
                        Done::ProducerId(init_producer_id(&core).await)
                    }
                    .boxed(),
                );
            }
            Err(error) => {
                self.asking_id = false;
                let waiting = self.shared.accumulator().drain();
                for (tp, batch) in waiting {
                    self.settle(&tp, batch, Err(error.clone().into()), Fate::NotWritten);
                }
            }
        }
    }
}

async fn init_producer_id(
    core: &crate::client::ClientCore,
) -> Result<(ProducerId, ProducerEpoch), ClientError> {
    let broker = core.metadata.any_broker().await?;
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX, // not looked at without a transactional id
        ..Default::default()
    };
    let response = broker.call(request).await?;
    ClientError::check(
        ApiKey::InitProducerId,
        response.error_code,
        "idempotent producer",
        None,
    )?;
    Ok((
        ProducerId::new(response.producer_id),
        ProducerEpoch::new(response.producer_epoch),
    ))
}
