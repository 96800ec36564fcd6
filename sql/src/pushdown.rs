//! Which filters the log itself can answer: comparisons of `_partition`, `_offset` and `_timestamp` with constants,
//! and what AND, OR and NOT make of them as long as one column is concerned.
//!
//! # Invariants
//! - What is taken is answered exactly: the ranges hold a value if and only if the expression is true for it.
//!   None of the three columns is ever NULL; comparisons with a NULL constant are left to DataFusion.

use datafusion::{
    logical_expr::{Between, BinaryExpr, Cast, Expr, Operator, expr::InList},
    scalar::ScalarValue,
};
use highwater_types::PartitionId;

use arrow::datatypes::{DataType, TimeUnit};

use crate::{columns::MetaColumn, ranges::Ranges};

/// What a scan's filters let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogFilter {
    partitions: Ranges,
    pub(crate) offsets: Ranges,
    pub(crate) timestamps: Ranges,
}

impl LogFilter {
    /// From filters that [`can_answer`] has accepted; all of them must hold.
    pub(crate) fn new(filters: &[Expr]) -> Self {
        let mut this = Self {
            partitions: Ranges::all(),
            offsets: Ranges::all(),
            timestamps: Ranges::all(),
        };
        for (column, ranges) in filters.iter().filter_map(ranges_of) {
            let target = match column {
                MetaColumn::Partition => &mut this.partitions,
                MetaColumn::Offset => &mut this.offsets,
                MetaColumn::Timestamp => &mut this.timestamps,
                MetaColumn::Key | MetaColumn::Headers => continue,
            };
            *target = target.intersect(&ranges);
        }
        this
    }

    pub(crate) fn admits_partition(&self, partition: PartitionId) -> bool {
        self.partitions.contains(partition.get().into())
    }
}

/// Whether the log answers this filter exactly.
pub(crate) fn can_answer(filter: &Expr) -> bool {
    ranges_of(filter).is_some()
}

fn ranges_of(filter: &Expr) -> Option<(MetaColumn, Ranges)> {
    match filter {
        Expr::BinaryExpr(BinaryExpr {
            left,
            op: op @ (Operator::And | Operator::Or),
            right,
        }) => {
            let ((column, a), (other, b)) = (ranges_of(left)?, ranges_of(right)?);
            let both = if *op == Operator::And {
                a.intersect(&b)
            } else {
                a.union(&b)
            };
            (column == other).then_some((column, both))
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            if let Some(column) = column_of(left) {
                return Some((column, compare(column, *op, right)?));
            }
            let column = column_of(right)?;
            Some((column, compare(column, op.swap()?, left)?))
        }
        Expr::Not(inner) => {
            let (column, ranges) = ranges_of(inner)?;
            Some((column, ranges.complement()))
        }
        Expr::Between(Between {
            expr,
            negated,
            low,
            high,
        }) => {
            let column = column_of(expr)?;
            let from = compare(column, Operator::GtEq, low)?;
            let ranges = from.intersect(&compare(column, Operator::LtEq, high)?);
            Some((column, if *negated { ranges.complement() } else { ranges }))
        }
        Expr::InList(InList { expr, list, negated }) => {
            let column = column_of(expr)?;
            let mut ranges = Ranges::none();
            for item in list {
                ranges = ranges.union(&compare(column, Operator::Eq, item)?);
            }
            Some((column, if *negated { ranges.complement() } else { ranges }))
        }
        _ => None,
    }
}

/// The column, seen through casts that change no comparison.
fn column_of(expr: &Expr) -> Option<MetaColumn> {
    match expr {
        Expr::Column(column) => MetaColumn::from_name(&column.name)
            .filter(|meta| !matches!(meta, MetaColumn::Key | MetaColumn::Headers)),
        Expr::Cast(Cast { expr, field }) => {
            let column = column_of(expr)?;
            let is_lossless = match (column, field.data_type()) {
                (MetaColumn::Partition, DataType::Int64) => true,
                (MetaColumn::Timestamp, DataType::Timestamp(unit, _)) => *unit != TimeUnit::Second,
                _ => false,
            };
            is_lossless.then_some(column)
        }
        _ => None,
    }
}

/// Values of the column for which `column op constant` is true.
fn compare(column: MetaColumn, op: Operator, constant: &Expr) -> Option<Ranges> {
    let Expr::Literal(constant, _) = constant else {
        return None;
    };
    // The constant as a fraction of the column's unit, since it may lie between two values of the column.
    let (numerator, denominator) = match column {
        MetaColumn::Timestamp => (nanos(constant)?, 1_000_000),
        _ => (integer(constant)?, 1),
    };
    let floor = numerator.div_euclid(denominator);
    let is_whole = numerator.rem_euclid(denominator) == 0;
    let ceil = if is_whole { floor } else { floor + 1 };
    Some(match op {
        Operator::Eq if is_whole => between(floor, floor),
        Operator::Eq => Ranges::none(),
        Operator::NotEq if is_whole => between(floor, floor).complement(),
        Operator::NotEq => Ranges::all(),
        Operator::Lt => between(i64::MIN.into(), ceil - 1),
        Operator::LtEq => between(i64::MIN.into(), floor),
        Operator::Gt => between(floor + 1, i64::MAX.into()),
        Operator::GtEq => between(ceil, i64::MAX.into()),
        _ => return None,
    })
}

