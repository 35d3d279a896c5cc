//! Until the edge lands.
use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use steadfast::kernel::{CallError, Fault};

#[derive(Debug)]
pub(crate) struct Problem(u16, &'static str, Option<std::time::Duration>);

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.1)
    }
}
impl Problem {
    pub(crate) fn new(status: u16, fault: &dyn Fault) -> Self {
        Self(status, fault.code().as_str(), fault.retry_after())
    }
    pub(crate) fn plain(status: u16, code: &'static str) -> Self {
        Self(status, code, None)
    }
}
impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        Self::new(if error.ran() { 500 } else { 503 }, &error)
    }
}
impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0).unwrap()
    }
    fn error_response(&self) -> HttpResponse {
        let mut r = HttpResponse::build(self.status_code());
        if let Some(wait) = self.2 {
            r.insert_header(("retry-after", wait.as_secs().max(1).to_string()));
        }
        r.content_type("application/problem+json").insert_header(("x-request-id", "interim"))
            .body(serde_json::json!({"status": self.0, "code": self.1, "title": self.1, "instance":"interim"}).to_string())
    }
}
