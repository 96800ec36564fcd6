//! The authorizer: Kafka's rules of what access rules mean.
//!
//! Super users may do everything. Else a rule that denies wins over any that allows; without either nothing is allowed,
//! unless no rule at all is about the resource and the cluster is told to allow that. Reading, writing, deleting and
//! altering imply describing, and altering configs describing them, where allowed, not where denied.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::set::{Acls, Grants};
use super::{AclOperation, AclPermission, CLUSTER_NAME, PatternType, ResourceType, WILDCARD};
use crate::principal::Principal;

/// What decides beside the rules. The rules themselves are in the image.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Authorizer {
    /// `super.users`.
    pub super_users: BTreeSet<Principal>,
    /// `allow.everyone.if.no.acl.found`.
    pub allow_everyone_if_no_acl_found: bool,
}

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Requester<'a> {
    /// Their identity.
    pub principal: &'a Principal,
    /// Where they connect from.
    pub address: IpAddr,
}

/// What something is done to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource<'a> {
    /// Its type.
    pub resource_type: ResourceType,
    /// Its name; it need not exist.
    pub name: &'a str,
}

/// What the rules say before the defaults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// No rule is about the resource.
    NoRule,
    /// Rules are about the resource, none about who asks and what.
    NoMatch,
    Allowed,
    Denied,
}

impl<'a> Resource<'a> {
    /// The cluster.
    pub const CLUSTER: Resource<'static> = Resource {
        resource_type: ResourceType::Cluster,
        name: CLUSTER_NAME,
    };

    /// A topic.
    pub const fn topic(name: &'a str) -> Self {
        Resource {
            resource_type: ResourceType::Topic,
            name,
        }
    }

    /// A consumer group.
    pub const fn group(name: &'a str) -> Self {
        Resource {
            resource_type: ResourceType::Group,
            name,
        }
    }

    /// A transactional id.
    pub const fn transactional_id(name: &'a str) -> Self {
        Resource {
            resource_type: ResourceType::TransactionalId,
            name,
        }
    }
}

impl Authorizer {
    /// Whether somebody may do something.
    pub fn allows(
        &self,
        acls: &Acls,
        requester: Requester<'_>,
        operation: AclOperation,
        resource: Resource<'_>,
    ) -> bool {
        self.super_users.contains(requester.principal)
            || match verdict(acls, requester, operation, resource) {
                Verdict::NoRule => self.allow_everyone_if_no_acl_found,
                Verdict::NoMatch | Verdict::Denied => false,
                Verdict::Allowed => true,
            }
    }

    /// Whether somebody may do something with at least one resource of a type, existing or not (KIP-679).
    pub fn allows_somewhere(
        &self,
        acls: &Acls,
        requester: Requester<'_>,
        operation: AclOperation,
        resource_type: ResourceType,
    ) -> bool {
        // Ends no name that anybody would give.
        const UNUSED: &str = "\u{10fffd}";
        let allows = |name: &str| self.allows(acls, requester, operation, Resource { resource_type, name });
        allows(UNUSED)
            || acls.patterns(resource_type).any(|(name, pattern, grants)| {
                let gives = || says(grants, requester, operation) == Some(AclPermission::Allow);
                match pattern {
                    PatternType::Literal if name == WILDCARD => false,
                    PatternType::Literal => gives() && allows(name),
                    PatternType::Prefixed => gives() && allows(&format!("{name}{UNUSED}")),
                }
            })
    }

    /// The operations somebody may do with a resource, as the bits that clients are told (KIP-430).
    pub fn operations(&self, acls: &Acls, requester: Requester<'_>, resource: Resource<'_>) -> i32 {
        let known = resource.resource_type.operations().iter();
        known
            .filter(|operation| self.allows(acls, requester, **operation, resource))
            .fold(0, |bits, operation| bits | operation.bit())
    }
}

impl ResourceType {
    /// All operations that mean something for resources of this type, as bits: what whoever may do everything is told.
    pub fn operation_bits(self) -> i32 {
        self.operations()
            .iter()
            .fold(0, |bits, operation| bits | operation.bit())
    }
}

impl AclOperation {
    const fn bit(self) -> i32 {
        1 << self.code()
    }
}

