//! How a problem looks on the wire.

use actix_web::HttpResponse;
use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::web::Bytes;
use serde_json::{Map, Value};
use steadfast_actors::kernel::RequestId;

use super::Problem;

/// The form in which a client wants to read errors.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Form {
    /// `application/problem+json`.
    #[default]
    Json,
    /// `text/plain`, for whoever accepts nothing else.
    Plain,
}

impl Form {
    /// Reads `Accept`: plain text only when every range in it is plain text.
    pub(crate) fn wanted(headers: &HeaderMap) -> Self {
        let Some(accept) = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()) else {
            return Self::Json;
        };
        let plain = |range: &str| {
            let essence = range.split(';').next().unwrap_or_default().trim();
            essence.eq_ignore_ascii_case("text/plain") || essence.eq_ignore_ascii_case("text/*")
        };
        if accept.split(',').all(plain) { Self::Plain } else { Self::Json }
    }
}

/// A problem as status, headers and bytes: it can be answered any number of times.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    status: StatusCode,
    retry_after: Option<u64>,
    content_type: &'static str,
    body: Bytes,
}

const JSON: &str = "application/problem+json";
const PLAIN: &str = "text/plain; charset=utf-8";

/// What described the body that the document replaces.
const OF_THE_OLD_BODY: [HeaderName; 7] = [
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_DISPOSITION,
    header::ETAG,
    header::LAST_MODIFIED,
    header::TRANSFER_ENCODING,
];

impl Document {
    pub(crate) fn new(problem: &Problem, id: Option<&RequestId>, form: Form, base: &str) -> Self {
        let (content_type, body) = match form {
            Form::Json => (JSON, Value::Object(members(problem, id, base)).to_string()),
            Form::Plain => (PLAIN, lines(problem, id)),
        };
        let status = problem.status();
        Self { status, retry_after: problem.retry_after_seconds(), content_type, body: body.into() }
    }

    pub(crate) const fn status(&self) -> StatusCode {
        self.status
    }

    /// Puts the document into a response and leaves its other headers alone.
    pub(crate) fn put_into<B>(&self, mut response: HttpResponse<B>) -> HttpResponse<BoxBody> {
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        for name in OF_THE_OLD_BODY {
            drop(headers.remove(name));
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response.set_body(BoxBody::new(self.body.clone()))
    }
}

fn members(problem: &Problem, id: Option<&RequestId>, base: &str) -> Map<String, Value> {
    // ORDER: extensions first, so that none of them can replace a standard member.
    let mut members = problem.extensions().clone();
    let mut set = |name: &str, value: Value| drop(members.insert(name.to_owned(), value));
    set("type", format!("{base}{}", problem.code()).into());
    set("title", problem.title().into());
    set("status", problem.status().as_u16().into());
    set("code", problem.code().as_str().into());
    if let Some(detail) = problem.detail() {
        set("detail", detail.into());
    }
    if let Some(id) = id {
        set("instance", instance(id).into());
        set("request_id", id.as_str().into());
    }
    if let Some(retryable) = problem.retryable() {
        set("retryable", retryable.into());
    }
    if !problem.errors().is_empty() {
        let errors = problem.errors().iter().map(|error| {
            let mut members = Map::new();
            members.insert("pointer".to_owned(), error.pointer.as_str().into());
            members.insert("code".to_owned(), error.code.into());
            members.insert("detail".to_owned(), error.detail.as_str().into());
            Value::Object(members)
        });
        set("errors", errors.collect());
    }
    members
}

fn lines(problem: &Problem, id: Option<&RequestId>) -> String {
    let mut text = problem.title().to_owned();
    if let Some(detail) = problem.detail() {
        text.push_str(": ");
        text.push_str(detail);
    }
    for error in problem.errors() {
        text.push_str(&format!("\n{}: {}", error.pointer, error.detail));
    }
    text.push_str(&format!("\ncode: {}\n", problem.code()));
    if let Some(id) = id {
        text.push_str(&format!("request: {id}\n"));
    }
    text
}

/// A URI for this one occurrence.
fn instance(id: &RequestId) -> String {
    let kind = if is_uuid(id.as_str()) { "uuid" } else { "request" };
    format!("urn:{kind}:{id}")
}

fn is_uuid(text: &str) -> bool {
    let dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    let fits =
        |(at, byte): (usize, u8)| if dash(at) { byte == b'-' } else { byte.is_ascii_hexdigit() };
    text.len() == 36 && text.bytes().enumerate().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use steadfast_actors::kernel::Code;

    #[track_caller]
    fn check_form(accept: &str, expected: Form) {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
        assert_eq!(Form::wanted(&headers), expected, "for {accept:?}");
    }

    #[test]
    fn text_is_for_those_who_accept_nothing_else() {
        assert_eq!(Form::wanted(&HeaderMap::new()), Form::Json);
        check_form("text/plain", Form::Plain);
        check_form("TEXT/Plain; charset=utf-8, text/*;q=0.5", Form::Plain);
        check_form("text/plain, */*", Form::Json);
        check_form("text/html", Form::Json);
        check_form("application/json, text/plain", Form::Json);
        check_form("", Form::Json);
    }

    #[test]
    fn the_instance_is_a_uuid_only_when_the_id_is_one() {
        let urn = |id: &str| instance(&RequestId::parse(id).unwrap());
        let uuid = "0190a5b2-7c3d-7e4f-8a9b-0123456789ab";
        assert_eq!(urn(uuid), format!("urn:uuid:{uuid}"));
        assert_eq!(urn("order-7"), "urn:request:order-7");
        let almost = uuid.replace('b', "g");
        assert_eq!(urn(&almost), format!("urn:request:{almost}"));
    }

    #[test]
    fn an_extension_cannot_replace_a_standard_member() {
        let problem = Problem::known(Code::new("route.not_found")).with("status", 200).with("a", 1);
        let members = members(&problem, None, "urn:");
        assert_eq!(members["status"], 404);
        assert_eq!(members["a"], 1);
        assert_eq!(members["type"], "urn:route.not_found");
        assert!(!members.contains_key("instance"));
    }

    #[test]
    fn what_described_the_old_body_goes_and_the_rest_stays() {
        let problem = Problem::known(Code::new("http.unauthorized"));
        let document = Document::new(&problem, None, Form::Json, "urn:");
        let old = HttpResponse::Ok()
            .insert_header((header::CONTENT_ENCODING, "gzip"))
            .insert_header((header::ETAG, "\"1\""))
            .insert_header((header::WWW_AUTHENTICATE, "Bearer"))
            .append_header((header::SET_COOKIE, "a=1"))
            .append_header((header::SET_COOKIE, "b=2"))
            .finish();
        let new = document.put_into(old);
        assert_eq!(new.status(), 401);
        assert!(!new.headers().contains_key(header::CONTENT_ENCODING));
        assert!(!new.headers().contains_key(header::ETAG));
        assert_eq!(new.headers().get(header::WWW_AUTHENTICATE).unwrap(), "Bearer");
        assert_eq!(new.headers().get_all(header::SET_COOKIE).count(), 2);
        assert_eq!(new.headers().get(header::CACHE_CONTROL).unwrap(), "no-store");
    }
}
