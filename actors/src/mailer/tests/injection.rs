//! No field lets a line end through, whoever fills it and however it is stored.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::golden::apis;
use super::*;

/// What ends a line somewhere, or a text.
fn bad() -> impl Strategy<Value = char> {
    let controls = (0_u8..32).prop_map(char::from);
    prop_oneof![
        Just('\r'),
        Just('\n'),
        Just('\0'),
        Just('\u{7f}'),
        Just('\u{85}'),
        Just('\u{2028}'),
        Just('\u{2029}'),
        controls,
    ]
}

/// A text of three parts, of which the middle one is bad. Also at either end.
fn broken() -> impl Strategy<Value = String> {
    ("[a-z]{0,8}", bad(), "[a-z]{0,8}").prop_map(|(head, bad, tail)| format!("{head}{bad}{tail}"))
}

/// A stored mail, and the places in it where a text stands that is no body.
fn stored() -> (Value, Vec<&'static str>) {
    let places = vec![
        "/from/name",
        "/from/address",
        "/to/0/name",
        "/to/0/address",
        "/cc/0/address",
        "/bcc/0/address",
        "/reply_to/0/name",
        "/reply_to/0/address",
        "/subject",
        "/headers/0/0",
        "/headers/0/1",
        "/attachments/0/name",
        "/attachments/0/content_type",
        "/attachments/1/content_id",
        "/metadata/order",
        "/tag",
    ];
    (serde_json::to_value(awkward()).unwrap(), places)
}

proptest! {
    #[test]
    fn a_line_end_is_refused_in_every_field(text in broken()) {
        let address = EmailAddress::parse("a@example.com").unwrap();
        prop_assert!(HeaderText::new(&text).is_err());
        prop_assert!(HeaderName::new(&text).is_err());
        prop_assert!(Mailbox::named(&text, address).is_err());
        let local = format!("{text}@example.com");
        prop_assert!(EmailAddress::parse(&local).is_err());
        let domain = format!("a@{text}.com");
        prop_assert!(EmailAddress::parse(&domain).is_err());
        let named = format!("{text} <a@example.com>");
        prop_assert!(Mailbox::parse(&named).is_err());
        let quoted = format!("\"{text}\" <a@example.com>");
        prop_assert!(Mailbox::parse(&quoted).is_err());
        prop_assert!(Attachment::new(&text, "text/plain", *b"x").is_err());
        let content_type = format!("text/plain; charset={text}");
        prop_assert!(Attachment::new("a.txt", content_type, *b"x").is_err());
        let file = Attachment::new("a.txt", "text/plain", *b"x").unwrap();
        prop_assert!(file.inline(&text).is_err());
        prop_assert_eq!(plain().tag(text.as_str()).build().unwrap_err(), MailError::Tag);
        let error = plain().metadata("key", &text).build().unwrap_err();
        prop_assert_eq!(error, MailError::MetadataValue);
        let error = plain().metadata(&text, "value").build().unwrap_err();
        prop_assert_eq!(error, MailError::MetadataKey);
    }

    #[test]
    fn a_line_end_is_refused_in_every_field_that_is_read_back(text in broken()) {
        let (mail, places) = stored();
        for place in places {
            let mut changed = mail.clone();
            *changed.pointer_mut(place).unwrap() = text.clone().into();
            prop_assert!(serde_json::from_value::<Mail>(changed).is_err(), "{}", place);
        }
    }

    /// Also what looks harmless gives no line of its own.
    #[test]
    fn no_request_has_a_line_end_where_a_header_is_made_of(
        name in "\\PC{1,40}",
        subject in "\\PC{1,80}",
        value in "\\PC{1,80}",
        file in "[^/\\\\\\pC]{1,30}",
    ) {
        let built = (|| {
            let address = EmailAddress::parse("a@example.com").ok()?;
            let from = Mailbox { name: None, address: address.clone() };
            let file = Attachment::new(format!("{file}.txt"), "text/plain", *b"x").ok()?;
            Mail::builder(from, [Mailbox::named(&name, address).ok()?])
                .subject(HeaderText::new(&subject).ok()?)
                .header(HeaderName::new("X-Own").ok()?, HeaderText::new(&value).ok()?)
                .text("x")
                .attach(file)
                .build()
                .ok()
        })();
        prop_assume!(built.is_some());
        let mail = built.unwrap();
        for api in apis() {
            let request = api.encode(id(), &mail).unwrap();
            if let Ok(body) = serde_json::from_slice::<Value>(&request.body) {
                prop_assert!(!has_line_end(&body), "{}", api.name());
            } else {
                let body = String::from_utf8(request.body).unwrap();
                // Mailgun: 8 parts (from, to, subject, text, h:, v:, file), each of 5 lines or so.
                prop_assert_eq!(body.lines().count(), 4 * 6 + 5 + 1);
                prop_assert!(!body.replace("\r\n", "").contains(['\r', '\n', '\0']));
            }
        }
    }
}

