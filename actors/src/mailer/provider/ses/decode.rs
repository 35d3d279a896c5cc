//! What SES answers, which the type and the words say, not the status.

use serde::Deserialize;

use super::KIND;
use crate::mailer::provider::status::{outcome_of_status, retry_after};
use crate::mailer::provider::{AmbiguousCause, Answer, HttpResponse, Outcome, ThrottleScope, json};
use crate::store::Timestamp;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    #[serde(rename = "MessageId")]
    message_id: Option<String>,
    #[serde(rename = "__type")]
    error_type: Option<String>,
    #[serde(rename = "message", alias = "Message")]
    message: Option<String>,
}

pub(super) fn answer(response: &HttpResponse, now: Timestamp) -> Answer {
    // The content type is not looked at: some stand-ins for SES give another.
    let said = json::read::<Said>(response).unwrap_or_default();
    let error_type = error_type(response, &said);
    Answer {
        outcome: outcome(response, &said, error_type, now),
        http_status: Some(response.status),
        code: json::code(KIND, error_type),
        rate: None,
    }
}

/// The type's bare name: the header may have `:` and a URI behind it, the body a namespace and
/// `#` before it.
fn error_type<'a>(response: &'a HttpResponse, said: &'a Said) -> &'a str {
    let full = response.header("x-amzn-errortype").or(said.error_type.as_deref());
    let name = full.unwrap_or_default().split(':').next().unwrap_or_default();
    name.rsplit('#').next().unwrap_or_default().trim()
}

fn outcome(response: &HttpResponse, said: &Said, error_type: &str, now: Timestamp) -> Outcome {
    if response.is_success() {
        return match said.message_id.as_deref().and_then(json::provider_id) {
            Some(id) => Outcome::Accepted { provider_id: Some(id), recipients: Vec::new() },
            None => Outcome::Ambiguous(AmbiguousCause::BadAnswer),
        };
    }
    let message = said.message.as_deref().unwrap_or_default().to_ascii_lowercase();
    let retry_after = retry_after(response, now);
    match error_type {
        "ThrottlingException"
        | "Throttling"
        | "TooManyRequestsException"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "LimitExceededException"
        | "LimitExceeded" => {
            let quota = message.contains("quota") || error_type.starts_with("LimitExceeded");
            let scope = if quota { ThrottleScope::Quota } else { ThrottleScope::Rate };
            Outcome::Throttled { retry_after, scope }
        }
        "AccountSuspendedException"
        | "SendingPausedException"
        | "NotFoundException"
        | "MailFromDomainNotVerifiedException"
        | "AccessDeniedException"
        | "OptInRequired"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "NotAuthorized"
        | "RequestExpired"
        | "SignatureDoesNotMatch"
        | "UnrecognizedClientException" => Outcome::Misconfigured,
        // "Email address is not verified": the sender, or, in the sandbox, a recipient.
        "MessageRejected" if message.contains("not verified") => Outcome::Misconfigured,
        "ServiceUnavailable" | "ServiceUnavailableException" => {
            Outcome::Unavailable { retry_after }
        }
        _ => outcome_of_status(response, now),
    }
}
