//! Creating and deleting topics (semantics 14 and 18).

use std::collections::BTreeMap;

use highwater_types::{BrokerId, InvalidTopicName, TopicId, TopicName};

use super::{
    Outcome, by_key,
    configs::check_together,
    placement::{BrokerLoad, ManualAssignment, PlacementContext},
};
use crate::{
    config_defs::{ConfigError, ConfigScope},
    image::MetadataImage,
    record::{
        ConfigRecord, ConfigResourceName, MetadataRecord, PartitionRecord, RemoveTopicRecord, TopicRecord,
    },
    settings::BrokerSettings,
};

/// The most partitions that one request may add: what one metadata entry should carry.
pub const MAX_NEW_PARTITIONS: usize = 10_000;

/// What Kafka's tools call the log of the metadata; no topic may pass for it.
const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";

/// A topic somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// The name as given; checked here.
    pub name: String,
    /// A fresh identity, in case the topic comes to be.
    pub topic_id: TopicId,
    /// `None` leaves it to the broker (-1 in the request, KIP-464).
    pub partitions: Option<i32>,
    /// `None` leaves it to the broker (-1 in the request, KIP-464).
    pub replication_factor: Option<i16>,
    /// Replicas chosen by hand; then the two counts must be left out.
    pub assignments: Vec<ManualAssignment>,
    /// Configs of the topic's own.
    pub configs: Vec<(String, Option<String>)>,
}

/// A topic that will exist once the records are committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its identity.
    pub topic_id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// How many partitions it gets.
    pub partitions: i32,
    /// How many replicas each of them gets.
    pub replication_factor: i16,
    /// Its own configs.
    pub configs: BTreeMap<String, String>,
    /// What to commit.
    pub records: Vec<MetadataRecord>,
}

