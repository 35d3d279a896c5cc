//! The job that sends a mail: attempts, one after the other, each written down before it begins.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::core::Core;
use super::error::MailerError;
use super::lane::{Lane, Ticket};
use super::provider::{Answer, Idempotency, Outcome, RecipientStatus, TransportError, WireRequest};
use super::state::{
    self, AMBIGUOUS, Delivery, FREE, MailState, Next, OnUnknown, Situation, Verdict,
};
use super::store::{Attempt, Change, Ended, Opened, ProviderId, StoredMail};
use super::{Mail, MailId};
use crate::jobs::guard::Overload;
use crate::jobs::retry::Backoff;
use crate::jobs::{Class, Job, JobCx, JobError, JobPolicy, JobResult, JobsError};
use crate::store::Timestamp;

/// How often the end of an attempt is tried to be written down, and the first pause between.
const NOTE_TRIES: u32 = 6;
const NOTE_PAUSE: Duration = Duration::from_millis(100);
/// What is left of the run for its end to be written down.
const NOTE_TIME: Duration = Duration::from_secs(10);

/// The job that sends a mail.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Deliver {
    /// Which.
    pub mail: MailId,
}

impl Job for Deliver {
    const KIND: &'static str = "mail.deliver";
    const QUEUE: &'static str = "mail";
    const CLASS: Class = Class::Normal;

    /// Waiting for a provider costs none of the job's attempts: the mail has its own.
    fn policy() -> JobPolicy {
        JobPolicy::default()
            .max_attempts(100)
            .timeout(Duration::from_secs(600))
            .backoff(Backoff::default())
            .on_overload(Overload::Reject)
    }
}

/// Sends a mail, as far as one run gets.
pub(super) async fn deliver(core: Arc<Core>, job: Deliver, cx: JobCx) -> JobResult {
    let Some(opened) = core.open(job.mail).await? else {
        return Err(JobError::discard("there is no such mail"));
    };
    let Opened { mail, attempts, content, is_suppressed: suppressed } = opened;
    if !mail.state.is_open() {
        return Ok(());
    }
    let content = content.read()?.map(Arc::new);
    let (tried, refused) = (Vec::new(), None);
    let run = Run { core, cx, mail, content, suppressed, attempts, tried, refused };
    Box::pin(run.go()).await
}

/// One run of the job.
struct Run {
    core: Arc<Core>,
    cx: JobCx,
    mail: StoredMail,
    /// `None`: it was forgotten.
    content: Option<Arc<Mail>>,
    /// Whether a recipient was on the list a moment ago; `None`: that is to be looked up.
    suppressed: Option<bool>,
    attempts: Vec<Attempt>,
    /// Providers that took nothing in this run.
    tried: Vec<Arc<str>>,
    /// How the last of them refused.
    refused: Option<Verdict>,
}

/// What an attempt leaves to be done.
enum Step {
    /// Another provider.
    Next,
    /// The run is over.
    Over(JobResult),
}

impl Run {
    async fn go(mut self) -> JobResult {
        if let Some(result) = self.settle_cut_off().await? {
            return result;
        }
        loop {
            if let Some(result) = self.may_not_be_sent().await? {
                return result;
            }
            let core = Arc::clone(&self.core);
            let careful = self.mail.on_unknown != OnUnknown::Retry;
            let bound = self.bound();
            let step = match core.choose(bound.as_deref(), &self.tried, careful, Instant::now()) {
                Ok((lane, ticket)) => self.attempt(lane, ticket).await?,
                Err(wait) => Step::Over(self.nobody_takes_it(wait).await),
            };
            if let Step::Over(result) = step {
                return result;
            }
        }
    }

    /// Ends a mail that must not be sent any more.
    async fn may_not_be_sent(&mut self) -> Result<Option<JobResult>, JobError> {
        let late = self.mail.deadline.is_some_and(|deadline| deadline <= self.core.now());
        let in_doubt = self.is_doubtful();
        // Nobody would know it again.
        let forgotten =
            in_doubt && self.bound().is_none() && self.mail.on_unknown != OnUnknown::Retry;
        let next = if in_doubt && self.mail.delivery >= Delivery::Sent {
            Next::Accepted
        } else if late {
            Next::Expired
        } else if self.is_suppressed().await? {
            Next::Suppressed
        } else if forgotten {
            state::in_doubt(self.mail.on_unknown)
        } else {
            return Ok(None);
        };
        Ok(Some(self.end(next).await))
    }

