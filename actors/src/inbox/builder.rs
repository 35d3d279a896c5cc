//! Declaring an inbox.

use std::collections::HashMap;
use std::error::Error;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio_postgres::Transaction;

use super::actor::InboxActor;
use super::core::{Core, Known, Shared};
use super::counts::{Counter, Tally};
use super::error::InboxError;
use super::event::StoredEvent;
use super::handle::Inbox;
use super::handlers::{EventCx, Handler, Handlers};
use super::raw_json::RawJson;
use super::run::{self, EventJob, Prune};
use super::source::Source;
use super::store::Enqueuer;
use super::upcast::Upcasters;
use crate::jobs::{Backoff, Class, JobPolicy, JobResult, Jobs, JobsBuilder, JobsError, Schedule};
use crate::kernel::{Exhausted, Group, Spec, Strategy, Tree};
use crate::store::{SqliteTx, Store};

/// LIMIT: deliveries that are being stored at a time.
const DELIVERIES: usize = 1_024;
/// LIMIT: sources of an inbox.
const SOURCES_MAX: usize = 256;
/// How long the crashed actor rests when it crashes again and again.
const REST: Duration = Duration::from_secs(5);
const KEEP: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(3_600)..=Duration::from_secs(3_650 * 86_400);

/// Declares an inbox: its sources, handlers and bounds.
#[must_use = "nothing is received until it is registered and started"]
#[derive(Debug)]
pub struct InboxBuilder {
    store: Store,
    sources: Vec<Source>,
    handlers: Handlers,
    upcasters: Upcasters,
    policy: JobPolicy,
    class: Class,
    keep_for: Duration,
    keep_dead_for: Duration,
    /// The first thing that was wrong; told by `register`.
    failed: Option<InboxError>,
}

impl Inbox {
    /// Declares an inbox in this store, which must be that of its job queue.
    pub fn builder(store: &Store) -> InboxBuilder {
        InboxBuilder {
            store: store.clone(),
            sources: Vec::new(),
            handlers: Handlers::default(),
            upcasters: Upcasters::default(),
            policy: JobPolicy::default(),
            class: Class::default(),
            keep_for: Duration::from_secs(30 * 86_400),
            keep_dead_for: Duration::from_secs(90 * 86_400),
            failed: None,
        }
    }
}

impl InboxBuilder {
    /// Adds a source; up to 256.
    pub fn source(mut self, source: Source) -> Self {
        let checked = source.check();
        self.note(checked);
        if self.sources.iter().any(|known| known.name == source.name) {
            self.note(Err(InboxError::Taken(Arc::clone(&source.name))));
        }
        self.sources.push(source);
        self
    }

    /// Handles the events of a type, or with `*` those of every type that has no handler of its
    /// own. The event is done when this has returned `Ok`.
    ///
    /// The handler runs **at least once** for each event. What it does in the inbox's own database
    /// happens exactly once if it ends the event in its own transaction, with
    /// [`EventCx::complete_in`] or [`EventCx::complete_in_postgres`]; what is done elsewhere must
    /// bear repetition.
    pub fn on<F, Run>(mut self, source: &str, event_type: &str, handler: F) -> Self
    where
        F: Fn(StoredEvent, EventCx) -> Run + Send + Sync + 'static,
        Run: Future<Output = JobResult> + Send + 'static,
    {
        let added = self.handlers.add(source, event_type, Handler::future(handler));
        self.note(added);
        self
    }

