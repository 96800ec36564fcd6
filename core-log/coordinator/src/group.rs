//! One group as its coordinator sees it now: members, phase of the rebalance, who waits for which answer.
//!
//! This is the volatile half of a group. It is rebuilt from [`GroupMetadataValue`] after a restart, and what it
//! loses then (members that were just joining, a rebalance under way) clients repair by joining again. It
//! refuses to talk: answers and timers are the business of the `shard` module.
//!
//! ```text
//! Empty -> PreparingRebalance -> CompletingRebalance -> Stable
//!   ^             |   ^  ^               |                |
//!   '-------------'   |  '---------------'----------------'
//!                     '-- a member joins, changes, leaves or falls silent
//! ```
//!
//! # Invariants
//! - `joining` counts the members that wait for a JoinGroup answer; `supported` counts, per protocol name, the
//!   members that offer it; at least one name is offered by all.
//! - A static member's instance id maps to exactly one member.
//! - Waiting for JoinGroup happens in PreparingRebalance only, for SyncGroup in CompletingRebalance only.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use bytestring::ByteString;
use highwater_types::{GenerationId, Timestamp};
use highwater_wire::ErrorCode;
use highwater_wire::messages::JoinGroupRequest;
use highwater_wire::messages::join_group_response::JoinGroupResponseMember;

use crate::effects::{ClientContext, RequestToken};
use crate::records::{GroupMetadataValue, MemberMetadata};
use crate::subscription::{CONSUMER_PROTOCOL_TYPE, union_of_topics};

/// Records and requests may name any time, but a round of waiting is never shorter: a timer of zero would be due again as
/// soon as it fired, and absent static members get round after round until their sessions end.
pub(crate) const SHORTEST_TIMEOUT_MS: u64 = 100;

/// Where a group stands in its rebalance. A group that does not exist is what Kafka calls Dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No members; perhaps offsets.
    Empty,
    /// Members are joining. `initial` while the first members of an empty group wait for others.
    PreparingRebalance { initial: Option<InitialDelay> },
    /// All have joined; the leader computes the assignment.
    CompletingRebalance,
    /// Members have an assignment and the group's record says so.
    Stable,
}

/// The delay of KIP-134, extended as long as members arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InitialDelay {
    /// Length of the current slice.
    pub(crate) delay_ms: u64,
    /// What may still be added after it.
    pub(crate) remaining_ms: u64,
    /// Someone arrived during the current slice.
    pub(crate) member_arrived: bool,
}

impl Phase {
    /// Kafka's name of the state.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance { .. } => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// A request that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) token: RequestToken,
    pub(crate) api_version: i16,
}

/// One protocol (assignor) that a member offers, with its metadata for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) name: ByteString,
    pub(crate) metadata: Bytes,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) instance_id: Option<ByteString>,
    pub(crate) client_id: ByteString,
    pub(crate) client_host: ByteString,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    /// In the member's order of preference, each name once.
    pub(crate) protocols: Vec<Protocol>,
    pub(crate) assignment: Bytes,
    /// Has not been through a whole rebalance: it may expire while it waits.
    pub(crate) is_new: bool,
    /// The assignment of the current generation was not fetched yet.
    pub(crate) owes_sync: bool,
    /// The epoch it had in the consumer group that became this group; it still answers to it until the next
    /// generation, since what it owned then is still its own.
    former_epoch: Option<i32>,
    joining: Option<Waiting>,
    syncing: Option<Waiting>,
}

/// What a JoinGroup request says about its member.
#[derive(Debug, Clone)]
pub(crate) struct MemberTerms {
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    pub(crate) protocols: Vec<Protocol>,
}

/// The volatile state of a group.
#[derive(Debug, Clone)]
pub(crate) struct LiveGroup {
    pub(crate) phase: Phase,
    pub(crate) generation: GenerationId,
    pub(crate) protocol_type: Option<ByteString>,
    pub(crate) protocol_name: Option<ByteString>,
    pub(crate) leader: Option<ByteString>,
    /// When the group came into its state, if known.
    pub(crate) state_since: Option<Timestamp>,
    members: BTreeMap<ByteString, Member>,
    static_members: BTreeMap<ByteString, ByteString>,
    /// Ids that were handed out and did not come back yet (KIP-394).
    pending: BTreeSet<ByteString>,
    supported: BTreeMap<ByteString, usize>,
    joining: usize,
    subscription_bytes: usize,
    subscribed_topics: Option<BTreeSet<ByteString>>,
}

