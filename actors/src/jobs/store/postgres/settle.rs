//! What becomes of a run that did not do its work: decided here, written in batches.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_postgres::types::Type;

use super::PgSql;
use super::decode::{run_key, text as read_text};
use super::session::{Param, Row, Session, statements, text};
use crate::jobs::store::{DeadReason, RunError, Settle, Settlement};
use crate::jobs::{JobId, RunKey};
use crate::store::{StoreError, Timestamp};

/// LIMIT: errors that are remembered for each job, the newest.
const ERRORS_MAX: i32 = 32;

statements! {
    SettleSql {
        // Locked in the order of the ids. Decided in Rust, because two statements that divide
        // rows by what they say would both miss one that somebody changes meanwhile.
        running: "select s.id, s.run, s.queue, s.cancel, s.attempt < s.max_attempts, s.dependency is not null
                    from {schema}.job s
                    join unnest((select $1::bigint[]), (select $2::int[])) u(id, run)
                      on s.id = u.id and s.run = u.run
                   where s.node is not null
                   order by s.id for update of s",
        requeue: "update {schema}.job s
                     set state = u.state, node = null, started_at = null, run = s.run + $7::int,
                         run_at = u.run_at, due_at = coalesce(u.due_at, s.due_at),
                         attempt = greatest(s.attempt - u.refund, 0), crashes = s.crashes + u.crash,
                         deferred = u.put_off = 1,
                         deferrals = least(s.deferrals + u.put_off, 32767)
                    from unnest((select $1::bigint[]), (select $2::smallint[]),
                                (select $3::bigint[]), (select $4::bigint[]),
                                (select $5::int[]), (select $6::int[]), (select $8::int[]))
                         u(id, state, run_at, due_at, refund, crash, put_off)
                   where s.id = u.id",
        bury: "with gone as (
                 delete from {schema}.job s
                  using unnest((select $1::bigint[]), (select $2::text[]), (select $3::text[]),
                               (select $4::int[])) u(id, reason, message, crash)
                  where s.id = u.id
                 returning s.*, u.reason, u.message, u.crash)
               insert into {schema}.dead
                      (id, queue, kind, class, attempt, max_attempts, run, crashes, deferrals,
                       dependency, unique_key, args, args_format, meta, created_at, reason,
                       message, died_at)
               select id, queue, kind, class, attempt, max_attempts, run + $5::int,
                      crashes + crash, deferrals, dependency, unique_key, args, args_format, meta,
                      created_at, reason, message, $6
                 from gone",
        note: "insert into {schema}.error (job_id, run, at, message, trace)
               select id, run, $3, message, trace
                 from unnest($1::bigint[], $2::int[], $4::text[], $5::text[])
                      u(id, run, message, trace)
               on conflict (job_id, run) do update
               set at = excluded.at, message = excluded.message, trace = excluded.trace",
        trim: "delete from {schema}.error e
                where e.job_id = any(array(select unnest($1::bigint[])))
                  and e.run <= (select run from {schema}.error k where k.job_id = e.job_id
                                 order by run desc offset $2::int limit 1)",
    }
}

/// A run that is not over, locked.
pub(super) struct Open {
    key: RunKey,
    queue: Arc<str>,
    cancel: bool,
    has_attempts: bool,
    has_dependency: bool,
}

impl Open {
    pub(super) const fn key(&self) -> RunKey {
        self.key
    }
}

/// Locks those runs that are not over.
pub(super) async fn find_running(
    session: Session<'_>,
    sql: &PgSql,
    settles: &[&Settle],
) -> Result<Vec<Open>, StoreError> {
    if settles.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<i64> = settles.iter().map(|settle| settle.key.id.0).collect();
    let runs: Vec<i32> = settles.iter().map(|settle| settle.key.run).collect();
    let params: [Param<'_>; 2] = [(&ids, Type::INT8_ARRAY), (&runs, Type::INT4_ARRAY)];
    let rows = session.rows(&sql.settle.running, &params).await?;
    let open = |row: &Row| {
        Ok(Open {
            key: run_key(row)?,
            queue: read_text(row, 2)?,
            cancel: row.try_get(3)?,
            has_attempts: row.try_get(4)?,
            has_dependency: row.try_get(5)?,
        })
    };
    rows.iter().map(open).collect()
}

/// What is to be written about runs that end, or whose process is gone.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) requeue: Requeue,
    pub(super) bury: Bury,
    note: Note,
    ready: Vec<Arc<str>>,
}

