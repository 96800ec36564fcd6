//! Coordinator records and requests.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use highwater_coordinator::{
    ClientContext, Effects, GroupConfig, GroupRequest, GroupShard, Monotonic, Now, RequestToken, TopicFacts,
    Topics,
};
use highwater_types::{ByteString, Timestamp, Uuid};
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

/// So that assignors have something to hand out: `a` with two partitions and `t` with three.
const TWO_TOPICS: [(&str, TopicFacts); 2] = [
    (
        "a",
        TopicFacts {
            id: Uuid::from_u128(1),
            partition_count: 2,
        },
    ),
    (
        "t",
        TopicFacts {
            id: Uuid::from_u128(2),
            partition_count: 3,
        },
    ),
];

/// A cluster of [`TWO_TOPICS`].
#[derive(Debug)]
struct TwoTopics;

impl Topics for TwoTopics {
    fn version(&self) -> u64 {
        1
    }

    fn by_name(&self, name: &str) -> Option<TopicFacts> {
        TWO_TOPICS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, facts)| *facts)
    }

    fn name_of(&self, id: Uuid) -> Option<ByteString> {
        let (name, _) = TWO_TOPICS.iter().find(|(_, facts)| facts.id == id)?;
        Some(ByteString::from_static(name))
    }

    fn each_name(&self, visit: &mut dyn FnMut(&str)) {
        for (name, _) in TWO_TOPICS {
            visit(name);
        }
    }
}

/// A host that keeps the coordinator's contract: append, replay, reply.
struct Host {
    shard: GroupShard,
    now_ms: u64,
    last_token: u64,
    waiting: BTreeSet<RequestToken>,
}

impl Host {
    fn new(mut shard: GroupShard) -> Self {
        shard.set_topics(Arc::new(TwoTopics));
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
