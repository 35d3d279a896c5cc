//! The kit itself.

mod agree;
mod fault;
mod kit;
mod see;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::*;
use crate::jobs::{
    Backoff, Class, Enqueued, InsertJobs, Job, JobCx, JobError, JobInfo, JobPolicy, JobResult,
    JobState, Jobs, JobsBuilder, Level, QueueSpec, Schedule,
};
use crate::store::Timestamp;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// Does what its words say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Chore {
    words: String,
}

impl Job for Chore {
    const KIND: &'static str = "chore";

    fn policy() -> JobPolicy {
        JobPolicy::default()
            .max_attempts(3)
            .timeout(Duration::from_millis(50))
            .backoff(Backoff::fixed(Duration::from_millis(20)).unwrap())
    }
}

/// Has the default policy.
#[derive(Debug, Serialize, Deserialize)]
struct Plain;

impl Job for Plain {
    const KIND: &'static str = "plain";
}

fn chore(words: &str) -> Chore {
    Chore { words: words.into() }
}

async fn perform(chore: Chore, cx: JobCx, snoozed: Arc<AtomicUsize>) -> JobResult {
    match chore.words.as_str() {
        "fail" => Err(JobError::retry("it does not work")),
        "fail once" if cx.attempt() == 1 => Err(JobError::retry("it does not work yet")),
        "discard" => Err(JobError::discard("it can never work")),
        "cancel" => Err(JobError::cancel("nobody wants it")),
        "snooze" if snoozed.fetch_add(1, Ordering::Relaxed) < 2 => {
            Err(JobError::snooze(Duration::from_millis(10)))
        }
        "panic" => panic!("boom"),
        "hang" => std::future::pending().await,
        _ => Ok(()),
    }
}

fn with_chores(builder: JobsBuilder) -> JobsBuilder {
    let snoozed = Arc::default();
    builder.handle(move |chore: Chore, cx: JobCx| perform(chore, cx, Arc::clone(&snoozed)))
}

async fn kit() -> TestJobs {
    kit_with(|builder| builder).await
}

async fn kit_with(declare: impl FnOnce(JobsBuilder) -> JobsBuilder) -> TestJobs {
    TestJobs::new(|builder| declare(with_chores(builder))).await.unwrap()
}
