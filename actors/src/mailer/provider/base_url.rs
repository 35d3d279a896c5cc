//! Where an API is.

use std::net::IpAddr;

use reqwest::Url;

use super::error::ProviderError;

/// The address that the paths of an API are put behind: `https://host/prefix`, no slash at its
/// end.
#[derive(Debug, Clone)]
pub(super) struct BaseUrl(String);

impl BaseUrl {
    /// A provider's own address, as its documentation gives it.
    pub(super) fn known(url: &'static str) -> Self {
        Self(url.to_owned())
    }

    /// An address that was configured: `https`, or `http` to this host. Tokens and mail do not
    /// cross a network in the clear.
    pub(super) fn parse(text: &str) -> Result<Self, ProviderError> {
        let url = Url::parse(text).map_err(|_invalid| invalid())?;
        let secure = match url.scheme() {
            "https" => true,
            "http" => url.host_str().is_some_and(is_loopback),
            _ => false,
        };
        let bare = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !secure || !bare {
            return Err(invalid());
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }

    /// Whether it has no path of its own.
    pub(super) fn is_bare(&self) -> bool {
        self.0.splitn(4, '/').nth(3).is_none()
    }

    /// The address with `path` behind it, which begins with a slash.
    pub(super) fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }
}

const fn invalid() -> ProviderError {
    let expected = "an https URL without user, query and fragment; http only to this host";
    ProviderError::InvalidSetting { setting: "base_url", expected }
}

/// Whether this names this host: as a name, or as an address, which may be in brackets.
pub(super) fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}
