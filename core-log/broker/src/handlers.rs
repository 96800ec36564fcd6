//! One module per family of APIs. A handler takes a decoded request and gives a response body; it
//! knows nothing of sockets, so the same code serves TCP connections and sessions in this process.

pub(crate) mod acls;
pub(crate) mod api_versions;
pub(crate) mod client_quotas;
pub(crate) mod config_resources;
pub(crate) mod configs;
pub(crate) mod delete_records;
pub(crate) mod describe_cluster;
pub(crate) mod describe_topic_partitions;
pub(crate) mod elections;
pub(crate) mod epochs;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
pub(crate) mod group_admin;
pub(crate) mod groups;
mod leader_hints;
pub(crate) mod list_offsets;
pub(crate) mod log_dirs;
mod logger_configs;
pub(crate) mod metadata;
pub(crate) mod produce;
pub(crate) mod producer_ids;
pub(crate) mod producers;
pub(crate) mod quorum;
pub(crate) mod reassignments;
pub(crate) mod sasl;
pub(crate) mod scram_users;
pub(crate) mod topics;
pub(crate) mod update_features;

use std::sync::Arc;

use highwater_cluster::MetadataImage;
use highwater_types::{LeaderEpoch, TopicId, Uuid};

use crate::broker::Broker;
use crate::error::ApiError;
use crate::log::partition::Partition;

/// What stands for "no offset", "no time" and "no id" in answers; inside the crate it is `Option`.
const NONE: i64 = -1;

/// A leader epoch from a request; negative means the client does not know or does not care.
fn known_epoch(raw: i32) -> Option<LeaderEpoch> {
    (raw >= 0).then(|| LeaderEpoch::new(raw))
}

/// How a request names a topic: by name, or, in the versions that know nothing else, by id (KIP-516).
#[derive(Debug, Clone, Copy)]
enum TopicRef<'a> {
    Name(&'a str),
    Id(Uuid),
}

impl TopicRef<'_> {
    /// The partition, if this node leads it; an id nobody has is UNKNOWN_TOPIC_ID (semantic 52).
    fn partition(
        self,
        broker: &Broker,
        image: &MetadataImage,
        index: i32,
    ) -> Result<Arc<Partition>, ApiError> {
        match self {
            TopicRef::Name(name) => broker.partitions.find(name, index),
            TopicRef::Id(id) => broker.partitions.find_by_id(image, TopicId::new(id), index),
        }
    }

    /// The topic's name as the metadata has it.
    fn name(self, image: &MetadataImage) -> Option<&str> {
        let topic = match self {
            TopicRef::Name(name) => image.topic(name),
            TopicRef::Id(id) => image.topic_by_id(TopicId::new(id)),
        };
        Some(topic?.name.as_str())
    }
}
