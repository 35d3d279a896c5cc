//! The settings of the whole runtime: code, then a file, then the environment.
//!
//! [`Settings::default`] is a working service. A TOML file and `STEADFAST_*` variables change
//! single settings over it:
//!
//! ```toml
//! [drain]
//! delay = "8s"
//! ```
//!
//! is `STEADFAST_DRAIN__DELAY=8s` in the environment: two underscores between a section and a
//! setting. Durations are written with their unit: `250ms`, `5s`, `1m30s`, `2h`. An unknown key
//! is refused by its full name, so a misspelt setting cannot go unnoticed. Variables without two
//! underscores belong to the application, unless they look like a setting spelt with one.

pub(crate) mod duration;
mod error;
mod load;

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use error::ConfigError;
pub use load::SettingsLoader;

use crate::edge::limits;
use crate::edge::{
    AdmissionLimits, DrainPlan, EdgeLimits, InvalidLimit, PanicLimits, RequestGuard, TrustPolicy,
};
use crate::telemetry::{Format, Telemetry};

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// All settings of one runtime.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Settings {
    /// Where supervised actors run.
    pub actors: ActorSettings,
    /// What a request may take.
    pub request: RequestSettings,
    /// How health is judged.
    pub health: HealthSettings,
    /// How the process leaves.
    pub drain: DrainSettings,
    /// What a connection may take: for [`EdgeServer::limits`](crate::edge::EdgeServer::limits).
    pub edge: EdgeLimits,
    /// How many requests are served at a time, and how many one client may send. Off by default.
    pub admission: AdmissionLimits,
    /// When a route has panicked too often, and rests. Off by default.
    pub panics: PanicLimits,
    /// What is logged, and how it looks.
    pub log: LogSettings,
}

/// What is logged, and how it looks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct LogSettings {
    /// `plain` (the default), for people, or `json`, one object per line.
    pub format: Format,
    /// Which lines: levels by module, as in `info,my_service=debug`. Default `info`. Where
    /// `RUST_LOG` is set, that holds instead.
    pub filter: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { format: Format::default(), filter: "info".to_owned() }
    }
}

impl LogSettings {
    /// The telemetry that goes by these settings.
    pub fn telemetry(&self) -> Telemetry {
        Telemetry::new().format(self.format).filter(&self.filter)
    }
}

/// Where supervised actors run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct ActorSettings {
    /// Threads for actors, apart from the web workers. Default: half the processors, 1 or 2;
    /// 1 to 64. Too low: one actor that computes delays its neighbours. Too high: threads idle.
    pub threads: usize,
}

impl Default for ActorSettings {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads: (processors / 2).clamp(1, 2) }
    }
}

/// What a request may take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct RequestSettings {
    /// The deadline of routes that set none. Default `30s`; `1ms` to `24h`. Too low: slow but
    /// good answers are cut off. Too high: work goes on that nobody waits for.
    #[serde(with = "duration")]
    pub deadline: Duration,
    /// The most that a route or a client can ask for. Default `5m`; `1ms` to `24h`, and not less
    /// than `deadline`.
    #[serde(with = "duration")]
    pub deadline_max: Duration,
    /// Whose `X-Request-Timeout-Ms` is honoured: `nobody`, `loopback` (the default), `private`
    /// or `anyone`.
    pub trust: TrustPolicy,
    /// Whose `X-Request-Priority` is honoured: `nobody` (the default), `loopback`, `private` or
    /// `anyone`. A proxy that is trusted with it must not let its own clients' header pass.
    pub trust_priority: TrustPolicy,
}

impl Default for RequestSettings {
    fn default() -> Self {
        Self {
            deadline: seconds(30),
            deadline_max: seconds(300),
            trust: TrustPolicy::default(),
            trust_priority: TrustPolicy::Nobody,
        }
    }
}

impl RequestSettings {
    /// The middleware part that goes by these settings.
    #[must_use]
    pub fn guard(&self) -> RequestGuard {
        RequestGuard::new()
            .deadline(self.deadline)
            .deadline_max(self.deadline_max)
            .trust(self.trust)
            .trust_priority(self.trust_priority)
    }
}

/// How health is judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct HealthSettings {
    /// How long a thread's event loop may be stuck before `/livez` fails. Default `10s`; `100ms`
    /// to `10m`. Too low: a long computation gets the process killed. Too high: a wedged process
    /// keeps its traffic.
    #[serde(with = "duration")]
    pub wedged_after: Duration,
}

impl Default for HealthSettings {
    fn default() -> Self {
        Self { wedged_after: seconds(10) }
    }
}

