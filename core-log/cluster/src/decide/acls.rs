//! Making and removing access rules (KIP-140, KIP-290).

use std::collections::BTreeSet;

use uuid::Uuid;

use crate::{
    acl::{
        AclBinding, AclFilter, AclHost, AclOperation, AclPermission, Acls, CLUSTER_NAME, PatternFilter,
        PatternType, ResourceType,
    },
    image::MetadataImage,
    principal::Principal,
    record::{MetadataRecord, RemoveAclRecord},
};

/// Rules of a cluster. Each costs a few hundred bytes in memory and in every snapshot.
const MAX_ACLS: usize = 50_000;

/// Rules that one request may make or remove, as in Kafka.
const MAX_CHANGES: usize = 10_000;

/// Filters of one request: each looks at every rule.
const MAX_FILTERS: usize = 1_000;

/// Longest name of a resource in a rule.
const MAX_RESOURCE_NAME_BYTES: usize = 1_024;

/// Longest principal in a rule; the names in certificates are long.
const MAX_PRINCIPAL_BYTES: usize = 1_024;

/// A rule as a request asks for it, in its numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAcl {
    /// A fresh identity.
    pub id: Uuid,
    /// The type of the resource.
    pub resource_type: i8,
    /// Its name, or how it begins.
    pub name: String,
    /// Which of the two.
    pub pattern: i8,
    /// For whom.
    pub principal: String,
    /// From where.
    pub host: String,
    /// What.
    pub operation: i8,
    /// May or must not.
    pub permission: i8,
}

/// A filter as a request gives it, in its numbers; 1 is any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestedAclFilter {
    /// The type of the resource.
    pub resource_type: i8,
    /// The name.
    pub name: Option<String>,
    /// How names are compared.
    pub pattern: i8,
    /// The principal.
    pub principal: Option<String>,
    /// The host.
    pub host: Option<String>,
    /// The operation.
    pub operation: i8,
    /// The permission.
    pub permission: i8,
}

/// Why a rule was not made or rules were not removed or found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AclError {
    /// A number that stands for nothing, or not for one thing: INVALID_REQUEST (42).
    #[error("{code} is no {what}")]
    UnknownCode {
        /// What the number should be.
        what: &'static str,
        /// The number.
        code: i8,
    },
    /// A resource without a name, or with a very long one: INVALID_REQUEST (42).
    #[error(
        "the name of a rule's resource has 1 to {MAX_RESOURCE_NAME_BYTES} bytes, none of them a control character"
    )]
    InvalidName,
    /// Another cluster: INVALID_REQUEST (42).
    #[error("the cluster is named '{CLUSTER_NAME}' in rules, not '{name}'")]
    InvalidCluster {
        /// The name as given.
        name: String,
    },
    /// Not a principal: INVALID_REQUEST (42).
    #[error(
        "'{principal}' is no principal; write its type, a colon and its name, such as User:alice, or User:* for everybody"
    )]
    InvalidPrincipal {
        /// The text as given, if it is short.
        principal: String,
    },
    /// Not an address: INVALID_REQUEST (42). Kafka takes the text, and no client ever matches it.
    #[error("'{host}' is no address; use the IP address of a client, or * for all")]
    InvalidHost {
        /// The text as given, if it is short.
        host: String,
    },
    /// Too many rules: POLICY_VIOLATION (44).
    #[error(
        "the cluster has {MAX_ACLS} access rules, as many as may be; remove some, or use prefixes and wildcards"
    )]
    TooManyAcls,
    /// Too many changes in one request: POLICY_VIOLATION (44).
    #[error(
        "a request makes or removes at most {MAX_CHANGES} access rules with at most {MAX_FILTERS} filters; send several"
    )]
    TooManyChanges,
}

/// Decides about new rules. One outcome per rule, in their order; a rule that exists is no error and no record.
pub fn create_acls(image: &MetadataImage, acls: &[NewAcl]) -> Vec<Result<Option<MetadataRecord>, AclError>> {
    let mut fresh: BTreeSet<AclBinding> = BTreeSet::new();
    let known = image.acls();
    acls.iter()
        .map(|acl| {
            let binding = binding(acl)?;
            if known.id_of(&binding).is_some() || fresh.contains(&binding) {
                return Ok(None);
            }
            if known.len() + fresh.len() >= MAX_ACLS {
                return Err(AclError::TooManyAcls);
            }
            if fresh.len() >= MAX_CHANGES {
                return Err(AclError::TooManyChanges);
            }
            let record = MetadataRecord::Acl(binding.record(acl.id));
            fresh.insert(binding);
            Ok(Some(record))
        })
        .collect()
}

