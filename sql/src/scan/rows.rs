//! Records into Arrow batches: one builder per asked column, the value decoded only when some column needs it.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayBuilder, ArrayRef, BinaryBuilder, Int32Array, Int64Array, ListBuilder, StringBuilder,
        StructBuilder, TimestampMillisecondArray,
    },
    datatypes::{DataType, Field, FieldRef},
    error::ArrowError,
    record_batch::{RecordBatch, RecordBatchOptions},
};
use highwater_types::{PartitionId, record::RecordView};

use crate::{
    columns::{MetaColumn, Source, TopicColumns, header_fields},
    json::decode::{Decoded, JsonDecoder, Misfit},
};

/// Something about a record that the query's report, or its failure, must tell.
#[derive(Debug)]
pub(crate) enum Trouble {
    Malformed(serde_json::Error),
    Misfit(Misfit),
    NotText,
}

/// Collects rows of the asked columns.
#[derive(Debug)]
pub(crate) struct RowBuilder {
    columns: TopicColumns,
    partition: PartitionId,
    rows: usize,
    bytes: usize,
    outputs: Vec<Output>,
    keys: BytesColumn,
    values: BytesColumn,
    headers: Option<HeadersColumn>,
    offsets: Vec<i64>,
    timestamps: Vec<i64>,
    json: Option<JsonDecoder>,
    wants: Wants,
}

#[derive(Debug, Default)]
struct Wants {
    key: bool,
    value: bool,
    offset: bool,
    timestamp: bool,
}

/// Where a column of the result is taken from when a batch is finished.
#[derive(Debug, Clone, Copy)]
enum Output {
    Meta(MetaColumn),
    Value,
    Json(usize),
}

impl RowBuilder {
    pub(crate) fn new(columns: TopicColumns, partition: PartitionId) -> Self {
        let mut json: Vec<FieldRef> = Vec::new();
        let mut outputs = Vec::with_capacity(columns.sources.len());
        let mut wants = Wants::default();
        let (mut keys, mut values) = (
            BytesColumn::new(&DataType::Utf8),
            BytesColumn::new(&DataType::Utf8),
        );
        let mut headers = None;
        for (field, source) in columns.schema.fields().iter().zip(&columns.sources) {
            outputs.push(match source {
                Source::Meta(meta) => {
                    match meta {
                        MetaColumn::Key => {
                            wants.key = true;
                            keys = BytesColumn::new(field.data_type());
                        }
                        MetaColumn::Offset => wants.offset = true,
                        MetaColumn::Timestamp => wants.timestamp = true,
                        MetaColumn::Headers => headers = Some(HeadersColumn::new(field.data_type())),
                        MetaColumn::Partition => {}
                    }
                    Output::Meta(*meta)
                }
                Source::Value => {
                    wants.value = true;
                    values = BytesColumn::new(field.data_type());
                    Output::Value
                }
                Source::Json(field) => {
                    json.push(field.clone());
                    Output::Json(json.len() - 1)
                }
            });
        }
        let json = (!json.is_empty()).then(|| JsonDecoder::new(&json));
        Self {
            columns,
            partition,
            rows: 0,
            bytes: 0,
            outputs,
            keys,
            values,
            headers,
            offsets: Vec::new(),
            timestamps: Vec::new(),
            json,
            wants,
        }
    }

    /// Whether rows need only be counted.
    pub(crate) fn counts_only(&self) -> bool {
        self.outputs.is_empty()
    }

    /// Rows since the last batch.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// About how much memory those rows hold.
    pub(crate) fn size_bytes(&self) -> usize {
        self.bytes
    }

    /// Rows of which nothing is asked but their number.
    pub(crate) fn add_rows(&mut self, rows: usize) {
        self.rows += rows;
    }

    pub(crate) fn append(&mut self, record: &RecordView<'_>) -> Option<Trouble> {
        let mut trouble = None;
        self.rows += 1;
        if self.wants.key {
            self.bytes += record.key.map_or(0, <[u8]>::len);
            if !self.keys.append(record.key) {
                trouble = Some(Trouble::NotText);
            }
        }
        if self.wants.offset {
            self.offsets.push(record.offset.get());
        }
        if self.wants.timestamp {
            self.timestamps.push(record.timestamp.get());
        }
        if let Some(headers) = &mut self.headers {
            for header in record.headers() {
                self.bytes += header.key.len() + header.value.map_or(0, <[u8]>::len);
                if !headers.append(header.key, header.value) {
                    trouble = Some(Trouble::NotText);
                }
            }
            headers.end_row();
        }
        if self.wants.value || self.json.is_some() {
            self.bytes += record.value.map_or(0, <[u8]>::len);
        }
        if self.wants.value && !self.values.append(record.value) {
            trouble = Some(Trouble::NotText);
        }
        if let Some(json) = &mut self.json {
            match json.append(record.value) {
                Decoded::Fits => {}
                Decoded::Misfit(misfit) => trouble = Some(Trouble::Misfit(misfit)),
                Decoded::Malformed(error) => trouble = Some(Trouble::Malformed(error)),
            }
        }
        trouble
    }

