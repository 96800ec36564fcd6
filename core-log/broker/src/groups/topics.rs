//! The latest metadata, as consumer groups look at it.

use std::sync::Arc;

use bytestring::ByteString;
use highwater_cluster::{ConfigResource, MetadataImage};
use highwater_coordinator::{GroupSettings, TopicFacts, Topics};
use highwater_types::{TopicId, Uuid};

/// One version of the metadata.
#[derive(Debug)]
pub(super) struct ImageTopics(pub(super) Arc<MetadataImage>);

impl Topics for ImageTopics {
    fn version(&self) -> u64 {
        // 0 belongs to the view of a shard that was given none.
        self.0.version().saturating_add(1)
    }

    fn by_name(&self, name: &str) -> Option<TopicFacts> {
        self.0.topic(name).map(|topic| TopicFacts {
            id: topic.id.get(),
            partition_count: topic.partition_count(),
        })
    }

    fn name_of(&self, id: Uuid) -> Option<ByteString> {
        let topic = self.0.topic_by_id(TopicId::new(id))?;
        Some(ByteString::from(topic.name.as_str()))
    }

    fn group_settings(&self, group: &str) -> GroupSettings {
        let set = self.0.configs(&ConfigResource::Group(group.to_owned()));
        // The registry let only numbers through.
        GroupSettings {
            session_timeout_ms: set
                .get("consumer.session.timeout.ms")
                .and_then(|ms| ms.parse().ok()),
            heartbeat_interval_ms: set
                .get("consumer.heartbeat.interval.ms")
                .and_then(|ms| ms.parse().ok()),
        }
    }

    fn each_name(&self, visit: &mut dyn FnMut(&str)) {
        for topic in self.0.topics() {
            visit(topic.name.as_str());
        }
    }
}
