//! Settings of a guard: a builder that checks, and what it has checked.

use std::time::Duration;

use super::PerClass;
use crate::jobs::Class;
use crate::kernel::{Code, Fault};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// LIMIT: jobs of one kind counted in one look, where no smaller number will do.
const PROBE_MAX: u32 = 100_000;

/// Builds a [`GuardConfig`]. The defaults derive what is too much from how fast the queue is
/// worked off, so that most queues need none of them changed.
#[derive(Debug, Clone)]
#[must_use = "settings do nothing until they are built"]
pub struct GuardBuilder {
    age_target: PerClass<Duration>,
    drain_target: PerClass<Option<Duration>>,
    depth_max: Option<u32>,
    window: Duration,
    memory: Duration,
    sustain: Duration,
    calm: Duration,
    defer_max: Duration,
    retry_after_max: Duration,
    look_every: Duration,
}

impl GuardBuilder {
    const fn new() -> Self {
        Self {
            age_target: PerClass([
                Duration::from_secs(15),
                Duration::from_secs(60),
                Duration::from_secs(300),
                Duration::from_secs(3600),
            ]),
            drain_target: PerClass([None; 4]),
            depth_max: None,
            window: Duration::from_secs(10),
            memory: Duration::from_secs(10),
            sustain: Duration::from_secs(3),
            calm: Duration::from_secs(20),
            defer_max: Duration::from_secs(900),
            retry_after_max: Duration::from_secs(600),
            look_every: Duration::from_secs(1),
        }
    }

    /// How long a job of this class may be due and not begun; at this age the pressure is 1.0.
    /// Default 15 s, 1 min, 5 min and 1 h, the dearest class first; 1 s to 1 day.
    /// Too low: a long job that blocks the workers counts as overload. Too high: the overload
    /// is felt by users before the guard acts.
    pub const fn age_target(mut self, class: Class, age: Duration) -> Self {
        self.age_target = self.age_target.with(class, age);
        self
    }

    /// How long it may take to work off what waits of this class; at this estimate the pressure
    /// is 1.0.
    /// Default the class's [`age_target`](Self::age_target), because the estimate is the wait
    /// of a job enqueued now; 1 s to 1 day. Too low: ordinary batches count as overload. Too
    /// high: only the age of what has waited already does.
    pub const fn drain_target(mut self, class: Class, drain: Duration) -> Self {
        self.drain_target = self.drain_target.with(class, Some(drain));
        self
    }

    /// The hard limit on jobs in the queue, in any class: due, running, put off and parked.
    /// At 80 % of it the pressure is 1.0; at all of it every job is turned away, also
    /// [`Class::Critical`] ones.
    /// No limit by default (the disk's); 100 to 100,000,000. Each look counts so many jobs, at
    /// about 0.15 ms a thousand. The room is divided among the processes: with several of them
    /// keep it well above their number. Too low: batches are turned away that would have been
    /// worked off in time. Too high: it never acts before the disk is full.
    pub const fn depth_max(mut self, jobs: u32) -> Self {
        self.depth_max = Some(jobs);
        self
    }

    /// For how long an age or a drain estimate must stand before it counts: its minimum over
    /// this window does.
    /// Default 10 s; 1 s to 5 min. Too low: a batch that is worked off at once counts as
    /// overload. Too high: real overload is seen that much later.
    pub const fn window(mut self, length: Duration) -> Self {
        self.window = length;
        self
    }

    /// The time constant of the arrival and service rates: after so long, a change of pace
    /// has come through to 63 %.
    /// Default 10 s; 1 s to 5 min. Too low: estimates jump about. Too high: they are of old.
    pub const fn memory(mut self, time: Duration) -> Self {
        self.memory = time;
        self
    }

    /// For how long pressure must last before the level rises. The hard limit does not wait.
    /// Default 3 s; 250 ms to 1 min. Too low: noise raises the level. Too high: the backlog
    /// grows that much longer.
    pub const fn sustain(mut self, time: Duration) -> Self {
        self.sustain = time;
        self
    }

    /// For how long pressure must stay at or under 70 % of what raised the level, and the
    /// least time spent in a level, before it falls by one.
    /// Default 20 s; 1 s to 10 min. Too low: levels flap. Too high: work is turned away that
    /// could be done.
    pub const fn calm(mut self, time: Duration) -> Self {
        self.calm = time;
        self
    }

    /// The longest time a job is put off by at once. One for which that would not be enough, by
    /// what waits and what was put off before it, is turned away instead.
    /// Default 15 min; 2 s to 1 day. Too low: normal work is refused in a short overload. Too
    /// high: more work is carried along that may no longer be wanted when it is done.
    pub const fn defer_max(mut self, time: Duration) -> Self {
        self.defer_max = time;
        self
    }

    /// The longest `Retry-After`.
    /// Default 10 min; 1 s to 1 day. Too low: callers come back into the overload. Too high:
    /// they stay away longer than it lasts.
    pub const fn retry_after_max(mut self, time: Duration) -> Self {
        self.retry_after_max = time;
        self
    }

