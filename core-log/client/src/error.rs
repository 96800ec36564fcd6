//! What can go wrong, one enum per family of operations: reaching a broker ([`TransportError`]), asking the cluster
//! ([`ClientError`]), producing ([`ProduceError`]), consuming ([`ConsumeError`]).
//!
//! All are cheap to clone, because one failed batch tells every record in it.

use std::{io, sync::Arc, time::Duration};

use highwater_types::{ByteString, Offset, TopicName, TopicPartition, record::BatchError};
use highwater_wire::{ApiKey, DecodeError, ErrorCode};

/// Why a request did not get an answer from a broker; what happened to it there is unknown unless it says so.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TransportError {
    /// No connection could be made; the request was not sent.
    #[error("cannot connect to {address}; check that a broker listens there")]
    Connect {
        /// host:port as it was asked for.
        address: String,
        /// What the system said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The connection ended before the answer.
    #[error("connection to {address} closed: {reason}")]
    Closed {
        /// host:port of the broker.
        address: String,
        /// Who closed it and why, as far as known.
        reason: Arc<str>,
    },
    /// TLS with the broker is not possible as both are set up; trying again does not help.
    #[error("no TLS with {address}: {fix}")]
    Tls {
        /// host:port of the broker.
        address: String,
        /// What to do about it.
        fix: &'static str,
        /// What the handshake said.
        #[source]
        source: Arc<io::Error>,
    },
    /// The broker does not accept who this client says it is, or does not prove itself; trying again does not help.
    #[error("{address} does not authenticate this client with {mechanism}: {reason}; {fix}")]
    Authentication {
        /// host:port of the broker.
        address: String,
        /// `sasl.mechanism`.
        mechanism: &'static str,
        /// What the broker said, or what is wrong.
        reason: String,
        /// What to do about it.
        fix: String,
    },
    /// The broker did not answer in time.
    #[error("{} to {address} not answered within {timeout:?}", .api.name())]
    TimedOut {
        /// host:port of the broker.
        address: String,
        /// What was asked.
        api: ApiKey,
        /// The time that passed.
        timeout: Duration,
    },
    /// The answer cannot be read.
    #[error("{} answer of {address} cannot be decoded", .api.name())]
    Decode {
        /// host:port of the broker.
        address: String,
        /// What was asked.
        api: ApiKey,
        /// Where the bytes went wrong.
        #[source]
        source: Arc<DecodeError>,
    },
    /// The answer belongs to another request.
    #[error("{address} answered {} with another message", .api.name())]
    UnexpectedResponse {
        /// host:port of the broker.
        address: String,
        /// What was asked.
        api: ApiKey,
    },
}

impl TransportError {
    /// Whether another attempt can succeed without anything being changed.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Decode { .. } | Self::Tls { .. } | Self::Authentication { .. } => false,
            Self::Connect { .. }
            | Self::Closed { .. }
            | Self::TimedOut { .. }
            | Self::UnexpectedResponse { .. } => true,
        }
    }
}

/// Why a question to the cluster failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// A broker could not be reached or did not answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// None of the addresses answered.
    #[error("no broker answered at {}; check the bootstrap addresses", .addresses.join(", "))]
    NoBroker {
        /// Every address that was tried.
        addresses: Vec<String>,
        /// The last failure.
        #[source]
        source: Option<Box<ClientError>>,
    },
    /// The broker and this client share no version of a request.
    #[error("{address} offers no version of {} that this client speaks", .api.name())]
    UnsupportedApi {
        /// host:port of the broker.
        address: String,
        /// What was to be asked.
        api: ApiKey,
    },
    /// The broker refused.
    #[error("{} for {resource} refused: {code:?}{}{}", .api.name(), detail(.message), fix(*.code))]
    Broker {
        /// What was asked.
        api: ApiKey,
        /// Kafka's error code.
        code: ErrorCode,
        /// Topic, partition, group or broker the refusal is about.
        resource: String,
        /// The broker's own words.
        message: Option<ByteString>,
    },
    /// The answer leaves out what was asked for.
    #[error("{} answer lacks {missing}", .api.name())]
    IncompleteResponse {
        /// What was asked.
        api: ApiKey,
        /// What is missing.
        missing: String,
    },
    /// The topic does not have such a partition.
    #[error("partition {topic_partition} does not exist")]
    UnknownPartition {
        /// What was asked for.
        topic_partition: TopicPartition,
    },
    /// The partition has no leader at the moment.
    #[error("partition {topic_partition} has no leader; its replicas may be down")]
    NoLeader {
        /// What was asked for.
        topic_partition: TopicPartition,
    },
    /// A configuration value cannot work.
    #[error("{name} = {value} cannot work: {problem}")]
    InvalidConfig {
        /// Kafka's name of the setting.
        name: &'static str,
        /// The value as given.
        value: String,
        /// What to do about it.
        problem: &'static str,
    },
    /// A setting of TLS or SASL cannot work; its value stays untold.
    #[error("{name} cannot work: {problem}")]
    Security {
        /// Kafka's name of the setting.
        name: &'static str,
        /// What is wrong and what to do about it.
        problem: String,
    },
}

