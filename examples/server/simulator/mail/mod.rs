//! The service `mail`: accepts messages as two real providers do, and remembers which, so that a
//! test can count them.

mod log;
mod postmark;
mod resend;

use std::borrow::Cow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;

pub(super) use self::log::Accepted;
use self::log::MailLog;
use super::connection::{Answer, Request};
use super::faults::Voice;

/// The wait that a throttled caller is asked for.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The providers, and the log that they share.
#[derive(Debug, Default)]
pub(super) struct Providers {
    log: MailLog,
    resend_throttled: AtomicU64,
    postmark_throttled: AtomicU64,
}

/// Who is asked.
#[derive(Debug, Clone, Copy)]
enum Provider {
    Resend,
    Postmark,
}

impl Provider {
    fn at(path: &str) -> Option<Self> {
        match path {
            "/mail/emails" => Some(Self::Resend),
            "/mail/email" => Some(Self::Postmark),
            _ => None,
        }
    }
}

impl Providers {
    /// How many messages were accepted in all, and those still remembered.
    pub(super) fn snapshot(&self) -> (u64, Vec<Accepted>) {
        self.log.snapshot()
    }
}

impl Voice for Providers {
    fn answer(&self, request: &Request) -> Answer {
        let Some(provider) = Provider::at(&request.path) else {
            return Answer::problem(404, "Not Found");
        };
        if request.method != "POST" {
            return Answer::problem(405, "Method Not Allowed").with_header("allow", "POST");
        }
        match provider {
            Provider::Resend => resend::answer(request, &self.log),
            Provider::Postmark => postmark::answer(request, &self.log),
        }
    }

    /// What a gateway says whose provider is away.
    fn failed(&self) -> Answer {
        Answer::empty(502)
    }

    fn throttled(&self, request: &Request) -> Answer {
        let (answer, count) = match Provider::at(&request.path) {
            Some(Provider::Postmark) => (postmark::throttled(), &self.postmark_throttled),
            Some(Provider::Resend) | None => (resend::throttled(), &self.resend_throttled),
        };
        let before = count.fetch_add(1, Ordering::Relaxed);
        answer.with_header("retry-after", retry_after(before))
    }

    /// So there is a mode in which the connection breaks and nothing was accepted.
    fn resets_unread(&self) -> bool {
        true
    }
}

/// Seconds after an even number of throttled requests, a date after an odd one.
fn retry_after(before: u64) -> Cow<'static, str> {
    let seconds = RETRY_AFTER.as_secs().to_string();
    if before.is_multiple_of(2) {
        return seconds.into();
    }
    // A date has no fractions: one second more, or part of the wait would be lost.
    let moment = Timestamp::now().checked_add(RETRY_AFTER + Duration::from_secs(1));
    let date = moment.and_then(|at| DateTimePrinter::new().timestamp_to_rfc9110_string(&at));
    date.unwrap_or(seconds).into()
}
