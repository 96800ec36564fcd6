//! Operators without memory: one closure over the rows of a chunk.

use std::{marker::PhantomData, sync::Arc};

use crate::{
    error::ProcessError,
    operator::{Operator, OperatorContext},
    row::{Chunk, Data, Row},
};

/// Names the types of both sides without holding rows, so that an operator is `Send` whatever they are.
type RowTypes<K, V, K2, V2> = fn(K, V) -> (K2, V2);

/// Turns the rows of a chunk into the rows of another; never sees or sends an empty chunk.
pub(crate) struct Transform<K, V, K2, V2, F> {
    transform: Arc<F>,
    rows: PhantomData<RowTypes<K, V, K2, V2>>,
}

impl<K, V, K2, V2, F> Transform<K, V, K2, V2, F> {
    pub(crate) fn new(transform: Arc<F>) -> Self {
        Self {
            transform,
            rows: PhantomData,
        }
    }
}

impl<K, V, K2, V2, F> Operator for Transform<K, V, K2, V2, F>
where
    K: Data,
    V: Data,
    K2: Data,
    V2: Data,
    F: Fn(Vec<Row<K, V>>) -> Vec<Row<K2, V2>> + Send + Sync,
{
    fn process(&mut self, chunk: Chunk, context: &mut OperatorContext<'_>) -> Result<(), ProcessError> {
        let rows = (self.transform)(context.take(chunk)?);
        if !rows.is_empty() {
            context.forward(Chunk::new(rows));
        }
        Ok(())
    }
}

/// Hands chunks on as they are: the meeting point of merged streams.
pub(crate) struct PassThrough;

impl Operator for PassThrough {
    fn process(&mut self, chunk: Chunk, context: &mut OperatorContext<'_>) -> Result<(), ProcessError> {
        context.forward(chunk);
        Ok(())
    }
}
