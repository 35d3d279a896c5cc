//! What the guard makes of its readings.

use std::time::Duration;

use super::drain::{drain, estimate, seconds};
use super::event::Cause;
use super::ladder::{Evidence, Ladder};
use super::ramp::{COHORTS, Ramp};
use super::rates::Rates;
use super::window::Window;
use super::{GuardConfig, GuardSnapshot, Level, LevelChanged, PerClass, Pressures, Reading, Shed};
use crate::jobs::Class;

/// LIMIT: what one pressure may come to, so that numbers stay readable when nothing moves.
const PRESSURE_MAX: f64 = 100.0;
/// LIMIT: what cheap classes press with: enough to be held back, too little to hold back others.
const CHEAP_MAX: f64 = 1.0;
/// The share of the hard limit at which depth presses with 1.0.
const DEPTH_SHARE: f64 = 0.8;
/// How much of an age the ramps go by, beside the drain: the rest of it is lag.
const AGE_WEIGHT: f64 = 0.8;
/// How much more must come than can be done to count as growing.
const GROWING: f64 = 1.05;
/// Under this pressure, what is held back may be let in at once if the workers can do it all.
const RELIEVED: f64 = 0.5;
/// The share of the workers' pace up to which they can do all that is offered.
const SPARE: f64 = 0.8;

/// The shortest time worth waiting for.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// How much work is kept due, when jobs are pulled forward: enough to last until the next look,
/// and to find out whether more could be done.
const AHEAD: Duration = Duration::from_secs(5);
/// LIMIT: jobs pulled forward in one look.
const PULL_MAX: u32 = 10_000;
/// Jobs pulled forward to find out how fast they are done.
const PULL_BLIND: u32 = 16;
/// LIMIT: jobs given up in one look.
const SHED_MAX: u32 = 1_000;

/// The guard of one queue: readings in, decisions out.
#[derive(Debug, Clone)]
pub struct State {
    config: GuardConfig,
    rates: Rates,
    ages: Window<4>,
    drains: Window<4>,
    /// The backlog of late, to tell whether it grows.
    backlog: Window<1>,
    growing_since: Option<Duration>,
    ladder: Ladder,
    normal: Ramp,
    sheddable: Ramp,
    /// A ramp holds something back.
    held: bool,
    last: Option<Reading>,
    snapshot: GuardSnapshot,
}

impl State {
    /// A guard that has seen nothing yet, and accepts everything.
    #[must_use]
    pub fn new(config: GuardConfig) -> Self {
        Self {
            rates: Rates::new(config.memory, config.gap()),
            ages: Window::least(config.window),
            drains: Window::least(config.window),
            backlog: Window::least(config.window),
            growing_since: None,
            ladder: Ladder::new(&config),
            normal: Ramp::new(config.drain_target.of(Class::Normal)),
            sheddable: Ramp::new(config.drain_target.of(Class::Sheddable)),
            held: false,
            last: None,
            snapshot: blank(&config),
            config,
        }
    }

    /// Takes a reading in. A time before that of the last reading counts as the same.
    pub fn observe(&mut self, mut reading: Reading) -> Option<LevelChanged> {
        let before = self.last.map_or(reading.at, |last| last.at);
        reading.at = reading.at.max(before);
        let passed = reading.at.saturating_sub(before);
        let since = self.ladder.since();
        self.rates.put(&reading);
        let now = self.pressures(&reading);
        let standing = self.standing(&reading, now);
        let pressure = strongest(standing);
        let full = self.limit().is_some_and(|limit| reading.depth() >= limit);
        let growing = self.growing(&reading);
        let evidence = Evidence { pressure, growing, full, held: self.held };
        let changed = self.ladder.step(reading.at, evidence);
        if let Some((from, _)) = changed {
            self.enter(from);
        }
        let threshold = self.threshold(now, passed);
        let overloaded = self.ladder.level() == Level::Overloaded;
        self.held = overloaded && (threshold.of(Class::Sheddable) > 0 || self.normal.holds());
        self.last = Some(reading);
        self.snapshot = self.look(&reading, standing, pressure, threshold);
        self.snapshot.growing = growing;
        let (from, highest) = changed?;
        let cause = self.cause(&reading, standing, from, highest, full);
        let lasted = reading.at.saturating_sub(since);
        Some(LevelChanged::new(from, lasted, cause, &self.snapshot))
    }

