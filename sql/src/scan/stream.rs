//! Reading one partition: fetch ahead, check, decode, filter, batch.
//!
//! # Invariants
//! - At most two reads are held: the one being decoded and the one fetched ahead; both are taken from the query's
//!   memory pool.
//! - Dropping the scan drops the read that is under way.

use std::{
    collections::VecDeque,
    ops::Range,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use arrow::record_batch::RecordBatch;
use bytes::Bytes;
use datafusion::{
    common::{DataFusionError, Result, runtime::SpawnedTask},
    execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation},
    physical_plan::metrics::{Count, ExecutionPlanMetricsSet, MetricBuilder},
};
use highwater_types::{
    Offset, TopicPartition,
    record::{self, BatchError, Batches, DecodeLimits, RecordView},
};

use super::{
    ScanSpec,
    rows::{RowBuilder, Trouble},
};
use crate::{
    config::Misfits,
    error::SqlError,
    limits,
    reader::{ReadError, TopicReader},
    report::QueryReport,
};

/// A batch of rows is given out when it holds this much, however few rows that is.
const BATCH_BYTES: usize = 8 * 1024 * 1024;

/// What a scan starts from.
pub(super) struct Start<'a> {
    pub(super) spec: Arc<ScanSpec>,
    pub(super) at: TopicPartition,
    pub(super) offsets: Vec<Range<Offset>>,
    pub(super) reader: Arc<dyn TopicReader>,
    pub(super) fetch_bytes: usize,
    pub(super) batch_rows: usize,
    pub(super) pool: Arc<dyn MemoryPool>,
    pub(super) report: Arc<QueryReport>,
    pub(super) metrics: &'a ExecutionPlanMetricsSet,
    pub(super) output_partition: usize,
}

/// Reads one partition.
pub(super) struct PartitionScan {
    spec: Arc<ScanSpec>,
    at: TopicPartition,
    reader: Arc<dyn TopicReader>,
    fetch_bytes: usize,
    batch_rows: usize,
    report: Arc<QueryReport>,
    memory: MemoryReservation,
    metrics: ScanMetrics,
    rows: RowBuilder,
    /// Stretches still to be read; the front one is under way.
    offsets: VecDeque<Range<Offset>>,
    /// Where the next read begins.
    position: Offset,
    current: Batches,
    ahead: Option<Ahead>,
    ready: VecDeque<RecordBatch>,
    /// Rows that may still be given out.
    left: usize,
}

struct Ahead {
    from: Offset,
    read: SpawnedTask<std::result::Result<Bytes, ReadError>>,
}

struct ScanMetrics {
    bytes_fetched: Count,
    records_read: Count,
    output_rows: Count,
}

impl PartitionScan {
    pub(super) fn new(start: Start<'_>) -> Self {
        let counter = |name| MetricBuilder::new(start.metrics).counter(name, start.output_partition);
        let metrics = ScanMetrics {
            bytes_fetched: counter("bytes_fetched"),
            records_read: counter("records_read"),
            output_rows: MetricBuilder::new(start.metrics).output_rows(start.output_partition),
        };
        let offsets = VecDeque::from(start.offsets);
        Self {
            position: offsets.front().map_or(Offset::ZERO, |range| range.start),
            left: start.spec.limit.unwrap_or(usize::MAX),
            rows: RowBuilder::new(start.spec.columns.clone(), start.at.partition),
            memory: MemoryConsumer::new(format!("TopicScan[{}]", start.at)).register(&start.pool),
            spec: start.spec,
            at: start.at,
            reader: start.reader,
            fetch_bytes: start.fetch_bytes,
            batch_rows: start.batch_rows,
            report: start.report,
            metrics,
            offsets,
            current: record::batches(Bytes::new()),
            ahead: None,
            ready: VecDeque::new(),
        }
    }

