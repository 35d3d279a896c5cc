//! A mailbox in memory, for tests and for development.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::answer::{Answer, Outcome, TransportError};
use super::api::check_name;
use super::error::{EncodeError, ProviderError};
use super::{Capabilities, Idempotency, MailProvider, WireRequest, json};
use crate::mailer::{EmailAddress, Mail, MailId};
use crate::store::{Timestamp, WallClock};

/// A provider that keeps mail instead of sending it. Cheap to clone: clones share the mail.
///
/// A mail that is sent twice is there twice, so that a test sees it.
///
/// ```
/// use std::time::Duration;
/// use steadfast_actors::mailer::provider::{DevMailbox, MailProvider};
/// use steadfast_actors::mailer::{EmailAddress, HeaderText, Mail, MailId};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mailbox = DevMailbox::new();
/// let shop = EmailAddress::parse("shop@example.com")?;
/// let jane = EmailAddress::parse("jane@example.com")?;
/// let subject = HeaderText::new("Your order")?;
/// let mail = Mail::builder(shop.into(), [jane.into()]).subject(subject).text("Thanks!").build()?;
///
/// let request = mailbox.encode(MailId::fresh(), &mail)?;
/// mailbox.send(&request, Duration::from_secs(1)).await?;
/// mailbox.assert_sent_to("jane@example.com");
/// mailbox.assert_count(1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct DevMailbox {
    name: Arc<str>,
    shared: Arc<Shared>,
    clock: WallClock,
}

struct Shared {
    capabilities: Capabilities,
    limit: usize,
    kept: Mutex<Kept>,
    received: watch::Sender<usize>,
}

#[derive(Default)]
struct Kept {
    mails: VecDeque<DevMail>,
    answers: VecDeque<Result<Outcome, TransportError>>,
}

/// A mail that a [`DevMailbox`] keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevMail {
    /// Its number.
    pub id: MailId,
    /// What was sent.
    pub mail: Mail,
    /// When.
    pub at: Timestamp,
}

impl DevMailbox {
    /// LIMIT: mails that are kept unless another number is given; then the oldest go.
    pub const KEPT_DEFAULT: usize = 1_000;
    /// LIMIT: answers that wait to be given.
    pub const ANSWERS_LIMIT: usize = 1_000;

    /// An empty one that keeps [`DevMailbox::KEPT_DEFAULT`] mails.
    #[must_use]
    pub fn new() -> Self {
        Self::keeping(Self::KEPT_DEFAULT)
    }

    /// An empty one that keeps the last `limit` mails.
    #[must_use]
    pub fn keeping(limit: usize) -> Self {
        let capabilities = Capabilities {
            idempotency: Idempotency::None,
            max_bytes: 64 * 1024 * 1024,
            max_recipients: Mail::RECIPIENT_LIMIT,
        };
        let shared =
            Shared { capabilities, limit, kept: Mutex::default(), received: watch::Sender::new(0) };
        Self { name: "dev".into(), shared: Arc::new(shared), clock: WallClock::system() }
    }

