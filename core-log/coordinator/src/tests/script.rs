//! Runs scripts against a [`GroupShard`] the way a host does: append, replay, reply.
//!
//! ```text
//! config key=value ..                     before anything else; names of GroupConfig
//! at MS                                   moves time forward, firing timers on the way
//! wait MS                                 moves time on by so much
//! restart                                 a new shard replays the log
//! fail ERROR                              the next append fails
//! unload                                  the partition moves away
//! forget TOPIC..                          topics were deleted
//! topics NAME=PARTITIONS ..               the topics there are from now on
//! [label:] join|sync|heartbeat|leave|commit|fetch|describe|list|delete|offset-delete GROUP.. key=value ..
//! ```
//!
//! Consumer groups: `[label:] ch GROUP member= epoch= topics=a,b regex= owned=a-0,a-1|none assignor= instance=` is a
//! ConsumerGroupHeartbeat, `cdescribe GROUP..` a ConsumerGroupDescribe. `ch` without `owned` says nothing about
//! partitions, except that one that joins owns none.
//!
//! `c~7` stands for the member id that client `c` was given by the seventh join. Subscription metadata `@a+b`
//! stands for a consumer subscription to the topics a and b; anything else is taken as it is.

mod show;
mod topics;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::panic::Location;
use std::sync::{Arc, Mutex};

use bytestring::ByteString;
use highwater_types::Timestamp;
use highwater_wire::{ErrorCode, ResponseBody, try_encode_response};

use crate::group::Phase;
use crate::shard::GroupShard;
use crate::{ClientContext, CoordinatorRecord, Effects, GroupConfig, Monotonic, Now, RequestToken};

use self::show::{show_record, show_reply};
use self::topics::ScriptTopics;
use self::words::{Words, request};

/// The wall clock at monotonic 0.
const WALL_ORIGIN: i64 = 1_700_000_000_000;
const SEED_PREFIX: &str = "-00000000-0000-0000-0000-";

/// Runs `script` and compares.
#[track_caller]
pub(super) fn check(script: &str) {
    let script_lines = unindent(script);
    let actual = run(script_lines.lines().filter(|line| !line.starts_with(' ')));
    if actual.trim() != script_lines.trim() {
        if wants_update() {
            rewrite(Location::caller(), script, &actual);
        } else {
            panic!("the script gave:\n{actual}\ninstead of:\n{script_lines}");
        }
    }
}

/// Runs events, checks the invariants after each, and prints what came out.
pub(super) fn run<'a>(events: impl Iterator<Item = &'a str>) -> String {
    let mut runner = Runner::default();
    let mut printed = String::new();
    for event in events {
        let _ = writeln!(printed, "{event}");
        for output in runner.run(event) {
            let _ = writeln!(printed, "  {output}");
        }
        runner.check_invariants();
    }
    runner.check_that_unload_answers_all();
    printed
}

fn unindent(script: &str) -> String {
    let lines = || script.lines().filter(|line| !line.trim().is_empty());
    let margin = lines()
        .map(|line| line.len() - line.trim_start().len())
        .min()
        .unwrap_or(0);
    lines()
        .map(|line| format!("{}\n", line[margin..].trim_end()))
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "the switch that updates expected texts")]
fn wants_update() -> bool {
    std::env::var_os("UPDATE_EXPECT").is_some()
}

/// Puts what came out in the place of the script. Found by its text, since lines shift.
#[expect(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    reason = "updates expected texts"
)]
fn rewrite(at: &Location<'_>, script: &str, actual: &str) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock();
    let path = format!("{}/../../{}", std::env!("CARGO_MANIFEST_DIR"), at.file());
    let source = std::fs::read_to_string(&path).unwrap();
    let indented: String = actual.lines().map(|line| format!("        {line}\n")).collect();
    let updated = source.replacen(script, &format!("\n{indented}        "), 1);
    assert_ne!(source, updated, "script at {at} not found");
    std::fs::write(&path, updated).unwrap();
}

struct Runner {
    config: GroupConfig,
    shard: GroupShard,
    log: Vec<CoordinatorRecord>,
    topics: ScriptTopics,
    now_ms: u64,
    requests: u64,
    joins: u128,
    labels: BTreeMap<RequestToken, (String, i16)>,
    waiting: BTreeSet<RequestToken>,
    failing: Option<ErrorCode>,
    /// An append failed: live groups may be ahead of the log.
    is_lossy: bool,
    is_unloaded: bool,
}

