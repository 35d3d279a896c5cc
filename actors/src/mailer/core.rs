//! What the handles, the job and the actor of one mailer share.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use super::builder::{Config, Order};
use super::error::MailerError;
use super::events::{DeliveryEvent, Recorded};
use super::lane::{Lane, Ticket};
use super::messages::MailEnqueued;
use super::provider::{Idempotency, WireRequest};
use super::store::{self, Attempt, Change, Ended, NewMail, StoredMail};
use super::{EmailAddress, Mail, MailId};
use crate::jobs::tx::transact;
use crate::jobs::{JobCx, JobId, Jobs, RunKey};
use crate::store::{Store, StoreError, Timestamp, WallClock};

/// The pause of a mail when no provider says how long it is busy.
const WAIT_MIN: Duration = Duration::from_millis(50);
/// LIMIT: no mail sleeps longer than this before providers are asked again.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// For how long a rest of a provider with keys is waited out.
const PATIENCE: Duration = Duration::from_secs(60);
/// LIMIT: mails settled or forgotten in one step of a sweep, and steps.
const SWEEP_MAX: u32 = 500;
const SWEEP_STEPS: u32 = 100;

/// What the handles, the job and the actor share.
pub(super) struct Core {
    pub(super) store: Store,
    pub(super) lanes: Vec<Lane>,
    pub(super) config: Config,
    pub(super) jobs: OnceLock<Jobs>,
}

impl Core {
    /// By the clock of the jobs.
    pub(super) fn now(&self) -> Timestamp {
        self.jobs.get().map_or_else(|| WallClock::system().now(), |jobs| jobs.clock().now())
    }

    pub(super) fn jobs(&self) -> Result<&Jobs, MailerError> {
        self.jobs.get().ok_or(MailerError::NotStarted)
    }

    pub(super) fn lane(&self, name: &str) -> Option<&Lane> {
        self.lanes.iter().find(|lane| lane.name() == name)
    }

    /// Whether there is a provider that is not among `tried`.
    pub(super) fn others(&self, tried: &[Arc<str>]) -> bool {
        self.lanes.iter().any(|lane| tried.iter().all(|name| **name != *lane.name()))
    }

    /// A provider that takes a mail now, or how long none does. `bound`: only this one may.
    /// `careful`: one without keys only when those with keys rest for long, because a mail whose
    /// answer it loses is lost from sight.
    pub(super) fn choose(
        &self,
        bound: Option<&str>,
        tried: &[Arc<str>],
        careful: bool,
        now: Instant,
    ) -> Result<(&Lane, Ticket), Duration> {
        let (mut least, mut keyed_rests) = (WAIT_MAX, false);
        for lane in self.in_order() {
            let other = bound.is_some_and(|name| name != lane.name());
            if other || tried.iter().any(|name| **name == *lane.name()) {
                continue;
            }
            let has_keys = lane.idempotency() != Idempotency::None;
            if careful && keyed_rests && !has_keys {
                continue;
            }
            match lane.enter(now) {
                Ok(ticket) => return Ok((lane, ticket)),
                Err(wait) => {
                    least = least.min(wait);
                    keyed_rests |= has_keys && wait <= PATIENCE;
                }
            }
        }
        Err(least.clamp(WAIT_MIN, WAIT_MAX))
    }

    fn in_order(&self) -> Vec<&Lane> {
        let mut lanes: Vec<_> = self.lanes.iter().collect();
        let total: u32 = lanes.iter().map(|lane| lane.weight).sum();
        if self.config.order == Order::Priority || total == 0 {
            return lanes;
        }
        let mut drawn = fastrand::u32(..total);
        let first = lanes.iter().position(|lane| {
            let hit = drawn < lane.weight;
            drawn = drawn.saturating_sub(lane.weight);
            hit
        });
        lanes.rotate_left(first.unwrap_or(0));
        lanes
    }

    pub(super) async fn insert(&self, new: NewMail) -> Result<MailEnqueued, MailerError> {
        let (jobs, queue, now) = (self.jobs()?.clone(), Arc::clone(&self.config.queue), self.now());
        transact!(&self.store, tx => store::insert(&tx, &jobs, &queue, &new, now))
    }

    pub(super) async fn find(
        &self,
        id: MailId,
    ) -> Result<Option<(StoredMail, Vec<Attempt>)>, StoreError> {
        transact!(&self.store, tx => store::find(&tx, id))
    }

    pub(super) async fn content(&self, id: MailId) -> Result<Option<Mail>, StoreError> {
        transact!(&self.store, tx => store::content(&tx, id))
    }

