//! Ends runs and claims new ones: one statement where all did their work, which is the rule.

use std::sync::Arc;

use tokio_postgres::types::Type;

use super::PgSql;
use super::decode::{class, moment, run_key};
use super::session::{Param, Row, Session, statements};
use super::settle::{Open, Plan, find_running};
use crate::jobs::store::{Claim, Claimed, Settle, Settlement, Step};
use crate::jobs::{Class, RunKey};
use crate::store::{PgClient, StoreError, Timestamp, millis, postgres};

// The length of an array that comes out of a query of its own is hidden from the planner: for
// hundreds of elements it would rather read the whole table than look each of them up. And no
// predicate names `state`: the index of running jobs would be taken, which is full of dead
// entries. `node` is null wherever nothing runs.
macro_rules! ended {
    () => {
        "ended as (
           delete from {schema}.job s
            using unnest((select $1::bigint[]), (select $2::int[]), (select $3::boolean[]),
                         (select $4::bigint[]), (select $5::bigint[]))
                  u(id, run, keep, queued_ms, ran_ms)
            where s.id = u.id and s.run = u.run and s.node is not null
           returning s.id, s.run, s.queue, s.kind, s.class, s.attempt,
                     u.keep, u.queued_ms, u.ran_ms),
         kept as (
           insert into {schema}.done
                  (id, queue, kind, class, attempt, run, queued_ms, ran_ms, finished_at)
           select id, queue, kind, class, attempt, run, queued_ms, ran_ms, $6
             from ended where keep),
         clean as (
           delete from {schema}.error where job_id = any(array(
             select id from ended where not keep and run > 1)))"
    };
}