    async fn is_suppressed(&mut self) -> Result<bool, JobError> {
        match (self.suppressed.take(), &self.content) {
            (Some(known), _) => Ok(known),
            (None, Some(content)) => Ok(self.core.is_suppressed(&self.mail, content).await?),
            (None, None) => Ok(false),
        }
    }

    /// An attempt that an earlier run began and did not end may have been accepted.
    async fn settle_cut_off(&mut self) -> Result<Option<JobResult>, JobError> {
        let open = |attempt: &&Attempt| attempt.finished_at.is_none();
        let Some(open) = self.attempts.iter().find(open).cloned() else { return Ok(None) };
        let first = self.core.wire(self.mail.id, &open.provider).await?;
        let first_at = first.map_or(open.started_at, |(_, at)| at);
        let situation = match self.core.lane(&open.provider) {
            Some(lane) => self.situation(lane, first_at, 0),
            // Who might have known its key is asked no more.
            None => self.circumstances(self.counted(), first_at),
        };
        let next = state::next(Verdict::Ambiguous, &situation);
        let Next::Again(_) = next else {
            return Ok(Some(self.conclude(cut_off(open.n), next, None).await));
        };
        // It is asked again under the same key, and at once: time has passed already.
        self.core.end_attempt(self.mail.id, cut_off(open.n)).await?;
        if let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.n == open.n) {
            attempt.outcome = Some(AMBIGUOUS.into());
            attempt.finished_at = Some(self.core.now());
        }
        Ok(None)
    }

    /// One attempt at a provider.
    async fn attempt(&mut self, lane: &Lane, ticket: Ticket) -> Result<Step, JobError> {
        let name: Arc<str> = lane.name().into();
        let Some((request, first_at)) = self.request(lane).await? else {
            return Ok(self.cannot_encode(name).await);
        };
        let n = self.begin(&name, &request).await?;
        let started_at = self.core.now();
        let answer = lane.provider.send(&request, self.time_left()).await;
        lane.learn(ticket, &answer, Instant::now());
        let verdict = Verdict::of(&answer);
        let counts = u16::from(!FREE.contains(&verdict.word()));
        let next =
            state::next(verdict, &self.situation(lane, first_at.unwrap_or(started_at), counts));
        // The end of the attempt matters more than this.
        if let Err(error) = self.suppress(&answer).await {
            tracing::warn!(mail = %self.mail.id, %error, "mailer.not_suppressed");
        }
        tracing::info!(
            mail = %self.mail.id, provider = &*name, attempt = n, outcome = verdict.word(),
            "mailer.attempted"
        );
        let (ended, id) = ended(n, verdict, &answer);
        let accepted_as = id.map(|id| ProviderId { provider: Arc::clone(&name), id });
        self.attempts.push(Attempt {
            n,
            run: self.cx.run().run,
            provider: Arc::clone(&name),
            outcome: Some(verdict.word().into()),
            http_status: ended.http_status,
            code: ended.code.clone(),
            started_at,
            finished_at: Some(self.core.now()),
        });
        if next == Next::FailOver {
            self.tried.push(name);
            self.refused = Some(verdict);
            let change = Change::to(self.mail.id, MailState::RetryWait);
            self.note(Some(ended), change).await?;
            return Ok(Step::Next);
        }
        Ok(Step::Over(self.conclude(ended, next, accepted_as).await))
    }

    async fn begin(&self, provider: &Arc<str>, request: &WireRequest) -> Result<u32, JobError> {
        let (run, id) = (self.cx.run(), self.mail.id);
        Ok(self.core.begin(run, id, Arc::clone(provider), request).await?)
    }

    /// The request as it was frozen, or a new one; `None`: this provider cannot send this mail.
    async fn request(
        &self,
        lane: &Lane,
    ) -> Result<Option<(WireRequest, Option<Timestamp>)>, JobError> {
        // It was frozen when the first attempt at this provider began.
        if self.attempts.iter().any(|attempt| *attempt.provider == *lane.name())
            && let Some((request, at)) = self.core.wire(self.mail.id, lane.name()).await?
        {
            return Ok(Some((request, Some(at))));
        }
        let Some(mail) = &self.content else {
            return Err(JobError::discard("the content of the mail was forgotten"));
        };
        match lane.provider.encode(self.mail.id, mail) {
            Ok(request) => Ok(Some((request, None))),
            Err(error) => {
                let provider = lane.name();
                tracing::warn!(mail = %self.mail.id, provider, %error, "mailer.not_encodable");
                Ok(None)
            }
        }
    }

    /// A mail that one provider cannot carry is for the others: those that refused it in this run
    /// may take it later.
    async fn cannot_encode(&mut self, name: Arc<str>) -> Step {
        self.tried.push(name);
        if self.core.others(&self.tried) {
            return Step::Next;
        }
        Step::Over(match self.refused {
            Some(refused) => self.refused_by_all(refused).await,
            None => self.end(Next::Dead("mailer.not_encodable")).await,
        })
    }

    /// Writes down what an attempt came to and what becomes of the mail.
    async fn conclude(
        &self,
        ended: Ended,
        next: Next,
        accepted_as: Option<ProviderId>,
    ) -> JobResult {
        let (state, code) = next.state();
        let mut change = Change::to(self.mail.id, state);
        change.code = code.map(Into::into).or_else(|| ended.code.clone());
        change.accepted_as = accepted_as;
        self.note(Some(ended), change).await?;
        if let Next::Again(at) = next {
            return Err(JobError::snooze(at.since(self.core.now())));
        }
        Ok(())
    }

    /// Ends the mail without a further attempt.
    async fn end(&self, next: Next) -> JobResult {
        let (state, code) = state::truth(next, self.is_doubtful(), self.mail.on_unknown).state();
        let mut change = Change::to(self.mail.id, state);
        change.code = code.map(Into::into);
        self.note(None, change).await
    }

    /// No provider takes it for now; some may have refused it in this run.
    async fn nobody_takes_it(&self, wait: Duration) -> JobResult {
        match self.refused {
            Some(refused) => self.refused_by_all(refused).await,
            None => self.wait(wait).await,
        }
    }

    async fn refused_by_all(&self, refused: Verdict) -> JobResult {
        let now = self.core.now();
        let next = state::next(refused, &self.circumstances(self.counted(), now));
        if let Next::Again(at) = next {
            return self.wait(at.since(now)).await;
        }
        self.end(next).await
    }

    /// No provider takes anything for now.
    async fn wait(&self, wait: Duration) -> JobResult {
        let late = |deadline: Timestamp| self.core.now().after(wait) >= deadline;
        if self.mail.deadline.is_some_and(late) {
            return self.end(Next::Expired).await;
        }
        Err(JobError::snooze(wait))
    }

    /// Writes it down, patiently: else a mail that was accepted would count as unknown.
    async fn note(&self, ended: Option<Ended>, change: Change) -> Result<(), JobError> {
        let mut pause = NOTE_PAUSE;
        for left in (0..NOTE_TRIES).rev() {
            match self.core.finish(&self.cx, ended.clone(), change.clone()).await {
                Ok(true) => return Ok(()),
                Ok(false) => return Err(JobsError::Fenced.into()),
                Err(MailerError::Store(error)) if left > 0 && error.is_transient() => {
                    sleep(pause).await;
                    pause *= 2;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(JobError::retry("the end of an attempt could not be written down"))
    }

    /// Recipients that the provider will never deliver to are asked no more.
    async fn suppress(&self, answer: &Result<Answer, TransportError>) -> Result<(), JobError> {
        let Ok(answer) = answer else { return Ok(()) };
        let recipients = match &answer.outcome {
            Outcome::RecipientRejected { recipients, suppress: true }
            | Outcome::Accepted { recipients, .. } => recipients.as_slice(),
            Outcome::RecipientRejected { .. }
            | Outcome::RequestRejected
            | Outcome::Misconfigured
            | Outcome::Throttled { .. }
            | Outcome::Unavailable { .. }
            | Outcome::Ambiguous(_)
            | Outcome::DuplicateKey
            | Outcome::KeyBusy => &[],
        };
        for one in recipients {
            let reason = match one.status {
                RecipientStatus::Inactive => "inactive",
                RecipientStatus::Invalid => "invalid",
            };
            self.core.suppress(&self.mail.tenant, &one.address, reason, "provider", None).await?;
        }
        Ok(())
    }

    fn situation(&self, lane: &Lane, first_attempt_at: Timestamp, this: u16) -> Situation {
        let tried = || self.tried.iter().cloned().chain([lane.name().into()]);
        let counted = self.counted().saturating_add(this);
        let doubtful = self.bound().as_deref() == Some(lane.name());
        Situation {
            idempotency: lane.idempotency(),
            doubtful,
            in_doubt: self.open_questions().any(|one| !(doubtful && *one.provider == *lane.name())),
            others: self.core.others(&tried().collect::<Vec<_>>()),
            ..self.circumstances(counted, first_attempt_at)
        }
    }

    /// What does not depend on the provider.
    fn circumstances(&self, attempts: u16, first_attempt_at: Timestamp) -> Situation {
        Situation {
            now: self.core.now(),
            deadline: self.mail.deadline,
            on_unknown: self.mail.on_unknown,
            attempts,
            max_attempts: self.core.config.max_attempts,
            idempotency: Idempotency::None,
            first_attempt_at,
            doubtful: false,
            in_doubt: self.is_doubtful(),
            others: false,
            chance: fastrand::f64(),
        }
    }

    /// Attempts that count.
    fn counted(&self) -> u16 {
        let counts = |attempt: &&Attempt| {
            let is_free = attempt.outcome.as_deref().is_some_and(|word| FREE.contains(&word));
            attempt.n > self.mail.attempts_forgiven && !is_free
        };
        u16::try_from(self.attempts.iter().filter(counts).count()).unwrap_or(u16::MAX)
    }

    /// The provider that alone can say whether it has the mail already, because it knows its key.
    fn bound(&self) -> Option<Arc<str>> {
        let last = self.open_questions().next_back()?;
        let lane = self.core.lane(&last.provider)?;
        let first = self.attempts.iter().find(|attempt| attempt.provider == last.provider)?;
        let knows = state::knows_key(lane.idempotency(), first.started_at, self.core.now());
        knows.then(|| Arc::clone(&last.provider))
    }

    fn is_doubtful(&self) -> bool {
        self.open_questions().next().is_some()
    }

    /// Attempts that may have been accepted.
    fn open_questions(&self) -> impl DoubleEndedIterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| attempt.is_open_question())
    }

    /// LIMIT: for one attempt, and no longer than the run or the mail has.
    fn time_left(&self) -> Duration {
        let run = self.cx.deadline().saturating_duration_since(Instant::now());
        let run = run.saturating_sub(NOTE_TIME).max(Duration::from_millis(100));
        let own = self.core.config.attempt_timeout.min(run);
        match self.mail.deadline {
            Some(deadline) => {
                own.min(deadline.since(self.core.now())).max(Duration::from_millis(1))
            }
            None => own,
        }
    }
}

