//! What flows between operators: chunks of rows, their type forgotten between operators and known inside them.
//!
//! A chunk is moved, not copied, from operator to operator; it is cloned only where a stream has several readers. The
//! type is checked once per chunk, so that closures run over plain vectors and vectorised operators may pass batches
//! of their own kind.

use std::any::Any;

use highwater_types::{Timestamp, record::Header};

/// One record between operators.
#[derive(Debug, Clone, PartialEq)]
pub struct Row<K, V> {
    /// The key.
    pub key: K,
    /// The value.
    pub value: V,
    /// Event time.
    pub timestamp: Timestamp,
    /// Headers of the record it came from (semantic row 17); aggregates drop them.
    pub headers: Vec<Header>,
}

/// A batch of rows, or of anything that two neighbouring operators agree on.
#[derive(Debug)]
pub struct Chunk(Box<dyn Erased>);

trait Erased: Send {
    fn duplicate(&self) -> Box<dyn Erased>;
    fn into_any(self: Box<Self>) -> Box<dyn Any + Send>;
    fn type_name(&self) -> &'static str;
}

impl std::fmt::Debug for dyn Erased {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.type_name())
    }
}

impl<T: Clone + Send + 'static> Erased for T {
    fn duplicate(&self) -> Box<dyn Erased> {
        Box::new(self.clone())
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }

    fn type_name(&self) -> &'static str {
        std::any::type_name::<T>()
    }
}

impl Chunk {
    /// Wraps rows. Streams of the typed DSL carry `Vec<Row<K, V>>`.
    pub fn new<T: Clone + Send + 'static>(rows: T) -> Self {
        Self(Box::new(rows))
    }

    /// Gives the rows back.
    ///
    /// # Errors
    /// The name of the type found, when it is not `T`.
    pub fn take<T: 'static>(self) -> Result<T, &'static str> {
        let found = (*self.0).type_name();
        match self.0.into_any().downcast::<T>() {
            Ok(rows) => Ok(*rows),
            Err(_) => Err(found),
        }
    }

    pub(crate) fn duplicate(&self) -> Self {
        Self((*self.0).duplicate())
    }
}

/// What keys and values of a stream must be able to do; every type that can, does.
pub trait Data: Clone + Send + Sync + 'static {}

impl<T: Clone + Send + Sync + 'static> Data for T {}

/// What grouping keys must be able to do besides.
pub trait Key: Data + Eq + std::hash::Hash {}

impl<T: Data + Eq + std::hash::Hash> Key for T {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_gives_back_its_own_type_and_names_it_otherwise() {
        let chunk = Chunk::new(vec![1_u8]);
        assert_eq!(chunk.duplicate().take::<Vec<u8>>(), Ok(vec![1]));
        let found = chunk.take::<String>().expect_err("another type");
        assert!(found.contains("Vec<u8>"), "{found}");
    }
}
