//! Access rules (KIP-11, KIP-290): who may, or must not, do what with which resources, and the authorizer over them.
//!
//! # Invariants
//! - a rule names a resource pattern that is not empty; the cluster has one name;
//! - the same rule is kept once.

mod authorizer;
mod set;

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::principal::Principal;
use crate::record::AclRecord;

pub use authorizer::{Authorizer, Requester, Resource};
pub use set::{AclFilter, Acls, PatternFilter};

/// The name of the one cluster there is.
pub const CLUSTER_NAME: &str = "kafka-cluster";

/// As a literal name: every resource of the type. As a host: every host.
pub(crate) const WILDCARD: &str = "*";

/// What a rule is about. The names are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceType {
    /// A topic.
    Topic,
    /// A consumer group.
    Group,
    /// The cluster.
    Cluster,
    /// A transactional id.
    TransactionalId,
    /// A delegation token.
    DelegationToken,
    /// A user, as the owner of tokens.
    User,
}

/// How the name of a rule's resource is meant. The names are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PatternType {
    /// The resource of this name; `*` is all of them.
    Literal,
    /// Resources whose names begin so.
    Prefixed,
}

/// What is done to a resource. The names are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AclOperation {
    /// Everything.
    All,
    /// Reading records; taking part in a group.
    Read,
    /// Writing records.
    Write,
    /// Making it.
    Create,
    /// Deleting it, or records of it.
    Delete,
    /// Changing it.
    Alter,
    /// Seeing that and how it is.
    Describe,
    /// What brokers ask of each other.
    ClusterAction,
    /// Seeing its configs.
    DescribeConfigs,
    /// Changing its configs.
    AlterConfigs,
    /// Producing with sequences, to whatever topic.
    IdempotentWrite,
    /// Making tokens for others.
    CreateTokens,
    /// Seeing tokens of others.
    DescribeTokens,
    /// Preparing transactions (KIP-939).
    TwoPhaseCommit,
}

/// Whether a rule gives or takes. The names are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AclPermission {
    /// Must not, whatever else allows it.
    Deny,
    /// May.
    Allow,
}

/// Where whom a rule is for connects from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AclHost {
    /// From anywhere.
    Any,
    /// From this address, in its canonical form.
    Address(IpAddr),
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AclBinding {
    /// The type of the resource.
    pub resource_type: ResourceType,
    /// Its name, or how its name begins.
    pub name: String,
    /// Which of the two.
    pub pattern: PatternType,
    /// For whom; `User:*` is everybody.
    pub principal: Principal,
    /// From where.
    pub host: AclHost,
    /// What.
    pub operation: AclOperation,
    /// May or must not.
    pub permission: AclPermission,
}

impl ResourceType {
    /// Every type.
    pub const ALL: [ResourceType; 6] = [
        ResourceType::Topic,
        ResourceType::Group,
        ResourceType::Cluster,
        ResourceType::TransactionalId,
        ResourceType::DelegationToken,
        ResourceType::User,
    ];

    /// The type's number in requests.
    pub const fn code(self) -> i8 {
        match self {
            ResourceType::Topic => 2,
            ResourceType::Group => 3,
            ResourceType::Cluster => 4,
            ResourceType::TransactionalId => 5,
            ResourceType::DelegationToken => 6,
            ResourceType::User => 7,
        }
    }

    /// The type of a number in requests.
    pub fn from_code(code: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.code() == code)
    }

    /// The operations that mean something for resources of this type, as Kafka lists them to clients that ask (KIP-430).
    pub const fn operations(self) -> &'static [AclOperation] {
        use AclOperation::{
            Alter, AlterConfigs, ClusterAction, Create, CreateTokens, Delete, Describe, DescribeConfigs,
            DescribeTokens, IdempotentWrite, Read, TwoPhaseCommit, Write,
        };
        match self {
            ResourceType::Topic => &[
                Read,
                Write,
                Create,
                Delete,
                Alter,
                Describe,
                DescribeConfigs,
                AlterConfigs,
            ],
            ResourceType::Group => &[Read, Delete, Describe, DescribeConfigs, AlterConfigs],
            ResourceType::Cluster => &[
                Create,
                Alter,
                Describe,
                ClusterAction,
                DescribeConfigs,
                AlterConfigs,
                IdempotentWrite,
            ],
            ResourceType::TransactionalId => &[Write, Describe, TwoPhaseCommit],
            ResourceType::DelegationToken => &[Describe],
            ResourceType::User => &[CreateTokens, DescribeTokens],
        }
    }
}

impl PatternType {
    /// The kind's number in requests.
    pub const fn code(self) -> i8 {
        match self {
            PatternType::Literal => 3,
            PatternType::Prefixed => 4,
        }
    }

    /// The kind of a number in requests.
    pub fn from_code(code: i8) -> Option<Self> {
        [PatternType::Literal, PatternType::Prefixed]
            .into_iter()
            .find(|known| known.code() == code)
    }
}

