//! JSON objects into columns of known types; fields that are not asked for are skipped.
//!
//! What fits which column:
//! - text takes everything: strings as they are, other values as their JSON text;
//! - numbers take JSON numbers without loss of a fraction or of range, and strings that spell such a number;
//! - timestamps take RFC 3339 strings, and integers as milliseconds since the epoch, whatever the column's unit;
//! - `null` and a missing field are NULL; anything else that does not fit is NULL and counted as a misfit.
//!
//! # Invariants
//! - After every append, successful or not, all columns have the same number of rows.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, BooleanArray, BooleanBufferBuilder, Date32Array, Decimal128Array, Float64Array,
        Int64Array, ListArray, StringArray, StructArray, new_empty_array,
    },
    buffer::{NullBuffer, OffsetBuffer, ScalarBuffer},
    compute::{
        cast,
        kernels::cast_utils::{Parser, parse_decimal, string_to_timestamp_nanos},
    },
    datatypes::{DataType, Date32Type, Decimal128Type, Field, FieldRef, Fields, TimeUnit},
    error::ArrowError,
};

use super::walk::{FieldSink, unquote, walk_array, walk_object};

/// A value that did not fit its column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// The field.
    pub(crate) field: String,
    /// The beginning of the value's JSON text.
    pub(crate) value: String,
}

/// What one message was like.
#[derive(Debug)]
pub(crate) enum Decoded {
    /// Every value found its place.
    Fits,
    /// Values without a place became NULL; the first of them.
    Misfit(Misfit),
    /// The message is not a JSON object; the row is NULL.
    Malformed(serde_json::Error),
}

/// Decodes messages into columns.
#[derive(Debug)]
pub(crate) struct JsonDecoder {
    row: RowSink,
    rows: usize,
}

impl JsonDecoder {
    /// For these fields, whose names are those in the JSON text.
    pub(crate) fn new(fields: &[FieldRef]) -> Self {
        Self {
            row: RowSink::new(fields),
            rows: 0,
        }
    }

    /// Appends one row; a tombstone is a row of NULLs.
    pub(crate) fn append(&mut self, value: Option<&[u8]>) -> Decoded {
        let walked = match value {
            Some(value) => self.row.append(value, self.rows),
            None => Ok(()),
        };
        if walked.is_err() {
            self.row.truncate(self.rows);
            self.row.misfit = None;
        }
        self.rows += 1;
        self.row.fill(self.rows);
        match (walked, self.row.misfit.take()) {
            (Err(error), _) => Decoded::Malformed(error),
            (Ok(()), Some(misfit)) => Decoded::Misfit(misfit),
            (Ok(()), None) => Decoded::Fits,
        }
    }

    /// The columns so far; the decoder is empty afterwards.
    pub(crate) fn finish(&mut self) -> Result<Vec<ArrayRef>, ArrowError> {
        self.rows = 0;
        self.row.columns.iter_mut().map(Column::finish).collect()
    }
}

/// Above this number of columns a hash finds a name faster than comparing.
const LINEAR_LOOKUP: usize = 12;

/// The columns of one level of objects, and which field goes where.
#[derive(Debug)]
struct RowSink {
    columns: Vec<Column>,
    by_name: Option<HashMap<String, usize>>,
    /// The column after the last one found: writers keep fields in one order.
    guess: usize,
    start: usize,
    misfit: Option<Misfit>,
}

impl RowSink {
    fn new(fields: &[FieldRef]) -> Self {
        let by_name = (fields.len() > LINEAR_LOOKUP).then(|| {
            fields
                .iter()
                .enumerate()
                .map(|(index, field)| (field.name().clone(), index))
                .collect()
        });
        let columns = fields.iter().map(|field| Column::new(field)).collect();
        Self {
            columns,
            by_name,
            guess: 0,
            start: 0,
            misfit: None,
        }
    }

