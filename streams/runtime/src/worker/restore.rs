//! Brings tasks to the point where they may run: reads the tails of their changelogs into their stores, then puts their
//! inputs where that state stands.
//!
//! Restoring goes in steps between polls, so that other tasks of the worker keep running and the group sees us alive.

use std::collections::{BTreeMap, VecDeque};

use highwater_client::{AutoOffsetReset, ConsumeError, IsolationLevel, OffsetSpec};
use highwater_streams_engine::{
    ProcessError, StoreError,
    task::{Restored, TaskId},
};
use highwater_types::{
    Offset, TopicPartition,
    record::{DecodeLimits, Record},
};
use tokio::time::Instant;

use super::{
    Worker,
    tasks::{ChangelogRead, Phase},
};
use crate::{StreamsError, clock, stats};

/// How much of a changelog one read brings.
const READ_BYTES: usize = 8 << 20;

/// First and end offset of a partition.
type Bounds = BTreeMap<TopicPartition, (Offset, Offset)>;

impl Worker {
    /// Works on tasks that do not run yet until `deadline` or until all run.
    pub(super) async fn restore(&mut self, deadline: Instant) -> Result<(), StreamsError> {
        while Instant::now() < deadline {
            let next = {
                let set = self.handle.tasks.lock().await;
                let waiting = set
                    .slots
                    .iter()
                    .find(|(_, slot)| !matches!(slot.phase, Phase::Running));
                waiting.map(|(id, slot)| match &slot.phase {
                    Phase::Opened => (*id, slot.incarnation, None),
                    Phase::Restoring(reads) => (*id, slot.incarnation, reads.front().cloned()),
                    Phase::Running => (*id, slot.incarnation, None),
                })
            };
            match next {
                None => return Ok(()),
                Some((id, incarnation, Some(read))) => self.read_changelog(id, incarnation, read).await?,
                Some((id, incarnation, None)) => self.begin_or_finish(id, incarnation).await?,
            }
        }
        Ok(())
    }

    async fn begin_or_finish(&self, id: TaskId, incarnation: u64) -> Result<(), StreamsError> {
        let opened = {
            let set = self.handle.tasks.lock().await;
            let slot = set.slots.get(&id).filter(|slot| slot.incarnation == incarnation);
            slot.is_some_and(|slot| matches!(slot.phase, Phase::Opened))
        };
        if opened {
            self.plan_reads(id, incarnation).await
        } else {
            self.run_task(id, incarnation).await
        }
    }

    /// Finds out which changelogs to read from where. A store that its changelog no longer reaches back to, or that
    /// claims more than its changelog has, is emptied with all stores of the task and read from the start.
    async fn plan_reads(&self, id: TaskId, incarnation: u64) -> Result<(), StreamsError> {
        let changelogs: Vec<(String, TopicPartition)> = {
            let sub = &self.app.topology.sub_topologies()[id.sub_topology];
            let logged = sub.stores.iter().filter_map(|spec| {
                let topic = self.app.topology.changelog_topic(&spec.name)?;
                Some((
                    spec.name.clone(),
                    TopicPartition::new(topic.clone(), id.partition),
                ))
            });
            logged.collect()
        };
        let bounds = self
            .bounds(changelogs.iter().map(|(_, changelog)| changelog.clone()))
            .await?;
        let mut set = self.handle.tasks.lock().await;
        let Some(slot) = set
            .slots
            .get_mut(&id)
            .filter(|slot| slot.incarnation == incarnation)
        else {
            return Ok(());
        };
        let from =
            |slot: &super::tasks::Slot, store: &str| slot.task.store(store).and_then(|s| s.restore_from());
        let fits = |(store, changelog): &(String, TopicPartition)| match (
            from(slot, store),
            bounds.get(changelog),
        ) {
            (Some(from), Some((start, end))) => *start <= from && from <= *end,
            _ => true,
        };
        if !changelogs.iter().all(fits) {
            tracing::warn!(application = self.app.id(), task = %id, "stores do not fit their changelogs; restoring from the start");
            slot.task
                .clear_stores()
                .map_err(|error| StreamsError::store(id, error))?;
        }
        let mut reads = VecDeque::new();
        for (store, changelog) in changelogs {
            let (start, end) = bounds
                .get(&changelog)
                .copied()
                .unwrap_or((Offset::ZERO, Offset::ZERO));
            let next = from(slot, &store).unwrap_or(start);
            if next < end {
                reads.push_back(ChangelogRead {
                    store,
                    changelog,
                    next,
                });
            }
        }
        slot.phase = Phase::Restoring(reads);
        Ok(())
    }

