//! What becomes of a mail: pure decisions, with the time in and what to do next out.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::provider::{Answer, Idempotency, Outcome, ThrottleScope, TransportError};
use crate::store::Timestamp;

/// How far a mail is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum MailState {
    /// It waits for its first attempt.
    Queued,
    /// An attempt is under way.
    Sending,
    /// It waits for another attempt.
    RetryWait,
    /// A provider has taken it.
    Accepted,
    /// A provider may have taken it, and it is not tried again: an event of the provider or an
    /// operator settles it.
    Unknown,
    /// It was not sent and will not be.
    Dead,
    /// It was not sent before its deadline, and will not be.
    Expired,
    /// A recipient is on the suppression list.
    Suppressed,
    /// It was called back before it was sent.
    Cancelled,
}

/// What became of a mail after it was accepted, as far as its provider tells. It only rises, in
/// this order, whatever order events come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Delivery {
    /// No provider has it.
    None,
    /// A provider has it.
    Sent,
    /// The recipient's server took it not yet.
    Deferred,
    /// The recipient's server took it.
    Delivered,
    /// The recipient's server refused it, at once or later.
    Bounced,
    /// The recipient called it spam.
    Complained,
}

/// What to do when nobody knows whether a provider has taken a mail, and it cannot be asked
/// again under the same key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnUnknown {
    /// Send it again: it arrives at least once, perhaps twice.
    Retry,
    /// Wait, as [`MailState::Unknown`], for an event of the provider or an operator.
    #[default]
    Park,
    /// Give it up, as [`MailState::Dead`]: it arrives at most once.
    Fail,
}

macro_rules! words {
    ($($kind:ident { $($variant:ident = $word:literal),+ $(,)? })+) => {
        $(impl $kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name in rows, JSON and metrics.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }

            pub(super) fn parse(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| known.as_str() == word)
            }
        }

        impl fmt::Display for $kind {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        })+
    };
}

words! {
    MailState {
        Queued = "queued", Sending = "sending", RetryWait = "retry_wait", Accepted = "accepted",
        Unknown = "unknown", Dead = "dead", Expired = "expired", Suppressed = "suppressed",
        Cancelled = "cancelled",
    }
    Delivery {
        None = "none", Sent = "sent", Deferred = "deferred", Delivered = "delivered",
        Bounced = "bounced", Complained = "complained",
    }
    OnUnknown { Retry = "retry", Park = "park", Fail = "fail" }
}

impl MailState {
    /// Whether it may still be sent without anybody doing anything.
    #[must_use]
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Queued | Self::Sending | Self::RetryWait)
    }
}

/// What an attempt came to, as far as it matters for what is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted,
    /// It was accepted under this key before.
    Duplicate,
    /// Nobody gets it sent: the recipient or the mail is at fault.
    Rejected(&'static str),
    /// Nothing was accepted.
    NotAccepted(Refusal),
    /// Nobody knows.
    Ambiguous,
    /// The same key is under way.
    Busy,
}

/// Why nothing was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The word in the ledger.
    pub(super) word: &'static str,
    /// When the provider wants to be asked again.
    pub(super) retry_after: Option<Duration>,
    /// Whether it counts as an attempt: a limit of the provider does not.
    pub(super) counts: bool,
}

impl Verdict {
    pub(super) fn of(answer: &Result<Answer, TransportError>) -> Self {
        let refused =
            |word, retry_after, counts| Self::NotAccepted(Refusal { word, retry_after, counts });
        match answer.as_ref().map(|answer| &answer.outcome) {
            Ok(Outcome::Accepted { .. }) => Self::Accepted,
            Ok(Outcome::DuplicateKey) => Self::Duplicate,
            Ok(Outcome::RecipientRejected { .. }) => Self::Rejected("recipient_rejected"),
            Ok(Outcome::RequestRejected) => Self::Rejected("request_rejected"),
            Ok(Outcome::Misconfigured) => refused("misconfigured", None, true),
            Ok(Outcome::Throttled { retry_after, scope: ThrottleScope::Rate }) => {
                refused("throttled", *retry_after, false)
            }
            Ok(Outcome::Throttled { retry_after, .. }) => refused("quota", *retry_after, false),
            Ok(Outcome::Unavailable { retry_after }) => refused("unavailable", *retry_after, true),
            Ok(Outcome::KeyBusy) => Self::Busy,
            Ok(Outcome::Ambiguous(_)) | Err(TransportError::Ambiguous(_)) => Self::Ambiguous,
            Err(TransportError::NotSent(_)) => refused("not_sent", None, true),
        }
    }

