//! A real Prometheus on a running node: the metrics are as its linter wants them, every expression of the dashboard
//! has data, every alert rule can be evaluated.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use highwater_client::admin::NewTopic;
use highwater_client::{
    AutoOffsetReset, Client, ClientConfig, ConsumerConfig, ProducerConfig, ProducerRecord,
};
use highwater_types::TopicName;
use serde_json::Value;

use crate::support::{Dev, Watched, project_root, provided};

/// Expressions that have no data on a healthy node, with the reason.
const EMPTY_WHEN_HEALTHY: &[(&str, &str)] = &[
    ("highwater_broker_handler_panics_total", "no handler panics"),
    (
        "highwater_broker_connections_closed_total",
        "no connection ended in the middle of a request",
    ),
];

/// What the linter says of names that are kafka_exporter's and stay as they are.
const EXPORTERS_NAMES: &[&str] = &[
    "kafka_consumergroup_lag_sum",
    "kafka_consumergroup_current_offset_sum",
];

/// How long a server may take until it has scraped twice and evaluated its rules.
const PATIENCE: Duration = Duration::from_secs(60);

/// Times `rate` looks back over, at one scrape per second.
const RATE_INTERVAL: &str = "10s";

#[test]
#[ignore = "needs Prometheus"]
fn dashboard_and_alerts_evaluate_on_a_node_with_traffic() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let node = Dev::start(&folder.path().join("data"))?;
    let server = Prometheus::start(folder.path(), node.http)?;
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let traffic = {
        let (kafka, stop) = (node.kafka, std::sync::Arc::clone(&stop));
        std::thread::spawn(move || traffic(kafka, &stop))
    };
    let outcome = evaluate_everything(&server, &node);
    stop.store(true, std::sync::atomic::Ordering::Release);
    match traffic.join() {
        Ok(produced) => produced.context("the traffic")?,
        Err(_) => bail!("the traffic panicked"),
    }
    outcome?;
    drop(server);
    node.stop()
}

fn evaluate_everything(server: &Prometheus, node: &Dev) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    // Rates need two scrapes; groups need their first commit.
    let mut missing = dashboard()?;
    while !missing.is_empty() {
        let mut still = Vec::new();
        for (title, expression) in missing {
            if server
                .query(&expression)
                .with_context(|| format!("panel `{title}`: {expression}"))?
                == 0
            {
                still.push((title, expression));
            }
        }
        still.retain(|(_, expression)| {
            !EMPTY_WHEN_HEALTHY
                .iter()
                .any(|(metric, _)| expression.contains(metric))
        });
        ensure!(
            still.is_empty() || Instant::now() < deadline,
            "no data for these panels: {still:#?}\n{}",
            Dev::get(node.http, "/metrics")?
        );
        missing = still;
        std::thread::sleep(Duration::from_millis(500));
    }
    server.rules_are_healthy(deadline)?;
    lint(&Dev::get(node.http, "/metrics")?)
}

/// Titles and expressions of every panel, with Grafana's variables filled in.
fn dashboard() -> Result<Vec<(String, String)>> {
    let text = std::fs::read_to_string(project_root().join("dashboards/highwater.json"))?;
    let dashboard: Value = serde_json::from_str(&text)?;
    let mut expressions = Vec::new();
    for panel in dashboard["panels"].as_array().context("panels")? {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().context("an expression")?;
            let expression = expression
                .replace("$__rate_interval", RATE_INTERVAL)
                .replace("$instance", ".*");
            ensure!(
                !expression.contains('$'),
                "a variable nobody fills in: {expression}"
            );
            expressions.push((panel["title"].as_str().unwrap_or_default().to_owned(), expression));
        }
    }
    ensure!(
        expressions.len() > 30,
        "the dashboard has only {} expressions",
        expressions.len()
    );
    Ok(expressions)
}

