//! The mock's group coordinator: joins wait for everybody, syncs wait for the leader, offsets are kept.

use std::collections::BTreeMap;

use highwater_types::{ByteString, Bytes};
use highwater_wire::{ErrorCode, RequestBody, ResponseBody, messages::*};

use super::MockBroker;

#[derive(Debug, Default)]
pub(super) struct Group {
    generation: i32,
    rebalancing: bool,
    members: BTreeMap<ByteString, Member>,
    /// Set by the leader's sync.
    assignments: Option<BTreeMap<ByteString, Bytes>>,
    committed: BTreeMap<(ByteString, i32), (i64, i32)>,
}

#[derive(Debug, Default)]
struct Member {
    metadata: Bytes,
    protocol: ByteString,
    joined: bool,
}

impl Group {
    fn finish_join(&mut self) {
        if self.rebalancing && !self.members.is_empty() && self.members.values().all(|member| member.joined) {
            self.generation += 1;
            self.rebalancing = false;
            self.assignments = None;
        }
    }

    fn begin_rebalance(&mut self) {
        self.rebalancing = true;
        for member in self.members.values_mut() {
            member.joined = false;
        }
    }

    fn check(&self, member_id: &ByteString, generation: i32) -> ErrorCode {
        if !self.members.contains_key(member_id) {
            ErrorCode::UnknownMemberId
        } else if generation != self.generation {
            ErrorCode::IllegalGeneration
        } else if self.rebalancing {
            ErrorCode::RebalanceInProgress
        } else {
            ErrorCode::None
        }
    }
}

impl MockBroker {
    /// Forgets a member, as after a session timeout.
    pub(crate) fn expel_members(&self, group: &str) {
        if let Some(group) = self.state().groups.get_mut(group) {
            group.members.clear();
        }
        self.touch();
    }

    pub(crate) fn member_count(&self, group: &str) -> usize {
        self.state()
            .groups
            .get(group)
            .map_or(0, |group| group.members.len())
    }

