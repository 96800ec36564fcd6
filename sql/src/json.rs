//! JSON text of record values: walking over it, learning columns from it, decoding it into columns.
//!
//! The decoder is our own, on serde_json's scanner, because the one of arrow-json cannot be made to keep promises of
//! this crate: it truncates 1.9 to 1 in a column sampled as integer, loses the whole batch on one malformed message,
//! cannot put what is not a string into a text column, and does not say how many values it nulled. Skipping fields
//! that nobody asked for is also cheaper here, since nothing is put on a tape.

pub(crate) mod decode;
pub(crate) mod kind;
pub(crate) mod walk;
