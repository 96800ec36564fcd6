//! All parts of the house at work: a node, the topology, the connectors, a watcher.
//!
//! Nothing here knows that the node is in this process but the one line that starts it: with a client of
//! `Client::connect` the same pipeline runs on any Kafka.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use highwater_client::Client;
use highwater_connect::config::toml_file::TomlFile;
use highwater_connect::config::{ConnectorConfig, Document, Environment, TargetState};
use highwater_connect::{Plugins, RunState, Worker, WorkerConfig};
use highwater_connector_binance::BinanceSource;
use highwater_connector_database::DatabaseSink;
use highwater_connector_file::FileSink;
use highwater_embedded::{Embedded, EmbeddedConfig};
use highwater_streams::{Streams, StreamsConfig};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::database::Database;
use crate::exchange::{Exchange, Origin, Session};
use crate::polled::Polled;
use crate::screen::Screen;
use crate::topics::{self, Offsets};
use crate::topology::{self, ALERTS, APPLICATION, CANDLES, PRICES};
use crate::utc;
use crate::watch::{self, Board};

/// The connectors as they lie beside this program, carried inside it so that it runs from anywhere.
const CONNECTORS: [(&str, &str); 3] = [
    (
        "connectors/binance.toml",
        include_str!("../connectors/binance.toml"),
    ),
    (
        "connectors/candles.toml",
        include_str!("../connectors/candles.toml"),
    ),
    (
        "connectors/alerts.toml",
        include_str!("../connectors/alerts.toml"),
    ),
];
const SOURCE: &str = "binance";
const CANDLES_SINK: &str = "candles-to-database";
const ALERTS_SINK: &str = "alerts-to-files";

/// A candle is on the screen this soon after its price. A commit appends only what changed, so it may be often.
const COMMIT_INTERVAL: Duration = Duration::from_millis(20);

/// The one process of this application, a static member of its groups: after a kill it goes on at once, instead of
/// waiting until they have given up on the dead one.
const INSTANCE: &str = "the-only-one";
/// When they do give up; the shortest that a broker allows by default.
const SESSION_TIMEOUT: Duration = Duration::from_secs(6);
const START_TIMEOUT: Duration = Duration::from_secs(60);
const DRAIN_TIMEOUT: Duration = Duration::from_secs(60);
const DRAIN_POLL: Duration = Duration::from_millis(100);

/// What a pipeline is made of.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) data_dir: PathBuf,
    pub(crate) database: &'a Database,
    pub(crate) alerts_dir: PathBuf,
    pub(crate) origin: &'a Origin,
    pub(crate) binance_url: &'a str,
    pub(crate) kafka: SocketAddr,
    pub(crate) speed: f64,
    pub(crate) duration: Duration,
    pub(crate) alert_threshold_percent: f64,
}

/// A running pipeline.
#[derive(Debug)]
pub(crate) struct Pipeline {
    embedded: Embedded,
    pub(crate) client: Client,
    exchange: Exchange,
    streams: Streams,
    worker: Worker,
    watcher: JoinHandle<Result<()>>,
    stop_watching: CancellationToken,
    pub(crate) board: Board,
    /// Ends of the topics when this run began.
    pub(crate) began_at: Offsets,
}

impl Pipeline {
    /// Starts every part, the source last: nothing is polled before there is somebody to work on it.
    ///
    /// # Errors
    /// The first part that cannot start.
    pub(crate) async fn start(plan: &Plan<'_>, screen: &Screen) -> Result<Self> {
        let documents = documents()?;
        let symbols = symbols_of(&documents)?;
        let embedded = start_node(plan, screen).await?;
        let client = embedded.client();
        topics::create(&client).await?;

        let exchange = open_exchange(plan, &client, &symbols, screen).await?;

        let began_at = topics::ends(&client, &[PRICES, CANDLES, ALERTS]).await?;
        let (board, stop_watching) = (Board::new()?, CancellationToken::new());
        let watching = watch::watch(
            client.clone(),
            began_at.clone(),
            board.clone(),
            stop_watching.clone(),
        );
        let watcher = tokio::spawn(watching);

        let config = StreamsConfig {
            group_instance_id: Some(INSTANCE.to_owned()),
            session_timeout: SESSION_TIMEOUT,
            commit_interval: COMMIT_INTERVAL,
            ..StreamsConfig::in_dir(plan.data_dir.join("streams"))
        };
        let topology = topology::build(plan.alert_threshold_percent)?;
        let streams = Streams::start(topology, client.clone(), config)
            .await
            .context("cannot start the topology")?;
        tokio::time::timeout(START_TIMEOUT, streams.running())
            .await
            .context("the topology's tasks did not start in time")?
            .context("the topology failed")?;
        let metrics = streams.metrics().await;
        screen.say(&format!(
            "streams     topology `{APPLICATION}`: {} tasks over RocksDB{}",
            metrics.running_tasks,
            match metrics.restored_records {
                0 => String::new(),
                records => format!(", {records} changes restored from changelogs"),
            }
        ));

        let worker = start_worker(plan, &exchange, &client).await?;
        for document in documents {
            let name = document.name().to_owned();
            let _ = worker
                .apply(document)
                .await
                .with_context(|| format!("cannot start connector {name}"))?;
            worker.set_target(&name, TargetState::Running).await?;
        }
        screen.say(&format!(
            "connect     {SOURCE} -> {PRICES}; {CANDLES} -> {}",
            plan.database.place()
        ));
        screen.say(&format!("            {ALERTS} -> {}", plan.alerts_dir.display()));

        Ok(Self {
            embedded,
            client,
            exchange,
            streams,
            worker,
            watcher,
            stop_watching,
            board,
            began_at,
        })
    }

