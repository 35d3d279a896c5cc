//! Exchange rates from a third party, over HTTP.
//!
//! One call is bounded in every direction: in time, in the bytes it reads, in the hosts it talks
//! to. What went wrong is told apart by how one should react to it.

use std::time::Duration;

use reqwest::{Client, Response, StatusCode, header};
use serde::{Deserialize, Serialize};
use steadfast::breaker::{Breaker, BreakerBuilder, BreakerError, Classify, Outcome};
use steadfast::edge::Ctx;
use steadfast::kernel::{Code, Fault};

use crate::options::UpstreamUrl;

/// LIMIT: the upstream answers within milliseconds when it is well.
const ATTEMPT_MAX: Duration = Duration::from_secs(1);
/// What the way to the upstream and back may cost of a request's time.
const NETWORK_RESERVE: Duration = Duration::from_millis(5);
const CONNECT_MAX: Duration = Duration::from_millis(500);
/// LIMIT: connections kept for later; those of a burst beyond it are closed.
const IDLE_MAX: usize = 32;
/// LIMIT: an answer has about forty bytes.
const BODY_MAX: usize = 4 * 1024;
/// LIMIT: the longest wait that is believed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);
/// The wait after a 429 that names none.
const RETRY_AFTER_USUAL: Duration = Duration::from_secs(1);

/// The code of a currency, as ISO 4217 writes them: three capital letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Currency(String);

impl Currency {
    /// Reads a code. Whether such a currency exists, only the upstream knows.
    ///
    /// # Errors
    ///
    /// [`RatesError::UnknownCurrency`] for anything else than three capital letters.
    pub(crate) fn parse(code: &str) -> Result<Self, RatesError> {
        let valid = code.len() == 3 && code.bytes().all(|byte| byte.is_ascii_uppercase());
        if valid { Ok(Self(code.to_owned())) } else { Err(RatesError::UnknownCurrency) }
    }
}

/// What one unit of a currency costs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rate {
    currency: String,
    rate: f64,
}

/// Why there is no rate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RatesError {
    /// There is no such currency. The upstream is well.
    #[error("there is no such currency")]
    UnknownCurrency,
    /// It did not answer in time.
    #[error("the upstream did not answer within {} ms", ATTEMPT_MAX.as_millis())]
    Timeout,
    /// There was no connection, or it broke before the answer was complete.
    #[error("the connection to the upstream failed")]
    Unreachable(#[source] reqwest::Error),
    /// It says that it failed.
    #[error("the upstream answered {0}")]
    Failed(StatusCode),
    /// It asks to be left alone for a while.
    #[error("the upstream asks to wait {} ms", retry_after.as_millis())]
    Throttled {
        /// How long.
        retry_after: Duration,
    },
    /// It answered something that is not a rate.
    #[error("the upstream answered something that is not a rate")]
    InvalidAnswer,
}

impl Classify for RatesError {
    fn outcome(&self) -> Outcome {
        match self {
            // The question was wrong; the upstream did its work.
            Self::UnknownCurrency => Outcome::Success,
            Self::Throttled { retry_after } => {
                Outcome::Throttled { retry_after: Some(*retry_after) }
            }
            Self::Timeout | Self::Unreachable(_) | Self::Failed(_) | Self::InvalidAnswer => {
                Outcome::Failure
            }
        }
    }
}

impl Fault for RatesError {
    fn code(&self) -> Code {
        match self {
            Self::UnknownCurrency => Code::new("rates.unknown_currency"),
            Self::Timeout => Code::new("upstream.timeout"),
            Self::Unreachable(_) => Code::new("upstream.unreachable"),
            Self::Failed(_) => Code::new("upstream.failed"),
            Self::Throttled { .. } => Code::new("upstream.throttled"),
            Self::InvalidAnswer => Code::new("upstream.invalid_answer"),
        }
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after } => Some(*retry_after),
            Self::UnknownCurrency
            | Self::Timeout
            | Self::Unreachable(_)
            | Self::Failed(_)
            | Self::InvalidAnswer => None,
        }
    }
}

/// The breaker of the upstream. It opens after a few failures and tries again soon, so that a
/// demonstration stays short; a real third party would be given more patience.
pub(crate) fn breaker() -> BreakerBuilder {
    Breaker::builder("rates")
        .consecutive_failures(5)
        .slow_after(ATTEMPT_MAX * 4 / 5)
        .open_for(Duration::from_secs(2))
        .open_max(Duration::from_secs(4))
        .probe_lease(ATTEMPT_MAX * 2)
}

/// A client of the service `rates`, behind its breaker. Clones share both.
#[derive(Debug, Clone)]
pub(crate) struct Rates {
    client: Client,
    base: String,
    breaker: Breaker,
}

impl Rates {
    /// A client of the upstream at `base`. Nothing is sent yet, so the upstream may be away.
    ///
    /// # Errors
    ///
    /// The client could not be built.
    pub(crate) fn new(base: &UpstreamUrl, breaker: Breaker) -> Result<Self, reqwest::Error> {
        let client = Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_MAX)
            .pool_max_idle_per_host(IDLE_MAX)
            .no_proxy()
            .build()?;
        Ok(Self { client, base: base.0.clone(), breaker })
    }

    /// Asks for one rate, once, if the breaker lets it.
    ///
    /// # Errors
    ///
    /// [`BreakerError::Rejected`] when the upstream was not asked; else what came of it.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the connection it used. Asking again is always safe.
    pub(crate) async fn get(
        &self,
        currency: &Currency,
        request: &Ctx,
    ) -> Result<Rate, BreakerError<RatesError>> {
        self.breaker.call(|| self.fetch(currency, request)).await
    }

    async fn fetch(&self, currency: &Currency, request: &Ctx) -> Result<Rate, RatesError> {
        let attempt = tokio::time::timeout(ATTEMPT_MAX, self.attempt(currency, request));
        attempt.await.unwrap_or(Err(RatesError::Timeout))
    }

    async fn attempt(&self, currency: &Currency, request: &Ctx) -> Result<Rate, RatesError> {
        let mut call = self.client.get(format!("{}/rates/{}", self.base, currency.0));
        for (name, value) in request.forward_headers(NETWORK_RESERVE) {
            call = call.header(name.as_str(), value.as_bytes());
        }
        let answer = call.send().await.map_err(RatesError::Unreachable)?;
        match answer.status() {
            StatusCode::OK => read_rate(answer, currency).await,
            StatusCode::NOT_FOUND => Err(RatesError::UnknownCurrency),
            StatusCode::TOO_MANY_REQUESTS => {
                Err(RatesError::Throttled { retry_after: asked_wait(&answer) })
            }
            status => Err(RatesError::Failed(status)),
        }
    }
}

async fn read_rate(mut answer: Response, currency: &Currency) -> Result<Rate, RatesError> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(RatesError::Unreachable)? {
        if body.len() + chunk.len() > BODY_MAX {
            return Err(RatesError::InvalidAnswer);
        }
        body.extend_from_slice(&chunk);
    }
    match serde_json::from_slice::<Rate>(&body) {
        Ok(rate) if rate.currency == currency.0 && rate.rate.is_finite() => Ok(rate),
        Ok(_) | Err(_) => Err(RatesError::InvalidAnswer),
    }
}

/// The `Retry-After` of an answer, in seconds as most services give it.
fn asked_wait(answer: &Response) -> Duration {
    let value = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
    let seconds = value.and_then(|value| value.parse().ok()).map(Duration::from_secs);
    seconds.unwrap_or(RETRY_AFTER_USUAL).min(RETRY_AFTER_MAX)
}
