//! One run of one job, from its claim to its end.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::cx::{Begin, JobCx};
use super::enqueue::cohort;
use super::guard::Candidate;
use super::job::JobResult;
use super::kinds::{Handler, Kind};
use super::pool::Worker;
use super::shared::Shared;
use super::store::{Claimed, Settle, Settlement};
use super::verdict::{Case, Outcome, settlement};
use crate::kernel::Stopped;
use crate::kernel::panic::{Panic, catch};

/// How long a handler that was told to stop may take to clean up before it is dropped.
const CLEAN_UP_MAX: Duration = Duration::from_secs(2);

/// Runs a job and hands its end to the pool. Holds `worker` until the code has returned, also
/// where it cannot be dropped. How it ended; `None`: the run was over before it began.
pub(super) async fn run(shared: Arc<Shared>, claimed: Claimed, worker: Worker) -> Option<Settle> {
    let key = claimed.key;
    let Some(claimed) = admit_suspect(&shared, claimed).await else {
        worker.pool().forget(key);
        return None;
    };
    let kind = shared.kinds.find(&claimed.kind).map(Arc::clone);
    let cx = JobCx::new(Begin {
        timeout: kind.as_ref().map_or(Duration::ZERO, |kind| kind.policy.timeout),
        keep_done: kind.as_ref().is_none_or(|kind| kind.policy.keep_done),
        clock: shared.clock.clone(),
        postgres: shared.postgres.clone(),
        claimed,
    });
    let refused = refusal(&shared, cx.claimed(), kind.as_deref())
        .or_else(|| put_off(&shared, &cx, kind.as_deref(), &worker));
    let (outcome, rest) = match (refused, &kind) {
        (Some(outcome), _) => (outcome, None),
        (None, Some(kind)) => {
            let _running = shared.running.enter(&cx);
            // Also what panics while it is dropped, because it is out of time, is a failed run.
            let executed = caught(execute(&shared, kind, &cx)).await;
            executed.unwrap_or_else(|panic| (panicked(&panic), None))
        }
        (None, None) => (Outcome::UnknownKind, None),
    };
    let settle = finish(&shared, &cx, kind.as_deref(), outcome, &worker);
    if let Some(rest) = rest {
        rest.await;
    }
    Some(settle)
}

/// One that was charged with a crash begins only when the tables say so; then the next crash is
/// charged to it alone. `None`: the run is over.
async fn admit_suspect(shared: &Shared, claimed: Claimed) -> Option<Claimed> {
    if claimed.crashes == 0 {
        return Some(claimed);
    }
    match shared.store.begin_suspect(claimed.key, shared.clock.now()).await {
        Ok(true) => Some(claimed),
        Ok(false) => None,
        Err(error) => {
            // Nobody holds it any more: the keeper finds it among the runs that were lost.
            tracing::warn!(job = claimed.key.id.0, %error, "jobs.suspect_not_begun");
            None
        }
    }
}

/// Why a job is not begun now, if so.
fn refusal(shared: &Shared, claimed: &Claimed, kind: Option<&Kind>) -> Option<Outcome> {
    if shared.is_draining() || shared.is_fenced() {
        return Some(Outcome::Unstarted);
    }
    if claimed.expires_at.is_some_and(|at| at <= shared.clock.now()) {
        return Some(Outcome::Expired);
    }
    if kind.is_none() {
        tracing::warn!(job = claimed.key.id.0, kind = &*claimed.kind, "jobs.unknown_kind");
        return Some(Outcome::UnknownKind);
    }
    let dependency = claimed.dependency.as_deref();
    dependency.is_some_and(|name| shared.dependencies.is_open(name)).then_some(Outcome::Parked)
}

/// One that the guard put off waits once more if there is too much work still when it falls due.
/// A retry is not put off: it holds up whatever its first attempt has begun.
fn put_off(shared: &Shared, cx: &JobCx, kind: Option<&Kind>, worker: &Worker) -> Option<Outcome> {
    let claimed = cx.claimed();
    if claimed.deferrals == 0 || claimed.attempt > 1 {
        return None;
    }
    let now = shared.clock.now();
    let candidate = Candidate {
        class: claimed.class,
        overload: kind?.policy.overload,
        cohort: cohort(cx.tenant(), &claimed.kind),
        deferrals: claimed.deferrals.unsigned_abs(),
        admitted_since: 0,
        expires_in: claimed.expires_at.map(|at| at.since(now)),
        chance: shared.chance.draw(),
    };
    worker.pool().guard.load().put_off_again(&candidate).map(Outcome::PutOff)
}

/// What still runs although its end is known: code that blocks cannot be dropped.
type Rest = Pin<Box<dyn Future<Output = ()> + Send>>;

