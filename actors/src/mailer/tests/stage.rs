//! A mailer on a real database, with providers that say what a test wants.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::jobs::store::Beat;
use crate::jobs::tests::{Base, eventually};
use crate::jobs::tx::{Row, Rows, Value, transact};
use crate::jobs::{JobId, JobInfo, Jobs, NodeId};
use crate::kernel::Tree;
use crate::mailer::provider::{
    Answer, Capabilities, EncodeError, Idempotency, MailProvider, Outcome, TransportError,
    WireRequest,
};
use crate::mailer::{
    Mail, MailId, MailState, MailStatus, Mailbox, Mailer, MailerBuilder, ProviderSpec,
};
use crate::store::{Store, StoreError, WallClock};

/// What a provider does next.
#[derive(Debug, Clone)]
pub(super) enum Act {
    Say(Outcome),
    Fail(TransportError),
    Panic,
    Hang,
    /// Accepts when it is told to.
    Wait(Arc<Notify>),
}

/// A provider that does what it is told, and accepts when it is told nothing.
#[derive(Debug, Clone)]
pub(super) struct Script(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: &'static str,
    capabilities: Capabilities,
    acts: Mutex<VecDeque<Act>>,
    always: Mutex<Option<Act>>,
    sent: Mutex<Vec<WireRequest>>,
    encodes: AtomicBool,
}

impl Script {
    pub(super) fn new(name: &'static str, idempotency: Idempotency) -> Self {
        let capabilities = Capabilities { idempotency, max_bytes: 1 << 20, max_recipients: 50 };
        Self(Arc::new(Inner {
            name,
            capabilities,
            acts: Mutex::default(),
            always: Mutex::default(),
            sent: Mutex::default(),
            encodes: AtomicBool::new(true),
        }))
    }

    pub(super) fn next(&self, act: Act) {
        self.0.acts.lock().push_back(act);
    }

    pub(super) fn always(&self, act: Act) {
        *self.0.always.lock() = Some(act);
    }

    /// Whether it can carry any mail from here on.
    pub(super) fn carries(&self, any: bool) {
        self.0.encodes.store(any, Ordering::Relaxed);
    }

    pub(super) fn sent(&self) -> Vec<WireRequest> {
        self.0.sent.lock().clone()
    }

    fn act(&self) -> Act {
        let next = self.0.acts.lock().pop_front().or_else(|| self.0.always.lock().clone());
        next.unwrap_or_else(|| Act::Say(accepted()))
    }
}

pub(super) fn accepted() -> Outcome {
    Outcome::Accepted { provider_id: Some("p-1".into()), recipients: Vec::new() }
}

impl MailProvider for Script {
    fn name(&self) -> &str {
        self.0.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.0.capabilities
    }

    /// Different each time, as a template that changed.
    fn encode(&self, id: MailId, _: &Mail) -> Result<WireRequest, EncodeError> {
        if !self.0.encodes.load(Ordering::Relaxed) {
            return Err(EncodeError::Unsupported { what: "anything" });
        }
        Ok(WireRequest {
            url: "http://127.0.0.1/".to_owned(),
            headers: Vec::new(),
            body: fastrand::u64(..).to_be_bytes().to_vec(),
            idempotency_key: Some(id.to_string()),
        })
    }

    fn send<'a>(
        &'a self,
        request: &'a WireRequest,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Answer, TransportError>> {
        self.0.sent.lock().push(request.clone());
        async move {
            let outcome = match self.act() {
                Act::Say(outcome) => outcome,
                Act::Fail(error) => return Err(error),
                Act::Panic => panic!("the provider panicked"),
                Act::Hang => {
                    tokio::time::sleep(timeout).await;
                    let late = crate::mailer::provider::AmbiguousCause::Timeout;
                    return Err(TransportError::Ambiguous(late));
                }
                Act::Wait(go) => {
                    go.notified().await;
                    accepted()
                }
            };
            Ok(Answer { outcome, http_status: Some(200), code: None, rate: None })
        }
        .boxed()
    }
}

/// A mailer that runs.
pub(super) struct Stage {
    pub(super) mailer: Mailer,
    pub(super) jobs: Jobs,
    pub(super) store: Store,
    tree: Tree,
}

impl Stage {
    pub(super) async fn start(
        base: &Base,
        providers: &[&Script],
        change: impl FnOnce(MailerBuilder) -> MailerBuilder,
    ) -> Self {
        Self::start_at(base, WallClock::system(), providers, change).await
    }

    /// By this clock.
    pub(super) async fn start_at(
        base: &Base,
        clock: WallClock,
        providers: &[&Script],
        change: impl FnOnce(MailerBuilder) -> MailerBuilder,
    ) -> Self {
        let (store, tree) = (base.open().await, Tree::new());
        let builder = change(Mailer::builder(&store));
        let add = |builder: MailerBuilder, script: &&Script| {
            builder.provider(ProviderSpec::new((*script).clone()))
        };
        let mailer = providers.iter().fold(builder, add).build(&tree).unwrap();
        let jobs = Jobs::builder(&store).clock(clock);
        let jobs = jobs.beat_every(Duration::from_millis(50)).threads(2);
        let jobs = mailer.declare(jobs).start(&tree).await.unwrap();
        drop(mailer.start(&jobs, &tree));
        Self { mailer, jobs, store, tree }
    }

    pub(super) async fn send(&self, mail: Mail) -> MailId {
        self.mailer.enqueue(mail).await.unwrap().id()
    }