impl Default for Runner {
    fn default() -> Self {
        let config = GroupConfig::default();
        let mut runner = Self {
            shard: GroupShard::new(config.clone()),
            config,
            log: Vec::new(),
            topics: ScriptTopics::default(),
            now_ms: 0,
            requests: 0,
            joins: 0,
            labels: BTreeMap::new(),
            waiting: BTreeSet::new(),
            failing: None,
            is_lossy: false,
            is_unloaded: false,
        };
        runner.shard.loaded(runner.now());
        runner
    }
}

impl Runner {
    fn now(&self) -> Now {
        Now {
            monotonic: Monotonic::new(self.now_ms),
            wall: Timestamp::new(WALL_ORIGIN + self.now_ms as i64),
        }
    }

    fn run(&mut self, line: &str) -> Vec<String> {
        let (label, rest) = match line.split_once(": ") {
            Some((label, rest)) if !label.contains(' ') => (label.to_owned(), rest),
            _ => (String::new(), line),
        };
        let mut words = rest.split_whitespace();
        let verb = words.next().unwrap();
        let words = Words::new(words);
        match verb {
            "config" => self.configure(&words),
            "at" => self.advance_to(words.name(0).parse().unwrap()),
            "wait" => self.advance_to(self.now_ms + words.name(0).parse::<u64>().unwrap()),
            "restart" => self.restart(),
            "fail" => {
                let named = ErrorCode::ALL
                    .iter()
                    .find(|code| format!("{code:?}") == *words.names[0]);
                self.failing = Some(*named.unwrap());
                Vec::new()
            }
            "forget" => {
                let effects = self.shard.forget_topics(|topic| words.names.contains(&topic));
                self.host(effects)
            }
            "topics" => {
                self.topics = self.topics.next(&words.settings);
                self.shard.set_topics(Arc::new(self.topics.clone()));
                Vec::new()
            }
            "unload" => {
                self.is_unloaded = true;
                let replies = self.shard.unload();
                self.deliver(replies)
            }
            _ => self.request(label, verb, &words),
        }
    }

    fn configure(&mut self, words: &Words<'_>) -> Vec<String> {
        let config = &mut self.config;
        config.initial_rebalance_delay_ms =
            words.number("initial_rebalance_delay_ms", config.initial_rebalance_delay_ms);
        config.max_group_size = words.number("max_group_size", config.max_group_size);
        config.max_groups = words.number("max_groups", config.max_groups);
        config.max_subscription_bytes_per_group = words.number(
            "max_subscription_bytes_per_group",
            config.max_subscription_bytes_per_group,
        );
        config.max_subscription_bytes_per_shard = words.number(
            "max_subscription_bytes_per_shard",
            config.max_subscription_bytes_per_shard,
        );
        config.consumer_max_group_size =
            words.number("consumer_max_group_size", config.consumer_max_group_size);
        config.migration_policy = words.number("migration_policy", config.migration_policy);
        if words.settings.contains_key("assignors") {
            let named = words.list("assignors");
            config.consumer_assignors = named
                .iter()
                .map(|name| crate::AssignorKind::from_name(name).unwrap())
                .collect();
        }
        config.max_offsets_per_group = words.number("max_offsets_per_group", config.max_offsets_per_group);
        self.restart()
    }

    /// Requests that waited are lost with the shard, as when a broker dies.
    fn restart(&mut self) -> Vec<String> {
        self.shard = self.replayed();
        self.waiting.clear();
        self.is_lossy = false;
        Vec::new()
    }

    fn replayed(&self) -> GroupShard {
        let mut shard = GroupShard::new(self.config.clone());
        for record in &self.log {
            shard.replay(&record.key, record.value.as_deref()).unwrap();
        }
        shard.set_topics(Arc::new(self.topics.clone()));
        shard.loaded(self.now());
        shard
    }

    fn advance_to(&mut self, target_ms: u64) -> Vec<String> {
        let mut output = Vec::new();
        while let Some(deadline_ms) = self.shard.next_deadline_ms().filter(|ms| *ms <= target_ms) {
            self.now_ms = self.now_ms.max(deadline_ms);
            let effects = self.shard.handle_timeout(self.now());
            let lines = self.host(effects);
            output.extend(lines.into_iter().map(|line| format!("{:>6} {line}", self.now_ms)));
        }
        self.now_ms = target_ms;
        output
    }