    /// The next rows, or the end.
    pub(super) async fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                self.metrics.output_rows.add(batch.num_rows());
                return Ok(Some(batch));
            }
            if self.left == 0 {
                return Ok(None);
            }
            match self.current.next() {
                Some(batch) => {
                    let batch = batch.map_err(|error| self.broken(self.position, error))?;
                    self.take_batch(&batch)?;
                }
                None => {
                    if !self.read_more().await? {
                        self.end()?;
                        if self.ready.is_empty() {
                            return Ok(None);
                        }
                    }
                }
            }
        }
    }

    /// Gives out what has been collected; nothing more will come.
    fn end(&mut self) -> Result<()> {
        self.flush()?;
        self.left = 0;
        self.memory.free();
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if self.rows.rows() > 0 {
            self.ready.push_back(self.rows.finish()?);
        }
        Ok(())
    }

    /// Reads on; false at the end.
    async fn read_more(&mut self) -> Result<bool> {
        let mut empty = 0;
        loop {
            let Some(range) = self.offsets.front() else {
                return Ok(false);
            };
            if self.position >= range.end {
                self.offsets.pop_front();
                if let Some(next) = self.offsets.front() {
                    self.position = self.position.max(next.start);
                }
                continue;
            }
            let read = self.take_read().await;
            match read {
                Ok(bytes) if !bytes.is_empty() => {
                    self.accept(bytes)?;
                    return Ok(true);
                }
                // The offsets are below the high watermark, so there is data; a new leader may need a moment to know.
                Ok(_) => {
                    empty += 1;
                    if empty > limits::MAX_EMPTY_FETCHES {
                        return Err(self.log_ended());
                    }
                    tokio::time::sleep(limits::EMPTY_FETCH_PAUSE).await;
                }
                Err(ReadError::OutOfRange { .. }) => self.skip_expired().await?,
                Err(error) => return Err(external(SqlError::from(error))),
            }
        }
    }

    /// The read at the current position: the one fetched ahead, if that guess was right.
    async fn take_read(&mut self) -> std::result::Result<Bytes, ReadError> {
        match self.ahead.take() {
            Some(ahead) if ahead.from == self.position => match ahead.read.join().await {
                Ok(read) => read,
                // The runtime is going down, or the task panicked: ask again in the open.
                Err(_) => self.reader.fetch(&self.at, self.position, self.fetch_bytes).await,
            },
            _ => self.reader.fetch(&self.at, self.position, self.fetch_bytes).await,
        }
    }

    /// Takes a read for decoding and starts the next one.
    fn accept(&mut self, bytes: Bytes) -> Result<()> {
        self.metrics.bytes_fetched.add(bytes.len());
        let mut next = self.position;
        for batch in record::batches(bytes.clone()) {
            match batch {
                Ok(batch) => next = next.max(batch.header().next_offset()),
                Err(error) => return Err(self.broken(next, error)),
            }
        }
        if next == self.position {
            // Less than a batch: a broker that cuts the first one short cannot be read from.
            return Err(self.log_ended());
        }
        self.position = next;
        self.memory.try_resize(bytes.len().saturating_mul(2))?;
        self.current = record::batches(bytes);
        let more = self.offsets.front().is_some_and(|range| next < range.end);
        if more && self.spec.limit.is_none() {
            let (reader, at, max_bytes) = (self.reader.clone(), self.at.clone(), self.fetch_bytes);
            let read = SpawnedTask::spawn(async move { reader.fetch(&at, next, max_bytes).await });
            self.ahead = Some(Ahead { from: next, read });
        }
        Ok(())
    }

    /// Moves to the log's start, which retention has moved past the position.
    async fn skip_expired(&mut self) -> Result<()> {
        let ranges = self
            .reader
            .offset_ranges(&self.at.topic)
            .await
            .map_err(|e| external(SqlError::from(e)))?;
        let start = ranges.get(&self.at.partition).map(|range| range.start);
        match start {
            Some(start) if start > self.position => {
                let end = self.offsets.front().map_or(start, |range| range.end.min(start));
                let lost = end.distance_from(self.position.min(end));
                self.report.expired(&self.at, u64::try_from(lost).unwrap_or(0));
                self.position = start;
                Ok(())
            }
            _ => Err(self.log_ended()),
        }
    }

    fn take_batch(&mut self, batch: &record::RecordBatch) -> Result<()> {
        let header = batch.header();
        let is_wanted =
            |range: &Range<Offset>| range.start <= header.last_offset() && header.base_offset < range.end;
        if header.is_control() || !self.offsets.iter().any(is_wanted) {
            return Ok(());
        }
        // Of a batch only the largest timestamp is known beforehand; the first need not be the smallest.
        if self
            .spec
            .timestamps
            .min()
            .is_none_or(|min| header.max_timestamp.get() < min)
        {
            return Ok(());
        }
        batch
            .verify_crc()
            .map_err(|error| self.broken(header.base_offset, error))?;
        if self.rows.counts_only() && self.spec.timestamps.is_all() && self.holds_all_of(header) {
            let count = usize::try_from(header.record_count).unwrap_or(0).min(self.left);
            self.rows.add_rows(count);
            self.left -= count;
            return if self.left == 0 { self.end() } else { Ok(()) };
        }
        self.decode(batch)
    }

    fn holds_all_of(&self, header: &record::BatchHeader) -> bool {
        self.offsets
            .iter()
            .any(|range| range.start <= header.base_offset && header.last_offset() < range.end)
    }

    fn decode(&mut self, batch: &record::RecordBatch) -> Result<()> {
        let base = batch.header().base_offset;
        let decoded = batch
            .decode(DecodeLimits::default())
            .map_err(|error| self.broken(base, error))?;
        self.memory.try_resize(
            self.memory
                .size()
                .max(decoded.body().len() + self.rows.size_bytes()),
        )?;
        let mut records = 0;
        for view in decoded.views() {
            let view = view.map_err(|error| self.broken(base, error))?;
            records += 1;
            if !self.admits(&view) {
                continue;
            }
            if let Some(trouble) = self.rows.append(&view) {
                self.handle(trouble, &view)?;
            }
            self.left -= 1;
            if self.left == 0 {
                self.metrics.records_read.add(records);
                return self.end();
            }
            if self.rows.rows() >= self.batch_rows || self.rows.size_bytes() >= BATCH_BYTES {
                self.flush()?;
            }
        }
        self.metrics.records_read.add(records);
        Ok(())
    }

    fn admits(&self, record: &RecordView<'_>) -> bool {
        self.offsets.iter().any(|range| range.contains(&record.offset))
            && self.spec.timestamps.contains(record.timestamp.get())
    }

    fn handle(&self, trouble: Trouble, record: &RecordView<'_>) -> Result<()> {
        match (&trouble, self.spec.misfits) {
            (Trouble::NotText, _) => self.report.not_text(&self.at, record.offset),
            (Trouble::Malformed(error), Misfits::Null) => {
                self.report.malformed(&self.at, record.offset, error)
            }
            (Trouble::Misfit(misfit), Misfits::Null) => {
                self.report
                    .misfit(&self.at, record.offset, &misfit.field, &misfit.value);
                if let (Some(learner), Some(value)) = (&self.spec.learner, record.value)
                    && learner.relearned.fetch_add(1, Relaxed) < limits::MAX_RELEARNED_VALUES
                {
                    learner.observe(value);
                }
            }
            (Trouble::Malformed(error), Misfits::Fail) => {
                return Err(self.misfit(record, format!("is not a JSON object ({error})")));
            }
            (Trouble::Misfit(misfit), Misfits::Fail) => {
                return Err(self.misfit(
                    record,
                    format!(
                        "has {} = {}, which does not fit the column",
                        misfit.field, misfit.value
                    ),
                ));
            }
        }
        Ok(())
    }

    fn misfit(&self, record: &RecordView<'_>, problem: String) -> DataFusionError {
        external(SqlError::Misfit {
            at: self.at.clone(),
            offset: record.offset,
            problem,
        })
    }

    fn broken(&self, offset: Offset, error: BatchError) -> DataFusionError {
        external(SqlError::BrokenBatch {
            at: self.at.clone(),
            offset,
            source: error,
        })
    }

    fn log_ended(&self) -> DataFusionError {
        external(SqlError::LogEnded {
            at: self.at.clone(),
            offset: self.position,
        })
    }
}

fn external(error: SqlError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