    /// The same in the very transaction that ends the event, on SQLite: what it writes is there
    /// exactly once, or not at all. It blocks all other writes, so let it be short and wait for
    /// nothing.
    pub fn on_sqlite<F>(mut self, source: &str, event_type: &str, handler: F) -> Self
    where
        F: Fn(&StoredEvent, &SqliteTx<'_>) -> JobResult + Send + Sync + 'static,
    {
        let added = self.handlers.add(source, event_type, Handler::Sqlite(Arc::new(handler)));
        self.note(added);
        self
    }

    /// The same in the very transaction that ends the event, on PostgreSQL.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use steadfast_actors::inbox::InboxBuilder;
    ///
    /// # fn example(inbox: InboxBuilder) -> InboxBuilder {
    /// inbox.on_postgres("payments", "invoice.paid", |event, tx| {
    ///     Box::pin(async move {
    ///         let insert = "insert into payment (event) values ($1)";
    ///         tx.execute(insert, &[&&*event.info.event_id]).await?;
    ///         Ok(())
    ///     })
    /// })
    /// # }
    /// ```
    pub fn on_postgres<F>(mut self, source: &str, event_type: &str, handler: F) -> Self
    where
        F: for<'a> Fn(&'a StoredEvent, &'a Transaction<'a>) -> BoxFuture<'a, JobResult>
            + Send
            + Sync
            + 'static,
    {
        let added = self.handlers.add(source, event_type, Handler::Postgres(Arc::new(handler)));
        self.note(added);
        self
    }

    /// Makes one version of a type of events into the next when it is read, so that handlers know
    /// the newest only; upcasters are applied one after the other. What is stored stays as it came.
    ///
    /// `from` is the version as the envelope has it, empty where it has none. An event that an
    /// upcaster fails on, or makes larger than four times what its source may send, is dead.
    pub fn upcast<F>(
        mut self,
        source: &str,
        event_type: &str,
        from: &str,
        to: &str,
        upcaster: F,
    ) -> Self
    where
        F: Fn(&RawJson) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> + Send + Sync + 'static,
    {
        let added = self.upcasters.add(source, event_type, from, to, Box::new(upcaster));
        self.note(added);
        self
    }

    /// Runs of an event in all, the first included. Default 10; 1 to 100. Then it is dead.
    pub fn max_attempts(mut self, attempts: u16) -> Self {
        self.policy = self.policy.max_attempts(attempts);
        self
    }

    /// The longest a run may take. Default 60 s; 1 ms to 24 hours.
    pub fn timeout(mut self, within: Duration) -> Self {
        self.policy = self.policy.timeout(within);
        self
    }