    fn request(&mut self, label: String, verb: &str, words: &Words<'_>) -> Vec<String> {
        self.requests += 1;
        let token = RequestToken::new(self.requests);
        let (default_version, request) = request(verb, words, &self.topics);
        if matches!(verb, "join" | "ch") {
            self.joins += 1;
        }
        let client = ClientContext {
            client_id: words.text("client").unwrap_or(ByteString::from_static("c")),
            client_host: ByteString::from_static("/10.0.0.1"),
            api_version: words.number("v", default_version),
            member_id_seed: self.joins,
        };
        let label = if label.is_empty() { verb.to_owned() } else { label };
        self.labels.insert(token, (label, client.api_version));
        self.waiting.insert(token);
        let effects = self.shard.handle(token, &client, request, self.now());
        self.host(effects)
    }

    /// What a host does with effects.
    fn host(&mut self, effects: Effects) -> Vec<String> {
        if let Some(error) = self.failing.take_if(|_| !effects.records.is_empty()) {
            self.is_lossy = true;
            let replies = effects.fail(error);
            return self.deliver(replies);
        }
        let mut output: Vec<_> = effects.records.iter().map(show_record).collect();
        for record in effects.records {
            self.shard.replay(&record.key, record.value.as_deref()).unwrap();
            self.log.push(record);
        }
        output.extend(self.deliver(effects.replies));
        output
    }

    fn deliver(&mut self, replies: Vec<(RequestToken, ResponseBody)>) -> Vec<String> {
        let replies = replies.into_iter().map(|(token, body)| {
            assert!(
                self.waiting.remove(&token),
                "GRP-2: answered twice or never asked: {body:?}"
            );
            let (label, version) = &self.labels[&token];
            if let Err(error) = try_encode_response(body.api_key(), *version, 0, &body) {
                panic!("a reply of version {version} that cannot be sent: {error}: {body:?}");
            }
            format!("{label}: {}", show_reply(&body))
        });
        replies.collect()
    }

    fn check_invariants(&self) {
        if self.is_unloaded {
            return;
        }
        let fresh = self.replayed();
        assert_eq!(self.shard.durable(), fresh.durable(), "GRP-1");
        if self.is_lossy {
            return;
        }
        for (group_id, live) in self.shard.live_groups() {
            if let Some(group) = self.shard.consumer_group(group_id) {
                check_consumer_group(group_id, group);
                continue;
            }
            match live.phase {
                Phase::Stable | Phase::Empty => {}
                Phase::PreparingRebalance { .. } | Phase::CompletingRebalance => continue,
            }
            let Some(replayed) = fresh.live_groups().get(group_id) else {
                assert!(
                    live.members().is_empty(),
                    "GRP-1: {group_id} has members and no record"
                );
                continue;
            };
            assert_eq!(live.phase, replayed.phase, "GRP-1: {group_id}");
            assert_eq!(
                live.to_record(self.now().wall),
                replayed.to_record(self.now().wall),
                "GRP-1"
            );
            assert_eq!(
                live.subscribed_topics(),
                replayed.subscribed_topics(),
                "GRP-1: {group_id}"
            );
        }
    }

    fn check_that_unload_answers_all(&mut self) {
        let replies = self.shard.unload();
        self.deliver(replies);
        assert!(
            self.waiting.is_empty(),
            "GRP-2: never answered: {:?}",
            self.waiting
        );
    }
}

/// CG-1 and CG-2. Members that were upgraded own what their leader said, which scripts keep disjoint.
fn check_consumer_group(group_id: &str, group: &crate::ConsumerGroup) {
    let mut owners = BTreeSet::new();
    for (member_id, member) in group.members() {
        let current = &member.current;
        for held in current.assigned.iter().chain(current.revoking.iter()) {
            assert!(
                owners.insert(held),
                "CG-1: {group_id}: {held:?} has two owners, one is {member_id}"
            );
        }
        assert!(
            current.epoch <= group.target_epoch && group.target_epoch <= group.epoch,
            "CG-2: {group_id}: {member_id} is at {} of {} of {}",
            current.epoch,
            group.target_epoch,
            group.epoch
        );
    }
}