    /// How often a calm queue is looked at; any other is looked at four times as often.
    /// Default 1 s; 100 ms to a fifth of [`window`](Self::window). Too low: the database does
    /// little else. Too high: the guard sees too little of what happens within the window.
    pub const fn look_every(mut self, time: Duration) -> Self {
        self.look_every = time;
        self
    }

    /// Checks each setting, then that they fit together.
    ///
    /// # Errors
    ///
    /// [`GuardConfigError`] names the first setting that is out of its range: correct it.
    pub fn build(self) -> Result<GuardConfig, GuardConfigError> {
        self.check()?;
        Ok(self.config())
    }

    /// INVARIANT: the defaults pass [`check`](Self::check), which a test holds them to.
    const fn config(self) -> GuardConfig {
        let PerClass([critical, normal, sheddable, bulk]) = self.age_target;
        let PerClass(given) = self.drain_target;
        let [for_critical, for_normal, for_sheddable, for_bulk] = given;
        GuardConfig {
            age_target: self.age_target,
            drain_target: PerClass([
                or(for_critical, critical),
                or(for_normal, normal),
                or(for_sheddable, sheddable),
                or(for_bulk, bulk),
            ]),
            depth_max: self.depth_max,
            window: self.window,
            memory: self.memory,
            sustain: self.sustain,
            calm: self.calm,
            defer_max: self.defer_max,
            retry_after_max: self.retry_after_max,
            look_every: self.look_every,
        }
    }

    fn check(&self) -> Result<(), GuardConfigError> {
        let day = SECOND..=DAY;
        let PerClass(ages) = self.age_target;
        within("age_target", ages.iter().all(|age| day.contains(age)), "1 s to 1 day")?;
        let PerClass(drains) = self.drain_target;
        let drains = drains.iter().flatten().all(|drain| day.contains(drain));
        within("drain_target", drains, "1 s to 1 day")?;
        let depth = self.depth_max.is_none_or(|jobs| (100..=100_000_000).contains(&jobs));
        within("depth_max", depth, "100 to 100000000")?;
        let window = (SECOND..=5 * MINUTE).contains(&self.window);
        within("window", window, "1 s to 5 min")?;
        let memory = (SECOND..=5 * MINUTE).contains(&self.memory);
        within("memory", memory, "1 s to 5 min")?;
        let sustain = (SECOND / 4..=MINUTE).contains(&self.sustain);
        within("sustain", sustain, "250 ms to 1 min")?;
        within("calm", (SECOND..=10 * MINUTE).contains(&self.calm), "1 s to 10 min")?;
        within("defer_max", (2 * SECOND..=DAY).contains(&self.defer_max), "2 s to 1 day")?;
        within("retry_after_max", day.contains(&self.retry_after_max), "1 s to 1 day")?;
        let look = (SECOND / 10..=self.window / 5).contains(&self.look_every);
        within("look_every", look, "100 ms to a fifth of `window`")
    }
}

const fn or(given: Option<Duration>, otherwise: Duration) -> Duration {
    match given {
        Some(given) => given,
        None => otherwise,
    }
}

const fn within(
    setting: &'static str,
    ok: bool,
    expected: &'static str,
) -> Result<(), GuardConfigError> {
    if ok { Ok(()) } else { Err(GuardConfigError { setting, expected }) }
}

/// Checked settings of a guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardConfig {
    pub(super) age_target: PerClass<Duration>,
    pub(super) drain_target: PerClass<Duration>,
    pub(super) depth_max: Option<u32>,
    pub(super) window: Duration,
    pub(super) memory: Duration,
    pub(super) sustain: Duration,
    pub(super) calm: Duration,
    pub(super) defer_max: Duration,
    pub(super) retry_after_max: Duration,
    pub(super) look_every: Duration,
}

impl GuardConfig {
    /// Settings to change from the defaults.
    pub const fn builder() -> GuardBuilder {
        GuardBuilder::new()
    }

    /// Up to how many jobs a look must count for the guard to see its limit, and at least
    /// enough for a fair estimate of how long they take.
    #[must_use]
    pub const fn probe_limit(&self) -> u32 {
        match self.depth_max {
            Some(jobs) if jobs >= PROBE_MAX => jobs.saturating_add(1),
            Some(_) | None => PROBE_MAX,
        }
    }

    /// The longest a calm queue should go unseen: pauses longer than this prove nothing.
    pub(super) const fn gap(&self) -> Duration {
        self.window
    }
}

impl Default for GuardConfig {
    fn default() -> Self {
        GuardBuilder::new().config()
    }
}

/// A setting of a guard that is out of its range, or does not fit the others. Found at start:
/// correct the program or its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("guard setting `{setting}` must be {expected}")]
pub struct GuardConfigError {
    setting: &'static str,
    expected: &'static str,
}

impl GuardConfigError {
    /// The name of the builder's method that set it.
    #[must_use]
    pub const fn setting(&self) -> &'static str {
        self.setting
    }
}

impl Fault for GuardConfigError {
    fn code(&self) -> Code {
        Code::new("jobs.guard_out_of_range")
    }
}
