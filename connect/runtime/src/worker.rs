//! A worker: joins the group, owns slots, runs their tasks, answers questions about connectors.
//!
//! Every worker replays the config log and may write to it; there is no leader to forward to. What must be decided
//! once (how a connector splits into tasks, and in which slots they run) is decided by the owner of slot 0 and
//! written into the log.
//!
//! # Invariants
//! - A task runs only under a claim of its slot in the config log, after everything before the claim has been read.
//! - A slot is given up only after its tasks have flushed and stopped, or ran out of `task_stop_timeout`.
//!
//! Reading order: [`WorkerConfig`], [`Worker`], `shared` (what tasks and scheduler share), `scheduler`, `planner`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use highwater_client::{Client, ClientConfig, ClientError, admin::NewTopic};
use highwater_connect_api::{SourceOffset, SourcePartition, TopicName};
use highwater_types::{ByteString, InvalidTopicName, TopicPartition};
use serde_json::Value;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::config::{
    ConfigError, ConnectorConfig, Document, Environment, TargetState, coerced, process_environment,
};
use crate::log::{LogError, ensure_topic};
use crate::plugins::{Plugin, Plugins};
use crate::state::{self, RestartRequest, TargetRecord};
use crate::status::{RunState, Status, Subject};

pub(crate) mod group;
pub(crate) mod planner;
pub(crate) mod scheduler;
pub(crate) mod shared;

use scheduler::Message;
use shared::Shared;

/// Settings of a worker.
#[derive(Debug, Clone)]
pub struct WorkerConfig {
    /// Workers of one group share the connectors. Must differ from every sink's `connect-<name>`.
    pub group_id: String,
    /// How status reports name this worker, such as the address of its REST server.
    pub worker_id: String,
    /// Makes the worker a static member of its group: when it comes back within the session time-out, after a crash
    /// too, it goes on at once with the slots it had. Must be unique in the group.
    pub instance_id: Option<String>,
    /// Documents, target states, plans, claims: one partition, compacted.
    pub config_topic: TopicName,
    /// Source offsets: compacted.
    pub offset_topic: TopicName,
    /// Status reports: compacted.
    pub status_topic: TopicName,
    /// The topic whose partitions are the slots; never holds a record.
    pub slots_topic: TopicName,
    /// Slots, if the topic must be created: the most workers that can share the work.
    pub slots: u32,
    /// Partitions of the offset topic, if it must be created.
    pub offset_partitions: u32,
    /// Partitions of the status topic, if it must be created.
    pub status_partitions: u32,
    /// Replicas of internal topics, if they must be created; `None` leaves it to the broker.
    pub replication_factor: Option<i16>,
    /// Silence after which the group takes a worker's slots away.
    pub session_timeout: Duration,
    /// How often tasks make their work durable and store offsets.
    pub flush_interval: Duration,
    /// How long a task may take to flush and stop before it is dropped.
    pub task_stop_timeout: Duration,
    /// Where placeholders find their values.
    pub environment: Environment,
}

impl WorkerConfig {
    /// Defaults for a group: topics named after it, the environment of this process.
    ///
    /// # Errors
    /// [`InvalidTopicName`] when the group id holds characters that topic names cannot.
    pub fn new(group_id: impl Into<String>) -> Result<Self, InvalidTopicName> {
        let group_id = group_id.into();
        let topic = |what: &str| TopicName::new(format!("_connect_{what}_{group_id}"));
        Ok(Self {
            worker_id: format!("{group_id}-{:08x}", rand::random::<u32>()),
            instance_id: None,
            config_topic: topic("configs")?,
            offset_topic: topic("offsets")?,
            status_topic: topic("status")?,
            slots_topic: topic("slots")?,
            slots: 64,
            offset_partitions: 5,
            status_partitions: 1,
            replication_factor: None,
            session_timeout: Duration::from_secs(10),
            flush_interval: Duration::from_secs(1),
            task_stop_timeout: Duration::from_secs(10),
            environment: process_environment(),
            group_id,
        })
    }

    fn new_topic(&self, name: &TopicName, partitions: u32) -> NewTopic {
        let partitions = i32::try_from(partitions.max(1)).unwrap_or(i32::MAX);
        NewTopic {
            replication_factor: self.replication_factor,
            ..NewTopic::new(name.clone(), partitions)
        }
    }
}

