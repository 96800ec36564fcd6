//! Consumer groups: who is in them and how far they have read.

use std::{collections::BTreeMap, sync::Arc};

use highwater_types::{ByteString, Bytes, PartitionId, TopicName, TopicPartition};
use highwater_wire::{
    ApiKey, ErrorCode,
    messages::{
        ConsumerGroupDescribeRequest, DeleteGroupsRequest, DescribeGroupsRequest, ListGroupsRequest,
        OffsetDeleteRequest,
        consumer_group_describe_response::Member,
        describe_groups_response::DescribedGroupMember,
        offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
    },
};

use super::{Admin, Answers};
use crate::{
    BrokerInfo, ClientError, CommittedOffsets, IsolationLevel,
    client::Retry,
    consumer::{coordinator::Coordinator, protocol},
};

/// The state of a group nobody knows.
const DEAD: &str = "Dead";

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// Its name.
    pub group_id: ByteString,
    /// `consumer` for consumers; empty for groups that only keep offsets.
    pub protocol_type: ByteString,
    /// Such as `Stable` or `Empty` (v4+).
    pub state: Option<ByteString>,
}

/// A group in detail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its name.
    pub group_id: ByteString,
    /// Such as `Stable`, `Empty`, `Dead` (semantic 68).
    pub state: ByteString,
    /// `consumer` for consumers.
    pub protocol_type: ByteString,
    /// The assignor in use.
    pub protocol: ByteString,
    /// The coordinator.
    pub coordinator: BrokerInfo,
    /// Members of the current generation.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// Its id in this generation.
    pub member_id: ByteString,
    /// Its lasting name, if it is static.
    pub group_instance_id: Option<ByteString>,
    /// `client.id`.
    pub client_id: ByteString,
    /// Where it comes from.
    pub client_host: ByteString,
    /// What it reads; empty when the assignment is not a consumer's.
    pub assignment: Vec<TopicPartition>,
    /// The assignment as the group's leader wrote it; empty where the coordinator assigns (KIP-848).
    pub raw_assignment: Bytes,
}

impl Admin {
    fn coordinator(&self, group_id: &ByteString) -> Coordinator {
        Coordinator::new(self.core.clone(), group_id.clone(), None)
    }

    /// Every group of the cluster, asked of all brokers.
    ///
    /// # Errors
    /// [`ClientError`] when a broker does not answer.
    pub async fn list_groups(&self) -> Result<Vec<GroupListing>, ClientError> {
        let mut retry = Retry::new(&self.core.config);
        loop {
            match self.list_groups_once().await {
                Ok(groups) => return Ok(groups),
                Err(error) => retry.pause(error).await?,
            }
        }
    }

    async fn list_groups_once(&self) -> Result<Vec<GroupListing>, ClientError> {
        let view = self.core.metadata.refresh_brokers().await?;
        let mut groups = BTreeMap::new();
        for info in view.brokers.values() {
            let broker = self.core.network.broker(&info.address()).await?;
            let response = broker.call(ListGroupsRequest::default()).await?;
            ClientError::check(ApiKey::ListGroups, response.error_code, info.address(), None)?;
            for group in response.groups {
                let state = Some(group.group_state).filter(|state| !state.is_empty());
                let (group_id, protocol_type) = (group.group_id, group.protocol_type);
                let listing = GroupListing {
                    group_id: group_id.clone(),
                    protocol_type,
                    state,
                };
                groups.insert(group_id, listing);
            }
        }
        Ok(groups.into_values().collect())
    }

    /// Members and state of groups. A group nobody knows is `Dead` (semantic 68).
    ///
    /// # Errors
    /// [`ClientError`] when a coordinator cannot be found.
    pub async fn describe_groups(
        &self,
        group_ids: impl IntoIterator<Item = ByteString>,
    ) -> Result<Answers<ByteString, GroupDescription>, ClientError> {
        let mut answers = Answers::new();
        for group_id in group_ids {
            let mut retry = Retry::new(&self.core.config);
            let answer = loop {
                match self.describe_group(&group_id).await {
                    Err(error) if error.is_retriable() => retry.pause(error).await?,
                    answer => break answer,
                }
            };
            answers.insert(group_id, answer);
        }
        Ok(answers)
    }

