//! What every error answer must be.

use reqwest::Response;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use serde_json::Value;

/// Checks that an answer is a problem document (RFC 9457) with this status and code, and that
/// nothing of the inside shows in it. Gives back the document.
pub(crate) async fn expect_problem(answer: Response, status: u16, code: &str) -> Value {
    let url = answer.url().clone();
    let found = (answer.status().as_u16(), header(&answer, CONTENT_TYPE.as_str()));
    let id = header(&answer, "x-request-id").unwrap_or_else(|| panic!("{url}: no request id"));
    let text = answer.text().await.unwrap();
    let expected = (status, Some("application/problem+json".to_owned()));
    assert_eq!(found, expected, "{url}: {text}");
    let problem: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(problem["status"], status, "{url}: {text}");
    assert_eq!(problem["code"], code, "{url}: {text}");
    assert!(problem["title"].is_string(), "{url}: {text}");
    assert!(text.contains(&id), "{url}: the request id {id} is not in {text}");
    for secret in ["panicked at", "boom", ".rs", "::", "SELECT", "sqlite", "127.0.0.1"] {
        assert!(!text.contains(secret), "{url}: {secret:?} leaks in {text}");
    }
    problem
}

/// The value of a header as text.
pub(crate) fn header(answer: &Response, name: &str) -> Option<String> {
    answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned())
}

/// The seconds of `Retry-After`.
pub(crate) fn retry_after(answer: &Response) -> u64 {
    let value = header(answer, RETRY_AFTER.as_str());
    value.as_deref().unwrap_or_else(|| panic!("no retry-after: {answer:?}")).parse().unwrap()
}
