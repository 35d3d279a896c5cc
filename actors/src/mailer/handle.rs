//! The handle.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sha2::{Digest, Sha256};

use super::actor::MailerActor;
use super::core::{Core, Swept};
use super::deliver::deliver;
use super::error::MailerError;
use super::events::{DeliveryEvent, Recorded};
use super::messages::{MailEnqueued, MailStatus};
use super::state::OnUnknown;
use super::store::{self, NewMail};
use super::{EmailAddress, Mail, MailId};
use crate::breaker::Breaker;
use crate::hex::hex;
use crate::jobs::store::postgres::Session;
use crate::jobs::tx::{PostgresTx, SqliteJobTx, at_once};
use crate::jobs::{Class, JobCx, Jobs, JobsBuilder};
use crate::kernel::{Ref, Spec, Tree};
use crate::store::{SqliteTx, Store, Timestamp};

/// LIMIT: of an idempotency key, a kind and a tenant.
const KEY_MAX: usize = 200;
const WORD_MAX: usize = 100;

/// Sends mail: each is stored first, and then sent by a job until a provider has taken it or
/// nothing more can be done. Cheap to clone; clones are the same mailer.
///
/// Every method may be called from any thread.
#[derive(Clone)]
pub struct Mailer {
    pub(super) core: Arc<Core>,
}

impl Mailer {
    pub(super) const fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Adds the job that sends mails to a job queue, which must be on the same store.
    pub fn declare(&self, jobs: JobsBuilder) -> JobsBuilder {
        let core = Arc::clone(&self.core);
        jobs.handle(move |job, cx: JobCx| deliver(Arc::clone(&core), job, cx))
    }

    /// Lets mails be enqueued from here on, and starts the mailer's actor in `tree`, as `mailer`.
    pub fn start(&self, jobs: &Jobs, tree: &Tree) -> Ref<MailerActor> {
        self.attach(jobs);
        tree.start(self.spec())
    }

    /// The mailer's actor, to be started elsewhere.
    pub fn spec(&self) -> Spec<MailerActor> {
        let mailer = self.clone();
        Spec::new("mailer", move || MailerActor::new(mailer.clone()))
    }

    /// Lets mails be enqueued from here on; the [actor](Self::spec) is started elsewhere, or not at
    /// all, as in a test kit.
    pub fn attach(&self, jobs: &Jobs) {
        // The first queue stands.
        let _again = self.core.jobs.set(jobs.clone());
    }

