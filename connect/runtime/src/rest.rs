//! Kafka Connect's REST API over a [`Worker`], as consoles and scripts know it. JSON only.
//!
//! Any worker answers and takes every request; nothing is forwarded. Configurations are flat maps
//! ([`crate::config::flat`]). It has no login: bind it where only those can reach it who may run connectors.
//!
//! # Invariants
//! - An error is always `{"error_code": n, "message": "..."}`.
//! - Passwords are masked in every answer.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::body::{Bytes, to_bytes};
use axum::extract::{DefaultBodyLimit, Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::config::{Document, TargetState, flat};
use crate::log::LogError;
use crate::state::RestartRequest;
use crate::status::Status;
use crate::worker::{Applied, ConnectorOffsets, Worker, WorkerError, trace};

mod validate;

/// Longest body of a request; configurations are a few kilobytes.
const MAX_BODY_BYTES: usize = 1 << 20;
/// How much of a refusal's text is repeated.
const MAX_REFUSAL_BYTES: usize = 4 << 10;

/// A running REST server.
#[derive(Debug)]
pub struct RestServer {
    local_addr: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

impl RestServer {
    /// Listens and serves until [`RestServer::shutdown`].
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn bind(address: SocketAddr, worker: Worker) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let local_addr = listener.local_addr()?;
        let stop = CancellationToken::new();
        let server =
            axum::serve(listener, router(worker)).with_graceful_shutdown(stop.clone().cancelled_owned());
        Ok(Self {
            local_addr,
            stop,
            task: tokio::spawn(server.into_future()),
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Takes no more requests and waits for those under way.
    pub async fn shutdown(self) {
        self.stop.cancel();
        if let Ok(Err(error)) = self.task.await {
            tracing::warn!(%error, "connect REST server ended badly");
        }
    }
}

/// The routes, for servers that have more of them.
pub fn router(worker: Worker) -> Router {
    Router::new()
        .route("/", get(root))
        .route("/health", get(health))
        .route("/connectors", get(list).post(create))
        .route("/connectors/{c}", get(info).delete(delete))
        .route("/connectors/{c}/config", get(config).put(put_config))
        .route("/connectors/{c}/status", get(status))
        .route("/connectors/{c}/restart", post(restart))
        .route("/connectors/{c}/pause", put(pause))
        .route("/connectors/{c}/resume", put(resume))
        .route("/connectors/{c}/stop", put(stop))
        .route("/connectors/{c}/tasks", get(tasks))
        .route("/connectors/{c}/tasks/{t}/status", get(task_status))
        .route("/connectors/{c}/tasks/{t}/restart", post(restart_task))
        .route("/connectors/{c}/topics", get(topics))
        .route("/connectors/{c}/offsets", get(offsets))
        .route("/connector-plugins", get(plugins))
        .route("/connector-plugins/{p}/config", get(validate::definitions))
        .route("/connector-plugins/{p}/config/validate", put(validate::validate))
        .fallback(async || RestError::new(StatusCode::NOT_FOUND, "there is nothing at this path"))
        .method_not_allowed_fallback(async || {
            RestError::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "this path does not take that method",
            )
        })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(map_response(in_json))
        .with_state(worker)
}

/// Gives refusals that were made before a handler ran, of bodies and paths that cannot be read, the form of all others.
async fn in_json(response: Response) -> Response {
    let status = response.status();
    let content_type = response.headers().get(header::CONTENT_TYPE);
    let is_json = content_type.is_some_and(|value| value == "application/json");
    if is_json || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let text = to_bytes(response.into_body(), MAX_REFUSAL_BYTES)
        .await
        .unwrap_or_default();
    RestError::new(status, String::from_utf8_lossy(&text)).into_response()
}

/// An answer that says what went wrong.
#[derive(Debug)]
struct RestError {
    status: StatusCode,
    message: String,
}

impl RestError {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }
}

impl IntoResponse for RestError {
    fn into_response(self) -> Response {
        let body = json!({ "error_code": self.status.as_u16(), "message": self.message });
        json_response(self.status, &body)
    }
}

impl From<WorkerError> for RestError {
    fn from(error: WorkerError) -> Self {
        let status = match &error {
            WorkerError::UnknownConnector { .. } | WorkerError::UnknownTask { .. } => StatusCode::NOT_FOUND,
            WorkerError::AlreadyExists { .. } => StatusCode::CONFLICT,
            WorkerError::Config(_) => StatusCode::BAD_REQUEST,
            WorkerError::Log(LogError::Stopping) => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, trace(&error))
    }
}

type Answer = Result<Response, RestError>;

fn json_response(status: StatusCode, body: &Value) -> Response {
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    (status, content_type, body.to_string()).into_response()
}

fn ok(body: &Value) -> Answer {
    Ok(json_response(StatusCode::OK, body))
}

fn object(body: &Bytes) -> Result<Map<String, Value>, RestError> {
    let bad = |message: String| RestError::new(StatusCode::BAD_REQUEST, message);
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(bad("the body must be a JSON object".to_owned())),
        Err(error) => Err(bad(format!("the body is no JSON: {error}"))),
    }
}

/// Whether the query holds `name=value`, or the value given under `name`. Values here never need decoding.
fn query_has(query: Option<&str>, name: &str, value: &str) -> bool {
    query
        .unwrap_or_default()
        .split('&')
        .any(|pair| pair.split_once('=') == Some((name, value)))
}

async fn root(State(worker): State<Worker>) -> Answer {
    let cluster = worker.client().admin().describe_cluster().await;
    let cluster = cluster.map_err(WorkerError::from)?;
    ok(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "commit": option_env!("HIGHWATER_COMMIT").unwrap_or("unknown"),
        "kafka_cluster_id": cluster.cluster_id.map(|id| id.to_string()),
    }))
}

