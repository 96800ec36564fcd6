//! Replay: the only way an image changes.

use std::sync::Arc;

use highwater_types::{BrokerId, InvalidTopicName, LeaderEpoch, ProducerId, TopicId, TopicName};
use uuid::Uuid;

use super::{BrokerImage, ConfigResource, MetadataImage, PartitionImage, TopicImage};
use crate::acl::AclBinding;
use crate::quotas::{QuotaEntity, QuotaKey, QuotaLimit};
use crate::record::{
    AclRecord, BrokerRecord, ClientQuotaRecord, ClusterRecord, ConfigRecord, ConfigResourceName,
    MetadataRecord, PartitionRecord, ProducerIdBlockRecord, RemoveAclRecord, RemoveTopicRecord,
    ScramCredentialRecord, TopicRecord,
};
use crate::scram::{ScramCredential, ScramMechanism};

/// Why records do not fit the image: they were decided on an image that is no longer the latest, or a log is damaged.
///
/// To whoever decided, this means "look again and decide anew".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// The cluster has another name already.
    #[error("the cluster is named '{current}' and cannot be renamed '{proposed}'")]
    ClusterNamed {
        /// The name it has.
        current: String,
        /// The name in the record.
        proposed: String,
    },
    /// A registration that is not newer than the one known.
    #[error("broker {broker_id} registered with epoch {proposed}, but epoch {current} is known")]
    StaleBrokerEpoch {
        /// The broker.
        broker_id: BrokerId,
        /// The epoch known.
        current: i64,
        /// The epoch in the record.
        proposed: i64,
    },
    /// A topic of that name exists.
    #[error("topic '{name}' exists already")]
    TopicExists {
        /// The name.
        name: TopicName,
    },
    /// A topic of that identity exists.
    #[error("topic id {topic_id} is taken")]
    TopicIdTaken {
        /// The identity.
        topic_id: Uuid,
    },
    /// The name is not one a topic can have.
    #[error("illegal topic name in a metadata record: {0}")]
    InvalidTopicName(#[from] InvalidTopicName),
    /// No topic has that identity.
    #[error("no topic has the id {topic_id}")]
    UnknownTopicId {
        /// The identity.
        topic_id: Uuid,
    },
    /// No topic has that name.
    #[error("no topic is named '{name}'")]
    UnknownTopic {
        /// The name.
        name: TopicName,
    },
    /// The partition is neither a known one nor the next new one.
    #[error("partition {partition} of topic '{topic}' does not follow the {count} known ones")]
    PartitionGap {
        /// The topic.
        topic: TopicName,
        /// The partition in the record.
        partition: i32,
        /// How many partitions the topic has.
        count: i32,
    },
    /// The record was decided on another state of the partition.
    #[error(
        "partition {partition} of topic '{topic}' is at epoch {current_epoch} with leader epoch {current_leader_epoch}; \
         a record with epoch {epoch} and leader epoch {leader_epoch} does not follow"
    )]
    StalePartition {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: i32,
        /// The partition epoch known.
        current_epoch: i32,
        /// The leader epoch known.
        current_leader_epoch: i32,
        /// The partition epoch in the record.
        epoch: i32,
        /// The leader epoch in the record.
        leader_epoch: i32,
    },
    /// No replicas, one twice, or a leader or in-sync replica that is no replica.
    #[error(
        "partition {partition} of topic '{topic}' has contradictory replicas {replicas:?}, in-sync {isr:?}, leader {leader:?}"
    )]
    InvalidReplicas {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: i32,
        /// The replicas in the record.
        replicas: Vec<i32>,
        /// The in-sync replicas in the record.
        isr: Vec<i32>,
        /// The leader in the record.
        leader: Option<i32>,
    },
    /// The block does not begin where the last one ended, or is empty.
    #[error("producer ids {first}..{next} do not follow the last block, which ended at {current}")]
    ProducerIdGap {
        /// The first id that is free.
        current: i64,
        /// The first id of the block.
        first: i64,
        /// The id after the block.
        next: i64,
    },
    /// A quota of nobody, of nothing, or without a limit that is one.
    #[error("a metadata record sets quota '{key}' to {limit:?} for an entity that cannot have it")]
    InvalidQuota {
        /// The key in the record.
        key: String,
        /// The limit in the record.
        limit: Option<String>,
    },
    /// A rule of no resource, for nobody or from nowhere.
    #[error("the access rule {id} in a metadata record is none")]
    InvalidAcl {
        /// The rule's identity.
        id: Uuid,
    },
    /// A rule that says the same, or one of the same identity, exists.
    #[error("the access rule {id} exists already, or one that says the same")]
    AclExists {
        /// The rule's identity.
        id: Uuid,
    },
    /// There is no such rule.
    #[error("no access rule has the id {id}")]
    UnknownAcl {
        /// The rule's identity.
        id: Uuid,
    },
    /// A credential without a user or with parts that are no keys of its mechanism.
    #[error("a metadata record gives user '{user}' a {mechanism} credential that is none")]
    InvalidScramCredential {
        /// The user in the record.
        user: String,
        /// The mechanism.
        mechanism: &'static str,
    },
}

