//! What is known about the cluster: brokers, topics, leaders. Readers get an immutable snapshot; errors and age make
//! it be fetched again, by one task at a time on behalf of all.
//!
//! # Invariants
//! - The leader epoch of a partition never goes backwards within one incarnation of its topic (semantic 16): an
//!   answer from a broker that lags does not undo what a fresher one said.
//! - A topic that a broker reports as gone leaves the snapshot.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use highwater_types::{BrokerId, ByteString, LeaderEpoch, PartitionId, TopicId, TopicName, TopicPartition};
use highwater_wire::{
    ApiKey, ErrorCode,
    messages::{
        MetadataRequest, MetadataResponse,
        metadata_request::MetadataRequestTopic,
        metadata_response::{MetadataResponsePartition, MetadataResponseTopic},
    },
};
use tokio::time::Instant;

use crate::{
    ClientError, limits,
    network::{Broker, Network},
};

/// A broker's place on the network.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BrokerInfo {
    /// Its number in the cluster.
    pub id: BrokerId,
    /// Host it advertises.
    pub host: ByteString,
    /// Port it advertises.
    pub port: i32,
    /// `broker.rack`.
    pub rack: Option<ByteString>,
}

impl BrokerInfo {
    /// host:port, as [`Transport::connect`](crate::Transport::connect) takes it.
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port) // an IPv6 address
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// One partition, as the cluster last described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionMetadata {
    /// Index in the topic.
    pub partition: PartitionId,
    /// Who leads it; `None` while nobody does.
    pub leader: Option<BrokerId>,
    /// The leader's epoch, where the broker tells it (Metadata v7+).
    pub leader_epoch: Option<LeaderEpoch>,
    /// All replicas, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Those in sync.
    pub isr: Vec<BrokerId>,
}

/// One topic, as the cluster last described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMetadata {
    /// Its name.
    pub name: TopicName,
    /// Its identity (Metadata v10+).
    pub id: Option<TopicId>,
    /// Whether it is one of Kafka's own.
    pub is_internal: bool,
    /// Partitions by index, without holes.
    pub partitions: Vec<PartitionMetadata>,
}

impl TopicMetadata {
    /// The partition with this index.
    pub fn partition(&self, partition: PartitionId) -> Option<&PartitionMetadata> {
        self.partitions.get(usize::try_from(partition.get()).ok()?)
    }
}

/// What is known about the cluster at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterView {
    /// The cluster's identity (Metadata v2+).
    pub cluster_id: Option<ByteString>,
    /// The broker to ask for changes.
    pub controller: Option<BrokerId>,
    /// Live brokers.
    pub brokers: BTreeMap<BrokerId, BrokerInfo>,
    /// Topics asked for so far.
    pub topics: BTreeMap<TopicName, Arc<TopicMetadata>>,
    /// Topics that were asked for and that asking again does not help with: this client may not see them, or no topic
    /// can have such a name.
    refused: BTreeMap<TopicName, ErrorCode>,
}

impl ClusterView {
    /// Why nothing is known about a topic, if the cluster has refused to tell.
    pub fn refusal(&self, topic: &TopicName) -> Option<ClientError> {
        let code = self.refused.get(topic)?;
        Some(ClientError::broker(
            ApiKey::Metadata,
            *code,
            format!("topic {topic}"),
        ))
    }

    /// The code of [`ClusterView::refusal`].
    pub(crate) fn refusal_code(&self, topic: &TopicName) -> Option<ErrorCode> {
        self.refused.get(topic).copied()
    }

    /// Leader and its epoch, when both partition and leader are known.
    pub fn leader(&self, tp: &TopicPartition) -> Option<(&BrokerInfo, Option<LeaderEpoch>)> {
        let partition = self.topics.get(&tp.topic)?.partition(tp.partition)?;
        Some((self.brokers.get(&partition.leader?)?, partition.leader_epoch))
    }
}