/// Why a topic was not created, changed or deleted. Kafka's code is at the end of each line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// The name is illegal: INVALID_TOPIC_EXCEPTION (17).
    #[error(transparent)]
    InvalidName(#[from] InvalidTopicName),
    /// Dots and underscores make two names one in metrics: INVALID_TOPIC_EXCEPTION (17).
    #[error("topic '{name}' collides with topic '{existing}': '.' and '_' count as the same in metric names")]
    NameCollision {
        /// The name asked for.
        name: TopicName,
        /// The name taken.
        existing: TopicName,
    },
    /// The name is that of the log of the metadata: INVALID_REQUEST (42).
    #[error("topic '{CLUSTER_METADATA_TOPIC}' is the cluster's own metadata; choose another name")]
    ReservedName,
    /// The topic exists: TOPIC_ALREADY_EXISTS (36).
    #[error("topic '{name}' exists already")]
    AlreadyExists {
        /// The name.
        name: TopicName,
    },
    /// The topic is named more than once: INVALID_REQUEST (42).
    #[error("the request names this topic more than once")]
    DuplicateInRequest,
    /// Replicas are chosen by hand, yet a count is given: INVALID_REQUEST (42).
    #[error("replicas assigned by hand settle the counts; leave both at -1")]
    AssignmentWithCounts,
    /// A count that is not positive: INVALID_PARTITIONS (37).
    #[error("a topic cannot have {requested} partitions; ask for 1 or more, or -1 for the broker's default")]
    InvalidPartitionCount {
        /// The count asked for.
        requested: i32,
    },
    /// A topic cannot shrink or stay: INVALID_PARTITIONS (37).
    #[error("the topic has {current} partitions and can only grow, not go to {requested}")]
    NotMorePartitions {
        /// The count now.
        current: i32,
        /// The count asked for.
        requested: i32,
    },
    /// Too much for one request: POLICY_VIOLATION (44).
    #[error("the request adds more than {MAX_NEW_PARTITIONS} partitions; split it")]
    TooManyPartitions,
    /// More than a broker may hold: POLICY_VIOLATION (44).
    #[error(
        "broker {broker_id} holds {held} partitions and cannot take {wanted} more; max.partitions.per.broker is {limit}"
    )]
    BrokerFull {
        /// The broker.
        broker_id: BrokerId,
        /// How many it holds.
        held: usize,
        /// How many it would get.
        wanted: usize,
        /// How many it may hold.
        limit: usize,
    },
    /// A factor that is not positive, or beyond the brokers alive: INVALID_REPLICATION_FACTOR (38).
    #[error("replication factor {requested} cannot be reached with {alive} live broker(s); use 1 to {alive}")]
    InvalidReplicationFactor {
        /// The factor asked for.
        requested: i16,
        /// How many brokers are alive.
        alive: usize,
    },
    /// Partitions assigned by hand are not 0 to n-1: INVALID_REPLICA_ASSIGNMENT (39).
    #[error(
        "partitions assigned by hand must be numbered from {first} without holes; {partition} does not fit"
    )]
    AssignmentGap {
        /// The first index expected.
        first: i32,
        /// The index that does not fit.
        partition: i32,
    },
    /// As many assignments as new partitions are needed: INVALID_REPLICA_ASSIGNMENT (39).
    #[error("{new_partitions} new partitions need as many assignments, not {assignments}")]
    AssignmentCount {
        /// How many partitions are new.
        new_partitions: i32,
        /// How many assignments came.
        assignments: usize,
    },
    /// No replicas, or another number of them than elsewhere: INVALID_REPLICA_ASSIGNMENT (39).
    #[error("partition {partition} is assigned {replicas} replicas where {expected} are expected")]
    AssignmentReplicaCount {
        /// The partition.
        partition: i32,
        /// How many replicas it is assigned.
        replicas: usize,
        /// How many the other partitions have; at least 1.
        expected: usize,
    },
    /// One broker twice: INVALID_REPLICA_ASSIGNMENT (39).
    #[error("partition {partition} is assigned broker {broker_id} twice")]
    AssignmentRepeatsBroker {
        /// The partition.
        partition: i32,
        /// The broker.
        broker_id: BrokerId,
    },
    /// A broker that is not alive: INVALID_REPLICA_ASSIGNMENT (39).
    #[error("partition {partition} is assigned broker {broker_id}, which is not alive")]
    AssignmentUnknownBroker {
        /// The partition.
        partition: i32,
        /// The broker.
        broker_id: BrokerId,
    },
    /// A config was refused: INVALID_CONFIG (40), or what the config's error says.
    #[error(transparent)]
    InvalidConfig(#[from] ConfigError),
    /// No topic of that name: UNKNOWN_TOPIC_OR_PARTITION (3).
    #[error("no topic is named '{name}'")]
    UnknownTopic {
        /// The name as given.
        name: String,
    },
    /// No topic of that identity: UNKNOWN_TOPIC_ID (100).
    #[error("no topic has the id {}", topic_id.get())]
    UnknownTopicId {
        /// The identity.
        topic_id: TopicId,
    },
    /// `delete.topic.enable` is false: TOPIC_DELETION_DISABLED (73).
    #[error("topics cannot be deleted here; set delete.topic.enable=true")]
    DeletionDisabled,
}

/// Decides about new topics. One outcome per name, in order of first mention.
pub fn create_topics(
    image: &MetadataImage,
    topics: &[NewTopic],
    placement: PlacementContext<'_>,
    settings: &BrokerSettings,
) -> Vec<Outcome<String, CreatedTopic, TopicError>> {
    let mut accepted: Vec<TopicName> = Vec::new();
    let mut new_partitions = 0;
    let mut load = BrokerLoad::new(image, placement);
    let decide = |(subject, topic): (String, Option<&NewTopic>)| {
        let decided = topic.ok_or(TopicError::DuplicateInRequest).and_then(|topic| {
            let name = free_name(image, &accepted, &topic.name)?;
            let created = create_topic(name, topic, placement, settings)?;
            check_budget(&mut new_partitions, created.partitions)?;
            load.add(&created.records)?;
            accepted.push(created.name.clone());
            Ok(created)
        });
        Outcome {
            subject,
            result: decided,
        }
    };
    by_key(topics, |topic| topic.name.clone())
        .into_iter()
        .map(decide)
        .collect()
}

/// Counts partitions against what one request may add.
pub(super) fn check_budget(spent: &mut usize, partitions: i32) -> Result<(), TopicError> {
    *spent += usize::try_from(partitions)
        .unwrap_or(usize::MAX)
        .min(MAX_NEW_PARTITIONS + 1);
    if *spent > MAX_NEW_PARTITIONS {
        Err(TopicError::TooManyPartitions)
    } else {
        Ok(())
    }
}

