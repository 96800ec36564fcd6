//! The rules of the cluster, found by what they are about.
//!
//! A check touches the rules of one name, those of all names, and those of the prefixes of the name, and among them
//! those of two principals: how many other rules there are hardly matters.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use uuid::Uuid;

use super::{AclBinding, AclHost, AclOperation, AclPermission, PatternType, ResourceType, WILDCARD};
use crate::principal::Principal;

/// Every rule of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acls {
    by_id: BTreeMap<Uuid, Arc<AclBinding>>,
    ids: BTreeMap<Arc<AclBinding>, Uuid>,
    by_type: BTreeMap<ResourceType, Patterns>,
}

/// The rules about resources of one type, by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Patterns {
    literal: BTreeMap<String, Grants>,
    prefixed: BTreeMap<String, Grants>,
}

/// The rules of one pattern.
pub(super) type Grants = BTreeMap<Principal, BTreeSet<Grant>>;

/// What a rule says about somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Grant {
    pub(super) host: AclHost,
    pub(super) operation: AclOperation,
    pub(super) permission: AclPermission,
}

/// Which rules a request is about; what is not said matches everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclFilter {
    /// The type of the resource.
    pub resource_type: Option<ResourceType>,
    /// The name, to be read as `pattern` says.
    pub name: Option<String>,
    /// How names are compared.
    pub pattern: PatternFilter,
    /// The principal, in its written form.
    pub principal: Option<String>,
    /// The host; a text that is no host matches nothing.
    pub host: Option<String>,
    /// The operation itself, not what it implies.
    pub operation: Option<AclOperation>,
    /// The permission.
    pub permission: Option<AclPermission>,
}

/// How the name in a filter is compared with those of rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatternFilter {
    /// Equal names, whatever the kind of pattern.
    Any,
    /// Rules that hold for a resource of this name.
    Match,
    /// Equal names of this kind of pattern.
    Only(PatternType),
}

impl Acls {
    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The rules with their ids, those of one resource pattern next to each other.
    pub fn iter(&self) -> impl Iterator<Item = (&AclBinding, Uuid)> {
        self.ids.iter().map(|(binding, id)| (&**binding, *id))
    }

    /// The id of a rule, if there is one that says the same.
    pub fn id_of(&self, binding: &AclBinding) -> Option<Uuid> {
        self.ids.get(binding).copied()
    }

    pub(crate) fn get(&self, id: Uuid) -> Option<&AclBinding> {
        self.by_id.get(&id).map(|binding| &**binding)
    }

    /// Adds a rule that is not there, under an id that is not taken.
    pub(crate) fn insert(&mut self, id: Uuid, binding: AclBinding) {
        let patterns = self.by_type.entry(binding.resource_type).or_default();
        let names = patterns.of(binding.pattern);
        let grants = names.entry(binding.name.clone()).or_default();
        let grants = grants.entry(binding.principal.clone()).or_default();
        grants.insert(binding.grant());
        let binding = Arc::new(binding);
        self.by_id.insert(id, Arc::clone(&binding));
        self.ids.insert(binding, id);
    }

    /// Removes a rule; says whether it was there.
    pub(crate) fn remove(&mut self, id: Uuid) -> bool {
        let Some(binding) = self.by_id.remove(&id) else {
            return false;
        };
        self.ids.remove(&binding);
        let Some(patterns) = self.by_type.get_mut(&binding.resource_type) else {
            return true;
        };
        let names = patterns.of(binding.pattern);
        if let Some(grants) = names.get_mut(&binding.name) {
            if let Some(of_principal) = grants.get_mut(&binding.principal) {
                of_principal.remove(&binding.grant());
                if of_principal.is_empty() {
                    grants.remove(&binding.principal);
                }
            }
            if grants.is_empty() {
                names.remove(&binding.name);
            }
        }
        if patterns.literal.is_empty() && patterns.prefixed.is_empty() {
            self.by_type.remove(&binding.resource_type);
        }
        true
    }