    pub(super) async fn status(&self, id: MailId) -> MailStatus {
        self.mailer.find(id).await.unwrap().expect("the mail is known")
    }

    pub(super) async fn reaches(&self, id: MailId, state: MailState) -> MailStatus {
        let reached = async || Some(self.status(id).await).filter(|mail| mail.state == state);
        eventually(reached, &format!("a mail is {state}")).await
    }

    /// Takes the jobs away, as an operator's statement might. How many.
    pub(super) async fn store_job_away(&self) -> usize {
        self.rows("delete from {job} returning 1", Vec::new()).await
    }

    /// Makes all mails older.
    pub(super) async fn age(&self, by: Duration) {
        let sql = "update {mail} set updated_at = updated_at - ?1 returning 1";
        self.rows(sql, vec![crate::store::millis(by).into()]).await;
    }

    /// Makes all attempts so old that no provider knows their keys. How many.
    pub(super) async fn forget_keys(&self) -> usize {
        let sql = "update {mail_attempt} set started_at = started_at - 86400000 returning 1";
        let attempts = self.rows(sql, Vec::new()).await;
        let sql =
            "update {mail_wire} set first_attempt_at = first_attempt_at - 86400000 returning 1";
        self.rows(sql, Vec::new()).await;
        attempts
    }

    /// Gives the job that runs to another process, which lives.
    pub(super) async fn steal_job(&self) {
        let node = NodeId::fresh();
        let beat = Beat { node, name: "other".into(), presence: None, report: "{}".into() };
        self.jobs.store().beat(beat, self.jobs.clock().now()).await.unwrap();
        let sql = "update {job} set run = run + 1, node = ?1 where state = 1 returning 1";
        assert_eq!(self.rows(sql, vec![node.to_string().as_str().into()]).await, 1);
    }

    /// As a rescue does, if it has not yet: anybody may take the jobs now.
    pub(super) async fn give_jobs_back(&self) {
        let sql = "update {job} set state = 0, node = null, started_at = null, run = run + 1
            where state = 1 returning 1";
        self.rows(sql, Vec::new()).await;
    }

    /// The ledger of a process that died while this provider was asked.
    pub(super) async fn begun_elsewhere(&self, id: MailId, provider: &str) {
        let begin = "insert into {mail_attempt} (mail_id, n, run, provider, started_at)
            select ?1, coalesce(max(n), 0) + 1, 1, ?2, ?3 from {mail_attempt} where mail_id = ?1
            returning n";
        let now = self.jobs.clock().now().0;
        let params = vec![Value::from(id.as_bytes()), provider.into(), now.into()];
        assert_eq!(self.rows(begin, params).await, 1);
        let sends = "update {mail} set state = 'sending' where id = ?1 returning 1";
        assert_eq!(self.rows(sends, vec![Value::from(id.as_bytes())]).await, 1);
    }

    /// The job that a mail has now.
    pub(super) async fn job(&self, id: MailId) -> JobInfo {
        let sql = "select job_id from {mail} where id = ?1";
        let mut rows = self.query(sql, vec![Value::from(id.as_bytes())]).await;
        let job = JobId(rows[0].int(0).unwrap());
        self.jobs.find(job).await.unwrap().expect("the mail has a job")
    }

    /// Runs the job of a mail now.
    pub(super) async fn hurry(&self, id: MailId) {
        assert!(self.jobs.retry(self.job(id).await.id).await.unwrap());
    }

    /// The same, unless it runs already or is over.
    pub(super) async fn hurry_if_it_waits(&self, id: MailId) {
        let sql = "select job_id from {mail} where id = ?1";
        let mut rows = self.query(sql, vec![Value::from(id.as_bytes())]).await;
        if let Some(job) = rows[0].int_or_none(0).unwrap() {
            let _runs = self.jobs.retry(JobId(job)).await.unwrap();
        }
    }

    /// How many rows a table of the mailer has.
    pub(super) async fn count(&self, sql: &'static str) -> i64 {
        self.query(sql, Vec::new()).await[0].int(0).unwrap()
    }

    pub(super) async fn rows(&self, sql: &'static str, params: Vec<Value>) -> usize {
        self.query(sql, params).await.len()
    }

    async fn query(&self, sql: &'static str, params: Vec<Value>) -> Vec<Row> {
        let rows: Result<Vec<Row>, StoreError> =
            transact!(&self.store, tx => tx.rows(sql, &params));
        rows.unwrap()
    }

    pub(super) async fn stop(self) {
        self.jobs.drain(Duration::from_secs(5)).await;
        self.tree.stop(Duration::from_secs(5)).await;
        self.store.close().await;
    }
}

pub(super) fn mail_to(address: &str, words: &str) -> Mail {
    let from = Mailbox::parse("shop@example.com").unwrap();
    let to = Mailbox::parse(address).unwrap();
    Mail::builder(from, [to]).subject(words.parse().unwrap()).text(words).build().unwrap()
}

pub(super) fn mail(words: &str) -> Mail {
    mail_to("ada@example.com", words)
}

/// The words of the ledger.
pub(super) fn outcomes(mail: &MailStatus) -> Vec<String> {
    let of = |attempt: &crate::mailer::Attempt| {
        format!("{} {}", attempt.provider, attempt.outcome.as_deref().unwrap_or("open"))
    };
    mail.attempts.iter().map(of).collect()
}
