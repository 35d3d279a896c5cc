//! What each API is sent, field by field.

use serde_json::{Value, json};

use super::*;
use crate::mailer::provider::{
    EncodeError, HttpApi, Mailgun, Postmark, Resend, SendGrid, Ses, SesCredentials, WireRequest,
};
use crate::store::Timestamp;

pub(super) const TOKEN: &str = "s3cret-token";

pub(super) fn ses() -> Ses {
    Ses::new("eu-central-1", SesCredentials::new("AKIDEXAMPLE", TOKEN).unwrap()).unwrap()
}

/// All of them.
pub(super) fn apis() -> Vec<Box<dyn HttpApi>> {
    vec![
        Box::new(Postmark::new(TOKEN).unwrap()),
        Box::new(SendGrid::new(TOKEN).unwrap()),
        Box::new(Mailgun::new("mg.example.com", TOKEN).unwrap()),
        // Its sender may have no punctuation.
        Box::new(Resend::new(TOKEN).unwrap()),
        Box::new(ses()),
    ]
}

#[track_caller]
fn check(api: &dyn HttpApi, url: &str, expected: &Value) -> WireRequest {
    let request = api.encode(id(), &awkward()).unwrap();
    assert_eq!(request.url, url);
    let content_type = request.header("content-type");
    assert_eq!(content_type, Some("application/json"));
    assert_eq!(request.header("accept"), Some("application/json"));
    assert_eq!(&serde_json::from_slice::<Value>(&request.body).unwrap(), expected);
    request
}

const HTML: &str = "<p>Hällo <img src=\"cid:logo@shop\"></p>";
const TEXT: &str = "Hällo\r\nBcc: not-a-header@example.com";
const FROM: &str = "=?utf-8?B?TcO8bGxlciAmIENv?= <shop@xn--pklad-zsa96e.example.cz>";
const JANE: &str = "\"Doe, Jane\" <jane@example.com>";
const ZOE: &str = "=?utf-8?B?Wm/Dqw==?= <zoe@example.org>";
const ORDER: &str = "=?utf-8?B?4oSWIDc=?=";
const LOGO: &str = "iVBORw0K";
const REPORT: &str = "JVBERg==";

#[test]
fn postmark_is_sent_what_it_takes() {
    let api = Postmark::new(TOKEN).unwrap().message_stream("outbound").unwrap();
    check(
        &api,
        "https://api.postmarkapp.com/email",
        &json!({
            "From": FROM,
            "To": format!("{JANE}, {ZOE}"),
            "Cc": "copy@example.com",
            "Bcc": "hidden@example.net",
            "ReplyTo": "\"Help; Desk\" <help@example.com>",
            "Subject": "Grüße, №1",
            "TextBody": TEXT,
            "HtmlBody": HTML,
            "Headers": [
                {"Name": "X-Order", "Value": ORDER},
                {"Name": "List-Unsubscribe", "Value": "<https://example.com/u>"},
            ],
            "Tag": "welcome",
            "Metadata": {"order": "7", "mail_id": ID},
            "MessageStream": "outbound",
            "Attachments": [
                {"Name": "repört.pdf", "Content": REPORT, "ContentType": "application/pdf"},
                {
                    "Name": "logo.png",
                    "Content": LOGO,
                    "ContentType": "image/png",
                    "ContentID": "cid:logo@shop",
                },
            ],
        }),
    );
}

#[test]
fn sendgrid_is_sent_what_it_takes() {
    let api = SendGrid::new(TOKEN).unwrap().sandbox(true);
    check(
        &api,
        "https://api.sendgrid.com/v3/mail/send",
        &json!({
            "personalizations": [{
                "to": [
                    {"email": "jane@example.com", "name": "\"Doe, Jane\""},
                    {"email": "zoe@example.org", "name": "Zoë"},
                ],
                "cc": [{"email": "copy@example.com"}],
                "bcc": [{"email": "hidden@example.net"}],
                "custom_args": {"order": "7", "mail_id": ID},
            }],
            "from": {"email": "shop@xn--pklad-zsa96e.example.cz", "name": "Müller & Co"},
            "reply_to_list": [{"email": "help@example.com", "name": "Help; Desk"}],
            "subject": "Grüße, №1",
            "content": [
                {"type": "text/plain", "value": TEXT},
                {"type": "text/html", "value": HTML},
            ],
            "headers": {"X-Order": ORDER, "List-Unsubscribe": "<https://example.com/u>"},
            "categories": ["welcome"],
            "attachments": [
                {
                    "content": REPORT,
                    "type": "application/pdf",
                    "filename": "repört.pdf",
                    "disposition": "attachment",
                },
                {
                    "content": LOGO,
                    "type": "image/png",
                    "filename": "logo.png",
                    "disposition": "inline",
                    "content_id": "logo@shop",
                },
            ],
            "mail_settings": {"sandbox_mode": {"enable": true}},
        }),
    );
}