    fn append(&mut self, object: &[u8], row: usize) -> Result<(), serde_json::Error> {
        self.guess = 0;
        self.start = row;
        walk_object(object, self)
    }

    fn truncate(&mut self, rows: usize) {
        for column in &mut self.columns {
            column.truncate(rows);
        }
    }

    /// Gives columns that lack it a NULL, up to `rows`.
    fn fill(&mut self, rows: usize) {
        for column in &mut self.columns {
            while column.len() < rows {
                column.append_null();
            }
        }
    }
}

impl FieldSink for RowSink {
    fn slot(&mut self, name: &str) -> Option<usize> {
        let found = match self.columns.get(self.guess) {
            Some(column) if column.name == name => Some(self.guess),
            _ => match &self.by_name {
                Some(by_name) => by_name.get(name).copied(),
                None => self.columns.iter().position(|column| column.name == name),
            },
        };
        if let Some(found) = found {
            self.guess = found + 1;
        }
        found
    }

    fn value(&mut self, slot: usize, raw: &str) {
        let column = &mut self.columns[slot];
        // Of a field that stands twice in an object the last one counts, as in JavaScript.
        column.truncate(self.start);
        if !column.append(raw) && self.misfit.is_none() {
            self.misfit = Some(Misfit {
                field: column.name.clone(),
                value: raw.chars().take(40).collect(),
            });
        }
    }
}

/// A growing column. Its buffer has one entry per row, also for NULLs.
#[derive(Debug)]
struct Column {
    name: String,
    data_type: DataType,
    valid: BooleanBufferBuilder,
    buffer: Buffer,
}

#[derive(Debug)]
enum Buffer {
    Boolean(Vec<bool>),
    /// Integers of every width, with the range of the width.
    Integer {
        values: Vec<i64>,
        min: i64,
        max: i64,
    },
    Float(Vec<f64>),
    Text {
        ends: Vec<i32>,
        bytes: Vec<u8>,
    },
    Timestamp {
        values: Vec<i64>,
        unit: TimeUnit,
    },
    Date(Vec<i32>),
    Decimal {
        values: Vec<i128>,
        precision: u8,
        scale: i8,
    },
    Struct {
        fields: Fields,
        row: Box<RowSink>,
    },
    List {
        field: FieldRef,
        ends: Vec<i32>,
        element: Box<Column>,
    },
}

/// Whether the decoder has columns of this type.
pub(crate) fn is_supported(data_type: &DataType) -> bool {
    match data_type {
        DataType::Struct(fields) => fields.iter().all(|field| is_supported(field.data_type())),
        DataType::List(element) => is_supported(element.data_type()),
        DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::Float32
        | DataType::Float64
        | DataType::Utf8
        | DataType::Timestamp(..)
        | DataType::Date32
        | DataType::Decimal128(..) => true,
        _ => false,
    }
}

impl Buffer {
    /// Types that [`is_supported`] refuses never get here, and would be text.
    fn new(data_type: &DataType) -> Self {
        let integer = |min: i64, max: i64| Self::Integer {
            values: Vec::new(),
            min,
            max,
        };
        match data_type {
            DataType::Boolean => Self::Boolean(Vec::new()),
            DataType::Int8 => integer(i8::MIN.into(), i8::MAX.into()),
            DataType::Int16 => integer(i16::MIN.into(), i16::MAX.into()),
            DataType::Int32 => integer(i32::MIN.into(), i32::MAX.into()),
            DataType::Int64 => integer(i64::MIN, i64::MAX),
            DataType::UInt8 => integer(0, u8::MAX.into()),
            DataType::UInt16 => integer(0, u16::MAX.into()),
            DataType::UInt32 => integer(0, u32::MAX.into()),
            DataType::Float32 | DataType::Float64 => Self::Float(Vec::new()),
            DataType::Timestamp(unit, _) => Self::Timestamp {
                values: Vec::new(),
                unit: *unit,
            },
            DataType::Date32 => Self::Date(Vec::new()),
            DataType::Decimal128(precision, scale) => Self::Decimal {
                values: Vec::new(),
                precision: *precision,
                scale: *scale,
            },
            DataType::Struct(fields) => Self::Struct {
                fields: fields.clone(),
                row: Box::new(RowSink::new(fields)),
            },
            DataType::List(field) => Self::List {
                field: field.clone(),
                ends: Vec::new(),
                element: Box::new(Column::new(field)),
            },
            _ => Self::Text {
                ends: Vec::new(),
                bytes: Vec::new(),
            },
        }
    }
}

