//! How often and how long everything runs: a warm-up, then rounds in which the workloads of a group take turns.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{measure::Sample, report::Row, workloads::Group};

/// No single run takes longer; one that hangs must not hang the program.
const RUN_TIMEOUT: Duration = Duration::from_secs(60);

/// What its line in the table is called.
pub(crate) trait Named {
    fn name(&self) -> String;
}

/// What the command line asked for.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Runs that count, per workload.
    pub(crate) runs: usize,
    /// Only workloads whose group and name contain all of these.
    pub(crate) only: Vec<String>,
}

impl Plan {
    fn wants(&self, group: &str, name: &str) -> bool {
        let full = format!("{group} {name}").to_lowercase();
        self.only.iter().all(|part| full.contains(&part.to_lowercase()))
    }

    /// Leaves the workloads that were asked for; false when none is left.
    pub(crate) fn select<W: Named>(&self, name: &str, group: &mut Group<W>) -> bool {
        group
            .workloads
            .retain(|workload| self.wants(name, &workload.name()));
        !group.workloads.is_empty()
    }

    /// Runs the workloads of a group in turn: one warm-up round that does not count, then as many rounds as asked for
    /// and the group's budget allows, but at least one. A workload whose run failed is not run again.
    pub(crate) async fn rounds<W: Named>(
        &self,
        name: &'static str,
        group: &Group<W>,
        mut run: impl AsyncFnMut(usize, &W) -> Result<Sample>,
    ) -> Vec<Row> {
        let named = group
            .workloads
            .iter()
            .map(|workload| Row::new(name, workload.name()));
        let mut rows: Vec<Row> = named.collect();
        let started = Instant::now();
        for round in 0..=self.runs {
            let round_started = Instant::now();
            for (at, workload) in group.workloads.iter().enumerate() {
                let row = &mut rows[at];
                if row.failure.is_some() {
                    continue;
                }
                progress(round, self.runs, row);
                match tokio::time::timeout(RUN_TIMEOUT, run(at, workload)).await {
                    Ok(Ok(sample)) if round > 0 => row.runs.push(sample),
                    Ok(Ok(_)) => {}
                    Ok(Err(error)) => row.failure = Some(format!("{error:#}")),
                    Err(_) => row.failure = Some(format!("not done after {RUN_TIMEOUT:?}")),
                }
            }
            let over = started.elapsed() + round_started.elapsed() > group.budget();
            if round > 0 && over {
                break;
            }
        }
        rows
    }
}

/// Tells on standard error what is going on; the table is for standard output.
fn progress(round: usize, runs: usize, row: &Row) {
    let round = match round {
        0 => "warm-up".to_owned(),
        round => format!("run {round} of {runs}"),
    };
    eprintln!("  {} {}: {round}", row.group, row.name);
}