#[test]
fn sendgrid_is_sent_no_empty_part() {
    let api = SendGrid::new(TOKEN).unwrap();
    let mail = plain().text("").html("<b>Hi</b>").build().unwrap();
    let body: Value = serde_json::from_slice(&api.encode(id(), &mail).unwrap().body).unwrap();
    assert_eq!(body["content"], json!([{"type": "text/html", "value": "<b>Hi</b>"}]));
    for absent in ["headers", "categories", "attachments", "reply_to_list", "mail_settings"] {
        assert!(body.get(absent).is_none(), "{absent}");
    }
    let file = Attachment::new("a.ics", "text/calendar; method=REQUEST", *b"x").unwrap();
    let error = api.encode(id(), &plain().attach(file).build().unwrap()).unwrap_err();
    assert!(matches!(error, EncodeError::Unsupported { .. }));
    // Its events would have two of them, and one of a stranger's choice.
    let mail = plain().metadata("event", "delivered").build().unwrap();
    let error = api.encode(id(), &mail).unwrap_err();
    let what = "metadata named as a field of its events";
    assert_eq!(error, EncodeError::Unsupported { what });
}

#[test]
fn resend_is_sent_what_it_takes() {
    let api = Resend::new(TOKEN).unwrap();
    let request = check(
        &api,
        "https://api.resend.com/emails",
        &json!({
            // Neither quoted nor encoded; the others are encoded and never quoted.
            "from": "Müller & Co <shop@xn--pklad-zsa96e.example.cz>",
            "to": ["=?utf-8?B?RG9lLCBKYW5l?= <jane@example.com>", ZOE],
            "cc": ["copy@example.com"],
            "bcc": ["hidden@example.net"],
            "reply_to": ["=?utf-8?B?SGVscDsgRGVzaw==?= <help@example.com>"],
            "subject": "Grüße, №1",
            "text": TEXT,
            "html": HTML,
            "headers": {
                "X-Order": ORDER,
                "List-Unsubscribe": "<https://example.com/u>",
                "X-Metadata": "{\"order\":\"7\"}",
            },
            "tags": [{"name": "mail_id", "value": ID}, {"name": "tag", "value": "welcome"}],
            "attachments": [
                {"content": REPORT, "filename": "repört.pdf", "content_type": "application/pdf"},
                {
                    "content": LOGO,
                    "filename": "logo.png",
                    "content_type": "image/png",
                    "content_id": "logo@shop",
                },
            ],
        }),
    );
    assert_eq!(request.idempotency_key.as_deref(), Some(ID));
    assert_eq!(request.header("idempotency-key"), Some(ID));
}

#[test]
fn resend_is_not_sent_what_it_would_drop_or_misread() {
    let api = Resend::new(TOKEN).unwrap();
    let encode = |builder: MailBuilder| api.encode(id(), &builder.build().unwrap());
    let unsupported = |what| Err(EncodeError::Unsupported { what });
    for (name, content_type, fits) in [
        ("a.pdf", "application/pdf", true),
        ("a.PDF", "Application/PDF", true),
        ("a.jpeg", "image/jpeg", true),
        ("a.pdf", "image/png", false),
        ("a.pdf", "application/octet-stream", false),
        ("a.bin", "application/octet-stream", true),
        ("a.bin", "application/pdf", false),
        ("a", "application/pdf", false),
        ("a", "application/octet-stream", false),
        ("a.", "application/octet-stream", false),
        ("a.ics", "text/calendar; method=REQUEST", true),
    ] {
        let file = Attachment::new(name, content_type, *b"x").unwrap();
        let sent = encode(plain().attach(file));
        assert_eq!(sent.is_ok(), fits, "{name} {content_type}");
    }
    for name in ["Shop, Inc.", "Evil <evil@example.com>", "a@b", "\"a\"", "a;b", "a(b)", "a:b"] {
        let from = Mailbox::named(name, EmailAddress::parse("a@example.com").unwrap()).unwrap();
        let mail = Mail::builder(from, [mailbox("b@example.com")]).subject(text("Hi")).text("Hi");
        let punctuation = unsupported("punctuation in the sender's name");
        assert_eq!(encode(mail), punctuation, "{name}");
    }
    let own = HeaderName::new("x-metadata").unwrap();
    assert!(encode(plain().header(own.clone(), text("mine"))).is_ok());
    let both = plain().header(own, text("mine")).metadata("a", "b");
    assert_eq!(encode(both), unsupported("metadata beside a header X-Metadata"));
}

