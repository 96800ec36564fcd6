//! Changing and finding client quotas (KIP-546).

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Outcome, by_key};
use crate::{
    image::MetadataImage,
    quotas::{CLIENT_ID, IP, QuotaEntity, QuotaKey, QuotaLimit, QuotaLimits, USER},
    record::{MetadataRecord, QuotaName},
};

/// An entity as a request names it: the kind and the name of each part; no name means the default.
pub type RequestedEntity = Vec<(String, Option<String>)>;

/// Operations on one entity's quotas.
#[derive(Debug, Clone, PartialEq)]
pub struct QuotaAlteration {
    /// Whose quotas.
    pub entity: RequestedEntity,
    /// The keys with their new limits; `None` takes the limit away.
    pub operations: Vec<(String, Option<f64>)>,
}

/// Why quotas were not changed or found.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum QuotaError {
    /// No part at all: INVALID_REQUEST (42).
    #[error("a quota is for a user, a client-id, both, or an ip; the request names nobody")]
    NoEntity,
    /// A kind of entity that is not known: INVALID_REQUEST (42) in a change, UNSUPPORTED_VERSION (35) in a question.
    #[error("'{entity_type}' is no kind of quota entity; use user, client-id or ip")]
    UnknownEntityType {
        /// The kind as given.
        entity_type: String,
    },
    /// A part twice, or an address with anything else: INVALID_REQUEST (42).
    #[error(
        "a quota is for a user, a client-id, both, or an ip alone; '{entity_type}' does not fit the rest"
    )]
    Combination {
        /// The kind that is too much.
        entity_type: String,
    },
    /// An empty name: INVALID_REQUEST (42).
    #[error("the name of a {entity_type} is empty; leave it out to mean the default")]
    EmptyName {
        /// The kind.
        entity_type: &'static str,
    },
    /// Not an address: INVALID_REQUEST (42).
    #[error("'{name}' is no IP address")]
    InvalidIp {
        /// The name as given.
        name: String,
    },
    /// A key that is not known, or not for this kind of entity: INVALID_REQUEST (42).
    #[error("'{key}' is no quota of this kind of entity")]
    UnknownKey {
        /// The key as given.
        key: String,
    },
    /// A key twice: INVALID_REQUEST (42).
    #[error("quota '{key}' occurs more than once for the same entity")]
    DuplicateKey {
        /// The key.
        key: String,
    },
    /// Zero, negative, infinite or no number, or a fraction where whole numbers are counted: INVALID_REQUEST (42).
    #[error("quota '{key}' cannot be {value}: {expected}")]
    InvalidLimit {
        /// The key.
        key: &'static str,
        /// The number as given.
        value: f64,
        /// What would be accepted.
        expected: &'static str,
    },
    /// The entity is named more than once: INVALID_REQUEST (42).
    #[error("the request names this entity more than once")]
    DuplicateInRequest,
    /// A filter that does not say what to match, or says it in two ways: INVALID_REQUEST (42).
    #[error("the filter on '{entity_type}' is not understood: {problem}")]
    InvalidFilter {
        /// The kind of entity.
        entity_type: String,
        /// What is wrong.
        problem: &'static str,
    },
}

/// Decides about quotas. One outcome per entity, in order of first mention; an entity changes as a whole or not at all.
pub fn alter_client_quotas(
    image: &MetadataImage,
    alterations: &[QuotaAlteration],
) -> Vec<Outcome<RequestedEntity, Vec<MetadataRecord>, QuotaError>> {
    by_key(alterations, |alteration| alteration.entity.clone())
        .into_iter()
        .map(|(subject, alteration)| Outcome {
            result: alteration
                .ok_or(QuotaError::DuplicateInRequest)
                .and_then(|alteration| alter(image, alteration)),
            subject,
        })
        .collect()
}

fn alter(image: &MetadataImage, alteration: &QuotaAlteration) -> Result<Vec<MetadataRecord>, QuotaError> {
    let entity = entity(&alteration.entity)?;
    let current = image.client_quotas().get(&entity);
    let mut seen = BTreeSet::new();
    let mut records = Vec::new();
    for (name, value) in &alteration.operations {
        let known = QuotaKey::from_name(name).filter(|key| entity.takes(*key));
        let key = match (known, value) {
            (Some(key), _) => key,
            // Nothing can be there to take away; Kafka, too, looks at the key only when it is given a limit.
            (None, None) => continue,
            (None, Some(_)) => return Err(QuotaError::UnknownKey { key: name.clone() }),
        };
        if !seen.insert(key) {
            return Err(QuotaError::DuplicateKey { key: name.clone() });
        }
        let limit = value.map(|value| checked_limit(key, value)).transpose()?;
        let known = current.and_then(|limits| limits.get(&key)).copied();
        if known != limit {
            records.push(MetadataRecord::ClientQuota(entity.record(key, limit)));
        }
    }
    Ok(records)
}