    async fn read_changelog(
        &self,
        id: TaskId,
        incarnation: u64,
        read: ChangelogRead,
    ) -> Result<(), StreamsError> {
        let fetched =
            self.app
                .client
                .fetch_batches(&read.changelog, read.next, READ_BYTES, std::time::Duration::ZERO);
        let fetched = fetched.await.map_err(StreamsError::client("read a changelog"))?;
        let mut records: Vec<Record> = Vec::new();
        let mut next = read.next;
        for batch in fetched.iter() {
            let unreadable = |reason: String| StreamsError::Changelog {
                changelog: read.changelog.clone(),
                reason,
            };
            let batch = batch.map_err(|error| unreadable(error.to_string()))?;
            batch
                .verify_crc()
                .map_err(|error| unreadable(error.to_string()))?;
            next = next.max(batch.header().next_offset());
            if batch.header().is_control() {
                continue;
            }
            let decoded = batch
                .records(DecodeLimits::default())
                .map_err(|error| unreadable(error.to_string()))?;
            records.extend(decoded.into_iter().filter(|record| record.offset >= read.next));
        }
        stats::add(
            &self.app.counters.restored_records,
            "highwater_streams_restored_records_total",
            self.app.id(),
            records.len() as u64,
        );
        let mut set = self.handle.tasks.lock().await;
        let Some(slot) = set
            .slots
            .get_mut(&id)
            .filter(|slot| slot.incarnation == incarnation)
        else {
            return Ok(());
        };
        slot.task
            .restore(&read.store, records)
            .map_err(|error| StreamsError::store(id, error))?;
        if let Phase::Restoring(reads) = &mut slot.phase
            && let Some(current) = reads.front_mut()
        {
            current.next = next;
            if next >= fetched.high_watermark {
                reads.pop_front();
            }
        }
        Ok(())
    }

    /// Settles the state, puts the inputs where it stands, and lets the task run.
    async fn run_task(&self, id: TaskId, incarnation: u64) -> Result<(), StreamsError> {
        let (partitions, restored) = {
            let mut set = self.handle.tasks.lock().await;
            let Some(slot) = set
                .slots
                .get_mut(&id)
                .filter(|slot| slot.incarnation == incarnation)
            else {
                return Ok(());
            };
            match slot.task.finish_restore(clock::wall_now()) {
                Ok(restored) => (slot.partitions.clone(), restored),
                Err(ProcessError::Store(error @ StoreError::Ahead { .. })) if !slot.cleared => {
                    tracing::warn!(application = self.app.id(), task = %id, %error, "restoring from the start");
                    slot.task
                        .clear_stores()
                        .map_err(|error| StreamsError::store(id, error))?;
                    slot.cleared = true;
                    slot.phase = Phase::Opened;
                    return Ok(());
                }
                Err(error) => return Err(StreamsError::task(id, error)),
            }
        };
        let starts = self.starts(&partitions, &restored).await?;
        let mut set = self.handle.tasks.lock().await;
        let Some(slot) = set
            .slots
            .get_mut(&id)
            .filter(|slot| slot.incarnation == incarnation)
        else {
            return Ok(());
        };
        for (partition, start) in &starts {
            slot.task
                .set_position(&partition.topic, *start)
                .map_err(|error| StreamsError::task(id, error))?;
            self.consumer.seek(partition, *start)?;
        }
        slot.phase = Phase::Running;
        self.consumer.resume(&partitions)?;
        tracing::info!(application = self.app.id(), task = %id, commit = restored.commit, "task runs");
        Ok(())
    }

    /// Where each input goes on: at the position that belongs to the state, else at the group's offset, else where the
    /// reset policy says. A position outside the log means that the topic was cut or made anew.
    async fn starts(
        &self,
        partitions: &[TopicPartition],
        restored: &Restored,
    ) -> Result<BTreeMap<TopicPartition, Offset>, StreamsError> {
        let of_state = |partition: &TopicPartition| {
            let mut positions = restored.positions.iter();
            positions
                .find(|(topic, _)| *topic == partition.topic)
                .map(|(_, offset)| *offset)
        };
        let unnamed: Vec<_> = partitions
            .iter()
            .filter(|p| of_state(p).is_none())
            .cloned()
            .collect();
        let committed = match unnamed.is_empty() {
            true => BTreeMap::new(),
            false => self.consumer.committed(unnamed).await?,
        };
        let bounds = self.bounds(partitions.iter().cloned()).await?;
        let mut starts = BTreeMap::new();
        for partition in partitions {
            let (first, end) = bounds
                .get(partition)
                .copied()
                .unwrap_or((Offset::ZERO, Offset::ZERO));
            let wanted =
                of_state(partition).or_else(|| committed.get(partition).map(|committed| committed.offset));
            let start = match (wanted, self.app.config.auto_offset_reset) {
                (Some(wanted), _) if (first..=end).contains(&wanted) => wanted,
                (Some(wanted), _) => {
                    tracing::warn!(
                        application = self.app.id(), %partition, position = %wanted, %first, %end,
                        "position is outside the log; going on at its first record"
                    );
                    first
                }
                (None, AutoOffsetReset::Earliest) => first,
                (None, AutoOffsetReset::Latest) => end,
                (None, AutoOffsetReset::None) => {
                    let topic_partition = partition.clone();
                    return Err(ConsumeError::NoOffset { topic_partition }.into());
                }
            };
            starts.insert(partition.clone(), start);
        }
        Ok(starts)
    }

    async fn bounds(
        &self,
        partitions: impl Iterator<Item = TopicPartition> + Clone,
    ) -> Result<Bounds, StreamsError> {
        let list = |spec: OffsetSpec| {
            let wanted: Vec<_> = partitions.clone().map(|partition| (partition, spec)).collect();
            async move {
                let listed = self
                    .app
                    .admin
                    .list_offsets(wanted, IsolationLevel::ReadUncommitted)
                    .await;
                listed.map_err(StreamsError::client("look up the bounds of a log"))
            }
        };
        let (firsts, ends) = (list(OffsetSpec::Earliest).await?, list(OffsetSpec::Latest).await?);
        let bounds = firsts.into_iter().filter_map(|(partition, first)| {
            let end = ends.get(&partition)?.offset?;
            Some((partition, (first.offset?, end)))
        });
        Ok(bounds.collect())
    }
}