    /// The word in the ledger of attempts.
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Duplicate => "duplicate",
            Self::Rejected(word) => word,
            Self::NotAccepted(refusal) => refusal.word,
            Self::Ambiguous => "ambiguous",
            Self::Busy => "busy",
        }
    }
}

/// The ledger's words for attempts that cost none of those that a mail has.
pub(super) const FREE: [&str; 3] = ["throttled", "quota", "busy"];
/// The ledger's word for an attempt that nobody knows the end of.
pub(super) const AMBIGUOUS: &str = "ambiguous";

/// What a decision is made from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation {
    pub(super) now: Timestamp,
    pub(super) deadline: Option<Timestamp>,
    pub(super) on_unknown: OnUnknown,
    /// Attempts that counted, this one included.
    pub(super) attempts: u16,
    pub(super) max_attempts: u16,
    /// What the provider does with a key it knows.
    pub(super) idempotency: Idempotency,
    /// When this provider first got the request.
    pub(super) first_attempt_at: Timestamp,
    /// Whether an earlier attempt at this provider may have been accepted, and it would say so.
    pub(super) doubtful: bool,
    /// Whether one may have been accepted of which this provider knows nothing.
    pub(super) in_doubt: bool,
    /// Whether another provider was not tried yet.
    pub(super) others: bool,
    /// A random number from 0 to 1.
    pub(super) chance: f64,
}

/// What becomes of the mail now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Accepted,
    /// With the code that says why.
    Dead(&'static str),
    Unknown,
    Expired,
    /// A recipient is on the list.
    Suppressed,
    /// Tried again, by whatever provider may.
    Again(Timestamp),
    /// Another provider, at once.
    FailOver,
}

impl Next {
    /// What the mail is then, and why.
    pub(super) const fn state(self) -> (MailState, Option<&'static str>) {
        match self {
            Self::Accepted => (MailState::Accepted, None),
            Self::Dead(code) => (MailState::Dead, Some(code)),
            Self::Unknown => (MailState::Unknown, Some(OUTCOME_UNKNOWN)),
            Self::Expired => (MailState::Expired, Some("mailer.expired")),
            Self::Suppressed => (MailState::Suppressed, Some("mailer.suppressed")),
            Self::Again(_) | Self::FailOver => (MailState::RetryWait, None),
        }
    }
}

/// The pauses between attempts: full jitter below 1 s, doubled each time, up to 10 min
/// ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(600);
/// The shortest pause: not at once.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// How long before the end of its life a key is not relied on any more: clocks differ.
const KEY_MARGIN: Duration = Duration::from_secs(60);

/// Decides.
pub(super) fn next(verdict: Verdict, now: &Situation) -> Next {
    // Who knows the key and refuses the mail has not taken it before either.
    let cleared = matches!(verdict, Verdict::Rejected(_));
    let may_be_sent = now.in_doubt || now.doubtful && !cleared;
    truth(decide(verdict, now), may_be_sent, now.on_unknown)
}

/// What may have been accepted was not "not sent": it ends as its user decided.
pub(super) const fn truth(next: Next, may_be_sent: bool, on_unknown: OnUnknown) -> Next {
    match next {
        Next::Dead(_) | Next::Expired | Next::Suppressed if may_be_sent => in_doubt(on_unknown),
        Next::Dead(_)
        | Next::Expired
        | Next::Suppressed
        | Next::Accepted
        | Next::Unknown
        | Next::Again(_)
        | Next::FailOver => next,
    }
}

/// Whether a provider still knows a key at a moment that it first got at another. Not if the
/// clock was set back since: then nobody knows how long ago that is.
pub(super) fn knows_key(idempotency: Idempotency, first: Timestamp, at: Timestamp) -> bool {
    match idempotency {
        Idempotency::Replay { ttl } | Idempotency::RejectDuplicate { ttl } => {
            at < first.after(ttl.saturating_sub(KEY_MARGIN)) && first <= at.after(KEY_MARGIN)
        }
        Idempotency::None => false,
    }
}

