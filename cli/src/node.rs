//! `highwater dev` and `highwater server`: a node with everything on it.
//!
//! Invariant: the line that contains `ready` is printed when, and only when, every port serves.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;
use highwater_broker::{Limits, ListenerConfig, LogLevels, SecurityProtocol};
use highwater_client::Client;
use highwater_connect::{Document, Plugins, RestServer, Worker, WorkerConfig, check, process_environment};
use highwater_embedded::{Embedded, EmbeddedConfig, KAFKA_LISTENER};
use highwater_sql::pgwire::PgServer;
use highwater_sql::{Engine, EngineConfig};

use crate::config::{self, InvalidConfig, LogFormat, ServerConfig};
use crate::http::HttpServer;
use crate::metrics::Metrics;
use crate::output::line;
use crate::{shutdown, supervisor};

/// Run a node on this machine with nothing to configure.
#[derive(Debug, Args)]
#[command(after_help = "\
Point any Kafka client at the Kafka address, psql at the SQL address (psql -h 127.0.0.1 -p 5433), curl or a Connect console
at the Connect address, and Prometheus at http://127.0.0.1:8080/metrics. Port 0 picks a free one; the line that says
`ready` names them all.")]
pub(crate) struct DevArgs {
    /// Where the log, the offsets and the metadata live.
    #[arg(long, default_value = "./highwater-data", env = "HIGHWATER_DATA_DIR")]
    data_dir: PathBuf,
    /// Where Kafka clients connect.
    #[arg(long, default_value = "127.0.0.1:9092", value_name = "HOST:PORT")]
    kafka: SocketAddr,
    /// Metrics and health.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "HOST:PORT")]
    http: SocketAddr,
    /// Connect's REST API.
    #[arg(long, default_value = "127.0.0.1:8083", value_name = "HOST:PORT")]
    connect: SocketAddr,
    /// SQL on the Postgres wire.
    #[arg(long, default_value = "127.0.0.1:5433", value_name = "HOST:PORT")]
    sql: SocketAddr,
    /// Connector files, or folders of them, to run from the start.
    #[arg(long, value_name = "PATH")]
    connectors: Vec<PathBuf>,
    /// A broker property by Kafka's name, such as num.partitions=3; may be given several times.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = property)]
    properties: Vec<(String, String)>,
}

/// Run a node as a configuration file says.
#[derive(Debug, Args)]
#[command(after_help = "\
The smallest file:

  [node]
  data_dir = \"/var/lib/highwater\"

Every key with its default and meaning: highwater server --print-reference-config
What a file would mean, and what is wrong with it: highwater check-config -c FILE

Exit codes: 0 stopped cleanly, 1 failed, 2 the command line is wrong, 69 another process has the port or the data
directory, 78 the configuration is wrong, 130 stopped at once after a second signal.")]
pub(crate) struct ServerArgs {
    /// The configuration file.
    #[arg(long, short, required_unless_present_any = ["print_reference_config", "print_metrics_reference"])]
    config: Option<PathBuf>,
    /// Print a configuration file with every key, its default and its meaning.
    #[arg(long)]
    print_reference_config: bool,
    /// Print what /metrics shows, as the page `docs/metrics.md`.
    #[arg(long)]
    print_metrics_reference: bool,
}

impl ServerArgs {
    /// The page that is asked for instead of a node.
    pub(crate) fn page(&self) -> Option<String> {
        if self.print_metrics_reference {
            return Some(crate::metrics::reference());
        }
        self.print_reference_config.then(config::reference::text)
    }

    /// The configuration, or nothing if only a page is asked for.
    ///
    /// # Errors
    /// [`InvalidConfig`] with every problem.
    pub(crate) fn load(&self) -> Result<Option<ServerConfig>, InvalidConfig> {
        match &self.config {
            Some(path) if self.page().is_none() => config::load(path, &config::process_environment())
                .into_config()
                .map(Some),
            _ => Ok(None),
        }
    }
}

