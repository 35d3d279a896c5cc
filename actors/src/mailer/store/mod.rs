//! The tables of the mailer: operations within a transaction, the same on both databases.
//!
//! INVARIANT: an attempt is written down before its first byte leaves. A run whose job was given
//! to another ends its own attempts and changes no mail, unless it proves that one was accepted.

mod events;
mod ledger;
mod rows;
mod suppressions;

use std::sync::Arc;

use futures_util::future::try_join;
use serde::Serialize;

use super::error::MailerError;
use super::messages::MailEnqueued;
use super::provider::WireRequest;
use super::state::{AMBIGUOUS, Delivery, GIVEN_UP, MailState, Next, OUTCOME_UNKNOWN, truth};
use super::{Deliver, Mail, MailId};
use crate::jobs::store::postgres::defect;
use crate::jobs::tx::{JobTx, Rows, Value};
use crate::jobs::{JobCx, JobId, Jobs, RunKey};
use crate::store::{StoreError, Timestamp};

pub(super) use events::record;
pub(super) use ledger::Ledger;
pub use rows::Attempt;
use rows::Content;
pub(super) use rows::{NewMail, Opened, StoredMail};
pub(super) use suppressions::{is_suppressed, prune as prune_suppressions, suppress, unsuppress};

/// A mail that may still be sent.
const OPEN: &str = "state in ('queued', 'sending', 'retry_wait')";
/// One of which everything is known.
const SETTLED: &str = "state not in ('queued', 'sending', 'retry_wait', 'unknown')";

/// One of which nobody knows whether it was accepted, given up or not.
fn doubted() -> String {
    let given_up = format!("state = 'dead' and last_code in ('{OUTCOME_UNKNOWN}', '{GIVEN_UP}')");
    format!("(state = 'unknown' or {given_up})")
}

/// Stores a mail and its job, once for each key.
pub(super) async fn insert(
    tx: &impl JobTx,
    jobs: &Jobs,
    queue: &Arc<str>,
    new: &NewMail,
    now: Timestamp,
) -> Result<MailEnqueued, MailerError> {
    if let Some(known) = known(tx, new).await? {
        return Ok(known);
    }
    if !new.overrides_suppression && is_suppressed(tx, &new.tenant, &new.mail, now).await? {
        return Err(MailerError::Suppressed);
    }
    let insert =
        "insert into {mail} (id, tenant, idempotency_key, content_hash, kind, content, state,
        on_unknown, deadline_at, resend_of, created_at, updated_at, overrides_suppression, class)
        values (?1, ?2, ?3, ?4, ?5, ?6, 'queued', ?7, ?8, ?9, ?10, ?10, ?11, ?12)
        on conflict (tenant, idempotency_key) do nothing returning 1";
    let params = [
        id_of(new.id),
        (&*new.tenant).into(),
        (&*new.key).into(),
        (&new.content_hash).into(),
        (&*new.kind).into(),
        (&*new.content).into(),
        new.on_unknown.as_str().into(),
        new.deadline.map(|at| at.0).into(),
        new.resend_of.map_or(Value::Null, id_of),
        now.0.into(),
        i64::from(new.overrides_suppression).into(),
        i64::from(new.class.number()).into(),
    ];
    if tx.row(insert, &params).await?.is_none() {
        // Somebody else was faster.
        return known(tx, new).await?.ok_or_else(|| defect("a key is taken by nobody").into());
    }
    let deliver = jobs.enqueue(Deliver { mail: new.id }).queue(Arc::clone(queue)).class(new.class);
    let deliver = new.run_at.into_iter().fold(deliver, |job, at| job.at(at));
    let job = tx.enqueue(deliver).await?;
    set_job(tx, new.id, job.id()).await?;
    Ok(MailEnqueued::New(new.id))
}

/// The mail that has this key, if there is one.
async fn known(tx: &impl JobTx, new: &NewMail) -> Result<Option<MailEnqueued>, MailerError> {
    let sql = "select id, content_hash from {mail} where tenant = ?1 and idempotency_key = ?2";
    let Some(mut row) = tx.row(sql, &[(&*new.tenant).into(), (&*new.key).into()]).await? else {
        return Ok(None);
    };
    let id = rows::mail_id(row.blob(0)?)?;
    if row.blob(1)? == new.content_hash {
        return Ok(Some(MailEnqueued::Replayed(id)));
    }
    Err(MailerError::KeyConflict { id })
}