impl MetadataImage {
    /// The image after a batch of records, one version on.
    ///
    /// # Errors
    /// [`ReplayError`] for the first record that does not fit; then none of the batch counts (META-2).
    pub fn apply(&self, records: &[MetadataRecord]) -> Result<MetadataImage, ReplayError> {
        let mut next = self.clone();
        for record in records {
            next.replay(record)?;
        }
        next.version += 1;
        Ok(next)
    }

    fn replay(&mut self, record: &MetadataRecord) -> Result<(), ReplayError> {
        match record {
            MetadataRecord::Cluster(record) => self.replay_cluster(record),
            MetadataRecord::Feature(record) => {
                Arc::make_mut(&mut self.features).insert(record.name.clone(), record.level);
                Ok(())
            }
            MetadataRecord::Broker(record) => self.replay_broker(record),
            MetadataRecord::Topic(record) => self.replay_topic(record),
            MetadataRecord::Partition(record) => self.replay_partition(record),
            MetadataRecord::RemoveTopic(record) => self.replay_remove_topic(record),
            MetadataRecord::Config(record) => self.replay_config(record),
            MetadataRecord::ProducerIdBlock(record) => self.replay_producer_id_block(record),
            MetadataRecord::ClientQuota(record) => self.replay_client_quota(record),
            MetadataRecord::ScramCredential(record) => self.replay_scram_credential(record),
            MetadataRecord::Acl(record) => self.replay_acl(record),
            MetadataRecord::RemoveAcl(record) => self.replay_remove_acl(record),
        }
    }

    fn replay_cluster(&mut self, record: &ClusterRecord) -> Result<(), ReplayError> {
        match &self.cluster_id {
            Some(current) if **current != *record.cluster_id => Err(ReplayError::ClusterNamed {
                current: current.as_ref().to_owned(),
                proposed: record.cluster_id.clone(),
            }),
            _ => {
                self.cluster_id = Some(record.cluster_id.as_str().into());
                Ok(())
            }
        }
    }

    fn replay_broker(&mut self, record: &BrokerRecord) -> Result<(), ReplayError> {
        let broker_id = BrokerId::new(record.broker_id);
        if let Some(known) = self
            .brokers
            .get(&broker_id)
            .filter(|known| known.broker_epoch >= record.broker_epoch)
        {
            let (current, proposed) = (known.broker_epoch, record.broker_epoch);
            return Err(ReplayError::StaleBrokerEpoch {
                broker_id,
                current,
                proposed,
            });
        }
        let broker = BrokerImage {
            incarnation_id: record.incarnation_id,
            broker_epoch: record.broker_epoch,
            endpoints: record.endpoints.clone(),
            rack: record.rack.clone(),
        };
        Arc::make_mut(&mut self.brokers).insert(broker_id, broker);
        Ok(())
    }

