//! What `fuzz/` needs and nobody else: built with `cfg(fuzzing)` only.

use bytes::Bytes;

use super::headers::Headers;
use super::raw_json::JsonLimits;
use super::source::Source;
use super::verify::{Delivery, Refusal, Verified, Verifier, Window};
use crate::store::Timestamp;

/// What a verifier says of a delivery that comes now.
///
/// # Errors
///
/// [`Refusal`], as [`Verifier::verify`].
pub fn verify(
    verifier: &dyn Verifier,
    headers: &Headers,
    body: &Bytes,
    now: Timestamp,
) -> Result<Verified, Refusal> {
    let (limits, window) = (&JsonLimits::default(), Window::default());
    verifier.verify(&Delivery { headers, body, limits, window, now })
}

/// The id of each event that a source reads in a delivery, and the bytes of it.
#[must_use]
pub fn events(source: &Source, headers: &Headers, body: &Bytes) -> Vec<(String, Bytes)> {
    let found = source.envelope.read(headers, body, &source.limits);
    found.into_iter().map(|found| (found.event_id.to_string(), found.bytes)).collect()
}
