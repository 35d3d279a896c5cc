//! One run of the job that handles an event.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::core::{Core, Known};
use super::event::{EventInfo, EventState, InboxId, Row, StoredEvent, Turn};
use super::handlers::{EventCx, Handler};
use super::raw_json::RawJson;
use crate::jobs::{Job, JobCx, JobError, JobResult};
use crate::store::{SqliteTx, Store, commit};

/// How long an event waits for each one before it; it is called earlier when its turn comes.
const WAIT: Duration = Duration::from_secs(1);
/// The longest it waits before it looks again, in events before it.
const AHEAD_MAX: i64 = 60;

/// How long an event is left to other processes that may handle its type, and how long between
/// two looks.
const LEFT_FOR: Duration = Duration::from_secs(3_600);
const LEFT_WAIT: Duration = Duration::from_secs(60);

/// Handles an event.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct EventJob {
    pub(super) event: InboxId,
}

impl Job for EventJob {
    const KIND: &'static str = "inbox.event";
    const QUEUE: &'static str = "inbox";
}

/// Handles an event, and ends it together with its job.
pub(super) async fn run(core: Arc<Core>, job: EventJob, cx: JobCx) -> JobResult {
    let Some((row, body)) = core.load(job.event).await? else {
        // Forgotten: nothing can be done for it.
        return Ok(());
    };
    // Settled, or replayed with a job of its own: this one has nothing to say.
    if row.info.state != EventState::Received || row.info.job != Some(cx.id()) {
        return Ok(());
    }
    let known = core.sources.get(&row.info.source);
    if let Some(turn) = &row.turn {
        wait_for_turn(&core, known, &row, turn).await?;
    }
    let event_cx = EventCx::new(row.info.id, cx, core.store.clone(), core.clock());
    let event_type = row.info.event_type.clone().unwrap_or_default();
    let Some(handler) = core.handlers.find(&row.info.source, &event_type) else {
        return leave(&core, known, &row, &event_cx).await;
    };
    let outcome = match upcast(&core, known, row.info.clone(), event_type, body) {
        Ok(event) => handle(&core, handler.clone(), event, event_cx).await,
        Err(error) => Err(error),
    };
    if let Some(known) = known {
        let counter = if outcome.is_ok() { &known.tally.handled } else { &known.tally.failed };
        counter.add();
    }
    if outcome.is_ok() {
        call_next(&core, &row).await;
    }
    outcome
}

/// An event that was received has a handler somewhere: while a service is rolled out, in the
/// processes that are new. So it is left to them for a while, and only then ignored.
async fn leave(core: &Core, known: Option<&Known>, row: &Row, cx: &EventCx) -> JobResult {
    let age = core.clock().now().since(row.info.received_at);
    if row.info.replays > 0 || age >= LEFT_FOR {
        return Ok(core.end(cx, EventState::Ignored).await?);
    }
    if let Some(known) = known {
        known.tally.waited.add();
    }
    Err(JobError::snooze(LEFT_WAIT))
}

/// An event that is not the first of its line looks again later.
async fn wait_for_turn(
    core: &Core,
    known: Option<&Known>,
    row: &Row,
    turn: &Turn,
) -> Result<(), JobError> {
    let ahead = core.ahead(&row.info.source, turn).await?;
    if ahead == 0 {
        return Ok(());
    }
    if let Some(known) = known {
        known.tally.waited.add();
    }
    let waits = u32::try_from(ahead.min(AHEAD_MAX)).unwrap_or(1);
    Err(JobError::snooze(WAIT * waits))
}

/// Has the next of a line run now rather than when it would look again. If that fails, it does
/// look again.
async fn call_next(core: &Core, row: &Row) {
    let (Some(turn), Some(jobs)) = (&row.turn, core.jobs()) else { return };
    let next = core.next(&row.info.source, turn).await;
    if let Ok(Some(next)) = next {
        let _it_looks_again = jobs.retry(next).await;
    }
}

fn upcast(
    core: &Core,
    known: Option<&Known>,
    info: EventInfo,
    event_type: Arc<str>,
    body: bytes::Bytes,
) -> Result<StoredEvent, JobError> {
    let limits = known.map(|known| known.source.limits).unwrap_or_default();
    let body = RawJson::trusted(body);
    let version = info.version.clone();
    let newest = core.upcasters.newest(&info.source, &event_type, version, body, &limits);
    // The same bytes go through the same program with each attempt.
    let (version, body) = newest.map_err(JobError::discard)?;
    Ok(StoredEvent { info, event_type, version, body })
}

async fn handle(core: &Core, handler: Handler, event: StoredEvent, cx: EventCx) -> JobResult {
    match (handler, &core.store) {
        (Handler::Future(handle), _) => {
            handle(event, cx.clone()).await?;
            if cx.is_completed() { Ok(()) } else { Ok(core.end(&cx, EventState::Done).await?) }
        }
        (Handler::Sqlite(handle), Store::Sqlite(store)) => {
            let work = move |tx: &SqliteTx<'_>| {
                handle(&event, tx)?;
                Ok(cx.complete_in(tx)?)
            };
            store.write(work).await
        }
        (Handler::Postgres(handle), Store::Postgres(store)) => {
            let mut client = store.client().await?;
            let tx = client.transaction().await?;
            handle(&event, &tx).await?;
            cx.complete_in_postgres(&tx).await?;
            Ok(commit(tx).await?)
        }
        // `register` has seen to it that this cannot be.
        (Handler::Sqlite(_) | Handler::Postgres(_), _) => {
            Err(JobError::discard(super::InboxError::ForeignTransaction))
        }
    }
}

/// Forgets what is old. LIMIT: so many rows with each statement, and so many statements; what is
/// left is for the next time.
const ROWS: u32 = 500;
const STATEMENTS: u32 = 2_000;

/// Forgets events that are old enough.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Prune {}

impl Job for Prune {
    const KIND: &'static str = "inbox.prune";
    const QUEUE: &'static str = "inbox";
}

pub(super) async fn prune(core: Arc<Core>, cx: JobCx) -> JobResult {
    let now = core.clock().now();
    let (settled, dead) = (now.before(core.keep_for), now.before(core.keep_dead_for));
    let mut forgotten = 0;
    for _ in 0..STATEMENTS {
        let some = core.prune(settled, dead, ROWS).await?;
        forgotten += some;
        if some < u64::from(ROWS) || cx.request().stopped().is_some() {
            break;
        }
    }
    if forgotten > 0 {
        tracing::debug!(forgotten, "inbox.pruned");
    }
    Ok(())
}
