//! Functions that can make much out of little: what they will make is told from their arguments and refused before it
//! is made.
//!
//! A memory pool counts what operators keep, and not what an expression makes while it is evaluated: two nested `repeat`
//! would take gigabytes before anybody asks. [`register`] puts a bound in front of DataFusion's own functions, for those
//! who look them up by name; [`BoundFunctions`] does the same for what the planner builds by itself, and for `||`.
//! [`batch_rows`] then makes batches small enough for the values that the bound still lets through, and [`guard`] watches
//! what is repeated beside the elements of lists.
//!
//! Invariant: nothing of [`GROWING`] is evaluated without its bound, not even a constant while a statement is planned.

mod size;
mod unnest;

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, plan_err};
use datafusion::config::ConfigOptions;
use datafusion::error::DataFusionError;
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::sort_properties::{ExprProperties, SortProperties};
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Documentation, Expr, LogicalPlan, Operator, ReturnFieldArgs,
    ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::optimizer::AnalyzerRule;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr as PhysicalBinary, Column};
use datafusion::prelude::SessionContext;
use datafusion::scalar::ScalarValue;

use self::size::Growth;
pub(crate) use self::unnest::guard;
use crate::limits::{
    MAX_BATCH_ROWS, MAX_CALL_BYTES, MAX_MADE_LIST_BYTES, MAX_MADE_TEXT_BYTES, VALUES_OF_A_BATCH_BYTES,
};

/// Functions whose values can be larger than their arguments by more than a constant factor.
const GROWING: [(&str, Growth); 20] = [
    ("array_append", Growth::Sum),
    ("array_concat", Growth::Sum),
    ("array_prepend", Growth::Sum),
    ("array_repeat", Growth::Times),
    ("array_replace", Growth::Exchanged),
    ("array_replace_all", Growth::Exchanged),
    ("array_replace_n", Growth::Exchanged),
    ("array_resize", Growth::Resized),
    ("array_to_string", Growth::Written),
    ("concat", Growth::Sum),
    ("concat_ws", Growth::Joined),
    ("generate_series", Growth::Steps),
    ("lpad", Growth::Padded),
    ("make_array", Growth::Sum),
    ("overlay", Growth::Sum),
    ("range", Growth::Steps),
    ("repeat", Growth::Times),
    ("replace", Growth::Replaced),
    ("rpad", Growth::Padded),
    ("||", Growth::Sum),
];

fn growth_of(name: &str) -> Option<Growth> {
    GROWING
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, growth)| *growth)
}

/// Puts bounds in front of the functions of a session.
pub(crate) fn register(context: &SessionContext) {
    for (name, growth) in GROWING {
        // Not each is among the functions that are compiled in, and `||` is none.
        if let Ok(function) = context.udf(name) {
            context.register_udf(bounded(&function, growth));
        }
    }
    context.add_analyzer_rule(Arc::new(BoundFunctions));
}

fn bounded(function: &ScalarUDF, growth: Growth) -> ScalarUDF {
    ScalarUDF::new_from_impl(Bounded {
        inner: function.clone(),
        growth,
    })
}

/// A function with a bound in front of it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Bounded {
    inner: ScalarUDF,
    growth: Growth,
}

/// Simplification is left out on purpose: it would put the function without its bound in place.
impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        self.inner.schema_name(arguments)
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(arguments)
    }

    fn is_strict(&self) -> bool {
        self.inner.is_strict()
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        check(self.name(), self.growth, &call)?;
        self.inner.invoke_with_args(call)
    }

    fn output_ordering(&self, inputs: &[ExprProperties]) -> Result<SortProperties> {
        self.inner.output_ordering(inputs)
    }

    fn preserves_lex_ordering(&self, inputs: &[ExprProperties]) -> Result<bool> {
        self.inner.preserves_lex_ordering(inputs)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// Refuses a call that would make too much.
fn check(name: &str, growth: Growth, call: &ScalarFunctionArgs) -> Result<()> {
    let size = size::predict(growth, &call.args, call.number_rows);
    let (what, most) = match call.return_type() {
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => {
            ("a list", MAX_MADE_LIST_BYTES)
        }
        _ => ("a text", MAX_MADE_TEXT_BYTES),
    };
    if size.largest > most {
        return Err(too_much(format!(
            "{name} would make {what} of about {} bytes; no value that is made may have more than {most}",
            size.largest
        )));
    }
    if size.total > MAX_CALL_BYTES {
        return Err(too_much(format!(
            "{name} would make about {} bytes for {} rows at once; at most {MAX_CALL_BYTES} may be made: make shorter \
             values, or filter rows before",
            size.total, call.number_rows
        )));
    }
    Ok(())
}

fn too_much(message: String) -> DataFusionError {
    DataFusionError::ResourcesExhausted(message)
}

/// `left || right` of texts, as a function with a bound.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ConcatOperator {
    signature: Signature,
}

