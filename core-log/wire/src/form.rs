//! Two questions that versions answer for lengths: how they are written, and whether null is legal.

/// How lengths and counts are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Fixed-size lengths, -1 for null, no tagged fields.
    Classic,
    /// Flexible versions (KIP-482): length plus one as unsigned varint, 0 for null, tagged fields after each struct.
    Compact,
}

impl Form {
    /// Whether this is the form of flexible versions.
    pub const fn is_compact(self) -> bool {
        matches!(self, Form::Compact)
    }
}

/// Whether a field may be null in the version at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Null {
    /// Null is a value of the field.
    Allowed,
    /// Null is an error.
    Refused,
}

impl Null {
    /// Allowed exactly if `condition` holds.
    pub const fn allowed_if(condition: bool) -> Null {
        if condition { Null::Allowed } else { Null::Refused }
    }
}
