//! A provider with what protects it: breaker, pace and slots.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::error::MailerError;
use super::pace::Pace;
use super::provider::{Answer, Idempotency, MailProvider, Outcome, ThrottleScope, TransportError};
use crate::breaker::{self, Breaker, BreakerBuilder, ConfigError, Permit};

/// LIMIT: the range of requests at a time and of requests in a second.
const SLOTS: std::ops::RangeInclusive<u32> = 1..=10_000;
/// The pause before one without a free slot is asked again.
const SLOT_WAIT: Duration = Duration::from_millis(50);
/// How long a provider is left alone whose key or sender somebody must mend.
const MEND: Duration = Duration::from_secs(300);

/// A provider as a mailer uses it.
#[derive(Debug)]
#[must_use]
pub struct ProviderSpec {
    provider: Arc<dyn MailProvider>,
    breaker: Option<BreakerBuilder>,
    per_second: Option<u32>,
    at_a_time: u32,
    weight: u32,
}

impl ProviderSpec {
    /// A provider with a breaker of its own, 16 requests at a time and no limit of its own on
    /// how fast they follow each other: what the provider says is learnt all the same.
    pub fn new(provider: impl MailProvider) -> Self {
        Self::shared(Arc::new(provider))
    }

    /// The same for one that is held elsewhere too, as a [`DevMailbox`](super::provider::DevMailbox) is.
    pub fn shared(provider: Arc<dyn MailProvider>) -> Self {
        Self { provider, breaker: None, per_second: None, at_a_time: 16, weight: 1 }
    }

    /// Its breaker, instead of one with the defaults. Recipients at fault never count in it.
    pub fn breaker(mut self, breaker: BreakerBuilder) -> Self {
        self.breaker = Some(breaker);
        self
    }

    /// At most so many requests a second, a second's worth of them at once; 1 to 10,000.
    pub const fn per_second(mut self, requests: u32) -> Self {
        self.per_second = Some(requests);
        self
    }

    /// At most so many requests at a time; 1 to 10,000. Default 16.
    pub const fn at_a_time(mut self, requests: u32) -> Self {
        self.at_a_time = requests;
        self
    }

    /// Its share of the mails where providers are [weighted](super::Order::Weighted); 0 to 10,000.
    /// Default 1. With 0 it only gets what no other takes.
    pub const fn weight(mut self, weight: u32) -> Self {
        self.weight = weight;
        self
    }

    pub(super) fn lane(
        self,
        start: impl FnOnce(BreakerBuilder) -> Result<Breaker, ConfigError>,
    ) -> Result<Lane, MailerError> {
        let expected = "from 1 to 10000";
        for (setting, value) in
            [("at_a_time", self.at_a_time), ("per_second", self.per_second.unwrap_or(1))]
        {
            if !SLOTS.contains(&value) {
                return Err(MailerError::InvalidSetting { setting, expected });
            }
        }
        if self.weight > *SLOTS.end() {
            return Err(MailerError::InvalidSetting {
                setting: "weight",
                expected: "at most 10000",
            });
        }
        let name = format!("mail.{}", self.provider.name());
        let breaker = self.breaker.unwrap_or_else(|| {
            // An attempt lasts as long as a provider needs; only a late one is slow.
            Breaker::builder(&name).slow_after(Duration::from_secs(20)).min_calls(5)
        });
        Ok(Lane {
            provider: self.provider,
            breaker: start(breaker)?,
            pace: Mutex::new(Pace::new(self.per_second)),
            slots: Arc::new(Semaphore::new(self.at_a_time as usize)),
            weight: self.weight,
        })
    }
}

/// A provider that is in use.
pub(super) struct Lane {
    pub(super) provider: Arc<dyn MailProvider>,
    pub(super) breaker: Breaker,
    pace: Mutex<Pace>,
    slots: Arc<Semaphore>,
    pub(super) weight: u32,
}

/// The right to ask a provider once.
#[derive(Debug)]
pub(super) struct Ticket {
    permit: Permit,
    _slot: OwnedSemaphorePermit,
}

impl Lane {
    pub(super) fn name(&self) -> &str {
        self.provider.name()
    }

    pub(super) fn idempotency(&self) -> Idempotency {
        self.provider.capabilities().idempotency
    }

    /// The right to ask it now, or how long there is none.
    pub(super) fn enter(&self, now: Instant) -> Result<Ticket, Duration> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_taken| SLOT_WAIT)?;
        let permit = self.breaker.try_acquire().map_err(|rejected| rejected.retry_after)?;
        if let Err(wait) = self.pace.lock().take(now) {
            permit.release();
            return Err(wait);
        }
        Ok(Ticket { permit, _slot: slot })
    }

    /// Learns from what became of a request.
    pub(super) fn learn(
        &self,
        ticket: Ticket,
        answer: &Result<Answer, TransportError>,
        now: Instant,
    ) {
        let mut pace = self.pace.lock();
        if let Ok(Answer { rate: Some(hint), .. }) = answer {
            pace.learn(*hint, now);
        }
        if let Ok(Answer { outcome: Outcome::Throttled { retry_after, scope }, .. }) = answer {
            pace.throttled(*retry_after, *scope == ThrottleScope::Quota, now);
        }
        drop(pace);
        ticket.permit.finish(health(answer));
    }
}

/// What an answer says about the provider's health. A recipient's or a mail's fault says that it
/// works, and a limit is the pace's business.
const fn health(answer: &Result<Answer, TransportError>) -> breaker::Outcome {
    use breaker::Outcome as Health;

    match answer {
        Ok(answer) => match answer.outcome {
            Outcome::Misconfigured => Health::Throttled { retry_after: Some(MEND) },
            Outcome::Unavailable { retry_after: Some(wait) } => {
                Health::Throttled { retry_after: Some(wait) }
            }
            Outcome::Unavailable { retry_after: None } | Outcome::Ambiguous(_) => Health::Failure,
            Outcome::Throttled { .. } | Outcome::KeyBusy => Health::Ignored,
            Outcome::Accepted { .. }
            | Outcome::RecipientRejected { .. }
            | Outcome::RequestRejected
            | Outcome::DuplicateKey => Health::Success,
        },
        Err(_) => Health::Failure,
    }
}

impl fmt::Debug for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lane")
            .field("provider", &self.name())
            .field("breaker", &self.breaker)
            .finish_non_exhaustive()
    }
}