impl ConcatOperator {
    fn call(left: Expr, right: Expr) -> Expr {
        let function = ScalarUDF::new_from_impl(ConcatOperator {
            signature: Signature::user_defined(Volatility::Immutable),
        });
        Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(function), vec![left, right]))
    }

    /// What DataFusion's own operator gives for two columns of these types.
    fn operator(types: [&DataType; 2]) -> (Arc<Schema>, PhysicalBinary) {
        let fields = ["left", "right"]
            .into_iter()
            .zip(types)
            .map(|(name, data_type)| Field::new(name, data_type.clone(), true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let left: Arc<dyn PhysicalExpr> = Arc::new(Column::new("left", 0));
        let right: Arc<dyn PhysicalExpr> = Arc::new(Column::new("right", 1));
        (schema, PhysicalBinary::new(left, Operator::StringConcat, right))
    }
}

impl ScalarUDFImpl for ConcatOperator {
    fn name(&self) -> &str {
        "||"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let [left, right] = types else {
            return plan_err!("|| has two sides");
        };
        let (schema, operator) = Self::operator([left, right]);
        operator.data_type(&schema)
    }

    /// Operators were given the types they need before they came here.
    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        Ok(types.to_vec())
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        check(self.name(), Growth::Sum, &call)?;
        let [left, right] = call.args.as_slice() else {
            return plan_err!("|| has two sides");
        };
        let is_constant = matches!(
            (left, right),
            (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_))
        );
        let rows = if is_constant { 1 } else { call.number_rows };
        let (schema, operator) = Self::operator([&left.data_type(), &right.data_type()]);
        let sides = vec![left.to_array(rows)?, right.to_array(rows)?];
        let made = operator.evaluate(&RecordBatch::try_new(schema, sides)?)?;
        match made {
            ColumnarValue::Array(array) if is_constant => {
                Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&array, 0)?))
            }
            other => Ok(other),
        }
    }
}

/// Bounds what no name was looked up for: functions that the planner builds, and the operator `||`.
#[derive(Debug)]
struct BoundFunctions;

impl AnalyzerRule for BoundFunctions {
    fn name(&self) -> &str {
        "bound_functions"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let bound = plan.transform_up_with_subqueries(|plan| {
            let names = NamePreserver::new(&plan);
            plan.map_expressions(|expression| {
                let name = names.save(&expression);
                let bound = expression.transform_up(|expression| Ok(bind(expression)))?;
                Ok(bound.update_data(|expression| name.restore(expression)))
            })
        });
        bound.map(|bound| bound.data)
    }
}

fn bind(expression: Expr) -> Transformed<Expr> {
    match expression {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: Operator::StringConcat,
            right,
        }) => Transformed::yes(ConcatOperator::call(*left, *right)),
        Expr::ScalarFunction(call) if call.func.inner().downcast_ref::<Bounded>().is_none() => {
            match growth_of(call.func.name()).filter(|_| call.func.name() != "||") {
                Some(growth) => {
                    let function = Arc::new(bounded(&call.func, growth));
                    Transformed::yes(Expr::ScalarFunction(ScalarFunction::new_udf(function, call.args)))
                }
                None => Transformed::no(Expr::ScalarFunction(call)),
            }
        }
        other => Transformed::no(other),
    }
}

/// How many rows a batch of this plan may have: a constant is written out for each row of a batch, and so may a value
/// be that was made, when rows are joined or lists taken apart.
pub(crate) fn batch_rows(plan: &LogicalPlan, wanted: usize) -> Result<usize> {
    let mut values = Values::default();
    plan.apply_with_subqueries(|plan| {
        values.multiplies |= matches!(
            plan,
            LogicalPlan::Join(_)
                | LogicalPlan::Unnest(_)
                | LogicalPlan::Subquery(_)
                | LogicalPlan::RecursiveQuery(_)
        );
        plan.apply_expressions(|expression| {
            expression.apply(|expression| {
                values.note(expression);
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    let value_bytes = match values.makes && values.multiplies {
        true => values.constant_bytes.max(MAX_MADE_TEXT_BYTES),
        false => values.constant_bytes,
    };
    let most = (VALUES_OF_A_BATCH_BYTES / value_bytes.max(1)).max(1);
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    Ok(wanted.min(MAX_BATCH_ROWS).min(most))
}

#[derive(Default)]
struct Values {
    /// Size of the largest constant.
    constant_bytes: u64,
    /// Whether a value is made for each row.
    makes: bool,
    /// Whether rows are multiplied.
    multiplies: bool,
}

impl Values {
    fn note(&mut self, expression: &Expr) {
        match expression {
            Expr::Literal(value, _) => {
                let bytes = match value.try_as_str() {
                    Some(text) => text.map_or(0, str::len) as u64,
                    None => value.size() as u64,
                };
                self.constant_bytes = self.constant_bytes.max(bytes);
            }
            Expr::ScalarFunction(call) => self.makes |= growth_of(call.func.name()).is_some(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
