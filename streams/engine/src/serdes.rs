//! How keys and values become bytes and back.
//!
//! A [`Serde`] is a small value handed to `Consumed`, `Produced`, `Materialized` and `Grouped`; it is shared by all
//! tasks. Null is not an empty value: a serde that has no meaning for null returns `None` and the row is dropped and
//! counted (semantic rows 18, 19, 91); [`optional`] gives null a meaning.
//!
//! # Invariants
//! - `deserialize(serialize(x)) == x` for every serde here.
//! - Byte forms are Kafka's: integers and floats big-endian, text UTF-8, window starts as 8 bytes after the key.

use std::{marker::PhantomData, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use highwater_types::Timestamp;
use serde::{Serialize, de::DeserializeOwned};

use crate::windows::{Window, Windowed};

/// What a serde refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SerdeError {
    /// The bytes are not of this form.
    #[error("not {expected}: {reason}")]
    Malformed {
        /// The form: `JSON of Price`, `UTF-8 text`, ...
        expected: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// A fixed-size form of another length.
    #[error("not {expected}: {actual_bytes} bytes instead of {expected_bytes}")]
    Length {
        /// The form.
        expected: &'static str,
        /// Its length.
        expected_bytes: usize,
        /// What was found.
        actual_bytes: usize,
    },
    /// The value has no such form, e.g. a JSON map with keys that are not text.
    #[error("has no form as {form}: {reason}")]
    Unrepresentable {
        /// The form.
        form: &'static str,
        /// What the writer said.
        reason: String,
    },
}

/// Turns values of one type into bytes and back; one instance serves all tasks at once.
pub trait Serde<T>: Send + Sync + 'static {
    /// The bytes of a value, `None` for null.
    ///
    /// # Errors
    /// [`SerdeError::Unrepresentable`] when the value has no such form.
    fn serialize(&self, value: &T) -> Result<Option<Bytes>, SerdeError>;

    /// The value of bytes that are not null. The bytes may be kept; they share the record's buffer.
    ///
    /// # Errors
    /// [`SerdeError`] when the bytes are not of this form.
    fn deserialize(&self, bytes: &Bytes) -> Result<T, SerdeError>;

    /// What null means, if anything.
    fn null(&self) -> Option<T> {
        None
    }

    /// The bytes that choose a record's partition when they are not the key itself (windowed keys: semantic row 15).
    fn partition_bytes(&self, _key: &T) -> Result<Option<Bytes>, SerdeError> {
        Ok(None)
    }
}

/// A serde whose type is forgotten, as streams carry it.
pub(crate) type DynSerde<T> = Arc<dyn Serde<T>>;

macro_rules! serde_fn {
    ($(#[$doc:meta])* $function:ident, $serde:ident) => {
        /// See the function of the same name.
        #[derive(Debug, Clone, Copy, Default)]
        pub struct $serde;

        $(#[$doc])*
        pub const fn $function() -> $serde {
            $serde
        }
    };
}

serde_fn! {
    /// Bytes as they are.
    bytes, BytesSerde
}
serde_fn! {
    /// UTF-8 text.
    string, StringSerde
}
serde_fn! {
    /// A 64-bit integer, 8 bytes big-endian.
    i64, I64Serde
}
serde_fn! {
    /// A 64-bit float, 8 bytes big-endian.
    f64, F64Serde
}

impl Serde<Bytes> for BytesSerde {
    fn serialize(&self, value: &Bytes) -> Result<Option<Bytes>, SerdeError> {
        Ok(Some(value.clone()))
    }

    fn deserialize(&self, bytes: &Bytes) -> Result<Bytes, SerdeError> {
        Ok(bytes.clone())
    }
}

impl Serde<String> for StringSerde {
    fn serialize(&self, value: &String) -> Result<Option<Bytes>, SerdeError> {
        Ok(Some(Bytes::copy_from_slice(value.as_bytes())))
    }

    fn deserialize(&self, bytes: &Bytes) -> Result<String, SerdeError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(SerdeError::Malformed {
                expected: "UTF-8 text",
                reason: error.to_string(),
            }),
        }
    }
}

fn eight(bytes: &Bytes, expected: &'static str) -> Result<[u8; 8], SerdeError> {
    <[u8; 8]>::try_from(&bytes[..]).map_err(|_| SerdeError::Length {
        expected,
        expected_bytes: 8,
        actual_bytes: bytes.len(),
    })
}

impl Serde<std::primitive::i64> for I64Serde {
    fn serialize(&self, value: &std::primitive::i64) -> Result<Option<Bytes>, SerdeError> {
        Ok(Some(Bytes::copy_from_slice(&value.to_be_bytes())))
    }

    fn deserialize(&self, bytes: &Bytes) -> Result<std::primitive::i64, SerdeError> {
        eight(bytes, "a 64-bit integer").map(std::primitive::i64::from_be_bytes)
    }
}

impl Serde<std::primitive::f64> for F64Serde {
    fn serialize(&self, value: &std::primitive::f64) -> Result<Option<Bytes>, SerdeError> {
        Ok(Some(Bytes::copy_from_slice(&value.to_be_bytes())))
    }

    fn deserialize(&self, bytes: &Bytes) -> Result<std::primitive::f64, SerdeError> {
        eight(bytes, "a 64-bit float").map(std::primitive::f64::from_be_bytes)
    }
}

/// See [`json`].
#[derive(Debug)]
pub struct JsonSerde<T>(PhantomData<fn() -> T>);

impl<T> Clone for JsonSerde<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for JsonSerde<T> {}

/// JSON of any serde type. Unknown fields are ignored unless the type denies them.
pub const fn json<T>() -> JsonSerde<T> {
    JsonSerde(PhantomData)
}

