//! The metadata of the cluster at one version: immutable, cheap to clone, shared by everyone who reads it.
//!
//! Refuses records that contradict the image they are replayed onto (see [`ReplayError`]); the image stays as it was.
//!
//! # Invariants
//! - Topics are known by name and by id, both or neither; partitions of a topic are numbered 0 to n-1 without holes.
//! - Replicas are never empty and hold no broker twice; in-sync replicas are among them; so is the leader, if any.
//! - Configs of a topic exist only while the topic does.

mod replay;

use std::{collections::BTreeMap, sync::Arc};

use highwater_types::{BrokerId, LeaderEpoch, PartitionId, ProducerId, TopicId, TopicName};
use uuid::Uuid;

use crate::acl::Acls;
use crate::quotas::{ClientQuotas, QuotaKey, QuotaLimit};
use crate::record::{
    BrokerRecord, ClusterRecord, ConfigRecord, ConfigResourceName, EndpointRecord, FeatureRecord,
    MetadataRecord, PartitionRecord, ProducerIdBlockRecord, TopicRecord,
};
use crate::scram::{ScramCredential, ScramMechanism, UserScramCredentials};

pub use replay::ReplayError;

/// Everything the cluster has agreed on, at one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetadataImage {
    version: u64,
    cluster_id: Option<Arc<str>>,
    features: Arc<BTreeMap<String, i16>>,
    brokers: Arc<BTreeMap<BrokerId, BrokerImage>>,
    topics: Arc<BTreeMap<TopicName, Arc<TopicImage>>>,
    names_by_id: Arc<BTreeMap<TopicId, TopicName>>,
    configs: Arc<BTreeMap<ConfigResource, BTreeMap<String, String>>>,
    next_producer_id: ProducerId,
    client_quotas: Arc<ClientQuotas>,
    scram_users: Arc<BTreeMap<String, UserScramCredentials>>,
    acls: Arc<Acls>,
}

/// A registered broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerImage {
    /// Drawn anew by each start of its process.
    pub incarnation_id: Uuid,
    /// Grows with each incarnation (KIP-631).
    pub broker_epoch: i64,
    /// Where clients reach it, per listener.
    pub endpoints: Vec<EndpointRecord>,
    /// The rack it stands in, if told.
    pub rack: Option<String>,
}

/// A topic and its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicImage {
    /// Its identity.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// Its partitions; the position is the partition id.
    pub partitions: Vec<PartitionImage>,
}

/// The state of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionImage {
    /// All replicas; the first is the preferred leader.
    pub replicas: Vec<BrokerId>,
    /// The replicas in sync.
    pub isr: Vec<BrokerId>,
    /// The leader, if there is one.
    pub leader: Option<BrokerId>,
    /// Counts leaders; never goes back.
    pub leader_epoch: LeaderEpoch,
    /// Counts changes of this partition.
    pub partition_epoch: i32,
}

/// A resource that has configs of its own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigResource {
    /// A topic.
    Topic(TopicName),
    /// One broker.
    Broker(BrokerId),
    /// All brokers (a broker resource with an empty name, KIP-226).
    AllBrokers,
    /// A consumer group, which need not exist.
    Group(String),
    /// A subscription to the metrics of clients, which exists as long as it has configs.
    ClientMetrics(String),
}

impl Default for MetadataImage {
    fn default() -> Self {
        Self {
            version: 0,
            cluster_id: None,
            features: Arc::default(),
            brokers: Arc::default(),
            topics: Arc::default(),
            names_by_id: Arc::default(),
            configs: Arc::default(),
            next_producer_id: ProducerId::new(0),
            client_quotas: Arc::default(),
            scram_users: Arc::default(),
            acls: Arc::default(),
        }
    }
}

impl MetadataImage {
    /// How many batches of records led here.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The cluster's name for itself, once it has one.
    pub fn cluster_id(&self) -> Option<&str> {
        self.cluster_id.as_deref()
    }

    /// The finalised level of every feature.
    pub fn features(&self) -> &BTreeMap<String, i16> {
        &self.features
    }

