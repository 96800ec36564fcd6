//! The one place that starts and stops tasks: compares what should run here with what does.
//!
//! ```text
//!   slot:  (not ours) --assigned--> claiming --claim read back--> owned --revoked--> leaving --tasks ended--> (not ours)
//!                                      ^                            |
//!                                      +------ another claim -------+
//! ```
//!
//! # Invariants
//! - At most one run of a task is alive in this worker.
//! - A slot is released in the log, and the group told so, only after its tasks have ended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use highwater_connect_api::Settings;
use highwater_types::Offset;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::planner::{self, PlanError};
use super::shared::Shared;
use super::{WorkerError, filled, group, to_json};
use crate::config::{ConnectorConfig, Document, TargetState};
use crate::log::LogError;
use crate::retry::{RestartHistory, RestartPolicy};
use crate::state::{self, ClaimRecord, RestartRequest};
use crate::status::{RunState, Subject};
use crate::task::{self, TaskContext, TaskEnd, TaskId};

/// Messages that wait for the scheduler.
const MAX_MESSAGES: usize = 1_024;
/// How long a slot that another worker claimed is left alone. If the group still says it is ours after that, the other
/// one has heard by now that it is not its.
const RECLAIM_PAUSE: Duration = Duration::from_secs(5);
/// Wait before a claim or a plan that failed is tried again.
const FAILURE_PAUSE: Duration = Duration::from_secs(2);
/// Wait when nothing is due.
const IDLE: Duration = Duration::from_secs(3_600);

#[derive(Debug)]
pub(crate) enum Message {
    Assigned(Vec<u32>),
    Revoked {
        slots: Vec<u32>,
        /// Whether the slots are still ours to release.
        release: bool,
        done: oneshot::Sender<()>,
    },
    Claimed {
        slots: Vec<u32>,
        outcome: Result<BTreeMap<u32, Offset>, WorkerError>,
    },
    Ended {
        id: TaskId,
        run: u64,
        end: TaskEnd,
    },
    Planned {
        connector: String,
        version: Offset,
        outcome: Result<(), PlanError>,
    },
    LeftGroup,
    Shutdown(oneshot::Sender<()>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Claiming,
    Owned {
        epoch: Offset,
    },
    /// Not to be used before this moment.
    Waiting {
        until: Instant,
    },
}

#[derive(Debug)]
struct Leaving {
    slots: BTreeSet<u32>,
    release: BTreeMap<u32, Offset>,
    done: oneshot::Sender<()>,
}

#[derive(Debug)]
struct Running {
    run: u64,
    slot: u32,
    epoch: Offset,
    plan: Offset,
    policy: RestartPolicy,
    paused: watch::Sender<bool>,
    stop: CancellationToken,
    abort: CancellationToken,
    /// When to drop it; set once it was asked to stop.
    deadline: Option<Instant>,
}

#[derive(Debug)]
struct Failed {
    plan: Offset,
    retry_at: Option<Instant>,
    history: RestartHistory,
}

#[derive(Debug)]
enum Planning {
    UnderWay,
    Failed { version: Offset, retry_at: Instant },
}

/// A task that should run here.
struct Wanted {
    slot: u32,
    epoch: Offset,
    plan: Offset,
    paused: bool,
    settings: Settings,
    document: Document,
}

struct Scheduler {
    shared: Arc<Shared>,
    messages: mpsc::Sender<Message>,
    slots: BTreeMap<u32, Slot>,
    leaving: Vec<Leaving>,
    tasks: BTreeMap<TaskId, Running>,
    /// Failures, and the restarts of tasks that run again.
    failed: BTreeMap<TaskId, Failed>,
    planning: BTreeMap<String, Planning>,
    /// Connectors reported as running: the plan's version and the epoch of the planner's slot.
    reported: BTreeMap<String, (Offset, Offset)>,
    runs: u64,
    started: Instant,
    leave_group: CancellationToken,
    left_group: bool,
    closing: Vec<oneshot::Sender<()>>,
}

/// Starts the scheduler and joins the group.
pub(super) fn start(shared: Arc<Shared>) -> Result<mpsc::Sender<Message>, WorkerError> {
    let (messages, inbox) = mpsc::channel(MAX_MESSAGES);
    let leave_group = CancellationToken::new();
    group::join(&shared, messages.clone(), leave_group.clone()).map_err(|source| WorkerError::Group {
        group_id: shared.config.group_id.clone(),
        source: Box::new(source),
    })?;
    let scheduler = Scheduler {
        shared,
        messages: messages.clone(),
        slots: BTreeMap::new(),
        leaving: Vec::new(),
        tasks: BTreeMap::new(),
        failed: BTreeMap::new(),
        planning: BTreeMap::new(),
        reported: BTreeMap::new(),
        runs: 0,
        started: Instant::now(),
        leave_group,
        left_group: false,
        closing: Vec::new(),
    };
    tokio::spawn(scheduler.run(inbox));
    Ok(messages)
}

impl Scheduler {
    async fn run(mut self, mut inbox: mpsc::Receiver<Message>) {
        let changed = self.shared.changed.clone();
        loop {
            let wake_at = self.next_moment();
            tokio::select! {
                // This struct holds a sender, so the channel never ends.
                Some(message) = inbox.recv() => self.handle(message),
                () = changed.notified() => self.heed_restarts(),
                () = tokio::time::sleep_until(wake_at) => {}
            }
            self.reconcile();
            if self.left_group && self.tasks.is_empty() {
                break;
            }
        }
        self.shared.producer.clone().close().await;
        self.shared.stop.cancel();
        tracing::info!(group = %self.shared.config.group_id, "connect worker stopped");
        for done in self.closing {
            let _ = done.send(()); // Whoever asked may have stopped waiting.
        }
    }

