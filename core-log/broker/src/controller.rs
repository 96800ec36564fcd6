//! Metadata changes: a pure decision on the latest image, committed by the quorum, then applied to the
//! logs of this node before the caller is answered.
//!
//! One that was overtaken by another is refused by replay, and decided anew on the newer image.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use highwater_cluster::decide::{
    CreatedTopic, NewTopic, Outcome, PlacementContext, TopicError, allocate_producer_ids, create_topics,
};
use highwater_cluster::{MetadataImage, MetadataRecord};
use highwater_types::{BrokerId, ProducerId, TopicId, TopicName, Uuid};
use highwater_wire::ErrorCode;

use crate::broker::Broker;
use crate::error::ApiError;
use crate::groups::OFFSETS_TOPIC;
use crate::metadata::{self, DecideError};

/// What was decided: the answer to give and the records that make it true.
pub(crate) type Decision<T> = (T, Vec<MetadataRecord>);

/// The outcomes of a decision about new topics.
pub(crate) type TopicOutcomes = Vec<Outcome<String, CreatedTopic, TopicError>>;

impl Broker {
    /// Decides, commits and applies. Without records nothing is committed.
    pub(crate) async fn commit<T>(
        self: &Arc<Self>,
        decide: impl Fn(&MetadataImage) -> Decision<T>,
    ) -> Result<T, ApiError> {
        let decision = |image: &MetadataImage| Ok::<_, Infallible>(decide(image));
        let answer = metadata::decide(&*self.metadata, decision)
            .await
            .map_err(|error| match error {
                DecideError::Decision(never) => match never {},
                DecideError::Quorum(error) => ApiError::from(error),
            })?;
        // A client that was told of a topic may produce to it at once.
        self.reconcile_in_background().await;
        Ok(answer)
    }

    pub(crate) fn max_partitions_per_broker(&self) -> usize {
        usize::try_from(self.settings.max_partitions_per_broker).unwrap_or(usize::MAX)
    }

    /// Decides about new topics on `image`.
    pub(crate) fn decide_topics(
        &self,
        image: &MetadataImage,
        topics: &[NewTopic],
    ) -> Decision<TopicOutcomes> {
        let alive = alive(image);
        let placement = PlacementContext {
            brokers: &alive,
            seed: seed(),
            max_partitions_per_broker: self.max_partitions_per_broker(),
        };
        let outcomes = create_topics(image, topics, placement, &self.settings);
        let created = outcomes.iter().filter_map(|outcome| outcome.result.as_ref().ok());
        let records = created.flat_map(|topic| topic.records.clone()).collect();
        (outcomes, records)
    }

    /// Creates topics on behalf of clients that asked for their metadata; answers what failed.
    pub(crate) async fn auto_create_topics(
        self: &Arc<Self>,
        names: Vec<TopicName>,
    ) -> BTreeMap<TopicName, ApiError> {
        let topics: Vec<NewTopic> = names.iter().map(|name| self.template(name)).collect();
        let failure = match self.commit(|image| self.decide_topics(image, &topics)).await {
            Ok(outcomes) => {
                let refused = outcomes.into_iter().filter_map(|outcome| {
                    let error = outcome.result.err()?;
                    // Somebody else was faster: the topic is there, which is all that was asked.
                    let exists = matches!(error, TopicError::AlreadyExists { .. });
                    (!exists).then(|| Some((TopicName::new(outcome.subject).ok()?, error.into())))?
                });
                return refused.collect();
            }
            Err(failure) => failure,
        };
        names.into_iter().map(|name| (name, failure.clone())).collect()
    }

    /// Makes the topic that holds the groups, if it is not there yet.
    pub(crate) async fn ensure_offsets_topic(self: &Arc<Self>) -> Result<(), ApiError> {
        if self.image().topic(OFFSETS_TOPIC).is_some() {
            return Ok(());
        }
        let name = TopicName::new(OFFSETS_TOPIC)
            .map_err(|error| ApiError::new(ErrorCode::InvalidTopicException, error.to_string()))?;
        let failed = self.auto_create_topics(vec![name.clone()]).await.remove(&name);
        failed.map_or(Ok(()), |error| {
            Err(ApiError::new(ErrorCode::CoordinatorNotAvailable, error.message))
        })
    }

    /// The next block of producer ids.
    pub(crate) async fn take_producer_ids(self: &Arc<Self>) -> Result<Range<i64>, ApiError> {
        let block = self
            .commit(|image| match allocate_producer_ids(image) {
                Ok((block, records)) => (Ok(block), records),
                Err(exhausted) => (Err(exhausted), Vec::new()),
            })
            .await?;
        block
            .map(|block| ProducerId::get(block.first)..ProducerId::get(block.end))
            .map_err(|exhausted| ApiError::new(ErrorCode::UnknownServerError, exhausted.to_string()))
    }

    /// A topic with the broker's defaults, or with those of the offsets topic if it is that one.
    fn template(&self, name: &TopicName) -> NewTopic {
        let mut topic = NewTopic {
            name: name.as_str().to_owned(),
            topic_id: fresh_topic_id(),
            partitions: None,
            replication_factor: None,
            assignments: Vec::new(),
            configs: Vec::new(),
        };
        if name.as_str() == OFFSETS_TOPIC {
            let alive = i16::try_from(self.image().brokers().len())
                .unwrap_or(i16::MAX)
                .max(1);
            let config = |key: &str, value: String| (key.to_owned(), Some(value));
            topic.partitions = Some(self.settings.offsets_topic_partitions);
            topic.replication_factor = Some(self.settings.offsets_topic_replication_factor.min(alive));
            topic.configs = vec![
                config("cleanup.policy", "compact".to_owned()),
                config("compression.type", "producer".to_owned()),
                config(
                    "segment.bytes",
                    self.settings.offsets_topic_segment_bytes.to_string(),
                ),
            ];
        }
        topic
    }
}

/// An identity for a topic that may come to be. Zero and one are Kafka's own.
pub(crate) fn fresh_topic_id() -> TopicId {
    TopicId::new(Uuid::new_v4())
}

/// The brokers that replicas can be placed on.
pub(crate) fn alive(image: &MetadataImage) -> Vec<BrokerId> {
    image.brokers().keys().copied().collect()
}

/// A number that spreads topics over brokers.
pub(crate) fn seed() -> u64 {
    Uuid::new_v4().as_u64_pair().0
}
