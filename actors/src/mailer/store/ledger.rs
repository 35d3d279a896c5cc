//! What each mail costs: it is stored, read, begun and finished.
//!
//! On PostgreSQL that of many mails shares a transaction, in which their statements follow each
//! other without waiting for answers. On SQLite the store itself makes groups.

use std::fmt;
use std::sync::Arc;

use futures_util::future::{try_join, try_join_all};

use super::rows::{NewMail, Opened};
use super::{Change, Ended};
use crate::jobs::store::postgres::defect;
use crate::jobs::tx::{JobTx, PostgresTx, Told, look, transact};
use crate::jobs::{JobCx, Jobs, JobsError, RunKey};
use crate::kernel::RequestContext;
use crate::mailer::MailId;
use crate::mailer::error::MailerError;
use crate::mailer::messages::MailEnqueued;
use crate::store::postgres::{Batch, Group};
use crate::store::{PgStore, Store, StoreError, Timestamp, postgres};

/// Each of the statements finds few rows by an index, whatever its values are and however large the
/// tables: to plan them again and again would cost more than to run them.
const PLAN_ONCE: &str =
    "set local plan_cache_mode = force_generic_plan; set local enable_seqscan = off";

/// LIMIT: how long entries that share a transaction wait for a lock that somebody else holds, such
/// as a user's transaction that has stored a mail under the same key. Then each goes on alone.
const NO_WAIT: &str = "set local lock_timeout = 250";

/// What is written for each mail.
#[derive(Clone)]
pub(in crate::mailer) struct Ledger {
    store: Store,
    /// On PostgreSQL.
    group: Option<Group<Together>>,
}

impl Ledger {
    pub(in crate::mailer) fn new(store: Store) -> Self {
        let group = match &store {
            Store::Postgres(store) => Some(Group::new(store.clone(), Together)),
            Store::Sqlite(_) => None,
        };
        Self { store, group }
    }

    /// Stores a mail and its job, once for each key.
    pub(in crate::mailer) async fn insert(
        &self,
        new: NewMail,
        jobs: Jobs,
        queue: Arc<str>,
        now: Timestamp,
    ) -> Result<MailEnqueued, MailerError> {
        let Done::Inserted(mail) = self.run(Entry::Insert { new, jobs, queue }, now).await? else {
            return Err(unexpected());
        };
        Ok(mail)
    }

    /// Reads what a run has to know of a mail.
    pub(in crate::mailer) async fn open(
        &self,
        id: MailId,
        now: Timestamp,
    ) -> Result<Option<Opened>, MailerError> {
        if self.group.is_none() {
            return Ok(look!(&self.store, rows => super::open(&rows, id, now))?);
        }
        let Done::Opened(opened) = self.run(Entry::Open(id), now).await? else {
            return Err(unexpected());
        };
        Ok(opened.map(|opened| *opened))
    }

    /// Writes down that an attempt begins: from here on it may have been accepted.
    pub(in crate::mailer) async fn begin(
        &self,
        run: RunKey,
        id: MailId,
        provider: Arc<str>,
        frozen: Vec<u8>,
        now: Timestamp,
    ) -> Result<u32, MailerError> {
        let Done::Begun(number) = self.run(Entry::Begin { run, id, provider, frozen }, now).await?
        else {
            return Err(unexpected());
        };
        Ok(number)
    }

    /// Ends an attempt, whatever has become of the run, and changes the mail if the run still has
    /// its job; ends the job, if the mail is settled. `false`: the run was late.
    pub(in crate::mailer) async fn finish(
        &self,
        cx: JobCx,
        ended: Option<Ended>,
        change: Change,
        now: Timestamp,
    ) -> Result<bool, MailerError> {
        let Done::Finished(in_time) =
            self.run(Entry::Finish { cx: Box::new(cx), ended, change }, now).await?
        else {
            return Err(unexpected());
        };
        Ok(in_time)
    }

    async fn run(&self, entry: Entry, now: Timestamp) -> Result<Done, MailerError> {
        let Some(group) = &self.group else {
            return transact!(&self.store, tx => entry.run(&tx, now));
        };
        let request = RequestContext::current();
        group.store(Arc::new(Item { entry, now, request })).await?
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").finish_non_exhaustive()
    }
}

/// One thing to be done for one mail.
enum Entry {
    Insert { new: NewMail, jobs: Jobs, queue: Arc<str> },
    Open(MailId),
    Begin { run: RunKey, id: MailId, provider: Arc<str>, frozen: Vec<u8> },
    Finish { cx: Box<JobCx>, ended: Option<Ended>, change: Change },
}

/// What came of it.
enum Done {
    Inserted(MailEnqueued),
    Opened(Option<Box<Opened>>),
    Begun(u32),
    Finished(bool),
}

/// What came of it, where that is no reason to roll back.
type Answered = Result<Result<Done, MailerError>, MailerError>;