async fn health(State(_): State<Worker>) -> Answer {
    ok(
        &json!({ "status": "healthy", "message": "Worker has completed startup and is ready to handle requests." }),
    )
}

async fn list(State(worker): State<Worker>, RawQuery(query): RawQuery) -> Answer {
    let names = worker.connectors();
    let expands = |what| query_has(query.as_deref(), "expand", what);
    let (with_status, with_info) = (expands("status"), expands("info"));
    if !with_status && !with_info {
        return ok(&json!(names));
    }
    let mut all = Map::new();
    for name in names {
        let mut entry = Map::new();
        // One that was deleted meanwhile is left out.
        if with_status && let Ok(status) = status_json(&worker, &name) {
            entry.insert("status".to_owned(), status);
        }
        if with_info && let Ok(info) = info_json(&worker, &name) {
            entry.insert("info".to_owned(), info);
        }
        if !entry.is_empty() {
            all.insert(name, Value::Object(entry));
        }
    }
    ok(&Value::Object(all))
}

fn info_json(worker: &Worker, name: &str) -> Result<Value, WorkerError> {
    let info = worker.info(name)?;
    let tasks: Vec<Value> = (0..info.tasks.len())
        .map(|task| json!({ "connector": name, "task": task }))
        .collect();
    Ok(json!({
        "name": name,
        "config": flat::to_flat(&info.document, worker.plugins()),
        "tasks": tasks,
        "type": info.kind,
    }))
}

fn report_json(status: &Status) -> Map<String, Value> {
    let mut report = Map::new();
    report.insert("state".to_owned(), json!(status.state));
    report.insert("worker_id".to_owned(), json!(status.worker_id));
    if let Some(trace) = &status.trace {
        report.insert("trace".to_owned(), json!(trace));
    }
    report
}

fn task_json((id, status): (usize, &Status)) -> Value {
    let mut report = report_json(status);
    report.insert("id".to_owned(), json!(id));
    Value::Object(report)
}

fn status_json(worker: &Worker, name: &str) -> Result<Value, WorkerError> {
    let status = worker.status(name)?;
    let tasks: Vec<Value> = status.tasks.iter().enumerate().map(task_json).collect();
    Ok(json!({
        "name": name,
        "connector": report_json(&status.connector),
        "tasks": tasks,
        "type": status.kind,
    }))
}

async fn create(State(worker): State<Worker>, body: Bytes) -> Answer {
    let bad = |message: &str| RestError::new(StatusCode::BAD_REQUEST, message);
    let mut body = object(&body)?;
    let Some(Value::String(name)) = body.remove("name") else {
        return Err(bad(
            "`name` is missing; the body is {\"name\": ..., \"config\": {...}}",
        ));
    };
    let Some(Value::Object(config)) = body.remove("config") else {
        return Err(bad(
            "`config` is missing; the body is {\"name\": ..., \"config\": {...}}",
        ));
    };
    let name = name.trim();
    let mut document = named(name, &config, None)?;
    if let Some(state) = body.get("initial_state") {
        let state = state.as_str().unwrap_or_default().to_lowercase();
        document.0.insert("state".to_owned(), Value::String(state));
    }
    worker.create(document).await?;
    let mut answer = json_response(StatusCode::CREATED, &info_json(&worker, name)?);
    if let Ok(location) = format!("/connectors/{name}").parse() {
        answer.headers_mut().insert(header::LOCATION, location);
    }
    Ok(answer)
}

fn named(name: &str, config: &Map<String, Value>, current: Option<&Document>) -> Result<Document, RestError> {
    let document = flat::from_flat(name, config, current);
    if document.name() != name {
        let message =
            format!("`name` in the configuration is not `{name}`; leave it out or make it the same");
        return Err(RestError::new(StatusCode::BAD_REQUEST, message));
    }
    Ok(document)
}

async fn info(State(worker): State<Worker>, Path(name): Path<String>) -> Answer {
    ok(&info_json(&worker, &name)?)
}

