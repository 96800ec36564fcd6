//! The order of a whole measurement: which workloads, alternating between the systems, how often.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use highwater_bench_kit::usage;

use crate::measure::{Figure, Run};
use crate::memory;
use crate::report::{self, Outcome};
use crate::runs::{fetch, java, latency, lifecycle, throughput};
use crate::system::{Node, Pair, Programs, System};
use crate::workloads::{Latency, Throughput, Workloads, grouped, size};

/// How much is measured.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) runs: usize,
    /// Parts of `group: name`; empty means everything.
    pub(crate) only: Vec<String>,
    pub(crate) max_foreign_percent: f64,
    /// How often a run is repeated that others disturbed.
    pub(crate) repeats: usize,
}

impl Plan {
    fn wants(&self, group: &str, name: &str) -> bool {
        let full = format!("{group}: {name}");
        self.only.is_empty() || self.only.iter().any(|only| full.contains(only.as_str()))
    }
}

pub(crate) struct Session<'a> {
    programs: &'a Programs,
    workloads: &'a Workloads,
    parent: &'a Path,
    plan: Plan,
    outcomes: Vec<Outcome>,
    began: Instant,
}

impl<'a> Session<'a> {
    pub(crate) fn new(
        programs: &'a Programs,
        workloads: &'a Workloads,
        parent: &'a Path,
        plan: Plan,
    ) -> Self {
        Session {
            programs,
            workloads,
            parent,
            plan,
            outcomes: Vec::new(),
            began: Instant::now(),
        }
    }

    pub(crate) fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    pub(crate) fn measure_all(&mut self) -> Result<()> {
        self.measure_starts()?;
        self.measure_partitions()?;
        self.measure_served()
    }

    /// Everything that needs both systems running.
    fn measure_served(&mut self) -> Result<()> {
        let workloads = self.workloads;
        if !self.wants_any_served() {
            return Ok(());
        }
        let folder = self.parent.join("served");
        let pair = Pair::start(self.programs, &folder)?;
        let idle_mb = |system| pair.with(system, |node| usage::rss_mb(node.pid()));
        let idle = [idle_mb(System::Kafka)?, idle_mb(System::Highwater)?];
        self.warm_up(&pair)?;
        for workload in &workloads.throughput.workloads {
            self.measure_throughput(&pair, ["produce", "consume"], workload, false)?;
        }
        for workload in &workloads.latency.workloads {
            self.measure_latency(&pair, "latency", workload, false)?;
        }
        for workload in &workloads.durable.throughput {
            self.measure_throughput(&pair, ["durable produce", "durable consume"], workload, true)?;
        }
        for workload in &workloads.durable.latency {
            self.measure_latency(&pair, "durable latency", workload, true)?;
        }
        self.measure_fetch(&pair)?;
        self.measure_catch_up(&pair)?;
        self.measure_java(&pair)?;
        self.note_memory(&pair, idle)
    }

    fn wants_any_served(&self) -> bool {
        let plan = &self.plan;
        let served = [
            "produce", "consume", "durable", "latency", "fetch", "catch-up", "java",
        ];
        plan.only.is_empty()
            || plan.only.iter().any(|only| {
                served
                    .iter()
                    .any(|group| only.contains(group) || group.contains(only.as_str()))
            })
    }

    fn say(&self, text: &str) {
        eprintln!("[{:>5.0} s] {text}", self.began.elapsed().as_secs_f64());
    }

    fn warm_up(&self, pair: &Pair) -> Result<()> {
        let duration = Duration::from_secs(self.workloads.throughput.warm_up_s);
        let settings = self.workloads.settings("T")?;
        for system in System::BOTH {
            self.say(&format!("warming {} up for {duration:?}", system.name()));
            pair.with(system, |node| throughput::warm_up(node, duration, settings))?;
        }
        Ok(())
    }

