//! Any server that takes mail over SMTP: a relay of one's own, or a provider without an API here.

mod message;
mod talk;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;

use super::answer::{Answer, TransportError};
use super::api::check_name;
use super::base_url::is_loopback;
use super::error::{EncodeError, ProviderError};
use super::secret::Secret;
use super::{Capabilities, Idempotency, MailProvider, WireRequest, json};
use crate::mailer::{Mail, MailId};

/// How the connection to an SMTP server is made safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SmtpSecurity {
    /// TLS from the first byte; port 465 (RFC 8314).
    Tls,
    /// TLS before anything is said that matters, or nothing is; port 587.
    StartTls,
    /// None; to this host only. Port 25.
    None,
}

impl SmtpSecurity {
    const fn port(self) -> u16 {
        match self {
            Self::Tls => 465,
            Self::StartTls => 587,
            Self::None => 25,
        }
    }
}

/// A server that takes mail over SMTP. Cheap to clone.
///
/// Each mail has a connection of its own: one that lay idle and was closed by the server would
/// leave it open whether a mail was taken. A mail whose end was sent and not answered may have
/// been taken; before that, it was not. If the server takes some recipients and refuses others
/// for good, the mail goes to those it takes, and the answer says which it does not; if one is
/// refused for now, the mail goes to nobody yet.
///
/// `Date` is when the mail's number was made, `Message-ID` is that number at the sender's domain.
/// Metadata goes into `X-Metadata` and the tag into `X-Tag`, where recipients can see them.
#[derive(Clone)]
pub struct Smtp {
    name: Arc<str>,
    host: Arc<str>,
    port: u16,
    security: SmtpSecurity,
    hello: ClientId,
    credentials: Option<(Secret, Secret)>,
    roots: Vec<Certificate>,
    tls: Option<TlsParameters>,
    connect_timeout: Duration,
    capabilities: Capabilities,
}

impl Smtp {
    /// The default of [`Smtp::connect_timeout`].
    pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

    /// The server at this host. Reads the operating system's certificates from the disk: call it
    /// at start.
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`], when the host is none, or is not this one and nothing
    /// makes the connection safe. [`ProviderError::Client`], when TLS cannot be set up.
    pub fn new(host: &str, security: SmtpSecurity) -> Result<Self, ProviderError> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':');
        if !(1..=253).contains(&host.len()) || !host.bytes().all(known) {
            let expected = "the name or address of a host";
            return Err(ProviderError::InvalidSetting { setting: "smtp.host", expected });
        }
        if security == SmtpSecurity::None && !is_loopback(host) {
            let expected = "TLS or STARTTLS, unless the server is on this host";
            return Err(ProviderError::InvalidSetting { setting: "smtp.security", expected });
        }
        let provider = Self {
            name: "smtp".into(),
            host: host.into(),
            port: security.port(),
            security,
            hello: ClientId::Domain("localhost".to_owned()),
            credentials: None,
            roots: Vec::new(),
            tls: None,
            connect_timeout: Self::CONNECT_TIMEOUT_DEFAULT,
            // LIMIT: common servers take between 10 and 50 MB; they say so themselves, and 100
            // recipients at least (RFC 5321, 4.5.3.1.8).
            capabilities: Capabilities {
                idempotency: Idempotency::None,
                max_bytes: 25_000_000,
                max_recipients: 100,
            },
        };
        provider.with_tls()
    }

    /// Another name, as [`HttpProvider::named`](super::HttpProvider::named). Default `smtp`.
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`].
    pub fn named(mut self, name: &str) -> Result<Self, ProviderError> {
        self.name = check_name(name)?;
        Ok(self)
    }

    /// Another port. Default 465 with TLS, 587 with STARTTLS, 25 with neither.
    #[must_use]
    pub const fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Who this is to the server. Default nobody.
    #[must_use]
    pub fn credentials(mut self, user: impl Into<Secret>, password: impl Into<Secret>) -> Self {
        self.credentials = Some((user.into(), password.into()));
        self
    }

    /// The name of this host in the greeting. Default `localhost`, which servers that take mail
    /// from strangers may refuse.
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`], when it is not 1 to 253 letters, digits, `.` and `-`.
    pub fn hello_name(mut self, name: &str) -> Result<Self, ProviderError> {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
        if !(1..=253).contains(&name.len()) || !name.bytes().all(known) {
            let expected = "1 to 253 letters, digits, `.` and `-`";
            return Err(ProviderError::InvalidSetting { setting: "smtp.hello_name", expected });
        }
        self.hello = ClientId::Domain(name.to_owned());
        Ok(self)
    }

    /// One more certificate that is trusted, in DER, beside the operating system's.
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`], when it is no certificate.
    pub fn trust(mut self, certificate: impl Into<Vec<u8>>) -> Result<Self, ProviderError> {
        let expected = "an X.509 certificate in DER";
        let invalid = ProviderError::InvalidSetting { setting: "smtp.trust", expected };
        let certificate = Certificate::from_der(certificate.into()).map_err(|_refused| invalid)?;
        self.roots.push(certificate);
        self.with_tls().map_err(|_refused| invalid)
    }

    /// How long the connection may take to come, with TLS. Default 5 s, range 100 ms to 60 s.
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`].
    pub fn connect_timeout(mut self, timeout: Duration) -> Result<Self, ProviderError> {
        if !(Duration::from_millis(100)..=Duration::from_secs(60)).contains(&timeout) {
            let expected = "100 ms to 60 s";
            return Err(ProviderError::InvalidSetting { setting: "connect_timeout", expected });
        }
        self.connect_timeout = timeout;
        Ok(self)
    }

    fn with_tls(mut self) -> Result<Self, ProviderError> {
        if self.security != SmtpSecurity::None {
            let builder = TlsParameters::builder(self.host.to_string());
            let builder = self
                .roots
                .iter()
                .cloned()
                .fold(builder, |builder, root| builder.add_root_certificate(root));
            self.tls = Some(builder.build_rustls().map_err(|_refused| ProviderError::Client)?);
        }
        Ok(self)
    }

    fn lettre_credentials(&self) -> Option<Credentials> {
        let (user, password) = self.credentials.as_ref()?;
        Some(Credentials::new(user.expose().to_owned(), password.expose().to_owned()))
    }
}

impl fmt::Debug for Smtp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smtp")
            .field("name", &self.name)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("security", &self.security)
            .finish_non_exhaustive()
    }
}

impl MailProvider for Smtp {
    fn name(&self) -> &str {
        &self.name
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn encode(&self, id: MailId, mail: &Mail) -> Result<WireRequest, EncodeError> {
        json::check_recipients(mail, &self.capabilities)?;
        let recipients: Vec<_> = mail.recipients().map(|to| to.as_str()).collect();
        let request = WireRequest {
            url: format!("smtp://{}:{}", self.host, self.port),
            headers: vec![
                ("content-type".to_owned(), "message/rfc822".to_owned()),
                (talk::FROM.to_owned(), mail.from().address.as_str().to_owned()),
                // No address here has a comma: they are dot-atoms.
                (talk::TO.to_owned(), recipients.join(",")),
            ],
            body: message::message(id, mail)?,
            idempotency_key: None,
        };
        json::within(request, &self.capabilities)
    }

    fn send<'a>(
        &'a self,
        request: &'a WireRequest,
        timeout: Duration,
    ) -> BoxFuture<'a, Result<Answer, TransportError>> {
        talk::send(self, request, timeout).boxed()
    }
}
