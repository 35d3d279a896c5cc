//! How checks are declared.

use std::collections::HashSet;
use std::fmt;
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::check::Check;
use super::error::HealthError;
use super::handle::READY;
use super::startup::StartTask;
use super::state::Hysteresis;

/// LIMIT: a page of 256 lines is more than anyone reads, and each line is a task.
const CHECKS_MAX: usize = 256;
const NAME_MAX: usize = 80;

const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60);
const EVERY: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
const TTL_MAX: Duration = Duration::from_secs(24 * 3600);
const IN_A_ROW: RangeInclusive<u32> = 1..=100;

/// One check and how its results are judged. The defaults suit a database on the same LAN.
#[must_use = "a check does nothing until it is added to a registry"]
pub struct CheckSpec {
    name: Arc<str>,
    check: Arc<dyn Check>,
    timeout: Duration,
    every: Duration,
    ttl: Option<Duration>,
    fail_after: u32,
    recover_after: u32,
    critical: bool,
    groups: Vec<Arc<str>>,
}

impl CheckSpec {
    /// Declares a check. `name` is 1 to 80 characters of `A-Z a-z 0-9 . _ : -`, shown to anyone
    /// who may see the verbose probe.
    pub fn new(name: impl Into<Arc<str>>, check: impl Check) -> Self {
        Self {
            name: name.into(),
            check: Arc::new(check),
            timeout: Duration::from_secs(1),
            every: Duration::from_secs(5),
            ttl: None,
            fail_after: 3,
            recover_after: 2,
            critical: true,
            groups: vec![Arc::from(READY)],
        }
    }

    /// The longest a run may take; then it is dropped and counts as failed. Default 1 s; 1 ms
    /// to 60 s. Too low: a slow moment looks like an outage.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The pause from the end of a run to the next, moved by up to a tenth either way. Default
    /// 5 s; 10 ms to 1 hour. Too low: the check itself becomes load.
    pub const fn every(mut self, every: Duration) -> Self {
        self.every = every;
        self
    }

    /// How long a result counts. Default: three pauses and three timeouts; at least
    /// `1.1 × every + timeout`, at most 24 hours. Too high: an outage of the checker is
    /// noticed late.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// How many failures in a row turn a good check bad. Default 3; 1 to 100. The very first
    /// result, and the first after a stale one, decides alone.
    pub const fn fail_after(mut self, failures: u32) -> Self {
        self.fail_after = failures;
        self
    }

    /// How many passes in a row turn a bad check good. Default 2; 1 to 100.
    pub const fn recover_after(mut self, passes: u32) -> Self {
        self.recover_after = passes;
        self
    }

    /// Whether its groups are ready only if it holds. Default `true`; otherwise a failure
    /// degrades them and no more.
    pub const fn critical(mut self, critical: bool) -> Self {
        self.critical = critical;
        self
    }

    /// The groups it belongs to, instead of [`READY`] alone. Readiness is the group [`READY`];
    /// the others are answered by [`Health::group`](super::Health::group).
    pub fn groups<Name: Into<Arc<str>>>(mut self, groups: impl IntoIterator<Item = Name>) -> Self {
        self.groups = groups.into_iter().map(Into::into).collect();
        self
    }

    fn checked(self) -> Result<Plan, HealthError> {
        let Self { name, check, timeout, every, ttl, fail_after, recover_after, critical, groups } =
            self;
        check_name(&name)?;
        groups.iter().try_for_each(check_name)?;
        let wrong = |setting, expected| HealthError::OutOfRange {
            check: Arc::clone(&name),
            setting,
            expected,
        };
        let in_a_row = |setting, count: u32| {
            let count = IN_A_ROW.contains(&count).then(|| NonZeroU32::new(count)).flatten();
            count.ok_or_else(|| wrong(setting, "1 to 100"))
        };
        if !TIMEOUT.contains(&timeout) {
            return Err(wrong("timeout", "1 ms to 60 s"));
        }
        if !EVERY.contains(&every) {
            return Err(wrong("every", "10 ms to 1 hour"));
        }
        let ttl = ttl.unwrap_or_else(|| (every + timeout) * 3);
        if ttl < every.mul_f64(1.1) + timeout || ttl > TTL_MAX {
            return Err(wrong("ttl", "1.1 times `every` plus `timeout`, to 24 hours"));
        }
        let fail_after = in_a_row("fail_after", fail_after)?;
        let recover_after = in_a_row("recover_after", recover_after)?;
        let rules = Hysteresis { fail_after, recover_after, ttl };
        Ok(Plan { check, timeout, every, rules, critical, groups: groups.into(), name })
    }
}

impl fmt::Debug for CheckSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CheckSpec").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A check whose settings are in range.
pub(super) struct Plan {
    pub(super) name: Arc<str>,
    pub(super) check: Arc<dyn Check>,
    pub(super) timeout: Duration,
    pub(super) every: Duration,
    pub(super) rules: Hysteresis,
    pub(super) critical: bool,
    pub(super) groups: Box<[Arc<str>]>,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Everything readiness depends on, before it runs: checks, start-up tasks, critical actors.
#[derive(Debug, Default)]
#[must_use = "a registry does nothing until health is started with it"]
pub struct HealthRegistry {
    pub(super) checks: Vec<CheckSpec>,
    pub(super) start_tasks: Vec<StartTask>,
    pub(super) critical_actors: HashSet<Arc<str>>,
}

impl HealthRegistry {
    /// Nothing to check: ready as soon as it is started.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a check; at most 256.
    pub fn check(mut self, spec: CheckSpec) -> Self {
        self.checks.push(spec);
        self
    }

    /// Adds a start-up task, to run after those added before; at most 64.
    pub fn start_task(mut self, task: StartTask) -> Self {
        self.start_tasks.push(task);
        self
    }

    /// Makes readiness depend on the actor of this name: while it is quarantined, suspended or
    /// stopped, or does not exist, the process is not ready.
    pub fn critical_actor(mut self, name: impl Into<Arc<str>>) -> Self {
        self.critical_actors.insert(name.into());
        self
    }

    pub(super) fn plans(specs: Vec<CheckSpec>) -> Result<Vec<Arc<Plan>>, HealthError> {
        if specs.len() > CHECKS_MAX {
            return Err(HealthError::TooMany { what: "checks", limit: CHECKS_MAX });
        }
        check_unique(specs.iter().map(|spec| &spec.name))?;
        specs.into_iter().map(|spec| spec.checked().map(Arc::new)).collect()
    }
}

pub(super) fn check_unique<'a>(
    names: impl Iterator<Item = &'a Arc<str>>,
) -> Result<(), HealthError> {
    let mut seen = HashSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(HealthError::NameTaken(Arc::clone(name)));
        }
    }
    Ok(())
}

pub(super) fn check_name(name: &Arc<str>) -> Result<(), HealthError> {
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte);
    let valid = !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(safe);
    if valid { Ok(()) } else { Err(HealthError::InvalidName(Arc::clone(name))) }
}