    /// The same mailbox under another name; the default is `dev`. As
    /// [`HttpProvider::named`](super::HttpProvider::named).
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`].
    pub fn named(mut self, name: &str) -> Result<Self, ProviderError> {
        self.name = check_name(name)?;
        Ok(self)
    }

    /// Stamps mails with this clock's time; the default is [`WallClock::system`].
    #[must_use]
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }

    /// What is kept, oldest first.
    #[must_use]
    pub fn mails(&self) -> Vec<DevMail> {
        self.shared.kept.lock().mails.iter().cloned().collect()
    }

    /// What is kept for this recipient, oldest first. Case makes no difference.
    #[must_use]
    pub fn mails_to(&self, address: &EmailAddress) -> Vec<DevMail> {
        let reaches = |kept: &DevMail| kept.mail.recipients().any(|to| to.is_same_mailbox(address));
        self.mails().into_iter().filter(reaches).collect()
    }

    /// Throws away what is kept. What was received before still counts for
    /// [`DevMailbox::received`].
    pub fn clear(&self) {
        self.shared.kept.lock().mails.clear();
    }

    /// Answers the next request that no earlier call answers with this, and keeps its mail only
    /// if it is accepted. Ignored when [`DevMailbox::ANSWERS_LIMIT`] answers wait.
    pub fn answer_next(&self, answer: Result<Outcome, TransportError>) {
        let mut kept = self.shared.kept.lock();
        if kept.answers.len() < Self::ANSWERS_LIMIT {
            kept.answers.push_back(answer);
        }
    }

    /// Waits until so many mails were received since the beginning.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn received(&self, count: usize) {
        let mut received = self.shared.received.subscribe();
        // The sender lives as long as `self`, so this cannot fail.
        let _lives = received.wait_for(|so_far| *so_far >= count).await;
    }

    /// The last mail to this address.
    ///
    /// # Panics
    ///
    /// If there is none, or `address` is no address: for tests.
    #[track_caller]
    #[expect(clippy::panic, reason = "it is an assertion")]
    pub fn assert_sent_to(&self, address: &str) -> DevMail {
        let Ok(address) = EmailAddress::parse(address) else { panic!("that is no address") };
        match self.mails_to(&address).pop() {
            Some(mail) => mail,
            None => panic!("no mail to {address:?} is among the {} kept", self.mails().len()),
        }
    }

    /// # Panics
    ///
    /// If there is a mail to this address, or it is no address: for tests.
    #[track_caller]
    #[expect(clippy::panic, reason = "it is an assertion")]
    pub fn assert_not_sent_to(&self, address: &str) {
        let Ok(address) = EmailAddress::parse(address) else { panic!("that is no address") };
        let count = self.mails_to(&address).len();
        assert!(count == 0, "{count} mails to {address:?} are kept");
    }

    /// # Panics
    ///
    /// If not exactly so many mails are kept: for tests.
    #[track_caller]
    pub fn assert_count(&self, count: usize) {
        let kept = self.mails().len();
        assert!(kept == count, "{kept} mails are kept, not {count}");
    }

    fn receive(&self, request: &WireRequest) -> Result<Answer, TransportError> {
        let mut kept = self.shared.kept.lock();
        let outcome = kept
            .answers
            .pop_front()
            .unwrap_or(Ok(Outcome::Accepted { provider_id: None, recipients: Vec::new() }))?;
        let outcome = match (outcome, serde_json::from_slice::<Wire>(&request.body)) {
            (Outcome::Accepted { recipients, .. }, Ok(wire)) => {
                let provider_id = Some(format!("dev-{}", wire.id).into());
                kept.mails.push_back(DevMail {
                    id: wire.id,
                    mail: wire.mail,
                    at: self.clock.now(),
                });
                while kept.mails.len() > self.shared.limit {
                    kept.mails.pop_front();
                }
                self.shared.received.send_modify(|count| *count += 1);
                Outcome::Accepted { provider_id, recipients }
            }
            (Outcome::Accepted { .. }, Err(_foreign)) => Outcome::RequestRejected,
            (outcome, _) => outcome,
        };
        Ok(Answer { outcome, http_status: None, code: None, rate: None })
    }
}

impl Default for DevMailbox {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows how much there is only.
impl fmt::Debug for DevMailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevMailbox")
            .field("name", &self.name)
            .field("kept", &self.shared.kept.lock().mails.len())
            .finish_non_exhaustive()
    }
}

/// What a request to it is.
#[derive(Serialize, Deserialize)]
struct Wire {
    id: MailId,
    mail: Mail,
}

impl MailProvider for DevMailbox {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.shared.capabilities
    }

    fn encode(&self, id: MailId, mail: &Mail) -> Result<WireRequest, EncodeError> {
        let wire = Wire { id, mail: mail.clone() };
        json::request("dev:mailbox".to_owned(), &wire, &self.shared.capabilities)
    }

    fn send<'a>(
        &'a self,
        request: &'a WireRequest,
        _timeout: Duration,
    ) -> BoxFuture<'a, Result<Answer, TransportError>> {
        async { self.receive(request) }.boxed()
    }
}
