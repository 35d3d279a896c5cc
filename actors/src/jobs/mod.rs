//! Durable background jobs: stored before they are acknowledged, run until they are over, and
//! held back before the backlog feeds the outage. On SQLite or PostgreSQL; no other server.
//!
//! ```
//! use serde::{Deserialize, Serialize};
//! use steadfast_actors::jobs::{Job, JobCx, JobResult, Jobs, QueueSpec};
//! use steadfast_actors::kernel::Tree;
//! use steadfast_actors::store::{SqliteOptions, SqliteStore, Store};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Welcome {
//!     address: String,
//! }
//!
//! impl Job for Welcome {
//!     const KIND: &'static str = "welcome";
//!     const QUEUE: &'static str = "mail";
//! }
//!
//! async fn welcome(job: Welcome, cx: JobCx) -> JobResult {
//!     // Any error with `?` is a failed attempt; the key lets the mail server drop repeats.
//!     send(&job.address, &cx.idempotency_key()).await?;
//!     Ok(())
//! }
//! # use std::sync::OnceLock;
//! # use tokio::sync::mpsc;
//! # static SENT: OnceLock<mpsc::Sender<String>> = OnceLock::new();
//! # async fn send(address: &str, _key: &str) -> std::io::Result<()> {
//! #     SENT.get().unwrap().send(address.to_owned()).await.map_err(std::io::Error::other)
//! # }
//!
//! #[actix::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     # let (sent, mut outbox) = mpsc::channel(1);
//!     # SENT.set(sent).unwrap();
//!     // In a service: Store::open("sqlite:jobs.db") or Store::open("postgres://…").
//!     let store = Store::from(SqliteStore::open(SqliteOptions::memory()).await?);
//!     let tree = Tree::new();
//!     let jobs = Jobs::builder(&store)
//!         .handle(welcome)
//!         .queue(QueueSpec::new("mail").workers(4))
//!         .start(&tree)
//!         .await?;
//!
//!     // When this returns, the job is on disk: it outlives this process.
//!     jobs.enqueue(Welcome { address: "ada@example.com".into() }).await?;
//!     # assert_eq!(outbox.recv().await.as_deref(), Some("ada@example.com"));
//!
//!     // At the end: lets what runs finish, gives back what has not begun.
//!     jobs.drain(std::time::Duration::from_secs(20)).await;
//!     # tree.stop(std::time::Duration::from_secs(5)).await;
//!     # store.close().await;
//!     Ok(())
//! }
//! ```
//!
//! A service that is built with `Steadfast::builder()` gives its builder to `Builder::jobs` and
//! has it started, drained and shown. How a handler is tested, [`testing`] tells.
//!
//! # Guarantees
//!
//! - A job whose enqueue was acknowledged is never lost: it ends as done or dead, whatever dies
//!   meanwhile. It runs **at least once**; that it did its work is written down exactly once.
//! - With [`JobCx::complete_in`] the handler's own writes and the end of the job are one
//!   transaction: the effect in that database happens exactly once. With [`Enqueue::in_sqlite`] and
//!   [`Enqueue::in_postgres`] a job is there if your transaction is; with the feature `sqlx`, in
//!   one of sqlx too.
//! - Each run has a fence that rises ([`RunKey`]). A process that was taken for dead and comes
//!   back can end no run but its own: its word is counted, told and ignored.
//! - A process that dies loses its jobs to the others: on the same host within a second, elsewhere
//!   when it has not been heard of for [`expires_after`](JobsBuilder::expires_after). Nobody's
//!   wall clock decides that. A process that cannot reach the store stops before it is taken for
//!   dead.
//! - A job that takes its process with it is found out: what had begun when it died is suspect,
//!   suspects run one at a time, those last that were charged most, and after
//!   [`poison_after`](JobsBuilder::poison_after) crashes it is dead as `poison`.
//! - A panic, a timeout or an error is one failed attempt, and is written down. The pause after it
//!   is in the table: a restart neither shortens nor forgets it.
//! - While a job's dependency has an open breaker the job is parked: no attempt is lost.
//! - [`Class::Critical`] is accepted until the hard limit, and no class starves another: free
//!   workers are shared 8 : 4 : 2 : 1.
//! - A tick of a periodic job fires in one process of all, and never twice.
//! - Everything has a limit, and what is refused says when to come back.
//! - A panic in any actor of the queue loses nothing: what was claimed is in none of them.
//!
//! # What it does not do
//!
//! - It does not run a job exactly once: nobody can, across a crash. Let handlers bear repetition
//!   ([`JobCx::idempotency_key`]), or end the job in the transaction of its effect.
//! - It does not keep an order. Within a class the job that was due first is claimed first, but
//!   many run at once and retries come later. [`QueueSpec::running_limit`] of 1 makes a queue
//!   serial.
//! - It knows no workflows, no results and no dependencies between jobs: a handler enqueues what
//!   comes next.
//! - A handler that blocks in `async` code, or a blocking one that does not look at
//!   [`JobCx::cancelled`], cannot be stopped: its job counts as failed in time, its thread is
//!   occupied until it returns.
//! - Two databases are two queues: nothing spans them.
//!
//! # The life of a job
//!
//! | from | what happens | to | attempt counts |
//! |---|---|---|---|
//! | | enqueued, due now or later | ready | |
//! | | enqueued under overload ([`Overload::Reschedule`]) | ready later, shown as parked | |
//! | ready | a worker claims it | running | yes |
//! | running | the handler returns `Ok` | done | yes |
//! | running | an error, a panic or a timeout, attempts left | ready after the back-off | yes |
//! | running | the same at the last attempt | dead: `discarded` | yes |
//! | running | [`JobError::discard`], or arguments that cannot be read | dead: `discarded` | yes |
//! | running | [`JobError::snooze`] | ready after the pause | no |
//! | running | a kind that this process does not know | ready in 60 s | no |
//! | ready, running | its dependency's breaker is open | parked | no |
//! | parked | the dependency is tried, or well again | ready | |
//! | running | the process ends in order | ready, in its old place | no |
//! | running | the process dies | ready; at the last attempt dead: `discarded` | yes |
//! | running | the process dies, too often with this job | dead: `poison` | yes |
//! | ready | its [`expires_in`](JobPolicy::expires_in) is over | dead: `expired` | |
//! | ready | the guard gives it up | dead: `shed` | |
//! | ready, parked, running | [`Jobs::cancel`], [`JobError::cancel`] | dead: `cancelled` | |
//! | dead | [`Jobs::retry`] | ready, with one more attempt at least | goes on |
//! | dead | [`Jobs::replay_dead`] | ready, with all attempts | begins anew |
//! | done, dead | 24 h, 30 days later ([`JobsBuilder::keep_done_for`]) | forgotten | |
//!
//! [`JobState`] has these states, [`DeadReason`] the reasons; [`Jobs::errors`] tells what went
//! wrong in each run.
//!
//! # When there is too much work
//!
//! A [`guard`] per queue measures how old the work is and how long it would take, and from there
//! puts new jobs off, leaves them out or refuses them: bulk work first, critical work never. What
//! is refused carries the time after which to try again, which the HTTP edge makes a `503` with
//! `Retry-After` of.
//!
//! # Limits
//!
//! | what | limit |
//! |---|---|
//! | arguments of a job, as JSON | 64 KiB; up to 1 MiB ([`JobsBuilder::payload_max`]) |
//! | names of queues, kinds, dependencies and periodic jobs | 127 bytes |
//! | a unique key | 512 bytes |
//! | attempts of a job | 10; up to 100 |
//! | a run | 60 s; up to 24 h |
//! | a delay, an expiry | 365 days |
//! | workers of a queue in a process | 10; up to 10,000 |
//! | operations of a process under way | 8,192, then [`CallError`](crate::kernel::CallError) |
//! | jobs claimed and waiting for a worker | 512 for each queue |
//! | messages kept | 32 of 2 KiB for each job, backtraces of 16 KiB |
//!
//! # Events
//!
//! Those of single jobs go to every receiver of [`Jobs::events`] as a [`JobEvent`] too.
//!
//! | log message | level | when |
//! |---|---|---|
//! | `jobs.done` | debug | a run did its work |
//! | `jobs.failed` | info | a run failed; the job is tried again |
//! | `jobs.died` | warn | a job is dead; `reason` says why |
//! | `jobs.released` | debug | a run was no attempt: snoozed, parked, unknown kind, shutdown |
//! | `jobs.unknown_kind` | warn | nobody in this process handles the kind of a job |
//! | `jobs.stale_completion` | warn | the end of a run came after another run had begun |
//! | `jobs.rescued` | warn | jobs of dead processes are ready again |
//! | `jobs.found_lost_runs` | warn | claims whose answer was lost were given back |
//! | `jobs.suspect_not_begun` | warn | the store did not let a job begin that had crashed before |
//! | `jobs.parked` | info | jobs wait for a dependency that is not well |
//! | `jobs.released_parked` | info | jobs were let go to a dependency that is tried or well |
//! | `jobs.dependency_not_looked_at` | warn | the store failed while jobs were parked or let go |
//! | `jobs.guard_level_changed` | info, warn | the guard of a queue holds back more or less |
//! | `jobs.pulled_forward` | info | jobs that were put off run earlier, as there is room |
//! | `jobs.shed` | warn | the guard gave jobs up |
//! | `jobs.guard_blind` | warn | the guard cannot look at its queue; its last word stands |
//! | `jobs.store_failed` | error | claims or ends were not taken; they are tried again |
//! | `jobs.keeper_failed` | warn | a beat, a rescue or pruning failed; it is tried again |
//! | `jobs.fence_changed` | warn | this process begins nothing new, or does again |
//! | `jobs.leadership_changed` | info | this process rescues, prunes and fires for all, or not any more |
//! | `jobs.cron_ticked` | debug | a periodic job was enqueued |
//! | `jobs.cron_unreadable` | warn | a stored expression that this process cannot read |
//! | `jobs.timetable_failed` | warn | the store failed while ticks were fired; they are tried again |
//! | `jobs.presence_not_taken` | warn | no lock for this process: its death is noticed later |
//! | `jobs.drained` | info | the process has ended its work, and how |
//! | `jobs.not_resigned`, `jobs.not_left` | warn | the store failed at the end; others notice |