impl AclOperation {
    /// Every operation.
    pub const EVERY: [AclOperation; 14] = [
        AclOperation::All,
        AclOperation::Read,
        AclOperation::Write,
        AclOperation::Create,
        AclOperation::Delete,
        AclOperation::Alter,
        AclOperation::Describe,
        AclOperation::ClusterAction,
        AclOperation::DescribeConfigs,
        AclOperation::AlterConfigs,
        AclOperation::IdempotentWrite,
        AclOperation::CreateTokens,
        AclOperation::DescribeTokens,
        AclOperation::TwoPhaseCommit,
    ];

    /// The operation's number in requests.
    pub const fn code(self) -> i8 {
        match self {
            AclOperation::All => 2,
            AclOperation::Read => 3,
            AclOperation::Write => 4,
            AclOperation::Create => 5,
            AclOperation::Delete => 6,
            AclOperation::Alter => 7,
            AclOperation::Describe => 8,
            AclOperation::ClusterAction => 9,
            AclOperation::DescribeConfigs => 10,
            AclOperation::AlterConfigs => 11,
            AclOperation::IdempotentWrite => 12,
            AclOperation::CreateTokens => 13,
            AclOperation::DescribeTokens => 14,
            AclOperation::TwoPhaseCommit => 15,
        }
    }

    /// The operation of a number in requests.
    pub fn from_code(code: i8) -> Option<Self> {
        Self::EVERY.into_iter().find(|known| known.code() == code)
    }

    /// Whether a rule that allows this operation allows `asked`, too.
    pub(crate) const fn allows(self, asked: AclOperation) -> bool {
        use AclOperation::{All, Alter, AlterConfigs, Delete, Describe, DescribeConfigs, Read, Write};
        match (self, asked) {
            (All, _) | (Read | Write | Delete | Alter, Describe) | (AlterConfigs, DescribeConfigs) => true,
            _ => self.code() == asked.code(),
        }
    }

    /// Whether a rule that denies this operation denies `asked`, too: nothing is implied.
    pub(crate) const fn denies(self, asked: AclOperation) -> bool {
        matches!(self, AclOperation::All) || self.code() == asked.code()
    }
}

impl AclPermission {
    /// The permission's number in requests.
    pub const fn code(self) -> i8 {
        match self {
            AclPermission::Deny => 2,
            AclPermission::Allow => 3,
        }
    }

    /// The permission of a number in requests.
    pub fn from_code(code: i8) -> Option<Self> {
        [AclPermission::Deny, AclPermission::Allow]
            .into_iter()
            .find(|known| known.code() == code)
    }
}

impl AclHost {
    /// The host of a text in requests: an address or `*`.
    pub fn parse(text: &str) -> Option<Self> {
        if text == WILDCARD {
            return Some(AclHost::Any);
        }
        let address: IpAddr = text.parse().ok()?;
        Some(AclHost::Address(address.to_canonical()))
    }

    pub(crate) fn is(self, address: IpAddr) -> bool {
        match self {
            AclHost::Any => true,
            AclHost::Address(known) => known == address.to_canonical(),
        }
    }
}

impl fmt::Display for AclHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AclHost::Any => f.write_str(WILDCARD),
            AclHost::Address(address) => address.fmt(f),
        }
    }
}

impl AclBinding {
    /// The record that makes the rule.
    pub(crate) fn record(&self, id: Uuid) -> AclRecord {
        AclRecord {
            id,
            resource_type: self.resource_type,
            name: self.name.clone(),
            pattern: self.pattern,
            principal: self.principal.to_string(),
            host: self.host.to_string(),
            operation: self.operation,
            permission: self.permission,
        }
    }

    /// The rule of a record, if it is one.
    pub(crate) fn from_record(record: &AclRecord) -> Option<Self> {
        Some(AclBinding {
            resource_type: record.resource_type,
            name: (!record.name.is_empty()).then(|| record.name.clone())?,
            pattern: record.pattern,
            principal: record.principal.parse().ok()?,
            host: AclHost::parse(&record.host)?,
            operation: record.operation,
            permission: record.permission,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_requests_lead_to_what_they_came_from() {
        for code in i8::MIN..=i8::MAX {
            assert!(ResourceType::from_code(code).is_none_or(|known| known.code() == code));
            assert!(AclOperation::from_code(code).is_none_or(|known| known.code() == code));
        }
        for operation in AclOperation::EVERY {
            assert_eq!(AclOperation::from_code(operation.code()), Some(operation));
        }
        for resource_type in ResourceType::ALL {
            assert_eq!(ResourceType::from_code(resource_type.code()), Some(resource_type));
        }
    }

    #[test]
    fn an_address_has_one_form() {
        let mapped = AclHost::parse("::ffff:10.0.0.1").unwrap();
        assert_eq!(mapped, AclHost::parse("10.0.0.1").unwrap());
        assert!(mapped.is("::ffff:10.0.0.1".parse().unwrap()));
        assert_eq!(AclHost::parse("0:0:0:0:0:0:0:1").unwrap().to_string(), "::1");
        assert_eq!(AclHost::parse("localhost"), None);
    }
}
