//! What an HTTP status and the headers about time mean to every API alike.

use std::time::{Duration, SystemTime};

use super::answer::{AmbiguousCause, Outcome, RateHint, ThrottleScope};
use super::api::HttpResponse;
use crate::store::Timestamp;

/// LIMIT: no provider's window is longer than a month; more is a mistake of its clock or ours.
const WAIT_MAX: Duration = Duration::from_secs(31 * 24 * 60 * 60);

/// What a status means where the body says nothing more exact. A success is read by the API
/// alone, so that one it does not know is open.
pub(super) fn outcome_of_status(response: &HttpResponse, now: Timestamp) -> Outcome {
    match response.status {
        // Redirects are not followed: a mail would be posted to who knows where.
        300..=399 => Outcome::Misconfigured,
        401..=407 | 421 => Outcome::Misconfigured,
        429 => Outcome::Throttled {
            retry_after: retry_after(response, now),
            scope: ThrottleScope::Rate,
        },
        408 | 425 | 503 => Outcome::Unavailable { retry_after: retry_after(response, now) },
        400..=499 => Outcome::RequestRejected,
        500..=599 => Outcome::Ambiguous(AmbiguousCause::ServerError),
        _ => Outcome::Ambiguous(AmbiguousCause::BadAnswer),
    }
}

/// `Retry-After` (RFC 9110, 10.2.3): seconds, or a date, which is at once if it is past.
pub(super) fn retry_after(response: &HttpResponse, now: Timestamp) -> Option<Duration> {
    let value = response.header("retry-after")?.trim();
    let wait = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_not_a_number) => until(httpdate::parse_http_date(value).ok()?, now),
    };
    Some(wait.min(WAIT_MAX))
}

/// A header that holds a moment in seconds since 1970, as a wait from now.
pub(super) fn until_epoch(response: &HttpResponse, name: &str, now: Timestamp) -> Option<Duration> {
    let seconds = response.header(name)?.trim().parse::<u64>().ok()?;
    let moment = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
    Some(until(moment, now).min(WAIT_MAX))
}

/// A header that holds a number of seconds.
pub(super) fn seconds(response: &HttpResponse, name: &str) -> Option<Duration> {
    let seconds = response.header(name)?.trim().parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds).min(WAIT_MAX))
}

/// What the headers of these names say of the rate.
pub(super) fn rate_hint(
    response: &HttpResponse,
    limit: &str,
    remaining: &str,
    reset_after: Option<Duration>,
) -> Option<RateHint> {
    let number = |name| response.header(name)?.trim().parse::<u32>().ok();
    let hint = RateHint { limit: number(limit), remaining: number(remaining), reset_after };
    (hint.limit.is_some() || hint.remaining.is_some()).then_some(hint)
}

fn until(moment: SystemTime, now: Timestamp) -> Duration {
    let passed = Duration::from_millis(u64::try_from(now.0).unwrap_or(0));
    let now = SystemTime::UNIX_EPOCH.checked_add(passed).unwrap_or(SystemTime::UNIX_EPOCH);
    moment.duration_since(now).unwrap_or_default()
}