async fn set_job(tx: &impl JobTx, id: MailId, job: Option<JobId>) -> Result<(), StoreError> {
    let sql = "update {mail} set job_id = ?2 where id = ?1";
    tx.rows(sql, &[id_of(id), job.map(|job| job.0).into()]).await.map(drop)
}

/// A mail and its attempts.
pub(super) async fn find(
    tx: &impl Rows,
    id: MailId,
) -> Result<Option<(StoredMail, Vec<Attempt>)>, StoreError> {
    let Some(row) = tx.row(rows::MAIL, &[id_of(id)]).await? else { return Ok(None) };
    Ok(Some((rows::mail(row)?, attempts(tx, id).await?)))
}

async fn attempts(tx: &impl Rows, id: MailId) -> Result<Vec<Attempt>, StoreError> {
    let rows = tx.rows(rows::ATTEMPTS, &[id_of(id)]).await?;
    rows.into_iter().map(rows::attempt).collect()
}

/// What a run has to know of a mail.
async fn open(tx: &impl Rows, id: MailId, now: Timestamp) -> Result<Option<Opened>, StoreError> {
    let id_param = [id_of(id)];
    let mail = tx.row(rows::MAIL_AND_CONTENT, &id_param);
    let (row, attempts) = try_join(mail, attempts(tx, id)).await?;
    let Some(mut row) = row else { return Ok(None) };
    let content = rows::content(&mut row)?;
    let mail = rows::mail(row)?;
    let is_suppressed = match &content {
        Content::Forgotten => Some(false),
        Content::Read(content) => Some(is_still_suppressed(tx, &mail, content, now).await?),
        Content::Large(_) => None,
    };
    Ok(Some(Opened { mail, attempts, content, is_suppressed }))
}

/// What is to be sent; `None`: it was forgotten.
pub(super) async fn content(tx: &impl Rows, id: MailId) -> Result<Option<Mail>, StoreError> {
    let sql = "select content from {mail} where id = ?1";
    let row = tx.row(sql, &[id_of(id)]).await?;
    let content = row.map(|mut row| row.blob_or_none(0)).transpose()?.flatten();
    content.map(|json| serde_json::from_slice(&json).map_err(unwritable)).transpose()
}

/// A request that was frozen, and when it first went out.
pub(super) async fn wire(
    tx: &impl Rows,
    id: MailId,
    provider: &str,
) -> Result<Option<(WireRequest, Timestamp)>, StoreError> {
    let sql =
        "select request, first_attempt_at from {mail_wire} where mail_id = ?1 and provider = ?2";
    let Some(mut row) = tx.row(sql, &[id_of(id), provider.into()]).await? else {
        return Ok(None);
    };
    let request = serde_json::from_slice(&row.blob(0)?).map_err(unwritable)?;
    Ok(Some((request, Timestamp(row.int(1)?))))
}

/// Writes down that an attempt begins: from here on it may have been accepted.
async fn begin(
    tx: &impl JobTx,
    run: RunKey,
    id: MailId,
    provider: &str,
    frozen: &[u8],
    now: Timestamp,
) -> Result<u32, MailerError> {
    if !holds(tx, run).await? {
        return Err(MailerError::Fenced);
    }
    let taken = format!(
        "update {{mail}} set state = 'sending', provider = ?2, updated_at = ?3
         where id = ?1 and {OPEN} returning 1"
    );
    let params = [id_of(id), provider.into(), now.0.into()];
    if tx.row(&taken, &params).await?.is_none() {
        return Err(MailerError::Fenced);
    }
    let freeze = "insert into {mail_wire} (mail_id, provider, request, first_attempt_at)
        values (?1, ?2, ?3, ?4) on conflict (mail_id, provider) do nothing";
    let params = [id_of(id), provider.into(), frozen.into(), now.0.into()];
    tx.rows(freeze, &params).await?;
    let note = "insert into {mail_attempt} (mail_id, n, run, provider, started_at)
        select ?1, coalesce(max(n), 0) + 1, ?2, ?3, ?4 from {mail_attempt} where mail_id = ?1
        returning n";
    let params = [id_of(id), i64::from(run.run).into(), provider.into(), now.0.into()];
    let row = tx.row(note, &params).await?;
    let number = row.ok_or_else(|| defect("no row was returned"))?.int(0)?;
    Ok(u32::try_from(number).unwrap_or(u32::MAX))
}

