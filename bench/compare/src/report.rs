//! The figures of both systems as one table for people and one JSON document for programs.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets};
use highwater_bench_kit::spread::Spread;
use serde::Serialize;
use serde_json::{Value, json};

use crate::measure::{Figure, Run};
use crate::system::System;

/// A workload and what its runs measured on both systems.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) group: &'static str,
    pub(crate) name: String,
    pub(crate) kafka: Side,
    pub(crate) highwater: Side,
}

#[derive(Debug, Default, Serialize)]
pub(crate) struct Side {
    pub(crate) runs: Vec<Run>,
    /// Why a run does not count; the workload is not run again on this system then.
    pub(crate) failure: Option<String>,
}

impl Outcome {
    pub(crate) fn new(group: &'static str, name: String) -> Self {
        Outcome {
            group,
            name,
            kafka: Side::default(),
            highwater: Side::default(),
        }
    }

    pub(crate) fn side(&self, system: System) -> &Side {
        match system {
            System::Kafka => &self.kafka,
            System::Highwater => &self.highwater,
        }
    }

    pub(crate) fn side_mut(&mut self, system: System) -> &mut Side {
        match system {
            System::Kafka => &mut self.kafka,
            System::Highwater => &mut self.highwater,
        }
    }

    /// The target of a throughput depends on who holds it up: beside a client that uses more of the machine than the server
    /// does, no server can be twice as fast.
    fn target(&self, shown: &Shown) -> Target {
        if shown.target != Target::Throughput {
            return shown.target;
        }
        let median = |figure| self.highwater.spread(figure).map(|spread| spread.median);
        match (median(Figure::ClientCores), median(Figure::ServerCores)) {
            (Some(client), Some(server)) if server > client => Target::RatioAtLeast(2.0),
            _ => Target::RatioAtLeast(1.0),
        }
    }
}

impl Side {
    pub(crate) fn spread(&self, figure: Figure) -> Option<Spread> {
        Spread::of(
            self.runs
                .iter()
                .filter_map(|run| run.figures.get(&figure).copied()),
        )
    }

    fn cell(&self, shown: &Shown) -> String {
        if let Some(failure) = &self.failure {
            // The rest of the story is in the document and was shown when it happened.
            let first_line = failure.lines().next().unwrap_or_default();
            return format!(
                "FAILED: {}",
                first_line.chars().take(FAILURE_CHARS).collect::<String>()
            );
        }
        let Some(spread) = self.spread(shown.figure) else {
            let reached = Spread::of(self.runs.iter().filter_map(|run| run.saturated_at));
            return reached.map_or_else(String::new, |reached| {
                format!("saturated at {}", count(reached.median))
            });
        };
        let text = match (shown.write)(spread.median) {
            text if self.runs.len() == 1 => text,
            text => format!(
                "{text} [{} .. {}]",
                (shown.write)(spread.min),
                (shown.write)(spread.max)
            ),
        };
        if shown.figure != Figure::ServerUsPerRecord {
            return text;
        }
        let median = |figure| self.spread(figure).map_or(0.0, |spread| spread.median);
        format!(
            "{text}; {:.2} user, {:.2} system; {:.2} s/GB",
            median(Figure::ServerUserUsPerRecord),
            median(Figure::ServerSystemUsPerRecord),
            median(Figure::ServerSPerGb)
        )
    }
}

/// What is asked of us.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Target {
    Nothing,
    /// Our figure through Kafka's.
    RatioAtMost(f64),
    RatioAtLeast(f64),
    /// Our figure by itself.
    AtMost(f64),
    /// As fast where the client is the limit, twice as fast where the server is.
    Throughput,
}

impl Target {
    fn met(self, ours: f64, kafka: Option<f64>) -> Option<bool> {
        match self {
            Target::Nothing | Target::Throughput => None,
            Target::RatioAtMost(most) => Some(ours / kafka? <= most),
            Target::RatioAtLeast(least) => Some(ours / kafka? >= least),
            Target::AtMost(most) => Some(ours <= most),
        }
    }

    fn words(self, write: fn(f64) -> String) -> String {
        match self {
            Target::Nothing | Target::Throughput => String::new(),
            Target::RatioAtMost(most) => format!("<= {most:.2}x"),
            Target::RatioAtLeast(least) => format!(">= {least:.0}x"),
            Target::AtMost(most) => format!("<= {}", write(most)),
        }
    }
}

/// A figure that the table shows.
struct Shown {
    figure: Figure,
    name: &'static str,
    write: fn(f64) -> String,
    target: Target,
}

/// What a cell has room for.
const FAILURE_CHARS: usize = 80;

const HALF: Target = Target::RatioAtMost(0.5);
const THIRD: Target = Target::RatioAtMost(1.0 / 3.0);
const TENTH: Target = Target::RatioAtMost(0.1);

