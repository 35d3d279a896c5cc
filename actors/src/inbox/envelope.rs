//! Where a sender puts the id and the type of an event, and reading them from there.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::headers::Headers;
use super::raw_json::{JsonLimits, RawJson, sha256};
use crate::hex::hex;
use crate::store::Timestamp;

/// LIMIT: bytes of an id, a type, a version or a subject; an index entry must fit a page.
pub(super) const TEXT_MAX: usize = 255;
/// LIMIT: events of one delivery.
pub(super) const EVENTS_MAX: usize = 1_000;
/// LIMIT: parts of a pointer.
const PARTS_MAX: usize = 8;

/// Where something of an event is found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// In this header, by its name in lower case.
    Header(Cow<'static, str>),
    /// In the body, at this JSON pointer (RFC 6901) of at most 8 parts: a text or a number.
    Pointer(Cow<'static, str>),
    /// The SHA-256 of the body, for a sender without ids: the same bytes are the same event.
    BodyHash,
}

/// Where a sender puts the id, the type and the rest of what the inbox must know of an event.
///
/// # Examples
///
/// Of Postmark, which gives an id to bounces only:
///
/// ```
/// use steadfast_actors::inbox::{Envelope, Place};
///
/// let postmark = Envelope::new(Place::Pointer("/ID".into()), Place::Pointer("/RecordType".into()))
///     .or_id(Place::BodyHash)
///     .occurred_at(Place::Pointer("/BouncedAt".into()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "an envelope does nothing until a source has it"]
pub struct Envelope {
    ids: Vec<Place>,
    event_type: Place,
    version: Option<Place>,
    subject: Option<Place>,
    occurred_at: Option<Place>,
    batch: bool,
}

const fn header(name: &'static str) -> Place {
    Place::Header(Cow::Borrowed(name))
}

const fn pointer(path: &'static str) -> Place {
    Place::Pointer(Cow::Borrowed(path))
}

impl Envelope {
    /// With the id and the type of an event at these places.
    pub fn new(id: Place, event_type: Place) -> Self {
        Self {
            ids: vec![id],
            event_type,
            version: None,
            subject: None,
            occurred_at: None,
            batch: false,
        }
    }

    /// The id is here where it is at none of the places before.
    pub fn or_id(mut self, place: Place) -> Self {
        self.ids.push(place);
        self
    }

    /// The version of the type is here.
    pub fn version(mut self, place: Place) -> Self {
        self.version = Some(place);
        self
    }

    /// Whom or what the event is about is here; see
    /// [`Source::serial_by_subject`](super::Source::serial_by_subject).
    pub fn subject(mut self, place: Place) -> Self {
        self.subject = Some(place);
        self
    }

    /// When it happened is here: seconds since 1970, or a text in the form of RFC 3339.
    pub fn occurred_at(mut self, place: Place) -> Self {
        self.occurred_at = Some(place);
        self
    }

    /// The body is a list of events, of at most 1,000. Each is an event of its own, with the bytes
    /// of its part.
    pub const fn batch(mut self) -> Self {
        self.batch = true;
        self
    }

    pub(super) fn standard_webhooks(prefix: &'static str) -> Self {
        let id = if prefix == "svix" { "svix-id" } else { "webhook-id" };
        Self::new(header(id), pointer("/type")).occurred_at(pointer("/timestamp"))
    }

    pub(super) fn stripe() -> Self {
        Self::new(pointer("/id"), pointer("/type"))
            .version(pointer("/api_version"))
            .occurred_at(pointer("/created"))
    }

    pub(super) fn github() -> Self {
        Self::new(header("x-github-delivery"), header("x-github-event"))
    }

    /// Only bounces have an id, and that of another type may be the same number.
    pub(super) fn postmark() -> Self {
        Self::new(Place::BodyHash, pointer("/RecordType"))
    }

    pub(super) fn sendgrid() -> Self {
        Self::new(pointer("/sg_event_id"), pointer("/event"))
            .occurred_at(pointer("/timestamp"))
            .batch()
    }

    pub(super) fn mailgun() -> Self {
        Self::new(pointer("/signature/token"), pointer("/event-data/event"))
            .occurred_at(pointer("/event-data/timestamp"))
    }

    pub(super) fn sns() -> Self {
        Self::new(pointer("/MessageId"), pointer("/Type")).occurred_at(pointer("/Timestamp"))
    }

    /// In the body at `/id` and `/type`, as most senders have it.
    pub fn common() -> Self {
        Self::new(pointer("/id"), pointer("/type")).version(pointer("/version"))
    }

    /// Whether all places can be read.
    pub(super) fn is_valid(&self) -> bool {
        let rest = [&self.version, &self.subject, &self.occurred_at];
        let places = self.ids.iter().chain([&self.event_type]).chain(rest.into_iter().flatten());
        places.into_iter().all(Place::is_valid) && self.ids.len() <= PARTS_MAX
    }

    /// The headers that it reads; they are kept, so that it can be read again.
    pub(super) fn headers(&self) -> impl Iterator<Item = &str> {
        let rest = [&self.version, &self.subject, &self.occurred_at];
        let places = self.ids.iter().chain([&self.event_type]).chain(rest.into_iter().flatten());
        places.filter_map(|place| match place {
            Place::Header(name) => Some(&**name),
            Place::Pointer(_) | Place::BodyHash => None,
        })
    }

    /// Reads the events of a delivery. What cannot be read is one event whose
    /// [`meta`](Found::meta) is why.
    pub(super) fn read(&self, headers: &Headers, body: &Bytes, limits: &JsonLimits) -> Vec<Found> {
        match self.read_all(headers, body, limits) {
            Ok(all) => all,
            Err(reason) => {
                let event_id = self.id_without_body(headers, body);
                vec![Found { event_id, bytes: body.clone(), meta: Err(reason) }]
            }
        }
    }

    fn read_all(
        &self,
        headers: &Headers,
        body: &Bytes,
        limits: &JsonLimits,
    ) -> Result<Vec<Found>, &'static str> {
        let json = RawJson::parse(body.clone(), limits).map_err(|error| error.as_str())?;
        if !self.batch {
            return Ok(vec![self.read_one(headers, body.clone())]);
        }
        let parts: Vec<&RawValue> = json.decode().or(Err("no_list"))?;
        if parts.len() > EVENTS_MAX {
            return Err("too_many_events");
        }
        Ok(parts.into_iter().map(|part| self.read_one(headers, json.slice_of(part))).collect())
    }

    /// `bytes` is JSON within its limits.
    pub(super) fn read_one(&self, headers: &Headers, bytes: Bytes) -> Found {
        let text = std::str::from_utf8(&bytes).unwrap_or_default();
        let reader = Reader { headers, text, members: members(text).unwrap_or_default() };
        let id = self.ids.iter().find_map(|place| reader.id(place, &bytes));
        match (id, self.meta(&reader, &bytes)) {
            (Some(event_id), meta) => Found { event_id, meta, bytes },
            (None, _) => {
                let event_id = hash_id(&bytes);
                Found { event_id, meta: Err("no_event_id"), bytes }
            }
        }
    }

    fn meta(&self, reader: &Reader<'_>, bytes: &Bytes) -> Result<Meta, &'static str> {
        let optional = |place: &Option<Place>, reason| match place {
            Some(place) if reader.is_there(place) => {
                reader.text(place, bytes).map(Some).ok_or(reason)
            }
            Some(_) | None => Ok(None),
        };
        let occurred = optional(&self.occurred_at, "").unwrap_or_default();
        Ok(Meta {
            event_type: reader.text(&self.event_type, bytes).ok_or("no_type")?,
            version: optional(&self.version, "bad_version")?,
            subject: optional(&self.subject, "bad_subject")?,
            occurred_at: occurred.and_then(|text| moment(&text)),
        })
    }

    fn id_without_body(&self, headers: &Headers, body: &Bytes) -> String {
        let reader = Reader { headers, text: "", members: HashMap::new() };
        let found = self.ids.iter().find_map(|place| reader.id(place, body));
        found.unwrap_or_else(|| hash_id(body))
    }
}

impl Place {
    fn is_valid(&self) -> bool {
        match self {
            Self::Header(name) => {
                !name.is_empty() && !name.bytes().any(|byte| byte.is_ascii_uppercase())
            }
            Self::Pointer(path) => path.starts_with('/') && path.matches('/').count() <= PARTS_MAX,
            Self::BodyHash => true,
        }
    }
}

/// An event of a delivery.
#[derive(Clone)]
pub(super) struct Found {
    pub(super) event_id: String,
    /// Its part of the body.
    pub(super) bytes: Bytes,
    /// What is known of it, or why it is not.
    pub(super) meta: Result<Meta, &'static str>,
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found").field("bytes", &self.bytes.len()).finish_non_exhaustive()
    }
}

