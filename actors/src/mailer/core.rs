//! What the handles, the job and the actor of one mailer share.

use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::time::Instant;

use super::builder::{Config, Order};
use super::error::MailerError;
use super::events::{DeliveryEvent, Recorded};
use super::lane::{Lane, Ticket};
use super::messages::MailEnqueued;
use super::provider::{Idempotency, WireRequest};
use super::store::{self, Attempt, Change, Ended, Ledger, Look, NewMail, Opened, StoredMail};
use super::{EmailAddress, Mail, MailId};
use crate::jobs::tx::{look, transact};
use crate::jobs::{JobCx, JobId, Jobs, RunKey};
use crate::store::{Store, StoreError, Timestamp, WallClock};

/// The pause of a mail when no provider says how long it is busy.
const WAIT_MIN: Duration = Duration::from_millis(50);
/// LIMIT: no mail sleeps longer than this before providers are asked again.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// For how long a rest of a provider with keys is waited out.
const PATIENCE: Duration = Duration::from_secs(60);
/// LIMIT: rows looked at or forgotten in one step of a sweep, which holds the writer of SQLite for
/// a few milliseconds; and steps.
const SWEEP_ROWS: u32 = 200;
const SWEEP_STEPS: u32 = 500;

/// What the handles, the job and the actor share.
pub(super) struct Core {
    pub(super) store: Store,
    pub(super) ledger: Ledger,
    pub(super) lanes: Vec<Lane>,
    pub(super) config: Config,
    pub(super) jobs: OnceLock<Jobs>,
    /// The last job whose mail was looked at for being an orphan; 0: begin anew.
    pub(super) looked_at: AtomicI64,
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
        let (jobs, queue) = (self.jobs()?.clone(), Arc::clone(&self.config.queue));
        self.ledger.insert(new, jobs, queue, self.now()).await
    }

    pub(super) async fn open(&self, id: MailId) -> Result<Option<Opened>, MailerError> {
        self.ledger.open(id, self.now()).await
    }

    pub(super) async fn find(
        &self,
        id: MailId,
    ) -> Result<Option<(StoredMail, Vec<Attempt>)>, StoreError> {
        look!(&self.store, rows => store::find(&rows, id))
    }

    pub(super) async fn content(&self, id: MailId) -> Result<Option<Mail>, StoreError> {
        look!(&self.store, rows => store::content(&rows, id))
    }

    pub(super) async fn wire(
        &self,
        id: MailId,
        provider: &str,
    ) -> Result<Option<(WireRequest, Timestamp)>, StoreError> {
        let provider = provider.to_owned();
        look!(&self.store, rows => store::wire(&rows, id, &provider))
    }

    pub(super) async fn begin(
        &self,
        run: RunKey,
        id: MailId,
        provider: Arc<str>,
        request: &WireRequest,
    ) -> Result<u32, MailerError> {
        self.ledger.begin(run, id, provider, store::written(request)?, self.now()).await
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
        self.ledger.finish(cx.clone(), ended, change, self.now()).await
    }

    pub(super) async fn is_suppressed(
        &self,
        mail: &StoredMail,
        content: &Arc<Mail>,
    ) -> Result<bool, StoreError> {
        let (mail, content, now) = (mail.clone(), Arc::clone(content), self.now());
        look!(&self.store, rows => store::is_still_suppressed(&rows, &mail, &content, now))
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

    /// Settles mails whose job is gone, and forgets what is old.
    pub(super) async fn sweep(&self) -> Result<Swept, StoreError> {
        let now = self.now();
        let content_before = now.before(self.config.keep_content_for);
        let ledger_before = now.before(self.config.keep_ledger_for);
        Ok(Swept {
            buried: self.bury().await?,
            forgotten: in_steps(async || {
                transact!(&self.store, tx => store::forget(&tx, content_before, SWEEP_ROWS))
            })
            .await?,
            mails: in_steps(async || {
                transact!(&self.store, tx => store::prune(&tx, ledger_before, SWEEP_ROWS))
            })
            .await?,
            events: in_steps(async || {
                transact!(&self.store, tx => store::prune_events(&tx, ledger_before, SWEEP_ROWS))
            })
            .await?,
            suppressions: in_steps(async || {
                transact!(&self.store, tx => store::prune_suppressions(&tx, now, SWEEP_ROWS))
            })
            .await?,
        })
    }

    /// Settles mails whose job is gone. How many. What is not looked at now is next time.
    async fn bury(&self) -> Result<u64, StoreError> {
        let (mut buried, mut after) = (0, JobId(self.looked_at.load(Ordering::Relaxed)));
        for _ in 0..SWEEP_STEPS {
            let look: Result<Look, StoreError> =
                look!(&self.store, rows => store::look(&rows, after, SWEEP_ROWS));
            let Look { orphans, last } = look?;
            for id in orphans {
                let now = self.now();
                let was_one: Result<bool, StoreError> =
                    transact!(&self.store, tx => store::bury(&tx, id, now));
                buried += u64::from(was_one?);
            }
            after = last.unwrap_or(JobId(0));
            if last.is_none() {
                break;
            }
        }
        self.looked_at.store(after.0, Ordering::Relaxed);
        Ok(buried)
    }
}

/// What a sweep has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Swept {
    /// Mails settled whose job was gone.
    pub(super) buried: u64,
    /// Mails of which the content was forgotten.
    pub(super) forgotten: u64,
    /// Mails that were forgotten, with their ledger.
    pub(super) mails: u64,
    pub(super) events: u64,
    pub(super) suppressions: u64,
}

/// Takes steps while there is enough for a whole one. How many rows in all.
async fn in_steps(
    mut step: impl AsyncFnMut() -> Result<u64, StoreError>,
) -> Result<u64, StoreError> {
    let mut all = 0;
    for _ in 0..SWEEP_STEPS {
        let some = step().await?;
        all += some;
        if some < u64::from(SWEEP_ROWS) {
            break;
        }
    }
    Ok(all)
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("lanes", &self.lanes)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