mod actor;
mod builder;
mod chance;
mod class;
mod config;
pub mod cron;
mod cx;
pub(crate) mod demand;
mod dependencies;
mod drain;
mod enqueue;
mod error;
mod events;
mod feeder;
pub mod guard;
mod handle;
mod job;
mod job_id;
mod keeper;
mod kinds;
mod messages;
mod meta;
mod nodes;
mod pool;
mod report;
pub mod retry;
mod run;
mod running;
mod shared;
pub mod store;
pub mod testing;
mod timetable;
pub(crate) mod tx;
mod verdict;
mod watchman;

#[cfg(test)]
pub(crate) mod tests;

pub use actor::JobQueue;
pub use builder::JobsBuilder;
pub use class::Class;
pub use config::QueueSpec;
pub use cron::{CronError, Schedule};
pub use cx::JobCx;
pub use drain::DrainReport;
pub use enqueue::{Enqueue, Enqueued};
pub use error::JobsError;
pub use events::JobEvent;
pub use guard::{GuardConfig, GuardSnapshot, Level, Overload};
pub use handle::Jobs;
pub use job::{Job, JobError, JobPolicy, JobResult};
pub use job_id::{JobId, NodeId, RunKey};
pub use messages::{CancelJob, CountJobs, FindJob, InsertJobs, PauseQueue, RetryJob};
pub use retry::{Backoff, InvalidBackoff};
pub use store::{
    Cancelled, Counts, CronRow, DeadFilter, DeadReason, JobInfo, JobState, NodeRow, OnConflict,
    Replayed, RunError,
};
