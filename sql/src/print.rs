//! Rows as text: an aligned table for people, JSON lines and CSV for programs.
//!
//! # Invariants
//! - JSON lines keep every digit of 64-bit integers and leave NULLs out only where asked; CSV quotes by RFC 4180, and
//!   NULL is an empty field while an empty text is `""`.

use std::io::Write;

use arrow::{
    array::Array,
    datatypes::{DataType, SchemaRef},
    error::ArrowError,
    json::{WriterBuilder, writer::LineDelimited},
    record_batch::RecordBatch,
    util::{
        display::{ArrayFormatter, DurationFormat, FormatOptions},
        pretty::pretty_format_batches_with_schema,
    },
};

/// A table with borders, column names on top; empty results show the names.
///
/// # Errors
/// [`ArrowError`] of a value that cannot be shown.
pub fn table(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<String, ArrowError> {
    Ok(pretty_format_batches_with_schema(schema.clone(), batches)?.to_string())
}

/// One JSON object per row and line, NULLs included; bytes as hexadecimal digits.
///
/// # Errors
/// [`ArrowError`] of a value that has no JSON form, or of the writer.
pub fn json_lines(batch: &RecordBatch, out: impl Write) -> Result<(), ArrowError> {
    let mut writer = WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, LineDelimited>(out);
    writer.write(batch)?;
    writer.finish()
}

/// The names of the columns as a CSV line.
///
/// # Errors
/// Those of the writer.
pub fn csv_header(schema: &SchemaRef, mut out: impl Write) -> std::io::Result<()> {
    let names: Vec<_> = schema
        .fields()
        .iter()
        .map(|field| csv_field(field.name(), true))
        .collect();
    out.write_all(names.join(",").as_bytes())?;
    out.write_all(b"\n")
}

/// Rows as CSV lines.
///
/// # Errors
/// [`ArrowError`] of a value that cannot be shown, or of the writer.
pub fn csv(batch: &RecordBatch, mut out: impl Write) -> Result<(), ArrowError> {
    let options = FormatOptions::new()
        .with_null("")
        .with_duration_format(DurationFormat::ISO8601);
    let columns = batch.columns().iter().map(|column| {
        let is_text = matches!(
            column.data_type(),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
        );
        Ok((column, is_text, ArrayFormatter::try_new(column, &options)?))
    });
    let columns = columns.collect::<Result<Vec<_>, ArrowError>>()?;
    let mut line = String::new();
    for row in 0..batch.num_rows() {
        line.clear();
        for (index, (column, is_text, formatter)) in columns.iter().enumerate() {
            if index > 0 {
                line.push(',');
            }
            if !column.is_null(row) {
                let value = formatter.value(row).try_to_string()?;
                line.push_str(&csv_field(&value, *is_text));
            }
        }
        line.push('\n');
        out.write_all(line.as_bytes())?;
    }
    Ok(())
}

fn csv_field(value: &str, is_text: bool) -> std::borrow::Cow<'_, str> {
    let needs_quotes = value.contains(['"', ',', '\n', '\r']) || (is_text && value.is_empty());
    if needs_quotes {
        format!("\"{}\"", value.replace('"', "\"\"")).into()
    } else {
        value.into()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{BinaryArray, Int64Array, StringArray},
        datatypes::{Field, Schema},
    };

    use super::*;

    fn batch() -> RecordBatch {
        let schema = Schema::new(vec![
            Field::new("name", DataType::Utf8, true),
            Field::new("n, total", DataType::Int64, true),
            Field::new("raw", DataType::Binary, true),
        ]);
        RecordBatch::try_new(
            Arc::new(schema),
            vec![
                Arc::new(StringArray::from(vec![Some("a \"b\", c"), Some(""), None])),
                Arc::new(Int64Array::from(vec![Some(i64::MAX), None, Some(-1)])),
                Arc::new(BinaryArray::from_opt_vec(vec![Some(&[0, 255]), None, Some(b"")])),
            ],
        )
        .unwrap()
    }

    #[test]
    fn csv_tells_null_from_empty_text_and_quotes_what_needs_it() {
        let mut out = Vec::new();
        csv_header(&batch().schema(), &mut out).unwrap();
        csv(&batch(), &mut out).unwrap();
        let expected = "name,\"n, total\",raw\n\"a \"\"b\"\", c\",9223372036854775807,00ff\n\"\",,\n,-1,\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn json_lines_keep_digits_and_nulls() {
        let mut out = Vec::new();
        json_lines(&batch(), &mut out).unwrap();
        let first = String::from_utf8(out).unwrap().lines().next().unwrap().to_owned();
        assert_eq!(
            first,
            r#"{"name":"a \"b\", c","n, total":9223372036854775807,"raw":"00ff"}"#
        );
    }

    #[test]
    fn an_empty_result_shows_its_columns() {
        let shown = table(&batch().schema(), &[]).unwrap();
        assert!(shown.contains("| name | n, total | raw |"), "{shown}");
    }
}
