//! The handle everything starts from, and the questions every role asks: who leads a partition, who coordinates a
//! group.

use std::{sync::Arc, time::Duration};

use highwater_types::{ByteString, LeaderEpoch, TopicName, TopicPartition};
use highwater_wire::{ApiKey, messages::FindCoordinatorRequest};
use tokio::time::Instant;

use crate::{
    Admin, ClientConfig, ClientError, ConsumeError, Consumer, ConsumerConfig, Producer, ProducerConfig,
    backoff::Backoff,
    batches::{FetchedBatches, RawFetcher},
    metadata::{BrokerInfo, ClusterView, Metadata},
    network::{Broker, Network},
    transport::{Transport, tcp::TcpTransport},
};

/// A connected client. Cloning shares connections and metadata.
#[derive(Debug, Clone)]
pub struct Client {
    core: Arc<ClientCore>,
}

/// What the roles share.
#[derive(Debug)]
pub(crate) struct ClientCore {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) network: Network,
    pub(crate) metadata: Metadata,
    raw: RawFetcher,
}

impl Client {
    /// Connects over TCP and learns the brokers.
    ///
    /// # Errors
    /// [`ClientError::NoBroker`] when no bootstrap address answers within `api_timeout`,
    /// [`ClientError::InvalidConfig`] and [`ClientError::Security`] for settings that cannot work,
    /// [`TransportError`](crate::TransportError) inside [`ClientError::Transport`] when the brokers do not accept
    /// this client.
    pub async fn connect(config: ClientConfig) -> Result<Self, ClientError> {
        let transport = Arc::new(TcpTransport::new(&config)?);
        let client = Self::with_transport(config, transport)?;
        client.core.wait_for_cluster().await?;
        Ok(client)
    }

    /// Uses another transport. Nothing is asked yet; the first operation connects.
    ///
    /// # Errors
    /// [`ClientError::InvalidConfig`].
    pub fn with_transport(config: ClientConfig, transport: Arc<dyn Transport>) -> Result<Self, ClientError> {
        if config.bootstrap.is_empty() {
            return Err(ClientError::InvalidConfig {
                name: "bootstrap.servers",
                value: "[]".to_owned(),
                problem: "give at least one host:port",
            });
        }
        let config = Arc::new(config);
        let network = Network::new(transport, config.clone());
        let metadata = Metadata::new(network.clone());
        let raw = RawFetcher::new(network.clone());
        Ok(Self {
            core: Arc::new(ClientCore {
                config,
                network,
                metadata,
                raw,
            }),
        })
    }

    /// A client over the same transport with other settings; it shares neither connections nor metadata with this one.
    ///
    /// # Errors
    /// [`ClientError::InvalidConfig`].
    pub fn with_config(&self, config: ClientConfig) -> Result<Self, ClientError> {
        Self::with_transport(config, self.core.network.transport())
    }

    /// A producer with its own connections and buffer.
    ///
    /// # Errors
    /// [`ClientError::InvalidConfig`].
    pub fn producer(&self, config: ProducerConfig) -> Result<Producer, ClientError> {
        Producer::start(self.core.clone(), config)
    }

    /// A consumer with its own connections; give it something to do with `subscribe` or `assign`.
    ///
    /// # Errors
    /// [`ClientError::InvalidConfig`] inside [`ConsumeError::Client`].
    pub fn consumer(&self, config: ConsumerConfig) -> Result<Consumer, ConsumeError> {
        Consumer::start(self.core.clone(), config)
    }

    /// Topics, groups, configurations.
    pub fn admin(&self) -> Admin {
        Admin::new(self.core.clone())
    }

    /// Looks `topics` up; those that do not exist are missing from the answer. Whether looking creates a topic is
    /// `allow_auto_create_topics` of the configuration and the broker's own setting.
    ///
    /// # Errors
    /// [`ClientError`] when no broker answers.
    pub async fn metadata(&self, topics: &[TopicName]) -> Result<Arc<ClusterView>, ClientError> {
        let mut retry = Retry::new(&self.core.config);
        loop {
            match self.core.metadata.refresh(topics).await {
                Ok(view) => return Ok(view),
                Err(error) => retry.pause(error).await?,
            }
        }
    }

    /// Reads record batches as the broker sends them, for readers that decode many records at once (SQL scans,
    /// state restore). The first batch may begin before `from` (semantic 44), the last one is never cut. Uncommitted
    /// and aborted records are included.
    ///
    /// # Errors
    /// [`ClientError::Broker`] with `OffsetOutOfRange` when `from` is outside the log; retriable trouble is retried
    /// for `api_timeout`.
    pub async fn fetch_batches(
        &self,
        topic_partition: &TopicPartition,
        from: highwater_types::Offset,
        max_bytes: usize,
        max_wait: Duration,
    ) -> Result<FetchedBatches, ClientError> {
        self.core
            .raw
            .fetch(&self.core, topic_partition, from, max_bytes, max_wait)
            .await
    }