#[test]
fn ses_is_sent_what_it_takes() {
    let api = ses().configuration_set("events").unwrap();
    check(
        &api,
        "https://email.eu-central-1.amazonaws.com/v2/email/outbound-emails",
        &json!({
            "FromEmailAddress": FROM,
            "Destination": {
                "ToAddresses": [JANE, ZOE],
                "CcAddresses": ["copy@example.com"],
                "BccAddresses": ["hidden@example.net"],
            },
            "ReplyToAddresses": ["\"Help; Desk\" <help@example.com>"],
            "Content": {"Simple": {
                "Subject": {"Data": "Grüße, №1", "Charset": "UTF-8"},
                "Body": {
                    "Text": {"Data": TEXT, "Charset": "UTF-8"},
                    "Html": {"Data": HTML, "Charset": "UTF-8"},
                },
                "Headers": [
                    {"Name": "X-Order", "Value": ORDER},
                    {"Name": "List-Unsubscribe", "Value": "<https://example.com/u>"},
                    {"Name": "X-Metadata", "Value": "{\"order\":\"7\"}"},
                ],
                "Attachments": [
                    {
                        "FileName": "repört.pdf",
                        "RawContent": REPORT,
                        "ContentType": "application/pdf",
                        "ContentTransferEncoding": "BASE64",
                        "ContentDisposition": "ATTACHMENT",
                    },
                    {
                        "FileName": "logo.png",
                        "RawContent": LOGO,
                        "ContentType": "image/png",
                        "ContentTransferEncoding": "BASE64",
                        "ContentDisposition": "INLINE",
                        "ContentId": "logo@shop",
                    },
                ],
            }},
            "EmailTags": [{"Name": "mail_id", "Value": ID}, {"Name": "tag", "Value": "welcome"}],
            "ConfigurationSetName": "events",
        }),
    );
}

#[test]
fn ses_is_not_sent_headers_that_are_too_long_or_too_many() {
    let encode = |builder: MailBuilder| ses().encode(id(), &builder.build().unwrap());
    let header = |at: usize, bytes: usize| {
        (HeaderName::new(format!("X-{at}")).unwrap(), text("v".repeat(bytes)))
    };
    let with = |headers: Vec<(HeaderName, HeaderText)>| {
        headers.into_iter().fold(plain(), |mail, (name, value)| mail.header(name, value))
    };
    assert!(encode(with(vec![header(0, 870)])).is_ok());
    assert!(encode(with(vec![header(0, 871)])).is_err());
    let fifteen = with((0..15).map(|at| header(at, 1)).collect());
    assert!(encode(fifteen.clone()).is_ok());
    assert!(encode(fifteen.metadata("a", "b")).is_err());
    // All that metadata may be fits.
    let full = (0..9).fold(plain(), |mail, at| mail.metadata(format!("k{at}"), "v".repeat(54)));
    assert!(encode(full).is_ok());
}

#[test]
fn mailgun_is_sent_what_it_takes() {
    let api = Mailgun::new("mg.example.com", TOKEN).unwrap();
    let request = api.encode(id(), &awkward()).unwrap();
    assert_eq!(request.url, "https://api.mailgun.net/v3/mg.example.com/messages");
    let content_type = request.header("content-type").unwrap();
    let boundary = content_type.strip_prefix("multipart/form-data; boundary=").unwrap();
    assert!(boundary.len() <= 70, "RFC 2046, 5.1.1");
    let part = |name: &str, value: &str| {
        format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        )
    };
    let mut expected = String::new();
    for (name, value) in [
        ("from", FROM),
        ("to", JANE),
        ("to", ZOE),
        ("cc", "copy@example.com"),
        ("bcc", "hidden@example.net"),
        ("subject", "Grüße, №1"),
        ("text", TEXT),
        ("html", HTML),
        ("h:Reply-To", "\"Help; Desk\" <help@example.com>"),
        ("h:X-Order", ORDER),
        ("h:List-Unsubscribe", "<https://example.com/u>"),
        ("v:mail_id", ID),
        ("v:order", "7"),
        ("o:tag", "welcome"),
    ] {
        expected.push_str(&part(name, value));
    }
    let mut expected = expected.into_bytes();
    for (field, name, content_type, content) in [
        ("attachment", "repört.pdf", "application/pdf", &b"%PDF"[..]),
        ("inline", "logo@shop", "image/png", b"\x89PNG\r\n"),
    ] {
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{field}\"; \
             filename=\"{name}\"\r\nContent-Type: {content_type}\r\n\r\n"
        );
        expected.extend_from_slice(head.as_bytes());
        expected.extend_from_slice(content);
        expected.extend_from_slice(b"\r\n");
    }
    expected.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    assert_eq!(request.body, expected, "{}", String::from_utf8_lossy(&request.body));
}