    fn replay_topic(&mut self, record: &TopicRecord) -> Result<(), ReplayError> {
        let name = TopicName::new(record.name.as_str())?;
        let id = TopicId::new(record.topic_id);
        if self.topics.contains_key(&name) {
            return Err(ReplayError::TopicExists { name });
        }
        if self.names_by_id.contains_key(&id) {
            return Err(ReplayError::TopicIdTaken {
                topic_id: record.topic_id,
            });
        }
        let topic = TopicImage {
            id,
            name: name.clone(),
            partitions: Vec::new(),
        };
        Arc::make_mut(&mut self.names_by_id).insert(id, name.clone());
        Arc::make_mut(&mut self.topics).insert(name, Arc::new(topic));
        Ok(())
    }

    fn replay_partition(&mut self, record: &PartitionRecord) -> Result<(), ReplayError> {
        let unknown = ReplayError::UnknownTopicId {
            topic_id: record.topic_id,
        };
        let Some(name) = self.names_by_id.get(&TopicId::new(record.topic_id)) else {
            return Err(unknown);
        };
        let Some(topic) = Arc::make_mut(&mut self.topics).get_mut(name) else {
            return Err(unknown);
        };
        let topic = Arc::make_mut(topic);
        check_replicas(&topic.name, record)?;
        check_epochs(topic, record)?;
        let partition = PartitionImage {
            replicas: record.replicas.iter().copied().map(BrokerId::new).collect(),
            isr: record.isr.iter().copied().map(BrokerId::new).collect(),
            leader: record.leader.map(BrokerId::new),
            leader_epoch: LeaderEpoch::new(record.leader_epoch),
            partition_epoch: record.partition_epoch,
        };
        match usize::try_from(record.partition)
            .ok()
            .and_then(|index| topic.partitions.get_mut(index))
        {
            Some(known) => *known = partition,
            None => topic.partitions.push(partition),
        }
        Ok(())
    }

    fn replay_remove_topic(&mut self, record: &RemoveTopicRecord) -> Result<(), ReplayError> {
        let id = TopicId::new(record.topic_id);
        let name = Arc::make_mut(&mut self.names_by_id)
            .remove(&id)
            .ok_or(ReplayError::UnknownTopicId {
                topic_id: record.topic_id,
            })?;
        Arc::make_mut(&mut self.topics).remove(&name);
        let resource = ConfigResource::Topic(name);
        if self.configs.contains_key(&resource) {
            Arc::make_mut(&mut self.configs).remove(&resource);
        }
        Ok(())
    }

    fn replay_config(&mut self, record: &ConfigRecord) -> Result<(), ReplayError> {
        let resource = match &record.resource {
            ConfigResourceName::Topic(name) => {
                let name = TopicName::new(name.as_str())?;
                if !self.topics.contains_key(&name) {
                    return Err(ReplayError::UnknownTopic { name });
                }
                ConfigResource::Topic(name)
            }
            ConfigResourceName::Broker(id) => ConfigResource::Broker(BrokerId::new(*id)),
            ConfigResourceName::AllBrokers => ConfigResource::AllBrokers,
            ConfigResourceName::Group(name) => ConfigResource::Group(name.clone()),
            ConfigResourceName::ClientMetrics(name) => ConfigResource::ClientMetrics(name.clone()),
        };
        let configs = Arc::make_mut(&mut self.configs);
        let entries = configs.entry(resource.clone()).or_default();
        match &record.value {
            Some(value) => entries.insert(record.key.clone(), value.clone()),
            None => entries.remove(&record.key),
        };
        if entries.is_empty() {
            configs.remove(&resource);
        }
        Ok(())
    }

    fn replay_producer_id_block(&mut self, record: &ProducerIdBlockRecord) -> Result<(), ReplayError> {
        let current = self.next_producer_id.get();
        let (first, next) = (record.first_producer_id, record.next_producer_id);
        if first != current || next <= first {
            return Err(ReplayError::ProducerIdGap { current, first, next });
        }
        self.next_producer_id = ProducerId::new(next);
        Ok(())
    }

