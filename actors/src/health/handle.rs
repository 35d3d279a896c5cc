//! The handle: reads what was published, judges it at the moment of reading.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, Notify};
use tokio::time::Instant;

use super::entry::Entry;
use super::error::HealthError;
use super::report::{Item, Report, Status};
use super::run::run;
use super::spec::{HealthRegistry, Plan};
use super::startup::StartTasks;

/// The group that readiness asks; every check belongs to it unless told otherwise.
pub const READY: &str = "ready";

/// Looks at the supervised actors.
pub(super) type Actors = Box<dyn Fn() -> Standing + Send + Sync>;

/// How the supervised actors are doing.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// One line each; whether a line is critical is decided by [`Shared`].
    pub(super) actors: Vec<Item>,
    /// Whether a failure reached the root of the tree.
    pub(super) escalated: bool,
}

/// Answers probes from what the background runs found. Cheap to clone, never waits, no I/O.
#[derive(Clone)]
pub struct Health(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) slots: Box<[Slot]>,
    pub(super) start_tasks: StartTasks,
    actors: Actors,
    critical_actors: HashSet<Arc<str>>,
    draining: AtomicBool,
    /// 0: never asked, 1: not ready, 2: ready.
    last: AtomicU8,
    flips: AtomicU64,
}

/// Where the results of one check are published.
pub(super) struct Slot {
    entry: ArcSwap<Entry>,
    /// INVARIANT: held for the whole of a run, so that two runs never overlap.
    running: Mutex<()>,
    pub(super) wake: Notify,
}

impl Health {
    pub(super) fn new(registry: HealthRegistry, actors: Actors) -> Result<Self, HealthError> {
        let HealthRegistry { checks, start_tasks, critical_actors } = registry;
        let plans = HealthRegistry::plans(checks)?;
        Ok(Self(Arc::new(Shared {
            slots: plans.into_iter().map(Slot::new).collect(),
            start_tasks: StartTasks::new(start_tasks)?,
            actors,
            critical_actors,
            draining: AtomicBool::new(false),
            last: AtomicU8::new(0),
            flips: AtomicU64::new(0),
        })))
    }

    /// Whether traffic may come: nobody drains, start-up is done, the checks of group [`READY`]
    /// hold, no critical actor is out of service, and no failure reached the root of the tree.
    #[must_use]
    pub fn readiness(&self) -> Report {
        let report = self.0.readiness(Instant::now());
        self.0.note(&report);
        report
    }

    /// How far the start-up tasks are; ready when all are done.
    #[must_use]
    pub fn startup(&self) -> Report {
        Report::new(self.0.start_tasks.items())
    }

    /// Whether supervision holds. When a failure has reached the root of the tree, something the
    /// process cannot do without is gone, and the process should be replaced.
    #[must_use]
    pub fn supervision(&self) -> Item {
        supervision((self.0.actors)().escalated)
    }

    /// The checks of one group; `None` when no check belongs to it.
    #[must_use]
    pub fn group(&self, name: &str) -> Option<Report> {
        let items = self.0.checks(name, Instant::now());
        (!items.is_empty()).then(|| Report::new(items))
    }

    /// From now on the process is not ready, for good: the first step of a shutdown.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
        self.0.note(&self.0.readiness(Instant::now()));
    }

    /// Whether [`drain`](Self::drain) was called.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// How often readiness changed since the start, as far as anybody looked. Looked at by
    /// every probe and, in between, four times a second.
    #[must_use]
    pub fn flips(&self) -> u64 {
        self.0.flips.load(Ordering::Acquire)
    }

    /// Runs the named check now instead of at its next turn. `false` when there is none.
    ///
    /// Several wishes before it runs are one run; a run under way is finished first.
    pub fn recheck(&self, name: &str) -> bool {
        self.0.recheck(name)
    }
}

impl fmt::Debug for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Health")
            .field("checks", &self.0.slots.len())
            .field("draining", &self.is_draining())
            .finish_non_exhaustive()
    }
}

impl Shared {
    fn readiness(&self, now: Instant) -> Report {
        let mut items = vec![self.shutdown(), self.start_tasks.summary()];
        items.extend(self.checks(READY, now));
        items.extend(self.actors());
        Report::new(items)
    }