    /// A mail to be sent: await it, or put it in a transaction of your own.
    pub fn enqueue(&self, mail: Mail) -> EnqueueMail<'_> {
        EnqueueMail { mailer: self, mail: Arc::new(mail), wishes: Wishes::new(&self.core) }
    }

    /// How far a mail is; `None`: there is no such mail.
    ///
    /// # Errors
    ///
    /// As the store says.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn find(&self, id: MailId) -> Result<Option<MailStatus>, MailerError> {
        let found = self.core.find(id).await?;
        Ok(found.map(|(mail, attempts)| MailStatus {
            id: mail.id,
            kind: mail.kind,
            state: mail.state,
            delivery: mail.delivery,
            provider: mail.provider,
            provider_id: mail.provider_id,
            code: mail.code,
            resend_of: mail.resend_of,
            deadline: mail.deadline,
            created_at: mail.created_at,
            updated_at: mail.updated_at,
            attempts,
        }))
    }

    /// Calls a mail back. `false`: it was sent, may have been sent, or is settled or unknown.
    ///
    /// # Errors
    ///
    /// As the store says.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may be called back all the same.
    pub async fn cancel(&self, id: MailId) -> Result<bool, MailerError> {
        self.core.cancel(id).await
    }

    /// Has a mail that was given up, is too late, or whose fate is unknown sent once more, under
    /// its old key, with all its attempts, without its deadline and from here on with
    /// [`OnUnknown::Retry`]. `false`: it is in another state, or its content was forgotten.
    ///
    /// For one of which nobody knows: it may arrive twice.
    ///
    /// # Errors
    ///
    /// As the job queue and the store say.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may be carried out all the same.
    pub async fn try_again(&self, id: MailId) -> Result<bool, MailerError> {
        self.core.try_again(id).await
    }

    /// Gives up a mail of which nobody knows whether it was accepted. `false`: it is not
    /// [`Unknown`](super::MailState::Unknown).
    ///
    /// # Errors
    ///
    /// As the store says.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may be carried out all the same.
    pub async fn give_up(&self, id: MailId) -> Result<bool, MailerError> {
        Ok(self.core.give_up(id).await?)
    }

    /// Sends the same content as a new mail of the same kind, class and tenant, that overrides
    /// suppression if the old one did; `None`: there is no such mail, or its content was
    /// forgotten. Asked twice with the same `why`, it is sent once.
    ///
    /// # Errors
    ///
    /// As for [`enqueue`](Self::enqueue).
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may be carried out all the same.
    pub async fn resend(&self, id: MailId, why: &str) -> Result<Option<MailId>, MailerError> {
        let (Some((old, _)), Some(content)) =
            (self.core.find(id).await?, self.core.content(id).await?)
        else {
            return Ok(None);
        };
        let why = hex(&Sha256::digest(why));
        let mut again = self.enqueue(content).key(format!("resend:{id}:{why}")).kind(old.kind);
        again = again.tenant(old.tenant).on_unknown(old.on_unknown).class(old.class);
        again.wishes.overrides_suppression = old.overrides_suppression;
        again.wishes.resend_of = Some(id);
        Ok(Some(again.await?.id()))
    }

    /// Takes in what a provider told: it raises the mail's delivery, settles one that was
    /// unknown, and fills the suppression list. The same event is taken in once.
    ///
    /// # Errors
    ///
    /// As the store says; hand the event in again.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may be carried out all the same.
    pub async fn record(&self, event: DeliveryEvent) -> Result<Recorded, MailerError> {
        Ok(self.core.record(event).await?)
    }

    /// Sends a recipient no more mail, from this tenant or, with `""`, from anybody; until a
    /// moment, or for good. Only a hash of the address is kept.
    ///
    /// # Errors
    ///
    /// As the store says.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may be carried out all the same.
    pub async fn suppress(
        &self,
        tenant: &str,
        address: &EmailAddress,
        reason: &str,
        until: Option<Timestamp>,
    ) -> Result<(), MailerError> {
        Ok(self.core.suppress(tenant, address, reason, "operator", until).await?)
    }

    /// Sends a recipient mail again. `false`: it was not on the list.
    ///
    /// # Errors
    ///
    /// As the store says.
    ///
    /// # Cancel safety
    ///
    /// Dropped, it may be carried out all the same.
    pub async fn unsuppress(
        &self,
        tenant: &str,
        address: &EmailAddress,
    ) -> Result<bool, MailerError> {
        Ok(self.core.unsuppress(tenant, address).await?)
    }

    /// The breaker of each provider, by the provider's name.
    pub fn breakers(&self) -> impl Iterator<Item = (&str, &Breaker)> {
        self.core.lanes.iter().map(|lane| (lane.name(), &lane.breaker))
    }

    pub(super) async fn sweep(&self) -> Result<Swept, MailerError> {
        Ok(self.core.sweep().await?)
    }
}

impl fmt::Debug for Mailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mailer").field("core", &self.core).finish()
    }
}

/// A mail to be stored and sent; await it, or put it in a transaction of your own.
///
/// # Errors
///
/// [`MailerError::KeyConflict`] and [`MailerError::Suppressed`]; that there is too much work; or
/// how the store failed.
///
/// # Cancel safety
///
/// Dropped after it was first polled, the mail may be stored or not. With a [key](Self::key),
/// enqueueing it again is safe.
#[must_use = "nothing is stored until it is awaited"]
pub struct EnqueueMail<'a> {
    mailer: &'a Mailer,
    mail: Arc<Mail>,
    wishes: Wishes,
}

struct Wishes {
    tenant: Arc<str>,
    key: Option<Arc<str>>,
    kind: Arc<str>,
    on_unknown: OnUnknown,
    deadline: Option<Timestamp>,
    run_at: Option<Timestamp>,
    class: Class,
    resend_of: Option<MailId>,
    overrides_suppression: bool,
}

impl Wishes {
    fn new(core: &Core) -> Self {
        Self {
            tenant: Arc::default(),
            key: None,
            kind: "mail".into(),
            on_unknown: core.config.on_unknown,
            deadline: None,
            run_at: None,
            class: Class::Normal,
            resend_of: None,
            overrides_suppression: false,
        }
    }
}

