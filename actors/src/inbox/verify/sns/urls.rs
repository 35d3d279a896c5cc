//! The addresses that a message of SNS may name, and no others.

use std::fmt;

/// LIMIT: bytes of an address.
const URL_MAX: usize = 2_048;

/// Where a signing certificate is: `https`, the host `sns.<region>.amazonaws.com` of the topic's
/// region, and a file in its outermost folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CertificateUrl {
    url: Box<str>,
    host: Box<str>,
}

impl CertificateUrl {
    pub(super) fn read(url: &str, region: &str) -> Option<Self> {
        let host = host_of(region);
        let file = path_on(url, &host)?.strip_suffix(".pem")?;
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let is_file = !file.is_empty() && file.bytes().all(is_plain);
        is_file.then(|| Self { url: url.into(), host: host.into() })
    }

    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.url
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }
}

/// What confirms a subscription to a topic that is allowed: whoever gets its
/// [`url`](Self::url) has confirmed it.
///
/// The address is `https` on the host `sns.<region>.amazonaws.com` of the topic's region, the
/// message was signed by SNS, and nothing was fetched.
#[derive(Clone, PartialEq, Eq)]
pub struct Confirmation {
    url: Box<str>,
    topic: Box<str>,
}

impl Confirmation {
    pub(super) fn read(url: &str, region: &str, topic: &str) -> Option<Self> {
        let query = path_on(url, &host_of(region))?.strip_prefix('?')?;
        let mut pairs = query.split('&').filter(|pair| pair.starts_with("Action="));
        let is_action = pairs.next() == Some("Action=ConfirmSubscription");
        let is_plain = query.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
        (is_action && pairs.next().is_none() && is_plain)
            .then(|| Self { url: url.into(), topic: topic.into() })
    }

    /// What to get. It has a token in it: not for logs.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The topic, by its ARN.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }
}

impl fmt::Debug for Confirmation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirmation").field("topic", &self.topic).finish_non_exhaustive()
    }
}

/// The region of a topic's ARN: `arn:aws:sns:<region>:<account>:<name>`.
pub(super) fn region_of(arn: &str) -> Option<&str> {
    let mut parts = arn.split(':');
    let partition = (parts.next() == Some("arn")).then(|| parts.next()).flatten()?;
    let region = (parts.next() == Some("sns")).then(|| parts.next()).flatten()?;
    let rest = [parts.next()?, parts.next()?];
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let is_region = (1..=32).contains(&region.len()) && region.bytes().all(is_plain);
    // China has other hosts, and no test of ours has seen one.
    let is_known = matches!(partition, "aws" | "aws-us-gov");
    let is_whole = rest.iter().all(|part| !part.is_empty()) && parts.next().is_none();
    (is_region && is_known && is_whole).then_some(region)
}

fn host_of(region: &str) -> String {
    format!("sns.{region}.amazonaws.com")
}

/// What comes after the first slash, if the address is on this very host: no user, no port.
fn path_on<'a>(url: &'a str, host: &str) -> Option<&'a str> {
    let url = Some(url).filter(|url| url.len() <= URL_MAX)?;
    url.strip_prefix("https://")?.strip_prefix(host)?.strip_prefix('/')
}