fn binding(acl: &NewAcl) -> Result<AclBinding, AclError> {
    let resource_type = ResourceType::from_code(acl.resource_type)
        .ok_or_else(|| unknown("resource type of a rule", acl.resource_type))?;
    let pattern =
        PatternType::from_code(acl.pattern).ok_or_else(|| unknown("pattern type of a rule", acl.pattern))?;
    let operation = AclOperation::from_code(acl.operation)
        .ok_or_else(|| unknown("operation of a rule", acl.operation))?;
    let permission = AclPermission::from_code(acl.permission)
        .ok_or_else(|| unknown("permission of a rule", acl.permission))?;
    let is_named = (1..=MAX_RESOURCE_NAME_BYTES).contains(&acl.name.len());
    if !is_named || acl.name.contains(char::is_control) {
        return Err(AclError::InvalidName);
    }
    if resource_type == ResourceType::Cluster && acl.name != CLUSTER_NAME {
        let name = short(&acl.name);
        return Err(AclError::InvalidCluster { name });
    }
    let principal: Option<Principal> = acl.principal.parse().ok();
    let principal = principal
        .filter(|_| acl.principal.len() <= MAX_PRINCIPAL_BYTES && !acl.principal.contains(char::is_control))
        .ok_or_else(|| AclError::InvalidPrincipal {
            principal: short(&acl.principal),
        })?;
    let host = AclHost::parse(&acl.host).ok_or_else(|| AclError::InvalidHost {
        host: short(&acl.host),
    })?;
    Ok(AclBinding {
        resource_type,
        name: acl.name.clone(),
        pattern,
        principal,
        host,
        operation,
        permission,
    })
}

/// Text of a request as a message may repeat it.
fn short(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(100).collect()
}

const fn unknown(what: &'static str, code: i8) -> AclError {
    AclError::UnknownCode { what, code }
}

impl RequestedAclFilter {
    /// What the numbers mean.
    ///
    /// # Errors
    /// [`AclError::UnknownCode`].
    pub fn understood(&self) -> Result<AclFilter, AclError> {
        const ANY: i8 = 1;
        const MATCH: i8 = 2;
        fn known<T>(code: i8, read: fn(i8) -> Option<T>, what: &'static str) -> Result<Option<T>, AclError> {
            match code {
                ANY => Ok(None),
                code => read(code).map(Some).ok_or_else(|| unknown(what, code)),
            }
        }
        let pattern = match self.pattern {
            MATCH => PatternFilter::Match,
            code => known(code, PatternType::from_code, "pattern type of a filter")?
                .map_or(PatternFilter::Any, PatternFilter::Only),
        };
        Ok(AclFilter {
            resource_type: known(
                self.resource_type,
                ResourceType::from_code,
                "resource type of a filter",
            )?,
            name: self.name.clone(),
            pattern,
            principal: self.principal.clone(),
            host: self.host.clone(),
            operation: known(self.operation, AclOperation::from_code, "operation of a filter")?,
            permission: known(
                self.permission,
                AclPermission::from_code,
                "permission of a filter",
            )?,
        })
    }
}

/// What the filters of a request would remove, filter by filter.
pub type Removals = Vec<Result<Vec<AclBinding>, AclError>>;

/// Decides about the rules to remove: those that each filter matches, and the records that remove them, once each.
pub fn delete_acls(image: &MetadataImage, filters: &[RequestedAclFilter]) -> (Removals, Vec<MetadataRecord>) {
    let mut gone: BTreeSet<Uuid> = BTreeSet::new();
    let mut shown = 0;
    let removals = filters.iter().enumerate().map(|(position, filter)| {
        let filter = filter.understood()?;
        if position >= MAX_FILTERS {
            return Err(AclError::TooManyChanges);
        }
        let found: Vec<_> =
            find(image.acls(), &filter, MAX_CHANGES - shown).ok_or(AclError::TooManyChanges)?;
        shown += found.len();
        gone.extend(found.iter().map(|(_, id)| *id));
        Ok(found.into_iter().map(|(binding, _)| binding.clone()).collect())
    });
    let removals: Removals = removals.collect();
    let record = |id| MetadataRecord::RemoveAcl(RemoveAclRecord { id });
    (removals, gone.into_iter().map(record).collect())
}

