//! The figures of all runs as one table for people and one JSON document for programs.

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use serde_json::{Value, json};

use highwater_bench_kit::spread::Spread;

use crate::measure::Sample;

/// One line of the table: a workload and what its runs measured.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) group: &'static str,
    pub(crate) name: String,
    pub(crate) runs: Vec<Sample>,
    /// Why a run does not count; the workload is not run again then.
    pub(crate) failure: Option<String>,
    pub(crate) note: String,
}

impl Row {
    pub(crate) fn new(group: &'static str, name: String) -> Self {
        Row {
            group,
            name,
            runs: Vec::new(),
            failure: None,
            note: String::new(),
        }
    }

    /// Median over the runs that have the figure.
    pub(crate) fn median(&self, figure: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        Spread::of(self.runs.iter().filter_map(figure)).map(|spread| spread.median)
    }
}

type Figure = fn(&Sample) -> Option<f64>;

/// How a figure is written.
#[derive(Clone, Copy)]
enum Style {
    /// Median and range, in thousands or millions.
    Count,
    /// Median and range, whole.
    Whole,
    /// Median alone, two digits.
    Fine,
    /// Median alone, microseconds in the unit that reads best.
    Time,
    /// Median alone, whole percents.
    Percent,
}

struct Column {
    heading: &'static str,
    key: &'static str,
    figure: Figure,
    style: Style,
}

const COLUMNS: [Column; 10] = [
    column("records/s", "records_per_s", Sample::records_per_s, Style::Count),
    column("MB/s", "mb_per_s", Sample::mb_per_s, Style::Whole),
    column(
        "server\ns/GB",
        "server_s_per_gb",
        Sample::server_s_per_gb,
        Style::Fine,
    ),
    column(
        "server\nµs/record",
        "server_us_per_record",
        Sample::server_us_per_record,
        Style::Fine,
    ),
    column(
        "client\ns/GB",
        "client_s_per_gb",
        Sample::client_s_per_gb,
        Style::Fine,
    ),
    column(
        "client\nµs/record",
        "client_us_per_record",
        Sample::client_us_per_record,
        Style::Fine,
    ),
    column("p50", "p50_us", |it| Some(it.latency?.p50_us), Style::Time),
    column("p99", "p99_us", |it| Some(it.latency?.p99_us), Style::Time),
    column("p99.9", "p999_us", |it| Some(it.latency?.p999_us), Style::Time),
    column(
        "foreign\nCPU",
        "foreign_percent",
        |it| Some(it.foreign_percent),
        Style::Percent,
    ),
];

const fn column(heading: &'static str, key: &'static str, figure: Figure, style: Style) -> Column {
    Column {
        heading,
        key,
        figure,
        style,
    }
}

/// The table for people.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    let mut headings = vec!["workload", "runs"];
    headings.extend(COLUMNS.iter().map(|column| column.heading));
    headings.push("");
    table.load_preset(presets::NOTHING).set_header(headings);
    let mut group = "";
    for row in rows {
        if row.group != group {
            group = row.group;
            table.add_row(vec![group.to_uppercase()]);
        }
        let mut cells = vec![format!("  {}", row.name), row.runs.len().to_string()];
        cells.extend(COLUMNS.iter().map(|column| cell(row, column)));
        cells.push(remark(row));
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(1).take(COLUMNS.len() + 1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let text = table.to_string();
    text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn remark(row: &Row) -> String {
    if let Some(failure) = &row.failure {
        return format!("FAILED: {failure}");
    }
    let Some(reached) = row.median(|it| it.saturated_at) else {
        return row.note.clone();
    };
    // Runs that were saturated have no percentiles; those shown are of the others.
    match row.runs.iter().filter(|run| run.saturated_at.is_some()).count() {
        all if all == row.runs.len() => format!("saturated at {}", count(reached)),
        some => format!(
            "{some} of {} runs saturated at {}",
            row.runs.len(),
            count(reached)
        ),
    }
}

fn cell(row: &Row, column: &Column) -> String {
    let Some(spread) = Spread::of(row.runs.iter().filter_map(column.figure)) else {
        return String::new();
    };
    let Spread { median, min, max } = spread;
    match column.style {
        Style::Count if min == max => count(median),
        Style::Count => format!("{} [{} .. {}]", count(median), count(min), count(max)),
        Style::Whole if min == max => format!("{median:.0}"),
        Style::Whole => format!("{median:.0} [{min:.0} .. {max:.0}]"),
        Style::Fine => format!("{median:.2}"),
        Style::Time => time(median),
        Style::Percent => format!("{median:.0} %"),
    }
}

fn count(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.2} M", value / 1e6),
        value if value >= 1e4 => format!("{:.0} k", value / 1e3),
        value => format!("{value:.0}"),
    }
}

fn time(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{:.2} s", us / 1e6),
        us if us >= 1e4 => format!("{:.1} ms", us / 1e3),
        us if us >= 1e3 => format!("{:.2} ms", us / 1e3),
        us => format!("{us:.0} µs"),
    }
}

/// The document for programs: every run, and the spread of every figure.
pub(crate) fn document(machine: &str, settings: Value, rows: &[Row]) -> Value {
    let figures = |row: &Row| {
        let spreads = COLUMNS.iter().filter_map(|column| {
            let spread = Spread::of(row.runs.iter().filter_map(column.figure))?;
            Some((column.key.to_owned(), json!(spread)))
        });
        Value::Object(spreads.collect())
    };
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "group": row.group, "name": row.name, "failure": row.failure, "note": row.note,
                "figures": figures(row), "runs": row.runs,
            })
        })
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"), "machine": machine, "settings": settings, "workloads": rows,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seconds: &[f64]) -> Row {
        let mut row = Row::new("produce", "100 B".to_owned());
        row.runs = seconds
            .iter()
            .map(|seconds| Sample {
                seconds: *seconds,
                records: 1_000_000,
                ..Sample::default()
            })
            .collect();
        row
    }

    #[test]
    fn a_failed_and_a_saturated_workload_say_so_instead_of_a_figure() {
        let mut failed = row(&[1.0]);
        failed.failure = Some("7 of 8 records came back".to_owned());
        assert!(table(&[failed]).contains("FAILED: 7 of 8"));
        let mut saturated = row(&[1.0]);
        saturated.runs[0].saturated_at = Some(93_000.0);
        assert!(table(&[saturated]).contains("saturated at 93 k"));
        let mut partly = row(&[1.0, 1.0]);
        partly.runs[0].saturated_at = Some(93_000.0);
        assert!(table(&[partly]).contains("1 of 2 runs saturated at 93 k"));
    }

    #[test]
    fn a_figure_that_no_run_has_leaves_its_cell_empty_and_its_key_out() {
        let rows = [row(&[0.5, 1.0])];
        assert!(table(&rows).contains("1.50 M [1.00 M .. 2.00 M]"));
        let document = document("here", json!({}), &rows);
        let figures = &document["workloads"][0]["figures"];
        assert_eq!(figures["records_per_s"]["median"], 1.5e6);
        assert_eq!(figures.get("mb_per_s"), None);
    }
}
