//! `highwater connect`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use highwater_connect::{Plugin, RestServer, Worker, WorkerConfig, check, process_environment};
use reqwest::Method;
use serde_json::{Value, json};

use crate::node::{apply_files, plugins};
use crate::output::{Output, line};
use crate::{Global, cluster, shutdown};

/// How long a worker may take to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What to do with connectors.
#[derive(Debug, Subcommand)]
pub(crate) enum ConnectCommand {
    /// Check connector files; reports every problem with file and line, and needs no running worker.
    Check {
        /// TOML files, or folders of them.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Run a worker on the cluster that --bootstrap names, Highwater or Apache Kafka, until it is stopped.
    Run {
        /// TOML files, or folders of them, to run from the start; more can come over the REST API.
        files: Vec<PathBuf>,
        /// Workers of one group share the connectors.
        #[arg(long, default_value = "highwater")]
        group: String,
        /// Where the REST API listens.
        #[arg(long, default_value = "127.0.0.1:8083", value_name = "HOST:PORT")]
        rest: SocketAddr,
    },
    /// Create connectors from files, or change them to what the files say.
    Apply {
        /// TOML files, or folders of them.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        worker: WorkerAddress,
    },
    /// List connectors and their states.
    List {
        #[command(flatten)]
        worker: WorkerAddress,
    },
    /// Show the state of a connector and its tasks.
    Status(Named),
    /// Show how far a connector has read.
    Offsets(Named),
    /// Pause a connector; its tasks stay where they are.
    Pause(Named),
    /// Go on after a pause or a stop.
    Resume(Named),
    /// Stop a connector; its tasks end.
    Stop(Named),
    /// Restart a connector and its tasks.
    Restart {
        #[command(flatten)]
        named: Named,
        /// Only what has failed.
        #[arg(long)]
        only_failed: bool,
    },
    /// Delete a connector. Its offsets stay.
    Delete(Named),
    /// List the plugins, or show the settings of one.
    Plugins {
        /// Name of the plugin.
        name: Option<String>,
    },
}

/// Where the worker is.
#[derive(Debug, Args)]
pub(crate) struct WorkerAddress {
    /// The REST API of a worker.
    #[arg(long, env = "HIGHWATER_CONNECT", default_value = "http://127.0.0.1:8083")]
    url: String,
}

/// One connector.
#[derive(Debug, Args)]
pub(crate) struct Named {
    /// Name of the connector.
    name: String,
    #[command(flatten)]
    worker: WorkerAddress,
}

pub(crate) async fn run(command: ConnectCommand, global: &Global, output: &Output) -> Result<()> {
    match command {
        ConnectCommand::Run { files, group, rest } => run_worker(&files, &group, rest, global).await,
        ConnectCommand::Check { files } => check_files(&files, output).map(drop),
        ConnectCommand::Apply { files, worker } => apply(&files, &worker, output).await,
        ConnectCommand::List { worker } => list(&worker, output).await,
        ConnectCommand::Status(named) => status(&named, output).await,
        ConnectCommand::Offsets(named) => {
            let offsets = named.request(Method::GET, "/offsets", None).await?;
            line(&serde_json::to_string_pretty(&offsets)?)
        }
        ConnectCommand::Pause(named) => named.change(Method::PUT, "/pause", "pausing", output).await,
        ConnectCommand::Resume(named) => named.change(Method::PUT, "/resume", "resuming", output).await,
        ConnectCommand::Stop(named) => named.change(Method::PUT, "/stop", "stopping", output).await,
        ConnectCommand::Restart { named, only_failed } => {
            let path = format!("/restart?includeTasks=true&onlyFailed={only_failed}");
            named.change(Method::POST, &path, "restarting", output).await
        }
        ConnectCommand::Delete(named) => named.change(Method::DELETE, "", "deleted", output).await,
        ConnectCommand::Plugins { name } => show_plugins(name.as_deref(), output),
    }
}

impl WorkerAddress {
    async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        // A second installation finds the first and is refused: either way a provider is there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        let client = reqwest::Client::builder().timeout(TIMEOUT).build()?;
        let mut request = client.request(method, &url);
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.with_context(|| {
            format!(
                "no worker answers at {}; `highwater dev` starts one, --url names another",
                self.url
            )
        })?;
        let status = response.status();
        let text = response.text().await?;
        let answer: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if !status.is_success() {
            bail!("{}", answer["message"].as_str().unwrap_or(text.as_str()));
        }
        Ok(answer)
    }
}

impl Named {
    async fn request(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        self.worker
            .request(method, &format!("/connectors/{}{path}", self.name), body)
            .await
    }

