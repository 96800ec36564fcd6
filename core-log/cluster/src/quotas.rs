//! Client quotas: who may use how much, and which limit counts for whom (KIP-13, KIP-124, KIP-546, KIP-599, KIP-612).
//!
//! # Invariants
//! - an entity names a user, a client id, both, or an address alone; never nothing;
//! - a limit is finite and above zero.

use std::collections::BTreeMap;

use crate::record::{ClientQuotaRecord, QuotaName};

/// What a quota limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuotaKey {
    /// Bytes per second a client may produce.
    ProducerByteRate,
    /// Bytes per second a client may fetch.
    ConsumerByteRate,
    /// Per cent of one thread's time that a client's requests may take.
    RequestPercentage,
    /// Partitions per second that may be created or deleted.
    ControllerMutationRate,
    /// Connections per second from one address.
    ConnectionCreationRate,
}

impl QuotaKey {
    /// Every key.
    pub const ALL: [QuotaKey; 5] = [
        QuotaKey::ProducerByteRate,
        QuotaKey::ConsumerByteRate,
        QuotaKey::RequestPercentage,
        QuotaKey::ControllerMutationRate,
        QuotaKey::ConnectionCreationRate,
    ];

    /// Kafka's name of the key.
    pub const fn name(self) -> &'static str {
        match self {
            QuotaKey::ProducerByteRate => "producer_byte_rate",
            QuotaKey::ConsumerByteRate => "consumer_byte_rate",
            QuotaKey::RequestPercentage => "request_percentage",
            QuotaKey::ControllerMutationRate => "controller_mutation_rate",
            QuotaKey::ConnectionCreationRate => "connection_creation_rate",
        }
    }

    /// The key of that name.
    pub fn from_name(name: &str) -> Option<QuotaKey> {
        QuotaKey::ALL.into_iter().find(|key| key.name() == name)
    }

    /// The largest whole number the key takes, for keys that take whole numbers only.
    pub(crate) const fn whole_number_up_to(self) -> Option<f64> {
        match self {
            // What 64 and 32 bits hold, as Kafka stores these keys.
            QuotaKey::ProducerByteRate | QuotaKey::ConsumerByteRate => Some(i64::MAX as f64),
            QuotaKey::ConnectionCreationRate => Some(i32::MAX as f64),
            QuotaKey::RequestPercentage | QuotaKey::ControllerMutationRate => None,
        }
    }
}

/// A limit per second: finite, above zero.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct QuotaLimit(f64);

/// Not a number is no limit, so that limits are equal to themselves.
impl Eq for QuotaLimit {}

impl QuotaLimit {
    /// A limit, unless the number is none.
    pub fn new(raw: f64) -> Option<QuotaLimit> {
        (raw.is_finite() && raw > 0.0).then_some(QuotaLimit(raw))
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.0
    }
}

/// Whom a quota is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuotaEntity {
    /// A user with any client id; all clients of the user share the limit.
    User(QuotaName),
    /// A client id of any user.
    ClientId(QuotaName),
    /// A client id of a user.
    UserClientId(QuotaName, QuotaName),
    /// An address.
    Ip(QuotaName),
}

/// The words for the parts of an entity, as requests carry them.
pub(crate) const USER: &str = "user";
/// See [`USER`].
pub(crate) const CLIENT_ID: &str = "client-id";
/// See [`USER`].
pub(crate) const IP: &str = "ip";

impl QuotaEntity {
    /// The entity's parts: the kind and the name of each; no name means the default.
    pub fn parts(&self) -> Vec<(&'static str, &QuotaName)> {
        match self {
            QuotaEntity::User(user) => vec![(USER, user)],
            QuotaEntity::ClientId(client_id) => vec![(CLIENT_ID, client_id)],
            QuotaEntity::UserClientId(user, client_id) => vec![(USER, user), (CLIENT_ID, client_id)],
            QuotaEntity::Ip(ip) => vec![(IP, ip)],
        }
    }

    /// Whether `key` can be set for an entity of this kind.
    pub fn takes(&self, key: QuotaKey) -> bool {
        let is_for_addresses = key == QuotaKey::ConnectionCreationRate;
        matches!(self, QuotaEntity::Ip(_)) == is_for_addresses
    }

    pub(crate) fn from_names(
        user: Option<QuotaName>,
        client_id: Option<QuotaName>,
        ip: Option<QuotaName>,
    ) -> Option<Self> {
        match (user, client_id, ip) {
            (Some(user), None, None) => Some(QuotaEntity::User(user)),
            (None, Some(client_id), None) => Some(QuotaEntity::ClientId(client_id)),
            (Some(user), Some(client_id), None) => Some(QuotaEntity::UserClientId(user, client_id)),
            (None, None, Some(ip)) => Some(QuotaEntity::Ip(ip)),
            _ => None,
        }
    }

    /// The record that gives the entity a limit, or takes it away.
    pub(crate) fn record(&self, key: QuotaKey, limit: Option<QuotaLimit>) -> ClientQuotaRecord {
        let (user, client_id, ip) = match self.clone() {
            QuotaEntity::User(user) => (Some(user), None, None),
            QuotaEntity::ClientId(client_id) => (None, Some(client_id), None),
            QuotaEntity::UserClientId(user, client_id) => (Some(user), Some(client_id), None),
            QuotaEntity::Ip(ip) => (None, None, Some(ip)),
        };
        ClientQuotaRecord {
            user,
            client_id,
            ip,
            key: key.name().to_owned(),
            limit: limit.map(|limit| limit.get().to_string()),
        }
    }
}

/// QuotaLimits of one entity.
pub type QuotaLimits = BTreeMap<QuotaKey, QuotaLimit>;