    /// Waits for the topology to fail, which it should not; returns why.
    pub(crate) async fn failed(&self) -> anyhow::Error {
        match self.streams.ended().await {
            Ok(()) => anyhow::anyhow!("the topology ended by itself"),
            Err(error) => anyhow::Error::new(error).context("the topology failed"),
        }
    }

    /// Stops the source, lets everything that is under way arrive, then stops the topology and the connectors. The node
    /// stays for questions.
    ///
    /// # Errors
    /// What failed, or what did not arrive in time.
    pub(crate) async fn drain(self) -> Result<Drained> {
        let failures = self.failed_connectors();
        self.worker.set_target(SOURCE, TargetState::Stopped).await?;
        self.wait_until("the source has stopped", async || {
            let status = self.worker.status(SOURCE)?;
            Ok(status.tasks.is_empty() || status.connector.state == RunState::Stopped)
        })
        .await?;
        // A commit comes after the outputs it stands for, so each topic is complete once its reader's input is.
        for (group, topic) in [
            (APPLICATION.to_owned(), PRICES),
            (APPLICATION.to_owned(), CANDLES),
            (ConnectorConfig::sink_group(CANDLES_SINK), CANDLES),
            (ConnectorConfig::sink_group(ALERTS_SINK), ALERTS),
        ] {
            self.wait_until(&format!("{group} has read all of {topic}"), async || {
                self.has_read(&group, topic).await
            })
            .await
            .with_context(|| failures.join("; "))?;
        }
        self.worker.shutdown().await;
        self.streams
            .shutdown()
            .await
            .context("the topology did not stop in order")?;
        // One more round trip, so that the watcher has what was written last.
        tokio::time::sleep(DRAIN_POLL).await;
        self.stop_watching.cancel();
        self.watcher.await.context("the watcher died")??;
        drop(self.exchange);
        Ok(Drained {
            embedded: self.embedded,
            client: self.client,
            board: self.board,
            began_at: self.began_at,
            failures,
        })
    }

    async fn wait_until(&self, what: &str, reached: impl AsyncFn() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + DRAIN_TIMEOUT;
        while !reached().await? {
            if Instant::now() > deadline {
                bail!("waited {DRAIN_TIMEOUT:?} in vain until {what}");
            }
            tokio::time::sleep(DRAIN_POLL).await;
        }
        Ok(())
    }

    /// Whether a group has committed everything that a topic holds.
    async fn has_read(&self, group: &str, topic: &str) -> Result<bool> {
        let committed = self.client.admin().list_group_offsets(&group.into()).await?;
        let ends = topics::ends(&self.client, &[topic]).await?;
        Ok(ends.iter().all(|(partition, end)| {
            let committed = committed.get(partition).map(|it| it.offset);
            end.get() == 0 || committed >= Some(*end)
        }))
    }

    /// What connectors that do not run say about it.
    fn failed_connectors(&self) -> Vec<String> {
        let mut failures = Vec::new();
        for name in [SOURCE, CANDLES_SINK, ALERTS_SINK] {
            let Ok(status) = self.worker.status(name) else {
                continue;
            };
            for report in std::iter::once(&status.connector).chain(&status.tasks) {
                if let (RunState::Failed, Some(trace)) = (report.state, &report.trace) {
                    failures.push(format!("connector {name}: {trace}"));
                }
            }
        }
        failures
    }
}

