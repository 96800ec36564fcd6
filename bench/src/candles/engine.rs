//! The candle topology through the engine alone: one task, one thread, stores in memory, no broker. What the runtime
//! and the log can at most reach.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::{Context, Result};
use highwater_streams_engine::{
    operator::OutputRecord,
    store::MemoryStore,
    task::{Task, TaskId},
};
use highwater_types::{Bytes, Offset, PartitionId, Timestamp, TopicName, record::Record};

use super::{Candles, Names, ticks, topology};
use crate::{
    measure::{Meter, Sample},
    workloads::CandlesWorkload,
};

/// Records handed over at once; as many as a poll of the runtime gives.
const CHUNK_RECORDS: usize = 10_000;
/// Records between commits: about what the runtime's 200 ms bring at a million records per second.
const COMMIT_RECORDS: usize = 200_000;

/// The input of a workload as a consumer would give it, and the candles it must become.
#[derive(Debug)]
pub(crate) struct Input {
    chunks: Vec<Vec<Record>>,
    bytes: u64,
    expected: Candles,
}

/// Makes the input once for all runs.
pub(crate) fn prepare(workload: &CandlesWorkload) -> Input {
    let mut chunks = Vec::new();
    let mut chunk = Vec::with_capacity(CHUNK_RECORDS);
    let mut bytes = 0;
    for (tick, offset) in ticks(workload).zip(0..) {
        bytes += (tick.key.len() + tick.value.len()) as u64;
        chunk.push(Record {
            offset: Offset::new(offset),
            timestamp: Timestamp::new(tick.event_time_ms),
            key: Some(Bytes::from(tick.key)),
            value: Some(Bytes::from(tick.value)),
            headers: Vec::new(),
        });
        if chunk.len() == CHUNK_RECORDS {
            chunks.push(std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK_RECORDS)));
        }
    }
    chunks.push(chunk);
    Input {
        chunks,
        bytes,
        expected: Candles::expected(workload),
    }
}

/// One run.
pub(crate) async fn run(workload: &CandlesWorkload, input: &Arc<Input>) -> Result<Sample> {
    let (records, input) = (workload.records, Arc::clone(input));
    tokio::task::spawn_blocking(move || run_here(records, &input)).await?
}

fn run_here(records: u64, input: &Input) -> Result<Sample> {
    let names = Names {
        application: "bench-candles",
        prices: "prices",
        candles: "candles",
    };
    let topology = topology(names)?;
    let prices = TopicName::new(names.prices)?;
    let now = Timestamp::new(0);
    let id = TaskId {
        sub_topology: 0,
        partition: PartitionId::new(0),
    };
    let mut task = Task::open(&topology, id, &mut |_| Ok(Box::new(MemoryStore::new())))?;
    task.finish_restore(now)?;
    let chunks = input.chunks.clone();

    let meter = Meter::start(None)?;
    let mut outputs = Vec::new();
    let mut since_commit = 0;
    for chunk in chunks {
        since_commit += chunk.len();
        task.add_records(&prices, chunk)?;
        task.process(now)?;
        if since_commit >= COMMIT_RECORDS {
            since_commit = 0;
            commit(&mut task, &mut outputs)?;
        }
    }
    commit(&mut task, &mut outputs)?;
    task.flush_stores()?;
    let sample = meter.stop(records, input.bytes)?;

    let mut candles = Candles::default();
    for output in outputs.iter().flatten() {
        candles.take(output.key.as_deref(), output.value.as_deref())?;
    }
    candles.check(&input.expected)?;
    Ok(sample)
}

/// A commit as the runtime makes it, with a log that takes everything.
fn commit(task: &mut Task, outputs: &mut Vec<Vec<OutputRecord>>) -> Result<()> {
    let Some(committed) = task.commit(Timestamp::new(0))? else {
        return Ok(());
    };
    let mut ends = BTreeMap::new();
    for batch in committed.changelogs {
        let end = i64::try_from(batch.records.len()).context("too many records in a commit")?;
        ends.insert(batch.store, Offset::new(end));
    }
    task.acknowledge(ends);
    outputs.push(committed.outputs);
    Ok(())
}
