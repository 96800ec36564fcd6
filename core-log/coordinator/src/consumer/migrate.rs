//! From classic to consumer group and back while the group is in use (KIP-848, `group.consumer.migration.policy`).
//!
//! Up: when a member of the newer protocol joins a classic group of consumers, the classic members become members
//! of the consumer group with what they own; they go on with JoinGroup, SyncGroup and Heartbeat. Down: when the last
//! member of the newer protocol is gone.

use std::str::FromStr;

use bytestring::ByteString;
use highwater_types::Timestamp;

use super::draft::Draft;
use super::group::{ClassicTerms, ConsumerGroup, ConsumerMember, MemberState};
use super::partitions::Partitions;
use super::records::{Change, CurrentAssignment, GroupValue, MemberMetadata};
use crate::config::GroupConfig;
use crate::durable::DurableGroup;
use crate::group::{LiveGroup, Member, Protocol};
use crate::shard::group_tombstone;
use crate::subscription::{
    CONSUMER_PROTOCOL_TYPE, decode_assignment, decode_subscription, encode_assignment, partitions_of,
};
use crate::topics::Topics;

/// `group.consumer.migration.policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MigrationPolicy {
    /// Both ways, the default.
    #[default]
    Bidirectional,
    /// Classic groups become consumer groups; those stay.
    Upgrade,
    /// Consumer groups become classic groups; those stay.
    Downgrade,
    /// Neither.
    Disabled,
}

impl MigrationPolicy {
    fn allows_upgrade(self) -> bool {
        match self {
            Self::Bidirectional | Self::Upgrade => true,
            Self::Downgrade | Self::Disabled => false,
        }
    }

    fn allows_downgrade(self) -> bool {
        match self {
            Self::Bidirectional | Self::Downgrade => true,
            Self::Upgrade | Self::Disabled => false,
        }
    }
}

/// Not one of Kafka's words for the policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("group.consumer.migration.policy is bidirectional, upgrade, downgrade or disabled")]
pub struct UnknownMigrationPolicy;

impl FromStr for MigrationPolicy {
    type Err = UnknownMigrationPolicy;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        match word.to_ascii_lowercase().as_str() {
            "bidirectional" => Ok(Self::Bidirectional),
            "upgrade" => Ok(Self::Upgrade),
            "downgrade" => Ok(Self::Downgrade),
            "disabled" => Ok(Self::Disabled),
            _ => Err(UnknownMigrationPolicy),
        }
    }
}

/// The consumer group that a classic group becomes; `None` if it may not or cannot.
pub(crate) fn upgrade<'a>(
    group_id: &'a ByteString,
    live: &LiveGroup,
    durable: Option<&DurableGroup>,
    (config, topics): (&GroupConfig, &dyn Topics),
    now: Timestamp,
) -> Option<Draft<'a>> {
    let mut draft = Draft::new(group_id, ConsumerGroup::default(), now);
    if durable.is_some_and(|durable| durable.metadata().is_some()) {
        draft.write_before(group_tombstone(group_id).ok()?);
    }
    if live.members().is_empty() {
        return Some(draft);
    }
    let is_allowed = config.migration_policy.allows_upgrade()
        && live.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
        && live.members().len() <= config.consumer_max_group_size;
    if !is_allowed {
        return None;
    }
    let epoch = live.generation.get();
    let mut members = Vec::new();
    for (member_id, member) in live.members() {
        members.push((member_id, upgraded_member(member, live, epoch, topics)?));
    }
    for (member_id, member) in &members {
        draft.write(Change::Member(
            ByteString::clone(member_id),
            Some(member.metadata.clone()),
        ));
    }
    draft.write(Change::Group(Some(GroupValue {
        epoch,
        metadata_hash: 0,
    })));
    for (member_id, member) in &members {
        let owned = member.current.assigned.clone();
        draft.write(Change::Target(ByteString::clone(member_id), Some(owned)));
    }
    draft.write(Change::TargetEpoch(Some(epoch)));
    for (member_id, member) in members {
        draft.write(Change::Current(member_id.clone(), Some(member.current)));
    }
    Some(draft)
}

fn upgraded_member(
    member: &Member,
    live: &LiveGroup,
    epoch: i32,
    topics: &dyn Topics,
) -> Option<ConsumerMember> {
    let chosen = live.protocol_name.as_deref();
    let metadata = match chosen {
        Some(name) => member.metadata(name),
        // Nobody has chosen yet; all of a consumer's protocols carry the same topics.
        None => member.protocols.first()?.metadata.clone(),
    };
    let (_, subscription) = decode_subscription(&metadata).ok()?;
    let assigned = match member.assignment.is_empty() {
        true => Partitions::default(),
        false => partitions_of(&decode_assignment(&member.assignment).ok()?, topics),
    };
    let protocols = member.protocols.iter();
    Some(ConsumerMember {
        metadata: MemberMetadata {
            instance_id: member.instance_id.clone(),
            rack_id: subscription.rack_id,
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            topic_names: subscription.topics.into_iter().collect(),
            topic_regex: None,
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            server_assignor: None,
            classic: Some(ClassicTerms {
                session_timeout_ms: member.session_timeout_ms,
                protocols: protocols
                    .map(|protocol| (protocol.name.clone(), protocol.metadata.clone()))
                    .collect(),
            }),
        },
        current: CurrentAssignment {
            epoch,
            previous_epoch: epoch,
            state: MemberState::Stable,
            assigned,
            revoking: Partitions::default(),
        },
    })
}

/// Whether a consumer group should become classic once `leaving` is gone.
pub(crate) fn may_downgrade(
    group: &ConsumerGroup,
    leaving: Option<&ByteString>,
    config: &GroupConfig,
) -> bool {
    let staying = group.member_count() - usize::from(leaving.is_some_and(|id| group.member(id).is_some()));
    config.migration_policy.allows_downgrade()
        && staying <= config.max_group_size
        && group.is_classic_without(leaving.map(|id| id.as_ref() as &str))
}

/// The classic group of the members that stay, stable; `None` if they have no assignor in common.
pub(crate) fn downgraded(
    group: &ConsumerGroup,
    leaving: Option<&ByteString>,
    topics: &dyn Topics,
    now: Timestamp,
) -> Option<LiveGroup> {
    let mut members = Vec::new();
    for (member_id, member) in group
        .members()
        .filter(|(member_id, _)| Some(*member_id) != leaving)
    {
        let classic = member.metadata.classic.as_ref()?;
        let version = classic
            .protocols
            .first()
            .and_then(|(_, metadata)| decode_subscription(metadata).ok())
            .map_or(0, |(version, _)| version);
        let assignment = encode_assignment(version, &member.current.assigned, topics)?;
        let protocols = classic.protocols.iter();
        let protocols = protocols.map(|(name, metadata)| Protocol {
            name: name.clone(),
            metadata: metadata.clone(),
        });
        let restored = Member::downgraded(
            &member.metadata,
            member.current.epoch,
            classic.session_timeout_ms,
            protocols.collect(),
            assignment,
        );
        members.push((member_id.clone(), restored));
    }
    LiveGroup::downgraded(group.epoch, members, now)
}