    pub(super) async fn wire(
        &self,
        id: MailId,
        provider: &str,
    ) -> Result<Option<(WireRequest, Timestamp)>, StoreError> {
        let provider = provider.to_owned();
        transact!(&self.store, tx => store::wire(&tx, id, &provider))
    }

    pub(super) async fn begin(
        &self,
        run: RunKey,
        id: MailId,
        provider: &str,
        request: &WireRequest,
    ) -> Result<u32, MailerError> {
        let (provider, request, now) = (provider.to_owned(), request.clone(), self.now());
        transact!(&self.store, tx => store::begin(&tx, run, id, &provider, &request, now))
    }

    pub(super) async fn end_attempt(&self, id: MailId, ended: Ended) -> Result<(), StoreError> {
        let now = self.now();
        transact!(&self.store, tx => store::end_attempt(&tx, id, &ended, now))
    }

    pub(super) async fn finish(
        &self,
        cx: &JobCx,
        ended: Option<Ended>,
        change: Change,
    ) -> Result<bool, MailerError> {
        let (cx, now) = (cx.clone(), self.now());
        transact!(&self.store, tx => store::finish(&tx, &cx, ended.as_ref(), &change, now))
    }

    pub(super) async fn is_suppressed(&self, mail: &StoredMail) -> Result<bool, StoreError> {
        let (id, tenant, now) = (mail.id, Arc::clone(&mail.tenant), self.now());
        transact!(&self.store, tx => store::is_still_suppressed(&tx, &tenant, id, now))
    }

    pub(super) async fn cancel(&self, id: MailId) -> Result<bool, MailerError> {
        let now = self.now();
        let job: Result<Option<JobId>, StoreError> =
            transact!(&self.store, tx => store::cancel(&tx, id, now));
        let Some(job) = job? else { return Ok(false) };
        // The mail is called back; the job would find that out by itself.
        if let Err(error) = self.jobs()?.cancel(job).await {
            tracing::debug!(%error, "mailer.job_not_cancelled");
        }
        Ok(true)
    }

    pub(super) async fn try_again(&self, id: MailId) -> Result<bool, MailerError> {
        let (jobs, queue, now) = (self.jobs()?.clone(), Arc::clone(&self.config.queue), self.now());
        transact!(&self.store, tx => store::try_again(&tx, &jobs, &queue, id, now))
    }

    pub(super) async fn give_up(&self, id: MailId) -> Result<bool, StoreError> {
        let now = self.now();
        transact!(&self.store, tx => store::give_up(&tx, id, now))
    }

    pub(super) async fn record(&self, event: DeliveryEvent) -> Result<Recorded, StoreError> {
        let now = self.now();
        transact!(&self.store, tx => store::record(&tx, &event, now))
    }

    pub(super) async fn suppress(
        &self,
        tenant: &str,
        address: &EmailAddress,
        reason: &str,
        source: &'static str,
        until: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let (tenant, hash, reason) = (tenant.to_owned(), address.hash(), reason.to_owned());
        let now = self.now();
        transact!(
            &self.store,
            tx => store::suppress(&tx, &tenant, &hash, [&reason, source], until, now)
        )
    }

    pub(super) async fn unsuppress(
        &self,
        tenant: &str,
        address: &EmailAddress,
    ) -> Result<bool, StoreError> {
        let (tenant, address) = (tenant.to_owned(), address.clone());
        transact!(&self.store, tx => store::unsuppress(&tx, &tenant, &address))
    }

    /// Settles mails whose job is gone, and forgets what was in old ones. How many of each.
    pub(super) async fn sweep(&self) -> Result<(usize, u64), StoreError> {
        let orphans: Result<Vec<MailId>, StoreError> =
            transact!(&self.store, tx => store::orphans(&tx, SWEEP_MAX));
        let orphans = orphans?;
        for id in &orphans {
            let (id, now) = (*id, self.now());
            let buried: Result<(), StoreError> =
                transact!(&self.store, tx => store::bury(&tx, id, now));
            buried?;
        }
        let kept = i64::try_from(self.config.keep_content_for.as_millis()).unwrap_or(i64::MAX);
        let before = Timestamp(self.now().0.saturating_sub(kept));
        let mut forgotten = 0;
        for _ in 0..SWEEP_STEPS {
            let some: Result<u64, StoreError> =
                transact!(&self.store, tx => store::forget(&tx, before, SWEEP_MAX));
            let some = some?;
            forgotten += some;
            if some < u64::from(SWEEP_MAX) {
                break;
            }
        }
        Ok((orphans.len(), forgotten))
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("lanes", &self.lanes)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