/// A pipeline that is done; its topics can still be read.
#[derive(Debug)]
pub(crate) struct Drained {
    embedded: Embedded,
    pub(crate) client: Client,
    pub(crate) board: Board,
    pub(crate) began_at: Offsets,
    /// What connectors complained about last.
    pub(crate) failures: Vec<String>,
}

impl Drained {
    /// Stops the node.
    ///
    /// # Errors
    /// When its logs cannot be made durable.
    pub(crate) async fn shutdown(self) -> Result<()> {
        drop(self.client);
        self.embedded
            .shutdown()
            .await
            .context("the node did not stop in order")
    }
}

async fn start_node(plan: &Plan<'_>, screen: &Screen) -> Result<Embedded> {
    let node_dir = plan.data_dir.join("node");
    let listener = match std::net::TcpListener::bind(plan.kafka) {
        Err(error) if error.kind() == ErrorKind::AddrInUse => SocketAddr::new(plan.kafka.ip(), 0),
        // Free, or something that the node will say better.
        _ => plan.kafka,
    };
    let config = EmbeddedConfig::new(&node_dir).listen(listener);
    let embedded = Embedded::start(config)
        .await
        .with_context(|| format!("cannot start the node in {}", node_dir.display()))?;
    if let Some(address) = embedded.kafka_addr() {
        let note = match listener == plan.kafka {
            true => String::new(),
            false => format!(" ({} is taken)", plan.kafka),
        };
        screen.say(&format!("node        Kafka clients can watch at {address}{note}"));
    }
    Ok(embedded)
}

async fn open_exchange(
    plan: &Plan<'_>,
    client: &Client,
    symbols: &[String],
    screen: &Screen,
) -> Result<Exchange> {
    let session = Session {
        binance_url: plan.binance_url,
        speed: plan.speed,
        duration: plan.duration,
        last_event_ms: topics::last_event_ms(client).await?,
        symbols,
        now_ms: utc::now_ms(),
    };
    let exchange = plan.origin.open(&session).await?;
    if let Some(stand_in) = &exchange.stand_in {
        screen.say(&format!(
            "exchange    its clock {} at {} UTC, {} exchange seconds per second",
            if session.last_event_ms.is_some() {
                "goes on"
            } else {
                "starts"
            },
            utc::date_and_clock(stand_in.now_ms()),
            (exchange.speed * 10.0).round() / 10.0,
        ));
    }
    Ok(exchange)
}

async fn start_worker(plan: &Plan<'_>, exchange: &Exchange, client: &Client) -> Result<Worker> {
    let variables = BTreeMap::from([
        ("BINANCE_URL", exchange.base_url.clone()),
        ("POLL_INTERVAL", exchange.poll_interval.to_owned()),
        ("KLINES_POLL_INTERVAL", exchange.klines_poll_interval.to_owned()),
        ("DATABASE_URL", plan.database.url()),
        ("ALERTS_DIR", plan.alerts_dir.display().to_string()),
    ]);
    let plugins = Plugins::new()
        .source(Polled(BinanceSource))
        .sink(DatabaseSink)
        .sink(FileSink);
    let config = WorkerConfig {
        instance_id: Some(INSTANCE.to_owned()),
        session_timeout: SESSION_TIMEOUT,
        environment: Environment::new(move |name| variables.get(name).cloned()),
        ..WorkerConfig::new("connect")?
    };
    Worker::start(client.clone(), plugins, config)
        .await
        .context("cannot start the connectors' worker")
}

fn documents() -> Result<Vec<Document>> {
    let parse = |(path, text)| {
        let file = TomlFile::parse(text).with_context(|| format!("cannot read {path}"))?;
        Ok(file.document)
    };
    CONNECTORS.into_iter().map(parse).collect()
}

/// The symbols that the source asks for, so that they are written down in one place only.
pub(crate) fn symbols() -> Result<Vec<String>> {
    symbols_of(&documents()?)
}

fn symbols_of(documents: &[Document]) -> Result<Vec<String>> {
    let source = documents.iter().find(|document| document.name() == SOURCE);
    let symbols = source.and_then(|document| document.settings().0.get("symbols")?.as_array().cloned());
    let symbols = symbols.context("connectors/binance.toml names no symbols")?;
    Ok(symbols
        .iter()
        .filter_map(|it| Some(it.as_str()?.to_owned()))
        .collect())
}
