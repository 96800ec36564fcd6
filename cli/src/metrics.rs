//! What `/metrics` shows: the recorder's counters and histograms, then the node's state and the process.
//!
//! Every metric of the binary is in one of the tables named in [`tables`]; `docs/metrics.md` is generated from them,
//! and so is the help that Prometheus gets.

mod process;

use std::fmt::Write;
use std::time::SystemTime;

use anyhow::{Context, Result};
use highwater_broker::metric_defs::{self, MetricDef, counter, gauge, histogram};
use highwater_broker::{Exposition, Node};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Upper bounds of the latency histograms, in seconds: from a cached fetch to a long poll.
const LATENCY_BUCKETS_S: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

const TASK: &[&str] = &["connector", "task"];
const APPLICATION: &[&str] = &["application"];

/// Connectors and stream applications that run in this process.
#[rustfmt::skip]
const WORK: &[MetricDef] = &[
    gauge("highwater_connect_worker_connectors", &[], "Connectors that the worker knows."),
    gauge("highwater_connect_worker_tasks", &[], "Tasks that the worker runs."),
    counter("highwater_connect_task_restarts_total", &["connector"], "Starts of a task after a failure."),
    counter("highwater_connect_task_failures_total", TASK, "Failures of a task."),
    counter("highwater_connect_retries_total", TASK, "Attempts of a task that were repeated."),
    counter("highwater_connect_source_polled_records_total", TASK, "Records that a source task took from its system."),
    counter("highwater_connect_source_written_records_total", TASK, "Records that a source task wrote to topics."),
    counter("highwater_connect_sink_read_records_total", TASK, "Records that a sink task read from topics."),
    counter("highwater_connect_sink_sent_records_total", TASK, "Records that a sink task's system took."),
    histogram("highwater_connect_sink_put_duration_seconds", &["connector"], "How long a sink took for one batch."),
    counter("highwater_connect_skipped_records_total", TASK, "Records that a task passed over, as its error policy says."),
    counter("highwater_connect_dead_letters_total", TASK, "Records that a task wrote to its dead letter topic."),
    counter("highwater_streams_records_in_total", APPLICATION, "Records that went into tasks."),
    counter("highwater_streams_records_out_total", APPLICATION, "Records sent to output and repartition topics."),
    counter("highwater_streams_changelog_records_total", APPLICATION, "Changed groups written to changelogs."),
    counter("highwater_streams_restored_records_total", APPLICATION, "Records read from changelogs to restore state."),
    counter("highwater_streams_dropped_records_total", &["application", "operator", "reason"], "Records left out."),
    counter("highwater_streams_commits_total", APPLICATION, "Commits of tasks."),
    counter("highwater_streams_failures_total", APPLICATION, "Times a worker's tasks were opened again after an error."),
    histogram("highwater_streams_commit_seconds", APPLICATION, "How long one commit took."),
];

const BUILD_INFO: MetricDef = gauge(
    "highwater_build_info",
    &["version"],
    "1, with the version of the binary.",
);
const UPTIME: MetricDef = gauge(
    "highwater_uptime_seconds",
    &[],
    "Seconds since the node was started.",
);

const PROCESS: &[MetricDef] = &[
    BUILD_INFO,
    UPTIME,
    process::CPU,
    process::RESIDENT,
    process::VIRTUAL,
    process::OPEN_FDS,
    process::MAX_FDS,
    process::THREADS,
    process::START_TIME,
];

/// Every table with the heading it has in the documentation.
fn tables() -> [(&'static str, &'static [MetricDef]); 4] {
    [
        ("Requests, connections, disk", metric_defs::EVENTS),
        ("State of the node, topics and groups", metric_defs::STATE),
        ("Connectors and streams", WORK),
        ("Process", PROCESS),
    ]
}

/// Renders scrapes.
pub(crate) struct Metrics {
    recorder: PrometheusHandle,
    started: SystemTime,
}

impl Metrics {
    /// Installs the recorder that every crate's metrics go to. Once per process.
    pub(crate) fn install() -> Result<Self> {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), LATENCY_BUCKETS_S)?
            .install_recorder()
            .context("cannot install the metrics recorder")?;
        metric_defs::describe(WORK);
        Ok(Self {
            recorder,
            started: SystemTime::now(),
        })
    }

    /// The text of a scrape.
    pub(crate) fn render(&self, node: &Node) -> String {
        self.recorder.run_upkeep();
        let mut text = self.recorder.render();
        let mut state = Exposition::default();
        node.write_metrics(&mut state);
        state
            .family(&BUILD_INFO)
            .sample(&[env!("CARGO_PKG_VERSION")], 1.0);
        let uptime = self.started.elapsed().unwrap_or_default();
        state.single(&UPTIME, uptime.as_secs_f64());
        process::write(&mut state, self.started);
        text.push_str(&state.into_text());
        text
    }
}

/// `docs/metrics.md`.
pub(crate) fn reference() -> String {
    let mut text = String::from(
        "# Metrics\n\n\
         What a node shows at `/metrics`, generated from the tables in the code. Names that begin with `kafka_` are\n\
         those of kafka_exporter, so its dashboards and alerts work as they are; `process_` names are Prometheus' own.\n\
         Series of a deleted topic or group end with it. `dashboards/highwater.json` is a Grafana dashboard over them,\n\
         `dashboards/alerts.yml` are alert rules.\n",
    );
    for (heading, table) in tables() {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "\n## {heading}\n\n| metric | type | labels | meaning |\n|---|---|---|---|"
        );
        for row in table {
            let labels = row.labels.join(", ");
            let kind = row.kind.word();
            let _ = writeln!(text, "| `{}` | {kind} | {labels} | {} |", row.name, row.help);
        }
    }
    text
}
