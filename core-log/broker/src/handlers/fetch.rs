//! Fetch: a long poll over the partitions a request names, or those its session remembers (KIP-227).
//!
//! A request that finds too little waits in the [purgatory](crate::purgatory) until appends bring what it lacks
//! (semantic 46), and only then looks again. Bytes go out as they lie in the segments, large ones from there.
//!
//! Refuses: fetches of replicas (there are none on one node), isolation levels nobody has defined.
//!
//! Invariants: the first non-empty partition gives at least one whole batch whatever the limits say
//! (semantic 43); bytes are reserved from the node's response memory before they are read.

mod poll;

use std::collections::HashSet;
use std::sync::Arc;

use highwater_cluster::{AclOperation, MetadataImage, Resource};
use highwater_storage::FileRange;
use highwater_wire::messages::fetch_request::{FetchTopic, ForgottenTopic};
use highwater_wire::messages::fetch_response::{FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint};
use highwater_wire::messages::{FetchRequest, FetchResponse};
use highwater_wire::{ApiKey, ErrorCode, ResponseBody};
use poll::{Gathered, PartitionAnswer, Poll, RequestFacts, Target};

use super::TopicRef;
use super::leader_hints::LeaderHints;
use crate::broker::Broker;
use crate::dispatch::{Answer, FilesToSend, RecordsInFile, Reply, RequestContext};
use crate::fetch_sessions::{
    FINAL_EPOCH, INITIAL_EPOCH, NO_SESSION, PartitionKey, Resumed, SessionPartitions, SessionRequest,
    TopicKey, Wanted,
};

/// Below this version a client cannot read zstd batches (semantic 28).
const FIRST_WITH_ZSTD: i16 = 10;
/// From this version on topics are named by id only (KIP-516).
const FIRST_WITH_TOPIC_IDS: i16 = 13;
/// From this version on an answer may say who leads instead (KIP-951).
const FIRST_WITH_LEADERS: i16 = 16;

const READ_UNCOMMITTED: i8 = 0;
const READ_COMMITTED: i8 = 1;

/// Waits until there is enough to answer, then answers.
pub(crate) async fn handle(
    broker: &Arc<Broker>,
    context: &RequestContext,
    version: i16,
    request: FetchRequest,
) -> Answer {
    let opened = match Opened::from_request(broker, context, version, &request) {
        Ok(opened) => opened,
        Err(code) => return refusal(code),
    };
    let asked = opened.asked();
    let forbidden = forbidden(broker, context, &asked);
    let facts = RequestFacts {
        refusal: refusal_of_all(&request),
        knows_zstd: version >= FIRST_WITH_ZSTD,
        sends_files: cfg!(target_os = "linux") && context.is_connection,
    };
    let poll = Poll::new(broker, &request, &asked, &forbidden, facts);
    let Gathered {
        partitions,
        bytes,
        memory,
        places,
        ..
    } = poll.wait(broker).await;
    poll.count(&partitions);
    drop(poll);
    broker.telemetry.fetched_bytes.increment(bytes as u64);
    let mut answers: Vec<_> = asked.into_iter().map(|(key, _)| key).zip(partitions).collect();
    let node_endpoints = name_leaders(broker, context, version, &mut answers);
    let session_id = opened.close(broker, context, version, &mut answers);
    let (responses, ranges) = by_topic(answers);
    let response = FetchResponse {
        session_id,
        responses,
        node_endpoints,
        ..Default::default()
    };
    Answer {
        reply: Reply::Body(ResponseBody::Fetch(response)),
        memory,
        files: FilesToSend { ranges, places },
    }
}

fn refusal(code: ErrorCode) -> Answer {
    let response = FetchResponse {
        error_code: code.code(),
        ..Default::default()
    };
    Reply::Body(ResponseBody::Fetch(response)).into()
}

/// What every partition is answered with, if the request is one that no partition here serves.
fn refusal_of_all(request: &FetchRequest) -> Option<ErrorCode> {
    let is_replica = request.replica_id >= 0 || request.replica_state.replica_id >= 0;
    if is_replica {
        // Nobody but this node holds replicas of what it leads.
        return Some(ErrorCode::NotLeaderOrFollower);
    }
    let is_known = matches!(request.isolation_level, READ_UNCOMMITTED | READ_COMMITTED);
    (!is_known).then_some(ErrorCode::InvalidRequest)
}

