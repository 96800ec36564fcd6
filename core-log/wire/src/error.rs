//! What can go wrong between bytes and messages.

use crate::ApiKey;

/// Foreign bytes that are not the message they claim to be: the sender's fault, never retriable.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} at byte {position}: {kind}", field.unwrap_or("frame"))]
pub struct DecodeError {
    /// What is wrong.
    pub kind: DecodeErrorKind,
    /// Innermost field that was being read, as `Struct.field`, when known.
    pub field: Option<&'static str>,
    /// Where in the frame the offending value begins, in bytes.
    pub position: usize,
}

/// The ways in which bytes can be wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeErrorKind {
    /// A value or length reaches past the end of the frame (or of its tagged field).
    #[error("{needed} bytes are needed but {left} are left")]
    Truncated { needed: usize, left: usize },
    /// An unsigned varint does not fit 32 bits.
    #[error("the varint does not fit 32 bits")]
    VarintOverflow,
    /// A classic length or count below -1.
    #[error("the length {length} is negative")]
    NegativeLength { length: i64 },
    /// Null where the version does not allow it.
    #[error("null is not allowed in this version")]
    NullNotAllowed,
    /// A string longer than Kafka's limit of 32767 bytes.
    #[error("the string has {length} bytes, 32767 are allowed")]
    StringTooLong { length: usize },
    /// A string that is not UTF-8.
    #[error("the string is not UTF-8")]
    InvalidUtf8,
    /// More array elements than the bytes left could hold.
    #[error("{count} elements cannot fit in the {left} bytes left")]
    CountTooLarge { count: usize, left: usize },
    /// The arrays of the message would take more memory than its frame justifies.
    #[error("arrays would take {wanted} bytes of memory, {left} are left of the budget")]
    HeapBudgetExceeded { wanted: usize, left: usize },
    /// A known tagged field is longer than its value.
    #[error("tagged field {tag} has {left} bytes after its value")]
    TagTooLong { tag: u32, left: usize },
    /// Bytes after the end of the message.
    #[error("{left} bytes follow the end of the message")]
    TrailingBytes { left: usize },
    /// A version outside the codec's range.
    #[error("{message} has versions {first} to {last}, not {version}")]
    UnsupportedVersion {
        message: &'static str,
        version: i16,
        first: i16,
        last: i16,
    },
}

/// Names the field in an error that does not name one yet.
pub(crate) trait InField {
    fn in_field(self, field: &'static str) -> Self;
}

impl<T> InField for Result<T, DecodeError> {
    fn in_field(self, field: &'static str) -> Self {
        self.map_err(|mut error| {
            error.field.get_or_insert(field);
            error
        })
    }
}

/// A message of ours that a version cannot carry: the caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// A string longer than Kafka's limit of 32767 bytes.
    #[error("a string of {length} bytes exceeds the limit of 32767; shorten it")]
    StringTooLong { length: usize },
    /// Null in a version that has no null for the field.
    #[error("a field is null that cannot be null in this version; set it or use a later version")]
    NullNotAllowed,
    /// A length, count or frame of 2 GiB or more.
    #[error("a length of {length} does not fit the 31 bits it has on the wire; send less at once")]
    TooLarge { length: usize },
    /// A version outside the codec's range.
    #[error("{} has versions {first} to {last}, not {version}", key.name())]
    UnsupportedVersion {
        key: ApiKey,
        version: i16,
        first: i16,
        last: i16,
    },
}

/// A body of one API where one of another was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a body of {} but got one of {}", expected.name(), actual.name())]
pub struct UnexpectedBody {
    /// The API asked for.
    pub expected: ApiKey,
    /// The API of the body.
    pub actual: ApiKey,
}
