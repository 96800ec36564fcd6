//! Topics, configurations, groups, offsets, records, access rules and users, as Kafka's admin client offers them.
//!
//! Operations on several things answer for each of them; the outer error means that no answer came at all.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use highwater_types::{ByteString, Offset, TopicName, TopicPartition};
use highwater_wire::{
    ApiKey, ErrorCode, Request,
    messages::{
        CreatePartitionsRequest, CreateTopicsRequest, DeleteRecordsRequest, DeleteTopicsRequest,
        DescribeClusterRequest,
        create_partitions_request::CreatePartitionsTopic,
        create_topics_request::{CreatableTopic, CreatableTopicConfig},
        delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic},
        delete_topics_request::DeleteTopicState,
    },
};

use crate::{
    BrokerInfo, ClientError, ClusterView, IsolationLevel, ListedOffset, OffsetSpec, TopicMetadata,
    client::{ClientCore, Retry},
    network::Broker,
};

mod acls;
mod configs;
mod groups;
mod users;

pub use acls::{
    AclBinding, AclFilter, AclOperation, AclPermission, PatternFilter, PatternType, ResourceType, UnknownWord,
};
pub use configs::{ConfigEntry, ConfigOp, ConfigResource, ConfigSource};
pub use groups::{GroupDescription, GroupListing, GroupMember};
pub use users::{DEFAULT_ITERATIONS, ScramCredentialInfo, UserScramAlteration};

/// One answer per thing asked about.
pub type Answers<K, V> = BTreeMap<K, Result<V, ClientError>>;

/// A topic to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: TopicName,
    /// How many partitions; `None` leaves it to the broker (`num.partitions`).
    pub partitions: Option<i32>,
    /// How many replicas; `None` leaves it to the broker (`default.replication.factor`).
    pub replication_factor: Option<i16>,
    /// Topic configuration by Kafka's names.
    pub configs: BTreeMap<ByteString, ByteString>,
}

impl NewTopic {
    /// A topic with the broker's replication factor and no configuration of its own.
    pub fn new(name: TopicName, partitions: i32) -> Self {
        Self {
            name,
            partitions: Some(partitions),
            replication_factor: None,
            configs: BTreeMap::new(),
        }
    }

    /// Adds a configuration entry.
    #[must_use]
    pub fn config(mut self, name: impl Into<ByteString>, value: impl Into<ByteString>) -> Self {
        self.configs.insert(name.into(), value.into());
        self
    }
}

/// The cluster as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterDescription {
    /// Its identity.
    pub cluster_id: Option<ByteString>,
    /// The broker that takes changes, as the cluster shows it to clients.
    pub controller: Option<highwater_types::BrokerId>,
    /// Live brokers.
    pub brokers: Vec<BrokerInfo>,
}

/// Asks and changes the cluster. Cloning shares connections.
#[derive(Debug, Clone)]
pub struct Admin {
    core: Arc<ClientCore>,
}