/// How the process leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct DrainSettings {
    /// From readiness going false to the listeners closing. Default `5s`; `0ms` to `5m`. Too
    /// low: traffic is still sent here after the listeners closed.
    #[serde(with = "duration")]
    pub delay: Duration,
    /// From the listeners closing to requests being given up. Default `15s`; `0ms` to `1h`. Too
    /// low: slow requests are cut.
    #[serde(with = "duration")]
    pub requests: Duration,
    /// From readiness going false to running jobs being told to stop; they are given back and run
    /// again elsewhere. Default `10s`; `0ms` to `1h`. Too low: long jobs begin again and again.
    #[serde(with = "duration")]
    pub jobs: Duration,
    /// For all actors to stop. Default `5s`; `0ms` to `5m`. Too low: an actor cannot finish what
    /// it began.
    #[serde(with = "duration")]
    pub actors: Duration,
    /// What the orchestrator grants between its signal and its kill. Default `30s`; `1s` to
    /// `2h`. Only compared with the times above: a shutdown that may outlast it is warned of at
    /// start.
    #[serde(with = "duration")]
    pub grace_period: Duration,
}

impl Default for DrainSettings {
    fn default() -> Self {
        Self {
            delay: seconds(5),
            requests: seconds(15),
            jobs: seconds(10),
            actors: seconds(5),
            grace_period: seconds(30),
        }
    }
}

impl DrainSettings {
    /// The times a shutdown goes by.
    #[must_use]
    pub const fn plan(&self) -> DrainPlan {
        let Self { delay, requests, jobs, actors, grace_period: _ } = *self;
        DrainPlan { delay, requests, jobs, actors }
    }
}

impl Settings {
    /// Collects settings from a file and the environment, over the defaults.
    pub fn loader() -> SettingsLoader {
        SettingsLoader::new()
    }

    /// Checks that every setting is in its range.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`] names the first that is not, and its range.
    pub fn check(&self) -> Result<(), ConfigError> {
        // The log finds out by itself whether its filter can be read.
        let Self { actors, request, health, drain, edge, admission, panics, log: _ } = self;
        within("actors.threads", actors.threads, 1..=64)?;
        edge.check()?;
        admission.check()?;
        panics.check()?;
        let ms = Duration::from_millis;
        let day = ms(1)..=seconds(86_400);
        let times = [
            ("request.deadline", request.deadline, day.clone()),
            ("request.deadline_max", request.deadline_max, request.deadline..=*day.end()),
            ("health.wedged_after", health.wedged_after, ms(100)..=seconds(600)),
            ("drain.delay", drain.delay, ms(0)..=seconds(300)),
            ("drain.requests", drain.requests, ms(0)..=seconds(3600)),
            ("drain.jobs", drain.jobs, ms(0)..=seconds(3600)),
            ("drain.actors", drain.actors, ms(0)..=seconds(300)),
            ("drain.grace_period", drain.grace_period, seconds(1)..=seconds(7200)),
        ];
        times.into_iter().try_for_each(|(key, value, range)| {
            within_text(key, duration::show(value), range.contains(&value))
        })
    }
}

/// The range of each setting in words. A test keeps it complete and equal to the checks.
fn expected(key: &str) -> &'static str {
    if let Some(limit) = key.strip_prefix("edge.") {
        return limits::expected(limit);
    }
    if is_own_section(key) {
        return limits::expected(key);
    }
    match key {
        "actors.threads" => "a whole number from 1 to 64",
        "request.deadline" => "a duration from 1ms to 24h",
        "request.deadline_max" => "a duration from request.deadline to 24h",
        "log.format" => "plain or json",
        "log.filter" => "levels by module, as in info,my_service=debug",
        "request.trust" | "request.trust_priority" => "nobody, loopback, private or anyone",
        "health.wedged_after" => "a duration from 100ms to 10m",
        "drain.delay" | "drain.actors" => "a duration from 0ms to 5m",
        "drain.requests" | "drain.jobs" => "a duration from 0ms to 1h",
        "drain.grace_period" => "a duration from 1s to 2h",
        _ => "a section of settings",
    }
}

/// Whether a limit of the edge is in a section beside `edge`.
fn is_own_section(limit: &str) -> bool {
    limit.starts_with("admission.") || limit.starts_with("panics.")
}

impl From<InvalidLimit> for ConfigError {
    fn from(InvalidLimit { limit, expected, found }: InvalidLimit) -> Self {
        let section = if is_own_section(limit) { "" } else { "edge." };
        Self::Invalid { key: format!("{section}{limit}"), expected, found, origin: None }
    }
}

fn within(key: &str, value: usize, range: RangeInclusive<usize>) -> Result<(), ConfigError> {
    within_text(key, value.to_string(), range.contains(&value))
}

fn within_text(key: &str, found: String, in_range: bool) -> Result<(), ConfigError> {
    if in_range {
        return Ok(());
    }
    Err(ConfigError::Invalid { key: key.to_owned(), expected: expected(key), found, origin: None })
}

#[cfg(test)]
mod tests;
