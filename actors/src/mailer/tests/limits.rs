//! What a mail may have, at each limit and one past it.

use super::*;

#[track_caller]
fn check(limit: usize, field: &'static str, with: impl Fn(usize) -> MailBuilder) {
    assert!(with(limit).build().is_ok(), "{:?}", with(limit).build());
    let error = MailError::TooMuch { field, found: limit + 1, limit };
    assert_eq!(with(limit + 1).build().unwrap_err(), error);
}

fn many(count: usize) -> impl Iterator<Item = Mailbox> {
    (0..count).map(|at| mailbox(&format!("a{at}@example.com")))
}

#[test]
fn recipients_of_all_fields_count_together() {
    check(50, "recipients", |count| {
        let builder = Mail::builder(mailbox("a@example.com"), many(count - 2));
        let copies = builder.cc(mailbox("c@example.com")).bcc(mailbox("d@example.com"));
        copies.subject(text("Hi")).text("Hello")
    });
    check(10, "reply_to", |count| many(count).fold(plain(), MailBuilder::reply_to));
}

#[test]
fn texts_headers_and_metadata_have_limits() {
    check(5 * 1024 * 1024, "text", |bytes| plain().text("a".repeat(bytes)));
    check(5 * 1024 * 1024, "html", |bytes| plain().html("a".repeat(bytes)));
    let own =
        |at: usize, bytes| (HeaderName::new(format!("X-{at:02}")).unwrap(), "a".repeat(bytes));
    check(15, "headers", |count| {
        (0..count)
            .map(|at| own(at, 1))
            .fold(plain(), |mail, (name, value)| mail.header(name, text(value)))
    });
    check(8 * 1024, "header_bytes", |bytes| {
        // Fourteen of 544 bytes with their names of 4, and the rest.
        let full = (0..14)
            .map(|at| own(at, 540))
            .fold(plain(), |mail, (name, value)| mail.header(name, text(value)));
        let (name, value) = own(14, bytes - 14 * 544 - 4);
        full.header(name, text(value))
    });
    check(9, "metadata", |count| {
        (0..count).fold(plain(), |mail, at| mail.metadata(format!("k{at}"), "v"))
    });
    check(512, "metadata_bytes", |bytes| {
        let full = (0..6).fold(plain(), |mail, at| mail.metadata(format!("k{at}"), "v".repeat(78)));
        full.metadata("rest", "v".repeat(bytes - 6 * 80 - 4))
    });
}

#[test]
fn files_have_limits() {
    let file = |bytes: usize| Attachment::new("a.txt", "text/plain", vec![b'a'; bytes]);
    check(20, "attachments", |count| {
        (0..count).fold(plain(), |mail, _| mail.attach(file(1).unwrap()))
    });
    let limit = 20 * 1024 * 1024;
    assert!(file(limit).is_ok());
    let error = AttachmentError::TooLarge { bytes: limit + 1, limit };
    assert_eq!(file(limit + 1).unwrap_err(), error);
    check(limit, "attachment_bytes", |bytes| {
        plain().attach(file(1).unwrap()).attach(file(bytes - 1).unwrap())
    });
    assert_eq!(file(0).unwrap_err(), AttachmentError::Empty);

    let named = |name: String| Attachment::new(name, "text/plain", *b"x");
    assert!(named("n".repeat(255)).is_ok());
    for name in ["n".repeat(256), String::new(), " ".into(), "../a".into(), "a\\b".into()] {
        assert_eq!(named(name).unwrap_err(), AttachmentError::Name);
    }
    let typed = |content_type: String| Attachment::new("a", content_type, *b"x");
    assert!(typed(format!("text/{}", "x".repeat(73))).is_ok());
    assert!(typed("text/calendar; method=REQUEST; charset=\"utf-8\"".into()).is_ok());
    let long = format!("text/{}", "x".repeat(74));
    for content_type in [&long, "text", "text/", "/plain", "te xt/plain", "text/plain/x", "é/é"] {
        let error = typed(content_type.to_owned()).unwrap_err();
        assert_eq!(error, AttachmentError::ContentType, "{content_type}");
    }
    let inline = |id: String| file(1).unwrap().inline(id);
    assert!(inline("i".repeat(78)).is_ok());
    for id in ["i".repeat(79), String::new(), "<a>".into(), "a b".into(), "a\"b".into()] {
        assert_eq!(inline(id).unwrap_err(), AttachmentError::ContentId);
    }
}

#[test]
fn tags_and_metadata_are_words_that_every_provider_takes() {
    assert!(plain().tag("t".repeat(64)).build().is_ok());
    for tag in ["t".repeat(65), String::new(), "a b".into(), "ä".into()] {
        assert_eq!(plain().tag(tag).build().unwrap_err(), MailError::Tag);
    }
    assert!(plain().metadata("k".repeat(20), "v".repeat(80)).build().is_ok());
    for key in ["k".repeat(21), String::new(), "a.b".into(), "mail_id".into()] {
        assert_eq!(plain().metadata(key, "v").build().unwrap_err(), MailError::MetadataKey);
    }
    for value in ["v".repeat(81), String::new(), "ä".into(), "a\"b".into(), "a\\b".into()] {
        assert_eq!(plain().metadata("k", value).build().unwrap_err(), MailError::MetadataValue);
    }
}

#[test]
fn a_mail_must_be_complete_and_name_nobody_twice() {
    let nobody = Mail::builder(mailbox("a@example.com"), []).subject(text("Hi")).text("Hello");
    assert_eq!(nobody.build().unwrap_err(), MailError::NoRecipient);
    let builder = Mail::builder(mailbox("a@example.com"), [mailbox("b@example.com")]);
    assert_eq!(builder.clone().text("Hello").build().unwrap_err(), MailError::NoSubject);
    assert_eq!(builder.subject(text("Hi")).build().unwrap_err(), MailError::NoBody);
    assert_eq!(plain().text(" \n").html("").build().unwrap_err(), MailError::NoBody);
    assert_eq!(plain().html("a\0").build().unwrap_err(), MailError::NulInBody);
    let twice = plain().bcc(mailbox("Other Name <B@EXAMPLE.com>"));
    assert_eq!(twice.build().unwrap_err(), MailError::DuplicateRecipient);
    let twice = plain()
        .header(HeaderName::new("X-A").unwrap(), text("1"))
        .header(HeaderName::new("x-a").unwrap(), text("2"));
    assert_eq!(twice.build().unwrap_err(), MailError::DuplicateHeader);
    let inline = Attachment::new("a", "text/plain", *b"x").unwrap().inline("id").unwrap();
    let twice = plain().attach(inline.clone()).attach(inline);
    assert_eq!(twice.build().unwrap_err(), MailError::DuplicateContentId);
}

#[test]
fn a_body_that_is_empty_is_none() {
    let mail = plain().html("  ").build().unwrap();
    assert_eq!((mail.text(), mail.html()), (Some("Hello"), None));
}

#[test]
fn recipients_are_all_of_them_in_order() {
    let mail = awkward();
    let all: Vec<_> = mail.recipients().map(EmailAddress::as_str).collect();
    let expected =
        ["jane@example.com", "zoe@example.org", "copy@example.com", "hidden@example.net"];
    assert_eq!(all, expected);
}
