//! The BTC price pipeline, end to end: prices from an exchange into the log, candles, averages and alerts out of them,
//! into a database and files, with SQL and a chart at the end.
//!
//! One process, no servers to install: the log runs embedded. The same topology and connectors run against a cluster.
//!
//! # Reading order
//! [`topology`] (the pipeline's own logic), [`pipeline`] (what is started in which order), [`exchange`], [`report`];
//! the rest serves these.

mod chart;
mod database;
mod exchange;
mod logging;
mod pipeline;
mod polled;
mod report;
mod screen;
mod topics;
mod topology;
mod utc;
mod watch;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use tokio_util::sync::CancellationToken;

use database::Database;
use exchange::{Choice, Origin, Wishes};
use pipeline::{Pipeline, Plan};
use report::Run;
use screen::Screen;

const DEFAULT_DIR: &str = "highwater-data/btc-pipeline";

/// Runs the BTC price pipeline: prices of several symbols become 1-minute candles, moving averages and volatility
/// alerts; candles go to a database, alerts to files; SQL and a chart show the outcome.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "Examples:\n  \
        btc-pipeline                                  a minute of prices, simulated if Binance is away\n  \
        btc-pipeline --offline --duration 20s         twenty simulated minutes\n  \
        btc-pipeline --postgres postgres://me@db/btc  candles into PostgreSQL\n\n\
        While it runs, any Kafka client can watch:\n  \
        kcat -b 127.0.0.1:9092 -t candles -C\n\n\
        Ctrl-C ends it early, with the same summary. Killed and started again with the same\n\
        --data-dir, it goes on where it stood: no candle is lost, none is counted twice."
)]
struct Options {
    /// How long to run, such as 30s, 5m or 1h
    #[arg(long, default_value = "60s", value_parser = duration)]
    duration: Duration,
    /// Where everything is kept [default: a directory per exchange below ./highwater-data/btc-pipeline]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Do not ask Binance; simulate an exchange
    #[arg(long)]
    offline: bool,
    /// Keep candles in PostgreSQL instead of SQLite, such as postgres://user:password@host/database
    #[arg(long, value_name = "URL", env = "HIGHWATER_DEMO_POSTGRES", hide_env_values = true, value_parser = postgres)]
    postgres: Option<String>,
    /// Exchange seconds per second, when simulating (1 to 600)
    #[arg(long, value_name = "N", default_value_t = 60.0, value_parser = speed)]
    speed: f64,
    /// Seed of simulated prices; the same seed gives the same price at the same moment
    #[arg(long, value_name = "N", default_value_t = 7)]
    seed: u64,
    /// Where Kafka clients can watch; a free port is taken if this one is not
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9092")]
    kafka: SocketAddr,
    /// Binance's REST host
    #[arg(long, value_name = "URL", env = "BINANCE_URL", default_value = exchange::BINANCE_URL)]
    binance_url: String,
    /// Swing of a minute, in percent of its open, above which it is an alert
    #[arg(long, value_name = "PERCENT", default_value_t = 0.15)]
    alert_percent: f64,
    /// Tell what every part does, on standard error
    #[arg(long, short)]
    verbose: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    highwater_connect_api::units::parse_duration(text).map_err(|error| error.to_string())
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(speed) if (1.0..=600.0).contains(&speed) => Ok(speed),
        _ => Err("must be a number from 1 to 600".to_owned()),
    }
}

fn postgres(text: &str) -> Result<String, String> {
    match text.starts_with("postgres://") || text.starts_with("postgresql://") {
        true => Ok(text.to_owned()),
        false => Err("must begin with postgres://".to_owned()),
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let screen = Screen::new();
    logging::start(&screen, options.verbose);
    let outcome = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
        .and_then(|runtime| runtime.block_on(run(&options, &screen)));
    let problems = outcome.unwrap_or_else(|error| vec![told(&error)]);
    for problem in &problems {
        eprintln!("error: {problem}");
    }
    ExitCode::from(u8::from(!problems.is_empty()))
}

/// An error with its causes. Some messages include their cause already; that one is not repeated.
fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

/// One run, from the choice of an exchange to the summary. Returns what is not as it should be.
async fn run(options: &Options, screen: &Screen) -> Result<Vec<String>> {
    let stop = stop_on_signal(screen.clone())?;
    let choice = choose_exchange(options, screen).await?;
    let data_dir = std::fs::canonicalize(&choice.data_dir)
        .with_context(|| format!("cannot use {}", choice.data_dir.display()))?;
    let database = match &options.postgres {
        Some(url) => Database::Postgres(url.clone()),
        None => Database::Sqlite(data_dir.join("candles.db")),
    };
    database.check().await?;
    let plan = Plan {
        database: &database,
        alerts_dir: data_dir.join("alerts"),
        origin: &choice.origin,
        binance_url: &options.binance_url,
        kafka: options.kafka,
        speed: options.speed,
        duration: options.duration,
        alert_threshold_percent: options.alert_percent,
        data_dir: data_dir.clone(),
    };
    let Some(pipeline) = stop.run_until_cancelled(Pipeline::start(&plan, screen)).await else {
        screen.say("stopped before the pipeline ran");
        return Ok(Vec::new());
    };
    let pipeline = pipeline?;

    screen.say(&format!(
        "running     for {:?}; Ctrl-C ends it early\n",
        options.duration
    ));
    let symbols = pipeline::symbols()?;
    let was_interrupted = tokio::select! {
        () = screen.follow(&pipeline.board, &symbols, options.duration) => false,
        () = stop.cancelled() => true,
        error = pipeline.failed() => return Err(error),
    };
    screen.say(match was_interrupted {
        true => "stopping    letting everything under way arrive",
        false => "time is up  letting everything under way arrive",
    });
    let drained = pipeline.drain().await?;
    let run = Run {
        origin: origin_text(&choice),
        was_interrupted,
        database: &database,
        chart: &data_dir.join("chart.html"),
        alerts_dir: &plan.alerts_dir,
        data_dir: &data_dir,
    };
    let mut problems = report::report(&drained, &run, screen).await?;
    problems.extend(drained.failures.iter().cloned());
    drained.shutdown().await?;
    Ok(problems)
}

async fn choose_exchange(options: &Options, screen: &Screen) -> Result<Choice> {
    let wishes = Wishes {
        data_dir: options.data_dir.as_deref(),
        default_dir: Path::new(DEFAULT_DIR),
        offline: options.offline,
        binance_url: &options.binance_url,
        seed: options.seed,
        now_ms: utc::now_ms(),
    };
    let choice = exchange::choose(&wishes).await?;
    screen.say(&match choice.origin {
        Origin::Binance => format!("exchange    Binance: {}", choice.reason),
        Origin::StandIn { .. } => format!("exchange    a stand-in with simulated prices ({})", choice.reason),
    });
    Ok(choice)
}

fn origin_text(choice: &Choice) -> String {
    match choice.origin {
        Origin::Binance => "Live prices of Binance.".to_owned(),
        Origin::StandIn { seed, .. } => {
            format!("Simulated prices of a stand-in for Binance (seed {seed}): not a market.")
        }
    }
}

/// Cancelled by the first Ctrl-C or SIGTERM; the second one ends the process at once.
fn stop_on_signal(screen: Screen) -> Result<CancellationToken> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let stop = CancellationToken::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        signals.next().await;
        asked.cancel();
        signals.next().await;
        screen.say("stopped at once; the next run goes on from what the log has");
        std::process::exit(130);
    });
    Ok(stop)
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self)
    }

    async fn next(&mut self) {
        // Without a Ctrl-C to hear there is nothing to wait for.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
