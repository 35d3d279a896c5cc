//! Claims about the indexes that statements go by, and what a backlog costs.

use rusqlite::{Connection, StatementStatus, params};

use super::super::{claim, dead, find, guard, insert, nodes, rescue, settle};
use crate::jobs::store::conformance::stage::{NOW, at, deferred, dependent, job, job_at};
use crate::jobs::store::{DeadReason, NewJob};
use crate::store::{SqliteTx, migrations};

fn tables() -> Connection {
    let db = Connection::open_in_memory().unwrap();
    db.execute_batch(migrations::ALL[0].sqlite).unwrap();
    db
}

fn plan(sql: &str) -> Vec<String> {
    let db = tables();
    let mut explained = db.prepare(&format!("explain query plan {sql}")).unwrap();
    let mut rows = explained.raw_query();
    let mut plan = Vec::new();
    while let Some(row) = rows.next().unwrap() {
        plan.push(row.get("detail").unwrap());
    }
    plan
}

/// Expects a statement to search what is named here, in this order, and nothing else. To scan
/// what a subquery has found is no search.
#[track_caller]
fn check(sql: &str, expected: &[&str]) {
    let plan = plan(sql);
    let is_scan = |step: &str| step.starts_with("SCAN") && !step.contains("(subquery-");
    let is_access = |step: &&String| step.starts_with("SEARCH") || is_scan(step);
    let accesses: Vec<_> = plan.iter().filter(is_access).collect();
    assert_eq!(accesses.len(), expected.len(), "{sql}: {plan:#?}");
    for (access, expected) in accesses.iter().zip(expected) {
        assert!(access.starts_with("SEARCH") && access.contains(expected), "{sql}: {plan:#?}");
    }
    assert!(plan.iter().all(|step| !step.contains("TEMP B-TREE")), "{sql}: {plan:#?}");
}

const BY_ID: &str = "sf_job USING INTEGER PRIMARY KEY (rowid=?)";
const DUE: &str = "COVERING INDEX sf_job_ready (queue=? AND class=? AND run_at<?)";
const RUNNING: &str = "COVERING INDEX sf_job_running (queue=?)";
const PARKED: &str = "COVERING INDEX sf_job_parked (queue=?)";
const OF_DEPENDENCY: &str = "sf_job_dependency (dependency=? AND state=?)";

#[test]
fn a_claim_goes_by_queue_class_and_time() {
    check(claim::CLAIM, &[BY_ID, DUE]);
    check(claim::RUNNING, &[RUNNING]);
    check(claim::IS_PAUSED, &["sf_queue USING INDEX sqlite_autoindex_sf_queue_1 (name=?)"]);
}

#[test]
fn an_end_goes_by_the_id() {
    for sql in [settle::REMEMBER, settle::END, settle::RUNNING, settle::RETRY, settle::RELEASE] {
        check(sql, &[BY_ID]);
    }
}

#[test]
fn an_insert_looks_at_keys_and_depths_only() {
    check(insert::ADD, &[]);
    check(insert::LIVE_HOLDER, &["INDEX sf_job_unique (kind=? AND unique_key=?)"]);
    check(insert::LATE_HOLDER, &["PRIMARY KEY (kind=? AND unique_key=?)"]);
    check(insert::DEPTH, &["COVERING INDEX sf_job_ready (queue=?)", RUNNING, PARKED]);
}

#[test]
fn the_guard_reads_indexes_alone() {
    check(guard::READY, &[DUE]);
    check(guard::RUNNING, &[RUNNING]);
    check(guard::PARKED, &[PARKED]);
    check(guard::DEFERRED, &["COVERING INDEX sf_job_deferred (queue=? AND run_at>?)"]);
    check(guard::PARKED_FOR, &[OF_DEPENDENCY]);
    check(guard::NEXT_DEPENDENCY, &["COVERING INDEX sf_job_dependency (dependency>?)"]);
}