fn verdict(
    acls: &Acls,
    requester: Requester<'_>,
    operation: AclOperation,
    resource: Resource<'_>,
) -> Verdict {
    let mut verdict = Verdict::NoRule;
    acls.visit(resource.resource_type, resource.name, |grants| {
        verdict = match says(grants, requester, operation) {
            Some(AclPermission::Deny) => Verdict::Denied,
            Some(AclPermission::Allow) => Verdict::Allowed,
            None if verdict == Verdict::NoRule => Verdict::NoMatch,
            None => verdict,
        };
        verdict == Verdict::Denied
    });
    verdict
}

/// What the rules of one pattern say; denying comes first.
fn says(grants: &Grants, requester: Requester<'_>, operation: AclOperation) -> Option<AclPermission> {
    const EVERYBODY: Principal = Principal::everybody();
    let mut allowed = None;
    for principal in [requester.principal, &EVERYBODY] {
        for grant in grants.get(principal).into_iter().flatten() {
            if !grant.host.is(requester.address) {
                continue;
            }
            match grant.permission {
                AclPermission::Deny if grant.operation.denies(operation) => return Some(AclPermission::Deny),
                AclPermission::Allow if grant.operation.allows(operation) => {
                    allowed = Some(AclPermission::Allow);
                }
                AclPermission::Deny | AclPermission::Allow => {}
            }
        }
    }
    allowed
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;
    use uuid::Uuid;

    use super::super::{AclBinding, AclHost};
    use super::*;

    const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
    const AWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

    fn acls(bindings: &[AclBinding]) -> Acls {
        let mut acls = Acls::default();
        for (number, binding) in (1..).zip(bindings) {
            if acls.id_of(binding).is_none() {
                acls.insert(Uuid::from_u128(number), binding.clone());
            }
        }
        acls
    }

    /// What the rules mean, written down as one would say it: every rule is looked at.
    fn model(
        authorizer: &Authorizer,
        bindings: &[AclBinding],
        requester: Requester<'_>,
        operation: AclOperation,
        resource: Resource<'_>,
    ) -> bool {
        if authorizer.super_users.contains(requester.principal) {
            return true;
        }
        let about: Vec<_> = bindings
            .iter()
            .filter(|rule| rule.resource_type == resource.resource_type)
            .filter(|rule| match rule.pattern {
                PatternType::Literal => rule.name == resource.name || rule.name == "*",
                PatternType::Prefixed => resource.name.starts_with(&rule.name),
            })
            .collect();
        if about.is_empty() {
            return authorizer.allow_everyone_if_no_acl_found;
        }
        let mine: Vec<_> = about
            .into_iter()
            .filter(|rule| rule.principal == *requester.principal || rule.principal.to_string() == "User:*")
            .filter(|rule| match rule.host {
                AclHost::Any => true,
                AclHost::Address(address) => address == requester.address,
            })
            .collect();
        let denied = mine.iter().any(|rule| {
            rule.permission == AclPermission::Deny
                && (rule.operation == operation || rule.operation == AclOperation::All)
        });
        let implied = |by: AclOperation| match operation {
            AclOperation::Describe => matches!(
                by,
                AclOperation::Read | AclOperation::Write | AclOperation::Delete | AclOperation::Alter
            ),
            AclOperation::DescribeConfigs => by == AclOperation::AlterConfigs,
            _ => false,
        };
        let allowed = mine.iter().any(|rule| {
            rule.permission == AclPermission::Allow
                && (rule.operation == operation
                    || rule.operation == AclOperation::All
                    || implied(rule.operation))
        });
        allowed && !denied
    }

    fn name() -> impl Strategy<Value = String> {
        // Few letters, one of them of several bytes, so that names are prefixes of each other.
        prop_oneof![
            1 => Just("*".to_owned()),
            9 => prop::collection::vec(prop::sample::select(vec!['a', 'b', 'ä']), 1..5).prop_map(String::from_iter),
        ]
    }

    fn principal() -> impl Strategy<Value = Principal> {
        prop::sample::select(vec!["User:ann", "User:bob", "User:*", "Group:ann"])
            .prop_map(|text| text.parse().unwrap())
    }

    fn resource_type() -> impl Strategy<Value = ResourceType> {
        prop::sample::select(vec![
            ResourceType::Topic,
            ResourceType::Topic,
            ResourceType::Group,
        ])
    }

    fn operation() -> impl Strategy<Value = AclOperation> {
        prop::sample::select(AclOperation::EVERY.to_vec())
    }

    fn binding() -> impl Strategy<Value = AclBinding> {
        let host = prop::sample::select(vec![AclHost::Any, AclHost::Any, AclHost::Address(HOME)]);
        let pattern = prop::sample::select(vec![PatternType::Literal, PatternType::Prefixed]);
        let permission = prop::sample::select(vec![
            AclPermission::Allow,
            AclPermission::Allow,
            AclPermission::Deny,
        ]);
        let parts = (
            resource_type(),
            name(),
            pattern,
            principal(),
            host,
            operation(),
            permission,
        );
        parts.prop_map(
            |(resource_type, name, pattern, principal, host, operation, permission)| AclBinding {
                resource_type,
                name,
                pattern,
                principal,
                host,
                operation,
                permission,
            },
        )
    }

    proptest! {
        #[test]
        fn the_authorizer_says_what_looking_at_every_rule_says(
            rules in prop::collection::vec(binding(), 0..24),
            gone in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
            asked in prop::collection::vec((resource_type(), name(), operation(), principal(), any::<bool>()), 16),
            is_ann_super in any::<bool>(),
            allow_everyone_if_no_acl_found in any::<bool>(),
        ) {
            let mut rules = rules;
            rules.sort();
            rules.dedup();
            let mut acls = acls(&rules);
            // What is left after removals is all that counts (CVE-2024-27309).
            for index in gone {
                if rules.is_empty() { break }
                let rule = rules.remove(index.index(rules.len()));
                let id = acls.id_of(&rule).unwrap();
                prop_assert!(acls.remove(id));
            }
            prop_assert_eq!(&acls, &acls_as(&acls, &rules));
            let authorizer = Authorizer {
                super_users: is_ann_super.then(|| Principal::user("ann")).into_iter().collect(),
                allow_everyone_if_no_acl_found,
            };
            for (resource_type, name, operation, principal, is_home) in asked {
                let address = if is_home { HOME } else { AWAY };
                let requester = Requester { principal: &principal, address };
                let resource = Resource { resource_type, name: &name };
                prop_assert_eq!(
                    authorizer.allows(&acls, requester, operation, resource),
                    model(&authorizer, &rules, requester, operation, resource),
                    "{:?} {} {:?}", principal, operation.code(), resource
                );
                // Somewhere: one of the names that make a difference.
                let mut names = vec!["zzz".to_owned()];
                for rule in rules.iter().filter(|rule| rule.name != "*" || rule.pattern == PatternType::Prefixed) {
                    names.push(match rule.pattern {
                        PatternType::Literal => rule.name.clone(),
                        PatternType::Prefixed => format!("{}zzz", rule.name),
                    });
                }
                let somewhere = names.iter().any(|name| {
                    model(&authorizer, &rules, requester, operation, Resource { resource_type, name })
                });
                prop_assert_eq!(
                    authorizer.allows_somewhere(&acls, requester, operation, resource_type),
                    somewhere
                );
            }
        }
    }

    /// The rules alone, under the ids they have.
    fn acls_as(known: &Acls, rules: &[AclBinding]) -> Acls {
        let mut acls = Acls::default();
        for rule in rules {
            acls.insert(known.id_of(rule).unwrap(), rule.clone());
        }
        acls
    }

    #[test]
    fn clients_that_ask_are_told_the_operations_they_may_do() {
        let rule = |operation, permission| AclBinding {
            resource_type: ResourceType::Topic,
            name: "pri".into(),
            pattern: PatternType::Prefixed,
            principal: Principal::user("ann"),
            host: AclHost::Any,
            operation,
            permission,
        };
        let acls = acls(&[
            rule(AclOperation::Read, AclPermission::Allow),
            rule(AclOperation::AlterConfigs, AclPermission::Allow),
            rule(AclOperation::DescribeConfigs, AclPermission::Deny),
        ]);
        let (ann, bob) = (Principal::user("ann"), Principal::user("bob"));
        let bits = |principal| {
            let requester = Requester {
                principal,
                address: HOME,
            };
            Authorizer::default().operations(&acls, requester, Resource::topic("prices"))
        };
        assert_eq!(bits(&ann), (1 << 3) | (1 << 8) | (1 << 11));
        assert_eq!(bits(&bob), 0);
        assert_eq!(ResourceType::Topic.operation_bits(), 0b1101_1111_1000);
    }
}