/// What a mail ends as that may have been accepted and is not sent again.
pub(super) const fn in_doubt(on_unknown: OnUnknown) -> Next {
    match on_unknown {
        OnUnknown::Retry | OnUnknown::Park => Next::Unknown,
        OnUnknown::Fail => Next::Dead(OUTCOME_UNKNOWN),
    }
}

/// Why a mail was given up that may have been accepted: by itself, and by an operator.
pub(super) const OUTCOME_UNKNOWN: &str = "mailer.outcome_unknown";
pub(super) const GIVEN_UP: &str = "mailer.given_up";

fn decide(verdict: Verdict, now: &Situation) -> Next {
    match verdict {
        Verdict::Accepted => Next::Accepted,
        // Without an earlier attempt the key would be somebody else's, and keys are unique.
        Verdict::Duplicate if now.doubtful => Next::Accepted,
        Verdict::Duplicate => doubt(now),
        Verdict::Rejected("recipient_rejected") => Next::Dead("mailer.recipient_rejected"),
        Verdict::Rejected(_) => Next::Dead("mailer.request_rejected"),
        Verdict::NotAccepted(refusal) if now.doubtful => ask_again(refusal.retry_after, now),
        Verdict::NotAccepted(_) if now.others => Next::FailOver,
        Verdict::NotAccepted(refusal) => {
            if refusal.counts && now.attempts >= now.max_attempts {
                return Next::Dead("mailer.attempts_exhausted");
            }
            again_or(Next::Expired, refusal.retry_after, now)
        }
        Verdict::Ambiguous | Verdict::Busy => ask_again(None, now),
    }
}

/// The same provider under the same key, if that tells; what was decided beforehand if not.
fn ask_again(retry_after: Option<Duration>, now: &Situation) -> Next {
    let again = again_or(Next::Unknown, retry_after, now);
    let is_known = |at| {
        let knows = |at| knows_key(now.idempotency, now.first_attempt_at, at);
        knows(now.now) && knows(at)
    };
    let tells = matches!(again, Next::Again(at) if is_known(at));
    if tells && now.attempts < now.max_attempts { again } else { doubt(now) }
}

/// Nobody will ever know from asking.
fn doubt(now: &Situation) -> Next {
    if now.on_unknown == OnUnknown::Retry && now.attempts < now.max_attempts {
        return again_or(Next::Unknown, None, now);
    }
    in_doubt(now.on_unknown)
}

/// Another attempt after the pause, or `late` if that would be after the deadline.
fn again_or(late: Next, retry_after: Option<Duration>, now: &Situation) -> Next {
    let at = now.now.after(pause(now.attempts, now.chance).max(retry_after.unwrap_or_default()));
    if now.deadline.is_some_and(|deadline| at >= deadline) { late } else { Next::Again(at) }
}

