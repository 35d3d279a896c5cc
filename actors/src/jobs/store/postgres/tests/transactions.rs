//! Jobs in a transaction of the user's own.

use std::time::Duration;

use tokio::time::timeout;

use super::super::session::Session;
use super::{PgJobs, jobs};
use crate::jobs::store::conformance::stage::{DONE, NOW, QUEUE, claim, job, keyed, retry, settle};
use crate::jobs::store::{Inserted, JobState, JobStore};
use crate::jobs::{NodeId, RunKey};
use crate::store::Listening;

async fn running(jobs: &PgJobs) -> RunKey {
    jobs.insert(vec![job()], NOW).await.unwrap();
    let mine = Some(claim(NodeId::fresh(), 1));
    jobs.step(Vec::new(), mine, NOW).await.unwrap().claimed[0].key
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_there_when_its_transaction_is_committed() {
    let Some((jobs, schema)) = jobs().await else { return };
    let mut user = schema.observer().await;
    let transaction = user.transaction().await.unwrap();
    let Inserted::New(id) =
        jobs.insert_in(Session::foreign(&transaction), &keyed(b"a"), NOW).await.unwrap()
    else {
        panic!("not stored")
    };
    let again = jobs.insert_in(Session::foreign(&transaction), &keyed(b"a"), NOW).await.unwrap();
    assert_eq!(again, Inserted::Duplicate(id));
    assert!(jobs.find(id).await.unwrap().is_none());
    transaction.commit().await.unwrap();
    assert_eq!(jobs.find(id).await.unwrap().unwrap().state, JobState::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_rolled_back_leaves_no_job() {
    let Some((jobs, schema)) = jobs().await else { return };
    let mut user = schema.observer().await;
    let transaction = user.transaction().await.unwrap();
    jobs.insert_in(Session::foreign(&transaction), &job(), NOW).await.unwrap();
    transaction.rollback().await.unwrap();
    assert_eq!(jobs.counts().await.unwrap().ready, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_transaction_wakes() {
    let Some((jobs, schema)) = jobs().await else { return };
    let until_listening = async {
        while !matches!(jobs.store.status().listening, Listening::Up { .. }) {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(20), until_listening).await.unwrap();
    let bell = jobs.wakes().bell(QUEUE);
    while timeout(Duration::ZERO, bell.notified()).await.is_ok() {}
    let mut user = schema.observer().await;
    let transaction = user.transaction().await.unwrap();
    jobs.insert_in(Session::foreign(&transaction), &job(), NOW).await.unwrap();
    transaction.commit().await.unwrap();
    timeout(Duration::from_secs(20), bell.notified()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_ends_with_the_transaction_of_its_handler() {
    let Some((jobs, schema)) = jobs().await else { return };
    let mut user = schema.observer().await;
    let key = running(&jobs).await;
    let transaction = user.transaction().await.unwrap();
    assert!(
        jobs.complete_in(Session::foreign(&transaction), &settle(key, DONE), NOW).await.unwrap()
    );
    assert!(
        !jobs.complete_in(Session::foreign(&transaction), &settle(key, DONE), NOW).await.unwrap()
    );
    transaction.rollback().await.unwrap();
    assert_eq!(jobs.find(key.id).await.unwrap().unwrap().state, JobState::Running);

    let transaction = user.transaction().await.unwrap();
    assert!(
        jobs.complete_in(Session::foreign(&transaction), &settle(key, DONE), NOW).await.unwrap()
    );
    transaction.commit().await.unwrap();
    assert_eq!(jobs.find(key.id).await.unwrap().unwrap().state, JobState::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_run_ends_in_no_transaction() {
    let Some((jobs, schema)) = jobs().await else { return };
    let mut user = schema.observer().await;
    let key = running(&jobs).await;
    jobs.step(vec![settle(key, retry(NOW))], None, NOW).await.unwrap();
    let transaction = user.transaction().await.unwrap();
    for how in [DONE, retry(NOW)] {
        assert!(
            !jobs
                .complete_in(Session::foreign(&transaction), &settle(key, how), NOW)
                .await
                .unwrap()
        );
    }
}
