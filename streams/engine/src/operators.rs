//! The operators behind the DSL.

pub(crate) mod aggregate;
pub(crate) mod groups;
pub(crate) mod sink;
pub(crate) mod source;
pub(crate) mod stateless;
pub(crate) mod windowed;