impl MemberTerms {
    /// Reads the terms of a request; version 0 has no rebalance timeout (KIP-62). A protocol that is named
    /// twice counts once.
    pub(crate) fn from_request(request: &JoinGroupRequest, api_version: i16) -> Self {
        let rebalance_timeout_ms = if api_version == 0 {
            request.session_timeout_ms
        } else {
            request.rebalance_timeout_ms
        };
        let mut seen = BTreeSet::new();
        let protocols = request
            .protocols
            .iter()
            .filter(|protocol| seen.insert(&protocol.name))
            .map(|protocol| Protocol {
                name: protocol.name.clone(),
                metadata: protocol.metadata.clone(),
            })
            .collect();
        Self {
            rebalance_timeout_ms,
            session_timeout_ms: request.session_timeout_ms,
            protocols,
        }
    }

    /// What these terms cost in memory.
    pub(crate) fn subscription_bytes(&self) -> usize {
        subscription_bytes(&self.protocols)
    }
}

fn subscription_bytes(protocols: &[Protocol]) -> usize {
    protocols
        .iter()
        .map(|protocol| protocol.name.len() + protocol.metadata.len())
        .sum()
}

impl Member {
    pub(crate) fn new(instance_id: Option<ByteString>, client: &ClientContext, terms: MemberTerms) -> Self {
        Self {
            instance_id,
            client_id: client.client_id.clone(),
            client_host: client.client_host.clone(),
            rebalance_timeout_ms: terms.rebalance_timeout_ms,
            session_timeout_ms: terms.session_timeout_ms,
            protocols: terms.protocols,
            assignment: Bytes::new(),
            is_new: true,
            owes_sync: false,
            former_epoch: None,
            joining: None,
            syncing: None,
        }
    }

    fn from_record(record: &MemberMetadata, protocol: &Option<ByteString>) -> Self {
        let name = protocol.clone().unwrap_or_default();
        Self {
            instance_id: record.group_instance_id.clone(),
            client_id: record.client_id.clone(),
            client_host: record.client_host.clone(),
            rebalance_timeout_ms: match record.rebalance_timeout_ms {
                -1 => record.session_timeout_ms,
                known => known,
            },
            session_timeout_ms: record.session_timeout_ms,
            protocols: vec![Protocol {
                name,
                metadata: record.subscription.clone(),
            }],
            assignment: record.assignment.clone(),
            is_new: false,
            owes_sync: false,
            former_epoch: None,
            joining: None,
            syncing: None,
        }
    }

    /// A member of a consumer group that spoke the classic protocol all along.
    pub(crate) fn downgraded(
        metadata: &crate::consumer::records::MemberMetadata,
        epoch: i32,
        session_timeout_ms: i32,
        protocols: Vec<Protocol>,
        assignment: Bytes,
    ) -> Self {
        Self {
            instance_id: metadata.instance_id.clone(),
            client_id: metadata.client_id.clone(),
            client_host: metadata.client_host.clone(),
            rebalance_timeout_ms: metadata.rebalance_timeout_ms,
            session_timeout_ms,
            protocols,
            assignment,
            is_new: false,
            owes_sync: false,
            former_epoch: Some(epoch),
            joining: None,
            syncing: None,
        }
    }

    /// The member's metadata for a protocol; empty if it does not offer it.
    pub(crate) fn metadata(&self, protocol: &str) -> Bytes {
        let found = self.protocols.iter().find(|offered| offered.name == protocol);
        found.map_or_else(Bytes::new, |offered| offered.metadata.clone())
    }

    /// What the member's protocols cost in memory.
    pub(crate) fn subscription_bytes(&self) -> usize {
        subscription_bytes(&self.protocols)
    }

    pub(crate) fn is_joining(&self) -> bool {
        self.joining.is_some()
    }

    /// A member that waits for the coordinator cannot be blamed for its silence, unless it is new: then nobody
    /// knows whether the client is still there (KIP-394).
    pub(crate) fn is_excused(&self) -> bool {
        !self.is_new && (self.joining.is_some() || self.syncing.is_some())
    }

    pub(crate) fn session_timeout(&self) -> u64 {
        u64::try_from(self.session_timeout_ms)
            .unwrap_or(0)
            .max(SHORTEST_TIMEOUT_MS)
    }