impl Entry {
    async fn run(&self, tx: &impl JobTx, now: Timestamp) -> Result<Done, MailerError> {
        Ok(match self {
            Self::Insert { new, jobs, queue } => {
                Done::Inserted(super::insert(tx, jobs, queue, new, now).await?)
            }
            Self::Open(id) => Done::Opened(super::open(tx, *id, now).await?.map(Box::new)),
            Self::Begin { run, id, provider, frozen } => {
                Done::Begun(super::begin(tx, *run, *id, provider, frozen, now).await?)
            }
            Self::Finish { cx, ended, change } => {
                Done::Finished(super::finish(tx, cx, ended.as_ref(), change, now).await?)
            }
        })
    }

    /// The same, where a refusal that leaves nothing behind in the transaction is an answer like
    /// another.
    async fn answer(&self, tx: &impl JobTx, now: Timestamp) -> Answered {
        use MailerError::{Fenced, KeyConflict, Suppressed};
        match (self.run(tx, now).await, self) {
            (Err(refused @ (KeyConflict { .. } | Suppressed)), Self::Insert { .. })
            | (Err(refused @ Fenced), Self::Begin { .. }) => Ok(Err(refused)),
            (done, _) => done.map(Ok),
        }
    }

    /// About how much of it is sent to the database.
    fn bytes(&self) -> usize {
        match self {
            Self::Insert { new, .. } => new.content.len(),
            Self::Begin { frozen, .. } => frozen.len(),
            Self::Open(_) | Self::Finish { .. } => 0,
        }
    }

    /// By what two groups must agree on whose turn it is, so that they do not wait for each other.
    fn order(&self) -> (&str, &str, MailId) {
        match self {
            Self::Insert { new, .. } => (&new.tenant, &new.key, new.id),
            Self::Open(id) | Self::Begin { id, .. } => ("", "", *id),
            Self::Finish { change, .. } => ("", "", change.id),
        }
    }
}

fn unexpected() -> MailerError {
    MailerError::Store(defect("an entry of the ledger has the answer of another"))
}

/// An entry of somebody who waits.
struct Item {
    entry: Entry,
    now: Timestamp,
    /// The request that it belongs to.
    request: Option<RequestContext>,
}

impl Item {
    async fn answer(&self, tx: &PostgresTx<'_>) -> Answered {
        let work = self.entry.answer(tx, self.now);
        match self.request.clone() {
            Some(request) => request.scope(work).await,
            None => work.await,
        }
    }
}

/// Entries of many mails, in one transaction.
struct Together;

impl Batch for Together {
    type Item = Arc<Item>;
    type Answer = Result<Done, MailerError>;

    const ITEMS_MAX: usize = 128;

    fn bytes(item: &Arc<Item>) -> usize {
        item.entry.bytes()
    }

    /// An attempt that nobody waits to make would look like one that was cut off. What an attempt
    /// came to is not known from elsewhere.
    fn is_kept(item: &Arc<Item>) -> bool {
        matches!(item.entry, Entry::Finish { .. })
    }

    async fn store(
        &self,
        store: &PgStore,
        items: Vec<Arc<Item>>,
    ) -> Result<Vec<Result<Done, MailerError>>, StoreError> {
        let (owner, schema): (_, Arc<str>) = (store.clone(), store.schema().into());
        let alone = items.len() == 1;
        let done = store.run(async move |mut client| {
            let (told, transaction) = (Told::default(), client.transaction().await?);
            let done = {
                let tx = PostgresTx::within(&transaction, &schema).told_by(&told);
                let set =
                    if alone { PLAN_ONCE.to_owned() } else { format!("{PLAN_ONCE}; {NO_WAIT}") };
                let set =
                    async { Ok(transaction.batch_execute(&set).await.map_err(StoreError::from)?) };
                try_join(set, in_order(&tx, &items)).await
            };
            let ((), done) = match done {
                Ok(done) => done,
                // Each has its own answer when it is alone.
                Err(error) if alone => return Ok(vec![Err(error)]),
                Err(error) => return Err(of_group(error)),
            };
            postgres::commit(transaction).await?;
            told.tell(&owner);
            Ok(done)
        });
        done.await
    }
}

/// What an error of one entry means for those that share its transaction. That it was too slow, or
/// waited for a lock or in a circle, is its own affair, and so is what it is refused for.
fn of_group(error: MailerError) -> StoreError {
    if let MailerError::Store(error) | MailerError::Jobs(JobsError::Store(error)) = error
        && !matches!(error, StoreError::Timeout)
    {
        return error;
    }
    defect("one entry spoils it for all")
}

/// Does it all at once, beginning with what comes first; the answers are in the order of `items`.
async fn in_order(
    tx: &PostgresTx<'_>,
    items: &[Arc<Item>],
) -> Result<Vec<Result<Done, MailerError>>, MailerError> {
    let mut places: Vec<_> = items.iter().enumerate().collect();
    places.sort_by_key(|(_, item)| item.entry.order());
    let works = places.into_iter().map(async |(place, item)| {
        let done = item.answer(tx).await?;
        Ok::<_, MailerError>((place, done))
    });
    let mut done = try_join_all(works).await?;
    done.sort_by_key(|(place, _)| *place);
    Ok(done.into_iter().map(|(_, done)| done).collect())
}
