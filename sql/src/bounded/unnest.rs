//! Taking lists apart repeats the rest of the row for every element, and DataFusion does so for a whole list at once:
//! a node of the plan below it that hands over as many rows as may be repeated together, and refuses a row that alone
//! would become too much.

use std::{fmt, sync::Arc};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::common::Result;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::ChildrenPropertiesMode;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::unnest::{ListUnnest, UnnestExec};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, ReplaceChildrenOptions,
};
use futures::{StreamExt, TryStreamExt, stream};

use super::size::{bytes_of, elements_of};
use super::too_much;
use crate::limits::MAX_CALL_BYTES;

/// Puts a guard below everything that takes lists apart.
pub(crate) fn guard(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let guarded = plan.transform_up(|node| {
        let Some(unnest) = node.downcast_ref::<UnnestExec>() else {
            return Ok(Transformed::no(node));
        };
        let lists: Vec<ListUnnest> = unnest.list_column_indices().to_vec();
        let guard = UnnestGuardExec {
            input: Arc::clone(unnest.input()),
            lists: lists.into(),
        };
        let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
        Ok(Transformed::yes(
            node.replace_children(vec![Arc::new(guard)], options)?,
        ))
    });
    Ok(guarded?.data)
}

#[derive(Debug)]
struct UnnestGuardExec {
    input: Arc<dyn ExecutionPlan>,
    lists: Arc<[ListUnnest]>,
}

impl UnnestGuardExec {
    fn above(&self, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(UnnestGuardExec {
                input,
                lists: Arc::clone(&self.lists),
            })),
            _ => datafusion::common::internal_err!("a guard of lists stands above one input"),
        }
    }
}

impl DisplayAs for UnnestGuardExec {
    fn fmt_as(&self, _form: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UnnestGuardExec")
    }
}

impl ExecutionPlan for UnnestGuardExec {
    fn name(&self) -> &str {
        "UnnestGuardExec"
    }

    fn schema(&self) -> SchemaRef {
        self.input.schema()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        self.input.properties()
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.above(children)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.above(children)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let lists = Arc::clone(&self.lists);
        let input = self.input.execute(partition, context)?;
        let pieces = input
            .map(move |batch| batch.and_then(|batch| cut(&batch, &lists)))
            .map_ok(|pieces| stream::iter(pieces.into_iter().map(Ok)))
            .try_flatten();
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), pieces)))
    }
}

/// A batch in pieces that come to a bounded size when their lists are taken apart.
fn cut(batch: &RecordBatch, lists: &[ListUnnest]) -> Result<Vec<RecordBatch>> {
    let rows = batch.num_rows();
    let others: Vec<_> = (0..batch.num_columns())
        .filter(|column| lists.iter().all(|list| list.index_in_input_schema != *column))
        .map(|column| batch.column(column))
        .collect();
    let times = |row: usize| {
        let counts = lists.iter().map(|list| {
            let values = batch.column(list.index_in_input_schema);
            length(values.as_ref(), list.depth, row)
        });
        counts.max().unwrap_or(1).max(1)
    };
    let most = (0..rows).map(times).max().unwrap_or(0);
    let together = others.iter().map(|column| bytes_of(column)).sum::<u64>();
    if together.saturating_mul(most) <= MAX_CALL_BYTES {
        return Ok(vec![batch.clone()]);
    }
    let mut pieces = Vec::new();
    let (mut begin, mut sum) = (0, 0_u64);
    for row in 0..rows {
        let bytes: u64 = others.iter().map(|column| bytes_of(&column.slice(row, 1))).sum();
        let times = times(row);
        let made = bytes.saturating_mul(times);
        if made > MAX_CALL_BYTES {
            return Err(too_much(format!(
                "unnest would make about {made} bytes of one row: {bytes} bytes beside a list of {times}; at most \
                 {MAX_CALL_BYTES} may be made: select less beside the list"
            )));
        }
        if sum + made > MAX_CALL_BYTES {
            pieces.push(batch.slice(begin, row - begin));
            (begin, sum) = (row, 0);
        }
        sum += made;
    }
    pieces.push(batch.slice(begin, rows - begin));
    Ok(pieces)
}

/// How many rows a list becomes.
fn length(values: &dyn Array, depth: usize, row: usize) -> u64 {
    if values.is_null(row) {
        return 0;
    }
    match values.data_type() {
        _ if depth > 1 => elements_of(&values.slice(row, 1)),
        DataType::List(_) => values.as_list::<i32>().value_length(row) as u64,
        DataType::LargeList(_) => values.as_list::<i64>().value_length(row) as u64,
        _ => elements_of(&values.slice(row, 1)),
    }
}
