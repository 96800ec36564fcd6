//! The `highwater` binary: every command is thin, over the public crates.
//!
//! Reading order: [`output`] (how answers are printed), [`node`] (`dev` and `server`), then one file per noun.

mod acl;
mod check_config;
mod cluster;
mod config;
mod connect;
mod consume;
mod dump;
mod exit;
mod group;
mod http;
mod log;
mod metrics;
mod node;
mod open_files;
mod output;
mod produce;
mod shutdown;
mod sql;
mod supervisor;
mod topic;
mod user;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use highwater_broker::LogLevels;
use highwater_client::ClientConfig;

use crate::config::{LogFormat, ServerConfig};
use crate::output::{Format, Output};

/// Large buffers are freed on other threads than those that allocated them; glibc pays dearly for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Debug, Parser)]
#[command(
    name = "highwater",
    version,
    about = "Event streaming in one binary: a Kafka-compatible log, streams, connectors and SQL.",
    after_help = "\
Start here:
  highwater dev                                        a node on localhost, nothing to configure
  highwater topic create prices --partitions 3
  echo '{\"symbol\":\"BTCUSDT\",\"price\":67000}' | highwater produce prices --key BTCUSDT
  highwater consume prices --from-beginning
  highwater sql 'SELECT symbol, max(price) FROM prices GROUP BY symbol'

The commands talk to any Kafka-compatible cluster: name it with --bootstrap or HIGHWATER_BOOTSTRAP, and what a secured
one asks for in a file with --command-config or HIGHWATER_COMMAND_CONFIG:
  security.protocol=SASL_SSL
  sasl.mechanism=SCRAM-SHA-512
  sasl.username=alice
  sasl.password=${env:KAFKA_PASSWORD}
  ssl.truststore.location=/etc/kafka/ca.pem"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options every command understands.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Brokers to ask first, as host:port, separated by commas [default: localhost:9092, or the bootstrap.servers of
    /// --command-config].
    #[arg(long, short = 'b', global = true, env = "HIGHWATER_BOOTSTRAP")]
    bootstrap: Option<String>,

    /// A properties file with the client's settings, as Kafka's own tools take it: TLS and SASL for a secured
    /// cluster, timeouts. `${env:NAME}` in a value stands for an environment variable.
    #[arg(long, global = true, env = "HIGHWATER_COMMAND_CONFIG", value_name = "FILE")]
    command_config: Option<PathBuf>,

    /// How answers are printed.
    #[arg(long, short = 'o', global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,

    /// What is logged to standard error, such as `info` or `highwater_broker=debug`.
    #[arg(long, global = true, env = "HIGHWATER_LOG")]
    pub(crate) log: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a node on this machine with nothing to configure: log, connectors, SQL and metrics.
    Dev(node::DevArgs),
    /// Run a node as a configuration file says.
    Server(node::ServerArgs),
    /// Say what a configuration file means, and what is wrong with it.
    CheckConfig(check_config::CheckConfigArgs),
    /// Show what the files of a data directory hold.
    Dump(dump::DumpArgs),
    /// Create, list, describe, change and delete topics.
    #[command(subcommand)]
    Topic(topic::TopicCommand),
    /// Write records, one per line of standard input.
    Produce(produce::ProduceArgs),
    /// Read records and print them.
    Consume(consume::ConsumeArgs),
    /// List, describe, reset and delete consumer groups.
    #[command(subcommand)]
    Group(group::GroupCommand),
    /// List, add and remove access rules: who may do what with which topics, groups and more.
    #[command(subcommand)]
    Acl(acl::AclCommand),
    /// List, set and remove users who log in with SCRAM.
    #[command(subcommand)]
    User(user::UserCommand),
    /// Check connector files, run a worker, and manage the connectors of a running one.
    #[command(subcommand)]
    Connect(connect::ConnectCommand),
    /// Ask questions in SQL; without a statement, a prompt.
    Sql(sql::SqlArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match start(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", output::words_of(&error));
            ExitCode::from(exit::code(&error))
        }
    }
}

fn start(cli: Cli) -> anyhow::Result<ExitCode> {
    let output = Output::new(cli.global.output);
    let mut server = None;
    match &cli.command {
        Command::Server(args) => server = args.load()?,
        // These need neither a log nor a runtime.
        Command::CheckConfig(args) => {
            let would_start = check_config::run(args, &output)?;
            return Ok(if would_start {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(exit::CONFIG)
            });
        }
        Command::Dump(args) => return dump::run(args, &output),
        _ => {}
    }
    let log_levels = start_log(&cli, server.as_ref());
    if matches!(cli.command, Command::Dev(_)) || server.is_some() {
        open_files::raise_limit();
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(run(cli, server, log_levels))?;
    Ok(ExitCode::SUCCESS)
}

async fn run(cli: Cli, server: Option<ServerConfig>, log_levels: Arc<dyn LogLevels>) -> anyhow::Result<()> {
    let output = Output::new(cli.global.output);
    match cli.command {
        Command::Dev(args) => node::dev(args, log_levels).await,
        Command::Server(args) => node::server(&args, server, log_levels).await,
        Command::CheckConfig(_) | Command::Dump(_) => unreachable!("they end before the runtime starts"),
        Command::Topic(command) => topic::run(command, &cluster::connect(&cli.global).await?, &output).await,
        Command::Produce(args) => {
            // As Kafka's own producers: a topic that is missing is created, where the cluster allows it.
            let config = ClientConfig {
                allow_auto_create_topics: true,
                ..cluster::config(&cli.global)?
            };
            produce::run(args, &cluster::connect_with(config).await?).await
        }
        Command::Consume(args) => consume::run(args, &cluster::connect(&cli.global).await?, &output).await,
        Command::Group(command) => group::run(command, &cluster::connect(&cli.global).await?, &output).await,
        Command::Acl(command) => acl::run(command, &cluster::connect(&cli.global).await?, &output).await,
        Command::User(command) => user::run(command, &cluster::connect(&cli.global).await?, &output).await,
        Command::Connect(command) => connect::run(command, &cli.global, &output).await,
        Command::Sql(args) => sql::run(args, &cli.global).await,
    }
}

/// A node logs what it does; a command that asks a question logs only what a person should look at.
fn start_log(cli: &Cli, server: Option<&ServerConfig>) -> Arc<dyn LogLevels> {
    let default = match cli.command {
        Command::Dev(_) | Command::Server(_) | Command::Connect(connect::ConnectCommand::Run { .. }) => {
            "info,openraft=warn,sqlx=warn"
        }
        _ => "warn",
    };
    let configured = server.map(|config| config.log_level.as_str());
    let directives = cli.global.log.as_deref().or(configured).unwrap_or(default);
    let format = server.map_or(LogFormat::Text, |config| config.log_format);
    log::start(directives, format)
}