// Materialized, so that the limit holds: the planner may run a subquery more than once.
macro_rules! picked {
    ($queue:literal, $classes:literal, $limits:literal, $now:literal, $limit:literal) => {
        concat!(
            "picked as materialized (
               select j.id, j.run_at, c.class
                 from unnest((select ",
            $classes,
            "::smallint[]), (select ",
            $limits,
            "::bigint[]))
                      c(class, wanted)
                cross join lateral (
                  select id, run_at from {schema}.job
                   where state = 0 and queue = ",
            $queue,
            " and class = c.class
                     and run_at <= ",
            $now,
            "
                   order by run_at, id limit ",
            $limit,
            " for update skip locked) j
                where not exists (select from {schema}.queue
                                   where name in (",
            $queue,
            ", '*') and paused))"
        )
    };
}

// By an array, not by a join: the planner takes a tenth of the table for the size of `picked`.
macro_rules! claimed {
    ($picked:literal, $node:literal, $now:literal) => {
        concat!(
            "claimed as (
               update {schema}.job s
                  set state = 1, run = run + 1, attempt = attempt + 1, node = ",
            $node,
            ",
                      deferred = false,
                      started_at = case when crashes > 0 then null else ",
            $now,
            "::bigint end
                where s.id = any(array(",
            $picked,
            "))
               returning s.id, s.run, s.kind, s.class, s.attempt, s.max_attempts, s.crashes,
                         s.due_at, s.expires_at, s.dependency, s.args, s.args_format, s.meta,
                         s.created_at, s.run_at, s.deferrals)"
        )
    };
}

statements! {
    StepSql {
        end: concat!("with ", ended!(), " select id, run from ended"),
        claim: concat!(
            "with ", picked!("$1", "$2", "$3", "$5", "c.wanted"), ", ",
            claimed!("select id from picked", "$4", "$5"), " select * from claimed"
        ),
        end_and_claim: concat!(
            "with ", ended!(), ", ", picked!("$7", "$8", "$9", "$6", "c.wanted"), ", ",
            claimed!("select id from picked", "$10", "$6"),
            " select c.*, null::bigint[] as ids, null::int[] as runs from claimed c
              union all
              select null, null, null, null, null, null, null, null, null, null, null, null, null,
                     null, null, null, array_agg(id), array_agg(run) from ended"
        ),
        lock_running: "select pg_advisory_xact_lock(hashtextextended('{schema}.running ' || $1::text, 0))",
        claim_limited: concat!(
            "with room as materialized (
               select greatest(0, $6::bigint - count(*)) as free from (
                 select from {schema}.job where state = 1 and node is not null and queue = $1
                  limit $6) running), ",
            picked!("$1", "$2", "$3", "$5", "least(c.wanted, (select free from room))"), ", ",
            claimed!(
                "select id from picked order by class, run_at, id limit (select free from room)",
                "$4", "$5"
            ),
            " select * from claimed"
        ),
    }
}

/// What a step brought, and the queues in which it made jobs ready.
pub(super) type Stepped = (Step, Vec<Arc<str>>);

/// Ends runs and claims new ones.
pub(super) async fn step(
    mut client: PgClient,
    sql: Arc<PgSql>,
    mut settles: Vec<Settle>,
    claim: Option<Claim>,
    now: Timestamp,
) -> Result<Stepped, StoreError> {
    let claim = claim.filter(|claim| claim.wants.iter().any(|want| *want > 0));
    // ORDER: by id, so that no two transactions wait for each other.
    settles.sort_by_key(|settle| settle.key);
    if !needs_transaction(&settles, claim.as_ref()) {
        let step = end_and_claim(Session::single(&client), &sql, &settles, claim, now).await?;
        return Ok((step, Vec::new()));
    }
    let transaction = client.transaction().await?;
    let stepped = carry_out(Session::within(&transaction), &sql, &settles, claim, now).await?;
    postgres::commit(transaction).await?;
    Ok(stepped)
}

fn needs_transaction(settles: &[Settle], claim: Option<&Claim>) -> bool {
    let done = |settle: &Settle| matches!(settle.how, Settlement::Done { .. });
    !settles.iter().all(done) || claim.is_some_and(|claim| claim.running_limit.is_some())
}

async fn end_and_claim(
    session: Session<'_>,
    sql: &PgSql,
    settles: &[Settle],
    claim: Option<Claim>,
    now: Timestamp,
) -> Result<Step, StoreError> {
    let done = Done::of(settles.iter(), now);
    match claim.as_ref().map(Wanted::of) {
        None if settles.is_empty() => Ok(Step::default()),
        None => {
            let rows = session.rows(&sql.step.end, &done.params()).await?;
            let matched = rows.iter().map(run_key).collect::<Result<Vec<_>, _>>()?;
            Ok(Step { stale: stale(settles, matched), claimed: Vec::new() })
        }
        Some(wanted) if settles.is_empty() => {
            let rows = session.rows(&sql.step.claim, &wanted.params(&now.0)).await?;
            Ok(Step { stale: Vec::new(), claimed: read_claimed(&rows)? })
        }
        Some(wanted) => {
            let [queue, classes, limits, node, _] = wanted.params(&now.0);
            let mut params = done.params().to_vec();
            params.extend([queue, classes, limits, node]);
            let mut rows = session.rows(&sql.step.end_and_claim, &params).await?;
            let matched = rows.pop().map(|row| read_matched(&row)).transpose()?.unwrap_or_default();
            Ok(Step { stale: stale(settles, matched), claimed: read_claimed(&rows)? })
        }
    }
}

/// Everything else: locks what is settled, decides, and then sends what follows at once.
async fn carry_out(
    session: Session<'_>,
    sql: &PgSql,
    settles: &[Settle],
    claim: Option<Claim>,
    now: Timestamp,
) -> Result<Stepped, StoreError> {
    let claiming = match claim.as_ref().map(|claim| claim.running_limit) {
        Some(Some(_)) => &sql.step.claim_limited,
        Some(None) | None => &sql.step.claim,
    };
    if let Some(Claim { queue, running_limit: Some(_), .. }) = &claim {
        session.rows(&sql.step.lock_running, &[(&&**queue, Type::TEXT)]).await?;
    }
    let is_done = |settle: &&Settle| matches!(settle.how, Settlement::Done { .. });
    let (done, others): (Vec<_>, Vec<_>) = settles.iter().partition(is_done);
    let running = find_running(session, sql, &others).await?;
    let plan = Plan::of(&others, &running, now);
    let (done, wanted) = (Done::of(done.into_iter(), now), claim.as_ref().map(Wanted::of));
    let mut statements = plan.statements(sql);
    statements.extend([sql.step.end.as_str(), claiming]);
    session.warm(&statements).await?;
    // ORDER: polled in this order, so sent in it; the limit counts what has ended.
    let (ended, (), claimed) = tokio::try_join!(
        biased;
        async {
            if done.ids.is_empty() { return Ok(Vec::new()) }
            session.rows(&sql.step.end, &done.params()).await
        },
        plan.carry_out(session, sql),
        async {
            let Some(wanted) = &wanted else { return Ok(Vec::new()) };
            let params = wanted.params(&now.0);
            let limit = wanted.limit;
            let mut params = params.to_vec();
            if wanted.limit.is_some() { params.push((&limit, Type::INT8)) }
            session.rows(claiming, &params).await
        },
    )?;
    let mut matched = ended.iter().map(run_key).collect::<Result<Vec<_>, _>>()?;
    matched.extend(running.iter().map(Open::key));
    let step = Step { stale: stale(settles, matched), claimed: read_claimed(&claimed)? };
    Ok((step, plan.ready()))
}

/// Ends one run in a transaction that somebody else has begun. `false`: it was over before.
pub(super) async fn complete(
    session: Session<'_>,
    sql: &PgSql,
    settle: &Settle,
    now: Timestamp,
) -> Result<(bool, Vec<Arc<str>>), StoreError> {
    let (step, ready) = carry_out(session, sql, std::slice::from_ref(settle), None, now).await?;
    Ok((step.stale.is_empty(), ready))
}

/// Runs that did their work, column by column.
struct Done {
    ids: Vec<i64>,
    runs: Vec<i32>,
    keeps: Vec<bool>,
    queued: Vec<i64>,
    ran: Vec<i64>,
    now: i64,
}

impl Done {
    fn of<'a>(settles: impl Iterator<Item = &'a Settle> + Clone, now: Timestamp) -> Self {
        let keeps = |settle: &Settle| matches!(settle.how, Settlement::Done { keep: true });
        Self {
            ids: settles.clone().map(|settle| settle.key.id.0).collect(),
            runs: settles.clone().map(|settle| settle.key.run).collect(),
            keeps: settles.clone().map(keeps).collect(),
            queued: settles.clone().map(|settle| millis(settle.queued)).collect(),
            ran: settles.map(|settle| millis(settle.ran)).collect(),
            now: now.0,
        }
    }

    fn params(&self) -> [Param<'_>; 6] {
        [
            (&self.ids, Type::INT8_ARRAY),
            (&self.runs, Type::INT4_ARRAY),
            (&self.keeps, Type::BOOL_ARRAY),
            (&self.queued, Type::INT8_ARRAY),
            (&self.ran, Type::INT8_ARRAY),
            (&self.now, Type::INT8),
        ]
    }
}

/// What is claimed, column by column.
struct Wanted {
    queue: String,
    node: String,
    classes: Vec<i16>,
    limits: Vec<i64>,
    limit: Option<i64>,
}

impl Wanted {
    fn of(claim: &Claim) -> Self {
        let wants = Class::ALL.iter().zip(claim.wants).filter(|(_, want)| *want > 0);
        let (classes, limits) =
            wants.map(|(class, want)| (class.number(), i64::from(want))).unzip();
        Self {
            queue: claim.queue.to_string(),
            node: claim.node.to_string(),
            classes,
            limits,
            limit: claim.running_limit.map(i64::from),
        }
    }

    fn params<'a>(&'a self, now: &'a i64) -> [Param<'a>; 5] {
        [
            (&self.queue, Type::TEXT),
            (&self.classes, Type::INT2_ARRAY),
            (&self.limits, Type::INT8_ARRAY),
            (&self.node, Type::TEXT),
            (now, Type::INT8),
        ]
    }
}

/// What was sent and did not match.
fn stale(sent: &[Settle], mut matched: Vec<RunKey>) -> Vec<RunKey> {
    if sent.len() == matched.len() {
        return Vec::new();
    }
    matched.sort_unstable();
    let keys = sent.iter().map(|settle| settle.key);
    keys.filter(|key| matched.binary_search(key).is_err()).collect()
}

fn read_matched(row: &Row) -> Result<Vec<RunKey>, StoreError> {
    let ids: Option<Vec<i64>> = row.try_get(16)?;
    let runs: Option<Vec<i32>> = row.try_get(17)?;
    let pairs = ids.unwrap_or_default().into_iter().zip(runs.unwrap_or_default());
    Ok(pairs.map(|(id, run)| RunKey { id: crate::jobs::JobId(id), run }).collect())
}

fn read_claimed(rows: &[Row]) -> Result<Vec<Claimed>, StoreError> {
    let read = |row: &Row| Ok((row.try_get::<i64>(14)?, claimed(row)?));
    let mut rows = rows.iter().map(read).collect::<Result<Vec<_>, StoreError>>()?;
    // Changed rows come in no order.
    rows.sort_unstable_by_key(|(run_at, claimed)| (claimed.class, *run_at, claimed.key.id));
    Ok(rows.into_iter().map(|(_, claimed)| claimed).collect())
}

fn claimed(row: &Row) -> Result<Claimed, StoreError> {
    Ok(Claimed {
        key: run_key(row)?,
        kind: row.try_get::<&str>(2)?.into(),
        class: class(row.try_get(3)?)?,
        attempt: row.try_get(4)?,
        max_attempts: row.try_get(5)?,
        crashes: row.try_get(6)?,
        deferrals: row.try_get(15)?,
        due_at: moment(row, 7)?,
        expires_at: row.try_get::<Option<i64>>(8)?.map(Timestamp),
        dependency: row.try_get::<Option<&str>>(9)?.map(Into::into),
        args: row.try_get::<&[u8]>(10)?.into(),
        args_format: row.try_get(11)?,
        meta: row.try_get::<Option<&str>>(12)?.map(Into::into),
        created_at: moment(row, 13)?,
    })
}