    fn replay_client_quota(&mut self, record: &ClientQuotaRecord) -> Result<(), ReplayError> {
        let invalid = || ReplayError::InvalidQuota {
            key: record.key.clone(),
            limit: record.limit.clone(),
        };
        let key = QuotaKey::from_name(&record.key).ok_or_else(invalid)?;
        let (user, client_id, ip) = (&record.user, &record.client_id, &record.ip);
        let entity = QuotaEntity::from_names(user.clone(), client_id.clone(), ip.clone())
            .filter(|entity| entity.takes(key))
            .ok_or_else(invalid)?;
        let limit = match &record.limit {
            Some(text) => Some(text.parse().ok().and_then(QuotaLimit::new).ok_or_else(invalid)?),
            None => None,
        };
        Arc::make_mut(&mut self.client_quotas).set(entity, key, limit);
        Ok(())
    }

    fn replay_acl(&mut self, record: &AclRecord) -> Result<(), ReplayError> {
        let id = record.id;
        let binding = AclBinding::from_record(record).ok_or(ReplayError::InvalidAcl { id })?;
        if self.acls.get(id).is_some() || self.acls.id_of(&binding).is_some() {
            return Err(ReplayError::AclExists { id });
        }
        Arc::make_mut(&mut self.acls).insert(id, binding);
        Ok(())
    }

    fn replay_remove_acl(&mut self, record: &RemoveAclRecord) -> Result<(), ReplayError> {
        let id = record.id;
        if self.acls.get(id).is_none() {
            return Err(ReplayError::UnknownAcl { id });
        }
        Arc::make_mut(&mut self.acls).remove(id);
        Ok(())
    }