    pub(crate) fn set_syncing(&mut self, waiting: Waiting) -> Option<Waiting> {
        self.owes_sync = false;
        self.syncing.replace(waiting)
    }

    pub(crate) fn take_syncing(&mut self) -> Option<Waiting> {
        self.syncing.take()
    }
}

impl LiveGroup {
    /// A group nobody has joined.
    pub(crate) fn empty() -> Self {
        Self {
            phase: Phase::Empty,
            generation: GenerationId::new(0),
            protocol_type: None,
            protocol_name: None,
            leader: None,
            state_since: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending: BTreeSet::new(),
            supported: BTreeMap::new(),
            joining: 0,
            subscription_bytes: 0,
            subscribed_topics: None,
        }
    }

    /// The group as its record describes it: stable, nobody waiting.
    pub(crate) fn from_record(value: &GroupMetadataValue) -> Self {
        let mut group = Self::empty();
        group.generation = value.generation;
        group.protocol_type = Some(value.protocol_type.clone()).filter(|name| !name.is_empty());
        group.protocol_name = value.protocol.clone();
        group.state_since = value.current_state_timestamp;
        for record in &value.members {
            group.insert(
                record.member_id.clone(),
                Member::from_record(record, &value.protocol),
            );
        }
        let leader = value
            .leader
            .clone()
            .filter(|leader| group.members.contains_key(leader));
        group.leader = leader.or_else(|| group.members.keys().next().cloned());
        group.phase = if group.members.is_empty() {
            Phase::Empty
        } else {
            Phase::Stable
        };
        group.refresh_subscribed_topics();
        group
    }

    /// What a consumer group becomes when only classic members are left: stable, at the consumer group's epoch.
    /// `None` if the members have no protocol in common.
    pub(crate) fn downgraded(epoch: i32, members: Vec<(ByteString, Member)>, now: Timestamp) -> Option<Self> {
        let mut group = Self::empty();
        group.generation = GenerationId::new(epoch);
        group.protocol_type = Some(ByteString::from_static(CONSUMER_PROTOCOL_TYPE));
        group.state_since = Some(now);
        for (member_id, member) in members {
            group.insert(member_id, member);
        }
        group.leader = group.members.keys().next().cloned();
        group.protocol_name = Some(group.select_protocol()?);
        group.phase = Phase::Stable;
        group.refresh_subscribed_topics();
        Some(group)
    }

    /// The group's record, for the assignments its members have now.
    pub(crate) fn to_record(&self, now: Timestamp) -> GroupMetadataValue {
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let members = self.members.iter().map(|(member_id, member)| MemberMetadata {
            member_id: member_id.clone(),
            group_instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(protocol),
            assignment: member.assignment.clone(),
        });
        GroupMetadataValue {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol_name.clone(),
            leader: self.leader.clone(),
            current_state_timestamp: Some(self.state_since.unwrap_or(now)),
            members: members.collect(),
        }
    }

    pub(crate) fn members(&self) -> &BTreeMap<ByteString, Member> {
        &self.members
    }

    pub(crate) fn member(&self, member_id: &str) -> Option<&Member> {
        self.members.get(member_id)
    }

    pub(crate) fn member_mut(&mut self, member_id: &str) -> Option<&mut Member> {
        self.members.get_mut(member_id)
    }

    pub(crate) fn members_mut(&mut self) -> impl Iterator<Item = (&ByteString, &mut Member)> {
        self.members.iter_mut()
    }

    pub(crate) fn is_leader(&self, member_id: &str) -> bool {
        self.leader.as_deref() == Some(member_id)
    }

    pub(crate) fn static_member(&self, instance_id: &str) -> Option<&ByteString> {
        self.static_members.get(instance_id)
    }

    pub(crate) fn is_pending(&self, member_id: &str) -> bool {
        self.pending.contains(member_id)
    }

    pub(crate) fn add_pending(&mut self, member_id: ByteString) {
        self.pending.insert(member_id);
    }

    pub(crate) fn remove_pending(&mut self, member_id: &str) -> bool {
        self.pending.remove(member_id)
    }

    /// Members and those told to come back.
    pub(crate) fn size(&self) -> usize {
        self.members.len() + self.pending.len()
    }

    pub(crate) fn subscription_bytes(&self) -> usize {
        self.subscription_bytes
    }

    /// Nobody is in it and nobody is about to come.
    pub(crate) fn is_deserted(&self) -> bool {
        self.phase == Phase::Empty && self.members.is_empty() && self.pending.is_empty()
    }

