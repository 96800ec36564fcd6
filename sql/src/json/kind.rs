//! What values look like, learned from samples: the type a field gets as a column.
//!
//! # Invariants
//! - Merging is commutative and associative in the types it gives, and only ever widens: a value that fitted before
//!   a merge fits after it. So samples may come in any order, and later ones may be merged into earlier ones.
//!
//! ```text
//! null < boolean                < text
//! null < integer < float        < text
//! null < list of T, object of F < text
//! ```
//! Text takes everything: strings as they are, anything else as its JSON text.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};

use super::walk::{FieldSink, walk_array, walk_object};
use crate::limits;

/// The shape of the values seen in one place.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// Nothing but nulls so far.
    Unknown,
    Boolean,
    Int64,
    Float64,
    /// Strings, or values that have no other shape in common.
    Text,
    Struct(Vec<(String, Kind)>),
    List(Box<Kind>),
}

impl Kind {
    fn at_depth(raw: &str, depth: usize) -> Self {
        match raw.as_bytes().first() {
            Some(b'n') => Self::Unknown,
            Some(b't' | b'f') => Self::Boolean,
            Some(b'{') if depth < limits::MAX_NESTING => {
                let mut fields = FieldKinds::new(depth + 1, limits::MAX_STRUCT_FIELDS);
                match walk_object(raw.as_bytes(), &mut fields) {
                    Ok(()) if !fields.overflowed => Self::Struct(fields.fields),
                    _ => Self::Text,
                }
            }
            Some(b'[') if depth < limits::MAX_NESTING => {
                let mut element = Self::Unknown;
                let walked = walk_array(raw, &mut |raw| {
                    let seen = Self::at_depth(raw, depth + 1);
                    element.widen(seen);
                });
                if walked.is_ok() {
                    Self::List(Box::new(element))
                } else {
                    Self::Text
                }
            }
            Some(b'-' | b'0'..=b'9') if raw.parse::<i64>().is_ok() => Self::Int64,
            Some(b'-' | b'0'..=b'9') if raw.parse::<f64>().is_ok_and(f64::is_finite) => Self::Float64,
            _ => Self::Text,
        }
    }

    /// Becomes the narrowest shape that takes what either shape takes.
    pub(crate) fn widen(&mut self, other: Self) {
        let this = std::mem::replace(self, Self::Unknown);
        *self = match (this, other) {
            (a, b) if a == b => a,
            (Self::Unknown, known) | (known, Self::Unknown) => known,
            (Self::Int64, Self::Float64) | (Self::Float64, Self::Int64) => Self::Float64,
            (Self::List(mut a), Self::List(b)) => {
                a.widen(*b);
                Self::List(a)
            }
            (Self::Struct(mut a), Self::Struct(b)) => {
                let fits = b
                    .into_iter()
                    .all(|(name, kind)| widen_field(&mut a, &name, kind, limits::MAX_STRUCT_FIELDS));
                if fits { Self::Struct(a) } else { Self::Text }
            }
            _ => Self::Text,
        };
    }

    /// The column type for this shape.
    pub(crate) fn data_type(&self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::Int64 => DataType::Int64,
            Self::Float64 => DataType::Float64,
            Self::Struct(fields) if !fields.is_empty() => {
                let fields = fields
                    .iter()
                    .map(|(name, kind)| Field::new(name, kind.data_type(), true));
                DataType::Struct(Fields::from_iter(fields))
            }
            Self::List(element) => DataType::List(Arc::new(Field::new_list_field(element.data_type(), true))),
            Self::Unknown | Self::Text | Self::Struct(_) => DataType::Utf8,
        }
    }
}

/// Widens the named field, or adds it; false when there is no room for it.
fn widen_field(fields: &mut Vec<(String, Kind)>, name: &str, kind: Kind, max_fields: usize) -> bool {
    if let Some((_, known)) = fields.iter_mut().find(|(known, _)| known == name) {
        known.widen(kind);
        return true;
    }
    let has_room = fields.len() < max_fields;
    if has_room {
        fields.push((name.to_owned(), kind));
    }
    has_room
}

