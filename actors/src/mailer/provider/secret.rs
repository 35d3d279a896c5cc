//! Tokens and passwords.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

use super::error::ProviderError;

/// A token or password. Never shown; wiped from memory when it is dropped.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// What it is, for the one place that sends it.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }

    /// The same, if it can stand in an HTTP header: 1 to 4096 visible ASCII characters. The error
    /// is here, where the setting is, rather than with every mail.
    pub(super) fn checked(self, setting: &'static str) -> Result<Self, ProviderError> {
        let fits = (1..=4096).contains(&self.expose().len());
        if fits && self.expose().bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(self);
        }
        Err(ProviderError::InvalidSetting { setting, expected: "1 to 4096 visible characters" })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}