fn free_name(image: &MetadataImage, accepted: &[TopicName], name: &str) -> Result<TopicName, TopicError> {
    let name = TopicName::new(name)?;
    if name.as_str() == CLUSTER_METADATA_TOPIC {
        return Err(TopicError::ReservedName);
    }
    if image.topic(name.as_str()).is_some() {
        return Err(TopicError::AlreadyExists { name });
    }
    let mut taken = image.topics().map(|topic| &topic.name).chain(accepted);
    match taken.find(|existing| existing.collides_with(&name)) {
        Some(existing) => Err(TopicError::NameCollision {
            existing: existing.clone(),
            name,
        }),
        None => Ok(name),
    }
}

fn create_topic(
    name: TopicName,
    topic: &NewTopic,
    placement: PlacementContext<'_>,
    settings: &BrokerSettings,
) -> Result<CreatedTopic, TopicError> {
    let replicas = if topic.assignments.is_empty() {
        let partitions = topic.partitions.unwrap_or(settings.num_partitions);
        let factor = topic
            .replication_factor
            .unwrap_or(settings.default_replication_factor);
        place_automatically(partitions, factor, placement)?
    } else if topic.partitions.is_some() || topic.replication_factor.is_some() {
        return Err(TopicError::AssignmentWithCounts);
    } else {
        let mut assignments: Vec<&ManualAssignment> = topic.assignments.iter().collect();
        assignments.sort_by_key(|assignment| assignment.partition);
        check_assignments(0, &assignments, None, placement.brokers)?;
        assignments
            .into_iter()
            .map(|assignment| assignment.replicas.clone())
            .collect()
    };
    let configs = check_topic_configs(&topic.configs)?;
    let topic_id = topic.topic_id.get();
    let mut records = vec![MetadataRecord::Topic(TopicRecord {
        topic_id,
        name: name.as_str().to_owned(),
    })];
    records.extend(new_partition_records(topic.topic_id, 0, &replicas));
    records.extend(configs.iter().map(|(key, value)| {
        let resource = ConfigResourceName::Topic(name.as_str().to_owned());
        MetadataRecord::Config(ConfigRecord {
            resource,
            key: key.clone(),
            value: Some(value.clone()),
        })
    }));
    Ok(CreatedTopic {
        topic_id: topic.topic_id,
        name,
        // Both were bounded above: by the request's 32 and 16 bits, or by the length of a request.
        partitions: i32::try_from(replicas.len()).unwrap_or(i32::MAX),
        replication_factor: i16::try_from(replicas[0].len()).unwrap_or(i16::MAX),
        configs,
        records,
    })
}

fn place_automatically(
    partitions: i32,
    factor: i16,
    placement: PlacementContext<'_>,
) -> Result<Vec<Vec<BrokerId>>, TopicError> {
    let count = usize::try_from(partitions).ok().filter(|count| *count > 0);
    let count = count.ok_or(TopicError::InvalidPartitionCount {
        requested: partitions,
    })?;
    if count > MAX_NEW_PARTITIONS {
        return Err(TopicError::TooManyPartitions);
    }
    let alive = placement.brokers.len();
    let replicas = usize::try_from(factor)
        .ok()
        .filter(|factor| (1..=alive).contains(factor));
    let replicas = replicas.ok_or(TopicError::InvalidReplicationFactor {
        requested: factor,
        alive,
    })?;
    Ok(placement.place(0, count, replicas))
}

