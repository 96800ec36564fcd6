//! A task: one sub-topology over one partition index; the unit of order, state and failover (semantic row 56).
//!
//! The caller (runtime or test driver) feeds records, asks it to process, and turns its [`CommitOutput`] into writes:
//!
//! ```text
//! open -> restore(store, records).. -> finish_restore -> [ add_records -> process -> commit -> acknowledge -> flush_stores ]..
//! ```
//!
//! Refuses: IO, clocks, threads.
//!
//! # Invariants
//! - Nothing is processed before `finish_restore`.
//! - `flush_stores` moves a commit into the stores only after `acknowledge` said that the log has it.

mod commit;
mod restore;
#[cfg(test)]
mod tests;

use std::fmt;

use highwater_types::{Offset, PartitionId, Timestamp, TopicName, record::Record};

pub use commit::{ChangelogBatch, CommitOutput};
pub use restore::Restored;

use crate::{
    changelog::CommitMarker,
    drops::{DropCounters, DropReason},
    error::{ProcessError, StoreError},
    operator::{Operator, OperatorContext, OutputRecord},
    operators::source::{SourceContext, SourceNode},
    row::Chunk,
    store::{OpenStore, StoreHandle},
    topology::{Role, Topology},
};

/// Which task: prints as `0_3`, sub-topology then partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId {
    /// Index of the sub-topology.
    pub sub_topology: usize,
    /// Partition of all its inputs.
    pub partition: PartitionId,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.sub_topology, self.partition)
    }
}

/// A node of this task; children are positions in the task's own list.
struct TaskNode {
    name: String,
    operator: Option<Box<dyn Operator>>,
    children: Vec<usize>,
    drops: DropCounters,
}

struct TaskSource {
    node: usize,
    source: Box<dyn SourceNode>,
}

/// One input topic of the task.
struct Input {
    topic: TopicName,
    source: usize,
    queue: usize,
    /// The broker is known to have records that did not arrive yet, so an empty queue is worth waiting for (row 58).
    more_expected: bool,
}

/// One sub-topology over one partition.
pub struct Task {
    id: TaskId,
    nodes: Vec<TaskNode>,
    sources: Vec<TaskSource>,
    inputs: Vec<Input>,
    stores: Vec<StoreHandle>,
    outputs: Vec<OutputRecord>,
    last_commit: CommitMarker,
    acknowledged: Option<commit::Acknowledged>,
    /// A commit was handed out and not acknowledged.
    outstanding: bool,
    changelogs: Vec<Option<TopicName>>,
    processed_since_commit: usize,
    positions_moved: bool,
    ready: bool,
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("id", &self.id)
            .field("commit", &self.last_commit.commit)
            .field("stores", &self.stores)
            .finish_non_exhaustive()
    }
}

impl Task {
    /// Makes the operators of one sub-topology and opens its stores.
    ///
    /// # Errors
    /// What `open_store` says, or [`StoreError::Checkpoint`].
    ///
    /// # Panics
    /// When the topology has no such sub-topology.
    pub fn open(topology: &Topology, id: TaskId, open_store: &mut OpenStore<'_>) -> Result<Self, StoreError> {
        let sub = &topology.sub_topologies()[id.sub_topology];
        let position = |node: &usize| sub.nodes.iter().position(|own| own == node);
        let (mut nodes, mut sources, mut inputs) = (Vec::new(), Vec::new(), Vec::new());
        for at in &sub.nodes {
            let node = &topology.nodes[*at];
            let operator = match &node.role {
                Role::Source { topics, make } => {
                    let source = sources.len();
                    inputs.extend(topics.iter().enumerate().map(|(queue, topic)| Input {
                        topic: topic.clone(),
                        source,
                        queue,
                        more_expected: false,
                    }));
                    sources.push(TaskSource {
                        node: nodes.len(),
                        source: make(topics),
                    });
                    None
                }
                Role::Operator { make, .. } => Some(make(&node.name)),
                Role::Sink { topic, make } => Some(make(topic)),
            };
            nodes.push(TaskNode {
                name: node.name.clone(),
                operator,
                children: node.children.iter().filter_map(position).collect(),
                drops: DropCounters::default(),
            });
        }
        let mut stores = Vec::new();
        let mut changelogs = Vec::new();
        for spec in &sub.stores {
            stores.push(StoreHandle::open(spec.clone(), open_store(spec)?)?);
            changelogs.push(topology.changelog_topic(&spec.name).cloned());
        }
        Ok(Self {
            id,
            nodes,
            sources,
            inputs,
            stores,
            outputs: Vec::new(),
            last_commit: CommitMarker::default(),
            acknowledged: None,
            outstanding: false,
            changelogs,
            processed_since_commit: 0,
            positions_moved: false,
            ready: false,
        })
    }

