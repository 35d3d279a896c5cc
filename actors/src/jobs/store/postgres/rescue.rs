//! Taking jobs back from processes that died.

use std::sync::Arc;

use tokio_postgres::types::Type;

use super::PgSql;
use super::decode::text;
use super::session::{Param, Row, Session, statements};
use super::settle::{Back, Plan};
use crate::jobs::store::{DeadReason, Rescued};
use crate::jobs::{JobId, NodeId};
use crate::store::{PgClient, StoreError, Timestamp, postgres};

/// LIMIT: jobs of one rescue; the next one finds the others, whose process has no row by then.
const JOBS_MAX: i64 = 10_000;

statements! {
    RescueSql {
        forget: "delete from {schema}.node where id = any($1::text[])",
        gone: "select node from {schema}.job s where state = 1 and node is not null
                 and not exists (select from {schema}.node n where n.id = s.node) group by node",
        // By the names and not by an anti-join: that would not be looked at again for a row
        // which another process has claimed since the statement began.
        orphans: "select id, queue, crashes, cancel, started_at is not null,
                         attempt < max_attempts
                    from {schema}.job where state = 1 and node = any($1::text[])
                   order by node, id limit $2 for update skip locked",
    }
}

/// Forgets processes and makes the jobs ready again that nobody runs any more. The queues in
/// which it made jobs ready.
pub(super) async fn rescue(
    mut client: PgClient,
    sql: Arc<PgSql>,
    dead: Vec<NodeId>,
    poison_after: i16,
    now: Timestamp,
) -> Result<(Rescued, Vec<Arc<str>>), StoreError> {
    let transaction = client.transaction().await?;
    let session = Session::within(&transaction);
    let orphans = find_orphans(session, &sql, &dead).await?;
    let (rescued, plan) = judge(&orphans, poison_after, now);
    session.warm(&plan.statements(&sql)).await?;
    plan.carry_out(session, &sql).await?;
    postgres::commit(transaction).await?;
    Ok((rescued, plan.ready()))
}

async fn find_orphans(
    session: Session<'_>,
    sql: &PgSql,
    dead: &[NodeId],
) -> Result<Vec<Orphan>, StoreError> {
    let dead: Vec<String> = dead.iter().map(ToString::to_string).collect();
    if !dead.is_empty() {
        session.rows(&sql.rescue.forget, &[(&dead, Type::TEXT_ARRAY)]).await?;
    }
    let gone = session.rows(&sql.rescue.gone, &[]).await?;
    let gone = gone.iter().map(|row| text(row, 0)).collect::<Result<Vec<_>, _>>()?;
    if gone.is_empty() {
        return Ok(Vec::new());
    }
    let gone: Vec<&str> = gone.iter().map(|name| &**name).collect();
    let params: [Param<'_>; 2] = [(&gone, Type::TEXT_ARRAY), (&JOBS_MAX, Type::INT8)];
    session.rows(&sql.rescue.orphans, &params).await?.iter().map(Orphan::read).collect()
}

/// Decides what becomes of each.
fn judge(orphans: &[Orphan], poison_after: i16, now: Timestamp) -> (Rescued, Plan) {
    let (mut rescued, mut plan) = (Rescued::default(), Plan::default());
    plan.requeue.raise = 1;
    plan.bury.raise = 1;
    plan.bury.died_at = now.0;
    for orphan in orphans {
        let fate = orphan.fate(poison_after);
        match fate {
            None => rescued.requeued += 1,
            Some(DeadReason::Poison) => rescued.poisoned += 1,
            Some(
                DeadReason::Discarded
                | DeadReason::Cancelled
                | DeadReason::Expired
                | DeadReason::Shed,
            ) => rescued.discarded += 1,
        }
        match fate {
            Some(reason) => plan.bury.push(orphan.id, reason, None, orphan.begun.into()),
            None => {
                plan.wakes(&orphan.queue);
                plan.requeue.push(orphan.id, orphan.back(now));
            }
        }
    }
    (rescued, plan)
}

/// A job whose process is gone.
struct Orphan {
    id: JobId,
    queue: Arc<str>,
    crashes: i16,
    cancel: bool,
    begun: bool,
    has_attempts: bool,
}

impl Orphan {
    fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: JobId(row.try_get(0)?),
            queue: text(row, 1)?,
            crashes: row.try_get(2)?,
            cancel: row.try_get(3)?,
            begun: row.try_get(4)?,
            has_attempts: row.try_get(5)?,
        })
    }

    /// Why it is dead, if it is.
    const fn fate(&self, poison_after: i16) -> Option<DeadReason> {
        if self.cancel {
            Some(DeadReason::Cancelled)
        } else if self.begun && self.crashes.saturating_add(1) >= poison_after {
            Some(DeadReason::Poison)
        } else if self.begun && !self.has_attempts {
            Some(DeadReason::Discarded)
        } else {
            None
        }
    }

    /// What had begun is charged; what had not gets its attempt back.
    const fn back(&self, now: Timestamp) -> Back {
        Back {
            state: 0,
            run_at: now,
            due_at: None,
            refund: !self.begun,
            crash: self.begun,
            put_off: false,
        }
    }
}