impl Plan {
    /// Decides. Only what is in `running` is written about.
    pub(super) fn of(settles: &[&Settle], running: &[Open], now: Timestamp) -> Self {
        let mut running: HashMap<RunKey, &Open> =
            running.iter().map(|open| (open.key, open)).collect();
        let mut plan = Self { note: Note { at: now.0, ..Note::default() }, ..Self::default() };
        plan.bury.died_at = now.0;
        for settle in settles {
            // Taken out, so that a run that is named twice ends once.
            if let Some(open) = running.remove(&settle.key) {
                plan.settle(settle, open, now);
            }
        }
        plan
    }

    /// The queues in which jobs become ready and are due.
    pub(super) fn ready(self) -> Vec<Arc<str>> {
        self.ready
    }

    pub(super) fn wakes(&mut self, queue: &Arc<str>) {
        if !self.ready.contains(queue) {
            self.ready.push(Arc::clone(queue));
        }
    }

    /// All that [`Plan::carry_out`] may send.
    pub(super) fn statements<'a>(&self, sql: &'a PgSql) -> Vec<&'a str> {
        let all = [
            (!self.requeue.ids.is_empty(), &sql.settle.requeue),
            (!self.bury.ids.is_empty(), &sql.settle.bury),
            (!self.note.ids.is_empty(), &sql.settle.note),
            (!self.note.old.is_empty(), &sql.settle.trim),
        ];
        all.into_iter().filter(|(used, _)| *used).map(|(_, sql)| sql.as_str()).collect()
    }

    /// Sends all at once, in the transaction that is open.
    pub(super) async fn carry_out(
        &self,
        session: Session<'_>,
        sql: &PgSql,
    ) -> Result<(), StoreError> {
        tokio::try_join!(
            biased;
            self.requeue.carry_out(session, sql),
            self.bury.carry_out(session, sql),
            self.note.carry_out(session, sql),
            self.note.trim(session, sql),
        )?;
        Ok(())
    }

    fn settle(&mut self, settle: &Settle, open: &Open, now: Timestamp) {
        let cancelled = open.cancel.then_some(DeadReason::Cancelled);
        match &settle.how {
            Settlement::Done { .. } => {}
            Settlement::Retry { run_at, error } => {
                self.note.push(settle.key, Some(error));
                let discarded = (!open.has_attempts).then_some(DeadReason::Discarded);
                match cancelled.or(discarded) {
                    Some(reason) => self.bury.push(settle.key.id, reason, Some(error), 0),
                    None => self.put_back(open, Back::retry(*run_at), now),
                }
            }
            Settlement::Release { run_at, parked, keeps_age, error } => {
                self.note.push(settle.key, error.as_ref());
                // A job without a dependency has nobody who would release it.
                let parked = *parked && open.has_dependency;
                match cancelled {
                    Some(reason) => self.bury.push(settle.key.id, reason, error.as_ref(), 0),
                    None => self.put_back(open, Back::release(*run_at, parked, *keeps_age), now),
                }
            }
            Settlement::PutOff { until } => match cancelled {
                Some(reason) => self.bury.push(settle.key.id, reason, None, 0),
                None => self.put_back(open, Back::put_off(*until), now),
            },
            Settlement::Dead { reason, error } => {
                self.note.push(settle.key, error.as_ref());
                self.bury.push(settle.key.id, *reason, error.as_ref(), 0);
            }
        }
    }

    fn put_back(&mut self, open: &Open, back: Back, now: Timestamp) {
        if back.state == 0 && back.run_at <= now {
            self.wakes(&open.queue);
        }
        self.requeue.push(open.key.id, back);
    }
}

/// How a job waits again.
#[derive(Clone, Copy)]
pub(super) struct Back {
    pub(super) state: i16,
    pub(super) run_at: Timestamp,
    /// `None`: its age goes on counting.
    pub(super) due_at: Option<Timestamp>,
    pub(super) refund: bool,
    pub(super) crash: bool,
    /// By the guard.
    pub(super) put_off: bool,
}

impl Back {
    const fn retry(run_at: Timestamp) -> Self {
        let due_at = Some(run_at);
        Self { state: 0, run_at, due_at, refund: false, crash: false, put_off: false }
    }

    fn put_off(until: Timestamp) -> Self {
        Self { put_off: true, ..Self::release(until, false, false) }
    }

    fn release(run_at: Timestamp, parked: bool, keeps_age: bool) -> Self {
        let due_at = (!keeps_age).then_some(run_at);
        let state = if parked { 2 } else { 0 };
        Self { state, run_at, due_at, refund: true, crash: false, put_off: false }
    }
}