fn detail(message: &Option<ByteString>) -> String {
    message.as_ref().map(|m| format!(" ({m})")).unwrap_or_default()
}

/// What helps against refusals that have nothing to do with what was asked but with who asks.
fn fix(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::TopicAuthorizationFailed
        | ErrorCode::GroupAuthorizationFailed
        | ErrorCode::TransactionalIdAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed => {
            "; the principal of this client needs an access rule that allows it (see `highwater acl add --help`)"
        }
        _ => "",
    }
}

impl ClientError {
    /// Kafka's code, when a broker refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Broker { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether asking again later, perhaps another broker, can succeed.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Transport(error) => error.is_retriable(),
            Self::NoBroker { .. } | Self::NoLeader { .. } | Self::UnknownPartition { .. } => true,
            Self::Broker { code, .. } => code.is_retriable(),
            Self::UnsupportedApi { .. }
            | Self::IncompleteResponse { .. }
            | Self::InvalidConfig { .. }
            | Self::Security { .. } => false,
        }
    }

    pub(crate) fn broker(api: ApiKey, code: ErrorCode, resource: impl ToString) -> Self {
        Self::Broker {
            api,
            code,
            resource: resource.to_string(),
            message: None,
        }
    }

    /// `Ok` for code 0, the refusal otherwise.
    pub(crate) fn check(
        api: ApiKey,
        raw_code: i16,
        resource: impl ToString,
        message: Option<ByteString>,
    ) -> Result<(), Self> {
        match ErrorCode::from_code(raw_code) {
            ErrorCode::None => Ok(()),
            code => Err(Self::Broker {
                api,
                code,
                resource: resource.to_string(),
                message,
            }),
        }
    }
}

/// Why a record was not (or not certainly) written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ProduceError {
    /// The record alone is larger than the producer's buffer or than the broker takes (semantic 27).
    #[error(
        "record of about {size_bytes} bytes for {topic} is too large; raise max.message.bytes of the topic or send less"
    )]
    RecordTooLarge {
        /// Where it was to go.
        topic: TopicName,
        /// Estimated size in the batch.
        size_bytes: usize,
    },
    /// The buffer stayed full for `max_block`.
    #[error(
        "producer buffer of {buffer_bytes} bytes stayed full for {waited:?}; the cluster is slower than the caller"
    )]
    BufferFull {
        /// Size of the buffer.
        buffer_bytes: usize,
        /// How long the caller waited.
        waited: Duration,
    },
    /// The topic's partitions could not be learned in time.
    #[error("partitions of {topic} are unknown")]
    Metadata {
        /// Where the record was to go.
        topic: TopicName,
        /// The last failure.
        #[source]
        source: Box<ClientError>,
    },
    /// The record was not acknowledged within `delivery_timeout`; it may or may not be in the log.
    #[error("record for {topic_partition} not acknowledged within {timeout:?}; it may have been written")]
    DeliveryTimedOut {
        /// Where it was to go.
        topic_partition: TopicPartition,
        /// `delivery.timeout.ms`.
        timeout: Duration,
        /// The last failure, if there was one.
        #[source]
        source: Option<Box<ClientError>>,
    },
    /// The broker refused for good.
    #[error("records for {topic_partition} refused: {code:?}{}{}", detail(.message), fix(*.code))]
    Refused {
        /// Where it was to go.
        topic_partition: TopicPartition,
        /// Kafka's error code.
        code: ErrorCode,
        /// The broker's own words.
        message: Option<ByteString>,
    },
    /// Asking the cluster failed for good.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The batch could not be encoded.
    #[error("batch for {topic_partition} cannot be built")]
    Encode {
        /// Where it was to go.
        topic_partition: TopicPartition,
        /// What the encoder says.
        #[source]
        source: BatchError,
    },
    /// The producer was closed before the record was written.
    #[error("the producer is closed")]
    Closed,
}

impl ProduceError {
    /// Kafka's code, when a broker refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            Self::Client(error) => error.code(),
            _ => None,
        }
    }
}

