//! The tables of the job queue in PostgreSQL.
//!
//! # Guarantees
//!
//! - An end of a run changes something only while that run is not over: it matches the job and
//!   the run, nothing else.
//! - Claims skip what others have locked, so processes never wait for each other, and take no
//!   longer when many jobs wait for a later time or are parked.
//! - Single jobs of many callers share one commit.
//! - Whoever waits is woken after the commit, here at once and elsewhere by a notification.
//!
//! Rows are locked in the order of their ids or keys, so that transactions do not wait for each
//! other in a circle. Statements are planned for the values at hand: the store's connections
//! keep no general plans.

mod cron;
mod dead;
mod decode;
mod exact;
mod guard;
mod insert;
mod nodes;
mod rescue;
mod runs;
mod session;
mod settle;
mod step;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio_postgres::types::Type;

use super::{
    Beat, Cancelled, Claim, Counts, CronRow, DeadFilter, Depths, Inserted, JobInfo, JobStore,
    NewJob, Pruned, Pulse, QueueRow, Replayed, Rescued, RunError, Settle, Step, Stored,
};
use crate::jobs::{Class, JobId, NodeId, RunKey};
use crate::store::postgres::{Batch, Group};
use crate::store::{PgClient, PgStore, StoreError, Timestamp, Wakes, postgres};
#[cfg(feature = "sqlx")]
pub(crate) use session::SqlxConnection;
pub(crate) use session::{Param, Row, Session, Told, defect};

/// The name that stands for all queues.
const ALL_QUEUES: &str = "*";

/// The job queue in a PostgreSQL database. Cheap to clone; clones share their batches.
#[derive(Debug, Clone)]
pub(crate) struct PgJobs {
    store: PgStore,
    sql: Arc<PgSql>,
    group: Group<Singles>,
}

impl PgJobs {
    /// On the tables of `store`.
    pub(crate) fn new(store: PgStore) -> Self {
        let sql = Arc::new(PgSql::of(&store));
        let group = Group::new(store.clone(), Singles(Arc::clone(&sql)));
        Self { store, sql, group }
    }

    /// Stores a job in a transaction that somebody else has begun. The other processes, and
    /// this one, hear of it when that is committed.
    ///
    /// # Errors
    ///
    /// As any statement of that transaction.
    pub(crate) async fn insert_in(
        &self,
        session: Session<'_>,
        job: &NewJob,
        now: Timestamp,
    ) -> Result<Inserted, StoreError> {
        let jobs = [(job.clone(), now)];
        let inserted = insert::insert_all(session, &self.sql, &jobs).await?;
        if !ready(&jobs, &inserted).is_empty() {
            self.notify_in(session, &job.queue).await?;
        }
        inserted.first().copied().ok_or_else(|| defect("a job has no answer"))
    }

    /// Ends a run in a transaction that somebody else has begun. `false`: it was over before,
    /// so that the transaction must be rolled back.
    ///
    /// # Errors
    ///
    /// As any statement of that transaction.
    pub(crate) async fn complete_in(
        &self,
        session: Session<'_>,
        settle: &Settle,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let (ended, ready) = step::complete(session, &self.sql, settle, now).await?;
        for queue in ready {
            self.notify_in(session, &queue).await?;
        }
        Ok(ended)
    }

    async fn notify_in(&self, session: Session<'_>, queue: &str) -> Result<(), StoreError> {
        if let Some(told) = session.told() {
            told.note(queue);
            return Ok(());
        }
        let (channel, payload) = (self.store.schema(), postgres::payload(queue));
        let params: [Param<'_>; 2] = [(&channel, Type::TEXT), (&payload, Type::TEXT)];
        session.rows(postgres::NOTIFY, &params).await.map(drop)
    }

    /// Runs work with a connection.
    fn with<T, F>(
        &self,
        work: impl FnOnce(PgClient, Arc<PgSql>) -> F + Send + 'static,
    ) -> impl Future<Output = Result<T, StoreError>> + Send + 'static
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let sql = Arc::clone(&self.sql);
        self.store.run(move |client| work(client, sql))
    }

