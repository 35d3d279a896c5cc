//! A JSON body, read within a limit, whose mistakes are pointed at.

use std::fmt;
use std::ops::{Deref, DerefMut};

use actix_web::body::BoxBody;
use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::BytesMut;
use actix_web::{FromRequest, HttpRequest, HttpResponse, Responder};
use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Deserializer, Value};
use steadfast_actors::kernel::Code;

use super::normalise::payload;
use crate::problem::{Problem, from_json, invalid_json};

/// LIMIT: larger documents should be streamed, not held in memory once per request.
const LIMIT_DEFAULT: usize = 1024 * 1024;

/// A JSON body, as extractor and as response.
///
/// As `web::Json`, but what is wrong with a body is told apart: 415 `body.unsupported_type`, 413
/// `body.too_large`, 400 `json.syntax` with line and column, and 422 `json.invalid` with a JSON
/// Pointer to the member. The limit is 1 MiB, or a [`JsonLimit`] in the app's data.
///
/// ```
/// use actix_web::{App, web};
/// use steadfast::edge::{Json, JsonLimit};
///
/// #[derive(serde::Deserialize)]
/// struct Order { quantity: u32 }
///
/// async fn order(Json(order): Json<Order>) -> String {
///     format!("{} of them", order.quantity)
/// }
///
/// let app = App::new().app_data(JsonLimit::bytes(16 * 1024)).route("/", web::post().to(order));
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "handlers take it apart in their signature")]
pub struct Json<T>(pub T);

impl<T> Json<T> {
    /// The value itself.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Json<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for Json<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: fmt::Display> fmt::Display for Json<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The largest JSON body that is read: `app_data` of an app, a scope or a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonLimit(usize);

impl JsonLimit {
    /// At most this many bytes. Too few refuse good documents; too many let each client fill
    /// that much memory per request.
    #[must_use]
    pub const fn bytes(max: usize) -> Self {
        Self(max)
    }

    fn of(request: &HttpRequest) -> usize {
        request.app_data::<Self>().map_or(LIMIT_DEFAULT, |limit| limit.0)
    }
}

impl<T: DeserializeOwned + 'static> FromRequest for Json<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, body: &mut Payload) -> Self::Future {
        let accepted = accept(request.headers(), JsonLimit::of(request));
        let body = body.take();
        Box::pin(async move {
            let limit = accepted?;
            let bytes = read(body, limit).await?;
            parse(&bytes).map(Self)
        })
    }
}

impl<T: Serialize> Responder for Json<T> {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        match serde_json::to_vec(&self.0) {
            Ok(body) => HttpResponse::Ok().content_type("application/json").body(body),
            Err(error) => {
                let problem = Problem::known(Code::new("internal.error")).caused_by(error);
                HttpResponse::from_error(problem)
            }
        }
    }
}

/// Refuses by the head alone what need not be read. Gives back the limit.
fn accept(headers: &HeaderMap, limit: usize) -> Result<usize, Problem> {
    if !is_json(headers) {
        return Err(Problem::known(Code::new("body.unsupported_type")));
    }
    within(headers, limit)
}

/// The same whatever its type.
pub(super) fn within(headers: &HeaderMap, limit: usize) -> Result<usize, Problem> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let encoding = text(header::CONTENT_ENCODING).unwrap_or("identity");
    if !encoding.eq_ignore_ascii_case("identity") {
        return Err(Problem::known(Code::new("body.unsupported_encoding")));
    }
    let length: Option<usize> = text(header::CONTENT_LENGTH).and_then(|value| value.parse().ok());
    if length.is_some_and(|length| length > limit) { Err(too_large()) } else { Ok(limit) }
}

fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = value.and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    let Some((main, sub)) = essence.split_once('/') else { return false };
    let sub = sub.to_ascii_lowercase();
    (main.eq_ignore_ascii_case("application") && sub == "json") || sub.ends_with("+json")
}

/// Reads a body, and stops one chunk after the limit.
pub(super) async fn read(mut body: Payload, limit: usize) -> Result<BytesMut, Problem> {
    let mut bytes = BytesMut::new();
    while let Some(chunk) = body.next().await {
        let chunk = chunk.map_err(|error| payload(&error).caused_by(error.to_string()))?;
        if bytes.len() + chunk.len() > limit {
            return Err(too_large());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn too_large() -> Problem {
    Problem::known(Code::new("body.too_large"))
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut deserializer = Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let (inner, path) = (error.inner(), Some(error.path()));
        // A number in the place of an enum is a syntax error to serde_json, and only to it.
        let is_json = inner.is_syntax() && serde_json::from_slice::<Value>(bytes).is_ok();
        if is_json { invalid_json(inner, path) } else { from_json(inner, path) }
    })?;
    deserializer.end().map_err(|error| from_json(&error, None))?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    #[track_caller]
    fn check_type(content_type: &str, expected: bool) {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_str(content_type).unwrap());
        assert_eq!(is_json(&headers), expected, "for {content_type:?}");
    }

    #[test]
    fn json_is_known_by_its_type_or_its_suffix() {
        check_type("application/json", true);
        check_type("Application/JSON; charset=utf-8", true);
        check_type("application/merge-patch+json", true);
        check_type("text/json", false);
        check_type("application/jsonp", false);
        check_type("application", false);
        check_type("", false);
        assert!(!is_json(&HeaderMap::new()));
    }

    #[test]
    fn a_number_in_the_place_of_an_enum_is_json_all_the_same() {
        #[derive(Debug, serde::Deserialize)]
        struct Order {
            _colour: Colour,
        }
        #[derive(Debug, serde::Deserialize)]
        enum Colour {
            #[serde(rename = "red")]
            Red,
        }
        let problem = parse::<Order>(br#"{"_colour":7}"#).unwrap_err();
        assert_eq!(problem.code().as_str(), "json.invalid");
        assert_eq!(problem.errors()[0].pointer, "/_colour");
        assert_eq!(parse::<Colour>(b"7 8").unwrap_err().code().as_str(), "json.syntax");
    }

    #[test]
    fn what_follows_the_document_is_a_mistake() {
        let found = |text: &str| parse::<u8>(text.as_bytes()).map_err(|problem| problem.code());
        assert_eq!(found(" 7 \n").unwrap(), 7);
        assert_eq!(found("7 8").unwrap_err().as_str(), "json.syntax");
        assert_eq!(found("").unwrap_err().as_str(), "json.syntax");
    }
}