fn pause(attempts: u16, chance: f64) -> Duration {
    let doublings = u32::from(attempts.saturating_sub(1)).min(16);
    let ceiling = (PAUSE_FIRST * (1 << doublings)).min(PAUSE_MAX);
    ceiling.mul_f64(chance.clamp(0.0, 1.0)).max(PAUSE_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const REPLAY: Idempotency = Idempotency::Replay { ttl: DAY };
    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn situation() -> Situation {
        Situation {
            now: NOW,
            deadline: None,
            on_unknown: OnUnknown::Park,
            attempts: 1,
            max_attempts: 10,
            idempotency: Idempotency::None,
            first_attempt_at: NOW,
            doubtful: false,
            in_doubt: false,
            others: false,
            chance: 0.5,
        }
    }

    const fn refused(counts: bool) -> Verdict {
        Verdict::NotAccepted(Refusal { word: "unavailable", retry_after: None, counts })
    }

    fn at(milliseconds: i64) -> Next {
        Next::Again(Timestamp(NOW.0 + milliseconds))
    }

    #[test]
    fn nothing_fails_over_unless_nothing_was_accepted() {
        let others = Situation { others: true, ..situation() };
        assert_eq!(next(refused(true), &others), Next::FailOver);
        assert_eq!(
            next(Verdict::Rejected("request_rejected"), &others),
            Next::Dead("mailer.request_rejected")
        );
        for idempotency in [Idempotency::None, REPLAY] {
            let others = Situation { idempotency, ..others };
            assert_ne!(next(Verdict::Ambiguous, &others), Next::FailOver);
            let doubtful = Situation { doubtful: true, ..others };
            assert_ne!(
                next(refused(true), &doubtful),
                Next::FailOver,
                "an earlier one may be there"
            );
        }
    }

    #[test]
    fn what_is_ambiguous_is_asked_again_under_its_key_for_as_long_as_the_key_lives() {
        let replay = Situation { idempotency: REPLAY, ..situation() };
        assert_eq!(next(Verdict::Ambiguous, &replay), at(500));
        let old = Timestamp(NOW.0 - 86_400_000 + 60_501);
        assert_eq!(
            next(Verdict::Ambiguous, &Situation { first_attempt_at: old, ..replay }),
            at(500)
        );
        let older = Situation { first_attempt_at: Timestamp(old.0 - 1), ..replay };
        assert_eq!(next(Verdict::Ambiguous, &older), Next::Unknown);
        let tired = Situation { attempts: 10, ..replay };
        assert_eq!(next(Verdict::Ambiguous, &tired), Next::Unknown);
    }

    #[test]
    fn without_a_key_the_user_has_decided() {
        let of = |on_unknown| next(Verdict::Ambiguous, &Situation { on_unknown, ..situation() });
        assert_eq!(of(OnUnknown::Park), Next::Unknown);
        assert_eq!(of(OnUnknown::Fail), Next::Dead("mailer.outcome_unknown"));
        assert_eq!(of(OnUnknown::Retry), at(500));
    }

    #[test]
    fn a_deadline_is_never_passed_and_what_may_be_sent_does_not_expire() {
        let late = Situation { deadline: Some(Timestamp(NOW.0 + 500)), ..situation() };
        assert_eq!(next(refused(true), &late), Next::Expired);
        let replay = Situation { idempotency: REPLAY, ..late };
        assert_eq!(next(Verdict::Ambiguous, &replay), Next::Unknown);
        let just = Situation { deadline: Some(Timestamp(NOW.0 + 501)), ..situation() };
        assert_eq!(next(refused(true), &just), at(500));
    }

    #[test]
    fn what_may_have_been_accepted_is_never_called_dead_or_expired() {
        let late = Situation { in_doubt: true, deadline: Some(NOW), ..situation() };
        assert_eq!(next(refused(true), &late), Next::Unknown);
        let tired = Situation { in_doubt: true, attempts: 10, ..situation() };
        assert_eq!(next(refused(true), &tired), Next::Unknown);
        assert_eq!(next(Verdict::Rejected("request_rejected"), &tired), Next::Unknown);
        let fails = Situation { on_unknown: OnUnknown::Fail, ..tired };
        assert_eq!(next(refused(true), &fails), Next::Dead(OUTCOME_UNKNOWN));
        let known = Situation { doubtful: true, in_doubt: false, ..tired };
        let rejected = next(Verdict::Rejected("request_rejected"), &known);
        assert_eq!(rejected, Next::Dead("mailer.request_rejected"));
    }

    #[test]
    fn what_is_given_up_says_whether_it_may_have_been_sent() {
        let given_up = [Next::Dead("mailer.not_encodable"), Next::Expired, Next::Suppressed];
        let doubted = [
            (OnUnknown::Retry, Next::Unknown),
            (OnUnknown::Park, Next::Unknown),
            (OnUnknown::Fail, Next::Dead(OUTCOME_UNKNOWN)),
        ];
        for next in given_up {
            for (on_unknown, doubted) in doubted {
                assert_eq!(truth(next, false, on_unknown), next);
                assert_eq!(truth(next, true, on_unknown), doubted, "{next:?} {on_unknown}");
            }
        }
        for next in [Next::Accepted, Next::Unknown, Next::FailOver, at(1)] {
            assert_eq!(truth(next, true, OnUnknown::Fail), next);
        }
    }

    /// Every verdict, asked of a provider without keys or with one it knows, at the last attempt
    /// and before, and what may have been sent before: here or elsewhere.
    #[test]
    fn no_decision_calls_a_mail_unsent_that_may_have_been_sent() {
        let verdicts = [
            Verdict::Accepted,
            Verdict::Duplicate,
            Verdict::Rejected("recipient_rejected"),
            Verdict::Rejected("request_rejected"),
            refused(true),
            refused(false),
            Verdict::Ambiguous,
            Verdict::Busy,
        ];
        let mut cases = 0;
        for (verdict, on_unknown, attempts) in verdicts.into_iter().flat_map(|verdict| {
            let each =
                OnUnknown::ALL.iter().flat_map(|on_unknown| [(*on_unknown, 1), (*on_unknown, 10)]);
            each.map(move |(on_unknown, attempts)| (verdict, on_unknown, attempts))
        }) {
            for (here, elsewhere, deadline) in [
                (true, false, None),
                (false, true, None),
                (true, true, None),
                (true, true, Some(NOW)),
                (false, true, Some(NOW)),
            ] {
                for idempotency in [Idempotency::None, REPLAY] {
                    let doubtful = here && idempotency != Idempotency::None;
                    let now = Situation {
                        on_unknown,
                        attempts,
                        idempotency,
                        doubtful,
                        in_doubt: elsewhere || !doubtful,
                        deadline,
                        ..situation()
                    };
                    let next = next(verdict, &now);
                    let cleared = matches!(verdict, Verdict::Rejected(_)) && !now.in_doubt;
                    let unsent = match next {
                        Next::Dead(code) => code != OUTCOME_UNKNOWN,
                        Next::Expired | Next::Suppressed => true,
                        Next::Accepted | Next::Unknown | Next::Again(_) | Next::FailOver => false,
                    };
                    assert_eq!(unsent, cleared, "{verdict:?} of {now:?} is {next:?}");
                    let gave_up = matches!(next, Next::Dead(OUTCOME_UNKNOWN));
                    assert!(!gave_up || on_unknown == OnUnknown::Fail, "{verdict:?} of {now:?}");
                    let parked = next == Next::Unknown;
                    assert!(!parked || on_unknown != OnUnknown::Fail, "{verdict:?} of {now:?}");
                    cases += 1;
                }
            }
        }
        assert_eq!(cases, 8 * 6 * 5 * 2);
    }

    #[test]
    fn a_key_is_not_relied_on_when_the_clock_was_set_back() {
        let knows = |milliseconds| knows_key(REPLAY, NOW, Timestamp(NOW.0 + milliseconds));
        assert!(knows(0) && knows(-60_000));
        assert!(!knows(-60_001));
        assert!(knows(86_400_000 - 60_001));
        assert!(!knows(86_400_000 - 60_000));
        assert!(!knows_key(Idempotency::None, NOW, NOW));
    }

    #[test]
    fn limits_of_the_provider_cost_no_attempt() {
        let tired = Situation { attempts: 10, ..situation() };
        assert_eq!(next(refused(true), &tired), Next::Dead("mailer.attempts_exhausted"));
        assert!(matches!(next(refused(false), &tired), Next::Again(_)));
    }

    #[test]
    fn a_duplicate_is_our_own_mail_only_after_an_attempt() {
        let doubtful = Situation { doubtful: true, ..situation() };
        assert_eq!(next(Verdict::Duplicate, &doubtful), Next::Accepted);
        assert_eq!(next(Verdict::Duplicate, &situation()), Next::Unknown);
    }

    #[test]
    fn pauses_double_and_obey_retry_after() {
        assert_eq!(pause(1, 1.0), Duration::from_secs(1));
        assert_eq!(pause(4, 1.0), Duration::from_secs(8));
        assert_eq!(pause(u16::MAX, 1.0), PAUSE_MAX);
        assert_eq!(pause(3, 0.0), PAUSE_MIN);
        let wait = Some(Duration::from_secs(7));
        let refusal = Refusal { word: "throttled", retry_after: wait, counts: false };
        assert_eq!(next(Verdict::NotAccepted(refusal), &situation()), at(7_000));
    }

    #[test]
    fn words_are_read_back() {
        assert!(MailState::ALL.iter().all(|one| MailState::parse(one.as_str()) == Some(*one)));
        assert!(Delivery::ALL.iter().all(|one| Delivery::parse(one.as_str()) == Some(*one)));
        assert!(Delivery::ALL.is_sorted());
        assert_eq!(OnUnknown::parse("else"), None);
    }
}
