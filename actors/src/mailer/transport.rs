//! Carries one request over HTTP, once, and says whether anything was sent.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Response};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

use super::provider::{
    AmbiguousCause, HttpResponse, NotSentCause, ProviderError, Secret, TransportError, WireRequest,
};

/// The wire to HTTP APIs. Cheap to clone: clones share connections.
///
/// One call is one request: nothing is sent again behind the caller's back, no redirect is
/// followed, and no proxy of the environment is used. HTTP/1.1, TLS 1.2 or 1.3 with the operating
/// system's roots.
#[derive(Clone)]
pub struct HttpTransport {
    client: Client,
}

impl HttpTransport {
    /// LIMIT: of an answer's body, so many bytes are read; what comes after says nothing more.
    pub const ANSWER_LIMIT: usize = 64 * 1024;
    /// LIMIT: headers of an answer that are kept.
    pub const HEADERS_LIMIT: usize = 100;

    /// A transport with the defaults of [`HttpTransportBuilder`].
    ///
    /// # Errors
    ///
    /// As [`HttpTransportBuilder::build`].
    pub fn new() -> Result<Self, ProviderError> {
        Self::builder().build()
    }

    /// Begins a transport with settings of one's own.
    #[must_use]
    pub fn builder() -> HttpTransportBuilder {
        HttpTransportBuilder {
            connect_timeout: HttpTransportBuilder::CONNECT_TIMEOUT_DEFAULT,
            pool_idle_timeout: HttpTransportBuilder::POOL_IDLE_TIMEOUT_DEFAULT,
            roots: Vec::new(),
        }
    }

    /// Posts a request with these headers besides its own, and reads the answer. `timeout` is for
    /// all of it; with one below the connect timeout, a connection that is slow to come is not
    /// told from an answer that is.
    ///
    /// # Errors
    ///
    /// [`TransportError`] says whether anything was sent.
    ///
    /// # Cancel safety
    ///
    /// Whoever drops the future does not know whether the request was sent.
    pub async fn post(
        &self,
        request: &WireRequest,
        secrets: &[(String, Secret)],
        timeout: Duration,
    ) -> Result<HttpResponse, TransportError> {
        let headers =
            headers(request, secrets).ok_or(TransportError::NotSent(NotSentCause::Request))?;
        let post = self
            .client
            .post(&request.url)
            .headers(headers)
            .timeout(timeout)
            .body(request.body.clone());
        let response = post.send().await.map_err(|error| classify(&error))?;
        read(response).await.map_err(|error| classify(&error))
    }
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport").finish_non_exhaustive()
    }
}

/// [`None`], when HTTP does not allow one of them.
fn headers(request: &WireRequest, secrets: &[(String, Secret)]) -> Option<HeaderMap> {
    let mut headers = HeaderMap::with_capacity(request.headers.len() + secrets.len());
    for (name, value) in &request.headers {
        headers.insert(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?);
    }
    for (name, secret) in secrets {
        let mut value = HeaderValue::try_from(secret.expose()).ok()?;
        value.set_sensitive(true);
        headers.insert(HeaderName::try_from(name).ok()?, value);
    }
    Some(headers)
}

async fn read(mut response: Response) -> Result<HttpResponse, reqwest::Error> {
    let status = response.status().as_u16();
    let texts = response.headers().iter().take(HttpTransport::HEADERS_LIMIT);
    let headers = texts
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect();
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        let room = HttpTransport::ANSWER_LIMIT - body.len();
        body.extend(chunk.iter().take(room));
        if chunk.len() >= room {
            break;
        }
    }
    Ok(HttpResponse { status, headers, body })
}

/// INVARIANT: nothing counts as not sent but what failed before there was a connection to send
/// on. In particular, a connection that ended before the answer began does not (hyper, issue
/// 2136): the server may have acted.
fn classify(error: &reqwest::Error) -> TransportError {
    if error.is_builder() {
        return TransportError::NotSent(NotSentCause::Request);
    }
    if error.is_connect() {
        return TransportError::NotSent(not_sent(error));
    }
    let cause = if error.is_timeout() {
        AmbiguousCause::Timeout
    } else if is_reset(error) {
        AmbiguousCause::Reset
    } else if causes(error).any(is_unparsable) {
        AmbiguousCause::BadAnswer
    } else {
        AmbiguousCause::Incomplete
    };
    TransportError::Ambiguous(cause)
}

