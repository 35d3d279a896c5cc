//! What the server's own errors are to a client.

use actix_web::http::StatusCode;
use steadfast::cache_fill::FillError;
use steadfast::kernel::Code;
use steadfast::mailer::MailerError;
use steadfast::problem::Problem;

use crate::mails::MailsError;
use crate::orders::OrderError;
use crate::rates::RatesError;
use crate::reviews::ReviewError;
use crate::upstream::ControlError;

/// Why there is no product: it does not exist, or it could not be read.
pub(crate) fn no_product(error: FillError) -> Problem {
    if matches!(error, FillError::Absent) { unknown_product() } else { error.into() }
}

fn unknown_product() -> Problem {
    Problem::new(Code::new("product.unknown"), StatusCode::NOT_FOUND, "No such product")
}

impl From<ReviewError> for Problem {
    fn from(error: ReviewError) -> Self {
        match error {
            ReviewError::UnknownProduct => unknown_product(),
            ReviewError::Store(error) => error.into(),
        }
    }
}

impl From<OrderError> for Problem {
    fn from(error: OrderError) -> Self {
        let (status, title) = match error {
            OrderError::Store(error) => return error.into(),
            OrderError::Mailer(error) => return error.into(),
            OrderError::Mail(error) => return Self::from_fault(error),
            OrderError::UnknownProduct => (StatusCode::NOT_FOUND, "No such product"),
            OrderError::Unknown => (StatusCode::NOT_FOUND, "No such order"),
            OrderError::IllegalTransition { .. } => {
                (StatusCode::CONFLICT, "The order cannot go there from where it is")
            }
        };
        let detail = error.to_string();
        Self::from_fault(error).with_status(status).with_title(title).with_detail(detail)
    }
}

impl From<RatesError> for Problem {
    fn from(error: RatesError) -> Self {
        let (status, title) = match &error {
            RatesError::UnknownCurrency => (StatusCode::NOT_FOUND, "No such currency"),
            RatesError::Timeout => (StatusCode::GATEWAY_TIMEOUT, "The upstream took too long"),
            RatesError::Throttled { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "The upstream asks for patience")
            }
            RatesError::Unreachable(_) | RatesError::Failed(_) | RatesError::InvalidAnswer => {
                (StatusCode::BAD_GATEWAY, "The upstream failed")
            }
        };
        Self::from_fault(error).with_status(status).with_title(title)
    }
}

impl From<ControlError> for Problem {
    fn from(error: ControlError) -> Self {
        let title = "The upstream has no control route that answers";
        Self::from_fault(error).with_status(StatusCode::BAD_GATEWAY).with_title(title)
    }
}

impl From<MailsError> for Problem {
    fn from(error: MailsError) -> Self {
        match error {
            MailsError::Mail(error) => {
                let detail = error.to_string();
                Self::from_fault(error).with_detail(detail)
            }
            MailsError::Mailer(error) => {
                // Of the settings only the key comes from a client.
                let is_key = matches!(error, MailerError::InvalidSetting { .. });
                let detail = error.to_string();
                let problem = Self::from(error);
                if is_key { problem.with_detail(detail) } else { problem }
            }
        }
    }
}