/// Fields of objects in the order they were first seen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FieldKinds {
    pub(crate) fields: Vec<(String, Kind)>,
    /// Whether some field found no room.
    pub(crate) overflowed: bool,
    name: String,
    depth: usize,
    max_fields: usize,
}

impl FieldKinds {
    fn new(depth: usize, max_fields: usize) -> Self {
        Self {
            fields: Vec::new(),
            overflowed: false,
            name: String::new(),
            depth,
            max_fields,
        }
    }

    /// For the fields of whole record values.
    pub(crate) fn of_values() -> Self {
        Self::new(0, limits::MAX_COLUMNS)
    }

    /// Learns from one value; false, and nothing learned, when it is not a JSON object.
    pub(crate) fn observe(&mut self, value: &[u8]) -> bool {
        let mut seen = Self::new(self.depth, self.max_fields);
        if walk_object(value, &mut seen).is_err() {
            return false;
        }
        self.merge(seen);
        true
    }

    /// Learns what another has learned.
    pub(crate) fn merge(&mut self, other: Self) {
        self.overflowed |= other.overflowed;
        for (name, kind) in other.fields {
            self.overflowed |= !widen_field(&mut self.fields, &name, kind, self.max_fields);
        }
    }
}

impl FieldSink for FieldKinds {
    fn slot(&mut self, name: &str) -> Option<usize> {
        name.clone_into(&mut self.name);
        Some(0)
    }

    fn value(&mut self, _slot: usize, raw: &str) {
        let kind = Kind::at_depth(raw, self.depth);
        self.overflowed |= !widen_field(&mut self.fields, &self.name, kind, self.max_fields);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(values: &[&str]) -> String {
        let mut kinds = FieldKinds::of_values();
        for value in values {
            assert!(kinds.observe(value.as_bytes()), "{value}");
        }
        let columns = kinds
            .fields
            .iter()
            .map(|(name, kind)| format!("{name} {}", kind.data_type()));
        columns.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn types_widen_only_as_far_as_the_values_ask() {
        let cases: &[(&[&str], &str)] = &[
            (
                &[r#"{"b":true,"i":1,"f":1.5,"s":"x","n":null}"#],
                "b Boolean, i Int64, f Float64, s Utf8, n Utf8",
            ),
            (
                &[r#"{"x":1}"#, r#"{"x":1.5}"#, r#"{"x":null}"#, "{}"],
                "x Float64",
            ),
            (&[r#"{"x":1}"#, r#"{"x":"1"}"#], "x Utf8"),
            (&[r#"{"x":9223372036854775807}"#], "x Int64"),
            (&[r#"{"x":9223372036854775808}"#], "x Float64"),
            (
                &[r#"{"x":{"a":1}}"#, r#"{"x":{"b":"y","a":2.5}}"#],
                r#"x Struct("a": Float64, "b": Utf8)"#,
            ),
            (&[r#"{"x":[1,null,2.5]}"#, r#"{"x":[]}"#], "x List(Float64)"),
            (&[r#"{"x":{}}"#], "x Utf8"),
            (&[r#"{"x":{"a":1}}"#, r#"{"x":[1]}"#], "x Utf8"),
        ];
        for (values, expected) in cases {
            assert_eq!(learned(values), *expected, "{values:?}");
            let mut backwards = values.to_vec();
            backwards.reverse();
            assert_eq!(
                learned(&backwards).len(),
                expected.len(),
                "order must not matter: {values:?}"
            );
        }
    }

    #[test]
    fn an_object_with_keys_for_data_is_text() {
        let wide: Vec<String> = (0..=limits::MAX_STRUCT_FIELDS)
            .map(|i| format!("\"k{i}\":1"))
            .collect();
        assert_eq!(learned(&[&format!("{{\"x\":{{{}}}}}", wide.join(","))]), "x Utf8");
    }

    #[test]
    fn what_is_no_object_teaches_nothing() {
        let mut kinds = FieldKinds::of_values();
        assert!(!kinds.observe(b"{\"a\":1"));
        assert!(!kinds.observe(b"17"));
        assert_eq!(kinds, FieldKinds::of_values());
    }
}
