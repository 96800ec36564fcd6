//! Dead letters: records that a sink's converter or target will never take, with their raw bytes and the reason.
//!
//! Header names are Kafka Connect's (`__connect.errors.` plus topic, partition, offset, connector.name, task.id,
//! stage, class.name, exception.class.name, exception.message). The record's own headers come first.
//!
//! # Invariants
//! - A dead letter is acknowledged before the offset behind its record is committed.

use bytes::Bytes;
use highwater_client::{ProducerRecord, admin::NewTopic};
use highwater_connect_api::{TopicName, TopicPartition};
use highwater_types::record::{Header, Record};

use super::{TaskContext, TaskFailure};
use crate::log::ensure_topic;

/// What went wrong with a record.
#[derive(Debug, Clone)]
pub(crate) struct Reason {
    /// `KEY_CONVERTER`, `VALUE_CONVERTER` or `TASK_PUT`, as Kafka Connect names them.
    pub(crate) stage: &'static str,
    /// The converter or plugin.
    pub(crate) class: String,
    /// The kind of error.
    pub(crate) exception: &'static str,
    pub(crate) message: String,
}

/// The dead-letter topic of one run, created at its first use.
#[derive(Debug)]
pub(crate) struct DeadLetters {
    topic: Option<TopicName>,
    is_ready: bool,
}

impl DeadLetters {
    pub(crate) fn new(context: &TaskContext) -> Self {
        Self {
            topic: context.config.errors.dead_letter_topic.clone(),
            is_ready: false,
        }
    }

    /// Writes a dead letter and waits until it is acknowledged. Without a topic the record is only counted and named
    /// in the log.
    pub(crate) async fn bury(
        &mut self,
        context: &TaskContext,
        from: &TopicPartition,
        record: &Record,
        reason: &Reason,
    ) -> Result<(), TaskFailure> {
        let Some(topic) = self.topic.clone() else {
            tracing::warn!(
                connector = %context.id.connector, task = context.id.task, topic = %from.topic,
                partition = %from.partition, offset = %record.offset, stage = reason.stage, error = %reason.message,
                "record passed over"
            );
            context.count("highwater_connect_skipped_records_total", 1);
            return Ok(());
        };
        if !self.is_ready {
            let new = NewTopic {
                partitions: None,
                ..NewTopic::new(topic.clone(), 1)
            };
            ensure_topic(&context.shared.client, new).await?;
            self.is_ready = true;
        }
        let mut headers = record.headers.clone();
        if context.config.errors.context_headers {
            headers.extend(context_headers(context, from, record, reason));
        }
        let letter = ProducerRecord {
            topic,
            partition: None,
            key: record.key.clone(),
            value: record.value.clone(),
            headers,
            timestamp: Some(record.timestamp),
        };
        context.shared.producer.send(letter).await?.await?;
        context.count("highwater_connect_dead_letters_total", 1);
        Ok(())
    }
}

fn context_headers(
    context: &TaskContext,
    from: &TopicPartition,
    record: &Record,
    reason: &Reason,
) -> impl Iterator<Item = Header> {
    let fields = [
        ("topic", from.topic.to_string()),
        ("partition", from.partition.to_string()),
        ("offset", record.offset.to_string()),
        ("connector.name", context.id.connector.clone()),
        ("task.id", context.id.task.to_string()),
        ("stage", reason.stage.to_owned()),
        ("class.name", reason.class.clone()),
        ("exception.class.name", reason.exception.to_owned()),
        ("exception.message", reason.message.clone()),
    ];
    fields
        .into_iter()
        .map(|(name, value)| Header::new(format!("__connect.errors.{name}"), Some(Bytes::from(value))))
}
