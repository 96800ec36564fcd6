//! Talking to the group's coordinator: where it is, who we are to it, and the offsets it keeps.
//!
//! Two connections: joins and heartbeats on one, offsets on the other, because a join may be held back for minutes
//! (semantic 58) and a commit must not stand in line behind it (semantic 6).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use highwater_types::{
    ByteString, GenerationId, LeaderEpoch, Offset, PartitionId, TopicName, TopicPartition,
};
use highwater_wire::{
    ApiKey, ErrorCode, Request,
    messages::{
        OffsetCommitRequest, OffsetFetchRequest,
        offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics},
    },
};

use crate::{
    ClientError, ConsumeError, IsolationLevel,
    client::{ClientCore, Retry},
    network::{Broker, Network},
};

/// An offset as a group keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next record to read.
    pub offset: Offset,
    /// Epoch of the record before it, where known (KIP-320).
    pub leader_epoch: Option<LeaderEpoch>,
    /// Any text, kept verbatim (semantic 64).
    pub metadata: ByteString,
}

impl From<Offset> for CommittedOffset {
    fn from(offset: Offset) -> Self {
        Self {
            offset,
            leader_epoch: None,
            metadata: ByteString::new(),
        }
    }
}

/// Offsets to commit, or committed ones, by partition.
pub type CommittedOffsets = BTreeMap<TopicPartition, CommittedOffset>;

/// Who this member is in the current generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) member_id: ByteString,
    pub(super) generation: GenerationId,
}

/// One group's coordinator, as one member (or one admin) sees it.
#[derive(Debug)]
pub(crate) struct Coordinator {
    core: Arc<ClientCore>,
    group_id: ByteString,
    group_instance_id: Option<ByteString>,
    address: Mutex<Option<String>>,
    identity: Mutex<Option<Identity>>,
    group_network: Network,
    offsets_network: Network,
}

/// Codes that mean: the coordinator is elsewhere, or not ready.
pub(super) fn is_coordinator_trouble(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable | ErrorCode::CoordinatorLoadInProgress
    )
}

impl Coordinator {
    pub(crate) fn new(
        core: Arc<ClientCore>,
        group_id: ByteString,
        group_instance_id: Option<ByteString>,
    ) -> Self {
        Self {
            group_network: core.network.separate(),
            offsets_network: core.network.separate(),
            core,
            group_id,
            group_instance_id,
            address: Mutex::default(),
            identity: Mutex::default(),
        }
    }

    pub(crate) fn group_id(&self) -> &ByteString {
        &self.group_id
    }

    pub(super) fn group_instance_id(&self) -> Option<ByteString> {
        self.group_instance_id.clone()
    }

    fn address_slot(&self) -> MutexGuard<'_, Option<String>> {
        self.address
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn identity_slot(&self) -> MutexGuard<'_, Option<Identity>> {
        self.identity
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(super) fn identity(&self) -> Option<Identity> {
        self.identity_slot().clone()
    }

    pub(super) fn set_identity(&self, identity: Option<Identity>) {
        *self.identity_slot() = identity;
    }

    async fn address(&self) -> Result<String, ClientError> {
        if let Some(address) = self.address_slot().clone() {
            return Ok(address);
        }
        let address = self.core.find_coordinator(&self.group_id).await?.address();
        *self.address_slot() = Some(address.clone());
        Ok(address)
    }

    /// Looks the coordinator up again before the next request.
    pub(crate) fn forget(&self) {
        *self.address_slot() = None;
    }

    async fn broker(&self, network: &Network) -> Result<Arc<Broker>, ClientError> {
        let address = self.address().await?;
        network.broker(&address).await.inspect_err(|_| self.forget())
    }

    /// Asks on the membership connection.
    pub(super) async fn call<R: Request>(
        &self,
        request: impl FnOnce(i16) -> R,
        broker_wait: Duration,
    ) -> Result<R::Response, ClientError> {
        self.call_on(&self.group_network, request, broker_wait).await
    }

    /// Asks on the connection for offsets, which no join ever blocks.
    pub(crate) async fn call_aside<R: Request>(
        &self,
        request: impl FnOnce(i16) -> R,
    ) -> Result<R::Response, ClientError> {
        self.call_on(&self.offsets_network, request, Duration::ZERO).await
    }

    async fn call_on<R: Request>(
        &self,
        network: &Network,
        request: impl FnOnce(i16) -> R,
        broker_wait: Duration,
    ) -> Result<R::Response, ClientError> {
        let broker = self.broker(network).await?;
        let version = broker.version(R::KEY)?;
        let answer = broker.call_version(version, request(version), broker_wait).await;
        answer.inspect_err(|_| self.forget())
    }

    /// Commits; retries what can be retried for `api_timeout`.
    pub(super) async fn commit(&self, offsets: &CommittedOffsets) -> Result<(), ConsumeError> {
        if offsets.is_empty() {
            return Ok(());
        }
        let identity = self.identity();
        let mut retry = Retry::new(&self.core.config);
        loop {
            let error = match self.commit_once(offsets, identity.as_ref()).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            match error.code() {
                Some(
                    code @ (ErrorCode::UnknownMemberId
                    | ErrorCode::IllegalGeneration
                    | ErrorCode::FencedInstanceId
                    | ErrorCode::RebalanceInProgress),
                ) => {
                    return Err(ConsumeError::CommitRefused {
                        group_id: self.group_id.clone(),
                        code,
                    });
                }
                Some(code) if is_coordinator_trouble(code) => self.forget(),
                _ => {}
            }
            retry.pause(error).await?;
        }
    }