/// `promtool check metrics`, less what is kafka_exporter's; and every family is on the page of metrics.
fn lint(metrics: &str) -> Result<()> {
    let promtool = provided("HIGHWATER_TEST_PROMETHEUS_BIN")?.join("promtool");
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    child
        .stdin
        .take()
        .context("standard input")?
        .write_all(metrics.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let complaints: Vec<&str> = said
        .lines()
        .filter(|line| !line.trim().is_empty() && !EXPORTERS_NAMES.iter().any(|name| line.starts_with(name)))
        .collect();
    ensure!(complaints.is_empty(), "promtool check metrics: {complaints:#?}");
    let page = std::fs::read_to_string(project_root().join("docs/metrics.md"))?;
    let families = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let unknown: BTreeSet<&str> = families
        .filter(|name| !page.contains(&format!("`{name}`")))
        .collect();
    ensure!(unknown.is_empty(), "not on docs/metrics.md: {unknown:?}");
    Ok(())
}

/// Writes, reads with a group, and asks for what is not there, until told to stop.
fn traffic(kafka: SocketAddr, stop: &std::sync::atomic::AtomicBool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let client = Client::connect(ClientConfig::new([kafka.to_string()])).await?;
        let topic = TopicName::new("orders")?;
        let mut durable = NewTopic::new(topic.clone(), 3);
        durable.configs.insert("flush.messages".into(), "1".into());
        for (_, answer) in client.admin().create_topics([durable.clone()]).await? {
            answer?;
        }
        let producer = client.producer(ProducerConfig::default())?;
        let consumer = client.consumer(ConsumerConfig {
            group_id: Some("billing".into()),
            auto_offset_reset: AutoOffsetReset::Earliest,
            ..ConsumerConfig::default()
        })?;
        consumer.subscribe([topic.clone()])?;
        let mut number = 0_u64;
        while !stop.load(std::sync::atomic::Ordering::Acquire) {
            for _ in 0..20 {
                number += 1;
                let record = ProducerRecord::new(topic.clone(), format!("order {number}"));
                producer.send(record).await?.await?;
            }
            consumer.poll(Duration::from_millis(50)).await?;
            consumer.commit_consumed().await?;
            // A topic that exists cannot be created: an error in an answer.
            client.admin().create_topics([durable.clone()]).await?;
        }
        producer.close().await;
        Ok(())
    })
}

/// A running server.
struct Prometheus {
    address: SocketAddr,
    _process: Watched,
}

impl Prometheus {
    fn start(folder: &Path, target: SocketAddr) -> Result<Self> {
        // The port is free when it is chosen; nothing else on this machine picks it in between.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let rules: PathBuf = project_root().join("dashboards/alerts.yml").canonicalize()?;
        let config = folder.join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{}']\nscrape_configs:\n\
             - job_name: highwater\n  static_configs: [{{targets: ['{target}']}}]\n",
            rules.display()
        );
        std::fs::write(&config, text)?;
        let mut command = Command::new(provided("HIGHWATER_TEST_PROMETHEUS_BIN")?.join("prometheus"));
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error");
        let server = Self {
            address,
            _process: Watched::start(&mut command)?,
        };
        let deadline = Instant::now() + PATIENCE;
        while !server
            .get("/-/ready")
            .is_ok_and(|answer| answer.contains("Ready") || answer.contains("ready"))
        {
            ensure!(
                Instant::now() < deadline,
                "Prometheus is not ready after {PATIENCE:?}"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(server)
    }

    /// How many series an expression gives. An expression that does not parse is an error.
    fn query(&self, expression: &str) -> Result<usize> {
        let body = self.get(&format!("/api/v1/query?query={}", percent_encoded(expression)))?;
        let answer: Value = serde_json::from_str(&body).with_context(|| body.clone())?;
        ensure!(answer["status"] == "success", "{answer}");
        Ok(answer["data"]["result"].as_array().map_or(0, Vec::len))
    }

    /// Waits until every rule was evaluated without an error.
    fn rules_are_healthy(&self, deadline: Instant) -> Result<()> {
        loop {
            let answer: Value = serde_json::from_str(&self.get("/api/v1/rules")?)?;
            let groups = answer["data"]["groups"].as_array().context("groups")?;
            let rules: Vec<&Value> = groups
                .iter()
                .filter_map(|group| group["rules"].as_array())
                .flatten()
                .collect();
            ensure!(rules.len() > 10, "only {} rules are loaded", rules.len());
            let sick: Vec<&&Value> = rules.iter().filter(|rule| rule["health"] != "ok").collect();
            if sick.is_empty() {
                return Ok(());
            }
            let is_broken = sick.iter().any(|rule| rule["health"] == "err");
            ensure!(
                !is_broken && Instant::now() < deadline,
                "rules that do not evaluate: {sick:#?}"
            );
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    /// The body of a GET, whatever the status; version 1.0, so that it comes in one piece.
    fn get(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.address)?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").context("an HTTP answer")?;
        Ok(body.to_owned())
    }
}

fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(encode).collect()
}