async fn delete(State(worker): State<Worker>, Path(name): Path<String>) -> Answer {
    worker.delete(&name).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn config(State(worker): State<Worker>, Path(name): Path<String>) -> Answer {
    let info = worker.info(&name)?;
    ok(&json!(flat::to_flat(&info.document, worker.plugins())))
}

async fn put_config(State(worker): State<Worker>, Path(name): Path<String>, body: Bytes) -> Answer {
    let current = worker.info(&name).ok().map(|info| info.document);
    let document = named(&name, &object(&body)?, current.as_ref())?;
    let status = match worker.apply(document).await? {
        Applied::Created => StatusCode::CREATED,
        Applied::Updated | Applied::Unchanged => StatusCode::OK,
    };
    Ok(json_response(status, &info_json(&worker, &name)?))
}

async fn status(State(worker): State<Worker>, Path(name): Path<String>) -> Answer {
    ok(&status_json(&worker, &name)?)
}

async fn restart(
    State(worker): State<Worker>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
) -> Answer {
    let asks = |what| query_has(query.as_deref(), what, "true");
    let (include_tasks, only_failed) = (asks("includeTasks"), asks("onlyFailed"));
    let request = RestartRequest {
        tasks: (!include_tasks).then(Vec::new),
        only_failed,
    };
    worker.restart(&name, request).await?;
    if include_tasks || only_failed {
        return Ok(json_response(StatusCode::ACCEPTED, &status_json(&worker, &name)?));
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn set_target(worker: Worker, name: String, state: TargetState, answer: StatusCode) -> Answer {
    worker.set_target(&name, state).await?;
    Ok(answer.into_response())
}

async fn pause(State(worker): State<Worker>, Path(name): Path<String>) -> Answer {
    set_target(worker, name, TargetState::Paused, StatusCode::ACCEPTED).await
}

async fn resume(State(worker): State<Worker>, Path(name): Path<String>) -> Answer {
    set_target(worker, name, TargetState::Running, StatusCode::ACCEPTED).await
}

async fn stop(State(worker): State<Worker>, Path(name): Path<String>) -> Answer {
    set_target(worker, name, TargetState::Stopped, StatusCode::NO_CONTENT).await
}

async fn tasks(State(worker): State<Worker>, Path(name): Path<String>) -> Answer {
    let info = worker.info(&name)?;
    let plugin = worker.plugins().get(info.document.plugin());
    let tasks = info.tasks.into_iter().enumerate().map(|(task, settings)| {
        let settings = match plugin {
            Some(plugin) => plugin.config().masked(&settings),
            // Nobody knows which of them are passwords.
            None => Default::default(),
        };
        json!({ "id": { "connector": name, "task": task }, "config": settings.0 })
    });
    ok(&tasks.collect())
}

fn task_number(name: &str, task: &str) -> Result<usize, RestError> {
    let unknown = format!("connector `{name}` has no task {task}");
    task.parse()
        .map_err(|_| RestError::new(StatusCode::NOT_FOUND, unknown))
}

async fn task_status(State(worker): State<Worker>, Path((name, task)): Path<(String, String)>) -> Answer {
    let task = task_number(&name, &task)?;
    let status = worker.status(&name)?;
    let found = status.tasks.get(task);
    let found = found.ok_or(WorkerError::UnknownTask { name, task })?;
    ok(&task_json((task, found)))
}

async fn restart_task(State(worker): State<Worker>, Path((name, task)): Path<(String, String)>) -> Answer {
    let request = RestartRequest {
        tasks: Some(vec![task_number(&name, &task)?]),
        only_failed: false,
    };
    worker.restart(&name, request).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn topics(State(worker): State<Worker>, Path(name): Path<String>) -> Answer {
    let document = worker.info(&name)?.document.0;
    let topics = match document.get("topics") {
        Some(Value::String(list)) => list.split(',').map(str::trim).collect(),
        Some(topics) => topics.clone(),
        None => document
            .get("topic")
            .and_then(|topic| topic.get("name"))
            .into_iter()
            .cloned()
            .collect(),
    };
    ok(&json!({ name: { "topics": topics } }))
}

async fn offsets(State(worker): State<Worker>, Path(name): Path<String>) -> Answer {
    let offsets: Vec<Value> = match worker.offsets(&name).await? {
        ConnectorOffsets::Source(offsets) => offsets
            .iter()
            .map(|(partition, offset)| json!({ "partition": partition, "offset": offset }))
            .collect(),
        ConnectorOffsets::Sink(offsets) => offsets
            .iter()
            .map(|(tp, offset)| {
                json!({
                    "partition": { "kafka_topic": tp.topic.as_str(), "kafka_partition": tp.partition.get() },
                    "offset": { "kafka_offset": offset.get() },
                })
            })
            .collect(),
    };
    ok(&json!({ "offsets": offsets }))
}

async fn plugins(State(worker): State<Worker>) -> Answer {
    let plugins: Vec<BTreeMap<&str, &str>> = worker
        .plugins()
        .iter()
        .map(|plugin| {
            BTreeMap::from([
                ("class", plugin.name()),
                ("type", plugin.kind()),
                ("version", env!("CARGO_PKG_VERSION")),
            ])
        })
        .collect();
    ok(&json!(plugins))
}