    fn shutdown(&self) -> Item {
        if self.draining.load(Ordering::Acquire) {
            return Item::new("shutdown", Status::Down).because("the process is shutting down");
        }
        Item::new("shutdown", Status::Up)
    }

    fn checks(&self, group: &str, now: Instant) -> Vec<Item> {
        let entries = self.slots.iter().map(|slot| slot.entry.load());
        entries.filter(|entry| entry.is_in(group)).map(|entry| entry.item(now)).collect()
    }

    fn actors(&self) -> Vec<Item> {
        let Standing { actors: mut items, escalated } = (self.actors)();
        let known: HashSet<Arc<str>> = items.iter().map(|item| Arc::clone(&item.name)).collect();
        let missing = self.critical_actors.difference(&known).map(|name| {
            Item::new(Arc::clone(name), Status::Down).because("there is no actor of this name")
        });
        items.extend(missing);
        items.sort_by(|a, b| a.name.cmp(&b.name));
        for item in &mut items {
            item.critical = self.critical_actors.contains(&item.name);
            item.name = format!("actor:{}", item.name).into();
        }
        items.push(supervision(escalated));
        items
    }

    pub(super) fn recheck(&self, name: &str) -> bool {
        let slot = self.slots.iter().find(|slot| &*slot.plan().name == name);
        slot.inspect(|slot| slot.wake.notify_one()).is_some()
    }

    /// Notices when readiness changed since anybody last looked.
    pub(super) fn observe(&self) {
        self.note(&self.readiness(Instant::now()));
    }

    fn note(&self, report: &Report) {
        let ready = report.is_ready();
        let before = self.last.swap(if ready { 2 } else { 1 }, Ordering::AcqRel);
        // The process begins not ready: only leaving that state is a change worth an event.
        if (before == 2) == ready {
            return;
        }
        self.flips.fetch_add(1, Ordering::AcqRel);
        let status = report.status.as_str();
        if ready {
            tracing::info!(ready, status, "health.readiness_flipped");
        } else {
            let cause = report.items.iter().find(|item| item.critical && !item.status.is_ready());
            let cause = cause.map_or("", |item| &item.name);
            tracing::warn!(ready, status, cause, "health.readiness_flipped");
        }
    }
}

fn supervision(escalated: bool) -> Item {
    if escalated {
        let reason = "a failure reached the root of the tree";
        return Item::new("supervision", Status::Down).because(reason);
    }
    Item::new("supervision", Status::Up)
}

#[cfg(test)]
impl Health {
    /// Runs every check once, without the actor.
    pub(crate) async fn run_checks_once(&self) {
        for slot in &self.0.slots {
            slot.run_once().await;
        }
    }
}

impl Slot {
    fn new(plan: Arc<Plan>) -> Self {
        let entry = ArcSwap::from_pointee(Entry::new(plan));
        Self { entry, running: Mutex::new(()), wake: Notify::new() }
    }

    pub(super) fn plan(&self) -> Arc<Plan> {
        Arc::clone(&self.entry.load().plan)
    }

    /// Runs the check once and publishes what it found.
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the run and publishes nothing.
    pub(super) async fn run_once(&self) {
        let _alone = self.running.lock().await;
        let before = self.entry.load_full();
        let outcome = run(&*before.plan.check, before.plan.timeout).await;
        let now = Instant::now();
        let after = Arc::new(before.after(outcome.finding, outcome.reason, now));
        self.entry.store(Arc::clone(&after));
        report_flip(&before, &after, now);
    }
}

fn report_flip(before: &Entry, after: &Entry, now: Instant) {
    let (from, to) = (before.status(now), after.item(now));
    if from == to.status {
        return;
    }
    let (check, from, status) = (&*to.name, from.as_str(), to.status.as_str());
    let reason = to.reason.as_deref().unwrap_or_default();
    if to.status == Status::Up {
        tracing::info!(check, from, to = status, "health.check_flipped");
    } else {
        tracing::warn!(check, from, to = status, reason, "health.check_flipped");
    }
}