/// Which topics a refresh asks for.
enum Scope<'a> {
    Brokers,
    /// To use them: whether asking creates them is up to the configuration.
    Topics(&'a [TopicName]),
    /// To describe them: asking never creates any.
    Look(&'a [TopicName]),
    All,
}

/// The shared cache.
#[derive(Debug)]
pub(crate) struct Metadata {
    network: Network,
    view: RwLock<Arc<ClusterView>>,
    fetched_at: Mutex<HashMap<TopicName, Instant>>,
    /// Counts refreshes; lets a caller see whether another one did its work while it waited.
    refreshes: AtomicU64,
    refreshing: tokio::sync::Mutex<Option<Instant>>,
}

impl Metadata {
    pub(crate) fn new(network: Network) -> Self {
        Self {
            network,
            view: RwLock::default(),
            fetched_at: Mutex::default(),
            refreshes: AtomicU64::new(0),
            refreshing: tokio::sync::Mutex::new(None),
        }
    }

    pub(crate) fn view(&self) -> Arc<ClusterView> {
        self.view
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .clone()
    }

    fn is_fresh(&self, topic: &TopicName) -> bool {
        let max_age = self.network.config().metadata_max_age;
        let fetched_at = self
            .fetched_at
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        fetched_at.get(topic).is_some_and(|at| at.elapsed() < max_age)
    }

    /// The topic if it is known and not too old, without asking.
    pub(crate) fn cached(&self, topic: &TopicName) -> Option<Arc<TopicMetadata>> {
        self.is_fresh(topic)
            .then(|| self.view().topics.get(topic).cloned())
            .flatten()
    }

    /// Makes sure all `topics` were looked up within the last `metadata_max_age`. Topics that do not exist are left
    /// out of the view; that is not an error here.
    pub(crate) async fn ensure(&self, topics: &[TopicName]) -> Result<Arc<ClusterView>, ClientError> {
        let stale: Vec<TopicName> = topics.iter().filter(|t| !self.is_fresh(t)).cloned().collect();
        if stale.is_empty() {
            Ok(self.view())
        } else {
            self.refresh(&stale).await
        }
    }

    /// Looks `topics` up again, for all callers that wait meanwhile at once.
    pub(crate) async fn refresh(&self, topics: &[TopicName]) -> Result<Arc<ClusterView>, ClientError> {
        let seen = self.refreshes.load(Ordering::Acquire);
        let mut last = self.refreshing.lock().await;
        let done_by_another = self.refreshes.load(Ordering::Acquire) > seen + 1;
        if done_by_another && topics.iter().all(|topic| self.is_fresh(topic)) {
            return Ok(self.view());
        }
        if let Some(at) = *last {
            tokio::time::sleep_until(at + limits::METADATA_REFRESH_BACKOFF).await;
        }
        let outcome = self.fetch(Scope::Topics(topics)).await;
        *last = Some(Instant::now());
        outcome
    }

    /// Describes `topics` without creating any.
    pub(crate) async fn look_up(&self, topics: &[TopicName]) -> Result<Arc<ClusterView>, ClientError> {
        self.fetch(Scope::Look(topics)).await
    }

    /// The brokers, without topics.
    pub(crate) async fn refresh_brokers(&self) -> Result<Arc<ClusterView>, ClientError> {
        self.fetch(Scope::Brokers).await
    }

    /// Every topic of the cluster.
    pub(crate) async fn refresh_all(&self) -> Result<Arc<ClusterView>, ClientError> {
        self.fetch(Scope::All).await
    }

    /// Brokers known by id first, then the bootstrap addresses; the first that can be reached.
    pub(crate) async fn any_broker(&self) -> Result<Arc<Broker>, ClientError> {
        let view = self.view();
        let known = view.brokers.values().map(BrokerInfo::address);
        let bootstrap = self.network.config().bootstrap.iter().cloned();
        let mut addresses: Vec<String> = Vec::new();
        for address in known.chain(bootstrap) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let mut source = None;
        let mut refusal = None;
        for address in &addresses {
            match self.network.broker(address).await {
                Ok(broker) => return Ok(broker),
                Err(error) if error.is_retriable() => source = Some(Box::new(error)),
                Err(error) => refusal = Some(error),
            }
        }
        // A broker that does not accept this client says more than others that are not there.
        if let Some(refusal) = refusal {
            return Err(refusal);
        }
        Err(ClientError::NoBroker { addresses, source })
    }

    async fn fetch(&self, scope: Scope<'_>) -> Result<Arc<ClusterView>, ClientError> {
        let broker = self.any_broker().await?;
        let version = broker.version(ApiKey::Metadata)?;
        let create = self.network.config().allow_auto_create_topics;
        let to_use = matches!(scope, Scope::Topics(_));
        let (topics, asked): (Option<Vec<_>>, &[TopicName]) = match scope {
            Scope::All => (None, &[]),
            Scope::Brokers => (Some(Vec::new()), &[]),
            Scope::Topics(names) | Scope::Look(names) => {
                (Some(names.iter().map(request_topic).collect()), names)
            }
        };
        let request = MetadataRequest {
            allow_auto_topic_creation: create && to_use,
            topics,
            ..Default::default()
        };
        let response = broker.call_version(version, request, Duration::ZERO).await?;
        let everything = matches!(scope, Scope::All);
        Ok(self.merge(response, asked, everything))
    }

    fn merge(&self, response: MetadataResponse, asked: &[TopicName], everything: bool) -> Arc<ClusterView> {
        let now = Instant::now();
        let mut slot = self.view.write().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut view = ClusterView::clone(&slot);
        view.cluster_id = response.cluster_id.or(view.cluster_id);
        view.controller = (response.controller_id >= 0).then(|| BrokerId::new(response.controller_id));
        // Some brokers answer before they know anybody; keeping the old list is better than losing the way back.
        if !response.brokers.is_empty() {
            view.brokers = response
                .brokers
                .into_iter()
                .map(|b| {
                    let id = BrokerId::new(b.node_id);
                    (
                        id,
                        BrokerInfo {
                            id,
                            host: b.host,
                            port: b.port,
                            rack: b.rack,
                        },
                    )
                })
                .collect();
        }
        let mut described = BTreeSet::new();
        let mut fetched_at = self
            .fetched_at
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        for topic in response.topics {
            let Some(name) = topic.name.clone().and_then(|name| TopicName::new(name).ok()) else {
                continue;
            };
            described.insert(name.clone());
            match ErrorCode::from_code(topic.error_code) {
                ErrorCode::None => {
                    view.refused.remove(&name);
                    let old = view.topics.get(&name).cloned();
                    fetched_at.insert(name.clone(), now);
                    view.topics.insert(
                        name.clone(),
                        Arc::new(described_topic(name, topic, old.as_deref())),
                    );
                }
                ErrorCode::LeaderNotAvailable => {} // being created; what is known stays
                code => {
                    tracing::debug!(topic = %name, ?code, "topic cannot be described");
                    view.topics.remove(&name);
                    fetched_at.remove(&name);
                    let is_final = matches!(
                        code,
                        ErrorCode::TopicAuthorizationFailed | ErrorCode::InvalidTopicException
                    );
                    if !is_final {
                        view.refused.remove(&name);
                    } else {
                        view.refused.insert(name.clone(), code);
                    }
                }
            }
        }
        if everything {
            view.topics.retain(|name, _| described.contains(name));
        } else {
            for name in asked.iter().filter(|name| !described.contains(*name)) {
                view.topics.remove(name);
            }
        }
        self.refreshes.fetch_add(1, Ordering::Release);
        *slot = Arc::new(view);
        slot.clone()
    }
}

fn request_topic(name: &TopicName) -> MetadataRequestTopic {
    MetadataRequestTopic {
        name: Some(name.as_byte_string().clone()),
        ..Default::default()
    }
}

fn described_topic(
    name: TopicName,
    topic: MetadataResponseTopic,
    old: Option<&TopicMetadata>,
) -> TopicMetadata {
    let id = (!topic.topic_id.is_nil()).then(|| TopicId::new(topic.topic_id));
    let same_topic = old.filter(|old| old.id == id);
    let mut partitions: Vec<PartitionMetadata> = topic.partitions.iter().map(described_partition).collect();
    partitions.sort_by_key(|p| p.partition);
    // Indexes are the positions in the list; a list with holes or repeats is cut where it stops being one.
    let dense = partitions
        .iter()
        .zip(0i32..)
        .take_while(|(p, index)| p.partition.get() == *index)
        .count();
    partitions.truncate(dense);
    for partition in &mut partitions {
        let known = same_topic.and_then(|old| old.partition(partition.partition));
        if let Some(known) = known.filter(|known| known.leader_epoch > partition.leader_epoch) {
            *partition = known.clone();
        }
    }
    TopicMetadata {
        name,
        id,
        is_internal: topic.is_internal,
        partitions,
    }
}

fn described_partition(p: &MetadataResponsePartition) -> PartitionMetadata {
    PartitionMetadata {
        partition: PartitionId::new(p.partition_index),
        leader: (p.leader_id >= 0).then(|| BrokerId::new(p.leader_id)),
        leader_epoch: (p.leader_epoch >= 0).then(|| LeaderEpoch::new(p.leader_epoch)),
        replicas: p.replica_nodes.iter().copied().map(BrokerId::new).collect(),
        isr: p.isr_nodes.iter().copied().map(BrokerId::new).collect(),
    }
}
