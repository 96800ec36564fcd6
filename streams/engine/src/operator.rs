//! What an operator is: chunks in, chunks out, state through stores, and a flush at every commit.
//!
//! The typed DSL is built from these, and so are operators of other front ends (SQL): implement [`Operator`] and add it
//! with [`KStream::process`](crate::KStream::process).
//!
//! Refuses: clocks, threads, IO. `now` is the wall clock as the runtime read it before the call.

use bytes::Bytes;
use highwater_types::{PartitionId, Timestamp, TopicName, record::Header};

use crate::{
    changelog::OperatorProgress,
    drops::{DropCounters, DropReason},
    error::ProcessError,
    row::Chunk,
    serdes::SerdeError,
    store::StoreHandle,
};

/// How the partition of an output record is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partitioning {
    /// By Kafka's default: murmur2 of the key, or the producer's choice without a key (semantic row 15).
    ByKey,
    /// murmur2 of these bytes instead of the key's: windowed keys go where their inner key goes.
    ByBytes(Bytes),
    /// This one.
    Exactly(PartitionId),
}

/// A record on its way to a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputRecord {
    /// Where to.
    pub topic: TopicName,
    /// Which partition.
    pub partitioning: Partitioning,
    /// Key bytes; `None` is null.
    pub key: Option<Bytes>,
    /// Value bytes; `None` is null.
    pub value: Option<Bytes>,
    /// Event time.
    pub timestamp: Timestamp,
    /// Headers.
    pub headers: Vec<Header>,
}

/// One step of a task. Called by one thread at a time.
pub trait Operator: Send {
    /// Called once, after the stores are restored and before the first chunk.
    ///
    /// # Errors
    /// Any error stops the task; so it is for all methods.
    fn init(&mut self, _context: &mut OperatorContext<'_>) -> Result<(), ProcessError> {
        Ok(())
    }

    /// Takes a chunk from a parent.
    fn process(&mut self, chunk: Chunk, context: &mut OperatorContext<'_>) -> Result<(), ProcessError>;

    /// Called now and then, records or not, with the wall clock (semantic row 60, best effort).
    fn punctuate(&mut self, _context: &mut OperatorContext<'_>) -> Result<(), ProcessError> {
        Ok(())
    }

    /// Called by a commit, parents before children: write dirty groups to the stores and forward what was held back.
    fn flush(&mut self, _context: &mut OperatorContext<'_>) -> Result<(), ProcessError> {
        Ok(())
    }

    /// Groups in memory that differ from the store; the runtime commits early when there are too many.
    fn dirty_groups(&self) -> usize {
        0
    }

    /// What to keep with the commit, under the name of the operator's store.
    fn progress(&self) -> Option<(String, OperatorProgress)> {
        None
    }

    /// Gives back what the restored commit kept; called before `init`.
    fn restore_progress(&mut self, _progress: &OperatorProgress) {}
}

/// What an operator sees of its task during a call.
#[derive(Debug)]
pub struct OperatorContext<'a> {
    pub(crate) now: Timestamp,
    pub(crate) name: &'a str,
    pub(crate) forwarded: &'a mut Vec<Chunk>,
    pub(crate) outputs: &'a mut Vec<OutputRecord>,
    pub(crate) stores: &'a mut [StoreHandle],
    pub(crate) drops: &'a mut DropCounters,
}

impl OperatorContext<'_> {
    /// The wall clock.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// The operator's name in the topology.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Hands a chunk to the children.
    pub fn forward(&mut self, chunk: Chunk) {
        self.forwarded.push(chunk);
    }

    /// Sends a record to a topic.
    pub fn output(&mut self, record: OutputRecord) {
        self.outputs.push(record);
    }

    /// Counts records that go no further.
    pub fn drop_records(&mut self, reason: DropReason, records: u64) {
        self.drops.add(reason, records);
    }

    /// A store of the task.
    ///
    /// # Errors
    /// [`ProcessError::UnknownStore`] when the topology gives this task no such store.
    pub fn store(&mut self, name: &str) -> Result<&mut StoreHandle, ProcessError> {
        let operator = self.name;
        let store = self.stores.iter_mut().find(|store| store.spec().name == name);
        store.ok_or_else(|| ProcessError::UnknownStore {
            operator: operator.to_owned(),
            store: name.to_owned(),
        })
    }

    pub(crate) fn take<T: 'static>(&self, chunk: Chunk) -> Result<T, ProcessError> {
        chunk.take().map_err(|actual| ProcessError::ChunkType {
            operator: self.name.to_owned(),
            expected: std::any::type_name::<T>(),
            actual,
        })
    }

    pub(crate) fn unwritable(&self, part: &'static str) -> impl FnOnce(SerdeError) -> ProcessError {
        let operator = self.name.to_owned();
        move |source| ProcessError::Serialize {
            operator,
            part,
            source,
        }
    }
}