/// What is known of an event without knowing its type.
#[derive(Debug, Clone)]
pub(super) struct Meta {
    pub(super) event_type: String,
    pub(super) version: Option<String>,
    pub(super) subject: Option<String>,
    pub(super) occurred_at: Option<Timestamp>,
}

struct Reader<'a> {
    headers: &'a Headers,
    text: &'a str,
    /// Of the outermost object.
    members: HashMap<Cow<'a, str>, &'a RawValue>,
}

impl Reader<'_> {
    fn is_there(&self, place: &Place) -> bool {
        match place {
            Place::Header(name) => self.headers.value(name).is_some(),
            Place::Pointer(path) => self.at(path).is_some_and(|value| value.get() != "null"),
            Place::BodyHash => true,
        }
    }

    fn text(&self, place: &Place, bytes: &Bytes) -> Option<String> {
        self.whole(place, bytes).filter(|text| fits(text))
    }

    fn id(&self, place: &Place, bytes: &Bytes) -> Option<String> {
        self.whole(place, bytes).filter(|id| !id.is_empty()).map(kept_id)
    }

    fn whole(&self, place: &Place, bytes: &Bytes) -> Option<String> {
        match place {
            Place::Header(name) => self.headers.text(name).map(str::to_owned),
            Place::Pointer(path) => scalar(self.at(path)?),
            Place::BodyHash => Some(hash_id(bytes)),
        }
    }

    fn at(&self, path: &str) -> Option<&RawValue> {
        let mut parts = path.strip_prefix('/')?.split('/').map(unescape);
        let mut value = *self.members.get(&parts.next()?)?;
        for part in parts {
            value = members(value.get())?.get(&part).copied()?;
        }
        debug_assert!(self.text.len() >= value.get().len());
        Some(value)
    }
}