    /// The settings this client was made with.
    pub fn config(&self) -> &ClientConfig {
        &self.core.config
    }
}

impl ClientCore {
    async fn wait_for_cluster(&self) -> Result<(), ClientError> {
        let mut retry = Retry::new(&self.config);
        loop {
            match self.metadata.refresh_brokers().await {
                Ok(_) => return Ok(()),
                Err(error) => retry.pause(error).await?,
            }
        }
    }

    /// Address and epoch of the partition's leader; asks the cluster only when the cache cannot tell.
    pub(crate) async fn leader(
        &self,
        tp: &TopicPartition,
    ) -> Result<(BrokerInfo, Option<LeaderEpoch>), ClientError> {
        let topics = std::slice::from_ref(&tp.topic);
        let mut view = self.metadata.ensure(topics).await?;
        if view.leader(tp).is_none() {
            view = self.metadata.refresh(topics).await?;
        }
        match view.leader(tp) {
            Some((broker, epoch)) => Ok((broker.clone(), epoch)),
            None if view
                .topics
                .get(&tp.topic)
                .and_then(|t| t.partition(tp.partition))
                .is_some() =>
            {
                Err(ClientError::NoLeader {
                    topic_partition: tp.clone(),
                })
            }
            None => Err(view
                .refusal(&tp.topic)
                .unwrap_or_else(|| ClientError::UnknownPartition {
                    topic_partition: tp.clone(),
                })),
        }
    }

    /// Address of the broker that coordinates `group_id`.
    pub(crate) async fn find_coordinator(&self, group_id: &ByteString) -> Result<BrokerInfo, ClientError> {
        const API: ApiKey = ApiKey::FindCoordinator;
        let broker = self.metadata.any_broker().await?;
        let version = broker.version(API)?;
        let request = FindCoordinatorRequest {
            key: group_id.clone(),
            key_type: 0, // a group
            coordinator_keys: if version >= 4 {
                vec![group_id.clone()]
            } else {
                Vec::new()
            },
        };
        let response = broker.call_version(version, request, Duration::ZERO).await?;
        let resource = || format!("group {group_id}");
        let found = if version >= 4 {
            response
                .coordinators
                .into_iter()
                .next()
                .map(|c| (c.error_code, c.error_message, c.node_id, c.host, c.port))
                .ok_or_else(|| ClientError::IncompleteResponse {
                    api: API,
                    missing: resource(),
                })?
        } else {
            (
                response.error_code,
                response.error_message,
                response.node_id,
                response.host,
                response.port,
            )
        };
        let (error_code, message, node_id, host, port) = found;
        ClientError::check(API, error_code, resource(), message)?;
        Ok(BrokerInfo {
            id: highwater_types::BrokerId::new(node_id),
            host,
            port,
            rack: None,
        })
    }

    /// A connection of `network` to the controller, or to any broker when none is known; brokers of a Raft-based
    /// cluster pass such requests on by themselves.
    pub(crate) async fn controller(&self) -> Result<Arc<Broker>, ClientError> {
        let view = self.metadata.view();
        let view = if view.controller.is_some() {
            view
        } else {
            self.metadata.refresh_brokers().await?
        };
        match view.controller.and_then(|id| view.brokers.get(&id)) {
            Some(info) => match self.network.broker(&info.address()).await {
                Ok(broker) => Ok(broker),
                Err(_) => self.metadata.any_broker().await,
            },
            None => self.metadata.any_broker().await,
        }
    }
}

/// Repeats an operation on retriable errors until `api_timeout` is over.
#[derive(Debug)]
pub(crate) struct Retry {
    backoff: Backoff,
    deadline: Instant,
}

impl Retry {
    pub(crate) fn new(config: &ClientConfig) -> Self {
        Self::until(config, Instant::now() + config.api_timeout)
    }

    pub(crate) fn until(config: &ClientConfig, deadline: Instant) -> Self {
        Self {
            backoff: Backoff::new(config.retry_backoff, config.retry_backoff_max),
            deadline,
        }
    }

    /// Waits before the next attempt, or gives the error back when there should be none.
    pub(crate) async fn pause(&mut self, error: ClientError) -> Result<(), ClientError> {
        let next = Instant::now() + self.backoff.next_wait();
        if !error.is_retriable() || next >= self.deadline {
            return Err(error);
        }
        tracing::debug!(%error, "will retry");
        tokio::time::sleep_until(next).await;
        Ok(())
    }
}
