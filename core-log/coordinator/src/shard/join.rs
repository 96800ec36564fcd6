//! JoinGroup, versions 0 to 9.
//!
//! Semantics 57 (member ids are handed out first), 58 (timeouts), 59 (initial delay), 60 (protocol vote, member
//! list), 61 (rejoining), 66 (static members).

use std::fmt::Write as _;

use bytestring::ByteString;
use highwater_wire::messages::{JoinGroupRequest, JoinGroupResponse};
use highwater_wire::{ErrorCode, ResponseBody};

use crate::consumer::draft::Draft;
use crate::effects::{ClientContext, Effects, Now, RequestToken};
use crate::group::{LiveGroup, Member, MemberTerms, Phase, Waiting};
use crate::limits;

use super::turn::{Turn, metadata_record};
use super::{GroupShard, Staged, fits};

/// From this version on a dynamic member gets its id first and joins with it (KIP-394).
const FIRST_VERSION_WITH_MEMBER_ID_REQUIRED: i16 = 4;
/// From this version on the protocol name of a response may be null.
const FIRST_VERSION_WITH_NULL_PROTOCOL: i16 = 7;
/// From this version on a returning static leader can be told to skip the assignment (KIP-814).
const FIRST_VERSION_WITH_SKIP_ASSIGNMENT: i16 = 9;

/// An error answer.
pub(crate) fn error(api_version: i16, member_id: ByteString, error: ErrorCode) -> ResponseBody {
    ResponseBody::JoinGroup(JoinGroupResponse {
        error_code: error.code(),
        generation_id: -1,
        protocol_type: None,
        protocol_name: protocol_name(None, api_version),
        member_id,
        ..Default::default()
    })
}

fn protocol_name(name: Option<ByteString>, api_version: i16) -> Option<ByteString> {
    match name {
        None if api_version < FIRST_VERSION_WITH_NULL_PROTOCOL => Some(ByteString::new()),
        name => name,
    }
}

/// The answer of a member that is in the current generation; the leader gets the list of members.
pub(super) fn current_generation(
    group: &LiveGroup,
    member_id: &ByteString,
    api_version: i16,
) -> ResponseBody {
    ResponseBody::JoinGroup(generation_response(group, member_id, api_version))
}

fn generation_response(group: &LiveGroup, member_id: &ByteString, api_version: i16) -> JoinGroupResponse {
    let members = if group.is_leader(member_id) {
        group.member_list()
    } else {
        Vec::new()
    };
    JoinGroupResponse {
        error_code: ErrorCode::None.code(),
        generation_id: group.generation.get(),
        protocol_type: group.protocol_type.clone(),
        protocol_name: protocol_name(group.protocol_name.clone(), api_version),
        leader: group.leader.clone().unwrap_or_default(),
        skip_assignment: false,
        member_id: member_id.clone(),
        members,
        ..Default::default()
    }
}

/// A member id as Kafka makes it: the instance or client id, a dash, and a UUID.
fn new_member_id(client: &ClientContext, instance_id: Option<&ByteString>) -> ByteString {
    let prefix: &str = instance_id.unwrap_or(&client.client_id);
    let mut end = prefix.len().min(limits::MAX_CLIENT_ID_BYTES_IN_MEMBER_ID);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    let hex = format!("{:032x}", client.member_id_seed);
    let mut id = String::with_capacity(end + 37);
    id.push_str(&prefix[..end]);
    for group in [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]] {
        // Writing to a string cannot fail.
        let _ = write!(id, "-{group}");
    }
    ByteString::from(id)
}

impl GroupShard {
    pub(super) fn join(
        &mut self,
        token: RequestToken,
        client: &ClientContext,
        request: JoinGroupRequest,
        now: Now,
    ) -> Effects {
        let mut effects = Effects::default();
        if let Some(group) = self.consumer_group(&request.group_id) {
            if group.member_count() > 0 {
                return self.classic_join(token, client, request, now);
            }
            // Nobody is there to share it with: the empty consumer group makes way.
            let mut draft = Draft::new(&request.group_id, group.clone(), now.wall);
            draft.remove_group();
            effects.records.extend(draft.into_records().unwrap_or_default());
        }
        let terms = MemberTerms::from_request(&request, client.api_version);
        if let Err(code) = self.check_join(&request, &terms) {
            let member_id = match code {
                ErrorCode::GroupMaxSizeReached => ByteString::new(),
                _ => request.member_id,
            };
            return Effects::reply(token, error(client.api_version, member_id, code));
        }
        self.live
            .entry(request.group_id.clone())
            .or_insert_with(LiveGroup::empty);
        let waiting = Waiting {
            token,
            api_version: client.api_version,
        };
        self.turn(&request.group_id, now, &mut effects, |turn| {
            turn.join(client, &request, terms, waiting);
        });
        effects
    }