fn cut_off(n: u32) -> Ended {
    Ended {
        n,
        word: AMBIGUOUS,
        http_status: None,
        code: Some("cut_off".into()),
        retry_after_ms: None,
    }
}

fn ended(
    n: u32,
    verdict: Verdict,
    answer: &Result<Answer, TransportError>,
) -> (Ended, Option<Arc<str>>) {
    let retry_after =
        if let Verdict::NotAccepted(refusal) = verdict { refusal.retry_after } else { None };
    let retry_after_ms = retry_after.map(crate::store::millis);
    let (http_status, code, provider_id) = match answer {
        Ok(answer) => {
            let mut code = answer.code.clone();
            if let (Outcome::Ambiguous(cause), None) = (&answer.outcome, &code) {
                code = Some(cause.as_str().into());
            }
            let mut provider_id = None;
            if let Outcome::Accepted { provider_id: id, .. } = &answer.outcome {
                provider_id.clone_from(id);
            }
            (answer.http_status, code, provider_id)
        }
        Err(TransportError::NotSent(cause)) => (None, Some(cause.as_str().into()), None),
        Err(TransportError::Ambiguous(cause)) => (None, Some(cause.as_str().into()), None),
    };
    (Ended { n, word: verdict.word(), http_status, code, retry_after_ms }, provider_id)
}