    /// Runs work and wakes who waits for the queues in which it made jobs ready.
    fn with_wakes<T, F>(
        &self,
        work: impl FnOnce(PgClient, Arc<PgSql>) -> F + Send + 'static,
    ) -> Stored<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<(T, Vec<Arc<str>>), StoreError>> + Send + 'static,
    {
        let (done, store) = (self.with(work), self.store.clone());
        Box::pin(async move {
            let (answer, queues) = done.await?;
            queues.iter().for_each(|queue| wake(&store, queue));
            Ok(answer)
        })
    }
}

impl JobStore for PgJobs {
    fn wakes(&self) -> &Wakes {
        self.store.wakes()
    }

    fn insert(&self, jobs: Vec<NewJob>, now: Timestamp) -> Stored<Vec<Inserted>> {
        let mut jobs: Vec<_> = jobs.into_iter().map(|job| (job, now)).collect();
        if let [(job, _)] = &*jobs
            && insert::is_plain(job)
            && let Some(single) = jobs.pop()
        {
            return self.insert_single(single);
        }
        self.with_wakes(move |client, sql| async move {
            let inserted = insert::insert(client, sql, &jobs).await?;
            let ready = ready(&jobs, &inserted);
            Ok((inserted, ready))
        })
    }

    fn step(&self, settles: Vec<Settle>, claim: Option<Claim>, now: Timestamp) -> Stored<Step> {
        self.with_wakes(move |client, sql| step::step(client, sql, settles, claim, now))
    }

    fn begin_suspect(&self, key: RunKey, now: Timestamp) -> Stored<bool> {
        Box::pin(self.with(async move |client, sql| {
            runs::begin_suspect(Session::single(&client), &sql, key, now).await
        }))
    }

    fn progress(&self, reports: Vec<(RunKey, Arc<str>)>) -> Stored<()> {
        Box::pin(self.with(async move |client, sql| {
            runs::progress(Session::single(&client), &sql, reports).await
        }))
    }

    fn cancel(&self, id: JobId, now: Timestamp) -> Stored<Cancelled> {
        Box::pin(self.with(async move |client, sql| runs::cancel(client, sql, id, now).await))
    }

    fn retry(&self, id: JobId, now: Timestamp) -> Stored<bool> {
        self.with_wakes(async move |client, sql| {
            let ready = dead::retry(Session::single(&client), &sql, id, now).await?;
            Ok((ready.is_some(), ready.into_iter().collect()))
        })
    }

    fn find(&self, id: JobId) -> Stored<Option<JobInfo>> {
        Box::pin(
            self.with(async move |client, sql| {
                runs::find(Session::single(&client), &sql, id).await
            }),
        )
    }

    fn errors(&self, id: JobId) -> Stored<Vec<(RunKey, Timestamp, RunError)>> {
        Box::pin(
            self.with(async move |client, sql| {
                runs::errors(Session::single(&client), &sql, id).await
            }),
        )
    }

    fn beat(&self, beat: Beat, now: Timestamp) -> Stored<Pulse> {
        Box::pin(self.with(async move |client, sql| {
            nodes::beat(Session::single(&client), &sql, &beat, now).await
        }))
    }

    fn runs_of(&self, node: NodeId, before: Timestamp) -> Stored<Vec<RunKey>> {
        Box::pin(self.with(async move |client, sql| {
            runs::runs_of(Session::single(&client), &sql, node, before).await
        }))
    }

    fn rescue(&self, dead: Vec<NodeId>, poison_after: i16, now: Timestamp) -> Stored<Rescued> {
        self.with_wakes(move |client, sql| rescue::rescue(client, sql, dead, poison_after, now))
    }

    fn leave(&self, node: NodeId) -> Stored<()> {
        Box::pin(self.with(async move |client, sql| {
            nodes::leave(Session::single(&client), &sql, node).await
        }))
    }

    fn elect(
        &self,
        name: &'static str,
        node: NodeId,
        until: Timestamp,
        now: Timestamp,
    ) -> Stored<Option<i64>> {
        Box::pin(self.with(async move |client, sql| {
            nodes::elect(Session::single(&client), &sql, name, node, until, now).await
        }))
    }

