//! The certificates that SNS signs with: got once, chained up to a trusted root each time.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{
    CertificateDer, ServerName, SignatureVerificationAlgorithm, TrustAnchor, UnixTime,
};
use tokio::time::timeout;
use webpki::{EndEntityCert, KeyUsage};

use super::urls::CertificateUrl;
use crate::inbox::error::InboxError;
use crate::inbox::verify::Refusal;
use crate::store::Timestamp;

/// LIMIT: certificates that are kept; a region has one or two at a time.
const KEPT_MAX: usize = 32;
/// LIMIT: bytes of a file of certificates, and certificates in it.
const FILE_MAX: usize = 64 * 1024;
const CHAIN_MAX: usize = 8;
/// LIMIT: how long whoever needs a certificate waits for it and for those before it.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// LIMIT: fetches in a minute; nothing of what asks for them is verified yet.
const FETCHES_MAX: u32 = 30;
/// When to try again after a fetch that failed.
const RETRY: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_secs(60);
/// Whom SNS's certificates are made out to.
const NAME: &str = "sns.amazonaws.com";

/// Gets the certificates that SNS signs with: a `GET` over HTTPS with the HTTP client of the
/// service, within a few seconds, without following redirects.
///
/// What it answers is checked: it need not be trusted.
pub trait Certificates: Send + Sync + 'static {
    /// The file at this address, at most 64 KiB.
    fn fetch(&self, url: CertificateUrl) -> BoxFuture<'static, Result<Bytes, FetchFailed>>;
}

/// Why a certificate could not be got.
#[derive(Debug, thiserror::Error)]
#[error("a certificate could not be fetched")]
pub struct FetchFailed(#[source] Box<dyn Error + Send + Sync>);

impl FetchFailed {
    /// With what lies beneath.
    pub fn new(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(source.into())
    }
}

/// The certificates that are known, and whom they must be signed by.
pub(super) struct Chains {
    roots: Vec<TrustAnchor<'static>>,
    source: Arc<dyn Certificates>,
    known: Mutex<Vec<Chain>>,
    /// Held while one is fetched: one at a time.
    fetching: tokio::sync::Mutex<Fetches>,
}

#[derive(Clone)]
struct Chain {
    url: CertificateUrl,
    /// The signing one, then those that lead to a root.
    certificates: Arc<[CertificateDer<'static>]>,
}

/// The fetches of the minute that is under way.
#[derive(Default)]
struct Fetches {
    begun: Timestamp,
    count: u32,
}

impl Chains {
    pub(super) fn new(roots: &[u8], source: Arc<dyn Certificates>) -> Result<Self, InboxError> {
        let (setting, expected) = ("roots", "certificates in PEM");
        let invalid = || InboxError::InvalidSetting { setting, expected };
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(roots).collect();
        let anchor = |one: &CertificateDer<'_>| {
            webpki::anchor_from_trusted_cert(one).map(|anchor| anchor.to_owned())
        };
        let roots = certificates.or(Err(invalid()))?;
        let roots: Vec<_> =
            roots.iter().map(anchor).collect::<Result<_, _>>().or(Err(invalid()))?;
        if roots.is_empty() {
            return Err(invalid());
        }
        let (known, fetching) = (Mutex::default(), tokio::sync::Mutex::default());
        Ok(Self { roots, source, known, fetching })
    }

    /// Gets a certificate unless it is known. One that leads to no root is not kept.
    pub(super) async fn fetch(
        &self,
        url: CertificateUrl,
        now: Timestamp,
    ) -> Result<(), InboxError> {
        if self.known(&url, now).is_some() {
            return Ok(());
        }
        let fetched = timeout(WAIT_MAX, self.fetch_in_turn(url, now)).await;
        fetched.unwrap_or(Err(InboxError::CertificateUnavailable { retry_after: RETRY }))
    }

    async fn fetch_in_turn(&self, url: CertificateUrl, now: Timestamp) -> Result<(), InboxError> {
        let mut fetches = self.fetching.lock().await;
        // Whoever came before may have got it.
        if self.known(&url, now).is_some() {
            return Ok(());
        }
        if !fetches.admit(now) {
            return Err(InboxError::CertificateUnavailable { retry_after: MINUTE });
        }
        let file = self.source.fetch(url.clone()).await.map_err(|error| {
            tracing::warn!(error = %error, "inbox.certificate_not_fetched");
            InboxError::CertificateUnavailable { retry_after: RETRY }
        })?;
        if let Some(chain) =
            Chain::read(url, &file).filter(|chain| self.leads_to_a_root(chain, now))
        {
            let mut known = self.known.lock();
            known.retain(|one| one.url != chain.url);
            if known.len() >= KEPT_MAX {
                known.remove(0);
            }
            known.push(chain);
        }
        Ok(())
    }

    /// Verifies a signature with the certificate of this address, if that is valid now.
    pub(super) fn verify(
        &self,
        url: &CertificateUrl,
        now: Timestamp,
        algorithm: &dyn SignatureVerificationAlgorithm,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), Refusal> {
        let chain = self.known(url, now).ok_or(Refusal::Untrusted)?;
        let signer = chain.signer().ok_or(Refusal::Untrusted)?;
        signer.verify_signature(algorithm, signed, signature).or(Err(Refusal::Mismatch))
    }

    /// The certificate of this address, if there is one and it leads to a root now.
    fn known(&self, url: &CertificateUrl, now: Timestamp) -> Option<Chain> {
        let chain = self.known.lock().iter().find(|one| one.url == *url).cloned()?;
        self.leads_to_a_root(&chain, now).then_some(chain)
    }

    fn leads_to_a_root(&self, chain: &Chain, now: Timestamp) -> bool {
        let Some((signer, between)) = chain.signer().zip(chain.certificates.get(1..)) else {
            return false;
        };
        let seconds = u64::try_from(now.0 / 1_000).unwrap_or(0);
        let valid = signer.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &self.roots,
            between,
            UnixTime::since_unix_epoch(Duration::from_secs(seconds)),
            KeyUsage::server_auth(),
            None,
            None,
        );
        let is_for = |name: &str| {
            let name = ServerName::try_from(name);
            name.is_ok_and(|name| signer.verify_is_valid_for_subject_name(&name).is_ok())
        };
        valid.is_ok() && (is_for(NAME) || is_for(chain.url.host()))
    }
}

impl Chain {
    fn read(url: CertificateUrl, file: &[u8]) -> Option<Self> {
        let file = Some(file).filter(|file| file.len() <= FILE_MAX)?;
        let certificates = CertificateDer::pem_slice_iter(file).take(CHAIN_MAX);
        let certificates: Arc<[_]> = certificates.collect::<Result<Vec<_>, _>>().ok()?.into();
        Some(Self { url, certificates })
    }

    fn signer(&self) -> Option<EndEntityCert<'_>> {
        EndEntityCert::try_from(self.certificates.first()?).ok()
    }
}

impl Fetches {
    fn admit(&mut self, now: Timestamp) -> bool {
        if now.since(self.begun) >= MINUTE || now < self.begun {
            *self = Self { begun: now, count: 0 };
        }
        self.count += 1;
        self.count <= FETCHES_MAX
    }
}

impl fmt::Debug for Chains {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chains").field("roots", &self.roots.len()).finish_non_exhaustive()
    }
}