    fn replay_scram_credential(&mut self, record: &ScramCredentialRecord) -> Result<(), ReplayError> {
        let mechanism = ScramMechanism::from_stored(record.mechanism);
        let invalid = || ReplayError::InvalidScramCredential {
            user: record.user.clone(),
            mechanism: mechanism.name(),
        };
        let credential = match &record.credential {
            Some(stored) => Some(ScramCredential::from_stored(mechanism, stored).ok_or_else(invalid)?),
            None => None,
        };
        if record.user.is_empty() {
            return Err(invalid());
        }
        let users = Arc::make_mut(&mut self.scram_users);
        match credential {
            Some(credential) => {
                let credentials = users.entry(record.user.clone()).or_default();
                credentials.insert(mechanism, credential);
            }
            None => {
                if let Some(credentials) = users.get_mut(&record.user) {
                    credentials.remove(&mechanism);
                    if credentials.is_empty() {
                        users.remove(&record.user);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Refuses a record that does not follow the partition's state. A partition seen for the first time may come with any
/// epochs, since snapshots begin there.
fn check_epochs(topic: &TopicImage, record: &PartitionRecord) -> Result<(), ReplayError> {
    let count = topic.partition_count();
    if !(0..=count).contains(&record.partition) {
        let (topic, partition) = (topic.name.clone(), record.partition);
        return Err(ReplayError::PartitionGap {
            topic,
            partition,
            count,
        });
    }
    let known = usize::try_from(record.partition)
        .ok()
        .and_then(|index| topic.partitions.get(index));
    let follows = |known: &PartitionImage| {
        known.partition_epoch.checked_add(1) == Some(record.partition_epoch)
            && known.leader_epoch.get() <= record.leader_epoch
    };
    match known {
        Some(known) if !follows(known) => Err(ReplayError::StalePartition {
            topic: topic.name.clone(),
            partition: record.partition,
            current_epoch: known.partition_epoch,
            current_leader_epoch: known.leader_epoch.get(),
            epoch: record.partition_epoch,
            leader_epoch: record.leader_epoch,
        }),
        _ => Ok(()),
    }
}

fn check_replicas(topic: &TopicName, record: &PartitionRecord) -> Result<(), ReplayError> {
    let distinct = |ids: &[i32]| {
        ids.iter()
            .enumerate()
            .all(|(position, id)| !ids[..position].contains(id))
    };
    let sound = !record.replicas.is_empty()
        && distinct(&record.replicas)
        && distinct(&record.isr)
        && record
            .isr
            .iter()
            .chain(&record.leader)
            .all(|id| record.replicas.contains(id));
    if sound {
        return Ok(());
    }
    Err(ReplayError::InvalidReplicas {
        topic: topic.clone(),
        partition: record.partition,
        replicas: record.replicas.clone(),
        isr: record.isr.clone(),
        leader: record.leader,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acl::{AclOperation, AclPermission, PatternType, ResourceType};
    use crate::record::{FeatureRecord, QuotaName};

    const TOPIC: Uuid = Uuid::from_u128(7);

    fn topic() -> MetadataRecord {
        MetadataRecord::Topic(TopicRecord {
            topic_id: TOPIC,
            name: "prices".into(),
        })
    }

    fn partition(partition: i32, leader_epoch: i32, partition_epoch: i32) -> MetadataRecord {
        MetadataRecord::Partition(PartitionRecord {
            topic_id: TOPIC,
            partition,
            replicas: vec![1, 2],
            isr: vec![2, 1],
            leader: Some(1),
            leader_epoch,
            partition_epoch,
        })
    }

    fn config(value: Option<&str>) -> MetadataRecord {
        MetadataRecord::Config(ConfigRecord {
            resource: ConfigResourceName::Topic("prices".into()),
            key: "retention.ms".into(),
            value: value.map(str::to_owned),
        })
    }

    fn scram(mechanism: ScramMechanism, hash_bytes: usize) -> MetadataRecord {
        let credential = ScramCredential {
            salt: vec![1, 2, 3],
            iterations: 4096,
            stored_key: vec![4; hash_bytes],
            server_key: vec![5; hash_bytes],
        };
        MetadataRecord::ScramCredential(credential.record("ann", mechanism))
    }

    fn acl(id: u128, name: &str, principal: &str) -> MetadataRecord {
        MetadataRecord::Acl(AclRecord {
            id: Uuid::from_u128(id),
            resource_type: ResourceType::Topic,
            name: name.into(),
            pattern: PatternType::Literal,
            principal: principal.into(),
            host: "*".into(),
            operation: AclOperation::Read,
            permission: AclPermission::Allow,
        })
    }

    fn sample() -> MetadataImage {
        let cluster = ClusterRecord {
            cluster_id: "c".into(),
        };
        let feature = FeatureRecord {
            name: "metadata.version".into(),
            level: 1,
        };
        let block = ProducerIdBlockRecord {
            first_producer_id: 0,
            next_producer_id: 1000,
        };
        let broker = BrokerRecord {
            broker_id: 1,
            incarnation_id: Uuid::from_u128(1),
            broker_epoch: 1,
            endpoints: vec![],
            rack: Some("r".into()),
        };
        MetadataImage::default()
            .apply(&[
                MetadataRecord::Cluster(cluster),
                MetadataRecord::Feature(feature),
                MetadataRecord::Broker(broker),
                topic(),
                partition(0, 0, 0),
                partition(1, 0, 0),
                config(Some("1000")),
                MetadataRecord::ProducerIdBlock(block),
                MetadataRecord::ClientQuota(
                    QuotaEntity::User(QuotaName::Default)
                        .record(QuotaKey::RequestPercentage, QuotaLimit::new(0.1)),
                ),
                scram(ScramMechanism::Sha256, 32),
                scram(ScramMechanism::Sha512, 64),
                acl(1, "prices", "User:ann"),
                acl(2, "*", "User:*"),
            ])
            .unwrap()
            .apply(&[partition(0, 3, 1)])
            .unwrap()
    }

    #[test]
    fn the_records_of_an_image_give_the_same_image() {
        let image = sample();
        assert_eq!(
            MetadataImage::restore(image.version(), &image.records()),
            Ok(image)
        );
    }

    #[test]
    fn a_batch_with_one_misfit_changes_nothing() {
        let image = sample();
        let refused = image.apply(&[config(None), topic()]).unwrap_err();
        assert_eq!(refused.to_string(), "topic 'prices' exists already");
        assert_eq!(image, sample());
    }

    #[test]
    fn a_partition_record_decided_on_an_old_state_is_refused() {
        let image = sample();
        assert!(image.apply(&[partition(0, 4, 2)]).is_ok());
        for stale in [partition(0, 4, 1), partition(0, 4, 3), partition(0, 2, 2)] {
            let refusal = image.apply(&[stale]);
            assert!(
                matches!(refusal, Err(ReplayError::StalePartition { .. })),
                "{refusal:?}"
            );
        }
    }

    #[test]
    fn partitions_come_without_holes() {
        let refused = sample().apply(&[partition(3, 0, 0)]).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "partition 3 of topic 'prices' does not follow the 2 known ones"
        );
        assert!(sample().apply(&[partition(-1, 0, 0)]).is_err());
    }

    #[test]
    fn a_leader_outside_the_replicas_is_refused() {
        let MetadataRecord::Partition(mut record) = partition(2, 0, 0) else {
            unreachable!()
        };
        record.leader = Some(3);
        let refused = sample().apply(&[MetadataRecord::Partition(record)]);
        assert!(
            matches!(refused, Err(ReplayError::InvalidReplicas { .. })),
            "{refused:?}"
        );
    }

    #[test]
    fn removing_a_topic_takes_its_configs_along() {
        let image = sample()
            .apply(&[MetadataRecord::RemoveTopic(RemoveTopicRecord { topic_id: TOPIC })])
            .unwrap();
        assert!(image.topic("prices").is_none());
        assert!(image.topic_by_id(TopicId::new(TOPIC)).is_none());
        let resource = ConfigResource::Topic(TopicName::new("prices").unwrap());
        assert!(image.configs(&resource).is_empty());
    }

    #[test]
    fn producer_id_blocks_never_overlap() {
        let block = |first_producer_id, next_producer_id| {
            [MetadataRecord::ProducerIdBlock(ProducerIdBlockRecord {
                first_producer_id,
                next_producer_id,
            })]
        };
        let image = sample();
        assert!(image.apply(&block(1000, 2000)).is_ok());
        assert!(image.apply(&block(999, 2000)).is_err());
        assert!(image.apply(&block(1000, 1000)).is_err());
    }

    #[test]
    fn a_credential_is_found_until_it_is_taken_away() {
        let image = sample();
        let of = |image: &MetadataImage| {
            let found = image.scram_credential("ann", ScramMechanism::Sha512);
            found.map(|credential| credential.stored_key.clone())
        };
        assert_eq!(of(&image), Some(vec![4; 64]));
        assert_eq!(image.scram_credential("bob", ScramMechanism::Sha512), None);
        let remove = |mechanism: ScramMechanism| {
            MetadataRecord::ScramCredential(ScramCredentialRecord {
                user: "ann".into(),
                mechanism: mechanism.stored_name(),
                credential: None,
            })
        };
        let image = image.apply(&[remove(ScramMechanism::Sha512)]).unwrap();
        assert_eq!(of(&image), None);
        assert!(image.scram_credential("ann", ScramMechanism::Sha256).is_some());
        let image = image.apply(&[remove(ScramMechanism::Sha256)]).unwrap();
        assert!(image.scram_users().is_empty());
    }

    #[test]
    fn a_credential_with_keys_of_another_mechanism_is_refused() {
        let refused = sample().apply(&[scram(ScramMechanism::Sha512, 32)]).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "a metadata record gives user 'ann' a SCRAM-SHA-512 credential that is none"
        );
    }

    #[test]
    fn an_access_rule_is_made_once_and_removed_once() {
        let image = sample();
        let refused = |record: MetadataRecord| image.apply(&[record]).unwrap_err().to_string();
        assert!(refused(acl(1, "other", "User:ann")).contains("exists already"));
        assert!(refused(acl(3, "prices", "User:ann")).contains("exists already"));
        for (name, principal) in [("", "User:ann"), ("prices", "ann"), ("prices", "User:")] {
            assert!(
                refused(acl(3, name, principal)).contains("is none"),
                "{name} {principal}"
            );
        }
        let remove = |id| {
            MetadataRecord::RemoveAcl(RemoveAclRecord {
                id: Uuid::from_u128(id),
            })
        };
        assert!(refused(remove(3)).contains("no access rule"));
        let image = image.apply(&[remove(1), remove(2)]).unwrap();
        assert!(image.acls().is_empty());
    }
}
