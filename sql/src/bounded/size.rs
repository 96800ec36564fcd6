//! How many bytes a call will make, told from its arguments before it runs.
//!
//! A prediction may be higher than what comes out, never lower by more than a small factor. NULL makes nothing.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::logical_expr::ColumnarValue;
use datafusion::scalar::ScalarValue;

/// What a value of fixed width is taken for where its type does not matter.
const WORD_BYTES: u64 = 8;
/// What a number or time is taken for once it is written as text.
const WRITTEN_BYTES: u64 = 32;

/// How the size of a function's values follows from its arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Growth {
    /// All arguments one after the other.
    Sum,
    /// The first argument between the others.
    Joined,
    /// The first argument, so many times as the second says.
    Times,
    /// As many letters as the second argument says, of the first and the third.
    Padded,
    /// The first argument with the third wherever the second stands in it.
    Replaced,
    /// As many elements as the second argument says, of the first and the third.
    Resized,
    /// The elements of the first argument as text, the others between them.
    Written,
    /// The elements of the first argument, any of them the third.
    Exchanged,
    /// The steps from the first argument to the second.
    Steps,
}

/// Size of the largest value and of all values of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    pub(super) largest: u64,
    pub(super) total: u64,
}

/// Predicts the size of a call's values.
pub(super) fn predict(growth: Growth, arguments: &[ColumnarValue], rows: usize) -> Size {
    let arguments: Vec<Argument> = arguments.iter().map(Argument::new).collect();
    let is_constant = arguments.iter().all(|argument| argument.constant);
    let mut size = Size { largest: 0, total: 0 };
    if is_constant {
        size.largest = one(growth, &arguments, 0);
        // A constant is written out for every row sooner or later.
        size.total = size.largest.saturating_mul(rows.max(1) as u64);
        return size;
    }
    for row in 0..rows {
        let bytes = one(growth, &arguments, row);
        size.largest = size.largest.max(bytes);
        size.total = size.total.saturating_add(bytes);
    }
    size
}

fn one(growth: Growth, arguments: &[Argument], row: usize) -> u64 {
    let bytes = |at: usize| arguments.get(at).map_or(0, |argument| argument.bytes(row));
    let count = |at: usize| arguments.get(at).map_or(0, |argument| argument.count(row));
    let sum = |from: usize| (from..arguments.len()).map(bytes).fold(0, u64::saturating_add);
    match growth {
        Growth::Sum => sum(0),
        Growth::Joined => bytes(0)
            .saturating_mul(arguments.len() as u64)
            .saturating_add(sum(1)),
        Growth::Times => bytes(0).max(1).saturating_mul(count(1)),
        Growth::Padded => {
            let widest = arguments.get(2).map_or(1, |fill| fill.widest_letter(row));
            count(1).saturating_mul(widest).saturating_add(bytes(0))
        }
        Growth::Replaced => {
            let [text, from, to] = arguments else { return 0 };
            text.replaced(from, to, row)
        }
        Growth::Resized => count(1)
            .saturating_mul(bytes(2).max(WORD_BYTES))
            .saturating_add(bytes(0)),
        Growth::Written => {
            let elements = arguments.first().map_or(0, |list| list.elements(row));
            elements
                .saturating_mul(sum(1).saturating_add(WRITTEN_BYTES))
                .saturating_add(bytes(0))
        }
        Growth::Exchanged => {
            let elements = arguments.first().map_or(0, |list| list.elements(row));
            elements.saturating_mul(bytes(2)).saturating_add(bytes(0))
        }
        Growth::Steps => steps(arguments, row).saturating_mul(WORD_BYTES),
    }
}

/// An argument that can be asked row by row.
struct Argument {
    /// Of one row if it is a constant.
    values: ArrayRef,
    /// The values as whole numbers, where they can be.
    numbers: Option<ArrayRef>,
    constant: bool,
}

impl Argument {
    fn new(value: &ColumnarValue) -> Self {
        let (values, constant) = match value {
            ColumnarValue::Array(array) => (array.clone(), false),
            ColumnarValue::Scalar(scalar) => {
                let one = scalar.to_array_of_size(1);
                (
                    one.unwrap_or_else(|_| arrow::array::new_null_array(&DataType::Null, 1)),
                    true,
                )
            }
        };
        let numbers = values
            .data_type()
            .is_integer()
            .then(|| cast(&values, &DataType::Int64).ok())
            .flatten();
        Self {
            values,
            numbers,
            constant,
        }
    }

    fn at(&self, row: usize) -> usize {
        if self.constant { 0 } else { row }
    }

    fn bytes(&self, row: usize) -> u64 {
        let at = self.at(row);
        if at >= self.values.len() || self.values.is_null(at) {
            return 0;
        }
        match self.text(row) {
            Some(text) => text.len() as u64,
            None => bytes_of(&self.values.slice(at, 1)),
        }
    }

    fn text(&self, row: usize) -> Option<&str> {
        let at = self.at(row);
        match self.values.data_type() {
            _ if at >= self.values.len() || self.values.is_null(at) => None,
            DataType::Utf8 => Some(self.values.as_string::<i32>().value(at)),
            DataType::LargeUtf8 => Some(self.values.as_string::<i64>().value(at)),
            DataType::Utf8View => Some(self.values.as_string_view().value(at)),
            _ => None,
        }
    }

    fn number(&self, row: usize) -> Option<i64> {
        let at = self.at(row);
        let numbers = self.numbers.as_ref()?.as_primitive::<Int64Type>();
        (at < numbers.len() && !numbers.is_null(at)).then(|| numbers.value(at))
    }