impl<T: Serialize + DeserializeOwned + 'static> Serde<T> for JsonSerde<T> {
    fn serialize(&self, value: &T) -> Result<Option<Bytes>, SerdeError> {
        match serde_json::to_vec(value) {
            Ok(text) => Ok(Some(Bytes::from(text))),
            Err(error) => Err(SerdeError::Unrepresentable {
                form: "JSON",
                reason: error.to_string(),
            }),
        }
    }

    fn deserialize(&self, bytes: &Bytes) -> Result<T, SerdeError> {
        serde_json::from_slice(bytes).map_err(|error| SerdeError::Malformed {
            expected: "JSON of the expected shape",
            reason: error.to_string(),
        })
    }
}

/// See [`optional`].
#[derive(Debug, Clone, Copy)]
pub struct OptionalSerde<S>(S);

/// Gives null a meaning: `None`. For topics with records without keys, or with tombstones.
pub const fn optional<S>(inner: S) -> OptionalSerde<S> {
    OptionalSerde(inner)
}

impl<T, S: Serde<T>> Serde<Option<T>> for OptionalSerde<S> {
    fn serialize(&self, value: &Option<T>) -> Result<Option<Bytes>, SerdeError> {
        match value {
            Some(value) => self.0.serialize(value),
            None => Ok(None),
        }
    }

    fn deserialize(&self, bytes: &Bytes) -> Result<Option<T>, SerdeError> {
        self.0.deserialize(bytes).map(Some)
    }

    fn null(&self) -> Option<Option<T>> {
        Some(None)
    }
}

/// See [`windowed`].
#[derive(Debug, Clone, Copy)]
pub struct WindowedSerde<S> {
    inner: S,
    size_ms: std::primitive::i64,
}

/// Keys of time windows: the inner key's bytes, then the window start as 8 bytes big-endian; the end follows from the
/// size (semantic row 32). Partitions are chosen by the inner key (row 15).
pub fn windowed<S>(inner: S, size: std::time::Duration) -> WindowedSerde<S> {
    WindowedSerde {
        inner,
        size_ms: crate::windows::duration_ms(size),
    }
}

/// [`windowed`] around a serde whose type is forgotten.
pub(crate) fn windowed_shared<K: 'static>(
    inner: DynSerde<K>,
    size: std::time::Duration,
) -> WindowedSerde<SharedSerde<K>> {
    windowed(SharedSerde(inner), size)
}

pub(crate) struct SharedSerde<T>(DynSerde<T>);

impl<T: 'static> Serde<T> for SharedSerde<T> {
    fn serialize(&self, value: &T) -> Result<Option<Bytes>, SerdeError> {
        self.0.serialize(value)
    }

    fn deserialize(&self, bytes: &Bytes) -> Result<T, SerdeError> {
        self.0.deserialize(bytes)
    }

    fn null(&self) -> Option<T> {
        self.0.null()
    }

    fn partition_bytes(&self, key: &T) -> Result<Option<Bytes>, SerdeError> {
        self.0.partition_bytes(key)
    }
}

impl<K, S: Serde<K>> Serde<Windowed<K>> for WindowedSerde<S> {
    fn serialize(&self, value: &Windowed<K>) -> Result<Option<Bytes>, SerdeError> {
        let key = self.inner.serialize(&value.key)?.unwrap_or_default();
        let mut bytes = BytesMut::with_capacity(key.len() + 8);
        bytes.put_slice(&key);
        bytes.put_i64(value.window.start.get());
        Ok(Some(bytes.freeze()))
    }

    fn deserialize(&self, bytes: &Bytes) -> Result<Windowed<K>, SerdeError> {
        let Some((_, start)) = bytes.split_last_chunk::<8>() else {
            return Err(SerdeError::Length {
                expected: "a windowed key",
                expected_bytes: 8,
                actual_bytes: bytes.len(),
            });
        };
        let start = Timestamp::new(std::primitive::i64::from_be_bytes(*start));
        Ok(Windowed {
            key: self.inner.deserialize(&bytes.slice(..bytes.len() - 8))?,
            window: Window {
                start,
                end: start.advance_by_ms(self.size_ms),
            },
        })
    }

    fn partition_bytes(&self, key: &Windowed<K>) -> Result<Option<Bytes>, SerdeError> {
        self.inner.serialize(&key.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_windowed_key_is_the_key_then_the_start_and_partitions_by_the_key() {
        let serde = windowed(string(), std::time::Duration::from_secs(60));
        let key = Windowed {
            key: "BTC".to_owned(),
            window: Window {
                start: Timestamp::new(60_000),
                end: Timestamp::new(120_000),
            },
        };
        let bytes = serde.serialize(&key).expect("writes").expect("is not null");
        assert_eq!(&bytes[..], b"BTC\x00\x00\x00\x00\x00\x00\xea\x60");
        assert_eq!(serde.deserialize(&bytes), Ok(key.clone()));
        assert_eq!(serde.partition_bytes(&key), Ok(Some(Bytes::from_static(b"BTC"))));
    }

    #[test]
    fn bytes_of_another_form_are_refused_with_the_reason() {
        assert!(string().deserialize(&Bytes::from_static(b"\xff")).is_err());
        assert_eq!(
            i64().deserialize(&Bytes::from_static(b"abc")),
            Err(SerdeError::Length {
                expected: "a 64-bit integer",
                expected_bytes: 8,
                actual_bytes: 3
            })
        );
        let refusal: Result<Vec<u8>, _> = json().deserialize(&Bytes::from_static(b"{"));
        assert!(refusal.is_err());
    }

    #[test]
    fn null_has_a_meaning_only_when_given_one() {
        assert_eq!(Serde::<String>::null(&string()), None);
        assert_eq!(Serde::<Option<String>>::null(&optional(string())), Some(None));
    }
}
