//! A hundred thousand jobs that wait for a later time and as many that are parked cost nothing.

use tokio_postgres::types::ToSql;

use super::{PgJobs, jobs};
use crate::jobs::NodeId;
use crate::jobs::store::JobStore;
use crate::jobs::store::conformance::stage::{NOW, claim};
use crate::store::PgClient;

/// LIMIT: pages that a claim of ten jobs touches: their rows, new versions and index entries. A
/// look at the whole table would be thousands.
const PAGES_MAX: u64 = 600;

const BACKLOG: &str = "insert into {schema}.job
       (queue, kind, class, state, run_at, due_at, max_attempts, dependency, args, created_at)
     select 'mail', 'send', 1, case when n % 2 = 0 then 0 else 2 end,
            $1::bigint + 86400000 + n, $1, 3, case when n % 2 = 0 then null else 'ses' end,
            '{}', $1
       from generate_series(1, 200000) n";

const READY: &str = "insert into {schema}.job
       (queue, kind, class, run_at, due_at, max_attempts, args, created_at)
     select 'mail', 'send', n % 4, $1, $1, 3, '{}', $1 from generate_series(1, 400) n";

/// What is left of other jobs.
const HISTORY: &str = "with n as (select n from generate_series(1000001, 1020000) n),
       done as (
         insert into {schema}.done
         select n, 'mail', 'send', 1, 1, 1, 0, 0, $1 from n),
       dead as (
         insert into {schema}.dead
         select n, 'mail', 'send', 1, 1, 1, 1, 0, 0, null, null, '{}', 0, null, $1, 'shed', null,
                $1 from n)
     insert into {schema}.error select n, 1, $1, 'refused', null from n";

async fn backlog(jobs: &PgJobs) -> PgClient {
    let client = jobs.store.client().await.unwrap();
    for sql in [BACKLOG, READY, HISTORY] {
        client.execute(&jobs.store.sql(sql), &[&NOW.0]).await.unwrap();
    }
    client
}

/// The plan of a statement that is carried out and taken back.
async fn plan(client: &mut PgClient, sql: &str, params: &[&(dyn ToSql + Sync)]) -> String {
    let transaction = client.transaction().await.unwrap();
    let sql = format!("explain (analyze, buffers, costs off) {sql}");
    let rows = transaction.query(&sql, params).await.unwrap();
    rows.iter().map(|row| row.get::<_, String>(0) + "\n").collect()
}

/// The pages that the first line of a plan counts, which includes all others.
fn pages(plan: &str) -> u64 {
    let line = plan.lines().find(|line| line.contains("Buffers: shared")).unwrap();
    let numbers = line.split_whitespace().filter_map(|word| word.split_once('='));
    let counted = numbers.filter(|(what, _)| matches!(*what, "hit" | "read"));
    counted.map(|(_, number)| number.parse::<u64>().unwrap()).sum()
}

#[track_caller]
fn check(plan: &str) {
    for table in ["job", "done", "dead", "error"] {
        assert!(!plan.contains(&format!("Seq Scan on {table} ")), "{plan}");
        assert!(!plan.contains(&format!("Seq Scan on {table}\n")), "{plan}");
    }
    assert!(pages(plan) <= PAGES_MAX, "{plan}");
}

/// Every statement of the working path, on tables whose statistics are or are not up to date.
async fn check_all(analyze: bool) {
    let Some((jobs, schema)) = jobs().await else { return };
    let mut client = backlog(&jobs).await;
    let node = NodeId::fresh();
    let claimed = jobs.step(Vec::new(), Some(claim(node, 50)), NOW).await.unwrap().claimed;
    assert_eq!(claimed.len(), 200);
    if analyze {
        let sql = format!("vacuum analyze {0}.job, {0}.error, {0}.dead, {0}.done", schema.name());
        client.batch_execute(&sql).await.unwrap();
    }
    let node = node.to_string();
    let (queue, limit, now) = ("mail", 10_i64, NOW.0);
    let (classes, limits) = (vec![0_i16, 1, 2, 3], vec![3_i64, 3, 2, 2]);
    let (ids, runs): (Vec<i64>, Vec<i32>) =
        claimed.iter().take(10).map(|claimed| (claimed.key.id.0, claimed.key.run)).unzip();
    let (keeps, times) = (vec![true; 10], vec![1_i64; 10]);
    let sql = &jobs.sql;

    let claim: &[&(dyn ToSql + Sync)] = &[&queue, &classes, &limits, &node, &now];
    check(&plan(&mut client, &sql.step.claim, claim).await);
    let limited: &[&(dyn ToSql + Sync)] = &[&queue, &classes, &limits, &node, &now, &300_i64];
    check(&plan(&mut client, &sql.step.claim_limited, limited).await);
    let end: &[&(dyn ToSql + Sync)] = &[&ids, &runs, &keeps, &times, &times, &now];
    check(&plan(&mut client, &sql.step.end, end).await);
    let both: &[&(dyn ToSql + Sync)] =
        &[&ids, &runs, &keeps, &times, &times, &now, &queue, &classes, &limits, &node];
    check(&plan(&mut client, &sql.step.end_and_claim, both).await);
    check(&plan(&mut client, &sql.settle.running, &[&ids, &runs]).await);

    let (states, zeros) = (vec![0_i16; 10], vec![0_i32; 10]);
    let back: &[&(dyn ToSql + Sync)] =
        &[&ids, &states, &times, &times, &zeros, &zeros, &0_i32, &zeros];
    check(&plan(&mut client, &sql.settle.requeue, back).await);
    let (reasons, messages) = (vec!["shed"; 10], vec![None::<&str>; 10]);
    let bury: &[&(dyn ToSql + Sync)] = &[&ids, &reasons, &messages, &zeros, &0_i32, &now];
    check(&plan(&mut client, &sql.settle.bury, bury).await);

    let dependency = "ses";
    check(&plan(&mut client, &sql.guard.release, &[&dependency, &limit, &now]).await);
    check(&plan(&mut client, &sql.guard.pull_forward, &[&queue, &limit, &now]).await);
    check(&plan(&mut client, &sql.guard.expired, &[&queue, &now, &limit]).await);
    check(&plan(&mut client, &sql.guard.parked, &[&limit]).await);
    check(&plan(&mut client, &sql.guard.depths, &[&queue, &limit, &now]).await);
    check(&plan(&mut client, &sql.exact.depth, &[&queue, &limit]).await);
    check(&plan(&mut client, &sql.rescue.orphans, &[&vec![&*node], &limit]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_reads_the_backlog() {
    check_all(true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_statement_reads_a_backlog_that_nobody_has_counted_yet() {
    check_all(false).await;
}
