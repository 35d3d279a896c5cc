//! SMTP with Python's server and Python's parser of messages.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;
use crate::mailer::provider::{MailProvider as _, Outcome, Smtp, SmtpSecurity};

const SERVER: [&str; 2] = ["STEADFAST_TEST_SMTP", "STEADFAST_TEST_SMTP_STORE"];

/// A message that the server has.
struct Kept(Value);

impl Kept {
    fn header(&self, name: &str) -> &str {
        let headers = self.0["headers"].as_array().unwrap();
        let mut of_name = headers.iter().filter(|header| header[0] == name);
        let header = of_name.next().unwrap_or_else(|| panic!("no {name} in {headers:?}"));
        assert!(of_name.next().is_none(), "one {name} only");
        header[1].as_str().unwrap()
    }

    /// The only part of this type, and its content.
    fn part(&self, content_type: &str) -> (&Value, Vec<u8>) {
        let parts = self.0["parts"].as_array().unwrap();
        let of_type: Vec<_> = parts.iter().filter(|part| part["type"] == content_type).collect();
        let [part] = of_type[..] else { panic!("{content_type} in {parts:?}") };
        (part, bytes(&part["content"]))
    }

    /// Everybody whom this header names.
    fn people(&self, name: &str) -> Value {
        self.0["people"][name].clone()
    }

    fn content(&self) -> String {
        String::from_utf8(bytes(&self.0["content"])).unwrap()
    }
}

fn bytes(base64: &Value) -> Vec<u8> {
    STANDARD.decode(base64.as_str().unwrap()).unwrap()
}

async fn sent(address: &str, store: &str, mail: Mail) -> Kept {
    let (host, port) = address.split_once(':').unwrap();
    let smtp = Smtp::new(host, SmtpSecurity::None).unwrap().port(port.parse().unwrap());
    let id = MailId::fresh();
    let request = smtp.encode(id, &mail).unwrap();
    let answer = smtp.send(&request, Duration::from_secs(30)).await.unwrap();
    assert!(matches!(answer.outcome, Outcome::Accepted { .. }), "{answer:?}");
    let Value::Array(messages) = shown(store).await else { panic!("no list") };
    let messages: Vec<_> = messages.into_iter().map(Kept).collect();
    let number = format!("<{id}@example.com>");
    // Whoever else sends to this server.
    let is_it = |kept: &Kept| {
        kept.0["headers"].as_array().unwrap().contains(&json!(["Message-ID", number]))
    };
    messages.into_iter().find(is_it).unwrap()
}

#[tokio::test]
async fn a_server_reads_what_was_written() {
    let Some([address, store]) = settings(SERVER) else { return };
    let mail = rich().build().unwrap();
    let (words, html) = (mail.text().unwrap().to_owned(), mail.html().unwrap().to_owned());
    let kept = sent(&address, &store, mail).await;
    assert_eq!(kept.0["defects"].as_array().unwrap().len(), 0, "{}", kept.0["defects"]);
    for (name, value) in [
        ("Subject", "Grüße, №1"),
        ("X-Order", "№ 7"),
        ("X-Metadata", "{\"order\":\"7\"}"),
        ("X-Tag", "welcome"),
    ] {
        assert_eq!(kept.header(name), value);
    }
    for (name, people) in [
        ("From", json!([["Müller & Co", "a@example.com"]])),
        ("To", json!([["Doe, Jane", "jane@example.com"], ["Zoë", "zoe@example.org"]])),
        ("Cc", json!([["", "copy@example.com"]])),
        ("Reply-To", json!([["Help; Desk", "help@example.com"]])),
    ] {
        assert_eq!(kept.people(name), people);
    }
    assert_eq!(kept.part("text/plain").1, words.as_bytes());
    assert_eq!(kept.part("text/html").1, html.as_bytes());
    let (report, content) = kept.part("application/pdf");
    assert_eq!(
        (&report["name"], &report["disposition"]),
        (&"repört.pdf".into(), &"attachment".into())
    );
    assert_eq!(content, b"%PDF\x00\xff");
    let (logo, content) = kept.part("image/png");
    assert_eq!((&logo["name"], &logo["disposition"]), (&"logo.png".into(), &"inline".into()));
    assert_eq!(logo["cid"], "<logo@shop>");
    assert_eq!(content, b"\x89PNG\r\n");
}

#[tokio::test]
async fn a_hidden_copy_is_told_to_the_server_and_not_to_the_recipients() {
    let Some([address, store]) = settings(SERVER) else { return };
    let kept = sent(&address, &store, rich().build().unwrap()).await;
    assert_eq!(kept.0["from"], "a@example.com");
    let recipients =
        ["jane@example.com", "zoe@example.org", "copy@example.com", "hidden@example.net"];
    assert_eq!(kept.0["to"], json!(recipients));
    let content = kept.content();
    assert!(!content.contains("hidden@"), "{content}");
    let (head, _) = content.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_ascii_lowercase().contains("\nbcc:"), "{head}");
}

/// Lines that begin with a dot are sent with two (RFC 5321, 4.5.2), and one alone would end it.
#[tokio::test]
async fn dots_come_through_as_they_are() {
    let Some([address, store]) = settings(SERVER) else { return };
    for words in
        [".", "..", ".\r\n.\r\n..\r\n.a", "a\r\n.\r\nQUIT\r\nMAIL FROM:<b@example.com>\r\n", "a."]
    {
        let mail = Mail::builder(mailbox("a@example.com"), [mailbox("b@example.com")]);
        let mail = mail.subject(text(".")).text(words).build().unwrap();
        let kept = sent(&address, &store, mail).await;
        let (_, content) = kept.part("text/plain");
        // Ends of lines may be added at the end of it all.
        let content = String::from_utf8(content).unwrap();
        assert_eq!(content.trim_end_matches("\r\n"), words.trim_end_matches("\r\n"));
    }
}

/// Long enough for RFC 2231's continuations and RFC 2047's several words.
#[tokio::test]
async fn long_names_that_are_not_ascii_come_through_whole() {
    let Some([address, store]) = settings(SERVER) else { return };
    let name = "Ünïcödé 漢字 ".repeat(8);
    let name = name.trim();
    let from = format!("{name} <a@example.com>");
    let file = format!("{name}; \"x\".txt");
    let mail = Mail::builder(mailbox(&from), [mailbox(&format!("{name} <b@example.com>"))])
        .subject(text(name))
        .text("x")
        .attach(Attachment::new(&file, "text/csv", *b"x").unwrap())
        .build()
        .unwrap();
    let kept = sent(&address, &store, mail).await;
    assert_eq!(kept.people("From"), json!([[name, "a@example.com"]]));
    assert_eq!(kept.people("To"), json!([[name, "b@example.com"]]));
    assert_eq!(kept.header("Subject"), name);
    assert_eq!(kept.part("text/csv").0["name"], file);
    assert!(kept.content().lines().all(|line| line.len() <= 998), "RFC 5322, 2.1.1");
}