/// Whether a run still has its job.
async fn holds(tx: &impl JobTx, run: RunKey) -> Result<bool, StoreError> {
    let sql = "select 1 from {job} where id = ?1 and run = ?2 and state = 1 for update";
    Ok(tx.row(sql, &[run.id.0.into(), i64::from(run.run).into()]).await?.is_some())
}

/// What an attempt came to.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) n: u32,
    pub(super) word: &'static str,
    pub(super) http_status: Option<u16>,
    pub(super) code: Option<Arc<str>>,
    pub(super) retry_after_ms: Option<i64>,
}

/// What becomes of the mail.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) id: MailId,
    pub(super) state: MailState,
    pub(super) code: Option<Arc<str>>,
    /// Who has accepted it, and what that calls it.
    pub(super) accepted_as: Option<ProviderId>,
}

/// What a provider calls a mail.
#[derive(Debug, Clone)]
pub(super) struct ProviderId {
    pub(super) provider: Arc<str>,
    pub(super) id: Arc<str>,
}

impl Change {
    pub(super) const fn to(id: MailId, state: MailState) -> Self {
        Self { id, state, code: None, accepted_as: None }
    }
}

/// Ends an attempt, whatever has become of the run, and changes the mail if the run still has its
/// job; ends the job, if the mail is settled. `false`: the run was late.
async fn finish(
    tx: &impl JobTx,
    cx: &JobCx,
    ended: Option<&Ended>,
    change: &Change,
    now: Timestamp,
) -> Result<bool, MailerError> {
    if let Some(called) = &change.accepted_as {
        events::lock(tx, called).await?;
    }
    if let Some(ended) = ended {
        end_attempt(tx, change.id, ended, now).await?;
    }
    if !holds(tx, cx.run()).await? {
        // Whoever has the job now must not send what was accepted.
        if change.state == MailState::Accepted {
            apply(tx, change, &format!("({OPEN} or {})", doubted()), now).await?;
        }
        return Ok(false);
    }
    apply(tx, change, OPEN, now).await?;
    if !change.state.is_open() {
        tx.complete(cx).await?;
    }
    Ok(true)
}

/// Ends an attempt and nothing else.
pub(super) async fn end_attempt(
    tx: &impl JobTx,
    id: MailId,
    ended: &Ended,
    now: Timestamp,
) -> Result<(), StoreError> {
    let sql =
        "update {mail_attempt} set finished_at = ?3, outcome = ?4, http_status = ?5, code = ?6,
        retry_after_ms = ?7 where mail_id = ?1 and n = ?2 and finished_at is null";
    let params = [
        id_of(id),
        i64::from(ended.n).into(),
        now.0.into(),
        ended.word.into(),
        ended.http_status.map(i64::from).into(),
        ended.code.as_deref().into(),
        ended.retry_after_ms.into(),
    ];
    tx.rows(sql, &params).await.map(drop)
}

/// Proof that a mail was accepted, from wherever, settles one that was given up as unknown.
pub(super) async fn settle(
    tx: &impl JobTx,
    change: &Change,
    now: Timestamp,
) -> Result<bool, StoreError> {
    apply(tx, change, &doubted(), now).await
}

/// Changes a mail of which `from` is true. What was told of it before anybody knew what its
/// provider calls it counts from here on.
async fn apply(
    tx: &impl JobTx,
    change: &Change,
    from: &str,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let sql = format!(
        "update {{mail}} set last_code = ?3,
         state = case when delivery <> 'none' and (?2 = 'unknown'
                           or ?2 = 'dead' and ?3 = '{OUTCOME_UNKNOWN}')
                      then 'accepted' else ?2 end,
         provider = coalesce(?6, provider), provider_id = coalesce(?4, provider_id),
         updated_at = ?5, delivery = case when ?2 = 'accepted' and delivery = 'none' then 'sent'
         else delivery end,
         job_id = case when ?2 in ('queued', 'sending', 'retry_wait') then job_id end
         where id = ?1 and {from} returning 1"
    );
    let params = [
        id_of(change.id),
        change.state.as_str().into(),
        change.code.as_deref().into(),
        change.accepted_as.as_ref().map(|called| &*called.id).into(),
        now.0.into(),
        change.accepted_as.as_ref().map(|called| &*called.provider).into(),
    ];
    if tx.row(&sql, &params).await?.is_none() {
        return Ok(false);
    }
    if let Some(called) = &change.accepted_as {
        events::link(tx, change.id, called, now).await?;
    }
    Ok(true)
}