    /// Everything that can be said against a join before looking at the group's phase. Whatever would make the
    /// shard hold more than its bounds ends here (hostile inputs 69 to 71).
    fn check_join(&self, request: &JoinGroupRequest, terms: &MemberTerms) -> Result<(), ErrorCode> {
        if request.group_id.is_empty() || !fits(&request.group_id) {
            return Err(ErrorCode::InvalidGroupId);
        }
        let strings = [&request.member_id, &request.protocol_type];
        let instance_id = request.group_instance_id.as_ref();
        let names = terms.protocols.iter().map(|protocol| &protocol.name);
        if !strings.into_iter().chain(instance_id).chain(names).all(fits)
            || request.protocols.len() > limits::MAX_PROTOCOLS_PER_MEMBER
        {
            return Err(ErrorCode::InvalidRequest);
        }
        let allowed = self.config.min_session_timeout_ms..=self.config.max_session_timeout_ms;
        if !allowed.contains(&request.session_timeout_ms) {
            return Err(ErrorCode::InvalidSessionTimeout);
        }
        let group = self.live.get(&request.group_id);
        let Some(group) = group else {
            return match request.member_id.is_empty() {
                false => Err(ErrorCode::UnknownMemberId),
                true if self.live.len() >= self.config.max_groups => Err(ErrorCode::GroupMaxSizeReached),
                true => self.check_memory(0, 0, terms),
            };
        };
        let replaced = instance_id.and_then(|instance_id| group.static_member(instance_id));
        let is_known = replaced.is_some()
            || group.member(&request.member_id).is_some()
            || group.is_pending(&request.member_id);
        if !is_known && group.size() >= self.config.max_group_size {
            return Err(ErrorCode::GroupMaxSizeReached);
        }
        // A member that comes back brings its subscription in place of the one it has.
        let returning = group.member(replaced.unwrap_or(&request.member_id));
        let freed_bytes = returning.map_or(0, Member::subscription_bytes);
        self.check_memory(group.subscription_bytes(), freed_bytes, terms)
    }

    fn check_memory(
        &self,
        group_bytes: usize,
        freed_bytes: usize,
        terms: &MemberTerms,
    ) -> Result<(), ErrorCode> {
        let added = terms.subscription_bytes();
        let in_group = group_bytes - freed_bytes + added;
        let in_shard = self.subscription_bytes() - freed_bytes + added;
        let fits_group = in_group <= self.config.max_subscription_bytes_per_group;
        let fits_shard = in_shard <= self.config.max_subscription_bytes_per_shard;
        match fits_group && fits_shard {
            true => Ok(()),
            false => Err(ErrorCode::GroupMaxSizeReached),
        }
    }
}

