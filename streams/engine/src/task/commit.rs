//! Commits: what changed since the last one, as records for the log.

use std::collections::BTreeMap;

use highwater_types::{Offset, PartitionId, Timestamp, TopicName};

use super::Task;
use crate::{
    changelog::{ChangelogRecord, Checkpoint, CommitMarker},
    error::{ProcessError, StoreError},
    operator::OutputRecord,
};

/// Records for one changelog partition, the marker last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangelogBatch {
    /// The store.
    pub store: String,
    /// Its changelog topic.
    pub topic: TopicName,
    /// The task's partition.
    pub partition: PartitionId,
    /// In this order.
    pub records: Vec<ChangelogRecord>,
}

/// What a commit asks of the runtime: write `changelogs` and `outputs`, and when all of them are acknowledged, commit
/// `positions` for the group and call [`Task::acknowledge`]. With transactions all of it becomes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitOutput {
    /// Counts the commits of this task, from 1.
    pub commit: u64,
    /// One per logged store, even without deltas: a commit is whole when every changelog has its marker.
    pub changelogs: Vec<ChangelogBatch>,
    /// Records for output topics that were not taken before.
    pub outputs: Vec<OutputRecord>,
    /// Next offset to read of each input.
    pub positions: Vec<(TopicName, Offset)>,
}

/// A commit that the log has.
#[derive(Debug)]
pub(super) struct Acknowledged {
    marker: CommitMarker,
    changelog_ends: BTreeMap<String, Offset>,
}

impl Task {
    /// Whether there is anything to commit.
    pub fn needs_commit(&self) -> bool {
        self.processed_since_commit > 0
            || self.positions_moved
            || !self.outputs.is_empty()
            || self.stores.iter().any(|store| store.has_deltas())
            || self.dirty_groups() > 0
    }

    /// Flushes the operators and collects what they changed. `None` when nothing happened since the last commit.
    ///
    /// # Errors
    /// The first [`ProcessError`]; the task must then be thrown away.
    ///
    /// # Panics
    /// When the previous commit was not acknowledged: two unacknowledged commits could not be told apart on restore.
    pub fn commit(&mut self, now: Timestamp) -> Result<Option<CommitOutput>, ProcessError> {
        if !self.needs_commit() {
            return Ok(None);
        }
        assert!(
            !self.outstanding,
            "task {} commits although commit {} was not acknowledged",
            self.id, self.last_commit.commit
        );
        self.each_operator(now, |operator, context| operator.flush(context))?;
        let marker = self.next_marker();
        let mut changelogs = Vec::new();
        for (store, topic) in self.stores.iter_mut().zip(&self.changelogs) {
            if let Some(topic) = topic {
                let mut records = store.take_deltas();
                records.push(marker.to_record(now));
                changelogs.push(ChangelogBatch {
                    store: store.spec().name.clone(),
                    topic: topic.clone(),
                    partition: self.id.partition,
                    records,
                });
            }
        }
        self.last_commit = marker;
        self.outstanding = true;
        self.processed_since_commit = 0;
        self.positions_moved = false;
        Ok(Some(CommitOutput {
            commit: self.last_commit.commit,
            changelogs,
            outputs: self.take_outputs(),
            positions: self.positions(),
        }))
    }

    /// Says that the log has everything of the last commit. `changelog_ends` gives, by store, the offset after the
    /// marker.
    pub fn acknowledge(&mut self, changelog_ends: BTreeMap<String, Offset>) {
        self.outstanding = false;
        self.acknowledged = Some(Acknowledged {
            marker: self.last_commit.clone(),
            changelog_ends,
        });
    }

    /// Bytes that wait for [`flush_stores`](Self::flush_stores).
    pub fn unflushed_bytes(&self) -> usize {
        self.stores.iter().map(|store| store.unflushed_bytes()).sum()
    }

    /// Moves what commits have produced into the stores, each in one batch with the commit it stands for. Does nothing
    /// unless the last commit is acknowledged; costs a store write per key changed since the last flush, so it is called
    /// every few seconds, not with every commit.
    ///
    /// # Errors
    /// [`StoreError`] of the medium.
    pub fn flush_stores(&mut self) -> Result<(), StoreError> {
        let Some(acknowledged) = &self.acknowledged else {
            return Ok(());
        };
        // What the log does not have must not reach a store: a commit under way, or deltas since the last one.
        if self.outstanding || self.stores.iter().any(|store| store.has_deltas()) {
            return Ok(());
        }
        for store in &mut self.stores {
            let end = acknowledged.changelog_ends.get(&store.spec().name);
            let known = store.checkpoint().map(|checkpoint| checkpoint.marker.commit);
            if known == Some(acknowledged.marker.commit) && store.unflushed_bytes() == 0 {
                continue;
            }
            store.flush(Checkpoint {
                // Without an answer, the next restore reads a little more than it must.
                changelog_offset: end
                    .map(|end| end.get())
                    .or_else(|| store.restore_from().map(|from| from.get())),
                marker: acknowledged.marker.clone(),
            })?;
        }
        Ok(())
    }

    fn positions(&self) -> Vec<(TopicName, Offset)> {
        let inputs = self.inputs.iter();
        let positions = inputs.filter_map(|input| {
            let position = self.sources[input.source].source.position(input.queue)?;
            Some((input.topic.clone(), position))
        });
        positions.collect()
    }

    fn next_marker(&self) -> CommitMarker {
        let positions = self.positions().into_iter();
        let logged = self.stores.iter().filter(|store| store.spec().logged);
        let operators = self.nodes.iter().filter_map(|node| node.operator.as_ref());
        CommitMarker {
            commit: self.last_commit.commit + 1,
            positions: positions
                .map(|(topic, offset)| (topic.to_string(), offset.get()))
                .collect(),
            stores: logged.map(|store| store.spec().name.clone()).collect(),
            progress: operators.filter_map(|operator| operator.progress()).collect(),
        }
    }
}
