//! What goes into a shard and what comes out of it.

use bytes::Bytes;
use bytestring::ByteString;
use highwater_types::Timestamp;
use highwater_wire::messages::{
    ConsumerGroupDescribeRequest, ConsumerGroupHeartbeatRequest, DeleteGroupsRequest, DescribeGroupsRequest,
    HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, SyncGroupRequest,
};
use highwater_wire::{ErrorCode, ResponseBody};

/// Milliseconds on the host's monotonic clock, from any origin. Deadlines are of this kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Monotonic(u64);

impl Monotonic {
    /// Wraps a reading in milliseconds.
    pub const fn new(ms: u64) -> Self {
        Self(ms)
    }

    /// The reading in milliseconds.
    pub const fn get(self) -> u64 {
        self.0
    }

    pub(crate) fn after_ms(self, delay_ms: u64) -> Self {
        Self(self.0.saturating_add(delay_ms))
    }
}

/// The time, as the host read it once for this call: deadlines use the first, records the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    pub monotonic: Monotonic,
    pub wall: Timestamp,
}

/// The host's name for a request; comes back with the reply. Unique among the unanswered ones of a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestToken(u64);

impl RequestToken {
    /// Wraps the host's number.
    pub const fn new(raw: u64) -> Self {
        Self(raw)
    }

    /// The host's number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// Who sends a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientContext {
    /// From the request header; a missing one is empty.
    pub client_id: ByteString,
    /// As DescribeGroups shows it: Kafka writes `/` and the address.
    pub client_host: ByteString,
    /// Version of the request; decides which rules and response fields apply.
    pub api_version: i16,
    /// 128 random bits, fresh for each request; a generated member id ends in them.
    pub member_id_seed: u128,
}

/// A request for one shard. Requests about several groups hold only the groups of this shard.
#[derive(Debug, Clone, PartialEq)]
pub enum GroupRequest {
    Join(JoinGroupRequest),
    Sync(SyncGroupRequest),
    Heartbeat(HeartbeatRequest),
    Leave(LeaveGroupRequest),
    OffsetCommit(OffsetCommitRequest),
    OffsetFetch(OffsetFetchRequest),
    Describe(DescribeGroupsRequest),
    List(ListGroupsRequest),
    Delete(DeleteGroupsRequest),
    OffsetDelete(OffsetDeleteRequest),
    ConsumerHeartbeat(ConsumerGroupHeartbeatRequest),
    ConsumerDescribe(ConsumerGroupDescribeRequest),
}

/// A record to append to the shard's partition of `__consumer_offsets`; no value is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoordinatorRecord {
    pub key: Bytes,
    pub value: Option<Bytes>,
}

/// What the host must do after a call: append, replay, then reply.
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use = "records must be appended and replayed, replies sent"]
pub struct Effects {
    /// To be appended as one batch and then replayed in this order.
    pub records: Vec<CoordinatorRecord>,
    /// To be sent once `records`, and those of earlier calls, are committed.
    pub replies: Vec<(RequestToken, ResponseBody)>,
}

impl Effects {
    pub(crate) fn reply(token: RequestToken, body: ResponseBody) -> Self {
        Self {
            records: Vec::new(),
            replies: vec![(token, body)],
        }
    }

    /// The replies to send instead when `records` could not be appended. Nothing must be replayed then; the
    /// durable state is as before the call, and members find their way by joining again.
    #[must_use]
    pub fn fail(self, append_error: ErrorCode) -> Vec<(RequestToken, ResponseBody)> {
        self.replies
            .into_iter()
            .map(|(token, mut body)| {
                fail_body(&mut body, append_error);
                (token, body)
            })
            .collect()
    }
}

/// What a failed append means to a group's client: errors of the log become errors of the coordinator, so that
/// clients look for it again instead of giving up.
fn coordinator_error(append_error: ErrorCode, too_large: ErrorCode) -> ErrorCode {
    match append_error {
        ErrorCode::UnknownTopicOrPartition
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::NotEnoughReplicasAfterAppend
        | ErrorCode::RequestTimedOut => ErrorCode::CoordinatorNotAvailable,
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError => ErrorCode::NotCoordinator,
        ErrorCode::MessageTooLarge | ErrorCode::RecordListTooLarge | ErrorCode::InvalidFetchSize => too_large,
        other => other,
    }
}

fn fail_body(body: &mut ResponseBody, append_error: ErrorCode) {
    let group_error = coordinator_error(append_error, ErrorCode::UnknownServerError).code();
    match body {
        ResponseBody::JoinGroup(join) => {
            join.error_code = group_error;
            join.member_id = ByteString::new();
            join.skip_assignment = false;
            join.members.clear();
        }
        ResponseBody::SyncGroup(sync) => {
            sync.error_code = group_error;
            sync.assignment = Bytes::new();
        }
        ResponseBody::Heartbeat(heartbeat) => heartbeat.error_code = group_error,
        ResponseBody::ConsumerGroupHeartbeat(heartbeat) => {
            heartbeat.error_code = group_error;
            heartbeat.assignment = None;
        }
        ResponseBody::LeaveGroup(leave) => {
            leave.error_code = group_error;
            leave.members.clear();
        }
        ResponseBody::OffsetCommit(commit) => {
            let error = coordinator_error(append_error, ErrorCode::InvalidCommitOffsetSize).code();
            let partitions = commit.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
            for partition in partitions.filter(|partition| partition.error_code == ErrorCode::None.code()) {
                partition.error_code = error;
            }
        }
        ResponseBody::DeleteGroups(delete) => {
            for result in &mut delete.results {
                if result.error_code == ErrorCode::None.code() {
                    result.error_code = group_error;
                }
            }
        }
        ResponseBody::OffsetDelete(delete) => {
            delete.error_code = group_error;
            delete.topics.clear();
        }
        // The others only read and never come with records.
        _ => {}
    }
}