    async fn change(&self, method: Method, path: &str, verb: &str, output: &Output) -> Result<()> {
        self.request(method, path, None).await?;
        output.done(
            &format!("{verb} {}", self.name),
            json!({ "connector": self.name, "change": verb }),
        )
    }
}

async fn run_worker(files: &[PathBuf], group: &str, rest: SocketAddr, global: &Global) -> Result<()> {
    let stop = tokio::spawn(shutdown::requested());
    let config = WorkerConfig {
        worker_id: rest.to_string(),
        ..WorkerConfig::new(group)?
    };
    let client = cluster::connect(global).await?;
    let bootstrap = client.config().bootstrap.join(",");
    let worker = Worker::start(client, plugins(), config)
        .await
        .context("the worker does not start")?;
    apply_files(&worker, files).await?;
    let server = RestServer::bind(rest, worker.clone())
        .await
        .with_context(|| format!("cannot listen on {rest} (--rest)"))?;
    line(&format!(
        "worker of group {group} is ready: connect={} on {bootstrap}",
        server.local_addr(),
    ))?;
    stop.await??;
    server.shutdown().await;
    worker.shutdown().await;
    Ok(())
}

fn check_files(files: &[PathBuf], output: &Output) -> Result<highwater_connect::config::Report> {
    let report = check(files, &plugins(), &process_environment());
    for problem in &report.problems {
        eprintln!("{problem}");
    }
    if !report.is_ok() {
        bail!("{} problems found", report.problems.len());
    }
    for connector in &report.connectors {
        let (name, path) = (connector.document.name(), connector.path.display().to_string());
        output.done(
            &format!("{path}: {name} is fine"),
            json!({ "file": path, "connector": name, "ok": true }),
        )?;
    }
    Ok(report)
}

async fn apply(files: &[PathBuf], worker: &WorkerAddress, output: &Output) -> Result<()> {
    for connector in check_files(files, output)?.connectors {
        let name = connector.document.name().to_owned();
        let body = Value::Object(connector.document.0);
        worker
            .request(Method::PUT, &format!("/connectors/{name}/config"), Some(&body))
            .await?;
        output.done(
            &format!("applied {name}"),
            json!({ "connector": name, "applied": true }),
        )?;
    }
    Ok(())
}

async fn list(worker: &WorkerAddress, output: &Output) -> Result<()> {
    let connectors = worker
        .request(Method::GET, "/connectors?expand=status", None)
        .await?;
    let rows = connectors
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, expanded)| {
            let status = &expanded["status"];
            let tasks = status["tasks"].as_array().map_or(0, Vec::len);
            let running = status["tasks"].as_array().map_or(0, |tasks| {
                tasks.iter().filter(|task| task["state"] == "RUNNING").count()
            });
            vec![
                json!(name),
                status["type"].clone(),
                status["connector"]["state"].clone(),
                json!(format!("{running} of {tasks}")),
            ]
        })
        .collect();
    output.rows(&["name", "type", "state", "running tasks"], rows)
}

async fn status(named: &Named, output: &Output) -> Result<()> {
    let status = named.request(Method::GET, "/status", None).await?;
    if output.is_json() {
        return line(&serde_json::to_string_pretty(&status)?);
    }
    line(&format!(
        "{} ({}): {}",
        named.name,
        status["type"].as_str().unwrap_or("unknown"),
        status["connector"]["state"].as_str().unwrap_or("unknown")
    ))?;
    let rows = status["tasks"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|task| {
            vec![
                task["id"].clone(),
                task["state"].clone(),
                task["worker_id"].clone(),
                task["trace"].clone(),
            ]
        })
        .collect();
    output.rows(&["task", "state", "worker", "trace"], rows)
}

fn show_plugins(name: Option<&str>, output: &Output) -> Result<()> {
    let plugins = plugins();
    let Some(name) = name else {
        let rows = plugins
            .iter()
            .map(|plugin| vec![json!(plugin.name()), json!(plugin.kind()), json!(plugin.about())])
            .collect();
        return output.rows(&["name", "type", "about"], rows);
    };
    let Some(plugin) = plugins.get(name) else {
        let known: Vec<&str> = plugins.iter().map(Plugin::name).collect();
        bail!("there is no plugin `{name}`; known are {}", known.join(", "));
    };
    let rows = plugin
        .config()
        .keys
        .iter()
        .map(|key| {
            vec![
                json!(key.name),
                json!(key.default),
                json!(key.required),
                json!(key.doc),
            ]
        })
        .collect();
    output.rows(&["setting", "default", "required", "about"], rows)
}