    /// The pause before the next run of one that failed. Default 5 s, doubling to 1 hour, full
    /// jitter.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.policy = self.policy.backoff(backoff);
        self
    }

    /// How dear the events are when there is more work than can be done. Default
    /// [`Class::Normal`]. When their queue takes no more, deliveries are refused with
    /// `Retry-After`.
    pub const fn class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// How long events are kept after they were received. Default 30 days; 1 hour to 10 years, and
    /// no shorter than any source's window. For so long an event that comes again is known to be a
    /// duplicate: senders try for days.
    pub const fn keep_for(mut self, period: Duration) -> Self {
        self.keep_for = period;
        self
    }

    /// How long dead events are kept after they were received. Default 90 days; 1 hour to 10
    /// years; no shorter than [`keep_for`](Self::keep_for).
    pub const fn keep_dead_for(mut self, period: Duration) -> Self {
        self.keep_dead_for = period;
        self
    }

    /// Adds what handles events to a job queue: the jobs `inbox.event` and `inbox.prune`, in the
    /// queue `inbox`. Start the queue, and then the inbox with it.
    ///
    /// # Errors
    ///
    /// [`InboxError`] names what is wrong with the declaration.
    pub fn register(self, jobs: JobsBuilder) -> Result<(RegisteredInbox, JobsBuilder), InboxError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        self.check()?;
        let Self { policy, class, .. } = self;
        let known =
            |source: Source| (Arc::clone(&source.name), Known { source, tally: Tally::default() });
        let core = Arc::new(Core {
            store: self.store,
            sources: self.sources.into_iter().map(known).collect::<HashMap<_, _>>(),
            handlers: self.handlers,
            upcasters: self.upcasters,
            unknown_source: Counter::default(),
            keep_for: self.keep_for,
            keep_dead_for: self.keep_dead_for,
            shared: OnceLock::new(),
            clock: OnceLock::new(),
        });
        let hourly = Schedule::parse("17 * * * *", "UTC").map_err(JobsError::from)?;
        let (handles, prunes) = (Arc::clone(&core), Arc::clone(&core));
        let jobs = jobs
            .handle_as(policy, move |job: EventJob, cx| run::run(Arc::clone(&handles), job, cx))
            .handle(move |_: Prune, cx| run::prune(Arc::clone(&prunes), cx))
            .cron("inbox.prune", hourly, Duration::from_secs(86_400), &Prune {});
        Ok((RegisteredInbox { core, class }, jobs))
    }

    fn check(&self) -> Result<(), InboxError> {
        let invalid = |setting, expected| Err(InboxError::InvalidSetting { setting, expected });
        if !(1..=SOURCES_MAX).contains(&self.sources.len()) {
            return invalid("sources", "1 to 256");
        }
        let is_known = |name: &str| self.sources.iter().any(|source| *source.name == *name);
        if !self.handlers.sources().chain(self.upcasters.sources()).all(is_known) {
            return invalid("source of a handler or upcaster", "one that is declared");
        }
        if !self.handlers.fit(&self.store) {
            return Err(InboxError::ForeignTransaction);
        }
        if !KEEP.contains(&self.keep_for) || !KEEP.contains(&self.keep_dead_for) {
            return invalid("keep_for and keep_dead_for", "1 hour to 10 years");
        }
        let window = |source: &Source| source.window.past + source.window.future;
        if self.sources.iter().map(window).any(|window| window > self.keep_for) {
            return invalid("keep_for", "no shorter than the window of a source");
        }
        if self.keep_dead_for < self.keep_for {
            return invalid("keep_dead_for", "no shorter than keep_for");
        }
        self.upcasters.check()
    }

    /// Takes the place of a source of this name, as a later version of the program has it.
    #[cfg(test)]
    pub(super) fn replace_source(&mut self, source: Source) {
        self.sources.retain(|known| known.name != source.name);
        self.sources.push(source);
    }

    fn note(&mut self, outcome: Result<(), InboxError>) {
        if let Err(error) = outcome {
            self.failed.get_or_insert(error);
        }
    }
}

/// An inbox whose handlers a job queue has, and that receives nothing yet.
#[must_use = "nothing is received until it is started"]
#[derive(Debug)]
pub struct RegisteredInbox {
    core: Arc<Core>,
    class: Class,
}

impl RegisteredInbox {
    /// Starts the inbox's actor in `tree`, on this thread. `jobs` is the queue that it was
    /// registered with.
    ///
    /// # Panics
    ///
    /// Outside of an actix runtime or a tokio `LocalSet`.
    #[must_use]
    pub fn start(self, tree: &Tree, jobs: &Jobs) -> Inbox {
        let mut group = Group::new(tree, "inbox", Strategy::OneForOne);
        let inbox = self.add_to(&mut group, jobs);
        group.start();
        inbox
    }

    /// Adds the inbox's actor to a group that starts later.
    #[must_use]
    pub fn add_to(self, group: &mut Group, jobs: &Jobs) -> Inbox {
        let Self { core, class } = self;
        let enqueuer = Enqueuer { jobs: jobs.clone(), class };
        let shared = Arc::new(Shared { core, enqueuer });
        // Neither can be set already: this value is the only one that sets them, once.
        let _first = shared.core.shared.set(Arc::downgrade(&shared));
        let _first = shared.core.clock.set(jobs.clock().clone());
        let own = Arc::clone(&shared);
        let spec = Spec::new("inbox", move || InboxActor::new(Arc::clone(&own)));
        let spec = spec.capacity(DELIVERIES).exhausted(Exhausted::Quarantine { cooldown: REST });
        let actor = group.add(spec);
        Inbox::new(shared, actor)
    }
}
