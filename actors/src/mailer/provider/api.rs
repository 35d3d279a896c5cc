//! An HTTP API as pure code, and the provider that it makes with a transport.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};

use super::answer::{AmbiguousCause, Answer, Outcome, TransportError};
use super::error::{EncodeError, ProviderError};
use super::secret::Secret;
use super::{Capabilities, MailProvider, WireRequest};
use crate::kernel::panic::catch_payload;
use crate::mailer::{HttpTransport, Mail, MailId};
use crate::store::{Timestamp, WallClock};

/// One HTTP API, without the wire: no I/O, no clock, no chance.
pub trait HttpApi: fmt::Debug + Send + Sync + 'static {
    /// What kind it is: `postmark`.
    fn name(&self) -> &str;

    /// What it can do.
    fn capabilities(&self) -> &Capabilities;

    /// Writes the request, as [`MailProvider::encode`] says.
    ///
    /// # Errors
    ///
    /// [`EncodeError`], when this API cannot send this mail.
    fn encode(&self, id: MailId, mail: &Mail) -> Result<WireRequest, EncodeError>;

    /// Where requests go now. A frozen request goes there too: its own address is where requests
    /// went when it was written, and a service may have moved since.
    fn url(&self) -> String;

    /// The headers that only an attempt has: tokens and signatures. Never stored.
    fn authorize(&self, request: &WireRequest, now: Timestamp) -> Vec<(String, Secret)>;

    /// What an answer means.
    fn decode(&self, response: &HttpResponse, now: Timestamp) -> Answer;
}

/// An answer over HTTP.
#[derive(Clone)]
pub struct HttpResponse {
    /// The status.
    pub status: u16,
    /// Names in lower case; values that are no text are left out.
    pub headers: Vec<(String, String)>,
    /// At most [`HttpTransport::ANSWER_LIMIT`] bytes; what comes after is not read.
    pub body: Vec<u8>,
}

impl HttpResponse {
    /// The value of the first header of this name, which is in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Whether the status says success.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }
}

/// Shows the status and sizes only: a body may name an address.
impl fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpResponse")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// A provider that is asked over HTTP. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HttpProvider {
    name: Arc<str>,
    api: Arc<dyn HttpApi>,
    transport: HttpTransport,
    clock: WallClock,
}

impl HttpProvider {
    /// LIMIT: a name in characters.
    pub const NAME_LIMIT: usize = 32;

    /// A provider with the name of its API. Transports can be shared among providers.
    #[must_use]
    pub fn new(api: impl HttpApi, transport: HttpTransport) -> Self {
        let api: Arc<dyn HttpApi> = Arc::new(api);
        Self { name: api.name().into(), api, transport, clock: WallClock::system() }
    }

    /// Another name: two accounts of one provider need two. 1 to [`HttpProvider::NAME_LIMIT`]
    /// lower-case letters, digits, `-` and `_`. It is stored with every mail: do not change it
    /// while mail is under way.
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`].
    pub fn named(mut self, name: &str) -> Result<Self, ProviderError> {
        self.name = check_name(name)?;
        Ok(self)
    }

    /// Reads the time for signatures and dates from this clock; the default is
    /// [`WallClock::system`].
    #[must_use]
    pub fn clock(mut self, clock: WallClock) -> Self {
        self.clock = clock;
        self
    }

    async fn ask(
        &self,
        request: &WireRequest,
        timeout: Duration,
    ) -> Result<Answer, TransportError> {
        let request = WireRequest { url: self.api.url(), ..request.clone() };
        let secrets = self.api.authorize(&request, self.clock.now());
        let response = self.transport.post(&request, &secrets, timeout).await?;
        let now = self.clock.now();
        // An API that was not written here may panic; the mail may have been accepted all the same.
        let decoded = catch_payload(|| self.api.decode(&response, now));
        Ok(decoded.unwrap_or(Answer {
            outcome: Outcome::Ambiguous(AmbiguousCause::BadAnswer),
            http_status: Some(response.status),
            code: None,
            rate: None,
        }))
    }
}

/// A provider's name, if it is one.
pub(in crate::mailer) fn check_name(name: &str) -> Result<Arc<str>, ProviderError> {
    let known = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    let fits = (1..=HttpProvider::NAME_LIMIT).contains(&name.len());
    if fits && name.bytes().all(known) {
        return Ok(name.into());
    }
    let expected = "1 to 32 lower-case letters, digits, `-` and `_`";
    Err(ProviderError::InvalidSetting { setting: "name", expected })
}

impl MailProvider for HttpProvider {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        self.api.capabilities()
    }

    fn encode(&self, id: MailId, mail: &Mail) -> Result<WireRequest, EncodeError> {
        self.api.encode(id, mail)
    }

    fn send<'a>(
        &'a self,
        request: &'a WireRequest,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Answer, TransportError>> {
        self.ask(request, timeout).boxed()
    }
}
