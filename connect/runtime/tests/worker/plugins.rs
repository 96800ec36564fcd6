//! A source that counts and a sink that collects; both remember what the runtime told them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use highwater_connect::Plugins;
use highwater_connect_api::{
    ConfigDef, ConfigKey, Data, Kind, RejectedRecord, Settings, SinkContext, SinkError, SinkPlugin,
    SinkRecord, SinkTask, SourceContext, SourceOffset, SourcePartition, SourcePlugin, SourceRecord,
    SourceTask, TaskError, Timestamp,
};
use serde::Deserialize;
use serde_json::{Value, json};

/// What the plugins of one test saw.
#[derive(Clone, Default)]
pub(crate) struct World(Arc<Mutex<Seen>>);

#[derive(Default)]
pub(crate) struct Seen {
    /// Offsets that source tasks were started with: stream and number.
    pub(crate) starts: Vec<BTreeMap<String, i64>>,
    /// Streams that have failed on purpose.
    failed: BTreeSet<String>,
    /// Every value the sink was given and took.
    pub(crate) put: Vec<Value>,
    /// How many of them were flushed.
    pub(crate) flushed: usize,
    /// How often the sink says that it cannot take anything just now.
    pub(crate) outages: usize,
    pub(crate) passwords: BTreeSet<String>,
}

impl World {
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().expect("no test panics while holding it")
    }

    pub(crate) fn plugins(&self) -> Plugins {
        Plugins::new()
            .source(Counter(self.clone()))
            .sink(Collector(self.clone()))
    }
}

const fn key(name: &'static str, kind: Kind, required: bool) -> ConfigKey {
    ConfigKey {
        name,
        kind,
        default: None,
        required,
        doc: "for the test",
    }
}

struct Counter(World);

#[derive(Clone, Deserialize)]
struct CounterSettings {
    streams: Vec<String>,
    /// Numbers per stream.
    count: i64,
    /// The number before which a stream fails, once.
    #[serde(default)]
    fail_at: Option<i64>,
    #[serde(default)]
    password: Option<String>,
}

#[async_trait]
impl SourcePlugin for Counter {
    fn name(&self) -> &'static str {
        "counter"
    }

    fn about(&self) -> &'static str {
        "Counts."
    }

    fn config(&self) -> ConfigDef {
        const KEYS: &[ConfigKey] = &[
            key("streams", Kind::List, true),
            key(
                "count",
                Kind::Integer {
                    min: 0,
                    max: 1_000_000,
                },
                true,
            ),
            key(
                "fail_at",
                Kind::Integer {
                    min: 0,
                    max: 1_000_000,
                },
                false,
            ),
            key("password", Kind::Password, false),
        ];
        ConfigDef { keys: KEYS }
    }

    async fn task_settings(&self, settings: &Settings, tasks_max: usize) -> Result<Vec<Settings>, TaskError> {
        let all: CounterSettings = settings.read().map_err(|e| TaskError::fatal(e, "check"))?;
        let share = all.streams.len().div_ceil(tasks_max).max(1);
        let tasks = all.streams.chunks(share);
        Ok(tasks
            .map(|share| settings.clone().with("streams", share.to_vec()))
            .collect())
    }

    fn task(&self) -> Box<dyn SourceTask> {
        Box::new(CounterTask {
            world: self.0.clone(),
            settings: None,
            next: BTreeMap::new(),
        })
    }
}

struct CounterTask {
    world: World,
    settings: Option<CounterSettings>,
    next: BTreeMap<String, i64>,
}

#[async_trait]
impl SourceTask for CounterTask {
    async fn start(&mut self, context: SourceContext, settings: &Settings) -> Result<(), TaskError> {
        let settings: CounterSettings = settings.read().map_err(|e| TaskError::fatal(e, "check"))?;
        let mut starts = BTreeMap::new();
        for stream in &settings.streams {
            let stored = context.offsets.get(&SourcePartition::of("stream", stream));
            let stored = stored.and_then(|offset| offset.integer("next"));
            starts.extend(stored.map(|next| (stream.clone(), next)));
            self.next.insert(stream.clone(), stored.unwrap_or(0));
        }
        let mut seen = self.world.seen();
        seen.starts.push(starts);
        seen.passwords.extend(settings.password.clone());
        self.settings = Some(settings);
        Ok(())
    }

    async fn poll(&mut self) -> Result<Vec<SourceRecord>, TaskError> {
        const STEP: i64 = 5;
        tokio::time::sleep(Duration::from_millis(5)).await;
        let settings = self.settings.as_ref().expect("started");
        let mut records = Vec::new();
        for (stream, next) in &mut self.next {
            for n in *next..(*next + STEP).min(settings.count) {
                if settings.fail_at == Some(n) && self.world.seen().failed.insert(stream.clone()) {
                    return Err(TaskError::fatal("the counter broke", "count again"));
                }
                records.push(SourceRecord {
                    topic: None,
                    partition: None,
                    key: Data::text(stream.clone()),
                    value: Data::Json(json!({ "stream": stream, "n": n })),
                    headers: Vec::new(),
                    timestamp: Some(Timestamp::new(1_000_000 + n)),
                    source_partition: SourcePartition::of("stream", stream.clone()),
                    source_offset: SourceOffset::of("next", n + 1),
                });
                *next = n + 1;
            }
        }
        Ok(records)
    }
}

struct Collector(World);

#[async_trait]
impl SinkPlugin for Collector {
    fn name(&self) -> &'static str {
        "collector"
    }

    fn about(&self) -> &'static str {
        "Collects."
    }

    fn config(&self) -> ConfigDef {
        ConfigDef { keys: &[] }
    }

    fn task(&self) -> Box<dyn SinkTask> {
        Box::new(CollectorTask(self.0.clone()))
    }
}

struct CollectorTask(World);

#[async_trait]
impl SinkTask for CollectorTask {
    async fn start(&mut self, _: SinkContext, _: &Settings) -> Result<(), TaskError> {
        Ok(())
    }

    /// Refuses values with `"refuse": true`.
    async fn put(&mut self, records: &[SinkRecord]) -> Result<(), SinkError> {
        let mut seen = self.0.seen();
        if seen.outages > 0 {
            seen.outages -= 1;
            return Err(TaskError::retriable("the target is away").into());
        }
        let mut rejected = Vec::new();
        for record in records {
            let value = record.value.as_json().cloned().unwrap_or_default();
            if value["refuse"] == true {
                rejected.push(RejectedRecord {
                    topic_partition: record.topic_partition.clone(),
                    offset: record.offset,
                    reason: "not to my taste".to_owned(),
                });
            } else {
                seen.put.push(value);
            }
        }
        match rejected.is_empty() {
            true => Ok(()),
            false => Err(SinkError::Rejected(rejected)),
        }
    }

    async fn flush(&mut self) -> Result<(), SinkError> {
        let mut seen = self.0.seen();
        seen.flushed = seen.put.len();
        Ok(())
    }
}

/// How often each number of each stream was taken.
pub(crate) fn tally(values: &[Value]) -> BTreeMap<(String, i64), usize> {
    let mut tally = BTreeMap::new();
    for value in values {
        let stream = value["stream"].as_str().expect("a stream").to_owned();
        *tally
            .entry((stream, value["n"].as_i64().expect("a number")))
            .or_insert(0) += 1;
    }
    tally
}