    /// Which task this is.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Topics it reads, all at its own partition.
    pub fn input_topics(&self) -> impl Iterator<Item = &TopicName> {
        self.inputs.iter().map(|input| &input.topic)
    }

    /// Decodes records of one input topic and queues them. Records before the task's position are ignored.
    ///
    /// # Errors
    /// [`ProcessError::Deserialize`] and the like, as the source's policy says.
    pub fn add_records(&mut self, topic: &TopicName, records: Vec<Record>) -> Result<(), ProcessError> {
        let input = self.input(topic)?;
        let (source, queue) = (self.inputs[input].source, self.inputs[input].queue);
        let source = &mut self.sources[source];
        let before = source.source.position(queue);
        let mut context = SourceContext {
            partition: self.id.partition,
            drops: &mut self.nodes[source.node].drops,
            outputs: &mut self.outputs,
        };
        source.source.add(queue, records, &mut context)?;
        // Records that decode to nothing move the position without being processed.
        self.positions_moved |= source.source.position(queue) != before;
        Ok(())
    }

    /// Says whether the broker has records of this input that did not arrive yet. While one input is empty and more is
    /// expected, `process` waits rather than run ahead on the others (semantic row 58).
    ///
    /// # Errors
    /// [`ProcessError::UnknownTopic`].
    pub fn expect_more(&mut self, topic: &TopicName, expected: bool) -> Result<(), ProcessError> {
        let input = self.input(topic)?;
        self.inputs[input].more_expected = expected;
        Ok(())
    }

    /// Rows decoded and waiting, of one input.
    pub fn buffered(&self, topic: &TopicName) -> usize {
        let input = self.inputs.iter().find(|input| input.topic == *topic);
        input.map_or(0, |input| self.sources[input.source].source.buffered(input.queue))
    }

    /// Runs queued rows through the operators, always from the input whose head is oldest (semantic row 57). Returns
    /// how many rows went in.
    ///
    /// # Errors
    /// The first [`ProcessError`]; the task must then be thrown away and opened again, since operators may have taken
    /// part of a chunk.
    ///
    /// # Panics
    /// Before `finish_restore`.
    pub fn process(&mut self, now: Timestamp) -> Result<usize, ProcessError> {
        assert!(
            self.ready,
            "task {} processes before its state is restored",
            self.id
        );
        let mut rows = 0;
        while let Some((input, limit)) = self.next_run() {
            let Input { source, queue, .. } = self.inputs[input];
            let source = &mut self.sources[source];
            let node = source.node;
            let Some((chunk, count)) = source.source.take_until(queue, limit) else {
                break;
            };
            rows += count;
            let children = self.nodes[node].children.clone();
            self.deliver(&children, vec![chunk], now)?;
        }
        self.processed_since_commit += rows;
        Ok(rows)
    }

    /// Lets operators act on the wall clock.
    ///
    /// # Errors
    /// The first [`ProcessError`].
    pub fn punctuate(&mut self, now: Timestamp) -> Result<(), ProcessError> {
        self.each_operator(now, |operator, context| operator.punctuate(context))
    }

    /// Records for output topics that are ready to be sent; they need not wait for the commit.
    pub fn take_outputs(&mut self) -> Vec<OutputRecord> {
        std::mem::take(&mut self.outputs)
    }

    /// Groups in memory that no commit has seen. Many of them are a reason to commit early.
    pub fn dirty_groups(&self) -> usize {
        let operators = self.nodes.iter().filter_map(|node| node.operator.as_ref());
        operators.map(|operator| operator.dirty_groups()).sum()
    }

    /// Next offset to read of an input, as far as processing got; `None` before the first record.
    pub fn position(&self, topic: &TopicName) -> Option<Offset> {
        let input = self.inputs.iter().find(|input| input.topic == *topic)?;
        self.sources[input.source].source.position(input.queue)
    }

    /// What was left out so far, by operator and reason.
    pub fn drops(&self) -> impl Iterator<Item = (&str, DropReason, u64)> {
        self.nodes.iter().flat_map(|node| {
            let counts = DropReason::ALL.map(|reason| (node.name.as_str(), reason, node.drops.get(reason)));
            counts.into_iter().filter(|(_, _, count)| *count > 0)
        })
    }