/// The topics that the client may not read. Asked with each request, since rules change while sessions last.
fn forbidden(
    broker: &Broker,
    context: &RequestContext,
    asked: &[(PartitionKey, Wanted)],
) -> HashSet<TopicKey> {
    let access = broker.access(context, ApiKey::Fetch);
    let mut forbidden = HashSet::new();
    if access.is_unlimited() {
        return forbidden;
    }
    let image = broker.image();
    let mut looked_at = HashSet::new();
    for key in asked.iter().map(|(key, _)| &key.topic) {
        if !looked_at.insert(key) {
            continue;
        }
        let name = match key {
            TopicKey::Name(name) => Some(name.as_ref()),
            // An id nobody has is unknown, and no secret.
            TopicKey::Id(_) => key.as_ref().name(&image),
        };
        if name.is_some_and(|name| !access.may(AclOperation::Read, Resource::topic(name))) {
            forbidden.insert(key.clone());
        }
    }
    forbidden
}

/// Where the partitions of a fetch come from, and whether a session goes on with the answer.
enum Opened {
    /// Everything is in the request, and nothing is remembered.
    Once(Vec<(PartitionKey, Wanted)>),
    /// Everything is in the request, and to be remembered.
    Begin(Vec<(PartitionKey, Wanted)>),
    Continue(Box<Resumed>),
}

impl Opened {
    fn from_request(
        broker: &Broker,
        context: &RequestContext,
        version: i16,
        request: &FetchRequest,
    ) -> Result<Self, ErrorCode> {
        let sessions = &context.fetch_sessions;
        match (request.session_id, request.session_epoch) {
            (id, FINAL_EPOCH) => {
                sessions.close(id);
                Ok(Opened::Once(all_asked(version, &request.topics)))
            }
            (id, INITIAL_EPOCH) => {
                // A full fetch ends the session it names and wants a new one.
                sessions.close(id);
                Ok(Opened::Begin(all_asked(version, &request.topics)))
            }
            (id, epoch) => {
                let uses_topic_ids = version >= FIRST_WITH_TOPIC_IDS;
                let session = SessionRequest {
                    id,
                    epoch,
                    uses_topic_ids,
                };
                let mut resumed = sessions.resume(session, broker.clock.monotonic_ms())?;
                for (key, wanted) in asked(version, &request.topics) {
                    resumed.partitions.want(&key, wanted);
                }
                for key in forgotten(version, &request.forgotten_topics_data) {
                    resumed.partitions.forget(&key);
                }
                resumed.resized()?;
                if resumed.partitions.is_empty() {
                    // Nothing is left to wait for: the session is over, as the answer's id says.
                    return Ok(Opened::Once(Vec::new()));
                }
                Ok(Opened::Continue(Box::new(resumed)))
            }
        }
    }

    /// The partitions to serve, in order.
    fn asked(&self) -> Vec<(PartitionKey, Wanted)> {
        match self {
            Opened::Once(asked) | Opened::Begin(asked) => asked.clone(),
            Opened::Continue(resumed) => {
                let partitions = resumed.partitions.iter();
                partitions.map(|(key, wanted)| (key.clone(), wanted)).collect()
            }
        }
    }

    /// Ends this request's part of the session; in a session that goes on, leaves out what is no news. Answers the
    /// session's id.
    fn close(
        self,
        broker: &Broker,
        context: &RequestContext,
        version: i16,
        answers: &mut Vec<(PartitionKey, PartitionAnswer)>,
    ) -> i32 {
        match self {
            Opened::Once(_) => NO_SESSION,
            Opened::Begin(asked) => {
                let mut partitions = SessionPartitions::default();
                for (key, wanted) in &asked {
                    partitions.want(key, *wanted);
                }
                for (key, answer) in answers.iter() {
                    partitions.tell(key, &answer.data, answer.record_bytes());
                }
                let uses_topic_ids = version >= FIRST_WITH_TOPIC_IDS;
                let now_ms = broker.clock.monotonic_ms();
                context.fetch_sessions.create(uses_topic_ids, partitions, now_ms)
            }
            Opened::Continue(mut resumed) => {
                answers.retain(|(key, answer)| {
                    let record_bytes = answer.record_bytes();
                    resumed.partitions.tell(key, &answer.data, record_bytes)
                });
                let id = resumed.id;
                resumed.keep();
                id
            }
        }
    }
}

