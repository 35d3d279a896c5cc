//! Declaring a mailer.

use std::collections::HashSet;
use std::fmt;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::core::Core;
use super::error::MailerError;
use super::lane::ProviderSpec;
use super::state::OnUnknown;
use super::store::Ledger;
use super::{Deliver, Mailer};
use crate::breaker::{Breaker, BreakerBuilder, ConfigError};
use crate::jobs::Job;
use crate::kernel::Tree;
use crate::store::Store;

/// In which order providers are asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// In the order in which they were declared; the next only when the one before takes nothing.
    #[default]
    Priority,
    /// Each gets its [weight](ProviderSpec::weight)'s share of the mails; the others stand in.
    Weighted,
}

/// Settings that a mailer goes by.
#[derive(Debug, Clone)]
pub(super) struct Config {
    pub(super) order: Order,
    pub(super) on_unknown: OnUnknown,
    pub(super) max_attempts: u16,
    pub(super) attempt_timeout: Duration,
    pub(super) keep_content_for: Duration,
    pub(super) keep_ledger_for: Duration,
    pub(super) queue: Arc<str>,
}

/// Builds a [`Mailer`].
#[must_use = "a mailer sends nothing until it is built and started"]
pub struct MailerBuilder {
    store: Store,
    providers: Vec<ProviderSpec>,
    config: Config,
}

impl Mailer {
    /// Declares a mailer that keeps its mails in `store`, which must be that of the jobs too.
    pub fn builder(store: &Store) -> MailerBuilder {
        MailerBuilder {
            store: store.clone(),
            providers: Vec::new(),
            config: Config {
                order: Order::default(),
                on_unknown: OnUnknown::default(),
                max_attempts: 10,
                attempt_timeout: Duration::from_secs(30),
                keep_content_for: Duration::from_secs(30 * 86_400),
                keep_ledger_for: Duration::from_secs(90 * 86_400),
                queue: Deliver::QUEUE.into(),
            },
        }
    }
}

impl MailerBuilder {
    /// Adds a provider; the first one is asked first.
    pub fn provider(mut self, provider: ProviderSpec) -> Self {
        self.providers.push(provider);
        self
    }

    /// In which order providers are asked. Default [`Order::Priority`].
    pub const fn order(mut self, order: Order) -> Self {
        self.config.order = order;
        self
    }

    /// What to do when nobody knows whether a mail was accepted. Default [`OnUnknown::Park`].
    pub const fn on_unknown(mut self, on_unknown: OnUnknown) -> Self {
        self.config.on_unknown = on_unknown;
        self
    }

    /// Attempts of a mail at all providers together; limits of a provider cost none. Default 10,
    /// 1 to 1,000.
    pub const fn max_attempts(mut self, attempts: u16) -> Self {
        self.config.max_attempts = attempts;
        self
    }

    /// How long one attempt may take. Default 30 s, 100 ms to 2 min.
    pub const fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.config.attempt_timeout = timeout;
        self
    }

    /// How long the content of a settled mail is kept; its [ledger](Self::keep_ledger_for) stays for
    /// longer. Default 30 days, 1 h to 10 years.
    pub const fn keep_content_for(mut self, period: Duration) -> Self {
        self.config.keep_content_for = period;
        self
    }

    /// How long a settled mail is known at all: its key, its attempts, and what providers told of
    /// it. Default 90 days, 1 h to 10 years, and no less than its content. One whose fate is
    /// unknown is kept until somebody settles it.
    ///
    /// A key that is forgotten is free: the same mail under it is sent again.
    pub const fn keep_ledger_for(mut self, period: Duration) -> Self {
        self.config.keep_ledger_for = period;
        self
    }

    /// The queue that mails are sent from. Default `mail`.
    pub fn queue(mut self, queue: impl Into<Arc<str>>) -> Self {
        self.config.queue = queue.into();
        self
    }

    /// Builds it, and starts the providers' breakers in `tree`.
    ///
    /// # Errors
    ///
    /// [`MailerError`] names what is wrong with the declaration.
    pub fn build(self, tree: &Tree) -> Result<Mailer, MailerError> {
        self.build_with(|breaker| breaker.start(tree))
    }

    /// Builds it, and has `start` start the providers' breakers.
    ///
    /// # Errors
    ///
    /// [`MailerError`] names what is wrong with the declaration.
    pub fn build_with(
        self,
        mut start: impl FnMut(BreakerBuilder) -> Result<Breaker, ConfigError>,
    ) -> Result<Mailer, MailerError> {
        self.check()?;
        let lanes: Vec<_> = self
            .providers
            .into_iter()
            .map(|spec| spec.lane(&mut start))
            .collect::<Result<_, _>>()?;
        let names: HashSet<_> = lanes.iter().map(|lane| lane.name().to_owned()).collect();
        if lanes.is_empty() || names.len() < lanes.len() {
            return Err(MailerError::Providers);
        }
        let core = Core {
            ledger: Ledger::new(self.store.clone()),
            store: self.store,
            lanes,
            config: self.config,
            jobs: OnceLock::new(),
            looked_at: AtomicI64::new(0),
        };
        Ok(Mailer::new(Arc::new(core)))
    }

    fn check(&self) -> Result<(), MailerError> {
        let within = |holds: bool, setting, expected| {
            if holds { Ok(()) } else { Err(MailerError::InvalidSetting { setting, expected }) }
        };
        let Config { max_attempts, attempt_timeout, keep_content_for, keep_ledger_for, .. } =
            &self.config;
        within((1..=1_000).contains(max_attempts), "max_attempts", "from 1 to 1000")?;
        let timeout = Duration::from_millis(100)..=Duration::from_secs(120);
        within(timeout.contains(attempt_timeout), "attempt_timeout", "from 100 ms to 2 min")?;
        let kept = Duration::from_secs(3_600)..=Duration::from_secs(3_650 * 86_400);
        within(kept.contains(keep_content_for), "keep_content_for", "from 1 h to 10 years")?;
        within(kept.contains(keep_ledger_for), "keep_ledger_for", "from 1 h to 10 years")?;
        let is_kept = keep_ledger_for >= keep_content_for;
        within(is_kept, "keep_ledger_for", "at least keep_content_for")
    }
}

impl fmt::Debug for MailerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MailerBuilder")
            .field("providers", &self.providers)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
