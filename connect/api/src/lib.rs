//! What a connector author needs, and nothing that runs: sources, sinks, settings, records, converters.
//!
//! A *plugin* ([`SourcePlugin`] or [`SinkPlugin`]) declares its settings in a [`ConfigDef`], checks them, and
//! splits its job into task settings. A *task* ([`SourceTask`] or [`SinkTask`]) moves data. Threads, retries,
//! offsets, dead letters and placement belong to the runtime; a task only says what happened, in a
//! [`TaskError`] or a [`SinkError`].
//!
//! This crate refuses to touch clock, disk, network or environment: a plugin brings its own.
//!
//! Main types in reading order: [`record::Data`], [`SourceRecord`], [`SinkRecord`], [`ConfigDef`],
//! [`Settings`], [`SourcePlugin`], [`SourceTask`], [`SinkPlugin`], [`SinkTask`], [`Converter`].

pub mod config;
pub mod converter;
pub mod plugin;
pub mod record;
pub mod units;

pub use config::{ConfigDef, ConfigKey, ConfigProblem, Kind, Settings, SettingsError};
pub use converter::{Converter, ConverterError};
pub use plugin::{
    SinkContext, SinkError, SinkPlugin, SinkTask, SourceContext, SourcePlugin, SourceTask, TaskError,
};
pub use record::{Data, RejectedRecord, SinkRecord, SourceOffset, SourcePartition, SourceRecord};

/// The log's own vocabulary, so that a connector needs no other crate of the project.
pub use highwater_types::{Offset, PartitionId, Timestamp, TopicName, TopicPartition, record::Header};