const SHOWN: &[Shown] = &[
    shown(Figure::RecordsPerS, "records/s", count, Target::Throughput),
    shown(Figure::FetchedMbPerS, "MB/s", megabytes_per_s, Target::Throughput),
    shown(
        Figure::CopyMbPerS,
        "a plain copy beside it",
        megabytes_per_s,
        Target::Nothing,
    ),
    shown(
        Figure::PartOfCopyPercent,
        "part of the plain copy",
        percent,
        Target::Nothing,
    ),
    shown(Figure::ServerUsPerRecord, "server CPU per record", cpu, HALF),
    shown(Figure::P50Us, "p50", time, Target::Nothing),
    shown(Figure::P99Us, "p99", time, THIRD),
    shown(Figure::P999Us, "p99.9", time, Target::Nothing),
    shown(Figure::AckP99Us, "p99 of producing meanwhile", time, THIRD),
    shown(
        Figure::P99OfAllUs,
        "p99 with the machine's pauses",
        time,
        Target::Nothing,
    ),
    shown(
        Figure::PausedMs,
        "the machine's pauses",
        milliseconds,
        Target::Nothing,
    ),
    shown(
        Figure::FirstProduceMs,
        "process start to first record",
        milliseconds,
        Target::AtMost(100.0),
    ),
    shown(Figure::CreateS, "create", seconds, Target::Nothing),
    shown(
        Figure::IdleCpuPercent,
        "idle CPU of a core",
        percent,
        Target::AtMost(2.0),
    ),
    shown(
        Figure::RestartMs,
        "restart after a clean stop",
        milliseconds,
        Target::Nothing,
    ),
    shown(
        Figure::RestartKilledMs,
        "restart after kill -9",
        milliseconds,
        Target::Nothing,
    ),
    shown(Figure::RssIdleMb, "memory, idle", megabytes, TENTH),
    shown(Figure::RssEndMb, "memory, after all runs", megabytes, TENTH),
    shown(Figure::RssPeakMb, "memory, peak", megabytes, TENTH),
];

const fn shown(figure: Figure, name: &'static str, write: fn(f64) -> String, target: Target) -> Shown {
    Shown {
        figure,
        name,
        write,
        target,
    }
}

/// The table for people.
pub(crate) fn table(outcomes: &[Outcome]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN).set_header([
        "workload",
        "Kafka",
        "Highwater",
        "ratio",
        "target",
        "met?",
        "foreign CPU",
    ]);
    for outcome in outcomes {
        for (index, shown) in rows_of(outcome).into_iter().enumerate() {
            let mut cells = row(outcome, shown);
            if index == 0 {
                let foreign = foreign(outcome);
                cells.push(foreign);
            }
            table.add_row(cells);
        }
    }
    for column in table.column_iter_mut().skip(3).take(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.to_string()
}

/// The figures that at least one side has; a workload without any still says what became of it.
fn rows_of(outcome: &Outcome) -> Vec<&'static Shown> {
    let has = |figure| {
        System::BOTH
            .iter()
            .any(|system| outcome.side(*system).spread(figure).is_some())
    };
    let rows: Vec<&Shown> = SHOWN.iter().filter(|shown| has(shown.figure)).collect();
    if rows.is_empty() {
        SHOWN.iter().take(1).collect()
    } else {
        rows
    }
}

fn row(outcome: &Outcome, shown: &Shown) -> Vec<String> {
    let target = outcome.target(shown);
    let median = |side: &Side| side.spread(shown.figure).map(|spread| spread.median);
    let (kafka, ours) = (median(&outcome.kafka), median(&outcome.highwater));
    let ratio = kafka.zip(ours).filter(|(kafka, _)| *kafka > 0.0);
    let met = ours.and_then(|ours| target.met(ours, kafka));
    vec![
        format!("{}: {}, {}", outcome.group, outcome.name, shown.name),
        outcome.kafka.cell(shown),
        outcome.highwater.cell(shown),
        ratio.map_or_else(String::new, |(kafka, ours)| format!("{:.2}x", ours / kafka)),
        target.words(shown.write),
        met.map_or_else(String::new, |met| if met { "yes" } else { "NO" }.to_owned()),
    ]
}

/// Median of both sides: what else the machine did.
fn foreign(outcome: &Outcome) -> String {
    let of = |side: &Side| {
        let timed = side.runs.iter().filter(|run| run.seconds > 0.0);
        Spread::of(timed.map(|run| run.foreign_percent))
            .map_or_else(|| "-".to_owned(), |spread| percent(spread.median))
    };
    format!("{} / {}", of(&outcome.kafka), of(&outcome.highwater))
}

fn count(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value >= 1e4 => format!("{:.0} k", value / 1e3),
        value => format!("{value:.0}"),
    }
}

fn cpu(us: f64) -> String {
    format!("{us:.2} µs")
}

fn time(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{:.2} s", us / 1e6),
        us if us >= 1e4 => format!("{:.1} ms", us / 1e3),
        us if us >= 1e3 => format!("{:.2} ms", us / 1e3),
        us => format!("{us:.0} µs"),
    }
}