/// Jobs that wait again, column by column.
#[derive(Default)]
pub(super) struct Requeue {
    ids: Vec<i64>,
    states: Vec<i16>,
    run_ats: Vec<i64>,
    due_ats: Vec<Option<i64>>,
    refunds: Vec<i32>,
    crashes: Vec<i32>,
    put_offs: Vec<i32>,
    /// 1 if the fence rises.
    pub(super) raise: i32,
}

impl Requeue {
    pub(super) fn push(&mut self, id: JobId, back: Back) {
        self.ids.push(id.0);
        self.states.push(back.state);
        self.run_ats.push(back.run_at.0);
        self.due_ats.push(back.due_at.map(|at| at.0));
        self.refunds.push(back.refund.into());
        self.crashes.push(back.crash.into());
        self.put_offs.push(back.put_off.into());
    }

    async fn carry_out(&self, session: Session<'_>, sql: &PgSql) -> Result<(), StoreError> {
        if self.ids.is_empty() {
            return Ok(());
        }
        let params: [Param<'_>; 8] = [
            (&self.ids, Type::INT8_ARRAY),
            (&self.states, Type::INT2_ARRAY),
            (&self.run_ats, Type::INT8_ARRAY),
            (&self.due_ats, Type::INT8_ARRAY),
            (&self.refunds, Type::INT4_ARRAY),
            (&self.crashes, Type::INT4_ARRAY),
            (&self.raise, Type::INT4),
            (&self.put_offs, Type::INT4_ARRAY),
        ];
        session.rows(&sql.settle.requeue, &params).await.map(drop)
    }
}

/// Jobs that are over without having done their work, column by column.
#[derive(Default)]
pub(super) struct Bury {
    ids: Vec<i64>,
    reasons: Vec<&'static str>,
    messages: Vec<Option<String>>,
    crashes: Vec<i32>,
    /// 1 if the fence rises.
    pub(super) raise: i32,
    pub(super) died_at: i64,
}

impl Bury {
    /// Nobody yet, at this moment.
    pub(super) fn at(now: Timestamp) -> Self {
        Self { died_at: now.0, ..Self::default() }
    }

    pub(super) fn push(
        &mut self,
        id: JobId,
        reason: DeadReason,
        error: Option<&RunError>,
        crash: i32,
    ) {
        self.ids.push(id.0);
        self.reasons.push(reason.as_str());
        self.messages.push(error.map(|error| text(&error.message).into_owned()));
        self.crashes.push(crash);
    }

    pub(super) async fn carry_out(
        &self,
        session: Session<'_>,
        sql: &PgSql,
    ) -> Result<(), StoreError> {
        if self.ids.is_empty() {
            return Ok(());
        }
        let params: [Param<'_>; 6] = [
            (&self.ids, Type::INT8_ARRAY),
            (&self.reasons, Type::TEXT_ARRAY),
            (&self.messages, Type::TEXT_ARRAY),
            (&self.crashes, Type::INT4_ARRAY),
            (&self.raise, Type::INT4),
            (&self.died_at, Type::INT8),
        ];
        session.rows(&sql.settle.bury, &params).await.map(drop)
    }
}

/// What went wrong, column by column.
#[derive(Default)]
struct Note {
    ids: Vec<i64>,
    runs: Vec<i32>,
    messages: Vec<String>,
    traces: Vec<Option<String>>,
    /// Jobs with so many runs that they may have too many errors.
    old: Vec<i64>,
    at: i64,
}

impl Note {
    fn push(&mut self, key: RunKey, error: Option<&RunError>) {
        let Some(error) = error else { return };
        self.ids.push(key.id.0);
        self.runs.push(key.run);
        self.messages.push(text(&error.message).into_owned());
        self.traces.push(error.trace.as_deref().map(|trace| text(trace).into_owned()));
        if key.run > ERRORS_MAX {
            self.old.push(key.id.0);
        }
    }

    async fn carry_out(&self, session: Session<'_>, sql: &PgSql) -> Result<(), StoreError> {
        if self.ids.is_empty() {
            return Ok(());
        }
        let params: [Param<'_>; 5] = [
            (&self.ids, Type::INT8_ARRAY),
            (&self.runs, Type::INT4_ARRAY),
            (&self.at, Type::INT8),
            (&self.messages, Type::TEXT_ARRAY),
            (&self.traces, Type::TEXT_ARRAY),
        ];
        session.rows(&sql.settle.note, &params).await.map(drop)
    }

    async fn trim(&self, session: Session<'_>, sql: &PgSql) -> Result<(), StoreError> {
        if self.old.is_empty() {
            return Ok(());
        }
        let params: [Param<'_>; 2] = [(&self.old, Type::INT8_ARRAY), (&ERRORS_MAX, Type::INT4)];
        session.rows(&sql.settle.trim, &params).await.map(drop)
    }
}