    /// A group of the newer protocol (KIP-848); `None` if it is not one, or the broker knows no such groups.
    async fn describe_consumer_group(
        &self,
        group_id: &ByteString,
        coordinator: &BrokerInfo,
    ) -> Result<Option<GroupDescription>, ClientError> {
        const API: ApiKey = ApiKey::ConsumerGroupDescribe;
        let broker = self.core.network.broker(&coordinator.address()).await?;
        let request = ConsumerGroupDescribeRequest {
            group_ids: vec![group_id.clone()],
            ..Default::default()
        };
        let response = match broker.call(request).await {
            Err(ClientError::UnsupportedApi { .. }) => return Ok(None),
            response => response?,
        };
        let mut groups = response.groups.into_iter();
        let Some(group) = groups.find(|group| group.group_id == *group_id) else {
            return Ok(None);
        };
        if group.error_code == ErrorCode::GroupIdNotFound.code() {
            return Ok(None);
        }
        ClientError::check(API, group.error_code, group_id, group.error_message)?;
        Ok(Some(GroupDescription {
            group_id: group.group_id,
            state: group.group_state,
            protocol_type: protocol::PROTOCOL_TYPE,
            protocol: group.assignor_name,
            coordinator: coordinator.clone(),
            members: group.members.into_iter().map(described_consumer).collect(),
        }))
    }

    async fn describe_group(&self, group_id: &ByteString) -> Result<GroupDescription, ClientError> {
        const API: ApiKey = ApiKey::DescribeGroups;
        let info = self.core.find_coordinator(group_id).await?;
        let broker = self.core.network.broker(&info.address()).await?;
        let request = DescribeGroupsRequest {
            groups: vec![group_id.clone()],
            ..Default::default()
        };
        let response = broker.call(request).await?;
        let group = response
            .groups
            .into_iter()
            .find(|group| group.group_id == *group_id);
        let missing = || ClientError::IncompleteResponse {
            api: API,
            missing: group_id.to_string(),
        };
        let group = group.ok_or_else(missing)?;
        // Up to version 5 the state says it, later an error (KIP-1043).
        let is_not_found = group.error_code == ErrorCode::GroupIdNotFound.code();
        if is_not_found || &*group.group_state == DEAD {
            let consumer_group = self.describe_consumer_group(group_id, &info).await?;
            return Ok(consumer_group.unwrap_or_else(|| GroupDescription {
                group_id: group_id.clone(),
                state: ByteString::from_static(DEAD),
                protocol_type: ByteString::new(),
                protocol: ByteString::new(),
                coordinator: info,
                members: Vec::new(),
            }));
        }
        ClientError::check(API, group.error_code, group_id, group.error_message)?;
        let is_consumer = group.protocol_type == protocol::PROTOCOL_TYPE;
        Ok(GroupDescription {
            group_id: group.group_id,
            state: group.group_state,
            protocol_type: group.protocol_type,
            protocol: group.protocol_data,
            coordinator: info,
            members: group
                .members
                .into_iter()
                .map(|member| described(member, is_consumer))
                .collect(),
        })
    }

    /// Forgets groups without members, with their offsets.
    ///
    /// # Errors
    /// [`ClientError`] when a coordinator cannot be found.
    pub async fn delete_groups(
        &self,
        group_ids: impl IntoIterator<Item = ByteString>,
    ) -> Result<Answers<ByteString, ()>, ClientError> {
        const API: ApiKey = ApiKey::DeleteGroups;
        let mut answers = Answers::new();
        for group_id in group_ids {
            let coordinator = self.coordinator(&group_id);
            let mut retry = Retry::new(&self.core.config);
            let answer = loop {
                let request = DeleteGroupsRequest {
                    groups_names: vec![group_id.clone()],
                };
                let answer = coordinator.call_aside(|_| request).await.and_then(|response| {
                    let code = response
                        .results
                        .first()
                        .map_or(ErrorCode::None.code(), |r| r.error_code);
                    ClientError::check(API, code, &group_id, None)
                });
                match answer {
                    Err(error) if error.is_retriable() => {
                        coordinator.forget();
                        retry.pause(error).await?;
                    }
                    answer => break answer,
                }
            };
            answers.insert(group_id, answer);
        }
        Ok(answers)
    }