async fn execute(shared: &Shared, kind: &Kind, cx: &JobCx) -> (Outcome, Option<Rest>) {
    match &kind.handler {
        Handler::Future(handler) => {
            let (args, request) = (&cx.claimed().args, cx.request());
            let begun = catch(|| request.clone().sync_scope(|| handler(args, cx.clone())));
            match begun {
                Ok(work) => {
                    (supervise(cx, caught(request.clone().scope(work))).await.outcome(), None)
                }
                Err(panic) => (panicked(&panic), None),
            }
        }
        Handler::Blocking(handler) => {
            let (handler, own) = (Arc::clone(handler), cx.clone());
            let mut thread = shared.runtime().spawn_blocking(move || {
                let work = || handler(&own.claimed().args, own.clone());
                catch(|| own.request().clone().sync_scope(work))
            });
            let Supervised { result, told } = supervise(cx, &mut thread).await;
            let returned = result.is_some();
            // A thread that was never begun, because its pool shuts down, has no result.
            let outcome = Supervised { result: result.and_then(Result::ok), told }.outcome();
            let rest: Rest = Box::pin(async move { drop(thread.await) });
            (outcome, (!returned).then_some(rest))
        }
    }
}

/// How far a handler came.
struct Supervised<T> {
    /// What it returned, if it did.
    result: Option<T>,
    /// Why it was told to stop, if it was.
    told: Option<Stopped>,
}

impl Supervised<Result<JobResult, Panic>> {
    fn outcome(self) -> Outcome {
        match (self.result, self.told) {
            (Some(Ok(Ok(()))), _) => Outcome::Returned(Ok(())),
            (Some(Err(panic)), _) => panicked(&panic),
            (_, Some(Stopped::Deadline)) => Outcome::TimedOut,
            (_, Some(Stopped::ClientGone)) => Outcome::Cancelled,
            (None, None) | (_, Some(Stopped::Shutdown)) => Outcome::Interrupted,
            (Some(Ok(Err(error))), None) => Outcome::Returned(Err(error)),
        }
    }
}

fn panicked(panic: &Panic) -> Outcome {
    let place = panic.location().unwrap_or("an unknown place");
    let message = format!("panicked: {} at {place}", panic.message()).into();
    Outcome::Panicked { message, trace: panic.backtrace_text() }
}

/// Lets `work` go on until it is done, out of time, or told to stop and not gone in time.
async fn supervise<F: Future>(cx: &JobCx, work: F) -> Supervised<F::Output> {
    let mut work = pin!(work);
    let told = tokio::select! {
        biased;
        // It may have heard that it should stop before this did.
        result = &mut work => {
            return Supervised { result: Some(result), told: cx.request().stopped() };
        }
        () = cx.cancelled() => cx.request().stopped().unwrap_or(Stopped::ClientGone),
        () = tokio::time::sleep_until(cx.deadline()) => Stopped::Deadline,
    };
    // Whoever listens to the token hears of the deadline too; the first cause stands.
    cx.request().cancel(told);
    let clean_up = if told == Stopped::Deadline { Duration::ZERO } else { CLEAN_UP_MAX };
    Supervised { result: timeout(clean_up, work).await.ok(), told: Some(told) }
}

async fn caught<F: Future>(work: F) -> Result<F::Output, Panic> {
    let mut work = pin!(work);
    poll_fn(|task| match catch(|| work.as_mut().poll(task)) {
        Ok(poll) => poll.map(Ok),
        Err(panic) => std::task::Poll::Ready(Err(panic)),
    })
    .await
}

/// Judges the outcome and hands the end to the pool.
fn finish(
    shared: &Shared,
    cx: &JobCx,
    kind: Option<&Kind>,
    outcome: Outcome,
    worker: &Worker,
) -> Settle {
    let (claimed, now) = (cx.claimed(), Instant::now());
    let dependency = claimed.dependency.as_deref();
    let tried = !matches!(
        outcome,
        Outcome::Expired
            | Outcome::Parked
            | Outcome::PutOff(_)
            | Outcome::Unstarted
            | Outcome::UnknownKind
    );
    let retried = tried && !matches!(outcome, Outcome::Returned(Ok(())));
    let within_budget = match &claimed.dependency {
        Some(name) if tried => shared.budgets.spend(name, claimed.attempt, retried, now),
        Some(_) | None => true,
    };
    let how = settlement(
        outcome,
        &Case {
            claimed,
            policy: kind.map(|kind| &kind.policy),
            watched: dependency.is_some_and(|name| shared.dependencies.watches(name)),
            within_budget,
            chance: shared.chance.draw(),
            now: shared.clock.now(),
        },
    );
    let settle = cx.settle(how);
    let pool = worker.pool();
    pool.tally.count(&settle);
    if let Settlement::Retry { run_at, .. } | Settlement::Release { run_at, parked: false, .. } =
        &settle.how
    {
        pool.due_in(run_at.since(shared.clock.now()), now);
    }
    shared.events.settled(&claimed.kind, cx.attempt(), &settle);
    pool.end(settle.clone(), cx.is_completed(), now);
    settle
}
