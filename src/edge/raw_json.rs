//! A JSON body that is kept as it came.

use std::ops::Deref;

use actix_web::dev::Payload;
use actix_web::{FromRequest, HttpRequest};
use futures_util::future::LocalBoxFuture;
use steadfast_actors::inbox::{self, JsonLimits};

use super::json::{read, within};
use crate::problem::Problem;

/// A JSON body that is kept as it came: checked, and every byte of it there.
///
/// Bodies that are larger, deeper or longer than the [`JsonLimits`] in the app's data (by default
/// 256 KiB, 64 containers within each other, 100,000 values and names) are refused before anything
/// of them is decoded: 413 `body.too_large`, 422 `json.too_deep`, 422 `json.too_many_tokens`. So is
/// what has a name twice in its outermost object, 422 `json.duplicate_name`, and what is not JSON,
/// 400 `json.syntax`. The `Content-Type` is not looked at: senders that mean JSON say all sorts of
/// things.
///
/// ```
/// use actix_web::{App, web};
/// use serde_json::value::RawValue;
/// use steadfast::edge::RawJson;
/// use steadfast::inbox::JsonLimits;
/// use steadfast::problem::Problem;
///
/// #[derive(serde::Deserialize)]
/// struct Note<'a> {
///     #[serde(borrow)]
///     content: &'a RawValue,
/// }
///
/// async fn keep(RawJson(body): RawJson) -> Result<String, Problem> {
///     let note: Note<'_> = body.decode()?;
///     Ok(format!("{} bytes, {} of them content", body.len(), note.content.get().len()))
/// }
///
/// let limits = JsonLimits::default().bytes(16 * 1024);
/// let app = App::new().app_data(limits).route("/", web::post().to(keep));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "handlers take it apart in their signature")]
pub struct RawJson(pub inbox::RawJson);

impl Deref for RawJson {
    type Target = inbox::RawJson;

    fn deref(&self) -> &inbox::RawJson {
        &self.0
    }
}

impl FromRequest for RawJson {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, body: &mut Payload) -> Self::Future {
        let limits = request.app_data::<JsonLimits>().copied().unwrap_or_default();
        let accepted = within(request.headers(), limits.bytes);
        let body = body.take();
        Box::pin(async move {
            let bytes = read(body, accepted?).await?;
            Ok(Self(inbox::RawJson::parse(bytes.freeze(), &limits)?))
        })
    }
}
