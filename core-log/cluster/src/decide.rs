//! What the controller decides: pure functions from an image and a request to records.
//!
//! Every function reads the image and changes nothing; the host commits the records and replay makes them true. Requests
//! about many resources answer one outcome per resource, each with its own records, so that one refusal does not spoil
//! the rest; records of one request may be committed together, since the decision about each resource already counts in
//! those before it. "Validate only" is a decision whose records are not committed.
//!
//! Refusals are enums whose variants name the Kafka error code they stand for; the host owns the mapping.

mod acls;
mod brokers;
mod configs;
mod features;
mod partitions;
mod placement;
mod producer_ids;
mod quotas;
mod scram;
mod topics;

use std::collections::{BTreeMap, btree_map::Entry};

pub use acls::{AclError, NewAcl, Removals, RequestedAclFilter, create_acls, delete_acls};
pub use brokers::{BrokerRegistration, METADATA_VERSION, RegistrationError, bootstrap, register_broker};
pub use configs::{
    AlterError, ConfigChange, ConfigOperation, ConfigReplacement, RequestedResource, alter_configs,
    incremental_alter_configs,
};
pub use features::{FeatureDef, FeatureError, FeatureUpdate, UpgradeType, update_features};
pub use partitions::{NewPartitions, create_partitions};
pub use placement::{ManualAssignment, PlacementContext};
pub use producer_ids::{
    PRODUCER_ID_BLOCK_SIZE, ProducerIdBlock, ProducerIdsExhausted, allocate_producer_ids,
};
pub use quotas::{
    QuotaAlteration, QuotaError, QuotaFilter, QuotaMatch, RequestedEntity, alter_client_quotas,
    find_client_quotas,
};
pub use scram::{ScramAlteration, ScramChange, ScramError, ScramKeys, alter_scram_credentials};
pub use topics::{
    CreatedTopic, DeletedTopic, DeletionPolicy, MAX_NEW_PARTITIONS, NewTopic, TopicError, TopicSelector,
    create_topics, delete_topics,
};

/// The decision about one of the resources a request names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome<Subject, Done, Refused> {
    /// What the request named.
    pub subject: Subject,
    /// What was decided.
    pub result: Result<Done, Refused>,
}

/// Items of a request by their key, in order of first mention; keys mentioned more than once come without an item.
fn by_key<T, K: Ord + Clone>(items: &[T], key: impl Fn(&T) -> K) -> Vec<(K, Option<&T>)> {
    let mut positions: BTreeMap<K, usize> = BTreeMap::new();
    let mut unique: Vec<(K, Option<&T>)> = Vec::with_capacity(items.len());
    for item in items {
        match positions.entry(key(item)) {
            Entry::Occupied(known) => unique[*known.get()].1 = None,
            Entry::Vacant(fresh) => {
                unique.push((fresh.key().clone(), Some(item)));
                fresh.insert(unique.len() - 1);
            }
        }
    }
    unique
}
