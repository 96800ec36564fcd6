//! Adding partitions to topics (semantic 19).

use highwater_types::{BrokerId, PartitionId};

use super::{
    Outcome, by_key,
    placement::{BrokerLoad, ManualAssignment, PlacementContext},
    topics::{TopicError, check_assignments, check_budget, new_partition_records},
};
use crate::{
    image::{MetadataImage, TopicImage},
    record::MetadataRecord,
};

/// A topic that shall grow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPartitions {
    /// The topic's name as given.
    pub topic: String,
    /// How many partitions it shall have in all.
    pub total: i32,
    /// Replicas of the new partitions in order, when chosen by hand.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

/// Decides about more partitions. One outcome per topic, in order of first mention.
pub fn create_partitions(
    image: &MetadataImage,
    requests: &[NewPartitions],
    placement: PlacementContext<'_>,
) -> Vec<Outcome<String, Vec<MetadataRecord>, TopicError>> {
    let mut new_partitions = 0;
    let mut load = BrokerLoad::new(image, placement);
    let decide = |(subject, request): (String, Option<&NewPartitions>)| {
        let decided = request.ok_or(TopicError::DuplicateInRequest).and_then(|request| {
            let unknown = || TopicError::UnknownTopic {
                name: subject.clone(),
            };
            let topic = image.topic(&request.topic).ok_or_else(unknown)?;
            let (current, requested) = (topic.partition_count(), request.total);
            if requested <= current {
                return Err(TopicError::NotMorePartitions { current, requested });
            }
            check_budget(&mut new_partitions, requested - current)?;
            let replicas = match &request.assignments {
                Some(assignments) => {
                    place_by_hand(topic, requested - current, assignments, placement.brokers)?
                }
                None => place_automatically(topic, requested - current, placement)?,
            };
            let records: Vec<_> = new_partition_records(topic.id, current, &replicas).collect();
            load.add(&records)?;
            Ok(records)
        });
        Outcome {
            subject,
            result: decided,
        }
    };
    by_key(requests, |request| request.topic.clone())
        .into_iter()
        .map(decide)
        .collect()
}

/// The factor of the first partition counts for new ones, as in Kafka.
fn replication_factor(topic: &TopicImage) -> usize {
    topic
        .partition(PartitionId::new(0))
        .map_or(1, |partition| partition.replicas.len())
}

fn place_automatically(
    topic: &TopicImage,
    count: i32,
    placement: PlacementContext<'_>,
) -> Result<Vec<Vec<BrokerId>>, TopicError> {
    let (factor, alive) = (replication_factor(topic), placement.brokers.len());
    if factor > alive {
        let requested = i16::try_from(factor).unwrap_or(i16::MAX);
        return Err(TopicError::InvalidReplicationFactor { requested, alive });
    }
    // Checked above: positive and within what one request may add.
    Ok(placement.place(
        topic.partitions.len(),
        usize::try_from(count).unwrap_or(0),
        factor,
    ))
}

fn place_by_hand(
    topic: &TopicImage,
    count: i32,
    assignments: &[Vec<BrokerId>],
    brokers: &[BrokerId],
) -> Result<Vec<Vec<BrokerId>>, TopicError> {
    if usize::try_from(count) != Ok(assignments.len()) {
        return Err(TopicError::AssignmentCount {
            new_partitions: count,
            assignments: assignments.len(),
        });
    }
    let first = topic.partition_count();
    let numbered: Vec<_> = (first..)
        .zip(assignments)
        .map(|(partition, replicas)| ManualAssignment {
            partition,
            replicas: replicas.clone(),
        })
        .collect();
    check_assignments(
        first,
        &numbered.iter().collect::<Vec<_>>(),
        Some(replication_factor(topic)),
        brokers,
    )?;
    Ok(assignments.to_vec())
}
