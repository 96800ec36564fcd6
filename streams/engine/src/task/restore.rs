//! Bringing a task's state back; the rules are described at [`changelog`](crate::changelog).

use highwater_types::{Offset, Timestamp, TopicName, record::Record};

use super::Task;
use crate::{
    error::{ProcessError, StoreError},
    store::StoreHandle,
};

/// Where a restored task goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// The commit that the state stands for; 0 when there is none.
    pub commit: u64,
    /// Input positions of that commit. They win over the group's offsets; inputs that are not named, and tasks without
    /// state, go on from the group's offsets.
    pub positions: Vec<(TopicName, Offset)>,
}

impl Task {
    /// Feeds changelog records of one store, in order, from the store's
    /// [`restore_from`](StoreHandle::restore_from) (or the start) to the changelog's end.
    ///
    /// # Errors
    /// [`StoreError`] of the medium, or for records that no task wrote.
    pub fn restore(&mut self, store: &str, records: Vec<Record>) -> Result<(), StoreError> {
        match self.stores.iter_mut().find(|own| own.spec().name == store) {
            Some(store) => store.restore(records),
            None => Ok(()),
        }
    }

    /// Empties all stores, to restore from the start of the changelogs: after [`StoreError::Ahead`], or when a
    /// changelog no longer reaches back to a store's checkpoint.
    ///
    /// # Errors
    /// [`StoreError`] of the medium.
    pub fn clear_stores(&mut self) -> Result<(), StoreError> {
        self.stores.iter_mut().try_for_each(StoreHandle::clear)
    }

    /// Settles on the newest commit that all stores have, readies the operators, and says where input goes on.
    ///
    /// # Errors
    /// [`StoreError::Ahead`] (inside [`ProcessError::Store`]) when a store cannot go back to that commit: clear the
    /// stores and restore again.
    pub fn finish_restore(&mut self, now: Timestamp) -> Result<Restored, ProcessError> {
        let commit = self.common_commit();
        for store in self.stores.iter_mut().filter(|store| store.spec().logged) {
            let own = store.restorable_commit();
            store.finish_restore(if own == 0 { 0 } else { commit })?;
        }
        let checkpoints = self.stores.iter().filter_map(|store| store.checkpoint());
        let marker = checkpoints
            .map(|checkpoint| &checkpoint.marker)
            .find(|marker| marker.commit == commit);
        if let Some(marker) = marker.cloned() {
            for node in &mut self.nodes {
                if let Some(operator) = &mut node.operator
                    && let Some((store, _)) = operator.progress()
                    && let Some(progress) = marker.progress.get(&store)
                {
                    operator.restore_progress(progress);
                }
            }
            for input in &self.inputs {
                if let Some(position) = marker.position(&input.topic) {
                    self.sources[input.source]
                        .source
                        .set_position(input.queue, position);
                }
            }
            self.last_commit = marker;
        }
        self.ready = true;
        self.each_operator(now, |operator, context| operator.init(context))?;
        let positions = self.inputs.iter().filter_map(|input| {
            let position = self.last_commit.position(&input.topic)?;
            Some((input.topic.clone(), position))
        });
        Ok(Restored {
            commit,
            positions: positions.collect(),
        })
    }

    /// Gives the start of inputs that no restored commit names: the group's offset or the reset policy's.
    ///
    /// # Errors
    /// [`ProcessError::UnknownTopic`].
    pub fn set_position(&mut self, topic: &TopicName, position: Offset) -> Result<(), ProcessError> {
        let input = &self.inputs[self.input(topic)?];
        self.sources[input.source]
            .source
            .set_position(input.queue, position);
        Ok(())
    }

    /// The newest commit that every store has. A store that no marker of its siblings names was added to the topology
    /// since and starts empty. Without changelogs, the oldest checkpoint decides.
    fn common_commit(&self) -> u64 {
        let logged: Vec<_> = self.stores.iter().filter(|store| store.spec().logged).collect();
        if logged.is_empty() {
            return self
                .stores
                .iter()
                .map(|store| store.restorable_commit())
                .min()
                .unwrap_or(0);
        }
        let expected = |store: &StoreHandle| {
            let markers = logged.iter().filter_map(|other| other.restorable_marker());
            markers
                .into_iter()
                .any(|marker| marker.stores.contains(&store.spec().name))
        };
        let members = logged
            .iter()
            .filter(|store| store.restorable_commit() > 0 || expected(store));
        members.map(|store| store.restorable_commit()).min().unwrap_or(0)
    }
}