    /// Runs a workload on both systems in turn; `once` gives a run for each of the outcomes that the names stand for.
    fn alternate<const N: usize>(
        &mut self,
        pair: &Pair,
        names: [(&'static str, String); N],
        once: impl Fn(&Node) -> Result<[Run; N]>,
    ) -> Result<()> {
        if !names.iter().any(|(group, name)| self.plan.wants(group, name)) {
            return Ok(());
        }
        let mut outcomes = names.map(|(group, name)| Outcome::new(group, name));
        for number in 1..=self.plan.runs {
            for system in System::BOTH {
                if outcomes
                    .iter()
                    .any(|outcome| outcome.side(system).failure.is_some())
                {
                    continue;
                }
                match pair.with(system, |node| self.quietest(node, &once)) {
                    Ok(runs) => {
                        for (outcome, run) in outcomes.iter_mut().zip(runs) {
                            let line = report::progress(&run);
                            let (group, name) = (outcome.group, &outcome.name);
                            self.say(&format!(
                                "{group}: {name}, run {number}, {}: {line}",
                                system.name()
                            ));
                            outcome.side_mut(system).runs.push(run);
                        }
                    }
                    Err(error) => {
                        let (group, name) = (outcomes[0].group, &outcomes[0].name);
                        self.say(&format!(
                            "{group}: {name}, run {number}, {} FAILED: {error:#}",
                            system.name()
                        ));
                        for outcome in &mut outcomes {
                            outcome.side_mut(system).failure = Some(format!("{error:#}"));
                        }
                    }
                }
            }
        }
        self.outcomes.extend(outcomes);
        Ok(())
    }

    /// Repeats a run that others disturbed, and keeps the least disturbed.
    fn quietest<const N: usize>(
        &self,
        node: &Node,
        once: &impl Fn(&Node) -> Result<[Run; N]>,
    ) -> Result<[Run; N]> {
        let disturbed = |runs: &[Run; N]| runs.iter().map(|run| run.foreign_percent).fold(0.0, f64::max);
        let mut best = once(node)?;
        for _ in 0..self.plan.repeats {
            if disturbed(&best) <= self.plan.max_foreign_percent {
                break;
            }
            let again = once(node)?;
            if disturbed(&again) < disturbed(&best) {
                best = again;
            }
        }
        Ok(best)
    }

    fn measure_throughput(
        &mut self,
        pair: &Pair,
        groups: [&'static str; 2],
        workload: &Throughput,
        durable: bool,
    ) -> Result<()> {
        let settings = self.workloads.settings(&workload.settings)?;
        let touched_bytes = self.workloads.memory.touched_bytes;
        let names = groups.map(|group| (group, workload.name()));
        self.alternate(pair, names, |node| {
            memory::touch(touched_bytes)?;
            let both = throughput::run(node, workload, settings, durable)?;
            Ok([both.produce, both.consume])
        })
    }

    fn measure_latency(
        &mut self,
        pair: &Pair,
        group: &'static str,
        workload: &Latency,
        durable: bool,
    ) -> Result<()> {
        let settings = self.workloads.settings(&workload.settings)?;
        self.alternate(pair, [(group, workload.name())], |node| {
            Ok([latency::run(node, workload, settings, durable)?])
        })
    }

    fn measure_fetch(&mut self, pair: &Pair) -> Result<()> {
        let settings = self.workloads.settings("T")?;
        for workload in &self.workloads.fetch.workloads {
            let name = format!("raw batches of {}", size(workload.record_bytes));
            if !self.plan.wants("fetch", &name) {
                continue;
            }
            let fill = |system| pair.with(system, |node| fetch::fill(node, workload, settings));
            let topics = [fill(System::Kafka)?, fill(System::Highwater)?];
            self.alternate(pair, [("fetch", name)], |node| {
                let topic = &topics[usize::from(node.system() == System::Highwater)];
                Ok([fetch::run(node, topic, workload)?])
            })?;
        }
        Ok(())
    }

    fn measure_catch_up(&mut self, pair: &Pair) -> Result<()> {
        let touched_bytes = self.workloads.memory.touched_bytes;
        for workload in &self.workloads.catch_up.workloads {
            let settings = self.workloads.settings(&workload.settings)?;
            let name = format!(
                "{} while {}/s come in",
                size(workload.record_bytes),
                grouped(workload.rate)
            );
            self.alternate(pair, [("catch-up", name)], |node| {
                memory::touch(touched_bytes)?;
                Ok([fetch::catch_up(node, workload, settings)?])
            })?;
        }
        Ok(())
    }

    fn measure_java(&mut self, pair: &Pair) -> Result<()> {
        let programs = self.programs;
        let touched_bytes = self.workloads.memory.touched_bytes;
        for workload in &self.workloads.java.workloads {
            self.alternate(pair, [("java", workload.name())], |node| {
                memory::touch(touched_bytes)?;
                Ok([java::run(node, programs, workload)?])
            })?;
        }
        Ok(())
    }

    /// What all the runs left behind in the processes.
    fn note_memory(&mut self, pair: &Pair, idle: [f64; 2]) -> Result<()> {
        let mut outcome = Outcome::new("memory", "of the runs above".to_owned());
        for (system, idle_mb) in System::BOTH.into_iter().zip(idle) {
            let run = pair.with(system, |node| {
                let run = Run::default()
                    .with(Figure::RssIdleMb, idle_mb)
                    .with(Figure::RssEndMb, usage::rss_mb(node.pid())?);
                Ok(run.with(Figure::RssPeakMb, usage::peak_rss_mb(node.pid())?))
            })?;
            self.say(&format!("memory, {}: {}", system.name(), report::progress(&run)));
            outcome.side_mut(system).runs.push(run);
        }
        self.outcomes.push(outcome);
        Ok(())
    }

    fn measure_starts(&mut self) -> Result<()> {
        let name = "a node with one topic";
        if !self.plan.wants("start", name) {
            return Ok(());
        }
        let mut outcome = Outcome::new("start", name.to_owned());
        for system in System::BOTH {
            let folder = self.parent.join("start");
            let runs = self.workloads.start.runs;
            match lifecycle::starts(system, self.programs, &folder, runs) {
                Ok(runs) => {
                    for run in &runs {
                        self.say(&format!("start, {}: {}", system.name(), report::progress(run)));
                    }
                    outcome.side_mut(system).runs = runs;
                }
                Err(error) => {
                    self.say(&format!("start, {} FAILED: {error:#}", system.name()));
                    outcome.side_mut(system).failure = Some(format!("{error:#}"));
                }
            }
        }
        self.outcomes.push(outcome);
        Ok(())
    }

    fn measure_partitions(&mut self) -> Result<()> {
        let settings = self.workloads.settings("T")?;
        let idle = Duration::from_secs(self.workloads.partitions.idle_s);
        for workload in &self.workloads.partitions.workloads {
            let name = format!(
                "{} partitions",
                grouped(u64::from(workload.count().unsigned_abs()))
            );
            if !self.plan.wants("node", &name) {
                continue;
            }
            let mut outcome = Outcome::new("node", name);
            for system in System::BOTH {
                let folder = self.parent.join(format!("partitions-{}", workload.count()));
                self.say(&format!("{}: {} begins", outcome.name, system.name()));
                let run = lifecycle::partitions(system, self.programs, &folder, (workload, settings), idle);
                std::fs::remove_dir_all(&folder)
                    .with_context(|| format!("cannot empty {}", folder.display()))?;
                match run {
                    Ok(run) => {
                        let line = report::progress(&run);
                        self.say(&format!("{}, {}: {line}", outcome.name, system.name()));
                        outcome.side_mut(system).runs.push(run);
                    }
                    Err(error) => {
                        self.say(&format!("{}, {} FAILED: {error:#}", outcome.name, system.name()));
                        outcome.side_mut(system).failure = Some(format!("{error:#}"));
                    }
                }
            }
            self.outcomes.push(outcome);
        }
        Ok(())
    }
}