fn property(text: &str) -> Result<(String, String), String> {
    text.split_once('=')
        .map(|(n, v)| (n.to_owned(), v.to_owned()))
        .ok_or_else(|| "write it as name=value".to_owned())
}

/// How long connectors and listeners may take to end when the disk has failed under them.
const STOP_AFTER_FAILURE: std::time::Duration = std::time::Duration::from_secs(5);

pub(crate) async fn dev(args: DevArgs, log_levels: Arc<dyn LogLevels>) -> Result<()> {
    let DevArgs {
        data_dir,
        kafka,
        http,
        connect,
        sql,
        connectors,
        properties,
    } = args;
    // One person at a time works with a development node: groups need not wait for more members.
    let mut all = BTreeMap::from([("group.initial.rebalance.delay.ms".to_owned(), "0".to_owned())]);
    all.extend(properties);
    let settings = ServerConfig {
        data_dir,
        connectors,
        kafka: vec![ListenerConfig {
            name: KAFKA_LISTENER.to_owned(),
            protocol: SecurityProtocol::Plaintext,
            bind: kafka,
            advertised: None,
        }],
        http,
        connect,
        sql,
        log_level: String::new(),
        log_format: LogFormat::Text,
        limits: Limits::default(),
        properties: all,
    };
    serve(settings, log_levels).await
}

/// Runs a node until it is told to stop. Its configuration is read before, since it says how to log.
pub(crate) async fn server(
    args: &ServerArgs,
    config: Option<ServerConfig>,
    log_levels: Arc<dyn LogLevels>,
) -> Result<()> {
    match config {
        Some(config) => serve(config, log_levels).await,
        None => line(args.page().unwrap_or_default().trim_end()),
    }
}

async fn serve(settings: ServerConfig, log_levels: Arc<dyn LogLevels>) -> Result<()> {
    let started = Instant::now();
    // From here on a signal means a clean stop, even one that comes before everything is up.
    let stop = tokio::spawn(shutdown::requested());
    let metrics = Metrics::install()?;
    let node = Arc::new(start_log(&settings, log_levels).await?);
    let parts = match start_parts(&settings, &node, metrics).await {
        Ok(parts) => parts,
        Err(error) => {
            stop_log(node).await?;
            return Err(error);
        }
    };
    let kafka = kafka_addresses(&settings, &node);
    parts.http.set_ready();
    println!(
        "highwater is ready: kafka={kafka} http={} connect={} sql={} ({} ms, data in {})",
        parts.http.address,
        parts.rest.local_addr(),
        parts.postgres.local_addr(),
        started.elapsed().as_millis(),
        settings.data_dir.display()
    );
    supervisor::notify(supervisor::READY);
    tokio::select! {
        asked = stop => asked??,
        failure = node.failed() => {
            // What is left to do is to say so: nothing can be made durable any more.
            let _ = tokio::time::timeout(STOP_AFTER_FAILURE, parts.stop()).await;
            return Err(failure.into());
        }
    }
    tracing::info!("stopping");
    supervisor::notify(supervisor::STOPPING);
    parts.stop().await;
    stop_log(node).await?;
    tracing::info!("stopped cleanly");
    Ok(())
}

/// Where the listeners are bound; all but plain ones with their names.
fn kafka_addresses(settings: &ServerConfig, node: &Embedded) -> String {
    let bound = settings.kafka.iter().filter_map(|listener| {
        let address = node.node().listener_addr(&listener.name)?;
        Some(match listener.name.as_str() {
            KAFKA_LISTENER => address.to_string(),
            name => format!("{name}://{address}"),
        })
    });
    bound.collect::<Vec<_>>().join(",")
}

async fn start_log(settings: &ServerConfig, log_levels: Arc<dyn LogLevels>) -> Result<Embedded> {
    let mut config = EmbeddedConfig::new(&settings.data_dir);
    config.listeners.clone_from(&settings.kafka);
    config.properties.clone_from(&settings.properties);
    config.limits = settings.limits.clone();
    config.log_levels = Some(log_levels);
    Embedded::start(config).await.context("the node does not start")
}