    pub(crate) fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let key = (ByteString::from(topic), partition);
        self.state()
            .groups
            .get(group)?
            .committed
            .get(&key)
            .map(|(offset, _)| *offset)
    }

    pub(super) async fn handle_group(&self, version: i16, body: RequestBody) -> ResponseBody {
        match body {
            RequestBody::JoinGroup(request) => self.join(version, request).await.into(),
            RequestBody::SyncGroup(request) => self.sync(request).await.into(),
            RequestBody::Heartbeat(request) => {
                let mut state = self.state();
                let group = state.groups.entry(request.group_id.to_string()).or_default();
                let error_code = group.check(&request.member_id, request.generation_id).code();
                HeartbeatResponse {
                    error_code,
                    ..Default::default()
                }
                .into()
            }
            RequestBody::LeaveGroup(request) => self.leave(&request).into(),
            RequestBody::OffsetCommit(request) => self.commit(request).into(),
            RequestBody::OffsetFetch(request) => self.offset_fetch(request).into(),
            body => panic!("the mock has no {}", body.api_key().name()),
        }
    }

    async fn join(&self, version: i16, request: JoinGroupRequest) -> JoinGroupResponse {
        let group_id = request.group_id.to_string();
        let member_id = {
            let mut state = self.state();
            let mut member_id = request.member_id.clone();
            if member_id.is_empty() {
                state.next_member += 1;
                member_id = format!("member-{}", state.next_member).into();
                if version >= 4 && request.group_instance_id.is_none() {
                    let error_code = ErrorCode::MemberIdRequired.code();
                    return JoinGroupResponse {
                        error_code,
                        member_id,
                        ..Default::default()
                    };
                }
            }
            let group = state.groups.entry(group_id.clone()).or_default();
            if !group.rebalancing {
                group.begin_rebalance();
            }
            let protocol = &request.protocols[0];
            let (metadata, name) = (protocol.metadata.clone(), protocol.name.clone());
            group.members.insert(
                member_id.clone(),
                Member {
                    metadata,
                    protocol: name,
                    joined: true,
                },
            );
            group.finish_join();
            member_id
        };
        self.touch();
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(response) = self.joined(&group_id, &member_id) {
                return response;
            }
            changed.await;
        }
    }

    fn joined(&self, group_id: &str, member_id: &ByteString) -> Option<JoinGroupResponse> {
        let state = self.state();
        let group = &state.groups[group_id];
        let Some(member) = group.members.get(member_id) else {
            let error_code = ErrorCode::UnknownMemberId.code();
            return Some(JoinGroupResponse {
                error_code,
                ..Default::default()
            });
        };
        if group.rebalancing {
            return None;
        }
        let leader = group.members.keys().next().cloned().unwrap_or_default();
        let listed = group
            .members
            .iter()
            .filter(|_| leader == *member_id)
            .map(
                |(member_id, member)| join_group_response::JoinGroupResponseMember {
                    member_id: member_id.clone(),
                    metadata: member.metadata.clone(),
                    ..Default::default()
                },
            );
        Some(JoinGroupResponse {
            generation_id: group.generation,
            protocol_name: Some(member.protocol.clone()),
            members: listed.collect(),
            leader,
            member_id: member_id.clone(),
            ..Default::default()
        })
    }

    async fn sync(&self, request: SyncGroupRequest) -> SyncGroupResponse {
        let group_id = request.group_id.to_string();
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            {
                let mut state = self.state();
                let group = state.groups.entry(group_id.clone()).or_default();
                let code = group.check(&request.member_id, request.generation_id);
                if code != ErrorCode::None {
                    return SyncGroupResponse {
                        error_code: code.code(),
                        ..Default::default()
                    };
                }
                if !request.assignments.is_empty() && group.assignments.is_none() {
                    let given = request
                        .assignments
                        .iter()
                        .map(|a| (a.member_id.clone(), a.assignment.clone()));
                    group.assignments = Some(given.collect());
                    self.touch();
                }
                if let Some(assignments) = &group.assignments {
                    let assignment = assignments.get(&request.member_id).cloned().unwrap_or_default();
                    return SyncGroupResponse {
                        assignment,
                        ..Default::default()
                    };
                }
            }
            changed.await;
        }
    }

    fn leave(&self, request: &LeaveGroupRequest) -> LeaveGroupResponse {
        let mut state = self.state();
        let group = state.groups.entry(request.group_id.to_string()).or_default();
        group.members.remove(&request.member_id);
        for member in &request.members {
            group.members.remove(&member.member_id);
        }
        if group.rebalancing {
            group.finish_join();
        } else {
            group.begin_rebalance();
        }
        drop(state);
        self.touch();
        LeaveGroupResponse::default()
    }

    fn commit(&self, request: OffsetCommitRequest) -> OffsetCommitResponse {
        let mut state = self.state();
        let group = state.groups.entry(request.group_id.to_string()).or_default();
        let simple = request.generation_id_or_member_epoch < 0 && group.members.is_empty();
        // Commits are taken while members rejoin (semantic 64).
        let code = match group.check(&request.member_id, request.generation_id_or_member_epoch) {
            ErrorCode::RebalanceInProgress => ErrorCode::None,
            _ if simple => ErrorCode::None,
            code => code,
        };
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|p| {
                if code == ErrorCode::None {
                    let value = (p.committed_offset, p.committed_leader_epoch);
                    group
                        .committed
                        .insert((topic.name.clone(), p.partition_index), value);
                }
                offset_commit_response::OffsetCommitResponsePartition {
                    partition_index: p.partition_index,
                    error_code: code.code(),
                }
            });
            let partitions = partitions.collect();
            offset_commit_response::OffsetCommitResponseTopic {
                name: topic.name,
                partitions,
            }
        });
        OffsetCommitResponse {
            topics: topics.collect(),
            ..Default::default()
        }
    }

    fn offset_fetch(&self, request: OffsetFetchRequest) -> OffsetFetchResponse {
        let state = self.state();
        let groups = request.groups.into_iter().map(|asked| {
            let committed = state
                .groups
                .get(asked.group_id.as_ref() as &str)
                .map(|group| &group.committed);
            let topics = asked.topics.unwrap_or_default().into_iter().map(|topic| {
                let partitions = topic.partition_indexes.iter().map(|index| {
                    let found = committed.and_then(|c| c.get(&(topic.name.clone(), *index)));
                    offset_fetch_response::OffsetFetchResponsePartitions {
                        partition_index: *index,
                        committed_offset: found.map_or(-1, |(offset, _)| *offset),
                        committed_leader_epoch: found.map_or(-1, |(_, epoch)| *epoch),
                        ..Default::default()
                    }
                });
                let partitions = partitions.collect();
                offset_fetch_response::OffsetFetchResponseTopics {
                    name: topic.name,
                    partitions,
                }
            });
            let topics = topics.collect();
            offset_fetch_response::OffsetFetchResponseGroup {
                group_id: asked.group_id,
                topics,
                error_code: 0,
            }
        });
        OffsetFetchResponse {
            groups: groups.collect(),
            ..Default::default()
        }
    }
}
