//! Mails: stored first, then sent through two providers that the upstream plays.

use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};
use std::time::Duration;
use steadfast::breaker::Breaker;
use steadfast::mailer::provider::{HttpProvider, Postmark, Resend};
use steadfast::mailer::{
    Attempt, Delivery, EmailAddress, HeaderText, HttpTransport, Mail, MailEnqueued, MailError,
    MailId, MailState, MailStatus, Mailbox, Mailer, MailerError, ProviderSpec,
};
use steadfast::runtime::Builder;
use steadfast::store::Store;

use crate::options::UpstreamUrl;

/// Who writes.
const SHOP: &str = "Steadfast Shop <shop@example.com>";
/// How long an attempt may take: short, so that a demonstration is.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// LIMIT: bytes of a text.
const TEXT_MAX: usize = 100 * 1024;

/// A mail that a client wants sent.
#[derive(Deserialize)]
pub(crate) struct NewMail {
    to: Address,
    subject: Subject,
    text: Text,
    html: Option<Text>,
}

/// An address.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Address(EmailAddress);

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Subject(HeaderText);

#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Text(String);

/// Declares the mailer: Resend first, which knows a mail it has; Postmark when that takes none.
///
/// # Errors
///
/// A setting is out of its range, or the HTTP client could not be built.
pub(crate) fn declare(
    builder: &mut Builder,
    store: &Store,
    upstream: &UpstreamUrl,
) -> Result<Mailer, Box<dyn Error>> {
    let base = format!("{}/mail", upstream.0);
    let transport = HttpTransport::builder().build()?;
    let resend = Resend::new("re_demo")?.base_url(&base)?;
    let postmark = Postmark::new("demo")?.base_url(&base)?;
    let mailer = Mailer::builder(store)
        .provider(
            ProviderSpec::new(HttpProvider::new(resend, transport.clone()))
                .breaker(breaker("resend")),
        )
        .provider(
            ProviderSpec::new(HttpProvider::new(postmark, transport)).breaker(breaker("postmark")),
        )
        .attempt_timeout(ATTEMPT_TIMEOUT);
    Ok(builder.mailer(mailer)?)
}

/// A short pause, so that a demonstration of recovery is short too.
fn breaker(provider: &str) -> steadfast::breaker::BreakerBuilder {
    Breaker::builder(&format!("mail.{provider}"))
        .min_calls(5)
        .slow_after(ATTEMPT_TIMEOUT)
        .open_for(Duration::from_secs(1))
        .open_max(Duration::from_secs(5))
}

/// Takes a mail to be sent.
///
/// # Errors
///
/// The key belongs to another mail, or the store or the queue failed.
///
/// # Cancel safety
///
/// Dropped, the mail may be sent all the same.
pub(crate) async fn accept(
    mailer: &Mailer,
    new: NewMail,
    key: Option<&str>,
) -> Result<MailEnqueued, MailsError> {
    let mut mail =
        Mail::builder(shop(), [Mailbox::from(new.to.0)]).subject(new.subject.0).text(new.text.0);
    if let Some(Text(html)) = new.html {
        mail = mail.html(html);
    }
    let enqueue = mailer.enqueue(mail.build()?).kind("demo");
    let enqueue = match key {
        Some(key) => enqueue.key(key),
        None => enqueue,
    };
    Ok(enqueue.await?)
}

/// The confirmation of an order.
///
/// # Errors
///
/// The address is none.
pub(crate) fn confirmation(order: i64, to: &Address) -> Result<Mail, MailError> {
    let subject = HeaderText::new(format!("Your order {order}"));
    let subject = subject.map_err(|_never| MailError::NoSubject)?;
    let text = format!("Thank you for your order {order}. We will tell you when it is shipped.");
    Mail::builder(shop(), [Mailbox::from(to.0.clone())]).subject(subject).text(text).build()
}

fn shop() -> Mailbox {
    // A constant of ours; a test of the server sends with it.
    #[expect(clippy::expect_used, reason = "the constant is an address")]
    Mailbox::parse(SHOP).expect("an address")
}

/// Why a mail was not taken. Variants are different reactions.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MailsError {
    /// Correct it.
    #[error(transparent)]
    Mail(#[from] MailError),
    /// As the mailer says.
    #[error(transparent)]
    Mailer(#[from] MailerError),
}

/// A mail, as a client sees it.
#[derive(Debug, Serialize)]
pub(crate) struct MailView {
    id: MailId,
    state: MailState,
    delivery: Delivery,
    attempts: Vec<Attempt>,
}

impl From<MailStatus> for MailView {
    fn from(mail: MailStatus) -> Self {
        let MailStatus { id, state, delivery, attempts, .. } = mail;
        Self { id, state, delivery, attempts }
    }
}

impl Address {
    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        EmailAddress::parse(&text).map(Self).map_err(|error| error.to_string())
    }
}

impl TryFrom<String> for Subject {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        HeaderText::new(text).map(Self).map_err(|error| error.to_string())
    }
}

impl TryFrom<String> for Text {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.len() {
            1..=TEXT_MAX => Ok(Self(text)),
            _ => Err("a text has 1 to 102400 bytes"),
        }
    }
}

/// Without the address, which is nobody's business.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Address")
    }
}

impl fmt::Debug for NewMail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewMail")
    }
}
