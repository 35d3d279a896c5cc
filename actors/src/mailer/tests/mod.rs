//! Mails, providers, and the wire.

mod addresses;
mod claims;
mod clocks;
mod decode;
mod dev_mailbox;
mod doubts;
mod events;
mod fault_server;
mod golden;
mod groups;
mod headers;
mod html;
mod injection;
mod limits;
mod listening;
mod post_office;
mod processes;
mod retention;
mod servers;
mod settings;
mod silence;
#[cfg(feature = "smtp")]
mod smtp;
mod stage;
mod templates;
mod wire;

use super::*;

/// A mail that has something in every field, and something awkward in most.
fn awkward() -> Mail {
    let report = Attachment::new("repört.pdf", "application/pdf", *b"%PDF").unwrap();
    let logo = Attachment::new("logo.png", "image/png", *b"\x89PNG\r\n").unwrap();
    Mail::builder(
        mailbox("Müller & Co <shop@příklad.example.cz>"),
        [mailbox("Doe, Jane <jane@example.com>"), mailbox("Zoë <zoe@example.org>")],
    )
    .cc(mailbox("copy@example.com"))
    .bcc(mailbox("hidden@example.net"))
    .reply_to(mailbox("\"Help; Desk\" <help@example.com>"))
    .subject(text("Grüße, №1"))
    .text("Hällo\r\nBcc: not-a-header@example.com")
    .html("<p>Hällo <img src=\"cid:logo@shop\"></p>")
    .header(HeaderName::new("X-Order").unwrap(), text("№ 7"))
    .header(HeaderName::new("List-Unsubscribe").unwrap(), text("<https://example.com/u>"))
    .attach(report)
    .attach(logo.inline("logo@shop").unwrap())
    .metadata("order", "7")
    .tag("welcome")
    .build()
    .unwrap()
}

/// A mail that has what it must.
fn plain() -> MailBuilder {
    Mail::builder(mailbox("a@example.com"), [mailbox("b@example.com")])
        .subject(text("Hi"))
        .text("Hello")
}

#[track_caller]
fn mailbox(text: &str) -> Mailbox {
    Mailbox::parse(text).unwrap()
}

#[track_caller]
fn text(text: impl AsRef<str>) -> HeaderText {
    HeaderText::new(text).unwrap()
}

const ID: &str = "0192f0c1a2b37c4d8e5f60718293a4b5";

fn id() -> MailId {
    ID.parse().unwrap()
}