    fn resign(&self, name: &'static str, node: NodeId, term: i64) -> Stored<()> {
        Box::pin(self.with(async move |client, sql| {
            nodes::resign(Session::single(&client), &sql, name, node, term).await
        }))
    }

    fn depths(&self, queue: Arc<str>, limit: u32, now: Timestamp) -> Stored<Depths> {
        Box::pin(self.with(async move |client, sql| {
            guard::depths(Session::single(&client), &sql, &queue, limit, now).await
        }))
    }

    fn park(&self, dependency: Arc<str>, limit: u32) -> Stored<u64> {
        Box::pin(self.with(async move |client, sql| {
            guard::park(Session::single(&client), &sql, &dependency, limit).await
        }))
    }

    fn release(&self, dependency: Arc<str>, limit: u32, now: Timestamp) -> Stored<u64> {
        self.with_wakes(async move |client, sql| {
            guard::release(Session::single(&client), &sql, &dependency, limit, now).await
        })
    }

    fn parked(&self, limit: u32) -> Stored<Vec<(Arc<str>, u64)>> {
        Box::pin(self.with(async move |client, sql| {
            guard::parked(Session::single(&client), &sql, limit).await
        }))
    }

    fn pull_forward(&self, queue: Arc<str>, limit: u32, now: Timestamp) -> Stored<u64> {
        self.with_wakes(async move |client, sql| {
            guard::pull_forward(Session::single(&client), &sql, &queue, limit, now).await
        })
    }

    fn shed(
        &self,
        queue: Arc<str>,
        class: Option<Class>,
        limit: u32,
        now: Timestamp,
    ) -> Stored<u64> {
        Box::pin(self.with(async move |client, sql| {
            guard::shed(client, sql, queue, class, limit, now).await
        }))
    }

    fn pause(&self, queue: Arc<str>, paused: bool, now: Timestamp) -> Stored<()> {
        self.with_wakes(async move |client, sql| {
            guard::pause(Session::single(&client), &sql, &queue, paused, now).await?;
            Ok(((), if paused { Vec::new() } else { vec![queue] }))
        })
    }

    fn queues(&self) -> Stored<Vec<QueueRow>> {
        Box::pin(
            self.with(async move |client, sql| guard::queues(Session::single(&client), &sql).await),
        )
    }

    fn put_cron(&self, cron: CronRow) -> Stored<()> {
        Box::pin(
            self.with(async move |client, sql| {
                cron::put(Session::single(&client), &sql, &cron).await
            }),
        )
    }

    fn remove_cron(&self, name: Arc<str>) -> Stored<bool> {
        Box::pin(self.with(async move |client, sql| {
            cron::remove(Session::single(&client), &sql, &name).await
        }))
    }

    fn pause_cron(&self, name: Arc<str>, paused: bool) -> Stored<bool> {
        Box::pin(self.with(async move |client, sql| {
            cron::pause(Session::single(&client), &sql, &name, paused).await
        }))
    }

    fn crons(&self) -> Stored<Vec<CronRow>> {
        Box::pin(
            self.with(async move |client, sql| cron::all(Session::single(&client), &sql).await),
        )
    }

    fn tick_cron(
        &self,
        name: Arc<str>,
        from: Timestamp,
        to: Timestamp,
        jobs: Vec<NewJob>,
        now: Timestamp,
    ) -> Stored<bool> {
        self.with_wakes(async move |client, sql| {
            let jobs: Vec<_> = jobs.into_iter().map(|job| (job, now)).collect();
            let inserted = cron::tick(client, sql, name, from, to, &jobs).await?;
            let ready = inserted.as_ref().map(|inserted| ready(&jobs, inserted));
            Ok((inserted.is_some(), ready.unwrap_or_default()))
        })
    }

    fn dead(&self, filter: DeadFilter, limit: u32) -> Stored<Vec<JobInfo>> {
        Box::pin(self.with(async move |client, sql| {
            dead::list(Session::single(&client), &sql, &filter, limit).await
        }))
    }