impl EnqueueMail<'_> {
    /// The idempotency key, unique within the tenant: 1 to 200 visible ASCII characters. The same
    /// mail under the same key is stored once, for as long as its ledger is kept.
    pub fn key(mut self, key: impl Into<Arc<str>>) -> Self {
        self.wishes.key = Some(key.into());
        self
    }

    /// What it is to you, such as `order_confirmation`; up to 100 bytes. Default `mail`.
    pub fn kind(mut self, kind: impl Into<Arc<str>>) -> Self {
        self.wishes.kind = kind.into();
        self
    }

    /// For whom it is sent, up to 100 bytes. Default nobody in particular.
    pub fn tenant(mut self, tenant: impl Into<Arc<str>>) -> Self {
        self.wishes.tenant = tenant.into();
        self
    }

    /// What to do when nobody knows whether it was accepted.
    pub const fn on_unknown(mut self, on_unknown: OnUnknown) -> Self {
        self.wishes.on_unknown = on_unknown;
        self
    }

    /// Not sent at this moment or later: for what is useless then, as a login code.
    pub const fn deadline(mut self, at: Timestamp) -> Self {
        self.wishes.deadline = Some(at);
        self
    }

    /// Not sent when this has passed.
    pub fn deadline_in(mut self, within: Duration) -> Self {
        self.wishes.deadline = Some(self.mailer.core.now().after(within));
        self
    }

    /// Not sent before this moment.
    pub const fn deliver_after(mut self, at: Timestamp) -> Self {
        self.wishes.run_at = Some(at);
        self
    }

    /// How dear it is. Default [`Class::Normal`].
    pub const fn class(mut self, class: Class) -> Self {
        self.wishes.class = class;
        self
    }

    /// Sends it also to recipients on the suppression list: for what they must get by law.
    pub const fn override_suppression(mut self) -> Self {
        self.wishes.overrides_suppression = true;
        self
    }

    /// Stores it in a transaction of your own on SQLite: it is sent if the transaction is
    /// committed.
    ///
    /// # Errors
    ///
    /// As for the whole; after a store's error, roll back.
    pub fn in_sqlite(self, tx: &SqliteTx<'_>) -> Result<MailEnqueued, MailerError> {
        let core = Arc::clone(&self.mailer.core);
        let new = self.checked()?;
        let (jobs, tx) = (core.jobs()?, SqliteJobTx::new(tx));
        at_once(store::insert(&tx, jobs, &core.config.queue, &new, core.now()))
    }

    /// Stores it in a transaction of your own on PostgreSQL: it is sent if the transaction is
    /// committed.
    ///
    /// # Errors
    ///
    /// As for the whole; after a store's error, roll back.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves it open whether the transaction has the mail in it: roll back.
    pub async fn in_postgres(
        self,
        tx: &tokio_postgres::Transaction<'_>,
    ) -> Result<MailEnqueued, MailerError> {
        self.within(Session::foreign(tx)).await
    }

    /// Stores it in a transaction of your own that sqlx has begun on PostgreSQL: it is sent if
    /// the transaction is committed. Feature `sqlx`.
    ///
    /// # Errors
    ///
    /// As for the whole; after a store's error, roll back.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves it open whether the transaction has the mail in it: roll back.
    #[cfg(feature = "sqlx")]
    pub async fn in_sqlx(
        self,
        tx: &mut sqlx::Transaction<'_, sqlx::Postgres>,
    ) -> Result<MailEnqueued, MailerError> {
        let connection = crate::jobs::store::postgres::SqlxConnection::new(tx);
        self.within(Session::sqlx(&connection)).await
    }

    async fn within(self, session: Session<'_>) -> Result<MailEnqueued, MailerError> {
        let core = Arc::clone(&self.mailer.core);
        let Store::Postgres(postgres) = &core.store else {
            return Err(crate::jobs::JobsError::ForeignTransaction.into());
        };
        let new = self.checked()?;
        let tx = PostgresTx::new(session, postgres.schema());
        store::insert(&tx, core.jobs()?, &core.config.queue, &new, core.now()).await
    }

    fn checked(self) -> Result<NewMail, MailerError> {
        let Wishes { tenant, key, kind, .. } = &self.wishes;
        let visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        let invalid = |setting, expected| Err(MailerError::InvalidSetting { setting, expected });
        if key.as_deref().is_some_and(|key| !(1..=KEY_MAX).contains(&key.len()) || !visible(key)) {
            return invalid("key", "1 to 200 visible ASCII characters");
        }
        if kind.is_empty() || kind.len() > WORD_MAX || kind.contains(char::is_control) {
            return invalid("kind", "1 to 100 bytes without control characters");
        }
        if tenant.len() > WORD_MAX || tenant.contains(char::is_control) {
            return invalid("tenant", "at most 100 bytes without control characters");
        }
        let (id, content_hash) = (MailId::fresh(), self.mail.content_hash());
        let content = store::written(&*self.mail)?;
        let Wishes { tenant, key, kind, on_unknown, deadline, run_at, class, .. } = self.wishes;
        Ok(NewMail {
            id,
            tenant,
            key: key.unwrap_or_else(|| id.to_string().into()),
            kind,
            mail: self.mail,
            content,
            content_hash,
            on_unknown,
            deadline,
            run_at,
            class,
            resend_of: self.wishes.resend_of,
            overrides_suppression: self.wishes.overrides_suppression,
        })
    }
}

impl<'a> IntoFuture for EnqueueMail<'a> {
    type Output = Result<MailEnqueued, MailerError>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        let core = Arc::clone(&self.mailer.core);
        async move { core.insert(self.checked()?).await }.boxed()
    }
}

impl fmt::Debug for EnqueueMail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnqueueMail").field("kind", &self.wishes.kind).finish_non_exhaustive()
    }
}
