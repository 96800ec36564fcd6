//! The partitions of a node: logs on disk with what the broker knows about them.

mod closing;
pub(crate) mod flusher;
pub(crate) mod graves;
pub(crate) mod partition;
pub(crate) mod query;
pub(crate) mod settings;
pub(crate) mod space;
pub(crate) mod table;
pub(crate) mod traffic;

#[cfg(test)]
mod tests;
