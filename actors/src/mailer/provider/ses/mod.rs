//! Amazon SES, API version 2.

mod decode;
mod encode;
mod keys;
mod sigv4;

use super::base_url::BaseUrl;
use super::error::{EncodeError, ProviderError};
use super::secret::Secret;
use super::{Answer, Capabilities, HttpApi, HttpResponse, Idempotency, WireRequest, json};
use crate::mailer::{Mail, MailId};
use crate::store::Timestamp;

pub use keys::{SesCredentials, SesKeys};

const KIND: &str = "ses";

/// The service's name in signatures, which is not that of its host.
const SIGNING_NAME: &str = "ses";

const PATH: &str = "/v2/email/outbound-emails";

/// Amazon SES for one region, `POST /v2/email/outbound-emails`, signed with Signature Version 4.
///
/// It has no idempotency keys. Metadata goes into the header `X-Metadata`, where recipients can
/// see it: tags cannot hold it.
#[derive(Debug, Clone)]
pub struct Ses {
    keys: SesKeys,
    region: String,
    base: BaseUrl,
    configuration_set: Option<String>,
    capabilities: Capabilities,
}

impl Ses {
    /// The API in this region: `eu-central-1`. [`SesKeys`] can be replaced while it is used.
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`], when the region is none.
    pub fn new(region: &str, keys: impl Into<SesKeys>) -> Result<Self, ProviderError> {
        let known = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
        if !(1..=32).contains(&region.len()) || !region.bytes().all(known) {
            let expected = "a region, such as eu-central-1";
            return Err(ProviderError::InvalidSetting { setting: "ses.region", expected });
        }
        Ok(Self {
            keys: keys.into(),
            region: region.to_owned(),
            base: BaseUrl::parse(&format!("https://email.{region}.amazonaws.com"))?,
            configuration_set: None,
            // LIMIT: 10 MB unless the quota was raised, 50 recipients.
            capabilities: Capabilities {
                idempotency: Idempotency::None,
                max_bytes: 10_000_000,
                max_recipients: 50,
            },
        })
    }

    /// Another address of the API. Default `https://email.<region>.amazonaws.com`.
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`]: it must be `https`, or `http` to this host, and have no
    /// path, which would be signed otherwise than it is sent.
    pub fn base_url(mut self, url: &str) -> Result<Self, ProviderError> {
        let base = BaseUrl::parse(url)?;
        if !base.is_bare() {
            let expected = "a URL without a path";
            return Err(ProviderError::InvalidSetting { setting: "base_url", expected });
        }
        self.base = base;
        Ok(self)
    }

    /// The configuration set, which says where events go: 1 to 64 letters, digits, `-` and `_`.
    /// Default none.
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`].
    pub fn configuration_set(mut self, name: &str) -> Result<Self, ProviderError> {
        if json::code(KIND, name).is_none() {
            let expected = "1 to 64 letters, digits, `-` and `_`";
            return Err(ProviderError::InvalidSetting { setting: "configuration_set", expected });
        }
        self.configuration_set = Some(name.to_owned());
        Ok(self)
    }

    /// The largest request in bytes. Default 10 MB; AWS raises the quota to 40 MB on request.
    /// Range 1 kB to 40 MB.
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`].
    pub fn max_bytes(mut self, bytes: usize) -> Result<Self, ProviderError> {
        if !(1_000..=40_000_000).contains(&bytes) {
            let expected = "1 kB to 40 MB";
            return Err(ProviderError::InvalidSetting { setting: "max_bytes", expected });
        }
        self.capabilities.max_bytes = bytes;
        Ok(self)
    }
}

impl HttpApi for Ses {
    fn name(&self) -> &str {
        KIND
    }

    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    fn url(&self) -> String {
        self.base.join(PATH)
    }

    fn encode(&self, id: MailId, mail: &Mail) -> Result<WireRequest, EncodeError> {
        json::check_recipients(mail, &self.capabilities)?;
        let body = encode::body(id, mail, self.configuration_set.as_deref())?;
        json::request(self.url(), &body, &self.capabilities)
    }

    fn authorize(&self, request: &WireRequest, now: Timestamp) -> Vec<(String, Secret)> {
        let keys = self.keys.current();
        let time = jiff::Timestamp::from_millisecond(now.0).unwrap_or_default();
        let time = time.strftime("%Y%m%dT%H%M%SZ").to_string();
        let host = host(&request.url);
        let content_type = request.header("content-type").unwrap_or_default();
        let mut headers = vec![
            ("content-type", content_type),
            ("host", host.as_str()),
            ("x-amz-date", time.as_str()),
        ];
        let token = keys.session_token.as_ref().map(Secret::expose);
        headers.extend(token.map(|token| ("x-amz-security-token", token)));
        let signed =
            sigv4::Request { method: "POST", path: PATH, headers: &headers, body: &request.body };
        let scope = sigv4::Scope { time: &time, region: &self.region, service: SIGNING_NAME };
        let secret = keys.secret_access_key.expose();
        let authorization =
            sigv4::authorization(&signed, &scope, keys.access_key_id.expose(), secret);
        let mut answer = vec![
            ("authorization".to_owned(), Secret::from(authorization)),
            ("x-amz-date".to_owned(), Secret::from(time.clone())),
        ];
        answer.extend(token.map(|token| ("x-amz-security-token".to_owned(), Secret::from(token))));
        answer
    }

    fn decode(&self, response: &HttpResponse, now: Timestamp) -> Answer {
        decode::answer(response, now)
    }
}

/// The host of a URL as the header `host` has it: with a port that is not the scheme's own.
fn host(url: &str) -> String {
    let Ok(url) = reqwest::Url::parse(url) else { return String::new() };
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}
