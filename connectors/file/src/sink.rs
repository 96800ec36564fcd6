//! The plugin and its task. File work runs on blocking threads; the files travel there and back.
//!
//! A write that fails fails the task: it starts again where the progress files stand, which is the only place from
//! which nothing is repeated.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use highwater_connect_api::{
    ConfigDef, ConfigProblem, Data, Offset, RejectedRecord, Settings, SinkContext, SinkError, SinkPlugin,
    SinkRecord, SinkTask, TaskError, TopicPartition,
};
use serde_json::{Value, json};

use crate::partition::{FileError, PartitionFiles};
use crate::settings::{CONFIG, FileSettings, LineFormat};

/// The plugin `file`.
#[derive(Debug, Default)]
pub struct FileSink;

#[async_trait]
impl SinkPlugin for FileSink {
    fn name(&self) -> &'static str {
        "file"
    }

    fn about(&self) -> &'static str {
        "Rolling JSONL files per topic and partition, exactly once."
    }

    fn config(&self) -> ConfigDef {
        CONFIG
    }

    fn check(&self, settings: &Settings) -> Vec<ConfigProblem> {
        let problem = |key: &str, message: String| ConfigProblem {
            key: key.to_owned(),
            message,
        };
        match settings.read::<FileSettings>() {
            Ok(settings) if settings.directory.as_os_str().is_empty() => {
                vec![problem(
                    "directory",
                    "is empty; name where the files go".to_owned(),
                )]
            }
            Ok(_) => Vec::new(),
            Err(error) => vec![problem("settings", error.to_string())],
        }
    }

    fn task(&self) -> Box<dyn SinkTask> {
        Box::new(FileTask::default())
    }
}

type Files = HashMap<TopicPartition, PartitionFiles>;

#[derive(Default)]
struct FileTask {
    settings: Option<FileSettings>,
    files: Files,
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Before anything is written everything may be tried again; what is damaged may not.
fn before_writing(error: FileError) -> TaskError {
    match &error {
        FileError::Io { .. } | FileError::Locked { .. } => TaskError::retriable(chain(&error)),
        _ => TaskError::fatal(error, "then restart the task"),
    }
}

fn while_writing(error: FileError) -> SinkError {
    let hint = "the task goes on from its recorded progress when it restarts";
    TaskError::fatal(chain(&error), hint).into()
}

fn chain(error: &FileError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, TaskError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| TaskError::fatal(error, "report this as a bug"))
}

impl FileTask {
    fn settings(&self) -> Result<FileSettings, TaskError> {
        let bug = || TaskError::fatal("the task was used before it was started", "report this as a bug");
        self.settings.clone().ok_or_else(bug)
    }

    /// Lends the files to a blocking thread. Should this future be dropped, they are closed when the work is done.
    async fn with_files(
        &mut self,
        work: impl FnOnce(&mut Files) -> Result<(), FileError> + Send + 'static,
    ) -> Result<(), SinkError> {
        let mut files = std::mem::take(&mut self.files);
        let (files, outcome) = blocking(move || {
            let outcome = work(&mut files);
            (files, outcome)
        })
        .await?;
        self.files = files;
        outcome.map_err(while_writing)
    }
}

#[async_trait]
impl SinkTask for FileTask {
    async fn start(&mut self, context: SinkContext, settings: &Settings) -> Result<(), TaskError> {
        let settings: FileSettings = settings
            .read()
            .map_err(|error| TaskError::fatal(error, "run the configuration check"))?;
        let directory = settings.directory.clone();
        blocking(move || fs::create_dir_all(&directory))
            .await?
            .map_err(|error| {
                let directory = settings.directory.display();
                TaskError::retriable(format!("cannot create {directory}: {error}"))
            })?;
        tracing::info!(
            connector = %context.connector, task = context.task, directory = %settings.directory.display(), "writing files"
        );
        self.settings = Some(settings);
        Ok(())
    }

    async fn open(
        &mut self,
        partitions: &[TopicPartition],
    ) -> Result<BTreeMap<TopicPartition, Offset>, TaskError> {
        let settings = self.settings()?;
        // An attempt that failed half-way has opened some already.
        let mut missing = partitions.to_vec();
        missing.retain(|partition| !self.files.contains_key(partition));
        let opened = blocking(move || {
            let open = |tp: TopicPartition| Ok((tp.clone(), PartitionFiles::open(tp, settings.clone())?));
            missing
                .into_iter()
                .map(open)
                .collect::<Result<Vec<_>, FileError>>()
        });
        self.files.extend(opened.await?.map_err(before_writing)?);
        let next = |tp: &TopicPartition| Some((tp.clone(), self.files.get(tp)?.next_offset()?));
        Ok(partitions.iter().filter_map(next).collect())
    }

    async fn put(&mut self, records: &[SinkRecord]) -> Result<(), SinkError> {
        let format = self.settings()?.format;
        let mut rejected = Vec::new();
        let mut lines = Vec::with_capacity(records.len());
        for record in records {
            let line = line(record, format);
            if let Err(reason) = &line {
                rejected.push(RejectedRecord {
                    topic_partition: record.topic_partition.clone(),
                    offset: record.offset,
                    reason: reason.clone(),
                });
            }
            lines.push((record.topic_partition.clone(), record.offset, line.ok()));
        }
        let now_ms = now_ms();
        self.with_files(move |files| {
            for (topic_partition, offset, line) in lines {
                let files = files
                    .get_mut(&topic_partition)
                    .ok_or(FileError::Fenced { topic_partition })?;
                match line {
                    Some(line) => files.append(offset, &line, now_ms)?,
                    None => files.skip(offset)?,
                }
            }
            Ok(())
        })
        .await?;
        match rejected.is_empty() {
            true => Ok(()),
            false => Err(SinkError::Rejected(rejected)),
        }
    }

