//! What consumer groups must know of the cluster: topics with their names, ids and numbers of partitions (KIP-848), and what
//! was set for a group.
//!
//! The host hands in a view of its metadata; the shard asks and never keeps an answer beyond one call.

use std::fmt::Debug;
use std::sync::Arc;

use bytestring::ByteString;
use highwater_types::Uuid;

/// One topic, as an assignor needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicFacts {
    /// Never nil.
    pub id: Uuid,
    /// Partitions are `0..partition_count`.
    pub partition_count: i32,
}

/// What was set for one group, within bounds that the broker had when it was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GroupSettings {
    /// `consumer.session.timeout.ms`.
    pub session_timeout_ms: Option<u64>,
    /// `consumer.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: Option<i32>,
}

/// A view of the cluster's topics, and of its groups' settings, at one moment.
pub trait Topics: Debug + Send + Sync {
    /// A number that changes whenever an answer of the other methods does.
    fn version(&self) -> u64;
    /// The topic of this name.
    fn by_name(&self, name: &str) -> Option<TopicFacts>;
    /// The name of the topic with this id.
    fn name_of(&self, id: Uuid) -> Option<ByteString>;
    /// Shows every topic name to `visit`, in any order.
    fn each_name(&self, visit: &mut dyn FnMut(&str));
    /// What was set for this group.
    fn group_settings(&self, _group: &str) -> GroupSettings {
        GroupSettings::default()
    }
}

/// A cluster without topics.
#[derive(Debug, Clone, Copy, Default)]
struct NoTopics;

impl Topics for NoTopics {
    fn version(&self) -> u64 {
        0
    }

    fn by_name(&self, _name: &str) -> Option<TopicFacts> {
        None
    }

    fn name_of(&self, _id: Uuid) -> Option<ByteString> {
        None
    }

    fn each_name(&self, _visit: &mut dyn FnMut(&str)) {}
}

/// The view of a shard that was not given one yet.
pub(crate) fn none() -> Arc<dyn Topics> {
    Arc::new(NoTopics)
}
