//! Which member runs which tasks.
//!
//! A task is all partitions with one index of one sub-topology's sources, so these always go to one member. Members keep
//! what they have up to a fair share; what is free goes first to a process that has the task's state on disk, then to
//! the member with the fewest tasks. Cooperative: a task that another member still owns is given out only in the next
//! round (KIP-429).
//!
//! Pure: the same subscriptions give the same assignment.
//!
//! # Invariants
//! - Shares differ by at most one task (once what moves has moved).
//! - Partitions of one task are never split.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};

use bytes::Bytes;
use highwater_client::{Assignor, MemberAssignment, MemberSubscription, PartitionCounts, RebalanceProtocol};
use highwater_streams_engine::{Topology, task::TaskId};
use highwater_types::{ByteString, PartitionId, TopicName, TopicPartition};
use serde::{Deserialize, Serialize};

use crate::state_dir::StateDir;

/// The name that members of a group agree on.
pub(crate) const PROTOCOL_NAME: &str = "highwater-streams";

/// What a member tells the leader.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct UserData {
    /// The process, since its workers share their state.
    process: String,
    /// Tasks whose state it has, `0_3`.
    tasks: Vec<String>,
}

/// Assigns the tasks of one topology.
pub(crate) struct TaskAssignor {
    /// Source topics of each sub-topology.
    sub_topologies: Vec<Vec<TopicName>>,
    /// Stores of each sub-topology.
    stores: Vec<Vec<String>>,
    task_counts: Vec<i32>,
    state: Arc<StateDir>,
}

impl fmt::Debug for TaskAssignor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TaskAssignor")
            .field("sub_topologies", &self.sub_topologies)
            .finish_non_exhaustive()
    }
}

impl TaskAssignor {
    pub(crate) fn new(topology: &Topology, task_counts: Vec<i32>, state: Arc<StateDir>) -> Self {
        let subs = topology.sub_topologies().iter();
        Self {
            sub_topologies: subs.clone().map(|sub| sub.source_topics.clone()).collect(),
            stores: subs
                .map(|sub| sub.stores.iter().map(|spec| spec.name.clone()).collect())
                .collect(),
            task_counts,
            state,
        }
    }

    fn stored_tasks(&self) -> Vec<String> {
        let mut tasks = Vec::new();
        for (sub_topology, (stores, count)) in self.stores.iter().zip(&self.task_counts).enumerate() {
            for partition in (0..*count).map(PartitionId::new) {
                if stores.iter().any(|store| self.state.has_state(store, partition)) {
                    tasks.push(
                        TaskId {
                            sub_topology,
                            partition,
                        }
                        .to_string(),
                    );
                }
            }
        }
        tasks
    }
}

impl Assignor for TaskAssignor {
    fn name(&self) -> &str {
        PROTOCOL_NAME
    }

    fn protocol(&self) -> RebalanceProtocol {
        RebalanceProtocol::Cooperative
    }

    fn subscription_userdata(&self, _topics: &[TopicName]) -> Option<Bytes> {
        let data = UserData {
            process: self.state.process_id().to_string(),
            tasks: self.stored_tasks(),
        };
        serde_json::to_vec(&data).ok().map(Bytes::from)
    }

    fn assign(&self, cluster: &PartitionCounts, members: &[MemberSubscription]) -> Vec<MemberAssignment> {
        assign_tasks(&tasks(&self.sub_topologies, cluster), members)
    }
}

/// All tasks with their partitions.
fn tasks(
    sub_topologies: &[Vec<TopicName>],
    cluster: &PartitionCounts,
) -> BTreeMap<TaskId, Vec<TopicPartition>> {
    let mut tasks: BTreeMap<TaskId, Vec<TopicPartition>> = BTreeMap::new();
    for (sub_topology, topics) in sub_topologies.iter().enumerate() {
        for topic in topics {
            let count = cluster.get(topic).copied().unwrap_or(0);
            for partition in (0..i32::try_from(count).unwrap_or(i32::MAX)).map(PartitionId::new) {
                let task = tasks
                    .entry(TaskId {
                        sub_topology,
                        partition,
                    })
                    .or_default();
                task.push(TopicPartition::new(topic.clone(), partition));
            }
        }
    }
    tasks
}

