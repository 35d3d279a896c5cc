//! Which service misbehaves how, and what has arrived at each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::mail::Providers;

/// How a service treats its callers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// Answers at once.
    #[default]
    Ok,
    /// Answers correctly, but late.
    Slow,
    /// Answers 500; as `mail`, an empty 502.
    Error,
    /// Takes the request, carries it out and never answers. Lets go when the mode changes, when the caller
    /// leaves, or after ten minutes.
    Hang,
    /// Refuses: the connection is reset before a byte is answered. The port itself stays
    /// open, because the control route and the other service live behind it.
    Refuse,
    /// Answers 200 with a body that is not what its content type says.
    Garbage,
    /// Sends the head and half of the body, then nothing. Lets go as [`Mode::Hang`] does.
    Stall,
    /// Sends the head and half of the body, then resets the connection; as `mail`, resets it
    /// before the body of the request is read.
    Reset,
    /// Answers 429 with a `Retry-After` of one second; as `mail`, each provider gives every other
    /// time a date instead, one to two seconds ahead.
    Throttle,
}

/// The services of the simulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Service {
    /// Exchange rates.
    Rates,
    /// A mail provider.
    Mail,
}

/// An order to switch one service, or both where none is named.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Switch {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    service: Option<Service>,
    mode: Mode,
    /// How long to wait before doing what the mode says: 0 to 60,000 ms. Default 1,000 for
    /// `slow` and 0 for all others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    latency_ms: Option<Latency>,
}

impl Switch {
    fn setting(self) -> Setting {
        let usual = if self.mode == Mode::Slow { Latency::SLOW } else { Latency(0) };
        let Latency(wait_ms) = self.latency_ms.unwrap_or(usual);
        Setting { mode: self.mode, latency: Duration::from_millis(wait_ms) }
    }
}

/// Milliseconds that a service may be told to wait.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(try_from = "u64")]
struct Latency(u64);

impl Latency {
    const MAX: u64 = 60_000;
    const SLOW: Self = Self(1_000);
}

impl TryFrom<u64> for Latency {
    type Error = &'static str;

    fn try_from(wait_ms: u64) -> Result<Self, Self::Error> {
        if wait_ms > Self::MAX {
            return Err("latency_ms is at most 60000");
        }
        Ok(Self(wait_ms))
    }
}

/// What a service does at present.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Setting {
    pub(super) mode: Mode,
    pub(super) latency: Duration,
}

/// The switches of all services, and what they have received.
#[derive(Debug, Default)]
pub(super) struct Switchboard {
    rates: Line,
    mail: Line,
    pub(super) providers: Providers,
}

impl Switchboard {
    pub(super) fn apply(&self, order: Switch) {
        let setting = order.setting();
        match order.service {
            Some(service) => self.line(service).set(setting),
            None => {
                self.rates.set(setting);
                self.mail.set(setting);
            }
        }
    }

    pub(super) const fn line(&self, service: Service) -> &Line {
        match service {
            Service::Rates => &self.rates,
            Service::Mail => &self.mail,
        }
    }
}

/// One service's switch and its count of calls.
#[derive(Debug, Default)]
pub(super) struct Line {
    setting: watch::Sender<Setting>,
    calls: AtomicU64,
}

impl Line {
    fn set(&self, setting: Setting) {
        self.setting.send_replace(setting);
    }

    /// What to do now, and how to learn that it changed.
    pub(super) fn observe(&self) -> watch::Receiver<Setting> {
        self.setting.subscribe()
    }

    pub(super) fn mode(&self) -> Mode {
        self.setting.borrow().mode
    }

    /// Counts a request that was taken in. A refused one never came in.
    pub(super) fn count_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}