#[test]
fn the_guard_changes_in_the_order_of_an_index() {
    check(guard::PARK, &[BY_ID, OF_DEPENDENCY]);
    check(guard::RELEASE, &[BY_ID, OF_DEPENDENCY]);
    check(guard::PULL_FORWARD, &[BY_ID, "sf_job_deferred (queue=? AND run_at>?)"]);
    check(guard::EXPIRED, &["sf_job_expiring (queue=? AND expires_at<?)"]);
    check(guard::OF_CLASS, &[DUE]);
}

#[test]
fn pruning_goes_by_the_time_of_the_end() {
    let by_id = |table: &str| format!("{table} USING INTEGER PRIMARY KEY (rowid=?)");
    check(dead::PRUNE_DONE, &[&by_id("sf_done"), "sf_done_finished (finished_at<?)"]);
    check(dead::PRUNE_DEAD, &[&by_id("sf_dead"), "sf_dead_died (died_at<?)"]);
    check(dead::PRUNE_KEYS, &["PRIMARY KEY", "sf_unique_ttl_until (until<?)"]);
}

#[test]
fn a_job_is_found_by_its_id() {
    check(find::LIVE, &[BY_ID, "sf_error USING PRIMARY KEY (job_id=?)"]);
    check(find::DONE, &["sf_done USING INTEGER PRIMARY KEY (rowid=?)"]);
    check(find::ERRORS, &["sf_error USING PRIMARY KEY (job_id=?)"]);
    check(&format!("select id {}", dead::FILTER), &["sf_dead USING INTEGER PRIMARY KEY (rowid>?)"]);
}

/// These look at all that run, which are as many as there are workers.
#[test]
fn what_asks_for_a_process_reads_running_jobs_only() {
    for sql in [claim::RUNS_OF, nodes::TO_CANCEL, rescue::ORPHANS] {
        let plan = plan(sql);
        let scans: Vec<_> = plan.iter().filter(|step| step.starts_with("SCAN")).collect();
        assert!(scans.len() == 1 && scans[0].contains("sf_job_running"), "{plan:#?}");
    }
}

/// The steps that SQLite's machine takes to claim 64 jobs of 64 that are due.
fn steps_of_a_claim(db: &mut Connection) -> i32 {
    let tx = db.transaction().unwrap();
    for _ in 0..64 {
        insert::insert_in(&SqliteTx::new(&tx), &job(), NOW).unwrap();
    }
    let mut claim = tx.prepare(claim::CLAIM).unwrap();
    let claimed = claim
        .query_map(params!["mail", 1, at(1).0, 64, "node"], |_| Ok(()))
        .unwrap()
        .map(Result::unwrap)
        .count();
    assert_eq!(claimed, 64);
    let steps = claim.get_status(StatementStatus::VmStep);
    drop(claim);
    tx.rollback().unwrap();
    steps
}

#[test]
fn a_backlog_that_is_not_due_costs_a_claim_nothing() {
    let mut db = tables();
    let alone = steps_of_a_claim(&mut db);
    let tx = db.transaction().unwrap();
    for _ in 0..2_000 {
        let elsewhere = NewJob { queue: "another".into(), ..job() };
        for job in [job_at(at(60)), deferred(at(60)), dependent(), elsewhere, job()] {
            insert::insert_in(&SqliteTx::new(&tx), &job, NOW).unwrap();
        }
    }
    guard::park(&tx, "ses", 10_000).unwrap();
    let due = "select id from sf_job where state = 0 and queue = 'mail' and run_at <= ?1";
    let due: Vec<i64> = super::super::all(&tx, due, [NOW.0], |row| row.get(0)).unwrap();
    for id in due {
        let id = crate::jobs::JobId(id);
        settle::bury(&tx, id, DeadReason::Discarded, None, NOW).unwrap();
    }
    tx.commit().unwrap();
    assert_eq!(steps_of_a_claim(&mut db), alone);
}
