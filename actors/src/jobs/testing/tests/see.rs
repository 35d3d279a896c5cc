//! What assertions say.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;
use crate::jobs::DeadReason;

#[track_caller]
fn message(of: impl FnOnce()) -> String {
    *catch_unwind(AssertUnwindSafe(of)).unwrap_err().downcast::<String>().unwrap()
}

#[tokio::test]
async fn a_failed_assertion_shows_what_there_is() {
    let kit = kit().await;
    let none = message(|| drop(kit.assert_enqueued(|_: &Chore| true)));
    assert_eq!(none, "no job of kind `chore` fits; there is none");
    kit.refute_enqueued::<Chore>();
    kit.jobs().enqueue(chore("tea")).await.unwrap();
    let other = message(|| drop(kit.assert_enqueued(|chore: &Chore| chore.words == "coffee")));
    assert!(
        other.ends_with("there are 1:\n  1 in `default`, Ready: {\"words\":\"tea\"}"),
        "{other}"
    );
    let unexpected = message(|| kit.refute_enqueued::<Chore>());
    assert!(unexpected.contains("was expected; there are 1:"), "{unexpected}");
    for number in 0..20 {
        kit.jobs().enqueue(chore(&format!("{number}"))).await.unwrap();
    }
    let many = message(|| kit.refute_enqueued::<Chore>());
    assert!(many.contains("there are 21:") && many.ends_with('…'), "{many}");
    assert_eq!(many.lines().count(), 12);
}

#[tokio::test]
async fn an_unknown_job_fails_the_test() {
    let kit = kit().await;
    let unknown = message(|| drop(kit.info(crate::jobs::JobId(7))));
    assert!(unknown.starts_with("there is no job 7"), "{unknown}");
}

#[tokio::test]
async fn arguments_that_cannot_be_read_fail_the_test() {
    #[derive(Debug, Serialize, Deserialize)]
    struct Other {
        number: u8,
    }
    impl Job for Other {
        const KIND: &'static str = Chore::KIND;
    }
    let kit = kit().await;
    kit.jobs().enqueue(chore("work")).await.unwrap();
    let unreadable = message(|| drop(kit.enqueued::<Other>()));
    assert!(unreadable.starts_with("the arguments of job 1 of kind `chore` cannot be read"));
}

#[tokio::test]
async fn dead_jobs_are_seen_with_what_went_wrong() {
    let mut kit = kit().await;
    kit.jobs().enqueue(chore("discard")).await.unwrap();
    kit.jobs().enqueue(chore("fail")).await.unwrap();
    kit.run_to_end().await;
    let dead = kit.dead::<Chore>();
    let told: Vec<_> = dead
        .iter()
        .map(|dead| (&*dead.job.words, dead.attempt, dead.reason, dead.error.as_deref()))
        .collect();
    let reason = DeadReason::Discarded;
    assert_eq!(
        told,
        [
            ("discard", 1, reason, Some("it can never work")),
            ("fail", 3, reason, Some("it does not work"))
        ]
    );
    assert_eq!(dead[1].died_at, kit.now());
}

#[tokio::test]
async fn looking_never_waits_for_the_task_it_is_in() {
    let kit = kit().await;
    // More than a task may do at once before it has to yield.
    for _ in 0..1_000 {
        kit.refute_enqueued::<Chore>();
    }
}