impl Turn<'_> {
    fn join(
        &mut self,
        client: &ClientContext,
        request: &JoinGroupRequest,
        terms: MemberTerms,
        waiting: Waiting,
    ) {
        if !self.group.supports(&request.protocol_type, &terms.protocols) {
            let member_id = request.member_id.clone();
            self.reply_join_error(waiting, member_id, ErrorCode::InconsistentGroupProtocol);
        } else if request.member_id.is_empty() {
            self.join_without_id(client, request, terms, waiting);
        } else if request.group_instance_id.is_none() && self.group.is_pending(&request.member_id) {
            self.add_member(request.member_id.clone(), client, request, terms, waiting);
        } else {
            self.join_again(request, terms, waiting);
        }
    }

    fn join_without_id(
        &mut self,
        client: &ClientContext,
        request: &JoinGroupRequest,
        terms: MemberTerms,
        waiting: Waiting,
    ) {
        let instance_id = request.group_instance_id.as_ref();
        let member_id = new_member_id(client, instance_id);
        let replaced = instance_id
            .and_then(|instance_id| self.group.static_member(instance_id))
            .cloned();
        if let Some(old_id) = replaced {
            self.take_over(old_id, member_id, terms, waiting);
        } else if instance_id.is_none() && waiting.api_version >= FIRST_VERSION_WITH_MEMBER_ID_REQUIRED {
            let timeout_ms = u64::try_from(terms.session_timeout_ms).unwrap_or(0);
            self.group.add_pending(member_id.clone());
            self.schedule_session(&member_id, timeout_ms);
            self.reply_join_error(waiting, member_id, ErrorCode::MemberIdRequired);
        } else {
            self.add_member(member_id, client, request, terms, waiting);
        }
    }

    fn add_member(
        &mut self,
        member_id: ByteString,
        client: &ClientContext,
        request: &JoinGroupRequest,
        terms: MemberTerms,
        waiting: Waiting,
    ) {
        match &mut self.group.phase {
            Phase::PreparingRebalance { initial: Some(delay) } => delay.member_arrived = true,
            Phase::PreparingRebalance { initial: None }
            | Phase::Empty
            | Phase::CompletingRebalance
            | Phase::Stable => {}
        }
        let member = Member::new(request.group_instance_id.clone(), client, terms);
        self.group
            .add(member_id.clone(), &request.protocol_type, member, waiting);
        self.schedule_session(&member_id, self.config.new_member_join_timeout_ms);
        self.rebalance();
    }

    /// A member that is in the group joins again: a retry, news about itself, or the leader's wish for a
    /// rebalance (semantic 61).
    fn join_again(&mut self, request: &JoinGroupRequest, terms: MemberTerms, waiting: Waiting) {
        let member_id = &request.member_id;
        if let Err(code) = self
            .group
            .validate_member(member_id, request.group_instance_id.as_ref())
        {
            return self.reply_join_error(waiting, member_id.clone(), code);
        }
        let unchanged = self
            .group
            .member(member_id)
            .is_some_and(|member| member.protocols == terms.protocols);
        let has_news = match self.group.phase {
            Phase::PreparingRebalance { .. } => true,
            Phase::CompletingRebalance => !unchanged,
            Phase::Stable => !unchanged || self.group.is_leader(member_id),
            Phase::Empty => {
                return self.reply_join_error(waiting, member_id.clone(), ErrorCode::UnknownMemberId);
            }
        };
        if has_news {
            let superseded = self.group.update(member_id, terms, Some(waiting));
            self.supersede_join(superseded, member_id);
            self.rebalance();
        } else {
            let body = current_generation(self.group, member_id, waiting.api_version);
            self.reply(waiting, body);
            self.renew_session(member_id);
        }
    }

    /// A client that asks twice has given up its first request; that one must not hang for ever.
    fn supersede_join(&mut self, superseded: Option<Waiting>, member_id: &ByteString) {
        if let Some(waiting) = superseded {
            self.reply_join_error(waiting, member_id.clone(), ErrorCode::RebalanceInProgress);
        }
    }

    /// A static member came back under a new member id (KIP-345). In a stable group whose protocol does not
    /// change nobody else notices (semantic 66).
    fn take_over(&mut self, old_id: ByteString, new_id: ByteString, terms: MemberTerms, waiting: Waiting) {
        match self.group.phase {
            Phase::Stable => {
                let mut next = self.group.clone();
                next.replace_static(&old_id, new_id.clone());
                next.update(&new_id, terms.clone(), None);
                if next.select_protocol() == self.group.protocol_name {
                    self.stage_takeover(next, new_id, waiting);
                } else {
                    self.replace_member(&old_id, new_id, terms, waiting);
                    self.prepare_rebalance();
                }
            }
            Phase::CompletingRebalance => {
                self.replace_member(&old_id, new_id, terms, waiting);
                self.prepare_rebalance();
            }
            Phase::PreparingRebalance { .. } | Phase::Empty => {
                self.replace_member(&old_id, new_id, terms, waiting);
                self.complete_join_if_all_are_here();
            }
        }
    }

    fn stage_takeover(&mut self, mut next: LiveGroup, new_id: ByteString, waiting: Waiting) {
        next.refresh_subscribed_topics();
        let value = next.to_record(self.now.wall);
        let Ok(record) = metadata_record(self.group_id, &value) else {
            return self.reply_join_error(waiting, ByteString::new(), ErrorCode::UnknownServerError);
        };
        let mut response = generation_response(&next, &new_id, waiting.api_version);
        if waiting.api_version >= FIRST_VERSION_WITH_SKIP_ASSIGNMENT {
            response.skip_assignment = next.is_leader(&new_id);
        } else {
            // An older leader would compute an assignment that nobody waits for. It is told that the member it
            // was before still leads, and so it acts as a follower.
            response.leader = self.group.leader.clone().unwrap_or_default();
            response.members.clear();
        }
        self.effects.records.push(record);
        self.reply(waiting, ResponseBody::JoinGroup(response));
        // The old id's session stays until it fires and finds nobody: the takeover may yet fail.
        if let Some(timeout_ms) = next.member(&new_id).map(Member::session_timeout) {
            self.schedule_session(&new_id, timeout_ms);
        }
        *self.staged = Some(Staged {
            group_id: self.group_id.clone(),
            record: value,
            next,
        });
    }

    fn replace_member(
        &mut self,
        old_id: &ByteString,
        new_id: ByteString,
        terms: MemberTerms,
        waiting: Waiting,
    ) {
        let Some((joining, syncing)) = self.group.replace_static(old_id, new_id.clone()) else {
            return self.reply_join_error(waiting, ByteString::new(), ErrorCode::UnknownMemberId);
        };
        if let Some(fenced) = joining {
            self.reply_join_error(fenced, old_id.clone(), ErrorCode::FencedInstanceId);
        }
        if let Some(fenced) = syncing {
            self.reply(fenced, super::sync::error(ErrorCode::FencedInstanceId));
        }
        self.cancel_session(old_id);
        let superseded = self.group.update(&new_id, terms, Some(waiting));
        self.supersede_join(superseded, &new_id);
        self.renew_session(&new_id);
    }
}
