//! One connection to the server, with TLS where it is wanted.

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::Handle;
use tokio::task::{AbortHandle, JoinSet};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{CancelToken, Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::config::Settings;
use super::error::{connecting, unreachable};
use crate::store::StoreError;

/// The half of a connection that must be polled for the other to work.
pub(super) type Wire = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// Makes connections whose tasks live on the store's own runtime. Cheap to clone.
#[derive(Clone)]
pub(super) struct Connector {
    config: Arc<Config>,
    tls: MakeRustlsConnect,
    timeout: Duration,
    runtime: Handle,
}

impl Connector {
    /// Reads the root certificates, if TLS may be used at all.
    pub(super) async fn new(settings: &Settings, runtime: &Handle) -> Result<Self, StoreError> {
        let wanted = settings.config.get_ssl_mode() != SslMode::Disable;
        let roots = match (&settings.roots, wanted) {
            (_, false) => Vec::new(),
            (Some(own), true) => own.clone(),
            (None, true) => system_roots(runtime).await?,
        };
        Ok(Self {
            config: Arc::new(settings.config.clone()),
            tls: tls(roots)?,
            timeout: settings.connect_timeout,
            runtime: runtime.clone(),
        })
    }

    /// Opens a connection that the caller polls. Only on the store's runtime.
    pub(super) async fn open(&self) -> Result<(Client, Wire), StoreError> {
        let connecting_to = self.config.connect(self.tls.clone());
        match tokio::time::timeout(self.timeout, connecting_to).await {
            Ok(opened) => opened.map_err(connecting),
            Err(_) => Err(unreachable("no connection within the connect timeout")),
        }
    }

    /// Opens a connection that is polled on the store's runtime. From any runtime.
    pub(super) async fn open_driven(&self) -> Result<Driven, StoreError> {
        let connector = self.clone();
        let mut opening = JoinSet::new();
        // CANCEL: the set takes the attempt with it when this future is dropped.
        opening.spawn_on(async move { connector.drive().await }, &self.runtime);
        match opening.join_next().await {
            Some(Ok(driven)) => driven,
            Some(Err(_)) | None => Err(unreachable("the store's runtime has ended")),
        }
    }

    /// Asks the server to stop what it does for a connection, without waiting for an answer.
    pub(super) fn cancel(&self, token: CancelToken, permit: tokio::sync::OwnedSemaphorePermit) {
        let (tls, timeout) = (self.tls.clone(), self.timeout);
        self.runtime.spawn(async move {
            let sent = tokio::time::timeout(timeout, token.cancel_query(tls)).await;
            if !matches!(sent, Ok(Ok(()))) {
                tracing::debug!("store.cancel_failed");
            }
            drop(permit);
        });
    }

    async fn drive(&self) -> Result<Driven, StoreError> {
        let (client, wire) = self.open().await?;
        let task = tokio::spawn(async move {
            if let Err(error) = wire.await {
                let code = crate::kernel::Fault::code(&StoreError::from(error));
                tracing::debug!(error_code = code.as_str(), "store.connection_lost");
            }
        });
        Ok(Driven { close: task.abort_handle(), client: ClientWrapper::new(client, task) })
    }
}

/// A connection that is polled on the store's runtime until it is dropped.
pub(super) struct Driven {
    pub(super) client: ClientWrapper,
    /// Closes the connection at once.
    pub(super) close: AbortHandle,
}

/// With a provider named here, because the process's default may be another or none.
fn tls(roots: Vec<CertificateDer<'static>>) -> Result<MakeRustlsConnect, StoreError> {
    let mut trusted = RootCertStore::empty();
    trusted.add_parsable_certificates(roots);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreError::Failed(StoreError::source(error)))?;
    Ok(MakeRustlsConnect::new(versions.with_root_certificates(trusted).with_no_client_auth()))
}

/// What the operating system trusts; reading it touches the disk. None is no error here: then
/// no server is trusted, and whoever connects with TLS is told so.
async fn system_roots(runtime: &Handle) -> Result<Vec<CertificateDer<'static>>, StoreError> {
    let reading = runtime.spawn_blocking(|| rustls_native_certs::load_native_certs().certs);
    reading.await.map_err(|error| StoreError::Failed(StoreError::source(error)))
}