    /// What enqueues go by until the next reading.
    #[must_use]
    pub fn snapshot(&self) -> GuardSnapshot {
        self.snapshot.clone()
    }

    /// When to look again.
    #[must_use]
    pub fn next_look(&self) -> Duration {
        match self.ladder.level() {
            Level::Normal => self.config.look_every,
            Level::Elevated | Level::Overloaded | Level::Critical => self.config.look_every / 4,
        }
    }

    /// How many jobs that were put off may be made due now: as many as the workers lack until
    /// they would run dry. None while a dependency is down or the queue is paused.
    #[must_use]
    pub fn pull_forward(&self) -> u32 {
        let Some(last) = self.last.filter(|last| !last.dependency_open && !last.paused) else {
            return 0;
        };
        let wanted = self.rates.draining().map_or_else(
            || u64::from(PULL_BLIND),
            |pace| whole(pace * self.pull_ahead().as_secs_f64()).max(1),
        );
        let lacking = wanted.saturating_sub(last.waiting()).min(last.deferred);
        u32::try_from(lacking).unwrap_or(PULL_MAX).min(PULL_MAX)
    }

    /// What queued work to give up now: what has expired, while overloaded; and bulk work, while
    /// the level is critical and the pressure is not gone yet.
    #[must_use]
    pub fn shed(&self) -> Option<Shed> {
        let pressed = self.snapshot.pressure >= Level::Overloaded.enters_at();
        let class = match self.ladder.level() {
            Level::Normal | Level::Elevated => return None,
            Level::Critical if pressed => Some(Class::Bulk),
            Level::Overloaded | Level::Critical => None,
        };
        Some(Shed { class, limit: SHED_MAX })
    }

    /// The pressures of this moment.
    fn pressures(&self, reading: &Reading) -> Pressures {
        let dependency = if reading.dependency_open { 1.0 } else { 0.0 };
        let depth = self
            .limit()
            .map_or(0.0, |limit| ratio(reading.depth() as f64, limit as f64 * DEPTH_SHARE));
        let mut now = Pressures { depth, dependency, ..Pressures::default() };
        if reading.paused {
            return now;
        }
        let ages = PerClass(reading.oldest).zip(PerClass(reading.ready), |age, ready| {
            age.filter(|_| ready > 0).unwrap_or_default()
        });
        let to = |time: Duration, target: Duration| ratio(time.as_secs_f64(), target.as_secs_f64());
        now.age = ages.zip(self.config.age_target, to);
        let drains = self.drain(reading).map(Option::unwrap_or_default);
        now.drain = drains.zip(self.config.drain_target, to);
        now
    }

    /// The pressures that stood for the whole window.
    fn standing(&mut self, reading: &Reading, now: Pressures) -> Pressures {
        let age = PerClass(self.ages.put(reading.at, now.age.0));
        let drain = PerClass(self.drains.put(reading.at, now.drain.0));
        Pressures { age, drain, ..now }
    }

    /// How long it takes to work off what is due of each class.
    fn drain(&self, reading: &Reading) -> PerClass<Option<Duration>> {
        let pace = self.rates.draining();
        pace.map_or_else(PerClass::default, |pace| drain(reading.ready, pace).map(Some))
    }

    /// Whether more came than could be done for the whole window, and the backlog is more than
    /// the least it was: the rates remember a burst for longer than it lasts.
    fn growing(&mut self, reading: &Reading) -> bool {
        let backlog = reading.waiting() as f64;
        let [least] = self.backlog.put(reading.at, [backlog]);
        let pace = self.rates.draining().unwrap_or(0.0);
        if self.rates.arriving() <= GROWING * pace {
            self.growing_since = None;
            return false;
        }
        let since = *self.growing_since.get_or_insert(reading.at);
        reading.at.saturating_sub(since) >= self.config.window && backlog > least
    }