    async fn flush(&mut self) -> Result<(), SinkError> {
        let now_ms = now_ms();
        self.with_files(move |files| files.values_mut().try_for_each(|files| files.flush(now_ms)))
            .await
    }

    async fn close(&mut self, partitions: &[TopicPartition]) -> Result<(), TaskError> {
        self.files.retain(|partition, _| !partitions.contains(partition));
        Ok(())
    }

    async fn stop(&mut self) {
        self.files.clear();
    }
}

/// The record as one line of JSON.
fn line(record: &SinkRecord, format: LineFormat) -> Result<Vec<u8>, String> {
    let value = document(&record.value, "value")?;
    let line = match format {
        LineFormat::Value => serde_json::to_vec(&value),
        LineFormat::Envelope => serde_json::to_vec(&json!({
            "topic": record.topic_partition.topic.as_str(),
            "partition": record.topic_partition.partition.get(),
            "offset": record.offset.get(),
            "timestamp": record.timestamp.get(),
            "key": document(&record.key, "key")?,
            "value": value,
        })),
    };
    line.map_err(|error| error.to_string())
}

fn document(data: &Data, part: &str) -> Result<Value, String> {
    match data {
        Data::Null => Ok(Value::Null),
        Data::Json(document) => Ok(document.clone()),
        Data::Text(text) => Ok(Value::String(text.clone())),
        Data::Bytes(_) => Err(format!(
            "the {part} is bytes, which JSON cannot hold; set [format] {part} to json or string"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use highwater_connect_api::{PartitionId, Timestamp, TopicName};

    fn partition() -> TopicPartition {
        TopicPartition::new(TopicName::new("alerts").expect("legal"), PartitionId::new(2))
    }

    fn record(offset: i64, value: Data) -> SinkRecord {
        SinkRecord {
            topic_partition: partition(),
            offset: Offset::new(offset),
            timestamp: Timestamp::new(1_000 + offset),
            key: Data::text("BTC"),
            value,
            headers: Vec::new(),
        }
    }

    async fn started(directory: &std::path::Path, format: &str) -> Box<dyn SinkTask> {
        let settings = json!({ "directory": directory, "format": format });
        let mut task = FileSink.task();
        task.start(SinkContext::default(), &Settings::from_json(settings))
            .await
            .expect("started");
        task
    }

    #[tokio::test]
    async fn a_task_that_died_goes_on_where_its_last_flush_stands() {
        let directory = tempfile::tempdir().expect("a directory");
        let out = directory.path().join("made/on/demand");
        let mut task = started(&out, "envelope").await;
        assert_eq!(task.open(&[partition()]).await.expect("opened"), BTreeMap::new());
        let first = [record(3, Data::Json(json!({ "p": 1.5 }))), record(4, Data::Null)];
        task.put(&first).await.expect("taken");
        task.flush().await.expect("flushed");
        task.put(&[record(5, Data::text("lost"))]).await.expect("taken");
        drop(task);

        let mut task = started(&out, "envelope").await;
        let starts = task.open(&[partition()]).await.expect("opened");
        assert_eq!(starts, BTreeMap::from([(partition(), Offset::new(5))]));
        task.put(&[record(5, Data::text("a\nb"))]).await.expect("taken");
        task.flush().await.expect("flushed");
        task.close(&[partition()]).await.expect("closed");
        let text = fs::read_to_string(out.join("alerts-2-00000000000000000003.jsonl.open")).expect("read");
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let offsets: Vec<_> = lines.iter().map(|line| line["offset"].as_i64()).collect();
        assert_eq!(offsets, [Some(3), Some(4), Some(5)]);
        let last = json!({ "topic": "alerts", "partition": 2, "offset": 5, "timestamp": 1005, "key": "BTC", "value": "a\nb" });
        assert_eq!(lines[2], last);
    }

    #[tokio::test]
    async fn a_record_that_json_cannot_hold_is_refused_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut task = started(directory.path(), "value").await;
        task.open(&[partition()]).await.expect("opened");
        let records = [
            record(0, Data::Json(json!(1))),
            record(1, Data::Bytes(bytes::Bytes::from_static(b"\xff"))),
            record(2, Data::Json(json!(3))),
        ];
        let error = task.put(&records).await.expect_err("one is refused");
        let SinkError::Rejected(rejected) = error else {
            panic!("{error}");
        };
        assert_eq!(rejected.iter().map(|r| r.offset.get()).collect::<Vec<_>>(), [1]);
        task.flush().await.expect("flushed");
        let text = fs::read_to_string(directory.path().join("alerts-2-00000000000000000000.jsonl.open"));
        assert_eq!(text.expect("read"), "1\n3\n");
        assert_eq!(
            task.open(&[partition()]).await.expect("open already"),
            BTreeMap::from([(partition(), Offset::new(3))])
        );
    }
}