async fn stop_log(node: Arc<Embedded>) -> Result<()> {
    // The HTTP port may still answer a scrape; it holds the node for as long as that takes.
    let mut node = node;
    for _ in 0..100 {
        match Arc::try_unwrap(node) {
            Ok(node) => {
                return node
                    .shutdown()
                    .await
                    .context("the node did not stop cleanly; the next start recovers");
            }
            Err(shared) => {
                node = shared;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    }
    anyhow::bail!("a request is still in work after two seconds; the next start recovers")
}

/// What runs beside the log.
struct Parts {
    http: HttpServer,
    worker: Worker,
    rest: RestServer,
    postgres: PgServer,
    /// What `postgres` runs on.
    sql_runtime: SqlRuntime,
}

async fn start_parts(settings: &ServerConfig, node: &Arc<Embedded>, metrics: Metrics) -> Result<Parts> {
    let client = node.client();
    let mut config = WorkerConfig::new("highwater")?;
    config.worker_id = settings.connect.to_string();
    // A static member takes its tasks up at once after a crash, without waiting for the session to time out.
    config.instance_id = Some(format!("node-{}", node.node().node_id()));
    let worker = Worker::start(client.clone(), plugins(), config)
        .await
        .context("the connect worker does not start")?;
    apply_files(&worker, &settings.connectors).await?;
    let rest = RestServer::bind(settings.connect, worker.clone())
        .await
        .with_context(|| format!("cannot listen on {} (--connect)", settings.connect))?;
    let (sql_runtime, postgres) = start_sql(client.clone(), settings.sql).await?;
    let http = HttpServer::start(settings.http, metrics, Arc::clone(node)).await?;
    Ok(Parts {
        http,
        worker,
        rest,
        postgres,
        sql_runtime,
    })
}

/// Threads of their own for SQL, with the stack that its deepest statements need: whatever people ask there, the threads
/// that serve the log stay free.
async fn start_sql(client: Client, address: SocketAddr) -> Result<(SqlRuntime, PgServer)> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("sql")
        .thread_stack_size(highwater_sql::STACK_BYTES)
        .build()
        .context("cannot start the threads of SQL")?;
    let threads = runtime.handle().clone();
    let runtime = SqlRuntime(Some(runtime));
    let starting = threads.spawn(async move {
        let engine = Engine::new(client, EngineConfig::default()).await?;
        PgServer::bind(address, engine)
            .await
            .with_context(|| format!("cannot listen on {address} (--sql)"))
    });
    let server = starting.await.context("the start of SQL ended badly")??;
    Ok((runtime, server))
}

/// Must not be dropped by a thread of another runtime that waits for it; this lets it end by itself.
struct SqlRuntime(Option<tokio::runtime::Runtime>);

impl Drop for SqlRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Makes a worker's connectors what the files say.
pub(crate) async fn apply_files(worker: &Worker, files: &[PathBuf]) -> Result<()> {
    for connector in connector_documents(files)? {
        let name = connector.name().to_owned();
        let applied = worker
            .apply(connector)
            .await
            .with_context(|| format!("connector {name}"))?;
        tracing::info!(connector = name, ?applied, "connector from its file");
    }
    Ok(())
}

/// The connectors of the files, if all of them are in order.
fn connector_documents(files: &[PathBuf]) -> Result<Vec<Document>> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let report = check(files, &plugins(), &process_environment());
    if !report.is_ok() {
        let problems: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
        anyhow::bail!("connectors that cannot run:\n  {}", problems.join("\n  "));
    }
    Ok(report
        .connectors
        .into_iter()
        .map(|connector| connector.document)
        .collect())
}

/// The connectors that come with the binary.
pub(crate) fn plugins() -> Plugins {
    Plugins::new()
        .source(highwater_connector_binance::BinanceSource)
        .sink(highwater_connector_database::DatabaseSink)
        .sink(highwater_connector_file::FileSink)
}

impl Parts {
    async fn stop(self) {
        self.http.shutdown();
        self.postgres.shutdown().await;
        drop(self.sql_runtime);
        self.rest.shutdown().await;
        self.worker.shutdown().await;
    }
}