impl Column {
    fn new(field: &Field) -> Self {
        Self {
            name: field.name().clone(),
            data_type: field.data_type().clone(),
            valid: BooleanBufferBuilder::new(0),
            buffer: Buffer::new(field.data_type()),
        }
    }

    fn len(&self) -> usize {
        self.valid.len()
    }

    /// Appends a value, or NULL when it does not fit: then false.
    fn append(&mut self, raw: &str) -> bool {
        if raw == "null" {
            self.append_null();
            return true;
        }
        let rows = self.len();
        let fits = match &mut self.buffer {
            Buffer::Boolean(values) => push(values, boolean(raw)),
            Buffer::Integer { values, min, max } => {
                push(values, integer(raw).filter(|value| (*min..=*max).contains(value)))
            }
            Buffer::Float(values) => push(values, float(raw)),
            Buffer::Text { ends, bytes } => push(ends, text(raw, bytes)),
            Buffer::Timestamp { values, unit } => push(values, timestamp(raw, *unit)),
            Buffer::Date(values) => push(values, string(raw).and_then(|text| Date32Type::parse(&text))),
            Buffer::Decimal {
                values,
                precision,
                scale,
            } => push(values, decimal(raw, *precision, *scale)),
            Buffer::Struct { row, .. } => {
                let walked = raw.starts_with('{') && row.append(raw.as_bytes(), rows).is_ok();
                if !walked {
                    row.truncate(rows);
                }
                row.fill(rows + 1);
                let all_fit = row.misfit.take().is_none();
                walked && all_fit
            }
            Buffer::List { ends, element, .. } => {
                let before = element.len();
                let mut all_fit = raw.starts_with('[');
                if all_fit && walk_array(raw, &mut |raw| all_fit &= element.append(raw)).is_err() {
                    all_fit = false;
                    element.truncate(before);
                }
                push(ends, i32::try_from(element.len()).ok()) && all_fit
            }
        };
        // Of objects and arrays the parts that fit are kept.
        let keeps_parts = match &self.buffer {
            Buffer::Struct { .. } => raw.starts_with('{'),
            Buffer::List { .. } => raw.starts_with('['),
            _ => false,
        };
        self.valid.append(fits || keeps_parts);
        fits
    }

    fn append_null(&mut self) {
        let rows = self.len();
        match &mut self.buffer {
            Buffer::Boolean(values) => values.push(false),
            Buffer::Integer { values, .. } | Buffer::Timestamp { values, .. } => values.push(0),
            Buffer::Float(values) => values.push(0.0),
            Buffer::Date(values) => values.push(0),
            Buffer::Decimal { values, .. } => values.push(0),
            Buffer::Text { ends, .. } | Buffer::List { ends, .. } => {
                ends.push(ends.last().copied().unwrap_or(0))
            }
            Buffer::Struct { row, .. } => row.fill(rows + 1),
        }
        self.valid.append(false);
    }