    /// How often; below zero is never. What is no whole number may be anything.
    fn count(&self, row: usize) -> u64 {
        match &self.numbers {
            Some(_) => u64::try_from(self.number(row).unwrap_or(0)).unwrap_or(0),
            None if self.values.data_type() == &DataType::Null => 0,
            None => u64::MAX,
        }
    }

    fn widest_letter(&self, row: usize) -> u64 {
        let text = self.text(row).unwrap_or_default();
        text.chars().map(char::len_utf8).max().unwrap_or(1) as u64
    }

    fn elements(&self, row: usize) -> u64 {
        let at = self.at(row);
        if at >= self.values.len() || self.values.is_null(at) {
            return 0;
        }
        elements_of(&self.values.slice(at, 1))
    }

    fn replaced(&self, from: &Argument, to: &Argument, row: usize) -> u64 {
        let (Some(text), Some(from)) = (self.text(row), from.text(row)) else {
            return 0;
        };
        let (length, to) = (text.len() as u64, to.bytes(row));
        if to <= from.len() as u64 && !from.is_empty() {
            return length;
        }
        // Counting costs as much as replacing: only where it can matter.
        let most = length / (from.len() as u64).max(1) + 1;
        let found = match most.saturating_mul(to) {
            0..=65_536 => most,
            _ => text.matches(from).count() as u64,
        };
        found.saturating_mul(to).saturating_add(length)
    }
}

/// How many values lie between two, both included, and 1 for what cannot be told: the function refuses that itself.
fn steps(arguments: &[Argument], row: usize) -> u64 {
    let [first, others @ ..] = arguments else { return 0 };
    if first.numbers.is_some() {
        let number = |at: usize| others.get(at).and_then(|argument| argument.number(row));
        let (from, to) = match (first.number(row), others.is_empty()) {
            (Some(to), true) => (0, to),
            (Some(from), false) => match number(0) {
                Some(to) => (from, to),
                None => return 0,
            },
            (None, _) => return 0,
        };
        let step = number(1).unwrap_or(1).unsigned_abs().max(1);
        return (from.abs_diff(to) / step).saturating_add(1);
    }
    let time = |argument: &Argument| {
        let at = argument.at(row);
        let value = ScalarValue::try_from_array(&argument.values, at).ok()?;
        let cast = value.cast_to(&DataType::Timestamp(arrow::datatypes::TimeUnit::Nanosecond, None));
        match cast.ok()? {
            ScalarValue::TimestampNanosecond(time, _) => time,
            _ => None,
        }
    };
    let (Some(from), Some(to)) = (time(first), others.first().and_then(time)) else {
        return 1;
    };
    let step = others.get(1).map_or(1, |step| {
        let value = ScalarValue::try_from_array(&step.values, step.at(row));
        match value {
            Ok(ScalarValue::IntervalMonthDayNano(Some(step))) => {
                let days = i64::from(step.months) * 28 + i64::from(step.days);
                (i128::from(days) * 86_400_000_000_000 + i128::from(step.nanoseconds)).unsigned_abs()
            }
            _ => 1,
        }
    });
    u64::try_from(u128::from(from.abs_diff(to)) / step.max(1)).unwrap_or(u64::MAX)
}

/// Bytes of an array's values, those of the rows it shows only.
pub(super) fn bytes_of(array: &dyn Array) -> u64 {
    let rows = array.len() as u64;
    match array.data_type() {
        DataType::Utf8 => offset_bytes(array.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => offset_bytes(array.as_string::<i64>().value_offsets()),
        DataType::Binary => offset_bytes(array.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => offset_bytes(array.as_binary::<i64>().value_offsets()),
        DataType::Utf8View => array.as_string_view().lengths().map(u64::from).sum(),
        DataType::BinaryView => array.as_binary_view().lengths().map(u64::from).sum(),
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            shown(list.values(), list.value_offsets()).map_or(0, |values| bytes_of(&values))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            shown(list.values(), list.value_offsets()).map_or(0, |values| bytes_of(&values))
        }
        DataType::Struct(_) => array
            .as_struct()
            .columns()
            .iter()
            .map(|column| bytes_of(column))
            .sum(),
        other => match other.primitive_width() {
            Some(width) => rows.saturating_mul(width as u64),
            None => array.get_array_memory_size() as u64,
        },
    }
}

/// Values that are no lists, all of them however deep.
pub(super) fn elements_of(array: &dyn Array) -> u64 {
    match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            shown(list.values(), list.value_offsets()).map_or(0, |values| elements_of(&values))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            shown(list.values(), list.value_offsets()).map_or(0, |values| elements_of(&values))
        }
        DataType::FixedSizeList(_, length) => {
            (array.len() as u64).saturating_mul(u64::try_from(*length).unwrap_or(0))
        }
        _ => array.len() as u64,
    }
}

fn offset_bytes<O: arrow::array::OffsetSizeTrait>(offsets: &[O]) -> u64 {
    match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => (last.as_usize() - first.as_usize()) as u64,
        _ => 0,
    }
}

/// The part of a list's values that its rows show.
fn shown<O: arrow::array::OffsetSizeTrait>(values: &ArrayRef, offsets: &[O]) -> Option<ArrayRef> {
    let (first, last) = (offsets.first()?.as_usize(), offsets.last()?.as_usize());
    Some(values.slice(first, last - first))
}