/// Why a worker could not do what it was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// There is no such connector.
    #[error("there is no connector `{name}`")]
    UnknownConnector {
        /// What was asked for.
        name: String,
    },
    /// The connector has no such task.
    #[error("connector `{name}` has no task {task}")]
    UnknownTask {
        /// The connector.
        name: String,
        /// What was asked for.
        task: usize,
    },
    /// There is a connector of that name already.
    #[error("there is a connector `{name}` already")]
    AlreadyExists {
        /// The name.
        name: String,
    },
    /// The configuration cannot work.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// An internal topic failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The cluster failed.
    #[error("the cluster could not be asked")]
    Client(#[from] ClientError),
    /// The group could not be joined.
    #[error("the worker group {group_id} cannot be joined")]
    Group {
        /// The group.
        group_id: String,
        /// What the client says.
        #[source]
        source: Box<highwater_client::ConsumeError>,
    },
    /// A document that is no JSON; cannot come from a file or a request.
    #[error("the record cannot be written as JSON")]
    Encode(#[from] serde_json::Error),
}

/// What [`Worker::apply`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Applied {
    /// The connector is new.
    Created,
    /// It has changed.
    Updated,
    /// It was like that already; nothing was written, no task restarts.
    Unchanged,
}

/// A connector and its tasks, as REST answers show them.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectorInfo {
    /// Its name.
    pub name: String,
    /// What was written, placeholders unresolved, passwords not masked: see [`crate::config::flat`].
    pub document: Document,
    /// `source`, `sink` or `unknown`.
    pub kind: &'static str,
    /// What is to be done with it.
    pub target: TargetState,
    /// Settings of its planned tasks, passwords not masked.
    pub tasks: Vec<highwater_connect_api::Settings>,
}

/// What a connector and its tasks do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectorStatus {
    /// The connector as a whole.
    pub connector: Status,
    /// Its tasks, by number.
    pub tasks: Vec<Status>,
    /// `source`, `sink` or `unknown`.
    pub kind: &'static str,
}

/// How far a connector has come.
#[derive(Debug, Clone, PartialEq)]
pub enum ConnectorOffsets {
    /// Stored source offsets.
    Source(BTreeMap<SourcePartition, SourceOffset>),
    /// Committed offsets of the sink's group.
    Sink(BTreeMap<TopicPartition, highwater_types::Offset>),
}

/// A running worker. Cloning gives another handle on the same one; it runs until [`Worker::shutdown`].
#[derive(Debug, Clone)]
pub struct Worker {
    shared: Arc<Shared>,
    messages: mpsc::Sender<Message>,
}

impl Worker {
    /// Creates the internal topics, reads them, joins the group, and runs whatever falls to this worker.
    ///
    /// # Errors
    /// [`WorkerError::Log`] and [`WorkerError::Group`] when topics or group cannot be used.
    pub async fn start(client: Client, plugins: Plugins, config: WorkerConfig) -> Result<Self, WorkerError> {
        // Topics are created with the partitions that are wanted, or not at all: a sink that comes before its topic
        // must not make one with the broker's defaults.
        let client = client.with_config(ClientConfig {
            allow_auto_create_topics: false,
            ..client.config().clone()
        })?;
        let compacted = |topic: NewTopic| topic.config("cleanup.policy", "compact");
        let topics = [
            compacted(config.new_topic(&config.config_topic, 1)),
            compacted(config.new_topic(&config.offset_topic, config.offset_partitions)),
            compacted(config.new_topic(&config.status_topic, config.status_partitions)),
            config.new_topic(&config.slots_topic, config.slots),
        ];
        for topic in topics {
            ensure_topic(&client, topic).await?;
        }
        let shared = Shared::start(client, plugins, config).await?;
        let messages = scheduler::start(shared.clone())?;
        tracing::info!(group = %shared.config.group_id, worker = %shared.config.worker_id, "connect worker started");
        Ok(Self { shared, messages })
    }

    /// The plugins this worker knows.
    pub fn plugins(&self) -> &Plugins {
        &self.shared.plugins
    }

    /// This worker's settings.
    pub fn config(&self) -> &WorkerConfig {
        &self.shared.config
    }