/// Every quota of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClientQuotas {
    entities: BTreeMap<QuotaEntity, QuotaLimits>,
}

/// Who shares a limit: what is used counts together for everyone with the same scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuotaScope<'a> {
    /// Nothing when the limit is for a client id whoever the user is.
    pub user: Option<&'a str>,
    /// Nothing when all clients of the user share the limit.
    pub client_id: Option<&'a str>,
}

impl ClientQuotas {
    /// Whether nobody is limited.
    pub fn is_empty(&self) -> bool {
        self.entities.is_empty()
    }

    /// Every entity with its limits.
    pub fn iter(&self) -> impl Iterator<Item = (&QuotaEntity, &QuotaLimits)> {
        self.entities.iter()
    }

    /// The limits of one entity itself.
    pub fn get(&self, entity: &QuotaEntity) -> Option<&QuotaLimits> {
        self.entities.get(entity)
    }

    /// Whether anybody has a limit on `key`.
    pub fn limits_any(&self, key: QuotaKey) -> bool {
        self.entities.values().any(|limits| limits.contains_key(&key))
    }

    /// The limit that counts for a client, and who shares it. The most specific entity wins: a user with a client id
    /// before a user, a name before the default, users before client ids.
    pub fn limit_for<'a>(
        &self,
        key: QuotaKey,
        user: &'a str,
        client_id: &'a str,
    ) -> Option<(QuotaLimit, QuotaScope<'a>)> {
        let users = [QuotaName::Named(user.to_owned()), QuotaName::Default];
        let clients = [QuotaName::Named(client_id.to_owned()), QuotaName::Default];
        let both = QuotaScope {
            user: Some(user),
            client_id: Some(client_id),
        };
        let of_user = QuotaScope {
            client_id: None,
            ..both
        };
        let of_client = QuotaScope { user: None, ..both };
        for user in &users {
            for client in &clients {
                let entity = QuotaEntity::UserClientId(user.clone(), client.clone());
                if let Some(limit) = self.find(&entity, key) {
                    return Some((limit, both));
                }
            }
            if let Some(limit) = self.find(&QuotaEntity::User(user.clone()), key) {
                return Some((limit, of_user));
            }
        }
        clients
            .into_iter()
            .find_map(|client| self.find(&QuotaEntity::ClientId(client), key))
            .map(|limit| (limit, of_client))
    }

    /// How many connections per second an address may open.
    pub fn connection_rate_for(&self, ip: &str) -> Option<QuotaLimit> {
        let names = [QuotaName::Named(ip.to_owned()), QuotaName::Default];
        names
            .into_iter()
            .find_map(|name| self.find(&QuotaEntity::Ip(name), QuotaKey::ConnectionCreationRate))
    }

    fn find(&self, entity: &QuotaEntity, key: QuotaKey) -> Option<QuotaLimit> {
        self.entities.get(entity)?.get(&key).copied()
    }

    /// Sets or takes away one limit; an entity without limits is forgotten.
    pub(crate) fn set(&mut self, entity: QuotaEntity, key: QuotaKey, limit: Option<QuotaLimit>) {
        let limits = self.entities.entry(entity.clone()).or_default();
        match limit {
            Some(limit) => limits.insert(key, limit),
            None => limits.remove(&key),
        };
        if limits.is_empty() {
            self.entities.remove(&entity);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> QuotaName {
        QuotaName::Named(name.into())
    }

    #[test]
    fn the_most_specific_entity_wins_and_says_who_shares_its_limit() {
        use QuotaName::Default;
        // From the least to the most specific: each new entity takes precedence over those before it.
        let steps = [
            (QuotaEntity::ClientId(Default), (None, Some("app"))),
            (QuotaEntity::ClientId(named("app")), (None, Some("app"))),
            (QuotaEntity::User(Default), (Some("ann"), None)),
            (
                QuotaEntity::UserClientId(Default, Default),
                (Some("ann"), Some("app")),
            ),
            (
                QuotaEntity::UserClientId(Default, named("app")),
                (Some("ann"), Some("app")),
            ),
            (QuotaEntity::User(named("ann")), (Some("ann"), None)),
            (
                QuotaEntity::UserClientId(named("ann"), Default),
                (Some("ann"), Some("app")),
            ),
            (
                QuotaEntity::UserClientId(named("ann"), named("app")),
                (Some("ann"), Some("app")),
            ),
        ];
        let mut quotas = ClientQuotas::default();
        let key = QuotaKey::ProducerByteRate;
        assert_eq!(quotas.limit_for(key, "ann", "app"), None);
        for (number, (entity, (user, client_id))) in (1..).zip(steps) {
            quotas.set(entity, key, QuotaLimit::new(f64::from(number)));
            let (limit, scope) = quotas.limit_for(key, "ann", "app").unwrap();
            assert_eq!(
                (limit.get(), scope),
                (f64::from(number), QuotaScope { user, client_id })
            );
            assert_eq!(quotas.limit_for(QuotaKey::ConsumerByteRate, "ann", "app"), None);
        }
        let (limit, _) = quotas.limit_for(key, "bob", "other").unwrap();
        assert_eq!(
            limit.get(),
            4.0,
            "another user's other client falls to the defaults"
        );
    }

    #[test]
    fn an_entity_without_limits_is_forgotten() {
        let mut quotas = ClientQuotas::default();
        let entity = QuotaEntity::Ip(QuotaName::Default);
        let key = QuotaKey::ConnectionCreationRate;
        quotas.set(entity.clone(), key, QuotaLimit::new(5.0));
        assert_eq!(quotas.connection_rate_for("10.0.0.1"), QuotaLimit::new(5.0));
        quotas.set(entity, key, None);
        assert!(quotas.is_empty());
    }
}