/// An id as it is kept: one that does not fit is known by its hash, so that others stay others.
pub(super) fn kept_id(id: String) -> String {
    if fits(&id) { id } else { format!("id-sha256:{}", hex(&sha256(id.as_bytes()))) }
}

fn fits(text: &str) -> bool {
    (1..=TEXT_MAX).contains(&text.len()) && !text.contains(char::is_control)
}

/// The members of an object.
fn members(text: &str) -> Option<HashMap<Cow<'_, str>, &RawValue>> {
    serde_json::from_str(text).ok()
}

fn scalar(value: &RawValue) -> Option<String> {
    let text = value.get();
    match text.bytes().next()? {
        b'"' => serde_json::from_str(text).ok(),
        b'-' | b'0'..=b'9' => Some(text.to_owned()),
        _ => None,
    }
}

fn unescape(part: &str) -> Cow<'_, str> {
    if part.contains('~') { part.replace("~1", "/").replace("~0", "~").into() } else { part.into() }
}

fn moment(text: &str) -> Option<Timestamp> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(Timestamp(at.as_millisecond()));
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().ok()?;
    let digits: String = fraction.chars().chain("000".chars()).take(3).collect();
    let millis: u16 = digits.parse().ok()?;
    Some(Timestamp(seconds.checked_mul(1_000)?.checked_add(i64::from(millis))?))
}

