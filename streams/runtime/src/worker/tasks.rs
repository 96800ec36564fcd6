//! The tasks of one worker and where each of them stands.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use highwater_client::{CommittedOffsets, Consumer, Delivery, PartitionRecords};
use highwater_streams_engine::{
    DropReason,
    task::{Task, TaskId},
};
use highwater_types::{Offset, Timestamp, TopicPartition};
use tokio::time::Instant;

use crate::{StreamsConfig, StreamsError, app::App};

/// A changelog partition on its way into a store.
#[derive(Debug, Clone)]
pub(super) struct ChangelogRead {
    pub(super) store: String,
    pub(super) changelog: TopicPartition,
    pub(super) next: Offset,
}

/// How far a task is.
#[derive(Debug)]
pub(super) enum Phase {
    /// Just opened: what is to be read is not known yet.
    Opened,
    /// Changelogs are being read, the first one now.
    Restoring(VecDeque<ChangelogRead>),
    /// State is whole, input flows.
    Running,
}

/// A task with what the runtime knows about it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) task: Task,
    pub(super) phase: Phase,
    pub(super) partitions: Vec<TopicPartition>,
    /// Tells this task from one with the same id that was opened earlier.
    pub(super) incarnation: u64,
    pub(super) seen_drops: BTreeMap<(String, DropReason), u64>,
    /// The stores were emptied once already because they did not fit their changelogs.
    pub(super) cleared: bool,
    /// Since when an empty input has kept the others waiting.
    waiting_since: Option<Instant>,
}

/// All tasks of a worker.
#[derive(Debug, Default)]
pub(crate) struct TaskSet {
    pub(super) slots: BTreeMap<TaskId, Slot>,
    /// Outputs sent and not yet acknowledged; the next commit waits for them.
    pub(super) deliveries: Vec<Delivery>,
    /// Offsets that the group does not have yet.
    pub(super) offsets: CommittedOffsets,
    pub(super) last_flush: Option<Instant>,
    next_incarnation: u64,
    /// The group has told at least once what is to be done.
    joined: bool,
    /// A task could not be opened; tried again when tasks start over.
    broken: Option<StreamsError>,
}

impl TaskSet {
    /// Opens the tasks of newly assigned partitions and holds their input back until their state is whole.
    pub(super) fn assigned(&mut self, partitions: &[TopicPartition], app: &App, consumer: &Consumer) {
        self.joined = true;
        let mut by_task: BTreeMap<TaskId, Vec<TopicPartition>> = BTreeMap::new();
        for partition in partitions {
            let reads = |sub: &highwater_streams_engine::topology::SubTopology| {
                sub.source_topics.contains(&partition.topic)
            };
            if let Some(sub_topology) = app.topology.sub_topologies().iter().position(reads) {
                let id = TaskId {
                    sub_topology,
                    partition: partition.partition,
                };
                by_task.entry(id).or_default().push(partition.clone());
            }
        }
        if let Err(error) = consumer.pause(partitions) {
            // Gone again already: the next event of the group takes the tasks back.
            tracing::debug!(%error, "could not hold back new partitions");
        }
        for (id, partitions) in by_task {
            self.open(id, partitions, app);
        }
    }

    fn open(&mut self, id: TaskId, partitions: Vec<TopicPartition>, app: &App) {
        let opened = Task::open(&app.topology, id, &mut |spec| {
            app.state_dir.store(spec, id.partition)
        });
        match opened {
            Ok(task) => {
                self.next_incarnation += 1;
                let slot = Slot {
                    task,
                    phase: Phase::Opened,
                    partitions,
                    incarnation: self.next_incarnation,
                    seen_drops: BTreeMap::new(),
                    cleared: false,
                    waiting_since: None,
                };
                self.slots.insert(id, slot);
            }
            Err(error) => self.broken = Some(StreamsError::store(id, error)),
        }
    }

    /// Tasks that read one of these partitions.
    pub(super) fn reading(&self, partitions: &[TopicPartition]) -> BTreeSet<TaskId> {
        let reads = |slot: &Slot| slot.partitions.iter().any(|own| partitions.contains(own));
        self.slots
            .iter()
            .filter(|(_, slot)| reads(slot))
            .map(|(id, _)| *id)
            .collect()
    }

    pub(super) fn remove(&mut self, tasks: &BTreeSet<TaskId>) {
        for slot in tasks.iter().filter_map(|id| self.slots.remove(id)) {
            self.offsets
                .retain(|partition, _| !slot.partitions.contains(partition));
        }
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
        self.deliveries.clear();
        self.offsets.clear();
    }

    /// Throws all tasks away and opens those of the current assignment again.
    pub(super) fn start_over(&mut self, app: &App, consumer: &Consumer) {
        self.clear();
        self.broken = None;
        let partitions = consumer.assignment();
        if !partitions.is_empty() {
            self.assigned(&partitions, app, consumer);
        }
    }