    fn replay(&self, filter: DeadFilter, limit: u32, now: Timestamp) -> Stored<Replayed> {
        self.with_wakes(async move |client, sql| {
            dead::replay(Session::single(&client), &sql, &filter, limit, now).await
        })
    }

    fn prune(
        &self,
        done_before: Timestamp,
        dead_before: Timestamp,
        limit: u32,
        now: Timestamp,
    ) -> Stored<Pruned> {
        Box::pin(self.with(async move |client, sql| {
            dead::prune(Session::single(&client), &sql, done_before, dead_before, limit, now).await
        }))
    }

    fn counts(&self) -> Stored<Counts> {
        Box::pin(
            self.with(async move |client, sql| dead::counts(Session::single(&client), &sql).await),
        )
    }
}

impl PgJobs {
    fn insert_single(&self, job: insert::Enqueued) -> Stored<Vec<Inserted>> {
        let (group, store) = (self.group.clone(), self.store.clone());
        Box::pin(async move {
            let queue = (job.0.run_at <= job.1).then(|| Arc::clone(&job.0.queue));
            let inserted = group.store(job).await?;
            if let (Inserted::New(_), Some(queue)) = (inserted, queue) {
                wake(&store, &queue);
            }
            Ok(vec![inserted])
        })
    }
}

/// Single jobs of many callers.
#[derive(Debug)]
struct Singles(Arc<PgSql>);

impl Batch for Singles {
    type Item = insert::Enqueued;
    type Answer = Inserted;

    const ITEMS_MAX: usize = 512;

    fn bytes((job, _): &insert::Enqueued) -> usize {
        job.args.len()
    }

    fn is_kept(_: &insert::Enqueued) -> bool {
        true
    }

    async fn store(
        &self,
        store: &PgStore,
        jobs: Vec<insert::Enqueued>,
    ) -> Result<Vec<Inserted>, StoreError> {
        let sql = Arc::clone(&self.0);
        store.run(async move |client| insert::insert(client, sql, &jobs).await).await
    }
}

/// All statements, with the schema filled in.
#[derive(Debug)]
struct PgSql {
    cron: cron::CronSql,
    dead: dead::DeadSql,
    exact: exact::ExactSql,
    guard: guard::GuardSql,
    insert: insert::InsertSql,
    nodes: nodes::NodesSql,
    rescue: rescue::RescueSql,
    runs: runs::RunsSql,
    settle: settle::SettleSql,
    step: step::StepSql,
}

impl PgSql {
    fn of(store: &PgStore) -> Self {
        let fill = |template: &str| store.sql(template);
        Self {
            cron: cron::CronSql::new(&fill),
            dead: dead::DeadSql::new(&fill),
            exact: exact::ExactSql::new(&fill),
            guard: guard::GuardSql::new(&fill),
            insert: insert::InsertSql::new(&fill),
            nodes: nodes::NodesSql::new(&fill),
            rescue: rescue::RescueSql::new(&fill),
            runs: runs::RunsSql::new(&fill),
            settle: settle::SettleSql::new(&fill),
            step: step::StepSql::new(&fill),
        }
    }
}

/// The queues in which jobs were stored that are due.
fn ready(jobs: &[insert::Enqueued], inserted: &[Inserted]) -> Vec<Arc<str>> {
    let mut queues = Vec::new();
    for ((job, now), inserted) in jobs.iter().zip(inserted) {
        let stored = match inserted {
            Inserted::New(_) | Inserted::Replaced(_) => true,
            Inserted::Duplicate(_) | Inserted::QueueFull => false,
        };
        if stored && job.run_at <= *now && !queues.contains(&job.queue) {
            queues.push(Arc::clone(&job.queue));
        }
    }
    queues
}

/// Wakes who waits for a queue: here at once, elsewhere soon.
fn wake(store: &PgStore, queue: &str) {
    if queue == ALL_QUEUES {
        store.wakes().wake_all();
    } else {
        store.wakes().wake(queue);
    }
    store.notify(queue);
}