/// The id of an event that has none: the same bytes are the same event.
fn hash_id(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&sha256(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(body: &str, path: &'static str, expected: Option<&str>) {
        let headers = Headers::default();
        let reader =
            Reader { headers: &headers, text: body, members: members(body).unwrap_or_default() };
        let found = reader.text(&pointer(path), &Bytes::new());
        assert_eq!(found.as_deref(), expected, "{path} in {body}");
    }

    #[test]
    fn a_pointer_finds_texts_and_numbers_and_nothing_else() {
        let body = r#"{"a":"x","b":{"c/d":{"~":7.50}},"e":null,"f":[1],"g":"\u0000","h":""}"#;
        check(body, "/a", Some("x"));
        check(body, "/b/c~1d/~0", Some("7.50"));
        for path in ["/b", "/e", "/f", "/f/0", "/g", "/h", "/i", "/a/b"] {
            check(body, path, None);
        }
        check("[1]", "/0", None);
    }

    #[test]
    fn a_text_is_taken_at_its_limit_and_not_one_past_it() {
        let id = "x".repeat(TEXT_MAX);
        check(&format!(r#"{{"a":"{id}"}}"#), "/a", Some(&id));
        check(&format!(r#"{{"a":"{id}x"}}"#), "/a", None);
    }

    #[test]
    fn an_id_that_cannot_be_kept_is_known_by_its_hash() {
        let id = |id: &str| {
            let body = Bytes::from(format!(r#"{{"id":"{id}","type":"t"}}"#));
            let found = Envelope::common().read(&Headers::default(), &body, &JsonLimits::default());
            let [found] = found.try_into().unwrap();
            assert!(found.meta.is_ok());
            found.event_id
        };
        let longest = "x".repeat(TEXT_MAX);
        assert_eq!(id(&longest), longest);
        let [one, other] = [id(&format!("{longest}1")), id(&format!("{longest}2"))];
        assert!(one.starts_with("id-sha256:") && fits(&one), "{one}");
        assert_ne!(one, other);
        assert_eq!(one, id(&format!("{longest}1")));
        assert_ne!(id("\\u0000"), id("\\u0001"));
    }

    #[test]
    fn moments_are_seconds_or_rfc_3339() {
        assert_eq!(moment("1700000000"), Some(Timestamp(1_700_000_000_000)));
        assert_eq!(moment("1700000000.25"), Some(Timestamp(1_700_000_000_250)));
        assert_eq!(moment("2012-05-02T00:54:06.655Z"), Some(Timestamp(1_335_920_046_655)));
        for text in ["", "yesterday", "99999999999999999999", "1.x"] {
            assert_eq!(moment(text), None, "{text}");
        }
    }

    #[test]
    fn what_has_no_id_is_known_by_its_bytes() {
        let body = Bytes::from_static(b"{}");
        let limits = JsonLimits::default();
        let found = Envelope::common().read(&Headers::default(), &body, &limits);
        let [found] = found.try_into().unwrap();
        assert_eq!(found.event_id.len(), 71);
        assert_eq!(found.meta.unwrap_err(), "no_event_id");
    }

    #[test]
    fn a_list_is_taken_at_its_limit_and_not_one_past_it() {
        let read = |count: usize| {
            let part = r#" {"sg_event_id":"1","event":"open"}"#;
            let body = Bytes::from(format!("[{}]", vec![part; count].join(",")));
            let limits = JsonLimits::default().bytes(1 << 20);
            Envelope::sendgrid().read(&Headers::default(), &body, &limits)
        };
        assert!(read(0).is_empty());
        let all = read(EVENTS_MAX);
        assert_eq!(all.len(), EVENTS_MAX);
        assert!(all.iter().all(|one| one.meta.is_ok() && one.bytes.starts_with(b"{")));
        let [refused] = read(EVENTS_MAX + 1).try_into().unwrap();
        assert_eq!(refused.meta.unwrap_err(), "too_many_events");
    }
}