    fn truncate(&mut self, rows: usize) {
        if self.len() <= rows {
            return;
        }
        self.valid.truncate(rows);
        match &mut self.buffer {
            Buffer::Boolean(values) => values.truncate(rows),
            Buffer::Integer { values, .. } | Buffer::Timestamp { values, .. } => values.truncate(rows),
            Buffer::Float(values) => values.truncate(rows),
            Buffer::Date(values) => values.truncate(rows),
            Buffer::Decimal { values, .. } => values.truncate(rows),
            Buffer::Text { ends, bytes } => {
                ends.truncate(rows);
                bytes.truncate(ends.last().map_or(0, |end| *end as usize));
            }
            Buffer::Struct { row, .. } => row.truncate(rows),
            Buffer::List { ends, element, .. } => {
                ends.truncate(rows);
                element.truncate(ends.last().map_or(0, |end| *end as usize));
            }
        }
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        use std::mem::take;

        let rows = self.len();
        let nulls = Some(NullBuffer::new(self.valid.finish())).filter(|nulls| nulls.null_count() > 0);
        let array: ArrayRef = match &mut self.buffer {
            Buffer::Boolean(values) => Arc::new(BooleanArray::new(take(values).into(), nulls)),
            Buffer::Integer { values, .. } => Arc::new(Int64Array::new(take(values).into(), nulls)),
            Buffer::Float(values) => Arc::new(Float64Array::new(take(values).into(), nulls)),
            Buffer::Timestamp { values, .. } => Arc::new(Int64Array::new(take(values).into(), nulls)),
            Buffer::Date(values) => Arc::new(Date32Array::new(take(values).into(), nulls)),
            Buffer::Decimal {
                values,
                precision,
                scale,
            } => Arc::new(
                Decimal128Array::new(take(values).into(), nulls)
                    .with_precision_and_scale(*precision, *scale)?,
            ),
            Buffer::Text { ends, bytes } => Arc::new(StringArray::try_new(
                offsets(take(ends)),
                take(bytes).into(),
                nulls,
            )?),
            Buffer::Struct { fields, row } => {
                let columns = row
                    .columns
                    .iter_mut()
                    .map(Self::finish)
                    .collect::<Result<Vec<_>, _>>()?;
                Arc::new(StructArray::try_new_with_length(
                    fields.clone(),
                    columns,
                    nulls,
                    rows,
                )?)
            }
            Buffer::List { field, ends, element } => Arc::new(ListArray::try_new(
                field.clone(),
                offsets(take(ends)),
                element.finish()?,
                nulls,
            )?),
        };
        if *array.data_type() == self.data_type {
            return Ok(array);
        }
        if rows == 0 {
            return Ok(new_empty_array(&self.data_type));
        }
        // Integers were checked against the width; floats of 32 bits round, as they must.
        cast(&array, &self.data_type)
    }
}

fn offsets(ends: Vec<i32>) -> OffsetBuffer<i32> {
    let mut offsets = Vec::with_capacity(ends.len() + 1);
    offsets.push(0);
    offsets.extend(ends);
    OffsetBuffer::new(ScalarBuffer::from(offsets))
}

/// Pushes the value, or for none what stands in a buffer at a NULL.
fn push<T: Copy + RestOfNull>(values: &mut Vec<T>, value: Option<T>) -> bool {
    values.push(value.unwrap_or_else(|| T::at_null(values)));
    value.is_some()
}

/// What stands in a buffer where the row is NULL.
trait RestOfNull: Sized {
    fn at_null(_values: &[Self]) -> Self;
}

macro_rules! zero_at_null {
    ($($t:ty),*) => { $(impl RestOfNull for $t {
        fn at_null(_values: &[Self]) -> Self { Self::default() }
    })* };
}
zero_at_null!(bool, i64, f64, i128);

/// Ends of texts and lists must not fall; a date at a NULL row may be anything.
impl RestOfNull for i32 {
    fn at_null(values: &[Self]) -> Self {
        values.last().copied().unwrap_or(0)
    }
}

fn string(raw: &str) -> Option<std::borrow::Cow<'_, str>> {
    raw.starts_with('"').then(|| unquote(raw))
}

/// The text of a number, whether or not it stands in quotes.
fn numeric(raw: &str) -> Option<std::borrow::Cow<'_, str>> {
    match raw.as_bytes().first()? {
        b'-' | b'0'..=b'9' => Some(raw.into()),
        b'"' => Some(unquote(raw)),
        _ => None,
    }
}

