//! Coordinator records and requests.

use std::collections::BTreeSet;

use bytes::Bytes;
use highwater_coordinator::{
    ClientContext, Effects, GroupConfig, GroupRequest, GroupShard, Monotonic, Now, RequestToken,
};
use highwater_types::Timestamp;
use highwater_wire::{ApiKey, FrameReader, RequestBody};

use super::Pieces;

fn at(ms: u64) -> Now {
    Now {
        monotonic: Monotonic::new(ms),
        wall: Timestamp::new(i64::try_from(ms).expect("fuzzed clocks stay small")),
    }
}

/// Keys and values as a damaged or foreign `__consumer_offsets` may hold them, then loading and a minute of timers.
pub(super) fn records(input: &[u8]) {
    let mut shard = GroupShard::new(GroupConfig::default());
    let mut pieces = Pieces::new(input);
    while !pieces.is_empty() {
        let key = pieces.sized();
        let is_tombstone = pieces.byte() == 0;
        let value = pieces.sized();
        // Refusing is fine; the host goes on with the next record.
        let _ = shard.replay(key, (!is_tombstone).then_some(value));
    }
    shard.loaded(at(0));
    let mut host = Host::new(shard);
    host.let_time_pass(60_000);
}

/// Steps of a host: a request of some key and version with any fields, or time that passes.
pub(super) fn requests(input: &[u8]) {
    let mut shard = GroupShard::new(GroupConfig::default());
    shard.loaded(at(0));
    let mut host = Host::new(shard);
    let mut pieces = Pieces::new(input);
    while !pieces.is_empty() {
        let step = pieces.byte();
        let version = i16::from(pieces.byte());
        if step >= 0xf0 {
            host.let_time_pass(u64::from(pieces.u16()));
            continue;
        }
        let body = Bytes::copy_from_slice(pieces.sized());
        host.request(KEYS[usize::from(step) % KEYS.len()], version, body);
    }
    host.let_time_pass(60_000);
}

const KEYS: [ApiKey; 12] = [
    ApiKey::JoinGroup,
    ApiKey::SyncGroup,
    ApiKey::Heartbeat,
    ApiKey::LeaveGroup,
    ApiKey::OffsetCommit,
    ApiKey::OffsetFetch,
    ApiKey::DescribeGroups,
    ApiKey::ListGroups,
    ApiKey::DeleteGroups,
    ApiKey::OffsetDelete,
    ApiKey::ConsumerGroupHeartbeat,
    ApiKey::ConsumerGroupDescribe,
];

/// A host that keeps the coordinator's contract: append, replay, reply.
struct Host {
    shard: GroupShard,
    now_ms: u64,
    last_token: u64,
    waiting: BTreeSet<RequestToken>,
}

impl Host {
    fn new(shard: GroupShard) -> Self {
        Self {
            shard,
            now_ms: 0,
            last_token: 0,
            waiting: BTreeSet::new(),
        }
    }

    fn request(&mut self, key: ApiKey, version: i16, body: Bytes) {
        let versions = key.codec_versions();
        let version = versions.start() + version % (versions.end() - versions.start() + 1);
        let Ok(body) = RequestBody::decode(key, version, &mut FrameReader::new(body)) else {
            return;
        };
        let Some(request) = group_request(body) else {
            return;
        };
        self.last_token += 1;
        let token = RequestToken::new(self.last_token);
        self.waiting.insert(token);
        let client = ClientContext {
            client_id: "fuzz".into(),
            client_host: "/127.0.0.1".into(),
            api_version: version,
            member_id_seed: u128::from(self.last_token),
        };
        let effects = self.shard.handle(token, &client, request, at(self.now_ms));
        self.carry_out(effects);
    }

    fn let_time_pass(&mut self, ms: u64) {
        let until = self.now_ms + ms;
        // Every timer that fires moves the state on; far more firings than rounds and sweeps means a loop.
        let most = 10_000 + 1_000 * self.shard.durable().groups().len();
        for _ in 0..most {
            match self.shard.next_deadline_ms() {
                Some(due) if due <= until => self.now_ms = self.now_ms.max(due),
                _ => {
                    self.now_ms = until;
                    return;
                }
            }
            let effects = self.shard.handle_timeout(at(self.now_ms));
            self.carry_out(effects);
        }
        panic!("timers fire without end at {} ms", self.now_ms);
    }

    fn carry_out(&mut self, effects: Effects) {
        for record in effects.records {
            self.shard
                .replay(&record.key, record.value.as_deref())
                .expect("the shard's own records replay");
        }
        for (token, _) in effects.replies {
            assert!(self.waiting.remove(&token), "{token:?} is answered once");
        }
    }
}

fn group_request(body: RequestBody) -> Option<GroupRequest> {
    Some(match body {
        RequestBody::JoinGroup(request) => GroupRequest::Join(request),
        RequestBody::SyncGroup(request) => GroupRequest::Sync(request),
        RequestBody::Heartbeat(request) => GroupRequest::Heartbeat(request),
        RequestBody::LeaveGroup(request) => GroupRequest::Leave(request),
        RequestBody::OffsetCommit(request) => GroupRequest::OffsetCommit(request),
        RequestBody::OffsetFetch(request) => GroupRequest::OffsetFetch(request),
        RequestBody::DescribeGroups(request) => GroupRequest::Describe(request),
        RequestBody::ListGroups(request) => GroupRequest::List(request),
        RequestBody::DeleteGroups(request) => GroupRequest::Delete(request),
        RequestBody::OffsetDelete(request) => GroupRequest::OffsetDelete(request),
        RequestBody::ConsumerGroupHeartbeat(request) => GroupRequest::ConsumerHeartbeat(request),
        RequestBody::ConsumerGroupDescribe(request) => GroupRequest::ConsumerDescribe(request),
        _ => return None,
    })
}