    /// The rows since the last batch.
    pub(crate) fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        let json = self
            .json
            .as_mut()
            .map(JsonDecoder::finish)
            .transpose()?
            .unwrap_or_default();
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(self.outputs.len());
        for at in 0..self.outputs.len() {
            let array = match self.outputs[at] {
                Output::Json(field) => json[field].clone(),
                Output::Value => self.values.finish(),
                Output::Meta(meta) => self.finish_meta(meta, rows),
            };
            arrays.push(array);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.columns.schema.clone(), arrays, &options)
    }

    fn finish_meta(&mut self, meta: MetaColumn, rows: usize) -> ArrayRef {
        match meta {
            MetaColumn::Key => self.keys.finish(),
            MetaColumn::Partition => Arc::new(Int32Array::from_value(self.partition.get(), rows)),
            MetaColumn::Offset => Arc::new(Int64Array::from(std::mem::take(&mut self.offsets))),
            MetaColumn::Timestamp => {
                let times = TimestampMillisecondArray::from(std::mem::take(&mut self.timestamps));
                Arc::new(times.with_timezone("UTC"))
            }
            MetaColumn::Headers => match &mut self.headers {
                Some(headers) => headers.finish(),
                None => HeadersColumn::new(&DataType::Null).finish(),
            },
        }
    }
}

/// Bytes as text or as they are.
#[derive(Debug)]
enum BytesColumn {
    Text(StringBuilder),
    Binary(BinaryBuilder),
}

impl BytesColumn {
    fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Binary => Self::Binary(BinaryBuilder::new()),
            _ => Self::Text(StringBuilder::new()),
        }
    }

    /// False when bytes of a text column are no text.
    fn append(&mut self, bytes: Option<&[u8]>) -> bool {
        match self {
            Self::Text(builder) => return append_text(builder, bytes),
            Self::Binary(builder) => builder.append_option(bytes),
        }
        true
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Binary(builder) => Arc::new(builder.finish()),
        }
    }
}

fn append_text(builder: &mut StringBuilder, bytes: Option<&[u8]>) -> bool {
    match bytes.map(std::str::from_utf8) {
        None => builder.append_null(),
        Some(Ok(text)) => builder.append_value(text),
        Some(Err(_)) => {
            builder.append_value(String::from_utf8_lossy(bytes.unwrap_or_default()));
            return false;
        }
    }
    true
}

/// The `_headers` column.
#[derive(Debug)]
struct HeadersColumn {
    is_text: bool,
    list: ListBuilder<StructBuilder>,
}

impl HeadersColumn {
    fn new(list_type: &DataType) -> Self {
        let is_text = match list_type {
            DataType::List(element) => element.data_type() == &DataType::Struct(header_fields(true)),
            _ => true,
        };
        let fields = header_fields(is_text);
        let value: Box<dyn ArrayBuilder> = if is_text {
            Box::new(StringBuilder::new())
        } else {
            Box::new(BinaryBuilder::new())
        };
        let pairs = StructBuilder::new(fields.clone(), vec![Box::new(StringBuilder::new()), value]);
        let element = Field::new_list_field(DataType::Struct(fields), false);
        Self {
            is_text,
            list: ListBuilder::new(pairs).with_field(element),
        }
    }

    /// False when the key or a text value is no text.
    fn append(&mut self, key: &[u8], value: Option<&[u8]>) -> bool {
        let pairs = self.list.values();
        let mut is_text = true;
        if let Some(keys) = pairs.field_builder::<StringBuilder>(0) {
            is_text &= append_text(keys, Some(key));
        }
        if self.is_text {
            if let Some(values) = pairs.field_builder::<StringBuilder>(1) {
                is_text &= append_text(values, value);
            }
        } else if let Some(values) = pairs.field_builder::<BinaryBuilder>(1) {
            values.append_option(value);
        }
        pairs.append(true);
        is_text
    }

    fn end_row(&mut self) {
        self.list.append(true);
    }

    fn finish(&mut self) -> ArrayRef {
        Arc::new(self.list.finish())
    }
}
