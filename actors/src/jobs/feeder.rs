//! The feeder of one queue's workers: claims jobs, begins them, hands their ends in.
//!
//! INVARIANT: it holds nothing of its own. What was claimed is in the [`Pool`], runs are tasks of
//! the workers' runtime, and a question to the store is a task too: killing the actor at any
//! moment loses nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, sleep_until};

use super::RunKey;
use super::events::JobEvent;
use super::pool::{Ask, Claims, Pool, Worker};
use super::run::run;
use super::shared::Shared;
use super::store::{Claimed, Step};
use crate::kernel::Context;

/// Feeds the workers of one queue. [`Jobs`](super::Jobs) is the handle.
pub(super) struct Feeder {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
}

impl Feeder {
    pub(super) const fn new(shared: Arc<Shared>, pool: Arc<Pool>) -> Self {
        Self { shared, pool }
    }
}

impl Actor for Feeder {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let feed = feed(Arc::clone(&self.shared), Arc::clone(&self.pool));
        ctx.spawn(actix::fut::wrap_future(feed));
    }
}

async fn feed(shared: Arc<Shared>, pool: Arc<Pool>) {
    let wake = shared.store.wakes().bell(&pool.queue);
    loop {
        begin(&shared, &pool);
        let claims = !shared.is_draining() && !shared.is_fenced();
        let claims = if claims { Claims::Room } else { Claims::Nothing };
        if let Some(ask) = pool.ask(shared.node, claims, Instant::now()) {
            // A task of its own, so that its answer arrives whatever becomes of this actor.
            drop(shared.runtime().spawn(ask_and_begin(
                Arc::clone(&shared),
                Arc::clone(&pool),
                ask,
            )));
        }
        tokio::select! {
            () = pool.bell.notified() => {}
            () = wake.notified() => pool.woken(Instant::now()),
            () = sleep_until(pool.look_at(claims, Instant::now())) => {}
        }
    }
}

/// Begins what the answer brings here and now: the actor's thread would have to wake up first.
async fn ask_and_begin(shared: Arc<Shared>, pool: Arc<Pool>, ask: Ask) {
    question(Arc::clone(&shared), Arc::clone(&pool), ask).await;
    begin(&shared, &pool);
}

/// Gives jobs that were claimed to workers that are free.
fn begin(shared: &Arc<Shared>, pool: &Arc<Pool>) {
    loop {
        let permit = pool.has_suspect().then(|| Arc::clone(&shared.probation).try_acquire_owned());
        let permit = permit.and_then(Result::ok);
        let Some((claimed, worker)) = pool.next(permit.is_some()) else { return };
        let permit = permit.filter(|_| claimed.crashes > 0);
        let (its, key) = (Arc::clone(pool), claimed.key);
        let work = work(Arc::clone(shared), claimed, worker);
        drop(shared.runtime().spawn(async move {
            work.await;
            if permit.is_some() {
                settled(&its, key).await;
            }
            drop(permit);
            // The next suspect waits for the permit.
            its.bell.notify_one();
        }));
    }
}

/// Waits until the end of a run is in the tables. One on trial whose end is not would be charged
/// with what the next one does to the process.
async fn settled(pool: &Pool, key: RunKey) {
    while pool.holds(key) {
        sleep(Duration::from_millis(1)).await;
    }
}

/// Runs a job, then those that wait: a worker that is done needs nobody to hand it the next one.
async fn work(shared: Arc<Shared>, claimed: Claimed, worker: Worker) {
    let (pool, on_trial) = (Arc::clone(worker.pool()), claimed.crashes > 0);
    let _settle = run(Arc::clone(&shared), claimed, worker).await;
    // One on trial has a permit that the next suspect waits for.
    if on_trial {
        return;
    }
    loop {
        // Handlers that never wait would keep this thread from everything else.
        yield_now().await;
        let Some((claimed, worker)) = pool.next(false) else { return };
        let _settle = run(Arc::clone(&shared), claimed, worker).await;
    }
}

/// Asks the store and takes the answer in. `false`: there was none.
pub(super) async fn question(shared: Arc<Shared>, pool: Arc<Pool>, ask: Ask) -> bool {
    let step = shared.store.step(ask.settles.clone(), ask.claim.clone(), shared.clock.now());
    let mut pending = Pending { pool: &pool, ask: Some(ask) };
    let answer = step.await;
    let Some(ask) = pending.ask.take() else { return false };
    match answer {
        Ok(step) => {
            answered(&shared, &pool, &ask, step);
            true
        }
        Err(error) => {
            if pool.unanswered(ask, error.wrote_nothing(), Instant::now()) {
                tracing::error!(queue = &*pool.queue, %error, "jobs.store_failed");
            }
            false
        }
    }
}

fn answered(shared: &Shared, pool: &Arc<Pool>, ask: &Ask, step: Step) {
    for key in pool.answered(ask, step, Instant::now()) {
        shared.events.tell(JobEvent::StaleCompletion { id: key.id });
    }
}

/// A question that was not answered yet: given back if the task that asks is dropped.
struct Pending<'a> {
    pool: &'a Arc<Pool>,
    ask: Option<Ask>,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(ask) = self.ask.take() {
            self.pool.unanswered(ask, false, Instant::now());
        }
    }
}

impl fmt::Debug for Feeder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feeder").field("pool", &self.pool).finish_non_exhaustive()
    }
}