    /// Sets the ramps to what the level begins with.
    const fn enter(&mut self, from: Level) {
        match (self.ladder.level(), from) {
            (Level::Normal | Level::Elevated, _) => {
                self.normal.clear();
                self.sheddable.clear();
            }
            (Level::Overloaded, Level::Normal | Level::Elevated) => {
                self.normal.clear();
                self.sheddable.fill();
            }
            (Level::Critical, _) | (Level::Overloaded, Level::Overloaded | Level::Critical) => {
                self.normal.fill();
                self.sheddable.fill();
            }
        }
    }

    /// Moves the ramps: one after the other, so that cheap work is not let back in while dear
    /// work is held back. They go by the pressures of the moment, and by drain before age: the
    /// age of the oldest job tells what came in a whole wait ago.
    fn threshold(&mut self, now: Pressures, passed: Duration) -> PerClass<u8> {
        match self.ladder.level() {
            Level::Normal | Level::Elevated => return PerClass([0, 0, 0, COHORTS]),
            Level::Critical => return PerClass([0, COHORTS, COHORTS, COHORTS]),
            Level::Overloaded => {}
        }
        let of = |class| now.drain.of(class).max(AGE_WEIGHT * now.age.of(class));
        let dear = of(Class::Critical).max(of(Class::Normal)).max(now.depth);
        let cheap = dear.max(of(Class::Sheddable)).max(now.dependency);
        if cheap < RELIEVED && self.could_take_all() {
            self.normal.clear();
            self.sheddable.clear();
            return PerClass([0, 0, 0, COHORTS]);
        }
        let normal = self.normal.step(dear, passed);
        let sheddable = if normal > 0 {
            self.sheddable.fill();
            COHORTS
        } else {
            self.sheddable.step(cheap, passed)
        };
        PerClass([0, normal, sheddable, COHORTS])
    }

    /// Whether the workers could do all that is offered, also what is held back now. The ramps
    /// alone would find out in minutes: they are as slow as the queue that they steer.
    fn could_take_all(&self) -> bool {
        self.rates.draining().is_some_and(|pace| self.rates.offered() < SPARE * pace)
    }

    fn look(
        &self,
        reading: &Reading,
        pressures: Pressures,
        pressure: f64,
        threshold: PerClass<u8>,
    ) -> GuardSnapshot {
        let drain = self.drain(reading);
        let credits = self
            .limit()
            .map(|limit| limit.saturating_sub(reading.depth()) / u64::from(reading.nodes.max(1)));
        GuardSnapshot {
            level: self.ladder.level(),
            since: self.ladder.since(),
            at: reading.at,
            pressure,
            pressures,
            growing: false,
            arriving_per_second: self.rates.arriving(),
            draining_per_second: self.rates.draining(),
            failing_per_second: self.rates.failing(),
            drain,
            ready: PerClass(reading.ready),
            oldest: PerClass(reading.oldest),
            depth: reading.depth(),
            threshold,
            credits,
            put_off: self.put_off(reading),
            retry_after: retry_after(&self.config, drain),
        }
    }

    /// By how much a job of each class is put off: until what is due before it and what was put
    /// off before it is done. Else what comes back would come back into the overload.
    ///
    /// LIMIT: what cannot be done within `defer_max` is not put off, so that no more sleeps than
    /// can be done in that time; cheap work gets half of it.
    fn put_off(&self, reading: &Reading) -> PerClass<Option<Duration>> {
        let pace = self.rates.draining();
        // Half as much again: what is accepted meanwhile takes its share of the workers.
        let asleep = reading.deferred.saturating_add(reading.deferred / 2);
        let asleep = pace.map_or(Duration::ZERO, |pace| estimate(asleep, pace));
        let waits = self.drain(reading).zip(self.config.age_target, Option::unwrap_or);
        let limits = put_off_limits(&self.config);
        waits.zip(limits, |wait, limit| {
            let by = wait.saturating_add(asleep).max(WAIT_MIN);
            (by <= limit).then_some(by)
        })
    }