/// Calls a mail back that was not sent yet: the job that would have sent it, if it was in time.
pub(super) async fn cancel(
    tx: &impl JobTx,
    id: MailId,
    now: Timestamp,
) -> Result<Option<JobId>, StoreError> {
    // One that may have been accepted cannot be called back.
    let sql = format!(
        "update {{mail}} set state = 'cancelled', updated_at = ?2
         where id = ?1 and state in ('queued', 'retry_wait')
         and not exists (select 1 from {{mail_attempt}} where mail_id = ?1
                         and (outcome is null or outcome in ('{AMBIGUOUS}', 'busy'))) returning job_id"
    );
    let row = tx.row(&sql, &[id_of(id), now.0.into()]).await?;
    let job = row.map(|mut row| row.int_or_none(0)).transpose()?;
    Ok(job.map(|job| JobId(job.unwrap_or_default())))
}

/// Gives a mail that is settled, or unknown, a job once more, with all its attempts. One that may
/// have been accepted may be sent twice from here on: somebody wants that.
pub(super) async fn try_again(
    tx: &impl JobTx,
    jobs: &Jobs,
    queue: &Arc<str>,
    id: MailId,
    now: Timestamp,
) -> Result<bool, MailerError> {
    let sql = "update {mail} set state = 'retry_wait', on_unknown = 'retry', deadline_at = null,
        updated_at = ?2, attempts_forgiven =
            (select coalesce(max(n), 0) from {mail_attempt} where mail_id = ?1)
        where id = ?1 and state in ('unknown', 'dead', 'expired') and content is not null
        returning class";
    let Some(mut row) = tx.row(sql, &[id_of(id), now.0.into()]).await? else {
        return Ok(false);
    };
    let class = rows::class(row.int(0)?)?;
    let deliver = jobs.enqueue(Deliver { mail: id }).queue(Arc::clone(queue)).class(class);
    let job = tx.enqueue(deliver).await?;
    set_job(tx, id, job.id()).await?;
    Ok(true)
}

/// Gives up a mail of which nobody knows whether it was accepted. `false`: it is no such mail.
pub(super) async fn give_up(
    tx: &impl JobTx,
    id: MailId,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let mut change = Change::to(id, MailState::Dead);
    change.code = Some(GIVEN_UP.into());
    apply(tx, &change, "state = 'unknown'", now).await
}

/// Whether a recipient of a stored mail got onto the list since.
pub(super) async fn is_still_suppressed(
    rows: &impl Rows,
    mail: &StoredMail,
    content: &Mail,
    now: Timestamp,
) -> Result<bool, StoreError> {
    Ok(!mail.overrides_suppression && is_suppressed(rows, &mail.tenant, content, now).await?)
}

/// Some mails that may still be sent, in the order of their jobs.
#[derive(Debug)]
pub(super) struct Look {
    /// Those whose job is gone without having settled them: it was poison, or an operator's doing.
    pub(super) orphans: Vec<MailId>,
    /// The last job that was looked at; `None`: there are no more.
    pub(super) last: Option<JobId>,
}

/// Looks at `limit` mails whose jobs come after this one.
pub(super) async fn look(rows: &impl Rows, after: JobId, limit: u32) -> Result<Look, StoreError> {
    let sql = format!(
        "select id, job_id, case when exists (select 1 from {{job}} where {{job}}.id = job_id)
                            then 1 else 0 end
         from {{mail}} where {OPEN} and job_id > ?1 order by job_id limit ?2"
    );
    let mut found = rows.rows(&sql, &[after.0.into(), i64::from(limit).into()]).await?;
    let mut orphans = Vec::new();
    let mut last = None;
    for row in &mut found {
        last = Some(JobId(row.int(1)?));
        if row.int(2)? == 0 {
            orphans.push(rows::mail_id(row.blob(0)?)?);
        }
    }
    Ok(Look { orphans, last })
}