fn boolean(raw: &str) -> Option<bool> {
    match raw {
        "true" | "\"true\"" => Some(true),
        "false" | "\"false\"" => Some(false),
        _ => None,
    }
}

fn integer(raw: &str) -> Option<i64> {
    /// Beyond it a float no longer tells neighbouring integers apart.
    const EXACT: f64 = 9_007_199_254_740_992.0;

    let text = numeric(raw)?;
    text.parse().ok().or_else(|| {
        let value: f64 = text.parse().ok()?;
        (value.fract() == 0.0 && value.abs() <= EXACT).then_some(value as i64)
    })
}

fn float(raw: &str) -> Option<f64> {
    numeric(raw)?.parse().ok().filter(|value: &f64| value.is_finite())
}

/// Appends the text and gives its end; nothing past the 2 GiB a column can address.
fn text(raw: &str, bytes: &mut Vec<u8>) -> Option<i32> {
    let text = string(raw).unwrap_or(raw.into());
    let end = i32::try_from(bytes.len() + text.len()).ok()?;
    bytes.extend_from_slice(text.as_bytes());
    Some(end)
}

fn timestamp(raw: &str, unit: TimeUnit) -> Option<i64> {
    const NANOS_PER_MS: i64 = 1_000_000;

    let per_unit = match unit {
        TimeUnit::Second => 1_000_000_000,
        TimeUnit::Millisecond => NANOS_PER_MS,
        TimeUnit::Microsecond => 1_000,
        TimeUnit::Nanosecond => 1,
    };
    match string(raw) {
        Some(text) => string_to_timestamp_nanos(&text)
            .ok()
            .map(|nanos| nanos.div_euclid(per_unit)),
        None => {
            let ms = integer(raw)?;
            if per_unit > NANOS_PER_MS {
                Some(ms.div_euclid(per_unit / NANOS_PER_MS))
            } else {
                ms.checked_mul(NANOS_PER_MS / per_unit)
            }
        }
    }
}

fn decimal(raw: &str, precision: u8, scale: i8) -> Option<i128> {
    parse_decimal::<Decimal128Type>(&numeric(raw)?, precision, scale).ok()
}

#[cfg(test)]
mod tests {
    use arrow::{datatypes::Schema, record_batch::RecordBatch, util::pretty::pretty_format_batches};

    use super::*;

    fn fields(types: &[(&str, DataType)]) -> Vec<FieldRef> {
        types
            .iter()
            .map(|(name, data_type)| Arc::new(Field::new(*name, data_type.clone(), true)))
            .collect()
    }

    /// The decoded table, followed by one line per message that did not fit.
    fn check(types: &[(&str, DataType)], messages: &[&str], expected: &str) {
        let fields = fields(types);
        let mut decoder = JsonDecoder::new(&fields);
        let mut notes = String::new();
        for (row, message) in messages.iter().enumerate() {
            match decoder.append((!message.is_empty()).then_some(message.as_bytes())) {
                Decoded::Fits => {}
                Decoded::Misfit(Misfit { field, value }) => notes += &format!("{row}: {field} {value}\n"),
                Decoded::Malformed(_) => notes += &format!("{row}: malformed\n"),
            }
        }
        let schema = Arc::new(Schema::new(fields));
        let batch = RecordBatch::try_new(schema, decoder.finish().unwrap()).unwrap();
        let table = pretty_format_batches(&[batch]).unwrap();
        assert_eq!(format!("{table}\n{notes}").trim(), expected.trim());
    }