    fn next_moment(&self) -> Instant {
        let slots = self.slots.values().filter_map(|slot| match slot {
            Slot::Waiting { until } => Some(*until),
            Slot::Claiming | Slot::Owned { .. } => None,
        });
        let deadlines = self.tasks.values().filter_map(|task| task.deadline);
        let failed = self.failed.iter().filter(|(id, _)| !self.tasks.contains_key(id));
        let restarts = failed.filter_map(|(_, failed)| failed.retry_at);
        let plans = self.planning.values().filter_map(|planning| match planning {
            Planning::Failed { retry_at, .. } => Some(*retry_at),
            Planning::UnderWay => None,
        });
        let now = Instant::now();
        let next = slots.chain(deadlines).chain(restarts).chain(plans).min();
        // What is overdue and still there waits for a message.
        next.map_or(now + IDLE, |next| next.max(now + Duration::from_millis(20)))
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Assigned(slots) => self.claim(slots),
            Message::Revoked { slots, release, done } => self.revoke(slots, release, done),
            Message::Claimed { slots, outcome } => self.claimed(slots, outcome),
            Message::Ended { id, run, end } => self.ended(id, run, end),
            Message::Planned {
                connector,
                version,
                outcome,
            } => self.planned(connector, version, outcome),
            Message::LeftGroup => {
                self.left_group = true;
                self.slots.clear();
            }
            Message::Shutdown(done) => {
                self.leave_group.cancel();
                self.closing.push(done);
            }
        }
    }

    fn claim(&mut self, slots: Vec<u32>) {
        self.slots
            .extend(slots.iter().map(|slot| (*slot, Slot::Claiming)));
        let (shared, messages) = (self.shared.clone(), self.messages.clone());
        tokio::spawn(async move {
            let outcome = write_claims(&shared, &slots).await;
            let _ = messages.send(Message::Claimed { slots, outcome }).await;
        });
    }

    fn claimed(&mut self, slots: Vec<u32>, outcome: Result<BTreeMap<u32, Offset>, WorkerError>) {
        if let Err(error) = &outcome {
            tracing::error!(%error, "slots cannot be claimed, trying again");
        }
        let epochs = outcome.unwrap_or_default();
        for slot in slots {
            if let Some(leaving) = self
                .leaving
                .iter_mut()
                .find(|leaving| leaving.slots.contains(&slot))
            {
                // Revoked meanwhile: the claim is there and must be released, too.
                leaving
                    .release
                    .extend(epochs.get(&slot).map(|epoch| (slot, *epoch)));
                self.slots.remove(&slot);
                continue;
            }
            let state = match epochs.get(&slot) {
                Some(epoch) => Slot::Owned { epoch: *epoch },
                None => Slot::Waiting {
                    until: Instant::now() + FAILURE_PAUSE,
                },
            };
            self.slots.insert(slot, state);
        }
    }