fn not_sent(error: &reqwest::Error) -> NotSentCause {
    if error.is_timeout() {
        NotSentCause::ConnectTimeout
    } else if error.is_dns() {
        NotSentCause::Dns
    } else if causes(error).any(<dyn Error>::is::<rustls::Error>) {
        NotSentCause::Tls
    } else {
        NotSentCause::Connect
    }
}

fn is_reset(error: &reqwest::Error) -> bool {
    let reset = |cause: &(dyn Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| {
            matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset
                    | io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::BrokenPipe
            )
        })
    };
    causes(error).any(reset)
}

/// Whether what came is no HTTP.
fn is_unparsable(cause: &(dyn Error + 'static)) -> bool {
    cause.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse)
}

/// An error and all that lies beneath it, also what an I/O error wraps.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    // As a function: a closure's references have lifetimes that are not tied.
    fn beneath<'a>(error: &&'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
        let error = *error;
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        }
    }
    std::iter::successors(Some(error), beneath)
}

/// Settings of an [`HttpTransport`].
#[derive(Debug, Clone)]
pub struct HttpTransportBuilder {
    connect_timeout: Duration,
    pool_idle_timeout: Duration,
    roots: Vec<CertificateDer<'static>>,
}

impl HttpTransportBuilder {
    /// The default of [`HttpTransportBuilder::connect_timeout`].
    pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);
    /// The default and the most of [`HttpTransportBuilder::pool_idle_timeout`].
    pub const POOL_IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

    /// How long a connection may take to come, with name and TLS. Default 5 s, range 100 ms to
    /// 60 s. Nothing was sent when it is over, so that another provider can be asked: too high
    /// keeps mail waiting, too low gives up on networks that are far away.
    #[must_use]
    pub const fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long a connection is kept that nothing is sent on. Default 30 s, range 0 to 30 s. One
    /// that the server closed in the same moment leaves it open whether a mail was accepted: more
    /// of those with a longer time, more handshakes with a shorter one.
    #[must_use]
    pub const fn pool_idle_timeout(mut self, timeout: Duration) -> Self {
        self.pool_idle_timeout = timeout;
        self
    }

    /// One more certificate that is trusted, in DER, beside the operating system's.
    #[must_use]
    pub fn trust(mut self, certificate: impl Into<Vec<u8>>) -> Self {
        self.roots.push(CertificateDer::from(certificate.into()));
        self
    }

    /// The transport. Reads the operating system's certificates from the disk: call it at start.
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`] for a setting that is out of its range or a certificate
    /// that is none; [`ProviderError::Client`] when the client cannot be made.
    pub fn build(self) -> Result<HttpTransport, ProviderError> {
        crate::tls::install_default_provider();
        let invalid = |setting, expected| ProviderError::InvalidSetting { setting, expected };
        if !(Duration::from_millis(100)..=Duration::from_secs(60)).contains(&self.connect_timeout) {
            return Err(invalid("connect_timeout", "100 ms to 60 s"));
        }
        if self.pool_idle_timeout > Self::POOL_IDLE_TIMEOUT_DEFAULT {
            return Err(invalid("pool_idle_timeout", "0 to 30 s"));
        }
        let client = Client::builder()
            .user_agent(concat!("steadfast/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(tls(self.roots)?)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .connect_timeout(self.connect_timeout)
            .pool_idle_timeout(self.pool_idle_timeout)
            .build()
            .map_err(|_failed| ProviderError::Client)?;
        Ok(HttpTransport { client })
    }
}

/// With a provider named here, because the process's default may be another or none.
fn tls(own: Vec<CertificateDer<'static>>) -> Result<ClientConfig, ProviderError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    for certificate in own {
        let expected = "an X.509 certificate in DER";
        let invalid = ProviderError::InvalidSetting { setting: "trust", expected };
        roots.add(certificate).map_err(|_refused| invalid)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_defect| ProviderError::Client)?;
    Ok(versions.with_root_certificates(roots).with_no_client_auth())
}