/// What a filter matches, unless that is more than `most`.
fn find<'a>(acls: &'a Acls, filter: &'a AclFilter, most: usize) -> Option<Vec<(&'a AclBinding, Uuid)>> {
    let found: Vec<_> = acls.find(filter).take(most + 1).collect();
    (found.len() <= most).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(number: u128) -> NewAcl {
        NewAcl {
            id: Uuid::from_u128(number),
            resource_type: 2,
            name: format!("topic-{number}"),
            pattern: 3,
            principal: "User:ann".into(),
            host: "*".into(),
            operation: 3,
            permission: 3,
        }
    }

    fn any() -> RequestedAclFilter {
        RequestedAclFilter {
            resource_type: 1,
            name: None,
            pattern: 1,
            principal: None,
            host: None,
            operation: 1,
            permission: 1,
        }
    }

    fn refused(change: impl Fn(&mut NewAcl)) -> String {
        let mut acl = new(1);
        change(&mut acl);
        let outcome = create_acls(&MetadataImage::default(), &[acl]).remove(0);
        outcome.unwrap_err().to_string()
    }

    fn image_of(acls: &[NewAcl]) -> MetadataImage {
        let records: Vec<_> = create_acls(&MetadataImage::default(), acls)
            .into_iter()
            .filter_map(Result::unwrap)
            .collect();
        MetadataImage::default().apply(&records).unwrap()
    }

    #[test]
    fn hostile_84_rules_that_are_none_are_refused() {
        for code in [i8::MIN, -1, 0, 1, 8, i8::MAX] {
            assert!(refused(|acl| acl.resource_type = code).contains("no resource type"));
        }
        // Any and match belong into filters.
        for code in [i8::MIN, -1, 0, 1, 2, 5, i8::MAX] {
            assert!(refused(|acl| acl.pattern = code).contains("no pattern type"));
        }
        for code in [i8::MIN, -1, 0, 1, 16, i8::MAX] {
            assert!(refused(|acl| acl.operation = code).contains("no operation"));
        }
        for code in [i8::MIN, -1, 0, 1, 4, i8::MAX] {
            assert!(refused(|acl| acl.permission = code).contains("no permission"));
        }
        for name in ["", "a\nb", &"x".repeat(MAX_RESOURCE_NAME_BYTES + 1)] {
            assert!(refused(|acl| acl.name = name.into()).contains("the name of a rule's resource"));
        }
        for principal in [
            "",
            "*",
            "ann",
            "User:",
            ":ann",
            "User:a\nb",
            &format!("User:{}", "x".repeat(9_999)),
        ] {
            let refused = refused(|acl| acl.principal = principal.into());
            assert!(
                refused.contains("is no principal") && refused.len() < 300,
                "{refused}"
            );
        }
        for host in [
            "",
            "localhost",
            "10.0.0.0/8",
            "10.0.0.*",
            "300.1.1.1",
            &"1".repeat(9_999),
        ] {
            let refused = refused(|acl| acl.host = host.into());
            assert!(
                refused.contains("is no address") && refused.len() < 300,
                "{refused}"
            );
        }
        let other_cluster = refused(|acl| (acl.resource_type, acl.name) = (4, "*".into()));
        assert!(other_cluster.contains("'kafka-cluster'"), "{other_cluster}");
    }

    #[test]
    fn hostile_84_a_flood_of_rules_ends_at_a_bound_and_each_rule_is_kept_once() {
        let mut image = MetadataImage::default();
        let mut made = 0;
        for start in (1..).step_by(MAX_CHANGES + 1) {
            let flood: Vec<_> = (start..).take(MAX_CHANGES + 1).map(new).collect();
            let outcomes = create_acls(&image, &flood);
            let last = outcomes.last().unwrap().clone().unwrap_err();
            let records: Vec<_> = outcomes.into_iter().filter_map(Result::ok).flatten().collect();
            made += records.len();
            if records.is_empty() {
                assert_eq!(last, AclError::TooManyAcls);
                break;
            }
            image = image.apply(&records).unwrap();
        }
        assert_eq!((made, image.acls().len()), (MAX_ACLS, MAX_ACLS));
        let again = NewAcl {
            id: Uuid::from_u128(u128::MAX),
            ..new(1)
        };
        assert_eq!(create_acls(&image, &[again]), [Ok(None)]);

        let (removals, records) = delete_acls(&image, &[any()]);
        assert_eq!((removals, records), (vec![Err(AclError::TooManyChanges)], vec![]));
        let many = vec![
            RequestedAclFilter {
                name: Some("nothing".into()),
                ..any()
            };
            MAX_FILTERS + 1
        ];
        let (removals, _) = delete_acls(&MetadataImage::default(), &many);
        assert_eq!(removals.iter().filter(|removal| removal.is_err()).count(), 1);
    }

    #[test]
    fn the_same_rule_twice_in_a_request_is_made_once() {
        let twice = [
            new(1),
            NewAcl {
                id: Uuid::from_u128(2),
                ..new(1)
            },
        ];
        let outcomes = create_acls(&MetadataImage::default(), &twice);
        assert!(matches!(&outcomes[..], [Ok(Some(_)), Ok(None)]), "{outcomes:?}");
    }

    #[test]
    fn filters_find_by_name_by_pattern_and_by_what_holds_for_a_name() {
        let rule = |number, name: &str, pattern| NewAcl {
            name: name.into(),
            pattern,
            ..new(number)
        };
        let image = image_of(&[
            rule(1, "prices", 3),
            rule(2, "pri", 4),
            rule(3, "*", 3),
            rule(4, "prices", 4),
            NewAcl {
                principal: "User:bob".into(),
                host: "10.0.0.1".into(),
                ..rule(5, "orders", 3)
            },
        ]);
        let found = |filter: RequestedAclFilter| -> Vec<u128> {
            let (removals, _) = delete_acls(&image, &[filter]);
            let bindings = removals.into_iter().next().unwrap().unwrap();
            let mut ids: Vec<u128> = bindings
                .iter()
                .map(|binding| image.acls().id_of(binding).unwrap().as_u128())
                .collect();
            ids.sort_unstable();
            ids
        };
        let named = |name: &str, pattern| RequestedAclFilter {
            name: Some(name.into()),
            pattern,
            ..any()
        };
        assert_eq!(found(any()), [1, 2, 3, 4, 5]);
        assert_eq!(found(named("prices", 1)), [1, 4]);
        assert_eq!(found(named("prices", 2)), [1, 2, 3, 4]);
        assert_eq!(found(named("prices", 3)), [1]);
        assert_eq!(found(named("prices", 4)), [4]);
        assert_eq!(found(RequestedAclFilter { pattern: 4, ..any() }), [2, 4]);
        assert_eq!(
            found(RequestedAclFilter {
                principal: Some("User:bob".into()),
                ..any()
            }),
            [5]
        );
        assert_eq!(
            found(RequestedAclFilter {
                host: Some("::ffff:10.0.0.1".into()),
                ..any()
            }),
            [5]
        );
        assert!(
            found(RequestedAclFilter {
                host: Some("nowhere".into()),
                ..any()
            })
            .is_empty()
        );
        assert!(
            found(RequestedAclFilter {
                operation: 2,
                ..any()
            })
            .is_empty()
        );
        assert!(
            found(RequestedAclFilter {
                permission: 2,
                ..any()
            })
            .is_empty()
        );
        for bad in [
            RequestedAclFilter {
                resource_type: 0,
                ..any()
            },
            RequestedAclFilter { pattern: 0, ..any() },
            RequestedAclFilter {
                operation: 16,
                ..any()
            },
            RequestedAclFilter {
                permission: -1,
                ..any()
            },
        ] {
            assert!(bad.understood().is_err(), "{bad:?}");
        }
        let (_, records) = delete_acls(&image, &[named("prices", 1), any()]);
        assert_eq!(records.len(), 5, "what two filters match is removed once");
        assert!(image.apply(&records).unwrap().acls().is_empty());
    }
}