fn checked_limit(key: QuotaKey, value: f64) -> Result<QuotaLimit, QuotaError> {
    let refused = |expected| QuotaError::InvalidLimit {
        key: key.name(),
        value,
        expected,
    };
    let limit = QuotaLimit::new(value).ok_or(refused("expected a number above 0"))?;
    match key.whole_number_up_to() {
        Some(_) if value.fract() != 0.0 => Err(refused("expected a whole number")),
        Some(most) if value > most => Err(refused("expected a smaller number")),
        Some(_) | None => Ok(limit),
    }
}

fn entity(parts: &RequestedEntity) -> Result<QuotaEntity, QuotaError> {
    let (mut user, mut client_id, mut ip) = (None, None, None);
    for (entity_type, name) in parts {
        let (slot, word) = match entity_type.as_str() {
            USER => (&mut user, USER),
            CLIENT_ID => (&mut client_id, CLIENT_ID),
            IP => (&mut ip, IP),
            _ => {
                let entity_type = entity_type.clone();
                return Err(QuotaError::UnknownEntityType { entity_type });
            }
        };
        let name = match name.as_deref() {
            None => QuotaName::Default,
            Some("") => return Err(QuotaError::EmptyName { entity_type: word }),
            Some(name) if word == IP => QuotaName::Named(canonical_ip(name)?),
            Some(name) => QuotaName::Named(name.to_owned()),
        };
        if slot.replace(name).is_some() {
            let entity_type = entity_type.clone();
            return Err(QuotaError::Combination { entity_type });
        }
    }
    if parts.is_empty() {
        return Err(QuotaError::NoEntity);
    }
    QuotaEntity::from_names(user, client_id, ip).ok_or_else(|| QuotaError::Combination {
        entity_type: IP.to_owned(),
    })
}

/// One spelling per address, the one in which connections are looked up.
fn canonical_ip(name: &str) -> Result<String, QuotaError> {
    let parsed: Result<IpAddr, _> = name.parse();
    parsed
        .map(|ip| ip.to_canonical().to_string())
        .map_err(|_| QuotaError::InvalidIp {
            name: name.to_owned(),
        })
}

/// What a part of an entity must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuotaMatch {
    /// This name.
    Exact(String),
    /// The default.
    Default,
    /// Any name, or the default.
    Any,
}

/// Which entities a question is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaFilter {
    /// The parts an entity must have.
    pub parts: Vec<(String, QuotaMatch)>,
    /// Whether it may have no other parts.
    pub strict: bool,
}

/// The entities that match, each with its limits; an empty filter that is not strict matches all.
///
/// # Errors
/// [`QuotaError`] for a filter that makes no sense.
pub fn find_client_quotas<'a>(
    image: &'a MetadataImage,
    filter: &QuotaFilter,
) -> Result<Vec<(&'a QuotaEntity, &'a QuotaLimits)>, QuotaError> {
    check_filter(filter)?;
    let matches = |entity: &QuotaEntity| {
        let parts = entity.parts();
        let found = |(entity_type, wanted): &(String, QuotaMatch)| {
            parts.iter().any(|(word, name)| {
                *word == entity_type
                    && match (wanted, name) {
                        (QuotaMatch::Any, _) | (QuotaMatch::Default, QuotaName::Default) => true,
                        (QuotaMatch::Exact(wanted), QuotaName::Named(name)) => wanted == name,
                        (QuotaMatch::Exact(_), QuotaName::Default)
                        | (QuotaMatch::Default, QuotaName::Named(_)) => false,
                    }
            })
        };
        filter.parts.iter().all(found) && (!filter.strict || parts.len() == filter.parts.len())
    };
    let quotas = image.client_quotas().iter();
    Ok(quotas.filter(|(entity, _)| matches(entity)).collect())
}