impl Admin {
    pub(crate) fn new(core: Arc<ClientCore>) -> Self {
        Self { core }
    }

    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.core.config.request_timeout.as_millis()).unwrap_or(i32::MAX)
    }

    /// Asks any broker; retries for `api_timeout` while none answers.
    async fn ask_any<R: Request + Clone>(&self, request: R) -> Result<R::Response, ClientError> {
        let mut retry = Retry::new(&self.core.config);
        loop {
            let answer = match self.core.metadata.any_broker().await {
                Ok(broker) => broker.call(request.clone()).await,
                Err(error) => Err(error),
            };
            match answer {
                Ok(response) => return Ok(response),
                Err(error) => retry.pause(error).await?,
            }
        }
    }

    /// Asks the controller and waits while it carries the change out; `refused` finds NOT_CONTROLLER in an answer.
    async fn ask_controller<R: Request + Clone>(
        &self,
        request: impl Fn(i16) -> R,
        codes: impl Fn(&R::Response) -> Vec<i16>,
    ) -> Result<R::Response, ClientError> {
        let mut retry = Retry::new(&self.core.config);
        loop {
            let error = match self.ask_controller_once(&request).await {
                Ok(response) if codes(&response).contains(&ErrorCode::NotController.code()) => {
                    ClientError::broker(R::KEY, ErrorCode::NotController, "the controller")
                }
                Ok(response) => return Ok(response),
                Err(error) => error,
            };
            retry.pause(error).await?;
            // A failure to learn the controller shows in the next attempt.
            let _ = self.core.metadata.refresh_brokers().await;
        }
    }

    async fn ask_controller_once<R: Request>(
        &self,
        request: impl Fn(i16) -> R,
    ) -> Result<R::Response, ClientError> {
        let broker: Arc<Broker> = self.core.controller().await?;
        let version = broker.version(R::KEY)?;
        broker
            .call_version(version, request(version), self.core.config.request_timeout)
            .await
    }

    /// Creates topics. `TopicAlreadyExists` is an answer like any other; see [`ClientError::code`].
    ///
    /// # Errors
    /// [`ClientError`] when no answer came within `api_timeout`.
    pub async fn create_topics(
        &self,
        topics: impl IntoIterator<Item = NewTopic>,
    ) -> Result<Answers<TopicName, ()>, ClientError> {
        let topics = topics.into_iter().map(|topic| CreatableTopic {
            name: topic.name.into_byte_string(),
            num_partitions: topic.partitions.unwrap_or(-1), // the broker's default (KIP-464)
            replication_factor: topic.replication_factor.unwrap_or(-1),
            configs: topic
                .configs
                .into_iter()
                .map(|(name, value)| CreatableTopicConfig {
                    name,
                    value: Some(value),
                })
                .collect(),
            ..Default::default()
        });
        let request = CreateTopicsRequest {
            topics: topics.collect(),
            timeout_ms: self.timeout_ms(),
            validate_only: false,
        };
        let codes = |r: &highwater_wire::messages::CreateTopicsResponse| {
            r.topics.iter().map(|t| t.error_code).collect()
        };
        let response = self.ask_controller(|_| request.clone(), codes).await?;
        let answers = response.topics.into_iter().filter_map(|t| {
            let name = TopicName::new(t.name).ok()?;
            let answer = ClientError::check(ApiKey::CreateTopics, t.error_code, &name, t.error_message);
            Some((name, answer))
        });
        Ok(answers.collect())
    }

    /// Deletes topics with all their records.
    ///
    /// # Errors
    /// As [`Admin::create_topics`].
    pub async fn delete_topics(
        &self,
        topics: impl IntoIterator<Item = TopicName>,
    ) -> Result<Answers<TopicName, ()>, ClientError> {
        let names: Vec<ByteString> = topics.into_iter().map(TopicName::into_byte_string).collect();
        let request = |version: i16| {
            let mut request = DeleteTopicsRequest {
                timeout_ms: self.timeout_ms(),
                ..Default::default()
            };
            if version >= 6 {
                let state = |name: &ByteString| DeleteTopicState {
                    name: Some(name.clone()),
                    ..Default::default()
                };
                request.topics = names.iter().map(state).collect();
            } else {
                request.topic_names = names.clone();
            }
            request
        };
        let codes = |r: &highwater_wire::messages::DeleteTopicsResponse| {
            r.responses.iter().map(|t| t.error_code).collect()
        };
        let response = self.ask_controller(request, codes).await?;
        let answers = response.responses.into_iter().filter_map(|t| {
            let name = TopicName::new(t.name?).ok()?;
            let answer = ClientError::check(ApiKey::DeleteTopics, t.error_code, &name, t.error_message);
            Some((name, answer))
        });
        Ok(answers.collect())
    }

    /// Lets topics have these many partitions in all.
    ///
    /// # Errors
    /// As [`Admin::create_topics`].
    pub async fn create_partitions(
        &self,
        totals: impl IntoIterator<Item = (TopicName, i32)>,
    ) -> Result<Answers<TopicName, ()>, ClientError> {
        let topics = totals.into_iter().map(|(name, count)| CreatePartitionsTopic {
            name: name.into_byte_string(),
            count,
            assignments: None,
        });
        let request = CreatePartitionsRequest {
            topics: topics.collect(),
            timeout_ms: self.timeout_ms(),
            validate_only: false,
        };
        let codes = |r: &highwater_wire::messages::CreatePartitionsResponse| {
            r.results.iter().map(|t| t.error_code).collect()
        };
        let response = self.ask_controller(|_| request.clone(), codes).await?;
        let answers = response.results.into_iter().filter_map(|t| {
            let name = TopicName::new(t.name).ok()?;
            let answer = ClientError::check(ApiKey::CreatePartitions, t.error_code, &name, t.error_message);
            Some((name, answer))
        });
        Ok(answers.collect())
    }

    /// Every topic of the cluster, Kafka's own included.
    ///
    /// # Errors
    /// [`ClientError`] when no broker answers within `api_timeout`.
    pub async fn list_topics(&self) -> Result<Vec<Arc<TopicMetadata>>, ClientError> {
        let mut retry = Retry::new(&self.core.config);
        loop {
            match self.core.metadata.refresh_all().await {
                Ok(view) => return Ok(view.topics.values().cloned().collect()),
                Err(error) => retry.pause(error).await?,
            }
        }
    }

    /// Partitions, leaders and replicas of `topics`; never creates any.
    ///
    /// # Errors
    /// [`ClientError`] when no broker answers within `api_timeout`.
    pub async fn describe_topics(
        &self,
        topics: impl IntoIterator<Item = TopicName>,
    ) -> Result<Answers<TopicName, Arc<TopicMetadata>>, ClientError> {
        let topics: Vec<TopicName> = topics.into_iter().collect();
        let mut retry = Retry::new(&self.core.config);
        let view: Arc<ClusterView> = loop {
            match self.core.metadata.look_up(&topics).await {
                Ok(view) => break view,
                Err(error) => retry.pause(error).await?,
            }
        };
        let describe = |name: TopicName| {
            let unknown = || ClientError::broker(ApiKey::Metadata, ErrorCode::UnknownTopicOrPartition, &name);
            let found = view.topics.get(&name).cloned();
            let found = found.ok_or_else(|| view.refusal(&name).unwrap_or_else(unknown));
            (name, found)
        };
        Ok(topics.into_iter().map(describe).collect())
    }

    /// Brokers, controller and identity of the cluster.
    ///
    /// # Errors
    /// [`ClientError`] when no broker answers within `api_timeout`.
    pub async fn describe_cluster(&self) -> Result<ClusterDescription, ClientError> {
        match self.ask_any(DescribeClusterRequest::default()).await {
            Ok(response) => {
                let message = response.error_message;
                ClientError::check(
                    ApiKey::DescribeCluster,
                    response.error_code,
                    "the cluster",
                    message,
                )?;
                let broker_id = highwater_types::BrokerId::new;
                let brokers = response.brokers.into_iter().map(|b| BrokerInfo {
                    id: broker_id(b.broker_id),
                    host: b.host,
                    port: b.port,
                    rack: b.rack,
                });
                Ok(ClusterDescription {
                    cluster_id: Some(response.cluster_id),
                    controller: (response.controller_id >= 0).then(|| broker_id(response.controller_id)),
                    brokers: brokers.collect(),
                })
            }
            // Before Kafka 2.8 the same is found in Metadata.
            Err(ClientError::UnsupportedApi { .. }) => {
                let view = self.core.metadata.refresh_brokers().await?;
                Ok(ClusterDescription {
                    cluster_id: view.cluster_id.clone(),
                    controller: view.controller,
                    brokers: view.brokers.values().cloned().collect(),
                })
            }
            Err(error) => Err(error),
        }
    }

    /// Offsets by place or time, one per partition (semantic 53).
    ///
    /// # Errors
    /// [`ClientError`] of a partition that stayed unanswerable for `api_timeout`.
    pub async fn list_offsets(
        &self,
        wanted: impl IntoIterator<Item = (TopicPartition, OffsetSpec)>,
        isolation: IsolationLevel,
    ) -> Result<BTreeMap<TopicPartition, ListedOffset>, ClientError> {
        self.core
            .list_offsets(wanted.into_iter().collect(), isolation)
            .await
    }

    /// Removes the records before an offset, or all up to the high watermark where it is `None`; answers with the
    /// new first offset (semantic 21).
    ///
    /// # Errors
    /// [`ClientError`] when a leader cannot be asked within `api_timeout`.
    pub async fn delete_records(
        &self,
        before: impl IntoIterator<Item = (TopicPartition, Option<Offset>)>,
    ) -> Result<Answers<TopicPartition, Offset>, ClientError> {
        let mut answers = Answers::new();
        for (tp, offset) in before {
            let answer = self.delete_records_of(&tp, offset).await;
            answers.insert(tp, answer);
        }
        Ok(answers)
    }

    async fn delete_records_of(
        &self,
        tp: &TopicPartition,
        before: Option<Offset>,
    ) -> Result<Offset, ClientError> {
        let request = DeleteRecordsRequest {
            topics: vec![DeleteRecordsTopic {
                name: tp.topic.as_byte_string().clone(),
                partitions: vec![DeleteRecordsPartition {
                    partition_index: tp.partition.get(),
                    offset: before.map_or(-1, Offset::get), // -1 means up to the high watermark
                }],
            }],
            timeout_ms: self.timeout_ms(),
        };
        let mut retry = Retry::new(&self.core.config);
        loop {
            match self.delete_records_once(tp, request.clone()).await {
                Ok(low_watermark) => return Ok(low_watermark),
                Err(error) => retry.pause(error).await?,
            }
            // A failure to learn the leader shows in the next attempt.
            let _ = self.core.metadata.refresh(std::slice::from_ref(&tp.topic)).await;
        }
    }

    async fn delete_records_once(
        &self,
        tp: &TopicPartition,
        request: DeleteRecordsRequest,
    ) -> Result<Offset, ClientError> {
        const API: ApiKey = ApiKey::DeleteRecords;
        let (leader, _) = self.core.leader(tp).await?;
        let broker = self.core.network.broker(&leader.address()).await?;
        let response = broker.call_with_wait(request, Duration::ZERO).await?;
        let mut partitions = response.topics.into_iter().flat_map(|topic| topic.partitions);
        let answer = partitions
            .find(|p| p.partition_index == tp.partition.get())
            .ok_or_else(|| ClientError::IncompleteResponse {
                api: API,
                missing: tp.to_string(),
            })?;
        ClientError::check(API, answer.error_code, tp, None)?;
        Ok(Offset::new(answer.low_watermark))
    }
}