    /// The client this worker uses.
    pub fn client(&self) -> &Client {
        &self.shared.client
    }

    /// Makes a connector what `document` says, creating it if need be. Its `state` counts only when it is created.
    ///
    /// # Errors
    /// [`WorkerError::Config`] with every problem; [`WorkerError::Log`].
    pub async fn apply(&self, document: Document) -> Result<Applied, WorkerError> {
        let config =
            ConnectorConfig::resolve(&document, &self.shared.plugins, &self.shared.config.environment)?;
        let current = self.document(&config.name);
        if current.as_ref() == Some(&document) {
            return Ok(Applied::Unchanged);
        }
        if current.is_none() {
            let state = config.initial_state;
            self.write_target(&config.name, state).await?;
        }
        let key = state::connector_key(&config.name);
        self.shared.write_config(&key, Some(&document)).await?;
        Ok(match current {
            None => Applied::Created,
            Some(_) => Applied::Updated,
        })
    }

    /// Makes a new connector.
    ///
    /// # Errors
    /// [`WorkerError::AlreadyExists`], and those of [`Worker::apply`].
    pub async fn create(&self, document: Document) -> Result<(), WorkerError> {
        let name = document.name().to_owned();
        if self.document(&name).is_some() {
            return Err(WorkerError::AlreadyExists { name });
        }
        let (Applied::Created | Applied::Updated | Applied::Unchanged) = self.apply(document).await?;
        Ok(())
    }

    /// Stops and forgets a connector. Its offsets stay.
    ///
    /// # Errors
    /// [`WorkerError::UnknownConnector`], [`WorkerError::Log`].
    pub async fn delete(&self, name: &str) -> Result<(), WorkerError> {
        self.require(name)?;
        let keys = [
            state::restart_key(name),
            state::tasks_key(name),
            state::target_key(name),
            state::connector_key(name),
        ];
        for key in keys {
            self.shared.write_config::<Document>(&key, None).await?;
        }
        Ok(())
    }

    /// Runs, pauses or stops a connector. Survives restarts.
    ///
    /// # Errors
    /// [`WorkerError::UnknownConnector`], [`WorkerError::Log`].
    pub async fn set_target(&self, name: &str, state: TargetState) -> Result<(), WorkerError> {
        self.require(name)?;
        self.write_target(name, state).await
    }

    async fn write_target(&self, name: &str, state: TargetState) -> Result<(), WorkerError> {
        let record = TargetRecord { state };
        self.shared
            .write_config(&state::target_key(name), Some(&record))
            .await
    }

    /// Starts tasks anew, on whichever worker they run.
    ///
    /// # Errors
    /// [`WorkerError::UnknownConnector`], [`WorkerError::UnknownTask`], [`WorkerError::Log`].
    pub async fn restart(&self, name: &str, request: RestartRequest) -> Result<(), WorkerError> {
        let count = self.info(name)?.tasks.len();
        if let Some(task) = request.tasks.iter().flatten().find(|task| **task >= count) {
            return Err(WorkerError::UnknownTask {
                name: name.to_owned(),
                task: *task,
            });
        }
        let key = state::restart_key(name);
        self.shared.write_config(&key, Some(&request)).await
    }

    /// Names of all connectors.
    pub fn connectors(&self) -> Vec<String> {
        let state = self.shared.state();
        state.connectors().map(|(name, _)| name.to_owned()).collect()
    }

    fn document(&self, name: &str) -> Option<Document> {
        Some(self.shared.state().connector(name)?.document.clone())
    }

    fn require(&self, name: &str) -> Result<Document, WorkerError> {
        self.document(name).ok_or_else(|| WorkerError::UnknownConnector {
            name: name.to_owned(),
        })
    }