    #[test]
    fn values_land_in_their_columns_and_what_does_not_fit_is_null_and_told() {
        check(
            &[
                ("i", DataType::Int64),
                ("f", DataType::Float64),
                ("b", DataType::Boolean),
                ("s", DataType::Utf8),
            ],
            &[
                r#"{"i":1,"f":64000.10,"b":true,"s":"x\ty","other":{"deep":[1]}}"#,
                r#"{"s":{"a": 1},"f":2,"i":"12"}"#,
                r#"{"i":1.9,"s":5}"#,
                r#"{"i":5.0,"b":"maybe"}"#,
                "",
                r#"{"i":7,"f":1e400}"#,
                r#"{"i":8,"f":3"#,
                r#"[1]"#,
                r#"{"i":1,"i":2}"#,
            ],
            r#"
+----+---------+------+----------+
| i  | f       | b    | s        |
+----+---------+------+----------+
| 1  | 64000.1 | true | x	y      |
| 12 | 2.0     |      | {"a": 1} |
|    |         |      | 5        |
| 5  |         |      |          |
|    |         |      |          |
| 7  |         |      |          |
|    |         |      |          |
|    |         |      |          |
| 2  |         |      |          |
+----+---------+------+----------+
2: i 1.9
3: b "maybe"
5: f 1e400
6: malformed
7: malformed
"#,
        );
    }

    #[test]
    fn declared_types_take_the_spellings_that_exchanges_use() {
        let utc = Some("UTC".into());
        check(
            &[
                ("d", DataType::Decimal128(12, 2)),
                ("t", DataType::Timestamp(TimeUnit::Nanosecond, None)),
                ("u", DataType::Timestamp(TimeUnit::Second, utc)),
                ("day", DataType::Date32),
                ("small", DataType::Int8),
                ("f", DataType::Float32),
            ],
            &[
                r#"{"d":"64000.10","t":1700000000123,"u":"2026-01-02T03:04:05.9Z","day":"2026-01-02","small":1,"f":"0.5"}"#,
                r#"{"d":1.5,"u":1700000000123,"small":200,"day":5}"#,
            ],
            "
+----------+-------------------------+----------------------+------------+-------+-----+
| d        | t                       | u                    | day        | small | f   |
+----------+-------------------------+----------------------+------------+-------+-----+
| 64000.10 | 2023-11-14T22:13:20.123 | 2026-01-02T03:04:05Z | 2026-01-02 | 1     | 0.5 |
| 1.50     |                         | 2023-11-14T22:13:20Z |            |       |     |
+----------+-------------------------+----------------------+------------+-------+-----+
1: small 200
",
        );
    }

    #[test]
    fn nested_values_keep_the_parts_that_fit() {
        let inner = Fields::from(vec![
            Field::new("x", DataType::Int64, true),
            Field::new("y", DataType::Utf8, true),
        ]);
        let list = DataType::List(Arc::new(Field::new_list_field(DataType::Int64, true)));
        check(
            &[("o", DataType::Struct(inner)), ("l", list)],
            &[
                r#"{"o":{"x":1,"y":"a"},"l":[1,2]}"#,
                r#"{"o":{"y":"b","x":true},"l":[3,"four",null]}"#,
                r#"{"o":7,"l":{}}"#,
                r#"{"o":null,"l":[]}"#,
                r#"{"o":{},"l":[9]"#,
                "{}",
            ],
            "
+--------------+---------+
| o            | l       |
+--------------+---------+
| {x: 1, y: a} | [1, 2]  |
| {x: , y: b}  | [3, , ] |
|              |         |
|              | []      |
|              |         |
|              |         |
+--------------+---------+
1: o {\"y\":\"b\",\"x\":true}
2: o 7
4: malformed
",
        );
    }

    #[test]
    fn a_decoder_starts_over_after_finish() {
        let fields = fields(&[("a", DataType::Utf8)]);
        let mut decoder = JsonDecoder::new(&fields);
        decoder.append(Some(br#"{"a":"one"}"#));
        assert_eq!(decoder.finish().unwrap()[0].len(), 1);
        decoder.append(Some(br#"{"a":"two"}"#));
        decoder.append(None);
        let columns = decoder.finish().unwrap();
        assert_eq!((columns[0].len(), columns[0].null_count()), (2, 1));
    }
}