    /// The rules a filter matches.
    pub fn find<'a>(&'a self, filter: &'a AclFilter) -> impl Iterator<Item = (&'a AclBinding, Uuid)> {
        let host = filter.host.as_deref().map(AclHost::parse);
        self.iter().filter(move |(binding, _)| {
            filter.matches_resource(binding)
                && filter.operation.is_none_or(|wanted| wanted == binding.operation)
                && filter
                    .permission
                    .is_none_or(|wanted| wanted == binding.permission)
                && host.is_none_or(|wanted| wanted == Some(binding.host))
                && filter
                    .principal
                    .as_deref()
                    .is_none_or(|wanted| binding.principal.is_written(wanted))
        })
    }

    /// Calls `visit` with the rules of every pattern that holds for the resource, until it says that it has seen enough.
    pub(super) fn visit(
        &self,
        resource_type: ResourceType,
        name: &str,
        mut visit: impl FnMut(&Grants) -> bool,
    ) {
        let Some(patterns) = self.by_type.get(&resource_type) else {
            return;
        };
        for literal in [name, WILDCARD] {
            if patterns.literal.get(literal).is_some_and(&mut visit) {
                return;
            }
        }
        // Prefixes of the name from the longest to the shortest. A key that is none of them shows how much of the name
        // the next one can have at most: what they have in common.
        let mut bound = name;
        while let Some((prefix, grants)) = last_up_to(&patterns.prefixed, bound) {
            let shared = shared_bytes(prefix, name);
            if shared == prefix.len() {
                if visit(grants) {
                    return;
                }
                let shorter = name[..shared].chars().next_back().map_or(0, char::len_utf8);
                bound = &name[..shared - shorter];
            } else {
                bound = &name[..shared];
            }
            if bound.is_empty() {
                return;
            }
        }
    }

    /// Every pattern that rules about resources of a type have.
    pub(super) fn patterns(
        &self,
        resource_type: ResourceType,
    ) -> impl Iterator<Item = (&str, PatternType, &Grants)> {
        let patterns = self.by_type.get(&resource_type);
        patterns.into_iter().flat_map(|patterns| {
            let literal = patterns.literal.iter();
            let literal = literal.map(|(name, grants)| (name.as_str(), PatternType::Literal, grants));
            let prefixed = patterns.prefixed.iter();
            literal.chain(prefixed.map(|(name, grants)| (name.as_str(), PatternType::Prefixed, grants)))
        })
    }
}

/// The last entry whose name is not above `bound`.
fn last_up_to<'a>(names: &'a BTreeMap<String, Grants>, bound: &str) -> Option<(&'a String, &'a Grants)> {
    let range = (Bound::Unbounded, Bound::Included(bound));
    names.range::<str, _>(range).next_back()
}

/// The length of what both texts begin with, at a character's end.
fn shared_bytes(one: &str, other: &str) -> usize {
    let pairs = one.chars().zip(other.chars());
    pairs.take_while(|(a, b)| a == b).map(|(a, _)| a.len_utf8()).sum()
}

impl Patterns {
    fn of(&mut self, pattern: PatternType) -> &mut BTreeMap<String, Grants> {
        match pattern {
            PatternType::Literal => &mut self.literal,
            PatternType::Prefixed => &mut self.prefixed,
        }
    }
}

impl AclBinding {
    fn grant(&self) -> Grant {
        Grant {
            host: self.host,
            operation: self.operation,
            permission: self.permission,
        }
    }
}

impl AclFilter {
    fn matches_resource(&self, binding: &AclBinding) -> bool {
        if self
            .resource_type
            .is_some_and(|wanted| wanted != binding.resource_type)
        {
            return false;
        }
        let wanted = self.name.as_deref();
        let is_name = wanted.is_none_or(|wanted| wanted == binding.name);
        match (self.pattern, binding.pattern) {
            (PatternFilter::Any, _) => is_name,
            (PatternFilter::Only(kind), pattern) => kind == pattern && is_name,
            (PatternFilter::Match, PatternType::Literal) => is_name || binding.name == WILDCARD,
            (PatternFilter::Match, PatternType::Prefixed) => {
                wanted.is_none_or(|wanted| wanted.starts_with(&binding.name))
            }
        }
    }
}
