//! What can go wrong with a statement, and the SQLSTATE that says so to drivers.

use datafusion::{common::SchemaError, error::DataFusionError, sql::sqlparser::parser::ParserError};
use highwater_types::{Offset, TopicPartition, record::BatchError};

use crate::reader::ReadError;

/// Why a statement could not be answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SqlError {
    /// There is nothing to run.
    #[error("there is no statement; give one, such as SHOW TABLES")]
    Empty,
    /// Several statements where one is expected.
    #[error("{count} statements were given where one is expected; send them one by one")]
    Several {
        /// How many.
        count: usize,
    },
    /// A statement that would change something.
    #[error("{statement} is refused: {reason}")]
    Refused {
        /// Its first words.
        statement: String,
        /// Why, and what to do instead.
        reason: &'static str,
    },
    /// Answering it would take more stack or planning than there is.
    #[error("the statement is too complex: {problem}")]
    TooComplex {
        /// In which way, and what to do instead.
        problem: &'static str,
    },
    /// A `CREATE TABLE` that does not declare a topic's columns.
    #[error("cannot declare table {table}: {problem}")]
    Declaration {
        /// Its name.
        table: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// The log could not be read.
    #[error("cannot read the log: {0}")]
    Read(#[source] LogError),
    /// A value does not fit, and the engine or the table was told to fail then.
    #[error("the value of {at} offset {offset} {problem}; misfits = 'null' would show NULL instead")]
    Misfit {
        /// The partition.
        at: TopicPartition,
        /// The record.
        offset: Offset,
        /// What is wrong with it.
        problem: String,
    },
    /// Bytes in the log that are no record batch.
    #[error("a record batch of {at} at or after offset {offset} is broken: {source}")]
    BrokenBatch {
        /// The partition.
        at: TopicPartition,
        /// Where to look.
        offset: Offset,
        /// What is wrong with it.
        source: BatchError,
    },
    /// The log has become shorter than it was when the query was planned.
    #[error("the log of {at} ended at offset {offset} while the query was reading it; run the query again")]
    LogEnded {
        /// The partition.
        at: TopicPartition,
        /// Where it ended.
        offset: Offset,
    },
    /// What DataFusion says.
    #[error("{message}")]
    DataFusion {
        /// Its message without backtrace, and a hint where we know one.
        message: String,
        /// The error.
        source: Box<DataFusionError>,
    },
}

/// Why the log could not be read, with the detail in its message.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct LogError(#[from] ReadError);

impl SqlError {
    /// From DataFusion, unwrapping errors of ours that travelled through it.
    pub(crate) fn from_datafusion(error: DataFusionError) -> Self {
        match unwrapped(error) {
            DataFusionError::External(external) => match external.downcast::<Self>() {
                Ok(ours) => *ours,
                Err(other) => Self::plain(DataFusionError::External(other)),
            },
            other => Self::plain(other),
        }
    }

    fn plain(error: DataFusionError) -> Self {
        let message = match error.find_root() {
            DataFusionError::SQL(parser, _) => match parser.as_ref() {
                ParserError::ParserError(problem) | ParserError::TokenizerError(problem) => {
                    format!("cannot parse this: {problem}")
                }
                ParserError::RecursionLimitExceeded => "the statement is nested too deeply".to_owned(),
            },
            _ => error.strip_backtrace(),
        };
        Self::DataFusion {
            message,
            source: Box::new(error),
        }
    }

    /// Adds a hint to a message of DataFusion's.
    pub(crate) fn with_hint(mut self, hint: &str) -> Self {
        if let Self::DataFusion { message, .. } = &mut self {
            message.push_str(". Hint: ");
            message.push_str(hint);
        }
        self
    }

    /// The SQLSTATE of the Postgres wire.
    pub fn sqlstate(&self) -> &'static str {
        match self {
            Self::Empty | Self::Several { .. } => "42601",
            Self::Refused { .. } => "0A000",
            Self::TooComplex { .. } => "54001",
            Self::Declaration { .. } => "42P16",
            Self::Read(_) => "58030",
            Self::LogEnded { .. } => "40001",
            Self::Misfit { .. } => "22P02",
            Self::BrokenBatch { .. } => "XX001",
            Self::DataFusion { source, .. } => sqlstate_of(source),
        }
    }
}

impl From<ReadError> for SqlError {
    fn from(error: ReadError) -> Self {
        Self::Read(error.into())
    }
}

/// Peels off what DataFusion wraps around an error while it travels.
fn unwrapped(error: DataFusionError) -> DataFusionError {
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => unwrapped(*inner),
        DataFusionError::Shared(shared) => match std::sync::Arc::try_unwrap(shared) {
            Ok(inner) => unwrapped(inner),
            Err(shared) => DataFusionError::Shared(shared),
        },
        DataFusionError::ArrowError(arrow, backtrace) => match *arrow {
            arrow::error::ArrowError::ExternalError(inner) => match inner.downcast::<DataFusionError>() {
                Ok(inner) => unwrapped(*inner),
                Err(inner) => DataFusionError::External(inner),
            },
            other => DataFusionError::ArrowError(Box::new(other), backtrace),
        },
        other => other,
    }
}

fn sqlstate_of(error: &DataFusionError) -> &'static str {
    match error.find_root() {
        DataFusionError::SQL(parser, _) => match parser.as_ref() {
            ParserError::RecursionLimitExceeded => "54001",
            _ => "42601",
        },
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { .. } => "42703",
            SchemaError::AmbiguousReference { .. } => "42702",
            _ => "42701",
        },
        DataFusionError::Plan(message) if message.contains("not found") => "42P01",
        DataFusionError::Plan(_) => "42000",
        DataFusionError::NotImplemented(_) => "0A000",
        DataFusionError::ResourcesExhausted(_) => "53200",
        DataFusionError::ArrowError(arrow, _) => match arrow.as_ref() {
            arrow::error::ArrowError::DivideByZero => "22012",
            arrow::error::ArrowError::ArithmeticOverflow(_) => "22003",
            arrow::error::ArrowError::CastError(_) | arrow::error::ArrowError::ParseError(_) => "22P02",
            _ => "22000",
        },
        DataFusionError::Execution(_) => "22000",
        _ => "XX000",
    }
}