    async fn commit_once(
        &self,
        offsets: &CommittedOffsets,
        identity: Option<&Identity>,
    ) -> Result<(), ClientError> {
        const API: ApiKey = ApiKey::OffsetCommit;
        let mut topics: BTreeMap<&TopicName, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for (tp, committed) in offsets {
            topics
                .entry(&tp.topic)
                .or_default()
                .push(OffsetCommitRequestPartition {
                    partition_index: tp.partition.get(),
                    committed_offset: committed.offset.get(),
                    committed_leader_epoch: committed.leader_epoch.map_or(-1, LeaderEpoch::get),
                    committed_metadata: Some(committed.metadata.clone()),
                });
        }
        let topics = topics
            .into_iter()
            .map(|(name, partitions)| OffsetCommitRequestTopic {
                name: name.as_byte_string().clone(),
                partitions,
            });
        let request = OffsetCommitRequest {
            group_id: self.group_id.clone(),
            // Without membership the generation is -1 and the member has no name (semantic 64).
            generation_id_or_member_epoch: identity.map_or(-1, |identity| identity.generation.get()),
            member_id: identity.map_or_else(ByteString::new, |identity| identity.member_id.clone()),
            group_instance_id: identity.and(self.group_instance_id.clone()),
            topics: topics.collect(),
            ..Default::default()
        };
        let response = self.call_aside(|_| request).await?;
        for topic in response.topics {
            for p in topic.partitions {
                let resource = format!("group {}, {}-{}", self.group_id, topic.name, p.partition_index);
                ClientError::check(API, p.error_code, resource, None)?;
            }
        }
        Ok(())
    }

    /// Commits outside any generation, as admin tools do.
    pub(crate) async fn commit_as_admin(&self, offsets: &CommittedOffsets) -> Result<(), ClientError> {
        let mut retry = Retry::new(&self.core.config);
        loop {
            match self.commit_once(offsets, None).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    self.forget();
                    retry.pause(error).await?;
                }
            }
        }
    }

    /// Committed offsets of `partitions`, or of everything the group ever committed when `None`. Partitions without
    /// one are missing from the answer (semantic 65).
    pub(crate) async fn fetch_committed(
        &self,
        partitions: Option<&BTreeSet<TopicPartition>>,
        isolation: IsolationLevel,
    ) -> Result<CommittedOffsets, ClientError> {
        let mut retry = Retry::new(&self.core.config);
        loop {
            match self.fetch_committed_once(partitions, isolation).await {
                Ok(committed) => return Ok(committed),
                Err(error) => {
                    if error.code().is_some_and(is_coordinator_trouble) {
                        self.forget();
                    }
                    retry.pause(error).await?;
                }
            }
        }
    }

    async fn fetch_committed_once(
        &self,
        partitions: Option<&BTreeSet<TopicPartition>>,
        isolation: IsolationLevel,
    ) -> Result<CommittedOffsets, ClientError> {
        const API: ApiKey = ApiKey::OffsetFetch;
        let by_topic = partitions.map(|partitions| {
            let mut topics: BTreeMap<&TopicName, Vec<i32>> = BTreeMap::new();
            for tp in partitions {
                topics.entry(&tp.topic).or_default().push(tp.partition.get());
            }
            topics
        });
        let request = |version: i16| {
            let mut request = OffsetFetchRequest {
                require_stable: isolation == IsolationLevel::ReadCommitted,
                ..Default::default()
            };
            if version >= 8 {
                let topics = by_topic.map(|topics| {
                    let topic = |(name, partition_indexes): (&TopicName, _)| OffsetFetchRequestTopics {
                        name: name.as_byte_string().clone(),
                        partition_indexes,
                    };
                    topics.into_iter().map(topic).collect()
                });
                let group_id = self.group_id.clone();
                request.groups = vec![OffsetFetchRequestGroup {
                    group_id,
                    topics,
                    ..Default::default()
                }];
            } else {
                request.group_id = self.group_id.clone();
                request.topics = by_topic.map(|topics| {
                    let topic = |(name, partition_indexes): (&TopicName, _)| OffsetFetchRequestTopic {
                        name: name.as_byte_string().clone(),
                        partition_indexes,
                    };
                    topics.into_iter().map(topic).collect()
                });
            }
            request
        };
        let response = self.call_aside(request).await?;
        let group = || format!("group {}", self.group_id);
        ClientError::check(API, response.error_code, group(), None)?;
        let mut committed = CommittedOffsets::new();
        let mut note = |topic: &ByteString, index, code, offset, epoch: i32, metadata: Option<ByteString>| {
            ClientError::check(API, code, format!("{}, {topic}-{index}", group()), None)?;
            let Some(name) = TopicName::new(topic.clone()).ok().filter(|_| offset >= 0) else {
                return Ok(());
            };
            let value = CommittedOffset {
                offset: Offset::new(offset),
                leader_epoch: (epoch >= 0).then(|| LeaderEpoch::new(epoch)),
                metadata: metadata.unwrap_or_default(),
            };
            committed.insert(TopicPartition::new(name, PartitionId::new(index)), value);
            Ok::<(), ClientError>(())
        };
        for t in &response.topics {
            for p in &t.partitions {
                let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
                note(
                    &t.name,
                    p.partition_index,
                    p.error_code,
                    offset,
                    epoch,
                    p.metadata.clone(),
                )?;
            }
        }
        for answer in &response.groups {
            ClientError::check(API, answer.error_code, group(), None)?;
            for t in &answer.topics {
                for p in &t.partitions {
                    let (offset, epoch) = (p.committed_offset, p.committed_leader_epoch);
                    note(
                        &t.name,
                        p.partition_index,
                        p.error_code,
                        offset,
                        epoch,
                        p.metadata.clone(),
                    )?;
                }
            }
        }
        Ok(committed)
    }
}
