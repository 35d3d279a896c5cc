//! From a request to the inbox.

use actix_web::HttpRequest;
use actix_web::web::{Bytes, Payload};
use steadfast_actors::inbox::{Headers, Inbox, Receipt};

use super::json::{read, within};
use crate::problem::Problem;

/// Reads the body of a webhook's request within the limit of its source, and hands it to the
/// inbox. Not a byte more than the limit is read, whatever the request says of its length.
///
/// When this returns, its events are on disk: answer `202`.
///
/// ```no_run
/// use actix_web::{HttpRequest, HttpResponse, web};
/// use steadfast::edge::receive;
/// use steadfast::inbox::Inbox;
/// use steadfast::problem::Problem;
///
/// /// `POST /webhooks/{source}`
/// async fn webhook(
///     source: web::Path<String>,
///     request: HttpRequest,
///     body: web::Payload,
///     inbox: web::Data<Inbox>,
/// ) -> Result<HttpResponse, Problem> {
///     receive(&inbox, &source, &request, body).await?;
///     Ok(HttpResponse::Accepted().finish())
/// }
/// ```
///
/// # Errors
///
/// As [`Inbox::receive`]: 401 `inbox.unverified`, 404 `inbox.unknown_source`, 413
/// `inbox.too_large`, and 503 with `Retry-After` when it cannot be stored now. And `body.*` for a
/// body that does not come.
///
/// # Cancel safety
///
/// Dropped, the events may be stored or not. To receive them again is safe.
pub async fn receive(
    inbox: &Inbox,
    source: &str,
    request: &HttpRequest,
    body: Payload,
) -> Result<Receipt, Problem> {
    let Some(limit) = inbox.body_max(source) else {
        // Nothing is read for nobody; the inbox counts it.
        return Ok(inbox.receive(source, &Headers::default(), Bytes::new()).await?);
    };
    let bytes = match within(request.headers(), limit) {
        Ok(limit) => read(body.into_inner(), limit).await,
        Err(problem) => Err(problem),
    };
    let bytes = bytes.map_err(|problem| match problem.code().as_str() {
        "body.too_large" => inbox.refuse_too_large(source).into(),
        _ => problem,
    })?;
    let pairs = request.headers().iter();
    let headers: Headers = pairs.map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    Ok(inbox.receive(source, &headers, bytes.freeze()).await?)
}