    fn revoke(&mut self, slots: Vec<u32>, release: bool, done: oneshot::Sender<()>) {
        let mut owned = BTreeMap::new();
        for slot in &slots {
            match self.slots.get(slot) {
                Some(Slot::Owned { epoch }) => {
                    owned.insert(*slot, *epoch);
                    self.slots.remove(slot);
                }
                // The claim under way must land before anyone else's, or it would take the slot back.
                Some(Slot::Claiming) => {}
                Some(Slot::Waiting { .. }) | None => {
                    self.slots.remove(slot);
                }
            }
        }
        self.leaving.push(Leaving {
            slots: slots.into_iter().collect(),
            release: if release { owned } else { BTreeMap::new() },
            done,
        });
    }

    /// Answers revocations whose tasks and claims are over.
    fn finish_leaving(&mut self) {
        let busy: BTreeSet<u32> = self
            .tasks
            .values()
            .map(|task| task.slot)
            .chain(
                self.slots
                    .iter()
                    .filter(|(_, slot)| **slot == Slot::Claiming)
                    .map(|(slot, _)| *slot),
            )
            .collect();
        let (left, leaving): (Vec<_>, Vec<_>) = std::mem::take(&mut self.leaving)
            .into_iter()
            .partition(|leaving| leaving.slots.is_disjoint(&busy));
        self.leaving = leaving;
        for Leaving { release, done, .. } in left {
            let shared = self.shared.clone();
            tokio::spawn(async move {
                if let Err(error) = write_releases(&shared, release).await {
                    // The next owner's claim replaces ours anyway.
                    tracing::debug!(%error, "slots were not released in the log");
                }
                let _ = done.send(()); // The consumer may be gone.
            });
        }
    }

    fn ended(&mut self, id: TaskId, run: u64, end: TaskEnd) {
        let Some(running) = self.tasks.remove(&id).filter(|running| running.run == run) else {
            return;
        };
        match end {
            TaskEnd::Failed => self.failed(id, running.plan, running.policy),
            TaskEnd::Dropped => {
                tracing::warn!(connector = %id.connector, task = id.task, "task did not stop in time and was dropped");
            }
            TaskEnd::Stopped => {}
        }
    }

    fn failed(&mut self, id: TaskId, plan: Offset, policy: RestartPolicy) {
        let now = Instant::now();
        let failed = self.failed.entry(id.clone()).or_insert_with(|| Failed {
            plan,
            retry_at: None,
            history: RestartHistory::default(),
        });
        let wait = failed.history.next(&policy, now.duration_since(self.started));
        failed.plan = plan;
        failed.retry_at = wait.map(|wait| now + wait);
        match wait {
            Some(wait) => {
                tracing::warn!(connector = %id.connector, task = id.task, ?wait, "failed task will restart");
            }
            None => {
                let advice = "mend the cause and restart it";
                tracing::error!(connector = %id.connector, task = id.task, advice, "failed task stays down");
            }
        }
    }

    fn heed_restarts(&mut self) {
        let requests = self.shared.state().take_restarts();
        for (connector, RestartRequest { tasks, only_failed }) in requests {
            let meant = |id: &TaskId| {
                id.connector == connector && tasks.as_ref().is_none_or(|tasks| tasks.contains(&id.task))
            };
            let running = &self.tasks;
            self.failed.retain(|id, _| !meant(id) || running.contains_key(id));
            if let Some(Planning::Failed { .. }) = self.planning.get(&connector) {
                self.planning.remove(&connector);
            }
            if !only_failed {
                let deadline = Instant::now() + self.shared.config.task_stop_timeout;
                for (_, task) in self.tasks.iter_mut().filter(|(id, _)| meant(id)) {
                    task.ask_to_stop(deadline);
                }
            }
        }
    }

    /// Makes what runs here equal to what should.
    fn reconcile(&mut self) {
        self.notice_foreign_claims();
        let now = Instant::now();
        let wanted = self.wanted();
        let deadline = now + self.shared.config.task_stop_timeout;
        for (id, task) in &mut self.tasks {
            match wanted.get(id) {
                Some(wanted) if wanted.plan == task.plan && wanted.epoch == task.epoch => {
                    task.paused
                        .send_if_modified(|paused| std::mem::replace(paused, wanted.paused) != wanted.paused);
                }
                _ => task.ask_to_stop(deadline),
            }
            if task.deadline.is_some_and(|deadline| deadline <= now) {
                task.abort.cancel();
            }
        }
        self.failed
            .retain(|id, failed| wanted.get(id).is_some_and(|wanted| wanted.plan == failed.plan));
        for (id, wanted) in wanted {
            let held_back = |failed: &Failed| failed.retry_at.is_none_or(|at| at > now);
            if !self.tasks.contains_key(&id) && !self.failed.get(&id).is_some_and(held_back) {
                self.start_task(id, wanted);
            }
        }
        self.reclaim(now);
        self.finish_leaving();
        self.plan(now);
        metrics::gauge!("highwater_connect_worker_tasks").set(self.tasks.len() as f64);
    }