/// Why consuming failed. Retriable trouble never shows up here: it is retried inside.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumeError {
    /// Asking the cluster failed for good.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// There is no committed offset and `auto.offset.reset` is `none`.
    #[error("no committed offset for {topic_partition} and auto.offset.reset is none; seek or set a policy")]
    NoOffset {
        /// The partition without a position.
        topic_partition: TopicPartition,
    },
    /// The position is outside the log and `auto.offset.reset` is `none`.
    #[error(
        "offset {offset} of {topic_partition} is outside the log and auto.offset.reset is none; seek or set a policy"
    )]
    OffsetOutOfRange {
        /// The partition.
        topic_partition: TopicPartition,
        /// The position that is not there.
        offset: Offset,
    },
    /// The log was cut below the position: the records there are not the ones read before (KIP-320).
    #[error(
        "log of {topic_partition} was truncated to {end_offset}, below the position {offset}; seek to go on"
    )]
    LogTruncated {
        /// The partition.
        topic_partition: TopicPartition,
        /// The position.
        offset: Offset,
        /// Where the common history ends.
        end_offset: Offset,
    },
    /// Bytes that are no batch; seeking past `offset` skips them.
    #[error("batch of {topic_partition} at offset {offset} cannot be read; seek past it to go on")]
    CorruptBatch {
        /// The partition.
        topic_partition: TopicPartition,
        /// Where the unreadable batch begins, or the position before it.
        offset: Offset,
        /// What is wrong.
        #[source]
        source: BatchError,
    },
    /// The principal of this client may not see or read a topic that it subscribed to, or that was assigned to it.
    /// Said once; other topics are read on, and this one as soon as it may be.
    #[error(
        "topic {topic} is not for this client: its principal needs an access rule that allows READ on the topic (see \
         `highwater acl add --help`), or leave the topic out"
    )]
    TopicAuthorization {
        /// The topic.
        topic: TopicName,
    },
    /// No topic can have such a name. Said once; other topics are read on.
    #[error("no topic can be named {topic}; correct the name or leave it out")]
    InvalidTopic {
        /// The name.
        topic: TopicName,
    },
    /// The principal of this client may not be a member of the group, or see its offsets. Tried again in a while.
    #[error(
        "group {group_id} is not for this client: its principal needs an access rule that allows READ on the group \
         (see `highwater acl add --help`), or use another group.id"
    )]
    GroupAuthorization {
        /// The group.
        group_id: ByteString,
    },
    /// Another member with the same `group.instance.id` took over (KIP-345).
    #[error(
        "member {instance_id} of group {group_id} was replaced by another with the same group.instance.id"
    )]
    Fenced {
        /// The group.
        group_id: ByteString,
        /// The static member.
        instance_id: ByteString,
    },
    /// The commit was refused because the group moved on; the partitions may belong to others by now.
    #[error("commit for group {group_id} refused: {code:?}; poll to learn the new assignment")]
    CommitRefused {
        /// The group.
        group_id: ByteString,
        /// Why.
        code: ErrorCode,
    },
    /// The operation needs a `group.id`.
    #[error("{operation} needs a group.id")]
    NoGroup {
        /// What was attempted.
        operation: &'static str,
    },
    /// The partition is not assigned to this consumer.
    #[error("{topic_partition} is not assigned to this consumer")]
    NotAssigned {
        /// The partition.
        topic_partition: TopicPartition,
    },
    /// `subscribe` and `assign` do not mix.
    #[error("a consumer either subscribes or assigns; call unsubscribe first")]
    MixedSubscription,
    /// No position became known in time.
    #[error("position of {topic_partition} not known within {timeout:?}")]
    PositionTimedOut {
        /// The partition.
        topic_partition: TopicPartition,
        /// The time that passed.
        timeout: Duration,
    },
    /// The consumer was closed.
    #[error("the consumer is closed")]
    Closed,
}

impl ConsumeError {
    /// Kafka's code, when a broker refused.
    pub fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Client(error) => error.code(),
            Self::CommitRefused { code, .. } => Some(*code),
            Self::TopicAuthorization { .. } => Some(ErrorCode::TopicAuthorizationFailed),
            Self::InvalidTopic { .. } => Some(ErrorCode::InvalidTopicException),
            Self::GroupAuthorization { .. } => Some(ErrorCode::GroupAuthorizationFailed),
            _ => None,
        }
    }

    /// What the cluster's refusal to show or give a topic is to a consumer; `None` for other codes.
    pub(crate) fn of_topic(topic: &TopicName, code: ErrorCode) -> Option<Self> {
        let topic = topic.clone();
        match code {
            ErrorCode::TopicAuthorizationFailed => Some(Self::TopicAuthorization { topic }),
            ErrorCode::InvalidTopicException => Some(Self::InvalidTopic { topic }),
            _ => None,
        }
    }

    /// The same, in a consumer's words where it is about the group.
    pub(crate) fn of_group(group_id: &ByteString, error: ClientError) -> Self {
        match error.code() {
            Some(ErrorCode::GroupAuthorizationFailed) => Self::GroupAuthorization {
                group_id: group_id.clone(),
            },
            _ => Self::Client(error),
        }
    }

    /// Whether the cluster does not let this client have what it asks for, and will not until somebody changes that.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::TopicAuthorization { .. } | Self::InvalidTopic { .. } | Self::GroupAuthorization { .. }
        )
    }
}
