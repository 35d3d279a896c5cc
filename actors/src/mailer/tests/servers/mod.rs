//! Servers that others wrote: what they make of what we send. `.ci/run` starts them.
//!
//! | variable | server |
//! |---|---|
//! | `STEADFAST_TEST_SES`, `…_KEY`, `…_SECRET` | moto 5, started with `INITIAL_NO_AUTH_ACTION_COUNT`: the key may do `ses:*`, `a@example.com` is a verified identity |
//! | `STEADFAST_TEST_SES_STORE` | aws-ses-v2-local 2 |
//! | `STEADFAST_TEST_SMTP`, `…_STORE` | `smtp_server.py`: its address, and where it shows what it has |

mod ses_signatures;
mod ses_store;
#[cfg(feature = "smtp")]
mod smtp_store;

use serde_json::Value;

use super::*;
use crate::store::postgres::testing::skip;

/// What these variables say; [`None`], and a line that says so, when one of them is not set. They
/// have no defaults: whoever requires these servers has started them, and says where.
fn settings<const N: usize>(names: [&str; N]) -> Option<[String; N]> {
    let found = names.map(|name| std::env::var(name).ok());
    if found.iter().all(Option::is_some) {
        return Some(found.map(Option::unwrap));
    }
    skip(&format!("no server in {}", names[0]));
    None
}

/// A mail that has something everywhere, from and to whom the servers know.
fn rich() -> MailBuilder {
    let report = Attachment::new("repört.pdf", "application/pdf", *b"%PDF\x00\xff").unwrap();
    let logo = Attachment::new("logo.png", "image/png", *b"\x89PNG\r\n").unwrap();
    Mail::builder(
        mailbox("Müller & Co <a@example.com>"),
        [mailbox("\"Doe, Jane\" <jane@example.com>"), mailbox("Zoë <zoe@example.org>")],
    )
    .cc(mailbox("copy@example.com"))
    .bcc(mailbox("hidden@example.net"))
    .reply_to(mailbox("\"Help; Desk\" <help@example.com>"))
    .subject(text("Grüße, №1"))
    .text("Hällo\r\n.\r\n..two\r\n.hidden\r\nBcc: nobody@example.com")
    .html("<p>Hällo <img src=\"cid:logo@shop\"></p>")
    .header(HeaderName::new("X-Order").unwrap(), text("№ 7"))
    .attach(report)
    .attach(logo.inline("logo@shop").unwrap())
    .metadata("order", "7")
    .tag("welcome")
}

/// What a server shows.
async fn shown(url: &str) -> Value {
    crate::tls::install_default_provider();
    reqwest::get(url).await.unwrap().json().await.unwrap()
}