    /// A store of this task, for queries: it shows what was committed.
    pub fn store(&self, name: &str) -> Option<&StoreHandle> {
        self.stores.iter().find(|store| store.spec().name == name)
    }

    /// All stores of this task.
    pub fn stores(&self) -> impl Iterator<Item = &StoreHandle> {
        self.stores.iter()
    }

    fn input(&self, topic: &TopicName) -> Result<usize, ProcessError> {
        let input = self.inputs.iter().position(|input| input.topic == *topic);
        input.ok_or_else(|| ProcessError::UnknownTopic {
            task: self.id.to_string(),
            topic: topic.clone(),
        })
    }

    /// The input to take from, and up to which time. With one input, or while the others are empty, there is no limit.
    fn next_run(&self) -> Option<(usize, Option<Timestamp>)> {
        let mut best: Option<(usize, Timestamp)> = None;
        let mut limit: Option<Timestamp> = None;
        for (at, input) in self.inputs.iter().enumerate() {
            match self.sources[input.source].source.head_timestamp(input.queue) {
                None if input.more_expected => return None,
                None => {}
                Some(head) => match best {
                    Some((_, oldest)) if head >= oldest => limit = Some(limit.map_or(head, |l| l.min(head))),
                    Some((_, oldest)) => {
                        limit = Some(oldest);
                        best = Some((at, head));
                    }
                    None => best = Some((at, head)),
                },
            }
        }
        let (at, _) = best?;
        // An input that may still bring older rows bounds the run to what is here; nothing tells how old they are.
        Some((at, limit))
    }

    /// Brings chunks to each of `children`, and what they forward to theirs, one child's whole subtree before the next.
    fn deliver(
        &mut self,
        children: &[usize],
        chunks: Vec<Chunk>,
        now: Timestamp,
    ) -> Result<(), ProcessError> {
        let mut waiting = Vec::new();
        push_all(&mut waiting, children, chunks);
        while let Some((at, chunk)) = waiting.pop() {
            let forwarded = self.call(at, now, |operator, context| operator.process(chunk, context))?;
            if !forwarded.is_empty() {
                push_all(&mut waiting, &self.nodes[at].children, forwarded);
            }
        }
        Ok(())
    }

    /// Calls every operator, parents first, and delivers what each forwards before the next is called.
    fn each_operator(
        &mut self,
        now: Timestamp,
        mut action: impl FnMut(&mut dyn Operator, &mut OperatorContext<'_>) -> Result<(), ProcessError>,
    ) -> Result<(), ProcessError> {
        for at in 0..self.nodes.len() {
            if self.nodes[at].operator.is_some() {
                let forwarded = self.call(at, now, &mut action)?;
                if !forwarded.is_empty() {
                    let children = self.nodes[at].children.clone();
                    self.deliver(&children, forwarded, now)?;
                }
            }
        }
        Ok(())
    }

    fn call(
        &mut self,
        at: usize,
        now: Timestamp,
        action: impl FnOnce(&mut dyn Operator, &mut OperatorContext<'_>) -> Result<(), ProcessError>,
    ) -> Result<Vec<Chunk>, ProcessError> {
        let mut forwarded = Vec::new();
        let TaskNode {
            name,
            operator,
            drops,
            ..
        } = &mut self.nodes[at];
        if let Some(operator) = operator {
            let mut context = OperatorContext {
                now,
                name,
                forwarded: &mut forwarded,
                outputs: &mut self.outputs,
                stores: &mut self.stores,
                drops,
            };
            action(&mut **operator, &mut context)?;
        }
        Ok(forwarded)
    }
}

/// Queues chunks for children so that popping gives the first child its chunks in order, then the second.
fn push_all(waiting: &mut Vec<(usize, Chunk)>, children: &[usize], chunks: Vec<Chunk>) {
    let Some((last, others)) = children.split_last() else {
        return;
    };
    let copies: Vec<Vec<Chunk>> = others
        .iter()
        .map(|_| chunks.iter().map(Chunk::duplicate).collect())
        .collect();
    waiting.extend(chunks.into_iter().rev().map(|chunk| (*last, chunk)));
    for (child, copy) in others.iter().zip(copies).rev() {
        waiting.extend(copy.into_iter().rev().map(|chunk| (*child, chunk)));
    }
}