    /// Another worker's claim means that the group has moved a slot on and we have not heard of it yet.
    fn notice_foreign_claims(&mut self) {
        let state = self.shared.state();
        let until = Instant::now() + RECLAIM_PAUSE;
        for (slot, mine) in &mut self.slots {
            if let (Slot::Owned { epoch }, Some(claim)) = (*mine, state.claim(*slot))
                && claim.epoch > epoch
            {
                tracing::warn!(slot, owner = %claim.worker, "another worker claimed a slot of this one");
                *mine = Slot::Waiting { until };
            }
        }
    }

    fn reclaim(&mut self, now: Instant) {
        let due = |slot: &Slot| matches!(slot, Slot::Waiting { until } if *until <= now);
        let slots: Vec<u32> = self
            .slots
            .iter()
            .filter(|(_, slot)| due(slot))
            .map(|(slot, _)| *slot)
            .collect();
        if !slots.is_empty() {
            self.claim(slots);
        }
    }

    fn wanted(&self) -> BTreeMap<TaskId, Wanted> {
        let state = self.shared.state();
        let mut wanted = BTreeMap::new();
        for (name, entry) in state.connectors() {
            let Some(plan) = entry.plan.filter(|_| entry.target != TargetState::Stopped) else {
                continue;
            };
            for (task, planned) in plan.record.tasks.iter().enumerate() {
                let Some(Slot::Owned { epoch }) = self.slots.get(&planned.slot) else {
                    continue;
                };
                let id = TaskId {
                    connector: name.to_owned(),
                    task,
                };
                let task = Wanted {
                    slot: planned.slot,
                    epoch: *epoch,
                    plan: plan.version,
                    paused: entry.target == TargetState::Paused,
                    settings: planned.settings(),
                    document: entry.document.clone(),
                };
                wanted.insert(id, task);
            }
        }
        wanted
    }

    fn start_task(&mut self, id: TaskId, wanted: Wanted) {
        self.runs += 1;
        let (paused, is_paused) = watch::channel(wanted.paused);
        let (stop, abort) = (CancellationToken::new(), CancellationToken::new());
        let environment = &self.shared.config.environment;
        let resolved = ConnectorConfig::resolve(&wanted.document, &self.shared.plugins, environment)
            .and_then(|config| {
                let plugin = self.shared.plugins.get(&config.plugin);
                let settings = filled(&wanted.settings, plugin, environment)?;
                Ok((config, settings))
            });
        if self.failed.contains_key(&id) {
            metrics::counter!("highwater_connect_task_restarts_total", "connector" => id.connector.clone())
                .increment(1);
        }
        let running = Running {
            run: self.runs,
            slot: wanted.slot,
            epoch: wanted.epoch,
            plan: wanted.plan,
            policy: match &resolved {
                Ok((config, _)) => config.errors.restart,
                Err(_) => RestartPolicy::default(),
            },
            paused,
            stop: stop.clone(),
            abort: abort.clone(),
            deadline: None,
        };
        let run = running.run;
        self.tasks.insert(id.clone(), running);
        let (shared, messages) = (self.shared.clone(), self.messages.clone());
        let generation = wanted.epoch.get();
        tokio::spawn(async move {
            let end = match resolved {
                Ok((config, settings)) => {
                    let context = TaskContext {
                        shared,
                        id: id.clone(),
                        config,
                        settings,
                        generation,
                        stop,
                        paused: is_paused,
                    };
                    task::run(context, abort).await
                }
                Err(error) => {
                    let subject = Subject::Task(id.connector.clone(), id.task);
                    let trace = Some(error.to_string());
                    shared.report(&subject, RunState::Failed, trace, generation).await;
                    TaskEnd::Failed
                }
            };
            let _ = messages.send(Message::Ended { id, run, end }).await;
        });
    }

