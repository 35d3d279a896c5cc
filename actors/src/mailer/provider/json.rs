//! What the JSON APIs have in common.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::EncodeError;
use super::{Capabilities, HttpResponse, WireRequest};
use crate::mailer::phrase::unstructured;
use crate::mailer::{Mail, MailId};

/// A request with a JSON body.
pub(super) fn request(
    url: String,
    body: &impl Serialize,
    capabilities: &Capabilities,
) -> Result<WireRequest, EncodeError> {
    let body = serde_json::to_vec(body)
        .map_err(|_defect| EncodeError::Unsupported { what: "this mail as JSON" })?;
    let headers = ["content-type", "accept"];
    let headers = headers.map(|name| (name.to_owned(), "application/json".to_owned())).to_vec();
    within(WireRequest { url, headers, body, idempotency_key: None }, capabilities)
}

/// The request, if the provider takes one of its size.
pub(super) fn within(
    request: WireRequest,
    capabilities: &Capabilities,
) -> Result<WireRequest, EncodeError> {
    let (bytes, limit) = (request.body.len(), capabilities.max_bytes);
    if bytes > limit { Err(EncodeError::TooLarge { bytes, limit }) } else { Ok(request) }
}

/// Refuses a mail to more than the provider takes.
pub(super) fn check_recipients(
    mail: &Mail,
    capabilities: &Capabilities,
) -> Result<(), EncodeError> {
    let (count, limit) = (mail.recipients().count(), capabilities.max_recipients);
    if count > limit { Err(EncodeError::TooManyRecipients { count, limit }) } else { Ok(()) }
}

/// The mail's own metadata, and its number.
pub(super) fn metadata(id: MailId, mail: &Mail) -> BTreeMap<String, String> {
    let mut metadata = mail.metadata().clone();
    metadata.insert(super::MAIL_ID.to_owned(), id.to_string());
    metadata
}

/// The mail's own headers: in encoded words where they are not ASCII, as not every API does that.
pub(super) fn headers(mail: &Mail) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
    mail.headers().iter().map(|(name, text)| (name.as_str(), unstructured(text)))
}

/// The mail's own metadata as the value of a header, for APIs whose tags cannot hold it; [`None`]
/// if there is none. Keys and values are ASCII without quotes and backslashes, so this is too.
pub(super) fn metadata_header(mail: &Mail) -> Option<String> {
    let some = !mail.metadata().is_empty();
    some.then(|| serde_json::to_string(mail.metadata()).unwrap_or_default())
}

/// Refuses a mail that has both metadata and a header of its own where that would go.
pub(super) fn check_metadata_header(mail: &Mail) -> Result<(), EncodeError> {
    let taken =
        mail.headers().iter().any(|(name, _)| name.as_str().eq_ignore_ascii_case(METADATA_HEADER));
    if taken && !mail.metadata().is_empty() {
        return Err(EncodeError::Unsupported { what: "metadata beside a header X-Metadata" });
    }
    Ok(())
}

/// The name of the header that [`metadata_header`] goes into.
pub(super) const METADATA_HEADER: &str = "X-Metadata";

/// The body, if it is the JSON that is looked for.
pub(super) fn read<T: DeserializeOwned>(response: &HttpResponse) -> Option<T> {
    serde_json::from_slice(&response.body).ok()
}

/// A provider's code after its kind, if it looks like a code: 1 to 64 letters, digits and `._-`.
/// What a provider says in words stays out.
pub(super) fn code(kind: &str, code: &str) -> Option<Arc<str>> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let fits = (1..=64).contains(&code.len()) && code.bytes().all(known);
    fits.then(|| format!("{kind}.{code}").into())
}

/// What a provider calls a mail, if it can be kept: 1 to 256 visible ASCII characters.
pub(in crate::mailer) fn provider_id(id: &str) -> Option<Arc<str>> {
    let fits = (1..=256).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| id.into())
}
