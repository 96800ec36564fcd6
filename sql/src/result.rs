//! A statement's result: columns, a stream of rows, and what there was to warn of.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use arrow::{
    datatypes::{Schema, SchemaRef},
    record_batch::RecordBatch,
};
use datafusion::{execution::SendableRecordBatchStream, physical_plan::EmptyRecordBatchStream};
use futures::{Stream, StreamExt, TryStreamExt};

use crate::{error::SqlError, report::QueryReport};

/// The result of one statement. Poll it for batches; drop it to stop the query.
pub struct QueryResult {
    schema: SchemaRef,
    rows: SendableRecordBatchStream,
    report: Arc<QueryReport>,
    left: usize,
    max_rows: Option<usize>,
    command: Option<&'static str>,
}

impl QueryResult {
    pub(crate) fn rows(
        schema: SchemaRef,
        rows: SendableRecordBatchStream,
        report: Arc<QueryReport>,
        max_rows: Option<usize>,
    ) -> Self {
        Self {
            schema,
            rows,
            report,
            left: max_rows.unwrap_or(usize::MAX),
            max_rows,
            command: None,
        }
    }

    /// Of a statement that gives no rows.
    pub(crate) fn done(command: &'static str) -> Self {
        let schema = Arc::new(Schema::empty());
        let rows = Box::pin(EmptyRecordBatchStream::new(schema.clone()));
        Self {
            command: Some(command),
            ..Self::rows(schema, rows, Arc::default(), None)
        }
    }

    /// The columns.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The command that was carried out, when the statement was not a question and there are no rows.
    pub fn command(&self) -> Option<&'static str> {
        self.command
    }

    /// What there is to warn of so far; complete once the stream has ended. A sentence each.
    pub fn warnings(&self) -> Vec<String> {
        self.report.warnings()
    }

    /// All rows at once.
    ///
    /// # Errors
    /// [`SqlError`] when the query fails on the way.
    pub async fn collect_rows(&mut self) -> Result<Vec<RecordBatch>, SqlError> {
        self.try_collect().await
    }
}

impl Stream for QueryResult {
    type Item = Result<RecordBatch, SqlError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == 0 && self.max_rows == Some(0) {
            return Poll::Ready(None);
        }
        match std::task::ready!(self.rows.poll_next_unpin(context)) {
            Some(Ok(batch)) if batch.num_rows() > self.left => {
                // Only now is it certain that there are more rows than may be given out.
                let batch = batch.slice(0, self.left);
                self.report.cut(self.max_rows.unwrap_or(0));
                (self.left, self.max_rows) = (0, Some(0));
                self.rows = Box::pin(EmptyRecordBatchStream::new(self.schema.clone()));
                if batch.num_rows() == 0 {
                    Poll::Ready(None)
                } else {
                    Poll::Ready(Some(Ok(batch)))
                }
            }
            Some(Ok(batch)) => {
                self.left -= batch.num_rows();
                Poll::Ready(Some(Ok(batch)))
            }
            Some(Err(error)) => Poll::Ready(Some(Err(SqlError::from_datafusion(error)))),
            None => Poll::Ready(None),
        }
    }
}

impl fmt::Debug for QueryResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryResult")
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}