fn assign_tasks(
    tasks: &BTreeMap<TaskId, Vec<TopicPartition>>,
    members: &[MemberSubscription],
) -> Vec<MemberAssignment> {
    let owners = owners(tasks, members);
    let targets = targets(tasks, members, &owners);
    let assign = |member: &MemberSubscription| {
        let mine = tasks
            .iter()
            .filter(|(task, _)| targets.get(task) == Some(&member.member_id));
        // Somebody else's until it gives it up in the next round.
        let free = mine.filter(|(task, _)| owners.get(task).is_none_or(|owner| *owner == member.member_id));
        MemberAssignment {
            member_id: member.member_id.clone(),
            partitions: free
                .flat_map(|(_, partitions)| partitions.iter().cloned())
                .collect(),
            user_data: None,
        }
    };
    members.iter().map(assign).collect()
}

/// Who owns each task now. When two claim one, the younger generation is right.
fn owners(
    tasks: &BTreeMap<TaskId, Vec<TopicPartition>>,
    members: &[MemberSubscription],
) -> BTreeMap<TaskId, ByteString> {
    let mut owners = BTreeMap::new();
    for (task, partitions) in tasks {
        let claims = members.iter().filter(|member| {
            partitions
                .iter()
                .any(|partition| member.owned_partitions.contains(partition))
        });
        let owner = claims.max_by_key(|member| (member.generation, &member.member_id));
        if let Some(owner) = owner {
            owners.insert(*task, owner.member_id.clone());
        }
    }
    owners
}

/// Who shall own each task in the end.
fn targets(
    tasks: &BTreeMap<TaskId, Vec<TopicPartition>>,
    members: &[MemberSubscription],
    owners: &BTreeMap<TaskId, ByteString>,
) -> BTreeMap<TaskId, ByteString> {
    let Some(fair) = tasks.len().checked_div(members.len()) else {
        return BTreeMap::new();
    };
    let mut extra = tasks.len() % members.len();
    let mut counts: BTreeMap<&ByteString, usize> = members.iter().map(|m| (&m.member_id, 0)).collect();
    let mut targets = BTreeMap::new();
    let mut give = |task: TaskId, member: &MemberSubscription, counts: &mut BTreeMap<_, usize>| -> bool {
        let Some(count) = counts.get_mut(&member.member_id) else {
            return false;
        };
        if *count >= fair {
            if *count > fair || extra == 0 {
                return false;
            }
            extra -= 1;
        }
        *count += 1;
        targets.insert(task, member.member_id.clone());
        true
    };
    let mut free: BTreeSet<TaskId> = tasks.keys().copied().collect();
    for (task, owner) in owners {
        if let Some(member) = members.iter().find(|member| member.member_id == *owner)
            && give(*task, member, &mut counts)
        {
            free.remove(task);
        }
    }
    let state: Vec<(&MemberSubscription, UserData)> = members.iter().map(|m| (m, user_data(m))).collect();
    let with_state = |task: &TaskId| {
        let name = task.to_string();
        state
            .iter()
            .filter(move |(_, data)| data.tasks.contains(&name))
            .map(|(member, _)| *member)
    };
    // Twice, because a process with state may have several workers: first those, then whoever has least to do.
    for task in free.clone() {
        let mut candidates: Vec<_> = with_state(&task).collect();
        candidates.sort_by_key(|member| (counts.get(&member.member_id).copied(), &member.member_id));
        if candidates
            .into_iter()
            .any(|member| give(task, member, &mut counts))
        {
            free.remove(&task);
        }
    }
    for task in free {
        let mut candidates: Vec<_> = members.iter().collect();
        candidates.sort_by_key(|member| (counts.get(&member.member_id).copied(), &member.member_id));
        candidates
            .into_iter()
            .any(|member| give(task, member, &mut counts));
    }
    targets
}