#[test]
fn mailgun_is_sent_no_quote_that_ends_a_file_name() {
    let file = Attachment::new("a\"; name=\"to.txt", "text/plain", *b"x").unwrap();
    let api = Mailgun::new("mg.example.com", TOKEN).unwrap();
    let request = api.encode(id(), &plain().attach(file).build().unwrap()).unwrap();
    let body = String::from_utf8(request.body).unwrap();
    assert!(body.contains("filename=\"a%22; name=%22to.txt\"\r\n"));
}

#[test]
fn nobody_sees_who_gets_a_hidden_copy() {
    for api in apis() {
        let request = api.encode(id(), &awkward()).unwrap();
        let body = String::from_utf8_lossy(&request.body).into_owned();
        assert_eq!(body.matches("hidden@example.net").count(), 1, "{}", api.name());
        let headers = format!("{:?}{}", request.headers, request.url);
        assert!(!headers.contains("hidden"), "{}", api.name());
    }
}

#[test]
fn a_request_is_the_same_each_time_and_has_no_secret() {
    for api in apis() {
        let request = api.encode(id(), &awkward()).unwrap();
        assert_eq!(request, api.encode(id(), &awkward()).unwrap());
        let other = api.encode(MailId::fresh(), &awkward()).unwrap();
        assert_ne!(request.body, other.body, "{}: the number is in it", api.name());
        let secrets = api.authorize(&request, Timestamp(1_440_938_160_000));
        assert!(!secrets.is_empty(), "{}", api.name());
        let stored = serde_json::to_string(&request).unwrap();
        let body = String::from_utf8_lossy(&request.body).into_owned();
        let shown = format!("{api:?} {secrets:?} {request:?}");
        for text in [stored, body, shown] {
            assert!(!text.contains(TOKEN), "{}", api.name());
        }
    }
}

#[test]
fn each_api_is_told_who_asks_in_its_own_way() {
    let request = ses().encode(id(), &awkward()).unwrap();
    let secrets = |api: &dyn HttpApi| -> Vec<(String, String)> {
        let secrets = api.authorize(&request, Timestamp(1_440_938_160_000));
        secrets.into_iter().map(|(name, secret)| (name, secret.expose().to_owned())).collect()
    };
    let one = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
    let postmark = secrets(&Postmark::new(TOKEN).unwrap());
    assert_eq!(postmark, one("x-postmark-server-token", "s3cret-token"));
    let bearer = one("authorization", "Bearer s3cret-token");
    assert_eq!(secrets(&SendGrid::new(TOKEN).unwrap()), bearer);
    assert_eq!(secrets(&Resend::new(TOKEN).unwrap()), bearer);
    let basic = one("authorization", "Basic YXBpOnMzY3JldC10b2tlbg==");
    assert_eq!(secrets(&Mailgun::new("example.com", TOKEN).unwrap()), basic);

    let credentials = SesCredentials::new("AKIDEXAMPLE", TOKEN).unwrap();
    let api = Ses::new("eu-central-1", credentials.session_token("t0ken").unwrap()).unwrap();
    let signed = secrets(&api);
    assert!(signed[0].1.starts_with(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/eu-central-1/ses/aws4_request, \
         SignedHeaders=content-type;host;x-amz-date;x-amz-security-token, Signature="
    ));
    assert_eq!(signed[1], ("x-amz-date".to_owned(), "20150830T123600Z".to_owned()));
    assert_eq!(signed[2], ("x-amz-security-token".to_owned(), "t0ken".to_owned()));
}

#[test]
fn a_mail_one_byte_past_the_limit_of_a_provider_is_refused() {
    let padded = |bytes: usize| plain().text("x".repeat(bytes)).build().unwrap();
    let api = ses();
    let rest = api.encode(id(), &padded(1)).unwrap().body.len() - 1;
    let api = api.max_bytes(10_000).unwrap();
    assert_eq!(api.encode(id(), &padded(10_000 - rest)).unwrap().body.len(), 10_000);
    let error = api.encode(id(), &padded(10_001 - rest)).unwrap_err();
    assert_eq!(error, EncodeError::TooLarge { bytes: 10_001, limit: 10_000 });
}