    /// Everything a group ever committed.
    ///
    /// # Errors
    /// [`ClientError`] after `api_timeout`.
    pub async fn list_group_offsets(&self, group_id: &ByteString) -> Result<CommittedOffsets, ClientError> {
        self.coordinator(group_id)
            .fetch_committed(None, IsolationLevel::ReadUncommitted)
            .await
    }

    /// Sets offsets of a group without members.
    ///
    /// # Errors
    /// [`ClientError::Broker`] with `UnknownMemberId` while the group has members (semantic 64).
    pub async fn alter_group_offsets(
        &self,
        group_id: &ByteString,
        offsets: CommittedOffsets,
    ) -> Result<(), ClientError> {
        self.coordinator(group_id).commit_as_admin(&offsets).await
    }

    /// Forgets offsets of a group; not those of topics its members are subscribed to.
    ///
    /// # Errors
    /// [`ClientError`] after `api_timeout`.
    pub async fn delete_group_offsets(
        &self,
        group_id: &ByteString,
        partitions: impl IntoIterator<Item = TopicPartition>,
    ) -> Result<Answers<TopicPartition, ()>, ClientError> {
        const API: ApiKey = ApiKey::OffsetDelete;
        let mut topics: BTreeMap<TopicName, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
        for tp in partitions {
            let partition_index = tp.partition.get();
            let partition = OffsetDeleteRequestPartition { partition_index };
            topics.entry(tp.topic).or_default().push(partition);
        }
        let topics = topics
            .into_iter()
            .map(|(name, partitions)| OffsetDeleteRequestTopic {
                name: name.into_byte_string(),
                partitions,
            });
        let request = Arc::new(OffsetDeleteRequest {
            group_id: group_id.clone(),
            topics: topics.collect(),
        });
        let coordinator = self.coordinator(group_id);
        let mut retry = Retry::new(&self.core.config);
        let response = loop {
            let answer = coordinator
                .call_aside(|_| OffsetDeleteRequest::clone(&request))
                .await;
            let answer = answer.and_then(|response| {
                ClientError::check(API, response.error_code, group_id, None).map(|()| response)
            });
            match answer {
                Ok(response) => break response,
                Err(error) => {
                    coordinator.forget();
                    retry.pause(error).await?;
                }
            }
        };
        let mut answers = Answers::new();
        for topic in response.topics {
            let Ok(name) = TopicName::new(topic.name) else {
                continue;
            };
            for p in topic.partitions {
                let tp = TopicPartition::new(name.clone(), PartitionId::new(p.partition_index));
                let answer = ClientError::check(API, p.error_code, &tp, None);
                answers.insert(tp, answer);
            }
        }
        Ok(answers)
    }
}

fn described_consumer(member: Member) -> GroupMember {
    let topics = member.assignment.topic_partitions.into_iter();
    let named = topics.filter_map(|topic| Some((TopicName::new(topic.topic_name).ok()?, topic.partitions)));
    let assignment = named.flat_map(|(topic, partitions)| {
        partitions.into_iter().map(move |partition| TopicPartition {
            topic: topic.clone(),
            partition: PartitionId::new(partition),
        })
    });
    GroupMember {
        member_id: member.member_id,
        group_instance_id: member.instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        assignment: assignment.collect(),
        raw_assignment: Bytes::new(),
    }
}

fn described(member: DescribedGroupMember, is_consumer: bool) -> GroupMember {
    let raw_assignment = member.member_assignment;
    let assignment = match is_consumer {
        true => protocol::decode_assignment(member.member_id.clone(), raw_assignment.clone()),
        false => Ok(Default::default()),
    };
    GroupMember {
        member_id: member.member_id,
        group_instance_id: member.group_instance_id,
        client_id: member.client_id,
        client_host: member.client_host,
        assignment: assignment
            .map(|assignment| assignment.partitions)
            .unwrap_or_default(),
        raw_assignment,
    }
}