fn user_data(member: &MemberSubscription) -> UserData {
    // A member with other user data is served like one without state.
    member
        .user_data
        .as_deref()
        .and_then(|bytes| serde_json::from_slice(bytes).ok())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(name: &str) -> TopicName {
        TopicName::new(name).expect("legal")
    }

    /// Two sub-topologies: one over `a` (4 partitions) and `b` (2), one over `r` (3).
    fn all_tasks() -> BTreeMap<TaskId, Vec<TopicPartition>> {
        let cluster = [(topic("a"), 4), (topic("b"), 2), (topic("r"), 3)].into();
        tasks(&[vec![topic("a"), topic("b")], vec![topic("r")]], &cluster)
    }

    fn member(id: &str, owned: &[TopicPartition], state: &[&str]) -> MemberSubscription {
        let data = UserData {
            process: id.to_owned(),
            tasks: state.iter().map(ToString::to_string).collect(),
        };
        MemberSubscription {
            member_id: id.into(),
            owned_partitions: owned.to_vec(),
            user_data: serde_json::to_vec(&data).ok().map(Bytes::from),
            ..Default::default()
        }
    }

    fn show(assignments: &[MemberAssignment]) -> Vec<String> {
        let line = |assignment: &MemberAssignment| {
            let partitions: Vec<_> = assignment.partitions.iter().map(ToString::to_string).collect();
            format!("{}: {}", assignment.member_id, partitions.join(" "))
        };
        assignments.iter().map(line).collect()
    }

    #[test]
    fn partitions_with_one_index_stay_together_and_shares_are_fair() {
        let assignments = assign_tasks(&all_tasks(), &[member("m1", &[], &[]), member("m2", &[], &[])]);
        assert_eq!(
            show(&assignments),
            ["m1: a-0 b-0 a-2 r-0 r-2", "m2: a-1 b-1 a-3 r-1"]
        );
    }

    #[test]
    fn free_tasks_go_to_the_process_that_has_their_state() {
        let members = [
            member("m1", &[], &["1_0", "1_1", "1_2"]),
            member("m2", &[], &["0_0", "0_2"]),
        ];
        let assignments = assign_tasks(&all_tasks(), &members);
        assert_eq!(
            show(&assignments),
            ["m1: a-3 r-0 r-1 r-2", "m2: a-0 b-0 a-1 b-1 a-2"]
        );
    }

    #[test]
    fn a_newcomer_gets_its_share_only_after_the_owner_has_given_it_up() {
        let alone = assign_tasks(&all_tasks(), &[member("m1", &[], &[])]);
        let first = [member("m1", &alone[0].partitions, &[]), member("m2", &[], &[])];
        let first = assign_tasks(&all_tasks(), &first);
        assert_eq!(
            first[0].partitions.len(),
            6,
            "keeps 4 of 7 tasks, two of them with two partitions"
        );
        assert!(
            first[1].partitions.is_empty(),
            "everything is still owned: {first:?}"
        );
        let second = [member("m1", &first[0].partitions, &[]), member("m2", &[], &[])];
        let second = assign_tasks(&all_tasks(), &second);
        assert_eq!(second[0].partitions, first[0].partitions, "nothing moves twice");
        assert_eq!(second[1].partitions.len(), 3);
        let third = [
            member("m1", &second[0].partitions, &[]),
            member("m2", &second[1].partitions, &[]),
        ];
        assert_eq!(assign_tasks(&all_tasks(), &third), second, "settled");
    }

    #[test]
    fn a_member_that_left_leaves_its_tasks_to_the_others() {
        let before = assign_tasks(&all_tasks(), &[member("m1", &[], &[]), member("m2", &[], &[])]);
        let after = assign_tasks(&all_tasks(), &[member("m1", &before[0].partitions, &[])]);
        assert_eq!(after[0].partitions.len(), 9);
    }
}
