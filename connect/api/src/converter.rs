//! Bytes of a topic to [`Data`] and back.
//!
//! A `None` stays [`Data::Null`] through every converter, so that a tombstone stays a tombstone.

use bytes::Bytes;
use thiserror::Error;

use crate::record::Data;

/// Why bytes are not what their converter reads, or data not what it writes.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConverterError {
    /// The bytes are no JSON document.
    #[error("not a JSON document: {0}")]
    Json(#[from] serde_json::Error),
    /// The bytes are no UTF-8 text.
    #[error("not UTF-8 text: {0}")]
    Utf8(#[from] std::str::Utf8Error),
    /// There is no converter of that name.
    #[error("there is no converter `{name}`; known are json, string and bytes")]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// The converter writes another kind of data.
    #[error("the {converter} converter cannot write {found}")]
    WrongKind {
        /// The converter.
        converter: &'static str,
        /// The kind of data it was given.
        found: &'static str,
    },
}

/// The converters every worker has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Converter {
    /// Plain JSON documents, without a schema envelope.
    Json,
    /// UTF-8 text; JSON data is written as its text.
    String,
    /// Bytes as they are.
    Bytes,
}

impl Converter {
    /// The converter that configurations call `name`.
    pub fn named(name: &str) -> Result<Self, ConverterError> {
        match name {
            "json" => Ok(Self::Json),
            "string" => Ok(Self::String),
            "bytes" => Ok(Self::Bytes),
            other => Err(ConverterError::Unknown {
                name: other.to_owned(),
            }),
        }
    }

    /// Reads a key or value of a topic.
    pub fn decode(self, bytes: Option<&Bytes>) -> Result<Data, ConverterError> {
        let Some(bytes) = bytes else {
            return Ok(Data::Null);
        };
        match self {
            Self::Json => Ok(Data::Json(serde_json::from_slice(bytes)?)),
            Self::String => Ok(Data::Text(std::str::from_utf8(bytes)?.to_owned())),
            Self::Bytes => Ok(Data::Bytes(bytes.clone())),
        }
    }

    /// Writes a key or value of a topic.
    pub fn encode(self, data: &Data) -> Result<Option<Bytes>, ConverterError> {
        let bytes = match (self, data) {
            (_, Data::Null) => return Ok(None),
            (Self::Json, Data::Json(document)) => Bytes::from(serde_json::to_vec(document)?),
            (Self::Json, Data::Text(text)) => Bytes::from(serde_json::to_vec(text)?),
            (Self::Json, Data::Bytes(_)) => {
                return Err(ConverterError::WrongKind {
                    converter: "json",
                    found: "bytes",
                });
            }
            (Self::String | Self::Bytes, Data::Json(serde_json::Value::String(text))) => {
                Bytes::from(text.clone().into_bytes())
            }
            (Self::String | Self::Bytes, Data::Json(document)) => Bytes::from(serde_json::to_vec(document)?),
            (Self::String | Self::Bytes, Data::Text(text)) => Bytes::from(text.clone().into_bytes()),
            (Self::String | Self::Bytes, Data::Bytes(bytes)) => bytes.clone(),
        };
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tombstone_stays_a_tombstone_through_every_converter() {
        for converter in [Converter::Json, Converter::String, Converter::Bytes] {
            assert_eq!(
                converter.encode(&Data::Null).expect("null is always writable"),
                None
            );
            assert_eq!(
                converter.decode(None).expect("null is always readable"),
                Data::Null
            );
        }
    }

    #[test]
    fn json_null_is_a_document_and_not_a_tombstone() {
        let null = Data::Json(serde_json::Value::Null);
        assert_eq!(
            Converter::Json.encode(&null).expect("json"),
            Some(Bytes::from_static(b"null"))
        );
    }

    #[test]
    fn malformed_json_is_an_error_that_says_where() {
        let error = Converter::Json
            .decode(Some(&Bytes::from_static(b"{\"a\":")))
            .expect_err("cut short");
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