    pub(crate) fn has_everyone_joined(&self) -> bool {
        self.joining == self.members.len() && self.pending.is_empty()
    }

    pub(crate) fn owes_sync(&self) -> bool {
        self.members.values().any(|member| member.owes_sync)
    }

    /// How long the slowest member may take to join: bounds the join phase (semantic 58).
    pub(crate) fn rebalance_timeout_ms(&self) -> u64 {
        let longest = self
            .members
            .values()
            .map(|member| member.rebalance_timeout_ms)
            .max();
        longest
            .and_then(|timeout| u64::try_from(timeout).ok())
            .unwrap_or(0)
            .max(SHORTEST_TIMEOUT_MS)
    }

    /// Whether a member with these protocols fits the others (semantic 60).
    pub(crate) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        match self.phase {
            Phase::Empty => !protocol_type.is_empty() && !protocols.is_empty(),
            Phase::PreparingRebalance { .. } | Phase::CompletingRebalance | Phase::Stable => {
                self.protocol_type.as_deref() == Some(protocol_type)
                    && protocols
                        .iter()
                        .any(|protocol| self.is_supported_by_all(&protocol.name))
            }
        }
    }

    fn is_supported_by_all(&self, protocol: &ByteString) -> bool {
        self.supported.get(protocol).copied().unwrap_or(0) == self.members.len()
    }

    /// Fences requests of a static member that was replaced, and refuses those of strangers (semantic 66).
    pub(crate) fn validate_member(
        &self,
        member_id: &str,
        instance_id: Option<&ByteString>,
    ) -> Result<(), ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(owner) if owner != member_id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        match self.members.contains_key(member_id) {
            true => Ok(()),
            false => Err(ErrorCode::UnknownMemberId),
        }
    }

    /// Whether a member may speak for this generation: the current one, or the epoch it brought along.
    pub(crate) fn is_generation_of(&self, member_id: &str, generation: i32) -> bool {
        let former = self.member(member_id).and_then(|member| member.former_epoch);
        generation == self.generation.get() || former == Some(generation)
    }

    /// Adds a member that waits for the rebalance to end. The first one decides the protocol type and leads.
    pub(crate) fn add(
        &mut self,
        member_id: ByteString,
        protocol_type: &ByteString,
        mut member: Member,
        waiting: Waiting,
    ) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.clone());
        }
        self.leader.get_or_insert_with(|| member_id.clone());
        member.joining = Some(waiting);
        self.pending.remove(&member_id);
        self.insert(member_id, member);
    }

    /// Takes a member out; what it waited for comes back to be answered. If it led, another one leads.
    pub(crate) fn remove(&mut self, member_id: &str) -> Option<Member> {
        let member = self.members.remove(member_id)?;
        self.forget(&member);
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        if self.is_leader(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Gives a static member's place to a new member id (KIP-345). The old one's waiting requests come back.
    pub(crate) fn replace_static(
        &mut self,
        old_id: &str,
        new_id: ByteString,
    ) -> Option<(Option<Waiting>, Option<Waiting>)> {
        let was_leader = self.is_leader(old_id);
        let mut member = self.members.remove(old_id)?;
        self.forget(&member);
        let waiting = (member.joining.take(), member.syncing.take());
        if was_leader {
            self.leader = Some(new_id.clone());
        }
        self.insert(new_id, member);
        Some(waiting)
    }

    /// New terms for a member that joins again. Whoever waited for it before comes back to be answered.
    pub(crate) fn update(
        &mut self,
        member_id: &str,
        terms: MemberTerms,
        waiting: Option<Waiting>,
    ) -> Option<Waiting> {
        let mut member = self.members.remove(member_id)?;
        self.forget(&member);
        member.protocols = terms.protocols;
        member.rebalance_timeout_ms = terms.rebalance_timeout_ms;
        member.session_timeout_ms = terms.session_timeout_ms;
        let superseded = std::mem::replace(&mut member.joining, waiting);
        self.insert(ByteString::from(member_id), member);
        superseded
    }

    pub(crate) fn take_joining(&mut self, member_id: &str) -> Option<Waiting> {
        let waiting = self.members.get_mut(member_id)?.joining.take()?;
        self.joining -= 1;
        Some(waiting)
    }

    /// Keeps a leader that has joined; else the first one that has. `false` if nobody has.
    pub(crate) fn elect_joined_leader(&mut self) -> bool {
        let current = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        if current.is_some_and(Member::is_joining) {
            return true;
        }
        let joined = self.members.iter().find(|(_, member)| member.is_joining());
        match joined.map(|(member_id, _)| member_id.clone()) {
            Some(member_id) => {
                self.leader = Some(member_id);
                true
            }
            None => false,
        }
    }

    /// The protocol that most members prefer among those all of them offer; of equals the first by name.
    pub(crate) fn select_protocol(&self) -> Option<ByteString> {
        let mut votes: BTreeMap<&ByteString, usize> = BTreeMap::new();
        for member in self.members.values() {
            let choice = member
                .protocols
                .iter()
                .find(|protocol| self.is_supported_by_all(&protocol.name));
            if let Some(choice) = choice {
                *votes.entry(&choice.name).or_default() += 1;
            }
        }
        let mut best: Option<(&ByteString, usize)> = None;
        for (name, count) in votes {
            if best.is_none_or(|(_, most)| count > most) {
                best = Some((name, count));
            }
        }
        best.map(|(name, _)| name.clone())
    }

    /// Begins the next generation: CompletingRebalance with the chosen protocol, or Empty.
    pub(crate) fn begin_generation(&mut self, now: Timestamp) {
        // Only a record nobody wrote in earnest holds the last number; wrapping keeps the group usable.
        self.generation = GenerationId::new(self.generation.get().checked_add(1).unwrap_or(0));
        self.state_since = Some(now);
        for member in self.members.values_mut() {
            member.former_epoch = None;
        }
        if self.members.is_empty() {
            self.protocol_name = None;
            self.leader = None;
            self.phase = Phase::Empty;
        } else {
            self.protocol_name = self.select_protocol();
            self.phase = Phase::CompletingRebalance;
        }
        self.refresh_subscribed_topics();
    }

    /// What the leader learns about all members.
    pub(crate) fn member_list(&self) -> Vec<JoinGroupResponseMember> {
        let protocol = self.protocol_name.as_deref().unwrap_or_default();
        let members = self
            .members
            .iter()
            .map(|(member_id, member)| JoinGroupResponseMember {
                member_id: member_id.clone(),
                group_instance_id: member.instance_id.clone(),
                metadata: member.metadata(protocol),
            });
        members.collect()
    }

    pub(crate) fn is_consumer_group(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    /// Which topics the members read, if the group says so in a form we know.
    pub(crate) fn subscribed_topics(&self) -> Option<&BTreeSet<ByteString>> {
        self.subscribed_topics.as_ref()
    }

    /// Whether offsets of the topic must be kept for the members; yes when in doubt.
    pub(crate) fn is_subscribed(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.is_consumer_group(),
        }
    }

    pub(crate) fn refresh_subscribed_topics(&mut self) {
        self.subscribed_topics = match &self.protocol_name {
            _ if !self.is_consumer_group() => None,
            _ if self.members.is_empty() => Some(BTreeSet::new()),
            Some(protocol) => {
                let subscriptions: Vec<Bytes> = self
                    .members
                    .values()
                    .map(|member| member.metadata(protocol))
                    .collect();
                union_of_topics(subscriptions.iter())
            }
            None => None,
        };
    }

    fn insert(&mut self, member_id: ByteString, member: Member) {
        for protocol in &member.protocols {
            *self.supported.entry(protocol.name.clone()).or_default() += 1;
        }
        self.subscription_bytes += subscription_bytes(&member.protocols);
        self.joining += usize::from(member.is_joining());
        if let Some(instance_id) = &member.instance_id {
            self.static_members.insert(instance_id.clone(), member_id.clone());
        }
        if let Some(replaced) = self.members.insert(member_id, member) {
            // Only a record that lists a member twice comes here.
            self.forget(&replaced);
        }
    }

    fn forget(&mut self, member: &Member) {
        for protocol in &member.protocols {
            if let Some(count) = self.supported.get_mut(&protocol.name) {
                *count -= 1;
                if *count == 0 {
                    self.supported.remove(&protocol.name);
                }
            }
        }
        self.subscription_bytes -= subscription_bytes(&member.protocols);
        self.joining -= usize::from(member.is_joining());
    }
}

impl Member {
    /// Everything the member waits for, taken out to be answered.
    pub(crate) fn into_waiting(self) -> (Option<Waiting>, Option<Waiting>) {
        (self.joining, self.syncing)
    }
}