    /// As owner of the planner's slot: plans what has no plan, reports what has one, forgets what is gone.
    fn plan(&mut self, now: Instant) {
        let Some(Slot::Owned { epoch }) = self.slots.get(&planner::SLOT).copied() else {
            self.planning
                .retain(|_, planning| matches!(planning, Planning::UnderWay));
            self.reported.clear();
            return;
        };
        let mut unplanned = Vec::new();
        let mut planned = BTreeMap::new();
        {
            let state = self.shared.state();
            for (name, entry) in state.connectors() {
                if let Some(plan) = entry.plan {
                    planned.insert(name.to_owned(), (plan.version, epoch));
                } else if entry.target == TargetState::Stopped {
                    planned.insert(name.to_owned(), (entry.version, epoch));
                } else {
                    unplanned.push((name.to_owned(), entry.version, entry.document.clone()));
                }
            }
        }
        metrics::gauge!("highwater_connect_worker_connectors").set((planned.len() + unplanned.len()) as f64);
        let pending: BTreeSet<&String> = unplanned.iter().map(|(name, ..)| name).collect();
        let gone = |name: &&String| !planned.contains_key(*name) && !pending.contains(name);
        for name in self.reported.keys().filter(gone) {
            let (shared, name) = (self.shared.clone(), name.clone());
            tokio::spawn(async move { shared.forget_status(&name).await });
        }
        for (name, version) in planned
            .iter()
            .filter(|(name, v)| self.reported.get(*name) != Some(*v))
        {
            let _ = version;
            let (shared, subject) = (self.shared.clone(), Subject::Connector(name.clone()));
            tokio::spawn(async move {
                shared
                    .report(&subject, RunState::Running, None, epoch.get())
                    .await;
            });
        }
        self.reported = planned;
        for (name, version, document) in unplanned {
            let held_back = match self.planning.get(&name) {
                Some(Planning::UnderWay) => true,
                Some(Planning::Failed { version: v, retry_at }) => *v == version && *retry_at > now,
                None => false,
            };
            if !held_back {
                self.start_planning(name, version, document);
            }
        }
    }

    fn start_planning(&mut self, connector: String, version: Offset, document: Document) {
        self.planning.insert(connector.clone(), Planning::UnderWay);
        let (shared, messages) = (self.shared.clone(), self.messages.clone());
        tokio::spawn(async move {
            let outcome = planner::plan(shared, connector.clone(), version, document).await;
            let message = Message::Planned {
                connector,
                version,
                outcome,
            };
            let _ = messages.send(message).await;
        });
    }

    fn planned(&mut self, connector: String, version: Offset, outcome: Result<(), PlanError>) {
        self.planning.remove(&connector);
        let Err(error) = outcome else { return };
        let trace = task::trace(&error);
        tracing::error!(%connector, error = %trace, "connector cannot be planned, trying again");
        if let Some(Slot::Owned { epoch }) = self.slots.get(&planner::SLOT) {
            let (shared, generation) = (self.shared.clone(), epoch.get());
            let subject = Subject::Connector(connector.clone());
            tokio::spawn(async move {
                shared
                    .report(&subject, RunState::Failed, Some(trace), generation)
                    .await;
            });
        }
        let retry_at = Instant::now() + FAILURE_PAUSE * 5;
        self.planning
            .insert(connector, Planning::Failed { version, retry_at });
    }
}

impl Running {
    fn ask_to_stop(&mut self, deadline: Instant) {
        self.stop.cancel();
        self.deadline.get_or_insert(deadline);
    }
}

/// Claims slots and reads the log up to the claims, and so everything before them.
async fn write_claims(shared: &Shared, slots: &[u32]) -> Result<BTreeMap<u32, Offset>, WorkerError> {
    let mut epochs = BTreeMap::new();
    let topic = &shared.config.config_topic;
    let record = to_json(&ClaimRecord::Worker(shared.config.worker_id.clone()))?;
    let writes = slots
        .iter()
        .map(|slot| shared.write(topic, state::claim_key(*slot), Some(record.clone())));
    for (slot, written) in slots.iter().zip(futures::future::join_all(writes).await) {
        let offset = written?.offset.ok_or_else(|| LogError::TimedOut {
            topic: topic.clone(),
            timeout: Duration::ZERO,
        })?;
        epochs.insert(*slot, offset);
    }
    if let Some(last) = epochs.values().max() {
        shared.config_applied(*last).await?;
    }
    Ok(epochs)
}

async fn write_releases(shared: &Shared, epochs: BTreeMap<u32, Offset>) -> Result<(), WorkerError> {
    let mut writes = Vec::with_capacity(epochs.len());
    for (slot, epoch) in epochs {
        let record = to_json(&ClaimRecord::Released(epoch.get()))?;
        writes.push(shared.write(&shared.config.config_topic, state::claim_key(slot), Some(record)));
    }
    for written in futures::future::join_all(writes).await {
        written?;
    }
    Ok(())
}
