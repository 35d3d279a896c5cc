//! Which handler a stored job is for.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::cx::JobCx;
use super::error::JobsError;
use super::job::{Job, JobError, JobPolicy, JobResult, is_name};

/// How the arguments of a job are written.
pub(super) const ARGS_JSON: i16 = 0;

/// The handlers of a process, by kind.
#[derive(Debug, Default)]
pub(super) struct Kinds(HashMap<&'static str, Arc<Kind>>);

/// One kind of job: its policy and its handler.
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) queue: &'static str,
    pub(super) policy: JobPolicy,
    pub(super) handler: Handler,
}

type Begins = dyn Fn(&[u8], JobCx) -> BoxFuture<'static, JobResult> + Send + Sync;
type Blocks = dyn Fn(&[u8], JobCx) -> JobResult + Send + Sync;

/// A handler that takes the arguments as they are stored.
pub(super) enum Handler {
    /// Its future runs on the workers' threads.
    Future(Box<Begins>),
    /// It blocks, so it runs on a thread that may be blocked.
    Blocking(Arc<Blocks>),
}

impl Kinds {
    pub(super) fn find(&self, name: &str) -> Option<&Arc<Kind>> {
        self.0.get(name)
    }

    /// The queues that the kinds go to unless told otherwise.
    pub(super) fn queues(&self) -> impl Iterator<Item = &'static str> {
        self.0.values().map(|kind| kind.queue)
    }

    /// The dependencies of the kinds that go to this queue unless told otherwise.
    pub(super) fn dependencies_of(&self, queue: &str) -> impl Iterator<Item = &str> {
        let there = self.0.values().filter(move |kind| kind.queue == queue);
        there.filter_map(|kind| kind.policy.dependency.as_deref())
    }

    pub(super) fn add<J, F, Run>(&mut self, policy: JobPolicy, handler: F) -> Result<(), JobsError>
    where
        J: Job,
        F: Fn(J, JobCx) -> Run + Send + Sync + 'static,
        Run: Future<Output = JobResult> + Send + 'static,
    {
        let handle = move |args: &[u8], cx| match decode::<J>(args) {
            Ok(job) => handler(job, cx).boxed(),
            Err(error) => std::future::ready(Err(error)).boxed(),
        };
        self.insert::<J>(policy, Handler::Future(Box::new(handle)))
    }

    pub(super) fn add_blocking<J, F>(&mut self, handler: F) -> Result<(), JobsError>
    where
        J: Job,
        F: Fn(J, JobCx) -> JobResult + Send + Sync + 'static,
    {
        let handle = move |args: &[u8], cx| handler(decode::<J>(args)?, cx);
        self.insert::<J>(J::policy(), Handler::Blocking(Arc::new(handle)))
    }

    fn insert<J: Job>(&mut self, policy: JobPolicy, handler: Handler) -> Result<(), JobsError> {
        if !is_name(J::KIND) {
            return Err(JobsError::InvalidSetting { setting: "kind", expected: "1 to 127 bytes" });
        }
        policy.check()?;
        if self.0.contains_key(J::KIND) {
            return Err(JobsError::KindTaken(J::KIND.into()));
        }
        self.0.insert(J::KIND, Arc::new(Kind { name: J::KIND, queue: J::QUEUE, policy, handler }));
        Ok(())
    }
}

/// Reads arguments. What cannot be read now can never be read by this program, so the job is
/// dead, and kept: a program that can read it may replay it.
fn decode<J: Job>(args: &[u8]) -> Result<J, JobError> {
    serde_json::from_slice(args).map_err(|error| {
        // Only where and what kind: the text of the error may quote the arguments.
        let (line, column, category) = (error.line(), error.column(), error.classify());
        JobError::discard(format_args!(
            "the arguments cannot be read: {category:?} error at line {line} column {column}"
        ))
    })
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kind").field("name", &self.name).finish_non_exhaustive()
    }
}