fn between(start: i128, end: i128) -> Ranges {
    const MIN: i128 = i64::MIN as i128;
    const MAX: i128 = i64::MAX as i128;
    if start > MAX || end < MIN {
        return Ranges::none();
    }
    Ranges::between(start.max(MIN) as i64, end.min(MAX) as i64)
}

fn integer(constant: &ScalarValue) -> Option<i128> {
    match constant {
        ScalarValue::Int8(value) => value.map(i128::from),
        ScalarValue::Int16(value) => value.map(i128::from),
        ScalarValue::Int32(value) => value.map(i128::from),
        ScalarValue::Int64(value) => value.map(i128::from),
        ScalarValue::UInt8(value) => value.map(i128::from),
        ScalarValue::UInt16(value) => value.map(i128::from),
        ScalarValue::UInt32(value) => value.map(i128::from),
        ScalarValue::UInt64(value) => value.map(i128::from),
        _ => None,
    }
}

fn nanos(constant: &ScalarValue) -> Option<i128> {
    let (value, unit) = match constant {
        ScalarValue::TimestampSecond(value, _) => (value, 1_000_000_000),
        ScalarValue::TimestampMillisecond(value, _) => (value, 1_000_000),
        ScalarValue::TimestampMicrosecond(value, _) => (value, 1_000),
        ScalarValue::TimestampNanosecond(value, _) => (value, 1),
        _ => return None,
    };
    value.map(|value| i128::from(value) * unit)
}

#[cfg(test)]
mod tests {
    use datafusion::prelude::{col, lit};

    use super::*;

    fn at_nanos(nanos: i64) -> Expr {
        lit(ScalarValue::TimestampNanosecond(Some(nanos), Some("UTC".into())))
    }

    fn shown(filter: Expr) -> String {
        match ranges_of(&filter) {
            Some((column, ranges)) => format!("{} {ranges}", column.name()),
            None => "left to DataFusion".to_owned(),
        }
    }

    #[test]
    fn filters_become_ranges_or_are_left_alone() {
        let offset = || col("_offset");
        let in_list = |negated| offset().in_list(vec![lit(7_i64), lit(3_i64), lit(4_i64)], negated);
        let cases = [
            (offset().eq(lit(5_i64)), "_offset 5"),
            (lit(5_i64).lt_eq(offset()), "_offset 5.."),
            (offset().lt(lit(i64::MIN)), "_offset nothing"),
            (offset().gt(lit(u64::MAX)), "_offset nothing"),
            (in_list(false), "_offset 3..=4, 7"),
            (in_list(true), "_offset ..=2, 5..=6, 8.."),
            (
                offset()
                    .between(lit(2_i64), lit(4_i64))
                    .and(offset().not_eq(lit(3_i64))),
                "_offset 2, 4",
            ),
            (
                offset().lt(lit(2_i64)).or(offset().gt(lit(8_i64))),
                "_offset ..=1, 9..",
            ),
            (!(offset().lt(lit(2_i64))), "_offset 2.."),
            (
                col("_partition").eq(lit(1_i32)).or(offset().eq(lit(1_i64))),
                "left to DataFusion",
            ),
            (offset().eq(lit(1.5)), "left to DataFusion"),
            (offset().eq(lit(ScalarValue::Int64(None))), "left to DataFusion"),
            (offset().eq(col("_partition")), "left to DataFusion"),
            (col("price").gt(lit(1_i64)), "left to DataFusion"),
            (col("_key").eq(lit("a")), "left to DataFusion"),
        ];
        for (filter, expected) in cases {
            let text = filter.to_string();
            assert_eq!(shown(filter), expected, "{text}");
        }
    }

    #[test]
    fn constants_between_two_milliseconds_round_to_the_side_that_keeps_the_comparison_true() {
        let time = || col("_timestamp");
        let half = 1_500_000; // 1.5 ms
        let cases = [
            (time().gt(at_nanos(half)), "2.."),
            (time().gt_eq(at_nanos(half)), "2.."),
            (time().lt(at_nanos(half)), "..=1"),
            (time().lt_eq(at_nanos(half)), "..=1"),
            (time().eq(at_nanos(half)), "nothing"),
            (time().not_eq(at_nanos(half)), "any"),
            (time().gt(at_nanos(2_000_000)), "3.."),
            (time().gt_eq(at_nanos(2_000_000)), "2.."),
            (time().lt(at_nanos(-half)), "..=-2"),
            (time().gt(at_nanos(-half)), "-1.."),
        ];
        for (filter, expected) in cases {
            let text = filter.to_string();
            assert_eq!(shown(filter), format!("_timestamp {expected}"), "{text}");
        }
    }
}