fn milliseconds(ms: f64) -> String {
    if ms >= 10_000.0 {
        seconds(ms / 1e3)
    } else {
        format!("{ms:.0} ms")
    }
}

fn seconds(s: f64) -> String {
    format!("{s:.2} s")
}

fn percent(percent: f64) -> String {
    if percent < 10.0 {
        format!("{percent:.1} %")
    } else {
        format!("{percent:.0} %")
    }
}

fn megabytes_per_s(mb: f64) -> String {
    format!("{mb:.0} MB/s")
}

fn megabytes(mb: f64) -> String {
    format!("{mb:.0} MB")
}

/// One line about a run, for whoever watches.
pub(crate) fn progress(run: &Run) -> String {
    let mut words: Vec<String> = SHOWN
        .iter()
        .filter_map(|shown| {
            let value = run.figures.get(&shown.figure)?;
            Some(format!("{} {}", shown.name, (shown.write)(*value)))
        })
        .collect();
    if let Some(reached) = run.saturated_at {
        words.push(format!("saturated at {}", count(reached)));
    }
    words.push(format!("foreign CPU {}", percent(run.foreign_percent)));
    if run.steal_percent >= 0.1 {
        words.push(format!("stolen {}", percent(run.steal_percent)));
    }
    words.join(", ")
}

/// The document for programs: every run, and the spread of every figure.
pub(crate) fn document(machine: &str, settings: Value, outcomes: &[Outcome]) -> Value {
    let spreads = |side: &Side| {
        let figures: BTreeMap<String, Spread> = side
            .runs
            .iter()
            .flat_map(|run| run.figures.keys())
            .filter_map(|figure| {
                let name = serde_json::to_value(figure).ok()?.as_str()?.to_owned();
                Some((name, side.spread(*figure)?))
            })
            .collect();
        json!(figures)
    };
    let workloads: Vec<Value> = outcomes
        .iter()
        .map(|outcome| {
            json!({
                "group": outcome.group, "name": outcome.name,
                "kafka": { "figures": spreads(&outcome.kafka), "runs": outcome.kafka.runs,
                    "failure": outcome.kafka.failure },
                "highwater": { "figures": spreads(&outcome.highwater), "runs": outcome.highwater.runs,
                    "failure": outcome.highwater.failure },
            })
        })
        .collect();
    json!({ "machine": machine, "settings": settings, "workloads": workloads })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(kafka: &[(Figure, f64)], highwater: &[(Figure, f64)]) -> Outcome {
        let side = |figures: &[(Figure, f64)]| Side {
            runs: vec![Run {
                figures: figures.iter().copied().collect(),
                ..Run::default()
            }],
            failure: None,
        };
        Outcome {
            kafka: side(kafka),
            highwater: side(highwater),
            ..Outcome::new("produce", "100 B".to_owned())
        }
    }

    fn met(outcome: &Outcome, figure: Figure) -> String {
        let shown = SHOWN.iter().find(|shown| shown.figure == figure).expect("shown");
        row(outcome, shown)[5].clone()
    }

    #[test]
    fn half_of_kafkas_cpu_is_the_most_that_meets_the_target() {
        let figure = Figure::ServerUsPerRecord;
        assert_eq!(met(&outcome(&[(figure, 1.0)], &[(figure, 0.5)]), figure), "yes");
        assert_eq!(met(&outcome(&[(figure, 1.0)], &[(figure, 0.51)]), figure), "NO");
    }

    #[test]
    fn twice_the_throughput_is_asked_only_where_the_server_is_the_limit() {
        let of = |client: f64, server: f64| {
            let ours = [
                (Figure::RecordsPerS, 1.5),
                (Figure::ClientCores, client),
                (Figure::ServerCores, server),
            ];
            met(
                &outcome(&[(Figure::RecordsPerS, 1.0)], &ours),
                Figure::RecordsPerS,
            )
        };
        assert_eq!(of(1.5, 0.3), "yes");
        assert_eq!(of(0.3, 1.5), "NO");
    }

    #[test]
    fn an_absolute_target_needs_no_kafka() {
        let figure = Figure::FirstProduceMs;
        assert_eq!(met(&outcome(&[], &[(figure, 90.0)]), figure), "yes");
        assert_eq!(met(&outcome(&[], &[(figure, 101.0)]), figure), "NO");
    }

    #[test]
    fn a_failed_and_a_saturated_side_say_so_instead_of_a_figure() {
        let mut failed = outcome(&[(Figure::RecordsPerS, 1.0)], &[]);
        failed.highwater.failure = Some("7 of 8 records came back".to_owned());
        failed.kafka.runs[0].saturated_at = Some(93_000.0);
        failed.kafka.runs[0].figures.clear();
        let table = table(&[failed]);
        assert!(table.contains("FAILED: 7 of 8"), "{table}");
        assert!(table.contains("saturated at 93 k"), "{table}");
    }
}