    /// The registered brokers.
    pub fn brokers(&self) -> &BTreeMap<BrokerId, BrokerImage> {
        &self.brokers
    }

    /// The topics in order of their names.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<TopicImage>> {
        self.topics.values()
    }

    /// A topic by name. Takes plain text, as requests carry it; an illegal name is an unknown one.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    /// A topic by identity.
    pub fn topic_by_id(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.names_by_id.get(&id).and_then(|name| self.topics.get(name))
    }

    /// A partition by topic name and index.
    pub fn partition(&self, topic: &str, partition: PartitionId) -> Option<&PartitionImage> {
        self.topic(topic).and_then(|topic| topic.partition(partition))
    }

    /// The configs set on a resource itself, without any default.
    pub fn configs(&self, resource: &ConfigResource) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.configs.get(resource).unwrap_or(&NONE)
    }

    /// The groups that have configs of their own.
    pub fn configured_groups(&self) -> impl Iterator<Item = &str> {
        let first = ConfigResource::Group(String::new());
        self.configs
            .range(first..)
            .filter_map(|(resource, _)| match resource {
                ConfigResource::Group(name) => Some(name.as_str()),
                ConfigResource::Topic(_)
                | ConfigResource::Broker(_)
                | ConfigResource::AllBrokers
                | ConfigResource::ClientMetrics(_) => None,
            })
    }

    /// The subscriptions to the metrics of clients.
    pub fn client_metrics_subscriptions(&self) -> impl Iterator<Item = &str> {
        let first = ConfigResource::ClientMetrics(String::new());
        self.configs
            .range(first..)
            .filter_map(|(resource, _)| match resource {
                ConfigResource::ClientMetrics(name) => Some(name.as_str()),
                ConfigResource::Topic(_)
                | ConfigResource::Broker(_)
                | ConfigResource::AllBrokers
                | ConfigResource::Group(_) => None,
            })
    }

    /// The first producer id that nobody holds yet.
    pub fn next_producer_id(&self) -> ProducerId {
        self.next_producer_id
    }

    /// Who may use how much.
    pub fn client_quotas(&self) -> &Arc<ClientQuotas> {
        &self.client_quotas
    }

    /// What is kept of a user's password for one mechanism, if the user has one.
    pub fn scram_credential(&self, user: &str, mechanism: ScramMechanism) -> Option<&ScramCredential> {
        self.scram_users.get(user)?.get(&mechanism)
    }

    /// The users who can log in by SCRAM, in order of their names.
    pub fn scram_users(&self) -> &BTreeMap<String, UserScramCredentials> {
        &self.scram_users
    }

    /// Who may do what.
    pub fn acls(&self) -> &Arc<Acls> {
        &self.acls
    }

    /// The resources that have configs of their own.
    pub fn configured(&self) -> impl Iterator<Item = &ConfigResource> {
        self.configs.keys()
    }

    /// The image as records: replayed onto nothing they give this image again, but for its version (see
    /// [`MetadataImage::restore`]).
    pub fn records(&self) -> Vec<MetadataRecord> {
        let mut records = Vec::new();
        let cluster_id = self.cluster_id.iter().map(|id| ClusterRecord {
            cluster_id: id.as_ref().to_owned(),
        });
        records.extend(cluster_id.map(MetadataRecord::Cluster));
        for (name, level) in self.features.iter() {
            records.push(MetadataRecord::Feature(FeatureRecord {
                name: name.clone(),
                level: *level,
            }));
        }
        records.extend(
            self.brokers
                .iter()
                .map(|(id, broker)| MetadataRecord::Broker(broker.record(*id))),
        );
        for topic in self.topics.values() {
            let name = topic.name.as_str().to_owned();
            records.push(MetadataRecord::Topic(TopicRecord {
                topic_id: topic.id.get(),
                name,
            }));
            for (index, partition) in (0..).zip(&topic.partitions) {
                let record = partition.record(topic.id, PartitionId::new(index));
                records.push(MetadataRecord::Partition(record));
            }
        }
        for (resource, entries) in self.configs.iter() {
            records.extend(entries.iter().map(|(key, value)| {
                MetadataRecord::Config(ConfigRecord {
                    resource: resource.stored_name(),
                    key: key.clone(),
                    value: Some(value.clone()),
                })
            }));
        }
        if self.next_producer_id.get() > 0 {
            records.push(MetadataRecord::ProducerIdBlock(ProducerIdBlockRecord {
                first_producer_id: 0,
                next_producer_id: self.next_producer_id.get(),
            }));
        }
        for (entity, limits) in self.client_quotas.iter() {
            let record = |(key, limit): (&QuotaKey, &QuotaLimit)| entity.record(*key, Some(*limit));
            records.extend(limits.iter().map(record).map(MetadataRecord::ClientQuota));
        }
        for (user, credentials) in self.scram_users.iter() {
            let credentials = credentials.iter();
            records.extend(credentials.map(|(mechanism, credential)| {
                MetadataRecord::ScramCredential(credential.record(user, *mechanism))
            }));
        }
        let acls = self.acls.iter();
        records.extend(acls.map(|(binding, id)| MetadataRecord::Acl(binding.record(id))));
        records
    }

    /// The image that a snapshot stands for.
    ///
    /// # Errors
    /// [`ReplayError`] when the records are not those of an image.
    pub fn restore(version: u64, records: &[MetadataRecord]) -> Result<Self, ReplayError> {
        let image = Self::default().apply(records)?;
        Ok(Self { version, ..image })
    }
}

