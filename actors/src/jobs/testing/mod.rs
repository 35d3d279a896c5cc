//! A job queue for your own tests: in memory, with a time that you move, and with faults.
//!
//! Here is a test of a sign-up that greets by mail, and tries again when the mail server is busy:
//!
//! ```
//! use std::sync::atomic::{AtomicUsize, Ordering};
//! use std::time::Duration;
//!
//! use serde::{Deserialize, Serialize};
//! use steadfast_actors::jobs::testing::TestJobs;
//! use steadfast_actors::jobs::{Job, JobCx, JobError, JobResult, JobState, Jobs, JobsError};
//!
//! #[derive(Debug, Serialize, Deserialize)]
//! struct Welcome {
//!     address: String,
//! }
//!
//! impl Job for Welcome {
//!     const KIND: &'static str = "welcome";
//! }
//!
//! /// What is tested: the code that enqueues …
//! async fn sign_up(jobs: &Jobs, address: &str) -> Result<(), JobsError> {
//!     // … makes the account, and then:
//!     jobs.enqueue(Welcome { address: address.into() }).unique(address).await?;
//!     Ok(())
//! }
//!
//! /// … and the handler, with a mail server that is busy at first.
//! async fn welcome(job: Welcome, server: &AtomicUsize) -> JobResult {
//!     if server.fetch_add(1, Ordering::Relaxed) == 0 {
//!         return Err(JobError::retry(format!("busy, {} must wait", job.address)));
//!     }
//!     Ok(())
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), JobsError> {
//! // In a test of yours: #[tokio::test] or #[actix::test].
//! static SERVER: AtomicUsize = AtomicUsize::new(0);
//! let handler = |job: Welcome, _: JobCx| welcome(job, &SERVER);
//! let mut kit = TestJobs::new(|builder| builder.handle(handler)).await?;
//!
//! sign_up(kit.jobs(), "ada@example.com").await?;
//! sign_up(kit.jobs(), "ada@example.com").await?;
//!
//! // Enqueued once, whoever asked twice.
//! let mail = kit.assert_enqueued(|mail: &Welcome| mail.address == "ada@example.com");
//! assert_eq!(kit.enqueued::<Welcome>().len(), 1);
//!
//! // The server is busy: the mail is put off.
//! let report = kit.run_due().await;
//! assert_eq!((report.failed(), report.done()), (1, 0));
//! assert!(kit.run_due().await.runs.is_empty(), "its time has not come");
//!
//! // Seconds later, of which none passes here, it is sent.
//! kit.run_for(Duration::from_secs(10)).await;
//! let info = kit.info(mail.id);
//! assert_eq!((info.state, info.attempt), (JobState::Done, 2));
//! kit.refute_enqueued::<Welcome>();
//! # Ok(())
//! # }
//! ```
//!
//! # The kit
//!
//! [`TestJobs`] is a whole queue: [`TestJobs::jobs`] gives the very [`Jobs`](super::Jobs) that
//! the service has. Claims, attempts, timeouts, back-off, panics, kinds without a handler, expiry,
//! parking and the tables are those of the service, by the same code. What is different:
//!
//! - Time stands still until the test moves it: days pass in milliseconds. All jitter is the
//!   same with every run.
//! - Nothing runs by itself: [`run_due`](TestJobs::run_due) and its like do it, one job after
//!   the other, in the test's own task.
//! - There is one process and no actor: no heartbeat, no rescue, no guard that looks (but
//!   [`TestJobs::set_level`]), and nothing is pruned.
//! - A handler's timeout and a breaker's pause go by clocks of their own. Under a paused tokio
//!   clock (`#[tokio::test(start_paused = true)]`) a handler that hangs is out of time at once;
//!   a breaker takes a [manual clock](crate::breaker::Clock::manual).
//!
//! # Faults
//!
//! [`Faults`] make any operation of the store fail, hang, happen twice, or lose its answer: in
//! the kit, and in a queue with actors on any database, for
//! [`JobsBuilder::wrap`](super::JobsBuilder::wrap) is all they need.

mod faults;
mod kit;
mod report;
mod seen;

#[cfg(test)]
mod tests;

pub use faults::{FaultStore, Faults, Operation};
pub use kit::TestJobs;
pub use report::{JobRun, RunEnd, RunReport};
pub use seen::{DeadJob, EnqueuedJob};
