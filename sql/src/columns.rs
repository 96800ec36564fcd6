//! The columns of a topic seen as a table.
//!
//! The value's fields come first, in the order in which they were first seen, and the columns that every topic has
//! come last: what people look for stands at the left edge of the screen, where wide tables are cut last. A leading
//! underscore marks what is the log's and not the value's; a JSON field of such a name gets one more.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};

/// Columns that every topic has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum MetaColumn {
    Key,
    Partition,
    Offset,
    Timestamp,
    Headers,
}

impl MetaColumn {
    pub(crate) const ALL: [Self; 5] = [
        Self::Key,
        Self::Partition,
        Self::Offset,
        Self::Timestamp,
        Self::Headers,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Key => "_key",
            Self::Partition => "_partition",
            Self::Offset => "_offset",
            Self::Timestamp => "_timestamp",
            Self::Headers => "_headers",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|column| column.name() == name)
    }
}

/// Name of the column that holds the whole value, when it is not read as JSON.
pub(crate) const VALUE: &str = "_value";

/// Where a column's values come from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    Meta(MetaColumn),
    /// The whole value.
    Value,
    /// A field of the JSON object in the value, under its name there.
    Json(FieldRef),
}

/// Whether bytes that people chose are shown as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TextOrBinary {
    pub(crate) keys_are_text: bool,
    pub(crate) values_are_text: bool,
    pub(crate) headers_are_text: bool,
}

impl Default for TextOrBinary {
    fn default() -> Self {
        Self {
            keys_are_text: true,
            values_are_text: true,
            headers_are_text: true,
        }
    }
}

/// How the value is read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum ValueFormat {
    /// As JSON objects with these fields.
    Json(Vec<FieldRef>),
    /// As one column.
    Whole,
}

/// The columns of a table and where they come from, position by position.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TopicColumns {
    pub(crate) schema: SchemaRef,
    pub(crate) sources: Vec<Source>,
}

impl TopicColumns {
    pub(crate) fn new(format: &ValueFormat, text: TextOrBinary) -> Self {
        let mut fields: Vec<FieldRef> = Vec::new();
        let mut sources = Vec::new();
        match format {
            ValueFormat::Json(json) => {
                for field in json {
                    let name = column_name(field.name());
                    fields.push(Arc::new(Field::new(name, field.data_type().clone(), true)));
                    sources.push(Source::Json(field.clone()));
                }
            }
            ValueFormat::Whole => {
                fields.push(Arc::new(Field::new(
                    VALUE,
                    bytes_type(text.values_are_text),
                    true,
                )));
                sources.push(Source::Value);
            }
        }
        for meta in MetaColumn::ALL {
            fields.push(meta_field(meta, text));
            sources.push(Source::Meta(meta));
        }
        Self {
            schema: Arc::new(Schema::new(fields)),
            sources,
        }
    }

    /// The chosen columns, in the order chosen.
    pub(crate) fn project(&self, projection: Option<&Vec<usize>>) -> Self {
        let Some(projection) = projection else {
            return self.clone();
        };
        let fields: Vec<FieldRef> = projection
            .iter()
            .map(|&at| self.schema.fields()[at].clone())
            .collect();
        let sources = projection.iter().map(|&at| self.sources[at].clone()).collect();
        Self {
            schema: Arc::new(Schema::new(fields)),
            sources,
        }
    }
}

/// A JSON field named like a column of ours makes way by one more underscore.
fn column_name(json: &str) -> String {
    let plain = json.trim_start_matches('_');
    let reserved =
        json.starts_with('_') && (plain == "value" || MetaColumn::from_name(&format!("_{plain}")).is_some());
    if reserved {
        format!("_{json}")
    } else {
        json.to_owned()
    }
}

fn bytes_type(is_text: bool) -> DataType {
    if is_text { DataType::Utf8 } else { DataType::Binary }
}

fn meta_field(meta: MetaColumn, text: TextOrBinary) -> FieldRef {
    let (data_type, nullable) = match meta {
        MetaColumn::Key => (bytes_type(text.keys_are_text), true),
        MetaColumn::Partition => (DataType::Int32, false),
        MetaColumn::Offset => (DataType::Int64, false),
        MetaColumn::Timestamp => (
            DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())),
            false,
        ),
        MetaColumn::Headers => {
            let header = header_fields(text.headers_are_text);
            (
                DataType::List(Arc::new(Field::new_list_field(DataType::Struct(header), false))),
                false,
            )
        }
    };
    Arc::new(Field::new(meta.name(), data_type, nullable))
}

/// Fields of one element of `_headers`. A list of pairs, not a map: order and duplicates are the writer's business.
pub(crate) fn header_fields(is_text: bool) -> Fields {
    Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", bytes_type(is_text), true),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_field_named_like_our_column_makes_way() {
        let field = |name: &str| Arc::new(Field::new(name, DataType::Int64, true));
        let format = ValueFormat::Json(vec![
            field("_offset"),
            field("__offset"),
            field("offset"),
            field("_id"),
        ]);
        let columns = TopicColumns::new(&format, TextOrBinary::default());
        let names: Vec<_> = columns
            .schema
            .fields()
            .iter()
            .map(|field| field.name().as_str())
            .collect();
        assert_eq!(
            names,
            [
                "__offset",
                "___offset",
                "offset",
                "_id",
                "_key",
                "_partition",
                "_offset",
                "_timestamp",
                "_headers"
            ]
        );
    }
}