/// Settles a mail whose job is gone. `false`: it is no such mail any more.
pub(super) async fn bury(tx: &impl JobTx, id: MailId, now: Timestamp) -> Result<bool, StoreError> {
    let Some((mail, attempts)) = find(tx, id).await? else { return Ok(false) };
    let in_doubt = attempts.iter().any(Attempt::is_open_question);
    let (state, code) = truth(Next::Dead("mailer.job_gone"), in_doubt, mail.on_unknown).state();
    let mut change = Change::to(id, state);
    change.code = code.map(Into::into);
    let orphaned =
        format!("{OPEN} and not exists (select 1 from {{job}} where {{job}}.id = job_id)");
    if !apply(tx, &change, &orphaned, now).await? {
        return Ok(false);
    }
    let close = format!(
        "update {{mail_attempt}} set finished_at = ?2, outcome = '{AMBIGUOUS}', code = 'cut_off'
         where mail_id = ?1 and finished_at is null"
    );
    tx.rows(&close, &[id_of(id), now.0.into()]).await?;
    Ok(true)
}

/// Forgets what was in mails that were settled before a moment; at most `limit`. How many.
pub(super) async fn forget(
    tx: &impl JobTx,
    before: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    let sql = format!(
        "update {{mail}} set content = null where id in (
           select id from {{mail}} where content is not null and updated_at < ?1 and {SETTLED}
           order by updated_at limit ?2)
         and content is not null and updated_at < ?1 and {SETTLED} returning id"
    );
    clear(tx, &sql, &["mail_wire"], before, limit).await
}

/// Forgets mails that were settled before a moment, with all that is known of how they were sent;
/// at most `limit`. How many.
pub(super) async fn prune(
    tx: &impl JobTx,
    before: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    let sql = format!(
        "delete from {{mail}} where id in (
           select id from {{mail}} where updated_at < ?1 and {SETTLED} order by updated_at limit ?2)
         and updated_at < ?1 and {SETTLED} returning id"
    );
    clear(tx, &sql, &["mail_wire", "mail_attempt"], before, limit).await
}

/// Takes the rows of the mails that `sql` returns out of `tables`. It says twice which: what
/// somebody else changed meanwhile is left alone.
async fn clear(
    tx: &impl JobTx,
    sql: &str,
    tables: &[&str],
    before: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    let mails = tx.rows(sql, &[before.0.into(), i64::from(limit).into()]).await?;
    let count = mails.len() as u64;
    for mut row in mails {
        let id = [Value::Blob(row.blob(0)?)];
        for table in tables {
            tx.rows(&format!("delete from {{{table}}} where mail_id = ?1"), &id).await?;
        }
    }
    Ok(count)
}

/// Forgets what providers told before a moment, each event for itself: it may have come late, or
/// belong to no mail. At most `limit`. How many.
pub(super) async fn prune_events(
    tx: &impl JobTx,
    before: Timestamp,
    limit: u32,
) -> Result<u64, StoreError> {
    let sql = "delete from {mail_event} where (provider, event_id) in (
        select provider, event_id from {mail_event} where recorded_at < ?1
        order by recorded_at limit ?2) returning 1";
    Ok(tx.rows(sql, &[before.0.into(), i64::from(limit).into()]).await?.len() as u64)
}

/// Raises the delivery of a mail, never lowers it.
pub(super) async fn deliver(
    tx: &impl JobTx,
    id: MailId,
    to: Delivery,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let lower = Delivery::ALL.iter().filter(|known| **known < to);
    let lower: Vec<_> = lower.map(|known| format!("'{known}'")).collect();
    if lower.is_empty() {
        return Ok(false);
    }
    let sql = format!(
        "update {{mail}} set delivery = ?2, updated_at = ?3
         where id = ?1 and delivery in ({}) returning 1",
        lower.join(", ")
    );
    Ok(tx.row(&sql, &[id_of(id), to.as_str().into(), now.0.into()]).await?.is_some())
}

/// As a parameter.
fn id_of(id: MailId) -> Value {
    id.as_bytes().into()
}

/// As it is stored.
pub(super) fn written(what: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(what).map_err(unwritable)
}

fn unwritable(error: serde_json::Error) -> StoreError {
    StoreError::Failed(StoreError::source(error))
}
