//! The plan node that reads a topic: one output partition per topic partition, offsets pinned, filters exact.
//!
//! Not DataFusion's StreamingTableExec, which cannot be told of filters or limits.
//!
//! # Invariants
//! - The plan is bounded: every partition ends at an offset that was known when it was planned.
//! - Every row that leaves satisfies the filters the table promised to answer; nothing above checks again.

use std::{fmt, ops::Range, sync::Arc};

use arrow::{compute::SortOptions, datatypes::SchemaRef};
use datafusion::{
    common::{Result, Statistics, stats::Precision, tree_node::TreeNodeRecursion},
    execution::{SendableRecordBatchStream, TaskContext},
    physical_expr::{
        EquivalenceProperties, Partitioning, PhysicalExpr, PhysicalSortExpr, expressions::Column,
    },
    physical_plan::{
        DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
        execution_plan::{Boundedness, EmissionType},
        metrics::{ExecutionPlanMetricsSet, MetricsSet},
        statistics::StatisticsArgs,
        stream::RecordBatchStreamAdapter,
    },
};
use futures::TryStreamExt;
use highwater_types::{Offset, PartitionId, TopicName, TopicPartition};

use crate::{
    catalog::Learner,
    columns::{MetaColumn, Source, TopicColumns},
    config::Misfits,
    limits,
    ranges::Ranges,
    reader::TopicReader,
    report::QueryReport,
    scan::stream::PartitionScan,
};

mod rows;
mod stream;

/// What is read of one partition.
#[derive(Debug, Clone)]
pub(crate) struct PartitionPlan {
    pub(crate) partition: PartitionId,
    /// Stretches of offsets in ascending order, none of them empty.
    pub(crate) offsets: Vec<Range<Offset>>,
}

impl PartitionPlan {
    fn offset_count(&self) -> u64 {
        let counts = self
            .offsets
            .iter()
            .map(|range| range.end.distance_from(range.start));
        u64::try_from(counts.sum::<i64>()).unwrap_or(0)
    }
}

/// What is read of a topic.
#[derive(Debug, Clone)]
pub(crate) struct ScanSpec {
    pub(crate) topic: TopicName,
    /// The asked columns.
    pub(crate) columns: TopicColumns,
    pub(crate) partitions: Vec<PartitionPlan>,
    pub(crate) timestamps: Ranges,
    /// Rows after which a partition may stop.
    pub(crate) limit: Option<usize>,
    pub(crate) misfits: Misfits,
    pub(crate) learner: Option<Arc<Learner>>,
}

/// Reads a topic.
#[derive(Debug, Clone)]
pub(crate) struct TopicScanExec {
    spec: Arc<ScanSpec>,
    reader: Arc<dyn TopicReader>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl TopicScanExec {
    pub(crate) fn new(spec: ScanSpec, reader: Arc<dyn TopicReader>) -> Self {
        let schema = spec.columns.schema.clone();
        let properties = PlanProperties::new(
            ordered_by_offset(&spec.columns),
            Partitioning::UnknownPartitioning(spec.partitions.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        debug_assert_eq!(&schema, properties.eq_properties.schema());
        Self {
            spec: Arc::new(spec),
            reader,
            properties: Arc::new(properties),
            metrics: ExecutionPlanMetricsSet::new(),
        }
    }

    fn fetch_bytes(&self, context: &TaskContext) -> usize {
        if self
            .spec
            .limit
            .is_some_and(|limit| limit <= context.session_config().batch_size())
        {
            return limits::MIN_FETCH_BYTES;
        }
        let budget = match context.memory_pool().memory_limit() {
            datafusion::execution::memory_pool::MemoryLimit::Finite(bytes) => {
                bytes / limits::FETCH_SHARE_OF_MEMORY
            }
            _ => usize::MAX,
        };
        // Twice: one read is decoded while the next one is under way.
        let share = budget / self.spec.partitions.len().max(1) / 2;
        share.clamp(limits::MIN_FETCH_BYTES, limits::MAX_FETCH_BYTES)
    }
}

/// Within a partition records come by offset, which spares a sort to queries that want them so.
fn ordered_by_offset(columns: &TopicColumns) -> EquivalenceProperties {
    let schema = columns.schema.clone();
    match columns
        .sources
        .iter()
        .position(|source| *source == Source::Meta(MetaColumn::Offset))
    {
        Some(at) => {
            let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(MetaColumn::Offset.name(), at));
            let order = PhysicalSortExpr::new(
                column,
                SortOptions {
                    descending: false,
                    nulls_first: false,
                },
            );
            EquivalenceProperties::new_with_orderings(schema, [[order]])
        }
        None => EquivalenceProperties::new(schema),
    }
}

impl DisplayAs for TopicScanExec {
    fn fmt_as(&self, _form: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spec = &self.spec;
        write!(f, "TopicScanExec: topic={}, partitions=[", spec.topic)?;
        for (index, plan) in spec.partitions.iter().enumerate() {
            let offsets: Vec<_> = plan
                .offsets
                .iter()
                .map(|range| format!("{}..{}", range.start, range.end))
                .collect();
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{}: {}", plan.partition, offsets.join(" + "))?;
        }
        let names: Vec<_> = spec
            .columns
            .schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        write!(f, "], columns=[{}]", names.join(", "))?;
        if !spec.timestamps.is_all() {
            write!(f, ", _timestamp={}", spec.timestamps)?;
        }
        if let Some(limit) = spec.limit {
            write!(f, ", limit={limit}")?;
        }
        Ok(())
    }
}

impl ExecutionPlan for TopicScanExec {
    fn name(&self) -> &str {
        "TopicScanExec"
    }

    fn schema(&self) -> SchemaRef {
        self.spec.columns.schema.clone()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(plan) = self.spec.partitions.get(partition) else {
            return datafusion::common::internal_err!(
                "a scan of {} partitions has no partition {partition}",
                self.spec.partitions.len()
            );
        };
        let report = context
            .session_config()
            .get_extension::<QueryReport>()
            .unwrap_or_default();
        let scan = PartitionScan::new(stream::Start {
            spec: self.spec.clone(),
            at: TopicPartition::new(self.spec.topic.clone(), plan.partition),
            offsets: plan.offsets.clone(),
            reader: self.reader.clone(),
            fetch_bytes: self.fetch_bytes(&context),
            batch_rows: context.session_config().batch_size(),
            pool: context.memory_pool().clone(),
            report,
            metrics: &self.metrics,
            output_partition: partition,
        });
        let stream = futures::stream::try_unfold(scan, |mut scan| async move {
            let batch = scan.next_batch().await?;
            Ok(batch.map(|batch| (batch, scan)))
        });
        Ok(Box::pin(RecordBatchStreamAdapter::new(
            self.schema(),
            stream.into_stream(),
        )))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        _inputs: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let offsets: u64 = match args.partition() {
            Some(partition) => self
                .spec
                .partitions
                .get(partition)
                .map_or(0, PartitionPlan::offset_count),
            None => self.spec.partitions.iter().map(PartitionPlan::offset_count).sum(),
        };
        // Never exact: compaction and transaction markers leave offsets without a record, and whether a log has any
        // cannot be known without reading it.
        let rows = usize::try_from(offsets).unwrap_or(usize::MAX);
        let mut statistics = Statistics::new_unknown(&self.schema());
        statistics.num_rows = Precision::Inexact(rows);
        Ok(Arc::new(statistics))
    }
}
