//! What SES requests are signed with.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::mailer::provider::{ProviderError, Secret};

/// An access key of AWS. It needs the permission `ses:SendEmail`.
#[derive(Clone)]
pub struct SesCredentials {
    pub(super) access_key_id: Secret,
    pub(super) secret_access_key: Secret,
    pub(super) session_token: Option<Secret>,
}

impl SesCredentials {
    /// A key that lasts.
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`], when one of them cannot stand in a header.
    pub fn new(
        access_key_id: impl Into<Secret>,
        secret_access_key: impl Into<Secret>,
    ) -> Result<Self, ProviderError> {
        Ok(Self {
            access_key_id: access_key_id.into().checked("ses.access_key_id")?,
            secret_access_key: secret_access_key.into().checked("ses.secret_access_key")?,
            session_token: None,
        })
    }

    /// A key that lasts as long as this token does.
    ///
    /// # Errors
    ///
    /// [`ProviderError::InvalidSetting`], when the token cannot stand in a header.
    pub fn session_token(mut self, token: impl Into<Secret>) -> Result<Self, ProviderError> {
        self.session_token = Some(token.into().checked("ses.session_token")?);
        Ok(self)
    }
}

impl fmt::Debug for SesCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SesCredentials").finish_non_exhaustive()
    }
}

/// The credentials in use, which can be replaced while mail is sent. Clones share them.
#[derive(Debug, Clone)]
pub struct SesKeys(Arc<ArcSwap<SesCredentials>>);

impl SesKeys {
    /// Begins with these.
    #[must_use]
    pub fn new(credentials: SesCredentials) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(credentials)))
    }

    /// Signs with these from now on.
    pub fn replace(&self, credentials: SesCredentials) {
        self.0.store(Arc::new(credentials));
    }

    pub(super) fn current(&self) -> Arc<SesCredentials> {
        self.0.load_full()
    }
}

impl From<SesCredentials> for SesKeys {
    fn from(credentials: SesCredentials) -> Self {
        Self::new(credentials)
    }
}