    /// How much work to keep due: too little of it to press, by the target of any class that is
    /// ever put off.
    fn pull_ahead(&self) -> Duration {
        let PerClass([_, ages @ ..]) = self.config.age_target;
        let PerClass([_, drains @ ..]) = self.config.drain_target;
        let least = ages.into_iter().chain(drains).min().unwrap_or(AHEAD);
        AHEAD.min(least / 4).max(self.config.look_every)
    }

    fn limit(&self) -> Option<u64> {
        self.config.depth_max.map(u64::from)
    }

    /// What pressed most; in doubt what is known best.
    fn cause(
        &self,
        reading: &Reading,
        standing: Pressures,
        from: Level,
        highest: f64,
        full: bool,
    ) -> Cause {
        let limit = self.limit().unwrap_or(u64::MAX);
        let depth = reading.depth();
        if self.ladder.level() < from {
            return Cause::Calm { highest };
        }
        if full {
            return Cause::HardLimit { depth, limit };
        }
        let mut found = (standing.depth, Cause::Depth { depth, limit });
        if standing.dependency > found.0 {
            found = (standing.dependency, Cause::Dependency);
        }
        for (class, pressure) in capped(standing.age).iter() {
            if pressure > found.0 {
                let target = self.config.age_target.of(class);
                let age = scaled(target, standing.age.of(class));
                found = (pressure, Cause::Age { class, age, target });
            }
        }
        for (class, pressure) in capped(standing.drain).iter() {
            if pressure > found.0 {
                let target = self.config.drain_target.of(class);
                let drain = scaled(target, standing.drain.of(class));
                found = (pressure, Cause::Drain { class, drain, target });
            }
        }
        found.1
    }
}

/// What is known before the first reading.
fn blank(config: &GuardConfig) -> GuardSnapshot {
    GuardSnapshot {
        level: Level::Normal,
        since: Duration::ZERO,
        at: Duration::ZERO,
        pressure: 0.0,
        pressures: Pressures::default(),
        growing: false,
        arriving_per_second: 0.0,
        draining_per_second: None,
        failing_per_second: 0.0,
        drain: PerClass::default(),
        ready: PerClass::default(),
        oldest: PerClass::default(),
        depth: 0,
        threshold: PerClass([0, 0, 0, COHORTS]),
        credits: config.depth_max.map(u64::from),
        put_off: PerClass::default(),
        retry_after: retry_after(config, PerClass::default()),
    }
}

fn retry_after(config: &GuardConfig, drain: PerClass<Option<Duration>>) -> PerClass<Duration> {
    drain.zip(config.age_target, |drain, target| {
        drain.unwrap_or(target).clamp(WAIT_MIN, config.retry_after_max)
    })
}

/// The greatest pressure, with what cheap classes lack cut.
fn strongest(of: Pressures) -> f64 {
    let classes = capped(of.age).0.into_iter().chain(capped(of.drain).0);
    classes.fold(of.depth.max(of.dependency), f64::max)
}

fn capped(of: PerClass<f64>) -> PerClass<f64> {
    let PerClass([critical, normal, sheddable, bulk]) = of;
    PerClass([critical, normal, sheddable.min(CHEAP_MAX), bulk.min(CHEAP_MAX)])
}

fn ratio(value: f64, target: f64) -> f64 {
    (value / target).clamp(0.0, PRESSURE_MAX)
}

/// The longest a job of each class is put off by before jitter, which adds up to half.
fn put_off_limits(config: &GuardConfig) -> PerClass<Duration> {
    let most = config.defer_max / 3 * 2;
    let cheap = (most / 2).max(WAIT_MIN);
    PerClass([most, most, cheap, cheap])
}

fn scaled(target: Duration, pressure: f64) -> Duration {
    seconds(target.as_secs_f64() * pressure)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float becomes the nearest value there is"
)]
const fn whole(value: f64) -> u64 {
    value as u64
}
