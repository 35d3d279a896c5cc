//! Settings of a breaker: a builder that checks, and what it has checked.

use std::sync::Arc;
use std::time::Duration;

use super::clock::{self, Clock};
use super::{ConfigError, DependencyId, Memory};

const MILLI: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// Builds a [`Breaker`](super::Breaker). The defaults suit a JSON API on the same network.
#[derive(Debug, Clone)]
#[must_use = "settings do nothing until the breaker is started"]
pub struct BreakerBuilder {
    name: String,
    clock: Option<Clock>,
    pub(super) memory: Option<Arc<dyn Memory>>,
    failure_percent: u8,
    slow_percent: Option<u8>,
    consecutive_failures: Option<u32>,
    min_calls: u32,
    window: Duration,
    slow_after: Duration,
    open_for: Duration,
    open_max: Duration,
    open_factor: u32,
    jitter_percent: u8,
    probes: u16,
    probes_needed: Option<u16>,
    probe_lease: Duration,
    retry_after_max: Duration,
}

impl BreakerBuilder {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            clock: None,
            memory: None,
            failure_percent: 50,
            slow_percent: None,
            consecutive_failures: None,
            min_calls: 20,
            window: Duration::from_secs(10),
            slow_after: Duration::from_secs(1),
            open_for: Duration::from_secs(5),
            open_max: Duration::from_secs(120),
            open_factor: 2,
            jitter_percent: 20,
            probes: 3,
            probes_needed: None,
            probe_lease: Duration::from_secs(10),
            retry_after_max: Duration::from_secs(600),
        }
    }

    /// The share of failed calls in the window that opens the breaker, in percent.
    /// Default 50; 1 to 100. Too low: normal errors open it. Too high: it opens late.
    pub const fn failure_percent(mut self, percent: u8) -> Self {
        self.failure_percent = percent;
        self
    }

    /// The share of slow calls in the window that opens the breaker, in percent.
    /// Off by default; 1 to 100. What is slow, [`slow_after`](Self::slow_after) says.
    pub const fn slow_percent(mut self, percent: u8) -> Self {
        self.slow_percent = Some(percent);
        self
    }

    /// Failures in a row that open the breaker whatever the rates are, and without a
    /// minimum of calls. Off by default; 1 to 1,000,000.
    pub const fn consecutive_failures(mut self, count: u32) -> Self {
        self.consecutive_failures = Some(count);
        self
    }

    /// Calls the window must hold before a rate means anything.
    /// Default 20; 1 to 100,000. Too low: one early failure opens it.
    pub const fn min_calls(mut self, calls: u32) -> Self {
        self.min_calls = calls;
        self
    }

    /// How far back the rates look. Kept in ten buckets, so a call leaves the window
    /// between nine tenths of it and all of it later.
    /// Default 10 s; 100 ms to 1 h. Make it longer than the longest call.
    pub const fn window(mut self, length: Duration) -> Self {
        self.window = length;
        self
    }

    /// From when on a call is slow. A call that is dropped unfinished counts as failed if
    /// it got this old, else it counts for nothing.
    /// Default 1 s; 1 ms to 1 h. Keep it under the callers' timeouts: a timeout is a drop,
    /// and a dependency whose calls are all dropped younger than this never opens.
    pub const fn slow_after(mut self, age: Duration) -> Self {
        self.slow_after = age;
        self
    }

    /// The first pause. Each further one is longer by [`open_factor`](Self::open_factor).
    /// Default 5 s; 1 ms to 1 day.
    pub const fn open_for(mut self, pause: Duration) -> Self {
        self.open_for = pause;
        self
    }

    /// The longest pause, before jitter; also the healthy time after which one earlier
    /// opening is forgotten.
    /// Default 2 min; from [`open_for`](Self::open_for) to 1 day.
    pub const fn open_max(mut self, pause: Duration) -> Self {
        self.open_max = pause;
        self
    }

    /// By how much each pause is longer than the one before. Default 2; 1 to 10.
    pub const fn open_factor(mut self, factor: u32) -> Self {
        self.open_factor = factor;
        self
    }

    /// How far a pause may differ from its nominal length, either way, in percent.
    /// Default 20; 0 to 50. At 0, replicas that opened together try together.
    pub const fn jitter_percent(mut self, percent: u8) -> Self {
        self.jitter_percent = percent;
        self
    }

    /// Calls admitted at a time to try a dependency after its pause.
    /// Default 3; 1 to 256.
    pub const fn probes(mut self, count: u16) -> Self {
        self.probes = count;
        self
    }

    /// Probes that must succeed for the breaker to close.
    /// Default two thirds of [`probes`](Self::probes), rounded up; 1 to all of them.
    pub const fn probes_needed(mut self, count: u16) -> Self {
        self.probes_needed = Some(count);
        self
    }

    /// How long probes may be under way, counted from the last one admitted. Then they
    /// count as failed and the breaker opens again; what they answer later is ignored.
    /// Default 10 s; 1 ms to 1 day. Make it longer than the slowest good answer.
    pub const fn probe_lease(mut self, lease: Duration) -> Self {
        self.probe_lease = lease;
        self
    }

    /// The longest wait a dependency may ask for with `Retry-After`; longer ones are cut.
    /// Default 10 min; 1 ms to 1 day.
    pub const fn retry_after_max(mut self, wait: Duration) -> Self {
        self.retry_after_max = wait;
        self
    }

    /// Where the time comes from. Default [`Clock::fast`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Where the breaker's state outlives the process, with its flap memory and operators'
    /// commands. Default none: a restarted process begins closed. Needs the actor.
    ///
    /// Calls never wait for it. A breaker whose memory fails works on without.
    pub fn memory(mut self, memory: Arc<dyn Memory>) -> Self {
        self.memory = Some(memory);
        self
    }

    /// The same, unless it has a [memory](Self::memory) already.
    pub fn memory_or(mut self, memory: Arc<dyn Memory>) -> Self {
        self.memory.get_or_insert(memory);
        self
    }

    /// Checks each setting, then that they fit together.
    pub(super) fn check(self) -> Result<(DependencyId, Clock, Config), ConfigError> {
        let name = DependencyId::parse(&self.name)
            .ok_or(ConfigError::new("name", "1 to 63 characters of A-Z a-z 0-9 . _ -"))?;
        self.check_rates()?;
        self.check_pauses()?;
        let needed = self.check_probes()?;
        let config = Config {
            failure_percent: self.failure_percent.into(),
            slow_percent: self.slow_percent.map(u64::from),
            consecutive_failures: self.consecutive_failures,
            min_calls: self.min_calls.into(),
            window: self.window,
            slow_after_ns: clock::nanos(self.slow_after),
            open_ms: clock::millis_up(self.open_for),
            open_max_ms: clock::millis_up(self.open_max),
            open_factor: self.open_factor.into(),
            jitter_percent: self.jitter_percent.into(),
            probes: self.probes,
            probes_needed: needed,
            lease_ms: clock::millis_up(self.probe_lease),
            retry_after_max_ms: clock::millis_up(self.retry_after_max),
        };
        Ok((name, self.clock.unwrap_or_default(), config))
    }

    fn check_rates(&self) -> Result<(), ConfigError> {
        let percent = 1..=100;
        within("failure_percent", percent.contains(&self.failure_percent), "1 to 100")?;
        let slow = self.slow_percent.is_none_or(|value| percent.contains(&value));
        within("slow_percent", slow, "1 to 100")?;
        let row = self.consecutive_failures.is_none_or(|value| (1..=1_000_000).contains(&value));
        within("consecutive_failures", row, "1 to 1000000")?;
        within("min_calls", (1..=100_000).contains(&self.min_calls), "1 to 100000")?;
        let window = (100 * MILLI..=HOUR).contains(&self.window);
        within("window", window, "100 ms to 1 h")?;
        within("slow_after", (MILLI..=HOUR).contains(&self.slow_after), "1 ms to 1 h")
    }

    fn check_pauses(&self) -> Result<(), ConfigError> {
        within("open_for", (MILLI..=DAY).contains(&self.open_for), "1 ms to 1 day")?;
        let max = (self.open_for..=DAY).contains(&self.open_max);
        within("open_max", max, "from `open_for` to 1 day")?;
        within("open_factor", (1..=10).contains(&self.open_factor), "1 to 10")?;
        within("jitter_percent", self.jitter_percent <= 50, "0 to 50")?;
        let wait = (MILLI..=DAY).contains(&self.retry_after_max);
        within("retry_after_max", wait, "1 ms to 1 day")
    }

    fn check_probes(&self) -> Result<u16, ConfigError> {
        within("probes", (1..=256).contains(&self.probes), "1 to 256")?;
        within("probe_lease", (MILLI..=DAY).contains(&self.probe_lease), "1 ms to 1 day")?;
        let needed = self.probes_needed.unwrap_or_else(|| (self.probes * 2).div_ceil(3));
        within("probes_needed", (1..=self.probes).contains(&needed), "1 to all of `probes`")?;
        Ok(needed)
    }
}

fn within(setting: &'static str, ok: bool, expected: &'static str) -> Result<(), ConfigError> {
    if ok { Ok(()) } else { Err(ConfigError::new(setting, expected)) }
}

/// Checked settings, in the units the hot path wants.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) failure_percent: u64,
    pub(super) slow_percent: Option<u64>,
    pub(super) consecutive_failures: Option<u32>,
    pub(super) min_calls: u64,
    pub(super) window: Duration,
    pub(super) slow_after_ns: u64,
    pub(super) open_ms: u64,
    pub(super) open_max_ms: u64,
    pub(super) open_factor: u64,
    pub(super) jitter_percent: u64,
    pub(super) probes: u16,
    pub(super) probes_needed: u16,
    pub(super) lease_ms: u64,
    pub(super) retry_after_max_ms: u64,
}

impl Config {
    /// The longest pause there can be, in milliseconds.
    pub(super) const fn pause_max(&self) -> u64 {
        let longest = self.open_max_ms + self.open_max_ms * self.jitter_percent / 100;
        if longest > self.retry_after_max_ms { longest } else { self.retry_after_max_ms }
    }
}