    pub(super) fn is_restoring(&self) -> bool {
        self.slots
            .values()
            .any(|slot| !matches!(slot.phase, Phase::Running))
    }

    pub(super) fn has_uncommitted_offsets(&self) -> bool {
        !self.offsets.is_empty()
    }

    /// Whether the group has spoken and all tasks run.
    pub(super) fn is_settled(&self) -> bool {
        self.joined && self.broken.is_none() && !self.is_restoring()
    }

    /// How many tasks run, and how many are being restored.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let running = self
            .slots
            .values()
            .filter(|slot| matches!(slot.phase, Phase::Running))
            .count();
        (running, self.slots.len() - running)
    }

    /// Running tasks, to ask their stores.
    pub(crate) fn running(&self) -> impl Iterator<Item = &Task> {
        let slots = self
            .slots
            .values()
            .filter(|slot| matches!(slot.phase, Phase::Running));
        slots.map(|slot| &slot.task)
    }

    pub(super) fn running_mut(&mut self) -> impl Iterator<Item = (TaskId, &mut Slot)> {
        let slots = self
            .slots
            .iter_mut()
            .filter(|(_, slot)| matches!(slot.phase, Phase::Running));
        slots.map(|(id, slot)| (*id, slot))
    }

    /// Queues polled records with their task. Records of tasks that left meanwhile are not ours any more.
    pub(super) fn add_records(&mut self, polled: PartitionRecords) -> Result<(), StreamsError> {
        let PartitionRecords {
            topic_partition,
            records,
            ..
        } = polled;
        let owner = self
            .running_mut()
            .find(|(_, slot)| slot.partitions.contains(&topic_partition));
        match owner {
            Some((id, slot)) => slot
                .task
                .add_records(&topic_partition.topic, records)
                .map_err(|error| StreamsError::task(id, error)),
            None => {
                tracing::debug!(partition = %topic_partition, "records of a task that is not here");
                Ok(())
            }
        }
    }

    /// Tells tasks with several inputs which of them are empty although the broker has records (semantic row 58), but
    /// lets none of them wait longer than configured.
    pub(super) fn wait_for_lagging_inputs(&mut self, consumer: &Consumer, config: &StreamsConfig) {
        if self.slots.values().all(|slot| slot.partitions.len() < 2) {
            return;
        }
        let lag = consumer.lag();
        for (_, slot) in self.running_mut() {
            if slot.partitions.len() < 2 {
                continue;
            }
            let empty = |partition: &TopicPartition, task: &Task| {
                task.buffered(&partition.topic) == 0 && lag.get(partition).is_some_and(|lag| *lag > 0)
            };
            let waits = slot
                .partitions
                .iter()
                .any(|partition| empty(partition, &slot.task));
            let since = match waits {
                true => *slot.waiting_since.get_or_insert_with(Instant::now),
                false => {
                    slot.waiting_since = None;
                    Instant::now()
                }
            };
            let patient = since.elapsed() < config.max_task_idle;
            for partition in &slot.partitions {
                let expected = patient && empty(partition, &slot.task);
                // The partition is an input of the task, or it would not be in the slot.
                let _ = slot.task.expect_more(&partition.topic, expected);
            }
        }
    }

    /// Runs all tasks over what they have; returns how many rows went in.
    pub(super) fn process(&mut self, now: Timestamp) -> Result<usize, StreamsError> {
        if let Some(error) = self.broken.take() {
            return Err(error);
        }
        let mut rows = 0;
        for (id, slot) in self.running_mut() {
            rows += slot
                .task
                .process(now)
                .map_err(|error| StreamsError::task(id, error))?;
        }
        Ok(rows)
    }

    pub(super) fn punctuate(&mut self, now: Timestamp) -> Result<(), StreamsError> {
        self.running_mut().try_for_each(|(id, slot)| {
            slot.task
                .punctuate(now)
                .map_err(|error| StreamsError::task(id, error))
        })
    }

    pub(super) fn dirty_groups(&self) -> usize {
        self.running().map(Task::dirty_groups).sum()
    }

    pub(super) fn unflushed_bytes(&self) -> usize {
        self.running().map(Task::unflushed_bytes).sum()
    }

    /// Moves what was committed into the stores.
    pub(super) fn flush_stores(&mut self) -> Result<(), StreamsError> {
        self.last_flush = Some(Instant::now());
        self.running_mut().try_for_each(|(id, slot)| {
            slot.task
                .flush_stores()
                .map_err(|error| StreamsError::store(id, error))
        })
    }

    /// As `flush_stores` where there is nobody to tell: what is not flushed comes from the changelog.
    pub(super) fn flush_stores_logged(&mut self, application: &str) {
        if let Err(error) = self.flush_stores() {
            tracing::warn!(
                application,
                error = error.chain(),
                "stores not flushed; the next start restores more"
            );
        }
    }
}
