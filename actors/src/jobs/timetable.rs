//! Fires periodic jobs: the leader looks every second which ticks are due.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::cron::{Schedule, due};
use super::enqueue::admit;
use super::job::{JobPolicy, is_name};
use super::shared::Shared;
use super::store::{CronRow, NewJob};
use crate::store::{StoreError, Timestamp};

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Looks for as long as it is polled.
pub(super) async fn keep(shared: Arc<Shared>) {
    let mut looked = None;
    loop {
        let now = shared.clock.now();
        if shared.is_leader() && !shared.is_draining() {
            match fire_due(&shared, looked, now).await {
                Ok(()) => looked = Some(now),
                Err(error) => tracing::warn!(%error, "jobs.timetable_failed"),
            }
        } else {
            looked = None;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Fires what is due. `looked` is when this process looked last.
pub(super) async fn fire_due(
    shared: &Shared,
    looked: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), StoreError> {
    for row in shared.store.crons().await? {
        match Schedule::parse(&row.spec, &row.time_zone) {
            Ok(schedule) => fire(shared, &row, &schedule, looked, now).await?,
            // Declared by a program that reads expressions this one does not.
            Err(error) => tracing::warn!(cron = &*row.name, %error, "jobs.cron_unreadable"),
        }
    }
    Ok(())
}

async fn fire(
    shared: &Shared,
    row: &CronRow,
    schedule: &Schedule,
    looked: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let ticks = due(row, schedule, looked, now);
    if ticks.fire.is_empty() && ticks.next == row.next_at {
        return Ok(());
    }
    let jobs: Vec<_> = ticks.fire.iter().filter_map(|tick| job(shared, row, *tick)).collect();
    let (fired, skipped) = (jobs.len(), ticks.fire.len() - jobs.len());
    let (name, next) = (Arc::clone(&row.name), ticks.next);
    let moved = shared.store.tick_cron(name, row.next_at, next, jobs, now).await?;
    if moved && fired + skipped > 0 {
        tracing::debug!(cron = &*row.name, fired, skipped, "jobs.cron_ticked");
    }
    Ok(())
}

/// The job of one tick; `None` if the guard leaves it out: the next tick does its work too.
fn job(shared: &Shared, row: &CronRow, tick: Timestamp) -> Option<NewJob> {
    let kind = shared.kinds.find(&row.kind);
    let policy = kind.map_or_else(JobPolicy::default, |kind| kind.policy.clone());
    let mut job = NewJob {
        queue: Arc::clone(&row.queue),
        kind: Arc::clone(&row.kind),
        class: row.class,
        run_at: tick,
        expires_at: policy.expires_in.map(|within| tick.after(within)),
        max_attempts: row.max_attempts,
        dependency: policy.dependency.clone(),
        unique: None,
        args: Arc::clone(&row.args),
        args_format: row.args_format,
        meta: None,
        deferred: false,
        depth_limit: None,
    };
    let admitted = is_name(&job.kind) && admit(shared, &mut job, &policy, 0).unwrap_or(false);
    admitted.then_some(job)
}