/// Checks assignments sorted by partition, the first of which must be `first`. Without an expected number of replicas,
/// the first assignment sets it.
pub(super) fn check_assignments(
    first: i32,
    assignments: &[&ManualAssignment],
    replicas: Option<usize>,
    brokers: &[BrokerId],
) -> Result<(), TopicError> {
    let expected = replicas
        .or(assignments.first().map(|assignment| assignment.replicas.len()))
        .unwrap_or(1)
        .max(1);
    for (index, assignment) in (first..).zip(assignments) {
        let partition = assignment.partition;
        if partition != index {
            return Err(TopicError::AssignmentGap { first, partition });
        }
        let count = assignment.replicas.len();
        if count != expected {
            return Err(TopicError::AssignmentReplicaCount {
                partition,
                replicas: count,
                expected,
            });
        }
        for (position, &broker_id) in assignment.replicas.iter().enumerate() {
            if assignment.replicas[..position].contains(&broker_id) {
                return Err(TopicError::AssignmentRepeatsBroker { partition, broker_id });
            }
            if !brokers.contains(&broker_id) {
                return Err(TopicError::AssignmentUnknownBroker { partition, broker_id });
            }
        }
    }
    Ok(())
}

/// Records of partitions that begin their life: led by the preferred replica, everyone in sync since all are empty.
pub(super) fn new_partition_records(
    topic_id: TopicId,
    first: i32,
    replicas: &[Vec<BrokerId>],
) -> impl Iterator<Item = MetadataRecord> {
    (first..).zip(replicas).map(move |(partition, replicas)| {
        let ids: Vec<i32> = replicas.iter().map(|id| id.get()).collect();
        MetadataRecord::Partition(PartitionRecord {
            topic_id: topic_id.get(),
            partition,
            leader: ids.first().copied(),
            isr: ids.clone(),
            replicas: ids,
            leader_epoch: 0,
            partition_epoch: 0,
        })
    })
}

fn check_topic_configs(
    configs: &[(String, Option<String>)],
) -> Result<BTreeMap<String, String>, ConfigError> {
    let mut checked = BTreeMap::new();
    for (key, value) in configs {
        let row = ConfigScope::Topic.find(key)?;
        let value = value.as_deref().ok_or(ConfigError::NullValue { key: row.name })?;
        if checked.insert(key.clone(), row.canonical(value)?).is_some() {
            return Err(ConfigError::DuplicateKey { key: key.clone() });
        }
    }
    check_together(&checked)?;
    Ok(checked)
}

/// How a request names a topic to delete.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopicSelector {
    /// By name, as given.
    Name(String),
    /// By identity (KIP-516).
    Id(TopicId),
}

/// Whether topics can be deleted at all (`delete.topic.enable`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeletionPolicy {
    /// They can.
    Allowed,
    /// They cannot.
    Disabled,
}

/// A topic that will be gone once the records are committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedTopic {
    /// Its identity.
    pub topic_id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// What to commit.
    pub records: Vec<MetadataRecord>,
}

/// Decides about deletions. One outcome per selector, in order of first mention; a topic that is named twice, be it
/// once by name and once by identity, is not deleted.
pub fn delete_topics(
    image: &MetadataImage,
    selectors: &[TopicSelector],
    policy: DeletionPolicy,
) -> Vec<Outcome<TopicSelector, DeletedTopic, TopicError>> {
    let find = |selector: &TopicSelector| match selector {
        TopicSelector::Name(name) => image
            .topic(name)
            .ok_or_else(|| TopicError::UnknownTopic { name: name.clone() }),
        TopicSelector::Id(topic_id) => image
            .topic_by_id(*topic_id)
            .ok_or(TopicError::UnknownTopicId { topic_id: *topic_id }),
    };
    let unique = by_key(selectors, TopicSelector::clone);
    let decide = |(subject, once): &(TopicSelector, Option<&TopicSelector>)| {
        if policy == DeletionPolicy::Disabled {
            return Err(TopicError::DeletionDisabled);
        }
        if once.is_none() {
            return Err(TopicError::DuplicateInRequest);
        }
        let topic = find(subject)?;
        let same_topic = unique
            .iter()
            .filter(|(other, _)| find(other).is_ok_and(|other| other.id == topic.id));
        if same_topic.count() > 1 {
            return Err(TopicError::DuplicateInRequest);
        }
        let records = vec![MetadataRecord::RemoveTopic(RemoveTopicRecord {
            topic_id: topic.id.get(),
        })];
        Ok(DeletedTopic {
            topic_id: topic.id,
            name: topic.name.clone(),
            records,
        })
    };
    unique
        .iter()
        .map(|entry| Outcome {
            subject: entry.0.clone(),
            result: decide(entry),
        })
        .collect()
}

#[cfg(test)]
mod tests;