fn topic_key(version: i16, topic: &FetchTopic) -> TopicKey {
    match version < FIRST_WITH_TOPIC_IDS {
        true => TopicKey::Name(topic.topic.clone()),
        false => TopicKey::Id(topic.topic_id),
    }
}

fn asked(version: i16, topics: &[FetchTopic]) -> impl Iterator<Item = (PartitionKey, Wanted)> {
    topics.iter().flat_map(move |topic| {
        let key = topic_key(version, topic);
        topic.partitions.iter().map(move |asked| {
            let key = PartitionKey {
                topic: key.clone(),
                partition: asked.partition,
            };
            (key, Wanted::from(asked))
        })
    })
}

fn all_asked(version: i16, topics: &[FetchTopic]) -> Vec<(PartitionKey, Wanted)> {
    asked(version, topics).collect()
}

fn forgotten(version: i16, topics: &[ForgottenTopic]) -> impl Iterator<Item = PartitionKey> {
    topics.iter().flat_map(move |topic| {
        let key = match version < FIRST_WITH_TOPIC_IDS {
            true => TopicKey::Name(topic.topic.clone()),
            false => TopicKey::Id(topic.topic_id),
        };
        topic.partitions.iter().map(move |partition| PartitionKey {
            topic: key.clone(),
            partition: *partition,
        })
    })
}

impl TopicKey {
    fn as_ref(&self) -> TopicRef<'_> {
        match self {
            TopicKey::Name(name) => TopicRef::Name(name),
            TopicKey::Id(id) => TopicRef::Id(*id),
        }
    }
}

/// Adds who leads the partitions that are not led here (semantic 32); tells where those nodes are.
fn name_leaders(
    broker: &Broker,
    context: &RequestContext,
    version: i16,
    answers: &mut [(PartitionKey, PartitionAnswer)],
) -> Vec<NodeEndpoint> {
    if version < FIRST_WITH_LEADERS {
        return Vec::new();
    }
    let image = broker.image();
    let mut hints = LeaderHints::default();
    for (key, answer) in answers {
        let data = &mut answer.data;
        let hint = hints.hint(data.error_code, &image, key.topic.as_ref(), key.partition);
        data.current_leader = hint.map_or_else(Default::default, |hint| LeaderIdAndEpoch {
            leader_id: hint.leader_id,
            leader_epoch: hint.leader_epoch,
        });
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

/// Neighbours of one topic share a row. Also the records that are still in their files, by the place of their record
/// set among all of the answer.
fn by_topic(
    answers: Vec<(PartitionKey, PartitionAnswer)>,
) -> (Vec<FetchableTopicResponse>, Vec<RecordsInFile>) {
    let mut rows: Vec<FetchableTopicResponse> = Vec::new();
    let mut ranges: Vec<RecordsInFile> = Vec::new();
    let mut last: Option<TopicKey> = None;
    // Every partition has a record set, if only an empty one (semantic 45).
    for (record_set, (key, PartitionAnswer { data, file })) in answers.into_iter().enumerate() {
        ranges.extend(file.map(|range: FileRange| RecordsInFile { record_set, range }));
        if last.as_ref() != Some(&key.topic) {
            let (topic, topic_id) = match &key.topic {
                TopicKey::Name(name) => (name.clone(), Default::default()),
                TopicKey::Id(id) => (Default::default(), *id),
            };
            rows.push(FetchableTopicResponse {
                topic,
                topic_id,
                partitions: Vec::new(),
            });
            last = Some(key.topic);
        }
        if let Some(row) = rows.last_mut() {
            row.partitions.push(data);
        }
    }
    (rows, ranges)
}

/// Where a partition of a fetch is, or why it cannot be read.
fn target(
    broker: &Broker,
    image: &MetadataImage,
    asked: &(PartitionKey, Wanted),
    refusal: Option<ErrorCode>,
) -> Target {
    let (key, wanted) = asked;
    let found = match refusal {
        Some(code) => Err(code),
        None => {
            let found = key.topic.as_ref().partition(broker, image, key.partition);
            found.map_err(|error| error.code)
        }
    };
    Target::new(key.partition, found, *wanted)
}
