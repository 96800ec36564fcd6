//! A topic as a DataFusion table.
//!
//! # Invariants
//! - Offsets are pinned once per statement, at the first scan, and every scan of the statement reads that snapshot:
//!   a table joined with itself meets the same rows on both sides.

use std::{ops::Range, sync::Arc};

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::{
    catalog::{Session, TableProvider},
    common::{DataFusionError, Result},
    logical_expr::{Expr, TableProviderFilterPushDown, TableType},
    physical_plan::{ExecutionPlan, empty::EmptyExec},
};
use highwater_types::{Offset, PartitionId, Timestamp, TopicName};
use tokio::sync::OnceCell;

use crate::{
    catalog::Learner,
    columns::TopicColumns,
    config::Misfits,
    error::SqlError,
    pushdown::{LogFilter, can_answer},
    reader::{OffsetRanges, TopicReader},
    scan::{PartitionPlan, ScanSpec, TopicScanExec},
};

/// A topic with its columns, for one statement.
#[derive(Debug)]
pub(crate) struct TopicTable {
    pub(crate) topic: TopicName,
    pub(crate) columns: Arc<TopicColumns>,
    pub(crate) misfits: Misfits,
    /// Told what did not fit; none for declared columns, which are as they were declared.
    pub(crate) learner: Option<Arc<Learner>>,
    pub(crate) reader: Arc<dyn TopicReader>,
    pub(crate) snapshot: OnceCell<OffsetRanges>,
}

impl TopicTable {
    async fn snapshot(&self) -> Result<&OffsetRanges> {
        self.snapshot
            .get_or_try_init(|| self.reader.offset_ranges(&self.topic))
            .await
            .map_err(external)
    }

    /// What is to be read of each partition; partitions with nothing to read are left out.
    async fn plan(&self, filter: &LogFilter) -> Result<Vec<PartitionPlan>> {
        let mut plans = Vec::new();
        for (&partition, held) in self.snapshot().await? {
            let offsets = stretches(filter, held);
            if filter.admits_partition(partition) && !offsets.is_empty() {
                plans.push(PartitionPlan { partition, offsets });
            }
        }
        match filter.timestamps.min() {
            None => Ok(Vec::new()),
            Some(i64::MIN) => Ok(plans),
            Some(min) => self.skip_older(plans, Timestamp::new(min)).await,
        }
    }

    /// Starts each partition at the first record that is young enough, which the log's time index knows.
    async fn skip_older(&self, plans: Vec<PartitionPlan>, min: Timestamp) -> Result<Vec<PartitionPlan>> {
        let partitions: Vec<PartitionId> = plans.iter().map(|plan| plan.partition).collect();
        if partitions.is_empty() {
            return Ok(plans);
        }
        let firsts = self
            .reader
            .offsets_for_timestamp(&self.topic, &partitions, min)
            .await
            .map_err(external)?;
        let mut kept = Vec::with_capacity(plans.len());
        for mut plan in plans {
            // No offset means that no record is young enough.
            if let Some(first) = firsts.get(&plan.partition).copied().flatten() {
                plan.offsets.retain_mut(|range| {
                    range.start = range.start.max(first);
                    range.start < range.end
                });
                if !plan.offsets.is_empty() {
                    kept.push(plan);
                }
            }
        }
        Ok(kept)
    }
}

/// The offsets that the filter wants of those that are held.
fn stretches(filter: &LogFilter, held: &Range<Offset>) -> Vec<Range<Offset>> {
    let wanted = filter.offsets.iter().map(|range| {
        let start = (*range.start()).max(held.start.get());
        let end = range.end().saturating_add(1).min(held.end.get());
        Offset::new(start)..Offset::new(end)
    });
    wanted.filter(|range| range.start < range.end).collect()
}

#[async_trait]
impl TableProvider for TopicTable {
    fn schema(&self) -> SchemaRef {
        self.columns.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = self.columns.project(projection);
        let filter = LogFilter::new(filters);
        let partitions = self.plan(&filter).await?;
        if partitions.is_empty() {
            return Ok(Arc::new(EmptyExec::new(columns.schema)));
        }
        let spec = ScanSpec {
            topic: self.topic.clone(),
            columns,
            partitions,
            timestamps: filter.timestamps,
            limit,
            misfits: self.misfits,
            learner: self.learner.clone(),
        };
        Ok(Arc::new(TopicScanExec::new(spec, self.reader.clone())))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let answer = |filter: &&Expr| {
            if can_answer(filter) {
                TableProviderFilterPushDown::Exact
            } else {
                TableProviderFilterPushDown::Unsupported
            }
        };
        Ok(filters.iter().map(answer).collect())
    }
}

fn external(error: crate::reader::ReadError) -> DataFusionError {
    DataFusionError::External(Box::new(SqlError::from(error)))
}
