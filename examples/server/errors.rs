//! What the server's own errors look like to a client.

use steadfast::breaker::BreakerError;
use steadfast::cache_fill::FillError;

use crate::interim::Problem;
use crate::rates::RatesError;
use crate::upstream::ControlError;

pub(crate) fn product_problem(error: FillError) -> Problem {
    if matches!(error, FillError::Absent) {
        return Problem::plain(404, "product.unknown");
    }
    Problem::new(503, &error)
}

impl From<BreakerError<RatesError>> for Problem {
    fn from(error: BreakerError<RatesError>) -> Self {
        match error {
            BreakerError::Inner(error) => error.into(),
            rejected => Self::new(503, &rejected),
        }
    }
}

impl From<RatesError> for Problem {
    fn from(error: RatesError) -> Self {
        let status = match error {
            RatesError::UnknownCurrency => 404,
            RatesError::Timeout => 504,
            RatesError::Throttled { .. } => 503,
            RatesError::Unreachable(_) | RatesError::Failed(_) | RatesError::InvalidAnswer => 502,
        };
        Self::new(status, &error)
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        Self::new(502, &error)
    }
}