impl TopicImage {
    /// A partition by index.
    pub fn partition(&self, partition: PartitionId) -> Option<&PartitionImage> {
        usize::try_from(partition.get())
            .ok()
            .and_then(|index| self.partitions.get(index))
    }

    /// How many partitions there are; Kafka counts them in 32 bits.
    pub fn partition_count(&self) -> i32 {
        i32::try_from(self.partitions.len()).unwrap_or(i32::MAX)
    }

    /// Whether the name marks the topic as one of the broker's own.
    pub fn is_internal(&self) -> bool {
        matches!(self.name.as_str(), "__consumer_offsets" | "__transaction_state")
    }
}

impl PartitionImage {
    /// The state as a record of the log.
    pub fn record(&self, topic_id: TopicId, partition: PartitionId) -> PartitionRecord {
        PartitionRecord {
            topic_id: topic_id.get(),
            partition: partition.get(),
            replicas: self.replicas.iter().map(|id| id.get()).collect(),
            isr: self.isr.iter().map(|id| id.get()).collect(),
            leader: self.leader.map(BrokerId::get),
            leader_epoch: self.leader_epoch.get(),
            partition_epoch: self.partition_epoch,
        }
    }
}

impl BrokerImage {
    /// The registration as a record of the log.
    pub fn record(&self, broker_id: BrokerId) -> BrokerRecord {
        BrokerRecord {
            broker_id: broker_id.get(),
            incarnation_id: self.incarnation_id,
            broker_epoch: self.broker_epoch,
            endpoints: self.endpoints.clone(),
            rack: self.rack.clone(),
        }
    }

    /// The address on one listener.
    pub fn endpoint(&self, listener: &str) -> Option<&EndpointRecord> {
        self.endpoints
            .iter()
            .find(|endpoint| endpoint.listener == listener)
    }
}

impl ConfigResource {
    /// The form in which the resource is stored.
    pub fn stored_name(&self) -> ConfigResourceName {
        match self {
            ConfigResource::Topic(name) => ConfigResourceName::Topic(name.as_str().to_owned()),
            ConfigResource::Broker(id) => ConfigResourceName::Broker(id.get()),
            ConfigResource::AllBrokers => ConfigResourceName::AllBrokers,
            ConfigResource::Group(name) => ConfigResourceName::Group(name.clone()),
            ConfigResource::ClientMetrics(name) => ConfigResourceName::ClientMetrics(name.clone()),
        }
    }
}