fn has_line_end(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains(['\r', '\n', '\0']),
        Value::Array(items) => items.iter().any(has_line_end),
        Value::Object(fields) => {
            fields.iter().any(|(key, value)| key.contains(['\r', '\n']) || has_line_end(value))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

#[test]
fn every_place_of_a_stored_mail_is_tried() {
    let (mail, places) = stored();
    for place in places {
        assert!(mail.pointer(place).is_some(), "{place}");
    }
}

#[test]
fn a_stored_mail_is_read_back_as_it_was() {
    for mail in [awkward(), plain().build().unwrap()] {
        let stored = serde_json::to_string(&mail).unwrap();
        let read: Mail = serde_json::from_str(&stored).unwrap();
        assert_eq!(read, mail);
        assert_eq!(read.content_hash(), mail.content_hash());
    }
}

#[test]
fn a_stored_mail_with_a_field_that_is_not_known_is_refused() {
    let mut mail = serde_json::to_value(plain().build().unwrap()).unwrap();
    assert!(serde_json::from_value::<Mail>(mail.clone()).is_ok());
    mail["deliver_by_pigeon"] = json!(true);
    assert!(serde_json::from_value::<Mail>(mail).is_err());
}

#[test]
fn every_field_changes_the_hash_and_nothing_moves_between_fields() {
    let with = |change: fn(MailBuilder) -> MailBuilder| change(plain()).build().unwrap();
    let mails = [
        with(|mail| mail),
        with(|mail| mail.cc(mailbox("c@example.com"))),
        with(|mail| mail.bcc(mailbox("c@example.com"))),
        with(|mail| mail.reply_to(mailbox("c@example.com"))),
        with(|mail| mail.reply_to(mailbox("C <c@example.com>"))),
        with(|mail| mail.subject(text("Ho"))),
        with(|mail| mail.text("Hello!")),
        with(|mail| mail.html("Hello")),
        with(|mail| mail.text("").html("Hello")),
        with(|mail| mail.header(HeaderName::new("X-A").unwrap(), text("b"))),
        with(|mail| mail.header(HeaderName::new("X-Ab").unwrap(), text("c"))),
        with(|mail| mail.metadata("ab", "c")),
        with(|mail| mail.metadata("a", "bc")),
        with(|mail| mail.tag("ab")),
        with(|mail| mail.attach(Attachment::new("a", "text/plain", *b"bc").unwrap())),
        with(|mail| mail.attach(Attachment::new("ab", "text/plain", *b"c").unwrap())),
        with(|mail| {
            let file = Attachment::new("ab", "text/plain", *b"c").unwrap();
            mail.attach(file.inline("d").unwrap())
        }),
    ];
    let hashes: std::collections::HashSet<_> = mails.iter().map(Mail::content_hash).collect();
    assert_eq!(hashes.len(), mails.len());
}

/// Rows outlive versions: a hash that changes makes a conflict of every mail that is under way.
#[test]
fn the_hash_of_a_mail_never_changes() {
    let hash = awkward().content_hash();
    let hash = crate::hex::hex(&hash);
    assert_eq!(hash, "873aeaf4a62b6444b0715498b7a22d7cb84333fbf7f6aebead5c7a6a013a913f");
}