    fn kind(&self, document: &Document) -> &'static str {
        let plugin = self.shared.plugins.get(document.plugin());
        plugin.map_or("unknown", Plugin::kind)
    }

    /// A connector and its tasks.
    ///
    /// # Errors
    /// [`WorkerError::UnknownConnector`].
    pub fn info(&self, name: &str) -> Result<ConnectorInfo, WorkerError> {
        let document = self.require(name)?;
        let state = self.shared.state();
        let entry = state.connector(name);
        let tasks = entry.iter().filter(|entry| entry.target != TargetState::Stopped);
        let tasks = tasks
            .filter_map(|entry| entry.plan)
            .flat_map(|plan| &plan.record.tasks);
        Ok(ConnectorInfo {
            name: name.to_owned(),
            kind: self.kind(&document),
            target: entry.as_ref().map(|entry| entry.target).unwrap_or_default(),
            tasks: tasks.map(state::PlannedTask::settings).collect(),
            document,
        })
    }

    /// What a connector and its tasks do, as far as this worker has heard.
    ///
    /// # Errors
    /// [`WorkerError::UnknownConnector`].
    pub fn status(&self, name: &str) -> Result<ConnectorStatus, WorkerError> {
        let document = self.require(name)?;
        let state = self.shared.state();
        let entry = state.connector(name);
        let reports = self.shared.status();
        let report = |subject: &Subject, slot: u32| {
            let unassigned = |worker_id: String| Status {
                state: RunState::Unassigned,
                worker_id,
                trace: None,
                generation: 0,
            };
            let Some(claim) = state.claim(slot) else {
                return unassigned(String::new());
            };
            // A report from before the present owner's claim is about a task that runs no more.
            let current = |status: &&Status| status.generation >= claim.epoch.get();
            match reports.get(subject).filter(current) {
                Some(status) => status.clone(),
                None => unassigned(claim.worker.clone()),
            }
        };
        let mut connector = report(&Subject::Connector(name.to_owned()), planner::SLOT);
        let target = entry.as_ref().map(|entry| entry.target).unwrap_or_default();
        if connector.state == RunState::Running {
            connector.state = match target {
                TargetState::Running => RunState::Running,
                TargetState::Paused => RunState::Paused,
                TargetState::Stopped => RunState::Stopped,
            };
        }
        let planned = entry
            .and_then(|entry| entry.plan)
            .filter(|_| target != TargetState::Stopped);
        let tasks = planned.iter().flat_map(|plan| &plan.record.tasks).enumerate();
        let tasks = tasks.map(|(task, planned)| report(&Subject::Task(name.to_owned(), task), planned.slot));
        Ok(ConnectorStatus {
            tasks: tasks.collect(),
            connector,
            kind: self.kind(&document),
        })
    }

    /// How far a connector has come.
    ///
    /// # Errors
    /// [`WorkerError::UnknownConnector`], [`WorkerError::Log`], [`WorkerError::Client`].
    pub async fn offsets(&self, name: &str) -> Result<ConnectorOffsets, WorkerError> {
        let document = self.require(name)?;
        if let Some(Plugin::Sink(_)) = self.shared.plugins.get(document.plugin()) {
            let group: ByteString = ConnectorConfig::sink_group(name).into();
            let committed = self.shared.client.admin().list_group_offsets(&group).await?;
            let offsets = committed
                .into_iter()
                .map(|(tp, committed)| (tp, committed.offset));
            return Ok(ConnectorOffsets::Sink(offsets.collect()));
        }
        Ok(ConnectorOffsets::Source(self.shared.source_offsets(name).await?))
    }

    /// Stops every task with a last flush, gives up the slots, leaves the group. Connectors stay as they are: another
    /// worker of the group takes over, or this one when it starts again.
    pub async fn shutdown(&self) {
        let (done, stopped) = oneshot::channel();
        if self.messages.send(Message::Shutdown(done)).await.is_ok() {
            let _ = stopped.await; // Gone without an answer means stopped, too.
        }
    }
}

pub(crate) use crate::task::trace;

/// JSON as the internal topics hold it.
pub(crate) fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(value)
}

/// Settings of a task as `plugin` wants them: placeholders filled in, then texts turned into what it declares.
pub(crate) fn filled(
    settings: &highwater_connect_api::Settings,
    plugin: Option<&Plugin>,
    environment: &Environment,
) -> Result<highwater_connect_api::Settings, ConfigError> {
    let mut problems = Vec::new();
    let mut value = Value::Object(settings.0.clone());
    crate::config::interpolate::fill("settings", &mut value, environment, &mut problems);
    if !problems.is_empty() {
        return Err(ConfigError { problems });
    }
    let settings = highwater_connect_api::Settings::from_json(value);
    Ok(match plugin {
        Some(plugin) => highwater_connect_api::Settings(coerced(plugin.config(), settings.0)),
        None => settings,
    })
}