fn check_filter(filter: &QuotaFilter) -> Result<(), QuotaError> {
    for (position, (entity_type, _)) in filter.parts.iter().enumerate() {
        let entity_type = entity_type.clone();
        if entity_type.is_empty() {
            let problem = "the kind of entity is empty";
            return Err(QuotaError::InvalidFilter { entity_type, problem });
        }
        if ![USER, CLIENT_ID, IP].contains(&entity_type.as_str()) {
            return Err(QuotaError::UnknownEntityType { entity_type });
        }
        if filter.parts[..position]
            .iter()
            .any(|(other, _)| *other == entity_type)
        {
            let problem = "it occurs more than once";
            return Err(QuotaError::InvalidFilter { entity_type, problem });
        }
        if entity_type == IP && filter.parts.len() > 1 {
            return Err(QuotaError::Combination { entity_type });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(entity_type: &str, name: Option<&str>) -> (String, Option<String>) {
        (entity_type.into(), name.map(str::to_owned))
    }

    fn altered(
        entity: RequestedEntity,
        key: &str,
        value: Option<f64>,
    ) -> Result<Vec<MetadataRecord>, String> {
        let alteration = QuotaAlteration {
            entity,
            operations: vec![(key.into(), value)],
        };
        let mut outcomes = alter_client_quotas(&MetadataImage::default(), &[alteration]);
        outcomes.remove(0).result.map_err(|error| error.to_string())
    }

    #[test]
    fn hostile_87_limits_that_are_no_limits_are_refused() {
        let user = || vec![part("user", Some("ann"))];
        for value in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN] {
            for key in QuotaKey::ALL {
                let entity = match key {
                    QuotaKey::ConnectionCreationRate => vec![part("ip", None)],
                    _ => user(),
                };
                let refused = altered(entity, key.name(), Some(value)).unwrap_err();
                assert!(refused.contains("above 0"), "{} {value}: {refused}", key.name());
            }
        }
        assert!(altered(user(), "producer_byte_rate", Some(1.5)).is_err());
        assert!(altered(user(), "producer_byte_rate", Some(1e300)).is_err());
        assert!(altered(vec![part("ip", None)], "connection_creation_rate", Some(3e9)).is_err());
        assert!(altered(user(), "request_percentage", Some(0.5)).is_ok());
    }

    #[test]
    fn entities_and_keys_that_make_no_sense_are_refused() {
        let key = "producer_byte_rate";
        let cases = [
            (vec![], "names nobody"),
            (vec![part("group", Some("g"))], "'group' is no kind"),
            (vec![part("user", Some(""))], "is empty"),
            (
                vec![part("user", None), part("user", Some("ann"))],
                "does not fit",
            ),
            (vec![part("user", None), part("ip", None)], "does not fit"),
            (vec![part("ip", Some("nowhere"))], "no IP address"),
            (vec![part("ip", None)], "no quota of this kind"),
        ];
        for (entity, expected) in cases {
            let refused = altered(entity.clone(), key, Some(1.0)).unwrap_err();
            assert!(refused.contains(expected), "{entity:?}: {refused}");
        }
        let user = vec![part("user", None)];
        assert!(altered(user.clone(), "connection_creation_rate", Some(1.0)).is_err());
        assert!(altered(user.clone(), "producer_rate", Some(1.0)).is_err());
        for key in ["producer_rate", "connection_creation_rate"] {
            assert_eq!(altered(user.clone(), key, None), Ok(vec![]));
        }
    }

    #[test]
    fn alterations_become_records_and_records_the_image() {
        let pair = vec![part("client-id", None), part("user", Some("ann"))];
        let records = altered(pair.clone(), "consumer_byte_rate", Some(1048576.0)).unwrap();
        let image = MetadataImage::default().apply(&records).unwrap();
        let find = |parts: Vec<(String, QuotaMatch)>, strict| {
            find_client_quotas(&image, &QuotaFilter { parts, strict }).map(|found| found.len())
        };
        let user = |wanted| vec![("user".to_owned(), wanted)];
        assert_eq!(find(vec![], false), Ok(1));
        assert_eq!(find(vec![], true), Ok(0));
        assert_eq!(find(user(QuotaMatch::Exact("ann".into())), false), Ok(1));
        assert_eq!(find(user(QuotaMatch::Exact("ann".into())), true), Ok(0));
        assert_eq!(find(user(QuotaMatch::Default), false), Ok(0));
        assert_eq!(find(user(QuotaMatch::Any), false), Ok(1));
        assert!(
            find(
                vec![("ip".into(), QuotaMatch::Any), ("user".into(), QuotaMatch::Any)],
                false
            )
            .is_err()
        );

        let again = QuotaAlteration {
            entity: pair.clone(),
            operations: vec![("consumer_byte_rate".into(), Some(1048576.0))],
        };
        let outcome = alter_client_quotas(&image, &[again]).remove(0);
        assert_eq!(outcome.result, Ok(vec![]), "what is so already changes nothing");
        let gone = QuotaAlteration {
            entity: pair,
            operations: vec![("consumer_byte_rate".into(), None)],
        };
        let records = alter_client_quotas(&image, &[gone]).remove(0).result.unwrap();
        assert!(image.apply(&records).unwrap().client_quotas().is_empty());
    }
}
